//! What the partitions of this broker want of others: of their leaders, of the active controller, and of time.
//!
//! ```text
//!  leader ----proposal----.                 .--> in-sync sets --AlterPartition--> active controller
//!  leader ----deadline----+-->   Desk   ----+--> ticks
//!  follower --question----'                 '--> fetchers, one for each other broker --Fetch--> its leaders
//! ```
//!
//! A room of its own because it serves all partitions at once: one request carries the proposals of many leaders, one fetch
//! the questions of many followers, one timer their deadlines. Partitions leave what they want at the [`Desk`]; nobody waits
//! there.

mod fetcher;
mod following;
mod homes;
mod proposals;
mod repair;
mod throttle;
mod ticks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cluster::replica::{Proposal, ProposalAnswer, Question};
use env::Env;
use tokio::sync::{Notify, watch};
use types::mutant::{Mutant, planted};
use types::{BrokerId, Instant, NodeId, PartitionEpoch, PartitionIndex, QuorumEpoch, TopicId};

use crate::context::ConnectionId;

pub(crate) use fetcher::{HIGH_WATERMARK_UNASKED, HIGH_WATERMARK_UNKNOWN, run as fetch};
pub(crate) use following::{
    Awaited, Beginning, Following, Waiting as WaitingReader, WeakFollowing,
};
pub(crate) use homes::run as find_homes;
pub(crate) use proposals::run as send_proposals;
pub(crate) use repair::{REPAIR_BYTES, run as repair};
pub(crate) use throttle::Throttle;
pub(crate) use ticks::run as tick;

/// Fetches under way from one broker to another: one that waits, and one that makes it return.
const FETCHES_MAX: usize = 2;

/// A partition.
pub(crate) type Place = (TopicId, PartitionIndex);

/// A replica that leads, as far as this room knows it.
pub(crate) trait Leads: Send + Sync {
    /// What became of an in-sync set that it proposed on the registration `base`.
    fn on_proposal_answered(&self, base: PartitionEpoch, answer: ProposalAnswer);

    /// Its deadline has passed: the desk knows of none any more.
    fn tick(&self);
}

/// Where partitions leave what they want; at most one thing of each kind for each.
pub(crate) struct Desk<E: Env> {
    state: Mutex<Wanted<E>>,
    proposed: Notify,
    timed: Notify,
    /// Told when there is a lane more.
    laid: Notify,
    /// What others catch up with from here, and what is caught up with here.
    pub(crate) leader_throttle: Throttle,
    pub(crate) follower_throttle: Throttle,
    /// What moves here.
    pub(crate) move_throttle: Throttle,
}

struct Wanted<E: Env> {
    proposals: BTreeMap<Place, (Weak<dyn Leads>, Proposal)>,
    deadlines: BTreeMap<Place, (Instant, Told<E>)>,
    /// When the one timer goes off.
    wakes_at: Option<Instant>,
    /// Followers by the broker that leads them.
    lanes: BTreeMap<BrokerId, Lane<E>>,
    /// When something was heard of the controller last.
    controller_heard_at: Instant,
    /// What the other voters fetch of the metadata here.
    voters: BTreeMap<NodeId, Correspondence>,
    /// Each of them has sent a fetch of this epoch after that.
    voters_after: BTreeMap<NodeId, (QuorumEpoch, Instant)>,
    /// Each follower's fetches.
    turns: BTreeMap<BrokerId, Turns>,
}

/// Who wants to be told of the time.
#[derive(Clone)]
pub(crate) enum Told<E: Env> {
    Leader(Weak<dyn Leads>),
    Follower(WeakFollowing<E>),
}

/// What is asked of one broker.
struct Lane<E: Env> {
    followers: BTreeMap<Place, WeakFollowing<E>>,
    /// Who was given records last: those behind come first, so that all have their turn at the byte budget.
    served: Option<Place>,
    /// Some of them ask something that no fetch has carried yet.
    has_news: bool,
    told: Arc<Notify>,
    is_served: bool,
}

/// A follower, and what it asks.
struct Asked<E: Env> {
    place: Place,
    follower: Following<E>,
    question: Question,
}

impl<E: Env> Desk<E> {
    /// Nobody wants anything. The controller counts as heard at `now`.
    pub(crate) fn new(now: Instant) -> Desk<E> {
        let state = Mutex::new(Wanted {
            proposals: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            wakes_at: None,
            lanes: BTreeMap::new(),
            controller_heard_at: now,
            voters: BTreeMap::new(),
            voters_after: BTreeMap::new(),
            turns: BTreeMap::new(),
        });
        Desk {
            state,
            proposed: Notify::new(),
            timed: Notify::new(),
            laid: Notify::new(),
            leader_throttle: Throttle::default(),
            follower_throttle: Throttle::default(),
            move_throttle: Throttle::default(),
        }
    }

