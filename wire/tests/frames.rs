//! Frames and headers: what precedes a message, and a fetch response around records that lie elsewhere.

use bytes::Bytes;
use wire::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use wire::{
    ApiKey, FrameError, Piece, Reader, Records, RequestHeader, ResponseHeader, Writer,
    api_versions_fallback, frame_len, request_frame, response_frame, splice,
};

#[test]
fn lengths_are_checked_before_anything_is_reserved() {
    assert_eq!(frame_len([0, 0, 1, 0], 256), Ok(256));
    assert_eq!(frame_len([0; 4], 0), Ok(0));
    assert_eq!(frame_len([0, 0, 1, 0], 255), Err(FrameError::TooLarge { length: 256, most: 255 }));
    assert_eq!(frame_len([0xff; 4], 255), Err(FrameError::Negative(-1)));
}

#[test]
fn headers_have_tags_in_flexible_versions_and_an_old_client_id_in_all() {
    let header = RequestHeader::new(ApiKey::Metadata, 9, 5, Some("me".into()));
    let mut writer = Writer::new();
    header.encode(&mut writer, 2).expect("short");
    let bytes = writer.into_bytes();
    assert_eq!(&bytes[..], [0, 3, 0, 9, 0, 0, 0, 5, 0, 2, b'm', b'e', 0]);
    let mut reader = Reader::new(bytes);
    assert_eq!(RequestHeader::of_frame(&mut reader), Ok(header));
    assert_eq!(reader.finish(), Ok(()));

    // An unknown key, an unknown version: the header is read as far as it can be understood.
    for (key, version) in [(3, 99), (1000, 0), (4, 0), (-1, -1)] {
        let strange = RequestHeader {
            request_api_key: key,
            request_api_version: version,
            correlation_id: 77,
            client_id: None,
        };
        let mut writer = Writer::new();
        strange.encode(&mut writer, 1).expect("short");
        assert_eq!(RequestHeader::of_frame(&mut Reader::new(writer.into_bytes())), Ok(strange));
    }
}

#[test]
fn header_versions_follow_the_message() {
    let cases = [
        (ApiKey::Metadata, 8, 1, 0),
        (ApiKey::Metadata, 9, 2, 1),
        (ApiKey::ApiVersions, 2, 1, 0),
        (ApiKey::ApiVersions, 3, 2, 0),
        (ApiKey::SaslHandshake, 1, 1, 0),
        (ApiKey::ConsumerGroupHeartbeat, 0, 2, 1),
    ];
    for (key, version, request, response) in cases {
        assert_eq!(key.request_header_version(version), request, "{}", key.name());
        assert_eq!(key.response_header_version(version), response, "{}", key.name());
    }
}

#[test]
fn drafts_are_not_offered() {
    assert!(ApiKey::InitProducerId.latest_unstable());
    assert_eq!(ApiKey::InitProducerId.stable_versions(), (0, 5));
    assert_eq!(ApiKey::InitProducerId.valid_versions(), (0, 6));
    assert_eq!(ApiKey::Produce.stable_versions(), (3, 13));
    assert_eq!(ApiKey::Fetch.stable_versions(), (4, 18));
    assert!(ApiKey::Vote.on_brokers() != ApiKey::Produce.on_brokers());
}

#[test]
fn a_client_of_a_later_release_learns_what_to_ask_next() {
    let answer = api_versions_fallback();
    let frame = response_frame(&answer, 0, 9).expect("version 0");
    // Length, correlation id, UNSUPPORTED_VERSION, one key: ApiVersions itself. The form that 0.10 brokers used.
    assert_eq!(&frame[..], [0, 0, 0, 16, 0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
}

#[test]
fn whole_frames_carry_their_length() {
    let request = wire::heartbeat::HeartbeatRequest { group_id: "g".into(), ..Default::default() };
    let frame = request_frame(&request, 4, 1, Some("c".into())).expect("small");
    let prefix = *frame.first_chunk().expect("a prefix");
    assert_eq!(frame_len(prefix, 1000), Ok(frame.len() - 4));
    let mut reader = Reader::new(frame.slice(4..));
    let header = RequestHeader::of_frame(&mut reader).expect("whole");
    assert_eq!(header.api_key(), Some(ApiKey::Heartbeat));
    assert_eq!(wire::heartbeat::HeartbeatRequest::decode(&mut reader, 4), Ok(request));
    assert_eq!(reader.finish(), Ok(()));
}

/// Records that lie elsewhere: only their length is known.
#[derive(Clone, PartialEq, Debug)]
struct Elsewhere(u8, usize);

impl Records for Elsewhere {
    fn len(&self) -> usize {
        self.1
    }
}

fn response<R>(records: Vec<Option<R>>) -> FetchResponse<R> {
    let partitions = records
        .into_iter()
        .enumerate()
        .map(|(index, records)| PartitionData {
            partition_index: index as i32,
            high_watermark: 40,
            records,
            ..PartitionData::default()
        })
        .collect();
    let topic = FetchableTopicResponse {
        topic: "orders".into(),
        topic_id: types::Uuid([9; 16]),
        partitions,
    };
    FetchResponse { responses: vec![topic], ..FetchResponse::default() }
}

#[test]
fn records_elsewhere_land_where_their_bytes_belong() {
    let lengths = [Some(5), None, Some(0), Some(300), Some(1)];
    let fill = |index: usize, length: usize| Bytes::from(vec![index as u8; length]);
    for version in 4..=18 {
        let named = |index: usize| if version >= 13 { index } else { index + 100 };
        let mut elsewhere = response(
            (lengths.iter().enumerate())
                .map(|(index, length)| length.map(|length| Elsewhere(named(index) as u8, length)))
                .collect(),
        );
        let mut resident = response(
            (lengths.iter().enumerate())
                .map(|(index, length)| length.map(|length| fill(named(index), length)))
                .collect(),
        );
        if version >= 13 {
            elsewhere.responses[0].topic = Default::default();
            resident.responses[0].topic = Default::default();
        } else {
            elsewhere.responses[0].topic_id = Default::default();
            resident.responses[0].topic_id = Default::default();
        }
        let header = ResponseHeader { correlation_id: 3 };
        let whole = response_frame(&resident, version, 3).expect("in memory");
        let (pieces, total) = splice(elsewhere, header, version).expect("spliced");
        assert_eq!(total, whole.len());
        // Three carriers with bytes, what lies before each, and the tags after the last.
        assert_eq!(pieces.len(), if version >= 12 { 7 } else { 6 });
        let joined: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Mem(bytes) => bytes.to_vec(),
                Piece::Records(Elsewhere(name, length)) => vec![*name; *length],
            })
            .collect();
        assert_eq!(joined, whole, "version {version}");

        // What a client decodes are slices of the frame.
        let mut reader = Reader::new(whole.slice(4..));
        ResponseHeader::decode(&mut reader, ApiKey::Fetch.response_header_version(version))
            .expect("a header");
        let decoded = FetchResponse::decode(&mut reader, version).expect("a response");
        assert_eq!(reader.finish(), Ok(()));
        let records = decoded.responses[0].partitions[3].records.clone().expect("records");
        assert_eq!(records.len(), 300);
        assert!(whole.as_ptr_range().contains(&records.as_ptr()));
    }
}

#[test]
fn records_elsewhere_cannot_be_written_into_memory() {
    let refused = response(vec![Some(Elsewhere(1, 1))]).encode(&mut Writer::new(), 12);
    assert!(refused.is_err());
}
