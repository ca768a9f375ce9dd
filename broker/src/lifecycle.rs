//! This broker's life in the cluster: it registers with the active controller, says every few seconds that it is there and how
//! far it has applied the metadata, and takes its leave when it stops.
//!
//! The controller may be in this very process: then it is asked without the network, by the same decisions.

use std::time::Duration;

use client::ClientError;
use cluster::controller::{
    Heartbeat, HeartbeatAnswer, LogEndAnswer, LogEndQuestion, Refusal, RegisterBroker,
};
use cluster::metadata::{BrokerFeature, BrokerListener};
use env::{Clock, Env};
use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, DirectoryId, ErrorCode, Instant, NodeId, Offset};
use wire::broker_heartbeat::BrokerHeartbeatRequest;
use wire::broker_registration::{BrokerRegistrationRequest, Feature, Listener};

use crate::log_ends;
use crate::metadata::{MetadataUnavailable, QuorumInfo};
use crate::shared::{Failure, Shared};

/// Pause before a controller that was not reached, or has not decided, is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause between the heartbeats of a broker that is not served by yet.
const FENCED_PAUSE: Duration = Duration::from_millis(50);
/// Whoever takes the id of this broker again within this time is alive.
const RETAKE_PAUSE: Duration = Duration::from_secs(60);
/// How long a broker that stops waits until others lead what it has led.
const LEAVE_TIME: Duration = Duration::from_secs(5);

/// Why the controller did not do it.
enum Unheard {
    /// It was not reached, or has to be asked again.
    Retry(String),
    /// It refuses.
    Refused(ErrorCode, String),
}

impl From<ClientError> for Unheard {
    fn from(error: ClientError) -> Unheard {
        match error.error_code() {
            Some(code) if !error.is_retriable() => Unheard::Refused(code, error.to_string()),
            _ => Unheard::Retry(error.to_string()),
        }
    }
}

/// Registers and is heard of until the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>, registration: RegisterBroker) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        reason = live(&broker, &registration) => broker.fail(Failure::Registration { reason }),
    }
}

/// Lives until the controller wants nothing of this process; the reason.
async fn live<E: Env>(broker: &Shared<E>, registration: &RegisterBroker) -> String {
    let mut quorum = broker.metadata().watch_quorum();
    let mut epoch = None;
    let mut said = None;
    let mut retaken_at: Option<Instant> = None;
    let mut asked: Vec<LogEndQuestion> = Vec::new();
    loop {
        let known = Known::of(&quorum.borrow_and_update());
        let asked_at = broker.env().clock().now();
        let answers = log_ends::answers(broker, &std::mem::take(&mut asked));
        let is_again = !answers.is_empty();
        let outcome = match epoch {
            None => register(broker, registration).await.map(|registered| {
                epoch = Some(registered);
                None
            }),
            Some(epoch) => beat(broker, epoch, false, answers)
                .await
                .map(|heard| Some(heard).filter(|heard| !heard.answer.is_fenced)),
        };
        let mut contact = None;
        let pause = match outcome {
            Ok(mut serving) => {
                if let Some(heard) = &mut serving {
                    asked = std::mem::take(&mut heard.answer.questions);
                }
                // The session that the controller gives begins later.
                let since = |heard: &Heard| {
                    Some((asked_at.saturating_sub(heard.unconfirmed?), heard.answer.metadata_end))
                };
                contact = serving.as_ref().and_then(since);
                said = None;
                let interval = broker.settings().heartbeat_interval;
                if serving.is_some() { interval } else { FENCED_PAUSE }
            }
            Err(Unheard::Refused(ErrorCode::BrokerIdNotRegistered, _)) => {
                epoch = None;
                PAUSE
            }
            // A word of a process before this one, with the same directories, may have come late.
            Err(Unheard::Refused(ErrorCode::StaleBrokerEpoch, reason))
                if epoch.is_some() && retaken_at.is_none_or(|at| asked_at > at + RETAKE_PAUSE) =>
            {
                tracing::warn!(%reason, "another process has taken the id of this broker: it registers anew");
                (epoch, retaken_at) = (None, Some(asked_at));
                PAUSE
            }
            // A process of this id that is gone lives on until its session ends.
            Err(Unheard::Refused(code, reason))
                if epoch.is_some()
                    || retaken_at.is_some()
                    || code != ErrorCode::DuplicateBrokerRegistration =>
            {
                return reason;
            }
            Err(Unheard::Retry(reason) | Unheard::Refused(_, reason)) => {
                if said.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "the controller does not take this broker's word");
                }
                said = Some(reason);
                PAUSE
            }
        };
        // Another controller has heard nothing yet, and a directory that has failed is to lead nothing.
        let news = quorum.wait_for(|now| Known::of(now) != known);
        let paused = broker.env().timeout(pause, news);
        let has_ended = tokio::select! {
            biased;
            // Never: it only notes the contact.
            () = keep(broker, contact) => false,
            // A partition without a leader waits for it.
            () = log_ends::answerable(broker, &asked, is_again) => false,
            told = paused => matches!(told, Some(Err(_))),
        };
        if has_ended {
            // The room has ended, and says why itself.
            std::future::pending::<()>().await;
        }
    }
}

