//! The active controller watches over the processes of the other brokers: it keeps a connection to each, and a broker whose
//! listener refuses another once that is gone is dead. It is fenced at once, not when its session ends; silence, which may be
//! the network's, is left to the session.
//!
//! A refusal is believed once for each time that the broker was reached. One that can be refused and still is heard of (a
//! firewall between it and the controller) is not fenced again and again.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use client::ClientError;
use env::{Clock, Env, Spawn};
use types::{BrokerEpoch, BrokerId, QuorumEpoch};

use crate::metadata::QuorumInfo;
use crate::peer;
use crate::shared::{Shared, View};

/// A process that is about to restart, or has more connections waiting than it can take, refuses for a moment.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// Pause between attempts to reach a broker.
const PAUSE: Duration = Duration::from_secs(1);
/// Answers of a handshake, and nothing else.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A registration, in one tenure of this controller.
type Watched = (QuorumEpoch, BrokerId, BrokerEpoch);

/// Watches whenever this node is the active controller, until the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    let mut quorum = broker.metadata().watch_quorum();
    let mut views = broker.metadata().watch();
    let mut watched: BTreeSet<Watched> = BTreeSet::new();
    loop {
        let known = tenure(&quorum.borrow_and_update());
        let image = views.borrow_and_update().image.clone();
        watched.retain(|(epoch, id, registered)| {
            known == Some(*epoch) && image.broker(*id).is_some_and(|now| now.epoch == *registered)
        });
        let others = image.brokers().filter(|other| other.id != broker.broker_id());
        for other in others.filter(|other| !other.is_fenced) {
            let Some(epoch) = known else { break };
            let one = (epoch, other.id, other.epoch);
            if watched.insert(one) {
                broker.env().spawner().spawn("vigil", watch_over(broker.clone(), one));
            }
        }
        let has_ended = tokio::select! {
            biased;
            changed = quorum.wait_for(|now| tenure(now) != known) => changed.is_err(),
            changed = views.changed() => changed.is_err(),
        };
        if has_ended {
            return;
        }
    }
}

/// The epoch in which this node is the active controller.
fn tenure(quorum: &QuorumInfo) -> Option<QuorumEpoch> {
    quorum.is_active.then_some(quorum.epoch)
}

/// Watches over one process as long as it is registered and this node decides.
async fn watch_over<E: Env>(broker: Shared<E>, (epoch, id, registered): Watched) {
    let mut quorum = broker.metadata().watch_quorum();
    let mut views = broker.metadata().watch();
    let is_other = |now: &View<E>| now.image.broker(id).is_none_or(|now| now.epoch != registered);
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        _ = quorum.wait_for(|now| tenure(now) != Some(epoch)) => {}
        _ = views.wait_for(|now| is_other(now)) => {}
        () = watch(&broker, id, registered) => {}
    }
}

async fn watch<E: Env>(broker: &Shared<E>, id: BrokerId, registered: BrokerEpoch) {
    let clock = broker.env().clock();
    let mut is_believed = true;
    let mut refusals = 0;
    loop {
        let begun = clock.now();
        match peer::connect(broker, id, "vigil", ANSWER_BYTES_MAX).await {
            Ok(connection) => {
                (is_believed, refusals) = (true, 0);
                connection.closed().await;
                // One that turns everybody away at once is alive, too.
                if clock.now().saturating_since(begun) < PAUSE {
                    clock.sleep(PAUSE).await;
                }
                continue;
            }
            Err(ClientError::Connect { error, .. })
                if error.kind() == ErrorKind::ConnectionRefused =>
            {
                refusals += 1;
            }
            Err(_) => refusals = 0,
        }
        if refusals == 1 {
            clock.sleep(SECOND_LOOK).await;
            continue;
        }
        if refusals > 1 && is_believed {
            is_believed = false;
            // A controller that is none any more decides nothing, and the next one looks for itself.
            if broker.metadata().refused(id, registered).await.is_ok_and(|is_fenced| is_fenced) {
                tracing::warn!(broker = %id, "a broker's process is gone: its address refuses connections");
            }
        }
        clock.sleep(PAUSE).await;
    }
}
