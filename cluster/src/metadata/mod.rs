//! The state of the cluster, as the metadata log tells it.
//!
//! An [`Image`] is immutable and cheap to clone; every room works with the one it last got. The metadata log's records lead
//! from one image to the next, and a [`Delta`] says what a record run has touched, so that nobody needs to compare images.
//! Two nodes that have applied the same offset have the same image (I38): applying is a pure function of the records.
//!
//! The records are Kafka's ([`record::stored::metadata::MetadataRecord`]). Applying one that makes no sense on the image before it, or
//! that a later release wrote, is an error and never a panic: a log can be damaged.

mod delta;
mod image;
mod snapshot;

pub use delta::{ApplyError, Delta};
pub use image::{
    BrokerFeature, BrokerInfo, BrokerListener, Image, PartitionInfo, Resource, ResourceKind,
    TopicInfo,
};
pub use record::stored::metadata::MetadataRecord;
pub use snapshot::snapshot;
pub(crate) use snapshot::{partition_record, register};

/// Name of the feature that says which records the metadata log may hold.
pub const METADATA_VERSION: &str = "metadata.version";

/// The level of [`METADATA_VERSION`] that this release writes: that of Kafka 4.4.
pub const METADATA_LEVEL: i16 = 33;

/// The version in which this release writes a record, at [`METADATA_LEVEL`].
pub fn record_version(record: &MetadataRecord) -> i16 {
    match record {
        MetadataRecord::RegisterBroker(_) => 4,
        MetadataRecord::BrokerRegistrationChange(_) => 3,
        MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
