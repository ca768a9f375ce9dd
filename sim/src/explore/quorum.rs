//! The metadata quorum: nodes with a disk each, what is under way between them, and what may befall them.
//!
//! The network is a set of messages: each is delivered at any time, in any order, or never. A crash is a power cut: of what
//! was not synced any prefix stays. Timers run out whenever their node heeds them. So every history of real clocks and real
//! networks is among those that are tried, and some that no clock would allow.
//!
//! A world that is searched to the end leaves out much (`is_reduced`): pre-votes are asked and answered in one step, a leader
//! that nobody hears resigns when somebody else is to be elected, and a poll that is not won has not happened; answers that
//! say what their asker knows are not sent, and nobody repeats itself. The walks leave out none of that.
//!
//! What no search here sees: a step that ends half-way (its effects are carried out together), two directories of one node,
//! voters without directories. The node's own tests look at these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cluster::quorum::{
    Answer, Ballot, Control, Effect, Event, Look, Position, Quorum, ReplicaKey, Reply, Request,
    Role, Shape, Span, Ticket, Timer, VoterHistory, Voters,
};
use types::{DirectoryId, NodeId, Offset, QuorumEpoch, Uuid};

use super::{Broken, Model};

/// What can happen, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Nodes, numbered from 1.
    pub nodes: i32,
    /// Of those the first ones vote at the beginning; the others observe.
    pub voters: i32,
    /// The last epoch.
    pub epochs: i32,
    /// Records that leaders are given to decide.
    pub records: u32,
    /// Power cuts.
    pub crashes: u32,
    /// Changes of the voters.
    pub changes: u32,
    /// Snapshots, after which a log forgets what is committed.
    pub snapshots: u32,
    /// Times that a leader lets go.
    pub resignations: u32,
    /// Messages that are under way at once: when there are more, some are lost.
    pub messages: usize,
    /// Whether what no rule can depend on is left out.
    pub is_reduced: bool,
}

/// Who answers requests of an operator.
const OPERATOR: Ticket = Ticket(1);
/// Who answers a request that another node has sent.
const PEER: Ticket = Ticket(0);

/// A record of the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Entry {
    epoch: QuorumEpoch,
    what: What,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum What {
    Control(Control),
    Record(u32),
}

/// One node: what its process knows and what its disk holds. The log is kept whole for the judges, trimmed or not.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) quorum: Quorum,
    ballot: Ballot,
    log: Vec<Entry>,
    /// When its timers run out. Only a calm world looks at it: elsewhere any timer may run out at any time.
    pub(super) timers: BTreeMap<Timer, u64>,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.quorum, self.ballot, &self.log).hash(state);
    }
}

/// Something under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Message {
    /// A question.
    Ask { from: NodeId, to: NodeId, request: Request },
    /// An answer, and the records that it carries.
    Tell { from: NodeId, to: NodeId, asked: Request, reply: Reply, entries: Vec<Entry> },
    /// A snapshot.
    Snapshot { to: NodeId, end: Position, voters: Voters, entries: Vec<Entry> },
}

/// What a node has said in one step, beside what is under way.
#[derive(Default)]
pub(super) struct Said {
    replies: Vec<Reply>,
    /// Pre-votes of a reduced world.
    polls: Vec<(NodeId, Request)>,
}

/// What nobody in the world knows, for the judges.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Ghost {
    /// What is committed, and in which epoch it became so.
    committed: Vec<(Entry, QuorumEpoch)>,
    /// Who has led each epoch.
    leaders: BTreeMap<QuorumEpoch, NodeId>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    scope: Scope,
    left: Scope,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) messages: BTreeSet<Arc<Message>>,
    ghost: Arc<Ghost>,
    /// Milliseconds; they pass in a calm world only.
    pub(super) now: u64,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let left = &self.left;
        (left.records, left.crashes, left.changes, left.snapshots, left.resignations).hash(state);
        self.nodes.hash(state);
        self.messages.hash(state);
        self.ghost.hash(state);
    }
}

/// One thing that can happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// A message arrives.
    Deliver(Arc<Message>),
    /// A fetch arrives, and there is room in the answer for one record only.
    DeliverPart(Arc<Message>),
    /// A message is lost.
    Lose(Arc<Message>),
    /// A timer of a node runs out.
    Timeout(NodeId, Timer),
    /// A node stands for election because these would vote for it.
    Stand(NodeId, Vec<NodeId>),
    /// A node's log is synced.
    Sync(NodeId),
    /// A leader is given something to decide.
    Decide(NodeId),
    /// A node loses power and comes back with so many records.
    Crash(NodeId, usize),
    /// A leader lets go.
    Resign(NodeId),
    /// A leader is asked to let a node vote.
    Add(NodeId, NodeId),
    /// A leader is asked to let a node vote no more.
    Remove(NodeId, NodeId),
    /// A node's snapshot is durable.
    Trim(NodeId),
}

