//! A consumer group whose coordinator moves from node to node: members read and commit; what was committed last is what the
//! group goes on from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Consumer, ConsumerConfig, Event, GroupOffset, ResetPolicy};
use types::{GroupId, Offset, TopicName, TopicPartition};

use super::Play;
use super::records::{TOPICS, partitions};
use crate::checker::groups::{Lives, i70_register};
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::exec::{Node, lock};
use crate::harness::values::{name_of, outcome_of, value_of};
use crate::history::{Committed, OffsetRead, Outcome, Polled, Span};
use crate::world::SimEnv;

/// The group.
const GROUP: &str = "readers";
/// Within so long after the last fault every group has a coordinator that serves (L4).
const PATIENCE: u32 = 100;

impl Play {
    /// One life of a member.
    pub(super) async fn join(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice);
        let session = dice.between(Kind::Operation, 1_500, 5_000);
        let config = ConsumerConfig {
            group: Some(GroupId::from(GROUP)),
            session_timeout: Duration::from_millis(session),
            heartbeat_interval: Duration::from_millis(session / 4),
            rebalance_timeout: Duration::from_millis(2 * session),
            fetch_wait_max: Duration::from_millis(dice.between(Kind::Operation, 10, 500)),
            reset: ResetPolicy::Earliest,
            ..ConsumerConfig::default()
        };
        let Ok(mut reader) = Consumer::new(&client, config) else { return };
        let topics = TOPICS.map(|(name, ..)| TopicName::from(name)).to_vec();
        if reader.subscribe(topics).await.is_err() {
            return;
        }
        let (instance, mut turn) = (self.next_number(), self.next_number());
        let mut positions: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for _ in 0..dice.between(Kind::Operation, 10, 150) {
            if *lock(&self.shared.stops) {
                return;
            }
            let from = self.now();
            match reader.poll(Duration::from_millis(500)).await {
                Ok(polled) => {
                    for event in &polled.events {
                        turn = self.next_number();
                        if let Event::Revoked { .. } = event {
                            self.commit(&mut reader, &positions).await;
                        }
                        positions.clear();
                    }
                    let mut found: BTreeMap<TopicPartition, Vec<(i64, u64)>> = BTreeMap::new();
                    for record in &polled.records {
                        let value = value_of(record.value.as_deref());
                        positions.insert(record.partition.clone(), record.offset.0 + 1);
                        let of = found.entry(record.partition.clone()).or_default();
                        of.push((record.offset.0, value));
                    }
                    for (partition, records) in found {
                        let (partition, span) = (name_of(&partition), self.span(from));
                        let polled = Polled { consumer: instance, turn, partition, records, span };
                        self.history(|history| history.polls.push(polled));
                        self.stage.done(true, 37);
                    }
                }
                Err(error) => {
                    self.stage.done(false, 37);
                    if !error.is_retriable() {
                        self.stage.world.mark("member gave up");
                        return;
                    }
                }
            }
            if !positions.is_empty() && dice.choose(Kind::Operation, 4) == 0 {
                self.commit(&mut reader, &positions).await;
            }
            self.stage.think(dice, self.stage.scenario.think).await;
        }
        if dice.choose(Kind::Operation, 2) == 0 {
            _ = reader.close().await;
            self.stage.world.mark("member left");
        }
    }

    async fn commit(
        &self,
        reader: &mut Consumer<SimEnv>,
        positions: &BTreeMap<TopicPartition, i64>,
    ) {
        if positions.is_empty() {
            return;
        }
        let from = self.now();
        let member: Arc<str> = reader.member_id().unwrap_or_default().into();
        let place = |offset: &i64| GroupOffset {
            offset: Offset(*offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        let offsets = positions.iter().map(|(partition, at)| (partition.clone(), place(at)));
        let places = self.history(|history| {
            let first = history.commits.len();
            history.commits.extend(positions.iter().map(|(partition, offset)| Committed {
                group: GROUP.into(),
                member: member.clone(),
                partition: name_of(partition),
                offset: *offset,
                span: Span { from, to: u64::MAX },
                outcome: Outcome::Unknown,
                lingers: true,
            }));
            first..history.commits.len()
        });
        let result = reader.commit_offsets(offsets.collect()).await;
        let span = self.span(from);
        let outcome = result.as_ref().map_or_else(outcome_of, |()| Outcome::Ok(()));
        // Within the first back-off there was one attempt and no other.
        let lingers = span.to - span.from >= 40_000_000;
        self.history(|history| {
            for commit in &mut history.commits[places] {
                (commit.span, commit.outcome, commit.lingers) = (span, outcome, lingers);
            }
        });
        self.shared.answered.notify_waiters();
        self.stage.done(result.is_ok(), 38);
    }

    /// I70: what the group goes on from is what was committed last.
    pub(super) async fn judge_groups(&self, client: &Client<SimEnv>) -> bool {
        let config =
            ConsumerConfig { group: Some(GroupId::from(GROUP)), ..ConsumerConfig::default() };
        let Ok(reader) = Consumer::new(client, config) else { return false };
        for _ in 0..PATIENCE {
            let from = self.now();
            if let Ok(found) = reader.committed(&partitions()).await {
                let span = self.span(from);
                self.history(|history| {
                    history.reads.extend(found.into_iter().map(|(partition, place)| OffsetRead {
                        group: GROUP.into(),
                        partition: name_of(&partition),
                        offset: place.map(|place| place.offset.0),
                        span,
                    }));
                });
                let history = lock(&self.shared.history);
                return self.stage.judge(i70_register(&history, &Lives::of(&history, false)));
            }
            self.stage.world.sleep(Duration::from_millis(300)).await;
        }
        self.stage.judge(require("L4", false, || "the group has no coordinator that serves".into()))
    }
}
