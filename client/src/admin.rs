//! The admin: topics, partitions, settings, groups, the cluster itself.
//!
//! Questions are repeated until they are answered or the operation's time is up. Changes are repeated only while it is
//! certain that they did not happen; where an answer got lost the caller is told so ([`ClientError::certainty`]), since a
//! second attempt could meet the work of the first or of somebody else.
//! Results come per item: one bad topic does not hide what became of the others.

mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use env::{Clock, Env};
use types::{
    BrokerId, ErrorCode, GroupId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId,
    TopicName, TopicPartition,
};

use crate::cluster::{Client, Lane, Target};
use crate::consumer::decode_assignment;
use crate::error::{Certainty, ClientError};
use crate::metadata::{Metadata, Topic};
use crate::offsets::{
    self, Committer, FoundOffset, GroupOffset, Isolation, OffsetSpec, PerPartition, millis,
};

pub use replicas::{DescribedQuorum, Election, Move, QuorumReplica};

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; the broker's default when absent.
    pub partitions: Option<i32>,
    /// How many replicas; the broker's default when absent.
    pub replication: Option<i16>,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<TopicName>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: None,
            replication: None,
            configs: BTreeMap::new(),
        }
    }
}

/// A topic that was created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Its identity, if told.
    pub id: Option<TopicId>,
    /// How many partitions it got, if told.
    pub partitions: Option<i32>,
}

/// What settings belong to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigResource {
    /// A topic.
    Topic(TopicName),
    /// One broker.
    Broker(BrokerId),
    /// All brokers that say nothing else.
    BrokerDefaults,
    /// A group.
    Group(GroupId),
    /// A subscription to client metrics, by its name.
    ClientMetrics(String),
}

impl ConfigResource {
    fn on_wire(&self) -> (i8, String) {
        match self {
            ConfigResource::Topic(name) => (2, name.to_string()),
            ConfigResource::Broker(id) => (4, id.to_string()),
            ConfigResource::BrokerDefaults => (4, String::new()),
            ConfigResource::Group(id) => (32, id.to_string()),
            ConfigResource::ClientMetrics(name) => (16, name.clone()),
        }
    }

    /// Settings of one broker are asked of that broker.
    fn target(&self) -> Target {
        match self {
            ConfigResource::Broker(id) => Target::Broker(*id),
            _ => Target::Any,
        }
    }
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic,
    /// Set for this group.
    Group,
    /// Set for this subscription to client metrics.
    ClientMetrics,
    /// Set at run time for this broker.
    Broker,
    /// Set at run time for all brokers.
    Cluster,
    /// Given in the broker's file or on its command line.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Something else, by its number on the wire.
    Other(i8),
}

impl ConfigSource {
    fn from_wire(source: i8) -> ConfigSource {
        match source {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::Cluster,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            other => ConfigSource::Other(other),
        }
    }

    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "topic",
            ConfigSource::Group => "group",
            ConfigSource::ClientMetrics => "client-metrics",
            ConfigSource::Broker => "broker",
            ConfigSource::Cluster => "cluster",
            ConfigSource::StaticBroker => "static",
            ConfigSource::Default => "default",
            ConfigSource::Other(_) => "other",
        }
    }
}

/// One setting and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; hidden when it is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can be changed only in the broker's file.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// What it does, if that was asked for.
    pub documentation: Option<String>,
}

/// A change of one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// Gives it a value.
    Set(String, String),
    /// Takes its value away: the default counts again.
    Unset(String),
    /// Adds to a list.
    Append(String, String),
    /// Removes from a list.
    Subtract(String, String),
}

/// A group as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    /// Its name.
    pub id: GroupId,
    /// What its members have in common: `consumer`, or empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// Its state, such as `Stable`.
    pub state: String,
    /// Its type, such as `classic`.
    pub kind: String,
}

/// A group as described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    /// Its name.
    pub id: GroupId,
    /// Its state, such as `Stable`.
    pub state: String,
    /// What its members have in common.
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a described group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    /// Its id.
    pub id: String,
    /// The name of a static member.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its client runs.
    pub host: String,
    /// What it was given, as far as that can be read.
    pub partitions: Vec<TopicPartition>,
}

/// The cluster as described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedCluster {
    /// Its id.
    pub id: String,
    /// The broker that takes admin requests.
    pub controller: Option<BrokerId>,
    /// Brokers with host, port and rack.
    pub brokers: BTreeMap<BrokerId, (String, u16, Option<String>)>,
}

