//! Fetch (key 1) by followers: what they lack, and what their questions make of the leaders.
//!
//! ```text
//!  questions -> each partition's leader -> answers, and one pass of reads up to what is written
//!                                              | nothing to say
//!                                              '--> waits: for bytes, the next fetch of the same follower, the deadline;
//!                                                   and where consumers read from the follower, for the high watermark
//! ```
//!
//! A follower that has synced more than it told asks again while its fetch waits: the older one is answered at once, and
//! the newer one waits instead.

use std::time::Duration;

use cluster::replica::{Answer, Position, Question};
use env::{Clock, Env, Part};
use log::Slice;
use types::{
    BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, PartitionIndex, TopicId,
};
use wire::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse,
    PartitionData,
};

use super::{Records, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::error_code;
use crate::partition::{FileOf, Line, Partition, Signal, Wait, Waiting};
use crate::replication::{HIGH_WATERMARK_UNASKED, HIGH_WATERMARK_UNKNOWN, REPAIR_BYTES, Turn};
use crate::shared::{Limit, Shared, View};

/// From here on a follower tells how much it has synced.
const DURABLE_END_VERSION_MIN: i16 = 17;

type Response<E> = FetchResponse<Records<FileOf<E>>>;

/// Whether a fetch is a follower's. What calls itself a replica in an older version is a tool that wants to read.
pub(super) fn is_of_follower(version: i16, request: &FetchRequest) -> bool {
    version >= DURABLE_END_VERSION_MIN && request.replica_state.replica_id >= 0
}

/// Fetch by a follower.
pub(super) async fn serve<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: FetchRequest,
) -> Reply<Response<E>> {
    if let Err(denied) = authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        return Reply::Now(Response::<E> {
            error_code: denied.code.as_i16(),
            ..Response::<E>::default()
        });
    }
    let replica = BrokerId(request.replica_state.replica_id);
    let epoch = BrokerEpoch(request.replica_state.replica_epoch);
    let view = broker.view();
    let refused = match view.image.broker(replica) {
        Some(known) => (epoch < known.epoch).then_some(ErrorCode::StaleBrokerEpoch),
        None => Some(ErrorCode::BrokerIdNotRegistered),
    };
    if let Some(code) = refused {
        let error_code = code.as_i16();
        return Reply::Now(Response::<E> { error_code, ..Response::<E>::default() });
    }
    let mut partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    if partitions.any(|partition| partition.repairs_until >= 0) {
        let is_current = view.image.broker(replica).is_some_and(|known| known.epoch == epoch);
        return Reply::Now(match is_current {
            true => repair(&view, &request).await,
            false => Response::<E> {
                error_code: ErrorCode::StaleBrokerEpoch.as_i16(),
                ..Response::<E>::default()
            },
        });
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let asked = request.topics.into_iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id);
        topic.partitions.into_iter().map(move |partition| Asked::new(id, &partition))
    });
    let serving = Serving {
        broker: broker.clone(),
        replica,
        epoch,
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        turn: broker.desk().next_turn(replica, ctx.connection, ctx.received),
        asked: asked.collect(),
    };
    let told = serving.tell(&view);
    let pass = serving.read(told).await;
    let deadline = ctx.received + wait;
    if serving.is_enough(&pass) || broker.env().clock().now() >= deadline {
        return Reply::Now(serving.response(pass));
    }
    Reply::later(serving.response_when_enough(pass, deadline))
}

/// One fetch of a follower on its way.
struct Serving<E: Env> {
    broker: Shared<E>,
    replica: BrokerId,
    epoch: BrokerEpoch,
    bytes_max: usize,
    bytes_min: usize,
    turn: Turn,
    asked: Vec<Asked>,
}

/// What it asks about one partition.
struct Asked {
    topic: TopicId,
    index: PartitionIndex,
    question: Question,
    bytes_max: usize,
    readers: Readers,
}

/// What consumers that read from the follower know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Readers {
    /// There are none.
    Absent,
    /// Nothing yet.
    Untold,
    /// That so much is committed.
    Told(Offset),
}

impl Asked {
    fn new(topic: TopicId, partition: &FetchPartition) -> Asked {
        let epoch = partition.last_fetched_epoch;
        let offset = Offset(partition.fetch_offset.max(0));
        Asked {
            topic,
            index: PartitionIndex(partition.partition),
            question: Question {
                term: LeaderEpoch(partition.current_leader_epoch),
                position: Position { epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)), offset },
                log_start: Offset(partition.log_start_offset.max(0)),
                durable: Offset(partition.durable_end.max(0)),
            },
            readers: match partition.high_watermark {
                HIGH_WATERMARK_UNASKED => Readers::Absent,
                HIGH_WATERMARK_UNKNOWN => Readers::Untold,
                known => Readers::Told(Offset(known.max(0))),
            },
            bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }
    }
}

/// What is said of one partition.
struct Told<E: Env> {
    answer: Answer,
    /// Its leader, where records may follow.
    leader: Option<Partition<E>>,
    /// Nothing is given of it before this: the follower catches up as fast as it may.
    held_back_until: Option<Instant>,
    slice: Slice<FileOf<E>>,
}

