//! One connection to one broker: an ordered stream of requests and their answers.
//!
//! A room of its own because order is what everything above relies on: requests leave in the order they were enqueued
//! ([`Connection::enqueue`] does not wait, so the caller decides the order), and Kafka answers in the order of the
//! questions. Two tasks serve it, one writing and one reading, so that a full pipe in one direction never stops the
//! other. They own the socket; the handle owns the queue between.
//!
//! An answer that is late, out of place or unreadable ends the whole connection: every question still open then ends as
//! [`ClientError::Disconnected`], whose certainty is "unknown".
//!
//! ```text
//! enqueue -> [open questions, in order] -> writer task -> network -> reader task -> first open question
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use env::{Conn, ConnReader, ConnWriter, Env, Net, Part, Spawn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use wire::{ApiKey, FrameError, Message, Reader, Request};

use crate::error::ClientError;

/// For each API key (as the wire numbers it) one version: used to pin requests to a version.
pub type Versions = BTreeMap<i16, i16>;

/// What a broker offers: for each API key the lowest and highest version.
pub type Offered = BTreeMap<i16, (i16, i16)>;

/// Open questions per connection. The broker reads no further than its own bound; this keeps ours finite too.
const OPEN_MAX: usize = 64;

/// The first read asks for this much; a big answer then asks for what it lacks, up to this much at a time.
const READ_BYTES: usize = 64 * 1024;

/// What a connection needs to know of its client.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Its name in the broker's log and quotas.
    pub client_id: Arc<str>,
    /// For the connection itself.
    pub connect_timeout: Duration,
    /// For the first question, which asks for versions.
    pub request_timeout: Duration,
    /// A longer answer ends the connection.
    pub answer_bytes_max: usize,
    /// The version in which to ask for versions first; the newest when absent.
    pub versions_version: Option<i16>,
}

/// A handle; clones share the connection. The connection closes when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Connection {
    address: Arc<str>,
    client_id: Arc<str>,
    queue: mpsc::Sender<Outgoing>,
    open: Arc<Open>,
    permits: Arc<Semaphore>,
    offered: Arc<Offered>,
}

