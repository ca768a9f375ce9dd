//! No bytes, however broken, make a reader panic, loop or grow beyond its cap; and what the produce gate lets through
//! uncompressed can be read to its end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use record::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Batches, Codec, Compression, ControlRecord,
    ProduceRules, Validation, check_produced,
};
use types::Timestamp;

const CAP: usize = 256 << 10;

/// Reads everything there is to read, and judges what can be judged without knowing the input.
fn read_all(bytes: Bytes) {
    let now = Timestamp(1_700_000_000_000);
    let standard = ProduceRules { bytes_max: 1 << 20, ..ProduceRules::default() };
    let full = ProduceRules {
        validation: Validation::Full,
        keys_required: true,
        expanded_bytes_max: CAP,
        ..standard.clone()
    };
    let _ = BatchHeader::parse(&bytes);
    let mut seen = 0;
    for batch in Batches::split(bytes.clone()) {
        let Ok(batch) = batch else { break };
        seen += batch.bytes_total();
        assert!(batch.end_offset() > batch.last_offset());
        assert!(batch.last_offset() >= batch.base_offset());
        let plain = batch.expanded(CAP).map_or(0, |plain| plain.len());
        assert!(plain <= CAP.max(bytes.len()), "{plain}");
        let (mut count, mut failed) = (0usize, false);
        for record in batch.records(CAP) {
            assert!(!failed, "an error ends the iteration");
            match record {
                Ok(record) => {
                    count += 1;
                    assert!(record.offset <= batch.last_offset());
                    let _ = ControlRecord::parse(&record);
                }
                Err(_) => failed = true,
            }
        }
        // A record takes at least seven bytes.
        assert!(count <= plain / 7 + 1);
        let sound = check_produced(&batch, &standard, now).is_ok();
        if sound && batch.compression() == Ok(Compression::None) {
            assert!(!failed, "a batch that passed the gate poisons its readers: {batch:?}");
            assert_eq!(count as i32, batch.records_count());
        }
        let strict = check_produced(&batch, &full, now).is_ok();
        assert!(!strict || !failed, "{batch:?}");
        assert!(!strict || sound, "full validation is the stricter one: {batch:?}");
        let dated = batch.dated(now);
        assert_eq!(dated.crc_ok(), batch.crc_ok());
        let _ = standard.admit(&batch, now);
    }
    assert!(seen <= bytes.len());
}

fn sample(compression: Compression) -> Batch {
    let codec = Codec::from(compression);
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for index in 0..40 {
        let value = format!("value {index} ").repeat(index % 7);
        let header: (&[u8], Option<&[u8]>) = (b"h", Some(b"1"));
        let time = Some(Timestamp(1_700_000_000_000 + index as i64));
        let key = format!("key{index}");
        builder.push_with_headers(time, Some(key.as_bytes()), Some(value.as_bytes()), [header]);
    }
    builder.build()
}

/// Bytes with their checksum made right, so that a mutation gets past it.
fn with_crc(mut bytes: BytesMut) -> Bytes {
    if bytes.len() > 21 {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.freeze()
}

#[test]
fn every_byte_of_every_codec_changed() {
    for compression in Compression::ALL {
        let sound = sample(compression).to_bytes();
        for at in 0..sound.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = BytesMut::from(&sound[..]);
                bytes[at] ^= change;
                read_all(with_crc(bytes));
            }
        }
    }
}

#[test]
fn every_batch_cut_everywhere() {
    for compression in Compression::ALL {
        let sound = sample(compression).to_bytes();
        for end in 0..sound.len() {
            read_all(sound.slice(..end));
            // A cut that the header agrees with.
            let mut bytes = BytesMut::from(&sound[..end]);
            if end >= 61 {
                bytes[8..12].copy_from_slice(&(end as i32 - 12).to_be_bytes());
            }
            read_all(with_crc(bytes));
        }
    }
}

#[test]
fn claims_of_size_are_not_believed() {
    // Each payload claims gigabytes.
    let snappy_raw: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let snappy_chunk: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff\xff";
    let zstd_frame: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1];
    let zstd_window: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0];
    let rows =
        [(2, snappy_raw), (2, snappy_chunk), (4, zstd_frame), (4, zstd_window), (1, b""), (3, b"")];
    for (codec, payload) in rows {
        let mut bytes = BytesMut::from(&sample(Compression::None).to_bytes()[..61]);
        bytes.extend_from_slice(payload);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[22] = codec;
        read_all(with_crc(bytes));
    }
    // Two billion records in no bytes.
    let mut bytes = BytesMut::from(&sample(Compression::None).to_bytes()[..61]);
    bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    read_all(with_crc(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_behind_a_sound_header(
        attributes in 0i16..0x80,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        count in prop_oneof![Just(1i32), 0..5, any::<i32>()],
    ) {
        let mut bytes = BytesMut::from(&sample(Compression::None).to_bytes()[..61]);
        bytes.extend_from_slice(&payload);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&count.saturating_sub(1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        read_all(with_crc(bytes));
    }

    #[test]
    fn several_changes_at_once(
        codec in 0u8..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let compression = Compression::from_id(codec).unwrap();
        let mut bytes = BytesMut::from(&sample(compression).to_bytes()[..]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_all(with_crc(bytes));
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(bytes.into());
    }
}
