//! From queued records to the bytes of one batch.

use bytes::Bytes;
use record::{BatchBuilder, BatchOptions, Codec, Compression, ProducerStamp};

use super::queue::Batch;

/// The batch as it travels. Deterministic: a repetition has the same bytes.
pub(super) fn batch(batch: &Batch, compression: Compression) -> Bytes {
    let producer = batch.stamp.map(|stamp| ProducerStamp {
        id: stamp.identity.0,
        epoch: stamp.identity.1,
        base_sequence: stamp.base_sequence,
    });
    let options =
        BatchOptions { producer, codec: Codec::from(compression), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for queued in &batch.records {
        let record = &queued.record;
        let headers = record.headers.iter().map(|(key, value)| (key.as_ref(), value.as_deref()));
        builder.push_with_headers(
            Some(queued.timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            headers,
        );
    }
    builder.build().to_bytes()
}
