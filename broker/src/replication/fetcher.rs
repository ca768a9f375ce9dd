//! Fetchers: one for each other broker, with the questions of all replicas here that follow leaders there.
//!
//! A fetch waits at the leaders for news. What is asked meanwhile leaves at once in another fetch, at which the first one
//! returns; so one connection carries everything, and nothing waits for what has nothing to say.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{ClientError, Connection};
use cluster::replica::{Answer, Run};
use env::{Clock, Env, Spawn};
use record::{Batch, Batches};
use tokio::sync::Notify;
use types::{
    BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition,
};
use wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData, ReplicaState,
};

use super::following::Readers;
use super::{Asked, FETCHES_MAX, Place, Throttle, repair};
use crate::shared::{Limit, Shared, View};
use crate::{peer, together};

/// How much larger an answer may be than what is asked for: the first batch is given whole, however large it is.
pub(super) const ANSWER_BYTES_EXTRA: usize = 128 << 20;
/// In a question, where nobody reads from who asks (KIP-1166): news of what is committed may wait for records.
pub(crate) const HIGH_WATERMARK_UNASKED: i64 = i64::MAX;
/// And where who reads waits for the first word.
pub(crate) const HIGH_WATERMARK_UNKNOWN: i64 = -1;
/// In requests without a session.
pub(super) const SESSION_NONE: i32 = -1;

/// Follows other brokers until this one stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    loop {
        for (leader, told) in broker.desk().take_lanes() {
            let fetcher = Fetcher {
                broker: broker.clone(),
                leader,
                told,
                connection: None,
                said: None,
                complains: Arc::default(),
            };
            broker.env().spawner().spawn("replica-fetcher", fetcher.run());
        }
        broker.desk().laid.notified().await;
    }
}

/// What is asked of one broker.
struct Fetcher<E: Env> {
    broker: Shared<E>,
    leader: BrokerId,
    told: Arc<Notify>,
    connection: Option<((Arc<str>, u16), Connection)>,
    /// What the log last said of this broker.
    said: Option<String>,
    /// It is being told of bytes that were no batch.
    complains: Arc<AtomicBool>,
}

/// So many bytes in a second, of all replicas together that go by it.
#[derive(Clone, Copy)]
struct Pace<'a> {
    rate: u64,
    throttle: &'a Throttle,
}

impl Pace<'_> {
    fn pauses_until(self, now: Instant) -> Option<Instant> {
        self.throttle.pauses_until(now, self.rate)
    }
}

/// What replicas go by that are not in sync.
struct Paces<'a, E: Env> {
    view: Arc<View<E>>,
    own: BrokerId,
    /// Those that an operator has named, and those that are on their way here.
    throttled: Option<Pace<'a>>,
    moving: Option<Pace<'a>>,
}

impl<E: Env> Paces<'_, E> {
    /// Whether anybody may have to wait: mostly nobody has.
    fn pauses_any(&self, now: Instant) -> bool {
        let mut all = self.throttled.iter().chain(&self.moving);
        all.any(|pace| pace.pauses_until(now).is_some())
    }

    /// What an operator has said of a replica counts, and else that it moves.
    fn of(&self, place: Place) -> Option<Pace<'_>> {
        let (view, own) = (&self.view, self.own);
        match self.throttled {
            Some(pace) if view.is_throttled(place, Limit::Follower, own, own) => Some(pace),
            _ => self.moving.filter(|_| view.is_moving_to(place, own)),
        }
    }
}

type Answered = Result<FetchResponse, ClientError>;

/// A fetch that was sent.
struct Fetch<E: Env> {
    asked: Vec<Asked<E>>,
    asked_at: Instant,
    answer: Pin<Box<dyn Future<Output = Answered> + Send>>,
}

impl<E: Env> Fetcher<E> {
    async fn run(mut self) {
        let broker = self.broker.clone();
        tokio::select! {
            biased;
            () = broker.stopping() => {}
            () = self.fetch() => {}
        }
    }