fn key(node: NodeId) -> ReplicaKey {
    ReplicaKey { node, directory: DirectoryId(Uuid([node.0 as u8; 16])) }
}

impl World {
    /// Nodes that have just been started for the first time.
    pub fn new(scope: Scope) -> World {
        let all = (1..=scope.nodes).map(NodeId);
        let voters = Voters::of(all.clone().take(scope.voters as usize).map(key));
        let node = |id: NodeId| {
            let history = VoterHistory::new(voters.clone());
            let quorum = Quorum::new(key(id), Ballot::default(), Shape::default(), history);
            let (ballot, timers) = (Ballot::default(), BTreeMap::new());
            Arc::new(Node { quorum, ballot, log: Vec::new(), timers })
        };
        World {
            scope,
            left: scope,
            nodes: all.map(node).collect(),
            messages: BTreeSet::new(),
            ghost: Arc::default(),
            now: 0,
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize - 1]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        Arc::make_mut(&mut self.nodes[id.0 as usize - 1])
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.scope.nodes).map(NodeId)
    }

    /// Ways to a majority for a node that may stand.
    fn would_elect(&self, id: NodeId) -> Vec<Vec<NodeId>> {
        let voters = self.node(id).quorum.voters();
        let others: Vec<NodeId> = voters.nodes().filter(|node| *node != id).collect();
        let subset = |bits: u32| {
            let chosen = others.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1);
            chosen.map(|(_, node)| *node).collect::<Vec<_>>()
        };
        let needed = voters.majority() - usize::from(voters.contains(key(id)));
        (0..1 << others.len()).map(subset).filter(|subset| subset.len() == needed).collect()
    }

    fn timers(&self, id: NodeId) -> &'static [Timer] {
        let quorum = &self.node(id).quorum;
        let stands = quorum.may_stand();
        let may_stand = quorum.epoch().0 < self.scope.epochs;
        if self.scope.is_reduced {
            return match quorum.role() {
                Role::Follower(_) => &[Timer::Retry],
                _ if !stands => &[Timer::Seek],
                _ => &[],
            };
        }
        match quorum.role() {
            Role::Leader(_) => &[Timer::CheckQuorum, Timer::Announce],
            Role::Follower(_) if may_stand || !stands => &[Timer::Fetch, Timer::Retry],
            Role::Follower(_) => &[Timer::Retry],
            _ if !stands => &[Timer::Seek],
            _ if may_stand => &[Timer::Election],
            _ => &[],
        }
    }

    /// Passes an event to a node and does what it asks for. `entries` are those of the answer that is passed in.
    pub(super) fn step(
        &mut self,
        id: NodeId,
        event: Event,
        entries: &[Entry],
    ) -> Result<Said, Broken> {
        let mut effects = Vec::new();
        self.node_mut(id).quorum.step(event, &mut effects);
        self.judge_leader(id)?;
        let mut said = Said::default();
        for effect in effects {
            let epoch = self.node(id).quorum.epoch();
            let node = self.node_mut(id);
            match effect {
                Effect::Store(ballot) => node.ballot = ballot,
                Effect::Truncate(end) => node.log.truncate(end.0 as usize),
                Effect::Restart(start) => {
                    node.log.clear();
                    node.log.extend_from_slice(&entries[..start.offset.0 as usize]);
                }
                Effect::AppendFetched | Effect::AppendDecided => {
                    node.log.extend_from_slice(entries)
                }
                Effect::AppendControl(control) => {
                    node.log.push(Entry { epoch, what: What::Control(control) });
                }
                Effect::Arm(timer) => {
                    let deadline = self.now + self.patience(id, timer);
                    self.node_mut(id).timers.insert(timer, deadline);
                }
                Effect::Reply(OPERATOR, _) => {}
                Effect::Send(to, request) => {
                    let is_pre = matches!(&request, Request::Vote(vote) if vote.is_pre);
                    match is_pre && self.scope.is_reduced {
                        true => said.polls.push((to, request)),
                        false => self.send(Message::Ask { from: id, to, request }),
                    }
                }
                Effect::Reply(_, reply) => said.replies.push(reply),
                Effect::FetchSnapshot(from, end) => self.send_snapshot(from, id, end),
                Effect::HighWatermark(end) => self.judge_commit(id, end)?,
                Effect::Halt(reason) => return Err(Broken::new("I38", reason)),
            }
        }
        let node = self.node(id);
        if node.log.len() as i64 != node.quorum.log().end().0 {
            return Err(Broken::new("model", "a log has another length than its node believes"));
        }
        Ok(said)
    }

    fn send(&mut self, message: Message) {
        self.messages.insert(Arc::new(message));
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId, end: Position) {
        let node = self.node(from);
        // The leader may have lost its log since it named the snapshot.
        if node.quorum.log().start() == end {
            let voters = self.voters_at(&node.log[..end.offset.0 as usize]);
            let entries = node.log[..end.offset.0 as usize].to_vec();
            self.send(Message::Snapshot { to, end, voters, entries });
        }
    }

    fn voters_at(&self, log: &[Entry]) -> Voters {
        let newest = log.iter().rev().find_map(|entry| match &entry.what {
            What::Control(Control::Voters(voters)) => Some(voters.clone()),
            _ => None,
        });
        let first = self.ids().take(self.scope.voters as usize);
        newest.unwrap_or_else(|| Voters::of(first.map(key)))
    }

    pub(super) fn deliver(
        &mut self,
        message: &Message,
        records_max: usize,
        may_wait: bool,
    ) -> Result<(), Broken> {
        match message {
            Message::Ask { from, to, request } => {
                let event = Event::Asked(PEER, request.clone());
                for mut reply in self.step(*to, event, &[])?.replies {
                    let entries = self.fill(*to, request, &mut reply, records_max);
                    if may_wait && self.waits(*from, &reply) {
                        self.send(message.clone());
                        continue;
                    }
                    if !(self.scope.is_reduced && self.is_known(*from, &reply)) {
                        let (from, to, asked) = (*to, *from, request.clone());
                        self.send(Message::Tell { from, to, asked, reply, entries });
                    }
                }
            }
            Message::Tell { from, to, asked, reply, entries } => {
                let (from, asked, reply) = (*from, asked.clone(), reply.clone());
                self.step(*to, Event::Answered { from, asked, reply }, entries)?;
            }
            Message::Snapshot { to, end, voters, entries } => {
                self.step(*to, Event::Loaded(*end, voters.clone()), entries)?;
            }
        }
        Ok(())
    }

    /// Whether a fetch would be answered with several records.
    fn is_long(&self, message: &Message) -> bool {
        let Message::Ask { to, request: Request::Fetch(fetch), .. } = message else { return false };
        let quorum = &self.node(*to).quorum;
        matches!(quorum.role(), Role::Leader(_))
            && fetch.epoch == quorum.epoch()
            && quorum.log().look(fetch.last) == Look::Matches
            && quorum.log().end().since(fetch.last.offset) > 1
    }

    /// Whether an answer waits until there is something to tell.
    fn waits(&self, asker: NodeId, reply: &Reply) -> bool {
        let asker = &self.node(asker).quorum;
        let is_news = |known: Offset| known > asker.high_watermark();
        matches!(&reply.body, Answer::Records(records) if records.spans.is_empty()
            && asker.epoch() == reply.epoch
            && asker.leader() == reply.leader
            && !is_news(records.high_watermark))
    }

    /// Whether an answer tells its asker nothing that a rule could depend on.
    fn is_known(&self, asker: NodeId, reply: &Reply) -> bool {
        let is_nothing = matches!(reply.body, Answer::Done | Answer::Vote(false));
        is_nothing && self.node(asker).quorum.epoch() >= reply.epoch
    }

    /// A node asks `others` whether they would vote for it, and stands if they would.
    fn stand(&mut self, id: NodeId, others: &[NodeId]) -> Result<(), Broken> {
        let before = self.clone();
        let timer = match self.node(id).quorum.role() {
            Role::Follower(_) => Timer::Fetch,
            _ => Timer::Election,
        };
        let asked = self.step(id, Event::Timeout(timer), &[])?.polls;
        for (to, request) in asked.into_iter().filter(|(to, _)| others.contains(to)) {
            let mut replies = self.step(to, Event::Asked(PEER, request.clone()), &[])?.replies;
            let is_refused = replies.iter().any(|reply| reply.body == Answer::Vote(false));
            // It heard its leader, or those that follow it: until they are silent for long enough.
            let timer = match self.node(to).quorum.role() {
                Role::Follower(_) => Some(Timer::Fetch),
                Role::Leader(_) => Some(Timer::CheckQuorum),
                _ => None,
            };
            if let Some(timer) = timer.filter(|_| is_refused) {
                self.step(to, Event::Timeout(timer), &[])?;
                replies = self.step(to, Event::Asked(PEER, request.clone()), &[])?.replies;
            }
            for reply in replies {
                let asked = request.clone();
                self.step(id, Event::Answered { from: to, asked, reply }, &[])?;
            }
        }
        if self.node(id).quorum.epoch() == before.node(id).quorum.epoch() {
            *self = before;
        }
        Ok(())
    }

    /// Puts the records that follow into an answer.
    fn fill(
        &self,
        id: NodeId,
        request: &Request,
        reply: &mut Reply,
        records_max: usize,
    ) -> Vec<Entry> {
        let (Request::Fetch(fetch), Answer::Records(records)) = (request, &mut reply.body) else {
            return Vec::new();
        };
        let from = fetch.last.offset.0 as usize;
        let entries = self.node(id).log[from..].iter().take(records_max).cloned();
        let entries: Vec<Entry> = entries.collect();
        let span = |(index, entry): (usize, &Entry)| Span {
            epoch: entry.epoch,
            end: Offset((from + index + 1) as i64),
            voters: match &entry.what {
                What::Control(Control::Voters(voters)) => Some(voters.clone()),
                _ => None,
            },
        };
        records.spans = entries.iter().enumerate().map(span).collect();
        entries
    }

    fn crash(&mut self, id: NodeId, keep: usize) {
        let (first, node) = (self.voters_at(&[]), self.node_mut(id));
        node.log.truncate(keep);
        let start = node.quorum.log().start();
        let mut shape = Shape::new(start);
        let mut history = VoterHistory::new(first);
        for (index, entry) in node.log.iter().enumerate() {
            let end = Offset(index as i64 + 1);
            if end > start.offset {
                shape.append(entry.epoch, end);
            }
            if let What::Control(Control::Voters(voters)) = &entry.what {
                history.push(Offset(index as i64), voters.clone());
            }
        }
        history.trim(start.offset);
        // A recovery syncs what it found before it goes on.
        shape.sync(shape.end());
        node.quorum = Quorum::new(key(id), node.ballot, shape, history);
        node.timers.clear();
    }

    /// I38, I39, I46: what a node calls committed is on the disks of a majority, and is what others call committed.
    fn judge_commit(&mut self, id: NodeId, end: Offset) -> Result<(), Broken> {
        let (end, node) = (end.0 as usize, self.nodes[id.0 as usize - 1].clone());
        // One that commits its own removal resigns in the same step.
        let leads = self.ghost.leaders.get(&node.quorum.epoch()) == Some(&id);
        let log = node.log.get(..end).ok_or_else(|| {
            Broken::new("I46", format!("node {id} calls {end} committed and does not hold it"))
        })?;
        let known = self.ghost.committed.len();
        let differs = log.iter().zip(&self.ghost.committed).position(|(own, (one, _))| own != one);
        if let Some(at) = differs {
            let text = format!("node {id} has another record at {at} than was committed there");
            return Err(Broken::new("I38", text));
        }
        if end <= known {
            return Ok(());
        }
        if !leads {
            let text = format!("node {id} calls {end} committed; no leader has come so far");
            return Err(Broken::new("I46", text));
        }
        let holds = |voter: &NodeId| {
            let other = self.node(*voter);
            other.quorum.log().durable().0 as usize >= end && other.log.get(..end) == Some(log)
        };
        let voters = node.quorum.voters();
        let count = voters.nodes().filter(holds).count();
        if count < voters.majority() {
            let text = format!("{end} is committed and synced by {count} voters only");
            return Err(Broken::new("I39", text));
        }
        let epoch = node.quorum.epoch();
        let ghost = Arc::make_mut(&mut self.ghost);
        ghost.committed.extend(log[known..].iter().map(|entry| (entry.clone(), epoch)));
        Ok(())
    }

    /// I19, I37: an epoch has one leader, which holds all that was committed before.
    fn judge_leader(&mut self, id: NodeId) -> Result<(), Broken> {
        let node = self.nodes[id.0 as usize - 1].clone();
        let epoch = node.quorum.epoch();
        if !matches!(node.quorum.role(), Role::Leader(_)) {
            return Ok(());
        }
        match self.ghost.leaders.get(&epoch) {
            Some(leader) if *leader == id => return Ok(()),
            Some(other) => {
                let text = format!("epoch {epoch} has two leaders, {other} and {id}");
                return Err(Broken::new("I37", text));
            }
            None => {
                Arc::make_mut(&mut self.ghost).leaders.insert(epoch, id);
            }
        }
        let before = self.ghost.committed.iter().take_while(|(_, at)| *at < epoch);
        for (at, (entry, _)) in before.enumerate() {
            if node.log.get(at) != Some(entry) {
                let text = format!("the leader of epoch {epoch} lacks the record at {at}");
                return Err(Broken::new("I19", text));
            }
        }
        Ok(())
    }

    fn actions_of(&self, id: NodeId, actions: &mut Vec<Action>) {
        let (node, left) = (self.node(id), &self.left);
        let (quorum, log) = (&node.quorum, node.quorum.log());
        actions.extend(self.timers(id).iter().map(|timer| Action::Timeout(id, *timer)));
        let is_free = !matches!(quorum.role(), Role::Leader(_))
            && quorum.epoch().0 < self.scope.epochs
            && quorum.may_stand();
        if self.scope.is_reduced && is_free {
            actions.extend(self.would_elect(id).into_iter().map(|by| Action::Stand(id, by)));
        }
        if log.durable() < log.end() {
            actions.push(Action::Sync(id));
        }
        if left.crashes > 0 {
            let kept = log.durable().0.max(log.start().offset.0)..=log.end().0;
            actions.extend(kept.map(|keep| Action::Crash(id, keep as usize)));
        }
        if left.snapshots > 0 && log.start().offset < quorum.high_watermark() {
            actions.push(Action::Trim(id));
        }
        if !matches!(quorum.role(), Role::Leader(_)) {
            return;
        }
        if left.records > 0 {
            actions.push(Action::Decide(id));
        }
        if left.resignations > 0 {
            actions.push(Action::Resign(id));
        }
        if left.changes > 0 {
            for other in self.ids() {
                actions.push(match quorum.voters().contains(key(other)) {
                    true => Action::Remove(id, other),
                    false => Action::Add(id, other),
                });
            }
        }
    }
}

