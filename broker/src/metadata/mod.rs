//! The metadata room: one task that owns the controller and the metadata log.
//!
//! A change enters by a bounded message, is decided by `cluster::controller` on the newest state, and leaves as records
//! of `__cluster_metadata`. It commits as the quorum says ([`Seat`]; I39), is then applied to the image, and only when
//! the partitions that it needs are there is the new [`View`] published and the asker answered: who sees a topic in
//! metadata can use it, and who was told "deleted" finds it gone (I41).

mod ballot;
mod log;
mod producer_ids;
mod seat;

use std::sync::Arc;
use std::time::Duration;

use cluster::config::BrokerSettings;
use cluster::controller::{Controller, notice_of};
use cluster::metadata::MetadataRecord;
use cluster::telemetry::Subscriptions;
use env::{Clock, Env};
use tokio::sync::{mpsc, oneshot, watch};
use types::mutant::{Mutant, planted};
use types::{BrokerId, Offset};

pub(crate) use log::{DIRECTORY, MetadataLog, MetadataLogFailed};
pub(crate) use producer_ids::ProducerIds;
pub(crate) use seat::Seat;

use crate::partition::Registry;
use crate::shared::{Failure, Shared, View};

/// Changes that may wait for the room.
const CHANGES_WAITING_MAX: usize = 256;
/// Changes that may share one sync.
const CHANGES_PER_SYNC_MAX: usize = 64;
/// Pause before a log is tried again that a full disk had no space for.
const UNMADE_PAUSE: Duration = Duration::from_secs(1);
/// More directories than any machine has.
const DIRECTORIES_MAX: usize = 64;

/// Door of the metadata room; cheap to clone.
pub struct Metadata<E: Env> {
    changes: mpsc::Sender<Decide>,
    failures: mpsc::Sender<DirectoryFailed>,
    view: watch::Receiver<Arc<View<E>>>,
}

impl<E: Env> Clone for Metadata<E> {
    fn clone(&self) -> Metadata<E> {
        Metadata {
            changes: self.changes.clone(),
            failures: self.failures.clone(),
            view: self.view.clone(),
        }
    }
}

/// Decides on the newest state, the controller's; returns the records to commit and how to answer once they are.
type Decide = Box<dyn FnOnce(&Controller) -> (Vec<MetadataRecord>, Answer) + Send>;
/// Answers the asker: `Ok` when the records are committed and published.
type Answer = Box<dyn FnOnce(Result<(), MetadataUnavailable>) + Send>;

/// A data directory that went offline: its place, and why.
type DirectoryFailed = (usize, ::log::Failure);

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
        self.changes.send(decide).await.map_err(|_| MetadataUnavailable)?;
        receiver.await.map_err(|_| MetadataUnavailable)?
    }

    /// A data directory went offline.
    pub(crate) async fn on_directory_failed(&self, place: usize, failure: ::log::Failure) {
        // A room that has stopped serves nothing any more.
        let _ = self.failures.send((place, failure)).await;
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
    changes: mpsc::Receiver<Decide>,
    failures: mpsc::Receiver<DirectoryFailed>,
    view: watch::Sender<Arc<View<E>>>,
    seat: Seat<E>,
    controller: Controller,
    registry: Registry<E>,
    settings: Arc<BrokerSettings>,
    subscriptions: Arc<Subscriptions>,
    broker: BrokerId,
}

impl<E: Env> MetadataRoom<E> {
    /// The room with a first picture, and its door. `controller` is at `offset`, the end of the log of `seat`, which leads.
    pub(crate) async fn open(
        seat: Seat<E>,
        controller: Controller,
        offset: Offset,
        mut registry: Registry<E>,
        settings: &BrokerSettings,
        broker: BrokerId,
    ) -> (MetadataRoom<E>, Metadata<E>) {
        let settings = Arc::new(in_force(settings, &controller, broker));
        let image = Arc::new(controller.image().clone());
        registry.remove_strays(&image).await;
        registry.follow(&image, &settings, None).await;
        let subscriptions = Arc::new(Subscriptions::of(&image));
        let first = registry.view(image, offset, settings.clone(), subscriptions.clone());
        let (view, followed) = watch::channel(Arc::new(first));
        let (ask, changes) = mpsc::channel(CHANGES_WAITING_MAX);
        let (report, failures) = mpsc::channel(DIRECTORIES_MAX);
        let door = Metadata { changes: ask, failures: report, view: followed };
        let room = MetadataRoom {
            changes,
            failures,
            view,
            seat,
            controller,
            registry,
            settings,
            subscriptions,
            broker,
        };
        (room, door)
    }

