//! The task behind a producer: owns the queues and talks to brokers.
//!
//! One loop over three sources: records from the handle, events from the requests it started, and time. Each turn takes
//! in all that is there, then sends what may be sent. It never waits for a broker itself: connecting, asking for a
//! producer id or for metadata, and waiting for an answer are small tasks that report back with an [`Event`].
//! Requests to one broker leave in order, because [`Connection::enqueue`] does not wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use env::{Clock, Env, Spawn};
use tokio::sync::{mpsc, oneshot, watch};
use types::{
    BrokerId, Instant, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName,
    TopicPartition,
};
use wire::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};

use super::queue::{Identity, Queue, Queued, Readiness, Rules, Stored};
use super::{Acks, ProducerConfig};
use crate::cluster::{Client, Lane};
use crate::connection::{Connection, Pending};
use crate::error::ClientError;
use crate::metadata::Metadata;

/// From the handle.
pub(super) enum Command {
    /// Publish a record.
    Record { partition: TopicPartition, queued: Queued, deadline: Instant },
    /// Tell when all records taken so far are settled.
    Flush(oneshot::Sender<()>),
    /// As `Flush`, then end.
    Close(oneshot::Sender<()>),
}

/// From a task this one started.
enum Event {
    Opened(BrokerId, Result<Connection, ClientError>),
    Settled(BrokerId, Vec<(TopicPartition, u64, Result<Stored, ClientError>)>),
    Identity(Result<Identity, ClientError>),
    Metadata(Result<Arc<Metadata>, ClientError>),
}

/// Events not yet looked at; their tasks wait beyond it.
const EVENTS_MAX: usize = 256;

/// Records taken in before something is sent again.
const TURN_MAX: usize = 1024;

enum Link {
    /// Nothing until then: the last attempt failed.
    Down {
        until: Instant,
        tries: u32,
    },
    Opening {
        tries: u32,
    },
    Up {
        connection: Connection,
        in_flight: usize,
    },
}

enum IdentityState {
    /// Not needed, or not asked for before then.
    None {
        until: Instant,
        tries: u32,
    },
    Asking {
        tries: u32,
    },
    Have(Identity),
}

struct Sender<E: Env> {
    client: Client<E>,
    config: ProducerConfig,
    rules: Rules,
    lane: Lane,
    events: mpsc::Sender<Event>,
    queues: BTreeMap<TopicPartition, Queue>,
    /// Partitions whose queue is not empty.
    busy: BTreeSet<TopicPartition>,
    links: BTreeMap<BrokerId, Link>,
    identity: IdentityState,
    identity_seen: watch::Sender<Option<Identity>>,
    metadata: Arc<Metadata>,
    /// Partitions whose leader turned out not to be one: nothing is sent there before new metadata came.
    suspects: BTreeSet<TopicPartition>,
    asking_metadata: bool,
    metadata_after: Instant,
    metadata_tries: u32,
    serial_next: u64,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Where the next turn starts among the busy partitions, so that all get their share.
    cursor: Option<TopicPartition>,
}

/// Starts the task.
pub(super) fn start<E: Env>(
    client: Client<E>,
    config: ProducerConfig,
    inbox: mpsc::Receiver<Command>,
    identity_seen: watch::Sender<Option<(ProducerId, ProducerEpoch)>>,
) {
    let (events, news) = mpsc::channel(EVENTS_MAX);
    let rules = Rules {
        batch_bytes: config.batch_bytes,
        linger: config.linger,
        in_flight_max: config.in_flight_max,
        retries: config.retries,
        idempotent: config.idempotent,
    };
    let now = client.env().clock().now();
    let sender = Sender {
        lane: client.new_lane(),
        metadata: client.current(),
        config,
        rules,
        events,
        queues: BTreeMap::new(),
        busy: BTreeSet::new(),
        links: BTreeMap::new(),
        identity: IdentityState::None { until: now, tries: 0 },
        identity_seen,
        suspects: BTreeSet::new(),
        asking_metadata: false,
        metadata_after: now,
        metadata_tries: 0,
        serial_next: 0,
        flushes: Vec::new(),
        cursor: None,
        client: client.clone(),
    };
    client.env().spawner().spawn("producer", sender.run(inbox, news));
}

