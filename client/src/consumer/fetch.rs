//! Fetching: which questions to ask now, and how answers become records and positions.
//!
//! A partition has at most one question under way. Each question carries the partition's turn, and an answer counts only
//! if the turn is still the same: a seek or a new assignment makes everything asked before meaningless.
//! At most one fetch per broker is on its way, for all its partitions that have nothing buffered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use env::{Env, Spawn};
use record::{Batch, Batches, Records};
use types::{
    BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, TopicId, TopicName, TopicPartition,
};
use wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};

use super::session::{Saying, Wanted};
use super::{Assigned, Consumer, ConsumerRecord, Event, Position, Report, ResetPolicy, State};
use crate::cluster::Target;
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::offsets::{self, FoundOffset, Isolation, OffsetSpec, epoch_on_wire, millis};

/// A batch may expand to this much at most.
const EXPANDED_MAX: usize = 1 << 30;

/// One partition of a fetch under way.
#[derive(Clone, Debug)]
pub(super) struct Question {
    partition: TopicPartition,
    turn: u64,
    offset: Offset,
}

/// What came of one fetch.
#[derive(Debug)]
pub(super) struct Answer {
    broker: BrokerId,
    questions: Vec<Question>,
    /// Whether a partition that the answer does not name is one without news.
    is_incremental: bool,
    /// The session id, and the partitions named.
    result: Result<(i32, BTreeMap<TopicPartition, PartitionAnswer>), ClientError>,
}

/// What a broker said of one partition.
#[derive(Debug)]
struct PartitionAnswer {
    error_code: i16,
    high_watermark: i64,
    /// Whom the leader sends the consumer to; -1 is nobody.
    nearest: i32,
    records: Bytes,
    /// Aborted transactions that overlap the records: (first offset, producer), in that order.
    aborted: VecDeque<(i64, i64)>,
}

/// Batches of one partition that are not yet handed out.
#[derive(Debug)]
pub(super) struct Fetched {
    pub partition: TopicPartition,
    turn: u64,
    batches: Batches,
    /// The batch being read.
    open: Option<(Batch, Records)>,
    aborted: VecDeque<(i64, i64)>,
    /// Producers inside an aborted transaction at this point of the log.
    aborting: BTreeSet<i64>,
    /// Whether anything at all was read from it.
    has_progressed: bool,
}

impl<E: Env> Consumer<E> {
    /// Starts whatever questions are due; returns when the next one is.
    pub(super) fn ask_for_more(&mut self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(3600);
        let metadata = self.client.current();
        let mut lacking = BTreeSet::new();
        let mut group = Vec::new();
        let mut offsets: BTreeMap<BrokerId, BTreeMap<TopicPartition, (u64, OffsetSpec)>> =
            BTreeMap::new();
        let mut checks: BTreeMap<BrokerId, BTreeMap<TopicPartition, (u64, LeaderEpoch)>> =
            BTreeMap::new();
        let mut fetches: BTreeMap<BrokerId, Vec<Question>> = BTreeMap::new();
        let buffered: BTreeSet<TopicPartition> =
            self.fetched.iter().map(|fetched| fetched.partition.clone()).collect();
        for (partition, assigned) in &mut self.partitions {
            if assigned.is_asked || assigned.is_paused || buffered.contains(partition) {
                continue;
            }
            if now < assigned.not_before {
                wake = wake.min(assigned.not_before);
                continue;
            }
            if assigned.state == State::NeedsGroupOffset {
                assigned.is_asked = true;
                group.push((partition.clone(), assigned.turn));
                continue;
            }
            let Some(leader) = metadata.leader(partition) else {
                lacking.insert(partition.topic.clone());
                continue;
            };
            let epoch = metadata.partition(partition).and_then(|known| known.leader_epoch);
            assigned.expect_term(epoch);
            match (assigned.state, assigned.position) {
                (State::NeedsGroupOffset, _) => {}
                (State::NeedsOffset(spec), _) => {
                    assigned.is_asked = true;
                    let questions = offsets.entry(leader).or_default();
                    questions.insert(partition.clone(), (assigned.turn, spec));
                }
                (State::NeedsCheck, Some(Position { leader_epoch: Some(epoch), .. })) => {
                    assigned.is_asked = true;
                    let questions = checks.entry(leader).or_default();
                    questions.insert(partition.clone(), (assigned.turn, epoch));
                }
                (_, Some(position)) => {
                    let broker = assigned.nearest(now, &metadata, partition).unwrap_or(leader);
                    if !self.fetching.contains(&broker) {
                        assigned.is_asked = true;
                        fetches.entry(broker).or_default().push(Question {
                            partition: partition.clone(),
                            turn: assigned.turn,
                            offset: position.offset,
                        });
                    }
                }
                (State::NeedsCheck | State::Ready, None) => {
                    unreachable!("{partition} is in use without a position")
                }
            }
        }
        if !group.is_empty() {
            self.ask_group(group);
        }
        for (broker, questions) in offsets {
            self.ask_offsets(broker, questions);
        }
        for (broker, questions) in checks {
            self.ask_checks(broker, questions);
        }
        for (broker, questions) in fetches {
            self.ask_fetch(broker, questions, &metadata);
        }
        if !lacking.is_empty() {
            wake = wake.min(self.ask_metadata(now, lacking));
        }
        wake
    }

