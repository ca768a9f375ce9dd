//! Automatic balance: whichever node is the active controller looks now and then how much lies on each broker, and lets
//! partitions move, and lead where they are to, as [`cluster::controller`] decides.
//!
//! ```text
//!  every few seconds: who is there? --the same for a while--> how large is what lies where? --> moves
//!                     what has moved is in sync?           --> its first replica leads
//! ```
//!
//! Nothing is remembered but what was moved: another controller begins anew, and finds what is under way in the metadata.

use std::collections::BTreeSet;
use std::time::Duration;

use client::ClientError;
use cluster::controller::{Holdings, Reassign, Recovery};
use cluster::metadata::{Image, PartitionInfo};
use env::{Clock, Env};
use types::{BrokerId, Instant, PartitionIndex, TopicId};
use wire::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::peer;
use crate::shared::Shared;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);
/// Brokers that come and go are not balanced: for so long all are there that were before.
const SETTLED: Duration = Duration::from_secs(10);
/// How long what was found level is left alone, if nobody comes or goes.
const REST: Duration = Duration::from_secs(60);
/// Moves that have not ended for so long are spoken of.
const LONG: Duration = Duration::from_secs(600);
/// Partitions that may be on their way to brokers that are there, whoever moves them.
const MOVING_MAX: usize = 20;
/// What begins to move in one look is as much as moves until the next ones, at the rate that is allowed.
const BUDGET: Duration = Duration::from_secs(20);
/// More than the list of all that one broker holds has.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Looks after it until the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    let mut balance: Option<Balance> = None;
    loop {
        broker.env().clock().sleep(LOOK).await;
        let now = broker.env().clock().now();
        if !broker.quorum().is_active {
            balance = None;
            continue;
        }
        balance.get_or_insert_with(|| Balance::new(now)).look(broker, now).await;
    }
}

/// What one controller remembers of it.
struct Balance {
    /// Who was there, since when.
    there: (BTreeSet<BrokerId>, Instant),
    /// It was level then.
    level_at: Option<Instant>,
    /// When all leaders were looked at last.
    led_at: Instant,
    /// What is to be led by its first replica when it can.
    to_lead: BTreeSet<(TopicId, PartitionIndex)>,
    /// What was begun and is on its way.
    begun: BTreeSet<(TopicId, PartitionIndex)>,
    /// Since when too many are on their way, and whether that was said.
    waits: Option<(Instant, bool)>,
    /// Who has not said what it holds.
    silent: BTreeSet<BrokerId>,
}

impl Balance {
    fn new(now: Instant) -> Balance {
        Balance {
            there: (BTreeSet::new(), now),
            level_at: None,
            led_at: now,
            to_lead: BTreeSet::new(),
            begun: BTreeSet::new(),
            waits: None,
            silent: BTreeSet::new(),
        }
    }

    async fn look<E: Env>(&mut self, broker: &Shared<E>, now: Instant) {
        let view = broker.view();
        let settings = &view.settings;
        let there: BTreeSet<BrokerId> =
            view.image.brokers().filter(|info| !info.is_fenced).map(|info| info.id).collect();
        if self.there.0 != there {
            (self.there, self.level_at) = ((there, now), None);
        }
        if let Some(interval) = settings.leader_rebalance_interval
            && now.saturating_since(self.led_at) >= interval
        {
            self.led_at = now;
            let elsewhere = broker.metadata().change(|it| (Vec::new(), it.led_elsewhere())).await;
            self.to_lead.extend(elsewhere.unwrap_or_default());
        }
        self.elect(broker).await;
        if !settings.is_auto_balance_on || now.saturating_since(self.there.1) < SETTLED {
            return;
        }
        self.take_back(broker).await;
        let arrives =
            |known: &PartitionInfo| known.adding.iter().all(|id| self.there.0.contains(id));
        let moving = view.image.partitions().map(|(_, _, known)| known);
        let moving = moving.filter(|known| known.is_moving() && arrives(known)).count();
        if moving >= MOVING_MAX {
            self.wait_for(moving, now);
            return;
        }
        self.waits = None;
        if self.level_at.is_none_or(|at| now.saturating_since(at) >= REST) {
            let budget = |rate: u64| rate.saturating_mul(BUDGET.as_secs());
            if self.move_some(broker, settings.move_rate.map_or(u64::MAX, budget)).await == 0 {
                self.level_at = Some(now);
            }
        }
    }

    /// Too many are on their way: that is said once, if it stays so.
    fn wait_for(&mut self, moving: usize, now: Instant) {
        let (since, is_said) = self.waits.get_or_insert((now, false));
        if !*is_said && now.saturating_since(*since) >= LONG {
            *is_said = true;
            tracing::warn!(
                moving,
                "partitions have been on their way for long, and nothing else moves by itself: see `foretold partition moves`"
            );
        }
    }