    async fn fetch(&mut self) {
        let mut sent: VecDeque<Fetch<E>> = VecDeque::new();
        let told = self.told.clone();
        loop {
            let mut paused = None;
            if sent.len() < FETCHES_MAX {
                let mut asked = self.broker.desk().take_questions(self.leader, sent.is_empty());
                paused = self.hold_back(&mut asked);
                if !asked.is_empty() {
                    let asked_at = self.broker.env().clock().now();
                    match self.send(&asked).await {
                        Ok(answer) => sent.push_back(Fetch { asked, asked_at, answer }),
                        Err(error) => self.settle(asked, asked_at, Err(error)).await,
                    }
                    continue;
                }
            }
            let has_room = sent.len() < FETCHES_MAX;
            let clock = self.broker.env().clock();
            let answered = tokio::select! {
                biased;
                answered = first(&mut sent) => answered,
                () = told.notified(), if has_room => continue,
                () = clock.sleep_until(paused.unwrap_or_default()), if paused.is_some() => {
                    self.broker.desk().ask_all(self.leader);
                    continue;
                }
            };
            if let Some(Fetch { asked, asked_at, .. }) = sent.pop_front() {
                self.settle(asked, asked_at, answered).await;
            }
        }
    }

    /// Leaves out who has caught up as fast as it may for now, if anybody has; until when.
    fn hold_back(&self, asked: &mut Vec<Asked<E>>) -> Option<Instant> {
        let now = self.broker.env().clock().now();
        let paces = self.paces()?;
        if !paces.pauses_any(now) {
            return None;
        }
        let mut first: Option<Instant> = None;
        asked.retain(|asked| {
            let pauses = paces.of(asked.place).and_then(|pace| pace.pauses_until(now));
            first = first.into_iter().chain(pauses).min();
            pauses.is_none()
        });
        first
    }

