//! The consumer: records out of partitions, alone or as a member of a group.
//!
//! The handle owns positions and fetched batches and is driven by [`Consumer::poll`]; nothing is handed out between
//! polls. Requests run in small tasks that report back through one bounded channel, so that a poll never takes longer
//! than its caller allows. [`membership`] keeps the session in a task of its own; [`fetch`] turns answers into records;
//! [`subscription`] is what members tell each other.
//!
//! Rebalances are events, not callbacks. [`Event::Revoked`] comes out of one poll while the partitions are still owned;
//! the *next* poll gives them up. In between the program may finish its work and commit.
//!
//! The position of a partition is the offset of the next record to be handed out. It never passes a record that was
//! not handed out, except those that no reader may see (control batches, aborted transactions, compacted gaps) and by
//! an explicit [`Event::Reset`].

mod fetch;
mod membership;
mod nearest;
mod session;
mod subscription;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Env, Spawn};
use tokio::sync::{mpsc, oneshot};
use types::{
    BrokerId, ErrorCode, GroupId, Instant, LeaderEpoch, Offset, Timestamp, TopicName,
    TopicPartition,
};

use self::fetch::{Answer, Fetched};
use self::membership::{Command, Membership, News};
use self::nearest::Nearest;
use self::session::Session;
pub use self::subscription::{Subscription, decode_assignment, encode_assignment};
use crate::assignor::AssignorKind;
use crate::cluster::{Client, Lane, Target};
use crate::error::ClientError;
use crate::offsets::{self, Committer, GroupOffset, Isolation, OffsetSpec, PerPartition};

/// Where to go when there is no position, or it lies outside of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetPolicy {
    /// To the log start.
    Earliest,
    /// To the end.
    Latest,
    /// Nowhere: the poll fails.
    None,
}

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group whose offsets are used and, with [`Consumer::subscribe`], whose member this is.
    pub group: Option<GroupId>,
    /// The name of a static member.
    pub instance_id: Option<String>,
    /// Assignors this member can follow, best first.
    pub assignors: Vec<AssignorKind>,
    /// The coordinator expels a member it has not heard of for so long.
    pub session_timeout: Duration,
    /// How often the coordinator hears of this member.
    pub heartbeat_interval: Duration,
    /// How long the program may take between polls, and so how long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// How often positions are committed without being asked to.
    pub auto_commit: Option<Duration>,
    /// Where to go without a position.
    pub reset: ResetPolicy,
    /// The most that one fetch asks for.
    pub fetch_bytes_max: usize,
    /// The most that one fetch asks for of one partition.
    pub partition_bytes_max: usize,
    /// The broker waits until it has this much...
    pub fetch_bytes_min: usize,
    /// ... or for this long.
    pub fetch_wait_max: Duration,
    /// The most records that one poll returns.
    pub poll_records_max: usize,
    /// Which records are seen.
    pub isolation: Isolation,
    /// Whether checksums are verified.
    pub check_crc: bool,
    /// Where this consumer is (`client.rack`): a leader whose cluster wants it so sends it to a replica there.
    pub rack: Option<String>,
    /// Whether brokers are asked to remember what is fetched, so that fetches name only changes.
    pub fetch_sessions: bool,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            group: None,
            instance_id: None,
            assignors: vec![AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::Sticky],
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(300),
            auto_commit: None,
            reset: ResetPolicy::Latest,
            fetch_bytes_max: 50 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            fetch_bytes_min: 1,
            fetch_wait_max: Duration::from_millis(500),
            poll_records_max: 500,
            isolation: Isolation::ReadUncommitted,
            check_crc: true,
            rack: None,
            fetch_sessions: true,
        }
    }
}

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    /// The partition it lies in.
    pub partition: TopicPartition,
    /// Its position there.
    pub offset: Offset,
    /// The term it was appended in.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Its time, if it has one.
    pub timestamp: Option<Timestamp>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the producer's order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What happened besides records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// This member owns these partitions now.
    Assigned {
        /// The group's generation.
        generation: i32,
        /// All that it owns.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions are owned until the next poll begins: the last moment to commit.
    Revoked {
        /// The generation they were assigned in.
        generation: i32,
        /// All that it owned.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions are no longer owned: the member was expelled, or may have been.
    Lost {
        /// The generation they were assigned in.
        generation: i32,
        /// All that it owned.
        partitions: Vec<TopicPartition>,
    },
    /// A position was moved by the reset policy, or because the log was cut.
    Reset {
        /// The partition.
        partition: TopicPartition,
        /// The position before, if there was one.
        from: Option<Offset>,
        /// The position now.
        to: Offset,
    },
}

/// What one poll brought.
#[derive(Clone, Default, Debug)]
pub struct Polled {
    /// Records, in order within each partition.
    pub records: Vec<ConsumerRecord>,
    /// What happened; a poll with events has no records. Of what happened to the membership a poll tells one thing, and
    /// until the next poll the consumer ([`Consumer::member_id`], [`Consumer::assignment`]) is as it was then.
    pub events: Vec<Event>,
}

/// A position: the next offset, and the term of the record before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Position {
    offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
}

