//! A log directory without a network: everything `log` promises, under disk faults, crashes and power cuts.
//!
//! The ghost knows every batch ever appended and every end ever announced. After each death the recovered logs are
//! compared with it, and now and then a copy of the disk is cut from power while the process goes on (I9).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use env::{Clock, Env};
use log::{
    Append, AppendError, ChangeError, Durability, Log, LogConfig, LogDir, LogDirOptions, LogSpec,
    Origin, Quarantined, Read, ReadError, Replicated,
};
use record::{Batch, BatchBuilder, BatchOptions, Codec, Compression, ProducerStamp};
use tokio::sync::{RwLock, watch};
use types::{
    DirectoryId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Timestamp, TopicId, Uuid,
};

use crate::checker::storage::{
    Before, EndsSeen, Expected, Fit, Retention, Seen, Stamp, e37_retained, i1_checksums,
    i2_contiguous, i2_fit, i3_epochs, i4_epoch_cache, i7_recovered, i10_no_progress, i11_ends,
    i13_unchanged, i47_sequences, i49_expected, i81_start,
};
use crate::checker::{Verdict, require};
use crate::decisions::{Decisions, Kind};
use crate::disk::{DiskFault, FaultRates, SimDisk};
use crate::exec::{Node, lock};
use crate::fault::FaultKind;
use crate::harness::{Stage, view};
use crate::plain::{self, ManualClock};
use crate::world::SimEnv;

const NODE: Node = 1;
const PATH: &str = "/data";
const LOGS: u64 = 4;

fn directory_id() -> DirectoryId {
    DirectoryId(Uuid::from_random([7; 16]))
}

/// One log as it should be.
struct Ghost {
    topic_id: TopicId,
    page_cache: bool,
    batches: Vec<Seen>,
    start: i64,
    start_asked: i64,
    durable: i64,
    written: i64,
    ends: Option<EndsSeen>,
    truncating: Option<i64>,
    resetting: Option<i64>,
    /// A power cut or a disk error may have dropped written pages since the log was last recovered; a start that dies
    /// before it has looked at the log leaves that as it is.
    dropped: bool,
    /// Where truncations of this incarnation cut, the one under way included; of a reset, below everything.
    cuts: Vec<i64>,
    epoch: i32,
    /// Batches that can be sent again, newest last.
    sent: Vec<Batch>,
    /// Its records bear no timestamps (E37).
    undated: bool,
    /// The broker's time of each append, by base offset.
    appended: BTreeMap<i64, i64>,
    /// Producers that may have expired.
    forgotten: BTreeSet<i64>,
    producers: BTreeMap<i64, i16>,
    changed: watch::Sender<u64>,
    gate: Arc<RwLock<()>>,
}

/// What is asked of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    Creating,
    There,
    Deleting,
}

#[derive(Default)]
struct Ghosts {
    logs: BTreeMap<String, (Presence, Ghost)>,
    /// The directory has failed in this incarnation.
    failed: bool,
    /// Errors of the disk before it.
    errors: u64,
    topics: u64,
    next_producer: i64,
}

#[derive(Clone)]
struct Play {
    stage: Stage,
    ghosts: Arc<Mutex<Ghosts>>,
}

/// The scenario.
pub async fn play(stage: Stage) {
    let world = stage.world.clone();
    world.add_node(NODE, "log directory");
    let disk = SimDisk::of_node(world.decisions(), NODE);
    disk.set_pace(Arc::new(world.clock(NODE)), stage.scenario.disk_latency);
    let play = Play { stage: stage.clone(), ghosts: Arc::default() };
    let disk = play.troubled(disk).await;
    play.quiet(&disk).await;
    play.rot(&disk).await;
    stage.count_disk(disk.counts());
}

