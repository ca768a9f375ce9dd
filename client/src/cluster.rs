//! The client's view of a cluster: which broker to ask, and how often.
//!
//! Owns the metadata snapshot, the group coordinators found so far and one connection per (address, [`Lane`]). A lane is
//! a set of connections of its own: a long poll on one lane does not hold up the answers on another, and requests that
//! must stay in order share a lane. Producers and consumers each take their own.
//!
//! The room's state sits behind one short lock that is never held across an await. Two callers that need the same
//! connection or the same metadata wait for one attempt together.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use env::{Clock, Env, Rng};
use types::{
    BrokerId, ErrorCode, GroupId, Instant, LeaderEpoch, TopicId, TopicName, TopicPartition,
};
use wire::{ApiKey, Request};

use crate::connection::{Connection, ConnectionSettings, Offered, Versions};
use crate::error::{Certainty, ClientError};
use crate::metadata::{Broker, Metadata, Partition, Topic};

/// How a client behaves towards its cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of some brokers: enough that one of them is up.
    pub bootstrap: Vec<String>,
    /// The name the broker logs and counts this client under.
    pub client_id: String,
    /// How long one request may go without an answer before its connection is given up.
    pub request_timeout: Duration,
    /// How long connecting may take, and how long a broker may be silent that was asked who the others are: one that stands still
    /// takes connections, and another one knows as much.
    pub connect_timeout: Duration,
    /// How long an operation may take with all its retries.
    pub operation_timeout: Duration,
    /// The pause before the first retry; it doubles with each further one.
    pub retry_backoff: Duration,
    /// The longest pause between retries.
    pub retry_backoff_max: Duration,
    /// Metadata older than this is asked for again.
    pub metadata_age_max: Duration,
    /// The largest answer accepted.
    pub answer_bytes_max: usize,
    /// Whether asking for a topic may create it, where the broker allows that.
    pub auto_create_topics: bool,
    /// Requests that are always sent in one fixed version, by API key.
    pub pinned: Versions,
}

impl ClientConfig {
    /// How long any broker may take to say where the others are.
    fn question_timeout(&self) -> Duration {
        self.request_timeout.min(self.connect_timeout)
    }
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            bootstrap: vec!["127.0.0.1:9092".into()],
            client_id: "foretold".into(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
            answer_bytes_max: 256 * 1024 * 1024,
            auto_create_topics: true,
            pinned: Versions::new(),
        }
    }
}

/// Whom a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Any broker that can be reached.
    Any,
    /// This broker.
    Broker(BrokerId),
    /// The broker that takes admin requests.
    Controller,
    /// The leader of a partition.
    Leader(TopicPartition),
    /// The coordinator of a group.
    Group(GroupId),
}

/// A set of connections of its own within one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lane(u64);

impl Lane {
    /// The lane for short questions.
    pub const MAIN: Lane = Lane(0);
}

/// A client of one cluster. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct Client<E: Env> {
    inner: Arc<Inner<E>>,
}

impl<E: Env> Clone for Client<E> {
    fn clone(&self) -> Client<E> {
        Client { inner: self.inner.clone() }
    }
}

struct Inner<E> {
    env: E,
    config: ClientConfig,
    settings: ConnectionSettings,
    state: Mutex<State>,
    /// Held by the one caller that asks for metadata.
    refreshing: tokio::sync::Mutex<()>,
}

impl<E> std::fmt::Debug for Inner<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A connection, or the place for one; its lock is held while connecting.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

#[derive(Debug)]
struct State {
    metadata: Arc<Metadata>,
    /// Something said that the snapshot is out of date.
    stale: bool,
    /// When metadata was last asked for, answered or not.
    asked: Option<Instant>,
    /// When each topic was last needed; the others are not asked for again.
    needed: BTreeMap<TopicName, Instant>,
    coordinators: BTreeMap<GroupId, BrokerId>,
    connections: BTreeMap<(Address, Lane), Slot>,
    lane_next: u64,
    closed: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Address {
    host: String,
    port: u16,
}

impl<E: Env> Client<E> {
    /// A client; it connects when it is first asked something.
    pub fn new(env: E, config: ClientConfig) -> Client<E> {
        let settings = ConnectionSettings {
            client_id: config.client_id.as_str().into(),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            answer_bytes_max: config.answer_bytes_max,
            versions_version: config.pinned.get(&ApiKey::ApiVersions.as_i16()).copied(),
        };
        let state = State {
            metadata: Arc::default(),
            stale: true,
            asked: None,
            needed: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            connections: BTreeMap::new(),
            lane_next: 1,
            closed: false,
        };
        let refreshing = tokio::sync::Mutex::new(());
        Client {
            inner: Arc::new(Inner { env, config, settings, state: Mutex::new(state), refreshing }),
        }
    }

