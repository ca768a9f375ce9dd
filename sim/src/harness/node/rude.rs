//! Clients without manners, each request in a version of its own: they send batches twice, with old epochs, with control
//! records, and commit as members that have left or were replaced.

use bytes::Bytes;
use client::{Admin, Client, ClientError, Target};
use record::{Batch, BatchBuilder, BatchOptions, ProducerStamp};
use types::{
    ErrorCode, GroupId, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicName, Uuid,
};
use wire::ApiKey;
use wire::heartbeat::HeartbeatRequest;
use wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use super::{Dialect, Phase, Play, name_of, outcome_of, partition_of};
use crate::decisions::{Decisions, Kind};
use crate::exec::Node;
use crate::history::{Outcome, Sent, Span};
use crate::world::SimEnv;

const TOPIC: &str = "alpha";

/// An idempotent producer by hand.
struct Rude<'a> {
    play: &'a Play,
    client: &'a Client<SimEnv>,
    topic_id: Uuid,
    id: ProducerId,
    epoch: i16,
    sequence: i32,
    instance: u32,
    index: i32,
}

/// A version of a request that both sides can speak, any.
pub(super) fn any_version(key: ApiKey, first: i16, dice: &Decisions) -> i16 {
    let (low, high) = key.stable_versions();
    dice.between(Kind::Operation, low.max(first) as u64, high as u64) as i16
}

impl Rude<'_> {
    fn batch(&self, value: u64, epoch: i16, sequence: i32, is_control: bool) -> Batch {
        let producer = ProducerStamp {
            id: self.id,
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        };
        let options =
            BatchOptions { producer: Some(producer), is_control, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        let now = env::Clock::timestamp(env::Env::clock(self.client.env()));
        let key: Option<&[u8]> = if is_control { Some(&[0, 0, 0, 1]) } else { None };
        builder.push(Some(now), key, Some(&value.to_le_bytes()));
        builder.build()
    }

    /// One attempt: error code and base offset.
    async fn send(&self, batch: &Batch, dice: &Decisions) -> Result<(ErrorCode, i64), ClientError> {
        let version = any_version(ApiKey::Produce, 3, dice);
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 3_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC.into(),
                topic_id: self.topic_id,
                partition_data: vec![PartitionProduceData {
                    index: self.index,
                    records: Some(batch.to_bytes()),
                }],
            }],
        };
        let place = partition_of(TOPIC, self.index);
        let target = Target::Leader(place.clone());
        let answer = self.client.raw(target, request, Some(version)).await?;
        let partition =
            answer.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
        let Some(partition) = partition else {
            return Err(ClientError::code(ErrorCode::UnknownServerError));
        };
        let code =
            ErrorCode::from_i16(partition.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if code == ErrorCode::None {
            let time = Some(Timestamp(partition.log_append_time_ms)).filter(|time| time.0 >= 0);
            self.play.dated(&place, Offset(partition.base_offset), time, "acknowledged");
        }
        Ok((code, partition.base_offset))
    }

    /// Sends a new batch until it is stored, and then once more. Whether to go on.
    async fn twice(&mut self, dice: &Decisions) -> bool {
        let play = self.play;
        let value = play.next_value(0);
        let batch = self.batch(value, self.epoch, self.sequence, false);
        let name = name_of(&partition_of(TOPIC, self.index));
        let from = play.now();
        let position = play.history(|history| {
            history.sends.push(Sent {
                producer: self.instance,
                idempotent: true,
                promised: !play.is_excused(&name),
                partition: name.clone(),
                value,
                span: Span { from, to: u64::MAX },
                outcome: Outcome::Unknown,
            });
            history.sends.len() - 1
        });
        let mut first = None;
        for _ in 0..dice.between(Kind::Operation, 2, 6) {
            let answer = self.send(&batch, dice).await;
            play.stage.done(answer.is_ok(), 30);
            match (answer, first) {
                (Ok((ErrorCode::None, offset)), None) => {
                    first = Some(offset);
                    play.settle(position, Outcome::Ok(Some(offset)));
                }
                (Ok((ErrorCode::None, offset)), Some(known)) if offset == known => {
                    play.stage.world.mark("sent twice, answered twice");
                }
                (Ok((ErrorCode::None, offset)), Some(known))
                    if !play.stage.scenario.is_beyond_promise() =>
                {
                    let text = format!(
                        "{name}: a duplicate is answered with offset {offset}, the original with {known}"
                    );
                    play.stage.world.violation("I49", text);
                }
                (Ok((code, _)), Some(known))
                    if is_refusal_of_order(code) && !play.stage.scenario.is_beyond_promise() =>
                {
                    let text =
                        format!("{name}: a duplicate of offset {known} is refused with {code:?}");
                    play.stage.world.violation("I49", text);
                }
                (Ok((code, _)), None) if is_refusal_of_order(code) => return false,
                (Err(error), _) if outcome_of::<()>(&error) == Outcome::Failed => {}
                _ => {}
            }
            play.stage.think(dice, play.stage.scenario.think).await;
        }
        self.sequence += 1;
        first.is_some()
    }

    /// A batch of the epoch before must be refused once the newer one has written (I50).
    async fn as_a_zombie(&mut self, dice: &Decisions) -> bool {
        let old = (self.epoch, self.sequence);
        self.epoch += 1;
        self.sequence = 0;
        if !self.twice(dice).await {
            return false;
        }
        let batch = self.batch(self.play.next_value(0), old.0, old.1, false);
        if let Ok((ErrorCode::None, offset)) = self.send(&batch, dice).await
            && !self.play.stage.scenario.is_beyond_promise()
        {
            let text = format!(
                "a batch of epoch {} is stored at {offset} after epoch {}",
                old.0, self.epoch
            );
            self.play.stage.world.violation("I50", text);
        }
        self.play.stage.world.mark("zombie refused");
        true
    }

    /// Control records are the broker's own (I63).
    async fn as_a_broker(&self, dice: &Decisions) {
        let batch = self.batch(self.play.next_value(0), self.epoch, self.sequence, true);
        match self.send(&batch, dice).await {
            Ok((ErrorCode::None, offset)) => {
                let text = format!("a control batch of a client is stored at {offset}");
                self.play.stage.world.violation("I63", text);
            }
            Ok(_) => self.play.stage.world.mark("control batch refused"),
            Err(_) => {}
        }
    }
}

