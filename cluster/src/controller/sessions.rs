//! Sessions: which brokers are heard of, and what follows from what they say and from their silence.
//!
//! What a broker says of itself every few seconds is no record, so this is a room of its own beside the image: the soft
//! state of the active controller. A new one has heard nobody yet, and gives every broker that is not fenced a whole
//! session before it fences anybody.
//!
//! ```text
//!  registered, fenced --(caught up)--> unfenced --(wants to stop)--> stopping --(others lead)--> fenced, stops
//!          ^                              |                              |
//!          +------ silent, refuses connections, no directory left -------+
//! ```
//!
//! Every event names the registration that it means; what an older one says changes nothing (I35).

use std::collections::BTreeMap;
use std::time::Duration;

use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, Instant, Offset, Uuid};

use super::{
    Controller, Decision, LogEndAnswer, LogEndQuestion, Recovery, Refusal, RegisterBroker,
};
use crate::metadata::{BrokerInfo, Image, MetadataRecord};

/// What a broker says of itself every few seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// End of the metadata that it has applied.
    pub metadata_end: Offset,
    /// Whether it wants to be fenced.
    pub wants_fence: bool,
    /// Whether it wants to stop.
    pub wants_stop: bool,
    /// Log directories of its registration that have failed.
    pub failed_directories: Vec<DirectoryId>,
    /// Those that take nothing new, if it says ([`Controller::set_cordoned`]).
    pub cordoned_directories: Option<Vec<DirectoryId>>,
    /// What it was asked of its logs before (P11).
    pub log_ends: Vec<LogEndAnswer>,
}

/// What it is told, once the records of the decision are committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    /// Whether it has applied its own registration.
    pub is_caught_up: bool,
    /// Whether it is fenced.
    pub is_fenced: bool,
    /// Whether it is to stop now.
    pub should_stop: bool,
    /// End of the metadata that the answer rests on: before it knows all that, it does not know what it leads.
    pub metadata_end: Offset,
    /// What it is to tell of its logs.
    pub questions: Vec<LogEndQuestion>,
}

/// The processes of brokers that the active controller hears of.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout: Duration,
    /// The broker of the controller's own process, if it is one.
    own: Option<(BrokerId, Uuid)>,
    heard: BTreeMap<BrokerId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: BrokerEpoch,
    last: Instant,
    metadata_end: Offset,
    /// End of the metadata with which the others lead what a stopping broker led.
    stop_end: Option<Offset>,
}

impl Sessions {
    /// Sessions of a controller that begins at `now`. `own` is the broker in its process, and the incarnation it has.
    pub fn new(
        now: Instant,
        timeout: Duration,
        own: Option<(BrokerId, Uuid)>,
        image: &Image,
    ) -> Sessions {
        let mut sessions = Sessions { timeout, own, heard: BTreeMap::new() };
        let unfenced = image.brokers().filter(|broker| !broker.is_fenced);
        for broker in unfenced.filter(|_| !planted(Mutant::NewControllerFences)) {
            sessions.hear(now, broker.id, broker.epoch, Offset::ZERO);
        }
        sessions
    }

    /// A broker comes up ([`Controller::register_broker`]), unless another process of its id is alive (I43).
    pub fn register(
        &mut self,
        now: Instant,
        controller: &Controller,
        request: &RegisterBroker,
        epoch: BrokerEpoch,
    ) -> Decision<Result<BrokerEpoch, Refusal>> {
        let before = controller.image.broker(request.id);
        // Whoever has a directory of it has locked it: the process before is gone, if it is not this one.
        let has_its_directory = |before: &BrokerInfo| {
            let shares = |directory| before.directories.contains(directory);
            request.directories.iter().any(shares) && self.own.is_none_or(|(id, _)| id != before.id)
        };
        let is_twin = |before: &BrokerInfo| {
            before.incarnation != request.incarnation
                && !before.is_fenced
                && self.is_live(now, before)
                && !has_its_directory(before)
        };
        if before.is_some_and(is_twin) && !planted(Mutant::TwinRegisters) {
            let message = "Another broker is registered with that broker id. If the broker was recently \
                           restarted this should self-resolve once the heartbeat manager expires the \
                           broker's session.";
            let refusal = Refusal::new(ErrorCode::DuplicateBrokerRegistration, message);
            return (Vec::new(), Err(refusal));
        }
        let (records, answer) = controller.register_broker(request, epoch);
        if let Ok(epoch) = &answer {
            self.hear(now, request.id, *epoch, Offset::ZERO);
        }
        (records, answer)
    }

    /// A broker is heard of. `end` is the end of the metadata log, where the records of this decision will begin.
    pub fn on_heartbeat(
        &mut self,
        now: Instant,
        controller: &Controller,
        recovery: &mut Recovery,
        end: Offset,
        beat: &Heartbeat,
    ) -> Decision<Result<HeartbeatAnswer, Refusal>> {
        match self.beat(now, controller, recovery, end, beat) {
            Ok((records, answer)) => (records, Ok(answer)),
            Err(refusal) => (Vec::new(), Err(refusal)),
        }
    }

