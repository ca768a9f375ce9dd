//! Partitions of which nobody is known to hold everything: whom to ask, and whom to elect by what they answer (P11).
//!
//! After a power cut of all replicas of a page-cache topic each may have lost its newest records. Whoever led last is then no
//! better than the others; the longest log is. A record survives on some of those that were in sync or eligible last, and a log
//! that ends at a later term, or in the same at a later offset, holds whatever of it a shorter one does. So all of them
//! are asked, and nobody is elected before all have answered, and everybody else who is there.
//!
//! Soft state of the active controller; a new one asks anew. An answer counts for one registration of its broker and for the
//! term of the partition in which it was given: a replica answers when it knows of that term, and appends nothing of
//! an earlier one any more.

use std::collections::{BTreeMap, BTreeSet};

use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::change::{Election, Judge, Wish};
use super::{Controller, Decision, Refusal};
use crate::metadata::{Delta, Image, PartitionInfo};

/// How many logs a broker is asked for at once, and tells of; the others follow with the next heartbeats.
pub const LOG_ENDS_MAX: usize = 1_000;

/// A replica of the broker that is asked is to say how far its log reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogEndQuestion {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// The term that it must know of before it answers.
    pub leader_epoch: LeaderEpoch,
}

/// How far a replica's log reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogEndAnswer {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// The term that it knows of.
    pub leader_epoch: LeaderEpoch,
    /// The term of its last record; `None` if it has none.
    pub last_epoch: Option<LeaderEpoch>,
    /// The end of its log.
    pub log_end: Offset,
    /// How far it remembers the partition to have been committed.
    pub high_watermark: Offset,
}

/// A partition that goes on with the longest log there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// Its leader.
    pub leader: BrokerId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// Nothing is lost that was committed before here.
    pub sound_end: Offset,
    /// All that was committed from here on is lost: the leader's log ends.
    pub log_end: Offset,
    /// How much is known to have been committed; it may have been more.
    pub committed_end: Offset,
}

/// What replicas have told of partitions that have no leader.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Those without a leader. Mostly there are none, and then nothing here costs anything.
    leaderless: BTreeSet<Place>,
    told: BTreeMap<Place, BTreeMap<BrokerId, Told>>,
    /// Whether anything has changed since the last decision.
    has_news: bool,
}

type Place = (TopicId, PartitionIndex);

#[derive(Clone, Copy, Debug)]
struct Told {
    broker_epoch: BrokerEpoch,
    answer: LogEndAnswer,
}

impl Recovery {
    /// Of a controller that begins on `image`: nobody has been asked yet.
    pub fn new(image: &Image) -> Recovery {
        let open = image.partitions().filter(|(_, _, partition)| partition.leader.is_none());
        let leaderless = open.map(|(topic, index, _)| (topic.id, index)).collect();
        Recovery { leaderless, ..Recovery::default() }
    }

    /// The image has become another one.
    pub fn on_change(&mut self, image: &Image, delta: &Delta) {
        self.has_news |= !delta.brokers_changed.is_empty();
        self.leaderless.retain(|(id, _)| !delta.topics_removed.contains_key(id));
        for topic in delta.topics_changed.iter().filter_map(|id| image.topic_by_id(*id)) {
            for (index, partition) in &topic.partitions {
                let place = (topic.id, *index);
                match partition.leader {
                    None => self.leaderless.insert(place),
                    Some(_) => self.leaderless.remove(&place),
                };
                // Where nobody has told anything there is nothing to decide.
                self.has_news |= self.told.contains_key(&place);
            }
        }
    }

    /// What a broker is to be asked, or asked again, at most [`LOG_ENDS_MAX`] at once: if it is there, of every replica of it whose
    /// partition has no leader. What those tell whom nobody need wait for an operator may want to know.
    pub fn questions(&self, controller: &Controller, broker: BrokerId) -> Vec<LogEndQuestion> {
        let registered = controller.image.broker(broker);
        let is_needed = !self.leaderless.is_empty() && !planted(Mutant::LogEndsUnasked);
        let Some(registered) = registered.filter(|_| is_needed) else {
            return Vec::new();
        };
        let judge = controller.judge();
        let question = |(topic, index): &Place| {
            let partition = controller.image.partition(*topic, *index)?;
            let told = self.told.get(&(*topic, *index)).and_then(|told| told.get(&broker));
            let has_told = told.is_some_and(|told| {
                told.broker_epoch == registered.epoch
                    && told.answer.leader_epoch == partition.leader_epoch
            });
            let is_asked = partition.leader.is_none()
                && partition.replicas.contains(&broker)
                && judge.is_there(broker, partition)
                && !has_told;
            let leader_epoch = partition.leader_epoch;
            is_asked.then_some(LogEndQuestion { topic: *topic, index: *index, leader_epoch })
        };
        self.leaderless.iter().filter_map(question).take(LOG_ENDS_MAX).collect()
    }

