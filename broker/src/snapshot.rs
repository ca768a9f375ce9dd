//! How a broker stands at one moment, as plain values: for whoever shows it, in whatever form.
//!
//! Taking one costs O(partitions + groups' offsets), a lock of one partition at a time, one question to each group
//! coordinator, and one read of a batch's header for each partition that a group is behind in; no request waits for it. Group offsets are asked for before the partitions' ends are read, so that lag
//! is what a client would find: committed offsets first, ends after them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::group::{Event, GroupState, Response};
use cluster::telemetry::{Kept, Labels};
use env::{Clock, Env};
use log::{DirCounts, LogDir};
use tokio::sync::watch;
use types::mutant::{Mutant, planted};
use types::{
    BrokerId, ClusterId, DirectoryId, Durations, ErrorCode, GroupId, NodeId, Offset,
    PartitionIndex, Timestamp, TopicId, TopicName, Uuid,
};

use crate::connection::Connections;
use crate::context::ListenerName;
use crate::handlers::{INTERNAL_TOPICS, SERVED};
use crate::metrics::{TopicCounts, Traffic};
use crate::partition::Partition;
use crate::replication::Following;
use crate::shared::{ListenerInfo, QuorumInfo, Shared, View};
use crate::together;

/// Takes snapshots of a broker; cheap to clone, and harmless after the broker's end.
pub struct Observer<E: Env> {
    pub(crate) shared: Shared<E>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) listeners: Vec<Arc<ListenerInfo>>,
    pub(crate) data_dirs: Vec<LogDir<E::Disk>>,
    pub(crate) metadata_log_dir: LogDir<E::Disk>,
}

impl<E: Env> Clone for Observer<E> {
    fn clone(&self) -> Observer<E> {
        Observer {
            shared: self.shared.clone(),
            connections: self.connections.clone(),
            listeners: self.listeners.clone(),
            data_dirs: self.data_dirs.clone(),
            metadata_log_dir: self.metadata_log_dir.clone(),
        }
    }
}

/// How a broker stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// When it was taken, by the broker's clock.
    pub at: Timestamp,
    /// This node.
    pub node: NodeId,
    /// This broker.
    pub broker: BrokerId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Requests, by API; only those that are served.
    pub apis: Vec<ApiSnapshot>,
    /// Connections, by listener.
    pub listeners: Vec<ListenerSnapshot>,
    /// Bytes that large requests hold while they arrive.
    pub request_bytes_held: usize,
    /// Topics, by name.
    pub topics: Vec<TopicSnapshot>,
    /// What clients did to all topics that there ever were in this process.
    pub traffic: TopicCounts,
    /// Data directories, then the metadata's.
    pub directories: Vec<DirectorySnapshot>,
    /// Groups, by name.
    pub groups: Vec<GroupSnapshot>,
    /// What clients measured of themselves, the newest push of each.
    pub clients: Vec<ClientSnapshot>,
    /// Group coordinators that did not answer: they load, or wait for a disk. Their groups are missing above.
    pub coordinators_silent: usize,
}

/// What a client pushed last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSnapshot {
    /// Its identity.
    pub id: Uuid,
    /// What it says of itself.
    pub labels: Labels,
    /// The push.
    pub kept: Kept,
}

/// Requests of one API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiSnapshot {
    /// Its name.
    pub name: &'static str,
    /// Bytes of requests, with their lengths.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// Requests that were answered, and how long each took from its last byte until its answer left.
    pub latency: Durations,
}

/// Connections of one listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSnapshot {
    /// Its name.
    pub name: ListenerName,
    /// Open now.
    pub open: u64,
    /// Accepted so far.
    pub opened: u64,
    /// Closed because their address has too many.
    pub refused: u64,
    /// Closed because they broke the protocol.
    pub broken: u64,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSnapshot {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Whether it is the broker's own.
    pub is_internal: bool,
    /// What clients did to it in this process.
    pub counts: TopicCounts,
    /// Its partitions.
    pub partitions: Vec<PartitionSnapshot>,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionSnapshot {
    /// Its index.
    pub index: PartitionIndex,
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// Its replicas, the preferred one first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// What is served of it here; nothing if its log directory does not work.
    pub log: Option<PartitionLog>,
}

/// A partition's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLog {
    /// First offset readable.
    pub log_start: Offset,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Ranges whose bytes are bad (I14), each from its first offset to its end, in order.
    pub quarantined: Vec<(Offset, Offset)>,
}

/// A log directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectorySnapshot {
    /// Where it is.
    pub path: PathBuf,
    /// Its identity.
    pub id: DirectoryId,
    /// Whether it holds the metadata rather than topics.
    pub is_metadata: bool,
    /// What it wrote; of one that could not be opened only that it is offline.
    pub counts: DirCounts,
}

