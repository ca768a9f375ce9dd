//! Batches that other implementations wrote read as what was sent.
//!
//! `testdata/*.log` are segments of Apache Kafka 4.3.1. The same eight records were sent by the Java client, kafka-python 3.0
//! and librdkafka 2.16 with each codec; `java-txn` holds a committed and an aborted transaction, `java-appendtime` comes
//! from a topic with `message.timestamp.type=LogAppendTime`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use record::{
    Batch, Batches, Compression, ControlRecord, ProduceRules, Record, TimestampType, TxnDecision,
    Validation, check_produced,
};
use types::{LeaderEpoch, Offset, Timestamp};

const CAP: usize = 1 << 20;
const BASE: i64 = 1_700_000_000_000;

fn read(name: &str) -> Vec<Batch> {
    let bytes: &'static [u8] = match name {
        "java-none" => include_bytes!("../testdata/java-none.log"),
        "java-gzip" => include_bytes!("../testdata/java-gzip.log"),
        "java-snappy" => include_bytes!("../testdata/java-snappy.log"),
        "java-lz4" => include_bytes!("../testdata/java-lz4.log"),
        "java-zstd" => include_bytes!("../testdata/java-zstd.log"),
        "java-txn" => include_bytes!("../testdata/java-txn.log"),
        "java-appendtime" => include_bytes!("../testdata/java-appendtime.log"),
        "python-none" => include_bytes!("../testdata/python-none.log"),
        "python-gzip" => include_bytes!("../testdata/python-gzip.log"),
        "python-snappy" => include_bytes!("../testdata/python-snappy.log"),
        "python-lz4" => include_bytes!("../testdata/python-lz4.log"),
        "python-zstd" => include_bytes!("../testdata/python-zstd.log"),
        "librdkafka-none" => include_bytes!("../testdata/librdkafka-none.log"),
        "librdkafka-gzip" => include_bytes!("../testdata/librdkafka-gzip.log"),
        "librdkafka-snappy" => include_bytes!("../testdata/librdkafka-snappy.log"),
        "librdkafka-lz4" => include_bytes!("../testdata/librdkafka-lz4.log"),
        "librdkafka-zstd" => include_bytes!("../testdata/librdkafka-zstd.log"),
        _ => panic!("no golden file {name}"),
    };
    Batches::split(Bytes::from_static(bytes)).collect::<Result<_, _>>().unwrap()
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records(CAP).collect::<Result<_, _>>().unwrap()
}

/// What each client was asked to send as record `index`.
fn check_sent(record: &Record, index: usize, big: usize, null_header: Option<&[u8]>) {
    let mut key = Some(format!("key-{index}").into_bytes());
    let mut value = Some(format!("value-{index}{}", "-".repeat(20 * index)).into_bytes());
    match index {
        2 => key = None,
        3 => value = None,
        4 => (key, value) = (Some(Vec::new()), Some(Vec::new())),
        6 => value = Some(vec![b'x'; big]),
        _ => {}
    }
    assert_eq!(record.offset, Offset(index as i64));
    assert_eq!(record.key.as_deref(), key.as_deref(), "key of {index}");
    assert_eq!(record.value.as_deref(), value.as_deref(), "value of {index}");
    let late = if index == 7 { 3000 } else { 0 };
    assert_eq!(record.timestamp, Some(Timestamp(BASE + 7 * index as i64 - late)));
    let headers: Vec<_> =
        record.headers.iter().map(|h| (h.key.as_ref(), h.value.as_deref())).collect();
    let sent: Vec<(&[u8], Option<&[u8]>)> =
        vec![(b"h", Some(b"1")), (b"h", Some(b"2")), (b"n", null_header), (b"", Some(b""))];
    assert_eq!(headers, if index == 5 { sent } else { Vec::new() }, "headers of {index}");
}

