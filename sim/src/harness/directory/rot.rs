//! Rot at rest, when all else is quiet. It is never served, it costs the batches that it hit and nothing else, and in cold
//! segments the scrubber tells of it in the time that its rate implies (I14; SPEC.md section 7.2, "The scrubber").
//!
//! Half of it falls on a directory that is closed, half on one that is open and whose bytes were all read before. Each
//! segment rots in one place at most: two may hide what lies between them.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use record::Batches;
use types::Timestamp;

use super::*;
use crate::checker::storage::i14_reported;
use crate::plain::Here;

/// How long a round of the scrubber takes if it keeps its rate; one that keeps none is seen by that.
const ROUND: Duration = Duration::from_secs(2);
/// Bytes that it looks at in a second at least.
const RATE_MIN: u64 = 64 << 10;
/// Between the begins of two of its rounds.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a segment may cost it beside: opening, and finding out how far damage reaches.
const PER_SEGMENT: Duration = Duration::from_millis(20);
/// It looks at no more at once.
const STEP_BYTES: u64 = 256 << 10;

/// First byte of a batch that holds its leader epoch.
const EPOCH_AT: u64 = 12;

/// A batch is expanded to at most this much.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// Offset and time of each dated record, by log.
pub(super) type Times = BTreeMap<String, Vec<(i64, i64)>>;

/// When a place rots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Closed,
    Open,
}

/// A bit of a cold segment that will have flipped.
pub(super) struct Spot {
    when: When,
    pub log: String,
    pub path: PathBuf,
    at: u64,
    mask: u8,
    /// First offset and end of the batch that holds it.
    pub offsets: (i64, i64),
    /// In the segment that is appended to: the scrubber leaves it alone, so who reads it, or starts, finds it.
    is_active: bool,
}

impl Spot {
    /// A bit of the `bytes` of a segment, in a batch that is asked for.
    pub fn within(
        disk: &SimDisk,
        dice: &Decisions,
        log: &str,
        ghost: &Ghost,
        path: &Path,
        bytes: &Range<u64>,
    ) -> Option<Spot> {
        let at = bytes.start + dice.choose(Kind::Fault, bytes.end - bytes.start);
        let batches = batches_of(disk.peek(path).unwrap_or_default());
        let (batch, _) = batches.iter().find(|(_, place)| place.contains(&at))?;
        (batch.last >= ghost.start).then(|| Spot {
            when: When::Open,
            log: log.to_owned(),
            path: path.to_owned(),
            at,
            mask: 1 << dice.choose(Kind::Fault, 8),
            offsets: (batch.base, batch.last + 1),
            is_active: false,
        })
    }

    /// A bit of any batch that is asked for.
    fn choose(
        disk: &SimDisk,
        dice: &Decisions,
        log: &str,
        ghost: &Ghost,
        path: &Path,
        when: When,
    ) -> Option<Spot> {
        let batches = batches_of(disk.peek(path).unwrap_or_default());
        // Nobody asks for what lies below the log start.
        let asked: Vec<_> = batches.iter().filter(|(batch, _)| batch.last >= ghost.start).collect();
        let chosen = dice.choose(Kind::Fault, asked.len() as u64) as usize;
        let (batch, bytes) = asked.get(chosen)?;
        // A header's bits each mean something of their own.
        let span = match dice.choose(Kind::Fault, 2) {
            0 => bytes.end - bytes.start,
            _ => record::HEADER_LEN as u64,
        };
        Some(Spot {
            when,
            log: log.to_owned(),
            path: path.to_owned(),
            at: bytes.start + dice.choose(Kind::Fault, span),
            mask: 1 << dice.choose(Kind::Fault, 8),
            offsets: (batch.base, batch.last + 1),
            is_active: false,
        })
    }
}

