//! One row of the table, and what a value must look like.

use std::fmt;

use super::topic::ReplicaList;

/// Type of a value; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Bool = 1,
    /// Any text.
    Text = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A fraction.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// A Java class name in Kafka.
    Class = 8,
    /// A secret: never printed.
    Password = 9,
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nothing in particular.
    None,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Bytes.
    Bytes,
}

/// Which values are allowed, beyond the type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Range {
    /// All.
    Any,
    /// Numbers from here on.
    AtLeast(i64),
    /// Numbers in between, both included.
    Between(i64, i64),
    /// Numbers in between, both included, or the one that stands for the default.
    BetweenOr(i64, i64, i64),
    /// Numbers but 0; all below it mean the same.
    NotZero,
    /// Fractions in between, both included.
    Fraction(f64, f64),
    /// One of these words; of a list, each element.
    OneOf(&'static [&'static str]),
    /// One of these words in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// Not the empty text.
    NotEmpty,
    /// The empty text, or this one.
    NothingOr(&'static str),
    /// A list of replicas: `PARTITION:BROKER`, or `*` alone.
    Replicas,
}

/// Whether a value can change while the broker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// At run time, for one broker.
    PerBroker,
    /// At run time, for one broker or all.
    ClusterWide,
}

/// What we do with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It does what its help says.
    Works,
    /// Accepted without effect, for the reason given: there is nothing here that it could change.
    Meaningless(&'static str),
    /// Promised and not there yet. Any value but the default is an error where `refuse`, else a notice.
    Missing {
        /// Whether going on without it would break a promise: security, durability, replication.
        refuse: bool,
    },
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Value when nothing is set; `None` is "no value".
    pub default: Option<&'static str>,
    /// Allowed values.
    pub range: Range,
    /// What a number counts.
    pub unit: Unit,
    /// Whether it changes at run time.
    pub update: Update,
    /// What we do with it.
    pub class: Class,
    /// Whether it is left out of listings, as in Kafka.
    pub is_internal: bool,
    /// For topic and group keys: the broker keys that give the default, the first that is set winning.
    pub synonyms: &'static [&'static str],
    /// What it does.
    pub help: &'static str,
}