impl Play {
    /// Faults strike, the process dies and comes back.
    async fn troubled(&self, mut disk: SimDisk) -> SimDisk {
        let stage = &self.stage;
        let dice = stage.nemesis();
        let end = stage.world.elapsed() + stage.scenario.fault_time;
        while stage.world.elapsed() < end {
            disk.set_rates(stage.scenario.disk.clone());
            self.begin(&disk);
            let life = Duration::from_nanos(
                dice.choose(Kind::Fault, 2 * stage.scenario.blow_mean.as_nanos() as u64 + 1),
            );
            if stage.scenario.has(FaultKind::Crash) && dice.choose(Kind::Fault, 3) == 0 {
                // Early ones hit recovery itself (I6).
                let scale = [10, 100, 2_000][dice.choose(Kind::Fault, 3) as usize];
                disk.crash_at(dice.choose(Kind::Fault, scale));
            }
            self.live(&disk, life, &dice).await;
            let cut = stage.scenario.has(FaultKind::PowerCut)
                && dice.choose(Kind::Fault, 1000) < stage.scenario.power_cuts;
            disk = self.die(disk, cut);
            stage.world.sleep(Duration::from_millis(dice.choose(Kind::Fault, 500))).await;
        }
        disk
    }

    /// Lets the process run for `life`, or until it dies of itself.
    async fn live(&self, disk: &SimDisk, life: Duration, dice: &Decisions) {
        let stage = &self.stage;
        let end = stage.world.elapsed() + life;
        while stage.world.elapsed() < end && stage.world.is_alive(NODE) {
            let pause = Duration::from_millis(100 + dice.choose(Kind::Fault, 1500));
            let left = end.saturating_sub(stage.world.elapsed());
            tokio::select! {
                biased;
                () = stage.world.death(NODE) => return,
                () = stage.world.sleep(pause.min(left)) => {}
            }
            match dice.choose(Kind::Fault, 6) {
                0 if stage.scenario.has(FaultKind::NoSpace) => self.fill(disk, dice).await,
                1 if stage.scenario.has(FaultKind::Pause) => {
                    stage.world.pause(NODE);
                    stage.struck(FaultKind::Pause);
                    stage.world.sleep(Duration::from_millis(dice.choose(Kind::Fault, 3_000))).await;
                    stage.world.resume(NODE);
                }
                2 | 3 => self.be_honest(disk, dice.choose(Kind::Survival, u64::MAX)),
                4 if stage.scenario.has(FaultKind::WallStep) => {
                    let day = 86_400_000;
                    let step = dice.choose(Kind::Fault, 2 * day) as i64 - day as i64;
                    stage.world.step_wall(NODE, step);
                    stage.struck(FaultKind::WallStep);
                }
                5 if stage.scenario.has(FaultKind::Drift) => {
                    stage.world.set_drift(NODE, dice.choose(Kind::Fault, 2_001) as i64 - 1_000);
                    stage.struck(FaultKind::Drift);
                }
                _ => {}
            }
        }
    }

    /// Somebody else takes nearly all space for a while (D5).
    async fn fill(&self, disk: &SimDisk, dice: &Decisions) {
        disk.fill(dice.choose(Kind::Fault, 400_000));
        self.stage.world.sleep(Duration::from_millis(dice.choose(Kind::Fault, 2_000))).await;
        disk.set_space(1 << 40, 0);
    }

    fn die(&self, disk: SimDisk, cut: bool) -> SimDisk {
        let stage = &self.stage;
        stage.world.kill(NODE);
        stage.struck(FaultKind::Crash);
        let had_errors = self.had_errors(&disk);
        let next = if cut { disk.power_cut() } else { disk.kill() };
        stage.world.mark(if cut { "power cut" } else { "kill" });
        if let Some(file) = next.files().first() {
            _ = next.mend(&file.0);
        }
        for (path, _) in next.files() {
            _ = next.mend(&path);
        }
        next.set_space(1 << 40, 0);
        let mut ghosts = lock(&self.ghosts);
        ghosts.failed = false;
        for (_, ghost) in ghosts.logs.values_mut() {
            ghost.dropped |= cut || had_errors;
        }
        stage.world.revive(NODE);
        next
    }

