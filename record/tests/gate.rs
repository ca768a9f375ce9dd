//! Each rule of the produce gate, broken alone, is refused for the right reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::BytesMut;
use record::{
    Batch, BatchBuilder, BatchError, BatchOptions, Codec, Compressed, Compression, HEADER_LEN,
    ProduceRules, ProducerStamp, TimestampType, Validation, check_produced,
};
use types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn batch(count: usize) -> Batch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for index in 0..count {
        builder.push(Some(NOW), Some(format!("k{index}").as_bytes()), Some(b"v"));
    }
    builder.build()
}

/// `batch` with bytes from `at` on replaced; the checksum is made right again.
fn patched(batch: &Batch, at: usize, with: &[u8]) -> Result<Batch, BatchError> {
    let mut bytes = BytesMut::from(&batch.to_bytes()[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(bytes.freeze())
}

fn check(batch: &Batch) -> Result<(), BatchError> {
    check_produced(batch, &ProduceRules::default(), NOW)
}

#[test]
fn a_sound_batch_passes() {
    assert_eq!(check(&batch(3)), Ok(()));
}

#[test]
fn header_fields() {
    let sound = batch(3);
    let count =
        |count: i32, last_offset_delta: i32| Err(BatchError::BadCount { count, last_offset_delta });
    let rows: Vec<(usize, Vec<u8>, Result<(), BatchError>)> = vec![
        (0, 5i64.to_be_bytes().to_vec(), Err(BatchError::ClientOffset(5))),
        (16, vec![1], Err(BatchError::UnsupportedMagic(1))),
        (16, vec![3], Err(BatchError::UnsupportedMagic(3))),
        (21, 5i16.to_be_bytes().to_vec(), Err(BatchError::UnknownCompression(5))),
        (21, 0x20i16.to_be_bytes().to_vec(), Err(BatchError::ClientControl)),
        (21, 0x40i16.to_be_bytes().to_vec(), Err(BatchError::BadAttributes(0x40))),
        (21, 0x100i16.to_be_bytes().to_vec(), Err(BatchError::BadAttributes(0x100))),
        (21, 0x10i16.to_be_bytes().to_vec(), Err(BatchError::BadProducer)),
        (21, 0x08i16.to_be_bytes().to_vec(), Err(BatchError::DatedByBroker)),
        (23, 3i32.to_be_bytes().to_vec(), count(3, 3)),
        (57, 2i32.to_be_bytes().to_vec(), count(2, 2)),
        (57, 0i32.to_be_bytes().to_vec(), count(0, 2)),
        (57, (-1i32).to_be_bytes().to_vec(), count(-1, 2)),
        (23, (-1i32).to_be_bytes().to_vec(), Err(BatchError::BadOffsets)),
        (0, (-1i64).to_be_bytes().to_vec(), Err(BatchError::BadOffsets)),
        (0, i64::MAX.to_be_bytes().to_vec(), Err(BatchError::BadOffsets)),
        (8, 7i32.to_be_bytes().to_vec(), Err(BatchError::BadLength(7))),
        (8, (-1i32).to_be_bytes().to_vec(), Err(BatchError::BadLength(-1))),
        (43, 9i64.to_be_bytes().to_vec(), Err(BatchError::BadProducer)),
    ];
    for (at, with, expected) in rows {
        let result = patched(&sound, at, &with).and_then(|batch| check(&batch));
        assert_eq!(result, expected, "bytes at {at} = {with:?}");
    }
}

#[test]
fn checksum() {
    let sound = batch(3);
    let mut bytes = BytesMut::from(&sound.to_bytes()[..]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let broken = Batch::parse(bytes.freeze()).unwrap();
    assert!(!broken.crc_ok());
    assert!(matches!(check(&broken), Err(BatchError::BadCrc { .. })));
}

#[test]
fn size_limit_is_inclusive() {
    let batch = batch(3);
    let bytes = batch.bytes_total();
    let rules = |bytes_max| ProduceRules { bytes_max, ..ProduceRules::default() };
    assert_eq!(check_produced(&batch, &rules(bytes), NOW), Ok(()));
    assert_eq!(
        check_produced(&batch, &rules(bytes - 1), NOW),
        Err(BatchError::TooLarge { bytes, bytes_max: bytes - 1 })
    );
}

#[test]
fn producer_fields_go_together() {
    let stamped = |id, epoch, sequence, is_transactional| {
        let producer = Some(ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        });
        let mut builder =
            BatchBuilder::new(BatchOptions { producer, is_transactional, ..Default::default() });
        builder.push(Some(NOW), None, Some(b"v"));
        check(&builder.build())
    };
    assert_eq!(stamped(1, 0, 0, false), Ok(()));
    assert_eq!(stamped(1, 0, 0, true), Ok(()));
    assert_eq!(stamped(1, -1, 0, false), Err(BatchError::BadProducer));
    assert_eq!(stamped(1, 0, -1, false), Err(BatchError::BadProducer));
    assert_eq!(stamped(-1, 0, 0, true), Err(BatchError::BadProducer));
}

/// A producer that gives a maximum timestamp of its own invention must not make retention delete its records early.
#[test]
fn the_maximum_timestamp_is_that_of_the_records() {
    let rules = ProduceRules::default();
    let sound = batch(3);
    assert_eq!(rules.admit(&sound, NOW).unwrap(), sound, "nothing to correct");
    for wrong in [-1, 5, NOW.0 - 1, NOW.0 + 1000] {
        let lying = patched(&sound, 35, &wrong.to_be_bytes()).unwrap();
        let admitted = rules.admit(&lying, NOW).unwrap();
        assert!(admitted.crc_ok());
        assert_eq!(admitted, sound, "{wrong}");
    }
    // A batch that is not looked into is at least as young as its base timestamp says.
    let mut builder =
        BatchBuilder::new(BatchOptions { codec: Compression::Gzip.into(), ..Default::default() });
    builder.push(Some(NOW), None, Some(b"v"));
    let lying = patched(&builder.build(), 35, &5i64.to_be_bytes()).unwrap();
    let admitted = rules.admit(&lying, NOW).unwrap();
    assert!(admitted.crc_ok());
    assert_eq!(admitted.max_timestamp(), Some(NOW));
}

#[test]
fn timestamps_keep_to_the_topics_bounds() {
    let at = |times: &[Option<i64>], compression: Compression| {
        let codec = Codec::from(compression);
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..Default::default() });
        for time in times {
            builder.push(time.map(Timestamp), None, Some(b"v"));
        }
        builder.build()
    };
    let rules = ProduceRules {
        timestamp_before_max: Some(Duration::from_secs(10)),
        timestamp_after_max: Some(Duration::from_secs(5)),
        ..ProduceRules::default()
    };
    let check = |times: &[Option<i64>]| check_produced(&at(times, Compression::None), &rules, NOW);
    let bad = |timestamp| Err(BatchError::BadTimestamp { timestamp, now: NOW.0 });
    assert_eq!(check(&[Some(NOW.0 - 10_000), Some(NOW.0 + 5000)]), Ok(()));
    assert_eq!(check(&[Some(NOW.0 - 10_001)]), bad(NOW.0 - 10_001));
    assert_eq!(check(&[Some(NOW.0 + 5001)]), bad(NOW.0 + 5001));
    let told = |time| check(&[Some(time)]).unwrap_err().to_string();
    assert!(told(NOW.0 - 86_400_000).contains("86400000 ms behind this broker's clock"));
    assert!(told(NOW.0 + 86_400_000).contains("message.timestamp.after.max.ms"));
    // The one that is too old hides between two good ones: only the walk can see it.
    assert_eq!(check(&[Some(NOW.0), Some(1000), Some(NOW.0)]), bad(1000));
    assert_eq!(check(&[None, None]), Ok(()), "no timestamp is none too old");
    let hidden = at(&[Some(NOW.0), Some(1000), Some(NOW.0)], Compression::Gzip);
    assert_eq!(check_produced(&hidden, &rules, NOW), Ok(()), "taken by its checksum");
    let full = ProduceRules { validation: Validation::Full, ..rules.clone() };
    assert_eq!(check_produced(&hidden, &full, NOW), bad(1000));
    let append = ProduceRules { timestamp_type: TimestampType::AppendTime, ..rules };
    assert_eq!(check_produced(&at(&[Some(5)], Compression::None), &append, NOW), Ok(()));
}

