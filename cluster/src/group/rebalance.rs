//! Membership: joining, agreeing, owning, leaving.
//!
//! Each rebalance makes a generation. A generation begins when all members have joined or their time is up; whoever
//! was not there is out, and everything said in an older generation is refused. That refusal is what keeps a partition
//! from having two owners (I66): a member that missed the rebalance learns with its next word that it owns nothing.
//!
//! The first rebalance of an empty group waits for more members: a whole delay after the last newcomer, at most as long
//! as a rebalance may take. Kafka looks once per delay whether somebody has come in between, and so waits up to twice as
//! long for a group whose members all start together.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use types::encoding::TEXT_BYTES_MAX;
use types::mutant::{Mutant, planted};
use types::{ErrorCode, Generation, GroupId, MemberId, Str, Uuid};

use super::api::{
    HeartbeatRequest, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, LeavingMember,
    Protocol, Response, SyncRequest, SyncResponse, Token,
};
use super::classic::{Group, Member, Phase};
use super::timers::Timer;
use super::{AppendNumber, PENDING_MEMBERS_MAX, Step, records};

/// How long a group of absent static members is left alone at least, even if they give a rebalance no time.
const ABSENCE_MIN: Duration = Duration::from_secs(1);

impl Step<'_> {
    pub(super) fn on_join(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        mut request: JoinRequest,
    ) {
        let bounds = self.settings.session_timeout_min..=self.settings.session_timeout_max;
        if !bounds.contains(&request.session_timeout) {
            return self.refuse_join(token, request.member, ErrorCode::InvalidSessionTimeout);
        }
        distinct(&mut request.protocols);
        let id = request.group.clone();
        if let Some(group) = groups.get_mut(&id) {
            return self.join(&id, group, token, request);
        }
        if request.member.is_some() {
            return self.refuse_join(token, request.member, ErrorCode::UnknownMemberId);
        }
        let mut group = Group::new(Some(self.now.timestamp));
        if !group.supports(&request.protocol_type, &request.protocols) {
            return self.refuse_join(token, None, ErrorCode::InconsistentGroupProtocol);
        }
        let record = records::group(&id, &group);
        self.append(&mut group, vec![record]);
        self.join(&id, &mut group, token, request);
        groups.insert(id, group);
    }

    fn join(&mut self, id: &GroupId, group: &mut Group, token: Token, request: JoinRequest) {
        if !self.accepts(group, request.member.as_ref()) {
            if let Some(member) = &request.member {
                self.remove(id, group, member);
            }
            return self.refuse_join(token, None, ErrorCode::GroupMaxSizeReached);
        }
        if !group.supports(&request.protocol_type, &request.protocols) {
            return self.refuse_join(token, request.member, ErrorCode::InconsistentGroupProtocol);
        }
        match request.member.clone() {
            None => self.join_newcomer(id, group, token, request),
            Some(member) => self.join_known(id, group, token, member, request),
        }
    }

    /// Whether there is room. While members are joining those count that have joined, so that when the limit has been
    /// lowered the last to rejoin are out.
    fn accepts(&self, group: &Group, member: Option<&MemberId>) -> bool {
        let known = member.and_then(|member| group.members.get(member));
        match group.phase {
            Phase::Empty => group.pending.len() < PENDING_MEMBERS_MAX,
            Phase::Preparing { .. } => {
                known.is_some_and(|member| member.joining.is_some())
                    || group.joining_count() < self.settings.members_max
            }
            Phase::Completing { .. } | Phase::Stable { .. } => {
                known.is_some() || group.members.len() < self.settings.members_max
            }
        }
    }

    fn join_newcomer(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        token: Token,
        request: JoinRequest,
    ) {
        let prefix = request.instance.as_ref().map_or(&request.client_id, |instance| &instance.0);
        let newcomer = member_id(prefix, request.fresh);
        match &request.instance {
            Some(instance) => match group.statics.get(instance).cloned() {
                Some(old) => self.replace_static(id, group, token, &old, newcomer, request),
                None => self.add(id, group, token, newcomer, request),
            },
            None if request.requires_known_member => {
                if group.pending.len() >= PENDING_MEMBERS_MAX {
                    return self.refuse_join(token, None, ErrorCode::GroupMaxSizeReached);
                }
                group.pending.insert(newcomer.clone());
                self.session(id, &newcomer, request.session_timeout);
                self.refuse_join(token, Some(newcomer), ErrorCode::MemberIdRequired);
            }
            None => self.add(id, group, token, newcomer, request),
        }
    }

    fn join_known(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        token: Token,
        member: MemberId,
        request: JoinRequest,
    ) {
        if group.pending.contains(&member) {
            if request.instance.is_some() {
                // A newcomer with a static name never got a pending id: Kafka calls this impossible.
                return self.refuse_join(token, Some(member), ErrorCode::UnknownServerError);
            }
            return self.add(id, group, token, member, request);
        }
        if let Err(error) = group.validate_member(member.as_str(), request.instance.as_ref()) {
            return self.refuse_join(token, Some(member), error);
        }
        let unchanged = group.members[&member].protocols == request.protocols;
        let leads = group.is_leader(&member);
        match group.phase {
            Phase::Empty => self.refuse_join(token, Some(member), ErrorCode::UnknownMemberId),
            // The first answer got lost: tell it again.
            Phase::Completing { .. } if unchanged => self.answer_join(group, token, &member, leads),
            // A follower that changes nothing need not disturb the others.
            Phase::Stable { .. } if unchanged && !leads => {
                self.answer_join(group, token, &member, false);
            }
            // A leader that rejoins has seen something its members have not, such as new partitions.
            _ => {
                self.update(group, token, &member, request);
                self.rebalance_or_complete(id, group);
            }
        }
    }

    fn add(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        token: Token,
        member: MemberId,
        request: JoinRequest,
    ) {
        if let Phase::Preparing { extensible: Some(latest), .. } = group.phase {
            // Others may follow: the wait begins anew, for whom it has begun already as well.
            let deadline = self.now.instant + self.settings.initial_rebalance_delay;
            self.timers.set(Timer::Join(id.clone()), deadline.min(latest));
        }
        let new = Member {
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            joining: Some(token),
            syncing: None,
            is_new: true,
        };
        group.add(member.clone(), &request.protocol_type, new);
        // It cannot send heartbeats yet, and its connection may die unnoticed while the request is parked: it waits for
        // a bounded time, after which it is expected to try again.
        self.session(id, &member, self.settings.new_member_join_timeout);
        self.rebalance_or_complete(id, group);
    }

    /// Takes over what a rejoining member offers, and parks its request.
    fn update(&mut self, group: &mut Group, token: Token, id: &MemberId, request: JoinRequest) {
        let mut member = group.members.remove(id).expect("looked up by the caller");
        group.count(&member, -1);
        member.protocols = request.protocols;
        member.rebalance_timeout = request.rebalance_timeout;
        member.session_timeout = request.session_timeout;
        if let Some(superseded) = member.joining.replace(token) {
            self.refuse_join(superseded, Some(id.clone()), ErrorCode::RebalanceInProgress);
        }
        group.count(&member, 1);
        group.members.insert(id.clone(), member);
    }

    /// A static member is back without its id: it takes over the place of its former self, which is fenced (I72, P17).
    fn replace_static(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        token: Token,
        old: &MemberId,
        new: MemberId,
        request: JoinRequest,
    ) {
        let led = group.leader.clone();
        let can_skip = request.can_skip_assignment;
        let mut member = group.members.remove(old).expect("the index of static members is exact");
        let instance = member.instance.clone().expect("a static member has a name");
        self.fence(old, &mut member);
        self.timers.cancel(&Timer::Session(id.clone(), old.clone()));
        if group.is_leader(old) {
            group.leader = Some(new.clone());
        }
        if let Phase::Completing { unsynced } | Phase::Stable { unsynced } = &mut group.phase {
            unsynced.remove(old);
        }
        group.statics.insert(instance, new.clone());
        self.session(id, &new, member.session_timeout);
        group.members.insert(new.clone(), member);
        self.update(group, token, &new, request);
        match group.phase {
            Phase::Stable { .. } if group.protocol == Some(group.select_protocol()) => {
                let record = records::group(id, group);
                if record.bytes() > self.settings.group_record_bytes_max {
                    return self.prepare_rebalance(id, group);
                }
                group.members.get_mut(&new).expect("inserted above").joining = None;
                self.append(group, vec![record]);
                group.subscribed = group.compute_subscribed();
                let leads = group.is_leader(&new);
                let mut response = joined(group, &new, can_skip && leads);
                if can_skip {
                    response.skip_assignment = leads;
                } else {
                    // An old client that learnt it leads would assign anew: name its former self instead.
                    response.leader = led;
                }
                let after = group.appended;
                self.reply(token, after, Response::Join(response));
            }
            // The old id may already be in the leader's hands; its assignment would reach nobody.
            Phase::Completing { .. } => self.prepare_rebalance(id, group),
            _ => self.rebalance_or_complete(id, group),
        }
    }

    /// Answers what the former self of a static member still waits for.
    fn fence(&mut self, old: &MemberId, member: &mut Member) {
        if let Some(token) = member.joining.take() {
            self.refuse_join(token, Some(old.clone()), ErrorCode::FencedInstanceId);
        }
        if let Some(token) = member.syncing.take() {
            self.refuse_sync(token, ErrorCode::FencedInstanceId);
        }
    }

    pub(super) fn on_sync(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        request: SyncRequest,
    ) {
        let id = request.group.clone();
        let Some(group) = groups.get_mut(&id) else {
            return self.refuse_sync(token, ErrorCode::UnknownMemberId);
        };
        if let Err(error) = validate_sync(group, &request) {
            return self.refuse_sync(token, error);
        }
        let all_synced = match &mut group.phase {
            Phase::Empty => return self.refuse_sync(token, ErrorCode::UnknownMemberId),
            Phase::Preparing { .. } => {
                return self.refuse_sync(token, ErrorCode::RebalanceInProgress);
            }
            Phase::Completing { unsynced } | Phase::Stable { unsynced } => {
                unsynced.remove(&request.member);
                unsynced.is_empty()
            }
        };
        if all_synced {
            self.timers.cancel(&Timer::Sync(id.clone()));
        }
        if matches!(group.phase, Phase::Stable { .. }) {
            let member = &group.members[&request.member];
            let (assignment, session_timeout) = (member.assignment.clone(), member.session_timeout);
            // Who asks is alive, and may count its session from this question on (I67).
            self.session(&id, &request.member, session_timeout);
            return self.answer_sync(group, token, assignment);
        }
        let member = group.members.get_mut(&request.member).expect("validated above");
        if let Some(superseded) = member.syncing.replace(token) {
            self.refuse_sync(superseded, ErrorCode::RebalanceInProgress);
        }
        if group.is_leader(&request.member) {
            self.assign(&id, group, request.assignments);
        }
    }

    /// The leader has assigned: everyone gets its part once it is in the log.
    fn assign(&mut self, id: &GroupId, group: &mut Group, assignments: Vec<(MemberId, Bytes)>) {
        let mut assignments: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
        for (member, m) in &mut group.members {
            m.assignment = assignments.remove(member).unwrap_or_default();
        }
        group.since = Some(self.now.timestamp);
        let record = records::group(id, group);
        if record.bytes() > self.settings.group_record_bytes_max {
            self.withdraw_assignment(id, group, ErrorCode::UnknownServerError);
            return self.prepare_rebalance(id, group);
        }
        self.append(group, vec![record]);
        if let Phase::Completing { unsynced } = &mut group.phase {
            group.phase = Phase::Stable { unsynced: std::mem::take(unsynced) };
        }
        for (member, token) in waiting_to_sync(group) {
            let m = group.members.get_mut(&member).expect("listed from the members");
            m.syncing = None;
            let (assignment, session_timeout) = (m.assignment.clone(), m.session_timeout);
            self.answer_sync(group, token, assignment);
            self.session(id, &member, session_timeout);
        }
    }

    pub(super) fn on_heartbeat(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        request: &HeartbeatRequest,
    ) {
        let error = match groups.get_mut(&request.group) {
            Some(group) => self.heartbeat(group, request),
            None => ErrorCode::UnknownMemberId,
        };
        self.reply(token, AppendNumber::NONE, Response::Heartbeat(error));
    }

    fn heartbeat(&mut self, group: &mut Group, request: &HeartbeatRequest) -> ErrorCode {
        let member = request.member.as_str();
        if let Err(error) = group.validate_member(member, request.instance.as_ref()) {
            return error;
        }
        if request.generation != Some(group.generation) {
            return ErrorCode::IllegalGeneration;
        }
        let session_timeout = group.members[member].session_timeout;
        self.session(&request.group, &request.member, session_timeout);
        match group.phase {
            Phase::Empty => ErrorCode::UnknownMemberId,
            Phase::Preparing { .. } => ErrorCode::RebalanceInProgress,
            Phase::Completing { .. } | Phase::Stable { .. } => ErrorCode::None,
        }
    }

    pub(super) fn on_leave(
        &mut self,
        groups: &mut BTreeMap<GroupId, Group>,
        token: Token,
        request: LeaveRequest,
    ) {
        let id = request.group;
        let Some(group) = groups.get_mut(&id) else {
            let members = request.members.into_iter().map(|m| (m, ErrorCode::UnknownMemberId));
            let members = members.collect();
            let response = LeaveResponse { error: ErrorCode::None, members };
            return self.reply(token, AppendNumber::NONE, Response::Leave(response));
        };
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let error = match who_leaves(group, &leaving) {
                Ok(member) => {
                    self.remove(&id, group, &member);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push((leaving, error));
        }
        if members.iter().any(|(_, error)| error.is_none()) && !group.is_empty() {
            self.rebalance_or_complete(&id, group);
        }
        let response = LeaveResponse { error: ErrorCode::None, members };
        self.reply(token, group.appended, Response::Leave(response));
    }

    /// The group waits no longer for members to join.
    pub(super) fn on_join_deadline(&mut self, id: &GroupId, group: &mut Group) {
        if matches!(group.phase, Phase::Preparing { .. }) {
            self.complete_join(id, group);
        }
    }

    /// The group waits no longer for members to ask for their assignment: those who have not are out.
    pub(super) fn on_sync_deadline(&mut self, id: &GroupId, group: &mut Group) {
        let late = match &group.phase {
            Phase::Completing { unsynced } | Phase::Stable { unsynced } => unsynced.clone(),
            Phase::Empty | Phase::Preparing { .. } => return,
        };
        if late.is_empty() {
            return;
        }
        for member in &late {
            self.remove(id, group, member);
        }
        self.prepare_rebalance(id, group);
    }

    /// A member has been silent for too long.
    pub(super) fn on_session_deadline(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        member: &MemberId,
    ) {
        let known = group.members.get(member);
        if !group.pending.contains(member) && known.is_none_or(Member::has_satisfied_heartbeat) {
            return;
        }
        let was_member = known.is_some();
        self.remove(id, group, member);
        match group.phase {
            Phase::Preparing { .. } if group.has_all_joined() => self.complete_join(id, group),
            Phase::Completing { .. } | Phase::Stable { .. } if was_member => {
                self.prepare_rebalance(id, group);
            }
            _ => {}
        }
    }

    /// Takes a member or pending newcomer out. What it still waits for is answered: it may start anew.
    fn remove(&mut self, id: &GroupId, group: &mut Group, member: &MemberId) {
        self.timers.cancel(&Timer::Session(id.clone(), member.clone()));
        let Some(removed) = group.remove(member) else { return };
        if let Some(token) = removed.joining {
            self.refuse_join(token, None, ErrorCode::UnknownMemberId);
        }
        if let Some(token) = removed.syncing {
            self.refuse_sync(token, ErrorCode::UnknownMemberId);
        }
    }

    fn rebalance_or_complete(&mut self, id: &GroupId, group: &mut Group) {
        match group.phase {
            Phase::Preparing { from_empty, .. } => {
                if !from_empty && group.has_all_joined() {
                    self.complete_join(id, group);
                }
            }
            Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => {
                self.prepare_rebalance(id, group);
            }
        }
    }

    /// Begins a rebalance: members learn of it by their next heartbeat and have until the deadline to join.
    pub(super) fn prepare_rebalance(&mut self, id: &GroupId, group: &mut Group) {
        if matches!(group.phase, Phase::Completing { .. }) {
            self.withdraw_assignment(id, group, ErrorCode::RebalanceInProgress);
        }
        self.timers.cancel(&Timer::Sync(id.clone()));
        let rebalance_timeout = group.rebalance_timeout();
        let from_empty = group.is_empty();
        let delay = self.settings.initial_rebalance_delay;
        let extensible = from_empty.then(|| self.now.instant + rebalance_timeout.max(delay));
        group.phase = Phase::Preparing { from_empty, extensible };
        group.since = Some(self.now.timestamp);
        if from_empty {
            self.join_deadline(id, delay);
        } else if group.has_all_joined() {
            self.complete_join(id, group);
        } else {
            self.join_deadline(id, rebalance_timeout);
        }
    }

    fn join_deadline(&mut self, id: &GroupId, timeout: Duration) {
        self.timers.set(Timer::Join(id.clone()), self.now.instant + timeout);
    }

    /// Nobody owns anything until the next assignment; who waits for the last one is told so.
    fn withdraw_assignment(&mut self, id: &GroupId, group: &mut Group, error: ErrorCode) {
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (member, token) in waiting_to_sync(group) {
            let m = group.members.get_mut(&member).expect("listed from the members");
            m.syncing = None;
            let session_timeout = m.session_timeout;
            self.refuse_sync(token, error);
            self.session(id, &member, session_timeout);
        }
    }

    /// Joining is over: who has joined makes the next generation.
    fn complete_join(&mut self, id: &GroupId, group: &mut Group) {
        self.timers.cancel(&Timer::Join(id.clone()));
        let absent: Vec<MemberId> = group
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(member, _)| member.clone())
            .collect();
        for member in &absent {
            self.remove(id, group, member);
        }
        if !elect_leader(group) {
            // Only absent static members are left: wait until they come back or their sessions end.
            if let Phase::Preparing { extensible, .. } = &mut group.phase {
                *extensible = None;
            }
            return self.join_deadline(id, group.rebalance_timeout().max(ABSENCE_MIN));
        }
        // Whoever was in the last one owns nothing in this one: the number says so (I66).
        if group.generation == Generation(0) || !planted(Mutant::TwoOwners) {
            group.generation = Generation(group.generation.0.saturating_add(1));
        }
        group.since = Some(self.now.timestamp);
        if group.members.is_empty() {
            group.protocol = None;
            group.subscribed = group.compute_subscribed();
            group.phase = Phase::Empty;
            let record = records::group(id, group);
            return self.append(group, vec![record]);
        }
        group.protocol = Some(group.select_protocol());
        group.subscribed = group.compute_subscribed();
        group.phase = Phase::Completing { unsynced: group.members.keys().cloned().collect() };
        // Before anyone hears of this generation its number is taken (I65).
        let record = records::generation(id, group);
        self.append(group, vec![record]);
        self.timers.set(Timer::Sync(id.clone()), self.now.instant + group.rebalance_timeout());
        let members: Vec<MemberId> = group.members.keys().cloned().collect();
        for member in members {
            let leads = group.is_leader(&member);
            let m = group.members.get_mut(&member).expect("listed from the members");
            m.is_new = false;
            let session_timeout = m.session_timeout;
            if let Some(token) = m.joining.take() {
                self.answer_join(group, token, &member, leads);
            }
            self.session(id, &member, session_timeout);
        }
    }

    /// The member is alive until `timeout` from now unless it is heard of again.
    pub(super) fn session(&mut self, id: &GroupId, member: &MemberId, timeout: Duration) {
        let deadline = self.now.instant + timeout;
        self.timers.set(Timer::Session(id.clone(), member.clone()), deadline);
    }

    fn answer_join(&mut self, group: &Group, token: Token, member: &MemberId, with_members: bool) {
        let response = joined(group, member, with_members);
        self.reply(token, group.appended, Response::Join(response));
    }

    fn refuse_join(&mut self, token: Token, member: Option<MemberId>, error: ErrorCode) {
        let response = JoinResponse { error, member, ..JoinResponse::default() };
        self.reply(token, AppendNumber::NONE, Response::Join(response));
    }

    fn answer_sync(&mut self, group: &Group, token: Token, assignment: Bytes) {
        let response = SyncResponse {
            error: ErrorCode::None,
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            assignment,
        };
        self.reply(token, group.appended, Response::Sync(response));
    }

    fn refuse_sync(&mut self, token: Token, error: ErrorCode) {
        let response = SyncResponse { error, ..SyncResponse::default() };
        self.reply(token, AppendNumber::NONE, Response::Sync(response));
    }
}

