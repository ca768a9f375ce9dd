//! `foretold top`: what a cluster does now, again and again.
//!
//! It asks what any Kafka client may ask (ends of partitions, log directories, positions of groups), so that it works with
//! any broker and needs no further port. A [`Sample`] is what was found at one moment; rates are what lies between two.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use client::admin::Admin;
use client::{ClientError, Isolation, OffsetSpec};
use serde_json::{Value, json};
use types::{GroupId, TopicName, TopicPartition};

use super::Connect;
use super::output;
use crate::exit::Failed;
use crate::world::RealEnv;

/// The screen when nobody says how high it is.
const LINES: usize = 40;

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    interval: f64,
    /// End after so many looks [default: until interrupted].
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

impl Top {
    pub async fn run(self) -> Result<(), Failed> {
        if !(0.1..=3600.0).contains(&self.interval) {
            return Err(Failed::usage("--interval: from 0.1 to 3600 seconds"));
        }
        let interval = Duration::from_secs_f64(self.interval);
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let is_screen = std::io::stdout().is_terminal() && !self.connect.json;
        let mut before: Option<Sample> = None;
        let mut looks = 0;
        while self.count.is_none_or(|count| looks < count) {
            if looks > 0 {
                tokio::time::sleep(interval).await;
            }
            looks += 1;
            match Sample::take(&admin).await {
                Ok(now) => {
                    self.show(before.as_ref(), &now, is_screen)?;
                    before = Some(now);
                }
                // Whoever watches a screen wants to see the broker come back.
                Err(error) if is_screen && before.is_some() => {
                    let failed = self.connect.explain(&error);
                    output::write_all(format!("\x1b[H{failed}\x1b[K\n").as_bytes())?;
                }
                Err(error) => return Err(self.connect.explain(&error)),
            }
        }
        Ok(())
    }

    fn show(&self, before: Option<&Sample>, now: &Sample, is_screen: bool) -> Result<(), Failed> {
        let view = View::between(before, now);
        if self.connect.json {
            return output::json_line(&view.json());
        }
        if !is_screen {
            return output::write_all(format!("{}\n", view.text(usize::MAX)).as_bytes());
        }
        let lines = rustix::termios::tcgetwinsize(std::io::stdout())
            .map_or(LINES, |size| usize::from(size.ws_row))
            .max(8);
        // Each line is cleared to its end, then all below: nothing flickers.
        let text: String = view
            .text(lines - 1)
            .lines()
            .take(lines - 1)
            .map(|line| format!("{line}\x1b[K\n"))
            .collect();
        output::write_all(format!("\x1b[H{text}\x1b[J").as_bytes())
    }
}

/// What was found at one moment.
struct Sample {
    at: Instant,
    cluster: String,
    brokers: usize,
    topics: BTreeMap<TopicName, TopicSample>,
    groups: BTreeMap<GroupId, GroupSample>,
    disks: Vec<Disk>,
}

#[derive(Default)]
struct TopicSample {
    partitions: usize,
    without_leader: usize,
    /// Sum of its partitions' ends.
    end: i64,
    /// Bytes of its logs on all brokers.
    bytes: u64,
}

struct GroupSample {
    state: String,
    /// Sums over the partitions that the group has a position in.
    position: i64,
    end: i64,
    lag: i64,
}

struct Disk {
    broker: i32,
    path: String,
    is_offline: bool,
    total: Option<u64>,
    usable: Option<u64>,
}