/// Questions waiting for their answers, in the order they were asked, and whether the connection still lives.
#[derive(Debug)]
struct Open {
    state: Mutex<OpenState>,
    closed: watch::Sender<bool>,
    /// Bytes that have arrived.
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct OpenState {
    next_correlation: i32,
    questions: VecDeque<Question>,
}

#[derive(Debug)]
struct Question {
    correlation: i32,
    header_version: i16,
    answer: oneshot::Sender<Result<Bytes, ClientError>>,
    /// Given back when the answer is there, so that the bound covers the wait.
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Outgoing {
    frame: Bytes,
    /// For requests that nobody answers (acks=0): told when the bytes left.
    sent: Option<Unanswered>,
}

#[derive(Debug)]
struct Unanswered {
    sent: oneshot::Sender<Result<Bytes, ClientError>>,
    _permit: OwnedSemaphorePermit,
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    address: Arc<str>,
    open: Arc<Open>,
}

impl Connection {
    /// Connects to `host:port` and asks which versions the broker speaks.
    pub async fn open<E: Env>(
        env: &E,
        host: &str,
        port: u16,
        settings: &ConnectionSettings,
    ) -> Result<Connection, ClientError> {
        let address: Arc<str> = format!("{host}:{port}").into();
        let refused = |error: std::io::Error| ClientError::Connect {
            address: address.to_string(),
            error: Arc::new(error),
        };
        let connecting = async {
            let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
            for candidate in env.net().resolve(host, port).await? {
                match env.net().connect(candidate).await {
                    Ok(conn) => return Ok(conn),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        let conn = env
            .timeout(settings.connect_timeout, connecting)
            .await
            .unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(refused)?;
        let (reader, writer) = conn.split();

        let (queue, outgoing) = mpsc::channel(OPEN_MAX + 1);
        let open = Arc::new(Open {
            state: Mutex::new(OpenState::default()),
            closed: watch::Sender::new(false),
            received: AtomicU64::new(0),
        });
        env.spawner().spawn("client-write", write(writer, outgoing, open.clone(), address.clone()));
        env.spawner().spawn(
            "client-read",
            read(reader, open.clone(), address.clone(), settings.answer_bytes_max),
        );

        let mut connection = Connection {
            address,
            client_id: settings.client_id.clone(),
            queue,
            open,
            permits: Arc::new(Semaphore::new(OPEN_MAX)),
            offered: Arc::new(Offered::new()),
        };
        connection.offered = Arc::new(connection.negotiate(env, settings).await?);
        Ok(connection)
    }

    /// What the broker offers.
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the connection is gone: ask for another.
    pub fn is_closed(&self) -> bool {
        *self.open.closed.borrow()
    }

    /// Completes when it is gone.
    pub async fn closed(&self) {
        // The sender lives as long as this handle.
        let _ = self.open.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Ends the connection; open questions end as disconnected.
    pub fn close(&self) {
        self.open.close(&self.address);
    }

    /// The version to speak: the pinned one, or the newest that both sides know and that is at most `max` (what is known may
    /// not suffice for more).
    pub fn version<R: Request>(&self, pinned: Option<i16>, max: i16) -> Result<i16, ClientError> {
        let (lowest, newest) = R::API_KEY.stable_versions();
        let ours = match pinned {
            // A pinned version that says more than is known (topic ids) gives way to the newest that does not.
            Some(version) => (version.min(max), version.min(max)),
            None => (lowest, newest.min(max)),
        };
        let theirs = self.offered.get(&R::API_KEY.as_i16()).copied();
        let none = || ClientError::NoCommonVersion { api: R::API_KEY.name(), ours, theirs };
        let (low, high) = theirs.ok_or_else(none)?;
        let chosen = ours.1.min(high);
        if chosen < ours.0.max(low) { Err(none()) } else { Ok(chosen) }
    }

    /// Puts `request` on the way and returns without waiting. The order of calls is the order on the wire.
    /// Fails when too many questions are open ([`ClientError::Usage`]) or the connection is gone.
    pub fn enqueue<R: Request>(&self, request: &R, version: i16) -> Result<Pending, ClientError> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| ClientError::Usage("too many requests in flight".into()))?;
        self.enqueue_with(request, version, permit, true)
    }

    /// As [`Connection::enqueue`], for a request that the broker does not answer: the result is that it left.
    pub fn enqueue_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Pending, ClientError> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| ClientError::Usage("too many requests in flight".into()))?;
        self.enqueue_with(request, version, permit, false)
    }

    /// As [`Connection::enqueue`], but waits until there is room for one more open question.
    pub async fn enqueue_when_room<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Pending, ClientError> {
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| ClientError::Closed)?;
        self.enqueue_with(request, version, permit, true)
    }

    fn enqueue_with<R: Request>(
        &self,
        request: &R,
        version: i16,
        permit: OwnedSemaphorePermit,
        is_answered: bool,
    ) -> Result<Pending, ClientError> {
        let (sender, answer) = oneshot::channel();
        let pending = Pending { answer, address: self.address.clone(), open: self.open.clone() };
        let mut state = self.open.lock();
        if self.is_closed() {
            return Err(self.lost_before_sending());
        }
        let correlation = state.next_correlation;
        let client_id = Some(self.client_id.as_ref().into());
        let frame = wire::request_frame(request, version, correlation, client_id)
            .map_err(|error| ClientError::Encode(error.to_string()))?;
        let mut outgoing = Outgoing { frame, sent: None };
        state.next_correlation = correlation.checked_add(1).unwrap_or(0);
        if is_answered {
            state.questions.push_back(Question {
                correlation,
                header_version: R::API_KEY.response_header_version(version),
                answer: sender,
                _permit: permit,
            });
        } else {
            outgoing.sent = Some(Unanswered { sent: sender, _permit: permit });
        }
        match self.queue.try_send(outgoing) {
            Ok(()) => Ok(pending),
            Err(mpsc::error::TrySendError::Full(_)) => {
                unreachable!(
                    "every queued frame holds a permit, and the queue has room for all of them"
                )
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                if is_answered {
                    state.questions.pop_back();
                }
                Err(self.lost_before_sending())
            }
        }
    }