#[test]
fn records_must_fill_their_batch_exactly() {
    let sound = batch(3);
    // The first record: length at 61, attributes, time delta, offset delta, key length.
    let broken = |at: usize, value: u8| patched(&sound, at, &[value]).and_then(|b| check(&b));
    let bad = |index| Err(BatchError::BadRecord { index });
    assert_eq!(broken(61, 0x7e), bad(0), "longer than the batch");
    assert_eq!(broken(61, 0x01), bad(0), "negative length");
    assert_eq!(broken(64, 0x02), bad(0), "offset delta 1 first");
    assert_eq!(broken(65, 0x03), bad(0), "key length -2");
    assert_eq!(broken(65, 0x7e), bad(0), "key longer than the record");
    let mut longer = BytesMut::from(&sound.to_bytes()[..]);
    longer.extend_from_slice(&[0, 0]);
    let length = (longer.len() - 12) as i32;
    let grown = Batch::parse(longer.freeze());
    assert!(grown.is_err(), "bytes behind the batch are another batch");
    let mut longer = BytesMut::from(&sound.to_bytes()[..]);
    longer.extend_from_slice(&[0, 0]);
    longer[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&longer[21..]);
    longer[17..21].copy_from_slice(&crc.to_be_bytes());
    let trailing = Batch::parse(longer.freeze()).unwrap();
    assert_eq!(check(&trailing), Err(BatchError::TrailingBytes(2)));
    let read: Vec<_> = trailing.records(1000).collect();
    assert_eq!(read.len(), 4);
    assert_eq!(read[3], Err(BatchError::TrailingBytes(2)));
}