    /// Errors of the disk so far that may have dropped written pages.
    fn errors(disk: &SimDisk) -> u64 {
        let dropping = [
            DiskFault::FailedSync,
            DiskFault::ErrorOnce,
            DiskFault::ErrorSticky,
            DiskFault::NoSpace,
        ];
        dropping.iter().map(|fault| disk.counts().of(*fault)).sum()
    }

    /// Whether one has struck this process.
    fn had_errors(&self, disk: &SimDisk) -> bool {
        Play::errors(disk) > lock(&self.ghosts).errors
    }

    /// Starts the process.
    fn begin(&self, disk: &SimDisk) {
        lock(&self.ghosts).errors = Play::errors(disk);
        let env = SimEnv::new(&self.stage.world, &self.stage.network, disk, NODE);
        let play = self.clone();
        self.stage.spawn(NODE, "process", async move { play.process(env).await });
    }

    fn options(&self) -> LogDirOptions {
        let (file, max) = self.stage.scenario.journal_bytes;
        let ghosts = lock(&self.ghosts);
        let epoch = |(_, ghost): &(Presence, Ghost)| {
            ((ghost.topic_id, PartitionIndex(0)), LeaderEpoch(ghost.epoch))
        };
        LogDirOptions {
            newest_epochs: Arc::new(ghosts.logs.values().map(epoch).collect()),
            journal_file_bytes: file,
            journal_bytes_max: max,
            sync_timeout: Duration::from_secs(10),
            space_reserve: 256 << 10,
            ballast_bytes: 256 << 10,
            scrub_rate: Some(256 << 10),
            scrub_interval: Duration::from_secs(5),
            ..LogDirOptions::default()
        }
    }

    fn config(&self, page_cache: bool) -> LogConfig {
        let scenario = &self.stage.scenario;
        let small = !scenario.production;
        LogConfig {
            durability: if page_cache { Durability::PageCache } else { Durability::Sync },
            segment_bytes: scenario.segment_bytes,
            index_interval_bytes: if small { 200 } else { 4096 },
            index_bytes: if small { 1 << 10 } else { 10 << 20 },
            retention_bytes: small.then_some(40 * u64::from(scenario.segment_bytes)),
            retention_ms: Some(Duration::from_secs(if small { 6 * 3600 } else { 7 * 24 * 3600 })),
            segment_ms: if small {
                Duration::from_secs(20)
            } else {
                Duration::from_secs(7 * 24 * 3600)
            },
            delete_delay: Duration::from_secs(1),
            ..LogConfig::default()
        }
    }

    async fn process(&self, env: SimEnv) {
        let stage = &self.stage;
        let path = Path::new(PATH);
        let opened =
            LogDir::open(env.disk().clone(), env.clock(), path, directory_id(), self.options())
                .await;
        let dir = match opened {
            Ok(dir) => dir,
            Err(error) => {
                stage.world.mark("recovery met a disk error");
                let excused = stage.scenario.faults.iter().any(|kind| {
                    matches!(kind.code(), "D2" | "D3" | "D4" | "D5" | "D6" | "D9" | "D10")
                });
                stage.judge(require("L", excused, || {
                    format!("the directory does not open: {error}")
                }));
                return;
            }
        };
        if dir.recovery().torn_bytes > 0 {
            stage.world.mark("torn tail");
        }
        if dir.recovery().journal_bytes > 0 {
            stage.world.mark("journal replayed");
        }
        {
            let (dir, clock) = (dir.clone(), env.clock().clone());
            stage.spawn(NODE, "committer", async move { dir.run(clock).await });
        }
        {
            let (dir, clock) = (dir.clone(), env.clock().clone());
            stage.spawn(NODE, "scrubber", async move { dir.scrub(clock).await });
        }
        self.watch_failure(&dir);
        if !self.adopt(&dir).await || !self.configure(&dir).await {
            return;
        }
        self.work(&env, &dir).await;
    }

