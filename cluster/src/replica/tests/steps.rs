//! What can happen, drawn at random and biased towards what hurts.

use std::fmt;

use proptest::prelude::*;

use super::world::{NODES, Role, World};

/// Stands for whoever leads by the metadata.
pub(super) const LEADER: usize = NODES;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A record is appended where somebody leads, or thinks so.
    Append(usize),
    /// A sync ends that covers so many records more.
    Sync(usize, usize),
    /// A follower sends its question, again if need be.
    Ask(usize),
    /// A packet arrives, a copy of it does, or it is lost.
    Deliver(usize),
    Copy(usize),
    Lose(usize),
    /// The disk has done what a follower wanted.
    Io(usize),
    /// So many batches of metadata arrive.
    Hear(usize, usize),
    /// A node is cut off from all others, or is not any more.
    CutOff(usize),
    Heal(usize),
    /// A process is killed, its machine loses power, or it stops cleanly.
    Kill(usize),
    PowerCut(usize, usize),
    Stop(usize),
    Start(usize),
    Fence(usize),
    Unfence(usize),
    /// Milliseconds pass.
    Tick(u64),
    /// A follower's connection is lost.
    Reset(usize),
    /// An answer to a proposal does not come.
    TimeOut(usize),
    NewController,
    MinIsr(usize),
    Prefer,
    Unclean,
    /// A leader deletes what is committed.
    Trim(usize),
    /// Who is not cut off talks for some rounds.
    Run(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Steps, and now and then one of the sequences that hurt: steps drawn singly seldom come in that order.
pub(super) fn steps(may_be_unclean: bool) -> impl Strategy<Value = Vec<Step>> {
    let part = prop_oneof![12 => step(may_be_unclean).prop_map(|step| vec![step]), 1 => episode()];
    prop::collection::vec(part, 1..100).prop_map(|parts| parts.concat())
}

fn step(may_be_unclean: bool) -> impl Strategy<Value = Step> {
    let node = 0..=LEADER;
    prop_oneof![
        12 => node.clone().prop_map(Step::Append),
        6 => (node.clone(), 1..4usize).prop_map(|(node, count)| Step::Sync(node, count)),
        10 => node.clone().prop_map(Step::Ask),
        24 => any::<usize>().prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::Copy),
        3 => any::<usize>().prop_map(Step::Lose),
        8 => node.clone().prop_map(Step::Io),
        10 => (node.clone(), 1..4usize).prop_map(|(node, count)| Step::Hear(node, count)),
        4 => node.clone().prop_map(Step::CutOff),
        3 => node.clone().prop_map(Step::Heal),
        2 => node.clone().prop_map(Step::Kill),
        3 => (node.clone(), 0..6usize).prop_map(|(node, lost)| Step::PowerCut(node, lost)),
        1 => node.clone().prop_map(Step::Stop),
        6 => node.clone().prop_map(Step::Start),
        4 => node.clone().prop_map(Step::Fence),
        8 => node.clone().prop_map(Step::Unfence),
        4 => prop::sample::select(vec![5u64, 100, 300, 1100, 31_000]).prop_map(Step::Tick),
        2 => node.clone().prop_map(Step::Reset),
        3 => node.clone().prop_map(Step::TimeOut),
        1 => Just(Step::NewController),
        2 => (1..=NODES).prop_map(Step::MinIsr),
        2 => Just(Step::Prefer),
        1 => Just(if may_be_unclean { Step::Unclean } else { Step::Prefer }),
        1 => node.prop_map(Step::Trim),
        8 => (1..5usize).prop_map(Step::Run),
    ]
}

fn episode() -> impl Strategy<Value = Vec<Step>> {
    let appends = |count| [Step::Append(LEADER)].repeat(count);
    prop_oneof![
        // A follower is left behind; the leader fails when the others have not heard what is committed.
        (0..NODES, 1..6usize, 1..3usize, 0..3usize).prop_map(move |(node, count, rounds, late)| {
            let mut steps = vec![Step::CutOff(node), Step::Fence(node)];
            steps.extend(appends(count));
            steps.push(Step::Run(rounds));
            steps.extend(appends(late));
            steps.extend([Step::Run(1), Step::CutOff(LEADER), Step::Fence(LEADER)]);
            steps.extend([Step::Heal(node), Step::Unfence(node), Step::Run(1)]);
            steps
        }),
        // A leader that has not heard of its end goes on among those who have.
        (1..4usize, 1..4usize).prop_map(move |(before, after)| {
            let mut steps = vec![Step::CutOff(LEADER)];
            steps.extend(appends(before));
            steps.extend([Step::Fence(LEADER), Step::Run(2)]);
            steps.extend(appends(after));
            steps.push(Step::Run(2));
            steps
        }),
        // A replica comes back, while it is spoken of as it was before.
        (0..=LEADER, 0..4usize).prop_map(|(node, lost)| {
            vec![Step::PowerCut(node, lost), Step::Start(node), Step::Unfence(node)]
        }),
        // A replica joins; the proposal is late.
        (0..NODES, 0..4usize, any::<usize>()).prop_map(move |(node, lost, at)| {
            let mut steps = vec![Step::Fence(node), Step::Run(2), Step::Unfence(node)];
            steps.extend(appends(1));
            steps.extend([Step::Run(1), Step::Ask(node), Step::Deliver(at), Step::Deliver(at)]);
            steps.extend([Step::PowerCut(node, lost), Step::Start(node), Step::Unfence(node)]);
            steps
        }),
    ]
}

