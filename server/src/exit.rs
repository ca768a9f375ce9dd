//! How a command ends: the exit codes scripts rely on, and one line that says what to do next.

use std::fmt;

/// Exit codes of the command-line contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// Something failed at run time.
    Runtime = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// An address cannot be listened on.
    Address = 3,
    /// The data directory is foreign, locked, newer, or of another cluster.
    Directory = 4,
    /// The disk failed or is full.
    Disk = 5,
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The exit code.
    pub code: Code,
    /// What happened, and what to do about it.
    pub message: String,
}

impl Failed {
    /// A failure with this code and message.
    pub fn new(code: Code, message: impl Into<String>) -> Failed {
        Failed { code, message: message.into() }
    }

    /// A wrong command line or configuration.
    pub fn usage(message: impl Into<String>) -> Failed {
        Failed::new(Code::Usage, message)
    }

    /// A failure at run time.
    pub fn runtime(message: impl Into<String>) -> Failed {
        Failed::new(Code::Runtime, message)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}
