//! The executor: nodes, tasks, virtual time. Every scheduling choice is a decision that can be replayed.
//!
//! One loop picks a ready task, polls it, and when nothing is ready lets time jump to the next timer. A node owns its
//! tasks: killing it drops them all, pausing it stops polling them while time goes on. Each node has clocks of its own:
//! a wall clock with an offset and steps (C1, C3), and a drift of both (C2); the monotonic one never goes back.
//!
//! Under `--cfg madsim` the loop is the one root task of a madsim runtime, which answers what libraries ask of libc
//! (clocks, entropy) from the seed; see [`root`]. That is the only place that names madsim. Without the cfg the same loop
//! runs in ordinary tests.

mod root;
mod trace;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use types::{Instant, Timestamp};

pub use root::run;
pub use trace::{EVENTS_PER_MARK, Event, Trace};

use crate::decisions::{Decisions, Kind, Subsystem};

/// What one poll costs in virtual time.
const POLL_NANOS: u64 = 1_000;
/// Wall time at the start of every run: 2026-01-01.
const WALL_START_MS: i64 = 1_767_225_600_000;

/// True time of the run in this process, for the log that a replay shows; nothing else reads it.
static LOG_TIME: AtomicU64 = AtomicU64::new(0);

/// True time of the run in this process, for logs.
pub fn log_time() -> Duration {
    Duration::from_nanos(LOG_TIME.load(Ordering::Relaxed))
}

/// A node of the simulated world. Node 0 is the harness itself: it never dies.
pub type Node = u32;

/// Why a run ended before its scenario did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Number of the rule in CORRECTNESS, or `panic`, `livelock`, `stuck`.
    pub rule: String,
    /// What was seen.
    pub text: String,
}

type BoxedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    number: u64,
    node: Node,
    name: &'static str,
    queued: AtomicBool,
    future: Mutex<Option<BoxedFuture>>,
    ready: Arc<Mutex<VecDeque<Arc<Task>>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = self.ready.clone();
            lock(&ready).push_back(self);
        }
    }
}

/// Clocks of one node relative to true time, linear since `since`.
#[derive(Clone, Copy)]
struct Rates {
    since: u64,
    local: u64,
    drift_ppm: i64,
    wall_offset_ms: i64,
}

impl Rates {
    fn local(&self, now: u64) -> u64 {
        let elapsed = i128::from(now.saturating_sub(self.since));
        let drifted = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        self.local + u64::try_from(drifted).unwrap_or(0)
    }

    /// The first true time at which the local clock has reached `deadline`.
    fn true_time(&self, deadline: u64) -> u64 {
        let wanted = u128::from(deadline.saturating_sub(self.local));
        let rate = u128::try_from(1_000_000 + i128::from(self.drift_ppm)).unwrap_or(1);
        let elapsed = (wanted * 1_000_000).div_ceil(rate);
        self.since.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

struct NodeState {
    name: String,
    incarnation: u64,
    alive: bool,
    paused: bool,
    parked: Vec<Arc<Task>>,
    tasks: BTreeMap<u64, Arc<Task>>,
    rates: Rates,
    died: Arc<Notify>,
}

struct Core {
    nodes: BTreeMap<Node, NodeState>,
    timers: BTreeMap<(u64, u64), Waker>,
    timers_started: u64,
    tasks_started: u64,
    polls: u64,
    dying: Vec<Node>,
    violation: Option<Violation>,
    trace: Trace,
    marks: BTreeMap<&'static str, u64>,
}

struct Shared {
    core: Mutex<Core>,
    ready: Arc<Mutex<VecDeque<Arc<Task>>>>,
    now: AtomicU64,
    decisions: Decisions,
    scheduler: Decisions,
}

/// The simulated world; clones see the same one.
#[derive(Clone)]
pub struct World(Arc<Shared>);

/// Bounds of one run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Virtual time.
    pub time: Duration,
    /// Polls of tasks.
    pub polls: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { time: Duration::from_secs(3600), polls: 30_000_000 }
    }
}

