//! Committed offsets: who may commit, what is told, when they expire.
//!
//! A group without members stores offsets for whoever asks (a simple group). With members only they may commit, each in
//! the generation it is in (I69): a member that has been replaced must not undo what its successor has done.
//!
//! Offsets of a group that has members and reads the topic never expire (I71); those of an empty group do some time
//! after it became empty, not after they were committed, or a slow consumer that restarts would begin anew.

use std::collections::BTreeMap;
use std::time::Duration;

use types::mutant::{Mutant, planted};
use types::{ErrorCode, GroupId, PartitionIndex, Str, Timestamp, TopicId, TopicName};

use super::api::{
    CommitOffsetsRequest, DeleteOffsetsRequest, FetchOffsetsRequest, FetchTopic, GroupOffset,
    GroupRecord, Response, SurveyedOffset, Token, TopicErrors, TopicOffsets,
};
use super::classic::{Group, Phase};
use super::timers::Timer;
use super::{AppendNumber, Step, records};

impl Group {
    /// How far it has come.
    pub(super) fn surveyed_offsets(&self) -> Vec<SurveyedOffset> {
        let offsets = self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, offset)| SurveyedOffset {
                topic: topic.clone(),
                topic_id: offset.topic_id,
                partition: *partition,
                offset: offset.offset,
            })
        });
        offsets.collect()
    }

    /// Forgets one offset; whether there was one.
    pub(super) fn forget_offset(&mut self, topic: &TopicName, partition: PartitionIndex) -> bool {
        let Some(partitions) = self.offsets.get_mut(topic) else { return false };
        let existed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.offsets.remove(topic);
        }
        existed
    }

    /// Forgets the offsets of which `gone` says so and returns their tombstones.
    fn forget_offsets(
        &mut self,
        id: &GroupId,
        gone: impl Fn(&Group, &TopicName, &GroupOffset) -> bool,
    ) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        let mut offsets = std::mem::take(&mut self.offsets);
        offsets.retain(|topic, partitions| {
            partitions.retain(|partition, offset| {
                let gone = gone(self, topic, offset);
                if gone {
                    tombstones.push(records::offset_tombstone(id, topic, *partition));
                }
                !gone
            });
            !partitions.is_empty()
        });
        self.offsets = offsets;
        tombstones
    }

    /// Whether an offset has outlived its usefulness at `now`.
    fn is_expired(
        &self,
        topic: &TopicName,
        offset: &GroupOffset,
        now: Timestamp,
        retention: Duration,
    ) -> bool {
        let from = match (&self.protocol_type, &self.phase) {
            // Only ever offsets, no members.
            (None, Phase::Empty) => offset.commit_timestamp,
            (Some(_), Phase::Empty) => self.since.unwrap_or(offset.commit_timestamp),
            // Members that are known not to read the topic.
            (Some(_), Phase::Stable { .. }) if self.subscribed.is_some() => offset.commit_timestamp,
            _ => return false,
        };
        if self.is_subscribed(topic) {
            return false;
        }
        match offset.expire_timestamp {
            Some(expire) => now >= expire,
            None => now >= from.saturating_add(retention),
        }
    }
}

