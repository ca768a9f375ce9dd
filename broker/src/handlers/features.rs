//! UpdateFeatures (key 57): raising and lowering the levels of features that the whole cluster relies on.

use cluster::controller::FeatureChange;
use env::Env;
use types::ErrorCode;
use wire::Str;
use wire::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::Reply;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::Refused;
use crate::shared::Shared;

/// Up to here answers name each feature.
const RESULTS_VERSION_MAX: i16 = 1;
/// From here on a request says which way it means.
const UPGRADE_TYPE_VERSION_MIN: i16 = 1;

/// UpdateFeatures. All features change or none: one that cannot is the answer for all.
pub(super) async fn update_features<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: UpdateFeaturesRequest,
) -> Reply<UpdateFeaturesResponse> {
    Reply::Now(match update(ctx, broker, request).await {
        Ok(names) => {
            let named = names.into_iter().filter(|_| ctx.api_version <= RESULTS_VERSION_MAX);
            let results = named
                .map(|feature| UpdatableFeatureResult { feature, ..Default::default() })
                .collect();
            UpdateFeaturesResponse { results, ..Default::default() }
        }
        Err(refused) => UpdateFeaturesResponse {
            error_code: refused.code.as_i16(),
            error_message: refused.message.map(Into::into),
            ..Default::default()
        },
    })
}

async fn update<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: UpdateFeaturesRequest,
) -> Result<Vec<Str>, Refused> {
    authorize(ctx, Operation::Alter, Resource::Cluster).map_err(|denied| denied.code)?;
    let changes = request.feature_updates.into_iter().map(|update| change(ctx, update));
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let validate_only = request.validate_only;
    let decide = move |controller: &cluster::controller::Controller| {
        controller.update_features(&changes, validate_only)
    };
    let mut names = Vec::new();
    for (name, result) in broker.metadata().change(decide).await? {
        result.map_err(|refusal| for_all(refusal.into()))?;
        names.push(name);
    }
    Ok(names)
}

fn change(ctx: &RequestContext, update: FeatureUpdateKey) -> Result<FeatureChange, Refused> {
    const UPGRADE: i8 = 1;
    const SAFE_DOWNGRADE: i8 = 2;
    const UNSAFE_DOWNGRADE: i8 = 3;
    let is_downgrade = match update.upgrade_type {
        _ if ctx.api_version < UPGRADE_TYPE_VERSION_MIN => update.allow_downgrade,
        UPGRADE => false,
        SAFE_DOWNGRADE | UNSAFE_DOWNGRADE => true,
        _ => {
            let message = format!(
                "Invalid update version {} for feature {}. The controller does not support the given \
                 upgrade type.",
                update.max_version_level, update.feature
            );
            return Err(for_all(Refused::new(ErrorCode::InvalidUpdateVersion, message)));
        }
    };
    Ok(FeatureChange { name: update.feature, level: update.max_version_level, is_downgrade })
}

fn for_all(refused: Refused) -> Refused {
    let reason = refused.message.unwrap_or_default();
    let message = format!(
        "The update failed for all features since the following feature had an error: {reason}"
    );
    Refused::new(refused.code, message)
}
