//! Producers: idempotent and plain, in every version of the request, many records under way.

use std::sync::Arc;
use std::time::Duration;

use client::{Acks, Compression, DeliveryReport, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::Semaphore;

use super::{Dialect, Phase, Play, bytes_of, name_of, outcome_of, partition_of};
use crate::decisions::{Decisions, Kind};
use crate::exec::Node;
use crate::history::{Outcome, Sent, Span};
use crate::world::SimEnv;

impl Play {
    /// One life of a producer.
    pub(super) async fn produce(&self, node: Node, number: u32, dice: &Decisions) {
        let dialect = if number == 0 { Dialect::Newest } else { Dialect::Any };
        let client = self.client(node, dice, dialect);
        let acks = match (number, dice.choose(Kind::Operation, 4)) {
            (0, _) | (_, 0 | 1) => Acks::All,
            (_, 2) => Acks::Leader,
            _ => Acks::None,
        };
        let idempotent = acks == Acks::All && (number == 0 || dice.choose(Kind::Operation, 3) > 0);
        let compression = Compression::ALL[dice.choose(Kind::Operation, 5) as usize];
        let config = ProducerConfig {
            acks,
            idempotent,
            compression: if dice.choose(Kind::Operation, 2) == 0 {
                Compression::None
            } else {
                compression
            },
            batch_bytes: [200, 2_000, 16_384][dice.choose(Kind::Operation, 3) as usize],
            linger: Duration::from_millis(dice.choose(Kind::Operation, 20)),
            in_flight_max: dice.between(Kind::Operation, 1, 5) as usize,
            delivery_timeout: Duration::from_secs(dice.between(Kind::Operation, 6, 20)),
            retries: idempotent || dice.choose(Kind::Operation, 2) == 0,
            ..ProducerConfig::default()
        };
        let Ok(producer) = Producer::new(&client, config) else { return };
        let instance = self.next_instance();
        let room = Arc::new(Semaphore::new(8));
        let records = dice.between(Kind::Operation, 50, 400);
        let mut known = None;
        for _ in 0..records {
            if self.phase() != Phase::Work {
                break;
            }
            let Ok(permit) = room.clone().acquire_owned().await else { break };
            self.send(node, &producer, instance, (acks, idempotent), dice, permit).await;
            if producer.id() != known {
                known = producer.id();
                self.history(|history| {
                    history.producers.extend(known.map(|(id, epoch)| (id.0, epoch.0)))
                });
            }
            if dice.choose(Kind::Operation, 3) == 0 {
                self.stage.think(dice, self.stage.scenario.think).await;
            }
        }
        producer.close().await;
        // Each waiter gives its permit back when the outcome is written down.
        _ = room.acquire_many(8).await;
    }

    async fn send(
        &self,
        node: Node,
        producer: &Producer<SimEnv>,
        instance: u32,
        (acks, idempotent): (Acks, bool),
        dice: &Decisions,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) {
        let topics = &self.shared.topics;
        let topic = &topics[dice.choose(Kind::Operation, topics.len() as u64) as usize];
        let index = dice.choose(Kind::Operation, topic.partitions as u64) as i32;
        let partition = name_of(&partition_of(topic.name, index));
        let filling = dice.choose(Kind::Operation, self.stage.scenario.value_bytes_max);
        let value = self.next_value(u16::try_from(filling).unwrap_or(u16::MAX));
        let record = ProducerRecord {
            partition: Some(index),
            ..ProducerRecord::new(topic.name, bytes_of(value))
        };
        let from = self.now();
        let sent = Sent {
            producer: instance,
            idempotent,
            promised: acks != Acks::None && !self.is_excused(&partition),
            partition,
            value,
            span: Span { from, to: u64::MAX },
            outcome: Outcome::Unknown,
        };
        let position = self.history(|history| {
            history.sends.push(sent);
            history.sends.len() - 1
        });
        match producer.send(record).await {
            Ok(delivery) => {
                let play = self.clone();
                self.stage.spawn(node, "delivery", async move {
                    let report = delivery.await;
                    play.delivered(position, &report);
                    drop(permit);
                });
            }
            Err(error) => {
                let outcome = outcome_of(&error);
                self.settle(position, outcome);
            }
        }
    }

    fn delivered(&self, position: usize, report: &DeliveryReport) {
        let outcome = match report {
            DeliveryReport::Ok { partition, offset, timestamp } => {
                if let Some(offset) = *offset {
                    self.dated(partition, offset, *timestamp, "acknowledged");
                }
                Outcome::Ok(offset.map(|offset| offset.0))
            }
            DeliveryReport::Failed(error) => {
                if let Some(code) = error.error_code() {
                    self.mark_error(code);
                }
                Outcome::Failed
            }
            DeliveryReport::Unknown(_) => {
                self.stage.world.mark("produce with unknown outcome");
                Outcome::Unknown
            }
        };
        self.settle(position, outcome);
    }

    pub(super) fn settle(&self, position: usize, outcome: Outcome<Option<i64>>) {
        let now = self.now();
        self.history(|history| {
            if let Some(sent) = history.sends.get_mut(position) {
                sent.outcome = outcome;
                sent.span.to = now;
            }
        });
        self.stage.done(matches!(outcome, Outcome::Ok(_)), position as u64);
    }
}
