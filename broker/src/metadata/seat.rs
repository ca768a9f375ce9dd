//! This node's seat in the metadata quorum: carries out what [`cluster::quorum`] decides, on the metadata log and the ballot.
//!
//! It is the only voter: it elects itself at each start, in a new epoch whose first record says so, and commits after its
//! own sync (I39). A log that names other voters is refused. So the ballot adds nothing yet to what the log says: no epoch is
//! told of before its first record is durable. A node whose ballot is lost, or finds no room, goes on by its log.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::config::BrokerSettings;
use cluster::metadata::MetadataRecord;
use cluster::quorum::{Ballot, Control, Effect, Event, Quorum, ReplicaKey, VoterHistory, Voters};
use env::{Disk, Env, is_full};
use log::{LogDir, OpenError};
use types::mutant::{Mutant, planted};
use types::{DirectoryId, NodeId, Offset, QuorumEpoch};

use super::ballot::{BallotError, BallotFile};
use super::log::{MetadataLog, MetadataLogFailed};
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
    /// A disk that takes longer to store a ballot has failed.
    patience: Duration,
}

impl<E: Env> Seat<E> {
    /// Opens the log and the ballot in the metadata directory `path`, which is `directory`.
    pub(crate) async fn open(
        env: &E,
        path: &Path,
        node: NodeId,
        directory: DirectoryId,
        settings: &BrokerSettings,
    ) -> Result<Seat<E>, StartError> {
        let me = ReplicaKey { node, directory };
        let log = MetadataLog::open(env, path.to_owned(), directory, node, settings).await?;
        let path = log.dir().path().to_owned();
        let patience = settings.disk_sync_timeout;
        let opened = env.timeout(patience, BallotFile::open(env.disk(), &path)).await;
        let opened = opened.unwrap_or_else(|| Err(BallotError::Io(io::ErrorKind::TimedOut.into())));
        let (ballots, ballot) = match opened {
            Ok((file, ballot)) => (Some(file), ballot),
            Err(BallotError::Damaged(file)) => {
                tracing::warn!(file = %file.display(), "the ballot cannot be read: it is made anew");
                (None, Ballot::default())
            }
            Err(BallotError::Io(error)) if is_full(&error) => (None, Ballot::default()),
            Err(BallotError::Io(error)) => {
                let reason = format!("reading the ballot: {error}");
                return Err(StartError::Disk { path, reason });
            }
            Err(BallotError::Newer(file, version)) => {
                return Err(StartError::open(&path, OpenError::Newer { path: file, version }));
            }
        };
        let voters = VoterHistory::new(Voters::of([me]));
        let quorum = Quorum::new(me, ballot, log.shape(), voters);
        Ok(Seat { env: env.clone(), path, log, ballots, quorum, me, patience })
    }

    /// Directory of its log.
    pub(crate) fn dir(&self) -> &LogDir<E::Disk> {
        self.log.dir()
    }

    /// Its log.
    pub(crate) fn log(&self) -> &MetadataLog<E> {
        &self.log
    }

    /// Who sits here.
    pub(crate) fn replica(&self) -> ReplicaKey {
        self.me
    }

    /// The epoch it is in.
    pub(crate) fn epoch(&self) -> QuorumEpoch {
        self.quorum.epoch()
    }

    /// Takes the lead: from here on records may be decided.
    pub(crate) async fn lead(&mut self) -> Result<(), MetadataLogFailed> {
        self.take(Event::Start, &[]).await?;
        self.flush().await?;
        match self.quorum.may_decide() {
            true => Ok(()),
            false => Err(MetadataLogFailed(format!("{} does not lead", self.quorum))),
        }
    }

    /// Appends the records of one change as one batch; they are not committed before [`Seat::flush`].
    pub(crate) async fn append(
        &mut self,
        records: &[MetadataRecord],
    ) -> Result<(), MetadataLogFailed> {
        let count = u32::try_from(records.len()).expect("a change of fewer than 2^32 records");
        self.take(Event::Decided(count), records).await
    }

    /// Commits everything appended; returns the offset of the last record.
    pub(crate) async fn flush(&mut self) -> Result<Offset, MetadataLogFailed> {
        let end = self.log.flush().await?;
        self.take(Event::Synced(end), &[]).await?;
        let committed = self.quorum.high_watermark();
        assert!(
            committed >= end || planted(Mutant::MetadataAckBeforeSync),
            "the only voter commits what it has synced (I39)"
        );
        Ok(Offset(end.0 - 1))
    }

    /// Lets the quorum take an event, and does what it asks for; `decided` are the records of [`Event::Decided`].
    async fn take(
        &mut self,
        event: Event,
        decided: &[MetadataRecord],
    ) -> Result<(), MetadataLogFailed> {
        let mut effects = Vec::new();
        self.quorum.step(event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Store(ballot) => self.store(&ballot).await?,
                Effect::AppendControl(Control::LeaderChange(_)) => {
                    self.log.append_leader_change(self.quorum.epoch(), self.me)?;
                }
                Effect::AppendDecided => self.log.append(decided, self.quorum.epoch())?,
                // Whoever flushes asks for the one; the other is of no account where nobody else is.
                Effect::HighWatermark(_) | Effect::Arm(_) => {}
                Effect::Halt(reason) => return Err(MetadataLogFailed(reason)),
                other => {
                    let reason = format!("the only voter of a quorum has nobody for {other:?}");
                    return Err(MetadataLogFailed(reason));
                }
            }
        }
        Ok(())
    }

    async fn store(&mut self, ballot: &Ballot) -> Result<(), MetadataLogFailed> {
        let (disk, path) = (self.env.disk().clone(), self.path.clone());
        let ballots = &mut self.ballots;
        let storing = async {
            match ballots {
                Some(file) => file.store(ballot).await,
                None => match BallotFile::create(&disk, &path, ballot).await {
                    Err(error) if is_full(&error) => {
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
