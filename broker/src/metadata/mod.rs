//! The metadata room: one task that owns this node's seat in the quorum, the controller while it leads, and what is applied.
//!
//! ```text
//!  a change --decide (leader)--> seat --append, sync--> committed --apply--> partitions --publish--> view, answer
//!  a peer's question --> seat --> answer, or wait for news
//!  an answer, a timer, a sync --> seat --> questions to peers
//! ```
//!
//! A change enters by a bounded message, is decided by `cluster::controller` on the newest state, and leaves as records
//! of `__cluster_metadata`. It commits as the quorum says ([`Seat`]; I39), is then applied to the image, and only when
//! the partitions that it needs are there is the new [`View`] published and the asker answered: who sees a topic in
//! metadata can use it, and who was told "deleted" finds it gone (I41). Nodes that do not lead apply what they fetch, and
//! tell who asks for a change that they do not decide.

mod addresses;
mod ballot;
mod discovery;
mod log;
mod messages;
mod peers;
mod producer_ids;
mod recovery;
mod room;
mod seat;
mod snapshot;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::controller::{
    Controller, Heartbeat, HeartbeatAnswer, Recovery, Refusal, RegisterBroker, Sessions,
};
use cluster::metadata::{Image, MetadataRecord};
use cluster::quorum::{Position, ReplicaKey, Reply, Request, Voters};
use env::{Clock, Disk, Env};
use record::Batch;
use tokio::sync::{mpsc, oneshot, watch};
use types::encoding::Str;
use types::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, ErrorCode, Instant, NodeId, Offset, QuorumEpoch,
    Timestamp,
};
use wire::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use wire::begin_quorum_epoch::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use wire::end_quorum_epoch::{EndQuorumEpochRequest, EndQuorumEpochResponse};
use wire::fetch::{FetchRequest, FetchResponse};
use wire::fetch_snapshot::{FetchSnapshotRequest, FetchSnapshotResponse};
use wire::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use wire::update_raft_voter::{CurrentLeader, UpdateRaftVoterRequest, UpdateRaftVoterResponse};
use wire::vote::{VoteRequest, VoteResponse};

pub(crate) use addresses::{Address, Addresses};
pub(crate) use log::DIRECTORY;
pub(crate) use producer_ids::ProducerIds;
pub(crate) use room::{MetadataRoom, Opening};
pub(crate) use seat::Seat;

use crate::shared::View;

/// Changes that may wait for the room.
const CHANGES_WAITING_MAX: usize = 256;
/// Questions of other nodes that may.
const QUESTIONS_WAITING_MAX: usize = 64;
/// More directories than any machine has.
const DIRECTORIES_MAX: usize = 64;

