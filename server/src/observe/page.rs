//! The page of metrics: a snapshot under the names that dashboards read.
//!
//! `kafka_server_*`, `kafka_controller_*`, `kafka_network_*`, `kafka_cluster_*` and `kafka_log_*` are what Strimzi's rules
//! make of Kafka's own metrics; `kafka_brokers`, `kafka_topic_*` and `kafka_consumergroup_*` are kafka_exporter's;
//! `process_*` is Prometheus' convention, and `foretold_*` ours. What Kafka measures in mechanisms that do not exist
//! here (threads' idle shares, the JVM) is absent rather than made up.

use broker::{
    GroupProgress, PartitionLog, PartitionSnapshot, Snapshot, TopicCounts, TopicSnapshot,
};

use log::DirCounts;

use super::clients;
use super::process::Process;
use super::text::Page;

/// The whole page. `address` is where this broker's clients connect; nothing is known of a broker that has not started.
pub fn write(
    process: &Process,
    is_ready: bool,
    address: &str,
    snapshot: Option<&Snapshot>,
) -> String {
    let mut page = Page::default();
    page.gauge("foretold_build_info", "The release that runs, as a label.")
        .add(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("foretold_ready", "1 while it serves, as /health/ready says.")
        .add(&[], u8::from(is_ready));
    of_process(&mut page, process);
    if let Some(snapshot) = snapshot {
        replicas(&mut page, snapshot);
        topics(&mut page, snapshot);
        requests(&mut page, snapshot);
        directories(&mut page, snapshot);
        cluster(&mut page, snapshot, address);
        partitions(&mut page, snapshot);
        groups(&mut page, snapshot);
        clients::write(&mut page, &snapshot.clients);
    }
    page.finish()
}

fn of_process(page: &mut Page, process: &Process) {
    page.gauge("process_resident_memory_bytes", "Memory that the process occupies.")
        .add(&[], process.resident_bytes);
    page.counter("process_cpu_seconds_total", "Processor time used.")
        .add(&[], process.cpu.as_secs_f64());
    page.gauge("process_open_fds", "Files and sockets that are open.").add(&[], process.open_files);
    page.gauge("process_start_time_seconds", "When the process began, in seconds since 1970.")
        .add(&[], process.started.as_secs_f64());
    page.counter("kafka_server_kafkaserver_linux_disk_read_bytes", "Bytes read from devices.")
        .add(&[], process.bytes_read);
    page.counter("kafka_server_kafkaserver_linux_disk_write_bytes", "Bytes written to devices.")
        .add(&[], process.bytes_written);
    let mut events = page.counter(
        "foretold_log_events_total",
        "Lines of the log by level, whether or not they are shown: each stands for one error or oddity.",
    );
    events.add(&[("level", &"error")], process.errors).add(&[("level", &"warn")], process.warnings);
}

/// Every partition with its topic.
fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&TopicSnapshot, &PartitionSnapshot)> {
    let of = |topic| move |partition| (topic, partition);
    snapshot.topics.iter().flat_map(move |topic| topic.partitions.iter().map(of(topic)))
}

fn is_under_replicated(partition: &PartitionSnapshot) -> bool {
    partition.isr.len() < partition.replicas.len()
}

fn replicas(page: &mut Page, snapshot: &Snapshot) {
    let count = |wanted: fn(&PartitionSnapshot) -> bool| {
        all(snapshot).filter(|(_, partition)| wanted(partition)).count()
    };
    let leads = all(snapshot).filter(|(_, partition)| {
        partition.log.is_some() && partition.leader == Some(snapshot.broker)
    });
    page.gauge("kafka_server_replicamanager_leadercount", "Partitions that this broker leads.")
        .add(&[], leads.count());
    page.gauge("kafka_server_replicamanager_partitioncount", "Replicas that this broker serves.")
        .add(&[], count(|partition| partition.log.is_some()));
    page.gauge(
        "kafka_server_replicamanager_offlinereplicacount",
        "Replicas of this broker whose log directory does not work.",
    )
    .add(&[], count(|partition| partition.log.is_none()));
    page.gauge(
        "kafka_server_replicamanager_underreplicatedpartitions",
        "Partitions with fewer replicas in sync than they have.",
    )
    .add(&[], count(is_under_replicated));
    page.gauge("kafka_controller_kafkacontroller_activecontrollercount", "1 on the controller.")
        .add(&[], 1);
    page.gauge(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "Partitions that nobody can read or write.",
    )
    .add(&[], count(|partition| partition.log.is_none()));
    page.gauge("kafka_controller_kafkacontroller_globaltopiccount", "Topics of the cluster.")
        .add(&[], snapshot.topics.len());
    page.gauge(
        "kafka_controller_kafkacontroller_globalpartitioncount",
        "Partitions of the cluster.",
    )
    .add(&[], count(|_| true));
    page.counter(
        "kafka_controller_controllerstats_uncleanleaderelections_total",
        "Leaders that were elected although records may be lost.",
    )
    .add(&[], 0);
}

