//! Group members: come, read, commit, leave properly or vanish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{AssignorKind, Consumer, ConsumerConfig, Event, GroupOffset, ResetPolicy};
use types::{GroupId, Offset, TopicName, TopicPartition};

use super::{Phase, Play, name_of, outcome_of};
use crate::decisions::{Decisions, Kind};
use crate::exec::{Node, lock};
use crate::history::{Committed, Granted, OffsetRead, Outcome, Span};
use crate::world::SimEnv;

/// What a member holds at present.
struct Holding {
    consumer: u32,
    instance: Option<Arc<str>>,
    turn: u32,
    /// Where polls have got to, by partition, since the assignment.
    positions: BTreeMap<TopicPartition, i64>,
    /// The poll that brought the assignment began then.
    since: u64,
}

impl Play {
    /// One life of a member.
    pub(super) async fn join(&self, node: Node, number: u32, dice: &Decisions) {
        let group: Arc<str> = if number < 3 { "readers".into() } else { "lonely".into() };
        let client = self.client(node, dice, true);
        let consumer = self.next_instance();
        lock(&self.shared.groups).insert(consumer, group.clone());
        let scaled = !self.stage.scenario.production;
        let session = if scaled { dice.between(Kind::Operation, 1_500, 5_000) } else { 45_000 };
        let is_static = dice.choose(Kind::Operation, 4) == 0;
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
        let topics = vec![TopicName::from("alpha"), TopicName::from("beta")];
        if reader.subscribe(topics).await.is_err() {
            self.stage.done(false, 4);
            return;
        }
        let turn = self.next_turn();
        let instance = is_static.then(|| format!("static-{number}").into());
        let mut holding =
            Holding { consumer, instance, turn, positions: BTreeMap::new(), since: self.now() };
        for _ in 0..dice.between(Kind::Operation, 10, 150) {
            match self.phase() {
                Phase::Stop => return,
                Phase::Work | Phase::Settle => {
                    self.take_part(&mut reader, &group, &mut holding, dice).await
                }
            }
        }
        // Until the end there are always some who stay.
        while self.phase() == Phase::Settle {
            self.take_part(&mut reader, &group, &mut holding, dice).await;
        }
        if dice.choose(Kind::Operation, 2) == 0 {
            _ = reader.close().await;
            self.stage.world.mark("member left");
        }
    }

    async fn take_part(
        &self,
        reader: &mut Consumer<SimEnv>,
        group: &Arc<str>,
        holding: &mut Holding,
        dice: &Decisions,
    ) {
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
            Err(_) => self.stage.done(false, 5),
        }
        if !holding.positions.is_empty() && dice.choose(Kind::Operation, 4) == 0 {
            self.commit(reader, group, holding).await;
        }
        if dice.choose(Kind::Operation, 20) == 0 {
            self.look_at_group(reader, group).await;
        }
        self.stage.think(dice, self.stage.scenario.think).await;
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
                    member,
                    instance: holding.instance.clone(),
                    partitions: partitions.iter().map(name_of).collect(),
                    at: self.now(),
                };
                self.history(|history| history.grants.push(grant));
                holding.positions.clear();
                holding.since = from;
                self.stage.done(true, 6);
            }
            Event::Revoked { .. } => {
                self.stage.world.mark("member revoked");
                self.commit(reader, group, holding).await;
                holding.positions.clear();
            }
            Event::Lost { .. } => {
                self.stage.world.mark("member lost its partitions");
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
