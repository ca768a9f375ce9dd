//! Ids, offsets and epochs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub struct $name(pub Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

number!(
    /// Position of a record in a partition, from 0.
    Offset(i64)
);
number!(
    /// Index of a partition within its topic, from 0.
    PartitionIndex(i32)
);
number!(
    /// Term of a partition's leader; fences the past.
    LeaderEpoch(i32)
);
number!(
    /// Version of a partition's registration; fences ISR changes.
    PartitionEpoch(i32)
);
number!(
    /// A broker: a node that serves data.
    BrokerId(i32)
);
number!(
    /// One registration of a broker.
    BrokerEpoch(i64)
);
number!(
    /// A voter or observer of the metadata quorum.
    NodeId(i32)
);
number!(
    /// Term of the metadata quorum's leader.
    QuorumEpoch(i32)
);
number!(
    /// Identity of a producer; issued once ever (I45).
    ProducerId(i64)
);
number!(
    /// Incarnation of a producer id; fences its past.
    ProducerEpoch(i16)
);
number!(
    /// Number of a record per producer and partition; wraps from 2^31 - 1 to 0.
    Sequence(i32)
);
number!(
    /// Version of a classic group's membership.
    Generation(i32)
);
number!(
    /// Which answer belongs to which question on one connection.
    CorrelationId(i32)
);
number!(
    /// A partition's log within one log directory. Never reused: a log removed and added again is another log.
    LogId(u64)
);
name!(
    /// Name of a topic. The name survives deletion; the identity ([`TopicId`]) does not.
    TopicName
);
name!(
    /// Name of a consumer group.
    GroupId
);
name!(
    /// A member of a consumer group.
    MemberId
);
name!(
    /// The name a transactional producer keeps over restarts.
    TransactionalId
);

impl Offset {
    /// The first offset of a new log.
    pub const ZERO: Offset = Offset(0);

    /// The offset right after this one.
    pub const fn next(self) -> Offset {
        Offset(self.0 + 1)
    }

    /// The offset `count` records later.
    pub const fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }

    /// How many offsets lie between `start` and this one.
    pub const fn since(self, start: Offset) -> i64 {
        self.0 - start.0
    }
}

impl Sequence {
    /// The sequence `count` records later (2147483647 is followed by 0).
    pub const fn plus(self, count: i32) -> Sequence {
        Sequence(((self.0 as i64 + count as i64) & 0x7fff_ffff) as i32)
    }
}

/// 128 bits that name something once and for all. Printed as Kafka prints it: URL-safe base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Uuid(pub [u8; 16]);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zero bits: the wire's "no id".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// A version 4 UUID made from sixteen random bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Uuid {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }

    /// Whether all bits are zero.
    pub fn is_zero(&self) -> bool {
        *self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (index, byte) in text.iter_mut().enumerate() {
            // 22 digits of 6 bits hold 132 bits: the last digit carries 2 bits, left-aligned.
            let sextet =
                if index < 21 { (bits >> (122 - 6 * index)) & 63 } else { (bits << 4) & 63 };
            *byte = BASE64[sextet as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of URL-safe base64, such as MkU3OEVBNTcwNTJENDM2Qg")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        let text = text.trim_end_matches('=');
        if text.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut bits: u128 = 0;
        for (index, byte) in text.bytes().enumerate() {
            let digit = BASE64.iter().position(|&b| b == byte).ok_or(ParseUuidError)? as u128;
            bits = if index < 21 { (bits << 6) | digit } else { (bits << 2) | (digit >> 4) };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
        )]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid!(
    /// Identity of a topic; never reused (I44).
    TopicId
);
uuid!(
    /// Identity of a log directory. A voter is named by (node id, directory id), so a wiped disk is a new voter.
    DirectoryId
);
/// Identity of a cluster. Kafka lets operators choose any text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ClusterId(pub Arc<str>);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One ordered log of a topic, by name. Printed `topic-0`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: TopicName,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition: PartitionIndex(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_prints_and_parses_as_kafka_does() {
        // Kafka: Uuid.METADATA_TOPIC_ID = new Uuid(0, 1) prints AAAAAAAAAAAAAAAAAAAAAQ.
        let one = Uuid(1u128.to_be_bytes());
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for bits in [0u128, 1, u128::MAX, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            let uuid = Uuid(bits.to_be_bytes());
            assert_eq!(uuid.to_string().parse(), Ok(uuid));
        }
        assert_eq!("short".parse::<Uuid>(), Err(ParseUuidError));
    }

    #[test]
    fn sequence_wraps_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(0), Sequence(5));
    }
}