impl Play {
    /// The directory on `disk` is closed and sound, and no other fault strikes any more.
    pub(super) async fn rot(&self, disk: &SimDisk) {
        let stage = &self.stage;
        if stage.world.violated().is_some() || stage.scenario.is_beyond_promise() {
            return;
        }
        let dice = stage.nemesis();
        let spots = self.spots(disk, &dice);
        if spots.is_empty() {
            return;
        }
        stage.world.mark("cold segments rotted");
        let names: Vec<String> = lock(&self.ghosts).logs.keys().cloned().collect();
        let times: Times =
            names.into_iter().map(|name| (name.clone(), times_of(disk, &name))).collect();
        strike(disk, &spots, When::Closed);
        let bad = |all: bool| -> Vec<&Spot> {
            spots.iter().filter(|spot| all || spot.when == When::Closed).collect()
        };
        let rate = (self.cold(disk).0 / ROUND.as_secs()).max(RATE_MIN);
        let Some(dir) = self.reopen(disk, rate).await else { return };
        // Readers beside the scrubber, or the scrubber alone.
        let is_read_first = dice.choose(Kind::Fault, 3) == 1;
        if is_read_first && !self.walk_all(&dir, &bad(false), &times, &dice).await {
            return;
        }
        if !self.scrubbed(disk, &dir, &bad(false), rate).await
            || !self.walk_all(&dir, &bad(false), &times, &dice).await
        {
            return;
        }
        strike(disk, &spots, When::Open);
        if !self.scrubbed(disk, &dir, &bad(true), rate).await
            || !self.walk_all(&dir, &bad(true), &times, &dice).await
        {
            return;
        }
        let is_killed = dice.choose(Kind::Fault, 2) == 1;
        let disk = if is_killed {
            stage.world.kill(NODE);
            stage.world.revive(NODE);
            let disk = disk.kill();
            // What can be made anew may be lost, too (E3).
            if dice.choose(Kind::Fault, 3) == 1 {
                let is_index = |path: &Path| {
                    path.extension().is_some_and(|kind| kind == "index" || kind == "timeindex")
                };
                for (path, _) in disk.files().into_iter().filter(|(path, _)| is_index(path)) {
                    _ = env::Disk::remove_file(&disk, &path).await;
                }
            }
            disk
        } else {
            let closed = dir.close().await;
            let verdict = require("L4", closed.is_ok(), || {
                format!("a damaged directory does not close: {closed:?}")
            });
            if !stage.judge(verdict) {
                return;
            }
            disk.clone()
        };
        let Some(dir) = self.reopen(&disk, rate).await else { return };
        // A clean stop has written down what was known; after a kill it may have to be found again.
        let is_known = is_killed || self.judge_reported(&dir, &bad(true));
        if is_known
            && self.walk_all(&dir, &bad(true), &times, &dice).await
            && self.scrubbed(&disk, &dir, &bad(true), rate).await
            && self.refuse(&disk, &dir, &spots, &times, &dice).await
        {
            self.append_behind(&dir).await;
        }
        _ = dir.close().await;
    }

    /// Chooses what rots: in each segment one bit, or none. In the one that is appended to it rots while nobody has it open.
    /// If the process were killed now and one bit flipped in the leader epoch of a batch that a page-cache log has not synced,
    /// the next start would know better (I3, I14): at least where two batches on either side bear the same. Of 1, 2, 1, 2 nobody
    /// can tell whether the second or the third has rotted.
    pub(super) fn rot_epoch(&self, disk: &SimDisk, seed: u64) {
        let dice = Decisions::new(seed);
        let killed = disk.fork(seed).kill();
        for (path, _) in killed.files() {
            _ = killed.mend(&path);
        }
        let mut places = Vec::new();
        for (name, (presence, ghost)) in &lock(&self.ghosts).logs {
            if !ghost.page_cache || *presence != Presence::There || ghost.is_being_cut() {
                continue;
            }
            for (path, _) in segments_of(&killed, name) {
                let batches = batches_of(killed.peek(&path).unwrap_or_default());
                let agree = |of: &&[(Seen, Range<u64>)]| {
                    let epoch = of[2].0.epoch;
                    of[2].0.base >= ghost.durable
                        && of
                            .iter()
                            .all(|(batch, _)| batch.epoch == epoch && ghost.batches.contains(batch))
                };
                let found = batches.windows(5).filter(agree);
                places.extend(found.map(|of| (name.clone(), path.clone(), of[2].clone())));
            }
        }
        if places.is_empty() {
            return;
        }
        let chosen = dice.choose(Kind::Fault, places.len() as u64) as usize;
        let (name, path, (batch, bytes)) = places.swap_remove(chosen);
        let at = bytes.start + EPOCH_AT + dice.choose(Kind::Fault, 4);
        _ = killed.rot(&path, at, 1 << dice.choose(Kind::Fault, 8));
        let clock = ManualClock::new();
        let looked = plain::run(&clock, async {
            let dir =
                self.open_quietly(&killed, &clock).await.map_err(|error| error.to_string())?;
            let log = view::logs_by_name(&dir).remove(&name).ok_or("it is gone")?;
            match view::read_all(&log, 50_000).await {
                Ok(batches) => Ok(Some((log, batches))),
                // It was synced, and nobody had been told yet.
                Err(ReadError::Quarantined(range))
                    if range.start.0 == batch.base && batch.base < log.ends().stable.0 =>
                {
                    Ok(None)
                }
                Err(error) => Err(error.to_string()),
            }
        });
        self.stage.world.mark("epoch rotted in an unsynced tail");
        let had_errors = self.had_errors(disk);
        let ghosts = lock(&self.ghosts);
        let verdict = match looked {
            Ok(None) => return,
            Ok(Some((log, batches))) => {
                let ghost = &ghosts.logs[&name];
                let dropped = ghost.1.dropped || had_errors;
                judge_recovered(&name, Some(ghost), Some(&log), &batches, dropped)
            }
            Err(error) => require("I14", false, || format!("{name}: {error}")),
        };
        drop(ghosts);
        self.stage.judge(verdict.map_err(|mut broken| {
            let offset = batch.base;
            broken.text = format!("with a rotten epoch at {offset} after a kill: {}", broken.text);
            broken
        }));
    }

