//! Which requests there are, and in which versions.

pub use crate::generated::table::ApiKey;
use crate::generated::table::{from_i16, row};

impl ApiKey {
    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// The API with number `key`, if this release of the protocol has it.
    pub const fn from_i16(key: i16) -> Option<ApiKey> {
        from_i16(key)
    }

    /// Every API, in numeric order.
    pub fn all() -> impl Iterator<Item = ApiKey> {
        (0..128).filter_map(from_i16)
    }

    /// The protocol's name, such as `ListOffsets`.
    pub const fn name(self) -> &'static str {
        row(self).name
    }

    /// First and last version that can be coded.
    pub const fn valid_versions(self) -> (i16, i16) {
        let row = row(self);
        (row.first, row.last)
    }

    /// First and last version that a broker offers: the last one is sometimes still a draft.
    pub const fn stable_versions(self) -> (i16, i16) {
        let row = row(self);
        (row.first, row.last_stable)
    }

    /// Whether the last version is a draft.
    pub const fn latest_unstable(self) -> bool {
        let row = row(self);
        row.last != row.last_stable
    }

    /// Whether `version` can be coded.
    pub const fn has_version(self, version: i16) -> bool {
        let row = row(self);
        row.first <= version && version <= row.last
    }

    /// The first version with variable-length lengths and tagged fields.
    pub const fn flexible_from(self) -> i16 {
        row(self).flexible_from
    }

    /// Whether `version` has variable-length lengths and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= row(self).flexible_from
    }

    /// Whether Kafka's brokers answer it; the others are for controllers only.
    pub const fn on_brokers(self) -> bool {
        row(self).on_brokers
    }

    /// Version of the header of a request in `version`.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the header of a response in `version`.
    ///
    /// The answer to `ApiVersions` never has tagged fields in its header: a client reads it before it knows the broker.
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}
