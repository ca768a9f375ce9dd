//! The metadata room: one task that owns the controller and the metadata log.
//!
//! A change enters by a bounded message, is decided by `cluster::controller` on the newest state, and leaves as records
//! of `__cluster_metadata`. It commits after this node's own sync (I39), is then applied to the image, and only when
//! the partitions that it needs are there is the new [`View`] published and the asker answered: who sees a topic in
//! metadata can use it.

use std::sync::Arc;

use crate::pending::Controller;
use crate::pending::MetadataRecord;
use env::Env;
use tokio::sync::{mpsc, oneshot, watch};

use crate::shared::View;

/// Changes that may wait for the room.
pub(crate) const CHANGES_WAITING_MAX: usize = 256;

/// Door of the metadata room; cheap to clone.
pub struct Metadata<E: Env> {
    changes: mpsc::Sender<Change>,
    view: watch::Receiver<Arc<View<E>>>,
}

impl<E: Env> Clone for Metadata<E> {
    fn clone(&self) -> Metadata<E> {
        Metadata { changes: self.changes.clone(), view: self.view.clone() }
    }
}

/// Decides on the newest state; returns the records to commit and how to answer once they are.
type Decide = Box<dyn FnOnce(&mut Controller) -> (Vec<MetadataRecord>, Answer) + Send>;
/// Answers the asker: `Ok` when the records are committed and published.
type Answer = Box<dyn FnOnce(Result<(), MetadataUnavailable>) + Send>;

/// One message to the room.
pub(crate) struct Change {
    decide: Decide,
}

/// The change was not carried out, or nobody knows: the room has stopped or its log failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetadataUnavailable;

impl std::fmt::Display for MetadataUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the metadata log takes no changes")
    }
}

impl std::error::Error for MetadataUnavailable {}

impl<E: Env> Metadata<E> {
    /// Runs `decide` on the newest state, commits the records it returns, and answers with its other result once they
    /// are durable, applied and published.
    pub async fn change<R, F>(&self, decide: F) -> Result<R, MetadataUnavailable>
    where
        R: Send + 'static,
        F: FnOnce(&mut Controller) -> (Vec<MetadataRecord>, R) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let decide: Decide = Box::new(move |controller| {
            let (records, result) = decide(controller);
            let answer: Answer = Box::new(move |outcome| {
                // The asker may have left; the change stands all the same.
                let _ = sender.send(outcome.map(|()| result));
            });
            (records, answer)
        });
        self.changes.send(Change { decide }).await.map_err(|_| MetadataUnavailable)?;
        receiver.await.map_err(|_| MetadataUnavailable)?
    }

    /// The newest published picture.
    pub fn view(&self) -> Arc<View<E>> {
        self.view.borrow().clone()
    }

    /// Follows the published pictures.
    pub fn watch(&self) -> watch::Receiver<Arc<View<E>>> {
        self.view.clone()
    }
}