    /// A leader wants this in-sync set. What it wanted before on an older registration is settled.
    pub(crate) fn propose(&self, place: Place, leader: Weak<dyn Leads>, proposal: Proposal) {
        {
            let proposals = &mut self.lock().proposals;
            let is_newest =
                proposals.get(&place).is_none_or(|(_, waiting)| waiting.base <= proposal.base);
            if !is_newest {
                return;
            }
            proposals.insert(place, (leader, proposal));
        }
        self.proposed.notify_one();
    }

    /// Somebody wants to be told of the time at `deadline`.
    pub(crate) fn wake_at(&self, place: Place, who: Told<E>, deadline: Option<Instant>) {
        let mut wanted = self.lock();
        let Some(deadline) = deadline else {
            wanted.deadlines.remove(&place);
            return;
        };
        wanted.deadlines.insert(place, (deadline, who));
        // Deadlines move on with every append: the timer is disturbed only by one that comes before all others.
        if wanted.wakes_at.is_none_or(|at| deadline < at) {
            wanted.wakes_at = Some(deadline);
            drop(wanted);
            self.timed.notify_one();
        }
    }

    /// A follower asks `leader` something that the fetch on its way does not carry.
    pub(crate) fn ask(&self, place: Place, leader: BrokerId, follower: WeakFollowing<E>) {
        let mut wanted = self.lock();
        let lane = wanted.lanes.entry(leader).or_insert_with(|| Lane {
            followers: BTreeMap::new(),
            served: None,
            has_news: false,
            told: Arc::default(),
            is_served: false,
        });
        lane.followers.insert(place, follower);
        lane.has_news = true;
        let (told, is_served) = (lane.told.clone(), lane.is_served);
        drop(wanted);
        if is_served { told.notify_one() } else { self.laid.notify_one() }
    }

    /// The controller that a majority had at the moment `at` had this broker for one that is there.
    pub(crate) fn on_controller_heard(&self, at: Instant) {
        let heard_at = &mut self.lock().controller_heard_at;
        *heard_at = at.max(*heard_at);
    }

    /// A voter's fetch of the metadata was read at `now`; it follows in `epoch`.
    pub(crate) fn on_voter_heard(
        &self,
        node: NodeId,
        epoch: QuorumEpoch,
        connection: ConnectionId,
        now: Instant,
    ) {
        let mut wanted = self.lock();
        let letters = wanted.voters.entry(node).or_insert_with(|| Correspondence::new(connection));
        // One at a time.
        if let Some(after) = letters.read(connection, now, 1) {
            wanted.voters_after.insert(node, (epoch, after));
        }
    }