#[test]
fn compacted_topics_need_keys_also_inside_compressed_batches() {
    let rules = ProduceRules { keys_required: true, ..ProduceRules::default() };
    for compression in Compression::ALL {
        let codec = Codec::from(compression);
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..Default::default() });
        builder.push(Some(NOW), Some(b"k"), None).push(Some(NOW), None, Some(b"v"));
        let result = check_produced(&builder.build(), &rules, NOW);
        assert_eq!(result, Err(BatchError::KeyMissing { index: 1 }), "{compression}");
    }
}

#[test]
fn admit_gives_the_form_to_store() {
    let plain = batch(5);
    let admitted = ProduceRules::default().admit(&plain, NOW).unwrap();
    assert_eq!(admitted.to_bytes().as_ptr(), plain.to_bytes().as_ptr(), "nothing is copied");
    let rules = ProduceRules {
        codec: Some(Compression::Zstd.into()),
        timestamp_type: TimestampType::AppendTime,
        ..ProduceRules::default()
    };
    let later = Timestamp(NOW.0 + 77);
    let admitted = rules.admit(&plain, later).unwrap();
    assert!(admitted.crc_ok());
    assert_eq!(admitted.compression(), Ok(Compression::Zstd));
    assert!(admitted.records(1000).all(|record| record.unwrap().timestamp == Some(later)));
    let dated = Err(BatchError::DatedByBroker);
    assert_eq!(rules.admit(&admitted, later).map(drop), dated, "no producer dates for the broker");
}

