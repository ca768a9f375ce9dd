//! Records that tell their own value, and the names that histories know them by.

use bytes::Bytes;
use client::{Certainty, ClientError};
use types::{PartitionIndex, TopicName, TopicPartition};

use crate::history::{Outcome, Partition};

/// What records are filled up with.
const FILLING: u8 = b'v';

/// A partition of a topic.
pub(super) fn partition_of(topic: &str, index: i32) -> TopicPartition {
    TopicPartition { topic: TopicName::from(topic), partition: PartitionIndex(index) }
}

/// Its name in histories.
pub(super) fn name_of(partition: &TopicPartition) -> Partition {
    partition.to_string().into()
}

/// What a client's error says about the operation.
pub(super) fn outcome_of<T>(error: &ClientError) -> Outcome<T> {
    match error.certainty() {
        Certainty::DidNotHappen => Outcome::Failed,
        Certainty::Unknown => Outcome::Unknown,
    }
}

/// The bytes of a record of that unique value: the value, and as many bytes more as it says.
pub(super) fn bytes_of(value: u64) -> Bytes {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + usize::from(value as u16), FILLING);
    bytes.into()
}

/// The unique value in a record's bytes; 0, which was never sent, if they are not all that was sent.
pub(super) fn value_of(bytes: Option<&[u8]>) -> u64 {
    let parts = bytes.and_then(|bytes| bytes.split_first_chunk::<8>());
    let Some((head, filling)) = parts else { return 0 };
    let value = u64::from_le_bytes(*head);
    let is_whole =
        filling.len() == usize::from(value as u16) && filling.iter().all(|byte| *byte == FILLING);
    if is_whole { value } else { 0 }
}