    fn beat(
        &mut self,
        now: Instant,
        controller: &Controller,
        recovery: &mut Recovery,
        end: Offset,
        beat: &Heartbeat,
    ) -> Result<(Vec<MetadataRecord>, HeartbeatAnswer), Refusal> {
        let (id, epoch) = (beat.id, beat.epoch);
        let broker = controller.registered(id, epoch)?;
        self.hear(now, id, epoch, beat.metadata_end);
        recovery.on_answers(controller, id, epoch, &beat.log_ends)?;
        let is_caught_up = beat.metadata_end.0 > epoch.0;
        let works = |directory| !beat.failed_directories.contains(directory);
        let wants_fence = beat.wants_fence || !broker.directories.iter().any(works);
        let mut should_stop = beat.wants_stop && (broker.is_fenced || wants_fence);

        let mut series = controller.series();
        let failed = &beat.failed_directories;
        series.take(series.controller.give_up_directories(id, epoch, failed)?);
        if broker.is_fenced {
            let is_ready = is_caught_up || planted(Mutant::UnfencedBehind);
            // Who has been let go is not taken back by a word that was on its way.
            if is_ready && !wants_fence && !should_stop && !broker.is_stopping {
                series.take(series.controller.unfence_broker(id, epoch)?);
            }
        } else if !wants_fence && (beat.wants_stop || broker.is_stopping) {
            // Whoever begins to stop and leads nothing need not wait for others to lead it.
            let is_idle = !broker.is_stopping && !controller.leads_any(id);
            series.take(series.controller.stop_broker(id, epoch)?);
            let end = Offset(end.0 + series.records.len() as i64);
            should_stop = is_idle || self.may_stop(&series.controller, id, end);
        }
        if !broker.is_fenced && (wants_fence || should_stop) {
            series.take(series.controller.fence_brokers(&[(id, epoch)]));
        }
        let after = series.controller.image.broker(id);
        let is_fenced = after.is_none_or(|after| after.is_fenced);
        let metadata_end = Offset(end.0 + series.records.len() as i64);
        // Who is there from now on is asked at once.
        let questions = recovery.questions(&series.controller, id);
        let answer =
            HeartbeatAnswer { is_caught_up, is_fenced, should_stop, metadata_end, questions };
        Ok((series.records, answer))
    }

    /// The listener of a broker's registration refuses connections: its process is gone.
    pub fn on_connection_refused(
        &mut self,
        controller: &Controller,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Vec<MetadataRecord> {
        match controller.registered(id, epoch) {
            Ok(broker) if self.end_of(broker).is_some() => {
                self.heard.remove(&id);
                controller.fence_brokers(&[(id, epoch)])
            }
            _ => Vec::new(),
        }
    }

    /// Fences all whose time is up, at once: none of them is elected in passing.
    pub fn expire(&mut self, now: Instant, controller: &Controller) -> Vec<MetadataRecord> {
        let image = &controller.image;
        let is_over = |broker: &BrokerInfo| self.end_of(broker).is_some_and(|end| end <= now);
        let silent = image.brokers().filter(|broker| !broker.is_fenced && is_over(broker));
        let silent: Vec<_> = silent.map(|broker| (broker.id, broker.epoch)).collect();
        self.heard
            .retain(|id, heard| image.broker(*id).is_some_and(|now| now.epoch == heard.epoch));
        controller.fence_brokers(&silent)
    }

    /// When the next session ends, if nothing is heard until then.
    pub fn deadline(&self, image: &Image) -> Option<Instant> {
        let unfenced = image.brokers().filter(|broker| !broker.is_fenced);
        unfenced.filter_map(|broker| self.end_of(broker)).min()
    }

    /// Notes that a broker is heard of; of another registration than before nothing is known but that.
    fn hear(&mut self, now: Instant, id: BrokerId, epoch: BrokerEpoch, metadata_end: Offset) {
        let fresh = Session { epoch, last: now, metadata_end, stop_end: None };
        let session = self.heard.entry(id).or_insert(fresh);
        if session.epoch != epoch {
            *session = fresh;
        }
        session.last = now;
        session.metadata_end = session.metadata_end.max(metadata_end);
    }

    /// When a registration is given up; that of the controller's own broker never is: its process lives, and registers anew if
    /// it has not yet.
    fn end_of(&self, broker: &BrokerInfo) -> Option<Instant> {
        if self.own.is_some_and(|(id, _)| id == broker.id) {
            return None;
        }
        let session = self.session(broker);
        Some(session.map_or(Instant::default(), |session| session.last + self.timeout))
    }

    /// Whether the process of a registration may be alive. Nobody else lives under the id of the controller's own process.
    fn is_live(&self, now: Instant, broker: &BrokerInfo) -> bool {
        match self.own {
            Some((id, incarnation)) if id == broker.id => incarnation == broker.incarnation,
            _ => self.end_of(broker).is_none_or(|end| now < end),
        }
    }

    fn session(&self, broker: &BrokerInfo) -> Option<&Session> {
        self.heard.get(&broker.id).filter(|heard| heard.epoch == broker.epoch)
    }

    /// Whether a stopping broker may go: nobody else can lead what it leads, and the others know what they lead. `end` is the end of
    /// the metadata with what this decision adds.
    fn may_stop(&mut self, controller: &Controller, id: BrokerId, end: Offset) -> bool {
        let Some(session) = self.heard.get_mut(&id) else { return false };
        if !controller.may_stop(id) {
            session.stop_end = None;
            return false;
        }
        let stop_end = *session.stop_end.get_or_insert(end);
        let mut others =
            controller.image.brokers().filter(|broker| broker.id != id && !broker.is_fenced);
        planted(Mutant::StopsUnheard)
            || others.all(|other| {
                self.session(other).is_some_and(|heard| heard.metadata_end >= stop_end)
            })
    }
}
