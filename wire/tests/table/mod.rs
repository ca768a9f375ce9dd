//! Every message as a row of a table, so that tests can treat them all alike.
#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use wire::{ApiKey, DecodeError, Message, Reader, Request, Writer};

/// One message: what it is and what can be done with it without knowing its type.
pub struct Row {
    pub key: ApiKey,
    pub is_request: bool,
    pub versions: (i16, i16),
    /// Bytes of a made-up message of `version`; decoding them gives it back, which is asserted here.
    pub sample: fn(seed: u64, version: i16) -> Bytes,
    /// Decodes, demands that nothing is left, encodes.
    pub recode: fn(bytes: Bytes, version: i16) -> Result<Bytes, DecodeError>,
    /// Decodes and drops.
    pub decode: fn(bytes: Bytes, version: i16) -> Result<(), DecodeError>,
    /// Bytes of the message that has nothing but defaults.
    pub default: fn(version: i16) -> Option<Bytes>,
}

impl Row {
    pub fn name(&self) -> String {
        format!("{}{}", self.key.name(), if self.is_request { "Request" } else { "Response" })
    }

    pub fn versions(&self) -> impl Iterator<Item = i16> + use<> {
        self.versions.0..=self.versions.1
    }
}

pub fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).unwrap_or_else(|error| {
        panic!("{} version {version}: {error}: {message:?}", M::API_KEY.name())
    });
    writer.into_bytes()
}

fn sample<M: Message>(seed: u64, version: i16) -> Bytes {
    let message = M::decode(&mut Reader::sampling(seed), version).expect("samples decode");
    let bytes = encoded(&message, version);
    let mut reader = Reader::new(bytes.clone());
    let again = M::decode(&mut reader, version).unwrap_or_else(|error| {
        panic!("{} version {version}: {error}: {message:?}", M::API_KEY.name())
    });
    assert_eq!(again, message, "version {version}");
    assert_eq!(reader.remaining(), 0);
    bytes
}

fn recode<M: Message>(bytes: Bytes, version: i16) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(encoded(&message, version))
}

fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<(), DecodeError> {
    M::decode(&mut Reader::new(bytes), version).map(|_message| ())
}

fn default<M: Message>(version: i16) -> Option<Bytes> {
    let mut writer = Writer::new();
    M::default().encode(&mut writer, version).ok().map(|()| writer.into_bytes())
}

fn row<M: Message>(is_request: bool, versions: (i16, i16)) -> Row {
    Row {
        key: M::API_KEY,
        is_request,
        versions,
        sample: sample::<M>,
        recode: recode::<M>,
        decode: decode::<M>,
        default: default::<M>,
    }
}

fn pair<Q: Request>(rows: &mut Vec<Row>, of_request: (i16, i16), of_response: (i16, i16)) {
    rows.push(row::<Q>(true, of_request));
    rows.push(row::<Q::Response>(false, of_response));
}

/// All messages.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    macro_rules! add {
        ($key:ident, $module:ident, $request:ident, $response:ident) => {
            pair::<wire::$module::$request>(
                &mut rows,
                wire::$module::$request::VERSIONS,
                wire::$module::$response::VERSIONS,
            );
        };
    }
    wire::for_each_api!(add);
    rows
}
