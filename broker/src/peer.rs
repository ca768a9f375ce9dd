//! Connections to other brokers, where the metadata say they listen.

use std::sync::Arc;

use client::{ClientError, Connection, ConnectionSettings};
use env::Env;
use types::BrokerId;

use crate::shared::Shared;

/// More than the answers of a handshake have.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where a broker is, as far as is known.
pub(crate) fn address<E: Env>(
    broker: &Shared<E>,
    id: BrokerId,
) -> Result<(Arc<str>, u16), ClientError> {
    let view = broker.view();
    let listener = view.image.broker(id).and_then(|known| known.listeners.first());
    let listener =
        listener.ok_or_else(|| ClientError::Usage(format!("broker {id} is not registered")))?;
    Ok((Arc::from(listener.host.as_str()), listener.port))
}

/// Opens a connection to broker `id` for `what`, on which no answer is larger than `answer_bytes_max`.
pub(crate) async fn connect<E: Env>(
    broker: &Shared<E>,
    id: BrokerId,
    what: &str,
    answer_bytes_max: usize,
) -> Result<Connection, ClientError> {
    let (host, port) = address(broker, id)?;
    open(broker, &host, port, what, answer_bytes_max).await
}

/// Whether anybody answers there.
pub(crate) async fn reach<E: Env>(
    broker: &Shared<E>,
    host: &str,
    port: u16,
) -> Result<(), ClientError> {
    open(broker, host, port, "reach", ANSWER_BYTES_MAX).await.map(drop)
}

async fn open<E: Env>(
    broker: &Shared<E>,
    host: &str,
    port: u16,
    what: &str,
    answer_bytes_max: usize,
) -> Result<Connection, ClientError> {
    let patience = broker.settings().quorum_request_timeout;
    let settings = ConnectionSettings {
        client_id: format!("{what}-{}", broker.broker_id()).into(),
        connect_timeout: patience,
        request_timeout: patience,
        answer_bytes_max,
        versions_version: None,
    };
    Connection::open(broker.env(), host, port, &settings).await
}
