//! What is inside a batch.
//!
//! ```text
//! length | attributes | timestamp delta | offset delta | key length, key | value length, value | headers
//! varint | 1 byte     | varlong         | varint       | varint (-1: none)                    | count, then pairs
//! ```
//!
//! One function knows this layout; both the walk that every uncompressed produced batch goes through and the iterator for
//! those who want the records use it. Keys and values are slices of the batch's own bytes.

use std::ops::Range;

use bytes::Bytes;
use types::{Offset, Timestamp};

use crate::header::BatchHeader;
use crate::{Batch, BatchError, varint};

/// A record as it lies in a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// Its time, if it has one.
    pub timestamp: Option<Timestamp>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the producer's order; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Its name: UTF-8 by convention, which nobody enforces.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Where the parts of one record lie in the payload.
pub(crate) struct RecordSpan {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
    pub headers_count: usize,
    pub headers_start: usize,
    pub end: usize,
}

/// Reads the record at `at`. `None` if it is malformed: every field of it must lie inside its length and fill it.
#[inline]
pub(crate) fn span(payload: &[u8], mut at: usize) -> Option<RecordSpan> {
    let length = usize::try_from(varint::read_i32(payload, &mut at)?).ok()?;
    let end = at.checked_add(length).filter(|&end| end <= payload.len())?;
    let payload = &payload[..end];
    at += 1; // The attributes byte, of which no bit has a meaning.
    let timestamp_delta = varint::read_i64(payload, &mut at)?;
    let offset_delta = varint::read_i32(payload, &mut at)?;
    let key = field(payload, &mut at)?;
    let value = field(payload, &mut at)?;
    let headers_count = usize::try_from(varint::read_i32(payload, &mut at)?).ok()?;
    let headers_start = at;
    for _ in 0..headers_count {
        field(payload, &mut at)??;
        field(payload, &mut at)?;
    }
    (at == end).then_some(RecordSpan {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers_count,
        headers_start,
        end,
    })
}

/// A length and that many bytes; -1 is "none". The outer option is `None` when malformed.
#[inline]
fn field(payload: &[u8], at: &mut usize) -> Option<Option<Range<usize>>> {
    let length = varint::read_i32(payload, at)?;
    if length == -1 {
        return Some(None);
    }
    let start = *at;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    if end > payload.len() {
        return None;
    }
    *at = end;
    Some(Some(start..end))
}

/// The records of one batch, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    state: State,
    /// Records given so far.
    index: u32,
    /// Offset delta that the next record may have at least.
    delta_min: i32,
}

#[derive(Clone, Debug)]
enum State {
    Failed(BatchError),
    Reading { payload: Bytes, at: usize },
    Done,
}

impl Records {
    pub(crate) fn new(header: BatchHeader, payload: Result<Bytes, BatchError>) -> Records {
        let state = match payload {
            Ok(payload) => State::Reading { payload, at: 0 },
            Err(error) => State::Failed(error),
        };
        Records { header, state, index: 0, delta_min: 0 }
    }

    fn read(&mut self, payload: &Bytes, at: usize) -> Result<(Record, usize), BatchError> {
        let bad = BatchError::BadRecord { index: self.index };
        let span = span(payload, at).ok_or_else(|| bad.clone())?;
        // Compaction leaves gaps, so deltas need only rise.
        if span.offset_delta < self.delta_min || span.offset_delta > self.header.last_offset_delta()
        {
            return Err(bad);
        }
        let mut headers = Vec::with_capacity(span.headers_count);
        let mut cursor = span.headers_start;
        for _ in 0..span.headers_count {
            let key = field(payload, &mut cursor).flatten().ok_or_else(|| bad.clone())?;
            let value = field(payload, &mut cursor).ok_or_else(|| bad.clone())?;
            let value = value.map(|range| payload.slice(range));
            headers.push(RecordHeader { key: payload.slice(key), value });
        }
        self.index += 1;
        self.delta_min = span.offset_delta.saturating_add(1);
        let record = Record {
            offset: self.header.base_offset().plus(i64::from(span.offset_delta)),
            timestamp: Batch::record_time(&self.header, span.timestamp_delta),
            key: span.key.map(|range| payload.slice(range)),
            value: span.value.map(|range| payload.slice(range)),
            headers,
        };
        Ok((record, span.end))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => None,
            State::Failed(error) => Some(Err(error)),
            State::Reading { payload, at } => {
                if i64::from(self.index) >= i64::from(self.header.records_count()) {
                    let rest = payload.len() - at;
                    return (rest > 0).then_some(Err(BatchError::TrailingBytes(rest)));
                }
                match self.read(&payload, at) {
                    Ok((record, at)) => {
                        self.state = State::Reading { payload, at };
                        Some(Ok(record))
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }
}