/// A group of consumers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSnapshot {
    /// Its name.
    pub id: GroupId,
    /// Its state.
    pub state: GroupState,
    /// How many members it has.
    pub members_count: usize,
    /// How far it has come in each partition that it has an offset for and that exists.
    pub offsets: Vec<GroupProgress>,
}

/// How far a group has come in a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupProgress {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Committed records at or after it, counted by offsets as Kafka's tools do; nothing if the partition is not served.
    pub lag: Option<u64>,
    /// When the batch with the first of these was made; nothing if there is none, or it bears no time.
    pub unread_since: Option<Timestamp>,
}

/// What a data directory is short of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Degraded {
    /// It is nearly full: clients' records are refused, all else goes on (E11).
    WithoutSpace,
    /// It has failed, or did not open: its partitions are offline until a restart (E10).
    Offline,
}

/// How long a snapshot waits for a group coordinator.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(2);

impl<E: Env> Observer<E> {
    /// The metadata quorum as this node knows it.
    pub fn quorum(&self) -> Arc<QuorumInfo> {
        self.shared.quorum()
    }

    /// Its data directories.
    pub fn data_dirs(&self) -> &[LogDir<E::Disk>] {
        &self.data_dirs
    }

    /// The metadata that it serves by.
    pub fn view(&self) -> Arc<View<E>> {
        self.shared.view()
    }

    /// Follows that.
    pub fn watch(&self) -> watch::Receiver<Arc<View<E>>> {
        self.shared.metadata().watch()
    }

    /// Whether a data directory is left that works, full or not; of a node that is no broker, whether its only one works.
    pub fn has_working_directory(&self) -> bool {
        match self.shared.config().roles.is_broker() {
            true => self.data_dirs.iter().any(|dir| !dir.is_offline()),
            false => !self.metadata_log_dir.is_offline(),
        }
    }

    /// Whether it is of use to the others: of a node that is no broker, whether it knows a leader of the quorum. A broker
    /// serves what it holds without one.
    pub fn takes_part(&self) -> bool {
        self.shared.config().roles.is_broker() || self.shared.quorum().leader.is_some()
    }

    /// The data directories that do not do all that they are there for.
    pub fn degraded(&self) -> Vec<(PathBuf, Degraded)> {
        let broken = self.shared.0.broken_dirs.iter();
        let broken = broken.map(|path| (path.clone(), Degraded::Offline));
        let opened = self.data_dirs.iter().filter_map(|dir| {
            let how = match (dir.is_offline(), dir.has_space()) {
                (true, _) => Degraded::Offline,
                (false, false) => Degraded::WithoutSpace,
                (false, true) => return None,
            };
            Some((dir.path().to_owned(), how))
        });
        opened.chain(broken).collect()
    }

    fn clients(&self) -> Vec<ClientSnapshot> {
        let now = self.shared.env().clock().now();
        let telemetry = self.shared.telemetry();
        let clients = telemetry.kept(now).map(|(id, labels, kept)| ClientSnapshot {
            id,
            labels: labels.clone(),
            kept: kept.clone(),
        });
        clients.collect()
    }

    /// Takes a snapshot.
    pub async fn snapshot(&self) -> Snapshot {
        let (surveyed, coordinators_silent) = self.survey().await;
        let view = self.shared.view();
        let traffic = self.shared.metrics().counts();
        let topics: Vec<TopicSnapshot> = view
            .topics()
            .filter_map(|topic| {
                let registered = view.image.topic_by_id(topic.id)?;
                let partitions = registered.partitions.iter().map(|(index, registered)| {
                    let log = topic.partition(*index).and_then(log_of);
                    PartitionSnapshot {
                        index: *index,
                        leader: registered.leader,
                        replicas: registered.replicas.clone(),
                        isr: registered.isr.clone(),
                        log,
                    }
                });
                // Its partitions', while it is deleted, too: the sums have taken it over by then.
                let led = topic.partitions.iter().flatten().map(Partition::traffic);
                let followed = topic.following.iter().flatten().map(Following::traffic);
                let any = led.chain(followed).next();
                Some(TopicSnapshot {
                    name: topic.name.clone(),
                    id: topic.id,
                    is_internal: INTERNAL_TOPICS.contains(&topic.name.as_str()),
                    counts: any.map(Traffic::counts).unwrap_or_default(),
                    partitions: partitions.collect(),
                })
            })
            .collect();
        let mut groups = progress(surveyed, &topics);
        self.find_unread(&view, &mut groups).await;
        Snapshot {
            at: self.shared.env().clock().timestamp(),
            node: self.shared.config().node_id,
            broker: self.shared.broker_id(),
            cluster_id: self.shared.cluster_id().clone(),
            apis: self.apis(),
            listeners: self.listeners.iter().map(|listener| of_listener(listener)).collect(),
            request_bytes_held: self.connections.memory.used(),
            groups,
            topics,
            traffic,
            directories: self.directories(),
            clients: self.clients(),
            coordinators_silent,
        }
    }

