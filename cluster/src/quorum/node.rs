//! One node of the quorum.
//!
//! Invariants, asserted in [`Quorum::check`] and judged by the exhaustive search: one leader per epoch, because a vote is
//! stored before it is given (I37); what is committed never changes, because a leader commits by counting only in its own
//! epoch and only what is synced, its own log included (I38, I39); one uncommitted change of voters (I42).

use std::fmt;

use types::mutant::{Mutant, planted};
use types::{NodeId, Offset, QuorumEpoch};

use super::message::{Answer, Begin, End, Fetch, Records, Refusal, Reply, Request, Span, Vote};
use super::role::{FetchWait, Follower, Leader, Poll, Role};
use super::shape::{Look, Position, Shape};
use super::voters::{Endpoint, ReplicaKey, Voter, VoterHistory, Voters};
use super::{Ballot, Control, Effect, Event, Ticket, Timer};

/// A node of the quorum: voter or observer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Quorum {
    me: ReplicaKey,
    epoch: QuorumEpoch,
    voted: Option<ReplicaKey>,
    log: Shape,
    voters: VoterHistory,
    high_watermark: Offset,
    /// Whether it leads if it is elected: a node that serves as a broker alone cannot.
    stands: bool,
    role: Role,
}

type Effects = Vec<Effect>;

/// Epochs that a node may have missed, an election a second for half a year: who names a later one is of no quorum, and there is no
/// way back from one.
const EPOCH_JUMP_MAX: i32 = 1 << 24;
/// Records that one batch may hold.
const SPAN_MAX: i64 = i32::MAX as i64;

impl Quorum {
    /// A node as its disk remembers it. What lies before `log`'s start is committed; of the rest nothing is known yet.
    pub fn new(me: ReplicaKey, ballot: Ballot, log: Shape, voters: VoterHistory) -> Quorum {
        // A log can be ahead of the ballot: an epoch that it was told of by its leader's records alone.
        let newer = log.last().epoch > ballot.epoch;
        let quorum = Quorum {
            me,
            epoch: ballot.epoch.max(log.last().epoch),
            voted: ballot.voted.filter(|_| !newer),
            high_watermark: log.start().offset,
            log,
            voters,
            stands: true,
            role: Role::Unattached,
        };
        quorum.check();
        quorum
    }

    /// The same node, which stands for no election, whatever the log says.
    pub fn never_standing(self) -> Quorum {
        Quorum { stands: false, ..self }
    }

    /// Who votes at `offset`, by what the log says below it.
    pub fn voters_at(&self, offset: Offset) -> &Voters {
        self.voters.at(offset)
    }

    /// Takes one event. The only mutation; the same events give the same effects.
    pub fn step(&mut self, event: Event, effects: &mut Effects) {
        let (ballot, high_watermark, first) = (self.ballot(), self.high_watermark, effects.len());
        match event {
            Event::Start => self.on_start(effects),
            Event::Timeout(timer) => self.on_timeout(timer, effects),
            Event::Asked(ticket, request) => self.on_asked(ticket, request, effects),
            Event::Answered { from, asked, reply } => self.on_answered(from, asked, reply, effects),
            Event::Unanswered { to, asked } => self.on_unanswered(to, &asked, effects),
            Event::Told(leader, epoch) => self.on_told(leader, epoch, effects),
            Event::Decided(records) => self.on_decided(records, effects),
            Event::Synced(end) => self.on_synced(end, effects),
            Event::Loading => self.on_loading(effects),
            Event::NotLoaded => self.on_not_loaded(effects),
            Event::Loaded(start, voters) => self.on_loaded(start, voters, effects),
            Event::Trimmed(start) => self.on_trimmed(start),
            Event::Resign => self.on_resign(effects),
        }
        let is_lost = planted(Mutant::VoteNotStored) && self.voted.is_some();
        if self.ballot() != ballot && !is_lost {
            // Before anything that leaves the node (E32).
            effects.insert(first, Effect::Store(self.ballot()));
        }
        assert!(self.ballot().epoch >= ballot.epoch, "{self}: epoch went back (I37)");
        assert!(self.high_watermark >= high_watermark, "{self}: watermark went back (I46)");
        self.check();
    }

    /// The epoch it is in.
    pub fn epoch(&self) -> QuorumEpoch {
        self.epoch
    }

