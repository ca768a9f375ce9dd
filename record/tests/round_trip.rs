//! What is built reads back as it was, in every codec; what is patched stays whole.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::prelude::*;
use record::{
    Batch, BatchBuilder, BatchOptions, Batches, Codec, Compression, ProduceRules, ProducerStamp,
    Record, RecordHeader, Validation, check_produced,
};
use types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const CAP: usize = 16 << 20;

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from),
        (any::<u8>(), 0..max * 20).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    let header = (any_bytes(10), prop::option::of(any_bytes(10)))
        .prop_map(|(key, value)| RecordHeader { key, value });
    (
        prop::option::of(0i64..4_000_000_000_000),
        prop::option::of(any_bytes(40)),
        prop::option::of(any_bytes(200)),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(time, key, value, headers)| Record {
            offset: Offset(0),
            timestamp: time.map(Timestamp),
            key,
            value,
            headers,
        })
}

fn build(records: &[Record], codec: Codec, producer: Option<ProducerStamp>) -> Batch {
    let mut builder =
        BatchBuilder::new(BatchOptions { codec, producer, ..BatchOptions::default() });
    for record in records {
        builder.push_record(record);
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_codec_gives_back_what_went_in(
        records in prop::collection::vec(any_record(), 1..30),
        base in 0i64..1_000_000,
    ) {
        let rules = ProduceRules {
            bytes_max: CAP,
            timestamp_after_max: None,
            validation: Validation::Full,
            ..ProduceRules::default()
        };
        for compression in Compression::ALL {
            let batch = build(&records, compression.into(), None);
            prop_assert_eq!(check_produced(&batch, &rules, Timestamp(0)), Ok(()));
            let placed = batch.placed(Offset(base), LeaderEpoch(3));
            prop_assert!(placed.crc_ok());
            prop_assert_eq!(placed.last_offset(), Offset(base + records.len() as i64 - 1));
            let read: Result<Vec<Record>, _> = placed.records(CAP).collect();
            let read = read.unwrap();
            for (index, (read, sent)) in read.iter().zip(&records).enumerate() {
                let mut sent = sent.clone();
                sent.offset = Offset(base + index as i64);
                prop_assert_eq!(read, &sent);
            }
            prop_assert_eq!(read.len(), records.len());

            let (head, payload) = placed.clone().into_parts();
            let whole = [&head[..], &payload[..]].concat();
            prop_assert_eq!(&whole[..], &placed.to_bytes()[..]);
            prop_assert_eq!(Batch::parse(Bytes::from(whole)).unwrap(), placed);
        }
    }

    #[test]
    fn any_codec_becomes_any_other(
        records in prop::collection::vec(any_record(), 1..10),
    ) {
        for from in Compression::ALL {
            for to in Compression::ALL {
                let batch = build(&records, from.into(), None).placed(Offset(7), LeaderEpoch(1));
                let changed = batch.recompressed(to.into(), &batch.expanded(CAP).unwrap()).unwrap();
                prop_assert!(changed.crc_ok());
                prop_assert_eq!(changed.compression(), Ok(to));
                let a: Vec<_> = batch.records(CAP).map(Result::unwrap).collect();
                let b: Vec<_> = changed.records(CAP).map(Result::unwrap).collect();
                prop_assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn dating_keeps_the_sum_right(
        records in prop::collection::vec(any_record(), 1..10),
        now in 0i64..4_000_000_000_000,
    ) {
        let dated = build(&records, Compression::None.into(), None).dated(Timestamp(now));
        prop_assert!(dated.crc_ok());
        prop_assert!(dated.records(CAP).all(|r| r.unwrap().timestamp == Some(Timestamp(now))));
    }

    #[test]
    fn a_run_splits_into_its_batches(
        sizes in prop::collection::vec(1usize..5, 1..6),
        cut in 1usize..60,
    ) {
        let record = Record { value: Some(Bytes::from_static(b"v")), ..Record::default() };
        let mut run = Vec::new();
        let mut base = 0;
        for size in &sizes {
            let batch = build(&vec![record.clone(); *size], Compression::None.into(), None);
            run.extend_from_slice(&batch.placed(Offset(base), LeaderEpoch(0)).to_bytes());
            base += *size as i64;
        }
        let whole: Vec<Batch> = Batches::split(run.clone().into()).map(Result::unwrap).collect();
        prop_assert_eq!(whole.len(), sizes.len());
        prop_assert_eq!(whole.last().unwrap().end_offset(), Offset(base));
        let cut_run = Bytes::from(run).slice(..).split_to(whole.iter().map(|b| b.bytes_total()).sum::<usize>() - cut);
        let mut batches: Vec<_> = Batches::split(cut_run).collect();
        prop_assert!(batches.pop().unwrap().is_err_and(|error| error.is_partial()));
        prop_assert!(batches.into_iter().all(|batch| batch.is_ok()));
    }
}

#[test]
fn levels_are_honoured_and_clamped() {
    let record = Record {
        value: Some(Bytes::from("the quick brown fox ".repeat(2000))),
        ..Record::default()
    };
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Lz4] {
        for level in [i32::MIN, -1, 0, 1, 9, 22, i32::MAX] {
            let codec = Codec::with_level(compression, level);
            let batch = build(std::slice::from_ref(&record), codec, None);
            let read = batch.records(CAP).next().unwrap().unwrap();
            assert_eq!(read.value, record.value, "{compression} {level}");
        }
    }
}

#[test]
fn sequences_wrap_inside_a_batch() {
    let stamp = ProducerStamp {
        id: ProducerId(9),
        epoch: ProducerEpoch(2),
        base_sequence: Sequence(i32::MAX - 1),
    };
    let records = vec![Record::default(); 4];
    let batch = build(&records, Compression::None.into(), Some(stamp));
    assert_eq!(batch.producer(), Some(stamp));
    assert_eq!(batch.last_sequence(), Some(Sequence(1)));
    assert_eq!(check_produced(&batch, &ProduceRules::default(), Timestamp(0)), Ok(()));
}

#[test]
fn the_checksum_agrees_with_another_implementation() {
    let batch = build(&vec![Record::default(); 1000], Compression::None.into(), None);
    assert_eq!(crc32c::crc32c(&batch.to_bytes()[21..]), batch.crc());
}
