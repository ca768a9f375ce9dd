//! A client that asks who leads the metadata quorum: the epoch and what is committed do not go back, whatever becomes of the
//! node between (I37, I46).

use client::{Client, Target};
use types::ErrorCode;
use wire::ApiKey;
use wire::describe_quorum::{DescribeQuorumRequest, RequestPartitionData, RequestTopicData};

use super::Play;
use super::rude::any_version;
use crate::checker::require;
use crate::decisions::Decisions;
use crate::exec::lock;
use crate::world::SimEnv;

/// Epoch and end of what is committed.
type Told = (i32, i64);

impl Play {
    /// Asks, and holds the answer against those given before it was asked.
    pub(super) async fn ask_quorum(&self, client: &Client<SimEnv>, dice: &Decisions) {
        let version = any_version(ApiKey::DescribeQuorum, 0, dice);
        let partitions = vec![RequestPartitionData { partition_index: 0 }];
        let topic_name = "__cluster_metadata".into();
        let request =
            DescribeQuorumRequest { topics: vec![RequestTopicData { topic_name, partitions }] };
        let (epoch, end): Told = *lock(&self.shared.quorum);
        let answer = client.raw(Target::Any, request, Some(version)).await;
        self.stage.done(answer.is_ok(), 27);
        let Ok(answer) = answer else { return };
        if self.stage.scenario.is_beyond_promise() {
            return;
        }
        let Some(told) = answer.topics.first().and_then(|topic| topic.partitions.first()) else {
            self.stage.judge(require("I37", false, || format!("no quorum is told: {answer:?}")));
            return;
        };
        let has_voter = told.current_voters.iter().any(|voter| voter.replica_id == told.leader_id);
        let is_right = answer.error_code == ErrorCode::None.as_i16() && has_voter;
        let verdict = require("I37", is_right && told.leader_epoch >= epoch, || {
            format!("after epoch {epoch} the quorum is told to be {answer:?}")
        })
        .and_then(|()| {
            require("I46", told.high_watermark >= end, || {
                format!("{end} was committed, and now {} is", told.high_watermark)
            })
        });
        self.stage.judge(verdict);
        let mut known = lock(&self.shared.quorum);
        *known = (known.0.max(told.leader_epoch), known.1.max(told.high_watermark));
        self.stage.world.mark("quorum asked for");
    }
}
