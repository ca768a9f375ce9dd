//! Client telemetry (KIP-714): which metrics clients are asked for, and what each pushed last.
//!
//! Operators ask by `client-metrics` resources ([`Subscriptions`]); without one nobody pushes anything. [`Telemetry`] answers
//! clients that ask what is wanted, judges what they push, and keeps the newest push of each, in bounded memory. It is not
//! stored: after a restart clients ask and push anew. What is in a push (OTLP) is for whoever shows it to know.

mod subscriptions;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use record::Compression;
use types::mutant::{Mutant, planted};
use types::{ErrorCode, Instant, Uuid};

pub use subscriptions::{Subscription, Subscriptions};

#[cfg(test)]
mod tests;

/// Clients that are remembered; Kafka's number. One more displaces the one that was silent longest.
const CLIENTS_MAX: usize = 16_384;
/// Bytes of all pushes that are kept, as they came; likewise.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// A client is remembered for so many of its intervals, and for [`REMEMBERED_MIN`].
const REMEMBERED_INTERVALS: u32 = 3;
const REMEMBERED_MIN: Duration = Duration::from_secs(300);

/// What a client says of itself, and where it comes from: what subscriptions may match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Labels {
    /// `client.id`.
    pub client_id: String,
    /// Name of its software, empty if it gave none (KIP-511).
    pub software_name: String,
    /// Version of its software.
    pub software_version: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What a client pushes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// The identity that it was given.
    pub id: Uuid,
    /// The subscription that it answers.
    pub subscription_id: i32,
    /// Whether it is its last.
    pub is_last: bool,
    /// Kafka's number of the codec.
    pub compression: i8,
    /// OTLP metrics, compressed.
    pub metrics: Bytes,
}

/// The newest push of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its codec.
    pub compression: Compression,
    /// OTLP metrics, compressed.
    pub metrics: Bytes,
    /// When it came.
    pub at: Instant,
}

/// All clients that ask or push.
#[derive(Debug, Default)]
pub struct Telemetry {
    clients: BTreeMap<Uuid, Client>,
    /// Clients by the number of their last request, the one that was silent longest first.
    by_use: BTreeMap<u64, Uuid>,
    uses: u64,
    /// Bytes of all pushes that are kept.
    kept_bytes: usize,
}

#[derive(Debug)]
struct Client {
    labels: Labels,
    /// What `subscription` was made from.
    made_from: Arc<Subscriptions>,
    subscription: Subscription,
    asked: Option<Instant>,
    pushed: Option<Instant>,
    has_ended: bool,
    /// Why its last push was refused, if it was.
    refused: Option<ErrorCode>,
    kept: Option<Kept>,
    used: u64,
    seen: Instant,
}

impl Client {
    /// How long it is remembered after its last request.
    fn remembered(&self) -> Duration {
        (self.subscription.interval * REMEMBERED_INTERVALS).max(REMEMBERED_MIN)
    }

