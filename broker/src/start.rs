//! The life of a broker: from an empty or existing directory to serving, and back to a clean stop.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::config::{BrokerSettings, ConfigMap, NodeConfigs};
use cluster::controller::RegisterBroker;
use cluster::metadata::{BrokerListener, Delta, Image};
use cluster::quorum::{Endpoint, ReplicaKey};
use env::{Clock, Disk, Env, Listener, Net, Rng, Spawn};
use log::{LogDir, LogDirOptions, OpenError};
use tokio::sync::watch;
use types::{BrokerId, DirectoryId, LeaderEpoch, PartitionIndex, TopicId, Uuid};

use crate::config::{Audience, BrokerConfig, ListenerConfig};
use crate::connection::{Acceptor, Connections};
use crate::context::ListenerName;
use crate::controller::ControllerWay;
use crate::directory::{self, Broken, Directory, DirectoryError};
use crate::fetch_session::Sessions;
use crate::metadata::{self, Addresses, MetadataRoom, Opening, ProducerIds, Seat};
use crate::metrics::{ConnectionTally, Metrics};
use crate::partition::{Registry, log_config};
use crate::replication::{self, Desk};
use crate::shared::{Failure, ListenerInfo, Shared, SharedInner, View};
use crate::snapshot::Observer;
use crate::{balance, coordinator, lifecycle, membership, retention, vigil};

/// A fetch session that was idle for so long may be displaced, as in Kafka.
const SESSION_EVICTION_AGE: Duration = Duration::from_secs(120);

/// A running broker.
pub struct Broker<E: Env> {
    observer: Observer<E>,
    listeners: Vec<(ListenerName, SocketAddr)>,
    /// Holds the directories' locks.
    directories: Vec<Directory<E::Disk>>,
}

