//! InitProducerId (key 22): identities for idempotent producers.

use env::Env;
use types::ErrorCode;
use wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::Reply;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;

/// InitProducerId.
pub(super) async fn init_producer_id<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: InitProducerIdRequest,
) -> Reply<InitProducerIdResponse> {
    let refuse = |code: ErrorCode| {
        Reply::Now(InitProducerIdResponse {
            error_code: code.as_i16(),
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        })
    };
    if request.transactional_id.is_some() {
        // Transactions have no coordinator yet; no answer that a client would retry for ever.
        return refuse(ErrorCode::UnsupportedVersion);
    }
    if let Err(denied) = authorize(ctx, Operation::IdempotentWrite, Resource::Cluster) {
        return refuse(denied.code);
    }
    match broker.producer_ids().next(broker).await {
        // An idempotent producer that asks again gets another identity, as from Kafka.
        Ok(id) => Reply::Now(InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        }),
        Err(refused) => refuse(refused.code),
    }
}