    fn bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.metrics.len())
    }

    fn judge(
        &mut self,
        now: Instant,
        push: &Push,
        bytes_max: usize,
    ) -> Result<Compression, ErrorCode> {
        if self.has_ended {
            return Err(ErrorCode::InvalidRequest);
        }
        // The first push after an answer may come at once: clients spread their intervals themselves.
        let is_answer = self.asked > self.pushed;
        if !is_answer && self.is_early(now, self.pushed) && !push.is_last {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        self.pushed = Some(now);
        if push.subscription_id != self.subscription.id {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        let compression = u8::try_from(push.compression).map(Compression::from_id);
        let Ok(Ok(compression)) = compression else {
            return Err(ErrorCode::UnsupportedCompressionType);
        };
        if push.metrics.len() > bytes_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(compression)
    }

    fn is_early(&self, now: Instant, last: Option<Instant>) -> bool {
        !planted(Mutant::TelemetryUnthrottled)
            && last.is_some_and(|last| now.saturating_since(last) < self.subscription.interval)
    }
}

impl Telemetry {
    /// A client asks what is wanted of it.
    ///
    /// # Errors
    ///
    /// THROTTLING_QUOTA_EXCEEDED before its interval has passed, unless a push of it was refused for something that the
    /// answer will tell it.
    pub fn on_ask(
        &mut self,
        now: Instant,
        id: Uuid,
        labels: Labels,
        subscriptions: &Arc<Subscriptions>,
    ) -> Result<Subscription, ErrorCode> {
        let client = self.client(now, id, labels, subscriptions);
        let is_sent_back = matches!(
            client.refused,
            Some(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType)
        );
        let last = client.asked.max(client.pushed);
        if client.is_early(now, last) && !is_sent_back {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        client.asked = Some(now);
        client.refused = None;
        Ok(client.subscription.clone())
    }

    /// A client pushes, at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// In the order of judgement: INVALID_REQUEST without an identity or after its last push, THROTTLING_QUOTA_EXCEEDED
    /// before its interval has passed, UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE.
    pub fn on_push(
        &mut self,
        now: Instant,
        push: Push,
        labels: Labels,
        subscriptions: &Arc<Subscriptions>,
        bytes_max: usize,
    ) -> Result<(), ErrorCode> {
        if is_reserved(push.id) {
            return Err(ErrorCode::InvalidRequest);
        }
        let client = self.client(now, push.id, labels, subscriptions);
        let judged = client.judge(now, &push, bytes_max);
        client.refused = judged.err();
        let compression = judged?;
        client.has_ended = push.is_last;
        if push.metrics.is_empty() || planted(Mutant::TelemetryLost) {
            return Ok(());
        }
        let before = client.bytes();
        // A copy: what came may be a slice of something larger.
        let metrics = Bytes::copy_from_slice(&push.metrics);
        client.kept = Some(Kept { compression, metrics, at: now });
        self.kept_bytes = self.kept_bytes - before + push.metrics.len();
        self.bound(now);
        Ok(())
    }

    /// The newest pushes of clients that are not long silent.
    pub fn kept(&self, now: Instant) -> impl Iterator<Item = (Uuid, &Labels, &Kept)> {
        let alive = self
            .clients
            .iter()
            .filter(move |(_, client)| now.saturating_since(client.seen) <= client.remembered());
        alive.filter_map(|(id, client)| Some((*id, &client.labels, client.kept.as_ref()?)))
    }

    /// The client of that identity, which makes a request now.
    fn client(
        &mut self,
        now: Instant,
        id: Uuid,
        labels: Labels,
        subscriptions: &Arc<Subscriptions>,
    ) -> &mut Client {
        self.uses += 1;
        let used = self.uses;
        let client = self.clients.entry(id).or_insert_with(|| Client {
            subscription: subscriptions.for_client(id, &labels),
            labels: labels.clone(),
            made_from: subscriptions.clone(),
            asked: None,
            pushed: None,
            has_ended: false,
            refused: None,
            kept: None,
            used,
            seen: now,
        });
        self.by_use.remove(&client.used);
        self.by_use.insert(used, id);
        (client.used, client.seen) = (used, now);
        if !Arc::ptr_eq(&client.made_from, subscriptions) {
            client.subscription = subscriptions.for_client(id, &labels);
            client.made_from = subscriptions.clone();
            client.labels = labels;
        }
        self.bound(now);
        self.clients.get_mut(&id).expect("the newest is not displaced")
    }

    /// Forgets who was silent for long, and who was silent longest while there is too much; never the newest.
    fn bound(&mut self, now: Instant) {
        while self.by_use.len() > 1
            && let Some((_, id)) = self.by_use.first_key_value()
        {
            let oldest = &self.clients[id];
            let is_silent = now.saturating_since(oldest.seen) > oldest.remembered();
            let is_full = self.clients.len() > CLIENTS_MAX || self.kept_bytes > KEPT_BYTES_MAX;
            if !is_silent && !is_full {
                break;
            }
            let (_, id) = self.by_use.pop_first().expect("it was there");
            let gone = self.clients.remove(&id).expect("both know the same clients");
            self.kept_bytes -= gone.bytes();
        }
    }
}

/// Whether no client has this identity: 0 asks for a new one, 1 is kept by the protocol.
pub fn is_reserved(id: Uuid) -> bool {
    id.is_zero() || u128::from_be_bytes(id.0) == 1
}
