//! Stories of one partition's queue: what is sent in which order under which sequence, and what is reported.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;

const LEADER: BrokerId = BrokerId(1);
const FIRST: Identity = (ProducerId(7), ProducerEpoch(0));
const SECOND: Identity = (ProducerId(7), ProducerEpoch(1));

struct Story {
    queue: Queue,
    now: Instant,
    serial: u64,
    reports: Vec<(&'static str, oneshot::Receiver<DeliveryReport>)>,
}

impl Story {
    fn new() -> Story {
        let rules = Rules {
            batch_bytes: 1, // each record is a batch of its own
            linger: Duration::ZERO,
            in_flight_max: 5,
            retries: true,
            idempotent: true,
        };
        Story {
            queue: Queue::new(TopicPartition::new("t", 0), rules),
            now: Instant(1_000_000_000),
            serial: 0,
            reports: Vec::new(),
        }
    }

    fn push(&mut self, names: &[&'static str]) {
        for name in names {
            let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let (report, receiver) = oneshot::channel();
            let record = ProducerRecord::new("t", *name);
            let queued = Queued { record, timestamp: Timestamp(1), bytes: 1, report, _room: room };
            let deadline = self.now + Duration::from_secs(10);
            self.queue.push(queued, self.now, deadline, self.serial);
            self.serial += 1;
            self.reports.push((name, receiver));
        }
    }

    /// Sends all that may be sent; `serial:name@epoch/sequence` each.
    fn send(&mut self, identity: Identity) -> String {
        let mut sent = Vec::new();
        while self.queue.accepts(identity)
            && self.queue.readiness(self.now, LEADER) == Readiness::Ready
        {
            let batch = self.queue.take(Some(identity), LEADER).unwrap();
            let stamp = batch.stamp.unwrap();
            let names: Vec<_> = batch
                .records
                .iter()
                .map(|queued| String::from_utf8_lossy(queued.record.value.as_ref().unwrap()))
                .collect();
            let (epoch, sequence) = (stamp.identity.1, stamp.base_sequence.0);
            sent.push(format!("{}:{}@{epoch}/{sequence}", batch.serial, names.join("+")));
        }
        sent.join(" ")
    }

    fn stored(&mut self, serial: u64, offset: i64) {
        let stored = Stored { base_offset: Some(Offset(offset)), timestamp: None };
        self.queue.settle(serial, Ok(stored), self.now, |_| Duration::ZERO);
    }

    fn refused(&mut self, serial: u64, code: ErrorCode) {
        let error = ClientError::code(code);
        self.queue.settle(serial, Err(error), self.now, |_| Duration::ZERO);
    }

    fn lost(&mut self, serial: u64) {
        let error = ClientError::Disconnected { address: "h:1".into() };
        self.queue.settle(serial, Err(error), self.now, |_| Duration::ZERO);
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.queue.expire(self.now, || None);
    }

    /// What was reported since the last time.
    fn reports(&mut self) -> String {
        let mut shown = Vec::new();
        self.reports.retain_mut(|(name, receiver)| {
            let text = match receiver.try_recv() {
                Err(_) => return true,
                Ok(DeliveryReport::Ok { offset: Some(offset), .. }) => format!("{name}={offset}"),
                Ok(DeliveryReport::Ok { offset: None, .. }) => format!("{name}=stored"),
                Ok(DeliveryReport::Failed(_)) => format!("{name}=failed"),
                Ok(DeliveryReport::Unknown(_)) => format!("{name}=unknown"),
            };
            shown.push(text);
            false
        });
        shown.join(" ")
    }
}

#[test]
fn batches_leave_in_order_five_at_a_time() {
    let mut story = Story::new();
    story.push(&["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(story.send(FIRST), "0:a@0/0 1:b@0/1 2:c@0/2 3:d@0/3 4:e@0/4");
    story.stored(0, 100);
    assert_eq!(story.send(FIRST), "5:f@0/5");
    assert_eq!(story.reports(), "a=100");
}

#[test]
fn a_lost_answer_is_asked_again_under_the_same_sequence() {
    let mut story = Story::new();
    story.push(&["a", "b", "c"]);
    story.send(FIRST);
    story.lost(1);
    assert_eq!(story.send(FIRST), "", "first the others must be settled");
    story.stored(0, 10);
    story.lost(2);
    assert_eq!(story.send(FIRST), "1:b@0/1", "a repetition travels alone");
    story.stored(1, 11);
    assert_eq!(story.send(FIRST), "2:c@0/2");
    story.refused(2, ErrorCode::DuplicateSequenceNumber);
    assert_eq!(story.reports(), "a=10 b=11 c=stored");
}

#[test]
fn out_of_order_behind_a_lost_batch_is_only_a_retry() {
    let mut story = Story::new();
    story.push(&["a", "b"]);
    story.send(FIRST);
    story.refused(0, ErrorCode::NotLeaderOrFollower);
    story.refused(1, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(story.send(FIRST), "0:a@0/0");
    story.stored(0, 0);
    assert_eq!(story.send(FIRST), "1:b@0/1");
    story.stored(1, 1);
    assert_eq!(story.reports(), "a=0 b=1");
}

#[test]
fn a_gap_starts_a_new_epoch_for_what_is_certainly_not_stored() {
    let mut story = Story::new();
    story.push(&["a", "b", "c"]);
    story.send(FIRST);
    story.stored(0, 0);
    story.refused(1, ErrorCode::UnknownProducerId);
    assert_eq!(story.send(FIRST), "", "one is still flying");
    story.refused(2, ErrorCode::OutOfOrderSequenceNumber);
    assert!(!story.queue.accepts(FIRST));
    assert_eq!(story.send(SECOND), "1:b@1/0");
    story.stored(1, 5);
    assert_eq!(story.send(SECOND), "2:c@1/1");
    story.stored(2, 6);
    assert_eq!(story.reports(), "a=0 b=5 c=6");
}

#[test]
fn what_may_be_stored_is_never_sent_under_another_epoch() {
    let mut story = Story::new();
    story.push(&["a", "b"]);
    story.send(FIRST);
    story.lost(0);
    story.lost(1);
    assert_eq!(story.send(FIRST), "0:a@0/0");
    // The broker has forgotten the producer: whether the first attempt was stored cannot be known.
    story.refused(0, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(story.reports(), "a=unknown b=unknown");
    story.push(&["c"]);
    assert_eq!(story.send(SECOND), "2:c@1/0");
}

#[test]
fn a_refused_last_batch_gives_its_sequence_back() {
    let mut story = Story::new();
    story.push(&["a"]);
    story.send(FIRST);
    story.refused(0, ErrorCode::InvalidRecord);
    story.push(&["b"]);
    assert_eq!(story.send(FIRST), "1:b@0/0");
    assert_eq!(story.reports(), "a=failed");
}

#[test]
fn a_refused_batch_before_others_makes_a_gap() {
    let mut story = Story::new();
    story.push(&["a", "b"]);
    story.send(FIRST);
    story.refused(0, ErrorCode::InvalidRecord);
    story.refused(1, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(story.reports(), "a=failed");
    assert_eq!(story.send(FIRST), "");
    assert_eq!(story.send(SECOND), "1:b@1/0");
}

/// A broker that knows nothing of a producer stores `b` although `a` before it was refused; the news of `b` came first.
/// Were `a`'s sequence used again, `d` would go by `b`'s and be answered with `b`'s offset.
#[test]
fn a_refused_batch_gives_nothing_back_once_a_later_one_is_stored() {
    let mut story = Story::new();
    story.push(&["a", "b"]);
    assert_eq!(story.send(FIRST), "0:a@0/0 1:b@0/1");
    story.stored(1, 433);
    story.refused(0, ErrorCode::RecordListTooLarge);
    assert_eq!(story.reports(), "a=failed b=433");
    story.push(&["c", "d"]);
    assert_eq!(story.send(FIRST), "", "the epoch is spoilt");
    assert_eq!(story.send(SECOND), "2:c@1/0 3:d@1/1");
}

#[test]
fn time_decides_between_failed_and_unknown() {
    let mut story = Story::new();
    story.push(&["a", "b", "c"]);
    story.send(FIRST);
    story.lost(0);
    story.refused(1, ErrorCode::NotEnoughReplicas);
    story.refused(2, ErrorCode::NotEnoughReplicasAfterAppend);
    story.wait(11);
    assert_eq!(story.reports(), "a=unknown b=failed c=unknown");
    assert!(story.queue.is_empty());
}

#[test]
fn a_batch_too_large_goes_on_as_two_with_the_same_sequences() {
    let mut story = Story::new();
    story.queue.rules.batch_bytes = 100;
    story.push(&["a", "b", "c"]);
    assert_eq!(story.send(FIRST), "0:a+b+c@0/0");
    story.refused(0, ErrorCode::MessageTooLarge);
    assert_eq!(story.send(FIRST), "0:a@0/0");
    story.stored(0, 0);
    assert_eq!(story.send(FIRST), "0:b+c@0/1");
    story.refused(0, ErrorCode::MessageTooLarge);
    assert_eq!(story.send(FIRST), "0:b@0/1");
    story.refused(0, ErrorCode::MessageTooLarge);
    // The other half is behind it, and its sequence was never seen: a gap.
    assert_eq!(story.reports(), "a=0 b=failed");
    assert_eq!(story.send(SECOND), "0:c@1/0");
    story.stored(0, 1);
    assert_eq!(story.reports(), "c=1");
}

#[test]
fn a_topic_created_anew_gets_sequences_of_its_own() {
    let id = |byte| Some(TopicId(types::Uuid([byte; 16])));
    let mut story = Story::new();
    story.queue.on_topic_id(id(1));
    story.push(&["a"]);
    story.send(FIRST);
    story.refused(0, ErrorCode::UnknownTopicId);
    story.queue.on_topic_id(id(2));
    assert!(!story.queue.accepts(FIRST));
    assert_eq!(story.send(SECOND), "0:a@1/0");
}

#[test]
fn another_leader_waits_until_nothing_flies() {
    let mut story = Story::new();
    story.push(&["a", "b"]);
    assert!(story.queue.take(Some(FIRST), BrokerId(2)).is_some());
    assert_eq!(story.queue.readiness(story.now, LEADER), Readiness::Later);
    story.refused(0, ErrorCode::NotLeaderOrFollower);
    assert_eq!(story.queue.readiness(story.now, LEADER), Readiness::Ready);
}

#[test]
fn records_linger_unless_hurried() {
    let mut story = Story::new();
    story.queue.rules.batch_bytes = 100;
    story.queue.rules.linger = Duration::from_secs(1);
    story.push(&["a", "b"]);
    let due = story.now + Duration::from_secs(1);
    assert_eq!(story.queue.readiness(story.now, LEADER), Readiness::At(due));
    assert_eq!(story.queue.readiness(due, LEADER), Readiness::Ready);
    story.queue.hurry(story.now);
    assert_eq!(story.send(FIRST), "0:a+b@0/0");
}
