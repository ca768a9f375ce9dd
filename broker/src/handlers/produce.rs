//! Produce (key 0): each partition's batch to its partition room; the answer waits for what `acks` asks for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Env};
use log::Appended;
use record::{Batch, Batches, Compression};
use types::mutant::{Mutant, planted};
use types::{ErrorCode, Instant, Offset, PartitionIndex, TopicId};
use wire::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};

use super::{INTERNAL_TOPICS, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::Refused;
use crate::partition::{Line, Partition, Produced, Signal, Wait, Waiting};
use crate::shared::{Shared, View};

/// Clients before this version cannot read zstd, and may not write it.
const ZSTD_VERSION_MIN: i16 = 7;
/// From here on topics are named by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// Where every format that ever was has its number.
const MAGIC_AT: usize = 16;
/// Kafka's admin tools may write to internal topics; they are known by this client id.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// A batch that was appended, and where its answer is.
struct Unanswered<E: Env> {
    topic: usize,
    partition: usize,
    room: Partition<E>,
    end: Offset,
    /// Its place among the partition's waiters.
    waiting: Option<Waiting<E>>,
}

/// Produce.
pub async fn produce<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ProduceRequest,
) -> Reply<ProduceResponse> {
    let acks = match request.acks {
        0 => Some(None),
        1 => Some(Some(Line::Local)),
        -1 => Some(Some(Line::Committed)),
        _ => None,
    };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let producing = Producing { ctx, view: broker.view(), acks, deadline: ctx.received + timeout };
    let mut unanswered = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (topic, data) in request.topic_data.into_iter().enumerate() {
        let response = producing.topic(topic, data, &mut unanswered).await;
        responses.push(response);
    }
    let mut response = ProduceResponse { responses, ..ProduceResponse::default() };
    let Some(acks) = acks else { return Reply::Now(response) };
    let Some(line) = acks else {
        return match first_error(&response) {
            // There is no answer to say it with.
            Some(code) => Reply::Close(format!("produce with acks=0 failed: {code}")),
            None => Reply::Silent,
        };
    };
    let signal = Signal::default();
    settle(&mut response, line, &mut unanswered, &signal);
    if unanswered.is_empty() {
        return Reply::Now(response);
    }
    let clock = broker.env().clock().clone();
    let deadline = producing.deadline;
    Reply::later(answer_when_reached(clock, deadline, response, line, unanswered, signal))
}

struct Producing<'a, E: Env> {
    ctx: &'a RequestContext,
    view: Arc<View<E>>,
    /// What its answers wait for, if there are any; `None`: nothing that makes sense.
    acks: Option<Option<Line>>,
    deadline: Instant,
}

impl<E: Env> Producing<'_, E> {
    async fn topic(
        &self,
        topic: usize,
        data: TopicProduceData,
        unanswered: &mut Vec<Unanswered<E>>,
    ) -> TopicProduceResponse {
        let mut partition_responses = Vec::with_capacity(data.partition_data.len());
        for (partition, sent) in data.partition_data.into_iter().enumerate() {
            let index = sent.index;
            let response = match self.partition(&data.name, data.topic_id, sent).await {
                Ok((room, produced)) => {
                    let end = produced.appended.last_offset.next();
                    if !(produced.appended.duplicate && planted(Mutant::DuplicateBeforeCommit)) {
                        unanswered.push(Unanswered { topic, partition, room, end, waiting: None });
                    }
                    appended(index, &produced)
                }
                Err(refused) => failed(index, refused),
            };
            partition_responses.push(response);
        }
        TopicProduceResponse { name: data.name, topic_id: data.topic_id, partition_responses }
    }

    async fn partition(
        &self,
        name: &str,
        id: types::Uuid,
        sent: PartitionProduceData,
    ) -> Result<(Partition<E>, Produced), Refused> {
        if self.acks.is_none() {
            return Err(ErrorCode::InvalidRequiredAcks.into());
        }
        let topic = if self.ctx.api_version >= TOPIC_ID_VERSION_MIN {
            self.view.topic_by_id(TopicId(id)).ok_or(ErrorCode::UnknownTopicId)?
        } else {
            self.view.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?
        };
        authorize(self.ctx, Operation::Write, Resource::Topic(topic.name.as_str()))
            .map_err(|denied| denied.code)?;
        let is_internal = INTERNAL_TOPICS.contains(&topic.name.as_str());
        if is_internal && self.ctx.client_id() != ADMIN_CLIENT_ID {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let room = topic.serving(PartitionIndex(sent.index))?;
        let produced = self.append(room, sent.records).await;
        let traffic = room.traffic();
        traffic.produces.add(1);
        if produced.is_err() {
            traffic.produces_failed.add(1);
        }
        Ok((room.clone(), produced?))
    }

    async fn append(
        &self,
        room: &Partition<E>,
        records: Option<Bytes>,
    ) -> Result<Produced, Refused> {
        let bytes = records.as_ref().map_or(0, Bytes::len);
        let batch = self.only_batch(records)?;
        let produced =
            room.produce(&batch, self.acks == Some(Some(Line::Committed)), self.deadline).await?;
        let Appended { base_offset, last_offset, duplicate, .. } = produced.appended;
        if !duplicate {
            room.traffic().records_in.add(last_offset.next().since(base_offset) as u64);
            room.traffic().bytes_in.add(bytes as u64);
        }
        Ok(produced)
    }

    /// The one batch that a partition's records must be.
    fn only_batch(&self, records: Option<Bytes>) -> Result<Batch, Refused> {
        let version = self.ctx.api_version;
        let invalid = |what: &str| {
            let words = format!("Produce requests with version {version} {what}");
            Refused::new(ErrorCode::InvalidRecord, words)
        };
        let records = records.unwrap_or_default();
        if matches!(records.get(MAGIC_AT), Some(0 | 1)) {
            return Err(invalid("are only allowed to contain record batches with magic version 2"));
        }
        let mut batches = Batches::split(records);
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => return Err(invalid("must have at least one record batch per partition")),
        };
        if batches.next().is_some() {
            let what = "are only allowed to contain exactly one record batch per partition";
            return Err(invalid(what));
        }
        if version < ZSTD_VERSION_MIN && batch.compression()? == Compression::Zstd {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        if batch.is_transactional() {
            let words = "transactions are not supported by this broker yet";
            return Err(Refused::new(ErrorCode::InvalidTxnState, words));
        }
        Ok(batch)
    }
}

