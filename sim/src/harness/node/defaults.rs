//! Settings of the broker that topics inherit. For each key the nearest value counts: the topic's own, the broker's, that of
//! all brokers, then what the node was started with. What was answered is in force at once and over every restart (I39).

use std::collections::BTreeMap;

use client::Client;

use super::settings::{BROKER, Change, TOPIC, Values, change};
use super::{Play, SEGMENTS_RETAINED};
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::exec::lock;
use crate::history::Outcome;
use crate::world::SimEnv;

/// Who may have values that topics inherit, the nearest first, and the number of the source that says so.
const LEVELS: [(&str, i8); 2] = [("0", 2), ("", 3)];
/// Where a value comes from that was set for the topic.
const SET_FOR_TOPIC: i8 = 1;
/// Where one comes from that nobody set at run time: from this number on.
const SET_BEFORE: i8 = 4;
/// Keys of brokers, none of which changes what else is judged, and the key of topics that each is inherited by.
const INHERITED: [(&str, &str); 3] = [
    ("log.index.interval.bytes", "index.interval.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.segment.delete.delay.ms", "file.delete.delay.ms"),
];
/// What all brokers always have a value of: the built-in value, from the first start (P12).
const ALWAYS_SET: (&str, &str) = ("min.insync.replicas", "1");
/// The one by which some runs limit a topic's size.
const RETENTION: &str = "log.retention.bytes";

/// What the broker's settings are known to be.
#[derive(Default)]
pub(super) struct Defaults {
    /// Somebody is changing them, or did and was not answered: nobody knows.
    is_unsettled: bool,
    /// The values of each level.
    known: [Values; LEVELS.len()],
}

/// Who says how much of the topic is kept whose retention is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Retainer {
    /// The topic.
    Topic,
    /// One of the levels.
    Level(usize),
}

impl Retainer {
    /// One in three is any of them.
    pub(super) fn any(dice: &Decisions) -> Retainer {
        match dice.choose(Kind::Operation, 1 + LEVELS.len() as u64) as usize {
            0 => Retainer::Topic,
            level => Retainer::Level(level - 1),
        }
    }
}

impl Play {
    /// Limits the size of topics that say nothing of their own, before anything may fail. Their logs are there already.
    pub(super) async fn limit_by_default(&self, client: &Client<SimEnv>, dice: &Decisions) -> bool {
        let Retainer::Level(level) = self.shared.retainer else { return true };
        let bytes = SEGMENTS_RETAINED * u64::from(self.stage.scenario.segment_bytes);
        let change = Change::from([(RETENTION.to_owned(), Some(bytes.to_string()))]);
        let resource = (BROKER, LEVELS[level].0);
        let outcome = self.set_some(client, resource, &change, false, dice).await;
        if outcome != Outcome::Ok(()) {
            let text = format!("{RETENTION} cannot be set in a world without faults: {outcome:?}");
            self.stage.world.violation("L4", text);
            return false;
        }
        lock(&self.shared.defaults).known[level].insert(RETENTION.to_owned(), bytes.to_string());
        true
    }

    /// Looks at what a topic inherits, changes it, and looks again.
    pub(super) async fn change_defaults(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        dice: &Decisions,
    ) {
        let level = dice.choose(Kind::Operation, LEVELS.len() as u64) as usize;
        let is_whole = dice.choose(Kind::Operation, 3) == 0;
        let is_checked_only = dice.choose(Kind::Operation, 4) == 0;
        let keys = INHERITED.map(|(broker, _)| broker);
        let mut change = change(&keys, is_whole, dice);
        // Taken away for good until this is answered: this client may die in between.
        let mut known = {
            let mut defaults = lock(&self.shared.defaults);
            if defaults.is_unsettled {
                return;
            }
            defaults.is_unsettled = true;
            defaults.known.clone()
        };
        if is_whole && let Some(bytes) = known[level].get(RETENTION) {
            change.insert(RETENTION.to_owned(), Some(bytes.clone()));
        }
        if is_whole && LEVELS[level].0.is_empty() {
            let (key, value) = ALWAYS_SET;
            change.insert(key.to_owned(), Some(value.to_owned()));
        }
        self.judge_inherited(client, topic, &known, dice).await;
        let resource = (BROKER, LEVELS[level].0);
        let outcome = match is_whole {
            true => self.set_all(client, resource, &change, is_checked_only, dice).await,
            false => self.set_some(client, resource, &change, is_checked_only, dice).await,
        };
        self.stage.done(outcome == Outcome::Ok(()), 24);
        match outcome {
            Outcome::Ok(()) if !is_checked_only => {
                known[level].retain(|key, _| !is_whole && !change.contains_key(key));
                let set = change.into_iter().filter_map(|(key, value)| Some((key, value?)));
                known[level].extend(set);
            }
            Outcome::Ok(()) | Outcome::Failed => {}
            Outcome::Unknown => return,
        }
        *lock(&self.shared.defaults) = Defaults { is_unsettled: false, known: known.clone() };
        if outcome == Outcome::Ok(()) {
            self.judge_inherited(client, topic, &known, dice).await;
            self.stage.world.mark("defaults changed");
        }
    }

    /// Each key of the topic has the value of the nearest level that has one, and says where it comes from.
    async fn judge_inherited(
        &self,
        client: &Client<SimEnv>,
        topic: &str,
        known: &[Values; LEVELS.len()],
        dice: &Decisions,
    ) {
        let Some(told) = self.described(client, (TOPIC, topic), dice).await else { return };
        let told: BTreeMap<&str, _> = told.iter().map(|config| (&*config.name, config)).collect();
        for (broker_key, key) in INHERITED {
            let Some(config) = told.get(key) else {
                self.stage.world.violation("I39", format!("{topic} is told to have no {key}"));
                return;
            };
            let mut levels = LEVELS.iter().zip(known);
            let set = levels.find_map(|(level, values)| Some((level.1, values.get(broker_key)?)));
            let is_told = match set {
                _ if config.config_source == SET_FOR_TOPIC => true,
                Some((source, value)) => {
                    config.config_source == source && config.value.as_deref() == Some(value)
                }
                None => config.config_source >= SET_BEFORE,
            };
            if !self.stage.scenario.is_beyond_promise() {
                self.stage.judge(require("I39", is_told, || {
                    format!("{topic} inherits {set:?} for {key}, and is told to have {config:?}")
                }));
            }
        }
    }
}
