//! Accepting connections, and how many may be open (`max.connections`, `max.connections.per.ip`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use env::{Clock, Conn, Env, Listener, Net, Spawn};
use tokio::sync::Notify;

use super::memory::Memory;
use super::serve;
use crate::context::ConnectionId;
use crate::shared::{ListenerInfo, Shared};

/// Pause after a failed accept: without file handles the next attempt fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open connections of a broker, counted.
pub(crate) struct Connections {
    counts: Mutex<Counts>,
    /// Told when a connection ends.
    ended: Notify,
    /// Ordinal of the next connection.
    next: AtomicU64,
    /// What they share for large requests.
    pub(crate) memory: Arc<Memory>,
}

/// Bytes of large requests that all connections together may have on their way in, if the operator names no bound.
const MEMORY_BYTES_MAX: usize = 256 << 20;

#[derive(Default)]
struct Counts {
    total: usize,
    per_ip: BTreeMap<IpAddr, usize>,
}

/// One open connection; dropping it makes room.
pub(crate) struct Admission {
    connections: Arc<Connections>,
    listener: Arc<ListenerInfo>,
    ip: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.connections.lock();
        counts.total -= 1;
        if let Some(count) = counts.per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
        drop(counts);
        self.listener.connections.closed.add(1);
        self.connections.ended.notify_waiters();
    }
}

impl Connections {
    pub(crate) fn new(memory_bytes_max: Option<usize>) -> Arc<Connections> {
        Arc::new(Connections {
            counts: Mutex::new(Counts::default()),
            ended: Notify::new(),
            next: AtomicU64::new(0),
            memory: Memory::new(memory_bytes_max.unwrap_or(MEMORY_BYTES_MAX)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        // The counts are whole between any two statements.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from `ip`, unless it has `per_ip_max` already.
    fn admit(
        self: &Arc<Self>,
        listener: &Arc<ListenerInfo>,
        ip: IpAddr,
        per_ip_max: usize,
    ) -> Option<Admission> {
        let mut counts = self.lock();
        let count = counts.per_ip.get(&ip).copied().unwrap_or(0);
        if count >= per_ip_max {
            listener.connections.refused.add(1);
            return None;
        }
        counts.per_ip.insert(ip, count + 1);
        counts.total += 1;
        listener.connections.opened.add(1);
        Some(Admission { connections: self.clone(), listener: listener.clone(), ip })
    }

    /// Completes when fewer than `limit` connections are open.
    pub(crate) async fn fewer_than(&self, limit: usize) {
        loop {
            let ended = self.ended.notified();
            if self.lock().total < limit {
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
            // At the limit clients wait in the kernel's backlog, as Kafka lets them.
            self.connections.fewer_than(self.broker.settings().connections_max).await;
            let conn = match self.listener.accept().await {
                Ok(conn) => conn,
                Err(error) => {
                    tracing::warn!(listener = %self.info.name, %error, "cannot accept a connection");
                    self.broker.env().clock().sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer = conn.peer_addr();
            let per_ip_max = self.broker.settings().connections_per_ip_max(peer.ip());
            let Some(admission) = self.connections.admit(&self.info, peer.ip(), per_ip_max) else {
                tracing::warn!(client = %peer, per_ip_max, "too many connections from this address");
                continue;
            };
            let id = ConnectionId(self.connections.next.fetch_add(1, Ordering::Relaxed));
            let (broker, info) = (self.broker.clone(), self.info.clone());
            let memory = self.connections.memory.clone();
            let task = serve(broker.clone(), info, id, conn, admission, memory);
            broker.env().spawner().spawn("connection", task);
        }
    }
}
