//! When all is quiet: everything must work again in bounded time, everything acknowledged must be there, and the history
//! must make sense.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{
    Admin, Client, ClientError, Consumer, ConsumerConfig, ConsumerRecord, DeliveryReport, Producer,
    ProducerConfig, ProducerRecord, ResetPolicy,
};
use types::{GroupId, Offset, TopicPartition};

use super::group::{GROUPS, MEMBERS, group_of};
use super::{CLIENTS, Dialect, Phase, Play, bytes_of, name_of, value_of};
use crate::checker::groups::{
    Described, Lives, a13_commit_within_polled, i65_generations_rise, i66_one_owner,
    i67_let_go_first, i68_all_covered, i70_register, l7_settled,
};
use crate::checker::history::{
    a1_one_value_per_offset, a2_no_duplicates, a3_nothing_lost, a4_nothing_invented,
    a9_contiguous_polls, a11_monotonic_sends, i18_read_stays, i23_ends_told,
    i31_acknowledged_is_committed, i39_topics, i45_producer_ids, i49_one_time_per_offset,
};
use crate::checker::{Verdict, require};
use crate::exec::lock;
use crate::history::{Granted, Outcome, Sent};
use crate::world::SimEnv;

/// What reading a partition from start to end gave.
pub(super) enum Whole {
    Records(Vec<ConsumerRecord>),
    StartMoved,
    Broken,
}

/// A healthy node answers within this (L4).
const PATIENCE: Duration = Duration::from_secs(10);

impl Play {
    /// Judges the run.
    pub(super) async fn finale(&self) {
        let client = self.client(CLIENTS - 1, &self.stage.dice(CLIENTS - 1), Dialect::Newest);
        self.stage.world.sleep(Duration::from_secs(1)).await;
        let beyond = self.stage.scenario.is_beyond_promise();
        if !self.writes_again(&client, &self.partitions()).await && !beyond {
            return;
        }
        // Deliveries that were under way have ended by now, or never will.
        self.stage.world.sleep(Duration::from_secs(20)).await;
        if !beyond && !self.groups_are_stable(&client).await {
            return;
        }
        self.shared.phase.send_replace(Phase::Stop);
        self.stage.world.sleep(Duration::from_secs(2)).await;
        let is_whole = beyond
            || self.groups_are_their_log(&client).await && self.read_everything(&client).await;
        if !is_whole {
            return;
        }
        if !self.look_at_topics(&Admin::new(&client)).await {
            if !beyond {
                self.stage
                    .world
                    .violation("L4", "topics cannot be listed after the last fault".into());
            }
            return;
        }
        if !beyond {
            self.judge_all();
        }
        self.stage.world.mark("finale reached");
    }

    /// L4: a new produce to each of these partitions succeeds in bounded time.
    pub(super) async fn writes_again(
        &self,
        client: &Client<SimEnv>,
        partitions: &[TopicPartition],
    ) -> bool {
        let Ok(producer) = Producer::new(client, ProducerConfig::default()) else { return false };
        let instance = self.next_instance();
        for partition in partitions {
            let value = self.next_value(0);
            let from = self.now();
            let offset = match self.deliver(&producer, partition, value).await {
                Ok(offset) => offset,
                Err(why) => {
                    if !self.stage.scenario.is_beyond_promise() {
                        let text = format!("with all quiet {why}");
                        self.stage.world.violation("L4", text);
                    }
                    return false;
                }
            };
            self.history(|history| {
                history.sends.push(Sent {
                    producer: instance,
                    idempotent: true,
                    promised: true,
                    partition: name_of(partition),
                    value,
                    span: self.span(from),
                    outcome: Outcome::Ok(offset.map(|offset| offset.0)),
                });
            });
            self.stage.done(true, 20);
        }
        true
    }

