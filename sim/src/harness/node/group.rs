//! Group members: come, read, commit, leave properly or vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::{AssignorKind, Consumer, ConsumerConfig, Event, GroupOffset, ResetPolicy};
use types::{GroupId, Offset, TopicName, TopicPartition};

use super::{Dialect, Phase, Play, name_of, outcome_of, partition_of};
use crate::decisions::{Decisions, Kind};
use crate::exec::{Node, lock};
use crate::history::{Committed, Granted, OffsetRead, Outcome, Partition, Span};
use crate::world::SimEnv;

/// Members that come and go.
pub(super) const MEMBERS: u32 = 4;

/// The groups they are in.
pub(super) const GROUPS: [&str; 2] = ["readers", "lonely"];

/// The topics they read.
const TOPICS: [&str; 2] = ["alpha", "beta"];

/// Which group a member belongs to: one group has a single member.
pub(super) fn group_of(number: u32) -> &'static str {
    GROUPS[usize::from(number + 1 == MEMBERS)]
}

/// What a member holds at present.
struct Holding {
    number: u32,
    consumer: u32,
    born: u64,
    instance: Option<Arc<str>>,
    turn: u32,
    /// Where polls have got to, by partition, since the assignment.
    positions: BTreeMap<TopicPartition, i64>,
    /// The poll that brought the assignment began then.
    since: u64,
}

impl Play {
    /// The partitions of the topics that groups read.
    pub(super) fn subscribed(&self) -> BTreeSet<Partition> {
        let topics = self.shared.topics.iter().filter(|topic| TOPICS.contains(&topic.name));
        let all = topics.flat_map(|topic| {
            (0..topic.partitions).map(|index| name_of(&partition_of(topic.name, index)))
        });
        all.collect()
    }

    /// Notes what a member owns from now on.
    fn seat(&self, number: u32, owns: Option<Granted>) {
        lock(&self.shared.seats).insert(number, owns);
    }

    /// One life of a member.
    pub(super) async fn join(&self, node: Node, number: u32, dice: &Decisions) {
        self.seat(number, None);
        let group: Arc<str> = group_of(number).into();
        let is_static = dice.choose(Kind::Operation, 4) == 0;
        let dialect = if is_static { Dialect::Named } else { Dialect::Any };
        let client = self.client(node, dice, dialect);
        let (consumer, born) = (self.next_instance(), self.now());
        lock(&self.shared.groups).insert(consumer, group.clone());
        let scaled = !self.stage.scenario.production;
        let session = if scaled { dice.between(Kind::Operation, 1_500, 5_000) } else { 45_000 };
        let assignors = [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::Sticky];
        let config = ConsumerConfig {
            group: Some(GroupId::from(&*group)),
            instance_id: is_static.then(|| format!("static-{number}")),
            // One in common, so that members always agree.
            assignors: if dice.choose(Kind::Operation, 2) == 0 {
                assignors.to_vec()
            } else {
                assignors[..1].to_vec()
            },
            session_timeout: Duration::from_millis(session),
            heartbeat_interval: Duration::from_millis(session / 4),
            rebalance_timeout: Duration::from_millis(if scaled { 2 * session } else { 300_000 }),
            reset: ResetPolicy::Earliest,
            ..self.consumer_config(dice)
        };
        let Ok(mut reader) = Consumer::new(&client, config) else { return };
        if reader.subscribe(TOPICS.map(TopicName::from).to_vec()).await.is_err() {
            self.stage.done(false, 4);
            return;
        }
        let turn = self.next_turn();
        let instance = is_static.then(|| format!("static-{number}").into());
        let mut holding = Holding {
            number,
            consumer,
            born,
            instance,
            turn,
            positions: BTreeMap::new(),
            since: self.now(),
        };
        for _ in 0..dice.between(Kind::Operation, 10, 150) {
            if !self.take_part(&mut reader, &group, &mut holding, dice).await {
                return;
            }
        }
        // Until the end there are always some who stay.
        while self.phase() == Phase::Settle {
            if !self.take_part(&mut reader, &group, &mut holding, dice).await {
                return;
            }
        }
        self.seat(number, None);
        if dice.choose(Kind::Operation, 2) == 0 {
            _ = reader.close().await;
            self.stage.world.mark("member left");
        }
    }

    /// One poll and what comes of it. Whether to go on.
    async fn take_part(
        &self,
        reader: &mut Consumer<SimEnv>,
        group: &Arc<str>,
        holding: &mut Holding,
        dice: &Decisions,
    ) -> bool {
        if self.phase() == Phase::Stop {
            return false;
        }
        let from = self.now();
        match reader.poll(Duration::from_millis(500)).await {
            Ok(polled) => {
                for event in &polled.events {
                    self.on_event(reader, group, holding, event, from).await;
                }
                if !polled.records.is_empty() {
                    self.on_records(group, holding, &polled.records, from);
                }
            }
            Err(error) => {
                self.stage.done(false, 5);
                if !error.is_retriable() {
                    // The membership has ended: a program gives up, and is started again.
                    self.stage.world.mark("member gave up");
                    self.stage.think(dice, 10 * self.stage.scenario.think).await;
                    return false;
                }
            }
        }
        if !holding.positions.is_empty() && dice.choose(Kind::Operation, 4) == 0 {
            self.commit(reader, group, holding).await;
        }
        if dice.choose(Kind::Operation, 20) == 0 {
            self.look_at_group(reader, group).await;
        }
        self.stage.think(dice, self.stage.scenario.think).await;
        true
    }

