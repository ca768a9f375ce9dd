//! What is on its way: it comes late, twice, or not at all, and never to another process than it was meant for.

use types::{BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset};

use super::{NODES, RECORDS_MAX, Record, Role, World};
use crate::controller::AlterPartition;
use crate::replica::{Answer, Event, FollowerEvent, Position, ProposalAnswer, Question, Run};

#[derive(Clone, Debug)]
pub(in super::super) enum Packet {
    Fetch {
        from: usize,
        to: usize,
        life: u32,
        epoch: BrokerEpoch,
        question: Question,
        asked_at: Instant,
    },
    Reply {
        to: usize,
        life: u32,
        term: LeaderEpoch,
        at: Position,
        answer: Answer,
        records: Vec<Record>,
        asked_at: Instant,
    },
    Alter {
        from: usize,
        epoch: BrokerEpoch,
        send: u64,
        wish: AlterPartition,
    },
    Altered {
        to: usize,
        life: u32,
        send: u64,
        answer: ProposalAnswer,
    },
}

impl Packet {
    fn concerns(&self, node: usize) -> bool {
        match self {
            Packet::Fetch { from, to, .. } => [*from, *to].contains(&node),
            Packet::Reply { to, .. } | Packet::Altered { to, .. } => *to == node,
            Packet::Alter { from, .. } => *from == node,
        }
    }
}

impl World {
    pub(in super::super) fn ask(&mut self, number: usize) {
        let node = &self.nodes[number];
        let Role::Follows(follower) = &node.role else { return };
        let Some(question) = follower.question() else { return };
        let to = follower.leader().unwrap().0 as usize;
        let (epoch, life) = (node.epoch, self.nodes[to].life);
        let asked_at = self.now;
        self.wire.push(Packet::Fetch { from: number, to, life, epoch, question, asked_at });
    }

    pub(in super::super) fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Fetch { from, to, life, epoch, question, asked_at } => {
                if self.is_life(to, life) {
                    self.on_fetch(from, to, epoch, (question, asked_at));
                }
            }
            Packet::Reply { to, life, term, at, answer, mut records, asked_at } => {
                if self.is_life(to, life) && self.nodes[to].io.is_none() {
                    let offset = at.offset.0;
                    let run = |(record, offset): (&Record, i64)| Run {
                        epoch: record.epoch,
                        end: Offset(offset + 1),
                    };
                    let runs = records.iter().zip(offset..).map(run).collect();
                    let event =
                        FollowerEvent::Answered { term, position: at, answer, runs, asked_at };
                    self.follow_with(to, event, &mut records);
                }
            }
            Packet::Alter { from, epoch, send, wish } => self.on_alter(from, epoch, send, wish),
            Packet::Altered { to, life, send, answer } => {
                let asked = self.nodes[to].asked.filter(|(last, _)| *last == send);
                if self.is_life(to, life)
                    && let Some((_, base)) = asked
                {
                    self.nodes[to].asked = None;
                    self.lead(to, Event::Proposed(base, answer));
                }
            }
        }
    }

    fn is_life(&self, number: usize, life: u32) -> bool {
        self.nodes[number].is_up && self.nodes[number].life == life
    }

    fn on_fetch(&mut self, from: usize, to: usize, epoch: BrokerEpoch, asked: (Question, Instant)) {
        let question = asked.0;
        let replica = BrokerId(from as i32);
        self.lead(to, Event::Fetched { replica, broker_epoch: epoch, question });
        let Role::Leads(leader) = &self.nodes[to].role else {
            let answer = Answer::Refused(ErrorCode::NotLeaderOrFollower);
            return self.reply(from, asked, answer, Vec::new());
        };
        let answer = leader.answer(replica, epoch, &question);
        let disk = &self.nodes[to].disk;
        let records = match answer {
            Answer::Follows { .. } => {
                let skipped = (question.position.offset.0 - disk.start) as usize;
                disk.records.iter().skip(skipped).take(RECORDS_MAX).copied().collect()
            }
            _ => Vec::new(),
        };
        self.reply(from, asked, answer, records);
    }

    fn reply(
        &mut self,
        to: usize,
        (question, asked_at): (Question, Instant),
        answer: Answer,
        records: Vec<Record>,
    ) {
        let (life, term, at) = (self.nodes[to].life, question.term, question.position);
        self.wire.push(Packet::Reply { to, life, term, at, answer, records, asked_at });
    }

    /// All who are not cut off talk for some rounds, and their disks sync.
    pub(in super::super) fn run(&mut self, rounds: usize, ms: u64) {
        let here: Vec<usize> =
            (0..NODES).filter(|n| self.nodes[*n].is_up && !self.nodes[*n].is_cut_off).collect();
        for _ in 0..rounds {
            for number in here.iter().copied() {
                self.hear(number, usize::MAX);
                self.finish_io(number);
                self.ask(number);
            }
            // Questions, then what follows from them.
            for _ in 0..2 {
                let is_cut = |packet: &Packet| {
                    (0..NODES).any(|n| self.nodes[n].is_cut_off && packet.concerns(n))
                };
                let (late, now): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.wire).into_iter().partition(is_cut);
                self.wire = late;
                now.into_iter().for_each(|packet| self.deliver(packet));
            }
            for number in here.iter().copied() {
                self.finish_io(number);
                self.sync(number, usize::MAX);
            }
            self.tick(ms);
        }
    }
}