    /// The world this client lives in.
    pub fn env(&self) -> &E {
        &self.inner.env
    }

    /// How this client behaves.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// A new lane: connections that no one else uses.
    pub fn new_lane(&self) -> Lane {
        let mut state = self.lock();
        state.lane_next += 1;
        Lane(state.lane_next)
    }

    /// Closes the connections of a lane.
    pub fn close_lane(&self, lane: Lane) {
        let mut closing = Vec::new();
        self.lock().connections.retain(|(_, of), slot| {
            if *of == lane {
                closing.push(slot.clone());
            }
            *of != lane
        });
        close_slots(closing);
    }

    /// Breaks every connection; the next request connects anew.
    pub fn disconnect_all(&self) {
        let slots = std::mem::take(&mut self.lock().connections).into_values().collect();
        close_slots(slots);
    }

    /// Ends the client: every open and every further request fails.
    pub fn close(&self) {
        self.lock().closed = true;
        self.disconnect_all();
    }

    /// What is known of the cluster now, without asking.
    pub fn current(&self) -> Arc<Metadata> {
        self.lock().metadata.clone()
    }

    /// Metadata that covers `topics`: what is known if it is fresh, else the cluster's answer. A topic may still carry
    /// an error, or a partition lack a leader; that is for the caller to judge.
    pub async fn metadata(&self, topics: &[TopicName]) -> Result<Arc<Metadata>, ClientError> {
        let now = self.env().clock().now();
        {
            let mut state = self.lock();
            for topic in topics {
                state.needed.insert(topic.clone(), now);
            }
            let fresh = |topic: &TopicName| {
                state.metadata.topics.get(topic).is_some_and(|topic| {
                    topic.error.is_none()
                        && now.saturating_since(topic.learnt) < self.config().metadata_age_max
                })
            };
            if !state.stale && topics.iter().all(fresh) {
                return Ok(state.metadata.clone());
            }
        }
        self.refresh(Some(topics)).await
    }

    /// Asks the cluster for its layout: for `topics` and those needed lately, or (`None`) for all topics.
    pub async fn refresh(
        &self,
        topics: Option<&[TopicName]>,
    ) -> Result<Arc<Metadata>, ClientError> {
        let seen = self.current().version;
        let _turn = self.inner.refreshing.lock().await;
        let current = self.current();
        let covered = topics.is_some_and(|topics| {
            topics
                .iter()
                .all(|topic| current.topics.get(topic).is_some_and(|topic| topic.error.is_none()))
        });
        if current.version > seen && covered {
            return Ok(current); // another caller's answer came while we waited for our turn
        }
        self.pace().await;
        let asked = topics.map(|topics| self.topics_to_ask(topics));
        let answer = self.ask_metadata(asked.as_ref()).await?;
        let mut state = self.lock();
        let merged = Arc::new(state.metadata.merged(answer, asked.as_ref()));
        state.metadata = merged.clone();
        state.stale = false;
        Ok(merged)
    }

    /// Tells that the cluster's layout may have changed: the next question asks for it again.
    pub fn expect_change(&self) {
        self.lock().stale = true;
    }

    /// Waits until metadata may be asked for again.
    async fn pace(&self) {
        let clock = self.env().clock();
        let last = self.lock().asked;
        if let Some(last) = last {
            clock.sleep_until(last + self.config().retry_backoff).await;
        }
        self.lock().asked = Some(clock.now());
    }

    fn topics_to_ask(&self, topics: &[TopicName]) -> BTreeSet<TopicName> {
        let now = self.env().clock().now();
        let age_max = self.config().metadata_age_max * 2;
        let mut state = self.lock();
        state.needed.retain(|_, used| now.saturating_since(*used) < age_max);
        topics.iter().chain(state.needed.keys()).cloned().collect()
    }