impl Sample {
    async fn take(admin: &Admin<RealEnv>) -> Result<Sample, ClientError> {
        let cluster = admin.describe_cluster().await?;
        let known = admin.list_topics().await?;
        let mut topics: BTreeMap<TopicName, TopicSample> = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (name, topic) in &known {
            if topic.is_internal {
                continue;
            }
            let sample = topics.entry(name.clone()).or_default();
            sample.partitions = topic.partitions.len();
            for (index, partition) in &topic.partitions {
                if partition.leader.is_none() {
                    sample.without_leader += 1;
                    continue;
                }
                wanted.insert(
                    TopicPartition { topic: name.clone(), partition: *index },
                    OffsetSpec::Latest,
                );
            }
        }
        let mut groups = BTreeMap::new();
        for group in admin.list_groups().await? {
            // It may have gone since it was listed.
            let positions = admin.group_offsets(&group.id).await.unwrap_or_default();
            groups.insert(group.id, (group.state, positions));
        }
        // Ends after positions: no group is ahead of them.
        let ends = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await?;
        let ends: BTreeMap<&TopicPartition, i64> = ends
            .iter()
            .filter_map(|(partition, end)| Some((partition, end.as_ref().ok()?.as_ref()?.offset.0)))
            .collect();
        for (partition, end) in &ends {
            if let Some(topic) = topics.get_mut(&partition.topic) {
                topic.end += end;
            }
        }
        let groups = groups.into_iter().map(|(id, (state, positions))| {
            let mut sample = GroupSample { state, position: 0, end: 0, lag: 0 };
            for (partition, position) in &positions {
                if let Some(end) = ends.get(partition) {
                    sample.position += position.offset.0;
                    sample.end += end;
                    sample.lag += (end - position.offset.0).max(0);
                }
            }
            (id, sample)
        });
        let groups = groups.collect();
        let mut disks = Vec::new();
        for broker in cluster.brokers.keys() {
            for dir in admin.describe_log_dirs(*broker, None).await? {
                for (partition, bytes) in &dir.logs {
                    if let Some(topic) = topics.get_mut(&partition.topic) {
                        topic.bytes += bytes;
                    }
                }
                disks.push(Disk {
                    broker: broker.0,
                    path: dir.path,
                    is_offline: dir.error.is_some(),
                    total: dir.bytes_total,
                    usable: dir.bytes_usable,
                });
            }
        }
        let brokers = cluster.brokers.len();
        let at = Instant::now();
        Ok(Sample { at, cluster: cluster.id, brokers, topics, groups, disks })
    }
}

/// What is shown.
struct View<'a> {
    now: &'a Sample,
    topics: Vec<TopicLine<'a>>,
    groups: Vec<GroupLine<'a>>,
}

struct TopicLine<'a> {
    name: &'a TopicName,
    topic: &'a TopicSample,
    /// Records appended, bytes grown, per second; nothing at the first look.
    records: Option<f64>,
    bytes: Option<f64>,
}

struct GroupLine<'a> {
    id: &'a GroupId,
    group: &'a GroupSample,
    /// Records that positions moved on per second.
    records: Option<f64>,
    /// Seconds until nothing is left, if both go on as they do; infinite if the group falls behind.
    until_done: Option<f64>,
}

