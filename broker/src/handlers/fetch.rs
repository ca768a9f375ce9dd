//! Fetch (key 1): reads partitions up to the watermark; if there is too little, one waiter with a deadline.
//!
//! ```text
//!  session -> what is wanted -> one pass of reads -> enough? -> response, file ranges as they are
//!                                     ^                | no
//!                                     '---- woken by a watermark, or the deadline
//! ```
//!
//! The reads of one pass share a byte budget; the first batch of the first partition that has one is returned whole,
//! however large, so that a consumer always gets on. Nothing is copied and nothing is handed to another task: the
//! connection's own task waits, reads and sends.
//!
//! A consumer that says where it is may be sent to a replica nearby, and from [`NEARBY_VERSION_MIN`] on be served by one that
//! follows (KIP-392); everybody else reads from leaders.

use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Env, Rng};
use log::Slice;
use types::mutant::{Mutant, planted};
use types::{
    BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, PartitionIndex, Str, TopicId, Uuid,
};
use wire::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};

use super::{Records, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::fetch_session::{PlanKind, SESSION_NONE, SessionRequest, Told, TopicKey, Wanted};
use crate::partition::{Ends, FileOf, Isolation, Partition, Place, Read, Signal, Source};
use crate::replication::Awaited;
use crate::shared::{Shared, TopicView, View};

/// From here on sessions exist.
const SESSION_VERSION_MIN: i16 = 7;
/// From here on consumers may read from replicas that follow.
const NEARBY_VERSION_MIN: i16 = 11;
/// From here on topics are named by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// From here on who asks is told in a structure of its own.
const REPLICA_STATE_VERSION_MIN: i16 = 15;
/// `isolation_level` of the wire.
const READ_COMMITTED: i8 = 1;

/// The answer, with the carrier of this world's records.
pub(crate) type Answer<E> = FetchResponse<Records<FileOf<E>>>;

/// Fetch.
pub(crate) async fn fetch<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: FetchRequest,
) -> Reply<Answer<E>> {
    let now = ctx.received;
    let limits = Limits::of(&request, broker.settings().fetch_bytes_max);
    let reader = Reader::of(ctx.api_version, &request);
    let session = session_request(ctx.api_version, request);
    let plan = match broker.sessions().begin(session, now) {
        Ok(plan) => plan,
        Err(code) => {
            let error_code = code.as_i16();
            return Reply::Now(FetchResponse { error_code, ..FetchResponse::default() });
        }
    };
    let deadline = now + limits.wait_max;
    let fetching = Fetching {
        ctx: ctx.clone(),
        broker: broker.clone(),
        limits,
        reader,
        kind: plan.kind,
        wanted: plan.wanted,
    };
    fetching.start(deadline).await
}

/// What bounds one fetch.
struct Limits {
    bytes_max: usize,
    bytes_min: usize,
    wait_max: Duration,
    isolation: Isolation,
}

impl Limits {
    fn of(request: &FetchRequest, bytes_most: usize) -> Limits {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(bytes_most);
        Limits {
            bytes_max,
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            isolation: match request.isolation_level {
                READ_COMMITTED => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
        }
    }
}

/// From which replicas it may be served.
struct Reader {
    /// Those that follow, too.
    reads_followers: bool,
    /// Where it is, if it says so.
    rack: Option<Str>,
}

impl Reader {
    fn of(version: i16, request: &FetchRequest) -> Reader {
        let id = if version >= REPLICA_STATE_VERSION_MIN {
            request.replica_state.replica_id
        } else {
            request.replica_id
        };
        let reads_followers = version >= NEARBY_VERSION_MIN && id < 0;
        let rack = Some(request.rack_id.clone());
        Reader { reads_followers, rack: rack.filter(|rack| reads_followers && !rack.is_empty()) }
    }
}

/// One fetch on its way.
struct Fetching<E: Env> {
    ctx: RequestContext,
    broker: Shared<E>,
    limits: Limits,
    reader: Reader,
    kind: PlanKind,
    wanted: Vec<Wanted>,
}

/// What reading every wanted partition once gave, in their order.
struct Pass<E: Env> {
    outcomes: Vec<Outcome<E>>,
    bytes: usize,
    /// Something must be told at once.
    is_urgent: bool,
}

/// What one partition gave.
struct Outcome<E: Env> {
    code: ErrorCode,
    /// Where it was read, and how far.
    read: Option<(Source<E>, Ends)>,
    slice: Slice<FileOf<E>>,
    /// The client's last batch is not in this log: where its term ended here.
    diverging: Option<(LeaderEpoch, Offset)>,
    /// Whom the client is to read from instead.
    nearest: Option<BrokerId>,
}

impl<E: Env> Fetching<E> {
    async fn start(mut self, deadline: Instant) -> Reply<Answer<E>> {
        let pass = self.pass().await;
        if self.is_enough(&pass) || self.broker.env().clock().now() >= deadline {
            return Reply::Now(self.answer(pass));
        }
        Reply::later(self.answer_when_enough(pass, deadline))
    }

