//! Product values as the plain pictures that checkers judge.

use bytes::{Bytes, BytesMut};
use env::{File, Part};
use log::{Ends, Log, LogDir, Read, ReadError};
use record::{Batch, Batches};
use types::Offset;

use crate::checker::storage::{EndsSeen, Seen, Stamp};
use crate::disk::{SimDisk, SimFile};

/// A batch as a checker sees it.
pub fn seen(batch: &Batch) -> Seen {
    let header = batch.header();
    let last = header.last_sequence();
    let stamp = header.producer().zip(last).map(|(stamp, last)| Stamp {
        id: stamp.id.0,
        epoch: stamp.epoch.0,
        base: stamp.base_sequence.0,
        last: last.0,
    });
    Seen {
        base: header.base_offset().0,
        last: header.last_offset().0,
        epoch: header.leader_epoch().map_or(-1, |epoch| epoch.0),
        digest: u64::from(header.crc()) << 32 | header.bytes_total() as u64,
        crc_ok: batch.crc_ok(),
        stamp,
    }
}

/// The ends of a log as a checker sees them.
pub fn ends_seen(ends: &Ends) -> EndsSeen {
    EndsSeen {
        start: ends.log_start.0,
        stable: ends.stable.0,
        durable: ends.durable.0,
        written: ends.written.0,
        end: ends.log_end.0,
    }
}

/// What one read gave.
pub struct Polled {
    /// Batches, as far as the bytes are batches.
    pub batches: Vec<Seen>,
    /// Whether all bytes are whole batches.
    pub whole: bool,
    /// Where the next read is told to go on.
    pub next: i64,
}

/// One read as a consumer would do it, parsed.
pub async fn read_slice(log: &Log<SimDisk>, read: Read) -> Result<Polled, ReadError> {
    let slice = log.read(read).await?;
    let mut all = BytesMut::new();
    for part in slice.parts {
        all.extend_from_slice(&part_bytes(part).await.map_err(ReadError::Io)?);
    }
    let mut polled =
        Polled { batches: Vec::new(), whole: all.len() == slice.bytes, next: slice.next_offset.0 };
    for batch in Batches::split(all.freeze()) {
        match batch {
            Ok(batch) => polled.batches.push(seen(&batch)),
            Err(_) => {
                polled.whole = false;
                break;
            }
        }
    }
    Ok(polled)
}

async fn part_bytes(part: Part<SimFile>) -> std::io::Result<Bytes> {
    match part {
        Part::Mem(bytes) => Ok(bytes),
        Part::File { file, offset, len } => file.read_at(offset, len).await,
    }
}

/// The whole log from its start.
pub async fn read_all(log: &Log<SimDisk>, bytes_max: usize) -> Result<Vec<Seen>, ReadError> {
    let ends = log.ends();
    let mut from = ends.log_start;
    let mut all: Vec<Seen> = Vec::new();
    while from < ends.log_end {
        let read = Read { from, end: ends.log_end, bytes_max, at_least_one: true };
        let batches = log.batches(read).await?;
        let Some(last) = batches.last() else { break };
        from = Offset(last.header().end_offset().0);
        all.extend(batches.iter().map(seen));
    }
    Ok(all)
}

/// Logs of a directory by the names of their partitions.
pub fn logs_by_name(dir: &LogDir<SimDisk>) -> std::collections::BTreeMap<String, Log<SimDisk>> {
    dir.logs().into_iter().map(|log| (log.topic_partition().to_string(), log)).collect()
}
