//! Frames: a length, then that many bytes.

use std::fmt;

use bytes::Bytes;
use types::encoding::{EncodeError, Str, Writer};

use crate::{Message, Request, RequestHeader, ResponseHeader};

/// Bytes of the length in front of each frame.
pub const FRAME_PREFIX: usize = 4;

/// Why a frame's length cannot be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length is negative.
    Negative(i32),
    /// The length is above what the reader is ready to hold.
    TooLarge {
        /// What the prefix says.
        length: usize,
        /// What the reader takes.
        most: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Negative(length) => write!(f, "a frame of {length} bytes"),
            FrameError::TooLarge { length, most } => {
                write!(f, "a frame of {length} bytes where {most} are allowed")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Length of the frame behind `prefix`, if it is at most `most`. Call it before reserving anything.
pub fn frame_len(prefix: [u8; FRAME_PREFIX], most: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let found = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if found > most {
        return Err(FrameError::TooLarge { length: found, most });
    }
    Ok(found)
}

/// Patches the length prefix of a frame of `total` bytes, itself included.
pub(crate) fn set_length(w: &mut Writer, total: usize) -> Result<(), EncodeError> {
    let length = i32::try_from(total - FRAME_PREFIX).map_err(|_| EncodeError::TooLong(total))?;
    w.as_mut_slice()[..FRAME_PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The frame of a request, length prefix and header included.
pub fn request_frame<Q: Request>(
    request: &Q,
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(128);
    writer.i32(0);
    RequestHeader::new(Q::API_KEY, version, correlation_id, client_id)
        .encode(&mut writer, Q::API_KEY.request_header_version(version))?;
    request.encode(&mut writer, version)?;
    let total = writer.len();
    set_length(&mut writer, total)?;
    Ok(writer.into_bytes())
}

/// The frame of a response, length prefix and header included.
pub fn response_frame<M: Message>(
    response: &M,
    version: i16,
    correlation_id: i32,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(128);
    writer.i32(0);
    ResponseHeader { correlation_id }
        .encode(&mut writer, M::API_KEY.response_header_version(version))?;
    response.encode(&mut writer, version)?;
    let total = writer.len();
    set_length(&mut writer, total)?;
    Ok(writer.into_bytes())
}
