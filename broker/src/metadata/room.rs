//! The room itself: what it waits for, and what follows from it.
//!
//! It never awaits a peer or the sync of a change: both come back as events, so that a vote is answered while a change is
//! on its way to the disk. It awaits its own disk for small things (a ballot, a cut) and the logs of partitions that it
//! creates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cluster::config::{BrokerSettings, ConfigMap};
use cluster::controller::{Controller, Recovery, Sessions, notice_of};
use cluster::metadata::{Delta, Image, MetadataRecord};
use cluster::quorum::{
    Answer as Said, Event, Position, ReplicaKey, Reply, Request, Role, Ticket, Timer,
};
use cluster::telemetry::Subscriptions;
use env::{Clock, Env, Rng, Spawn};
use tokio::sync::{Notify, mpsc, watch};
use types::mutant::{Mutant, planted};
use types::{
    BrokerId, ClusterId, DirectoryId, Instant, NodeId, Offset, QuorumEpoch, Timestamp, Uuid,
};

use super::addresses::Addresses;
use super::discovery::{self, Told};
use super::log::MetadataLogFailed;
use super::peers::{self, Answered, Peers};
use super::recovery;
use super::seat::{Carried, Change, Outside, Seat};
use super::snapshot::{self, Snapshot, Snapshotted};
use super::{
    Active, Answer, CHANGES_WAITING_MAX, DIRECTORIES_MAX, Decide, DirectoryFailed, FollowerInfo,
    Given, Metadata, MetadataUnavailable, QUESTIONS_WAITING_MAX, Question, QuorumInfo,
};
use crate::config::BrokerConfig;
use crate::partition::Registry;
use crate::shared::{Failure, Shared, View};

/// Changes that may be on their way to the disk.
const CHANGES_ON_THEIR_WAY_MAX: usize = 1024;
/// Pause before a log is tried again that a full disk had no space for.
const UNMADE_PAUSE: Duration = Duration::from_secs(1);
/// How long a leader that stops waits until the others have heard that it lets go.
const FAREWELL: Duration = Duration::from_millis(500);
/// A leader that is heard by nobody for less than this goes on: the devices of the others may stand still for a moment, and
/// whoever can elect another one does.
const CHECK_QUORUM_MIN: Duration = Duration::from_secs(3);
/// How long a follower waits at most before it stands when nobody listens where its leader did.
const GONE_PAUSE_MAX: Duration = Duration::from_millis(200);
/// What became of snapshots, and is not looked at yet.
const SNAPSHOTS_WAITING_MAX: usize = 4;
/// As long as anything lasts.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What the room is made of when it opens.
pub(crate) struct Opening<E: Env> {
    pub(crate) env: E,
    pub(crate) seat: Seat<E>,
    pub(crate) registry: Registry<E>,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) settings: BrokerSettings,
    pub(crate) cluster: ClusterId,
    /// This process, as it registers.
    pub(crate) incarnation: Uuid,
}