    /// Produces one record; its offset if the broker tells, or why it was not acknowledged in bounded time.
    pub(super) async fn deliver(
        &self,
        producer: &Producer<SimEnv>,
        partition: &TopicPartition,
        value: u64,
    ) -> Result<Option<Offset>, String> {
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
        match report {
            Some(DeliveryReport::Ok { offset, .. }) => Ok(offset),
            other => Err(format!("a produce to {partition} ends with {other:?}")),
        }
    }

    /// L7: every group is stable again, all who live are members in one generation, and jointly they own everything
    /// (I66, I68). No other group is left in the middle of a rebalance.
    async fn groups_are_stable(&self, client: &Client<SimEnv>) -> bool {
        let admin = Admin::new(client);
        let mut last = String::new();
        // Rebalance time-out and session, whichever the members have, and then 5 s (L7).
        let patience = if self.stage.scenario.production { 400 } else { 40 };
        for _ in 0..patience {
            match self.settled_groups(&admin).await {
                Ok(groups) => {
                    let all = self.subscribed();
                    return groups
                        .iter()
                        .all(|owned| self.stage.judge(i68_all_covered(owned, &all)));
                }
                Err(why) => last = why,
            }
            self.stage.world.sleep(Duration::from_secs(1)).await;
        }
        self.stage.world.violation("L7", format!("after {patience} quiet seconds {last}"));
        false
    }

    /// What the members of each group own, once all is settled; else what is not.
    async fn settled_groups(&self, admin: &Admin<SimEnv>) -> Result<Vec<Vec<Granted>>, String> {
        let mut all = Vec::new();
        for group in GROUPS {
            let found = admin.describe_group(&GroupId::from(group)).await;
            let found = found.map_err(|error| format!("{group} cannot be described: {error}"))?;
            let members = found.members.into_iter().map(|member| (member.id, member.instance_id));
            let described = Described { state: found.state, members: members.collect() };
            let seats: Vec<Option<Granted>> = (0..MEMBERS)
                .filter(|number| group_of(*number) == group)
                .map(|number| lock(&self.shared.seats).get(&number).cloned().flatten())
                .collect();
            let owned =
                l7_settled(&described, &seats).map_err(|why| format!("{group} is {why}"))?;
            all.push(owned);
        }
        let listed = admin.list_groups().await;
        for group in listed.map_err(|error| format!("groups cannot be listed: {error}"))? {
            if group.state.ends_with("Rebalance") {
                return Err(format!("{} is {}", group.id, group.state));
            }
        }
        Ok(all)
    }

    /// L5, L10: every partition reads from start to end, and the end is the high watermark.
    async fn read_everything(&self, client: &Client<SimEnv>) -> bool {
        let all = self.all_partitions();
        if !self.look_at_ends(client, &all).await {
            self.stage
                .world
                .violation("L4", "ends cannot be asked for after the last fault".into());
            return false;
        }
        for partition in all {
            let name = name_of(&partition);
            // Retention may cut the head between the question and the read: then the question is asked again.
            let mut read = None;
            for _ in 0..10 {
                let told = self.history(|history| {
                    let last = history.ends.iter().rev().find(|told| told.partition == name);
                    last.map(|told| (told.start, told.end))
                });
                let Some((start, end)) = told else { break };
                read = match self.read_whole(client, &partition, start, end).await {
                    Whole::Records(records) => {
                        let value = |r: &ConsumerRecord| (r.offset.0, value_of(r.value.as_deref()));
                        for record in &records {
                            self.dated(&partition, record.offset, record.timestamp, "read");
                        }
                        Some((start, records.iter().map(value).collect()))
                    }
                    Whole::StartMoved => None,
                    Whole::Broken => return false,
                };
                if read.is_some() {
                    break;
                }
                _ = self.look_at_ends(client, std::slice::from_ref(&partition)).await;
            }
            let verdict = require("L10", read.is_some(), || {
                format!("{partition} cannot be read from its start")
            });
            if !self.stage.judge(verdict) {
                return false;
            }
            if let Some((start, records)) = read {
                self.history(|history| history.last.push((name, start, records)));
            }
        }
        true
    }

