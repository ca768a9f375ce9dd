//! Bytes that no client should send: the broker answers with Kafka's error or closes that connection, keeps its memory
//! bounded and goes on serving everybody else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Scratch, Server};
use record::{BatchBuilder, BatchOptions};
use types::ErrorCode;
use wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::metadata::{MetadataRequest, MetadataResponse};
use wire::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use wire::{ApiKey, Message, Reader, ResponseHeader, request_frame};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.bootstrap).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes; the broker may close before it has taken them all.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{error}"
        ),
    }
}

/// The next frame, or `None` when the broker has closed the connection.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error)
            if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
        {
            return None;
        }
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(prefix)).unwrap()];
    stream.read_exact(&mut frame).unwrap();
    Some(frame)
}

/// The next answer, in `version`.
#[track_caller]
fn answer<M: Message>(stream: &mut TcpStream, version: i16, correlation: i32) -> M {
    let frame = receive(stream).expect("an answer");
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, M::API_KEY.response_header_version(version));
    assert_eq!(header.unwrap().correlation_id, correlation);
    M::decode(&mut reader, version).unwrap()
}

/// The broker still serves: somebody else can publish and read.
#[track_caller]
fn check_alive(server: &Server) {
    server.ok(&["produce", "alive"], "yes\n");
    let read = server.ok(&["consume", "alive", "--from", "earliest", "-n", "1"], "");
    assert_eq!(read, "yes\n");
}

#[test]
fn frames_that_are_no_frames_close_their_connection() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let before = server.memory();
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff][..],               // a negative length
        &[0x7f, 0xff, 0xff, 0xff, 0, 18, 0, 3],      // two gigabytes
        &[0x06, 0x40, 0, 1, 0, 18, 0, 3],            // one byte over the limit
        &[0, 0, 0, 0],                               // nothing
        &[0, 0, 0, 3, 0, 18, 0],                     // too short for a header
        &[0, 0, 0, 8, 0x7f, 0xff, 0, 0, 0, 0, 0, 1], // no such request
        &[0, 0, 0, 8, 0, 4, 0, 0, 0, 0, 0, 1],       // a request that is no more
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03], // TLS
    ] {
        let mut stream = connect(&server);
        send(&mut stream, bytes);
        assert_eq!(receive(&mut stream), None, "{bytes:?}");
    }
    check_alive(&server);
    assert!(server.memory() < before + (64 << 20), "{} -> {}", before, server.memory());
    server.stop();
}

#[test]
fn a_frame_that_ends_early_harms_nobody() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let whole = request_frame(&MetadataRequest::default(), 9, 1, Some("t".into())).unwrap();
    for end in 0..whole.len() {
        let mut stream = connect(&server);
        send(&mut stream, &whole[..end]);
        drop(stream);
        // As long as announced, but not what was announced.
        let mut stream = connect(&server);
        let length = i32::try_from(end.saturating_sub(4)).unwrap().to_be_bytes();
        send(&mut stream, &length);
        send(&mut stream, whole.get(4..end).unwrap_or_default());
        drop(stream);
    }
    check_alive(&server);
    server.stop();
}

#[test]
fn noise_of_any_kind_harms_nobody() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let keys: Vec<ApiKey> = ApiKey::all().collect();
    for _ in 0..400 {
        let key = keys[random() as usize % keys.len()];
        let (low, high) = key.valid_versions();
        let version = low + (random() % (high - low + 1) as u64) as i16;
        let mut body = Vec::new();
        body.extend(key.as_i16().to_be_bytes());
        body.extend(version.to_be_bytes());
        body.extend([0, 0, 0, 1, 0xff, 0xff]);
        // Small numbers often: they make more sense as lengths and flags than bytes of every value.
        let len = random() % 60;
        body.extend((0..len).map(|_| {
            let byte = random();
            if byte & 0x300 == 0 { byte as u8 } else { (byte % 5) as u8 }
        }));
        let mut stream = connect(&server);
        send(&mut stream, &i32::try_from(body.len()).unwrap().to_be_bytes());
        send(&mut stream, &body);
        // Whatever comes back, or nothing, within a moment.
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let _ = stream.read(&mut [0; 256]);
    }
    check_alive(&server);
    assert!(server.memory() < 256 << 20, "{}", server.memory());
    server.stop();
}

#[test]
fn an_unknown_version_is_answered_as_kafka_does() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    // ApiVersions: the answer is in version 0 and says which versions there are.
    let mut stream = connect(&server);
    let mut frame =
        request_frame(&ApiVersionsRequest::default(), 3, 7, Some("t".into())).unwrap().to_vec();
    frame[6..8].copy_from_slice(&99_i16.to_be_bytes());
    send(&mut stream, &frame);
    let told: ApiVersionsResponse = answer(&mut stream, 0, 7);
    assert_eq!(told.error_code, ErrorCode::UnsupportedVersion.as_i16());
    assert!(told.api_keys.iter().any(|api| api.api_key == ApiKey::ApiVersions.as_i16()));
    // The connection goes on.
    send(&mut stream, &request_frame(&ApiVersionsRequest::default(), 0, 8, None).unwrap());
    let told: ApiVersionsResponse = answer(&mut stream, 0, 8);
    assert_eq!(told.error_code, 0);
    // Any other request: there is no version in which to answer.
    let mut frame =
        request_frame(&MetadataRequest::default(), 9, 9, Some("t".into())).unwrap().to_vec();
    frame[6..8].copy_from_slice(&99_i16.to_be_bytes());
    send(&mut stream, &frame);
    assert_eq!(receive(&mut stream), None);
    check_alive(&server);
    server.stop();
}

