//! The producer: records in, one report per record out.
//!
//! ```text
//! send -> partition chosen, room reserved -> queue of its partition -> batch -> request to the leader -> report
//! ```
//!
//! [`queue`] decides (what may be sent, what an answer means, when a new epoch is needed) and does no I/O; [`sender`]
//! is the one task that owns the queues and talks to brokers; this file is the handle. Memory is bounded by
//! [`ProducerConfig::buffer_bytes`]: beyond it [`Producer::send`] waits.
//!
//! With `idempotent` a record is stored at most once whatever the network does, and each partition keeps the order of
//! `send` calls. Where a retry could store it twice, the record is reported as [`DeliveryReport::Unknown`] instead.

mod encode;
mod queue;
mod sender;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Env, Rng};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use types::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicName, TopicPartition};

use crate::cluster::Client;
use crate::error::{Certainty, ClientError};
use crate::partitioner;

pub use record::Compression;

/// When a record counts as delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// When it left this process.
    None,
    /// When the leader has it.
    Leader,
    /// When every in-sync replica has it.
    All,
}

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a record counts as delivered.
    pub acks: Acks,
    /// Whether the broker removes duplicates that retries cause. Needs [`Acks::All`].
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent once it has this size.
    pub batch_bytes: usize,
    /// A batch that is not full is sent after this time.
    pub linger: Duration,
    /// Requests in flight per broker, 1 to 5.
    pub in_flight_max: usize,
    /// A request carries at most this much, but at least one batch.
    pub request_bytes_max: usize,
    /// How long a record may take, retries included, before its fate is reported.
    pub delivery_timeout: Duration,
    /// How much may wait in this producer.
    pub buffer_bytes: usize,
    /// Whether a failed request is tried again.
    pub retries: bool,
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            batch_bytes: 16 * 1024,
            linger: Duration::ZERO,
            in_flight_max: 5,
            request_bytes_max: 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
            buffer_bytes: 32 * 1024 * 1024,
            retries: true,
        }
    }
}

/// A record to be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: TopicName,
    /// The partition; by key, or spread, when absent.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers, in order; keys may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// When it was created; now, when absent.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with nothing but a value.
    pub fn new(topic: impl Into<TopicName>, value: impl Into<Bytes>) -> ProducerRecord {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// What it takes in memory and, about, on the wire.
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(key, value)| key.len() + len(value) + 10);
        len(&self.key) + len(&self.value) + headers.sum::<usize>() + 24
    }
}

/// What became of a record.
#[derive(Clone, Debug)]
pub enum DeliveryReport {
    /// It is stored (or, with [`Acks::None`], it left).
    Ok {
        /// Where.
        partition: TopicPartition,
        /// At which offset, if the broker told.
        offset: Option<Offset>,
        /// The broker's time of storing, if the topic keeps that.
        timestamp: Option<Timestamp>,
    },
    /// It is certainly not stored and never will be.
    Failed(ClientError),
    /// Nobody can tell whether it is stored.
    Unknown(ClientError),
}

impl DeliveryReport {
    /// The report for an operation that failed with `error`.
    fn from_error(error: ClientError) -> DeliveryReport {
        match error.certainty() {
            Certainty::DidNotHappen => DeliveryReport::Failed(error),
            Certainty::Unknown => DeliveryReport::Unknown(error),
        }
    }
}

/// The report of one record, once it is there.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<DeliveryReport>);

impl Future for Delivery {
    type Output = DeliveryReport;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<DeliveryReport> {
        Pin::new(&mut self.0).poll(context).map(|report| {
            // Without a report the task is gone, and the record may have been on its way.
            report.unwrap_or(DeliveryReport::Unknown(ClientError::Closed))
        })
    }
}

/// A producer. Clones share it; its task ends when the last clone is gone and what was sent is settled.
pub struct Producer<E: Env> {
    inner: Arc<Inner<E>>,
}

impl<E: Env> Clone for Producer<E> {
    fn clone(&self) -> Producer<E> {
        Producer { inner: self.inner.clone() }
    }
}

impl<E: Env> fmt::Debug for Producer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

struct Inner<E: Env> {
    client: Client<E>,
    config: ProducerConfig,
    room: Arc<Semaphore>,
    commands: mpsc::Sender<sender::Command>,
    identity: watch::Receiver<Option<(ProducerId, ProducerEpoch)>>,
    /// For records without key or partition: the partition used now, and the bytes it still gets.
    sticky: Mutex<BTreeMap<TopicName, (i32, usize)>>,
}