    pub(super) async fn read_whole(
        &self,
        client: &Client<SimEnv>,
        partition: &TopicPartition,
        start: i64,
        end: i64,
    ) -> Whole {
        let config = ConsumerConfig {
            reset: ResetPolicy::None,
            partition_bytes_max: 3_333,
            fetch_wait_max: Duration::from_millis(50),
            ..ConsumerConfig::default()
        };
        let Ok(mut consumer) = Consumer::new(client, config) else { return Whole::Broken };
        let placed = consumer
            .assign(vec![partition.clone()])
            .and_then(|()| consumer.seek(partition, Offset(start)));
        if placed.is_err() {
            return Whole::Broken;
        }
        let mut records: Vec<ConsumerRecord> = Vec::new();
        let next = |records: &[ConsumerRecord]| records.last().map_or(start, |r| r.offset.0 + 1);
        let mut patience = 100;
        while next(&records) < end {
            match consumer.poll(Duration::from_millis(500)).await {
                Ok(polled) if !polled.records.is_empty() => records.extend(polled.records),
                Err(ClientError::NoOffset(_)) => return Whole::StartMoved,
                other => {
                    patience -= 1;
                    if patience == 0 {
                        let reached = next(&records);
                        let text = format!(
                            "{partition} reads from {start} to {reached} and not to its end {end}: {other:?}"
                        );
                        self.stage.world.violation("L10", text);
                        return Whole::Broken;
                    }
                }
            }
        }
        let contiguous =
            records.iter().enumerate().all(|(at, record)| record.offset.0 == start + at as i64);
        let verdict =
            require("I2", contiguous, || format!("{partition} has gaps between {start} and {end}"));
        if self.stage.judge(verdict) { Whole::Records(records) } else { Whole::Broken }
    }

    fn judge_all(&self) {
        let history = lock(&self.shared.history);
        let groups = lock(&self.shared.groups).clone();
        let excused = |partition: &str| self.is_excused(partition);
        let fragile: BTreeSet<_> =
            history.last.iter().map(|(p, ..)| p.clone()).filter(|p| excused(p)).collect();
        // What a fragile topic lost and gave out again is no anomaly of the protocol.
        let mut sound = history.clone();
        sound.sends.retain(|sent| !fragile.contains(&sent.partition));
        sound.polls.retain(|poll| !fragile.contains(&poll.partition));
        sound.last.retain(|(partition, ..)| !fragile.contains(partition));
        sound.commits.retain(|commit| !fragile.contains(&commit.partition));
        sound.dated.retain(|dated| !fragile.contains(&dated.partition));
        sound.reads.retain(|read| !fragile.contains(&read.partition));
        sound.ends.retain(|told| !fragile.contains(&told.partition));
        let lives = Lives::of(&history, self.stage.scenario.offsets_expire);
        let verdicts: [&dyn Fn() -> Verdict; 17] = [
            &|| a1_one_value_per_offset(&sound),
            &|| a2_no_duplicates(&sound),
            &|| a3_nothing_lost(&sound),
            &|| a4_nothing_invented(&sound),
            &|| a9_contiguous_polls(&history),
            &|| a11_monotonic_sends(&sound),
            &|| i18_read_stays(&sound, excused),
            &|| i23_ends_told(&sound, excused, 0),
            &|| i31_acknowledged_is_committed(&sound, excused, 0),
            &|| i39_topics(&history),
            &|| i45_producer_ids(&history),
            &|| i49_one_time_per_offset(&sound),
            &|| i65_generations_rise(&history, &lives),
            &|| i66_one_owner(&history, &lives),
            &|| i67_let_go_first(&history),
            &|| i70_register(&sound, &lives),
            &|| a13_commit_within_polled(&sound, &groups),
        ];
        for verdict in verdicts {
            if !self.stage.judge(verdict()) {
                return;
            }
        }
    }
}
