//! Retention: one task that now and then, and when a disk gets full, lets every log drop what its topic no longer wants.

use std::time::Duration;

use env::{Clock, Env};
use log::LogDir;
use types::mutant::{Mutant, planted};

use crate::shared::Shared;
use crate::together;

/// Pause between two looks while a disk is full.
const FULL_PAUSE: Duration = Duration::from_secs(10);

/// Runs until the broker stops.
pub(crate) async fn run<E: Env>(shared: Shared<E>) {
    tokio::select! {
        biased;
        () = shared.stopping() => {}
        () = retain_for_ever(&shared) => {}
    }
}

async fn retain_for_ever<E: Env>(shared: &Shared<E>) {
    let clock = shared.env().clock();
    clock.sleep(shared.settings().retention_check_delay).await;
    loop {
        if !planted(Mutant::RetentionNotCalled) {
            retain(shared).await;
        }
        let interval = shared.settings().retention_check_interval;
        let has_space = shared.data_dirs().iter().all(LogDir::has_space);
        if has_space {
            tokio::select! {
                biased;
                () = until_a_disk_is_full(shared) => {}
                () = clock.sleep(interval) => {}
            }
        } else {
            // What has expired meanwhile is the space that everybody waits for.
            clock.sleep(interval.min(FULL_PAUSE)).await;
        }
    }
}

/// Waits until one of the log directories refuses records for want of space (E11).
async fn until_a_disk_is_full<E: Env>(shared: &Shared<E>) {
    let full = shared.data_dirs().iter().map(|dir| async {
        let mut space = dir.space();
        // A directory that is gone gets no fuller.
        if space.wait_for(|has_space| !has_space).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    together::any(full.collect()).await;
}

/// Lets every log of this broker drop what it may, below the high watermark only (I81).
async fn retain<E: Env>(shared: &Shared<E>) {
    let view = shared.view();
    for partition in view.topics().flat_map(|topic| topic.partitions.iter().flatten()) {
        if partition.check_serving().is_err() {
            continue;
        }
        let now = shared.env().clock().timestamp();
        match partition.log().retain(now, partition.ends().high_watermark).await {
            Ok(removed) if removed.segments > 0 => tracing::info!(
                partition = %partition.id(), segments = removed.segments, bytes = removed.bytes,
                log_start = %removed.log_start, "old segments deleted"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(partition = %partition.id(), %error, "retention failed"),
        }
    }
}
