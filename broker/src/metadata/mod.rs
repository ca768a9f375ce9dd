//! The metadata room: one task that owns the controller and the metadata log.
//!
//! A change enters by a bounded message, is decided by `cluster::controller` on the newest state, and leaves as records
//! of `__cluster_metadata`. It commits after this node's own sync (I39), is then applied to the image, and only when
//! the partitions that it needs are there is the new [`View`] published and the asker answered: who sees a topic in
//! metadata can use it, and who was told "deleted" finds it gone (I41).

mod log;
mod producer_ids;

use std::sync::Arc;

use cluster::config::BrokerSettings;
use cluster::controller::Controller;
use cluster::metadata::MetadataRecord;
use env::Env;
use tokio::sync::{mpsc, oneshot, watch};
use types::{BrokerId, Offset};

pub(crate) use log::{DIRECTORY, MetadataLog, MetadataLogFailed};
pub(crate) use producer_ids::ProducerIds;

use crate::partition::Registry;
use crate::shared::{Failure, Shared, View};

/// Messages that may wait for the room.
const MESSAGES_WAITING_MAX: usize = 256;

/// Door of the metadata room; cheap to clone.
pub struct Metadata<E: Env> {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View<E>>>,
}

impl<E: Env> Clone for Metadata<E> {
    fn clone(&self) -> Metadata<E> {
        Metadata { messages: self.messages.clone(), view: self.view.clone() }
    }
}

/// Decides on the newest state, the controller's; returns the records to commit and how to answer once they are.
type Decide = Box<dyn FnOnce(&Controller) -> (Vec<MetadataRecord>, Answer) + Send>;
/// Answers the asker: `Ok` when the records are committed and published.
type Answer = Box<dyn FnOnce(Result<(), MetadataUnavailable>) + Send>;

/// What the room is told.
enum Message {
    /// Somebody wants a change.
    Change(Decide),
    /// A data directory went offline.
    DirectoryFailed(usize, ::log::Failure),
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
        F: FnOnce(&Controller) -> (Vec<MetadataRecord>, R) + Send + 'static,
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
        let sent = self.messages.send(Message::Change(decide)).await;
        sent.map_err(|_| MetadataUnavailable)?;
        receiver.await.map_err(|_| MetadataUnavailable)?
    }

    /// A data directory went offline.
    pub(crate) async fn on_directory_failed(&self, place: usize, failure: ::log::Failure) {
        // A room that has stopped serves nothing any more.
        let _ = self.messages.send(Message::DirectoryFailed(place, failure)).await;
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

/// The room itself.
pub(crate) struct MetadataRoom<E: Env> {
    messages: mpsc::Receiver<Message>,
    view: watch::Sender<Arc<View<E>>>,
    log: MetadataLog<E>,
    controller: Controller,
    registry: Registry<E>,
    settings: Arc<BrokerSettings>,
    broker: BrokerId,
}

impl<E: Env> MetadataRoom<E> {
    /// The room with a first picture, and its door. `controller` is at `offset`, the end of `log`.
    pub(crate) async fn open(
        log: MetadataLog<E>,
        controller: Controller,
        offset: Offset,
        mut registry: Registry<E>,
        settings: &BrokerSettings,
        broker: BrokerId,
    ) -> (MetadataRoom<E>, Metadata<E>) {
        let settings = Arc::new(in_force(settings, &controller, broker));
        let image = Arc::new(controller.image().clone());
        let first = registry.follow(&image, offset, &settings, None).await;
        registry.remove_strays().await;
        let (view, receiver) = watch::channel(Arc::new(first));
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        let room = MetadataRoom { messages, view, log, controller, registry, settings, broker };
        (room, Metadata { messages: sender, view: receiver })
    }

    /// Topics that cannot be served as they should.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        self.registry.incomplete().into_iter().map(str::to_owned).collect()
    }

    /// Takes messages until the broker stops; then closes the log.
    pub(crate) async fn run(mut self, shared: Shared<E>) {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.recv() => message,
                () = shared.stopping() => None,
            };
            match message {
                Some(Message::Change(decide)) => {
                    if let Err(MetadataLogFailed(reason)) = self.carry_out(decide).await {
                        // What was appended may be durable or not: nobody may act on this state any more.
                        shared.fail(Failure::Metadata { reason });
                        return;
                    }
                }
                Some(Message::DirectoryFailed(place, failure)) => {
                    if !self.registry.on_directory_failed(place) {
                        let reason = failure.message.to_string();
                        shared.fail(Failure::Disk { directory: failure.path, reason });
                    }
                }
                None => return,
            }
        }
    }

    async fn carry_out(&mut self, decide: Decide) -> Result<(), MetadataLogFailed> {
        let (records, answer) = decide(&self.controller);
        if records.is_empty() {
            answer(Ok(()));
            return Ok(());
        }
        let committed = self.commit(&records).await;
        answer(committed.as_ref().map(|()| ()).map_err(|_| MetadataUnavailable));
        committed
    }

    async fn commit(&mut self, records: &[MetadataRecord]) -> Result<(), MetadataLogFailed> {
        let delta = self
            .controller
            .apply(records)
            .map_err(|error| MetadataLogFailed(format!("a decision makes no sense: {error}")))?;
        let offset = self.log.commit(records).await?;
        if delta.has_broker_config_changed(self.broker) {
            self.settings = Arc::new(in_force(&self.settings, &self.controller, self.broker));
        }
        let image = Arc::new(self.controller.image().clone());
        let view = self.registry.follow(&image, offset, &self.settings, Some(&delta)).await;
        self.view.send_replace(Arc::new(view));
        Ok(())
    }
}

/// The broker's settings under the layers that the metadata holds.
fn in_force(known: &BrokerSettings, controller: &Controller, broker: BrokerId) -> BrokerSettings {
    let fixed = known.node.fixed.clone();
    BrokerSettings::resolve(controller.image().node_configs(fixed, broker))
}
