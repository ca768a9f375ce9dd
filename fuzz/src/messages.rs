//! Requests and responses: whatever decodes is encoded, and that decodes to the same again.

use bytes::Bytes;
use wire::{
    ApiKey, FRAME_PREFIX, Message, Reader, RequestHeader, ResponseHeader, Writer, frame_len,
};

/// Largest frame taken.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What was understood is written and understood again; the second writing has the same bytes as the first. (The input
/// itself may be longer: unknown tagged fields are passed over, lengths may be padded.)
fn settles<M: Message>(reader: &mut Reader, version: i16) {
    let encoded = |message: &M| {
        let mut writer = Writer::new();
        let result = message.encode(&mut writer, version);
        assert_eq!(result, Ok(()), "what was decoded can be encoded");
        writer.into_bytes()
    };
    let Ok(message) = M::decode(reader, version) else { return };
    let first = encoded(&message);
    let mut again = Reader::new(first.clone());
    let message = M::decode(&mut again, version).expect("what was encoded can be decoded");
    assert_eq!(again.finish(), Ok(()));
    assert_eq!(encoded(&message), first);
}

fn message(key: ApiKey, version: i16, is_request: bool, reader: &mut Reader) {
    macro_rules! row {
        ($key:ident, $module:ident, $request:ident, $response:ident) => {
            if key == ApiKey::$key {
                if is_request {
                    settles::<wire::$module::$request>(reader, version);
                } else {
                    settles::<wire::$module::$response>(reader, version);
                }
            }
        };
    }
    wire::for_each_api!(row);
}

/// A connection's bytes: length, header, request.
pub(crate) fn wire_request(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk::<FRAME_PREFIX>() else { return };
    let Ok(length) = frame_len(*prefix, FRAME_BYTES_MAX) else { return };
    assert!(length <= FRAME_BYTES_MAX);
    let frame = Bytes::copy_from_slice(&body[..length.min(body.len())]);
    let mut reader = Reader::new(frame);
    let Ok(header) = RequestHeader::of_frame(&mut reader) else { return };
    if let Some(key) = header.api_key() {
        message(key, header.request_api_version, true, &mut reader);
    }
}

/// An answer to a client: two bytes of key, two of version, a response without its header.
pub(crate) fn wire_response(data: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    if let (Ok(key), Ok(version)) = (reader.i16(), reader.i16())
        && let Some(key) = ApiKey::from_i16(key)
    {
        message(key, version, false, &mut reader);
    }
}

/// What precedes a request or a response: one byte chooses side and version.
pub(crate) fn wire_header(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut reader = Reader::new(Bytes::copy_from_slice(rest));
    let mut writer = Writer::new();
    let version = i16::from(choice / 2 % 2);
    if choice % 2 == 0 {
        let version = version + 1;
        let Ok(header) = RequestHeader::decode(&mut reader, version) else { return };
        assert_eq!(header.encode(&mut writer, version), Ok(()), "what was decoded can be encoded");
        let mut again = Reader::new(writer.into_bytes());
        assert_eq!(RequestHeader::decode(&mut again, version), Ok(header));
    } else {
        let Ok(header) = ResponseHeader::decode(&mut reader, version) else { return };
        assert_eq!(header.encode(&mut writer, version), Ok(()), "what was decoded can be encoded");
        let mut again = Reader::new(writer.into_bytes());
        assert_eq!(ResponseHeader::decode(&mut again, version), Ok(header));
    }
}