impl Model for World {
    type Action = Action;

    fn actions(&self) -> Vec<Action> {
        let is_new = self.nodes.iter().all(|node| node.quorum.epoch() == QuorumEpoch(0));
        if self.scope.is_reduced && is_new {
            // One voter is like another yet: the first begins.
            let by = self.would_elect(NodeId(1)).swap_remove(0);
            return vec![Action::Stand(NodeId(1), by)];
        }
        let lose = self.messages.iter().map(|message| Action::Lose(message.clone()));
        if self.messages.len() > self.scope.messages {
            return lose.collect();
        }
        let mut actions: Vec<Action> = lose.collect();
        for message in &self.messages {
            actions.push(Action::Deliver(message.clone()));
            if self.is_long(message) {
                actions.push(Action::DeliverPart(message.clone()));
            }
        }
        for id in self.ids() {
            self.actions_of(id, &mut actions);
        }
        actions
    }

    fn act(&mut self, action: &Action) -> Result<(), Broken> {
        match action {
            Action::Deliver(message) => {
                self.messages.remove(message);
                self.deliver(message, usize::MAX, true)?;
            }
            Action::DeliverPart(message) => {
                self.messages.remove(message);
                self.deliver(message, 1, true)?;
            }
            Action::Lose(message) => {
                self.messages.remove(message);
            }
            Action::Timeout(id, timer) => {
                self.node_mut(*id).timers.remove(timer);
                self.step(*id, Event::Timeout(*timer), &[])?;
            }
            Action::Stand(id, by) => self.stand(*id, by)?,
            Action::Sync(id) => {
                let end = self.node(*id).quorum.log().end();
                self.step(*id, Event::Synced(end), &[])?;
            }
            Action::Decide(id) => {
                self.left.records -= 1;
                let record = self.left.records;
                let epoch = self.node(*id).quorum.epoch();
                let entry = Entry { epoch, what: What::Record(record) };
                self.step(*id, Event::Decided(1), &[entry])?;
            }
            Action::Crash(id, keep) => {
                self.left.crashes -= 1;
                self.crash(*id, *keep);
            }
            Action::Resign(id) => {
                self.left.resignations -= 1;
                self.step(*id, Event::Resign, &[])?;
            }
            Action::Add(id, other) => {
                self.left.changes -= 1;
                let request = Request::AddVoter(key(*other), Vec::new());
                self.step(*id, Event::Asked(OPERATOR, request), &[])?;
            }
            Action::Remove(id, other) => {
                self.left.changes -= 1;
                let request = Request::RemoveVoter(key(*other));
                self.step(*id, Event::Asked(OPERATOR, request), &[])?;
            }
            Action::Trim(id) => {
                self.left.snapshots -= 1;
                let end = self.node(*id).quorum.high_watermark();
                self.step(*id, Event::Trimmed(end), &[])?;
            }
        }
        // An answer of an epoch that its asker has left means nothing to it, now or later: two worlds that differ in such
        // answers are one.
        let nodes = &self.nodes;
        self.messages.retain(|message| match &**message {
            Message::Tell { to, reply, .. } => {
                reply.epoch >= nodes[to.0 as usize - 1].quorum.epoch()
            }
            _ => true,
        });
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Broken> {
        self.calm()
    }

    fn is_rare(&self, action: &Action) -> bool {
        let is_full = self.messages.len() > self.scope.messages;
        let moves = matches!(action, Action::Deliver(_) | Action::DeliverPart(_) | Action::Sync(_));
        !moves && !is_full
    }

    fn picture(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log: Vec<String> = node.log.iter().map(Entry::to_string).collect();
            text += &format!("{}: {}\n", node.quorum, log.join(" "));
        }
        text
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Control(Control::LeaderChange(leader)) => {
                write!(f, "[{}: {leader} leads]", self.epoch)
            }
            What::Control(Control::Voters(voters)) => {
                let voters: Vec<String> = voters.nodes().map(|node| node.to_string()).collect();
                write!(f, "[{}: voters {}]", self.epoch, voters.join(" "))
            }
            What::Record(number) => write!(f, "[{}: record {number}]", self.epoch),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Ask { from, to, request } => {
                let text = match request {
                    Request::Vote(vote) if vote.is_pre => {
                        format!("would you vote for me, in epoch {}?", vote.epoch)
                    }
                    Request::Vote(vote) => format!("vote for me in epoch {}", vote.epoch),
                    Request::Begin(begin) => format!("epoch {} has begun", begin.epoch),
                    Request::End(end) => format!("epoch {} is over", end.epoch),
                    Request::Fetch(fetch) => {
                        let last = fetch.last;
                        format!("what follows {} of epoch {}?", last.offset, last.epoch)
                    }
                    other => format!("{other:?}"),
                };
                write!(f, "{from} to {to}: {text}")
            }
            Message::Tell { from, to, reply, entries, .. } => {
                let text = match &reply.body {
                    Answer::Vote(true) => "yes".to_owned(),
                    Answer::Vote(false) => "no".to_owned(),
                    Answer::Done => "done".to_owned(),
                    Answer::Records(records) => {
                        let entries: Vec<String> = entries.iter().map(Entry::to_string).collect();
                        let entries = entries.join(" ");
                        format!("records {entries} committed to {}", records.high_watermark)
                    }
                    Answer::Diverging(at) => {
                        format!("we part at {} of epoch {}", at.offset, at.epoch)
                    }
                    Answer::Snapshot(end) => format!("there is a snapshot up to {}", end.offset),
                    Answer::Refused(refusal) => format!("refused: {refusal:?}"),
                };
                write!(f, "{from} answers {to} (epoch {}): {text}", reply.epoch)
            }
            Message::Snapshot { to, end, .. } => {
                write!(f, "to {to}: the snapshot up to {}", end.offset)
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Deliver(message) => write!(f, "{message}"),
            Action::DeliverPart(message) => write!(f, "{message} (one record)"),
            Action::Lose(message) => write!(f, "lost: {message}"),
            Action::Timeout(id, timer) => write!(f, "{id}: {timer:?} time-out"),
            Action::Stand(id, by) => {
                let by: Vec<String> = by.iter().map(NodeId::to_string).collect();
                write!(f, "{id}: stands, since {} would vote for it", by.join(" and "))
            }
            Action::Sync(id) => write!(f, "{id}: synced"),
            Action::Decide(id) => write!(f, "{id}: a record is decided"),
            Action::Crash(id, keep) => write!(f, "{id}: power cut, {keep} records stay"),
            Action::Resign(id) => write!(f, "{id}: resigns"),
            Action::Add(id, other) => write!(f, "{id}: is asked to let {other} vote"),
            Action::Remove(id, other) => write!(f, "{id}: is asked to let {other} vote no more"),
            Action::Trim(id) => write!(f, "{id}: a snapshot is durable"),
        }
    }
}