/// Writes down in `path`, the directory of a metadata log that is not there yet, who votes from its beginning.
pub(crate) async fn begin_with<E: Env>(env: &E, path: &Path, voters: &Voters) -> io::Result<()> {
    let entries = env.disk().list(path).await?;
    // What was written down before and nobody has begun with is written anew.
    let own = snapshot::path(path, Position::default());
    if !entries.iter().all(|entry| own.ends_with(&*entry.name)) {
        let text = "its metadata log has begun: who decides is written there";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let (end, nothing) = (Position::default(), Image::empty());
    let bytes = snapshot::encode(end, voters, &nothing, env.clock().timestamp());
    let bytes = bytes.map_err(|error| io::Error::other(error.to_string()))?;
    snapshot::store(env.disk(), path, end, 0, bytes).await
}

/// Door of the metadata room; cheap to clone.
pub struct Metadata<E: Env> {
    me: ReplicaKey,
    cluster: ClusterId,
    addresses: Arc<Addresses>,
    /// How long a fetch waits here for news at most.
    fetch_wait: Duration,
    /// Where snapshots lie.
    dir: Arc<Path>,
    changes: mpsc::Sender<Decide>,
    failures: mpsc::Sender<DirectoryFailed>,
    questions: mpsc::Sender<Question>,
    view: watch::Receiver<Arc<View<E>>>,
    quorum: watch::Receiver<Arc<QuorumInfo>>,
}

impl<E: Env> Clone for Metadata<E> {
    fn clone(&self) -> Metadata<E> {
        Metadata {
            me: self.me,
            cluster: self.cluster.clone(),
            addresses: self.addresses.clone(),
            fetch_wait: self.fetch_wait,
            dir: self.dir.clone(),
            changes: self.changes.clone(),
            failures: self.failures.clone(),
            questions: self.questions.clone(),
            view: self.view.clone(),
            quorum: self.quorum.clone(),
        }
    }
}

/// What decisions rest on, where they are made.
pub(crate) struct Active {
    /// The newest state, which may run ahead of what is committed.
    pub(crate) controller: Controller,
    /// The offset that the next record gets.
    pub(crate) next: Offset,
    /// Which brokers are heard of.
    pub(crate) sessions: Sessions,
    /// What they tell of logs of which none is known to hold everything.
    pub(crate) recovery: Recovery,
    /// Now.
    pub(crate) now: Instant,
}

/// Decides on the newest state; returns the records to commit and how to answer once they are. Where nobody can decide it
/// is told why, and gives neither.
type Decide = Box<
    dyn FnOnce(Result<&mut Active, MetadataUnavailable>) -> (Vec<MetadataRecord>, Answer) + Send,
>;
/// Answers the asker: `Ok` when the records are committed and published.
type Answer = Box<dyn FnOnce(Result<(), MetadataUnavailable>) + Send>;

/// A data directory that went offline: its place, and why.
type DirectoryFailed = (usize, ::log::Failure);

/// What another node, or an operator, asks of the quorum.
struct Question {
    request: Request,
    /// For a fetch: what its sender knows to be committed, and how long it would wait for more.
    known: Offset,
    wait: Duration,
    answer: oneshot::Sender<Given>,
}

/// What the quorum answers: with the batches that follow, and where the log begins.
struct Given {
    reply: Reply,
    batches: Vec<Batch>,
    log_start: Offset,
}

/// The change was not carried out, or nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataUnavailable {
    /// Another node decides, or nobody at present, or this one has stopped: nothing was done.
    NotController,
    /// The room has stopped, its log failed, or it does not lead any more: it may still come true.
    Unknown,
}

impl std::fmt::Display for MetadataUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MetadataUnavailable::NotController => "this node is not the active controller",
            MetadataUnavailable::Unknown => "the metadata log takes no changes",
        })
    }
}

impl std::error::Error for MetadataUnavailable {}

/// The metadata quorum as this node knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumInfo {
    /// The newest epoch.
    pub epoch: QuorumEpoch,
    /// Who leads it, if anybody is known to.
    pub leader: Option<NodeId>,
    /// Whether changes are decided here.
    pub is_active: bool,
    /// Who votes.
    pub voters: Voters,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// End of this node's log.
    pub end: Offset,
    /// End of what this node has applied and serves by.
    pub applied: Offset,
    /// Log directories of this node that have failed.
    pub failed_directories: Vec<DirectoryId>,
    /// Of a leader: who fetches from it.
    pub followers: Vec<FollowerInfo>,
}

/// How far a replica of the metadata log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerInfo {
    /// The replica.
    pub replica: ReplicaKey,
    /// The synced end of its log.
    pub end: Offset,
    /// When it fetched last.
    pub fetched: Timestamp,
    /// When it last had all there was.
    pub caught_up: Timestamp,
}

impl QuorumInfo {}

impl<E: Env> Metadata<E> {
    /// Runs `decide` on the newest state, commits the records it returns, and answers with its other result once they
    /// are durable, applied and published.
    pub async fn change<R, F>(&self, decide: F) -> Result<R, MetadataUnavailable>
    where
        R: Send + 'static,
        F: FnOnce(&Controller) -> (Vec<MetadataRecord>, R) + Send + 'static,
    {
        self.change_at(|active| decide(&active.controller)).await
    }

    /// As [`Metadata::change`], where it counts what is known of logs of which none may hold everything.
    pub(crate) async fn elect<R, F>(&self, decide: F) -> Result<R, MetadataUnavailable>
    where
        R: Send + 'static,
        F: FnOnce(&Controller, &Recovery) -> (Vec<MetadataRecord>, R) + Send + 'static,
    {
        self.change_at(|active| decide(&active.controller, &active.recovery)).await
    }

