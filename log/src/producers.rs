//! Producer state of one log: who has written what, so that retries are recognised and the past is fenced.
//!
//! State is a function of the log (I51) but for the broker's time of the last append, which only decides about expiry
//! (P6). The last five batches of a producer are answered as duplicates with their original offsets (I49, P7); anything
//! else must follow the last sequence (I47, I48), and an older epoch is fenced (I50).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use record::{BatchHeader, ProducerStamp};
use types::mutant::{Mutant, planted};
use types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::layout::{MAGIC_SNAPSHOT, Unsealed, seal, unseal};
use crate::{AppendError, ProducerView};

/// Batches remembered per producer: what a client may have in flight.
const RECENT_MAX: usize = 5;

/// A batch that can be asked about again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recent {
    pub base_sequence: Sequence,
    pub last_sequence: Sequence,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub timestamp: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first.
    recent: VecDeque<Recent>,
    /// The broker's clock at the last append.
    appended: Timestamp,
}

/// What to do with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is new.
    Append,
    /// It is here already (I49).
    Duplicate(Recent),
}

/// The producers of one log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
}

/// The sequence that follows `last` (I47).
fn following(last: Sequence) -> Sequence {
    if planted(Mutant::SequenceWrapOffByOne) && last.0 == i32::MAX {
        return Sequence(1);
    }
    last.plus(1)
}

impl Producers {
    /// Judges a batch with `stamp` whose last record has `last_sequence`. Changes nothing (I13).
    pub fn check(
        &self,
        stamp: ProducerStamp,
        last_sequence: Sequence,
    ) -> Result<Verdict, AppendError> {
        // A producer unknown here may start anywhere: its state may have expired or been deleted (P6).
        let Some(producer) = self.producers.get(&stamp.id) else { return Ok(Verdict::Append) };
        if stamp.epoch < producer.epoch {
            return Err(AppendError::ProducerFenced {
                id: stamp.id,
                epoch: stamp.epoch,
                newest: producer.epoch,
            }); // I50
        }
        if planted(Mutant::NoDeduplication) {
            return Ok(Verdict::Append);
        }
        let out_of_order = |expected| {
            Err(AppendError::OutOfOrderSequence {
                id: stamp.id,
                sequence: stamp.base_sequence,
                expected,
            })
        };
        if stamp.epoch > producer.epoch {
            return match stamp.base_sequence {
                Sequence(0) => Ok(Verdict::Append),
                _ => out_of_order(Sequence(0)),
            };
        }
        let same = |recent: &&Recent| {
            recent.base_sequence == stamp.base_sequence && recent.last_sequence == last_sequence
        };
        if let Some(original) = producer.recent.iter().rev().find(same) {
            return Ok(Verdict::Duplicate(*original)); // I48, I49
        }
        match producer.recent.back() {
            Some(last) if stamp.base_sequence != following(last.last_sequence) => {
                out_of_order(following(last.last_sequence)) // I47
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Whether anything is known of a producer.
    pub fn knows(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    /// The batch with `header` was appended, or is found in the log.
    pub fn add(&mut self, header: &BatchHeader, now: Timestamp) {
        let Some((id, epoch)) = header.producer_identity() else { return };
        let producer = self.producers.entry(id).or_insert_with(|| Producer {
            epoch,
            recent: VecDeque::new(),
            appended: now,
        });
        if epoch < producer.epoch {
            return;
        }
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.recent.clear();
        }
        producer.appended = now;
        // A marker fences, but has no sequence of its own.
        let (Some(stamp), Some(last_sequence)) = (header.producer(), header.last_sequence()) else {
            return;
        };
        if header.is_control() {
            return;
        }
        if producer.recent.len() == RECENT_MAX {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Recent {
            base_sequence: stamp.base_sequence,
            last_sequence,
            base_offset: header.base_offset(),
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp().unwrap_or(Timestamp(-1)),
        });
    }

    /// Forgets producers without an append for `expiration`, by the broker's clock (P6).
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) {
        let horizon = now.saturating_sub(expiration);
        self.producers.retain(|_, producer| producer.appended >= horizon);
    }

    /// No append is younger than `now`: after a restart the clock may have been set back.
    pub fn clamp_times(&mut self, now: Timestamp) {
        for producer in self.producers.values_mut() {
            producer.appended = producer.appended.min(now);
        }
    }

    /// For DescribeProducers.
    pub fn views(&self) -> Vec<ProducerView> {
        let view = |(id, producer): (&ProducerId, &Producer)| {
            let last = producer.recent.back();
            ProducerView {
                id: *id,
                epoch: producer.epoch,
                last_sequence: last.map(|recent| recent.last_sequence),
                last_offset: last.map(|recent| recent.last_offset),
                last_timestamp: last.map_or(producer.appended, |recent| recent.timestamp),
            }
        };
        self.producers.iter().map(view).collect()
    }

    /// The state as of `offset`, as a file.
    pub fn snapshot(&self, offset: Offset) -> Bytes {
        let mut payload = BytesMut::with_capacity(12 + self.producers.len() * 64);
        payload.put_i64(offset.0);
        payload.put_u32(u32::try_from(self.producers.len()).expect("fewer than 2^32 producers"));
        for (id, producer) in &self.producers {
            payload.put_i64(id.0);
            payload.put_i16(producer.epoch.0);
            payload.put_i64(producer.appended.0);
            payload.put_u8(u8::try_from(producer.recent.len()).expect("at most five"));
            for recent in &producer.recent {
                payload.put_i32(recent.base_sequence.0);
                payload.put_i32(recent.last_sequence.0);
                payload.put_i64(recent.base_offset.0);
                payload.put_i64(recent.last_offset.0);
                payload.put_i64(recent.timestamp.0);
            }
        }
        seal(MAGIC_SNAPSHOT, &payload)
    }

    /// Reads a snapshot that claims to be of `offset`; `None` if it is damaged, newer or of another offset (E4).
    pub fn from_snapshot(file: Bytes, offset: Offset) -> Option<Producers> {
        let Unsealed::Whole(mut payload) = unseal(MAGIC_SNAPSHOT, file) else { return None };
        if payload.try_get_i64().ok()? != offset.0 {
            return None;
        }
        let count = payload.try_get_u32().ok()?;
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let id = ProducerId(payload.try_get_i64().ok()?);
            let epoch = ProducerEpoch(payload.try_get_i16().ok()?);
            let appended = Timestamp(payload.try_get_i64().ok()?);
            let recent_count = payload.try_get_u8().ok()? as usize;
            if recent_count > RECENT_MAX {
                return None;
            }
            let mut recent = VecDeque::with_capacity(recent_count);
            for _ in 0..recent_count {
                recent.push_back(Recent {
                    base_sequence: Sequence(payload.try_get_i32().ok()?),
                    last_sequence: Sequence(payload.try_get_i32().ok()?),
                    base_offset: Offset(payload.try_get_i64().ok()?),
                    last_offset: Offset(payload.try_get_i64().ok()?),
                    timestamp: Timestamp(payload.try_get_i64().ok()?),
                });
            }
            producers.insert(id, Producer { epoch, recent, appended });
        }
        payload.is_empty().then_some(Producers { producers })
    }
}
