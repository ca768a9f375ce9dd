//! `foretold disk`.

use clap::{Args, Subcommand};
use client::admin::{Admin, DescribedLogDir};
use serde_json::json;
use types::BrokerId;

use super::{Connect, output};
use crate::exit::Failed;

#[derive(Debug, Args)]
pub(super) struct Disks {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List log directories: what they hold, and how much room is left.
    List {
        /// Of this broker only.
        #[arg(long, value_name = "ID")]
        broker: Option<i32>,
        /// List the logs in them instead, the largest first.
        #[arg(long)]
        logs: bool,
    },
}

impl Disks {
    pub async fn run(self) -> Result<(), Failed> {
        let Action::List { broker, logs } = self.action;
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let explain = |error: client::ClientError| self.connect.explain(&error);
        let brokers: Vec<BrokerId> = match broker {
            Some(id) => vec![BrokerId(id)],
            None => {
                let cluster = admin.describe_cluster().await.map_err(explain)?;
                cluster.brokers.into_keys().collect()
            }
        };
        let mut found = Vec::new();
        for broker in brokers {
            let dirs = admin.describe_log_dirs(broker, None).await.map_err(explain)?;
            found.extend(dirs.into_iter().map(|dir| (broker, dir)));
        }
        match (self.connect.json, logs) {
            (true, _) => print_json(&found),
            (false, true) => print_logs(&found),
            (false, false) => print_dirs(&found),
        }
    }
}

/// Everything, whatever a table would show.
fn print_json(found: &[(BrokerId, DescribedLogDir)]) -> Result<(), Failed> {
    let dirs = found.iter().map(|(broker, dir)| {
        let logs = dir.logs.iter().map(|(partition, bytes)| {
            json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "bytes": bytes,
            })
        });
        json!({
            "broker": broker.0,
            "directory": dir.path,
            "error": dir.error.map(|code| code.name()),
            "bytes_free": dir.bytes_usable,
            "bytes_total": dir.bytes_total,
            "logs": logs.collect::<Vec<_>>(),
        })
    });
    output::json(&dirs.collect::<Vec<_>>())
}

fn print_dirs(found: &[(BrokerId, DescribedLogDir)]) -> Result<(), Failed> {
    let known = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    let rows = found.iter().map(|(broker, dir)| {
        vec![
            broker.to_string(),
            dir.path.clone(),
            dir.error.map_or("works", |code| code.name()).to_owned(),
            dir.logs.len().to_string(),
            dir.logs.values().sum::<u64>().to_string(),
            known(dir.bytes_usable),
            known(dir.bytes_total),
        ]
    });
    let columns = [">broker", "directory", "state", ">logs", ">bytes", ">free", ">of"];
    output::table(&columns, rows.collect())
}

fn print_logs(found: &[(BrokerId, DescribedLogDir)]) -> Result<(), Failed> {
    let logs = found.iter().flat_map(|(broker, dir)| {
        dir.logs.iter().map(move |(partition, bytes)| (*bytes, partition, broker, &dir.path))
    });
    let mut logs: Vec<_> = logs.collect();
    logs.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let rows = logs.into_iter().map(|(bytes, partition, broker, path)| {
        vec![partition.to_string(), broker.to_string(), path.clone(), bytes.to_string()]
    });
    output::table(&["log", ">broker", "directory", ">bytes"], rows.collect())
}
