//! Readers without a group: seek anywhere, read on, compare nothing; the history does that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{
    Admin, Client, Consumer, ConsumerConfig, ConsumerRecord, Event, FoundOffset, Isolation,
    OffsetSpec, ResetPolicy,
};
use types::{Offset, TopicPartition};

use super::{Dialect, Phase, Play, name_of, value_of};
use crate::decisions::{Decisions, Kind};
use crate::exec::Node;
use crate::history::{EndTold, Partition, Polled};
use crate::world::SimEnv;

impl Play {
    /// One life of a reader.
    pub(super) async fn read(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice, Dialect::Any);
        let instance = self.next_instance();
        let config = ConsumerConfig { reset: ResetPolicy::Earliest, ..self.consumer_config(dice) };
        let Ok(mut consumer) = Consumer::new(&client, config) else { return };
        let all = self.partitions();
        for _ in 0..dice.between(Kind::Operation, 3, 15) {
            if self.phase() != Phase::Work {
                return;
            }
            let count = dice.between(Kind::Operation, 1, all.len() as u64);
            let chosen: BTreeSet<TopicPartition> = (0..count)
                .map(|_| all[dice.choose(Kind::Operation, all.len() as u64) as usize].clone())
                .collect();
            let chosen: Vec<TopicPartition> = chosen.into_iter().collect();
            self.look_at_ends(&client, &chosen).await;
            if consumer.assign(chosen.clone()).is_err() {
                return;
            }
            for partition in &chosen {
                self.seek(&mut consumer, partition, dice);
            }
            let mut turn = self.next_turn();
            for _ in 0..dice.between(Kind::Operation, 1, 12) {
                if self.phase() == Phase::Stop {
                    return;
                }
                self.poll(&mut consumer, instance, &mut turn).await;
                self.stage.think(dice, self.stage.scenario.think).await;
            }
        }
    }

    /// Settings of a consumer: odd byte budgets, small waits.
    pub(super) fn consumer_config(&self, dice: &Decisions) -> ConsumerConfig {
        let budget =
            |dice: &Decisions| [1, 100, 3_000, 1 << 20][dice.choose(Kind::Operation, 4) as usize];
        ConsumerConfig {
            fetch_bytes_max: budget(dice).max(100),
            partition_bytes_max: budget(dice),
            fetch_bytes_min: [1, 1, 500][dice.choose(Kind::Operation, 3) as usize],
            fetch_wait_max: Duration::from_millis(dice.between(Kind::Operation, 10, 500)),
            poll_records_max: [1, 7, 500][dice.choose(Kind::Operation, 3) as usize],
            isolation: [Isolation::ReadUncommitted, Isolation::ReadCommitted]
                [dice.choose(Kind::Operation, 2) as usize],
            ..ConsumerConfig::default()
        }
    }

    fn seek(&self, consumer: &mut Consumer<SimEnv>, partition: &TopicPartition, dice: &Decisions) {
        let known = self.history(|history| {
            let name = name_of(partition);
            history.ends.iter().rev().find(|told| told.partition == name).map_or(0, |told| told.end)
        });
        let offset = dice.choose(Kind::Operation, known.max(0) as u64 + 1) as i64;
        _ = match dice.choose(Kind::Operation, 4) {
            0 => consumer.seek_to_beginning(partition),
            1 => consumer.seek_to_end(partition),
            _ => consumer.seek(partition, Offset(offset)),
        };
    }

    /// One poll, written down. Whether it brought records.
    pub(super) async fn poll(
        &self,
        consumer: &mut Consumer<SimEnv>,
        instance: u32,
        turn: &mut u32,
    ) -> bool {
        let from = self.now();
        let polled = consumer.poll(Duration::from_millis(800)).await;
        match polled {
            Ok(polled) => {
                if polled.events.iter().any(|event| matches!(event, Event::Reset { .. })) {
                    *turn = self.next_turn();
                    self.stage.world.mark("reader reset");
                }
                let found = !polled.records.is_empty();
                self.write_down(instance, *turn, from, &polled.records);
                if found {
                    self.stage.done(true, polled.records.len() as u64);
                }
                found
            }
            Err(error) => {
                if let client::ClientError::BadBatch { partition, reason, .. } = &error
                    && !self.stage.scenario.is_beyond_promise()
                {
                    self.stage.world.violation("I1", format!("{partition}: {reason}"));
                }
                self.stage.done(false, 1);
                false
            }
        }
    }

    pub(super) fn write_down(
        &self,
        instance: u32,
        turn: u32,
        from: u64,
        records: &[ConsumerRecord],
    ) {
        let mut by_partition: BTreeMap<Partition, Vec<(i64, u64)>> = BTreeMap::new();
        for record in records {
            let entry = by_partition.entry(name_of(&record.partition)).or_default();
            entry.push((record.offset.0, value_of(record.value.as_deref())));
            self.dated(&record.partition, record.offset, record.timestamp, "polled");
        }
        let span = self.span(from);
        self.history(|history| {
            for (partition, records) in by_partition {
                history.polls.push(Polled { consumer: instance, turn, partition, records, span });
            }
        });
    }

    /// Asks where logs begin and end.
    pub(super) async fn look_at_ends(
        &self,
        client: &Client<SimEnv>,
        partitions: &[TopicPartition],
    ) -> bool {
        let admin = Admin::new(client);
        let from = self.now();
        let ask = |spec: OffsetSpec| {
            partitions.iter().map(|p| (p.clone(), spec)).collect::<BTreeMap<_, _>>()
        };
        // The start is asked for first: it may rise in between, the end never falls below it.
        let starts =
            admin.list_offsets(&ask(OffsetSpec::Earliest), Isolation::ReadUncommitted).await;
        let ends = admin.list_offsets(&ask(OffsetSpec::Latest), Isolation::ReadUncommitted).await;
        let (Ok(starts), Ok(ends)) = (starts, ends) else { return false };
        let span = self.span(from);
        let offset = |found: Option<&Result<Option<FoundOffset>, client::ClientError>>| match found
        {
            Some(Ok(Some(found))) => Some(found.offset.0),
            _ => None,
        };
        let mut all = true;
        for partition in partitions {
            match (offset(starts.get(partition)), offset(ends.get(partition))) {
                (Some(start), Some(end)) => {
                    let partition = name_of(partition);
                    self.history(|history| {
                        history.ends.push(EndTold { partition, end, start, span })
                    });
                }
                _ => all = false,
            }
        }
        self.stage.done(all, 2);
        all
    }
}