impl<'a> View<'a> {
    fn between(before: Option<&Sample>, now: &'a Sample) -> View<'a> {
        let seconds = before.map(|before| (now.at - before.at).as_secs_f64().max(0.001));
        // A topic that was made anew, or cut by retention, does not run backwards.
        let rate = |then: f64, now: f64| seconds.map(|seconds| ((now - then) / seconds).max(0.0));
        let mut topics: Vec<TopicLine<'_>> = now
            .topics
            .iter()
            .map(|(name, topic)| {
                let then = before.and_then(|before| before.topics.get(name));
                let end = then.map_or(0, |then| then.end);
                let bytes = then.map_or(0, |then| then.bytes);
                TopicLine {
                    name,
                    topic,
                    records: rate(end as f64, topic.end as f64),
                    bytes: rate(bytes as f64, topic.bytes as f64),
                }
            })
            .collect();
        let busy = |line: &TopicLine<'_>| line.records.unwrap_or(line.topic.end as f64);
        topics.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.name.cmp(b.name)));
        let mut groups: Vec<GroupLine<'_>> = now
            .groups
            .iter()
            .map(|(id, group)| {
                let then = before.and_then(|before| before.groups.get(id));
                let moved = then.and_then(|then| {
                    let seconds = seconds?;
                    let read = (group.position - then.position) as f64 / seconds;
                    let appended = (group.end - then.end) as f64 / seconds;
                    Some((read, read - appended))
                });
                let until_done = moved.filter(|_| group.lag > 0).map(|(_, gained)| {
                    if gained > 0.0 { group.lag as f64 / gained } else { f64::INFINITY }
                });
                let records = moved.map(|(read, _)| read.max(0.0));
                GroupLine { id, group, records, until_done }
            })
            .collect();
        groups.sort_by(|a, b| b.group.lag.cmp(&a.group.lag).then_with(|| a.id.cmp(b.id)));
        View { now, topics, groups }
    }

    /// As text of at most so many lines: the busiest topics, the groups furthest behind.
    fn text(&self, lines: usize) -> String {
        let now = self.now;
        let partitions: usize = now.topics.values().map(|topic| topic.partitions).sum();
        let sum = |of: fn(&TopicLine<'_>) -> Option<f64>| -> Option<f64> {
            self.topics.iter().map(of).sum()
        };
        let mut text = format!(
            "{}  brokers {}  topics {}  partitions {partitions}  groups {}  in {} records/s, {}/s\n",
            now.cluster,
            now.brokers,
            now.topics.len(),
            now.groups.len(),
            count(sum(|line| line.records)),
            bytes(sum(|line| line.bytes)),
        );
        for disk in &now.disks {
            text += &disk.text();
        }
        text.push('\n');
        // A blank line, two headings, and lines that say how much is left out.
        let room = lines.saturating_sub(text.lines().count() + 6).max(2);
        let for_groups =
            self.groups.len().min((room / 2).max(room.saturating_sub(self.topics.len())));
        let for_topics = self.topics.len().min(room - for_groups);
        let rows = self.topics.iter().take(for_topics).map(TopicLine::row).collect();
        let columns =
            ["topic", ">partitions", ">no leader", ">records/s", ">bytes/s", ">records", ">size"];
        text += &output::table_text(&columns, rows);
        text += &left_out(self.topics.len() - for_topics);
        text.push('\n');
        let rows = self.groups.iter().take(for_groups).map(GroupLine::row).collect();
        text += &output::table_text(&["group", "state", ">records/s", ">lag", ">done in"], rows);
        text += &left_out(self.groups.len() - for_groups);
        text
    }

    fn json(&self) -> Value {
        let topics = self.topics.iter().map(|line| {
            json!({
                "topic": line.name.as_str(),
                "partitions": line.topic.partitions,
                "partitions_without_leader": line.topic.without_leader,
                "records_per_second": line.records,
                "bytes_per_second": line.bytes,
                "end_offsets": line.topic.end,
                "bytes": line.topic.bytes,
            })
        });
        let groups = self.groups.iter().map(|line| {
            json!({
                "group": line.id.as_str(),
                "state": line.group.state,
                "records_per_second": line.records,
                "lag": line.group.lag,
                // JSON knows no infinity: null with a lag is a group that falls behind, or the first look.
                "seconds_until_done": line.until_done.filter(|seconds| seconds.is_finite()),
            })
        });
        let disks = self.now.disks.iter().map(|disk| {
            json!({
                "broker": disk.broker,
                "path": disk.path,
                "offline": disk.is_offline,
                "bytes_total": disk.total,
                "bytes_usable": disk.usable,
            })
        });
        json!({
            "cluster": self.now.cluster,
            "brokers": self.now.brokers,
            "topics": topics.collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
            "disks": disks.collect::<Vec<_>>(),
        })
    }
}

impl TopicLine<'_> {
    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.topic.partitions.to_string(),
            self.topic.without_leader.to_string(),
            count(self.records),
            bytes(self.bytes),
            count(Some(self.topic.end as f64)),
            bytes(Some(self.topic.bytes as f64)),
        ]
    }
}

impl GroupLine<'_> {
    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.group.state.clone(),
            count(self.records),
            count(Some(self.group.lag as f64)),
            self.until_done.map_or("-".to_owned(), lasting),
        ]
    }
}

impl Disk {
    fn text(&self) -> String {
        let place = format!("broker {} {}", self.broker, self.path);
        if self.is_offline {
            return format!("{place}  OFFLINE: see the broker's log\n");
        }
        let (Some(total), Some(usable)) = (self.total, self.usable) else {
            return format!("{place}\n");
        };
        // Twenty places, one per five hundredths.
        let used = total.saturating_sub(usable);
        let full = usize::try_from(used.saturating_mul(20) / total.max(1)).unwrap_or(20).min(20);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(20 - full));
        let left = bytes(Some(usable as f64));
        format!("{place}  [{bar}] {left} left of {}\n", bytes(Some(total as f64)))
    }
}