/// What a partition needs before it can be fetched from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The group's offset is to be looked up.
    NeedsGroupOffset,
    /// An offset is to be looked up in the log.
    NeedsOffset(OffsetSpec),
    /// The leader's term changed: the position is to be checked against the log.
    NeedsCheck,
    /// Ready.
    Ready,
}

#[derive(Debug)]
struct Assigned {
    state: State,
    position: Option<Position>,
    /// The leader's term for which the position is known to be sound.
    checked: Option<LeaderEpoch>,
    is_paused: bool,
    /// Distinguishes answers to questions asked before a seek from those asked after.
    turn: u64,
    /// A question about this partition is on its way.
    is_asked: bool,
    /// Nothing is asked before then.
    not_before: Instant,
    /// How often in a row a question about it was not answered, and why the last one was not.
    tries: u32,
    trouble: Option<ClientError>,
    /// The high watermark last seen.
    high_watermark: Option<Offset>,
    /// The replica to read from, if the leader has named one.
    nearest: Option<Nearest>,
}

impl Assigned {
    fn new(state: State, turn: u64, now: Instant) -> Assigned {
        Assigned {
            state,
            position: None,
            checked: None,
            is_paused: false,
            turn,
            is_asked: false,
            not_before: now,
            tries: 0,
            trouble: None,
            high_watermark: None,
            nearest: None,
        }
    }

    /// The position is known.
    fn found(&mut self, position: Position) {
        self.position = Some(position);
        self.state = State::Ready;
        self.tries = 0;
    }

    /// The leader's term is `epoch`: a position from an earlier term must be checked before it is used (KIP-320).
    fn expect_term(&mut self, epoch: Option<LeaderEpoch>) {
        let Some(epoch) = epoch else { return };
        if self.state != State::Ready || self.checked >= Some(epoch) {
            return;
        }
        match self.position {
            Some(Position { leader_epoch: Some(of), .. }) if of < epoch => {
                self.state = State::NeedsCheck;
            }
            _ => self.checked = Some(epoch),
        }
        // Another leader says itself who is near.
        self.nearest = None;
    }
}

/// Reports from the tasks that ask.
#[derive(Debug)]
enum Report {
    Answer(Answer),
    GroupOffsets(
        Vec<(TopicPartition, u64)>,
        Result<PerPartition<Option<GroupOffset>>, ClientError>,
    ),
    Offsets(
        BrokerId,
        BTreeMap<TopicPartition, (u64, OffsetSpec)>,
        Result<PerPartition<Option<offsets::FoundOffset>>, ClientError>,
    ),
    Checks(
        BrokerId,
        BTreeMap<TopicPartition, (u64, LeaderEpoch)>,
        Result<PerPartition<Option<(LeaderEpoch, Offset)>>, ClientError>,
    ),
    Metadata,
}

