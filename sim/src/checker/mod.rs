//! The judges. Each is a pure function named after its rule in SPEC (I for invariants, A for anomalies of histories, L for
//! liveness), takes plain values and answers what it saw; unit tests feed it hand-made good and bad states.

pub mod groups;
pub mod history;
pub mod storage;

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its number.
    pub rule: &'static str,
    /// What was seen.
    pub text: String,
}

/// What a checker answers.
pub type Verdict = Result<(), Broken>;

/// Fails with `text` unless `holds`.
pub fn require(rule: &'static str, holds: bool, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Broken { rule, text: text() }) }
}

/// A checker, for the list.
pub struct Checker {
    /// The rule it watches.
    pub rule: &'static str,
    /// What it looks at.
    pub text: &'static str,
}

/// Every checker.
pub const ALL: &[Checker] = &[
    Checker { rule: "I1", text: "every batch handed out has a valid checksum" },
    Checker { rule: "I2", text: "offsets are contiguous; every read is a walk" },
    Checker { rule: "I3", text: "epochs do not decrease along a log" },
    Checker { rule: "I4", text: "the epoch cache answers as the log does" },
    Checker { rule: "I6", text: "recovery may crash and be repeated; a clean stop is recognised" },
    Checker { rule: "I7", text: "a recovered log is a prefix and keeps what was announced" },
    Checker { rule: "I8", text: "truncated bytes do not come back" },
    Checker { rule: "I9", text: "a power cut now would leave what was announced" },
    Checker { rule: "I10", text: "nothing becomes durable after a failure" },
    Checker { rule: "I11", text: "ends and log start do not go back" },
    Checker { rule: "I12", text: "after a crash the set of logs is the one before or after" },
    Checker { rule: "I13", text: "a refused append changes nothing" },
    Checker { rule: "I14", text: "damage is reported, only damage is" },
    Checker { rule: "I18", text: "what was committed does not change" },
    Checker { rule: "I24", text: "no read goes beyond its bound" },
    Checker { rule: "I39", text: "a topic is listed from its creation to its deletion" },
    Checker { rule: "I44", text: "a topic's successor is another log, also to a fetch session" },
    Checker { rule: "I45", text: "no producer id is handed out twice" },
    Checker { rule: "I47", text: "sequences of a producer follow each other" },
    Checker { rule: "I48", text: "no batch of a producer is there twice" },
    Checker { rule: "I49", text: "a duplicate is answered with the original offset" },
    Checker { rule: "I50", text: "no old producer epoch writes after a newer one" },
    Checker { rule: "I63", text: "no control batch of a client is stored" },
    Checker { rule: "I64", text: "what a coordinator says of groups is what their log says" },
    Checker { rule: "I65", text: "no member sees its generation go back" },
    Checker { rule: "I66", text: "a partition has one owner in a generation" },
    Checker { rule: "I67", text: "nobody reads a partition that has passed to another" },
    Checker { rule: "I68", text: "the members of a generation own each partition once" },
    Checker { rule: "I69", text: "no member commits that has left" },
    Checker { rule: "I70", text: "a group's offset is a register" },
    Checker { rule: "I71", text: "a live group keeps its offsets" },
    Checker {
        rule: "I72",
        text: "a replaced static member is fenced, and no name has two members",
    },
    Checker { rule: "I81", text: "log start only rises, and not beyond the high watermark" },
    Checker { rule: "L4", text: "after the last fault everything works" },
    Checker { rule: "L7", text: "after the last fault groups settle, with all who live" },
    Checker { rule: "retention", text: "what a topic's retention does not keep leaves the disk" },
];