fn is_refusal_of_order(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch)
}

impl Play {
    /// One life of a rude producer.
    pub(super) async fn produce_rudely(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice, Dialect::Newest);
        let admin = Admin::new(&client);
        let topics = admin.list_topics().await;
        let topic_id = topics.ok().and_then(|topics| topics.get(&TopicName::from(TOPIC))?.id);
        let (Some(topic_id), Ok((id, epoch))) = (topic_id, admin.init_producer_id().await) else {
            self.stage.done(false, 31);
            self.stage.think(dice, self.stage.scenario.think * 10).await;
            return;
        };
        self.history(|history| history.producers.push((id.0, epoch.0)));
        let mut rude = Rude {
            play: self,
            client: &client,
            topic_id: topic_id.0,
            id,
            epoch: epoch.0,
            sequence: 0,
            instance: self.next_instance(),
            index: dice.choose(Kind::Operation, 3) as i32,
        };
        for _ in 0..dice.between(Kind::Operation, 2, 20) {
            if self.phase() != Phase::Work {
                return;
            }
            let goes_on = match dice.choose(Kind::Operation, 6) {
                0 => {
                    rude.as_a_broker(dice).await;
                    true
                }
                1 => rude.as_a_zombie(dice).await,
                _ => rude.twice(dice).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// One life of a rude member: whoever has left, or was replaced, commits no more (I69, I72).
    pub(super) async fn join_rudely(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice, Dialect::Newest);
        for round in 0..dice.between(Kind::Operation, 1, 6) {
            if self.phase() != Phase::Work {
                return;
            }
            let group = format!("rude-{node}-{}", round % 2);
            let member =
                Member { play: self, client: &client, group: GroupId::from(group.as_str()) };
            if dice.choose(Kind::Operation, 2) == 0 {
                member.leave_and_commit(dice).await;
            } else {
                member.replace_and_commit(dice).await;
            }
            self.stage.think(dice, self.stage.scenario.think * 4).await;
        }
    }
}

struct Member<'a> {
    play: &'a Play,
    client: &'a Client<SimEnv>,
    group: GroupId,
}

