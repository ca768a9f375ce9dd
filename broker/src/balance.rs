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
use cluster::controller::{Recovery, Sizes};
use env::{Clock, Env};
use types::{BrokerId, Instant, PartitionIndex, TopicId};
use wire::describe_log_dirs::DescribeLogDirsRequest;

use crate::peer;
use crate::shared::Shared;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);
/// Brokers that come and go are not balanced: for so long all are there that were before.
const SETTLED: Duration = Duration::from_secs(10);
/// How long what was found level is left alone, if nobody comes or goes.
const REST: Duration = Duration::from_secs(60);
/// Partitions that may be on their way, whoever moves them.
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
}

impl Balance {
    fn new(now: Instant) -> Balance {
        let there = (BTreeSet::new(), now);
        Balance { there, level_at: None, led_at: now, to_lead: BTreeSet::new() }
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
        let moving = view.image.partitions().filter(|(_, _, it)| it.is_moving()).count();
        let is_settled = now.saturating_since(self.there.1) >= SETTLED;
        let rests = self.level_at.is_some_and(|at| now.saturating_since(at) < REST);
        if settings.is_auto_balance_on && moving < MOVING_MAX && is_settled && !rests {
            let budget =
                settings.move_rate.map_or(u64::MAX, |rate| rate.saturating_mul(BUDGET.as_secs()));
            match self.move_some(broker, budget).await {
                Ok(0) => self.level_at = Some(now),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "how much lies on each broker is not known: nothing moves by itself for now");
                }
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
    async fn move_some<E: Env>(
        &mut self,
        broker: &Shared<E>,
        budget: u64,
    ) -> Result<usize, ClientError> {
        let sizes = sizes(broker, &self.there.0).await?;
        let begun = broker.metadata().change(move |controller| {
            let moves = controller.balance(&sizes, budget);
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
        Ok(begun.len())
    }
}

/// How large what lies on these brokers is, told by all of them.
async fn sizes<E: Env>(
    broker: &Shared<E>,
    brokers: &BTreeSet<BrokerId>,
) -> Result<Sizes, ClientError> {
    let image = broker.image();
    let patience = broker.settings().quorum_request_timeout;
    let mut sizes = Sizes::new();
    for id in brokers {
        let connection = peer::connect(broker, *id, "balance", ANSWER_BYTES_MAX).await?;
        let version = connection.version::<DescribeLogDirsRequest>(None, i16::MAX)?;
        let request = DescribeLogDirsRequest { topics: None };
        let answer = connection.ask(broker.env(), &request, version, patience).await?;
        ClientError::check(answer.error_code, None)?;
        for topic in answer.results.into_iter().flat_map(|dir| dir.topics) {
            let Some(topic_id) = image.topic_id(&topic.name) else { continue };
            for partition in topic.partitions {
                let size = u64::try_from(partition.partition_size).unwrap_or(0);
                let place = (topic_id, PartitionIndex(partition.partition_index));
                // One that is not in sync may hold less.
                let known = sizes.entry(place).or_default();
                *known = size.max(*known);
            }
        }
    }
    Ok(sizes)
}
