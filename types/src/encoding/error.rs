//! What can be wrong with bytes that come in, and with values that go out.

use std::fmt;

/// Why bytes are not what they claim to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ends before the value does.
    UnexpectedEnd {
        /// Bytes the value still needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length is negative where it cannot be, or above its bound.
    InvalidLength(i64),
    /// Null where the version does not allow it.
    UnexpectedNull,
    /// Text that is not UTF-8.
    InvalidText,
    /// A variable-length integer that does not end in time.
    InvalidVarint,
    /// An array claims more elements than [`ELEMENTS_MAX`](super::ELEMENTS_MAX).
    TooManyElements(usize),
    /// A structure claims more tagged fields than [`TAGS_MAX`](super::TAGS_MAX).
    TooManyTags(usize),
    /// A tagged field is longer or shorter than its content.
    TagSize {
        /// Which field.
        tag: u32,
        /// The size it claims.
        size: usize,
    },
    /// Arrays would need far more memory than their input deserves.
    TooMuchMemory,
    /// The version is not one of the message's.
    UnsupportedVersion(i16),
    /// The key is not one that exists.
    UnknownKey(i64),
    /// The value ends before the input does.
    TrailingBytes(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::UnexpectedEnd { needed, remaining } => {
                write!(f, "input ends early: {needed} bytes needed, {remaining} left")
            }
            DecodeError::InvalidLength(length) => write!(f, "length {length} is out of range"),
            DecodeError::UnexpectedNull => f.write_str("null where a value is required"),
            DecodeError::InvalidText => f.write_str("text is not UTF-8"),
            DecodeError::InvalidVarint => f.write_str("variable-length integer does not end"),
            DecodeError::TooManyElements(count) => write!(f, "array claims {count} elements"),
            DecodeError::TooManyTags(count) => write!(f, "structure claims {count} tagged fields"),
            DecodeError::TagSize { tag, size } => {
                write!(f, "tagged field {tag} does not fill its {size} bytes exactly")
            }
            DecodeError::TooMuchMemory => {
                f.write_str("arrays need too much memory for their input")
            }
            DecodeError::UnsupportedVersion(version) => write!(f, "version {version} is unknown"),
            DecodeError::UnknownKey(key) => write!(f, "key {key} is unknown"),
            DecodeError::TrailingBytes(count) => write!(f, "{count} bytes after the end"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a value cannot be written in the version asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// The version is not one of the message's.
    UnsupportedVersion(i16),
    /// The field has a value that this version cannot carry and that must not be lost.
    FieldNotInVersion(&'static str, i16),
    /// The field is absent where the version demands a value.
    UnexpectedNull(&'static str, i16),
    /// Text, bytes or an array longer than the protocol's length can say.
    TooLong(usize),
    /// Records that are not in memory were written where nothing can be spliced in.
    RecordsElsewhere,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::UnsupportedVersion(version) => write!(f, "version {version} is unknown"),
            EncodeError::FieldNotInVersion(field, version) => {
                write!(f, "version {version} cannot carry {field}")
            }
            EncodeError::UnexpectedNull(field, version) => {
                write!(f, "version {version} demands a value of {field}")
            }
            EncodeError::TooLong(length) => write!(f, "{length} bytes or elements are too many"),
            EncodeError::RecordsElsewhere => f.write_str("records are not in memory"),
        }
    }
}

impl std::error::Error for EncodeError {}
