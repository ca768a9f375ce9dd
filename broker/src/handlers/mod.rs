//! One function per API: takes the context, the broker and the decoded request, gives a [`Reply`].
//!
//! A handler runs to its end before the next request of its connection starts; what must wait for an offset, a deadline
//! or other members is returned as [`Reply::Later`], so that the connection goes on with what was pipelined behind it.
//! Dropping a parked reply (the connection closed) must be harmless.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use env::{Env, Part};
use types::Instant;

use crate::context::ConnectionId;
use crate::partition::FileOf;
use crate::shared::{ListenerInfo, Shared};

/// A response that waits; polled by the connection's own task.
pub type Parked<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// What a handler gives back.
pub enum Reply<R> {
    /// The response is here.
    Now(R),
    /// It comes when something happens; those behind it wait for their turn.
    Later(Parked<R>),
    /// There is none (Produce with acks=0).
    Silent,
    /// The connection must end; the reason is logged.
    Close(String),
}

impl<R> Reply<R> {
    /// A reply that waits for `future`.
    pub fn later(future: impl Future<Output = R> + Send + 'static) -> Reply<R> {
        Reply::Later(Box::pin(future))
    }

    /// The reply with its response, now or later, turned into another.
    pub fn map<T>(self, turn: impl FnOnce(R) -> T + Send + 'static) -> Reply<T>
    where
        R: 'static,
    {
        match self {
            Reply::Now(response) => Reply::Now(turn(response)),
            Reply::Later(parked) => Reply::later(async move { turn(parked.await) }),
            Reply::Silent => Reply::Silent,
            Reply::Close(reason) => Reply::Close(reason),
        }
    }
}

/// The other end of a connection, as far as it is known.
pub(crate) struct Client {
    id: ConnectionId,
    listener: Arc<ListenerInfo>,
    host: IpAddr,
}

impl Client {
    pub(crate) fn new(id: ConnectionId, listener: Arc<ListenerInfo>, host: IpAddr) -> Client {
        Client { id, listener, host }
    }
}

/// Runs the request in `frame` and encodes its response.
pub(crate) async fn dispatch<E: Env>(
    broker: &Shared<E>,
    client: &mut Client,
    now: Instant,
    frame: Bytes,
) -> Reply<Vec<Part<FileOf<E>>>> {
    let _ = (broker, client, now, frame);
    Reply::Silent
}
