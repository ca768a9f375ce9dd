//! `foretold group`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use client::admin::{Admin, DescribedGroup};
use client::{ClientError, GroupOffset, Isolation, OffsetSpec};
use serde_json::json;
use types::{ErrorCode, GroupId, Offset, TopicName, TopicPartition};

use super::Connect;
use super::output::{self, failures};
use super::when::When;
use crate::exit::Failed;
use crate::world::RealEnv;

#[derive(Debug, Args)]
pub(super) struct Groups {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List groups.
    List,
    /// Show members, positions and lag of a group.
    Describe {
        /// Which group.
        group: String,
    },
    /// Move the positions of a group that has no members.
    Reset {
        /// Which group.
        group: String,
        /// A topic, or one partition of it as TOPIC:N; may be repeated [default: all the group has positions in].
        #[arg(long = "topic", value_name = "TOPIC[:N]")]
        topics: Vec<String>,
        /// Where to: earliest, latest, an offset, or a time.
        #[arg(long, value_name = "POINT")]
        to: When,
        /// Show only what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete groups that have no members, with their positions.
    Delete {
        /// Which groups.
        #[arg(value_name = "GROUP", required = true)]
        groups: Vec<String>,
    },
}

impl Groups {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        match self.action {
            Action::List => list(&admin, &self.connect).await,
            Action::Describe { group } => describe(&admin, &self.connect, group.into()).await,
            Action::Reset { group, topics, to, dry_run } => {
                reset(&admin, &self.connect, group.into(), &topics, to, dry_run).await
            }
            Action::Delete { groups } => {
                let groups: Vec<GroupId> = groups.into_iter().map(GroupId::from).collect();
                let results = admin
                    .delete_groups(&groups)
                    .await
                    .map_err(|error| self.connect.explain(&error))?;
                if self.connect.json {
                    let done = results.iter().filter(|(_, result)| result.is_ok());
                    let deleted: Vec<_> = done.map(|(group, _)| group.as_str()).collect();
                    output::json(&json!({ "deleted": deleted }))?;
                }
                failures(results.iter().filter_map(|(group, result)| {
                    Some((group.to_string(), result.as_ref().err()?))
                }))
            }
        }
    }
}

async fn list(admin: &Admin<RealEnv>, connect: &Connect) -> Result<(), Failed> {
    let groups = admin.list_groups().await.map_err(|error| connect.explain(&error))?;
    if connect.json {
        let list: Vec<_> = groups
            .iter()
            .map(|group| {
                json!({
                    "group": group.id.as_str(),
                    "state": group.state,
                    "type": group.kind,
                    "protocol": group.protocol_type,
                })
            })
            .collect();
        return output::json(&list);
    }
    let rows = groups
        .into_iter()
        .map(|group| vec![group.id.to_string(), group.state, group.kind, group.protocol_type])
        .collect();
    output::table(&["group", "state", "type", "protocol"], rows)
}

/// One line of a description: a partition the group has a position in, or a member of it reads.
struct Line {
    partition: TopicPartition,
    position: Option<Offset>,
    end: Option<Offset>,
    member: Option<String>,
    host: Option<String>,
}

impl Line {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.since(self.position?).max(0))
    }
}

