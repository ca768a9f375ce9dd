//! Finding out which versions the other side has.

use types::ErrorCode;

use crate::ApiKey;
use crate::api_versions::{ApiVersion, ApiVersionsResponse};

/// The answer to an `ApiVersions` request whose version is unknown, to be encoded in version 0.
///
/// A client of a later release asks in its own version first. It cannot know how to read an answer in a version that
/// the broker made up, so the protocol says: version 0, an error, and the versions of `ApiVersions` itself. The
/// client asks again in one of them.
pub fn api_versions_fallback() -> ApiVersionsResponse {
    let (min_version, max_version) = ApiKey::ApiVersions.stable_versions();
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.as_i16(),
        api_keys: vec![ApiVersion {
            api_key: ApiKey::ApiVersions.as_i16(),
            min_version,
            max_version,
        }],
        ..ApiVersionsResponse::default()
    }
}