/// A log directory of a broker as described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedLogDir {
    /// Where it is on that broker's machine.
    pub path: String,
    /// Why nothing is known of it, if so; `KafkaStorageError` when it is offline.
    pub error: Option<ErrorCode>,
    /// Size in bytes of each log in it.
    pub logs: BTreeMap<TopicPartition, u64>,
    /// Size in bytes of the volume that holds it, if told.
    pub bytes_total: Option<u64>,
    /// What is left of that in bytes, if told.
    pub bytes_usable: Option<u64>,
}

/// Results per item.
pub type PerItem<K, T> = BTreeMap<K, Result<T, ClientError>>;

/// Asks for changes of a cluster and for its state.
#[derive(Clone, Debug)]
pub struct Admin<E: Env> {
    client: Client<E>,
}

impl<E: Env> Admin<E> {
    /// An admin of the client's cluster.
    pub fn new(client: &Client<E>) -> Admin<E> {
        Admin { client: client.clone() }
    }

    /// A change: repeated only while it certainly did not happen.
    async fn change<T, F>(
        &self,
        target: &Target,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        let clock = self.client.env().clock();
        let deadline = clock.now() + self.client.config().operation_timeout;
        let mut tries = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.client.learn_from(target, &error);
            let pause = self.client.backoff(tries);
            tries += 1;
            let certain = error.certainty() == Certainty::DidNotHappen;
            if !certain || !error.is_retriable() || clock.now() + pause >= deadline {
                return Err(error);
            }
            clock.sleep(pause).await;
        }
    }

    /// Time given to the broker and, with a margin, to its answer.
    fn times(&self) -> (i32, Duration) {
        let timeout = self.client.config().request_timeout;
        (millis(timeout), timeout + Duration::from_secs(1))
    }

    /// Creates topics. `validate_only` checks and changes nothing.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<PerItem<TopicName, CreatedTopic>, ClientError> {
        use wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
        let (timeout_ms, timeout) = self.times();
        let request = CreateTopicsRequest {
            topics: topics
                .iter()
                .map(|topic| CreatableTopic {
                    name: topic.name.as_str().into(),
                    num_partitions: topic.partitions.unwrap_or(-1),
                    replication_factor: topic.replication.unwrap_or(-1),
                    assignments: Vec::new(),
                    configs: topic
                        .configs
                        .iter()
                        .map(|(name, value)| CreatableTopicConfig {
                            name: name.as_str().into(),
                            value: Some(value.as_str().into()),
                        })
                        .collect(),
                })
                .collect(),
            timeout_ms,
            validate_only,
        };
        let target = Target::Controller;
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        self.client.expect_change();
        let results = answer.topics.into_iter().map(|topic| {
            let result = ClientError::check(topic.error_code, topic.error_message.as_deref());
            let created = CreatedTopic {
                id: Some(TopicId(topic.topic_id)).filter(|id| !id.0.is_zero()),
                partitions: (topic.num_partitions >= 0).then_some(topic.num_partitions),
            };
            (TopicName::from(topic.name.as_str()), result.map(|()| created))
        });
        Ok(results.collect())
    }

    /// Deletes topics by name.
    pub async fn delete_topics(
        &self,
        topics: &[TopicName],
    ) -> Result<PerItem<TopicName, ()>, ClientError> {
        use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
        let (timeout_ms, timeout) = self.times();
        let target = Target::Controller;
        let attempt = || async {
            let connection = self.client.connection(&target, Lane::MAIN).await?;
            let pinned = self.client.pinned::<DeleteTopicsRequest>();
            let version = connection.version::<DeleteTopicsRequest>(pinned, i16::MAX)?;
            let mut request = DeleteTopicsRequest { timeout_ms, ..DeleteTopicsRequest::default() };
            if version >= 6 {
                request.topics = topics
                    .iter()
                    .map(|name| DeleteTopicState {
                        name: Some(name.as_str().into()),
                        ..DeleteTopicState::default()
                    })
                    .collect();
            } else {
                request.topic_names = topics.iter().map(|name| name.as_str().into()).collect();
            }
            connection.ask(self.client.env(), &request, version, timeout).await
        };
        let answer = self.change(&target, attempt).await?;
        self.client.expect_change();
        let results = answer.responses.into_iter().filter_map(|topic| {
            let result = ClientError::check(topic.error_code, topic.error_message.as_deref());
            Some((TopicName::from(topic.name?.as_str()), result))
        });
        Ok(results.collect())
    }

    /// Raises the number of partitions of topics.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<TopicName, i32>,
        validate_only: bool,
    ) -> Result<PerItem<TopicName, ()>, ClientError> {
        use wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
        let (timeout_ms, timeout) = self.times();
        let request = CreatePartitionsRequest {
            topics: counts
                .iter()
                .map(|(name, count)| CreatePartitionsTopic {
                    name: name.as_str().into(),
                    count: *count,
                    assignments: None,
                })
                .collect(),
            timeout_ms,
            validate_only,
        };
        let target = Target::Controller;
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        self.client.expect_change();
        let results = answer.results.into_iter().map(|topic| {
            let result = ClientError::check(topic.error_code, topic.error_message.as_deref());
            (TopicName::from(topic.name.as_str()), result)
        });
        Ok(results.collect())
    }

    /// All topics of the cluster.
    pub async fn list_topics(&self) -> Result<BTreeMap<TopicName, Topic>, ClientError> {
        let metadata = self.client.retrying(&Target::Any, || self.client.refresh(None)).await?;
        Ok(metadata.topics.clone())
    }

    /// Topics by name. Asking does not create them.
    pub async fn describe_topics(
        &self,
        topics: &[TopicName],
    ) -> Result<PerItem<TopicName, Topic>, ClientError> {
        // All topics are asked for: a question by name could create one.
        let all = self.list_topics().await?;
        let unknown = || ClientError::code(ErrorCode::UnknownTopicOrPartition);
        let describe = |name: &TopicName| match all.get(name) {
            Some(Topic { error: Some(code), .. }) => Err(ClientError::code(*code)),
            Some(topic) => Ok(topic.clone()),
            None => Err(unknown()),
        };
        Ok(topics.iter().map(|name| (name.clone(), describe(name))).collect())
    }

    /// The settings of a topic, broker or group.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
        with_documentation: bool,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        use wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
        let (kind, name) = resource.on_wire();
        let (_, timeout) = self.times();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.as_str().into(),
                configuration_keys: None,
            }],
            include_synonyms: false,
            include_documentation: with_documentation,
        };
        let target = resource.target();
        let answer = self
            .client
            .retrying(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        for result in &answer.results {
            // A topic that is not there is worth no retry: whoever asks wants to know.
            ClientError::check(result.error_code, result.error_message.as_deref())?;
        }
        let entries = answer.results.into_iter().flat_map(|result| result.configs);
        Ok(entries
            .map(|entry| ConfigEntry {
                name: entry.name.to_string(),
                value: entry.value.map(|value| value.to_string()),
                source: ConfigSource::from_wire(entry.config_source),
                is_read_only: entry.read_only,
                is_sensitive: entry.is_sensitive,
                documentation: entry.documentation.map(|text| text.to_string()),
            })
            .collect())
    }

    /// Changes settings of a topic, broker or group: all of them, or none.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        use wire::incremental_alter_configs::{
            AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        };
        let (kind, name) = resource.on_wire();
        let (_, timeout) = self.times();
        let configs = changes.iter().map(|change| {
            let (operation, name, value) = match change {
                ConfigChange::Set(name, value) => (0, name, Some(value)),
                ConfigChange::Unset(name) => (1, name, None),
                ConfigChange::Append(name, value) => (2, name, Some(value)),
                ConfigChange::Subtract(name, value) => (3, name, Some(value)),
            };
            AlterableConfig {
                name: name.as_str().into(),
                config_operation: operation,
                value: value.map(|value| value.as_str().into()),
            }
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: name.as_str().into(),
                configs: configs.collect(),
            }],
            validate_only,
        };
        let target = resource.target();
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        for result in answer.responses {
            ClientError::check(result.error_code, result.error_message.as_deref())?;
        }
        Ok(())
    }

    /// All groups, asked of every broker.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        use wire::list_groups::ListGroupsRequest;
        let (_, timeout) = self.times();
        let metadata =
            self.client.retrying(&Target::Any, || self.client.refresh(Some(&[]))).await?;
        let mut groups = Vec::new();
        for broker in metadata.brokers.keys() {
            let target = Target::Broker(*broker);
            let request = ListGroupsRequest::default();
            let answer = self
                .client
                .retrying(&target, || async {
                    let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                    let answer = asking.await?;
                    ClientError::check(answer.error_code, None)?;
                    Ok(answer)
                })
                .await?;
            groups.extend(answer.groups.into_iter().map(|group| ListedGroup {
                id: group.group_id.as_str().into(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
                kind: group.group_type.to_string(),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    /// A group's state and members. A group nobody knows is `Dead`, or an error, as the broker has it.
    pub async fn describe_group(&self, group: &GroupId) -> Result<DescribedGroup, ClientError> {
        use wire::describe_groups::DescribeGroupsRequest;
        let (_, timeout) = self.times();
        let request = DescribeGroupsRequest {
            groups: vec![group.as_str().into()],
            include_authorized_operations: false,
        };
        let target = Target::Group(group.clone());
        self.client
            .retrying(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let found = asking.await?.groups.into_iter().next();
                let Some(found) = found else {
                    return Err(ClientError::code(ErrorCode::GroupIdNotFound));
                };
                ClientError::check(found.error_code, found.error_message.as_deref())?;
                let members = found.members.into_iter().map(|member| DescribedMember {
                    id: member.member_id.to_string(),
                    instance_id: member.group_instance_id.map(|id| id.to_string()),
                    client_id: member.client_id.to_string(),
                    host: member.client_host.to_string(),
                    partitions: decode_assignment(member.member_assignment).unwrap_or_default(),
                });
                Ok(DescribedGroup {
                    id: group.clone(),
                    state: found.group_state.to_string(),
                    protocol_type: found.protocol_type.to_string(),
                    protocol: found.protocol_data.to_string(),
                    members: members.collect(),
                })
            })
            .await
    }

    /// Deletes groups that have no members.
    pub async fn delete_groups(
        &self,
        groups: &[GroupId],
    ) -> Result<PerItem<GroupId, ()>, ClientError> {
        use wire::delete_groups::DeleteGroupsRequest;
        let (_, timeout) = self.times();
        let mut results = BTreeMap::new();
        for group in groups {
            let target = Target::Group(group.clone());
            let request = DeleteGroupsRequest { groups_names: vec![group.as_str().into()] };
            let result = self
                .change(&target, || async {
                    let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                    let answer = asking.await?;
                    for result in answer.results {
                        let message = result.error_message.as_deref();
                        ClientError::check(result.error_code, message)?;
                    }
                    Ok(())
                })
                .await;
            results.insert(group.clone(), result);
        }
        Ok(results)
    }

    /// All stored positions of a group.
    pub async fn group_offsets(
        &self,
        group: &GroupId,
    ) -> Result<BTreeMap<TopicPartition, GroupOffset>, ClientError> {
        let target = Target::Group(group.clone());
        self.client
            .retrying(&target, || async {
                let found =
                    offsets::fetch_group(&self.client, group, Lane::MAIN, None, false).await?;
                let mut known = BTreeMap::new();
                for (partition, result) in found {
                    if let Some(offset) = result? {
                        known.insert(partition, offset);
                    }
                }
                Ok(known)
            })
            .await
    }

    /// Moves the stored positions of a group that has no members.
    pub async fn alter_group_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, GroupOffset>,
    ) -> Result<PerPartition<()>, ClientError> {
        let target = Target::Group(group.clone());
        let committer = Committer::default();
        self.change(&target, || async {
            offsets::commit_group(&self.client, group, Lane::MAIN, &committer, offsets).await
        })
        .await
    }

    /// Forgets stored positions of a group.
    pub async fn delete_group_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<PerPartition<()>, ClientError> {
        use wire::offset_delete::{
            OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
        };
        let (_, timeout) = self.times();
        let topics = offsets::by_topic(partitions.iter().map(|partition| (partition, ())));
        let request = OffsetDeleteRequest {
            group_id: group.as_str().into(),
            topics: topics
                .into_iter()
                .map(|(topic, partitions)| OffsetDeleteRequestTopic {
                    name: topic.as_str().into(),
                    partitions: partitions
                        .into_iter()
                        .map(|(index, ())| OffsetDeleteRequestPartition { partition_index: index })
                        .collect(),
                })
                .collect(),
        };
        let target = Target::Group(group.clone());
        let answer = self
            .change(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let answer = asking.await?;
                ClientError::check(answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
        let mut results = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let result = ClientError::check(partition.error_code, None);
                let partition = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                results.insert(partition, result);
            }
        }
        Ok(results)
    }

    /// Deletes records below the given offsets (`None`: all there are); returns the new log starts.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Option<Offset>>,
    ) -> Result<PerPartition<Offset>, ClientError> {
        use wire::delete_records::{
            DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
        };
        let (timeout_ms, timeout) = self.times();
        let mut results = BTreeMap::new();
        for (partition, offset) in before {
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: partition.topic.as_str().into(),
                    partitions: vec![DeleteRecordsPartition {
                        partition_index: partition.partition.0,
                        offset: offset.map_or(-1, |offset| offset.0),
                    }],
                }],
                timeout_ms,
            };
            let target = Target::Leader(partition.clone());
            let result = self
                .change(&target, || async {
                    let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                    let topics = asking.await?.topics;
                    let answer = topics.into_iter().flat_map(|topic| topic.partitions).next();
                    let Some(answer) = answer else {
                        return Err(ClientError::code(ErrorCode::UnknownTopicOrPartition));
                    };
                    ClientError::check(answer.error_code, None)?;
                    Ok(Offset(answer.low_watermark))
                })
                .await;
            results.insert(partition.clone(), result);
        }
        Ok(results)
    }

    /// Offsets of logs, each asked of its leader. `None`: no record is that young.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: Isolation,
    ) -> Result<PerPartition<Option<FoundOffset>>, ClientError> {
        let mut results: PerPartition<Option<FoundOffset>> = BTreeMap::new();
        let clock = self.client.env().clock();
        let deadline = clock.now() + self.client.config().operation_timeout;
        let mut open = wanted.clone();
        let mut tries = 0;
        while !open.is_empty() {
            for (target, part) in self.by_leader(&open, &mut results).await {
                let found =
                    offsets::list(&self.client, &target, Lane::MAIN, &part, isolation).await;
                if let Err(error) = &found {
                    self.client.learn_from(&target, error);
                }
                for partition in part.keys() {
                    let missing = || Err(ClientError::code(ErrorCode::UnknownTopicOrPartition));
                    let result = match &found {
                        Ok(found) => found.get(partition).cloned().unwrap_or_else(missing),
                        Err(error) => Err(error.clone()),
                    };
                    results.insert(partition.clone(), result);
                }
            }
            open.retain(|partition, _| {
                results
                    .get(partition)
                    .is_none_or(|r| r.as_ref().is_err_and(ClientError::is_retriable))
            });
            let pause = self.client.backoff(tries);
            tries += 1;
            if open.is_empty() || clock.now() + pause >= deadline {
                break;
            }
            self.client.expect_change();
            clock.sleep(pause).await;
        }
        Ok(results)
    }

    /// Groups partitions by leader; those without one get an error in `results`.
    async fn by_leader(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        results: &mut PerPartition<Option<FoundOffset>>,
    ) -> Vec<(Target, BTreeMap<TopicPartition, OffsetSpec>)> {
        let mut leaders: BTreeMap<BrokerId, BTreeMap<TopicPartition, OffsetSpec>> = BTreeMap::new();
        // One question for all: asked for each, a thousand without a leader would take a thousand refreshes.
        let topics: BTreeSet<&TopicName> =
            wanted.keys().map(|partition| &partition.topic).collect();
        let topics: Vec<TopicName> = topics.into_iter().cloned().collect();
        let metadata = match self.client.metadata(&topics).await {
            Ok(metadata) => metadata,
            Err(error) => {
                results.extend(wanted.keys().map(|p| (p.clone(), Err(error.clone()))));
                return Vec::new();
            }
        };
        let mut is_missing = false;
        for (partition, spec) in wanted {
            match metadata.leader(partition) {
                Some(leader) => {
                    leaders.entry(leader).or_default().insert(partition.clone(), *spec);
                }
                None => {
                    is_missing = true;
                    results.insert(partition.clone(), Err(metadata.without_leader(partition)));
                }
            }
        }
        if is_missing {
            self.client.expect_change();
        }
        leaders.into_iter().map(|(leader, part)| (Target::Broker(leader), part)).collect()
    }

    /// Where the term `epoch` of a partition's leader ends, asked of the leader.
    pub async fn epoch_end(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ClientError> {
        let target = Target::Leader(partition.clone());
        let wanted = BTreeMap::from([(partition.clone(), epoch)]);
        self.client
            .retrying(&target, || async {
                let ends = offsets::epoch_ends(&self.client, &target, Lane::MAIN, &wanted).await?;
                let unknown = ClientError::code(ErrorCode::UnknownTopicOrPartition);
                ends.get(partition).cloned().unwrap_or(Err(unknown))
            })
            .await
    }

    /// The cluster and its brokers.
    pub async fn describe_cluster(&self) -> Result<DescribedCluster, ClientError> {
        use wire::describe_cluster::DescribeClusterRequest;
        let (_, timeout) = self.times();
        let request = DescribeClusterRequest::default();
        let target = Target::Any;
        self.client
            .retrying(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let answer = asking.await?;
                ClientError::check(answer.error_code, answer.error_message.as_deref())?;
                let brokers = answer.brokers.into_iter().filter_map(|broker| {
                    let port = u16::try_from(broker.port).ok()?;
                    let rack = broker.rack.map(|rack| rack.to_string());
                    Some((BrokerId(broker.broker_id), (broker.host.to_string(), port, rack)))
                });
                Ok(DescribedCluster {
                    id: answer.cluster_id.to_string(),
                    controller: (answer.controller_id >= 0)
                        .then_some(BrokerId(answer.controller_id)),
                    brokers: brokers.collect(),
                })
            })
            .await
    }

    /// The log directories of a broker, with the logs of these partitions, or of all (`None`).
    pub async fn describe_log_dirs(
        &self,
        broker: BrokerId,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<DescribedLogDir>, ClientError> {
        use wire::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
        let (_, timeout) = self.times();
        let topics = partitions.map(|partitions| {
            let topics = offsets::by_topic(partitions.iter().map(|partition| (partition, ())));
            let asked = topics.into_iter().map(|(topic, partitions)| DescribableLogDirTopic {
                topic: topic.as_str().into(),
                partitions: partitions.into_iter().map(|(index, ())| index).collect(),
            });
            asked.collect()
        });
        let request = DescribeLogDirsRequest { topics };
        let target = Target::Broker(broker);
        let answer = self
            .client
            .retrying(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let answer = asking.await?;
                ClientError::check(answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
        let dirs = answer.results.into_iter().map(|dir| {
            let logs = dir.topics.iter().flat_map(|topic| {
                // A copy on its way from another directory is not the log yet.
                let settled = topic.partitions.iter().filter(|log| !log.is_future_key);
                settled.map(|log| {
                    let id = TopicPartition::new(topic.name.as_str(), log.partition_index);
                    (id, u64::try_from(log.partition_size).unwrap_or(0))
                })
            });
            DescribedLogDir {
                path: dir.log_dir.to_string(),
                error: ClientError::check(dir.error_code, None)
                    .err()
                    .map(|error| error.error_code().unwrap_or(ErrorCode::UnknownServerError)),
                logs: logs.collect(),
                bytes_total: u64::try_from(dir.total_bytes).ok(),
                bytes_usable: u64::try_from(dir.usable_bytes).ok(),
            }
        });
        Ok(dirs.collect())
    }

    /// The cluster's layout for these topics, asked for now.
    pub async fn metadata(
        &self,
        topics: &[TopicName],
    ) -> Result<std::sync::Arc<Metadata>, ClientError> {
        let wanted: BTreeSet<TopicName> = topics.iter().cloned().collect();
        let wanted: Vec<TopicName> = wanted.into_iter().collect();
        self.client.retrying(&Target::Any, || self.client.refresh(Some(&wanted))).await
    }

    /// A new producer id, for a producer without transactions.
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        init_producer_id(&self.client).await
    }
}

/// Asks some broker for a new producer id: one attempt.
pub(crate) async fn init_producer_id<E: Env>(
    client: &Client<E>,
) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    use wire::init_producer_id::InitProducerIdRequest;
    let request = InitProducerIdRequest {
        // No transactions, so no time-out either: the largest value says so in every version.
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    let timeout = client.config().request_timeout;
    let answer = client.ask(&Target::Any, Lane::MAIN, &request, i16::MAX, timeout).await?;
    ClientError::check(answer.error_code, None)?;
    Ok((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
}