/// What a member hears of the generation it is in.
fn joined(group: &Group, member: &MemberId, with_members: bool) -> JoinResponse {
    JoinResponse {
        error: ErrorCode::None,
        generation: Some(group.generation),
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        skip_assignment: false,
        member: Some(member.clone()),
        members: if with_members { group.joined_members() } else { Vec::new() },
    }
}

fn validate_sync(group: &Group, request: &SyncRequest) -> Result<(), ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::UnknownMemberId);
    }
    group.validate_member(request.member.as_str(), request.instance.as_ref())?;
    if request.generation != Some(group.generation) {
        return Err(ErrorCode::IllegalGeneration);
    }
    let differs = |theirs: &Option<Str>, ours: &Option<Str>| matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs != ours);
    if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol, &group.protocol)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

fn who_leaves(group: &Group, leaving: &LeavingMember) -> Result<MemberId, ErrorCode> {
    match (&leaving.member, &leaving.instance) {
        (None, Some(instance)) => {
            group.statics.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)
        }
        (None, None) => Err(ErrorCode::UnknownMemberId),
        (Some(member), _) if group.pending.contains(member) => Ok(member.clone()),
        (Some(member), instance) => {
            group.validate_member(member.as_str(), instance.as_ref())?;
            Ok(member.clone())
        }
    }
}

