//! One partition's records on their way: what may be sent next, and what an answer means.
//!
//! No I/O, no clock. The order of a partition is the order of batch serials; with an idempotent producer a batch takes
//! its sequence when it is first sent and keeps it through retries, so that the broker can tell a repetition (I47-I49).
//!
//! ```text
//! waiting, oldest first --take--> flying --settle--> reported, or back to its place in waiting
//! ```
//!
//! A *gap* is a sequence that the broker will never see: a stamped batch was given up although it was not stored, or the
//! broker has lost what it knew of this producer. It is closed by starting again from sequence 0 under a new epoch, once
//! nothing flies. A batch with an attempt of unknown outcome must not be sent under the new epoch, where the broker
//! would not recognise it: it is reported as unknown.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use types::{
    BrokerId, ErrorCode, Instant, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};

use super::{DeliveryReport, ProducerRecord};
use crate::error::{Certainty, ClientError};

/// Batches of one producer whose sequences a broker remembers, and so may be in flight together (P7).
const FLYING_MAX: usize = 5;

/// A producer id and epoch.
pub(super) type Identity = (ProducerId, ProducerEpoch);

/// A record in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub record: ProducerRecord,
    pub timestamp: Timestamp,
    pub bytes: usize,
    pub report: oneshot::Sender<DeliveryReport>,
    /// Its share of the producer's memory.
    pub _room: OwnedSemaphorePermit,
}

/// What makes a batch recognisable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub identity: Identity,
    pub base_sequence: Sequence,
}

/// Records that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    pub serial: u64,
    pub records: Vec<Queued>,
    pub stamp: Option<Stamp>,
    bytes: usize,
    /// It is sent from then on, full or not; a retry not before.
    due: Instant,
    deadline: Instant,
    tries: u32,
    /// The last error after which the batch may be stored.
    unknown: Option<ClientError>,
    last_error: Option<ClientError>,
}

/// What a broker said of a stored batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub base_offset: Option<Offset>,
    pub timestamp: Option<Timestamp>,
}

/// How the queue treats batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub batch_bytes: usize,
    pub linger: Duration,
    pub in_flight_max: usize,
    pub retries: bool,
    pub idempotent: bool,
}

/// Whether there is something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Readiness {
    /// The first waiting batch may go.
    Ready,
    /// Not before then.
    At(Instant),
    /// Only after an answer or a new record.
    Later,
}

/// The records of one partition on their way.
#[derive(Debug)]
pub(super) struct Queue {
    partition: TopicPartition,
    rules: Rules,
    waiting: VecDeque<Batch>,
    flying: BTreeMap<u64, Batch>,
    flying_at: Option<BrokerId>,
    topic_id: Option<TopicId>,
    /// Whose sequences are counted; absent before the first batch and after a gap.
    identity: Option<Identity>,
    /// The identity that a gap has spoilt for this partition.
    spoilt: Option<Identity>,
    sequence_next: Sequence,
    gap: bool,
}

impl Queue {
    pub fn new(partition: TopicPartition, rules: Rules) -> Queue {
        Queue {
            partition,
            rules,
            waiting: VecDeque::new(),
            flying: BTreeMap::new(),
            flying_at: None,
            topic_id: None,
            identity: None,
            spoilt: None,
            sequence_next: Sequence(0),
            gap: false,
        }
    }

    /// Whether nothing waits and nothing flies.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The serial of the oldest unsettled batch.
    pub fn oldest(&self) -> Option<u64> {
        let waiting = self.waiting.front().map(|batch| batch.serial);
        let flying = self.flying.keys().next().copied();
        waiting.into_iter().chain(flying).min()
    }

    /// Adds a record. `serial` is used if it opens a batch.
    pub fn push(&mut self, queued: Queued, now: Instant, deadline: Instant, serial: u64) {
        let bytes = queued.bytes;
        if let Some(last) = self.waiting.back_mut()
            && last.tries == 0
            && last.stamp.is_none()
            && last.bytes + bytes <= self.rules.batch_bytes
        {
            last.bytes += bytes;
            last.records.push(queued);
            return;
        }
        self.waiting.push_back(Batch {
            serial,
            records: vec![queued],
            stamp: None,
            bytes,
            due: now + self.rules.linger,
            deadline,
            tries: 0,
            unknown: None,
            last_error: None,
        });
    }