    /// Topics that cannot be served as they should.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        self.registry.incomplete().into_iter().map(str::to_owned).collect()
    }

    /// Takes changes until the broker stops.
    pub(crate) async fn run(mut self, shared: Shared<E>) {
        loop {
            let has_unmade = self.registry.has_unmade();
            tokio::select! {
                biased;
                () = shared.stopping() => return,
                () = shared.env().clock().sleep(UNMADE_PAUSE), if has_unmade => self.make_missing().await,
                failed = self.failures.recv() => {
                    let Some((place, failure)) = failed else { return };
                    let left = self.registry.on_directory_failed(place);
                    let Some(directory) = left.filter(|_| !planted(Mutant::OneTakesAll)) else {
                        let reason = failure.to_string();
                        shared.fail(Failure::Disk { directory: failure.path, reason });
                        continue;
                    };
                    let broker = self.broker;
                    let give_up: Decide = Box::new(move |controller| {
                        let epoch = controller.image().broker(broker).map(|own| own.epoch);
                        let epoch = epoch.unwrap_or_default();
                        let given_up =
                            controller.give_up_directories(broker, epoch, &[directory]);
                        (given_up.unwrap_or_default(), Box::new(|_| {}))
                    });
                    if !self.decide(vec![give_up], &shared).await {
                        return;
                    }
                }
                change = self.changes.recv() => {
                    let Some(change) = change else { return };
                    let decisions = self.gather(change);
                    if !self.decide(decisions, &shared).await {
                        return;
                    }
                }
            }
        }
    }

    /// Carries out decisions; `false` if the node cannot go on.
    async fn decide(&mut self, decisions: Vec<Decide>, shared: &Shared<E>) -> bool {
        let carried = self.carry_out(decisions).await;
        if let Err(MetadataLogFailed(reason)) = carried {
            // What was appended may be durable or not: nobody may act on this state any more.
            shared.fail(Failure::Metadata { reason });
            return false;
        }
        true
    }

    /// Logs that a full disk had no space for are created once it has (E11).
    async fn make_missing(&mut self) {
        let before = self.view.borrow().clone();
        if self.registry.make_missing(&before.image, &self.settings).await {
            let view = self.registry.view(
                before.image.clone(),
                before.offset,
                self.settings.clone(),
                self.subscriptions.clone(),
            );
            self.view.send_replace(Arc::new(view));
        }
    }

    /// The changes that wait, `first` before them: they share one sync.
    fn gather(&mut self, first: Decide) -> Vec<Decide> {
        let mut decisions = vec![first];
        while decisions.len() < CHANGES_PER_SYNC_MAX
            && let Ok(decide) = self.changes.try_recv()
        {
            decisions.push(decide);
        }
        decisions
    }

    async fn carry_out(&mut self, decisions: Vec<Decide>) -> Result<(), MetadataLogFailed> {
        let mut answers = Vec::with_capacity(decisions.len());
        let committed = self.commit(decisions, &mut answers).await;
        for answer in answers {
            // Also an answer without records of its own rests on the state before it.
            answer(committed.clone().map_err(|_| MetadataUnavailable));
        }
        committed
    }

    async fn commit(
        &mut self,
        decisions: Vec<Decide>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), MetadataLogFailed> {
        let mut steps = Vec::new();
        let mut notices = Vec::new();
        for decide in decisions {
            let (records, answer) = decide(&self.controller);
            answers.push(answer);
            if records.is_empty() {
                continue;
            }
            let delta = self.controller.apply(&records).map_err(|error| {
                MetadataLogFailed(format!("a decision makes no sense: {error}"))
            })?;
            self.seat.append(&records).await?;
            notices.extend(records.iter().filter_map(|record| match record {
                MetadataRecord::Config(config) => notice_of(config),
                _ => None,
            }));
            steps.push((delta, Arc::new(self.controller.image().clone())));
        }
        let Some((_, image)) = steps.last() else { return Ok(()) };
        let image = image.clone();
        let offset = self.seat.flush().await?;
        for notice in notices {
            tracing::info!("{notice}");
        }
        if steps.iter().any(|(delta, _)| delta.has_client_metrics_changed()) {
            self.subscriptions = Arc::new(Subscriptions::of(&image));
        }
        for (delta, image) in &steps {
            if delta.has_broker_config_changed(self.broker) {
                let fixed = self.settings.node.fixed.clone();
                let node = image.node_configs(fixed, self.broker);
                self.settings = Arc::new(BrokerSettings::resolve(node));
            }
            self.registry.follow(image, &self.settings, Some(delta)).await;
        }
        let (settings, subscriptions) = (self.settings.clone(), self.subscriptions.clone());
        let view = self.registry.view(image, offset, settings, subscriptions);
        self.view.send_replace(Arc::new(view));
        Ok(())
    }
}

/// The broker's settings under the layers that the metadata holds.
fn in_force(known: &BrokerSettings, controller: &Controller, broker: BrokerId) -> BrokerSettings {
    let fixed = known.node.fixed.clone();
    BrokerSettings::resolve(controller.image().node_configs(fixed, broker))
}
