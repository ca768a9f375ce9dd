//! `foretold topic verify`: reads whole topics and tells which offsets cannot be read, so that they can be fetched
//! from elsewhere, and where reading goes on behind them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use client::admin::Admin;
use client::{Client, ClientError, Consumer, ConsumerConfig, Isolation, OffsetSpec, ResetPolicy};
use serde_json::json;
use types::{Offset, TopicName, TopicPartition};

use super::{Connect, output};
use crate::exit::Failed;
use crate::world::RealEnv;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(5);
/// A broker that answers "no" for so long to a read means it.
const PATIENCE: Duration = Duration::from_millis(600);

/// So many offsets behind damage are tried one by one; from there on steps grow, and what is readable between two of them is
/// not found.
const TRIED_EACH: u32 = 4096;

/// Offsets that cannot be read: from `start` up to, not with, `end`.
struct Gap {
    partition: TopicPartition,
    start: Offset,
    end: Offset,
    why: String,
    /// Whether each of them was tried, or told of by their batch.
    is_exact: bool,
}

/// Nothing comes at an offset.
struct Bad {
    why: String,
    /// Where the next batch begins, if that can be told.
    goes_on: Option<Offset>,
}

/// Reads all of `names`; an error if not everything can be read.
pub(super) async fn run(
    client: &Client<RealEnv>,
    connect: &Connect,
    names: Vec<String>,
) -> Result<(), Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    let admin = Admin::new(client);
    let names: Vec<TopicName> = names.iter().map(|name| name.as_str().into()).collect();
    let mut partitions = Vec::new();
    for (name, found) in admin.describe_topics(&names).await.map_err(explain)? {
        let topic = found.map_err(|error| Failed::runtime(format!("{name}: {error}")))?;
        let all = topic.partitions.keys().map(|index| TopicPartition::new(name.clone(), index.0));
        partitions.extend(all);
    }
    let starts = ends(&admin, connect, &partitions, OffsetSpec::Earliest).await?;
    let ends = ends(&admin, connect, &partitions, OffsetSpec::Latest).await?;
    let config = ConsumerConfig { reset: ResetPolicy::Earliest, ..ConsumerConfig::default() };
    let mut gaps = Vec::new();
    let mut read = 0;
    for partition in &partitions {
        let mut consumer = Consumer::new(client, config.clone()).map_err(explain)?;
        consumer.assign(vec![partition.clone()]).map_err(explain)?;
        let (mut at, end) = (starts[partition], ends[partition]);
        while at < end {
            match advance(&mut consumer, connect, partition, at, None).await? {
                Ok(next) => {
                    read += next.since(at);
                    at = next;
                }
                Err(bad) => {
                    let start = at;
                    let is_exact;
                    (at, is_exact) = match bad.goes_on.filter(|next| *next > start) {
                        Some(next) => (next.min(end), true),
                        None => behind(&mut consumer, connect, partition, start..end, &bad).await?,
                    };
                    let partition = partition.clone();
                    gaps.push(Gap { partition, start, end: at, why: bad.why, is_exact });
                }
            }
        }
    }
    show(connect, read, &gaps)
}

/// Where reading goes on behind `bad`, which is at the start of `range`, or its end; and whether nothing readable was passed over.
async fn behind(
    consumer: &mut Consumer<RealEnv>,
    connect: &Connect,
    partition: &TopicPartition,
    range: Range<Offset>,
    bad: &Bad,
) -> Result<(Offset, bool), Failed> {
    let (mut last, mut step, mut tries) = (range.start, 1, 0);
    let mut good = loop {
        let at = Offset(last.0.saturating_add(step)).min(range.end);
        if at == range.end {
            break at;
        }
        match advance(consumer, connect, partition, at, Some(&bad.why)).await? {
            Err(other) if other.goes_on.is_none() => {}
            // Or damage of another kind, which is told for itself.
            _ => break at,
        }
        last = at;
        tries += 1;
        if tries > TRIED_EACH {
            step *= 2;
        }
    };
    while good.since(last) > 1 {
        let middle = Offset(last.0 + good.since(last) / 2);
        match advance(consumer, connect, partition, middle, Some(&bad.why)).await? {
            Err(other) if other.goes_on.is_none() => last = middle,
            _ => good = middle,
        }
    }
    Ok((good, step == 1))
}

