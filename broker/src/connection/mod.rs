//! One task per connection: reads frames, runs handlers, sends responses in the order of their requests.
//!
//! ```text
//!  socket -> inbox -> handler -> queue of responses -> socket
//!                        |         head: ready, or parked (a pure wait that this task polls)
//!                        '-> the room it calls
//! ```
//!
//! A request runs to its end before the next one starts; what waits for an offset or a deadline is parked, and the task
//! reads on. Only the head of the queue is polled, and what follows a finished head: nothing else may leave. Requests and
//! bytes in flight are bounded; beyond the bound the socket is not read. What large requests hold before they are whole
//! is bounded for all connections together ([`memory`]). No request of the hot path crosses to another task.

mod accept;
mod admission;
mod frame;
mod memory;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Conn, ConnReader, ConnWriter, Env, Net, Part};
use tokio::sync::watch;
use types::Instant;
use wire::{ApiKey, EncodeError};

pub(crate) use accept::{Acceptor, Connections};

use crate::context::ConnectionId;
use crate::handlers::{self, Client, Encoded, Parked, Reply};
use crate::partition::FileOf;
use crate::shared::{ListenerInfo, Shared};
use accept::{Admission, Line};
use frame::Inbox;
use memory::{Memory, Share};

/// Bytes of one connection's requests and finished responses that may be in memory; one request may exceed it alone.
const BYTES_IN_FLIGHT_MAX: usize = 32 << 20;
/// Time that a stopping broker gives to responses that are on their way.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// How long a large request may take to arrive while others wait for its memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// What takes less is never called slow.
const SLOW_MIN: Duration = Duration::from_millis(1);

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
    let memory = admission.connections.memory.clone();
    let (reader, writer) = conn.split();
    let now = broker.env().clock().now();
    let settings = broker.settings();
    let mut connection = Connection {
        client: Client::new(id, listener.clone(), peer),
        idle_max: settings.connections_idle_max.unwrap_or(NEVER),
        frame_bytes_max: settings.request_bytes_max,
        stopping: broker.stopping_watch(),
        broker: broker.clone(),
        writer,
        inbox: Inbox::default(),
        share: Share::new(memory.clone()),
        connections: admission.connections.clone(),
        begun: now,
        queue: Queue {
            slots: VecDeque::new(),
            slow: None,
            bytes: 0,
            requests_max: settings.queued_requests_max,
            bytes_max: BYTES_IN_FLIGHT_MAX,
        },
        active: now,
    };
    if let Ended::Refused(reason) = connection.run(reader, &memory).await {
        listener.connections.broken.add(1);
        let now = broker.env().clock().now();
        if let Some(unsaid) = admission.connections.line(Line::Broken, now) {
            tracing::warn!(connection = id.0, client = %peer, unsaid, "closing the connection: {reason}");
        }
    }
    drop(admission);
}

struct Connection<E: Env> {
    broker: Shared<E>,
    client: Client,
    writer: Writer<E>,
    inbox: Inbox,
    /// What the inbox holds of the memory for large requests.
    share: Share,
    /// Who counts the connections, and says for all of them what the log is to know.
    connections: Arc<Connections>,
    /// When the request that holds it began to arrive.
    begun: Instant,
    queue: Queue<E>,
    stopping: watch::Receiver<bool>,
    frame_bytes_max: usize,
    idle_max: Duration,
    /// When the last request was complete or the last response left.
    active: Instant,
}

