//! The small files of a log directory: checkpoint, clean-stop marker, and each partition's identity card.
//!
//! ```text
//!  checkpoint  directory id (16)  next log id (8)  logs (4), each:
//!              log id (8)  topic id (16)  name length (2) name  partition (4)  durability (1)  log start (8)
//!              anchor: offset (8) segment (8) position (8) group (8)
//!              epochs (4) × { epoch (4) start (8) }   damages (4) × { start (8) segment (8) position (8) end (8) end position (8) }
//!  clean       directory id (16)  next group (8)
//!  partition.metadata  directory id (16)  log id (8)  topic id (16)  durability (1: 0 sync, 1 page-cache)
//! ```
//!
//! The checkpoint file holds its envelope twice, the second time from the middle of the file on, so that one rotten block
//! does not make a directory unreadable. A card that is damaged is written again from it.
//!
//! The anchor pairs what a log's segments hold safely with the group from which its frames must be redone: both move in
//! one step, so that replay always begins where the segments stop.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use types::{
    DirectoryId, LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, TopicName, TopicPartition,
    Uuid,
};

use crate::Durability;
use crate::epochs::EpochStart;
use crate::journal::Position;
use crate::layout::{MAGIC_CHECKPOINT, MAGIC_CLEAN, MAGIC_METADATA, Unsealed, seal, unseal};
use crate::log::{Anchor, Damage, Point};

/// The two copies of a checkpoint share no block of the medium.
const COPY_ALIGN: usize = 4096;

/// One log in the checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredLog {
    pub id: LogId,
    pub topic_id: TopicId,
    pub partition: TopicPartition,
    pub durability: Durability,
    pub log_start: Offset,
    pub anchor: Anchor,
    pub epochs: Vec<EpochStart>,
    pub damages: Vec<Damage>,
}

/// The directory checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint {
    pub directory: DirectoryId,
    pub next_log: LogId,
    pub logs: Vec<StoredLog>,
}

/// A small file that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoredError {
    Newer(u16),
    Damaged,
}

fn payload(magic: [u8; 4], file: Bytes) -> Result<Bytes, StoredError> {
    match unseal(magic, file) {
        Unsealed::Whole(payload) => Ok(payload),
        Unsealed::Newer(version) => Err(StoredError::Newer(version)),
        Unsealed::Damaged => Err(StoredError::Damaged),
    }
}

fn durability_byte(durability: Durability) -> u8 {
    match durability {
        Durability::Sync => 0,
        Durability::PageCache => 1,
    }
}

fn durability_of(byte: u8) -> Option<Durability> {
    match byte {
        0 => Some(Durability::Sync),
        1 => Some(Durability::PageCache),
        _ => None,
    }
}

fn uuid(payload: &mut Bytes) -> Option<Uuid> {
    let mut bytes = [0; 16];
    payload.try_copy_to_slice(&mut bytes).ok()?;
    Some(Uuid(bytes))
}