    fn ask_metadata(&mut self, now: Instant, topics: BTreeSet<TopicName>) -> Instant {
        if !self.asking_metadata && now >= self.metadata_after {
            self.asking_metadata = true;
            self.metadata_after = now + self.client.config().retry_backoff_max;
            let (client, reporter) = (self.client.clone(), self.reporter.clone());
            self.client.env().spawner().spawn("consumer-metadata", async move {
                let topics: Vec<TopicName> = topics.into_iter().collect();
                client.expect_change();
                if let Err(error) = client.metadata(&topics).await {
                    tracing::debug!(%error, "no metadata");
                }
                let _ = reporter.send(Report::Metadata).await;
            });
        }
        self.metadata_after.max(now + Duration::from_millis(1))
    }

    fn ask_group(&self, questions: Vec<(TopicPartition, u64)>) {
        let Some(group) = self.config.group.clone() else { return };
        let (client, reporter, lane) =
            (self.client.clone(), self.reporter.clone(), self.group_lane);
        let stable = self.config.isolation == Isolation::ReadCommitted;
        self.client.env().spawner().spawn("consumer-group-offsets", async move {
            let partitions: Vec<_> =
                questions.iter().map(|(partition, _)| partition.clone()).collect();
            let result =
                offsets::fetch_group(&client, &group, lane, Some(&partitions), stable).await;
            if let Err(error) = &result {
                client.learn_from(&Target::Group(group), error);
            }
            let _ = reporter.send(Report::GroupOffsets(questions, result)).await;
        });
    }

    fn ask_offsets(
        &self,
        broker: BrokerId,
        questions: BTreeMap<TopicPartition, (u64, OffsetSpec)>,
    ) {
        let (client, reporter, lane) = (self.client.clone(), self.reporter.clone(), self.lane);
        let isolation = self.config.isolation;
        self.client.env().spawner().spawn("consumer-offsets", async move {
            let wanted =
                questions.iter().map(|(partition, (_, spec))| (partition.clone(), *spec)).collect();
            let target = Target::Broker(broker);
            let result = offsets::list(&client, &target, lane, &wanted, isolation).await;
            let _ = reporter.send(Report::Offsets(broker, questions, result)).await;
        });
    }

    fn ask_checks(
        &self,
        broker: BrokerId,
        questions: BTreeMap<TopicPartition, (u64, LeaderEpoch)>,
    ) {
        let (client, reporter, lane) = (self.client.clone(), self.reporter.clone(), self.lane);
        self.client.env().spawner().spawn("consumer-check", async move {
            let wanted = questions
                .iter()
                .map(|(partition, (_, epoch))| (partition.clone(), *epoch))
                .collect();
            let target = Target::Broker(broker);
            let result = offsets::epoch_ends(&client, &target, lane, &wanted).await;
            let _ = reporter.send(Report::Checks(broker, questions, result)).await;
        });
    }

