//! One task per connection: reads frames, runs handlers, sends responses in the order of their requests.
//!
//! ```text
//!  socket -> inbox -> handler -> queue of responses -> socket
//!                        |         head: ready, or parked (a pure wait that this task polls)
//!                        '-> the room it calls
//! ```
//!
//! A request runs to its end before the next one starts; what waits for an offset or a deadline is parked, and the task
//! reads on. Only the head of the queue is polled: it alone may leave. Requests and bytes in flight are bounded; beyond
//! the bound the socket is not read. No request of the hot path crosses to another task.

mod accept;
mod frame;

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Conn, ConnReader, ConnWriter, Env, Net, Part};
use tokio::sync::watch;
use types::Instant;
use wire::EncodeError;

pub(crate) use accept::{Acceptor, Connections};

use crate::context::ConnectionId;
use crate::handlers::{self, Client, Encoded, Parked, Reply};
use crate::partition::FileOf;
use crate::shared::{ListenerInfo, Shared};
use accept::Admission;
use frame::Inbox;

/// Bytes of one connection's requests and finished responses that may be in memory, if the operator names no bound; one
/// request may exceed it alone.
const BYTES_IN_FLIGHT_MAX: usize = 32 << 20;
/// What one read takes at most when no frame is midway.
const READ_BYTES_MAX: usize = 64 << 10;
/// Time that a stopping broker gives to responses that are on their way.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// As long as anything lasts.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// An encoded response.
pub(crate) type Response<E> = Vec<Part<FileOf<E>>>;
type Reader<E> = <<<E as Env>::Net as Net>::Conn as Conn>::Reader;
type Writer<E> = <<<E as Env>::Net as Net>::Conn as Conn>::Writer;

/// Why a connection ended, where that is worth a line in the log.
enum Ended {
    /// The client closed it, or the broker stops.
    Quietly,
    /// The client broke the protocol.
    Refused(String),
}

impl From<io::Error> for Ended {
    /// A broken connection is the client's ordinary way to leave.
    fn from(_: io::Error) -> Ended {
        Ended::Quietly
    }
}

