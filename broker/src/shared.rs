//! What every handler and room of one broker can reach: the world, the configuration, and the doors.
//!
//! [`View`] is the one published picture of metadata *and* of the partitions that serve it: a handler takes it once per
//! request, so that name, topic id and partition always belong together (P18, I44).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::metadata::Image;
use cluster::telemetry::{Subscriptions, Telemetry};
use env::Env;
use log::LogDir;
use tokio::sync::watch;
use types::{
    BrokerId, ClusterId, DirectoryId, ErrorCode, Offset, PartitionIndex, TopicId, TopicName,
};

use cluster::config::{BrokerSettings, ReplicaList};

use crate::config::{Audience, BrokerConfig};
use crate::context::ListenerName;
use crate::controller::ControllerWay;
use crate::coordinator::Groups;
use crate::fetch_session::Sessions;
pub(crate) use crate::metadata::QuorumInfo;
use crate::metadata::{Metadata, ProducerIds};
use crate::metrics::{ConnectionTally, Metrics};
use crate::partition::Partition;
use crate::replication::{Desk, Following};

/// Handle to one running broker; cheap to clone.
pub struct Shared<E: Env>(pub(crate) Arc<SharedInner<E>>);

/// What [`Shared`] points at.
pub(crate) struct SharedInner<E: Env> {
    pub(crate) env: E,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) cluster_id: ClusterId,
    pub(crate) data_dirs: Vec<LogDir<E::Disk>>,
    /// Those that could not be opened.
    pub(crate) broken_dirs: Vec<PathBuf>,
    pub(crate) metadata: Metadata<E>,
    pub(crate) sessions: Sessions,
    /// To the active controller: for this broker's own questions, and for those of its clients.
    pub(crate) own_way: ControllerWay,
    pub(crate) clients_way: ControllerWay,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) telemetry: Mutex<Telemetry>,
    pub(crate) groups: Groups,
    pub(crate) desk: Arc<Desk<E>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failure: watch::Sender<Option<Failure>>,
    pub(crate) stopping: watch::Sender<bool>,
}

impl<E: Env> Clone for Shared<E> {
    fn clone(&self) -> Shared<E> {
        Shared(self.0.clone())
    }
}

impl<E: Env> Shared<E> {
    /// The world.
    pub fn env(&self) -> &E {
        &self.0.env
    }

    /// The configuration it was started with. Settings that change at run time are in the image.
    pub fn config(&self) -> &BrokerConfig {
        &self.0.config
    }

    /// This broker.
    pub fn broker_id(&self) -> BrokerId {
        BrokerId(self.0.config.node_id.0)
    }