    /// What a controller in this process says may be of one that is deposed and does not know. So much is known at `now`: a
    /// majority of `voters` had no other than that of `epoch` at this moment, up to which each of them has been heard.
    pub(crate) fn confirmed_at<'a>(
        &self,
        own: NodeId,
        epoch: QuorumEpoch,
        voters: impl Iterator<Item = &'a NodeId>,
        now: Instant,
    ) -> Option<Instant> {
        let wanted = self.lock();
        let heard = |node: &NodeId| match *node == own {
            true => Some(now),
            false => {
                let known = wanted.voters_after.get(node);
                known.filter(|(in_epoch, _)| *in_epoch == epoch).map(|(_, at)| *at)
            }
        };
        let mut times: Vec<Option<Instant>> = voters.map(heard).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.get(times.len() / 2).copied().flatten()
    }

    /// When something was heard of the controller last.
    pub(crate) fn controller_heard_at(&self) -> Instant {
        self.lock().controller_heard_at
    }

    /// Begins a fetch of `replica`, which was read at `now`; the one before it is over.
    pub(crate) fn next_turn(
        &self,
        replica: BrokerId,
        connection: ConnectionId,
        now: Instant,
    ) -> Turn {
        let mut wanted = self.lock();
        let turns = wanted.turns.entry(replica).or_insert_with(|| Turns {
            newest: watch::Sender::new(0),
            letters: Correspondence::new(connection),
        });
        let sent_after = turns.letters.read(connection, now, FETCHES_MAX);
        let sent_after = if planted(Mutant::OldFetchCounts) { Some(now) } else { sent_after };
        turns.newest.send_modify(|number| *number += 1);
        let later = turns.newest.subscribe();
        let number = *later.borrow();
        Turn { number, later, sent_after }
    }

    /// Everything is asked of `leader` again: the time for which some were not is over.
    fn ask_all(&self, leader: BrokerId) {
        if let Some(lane) = self.lock().lanes.get_mut(&leader) {
            lane.has_news = true;
        }
    }

    fn take_proposals(&self) -> BTreeMap<Place, (Weak<dyn Leads>, Proposal)> {
        std::mem::take(&mut self.lock().proposals)
    }

    /// Those whose time has come, and when the next one's will.
    fn take_due(&self, now: Instant) -> (Vec<Told<E>>, Option<Instant>) {
        let mut wanted = self.lock();
        let deadlines = &mut wanted.deadlines;
        let due = deadlines.values().filter(|(at, _)| *at <= now).map(|(_, who)| who.clone());
        let due: Vec<Told<E>> = due.collect();
        deadlines.retain(|_, (at, _)| *at > now);
        wanted.wakes_at = deadlines.values().map(|(at, _)| *at).min();
        (due, wanted.wakes_at)
    }

    /// The brokers whose lanes nobody serves yet.
    fn take_lanes(&self) -> BTreeMap<BrokerId, Arc<Notify>> {
        let mut wanted = self.lock();
        let new = wanted.lanes.iter_mut().filter(|(_, lane)| !lane.is_served);
        let taken = new.map(|(leader, lane)| {
            lane.is_served = true;
            (*leader, lane.told.clone())
        });
        taken.collect()
    }

    /// What `leader` is asked now: everything if the fetch before has been answered, or something is new; else nothing.
    fn take_questions(&self, leader: BrokerId, is_answered: bool) -> Vec<Asked<E>> {
        let followers: Vec<(Place, WeakFollowing<E>)> = {
            let mut wanted = self.lock();
            let Some(lane) = wanted.lanes.get_mut(&leader) else { return Vec::new() };
            if !(std::mem::take(&mut lane.has_news) || is_answered) {
                return Vec::new();
            }
            let behind = lane.served.map_or(Bound::Unbounded, Bound::Excluded);
            let after = lane.followers.range((behind, Bound::Unbounded));
            let count = lane.followers.len();
            let turned = after.chain(&lane.followers).take(count);
            turned.map(|(place, follower)| (*place, follower.clone())).collect()
        };
        let mut asked = Vec::with_capacity(followers.len());
        let mut gone = BTreeSet::new();
        for (place, weak) in followers {
            let follower = weak.upgrade();
            match follower.as_ref().map(|follower| (follower.leader(), follower.question())) {
                Some((Some(led_by), question)) if led_by == leader => {
                    // Who is busy with its log asks when it is done.
                    let asking = follower.zip(question);
                    asked.extend(asking.map(|(follower, question)| Asked {
                        place,
                        follower,
                        question,
                    }));
                }
                _ => drop(gone.insert(place)),
            }
        }
        if !gone.is_empty() {
            let mut wanted = self.lock();
            let lane = wanted.lanes.get_mut(&leader);
            // One that asks again has come back meanwhile.
            if let Some(lane) = lane.filter(|lane| !lane.has_news) {
                lane.followers.retain(|place, _| !gone.contains(place));
            }
        }
        asked
    }

    /// The last one that was given records by `leader`.
    fn on_served(&self, leader: BrokerId, place: Place) {
        if let Some(lane) = self.lock().lanes.get_mut(&leader) {
            lane.served = Some(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted<E>> {
        // Every statement under this lock leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fetches of one follower.
struct Turns {
    /// Number of the newest.
    newest: watch::Sender<u64>,
    letters: Correspondence,
}

/// When the last requests of one connection were read: what is read now may have been sent long ago, to a process that stood
/// still.
struct Correspondence {
    connection: ConnectionId,
    read_at: VecDeque<Instant>,
}

impl Correspondence {
    fn new(connection: ConnectionId) -> Correspondence {
        Correspondence { connection, read_at: VecDeque::new() }
    }

    /// Another was read at `now`, of one who has `under_way` of them without an answer at most: it was sent when the one before
    /// those had been answered, and so after that one was read.
    fn read(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        under_way: usize,
    ) -> Option<Instant> {
        if self.connection != connection {
            *self = Correspondence::new(connection);
        }
        let before = if self.read_at.len() == under_way { self.read_at.pop_front() } else { None };
        self.read_at.push_back(now);
        before
    }
}

/// One fetch of a follower.
pub(crate) struct Turn {
    /// The follower has sent it after this moment, if that is known.
    pub(crate) sent_after: Option<Instant>,
    number: u64,
    later: watch::Receiver<u64>,
}

impl Turn {
    /// Completes when the same follower has fetched again.
    pub(crate) async fn over(&self) {
        // The sender lives as long as the desk, and with it the broker.
        let _ = self.later.clone().wait_for(|number| *number > self.number).await;
    }
}
