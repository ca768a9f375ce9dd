//! Opening a directory: from whatever a crash left to logs that hold everything that was durable (I7), and the same
//! again if recovery itself crashes (I6).
//!
//! In this order:
//! 1. the clean-stop marker is read and removed, durably, before anything else (E6);
//! 2. the checkpoint gives the logs and their anchors: what segments hold safely, and from which group to redo;
//! 3. the journal is redone in one pass: physical writes, cuts and deletions, each idempotent;
//! 4. the journal is finished: what it delivered is durable again;
//! 5. each log is loaded: `sync` logs are cut where anchor and journal end, page-cache logs where their checksums end
//!    (E1); segments below the log start go; derived state is read as far as the anchor vouches for it and rebuilt by
//!    walking from there (E3, E4, E5).
//!
//! Bytes that were durable and are bad never shorten a log: the range is quarantined (I14). Directories that are not
//! known are left alone and reported (E8).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use env::{Clock, Disk, File, OpenMode};
use record::{BatchHeader, Batches};
use types::mutant::{Mutant, planted};
use types::{DirectoryId, LogId, Offset, Timestamp, TopicPartition};

use super::change::{CREATE_PAGE_CACHE, remove_if_there};
use super::checkpoint::Scope;
use super::stored::{Checkpoint, Metadata, StoredError, StoredLog, decode_clean};
use super::{Garbage, Inner, LogDir, RecoveryReport, Registry, Stray};
use crate::door::Door;
use crate::epochs::Epochs;
use crate::index::{Ages, Index};
use crate::journal::{Frame, FrameKind, Item, Journal, JournalError, JournalOptions, Position};
use crate::layout::{self, ASIDE, CHECKPOINT_FILE, CLEAN_FILE, JOURNAL_DIR, Kind, METADATA_FILE};
use crate::log::{Damage, Log, Marks, Point, SCAN_BYTES, Segment, Sound, State};
use crate::producers::Producers;
use crate::walk::{Step, Walk};
use crate::{Durability, LogConfig, LogDirOptions, OpenError, Quarantined};

/// One log while it is being recovered.
struct Redo<F> {
    stored: StoredLog,
    /// Where the log ends so far.
    end: Point,
    /// Derived files are believed up to here.
    trusted: Point,
    cut: bool,
    /// Frames of this log were durable and are lost: its segments may hold what the journal does not (I14).
    suspect: bool,
    /// How far its lost frames went: segment and byte.
    lost: Option<(Offset, u64)>,
    /// Final sizes of segments that were rolled while redoing.
    sizes: BTreeMap<Offset, u64>,
    touched: BTreeSet<Offset>,
    files: BTreeMap<Offset, F>,
    oldest: Option<Position>,
    deleted: bool,
    path: PathBuf,
}

/// What [`open`] needs at every step.
struct Opening<D: Disk> {
    disk: D,
    path: PathBuf,
    id: DirectoryId,
    report: RecoveryReport,
    logs: BTreeMap<LogId, Redo<D::File>>,
    next_log: LogId,
    /// A page-cache log was cut again: the cut must not be redone once more, over bytes that the journal does not know.
    cut_paged: bool,
    /// Something was found in segments that the journal has lost: it must be synced before it is announced.
    resync: bool,
    /// Frames of any log may be missing without a trace (I14).
    all_suspect: bool,
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    move |error| OpenError::Io { doing: doing.into(), error }
}

fn journal_error(path: &Path) -> impl Fn(JournalError) -> OpenError {
    let path = path.join(JOURNAL_DIR);
    move |error| match error {
        JournalError::Newer { file, version } => OpenError::Newer {
            path: path.join(file),
            version: u16::try_from(version).unwrap_or(u16::MAX),
        },
        JournalError::Foreign { .. } | JournalError::HeadersLost => {
            OpenError::Foreign { path: path.clone(), reason: error.to_string() }
        }
        JournalError::Io { doing, error } => {
            OpenError::Io { doing: format!("{doing} the journal in {}", path.display()), error }
        }
        JournalError::NoSpace => OpenError::Io {
            doing: format!("opening the journal in {}", path.display()),
            error: io::ErrorKind::StorageFull.into(),
        },
        other => OpenError::Io {
            doing: format!("opening the journal in {}", path.display()),
            error: io::Error::other(other.to_string()),
        },
    }
}

