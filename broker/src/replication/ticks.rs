//! One timer for all partitions: whoever has a deadline is told when it has passed.

use env::{Clock, Env};
use types::Instant;

use super::Told;
use crate::shared::Shared;

/// Tells leaders and followers of the time until the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    let (clock, desk) = (broker.env().clock(), broker.desk());
    loop {
        let (due, next) = desk.take_due(clock.now());
        for who in due {
            match who {
                Told::Leader(leader) => drop(leader.upgrade().map(|leader| leader.tick())),
                Told::Follower(follower) => drop(follower.upgrade().map(|it| it.tick())),
            }
        }
        tokio::select! {
            biased;
            () = desk.timed.notified() => {}
            () = sleep_until(clock, next) => {}
        }
    }
}

async fn sleep_until<C: Clock>(clock: &C, at: Option<Instant>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
