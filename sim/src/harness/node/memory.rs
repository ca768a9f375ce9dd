//! I64: what the coordinator says of its groups is what its log says.
//!
//! The log of `__consumer_offsets` is read as any client can read it and replayed by the same decisions that the
//! coordinator makes when it loads; what comes out is compared with its answers. Only a log that did not move meanwhile
//! can be compared, so the questions are asked between two looks at its ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use client::{Admin, Client, ClientError, Isolation, OffsetSpec};
use cluster::group::{
    Effect, Event, FetchOffsetsRequest, GroupSettings, Groups, Now, Response, Token,
};
use types::{GroupId, TopicName, TopicPartition};

use super::finale::Whole;
use super::{Play, partition_of};
use crate::checker::{Verdict, metrics, require};
use crate::exec::lock;
use crate::world::SimEnv;

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Log start and end by partition; only partitions that hold something.
type Ends = BTreeMap<TopicPartition, (i64, i64)>;

/// What is known of one group, from its log or from its coordinator.
#[derive(PartialEq, Debug)]
struct Known {
    /// Nothing while it rebalances: no log holds that.
    settled: Option<Settled>,
    /// Offsets and what was stored with them.
    offsets: BTreeMap<TopicPartition, (i64, String)>,
}

#[derive(PartialEq, Debug)]
struct Settled {
    state: String,
    protocol_type: String,
    protocol: String,
    /// Id, static name, client, assignment.
    members: Vec<(String, Option<String>, String, Vec<TopicPartition>)>,
}

impl Play {
    /// Judges I64.
    pub(super) async fn groups_are_their_log(&self, client: &Client<SimEnv>) -> bool {
        let admin = Admin::new(client);
        let mut last = String::new();
        // Members that have just vanished keep the log moving until their sessions end.
        for _ in 0..120 {
            match self.compare_with_log(client, &admin).await {
                Ok(true) => return self.stage.world.violated().is_none(),
                Ok(false) => "the log moves on".clone_into(&mut last),
                Err(error) => last = error.to_string(),
            }
            self.stage.world.sleep(Duration::from_millis(500)).await;
        }
        let text = format!("the groups cannot be compared with their log: {last}");
        self.stage.world.violation("L4", text);
        false
    }

    /// Whether a comparison was possible.
    async fn compare_with_log(
        &self,
        client: &Client<SimEnv>,
        admin: &Admin<SimEnv>,
    ) -> Result<bool, ClientError> {
        let before = self.ends_of_groups(admin).await?;
        let mut groups = Groups::new(GroupSettings::default());
        for (partition, (start, end)) in &before {
            let Whole::Records(records) = self.read_whole(client, partition, *start, *end).await
            else {
                return Ok(false);
            };
            for record in records {
                let key = record.key.unwrap_or_default();
                let replayed = groups.replay(&key, record.value.as_deref());
                let verdict = require("I64", replayed.is_ok(), || {
                    format!(
                        "{partition} holds at {} what is no record of a group: {replayed:?}",
                        record.offset
                    )
                });
                if !self.stage.judge(verdict) {
                    return Ok(true);
                }
            }
        }
        let mut told = BTreeMap::new();
        for group in admin.list_groups().await? {
            let known = told_of(admin, &group.id).await?;
            told.insert(group.id, known);
        }
        let Some(progress) = self.lag_is_what_clients_find(admin, &told).await? else {
            return Ok(false);
        };
        if self.ends_of_groups(admin).await? != before {
            return Ok(false);
        }
        self.stage.judge(progress);
        let in_log: BTreeSet<GroupId> = groups.names().cloned().collect();
        let names: BTreeSet<GroupId> = told.keys().cloned().collect();
        self.stage.judge(require("I64", in_log == names, || {
            format!("the log knows the groups {in_log:?}, the coordinator {names:?}")
        }));
        for (group, told) in told {
            let mut logged = known_of(&mut groups, &group);
            if told.settled.is_none() {
                logged.settled = None;
            }
            self.stage.judge(require("I64", told == logged, || {
                format!("{group}: the log says {logged:?}, the coordinator {told:?}")
            }));
        }
        self.stage.world.mark("groups compared with their log");
        Ok(true)
    }