    fn spots(&self, disk: &SimDisk, dice: &Decisions) -> Vec<Spot> {
        let ghosts = lock(&self.ghosts);
        let (mut spots, mut active) = (Vec::new(), Vec::new());
        for (name, (_, ghost)) in &ghosts.logs {
            let mut segments = segments_of(disk, name);
            active.extend(segments.pop().map(|(path, _)| (name, ghost, path)));
            for (path, _) in segments {
                let when = match dice.choose(Kind::Fault, 4) {
                    1 => When::Closed,
                    2 => When::Open,
                    _ => continue,
                };
                spots.extend(Spot::choose(disk, dice, name, ghost, &path, when));
            }
        }
        for (name, ghost, path) in active {
            if dice.choose(Kind::Fault, 2) == 1 {
                let spot = Spot::choose(disk, dice, name, ghost, &path, When::Closed);
                spots.extend(spot.map(|spot| Spot { is_active: true, ..spot }));
            }
        }
        spots
    }

    /// The next process, with a scrubber.
    async fn reopen(&self, disk: &SimDisk, rate: u64) -> Option<LogDir<SimDisk>> {
        let stage = &self.stage;
        let clock = stage.world.clock(NODE);
        let options =
            LogDirOptions { scrub_rate: Some(rate), scrub_interval: INTERVAL, ..self.options() };
        let opened =
            LogDir::open(disk.clone(), &clock, Path::new(PATH), directory_id(), options).await;
        let verdict = require("I14", opened.is_ok(), || {
            format!(
                "rot in cold segments keeps the directory from opening: {:?}",
                opened.as_ref().err()
            )
        });
        let dir = opened.ok().filter(|_| stage.judge(verdict))?;
        let (running, timer) = (dir.clone(), clock.clone());
        stage.spawn(NODE, "committer", async move { running.run(timer).await });
        let scrubbing = dir.clone();
        stage.spawn(NODE, "scrubber", async move { scrubbing.scrub(clock).await });
        Some(dir)
    }

    /// The logs go on, whatever rotted in them.
    async fn append_behind(&self, dir: &LogDir<SimDisk>) {
        for (name, log) in view::logs_by_name(dir) {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder.push(None, None, Some(b"behind"));
            let append = Append {
                batches: vec![builder.build()],
                leader_epoch: log.newest_epoch().unwrap_or(LeaderEpoch(0)),
                now: self.stage.world.clock(NODE).timestamp(),
                origin: Origin::Client,
            };
            let appended = log.append(append);
            let flushed = log.flush().await;
            let verdict = require("I14", appended.is_ok() && flushed.is_ok(), || {
                format!("{name} does not go on behind rot: {appended:?}, {flushed:?}")
            });
            if !self.stage.judge(verdict) {
                return;
            }
        }
    }