impl<E: Env> Serving<E> {
    /// Tells every leader how far the follower is, and takes their answers.
    fn tell(&self, view: &View<E>) -> Vec<Told<E>> {
        let tell = |asked: &Asked| {
            let leader = match leader(view, asked) {
                Ok(leader) => leader,
                Err(code) => return Told::refused(code),
            };
            let answer =
                leader.asked(self.replica, self.epoch, asked.question, self.turn.sent_after);
            let follows = matches!(answer, Answer::Follows { .. });
            Told { leader: follows.then(|| leader.clone()), ..Told::of(answer) }
        };
        self.asked.iter().map(tell).collect()
    }

    /// Reads what follows, where anything may.
    async fn read(&self, mut pass: Vec<Told<E>>) -> Vec<Told<E>> {
        let mut bytes = 0;
        let (own, desk, now) =
            (self.broker.broker_id(), self.broker.desk(), self.broker.env().clock().now());
        let view = self.broker.view();
        let rate = view.settings.leader_throttle;
        for (told, asked) in pass.iter_mut().zip(&self.asked) {
            let Some(leader) = &told.leader else { continue };
            let place = (asked.topic, asked.index);
            // Whom the leader counts holds up what is committed, whatever the metadata say yet.
            let throttled = rate.filter(|_| {
                view.is_throttled(place, Limit::Leader, own, self.replica)
                    && !leader.counts(self.replica)
            });
            told.held_back_until =
                throttled.and_then(|rate| desk.leader_throttle.pauses_until(now, rate));
            if told.held_back_until.is_some() {
                continue;
            }
            let left = self.bytes_max.saturating_sub(bytes).min(asked.bytes_max);
            match leader.read_written(asked.question.position.offset, left, bytes == 0).await {
                Ok(slice) => {
                    bytes += slice.bytes;
                    if let Some(rate) = throttled {
                        desk.leader_throttle.spend(now, rate, slice.bytes);
                    }
                    told.slice = slice;
                }
                Err(code) => *told = Told::refused(code),
            }
        }
        pass
    }

    fn is_enough(&self, pass: &[Told<E>]) -> bool {
        let bytes: usize = pass.iter().map(|told| told.slice.bytes).sum();
        let is_urgent =
            |(told, asked): (&Told<E>, &Asked)| told.leader.is_none() || told.is_news(asked);
        bytes >= self.bytes_min.max(1) || pass.iter().zip(&self.asked).any(is_urgent)
    }

    async fn response_when_enough(self, mut pass: Vec<Told<E>>, deadline: Instant) -> Response<E> {
        let clock = self.broker.env().clock().clone();
        let mut late = std::pin::pin!(clock.sleep_until(deadline));
        let signal = Signal::default();
        loop {
            let mut is_over = false;
            if let Some(_waiting) = self.wait(&pass, &signal) {
                let held_back_until = pass.iter().filter_map(|told| told.held_back_until).min();
                tokio::select! {
                    biased;
                    () = self.turn.over() => is_over = true,
                    () = signal.woken() => {}
                    () = late.as_mut() => is_over = true,
                    () = clock.sleep_until(held_back_until.unwrap_or_default()), if held_back_until.is_some() => {}
                }
            }
            self.ask_again(&mut pass);
            if is_over {
                return self.response(pass);
            }
            pass = self.read(pass).await;
            if self.is_enough(&pass) {
                return self.response(pass);
            }
        }
    }

    /// Takes the answers anew: more is committed, and who has ceased to lead says so.
    fn ask_again(&self, pass: &mut [Told<E>]) {
        for (told, asked) in pass.iter_mut().zip(&self.asked) {
            if let Some(leader) = &told.leader {
                let answer = leader.answer(self.replica, self.epoch, asked.question);
                let follows = matches!(answer, Answer::Follows { .. });
                let leader = follows.then(|| leader.clone());
                *told = Told { leader, ..Told::of(answer) };
            }
        }
    }

    /// Waits at every leader for more than there was. `None`: one has it already.
    fn wait(&self, pass: &[Told<E>], signal: &Signal) -> Option<Vec<Waiting<E>>> {
        let mut waiting = Vec::with_capacity(pass.len());
        for (told, asked) in pass.iter().zip(&self.asked) {
            let leader = told.leader.as_ref()?;
            if let Answer::Follows { high_watermark, .. } = told.answer
                && asked.readers != Readers::Absent
            {
                match leader.wait(Line::Committed, high_watermark.next(), signal) {
                    Ok(Wait::On(place)) => waiting.push(place),
                    Ok(Wait::Over) | Err(_) => return None,
                }
            }
            // It is looked at again when its time has come.
            if told.held_back_until.is_some() {
                continue;
            }
            match leader.wait(Line::Written, asked.question.position.offset.next(), signal) {
                Ok(Wait::On(place)) => waiting.push(place),
                Ok(Wait::Over) | Err(_) => return None,
            }
        }
        Some(waiting)
    }

