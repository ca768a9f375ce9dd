//! Stored records in Kafka's formats: every one survives in every version, frames say what they hold, damage is refused.

use bytes::Bytes;
use record::stored::group::{
    GroupKey, GroupMetadataKey, GroupMetadataValue, GroupValue, OffsetCommitKey, OffsetCommitValue,
};
use record::stored::metadata::{MetadataRecord, TopicRecord};
use record::stored::transaction::{TransactionKey, TransactionLogKey};
use types::Uuid;
use types::encoding::{DecodeError, Reader, Writer};

#[test]
fn every_record_survives_in_every_version() {
    let mut count = 0;
    macro_rules! row {
        ($module:ident, $record:ident) => {{
            use record::stored::$module::$record;
            for version in $record::VERSIONS.0..=$record::VERSIONS.1 {
                for seed in 0..24 {
                    let made_up = $record::decode(&mut Reader::sampling(seed), version);
                    let made_up = made_up.expect("samples decode");
                    let mut writer = Writer::new();
                    made_up.encode(&mut writer, version).expect("what was decoded can be encoded");
                    let bytes = writer.into_bytes();
                    let mut reader = Reader::new(bytes.clone());
                    assert_eq!($record::decode(&mut reader, version).as_ref(), Ok(&made_up));
                    assert_eq!(reader.finish(), Ok(()));
                    for length in 0..bytes.len() {
                        let cut = $record::decode(&mut Reader::new(bytes.slice(..length)), version);
                        assert!(cut.is_err(), "{} version {version}", stringify!($record));
                    }
                    count += 1;
                }
            }
            let (_, last) = $record::VERSIONS;
            let refused = $record::decode(&mut Reader::new(vec![0; 99]), last + 1);
            assert_eq!(refused.err(), Some(DecodeError::UnsupportedVersion(last + 1)));
        }};
    }
    record::for_each_stored!(row);
    assert!(count > 2_000, "{count} records");
}

#[test]
fn coordinator_keys_begin_with_what_they_are() {
    // As kafka-dump-log reads them: type 1, then group, topic, partition.
    let key = GroupKey::OffsetCommit(OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
    });
    let bytes = key.encode().expect("short");
    assert_eq!(&bytes[..], [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 3]);
    assert_eq!(GroupKey::decode(bytes), Ok(key));

    let key = GroupKey::GroupMetadata(GroupMetadataKey { group: "g".into() });
    assert_eq!(&key.encode().expect("short")[..], [0, 2, 0, 1, b'g']);
    let key = TransactionKey::TransactionLog(TransactionLogKey { transactional_id: "x".into() });
    assert_eq!(&key.encode().expect("short")[..], [0, 0, 0, 1, b'x']);
}

#[test]
fn keys_of_later_releases_are_named_not_guessed() {
    let refused = GroupKey::decode(Bytes::from_static(&[0, 99, 0, 1, b'g']));
    assert_eq!(refused, Err(DecodeError::UnknownKey(99)));
    let trailing = GroupKey::decode(Bytes::from_static(&[0, 2, 0, 1, b'g', 7]));
    assert_eq!(trailing, Err(DecodeError::TrailingBytes(1)));
    assert!(GroupKey::decode(Bytes::new()).is_err());
}

#[test]
fn coordinator_values_begin_with_their_version() {
    let value = GroupValue::OffsetCommit(OffsetCommitValue {
        offset: 7,
        leader_epoch: 2,
        metadata: "".into(),
        commit_timestamp: 9,
        ..Default::default()
    });
    let bytes = value.encode(3).expect("version 3 carries all of this");
    let expected = [0, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(&bytes[..], expected);
    assert_eq!(GroupValue::decode(1, bytes), Ok(value));
    // No protocol and no leader: an empty group, in every version.
    let value = GroupValue::GroupMetadata(GroupMetadataValue::default());
    for version in 0..=4 {
        let bytes = value.encode(version).expect("defaults fit everywhere");
        assert_eq!(GroupValue::decode(2, bytes).as_ref(), Ok(&value));
    }
}

#[test]
fn metadata_records_begin_with_frame_key_and_version() {
    let record = MetadataRecord::from(TopicRecord { name: "t".into(), topic_id: Uuid([1; 16]) });
    let bytes = record.encode(0).expect("short");
    let mut expected = vec![1, 2, 0, 2, b't'];
    expected.extend([1; 16]);
    expected.push(0);
    assert_eq!(bytes, expected);
    assert_eq!(MetadataRecord::decode(bytes), Ok(record));
    let refused = |bytes: &'static [u8]| MetadataRecord::decode(Bytes::from_static(bytes)).err();
    assert_eq!(refused(&[2, 2, 0]), Some(DecodeError::UnsupportedVersion(2)));
    assert_eq!(refused(&[1, 120, 0]), Some(DecodeError::UnknownKey(120)));
    assert_eq!(refused(&[1, 2, 9]), Some(DecodeError::UnsupportedVersion(9)));
    let endless = refused(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    assert_eq!(endless, Some(DecodeError::UnknownKey(0xffff_ffff)));
}

/// `testdata/java` holds a record of each type and version as Kafka 4.4's own Java classes wrote it.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test that reads its data")]
fn what_kafkas_own_classes_wrote_is_read_and_written_alike() {
    let lines = |module: &str| {
        let path = format!("{}/testdata/java/{module}.txt", env!("CARGO_MANIFEST_DIR"));
        String::from_utf8(std::fs::read(path).expect("golden records")).expect("text")
    };
    let unhex = |text: &str| -> Bytes {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
            .collect()
    };
    macro_rules! row {
        ($module:ident, $record:ident) => {{
            use record::stored::$module::$record;
            for version in $record::VERSIONS.0..=$record::VERSIONS.1 {
                let start = format!("{} {version} ", stringify!($record));
                let text = lines(stringify!($module));
                let hex = text.lines().find_map(|line| line.strip_prefix(&start));
                let bytes = unhex(hex.unwrap_or_else(|| panic!("no {start}")));
                let mut reader = Reader::new(bytes.clone());
                let decoded = $record::decode(&mut reader, version).expect("Kafka's bytes");
                assert_eq!(reader.finish(), Ok(()), "{start}");
                let mut writer = Writer::new();
                decoded.encode(&mut writer, version).expect("what was decoded can be encoded");
                assert_eq!(writer.into_bytes(), bytes, "{start}");
            }
        }};
    }
    record::for_each_stored!(row);
}