    /// Bytes and number of all segments.
    fn cold(&self, disk: &SimDisk) -> (u64, u32) {
        let (mut cold, mut segments) = (0, 0);
        for name in lock(&self.ghosts).logs.keys() {
            for (_, bytes) in segments_of(disk, name) {
                cold += bytes;
                segments += 1;
            }
        }
        (cold, segments)
    }

    /// Waits for as long as the scrubber may take, and judges what it has told by then.
    async fn scrubbed(
        &self,
        disk: &SimDisk,
        dir: &LogDir<SimDisk>,
        bad: &[&Spot],
        rate: u64,
    ) -> bool {
        let (cold, segments) = self.cold(disk);
        // The rest of a round, the pause after it, and a whole round.
        let round = Duration::from_nanos(cold * 1_000_000_000 / rate) + PER_SEGMENT * segments;
        let patience = INTERVAL + 2 * round + Duration::from_secs(1);
        let before = dir.counts().scrubbed_bytes;
        self.stage.world.sleep(patience).await;
        let read = dir.counts().scrubbed_bytes - before;
        let most = rate * (patience.as_millis() as u64 + 999) / 1000 + 2 * STEP_BYTES;
        let verdict = require("scrubber", read <= most, || {
            format!("{read} bytes were scrubbed in {patience:?}, more than {most}")
        });
        self.stage.judge(verdict) && self.judge_reported(dir, bad)
    }

    /// Each log tells of exactly the batches that are bad; of one that is appended to once it was read.
    pub(super) fn judge_reported(&self, dir: &LogDir<SimDisk>, bad: &[&Spot]) -> bool {
        let logs = view::logs_by_name(dir);
        logs.iter().all(|(name, log)| {
            let told = log.quarantined_offsets();
            let active = bad.iter().find(|spot| spot.log == *name && spot.is_active);
            let told = told.into_iter().map(|(start, end)| (start.0, end.0));
            let told: Vec<_> =
                told.filter(|told| active.is_none_or(|spot| spot.offsets != *told)).collect();
            if !told.is_empty() {
                self.stage.world.mark("rot reported");
            }
            let cold: Vec<&Spot> = bad.iter().filter(|spot| !spot.is_active).copied().collect();
            self.stage.judge(i14_reported(name, &bad_of(&cold, name), &told))
        })
    }

    /// Reads every log and looks for times here and there, then reads it from its start to its end.
    pub(super) async fn walk_all(
        &self,
        dir: &LogDir<SimDisk>,
        bad: &[&Spot],
        times: &Times,
        dice: &Decisions,
    ) -> bool {
        for (name, log) in view::logs_by_name(dir) {
            let bad = bad_of(bad, &name);
            let times = times.get(&name).map_or(&[][..], Vec::as_slice);
            for _ in 0..4 {
                if !self.look_up(&name, &log, times, &bad, dice).await {
                    return false;
                }
            }
            for _ in 0..8 {
                let ends = log.ends();
                let span = (ends.log_end.0 - ends.log_start.0) as u64;
                let from = ends.log_start.0 + dice.choose(Kind::Operation, span) as i64;
                if self.meet(&name, &log, from, &bad, dice).await.is_none() {
                    return false;
                }
            }
            let (mut from, end) = (log.ends().log_start.0, log.ends().log_end.0);
            while from < end {
                let Some(next) = self.meet(&name, &log, from, &bad, dice).await else {
                    return false;
                };
                from = next;
            }
        }
        true
    }

    /// Looks for a time: the answer is the first record that is late enough and readable, whatever rotten headers say.
    async fn look_up(
        &self,
        name: &str,
        log: &Log<SimDisk>,
        times: &[(i64, i64)],
        bad: &[(i64, i64)],
        dice: &Decisions,
    ) -> bool {
        if times.is_empty() {
            return true;
        }
        let (_, near) = times[dice.choose(Kind::Operation, times.len() as u64) as usize];
        let target = near + dice.choose(Kind::Operation, 3) as i64 - 1;
        let ends = log.ends();
        let is_readable = |offset: i64| {
            (ends.log_start.0..ends.log_end.0).contains(&offset)
                && !bad.iter().any(|(start, end)| (*start..*end).contains(&offset))
        };
        let mut late = times.iter().filter(|(_, time)| *time >= target).map(|(offset, _)| *offset);
        let right = late.find(|offset| is_readable(*offset));
        let found = log.offset_for_timestamp(Timestamp(target), ends.log_end, &Here).await;
        let told = found.map(|found| found.map(|found| found.offset.0));
        self.stage.judge(require("I14", matches!(&told, Ok(told) if *told == right), || {
            format!("{name}: time {target} is found at {told:?}, not {right:?}; bad are {bad:?}")
        }))
    }

