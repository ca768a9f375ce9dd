//! Every message in every version survives the way out and back, and refuses versions that it does not have.

mod table;

use wire::{ApiKey, DecodeError, EncodeError, Reader, Writer};

#[test]
fn every_message_survives_in_every_version() {
    let mut count = 0;
    for row in table::rows() {
        for version in row.versions() {
            for seed in 0..24 {
                let bytes = (row.sample)(seed, version);
                let again = (row.recode)(bytes.clone(), version);
                assert_eq!(again.as_ref(), Ok(&bytes), "{} version {version}", row.name());
                count += 1;
            }
        }
    }
    assert!(count > 10_000, "{count} messages");
}

#[test]
fn requests_and_responses_have_the_versions_of_their_key() {
    let rows = table::rows();
    assert_eq!(rows.len(), 2 * ApiKey::all().count());
    for row in rows {
        assert_eq!(row.versions, row.key.valid_versions(), "{}", row.name());
        assert_eq!(ApiKey::from_i16(row.key.as_i16()), Some(row.key));
        for version in [row.versions.0 - 1, row.versions.1 + 1, i16::MIN, i16::MAX] {
            let refused = (row.decode)(vec![0; 64].into(), version);
            assert_eq!(refused, Err(DecodeError::UnsupportedVersion(version)), "{}", row.name());
            assert_eq!((row.default)(version), None);
        }
    }
}

#[test]
fn truncated_messages_are_refused() {
    for row in table::rows() {
        for version in row.versions() {
            let bytes = (row.sample)(7, version);
            for length in 0..bytes.len() {
                let refused = (row.recode)(bytes.slice(..length), version);
                assert!(refused.is_err(), "{} version {version}: {length} bytes", row.name());
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            let trailing = (row.recode)(longer.into(), version);
            assert_eq!(trailing, Err(DecodeError::TrailingBytes(1)), "{}", row.name());
        }
    }
}

#[test]
fn a_field_that_the_version_cannot_carry_is_not_lost_silently() {
    // `allow_auto_topic_creation` exists from version 4 and changes what happens: older versions refuse to drop it.
    let request = wire::metadata::MetadataRequest {
        topics: None,
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let refused = request.encode(&mut Writer::new(), 3);
    assert_eq!(refused, Err(EncodeError::FieldNotInVersion("allow_auto_topic_creation", 3)));
    assert_eq!(request.encode(&mut Writer::new(), 4), Ok(()));
    // All topics is null from version 1; in version 0 nothing says it.
    let all = wire::metadata::MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(all.encode(&mut Writer::new(), 0), Err(EncodeError::UnexpectedNull("topics", 0)));
    // The throttle time is ignorable: older versions drop it.
    let response = wire::metadata::MetadataResponse { throttle_time_ms: 7, ..Default::default() };
    assert_eq!(response.encode(&mut Writer::new(), 0), Ok(()));
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let mut writer = Writer::new();
    writer.raw(&[1, 1]); // software name and version, empty
    writer.raw(&[2, 5, 1, 0xff, 0x87, 0x01, 2, 1, 2]); // tags 5 and 135
    let mut reader = Reader::new(writer.into_bytes());
    let request = wire::api_versions::ApiVersionsRequest::decode(&mut reader, 3);
    assert!(request.is_ok_and(|it| it.client_software_name.is_empty()));
    assert_eq!(reader.finish(), Ok(()));
}