    /// Its part.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The leader of its epoch, if it knows one.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.me.node),
            Role::Follower(follower) => Some(follower.leader),
            _ => None,
        }
    }

    /// Whether it leads and everything of earlier epochs is committed: only then may its controller decide anything.
    pub fn may_decide(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.high_watermark > leader.epoch_start)
    }

    /// The log's shape.
    pub fn log(&self) -> &Shape {
        &self.log
    }

    /// The voters by the newest set in the log.
    pub fn voters(&self) -> &Voters {
        self.voters.newest()
    }

    /// End of what it knows to be committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Replicas that fetch from this leader, with their synced ends.
    pub fn followers(&self) -> impl Iterator<Item = (ReplicaKey, Offset)> + '_ {
        let ends = match &self.role {
            Role::Leader(leader) => Some(leader.ends.iter()),
            _ => None,
        };
        ends.into_iter().flatten().map(|(key, end)| (*key, *end))
    }

    fn ballot(&self) -> Ballot {
        Ballot { epoch: self.epoch, voted: self.voted }
    }

    fn is_voter(&self) -> bool {
        self.voters().contains(self.me)
    }

    /// Whether it may stand for election. Its own removal does not count before it is committed: those who have not heard of
    /// it need this vote, and may need this log (Raft dissertation, section 4.2.2).
    pub fn may_stand(&self) -> bool {
        let before = self.voters.before_uncommitted(self.high_watermark);
        let is_removed = planted(Mutant::RemovalCountsAtOnce);
        let votes =
            self.is_voter() || before.is_some_and(|voters| voters.contains(self.me) && !is_removed);
        votes && self.stands
    }

    fn others(&self) -> Vec<NodeId> {
        self.voters().nodes().filter(|node| *node != self.me.node).collect()
    }

    fn on_start(&mut self, effects: &mut Effects) {
        // To ask at once disturbs nobody, and the last of a majority to come up is answered at once, too.
        match self.may_stand() {
            true => self.poll(effects),
            false => self.seek(effects),
        }
    }

    fn on_timeout(&mut self, timer: Timer, effects: &mut Effects) {
        if !self.role.heeds(timer) {
            return;
        }
        match timer {
            // Its own disk is slow, and not its leader silent.
            Timer::Fetch if self.waits_for_own_sync() => effects.push(Effect::Arm(Timer::Fetch)),
            Timer::Election | Timer::Fetch if self.may_stand() => self.poll(effects),
            Timer::Election | Timer::Fetch | Timer::Seek => self.seek(effects),
            Timer::CheckQuorum => self.on_check_quorum(effects),
            Timer::Announce => self.announce(effects),
            Timer::Retry => self.fetch(effects),
        }
    }

    fn waits_for_own_sync(&self) -> bool {
        let unsynced = self.log.durable() < self.log.end();
        matches!(&self.role, Role::Follower(follower) if follower.waits == FetchWait::Sync)
            && unsynced
    }

    fn on_check_quorum(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else { return };
        match leader.takes_majority(self.me, self.voters.newest()) {
            // The sole voter: nobody has to fetch.
            true => effects.push(Effect::Arm(Timer::CheckQuorum)),
            false => self.detach(effects),
        }
    }

    fn on_asked(&mut self, ticket: Ticket, request: Request, effects: &mut Effects) {
        let epoch = request.epoch();
        if epoch.is_some_and(|epoch| epoch.0.saturating_sub(self.epoch.0) > EPOCH_JUMP_MAX) {
            let body = Answer::Refused(Refusal::Inconsistent);
            return effects.push(Effect::Reply(ticket, self.reply(body)));
        }
        let answer = match request {
            Request::Vote(vote) => self.on_vote(vote, effects),
            Request::Begin(begin) => self.on_begin(begin, effects),
            Request::End(end) => self.on_end(&end, effects),
            Request::Fetch(fetch) => self.on_fetch(fetch, effects),
            Request::Snapshot(fetch) => self.on_fetch_snapshot(fetch, effects),
            Request::AddVoter(key, endpoints) => {
                let changed = self.with_voter(key, endpoints);
                self.change_voters(ticket, changed, effects)
            }
            Request::RemoveVoter(key) => {
                let changed = self.without_voter(key);
                self.change_voters(ticket, changed, effects)
            }
            Request::UpdateVoter(key, endpoints) => {
                let changed = self.with_endpoints(key, endpoints);
                self.change_voters(ticket, changed, effects)
            }
        };
        if let Some(body) = answer {
            effects.push(Effect::Reply(ticket, self.reply(body)));
        }
    }

    fn on_vote(&mut self, vote: Vote, effects: &mut Effects) -> Option<Answer> {
        let is_other = vote.directory.is_some_and(|directory| directory != self.me.directory);
        if vote.voter != self.me.node || is_other {
            return Some(Answer::Refused(Refusal::WrongVoter));
        }
        if vote.epoch < self.epoch {
            return Some(Answer::Refused(Refusal::Fenced));
        }
        if vote.epoch > self.epoch {
            self.enter(vote.epoch, effects);
        }
        let has_all = vote.last >= self.log.last() || planted(Mutant::VoteForShorterLog);
        let is_wanted = match (&self.role, vote.is_pre) {
            (Role::Leader(_), _) => false,
            // Whoever hears its leader wants no other (KIP-996).
            (Role::Follower(follower), true) => !follower.is_attached,
            (_, true) => true,
            (Role::Unattached | Role::Prospective(_), false) if self.voted.is_none() => true,
            (_, false) => self.voted == Some(vote.candidate),
        };
        let granted = has_all && is_wanted;
        if granted && !vote.is_pre && self.voted.is_none() {
            self.voted = Some(vote.candidate);
            self.detach(effects);
        }
        Some(Answer::Vote(granted))
    }

    fn on_begin(&mut self, begin: Begin, effects: &mut Effects) -> Option<Answer> {
        if begin.epoch < self.epoch {
            return Some(Answer::Refused(Refusal::Fenced));
        }
        if begin.epoch > self.epoch {
            self.enter(begin.epoch, effects);
        }
        match self.leader() {
            _ if begin.leader == self.me.node => Some(Answer::Refused(Refusal::Inconsistent)),
            Some(leader) if leader != begin.leader => Some(Answer::Refused(Refusal::Inconsistent)),
            Some(_) => Some(Answer::Done),
            None => {
                self.follow(begin.leader, effects);
                Some(Answer::Done)
            }
        }
    }

    fn on_end(&mut self, end: &End, effects: &mut Effects) -> Option<Answer> {
        if end.epoch < self.epoch {
            return Some(Answer::Refused(Refusal::Fenced));
        }
        if end.epoch > self.epoch {
            self.enter(end.epoch, effects);
        }
        match &self.role {
            Role::Leader(_) => return Some(Answer::Refused(Refusal::Inconsistent)),
            Role::Follower(follower) if follower.leader != end.leader => {
                return Some(Answer::Refused(Refusal::Inconsistent));
            }
            Role::Candidate(_) => {}
            // The leader itself has let go: nobody needs to be asked before.
            _ if self.may_stand() && end.successors.first() == Some(&self.me.node) => {
                self.stand(effects);
            }
            _ => self.detach(effects),
        }
        Some(Answer::Done)
    }

    fn on_fetch(&mut self, fetch: Fetch, effects: &mut Effects) -> Option<Answer> {
        let look = self.log.look(fetch.last);
        let end = (look == Look::Matches).then_some(fetch.last.offset);
        if let Err(refusal) = self.hear(fetch, end, effects) {
            return Some(Answer::Refused(refusal));
        }
        self.advance(effects);
        self.name_voters(effects);
        let start = self.log.start();
        Some(match look {
            Look::Matches => Answer::Records(self.records()),
            Look::Diverges(shared) => Answer::Diverging(shared),
            Look::BeforeStart => Answer::Snapshot(start),
        })
    }

    fn on_fetch_snapshot(&mut self, fetch: Fetch, effects: &mut Effects) -> Option<Answer> {
        Some(match self.hear(fetch, None, effects) {
            Ok(()) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal),
        })
    }

    /// A leader hears a replica.
    fn hear(
        &mut self,
        fetch: Fetch,
        end: Option<Offset>,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if fetch.epoch < self.epoch {
            return Err(Refusal::Fenced);
        }
        if fetch.epoch > self.epoch {
            // Somebody has been asked for votes in it: who leads an older epoch will not be followed by this replica again.
            self.enter(fetch.epoch, effects);
        }
        let Role::Leader(leader) = &mut self.role else { return Err(Refusal::NotLeader) };
        leader.on_fetched(fetch.replica, end, self.voters.newest());
        if leader.takes_majority(self.me, self.voters.newest()) {
            effects.push(Effect::Arm(Timer::CheckQuorum));
        }
        Ok(())
    }

    fn on_answered(&mut self, from: NodeId, asked: Request, reply: Reply, effects: &mut Effects) {
        if reply.epoch.0.saturating_sub(self.epoch.0) > EPOCH_JUMP_MAX {
            return;
        }
        if reply.epoch > self.epoch {
            self.enter(reply.epoch, effects);
        }
        if reply.epoch < self.epoch {
            return;
        }
        let leader = reply.leader.filter(|leader| *leader != self.me.node);
        let is_poll = matches!((&asked, &reply.body),
            (Request::Vote(vote), Answer::Vote(_)) if vote.is_pre);
        if let Some(leader) = leader.filter(|_| self.leader().is_none() && !is_poll) {
            return self.follow(leader, effects);
        }
        match (asked, reply.body) {
            (Request::Vote(vote), Answer::Vote(granted)) if vote.is_pre => {
                self.on_would_vote(from, vote, granted, leader, effects);
            }
            (Request::Vote(vote), Answer::Vote(granted)) => {
                self.on_voted(from, vote, granted, effects);
            }
            (Request::Fetch(fetch), answer) if fetch.epoch == reply.epoch => {
                self.on_fetched(from, fetch, answer, effects);
            }
            _ => {}
        }
    }

    /// A voter would vote for this node, or not: `leader` is whom it follows then. That leader may be gone, and who says so
    /// may only not know it yet: it is believed when the poll is lost.
    fn on_would_vote(
        &mut self,
        from: NodeId,
        vote: Vote,
        granted: bool,
        leader: Option<NodeId>,
        effects: &mut Effects,
    ) {
        let Role::Prospective(poll) = &mut self.role else { return };
        if vote.epoch != self.epoch {
            return;
        }
        poll.note(from, granted);
        match (poll.outcome(self.voters.newest()), leader) {
            (Some(false), Some(leader)) => self.follow(leader, effects),
            _ => self.count(effects),
        }
    }

    fn on_voted(&mut self, from: NodeId, vote: Vote, granted: bool, effects: &mut Effects) {
        let Role::Candidate(poll) = &mut self.role else { return };
        if vote.epoch == self.epoch {
            poll.note(from, granted);
            self.count(effects);
        }
    }

    fn on_fetched(&mut self, from: NodeId, fetch: Fetch, answer: Answer, effects: &mut Effects) {
        let last = self.log.last();
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.leader != from || follower.waits != FetchWait::Answer || fetch.last != last {
            // An answer to what it does not ask any more.
            return;
        }
        if !self.is_sound(&answer) {
            return self.pause(effects);
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.is_attached = true;
        }
        effects.push(Effect::Arm(Timer::Fetch));
        match answer {
            Answer::Records(records) => self.on_records(records, effects),
            Answer::Diverging(shared) => self.on_diverging(shared, effects),
            Answer::Snapshot(end) => {
                self.wait(FetchWait::Snapshot(end));
                effects.push(Effect::FetchSnapshot(from, end));
            }
            Answer::Refused(_) | Answer::Vote(_) | Answer::Done => {}
        }
    }

    /// Whether an answer is one to a fetch, and leads anywhere: a peer can send anything.
    fn is_sound(&self, answer: &Answer) -> bool {
        let start = self.log.start().offset;
        match answer {
            Answer::Records(records) => self.follow_the_log(&records.spans),
            Answer::Diverging(shared) => {
                // One that cuts nothing would be asked for for ever.
                shared.offset >= start && self.log.cut_for(*shared) < self.log.end()
            }
            Answer::Snapshot(end) => {
                end.epoch <= self.epoch && end.offset > start && end.offset >= self.high_watermark
            }
            Answer::Refused(_) | Answer::Vote(_) | Answer::Done => false,
        }
    }

    fn on_records(&mut self, records: Records, effects: &mut Effects) {
        let is_empty = records.spans.is_empty();
        if !is_empty {
            effects.push(Effect::AppendFetched);
        }
        for span in records.spans {
            if let Some(voters) = span.voters {
                self.voters.push(self.log.end(), voters);
            }
            self.log.append(span.epoch, span.end);
        }
        self.commit(records.high_watermark.min(self.log.end()), effects);
        match is_empty || planted(Mutant::FetchBeforeSync) {
            true => self.fetch(effects),
            false => self.wait(FetchWait::Sync),
        }
    }

    /// Whether a log may go on with these.
    fn follow_the_log(&self, spans: &[Span]) -> bool {
        let (mut at, epoch) = (self.log.last(), self.epoch);
        spans.iter().all(|span| {
            let records = span.end.0.checked_sub(at.offset.0);
            let is_next = records.is_some_and(|count| (1..=SPAN_MAX).contains(&count))
                && (at.epoch..=epoch).contains(&span.epoch)
                && span.voters.as_ref().is_none_or(|voters| !voters.0.is_empty());
            at = Position { epoch: span.epoch, offset: span.end };
            is_next
        })
    }

    fn on_diverging(&mut self, shared: Position, effects: &mut Effects) {
        let end = self.log.cut_for(shared);
        if end < self.high_watermark {
            // Nothing that is right leads here; to go on would undo what was acted on (I38).
            let reason = format!(
                "{self}: the leader's log parts from this one at {}, below what is committed",
                shared.offset
            );
            return effects.push(Effect::Halt(reason));
        }
        self.truncate(end, effects);
        self.fetch(effects);
    }

    fn on_unanswered(&mut self, to: NodeId, asked: &Request, effects: &mut Effects) {
        let Role::Follower(follower) = &self.role else { return };
        let Request::Fetch(fetch) = asked else { return };
        let is_last = fetch.epoch == self.epoch && fetch.last == self.log.last();
        if is_last && follower.leader == to && follower.waits == FetchWait::Answer {
            self.pause(effects);
        }
    }

    fn on_told(&mut self, leader: NodeId, epoch: QuorumEpoch, effects: &mut Effects) {
        let is_known = self.leader().is_some() || leader == self.me.node;
        if is_known || epoch < self.epoch || epoch.0 - self.epoch.0 > EPOCH_JUMP_MAX {
            return;
        }
        if epoch > self.epoch {
            self.enter(epoch, effects);
        }
        self.follow(leader, effects);
    }

    fn on_decided(&mut self, records: u32, effects: &mut Effects) {
        if matches!(self.role, Role::Leader(_)) && records > 0 {
            self.log.append(self.epoch, self.log.end().plus(i64::from(records)));
            effects.push(Effect::AppendDecided);
        }
    }

    fn on_synced(&mut self, end: Offset, effects: &mut Effects) {
        self.log.sync(end);
        match &self.role {
            Role::Leader(_) => self.advance(effects),
            Role::Follower(follower)
                if follower.waits == FetchWait::Sync && self.log.durable() == self.log.end() =>
            {
                self.fetch(effects);
            }
            _ => {}
        }
    }

    fn on_loading(&mut self, effects: &mut Effects) {
        if self.snapshot_waited_for().is_some() {
            effects.push(Effect::Arm(Timer::Fetch));
        }
    }

    fn on_not_loaded(&mut self, effects: &mut Effects) {
        if self.snapshot_waited_for().is_some() {
            self.pause(effects);
        }
    }

    fn snapshot_waited_for(&self) -> Option<Position> {
        match &self.role {
            Role::Follower(Follower { waits: FetchWait::Snapshot(end), .. }) => Some(*end),
            _ => None,
        }
    }

    fn on_loaded(&mut self, start: Position, voters: Voters, effects: &mut Effects) {
        let is_newer = start.offset >= self.high_watermark && !voters.0.is_empty();
        if self.snapshot_waited_for() != Some(start) || !is_newer {
            return;
        }
        effects.push(Effect::Restart(start));
        self.log = Shape::new(start);
        self.voters = VoterHistory::new(voters);
        self.commit(start.offset, effects);
        effects.push(Effect::Arm(Timer::Fetch));
        self.fetch(effects);
    }

    fn on_trimmed(&mut self, start: Offset) {
        if start <= self.log.start().offset {
            // A newer snapshot was loaded meanwhile.
            return;
        }
        assert!(start <= self.high_watermark, "{self}: a snapshot of what is not committed");
        self.log.trim(start);
        self.voters.trim(start);
    }

    fn on_resign(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &self.role else { return };
        let successors = leader.successors(self.me.node, self.voters());
        for node in self.others() {
            let end =
                End { epoch: self.epoch, leader: self.me.node, successors: successors.clone() };
            effects.push(Effect::Send(node, Request::End(end)));
        }
        self.detach(effects);
    }

    /// The voters with another one.
    fn with_voter(&self, key: ReplicaKey, endpoints: Vec<Endpoint>) -> Result<Voters, Refusal> {
        let mut voters = self.voters().clone();
        let voter = Voter { directory: Some(key.directory), endpoints };
        if voters.0.insert(key.node, voter).is_some() {
            return Err(Refusal::DuplicateVoter);
        }
        // A voter that lags would stop everything until it has caught up.
        let end = self.followers().find(|(replica, _)| *replica == key).map(|(_, end)| end);
        match end >= Some(self.high_watermark) {
            true => Ok(voters),
            false => Err(Refusal::Lags),
        }
    }

    /// The voters without one.
    fn without_voter(&self, key: ReplicaKey) -> Result<Voters, Refusal> {
        let mut voters = self.voters().clone();
        if !voters.contains(key) {
            return Err(Refusal::VoterNotFound);
        }
        voters.0.remove(&key.node);
        match voters.0.is_empty() {
            true => Err(Refusal::LastVoter),
            false => Ok(voters),
        }
    }

    /// The voters, one of which listens elsewhere.
    fn with_endpoints(&self, key: ReplicaKey, endpoints: Vec<Endpoint>) -> Result<Voters, Refusal> {
        let mut voters = self.voters().clone();
        let known = voters.0.get_mut(&key.node);
        let voter = known.filter(|voter| voter.directory == Some(key.directory));
        voter.ok_or(Refusal::VoterNotFound)?.endpoints = endpoints;
        Ok(voters)
    }

    /// Begins to change the voters; answered when the change is committed.
    fn change_voters(
        &mut self,
        ticket: Ticket,
        changed: Result<Voters, Refusal>,
        effects: &mut Effects,
    ) -> Option<Answer> {
        if !matches!(self.role, Role::Leader(_)) {
            return Some(Answer::Refused(Refusal::NotLeader));
        }
        // One at a time, and not before the epoch's first record is committed: else two sets without a common majority
        // could each elect somebody (the bug of single-server changes, raft-dev, 2015).
        let is_settled = self.may_decide() && self.voters.last_change() < Some(self.high_watermark);
        // Who is not named by its directory yet could be meant twice.
        let is_named = self.voters().0.values().all(|voter| voter.directory.is_some());
        let may_change = is_settled && is_named || planted(Mutant::VoterChangesOverlap);
        if !may_change {
            let why = if is_settled { Refusal::Unnamed } else { Refusal::Busy };
            return Some(Answer::Refused(why));
        }
        match changed {
            Err(refusal) => Some(Answer::Refused(refusal)),
            Ok(voters) if voters == *self.voters() => Some(Answer::Done),
            Ok(voters) => {
                let at = self.log.end();
                self.append(Control::Voters(voters), effects);
                if let Role::Leader(leader) = &mut self.role {
                    leader.change = Some((ticket, at));
                }
                self.advance(effects);
                None
            }
        }
    }

    /// Writes who votes, where the log does not say so: all with their directories, as soon as those that a configuration file
    /// named without have fetched. Who joins later, or starts again, has no other way to know.
    fn name_voters(&mut self, effects: &mut Effects) {
        let voters = self.voters();
        let is_settled = self.may_decide() && self.voters.last_change() < Some(self.high_watermark);
        let is_named = voters.0.values().all(|voter| voter.directory.is_some());
        let is_written = self.voters.is_written() || planted(Mutant::VotersUnwritten);
        if !is_settled || is_named && is_written {
            return;
        }
        let mut named = voters.clone();
        for (node, voter) in &mut named.0 {
            let own = (*node == self.me.node).then_some(self.me.directory);
            let heard = self.followers().find(|(key, _)| key.node == *node);
            voter.directory = voter.directory.or(own).or(heard.map(|(key, _)| key.directory));
        }
        if named.0.values().all(|voter| voter.directory.is_some()) {
            self.append(Control::Voters(named), effects);
        }
    }

    /// Goes on to a newer epoch, of whose leader nothing is known.
    fn enter(&mut self, epoch: QuorumEpoch, effects: &mut Effects) {
        self.epoch = epoch;
        self.voted = None;
        self.detach(effects);
    }

    /// Takes another part; who waited for a change of voters is told that nobody knows.
    fn become_role(&mut self, role: Role, effects: &mut Effects) {
        let old = std::mem::replace(&mut self.role, role);
        if let Role::Leader(Leader { change: Some((ticket, _)), .. }) = old {
            let reply = self.reply(Answer::Refused(Refusal::NotLeader));
            effects.push(Effect::Reply(ticket, reply));
        }
    }

    fn detach(&mut self, effects: &mut Effects) {
        self.become_role(Role::Unattached, effects);
        let timer = if self.may_stand() { Timer::Election } else { Timer::Seek };
        effects.push(Effect::Arm(timer));
    }

    /// An observer asks the voters for their leader: any answer names it.
    fn seek(&mut self, effects: &mut Effects) {
        self.detach(effects);
        for node in self.others() {
            effects.push(Effect::Send(node, Request::Fetch(self.question())));
        }
    }

    /// Asks whether it would be elected.
    fn poll(&mut self, effects: &mut Effects) {
        self.ask_for_votes(true, effects);
    }

    /// Stands for election in a new epoch.
    fn stand(&mut self, effects: &mut Effects) {
        let Some(epoch) = self.epoch.0.checked_add(1) else {
            return effects.push(Effect::Halt(format!("{self}: there is no epoch after this one")));
        };
        self.epoch = QuorumEpoch(epoch);
        self.voted = Some(self.me);
        self.ask_for_votes(false, effects);
    }

    fn ask_for_votes(&mut self, is_pre: bool, effects: &mut Effects) {
        let mut poll = Poll::default();
        poll.note(self.me.node, true);
        let role = if is_pre { Role::Prospective(poll) } else { Role::Candidate(poll) };
        self.become_role(role, effects);
        effects.push(Effect::Arm(Timer::Election));
        for node in self.others() {
            let directory = self.voters().0.get(&node).and_then(|voter| voter.directory);
            let vote = Vote {
                epoch: self.epoch,
                candidate: self.me,
                voter: node,
                directory,
                last: self.log.last(),
                is_pre,
            };
            effects.push(Effect::Send(node, Request::Vote(vote)));
        }
        self.count(effects);
    }

    fn count(&mut self, effects: &mut Effects) {
        let (poll, is_pre) = match &self.role {
            Role::Prospective(poll) => (poll, true),
            Role::Candidate(poll) => (poll, false),
            _ => return,
        };
        match (poll.outcome(self.voters()), is_pre) {
            (Some(true), true) => self.stand(effects),
            (Some(true), false) => self.lead(effects),
            (Some(false), _) => self.detach(effects),
            (None, _) => {}
        }
    }

    fn lead(&mut self, effects: &mut Effects) {
        let epoch_start = self.log.end();
        self.become_role(Role::Leader(Leader::new(epoch_start)), effects);
        self.append(Control::LeaderChange(self.me.node), effects);
        effects.push(Effect::Arm(Timer::CheckQuorum));
        self.announce(effects);
        self.advance(effects);
    }

    fn announce(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else { return };
        for node in leader.untold(self.me.node, self.voters.newest()) {
            let begin = Begin { epoch: self.epoch, leader: self.me.node };
            effects.push(Effect::Send(node, Request::Begin(begin)));
        }
        effects.push(Effect::Arm(Timer::Announce));
    }

    fn follow(&mut self, leader: NodeId, effects: &mut Effects) {
        let follower = Follower { leader, is_attached: false, waits: FetchWait::Sync };
        self.become_role(Role::Follower(follower), effects);
        effects.push(Effect::Arm(Timer::Fetch));
        // What the end of an earlier epoch left unsynced is not reported before it is synced.
        if self.log.durable() == self.log.end() || planted(Mutant::FetchBeforeSync) {
            self.fetch(effects);
        }
    }

    fn fetch(&mut self, effects: &mut Effects) {
        let question = self.question();
        let Role::Follower(follower) = &mut self.role else { return };
        follower.waits = FetchWait::Answer;
        effects.push(Effect::Send(follower.leader, Request::Fetch(question)));
    }

    /// What it asks a leader. What is asked counts as synced (I39): an observer that looks for a leader may hold more.
    pub fn question(&self) -> Fetch {
        let last = match planted(Mutant::FetchBeforeSync) {
            true => self.log.last(),
            false => self.log.synced(),
        };
        Fetch { epoch: self.epoch, replica: self.me, last }
    }

    fn pause(&mut self, effects: &mut Effects) {
        self.wait(FetchWait::Pause);
        effects.push(Effect::Arm(Timer::Retry));
    }

    fn wait(&mut self, what: FetchWait) {
        if let Role::Follower(follower) = &mut self.role {
            follower.waits = what;
        }
    }

    fn append(&mut self, control: Control, effects: &mut Effects) {
        if let Control::Voters(voters) = &control {
            self.voters.push(self.log.end(), voters.clone());
        }
        self.log.append(self.epoch, self.log.end().next());
        effects.push(Effect::AppendControl(control));
    }

    fn truncate(&mut self, end: Offset, effects: &mut Effects) {
        if end < self.log.end() {
            self.log.truncate(end);
            self.voters.truncate(end);
            effects.push(Effect::Truncate(end));
        }
    }

    /// A leader commits what a majority has synced, once that includes a record of its own epoch (Raft, section 5.4.2).
    fn advance(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &self.role else { return };
        let own = match planted(Mutant::QuorumCountsUnsynced) {
            true => self.log.end(),
            false => self.log.durable(),
        };
        let synced = leader.synced_by_majority(self.me, own, self.voters());
        let is_own_epoch = synced > leader.epoch_start || planted(Mutant::CommitsOldEpoch);
        if !is_own_epoch || synced <= self.high_watermark {
            return;
        }
        self.commit(synced, effects);
        self.name_voters(effects);
        self.on_change_committed(effects);
    }

    fn on_change_committed(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else { return };
        let change = leader.change.take_if(|(_, at)| *at < self.high_watermark);
        if let Some((ticket, _)) = change {
            effects.push(Effect::Reply(ticket, self.reply(Answer::Done)));
        }
        if !self.is_voter() && self.voters.last_change() < Some(self.high_watermark) {
            // It has led until its own removal was committed.
            self.on_resign(effects);
        }
    }

    fn commit(&mut self, end: Offset, effects: &mut Effects) {
        if end > self.high_watermark {
            self.high_watermark = end;
            effects.push(Effect::HighWatermark(end));
        }
    }

    fn records(&self) -> Records {
        Records { high_watermark: self.high_watermark, spans: Vec::new() }
    }

    fn reply(&self, body: Answer) -> Reply {
        Reply { epoch: self.epoch, leader: self.leader(), body }
    }

    fn check(&self) {
        assert!(self.high_watermark <= self.log.end(), "{self}: committed beyond its log (I46)");
        assert!(self.log.start().offset <= self.high_watermark, "{self}: trimmed too far (I40)");
        assert!(self.log.last().epoch <= self.epoch, "{self}: its log is ahead of it");
        match &self.role {
            Role::Leader(leader) => {
                assert_eq!(self.voted, Some(self.me), "{self}: leads without its own vote (I37)");
                assert_eq!(self.log.last().epoch, self.epoch, "{self}: has not begun its epoch");
                assert!(leader.epoch_start < self.log.end(), "{self}: has not begun its epoch");
            }
            Role::Candidate(_) => {
                assert_eq!(self.voted, Some(self.me), "{self}: stands without its own vote (I37)");
            }
            Role::Follower(follower) => {
                assert_ne!(follower.leader, self.me.node, "{self}: follows itself");
            }
            Role::Unattached | Role::Prospective(_) => {}
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (last, synced) = (self.log.last(), self.log.durable());
        write!(f, "node {} epoch {} ", self.me, self.epoch)?;
        match &self.role {
            Role::Unattached => write!(f, "unattached")?,
            Role::Prospective(_) => write!(f, "prospective")?,
            Role::Candidate(_) => write!(f, "candidate")?,
            Role::Leader(leader) => write!(f, "leader from {}", leader.epoch_start)?,
            Role::Follower(follower) => write!(f, "follows {}", follower.leader)?,
        }
        write!(
            f,
            " hw {} synced {synced} end {} of epoch {}",
            self.high_watermark, last.offset, last.epoch
        )
    }
}
