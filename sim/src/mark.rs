//! Things worth seeing at least sometimes. A mark that is never hit in a long run says that the simulator is too gentle.

/// Every mark.
pub const ALL: &[&str] = &[
    "append refused for space",
    "batch too large",
    "clean stop",
    "crash at an I/O operation",
    "damage reported to a reader",
    "directory offline",
    "duplicate answered",
    "honesty checked",
    "journal replayed",
    "kill",
    "log deleted",
    "log start raised",
    "loss in the last group",
    "loss reported",
    "out of order sequence",
    "power cut",
    "producer fenced",
    "recovery crashed and was repeated",
    "recovery met a disk error",
    "retention deleted segments",
    "torn tail",
    "truncation",
];
