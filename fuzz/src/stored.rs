//! Stored records: bytes from disk, which may be as strange as bytes from the network.

use bytes::Bytes;
use record::stored::frame;
use record::stored::group::{GroupKey, GroupValue};
use record::stored::metadata::MetadataRecord;
use record::stored::share::{ShareKey, ShareValue};
use record::stored::transaction::{TransactionKey, TransactionValue};
use types::encoding::{Reader, Writer};

/// A coordinator's record: one byte that says which coordinator, one of key length, a key, a value.
pub(crate) fn stored_coordinator(data: &[u8]) {
    let [family, key_len, rest @ ..] = data else { return };
    let (key, value) = rest.split_at(usize::from(*key_len).min(rest.len()));
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    macro_rules! family {
        ($key:ident, $value:ident) => {{
            let Ok(key) = $key::decode(key) else { return };
            let encoded = key.encode().expect("what was decoded can be encoded");
            assert_eq!($key::decode(encoded).as_ref(), Ok(&key));
            if let Ok(value) = $value::decode(key.record_type(), value) {
                assert_eq!(value.record_type(), key.record_type());
            }
        }};
    }
    match family % 3 {
        0 => family!(GroupKey, GroupValue),
        1 => family!(TransactionKey, TransactionValue),
        _ => family!(ShareKey, ShareValue),
    }
}

/// A record of the metadata log.
pub(crate) fn stored_metadata(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(record) = MetadataRecord::decode(bytes.clone()) else { return };
    let (key, version, _) = frame::key_of(bytes).expect("it was decoded");
    assert_eq!(record.key(), key);
    let encoded =
        |record: &MetadataRecord| record.encode(version).expect("what was decoded can be encoded");
    let first = encoded(&record);
    let again = MetadataRecord::decode(first.clone()).expect("what was encoded can be decoded");
    assert_eq!(encoded(&again), first);
}

/// Any stored structure: one byte chooses it, one is its version.
pub(crate) fn stored_structure(data: &[u8]) {
    let [choice, version, rest @ ..] = data else { return };
    let version = i16::from(*version);
    let bytes = Bytes::copy_from_slice(rest);
    let mut index = 0;
    macro_rules! row {
        ($module:ident, $record:ident) => {
            if index == usize::from(*choice) {
                use record::stored::$module::$record;
                let encoded = |found: &$record| {
                    let mut writer = Writer::new();
                    let result = found.encode(&mut writer, version);
                    assert_eq!(result, Ok(()), "what was decoded can be encoded");
                    writer.into_bytes()
                };
                // Bytes are compared, not values: a number that is none differs from itself.
                if let Ok(found) = $record::decode(&mut Reader::new(bytes.clone()), version) {
                    let first = encoded(&found);
                    let again = $record::decode(&mut Reader::new(first.clone()), version);
                    assert_eq!(encoded(&again.expect("what was encoded can be decoded")), first);
                }
            }
            index += 1;
        };
    }
    record::for_each_stored!(row);
    assert!(index < 256, "one byte chooses among {index}");
}
