//! What can happen, drawn at random and biased towards what hurts.

use std::fmt;

use proptest::prelude::*;

use super::world::{NODES, Role, World};

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

pub(super) fn steps(may_be_unclean: bool) -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES;
    let step = prop_oneof![
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
    ];
    prop::collection::vec(step, 1..120)
}

impl World {
    pub(super) fn step(&mut self, step: Step) {
        let packets = self.wire.len();
        match step {
            Step::Append(node) => self.append(node),
            Step::Sync(node, count) => self.sync(node, count),
            Step::Ask(node) => self.ask(node),
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
            Step::Io(node) => self.finish_io(node),
            Step::Hear(node, count) => self.hear(node, count),
            Step::CutOff(node) => self.nodes[node].is_cut_off = true,
            Step::Heal(node) => self.nodes[node].is_cut_off = false,
            Step::Kill(node) => self.end(node, 0, false),
            Step::PowerCut(node, lost) => self.end(node, lost, false),
            Step::Stop(node) => self.end(node, 0, true),
            Step::Start(node) => self.start(node),
            Step::Fence(node) => self.fence(node),
            Step::Unfence(node) => self.unfence(node),
            Step::Tick(ms) => self.tick(ms),
            Step::Reset(node) => self.lose_connection(node),
            Step::TimeOut(node) => self.time_out(node),
            Step::NewController => self.move_controller(),
            Step::MinIsr(wanted) => self.set_min_isr(wanted),
            Step::Prefer => self.elect(false),
            Step::Unclean => self.elect(true),
            Step::Trim(node) => self.trim(node),
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
