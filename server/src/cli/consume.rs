//! `foretold consume`: records of a topic on standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use client::{
    Admin, ClientError, Consumer, ConsumerConfig, ConsumerRecord, Event, Isolation, OffsetSpec,
    ResetPolicy, Target,
};
use serde_json::{Value, json};
use types::{ErrorCode, Offset, TopicName, TopicPartition};

use super::when::{self, When};
use super::{Connect, groups, output};
use crate::exit::Failed;
use crate::serve::Signals;
use crate::world::RealEnv;

#[derive(Debug, Args)]
pub(super) struct Consume {
    /// What to read.
    topic: String,
    /// Read as a member of this group and keep its position there.
    #[arg(long, short, value_name = "GROUP", conflicts_with = "partitions")]
    group: Option<String>,
    /// Where to begin: earliest, latest, an offset, or a time; with a group, where it has no position [default: latest].
    #[arg(long, value_name = "POINT")]
    from: Option<When>,
    /// Stop after so many records.
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Stop at the end as it is when reading begins.
    #[arg(long, conflicts_with = "group")]
    until_end: bool,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", short, value_name = "N")]
    partitions: Vec<i32>,
    /// Print keys too, separated from values by this text.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Print partition, offset and time of each record too.
    #[arg(long)]
    verbose: bool,
    /// Where this is: what has a replica in this rack is read from it, if the brokers choose so.
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Leave out records of open and aborted transactions.
    #[arg(long)]
    committed: bool,
    #[command(flatten)]
    connect: Connect,
}

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(500);

impl Consume {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let config = self.config()?;
        let explain = |error: ClientError| self.explain(&error);
        let mut consumer = Consumer::new(&client, config).map_err(explain)?;
        let topic = TopicName::from(self.topic.as_str());
        let mut ends = None;
        if self.group.is_some() {
            consumer.subscribe(vec![topic]).await.map_err(explain)?;
        } else {
            let partitions = self.partitions(&client, &topic).await?;
            if self.until_end {
                ends = Some(self.ends(&client, &partitions).await?);
            }
            // Within each log, as `group reset` does it: a position past the end would be taken for a lost one, and the
            // whole topic be read instead of nothing.
            let starts = match self.from {
                Some(when @ When::Offset(_)) => {
                    groups::targets(&Admin::new(&client), &self.connect, &partitions, when).await?
                }
                _ => BTreeMap::new(),
            };
            consumer.assign(partitions.clone()).map_err(explain)?;
            for partition in &partitions {
                match self.from {
                    Some(When::Offset(offset)) => {
                        consumer.seek(partition, starts.get(partition).copied().unwrap_or(offset))
                    }
                    Some(When::Time(time)) => consumer.seek_to_timestamp(partition, time),
                    Some(When::Earliest) => consumer.seek_to_beginning(partition),
                    Some(When::Latest) | None => Ok(()),
                }
                .map_err(explain)?;
            }
        }
        // A member that is told to stop commits its place and leaves, however it is told.
        let mut signals = Signals::new()?;
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut last = Instant::now();
        while left > 0 && !at_end(&consumer, ends.as_deref()) {
            let polled = tokio::select! {
                biased;
                () = signals.next() => break,
                polled = consumer.poll(POLL) => polled.map_err(explain)?,
            };
            for event in polled.events {
                report(&event);
            }
            if !polled.records.is_empty() {
                last = Instant::now();
            } else if last.elapsed() > self.connect.timeout() {
                self.check_answered(&consumer)?;
            }
            let mut out = Vec::new();
            for record in polled.records {
                let is_past = ends.as_deref().is_some_and(|ends| {
                    ends.iter().any(|(p, end)| *p == record.partition && record.offset >= *end)
                });
                if left > 0 && !is_past {
                    left -= 1;
                    self.print(&record, &mut out)?;
                    if left == 0 && self.group.is_some() {
                        // The rest of this poll was not printed: the group must get it again.
                        consumer.seek(&record.partition, record.offset.next()).map_err(explain)?;
                    }
                } else if left == 0 && self.group.is_some() {
                    self.rewind(&mut consumer, &record);
                }
            }
            if !out.is_empty() {
                output::write_all(&out)?;
            }
        }
        match consumer.close().await {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(error)),
        }
    }

    fn config(&self) -> Result<ConsumerConfig, Failed> {
        let reset = match self.from {
            None | Some(When::Latest) => ResetPolicy::Latest,
            Some(When::Earliest) => ResetPolicy::Earliest,
            Some(When::Offset(_) | When::Time(_)) if self.group.is_some() => {
                return Err(Failed::usage(
                    "with --group, --from takes earliest or latest; to move a group, \
                     use `foretold group reset GROUP --topic TOPIC --to POINT`",
                ));
            }
            Some(_) => ResetPolicy::Earliest,
        };
        Ok(ConsumerConfig {
            group: self.group.as_deref().map(Into::into),
            auto_commit: self.group.as_ref().map(|_| Duration::from_secs(1)),
            reset,
            isolation: if self.committed {
                Isolation::ReadCommitted
            } else {
                Isolation::ReadUncommitted
            },
            rack: self.rack.clone(),
            ..ConsumerConfig::default()
        })
    }

    /// A record of a poll that is not printed any more: its partition goes back to the first such record.
    fn rewind(&self, consumer: &mut Consumer<RealEnv>, record: &ConsumerRecord) {
        if consumer.position(&record.partition).is_some_and(|position| position > record.offset) {
            let _ = consumer.seek(&record.partition, record.offset);
        }
    }

    async fn partitions(
        &self,
        client: &client::Client<RealEnv>,
        topic: &TopicName,
    ) -> Result<Vec<TopicPartition>, Failed> {
        let metadata = client
            .retrying(&Target::Any, || async {
                let metadata = client.metadata(std::slice::from_ref(topic)).await?;
                match metadata.topics.get(topic).map(|topic| topic.error) {
                    Some(None) => Ok(metadata),
                    Some(Some(ErrorCode::UnknownTopicOrPartition)) | None => {
                        // Not worth a retry: whoever typed the name wants to know now.
                        Err(ClientError::Usage(format!("there is no topic `{topic}`")))
                    }
                    Some(Some(code)) => Err(ClientError::code(code)),
                }
            })
            .await
            .map_err(|error| match error {
                ClientError::Usage(reason) => Failed::runtime(reason),
                other => self.explain(&other),
            })?;
        let count = metadata.partitions_count(topic).unwrap_or(0) as i32;
        if let Some(index) = self.partitions.iter().find(|index| !(0..count).contains(*index)) {
            return Err(Failed::runtime(format!("topic `{topic}` has no partition {index}")));
        }
        let chosen: Vec<i32> =
            if self.partitions.is_empty() { (0..count).collect() } else { self.partitions.clone() };
        Ok(chosen.into_iter().map(|index| TopicPartition::new(topic.clone(), index)).collect())
    }

    async fn ends(
        &self,
        client: &client::Client<RealEnv>,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Offset)>, Failed> {
        let wanted = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
        let isolation =
            if self.committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let found = Admin::new(client)
            .list_offsets(&wanted, isolation)
            .await
            .map_err(|error| self.explain(&error))?;
        found
            .into_iter()
            .map(|(partition, result)| {
                let found = result.map_err(|error| self.explain(&error))?;
                Ok((partition, found.map_or(Offset::ZERO, |found| found.offset)))
            })
            .collect()
    }

    /// Nothing came for longer than was allowed: that is well at the end of a log, and only there.
    fn check_answered(&self, consumer: &Consumer<RealEnv>) -> Result<(), Failed> {
        for partition in consumer.assignment() {
            if let Some(error) = consumer.trouble(&partition) {
                let place = match consumer.position(&partition) {
                    Some(offset) => format!("{partition} at offset {offset}"),
                    None => partition.to_string(),
                };
                return Err(Failed::runtime(format!(
                    "{place} cannot be read: {error}; what lies behind can be, with --partition {} --from OFFSET",
                    partition.partition
                )));
            }
        }
        Ok(())
    }

    fn explain(&self, error: &ClientError) -> Failed {
        self.connect.explain(error)
    }

    fn print(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> Result<(), Failed> {
        if self.connect.json {
            let line = serde_json::to_string(&as_json(record))
                .map_err(|error| Failed::runtime(format!("cannot print JSON: {error}")))?;
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            return Ok(());
        }
        if self.verbose {
            let time = record.timestamp.map_or("-".to_owned(), when::show);
            let partition = &record.partition;
            // Writing to a vector cannot fail.
            let _ = write!(out, "{partition}@{} {time} ", record.offset);
        }
        if let Some(separator) = &self.key_separator {
            out.extend_from_slice(record.key.as_deref().unwrap_or_default());
            out.extend_from_slice(separator.as_bytes());
        }
        out.extend_from_slice(record.value.as_deref().unwrap_or_default());
        out.push(b'\n');
        Ok(())
    }
}

