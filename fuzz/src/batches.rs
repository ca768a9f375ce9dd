//! Record batches: a producer's bytes, and whatever a disk gives back.

use bytes::Bytes;
use record::{
    Batch, BatchBuilder, BatchOptions, Batches, Codec, Compression, HEADER_LEN, ProduceRules,
    check_produced,
};
use types::{LeaderEpoch, Offset, Timestamp};

/// Most bytes that records of one batch may expand to.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// A run of batches: split, checked, placed, read record by record.
pub(crate) fn record_batches(data: &[u8]) {
    let mut total = 0;
    let rules = ProduceRules::default();
    for batch in Batches::split(Bytes::copy_from_slice(data)) {
        let Ok(batch) = batch else { return };
        let bytes = batch.to_bytes();
        total += bytes.len();
        assert!(total <= data.len(), "batches lie side by side");
        let placed = batch.placed(Offset(1_000_000), LeaderEpoch(3));
        assert_eq!(placed.crc_ok(), batch.crc_ok(), "placing leaves the checksum alone");
        let accepted = check_produced(&batch, &rules, Timestamp(0)).is_ok();
        assert!(!accepted || batch.crc_ok(), "a wrong checksum is never accepted");
        let mut expanded = 0;
        for record in batch.records(EXPANDED_BYTES_MAX) {
            let Ok(record) = record else { break };
            expanded += record.key.map_or(0, |key| key.len());
            expanded += record.value.map_or(0, |value| value.len());
            assert!(expanded <= EXPANDED_BYTES_MAX.max(data.len()), "the cap holds");
        }
    }
}

/// A codec, both ways: one byte chooses it and the direction, two are the cap of expansion.
pub(crate) fn record_codecs(data: &[u8]) {
    let [choice, cap_low, cap_high, rest @ ..] = data else { return };
    let codecs = Compression::ALL;
    let compression = codecs[usize::from(choice / 2) % codecs.len()];
    let cap = usize::from(u16::from_le_bytes([*cap_low, *cap_high]));
    if choice % 2 == 0 {
        let options = BatchOptions { codec: Codec::from(compression), ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        builder.push(Some(Timestamp(0)), None, Some(rest));
        let batch = builder.build();
        let mut records = batch.records(EXPANDED_BYTES_MAX);
        let record = records.next().expect("one was pushed").expect("what is written can be read");
        assert_eq!(record.value.as_deref(), Some(rest), "{compression}");
        assert!(records.next().is_none());
        return;
    }
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(None, None, None);
    let mut bytes = builder.build().to_bytes().to_vec();
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(rest);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = compression.id();
    let batch = Batch::parse(Bytes::from(bytes)).expect("one batch");
    match (batch.expanded(cap), batch.expanded(EXPANDED_BYTES_MAX)) {
        (Ok(less), all) => {
            assert!(compression == Compression::None || less.len() <= cap, "the cap holds");
            assert_eq!(Ok(less), all, "a larger cap changes nothing");
        }
        (Err(_), Ok(all)) => assert!(all.len() > cap, "{} bytes fit in {cap}", all.len()),
        (Err(_), Err(_)) => {}
    }
}