    async fn on_event(
        &self,
        reader: &mut Consumer<SimEnv>,
        group: &Arc<str>,
        holding: &mut Holding,
        event: &Event,
        from: u64,
    ) {
        holding.turn = self.next_turn();
        match event {
            Event::Assigned { generation, partitions } => {
                self.stage.world.mark("member assigned");
                let member: Arc<str> = reader.member_id().unwrap_or_default().into();
                let grant = Granted {
                    group: group.clone(),
                    generation: *generation,
                    consumer: holding.consumer,
                    born: holding.born,
                    member,
                    instance: holding.instance.clone(),
                    partitions: partitions.iter().map(name_of).collect(),
                    at: self.now(),
                };
                self.seat(holding.number, Some(grant.clone()));
                self.history(|history| history.grants.push(grant));
                holding.positions.clear();
                holding.since = from;
                self.stage.done(true, 6);
            }
            Event::Revoked { .. } => {
                self.stage.world.mark("member revoked");
                self.seat(holding.number, None);
                self.commit(reader, group, holding).await;
                holding.positions.clear();
            }
            Event::Lost { .. } => {
                self.stage.world.mark("member lost its partitions");
                self.seat(holding.number, None);
                holding.positions.clear();
            }
            Event::Reset { .. } => {}
        }
    }

    fn on_records(
        &self,
        group: &Arc<str>,
        holding: &mut Holding,
        records: &[client::ConsumerRecord],
        from: u64,
    ) {
        self.write_down(holding.consumer, holding.turn, from, records);
        for record in records {
            let fresh = !holding.positions.contains_key(&record.partition);
            // A member begins where its group had got to: that is a read of the group's offset.
            if fresh {
                let read = OffsetRead {
                    group: group.clone(),
                    partition: name_of(&record.partition),
                    offset: (record.offset.0 > 0).then_some(record.offset.0),
                    span: Span { from: holding.since, to: self.now() },
                };
                if !self.is_excused(&read.partition) {
                    self.history(|history| history.reads.push(read));
                }
            }
            holding.positions.insert(record.partition.clone(), record.offset.0 + 1);
        }
        self.stage.done(true, records.len() as u64);
    }

    async fn commit(&self, reader: &mut Consumer<SimEnv>, group: &Arc<str>, holding: &Holding) {
        if holding.positions.is_empty() {
            return;
        }
        let from = self.now();
        let member: Arc<str> = reader.member_id().unwrap_or_default().into();
        let mut offsets = BTreeMap::new();
        for (partition, offset) in &holding.positions {
            let place = GroupOffset {
                offset: Offset(*offset),
                leader_epoch: None,
                metadata: String::new(),
            };
            offsets.insert(partition.clone(), place);
        }
        let positions = self.history(|history| {
            let first = history.commits.len();
            for (partition, offset) in &holding.positions {
                history.commits.push(Committed {
                    group: group.clone(),
                    member: member.clone(),
                    partition: name_of(partition),
                    offset: *offset,
                    span: Span { from, to: u64::MAX },
                    outcome: Outcome::Unknown,
                    lingers: true,
                });
            }
            first..history.commits.len()
        });
        let result = reader.commit_offsets(offsets).await;
        let span = self.span(from);
        let outcome = match &result {
            Ok(()) => Outcome::Ok(()),
            Err(error) => {
                if let Some(code) = error.error_code() {
                    self.mark_error(code);
                }
                outcome_of(error)
            }
        };
        // Within the first back-off there was one attempt and no other.
        let lingers = span.to - span.from >= 40_000_000;
        self.history(|history| {
            for commit in &mut history.commits[positions] {
                commit.span = span;
                commit.outcome = outcome;
                commit.lingers = lingers;
            }
        });
        self.stage.done(result.is_ok(), 7);
    }

    async fn look_at_group(&self, reader: &Consumer<SimEnv>, group: &Arc<str>) {
        let partitions = reader.assignment();
        if partitions.is_empty() {
            return;
        }
        let from = self.now();
        let result = reader.committed(&partitions).await;
        self.stage.done(result.is_ok(), 8);
        let Ok(found) = result else { return };
        let span = self.span(from);
        self.history(|history| {
            for (partition, offset) in found {
                history.reads.push(OffsetRead {
                    group: group.clone(),
                    partition: name_of(&partition),
                    offset: offset.map(|offset| offset.offset.0),
                    span,
                });
            }
        });
    }
}
