//! Accepting connections, and how many may be open (`max.connections`, `max.connections.per.ip`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use env::{Clock, Conn, Env, Listener, Net, Spawn};
use tokio::sync::Notify;
use types::Instant;

use super::admission::{Counts, Decision, Limits, Sparing};
use super::memory::Memory;
use super::serve;
use crate::context::ConnectionId;
use crate::shared::{ListenerInfo, Shared};

/// Pause after a failed accept: without file handles the next attempt fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a connection that waits looks whether the limit was raised.
const LIMIT_POLL: Duration = Duration::from_secs(1);

/// The open connections of a broker, counted.
pub(crate) struct Connections {
    counts: Mutex<Counts>,
    /// What the log says of them: of those that wait, those that are refused, those that break the protocol, and of slow
    /// requests.
    lines: [Mutex<Sparing>; 4],
    /// Told when a connection ends.
    ended: Notify,
    /// Ordinal of the next connection.
    next: AtomicU64,
    /// What they share for large requests.
    pub(crate) memory: Arc<Memory>,
}

/// Bytes of large requests that all connections together may have on their way in, if the operator names no bound.
const MEMORY_BYTES_MAX: usize = 128 << 20;

/// What a line of the log is about.
#[derive(Clone, Copy)]
pub(super) enum Line {
    Waiting,
    Refused,
    Broken,
    Slow,
}

impl Line {
    /// How many in each period. The slowest request says as much as ten slow ones.
    fn lines_max(self) -> u32 {
        match self {
            Line::Slow => 1,
            _ => 10,
        }
    }
}

/// One open connection; dropping it makes room.
pub(crate) struct Admission {
    pub(super) connections: Arc<Connections>,
    listener: Arc<ListenerInfo>,
    ip: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.lock().end(self.ip);
        self.listener.connections.closed.add(1);
        self.connections.ended.notify_waiters();
    }
}

impl Connections {
    pub(crate) fn new(memory_bytes_max: Option<usize>) -> Arc<Connections> {
        Arc::new(Connections {
            counts: Mutex::default(),
            lines: Default::default(),
            ended: Notify::new(),
            next: AtomicU64::new(0),
            memory: Memory::new(memory_bytes_max.unwrap_or(MEMORY_BYTES_MAX)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // The counts are whole between any two statements.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log may say one more line about this now, and how many were left out before it.
    pub(super) fn line(&self, about: Line, now: Instant) -> Option<u64> {
        let sparing = &self.lines[about as usize];
        sparing.lock().unwrap_or_else(PoisonError::into_inner).line(now, about.lines_max())
    }

    /// The place of a connection from `ip`; `None` if it must be closed. At the limit of all it waits here, those behind it
    /// in the kernel's backlog.
    async fn admit<E: Env>(
        self: &Arc<Self>,
        broker: &Shared<E>,
        listener: &Arc<ListenerInfo>,
        ip: IpAddr,
    ) -> Option<Admission> {
        let env = broker.env();
        let mut waits = false;
        loop {
            let ended = self.ended.notified();
            let settings = broker.settings();
            let (total, of_address) =
                (settings.connections_max, settings.connections_per_ip_max(ip));
            let decision = self.lock().decide(ip, Limits { total, of_address });
            let now = env.clock().now();
            match decision {
                Decision::Admit => {
                    listener.connections.opened.add(1);
                    let (connections, listener) = (self.clone(), listener.clone());
                    return Some(Admission { connections, listener, ip });
                }
                Decision::Refuse => {
                    listener.connections.refused.add(1);
                    if let Some(unsaid) = self.line(Line::Refused, now) {
                        tracing::warn!(
                            client = %ip, limit = of_address, unsaid,
                            "closed a connection: too many from this address (max.connections.per.ip)"
                        );
                    }
                    return None;
                }
                Decision::Wait => {
                    if !waits && let Some(unsaid) = self.line(Line::Waiting, now) {
                        tracing::warn!(
                            client = %ip, limit = total, unsaid,
                            "a connection waits until another ends: max.connections are open"
                        );
                    }
                    waits = true;
                    // Whether one ended or it is time to look again.
                    let _ = env.timeout(LIMIT_POLL, ended).await;
                }
            }
        }
    }

    /// Completes when fewer than `limit` connections are open.
    pub(crate) async fn fewer_than(&self, limit: usize) {
        loop {
            let ended = self.ended.notified();
            if self.lock().total() < limit {
                return;
            }
            ended.await;
        }
    }
}

/// Accepts the connections of one listener until the broker stops.
pub(crate) struct Acceptor<E: Env> {
    pub(crate) broker: Shared<E>,
    pub(crate) listener: <E::Net as Net>::Listener,
    pub(crate) info: Arc<ListenerInfo>,
    pub(crate) connections: Arc<Connections>,
}

impl<E: Env> Acceptor<E> {
    pub(crate) async fn run(mut self) {
        let broker = self.broker.clone();
        tokio::select! {
            biased;
            () = broker.stopping() => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(&mut self) {
        loop {
            let conn = match self.listener.accept().await {
                Ok(conn) => conn,
                Err(error) => {
                    tracing::warn!(listener = %self.info.name, %error, "cannot accept a connection");
                    self.broker.env().clock().sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let ip = conn.peer_addr().ip().to_canonical();
            let Some(admission) = self.connections.admit(&self.broker, &self.info, ip).await else {
                continue;
            };
            let id = ConnectionId(self.connections.next.fetch_add(1, Ordering::Relaxed));
            let (broker, info) = (self.broker.clone(), self.info.clone());
            let task = serve(broker.clone(), info, id, conn, admission);
            broker.env().spawner().spawn("connection", task);
        }
    }
}