/// Holds the contact with the controller: by what it heard at `at` this broker serves once it knows the metadata up to `end`.
/// Others may lead what it has led, if a session of it was over before.
async fn keep<E: Env>(broker: &Shared<E>, contact: Option<(Instant, Offset)>) {
    if let Some((at, end)) = contact {
        let mut quorum = broker.metadata().watch_quorum();
        let is_known =
            |now: &QuorumInfo| now.applied >= end || planted(Mutant::ContactBeforeMetadata);
        if quorum.wait_for(|now| is_known(now)).await.is_ok() {
            broker.desk().on_controller_heard(at);
        }
    }
    std::future::pending().await
}

/// What the controller told.
struct Heard {
    answer: HeartbeatAnswer,
    /// It had no word from a majority for so long: it may have been deposed since. `None`: nothing is known of that.
    unconfirmed: Option<Duration>,
}

/// What a broker tells at once when it changes.
#[derive(PartialEq, Eq)]
struct Known(Option<NodeId>, bool, Vec<DirectoryId>);

impl Known {
    fn of(quorum: &QuorumInfo) -> Known {
        Known(quorum.leader, quorum.is_active, quorum.failed_directories.clone())
    }
}

/// Lets others lead what this broker leads, for a short while.
pub(crate) async fn leave<E: Env>(broker: &Shared<E>) {
    let view = broker.view();
    let Some(own) = view.image.broker(broker.broker_id()) else { return };
    if view.image.brokers().count() == 1 {
        return;
    }
    let epoch = own.epoch;
    let leaving = async {
        loop {
            match beat(broker, epoch, true, Vec::new()).await {
                Ok(heard) if heard.answer.should_stop => return,
                Err(Unheard::Refused(..)) => return,
                Ok(_) | Err(Unheard::Retry(_)) => broker.env().clock().sleep(FENCED_PAUSE).await,
            }
        }
    };
    if broker.env().timeout(LEAVE_TIME, leaving).await.is_none() {
        tracing::warn!("stopping, though others do not lead yet what this broker leads");
    }
}

