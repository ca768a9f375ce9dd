//! Administrators: create topics, set them up and delete them, by any node, and ask for producers' identities.

use std::time::Duration;

use client::admin::NewTopic;
use client::{Admin, Certainty, Client, ClientConfig, ClientError, Target};
use types::{ErrorCode, NodeId};
use wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use wire::remove_raft_voter::RemoveRaftVoterRequest;

use super::{
    ADMINS_COUNT, CLIENTS, CLIENTS_COUNT, PORT, PRODUCERS_COUNT, Play, READERS_COUNT, Topic,
    records,
};
use crate::decisions::{Decisions, Kind};
use crate::disk::SimDisk;
use crate::exec::{Node, lock};
use crate::history::Outcome;
use crate::net::ip_of;
use crate::scenario::Beginning;
use crate::world::SimEnv;

/// Kafka's number of topics among resources.
const TOPIC: i8 = 2;

impl Play {
    /// Puts clients to work, each on a machine of its own that may die and come back.
    pub(super) fn employ(&self) {
        for node in CLIENTS..CLIENTS + CLIENTS_COUNT {
            self.stage.world.add_node(node, "client");
            let play = self.clone();
            self.stage.spawn(0, "employer", async move { play.keep_employed(node).await });
        }
    }

    async fn keep_employed(&self, node: Node) {
        let dice = self.stage.dice(node);
        while !*lock(&self.shared.stops) {
            let (done, ended) = tokio::sync::oneshot::channel();
            let (play, life) = (self.clone(), dice.clone());
            self.stage.spawn(node, "client", async move {
                match node - CLIENTS {
                    number if number < ADMINS_COUNT => play.administer(node, &life).await,
                    number if number < ADMINS_COUNT + PRODUCERS_COUNT => {
                        play.produce(node, &life).await;
                    }
                    number if number < ADMINS_COUNT + PRODUCERS_COUNT + READERS_COUNT => {
                        play.read(node, &life).await;
                    }
                    _ => play.join(node, &life).await,
                }
                _ = done.send(());
            });
            if ended.await.is_err() {
                self.stage.world.mark("client died");
                let pause = Duration::from_millis(dice.choose(Kind::Delay, 3_000));
                self.stage.world.sleep(pause).await;
                self.stage.world.revive(node);
            }
        }
    }

    pub(super) fn client(&self, node: Node, dice: &Decisions) -> Client<SimEnv> {
        let disk = SimDisk::of_node(self.stage.world.decisions(), node);
        let env = SimEnv::new(&self.stage.world, &self.stage.network, &disk, node);
        let seconds = |low, high| Duration::from_secs(dice.between(Kind::Operation, low, high));
        let mut bootstrap: Vec<String> =
            self.brokers.iter().map(|node| format!("{}:{PORT}", ip_of(*node))).collect();
        let first = dice.choose(Kind::Operation, bootstrap.len() as u64) as usize;
        bootstrap.rotate_left(first);
        let config = ClientConfig {
            bootstrap,
            client_id: format!("client-{node}"),
            request_timeout: seconds(2, 5),
            connect_timeout: seconds(1, 3),
            operation_timeout: seconds(3, 10),
            retry_backoff: Duration::from_millis(50),
            metadata_age_max: seconds(2, 30),
            auto_create_topics: false,
            ..ClientConfig::default()
        };
        Client::new(env, config)
    }

    async fn administer(&self, node: Node, dice: &Decisions) {
        let client = self.client(node, dice);
        let admin = Admin::new(&client);
        for _ in 0..dice.between(Kind::Operation, 5, 30) {
            if *lock(&self.shared.stops) {
                return;
            }
            let scenario = &self.stage.scenario;
            let leave = scenario.beginning != Beginning::Configured;
            let changes = leave || scenario.moves;
            match dice.choose(Kind::Operation, if changes { 8 } else { 6 }) {
                6 if leave => self.remove_voter(&client, dice).await,
                7 if scenario.moves => self.move_replicas(&client, dice).await,
                0 | 1 => self.create(&admin, dice).await,
                2 => self.delete(&admin, node, dice).await,
                3 => {
                    let told = admin.init_producer_id().await;
                    self.stage.done(told.is_ok(), 30);
                    if let Ok((id, _)) = told {
                        lock(&self.shared.producers).push(id.0);
                    }
                }
                _ => self.set(&client, node, dice).await,
            }
            self.stage.think(dice, self.stage.scenario.think * 4).await;
        }
    }

    async fn create(&self, admin: &Admin<SimEnv>, dice: &Decisions) {
        let number = {
            let mut names = lock(&self.shared.names);
            *names += 1;
            *names
        };
        let name = format!("t{number}");
        // It may be created, whatever becomes of this client.
        let began = Topic { created: Some(Outcome::Unknown), ..Topic::default() };
        lock(&self.shared.topics).insert(name.clone(), began);
        let mut new = NewTopic::new(name.as_str());
        new.partitions = Some(dice.between(Kind::Operation, 1, 4) as i32);
        new.replication = Some(dice.between(Kind::Operation, 1, 3) as i16);
        let outcome = settled(admin.create_topics(&[new], false).await.and_then(|mut all| {
            all.pop_first().map_or(Err(ClientError::Closed), |(_, result)| result.map(drop))
        }));
        self.stage.done(outcome == Outcome::Ok(()), 31);
        self.note(&name, |topic| topic.created = Some(outcome));
    }