#[test]
fn what_is_compressed_anew_is_what_its_header_says() {
    let options = BatchOptions { codec: Compression::Gzip.into(), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    builder.push(Some(NOW), Some(b"k"), Some(b"v"));
    let packed = builder.build();
    let rules = ProduceRules { codec: Some(Compression::Zstd.into()), ..ProduceRules::default() };
    assert!(rules.admit(&packed, NOW).is_ok());
    // Three records by its header, one inside.
    let three =
        patched(&patched(&packed, 23, &2i32.to_be_bytes()).unwrap(), 57, &3i32.to_be_bytes());
    let three = three.unwrap();
    assert_eq!(check(&three), Ok(()), "taken by its checksum where it stays as it is");
    let last = (i32::MAX - 1).to_be_bytes();
    let most = patched(&patched(&packed, 23, &last).unwrap(), 57, &i32::MAX.to_be_bytes()).unwrap();
    assert!(matches!(check(&most), Err(BatchError::BadCount { .. })), "more than can be read");
    assert_eq!(rules.admit(&three, NOW).map(drop), Err(BatchError::BadRecord { index: 1 }));
}

#[test]
fn only_what_must_be_looked_into_or_compressed_anew_is_expanded() {
    let options = BatchOptions { codec: Compression::Lz4.into(), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    builder.push(Some(NOW), Some(b"k"), Some(b"v"));
    let (packed, plain) = (builder.build(), batch(1));
    let rules = ProduceRules::default;
    let with = |codec: Compression| ProduceRules { codec: Some(codec.into()), ..rules() };
    let full = ProduceRules { validation: Validation::Full, ..rules() };
    let keyed = ProduceRules { keys_required: true, ..rules() };
    let rows = [
        (rules(), false),
        (with(Compression::Lz4), false),
        (with(Compression::Gzip), true),
        (full, true),
        (keyed, true),
    ];
    for (rules, expands) in rows {
        assert_eq!(rules.expands(&packed), expands, "{rules:?}");
        assert!(!rules.expands(&plain), "{rules:?}");
    }
}

#[test]
fn expansion_stops_at_the_cap() {
    for compression in Compression::ALL {
        let codec = Codec::from(compression);
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..Default::default() });
        builder.push(Some(NOW), None, Some(&vec![0; 1 << 20]));
        let bomb = builder.build();
        let plain_len = bomb.expanded(2 << 20).unwrap().len();
        if compression != Compression::None {
            assert!(bomb.bytes_total() < 60_000, "{compression}");
            let error = BatchError::ExpandsTooFar { bytes_max: plain_len - 1 };
            assert_eq!(bomb.expanded(plain_len - 1), Err(error.clone()), "{compression}");
            assert_eq!(bomb.records(plain_len - 1).next(), Some(Err(error)));
        }
        assert_eq!(bomb.expanded(plain_len).map(|b| b.len()), Ok(plain_len), "{compression}");
    }
}

/// Found by fuzzing: a few bytes in the legacy frame made the decoder reserve 16 MiB, and what it read no client can.
#[test]
fn lz4_is_read_in_the_frame_that_clients_read_alone() {
    let lz4 = |payload: &[u8]| {
        let mut header = batch(1).to_bytes()[..HEADER_LEN].to_vec();
        header[8..12].copy_from_slice(&((HEADER_LEN + payload.len()) as i32 - 12).to_be_bytes());
        header[22] = Compression::Lz4.id();
        Batch::parse([&header[..], payload].concat().into()).unwrap().expanded(1 << 20)
    };
    // The magic of each frame, then one block of one literal.
    let block = b"\x02\x00\x00\x00\x10a";
    let legacy = [&b"\x02\x21\x4c\x18"[..], block].concat();
    let damaged = Err(BatchError::BadCompression(Compressed("lz4")));
    assert_eq!(lz4(&legacy), damaged);
    assert_eq!(lz4(b""), damaged);
    let frame = [&b"\x04\x22\x4d\x18\x60\x40\x82"[..], block, &[0; 4]].concat();
    assert_eq!(lz4(&frame), Ok(bytes::Bytes::from_static(b"a")));
}
