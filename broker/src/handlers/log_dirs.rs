//! DescribeLogDirs (key 35): which logs lie in which directory of this broker, how large they are, and how much room is
//! left on the volume.
//!
//! A log's size is what its segments hold, as in Kafka: what was appended and neither deleted nor cut off, whether it has
//! reached the disk yet or not. Indexes, the journal and files that wait for their removal are not counted. The metadata
//! log is no topic, and is not told of.

use std::collections::BTreeSet;
use std::path::Path;

use env::{Disk, Env};
use log::{Log, LogDir};
use types::ErrorCode;
use wire::Str;
use wire::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::Reply;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;

/// The partitions asked for by topic and index; `None` for all.
type Asked = Option<BTreeSet<(Str, i32)>>;

/// DescribeLogDirs.
pub(super) async fn describe_log_dirs<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeLogDirsRequest,
) -> Reply<DescribeLogDirsResponse> {
    if let Err(denied) = authorize(ctx, Operation::Describe, Resource::Cluster) {
        let error_code = denied.code.as_i16();
        return Reply::Now(DescribeLogDirsResponse { error_code, ..Default::default() });
    }
    let asked: Asked = request.topics.map(|topics| {
        let pairs = topics.into_iter().flat_map(|asked| {
            let topic = asked.topic;
            asked.partitions.into_iter().map(move |index| (topic.clone(), index))
        });
        pairs.collect()
    });
    let mut results = Vec::new();
    for path in &broker.config().log_dirs {
        let opened = broker.data_dirs().iter().find(|dir| dir.path() == path);
        results.push(match opened.filter(|dir| !dir.is_offline()) {
            Some(dir) => DescribeLogDirsResult {
                is_cordoned: broker.is_cordoned(dir),
                ..describe(broker.env().disk(), dir, &asked).await
            },
            None => DescribeLogDirsResult {
                error_code: ErrorCode::KafkaStorageError.as_i16(),
                log_dir: shown(path),
                ..Default::default()
            },
        });
    }
    Reply::Now(DescribeLogDirsResponse { results, ..Default::default() })
}

async fn describe<D: Disk>(disk: &D, dir: &LogDir<D>, asked: &Asked) -> DescribeLogDirsResult {
    // A volume that does not say is no reason to hide what lies on it: both stay at -1.
    let space = disk.space(dir.path()).await.ok();
    let unknown = DescribeLogDirsResult::default();
    DescribeLogDirsResult {
        log_dir: shown(dir.path()),
        topics: topics(dir.logs(), asked),
        total_bytes: space.map_or(unknown.total_bytes, |space| signed(space.total)),
        usable_bytes: space.map_or(unknown.usable_bytes, |space| signed(space.available)),
        ..unknown
    }
}

fn shown(path: &Path) -> Str {
    Str::from(path.to_string_lossy().into_owned())
}

/// Those of `logs` that are asked for. They come sorted by topic.
fn topics<D: Disk>(logs: Vec<Log<D>>, asked: &Asked) -> Vec<DescribeLogDirsTopic> {
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for log in logs {
        let id = log.topic_partition();
        let (name, partition_index) = (Str::from(id.topic.clone()), id.partition.0);
        let key = (name, partition_index);
        if asked.as_ref().is_some_and(|asked| !asked.contains(&key)) {
            continue;
        }
        let partition = DescribeLogDirsPartition {
            partition_index,
            partition_size: signed(log.bytes_total()),
            // A log lags behind its leader's only where it moves to another directory or follows another broker.
            offset_lag: 0,
            is_future_key: false,
        };
        match topics.last_mut() {
            Some(topic) if topic.name == key.0 => topic.partitions.push(partition),
            _ => topics.push(DescribeLogDirsTopic { name: key.0, partitions: vec![partition] }),
        }
    }
    topics
}

/// As the wire has it; more than it can say is the most it can say.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