/// Opens and recovers the directory.
pub(super) async fn open<D: Disk, C: Clock>(
    disk: D,
    clock: &C,
    path: &Path,
    id: DirectoryId,
    options: LogDirOptions,
) -> Result<LogDir<D>, OpenError> {
    let began = clock.now();
    let now = clock.timestamp();
    let mut opening = Opening {
        disk: disk.clone(),
        path: path.to_owned(),
        id,
        report: RecoveryReport::default(),
        logs: BTreeMap::new(),
        next_log: LogId(1),
        cut_paged: false,
        resync: false,
        all_suspect: false,
    };
    opening.prepare().await?;
    opening.read_checkpoint().await?;

    // Bits that another directory, or this one at another time, does not have: the journal needs no more of a secret.
    let salt = layout::crc32c(&id.0.0);
    let secret = (u64::from(salt) << 32) ^ (now.0 as u64) ^ clock.now().as_nanos().rotate_left(17);
    let journal_options = JournalOptions {
        file_bytes: options.journal_file_bytes,
        total_bytes: options.journal_bytes_max,
        secret,
    };
    let refuse = journal_error(path);
    let journal_path = path.join(JOURNAL_DIR);
    let mut recovery =
        Journal::recover(&disk, &journal_path, id, journal_options).await.map_err(&refuse)?;
    while let Some(item) = recovery.next().await.map_err(&refuse)? {
        match item {
            Item::Frame { position, frame } => opening.redo(position, frame).await?,
            Item::Damaged(damage) => {
                tracing::error!(path = %path.display(), %damage, "the journal is damaged");
                match &damage.frame {
                    Some(key) => {
                        opening.suspect(|id| id == key.log);
                        if let Some(log) = opening.logs.get_mut(&key.log) {
                            let end = (key.segment_base, key.position + key.bytes);
                            log.lost = log.lost.max(Some(end));
                        }
                    }
                    None => {
                        opening.all_suspect = true;
                        opening.suspect(|_| true);
                    }
                }
                opening.report.damages.push(damage.to_string());
            }
        }
    }
    let (journal, journal_report) = recovery.finish().await.map_err(&refuse)?;
    opening.report.journal_bytes = journal_report.bytes;

    let door = Arc::new(Door::new(disk.clone(), path, options));
    let mut registry = Registry {
        logs: BTreeMap::new(),
        next_log: opening.next_log,
        garbage: Vec::new(),
        entries_changed: true,
    };
    opening.sort_directories(&mut registry, clock).await?;
    let logs = std::mem::take(&mut opening.logs);
    for redo in logs.into_values().filter(|redo| !redo.deleted) {
        let log = opening.load(redo, &door, journal.next_position(), now).await?;
        opening.report.quarantined.extend(log.quarantined());
        registry.logs.insert(log.inner.partition.clone(), log);
    }
    let checkpoint = opening.cut_paged || opening.resync;
    let mut report = opening.report;
    report.logs = registry.logs.len();
    report.intact = report.quarantined.is_empty() && report.damages.is_empty();
    report.took = clock.now() - began;
    door.look_at_space().await;
    let inner = Arc::new(Inner {
        door,
        id,
        recovery: report,
        registry: Mutex::new(registry),
        journal: tokio::sync::Mutex::new(journal),
        uncounted: Mutex::new(None),
        checkpointing: tokio::sync::Mutex::new(()),
    });
    if checkpoint && !matches!(inner.checkpoint(clock, Scope::All).await, Ok(true)) {
        let failure = inner.door.failure.borrow().clone();
        let (kind, message) = failure
            .map_or((io::ErrorKind::StorageFull, "no space".into()), |f| (f.kind, f.message));
        let error = io::Error::new(kind, message.to_string());
        return Err(OpenError::Io { doing: "checkpointing after recovery".to_owned(), error });
    }
    Ok(LogDir { inner })
}