    fn is_enough(&self, pass: &Pass<E>) -> bool {
        pass.is_urgent || pass.bytes >= self.limits.bytes_min || self.wanted.is_empty()
    }

    async fn answer_when_enough(mut self, mut pass: Pass<E>, deadline: Instant) -> Answer<E> {
        let clock = self.broker.env().clock().clone();
        let mut late = std::pin::pin!(clock.sleep_until(deadline));
        let signal = Signal::default();
        loop {
            if let Some(_waiting) = self.wait(&pass, &signal) {
                tokio::select! {
                    biased;
                    () = signal.woken() => {}
                    () = late.as_mut() => return self.answer(pass),
                }
            }
            pass = self.pass().await;
            if self.is_enough(&pass) {
                return self.answer(pass);
            }
        }
    }

    /// Waits at every partition for more than `pass` saw. `None`: one has it already.
    fn wait(&self, pass: &Pass<E>, signal: &Signal) -> Option<Vec<Place<E>>> {
        let mut waiting = Vec::with_capacity(pass.outcomes.len());
        for outcome in &pass.outcomes {
            let Some((source, ends)) = &outcome.read else { continue };
            let awaited = Awaited {
                end: ends.visible(self.limits.isolation).next(),
                term: ends.leader_epoch,
                is_told: outcome.code != ErrorCode::OffsetNotAvailable,
            };
            waiting.push(source.wait(awaited, signal)?);
        }
        Some(waiting)
    }

    async fn pass(&mut self) -> Pass<E> {
        let view = self.broker.view();
        let mut pass =
            Pass { outcomes: Vec::with_capacity(self.wanted.len()), bytes: 0, is_urgent: false };
        for position in 0..self.wanted.len() {
            let left = self.limits.bytes_max.saturating_sub(pass.bytes);
            let outcome = match self.read(&view, position, left, pass.bytes == 0).await {
                Ok(outcome) => outcome,
                Err(code) => Outcome::failed(code),
            };
            pass.bytes += outcome.slice.bytes;
            pass.is_urgent |= outcome.is_urgent();
            pass.outcomes.push(outcome);
        }
        pass
    }

    async fn read(
        &mut self,
        view: &View<E>,
        position: usize,
        left: usize,
        at_least_one: bool,
    ) -> Result<Outcome<E>, ErrorCode> {
        let wanted = &mut self.wanted[position];
        let topic = resolve(view, wanted)?;
        authorize(&self.ctx, Operation::Read, Resource::Topic(topic.name.as_str()))
            .map_err(|denied| denied.code)?;
        let index = wanted.index;
        let source = self.source(topic, index)?;
        let outcome = self.read_from(view, &source, position, left, at_least_one).await;
        if outcome.is_err() {
            source.traffic().fetches_failed.add(1);
            source.traffic().fetches.add(1);
        }
        outcome
    }

    /// The leader, or a replica that follows if the client may read from it.
    fn source(&self, topic: &TopicView<E>, index: PartitionIndex) -> Result<Source<E>, ErrorCode> {
        match topic.serving(index) {
            Ok(leader) => Ok(Source::Leader(leader.clone())),
            Err(ErrorCode::NotLeaderOrFollower) if self.reader.reads_followers => {
                let follower = topic.following(index).cloned();
                follower.map(Source::Follower).ok_or(ErrorCode::NotLeaderOrFollower)
            }
            Err(code) => Err(code),
        }
    }

    /// Whom the client is sent to: nobody if the leader is as near as any.
    fn nearest(&self, view: &View<E>, leader: &Partition<E>, offset: Offset) -> Option<BrokerId> {
        let rack = self.reader.rack.as_ref().filter(|_| view.settings.sends_readers_nearby)?;
        let is_near = |id: BrokerId| {
            view.image.broker(id).is_some_and(|known| {
                let listener = self.ctx.listener.name.as_str();
                let mut listeners = known.listeners.iter();
                known.rack.as_ref() == Some(rack) && listeners.any(|it| &*it.name == listener)
            })
        };
        let is_own = is_near(self.broker.broker_id());
        if is_own { None } else { leader.nearest(offset, is_near) }
    }

