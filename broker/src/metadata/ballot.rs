//! `quorum-state`: the newest epoch this node has been in, and whom it voted for (I37, E32).
//!
//! ```text
//!  two slots, at 0 and at 4096, each:
//!   magic "FTLDBLT1" (8)  number (8)  epoch (4)  voted: 0, 1 (1)  node (4)  directory (16)  crc32c of all before (4)
//! ```
//!
//! Big-endian. A ballot is written to one slot and synced, then to the other: a power cut leaves one that is whole and holds what
//! anybody was told of, and later a rotten one costs nothing. They are written in place, which needs no space on a full
//! disk (E11). The slot with the higher number counts.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cluster::quorum::{Ballot, ReplicaKey};
use crc_fast::CrcAlgorithm;
use env::{Disk, File, OpenMode};
use types::{DirectoryId, NodeId, QuorumEpoch, Uuid};

/// Its name, as Kafka calls its own.
const NAME: &str = "quorum-state";
const MAGIC: &[u8; 7] = b"FTLDBLT";
const VERSION: u8 = b'1';
/// From one slot to the next: they share no block of the medium.
const SLOT: u64 = 4096;
const BYTES: usize = 8 + 8 + 4 + 1 + 4 + 16 + 4;

/// The file.
pub(super) struct BallotFile<F> {
    file: F,
    /// Of the slot that counts.
    number: u64,
}

/// Why a ballot cannot be had.
#[derive(Debug)]
pub(super) enum BallotError {
    /// There is no file.
    Missing(PathBuf),
    /// The disk refuses.
    Io(io::Error),
    /// A newer release wrote it, in this version.
    Newer(PathBuf, u16),
    /// Neither slot is whole: whom this node voted for is not known.
    Damaged(PathBuf),
}

impl<F: File> BallotFile<F> {
    /// Opens the file in `dir` and reads the ballot.
    pub(super) async fn open<D: Disk<File = F>>(
        disk: &D,
        dir: &Path,
    ) -> Result<(BallotFile<F>, Ballot), BallotError> {
        let path = dir.join(NAME);
        if !disk.exists(&path).await.map_err(BallotError::Io)? {
            return Err(BallotError::Missing(path));
        }
        let file = disk.open(&path, OpenMode::Write).await.map_err(BallotError::Io)?;
        let mut slots = Vec::new();
        for at in [0, SLOT] {
            // A slot that cannot be read is one that is not whole.
            slots.push(decode(file.read_at(at, BYTES).await.unwrap_or_default()));
        }
        let whole = slots.iter().filter_map(|slot| slot.as_ref().ok().copied());
        let Some((number, ballot)) = whole.max_by_key(|(number, _)| *number) else {
            return Err(match slots[0] {
                // Rot does not take both.
                Err(Unread::Newer(version)) if slots[0] == slots[1] => {
                    BallotError::Newer(path, version)
                }
                _ => BallotError::Damaged(path),
            });
        };
        let ballots = BallotFile { file, number };
        if slots[0] != slots[1] {
            // The bad one first, or the older.
            let order = if slots[0] == Ok((number, ballot)) { [SLOT, 0] } else { [0, SLOT] };
            ballots.write(order, &ballot).await.map_err(BallotError::Io)?;
        }
        Ok((ballots, ballot))
    }

    /// Makes the file anew, with this ballot in it.
    pub(super) async fn create<D: Disk<File = F>>(
        disk: &D,
        dir: &Path,
        ballot: &Ballot,
    ) -> io::Result<BallotFile<F>> {
        let (path, slot) = (dir.join(NAME), encode(0, ballot));
        // Both slots at once and whole: later ones are written in place.
        let mut content = BytesMut::zeroed(2 * SLOT as usize);
        for at in [0, SLOT as usize] {
            content[at..at + BYTES].copy_from_slice(&slot);
        }
        disk.replace(&path, content.freeze()).await?;
        Ok(BallotFile { file: disk.open(&path, OpenMode::Write).await?, number: 0 })
    }

    /// Stores a ballot durably.
    pub(super) async fn store(&mut self, ballot: &Ballot) -> io::Result<()> {
        self.number += 1;
        self.write([0, SLOT], ballot).await
    }