/// Why a broker did not start. `server` maps each variant to an exit code.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot work.
    Config(String),
    /// A listener could not be bound.
    Address {
        /// Which listener.
        listener: ListenerName,
        /// Where it should listen.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A data directory is not usable by this node.
    Directory(DirectoryError),
    /// The disk failed.
    Disk {
        /// Where.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(reason) => f.write_str(reason),
            StartError::Address { listener, address, error } => {
                write!(f, "listener {listener} cannot listen on {address}: {error}")
            }
            StartError::Directory(error) => error.fmt(f),
            StartError::Disk { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> StartError {
        StartError::Directory(error)
    }
}

impl StartError {
    /// What opening a log directory says, as a start error.
    pub(crate) fn open(path: &Path, error: OpenError) -> StartError {
        let reason = error.to_string();
        match error {
            OpenError::Io { .. } => StartError::Disk { path: path.into(), reason },
            OpenError::Newer { path, .. } => DirectoryError::Newer { path, reason }.into(),
            // The directory itself is ours: "foreign" would tell the operator to give up what a copy may save.
            OpenError::Foreign { path, reason } => DirectoryError::Damaged { path, reason }.into(),
        }
    }
}

/// This share of the reserve is held by the directory itself, and so cannot be taken by others.
const BALLAST_SHARE: u64 = 4;
/// How long a stopping broker waits for its connections.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long it waits for a log directory to be closed cleanly.
const CLOSE_TIME: Duration = Duration::from_secs(30);

impl<E: Env> Broker<E> {
    /// Opens the directories (formatting empty ones), recovers, listens. When this returns, a produce sent now succeeds
    /// without a retry; a node that is no broker takes part in the quorum, which may have nobody to lead it yet.
    pub async fn start(env: E, config: BrokerConfig) -> Result<Broker<E>, StartError> {
        check(&config)?;
        let config = Arc::new(config);
        let (directories, mut broken) = directory::open(&env, &config).await?;
        let sockets = bind(&env, &config).await?;
        let identity = |path: &Path| {
            let found = directories.iter().find(|directory| directory.path == path);
            found.map(|directory| directory.properties.directory_id)
        };
        let metadata_dir = config.metadata_dir();
        let settings = &told(&config.settings, &sockets);
        let directory = identity(&metadata_dir).unwrap_or_default();
        let me = ReplicaKey { node: config.node_id, directory };
        let endpoints = own_endpoints(&config, &sockets);
        let founders = config.founders(me, &endpoints);
        let stands = config.roles.is_controller();
        let seat = Seat::open(&env, &metadata_dir, me, &founders, stands, settings).await?;
        let metadata_log_dir = seat.dir().clone();
        let last_known = known(&seat).map_err(|reason| StartError::Disk {
            path: metadata_log_dir.path().to_owned(),
            reason,
        })?;
        let newest_epochs = newest_epochs(&last_known);
        let is_new = !seat.knows_anything();

        let roles = config.roles;
        let mut data_dirs = Vec::new();
        for path in config.log_dirs.iter().filter(|_| roles.is_broker()) {
            let Some(id) = identity(path) else { continue };
            match open_data_dir(&env, path, id, settings, &newest_epochs).await {
                Ok(dir) => data_dirs.push(dir),
                Err(error) => broken.push(Broken::alone(path, &config, error)?),
            }
        }
        if let (true, Some(Broken { path, reason })) = (data_dirs.is_empty(), broken.first())
            && roles.is_broker()
        {
            return Err(StartError::Disk { path: path.clone(), reason: reason.clone() });
        }
        if seat.is_alone() {
            check_metadata(metadata_log_dir.path(), is_new, &data_dirs)?;
        }
        let broker = BrokerId(config.node_id.0);
        let was_stopped_cleanly = data_dirs.iter().all(|dir| dir.recovery().clean);
        let before = last_known.broker(broker).filter(|_| was_stopped_cleanly);
        let incarnation = env.rng().uuid();
        let registration = RegisterBroker {
            id: broker,
            incarnation,
            listeners: sockets
                .iter()
                .filter(|socket| socket.info.audience == Audience::Clients)
                .map(|socket| socket.registered())
                .collect(),
            rack: settings.rack.as_deref().map(Into::into),
            features: cluster::controller::supported(),
            directories: data_dirs.iter().map(LogDir::id).collect(),
            stopped_epoch: before.map(|before| before.epoch),
            // Who did not stop cleanly cannot tell whether its machine ran on.
            may_have_lost_unsynced: before.is_none(),
            // Who is alone has caught up with all there is.
            is_fenced: !seat.is_alone(),
        };

        let metrics = Metrics::new();
        let desk = Arc::new(Desk::new(env.clock().now()));
        let (dirs, counts) = (data_dirs.clone(), metrics.clone());
        let registry = Registry::new(env.clone(), broker, dirs, counts, desk.clone());
        let cluster_id = directories[0].properties.cluster_id.clone();
        let own = endpoints.first().map(|own| (own.host.as_str().into(), own.port));
        let addresses = Arc::new(Addresses::new(&config, own));
        let (room, door) = MetadataRoom::open(Opening {
            env: env.clone(),
            seat,
            registry,
            config: config.clone(),
            addresses,
            settings: settings.clone(),
            cluster: cluster_id.clone(),
            incarnation,
        });
        let (groups, group_room) = coordinator::new(&config);
        let sessions = Sessions::new(settings.fetch_sessions_max, SESSION_EVICTION_AGE);
        let shared = Shared(Arc::new(SharedInner {
            env: env.clone(),
            config,
            cluster_id,
            data_dirs: data_dirs.clone(),
            broken_dirs: broken.into_iter().map(|broken| broken.path).collect(),
            metadata: door,
            sessions,
            own_way: ControllerWay::default(),
            clients_way: ControllerWay::default(),
            producer_ids: ProducerIds::default(),
            telemetry: Mutex::default(),
            groups,
            desk,
            metrics,
            failure: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
        }));
        let spawner = env.spawner();
        let connections = Connections::new(settings.queued_request_bytes_max);
        let observer = Observer {
            shared: shared.clone(),
            connections: connections.clone(),
            listeners: sockets.iter().map(|socket| socket.info.clone()).collect(),
            data_dirs: data_dirs.clone(),
            metadata_log_dir: metadata_log_dir.clone(),
        };
        let listeners =
            sockets.iter().map(|socket| (socket.info.name.clone(), socket.address)).collect();
        spawner.spawn("metadata", room.run(shared.clone()));
        for (place, dir) in data_dirs.iter().enumerate() {
            spawner.spawn("directory-watch", watch_data_dir(shared.clone(), place, dir.clone()));
        }
        let watched = watch_metadata_dir(shared.clone(), metadata_log_dir.clone());
        spawner.spawn("directory-watch", watched);
        let (for_controllers, for_clients): (Vec<_>, Vec<_>) =
            sockets.into_iter().partition(|socket| socket.info.audience == Audience::Controllers);
        let open = |sockets: Vec<Socket<E>>| {
            for Socket { listener, info, .. } in sockets {
                let (broker, connections) = (shared.clone(), connections.clone());
                let acceptor = Acceptor { broker, listener, info, connections };
                env.spawner().spawn("acceptor", acceptor.run());
            }
        };
        // The other nodes come first: without them there is nobody to register with.
        open(for_controllers);
        if roles.is_controller() {
            // Who was killed with this node and is back cannot register before its last process is known to be gone.
            spawner.spawn("vigils", vigil::run(shared.clone()));
            spawner.spawn("balance", balance::run(shared.clone()));
            spawner.spawn("membership", membership::run(shared.clone(), endpoints));
        }
        if !roles.is_broker() {
            return Ok(Broker { observer, listeners, directories });
        }
        spawner.spawn("lifecycle", lifecycle::run(shared.clone(), registration));
        if let Err(failure) = served_by(&shared, incarnation).await {
            shared.0.stopping.send_replace(true);
            return Err(match failure {
                Failure::Disk { directory, reason } => StartError::Disk { path: directory, reason },
                Failure::Registration { reason } => StartError::Config(reason),
                Failure::Metadata { reason } => {
                    StartError::Disk { path: metadata_log_dir.path().to_owned(), reason }
                }
            });
        }
        spawner.spawn("in-sync-sets", replication::send_proposals(shared.clone()));
        spawner.spawn("replica-ticks", replication::tick(shared.clone()));
        spawner.spawn("replica-fetchers", replication::fetch(shared.clone()));
        spawner.spawn("replica-homes", replication::find_homes(shared.clone()));
        spawner.spawn("groups", group_room.run(shared.clone()));
        spawner.spawn("retention", retention::run(shared.clone()));
        for dir in &data_dirs {
            spawner.spawn("scrubber", scrub(shared.clone(), dir.clone()));
            spawner.spawn("repair", replication::repair(shared.clone(), dir.clone()));
        }
        open(for_clients);
        Ok(Broker { observer, listeners, directories })
    }

    /// Its listeners with the addresses really bound.
    pub fn listeners(&self) -> &[(ListenerName, SocketAddr)] {
        &self.listeners
    }

    /// What its handlers see; for tests and tools in the same process.
    pub fn shared(&self) -> &Shared<E> {
        &self.observer.shared
    }

    /// Who tells how it stands.
    pub fn observer(&self) -> &Observer<E> {
        &self.observer
    }

    /// Its data directories.
    pub fn data_dirs(&self) -> &[LogDir<E::Disk>] {
        &self.observer.data_dirs
    }

    /// Stops accepting, lets requests in flight finish for a short while, closes the logs cleanly.
    pub async fn shutdown(self) {
        let Observer { shared, connections, data_dirs, metadata_log_dir, .. } = &self.observer;
        lifecycle::leave(shared).await;
        shared.0.stopping.send_replace(true);
        let env = shared.env();
        if env.timeout(DRAIN_TIME, connections.fewer_than(1)).await.is_none() {
            tracing::warn!("some connections did not end in time");
        }
        if env.timeout(DRAIN_TIME, shared.metadata().ended()).await.is_none() {
            tracing::warn!("the metadata room did not end in time");
        }
        for dir in data_dirs.iter().chain([metadata_log_dir]) {
            match env.timeout(CLOSE_TIME, dir.close()).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(dir = %dir.path().display(), %error, "not closed cleanly");
                }
                None => tracing::error!(dir = %dir.path().display(), "closing takes too long"),
            }
        }
        // The locks on the directories are held until here.
        drop(self.directories);
    }

    /// Completes when the broker cannot go on, with the reason.
    pub async fn failed(&self) -> Failure {
        let mut receiver = self.observer.shared.0.failure.subscribe();
        loop {
            if let Some(failure) = receiver.borrow_and_update().clone() {
                return failure;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `shared`, which we hold.
                unreachable!("a running broker keeps its failure channel");
            }
        }
    }
}

