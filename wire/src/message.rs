//! What all messages have in common.

use std::fmt::Debug;

use types::encoding::{DecodeError, EncodeError, Reader, Writer};

use crate::ApiKey;

/// A request or a response.
pub trait Message: Sized + Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// Which question this asks or answers.
    const API_KEY: ApiKey;

    /// Writes this in `version`.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Reads one in `version`. Bytes after it are left to the caller.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;
}

/// A request, and what answers it.
pub trait Request: Message {
    /// The answer.
    type Response: Message;
}
