//! Record batches: a producer's bytes, and whatever a disk gives back.

use bytes::Bytes;
use record::{Batches, ProduceRules, check_produced};
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