    /// Lets every waiting batch go at once.
    pub fn hurry(&mut self, now: Instant) {
        for batch in &mut self.waiting {
            if batch.tries == 0 {
                batch.due = batch.due.min(now);
            }
        }
    }

    /// Whether the first waiting batch may be sent to `leader`.
    pub fn readiness(&self, now: Instant, leader: BrokerId) -> Readiness {
        let Some(first) = self.waiting.front() else { return Readiness::Later };
        let room = self.flying.len() < self.rules.in_flight_max.min(FLYING_MAX);
        // Another leader may get the second batch before the first has reached the old one.
        let elsewhere = !self.flying.is_empty() && self.flying_at != Some(leader);
        // A repetition travels alone: what follows it waits until it is settled.
        let repeating = first.tries > 0 || self.flying.values().any(|batch| batch.tries > 0);
        if self.gap || !room || elsewhere || (repeating && !self.flying.is_empty()) {
            return Readiness::Later;
        }
        let full = first.bytes >= self.rules.batch_bytes || self.waiting.len() > 1;
        if first.due <= now || (full && first.tries == 0) {
            Readiness::Ready
        } else {
            Readiness::At(first.due)
        }
    }

    /// When the first waiting batch has to be given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|batch| batch.deadline).min()
    }

    /// Bytes of the first waiting batch.
    pub fn first_bytes(&self) -> usize {
        self.waiting.front().map_or(0, |batch| batch.bytes)
    }

    /// Whether the partition can be sent under `identity`.
    pub fn accepts(&self, identity: Identity) -> bool {
        self.identity.is_some() || self.spoilt != Some(identity)
    }

    /// Takes the first waiting batch for sending. `identity` is what an idempotent producer now goes by; a partition
    /// that counts under an earlier one goes on with that.
    pub fn take(&mut self, identity: Option<Identity>, leader: BrokerId) -> Option<&Batch> {
        let mut batch = self.waiting.pop_front()?;
        if let Some(identity) = identity
            && batch.stamp.is_none()
        {
            let identity = *self.identity.get_or_insert(identity);
            self.spoilt = None;
            batch.stamp = Some(Stamp { identity, base_sequence: self.sequence_next });
            self.sequence_next = self.sequence_next.plus(count(&batch));
        }
        self.flying_at = Some(leader);
        let serial = batch.serial;
        self.flying.insert(serial, batch);
        self.flying.get(&serial)
    }

    /// The topic is now another one of the same name: sequences start again.
    pub fn on_topic_id(&mut self, id: Option<TopicId>) {
        if self.topic_id.is_some() && id.is_some() && self.topic_id != id && self.identity.is_some()
        {
            self.gap = true;
            self.close_gap();
        }
        self.topic_id = id.or(self.topic_id);
    }

    /// An answer, or the lack of one, for the batch `serial`. `pause` is how long a retry waits.
    pub fn settle(
        &mut self,
        serial: u64,
        result: Result<Stored, ClientError>,
        now: Instant,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        let Some(mut batch) = self.flying.remove(&serial) else { return };
        match result {
            Ok(stored) => self.report_stored(batch, stored),
            Err(error) => {
                let code = error.error_code();
                if error.certainty() == Certainty::Unknown {
                    batch.unknown = Some(error.clone());
                }
                batch.last_error = Some(error.clone());
                let stamped = batch.stamp.is_some();
                match code {
                    Some(ErrorCode::DuplicateSequenceNumber) if stamped => {
                        self.report_stored(batch, Stored { base_offset: None, timestamp: None });
                    }
                    Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
                        if stamped && self.rules.retries && now < batch.deadline =>
                    {
                        // Not stored. Either an earlier batch is still unsettled, or the broker expects another one.
                        self.gap |= self.is_oldest(serial);
                        batch.due = now + pause(batch.tries);
                        self.put_back(batch);
                    }
                    Some(ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced)
                        if stamped =>
                    {
                        self.gap = true;
                        self.give_up(batch, error);
                    }
                    Some(ErrorCode::MessageTooLarge) if batch.records.len() > 1 => {
                        self.put_back_in_halves(batch, now);
                    }
                    _ if error.is_retriable() && self.rules.retries && now < batch.deadline => {
                        batch.due = now + pause(batch.tries);
                        self.put_back(batch);
                    }
                    _ => self.give_up(batch, error),
                }
            }
        }
        self.close_gap();
    }

    /// Gives up what has waited too long; what was never sent, for the reason given.
    pub fn expire(&mut self, now: Instant, unsent: impl Fn() -> Option<ClientError>) {
        while let Some(index) = self.waiting.iter().position(|batch| batch.deadline <= now) {
            let Some(batch) = self.waiting.remove(index) else { break };
            let error = ClientError::DeadlinePassed {
                last: batch.last_error.clone().or_else(&unsent).map(Box::new),
                certainty: Certainty::DidNotHappen,
            };
            self.give_up(batch, error);
        }
        self.close_gap();
    }

    fn report_stored(&self, batch: Batch, stored: Stored) {
        for (index, queued) in (0i64..).zip(batch.records) {
            let _ = queued.report.send(DeliveryReport::Ok {
                partition: self.partition.clone(),
                offset: stored.base_offset.map(|base| base.plus(index)),
                timestamp: stored.timestamp,
            });
        }
    }

    /// Reports a batch as failed, or as unknown if any attempt at it may have worked.
    fn give_up(&mut self, batch: Batch, error: ClientError) {
        let unknown = batch.unknown.is_some();
        if let (Some(stamp), false) = (batch.stamp, unknown) {
            // Answers may be looked at out of order: a later batch can have been stored and forgotten by now. Its
            // sequence given out again would make the broker take another batch for a repetition of it (I49).
            let is_newest = self.identity == Some(stamp.identity)
                && stamp.base_sequence.plus(count(&batch)) == self.sequence_next;
            if is_newest {
                self.sequence_next = stamp.base_sequence; // nobody has seen it: use it again
            } else {
                self.gap = true;
            }
        }
        let error = if unknown && error.certainty() != Certainty::Unknown {
            error.after(Certainty::Unknown)
        } else {
            error
        };
        for queued in batch.records {
            let _ = queued.report.send(DeliveryReport::from_error(error.clone()));
        }
    }

    fn put_back(&mut self, mut batch: Batch) {
        batch.tries += 1;
        let place = self.waiting.partition_point(|other| other.serial < batch.serial);
        self.waiting.insert(place, batch);
    }

    /// A batch too large for the broker goes on as two, with the sequences it has.
    fn put_back_in_halves(&mut self, mut batch: Batch, now: Instant) {
        let second = batch.records.split_off(batch.records.len() / 2);
        let first_count = count(&batch);
        let second_bytes = second.iter().map(|queued| queued.bytes).sum();
        batch.bytes -= second_bytes;
        batch.due = now;
        batch.tries += 1;
        let half = Batch {
            // The same serial keeps its place; the halves are told apart by their order.
            serial: batch.serial,
            records: second,
            stamp: batch.stamp.map(|stamp| Stamp {
                base_sequence: stamp.base_sequence.plus(first_count),
                ..stamp
            }),
            bytes: second_bytes,
            due: now,
            deadline: batch.deadline,
            tries: batch.tries,
            unknown: batch.unknown.clone(),
            last_error: batch.last_error.clone(),
        };
        let place = self.waiting.partition_point(|other| other.serial < batch.serial);
        self.waiting.insert(place, half);
        self.waiting.insert(place, batch);
    }

    fn unsettled(&self) -> impl Iterator<Item = &Batch> {
        self.waiting.iter().chain(self.flying.values())
    }

    /// Whether no stamped batch before `serial` is unsettled.
    fn is_oldest(&self, serial: u64) -> bool {
        !self.unsettled().any(|other| other.stamp.is_some() && other.serial < serial)
    }

    /// Starts the sequences again, once nothing flies.
    fn close_gap(&mut self) {
        if !self.gap || !self.flying.is_empty() {
            return;
        }
        self.gap = false;
        self.spoilt = self.identity.take().or(self.spoilt);
        self.sequence_next = Sequence(0);
        for mut batch in std::mem::take(&mut self.waiting) {
            if batch.stamp.take().is_some()
                && let Some(error) = batch.unknown.take()
            {
                for queued in batch.records {
                    let _ = queued.report.send(DeliveryReport::Unknown(error.clone()));
                }
            } else {
                self.waiting.push_back(batch);
            }
        }
    }
}

fn count(batch: &Batch) -> i32 {
    i32::try_from(batch.records.len()).expect("a batch is bounded by its bytes")
}

#[cfg(test)]
mod tests;
