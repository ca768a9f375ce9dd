//! DeleteRecords (key 21) and OffsetForLeaderEpoch (key 23): questions about one partition's log that are neither reads
//! nor appends.

use cluster::metadata::Resource as ConfigResource;
use env::Env;
use types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex};
use wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use super::fetch::check_leader_epoch;
use super::{INTERNAL_TOPICS, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::{Shared, View};

/// "Up to the high watermark" in DeleteRecords.
const HIGH_WATERMARK: i64 = -1;

/// DeleteRecords.
pub(super) async fn delete_records<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DeleteRecordsRequest,
) -> Reply<DeleteRecordsResponse> {
    let view = broker.view();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let result = delete_in(ctx, &view, &topic.name, asked).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: result.map_or(-1, |offset| offset.0),
                error_code: result.err().unwrap_or(ErrorCode::None).as_i16(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    Reply::Now(DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() })
}

async fn delete_in<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    authorize(ctx, Operation::Delete, Resource::Topic(topic)).map_err(|denied| denied.code)?;
    if INTERNAL_TOPICS.contains(&topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let found = view.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = found.serving(PartitionIndex(asked.partition_index))?;
    let own = view.image.config(&ConfigResource::topic(topic));
    if !view.settings.topic(&own).is_deleted {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    partition.delete_records(offset).await
}

/// OffsetForLeaderEpoch.
pub(super) async fn offset_for_leader_epoch<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: OffsetForLeaderEpochRequest,
) -> Reply<OffsetForLeaderEpochResponse> {
    let view = broker.view();
    let topics = request.topics.into_iter().map(|topic| {
        let ends = topic.partitions.iter().map(|asked| {
            let result = end_of_epoch(ctx, &view, &topic.topic, asked);
            let (epoch, end) = result.unwrap_or(None).unzip();
            EpochEndOffset {
                partition: asked.partition,
                error_code: result.err().unwrap_or(ErrorCode::None).as_i16(),
                leader_epoch: epoch.map_or(-1, |epoch: LeaderEpoch| epoch.0),
                end_offset: end.map_or(-1, |end: Offset| end.0),
            }
        });
        let partitions = ends.collect();
        OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    let topics = topics.collect();
    Reply::Now(OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() })
}

fn end_of_epoch<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    authorize(ctx, Operation::Describe, Resource::Topic(topic)).map_err(|denied| denied.code)?;
    let topic = view.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.serving(PartitionIndex(asked.partition))?;
    partition.check_serving().map_err(|gone| gone.code)?;
    let ends = partition.ends();
    let known =
        (asked.current_leader_epoch >= 0).then_some(LeaderEpoch(asked.current_leader_epoch));
    check_leader_epoch(ends.leader_epoch, known)?;
    let wanted = LeaderEpoch(asked.leader_epoch);
    if wanted == ends.leader_epoch {
        // The current term has no end yet: its end is what has been appended.
        return Ok(Some((wanted, ends.log_end)));
    }
    if wanted > ends.leader_epoch {
        return Ok(None);
    }
    Ok(partition.log().end_of_epoch(wanted))
}
