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
        let started = futures.by_ref().take(WIDTH);
        let mut running: Vec<Slot<F>> =
            started.map(|future| Slot { future: Some(Box::pin(future)), output: None }).collect();
        if running.is_empty() {
            return outputs;
        }
        poll_fn(|context| {
            let mut pending = false;
            for slot in &mut running {
                if let Some(future) = &mut slot.future {
                    match future.as_mut().poll(context) {
                        Poll::Ready(output) => {
                            slot.future = None;
                            slot.output = Some(output);
                        }
                        Poll::Pending => pending = true,
                    }
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        outputs.extend(running.into_iter().filter_map(|slot| slot.output));
    }
}

/// Runs all futures until the first of them ends; for ever if there are none.
pub(crate) async fn any<F: Future>(futures: Vec<F>) -> F::Output {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        let mut polled = running.iter_mut().map(|future| future.as_mut().poll(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// One future of several, or what it gave.
struct Slot<F: Future> {
    future: Option<Pin<Box<F>>>,
    output: Option<F::Output>,
}
