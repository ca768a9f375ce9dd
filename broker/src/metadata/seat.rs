//! This node's seat in the metadata quorum: carries out what [`cluster::quorum`] decides, on the metadata log and the ballot.
//!
//! What leaves the node (questions, answers) and what time is to do are handed to the room. A change is applied when it is
//! committed *and* synced here: what this node acts on it still knows after a power cut.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster::config::BrokerSettings;
use cluster::metadata::{Image, MetadataRecord};
use cluster::quorum::{
    Ballot, Effect, Event, Position, Quorum, ReplicaKey, Reply, Request, Ticket, Timer,
    VoterHistory, Voters,
};
use env::{Disk, Env, is_full};
use log::{LogDir, OpenError};
use record::Batch;
use types::mutant::{Mutant, planted};
use types::{NodeId, Offset};

use super::ballot::{BallotError, BallotFile};
use super::discovery;
use super::log::{Content, MetadataLog, MetadataLogFailed};
use super::snapshot::{self, Snapshot};
use crate::config::Founders;
use crate::start::StartError;

/// The seat.
pub(crate) struct Seat<E: Env> {
    env: E,
    path: PathBuf,
    log: MetadataLog<E>,
    /// `None` until there is a file, or room for one.
    ballots: Option<BallotFile<<E::Disk as Disk>::File>>,
    quorum: Quorum,
    me: ReplicaKey,
    /// Changes that are written here and not applied yet, in order.
    unapplied: VecDeque<Change>,
    /// What the newest snapshot held when the log was opened.
    base: Arc<Image>,
    has_snapshot: bool,
    /// Bytes of the log behind the newest snapshot.
    bytes: u64,
    /// A disk that takes longer to store a ballot has failed.
    patience: Duration,
}

/// One change of the metadata: a batch of the log.
pub(crate) struct Change {
    /// The offset after its last record.
    pub(crate) end: Offset,
    /// What it says.
    pub(crate) records: Vec<MetadataRecord>,
}

/// What comes with an event.
pub(super) enum Carried {
    Nothing,
    /// The records of [`Event::Decided`].
    Decided(Vec<MetadataRecord>),
    /// The batches of an answer to a fetch.
    Fetched(Vec<Batch>),
}

/// What the quorum wants done outside its seat.
pub(super) enum Outside {
    Send(NodeId, Request),
    Reply(Ticket, Reply),
    Arm(Timer),
    /// Fetch the snapshot that ends there from that node.
    FetchSnapshot(NodeId, Position),
    /// The log begins anew at the end of a snapshot: what was applied is what that holds.
    Restarted(Position),
}

impl<E: Env> Seat<E> {
    /// Opens the log and the ballot in the metadata directory `path`, which is that of `me`. Where the log says nothing of
    /// voters, `founders` vote; that may have to be asked for, for as long as it takes. `stands`: whether it may lead.
    pub(crate) async fn open(
        env: &E,
        path: &Path,
        me: ReplicaKey,
        founders: &Founders,
        stands: bool,
        settings: &BrokerSettings,
    ) -> Result<Seat<E>, StartError> {
        let log = MetadataLog::open(env, path.to_owned(), me.directory, settings).await?;
        let path = log.dir().path().to_owned();
        let read = read(env, &path, &log, me, founders).await;
        let Known { start, base, voters, unapplied, bytes } = read
            .map_err(|error| StartError::Disk { path: path.clone(), reason: error.to_string() })?;
        let patience = settings.disk_sync_timeout;
        let opened = env.timeout(patience, BallotFile::open(env.disk(), &path)).await;
        let opened = opened.unwrap_or_else(|| Err(BallotError::Io(io::ErrorKind::TimedOut.into())));
        // Who votes alone tells nobody of an epoch before the log knows of it, and needs no other memory.
        let is_alone = voters.newest().nodes().eq([me.node]);
        let is_new = log.end() == Offset::ZERO;
        let (ballots, ballot) = match opened {
            Ok((file, ballot)) => (Some(file), ballot),
            Err(BallotError::Missing(_)) if is_alone || is_new => (None, Ballot::default()),
            Err(BallotError::Damaged(file)) if is_alone => {
                tracing::warn!(file = %file.display(), "the ballot cannot be read: it is made anew");
                (None, Ballot::default())
            }
            Err(BallotError::Missing(file) | BallotError::Damaged(file)) => {
                // To vote twice in an epoch could elect two leaders (I37).
                let reason = format!(
                    "{} is missing or cannot be read, and whom this node voted for with it; remove node {me} from the \
                     voters, empty the directory {}, and add the node again",
                    file.display(),
                    path.display()
                );
                return Err(StartError::open(&path, OpenError::Foreign { path: file, reason }));
            }
            Err(BallotError::Io(error)) => {
                let reason = format!("reading the ballot: {error}");
                return Err(StartError::Disk { path, reason });
            }
            Err(BallotError::Newer(file, version)) => {
                return Err(StartError::open(&path, OpenError::Newer { path: file, version }));
            }
        };
        let quorum = Quorum::new(me, ballot, log.shape(start), voters);
        let quorum = if stands { quorum } else { quorum.never_standing() };
        // One at the very beginning names voters, and holds nothing.
        let (env, has_snapshot) = (env.clone(), start.offset > Offset::ZERO);
        let base = base.unwrap_or_else(|| Arc::new(Image::empty()));
        Ok(Seat {
            env,
            path,
            log,
            ballots,
            quorum,
            me,
            unapplied,
            base,
            has_snapshot,
            bytes,
            patience,
        })
    }