/// Where the other voters find this node: where its operator has said to all that it is, or else where it listens.
fn own_endpoints<E: Env>(config: &BrokerConfig, sockets: &[Socket<E>]) -> Vec<Endpoint> {
    let named = config.voters.iter().find(|voter| voter.node == config.node_id);
    let for_controllers =
        sockets.iter().filter(|socket| socket.info.audience == Audience::Controllers);
    let endpoint = |socket: &Socket<E>| {
        let (host, port) = match named {
            Some(named) => (named.host.as_str(), named.port),
            None => (socket.info.advertised.0.as_str(), socket.info.advertised.1),
        };
        Endpoint { listener: socket.info.name.as_str().into(), host: host.into(), port }
    };
    for_controllers.map(endpoint).collect()
}

/// The newest term of each partition.
type NewestEpochs = Arc<BTreeMap<(TopicId, PartitionIndex), LeaderEpoch>>;

/// A listener, bound.
struct Socket<E: Env> {
    listener: <E::Net as Net>::Listener,
    address: SocketAddr,
    info: Arc<ListenerInfo>,
}

impl<E: Env> Socket<E> {
    fn registered(&self) -> BrokerListener {
        let (host, port) = &self.info.advertised;
        BrokerListener {
            name: self.info.name.as_str().into(),
            host: host.as_str().into(),
            port: *port,
            security_protocol: 0,
        }
    }
}