    fn ask_fetch(&mut self, broker: BrokerId, questions: Vec<Question>, metadata: &Metadata) {
        self.fetching.insert(broker);
        let wanted: BTreeMap<TopicPartition, Wanted> = questions
            .iter()
            .map(|question| {
                let wanted = Wanted {
                    offset: question.offset,
                    leader_epoch: metadata
                        .partition(&question.partition)
                        .and_then(|partition| partition.leader_epoch),
                    topic_id: metadata.topic_id(&question.partition.topic),
                };
                (question.partition.clone(), wanted)
            })
            .collect();
        let saying = if self.config.fetch_sessions {
            self.sessions.entry(broker).or_default().say(wanted)
        } else {
            Saying {
                session_id: 0,
                session_epoch: -1,
                named: wanted,
                forgotten: BTreeMap::new(),
                is_incremental: false,
            }
        };
        let ids = saying.named.values().map(|wanted| wanted.topic_id);
        let has_ids = ids.chain(saying.forgotten.values().copied()).all(|id| id.is_some());
        let request = self.fetch_request(&saying);
        let names: BTreeMap<TopicId, TopicName> = questions
            .iter()
            .filter_map(|question| {
                let topic = &question.partition.topic;
                Some((metadata.topic_id(topic)?, topic.clone()))
            })
            .collect();
        // From version 13 on topics go by their ids.
        let version_max = if has_ids { i16::MAX } else { 12 };
        let timeout = self.client.config().request_timeout + self.config.fetch_wait_max;
        let (client, reporter, lane) = (self.client.clone(), self.reporter.clone(), self.lane);
        self.client.env().spawner().spawn("consumer-fetch", async move {
            let target = Target::Broker(broker);
            let asking = async {
                let connection = client.connection(&target, lane).await?;
                let pinned = client.pinned::<FetchRequest>();
                let version = connection.version::<FetchRequest>(pinned, version_max)?;
                let answer = connection.ask(client.env(), &request, version, timeout).await?;
                let session_id = answer.session_id;
                Ok((session_id, read_answer(answer, version, &names)?))
            };
            let result = asking.await;
            let is_incremental = saying.is_incremental;
            let answer = Answer { broker, questions, is_incremental, result };
            let _ = reporter.send(Report::Answer(answer)).await;
        });
    }

    fn fetch_request(&self, saying: &Saying) -> FetchRequest {
        let on_wire = |id: Option<TopicId>| id.map(|id| id.0).unwrap_or_default();
        let mut topics: BTreeMap<(TopicName, Option<TopicId>), Vec<FetchPartition>> =
            BTreeMap::new();
        for (partition, wanted) in &saying.named {
            let topic = (partition.topic.clone(), wanted.topic_id);
            topics.entry(topic).or_default().push(FetchPartition {
                partition: partition.partition.0,
                current_leader_epoch: epoch_on_wire(wanted.leader_epoch),
                fetch_offset: wanted.offset.0,
                partition_max_bytes: size(self.config.partition_bytes_max),
                ..FetchPartition::default()
            });
        }
        let mut forgotten: BTreeMap<(TopicName, Option<TopicId>), Vec<i32>> = BTreeMap::new();
        for (partition, id) in &saying.forgotten {
            let topic = (partition.topic.clone(), *id);
            forgotten.entry(topic).or_default().push(partition.partition.0);
        }
        FetchRequest {
            replica_id: -1,
            max_wait_ms: millis(self.config.fetch_wait_max),
            min_bytes: size(self.config.fetch_bytes_min),
            max_bytes: size(self.config.fetch_bytes_max),
            isolation_level: self.config.isolation.on_wire(),
            rack_id: self.config.rack.as_deref().unwrap_or_default().into(),
            session_id: saying.session_id,
            session_epoch: saying.session_epoch,
            topics: topics
                .into_iter()
                .map(|((topic, id), partitions)| FetchTopic {
                    topic: topic.as_str().into(),
                    topic_id: on_wire(id),
                    partitions,
                })
                .collect(),
            forgotten_topics_data: forgotten
                .into_iter()
                .map(|((topic, id), partitions)| ForgottenTopic {
                    topic: topic.as_str().into(),
                    topic_id: on_wire(id),
                    partitions,
                })
                .collect(),
            ..FetchRequest::default()
        }
    }