impl From<EncodeError> for Ended {
    fn from(error: EncodeError) -> Ended {
        Ended::Refused(format!("a response cannot be encoded: {error}"))
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve<E: Env>(
    broker: Shared<E>,
    listener: Arc<ListenerInfo>,
    id: ConnectionId,
    conn: <E::Net as Net>::Conn,
    admission: Admission,
) {
    let peer = conn.peer_addr();
    let (reader, writer) = conn.split();
    let now = broker.env().clock().now();
    let settings = broker.settings();
    let mut connection = Connection {
        client: Client::new(id, listener, peer.ip()),
        idle_max: settings.connections_idle_max.unwrap_or(NEVER),
        frame_bytes_max: settings.request_bytes_max,
        stopping: broker.stopping_watch(),
        broker,
        writer,
        inbox: Inbox::default(),
        queue: Queue {
            slots: VecDeque::new(),
            bytes: 0,
            requests_max: settings.queued_requests_max,
            bytes_max: settings.queued_request_bytes_max.unwrap_or(BYTES_IN_FLIGHT_MAX),
        },
        active: now,
    };
    if let Ended::Refused(reason) = connection.run(reader).await {
        tracing::warn!(connection = id.0, client = %peer, "closing the connection: {reason}");
    }
    drop(admission);
}

struct Connection<E: Env> {
    broker: Shared<E>,
    client: Client,
    writer: Writer<E>,
    inbox: Inbox,
    queue: Queue<E>,
    stopping: watch::Receiver<bool>,
    frame_bytes_max: usize,
    idle_max: Duration,
    /// When the last request was complete or the last response left.
    active: Instant,
}

impl<E: Env> Connection<E> {
    async fn run(&mut self, mut reader: Reader<E>) -> Ended {
        let clock = self.broker.env().clock().clone();
        let mut idle = pin!(clock.sleep_until(self.active + self.idle_max));
        loop {
            if let Err(ended) = self.start_requests().await {
                return self.leave(ended).await;
            }
            if let Err(ended) = self.send_ready().await {
                return ended;
            }
            if self.queue.has_room() && self.inbox.has_frame() {
                continue;
            }
            tokio::select! {
                biased;
                settled = self.queue.settle() => {
                    if let Err(error) = settled {
                        return error.into();
                    }
                }
                read = reader.read(&mut self.inbox.buffer, READ_BYTES_MAX), if self.queue.has_room() => {
                    match read {
                        Ok(0) | Err(_) => return Ended::Quietly,
                        Ok(_) => {}
                    }
                }
                () = idle.as_mut() => {
                    let deadline = self.active + self.idle_max;
                    let now = clock.now();
                    if now >= deadline && self.queue.is_empty() {
                        return Ended::Quietly;
                    }
                    idle.set(clock.sleep_until(deadline.max(now + Duration::from_secs(1))));
                }
                () = stopped(&mut self.stopping) => {
                    return self.leave(Ended::Quietly).await;
                }
            }
        }
    }

    /// Starts the requests that have arrived, as far as there is room for them.
    async fn start_requests(&mut self) -> Result<(), Ended> {
        while self.queue.has_room() {
            let frame = match self.inbox.next_frame(self.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(frame::BadLength(length)) => {
                    return Err(Ended::Refused(format!("a request cannot have {length} bytes")));
                }
            };
            self.active = self.broker.env().clock().now();
            let bytes = frame.len();
            match self.start_request(frame).await? {
                Reply::Now(response) => self.queue.push(bytes, Slot::Ready(response?)),
                Reply::Later(parked) => self.queue.push(bytes, Slot::Parked(parked)),
                Reply::Silent => {}
                Reply::Close(reason) => return Err(Ended::Refused(reason)),
            }
        }
        Ok(())
    }

    /// Runs one handler to its end; responses before it leave meanwhile.
    async fn start_request(&mut self, frame: Bytes) -> Result<Reply<Encoded<E>>, Ended> {
        let now = self.active;
        let mut handling = pin!(handlers::dispatch(&self.broker, &mut self.client, now, frame));
        loop {
            tokio::select! {
                biased;
                reply = handling.as_mut() => return Ok(reply),
                settled = self.queue.settle() => settled?,
            }
            let parts = self.queue.take_ready();
            send(&self.broker, &mut self.writer, self.idle_max, parts).await?;
        }
    }

    async fn send_ready(&mut self) -> Result<(), Ended> {
        let parts = self.queue.take_ready();
        if !parts.is_empty() {
            send(&self.broker, &mut self.writer, self.idle_max, parts).await?;
            self.active = self.broker.env().clock().now();
        }
        Ok(())
    }

    /// Ends the connection after what was asked before has been answered, as far as that is soon.
    async fn leave(&mut self, ended: Ended) -> Ended {
        let env = self.broker.env().clone();
        let answered = env.timeout(STOP_GRACE, async {
            while !self.queue.is_empty() {
                self.queue.settle().await?;
                self.send_ready().await?;
            }
            Ok::<(), Ended>(())
        });
        // Whether they all left or not, this is the end.
        let _ = answered.await;
        let _ = self.writer.shutdown().await;
        ended
    }
}

/// Completes when the broker stops, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Sends with a bound on time, so that a client that stops reading does not hold memory for ever.
async fn send<E: Env>(
    broker: &Shared<E>,
    writer: &mut Writer<E>,
    time_max: Duration,
    parts: Response<E>,
) -> Result<(), Ended> {
    match broker.env().timeout(time_max, writer.send(parts)).await {
        Some(sent) => Ok(sent?),
        None => Err(Ended::Quietly),
    }
}

/// Responses in the order of their requests.
struct Queue<E: Env> {
    slots: VecDeque<(usize, Slot<E>)>,
    /// Bytes of the requests and of the finished responses in it.
    bytes: usize,
    /// Requests whose responses have not left: at most so many.
    requests_max: usize,
    bytes_max: usize,
}

enum Slot<E: Env> {
    Ready(Response<E>),
    Parked(Parked<Encoded<E>>),
}

impl<E: Env> Queue<E> {
    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn has_room(&self) -> bool {
        self.slots.is_empty() || self.slots.len() < self.requests_max && self.bytes < self.bytes_max
    }

    fn push(&mut self, request_bytes: usize, slot: Slot<E>) {
        let bytes = match &slot {
            // The request's own bytes may be gone; what is in memory of the response counts.
            Slot::Ready(response) => memory_bytes::<E>(response),
            Slot::Parked(_) => request_bytes,
        };
        self.bytes += bytes;
        self.slots.push_back((bytes, slot));
    }

    /// Completes when the head can leave; never while the queue is empty. Cancel-safe.
    async fn settle(&mut self) -> Result<(), EncodeError> {
        let Some((_, slot)) = self.slots.front_mut() else {
            return std::future::pending().await;
        };
        if let Slot::Parked(parked) = slot {
            let response = parked.as_mut().await?;
            *slot = Slot::Ready(response);
        }
        Ok(())
    }

    /// Takes the responses at the head that are ready.
    fn take_ready(&mut self) -> Response<E> {
        let mut parts = Vec::new();
        while let Some((_, Slot::Ready(_))) = self.slots.front()
            && let Some((bytes, Slot::Ready(response))) = self.slots.pop_front()
        {
            self.bytes -= bytes;
            if parts.is_empty() {
                parts = response;
            } else {
                parts.extend(response);
            }
        }
        parts
    }
}

fn memory_bytes<E: Env>(response: &Response<E>) -> usize {
    response.iter().map(|part| if let Part::Mem(bytes) = part { bytes.len() } else { 0 }).sum()
}
