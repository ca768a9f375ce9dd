//! A client that pushes what it measures: what was accepted is shown as long as the process lives, and the rules of pushing
//! hold (SPEC.md section 11).

use std::sync::Arc;

use broker::Observer;
use client::{Client, Target};
use types::{ErrorCode, Uuid};
use wire::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
use wire::push_telemetry::PushTelemetryRequest;

use super::settings::Change;
use super::{Play, bytes_of};
use crate::checker::require;
use crate::decisions::Decisions;
use crate::exec::lock;
use crate::history::Outcome;
use crate::world::SimEnv;

/// Kafka's number of a subscription to client metrics.
const CLIENT_METRICS: i8 = 16;
/// What the subscription of these runs asks for.
const METRICS: &str = "sim.";
/// The longest there is: no run lasts so long, and a second push is always early.
const INTERVAL_MS: i32 = 3_600_000;

impl Play {
    /// Makes the subscription, before anything may fail.
    pub(super) async fn subscribe(&self, client: &Client<SimEnv>, dice: &Decisions) -> bool {
        let values = [("metrics", METRICS.to_owned()), ("interval.ms", INTERVAL_MS.to_string())];
        let change: Change = values.map(|(key, value)| (key.to_owned(), Some(value))).into();
        let outcome = self.set_some(client, (CLIENT_METRICS, "sim"), &change, false, dice).await;
        if outcome != Outcome::Ok(()) {
            let text = format!("nothing can be subscribed to without faults: {outcome:?}");
            self.stage.world.violation("L4", text);
        }
        outcome == Outcome::Ok(())
    }

    /// Asks what is wanted and pushes: once, too early, for the last time, and after that.
    pub(super) async fn push_metrics(&self, client: &Client<SimEnv>) {
        let Some(process) = self.process() else { return };
        let request = GetTelemetrySubscriptionsRequest { client_instance_id: Uuid::ZERO };
        let Ok(asked) = client.raw(Target::Any, request, Some(0)).await else { return };
        let wanted = asked.requested_metrics.iter().map(|metric| metric.as_str());
        let is_asked =
            asked.error_code == 0 && asked.push_interval_ms == INTERVAL_MS && wanted.eq([METRICS]);
        self.judge_telemetry(is_asked, || format!("{METRICS} is wanted, and told is {asked:?}"));
        if asked.error_code != 0 {
            return;
        }
        let metrics = bytes_of(self.next_value(0));
        let expected = [
            (false, ErrorCode::None),
            (false, ErrorCode::ThrottlingQuotaExceeded),
            (true, ErrorCode::None),
            (true, ErrorCode::InvalidRequest),
        ];
        for (step, (terminating, code)) in expected.into_iter().enumerate() {
            let request = PushTelemetryRequest {
                client_instance_id: asked.client_instance_id,
                subscription_id: asked.subscription_id,
                terminating,
                compression_type: 0,
                metrics: metrics.clone(),
            };
            let Ok(answer) = client.raw(Target::Any, request, Some(0)).await else { return };
            // Another process knows nothing of this client, and may be the one that answered.
            if !self.process().is_some_and(|now| Arc::ptr_eq(&now, &process)) {
                return;
            }
            let told = ErrorCode::from_i16(answer.error_code);
            self.judge_telemetry(told == Some(code), || {
                format!("push {step} is to be answered {code:?}, and is answered {told:?}")
            });
        }
        let shown = process.snapshot().await.clients;
        let shown = shown.into_iter().find(|shown| shown.id == asked.client_instance_id);
        let is_shown = shown.is_some_and(|shown| shown.kept.metrics == metrics);
        self.judge_telemetry(is_shown, || {
            format!("the push of {} was accepted and is not shown", asked.client_instance_id)
        });
        self.stage.done(true, 25);
        self.stage.world.mark("metrics pushed");
    }

    /// The broker's process that lives now.
    fn process(&self) -> Option<Arc<Observer<SimEnv>>> {
        lock(&self.shared.observer).upgrade()
    }

    fn judge_telemetry(&self, holds: bool, text: impl FnOnce() -> String) {
        if !self.stage.scenario.is_beyond_promise() {
            self.stage.judge(require("telemetry", holds, text));
        }
    }
}