impl ConfigKey {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
    ) -> ConfigKey {
        ConfigKey {
            name,
            kind,
            default,
            range: Range::Any,
            unit: Unit::None,
            update: Update::ReadOnly,
            class: Class::Works,
            is_internal: false,
            synonyms: &[],
            help: "",
        }
    }

    pub(super) const fn help(mut self, help: &'static str) -> ConfigKey {
        self.help = help;
        self
    }

    pub(super) const fn range(mut self, range: Range) -> ConfigKey {
        self.range = range;
        self
    }

    pub(super) const fn at_least(self, least: i64) -> ConfigKey {
        self.range(Range::AtLeast(least))
    }

    pub(super) const fn unit(mut self, unit: Unit) -> ConfigKey {
        self.unit = unit;
        self
    }

    pub(super) const fn live(mut self) -> ConfigKey {
        self.update = Update::ClusterWide;
        self
    }

    pub(super) const fn live_per_broker(mut self) -> ConfigKey {
        self.update = Update::PerBroker;
        self
    }

    pub(super) const fn meaningless(mut self, reason: &'static str) -> ConfigKey {
        self.class = Class::Meaningless(reason);
        self
    }

    pub(super) const fn missing(mut self) -> ConfigKey {
        self.class = Class::Missing { refuse: false };
        self
    }

    pub(super) const fn refused(mut self) -> ConfigKey {
        self.class = Class::Missing { refuse: true };
        self
    }

    pub(super) const fn internal(mut self) -> ConfigKey {
        self.is_internal = true;
        self
    }

    pub(super) const fn from(mut self, synonyms: &'static [&'static str]) -> ConfigKey {
        self.synonyms = synonyms;
        self
    }

    /// Whether the value must never be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks type and range of `value`.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        let text = value.trim();
        let fits = match self.kind {
            Kind::Bool => parse_bool(text).is_some(),
            Kind::Short => self.integer_fits(text, i64::from(i16::MIN), i64::from(i16::MAX)),
            Kind::Int => self.integer_fits(text, i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Long => self.integer_fits(text, i64::MIN, i64::MAX),
            Kind::Double => text.parse().is_ok_and(|number: f64| self.fraction_fits(number)),
            Kind::List if self.range == Range::Replicas => ReplicaList::parse(text).is_some(),
            Kind::List => split_list(text).all(|item| self.word_fits(item)),
            Kind::Text | Kind::Class | Kind::Password => self.word_fits(text),
        };
        if fits {
            return Ok(());
        }
        let shown = if self.is_sensitive() { "[hidden]" } else { value };
        Err(ConfigError::Invalid {
            name: self.name.to_owned(),
            value: shown.to_owned(),
            expected: self.expected(),
        })
    }

    fn integer_fits(&self, text: &str, low: i64, high: i64) -> bool {
        parse_integer(text).is_some_and(|number| {
            (low..=high).contains(&number)
                && match self.range {
                    Range::AtLeast(least) => number >= least,
                    Range::Between(least, most) => (least..=most).contains(&number),
                    Range::BetweenOr(least, most, or) => {
                        number == or || (least..=most).contains(&number)
                    }
                    Range::NotZero => number != 0,
                    _ => true,
                }
        })
    }

    fn fraction_fits(&self, number: f64) -> bool {
        match self.range {
            Range::AtLeast(least) => number >= least as f64,
            Range::Between(least, most) => (least as f64..=most as f64).contains(&number),
            Range::Fraction(least, most) => (least..=most).contains(&number),
            _ => !number.is_nan(),
        }
    }

    fn word_fits(&self, word: &str) -> bool {
        match self.range {
            Range::OneOf(words) => words.contains(&word),
            Range::OneOfAnyCase(words) => words.iter().any(|w| w.eq_ignore_ascii_case(word)),
            Range::NotEmpty => !word.is_empty(),
            Range::NothingOr(known) => word.is_empty() || word == known,
            _ => true,
        }
    }

    /// What a value must be, with its unit: for error messages and docs.
    pub fn expected(&self) -> String {
        let noun = match self.kind {
            Kind::Bool => return "true or false".to_owned(),
            Kind::Short | Kind::Int | Kind::Long => "a whole number",
            Kind::Double => "a number",
            Kind::List => "a list separated by commas",
            Kind::Text | Kind::Class | Kind::Password => "a text",
        };
        let unit = match self.unit {
            Unit::None => "",
            Unit::Millis => " of milliseconds",
            Unit::Seconds => " of seconds",
            Unit::Minutes => " of minutes",
            Unit::Hours => " of hours",
            Unit::Bytes => " of bytes",
        };
        match self.range {
            Range::Any => format!("{noun}{unit}"),
            Range::AtLeast(least) => match self.kind {
                Kind::Short => format!("{noun}{unit} from {least} to {}", i16::MAX),
                Kind::Int => format!("{noun}{unit} from {least} to {}", i32::MAX),
                _ => format!("{noun}{unit}, at least {least}"),
            },
            Range::Between(least, most) => format!("{noun}{unit} from {least} to {most}"),
            Range::BetweenOr(least, most, or) => {
                format!("{noun}{unit} from {least} to {most}, or {or}")
            }
            Range::NotZero => format!("{noun}{unit} that is not 0"),
            Range::Fraction(least, most) => format!("{noun}{unit} from {least} to {most}"),
            Range::OneOf(words) | Range::OneOfAnyCase(words) if self.kind == Kind::List => {
                format!("a list of {}", words.join(", "))
            }
            Range::OneOf(words) | Range::OneOfAnyCase(words) => {
                format!("one of {}", words.join(", "))
            }
            Range::NotEmpty => format!("{noun}{unit} that is not empty"),
            Range::NothingOr(known) => format!("empty, or {known}"),
            Range::Replicas => "a list of PARTITION:BROKER, or *".to_owned(),
        }
    }

    /// Whether `value` says the same as the default.
    pub fn is_default(&self, value: &str) -> bool {
        let (value, default) = (value.trim(), self.default.unwrap_or(""));
        match self.kind {
            Kind::Bool => parse_bool(value) == parse_bool(default),
            Kind::Short | Kind::Int | Kind::Long => parse_integer(value) == parse_integer(default),
            Kind::Double => value.parse::<f64>().ok() == default.parse::<f64>().ok(),
            Kind::List => split_list(value).eq(split_list(default)),
            Kind::Text | Kind::Class | Kind::Password => value == default,
        }
    }

    /// `value` as it is told: in Kafka's form of what was meant.
    pub(super) fn canonical(&self, value: &str) -> String {
        let text = value.trim();
        let parsed = match self.kind {
            Kind::Bool => parse_bool(text).map(|set| set.to_string()),
            Kind::Short | Kind::Int | Kind::Long => parse_integer(text).map(|n| n.to_string()),
            Kind::List => Some(split_list(text).collect::<Vec<_>>().join(",")),
            Kind::Double | Kind::Text | Kind::Class | Kind::Password => None,
        };
        parsed.unwrap_or_else(|| text.to_owned())
    }

    /// What it does, and what becomes of it here where that is less.
    pub fn explained(&self) -> String {
        match self.class {
            Class::Works => self.help.to_owned(),
            Class::Meaningless(reason) => format!("{} No effect here: {reason}.", self.help),
            Class::Missing { .. } => format!("{} Not there yet.", self.help),
        }
    }

    /// A line for whoever set `value` and should know that it changes nothing; `None` if it works or says the default.
    pub fn notice(&self, value: &str) -> Option<String> {
        match self.class {
            Class::Works => None,
            _ if self.is_default(value) => None,
            Class::Meaningless(reason) => {
                Some(format!("{} has no effect here: {reason}", self.name))
            }
            Class::Missing { .. } => Some(format!("{} is not there yet and is ignored", self.name)),
        }
    }
}

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

pub(super) fn parse_integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Elements of a list; none for the empty text.
pub fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No such key.
    Unknown {
        /// What it would be a key of: `topic `, `group ` or nothing.
        of: &'static str,
        /// The name given.
        name: String,
        /// The nearest name there is, if one is near.
        nearest: Option<&'static str>,
    },
    /// The value does not fit the key.
    Invalid {
        /// The key.
        name: String,
        /// The value; hidden if it is a secret.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// The key, or this value of it, is promised and not there yet.
    NotThereYet {
        /// The key.
        name: String,
        /// What exactly.
        what: String,
    },
    /// The key cannot change at run time, or not at this level.
    CannotUpdate {
        /// The key.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { of, name, nearest: Some(nearest) } => {
                write!(f, "Unknown {of}config name: {name} (did you mean {nearest}?)")
            }
            ConfigError::Unknown { of, name, nearest: None } => {
                write!(f, "Unknown {of}config name: {name}")
            }
            ConfigError::Invalid { name, value, expected } => {
                write!(f, "Invalid value {value} for configuration {name}: must be {expected}")
            }
            ConfigError::NotThereYet { what, .. } => f.write_str(what),
            ConfigError::CannotUpdate { name, reason } => write!(f, "{reason}: [{name}]"),
        }
    }
}

impl std::error::Error for ConfigError {}
