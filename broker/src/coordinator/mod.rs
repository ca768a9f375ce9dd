//! The group coordinators: one room per partition of `__consumer_offsets` that this broker leads.
//!
//! ```text
//!   handler -- submit --> [queue] --> shard: cluster::group decides --> append to its partition
//!      ^                                                                        | committed
//!      +------------------------------- the answer -----------------------------+
//! ```
//!
//! A group belongs to the partition that the hash of its name says, in Kafka's arithmetic, so that a cluster of either
//! kind finds it at the same place. A shard is one task: it owns the decisions of its groups and their timers, appends
//! what they decide, and keeps each answer until the record it rests on is committed (I70). Its state is nothing but
//! its log replayed (I64): when it starts, or when an append has failed and its state is ahead of its log.
//!
//! Here are the door ([`Groups`]) and the room that opens and closes shards as the topic's partitions come and go
//! ([`GroupRoom`]). Queues are bounded by [`MESSAGES_MAX`]; a full queue stops the connections that feed it.

mod shard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use cluster::group::{Event, GroupSettings, Response, Token};
use env::{Clock, Env, Spawn};
use tokio::sync::{mpsc, oneshot, watch};
use types::mutant::{Mutant, planted};
use types::{ErrorCode, GroupId, Instant, PartitionIndex, TopicId, TopicName};

use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::shared::{Shared, View};

/// The internal topic that remembers groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Requests that may wait for one shard.
const MESSAGES_MAX: usize = 1024;

/// How long deletions of topics may gather before the groups hear of them.
const DELETIONS_GATHER: Duration = Duration::from_millis(200);

/// What a shard answers: what `cluster` decided, or why it could not.
pub(crate) type Answer = Result<Response, ErrorCode>;

/// One request to a shard.
struct Message {
    event: Event,
    /// Where the answer goes; nobody waits for one if there is none.
    asker: Option<(Token, oneshot::Sender<Answer>)>,
}

/// Way into one shard. The shard ends when all its doors are gone.
#[derive(Clone)]
struct Door {
    messages: mpsc::Sender<Box<Message>>,
    standing: Arc<AtomicU8>,
}

/// How a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Standing {
    /// Its log is being replayed.
    Loads,
    /// It has been.
    Serves,
    /// It cannot be, and is tried again.
    Waits,
}

impl Door {
    fn is(&self, standing: Standing) -> bool {
        self.standing.load(Ordering::Acquire) == standing as u8
    }
}

/// The doors of all shards, by partition.
type Doors = Vec<Option<Door>>;

/// Door of the group coordinators; cheap to clone.
#[derive(Clone)]
pub struct Groups {
    doors: watch::Receiver<Arc<Doors>>,
    tokens: Arc<AtomicU64>,
}

/// A request handed over; the answer may be a while.
pub(crate) enum Pending {
    /// It was not handed over.
    Refused(ErrorCode),
    /// It was.
    Waiting(oneshot::Receiver<Answer>),
}

impl Pending {
    /// The answer. Dropping the wait is harmless: the request has been carried out or will be.
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Pending::Refused(code) => Err(code),
            // The shard has gone: the group is elsewhere, or nowhere yet.
            Pending::Waiting(receiver) => receiver.await.unwrap_or(Err(ErrorCode::NotCoordinator)),
        }
    }
}

impl Groups {
    /// The partition of [`OFFSETS_TOPIC`] that `group` belongs to, of `count`.
    pub(crate) fn partition_of(group: &str, count: i32) -> PartitionIndex {
        // Java's `hashCode` over UTF-16 units, and Kafka's `abs`, to which the least number has no absolute value.
        let hash = group
            .encode_utf16()
            .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        PartitionIndex(hash.checked_abs().unwrap_or(0) % count.max(1))
    }