    /// The cluster it belongs to.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.0.cluster_id
    }

    /// The metadata quorum as this node knows it.
    pub(crate) fn quorum(&self) -> Arc<QuorumInfo> {
        self.0.metadata.quorum()
    }

    /// Whom clients are to ask for changes: the active controller if it is one of the brokers that they know, else this one,
    /// which passes them on.
    pub(crate) fn contact_for_changes(&self, image: &Image) -> BrokerId {
        let leader = self.quorum().leader.map(|node| BrokerId(node.0));
        let known = leader.filter(|id| image.broker(*id).is_some_and(|info| !info.is_fenced));
        known.unwrap_or(self.broker_id())
    }

    /// Whether this node decides alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.quorum().voters.nodes().eq([self.0.config.node_id])
    }

    /// Its log directories that could be opened, in the order of `log.dirs`.
    pub fn data_dirs(&self) -> &[LogDir<E::Disk>] {
        &self.0.data_dirs
    }

    /// Whether a log directory takes nothing new (`cordoned.log.dirs`).
    pub(crate) fn is_cordoned(&self, dir: &LogDir<E::Disk>) -> bool {
        let settings = self.settings();
        settings.cordoned.iter().any(|path| path == "*" || Path::new(path) == dir.path())
    }

    /// Those that do.
    pub(crate) fn cordoned_directories(&self) -> impl Iterator<Item = DirectoryId> + '_ {
        self.data_dirs().iter().filter(|dir| self.is_cordoned(dir)).map(LogDir::id)
    }

    /// The door of the metadata room.
    pub fn metadata(&self) -> &Metadata<E> {
        &self.0.metadata
    }

    /// The way to the active controller for what this broker itself wants.
    pub(crate) fn own_way(&self) -> &ControllerWay {
        &self.0.own_way
    }

    /// The way to the active controller for what its clients want.
    pub(crate) fn clients_way(&self) -> &ControllerWay {
        &self.0.clients_way
    }

    /// The newest published picture.
    pub fn view(&self) -> Arc<View<E>> {
        self.0.metadata.view()
    }

    /// The newest published metadata.
    pub fn image(&self) -> Arc<Image> {
        self.view().image.clone()
    }

    /// The partition of that name, if this broker serves it now.
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<Partition<E>> {
        self.view().topic(topic)?.partition(partition).cloned()
    }

    /// The settings in force: what it was started with, and what was changed since.
    pub fn settings(&self) -> Arc<BrokerSettings> {
        self.view().settings.clone()
    }

    /// The door of the group coordinators.
    pub fn groups(&self) -> &Groups {
        &self.0.groups
    }

    /// Where partitions leave what they want of others.
    pub(crate) fn desk(&self) -> &Desk<E> {
        &self.0.desk
    }

    /// The producer ids this broker may hand out.
    pub(crate) fn producer_ids(&self) -> &ProducerIds {
        &self.0.producer_ids
    }

    /// What clients measure of themselves. No step of it takes long.
    pub(crate) fn telemetry(&self) -> MutexGuard<'_, Telemetry> {
        // It is whole between any two statements.
        self.0.telemetry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The room of fetch sessions.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Creates an internal topic with the settings it needs, unless it is there.
    pub async fn create_internal_topic(&self, name: &str) -> Result<(), ErrorCode> {
        match crate::handlers::auto_create(self, vec![name.into()]).await.first() {
            Some((_, code)) => Err(*code),
            None => Ok(()),
        }
    }

    /// Follows whether the broker stops.
    pub(crate) fn stopping_watch(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// Completes when the broker begins to stop; for tasks in the background.
    pub async fn stopping(&self) {
        let mut receiver = self.0.stopping.subscribe();
        // An error means that the broker is gone, which is as good a reason.
        let _ = receiver.wait_for(|stopping| *stopping).await;
    }

    /// Reports what this broker cannot go on with; the first report wins.
    pub fn fail(&self, failure: Failure) {
        self.0.failure.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(failure);
            }
            first
        });
    }
}

/// One listener as the connections and metadata see it.
#[derive(Debug)]
pub struct ListenerInfo {
    /// Its name.
    pub name: ListenerName,
    /// Host and port that metadata gives to its clients.
    pub advertised: (String, u16),
    /// Who calls there.
    pub audience: Audience,
    /// Its connections, counted.
    pub(crate) connections: ConnectionTally,
}

/// Why a broker cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No log directory is left that can be written.
    Disk {
        /// The directory that failed last.
        directory: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The controller wants nothing of this process.
    Registration {
        /// What it says.
        reason: String,
    },
    /// The metadata log cannot be written.
    Metadata {
        /// What happened.
        reason: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Disk { directory, reason } => {
                write!(f, "log directory {} failed: {reason}", directory.display())
            }
            Failure::Registration { reason } => {
                write!(f, "the controller refuses this broker: {reason}")
            }
            Failure::Metadata { reason } => write!(f, "the metadata log failed: {reason}"),
        }
    }
}

/// Metadata at one offset, with the partitions that serve it.
pub struct View<E: Env> {
    /// The metadata itself.
    pub image: Arc<Image>,
    /// Offset of the last metadata record in it.
    pub offset: Offset,
    /// The broker's settings at this point.
    pub settings: Arc<BrokerSettings>,
    /// What clients are to tell of themselves.
    pub subscriptions: Arc<Subscriptions>,
    pub(crate) by_name: BTreeMap<TopicName, Arc<TopicView<E>>>,
    pub(crate) by_id: BTreeMap<TopicId, Arc<TopicView<E>>>,
}

