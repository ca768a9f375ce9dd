//! ApiVersions (key 18): what this broker serves, and which features the cluster has switched on.

use std::sync::Arc;

use cluster::controller::FEATURES;
use env::Env;
use types::ErrorCode;
use wire::ApiKey;
use wire::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};

use super::served;
use crate::context::RequestContext;
use crate::shared::Shared;

/// From here on clients name their software (KIP-511).
const SOFTWARE_VERSION_MIN: i16 = 3;
/// The first version of Produce that clients are told of, though it is refused: librdkafka compresses nothing unless it
/// sees it.
const PRODUCE_VERSION_TOLD: i16 = 0;
/// Up to here a feature whose first version is 0 breaks clients, and is left out.
const FEATURE_ZERO_VERSION_MIN: i16 = 4;

/// ApiVersions.
pub(super) fn api_versions<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let code = check(ctx, broker, &request);
    if code.is_some() {
        return ApiVersionsResponse { error_code: code.as_i16(), ..Default::default() };
    }
    let view = broker.view();
    let api_keys = served(ctx.listener.audience).iter().map(|key| {
        let (served_from, max_version) = key.stable_versions();
        let min_version = match key {
            ApiKey::Produce => PRODUCE_VERSION_TOLD,
            _ => served_from,
        };
        ApiVersion { api_key: key.as_i16(), min_version, max_version }
    });
    let supported = FEATURES
        .iter()
        .filter(|feature| feature.level_min > 0 || ctx.api_version >= FEATURE_ZERO_VERSION_MIN);
    ApiVersionsResponse {
        api_keys: api_keys.collect(),
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: feature.name.into(),
                min_version: feature.level_min,
                max_version: feature.level_max,
            })
            .collect(),
        finalized_features_epoch: view.offset.0,
        finalized_features: view
            .image
            .features()
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.clone(),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

fn check<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: &ApiVersionsRequest,
) -> ErrorCode {
    if ctx.api_version >= SOFTWARE_VERSION_MIN
        && !(is_plain(&request.client_software_name) && is_plain(&request.client_software_version))
    {
        return ErrorCode::InvalidRequest;
    }
    // A client that knows whom it wants learns at once that it reached somebody else (KIP-1242).
    let other_cluster =
        request.cluster_id.as_ref().is_some_and(|id| id.as_str() != &*broker.cluster_id().0);
    let other_node = request.node_id >= 0 && request.node_id != broker.broker_id().0;
    if other_cluster || other_node { ErrorCode::RebootstrapRequired } else { ErrorCode::None }
}

/// The client's software, if it named it properly.
pub(super) fn software(
    version: i16,
    request: &ApiVersionsRequest,
) -> Option<Arc<(String, String)>> {
    let (name, number) = (&request.client_software_name, &request.client_software_version);
    (version >= SOFTWARE_VERSION_MIN && is_plain(name) && is_plain(number))
        .then(|| Arc::new((name.as_str().into(), number.as_str().into())))
}

/// Letters and digits, with dots and dashes between them.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_alphanumeric(bytes.first())
        && is_alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}