impl<E: Env> Sender<E> {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut news: mpsc::Receiver<Event>) {
        let env = self.client.env().clone();
        let mut closing = None;
        let mut inbox_open = true;
        loop {
            let wake = self.turn();
            if !inbox_open && self.busy.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                event = news.recv() => {
                    if let Some(event) = event {
                        self.on_event(event);
                    }
                    while let Ok(event) = news.try_recv() {
                        self.on_event(event);
                    }
                }
                command = inbox.recv(), if inbox_open => {
                    let mut next = command;
                    for taken in 1.. {
                        match next {
                            Some(Command::Record { partition, queued, deadline }) => {
                                self.on_record(partition, queued, deadline);
                            }
                            Some(Command::Flush(done)) => self.on_flush(done),
                            Some(Command::Close(done)) => {
                                closing = Some(done);
                                inbox_open = false;
                                self.hurry();
                                break;
                            }
                            None => {
                                inbox_open = false;
                                self.hurry();
                                break;
                            }
                        }
                        if taken == TURN_MAX {
                            break;
                        }
                        match inbox.try_recv() {
                            Ok(command) => next = Some(command),
                            Err(_) => break,
                        }
                    }
                }
                () = env.clock().sleep_until(wake) => {}
            }
        }
        self.client.close_lane(self.lane);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    fn now(&self) -> Instant {
        self.client.env().clock().now()
    }

    fn on_record(&mut self, partition: TopicPartition, queued: Queued, deadline: Instant) {
        let now = self.now();
        let serial = self.serial_next;
        self.serial_next += 1;
        let rules = self.rules;
        self.queues
            .entry(partition.clone())
            .or_insert_with(|| Queue::new(partition.clone(), rules))
            .push(queued, now, deadline, serial);
        self.busy.insert(partition);
    }

    fn on_flush(&mut self, done: oneshot::Sender<()>) {
        self.hurry();
        self.flushes.push((self.serial_next, done));
    }

    fn hurry(&mut self) {
        let now = self.now();
        for partition in &self.busy {
            if let Some(queue) = self.queues.get_mut(partition) {
                queue.hurry(now);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Opened(broker, result) => {
                let tries = match self.links.get(&broker) {
                    Some(Link::Opening { tries }) => *tries,
                    _ => 0,
                };
                let link = match result {
                    Ok(connection) => Link::Up { connection, in_flight: 0 },
                    Err(_) => {
                        self.suspect_all_of(broker);
                        let until = now + self.client.backoff(tries);
                        Link::Down { until, tries: tries.saturating_add(1) }
                    }
                };
                self.links.insert(broker, link);
            }
            Event::Settled(broker, results) => self.on_settled(broker, results, now),
            Event::Identity(result) => {
                let tries = match self.identity {
                    IdentityState::Asking { tries } => tries,
                    _ => 0,
                };
                self.identity = match result {
                    Ok(identity) => {
                        self.identity_seen.send_replace(Some(identity));
                        IdentityState::Have(identity)
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no producer id yet");
                        let until = now + self.client.backoff(tries);
                        IdentityState::None { until, tries: tries.saturating_add(1) }
                    }
                };
            }
            Event::Metadata(result) => {
                self.asking_metadata = false;
                match result {
                    Ok(metadata) => {
                        self.metadata_tries = 0;
                        self.metadata_after = now + self.client.config().retry_backoff;
                        self.metadata = metadata;
                        self.suspects.clear();
                    }
                    Err(_) => {
                        self.metadata_after = now + self.client.backoff(self.metadata_tries);
                        self.metadata_tries = self.metadata_tries.saturating_add(1);
                    }
                }
            }
        }
    }

    fn on_settled(
        &mut self,
        broker: BrokerId,
        results: Vec<(TopicPartition, u64, Result<Stored, ClientError>)>,
        now: Instant,
    ) {
        if let Some(Link::Up { connection, in_flight }) = self.links.get_mut(&broker) {
            *in_flight = in_flight.saturating_sub(1);
            if connection.is_closed() && *in_flight == 0 {
                self.links.remove(&broker);
            }
        }
        for (partition, serial, result) in results {
            if let Err(error) = &result {
                tracing::debug!(%partition, %error, "a batch was not stored at this attempt");
                if error.wants_metadata() {
                    self.suspects.insert(partition.clone());
                }
            }
            let client = &self.client;
            if let Some(queue) = self.queues.get_mut(&partition) {
                queue.settle(serial, result, now, |tries| client.backoff(tries));
            }
        }
    }

    fn suspect_all_of(&mut self, broker: BrokerId) {
        let led = self.busy.iter().filter(|p| self.metadata.leader(p) == Some(broker)).cloned();
        self.suspects.extend(led);
    }

    /// Sends what may be sent; returns when to look again if nothing else happens.
    fn turn(&mut self) -> Instant {
        let now = self.now();
        // Nothing to do for ever is as good as an hour.
        let mut wake = now + std::time::Duration::from_secs(3600);
        self.tidy(now);
        self.sort_out_metadata(now, &mut wake);
        let identity = self.sort_out_identity(now, &mut wake);
        if self.rules.idempotent && identity.is_none() {
            for partition in &self.busy {
                if let Some(deadline) = self.queues[partition].deadline() {
                    wake = wake.min(deadline);
                }
            }
            return wake;
        }
        for (broker, partitions) in self.sendable(now, identity, &mut wake) {
            self.send(broker, partitions, identity, now, &mut wake);
        }
        wake
    }

    /// Gives up what is late, forgets empty queues, answers flushes.
    fn tidy(&mut self, now: Instant) {
        let mut oldest = u64::MAX;
        let (queues, metadata) = (&mut self.queues, &self.metadata);
        self.busy.retain(|partition| {
            let Some(queue) = queues.get_mut(partition) else { return false };
            queue.expire(now, || match metadata.leader(partition) {
                Some(_) => None,
                None => Some(metadata.without_leader(partition)),
            });
            oldest = oldest.min(queue.oldest().unwrap_or(u64::MAX));
            !queue.is_empty()
        });
        let mut open = Vec::new();
        for (until, done) in self.flushes.drain(..) {
            if oldest >= until {
                let _ = done.send(());
            } else {
                open.push((until, done));
            }
        }
        self.flushes = open;
    }

    /// Asks for metadata if a busy partition has no known leader.
    fn sort_out_metadata(&mut self, now: Instant, wake: &mut Instant) {
        let current = self.client.current();
        if current.version > self.metadata.version {
            self.metadata = current;
        }
        let lacking: BTreeSet<TopicName> = self
            .busy
            .iter()
            .filter(|partition| self.leader(partition).is_none())
            .map(|partition| partition.topic.clone())
            .collect();
        if lacking.is_empty() || self.asking_metadata {
            return;
        }
        if now < self.metadata_after {
            *wake = (*wake).min(self.metadata_after);
            return;
        }
        self.asking_metadata = true;
        let (client, events) = (self.client.clone(), self.events.clone());
        let topics: Vec<TopicName> = lacking.into_iter().collect();
        self.client.env().spawner().spawn("producer-metadata", async move {
            client.expect_change();
            let result = client.metadata(&topics).await;
            let _ = events.send(Event::Metadata(result)).await;
        });
    }

    /// The leader to send to, if it is known and not in doubt.
    fn leader(&self, partition: &TopicPartition) -> Option<BrokerId> {
        self.metadata.leader(partition).filter(|_| !self.suspects.contains(partition))
    }

    /// The producer id to send under. Asks for one if there is none; takes a new epoch if a gap has spoilt this one.
    fn sort_out_identity(&mut self, now: Instant, wake: &mut Instant) -> Option<Identity> {
        if !self.rules.idempotent || self.busy.is_empty() {
            return self.have_identity();
        }
        if let Some(identity) = self.have_identity() {
            let is_spoilt =
                self.busy.iter().any(|partition| !self.queues[partition].accepts(identity));
            if !is_spoilt {
                return Some(identity);
            }
            let (id, ProducerEpoch(epoch)) = identity;
            if epoch < i16::MAX - 1 {
                let next = (id, ProducerEpoch(epoch + 1));
                self.identity = IdentityState::Have(next);
                self.identity_seen.send_replace(Some(next));
                return Some(next);
            }
            self.identity = IdentityState::None { until: now, tries: 0 }; // used up: another id
        }
        match self.identity {
            IdentityState::None { until, .. } if now < until => *wake = (*wake).min(until),
            IdentityState::None { tries, .. } => {
                self.identity = IdentityState::Asking { tries };
                let (client, events) = (self.client.clone(), self.events.clone());
                self.client.env().spawner().spawn("producer-id", async move {
                    let result = crate::admin::init_producer_id(&client).await;
                    let _ = events.send(Event::Identity(result)).await;
                });
            }
            IdentityState::Asking { .. } | IdentityState::Have(_) => {}
        }
        None
    }

    fn have_identity(&self) -> Option<Identity> {
        match self.identity {
            IdentityState::Have(identity) => Some(identity),
            _ => None,
        }
    }

    /// Which partitions have something for which broker.
    fn sendable(
        &mut self,
        now: Instant,
        identity: Option<Identity>,
        wake: &mut Instant,
    ) -> BTreeMap<BrokerId, Vec<TopicPartition>> {
        let mut sendable: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        let after = self.cursor.take();
        let start = after.as_ref().map_or(std::ops::Bound::Unbounded, |partition| {
            std::ops::Bound::Excluded(partition.clone())
        });
        let (first, rest): (Vec<_>, Vec<_>) = match &after {
            Some(after) => (
                self.busy.range((start, std::ops::Bound::Unbounded)).cloned().collect(),
                self.busy.range(..=after.clone()).cloned().collect(),
            ),
            None => (self.busy.iter().cloned().collect(), Vec::new()),
        };
        for partition in first.into_iter().chain(rest) {
            let leader = self.leader(&partition);
            let Some(queue) = self.queues.get_mut(&partition) else { continue };
            if let Some(deadline) = queue.deadline() {
                *wake = (*wake).min(deadline);
            }
            let Some(leader) = leader else { continue };
            queue.on_topic_id(self.metadata.topic_id(&partition.topic));
            if identity.is_some_and(|identity| !queue.accepts(identity)) {
                *wake = now; // a gap was found just now: the next turn takes a new epoch
                continue;
            }
            match queue.readiness(now, leader) {
                Readiness::Ready => {
                    self.cursor.get_or_insert_with(|| partition.clone());
                    sendable.entry(leader).or_default().push(partition);
                }
                Readiness::At(due) => *wake = (*wake).min(due),
                Readiness::Later => {}
            }
        }
        sendable
    }

    /// Sends requests to one broker while there is room in flight and something ready.
    fn send(
        &mut self,
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
        identity: Option<Identity>,
        now: Instant,
        wake: &mut Instant,
    ) {
        let mut ready = partitions;
        while !ready.is_empty() {
            let Some(connection) = self.link(broker, now, wake) else { return };
            let (taken, rest) = self.fit(ready);
            self.send_one(broker, &connection, &taken, identity, now);
            // A partition may have a further batch that may follow at once.
            let again = taken.into_iter().filter(|partition| {
                self.queues[partition].readiness(now, broker) == Readiness::Ready
            });
            ready = rest.into_iter().chain(again.collect::<Vec<_>>()).collect();
        }
    }

    /// Splits off the partitions whose next batches fit into one request.
    fn fit(&self, partitions: Vec<TopicPartition>) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let mut bytes = 0;
        let mut taken = Vec::new();
        let mut rest = Vec::new();
        for partition in partitions {
            let first = self.queues[&partition].first_bytes();
            if taken.is_empty() || bytes + first <= self.config.request_bytes_max {
                bytes += first;
                taken.push(partition);
            } else {
                rest.push(partition);
            }
        }
        (taken, rest)
    }

    /// A connection to `broker` with room for one more request; connects if there is none.
    fn link(&mut self, broker: BrokerId, now: Instant, wake: &mut Instant) -> Option<Connection> {
        let tries = match self.links.get(&broker) {
            Some(Link::Up { connection, in_flight }) => {
                if connection.is_closed() {
                    // Its last answers are on their way to us as errors; then the link is removed.
                    if *in_flight > 0 {
                        return None;
                    }
                    0
                } else if *in_flight < self.config.in_flight_max {
                    return Some(connection.clone());
                } else {
                    return None;
                }
            }
            Some(Link::Opening { .. }) => return None,
            Some(Link::Down { until, tries }) => {
                if now < *until {
                    *wake = (*wake).min(*until);
                    return None;
                }
                *tries
            }
            None => 0,
        };
        self.links.insert(broker, Link::Opening { tries });
        let (client, events, lane) = (self.client.clone(), self.events.clone(), self.lane);
        self.client.env().spawner().spawn("producer-connect", async move {
            let result = client.broker_connection(broker, lane).await;
            let _ = events.send(Event::Opened(broker, result)).await;
        });
        None
    }

    fn send_one(
        &mut self,
        broker: BrokerId,
        connection: &Connection,
        partitions: &[TopicPartition],
        identity: Option<Identity>,
        now: Instant,
    ) {
        let has_ids =
            partitions.iter().all(|partition| self.metadata.topic_id(&partition.topic).is_some());
        // From version 13 on topics go by their ids.
        let version_max = if has_ids { i16::MAX } else { 12 };
        let version = connection
            .version::<ProduceRequest>(self.client.pinned::<ProduceRequest>(), version_max);
        let mut topics: BTreeMap<TopicName, Vec<PartitionProduceData>> = BTreeMap::new();
        let mut sent = Vec::new();
        for partition in partitions {
            let Some(queue) = self.queues.get_mut(partition) else { continue };
            let Some(batch) = queue.take(identity, broker) else { continue };
            let serial = batch.serial;
            if let Err(error) = &version {
                self.settle_now(partition, serial, error.clone(), now);
                continue;
            }
            let data = PartitionProduceData {
                index: partition.partition.0,
                records: Some(super::encode::batch(batch, self.config.compression)),
            };
            sent.push((partition.clone(), serial));
            topics.entry(partition.topic.clone()).or_default().push(data);
        }
        let (Ok(version), false) = (version, sent.is_empty()) else { return };
        let request = ProduceRequest {
            acks: match self.config.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: millis(self.client.config().request_timeout),
            topic_data: topics
                .into_iter()
                .map(|(name, partition_data)| TopicProduceData {
                    topic_id: self.metadata.topic_id(&name).map(|id| id.0).unwrap_or_default(),
                    name: name.as_str().into(),
                    partition_data,
                })
                .collect(),
            ..ProduceRequest::default()
        };
        let is_answered = self.config.acks != Acks::None;
        let pending = if is_answered {
            connection.enqueue(&request, version)
        } else {
            connection.enqueue_unanswered(&request, version)
        };
        match pending {
            Ok(pending) => {
                if let Some(Link::Up { in_flight, .. }) = self.links.get_mut(&broker) {
                    *in_flight += 1;
                }
                let wait = Wait {
                    client: self.client.clone(),
                    events: self.events.clone(),
                    metadata: self.metadata.clone(),
                    broker,
                    version,
                    is_answered,
                    sent,
                };
                self.client.env().spawner().spawn("producer-wait", wait.run(pending));
            }
            Err(error) => {
                for (partition, serial) in sent {
                    self.settle_now(&partition, serial, error.clone(), now);
                }
            }
        }
    }

    fn settle_now(
        &mut self,
        partition: &TopicPartition,
        serial: u64,
        error: ClientError,
        now: Instant,
    ) {
        let client = &self.client;
        if let Some(queue) = self.queues.get_mut(partition) {
            queue.settle(serial, Err(error), now, |tries| client.backoff(tries));
        }
    }
}