    /// One read: what was appended, or, where a batch is bad, the range of just that batch. Where to go on.
    async fn meet(
        &self,
        name: &str,
        log: &Log<SimDisk>,
        from: i64,
        bad: &[(i64, i64)],
        dice: &Decisions,
    ) -> Option<i64> {
        let read = any_read(log, from, dice);
        let slice = view::read_slice(log, read).await;
        if matches!(slice, Err(ReadError::Quarantined(_))) {
            self.stage.world.mark("rot met by a reader");
        }
        let is_right = |range: &Quarantined| bad.contains(&(range.start.0, range.end.0));
        self.judge_met(name, &read, slice, is_right, || format!("bad are {bad:?}"))
    }

    /// What a read gave: what was appended, or a range that is right and holds the offset asked for. Where to go on.
    pub(super) fn judge_met(
        &self,
        name: &str,
        read: &Read,
        slice: Result<view::Polled, ReadError>,
        is_right: impl FnOnce(&Quarantined) -> bool,
        truth: impl FnOnce() -> String,
    ) -> Option<i64> {
        let (from, end) = (read.from, read.end);
        let ghosts = lock(&self.ghosts);
        let (_, ghost) = ghosts.logs.get(name)?;
        let (verdict, next) = match slice {
            Ok(polled) => (work::judge_read(name, ghost, from.0, end.0, &polled), polled.next),
            Err(ReadError::Quarantined(range)) => {
                let verdict = require("I14", range.contains(from) && is_right(&range), || {
                    format!("{name}: a read from {from} meets {range}, and {}", truth())
                });
                (verdict, range.end.0)
            }
            Err(error) => {
                let text = || format!("{name}: a read from {from}: {error}; {}", truth());
                (require("I14", false, text), from.0)
            }
        };
        drop(ghosts);
        self.stage.judge(verdict).then_some(next)
    }
}

/// A read of a size that a client may choose.
pub(super) fn any_read(log: &Log<SimDisk>, from: i64, dice: &Decisions) -> Read {
    let bytes_max = [1, 500, 5_000, 100_000][dice.choose(Kind::Operation, 4) as usize];
    Read { from: Offset(from), end: log.ends().log_end, bytes_max, at_least_one: true }
}

/// Segments of a log by their bases, with their sizes.
pub(super) fn segments_of(disk: &SimDisk, name: &str) -> Vec<(PathBuf, u64)> {
    let log = Path::new(PATH).join(name);
    let is_segment = |path: &Path| {
        path.parent() == Some(&log) && path.extension().is_some_and(|kind| kind == "log")
    };
    disk.files().into_iter().filter(|(path, _)| is_segment(path)).collect()
}

/// The batches of a sound segment and their bytes.
pub(super) fn batches_of(segment: Bytes) -> Vec<(Seen, Range<u64>)> {
    let mut at = 0;
    let placed = Batches::split(segment).map_while(Result::ok).map(|batch| {
        let start = at;
        at += batch.bytes_total() as u64;
        (view::seen(&batch), start..at)
    });
    placed.collect()
}

/// Offset and time of each dated record of a sound log.
fn times_of(disk: &SimDisk, name: &str) -> Vec<(i64, i64)> {
    let mut times = Vec::new();
    for (path, _) in segments_of(disk, name) {
        let segment = disk.peek(&path).unwrap_or_default();
        for batch in Batches::split(segment).map_while(Result::ok) {
            let records = batch.records(EXPANDED_BYTES_MAX).map_while(Result::ok);
            times.extend(records.filter_map(|record| Some((record.offset.0, record.timestamp?.0))));
        }
    }
    times
}

pub(super) fn strike(disk: &SimDisk, spots: &[Spot], when: When) {
    for spot in spots.iter().filter(|spot| spot.when == when) {
        _ = disk.rot(&spot.path, spot.at, spot.mask);
    }
}

/// First offsets and ends of what is bad in a log.
fn bad_of(bad: &[&Spot], log: &str) -> Vec<(i64, i64)> {
    bad.iter().filter(|spot| spot.log == log).map(|spot| spot.offsets).collect()
}