    /// Directory of its log.
    pub(crate) fn dir(&self) -> &LogDir<E::Disk> {
        self.log.dir()
    }

    /// What is written and not applied, in order: at first all there is.
    pub(crate) fn unapplied(&self) -> impl Iterator<Item = &Change> {
        self.unapplied.iter()
    }

    /// What everything below the log had come to when it was opened.
    pub(crate) fn base(&self) -> &Arc<Image> {
        &self.base
    }

    /// Whether anything was ever written.
    pub(crate) fn knows_anything(&self) -> bool {
        self.has_snapshot || !self.unapplied.is_empty()
    }

    /// Directory of the log and its snapshots.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the log behind the newest snapshot.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A snapshot was written, or could not be: the next one is due when as much has been written again.
    pub(super) fn begin_count(&mut self) {
        self.bytes = 0;
    }

    /// Forgets what the snapshot that ends at `end` holds, aside: it waits for the log's own syncs.
    pub(super) fn forgetting(&self, end: Position) -> impl Future<Output = ()> + use<E> {
        let (log, env, path) = (self.log.clone(), self.env.clone(), self.path.clone());
        async move {
            if let Err(error) = log.forget(end.offset).await {
                tracing::warn!(%error, "the metadata log keeps what a snapshot holds");
                return;
            }
            if let Err(error) = snapshot::remove_before(env.disk(), &path, end).await {
                tracing::warn!(%error, "old snapshots of the metadata stay for now");
            }
        }
    }

    /// Whether nobody else votes.
    pub(crate) fn is_alone(&self) -> bool {
        self.quorum.voters().nodes().eq([self.me.node])
    }

    pub(super) fn log(&self) -> &MetadataLog<E> {
        &self.log
    }

    pub(super) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    pub(super) fn replica(&self) -> ReplicaKey {
        self.me
    }

