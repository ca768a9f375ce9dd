//! How a stored record says what it is.

use bytes::Bytes;
use types::encoding::{DecodeError, Reader, Writer};

/// The only version of the metadata records' frame.
pub const FRAME_VERSION: u32 = 1;

/// Starts a coordinator's key or value: two bytes of version.
pub fn versioned(version: i16) -> Writer {
    let mut writer = Writer::new();
    writer.i16(version);
    writer
}

/// The version in front of a coordinator's key or value, and a reader of the rest.
pub fn version_of(bytes: Bytes) -> Result<(i16, Reader), DecodeError> {
    let mut reader = Reader::new(bytes);
    Ok((reader.i16()?, reader))
}

/// Starts a metadata record: frame version, what the record is, its version.
pub fn keyed(key: i16, version: i16) -> Writer {
    let mut writer = Writer::new();
    writer.unsigned_varint(FRAME_VERSION);
    writer.unsigned_varint(key.unsigned_abs().into());
    writer.unsigned_varint(version.unsigned_abs().into());
    writer
}

/// What a metadata record is, its version, and a reader of the rest.
pub fn key_of(bytes: Bytes) -> Result<(i16, i16, Reader), DecodeError> {
    let mut reader = Reader::new(bytes);
    let frame = reader.unsigned_varint()?;
    if frame != FRAME_VERSION {
        return Err(DecodeError::UnsupportedVersion(i16::try_from(frame).unwrap_or(i16::MAX)));
    }
    let key = reader.unsigned_varint()?;
    let key = i16::try_from(key).map_err(|_| DecodeError::UnknownKey(key.into()))?;
    let version = reader.unsigned_varint()?;
    let version = i16::try_from(version).map_err(|_| DecodeError::UnsupportedVersion(i16::MAX))?;
    Ok((key, version, reader))
}
