//! A schema as Kafka writes it: JSON with comments, version ranges such as `0-3`, `2+` and `none`.

use serde_json::Value;

/// A range of versions, both ends inclusive; empty if `first > last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub const NONE: Versions = Versions { first: 1, last: 0 };

    pub fn parse(text: &str) -> Result<Versions, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("version {text:?}"));
        if text == "none" {
            Ok(Versions::NONE)
        } else if let Some(first) = text.strip_suffix('+') {
            Ok(Versions { first: number(first)?, last: i16::MAX })
        } else if let Some((first, last)) = text.split_once('-') {
            Ok(Versions { first: number(first)?, last: number(last)? })
        } else {
            Ok(Versions { first: number(text)?, last: number(text)? })
        }
    }

    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    pub fn and(self, other: Versions) -> Versions {
        let both = Versions { first: self.first.max(other.first), last: self.last.min(other.last) };
        if both.is_empty() { Versions::NONE } else { both }
    }

    pub fn covers(self, other: Versions) -> bool {
        self.and(other) == other
    }
}

/// What a field holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    Text,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Kind>),
}

impl Kind {
    pub fn parse(text: &str) -> Kind {
        match text {
            "bool" => Kind::Bool,
            "int8" => Kind::I8,
            "int16" => Kind::I16,
            "uint16" => Kind::U16,
            "int32" => Kind::I32,
            "uint32" => Kind::U32,
            "int64" => Kind::I64,
            "float64" => Kind::F64,
            "uuid" => Kind::Uuid,
            "string" => Kind::Text,
            "bytes" => Kind::Bytes,
            "records" => Kind::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Kind::Array(Box::new(Kind::parse(element))),
                None => Kind::Struct(text.to_owned()),
            },
        }
    }

    /// The structure inside, if there is one.
    pub fn structure(&self) -> Option<&str> {
        match self {
            Kind::Struct(name) => Some(name),
            Kind::Array(element) => element.structure(),
            _ => None,
        }
    }
}

/// One field of a structure.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub versions: Versions,
    pub nullable: Versions,
    pub tagged: Versions,
    pub tag: Option<u32>,
    /// `None`: the schema does not say.
    pub default: Option<String>,
    pub ignorable: bool,
    /// Where the field does not follow its message.
    pub flexible: Option<Versions>,
}

/// A structure inside a message.
#[derive(Clone, Debug)]
pub struct Structure {
    pub name: String,
    pub fields: Vec<Field>,
    /// Versions in which it can occur.
    pub versions: Versions,
}

/// One message, header or record.
#[derive(Clone, Debug)]
pub struct Schema {
    pub name: String,
    pub category: String,
    pub key: Option<i16>,
    pub valid: Versions,
    pub flexible: Versions,
    pub unstable: bool,
    pub listeners: Vec<String>,
    pub fields: Vec<Field>,
    /// Those it contains, in order of appearance.
    pub structures: Vec<Structure>,
}

/// Reads one schema file.
pub fn parse(text: &str) -> Result<Schema, String> {
    let json: Value =
        serde_json::from_str(&uncommented(text)).map_err(|error| error.to_string())?;
    let valid = Versions::parse(word(&json, "validVersions")?)?;
    let mut structures = Vec::new();
    let fields = fields(&json, valid, &mut structures)?;
    for common in list(&json, "commonStructs") {
        let own = Versions::parse(word(common, "versions")?)?.and(valid);
        let fields = self::fields(common, own, &mut structures)?;
        structures.push(Structure {
            name: word(common, "name")?.to_owned(),
            fields,
            versions: own,
        });
    }
    Ok(Schema {
        name: word(&json, "name")?.to_owned(),
        category: word(&json, "type")?.to_owned(),
        key: json.get("apiKey").and_then(Value::as_i64).and_then(|key| i16::try_from(key).ok()),
        valid,
        flexible: optional_versions(&json, "flexibleVersions")?.unwrap_or(Versions::NONE),
        unstable: json.get("latestVersionUnstable").and_then(Value::as_bool).unwrap_or(false),
        listeners: list(&json, "listeners")
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        fields,
        structures,
    })
}

fn fields(
    owner: &Value,
    context: Versions,
    structures: &mut Vec<Structure>,
) -> Result<Vec<Field>, String> {
    list(owner, "fields").iter().map(|json| field(json, context, structures)).collect()
}

fn field(
    json: &Value,
    context: Versions,
    structures: &mut Vec<Structure>,
) -> Result<Field, String> {
    let name = word(json, "name")?.to_owned();
    let tagged = optional_versions(json, "taggedVersions")?.unwrap_or(Versions::NONE);
    let versions = optional_versions(json, "versions")?.unwrap_or(tagged).and(context);
    if !tagged.is_empty() && tagged.and(context) != versions {
        return Err(format!("{name} is tagged in some versions only"));
    }
    let kind = Kind::parse(word(json, "type")?);
    if let (Some(structure), true) = (kind.structure(), json.get("fields").is_some()) {
        // Structures that are written out inside a field; the others are common ones.
        let fields = fields(json, versions, structures)?;
        structures.push(Structure { name: structure.to_owned(), fields, versions });
    }
    // A JSON null is as good as no word; the text "null" is a default.
    let default = json.get("default").filter(|value| !value.is_null()).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    Ok(Field {
        name,
        kind,
        versions,
        nullable: optional_versions(json, "nullableVersions")?
            .unwrap_or(Versions::NONE)
            .and(versions),
        tagged: tagged.and(context),
        tag: json.get("tag").and_then(Value::as_u64).and_then(|tag| u32::try_from(tag).ok()),
        default: default.filter(|text| !text.is_empty()),
        ignorable: json.get("ignorable").and_then(Value::as_bool).unwrap_or(false),
        flexible: optional_versions(json, "flexibleVersions")?,
    })
}

fn optional_versions(json: &Value, key: &str) -> Result<Option<Versions>, String> {
    json.get(key).and_then(Value::as_str).map(Versions::parse).transpose()
}

fn word<'a>(json: &'a Value, key: &str) -> Result<&'a str, String> {
    json.get(key).and_then(Value::as_str).ok_or_else(|| format!("no {key} in {json}"))
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text without `//` comments.
fn uncommented(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut previous = '\0';
        let mut end = line.len();
        for (index, symbol) in line.char_indices() {
            if symbol == '"' && previous != '\\' {
                quoted = !quoted;
            }
            if !quoted && symbol == '/' && previous == '/' {
                end = index - 1;
                break;
            }
            previous = symbol;
        }
        clean.push_str(&line[..end]);
        clean.push('\n');
    }
    clean
}
