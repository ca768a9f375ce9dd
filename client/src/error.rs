//! What can go wrong, and what is known about the operation that failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use types::{ErrorCode, Offset, TopicPartition};

/// What a failed operation may have done on the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certainty {
    /// It did not happen, and will not.
    DidNotHappen,
    /// It may have happened, or may yet happen: the question left and no answer settles it (P8).
    Unknown,
}

/// Why an operation of the client failed.
#[derive(Clone, Debug)]
pub enum ClientError {
    /// No connection to the named broker could be made: the request never left.
    Connect {
        /// `host:port`.
        address: String,
        /// What the network said.
        error: Arc<io::Error>,
    },
    /// The connection broke after the request was (perhaps in part) sent.
    Disconnected {
        /// `host:port`.
        address: String,
    },
    /// No answer within the request's time-out.
    RequestTimedOut {
        /// `host:port`.
        address: String,
    },
    /// The operation's own deadline passed; `last` is the last error met on the way.
    DeadlinePassed {
        /// The last error before the deadline, if any.
        last: Option<Box<ClientError>>,
        /// Whether an earlier attempt may have taken effect.
        certainty: Certainty,
    },
    /// The broker answered with an error.
    Protocol {
        /// The broker's code.
        code: ErrorCode,
        /// The broker's explanation, if it gave one.
        message: Option<String>,
    },
    /// The broker answered with an error code that this client does not know.
    UnknownCode(i16),
    /// Broker and client share no version of this request.
    NoCommonVersion {
        /// Name of the request.
        api: &'static str,
        /// Versions this client speaks (or was asked to speak).
        ours: (i16, i16),
        /// Versions the broker speaks, if it knows the request at all.
        theirs: Option<(i16, i16)>,
    },
    /// An answer that does not follow the protocol; the connection was closed.
    BadAnswer {
        /// `host:port`.
        address: String,
        /// What was wrong with it.
        reason: String,
    },
    /// A request that cannot be expressed in the version chosen.
    Encode(String),
    /// A partition's position is outside of its log and no reset policy applies.
    NoOffset(TopicPartition),
    /// The operation failed for good, after an earlier attempt at it whose outcome nobody knows.
    AfterUnknown {
        /// How the last attempt failed.
        last: Box<ClientError>,
    },
    /// A stored batch cannot be read.
    BadBatch {
        /// Where it is stored.
        partition: TopicPartition,
        /// What is wrong with it.
        reason: String,
        /// Where the next one begins, if that much can be told.
        goes_on: Option<Offset>,
    },
    /// The handle was used in a way that its configuration rules out.
    Usage(String),
    /// The client, producer or consumer was closed.
    Closed,
}

impl ClientError {
    /// The error for a broker's code.
    pub fn code(code: ErrorCode) -> ClientError {
        ClientError::Protocol { code, message: None }
    }

    /// The error for a code from the wire, with the broker's explanation; `Ok` for no error.
    pub fn check(code: i16, message: Option<&str>) -> Result<(), ClientError> {
        match ErrorCode::from_i16(code) {
            Some(ErrorCode::None) => Ok(()),
            Some(code) => Err(ClientError::Protocol {
                code,
                message: message.filter(|text| !text.is_empty()).map(str::to_owned),
            }),
            None => Err(ClientError::UnknownCode(code)),
        }
    }

    /// The broker's error code, if a broker's answer is what failed.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Protocol { code, .. } => Some(*code),
            ClientError::DeadlinePassed { last: Some(last), .. }
            | ClientError::AfterUnknown { last } => last.error_code(),
            _ => None,
        }
    }

    /// This error as the outcome of an operation whose earlier attempts left `certainty`.
    pub(crate) fn after(self, certainty: Certainty) -> ClientError {
        match certainty {
            Certainty::DidNotHappen => self,
            Certainty::Unknown => ClientError::AfterUnknown { last: Box::new(self) },
        }
    }

    /// Whether the same request may succeed later or elsewhere.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Disconnected { .. }
            | ClientError::RequestTimedOut { .. }
            | ClientError::BadAnswer { .. } => true,
            ClientError::Protocol { code, .. } => is_retriable_code(*code),
            _ => false,
        }
    }

    /// Whether the cluster's layout may have changed: look at the metadata again before trying again.
    pub fn wants_metadata(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Disconnected { .. }
            | ClientError::RequestTimedOut { .. } => true,
            ClientError::Protocol { code, .. } => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::NotController
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::ListenerNotFound
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::InconsistentTopicId
            ),
            _ => false,
        }
    }

    /// What is known about the effect of the operation that failed this way.
    pub fn certainty(&self) -> Certainty {
        match self {
            ClientError::Disconnected { .. }
            | ClientError::RequestTimedOut { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::AfterUnknown { .. }
            | ClientError::UnknownCode(_) => Certainty::Unknown,
            ClientError::DeadlinePassed { certainty, .. } => *certainty,
            // The broker gave up waiting, or changed role, after it may have stored the bytes (P8, E19).
            ClientError::Protocol {
                code:
                    ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::UnknownServerError
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::NotController
                    | ErrorCode::NetworkException,
                ..
            } => Certainty::Unknown,
            _ => Certainty::DidNotHappen,
        }
    }
}

