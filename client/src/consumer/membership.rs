//! The membership of a consumer in a classic group: one task that joins, computes or receives an assignment, and keeps
//! the session alive while the program is busy with records.
//!
//! ```text
//!            +------------------------------ released ------------------------------+
//!            v                                                                       |
//! idle -> joining -> syncing -> stable (heartbeats) -> revoking (heartbeats go on) --+
//!            ^                     |
//!            +------- fenced ------+   Lost
//! ```
//!
//! The consumer and this task talk through two bounded channels. A revocation is a handshake: the task says
//! [`News::Revoke`], the consumer answers [`Command::Released`] when the program has come back for more records, and only
//! then does the member join again: until then it owns its partitions (I66, I67). When the session may have ended
//! without an answer from the coordinator, ownership ends here too ([`News::Lost`]): counted from when the last
//! successful heartbeat was *sent*, so never later than the coordinator's own clock decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Env, Spawn};
use tokio::sync::{mpsc, oneshot};
use types::{ErrorCode, GroupId, Instant, MemberId, TopicName, TopicPartition};

use super::ConsumerConfig;
use super::subscription::{
    Subscription, decode_assignment, decode_sticky, encode_assignment, encode_sticky,
};
use crate::assignor::{AssignorKind, AssignorMember, Members, assign};
use crate::cluster::{Client, Lane, Target};
use crate::error::ClientError;
use crate::offsets::{Committer, millis};

/// From the consumer.
#[derive(Debug)]
pub(super) enum Command {
    /// Be a member with this subscription; an empty one leaves the group.
    Subscribe(BTreeSet<TopicName>),
    /// The partitions of this generation are no longer used.
    Released(i32),
    /// Leave the group and end.
    Leave(oneshot::Sender<()>),
}

/// To the consumer.
#[derive(Debug)]
pub(super) enum News {
    /// These partitions are owned; offset commits are to be signed by `committer`.
    Assigned { committer: Committer, partitions: Vec<TopicPartition> },
    /// Answer with [`Command::Released`].
    Revoke { generation: i32 },
    /// Ownership has ended.
    Lost { generation: i32 },
    /// The membership cannot go on.
    Failed(ClientError),
}

/// News not yet taken; the task waits beyond it.
const NEWS_MAX: usize = 16;
const COMMANDS_MAX: usize = 16;

/// The consumer's end.
#[derive(Debug)]
pub(super) struct Membership {
    pub commands: mpsc::Sender<Command>,
    pub news: mpsc::Receiver<News>,
    /// When the program last asked for records, in the clock's nanoseconds.
    polled: Arc<AtomicU64>,
    /// Until when the session is sure to live, in the clock's nanoseconds.
    session_end: Arc<AtomicU64>,
}

impl Membership {
    pub fn start<E: Env>(
        client: &Client<E>,
        group: GroupId,
        config: &ConsumerConfig,
    ) -> Membership {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (outbox, news) = mpsc::channel(NEWS_MAX);
        let polled = Arc::new(AtomicU64::new(client.env().clock().now().as_nanos()));
        let session_end = Arc::new(AtomicU64::new(0));
        let member = Member {
            client: client.clone(),
            lane: client.new_lane(),
            target: Target::Group(group.clone()),
            group,
            config: config.clone(),
            outbox,
            polled: polled.clone(),
            session_end: session_end.clone(),
            topics: BTreeSet::new(),
            member_id: String::new(),
            last: None,
            leaving: None,
        };
        client.env().spawner().spawn("consumer-membership", member.run(inbox));
        Membership { commands, news, polled, session_end }
    }