    /// Takes in what a task found out.
    pub(super) fn on_report(&mut self, report: Report) -> Result<(), ClientError> {
        match report {
            Report::Metadata => self.asking_metadata = false,
            Report::Answer(answer) => return self.on_answer(answer),
            Report::GroupOffsets(questions, result) => {
                for (partition, turn) in questions {
                    let result = part_of(&result, &partition);
                    self.on_group_offset(&partition, turn, result)?;
                }
            }
            Report::Offsets(broker, questions, result) => {
                self.learn_from(broker, &result);
                for (partition, (turn, spec)) in questions {
                    let result = part_of(&result, &partition);
                    self.on_offset(&partition, turn, spec, result)?;
                }
            }
            Report::Checks(broker, questions, result) => {
                self.learn_from(broker, &result);
                for (partition, (turn, _)) in questions {
                    let result = part_of(&result, &partition);
                    self.on_check(&partition, turn, result)?;
                }
            }
        }
        Ok(())
    }

    fn learn_from<T>(&self, broker: BrokerId, result: &Result<T, ClientError>) {
        if let Err(error) = result {
            self.client.learn_from(&Target::Broker(broker), error);
        }
    }

    /// The partition, if it is still what it was when the question was asked.
    fn asked(&mut self, partition: &TopicPartition, turn: u64) -> Option<&mut Assigned> {
        let assigned =
            self.partitions.get_mut(partition).filter(|assigned| assigned.turn == turn)?;
        assigned.is_asked = false;
        Some(assigned)
    }

    fn on_group_offset(
        &mut self,
        partition: &TopicPartition,
        turn: u64,
        result: Result<Option<offsets::GroupOffset>, ClientError>,
    ) -> Result<(), ClientError> {
        let reset = self.config.reset;
        let Some(assigned) = self.asked(partition, turn) else { return Ok(()) };
        match result {
            Ok(Some(found)) => {
                let position = Position { offset: found.offset, leader_epoch: found.leader_epoch };
                assigned.found(position);
                Ok(())
            }
            Ok(None) => match spec_of(reset) {
                Some(spec) => {
                    assigned.state = State::NeedsOffset(spec);
                    assigned.tries = 0;
                    Ok(())
                }
                None => {
                    self.try_later(partition);
                    Err(ClientError::NoOffset(partition.clone()))
                }
            },
            Err(error) => self.failed(partition, error),
        }
    }

    fn on_offset(
        &mut self,
        partition: &TopicPartition,
        turn: u64,
        spec: OffsetSpec,
        result: Result<Option<FoundOffset>, ClientError>,
    ) -> Result<(), ClientError> {
        let Some(assigned) = self.asked(partition, turn) else { return Ok(()) };
        match result {
            Ok(Some(found)) => {
                let from = assigned.position.map(|position| position.offset);
                // Without a record before it there is no term to check the position by.
                assigned.found(Position { offset: found.offset, leader_epoch: None });
                let (partition, to) = (partition.clone(), found.offset);
                self.events.push(Event::Reset { partition, from, to });
                Ok(())
            }
            Ok(None) if spec != OffsetSpec::Latest => {
                assigned.state = State::NeedsOffset(OffsetSpec::Latest);
                Ok(())
            }
            Ok(None) => self.failed(partition, ClientError::code(ErrorCode::OffsetNotAvailable)),
            Err(error) => self.failed(partition, error),
        }
    }