impl World {
    /// Who is meant.
    fn who(&self, node: usize) -> usize {
        let leader = self.partition().leader.map(|leader| leader.0 as usize);
        if node == LEADER { leader.unwrap_or_default() } else { node }
    }

    pub(super) fn step(&mut self, step: Step) {
        let packets = self.wire.len();
        match step {
            Step::Append(node) => self.append(self.who(node)),
            Step::Sync(node, count) => self.sync(self.who(node), count),
            Step::Ask(node) => self.ask(self.who(node)),
            Step::Deliver(at) if packets > 0 => {
                let packet = self.wire.remove(at % packets);
                self.deliver(packet);
            }
            Step::Copy(at) if packets > 0 => {
                let packet = self.wire[at % packets].clone();
                self.deliver(packet);
            }
            Step::Lose(at) if packets > 0 => drop(self.wire.remove(at % packets)),
            Step::Deliver(_) | Step::Copy(_) | Step::Lose(_) => {}
            Step::Io(node) => self.finish_io(self.who(node)),
            Step::Hear(node, count) => self.hear(self.who(node), count),
            Step::CutOff(node) => self.set_cut_off(self.who(node), true),
            Step::Heal(node) => self.set_cut_off(self.who(node), false),
            Step::Kill(node) => self.end(self.who(node), 0, false),
            Step::PowerCut(node, lost) => self.end(self.who(node), lost, false),
            Step::Stop(node) => self.end(self.who(node), 0, true),
            Step::Start(node) => self.start(self.who(node)),
            Step::Fence(node) => self.fence(self.who(node)),
            Step::Unfence(node) => self.unfence(self.who(node)),
            Step::Tick(ms) => self.tick(ms),
            Step::Reset(node) => self.lose_connection(self.who(node)),
            Step::TimeOut(node) => self.time_out(self.who(node)),
            Step::NewController => self.move_controller(),
            Step::MinIsr(wanted) => self.set_min_isr(wanted),
            Step::Prefer => self.elect(false),
            Step::Unclean => self.elect(true),
            Step::Trim(node) => self.trim(self.who(node)),
            Step::Run(rounds) => self.run(rounds, 5),
        }
        let World { judge, nodes, .. } = self;
        judge.note_contents(nodes);
        self.check();
    }

    /// Nothing goes wrong any more: all come to be in sync, with one log of which everything is committed.
    pub(super) fn settle(&mut self) {
        for node in 0..NODES {
            self.step(Step::Heal(node));
            self.step(Step::Start(node));
        }
        for round in 0..600 {
            for node in 0..NODES {
                self.step(Step::Unfence(node));
                // What was lost is not waited for.
                if round % 4 == 3 {
                    self.step(Step::TimeOut(node));
                }
            }
            self.run(1, 200);
            self.step(Step::Run(1));
            if self.partition().leader.is_none() {
                let partition = self.partition();
                let electable = partition.isr.iter().chain(&partition.elr).next();
                assert!(electable.is_none(), "L2: nobody leads: {partition:?}");
                self.elect(true);
            }
            if self.is_settled() {
                return;
            }
        }
        panic!("L3, L5: not in sync after a minute and more:\n{}", self.picture());
    }

    fn is_settled(&self) -> bool {
        let first = &self.nodes[0].disk;
        let is_whole = |number: usize| {
            let node = &self.nodes[number];
            let start = node.disk.start.max(first.start);
            node.disk.end() == first.end()
                && (start..first.end()).all(|at| node.disk.at(at) == first.at(at))
                && node.high_watermark() == first.end()
        };
        self.partition().isr.len() == NODES && (0..NODES).all(is_whole)
    }

    /// Everybody's state, a line each.
    pub(super) fn picture(&self) -> String {
        let partition = self.partition();
        let ids = |list: &[types::BrokerId]| list.iter().map(|id| id.0).collect::<Vec<_>>();
        let mut text = format!(
            "leader {:?} epoch {} version {} isr {:?} elr {:?}\n",
            partition.leader.map(|leader| leader.0),
            partition.leader_epoch,
            partition.epoch,
            ids(&partition.isr),
            ids(&partition.elr),
        );
        for (number, node) in self.nodes.iter().enumerate() {
            let records = node.disk.records.iter();
            let log: Vec<String> = records.map(|r| format!("{}/{}", r.value, r.epoch)).collect();
            let role = match &node.role {
                Role::Leads(leader) => leader.to_string(),
                Role::Follows(follower) => follower.to_string(),
                Role::Nothing => "nothing".to_owned(),
            };
            text += &format!("{number}: {role} | {}: {}\n", node.disk.start, log.join(" "));
        }
        text
    }
}