impl Step<'_> {
    pub(super) fn on_commit_offsets(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        request: CommitOffsetsRequest,
    ) {
        let id = request.group.clone();
        let verdict = match groups.get(&id) {
            Some(group) => validate_commit(group, &request),
            // From outside: a simple group begins.
            None if request.generation.is_none() => Ok(()),
            None if request.knows_group_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        };
        if let Err(error) = verdict
            && !planted(Mutant::FencedMemberCommits)
        {
            let after = AppendNumber::NONE;
            return self.reply(token, after, Response::CommitOffsets(Err(error)));
        }
        if let (Some(group), Some(member)) = (groups.get(&id), &request.member)
            && matches!(group.phase, Phase::Stable { .. } | Phase::Preparing { .. })
            && let Some(known) = group.members.get(member)
        {
            // Who commits is alive.
            let timeout = known.session_timeout;
            self.session(&id, member, timeout);
        }
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(request.topics.len());
        let now = self.now.timestamp;
        let expire_timestamp = request.retention.map(|retention| now.saturating_add(retention));
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for commit in topic.partitions {
                if utf16_longer(&commit.metadata, self.settings.offset_metadata_max) {
                    partitions.push((commit.partition, ErrorCode::OffsetMetadataTooLarge));
                    continue;
                }
                partitions.push((commit.partition, ErrorCode::None));
                let offset = GroupOffset {
                    offset: commit.offset,
                    leader_epoch: commit.leader_epoch,
                    metadata: commit.metadata,
                    commit_timestamp: now,
                    expire_timestamp,
                    topic_id: topic.topic_id,
                };
                // What the record of an expiring offset cannot say is not remembered live either (I64).
                let offset = if expire_timestamp.is_some() {
                    GroupOffset { leader_epoch: None, topic_id: None, ..offset }
                } else {
                    offset
                };
                records.push(records::offset(&id, &topic.topic, commit.partition, &offset));
                let group = groups.entry(id.clone()).or_insert_with(|| Group::new(None));
                let of_topic = group.offsets.entry(topic.topic.clone()).or_default();
                of_topic.insert(commit.partition, offset);
            }
            answers.push(TopicErrors { topic: topic.topic, partitions });
        }
        let after = match groups.get_mut(&id) {
            Some(group) if !records.is_empty() => {
                self.append(group, records);
                group.appended
            }
            _ => AppendNumber::NONE,
        };
        self.reply(token, after, Response::CommitOffsets(Ok(answers)));
    }

    pub(super) fn on_fetch_offsets(
        &mut self,
        groups: &BTreeMap<GroupId, Group>,
        token: Token,
        request: FetchOffsetsRequest,
    ) {
        let group = groups.get(&request.group);
        let after = group.map_or(*self.appended, |group| group.appended);
        let offsets = match (group, request.topics) {
            (group, Some(topics)) => topics.into_iter().map(|topic| fetch(group, topic)).collect(),
            (None, None) => Vec::new(),
            (Some(group), None) => group.offsets.iter().map(fetch_all).collect(),
        };
        self.reply(token, after, Response::FetchOffsets(Ok(offsets)));
    }

    pub(super) fn on_delete_offsets(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        request: DeleteOffsetsRequest,
    ) {
        let id = request.group;
        let error = match groups.get(&id) {
            None => Some(ErrorCode::GroupIdNotFound),
            Some(group) if !group.is_empty() && !group.uses_consumer_protocol() => {
                Some(ErrorCode::NonEmptyGroup)
            }
            Some(_) => None,
        };
        let (None, Some(group)) = (error, groups.get_mut(&id)) else {
            let error = error.unwrap_or(ErrorCode::GroupIdNotFound);
            return self.reply(token, *self.appended, Response::DeleteOffsets(Err(error)));
        };
        let mut tombstones = Vec::new();
        let mut answers = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let error = if group.is_subscribed(&topic) {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            };
            for partition in &partitions {
                if error.is_none() && group.forget_offset(&topic, *partition) {
                    tombstones.push(records::offset_tombstone(&id, &topic, *partition));
                }
            }
            let partitions = partitions.into_iter().map(|partition| (partition, error)).collect();
            answers.push(TopicErrors { topic, partitions });
        }
        if !tombstones.is_empty() {
            self.append(group, tombstones);
        }
        self.reply(token, group.appended, Response::DeleteOffsets(Ok(answers)));
    }

    /// An offset does not outlive its topic: a successor of the same name begins anew (E58).
    pub(super) fn on_topics_deleted(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        topics: &[(TopicName, TopicId)],
    ) {
        let mut gone: BTreeMap<&TopicName, Vec<TopicId>> = BTreeMap::new();
        for (name, topic_id) in topics {
            gone.entry(name).or_default().push(*topic_id);
        }
        for (id, group) in groups {
            let tombstones = group.forget_offsets(id, |_, topic, offset| {
                gone.get(topic)
                    .is_some_and(|ids| offset.topic_id.is_none_or(|of| ids.contains(&of)))
            });
            if !tombstones.is_empty() {
                self.append(group, tombstones);
            }
        }
    }

    pub(super) fn on_offsets_expiry(&mut self, groups: &mut BTreeMap<GroupId, Group>) {
        let (now, retention) = (self.now.timestamp, self.settings.offsets_retention);
        let mut idle = Vec::new();
        for (id, group) in groups.iter_mut() {
            let tombstones = group.forget_offsets(id, |group, topic, offset| {
                group.is_expired(topic, offset, now, retention)
            });
            if !tombstones.is_empty() {
                self.append(group, tombstones);
            }
            if group.is_empty() && group.offsets.is_empty() && group.pending.is_empty() {
                idle.push(id.clone());
            }
        }
        for id in idle {
            self.delete_group(groups, &id);
        }
        let next = self.now.instant + self.settings.offsets_check_interval;
        self.timers.set(Timer::OffsetsExpiry, next);
    }
}

/// Whether a commit is from a member in its generation, or from outside into an empty group (I69).
fn validate_commit(group: &Group, request: &CommitOffsetsRequest) -> Result<(), ErrorCode> {
    if request.generation.is_none() && group.is_empty() {
        return Ok(());
    }
    let outside =
        request.generation.is_none() && request.member.is_none() && request.instance.is_none();
    if outside {
        return Err(ErrorCode::UnknownMemberId);
    }
    let member = request.member.as_ref().map_or("", |member| member.as_str());
    group.validate_member(member, request.instance.as_ref())?;
    if request.generation != Some(group.generation) {
        return Err(ErrorCode::IllegalGeneration);
    }
    // It knows of the generation from its JoinGroup, but does not own anything yet.
    if matches!(group.phase, Phase::Completing { .. }) {
        return Err(ErrorCode::RebalanceInProgress);
    }
    Ok(())
}

fn fetch(group: Option<&Group>, topic: FetchTopic) -> TopicOffsets {
    let of_topic = group.and_then(|group| group.offsets.get(&topic.topic));
    let offset = |partition: PartitionIndex| {
        let offset = of_topic?.get(&partition)?;
        let other = matches!((offset.topic_id, topic.topic_id), (Some(a), Some(b)) if a != b);
        (!other).then(|| offset.clone())
    };
    let partitions = topic.partitions.into_iter().map(|index| (index, offset(index))).collect();
    TopicOffsets { topic: topic.topic, partitions }
}

fn fetch_all(
    (topic, partitions): (&TopicName, &BTreeMap<PartitionIndex, GroupOffset>),
) -> TopicOffsets {
    let partitions = partitions.iter().map(|(index, offset)| (*index, Some(offset.clone())));
    TopicOffsets { topic: topic.clone(), partitions: partitions.collect() }
}

/// Whether `text` is longer than `max` as Java counts.
fn utf16_longer(text: &Str, max: usize) -> bool {
    text.len() > max && text.encode_utf16().count() > max
}
