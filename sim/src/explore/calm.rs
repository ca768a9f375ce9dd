//! A quorum after its last fault: time passes, every message arrives, every timer that was armed runs out when it should.
//! Then there is one leader, which may decide, and all have what it has (L1).

use std::sync::Arc;

use cluster::quorum::{Event, Request, Timer};
use types::NodeId;

use super::Broken;
use super::quorum::{Message, World};

/// How long it may take: many elections.
const CALM_MS: u64 = 60_000;
/// How long a leader keeps a fetch that it has no news for.
const WAIT_MS: u64 = 500;
/// Messages that may pass without time: far more than any step needs.
const MESSAGES_MAX: usize = 10_000;

impl World {
    /// How long a timer takes that is armed now.
    pub(super) fn patience(&self, id: NodeId, timer: Timer) -> u64 {
        let chance = (self.now * 31 + id.0 as u64 * 7919) % 1000;
        match timer {
            Timer::Election => 1000 + chance,
            Timer::Fetch => 2000 + chance / 10,
            Timer::CheckQuorum => 3000,
            Timer::Announce => 1000,
            Timer::Retry | Timer::Seek => 50,
        }
    }

    /// Lets time pass until all agree.
    pub(super) fn calm(&mut self) -> Result<(), Broken> {
        let mut waiting: Vec<(u64, Arc<Message>)> = Vec::new();
        for id in self.ids() {
            self.wake(id)?;
        }
        let end = self.now + CALM_MS;
        loop {
            self.pass_on(&mut waiting)?;
            if self.agrees() {
                return Ok(());
            }
            for id in self.ids() {
                // Nothing is under way: a snapshot that somebody waits for will not come.
                self.step(id, Event::NotLoaded, &[])?;
            }
            let timers = self.ids().flat_map(|id| {
                let timers = self.node(id).timers.iter();
                timers.map(move |(timer, at)| (*at, id, *timer)).collect::<Vec<_>>()
            });
            let next = timers.min();
            let answer = waiting.iter().map(|(at, _)| *at).min();
            match (next, answer) {
                (Some((at, id, timer)), answer) if answer.is_none_or(|answer| at < answer) => {
                    self.now = self.now.max(at);
                    self.node_mut(id).timers.remove(&timer);
                    self.step(id, Event::Timeout(timer), &[])?;
                }
                (_, Some(at)) => self.now = self.now.max(at),
                (_, None) => return Err(self.stuck()),
            }
            if self.now > end {
                return Err(self.stuck());
            }
        }
    }

    /// What a process does that has just come up, or whose questions were lost on the way.
    fn wake(&mut self, id: NodeId) -> Result<(), Broken> {
        let node = self.node(id);
        let (is_new, leader) = (node.timers.is_empty(), node.quorum.leader());
        let end = node.quorum.log().end();
        if is_new {
            self.step(id, Event::Start, &[])?;
        }
        self.step(id, Event::Synced(end), &[])?;
        if let Some(to) = leader {
            let asked = Request::Fetch(self.node(id).quorum.question());
            self.step(id, Event::Unanswered { to, asked }, &[])?;
        }
        Ok(())
    }

    /// Delivers everything, and syncs what was written.
    fn pass_on(&mut self, waiting: &mut Vec<(u64, Arc<Message>)>) -> Result<(), Broken> {
        let mut left = MESSAGES_MAX;
        loop {
            for (deadline, message) in std::mem::take(waiting) {
                self.ask(message, deadline, waiting)?;
            }
            for id in self.ids() {
                let log = self.node(id).quorum.log();
                let end = log.end();
                if log.durable() < end {
                    self.step(id, Event::Synced(end), &[])?;
                }
            }
            let Some(message) = self.messages.pop_first() else { return Ok(()) };
            left -= 1;
            if left == 0 {
                return Err(self.stuck());
            }
            self.ask(message, self.now + WAIT_MS, waiting)?;
        }
    }

    /// Delivers a message; one that has no answer yet waits until its deadline.
    fn ask(
        &mut self,
        message: Arc<Message>,
        deadline: u64,
        waiting: &mut Vec<(u64, Arc<Message>)>,
    ) -> Result<(), Broken> {
        self.deliver(&message, usize::MAX, self.now < deadline)?;
        if self.messages.remove(&message) {
            waiting.push((deadline, message));
        }
        Ok(())
    }

    fn agrees(&self) -> bool {
        let leader = self.nodes.iter().find(|node| node.quorum.may_decide());
        leader.is_some_and(|leader| {
            let leader = &leader.quorum;
            let (end, name) = (leader.log().end(), leader.leader());
            leader.high_watermark() == end
                && self.nodes.iter().all(|node| {
                    let quorum = &node.quorum;
                    quorum.leader() == name
                        && quorum.log().end() == end
                        && quorum.high_watermark() == end
                })
        })
    }

    fn stuck(&self) -> Broken {
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.quorum.to_string()).collect();
        Broken::new("L1", format!("they do not agree: {}", nodes.join("; ")))
    }
}