    /// What was begun here towards a broker that is not there any more stays where it was.
    async fn take_back<E: Env>(&mut self, broker: &Shared<E>) {
        let (begun, there) = (self.begun.clone(), self.there.0.clone());
        if begun.is_empty() {
            return;
        }
        let taken_back = broker.metadata().change(move |controller| {
            let image = controller.image();
            let moving = begun.into_iter().filter_map(|(topic, index)| {
                let known = image.topic_by_id(topic)?;
                Some((known, index, known.partitions.get(&index).filter(|it| it.is_moving())?))
            });
            let (mut left, mut stuck) = (BTreeSet::new(), Vec::new());
            for (topic, index, partition) in moving {
                match partition.adding.iter().all(|id| there.contains(id)) {
                    true => drop(left.insert((topic.id, index))),
                    false => {
                        let topic = topic.name.as_str().into();
                        stuck.push(Reassign { topic, index, replicas: None });
                    }
                }
            }
            let (records, _) = controller.reassign(&stuck, false);
            (records, (left, stuck.len()))
        });
        if let Ok((left, count)) = taken_back.await {
            self.begun = left;
            if count > 0 {
                tracing::warn!(
                    count,
                    "partitions stay where they were: the broker that they moved to is gone"
                );
            }
        }
    }

    /// Lets first replicas lead that can.
    async fn elect<E: Env>(&mut self, broker: &Shared<E>) {
        let wanted = self.to_lead.clone();
        if wanted.is_empty() {
            return;
        }
        let elected = broker.metadata().change(move |controller| {
            let due = controller.to_lead_first(&wanted);
            let (records, _) = controller.elect_leaders(&due, false, &Recovery::default());
            let open = wanted.into_iter().filter(|place| controller.is_led_elsewhere(*place));
            (records, open.collect())
        });
        // What was decided is led so, or looked at again.
        if let Ok(open) = elected.await {
            self.to_lead = open;
        }
    }

    /// Begins to move what is to move next; how many partitions.
    async fn move_some<E: Env>(&mut self, broker: &Shared<E>, budget: u64) -> usize {
        let holdings = self.holdings(broker).await;
        // Thought out aside: the room goes on meanwhile, and looks at each move again.
        let fork = broker.metadata().change(|controller| (Vec::new(), controller.fork())).await;
        let Ok(controller) = fork else { return 0 };
        let moves = controller.balance(&holdings, budget);
        if moves.is_empty() {
            return 0;
        }
        let begun = broker.metadata().change(move |controller| {
            let (records, answers) = controller.reassign(&moves, false);
            let image = controller.image();
            let begun = moves.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
            let place = |topic: &str, index| Some((image.topic_id(topic)?, index));
            let begun = begun.filter_map(|(it, _)| place(&it.topic, it.index));
            (records, begun.collect::<Vec<_>>())
        });
        let begun = begun.await.unwrap_or_default();
        if !begun.is_empty() {
            tracing::info!(
                partitions = begun.len(),
                "moving partitions so that each broker has its share (auto.balance)"
            );
        }
        self.to_lead.extend(&begun);
        self.begun.extend(&begun);
        begun.len()
    }

    /// What the brokers say that are there. Who does not answer, or has a directory that does not, is left out.
    async fn holdings<E: Env>(&mut self, broker: &Shared<E>) -> Holdings {
        let mut holdings = Holdings::default();
        let mut silent = BTreeSet::new();
        for id in &self.there.0 {
            match described(broker, *id).await {
                Ok(answer) if answer.results.iter().all(|dir| dir.error_code == 0) => {
                    note(&broker.image(), *id, answer, &mut holdings);
                }
                Ok(_) => drop(silent.insert(*id)),
                Err(error) => {
                    tracing::debug!(broker = %id, %error, "it does not say what it holds");
                    silent.insert(*id);
                }
            }
        }
        if silent != self.silent && !silent.is_empty() {
            tracing::warn!(
                brokers = ?silent,
                "nothing moves to or from brokers that do not say what they hold, or have a directory offline (auto.balance)"
            );
        }
        self.silent = silent;
        holdings
    }
}

async fn described<E: Env>(
    broker: &Shared<E>,
    id: BrokerId,
) -> Result<DescribeLogDirsResponse, ClientError> {
    let patience = broker.settings().quorum_request_timeout;
    let connection = peer::connect(broker, id, "balance", ANSWER_BYTES_MAX).await?;
    let version = connection.version::<DescribeLogDirsRequest>(None, i16::MAX)?;
    let request = DescribeLogDirsRequest { topics: None };
    let answer = connection.ask(broker.env(), &request, version, patience).await?;
    ClientError::check(answer.error_code, None)?;
    Ok(answer)
}

/// Takes in what one broker says: how large what lies there is, and how much the fullest of its directories still holds.
fn note(image: &Image, id: BrokerId, answer: DescribeLogDirsResponse, holdings: &mut Holdings) {
    // A volume that does not say has room.
    let room = |usable: i64| u64::try_from(usable).unwrap_or(u64::MAX);
    let open = answer.results.iter().filter(|dir| !dir.is_cordoned);
    holdings.room.insert(id, open.map(|dir| room(dir.usable_bytes)).min().unwrap_or(0));
    for topic in answer.results.into_iter().flat_map(|dir| dir.topics) {
        let Some(topic_id) = image.topic_id(&topic.name) else { continue };
        for partition in topic.partitions {
            let size = u64::try_from(partition.partition_size).unwrap_or(0);
            let place = (topic_id, PartitionIndex(partition.partition_index));
            // One that is not in sync may hold less.
            let known = holdings.sizes.entry(place).or_default();
            *known = size.max(*known);
        }
    }
}