impl Checkpoint {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&self.directory.0.0);
        out.put_u64(self.next_log.0);
        out.put_u32(u32::try_from(self.logs.len()).expect("fewer than 2^32 logs"));
        for log in &self.logs {
            out.put_u64(log.id.0);
            out.put_slice(&log.topic_id.0.0);
            let name = log.partition.topic.as_str().as_bytes();
            out.put_u16(u16::try_from(name.len()).expect("topic names are short"));
            out.put_slice(name);
            out.put_i32(log.partition.partition.0);
            out.put_u8(durability_byte(log.durability));
            out.put_i64(log.log_start.0);
            out.put_i64(log.anchor.point.offset.0);
            out.put_i64(log.anchor.point.segment.0);
            out.put_u64(log.anchor.point.position);
            out.put_u64(log.anchor.group.0);
            out.put_u32(u32::try_from(log.epochs.len()).expect("fewer than 2^32 epochs"));
            for entry in &log.epochs {
                out.put_i32(entry.epoch.0);
                out.put_i64(entry.start.0);
            }
            out.put_u32(u32::try_from(log.damages.len()).expect("fewer than 2^32 damages"));
            for damage in &log.damages {
                out.put_i64(damage.start.offset.0);
                out.put_i64(damage.start.segment.0);
                out.put_u64(damage.start.position);
                out.put_i64(damage.end.0);
                out.put_u64(damage.end_position);
            }
        }
        let mut copy = BytesMut::from(&seal(MAGIC_CHECKPOINT, &out)[..]);
        copy.resize(copy.len().next_multiple_of(COPY_ALIGN), 0);
        let mut file = BytesMut::with_capacity(copy.len() * 2);
        file.put_slice(&copy);
        file.put_slice(&copy);
        file.freeze()
    }

    pub fn decode(file: Bytes) -> Result<Checkpoint, StoredError> {
        let first = Checkpoint::decode_copy(file.clone());
        // Also a version may rot: a newer release has written both copies.
        match first {
            Err(_) => Checkpoint::decode_copy(file.slice(file.len() / 2..)).or(first),
            whole => whole,
        }
    }

    fn decode_copy(copy: Bytes) -> Result<Checkpoint, StoredError> {
        let mut payload = payload(MAGIC_CHECKPOINT, copy)?;
        Checkpoint::read(&mut payload).filter(|_| payload.is_empty()).ok_or(StoredError::Damaged)
    }

    fn read(payload: &mut Bytes) -> Option<Checkpoint> {
        let directory = DirectoryId(uuid(payload)?);
        let next_log = LogId(payload.try_get_u64().ok()?);
        let count = payload.try_get_u32().ok()?;
        let mut logs = Vec::new();
        for _ in 0..count {
            logs.push(read_log(payload)?);
        }
        Some(Checkpoint { directory, next_log, logs })
    }
}

fn read_log(payload: &mut Bytes) -> Option<StoredLog> {
    let id = LogId(payload.try_get_u64().ok()?);
    let topic_id = TopicId(uuid(payload)?);
    let name_len = payload.try_get_u16().ok()? as usize;
    if payload.len() < name_len {
        return None;
    }
    let name = payload.split_to(name_len);
    let topic = TopicName::from(std::str::from_utf8(&name).ok()?);
    let partition = PartitionIndex(payload.try_get_i32().ok()?);
    let durability = durability_of(payload.try_get_u8().ok()?)?;
    let log_start = Offset(payload.try_get_i64().ok()?);
    let point = Point {
        offset: Offset(payload.try_get_i64().ok()?),
        segment: Offset(payload.try_get_i64().ok()?),
        position: payload.try_get_u64().ok()?,
    };
    let group = Position(payload.try_get_u64().ok()?);
    let mut epochs = Vec::new();
    for _ in 0..payload.try_get_u32().ok()? {
        let epoch = LeaderEpoch(payload.try_get_i32().ok()?);
        epochs.push(EpochStart { epoch, start: Offset(payload.try_get_i64().ok()?) });
    }
    let mut damages = Vec::new();
    for _ in 0..payload.try_get_u32().ok()? {
        damages.push(Damage {
            start: Point {
                offset: Offset(payload.try_get_i64().ok()?),
                segment: Offset(payload.try_get_i64().ok()?),
                position: payload.try_get_u64().ok()?,
            },
            end: Offset(payload.try_get_i64().ok()?),
            end_position: payload.try_get_u64().ok()?,
            is_unreadable: false,
        });
    }
    Some(StoredLog {
        id,
        topic_id,
        partition: TopicPartition { topic, partition },
        durability,
        log_start,
        anchor: Anchor { point, group },
        epochs,
        damages,
    })
}

/// Written when a directory was closed in order (E6).
pub(crate) fn encode_clean(directory: DirectoryId, next: Position) -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    out.put_slice(&directory.0.0);
    out.put_u64(next.0);
    seal(MAGIC_CLEAN, &out)
}

