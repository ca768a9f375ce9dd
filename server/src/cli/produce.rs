//! `foretold produce`: each line of standard input is a record.

use std::io::BufRead;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use client::{
    Acks, ClientError, Compression, Delivery, DeliveryReport, Producer, ProducerConfig,
    ProducerRecord,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Connect, configs, output};
use crate::exit::Failed;
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Produce {
    /// Where to publish; the broker may create it.
    topic: String,
    /// One partition [default: by key, or spread].
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// What separates key and value within a line [default: lines have no key].
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header for every record; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// When a record counts as published.
    #[arg(long, value_enum, default_value_t = AcksArgument::All)]
    acks: AcksArgument,
    /// How to compress.
    #[arg(long, value_name = "none|gzip|snappy|lz4|zstd", default_value = "none", value_parser = compression)]
    compression: Compression,
    /// Gather records for so long before sending.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5)]
    linger: u64,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum AcksArgument {
    /// Never: nothing is waited for.
    #[value(name = "0")]
    None,
    /// When the leader has it.
    #[value(name = "1")]
    Leader,
    /// When every in-sync replica has it.
    #[value(name = "all", alias = "-1")]
    All,
}

fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|_| "expected none, gzip, snappy, lz4 or zstd".to_owned())
}

/// A line may be this long.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Lines read ahead, and deliveries waited for, at most.
const LINES_MAX: usize = 1024;

/// What became of the records.
#[derive(Default)]
struct Tally {
    ok: u64,
    failed: u64,
    unknown: u64,
    first_error: Option<String>,
}

impl Tally {
    /// Counts one; whether the time allowed passed over it.
    async fn count(&mut self, delivery: Delivery) -> bool {
        let (counter, error) = match delivery.await {
            DeliveryReport::Ok { .. } => (&mut self.ok, None),
            DeliveryReport::Failed(error) => (&mut self.failed, Some(error)),
            DeliveryReport::Unknown(error) => (&mut self.unknown, Some(error)),
        };
        *counter += 1;
        let is_late = matches!(error, Some(ClientError::DeadlinePassed { .. }));
        if let (Some(error), None) = (error, &self.first_error) {
            self.first_error = Some(error.to_string());
        }
        is_late
    }
}

impl Produce {
    pub fn run(self) -> Result<(), Failed> {
        let runtime = runtime::for_client()?;
        let result = runtime.block_on(self.publish());
        // The thread that reads standard input may be waiting for a line that never comes.
        runtime.shutdown_background();
        result
    }

    async fn publish(self) -> Result<(), Failed> {
        let client = self.connect.client(true);
        let headers: Vec<(Bytes, Option<Bytes>)> = self
            .headers
            .iter()
            .map(|text| configs::pair(text).map(|(key, value)| (key.into(), Some(value.into()))))
            .collect::<Result<_, _>>()?;
        let acks = match self.acks {
            AcksArgument::None => Acks::None,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::All => Acks::All,
        };
        let config = ProducerConfig {
            acks,
            idempotent: acks == Acks::All,
            compression: self.compression,
            linger: Duration::from_millis(self.linger),
            batch_bytes: 64 * 1024,
            delivery_timeout: self.connect.timeout(),
            ..ProducerConfig::default()
        };
        let explain = |error: ClientError| self.connect.explain(&error);
        let producer = Producer::new(&client, config).map_err(explain)?;

        let (deliver, mut deliveries) = mpsc::channel::<Delivery>(LINES_MAX * 16);
        let (give_up, mut gave_up) = oneshot::channel();
        let counting = tokio::spawn(async move {
            let mut tally = Tally::default();
            let mut give_up = Some(give_up);
            while let Some(delivery) = deliveries.recv().await {
                if tally.count(delivery).await
                    && let Some(give_up) = give_up.take()
                {
                    // Nobody listens any more once all lines are read.
                    let _ = give_up.send(());
                }
            }
            tally
        });

        let mut lines = read_lines();
        let mut failed = None;
        loop {
            let line = tokio::select! {
                biased;
                // The lines after it would only wait as long, one batch after the other.
                _ = &mut gave_up => break,
                line = lines.recv() => line,
            };
            let Some(line) = line else { break };
            let line = line.map_err(Failed::runtime)?;
            let (key, value) = self.split(line);
            let record = ProducerRecord {
                topic: self.topic.as_str().into(),
                partition: self.partition,
                key,
                value: Some(value),
                headers: headers.clone(),
                timestamp: None,
            };
            match producer.send(record).await {
                Ok(delivery) => {
                    if deliver.send(delivery).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        producer.close().await;
        drop(deliver);
        let tally = counting
            .await
            .map_err(|error| Failed::runtime(format!("counting deliveries failed: {error}")))?;
        if self.connect.json {
            output::json(&json!({
                "topic": self.topic,
                "acknowledged": tally.ok,
                "failed": tally.failed,
                "unknown": tally.unknown,
                "error": tally.first_error,
            }))?;
        }
        if let Some(error) = failed {
            return Err(self.connect.explain(&error));
        }
        match tally.first_error {
            None => Ok(()),
            Some(error) => Err(Failed::runtime(format!(
                "{} records published, {} not, {} perhaps; first error: {error}{}",
                tally.ok,
                tally.failed,
                tally.unknown,
                advice(&error)
            ))),
        }
    }

    fn split(&self, line: Bytes) -> (Option<Bytes>, Bytes) {
        let Some(separator) = self.key_separator.as_deref().map(str::as_bytes) else {
            return (None, line);
        };
        let found = line.windows(separator.len().max(1)).position(|window| window == separator);
        match found {
            Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
            None => (None, line),
        }
    }
}

/// What to do about an error that does not say so.
fn advice(error: &str) -> &'static str {
    if error.contains("KAFKA_STORAGE_ERROR") {
        "; the broker's disk is full or has failed, its log says which: delete topics or records, or make room, and it \
         takes records again by itself; a failed disk is to be mended and the broker restarted"
    } else {
        ""
    }
}

/// Lines of standard input without their ends, read by a thread of its own.
fn read_lines() -> mpsc::Receiver<Result<Bytes, String>> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = std::io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut line);
            let item = match read {
                Ok(0) => return,
                Ok(_) if line.len() > LINE_BYTES_MAX => {
                    Err(format!("a line is longer than {LINE_BYTES_MAX} bytes"))
                }
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    Ok(Bytes::from(line))
                }
                Err(error) => Err(format!("cannot read standard input: {error}")),
            };
            let is_last = item.is_err();
            if sender.blocking_send(item).is_err() || is_last {
                return;
            }
        }
    });
    lines
}
