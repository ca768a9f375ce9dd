//! `foretold topic`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use client::admin::{Admin, ConfigChange, ConfigResource, ConfigSource, NewTopic};
use client::{Client, Isolation, OffsetSpec, Topic};
use serde_json::json;
use types::{ErrorCode, TopicName, TopicPartition};

use super::output::{self, failures};
use super::{Connect, configs, verify};
use crate::exit::Failed;
use crate::world::RealEnv;

#[derive(Debug, Args)]
pub(super) struct Topics {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create topics.
    Create(Create),
    /// List topics.
    List {
        /// Show the broker's own topics too.
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, offsets and settings of topics.
    Describe {
        /// Which topics; all when none is named.
        #[arg(value_name = "TOPIC")]
        names: Vec<String>,
    },
    /// Read whole topics and tell which offsets cannot be read.
    Verify {
        /// Which topics.
        #[arg(value_name = "TOPIC", required = true)]
        names: Vec<String>,
    },
    /// Add partitions, change settings.
    Alter(Alter),
    /// Delete topics and all their records.
    Delete {
        /// Which topics.
        #[arg(value_name = "TOPIC", required = true)]
        names: Vec<String>,
        /// A topic that is not there is no error.
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Names of the topics.
    #[arg(value_name = "TOPIC", required = true)]
    names: Vec<String>,
    /// How many partitions [default: the broker's num.partitions].
    #[arg(long, short, value_name = "N")]
    partitions: Option<i32>,
    /// How many replicas [default: the broker's default.replication.factor].
    #[arg(long, short, value_name = "N")]
    replication: Option<i16>,
    /// A setting that differs from the default; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// A topic that is there already is no error.
    #[arg(long)]
    if_not_exists: bool,
    /// Check only.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Alter {
    /// Which topic.
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The new number of partitions; it can only grow.
    #[arg(long, short, value_name = "N")]
    partitions: Option<i32>,
    /// A setting to change; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A setting to take back to its default; may be repeated.
    #[arg(long = "unset", value_name = "KEY")]
    unset: Vec<String>,
}

impl Topics {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        match self.action {
            Action::Create(create) => create.run(&admin, &self.connect).await,
            Action::List { internal } => list(&admin, &self.connect, internal).await,
            Action::Describe { names } => describe(&client, &self.connect, names).await,
            Action::Verify { names } => verify::run(&client, &self.connect, names).await,
            Action::Alter(alter) => alter.run(&admin, &self.connect).await,
            Action::Delete { names, if_exists } => {
                delete(&admin, &self.connect, names, if_exists).await
            }
        }
    }
}

impl Create {
    async fn run(self, admin: &Admin<RealEnv>, connect: &Connect) -> Result<(), Failed> {
        let configs: BTreeMap<String, String> =
            self.settings.iter().map(|pair| configs::pair(pair)).collect::<Result<_, _>>()?;
        let topics: Vec<NewTopic> = self
            .names
            .iter()
            .map(|name| NewTopic {
                name: name.as_str().into(),
                partitions: self.partitions,
                replication: self.replication,
                configs: configs.clone(),
            })
            .collect();
        let results = admin
            .create_topics(&topics, self.dry_run)
            .await
            .map_err(|error| connect.explain(&error))?;
        let mut failed = Vec::new();
        let mut done = Vec::new();
        for (name, result) in &results {
            match result {
                Ok(created) => done.push(json!({
                    "topic": name.as_str(),
                    "id": created.id.map(|id| id.to_string()),
                    "partitions": created.partitions,
                })),
                Err(error)
                    if self.if_not_exists
                        && error.error_code() == Some(ErrorCode::TopicAlreadyExists) => {}
                Err(error) => failed.push((name.to_string(), error)),
            }
        }
        if connect.json {
            output::json(&json!({ "created": done }))?;
        }
        failures(failed)
    }
}

async fn list(admin: &Admin<RealEnv>, connect: &Connect, internal: bool) -> Result<(), Failed> {
    let topics = admin.list_topics().await.map_err(|error| connect.explain(&error))?;
    let shown = topics.iter().filter(|(_, topic)| internal || !topic.is_internal);
    if connect.json {
        let list: Vec<_> = shown
            .map(|(name, topic)| {
                json!({
                    "topic": name.as_str(),
                    "id": topic.id.map(|id| id.to_string()),
                    "partitions": topic.partitions.len(),
                    "replication": replication(topic),
                    "internal": topic.is_internal,
                })
            })
            .collect();
        return output::json(&list);
    }
    let rows = shown
        .map(|(name, topic)| {
            vec![
                name.to_string(),
                topic.partitions.len().to_string(),
                replication(topic).to_string(),
                topic.id.map(|id| id.to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["topic", ">partitions", ">replicas", "id"], rows)
}

fn replication(topic: &Topic) -> usize {
    topic.partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

async fn describe(
    client: &Client<RealEnv>,
    connect: &Connect,
    names: Vec<String>,
) -> Result<(), Failed> {
    let admin = Admin::new(client);
    let all = admin.list_topics().await.map_err(|error| connect.explain(&error))?;
    let mut missing = Vec::new();
    let topics: Vec<(&TopicName, &Topic)> = if names.is_empty() {
        all.iter().filter(|(_, topic)| !topic.is_internal).collect()
    } else {
        names
            .iter()
            .filter_map(|name| {
                let found = all.get_key_value(name.as_str());
                if found.is_none() {
                    missing.push(format!("{name}: there is no such topic"));
                }
                found
            })
            .collect()
    };
    let mut described = Vec::new();
    for (name, topic) in topics {
        let offsets = offsets(&admin, name, topic).await;
        let resource = ConfigResource::Topic(name.clone());
        let configs = admin.describe_configs(&resource, false).await.unwrap_or_default();
        let own: BTreeMap<String, String> = configs
            .into_iter()
            .filter(|entry| entry.source == ConfigSource::Topic)
            .map(|entry| (entry.name, entry.value.unwrap_or_default()))
            .collect();
        if connect.json {
            let partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|(index, partition)| {
                    let (start, end) = offsets.get(&index.0).copied().unwrap_or((None, None));
                    json!({
                        "partition": index.0,
                        "leader": partition.leader.map(|id| id.0),
                        "leader_epoch": partition.leader_epoch.map(|epoch| epoch.0),
                        "replicas": partition.replicas.iter().map(|id| id.0).collect::<Vec<_>>(),
                        "isr": partition.isr.iter().map(|id| id.0).collect::<Vec<_>>(),
                        "start_offset": start,
                        "end_offset": end,
                    })
                })
                .collect();
            described.push(json!({
                "topic": name.as_str(),
                "id": topic.id.map(|id| id.to_string()),
                "internal": topic.is_internal,
                "configs": own,
                "partitions": partitions,
            }));
            continue;
        }
        let id = topic.id.map(|id| format!(" id={id}")).unwrap_or_default();
        let settings: Vec<String> =
            own.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        output::write_all(format!("{name}{id}{}\n", settings.concat()).as_bytes())?;
        let rows = topic
            .partitions
            .iter()
            .map(|(index, partition)| {
                let ids = |ids: &[types::BrokerId]| {
                    ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
                };
                let (start, end) = offsets.get(&index.0).copied().unwrap_or((None, None));
                let number = |offset: Option<i64>| offset.map_or("?".to_owned(), |n| n.to_string());
                vec![
                    index.to_string(),
                    partition.leader.map_or("none".to_owned(), |id| id.to_string()),
                    partition.leader_epoch.map_or("?".to_owned(), |epoch| epoch.to_string()),
                    ids(&partition.replicas),
                    ids(&partition.isr),
                    number(start),
                    number(end),
                ]
            })
            .collect();
        let columns = [">partition", ">leader", ">epoch", "replicas", "isr", ">start", ">end"];
        output::table(&columns, rows)?;
    }
    if connect.json {
        output::json(&described)?;
    }
    if missing.is_empty() { Ok(()) } else { Err(Failed::runtime(missing.join("\n"))) }
}

/// Start and end of each partition, as far as their leaders answer.
async fn offsets(
    admin: &Admin<RealEnv>,
    name: &TopicName,
    topic: &Topic,
) -> BTreeMap<i32, (Option<i64>, Option<i64>)> {
    let mut all: BTreeMap<i32, (Option<i64>, Option<i64>)> = BTreeMap::new();
    for spec in [OffsetSpec::Earliest, OffsetSpec::Latest] {
        let wanted = topic
            .partitions
            .iter()
            .filter(|(_, partition)| partition.leader.is_some())
            .map(|(index, _)| (TopicPartition::new(name.clone(), index.0), spec))
            .collect();
        let found = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await;
        for (partition, result) in found.unwrap_or_default() {
            let entry = all.entry(partition.partition.0).or_default();
            let offset = result.ok().flatten().map(|found| found.offset.0);
            match spec {
                OffsetSpec::Earliest => entry.0 = offset,
                _ => entry.1 = offset,
            }
        }
    }
    all
}

impl Alter {
    async fn run(self, admin: &Admin<RealEnv>, connect: &Connect) -> Result<(), Failed> {
        if self.partitions.is_none() && self.set.is_empty() && self.unset.is_empty() {
            return Err(Failed::usage("nothing to alter: use --partitions, --set or --unset"));
        }
        let name = TopicName::from(self.name.as_str());
        let mut changes = Vec::new();
        for pair in &self.set {
            let (key, value) = configs::pair(pair)?;
            changes.push(ConfigChange::Set(key, value));
        }
        changes.extend(self.unset.into_iter().map(ConfigChange::Unset));
        if !changes.is_empty() {
            let resource = ConfigResource::Topic(name.clone());
            admin
                .alter_configs(&resource, &changes, false)
                .await
                .map_err(|error| connect.explain(&error))?;
        }
        if let Some(count) = self.partitions {
            let counts = BTreeMap::from([(name, count)]);
            let results = admin
                .create_partitions(&counts, false)
                .await
                .map_err(|error| connect.explain(&error))?;
            let failed = results
                .iter()
                .filter_map(|(name, result)| Some((name.to_string(), result.as_ref().err()?)));
            failures(failed)?;
        }
        if connect.json {
            output::json(&json!({
                "topic": self.name,
                "partitions": self.partitions,
                "settings": configs::changed(&changes),
            }))?;
        }
        Ok(())
    }
}

async fn delete(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    names: Vec<String>,
    if_exists: bool,
) -> Result<(), Failed> {
    let names: Vec<TopicName> = names.into_iter().map(TopicName::from).collect();
    let results = admin.delete_topics(&names).await.map_err(|error| connect.explain(&error))?;
    if connect.json {
        let deleted: Vec<_> = results
            .iter()
            .filter(|(_, result)| result.is_ok())
            .map(|(name, _)| name.as_str())
            .collect();
        output::json(&json!({ "deleted": deleted }))?;
    }
    let failed = results.iter().filter_map(|(name, result)| {
        let error = result.as_ref().err()?;
        let is_missing = error.error_code() == Some(ErrorCode::UnknownTopicOrPartition);
        (!(if_exists && is_missing)).then(|| (name.to_string(), error))
    });
    failures(failed)
}
