//! From the files of a log, as far as they are known to be whole, to the log in memory (I7, E3, E4, E5).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use env::{Disk, File};
use record::BatchHeader;
use types::mutant::{Mutant, planted};
use types::{Offset, Timestamp};

use super::redo::Redo;
use super::{Opening, io_error, read_card};
use crate::dir::change::remove_if_there;
use crate::dir::stored::Metadata;
use crate::epochs::Epochs;
use crate::index::{Ages, Index};
use crate::journal::Position;
use crate::layout::{ASIDE, Kind};
use crate::log::{Log, Marks, Point, SCAN_BYTES, Segment, Sound, State};
use crate::producers::Producers;
use crate::walk::{Step, Walk};
use crate::{Durability, LogConfig, OpenError, Quarantined};

impl<D: Disk> Opening<D> {
    /// Makes a log out of what was redone.
    pub(super) async fn load(
        &mut self,
        mut redo: Redo<D::File>,
        next: Position,
        now: Timestamp,
    ) -> Result<Log<D>, OpenError> {
        let partition = redo.stored.partition.clone();
        let door = self.door.clone();
        let loading = || io_error(format!("loading {partition}"));
        let card = read_card(&self.disk, &redo.path).await;
        let metadata_unsynced = true;
        let durability = match card {
            Some(card) => card.durability,
            None => {
                let durability = redo.stored.durability;
                let card = Metadata {
                    directory: self.id,
                    log: redo.stored.id,
                    topic_id: redo.stored.topic_id,
                    durability,
                };
                self.write_card(&redo.path, card).await.map_err(loading())?;
                durability
            }
        };
        let files = self.list_log(&redo.path).await.map_err(loading())?;
        let mut segments = files.segments;
        let paged = durability == Durability::PageCache;
        self.cut_paged |= paged && redo.cut;
        if paged || redo.suspect {
            self.extend(&mut redo, &segments).await.map_err(loading())?;
        }
        self.resync |= redo.suspect;
        if let Some((segment, position)) = redo.lost
            && segment == redo.end.segment
            && position > redo.end.position
        {
            self.quarantine_lost(&mut redo, position).await.map_err(loading())?;
        }
        let start = redo.stored.log_start;
        // Retention took all, with the segment in which the log ended.
        let is_emptied = start == redo.end.offset && !segments.contains_key(&redo.end.segment);
        // The start outlived the data it stood in (E8): nothing is left, and offsets below it are not used again.
        let is_begun_anew = start > redo.end.offset || is_emptied;
        if is_begun_anew {
            redo.end = Point { offset: start, segment: start, position: 0 };
        }
        // Beyond the end: bytes that nobody was told of (E1). And what an earlier recovery found there, which a power cut has
        // put back among what was written since: the journal tells of every segment behind the anchor.
        let known_torn = self.report.torn_bytes;
        let is_told = paged || redo.suspect || planted(Mutant::DeadSegmentsReturn);
        let is_dead = |base: &Offset| {
            let may_be_told = is_told || *base <= redo.stored.anchor.point.segment;
            is_begun_anew
                || *base > redo.end.segment
                || *base < redo.end.segment && !may_be_told && !redo.sizes.contains_key(base)
        };
        let dead: Vec<Offset> = segments.keys().copied().filter(is_dead).collect();
        // Of a page-cache log only the files tell where it ends: what was cut off must not come back behind new appends
        // that a power cut takes (I8).
        self.resync |= paged && !dead.is_empty();
        for base in dead {
            let bytes = segments.remove(&base).unwrap_or(0);
            self.report.torn_bytes += if is_begun_anew { 0 } else { bytes };
            self.remove_segment(&redo.path, base).await.map_err(loading())?;
        }
        // Below the start: their removal was durable in the journal and got lost on disk.
        let bases: Vec<Offset> = segments.keys().copied().collect();
        for pair in bases.windows(2) {
            if pair[1] <= redo.stored.log_start && pair[1] <= redo.end.segment {
                segments.remove(&pair[0]);
                self.remove_segment(&redo.path, pair[0]).await.map_err(loading())?;
            }
        }
        let mut state =
            State::new(Arc::new(LogConfig { durability, ..door.options.log_config.clone() }));
        state.sync = durability == Durability::Sync;
        state.metadata_unsynced = metadata_unsynced;
        state.entries_changed = true;
        state.anchor = redo.stored.anchor;
        state.marks = Marks { oldest: redo.oldest, syncing: None, next };
        let torn_bytes = self.report.torn_bytes;
        self.build_segments(&mut state, &mut redo, &segments).await.map_err(loading())?;
        self.resync |= paged && self.report.torn_bytes > torn_bytes;
        let cut = self.report.torn_bytes - known_torn;
        if paged && cut > 0 {
            tracing::warn!(
                %partition, end = %redo.end.offset, bytes = cut,
                "a page-cache log ends where its bytes are no batches any more: what was written behind is gone"
            );
        }
        state.log_end = redo.end.offset;
        state.written = redo.end;
        state.durable = if state.sync { redo.end } else { redo.trusted };
        state.stable = redo.trusted;
        state.log_start = redo.stored.log_start;
        if let Some(first) = state.segments.front().map(|segment| segment.base)
            && state.log_start < first
        {
            // The first segment is missing (E8): what it held is lost, and said so.
            let lost = Quarantined {
                partition: partition.clone(),
                start: state.log_start,
                end: first,
                is_unreadable: false,
                epoch: None,
            };
            tracing::error!(%partition, start = %lost.start, end = %lost.end, "the first segments are missing");
            self.report.quarantined.push(lost);
            state.log_start = first;
        }
        state.settle();
        state.damages = redo
            .stored
            .damages
            .iter()
            .copied()
            .filter(|damage| damage.start.offset < state.log_end && damage.end > state.log_start)
            .collect();
        let stored_epochs =
            redo.stored.epochs.iter().copied().filter(|e| e.start < redo.trusted.offset);
        state.epochs = Epochs::from_stored(stored_epochs);
        let snapshots: Vec<Offset> = files.snapshots;
        for snapshot in snapshots {
            let known = state.segments.iter().any(|segment| segment.base == snapshot);
            if snapshot > redo.trusted.offset {
                // E4: of a life that did not last.
                let path = Kind::Snapshot.path(&redo.path, snapshot);
                remove_if_there(&self.disk, &path).await.map_err(loading())?;
            } else if !known {
                state.snapshots.push_back(snapshot);
            }
        }
        let log = Log::new(redo.stored.id, partition.clone(), redo.stored.topic_id, door, state);
        self.rebuild(&log, redo.trusted, now).await.map_err(loading())?;
        log.lock().check();
        tracing::debug!(
            %partition, log = %redo.stored.id, ?durability, anchor = ?redo.stored.anchor, end = ?redo.end,
            trusted = %redo.trusted.offset, frames = redo.oldest.is_some(), "log recovered"
        );
        Ok(log)
    }

