//! Retention: one task that now and then lets every log drop what its topic no longer wants.

use env::{Clock, Env};
use types::mutant::{Mutant, planted};

use crate::shared::Shared;

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
        clock.sleep(shared.settings().retention_check_interval).await;
    }
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