impl World {
    /// A world with the harness node alone.
    pub fn new(decisions: &Decisions) -> World {
        let core = Core {
            nodes: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_started: 0,
            tasks_started: 0,
            polls: 0,
            dying: Vec::new(),
            violation: None,
            trace: Trace::default(),
            marks: BTreeMap::new(),
        };
        let world = World(Arc::new(Shared {
            core: Mutex::new(core),
            ready: Arc::default(),
            now: AtomicU64::new(0),
            decisions: decisions.clone(),
            scheduler: decisions.stream(0, Subsystem::Scheduler),
        }));
        world.add_node(0, "harness");
        world
    }

    /// The choices of this run.
    pub fn decisions(&self) -> &Decisions {
        &self.0.decisions
    }

    /// Adds a node with true clocks.
    pub fn add_node(&self, node: Node, name: &str) {
        let rates = Rates {
            since: self.now_nanos(),
            local: self.now_nanos(),
            drift_ppm: 0,
            wall_offset_ms: 0,
        };
        let state = NodeState {
            name: name.to_owned(),
            incarnation: 0,
            alive: true,
            paused: false,
            parked: Vec::new(),
            tasks: BTreeMap::new(),
            rates,
            died: Arc::default(),
        };
        self.core().nodes.insert(node, state);
    }

    /// True time since the start of the run.
    pub fn now_nanos(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// True time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now_nanos())
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.core().polls
    }

    /// Runs a task on a node; without effect when the node is dead.
    pub fn spawn(
        &self,
        node: Node,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = {
            let mut core = self.core();
            core.tasks_started += 1;
            let number = core.tasks_started;
            let state = core.nodes.get_mut(&node).expect("tasks run on nodes that were added");
            if !state.alive {
                return;
            }
            let task = Arc::new(Task {
                number,
                node,
                name,
                queued: AtomicBool::new(false),
                future: Mutex::new(Some(Box::pin(future))),
                ready: self.0.ready.clone(),
            });
            state.tasks.insert(number, task.clone());
            task
        };
        task.wake();
    }

    /// Kills a node's process at once: all its tasks are dropped. Not for the node that is running right now.
    pub fn kill(&self, node: Node) {
        let tasks = {
            let mut core = self.core();
            let Some(state) = core.nodes.get_mut(&node) else { return };
            state.alive = false;
            state.paused = false;
            state.incarnation += 1;
            let parked = std::mem::take(&mut state.parked);
            drop(parked);
            std::mem::take(&mut state.tasks)
        };
        self.trace(node, Event::Node, 1);
        for task in tasks.into_values() {
            let future = lock(&task.future).take();
            drop(future);
        }
    }

    /// Kills a node as soon as the task that asks has returned; for a process that ends by itself, or crashes in the
    /// middle of an operation.
    pub fn kill_soon(&self, node: Node) {
        self.core().dying.push(node);
    }

    /// Completes when the node has ended by itself ([`World::kill_soon`]) and has not been revived since.
    pub async fn death(&self, node: Node) {
        let died = self.core().nodes.get(&node).map(|state| state.died.clone());
        match died {
            Some(died) => died.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Lets a killed node run tasks again.
    pub fn revive(&self, node: Node) {
        if let Some(state) = self.core().nodes.get_mut(&node) {
            state.alive = true;
            state.died = Arc::default();
        }
        self.trace(node, Event::Node, 2);
    }

    /// Whether a node's process runs.
    pub fn is_alive(&self, node: Node) -> bool {
        self.core().nodes.get(&node).is_some_and(|state| state.alive)
    }

    /// Stops a node while time goes on (K2).
    pub fn pause(&self, node: Node) {
        if let Some(state) = self.core().nodes.get_mut(&node) {
            state.paused = true;
        }
        self.trace(node, Event::Node, 3);
    }

    /// Ends a pause.
    pub fn resume(&self, node: Node) {
        let parked = match self.core().nodes.get_mut(&node) {
            Some(state) => {
                state.paused = false;
                std::mem::take(&mut state.parked)
            }
            None => return,
        };
        self.trace(node, Event::Node, 4);
        lock(&self.0.ready).extend(parked);
    }

    /// Puts a node's wall clock right.
    pub fn reset_wall(&self, node: Node) {
        let now = self.now_nanos();
        if let Some(state) = self.core().nodes.get_mut(&node) {
            let drifted = (state.rates.local(now) / 1_000_000) as i64;
            state.rates.wall_offset_ms = (now / 1_000_000) as i64 - drifted;
        }
    }

    /// Moves a node's wall clock (C1, C3).
    pub fn step_wall(&self, node: Node, millis: i64) {
        if let Some(state) = self.core().nodes.get_mut(&node) {
            state.rates.wall_offset_ms += millis;
        }
    }

    /// Lets a node's clocks run faster or slower from now on (C2).
    pub fn set_drift(&self, node: Node, ppm: i64) {
        let now = self.now_nanos();
        if let Some(state) = self.core().nodes.get_mut(&node) {
            let local = state.rates.local(now);
            state.rates = Rates { since: now, local, drift_ppm: ppm, ..state.rates };
        }
    }

    /// The clocks of a node.
    pub fn clock(&self, node: Node) -> SimClock {
        SimClock { world: self.clone(), node }
    }

    /// Completes after `duration` of true time.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until_nanos(self.now_nanos().saturating_add(nanos))
    }

    /// Completes at a true time.
    pub fn sleep_until_nanos(&self, deadline: u64) -> Sleep {
        Sleep { world: self.clone(), deadline, timer: None }
    }

    /// Adds to the trace hash.
    pub fn trace(&self, node: Node, event: Event, value: u64) {
        let now = self.now_nanos();
        self.core().trace.add(now, node, event, value);
    }

    /// The trace so far.
    pub fn trace_so_far(&self) -> Trace {
        self.core().trace.clone()
    }

    /// Something worth seeing at least sometimes has happened.
    pub fn mark(&self, name: &'static str) {
        debug_assert!(crate::mark::ALL.contains(&name), "mark {name} is not in the list");
        *self.core().marks.entry(name).or_default() += 1;
    }

    /// What has been marked.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.core().marks.clone()
    }