impl Member<'_> {
    fn target(&self) -> Target {
        Target::Group(self.group.clone())
    }

    /// Joins and syncs; member id and generation.
    async fn join(&self, instance: Option<&str>, dice: &Decisions) -> Option<(String, i32)> {
        let mut member = String::new();
        let version = any_version(ApiKey::JoinGroup, if instance.is_some() { 5 } else { 0 }, dice);
        for _ in 0..5 {
            let request = JoinGroupRequest {
                group_id: self.group.as_str().into(),
                session_timeout_ms: if self.play.stage.scenario.production {
                    10_000
                } else {
                    3_000
                },
                rebalance_timeout_ms: 5_000,
                member_id: member.as_str().into(),
                group_instance_id: instance.map(Into::into),
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                }],
                reason: None,
            };
            let answer = self.client.raw(self.target(), request, Some(version)).await;
            self.play.stage.done(answer.is_ok(), 32);
            let answer = match answer {
                Ok(answer) => answer,
                Err(_) => {
                    // The coordinator may have moved or be loading: find it again.
                    _ = Admin::new(self.client).describe_group(&self.group).await;
                    continue;
                }
            };
            match ErrorCode::from_i16(answer.error_code) {
                Some(ErrorCode::None) => {
                    let leads = answer.leader == answer.member_id;
                    let member = answer.member_id.to_string();
                    self.sync(&member, instance, answer.generation_id, leads, dice).await?;
                    return Some((member, answer.generation_id));
                }
                Some(ErrorCode::MemberIdRequired) => member = answer.member_id.to_string(),
                Some(ErrorCode::UnknownMemberId) => member.clear(),
                _ => {}
            }
            self.play.stage.think(dice, self.play.stage.scenario.think).await;
        }
        None
    }

    async fn sync(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        leads: bool,
        dice: &Decisions,
    ) -> Option<()> {
        let version = any_version(ApiKey::SyncGroup, if instance.is_some() { 3 } else { 0 }, dice);
        let own = SyncGroupRequestAssignment {
            member_id: member.into(),
            assignment: Bytes::from_static(b"all"),
        };
        let request = SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: generation,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: if leads { vec![own] } else { Vec::new() },
        };
        let answer = self.client.raw(self.target(), request, Some(version)).await.ok()?;
        (answer.error_code == 0).then_some(())
    }

    /// A commit as this member; the error code.
    async fn commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        dice: &Decisions,
    ) -> Result<ErrorCode, ClientError> {
        let version =
            any_version(ApiKey::OffsetCommit, if instance.is_some() { 7 } else { 2 }, dice).min(9);
        let request = OffsetCommitRequest {
            group_id: self.group.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 1,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let answer = self.client.raw(self.target(), request, Some(version)).await;
        self.play.stage.done(answer.is_ok(), 33);
        let code = answer?
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .map(|p| p.error_code)
            .next();
        Ok(code.and_then(ErrorCode::from_i16).unwrap_or(ErrorCode::UnknownServerError))
    }

    async fn leave_and_commit(&self, dice: &Decisions) {
        let Some((member, generation)) = self.join(None, dice).await else { return };
        _ = self.commit(&member, None, generation, dice).await;
        let version = any_version(ApiKey::LeaveGroup, 0, dice);
        let request = LeaveGroupRequest {
            group_id: self.group.as_str().into(),
            member_id: member.as_str().into(),
            members: vec![MemberIdentity {
                member_id: member.as_str().into(),
                ..MemberIdentity::default()
            }],
        };
        let Ok(answer) = self.client.raw(self.target(), request, Some(version)).await else {
            return;
        };
        if answer.error_code != 0 || answer.members.iter().any(|member| member.error_code != 0) {
            return;
        }
        if let Ok(ErrorCode::None) = self.commit(&member, None, generation, dice).await {
            let text = format!(
                "member {member} of {} left generation {generation} and committed",
                self.group
            );
            self.play.stage.world.violation("I69", text);
        }
        self.play.stage.world.mark("commit after leaving refused");
    }

    async fn replace_and_commit(&self, dice: &Decisions) {
        let instance = Some("same-name");
        let Some((old, generation)) = self.join(instance, dice).await else { return };
        _ = self.commit(&old, instance, generation, dice).await;
        let Some((new, _)) = self.join(instance, dice).await else { return };
        if new == old {
            return;
        }
        if let Ok(ErrorCode::None) = self.commit(&old, instance, generation, dice).await {
            let text = format!("{new} replaced {old} in {}, which went on to commit", self.group);
            self.play.stage.world.violation("I72", text);
        }
        // A coordinator that is loading its log accepts every heartbeat, as Kafka's does: only what it accepts again and
        // again, after it has described the group from its log, does it accept for good.
        for _ in 0..3 {
            let is_loaded = Admin::new(self.client).describe_group(&self.group).await.is_ok();
            if !is_loaded || !self.is_heartbeat_accepted(&old, instance, generation, dice).await {
                self.play.stage.world.mark("replaced member refused");
                return;
            }
        }
        let text = format!("{new} replaced {old} in {}, whose heartbeat is accepted", self.group);
        self.play.stage.world.violation("I72", text);
    }

    async fn is_heartbeat_accepted(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        dice: &Decisions,
    ) -> bool {
        let request = HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: generation,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
        };
        let version = any_version(ApiKey::Heartbeat, 3, dice);
        let answer = self.client.raw(self.target(), request, Some(version)).await;
        answer.is_ok_and(|answer| answer.error_code == 0)
    }
}