async fn register<E: Env>(
    broker: &Shared<E>,
    registration: &RegisterBroker,
) -> Result<BrokerEpoch, Unheard> {
    match broker.metadata().register(registration.clone()).await {
        Err(MetadataUnavailable::NotController) => {}
        outcome => return local(outcome),
    }
    let listener = |listener: &BrokerListener| Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    };
    let feature = |feature: &BrokerFeature| Feature {
        name: feature.name.clone(),
        min_supported_version: feature.level_min,
        max_supported_version: feature.level_max,
    };
    let request = BrokerRegistrationRequest {
        broker_id: registration.id.0,
        cluster_id: (&*broker.cluster_id().0).into(),
        incarnation_id: registration.incarnation,
        listeners: registration.listeners.iter().map(listener).collect(),
        features: registration.features.iter().map(feature).collect(),
        rack: registration.rack.clone(),
        log_dirs: registration.directories.iter().map(|directory| directory.0).collect(),
        previous_broker_epoch: registration.stopped_epoch.map_or(-1, |epoch| epoch.0),
        ..BrokerRegistrationRequest::default()
    };
    let patience = broker.settings().quorum_request_timeout;
    let answer = broker.own_way().ask(broker, &request, patience).await?;
    ClientError::check(answer.error_code, None)?;
    Ok(BrokerEpoch(answer.broker_epoch))
}

async fn beat<E: Env>(
    broker: &Shared<E>,
    epoch: BrokerEpoch,
    wants_stop: bool,
    log_ends: Vec<LogEndAnswer>,
) -> Result<Heard, Unheard> {
    let heartbeat = Heartbeat {
        id: broker.broker_id(),
        epoch,
        metadata_end: broker.quorum().applied,
        wants_fence: false,
        wants_stop,
        failed_directories: broker.quorum().failed_directories.clone(),
        cordoned_directories: Some(broker.cordoned_directories().collect()),
        log_ends,
    };
    let unconfirmed = unconfirmed(broker);
    match broker.metadata().heartbeat(heartbeat.clone()).await {
        Err(MetadataUnavailable::NotController) => {}
        outcome => return local(outcome).map(|answer| Heard { answer, unconfirmed }),
    }
    let request = BrokerHeartbeatRequest {
        broker_id: heartbeat.id.0,
        broker_epoch: epoch.0,
        // The last one that is applied, as Kafka counts.
        current_metadata_offset: heartbeat.metadata_end.0 - 1,
        want_fence: false,
        want_shut_down: wants_stop,
        offline_log_dirs: heartbeat.failed_directories.iter().map(|id| id.0).collect(),
        cordoned_log_dirs: heartbeat
            .cordoned_directories
            .map(|dirs| dirs.into_iter().map(|id| id.0).collect()),
        log_end_answers: log_ends::write_answers(&heartbeat.log_ends),
    };
    let patience = broker.settings().quorum_request_timeout;
    let answer = broker.own_way().ask(broker, &request, patience).await?;
    ClientError::check(answer.error_code, None)?;
    let unconfirmed = u64::try_from(answer.unconfirmed_ms).ok().map(Duration::from_millis);
    let answer = HeartbeatAnswer {
        is_caught_up: answer.is_caught_up,
        is_fenced: answer.is_fenced,
        should_stop: answer.should_shut_down,
        metadata_end: Offset(answer.metadata_end),
        questions: log_ends::read_questions(&answer.log_end_questions),
    };
    Ok(Heard { answer, unconfirmed })
}

/// For how long a controller in this process has had no word from a majority; `None` if there is none, or it never had.
pub(crate) fn unconfirmed<E: Env>(broker: &Shared<E>) -> Option<Duration> {
    let (quorum, now) = (broker.quorum(), broker.env().clock().now());
    let (own, voters) = (broker.config().node_id, quorum.voters.0.keys());
    let confirmed_at = broker.desk().confirmed_at(own, quorum.epoch, voters, now);
    confirmed_at.filter(|_| quorum.is_active).map(|at| now.saturating_since(at))
}

/// What the controller in this process said.
fn local<T>(outcome: Result<Result<T, Refusal>, MetadataUnavailable>) -> Result<T, Unheard> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(refusal)) => Err(Unheard::Refused(refusal.code, refusal.to_string())),
        Err(unavailable) => Err(Unheard::Retry(unavailable.to_string())),
    }
}
