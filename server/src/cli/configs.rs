//! `foretold config`.

use clap::{Args, Subcommand, ValueEnum};
use client::admin::{Admin, ConfigChange, ConfigResource, ConfigSource};
use serde_json::json;
use types::BrokerId;

use super::{Connect, output};
use crate::exit::Failed;

#[derive(Debug, Args)]
pub(super) struct Configs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show settings.
    Get {
        #[command(flatten)]
        of: Of,
        /// Which settings; all when none is named.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// Show only what was set, not the defaults.
        #[arg(long)]
        changed: bool,
        /// Show what each setting does.
        #[arg(long)]
        explain: bool,
    },
    /// Give settings a value.
    Set {
        #[command(flatten)]
        of: Of,
        /// Settings and values.
        #[arg(value_name = "KEY=VALUE", required = true)]
        pairs: Vec<String>,
        /// Check only.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take settings back to their defaults.
    Unset {
        #[command(flatten)]
        of: Of,
        /// Which settings.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// Check only.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What the settings belong to.
#[derive(Debug, Args)]
struct Of {
    /// Kind of resource.
    kind: Kind,
    /// Its name: a topic, a group, a subscription to client metrics, the number of a broker, or `default` for all
    /// brokers.
    name: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Topic,
    Broker,
    Group,
    /// What clients are asked to measure of themselves.
    ClientMetrics,
}

impl Of {
    fn resource(&self) -> Result<ConfigResource, Failed> {
        Ok(match self.kind {
            Kind::Topic => ConfigResource::Topic(self.name.as_str().into()),
            Kind::Group => ConfigResource::Group(self.name.as_str().into()),
            Kind::ClientMetrics => ConfigResource::ClientMetrics(self.name.clone()),
            Kind::Broker if self.name == "default" => ConfigResource::BrokerDefaults,
            Kind::Broker => ConfigResource::Broker(BrokerId(self.name.parse().map_err(|_| {
                Failed::usage(format!(
                    "`{}` is not a broker: use its number, or `default` for all brokers",
                    self.name
                ))
            })?)),
        })
    }
}

/// Splits `key=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), Failed> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        Failed::usage(format!("`{text}`: expected key=value, such as retention.ms=3600000"))
    })?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Configs {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let explain = |error: client::ClientError| self.connect.explain(&error);
        match &self.action {
            Action::Get { of, keys, changed, explain: with_help } => {
                let resource = of.resource()?;
                let mut entries =
                    admin.describe_configs(&resource, *with_help).await.map_err(explain)?;
                for key in keys {
                    if !entries.iter().any(|entry| entry.name == *key) {
                        return Err(Failed::runtime(format!("there is no setting `{key}`")));
                    }
                }
                entries.retain(|entry| {
                    (keys.is_empty() || keys.contains(&entry.name))
                        && !(*changed && entry.source == ConfigSource::Default)
                });
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                if self.connect.json {
                    let list: Vec<_> = entries
                        .iter()
                        .map(|entry| {
                            json!({
                                "name": entry.name,
                                "value": entry.value,
                                "source": entry.source.name(),
                                "read_only": entry.is_read_only,
                                "sensitive": entry.is_sensitive,
                                "help": entry.documentation,
                            })
                        })
                        .collect();
                    return output::json(&list);
                }
                let rows = entries
                    .into_iter()
                    .map(|entry| {
                        let hidden = if entry.is_sensitive { "(hidden)" } else { "" };
                        let value = entry.value.unwrap_or_else(|| hidden.to_owned());
                        let mut row = vec![entry.name, value, entry.source.name().to_owned()];
                        if *with_help {
                            row.push(entry.documentation.unwrap_or_default());
                        }
                        row
                    })
                    .collect();
                let columns = ["setting", "value", "source", "what it does"];
                output::table(&columns[..if *with_help { 4 } else { 3 }], rows)
            }
            Action::Set { of, pairs, dry_run } => {
                let changes: Vec<ConfigChange> = pairs
                    .iter()
                    .map(|text| pair(text).map(|(key, value)| ConfigChange::Set(key, value)))
                    .collect::<Result<_, _>>()?;
                admin.alter_configs(&of.resource()?, &changes, *dry_run).await.map_err(explain)?;
                self.print_changed(of, &changes, *dry_run)
            }
            Action::Unset { of, keys, dry_run } => {
                let changes: Vec<ConfigChange> =
                    keys.iter().cloned().map(ConfigChange::Unset).collect();
                admin.alter_configs(&of.resource()?, &changes, *dry_run).await.map_err(explain)?;
                self.print_changed(of, &changes, *dry_run)
            }
        }
    }

    /// What was changed, or would be, for scripts; people asked for it and see no error.
    fn print_changed(
        &self,
        of: &Of,
        changes: &[ConfigChange],
        dry_run: bool,
    ) -> Result<(), Failed> {
        if !self.connect.json {
            return Ok(());
        }
        let kind = of.kind.to_possible_value().expect("no kind is hidden");
        output::json(&json!({
            "resource": kind.get_name(),
            "name": of.name,
            "settings": changed(changes),
            "dry_run": dry_run,
        }))
    }
}

/// Changes as a JSON object: names and values, null for what goes back to its default.
pub(super) fn changed(changes: &[ConfigChange]) -> serde_json::Map<String, serde_json::Value> {
    let entries = changes.iter().map(|change| match change {
        ConfigChange::Set(key, value)
        | ConfigChange::Append(key, value)
        | ConfigChange::Subtract(key, value) => (key.clone(), value.as_str().into()),
        ConfigChange::Unset(key) => (key.clone(), serde_json::Value::Null),
    });
    entries.collect()
}