    pub fn on_poll(&self, now: Instant) {
        self.polled.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Whether the session is sure to live: after a pause of the whole process this is known before the task has told.
    pub fn is_sure(&self, now: Instant) -> bool {
        now.as_nanos() < self.session_end.load(Ordering::Relaxed)
    }
}

/// What to do next.
enum Next {
    /// Join, or join again.
    Join,
    /// Wait until the program polls or subscribes.
    Idle,
    /// Tell whoever waits for it, and end.
    End,
}

type Inbox = mpsc::Receiver<Command>;

struct Member<E: Env> {
    client: Client<E>,
    lane: Lane,
    target: Target,
    group: GroupId,
    config: ConsumerConfig,
    outbox: mpsc::Sender<News>,
    polled: Arc<AtomicU64>,
    session_end: Arc<AtomicU64>,
    topics: BTreeSet<TopicName>,
    member_id: String,
    /// The last assignment, remembered for the sticky assignor after it was released.
    last: Option<(i32, Vec<TopicPartition>)>,
    leaving: Option<oneshot::Sender<()>>,
}

/// What joining came to.
struct Joined {
    generation: i32,
    partitions: Vec<TopicPartition>,
    /// When the request was sent whose answer proves the session.
    proven: Instant,
    /// Partition counts the assignment was computed from, if this member leads the group.
    counts: Option<BTreeMap<TopicName, usize>>,
}

/// What a heartbeat found.
enum Pulse {
    Fine,
    Rebalance,
    /// The coordinator no longer knows this member, or this generation.
    Fenced,
    /// As `Fenced`, and for good.
    Replaced(ClientError),
    /// No answer, or one that says nothing about the session.
    Unclear(ClientError),
}

impl<E: Env> Member<E> {
    async fn run(mut self, mut inbox: Inbox) {
        let mut next = Next::Idle;
        loop {
            next = match next {
                Next::Idle => self.idle(&mut inbox).await,
                Next::Join => match self.join_until_done(&mut inbox).await {
                    Ok(joined) => self.stable(joined, &mut inbox).await,
                    Err(next) => next,
                },
                Next::End => break,
            };
        }
        self.client.close_lane(self.lane);
        if let Some(done) = self.leaving.take() {
            let _ = done.send(());
        }
    }

    fn now(&self) -> Instant {
        self.client.env().clock().now()
    }

    /// When the program last asked for records.
    fn polled(&self) -> Instant {
        Instant(self.polled.load(Ordering::Relaxed))
    }

