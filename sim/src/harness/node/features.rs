//! A client that asks for other levels of features. What this release does not have is refused, one refusal is the answer
//! for all, and the levels that are told stay what they are (I39; SPEC.md section 5).

use client::{Client, Target};
use cluster::metadata::{METADATA_LEVEL, METADATA_VERSION};
use types::ErrorCode;
use wire::ApiKey;
use wire::api_versions::ApiVersionsRequest;
use wire::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::Play;
use super::rude::any_version;
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::world::SimEnv;

/// From here on answers to ApiVersions tell the levels in force.
const LEVELS_TOLD_SINCE: i16 = 3;

impl Play {
    /// Asks for levels, of which there is one, and looks at those in force.
    pub(super) async fn change_features(&self, client: &Client<SimEnv>, dice: &Decisions) {
        let version = any_version(ApiKey::UpdateFeatures, 0, dice);
        let level = match dice.choose(Kind::Operation, 3) {
            0 => METADATA_LEVEL,
            1 => METADATA_LEVEL - 1,
            _ => METADATA_LEVEL + 1,
        };
        let wish = |feature: &str, max_version_level| FeatureUpdateKey {
            feature: feature.into(),
            max_version_level,
            allow_downgrade: version == 0,
            // The downgrade that asks no questions; versions before know no types.
            upgrade_type: if version == 0 { 1 } else { 3 },
        };
        let mut feature_updates = vec![wish(METADATA_VERSION, level)];
        if dice.choose(Kind::Operation, 3) == 0 {
            feature_updates.push(wish("sim.version", 1));
        }
        let is_known = level == METADATA_LEVEL && feature_updates.len() == 1;
        let validate_only = version > 0 && dice.choose(Kind::Operation, 4) == 0;
        let request =
            UpdateFeaturesRequest { feature_updates, validate_only, ..Default::default() };
        let answer = client.raw(Target::Controller, request, Some(version)).await;
        self.stage.done(answer.is_ok(), 26);
        let Ok(answer) = answer else { return };
        let is_right = match ErrorCode::from_i16(answer.error_code) {
            Some(ErrorCode::None) => is_known,
            Some(ErrorCode::InvalidUpdateVersion) => !is_known,
            // The metadata is not there for anybody now.
            _ => true,
        };
        let request = ApiVersionsRequest {
            client_software_name: "sim".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let told = client.raw(Target::Any, request, Some(LEVELS_TOLD_SINCE)).await;
        if self.stage.scenario.is_beyond_promise() {
            return;
        }
        self.stage.judge(require("I39", is_right, || {
            format!("level {level}, known {is_known}, is answered {answer:?}")
        }));
        let Ok(told) = told else { return };
        let told = told.finalized_features;
        let told: Vec<_> = told.iter().map(|it| (&*it.name, it.max_version_level)).collect();
        self.stage.judge(require("I39", told == [(METADATA_VERSION, METADATA_LEVEL)], || {
            format!("levels in force are told to be {told:?}")
        }));
        self.stage.world.mark("features asked for");
    }
}
