//! What an operator's tools ask over HTTP: `/metrics`, `/health/live`, `/health/ready` (`metrics.listen`).
//!
//! Nothing here can hurt a client of the broker: one answer per connection, some connections at a time, requests of a few
//! kilobytes, one page of metrics at a time and on a thread of its own. The only file that knows HTTP.

mod clients;
pub mod otlp;
mod page;
mod process;
mod text;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{Degraded, Observer};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::exit::{Code, Failed};
use crate::world::RealEnv;
use process::Process;

/// Connections at a time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 128;
/// How long one that has not asked yet keeps its place when others want it.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// The line and headers of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long those may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take in all: a page may be large, and its reader slow.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after a failed accept: without file handles the next attempt fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Where the node's life has got to, for whoever asks.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// The broker, once it has started.
    observer: Option<Observer<RealEnv>>,
    /// Where its clients connect.
    address: String,
}

/// A stage of a node's life.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Stage {
    /// It opens its directories.
    #[default]
    Starting,
    /// It serves.
    Serving,
    /// It has been told to stop.
    Stopping,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node has got to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    /// The broker has started; its clients connect to `address`.
    pub fn started(&self, observer: Observer<RealEnv>, address: &str) {
        let mut state = self.lock();
        state.observer = Some(observer);
        address.clone_into(&mut state.address);
    }

    /// Whether clients are served, and which directories serve them less than in full, a line each; or why not, in one.
    fn readiness(&self) -> Result<String, &'static str> {
        let state = self.lock();
        match state.stage {
            Stage::Starting => Err("starting: log directories are being opened"),
            Stage::Stopping => Err("stopping"),
            Stage::Serving => match &state.observer {
                Some(observer) if !observer.takes_part() => {
                    Err("no leader of the metadata quorum is known")
                }
                Some(observer) if observer.has_working_directory() => {
                    Ok(observer.degraded().iter().map(line).collect())
                }
                _ => Err("no log directory works"),
            },
        }
    }
}

fn line((path, how): &(PathBuf, Degraded)) -> String {
    let what = match how {
        Degraded::WithoutSpace => "no space: records can be read, but none published",
        Degraded::Offline => "offline: its partitions are not served",
    };
    format!("{}: {what}\n", path.display())
}

/// Opens the listener.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process listens there; choose another port, or leave the key out"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        Failed::new(Code::Address, format!("metrics.listen: cannot listen on {address}: {reason}"))
    })
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, board: Arc<Board>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let scraping = Arc::new(Semaphore::new(1));
    let silent = Arc::new(Silent::default());
    for number in 0.. {
        let place = silent.place(&room).await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "metrics.listen: cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (board, scraping) = (board.clone(), scraping.clone());
        // Held until it is known how to end the connection.
        let mut begun = silent.lock();
        let known = silent.clone();
        let talking = tokio::spawn(async move {
            let asked = || _ = known.lock().remove(&number);
            let talk = talk(stream, board, scraping, &asked);
            // Whoever takes longer finds out by the end of the connection.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, talk).await;
            asked();
            drop(place);
        });
        begun.insert(number, (Instant::now(), talking.abort_handle()));
    }
}

/// Connections that have not asked yet, by age. The oldest makes room: who says nothing must not keep a probe waiting.
#[derive(Default)]
struct Silent(Mutex<BTreeMap<u64, (Instant, AbortHandle)>>);

impl Silent {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, of one that has been silent for long if need be.
    async fn place(&self, room: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        loop {
            let place = tokio::time::timeout(self.patience(), room.clone().acquire_owned());
            if let Ok(place) = place.await {
                return place.expect("nobody closes it");
            }
            let mut silent = self.lock();
            if let Some(oldest) = silent.first_entry()
                && oldest.get().0.elapsed() >= SILENCE_MAX
            {
                oldest.remove().1.abort();
            }
        }
    }

    /// How long it is until the oldest has been silent for too long.
    fn patience(&self) -> Duration {
        let silent = self.lock();
        let oldest = silent.first_key_value();
        oldest.map_or(SILENCE_MAX, |(_, (since, _))| SILENCE_MAX.saturating_sub(since.elapsed()))
    }
}

/// One request and its answer; `asked` hears when the request is there. Who does not speak HTTP is told so by `hyper`, as far
/// as that is possible.
async fn talk(
    stream: TcpStream,
    board: Arc<Board>,
    scraping: Arc<Semaphore>,
    asked: &(impl Fn() + Sync),
) {
    let service = service_fn(|request: Request<Incoming>| {
        asked();
        let (board, scraping) = (board.clone(), scraping.clone());
        async move { Ok::<_, Infallible>(answer(&request, &board, &scraping).await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics.listen: a request was not answered");
    }
}

async fn answer(
    request: &Request<Incoming>,
    board: &Arc<Board>,
    scraping: &Semaphore,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/metrics", "/health/live", "/health/ready"].contains(&path) {
        let text = "no such page; there are /metrics, /health/live and /health/ready\n";
        return plain(StatusCode::NOT_FOUND, text);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let text = "this can only be read: use GET\n";
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => scrape(board.clone(), scraping).await,
        "/health/live" => plain(StatusCode::OK, "alive\n"),
        _ => match board.readiness() {
            Ok(degraded) => plain(StatusCode::OK, format!("ready\n{degraded}")),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
    }
}

/// The page, made where no connection of a client waits.
async fn scrape(board: Arc<Board>, scraping: &Semaphore) -> Response<Full<Bytes>> {
    let _turn = scraping.acquire().await;
    let runtime = tokio::runtime::Handle::current();
    let made = tokio::task::spawn_blocking(move || {
        let (observer, address) = {
            let state = board.lock();
            (state.observer.clone(), state.address.clone())
        };
        let snapshot = observer.map(|observer| runtime.block_on(observer.snapshot()));
        let is_ready = board.readiness().is_ok();
        page::write(&Process::look(), is_ready, &address, snapshot.as_ref())
    });
    match made.await {
        Ok(page) => respond(StatusCode::OK, text::CONTENT_TYPE, page),
        // The runtime ends.
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, PLAIN, text)
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
