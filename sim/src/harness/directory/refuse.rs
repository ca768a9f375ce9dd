//! Parts of cold segments that the device refuses to read, for a while, when all else is quiet. It costs the batches up to
//! the next mark of the index and nothing else, readers are told, and all is served again when the device reads again
//! (I14; SPEC.md section 7.2).

use std::ops::Range;

use super::rot::{Spot, Times, When, any_read, batches_of, segments_of, strike};
use super::*;

/// How often a log asks again for what was refused, and how long it may take.
const LOOK_AGAIN: Duration = Duration::from_secs(11);
/// The indexes of this scenario have a mark in so many bytes, and a batch, at least.
const INTERVAL_BYTES: u64 = 4096;

/// A part of a segment that is refused.
struct Part {
    log: String,
    path: PathBuf,
    bytes: Range<u64>,
    /// First offset, and end, of what it may cost.
    offsets: (i64, i64),
}

impl Play {
    /// All but `rotten` is sound. Ends with a directory of which nothing is refused; `false` after a violation.
    pub(super) async fn refuse(
        &self,
        disk: &SimDisk,
        dir: &LogDir<SimDisk>,
        rotten: &[Spot],
        times: &Times,
        dice: &Decisions,
    ) -> bool {
        let parts = self.parts(disk, rotten, dice);
        if parts.is_empty() {
            return true;
        }
        let world = &self.stage.world;
        world.mark("cold segments refused");
        // The scrubber, or the readers, meet it first.
        if dice.choose(Kind::Fault, 3) == 1 {
            world.sleep(Duration::from_secs(6)).await;
        }
        for (name, log) in view::logs_by_name(dir) {
            for round in 0..5 {
                let ends = log.ends();
                let span = (ends.log_end.0 - ends.log_start.0) as u64;
                let mut from = ends.log_start.0 + dice.choose(Kind::Operation, span) as i64;
                if round == 4 {
                    from = ends.log_start.0;
                }
                while from < ends.log_end.0 {
                    match self.ask(&name, &log, from, &parts, rotten, dice).await {
                        Some(next) => from = next,
                        None => return false,
                    }
                    if round < 4 {
                        break;
                    }
                }
            }
        }
        // Something may be the matter with what comes back.
        let mut back = Vec::new();
        for part in parts.iter().filter(|_| dice.choose(Kind::Fault, 3) == 1) {
            let ghosts = lock(&self.ghosts);
            let Some((_, ghost)) = ghosts.logs.get(&part.log) else { continue };
            back.extend(Spot::within(disk, dice, &part.log, ghost, &part.path, &part.bytes));
        }
        strike(disk, &back, When::Open);
        for part in &parts {
            _ = disk.mend(&part.path);
        }
        world.sleep(LOOK_AGAIN).await;
        let rotten: Vec<&Spot> = rotten.iter().chain(&back).collect();
        self.judge_reported(dir, &rotten) && self.walk_all(dir, &rotten, times, dice).await
    }

    /// Chooses what is refused: in each cold segment that has not rotted, a few bytes, some sectors, or nothing.
    fn parts(&self, disk: &SimDisk, rotten: &[Spot], dice: &Decisions) -> Vec<Part> {
        let mut parts = Vec::new();
        for name in lock(&self.ghosts).logs.keys() {
            let segments = segments_of(disk, name);
            for (path, size) in segments.iter().take(segments.len().saturating_sub(1)) {
                let len = [0, 0, 1, 512, 4096, 12_000][dice.choose(Kind::Fault, 6) as usize];
                if len == 0 || *size == 0 || rotten.iter().any(|spot| spot.path == *path) {
                    continue;
                }
                let start = dice.choose(Kind::Fault, *size);
                let end = (start + len).min(*size);
                let batches = batches_of(disk.peek(path).unwrap_or_default());
                let mut hit =
                    batches.iter().filter(|(_, place)| start < place.end && place.start < end);
                let Some((first, place)) = hit.next() else { continue };
                let last = hit.next_back().map_or(place.start, |(_, place)| place.start);
                let mut behind = batches.iter().filter(|(_, place)| place.start > last);
                let goes_on = behind.find(|(_, place)| place.start > last + INTERVAL_BYTES);
                let cost_end =
                    goes_on.or(batches.last()).map_or(first.last, |(batch, _)| batch.last);
                if disk.refuse(path, start, end).is_ok() {
                    parts.push(Part {
                        log: name.clone(),
                        path: path.clone(),
                        bytes: start..end,
                        offsets: (first.base, cost_end + 1),
                    });
                }
            }
        }
        parts
    }

    /// One read: what was appended, or the range that is refused or rotten. Where to go on.
    async fn ask(
        &self,
        name: &str,
        log: &Log<SimDisk>,
        from: i64,
        parts: &[Part],
        rotten: &[Spot],
        dice: &Decisions,
    ) -> Option<i64> {
        let read = any_read(log, from, dice);
        // The first refusal may be met on the way to a socket: the client connects anew and asks again.
        let mut slice = view::read_slice(log, read).await;
        if matches!(slice, Err(ReadError::Io(_))) {
            slice = view::read_slice(log, read).await;
        }
        if matches!(&slice, Err(ReadError::Quarantined(range)) if range.is_unreadable) {
            self.stage.world.mark("refusal met by a reader");
        }
        let is_right = |range: &Quarantined| {
            let told = (range.start.0, range.end.0);
            let costs = |part: &Part| part.offsets.0 <= told.0 && told.1 <= part.offsets.1;
            match range.is_unreadable {
                true => parts.iter().any(|part| part.log == name && costs(part)),
                false => rotten.iter().any(|spot| spot.log == name && spot.offsets == told),
            }
        };
        self.judge_met(name, &read, slice, is_right, || {
            let refused: Vec<_> = parts.iter().map(|part| (&part.log, part.offsets)).collect();
            format!("refused are {refused:?}")
        })
    }
}