    /// Since when there is something that a group has not read.
    async fn find_unread(&self, view: &View<E>, groups: &mut [GroupSnapshot]) {
        let behind = |of: &&mut GroupProgress| of.lag.is_some_and(|lag| lag > 0);
        for of in groups.iter_mut().flat_map(|group| &mut group.offsets).filter(behind) {
            let topic = view.topic(of.topic.as_str());
            let Some(partition) = topic.and_then(|topic| topic.partition(of.partition)) else {
                continue;
            };
            // What cannot be read now is told of elsewhere.
            of.unread_since = partition.log().time_of_batch(of.offset).await.unwrap_or(None);
        }
    }

    fn apis(&self) -> Vec<ApiSnapshot> {
        let snapshot = |key: &wire::ApiKey| {
            let tally = self.shared.metrics().api(key.as_i16())?;
            Some(ApiSnapshot {
                name: key.name(),
                bytes_in: tally.bytes_in.get(),
                bytes_out: tally.bytes_out.get(),
                latency: tally.latency.durations(),
            })
        };
        SERVED.iter().filter_map(snapshot).collect()
    }

    fn directories(&self) -> Vec<DirectorySnapshot> {
        let data = self.data_dirs.iter().map(|dir| (dir, false));
        let all = data.chain([(&self.metadata_log_dir, true)]);
        let snapshot = |(dir, is_metadata): (&LogDir<E::Disk>, bool)| DirectorySnapshot {
            path: dir.path().to_owned(),
            id: dir.id(),
            is_metadata,
            counts: dir.counts(),
        };
        let broken = self.shared.0.broken_dirs.iter().map(|path| DirectorySnapshot {
            path: path.clone(),
            id: DirectoryId::default(),
            is_metadata: false,
            counts: DirCounts { is_offline: true, ..DirCounts::default() },
        });
        all.map(snapshot).chain(broken).collect()
    }

    /// Asks all coordinators; what they answer, and how many did not.
    async fn survey(&self) -> (Vec<cluster::group::SurveyedGroup>, usize) {
        let env = self.shared.env();
        let asked = self.shared.groups().submit_to_all(Event::Survey);
        let Some(pending) = env.timeout(COORDINATOR_PATIENCE, asked).await else {
            return (Vec::new(), self.shared.groups().count());
        };
        let answers = pending.into_iter().map(|pending| async move {
            env.timeout(COORDINATOR_PATIENCE, pending.answer())
                .await
                .unwrap_or(Err(ErrorCode::RequestTimedOut))
        });
        let mut groups = Vec::new();
        let mut silent = 0;
        for answer in together::all(answers.collect()).await {
            match answer {
                Ok(Response::Survey(more)) => groups.extend(more),
                _ => silent += 1,
            }
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        (groups, silent)
    }
}

fn of_listener(listener: &ListenerInfo) -> ListenerSnapshot {
    let tally = &listener.connections;
    // What has closed first: it is never more than what was opened.
    let closed = tally.closed.get();
    let opened = tally.opened.get();
    ListenerSnapshot {
        name: listener.name.clone(),
        open: opened - closed,
        opened,
        refused: tally.refused.get(),
        broken: tally.broken.get(),
    }
}

fn log_of<E: Env>(partition: &Partition<E>) -> Option<PartitionLog> {
    partition.check_serving().ok()?;
    let ends = partition.ends();
    Some(PartitionLog {
        log_start: ends.log_start,
        high_watermark: ends.high_watermark,
        log_end: ends.log_end,
        bytes: partition.log().bytes_total(),
        quarantined: partition.log().quarantined_offsets(),
    })
}

/// Sets offsets beside the ends. An offset committed for a predecessor of a topic counts for nothing (E58).
fn progress(
    surveyed: Vec<cluster::group::SurveyedGroup>,
    topics: &[TopicSnapshot],
) -> Vec<GroupSnapshot> {
    let by_name: BTreeMap<&TopicName, &TopicSnapshot> =
        topics.iter().map(|topic| (&topic.name, topic)).collect();
    let groups = surveyed.into_iter().map(|group| {
        let offsets = group.offsets.into_iter().filter_map(|of| {
            let topic = by_name.get(&of.topic)?;
            if of.topic_id.is_some_and(|id| id != topic.id) {
                return None;
            }
            let partition = topic.partitions.get(usize::try_from(of.partition.0).ok()?)?;
            let next = of.offset.0 + i64::from(planted(Mutant::LagOffByOne));
            let lag = partition
                .log
                .as_ref()
                .map(|log| u64::try_from(log.high_watermark.0 - next).unwrap_or(0));
            let (topic, partition, offset) = (of.topic, of.partition, of.offset);
            Some(GroupProgress { topic, partition, offset, lag, unread_since: None })
        });
        GroupSnapshot {
            id: group.group,
            state: group.state,
            members_count: group.members_count,
            offsets: offsets.collect(),
        }
    });
    groups.collect()
}
