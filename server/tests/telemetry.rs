//! What clients measure of themselves: who is asked for what, what is taken, and where it is shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use client::{Client, ClientConfig, Target};
use common::{Scratch, Server};
use server::world::RealEnv;
use types::{ErrorCode, Uuid};
use wire::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use wire::push_telemetry::PushTelemetryRequest;

const NONE: i16 = ErrorCode::None.as_i16();

async fn ask(client: &Client<RealEnv>, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id: id };
    client.raw(Target::Any, request, Some(0)).await.unwrap()
}

async fn push(
    client: &Client<RealEnv>,
    asked: &GetTelemetrySubscriptionsResponse,
    bytes: Bytes,
) -> i16 {
    let request = PushTelemetryRequest {
        client_instance_id: asked.client_instance_id,
        subscription_id: asked.subscription_id,
        terminating: false,
        compression_type: 0,
        metrics: bytes,
    };
    client.raw(Target::Any, request, Some(0)).await.unwrap().error_code
}

fn client(server: &Server, client_id: &str) -> Client<RealEnv> {
    let config = ClientConfig {
        bootstrap: vec![server.bootstrap.clone()],
        client_id: client_id.to_owned(),
        ..ClientConfig::default()
    };
    Client::new(RealEnv::new(), config)
}

/// The field `number` of a message, of bytes.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(body.len()).unwrap()], body].concat()
}

/// `MetricsData` of one gauge, in OpenTelemetry's protocol buffers.
fn gauge(name: &str, value: f64) -> Bytes {
    let point = [vec![4 << 3 | 1], value.to_le_bytes().to_vec()].concat();
    let metric = [field(1, name.as_bytes()), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric))).into()
}

fn page(server: &Server) -> String {
    let mut words = server.ready.split_whitespace();
    let at = words.find_map(|word| word.strip_prefix("metrics=")).unwrap();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_is_subscribed_is_pushed_and_shown() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &["--set", "metrics.listen=0"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (wanted, other) = (client(&server, "wanted"), client(&server, "other"));
        let asked = ask(&wanted, Uuid::ZERO).await;
        assert_eq!((asked.error_code, asked.push_interval_ms), (NONE, 300_000));
        assert_eq!(asked.requested_metrics.len(), 0, "nobody is asked for anything by default");

        server.ok(
            &[
                "config", "set", "client-metrics", "mine", "metrics=org.apache.kafka.",
                "interval.ms=100", "match=client_id=want.*",
            ],
            "",
        );
        let told = server.json(&["config", "get", "client-metrics", "mine", "interval.ms"]);
        assert_eq!(told[0]["source"], "client-metrics");
        let unasked = ask(&other, Uuid::ZERO).await;
        assert_eq!(unasked.requested_metrics.len(), 0);
        let asked = ask(&wanted, Uuid::ZERO).await;
        assert_eq!(asked.requested_metrics, ["org.apache.kafka."]);
        assert_eq!((asked.push_interval_ms, asked.telemetry_max_bytes), (100, 1 << 20));
        assert!(!asked.client_instance_id.is_zero());
        assert_eq!(asked.accepted_compression_types, [4, 3, 1, 2]);

        let pushed = gauge("org.apache.kafka.producer.record-send.rate", 2.5);
        assert_eq!(push(&wanted, &asked, pushed).await, NONE);
        let early = push(&wanted, &asked, Bytes::new()).await;
        assert_eq!(early, ErrorCode::ThrottlingQuotaExceeded.as_i16());
        let stranger = push(&other, &unasked, Bytes::from_static(b"\x0a\xff")).await;
        assert_eq!(stranger, NONE, "what cannot be read is shown to be so");
        let page = page(&server);
        let line = format!(
            "kafka_client_producer_record_send_rate{{client_instance_id=\"{}\",client_id=\"wanted\"}} 2.5\n",
            asked.client_instance_id
        );
        assert!(page.contains(&line), "{line} in {page}");
        assert!(page.contains("\nforetold_client_pushes_unreadable 1\n"), "{page}");

        let nobody = GetTelemetrySubscriptionsResponse::default();
        assert_eq!(push(&other, &nobody, Bytes::new()).await, ErrorCode::InvalidRequest.as_i16());
        let changed = GetTelemetrySubscriptionsResponse { subscription_id: 0, ..unasked };
        let refused = push(&client(&server, "third"), &changed, Bytes::new()).await;
        assert_eq!(refused, ErrorCode::ThrottlingQuotaExceeded.as_i16(), "it is the same client");
    });
    server.stop();
}