/// Waits for the answer to one request and reports what it says of each batch.
struct Wait<E: Env> {
    client: Client<E>,
    events: mpsc::Sender<Event>,
    metadata: Arc<Metadata>,
    broker: BrokerId,
    version: i16,
    is_answered: bool,
    sent: Vec<(TopicPartition, u64)>,
}

impl<E: Env> Wait<E> {
    async fn run(self, pending: Pending) {
        let timeout = self.client.config().request_timeout;
        let env = self.client.env();
        let results = if self.is_answered {
            pending
                .answer::<E, ProduceRequest>(env, self.version, timeout)
                .await
                .map(|answer| self.read(answer))
        } else {
            let nothing_told = Stored { base_offset: None, timestamp: None };
            pending
                .sent(env, timeout)
                .await
                .map(|()| self.sent.iter().map(|(p, _)| (p.clone(), Ok(nothing_told))).collect())
        };
        let missing = ClientError::Disconnected { address: format!("broker {}", self.broker) };
        let results = self
            .sent
            .into_iter()
            .map(|(partition, serial)| {
                let result = match &results {
                    Ok(answers) => {
                        answers.get(&partition).cloned().unwrap_or_else(|| Err(missing.clone()))
                    }
                    Err(error) => Err(error.clone()),
                };
                (partition, serial, result)
            })
            .collect();
        let _ = self.events.send(Event::Settled(self.broker, results)).await;
    }

    fn read(
        &self,
        answer: ProduceResponse,
    ) -> BTreeMap<TopicPartition, Result<Stored, ClientError>> {
        let mut results = BTreeMap::new();
        for topic in answer.responses {
            let name = if self.version >= 13 {
                self.metadata.topic_name(TopicId(topic.topic_id)).cloned()
            } else {
                Some(TopicName::from(&*topic.name))
            };
            let Some(name) = name else { continue };
            for partition in topic.partition_responses {
                let told = |value: i64| (value >= 0).then_some(value);
                let message = partition.error_message.as_deref();
                let result = ClientError::check(partition.error_code, message).map(|()| Stored {
                    base_offset: told(partition.base_offset).map(Offset),
                    timestamp: told(partition.log_append_time_ms).map(Timestamp),
                });
                results.insert(TopicPartition::new(name.clone(), partition.index), result);
            }
        }
        results
    }
}

fn millis(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