/// What a code means to whoever reads it bare; brokers explain the others, or their names do.
fn meaning(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::InvalidTopicException => {
            "a topic's name has 1 to 249 letters, digits, dots, dashes and underscores, and is not `.` or `..`"
        }
        ErrorCode::UnknownTopicOrPartition => "there is no such topic or partition",
        ErrorCode::LeaderNotAvailable => "the partition has no leader now",
        ErrorCode::MessageTooLarge => "larger than the topic's max.message.bytes",
        ErrorCode::KafkaStorageError => "the broker's disk fails it here; its log says why",
        ErrorCode::CorruptMessage => "the records did not arrive as they were sent",
        ErrorCode::InvalidTimestamp => {
            "further from the broker's clock than the topic allows: set the clock that is wrong"
        }
        _ => return None,
    })
}

/// Kafka's retriable codes.
fn is_retriable_code(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CorruptMessage
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NotController
            | ErrorCode::KafkaStorageError
            | ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::ListenerNotFound
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::PreferredLeaderNotAvailable
            | ErrorCode::EligibleLeadersNotAvailable
            | ErrorCode::UnstableOffsetCommit
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FetchSessionTopicIdError
            | ErrorCode::ConcurrentTransactions
    )
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect { address, error } => {
                write!(f, "cannot connect to {address}: {error}")
            }
            ClientError::Disconnected { address } => {
                write!(f, "the connection to {address} broke before the answer came")
            }
            ClientError::RequestTimedOut { address } => {
                write!(f, "no answer from {address} within the request time-out")
            }
            ClientError::DeadlinePassed { last: Some(last), .. } => {
                write!(f, "gave up after the time allowed; last: {last}")
            }
            ClientError::DeadlinePassed { last: None, .. } => {
                f.write_str("gave up after the time allowed")
            }
            ClientError::Protocol { code, message: Some(message) } => {
                write!(f, "{code}: {message}")
            }
            ClientError::Protocol { code, message: None } => match meaning(*code) {
                Some(meaning) => write!(f, "{code}: {meaning}"),
                None => write!(f, "{code}"),
            },
            ClientError::UnknownCode(code) => write!(f, "error code {code}, unknown here"),
            ClientError::NoCommonVersion { api, ours, theirs: Some(theirs) } => write!(
                f,
                "{api}: the broker speaks versions {} to {}, this client {} to {}",
                theirs.0, theirs.1, ours.0, ours.1
            ),
            ClientError::NoCommonVersion { api, theirs: None, .. } => {
                write!(f, "{api}: the broker does not offer this request")
            }
            ClientError::BadAnswer { address, reason } => {
                write!(f, "{address} sent an answer that cannot be read: {reason}")
            }
            ClientError::Encode(reason) => write!(f, "the request cannot be written: {reason}"),
            ClientError::AfterUnknown { last } => {
                write!(f, "{last} (an earlier attempt was not answered and may have worked)")
            }
            ClientError::NoOffset(partition) => {
                write!(f, "{partition}: no stored offset in range, and the reset policy is none")
            }
            ClientError::BadBatch { partition, reason, .. } => {
                write!(f, "{partition}: a stored batch cannot be read: {reason}")
            }
            ClientError::Usage(reason) => f.write_str(reason),
            ClientError::Closed => f.write_str("closed"),
        }
    }
}

impl std::error::Error for ClientError {}