async fn describe(admin: &Admin<RealEnv>, connect: &Connect, group: GroupId) -> Result<(), Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    let described = admin.describe_group(&group).await;
    let unknown = || Failed::runtime(format!("{group}: there is no such group"));
    let described = match described {
        Err(error) if error.error_code() == Some(ErrorCode::GroupIdNotFound) => {
            return Err(unknown());
        }
        other => other.map_err(explain)?,
    };
    let offsets = admin.group_offsets(&group).await.map_err(explain)?;
    if described.state == "Dead" && offsets.is_empty() {
        return Err(unknown());
    }
    let lines = lines(admin, &described, &offsets).await;
    if connect.json {
        let members: Vec<_> = described
            .members
            .iter()
            .map(|member| {
                json!({
                    "member": member.id,
                    "instance": member.instance_id,
                    "client": member.client_id,
                    "host": member.host,
                    "partitions": member.partitions.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        let positions: Vec<_> = lines
            .iter()
            .map(|line| {
                json!({
                    "topic": line.partition.topic.as_str(),
                    "partition": line.partition.partition.0,
                    "offset": line.position.map(|offset| offset.0),
                    "end_offset": line.end.map(|offset| offset.0),
                    "lag": line.lag(),
                    "member": line.member,
                })
            })
            .collect();
        return output::json(&json!({
            "group": group.as_str(),
            "state": described.state,
            "assignor": described.protocol,
            "members": members,
            "positions": positions,
        }));
    }
    let assignor = match described.protocol.as_str() {
        "" => String::new(),
        name => format!(" assignor={name}"),
    };
    let members = described.members.len();
    let state = &described.state;
    output::write_all(format!("{group} state={state} members={members}{assignor}\n").as_bytes())?;
    let number = |offset: Option<i64>| offset.map_or("-".to_owned(), |n| n.to_string());
    let rows = lines
        .into_iter()
        .map(|line| {
            vec![
                line.partition.topic.to_string(),
                line.partition.partition.to_string(),
                number(line.position.map(|offset| offset.0)),
                number(line.end.map(|offset| offset.0)),
                number(line.lag()),
                line.member.unwrap_or_else(|| "-".to_owned()),
                line.host.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    output::table(&["topic", ">partition", ">offset", ">end", ">lag", "member", "host"], rows)
}

async fn lines(
    admin: &Admin<RealEnv>,
    group: &DescribedGroup,
    offsets: &BTreeMap<TopicPartition, GroupOffset>,
) -> Vec<Line> {
    let mut lines: BTreeMap<TopicPartition, Line> = BTreeMap::new();
    let blank = |partition: &TopicPartition| Line {
        partition: partition.clone(),
        position: None,
        end: None,
        member: None,
        host: None,
    };
    for (partition, offset) in offsets {
        let line = lines.entry(partition.clone()).or_insert_with(|| blank(partition));
        line.position = Some(offset.offset);
    }
    for member in &group.members {
        for partition in &member.partitions {
            let line = lines.entry(partition.clone()).or_insert_with(|| blank(partition));
            line.member = Some(member.id.clone());
            line.host = Some(member.host.clone());
        }
    }
    let wanted = lines.keys().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    // A topic may be gone while its positions are not: then there is no end to show.
    let ends = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await.unwrap_or_default();
    for (partition, end) in ends {
        if let (Some(line), Ok(Some(found))) = (lines.get_mut(&partition), end) {
            line.end = Some(found.offset);
        }
    }
    lines.into_values().collect()
}

async fn reset(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    group: GroupId,
    topics: &[String],
    to: When,
    dry_run: bool,
) -> Result<(), Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    let present = admin.group_offsets(&group).await.map_err(explain)?;
    let partitions: Vec<TopicPartition> = if topics.is_empty() {
        present.keys().cloned().collect()
    } else {
        chosen(admin, connect, topics).await?
    };
    if partitions.is_empty() {
        return Err(Failed::runtime(format!(
            "{group} has no positions yet: name a topic with --topic"
        )));
    }
    let targets = targets(admin, connect, &partitions, to).await?;
    if !dry_run {
        let offsets = targets
            .iter()
            .map(|(partition, offset)| (partition.clone(), GroupOffset::at(*offset)))
            .collect();
        let results =
            admin.alter_group_offsets(&group, &offsets).await.map_err(|error| {
                match error.error_code() {
                    Some(ErrorCode::UnknownMemberId | ErrorCode::NonEmptyGroup) => busy(&group),
                    _ => explain(error),
                }
            })?;
        let mut failed = Vec::new();
        for (partition, result) in &results {
            if let Err(error) = result {
                if error.error_code() == Some(ErrorCode::UnknownMemberId) {
                    return Err(busy(&group));
                }
                failed.push((partition.to_string(), error));
            }
        }
        failures(failed)?;
    }
    if connect.json {
        let list: Vec<_> = targets
            .iter()
            .map(|(partition, offset)| {
                json!({
                    "topic": partition.topic.as_str(),
                    "partition": partition.partition.0,
                    "from": present.get(partition).map(|offset| offset.offset.0),
                    "to": offset.0,
                })
            })
            .collect();
        return output::json(&list);
    }
    let rows = targets
        .iter()
        .map(|(partition, offset)| {
            let from = present.get(partition).map(|offset| offset.offset.to_string());
            vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                from.unwrap_or_else(|| "-".to_owned()),
                offset.to_string(),
            ]
        })
        .collect();
    output::table(&["topic", ">partition", ">from", ">to"], rows)
}

fn busy(group: &GroupId) -> Failed {
    Failed::runtime(format!("{group} has members: stop its consumers first, then reset it"))
}

/// The partitions that `TOPIC` and `TOPIC:N` arguments name.
async fn chosen(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    topics: &[String],
) -> Result<Vec<TopicPartition>, Failed> {
    let all = admin.list_topics().await.map_err(|error| connect.explain(&error))?;
    let mut partitions = Vec::new();
    for text in topics {
        let (name, index) = match text.rsplit_once(':') {
            Some((name, index)) => {
                let bad = |_| Failed::usage(format!("--topic {text}: expected TOPIC or TOPIC:N"));
                (name, Some(index.parse::<i32>().map_err(bad)?))
            }
            None => (text.as_str(), None),
        };
        let missing = || Failed::runtime(format!("{text}: there is no such topic or partition"));
        let topic = all.get(name).ok_or_else(missing)?;
        let name = TopicName::from(name);
        let matching: Vec<_> = topic
            .partitions
            .keys()
            .filter(|partition| index.is_none_or(|index| partition.0 == index))
            .map(|partition| TopicPartition::new(name.clone(), partition.0))
            .collect();
        if matching.is_empty() {
            return Err(missing());
        }
        partitions.extend(matching);
    }
    Ok(partitions)
}

/// The offset that `to` stands for in each partition, within the log.
pub(super) async fn targets(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    partitions: &[TopicPartition],
    to: When,
) -> Result<BTreeMap<TopicPartition, Offset>, Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    let look_up = async |spec: OffsetSpec| {
        let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let found = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await?;
        found
            .into_iter()
            .map(|(partition, result)| Ok((partition, result?.map(|found| found.offset))))
            .collect::<Result<BTreeMap<_, _>, ClientError>>()
    };
    let starts = look_up(OffsetSpec::Earliest).await.map_err(explain)?;
    let ends = look_up(OffsetSpec::Latest).await.map_err(explain)?;
    let found = match to.spec() {
        Some(spec) => look_up(spec).await.map_err(explain)?,
        None => BTreeMap::new(),
    };
    let mut targets = BTreeMap::new();
    for partition in partitions {
        let start = starts.get(partition).copied().flatten().unwrap_or(Offset::ZERO);
        let end = ends.get(partition).copied().flatten().unwrap_or(start);
        let offset = match to {
            When::Offset(offset) => offset.clamp(start, end),
            // No record that young: the end.
            _ => found.get(partition).copied().flatten().unwrap_or(end),
        };
        targets.insert(partition.clone(), offset);
    }
    Ok(targets)
}
