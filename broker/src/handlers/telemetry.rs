//! GetTelemetrySubscriptions and PushTelemetry (keys 71 and 72): which metrics clients are asked for, and what they push.
//!
//! Kafka's brokers serve these only with a plug-in that takes the metrics. Here they are always served: a client that asks
//! is told that nothing is wanted until an operator makes a `client-metrics` resource, and asks again five minutes later.

use cluster::telemetry::{Labels, Push, is_reserved};
use env::{Clock, Env, Rng};
use record::Compression;
use types::{ErrorCode, Uuid};
use wire::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use wire::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};

use super::Reply;
use crate::context::RequestContext;
use crate::shared::Shared;

/// What clients may compress with, the best first.
const CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// GetTelemetrySubscriptions.
pub(super) async fn get_telemetry_subscriptions<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: GetTelemetrySubscriptionsRequest,
) -> Reply<GetTelemetrySubscriptionsResponse> {
    let id = match request.client_instance_id {
        id if id.is_zero() => new_id(broker),
        id => id,
    };
    let view = broker.view();
    let now = broker.env().clock().now();
    let asked = broker.telemetry().on_ask(now, id, labels(ctx), &view.subscriptions);
    Reply::Now(match asked {
        Ok(wanted) => GetTelemetrySubscriptionsResponse {
            client_instance_id: id,
            subscription_id: wanted.id,
            accepted_compression_types: CODECS.map(|codec| codec.id() as i8).to_vec(),
            push_interval_ms: wanted.interval.as_millis() as i32,
            telemetry_max_bytes: bytes_max(broker) as i32,
            // Sums since the client's start: the newest push says everything, and one that is lost loses nothing.
            delta_temporality: false,
            requested_metrics: wanted.metrics.into_iter().collect(),
            ..Default::default()
        },
        Err(code) => {
            GetTelemetrySubscriptionsResponse { error_code: code.as_i16(), ..Default::default() }
        }
    })
}

/// PushTelemetry.
pub(super) async fn push_telemetry<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: PushTelemetryRequest,
) -> Reply<PushTelemetryResponse> {
    let push = Push {
        id: request.client_instance_id,
        subscription_id: request.subscription_id,
        is_last: request.terminating,
        compression: request.compression_type,
        metrics: request.metrics,
    };
    let view = broker.view();
    let now = broker.env().clock().now();
    let most = bytes_max(broker);
    let pushed = broker.telemetry().on_push(now, push, labels(ctx), &view.subscriptions, most);
    let error_code = pushed.err().unwrap_or(ErrorCode::None).as_i16();
    Reply::Now(PushTelemetryResponse { error_code, ..Default::default() })
}

fn bytes_max<E: Env>(broker: &Shared<E>) -> usize {
    broker.settings().telemetry_bytes_max
}

fn new_id<E: Env>(broker: &Shared<E>) -> Uuid {
    loop {
        let id = broker.env().rng().uuid();
        if !is_reserved(id) {
            return id;
        }
    }
}

fn labels(ctx: &RequestContext) -> Labels {
    let (software_name, software_version) =
        ctx.client_software.as_deref().cloned().unwrap_or_default();
    Labels {
        client_id: ctx.client_id().to_owned(),
        software_name,
        software_version,
        address: ctx.host,
        port: ctx.port,
    }
}