fn appended(index: i32, produced: &Produced) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: produced.appended.base_offset.0,
        log_append_time_ms: produced.append_time.map_or(-1, |time| time.0),
        log_start_offset: produced.appended.log_start.0,
        ..PartitionProduceResponse::default()
    }
}

fn failed(index: i32, refused: Refused) -> PartitionProduceResponse {
    let Refused { code, message, record } = refused;
    // Kafka explains only what is wrong with records; the other codes explain themselves.
    let explained = matches!(
        code,
        ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp | ErrorCode::InvalidTxnState
    );
    let record_errors = record.map(|index| BatchIndexAndErrorMessage {
        batch_index: i32::try_from(index).unwrap_or(i32::MAX),
        batch_index_error_message: message.as_deref().map(Into::into),
    });
    PartitionProduceResponse {
        index,
        error_code: code.as_i16(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: record_errors.into_iter().collect(),
        error_message: message.filter(|_| explained).map(Into::into),
        ..PartitionProduceResponse::default()
    }
}

fn first_error(response: &ProduceResponse) -> Option<ErrorCode> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .filter_map(|partition| ErrorCode::from_i16(partition.error_code))
        .find(|code| code.is_some())
}

/// Keeps those that still wait, with their places among the waiters; a partition that is gone is answered so.
fn settle<E: Env>(
    response: &mut ProduceResponse,
    line: Line,
    unanswered: &mut Vec<Unanswered<E>>,
    signal: &Signal,
) {
    unanswered.retain_mut(|one| match one.room.wait(line, one.end, signal) {
        Ok(Wait::Over) => false,
        Ok(Wait::On(waiting)) => {
            one.waiting = Some(waiting);
            true
        }
        Err(gone) => {
            let place = &mut response.responses[one.topic].partition_responses[one.partition];
            *place = failed(place.index, gone.code.into());
            false
        }
    });
}

async fn answer_when_reached<E: Env>(
    clock: E::Clock,
    deadline: Instant,
    mut response: ProduceResponse,
    line: Line,
    mut unanswered: Vec<Unanswered<E>>,
    signal: Signal,
) -> ProduceResponse {
    let mut late = std::pin::pin!(clock.sleep_until(deadline));
    while !unanswered.is_empty() {
        tokio::select! {
            biased;
            () = signal.woken() => settle(&mut response, line, &mut unanswered, &signal),
            () = late.as_mut() => {
                // The records stay and may commit later (P8).
                for one in unanswered.drain(..) {
                    let place = &mut response.responses[one.topic].partition_responses[one.partition];
                    place.error_code = ErrorCode::RequestTimedOut.as_i16();
                }
            }
        }
    }
    response
}
