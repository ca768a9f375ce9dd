//! Which metrics are wanted of which clients.

use std::collections::BTreeSet;
use std::time::Duration;

use types::Uuid;
use types::encoding::Str;

use super::Labels;
use crate::config::{ClientLabel, ClientMetricsSettings, ConfigMap};
use crate::metadata::{Image, ResourceKind};

/// Asks for every metric.
const ALL_METRICS: &str = "*";

/// What `client-metrics` resources ask for.
#[derive(Debug, Default)]
pub struct Subscriptions(Vec<ClientMetricsSettings>);

/// What a client is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The same for the same metrics and interval, over restarts too.
    pub id: i32,
    /// Beginnings of names, or `*` for every metric; nothing is wanted if there are none.
    pub metrics: BTreeSet<Str>,
    /// How often to push.
    pub interval: Duration,
}

impl Subscriptions {
    /// What the resources of `image` ask for.
    pub fn of(image: &Image) -> Subscriptions {
        let set = image.configured().filter(|(of, _)| of.kind == ResourceKind::ClientMetrics);
        Subscriptions(set.map(|(_, values)| ClientMetricsSettings::resolve(values)).collect())
    }

    /// What is wanted of a client: all that any resource wants that matches it, as often as the most eager of them.
    pub(super) fn for_client(&self, id: Uuid, labels: &Labels) -> Subscription {
        let is_wanted = |one: &&ClientMetricsSettings| {
            !one.metrics.is_empty()
                && one.matches.iter().all(|(label, pattern)| match label {
                    ClientLabel::Id => pattern.is_match(&id.to_string()),
                    ClientLabel::ClientId => pattern.is_match(&labels.client_id),
                    ClientLabel::SoftwareName => pattern.is_match(&labels.software_name),
                    ClientLabel::SoftwareVersion => pattern.is_match(&labels.software_version),
                    ClientLabel::Address => pattern.is_match(&labels.address.to_string()),
                    ClientLabel::Port => pattern.is_match(&labels.port.to_string()),
                })
        };
        let wanted = self.0.iter().filter(is_wanted);
        let interval = wanted.clone().map(|one| one.interval).min();
        let mut metrics: BTreeSet<Str> = wanted.flat_map(|one| one.metrics.clone()).collect();
        if metrics.iter().any(|metric| metric.as_str() == ALL_METRICS) {
            metrics = BTreeSet::from([ALL_METRICS.into()]);
        }
        let nothing_set = || ClientMetricsSettings::resolve(&ConfigMap::new());
        Subscription::new(metrics, interval.unwrap_or_else(|| nothing_set().interval))
    }
}

impl Subscription {
    fn new(metrics: BTreeSet<Str>, interval: Duration) -> Subscription {
        // FNV-1a: it need not resist anybody, only tell changes apart and stay the same in every release.
        let mut hash: u32 = 0x811c_9dc5;
        let names = metrics.iter().flat_map(|metric| metric.bytes().chain([0]));
        for byte in names.chain((interval.as_millis() as u64).to_be_bytes()) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        Subscription { id: hash as i32, metrics, interval }
    }
}