    /// Not a member: waits for a reason to become one.
    async fn idle(&mut self, inbox: &mut Inbox) -> Next {
        let idle_since = self.now();
        let clock = self.client.env().clock().clone();
        loop {
            if !self.topics.is_empty() && self.polled() >= idle_since {
                return Next::Join;
            }
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(Command::Subscribe(topics)) => {
                        self.topics = topics;
                        if !self.topics.is_empty() {
                            return Next::Join;
                        }
                    }
                    Some(Command::Released(_)) => {}
                    Some(Command::Leave(done)) => {
                        self.leaving = Some(done);
                        return Next::End;
                    }
                    None => return Next::End,
                },
                () = clock.sleep(self.config.heartbeat_interval) => {}
            }
        }
    }

    /// Joins until it worked, or until something else is to be done.
    async fn join_until_done(&mut self, inbox: &mut Inbox) -> Result<Joined, Next> {
        for tries in 0.. {
            let mut commands = Vec::new();
            let result = {
                let mut attempt = std::pin::pin!(self.join());
                loop {
                    tokio::select! {
                        biased;
                        command = inbox.recv() => match command {
                            Some(command) => {
                                let stop = !matches!(command, Command::Released(_));
                                commands.push(command);
                                if stop {
                                    break None;
                                }
                            }
                            None => return Err(Next::End),
                        },
                        result = &mut attempt => break Some(result),
                    }
                }
            };
            for command in commands {
                match command {
                    Command::Subscribe(topics) => self.topics = topics,
                    Command::Leave(done) => self.leaving = Some(done),
                    Command::Released(_) => {}
                }
            }
            if self.leaving.is_some() || self.topics.is_empty() {
                self.leave().await;
                return Err(if self.leaving.is_some() { Next::End } else { Next::Idle });
            }
            let error = match result {
                Some(Ok(joined)) => return Ok(joined),
                Some(Err(error)) => error,
                // Another subscription: the parked request would hold up the next one.
                None => {
                    self.client.close_lane(self.lane);
                    continue;
                }
            };
            tracing::debug!(group = %self.group, %error, "joining the group failed");
            self.client.learn_from(&self.target, &error);
            match error.error_code() {
                // The answer's member id was kept.
                Some(ErrorCode::MemberIdRequired) => continue,
                Some(ErrorCode::UnknownMemberId) => self.member_id.clear(),
                Some(ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress) => {}
                _ if error.is_retriable() => {}
                _ => {
                    self.topics.clear();
                    let _ = self.outbox.send(News::Failed(error)).await;
                    return Err(Next::Idle);
                }
            }
            let pause = self.client.backoff(tries);
            self.client.env().clock().sleep(pause).await;
        }
        Err(Next::Idle)
    }

    /// One round: JoinGroup, the assignment if this member leads, SyncGroup.
    async fn join(&mut self) -> Result<Joined, ClientError> {
        use wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
        let request = JoinGroupRequest {
            group_id: self.group.as_str().into(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.config.instance_id.as_deref().map(Into::into),
            protocol_type: "consumer".into(),
            protocols: self
                .config
                .assignors
                .iter()
                .map(|kind| JoinGroupRequestProtocol {
                    name: kind.name().into(),
                    metadata: self.subscription(*kind).encode(),
                })
                .collect(),
            ..JoinGroupRequest::default()
        };
        // The coordinator answers when all members have come or the rebalance time-out has passed.
        let timeout = self.config.rebalance_timeout + self.client.config().request_timeout;
        let answer = self.client.ask(&self.target, self.lane, &request, i16::MAX, timeout).await?;
        if !answer.member_id.is_empty() {
            self.member_id = answer.member_id.to_string();
        }
        ClientError::check(answer.error_code, None)?;
        let protocol = answer.protocol_name.map(|name| name.to_string()).unwrap_or_default();
        let leads = answer.leader == answer.member_id;
        let mut counts = None;
        let mut given = Vec::new();
        if leads {
            let members = answer
                .members
                .into_iter()
                .map(|member| {
                    let instance = member.group_instance_id.map(|id| id.to_string());
                    (MemberId::from(&*member.member_id), instance, member.metadata)
                })
                .collect();
            let (assignment, computed_from) = self.compute(&protocol, members).await?;
            counts = Some(computed_from);
            if !answer.skip_assignment {
                given = assignment;
            }
        }
        self.sync(answer.generation_id, &protocol, given, counts).await
    }

    async fn sync(
        &mut self,
        generation: i32,
        protocol: &str,
        given: Vec<(MemberId, Bytes)>,
        counts: Option<BTreeMap<TopicName, usize>>,
    ) -> Result<Joined, ClientError> {
        use wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
        let request = SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.config.instance_id.as_deref().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(protocol.into()),
            assignments: given
                .into_iter()
                .map(|(member, assignment)| SyncGroupRequestAssignment {
                    member_id: member.as_str().into(),
                    assignment,
                })
                .collect(),
        };
        let timeout = self.config.rebalance_timeout + self.client.config().request_timeout;
        let proven = self.now();
        let answer = self.client.ask(&self.target, self.lane, &request, i16::MAX, timeout).await?;
        ClientError::check(answer.error_code, None)?;
        let partitions = decode_assignment(answer.assignment).map_err(|error| {
            ClientError::BadAnswer { address: self.group.to_string(), reason: error.to_string() }
        })?;
        Ok(Joined { generation, partitions, proven, counts })
    }

    fn subscription(&self, kind: AssignorKind) -> Subscription {
        let user_data = match (&self.last, kind) {
            (Some((generation, partitions)), AssignorKind::Sticky) => {
                Some(encode_sticky(partitions, *generation))
            }
            _ => None,
        };
        Subscription {
            topics: self.topics.iter().map(ToString::to_string).collect(),
            user_data,
            owned: Vec::new(), // all was released before joining
        }
    }

    /// The assignment of all members, by the leader.
    async fn compute(
        &self,
        protocol: &str,
        members: Vec<(MemberId, Option<String>, Bytes)>,
    ) -> Result<(Vec<(MemberId, Bytes)>, BTreeMap<TopicName, usize>), ClientError> {
        let kind = AssignorKind::from_name(protocol).ok_or_else(|| {
            ClientError::Usage(format!("the group chose the assignor `{protocol}`, unknown here"))
        })?;
        let mut all = Members::new();
        for (id, instance_id, bytes) in members {
            // A member that cannot be understood gets nothing; it must not stop the others.
            let subscription = Subscription::decode(bytes).unwrap_or_default();
            let remembered = subscription.user_data.and_then(|data| decode_sticky(data).ok());
            let (owned, generation) = remembered.unwrap_or((subscription.owned, None));
            let topics = subscription.topics.into_iter().map(TopicName::from).collect();
            all.insert(id, AssignorMember { instance_id, topics, owned, generation });
        }
        let topics: BTreeSet<&TopicName> = all.values().flat_map(|member| &member.topics).collect();
        let topics: Vec<TopicName> = topics.into_iter().cloned().collect();
        let metadata = self
            .client
            .retrying_within(self.config.session_timeout, &Target::Any, || {
                self.client.refresh(Some(&topics))
            })
            .await?;
        let counts: BTreeMap<TopicName, usize> = topics
            .into_iter()
            .map(|topic| {
                let count = metadata.partitions_count(&topic).unwrap_or(0);
                (topic, count)
            })
            .collect();
        let assignment = assign(kind, &all, &counts);
        let encoded = assignment
            .into_iter()
            .map(|(member, partitions)| (member, encode_assignment(&partitions)))
            .collect();
        Ok((encoded, counts))
    }

    /// A member with an assignment: heartbeats until something ends it.
    async fn stable(&mut self, joined: Joined, inbox: &mut Inbox) -> Next {
        let Joined { generation, partitions, mut proven, counts } = joined;
        let committer = Committer {
            member_id: self.member_id.clone(),
            generation: Some(generation),
            instance_id: self.config.instance_id.clone(),
        };
        self.last = Some((generation, partitions.clone()));
        let first_end = proven + self.config.session_timeout;
        self.session_end.store(first_end.as_nanos(), Ordering::Relaxed);
        let _ = self.outbox.send(News::Assigned { committer, partitions }).await;
        let clock = self.client.env().clock().clone();
        let mut beat_at = self.now() + self.config.heartbeat_interval;
        let mut release_by: Option<Instant> = None;
        let mut failures = 0;
        let mut looked = self.now();
        loop {
            let session_end = proven + self.config.session_timeout;
            self.session_end.store(session_end.as_nanos(), Ordering::Relaxed);
            let poll_by = self.polled() + self.config.rebalance_timeout;
            let wake = beat_at.min(session_end).min(poll_by);
            let wake = release_by.map_or(wake, |by| by.min(wake));
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(Command::Subscribe(topics)) => {
                        self.topics = topics;
                        if self.topics.is_empty() {
                            self.leave().await;
                            return Next::Idle;
                        }
                        self.revoke(generation, &mut release_by).await;
                    }
                    Some(Command::Released(released)) => {
                        if released == generation {
                            return Next::Join;
                        }
                    }
                    Some(Command::Leave(done)) => {
                        self.leaving = Some(done);
                        self.leave().await;
                        return Next::End;
                    }
                    None => return Next::End,
                },
                () = clock.sleep_until(wake) => {}
            }
            let now = self.now();
            if now >= session_end || release_by.is_some_and(|by| now >= by) {
                return self.lose(generation).await;
            }
            if now >= self.polled() + self.config.rebalance_timeout {
                tracing::warn!(group = %self.group, "no poll within the allowed time: leaving the group");
                // In this order: once the coordinator has heard of it, others own the partitions (I67).
                self.lose(generation).await;
                self.leave().await;
                return Next::Idle;
            }
            if now < beat_at {
                continue;
            }
            self.watch_topics(counts.as_ref(), generation, &mut release_by, &mut looked).await;
            let sent = self.now();
            let pulse = self.heartbeat(generation, session_end).await;
            beat_at = self.now() + self.config.heartbeat_interval;
            match pulse {
                Pulse::Fine => {
                    proven = sent;
                    failures = 0;
                }
                Pulse::Rebalance => {
                    proven = sent;
                    failures = 0;
                    self.revoke(generation, &mut release_by).await;
                }
                Pulse::Fenced => return self.lose(generation).await,
                Pulse::Replaced(error) => {
                    self.lose(generation).await;
                    self.topics.clear();
                    let _ = self.outbox.send(News::Failed(error)).await;
                    return Next::Idle;
                }
                Pulse::Unclear(error) => {
                    tracing::debug!(group = %self.group, %error, "a heartbeat failed");
                    self.client.learn_from(&self.target, &error);
                    let pause = self.client.backoff(failures);
                    beat_at = self.now() + pause.min(self.config.heartbeat_interval);
                    failures += 1;
                }
            }
        }
    }

    /// Asks the program to let go of its partitions.
    async fn revoke(&mut self, generation: i32, release_by: &mut Option<Instant>) {
        if release_by.is_none() {
            *release_by = Some(self.now() + self.config.rebalance_timeout);
            let _ = self.outbox.send(News::Revoke { generation }).await;
        }
    }

    /// Ownership has ended without a release.
    async fn lose(&mut self, generation: i32) -> Next {
        self.last = None;
        // The program hands out nothing more even if the news has to wait for it.
        self.session_end.store(0, Ordering::Relaxed);
        let _ = self.outbox.send(News::Lost { generation }).await;
        Next::Join
    }

    /// The leader joins again when the topics have another number of partitions.
    async fn watch_topics(
        &mut self,
        counts: Option<&BTreeMap<TopicName, usize>>,
        generation: i32,
        release_by: &mut Option<Instant>,
        looked: &mut Instant,
    ) {
        let Some(counts) = counts else { return };
        let metadata = self.client.current();
        let changed = counts
            .iter()
            .any(|(topic, count)| metadata.partitions_count(topic).unwrap_or(*count) != *count);
        if changed {
            self.revoke(generation, release_by).await;
            return;
        }
        // A topic that is not there yet is looked for often.
        let is_complete = counts.values().all(|count| *count > 0);
        let config = self.client.config();
        let age_max = if is_complete { config.metadata_age_max } else { config.retry_backoff_max };
        let now = self.now();
        if now.saturating_since(*looked) >= age_max {
            *looked = now;
            let (client, topics) =
                (self.client.clone(), counts.keys().cloned().collect::<Vec<_>>());
            self.client.env().spawner().spawn("consumer-metadata", async move {
                let _ = client.refresh(Some(&topics)).await;
            });
        }
    }

    async fn heartbeat(&mut self, generation: i32, session_end: Instant) -> Pulse {
        use wire::heartbeat::HeartbeatRequest;
        let request = HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.config.instance_id.as_deref().map(Into::into),
        };
        // A stalled connection must leave time for another one before the session ends.
        let patience = (self.config.session_timeout / 3).max(self.config.heartbeat_interval);
        let left = session_end.saturating_since(self.now());
        let timeout = self.client.config().request_timeout.min(patience).min(left);
        let asking = self.client.ask(&self.target, self.lane, &request, i16::MAX, timeout);
        let result = match self.client.env().timeout(left, asking).await {
            Some(Ok(answer)) => ClientError::check(answer.error_code, None),
            Some(Err(error)) => Err(error),
            None => Err(ClientError::RequestTimedOut { address: self.group.to_string() }),
        };
        let Err(error) = result else { return Pulse::Fine };
        match error.error_code() {
            Some(ErrorCode::RebalanceInProgress) => Pulse::Rebalance,
            Some(ErrorCode::UnknownMemberId) => {
                self.member_id.clear();
                Pulse::Fenced
            }
            Some(ErrorCode::IllegalGeneration) => Pulse::Fenced,
            Some(ErrorCode::FencedInstanceId) => Pulse::Replaced(error),
            _ if error.is_retriable() => Pulse::Unclear(error),
            _ => Pulse::Replaced(error),
        }
    }

    /// Tells the coordinator that this member goes, if it is one. A static member keeps its place until its session
    /// ends, so that it can come back to it. One attempt: the session ends anyway.
    async fn leave(&mut self) {
        use wire::leave_group::{LeaveGroupRequest, MemberIdentity};
        // An answer to LeaveGroup would queue behind a parked join.
        self.client.close_lane(self.lane);
        let member_id = std::mem::take(&mut self.member_id);
        if member_id.is_empty() || self.config.instance_id.is_some() {
            return;
        }
        let leaving = async {
            let connection = self.client.connection(&self.target, self.lane).await?;
            let pinned = self.client.pinned::<LeaveGroupRequest>();
            let version = connection.version::<LeaveGroupRequest>(pinned, i16::MAX)?;
            let mut request = LeaveGroupRequest {
                group_id: self.group.as_str().into(),
                ..LeaveGroupRequest::default()
            };
            if version >= 3 {
                request.members = vec![MemberIdentity {
                    member_id: member_id.as_str().into(),
                    ..MemberIdentity::default()
                }];
            } else {
                request.member_id = member_id.as_str().into();
            }
            let timeout = self.client.config().request_timeout;
            connection.ask(self.client.env(), &request, version, timeout).await
        };
        let result = self.client.env().timeout(LEAVE_TIME, leaving).await;
        if !matches!(result, Some(Ok(_))) {
            tracing::debug!(group = %self.group, "the coordinator was not told that a member left");
        }
    }
}

/// How long telling the coordinator may hold up whoever leaves.
const LEAVE_TIME: Duration = Duration::from_secs(5);