    async fn delete(&self, admin: &Admin<SimEnv>, node: Node, dice: &Decisions) {
        let Some(name) = self.own(node, dice) else { return };
        self.note(&name, |topic| topic.deleted = Some(Outcome::Unknown));
        let asked = [types::TopicName::from(name.as_str())];
        let outcome = settled(admin.delete_topics(&asked).await.and_then(|mut all| {
            all.pop_first().map_or(Err(ClientError::Closed), |(_, result)| result.map(drop))
        }));
        self.stage.done(outcome == Outcome::Ok(()), 32);
        self.note(&name, |topic| {
            topic.deleted = match outcome {
                // It is there as before.
                Outcome::Failed => None,
                outcome => Some(outcome),
            };
        });
    }

    /// Sets something of a topic, by a node that decides or one that passes it on.
    async fn set(&self, client: &Client<SimEnv>, node: Node, dice: &Decisions) {
        let Some(name) = self.own(node, dice) else { return };
        let value = 1_000_000 + u64::from(dice.choose(Kind::Operation, 1 << 30) as u32);
        // One that nobody was answered for may come true late, and then in which order is open.
        let is_open =
            lock(&self.shared.topics).get(&name).is_none_or(|topic| topic.unsettled.is_some());
        if is_open {
            return;
        }
        self.note(&name, |topic| topic.unsettled = Some(value));
        let config = AlterableConfig {
            name: "retention.ms".into(),
            config_operation: 0,
            value: Some(value.to_string().as_str().into()),
        };
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: name.as_str().into(),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = client.raw(Target::Any, request, None).await;
        let outcome = settled(answer.and_then(|answer| {
            let code = answer.responses.first().map_or(-1, |told| told.error_code);
            ClientError::check(code, None)
        }));
        self.stage.done(outcome == Outcome::Ok(()), 33);
        self.note(&name, |topic| match outcome {
            Outcome::Ok(()) => (topic.setting, topic.unsettled) = (Some(value), None),
            Outcome::Failed => topic.unsettled = None,
            Outcome::Unknown => {}
        });
    }

    /// A voter is to vote no more; it will ask to vote again by itself.
    async fn remove_voter(&self, client: &Client<SimEnv>, dice: &Decisions) {
        let chosen = self.voters[dice.choose(Kind::Operation, self.voters.len() as u64) as usize];
        let known = self.nodes.iter().find_map(|node| self.observer(*node));
        let voters = known.map(|observer| observer.quorum().voters.clone());
        let voter = voters.and_then(|voters| voters.0.get(&NodeId(chosen as i32)).cloned());
        let Some(directory) = voter.and_then(|voter| voter.directory) else { return };
        let request = RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: chosen as i32,
            voter_directory_id: directory.0,
        };
        let answer = client.raw(Target::Any, request, None).await;
        let removed = answer.and_then(|answer| ClientError::check(answer.error_code, None));
        self.stage.done(removed.is_ok(), 34);
        if removed.is_ok() {
            self.stage.world.mark("voter removed");
        }
    }

    /// A partition is to lie elsewhere.
    async fn move_replicas(&self, client: &Client<SimEnv>, dice: &Decisions) {
        let partitions = self.partitions();
        let partition = &partitions[dice.choose(Kind::Operation, partitions.len() as u64) as usize];
        let mut left: Vec<i32> = self.brokers.iter().map(|node| *node as i32).collect();
        let mut replicas = Vec::new();
        while replicas.len() < records::REPLICAS as usize {
            replicas.push(left.remove(dice.choose(Kind::Operation, left.len() as u64) as usize));
        }
        // Now and then what is under way is given up instead.
        let replicas = (dice.choose(Kind::Operation, 8) > 0).then_some(replicas);
        let partition_index = partition.partition.0;
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: partition.topic.clone().into(),
                partitions: vec![ReassignablePartition { partition_index, replicas }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = client.raw(Target::Any, request, None).await;
        let moved = answer.and_then(|answer| {
            let told = answer.responses.first().and_then(|topic| topic.partitions.first());
            ClientError::check(told.map_or(answer.error_code, |told| told.error_code), None)
        });
        self.stage.done(moved.is_ok(), 35);
        if moved.is_ok() {
            self.stage.world.mark("replicas moved");
        }
    }

    /// A topic that this administrator alone looks after and that is there, for all it knows.
    fn own(&self, node: Node, dice: &Decisions) -> Option<String> {
        let topics = lock(&self.shared.topics);
        let own = topics.iter().filter(|(name, topic)| {
            let number: u32 = name[1..].parse().unwrap_or_default();
            number % ADMINS_COUNT == (node - CLIENTS)
                && topic.created == Some(Outcome::Ok(()))
                && topic.deleted.is_none()
        });
        let own: Vec<&String> = own.map(|(name, _)| name).collect();
        own.get(dice.choose(Kind::Operation, own.len() as u64) as usize).map(|name| (*name).clone())
    }

    fn note(&self, name: &str, note: impl FnOnce(&mut Topic)) {
        if let Some(topic) = lock(&self.shared.topics).get_mut(name) {
            note(topic);
        }
        self.shared.answered.notify_waiters();
    }
}

/// What became of a change.
fn settled(result: Result<(), ClientError>) -> Outcome<()> {
    match result {
        Ok(()) => Outcome::Ok(()),
        // As after any time-out, and after a connection that broke.
        Err(error) if error.error_code() == Some(ErrorCode::RequestTimedOut) => Outcome::Unknown,
        Err(error) => match error.certainty() {
            Certainty::DidNotHappen => Outcome::Failed,
            Certainty::Unknown => Outcome::Unknown,
        },
    }
}