/// The directory and next group of a clean-stop marker.
pub(crate) fn decode_clean(file: Bytes) -> Result<(DirectoryId, Position), StoredError> {
    let mut payload = payload(MAGIC_CLEAN, file)?;
    let clean =
        (|| Some((DirectoryId(uuid(&mut payload)?), Position(payload.try_get_u64().ok()?))))();
    clean.filter(|_| payload.is_empty()).ok_or(StoredError::Damaged)
}

/// Whose a partition directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Metadata {
    pub directory: DirectoryId,
    pub log: LogId,
    pub topic_id: TopicId,
    pub durability: Durability,
}

impl Metadata {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(41);
        out.put_slice(&self.directory.0.0);
        out.put_u64(self.log.0);
        out.put_slice(&self.topic_id.0.0);
        out.put_u8(durability_byte(self.durability));
        seal(MAGIC_METADATA, &out)
    }

    pub fn decode(file: Bytes) -> Result<Metadata, StoredError> {
        let mut payload = payload(MAGIC_METADATA, file)?;
        let metadata = (|| {
            let directory = DirectoryId(uuid(&mut payload)?);
            let log = LogId(payload.try_get_u64().ok()?);
            let topic_id = TopicId(uuid(&mut payload)?);
            let durability = durability_of(payload.try_get_u8().ok()?)?;
            Some(Metadata { directory, log, topic_id, durability })
        })();
        metadata.filter(|_| payload.is_empty()).ok_or(StoredError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let point = Point { offset: Offset(70), segment: Offset(50), position: 1234 };
        Checkpoint {
            directory: DirectoryId(Uuid([7; 16])),
            next_log: LogId(9),
            logs: vec![StoredLog {
                id: LogId(3),
                topic_id: TopicId(Uuid([1; 16])),
                partition: TopicPartition::new("events", 2),
                durability: Durability::PageCache,
                log_start: Offset(5),
                anchor: Anchor { point, group: Position(77) },
                epochs: vec![EpochStart { epoch: LeaderEpoch(1), start: Offset(0) }],
                damages: vec![Damage {
                    start: point,
                    end: Offset(80),
                    end_position: 2000,
                    is_unreadable: false,
                }],
            }],
        }
    }

    #[test]
    fn small_files_read_back() {
        assert_eq!(Checkpoint::decode(checkpoint().encode()), Ok(checkpoint()));
        let directory = DirectoryId(Uuid([7; 16]));
        let clean = encode_clean(directory, Position(5));
        assert_eq!(decode_clean(clean), Ok((directory, Position(5))));
        let metadata = Metadata {
            directory,
            log: LogId(3),
            topic_id: TopicId(Uuid([1; 16])),
            durability: Durability::PageCache,
        };
        assert_eq!(Metadata::decode(metadata.encode()), Ok(metadata));
    }

    #[test]
    fn one_rotten_copy_of_a_checkpoint_is_forgiven_and_two_are_damage() {
        let file = checkpoint().encode();
        let half = file.len() / 2;
        for at in 0..file.len() {
            let mut rotten = BytesMut::from(&file[..]);
            rotten[at] ^= 0x10;
            assert_eq!(Checkpoint::decode(rotten.freeze()), Ok(checkpoint()), "byte {at}");
        }
        let mut rotten = BytesMut::from(&file[..]);
        rotten[20] ^= 1;
        rotten[half + 20] ^= 1;
        assert_eq!(Checkpoint::decode(rotten.freeze()), Err(StoredError::Damaged));
        for len in 0..100 {
            assert_eq!(Checkpoint::decode(file.slice(..len)), Err(StoredError::Damaged));
        }
        let mut newer = BytesMut::from(&file[..]);
        (newer[5], newer[half + 5]) = (2, 2);
        assert_eq!(Checkpoint::decode(newer.freeze()), Err(StoredError::Newer(2)));
    }
}