/// The room.
pub(crate) struct MetadataRoom<E: Env> {
    env: E,
    config: Arc<BrokerConfig>,
    addresses: Arc<Addresses>,
    cluster: ClusterId,
    changes: mpsc::Receiver<Decide>,
    failures: mpsc::Receiver<DirectoryFailed>,
    questions: mpsc::Receiver<Question>,
    answered: mpsc::Receiver<Answered>,
    /// `None` when it has taken its leave.
    peers: Option<Peers<E>>,
    /// Whether the log's ends may have moved.
    moved: Arc<Notify>,
    seat: Seat<E>,
    timers: BTreeMap<Timer, Instant>,
    /// What the quorum has not answered yet, and fetches that wait for news.
    asked: BTreeMap<Ticket, Question>,
    parked: Vec<Parked>,
    next_ticket: u64,
    /// When each replica fetched last, and when it last had all there was.
    seen: BTreeMap<ReplicaKey, (Timestamp, Timestamp)>,
    active: Option<Active>,
    /// Who waits for a change, by the end of the log that it rests on.
    answers: VecDeque<(Offset, Answer)>,
    /// What is applied, and up to where.
    image: Arc<Image>,
    applied: Offset,
    /// End of what the leader last said to be committed.
    told: Offset,
    /// Whether logs of data directories may be of topics that the metadata has forgotten: not if it has just begun.
    knows_all_topics: bool,
    is_published: bool,
    view: watch::Sender<Arc<View<E>>>,
    quorum: watch::Sender<Arc<QuorumInfo>>,
    registry: Registry<E>,
    /// Values of the node's file.
    fixed: Arc<ConfigMap>,
    settings: Arc<BrokerSettings>,
    subscriptions: Arc<Subscriptions>,
    broker: BrokerId,
    incarnation: Uuid,
    failed_directories: Vec<DirectoryId>,
    /// When logs that a full disk had no space for are tried again.
    unmade_at: Instant,
    /// Snapshots that are written or fetched beside the room: one of each at most.
    snapshots: mpsc::Receiver<Snapshotted>,
    /// Who leads, as others say who were asked when nobody was known to.
    leaders: mpsc::Receiver<Told>,
    snapshot: mpsc::Sender<Snapshotted>,
    is_writing_snapshot: bool,
    /// The one that is fetched, and the number of the attempt.
    fetching: Option<(Position, u64)>,
    attempts: u64,
    /// End of the newest of its own, and when there is to be another.
    snapshot_end: Position,
    snapshot_due: Option<Instant>,
    /// What the one that was fetched holds, until the log begins with it.
    loaded: Option<(Position, Arc<Image>)>,
}

/// A fetch that waits for news.
struct Parked {
    question: Question,
    deadline: Instant,
    /// End of the log, and epoch, that it has seen.
    seen: (Offset, QuorumEpoch),
}

impl<E: Env> MetadataRoom<E> {
    /// The room, which knows of no committed change yet, and its door.
    pub(crate) fn open(opening: Opening<E>) -> (MetadataRoom<E>, Metadata<E>) {
        let Opening { env, seat, registry, config, addresses, settings, cluster, incarnation } =
            opening;
        let me = seat.replica();
        let broker = BrokerId(me.node.0);
        let (fixed, settings) = (settings.node.fixed.clone(), Arc::new(settings));
        let (peers, answered) =
            Peers::new(&env, config.clone(), addresses.clone(), cluster.clone());
        let of_cluster = cluster.clone();
        let moved = Arc::new(Notify::new());
        let tell = moved.clone();
        seat.log().listen(move || tell.notify_one());
        let image = seat.base().clone();
        let subscriptions = Arc::new(Subscriptions::of(&image));
        let first =
            registry.view(image.clone(), Offset(-1), settings.clone(), subscriptions.clone());
        let (view, followed) = watch::channel(Arc::new(first));
        let (ask, changes) = mpsc::channel(CHANGES_WAITING_MAX);
        let (report, failures) = mpsc::channel(DIRECTORIES_MAX);
        let (snapshot, snapshots) = mpsc::channel(SNAPSHOTS_WAITING_MAX);
        let snapshot_end = seat.quorum().log().start();
        let snapshot_due =
            settings.metadata_snapshot_interval.map(|interval| env.clock().now() + interval);
        let (inquire, questions) = mpsc::channel(QUESTIONS_WAITING_MAX);
        let knows_all_topics = seat.knows_anything();
        let (found, leaders) = mpsc::channel(1);
        let (quorum, watched) = watch::channel(Arc::new(QuorumInfo {
            epoch: seat.quorum().epoch(),
            leader: None,
            is_active: false,
            voters: seat.quorum().voters().clone(),
            high_watermark: Offset::ZERO,
            end: seat.log().end(),
            applied: Offset::ZERO,
            failed_directories: Vec::new(),
            followers: Vec::new(),
        }));
        if !config.bootstrap.is_empty() {
            let (servers, of) = (config.bootstrap.clone(), cluster.clone());
            let seeking =
                discovery::seek_leader(env.clone(), me.node, of, servers, watched.clone(), found);
            env.spawner().spawn("leader-seeker", seeking);
        }
        let door = Metadata {
            me,
            cluster,
            addresses: addresses.clone(),
            fetch_wait: peers::fetch_wait(settings.quorum_fetch_timeout),
            dir: seat.path().into(),
            changes: ask,
            failures: report,
            questions: inquire,
            view: followed,
            quorum: watched,
        };
        let room = MetadataRoom {
            env,
            config,
            addresses,
            cluster: of_cluster,
            changes,
            failures,
            questions,
            answered,
            peers: Some(peers),
            moved,
            applied: seat.quorum().high_watermark(),
            seat,
            timers: BTreeMap::new(),
            asked: BTreeMap::new(),
            parked: Vec::new(),
            next_ticket: 0,
            seen: BTreeMap::new(),
            active: None,
            answers: VecDeque::new(),
            image,
            told: Offset::ZERO,
            knows_all_topics,
            is_published: false,
            view,
            quorum,
            registry,
            fixed,
            settings,
            subscriptions,
            broker,
            incarnation,
            failed_directories: Vec::new(),
            unmade_at: Instant::default(),
            snapshots,
            leaders,
            snapshot,
            is_writing_snapshot: false,
            fetching: None,
            attempts: 0,
            snapshot_end,
            snapshot_due,
            loaded: None,
        };
        (room, door)
    }

