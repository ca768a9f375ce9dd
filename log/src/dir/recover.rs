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

mod load;
mod redo;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use env::{Clock, Disk, File, OpenMode};
use types::mutant::{Mutant, planted};
use types::{DirectoryId, LogId, Offset, TopicPartition};

use self::redo::Redo;
use super::change::{CREATE_PAGE_CACHE, remove_if_there};
use super::checkpoint::Scope;
use super::stored::{Checkpoint, Metadata, StoredError, StoredLog, decode_clean};
use super::{Garbage, Inner, LogDir, RecoveryReport, Registry, Stray};
use crate::door::Door;
use crate::journal::{Frame, FrameKind, Item, Journal, JournalError, JournalOptions, Position};
use crate::layout::{self, CHECKPOINT_FILE, CLEAN_FILE, JOURNAL_DIR, Kind, METADATA_FILE};
use crate::log::{Anchor, Point};
use crate::{Durability, LogDirOptions, OpenError};

/// What [`open`] needs at every step.
struct Opening<D: Disk> {
    disk: D,
    door: Arc<Door<D>>,
    path: PathBuf,
    id: DirectoryId,
    report: RecoveryReport,
    logs: BTreeMap<LogId, Redo<D::File>>,
    next_log: LogId,
    /// A page-cache log was cut again: the cut must not be redone once more, over bytes that the journal does not know.
    cut_paged: bool,
    /// Something was found in segments that the journal has lost: it must be synced before it is announced.
    resync: bool,
    /// What lay beyond the end that the journal knows was written again.
    has_rewritten: bool,
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
    let door = Arc::new(Door::new(disk.clone(), path, options));
    let options = &door.options;
    let mut opening = Opening {
        disk: disk.clone(),
        door: door.clone(),
        path: path.to_owned(),
        id,
        report: RecoveryReport::default(),
        logs: BTreeMap::new(),
        next_log: LogId(1),
        cut_paged: false,
        resync: false,
        has_rewritten: false,
        all_suspect: false,
    };
    opening.prepare().await?;
    door.begin().await;
    opening.read_checkpoint().await?;
    opening.check_journal().await?;

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
    // What a frame has removed nothing brings back. Unless the frame is known to be durable it is done again when the journal
    // is, with what follows it: a power cut now could take the frame, and leave holes of what it had removed in part (I6).
    let mut later = Vec::new();
    while let Some(item) = recovery.next().await.map_err(&refuse)? {
        let waits = match &item {
            Item::Frame { position, frame } => {
                frame.kind.removes() && !recovery.is_durable(*position)
            }
            Item::Damaged(_) => false,
        };
        match !later.is_empty() || waits && !planted(Mutant::UndurableRedone) {
            true => later.push(item),
            false => opening.take(item).await?,
        }
    }
    let finished = recovery.finish_with(Some(&door.ballast)).await;
    let (journal, journal_report) = finished.map_err(&refuse)?;
    opening.report.journal_bytes = journal_report.bytes;
    for item in later {
        opening.take(item).await?;
    }