    fn response(&self, pass: Vec<Told<E>>) -> Response<E> {
        let mut responses: Vec<FetchableTopicResponse<Records<FileOf<E>>>> = Vec::new();
        for (told, asked) in pass.into_iter().zip(&self.asked) {
            let data = told.encoded(asked.index);
            match responses.last_mut() {
                Some(last) if last.topic_id == asked.topic.0 => last.partitions.push(data),
                _ => responses.push(FetchableTopicResponse {
                    topic_id: asked.topic.0,
                    partitions: vec![data],
                    ..Default::default()
                }),
            }
        }
        FetchResponse { responses, ..FetchResponse::default() }
    }
}

impl<E: Env> Told<E> {
    fn of(answer: Answer) -> Told<E> {
        let slice = Slice { parts: Vec::new(), bytes: 0, next_offset: Offset::ZERO };
        Told { answer, leader: None, held_back_until: None, slice }
    }

    fn refused(code: ErrorCode) -> Told<E> {
        Told::of(Answer::Refused(code))
    }

    /// Whether the follower learns of it what its readers do not know. What it lacks records for it would not.
    fn is_news(&self, asked: &Asked) -> bool {
        let Answer::Follows { high_watermark, is_shown, .. } = self.answer else { return false };
        let held = asked.question.position.offset;
        is_shown
            && match asked.readers {
                Readers::Absent => false,
                Readers::Untold => high_watermark <= held,
                Readers::Told(known) => known < high_watermark.min(held),
            }
    }

    fn encoded(self, index: PartitionIndex) -> PartitionData<Records<FileOf<E>>> {
        let mut data = PartitionData {
            partition_index: index.0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            ..Default::default()
        };
        match self.answer {
            Answer::Follows { high_watermark, log_start, is_shown } => {
                data.high_watermark = high_watermark.0;
                data.last_stable_offset = if is_shown { high_watermark.0 } else { -1 };
                data.log_start_offset = log_start.0;
                data.records = Some(Records::from(self.slice));
            }
            Answer::Parts(shared) => {
                data.diverging_epoch =
                    EpochEndOffset { epoch: shared.epoch.0, end_offset: shared.end.0 };
            }
            Answer::OutOfRange { log_start } => {
                data.error_code = ErrorCode::OffsetOutOfRange.as_i16();
                data.log_start_offset = log_start.0;
            }
            Answer::Refused(code) => data.error_code = code.as_i16(),
        }
        data
    }
}

/// What this broker's replicas hold in the place of what is damaged elsewhere.
async fn repair<E: Env>(view: &View<E>, request: &FetchRequest) -> Response<E> {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0).min(REPAIR_BYTES);
    let mut is_first = true;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let mut data =
                PartitionData { partition_index: asked.partition, ..PartitionData::default() };
            // However many are named, no more is read than is sent.
            if left == 0 {
                break;
            }
            match committed(view, TopicId(topic.topic_id), asked, left, is_first).await {
                Ok(slice) => {
                    is_first = false;
                    left = left.saturating_sub(slice.bytes);
                    data.records = Some(Records::from(slice));
                }
                Err(code) => data.error_code = code.as_i16(),
            }
            partitions.push(data);
        }
        let topic_id = topic.topic_id;
        responses.push(FetchableTopicResponse { topic_id, partitions, ..Default::default() });
    }
    FetchResponse { responses, ..FetchResponse::default() }
}

/// Committed records of a replica here, whoever leads; `at_least_one` batch even if it is larger. Each is looked at: what is found to be damaged here
/// is repaired from others.
async fn committed<E: Env>(
    view: &View<E>,
    topic: TopicId,
    asked: &FetchPartition,
    left: usize,
    at_least_one: bool,
) -> Result<Slice<FileOf<E>>, ErrorCode> {
    let topic = view.topic_by_id(topic).ok_or(ErrorCode::UnknownTopicId)?;
    let index = PartitionIndex(asked.partition);
    let (log, high_watermark) = match (topic.partition(index), topic.following(index)) {
        (Some(leader), _) => (leader.log(), leader.ends().high_watermark),
        (None, Some(follower)) => (follower.log(), follower.high_watermark()),
        (None, None) => return Err(ErrorCode::NotLeaderOrFollower),
    };
    let (from, end) = (Offset(asked.fetch_offset), Offset(asked.repairs_until).min(high_watermark));
    if from < log.ends().log_start || from >= end {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let bytes_max = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(left);
    let read = log.batches(log::Read { from, end, bytes_max, at_least_one }).await;
    let batches = read.map_err(|error| error_code(&error))?;
    let next_offset = batches.last().map_or(from, |last| last.end_offset());
    let bytes = batches.iter().map(|batch| batch.bytes_total()).sum();
    let parts = batches.into_iter().map(|batch| Part::Mem(batch.to_bytes())).collect();
    Ok(Slice { parts, bytes, next_offset })
}

/// The partition asked about, if it is led here.
fn leader<'a, E: Env>(view: &'a View<E>, asked: &Asked) -> Result<&'a Partition<E>, ErrorCode> {
    let topic = view.topic_by_id(asked.topic).ok_or(ErrorCode::UnknownTopicId)?;
    topic.serving(asked.index)
}
