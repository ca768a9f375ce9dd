//! ListOffsets (key 2): offsets by place (first, last) and by time.

use std::collections::BTreeSet;

use env::Env;
use types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, Str, Timestamp};
use wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};

use super::Reply;
use super::fetch::check_leader_epoch;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::partition::{Isolation, Partition};
use crate::shared::{Shared, View};

/// Timestamps that stand for a place instead.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The version that brought each of them; an earlier request may not use it.
const SINCE: [(i64, i16); 4] =
    [(MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9), (EARLIEST_PENDING_UPLOAD, 11)];

/// An offset, the timestamp of its record where one was looked for, and the leader's term there.
type Answer = (Option<Offset>, Option<Timestamp>, Option<LeaderEpoch>);

/// ListOffsets.
pub(super) async fn list_offsets<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ListOffsetsRequest,
) -> Reply<ListOffsetsResponse> {
    let view = broker.view();
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let named_twice = named_twice(&request.topics);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(list_topic(ctx, &view, isolation, topic, &named_twice).await);
    }
    Reply::Now(ListOffsetsResponse { topics, ..ListOffsetsResponse::default() })
}

/// Partitions that the request names more than once: none of their places is answered, as in Kafka.
fn named_twice(topics: &[ListOffsetsTopic]) -> BTreeSet<(Str, i32)> {
    let mut seen = BTreeSet::new();
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|asked| (topic.name.clone(), asked.partition_index))
    });
    partitions.filter(|partition| !seen.insert(partition.clone())).collect()
}

async fn list_topic<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    isolation: Isolation,
    topic: ListOffsetsTopic,
    named_twice: &BTreeSet<(Str, i32)>,
) -> ListOffsetsTopicResponse {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for asked in &topic.partitions {
        let result = match named_twice.contains(&(topic.name.clone(), asked.partition_index)) {
            true => Err(ErrorCode::InvalidRequest),
            false => list_partition(ctx, view, isolation, &topic.name, asked).await,
        };
        let none = ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
            ..ListOffsetsPartitionResponse::default()
        };
        partitions.push(match result {
            Ok((offset, timestamp, epoch)) => ListOffsetsPartitionResponse {
                offset: offset.map_or(-1, |offset| offset.0),
                timestamp: timestamp.map_or(-1, |timestamp| timestamp.0),
                // Versions before 4 cannot carry it.
                leader_epoch: epoch.filter(|_| ctx.api_version >= 4).map_or(-1, |epoch| epoch.0),
                ..none
            },
            Err(code) => ListOffsetsPartitionResponse { error_code: code.as_i16(), ..none },
        });
    }
    ListOffsetsTopicResponse { name: topic.name, partitions }
}

async fn list_partition<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    isolation: Isolation,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Answer, ErrorCode> {
    authorize(ctx, Operation::Describe, Resource::Topic(topic)).map_err(|denied| denied.code)?;
    let topic = view.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.serving(PartitionIndex(asked.partition_index))?;
    let is_too_early =
        SINCE.iter().any(|&(place, version)| place == asked.timestamp && ctx.api_version < version);
    if is_too_early {
        return Err(ErrorCode::UnsupportedVersion);
    }
    partition.check_telling().map_err(|code| match code {
        // Versions before 5 do not know it.
        ErrorCode::OffsetNotAvailable if ctx.api_version < 5 => ErrorCode::LeaderNotAvailable,
        code => code,
    })?;
    let ends = partition.ends();
    let asked_epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    check_leader_epoch(ends.leader_epoch, asked_epoch.map(LeaderEpoch))?;
    let visible = ends.visible(isolation);
    match asked.timestamp {
        LATEST => Ok((Some(visible), None, Some(ends.leader_epoch))),
        // All that is readable is on this disk.
        EARLIEST | EARLIEST_LOCAL => Ok(first(partition, ends.log_start, visible)),
        MAX_TIMESTAMP => {
            let found = partition.max_timestamp_offset(visible).await?;
            Ok(found.map_or((None, None, None), |f| {
                (Some(f.offset), Some(f.timestamp), f.leader_epoch)
            }))
        }
        // Nothing is tiered.
        LATEST_TIERED => Ok((None, None, None)),
        EARLIEST_PENDING_UPLOAD => Ok((None, None, None)),
        time if time >= 0 => {
            let found = partition.offset_for_timestamp(Timestamp(time), visible).await?;
            Ok(found.map_or((None, None, None), |f| {
                (Some(f.offset), Some(f.timestamp), f.leader_epoch)
            }))
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn first<E: Env>(partition: &Partition<E>, log_start: Offset, visible: Offset) -> Answer {
    let epoch = match log_start < visible {
        true => partition.log().epoch_at(log_start),
        false => None,
    };
    (Some(log_start), None, epoch.or_else(|| partition.log().newest_epoch()))
}
