//! The one map from our errors to Kafka's error codes.

use cluster::controller::Refusal;
use log::{AppendError, ChangeError, ReadError};
use record::BatchError;
use types::ErrorCode;

use crate::metadata::MetadataUnavailable;
use crate::partition::Gone;

/// An error with a code of Kafka's.
pub trait ToErrorCode {
    /// What to tell the client.
    fn code(&self) -> ErrorCode;
}

/// The code of `error`.
pub fn error_code(error: &impl ToErrorCode) -> ErrorCode {
    error.code()
}

/// A request, or a part of it, was refused; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the client should read, where the code does not say it all.
    pub message: Option<String>,
    /// The record of a batch that is to blame, where one is.
    pub record: Option<u32>,
}

impl Refused {
    /// A refusal with words of its own.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { code, message: Some(message.into()), record: None }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused { code, message: None, record: None }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { code: refusal.code, message: refusal.message, record: None }
    }
}

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Refused {
        let record = match error {
            BatchError::BadRecord { index } | BatchError::KeyMissing { index } => Some(index),
            _ => None,
        };
        Refused { code: error.code(), message: Some(error.to_string()), record }
    }
}

macro_rules! refused_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Refused {
            fn from(error: $error) -> Refused {
                Refused::new(error.code(), error.to_string())
            }
        })*
    };
}

refused_from!(AppendError, ChangeError, MetadataUnavailable);

impl ToErrorCode for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            AppendError::Offline => ErrorCode::KafkaStorageError,
            AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
            // Retriable, and honest: the disk is the reason.
            AppendError::NoSpace | AppendError::Busy => ErrorCode::KafkaStorageError,
            AppendError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
            AppendError::LeaderEpochFenced { .. } => ErrorCode::NotLeaderOrFollower,
            AppendError::ProducerFenced { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            // The former is told to a follower, never to a client.
            AppendError::OutOfPlace { .. } | AppendError::OffsetsExhausted => {
                ErrorCode::UnknownServerError
            }
        }
    }
}

impl ToErrorCode for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            // The bytes are bad on this disk: another replica may have them, this one never answers CORRUPT for ever (E15).
            ReadError::Quarantined(_) | ReadError::Io(_) | ReadError::Offline => {
                ErrorCode::KafkaStorageError
            }
            ReadError::Deleted => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

impl ToErrorCode for ChangeError {
    fn code(&self) -> ErrorCode {
        match self {
            ChangeError::Offline
            | ChangeError::Closed
            | ChangeError::NoSpace
            | ChangeError::Unwritable { .. } => ErrorCode::KafkaStorageError,
            ChangeError::Deleted => ErrorCode::UnknownTopicOrPartition,
            ChangeError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ChangeError::Occupied(_) => ErrorCode::InconsistentTopicId,
            ChangeError::Unfit { .. } => ErrorCode::CorruptMessage,
            ChangeError::BadName(_) => ErrorCode::InvalidTopicException,
        }
    }
}

impl ToErrorCode for BatchError {
    fn code(&self) -> ErrorCode {
        match self {
            BatchError::BadCrc { .. }
            | BatchError::UnsupportedMagic(_)
            | BatchError::BadLength(_)
            | BatchError::BadCompression(_) => ErrorCode::CorruptMessage,
            BatchError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::BadTimestamp { .. } | BatchError::DatedByBroker => {
                ErrorCode::InvalidTimestamp
            }
            BatchError::TooLarge { .. } | BatchError::ExpandsTooFar { .. } => {
                ErrorCode::MessageTooLarge
            }
            _ => ErrorCode::InvalidRecord,
        }
    }
}

impl ToErrorCode for MetadataUnavailable {
    fn code(&self) -> ErrorCode {
        match self {
            // Retriable: clients look for the controller again.
            MetadataUnavailable::NotController => ErrorCode::NotController,
            // It may have been done, as after any time-out.
            MetadataUnavailable::Unknown => ErrorCode::RequestTimedOut,
        }
    }
}

impl ToErrorCode for Gone {
    fn code(&self) -> ErrorCode {
        self.code
    }
}