#[test]
fn every_client_and_codec_reads_as_sent() {
    for client in ["java", "python", "librdkafka"] {
        for compression in Compression::ALL {
            let name = format!("{client}-{compression}");
            let batches = read(&name);
            let all: Vec<Record> = batches.iter().flat_map(records).collect();
            assert_eq!(all.len(), 8, "{name}");
            let big = if compression == Compression::None { 300 } else { 70_000 };
            let null_header: Option<&[u8]> = if client == "python" { Some(b"") } else { None };
            for (index, record) in all.iter().enumerate() {
                check_sent(record, index, big, null_header);
            }
            for batch in &batches {
                assert!(batch.crc_ok(), "{name}");
                assert_eq!(batch.compression(), Ok(compression), "{name}");
                assert_eq!(batch.timestamp_type(), TimestampType::CreateTime);
                assert_eq!(batch.leader_epoch(), Some(LeaderEpoch(0)));
                let largest = records(batch).iter().filter_map(|r| r.timestamp).max();
                assert_eq!(batch.max_timestamp(), largest, "{name}");
            }
        }
    }
}

#[test]
fn the_produce_gate_admits_them_all() {
    let rules = ProduceRules { validation: Validation::Full, ..ProduceRules::default() };
    for client in ["java", "python", "librdkafka"] {
        for compression in Compression::ALL {
            for batch in read(&format!("{client}-{compression}")) {
                // As the client sent it: not yet placed.
                let sent = batch.placed(Offset(0), LeaderEpoch(-1));
                assert_eq!(check_produced(&sent, &rules, Timestamp(BASE)), Ok(()), "{batch:?}");
                let placed = sent.placed(batch.base_offset(), LeaderEpoch(0));
                assert_eq!(placed.to_bytes(), batch.to_bytes(), "placing is what Kafka did");
            }
        }
    }
}

#[test]
fn transactions_and_their_markers() {
    let batches = read("java-txn");
    let markers: Vec<_> = batches
        .iter()
        .filter(|batch| batch.is_control())
        .map(|batch| {
            assert_eq!(batch.producer(), None, "a marker has no sequence");
            assert!(batch.producer_identity().is_some() && batch.is_transactional());
            ControlRecord::parse(&records(batch)[0]).unwrap()
        })
        .collect();
    let decisions: Vec<_> = markers
        .iter()
        .map(|marker| match marker {
            ControlRecord::TxnMarker { decision, .. } => *decision,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(decisions, [TxnDecision::Commit, TxnDecision::Abort]);
    for batch in batches.iter().filter(|batch| !batch.is_control()) {
        let stamp = batch.producer().unwrap();
        assert!(batch.is_transactional());
        assert_eq!(stamp.base_sequence.0, 0, "each transaction has an epoch of its own");
        assert_eq!(batch.last_sequence().map(|sequence| sequence.0), Some(7));
    }
    let marker = batches.iter().find(|batch| batch.is_control()).unwrap();
    let ControlRecord::TxnMarker { decision, coordinator_epoch } =
        ControlRecord::parse(&records(marker)[0]).unwrap()
    else {
        unreachable!()
    };
    let identity = marker.producer_identity().unwrap();
    let now = marker.max_timestamp().unwrap();
    let ours = Batch::txn_marker(identity, decision, coordinator_epoch, now);
    let ours = ours.placed(marker.base_offset(), LeaderEpoch(0));
    assert_eq!(ours.to_bytes(), marker.to_bytes(), "our markers are Kafka's byte by byte");
}

#[test]
fn append_time_counts_for_every_record() {
    let batches = read("java-appendtime");
    for batch in &batches {
        assert_eq!(batch.timestamp_type(), TimestampType::AppendTime);
        assert!(batch.crc_ok());
        let times: Vec<_> = records(batch).iter().map(|record| record.timestamp).collect();
        assert!(times.iter().all(|time| *time == batch.max_timestamp()));
        // Dating it anew gives the sum that a full pass would.
        let dated = batch.dated(Timestamp(42));
        assert!(dated.crc_ok());
        assert_eq!(dated.dated(batch.max_timestamp().unwrap()).to_bytes(), batch.to_bytes());
    }
}
