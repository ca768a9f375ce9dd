//! The judges. Each is a pure function named after its rule in SPEC (I for invariants, A for anomalies of histories, L for
//! liveness), takes plain values and answers what it saw; unit tests feed it hand-made good and bad states.

pub mod groups;
pub mod history;
pub mod metrics;
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
    Checker { rule: "A1", text: "no offset holds two values" },
    Checker { rule: "A2", text: "a value of an idempotent producer stands at one offset" },
    Checker { rule: "A4", text: "nothing is invented: what is read was sent and did not fail" },
    Checker { rule: "A9", text: "within a poll offsets go up by one" },
    Checker { rule: "A10", text: "from poll to poll offsets go up by one" },
    Checker { rule: "A11", text: "an idempotent producer's records stand in the order of sending" },
    Checker { rule: "A13", text: "nobody commits what was not polled" },
    Checker {
        rule: "E10",
        text: "a dead device takes its own log directory along and nothing else",
    },
    Checker { rule: "E11", text: "a full disk keeps group offsets and topics working" },
    Checker { rule: "E37", text: "a wrong clock deletes nothing early" },
    Checker { rule: "E38", text: "a record found by its time is not from before it" },
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
    Checker { rule: "I23", text: "the high watermark told to clients does not go back" },
    Checker { rule: "I24", text: "no read goes beyond its bound" },
    Checker { rule: "I30", text: "nobody is elected where nobody else could lead" },
    Checker { rule: "I31", text: "what was acknowledged lies below the high watermark" },
    Checker { rule: "I32", text: "what was acknowledged is in the log" },
    Checker { rule: "I34", text: "no partition moves to where nobody is" },
    Checker { rule: "I36", text: "who is told of a partition is not told what is too old" },
    Checker {
        rule: "I37",
        text: "an epoch of the metadata quorum has one leader, and none goes back",
    },
    Checker { rule: "I38", text: "at one offset all nodes have the same metadata" },
    Checker { rule: "I39", text: "a topic is listed from its creation to its deletion" },
    Checker { rule: "I41", text: "what was answered of topics and settings is so on every node" },
    Checker { rule: "I44", text: "a topic's successor is another log, also to a fetch session" },
    Checker { rule: "I45", text: "no producer id is handed out twice" },
    Checker { rule: "I46", text: "what is committed of the metadata does not go back" },
    Checker { rule: "I47", text: "sequences of a producer follow each other" },
    Checker { rule: "I48", text: "no batch of a producer is there twice" },
    Checker { rule: "I49", text: "a duplicate is answered with the original offset and time" },
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
    Checker {
        rule: "L1",
        text: "after the last fault all nodes agree on a leader and the metadata",
    },
    Checker { rule: "L4", text: "after the last fault everything works" },
    Checker { rule: "L7", text: "after the last fault groups settle, with all who live" },
    Checker { rule: "L10", text: "every partition reads from its start to its end" },
    Checker { rule: "balance", text: "when all is quiet every broker holds its share" },
    Checker { rule: "metrics", text: "counters do not go back, and lag is what a client finds" },
    Checker { rule: "retention", text: "what a topic's retention does not keep leaves the disk" },
    Checker { rule: "scrubber", text: "cold segments are read no faster than they may be" },
    Checker { rule: "sizes", text: "logs are told to be as large as what is in them" },
    Checker { rule: "telemetry", text: "what clients push is judged by Kafka's rules, and shown" },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads the list knows every rule that a run may break.
    #[test]
    fn every_rule_that_is_judged_is_listed() {
        let mut places =
            vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut seen = 0;
        while let Some(place) = places.pop() {
            if place.is_dir() {
                places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&place).unwrap();
            for part in text.split("require(\"").chain(text.split("violation(\"")).skip(1) {
                let Some((rule, _)) = part.split_once('"') else { continue };
                let is_rule = rule.starts_with(['A', 'E', 'I', 'L'])
                    && rule.len() > 1
                    && rule[1..].bytes().all(|byte| byte.is_ascii_digit());
                if is_rule {
                    seen += 1;
                    assert!(ALL.iter().any(|known| known.rule == rule), "{rule} in {place:?}");
                }
            }
        }
        assert!(seen > 50, "{seen} judgements");
    }
}