/// Whether all partitions have reached their ends.
fn at_end(consumer: &Consumer<RealEnv>, ends: Option<&[(TopicPartition, Offset)]>) -> bool {
    ends.is_some_and(|ends| {
        ends.iter().all(|(partition, end)| {
            *end == Offset::ZERO
                || consumer.position(partition).is_some_and(|position| position >= *end)
        })
    })
}

fn report(event: &Event) {
    let list = |partitions: &[TopicPartition]| {
        partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    match event {
        Event::Assigned { partitions, .. } => {
            tracing::info!("assigned: {}", list(partitions));
        }
        Event::Revoked { partitions, .. } => tracing::info!("revoked: {}", list(partitions)),
        Event::Lost { partitions, .. } => tracing::warn!("lost: {}", list(partitions)),
        Event::Reset { partition, from: Some(from), to } => {
            tracing::warn!("{partition} goes on from {to} instead of {from}");
        }
        Event::Reset { partition, from: None, to } => {
            tracing::info!("{partition} begins at {to}");
        }
    }
}

fn as_json(record: &ConsumerRecord) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(key, value)| json!([text(Some(key)), text(value.as_deref())]))
        .collect();
    json!({
        "topic": record.partition.topic.as_str(),
        "partition": record.partition.partition.0,
        "offset": record.offset.0,
        "timestamp": record.timestamp.map(|timestamp| timestamp.0),
        "key": text(record.key.as_deref()),
        "value": text(record.value.as_deref()),
        "headers": headers,
    })
}

/// Text as a string; other bytes as an object that holds them in hexadecimal, so that nothing is lost.
fn text(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "hex": hex })
            }
        },
    }
}