/// Logs belong to topics, which the metadata knows: where it begins, there can be none yet. To go on would delete them all.
fn check_metadata<D: Disk>(
    path: &Path,
    is_new: bool,
    data_dirs: &[LogDir<D>],
) -> Result<(), StartError> {
    let logs = || data_dirs.iter().flat_map(LogDir::logs);
    let Some(log) = logs().next().filter(|_| is_new) else { return Ok(()) };
    let reason = format!(
        "the metadata is missing or empty, and logs of topics are there ({}, such as {})",
        logs().count(),
        log.topic_partition()
    );
    Err(DirectoryError::Damaged { path: path.into(), reason }.into())
}

fn check(config: &BrokerConfig) -> Result<(), StartError> {
    if config.listeners.is_empty() {
        return Err(StartError::Config("a broker needs at least one listener".into()));
    }
    if config.log_dirs.is_empty() {
        return Err(StartError::Config("a broker needs at least one log directory".into()));
    }
    for (position, listener) in config.listeners.iter().enumerate() {
        if config.listeners[..position].iter().any(|other| other.name == listener.name) {
            return Err(StartError::Config(format!("listener {} is named twice", listener.name)));
        }
    }
    Ok(())
}

async fn bind<E: Env>(env: &E, config: &BrokerConfig) -> Result<Vec<Socket<E>>, StartError> {
    let mut sockets = Vec::new();
    for ListenerConfig { name, bind, advertised, audience, .. } in &config.listeners {
        let listener = env.net().bind(*bind).await.map_err(|error| StartError::Address {
            listener: name.clone(),
            address: *bind,
            error,
        })?;
        let address = listener.local_addr();
        let advertised = match advertised {
            Some((host, 0)) => (host.clone(), address.port()),
            Some((host, port)) => (host.clone(), *port),
            // An address that nobody can connect to helps no client: this machine's own is the best guess.
            None if address.ip().is_unspecified() => ("localhost".to_owned(), address.port()),
            None => (address.ip().to_string(), address.port()),
        };
        let connections = ConnectionTally::default();
        let audience = *audience;
        let info = Arc::new(ListenerInfo { name: name.clone(), advertised, audience, connections });
        sockets.push(Socket { listener, address, info });
    }
    Ok(sockets)
}

/// The settings, with the addresses that clients are really given.
fn told<E: Env>(settings: &BrokerSettings, sockets: &[Socket<E>]) -> BrokerSettings {
    let addresses: Vec<String> = sockets
        .iter()
        .map(|socket| {
            let (host, port) = &socket.info.advertised;
            format!("{}://{host}:{port}", socket.info.name)
        })
        .collect();
    let mut fixed = ConfigMap::clone(&settings.node.fixed);
    fixed.insert("advertised.listeners".into(), addresses.join(",").into());
    BrokerSettings::resolve(NodeConfigs::fixed(fixed))
}