fn topics(page: &mut Page, snapshot: &Snapshot) {
    type Of = fn(&TopicCounts) -> u64;
    let families: [(&'static str, &str, Of); 7] = [
        (
            "kafka_server_brokertopicmetrics_messagesin_total",
            "Records appended for producers; without a topic, of all there ever were.",
            |counts| counts.records_in,
        ),
        (
            "kafka_server_brokertopicmetrics_bytesin_total",
            "Bytes of batches appended for producers, as they were sent.",
            |counts| counts.bytes_in,
        ),
        (
            "kafka_server_brokertopicmetrics_bytesout_total",
            "Bytes of batches given to consumers.",
            |counts| counts.bytes_out,
        ),
        (
            "kafka_server_brokertopicmetrics_totalproducerequests_total",
            "Produce requests, each partition of one for itself.",
            |counts| counts.produces,
        ),
        (
            "kafka_server_brokertopicmetrics_failedproducerequests_total",
            "Of these, those that were refused.",
            |counts| counts.produces_failed,
        ),
        (
            "kafka_server_brokertopicmetrics_totalfetchrequests_total",
            "Fetch requests, each partition of one for itself.",
            |counts| counts.fetches,
        ),
        (
            "kafka_server_brokertopicmetrics_failedfetchrequests_total",
            "Of these, those that were refused.",
            |counts| counts.fetches_failed,
        ),
    ];
    for (name, help, of) in families {
        let mut family = page.counter(name, help);
        family.add(&[], of(&snapshot.traffic));
        for topic in &snapshot.topics {
            family.add(&[("topic", &topic.name)], of(&topic.counts));
        }
    }
}

fn requests(page: &mut Page, snapshot: &Snapshot) {
    // As Kafka names them: what followers fetch would be another request.
    let name = |api: &'static str| if api == "Fetch" { "FetchConsumer" } else { api };
    let mut family =
        page.counter("kafka_network_requestmetrics_requests_total", "Requests that were answered.");
    for api in &snapshot.apis {
        family.add(&[("request", &name(api.name))], api.latency.count());
    }
    let mut family = page.durations(
        "foretold_request_seconds",
        "From a request's last byte until its answer leaves; a fetch's includes the time it waits for records.",
    );
    // What nobody asks for needs no eighteen lines.
    for api in snapshot.apis.iter().filter(|api| api.latency.count() > 0) {
        family.add_durations(&[("request", &api.name)], &api.latency);
    }
    let mut family = page.counter("foretold_request_bytes_total", "Bytes of whole requests.");
    for api in &snapshot.apis {
        family.add(&[("request", &api.name)], api.bytes_in);
    }
    let mut family = page.counter("foretold_response_bytes_total", "Bytes of answers.");
    for api in &snapshot.apis {
        family.add(&[("request", &api.name)], api.bytes_out);
    }
    let mut family =
        page.gauge("kafka_server_socket_server_metrics_connection_count", "Open connections.");
    for listener in &snapshot.listeners {
        family.add(&[("listener", &listener.name)], listener.open);
    }
    let mut family = page.counter(
        "kafka_server_socket_server_metrics_connection_creation_total",
        "Connections accepted.",
    );
    for listener in &snapshot.listeners {
        family.add(&[("listener", &listener.name)], listener.opened);
    }
    let mut family = page.counter(
        "foretold_connections_refused_total",
        "Connections closed at once: their address had too many.",
    );
    for listener in &snapshot.listeners {
        family.add(&[("listener", &listener.name)], listener.refused);
    }
    let mut family = page.counter(
        "foretold_connections_broken_total",
        "Connections closed because they broke the protocol.",
    );
    for listener in &snapshot.listeners {
        family.add(&[("listener", &listener.name)], listener.broken);
    }
    page.gauge(
        "foretold_request_memory_bytes",
        "Memory that large requests hold while they arrive.",
    )
    .add(&[], snapshot.request_bytes_held);
}

fn directories(page: &mut Page, snapshot: &Snapshot) {
    let dirs = &snapshot.directories;
    let shown: Vec<String> = dirs
        .iter()
        .map(|dir| {
            let path = dir.path.display();
            // It lies beside the logs of a data directory, and is a directory of its own.
            if dir.is_metadata { format!("{path} (metadata)") } else { path.to_string() }
        })
        .collect();
    let offline = dirs.iter().filter(|dir| !dir.is_metadata && dir.counts.is_offline).count();
    page.gauge("kafka_log_logmanager_offlinelogdirectorycount", "Log directories that failed.")
        .add(&[], offline);
    let mut family =
        page.gauge("foretold_directory_online", "0 once the log directory has failed.");
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], u8::from(!dir.counts.is_offline));
    }
    let mut family = page
        .gauge("foretold_directory_has_space", "0 while producers are refused for want of space.");
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], u8::from(dir.counts.has_space));
    }
    let mut family = page.durations(
        "foretold_journal_sync_seconds",
        "Time to write and sync one group of the journal; its count is the number of syncs.",
    );
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add_durations(&[("dir", shown)], &dir.counts.groups);
    }
    let mut family =
        page.counter("foretold_journal_batches_total", "Batches that the groups held.");
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], dir.counts.batches);
    }
    let mut family = page.counter("foretold_journal_batch_bytes_total", "Bytes of these batches.");
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], dir.counts.bytes);
    }
    let mut family = page.gauge(
        "foretold_journal_live_bytes",
        "Bytes of the journal that a start would replay, as of the last group.",
    );
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], dir.counts.journal_bytes);
    }
    type Of = fn(&DirCounts) -> u64;
    let scrubbed: [(&'static str, &str, Of); 4] = [
        (
            "foretold_scrub_bytes_total",
            "Bytes of cold segments whose checksums were verified.",
            |c| c.scrubbed_bytes,
        ),
        ("foretold_scrub_rounds_total", "Rounds through all cold segments.", |c| c.scrub_rounds),
        ("foretold_scrub_damaged_ranges_total", "Damaged ranges that were found so.", |c| {
            c.scrub_damaged
        }),
        ("foretold_scrub_unreadable_total", "Times that a segment could not be read.", |c| {
            c.scrub_unreadable
        }),
    ];
    for (name, help, of) in scrubbed {
        let mut family = page.counter(name, help);
        for (dir, shown) in dirs.iter().zip(&shown) {
            family.add(&[("dir", shown)], of(&dir.counts));
        }
    }
    let mut family =
        page.gauge("foretold_directory_queued_bytes", "Bytes of batches that wait to be written.");
    for (dir, shown) in dirs.iter().zip(&shown) {
        family.add(&[("dir", shown)], dir.counts.queued_bytes);
    }
}