/// Whose limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// `leader.replication.throttled.rate` of the broker that leads.
    Leader,
    /// `follower.replication.throttled.rate` of the broker that follows.
    Follower,
}

/// One topic of a [`View`].
pub struct TopicView<E: Env> {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Its partitions by index; `None` where this broker holds no replica, or cannot: its directory is not there, or has no
    /// space for it yet.
    pub(crate) partitions: Vec<Option<Partition<E>>>,
    /// The replicas that follow others.
    pub(crate) following: Vec<Option<Following<E>>>,
    /// Which of them others lead, or nobody.
    pub(crate) elsewhere: Vec<bool>,
    /// Those whose leaders, and whose followers, are not to catch up as fast as they can.
    pub(crate) throttled: (ReplicaList, ReplicaList),
}

impl<E: Env> View<E> {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicView<E>>> {
        self.by_name.get(name)
    }

    /// Whether what `leader` gives `follower` of a partition counts for the limit of either of them, as the topic's settings
    /// name them. What is in sync is never held up.
    pub(crate) fn is_throttled(
        &self,
        (topic, index): (TopicId, PartitionIndex),
        limit: Limit,
        broker: BrokerId,
        follower: BrokerId,
    ) -> bool {
        let Some(view) = self.topic_by_id(topic) else { return false };
        let (leaders, followers) = &view.throttled;
        let named = match limit {
            Limit::Leader => leaders.names(index, broker),
            Limit::Follower => followers.names(index, broker),
        };
        let registered = || self.image.topic_by_id(topic)?.partitions.get(&index);
        named && registered().is_some_and(|known| !known.isr.contains(&follower))
    }

    /// Whether a replica is on its way to `broker`, and not in sync yet.
    pub(crate) fn is_moving_to(
        &self,
        (topic, index): (TopicId, PartitionIndex),
        broker: BrokerId,
    ) -> bool {
        let registered = || self.image.topic_by_id(topic)?.partitions.get(&index);
        registered()
            .is_some_and(|known| known.adding.contains(&broker) && !known.isr.contains(&broker))
    }

    /// The topic of that identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicView<E>>> {
        self.by_id.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicView<E>>> {
        self.by_name.values()
    }
}

impl<E: Env> TopicView<E> {
    /// The partition of that index, if it exists and this broker serves it.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition<E>> {
        self.partitions.get(usize::try_from(index.0).ok()?)?.as_ref()
    }

    /// The replica of that partition, if it follows another broker's.
    pub(crate) fn following(&self, index: PartitionIndex) -> Option<&Following<E>> {
        self.following.get(usize::try_from(index.0).ok()?)?.as_ref()
    }

    /// The partition of that index, or what to tell who asks for it: one that exists, is led here and is not served lies in a
    /// log directory that does not work.
    pub fn serving(&self, index: PartitionIndex) -> Result<&Partition<E>, ErrorCode> {
        let place = usize::try_from(index.0).ok().and_then(|at| self.partitions.get(at));
        let place = place.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        place.as_ref().ok_or(match self.is_elsewhere(index) {
            true => ErrorCode::NotLeaderOrFollower,
            false => ErrorCode::KafkaStorageError,
        })
    }

    /// Whether it is not this broker that leads the partition.
    pub(crate) fn is_elsewhere(&self, index: PartitionIndex) -> bool {
        usize::try_from(index.0).ok().and_then(|at| self.elsewhere.get(at)) == Some(&true)
    }

    /// Whether a partition that this broker leads cannot be served.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.partitions.iter().zip(&self.elsewhere).any(|(own, other)| own.is_none() && !other)
    }

    /// Number of partitions.
    pub fn partitions_count(&self) -> i32 {
        self.partitions.len() as i32
    }
}