    /// Hands an event about `group` to its shard. Events of one caller arrive in the order of its calls.
    pub(crate) async fn submit(
        &self,
        group: &GroupId,
        event: impl FnOnce(Token) -> Event,
    ) -> Pending {
        let doors = self.doors.borrow().clone();
        let index = Groups::partition_of(group.as_str(), doors.len() as i32);
        match doors.get(index.0 as usize).and_then(Option::as_ref) {
            Some(door) => self.hand_over(door, event).await,
            None => Pending::Refused(ErrorCode::NotCoordinator),
        }
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> usize {
        self.doors.borrow().iter().flatten().count()
    }

    /// Hands an event to every shard. One that cannot load is no coordinator, as in Kafka: whoever asks for all groups is told
    /// of the others meanwhile.
    pub(crate) async fn submit_to_all(&self, event: impl Fn(Token) -> Event) -> Vec<Pending> {
        let doors = self.doors.borrow().clone();
        let mut pending = Vec::with_capacity(doors.len());
        for door in doors.iter().flatten() {
            let waits = door.is(Standing::Waits) && !planted(Mutant::OneShardHidesAll);
            pending.push(match waits {
                true => Pending::Refused(ErrorCode::NotCoordinator),
                false => self.hand_over(door, &event).await,
            });
        }
        pending
    }

    async fn hand_over(&self, door: &Door, event: impl FnOnce(Token) -> Event) -> Pending {
        if door.messages.is_closed() {
            return Pending::Refused(ErrorCode::NotCoordinator);
        }
        if !door.is(Standing::Serves) {
            return Pending::Refused(ErrorCode::CoordinatorLoadInProgress);
        }
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        let message = Message { event: event(token), asker: Some((token, sender)) };
        match door.messages.send(Box::new(message)).await {
            Ok(()) => Pending::Waiting(receiver),
            Err(_) => Pending::Refused(ErrorCode::NotCoordinator),
        }
    }

    /// Completes once the shard of `group` serves, or `patience` has passed.
    pub(crate) async fn ready<E: Env>(&self, env: &E, group: &str, patience: Duration) {
        let mut doors = self.doors.clone();
        let loaded = doors.wait_for(|doors| {
            let index = Groups::partition_of(group, doors.len() as i32).0 as usize;
            let door = doors.get(index).and_then(Option::as_ref);
            door.is_some_and(|door| door.is(Standing::Serves))
        });
        // In vain: the client will be told so by its next request.
        let _ = env.timeout(patience, loaded).await;
    }
}

/// The room that opens and closes shards.
pub struct GroupRoom {
    settings: GroupSettings,
    doors: watch::Sender<Arc<Doors>>,
}

/// The coordinators of a broker: their door, and the room to run.
pub fn new(config: &BrokerConfig) -> (Groups, GroupRoom) {
    let (sender, receiver) = watch::channel(Arc::new(Doors::new()));
    let groups = Groups { doors: receiver, tokens: Arc::default() };
    (groups, GroupRoom { settings: settings(config), doors: sender })
}

/// The operator's settings for groups.
fn settings(config: &BrokerConfig) -> GroupSettings {
    let settings = &config.settings;
    GroupSettings {
        initial_rebalance_delay: settings.group_initial_rebalance_delay,
        session_timeout_min: settings.group_session_timeout_min,
        session_timeout_max: settings.group_session_timeout_max,
        members_max: settings.group_size_max,
        offsets_retention: settings.offsets_retention,
        offsets_check_interval: settings.offsets_retention_check_interval,
        offset_metadata_max: settings.offset_metadata_bytes_max,
        ..GroupSettings::default()
    }
}

/// The shards that are open: of which topic, and of which tenure of each partition.
struct Opened<E: Env> {
    topic: Option<TopicId>,
    tenures: Vec<Option<Partition<E>>>,
}

impl GroupRoom {
    /// Follows the metadata until the broker stops: opens a shard for each partition of [`OFFSETS_TOPIC`] that this broker begins
    /// to lead, closes those that it ceases to, and tells all of topics that were deleted.
    pub async fn run<E: Env>(self, shared: Shared<E>) {
        let mut views = shared.metadata().watch();
        let clock = shared.env().clock().clone();
        let mut open = Opened { topic: None, tenures: Vec::new() };
        let mut seen: BTreeMap<TopicId, TopicName> = BTreeMap::new();
        let mut gather: Option<Instant> = Some(clock.now());
        loop {
            let view = views.borrow_and_update().clone();
            self.open_shards(&shared, &view, &mut open);
            if gather.is_some_and(|until| until <= clock.now()) {
                gather = None;
                self.tell_deletions(&view, &mut seen).await;
            }
            tokio::select! {
                biased;
                () = shared.stopping() => break,
                changed = views.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    gather.get_or_insert_with(|| clock.now() + DELETIONS_GATHER);
                }
                () = sleep_until(&clock, gather) => {}
            }
        }
        self.doors.send_replace(Arc::new(Doors::new()));
    }