    /// A directory does not store the settings of its logs: their owner tells them again after each start.
    async fn configure(&self, dir: &LogDir<SimDisk>) -> bool {
        for (name, log) in view::logs_by_name(dir) {
            let page_cache = log.config().durability == Durability::PageCache;
            if let Err(error) = log.set_config(self.config(page_cache)).await {
                return self.excused_change("configure", &name, &error);
            }
        }
        true
    }

    fn watch_failure(&self, dir: &LogDir<SimDisk>) {
        let (play, mut failure) = (self.clone(), dir.failure());
        self.stage.spawn(NODE, "failure", async move {
            if failure.wait_for(Option::is_some).await.is_ok() {
                play.stage.world.mark("directory offline");
                lock(&play.ghosts).failed = true;
                // The owner notices a little later and ends the process.
                play.stage.world.sleep(Duration::from_millis(300)).await;
                play.stage.world.kill_soon(NODE);
            }
        });
    }

    /// Compares what was recovered with the ghosts, and lets them continue from there.
    async fn adopt(&self, dir: &LogDir<SimDisk>) -> bool {
        let found = view::logs_by_name(dir);
        let mut names: Vec<String> = lock(&self.ghosts).logs.keys().cloned().collect();
        names
            .extend(found.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        for name in names {
            let Some(batches) = self.read_back(&name, found.get(&name)).await else { return false };
            let mut ghosts = lock(&self.ghosts);
            let known = ghosts.logs.get(&name);
            let dropped = known.is_some_and(|(_, ghost)| ghost.dropped);
            let verdict = judge_recovered(&name, known, found.get(&name), &batches, dropped);
            if !self.excuse(dir, verdict) {
                return false;
            }
            let Some(log) = found.get(&name) else {
                ghosts.logs.remove(&name);
                continue;
            };
            if let Some((presence, ghost)) = ghosts.logs.get_mut(&name) {
                *presence = Presence::There;
                ghost.continue_from(log, batches);
            }
            drop(ghosts);
            self.listen(&name, log);
        }
        true
    }

    /// Beyond the promise a loss is allowed if it is reported.
    fn excuse(&self, dir: &LogDir<SimDisk>, verdict: Verdict) -> bool {
        let reported = !dir.recovery().intact;
        match verdict {
            Err(broken) if self.stage.scenario.is_beyond_promise() && broken.rule != "I1" => {
                self.stage.world.mark(if reported {
                    "loss reported"
                } else {
                    "loss in the last group"
                });
                // What follows would only repeat the loss.
                false
            }
            verdict => self.stage.judge(verdict),
        }
    }

    /// All batches of a log; reads may fail under faults and are tried again. `None`: the run or the process is over.
    async fn read_back(&self, name: &str, log: Option<&Log<SimDisk>>) -> Option<Vec<Seen>> {
        let Some(log) = log else { return Some(Vec::new()) };
        for _ in 0..100 {
            match view::read_all(log, 30_000).await {
                Ok(batches) => return Some(batches),
                Err(ReadError::Io(_)) => self.stage.world.sleep(Duration::from_millis(10)).await,
                Err(ReadError::Quarantined(range)) if range.is_unreadable => {
                    self.stage.world.sleep(Duration::from_millis(500)).await;
                }
                Err(ReadError::Offline) => return None,
                Err(error) if self.stage.scenario.is_beyond_promise() => {
                    self.stage.world.mark("damage reported to a reader");
                    _ = error;
                    return None;
                }
                Err(error) => {
                    self.stage.judge(require("I1", false, || {
                        format!("{name}: cannot be read back: {error}")
                    }));
                    return None;
                }
            }
        }
        None
    }

    fn listen(&self, name: &str, log: &Log<SimDisk>) {
        let (play, name) = (self.clone(), name.to_owned());
        let hear = move |ends: log::Ends| play.heard(&name, view::ends_seen(&ends));
        log.set_listener(Arc::new(hear));
        self.heard(&log.topic_partition().to_string(), view::ends_seen(&log.ends()));
    }

    /// An end was announced.
    fn heard(&self, name: &str, ends: EndsSeen) {
        let mut ghosts = lock(&self.ghosts);
        let failed = ghosts.failed;
        let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
        let is_cut = ghost.is_being_cut();
        let earlier = ghost.ends.filter(|_| !is_cut);
        let verdict = i11_ends(name, earlier, ends)
            .map_err(|mut broken| {
                broken.text += &format!(
                    " (page-cache {}, truncating {:?}, resetting {:?})",
                    ghost.page_cache, ghost.truncating, ghost.resetting
                );
                broken
            })
            .and_then(|()| i10_no_progress(name, failed, ghost.durable.max(0), ends.durable));
        ghost.ends = Some(ends);
        if !is_cut {
            ghost.durable = ghost.durable.max(ends.durable);
            ghost.written = ghost.written.max(ends.written);
        }
        if ghost.resetting.is_none() {
            ghost.start = ghost.start.max(ends.start);
        }
        ghost.changed.send_modify(|count| *count += 1);
        drop(ghosts);
        self.stage.judge(verdict);
    }

    /// What a power cut right now would leave must be what was announced (I9), also when recovery crashes once (I6).
    fn be_honest(&self, disk: &SimDisk, seed: u64) {
        if self.stage.scenario.is_beyond_promise() || !self.stage.world.is_alive(NODE) {
            return;
        }
        self.rot_epoch(disk, seed);
        let mut cut = disk.fork(seed).power_cut();
        for (path, _) in cut.files() {
            _ = cut.mend(&path);
        }
        let clock = ManualClock::new();
        let dice = Decisions::new(seed);
        if dice.choose(Kind::Fault, 3) == 0 {
            cut.crash_at(dice.choose(Kind::Fault, 60));
            _ = plain::run(&clock, self.open_quietly(&cut, &clock));
            cut = cut.power_cut();
            self.stage.world.mark("recovery crashed and was repeated");
        }
        let outcome = plain::run(&clock, async {
            let dir = self.open_quietly(&cut, &clock).await.map_err(|error| error.to_string())?;
            let mut found = BTreeMap::new();
            for (name, log) in view::logs_by_name(&dir) {
                let batches = view::read_all(&log, 50_000).await.map_err(|error| {
                    let ends = log.ends();
                    let ghosts = lock(&self.ghosts);
                    let known = ghosts.logs.get(&name).map(|(_, ghost)| {
                        (ghost.page_cache, ghost.durable, ghost.written, ghost.end(), ghost.truncating)
                    });
                    format!("{name}: {error} (ends {ends:?}; before: page-cache, durable, written, end, truncating = {known:?})")
                })?;
                found.insert(name, (log, batches));
            }
            Ok::<_, String>(found)
        });
        self.stage.world.mark("honesty checked");
        let found = match outcome {
            Ok(found) => found,
            Err(text) => {
                self.stage.judge(require("I9", false, || {
                    format!("a copy cut from power does not open: {text}")
                }));
                return;
            }
        };
        let ghosts = lock(&self.ghosts);
        for (name, log) in &ghosts.logs {
            let (recovered, batches) = match found.get(name) {
                Some((recovered, batches)) => (Some(recovered), batches.as_slice()),
                None => (None, [].as_slice()),
            };
            let verdict = judge_recovered(name, Some(log), recovered, batches, true);
            let verdict = verdict.map_err(|mut broken| {
                broken.text = format!("if the power failed now: {}", broken.text);
                broken
            });
            if !self.stage.judge(verdict) {
                return;
            }
        }
    }

    async fn open_quietly(
        &self,
        disk: &SimDisk,
        clock: &ManualClock,
    ) -> Result<LogDir<SimDisk>, log::OpenError> {
        LogDir::open(disk.clone(), clock, Path::new(PATH), directory_id(), self.options()).await
    }

    /// No more faults: everything must work, be whole, and stop cleanly.
    async fn quiet(&self, disk: &SimDisk) {
        let stage = &self.stage;
        if stage.world.violated().is_some() || stage.scenario.is_beyond_promise() {
            return;
        }
        disk.set_rates(FaultRates::default());
        let env = SimEnv::new(&stage.world, &stage.network, disk, NODE);
        for round in 0..2 {
            let opened = LogDir::open(
                disk.clone(),
                env.clock(),
                Path::new(PATH),
                directory_id(),
                self.options(),
            )
            .await;
            let dir = match opened {
                Ok(dir) => dir,
                Err(error) => {
                    stage.judge(require("L4", false, || {
                        format!("the directory does not open: {error}")
                    }));
                    return;
                }
            };
            let clean = dir.recovery().clean;
            let verdict = require("I6", round == 0 || clean, || {
                "a clean stop was not recognised as one".to_owned()
            });
            if !stage.judge(verdict) {
                return;
            }
            let (running, clock) = (dir.clone(), env.clock().clone());
            stage.spawn(NODE, "committer", async move { running.run(clock).await });
            if !self.adopt(&dir).await {
                return;
            }
            for (name, log) in view::logs_by_name(&dir) {
                if let Some(batches) = self.read_back(&name, Some(&log)).await {
                    let ghosts = lock(&self.ghosts);
                    let forgotten =
                        ghosts.logs.get(&name).map(|(_, ghost)| ghost.forgotten.clone());
                    drop(ghosts);
                    let forgotten = forgotten.unwrap_or_default();
                    stage.judge(judge_whole(&name, &log, &batches, &forgotten));
                }
            }
            let closed = dir.close().await;
            stage.judge(require("L4", closed.is_ok(), || {
                format!("a clean stop failed: {closed:?}")
            }));
        }
        stage.world.mark("clean stop");
    }
}

/// Judges one recovered log, or its absence.
fn judge_recovered(
    name: &str,
    known: Option<&(Presence, Ghost)>,
    log: Option<&Log<SimDisk>>,
    batches: &[Seen],
    dropped: bool,
) -> Verdict {
    let Some((presence, ghost)) = known else {
        return require("I12", log.is_none(), || {
            format!("{name} was never created, or had been deleted")
        });
    };
    let Some(log) = log else {
        return require("I7", *presence != Presence::There, || format!("{name} is gone"));
    };
    if log.topic_id() != ghost.topic_id {
        return require("I44", false, || format!("{name} is another topic now"));
    }
    let ends = log.ends();
    let before = Before {
        batches: ghost.batches.clone(),
        // What a kill must not take from a page-cache log is more than what a sync log promises.
        must_end: if dropped || !ghost.page_cache {
            ghost.durable
        } else {
            ghost.written.max(ghost.durable)
        },
        start: ghost.start,
        start_asked: ghost.start_asked,
        truncating: ghost.truncating,
        resetting: ghost.resetting,
        note: format!(
            "page-cache {}, durable {}, written {}, power cut or errors {dropped}, stable now {}",
            ghost.page_cache, ghost.durable, ghost.written, ends.stable
        ),
    };
    i1_checksums(name, batches)?;
    i3_epochs(name, batches)?;
    i7_recovered(name, &before, ends.log_start.0, ends.log_end.0, batches)?;
    judge_whole(name, log, batches, &ghost.forgotten)
}

/// Rules over a whole log as read from its start.
fn judge_whole(
    name: &str,
    log: &Log<SimDisk>,
    batches: &[Seen],
    forgotten: &BTreeSet<i64>,
) -> Verdict {
    let ends = log.ends();
    i1_checksums(name, batches)?;
    if let Some(first) = batches.first() {
        i2_contiguous(name, ends.log_start.0.max(first.base), batches)?;
    }
    i3_epochs(name, batches)?;
    // A producer that is not known may begin anywhere (P6), and the workload has such; one that was forgotten may even
    // write again what it wrote.
    let is_known = |batch: &&Seen| batch.stamp.is_none_or(|stamp| !forgotten.contains(&stamp.id));
    let known: Vec<Seen> = batches.iter().filter(is_known).copied().collect();
    i47_sequences(name, &known, false)?;
    judge_epochs(name, log, batches)
}

/// What the epoch cache answers, against the readable batches (I4).
fn judge_epochs(name: &str, log: &Log<SimDisk>, batches: &[Seen]) -> Verdict {
    let asked = |epoch: i32| {
        let end = log.end_of_epoch(LeaderEpoch(epoch));
        (epoch, end.map(|(epoch, end)| (epoch.0, end.0)))
    };
    // Nobody's epoch is asked for as well.
    let epochs = batches.iter().map(|batch| batch.epoch).chain([-1]);
    let answers: Vec<_> = epochs.map(asked).collect();
    let newest = log.newest_epoch().map(|epoch| epoch.0);
    i4_epoch_cache(name, batches, log.ends().log_end.0, newest, &answers)
}

impl Ghost {
    fn new(topic_id: TopicId, page_cache: bool) -> Ghost {
        Ghost {
            topic_id,
            page_cache,
            batches: Vec::new(),
            start: 0,
            start_asked: 0,
            durable: 0,
            written: 0,
            ends: None,
            truncating: None,
            resetting: None,
            dropped: false,
            cuts: Vec::new(),
            epoch: 0,
            sent: Vec::new(),
            undated: false,
            appended: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            producers: BTreeMap::new(),
            changed: watch::channel(0).0,
            gate: Arc::default(),
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.last + 1).max(self.start)
    }