/// Longest name of a topic, in bytes: Kafka's.
const TOPIC_NAME_MAX: usize = 249;

/// Reports not yet looked at; their tasks wait beyond it.
const REPORTS_MAX: usize = 64;

/// A consumer. Dropping it is like a crash: its group notices when the session ends.
pub struct Consumer<E: Env> {
    client: Client<E>,
    config: ConsumerConfig,
    lane: Lane,
    group_lane: Lane,
    membership: Option<Membership>,
    /// Signs offset commits: as the member of the generation that owns the present partitions.
    committer: Committer,
    is_subscribed: bool,
    /// A revocation was told; the next poll completes it.
    releasing: Option<i32>,
    partitions: BTreeMap<TopicPartition, Assigned>,
    fetched: VecDeque<Fetched>,
    /// Brokers with a fetch on its way.
    fetching: BTreeSet<BrokerId>,
    sessions: BTreeMap<BrokerId, Session>,
    turn_next: u64,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    asking_metadata: bool,
    metadata_after: Instant,
    events: Vec<Event>,
    auto_commit_at: Instant,
    committing: Option<oneshot::Receiver<Result<(), ClientError>>>,
}

impl<E: Env> fmt::Debug for Consumer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl<E: Env> Drop for Consumer<E> {
    fn drop(&mut self) {
        self.client.close_lane(self.lane);
        self.client.close_lane(self.group_lane);
    }
}

impl<E: Env> Consumer<E> {
    /// A consumer without partitions.
    pub fn new(client: &Client<E>, config: ConsumerConfig) -> Result<Consumer<E>, ClientError> {
        if config.assignors.is_empty() {
            return Err(ClientError::Usage("a consumer needs an assignor".into()));
        }
        if config.auto_commit.is_some() && config.group.is_none() {
            return Err(ClientError::Usage("only a consumer with a group can commit".into()));
        }
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        let now = client.env().clock().now();
        Ok(Consumer {
            lane: client.new_lane(),
            group_lane: client.new_lane(),
            client: client.clone(),
            auto_commit_at: config.auto_commit.map_or(now, |every| now + every),
            config,
            membership: None,
            committer: Committer::default(),
            is_subscribed: false,
            releasing: None,
            partitions: BTreeMap::new(),
            fetched: VecDeque::new(),
            fetching: BTreeSet::new(),
            sessions: BTreeMap::new(),
            turn_next: 0,
            reports,
            reporter,
            asking_metadata: false,
            metadata_after: now,
            events: Vec::new(),
            committing: None,
        })
    }

    /// Reads these partitions from now on, without a group's help; positions of those kept are kept.
    pub fn assign(&mut self, partitions: Vec<TopicPartition>) -> Result<(), ClientError> {
        if self.is_subscribed {
            return Err(ClientError::Usage(
                "a subscribed consumer gets partitions from its group".into(),
            ));
        }
        self.set_partitions(partitions);
        Ok(())
    }

    /// Becomes a member of the group, reading its share of these topics; an empty list leaves the group.
    pub async fn subscribe(&mut self, topics: Vec<TopicName>) -> Result<(), ClientError> {
        let Some(group) = self.config.group.clone() else {
            return Err(ClientError::Usage("to subscribe, a consumer needs a group".into()));
        };
        if !self.is_subscribed && !self.partitions.is_empty() {
            return Err(ClientError::Usage("a consumer either assigns or subscribes".into()));
        }
        if topics.iter().any(|topic| topic.as_str().len() > TOPIC_NAME_MAX) {
            return Err(ClientError::code(ErrorCode::InvalidTopicException));
        }
        let topics: BTreeSet<TopicName> = topics.into_iter().collect();
        self.is_subscribed = !topics.is_empty();
        if topics.is_empty() {
            self.set_partitions(Vec::new());
            self.releasing = None;
            self.committer = Committer::default();
        }
        let config = &self.config;
        let client = &self.client;
        let membership =
            self.membership.get_or_insert_with(|| Membership::start(client, group, config));
        let command = Command::Subscribe(topics);
        membership.commands.send(command).await.map_err(|_| ClientError::Closed)
    }