    fn open_shards<E: Env>(&self, shared: &Shared<E>, view: &Arc<View<E>>, open: &mut Opened<E>) {
        let topic = view.topic(OFFSETS_TOPIC);
        let count = topic.map_or(0, |topic| usize::try_from(topic.partitions_count()).unwrap_or(0));
        let mut doors = Doors::clone(&self.doors.borrow());
        let id = topic.map(|topic| topic.id);
        let mut has_changed = doors.len() != count;
        if open.topic != id {
            open.topic = id;
            open.tenures.clear();
            doors.clear();
        }
        doors.resize(count, None);
        open.tenures.resize_with(count, || None);
        for (index, (door, tenure)) in doors.iter_mut().zip(&mut open.tenures).enumerate() {
            // Not there where another broker leads, or a full disk had no space for its log yet (E11).
            let led = topic.and_then(|topic| topic.partition(PartitionIndex(index as i32)));
            let goes_on = match (&*tenure, led) {
                (Some(tenure), Some(led)) => tenure.is(led),
                (tenure, led) => tenure.is_none() && led.is_none(),
            };
            if !goes_on {
                *door = led.map(|led| self.open_shard(shared, led.clone()));
                *tenure = led.cloned();
                has_changed = true;
            }
        }
        if has_changed {
            self.doors.send_replace(Arc::new(doors));
        }
    }

    fn open_shard<E: Env>(&self, shared: &Shared<E>, partition: Partition<E>) -> Door {
        let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
        let standing = Arc::new(AtomicU8::new(Standing::Loads as u8));
        let door = Door { messages, standing: standing.clone() };
        let on_change = self.doors.clone();
        let shard = shard::Shard {
            shared: shared.clone(),
            partition,
            settings: self.settings.clone(),
            messages: receiver,
            stands: Box::new(move |is| {
                standing.store(is as u8, Ordering::Release);
                // Whoever waits for a shard looks again.
                on_change.send_modify(|_| {});
            }),
        };
        shared.env().spawner().spawn("group-coordinator", shard.run());
        door
    }

    async fn tell_deletions<E: Env>(
        &self,
        view: &Arc<View<E>>,
        seen: &mut BTreeMap<TopicId, TopicName>,
    ) {
        let mut deleted = Vec::new();
        seen.retain(|id, name| {
            let stays = view.topic_by_id(*id).is_some();
            if !stays {
                deleted.push((name.clone(), *id));
            }
            stays
        });
        for topic in view.topics() {
            seen.entry(topic.id).or_insert_with(|| topic.name.clone());
        }
        if deleted.is_empty() {
            return;
        }
        let doors = self.doors.borrow().clone();
        for door in doors.iter().flatten() {
            let event = Event::TopicsDeleted(deleted.clone());
            // A shard that has gone will look at the topics when it loads again.
            let _ = door.messages.send(Box::new(Message { event, asker: None })).await;
        }
    }
}

/// Sleeps until `deadline`, for ever without one.
async fn sleep_until<C: Clock>(clock: &C, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_where_kafka_puts_it() {
        let names =
            ["", "test", "console-consumer-1", "größe", "my-application", "polygenelubricants"];
        // The hash of "my-application" is negative, that of the last is the least number there is.
        for (group, partition) in names.into_iter().zip([0, 48, 24, 7, 7, 0]) {
            let hash = Groups::partition_of(group, 50);
            assert_eq!(hash, PartitionIndex(partition), "{group}");
        }
    }
}