    /// Lets the quorum take an event, and does on this node what it asks for; returns what is to be done outside.
    pub(super) async fn take(
        &mut self,
        event: Event,
        carried: Carried,
    ) -> Result<Vec<Outside>, MetadataLogFailed> {
        let mut effects = Vec::new();
        self.quorum.step(event, &mut effects);
        let mut carried = Some(carried);
        let mut outside = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(ballot) => self.store(&ballot).await?,
                Effect::AppendControl(control) => {
                    let (epoch, voters) = (self.quorum.epoch(), self.quorum.voters());
                    self.log.append_control(&control, epoch, self.me, voters)?;
                }
                Effect::AppendDecided | Effect::AppendFetched => match carried.take() {
                    Some(Carried::Decided(records)) => self.append_decided(records)?,
                    Some(Carried::Fetched(batches)) => self.append_fetched(batches)?,
                    _ => return Err(MetadataLogFailed("there is nothing to append".into())),
                },
                Effect::Truncate(end) => {
                    self.log.truncate(end).await?;
                    self.unapplied.retain(|change| change.end <= end);
                }
                Effect::Arm(timer) => outside.push(Outside::Arm(timer)),
                Effect::Send(node, request) => outside.push(Outside::Send(node, request)),
                Effect::Reply(ticket, reply) => outside.push(Outside::Reply(ticket, reply)),
                Effect::FetchSnapshot(node, end) => outside.push(Outside::FetchSnapshot(node, end)),
                Effect::Restart(end) => {
                    self.log.restart(end.offset).await?;
                    self.unapplied.clear();
                    self.bytes = 0;
                    outside.push(Outside::Restarted(end));
                }
                // Read where it is wanted.
                Effect::HighWatermark(_) => {}
                Effect::Halt(reason) => return Err(MetadataLogFailed(reason)),
            }
        }
        Ok(outside)
    }

    fn append_decided(&mut self, records: Vec<MetadataRecord>) -> Result<(), MetadataLogFailed> {
        self.bytes += self.log.append(&records, self.quorum.epoch())? as u64;
        self.unapplied.push_back(Change { end: self.log.end(), records });
        Ok(())
    }

    fn append_fetched(&mut self, batches: Vec<Batch>) -> Result<(), MetadataLogFailed> {
        // What cannot be read is not stored either.
        let mut changes = Vec::new();
        for batch in &batches {
            self.bytes += batch.bytes_total() as u64;
            if let Content::Records(records) = Content::of(batch)? {
                changes.push(Change { end: batch.end_offset(), records });
            }
        }
        self.log.append_fetched(batches)?;
        self.unapplied.extend(changes);
        Ok(())
    }

    /// Takes out the changes below `end`, up to which all is committed and synced here.
    pub(super) fn committed(&mut self, end: Offset) -> Vec<Change> {
        let count = self.unapplied.partition_point(|change| change.end <= end);
        self.unapplied.drain(..count).collect()
    }

    /// End of what is committed and synced here.
    pub(super) fn applicable(&self) -> Offset {
        if planted(Mutant::UncommittedApplied) {
            return self.log.end();
        }
        self.quorum.high_watermark().min(self.log.synced())
    }

    async fn store(&mut self, ballot: &Ballot) -> Result<(), MetadataLogFailed> {
        let (disk, path) = (self.env.disk().clone(), self.path.clone());
        let is_alone = self.is_alone();
        let ballots = &mut self.ballots;
        let storing = async {
            match ballots {
                Some(file) => file.store(ballot).await,
                None => match BallotFile::create(&disk, &path, ballot).await {
                    Err(error) if is_alone && is_full(&error) => {
                        tracing::warn!(path = %path.display(), "no space for the ballot of this node");
                        Ok(())
                    }
                    made => made.map(|file| *ballots = Some(file)),
                },
            }
        };
        let stored = self.env.timeout(self.patience, storing).await;
        stored.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let path = self.path.display();
            MetadataLogFailed(format!("the ballot of epoch {} in {path}: {error}", ballot.epoch))
        })
    }
}

/// What lies on the disk.
struct Known {
    /// Where the newest snapshot ends.
    start: Position,
    /// What it holds.
    base: Option<Arc<Image>>,
    /// Who votes from there on.
    voters: VoterHistory,
    /// What the log has behind it, and its bytes.
    unapplied: VecDeque<Change>,
    bytes: u64,
}