    /// Reports a broken rule and ends the run. The first one counts.
    pub fn violation(&self, rule: &str, text: String) {
        let mut core = self.core();
        if core.violation.is_none() {
            core.violation = Some(Violation { rule: rule.to_owned(), text });
        }
    }

    /// The violation, if there was one.
    pub fn violated(&self) -> Option<Violation> {
        self.core().violation.clone()
    }

    /// The loop. Returns when `main` has ended, a rule is broken, or a limit is reached (which is a violation too).
    fn drive(
        &self,
        limits: Limits,
        main: impl Future<Output = ()> + Send + 'static,
        advance: impl Fn(Duration),
    ) {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        self.spawn(0, "scenario", async move {
            main.await;
            flag.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) && self.violated().is_none() {
            self.bury();
            self.fire();
            match self.pick() {
                Some(task) => self.poll(&task),
                None if self.jump(&advance) => {}
                None => self.violation("stuck", "nothing is ready and no timer is set".into()),
            }
            let polls = self.core().polls;
            if polls > limits.polls {
                self.violation("livelock", format!("{polls} polls without an end"));
            }
            if self.elapsed() > limits.time {
                self.violation("L", format!("the scenario did not end in {:?}", limits.time));
            }
        }
        self.finish();
    }

    /// Drops every task, so that destructors run inside the run.
    fn finish(&self) {
        let nodes: Vec<Node> = self.core().nodes.keys().copied().collect();
        for node in nodes {
            self.kill(node);
        }
        lock(&self.0.ready).clear();
        self.core().timers.clear();
    }

    fn bury(&self) {
        loop {
            let Some(node) = self.core().dying.pop() else { return };
            self.kill(node);
            if let Some(state) = self.core().nodes.get(&node) {
                state.died.notify_one();
            }
        }
    }

    /// Wakes what is due.
    fn fire(&self) {
        let now = self.now_nanos();
        loop {
            let waker = {
                let mut core = self.core();
                match core.timers.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    /// Jumps to the next timer.
    fn jump(&self, advance: &impl Fn(Duration)) -> bool {
        let next = self.core().timers.keys().next().map(|(at, _)| *at);
        let Some(at) = next else { return false };
        let now = self.now_nanos();
        if at > now {
            self.0.now.store(at, Ordering::Relaxed);
            LOG_TIME.store(at, Ordering::Relaxed);
            advance(Duration::from_nanos(at - now));
        }
        true
    }

    fn pick(&self) -> Option<Arc<Task>> {
        let mut ready = lock(&self.0.ready);
        let choice = self.0.scheduler.choose(Kind::Task, ready.len() as u64);
        ready.remove(choice as usize)
    }

    fn poll(&self, task: &Arc<Task>) {
        {
            let mut core = self.core();
            core.polls += 1;
            let now = self.now_nanos();
            let Some(state) = core.nodes.get_mut(&task.node) else { return };
            if state.paused {
                state.parked.push(task.clone());
                return;
            }
            if !state.tasks.contains_key(&task.number) {
                return;
            }
            core.trace.add(now, task.node, Event::Poll, task.number);
        }
        task.queued.store(false, Ordering::Relaxed);
        self.0.now.fetch_add(POLL_NANOS, Ordering::Relaxed);
        let waker = Waker::from(task.clone());
        let mut context = Context::from_waker(&waker);
        let mut slot = lock(&task.future);
        let Some(future) = slot.as_mut() else { return };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                *slot = None;
                if let Some(state) = self.core().nodes.get_mut(&task.node) {
                    state.tasks.remove(&task.number);
                }
            }
            Err(panic) => {
                let name =
                    self.core().nodes.get(&task.node).map(|n| n.name.clone()).unwrap_or_default();
                let text = format!("{} on {name} panicked: {}", task.name, message(&*panic));
                self.violation("panic", text);
            }
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.0.core)
    }
}

/// The clocks of one node.
#[derive(Clone)]
pub struct SimClock {
    world: World,
    node: Node,
}

impl SimClock {
    fn rates(&self) -> Rates {
        let zero = Rates { since: 0, local: 0, drift_ppm: 0, wall_offset_ms: 0 };
        self.world.core().nodes.get(&self.node).map_or(zero, |state| state.rates)
    }
}

impl env::Clock for SimClock {
    fn now(&self) -> Instant {
        Instant(self.rates().local(self.world.now_nanos()))
    }

    fn timestamp(&self) -> Timestamp {
        let rates = self.rates();
        let local = rates.local(self.world.now_nanos());
        Timestamp(WALL_START_MS + rates.wall_offset_ms + (local / 1_000_000) as i64)
    }

    async fn sleep_until(&self, deadline: Instant) {
        // The drift may change meanwhile: look again after waking.
        while self.now() < deadline {
            self.world.sleep_until_nanos(self.rates().true_time(deadline.0)).await;
        }
    }
}

impl crate::disk::Pace for SimClock {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.world.sleep(duration))
    }

