//! Admins: ask for ends and groups, cut logs, and let topics come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::admin::NewTopic;
use client::{
    Admin, Client, Consumer, ConsumerConfig, DeliveryReport, Isolation, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord, ResetPolicy, Target,
};
use types::{ErrorCode, GroupId, Offset, Timestamp, TopicName, TopicPartition, Uuid};
use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use wire::describe_log_dirs::DescribeLogDirsRequest;
use wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use super::rude::any_version;
use super::{Dialect, Phase, Play, bytes_of, name_of, outcome_of, partition_of, value_of};
use crate::checker::history::i4_epochs_told;
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::exec::Node;
use crate::history::{OffsetRead, Outcome, Sent, Span, TopicLife, TopicsTold};
use crate::world::SimEnv;

impl Play {
    /// Counts an error code that a client met.
    pub(super) fn mark_error(&self, code: ErrorCode) {
        let name: &'static str = match code {
            ErrorCode::NotEnoughReplicas => "error: not enough replicas",
            ErrorCode::OutOfOrderSequenceNumber => "error: out of order sequence number",
            ErrorCode::InvalidProducerEpoch => "error: invalid producer epoch",
            ErrorCode::IllegalGeneration => "error: illegal generation",
            ErrorCode::UnknownMemberId => "error: unknown member id",
            ErrorCode::RebalanceInProgress => "error: rebalance in progress",
            ErrorCode::FencedInstanceId => "error: fenced instance id",
            ErrorCode::KafkaStorageError => "error: storage error",
            ErrorCode::MessageTooLarge => "error: message too large",
            ErrorCode::RecordListTooLarge => "error: record list too large",
            // The client's clock is a day ahead.
            ErrorCode::InvalidTimestamp => "error: invalid timestamp",
            ErrorCode::UnsupportedVersion => "error: unsupported version",
            _ => "error: another one",
        };
        self.stage.world.mark(name);
    }

    /// One life of an admin.
    pub(super) async fn administer(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice, Dialect::Any);
        let admin = Admin::new(&client);
        for _ in 0..dice.between(Kind::Operation, 5, 40) {
            if self.phase() != Phase::Work {
                return;
            }
            let all = self.partitions();
            let some = all[dice.choose(Kind::Operation, all.len() as u64) as usize].clone();
            match dice.choose(Kind::Operation, 9) {
                0 | 1 => _ = self.look_at_ends(&client, &all).await,
                2 => self.look_at_offsets(&admin).await,
                3 => {
                    let result = admin.init_producer_id().await;
                    self.stage.done(result.is_ok(), 9);
                    if let Ok((id, epoch)) = result {
                        self.history(|history| history.producers.push((id.0, epoch.0)));
                    }
                }
                4 if some.topic.as_str() == "gamma" => {
                    let known = self.history(|history| {
                        let name = name_of(&some);
                        history
                            .ends
                            .iter()
                            .rev()
                            .find(|told| told.partition == name)
                            .map(|told| told.end)
                    });
                    let to =
                        dice.choose(Kind::Operation, known.unwrap_or(0).max(0) as u64 + 1) as i64;
                    let result =
                        admin.delete_records(&BTreeMap::from([(some, Some(Offset(to)))])).await;
                    self.stage.done(result.is_ok_and(|all| all.values().all(Result::is_ok)), 10);
                }
                6 => self.look_at_times(&admin, &some, dice).await,
                5 => self.look_at_epochs(&client, &some, dice).await,
                7 => self.look_at_log_dirs(&client, dice).await,
                _ => _ = self.look_at_topics(&admin).await,
            }
            self.stage.think(dice, self.stage.scenario.think * 4).await;
        }
    }

    /// Asks which record came at a time, or last: none is told that came before it.
    async fn look_at_times(&self, admin: &Admin<SimEnv>, place: &TopicPartition, dice: &Decisions) {
        let known = self.history(|history| {
            let name = name_of(place);
            let times = history.dated.iter().rev().filter(|dated| dated.partition == name);
            let times: Vec<i64> = times.filter_map(|dated| dated.time).take(100).collect();
            times.get(dice.choose(Kind::Operation, times.len() as u64) as usize).copied()
        });
        let target = known.map(Timestamp).filter(|_| dice.choose(Kind::Operation, 3) > 0);
        let asked = target.map_or(OffsetSpec::MaxTimestamp, OffsetSpec::Timestamp);
        let isolation = Isolation::ReadUncommitted;
        let told = admin.list_offsets(&BTreeMap::from([(place.clone(), asked)]), isolation).await;
        let told = told.and_then(|mut told| told.remove(place).transpose().map(Option::flatten));
        self.stage.done(told.is_ok(), 19);
        let Ok(Some(found)) = told else { return };
        let is_late = found.timestamp.is_some_and(|time| Some(time) >= target);
        let verdict = require("E38", is_late || self.stage.scenario.is_beyond_promise(), || {
            format!("{place}: asked for {asked:?}, told {found:?}")
        });
        self.stage.judge(verdict);
        self.dated(place, found.offset, found.timestamp, "found by its time");
        self.stage.world.mark("found by its time");
    }

    /// Asks where terms end: the one that is none (-1) ends nowhere, and a later one begins not before an earlier ends (I4).
    async fn look_at_epochs(
        &self,
        client: &Client<SimEnv>,
        place: &TopicPartition,
        dice: &Decisions,
    ) {
        let asked = |leader_epoch| OffsetForLeaderPartition {
            partition: place.partition.0,
            current_leader_epoch: -1,
            leader_epoch,
        };
        let newest = dice.choose(Kind::Operation, 20) as i32;
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: place.topic.as_str().into(),
                partitions: (-1..=newest).map(asked).collect(),
            }],
            ..OffsetForLeaderEpochRequest::default()
        };
        let version = any_version(wire::ApiKey::OffsetForLeaderEpoch, 0, dice);
        let answer = client.raw(Target::Leader(place.clone()), request, Some(version)).await;
        self.stage.done(answer.is_ok(), 17);
        let Ok(answer) = answer else { return };
        let parts: Vec<_> = answer.topics.into_iter().flat_map(|topic| topic.partitions).collect();
        if self.stage.scenario.is_beyond_promise() || parts.iter().any(|part| part.error_code != 0)
        {
            return;
        }
        let ends: Vec<_> = parts.iter().map(|part| (part.leader_epoch, part.end_offset)).collect();
        self.stage.judge(i4_epochs_told(&name_of(place), &ends));
        self.stage.world.mark("epochs told");
    }

    /// Asks how large the logs are: what was acknowledged is in them, unless retention or an admin deletes of them.
    async fn look_at_log_dirs(&self, client: &Client<SimEnv>, dice: &Decisions) {
        let least: BTreeMap<String, i64> = self.history(|history| {
            let mut least = BTreeMap::new();
            for sent in history.sends.iter().filter(|sent| sent.promised) {
                if let Outcome::Ok(_) = sent.outcome {
                    *least.entry(sent.partition.to_string()).or_default() += self.bytes_kept(sent);
                }
            }
            least
        });
        let version = any_version(wire::ApiKey::DescribeLogDirs, 0, dice);
        let request = DescribeLogDirsRequest { topics: None };
        let answer = client.raw(Target::Any, request, Some(version)).await;
        self.stage.done(answer.is_ok(), 21);
        let Ok(answer) = answer else { return };
        if self.stage.scenario.is_beyond_promise() {
            return;
        }
        let paths: Vec<&str> = answer.results.iter().map(|dir| &*dir.log_dir).collect();
        let verdict = require("sizes", paths == self.log_dirs(), || {
            format!("{:?} are the log directories, told {answer:?}", self.log_dirs())
        });
        self.stage.judge(verdict);
        let mut told = BTreeMap::new();
        // One that is offline says so, and nothing of what lies in it, until the next start.
        let is_whole = answer.results.iter().all(|dir| dir.error_code == 0);
        for dir in answer.results.iter().filter(|dir| dir.error_code == 0) {
            let is_space_told = 0 <= dir.usable_bytes && dir.usable_bytes <= dir.total_bytes;
            let verdict = require("sizes", version < 4 || is_space_told, || {
                format!("{} of {} bytes are usable", dir.usable_bytes, dir.total_bytes)
            });
            self.stage.judge(verdict);
            for topic in &dir.topics {
                let logs = topic.partitions.iter();
                told.extend(logs.map(|log| {
                    (format!("{}-{}", topic.name, log.partition_index), log.partition_size)
                }));
            }
        }
        for (partition, bytes) in least {
            let told = told.get(&partition).copied();
            let is_enough = told.map_or(!is_whole, |told| told >= bytes);
            let verdict = require("sizes", is_enough, || {
                format!(
                    "{partition} holds {bytes} acknowledged bytes or more, and is told {told:?}"
                )
            });
            self.stage.judge(verdict);
        }
        self.stage.world.mark("log directories told");
    }

    /// The bytes that a record which was acknowledged takes at least, whatever it was compressed to.
    fn bytes_kept(&self, sent: &Sent) -> i64 {
        let name = sent.partition.rsplit_once('-').map_or("", |(name, _)| name);
        let topic = self.shared.topics.iter().find(|topic| topic.name == name);
        match topic {
            Some(topic) if topic.retained || self.is_excused(&sent.partition) => 0,
            Some(topic) if topic.codec == Some("uncompressed") => 8 + i64::from(sent.value as u16),
            _ => 0,
        }
    }

    async fn look_at_offsets(&self, admin: &Admin<SimEnv>) {
        let from = self.now();
        let result = admin.group_offsets(&GroupId::from("readers")).await;
        self.stage.done(result.is_ok(), 12);
        let Ok(found) = result else { return };
        let span = self.span(from);
        self.history(|history| {
            for (partition, offset) in found {
                history.reads.push(OffsetRead {
                    group: "readers".into(),
                    partition: name_of(&partition),
                    offset: Some(offset.offset.0),
                    span,
                });
            }
        });
    }

    /// Asks which topics there are.
    pub(super) async fn look_at_topics(&self, admin: &Admin<SimEnv>) -> bool {
        let from = self.now();
        let result = admin.list_topics().await;
        self.stage.done(result.is_ok(), 11);
        let Ok(found) = result else { return false };
        let id = |topic: &client::Topic| topic.id.map(|id| u128::from_be_bytes(id.0.0));
        let topics = found.iter().map(|(name, topic)| (name.as_str().into(), id(topic))).collect();
        let span = self.span(from);
        self.history(|history| history.topics_told.push(TopicsTold { topics, span }));
        true
    }

    /// Topics that come and go: nothing of an earlier life may show in a later one (I44).
    pub(super) async fn churn(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice, Dialect::Newest);
        let admin = Admin::new(&client);
        let mut sessions = BTreeMap::new();
        for round in 0..dice.between(Kind::Operation, 3, 30) {
            if self.phase() != Phase::Work {
                return;
            }
            let name = format!("churn-{node}-{}", round % 2);
            // The last life of this name must have ended before the next begins.
            let open = self.history(|history| {
                let life = history.topics.iter().rposition(|life| &*life.name == name.as_str());
                life.filter(|life| {
                    history.topics[*life].deleted.is_none_or(|(_, o)| o != Outcome::Ok(()))
                })
            });
            match open {
                Some(life) => {
                    self.mean_twice(&client, life, dice).await;
                    if let Some((name, _)) = self.lasting(life) {
                        self.look_for_resource(&client, &name, dice).await;
                    }
                    _ = self.look_at_topics(&admin).await;
                    self.delete_topic(&admin, &name, life).await;
                }
                None => {
                    let partitions = dice.between(Kind::Operation, 1, 3) as i32;
                    if self.create_topic(&admin, &name, partitions).await {
                        self.use_topic(&client, &name, partitions, dice).await;
                        self.change_settings(&client, &name, dice).await;
                        self.change_defaults(&client, &name, dice).await;
                        self.change_features(&client, dice).await;
                        self.ask_quorum(&client, dice).await;
                        self.ask_replicas(&client, &name, dice).await;
                        self.push_metrics(&client).await;
                        if let Some(session) = sessions.remove(&name) {
                            self.outlive_topic(&client, session, dice).await;
                        }
                        let session = self.open_session(&client, &name, partitions, dice).await;
                        sessions.extend(session.map(|session| (name, session)));
                    }
                }
            }
            self.stage.think(dice, self.stage.scenario.think * 4).await;
        }
    }

    pub(super) async fn create_topic(
        &self,
        admin: &Admin<SimEnv>,
        name: &str,
        partitions: i32,
    ) -> bool {
        let from = self.now();
        let life = TopicLife {
            name: name.into(),
            id: None,
            created: (Span { from, to: u64::MAX }, Outcome::Unknown),
            deleted: None,
            lingers: false,
        };
        let position = self.history(|history| {
            history.topics.push(life);
            history.topics.len() - 1
        });
        let new = NewTopic { partitions: Some(partitions), ..NewTopic::new(name) };
        let result = admin.create_topics(&[new], false).await;
        let result = result.and_then(|mut all| all.remove(&TopicName::from(name)).transpose());
        let span = self.span(from);
        let (outcome, id) = match &result {
            Ok(created) => (Outcome::Ok(()), created.as_ref().and_then(|created| created.id)),
            Err(error) => (outcome_of(error), None),
        };
        self.history(|history| {
            let life = &mut history.topics[position];
            life.created = (span, outcome);
            life.id = id.map(|id| u128::from_be_bytes(id.0.0));
            if outcome == Outcome::Failed {
                // It never was.
                life.deleted = Some((span, Outcome::Ok(())));
            }
        });
        self.stage.done(outcome == Outcome::Ok(()), 13);
        outcome == Outcome::Ok(())
    }

    /// Name and id of a topic that is certainly there and that nobody is about to delete.
    fn lasting(&self, life: usize) -> Option<(Arc<str>, u128)> {
        self.history(|history| {
            let life = &history.topics[life];
            let is_doomed = |other: &TopicLife| other.name == life.name && other.lingers;
            let lasts = life.created.1 == Outcome::Ok(())
                && life.deleted.is_none()
                && !history.topics.iter().any(is_doomed);
            life.id.filter(|_| lasts).map(|id| (life.name.clone(), id))
        })
    }

    /// Asks to delete a topic in ways that mean it twice: that is refused, in one answer, and the topic stays (I39).
    async fn mean_twice(&self, client: &Client<SimEnv>, life: usize, dice: &Decisions) {
        let alone = self.lasting(life).map(|(name, id)| (name, Uuid(id.to_be_bytes())));
        let Some((name, topic_id)) = alone else { return };
        let by_name = DeleteTopicState { name: Some((&*name).into()), topic_id: Uuid::ZERO };
        let by_id = DeleteTopicState { name: None, topic_id };
        let both = DeleteTopicState { topic_id, ..by_name.clone() };
        let (topics, told) = match dice.choose(Kind::Operation, 8) {
            0..=2 => return,
            3 => (vec![by_name.clone(), by_id], by_name.name),
            4 => (vec![by_id, by_name.clone()], by_name.name),
            5 => (vec![by_id.clone(), by_id], None),
            6 => (vec![both], by_name.name),
            _ => (vec![by_name.clone(), by_name.clone()], by_name.name),
        };
        let is_by_name = topics.iter().all(|topic| topic.topic_id.is_zero());
        let first = if is_by_name { 0 } else { 6 };
        let version = any_version(wire::ApiKey::DeleteTopics, first, dice);
        let request = DeleteTopicsRequest {
            topic_names: topics.iter().filter_map(|topic| topic.name.clone()).collect(),
            topics,
            timeout_ms: 3_000,
        };
        // One that comes so late that the id is gone means the name alone, whoever bears it by then.
        let set_lingers =
            |lingers| self.history(|h| std::mem::replace(&mut h.topics[life].lingers, lingers));
        let lingered = set_lingers(true);
        let answer = client.raw(Target::Controller, request, Some(version)).await;
        self.stage.done(answer.is_ok(), 18);
        let Ok(answer) = answer else { return };
        set_lingers(lingered);
        let answers: Vec<_> = answer
            .responses
            .into_iter()
            .map(|topic| (topic.name, ErrorCode::from_i16(topic.error_code)))
            .collect();
        // A node that can change nothing says so of each.
        let is_able = answers
            .iter()
            .any(|(_, code)| matches!(code, Some(ErrorCode::None | ErrorCode::InvalidRequest)));
        if !is_able || self.stage.scenario.is_beyond_promise() {
            return;
        }
        let expected = [(told, Some(ErrorCode::InvalidRequest))];
        let verdict = require("I39", answers == expected, || {
            format!("topic {name} is meant twice by one deletion, which is answered {answers:?}")
        });
        self.stage.judge(verdict);
        self.stage.world.mark("topic meant twice");
    }

    async fn delete_topic(&self, admin: &Admin<SimEnv>, name: &str, life: usize) {
        let now = self.now();
        // Whatever becomes of this attempt, or of its client: it is on its way.
        let (from, lingered) = self.history(|history| {
            let life = &mut history.topics[life];
            let from = life.deleted.map_or(now, |(span, _)| span.from);
            life.deleted = Some((Span { from, to: u64::MAX }, Outcome::Unknown));
            (from, std::mem::replace(&mut life.lingers, true))
        });
        let topic = TopicName::from(name);
        let result = admin.delete_topics(std::slice::from_ref(&topic)).await;
        let result = result.and_then(|mut all| all.remove(&topic).transpose().map(|_| ()));
        let outcome = match &result {
            Ok(()) => Outcome::Ok(()),
            // An earlier attempt may have deleted it.
            Err(error) if error.error_code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                Outcome::Ok(())
            }
            Err(error) => outcome_of(error),
        };
        let span = self.span(from);
        self.history(|history| {
            let life = &mut history.topics[life];
            life.deleted = Some((span, outcome));
            life.lingers = lingered || outcome == Outcome::Unknown;
        });
        self.stage.world.mark("topic deleted");
        self.stage.done(outcome == Outcome::Ok(()), 14);
    }

    /// Writes into a new topic and reads all of it: exactly what was written in this life.
    async fn use_topic(
        &self,
        client: &Client<SimEnv>,
        name: &str,
        partitions: i32,
        dice: &Decisions,
    ) {
        let Ok(producer) = Producer::new(client, ProducerConfig::default()) else { return };
        let mut written: Vec<(u64, Option<i32>)> = Vec::new();
        let mut deliveries = Vec::new();
        for _ in 0..dice.between(Kind::Operation, 1, 10) {
            let value = self.next_value(0);
            let index = dice.choose(Kind::Operation, partitions as u64) as i32;
            let record = ProducerRecord {
                partition: Some(index),
                ..ProducerRecord::new(name, bytes_of(value))
            };
            written.push((value, None));
            if let Ok(delivery) = producer.send(record).await {
                deliveries.push((written.len() - 1, index, delivery));
            }
        }
        for (position, index, delivery) in deliveries {
            if let DeliveryReport::Ok { .. } = delivery.await {
                written[position].1 = Some(index);
                self.stage.done(true, 15);
            }
        }
        producer.close().await;
        let config = ConsumerConfig { reset: ResetPolicy::Earliest, ..ConsumerConfig::default() };
        let Ok(mut consumer) = Consumer::new(client, config) else { return };
        let all: Vec<_> = (0..partitions).map(|index| partition_of(name, index)).collect();
        if consumer.assign(all.clone()).is_err() {
            return;
        }
        for partition in &all {
            _ = consumer.seek_to_beginning(partition);
        }
        let mut seen = Vec::new();
        for _ in 0..20 {
            let polled = consumer.poll(std::time::Duration::from_millis(300)).await;
            if let Ok(polled) = polled {
                seen.extend(
                    polled
                        .records
                        .iter()
                        .map(|r| (value_of(r.value.as_deref()), r.partition.partition.0)),
                );
            }
            let missing = written
                .iter()
                .any(|(value, to)| to.is_some_and(|to| !seen.contains(&(*value, to))));
            if !missing {
                break;
            }
        }
        for (value, partition) in &seen {
            let known = written.iter().any(|(written, _)| written == value);
            if !known && !self.stage.scenario.is_beyond_promise() {
                let text = format!("{name}-{partition} holds value {value} of another life");
                self.stage.world.violation("I44", text);
            }
        }
        self.stage.world.mark("topic used");
        self.stage.done(true, 16);
    }
}
