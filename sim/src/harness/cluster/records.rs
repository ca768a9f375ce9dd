//! Records on topics of several replicas: producers and readers through every failover, and what must be so at the end.
//!
//! Topics sync, all but one that some runs have. Whatever befalls the machines, what was acknowledged by all is there at the
//! end, each record at its offset, in every replica. Of the one that does not sync that is promised as long as no machine loses
//! its power; what holds of it then stands in [`Play::judge_history`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::admin::NewTopic;
use client::{
    Acks, Admin, Client, Compression, Consumer, ConsumerConfig, DeliveryReport, Isolation,
    OffsetSpec, Producer, ProducerConfig, ProducerRecord, ResetPolicy,
};
use tokio::sync::Semaphore;
use types::{BrokerId, Offset, TopicPartition};

use super::Play;
use crate::checker::history::{
    a1_one_value_per_offset, a2_no_duplicates, a3_nothing_lost, a4_nothing_invented,
    a9_contiguous_polls, a11_monotonic_sends, i18_read_stays, i23_ends_told,
    i31_acknowledged_is_committed, i36_fetches_are_fresh,
};
use crate::checker::{Verdict, require};
use crate::decisions::{Decisions, Kind};
use crate::exec::{Node, lock};
use crate::fault::FaultKind;
use crate::harness::values::{bytes_of, name_of, outcome_of, partition_of, value_of};
use crate::history::{EndTold, History, Outcome, Polled, Sent, Span};
use crate::world::SimEnv;

/// A topic with records: name, partitions, `min.insync.replicas`.
pub(super) const TOPICS: [(&str, i32, u32); 2] = [("alpha", 2, 1), ("beta", 1, 2)];
/// The one that does not sync, where there is one.
pub(super) const PAGED: &str = "gamma";
/// How many replicas each has.
pub(super) const REPLICAS: i16 = 3;
/// All replicas are in sync again within this (L3): the longest probation of one that was too slow too often, and the rest.
const IN_SYNC_AGAIN: Duration = Duration::from_secs(100);
/// How soon brokers are level: a rest of one that was, ten seconds without anybody coming or going, and a few rounds of moves.
const LEVEL_AGAIN: Duration = Duration::from_secs(180);
/// A healthy cluster takes a record within this (L4).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a leader tells what it knows though another leads already (I36): a session, by clocks that drift.
const STALENESS: Duration = Duration::from_millis(3_100);
/// What one read of a log asks for.
const READ_BYTES: usize = 1 << 20;

impl Play {
    /// The topics of this run.
    fn topics(&self) -> Vec<(&'static str, i32, u32)> {
        let paged = self.stage.scenario.paged_topic.map(|min_isr| (PAGED, 1, min_isr));
        TOPICS.into_iter().chain(paged).collect()
    }