#[test]
fn slow_connections_hold_up_nobody() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let before = server.memory();
    // Each has announced a large request and sends no more than its beginning.
    let idle: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = connect(&server);
            send(&mut stream, &[0x06, 0x00, 0, 0, 0, 0, 0, 3]);
            stream
        })
        .collect();
    check_alive(&server);
    let used = server.memory().saturating_sub(before);
    assert!(used < 64 << 20, "{used} bytes for {} connections", idle.len());
    drop(idle);
    check_alive(&server);
    server.stop();
}

/// Connections that nobody counts take the files that the log needs: the directory would be given up as failed.
#[test]
fn a_flood_of_connections_leaves_the_disk_its_files() {
    let scratch = Scratch::new();
    let server = Server::dev_with_files(scratch.path(), 128);
    server.ok(&["topic", "create", "t", "--set", "segment.bytes=1048576"], "");
    let mut before = connect(&server);
    let flood: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    std::thread::sleep(Duration::from_millis(300));
    let large = batch(&vec![b'x'; 900_000]);
    for correlation in 0..20 {
        assert_eq!(produce(&mut before, correlation, &large), ErrorCode::None, "a segment each");
    }
    drop(flood);
    check_alive(&server);
    server.stop();
}

#[test]
fn large_requests_share_a_bounded_memory() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &["--set", "queued.max.request.bytes=8388608"]);
    server.ok(&["topic", "create", "t"], "");
    let before = server.memory();
    let begun: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&server);
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = stream.write_all(&[0x06, 0x00, 0, 0, 0, 0, 0, 3]);
            // It takes what fits, and no more.
            let _ = stream.write_all(&vec![0; 12 << 20]);
            stream
        })
        .collect();
    let used = server.memory().saturating_sub(before);
    assert!(used < 64 << 20, "{used} bytes for {} requests", begun.len());
    check_alive(&server);
    // A producer's ordinary request finds room beside them.
    let large = batch(&vec![b'x'; 900_000]);
    assert_eq!(produce(&mut connect(&server), 1, &large), ErrorCode::None);
    drop(begun);
    assert_eq!(produce(&mut connect(&server), 1, &large), ErrorCode::None);
    server.stop();
}

/// A batch of one record.
fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(Some(types::Timestamp(1)), None, Some(value));
    builder.build().to_bytes().to_vec()
}

/// Publishes to the first partition of topic `t`.
#[track_caller]
fn produce(stream: &mut TcpStream, correlation: i32, records: &[u8]) -> ErrorCode {
    let partition = PartitionProduceData { index: 0, records: Some(records.to_vec().into()) };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    send(stream, &request_frame(&request, 9, correlation, None).unwrap());
    let told: ProduceResponse = answer(stream, 9, correlation);
    ErrorCode::from_i16(told.responses[0].partition_responses[0].error_code).unwrap()
}

#[test]
fn a_batch_that_is_not_sound_is_not_stored() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    server.ok(&["topic", "create", "t"], "");
    let sound = batch(b"value");
    let mut stream = connect(&server);
    let mut correlation = 0;
    let mut produce = |records: &[u8]| {
        correlation += 1;
        produce(&mut stream, correlation, records)
    };
    assert_eq!(produce(&sound), ErrorCode::None);
    let mut wrong_crc = sound.to_vec();
    *wrong_crc.last_mut().unwrap() ^= 1;
    assert_eq!(produce(&wrong_crc), ErrorCode::CorruptMessage);
    // As Kafka: not a code that clients try again with.
    for len in [0, 10, 30, sound.len() - 1] {
        assert_eq!(produce(&sound[..len]), ErrorCode::InvalidRecord, "{len} bytes");
    }
    assert_eq!(
        produce(b"no batch at all, only some text that is long enough for a header"),
        ErrorCode::CorruptMessage
    );
    let mut old_magic = sound.to_vec();
    old_magic[16] = 1;
    assert_eq!(produce(&old_magic), ErrorCode::InvalidRecord);
    // Messages of formats 0 and 1 are shorter than a batch's header.
    let mut old_set = vec![0; 34];
    old_set[11] = 22;
    assert_eq!(produce(&old_set), ErrorCode::InvalidRecord);
    let mut no_magic = sound.to_vec();
    no_magic[16] = 3;
    assert_eq!(produce(&no_magic), ErrorCode::CorruptMessage);
    assert_eq!(produce(&sound), ErrorCode::None, "the connection goes on");
    let read = server.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read, "value\nvalue\n");
    server.stop();
}

#[test]
fn answers_come_in_the_order_of_the_questions() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let mut stream = connect(&server);
    let mut frames = Vec::new();
    for correlation in 0..200 {
        let frame = if correlation % 3 == 0 {
            request_frame(&ApiVersionsRequest::default(), 0, correlation, None)
        } else {
            request_frame(&MetadataRequest::default(), 9, correlation, None)
        };
        frames.extend_from_slice(&frame.unwrap());
    }
    send(&mut stream, &frames);
    for correlation in 0..200 {
        if correlation % 3 == 0 {
            let _: ApiVersionsResponse = answer(&mut stream, 0, correlation);
        } else {
            let _: MetadataResponse = answer(&mut stream, 9, correlation);
        }
    }
    server.stop();
}