    /// Compares what the broker says of groups' progress with what a client finds, in the topics that stay. The
    /// verdict on offsets counts if the groups' log has not moved meanwhile.
    async fn lag_is_what_clients_find(
        &self,
        admin: &Admin<SimEnv>,
        told: &BTreeMap<GroupId, Known>,
    ) -> Result<Option<Verdict>, ClientError> {
        let observer = lock(&self.shared.observer).upgrade();
        let Some(observer) = observer else { return Ok(None) };
        let partitions = self.partitions();
        let before = latest(admin, &partitions).await?;
        let snapshot = observer.snapshot().await;
        let after = latest(admin, &partitions).await?;
        if snapshot.coordinators_silent > 0 {
            return Ok(None);
        }
        let mut seen = BTreeMap::new();
        for group in &snapshot.groups {
            for of in &group.offsets {
                let partition = partition_of(of.topic.as_str(), of.partition.0);
                if let (Some(least), Some(most)) = (before.get(&partition), after.get(&partition)) {
                    let name = format!("{} in {partition}", group.id);
                    let ends = (*least, *most);
                    self.stage.judge(metrics::lag_is_exact(&name, of.offset.0, of.lag, ends));
                    if of.lag.is_some_and(|lag| lag > 0) && of.unread_since.is_some() {
                        self.dated(&partition, of.offset, of.unread_since, "unread since");
                    }
                    seen.insert((group.id.clone(), partition), of.offset.0);
                }
            }
        }
        let mut found = BTreeMap::new();
        for (group, known) in told {
            for (partition, (offset, _)) in &known.offsets {
                if before.contains_key(partition) {
                    found.insert((group.clone(), partition.clone()), *offset);
                }
            }
        }
        self.stage.world.mark("lag compared with what clients find");
        Ok(Some(require("metrics", seen == found, || {
            format!("the broker's own page has the offsets {seen:?}, clients find {found:?}")
        })))
    }

    async fn ends_of_groups(&self, admin: &Admin<SimEnv>) -> Result<Ends, ClientError> {
        let topics = admin.list_topics().await?;
        let count = topics.get(&TopicName::from(OFFSETS_TOPIC)).map_or(0, |t| t.partitions.len());
        let all = (0..count).map(|index| partition_of(OFFSETS_TOPIC, index as i32));
        let asked = |spec| all.clone().map(|p| (p, spec)).collect::<BTreeMap<_, _>>();
        let isolation = Isolation::ReadUncommitted;
        let starts = admin.list_offsets(&asked(OffsetSpec::Earliest), isolation).await?;
        let mut ends = admin.list_offsets(&asked(OffsetSpec::Latest), isolation).await?;
        let mut found = Ends::new();
        for (partition, start) in starts {
            let end = ends.remove(&partition).transpose()?.flatten();
            if let (Some(start), Some(end)) = (start?, end)
                && start.offset < end.offset
            {
                found.insert(partition, (start.offset.0, end.offset.0));
            }
        }
        Ok(found)
    }
}

/// Ends of partitions as a client finds them.
async fn latest(
    admin: &Admin<SimEnv>,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let asked = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&asked, Isolation::ReadUncommitted).await?;
    let mut found = BTreeMap::new();
    for (partition, end) in ends {
        if let Some(end) = end? {
            found.insert(partition, end.offset.0);
        }
    }
    Ok(found)
}

/// What the coordinator says.
async fn told_of(admin: &Admin<SimEnv>, group: &GroupId) -> Result<Known, ClientError> {
    let found = admin.describe_group(group).await?;
    let offsets = admin.group_offsets(group).await?;
    let offsets = offsets.into_iter().map(|(p, offset)| (p, (offset.offset.0, offset.metadata)));
    let members = found
        .members
        .into_iter()
        .map(|member| (member.id, member.instance_id, member.client_id, member.partitions));
    let settled = Settled {
        state: found.state,
        protocol_type: found.protocol_type,
        protocol: found.protocol,
        members: members.collect(),
    };
    let settled = Some(settled).filter(|settled| !settled.state.ends_with("Rebalance"));
    Ok(Known { settled, offsets: offsets.collect() })
}

/// What a replayed log says, by way of the answers it would give.
fn known_of(groups: &mut Groups, group: &GroupId) -> Known {
    let now = Now { instant: types::Instant(0), timestamp: types::Timestamp(0) };
    let mut effects = Vec::new();
    groups.step(now, Event::Describe(Token(0), group.clone()), &mut effects);
    let request = FetchOffsetsRequest { group: group.clone(), topics: None };
    groups.step(now, Event::FetchOffsets(Token(1), request), &mut effects);
    let mut known = Known { settled: None, offsets: BTreeMap::new() };
    for effect in effects {
        match effect {
            Effect::Reply { response: Response::Describe(Ok(found)), .. } => {
                let members = found.members.into_iter().map(|member| {
                    let instance = member.instance.map(|name| name.0.to_string());
                    let client = member.client_id.to_string();
                    let partitions = assigned(member.assignment);
                    (member.member.to_string(), instance, client, partitions)
                });
                known.settled = Some(Settled {
                    state: found.state.name().into(),
                    protocol_type: found.protocol_type.to_string(),
                    protocol: found.protocol.to_string(),
                    members: members.collect(),
                });
            }
            Effect::Reply { response: Response::FetchOffsets(Ok(topics)), .. } => {
                for topic in topics {
                    for (index, offset) in topic.partitions {
                        let Some(offset) = offset else { continue };
                        let partition = partition_of(topic.topic.as_str(), index.0);
                        known
                            .offsets
                            .insert(partition, (offset.offset.0, offset.metadata.to_string()));
                    }
                }
            }
            _ => {}
        }
    }
    known
}

/// Partitions of an assignment, as far as it can be read: as the admin client does.
fn assigned(bytes: Bytes) -> Vec<TopicPartition> {
    client::decode_assignment(bytes).unwrap_or_default()
}