    async fn read_from(
        &self,
        view: &View<E>,
        source: &Source<E>,
        position: usize,
        left: usize,
        at_least_one: bool,
    ) -> Result<Outcome<E>, ErrorCode> {
        let wanted = &self.wanted[position];
        check_leader_epoch(source.term(), wanted.leader_epoch)?;
        match source.check_telling(view.settings.broker_session_timeout) {
            // Soon there will be more to say.
            Err(ErrorCode::OffsetNotAvailable) => {
                let read = Some((source.clone(), source.ends()));
                return Ok(Outcome { read, ..Outcome::failed(ErrorCode::OffsetNotAvailable) });
            }
            told => told?,
        }
        if let Some(epoch) = wanted.fetched_epoch
            && let Some(diverging) = diverging(source, epoch, Offset(wanted.fetch_offset))?
        {
            return Ok(Outcome { diverging: Some(diverging), ..Outcome::failed(ErrorCode::None) });
        }
        let from = Offset(wanted.fetch_offset);
        if let Source::Leader(leader) = source
            && let Some(nearest) = self.nearest(view, leader, from)
        {
            let read = Some((source.clone(), source.ends()));
            return Ok(Outcome {
                read,
                nearest: Some(nearest),
                ..Outcome::failed(ErrorCode::None)
            });
        }
        let read = Read {
            from,
            bytes_max: usize::try_from(wanted.bytes_max).unwrap_or(0).min(left),
            at_least_one,
            isolation: self.limits.isolation,
        };
        match source.read(read).await {
            Ok((slice, ends)) => {
                let read = Some((source.clone(), ends));
                Ok(Outcome { read, slice, ..Outcome::failed(ErrorCode::None) })
            }
            Err(failed) => Err(failed.code),
        }
    }

    /// The response; the session goes back to its room or into it.
    fn answer(mut self, pass: Pass<E>) -> Answer<E> {
        let isolation = self.limits.isolation;
        let is_incremental = matches!(self.kind, PlanKind::Incremental { .. });
        let mut responses: Vec<FetchableTopicResponse<Records<FileOf<E>>>> = Vec::new();
        let mut quiet = Vec::new();
        let mut served = Vec::new();
        for (mut wanted, outcome) in self.wanted.drain(..).zip(pass.outcomes) {
            let told = outcome.told().map(|ends| Told {
                high_watermark: ends.high_watermark.0,
                log_start: ends.log_start.0,
            });
            let is_sent_away = outcome.nearest.is_some();
            let has_news = told.is_none() || told != wanted.told;
            let is_news = outcome.slice.bytes > 0 || has_news || is_sent_away;
            wanted.told = told;
            let has_records = outcome.slice.bytes > 0;
            if let Some((source, _)) = &outcome.read {
                source.traffic().fetches.add(1);
                if has_records {
                    source.traffic().bytes_out.add(outcome.slice.bytes as u64);
                }
            }
            if is_news || !is_incremental {
                let data = outcome.encoded(wanted.index, isolation);
                add(&mut responses, &wanted.topic, data);
            }
            // Those that gave records go last next time, so that all have their turn at the byte budget.
            if has_records { &mut served } else { &mut quiet }.push(wanted);
        }
        quiet.append(&mut served);
        let session_id = self.keep(quiet);
        FetchResponse { session_id, responses, ..FetchResponse::default() }
    }

    fn keep(&self, wanted: Vec<Wanted>) -> i32 {
        let sessions = self.broker.sessions();
        let now = self.broker.env().clock().now();
        match self.kind {
            PlanKind::Sessionless => SESSION_NONE,
            PlanKind::Full { uses_topic_ids } => {
                let random = || self.broker.env().rng().next_u64();
                sessions.create(wanted, uses_topic_ids, now, random)
            }
            PlanKind::Incremental { id, epoch, .. } => {
                sessions.put_back(id, epoch, wanted, now);
                id
            }
        }
    }
}

impl<E: Env> Outcome<E> {
    fn failed(code: ErrorCode) -> Outcome<E> {
        let slice = Slice { parts: Vec::new(), bytes: 0, next_offset: Offset::ZERO };
        Outcome { code, read: None, slice, diverging: None, nearest: None }
    }

    /// Whether it is told at once.
    fn is_urgent(&self) -> bool {
        let is_wrong = self.code.is_some() && self.code != ErrorCode::OffsetNotAvailable;
        is_wrong || self.diverging.is_some() || self.nearest.is_some()
    }

    /// The offsets that the client is told.
    fn told(&self) -> Option<&Ends> {
        self.read.as_ref().filter(|_| !self.code.is_some()).map(|(_, ends)| ends)
    }