    /// A broker has answered. What was asked of another registration of it counts for nothing, nor what nobody asks.
    pub fn on_answers(
        &mut self,
        controller: &Controller,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        answers: &[LogEndAnswer],
    ) -> Result<(), Refusal> {
        controller.registered(broker, broker_epoch)?;
        for answer in answers {
            let place = (answer.topic, answer.index);
            let partition = controller.image.partition(answer.topic, answer.index);
            let is_replica = partition.is_some_and(|known| known.replicas.contains(&broker));
            if is_replica && self.leaderless.contains(&place) {
                let told = Told { broker_epoch, answer: *answer };
                self.told.entry(place).or_default().insert(broker, told);
                self.has_news = true;
            }
        }
        Ok(())
    }

    /// Whether a decision may have another outcome than the last one.
    pub fn may_decide(&self) -> bool {
        self.has_news && !self.told.is_empty()
    }

    /// Elects the longest logs where nobody need be waited for any more. To be asked whenever a broker has answered, or anything
    /// has changed; without news it costs nothing.
    pub fn decide(&mut self, controller: &Controller) -> Decision<Vec<Recovered>> {
        let mut records = Vec::new();
        let mut recovered = Vec::new();
        let Recovery { leaderless, told, .. } = self;
        told.retain(|place, _| leaderless.contains(place));
        if !self.may_decide() {
            return (records, recovered);
        }
        self.has_news = false;
        let judge = controller.judge();
        for (id, index) in self.told.keys().copied() {
            let topic = controller.image.topic_by_id(id);
            let topic = topic.expect("what is gone is not retained");
            let before = &topic.partitions[&index];
            if !is_in_doubt(before) {
                continue;
            }
            let told = self.told(controller, id, index, before);
            if !is_complete(&judge, before, &told) {
                continue;
            }
            let Some(leader) = longest(&judge, before, &told) else { continue };
            let wish = Wish { election: Election::Unclean(Some(leader)), ..Wish::default() };
            let (_, change) = judge.change(topic, index, before, &wish);
            records.extend(change);
            let committed = told.values().map(|answer| answer.high_watermark);
            recovered.push(Recovered {
                topic: id,
                index,
                leader,
                leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
                sound_end: sound_end(before, leader, &told),
                log_end: told[&leader].log_end,
                committed_end: committed.max().unwrap_or_default(),
            });
        }
        (records, recovered)
    }

    /// The longest log of those that have answered and are there.
    pub(super) fn longest(
        &self,
        controller: &Controller,
        topic: TopicId,
        index: PartitionIndex,
        partition: &PartitionInfo,
    ) -> Option<BrokerId> {
        let told = self.told(controller, topic, index, partition);
        longest(&controller.judge(), partition, &told)
    }

    /// The answers that count.
    fn told(
        &self,
        controller: &Controller,
        topic: TopicId,
        index: PartitionIndex,
        partition: &PartitionInfo,
    ) -> BTreeMap<BrokerId, LogEndAnswer> {
        let told = self.told.get(&(topic, index)).into_iter().flatten();
        let counts = told.filter(|(id, told)| {
            controller.registered(**id, told.broker_epoch).is_ok()
                && told.answer.leader_epoch == partition.leader_epoch
        });
        counts.map(|(id, told)| (*id, told.answer)).collect()
    }
}

/// Whether nobody is known to hold everything, and some that did may have lost the end of it.
fn is_in_doubt(partition: &PartitionInfo) -> bool {
    let has_nobody = partition.isr.is_empty() && partition.elr.is_empty();
    has_nobody && !partition.last_known_elr.is_empty()
}

/// Whether all have answered that count: who held everything last, and whoever else is there. Who holds nothing any more is not
/// among the former.
fn is_complete(
    judge: &Judge<'_>,
    partition: &PartitionInfo,
    told: &BTreeMap<BrokerId, LogEndAnswer>,
) -> bool {
    let is_awaited = |id: &&BrokerId| {
        let is_there = judge.is_there(**id, partition);
        let is_known =
            partition.last_known_elr.contains(*id) && !planted(Mutant::RecoversWithoutAll);
        is_known && !is_there || is_there && !told.contains_key(*id)
    };
    !partition.replicas.iter().any(|id| is_awaited(&id))
}

/// How far the leader's log is sure to hold what was committed. A record that nobody holds any more was on some of the last
/// known ones and lay behind its end; the leader may have others there, which were never committed.
fn sound_end(
    partition: &PartitionInfo,
    leader: BrokerId,
    told: &BTreeMap<BrokerId, LogEndAnswer>,
) -> Offset {
    let known = partition.last_known_elr.iter().filter_map(|id| told.get(id));
    let ends = known.chain(told.get(&leader)).map(|answer| answer.log_end);
    ends.min().unwrap_or_default()
}

fn longest(
    judge: &Judge<'_>,
    partition: &PartitionInfo,
    told: &BTreeMap<BrokerId, LogEndAnswer>,
) -> Option<BrokerId> {
    let there = partition.replicas.iter().filter(|id| judge.is_there(**id, partition));
    let known = there.filter_map(|id| Some((*id, told.get(id)?)));
    if planted(Mutant::LastLeaderElected) {
        let mut last = partition.last_known_elr.iter();
        return last.find(|id| told.contains_key(id)).copied();
    }
    // Of equal ones the first, and rather one that is to stay.
    let rank = |(id, answer): &(BrokerId, &LogEndAnswer)| {
        (answer.last_epoch, answer.log_end, judge.may_lead(*id, partition))
    };
    let best = known.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best });
    best.map(|(id, _)| id)
}