    fn on_check(
        &mut self,
        partition: &TopicPartition,
        turn: u64,
        result: Result<Option<(LeaderEpoch, Offset)>, ClientError>,
    ) -> Result<(), ClientError> {
        let reset = self.config.reset;
        let metadata = self.client.current();
        let term = metadata.partition(partition).and_then(|known| known.leader_epoch);
        let Some(assigned) = self.asked(partition, turn) else { return Ok(()) };
        let Some(position) = assigned.position else { return Ok(()) };
        match result {
            Ok(Some((epoch, end))) if end < position.offset => {
                tracing::warn!(%partition, from = %position.offset, to = %end, "the log was cut below the position");
                if reset == ResetPolicy::None {
                    self.try_later(partition);
                    return Err(ClientError::NoOffset(partition.clone()));
                }
                assigned.found(Position { offset: end, leader_epoch: Some(epoch) });
                assigned.checked = term;
                let partition = partition.clone();
                self.events.push(Event::Reset { partition, from: Some(position.offset), to: end });
                Ok(())
            }
            Ok(_) => {
                assigned.found(position);
                assigned.checked = term;
                Ok(())
            }
            Err(error) => self.failed(partition, error),
        }
    }

    fn on_answer(&mut self, answer: Answer) -> Result<(), ClientError> {
        self.fetching.remove(&answer.broker);
        self.learn_from(answer.broker, &answer.result);
        let session = self.sessions.entry(answer.broker).or_default();
        let mut parts = match answer.result {
            Ok((session_id, parts)) => {
                session.on_answer(session_id);
                parts
            }
            Err(error) => {
                match error.error_code() {
                    Some(ErrorCode::FetchSessionIdNotFound) => session.on_gone(),
                    _ => session.on_error(),
                }
                for question in answer.questions {
                    if let Some(assigned) = self.asked(&question.partition, question.turn) {
                        assigned.sent_back_by(answer.broker);
                        self.failed(&question.partition, error.clone())?;
                    }
                }
                return Ok(());
            }
        };
        let mut result = Ok(());
        let nearest_until = self.now() + self.client.config().metadata_age_max;
        for question in answer.questions {
            let Some(assigned) = self.asked(&question.partition, question.turn) else { continue };
            let Some(part) = parts.remove(&question.partition) else {
                if answer.is_incremental {
                    assigned.tries = 0;
                    continue;
                }
                let code = ErrorCode::UnknownTopicOrPartition;
                result = result.and(self.failed(&question.partition, ClientError::code(code)));
                continue;
            };
            if let Err(error) = ClientError::check(part.error_code, None) {
                let was_nearby = assigned.sent_back_by(answer.broker);
                result = result.and(self.fetch_failed(&question, error, was_nearby));
                continue;
            }
            assigned.tries = 0;
            if part.nearest >= 0 {
                assigned.sent_to(BrokerId(part.nearest), nearest_until);
            }
            assigned.high_watermark =
                (part.high_watermark >= 0).then_some(Offset(part.high_watermark));
            if !part.records.is_empty() {
                self.fetched.push_back(Fetched {
                    partition: question.partition,
                    turn: question.turn,
                    batches: Batches::split(part.records),
                    open: None,
                    aborted: part.aborted,
                    aborting: BTreeSet::new(),
                    has_progressed: false,
                });
            }
        }
        result
    }

    fn fetch_failed(
        &mut self,
        question: &Question,
        error: ClientError,
        was_nearby: bool,
    ) -> Result<(), ClientError> {
        let partition = &question.partition;
        if error.error_code() != Some(ErrorCode::OffsetOutOfRange) {
            return self.failed(partition, error);
        }
        if was_nearby {
            // Only the leader knows what its log holds.
            self.try_later(partition);
            return Ok(());
        }
        let Some(spec) = spec_of(self.config.reset) else {
            self.try_later(partition);
            return Err(ClientError::NoOffset(partition.clone()));
        };
        tracing::info!(%partition, offset = %question.offset, "the position is outside of the log");
        if let Some(assigned) = self.partitions.get_mut(partition) {
            assigned.state = State::NeedsOffset(spec);
        }
        Ok(())
    }