    /// Takes part in the quorum and takes changes until the broker stops.
    pub(crate) async fn run(mut self, shared: Shared<E>) {
        if let Err(MetadataLogFailed(reason)) = self.work(&shared).await {
            // What was appended may be durable or not: nobody may act on this state any more.
            shared.fail(Failure::Metadata { reason });
        }
        for (_, answer) in self.answers.drain(..) {
            answer(Err(MetadataUnavailable::Unknown));
        }
    }

    async fn work(&mut self, shared: &Shared<E>) -> Result<(), MetadataLogFailed> {
        self.take(Event::Start, Carried::Nothing).await?;
        loop {
            self.settle().await?;
            let takes_changes = self.answers.len() < CHANGES_ON_THEIR_WAY_MAX;
            let (clock, next) = (self.env.clock().clone(), self.next_timer());
            tokio::select! {
                biased;
                () = shared.stopping() => return self.leave().await,
                failed = self.failures.recv() => {
                    let Some((place, failure)) = failed else { return Ok(()) };
                    self.on_directory_failed(place, failure, shared);
                }
                answered = self.answered.recv() => {
                    let Some(answered) = answered else { return Ok(()) };
                    self.on_answered(answered).await?;
                }
                question = self.questions.recv() => {
                    let Some(question) = question else { return Ok(()) };
                    self.on_question(question).await?;
                }
                snapshot = self.snapshots.recv() => {
                    let Some(snapshot) = snapshot else { return Ok(()) };
                    self.on_snapshot(snapshot).await?;
                }
                // Nobody seeks one where no addresses are known.
                Some(told) = self.leaders.recv() => self.on_told(told).await?,
                // The look at the log is in `settle`.
                () = self.moved.notified() => {}
                () = clock.sleep_until(next) => self.on_time().await?,
                change = self.changes.recv(), if takes_changes => {
                    let Some(change) = change else { return Ok(()) };
                    self.decide(change).await?;
                }
            }
        }
    }

    /// Lets go of the epoch, so that the others need not find out.
    async fn leave(&mut self) -> Result<(), MetadataLogFailed> {
        let leads = self.leads();
        self.take(Event::Resign, Carried::Nothing).await?;
        self.tell_quorum();
        if let Some(peers) = self.peers.take().filter(|_| leads) {
            // Who has not heard it by then finds out.
            let _ = self.env.timeout(FAREWELL, peers.quiet(&mut self.answered)).await;
        }
        Ok(())
    }

    /// Lets the quorum take an event, and does what follows.
    async fn take(&mut self, event: Event, carried: Carried) -> Result<(), MetadataLogFailed> {
        let mut events = VecDeque::from([(event, carried)]);
        while let Some((event, carried)) = events.pop_front() {
            for outside in self.seat.take(event, carried).await? {
                match outside {
                    Outside::Arm(Timer::Election | Timer::Fetch)
                        if planted(Mutant::ElectionUntimed) => {}
                    Outside::Arm(timer) => {
                        let after = self.after(timer);
                        self.timers.insert(timer, self.env.clock().now() + after);
                    }
                    Outside::Send(node, request) => {
                        let (quorum, peers) = (self.seat.quorum(), self.peers.as_mut());
                        let known = quorum.high_watermark();
                        let asked = match peers {
                            Some(peers) => peers.ask(node, request, quorum.voters(), known),
                            None => Err(request),
                        };
                        if let Err(asked) = asked {
                            let event = Event::Unanswered { to: node, asked };
                            events.push_back((event, Carried::Nothing));
                        }
                    }
                    Outside::Reply(ticket, reply) => self.on_reply(ticket, reply).await?,
                    Outside::FetchSnapshot(node, end) => self.fetch_snapshot(node, end),
                    Outside::Restarted(end) => self.restart(end).await,
                }
            }
        }
        Ok(())
    }