    /// A truncation or a reset is under way.
    fn is_being_cut(&self) -> bool {
        self.truncating.is_some() || self.resetting.is_some()
    }

    /// How many truncations have ended: the ones after are beside whatever begins now.
    fn cuts_ended(&self) -> usize {
        self.cuts.len() - usize::from(self.is_being_cut())
    }

    /// The log is empty and begins at `to`.
    fn reset(&mut self, to: i64) {
        self.batches.clear();
        self.sent.clear();
        (self.start, self.start_asked, self.durable, self.written) = (to, to, to, to);
        (self.ends, self.resetting) = (None, None);
    }

    /// The log goes on as recovered.
    fn continue_from(&mut self, log: &Log<SimDisk>, batches: Vec<Seen>) {
        let ends = view::ends_seen(&log.ends());
        if let Some(to) = self.resetting.take()
            && (ends.start, ends.end) == (to, to)
        {
            self.reset(to);
        }
        self.batches.retain(|batch| batch.last < ends.start);
        self.batches.extend(batches.into_iter().filter(|batch| batch.last >= ends.start));
        self.start = ends.start;
        self.start_asked = ends.start;
        self.durable = ends.durable;
        self.written = ends.written;
        self.ends = None;
        self.truncating = None;
        self.dropped = false;
        self.cuts.clear();
        self.epoch = self.epoch.max(log.newest_epoch().map_or(0, |epoch| epoch.0));
        self.changed = watch::channel(0).0;
        self.gate = Arc::default();
    }

    /// What an append of `stamp` may meet. With old batches below the log start both pictures are right.
    fn expected(&self, stamp: Stamp) -> Vec<Option<Expected>> {
        let kept: Vec<Seen> =
            self.batches.iter().filter(|batch| batch.last >= self.start).copied().collect();
        let mut expected = vec![i49_expected(&self.batches, stamp), i49_expected(&kept, stamp)];
        // One that nobody knows may begin anywhere, and what it sent before is no duplicate any more.
        if self.forgotten.contains(&stamp.id) {
            expected.push(None);
        }
        expected
    }

    /// Producers without an append since `horizon` expire (P6): a clock that was stepped may get there.
    fn may_expire(&mut self, horizon: Timestamp) {
        let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
        for batch in &self.batches {
            if let (Some(stamp), Some(appended)) = (batch.stamp, self.appended.get(&batch.base)) {
                newest.insert(stamp.id, *appended);
            }
        }
        let expired = newest.into_iter().filter(|(_, appended)| *appended < horizon.0);
        self.forgotten.extend(expired.map(|(id, _)| id));
    }
}

mod refuse;
mod rot;
mod work;