    /// One metadata request.
    async fn ask_metadata(
        &self,
        topics: Option<&BTreeSet<TopicName>>,
    ) -> Result<Metadata, ClientError> {
        use wire::metadata::{MetadataRequest, MetadataRequestTopic};
        let connection = self.any_connection(Lane::MAIN).await?;
        let version =
            connection.version::<MetadataRequest>(self.pinned::<MetadataRequest>(), i16::MAX)?;
        let named = topics.map(|topics| {
            topics
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name.as_str().into()),
                    ..MetadataRequestTopic::default()
                })
                .collect()
        });
        let request = MetadataRequest {
            // Version 0 has no null: there an empty list means all.
            topics: if version == 0 { Some(named.unwrap_or_default()) } else { named },
            allow_auto_topic_creation: version < 4 || self.config().auto_create_topics,
            ..MetadataRequest::default()
        };
        let timeout = self.config().question_timeout();
        let answer = connection.ask(self.env(), &request, version, timeout).await?;
        ClientError::check(answer.error_code, None)?;
        Ok(self.read_metadata(answer))
    }

    fn read_metadata(&self, answer: wire::metadata::MetadataResponse) -> Metadata {
        let learnt = self.env().clock().now();
        let brokers = answer
            .brokers
            .into_iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                let rack = broker.rack.map(|rack| rack.to_string());
                Some((
                    BrokerId(broker.node_id),
                    Broker { host: broker.host.to_string(), port, rack },
                ))
            })
            .collect();
        let topics = answer
            .topics
            .into_iter()
            .filter_map(|topic| {
                let name = TopicName::from(&*topic.name?);
                let partitions = topic.partitions.into_iter().map(read_partition).collect();
                let topic = Topic {
                    id: Some(TopicId(topic.topic_id)).filter(|id| !id.0.is_zero()),
                    is_internal: topic.is_internal,
                    error: Some(
                        ErrorCode::from_i16(topic.error_code)
                            .unwrap_or(ErrorCode::UnknownServerError),
                    )
                    .filter(|code| code.is_some()),
                    partitions,
                    learnt,
                };
                Some((name, topic))
            })
            .collect();
        Metadata {
            cluster_id: answer.cluster_id.map(|id| id.to_string()),
            controller: broker_id(answer.controller_id),
            brokers,
            topics,
            version: 0,
        }
    }

    /// The version that requests of this kind are pinned to, if they are.
    pub(crate) fn pinned<R: Request>(&self) -> Option<i16> {
        self.config().pinned.get(&R::API_KEY.as_i16()).copied()
    }

    /// What the target's broker offers.
    pub async fn versions(&self, target: &Target) -> Result<Offered, ClientError> {
        Ok(self.connection(target, Lane::MAIN).await?.offered().clone())
    }

    /// One attempt at one request: no retry, no look at the answer's error codes. Without `version`, the newest version
    /// both sides speak. A failed attempt says what is known of its effect ([`ClientError::certainty`]).
    pub async fn raw<R: Request>(
        &self,
        target: Target,
        request: R,
        version: Option<i16>,
    ) -> Result<R::Response, ClientError> {
        let connection = self.connection(&target, Lane::MAIN).await?;
        let version = connection.version::<R>(version.or(self.pinned::<R>()), i16::MAX)?;
        connection.ask(self.env(), &request, version, self.config().request_timeout).await
    }

    /// One attempt at one request on a lane of the caller's, in a version of at most `version_max`.
    pub(crate) async fn ask<R: Request>(
        &self,
        target: &Target,
        lane: Lane,
        request: &R,
        version_max: i16,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let connection = self.connection(target, lane).await?;
        let version = connection.version::<R>(self.pinned::<R>(), version_max)?;
        connection.ask(self.env(), request, version, timeout).await
    }

    /// Runs `attempt` until it succeeds, fails for good, or the operation's time is up. Between attempts it waits and
    /// forgets what the error showed to be out of date.
    pub async fn retrying<T, F, A>(&self, target: &Target, attempt: A) -> Result<T, ClientError>
    where
        A: FnMut() -> F,
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        self.retrying_within(self.config().operation_timeout, target, attempt).await
    }

    /// As [`Client::retrying`], within `time`.
    pub async fn retrying_within<T, F, A>(
        &self,
        time: Duration,
        target: &Target,
        mut attempt: A,
    ) -> Result<T, ClientError>
    where
        A: FnMut() -> F,
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        let deadline = self.env().clock().now() + time;
        let mut certainty = Certainty::DidNotHappen;
        let mut last = None;
        for tries in 0.. {
            let left = deadline.saturating_since(self.env().clock().now());
            let error = match self.env().timeout(left, attempt()).await {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => error,
                None => {
                    certainty = Certainty::Unknown;
                    break;
                }
            };
            if !error.is_retriable() {
                return Err(error.after(certainty));
            }
            if error.certainty() == Certainty::Unknown {
                certainty = Certainty::Unknown;
            }
            self.learn_from(target, &error);
            last = Some(Box::new(error));
            let pause = self.backoff(tries);
            if self.env().clock().now() + pause >= deadline {
                break;
            }
            self.env().clock().sleep(pause).await;
        }
        Err(ClientError::DeadlinePassed { last, certainty })
    }

    /// Forgets what `error` shows to be out of date.
    pub(crate) fn learn_from(&self, target: &Target, error: &ClientError) {
        let mut state = self.lock();
        if error.wants_metadata() {
            state.stale = true;
        }
        let code = error.error_code();
        let lost_coordinator = code.is_none()
            || matches!(code, Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable));
        if let Target::Group(group) = target
            && lost_coordinator
        {
            state.coordinators.remove(group);
        }
    }

    /// The pause before retry number `tries` (from 0), with a fifth of jitter either way.
    pub(crate) fn backoff(&self, tries: u32) -> Duration {
        let config = self.config();
        let full = config
            .retry_backoff
            .saturating_mul(1 << tries.min(16))
            .min(config.retry_backoff_max.max(config.retry_backoff));
        let percent = 80 + u32::try_from(self.env().rng().next_u64() % 41).unwrap_or(0);
        full * percent / 100
    }

    /// A live connection to the target's broker on `lane`.
    pub(crate) async fn connection(
        &self,
        target: &Target,
        lane: Lane,
    ) -> Result<Connection, ClientError> {
        match target {
            Target::Any => self.any_connection(lane).await,
            Target::Broker(broker) => self.broker_connection(*broker, lane).await,
            Target::Controller => match self.metadata(&[]).await?.controller {
                Some(broker) => self.broker_connection(broker, lane).await,
                None => self.any_connection(lane).await,
            },
            Target::Leader(partition) => {
                let broker = self.leader(partition).await?;
                self.broker_connection(broker, lane).await
            }
            Target::Group(group) => {
                let broker = self.coordinator(group).await?;
                self.broker_connection(broker, lane).await
            }
        }
    }

    /// The leader of a partition.
    pub(crate) async fn leader(&self, partition: &TopicPartition) -> Result<BrokerId, ClientError> {
        let metadata = self.metadata(std::slice::from_ref(&partition.topic)).await?;
        if let Some(broker) = metadata.leader(partition) {
            return Ok(broker);
        }
        self.expect_change();
        Err(metadata.without_leader(partition))
    }

    /// The coordinator of a group: as found before, or found now.
    pub(crate) async fn coordinator(&self, group: &GroupId) -> Result<BrokerId, ClientError> {
        if let Some(broker) = self.lock().coordinators.get(group) {
            return Ok(*broker);
        }
        let broker = self.find_coordinator(group).await?;
        self.lock().coordinators.insert(group.clone(), broker);
        Ok(broker)
    }

    async fn find_coordinator(&self, group: &GroupId) -> Result<BrokerId, ClientError> {
        use wire::find_coordinator::FindCoordinatorRequest;
        let connection = self.any_connection(Lane::MAIN).await?;
        let pinned = self.pinned::<FindCoordinatorRequest>();
        let version = connection.version::<FindCoordinatorRequest>(pinned, i16::MAX)?;
        let mut request = FindCoordinatorRequest::default();
        if version >= 4 {
            request.coordinator_keys = vec![group.as_str().into()];
        } else {
            request.key = group.as_str().into();
        }
        let timeout = self.config().question_timeout();
        let answer = connection.ask(self.env(), &request, version, timeout).await?;
        let (code, message, node, host, port) = if version >= 4 {
            let found =
                answer.coordinators.into_iter().next().ok_or_else(|| ClientError::BadAnswer {
                    address: connection.address().to_owned(),
                    reason: "no coordinator in the answer".into(),
                })?;
            (found.error_code, found.error_message, found.node_id, found.host, found.port)
        } else {
            (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port)
        };
        ClientError::check(code, message.as_deref())?;
        let broker = BrokerId(node);
        if !self.current().brokers.contains_key(&broker)
            && let Ok(port) = u16::try_from(port)
        {
            // The metadata does not name it yet: keep what this answer says.
            let mut state = self.lock();
            let mut metadata = Metadata::clone(&state.metadata);
            metadata.brokers.insert(broker, Broker { host: host.to_string(), port, rack: None });
            state.metadata = Arc::new(metadata);
        }
        Ok(broker)
    }

    /// A connection to some broker: one that is open, else the known ones in random order, else the bootstrap ones.
    async fn any_connection(&self, lane: Lane) -> Result<Connection, ClientError> {
        let bootstrap = self.bootstrap()?;
        let mut known: Vec<Address> = self.current().brokers.values().map(Address::of).collect();
        if !known.is_empty() {
            let start = self.env().rng().next_u64() as usize % known.len();
            known.rotate_left(start);
        }
        let open = self.open_addresses(lane);
        known.sort_by_key(|address| !open.contains(address));
        known.extend(bootstrap);
        let mut tried = BTreeSet::new();
        let mut last = ClientError::Usage("no bootstrap address".into());
        for address in known {
            if !tried.insert(address.clone()) {
                continue;
            }
            match self.address_connection(address, lane).await {
                Ok(connection) => return Ok(connection),
                Err(ClientError::Closed) => return Err(ClientError::Closed),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_addresses(&self, lane: Lane) -> BTreeSet<Address> {
        let state = self.lock();
        let is_open = |slot: &Slot| {
            slot.try_lock()
                .is_ok_and(|slot| slot.as_ref().is_some_and(|connection| !connection.is_closed()))
        };
        state
            .connections
            .iter()
            .filter(|((_, of), slot)| *of == lane && is_open(slot))
            .map(|((address, _), _)| address.clone())
            .collect()
    }

    fn bootstrap(&self) -> Result<Vec<Address>, ClientError> {
        let mut addresses = self
            .config()
            .bootstrap
            .iter()
            .map(|text| Address::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        if !addresses.is_empty() {
            let start = self.env().rng().next_u64() as usize % addresses.len();
            addresses.rotate_left(start);
        }
        Ok(addresses)
    }

    pub(crate) async fn broker_connection(
        &self,
        broker: BrokerId,
        lane: Lane,
    ) -> Result<Connection, ClientError> {
        let known = self.current().brokers.get(&broker).map(Address::of);
        let address = match known {
            Some(address) => address,
            None => {
                let metadata = self.refresh(Some(&[])).await?;
                let broker = metadata.brokers.get(&broker);
                broker.map(Address::of).ok_or(ClientError::code(ErrorCode::BrokerNotAvailable))?
            }
        };
        let result = self.address_connection(address, lane).await;
        if result.is_err() {
            self.expect_change();
        }
        result
    }

    async fn address_connection(
        &self,
        address: Address,
        lane: Lane,
    ) -> Result<Connection, ClientError> {
        let slot = {
            let mut state = self.lock();
            if state.closed {
                return Err(ClientError::Closed);
            }
            state.connections.entry((address.clone(), lane)).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref()
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        *slot = None;
        let (env, settings) = (self.env(), &self.inner.settings);
        let connection = Connection::open(env, &address.host, address.port, settings).await?;
        if self.lock().closed {
            connection.close();
            return Err(ClientError::Closed);
        }
        *slot = Some(connection.clone());
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in the critical sections can panic halfway through a change.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    fn of(broker: &Broker) -> Address {
        Address { host: broker.host.clone(), port: broker.port }
    }

    /// Parses `host:port`, `[v6]:port`; a listener prefix such as `PLAINTEXT://` is dropped.
    fn parse(text: &str) -> Result<Address, ClientError> {
        let bad =
            || ClientError::Usage(format!("`{text}` is not an address of the form host:port"));
        let text = text.trim();
        let plain = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = plain.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() { Err(bad()) } else { Ok(Address { host: host.to_owned(), port }) }
    }
}

fn close_slots(slots: Vec<Slot>) {
    for slot in slots {
        // A slot that is locked is connecting: its caller finds the client closed, or uses what it gets once.
        if let Ok(mut slot) = slot.try_lock()
            && let Some(connection) = slot.take()
        {
            connection.close();
        }
    }
}

fn read_partition(
    partition: wire::metadata::MetadataResponsePartition,
) -> (types::PartitionIndex, Partition) {
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let read = Partition {
        leader: broker_id(partition.leader_id),
        leader_epoch: Some(LeaderEpoch(partition.leader_epoch)).filter(|epoch| epoch.0 >= 0),
        replicas: ids(partition.replica_nodes),
        isr: ids(partition.isr_nodes),
        offline: ids(partition.offline_replicas),
    };
    (types::PartitionIndex(partition.partition_index), read)
}

fn broker_id(id: i32) -> Option<BrokerId> {
    Some(BrokerId(id)).filter(|id| id.0 >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let parse = |text| Address::parse(text).map(|address| (address.host, address.port)).ok();
        assert_eq!(parse("localhost:9092"), Some(("localhost".into(), 9092)));
        assert_eq!(parse("PLAINTEXT://10.0.0.1:1"), Some(("10.0.0.1".into(), 1)));
        assert_eq!(parse("[::1]:9092"), Some(("::1".into(), 9092)));
        for bad in ["localhost", ":9092", "h:port", "h:70000", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
