//! The Kafka protocol: frames, headers, messages.
//!
//! A connection carries frames: four bytes of length, a header, a message. The header of a request names the API, its
//! version and a correlation id; the response repeats the id. What a message looks like depends on API and version; all
//! that Kafka 4.4 knows are here, one module an API, generated from Kafka's schemas (`cargo xtask gen`).
//!
//! ```text
//! | length i32 | api key i16 | version i16 | correlation id i32 | client id | (tags) | request  |
//! | length i32 | correlation id i32 | (tags) |                                        response |
//! ```
//!
//! This room turns bytes into values and back and knows nothing of what they mean. Sentinels such as -1 live here and
//! nowhere else. Records are opaque bytes: a produce request holds slices of its frame, and a fetch response is encoded
//! around records that may lie in files ([`splice`]). Decoding never panics and never reserves more than a fixed multiple
//! of its input (see [`types::encoding`]).

mod api_key;
mod frame;
#[allow(missing_docs, reason = "fields are named and explained by the protocol")]
#[allow(clippy::field_reassign_with_default, reason = "the same shape for every structure")]
mod generated;
mod header;
mod message;
pub mod records;
mod versions;

pub use api_key::ApiKey;
pub use frame::{FRAME_PREFIX, FrameError, frame_len, request_frame, response_frame};
pub use generated::*;
pub use header::{RequestHeader, ResponseHeader};
pub use message::{Message, Request};
pub use records::{Piece, Records, splice};
pub use types::encoding::{DecodeError, EncodeError, Reader, Str, Writer};
pub use versions::api_versions_fallback;