    /// The partitions read now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// The member's id, once the group has given one.
    pub fn member_id(&self) -> Option<&str> {
        Some(self.committer.member_id.as_str()).filter(|id| !id.is_empty())
    }

    /// The generation in which the present partitions were assigned.
    pub fn generation(&self) -> Option<i32> {
        self.committer.generation
    }

    /// Goes on from `offset`.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        let position = Position { offset, leader_epoch: None };
        self.move_to(partition, State::Ready, Some(position))
    }

    /// Goes on from the log start.
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.move_to(partition, State::NeedsOffset(OffsetSpec::Earliest), None)
    }

    /// Goes on from the end as it will be when the next poll asks for it.
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.move_to(partition, State::NeedsOffset(OffsetSpec::Latest), None)
    }

    /// Goes on from the first record with this timestamp or a later one; from the end if there is none.
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<(), ClientError> {
        self.move_to(partition, State::NeedsOffset(OffsetSpec::Timestamp(timestamp)), None)
    }

    /// The offset of the next record to be handed out, once it is known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let assigned = self.partitions.get(partition)?;
        match assigned.state {
            State::Ready | State::NeedsCheck => assigned.position.map(|position| position.offset),
            _ => None,
        }
    }

    /// Why the last question about this partition was not answered. It is asked again; `None` once one was.
    pub fn trouble(&self, partition: &TopicPartition) -> Option<&ClientError> {
        let assigned = self.partitions.get(partition)?;
        assigned.trouble.as_ref().filter(|_| assigned.tries > 0)
    }

    /// The high watermark as the last fetch told it.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.high_watermark
    }

    /// The replica nearby from which this partition is read, if the leader has named one.
    pub fn nearest(&self, partition: &TopicPartition) -> Option<BrokerId> {
        Some(self.partitions.get(partition)?.nearest?.broker)
    }

    /// Hands out nothing more of these partitions until [`Consumer::resume`].
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, true);
    }

    /// Goes on where [`Consumer::pause`] stopped.
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, false);
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], is_paused: bool) {
        for partition in partitions {
            if let Some(assigned) = self.partitions.get_mut(partition) {
                assigned.is_paused = is_paused;
            }
        }
    }

    fn move_to(
        &mut self,
        partition: &TopicPartition,
        state: State,
        position: Option<Position>,
    ) -> Result<(), ClientError> {
        let turn = self.next_turn();
        let now = self.now();
        let Some(assigned) = self.partitions.get_mut(partition) else {
            return Err(ClientError::Usage(format!("{partition} is not assigned")));
        };
        assigned.state = state;
        assigned.position = position;
        assigned.checked = None;
        assigned.turn = turn;
        assigned.is_asked = false;
        assigned.not_before = now;
        assigned.high_watermark = None;
        self.fetched.retain(|fetched| fetched.partition != *partition);
        Ok(())
    }

    fn next_turn(&mut self) -> u64 {
        self.turn_next += 1;
        self.turn_next
    }

    fn now(&self) -> Instant {
        self.client.env().clock().now()
    }

    fn set_partitions(&mut self, partitions: Vec<TopicPartition>) {
        let now = self.now();
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        self.partitions.retain(|partition, _| wanted.contains(partition));
        self.fetched.retain(|fetched| wanted.contains(&fetched.partition));
        let state = match (&self.config.group, self.config.reset) {
            (Some(_), _) => State::NeedsGroupOffset,
            (None, ResetPolicy::Earliest) => State::NeedsOffset(OffsetSpec::Earliest),
            (None, _) => State::NeedsOffset(OffsetSpec::Latest),
        };
        for partition in wanted {
            let turn = self.next_turn();
            self.partitions.entry(partition).or_insert_with(|| Assigned::new(state, turn, now));
        }
    }

    /// Waits up to `timeout` for records or events. An error concerns this poll; the next one goes on where it can.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Polled, ClientError> {
        let deadline = self.now() + timeout;
        self.begin_poll().await?;
        loop {
            self.take_news().await?;
            while let Ok(report) = self.reports.try_recv() {
                self.on_report(report)?;
            }
            if !self.events.is_empty() {
                return Ok(Polled {
                    records: Vec::new(),
                    events: std::mem::take(&mut self.events),
                });
            }
            let now = self.now();
            let owns =
                !self.is_subscribed || self.membership.as_ref().is_some_and(|m| m.is_sure(now));
            let records = if owns { self.take_records()? } else { Vec::new() };
            let wake = self.ask_for_more(now).min(deadline);
            if !records.is_empty() || now >= deadline {
                return Ok(Polled { records, events: Vec::new() });
            }
            self.wait(wake).await?;
        }
    }

    /// Completes a revocation, tells the membership that the program is alive, commits if it is time.
    async fn begin_poll(&mut self) -> Result<(), ClientError> {
        let now = self.now();
        if let Some(membership) = &self.membership {
            membership.on_poll(now);
        }
        if let Some(generation) = self.releasing.take() {
            self.set_partitions(Vec::new());
            if let Some(membership) = &self.membership {
                let released = Command::Released(generation);
                membership.commands.send(released).await.map_err(|_| ClientError::Closed)?;
            }
        }
        if let Some(every) = self.config.auto_commit
            && now >= self.auto_commit_at
        {
            self.auto_commit_at = now + every;
            self.commit_in_background();
        }
        Ok(())
    }

    /// One piece of news at a time: what is told must still be true of this consumer when the program hears it.
    async fn take_news(&mut self) -> Result<(), ClientError> {
        while self.events.is_empty()
            && let Some(news) = self.membership.as_mut().and_then(|m| m.news.try_recv().ok())
        {
            self.on_news(news).await?;
        }
        Ok(())
    }

    async fn on_news(&mut self, news: News) -> Result<(), ClientError> {
        match news {
            News::Assigned { committer, partitions } => {
                let generation = committer.generation.unwrap_or(-1);
                self.committer = committer;
                self.set_partitions(Vec::new());
                self.set_partitions(partitions);
                let partitions = self.assignment();
                self.events.push(Event::Assigned { generation, partitions });
            }
            News::Revoke { generation } => {
                if self.config.auto_commit.is_some()
                    && let Err(error) = self.commit().await
                {
                    tracing::warn!(%error, "committing before a rebalance failed");
                }
                self.releasing = Some(generation);
                let partitions = self.assignment();
                self.events.push(Event::Revoked { generation, partitions });
            }
            News::Lost { generation } => {
                let partitions = self.assignment();
                self.set_partitions(Vec::new());
                self.releasing = None;
                self.committer = Committer::default();
                self.events.push(Event::Lost { generation, partitions });
            }
            News::Failed(error) => {
                self.is_subscribed = false;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for news, a report, or `wake`.
    async fn wait(&mut self, wake: Instant) -> Result<(), ClientError> {
        let clock = self.client.env().clock().clone();
        let news = async {
            match &mut self.membership {
                Some(membership) => membership.news.recv().await,
                None => std::future::pending().await,
            }
        };
        let (news, report) = tokio::select! {
            biased;
            news = news => (news, None),
            report = self.reports.recv() => (None, report),
            () = clock.sleep_until(wake) => (None, None),
        };
        if let Some(news) = news {
            self.on_news(news).await?;
        }
        if let Some(report) = report {
            self.on_report(report)?;
        }
        Ok(())
    }

    /// Stores the positions of what was handed out, and waits until they are stored.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.positions();
        self.commit_offsets(offsets).await
    }

    /// Stores these positions.
    pub async fn commit_offsets(
        &mut self,
        offsets: BTreeMap<TopicPartition, GroupOffset>,
    ) -> Result<(), ClientError> {
        // One commit at a time: a slow earlier one must not overwrite a later one.
        if let Some(earlier) = self.committing.take() {
            let _ = earlier.await;
        }
        let Some(group) = self.config.group.clone() else {
            return Err(ClientError::Usage("only a consumer with a group can commit".into()));
        };
        if self.is_subscribed && self.committer.generation.is_none() {
            // Unsigned, it would count as coming from outside, and be accepted once the group is empty.
            return Err(ClientError::code(ErrorCode::UnknownMemberId));
        }
        commit(self.client.clone(), group, self.group_lane, self.committer.clone(), offsets).await
    }

    fn commit_in_background(&mut self) {
        if let Some(earlier) = &mut self.committing {
            match earlier.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return, // still on its way
                Ok(Err(error)) => tracing::warn!(%error, "an automatic commit failed"),
                _ => {}
            }
        }
        let offsets = self.positions();
        let Some(group) = self.config.group.clone() else { return };
        if offsets.is_empty() {
            return;
        }
        let (done, committing) = oneshot::channel();
        self.committing = Some(committing);
        let (client, lane, committer) =
            (self.client.clone(), self.group_lane, self.committer.clone());
        self.client.env().spawner().spawn("consumer-commit", async move {
            let _ = done.send(commit(client, group, lane, committer, offsets).await);
        });
    }

    /// The positions of all partitions that have one.
    fn positions(&self) -> BTreeMap<TopicPartition, GroupOffset> {
        self.partitions
            .iter()
            .filter(|(_, assigned)| matches!(assigned.state, State::Ready | State::NeedsCheck))
            .filter_map(|(partition, assigned)| {
                let position = assigned.position?;
                let offset = GroupOffset {
                    offset: position.offset,
                    leader_epoch: position.leader_epoch,
                    metadata: String::new(),
                };
                Some((partition.clone(), offset))
            })
            .collect()
    }

    /// The group's stored positions.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<GroupOffset>>, ClientError> {
        let Some(group) = &self.config.group else {
            return Err(ClientError::Usage(
                "only a consumer with a group has stored positions".into(),
            ));
        };
        let target = Target::Group(group.clone());
        self.client
            .retrying(&target, || async {
                let stable = self.config.isolation == Isolation::ReadCommitted;
                let found = offsets::fetch_group(
                    &self.client,
                    group,
                    self.group_lane,
                    Some(partitions),
                    stable,
                )
                .await?;
                found.into_iter().map(|(partition, result)| Ok((partition, result?))).collect()
            })
            .await
    }

    /// Commits if that is automatic, leaves the group, ends.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let mut result = Ok(());
        if self.config.auto_commit.is_some() && !self.positions().is_empty() {
            result = self.commit().await;
        }
        if let Some(membership) = self.membership.take() {
            let (done, left) = oneshot::channel();
            if membership.commands.send(Command::Leave(done)).await.is_ok() {
                let _ = left.await;
            }
        }
        result
    }
}

/// Stores positions, with retries.
async fn commit<E: Env>(
    client: Client<E>,
    group: GroupId,
    lane: Lane,
    committer: Committer,
    offsets: BTreeMap<TopicPartition, GroupOffset>,
) -> Result<(), ClientError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let target = Target::Group(group.clone());
    let (client, group, committer, offsets) = (&client, &group, &committer, &offsets);
    client
        .retrying(&target, || async move {
            let results = offsets::commit_group(client, group, lane, committer, offsets).await?;
            for partition in offsets.keys() {
                match results.get(partition) {
                    Some(result) => result.clone()?,
                    None => return Err(ClientError::code(ErrorCode::UnknownTopicOrPartition)),
                }
            }
            Ok(())
        })
        .await
}