    /// A question about `partition` failed: asked again later, unless that cannot help.
    fn failed(
        &mut self,
        partition: &TopicPartition,
        error: ClientError,
    ) -> Result<(), ClientError> {
        tracing::debug!(%partition, %error, "a question was not answered");
        if error.wants_metadata() {
            self.client.expect_change();
            let now = self.now();
            let topics = BTreeSet::from([partition.topic.clone()]);
            self.ask_metadata(now, topics);
        }
        self.try_later(partition);
        if !error.is_retriable() {
            return Err(error);
        }
        if let Some(assigned) = self.partitions.get_mut(partition) {
            assigned.trouble = Some(error);
        }
        Ok(())
    }

    fn try_later(&mut self, partition: &TopicPartition) {
        let now = self.now();
        if let Some(assigned) = self.partitions.get_mut(partition) {
            assigned.not_before = now + self.client.backoff(assigned.tries);
            assigned.tries = assigned.tries.saturating_add(1);
        }
    }

    /// Hands out buffered records; positions move with them.
    pub(super) fn take_records(&mut self) -> Result<Vec<ConsumerRecord>, ClientError> {
        let mut records = Vec::new();
        let mut later = VecDeque::new();
        while records.len() < self.config.poll_records_max {
            let Some(mut fetched) = self.fetched.pop_front() else { break };
            let Some(assigned) = self.partitions.get_mut(&fetched.partition) else { continue };
            if assigned.turn != fetched.turn {
                continue;
            }
            if assigned.is_paused {
                later.push_back(fetched);
                continue;
            }
            let isolation = self.config.isolation;
            let room = self.config.poll_records_max - records.len();
            match fetched.take(assigned, room, isolation, self.config.check_crc, &mut records) {
                Ok(true) => {}
                Ok(false) => self.fetched.push_front(fetched),
                Err(error) => {
                    let partition = fetched.partition.clone();
                    self.fetched.append(&mut later);
                    self.try_later(&partition);
                    if records.is_empty() {
                        return Err(error);
                    }
                    // What was read before is handed out; the next fetch meets the error again.
                    return Ok(records);
                }
            }
        }
        self.fetched.append(&mut later);
        Ok(records)
    }
}

