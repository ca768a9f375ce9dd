//! Who asks, and whether they may: carried by every request through every handler.
//!
//! The seam is wider than today's needs on purpose. Principals, quotas and deadlines arrive with later work; a handler
//! that passes its context along and asks [`authorize`] needs no change then.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use types::{CorrelationId, ErrorCode, Instant};

use crate::shared::ListenerInfo;

/// Ordinal of a connection in accept order: the lineage that orders a client's connections (CORRECTNESS.md P1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a listener, such as `PLAINTEXT`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListenerName(pub Arc<str>);

impl ListenerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ListenerName {
    fn from(text: &str) -> ListenerName {
        ListenerName(text.into())
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// Nobody proved anything: Kafka's `User:ANONYMOUS`.
    Anonymous,
}

/// Where a request's cost is booked. Quotas do not limit anything yet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct QuotaHandle;

impl QuotaHandle {
    /// How long the client is asked to pause.
    pub fn throttle(self) -> Duration {
        Duration::ZERO
    }
}

/// What is known about a request besides its body.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Which connection it came by.
    pub connection: ConnectionId,
    /// Which listener that connection came by.
    pub listener: Arc<ListenerInfo>,
    /// Who asks.
    pub principal: Principal,
    /// Address of the client.
    pub host: IpAddr,
    /// Its port.
    pub port: u16,
    /// The client's own name (`client.id`), if it gave one.
    pub client_id: Option<Arc<str>>,
    /// Name and version of the client's software, if it gave them (KIP-511).
    pub client_software: Option<Arc<(String, String)>>,
    /// Key of the request.
    pub api_key: i16,
    /// Version of the request.
    pub api_version: i16,
    /// Which answer belongs to it.
    pub correlation_id: CorrelationId,
    /// When its last byte arrived.
    pub received: Instant,
    /// Where its cost is booked.
    pub quota: QuotaHandle,
}

impl RequestContext {
    /// The client id as text, empty when there is none.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("")
    }

    /// The client's host as Kafka prints it (`/127.0.0.1`).
    pub fn host_text(&self) -> String {
        format!("/{}", self.host)
    }
}

/// What a request wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "Kafka's names of ACL operations")]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

/// What it wants to do it to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// A topic.
    Topic(&'a str),
    /// A group.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

/// The principal may not do that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Kafka's code for it.
    pub code: ErrorCode,
}

/// Whether the request's principal may do `operation` to `resource`. Allows everything until there is an authorizer.
pub fn authorize(
    context: &RequestContext,
    operation: Operation,
    resource: Resource<'_>,
) -> Result<(), Denied> {
    let Principal::Anonymous = context.principal;
    let _ = (operation, resource);
    Ok(())
}