    fn lost_before_sending(&self) -> ClientError {
        ClientError::Connect {
            address: self.address.to_string(),
            error: Arc::new(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// Asks and waits for the answer, at most `timeout`.
    pub async fn ask<E: Env, R: Request>(
        &self,
        env: &E,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let pending = match env.timeout(timeout, self.enqueue_when_room(request, version)).await {
            Some(pending) => pending?,
            None => {
                return Err(ClientError::DeadlinePassed {
                    last: None,
                    certainty: crate::Certainty::DidNotHappen,
                });
            }
        };
        pending.answer::<E, R>(env, version, timeout).await
    }

    /// ApiVersions: the newest request first; a broker that does not know it answers in version 0 with what it knows.
    async fn negotiate<E: Env>(
        &self,
        env: &E,
        settings: &ConnectionSettings,
    ) -> Result<Offered, ClientError> {
        use wire::api_versions::ApiVersionsRequest;
        let request = ApiVersionsRequest {
            client_software_name: "foretold".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..ApiVersionsRequest::default()
        };
        let newest = ApiKey::ApiVersions.stable_versions().1;
        let mut version = settings.versions_version.unwrap_or(newest);
        loop {
            let pending = self.enqueue(&request, version)?;
            let body = pending.bytes(env, settings.connect_timeout, false).await?;
            let answer = self.decode_api_versions(body, version)?;
            if answer.error_code == types::ErrorCode::UnsupportedVersion.as_i16() && version > 0 {
                let theirs = answer
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiKey::ApiVersions.as_i16())
                    .map_or(0, |api| api.max_version);
                version = theirs.clamp(0, version - 1);
                continue;
            }
            ClientError::check(answer.error_code, None)?;
            return Ok(answer
                .api_keys
                .iter()
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect());
        }
    }

    fn decode_api_versions(
        &self,
        body: Bytes,
        version: i16,
    ) -> Result<wire::api_versions::ApiVersionsResponse, ClientError> {
        use wire::api_versions::ApiVersionsResponse;
        // The error code comes first in every version; with it set the rest is in version 0.
        let refused = body.len() >= 2
            && i16::from_be_bytes([body[0], body[1]])
                == types::ErrorCode::UnsupportedVersion.as_i16();
        let version = if refused { 0 } else { version };
        ApiVersionsResponse::decode(&mut Reader::new(body), version).map_err(|error| {
            self.close();
            ClientError::BadAnswer { address: self.address.to_string(), reason: error.to_string() }
        })
    }
}

impl Pending {
    /// Waits for the answer, at most `timeout`; after that the connection is given up, since answers are ordered.
    pub async fn answer<E: Env, R: Request>(
        self,
        env: &E,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        self.decoded::<E, R>(env, version, timeout, false).await
    }

    /// As [`Pending::answer`] for an answer that may be large: at most `silence` may pass without a byte of it, or of one that
    /// comes before it.
    pub async fn answer_as_it_comes<E: Env, R: Request>(
        self,
        env: &E,
        version: i16,
        silence: Duration,
    ) -> Result<R::Response, ClientError> {
        self.decoded::<E, R>(env, version, silence, true).await
    }

    async fn decoded<E: Env, R: Request>(
        self,
        env: &E,
        version: i16,
        timeout: Duration,
        may_last: bool,
    ) -> Result<R::Response, ClientError> {
        let (open, address) = (self.open.clone(), self.address.clone());
        let body = self.bytes(env, timeout, may_last).await?;
        let mut reader = Reader::new(body);
        R::Response::decode(&mut reader, version).map_err(|error| {
            open.close(&address);
            ClientError::BadAnswer { address: address.to_string(), reason: error.to_string() }
        })
    }

    /// Waits until a request that nobody answers has left.
    pub async fn sent<E: Env>(self, env: &E, timeout: Duration) -> Result<(), ClientError> {
        self.bytes(env, timeout, false).await.map(drop)
    }

    async fn bytes<E: Env>(
        self,
        env: &E,
        timeout: Duration,
        may_last: bool,
    ) -> Result<Bytes, ClientError> {
        let Pending { mut answer, address, open } = self;
        loop {
            let before = open.received.load(Ordering::Relaxed);
            match env.timeout(timeout, &mut answer).await {
                Some(Ok(answer)) => return answer,
                Some(Err(_)) => {
                    return Err(ClientError::Disconnected { address: address.to_string() });
                }
                None if may_last && open.received.load(Ordering::Relaxed) != before => {}
                None => {
                    open.close(&address);
                    return Err(ClientError::RequestTimedOut { address: address.to_string() });
                }
            }
        }
    }
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, OpenState> {
        // Nothing in the critical sections can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the connection as gone and ends every open question.
    fn close(&self, address: &str) {
        self.closed.send_replace(true);
        let questions = std::mem::take(&mut self.lock().questions);
        for question in questions {
            let lost = ClientError::Disconnected { address: address.to_owned() };
            // The asker may have stopped waiting; then nobody needs to know.
            let _ = question.answer.send(Err(lost));
        }
    }
}

/// The writer task: frames in the order of the queue.
async fn write<W: ConnWriter>(
    mut writer: W,
    mut outgoing: mpsc::Receiver<Outgoing>,
    open: Arc<Open>,
    address: Arc<str>,
) {
    let mut closed = open.closed.subscribe();
    loop {
        let next = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            next = outgoing.recv() => next,
        };
        let Some(Outgoing { frame, sent }) = next else { break };
        let result = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            result = writer.send(vec![Part::Mem(frame)]) => result,
        };
        if let Some(Unanswered { sent, .. }) = sent {
            let answer = result
                .as_ref()
                .map(|()| Bytes::new())
                .map_err(|_| ClientError::Disconnected { address: address.to_string() });
            let _ = sent.send(answer);
        }
        if result.is_err() {
            break;
        }
    }
    open.close(&address);
}

/// The reader task: cuts the stream into frames and hands each to the first open question.
async fn read<R: ConnReader>(
    mut reader: R,
    open: Arc<Open>,
    address: Arc<str>,
    answer_bytes_max: usize,
) {
    let mut closed = open.closed.subscribe();
    let mut buffer = BytesMut::new();
    loop {
        match take_frame(&mut buffer, answer_bytes_max) {
            Ok(Some(frame)) => {
                if !deliver(&open, &address, frame) {
                    break;
                }
            }
            Ok(None) => {
                let got = tokio::select! {
                    biased;
                    _ = closed.wait_for(|closed| *closed) => break,
                    got = reader.read(&mut buffer, READ_BYTES) => got,
                };
                match got {
                    Ok(bytes @ 1..) => open.received.fetch_add(bytes as u64, Ordering::Relaxed),
                    _ => break,
                };
            }
            Err(error) => {
                tracing::warn!(%address, %error, "an answer cannot be read");
                break;
            }
        }
    }
    open.close(&address);
}

/// The first whole frame of `buffer`.
fn take_frame(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk() else { return Ok(None) };
    let len = wire::frame_len(*prefix, bytes_max)?;
    if buffer.len() < wire::FRAME_PREFIX + len {
        return Ok(None);
    }
    buffer.advance(wire::FRAME_PREFIX);
    Ok(Some(buffer.split_to(len).freeze()))
}

/// Gives `frame` to the first open question; `false` when it does not belong to it.
fn deliver(open: &Open, address: &str, frame: Bytes) -> bool {
    let Some(question) = open.lock().questions.pop_front() else {
        tracing::warn!(address, "an answer came that nobody asked for");
        return false;
    };
    let answer = decode_header(frame, question.header_version).and_then(|(correlation, body)| {
        if correlation == question.correlation {
            Ok(body)
        } else {
            Err(format!("correlation id {correlation}, expected {}", question.correlation))
        }
    });
    match answer {
        Ok(body) => {
            let _ = question.answer.send(Ok(body));
            true
        }
        Err(reason) => {
            let bad = ClientError::BadAnswer { address: address.to_owned(), reason };
            let _ = question.answer.send(Err(bad));
            false
        }
    }
}

/// Reads a response header; what is left of the frame is the body.
fn decode_header(frame: Bytes, header_version: i16) -> Result<(i32, Bytes), String> {
    let mut reader = Reader::new(frame);
    let header = wire::ResponseHeader::decode(&mut reader, header_version)
        .map_err(|error| error.to_string())?;
    Ok((header.correlation_id, reader.rest()))
}
