//! The gate between a client's bytes and a log: what a produced batch is checked for, always.
//!
//! Header fields and sizes, attributes, the checksum, counts that agree, producer fields, timestamps against the topic's
//! bounds, and, for uncompressed batches, one walk over the records so that no stored batch can poison a reader.
//! Compressed batches are expanded and walked when the topic asks for it ([`Validation::Full`]), needs keys or another
//! compression. Cheap checks come first; the payload is passed once for its checksum and, uncompressed, its varints are read once.

use std::time::Duration;

use bytes::Bytes;
use types::Timestamp;

use crate::compression::Codec;
use crate::header::{
    ATTRIBUTE_APPEND_TIME, ATTRIBUTE_COMPRESSION, ATTRIBUTE_TRANSACTIONAL, BatchHeader,
    TimestampType,
};
use crate::records::span;
use crate::{Batch, BatchError, Compression};

/// How deep compressed batches are looked into (`record.validation`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Validation {
    /// Uncompressed batches are walked, compressed ones are taken as they are.
    #[default]
    Standard,
    /// Compressed batches are expanded and walked too.
    Full,
}

/// What a topic demands of a produced batch.
#[derive(Clone, Debug)]
pub struct ProduceRules {
    /// Largest batch in bytes, header included (`max.message.bytes`).
    pub bytes_max: usize,
    /// Largest expansion of a batch that must be looked into.
    pub expanded_bytes_max: usize,
    /// Which clock dates records (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie in the past; `None` is any (`message.timestamp.before.max.ms`).
    pub timestamp_before_max: Option<Duration>,
    /// How far it may lie in the future; `None` is any (`message.timestamp.after.max.ms`).
    pub timestamp_after_max: Option<Duration>,
    /// Whether each record must have a key: the topic is compacted.
    pub keys_required: bool,
    /// How deep to look.
    pub validation: Validation,
    /// Codec that batches are stored in; `None` keeps the producer's (`compression.type`).
    pub codec: Option<Codec>,
}

impl Default for ProduceRules {
    /// Kafka's defaults for a topic.
    fn default() -> ProduceRules {
        ProduceRules {
            bytes_max: 1_048_588,
            expanded_bytes_max: 64 << 20,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max: None,
            timestamp_after_max: Some(Duration::from_secs(3600)),
            keys_required: false,
            validation: Validation::Standard,
            codec: None,
        }
    }
}

impl ProduceRules {
    /// Refuses a timestamp outside the bounds around `now`. Negative ones mean "none" and pass.
    fn check_time(&self, timestamp: i64, now: Timestamp) -> Result<(), BatchError> {
        if timestamp < 0 || self.timestamp_type == TimestampType::AppendTime {
            return Ok(());
        }
        let beyond = |distance: i64, bound: Option<Duration>| {
            bound.is_some_and(|bound| i128::from(distance) > bound.as_millis() as i128)
        };
        if beyond(now.0.saturating_sub(timestamp), self.timestamp_before_max)
            || beyond(timestamp.saturating_sub(now.0), self.timestamp_after_max)
        {
            return Err(BatchError::BadTimestamp { timestamp, now: now.0 });
        }
        Ok(())
    }

    /// Whether [`ProduceRules::admit`] expands this batch: what a client made small may be large.
    pub fn expands(&self, batch: &Batch) -> bool {
        batch.compression().is_ok_and(|compression| {
            compression != Compression::None && self.looks_inside(compression)
        })
    }

    /// Whether the records of a batch with this compression are looked at, each one: those without any always are, and
    /// what is expanded anyway.
    fn looks_inside(&self, compression: Compression) -> bool {
        let is_recompressed = self.codec.is_some_and(|c| c.compression() != compression);
        compression == Compression::None
            || self.validation == Validation::Full
            || self.keys_required
            || is_recompressed
    }

    /// Checks `batch` and gives the form to store: dated or recompressed if the topic asks for it, with the maximum
    /// timestamp of its records if the producer gave another, else as it is. Retention and the time index rely on that
    /// timestamp: one that is too low would delete records early.
    pub fn admit(&self, batch: &Batch, now: Timestamp) -> Result<Batch, BatchError> {
        let (newest, plain) = examine(batch, self, now)?;
        let mut admitted = batch.clone();
        if newest != batch.max_time() {
            admitted = admitted.with_newest(newest);
        }
        if let Some(codec) = self.codec
            && codec.compression() != batch.compression()?
            && let Some(plain) = plain
        {
            admitted = admitted.recompressed(codec, &plain)?;
            check_size(&admitted, self)?;
        }
        if self.timestamp_type == TimestampType::AppendTime {
            admitted = admitted.dated(now);
        }
        Ok(admitted)
    }
}

