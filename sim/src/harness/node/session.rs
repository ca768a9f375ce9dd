//! Fetch sessions by hand, in the versions that know topics by name: a session means the topic that it began with (I44).

use std::collections::BTreeMap;

use client::{Client, ClientError, Target};
use wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use super::{Play, partition_of};
use crate::checker::history::i44_told_of_successor;
use crate::decisions::{Decisions, Kind};
use crate::world::SimEnv;

/// A session that reads a topic, which it knows by name, from its start.
pub(super) struct Session {
    topic: String,
    partitions: i32,
    version: i16,
    id: i32,
}

impl Play {
    /// Begins a session. Nothing if that does not succeed at once.
    pub(super) async fn open_session(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        partitions: i32,
        dice: &Decisions,
    ) -> Option<Session> {
        let version = dice.between(Kind::Operation, 7, 12) as i16;
        let mut session = Session { topic: topic.to_owned(), partitions, version, id: 0 };
        let answer = self.go_on(client, &session, 0, (0..partitions).collect()).await.ok()?;
        session.id = answer.session_id;
        let is_open = answer.error_code == 0 && session.id != 0;
        (is_open && codes(answer).values().all(|code| *code == 0)).then_some(session)
    }

    /// Goes on with a session once its topic was deleted and another one has its name.
    pub(super) async fn outlive_topic(
        &self,
        client: &Client<SimEnv>,
        session: Session,
        dice: &Decisions,
    ) {
        // A reader that has moved on names the partition again.
        let named = (0..session.partitions).filter(|_| dice.choose(Kind::Operation, 2) == 1);
        match self.go_on(client, &session, 1, named.collect()).await {
            Ok(answer) if answer.error_code == 0 && !self.stage.scenario.is_beyond_promise() => {
                self.stage.world.mark("session outlived its topic");
                self.stage.judge(i44_told_of_successor(
                    &session.topic,
                    session.partitions,
                    &codes(answer),
                ));
            }
            // Lost, or ended with the broker's process.
            _ => {}
        }
    }

    async fn go_on(
        &self,
        client: &Client<SimEnv>,
        session: &Session,
        session_epoch: i32,
        named: Vec<i32>,
    ) -> Result<FetchResponse, ClientError> {
        let from_start = |partition| FetchPartition {
            partition,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let topic = FetchTopic {
            topic: session.topic.as_str().into(),
            partitions: named.into_iter().map(from_start).collect(),
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            session_id: session.id,
            session_epoch,
            topics: Vec::from_iter((!topic.partitions.is_empty()).then_some(topic)),
            ..FetchRequest::default()
        };
        let target = Target::Leader(partition_of(&session.topic, 0));
        let answer = client.raw(target, request, Some(session.version)).await;
        self.stage.done(answer.is_ok(), 40);
        answer
    }
}

/// The error codes of the partitions that are answered.
fn codes(answer: FetchResponse) -> BTreeMap<i32, i16> {
    let parts = answer.responses.into_iter().flat_map(|topic| topic.partitions);
    parts.map(|part| (part.partition_index, part.error_code)).collect()
}