impl Fetched {
    /// Moves up to `room` records into `records`. `true`: nothing is left.
    fn take(
        &mut self,
        assigned: &mut Assigned,
        room: usize,
        isolation: Isolation,
        check_crc: bool,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<bool, ClientError> {
        let end = records.len() + room;
        let Some(mut position) = assigned.position else { return Ok(true) };
        let bad = |partition: &TopicPartition, at: Offset, error: &record::BatchError, goes_on| {
            ClientError::BadBatch {
                partition: partition.clone(),
                reason: format!("at offset {at}: {error}"),
                goes_on,
            }
        };
        loop {
            if let Some((batch, open)) = &mut self.open {
                while records.len() < end {
                    let Some(record) = open.next() else { break };
                    let record = record.map_err(|error| {
                        bad(&self.partition, position.offset, &error, Some(batch.end_offset()))
                    })?;
                    if record.offset < position.offset {
                        continue;
                    }
                    position = Position {
                        offset: record.offset.next(),
                        leader_epoch: batch.leader_epoch(),
                    };
                    assigned.position = Some(position);
                    self.has_progressed = true;
                    records.push(ConsumerRecord {
                        partition: self.partition.clone(),
                        offset: record.offset,
                        leader_epoch: batch.leader_epoch(),
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record
                            .headers
                            .into_iter()
                            .map(|header| (header.key, header.value))
                            .collect(),
                    });
                }
                if records.len() >= end && position.offset < batch.end_offset() {
                    return Ok(false);
                }
                // A compacted batch may end after its last record.
                let after = batch.end_offset().max(position.offset);
                position = Position { offset: after, leader_epoch: batch.leader_epoch() };
                assigned.position = Some(position);
                self.has_progressed = true;
                self.open = None;
            }
            let batch = match self.batches.next() {
                None => return Ok(true),
                Some(Ok(batch)) => batch,
                // The broker cuts an answer at its byte budget.
                Some(Err(record::BatchError::Partial { .. })) if self.has_progressed => {
                    return Ok(true);
                }
                Some(Err(error)) => {
                    return Err(bad(&self.partition, position.offset, &error, None));
                }
            };
            if batch.end_offset() <= position.offset {
                self.has_progressed = true; // an answer may begin before the offset asked for
                continue;
            }
            if check_crc {
                // Its header may be what is wrong.
                batch
                    .check_crc()
                    .map_err(|error| bad(&self.partition, position.offset, &error, None))?;
            }
            let is_hidden = batch.is_control()
                || (isolation == Isolation::ReadCommitted && self.is_aborted(&batch));
            if is_hidden {
                self.on_control(&batch);
                position =
                    Position { offset: batch.end_offset(), leader_epoch: batch.leader_epoch() };
                assigned.position = Some(position);
                self.has_progressed = true;
                continue;
            }
            let open = batch.records(EXPANDED_MAX);
            self.open = Some((batch, open));
        }
    }

    /// Whether the batch belongs to an aborted transaction.
    fn is_aborted(&mut self, batch: &Batch) -> bool {
        while let Some((first, producer)) = self.aborted.front().copied() {
            if first > batch.last_offset().0 {
                break;
            }
            self.aborting.insert(producer);
            self.aborted.pop_front();
        }
        batch.is_transactional()
            && batch.producer_identity().is_some_and(|(id, _)| self.aborting.contains(&id.0))
    }

    /// A marker ends the transaction of its producer.
    fn on_control(&mut self, batch: &Batch) {
        if batch.is_control()
            && let Some((id, _)) = batch.producer_identity()
        {
            self.aborting.remove(&id.0);
        }
    }
}

fn read_answer(
    answer: FetchResponse,
    version: i16,
    names: &BTreeMap<TopicId, TopicName>,
) -> Result<BTreeMap<TopicPartition, PartitionAnswer>, ClientError> {
    ClientError::check(answer.error_code, None)?;
    let mut parts = BTreeMap::new();
    for topic in answer.responses {
        let name = if version >= 13 {
            names.get(&TopicId(topic.topic_id)).cloned()
        } else {
            Some(TopicName::from(topic.topic.as_str()))
        };
        let Some(name) = name else { continue };
        for partition in topic.partitions {
            let mut aborted: Vec<_> = partition
                .aborted_transactions
                .unwrap_or_default()
                .into_iter()
                .map(|aborted| (aborted.first_offset, aborted.producer_id))
                .collect();
            aborted.sort_unstable();
            let part = PartitionAnswer {
                error_code: partition.error_code,
                high_watermark: partition.high_watermark,
                nearest: partition.preferred_read_replica,
                records: partition.records.unwrap_or_default(),
                aborted: aborted.into(),
            };
            parts.insert(TopicPartition::new(name.clone(), partition.partition_index), part);
        }
    }
    Ok(parts)
}

/// The part of a whole result that concerns `partition`; a partition that is missing in it failed.
fn part_of<T: Clone>(
    result: &Result<offsets::PerPartition<T>, ClientError>,
    partition: &TopicPartition,
) -> Result<T, ClientError> {
    match result {
        Ok(parts) => match parts.get(partition) {
            Some(part) => part.clone(),
            None => Err(ClientError::code(ErrorCode::UnknownTopicOrPartition)),
        },
        Err(error) => Err(error.clone()),
    }
}

fn spec_of(policy: ResetPolicy) -> Option<OffsetSpec> {
    match policy {
        ResetPolicy::Earliest => Some(OffsetSpec::Earliest),
        ResetPolicy::Latest => Some(OffsetSpec::Latest),
        ResetPolicy::None => None,
    }
}

fn size(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
