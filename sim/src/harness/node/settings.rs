//! Settings of a topic that only one client changes: all at once, or in steps. What was answered is in force, and what
//! was only to be looked at is not (I39).

use std::collections::BTreeMap;

use client::{Client, ClientError, Target};
use wire::ApiKey;
use wire::alter_configs::{self, AlterConfigsRequest};
use wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use wire::incremental_alter_configs::{self, IncrementalAlterConfigsRequest};
use wire::list_config_resources::{ConfigResource, ListConfigResourcesRequest};

use super::rude::any_version;
use super::{Play, outcome_of};
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::exec::lock;
use crate::history::Outcome;
use crate::world::SimEnv;

/// Kafka's number of a resource that is a topic.
pub(super) const TOPIC: i8 = 2;
/// And of one that is a broker, or all of them.
pub(super) const BROKER: i8 = 4;
/// Where a value comes from that was set for the topic.
const SET_FOR_TOPIC: i8 = 1;
/// Settings that change nothing of what else is judged.
const KEYS: [&str; 3] = ["file.delete.delay.ms", "index.interval.bytes", "retention.ms"];
/// Larger than any run is long.
const VALUE: u64 = 1_000_000_000;

pub(super) type Values = BTreeMap<String, String>;

/// Keys and the values they are to have; in steps, some of them lose theirs (`None`).
pub(super) type Change = BTreeMap<String, Option<String>>;

impl Play {
    /// Changes settings of a topic that has none yet, and looks at them after each change.
    pub(super) async fn change_settings(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        dice: &Decisions,
    ) {
        let mut known = Values::new();
        for _ in 0..dice.choose(Kind::Operation, 4) {
            // A change that was never answered, by this client or one before it, may yet be carried out.
            if !lock(&self.shared.unsettled).insert(topic.to_owned()) {
                return;
            }
            let is_checked_only = dice.choose(Kind::Operation, 4) == 0;
            let is_whole = dice.choose(Kind::Operation, 2) == 0;
            let change = change(&KEYS, is_whole, dice);
            let resource = (TOPIC, topic);
            let outcome = match is_whole {
                true => self.set_all(client, resource, &change, is_checked_only, dice).await,
                false => self.set_some(client, resource, &change, is_checked_only, dice).await,
            };
            self.stage.done(outcome == Outcome::Ok(()), 22);
            if outcome != Outcome::Ok(()) {
                return;
            }
            lock(&self.shared.unsettled).remove(topic);
            if !is_checked_only {
                known.retain(|key, _| !is_whole && !change.contains_key(key));
                known.extend(change.into_iter().filter_map(|(key, value)| Some((key, value?))));
            }
            let Some(told) = self.settings_told(client, topic, dice).await else { return };
            let verdict = require("I39", told == known, || {
                format!("{topic} was given the settings {known:?}, and is told to have {told:?}")
            });
            if !self.stage.scenario.is_beyond_promise() {
                self.stage.judge(verdict);
            }
            self.stage.world.mark(if is_whole { "settings replaced" } else { "settings changed" });
        }
    }

    /// Asks what has settings: a topic that is there is among them, once, where topics are asked for (I39).
    pub(super) async fn look_for_resource(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        dice: &Decisions,
    ) {
        let resource_types = match dice.choose(Kind::Operation, 3) {
            0 => vec![],
            1 => vec![TOPIC],
            _ => vec![BROKER],
        };
        let is_wanted = resource_types != [BROKER];
        let request = ListConfigResourcesRequest { resource_types };
        let answer = client.raw(Target::Any, request, Some(1)).await;
        self.stage.done(answer.is_ok(), 23);
        let Ok(answer) = answer else { return };
        let is_this = |found: &&ConfigResource| &*found.resource_name == topic;
        let found: Vec<_> = answer.config_resources.iter().filter(is_this).collect();
        let expected = usize::from(is_wanted);
        let is_told = answer.error_code == 0
            && found.len() == expected
            && found.iter().all(|found| found.resource_type == TOPIC);
        if !self.stage.scenario.is_beyond_promise() {
            self.stage.judge(require("I39", is_told, || {
                format!("{topic} is to be listed {expected} times: {answer:?}")
            }));
        }
        self.stage.world.mark("resources listed");
    }

