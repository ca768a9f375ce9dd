//! Control records: transaction markers and the quorum's own records. Consumers never see them (I63).

use bytes::{BufMut, BytesMut};
use types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::header::BatchHeader;
use crate::{Batch, BatchBuilder, BatchError, BatchOptions, Record};

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TxnDecision {
    /// Its records never count.
    Abort,
    /// Its records count.
    Commit,
}

/// What a control record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRecord {
    /// The end of a producer's transaction in this partition.
    TxnMarker {
        /// How it ended.
        decision: TxnDecision,
        /// Term of the coordinator that decided.
        coordinator_epoch: i32,
    },
    /// A record of the metadata quorum, by its type number: 2 leader change, 3 and 4 snapshot header and footer,
    /// 5 protocol version, 6 voters.
    Quorum(i16),
}

impl ControlRecord {
    /// Reads a record of a control batch.
    pub fn parse(record: &Record) -> Result<ControlRecord, BatchError> {
        let key = record.key.as_deref().ok_or(BatchError::BadControl)?;
        let kind = match key {
            [_, _, high, low, ..] => i16::from_be_bytes([*high, *low]),
            _ => return Err(BatchError::BadControl),
        };
        let decision = match kind {
            0 => TxnDecision::Abort,
            1 => TxnDecision::Commit,
            2.. => return Ok(ControlRecord::Quorum(kind)),
            _ => return Err(BatchError::BadControl),
        };
        match record.value.as_deref() {
            Some([_, _, a, b, c, d, ..]) => {
                let coordinator_epoch = i32::from_be_bytes([*a, *b, *c, *d]);
                Ok(ControlRecord::TxnMarker { decision, coordinator_epoch })
            }
            _ => Err(BatchError::BadControl),
        }
    }
}

impl Batch {
    /// The control batch that ends a producer's transaction in a partition.
    pub fn txn_marker(
        producer: (ProducerId, ProducerEpoch),
        decision: TxnDecision,
        coordinator_epoch: i32,
        now: Timestamp,
    ) -> Batch {
        let kind: i16 = if decision == TxnDecision::Abort { 0 } else { 1 };
        let mut key = BytesMut::new();
        key.put_i16(0);
        key.put_i16(kind);
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i32(coordinator_epoch);
        let options = BatchOptions {
            base_offset: Offset::ZERO,
            is_transactional: true,
            is_control: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.push(Some(now), Some(&key), Some(&value));
        let batch = builder.build();
        // A marker has an identity and no sequence, which no data batch may have.
        let mut header: BatchHeader = *batch.header();
        header.set_producer_id(producer.0.0);
        header.set_producer_epoch(producer.1.0);
        Batch::seal(header, BytesMut::from(&batch.to_bytes()[..]))
    }
}