    /// How long a timer runs.
    fn after(&self, timer: Timer) -> Duration {
        let settings = &self.settings;
        let fetch = settings.quorum_fetch_timeout;
        match timer {
            Timer::Election => {
                let least = settings.quorum_election_timeout;
                least + self.chance(least)
            }
            Timer::Fetch => fetch + self.chance(fetch / 4),
            Timer::CheckQuorum => (fetch * 3 / 2).max(CHECK_QUORUM_MIN),
            Timer::Announce => fetch / 2,
            Timer::Retry | Timer::Seek => settings.quorum_retry_backoff,
        }
    }

    /// Some time up to `most`, so that no two nodes stand at the same time again and again.
    fn chance(&self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.env.rng().next_u64() % nanos.max(1))
    }

    fn next_timer(&self) -> Instant {
        let parked = self.parked.iter().map(|parked| parked.deadline);
        let sessions = self
            .active
            .as_ref()
            .and_then(|active| active.sessions.deadline(active.controller.image()));
        let unmade = self.registry.has_unmade().then_some(self.unmade_at);
        let next = self.timers.values().copied().chain(parked).chain(sessions).chain(unmade).min();
        next.unwrap_or_else(|| self.env.clock().now() + NEVER)
    }

    async fn on_time(&mut self) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().now();
        let due: Vec<Timer> =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            // An earlier one may have armed it again.
            if self.timers.get(&timer).is_some_and(|at| *at <= now) {
                self.timers.remove(&timer);
                self.take(Event::Timeout(timer), Carried::Nothing).await?;
            }
        }
        if self.registry.has_unmade() && self.unmade_at <= now {
            self.unmade_at = now + UNMADE_PAUSE;
            self.make_missing().await;
        }
        let ends = |active: &Active| active.sessions.deadline(active.controller.image());
        if self.active.as_ref().and_then(ends).is_some_and(|deadline| deadline <= now) {
            self.decide(Box::new(|active| {
                let records =
                    active.map(|active| active.sessions.expire(active.now, &active.controller));
                (records.unwrap_or_default(), Box::new(|_| {}))
            }))
            .await?;
        }
        Ok(())
    }

    async fn on_answered(&mut self, answered: Answered) -> Result<(), MetadataLogFailed> {
        let Answered { from, asked, reply, is_refused } = answered;
        match reply {
            Some((reply, batches)) => {
                let quorum = self.seat.quorum();
                let is_present = reply.epoch == quorum.epoch() && quorum.leader() == Some(from);
                if let (Said::Records(records), true) = (&reply.body, is_present) {
                    self.told = records.high_watermark;
                }
                let event = Event::Answered { from, asked, reply };
                self.take(event, Carried::Fetched(batches)).await
            }
            None => {
                let is_leader = self.seat.quorum().leader() == Some(from);
                let was_fetch = matches!(asked, Request::Fetch(_));
                self.take(Event::Unanswered { to: from, asked }, Carried::Nothing).await?;
                if is_refused && is_leader && was_fetch {
                    // Its process is gone: nobody has to wait until it might only have been slow.
                    let soon = self.env.clock().now() + self.chance(GONE_PAUSE_MAX);
                    let fetch = self.timers.entry(Timer::Fetch).or_insert(soon);
                    *fetch = soon.min(*fetch);
                }
                Ok(())
            }
        }
    }

    async fn on_told(&mut self, told: Told) -> Result<(), MetadataLogFailed> {
        let Told { leader, epoch, host, port } = told;
        if epoch >= self.seat.quorum().epoch() {
            self.addresses.hear(leader, &host, port);
        }
        self.take(Event::Told(leader, epoch), Carried::Nothing).await
    }

    fn leads(&self) -> bool {
        matches!(self.seat.quorum().role(), Role::Leader(_))
    }

    async fn on_question(&mut self, question: Question) -> Result<(), MetadataLogFailed> {
        if let (Request::Fetch(fetch), true) = (&question.request, self.leads()) {
            let quorum = self.seat.quorum();
            self.seen.retain(|key, _| quorum.followers().any(|(known, _)| known == *key));
            let now = self.env.clock().timestamp();
            let has_all = fetch.last.offset >= self.seat.log().end();
            let (fetched, caught_up) = self.seen.entry(fetch.replica).or_insert((now, now));
            *fetched = now;
            *caught_up = if has_all { now } else { *caught_up };
        }
        self.ask(question).await
    }

    async fn ask(&mut self, question: Question) -> Result<(), MetadataLogFailed> {
        self.next_ticket += 1;
        let (ticket, request) = (Ticket(self.next_ticket), question.request.clone());
        self.asked.insert(ticket, question);
        self.take(Event::Asked(ticket, request), Carried::Nothing).await
    }

    async fn on_reply(&mut self, ticket: Ticket, reply: Reply) -> Result<(), MetadataLogFailed> {
        let Some(question) = self.asked.remove(&ticket) else { return Ok(()) };
        let mut batches = Vec::new();
        if let (Said::Records(told), Request::Fetch(fetch)) = (&reply.body, &question.request) {
            batches = self.seat.log().written_from(fetch.last.offset).await?;
            let is_news = !batches.is_empty() || told.high_watermark > question.known;
            if !is_news && !question.wait.is_zero() && !question.answer.is_closed() {
                let deadline = self.env.clock().now() + question.wait;
                let seen = (self.seat.log().written(), reply.epoch);
                self.parked.push(Parked { question, deadline, seen });
                return Ok(());
            }
        }
        let log_start = self.seat.quorum().log().start().offset;
        // Who asked may have gone.
        let _ = question.answer.send(Given { reply, batches, log_start });
        Ok(())
    }

    /// Asks again for those who waited for news, where there is some, or who have waited long enough.
    async fn unpark(&mut self) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().now();
        let quorum = self.seat.quorum();
        let (seen, high_watermark) =
            ((self.seat.log().written(), quorum.epoch()), quorum.high_watermark());
        let leads = self.leads();
        let is_over = |parked: &Parked| {
            !leads
                || parked.seen != seen
                || high_watermark > parked.question.known
                || parked.deadline <= now
                || parked.question.answer.is_closed()
        };
        let (over, parked) = self.parked.drain(..).partition(is_over);
        self.parked = parked;
        for Parked { mut question, deadline, .. } in over {
            question.wait = deadline.saturating_since(now);
            self.ask(question).await?;
        }
        Ok(())
    }

    async fn decide(&mut self, decide: Decide) -> Result<(), MetadataLogFailed> {
        let Some(active) = &mut self.active else {
            // It has told its asker.
            let _ = decide(Err(MetadataUnavailable::NotController));
            return Ok(());
        };
        // The quorum may have written a record of its own.
        (active.now, active.next) = (self.env.clock().now(), self.seat.log().end());
        let (records, answer) = decide(Ok(active));
        if !records.is_empty() {
            let delta = active.controller.apply(&records).map_err(|error| {
                MetadataLogFailed(format!("a decision makes no sense: {error}"))
            })?;
            active.recovery.on_change(active.controller.image(), &delta);
            let count = u32::try_from(records.len()).expect("a change of fewer than 2^32 records");
            self.take(Event::Decided(count), Carried::Decided(records)).await?;
        }
        // Also an answer without records of its own rests on the state before it.
        self.answers.push_back((self.seat.log().end(), answer));
        Ok(())
    }

    fn on_directory_failed(&mut self, place: usize, failure: ::log::Failure, shared: &Shared<E>) {
        let left = self.registry.on_directory_failed(place);
        match left.filter(|_| !planted(Mutant::OneTakesAll)) {
            // The next heartbeat tells the controller.
            Some(directory) => self.failed_directories.push(directory),
            None => {
                let reason = failure.to_string();
                shared.fail(Failure::Disk { directory: failure.path, reason });
            }
        }
    }

    /// What follows from the state of the log and the quorum, until nothing more does.
    async fn settle(&mut self) -> Result<(), MetadataLogFailed> {
        if self.active.as_ref().is_some_and(|active| active.recovery.may_decide()) {
            self.decide(Box::new(recovery::recover)).await?;
        }
        let synced = self.seat.log().synced();
        if synced > self.seat.quorum().log().durable() {
            self.take(Event::Synced(synced), Carried::Nothing).await?;
        }
        self.step_down();
        self.unpark().await?;
        self.apply().await?;
        self.step_up().await?;
        self.answer();
        self.tell_quorum();
        self.write_snapshot_if_due();
        Ok(())
    }

    /// Everything that is applied, in a file beside the log, if enough has been since the last one.
    fn write_snapshot_if_due(&mut self) {
        let now = self.env.clock().now();
        let is_late = self.snapshot_due.is_some_and(|due| due <= now);
        let is_large = self.seat.bytes() >= self.settings.metadata_snapshot_bytes;
        let has_news = self.applied > self.snapshot_end.offset && self.is_published;
        if self.is_writing_snapshot || !has_news || !(is_late || is_large) {
            return;
        }
        let quorum = self.seat.quorum();
        let Some(epoch) = quorum.log().epoch_before(self.applied) else { return };
        let end = Position { epoch, offset: self.applied };
        let (voters, image) = (quorum.voters_at(self.applied).clone(), self.image.clone());
        self.is_writing_snapshot = true;
        self.snapshot_due = self.settings.metadata_snapshot_interval.map(|interval| now + interval);
        self.attempts += 1;
        let attempt = self.attempts;
        let (env, path, done) =
            (self.env.clone(), self.seat.path().to_owned(), self.snapshot.clone());
        self.env.spawner().spawn("metadata-snapshot", async move {
            let written = match snapshot::encode(end, &voters, &image, env.clock().timestamp()) {
                Ok(bytes) => snapshot::store(env.disk(), &path, end, attempt, bytes)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // A room that has ended wants no snapshot.
            let _ = done.send(Snapshotted::Written(end, written)).await;
        });
    }

    async fn on_snapshot(&mut self, snapshot: Snapshotted) -> Result<(), MetadataLogFailed> {
        match snapshot {
            Snapshotted::Written(end, written) => {
                self.seat.begin_count();
                // A newer one may have been loaded meanwhile.
                if written.is_err() || end.offset <= self.snapshot_end.offset {
                    self.is_writing_snapshot = false;
                    if let Err(reason) = written {
                        tracing::warn!(%reason, "no snapshot of the metadata: the log keeps what it has");
                    }
                    return Ok(());
                }
                // What follows the one before stays: who lags a little needs no snapshot.
                let before = std::mem::replace(&mut self.snapshot_end, end);
                if before.offset > self.seat.quorum().log().start().offset {
                    self.take(Event::Trimmed(before.offset), Carried::Nothing).await?;
                    tracing::debug!(start = %before.offset, "the metadata log begins with a snapshot now");
                }
                let (forgetting, done) = (self.seat.forgetting(before), self.snapshot.clone());
                self.env.spawner().spawn("metadata-forget", async move {
                    forgetting.await;
                    let _ = done.send(Snapshotted::Forgotten).await;
                });
                Ok(())
            }
            Snapshotted::Forgotten => {
                self.is_writing_snapshot = false;
                Ok(())
            }
            Snapshotted::Piece(attempt) if self.is_fetching(attempt) => {
                self.take(Event::Loading, Carried::Nothing).await
            }
            Snapshotted::Fetched(attempt, fetched) if self.is_fetching(attempt) => {
                self.fetching = None;
                match fetched {
                    Ok(Snapshot { end, voters, image }) => {
                        self.loaded = Some((end, Arc::new(image)));
                        let taken = self.take(Event::Loaded(end, voters), Carried::Nothing).await;
                        // Whoever waits for another one wants this one no more.
                        self.loaded = None;
                        taken
                    }
                    Err(reason) => {
                        tracing::warn!(%reason, "the snapshot of the metadata leader cannot be had yet");
                        self.take(Event::NotLoaded, Carried::Nothing).await
                    }
                }
            }
            // Of an attempt that nobody waits for any more.
            Snapshotted::Piece(_) | Snapshotted::Fetched(..) => Ok(()),
        }
    }

    fn is_fetching(&self, attempt: u64) -> bool {
        self.fetching.is_some_and(|(_, under_way)| under_way == attempt)
    }

    /// Fetches the snapshot that `node` names, beside the room.
    fn fetch_snapshot(&mut self, node: NodeId, end: Position) {
        if self.fetching.is_some_and(|(under_way, _)| under_way == end) {
            return;
        }
        self.attempts += 1;
        let attempt = self.attempts;
        self.fetching = Some((end, attempt));
        let quorum = self.seat.quorum();
        let fetch = snapshot::Fetching {
            cluster: self.cluster.clone(),
            me: self.seat.replica(),
            epoch: quorum.epoch(),
            address: self.addresses.of(node, quorum.voters()),
            end,
            attempt,
            patience: self.settings.quorum_request_timeout,
        };
        let (env, path, done) =
            (self.env.clone(), self.seat.path().to_owned(), self.snapshot.clone());
        self.env.spawner().spawn("metadata-snapshot-fetch", async move {
            let fetched = fetch.run(&env, &path, &done).await;
            let _ = done.send(Snapshotted::Fetched(attempt, fetched)).await;
        });
    }

    /// The log begins anew at `end`: what the snapshot holds is what is applied.
    async fn restart(&mut self, end: Position) {
        let Some((_, image)) = self.loaded.take().filter(|(at, _)| *at == end) else { return };
        tracing::info!(end = %end.offset, "the metadata go on from a snapshot of the leader");
        (self.image, self.applied, self.snapshot_end) = (image, end.offset, end);
        if self.is_published {
            self.follow(None).await;
            self.publish(Offset(end.offset.0 - 1));
        }
    }

    /// A node that does not lead decides nothing, and does not know what becomes of what it has decided.
    fn step_down(&mut self) {
        if self.active.is_some() && !self.seat.quorum().may_decide() {
            tracing::info!("this node is not the active controller any more");
            self.active = None;
            for (_, answer) in self.answers.drain(..) {
                answer(Err(MetadataUnavailable::Unknown));
            }
        }
    }

    /// A leader decides once everything before its epoch is applied.
    async fn step_up(&mut self) -> Result<(), MetadataLogFailed> {
        let is_idle = self.seat.unapplied().next().is_none();
        if self.active.is_some() || !self.seat.quorum().may_decide() || !is_idle {
            return Ok(());
        }
        let controller = Controller::new(Image::clone(&self.image), self.fixed.clone());
        let bootstrap = controller.bootstrap();
        let now = self.env.clock().now();
        let own = self.config.roles.is_broker().then_some((self.broker, self.incarnation));
        let timeout = self.settings.broker_session_timeout;
        let sessions = Sessions::new(now, timeout, own, controller.image());
        let next = self.seat.log().end();
        let recovery = Recovery::new(controller.image());
        self.active = Some(Active { controller, next, sessions, recovery, now });
        tracing::info!(epoch = %self.seat.quorum().epoch(), "this node is the active controller");
        if !bootstrap.is_empty() {
            self.decide(Box::new(|_| (bootstrap, Box::new(|_| {})))).await?;
        }
        Ok(())
    }

    /// Applies what is committed and synced here.
    async fn apply(&mut self) -> Result<(), MetadataLogFailed> {
        // Looked at once: the log's sync goes on beside this room.
        let end = self.seat.applicable();
        let changes = self.seat.committed(end);
        self.applied = self.applied.max(end);
        if !self.is_published {
            // Nobody looks on: all of them are one step, and no map has a second owner that it would be copied for.
            let mut delta = Delta::new(Arc::unwrap_or_clone(std::mem::take(&mut self.image)));
            changes.iter().try_for_each(|change| take_in(&mut delta, change))?;
            self.image = Arc::new(delta.finish().0);
            self.publish_first().await;
            return Ok(());
        }
        let Some(last) = changes.last().map(|change| change.end) else { return Ok(()) };
        for change in changes {
            let mut delta = Delta::new(Image::clone(&self.image));
            take_in(&mut delta, &change)?;
            let (image, delta) = delta.finish();
            self.image = Arc::new(image);
            for record in &change.records {
                if let MetadataRecord::Config(config) = record
                    && let Some(notice) = notice_of(config)
                {
                    tracing::info!("{notice}");
                }
            }
            self.follow(Some(&delta)).await;
        }
        self.publish(Offset(last.0 - 1));
        Ok(())
    }

    /// The first picture is shown when this node has caught up with the quorum (it has applied a record of the present epoch,
    /// and so everything before it, and what its leader last said to be committed), and this process is registered, if it is a
    /// broker: it does not go on with what the one before it led (I16).
    async fn publish_first(&mut self) {
        let quorum = self.seat.quorum();
        let is_of_epoch = quorum.log().epoch_before(self.applied) == Some(quorum.epoch());
        let own = self.image.broker(self.broker);
        let is_registered = own.is_some_and(|own| own.incarnation == self.incarnation)
            || !(self.config.roles.is_broker() || planted(Mutant::ControllerAwaitsItself));
        if !is_of_epoch || quorum.leader().is_none() || self.applied < self.told || !is_registered {
            return;
        }
        if self.knows_all_topics {
            self.registry.remove_strays(&self.image).await;
        }
        self.follow(None).await;
        for topic in self.registry.incomplete() {
            tracing::error!(topic, "not every partition of this topic can be served");
        }
        self.is_published = true;
        self.publish(Offset(self.applied.0 - 1));
    }

    /// Brings settings and partitions in step with what is applied.
    async fn follow(&mut self, delta: Option<&Delta>) {
        let image = &self.image;
        if delta.is_none_or(Delta::has_client_metrics_changed) {
            self.subscriptions = Arc::new(Subscriptions::of(image));
        }
        if delta.is_none_or(|delta| delta.has_broker_config_changed(self.broker)) {
            let node = image.node_configs(self.fixed.clone(), self.broker);
            self.settings = Arc::new(BrokerSettings::resolve(node));
        }
        self.registry.follow(&self.image, &self.settings, delta).await;
    }

    fn publish(&self, offset: Offset) {
        let (settings, subscriptions) = (self.settings.clone(), self.subscriptions.clone());
        let view = self.registry.view(self.image.clone(), offset, settings, subscriptions);
        self.view.send_replace(Arc::new(view));
    }

    /// Answers those whose changes are applied.
    fn answer(&mut self) {
        while let Some((end, answer)) = self.answers.pop_front() {
            if end > self.applied {
                self.answers.push_front((end, answer));
                return;
            }
            answer(Ok(()));
        }
    }

    fn tell_quorum(&self) {
        let quorum = self.seat.quorum();
        let follower = |(replica, end)| {
            let (fetched, caught_up) = self.seen.get(&replica).copied().unwrap_or_default();
            FollowerInfo { replica, end, fetched, caught_up }
        };
        let info = QuorumInfo {
            epoch: quorum.epoch(),
            leader: quorum.leader(),
            is_active: self.active.is_some(),
            voters: quorum.voters().clone(),
            high_watermark: quorum.high_watermark(),
            end: quorum.log().end(),
            applied: if self.is_published { self.applied } else { Offset::ZERO },
            failed_directories: self.failed_directories.clone(),
            followers: quorum.followers().map(follower).collect(),
        };
        self.quorum.send_if_modified(|known| {
            let has_changed = **known != info;
            if has_changed {
                *known = Arc::new(info);
            }
            has_changed
        });
    }

    /// Logs that a full disk had no space for are created once it has (E11).
    async fn make_missing(&mut self) {
        let offset = self.view.borrow().offset;
        let image = self.image.clone();
        if self.registry.make_missing(&image, &self.settings).await {
            self.publish(offset);
        }
    }
}

/// Applies one change.
fn take_in(delta: &mut Delta, change: &Change) -> Result<(), MetadataLogFailed> {
    change.records.iter().try_for_each(|record| delta.apply(record)).map_err(|error| {
        let end = change.end;
        MetadataLogFailed(format!("the change before offset {end} makes no sense: {error}"))
    })
}