    fn now(&self) -> Instant {
        env::Clock::now(self)
    }

    fn crashed(&self) {
        self.world.mark("crash at an I/O operation");
        self.world.kill_soon(self.node);
    }
}

/// Where the tasks of one node run.
#[derive(Clone)]
pub struct SimSpawn {
    world: World,
    node: Node,
    /// How long computations take.
    effort: Decisions,
}

impl SimSpawn {
    /// The spawner of a node.
    pub fn new(world: &World, node: Node) -> SimSpawn {
        let effort = world.decisions().stream(node, Subsystem::Effort);
        SimSpawn { world: world.clone(), node, effort }
    }
}

impl env::Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.world.spawn(self.node, name, future);
    }

    /// Whatever else is ready runs meanwhile, and what was asked for later may be done first: a real node computes one at
    /// a time, but what it is asked for has no order to rely on.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let millis = [0, 2, 50, 1_000][self.effort.choose(Kind::Delay, 4) as usize];
        let nanos = self.effort.choose(Kind::Delay, millis * 1_000_000 + 1);
        self.world.sleep(Duration::from_nanos(nanos)).await;
        self.world.mark("computed beside others");
        work()
    }
}

/// Waits for a true time.
pub struct Sleep {
    world: World,
    deadline: u64,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.world.now_nanos() >= self.deadline {
            return Poll::Ready(());
        }
        if self.deadline == u64::MAX {
            return Poll::Pending;
        }
        let world = self.world.clone();
        let mut core = world.core();
        let number = match self.timer {
            Some(number) => number,
            None => {
                core.timers_started += 1;
                core.timers_started
            }
        };
        self.timer = Some(number);
        core.timers.insert((self.deadline, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.timer {
            self.world.core().timers.remove(&(self.deadline, number));
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let place = root::panic_place();
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    };
    format!("{text} ({place})")
}

/// A panic while a lock is held is a violation already reported; the data stays readable for the report.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
