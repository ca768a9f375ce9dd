//! Classic consumer groups: who is a member, who owns what, what has been read.
//!
//! A room of its own because these decisions are needed twice, by the coordinator and by the simulator's checkers, and
//! because they are hard to get right among awaits: here an event goes in and effects come out. One [`Groups`] holds the
//! groups of one partition of `__consumer_offsets`; that partition's log is their only memory.
//!
//! State changes when the decision is taken; what it must not do is to be *told* before it is committed. Therefore each
//! reply names the append it rests on, and waits for it ([`Effect::Reply`]):
//!
//! ```text
//!   event --> step --> Append 7 --> log ...... committed up to 7
//!                 \--> Reply after 7 ...............\--> leaves
//! ```
//!
//! If an append fails the state is ahead of its log: the caller drops it and replays the log. Replayed state equals live
//! state but for what no log holds: sessions, parked requests, and a rebalance under way (I64).
//!
//! A generation is written before its members hear of it, as an empty group of that generation, so that no crash can
//! give its number to other members (I65). Kafka writes a generation only with its assignment.
//!
//! Invariants: I64, I65, I66 and I67 as far as a coordinator can grant ownership, I69, I70, I71, I72. This room knows
//! neither wire nor log; it reads no clock and draws no random number: both come with the events.

mod api;
mod classic;
mod offsets;
mod rebalance;
mod records;
mod subscription;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{ErrorCode, GroupId, Instant, TopicId, TopicName};

pub use api::*;
pub use classic::GroupState;
pub use records::{RecordError, Replayed};
pub use subscription::CONSUMER_PROTOCOL_TYPE;

use classic::Group;
use timers::{Timer, Timers};

/// Newcomers of one group that were given an id and have not come back yet; more are refused.
pub const PENDING_MEMBERS_MAX: usize = 10_000;

/// What an operator can set, by Kafka's names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval: Duration,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as Kafka does.
    pub offset_metadata_max: usize,
    /// Largest record of a group's members; a group that outgrows it cannot be assigned.
    pub group_record_bytes_max: usize,
    /// How long a newcomer may wait for its first answer. No setting in Kafka either.
    pub new_member_join_timeout: Duration,
}

impl Default for GroupSettings {
    /// Kafka's defaults.
    fn default() -> GroupSettings {
        GroupSettings {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            members_max: i32::MAX as usize,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_check_interval: Duration::from_secs(10 * 60),
            offset_metadata_max: 4096,
            group_record_bytes_max: 1_048_576,
            new_member_join_timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct Groups {
    settings: GroupSettings,
    groups: BTreeMap<GroupId, Group>,
    timers: Timers,
    appended: AppendNumber,
}

/// What one step works with besides the group it concerns.
struct Step<'a> {
    now: Now,
    settings: &'a GroupSettings,
    timers: &'a mut Timers,
    appended: &'a mut AppendNumber,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    fn reply(&mut self, token: Token, after: AppendNumber, response: Response) {
        assert!(after <= *self.appended, "an answer rests on appends that were ordered");
        self.effects.push(Effect::Reply { token, after, response });
    }

    /// Orders an append about `group`; its later answers rest on it.
    fn append(&mut self, group: &mut Group, records: Vec<GroupRecord>) {
        group.appended = self.append_records(records);
    }

    fn append_records(&mut self, records: Vec<GroupRecord>) -> AppendNumber {
        if !records.is_empty() {
            self.appended.0 += 1;
            self.effects.push(Effect::Append { number: *self.appended, records });
        }
        *self.appended
    }
}

impl Groups {
    /// A coordinator without groups; its log is replayed into it before the first step.
    pub fn new(settings: GroupSettings) -> Groups {
        Groups {
            settings,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            appended: AppendNumber::NONE,
        }
    }

    /// Applies one record of the log, in the log's order. Records of kinds unknown here are passed over.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, RecordError> {
        records::replay(&mut self.groups, key, value)
    }

    /// Takes an event at `now` and adds what follows from it to `effects`.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let mut step = Step {
            now,
            settings: &self.settings,
            timers: &mut self.timers,
            appended: &mut self.appended,
            effects,
        };
        let groups = &mut self.groups;
        let touched = event.group().cloned();
        match event {
            Event::Loaded => step.on_loaded(groups),
            Event::Join(token, request) => step.on_join(groups, token, request),
            Event::Sync(token, request) => step.on_sync(groups, token, request),
            Event::Heartbeat(token, request) => step.on_heartbeat(groups, token, &request),
            Event::Leave(token, request) => step.on_leave(groups, token, request),
            Event::CommitOffsets(token, request) => step.on_commit_offsets(groups, token, request),
            Event::FetchOffsets(token, request) => step.on_fetch_offsets(groups, token, request),
            Event::DeleteOffsets(token, request) => step.on_delete_offsets(groups, token, request),
            Event::Describe(token, group) => step.on_describe(groups, token, &group),
            Event::List(token, request) => step.on_list(groups, token, &request),
            Event::Delete(token, group) => step.on_delete(groups, token, &group),
            Event::Survey(token) => step.on_survey(groups, token),
            Event::TopicsDeleted(topics) => step.on_topics_deleted(groups, &topics),
            Event::Tick => step.on_tick(groups),
        }
        self.check(touched.as_ref());
    }

    /// When to call [`Event::Tick`] next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Number of the newest append ordered.
    pub fn appended(&self) -> AppendNumber {
        self.appended
    }

    /// One line about a group.
    pub fn line(&self, group: &str) -> Option<String> {
        self.groups.get(group).map(Group::to_string)
    }

    /// Topics for which offsets are stored, with the identity they had then if that is known.
    pub fn offset_topics(&self) -> BTreeSet<(TopicName, Option<TopicId>)> {
        let topics = self.groups.values().flat_map(|group| &group.offsets);
        let ids = topics.flat_map(|(topic, partitions)| {
            partitions.values().map(|offset| (topic.clone(), offset.topic_id))
        });
        ids.collect()
    }

    /// Names of all groups.
    pub fn names(&self) -> impl Iterator<Item = &GroupId> {
        self.groups.keys()
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether `other`, replayed from the log of `self`, remembers what `self` decided (I64): generations and offsets of
    /// all groups, and members and assignments of those that are not rebalancing. `Err` names the first difference.
    pub fn remembered_by(&self, other: &Groups) -> Result<(), String> {
        records::remembered(&self.groups, &other.groups)
    }

    fn check(&self, touched: Option<&GroupId>) {
        if !cfg!(debug_assertions) {
            return;
        }
        match touched {
            Some(id) => {
                if let Some(group) = self.groups.get(id) {
                    group.check(id.as_str());
                }
            }
            None => self.groups.iter().for_each(|(id, group)| group.check(id.as_str())),
        }
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, group) in &self.groups {
            writeln!(f, "{id}: {group}")?;
        }
        Ok(())
    }
}