    /// How fast replicas may catch up, where anything says so.
    fn paces(&self) -> Option<Paces<'_, E>> {
        let (view, desk) = (self.broker.view(), self.broker.desk());
        let pace = |rate: Option<u64>, throttle| rate.map(|rate| Pace { rate, throttle });
        let throttled = pace(view.settings.follower_throttle, &desk.follower_throttle);
        let moving = pace(view.settings.move_rate, &desk.move_throttle);
        let own = self.broker.broker_id();
        let has_any = throttled.is_some() || moving.is_some();
        has_any.then_some(Paces { view, own, throttled, moving })
    }

    async fn send(
        &mut self,
        asked: &[Asked<E>],
    ) -> Result<Pin<Box<dyn Future<Output = Answered> + Send>>, ClientError> {
        let settings = self.broker.settings();
        let patience = settings.quorum_request_timeout;
        let connection = self.connection(settings.replica_response_bytes).await?;
        let view = self.broker.view();
        let own = view.image.broker(self.broker.broker_id());
        let replica_state = ReplicaState {
            replica_id: self.broker.broker_id().0,
            replica_epoch: own.map_or(-1, |own| own.epoch.0),
        };
        let now = self.broker.env().clock().now();
        // Its readers go by what was heard within a session (I36).
        let wait = settings.replica_fetch_wait.min(settings.broker_session_timeout / 2);
        let request = FetchRequest {
            replica_state,
            max_wait_ms: millis(wait),
            min_bytes: 1,
            max_bytes: i32::try_from(settings.replica_response_bytes).unwrap_or(i32::MAX),
            session_epoch: SESSION_NONE,
            topics: topics(asked, settings.replica_fetch_bytes, now),
            ..FetchRequest::default()
        };
        let version = connection.version::<FetchRequest>(None, i16::MAX)?;
        let pending = connection.enqueue(&request, version)?;
        let (env, silence) = (self.broker.env().clone(), settings.replica_fetch_wait + patience);
        Ok(Box::pin(async move {
            pending.answer_as_it_comes::<E, FetchRequest>(&env, version, silence).await
        }))
    }

    /// Tells every follower what was answered; what was not is asked again.
    async fn settle(&mut self, asked: Vec<Asked<E>>, asked_at: Instant, answered: Answered) {
        let answered = answered.and_then(|response| {
            ClientError::check(response.error_code, None)?;
            Ok(response)
        });
        self.tell(answered.as_ref().err());
        let mut told: BTreeMap<Place, PartitionData> = match answered {
            Ok(response) => response
                .responses
                .into_iter()
                .flat_map(|topic| {
                    let id = TopicId(topic.topic_id);
                    let of = move |told: PartitionData| {
                        ((id, PartitionIndex(told.partition_index)), told)
                    };
                    topic.partitions.into_iter().map(of)
                })
                .collect(),
            Err(_) => {
                self.connection = None;
                BTreeMap::new()
            }
        };
        let has_records = |place: &Place| {
            told.get(place).is_some_and(|it| it.records.as_ref().is_some_and(|r| !r.is_empty()))
        };
        let served = asked.iter().rev().find(|asked| has_records(&asked.place));
        if let Some(served) = served {
            self.broker.desk().on_served(self.leader, served.place);
        }
        if let Some(paces) = self.paces() {
            let now = self.broker.env().clock().now();
            for (place, told) in &told {
                let bytes = told.records.as_ref().map_or(0, Bytes::len);
                if bytes > 0
                    && let Some(pace) = paces.of(*place)
                {
                    pace.throttle.spend(now, pace.rate, bytes);
                }
            }
        }
        let mut rotten = Vec::new();
        let settling = asked.into_iter().map(|Asked { place, follower, question }| {
            let none = (Answer::Refused(ErrorCode::NetworkException), Vec::new());
            let (answer, batches) =
                told.remove(&place).map_or(none, |told| read(told, question.position.offset));
            if answer == Answer::Refused(ErrorCode::CorruptMessage) {
                rotten.push((
                    place.0,
                    follower.log().topic_partition().clone(),
                    question.position.offset,
                ));
            }
            async move {
                follower.on_answered(question, asked_at, answer, batches).await;
            }
        });
        let settling: Vec<_> = settling.collect();
        together::all(settling).await;
        if !rotten.is_empty() && !self.complains.swap(true, Ordering::Relaxed) {
            let (broker, leader, done) = (self.broker.clone(), self.leader, self.complains.clone());
            self.broker.env().spawner().spawn("complaint", async move {
                complain(&broker, leader, rotten).await;
                done.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Says once what is wrong, and once that it is well again.
    fn tell(&mut self, error: Option<&ClientError>) {
        let said = error.map(ToString::to_string);
        if said == self.said {
            return;
        }
        let leader = self.leader;
        match error {
            Some(error) => tracing::warn!(%leader, %error, "a leader's broker does not answer"),
            None => tracing::info!(%leader, "a leader's broker answers again"),
        }
        self.said = said;
    }

    async fn connection(&mut self, response_bytes: usize) -> Result<Connection, ClientError> {
        let address = peer::address(&self.broker, self.leader)?;
        if let Some((known, connection)) = &self.connection
            && *known == address
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let answer_bytes_max = response_bytes + ANSWER_BYTES_EXTRA;
        let connection =
            peer::connect(&self.broker, self.leader, "replica", answer_bytes_max).await?;
        self.connection = Some((address, connection.clone()));
        Ok(connection)
    }
}

/// What a leader gave there is no batch: it is asked for it in a way that makes it look, and repair what it finds. Aside: whatever
/// it answers, the followers ask again.
async fn complain<E: Env>(
    broker: &Shared<E>,
    leader: BrokerId,
    rotten: Vec<(TopicId, TopicPartition, Offset)>,
) {
    let Ok(connection) = peer::connect(broker, leader, "repair", repair::ANSWER_BYTES_MAX).await
    else {
        return;
    };
    for (topic, partition, offset) in rotten {
        tracing::warn!(%partition, %offset, %leader, "a leader gives bytes that are no batch");
        let place = (topic, &partition);
        if repair::ask(broker, &connection, place, offset, offset.next()).await.is_err() {
            tracing::debug!(%partition, %leader, "it looks at them, or does not answer");
        }
    }
}

/// The answer to the first fetch of those that were sent; none comes if there is no fetch.
async fn first<E: Env>(sent: &mut VecDeque<Fetch<E>>) -> Answered {
    match sent.front_mut() {
        Some(fetch) => fetch.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

fn topics<E: Env>(asked: &[Asked<E>], bytes_max: usize, now: Instant) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for Asked { place: (topic, index), follower, question } in asked {
        let partition = FetchPartition {
            partition: index.0,
            current_leader_epoch: question.term.0,
            fetch_offset: question.position.offset.0,
            last_fetched_epoch: question.position.epoch.map_or(-1, |epoch| epoch.0),
            log_start_offset: question.log_start.0,
            high_watermark: match follower.readers(now) {
                Readers::Absent => HIGH_WATERMARK_UNASKED,
                Readers::Untold => HIGH_WATERMARK_UNKNOWN,
                Readers::Told(known) => known.0,
            },
            partition_max_bytes: i32::try_from(bytes_max).unwrap_or(i32::MAX),
            durable_end: question.durable.0,
            ..FetchPartition::default()
        };
        match topics.last_mut() {
            Some(last) if last.topic_id == topic.0 => last.partitions.push(partition),
            _ => topics.push(FetchTopic {
                topic_id: topic.0,
                partitions: vec![partition],
                ..FetchTopic::default()
            }),
        }
    }
    topics
}

/// What a leader says to a question about `from`, with its records.
fn read(told: PartitionData, from: Offset) -> (Answer, Vec<Batch>) {
    let refused = |code| (Answer::Refused(code), Vec::new());
    match ErrorCode::from_i16(told.error_code) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::OffsetOutOfRange) if told.log_start_offset >= 0 => {
            return (Answer::OutOfRange { log_start: Offset(told.log_start_offset) }, Vec::new());
        }
        code => return refused(code.unwrap_or(ErrorCode::UnknownServerError)),
    }
    if told.diverging_epoch.epoch >= 0 {
        let (epoch, end) = (told.diverging_epoch.epoch, told.diverging_epoch.end_offset);
        let shared = Run { epoch: LeaderEpoch(epoch), end: Offset(end.max(0)) };
        return (Answer::Parts(shared), Vec::new());
    }
    let follows = Answer::Follows {
        high_watermark: Offset(told.high_watermark.max(0)),
        log_start: Offset(told.log_start_offset.max(0)),
        // The end of what consumers may be told of, if they may.
        is_shown: told.last_stable_offset >= 0,
    };
    match checked(told.records.unwrap_or_default(), from) {
        Ok(batches) => (follows, batches),
        Err(code) => refused(code),
    }
}

/// The batches, each whole and one after the other, up to the first that is not; the first one holds `from`.
pub(super) fn checked(bytes: Bytes, from: Offset) -> Result<Vec<Batch>, ErrorCode> {
    let mut batches: Vec<Batch> = Vec::new();
    for batch in Batches::split(bytes) {
        let follows = |batch: &Batch| match batches.last() {
            Some(last) => batch.base_offset() == last.end_offset(),
            None => batch.base_offset() <= from && from < batch.end_offset(),
        };
        let is_sound = |batch: &Batch| batch.crc_ok() && batch.leader_epoch().is_some();
        match batch.ok().filter(|batch| follows(batch) && is_sound(batch)) {
            Some(batch) => batches.push(batch),
            None if batches.is_empty() => return Err(ErrorCode::CorruptMessage),
            // What stands before it is as good as ever.
            None => break,
        }
    }
    Ok(batches)
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