    let mut registry = Registry {
        logs: BTreeMap::new(),
        next_log: opening.next_log,
        garbage: Vec::new(),
        entries_changed: true,
    };
    opening.sort_directories(&mut registry, clock).await?;
    let logs = std::mem::take(&mut opening.logs);
    for redo in logs.into_values().filter(|redo| !redo.deleted) {
        let log = opening.load(redo, journal.next_position(), now).await?;
        opening.report.quarantined.extend(log.quarantined());
        registry.logs.insert(log.inner.partition.clone(), log);
    }
    let checkpoint = opening.cut_paged || opening.resync;
    if opening.has_rewritten {
        // Once these bytes are synced, rot in them is known for rot, whenever this process dies (I14).
        door.paged_bytes.store(door.options.paged_bytes_max, Ordering::Relaxed);
    }
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
            Ok((directory, _)) if directory == self.id => {
                // Refused before the marker is gone: the next attempt must see the same.
                self.check_checkpoint().await?;
                self.report.clean = true;
            }
            // A marker of whatever else proves nothing; recovery needs none.
            Ok(_) | Err(StoredError::Damaged) => {}
            Err(StoredError::Newer(version)) => {
                // A newer release leaves a newer checkpoint beside it. Beside one of ours it is a version that has rotted.
                let checkpoint = self.disk.read_all(&path.join(CHECKPOINT_FILE)).await;
                if !checkpoint.is_ok_and(|file| Checkpoint::decode(file).is_ok()) {
                    return Err(OpenError::Newer { path: clean, version });
                }
            }
        }
        let removing = || io_error(format!("removing {}", clean.display()));
        remove_if_there(&self.disk, &clean).await.map_err(removing())?;
        self.disk.sync_dir(&path).await.map_err(removing())
    }

    /// A clean stop leaves a checkpoint. Without it the journal's logs would be taken for strangers' and served empty.
    async fn check_checkpoint(&self) -> Result<(), OpenError> {
        let path = self.path.join(CHECKPOINT_FILE);
        let looking = || io_error(format!("looking for {}", path.display()));
        if self.disk.exists(&path).await.map_err(looking())? {
            return Ok(());
        }
        let reason =
            "the directory was stopped cleanly, which left this file, and it is gone".to_owned();
        Err(OpenError::Foreign { path, reason })
    }

    /// Logs that were created have a journal, whose frames may be all there is of them.
    async fn check_journal(&self) -> Result<(), OpenError> {
        let path = self.path.join(JOURNAL_DIR);
        let looking = || io_error(format!("looking for {}", path.display()));
        if self.disk.exists(&path).await.map_err(looking())? {
            return Ok(());
        }
        let mut has_logs = !self.logs.is_empty();
        for entry in self.disk.list(&self.path).await.map_err(looking())? {
            if entry.is_dir && layout::is_log_dir(&entry.name) {
                let card = read_card(&self.disk, &self.path.join(&entry.name)).await;
                has_logs |= card.is_some_and(|card| card.directory == self.id);
            }
        }
        if !has_logs {
            return Ok(());
        }
        let reason = "the journal of the logs beside it is gone".to_owned();
        Err(OpenError::Foreign { path, reason })
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

    /// Logs whose creation may have been in the damage: the card in a directory says whose it is, and such a log goes on as its
    /// segments show, like any whose frames were lost (I14). What is created later in the journal has its card by now, too, and
    /// is found empty.
    async fn adopt(&mut self, which: impl Fn(LogId) -> bool) -> Result<(), OpenError> {
        let listing = || io_error(format!("listing {}", self.path.display()));
        for entry in self.disk.list(&self.path).await.map_err(listing())? {
            let Some(partition) = layout::log_dir_partition(&entry.name).filter(|_| entry.is_dir)
            else {
                continue;
            };
            let path = self.path.join(&entry.name);
            let Some(card) = read_card(&self.disk, &path).await else { continue };
            let is_known = self.logs.contains_key(&card.log)
                || self.logs.values().any(|log| !log.deleted && log.stored.partition == partition);
            if card.directory != self.id || is_known || !which(card.log) {
                continue;
            }
            let listing = || io_error(format!("listing {}", path.display()));
            let files = self.disk.list(&path).await.map_err(listing())?;
            let bases = files.iter().filter_map(|file| match Kind::parse(&file.name) {
                Some((Kind::Log, base)) => Some(base),
                _ => None,
            });
            let start = bases.min().unwrap_or(Offset::ZERO);
            tracing::error!(
                %partition, log = %card.log,
                "its creation is in the damaged part of the journal: it goes on as its segments show"
            );
            let point = Point { offset: start, segment: start, position: 0 };
            self.add(StoredLog {
                id: card.log,
                topic_id: card.topic_id,
                partition,
                durability: card.durability,
                log_start: start,
                anchor: Anchor { point, ..Anchor::default() },
                epochs: Vec::new(),
                damages: Vec::new(),
            });
        }
        Ok(())
    }

    /// Does again what the journal tells next.
    async fn take(&mut self, item: Item) -> Result<(), OpenError> {
        let door = self.door.clone();
        match item {
            Item::Frame { position, frame } => loop {
                match self.redo(position, frame.clone()).await {
                    Err(OpenError::Io { error, .. }) if door.makes_room(&error).await => {}
                    redone => break redone?,
                }
            },
            Item::Damaged(damage) => {
                tracing::error!(path = %self.path.display(), %damage, "the journal is damaged");
                match &damage.frame {
                    Some(key) => {
                        self.adopt(|id| id == key.log).await?;
                        self.suspect(|id| id == key.log);
                        if let Some(log) = self.logs.get_mut(&key.log) {
                            let end = (key.segment_base, key.position + key.bytes);
                            log.lost = log.lost.max(Some(end));
                        }
                    }
                    None => {
                        self.all_suspect = true;
                        self.adopt(|_| true).await?;
                        self.suspect(|_| true);
                    }
                }
                self.report.damages.push(damage.to_string());
            }
        }
        Ok(())
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
            log.cut |= matches!(frame.kind, FrameKind::Truncate { .. } | FrameKind::Reset { .. });
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
                log.data(&disk, frame.segment_base, frame.position, pieces).await
            }
            FrameKind::Extent { len, .. } => {
                log.extent(&disk, frame.segment_base, frame.position, len).await
            }
            FrameKind::Truncate { end } => {
                let cut =
                    Point { offset: end, segment: frame.segment_base, position: frame.position };
                log.truncate(&disk, cut).await
            }
            FrameKind::LogStart { offset } => {
                log.stored.log_start = log.stored.log_start.max(offset); // I11
                Ok(())
            }
            FrameKind::Reset { offset } => log.reset(&disk, offset).await,
            FrameKind::Delete => log.delete(&disk).await,
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
            loop {
                match self.disk.create_dir_all(&path).await {
                    Err(error) if self.door.makes_room(&error).await => {}
                    created => {
                        break created.map_err(io_error(format!("creating {}", path.display())))?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_card(&self, dir: &Path, card: Metadata) -> io::Result<()> {
        loop {
            match self.try_card(dir, card).await {
                Err(error) if self.door.makes_room(&error).await => {}
                written => return written,
            }
        }
    }

    async fn try_card(&self, dir: &Path, card: Metadata) -> io::Result<()> {
        let file = self.disk.open(&dir.join(METADATA_FILE), OpenMode::Create).await?;
        file.set_len(0).await?;
        file.write_at(0, vec![card.encode()]).await
    }
}

async fn read_card<D: Disk>(disk: &D, dir: &Path) -> Option<Metadata> {
    Metadata::decode(disk.read_all(&dir.join(METADATA_FILE)).await.ok()?).ok()
}