fn left_out(n: usize) -> String {
    if n == 0 { String::new() } else { format!("and {n} more\n") }
}

/// A number in at most five places.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= step
        && let Some(next) = units.next()
    {
        value /= step;
        unit = next;
    }
    let digits = usize::from(!unit.is_empty() && unit != "B" && value < 100.0);
    format!("{value:.digits$}{unit}")
}

fn count(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| scaled(value, 1000.0, &["", "k", "M", "G", "T"]))
}

fn bytes(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| scaled(value, 1024.0, &["B", "K", "M", "G", "T", "P"]))
}

fn lasting(seconds: f64) -> String {
    if seconds.is_infinite() {
        return "never".to_owned();
    }
    let whole = seconds.ceil();
    let (amount, unit) = match whole {
        ..120.0 => (whole, "s"),
        ..7200.0 => (whole / 60.0, "min"),
        ..172_800.0 => (whole / 3600.0, "h"),
        _ => (whole / 86_400.0, "d"),
    };
    format!("{amount:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, end: i64, position: i64) -> Sample {
        let topic = TopicSample { partitions: 3, without_leader: 0, end, bytes: end as u64 * 100 };
        let group = GroupSample { state: "Stable".to_owned(), position, end, lag: end - position };
        Sample {
            at: Instant::now() + Duration::from_secs(seconds),
            cluster: "c".to_owned(),
            brokers: 1,
            topics: [("t".into(), topic)].into(),
            groups: [("g".into(), group)].into(),
            disks: vec![Disk {
                broker: 0,
                path: "/d".to_owned(),
                is_offline: false,
                total: Some(100 << 30),
                usable: Some(25 << 30),
            }],
        }
    }

    #[test]
    fn rates_lie_between_two_looks() {
        let (before, now) = (sample(0, 1000, 0), sample(10, 3000, 1000));
        let first = View::between(None, &before).json();
        assert_eq!(first["topics"][0]["records_per_second"], Value::Null);
        let view = View::between(Some(&before), &now);
        let close = |value: &Value, wanted: f64| {
            assert!((value.as_f64().unwrap_or(-1.0) - wanted).abs() < 1.0, "{value} for {wanted}");
        };
        let json = view.json();
        close(&json["topics"][0]["records_per_second"], 200.0);
        close(&json["topics"][0]["bytes_per_second"], 20_000.0);
        close(&json["groups"][0]["records_per_second"], 100.0);
        assert_eq!(json["groups"][0]["lag"], 2000);
        assert!(view.text(40).contains("never"), "it reads less than comes: {}", view.text(40));
        let now = sample(10, 1000, 500);
        let view = View::between(Some(&before), &now);
        close(&view.json()["groups"][0]["seconds_until_done"], 10.0);
        assert!(view.text(40).contains("[###############.....] 25.0G left of 100G"));
    }

    #[test]
    fn a_small_screen_says_what_it_leaves_out() {
        let mut now = sample(0, 1000, 0);
        for n in 0..50 {
            let topic = TopicSample { partitions: 1, without_leader: 0, end: n, bytes: 0 };
            now.topics.insert(format!("more-{n}").as_str().into(), topic);
        }
        let text = View::between(None, &now).text(24);
        assert!(text.lines().count() <= 24, "{text}");
        assert!(text.contains("and 37 more") && text.contains("Stable"), "{text}");
        assert!(text.contains("more-49") && !text.contains("more-3 "), "the largest: {text}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(Some(999.4)), "999");
        assert_eq!(count(Some(15_234.0)), "15.2k");
        assert_eq!(bytes(Some(512.0)), "512B");
        assert_eq!(bytes(Some(1536.0 * 1024.0)), "1.5M");
        assert_eq!(lasting(30.2), "31 s");
        assert_eq!(lasting(7100.0), "118 min");
        assert_eq!(lasting(f64::INFINITY), "never");
    }
}