    async fn change_at<R, F>(&self, decide: F) -> Result<R, MetadataUnavailable>
    where
        R: Send + 'static,
        F: FnOnce(&mut Active) -> (Vec<MetadataRecord>, R) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let decide: Decide = Box::new(move |active| {
            // The asker may have left; the change stands all the same.
            let (records, result) = match active {
                Ok(active) => decide(active),
                Err(unavailable) => {
                    let _ = sender.send(Err(unavailable));
                    return (Vec::new(), Box::new(|_| {}));
                }
            };
            let answer: Answer = Box::new(move |outcome| {
                let _ = sender.send(outcome.map(|()| result));
            });
            (records, answer)
        });
        self.changes.send(decide).await.map_err(|_| MetadataUnavailable::NotController)?;
        receiver.await.map_err(|_| MetadataUnavailable::Unknown)?
    }

    /// A broker comes up.
    pub(crate) async fn register(
        &self,
        request: RegisterBroker,
    ) -> Result<Result<BrokerEpoch, Refusal>, MetadataUnavailable> {
        self.change_at(move |active| {
            let Active { controller, next, sessions, now, .. } = active;
            // The offset that the registration will have: larger than any before it (I43).
            sessions.register(*now, controller, &request, BrokerEpoch(next.0))
        })
        .await
    }

    /// A broker says that it is there.
    pub(crate) async fn heartbeat(
        &self,
        heartbeat: Heartbeat,
    ) -> Result<Result<HeartbeatAnswer, Refusal>, MetadataUnavailable> {
        self.change_at(move |active| {
            let Active { controller, next, sessions, recovery, now } = active;
            let (records, answer) =
                sessions.on_heartbeat(*now, controller, recovery, *next, &heartbeat);
            if let (Ok(_), Some(cordoned)) = (&answer, heartbeat.cordoned_directories) {
                controller.set_cordoned(heartbeat.id, cordoned);
            }
            (records, answer)
        })
        .await
    }

    /// The address of a broker refuses connections; whether that has fenced it.
    pub(crate) async fn refused(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<bool, MetadataUnavailable> {
        self.change_at(move |active| {
            let records = active.sessions.on_connection_refused(&active.controller, id, epoch);
            let is_fenced = !records.is_empty();
            (records, is_fenced)
        })
        .await
    }

    /// A data directory went offline.
    pub(crate) async fn on_directory_failed(&self, place: usize, failure: ::log::Failure) {
        // A room that has stopped serves nothing any more.
        let _ = self.failures.send((place, failure)).await;
    }

    /// The newest published picture.
    pub fn view(&self) -> Arc<View<E>> {
        self.view.borrow().clone()
    }

    /// Follows the published pictures.
    pub fn watch(&self) -> watch::Receiver<Arc<View<E>>> {
        self.view.clone()
    }

    /// The quorum as this node knows it.
    pub(crate) fn quorum(&self) -> Arc<QuorumInfo> {
        self.quorum.borrow().clone()
    }

    /// Follows that.
    pub(crate) fn watch_quorum(&self) -> watch::Receiver<Arc<QuorumInfo>> {
        self.quorum.clone()
    }

    /// This node and its metadata directory.
    pub(crate) fn replica(&self) -> ReplicaKey {
        self.me
    }

    /// Completes when the room has ended.
    pub(crate) async fn ended(&self) {
        self.questions.closed().await;
    }

    /// Vote.
    pub(crate) async fn vote(&self, request: VoteRequest) -> VoteResponse {
        let refused =
            |code: ErrorCode| VoteResponse { error_code: code.as_i16(), ..VoteResponse::default() };
        if let Err(code) = self.check_cluster(&request.cluster_id) {
            return refused(code);
        }
        let Some(asked) = messages::vote_asked(request, self.me.node) else {
            return refused(ErrorCode::InvalidRequest);
        };
        match self.ask(asked).await {
            Ok(given) => {
                let leader = self
                    .leader_at(&given.reply)
                    .map(|(node_id, host, port)| wire::vote::NodeEndpoint { node_id, host, port });
                let node_endpoints = leader.into_iter().collect();
                VoteResponse { node_endpoints, ..messages::vote_response(&given.reply) }
            }
            Err(code) => refused(code),
        }
    }

    /// BeginQuorumEpoch.
    pub(crate) async fn begin_epoch(
        &self,
        request: BeginQuorumEpochRequest,
    ) -> BeginQuorumEpochResponse {
        let refused = |code: ErrorCode| BeginQuorumEpochResponse {
            error_code: code.as_i16(),
            ..BeginQuorumEpochResponse::default()
        };
        if let Err(code) = self.check_cluster(&request.cluster_id) {
            return refused(code);
        }
        let told = request.leader_endpoints.first().cloned();
        let asked = match messages::begin_asked(request, self.me) {
            Ok(asked) => asked,
            Err(code) => return refused(code),
        };
        // Before it is followed: it is asked at once.
        if let (Some(at), Request::Begin(begin)) = (told, &asked)
            && begin.epoch >= self.quorum().epoch
        {
            self.addresses.hear(begin.leader, &at.host, at.port);
        }
        match self.ask(asked).await {
            Ok(given) => {
                let leader = self.leader_at(&given.reply).map(|(node_id, host, port)| {
                    wire::begin_quorum_epoch::NodeEndpoint { node_id, host, port }
                });
                let node_endpoints = leader.into_iter().collect();
                BeginQuorumEpochResponse {
                    node_endpoints,
                    ..messages::begin_response(&given.reply)
                }
            }
            Err(code) => refused(code),
        }
    }

    /// EndQuorumEpoch.
    pub(crate) async fn end_epoch(&self, request: EndQuorumEpochRequest) -> EndQuorumEpochResponse {
        let refused = |code: ErrorCode| EndQuorumEpochResponse {
            error_code: code.as_i16(),
            ..EndQuorumEpochResponse::default()
        };
        if let Err(code) = self.check_cluster(&request.cluster_id) {
            return refused(code);
        }
        let Some(asked) = messages::end_asked(request) else {
            return refused(ErrorCode::InvalidRequest);
        };
        match self.ask(asked).await {
            Ok(given) => {
                let leader = self.leader_at(&given.reply).map(|(node_id, host, port)| {
                    wire::end_quorum_epoch::NodeEndpoint { node_id, host, port }
                });
                let node_endpoints = leader.into_iter().collect();
                EndQuorumEpochResponse { node_endpoints, ..messages::end_response(&given.reply) }
            }
            Err(code) => refused(code),
        }
    }

    /// Fetch of the metadata log; waits for news as long as the request allows.
    pub(crate) async fn fetch<R: From<Vec<Batch>>>(
        &self,
        request: FetchRequest,
    ) -> FetchResponse<R> {
        let refused = |code: ErrorCode| FetchResponse {
            error_code: code.as_i16(),
            ..FetchResponse::default()
        };
        if let Err(code) = self.check_cluster(&request.cluster_id) {
            return refused(code);
        }
        let Some((fetch, known)) = messages::fetch_asked(&request) else {
            return refused(ErrorCode::InvalidRequest);
        };
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        match self.ask_for(Request::Fetch(fetch), known, wait.min(self.fetch_wait)).await {
            Ok(Given { reply, batches, log_start }) => {
                let records = (!batches.is_empty()).then(|| R::from(batches));
                let leader = self.leader_at(&reply).map(|(node_id, host, port)| {
                    wire::fetch::NodeEndpoint { node_id, host, port: port.into(), rack: None }
                });
                FetchResponse {
                    node_endpoints: leader.into_iter().collect(),
                    ..messages::fetch_response(&reply, log_start, records)
                }
            }
            Err(code) => refused(code),
        }
    }

    /// FetchSnapshot: a piece of a snapshot of this node's, if it leads.
    pub(crate) async fn fetch_snapshot(
        &self,
        disk: &E::Disk,
        request: FetchSnapshotRequest,
    ) -> FetchSnapshotResponse {
        let refused = |code: ErrorCode| FetchSnapshotResponse {
            error_code: code.as_i16(),
            ..FetchSnapshotResponse::default()
        };
        if let Err(code) = self.check_cluster(&request.cluster_id) {
            return refused(code);
        }
        let Some((fetch, end, position, bytes_max)) = messages::snapshot_asked(&request) else {
            return refused(ErrorCode::InvalidRequest);
        };
        let given = match self.ask(Request::Snapshot(fetch)).await {
            Ok(given) => given,
            Err(code) => return refused(code),
        };
        let bytes_max = bytes_max.min(snapshot::PIECE_BYTES);
        let piece = match snapshot::piece(disk, &self.dir, end, position, bytes_max).await {
            Ok((size, _)) if position > size => Err(ErrorCode::PositionOutOfRange),
            Ok(piece) => Ok(piece),
            // It asks the leader again, and is told of a newer one.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(ErrorCode::SnapshotNotFound)
            }
            Err(_) => Err(ErrorCode::KafkaStorageError),
        };
        messages::snapshot_response(&given.reply, end, position, piece)
    }

    /// The leader that an answer names, and where it is called.
    fn leader_at(&self, reply: &Reply) -> Option<(i32, Str, u16)> {
        let leader = reply.leader?;
        let (host, port) = self.address_of(leader)?;
        Some((leader.0, (&*host).into(), port))
    }

    /// Where a node of the quorum is called.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<Address> {
        self.addresses.of(node, &self.quorum().voters)
    }

    /// AddRaftVoter: completes when the change is committed.
    pub(crate) async fn add_voter(&self, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
        let changed =
            self.change_voters(&request.cluster_id, messages::voter_to_add(&request)).await;
        let (error_code, error_message) = told(changed);
        AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
    }

    /// RemoveRaftVoter: completes when the change is committed.
    pub(crate) async fn remove_voter(
        &self,
        request: RemoveRaftVoterRequest,
    ) -> RemoveRaftVoterResponse {
        let asked = messages::voter_to_remove(&request);
        let (error_code, error_message) =
            told(self.change_voters(&request.cluster_id, asked).await);
        RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
    }

    /// UpdateRaftVoter: completes when the change is committed.
    pub(crate) async fn update_voter(
        &self,
        request: UpdateRaftVoterRequest,
    ) -> UpdateRaftVoterResponse {
        let asked = messages::voter_to_update(&request);
        let (named, known) = (request.current_leader_epoch, self.quorum().epoch.0);
        let wrong = match named.cmp(&known) {
            std::cmp::Ordering::Less => Some(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => Some(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => None,
        };
        if let Some(code) = wrong {
            let error_code = code.as_i16();
            return UpdateRaftVoterResponse { error_code, ..UpdateRaftVoterResponse::default() };
        }
        let (error_code, _) = told(self.change_voters(&request.cluster_id, asked).await);
        let quorum = self.quorum();
        let address = quorum.leader.and_then(|leader| self.address_of(leader));
        let current_leader = CurrentLeader {
            leader_id: quorum.leader.map_or(-1, |node| node.0),
            leader_epoch: quorum.epoch.0,
            host: address.as_ref().map(|(host, _)| (&**host).into()).unwrap_or_default(),
            port: address.map_or(0, |(_, port)| port.into()),
        };
        UpdateRaftVoterResponse { error_code, current_leader, ..UpdateRaftVoterResponse::default() }
    }

    async fn change_voters(
        &self,
        cluster: &Option<Str>,
        asked: Option<Request>,
    ) -> Result<(), (ErrorCode, &'static str)> {
        self.check_cluster(cluster)
            .map_err(|code| (code, "the request names another cluster than this one"))?;
        let asked = asked.ok_or((
            ErrorCode::InvalidRequest,
            "a replica is named by its node, its directory, and where it listens",
        ))?;
        match self.ask(asked).await {
            Ok(given) => messages::change_answered(&given.reply),
            Err(code) => Err((code, "this node is stopping")),
        }
    }

    /// Whoever names no cluster means this one, as in Kafka.
    fn check_cluster(&self, named: &Option<Str>) -> Result<(), ErrorCode> {
        match named {
            Some(named) if named.as_str() != &*self.cluster.0 => {
                Err(ErrorCode::InconsistentClusterId)
            }
            _ => Ok(()),
        }
    }

    async fn ask(&self, request: Request) -> Result<Given, ErrorCode> {
        self.ask_for(request, Offset::ZERO, Duration::ZERO).await
    }

    async fn ask_for(
        &self,
        request: Request,
        known: Offset,
        wait: Duration,
    ) -> Result<Given, ErrorCode> {
        let (answer, given) = oneshot::channel();
        let question = Question { request, known, wait, answer };
        self.questions.send(question).await.map_err(|_| ErrorCode::BrokerNotAvailable)?;
        given.await.map_err(|_| ErrorCode::BrokerNotAvailable)
    }
}

/// Code and message of an answer.
fn told(outcome: Result<(), (ErrorCode, &'static str)>) -> (i16, Option<Str>) {
    match outcome {
        Ok(()) => (ErrorCode::None.as_i16(), None),
        Err((code, message)) => (code.as_i16(), Some(message.into())),
    }
}
