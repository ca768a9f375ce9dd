//! Consumers that read from a replica that follows (KIP-392).
//!
//! They see what the follower knows to be committed, and wait for more of it here. While there are any its leader is asked to
//! tell at once when more is committed; nobody else's fetches are disturbed.

use std::time::Duration;

use env::{Clock, Env};
use types::{ErrorCode, Instant, LeaderEpoch, Offset};

use super::{Following, State};
use crate::waiters::{Signal, Ticket, Woken};

/// Who has read within this time is there still.
const READERS_STAY: Duration = Duration::from_secs(5);

/// What a consumer waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Awaited {
    /// Everything below is committed.
    pub(crate) end: Offset,
    /// Or the term is another one than this.
    pub(crate) term: LeaderEpoch,
    /// Or clients may be told more, or less, than they were.
    pub(crate) is_told: bool,
}

/// What the leader of a replica is told of those who read from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Readers {
    /// Nobody does.
    Absent,
    /// They wait until its leader says how much clients may be told of.
    Untold,
    /// They know this to be committed.
    Told(Offset),
}

/// What the waiters of a replica go by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    term: LeaderEpoch,
    is_told: bool,
    is_over: bool,
}

impl State {
    pub(super) fn standing(&self) -> Standing {
        Standing {
            term: self.follower.term(),
            is_told: self.follower.is_told(),
            is_over: self.has_ended || self.has_failed || self.follower.is_stopped(),
        }
    }

    /// Those whose wait is over: `written` of the log can be read.
    pub(super) fn take_woken(&mut self, before: Standing, written: Offset) -> Woken {
        let now = self.standing();
        if now != before || now.is_over {
            return self.readers.take_all();
        }
        let reached = self.follower.high_watermark().min(written);
        self.readers.take_reached(reached)
    }
}

impl<E: Env> Following<E> {
    /// The term in which it follows.
    pub(crate) fn term(&self) -> LeaderEpoch {
        self.0.lock().follower.term()
    }

    /// Whether consumers may be told what it knows, by one who reads: OFFSET_NOT_AVAILABLE before its leader of this term has told
    /// it what clients may see (I24), NOT_LEADER_OR_FOLLOWER from one that may know too little by now (I36).
    pub(crate) fn check_telling(&self, session: Duration) -> Result<(), ErrorCode> {
        let now = self.0.env.clock().now();
        let heard_at = self.0.desk.controller_heard_at();
        let mut state = self.0.lock();
        if state.has_failed {
            return Err(ErrorCode::KafkaStorageError);
        }
        let leader = state.follower.leader().filter(|_| !state.standing().is_over);
        let leader = leader.ok_or(ErrorCode::NotLeaderOrFollower)?;
        let was_read = state.is_read(now);
        state.read_at = Some(now);
        if !was_read {
            // The fetch that waits at the leader knows of nobody.
            self.0.desk.ask(self.0.place, leader, self.0.me.clone());
        }
        if state.follower.may_serve(now, heard_at, session) {
            return Ok(());
        }
        match state.follower.is_told() {
            false => Err(ErrorCode::OffsetNotAvailable),
            true => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Whether there is something else to say than there was; if not, `signal` is woken when there may be.
    pub(crate) fn wait(&self, awaited: Awaited, signal: &Signal) -> Option<Waiting<E>> {
        let written = self.0.log.ends().written;
        let mut state = self.0.lock();
        let Awaited { end, term, is_told } = awaited;
        let standing = state.standing();
        let is_same = standing == Standing { term, is_told, is_over: false };
        if !is_same || end <= state.follower.high_watermark().min(written) {
            return None;
        }
        let ticket = state.readers.add(end, signal.clone());
        Some(Waiting { replica: self.clone(), ticket })
    }

    /// What its leader is told of its readers.
    pub(in super::super) fn readers(&self, now: Instant) -> Readers {
        let state = self.0.lock();
        match (state.is_read(now), state.follower.is_told()) {
            (false, _) => Readers::Absent,
            (true, false) => Readers::Untold,
            (true, true) => Readers::Told(state.follower.high_watermark()),
        }
    }
}

impl State {
    fn is_read(&self, now: Instant) -> bool {
        self.read_at.is_some_and(|at| now - at <= READERS_STAY)
    }
}

/// A place among those who wait at a replica; dropping it gives it up.
pub(crate) struct Waiting<E: Env> {
    replica: Following<E>,
    ticket: Ticket,
}

impl<E: Env> Drop for Waiting<E> {
    fn drop(&mut self) {
        self.replica.0.lock().readers.remove(self.ticket);
    }
}