async fn read<E: Env>(
    env: &E,
    path: &Path,
    log: &MetadataLog<E>,
    me: ReplicaKey,
    founders: &Founders,
) -> Result<Known, MetadataLogFailed> {
    let newest = newest_snapshot(env.disk(), path, log).await?;
    let start = newest.as_ref().map_or(Position::default(), |newest| newest.end);
    let (mut unapplied, mut bytes) = (VecDeque::new(), 0);
    let mut electorate = None;
    let mut changes = Vec::new();
    log.replay(start.offset, |batch, content| {
        bytes += batch.bytes_total() as u64;
        match content {
            Content::Records(records) => {
                unapplied.push_back(Change { end: batch.end_offset(), records });
            }
            Content::LeaderChange(voters) => electorate = Some(voters),
            Content::Voters(voters) => changes.push((batch.base_offset(), voters)),
        }
    })
    .await?;
    let mut base = None;
    let mut named = None;
    if let Some(Snapshot { voters, image, .. }) = newest {
        base = Some(Arc::new(image));
        match voters.0.values().any(|voter| voter.directory.is_some()) {
            true => named = Some(voters),
            false => electorate = electorate.or(Some(voters)),
        }
    }
    let has_records = start.offset > Offset::ZERO || !unapplied.is_empty();
    // What is named in the log, or in a snapshot of it, is there for everybody.
    let mut voters = match (named, founders) {
        (Some(named), _) if start.offset > Offset::ZERO => VoterHistory::new(named),
        (Some(named), _) => VoterHistory::unwritten(named),
        (None, Founders::These(founders)) => {
            VoterHistory::unwritten(electors(me, founders, electorate, has_records))
        }
        (None, Founders::Ask(_)) if !changes.is_empty() => VoterHistory::new(Voters::default()),
        // Whoever has to ask does not vote before the log says so.
        (None, Founders::Ask(servers)) => {
            VoterHistory::unwritten(discovery::voters(env, me.node, servers).await)
        }
    };
    for (offset, changed) in changes {
        voters.push(offset, changed);
    }
    Ok(Known { start, base, voters, unapplied, bytes })
}

/// The newest snapshot that is whole. A log that ends before it, or has another record there, was about to begin anew with it.
async fn newest_snapshot<E: Env>(
    disk: &E::Disk,
    path: &Path,
    log: &MetadataLog<E>,
) -> Result<Option<Snapshot>, MetadataLogFailed> {
    let known = async {
        snapshot::tidy(disk, path).await?;
        snapshot::list(disk, path).await
    };
    let known =
        known.await.map_err(|error| MetadataLogFailed(format!("{}: {error}", path.display())))?;
    let mut lost = None;
    for end in known.into_iter().rev() {
        if end.offset < log.start() {
            break;
        }
        match snapshot::load(disk, path, end).await {
            Ok(loaded) => {
                let is_in_log = match log.start() == end.offset {
                    true => true,
                    false => log.epoch_before(end.offset) == Some(end.epoch),
                };
                if !is_in_log {
                    log.restart(end.offset).await?;
                }
                return Ok(Some(loaded));
            }
            Err(error) => {
                tracing::error!(file = %snapshot::path(path, end).display(), %error, "a snapshot of the metadata cannot be read");
                lost = lost.or(Some(error));
            }
        }
    }
    match log.start() {
        Offset::ZERO => Ok(None),
        start => {
            let reason = lost.map_or("there is none".to_owned(), |error| error.to_string());
            Err(MetadataLogFailed(format!(
                "the metadata log begins at offset {start}, and no snapshot holds what was before: {reason}"
            )))
        }
    }
}

/// Who votes as long as the log does not name voters: those who could vote for its leaders. A log that has none, of a node
/// that was alone, goes on alone, whatever a configuration says by now: others are added one by one (I42).
fn electors(
    me: ReplicaKey,
    founders: &Voters,
    electorate: Option<Voters>,
    has_records: bool,
) -> Voters {
    let alone = Voters::of([me]);
    let votes = founders.0.contains_key(&me.node);
    let Some(voters) = electorate else {
        return if has_records && votes { alone } else { founders.clone() };
    };
    if voters.nodes().eq(founders.nodes()) {
        return founders.clone();
    }
    if voters.nodes().eq([me.node]) { alone } else { voters }
}

#[cfg(test)]
mod tests {
    use types::{DirectoryId, Uuid};

    use super::*;

    #[test]
    fn a_node_that_was_alone_goes_on_alone() {
        let key = |node: i32| ReplicaKey {
            node: NodeId(node),
            directory: DirectoryId(Uuid([node as u8; 16])),
        };
        let (me, all) = (key(1), Voters::of([1, 2, 3].map(key)));
        let alone = Voters::of([me]);
        assert_eq!(electors(me, &all, None, false), all, "a new node");
        assert_eq!(electors(me, &all, None, true), alone, "of a release without leader changes");
        assert_eq!(electors(me, &all, Some(alone.clone()), true), alone);
        assert_eq!(electors(me, &all, Some(all.clone()), false), all);
        let others = Voters::of([2, 3].map(key));
        assert_eq!(electors(me, &all, Some(others.clone()), true), others);
    }
}