/// Makes sure that someone who has joined leads. False when members are left but none has joined.
fn elect_leader(group: &mut Group) -> bool {
    let Some(leader) = &group.leader else { return true };
    if group.members[leader].joining.is_some() {
        return true;
    }
    let elected = group.members.iter().find(|(_, member)| member.joining.is_some());
    match elected.map(|(member, _)| member.clone()) {
        Some(member) => {
            group.leader = Some(member);
            true
        }
        None => false,
    }
}

fn waiting_to_sync(group: &Group) -> Vec<(MemberId, Token)> {
    let waiting = |(id, member): (&MemberId, &Member)| Some((id.clone(), member.syncing?));
    group.members.iter().filter_map(waiting).collect()
}

/// Of protocols named twice the first counts.
fn distinct(protocols: &mut Vec<Protocol>) {
    let mut seen = std::collections::BTreeSet::new();
    protocols.retain(|protocol| seen.insert(protocol.name.clone()));
}

/// An id for a newcomer, in Kafka's form: client id or static name, and a random UUID.
fn member_id(prefix: &str, fresh: Uuid) -> MemberId {
    // What follows is 37 bytes; the whole must fit where texts of the protocol fit.
    let prefix = &prefix[..prefix.floor_char_boundary(TEXT_BYTES_MAX - 37)];
    let hex: String = fresh.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    MemberId::from(format!("{prefix}-{}", parts.join("-")))
}
