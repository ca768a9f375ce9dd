//! Several futures as one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Futures that are polled side by side.
const WIDTH: usize = 64;

/// Runs all futures to their ends, a bounded number side by side, on the caller's task; outputs in their order.
pub(crate) async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures = futures.into_iter();
    let mut outputs = Vec::new();
    loop {
        let mut running: Vec<(Option<Pin<Box<F>>>, Option<F::Output>)> =
            futures.by_ref().take(WIDTH).map(|future| (Some(Box::pin(future)), None)).collect();
        if running.is_empty() {
            return outputs;
        }
        poll_fn(|context| {
            let mut pending = false;
            for (slot, output) in &mut running {
                if let Some(future) = slot {
                    match future.as_mut().poll(context) {
                        Poll::Ready(value) => {
                            *slot = None;
                            *output = Some(value);
                        }
                        Poll::Pending => pending = true,
                    }
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        outputs.extend(running.into_iter().filter_map(|(_, output)| output));
    }
}