    async fn remove_segment(&self, dir: &Path, base: Offset) -> io::Result<()> {
        for kind in [Kind::Log, Kind::Index, Kind::TimeIndex] {
            remove_if_there(&self.disk, &kind.path(dir, base)).await?;
        }
        Ok(())
    }

    async fn list_log(&self, dir: &Path) -> io::Result<Files> {
        let mut files =
            Files { segments: BTreeMap::new(), indexes: BTreeSet::new(), snapshots: Vec::new() };
        for entry in self.disk.list(dir).await?.into_iter().filter(|entry| !entry.is_dir) {
            if entry.name.ends_with(ASIDE) || entry.name.ends_with(".tmp") {
                remove_if_there(&self.disk, &dir.join(&entry.name)).await?;
                continue;
            }
            match Kind::parse(&entry.name) {
                Some((Kind::Log, base)) => drop(files.segments.insert(base, entry.len)),
                Some((Kind::Snapshot, offset)) => files.snapshots.push(offset),
                Some((_, base)) => drop(files.indexes.insert(base)),
                None => {}
            }
        }
        // Left by a checkpoint that ran while the segment went.
        for base in files.indexes.iter().filter(|base| !files.segments.contains_key(base)) {
            self.remove_segment(dir, *base).await?;
        }
        Ok(files)
    }

    /// The last frame of a log was durable and neither the journal nor the segment has it whole: if the headers in the
    /// segment still tell its offsets, they are quarantined; otherwise nobody knows them, and that is said.
    async fn quarantine_lost(&mut self, redo: &mut Redo<D::File>, position: u64) -> io::Result<()> {
        let file = redo.file(&self.disk, redo.end.segment).await?;
        let mut walk = Walk::new(file, redo.end.position, position, SCAN_BYTES);
        let mut end = redo.end;
        while let Step::Batch(at, header) = walk.next().await? {
            if header.base_offset() != end.offset {
                break;
            }
            end.offset = header.end_offset();
            end.position = at + header.bytes_total() as u64;
        }
        if end.position == position {
            redo.damage_to(end.offset, end.position);
        } else {
            let (partition, offset) = (&redo.stored.partition, redo.end.offset);
            tracing::error!(%partition, %offset, "durable records at the end of a log are lost");
            self.report
                .damages
                .push(format!("{partition}: records from offset {offset} on are lost"));
        }
        Ok(())
    }

    async fn build_segments(
        &mut self,
        state: &mut State<D::File>,
        redo: &mut Redo<D::File>,
        segments: &BTreeMap<Offset, u64>,
    ) -> io::Result<()> {
        let (end, anchored) = (redo.end, redo.stored.anchor.point.segment);
        let mut bases: Vec<Offset> = segments.keys().copied().collect();
        // A segment that was rolled and never written has no file. It is there all the same: if the log went on in the one
        // before it, the next recovery would take what is appended now for what the anchor vouches for.
        if !segments.contains_key(&end.segment) && (end.position > 0 || !bases.is_empty()) {
            bases.push(end.segment);
        }
        for (at, &base) in bases.iter().enumerate() {
            let len = segments.get(&base).copied().unwrap_or(0);
            let size = if base == end.segment {
                end.position
            } else {
                redo.sizes.get(&base).copied().unwrap_or(len)
            };
            if len > size {
                self.report.torn_bytes += len - size;
                redo.file(&self.disk, base).await?.set_len(size).await?;
            }
            let next = bases.get(at + 1).copied();
            state.segments.push_back(Segment {
                base,
                end: next.unwrap_or(end.offset),
                size,
                index: None,
                // A handle stays open from the first dirty write to its sync, or a writeback error is lost.
                file: redo.files.remove(&base),
                ages: Ages::default(),
                snapshot: None,
                // A cut that an earlier recovery made may be in the page cache alone.
                unsynced: redo.touched.contains(&base)
                    || len > size
                    || base >= anchored && !planted(Mutant::CutForgotten),
                is_new: !segments.contains_key(&base),
                index_checked: base < redo.trusted.segment,
                sound: Sound::found(size),
            });
        }
        Ok(())
    }