    fn encoded(
        self,
        index: PartitionIndex,
        isolation: Isolation,
    ) -> PartitionData<Records<FileOf<E>>> {
        let diverging_epoch = match self.diverging {
            Some((epoch, end)) => EpochEndOffset { epoch: epoch.0, end_offset: end.0 },
            None => EpochEndOffset::default(),
        };
        let (high_watermark, last_stable_offset, log_start_offset) = match self.told() {
            Some(ends) => (ends.high_watermark.0, ends.last_stable.0, ends.log_start.0),
            None => (-1, -1, -1),
        };
        PartitionData {
            partition_index: index.0,
            error_code: self.code.as_i16(),
            high_watermark,
            last_stable_offset,
            log_start_offset,
            diverging_epoch,
            preferred_read_replica: self.nearest.map_or(-1, |id| id.0),
            // Nothing is aborted while there are no transactions.
            aborted_transactions: (isolation == Isolation::ReadCommitted).then(Vec::new),
            records: Some(Records::from(self.slice)),
            ..PartitionData::default()
        }
    }
}

fn session_request(version: i16, request: FetchRequest) -> SessionRequest {
    let uses_topic_ids = version >= TOPIC_ID_VERSION_MIN;
    let key = |name: types::Str, id: Uuid| match uses_topic_ids {
        true => TopicKey::Id(TopicId(id)),
        false => TopicKey::Name(name.into()),
    };
    let mut wanted = Vec::new();
    for topic in request.topics {
        let topic_key = key(topic.topic, topic.topic_id);
        for partition in topic.partitions {
            wanted.push(Wanted {
                topic: topic_key.clone(),
                index: PartitionIndex(partition.partition),
                fetch_offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                leader_epoch: epoch(partition.current_leader_epoch),
                fetched_epoch: epoch(partition.last_fetched_epoch),
                bound: None,
                told: None,
            });
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let topic_key = key(topic.topic, topic.topic_id);
        let indexes = topic.partitions.into_iter();
        forgotten.extend(indexes.map(|index| (topic_key.clone(), PartitionIndex(index))));
    }
    let (id, epoch) = match version >= SESSION_VERSION_MIN {
        true => (request.session_id, request.session_epoch),
        // Before sessions every fetch stands alone.
        false => (SESSION_NONE, -1),
    };
    SessionRequest { id, epoch, uses_topic_ids, wanted, forgotten }
}

/// The wire's -1 is "not known".
fn epoch(value: i32) -> Option<LeaderEpoch> {
    (value >= 0).then_some(LeaderEpoch(value))
}

/// The topic that is meant. A name keeps its first meaning within a session: when a topic was deleted and another one
/// took its name, the client is told once, before it may read the successor (P18).
fn resolve<'a, E: Env>(
    view: &'a View<E>,
    wanted: &mut Wanted,
) -> Result<&'a Arc<TopicView<E>>, ErrorCode> {
    match &wanted.topic {
        TopicKey::Id(id) => view.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        TopicKey::Name(name) => {
            let topic = view.topic(name.as_str()).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            match wanted.bound.replace(topic.id) {
                Some(bound) if bound != topic.id && !planted(Mutant::TopicIdIgnored) => {
                    Err(ErrorCode::UnknownTopicOrPartition)
                }
                _ => Ok(topic),
            }
        }
    }
}

/// Whether the client knows the leader's term.
pub(crate) fn check_leader_epoch(
    ours: LeaderEpoch,
    theirs: Option<LeaderEpoch>,
) -> Result<(), ErrorCode> {
    match theirs {
        Some(theirs) if theirs < ours => Err(ErrorCode::FencedLeaderEpoch),
        Some(theirs) if theirs > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the log parts from what the client has read, if it does.
fn diverging<E: Env>(
    source: &Source<E>,
    fetched: LeaderEpoch,
    from: Offset,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let (epoch, end) = source.log().end_of_epoch(fetched).ok_or(ErrorCode::OffsetOutOfRange)?;
    Ok((epoch < fetched || end < from).then_some((epoch, end)))
}

fn add<F>(
    responses: &mut Vec<FetchableTopicResponse<Records<F>>>,
    topic: &TopicKey,
    data: PartitionData<Records<F>>,
) {
    let (name, id) = match topic {
        TopicKey::Name(name) => (name.clone().into(), Uuid::ZERO),
        TopicKey::Id(id) => (types::Str::default(), id.0),
    };
    match responses.last_mut() {
        Some(last) if last.topic == name && last.topic_id == id => last.partitions.push(data),
        _ => responses.push(FetchableTopicResponse {
            topic: name,
            topic_id: id,
            partitions: vec![data],
        }),
    }
}
