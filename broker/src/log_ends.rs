//! How far the logs of this broker reach, told to a controller that asks for it because nobody is known to hold everything (P11).
//! Question and answer are parts of the heartbeats, as tagged fields of our own.
//!
//! A replica answers when it knows of the term that is meant and rests in it: what it tells then stays as it is until another
//! term begins. One that is not as far yet is asked again with every heartbeat; one whose directory has failed never answers.

use std::time::Duration;

use cluster::controller::{LOG_ENDS_MAX, LogEndAnswer, LogEndQuestion};
use env::{Clock, Env};
use types::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use wire::broker_heartbeat;

use crate::shared::{Shared, View};

/// Pause before a replica is looked at again that was not at rest.
const PAUSE: Duration = Duration::from_millis(50);

/// What can be told of what was asked.
pub(crate) fn answers<E: Env>(broker: &Shared<E>, asked: &[LogEndQuestion]) -> Vec<LogEndAnswer> {
    let view = broker.view();
    asked.iter().filter_map(|asked| answer(broker, &view, asked)).take(LOG_ENDS_MAX).collect()
}

fn answer<E: Env>(
    broker: &Shared<E>,
    view: &View<E>,
    asked: &LogEndQuestion,
) -> Option<LogEndAnswer> {
    let LogEndQuestion { topic, index, leader_epoch } = *asked;
    let Some(replica) = view.topic_by_id(topic)?.following(index) else {
        return empty(broker, view, asked);
    };
    let (leader_epoch, end, high_watermark) = replica.rests(leader_epoch)?;
    let (last_epoch, log_end) = (end.epoch, end.offset);
    Some(LogEndAnswer { topic, index, leader_epoch, last_epoch, log_end, high_watermark })
}

/// What a replica tells that has no log, though its directory works: there was no space to create it.
fn empty<E: Env>(
    broker: &Shared<E>,
    view: &View<E>,
    asked: &LogEndQuestion,
) -> Option<LogEndAnswer> {
    let LogEndQuestion { topic, index, .. } = *asked;
    let (known, own) = (view.image.topic_by_id(topic)?, broker.broker_id());
    let registered = known.partitions.get(&index)?;
    let home = registered.directory_of(own)?;
    let id = TopicPartition { topic: known.name.clone(), partition: index };
    let dirs = broker.data_dirs();
    let has_home = dirs.iter().any(|dir| dir.id() == home && !dir.is_offline());
    let has_log = dirs.iter().any(|dir| dir.log(&id).is_some());
    let is_known = registered.leader.is_none() && registered.leader_epoch >= asked.leader_epoch;
    (has_home && !has_log && is_known).then_some(LogEndAnswer {
        topic,
        index,
        leader_epoch: registered.leader_epoch,
        last_epoch: None,
        log_end: Offset::ZERO,
        high_watermark: Offset::ZERO,
    })
}

/// Completes when something of it can be told, and not at once if it `is_again`; never, if nothing was asked.
pub(crate) async fn answerable<E: Env>(
    broker: &Shared<E>,
    asked: &[LogEndQuestion],
    is_again: bool,
) {
    if asked.is_empty() {
        return std::future::pending().await;
    }
    if is_again {
        broker.env().clock().sleep(PAUSE).await;
    }
    while answers(broker, asked).is_empty() {
        broker.env().clock().sleep(PAUSE).await;
    }
}

/// Questions, as they are written.
pub(crate) fn write_questions(asked: &[LogEndQuestion]) -> Vec<broker_heartbeat::LogEndQuestion> {
    let write = |asked: &LogEndQuestion| broker_heartbeat::LogEndQuestion {
        topic_id: asked.topic.0,
        partition_index: asked.index.0,
        leader_epoch: asked.leader_epoch.0,
    };
    asked.iter().map(write).collect()
}

/// Questions, as they were written.
pub(crate) fn read_questions(asked: &[broker_heartbeat::LogEndQuestion]) -> Vec<LogEndQuestion> {
    let read = |asked: &broker_heartbeat::LogEndQuestion| LogEndQuestion {
        topic: TopicId(asked.topic_id),
        index: PartitionIndex(asked.partition_index),
        leader_epoch: LeaderEpoch(asked.leader_epoch),
    };
    asked.iter().take(LOG_ENDS_MAX).map(read).collect()
}

/// Answers, as they are written.
pub(crate) fn write_answers(told: &[LogEndAnswer]) -> Vec<broker_heartbeat::LogEndAnswer> {
    let write = |told: &LogEndAnswer| broker_heartbeat::LogEndAnswer {
        topic_id: told.topic.0,
        partition_index: told.index.0,
        leader_epoch: told.leader_epoch.0,
        last_epoch: told.last_epoch.map_or(-1, |epoch| epoch.0),
        log_end: told.log_end.0,
        high_watermark: told.high_watermark.0,
    };
    told.iter().map(write).collect()
}

/// Answers, as they were written. More than anybody is asked for at once are not read.
pub(crate) fn read_answers(told: &[broker_heartbeat::LogEndAnswer]) -> Vec<LogEndAnswer> {
    let read = |told: &broker_heartbeat::LogEndAnswer| LogEndAnswer {
        topic: TopicId(told.topic_id),
        index: PartitionIndex(told.partition_index),
        leader_epoch: LeaderEpoch(told.leader_epoch),
        last_epoch: (told.last_epoch >= 0).then_some(LeaderEpoch(told.last_epoch)),
        log_end: Offset(told.log_end),
        high_watermark: Offset(told.high_watermark),
    };
    told.iter().take(LOG_ENDS_MAX).map(read).collect()
}
