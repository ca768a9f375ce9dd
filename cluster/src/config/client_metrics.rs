//! What a subscription to client metrics resolves to (KIP-714).

use std::collections::BTreeMap;
use std::time::Duration;

use regex_lite::Regex;
use types::encoding::Str;

use super::key::split_list;
use super::layers::ConfigMap;
use super::table::{CLIENT_METRICS, find};

/// A `client-metrics` resource.
#[derive(Clone, Debug)]
pub struct ClientMetricsSettings {
    /// `metrics`: beginnings of names.
    pub metrics: Vec<Str>,
    /// `interval.ms`.
    pub interval: Duration,
    /// `match`: each must match the whole of its label.
    pub matches: BTreeMap<ClientLabel, Regex>,
}

/// What of a client `match` may ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClientLabel {
    /// `client_instance_id`.
    Id,
    /// `client_id`.
    ClientId,
    /// `client_software_name`.
    SoftwareName,
    /// `client_software_version`.
    SoftwareVersion,
    /// `client_source_address`.
    Address,
    /// `client_source_port`.
    Port,
}

impl ClientLabel {
    fn of(name: &str) -> Option<ClientLabel> {
        Some(match name {
            "client_instance_id" => ClientLabel::Id,
            "client_id" => ClientLabel::ClientId,
            "client_software_name" => ClientLabel::SoftwareName,
            "client_software_version" => ClientLabel::SoftwareVersion,
            "client_source_address" => ClientLabel::Address,
            "client_source_port" => ClientLabel::Port,
            _ => return None,
        })
    }
}

impl ClientMetricsSettings {
    /// Settings from values that were checked before.
    pub fn resolve(own: &ConfigMap) -> ClientMetricsSettings {
        let value = |name: &str| {
            let default = || find(CLIENT_METRICS, name).and_then(|key| key.default);
            own.get(name).map(|value| value.trim()).or_else(default).unwrap_or_default()
        };
        ClientMetricsSettings {
            metrics: split_list(value("metrics")).map(Into::into).collect(),
            interval: Duration::from_millis(value("interval.ms").parse().unwrap_or(0)),
            matches: split_list(value("match")).filter_map(parse_match).collect(),
        }
    }
}

/// `LABEL=PATTERN`, where the pattern must fit the whole of the label.
pub(super) fn parse_match(item: &str) -> Option<(ClientLabel, Regex)> {
    let (name, pattern) = item.split_once('=').filter(|(_, pattern)| !pattern.contains('='))?;
    let label = ClientLabel::of(name.trim())?;
    let pattern = Regex::new(&format!(r"\A(?:{})\z", pattern.trim())).ok()?;
    Some((label, pattern))
}
