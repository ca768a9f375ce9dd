//! Feature levels: what all nodes of the cluster can rely on.

use record::stored::metadata::{FeatureLevelRecord, MetadataRecord};
use types::ErrorCode;
use types::encoding::Str;
use types::mutant::{Mutant, planted};

use super::{Controller, Decision, Refusal};
use crate::metadata::{BrokerFeature, METADATA_LEVEL, METADATA_VERSION};

/// A feature that this release supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// Lowest level supported.
    pub level_min: i16,
    /// Highest level supported.
    pub level_max: i16,
    /// Level of a new cluster; 0 is "off".
    pub level_new: i16,
}

/// What this release supports. Features of later rooms (groups by the new protocol, transactions, shares, streams, ELR)
/// come with them: advertising one is a promise.
pub const FEATURES: [SupportedFeature; 1] = [SupportedFeature {
    name: METADATA_VERSION,
    level_min: METADATA_LEVEL,
    level_max: METADATA_LEVEL,
    level_new: METADATA_LEVEL,
}];

/// What a broker of this release says of itself when it registers.
pub fn supported() -> Vec<BrokerFeature> {
    let features = FEATURES.iter().map(|feature| BrokerFeature {
        name: feature.name.into(),
        level_min: feature.level_min,
        level_max: feature.level_max,
    });
    features.collect()
}

/// A wish to change a feature's level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureChange {
    /// The feature.
    pub name: Str,
    /// Its level to be; 0 switches it off.
    pub level: i16,
    /// Whether going down is meant.
    pub is_downgrade: bool,
}

impl Controller {
    /// What a controller writes before anything else, unless it is there: the features of a new cluster, and one
    /// `min.insync.replicas` for all ([`Controller::one_min_isr`]).
    pub fn bootstrap(&self) -> Vec<MetadataRecord> {
        let is_new = !self.image.features().contains_key(METADATA_VERSION);
        let on = FEATURES.iter().filter(|feature| is_new && feature.level_new > 0);
        let features = on.map(|feature| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: feature.name.into(),
                feature_level: feature.level_new,
            })
        });
        features.chain(self.one_min_isr()).collect()
    }

    /// Changes feature levels, all of them or none.
    pub fn update_features(
        &self,
        changes: &[FeatureChange],
        validate_only: bool,
    ) -> Decision<Vec<(Str, Result<(), Refusal>)>> {
        let mut records = Vec::new();
        let mut results = Vec::new();
        for change in changes {
            let result = self.update_feature(change).map(|record| records.extend(record));
            results.push((change.name.clone(), result));
        }
        if validate_only || results.iter().any(|(_, result)| result.is_err()) {
            records.clear();
        }
        (records, results)
    }

    fn update_feature(&self, change: &FeatureChange) -> Result<Option<MetadataRecord>, Refusal> {
        let invalid = |what: String| {
            let message = format!(
                "Invalid update version {} for feature {}. {what}",
                change.level, change.name
            );
            Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
        };
        let Some(feature) = FEATURES.iter().find(|feature| *feature.name == *change.name) else {
            return invalid("Local controller does not support this feature.".to_owned());
        };
        let now = self.image.features().get(&change.name).copied().unwrap_or(0);
        let is_supported = (feature.level_min..=feature.level_max).contains(&change.level);
        if !is_supported && !planted(Mutant::FeatureLevelUnchecked) {
            return invalid(format!(
                "Local controller only supports versions {}-{}",
                feature.level_min, feature.level_max
            ));
        }
        if change.level < now && !change.is_downgrade {
            return invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to \
                 either safe or unsafe downgrade."
                    .to_owned(),
            );
        }
        Ok((change.level != now).then(|| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: change.name.clone(),
                feature_level: change.level,
            })
        }))
    }
}