/// Checks a batch that a client produced at `now`. What passes may be placed in a log as it is, unless the topic dates
/// or recompresses it: [`ProduceRules::admit`] does both.
pub fn check_produced(
    batch: &Batch,
    rules: &ProduceRules,
    now: Timestamp,
) -> Result<(), BatchError> {
    examine(batch, rules, now).map(drop)
}

/// [`check_produced`], and the largest timestamp in milliseconds (-1: none): of the records if they were looked at, which
/// are then given as well, else of what the header says.
fn examine(
    batch: &Batch,
    rules: &ProduceRules,
    now: Timestamp,
) -> Result<(i64, Option<Bytes>), BatchError> {
    check_size(batch, rules)?;
    check_header(batch)?;
    check_header_times(batch, rules, now)?;
    batch.check_crc()?;
    if rules.looks_inside(batch.compression()?) {
        let plain = batch.expanded(rules.expanded_bytes_max)?;
        return Ok((walk(batch, &plain, rules, now)?, Some(plain)));
    }
    check_count(batch, rules)?;
    Ok((batch.max_time().max(batch.base_timestamp_raw()), None))
}

fn check_size(batch: &Batch, rules: &ProduceRules) -> Result<(), BatchError> {
    let (bytes, bytes_max) = (batch.bytes_total(), rules.bytes_max);
    if bytes > bytes_max { Err(BatchError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}

/// The least that a record takes: its length, attributes, two deltas, lengths of key and value, number of headers.
const RECORD_BYTES_MIN: usize = 7;

/// A few compressed bytes that nobody looks into may claim as many records as they like, and as many offsets would be used
/// up: no more than there is room for in what may be expanded.
fn check_count(header: &BatchHeader, rules: &ProduceRules) -> Result<(), BatchError> {
    let (count, last_offset_delta) = (header.records_count(), header.last_offset_delta());
    match usize::try_from(count) {
        Ok(records) if records <= rules.expanded_bytes_max / RECORD_BYTES_MIN => Ok(()),
        _ => Err(BatchError::BadCount { count, last_offset_delta }),
    }
}

/// Fields that no client may leave otherwise, whatever the topic.
fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    let bits = header.attributes();
    header.compression()?;
    if header.is_control() {
        return Err(BatchError::ClientControl);
    }
    let allowed = ATTRIBUTE_COMPRESSION | ATTRIBUTE_APPEND_TIME | ATTRIBUTE_TRANSACTIONAL;
    if bits & !allowed != 0 {
        return Err(BatchError::BadAttributes(bits));
    }
    if header.base_offset().0 != 0 {
        return Err(BatchError::ClientOffset(header.base_offset().0));
    }
    let (count, last_offset_delta) = (header.records_count(), header.last_offset_delta());
    if count < 1 || last_offset_delta != count - 1 {
        return Err(BatchError::BadCount { count, last_offset_delta });
    }
    if header.producer_id_raw() >= 0 {
        // An id without a sequence could never be told from its own retry.
        header.producer().ok_or(BatchError::BadProducer)?;
    } else if header.is_transactional() {
        return Err(BatchError::BadProducer);
    }
    Ok(())
}

fn check_header_times(
    header: &BatchHeader,
    rules: &ProduceRules,
    now: Timestamp,
) -> Result<(), BatchError> {
    // Whatever the topic: that the broker dated a batch is for the broker to say.
    if header.timestamp_type() == TimestampType::AppendTime {
        return Err(BatchError::DatedByBroker);
    }
    rules.check_time(header.base_timestamp_raw(), now)?;
    rules.check_time(header.max_timestamp().map_or(-1, |timestamp| timestamp.0), now)
}

/// Reads every record's varints once: each record fills its length, offsets count up from 0, times are in bounds. Gives
/// the largest timestamp.
fn walk(
    header: &BatchHeader,
    payload: &[u8],
    rules: &ProduceRules,
    now: Timestamp,
) -> Result<i64, BatchError> {
    let mut at = 0;
    let (mut delta_min, mut delta_max) = (i64::MAX, i64::MIN);
    for index in 0..header.records_count() {
        let bad = BatchError::BadRecord { index: index as u32 };
        let Some(record) = span(payload, at) else { return Err(bad) };
        if record.offset_delta != index {
            return Err(bad);
        }
        if rules.keys_required && record.key.is_none() {
            return Err(BatchError::KeyMissing { index: index as u32 });
        }
        delta_min = delta_min.min(record.timestamp_delta);
        delta_max = delta_max.max(record.timestamp_delta);
        at = record.end;
    }
    if at != payload.len() {
        return Err(BatchError::TrailingBytes(payload.len() - at));
    }
    // The extremes stand for all records; below 0 a time means "none".
    let base = header.base_timestamp_raw();
    rules.check_time(base.saturating_add(delta_min), now)?;
    let newest = base.saturating_add(delta_max);
    rules.check_time(newest, now)?;
    Ok(newest.max(-1))
}
