//! A client that asks for elections and moves where there is one replica: nothing is elected, nothing moves, and no term ends
//! by it (I30, I34).

use client::{Client, Target};
use types::ErrorCode;
use wire::ApiKey;
use wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use wire::list_partition_reassignments::ListPartitionReassignmentsRequest;

use super::Play;
use super::rude::any_version;
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::world::SimEnv;

/// Node id of the broker.
const ID: i32 = 0;

impl Play {
    /// Asks for an election and a move of the first partition of `topic`, which may be gone.
    pub(super) async fn ask_replicas(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        dice: &Decisions,
    ) {
        let version = any_version(ApiKey::ElectLeaders, 0, dice);
        let is_unclean = version >= 1 && dice.choose(Kind::Operation, 2) == 1;
        let partitions = TopicPartitions { topic: topic.into(), partitions: vec![0] };
        let request = ElectLeadersRequest {
            election_type: i8::from(is_unclean),
            topic_partitions: Some(vec![partitions]),
            timeout_ms: 1000,
        };
        let elected = client.raw(Target::Controller, request, Some(version)).await;
        self.stage.done(elected.is_ok(), 28);
        let to = dice.choose(Kind::Operation, 2) as i32;
        let partition = ReassignablePartition { partition_index: 0, replicas: Some(vec![to]) };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic { name: topic.into(), partitions: vec![partition] }],
            ..Default::default()
        };
        let moved = client.raw(Target::Controller, request, Some(1)).await;
        self.stage.done(moved.is_ok(), 29);
        let listed = ListPartitionReassignmentsRequest::default();
        let listed = client.raw(Target::Any, listed, Some(0)).await;
        if self.stage.scenario.is_beyond_promise() {
            return;
        }
        if let Ok(elected) = elected {
            let told = elected.replica_election_results.iter();
            let told: Vec<i16> = told
                .flat_map(|topic| &topic.partition_result)
                .map(|told| told.error_code)
                .collect();
            self.stage.judge(require("I30", !told.contains(&0), || {
                format!("{topic}: a leader was elected where nobody else could lead: {elected:?}")
            }));
        }
        if let Ok(moved) = moved {
            let done = moved.responses.iter().flat_map(|topic| &topic.partitions);
            let is_right = done.into_iter().all(|told| told.error_code != 0 || to == ID);
            self.stage.judge(require("I34", is_right, || {
                format!("{topic}: moves to {to}, where nobody is: {moved:?}")
            }));
        }
        if let Ok(listed) = listed {
            let is_right =
                listed.error_code != ErrorCode::None.as_i16() || listed.topics.is_empty();
            self.stage.judge(require("I34", is_right, || {
                format!("what cannot move is told to: {listed:?}")
            }));
            self.stage.world.mark("elections and moves asked for");
        }
    }
}