fn cluster(page: &mut Page, snapshot: &Snapshot, address: &str) {
    page.gauge("kafka_brokers", "Brokers of the cluster.").add(&[], 1);
    page.gauge("kafka_broker_info", "A broker, with its address as a label.")
        .add(&[("id", &snapshot.broker), ("address", &address)], 1);
    let mut family = page.gauge("kafka_topic_partitions", "Partitions of the topic.");
    for topic in &snapshot.topics {
        family.add(&[("topic", &topic.name)], topic.partitions.len());
    }
}

fn partitions(page: &mut Page, snapshot: &Snapshot) {
    type Of = fn(&PartitionSnapshot) -> i64;
    let registered: [(&'static str, &str, Of); 8] = [
        ("kafka_topic_partition_leader", "Id of the leader; -1 is none.", |p| {
            p.leader.map_or(-1, |leader| i64::from(leader.0))
        }),
        ("kafka_topic_partition_leader_is_preferred", "1 if the first replica leads.", |p| {
            i64::from(p.leader.is_some() && p.leader == p.replicas.first().copied())
        }),
        ("kafka_topic_partition_replicas", "Replicas.", |p| p.replicas.len() as i64),
        ("kafka_topic_partition_in_sync_replica", "Replicas in sync.", |p| p.isr.len() as i64),
        ("kafka_topic_partition_under_replicated_partition", "1 if not all are in sync.", |p| {
            i64::from(is_under_replicated(p))
        }),
        ("kafka_cluster_partition_replicascount", "Replicas.", |p| p.replicas.len() as i64),
        // No partition needs more replicas in sync than it has, and here it has one.
        ("kafka_cluster_partition_atminisr", "1 if no replica may leave.", |p| {
            i64::from(p.isr.len() == 1)
        }),
        ("kafka_cluster_partition_underminisr", "1 if too few are in sync to write.", |p| {
            i64::from(p.isr.is_empty())
        }),
    ];
    for (name, help, of) in registered {
        let mut family = page.gauge(name, help);
        for (topic, partition) in all(snapshot) {
            let labels = &[("topic", &topic.name as _), ("partition", &partition.index as _)];
            family.add(labels, of(partition));
        }
    }
    type OfLog = fn(&PartitionLog) -> i64;
    let served: [(&'static str, &str, OfLog); 6] = [
        ("kafka_topic_partition_current_offset", "End of what consumers may read.", |log| {
            log.high_watermark.0
        }),
        ("kafka_topic_partition_oldest_offset", "First offset that can be read.", |log| {
            log.log_start.0
        }),
        ("kafka_log_log_logendoffset", "Next offset to be assigned.", |log| log.log_end.0),
        ("kafka_log_log_logstartoffset", "First offset that can be read.", |log| log.log_start.0),
        ("kafka_log_log_size", "Bytes of the partition's segments.", |log| log.bytes as i64),
        (
            "foretold_log_quarantined_ranges",
            "Ranges of records that are damaged and not served.",
            |log| log.quarantined.len() as i64,
        ),
    ];
    for (name, help, of) in served {
        let mut family = page.gauge(name, help);
        for (topic, partition) in all(snapshot) {
            let Some(log) = &partition.log else { continue };
            family.add(&[("topic", &topic.name), ("partition", &partition.index)], of(log));
        }
    }
    let mut family = page.gauge(
        "foretold_log_quarantined_offsets",
        "Offsets of a damaged range: the first in `from`, the one that reading goes on at in `to`.",
    );
    for (topic, partition) in all(snapshot) {
        let ranges = partition.log.iter().flat_map(|log| &log.quarantined);
        for (from, to) in ranges.take(RANGES_SHOWN_MAX) {
            let labels = &[
                ("topic", &topic.name as _),
                ("partition", &partition.index as _),
                ("from", from as _),
                ("to", to as _),
            ];
            family.add(labels, to.since(*from));
        }
    }
}

/// Damaged ranges of one partition that are shown; beyond them it is the number that tells.
const RANGES_SHOWN_MAX: usize = 16;

fn groups(page: &mut Page, snapshot: &Snapshot) {
    let groups = &snapshot.groups;
    let mut family = page.gauge("kafka_consumergroup_members", "Members of the group.");
    for group in groups {
        family.add(&[("consumergroup", &group.id)], group.members_count);
    }
    let mut family = page.gauge("foretold_group_state", "1 for the state that the group is in.");
    for group in groups {
        family.add(&[("consumergroup", &group.id), ("state", &group.state)], 1);
    }
    let mut family =
        page.gauge("kafka_consumergroup_current_offset", "Next offset that the group reads.");
    for group in groups {
        for of in &group.offsets {
            let labels = &[
                ("consumergroup", &group.id as _),
                ("topic", &of.topic as _),
                ("partition", &of.partition as _),
            ];
            family.add(labels, of.offset);
        }
    }
    let mut family =
        page.gauge("kafka_consumergroup_lag", "Committed records that it has not read.");
    for group in groups {
        for of in &group.offsets {
            let Some(lag) = of.lag else { continue };
            let labels = &[
                ("consumergroup", &group.id as _),
                ("topic", &of.topic as _),
                ("partition", &of.partition as _),
            ];
            family.add(labels, lag);
        }
    }
    let mut family = page.gauge(
        "kafka_consumergroup_lag_seconds",
        "Age of the first batch that it has not read to the end; 0 if there is none.",
    );
    for group in groups {
        for of in &group.offsets {
            let seconds = match (of.lag, of.unread_since) {
                (Some(0), _) => 0.0,
                // A producer's clock may be ahead of this one.
                (Some(_), Some(since)) => (snapshot.at.0 - since.0).max(0) as f64 / 1000.0,
                _ => continue,
            };
            let labels = &[
                ("consumergroup", &group.id as _),
                ("topic", &of.topic as _),
                ("partition", &of.partition as _),
            ];
            family.add(labels, seconds);
        }
    }
    let mut family =
        page.gauge("kafka_consumergroup_current_offset_sum", "Offsets of all partitions together.");
    for group in groups {
        for of in by_topic(&group.offsets) {
            let sum: i64 = of.iter().map(|of| of.offset.0).sum();
            family.add(&[("consumergroup", &group.id), ("topic", &of[0].topic)], sum);
        }
    }
    let mut family = page.gauge("kafka_consumergroup_lag_sum", "Lag of all partitions together.");
    for group in groups {
        for of in by_topic(&group.offsets) {
            let sum: u64 = of.iter().filter_map(|of| of.lag).sum();
            family.add(&[("consumergroup", &group.id), ("topic", &of[0].topic)], sum);
        }
    }
    page.gauge(
        "foretold_group_coordinators_silent",
        "Group coordinators that did not answer in time: they load, or wait for a disk. Their groups are not here.",
    )
    .add(&[], snapshot.coordinators_silent);
}

/// Offsets stand in the order of their topics.
fn by_topic(offsets: &[GroupProgress]) -> impl Iterator<Item = &[GroupProgress]> {
    offsets.chunk_by(|a, b| a.topic == b.topic)
}