    /// Their partitions.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        partitions_of(self.topics())
    }

    /// Whether records of a topic, or of a partition of it, may be lost that were acknowledged by all.
    fn may_lose(&self, name: &str) -> bool {
        name.starts_with(PAGED) && self.stage.scenario.has(FaultKind::PowerCut)
    }

    /// Creates the topics, while all is quiet.
    pub(super) async fn prepare(&self) -> bool {
        let client = self.client(super::CLIENTS - 1, &self.stage.dice(super::CLIENTS - 1));
        let admin = Admin::new(&client);
        for (name, partitions, min_isr) in self.topics() {
            let mut new = NewTopic::new(name);
            new.partitions = Some(partitions);
            new.replication = Some(REPLICAS);
            for whose in ["leader", "follower"].iter().filter(|_| self.stage.scenario.moves) {
                let key = format!("{whose}.replication.throttled.replicas");
                new.configs.insert(key, "*".to_owned());
            }
            new.configs.insert("min.insync.replicas".into(), min_isr.to_string());
            if name == PAGED {
                new.configs.insert("durability".into(), "page-cache".into());
            }
            let created = admin.create_topics(&[new], false).await;
            let is_there = created.as_ref().is_ok_and(|all| all.values().all(|made| made.is_ok()));
            if !is_there {
                let text = format!("topic {name} cannot be created: {created:?}");
                self.stage.world.violation("L4", text);
                return false;
            }
        }
        true
    }

    pub(super) fn history<T>(&self, act: impl FnOnce(&mut History) -> T) -> T {
        act(&mut lock(&self.shared.history))
    }

    pub(super) fn next_number(&self) -> u32 {
        let mut number = lock(&self.shared.numbers);
        *number += 1;
        *number
    }

    fn next_value(&self, filling: u16) -> u64 {
        u64::from(self.next_number()) << 16 | u64::from(filling)
    }

    pub(super) fn now(&self) -> u64 {
        self.stage.world.now_nanos()
    }

    pub(super) fn span(&self, from: u64) -> Span {
        Span { from, to: self.now() }
    }

    /// One life of a producer.
    pub(super) async fn produce(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice);
        let acks = if dice.choose(Kind::Operation, 4) == 0 { Acks::Leader } else { Acks::All };
        let idempotent = acks == Acks::All && dice.choose(Kind::Operation, 4) > 0;
        let config = ProducerConfig {
            acks,
            idempotent,
            compression: Compression::None,
            batch_bytes: [200, 2_000, 16_384][dice.choose(Kind::Operation, 3) as usize],
            linger: Duration::from_millis(dice.choose(Kind::Operation, 20)),
            in_flight_max: dice.between(Kind::Operation, 1, 5) as usize,
            delivery_timeout: Duration::from_secs(dice.between(Kind::Operation, 6, 20)),
            retries: idempotent || dice.choose(Kind::Operation, 2) == 0,
            ..ProducerConfig::default()
        };
        let Ok(producer) = Producer::new(&client, config) else { return };
        let instance = self.next_number();
        let topics = self.topics();
        let room = Arc::new(Semaphore::new(8));
        for _ in 0..dice.between(Kind::Operation, 50, 400) {
            if *lock(&self.shared.stops) {
                break;
            }
            let Ok(permit) = room.clone().acquire_owned().await else { break };
            let chosen = dice.choose(Kind::Operation, topics.len() as u64) as usize;
            let (topic, partitions, _) = topics[chosen];
            let index = dice.choose(Kind::Operation, partitions as u64) as i32;
            let filling = dice.choose(Kind::Operation, self.stage.scenario.value_bytes_max);
            let value = self.next_value(u16::try_from(filling).unwrap_or(u16::MAX));
            let position = self.history(|history| {
                history.sends.push(Sent {
                    producer: instance,
                    idempotent,
                    promised: acks == Acks::All && !self.may_lose(topic),
                    partition: name_of(&partition_of(topic, index)),
                    value,
                    span: Span { from: self.now(), to: u64::MAX },
                    outcome: Outcome::Unknown,
                });
                history.sends.len() - 1
            });
            let record = ProducerRecord {
                partition: Some(index),
                ..ProducerRecord::new(topic, bytes_of(value))
            };
            match producer.send(record).await {
                Ok(delivery) => {
                    let play = self.clone();
                    self.stage.spawn(node, "delivery", async move {
                        let report = delivery.await;
                        play.delivered(position, acks, &report);
                        drop(permit);
                    });
                }
                Err(error) => self.settle(position, outcome_of(&error)),
            }
            if dice.choose(Kind::Operation, 3) == 0 {
                self.stage.think(dice, self.stage.scenario.think).await;
            }
        }
        producer.close().await;
        // Each waiter gives its permit back when the outcome is written down.
        _ = room.acquire_many(8).await;
    }

    fn delivered(&self, position: usize, acks: Acks, report: &DeliveryReport) {
        let outcome = match report {
            // A leader's own word holds for as long as it leads.
            DeliveryReport::Ok { .. } if acks != Acks::All => Outcome::Ok(None),
            DeliveryReport::Ok { offset, .. } => Outcome::Ok(offset.map(|offset| offset.0)),
            DeliveryReport::Failed(_) => Outcome::Failed,
            DeliveryReport::Unknown(_) => {
                self.stage.world.mark("produce with unknown outcome");
                Outcome::Unknown
            }
        };
        self.settle(position, outcome);
    }

    fn settle(&self, position: usize, outcome: Outcome<Option<i64>>) {
        let now = self.now();
        self.history(|history| {
            let sent = &mut history.sends[position];
            (sent.outcome, sent.span.to) = (outcome, now);
        });
        self.shared.answered.notify_waiters();
        self.stage.done(matches!(outcome, Outcome::Ok(_)), 34);
    }

    /// One life of a reader.
    pub(super) async fn read(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice);
        let instance = self.next_number();
        let config = ConsumerConfig {
            reset: ResetPolicy::Earliest,
            partition_bytes_max: [1, 3_000, 1 << 20][dice.choose(Kind::Operation, 3) as usize],
            fetch_wait_max: Duration::from_millis(dice.between(Kind::Operation, 10, 500)),
            isolation: [Isolation::ReadUncommitted, Isolation::ReadCommitted]
                [dice.choose(Kind::Operation, 2) as usize],
            rack: self.rack_of(instance),
            ..ConsumerConfig::default()
        };
        let Ok(mut consumer) = Consumer::new(&client, config) else { return };
        for _ in 0..dice.between(Kind::Operation, 3, 15) {
            if *lock(&self.shared.stops) {
                return;
            }
            let all = self.partitions();
            let chosen = all[dice.choose(Kind::Operation, all.len() as u64) as usize].clone();
            let told = self.look_at_ends(&client, &chosen).await;
            if consumer.assign(vec![chosen.clone()]).is_err() {
                return;
            }
            let offset = told.map_or(0, |(_, end)| dice.choose(Kind::Operation, end as u64 + 1));
            let sought = self.now();
            _ = match dice.choose(Kind::Operation, 4) {
                0 => consumer.seek_to_beginning(&chosen),
                1 => consumer.seek_to_end(&chosen),
                _ => consumer.seek(&chosen, Offset(offset as i64)),
            };
            let turn = self.next_number();
            let mut is_first = true;
            for _ in 0..dice.between(Kind::Operation, 1, 12) {
                let (from, nearest) = (self.now(), consumer.nearest(&chosen));
                let Ok(polled) = consumer.poll(Duration::from_millis(800)).await else {
                    self.stage.done(false, 35);
                    break;
                };
                // After a reset it reads from somewhere else.
                if !polled.events.is_empty() {
                    break;
                }
                let value = |r: &client::ConsumerRecord| (r.offset.0, value_of(r.value.as_deref()));
                let records: Vec<(i64, u64)> = polled.records.iter().map(value).collect();
                // It was asked for after the reader had gone there, and told with the records that are read now.
                let told = consumer.high_watermark(&chosen);
                let watermark = told.map_or(0, |end| end.0);
                if told.is_some() && std::mem::take(&mut is_first) {
                    let fetched = (name_of(&chosen), watermark, self.span(sought));
                    self.history(|history| history.fetched.push(fetched));
                }
                if let Some((last, _)) = records.last() {
                    if nearest.is_some() && consumer.nearest(&chosen) == nearest {
                        self.stage.world.mark("read from a follower");
                    }
                    let text = || format!("{chosen}: {last} is read of {watermark}");
                    self.stage.judge(require("I24", *last < watermark, text));
                    let (partition, span) = (name_of(&chosen), self.span(from));
                    let polled = Polled { consumer: instance, turn, partition, records, span };
                    self.history(|history| history.polls.push(polled));
                    self.stage.done(true, 35);
                }
                self.stage.think(dice, self.stage.scenario.think).await;
            }
        }
    }

    /// Asks where the log begins and ends.
    async fn look_at_ends(
        &self,
        client: &Client<SimEnv>,
        partition: &TopicPartition,
    ) -> Option<(i64, i64)> {
        let admin = Admin::new(client);
        let from = self.now();
        let ask = |spec: OffsetSpec| BTreeMap::from([(partition.clone(), spec)]);
        let (first, last) = (ask(OffsetSpec::Earliest), ask(OffsetSpec::Latest));
        let starts = admin.list_offsets(&first, Isolation::ReadUncommitted).await;
        let start = starts.ok()?.pop_first()?.1.ok()??.offset.0;
        let ends = admin.list_offsets(&last, Isolation::ReadUncommitted).await;
        let end = ends.ok()?.pop_first()?.1.ok()??.offset.0;
        let span = self.span(from);
        let told = EndTold { partition: name_of(partition), end, start, span };
        self.history(|history| history.ends.push(told));
        self.stage.done(true, 36);
        Some((start, end))
    }

    /// Everything acknowledged is there, in every replica, and the history makes sense.
    pub(super) async fn judge_records(&self) {
        let client = self.client(super::CLIENTS - 1, &self.stage.dice(super::CLIENTS - 1));
        if !self.writes_again(&client).await {
            return;
        }
        // Deliveries that were under way have ended by now, or never will.
        self.stage.world.sleep(Duration::from_secs(20)).await;
        if !self.replicas_agree().await
            || !self.is_level().await
            || !self.judge_groups(&client).await
        {
            return;
        }
        for partition in self.partitions() {
            if !self.read_whole(&client, &partition).await {
                return;
            }
        }
        self.judge_history();
        self.stage.world.mark("records judged");
    }

    /// Of partitions that may lose the end of their log, and go on with other records there, nothing is known of offsets. What
    /// holds of them, too: nothing is invented or stands twice, and polls have no gaps; and the judge of elections.
    fn judge_history(&self) {
        let all = lock(&self.shared.history);
        let history = all.of(|partition| !self.may_lose(partition));
        let lossy = History { polls: Vec::new(), ..all.of(|partition| self.may_lose(partition)) };
        let unplaced = |sent: &Sent| Sent { outcome: unplaced(sent.outcome), ..sent.clone() };
        let sends = lossy.sends.iter().map(unplaced).collect();
        let lossy = History { sends, ..lossy };
        let verdicts: [&dyn Fn() -> Verdict; 11] = [
            &|| a1_one_value_per_offset(&history),
            &|| a2_no_duplicates(&history),
            &|| a3_nothing_lost(&history),
            &|| a2_no_duplicates(&lossy),
            &|| a4_nothing_invented(&all),
            &|| a9_contiguous_polls(&all),
            &|| a11_monotonic_sends(&history),
            &|| i18_read_stays(&history, |_| false),
            &|| i23_ends_told(&history, |_| false, STALENESS.as_nanos() as u64),
            &|| i31_acknowledged_is_committed(&history, |_| false, STALENESS.as_nanos() as u64),
            &|| i36_fetches_are_fresh(&history, STALENESS.as_nanos() as u64),
        ];
        let _ = verdicts.iter().all(|verdict| self.stage.judge(verdict()));
    }

    /// L4: a record for each partition is acknowledged in bounded time.
    async fn writes_again(&self, client: &Client<SimEnv>) -> bool {
        let Ok(producer) = Producer::new(client, ProducerConfig::default()) else { return false };
        let instance = self.next_number();
        for partition in self.partitions() {
            let value = self.next_value(0);
            let from = self.now();
            let record = ProducerRecord {
                partition: Some(partition.partition.0),
                ..ProducerRecord::new(partition.topic.clone(), bytes_of(value))
            };
            let deliver = async {
                match producer.send(record).await {
                    Ok(delivery) => delivery.await,
                    Err(error) => DeliveryReport::Failed(error),
                }
            };
            let report = tokio::select! {
                biased;
                report = deliver => Some(report),
                () = self.stage.world.sleep(PATIENCE) => None,
            };
            let Some(DeliveryReport::Ok { offset, .. }) = report else {
                let text = format!("with all quiet a produce to {partition} ends with {report:?}");
                self.stage.world.violation("L4", text);
                return false;
            };
            let sent = Sent {
                producer: instance,
                idempotent: true,
                promised: true,
                partition: name_of(&partition),
                value,
                span: self.span(from),
                outcome: Outcome::Ok(offset.map(|offset| offset.0)),
            };
            self.history(|history| history.sends.push(sent));
        }
        true
    }

    /// Up to where every replica of a partition has synced it; the start where one of them is not there.
    pub(super) fn synced_everywhere(&self, partition: &TopicPartition) -> Offset {
        let end = |node: &Node| {
            let observer = self.observer(*node)?;
            let log = observer.data_dirs().iter().find_map(|dir| dir.log(partition))?;
            Some(log.ends().durable)
        };
        let ends: Vec<Offset> = self.nodes.iter().filter_map(end).collect();
        let least = ends.iter().min().filter(|_| ends.len() == REPLICAS as usize);
        least.copied().unwrap_or_default()
    }

    /// L3, L9, I17: all replicas are in sync again in bounded time, and hold the same, with nothing of it damaged.
    async fn replicas_agree(&self) -> bool {
        let until = self.stage.world.elapsed() + IN_SYNC_AGAIN;
        for partition in self.partitions() {
            loop {
                let standing = self.replicas_of(&partition).await;
                let isr = self.isr_of(&partition);
                let is_level = standing.windows(2).all(|pair| pair[0].1 == pair[1].1);
                let is_full = isr.len() == REPLICAS as usize && standing.len() == REPLICAS as usize;
                let damaged = self.damaged(&partition);
                if is_full && is_level && damaged.is_empty() {
                    break;
                }
                if self.stage.world.elapsed() > until {
                    let ends: Vec<(Node, usize)> =
                        standing.iter().map(|(node, batches)| (*node, batches.len())).collect();
                    let text = format!(
                        "{partition}: after {IN_SYNC_AGAIN:?} in sync are {isr:?}, and replicas hold so many batches: {ends:?}; \
                         damaged are {damaged:?}"
                    );
                    // Behind is one thing, different another.
                    let differs = standing.windows(2).any(|pair| {
                        pair[0].1.iter().zip(&pair[1].1).any(|(one, other)| one != other)
                    });
                    let rule = if !damaged.is_empty() {
                        "L9"
                    } else if differs {
                        "I17"
                    } else {
                        "L3"
                    };
                    self.stage.world.violation(rule, text);
                    return false;
                }
                self.stage.world.sleep(Duration::from_millis(100)).await;
            }
        }
        true
    }

    /// Where partitions move by themselves, no broker holds more than a tenth more or less than its share, and what one partition
    /// weighs, in bounded time.
    async fn is_level(&self) -> bool {
        // Racks of unequal size cannot be level: no partition lies in fewer of them for it.
        if !self.stage.scenario.balances || self.stage.scenario.reads_nearby {
            return true;
        }
        let until = self.stage.world.elapsed() + LEVEL_AGAIN;
        loop {
            let Some(loads) = self.loads() else { return true };
            let mean = loads.values().map(|(load, _)| load).sum::<u64>() / loads.len() as u64;
            let heaviest = loads.values().map(|(_, heaviest)| *heaviest).max().unwrap_or(0);
            let is_off = |load: u64| load.abs_diff(mean) > mean / 10 + heaviest;
            if !loads.values().any(|(load, _)| is_off(*load)) {
                return true;
            }
            if self.stage.world.elapsed() > until {
                let text =
                    format!("after {LEVEL_AGAIN:?} brokers hold {loads:?}, which is not level");
                self.stage.world.violation("balance", text);
                return false;
            }
            self.stage.world.sleep(Duration::from_millis(500)).await;
        }
    }

    /// What each broker is to hold by the metadata, and the heaviest partition of it: in bytes, with what a replica weighs beside
    /// them. The only replica of a partition stays where it was, though its disk is gone.
    fn loads(&self) -> Option<BTreeMap<Node, (u64, u64)>> {
        const REPLICA_BYTES: u64 = 1 << 20;
        let observers: Option<Vec<_>> =
            self.brokers.iter().map(|node| self.observer(*node)).collect();
        let observers = observers?;
        let mut bytes: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        for log in observers.iter().flat_map(|known| known.data_dirs()).flat_map(log::LogDir::logs)
        {
            let known = bytes.entry(log.topic_partition().clone()).or_default();
            *known = log.bytes_total().max(*known);
        }
        let mut loads: BTreeMap<Node, (u64, u64)> =
            self.brokers.iter().map(|node| (*node, (0, 0))).collect();
        for (topic, partition, registered) in observers.first()?.view().image.partitions() {
            let id = TopicPartition { topic: topic.name.clone(), partition };
            let weight = bytes.get(&id).copied().unwrap_or_default() + REPLICA_BYTES;
            for replica in &registered.replicas {
                let (load, heaviest) = loads.entry(replica.0 as Node).or_default();
                *load += weight;
                *heaviest = weight.max(*heaviest);
            }
        }
        Some(loads)
    }

    /// Damage that the nodes know of.
    fn damaged(&self, partition: &TopicPartition) -> Vec<(Node, Offset, Offset)> {
        let of = |node: &Node| {
            let observer = self.observer(*node)?;
            let log = observer.data_dirs().iter().find_map(|dir| dir.log(partition))?;
            let damaged = log.quarantined_offsets().into_iter();
            Some(damaged.map(|(start, end)| (*node, start, end)).collect::<Vec<_>>())
        };
        self.nodes.iter().filter_map(of).flatten().collect()
    }

    fn isr_of(&self, partition: &TopicPartition) -> Vec<BrokerId> {
        let observer = self.nodes.iter().find_map(|node| self.observer(*node));
        let image = observer.map(|observer| observer.view().image.clone());
        let found = image.as_ref().and_then(|image| {
            image.topic(partition.topic.as_str())?.partitions.get(&partition.partition).cloned()
        });
        found.map(|found| found.isr.clone()).unwrap_or_default()
    }

    /// What each living replica holds: the batches as they lie in its log.
    async fn replicas_of(
        &self,
        partition: &TopicPartition,
    ) -> Vec<(Node, Vec<(Offset, u32, i32)>)> {
        let mut replicas = Vec::new();
        for node in self.nodes.iter() {
            let Some(observer) = self.observer(*node) else { continue };
            let Some(log) = observer.data_dirs().iter().find_map(|dir| dir.log(partition)) else {
                continue;
            };
            let (mut from, end) = (log.ends().log_start, log.ends().written);
            let mut batches = Vec::new();
            while from < end {
                let read = log::Read { from, end, bytes_max: READ_BYTES, at_least_one: true };
                let Ok(more) = log.batches(read).await else { break };
                let Some(last) = more.last() else { break };
                from = last.end_offset();
                batches.extend(more.iter().map(|batch| {
                    let header = batch.header();
                    (header.base_offset(), header.crc(), batch.epoch())
                }));
            }
            replicas.push((*node, batches));
        }
        replicas
    }

    /// L5: a partition reads from start to end.
    async fn read_whole(&self, client: &Client<SimEnv>, partition: &TopicPartition) -> bool {
        let broken = |text: String| {
            self.stage.world.violation("L10", text);
            false
        };
        let Some((start, end)) = self.look_at_ends(client, partition).await else {
            return broken(format!("the ends of {partition} cannot be asked for"));
        };
        let config = ConsumerConfig {
            reset: ResetPolicy::None,
            // No more than the network carries while the client waits.
            partition_bytes_max: 100_000,
            fetch_wait_max: Duration::from_millis(50),
            ..ConsumerConfig::default()
        };
        let Ok(mut consumer) = Consumer::new(client, config) else { return false };
        let placed = consumer
            .assign(vec![partition.clone()])
            .and_then(|()| consumer.seek(partition, Offset(start)));
        if placed.is_err() {
            return false;
        }
        let mut records: Vec<(i64, u64)> = Vec::new();
        let mut patience = 100;
        while records.last().map_or(start, |(offset, _)| offset + 1) < end {
            match consumer.poll(Duration::from_millis(500)).await {
                Ok(polled) if !polled.records.is_empty() => {
                    let value =
                        |r: &client::ConsumerRecord| (r.offset.0, value_of(r.value.as_deref()));
                    records.extend(polled.records.iter().map(value));
                }
                other => {
                    patience -= 1;
                    if patience == 0 {
                        let reached = records.last();
                        return broken(format!(
                            "{partition} reads from {start} to {reached:?} and not to {end}: {other:?}"
                        ));
                    }
                }
            }
        }
        let is_dense = (start..).zip(&records).all(|(offset, record)| offset == record.0);
        let has_gaps = || format!("{partition} has gaps between {start} and {end}");
        if !self.stage.judge(require("I2", is_dense, has_gaps)) {
            return false;
        }
        self.history(|history| history.last.push((name_of(partition), start, records)));
        true
    }
}

/// The partitions of topics that sync.
pub(super) fn partitions() -> Vec<TopicPartition> {
    partitions_of(TOPICS)
}

fn partitions_of(
    topics: impl IntoIterator<Item = (&'static str, i32, u32)>,
) -> Vec<TopicPartition> {
    let of = |(name, count, _): (&'static str, i32, u32)| {
        (0..count).map(move |index| partition_of(name, index))
    };
    topics.into_iter().flat_map(of).collect()
}

/// The same without a place.
fn unplaced(outcome: Outcome<Option<i64>>) -> Outcome<Option<i64>> {
    match outcome {
        Outcome::Ok(_) => Outcome::Ok(None),
        other => other,
    }
}