impl Step<'_> {
    fn on_loaded(&mut self, groups: &mut BTreeMap<GroupId, Group>) {
        for (id, group) in groups {
            for (member, m) in &group.members {
                let session = Timer::Session(id.clone(), member.clone());
                self.timers.set(session, self.now.instant + m.session_timeout);
            }
            if group.members.len() > self.settings.members_max {
                self.prepare_rebalance(id, group);
            }
        }
        self.timers
            .set(Timer::OffsetsExpiry, self.now.instant + self.settings.offsets_check_interval);
    }

    fn on_describe(&mut self, groups: &BTreeMap<GroupId, Group>, token: Token, id: &GroupId) {
        let (after, described) = match groups.get(id) {
            Some(group) => (group.appended, Ok(group.describe())),
            None => (*self.appended, Err(ErrorCode::GroupIdNotFound)),
        };
        self.reply(token, after, Response::Describe(described));
    }

    fn on_list(&mut self, groups: &BTreeMap<GroupId, Group>, token: Token, request: &ListRequest) {
        let states: Vec<String> =
            request.states.iter().map(|state| state.trim().to_lowercase()).collect();
        let classic = request.types.is_empty()
            || request.types.iter().any(|name| name.trim().eq_ignore_ascii_case("classic"));
        let wanted = |group: &Group| {
            let state = group.state().name().to_lowercase();
            classic && (states.is_empty() || states.contains(&state))
        };
        let listed =
            groups.iter().filter(|(_, group)| wanted(group)).map(|(id, group)| ListedGroup {
                group: id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state(),
            });
        let listed = Response::List(listed.collect());
        self.reply(token, *self.appended, listed);
    }

    fn on_survey(&mut self, groups: &BTreeMap<GroupId, Group>, token: Token) {
        let surveyed = groups.iter().map(|(id, group)| SurveyedGroup {
            group: id.clone(),
            state: group.state(),
            members_count: group.members.len(),
            offsets: group.surveyed_offsets(),
        });
        let surveyed = Response::Survey(surveyed.collect());
        self.reply(token, *self.appended, surveyed);
    }

    fn on_delete(&mut self, groups: &mut BTreeMap<GroupId, Group>, token: Token, id: &GroupId) {
        let error = match groups.get(id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
            Some(_) => ErrorCode::None,
        };
        if error.is_none() {
            self.delete_group(groups, id);
        }
        self.reply(token, *self.appended, Response::Delete(error));
    }

    /// Forgets an empty group, its offsets and the newcomers it waits for.
    fn delete_group(&mut self, groups: &mut BTreeMap<GroupId, Group>, id: &GroupId) {
        let Some(group) = groups.remove(id) else { return };
        assert!(group.is_empty(), "{id}: only an empty group is deleted");
        for member in &group.pending {
            self.timers.cancel(&Timer::Session(id.clone(), member.clone()));
        }
        let mut tombstones = records::offset_tombstones(id, &group.offsets);
        tombstones.push(records::group_tombstone(id));
        self.append_records(tombstones);
    }

    fn on_tick(&mut self, groups: &mut BTreeMap<GroupId, Group>) {
        while let Some(timer) = self.timers.pop_due(self.now.instant) {
            match timer {
                Timer::OffsetsExpiry => self.on_offsets_expiry(groups),
                Timer::Join(id) => {
                    if let Some(group) = groups.get_mut(&id) {
                        self.on_join_deadline(&id, group);
                    }
                }
                Timer::Sync(id) => {
                    if let Some(group) = groups.get_mut(&id) {
                        self.on_sync_deadline(&id, group);
                    }
                }
                Timer::Session(id, member) => {
                    if let Some(group) = groups.get_mut(&id) {
                        self.on_session_deadline(&id, group, &member);
                    }
                }
            }
        }
    }
}

impl Event {
    /// The group it concerns, if it concerns one.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Event::Join(_, request) => Some(&request.group),
            Event::Sync(_, request) => Some(&request.group),
            Event::Heartbeat(_, request) => Some(&request.group),
            Event::Leave(_, request) => Some(&request.group),
            Event::CommitOffsets(_, request) => Some(&request.group),
            Event::FetchOffsets(_, request) => Some(&request.group),
            Event::DeleteOffsets(_, request) => Some(&request.group),
            Event::Describe(_, group) | Event::Delete(_, group) => Some(group),
            Event::Loaded
            | Event::List(..)
            | Event::Survey(_)
            | Event::TopicsDeleted(_)
            | Event::Tick => None,
        }
    }
}