impl<D: Disk> Opening<D> {
    /// Makes the directory if it is new; reads and removes the clean-stop marker (E6).
    async fn prepare(&mut self) -> Result<(), OpenError> {
        let path = self.path.clone();
        self.disk
            .create_dir_all(&path)
            .await
            .map_err(io_error(format!("creating {}", path.display())))?;
        // At every start: the process that created it may have died before it got here (I6).
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            match self.disk.sync_dir(parent).await {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    return Err(io_error(format!("syncing {}", parent.display()))(error));
                }
                _ => {}
            }
        }
        let clean = path.join(CLEAN_FILE);
        let marker = match self.disk.read_all(&clean).await {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(format!("reading {}", clean.display()))(error)),
        };
        match decode_clean(marker) {
            Ok((directory, _)) if directory == self.id => self.report.clean = true,
            // A marker of whatever else proves nothing; recovery needs none.
            Ok(_) | Err(StoredError::Damaged) => {}
            Err(StoredError::Newer(version)) => {
                return Err(OpenError::Newer { path: clean, version });
            }
        }
        let removing = || io_error(format!("removing {}", clean.display()));
        remove_if_there(&self.disk, &clean).await.map_err(removing())?;
        self.disk.sync_dir(&path).await.map_err(removing())
    }

    async fn read_checkpoint(&mut self) -> Result<(), OpenError> {
        let path = self.path.join(CHECKPOINT_FILE);
        let file = match self.disk.read_all(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(format!("reading {}", path.display()))(error)),
        };
        let checkpoint = match Checkpoint::decode(file) {
            Ok(checkpoint) => checkpoint,
            Err(StoredError::Newer(version)) => return Err(OpenError::Newer { path, version }),
            Err(StoredError::Damaged) => {
                let reason = "the directory checkpoint is damaged".to_owned();
                return Err(OpenError::Foreign { path, reason });
            }
        };
        if checkpoint.directory != self.id {
            let reason =
                format!("it belongs to log directory {}, not to {}", checkpoint.directory, self.id);
            return Err(OpenError::Foreign { path, reason }); // E8
        }
        self.next_log = checkpoint.next_log;
        for stored in checkpoint.logs {
            self.add(stored);
        }
        Ok(())
    }

    fn add(&mut self, stored: StoredLog) {
        let point = stored.anchor.point;
        let path = layout::log_dir(&self.path, &stored.partition);
        self.next_log = self.next_log.max(LogId(stored.id.0 + 1));
        let redo = Redo {
            end: point,
            trusted: point,
            cut: false,
            suspect: self.all_suspect,
            lost: None,
            sizes: BTreeMap::new(),
            touched: BTreeSet::new(),
            files: BTreeMap::new(),
            oldest: None,
            deleted: false,
            path,
            stored,
        };
        self.logs.insert(redo.stored.id, redo);
    }

    fn suspect(&mut self, which: impl Fn(LogId) -> bool) {
        self.logs
            .values_mut()
            .filter(|log| which(log.stored.id))
            .for_each(|log| log.suspect = true);
    }

    /// Does again what a frame did.
    async fn redo(&mut self, position: Position, frame: Frame) -> Result<(), OpenError> {
        if let FrameKind::Create { topic, topic_id, partition, flags, .. } = &frame.kind {
            let partition = TopicPartition { topic: topic.clone(), partition: *partition };
            if !self.logs.contains_key(&frame.log) && layout::is_legal(&partition) {
                let durability = match flags & CREATE_PAGE_CACHE {
                    0 => Durability::Sync,
                    _ => Durability::PageCache,
                };
                let card = Metadata {
                    directory: self.id,
                    log: frame.log,
                    topic_id: *topic_id,
                    durability,
                };
                self.redo_create(card, partition, position).await?;
            }
            return Ok(());
        }
        let disk = self.disk.clone();
        let Some(log) = self.logs.get_mut(&frame.log) else { return Ok(()) };
        // What the anchor vouches for is not done again.
        if position < log.stored.anchor.group || log.deleted {
            // But the journal repeats its last group under a new number, which the anchor does not vouch for.
            log.cut |= matches!(frame.kind, FrameKind::Truncate { .. });
            return Ok(());
        }
        let partition = log.stored.partition.clone();
        if log.oldest.is_none() {
            let card = read_card(&disk, &log.path).await;
            // The directory is a successor's: this log's deletion follows.
            if card.is_some_and(|card| card.directory == self.id && card.log > frame.log) {
                log.deleted = true;
                return Ok(());
            }
            // Gone by a deletion that follows, or lost.
            let creating = io_error(format!("creating {}", log.path.display()));
            disk.create_dir_all(&log.path).await.map_err(creating)?;
        }
        log.oldest.get_or_insert(position);
        let result = match frame.kind {
            FrameKind::Data(pieces) => {
                log.redo_data(&disk, frame.segment_base, frame.position, pieces).await
            }
            FrameKind::Extent { len, .. } => {
                log.redo_extent(&disk, frame.segment_base, frame.position, len).await
            }
            FrameKind::Truncate { end } => {
                let cut =
                    Point { offset: end, segment: frame.segment_base, position: frame.position };
                log.redo_truncate(&disk, cut).await
            }
            FrameKind::LogStart { offset } => {
                log.stored.log_start = log.stored.log_start.max(offset); // I11
                Ok(())
            }
            FrameKind::Delete => log.redo_delete(&disk).await,
            FrameKind::Create { .. } => Ok(()),
        };
        result.map_err(io_error(format!("redoing the journal for {partition}")))
    }

    async fn redo_create(
        &mut self,
        card: Metadata,
        partition: TopicPartition,
        position: Position,
    ) -> Result<(), OpenError> {
        let id = card.log;
        let path = layout::log_dir(&self.path, &partition);
        let creating = || io_error(format!("creating {}", path.display()));
        let found = read_card(&self.disk, &path).await;
        let ours = found.filter(|found| found.directory == self.id);
        // A successor of the same name is there already: this log's deletion follows, and its files are gone.
        let successor =
            |other: &Redo<D::File>| other.stored.partition == partition && other.stored.id > id;
        let dead = ours.is_some_and(|found| found.log > id) || self.logs.values().any(successor);
        if !dead && found.is_some_and(|found| found.directory != self.id) {
            // It was in the way when the log was created, and the rename that put it aside was lost.
            let aside = layout::stray_dir(&path, id);
            self.disk.rename(&path, &aside).await.map_err(creating())?;
            self.disk.sync_dir(&self.path).await.map_err(creating())?;
        }
        if !dead {
            self.disk.create_dir_all(&path).await.map_err(creating())?;
            // A card that is there may tell of a later change of durability.
            if found.is_none_or(|found| found.log != id) {
                self.write_card(&path, card).await.map_err(creating())?;
            }
        }
        let mut stored = StoredLog {
            id,
            topic_id: card.topic_id,
            partition,
            durability: card.durability,
            log_start: Offset::ZERO,
            anchor: Default::default(),
            epochs: Vec::new(),
            damages: Vec::new(),
        };
        stored.anchor.group = position;
        self.add(stored);
        if let Some(log) = self.logs.get_mut(&id) {
            log.oldest = Some(position);
            log.deleted = dead;
        }
        Ok(())
    }

    /// What each entry of the directory is: a log's, a deleted log's (to be removed), or a stray (E8).
    async fn sort_directories<C: Clock>(
        &mut self,
        registry: &mut Registry<D>,
        clock: &C,
    ) -> Result<(), OpenError> {
        let listing = || io_error(format!("listing {}", self.path.display()));
        let entries = self.disk.list(&self.path).await.map_err(listing())?;
        let live: BTreeMap<String, LogId> = self
            .logs
            .values()
            .filter(|log| !log.deleted)
            .map(|log| (log.stored.partition.to_string(), log.stored.id))
            .collect();
        let deleted: BTreeMap<LogId, TopicPartition> = self
            .logs
            .values()
            .filter(|log| log.deleted)
            .map(|log| (log.stored.id, log.stored.partition.clone()))
            .collect();
        let mut present = BTreeSet::new();
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            let path = self.path.join(&entry.name);
            // Whatever does not look like a partition is somebody else's, and nobody's business here.
            if !layout::is_deleted_dir(&entry.name) && !layout::is_log_dir(&entry.name) {
                continue;
            }
            if layout::is_deleted_dir(&entry.name) {
                registry.garbage.push(Garbage {
                    due: clock.now(),
                    paths: vec![path],
                    is_dir: true,
                });
                continue;
            }
            let card = read_card(&self.disk, &path).await;
            if let Some(&id) = live.get(&entry.name) {
                if card.is_none_or(|card| card.directory == self.id && card.log == id) {
                    present.insert(entry.name);
                    continue;
                }
                let reason = "its card names another log than the journal".to_owned();
                self.report.strays.push(Stray { path, reason });
                continue;
            }
            // The name of a log that was deleted: its rename was lost, unless the card says that it is something else.
            let dead = match card {
                Some(card) if card.directory == self.id => deleted.get(&card.log),
                Some(_) => None,
                None => deleted.values().find(|partition| partition.to_string() == entry.name),
            };
            if dead.is_some() {
                let id = card.map_or(LogId(u64::MAX), |card| card.log);
                let target = layout::deleted_dir(&path, id);
                self.disk
                    .rename(&path, &target)
                    .await
                    .map_err(io_error(format!("removing {}", path.display())))?;
                registry.garbage.push(Garbage {
                    due: clock.now(),
                    paths: vec![target],
                    is_dir: true,
                });
                continue;
            }
            let reason = match card {
                Some(card) if card.directory != self.id => {
                    format!("it belongs to log directory {}", card.directory)
                }
                Some(card) => format!("log {} is not known here", card.log),
                None => "it is no log of this directory".to_owned(),
            };
            self.report.strays.push(Stray { path, reason });
        }
        for name in live.keys().filter(|name| !present.contains(*name)) {
            let path = self.path.join(name);
            self.disk
                .create_dir_all(&path)
                .await
                .map_err(io_error(format!("creating {}", path.display())))?;
        }
        Ok(())
    }

    /// Makes a log out of what was redone.
    async fn load(
        &mut self,
        mut redo: Redo<D::File>,
        door: &Arc<Door<D>>,
        next: Position,
        now: Timestamp,
    ) -> Result<Log<D>, OpenError> {
        let partition = redo.stored.partition.clone();
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
        if start > redo.end.offset || is_emptied {
            // The start outlived the data it stood in (E8): nothing is left, and offsets below it are not used again.
            redo.end = Point { offset: start, segment: start, position: 0 };
            for base in std::mem::take(&mut segments).into_keys() {
                self.remove_segment(&redo.path, base).await.map_err(loading())?;
            }
        }
        // Beyond the end: bytes that nobody was told of (E1).
        let dead: Vec<Offset> =
            segments.keys().copied().filter(|base| *base > redo.end.segment).collect();
        // Of a page-cache log only the files tell where it ends: what was cut off must not come back behind new appends
        // that a power cut takes (I8).
        self.resync |= paged && !dead.is_empty();
        for base in dead {
            self.report.torn_bytes += segments.remove(&base).unwrap_or(0);
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
        let log =
            Log::new(redo.stored.id, partition.clone(), redo.stored.topic_id, door.clone(), state);
        self.rebuild(&log, redo.trusted, now).await.map_err(loading())?;
        log.lock().check();
        tracing::debug!(
            %partition, log = %redo.stored.id, ?durability, anchor = ?redo.stored.anchor, end = ?redo.end,
            trusted = %redo.trusted.offset, frames = redo.oldest.is_some(), "log recovered"
        );
        Ok(log)
    }

    async fn write_card(&self, dir: &Path, card: Metadata) -> io::Result<()> {
        let file = self.disk.open(&dir.join(METADATA_FILE), OpenMode::Create).await?;
        file.set_len(0).await?;
        file.write_at(0, vec![card.encode()]).await
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

    /// The journal knows nothing of a page-cache log's data, and not all of a log whose frames it lost: such a log goes
    /// on as far as its batches are whole and in order. What is found is written again: after a failed sync the page
    /// cache may show bytes that are not on the medium, and a sync would call them safe (I10).
    async fn extend(
        &mut self,
        redo: &mut Redo<D::File>,
        segments: &BTreeMap<Offset, u64>,
    ) -> io::Result<()> {
        loop {
            // What lies below the log start may be gone already; the log goes on in the segment that holds the start.
            let start = redo.stored.log_start;
            if redo.end.offset <= start
                && let Some((&base, _)) = segments.range(..=start).next_back()
                && base > redo.end.segment
            {
                redo.end = Point { offset: base, segment: base, position: 0 };
            }
            let Some(&len) = segments.get(&redo.end.segment) else { return Ok(()) };
            if len > redo.end.position {
                let file = redo.file(&self.disk, redo.end.segment).await?;
                let from = redo.end.position;
                let beyond = Offset(redo.end.segment.0 + 1);
                let next = segments.range(beyond..).next().map(|(base, _)| *base);
                let mut walk = Walk::new(file.clone(), from, len, SCAN_BYTES).verified();
                while let Step::Batch(position, header) = walk.next().await? {
                    // A batch that reaches into the next segment was cut, and the log began again there.
                    let overlaps = next.is_some_and(|next| header.end_offset() > next);
                    if header.base_offset() != redo.end.offset || overlaps {
                        break;
                    }
                    redo.end.offset = header.end_offset();
                    redo.end.position = position + header.bytes_total() as u64;
                }
                let mut at = from;
                while at < redo.end.position {
                    let wanted = (redo.end.position - at).min(SCAN_BYTES as u64) as usize;
                    let bytes = file.read_at(at, wanted).await?;
                    if bytes.is_empty() {
                        break;
                    }
                    at += bytes.len() as u64;
                    file.write_at(at - bytes.len() as u64, vec![bytes]).await?;
                }
                self.report.walked_bytes += redo.end.position - from;
                redo.touched.insert(redo.end.segment);
            }
            let next = redo.end.offset;
            if next == redo.end.segment || !segments.contains_key(&next) {
                return Ok(());
            }
            redo.roll(next);
        }
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
        let end = redo.end;
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
                unsynced: redo.touched.contains(&base) || len > size,
                is_new: !segments.contains_key(&base),
                index_checked: base < redo.trusted.segment,
                sound: Sound::found(size),
            });
        }
        Ok(())
    }

    /// Reads derived state as far as it can be trusted and rebuilds the rest by walking.
    async fn rebuild(&mut self, log: &Log<D>, trusted: Point, now: Timestamp) -> io::Result<()> {
        let (bases, interval) = {
            let state = log.lock();
            let bases: Vec<_> = state.segments.iter().map(|s| (s.base, s.size)).collect();
            (bases, state.config.index_interval_bytes)
        };
        let active = bases.last().map(|(base, _)| *base);
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
            let found = log.walk_end(&index, base, size).await?;
            log.lock().adopt_index(base, index, ages, now);
            if covered == size {
                log.lock().check_end(base, found);
            }
            if covered != size {
                self.quarantine_tail(log, base).await?;
            }
        }
        let whole = log.lock().epochs.entries().is_empty();
        let (producers, from) = log.nearest_snapshot(trusted.offset, now).await?;
        let mut producers = producers;
        let start = if whole { Offset::ZERO } else { from.min(trusted.offset) };
        let mut epochs = log.lock().epochs.clone();
        let walked = log
            .scan(start, |header: &BatchHeader| {
                if header.base_offset() >= from {
                    producers.add(header, now);
                }
                if (whole || header.base_offset() >= trusted.offset)
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

    /// The index could not be walked to the end of its segment: what was durable there is bad (I14). Finds out how far
    /// the good bytes go and quarantines the rest.
    async fn quarantine_tail(&mut self, log: &Log<D>, base: Offset) -> io::Result<()> {
        let (mut at, end, size) = {
            let state = log.lock();
            let Some(segment) = state.segments.iter().find(|segment| segment.base == base) else {
                return Ok(());
            };
            let Some(index) = &segment.index else { return Ok(()) };
            let mark = state.boundary(base, index, index.covered());
            let at = Point { offset: mark.offset, segment: base, position: mark.position };
            (at, segment.end, segment.size)
        };
        let file = log.segment_file(base).await?;
        let mut walk = Walk::new(file, at.position, size, SCAN_BYTES).from(at.offset);
        while let Step::Batch(position, header) = walk.next().await? {
            at.offset = header.end_offset();
            at.position = position + header.bytes_total() as u64;
        }
        let damage = Damage { start: at, end, end_position: size };
        tracing::error!(
            partition = %log.inner.partition, start = %at.offset, %end,
            "durable bytes are damaged: the range is quarantined"
        );
        let mut state = log.lock();
        state.add_damage(damage);
        if let Some(segment) = state.segment(base)
            && let Some(index) = segment.index.as_mut()
        {
            index.skip_to(size);
        }
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

async fn read_card<D: Disk>(disk: &D, dir: &Path) -> Option<Metadata> {
    Metadata::decode(disk.read_all(&dir.join(METADATA_FILE)).await.ok()?).ok()
}

impl<F: File> Redo<F> {
    async fn file<D: Disk<File = F>>(&mut self, disk: &D, base: Offset) -> io::Result<F> {
        if let Some(file) = self.files.get(&base) {
            return Ok(file.clone());
        }
        let file = disk.open(&Kind::Log.path(&self.path, base), OpenMode::Create).await?;
        self.files.insert(base, file.clone());
        Ok(file)
    }

    fn roll(&mut self, base: Offset) {
        self.sizes.insert(self.end.segment, self.end.position);
        self.end = Point { offset: base, segment: base, position: 0 };
    }

    /// Writes batches where they stood. Bytes that the segment holds already are the same bytes.
    async fn redo_data<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: Offset,
        position: u64,
        pieces: Vec<Bytes>,
    ) -> io::Result<()> {
        let bytes = match <[Bytes; 1]>::try_from(pieces) {
            Ok([bytes]) => bytes,
            Err(pieces) => {
                let mut whole = BytesMut::new();
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        let len = bytes.len() as u64;
        let mut span: Option<(Offset, Offset)> = None;
        for batch in Batches::split(bytes.clone()) {
            let batch = batch.map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a frame holds no batch: {error}"),
                )
            })?;
            let first = span.map_or(batch.base_offset(), |(first, _)| first);
            span = Some((first, batch.end_offset()));
        }
        let Some((first, end)) = span else { return Ok(()) };
        if end <= self.stored.log_start && segment < self.end.segment {
            return Ok(());
        }
        let start = Point { offset: first, segment, position };
        let after = Point { offset: end, segment, position: position + len };
        let known = after.offset <= self.end.offset;
        if !known && start != self.end {
            if segment == self.end.offset && position == 0 {
                self.roll(segment);
            } else {
                self.bridge(disk, start).await?;
            }
        }
        let file = self.file(disk, segment).await?;
        file.write_at(position, vec![bytes]).await?;
        self.touched.insert(segment);
        if !known {
            self.end = after;
        }
        Ok(())
    }

    /// The next frame does not begin where the last one ended: frames between were lost (I14). If the segments hold
    /// whole batches there, they are kept; what is not whole is quarantined, never cut.
    async fn bridge<D: Disk<File = F>>(&mut self, disk: &D, start: Point) -> io::Result<()> {
        if (start.segment, start.position) < (self.end.segment, self.end.position) {
            // A truncation was among the lost frames.
            return self.redo_truncate(disk, start).await;
        }
        while self.end != start {
            let here = self.end.segment == start.segment;
            let file = self.file(disk, self.end.segment).await?;
            let limit = if here { start.position } else { file.len().await? };
            let mut walk =
                Walk::new(file, self.end.position, limit.max(self.end.position), SCAN_BYTES)
                    .verified();
            while let Step::Batch(position, header) = walk.next().await? {
                let wanted = self.end.offset;
                let end = position + header.bytes_total() as u64;
                if header.base_offset() != wanted || header.end_offset() > start.offset {
                    break;
                }
                self.end.offset = header.end_offset();
                self.end.position = end;
            }
            self.touched.insert(self.end.segment);
            if here {
                if self.end != start {
                    self.damage_to(start.offset, start.position);
                }
                self.end = start;
            } else {
                // The segment that follows: the one of the next frame, if nothing else is known.
                let next = match disk.exists(&Kind::Log.path(&self.path, self.end.offset)).await? {
                    true if self.end.offset > self.end.segment => self.end.offset,
                    _ => start.segment,
                };
                if self.end.offset != next {
                    self.damage_to(next, limit.max(self.end.position));
                }
                self.roll(next);
            }
        }
        Ok(())
    }

    fn damage_to(&mut self, end: Offset, end_position: u64) {
        self.stored.damages.push(Damage { start: self.end, end, end_position });
        self.end.position = end_position;
        self.end.offset = end;
    }

    /// The directory goes at once: the next CREATE may be of the same name.
    async fn redo_delete<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.deleted = true;
        self.files.clear();
        match disk.remove_dir_all(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Bytes that went straight to the segment and were synced there before the frame was written.
    async fn redo_extent<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: Offset,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        if (segment, position + len) <= (self.end.segment, self.end.position) {
            return Ok(());
        }
        if segment == self.end.offset && position == 0 {
            self.roll(segment);
        }
        let file = self.file(disk, segment).await?;
        let mut walk = Walk::new(file, position, position + len, SCAN_BYTES).verified();
        while let Step::Batch(at, header) = walk.next().await? {
            self.end = Point {
                offset: header.end_offset(),
                segment,
                position: at + header.bytes_total() as u64,
            };
        }
        Ok(())
    }

    async fn redo_truncate<D: Disk<File = F>>(&mut self, disk: &D, cut: Point) -> io::Result<()> {
        for entry in disk.list(&self.path).await? {
            if let Some((kind, base)) = Kind::parse(&entry.name)
                && base > cut.segment
                && (kind != Kind::Snapshot || base > cut.offset)
            {
                self.files.remove(&base);
                self.sizes.remove(&base);
                self.touched.remove(&base);
                remove_if_there(disk, &self.path.join(&entry.name)).await?;
            }
        }
        let file = self.file(disk, cut.segment).await?;
        if file.len().await? > cut.position {
            file.set_len(cut.position).await?;
        }
        self.sizes.remove(&cut.segment);
        self.touched.insert(cut.segment);
        // The journal does not know how much of a page-cache log below the cut is on the medium.
        if cut.offset < self.end.offset {
            self.end = cut;
        }
        self.cut = true;
        if cut.offset < self.trusted.offset {
            self.trusted = cut;
        }
        self.stored.damages.retain(|damage| damage.start.offset < cut.offset);
        Ok(())
    }
}