    async fn write(&self, slots: [u64; 2], ballot: &Ballot) -> io::Result<()> {
        for slot in slots {
            self.file.write_at(slot, vec![encode(self.number, ballot)]).await?;
            self.file.sync_data().await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unread {
    Newer(u16),
    Damaged,
}

fn encode(number: u64, ballot: &Ballot) -> Bytes {
    let mut bytes = BytesMut::with_capacity(BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u8(VERSION);
    bytes.put_u64(number);
    bytes.put_i32(ballot.epoch.0);
    bytes.put_u8(u8::from(ballot.voted.is_some()));
    bytes.put_i32(ballot.voted.map_or(-1, |voted| voted.node.0));
    bytes.put_slice(&ballot.voted.map_or(Uuid::ZERO, |voted| voted.directory.0).0);
    bytes.put_u32(sum(&bytes));
    bytes.freeze()
}

fn decode(mut bytes: Bytes) -> Result<(u64, Ballot), Unread> {
    if bytes.len() < BYTES || bytes[..MAGIC.len()] != MAGIC[..] {
        return Err(Unread::Damaged);
    }
    let is_whole = sum(&bytes[..BYTES - 4]) == (&bytes[BYTES - 4..]).get_u32();
    match (bytes[MAGIC.len()] > VERSION, is_whole) {
        (false, true) => {}
        // A version that has rotted leaves the sum wrong; one of a newer release may have another form.
        (true, _) => return Err(Unread::Newer(u16::from(bytes[MAGIC.len()] - b'0'))),
        (false, false) => return Err(Unread::Damaged),
    }
    bytes.advance(8);
    let number = bytes.get_u64();
    let epoch = QuorumEpoch(bytes.get_i32());
    let has_voted = bytes.get_u8() != 0;
    let node = NodeId(bytes.get_i32());
    let mut directory = [0; 16];
    bytes.copy_to_slice(&mut directory);
    let voted = ReplicaKey { node, directory: DirectoryId(Uuid(directory)) };
    Ok((number, Ballot { epoch, voted: has_voted.then_some(voted) }))
}

fn sum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use sim::decisions::Decisions;
    use sim::disk::SimDisk;
    use sim::plain;

    use super::*;

    #[test]
    fn a_ballot_is_read_as_it_was_written() {
        let key = ReplicaKey { node: NodeId(3), directory: DirectoryId(Uuid([9; 16])) };
        for voted in [None, Some(key)] {
            let ballot = Ballot { epoch: QuorumEpoch(7), voted };
            assert_eq!(decode(encode(5, &ballot)), Ok((5, ballot)));
        }
    }

    /// E32, wherever the power fails: the ballot that is read is the last one that was stored, or the one on its way. And with
    /// one slot rotten, too.
    #[test]
    fn a_stored_ballot_survives_power_cuts_and_rot() {
        let dir = Path::new("/quorum");
        let ballot = |epoch| Ballot { epoch: QuorumEpoch(epoch), voted: None };
        for at in 0.. {
            let mut disk = SimDisk::new(&Decisions::new(at));
            let (mut stored, mut has_file) = (0, false);
            plain::block_on(async {
                disk.create_dir_all(dir).await.expect("made");
                disk.sync_dir(Path::new("/")).await.expect("synced");
                disk.crash_at(at);
                let made = BallotFile::create(&disk, dir, &ballot(0)).await;
                let Ok(mut file) = made else { return };
                has_file = true;
                while stored < 4 && file.store(&ballot(stored + 1)).await.is_ok() {
                    stored += 1;
                }
            });
            let has_crashed = disk.has_crashed();
            disk = disk.power_cut();
            for rotten in [None, Some(0), Some(SLOT)] {
                let disk = disk.fork(at);
                let path = dir.join(NAME);
                if let Some(slot) = rotten.filter(|_| disk.peek(&path).is_ok()) {
                    disk.rot(&path, slot + at % BYTES as u64, 1 << (at % 8)).expect("rots");
                }
                let read = plain::block_on(BallotFile::open(&disk, dir));
                if !has_file && matches!(read, Err(BallotError::Missing(_))) {
                    continue;
                }
                // A power cut and rot at once may cost the ballot, but never give an older one.
                let Ok((_, read)) = read else {
                    assert!(rotten.is_some() && has_crashed, "crash at {at}");
                    continue;
                };
                let newest = if has_crashed { stored + 1 } else { stored };
                assert!((stored..=newest).contains(&read.epoch.0), "crash at {at}: {read:?}");
            }
            if !has_crashed {
                return;
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_another_ballot_of_it() {
        let key = ReplicaKey { node: NodeId(3), directory: DirectoryId(Uuid([9; 16])) };
        let whole = encode(5, &Ballot { epoch: QuorumEpoch(7), voted: Some(key) });
        for bit in 0..8 * BYTES {
            let mut rotten = whole.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(rotten.into()).is_err(), "bit {bit}");
        }
    }
}