    /// Reads derived state as far as it can be trusted and rebuilds the rest by walking.
    async fn rebuild(&mut self, log: &Log<D>, trusted: Point, now: Timestamp) -> io::Result<()> {
        let (bases, interval, stored) = {
            let state = log.lock();
            let bases: Vec<_> = state.segments.iter().map(|s| (s.base, s.size)).collect();
            (bases, state.config.index_interval_bytes, state.epochs.clone())
        };
        let active = bases.last().map(|(base, _)| *base);
        let (mut bad, mut torn) = (Vec::new(), Vec::new());
        for (base, size) in bases {
            if base < trusted.segment && Some(base) != active {
                continue;
            }
            let believed = match base.cmp(&trusted.segment) {
                std::cmp::Ordering::Less => size,
                std::cmp::Ordering::Equal => trusted.position,
                std::cmp::Ordering::Greater => 0,
            };
            let (index, ages) = log.read_index(base, size, believed, interval).await?;
            let covered = index.covered();
            let (found, refused) = log.walk_end(&index, base, size).await?;
            if let Some(error) = refused {
                return Err(error);
            }
            let mut state = log.lock();
            state.adopt_index(base, index, ages, now);
            bad.extend(state.check_end(base, found));
            torn.extend((covered != size).then_some(base));
        }
        self.derive(log, &stored, trusted, now).await?;
        let is_whole = bad.is_empty() && torn.is_empty();
        for damage in bad.into_iter().filter(|_| !planted(Mutant::TailGivenUp)) {
            log.narrow(damage).await;
        }
        for base in torn {
            log.rebuild_index(base, interval).await?;
        }
        if !is_whole {
            // Now that what lies behind the damage is known.
            self.derive(log, &stored, trusted, now).await?;
        }
        Ok(())
    }

    /// Producers and epochs, from what was stored of them and the batches since.
    async fn derive(
        &mut self,
        log: &Log<D>,
        stored: &Epochs,
        trusted: Point,
        now: Timestamp,
    ) -> io::Result<()> {
        let log_start = log.lock().log_start;
        // Records below the start are gone, with their epochs: an older one may have followed after an unclean election.
        let is_forgotten = log_start >= trusted.offset && !planted(Mutant::EpochsOfTheDead);
        let mut epochs = if is_forgotten { Epochs::default() } else { stored.clone() };
        let whole = epochs.entries().is_empty();
        let (mut producers, from) = log.nearest_snapshot(trusted.offset, now).await?;
        let start = if whole { Offset::ZERO } else { from.min(trusted.offset) };
        let walked = log
            .scan(start, |header: &BatchHeader| {
                if header.base_offset() >= from {
                    producers.add(header, now);
                }
                if (whole || header.base_offset() >= trusted.offset)
                    && (header.end_offset() > log_start || planted(Mutant::EpochsOfTheDead))
                    && let Some(epoch) = header.leader_epoch()
                {
                    epochs.begin(epoch, header.base_offset());
                }
            })
            .await?;
        self.report.walked_bytes += walked;
        let mut state = log.lock();
        producers.clamp_times(now);
        state.producers =
            if planted(Mutant::ProducerStateNotRebuilt) { Producers::default() } else { producers };
        epochs.truncate_start(state.log_start);
        state.epochs = epochs;
        state.snapshot_bytes = walked;
        Ok(())
    }
}

impl<F> State<F> {
    /// Puts a loaded index in its place. What was known stays known: a start under a clock that is far behind, as after the
    /// battery of a machine is empty, must not make everything look old once the clock is right again (E37). A time that
    /// was lost is needed only where the records have none; there it counts as now, never as long ago.
    fn adopt_index(&mut self, base: Offset, index: Index, ages: Ages, now: Timestamp) {
        let Some(segment) = self.segment(base) else { return };
        let lost = index.latest().is_none().then_some(now);
        segment.index = Some(Box::new(index));
        segment.ages = match segment.size {
            0 => Ages::default(),
            _ => Ages {
                first_append: Some(ages.first_append.map_or(now, |first| first.min(now))),
                last_append: ages.last_append.or(lost),
            },
        };
    }
}

struct Files {
    segments: BTreeMap<Offset, u64>,
    indexes: BTreeSet<Offset>,
    snapshots: Vec<Offset>,
}