    /// Gives a resource all the values it is to have.
    pub(super) async fn set_all(
        &self,
        client: &Client<SimEnv>,
        (kind, name): (i8, &str),
        change: &Change,
        validate_only: bool,
        dice: &Decisions,
    ) -> Outcome<()> {
        let configs = change.iter().map(|(name, value)| alter_configs::AlterableConfig {
            name: name.as_str().into(),
            value: value.as_deref().map(Into::into),
        });
        let resource = alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: configs.collect(),
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only };
        let version = any_version(ApiKey::AlterConfigs, 0, dice);
        let answer = client.raw(Target::Controller, request, Some(version)).await;
        outcome_told(answer.map(|answer| answer.responses.first().map(|told| told.error_code)))
    }

    /// Changes some values of a resource.
    pub(super) async fn set_some(
        &self,
        client: &Client<SimEnv>,
        (kind, name): (i8, &str),
        change: &Change,
        validate_only: bool,
        dice: &Decisions,
    ) -> Outcome<()> {
        let configs =
            change.iter().map(|(name, value)| incremental_alter_configs::AlterableConfig {
                name: name.as_str().into(),
                config_operation: i8::from(value.is_none()),
                value: value.as_deref().map(Into::into),
            });
        let resource = incremental_alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
        let version = any_version(ApiKey::IncrementalAlterConfigs, 0, dice);
        let answer = client.raw(Target::Controller, request, Some(version)).await;
        outcome_told(answer.map(|answer| answer.responses.first().map(|told| told.error_code)))
    }

    /// The values that are set for the topic itself.
    async fn settings_told(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        dice: &Decisions,
    ) -> Option<Values> {
        let told = self.described(client, (TOPIC, topic), dice).await?;
        let own = told.into_iter().filter(|config| config.config_source == SET_FOR_TOPIC);
        Some(own.map(|c| (c.name.to_string(), c.value.unwrap_or_default().to_string())).collect())
    }

    /// What is told of a resource's settings; `None` if it is told nothing.
    pub(super) async fn described(
        &self,
        client: &Client<SimEnv>,
        (kind, name): (i8, &str),
        dice: &Decisions,
    ) -> Option<Vec<DescribeConfigsResourceResult>> {
        let asked = DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest { resources: vec![asked], ..Default::default() };
        let version = any_version(ApiKey::DescribeConfigs, 0, dice);
        let answer = client.raw(Target::Any, request, Some(version)).await.ok()?;
        let told = answer.results.into_iter().next().filter(|told| told.error_code == 0)?;
        Some(told.configs)
    }
}

/// What an answer says of a change. One that was refused may be carried out all the same, where the metadata
/// log failed after the write: only success is certain.
fn outcome_told(answer: Result<Option<i16>, ClientError>) -> Outcome<()> {
    match answer {
        Ok(Some(0)) => Outcome::Ok(()),
        Ok(_) => Outcome::Unknown,
        Err(error) => outcome_of(&error),
    }
}

/// Some of the keys with values, or, in steps, to lose theirs.
pub(super) fn change(keys: &[&str], is_whole: bool, dice: &Decisions) -> Change {
    let mut change = Change::new();
    for &key in keys {
        let value = (VALUE + dice.choose(Kind::Operation, 1_000)).to_string();
        match dice.choose(Kind::Operation, 3) {
            0 => {}
            1 if !is_whole => _ = change.insert(key.to_owned(), None),
            _ => _ = change.insert(key.to_owned(), Some(value)),
        }
    }
    change
}