/// Records handed over but not yet queued; beyond it `send` waits.
const COMMANDS_MAX: usize = 1024;

impl<E: Env> Producer<E> {
    /// Starts a producer.
    pub fn new(client: &Client<E>, config: ProducerConfig) -> Result<Producer<E>, ClientError> {
        if config.idempotent && config.acks != Acks::All {
            return Err(ClientError::Usage("an idempotent producer needs acks=all".into()));
        }
        if !(1..=5).contains(&config.in_flight_max) {
            return Err(ClientError::Usage("requests in flight must be 1 to 5".into()));
        }
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (identity_sender, identity) = watch::channel(None);
        sender::start(client.clone(), config.clone(), inbox, identity_sender);
        Ok(Producer {
            inner: Arc::new(Inner {
                client: client.clone(),
                room: Arc::new(Semaphore::new(config.buffer_bytes)),
                config,
                commands,
                identity,
                sticky: Mutex::new(BTreeMap::new()),
            }),
        })
    }

    /// Queues a record: waits for its topic to be known and for room, then returns; the report comes later. The order
    /// of finished calls is the order within a partition.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let bytes = record.bytes();
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= self.inner.config.buffer_bytes);
        let Some(permits) = permits else {
            return Err(ClientError::code(types::ErrorCode::MessageTooLarge));
        };
        let deadline = self.inner.client.env().clock().now() + self.inner.config.delivery_timeout;
        let partition = match record.partition {
            Some(partition) => partition,
            None => self.choose_partition(&record, bytes).await?,
        };
        let partition = TopicPartition::new(record.topic.clone(), partition);
        let room = Arc::clone(&self.inner.room)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| ClientError::Closed)?;
        let (report, delivery) = oneshot::channel();
        let timestamp =
            record.timestamp.unwrap_or_else(|| self.inner.client.env().clock().timestamp());
        let queued = queue::Queued { record, timestamp, bytes, report, _room: room };
        let command = sender::Command::Record { partition, queued, deadline };
        self.inner.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        Ok(Delivery(delivery))
    }

    /// Waits until every record sent so far is settled.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.inner.commands.send(sender::Command::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Waits until every record sent so far is settled, then ends the producer.
    pub async fn close(self) {
        let (done, wait) = oneshot::channel();
        if self.inner.commands.send(sender::Command::Close(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// The producer id and epoch in use, once an idempotent producer has one.
    pub fn id(&self) -> Option<(ProducerId, ProducerEpoch)> {
        *self.inner.identity.borrow()
    }

    async fn choose_partition(
        &self,
        record: &ProducerRecord,
        bytes: usize,
    ) -> Result<i32, ClientError> {
        let count = self.partitions_count(&record.topic).await?;
        if let Some(key) = &record.key {
            return Ok(partitioner::for_key(key, count));
        }
        let mut sticky = self.inner.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        let (partition, left) = sticky.entry(record.topic.clone()).or_insert((-1, 0));
        if *left == 0 || *partition < 0 || *partition as usize >= count {
            let random = self.inner.client.env().rng().next_u64();
            // Another partition than the last one, if there is another.
            *partition = match usize::try_from(*partition) {
                Ok(last) if count > 1 && last < count => {
                    ((last + 1 + (random % (count as u64 - 1)) as usize) % count) as i32
                }
                _ => (random % count as u64) as i32,
            };
            *left = self.inner.config.batch_bytes;
        }
        *left = left.saturating_sub(bytes);
        Ok(*partition)
    }

    async fn partitions_count(&self, topic: &TopicName) -> Result<usize, ClientError> {
        let client = &self.inner.client;
        let known = client.current().partitions_count(topic).filter(|count| *count > 0);
        if let Some(count) = known {
            return Ok(count);
        }
        let timeout = self.inner.config.delivery_timeout;
        client
            .retrying_within(timeout, &crate::Target::Any, || async {
                let metadata = client.metadata(std::slice::from_ref(topic)).await?;
                let code = metadata.topics.get(topic).and_then(|topic| topic.error);
                match metadata.partitions_count(topic).filter(|count| *count > 0) {
                    Some(count) => Ok(count),
                    None => Err(ClientError::code(
                        code.unwrap_or(types::ErrorCode::UnknownTopicOrPartition),
                    )),
                }
            })
            .await
    }
}