async fn open_data_dir<E: Env>(
    env: &E,
    path: &Path,
    id: DirectoryId,
    settings: &BrokerSettings,
    newest_epochs: &NewestEpochs,
) -> Result<LogDir<E::Disk>, StartError> {
    let options = LogDirOptions {
        journal_file_bytes: settings.journal_file_bytes,
        journal_bytes_max: settings.journal_bytes,
        sync_timeout: settings.disk_sync_timeout,
        space_reserve: settings.space_reserve,
        ballast_bytes: settings.space_reserve / BALLAST_SHARE,
        scrub_rate: settings.scrub_rate,
        scrub_interval: settings.scrub_interval,
        newest_epochs: newest_epochs.clone(),
        log_config: log_config(&settings.topic_defaults, settings.producer_id_expiration),
        ..LogDirOptions::default()
    };
    let dir = LogDir::open(env.disk().clone(), env.clock(), path, id, options)
        .await
        .map_err(|error| StartError::open(path, error))?;
    let report = dir.recovery();
    tracing::info!(
        dir = %path.display(), clean = report.clean, logs = report.logs,
        replayed = report.journal_bytes, torn = report.torn_bytes, took = ?report.took,
        "log directory opened"
    );
    for range in &report.quarantined {
        tracing::error!("{range}");
    }
    for stray in report.strays.iter().filter(|stray| !is_known(&stray.path)) {
        tracing::warn!(path = %stray.path.display(), "left alone: {}", stray.reason);
    }
    let (runner, clock) = (dir.clone(), env.clock().clone());
    env.spawner().spawn("log-directory", async move { runner.run(clock).await });
    Ok(dir)
}

/// What others of this broker keep in a data directory.
fn is_known(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == metadata::DIRECTORY
        || directory::IGNORED.contains(&name)
        || name == directory::META_PROPERTIES
}

/// The newest metadata that this node has, committed or not.
fn known<E: Env>(seat: &Seat<E>) -> Result<Image, String> {
    let mut delta = Delta::new(Image::clone(seat.base()));
    for record in seat.unapplied().flat_map(|change| &change.records) {
        delta.apply(record).map_err(|error| error.to_string())?;
    }
    Ok(delta.finish().0)
}

/// The terms that partitions are led in, as their logs have to know them.
fn newest_epochs(image: &Image) -> NewestEpochs {
    let of_each = image.partitions();
    let epochs = of_each.map(|(topic, index, known)| ((topic.id, index), known.leader_epoch));
    Arc::new(epochs.collect())
}

/// Waits until the metadata say that this process may lead, or it has failed.
async fn served_by<E: Env>(shared: &Shared<E>, incarnation: Uuid) -> Result<(), Failure> {
    let mut failure = shared.0.failure.subscribe();
    let mut views = shared.metadata().watch();
    let is_in = |view: &Arc<View<E>>| {
        let own = view.image.broker(shared.broker_id());
        own.is_some_and(|own| own.incarnation == incarnation && !own.is_fenced)
    };
    tokio::select! {
        biased;
        failed = failure.wait_for(Option::is_some) => {
            failed.ok().and_then(|failed| failed.clone()).map_or(Ok(()), Err)
        }
        // The room ends only with the process, or with a failure that is told.
        _ = views.wait_for(is_in) => Ok(()),
    }
}

/// Tells the rooms when a data directory goes offline.
async fn watch_data_dir<E: Env>(shared: Shared<E>, place: usize, dir: LogDir<E::Disk>) {
    let Some(failure) = failure_of(&shared, &dir).await else { return };
    tracing::error!("{failure}");
    shared.metadata().on_directory_failed(place, failure).await;
}

/// Lets a directory look at its cold bytes until the broker stops.
async fn scrub<E: Env>(shared: Shared<E>, dir: LogDir<E::Disk>) {
    tokio::select! {
        biased;
        () = shared.stopping() => {}
        () = dir.scrub(shared.env().clock().clone()) => {}
    }
}

async fn watch_metadata_dir<E: Env>(shared: Shared<E>, dir: LogDir<E::Disk>) {
    if let Some(failure) = failure_of(&shared, &dir).await {
        shared.fail(Failure::Metadata { reason: failure.to_string() });
    }
}

/// Waits for the directory to fail; `None` when the broker stops first.
async fn failure_of<E: Env>(shared: &Shared<E>, dir: &LogDir<E::Disk>) -> Option<log::Failure> {
    let mut receiver = dir.failure();
    tokio::select! {
        biased;
        failed = receiver.wait_for(Option::is_some) => failed.ok().and_then(|failure| failure.clone()),
        () = shared.stopping() => None,
    }
}
