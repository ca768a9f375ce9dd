//! The way to the active controller: what a broker asks of it over the network when another node leads.
//!
//! Requests of clients go there as they came, in an Envelope (KIP-590), and so do the broker's own questions as what they
//! are. Each way is one connection, so that a heartbeat does not queue behind a client's request.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use client::{Certainty, ClientError, Connection, ConnectionSettings};
use env::{Clock, Env};
use tokio::sync::Mutex;
use types::{ErrorCode, Instant, NodeId};
use wire::envelope::EnvelopeRequest;

use crate::context::RequestContext;
use crate::metadata::{Address, QuorumInfo};
use crate::shared::Shared;

/// More than any answer of a controller has.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Pause before the controller is looked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// One way to whoever leads the metadata quorum.
#[derive(Default)]
pub(crate) struct ControllerWay {
    connection: Mutex<Option<(NodeId, Address, Connection)>>,
}

impl ControllerWay {
    /// Asks the active controller once, for `patience` at most, and no longer than it leads: one that stands still is not
    /// waited for when there is another.
    pub(crate) async fn ask<E: Env, R: wire::Request>(
        &self,
        broker: &Shared<E>,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let asked = broker.quorum().leader;
        let late = |certainty| ClientError::DeadlinePassed { last: None, certainty };
        let connecting = broker.env().timeout(patience, self.connection(broker));
        let (leader, connection) = tokio::select! {
            biased;
            connected = connecting => connected.ok_or(late(Certainty::DidNotHappen))??,
            () = other_than(broker, asked) => return Err(late(Certainty::DidNotHappen)),
        };
        let version = connection.version::<R>(None, i16::MAX)?;
        tokio::select! {
            biased;
            answer = connection.ask(broker.env(), request, version, patience) => answer,
            () = other_than(broker, Some(leader)) => Err(late(Certainty::Unknown)),
        }
    }

    /// Passes a client's request on as it came, and gives the answer as it is to leave. Looks for a controller until
    /// `deadline`.
    pub(crate) async fn forward<E: Env>(
        &self,
        broker: &Shared<E>,
        ctx: &RequestContext,
        frame: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, ClientError> {
        let host = match ctx.host {
            std::net::IpAddr::V4(host) => Bytes::copy_from_slice(&host.octets()),
            std::net::IpAddr::V6(host) => Bytes::copy_from_slice(&host.octets()),
        };
        let envelope = EnvelopeRequest {
            request_data: frame,
            // Nobody has proved anything yet.
            request_principal: None,
            client_host_address: host,
        };
        loop {
            let clock = broker.env().clock();
            let left = deadline.saturating_since(clock.now());
            let failed = match self.ask(broker, &envelope, left).await {
                Ok(answer) => match ClientError::check(answer.error_code, None) {
                    Ok(()) => {
                        let answer = answer.response_data.unwrap_or_default();
                        let mut framed = BytesMut::with_capacity(4 + answer.len());
                        framed.put_u32(u32::try_from(answer.len()).unwrap_or(0));
                        framed.put_slice(&answer);
                        return Ok(framed.freeze());
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            // Who is no controller has not opened the envelope.
            let did_not_happen = failed.certainty() == Certainty::DidNotHappen
                || failed.error_code() == Some(ErrorCode::NotController);
            if !did_not_happen || clock.now() + PAUSE >= deadline {
                return Err(failed);
            }
            clock.sleep(PAUSE).await;
        }
    }

    async fn connection<E: Env>(
        &self,
        broker: &Shared<E>,
    ) -> Result<(NodeId, Connection), ClientError> {
        // Whoever had it before may have found nobody there: by now another may lead.
        let mut known = self.connection.lock().await;
        let quorum = broker.quorum();
        let nobody = || ClientError::Protocol {
            code: ErrorCode::NotController,
            message: Some("no active controller is known".into()),
        };
        let leader = quorum.leader.ok_or_else(nobody)?;
        let address = broker.metadata().address_of(leader).ok_or_else(nobody)?;
        if let Some((node, at, connection)) = &*known
            && (*node, at) == (leader, &address)
            && !connection.is_closed()
        {
            return Ok((leader, connection.clone()));
        }
        let patience = broker.settings().quorum_request_timeout;
        let settings = ConnectionSettings {
            client_id: format!("broker-{}", broker.broker_id()).into(),
            connect_timeout: patience,
            request_timeout: patience,
            answer_bytes_max: ANSWER_BYTES_MAX,
            versions_version: None,
        };
        let connection = Connection::open(broker.env(), &address.0, address.1, &settings).await?;
        *known = Some((leader, address, connection.clone()));
        Ok((leader, connection))
    }
}

/// Completes when another node than that one is known to lead.
async fn other_than<E: Env>(broker: &Shared<E>, leader: Option<NodeId>) {
    let mut quorum = broker.metadata().watch_quorum();
    let is_other = |now: &QuorumInfo| now.leader.is_some() && now.leader != leader;
    if quorum.wait_for(|now| is_other(now)).await.is_err() {
        // The room has ended: nobody will lead any more, as far as is known here.
        std::future::pending().await
    }
}