/// Reads on from `at`: where the next read continues, or why nothing comes. What is `expected` is believed at once.
async fn advance(
    consumer: &mut Consumer<RealEnv>,
    connect: &Connect,
    partition: &TopicPartition,
    at: Offset,
    expected: Option<&str>,
) -> Result<Result<Offset, Bad>, Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    consumer.seek(partition, at).map_err(explain)?;
    let began = Instant::now();
    loop {
        let polled = match consumer.poll(POLL).await {
            // What was stored can be had, and nobody can make records of it.
            Err(ClientError::BadBatch { reason, goes_on, .. }) => {
                return Ok(Err(Bad { why: reason, goes_on }));
            }
            polled => polled.map_err(explain)?,
        };
        if let Some(last) = polled.records.last() {
            return Ok(Ok(last.offset.next()));
        }
        match consumer.trouble(partition).map(ClientError::to_string) {
            Some(why) if expected == Some(&why) || began.elapsed() > PATIENCE => {
                return Ok(Err(Bad { why, goes_on: None }));
            }
            None if began.elapsed() > connect.timeout() => {
                return Err(Failed::runtime(format!("{partition} is not answered at offset {at}")));
            }
            _ => {}
        }
    }
}

async fn ends(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, Offset>, Failed> {
    let wanted = partitions.iter().map(|p| (p.clone(), spec)).collect();
    let found = admin
        .list_offsets(&wanted, Isolation::ReadUncommitted)
        .await
        .map_err(|error| connect.explain(&error))?;
    let of = |(partition, result): (TopicPartition, Result<Option<client::FoundOffset>, _>)| {
        let found = result.map_err(|error| Failed::runtime(format!("{partition}: {error}")))?;
        Ok((partition, found.map_or(Offset::ZERO, |found| found.offset)))
    };
    found.into_iter().map(of).collect()
}

fn show(connect: &Connect, read: i64, gaps: &[Gap]) -> Result<(), Failed> {
    if connect.json {
        let gaps: Vec<_> = gaps
            .iter()
            .map(|gap| {
                json!({
                    "topic": gap.partition.topic.as_str(), "partition": gap.partition.partition.0,
                    "start": gap.start.0, "end": gap.end.0, "error": gap.why, "exact": gap.is_exact,
                })
            })
            .collect();
        output::json(&json!({ "offsets": read, "unreadable": gaps }))?;
    } else if gaps.is_empty() {
        output::write_all(format!("{read} offsets, all readable\n").as_bytes())?;
    } else {
        let row = |gap: &Gap| {
            vec![
                gap.partition.topic.to_string(),
                gap.partition.partition.to_string(),
                gap.start.to_string(),
                gap.end.to_string(),
                match gap.is_exact {
                    true => gap.why.clone(),
                    false => format!("{} (not every offset was tried)", gap.why),
                },
            ]
        };
        let columns = ["topic", ">partition", ">from", ">goes on at", "error"];
        output::table(&columns, gaps.iter().map(row).collect())?;
    }
    if gaps.is_empty() {
        return Ok(());
    }
    let lost: i64 = gaps.iter().map(|gap| gap.end.since(gap.start)).sum();
    Err(Failed::runtime(format!(
        "{lost} offsets in {} ranges cannot be read, {read} can; the broker's log says why. Restore the ranges from \
         another copy, or let readers go on behind them (`foretold group reset GROUP --topic TOPIC --to OFFSET`)",
        gaps.len()
    )))
}