impl<E: Env> Connection<E> {
    async fn run(&mut self, mut reader: Reader<E>, memory: &Memory) -> Ended {
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
            let freed = memory.freed();
            let has_memory = self.take_memory(clock.now());
            if has_memory && self.queue.has_room() {
                self.inbox.make_room();
            }
            let is_held = self.share.is_held();
            let read_bytes_max = self.inbox.read_bytes_max();
            tokio::select! {
                biased;
                settled = self.queue.settle() => {
                    if let Err(error) = settled {
                        return error.into();
                    }
                }
                read = reader.read(&mut self.inbox.buffer, read_bytes_max), if self.queue.has_room() && has_memory => {
                    match read {
                        Ok(0) if !self.inbox.buffer.is_empty() => {
                            return Ended::Refused("it ends within a request".to_owned());
                        }
                        Ok(0) | Err(_) => return Ended::Quietly,
                        Ok(_) => {}
                    }
                }
                () = freed, if !has_memory => {}
                () = clock.sleep_until(self.begun + PATIENCE), if is_held => {
                    if self.share.is_wanted() {
                        let reason = "a large request takes too long while others wait for memory";
                        return Ended::Refused(reason.to_owned());
                    }
                    self.begun = clock.now();
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

    /// Takes or gives back shared memory for the request that is arriving; whether there is room to read on.
    fn take_memory(&mut self, now: Instant) -> bool {
        if !self.share.is_held() {
            self.begun = now;
        }
        let (bytes, is_huge) = self.inbox.shared_bytes();
        self.share.hold(bytes, is_huge)
    }

    /// Starts the requests that have arrived, as far as there is room for them.
    async fn start_requests(&mut self) -> Result<(), Ended> {
        while self.queue.has_room() {
            let frame = match self.inbox.next_frame(self.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(frame::BadLength(length)) => {
                    let listener = self.client.listener().name.as_str();
                    return Err(Ended::Refused(explain(length, listener, self.frame_bytes_max)));
                }
            };
            self.active = self.broker.env().clock().now();
            let request = self.arrived(&frame);
            match self.start_request(frame).await? {
                Reply::Now(response) => self.queue.push(request, Slot::Ready(response?)),
                Reply::Later(parked) => self.queue.push(request, Slot::Parked(parked)),
                Reply::Silent => self.queue.on_answered(&self.broker, &request, 0),
                Reply::Close(reason) => return Err(Ended::Refused(reason)),
            }
        }
        Ok(())
    }

    /// Counts a request that is whole.
    fn arrived(&self, frame: &Bytes) -> Waiting {
        // No frame is shorter than its key, which is looked at again when the request is taken apart.
        let api = frame.first_chunk::<2>().map_or(-1, |key| i16::from_be_bytes(*key));
        if let Some(tally) = self.broker.metrics().api(api) {
            tally.bytes_in.add((frame::LENGTH_BYTES + frame.len()) as u64);
        }
        Waiting { api, received: self.active, bytes: frame.len(), waits_by_design: false }
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
            let parts = self.queue.take_ready(&self.broker);
            send(&self.broker, &mut self.writer, self.idle_max, parts).await?;
        }
    }

    async fn send_ready(&mut self) -> Result<(), Ended> {
        let parts = self.queue.take_ready(&self.broker);
        if !parts.is_empty() {
            send(&self.broker, &mut self.writer, self.idle_max, parts).await?;
            self.active = self.broker.env().clock().now();
        }
        if let Some(slow) = self.queue.slow.take() {
            self.tell_of(&slow);
        }
        Ok(())
    }

    /// A line for whoever asks why a client waits.
    fn tell_of(&self, slow: &Slow) {
        let Some(unsaid) = self.connections.line(Line::Slow, self.broker.env().clock().now())
        else {
            return;
        };
        let api = ApiKey::from_i16(slow.api).map_or("unknown", ApiKey::name);
        let took_ms = slow.took.as_millis();
        let (client, client_id) = (self.client.host(), self.client.client_id().unwrap_or_default());
        tracing::warn!(
            api, took_ms, client_id, %client, unsaid,
            "a request was slow (request.slow.log.ms): see how long the disk takes to sync, and what else the machine does"
        );
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

/// What a length that cannot be says about who is at the other end.
fn explain(length: i32, listener: &str, bytes_max: usize) -> String {
    match &length.to_be_bytes() {
        [0x16, 3, ..] => {
            format!(
                "it speaks TLS, and listener {listener} is plain: use security.protocol=PLAINTEXT"
            )
        }
        b"GET " | b"POST" | b"PUT " | b"HEAD" => {
            format!("it speaks HTTP, and listener {listener} speaks the Kafka protocol")
        }
        _ if usize::try_from(length).is_ok_and(|bytes| bytes > bytes_max) => {
            format!("a request of {length} bytes is over socket.request.max.bytes ({bytes_max})")
        }
        _ => format!("a request cannot have {length} bytes: it does not speak the Kafka protocol"),
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
    slots: VecDeque<(Waiting, Slot<E>)>,
    /// The slowest of the requests that were answered since somebody looked, if it was slow.
    slow: Option<Slow>,
    /// Bytes of the requests and of the finished responses in it.
    bytes: usize,
    /// Requests whose responses have not left: at most so many.
    requests_max: usize,
    bytes_max: usize,
}

/// A request whose response has not left.
struct Waiting {
    api: i16,
    received: Instant,
    /// What it holds of the memory for requests and finished responses.
    bytes: usize,
    /// It, or one whose answer must leave before it, waits for other clients and not for this broker.
    waits_by_design: bool,
}

/// A request that took long.
struct Slow {
    api: i16,
    took: Duration,
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

    fn push(&mut self, mut request: Waiting, slot: Slot<E>) {
        match &slot {
            // The request's own bytes may be gone; what is in memory of the response counts.
            Slot::Ready(response) => request.bytes = memory_bytes::<E>(response),
            Slot::Parked(_) => request.waits_by_design = waits_by_design(request.api),
        }
        request.waits_by_design |=
            self.slots.back().is_some_and(|(ahead, _)| ahead.waits_by_design);
        self.bytes += request.bytes;
        self.slots.push_back((request, slot));
    }

    /// Completes when the head can leave, and has then looked at those behind it: what one commit has answered leaves in
    /// one call. Never while the queue is empty. Cancel-safe.
    async fn settle(&mut self) -> Result<(), EncodeError> {
        poll_fn(|cx| {
            let mut settled = Poll::Pending;
            for (_, slot) in &mut self.slots {
                if let Slot::Parked(parked) = slot {
                    let Poll::Ready(response) = parked.as_mut().poll(cx) else { break };
                    *slot = Slot::Ready(response?);
                }
                settled = Poll::Ready(Ok(()));
            }
            settled
        })
        .await
    }

    /// Counts a request whose answer leaves now, or that has none.
    fn on_answered(&mut self, broker: &Shared<E>, request: &Waiting, bytes_out: usize) {
        let took = broker.env().clock().now().saturating_since(request.received);
        broker.metrics().on_answered(request.api, took, bytes_out);
        // Most are far below any bound: no look at the settings for them.
        if took < SLOW_MIN || request.waits_by_design {
            return;
        }
        let is_slow = broker.settings().request_slow.is_some_and(|slow| took >= slow);
        if is_slow && self.slow.as_ref().is_none_or(|slow| slow.took < took) {
            self.slow = Some(Slow { api: request.api, took });
        }
    }

    /// Takes the responses at the head that are ready: they leave now.
    fn take_ready(&mut self, broker: &Shared<E>) -> Response<E> {
        let mut parts = Vec::new();
        while let Some((_, Slot::Ready(_))) = self.slots.front()
            && let Some((request, Slot::Ready(response))) = self.slots.pop_front()
        {
            self.bytes -= request.bytes;
            self.on_answered(broker, &request, response.iter().map(Part::len).sum());
            if parts.is_empty() {
                parts = response;
            } else {
                parts.extend(response);
            }
        }
        parts
    }
}

/// Whether an API's parked answer waits for other clients: for records, for members, for their leader.
fn waits_by_design(api: i16) -> bool {
    let waiting = [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup];
    waiting.iter().any(|key| key.as_i16() == api)
}

fn memory_bytes<E: Env>(response: &Response<E>) -> usize {
    response.iter().map(|part| if let Part::Mem(bytes) = part { bytes.len() } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_another_protocol_is_told_apart() {
        let check = |bytes: &[u8; 4], words: &str| {
            let said = explain(i32::from_be_bytes(*bytes), "OUTSIDE", 1000);
            assert!(said.contains(words), "{said}");
        };
        check(b"GET ", "HTTP, and listener OUTSIDE");
        check(&[0x16, 3, 1, 2], "TLS, and listener OUTSIDE");
        check(&[0, 0, 4, 0], "1024 bytes is over socket.request.max.bytes (1000)");
        check(&[0xff; 4], "does not speak");
        check(&[0; 4], "does not speak");
    }
}
