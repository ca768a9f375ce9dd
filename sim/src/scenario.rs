//! What a seed draws before its run starts: which faults, how often, which settings.
//!
//! Swarm: each kind of fault is on in some seeds and off in others, so that runs differ in kind and not only in detail.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decisions::{Decisions, Kind, Subsystem, Tape};
use crate::disk::{FaultRates, Latency};
use crate::fault::FaultKind;
use crate::net::NetRates;

/// Which world a seed runs in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// One log directory without a network.
    Directory,
    /// One node and its clients.
    Node,
    /// Several nodes that decide together.
    Cluster,
}

impl Name {
    /// Every scenario.
    pub const ALL: [Name; 3] = [Name::Directory, Name::Node, Name::Cluster];

    /// Its name on the command line.
    pub const fn text(self) -> &'static str {
        match self {
            Name::Directory => "directory",
            Name::Node => "node",
            Name::Cluster => "cluster",
        }
    }

    /// What it does.
    pub const fn about(self) -> &'static str {
        match self {
            Name::Directory => {
                "a log directory: appends, reads, truncation, retention, deletion under disk faults, crashes, power cuts"
            }
            Name::Node => {
                "a whole node and its clients: producers, groups, readers, topics coming and going, under every fault"
            }
            Name::Cluster => {
                "several nodes with one metadata quorum, and administrators that ask any of them"
            }
        }
    }

    /// The scenario of that name.
    pub fn parse(text: &str) -> Option<Name> {
        Name::ALL.into_iter().find(|name| name.text() == text)
    }
}

/// Log directories that a node may have.
pub const LOG_DIRS_MAX: u32 = 3;
/// The fewest and the most nodes that a cluster may have.
pub const NODES: (u32, u32) = (3, 7);
/// Nodes of a cluster of both kinds.
const MACHINES_MAX: u32 = 8;
/// As many are drawn at most.
const DRAWN_NODES_MAX: u32 = 5;

/// What a seed has drawn.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Which world.
    pub name: Name,
    /// Settings and time-outs as in production instead of small ones.
    pub production: bool,
    /// The kinds of fault that may strike.
    pub faults: BTreeSet<FaultKind>,
    /// Faults strike for this long, then all is quiet.
    pub fault_time: Duration,
    /// Rates of disk faults.
    pub disk: FaultRates,
    /// Latency of the disk.
    pub disk_latency: Latency,
    /// Network while faults strike.
    pub net: NetRates,
    /// Mean time between two blows to a process (kill, power cut, pause).
    pub blow_mean: Duration,
    /// In a thousand blows of death, how many cut the power.
    pub power_cuts: u64,
    /// Segment size of logs.
    pub segment_bytes: u32,
    /// Size of a journal file and bound of the journal.
    pub journal_bytes: (u64, u64),
    /// Largest value of a record.
    pub value_bytes_max: u64,
    /// In a thousand logs, how many are `page-cache`.
    pub page_cache: u64,
    /// Mean pause between two operations of one client.
    pub think: Duration,
    /// Offsets of a group without members expire within the run, and then the group is forgotten.
    pub offsets_expire: bool,
    /// How often the coordinator looks for such offsets.
    pub offsets_check: Duration,
    /// Log directories of the node, each on a device of its own.
    pub log_dirs: u32,
    /// Nodes of a cluster.
    pub nodes: u32,
    /// In a cluster, bits of one node rot, in what all replicas hold.
    pub one_rots: bool,
    /// Bytes of the metadata log between two snapshots.
    pub metadata_snapshot_bytes: u64,
    /// In a cluster, nodes that decide and hold no partitions, beside those that hold them and then do not decide; 0: all do
    /// both.
    pub controllers: u32,
    /// How a cluster begins. Unless its configuration names all who decide, some leave and come back.
    pub beginning: Beginning,
    /// In a cluster, partitions are moved between nodes.
    pub moves: bool,
    /// In a cluster, a broker comes back with an empty disk in the place of the one that held its partitions.
    pub disks_replaced: bool,
    /// In a cluster, partitions move by themselves (`auto.balance`).
    pub balances: bool,
    /// In a cluster, nodes and readers stand in racks, and readers are sent to replicas in theirs.
    pub reads_nearby: bool,
    /// In a cluster, a topic with `durability=page-cache` beside the others, and its `min.insync.replicas`.
    pub paged_topic: Option<u32>,
}

/// Who decides when a cluster begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Whom every node's configuration names.
    Configured,
    /// The first, which its own configuration names; the others join.
    Joining,
    /// The first, which was formatted so; the others join.
    Standalone,
    /// All, who were formatted so.
    Together,
}

/// What is fixed beforehand instead of drawn; everything that is absent is drawn.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixed {
    /// Which world.
    pub scenario: Option<Name>,
    /// The kinds of fault that may strike, by their codes.
    pub faults: Option<BTreeSet<FaultKind>>,
    /// Faults strike for so many seconds.
    pub fault_seconds: Option<u64>,
    /// Settings and time-outs as in production.
    pub production: Option<bool>,
    /// Mean milliseconds between two blows to a process.
    pub blow_mean_ms: Option<u64>,
    /// In a thousand blows of death, how many cut the power.
    pub power_cuts: Option<u64>,
    /// Segment size of logs.
    pub segment_bytes: Option<u32>,
    /// Largest value of a record.
    pub value_bytes_max: Option<u64>,
    /// In a thousand logs, how many are `page-cache`.
    pub page_cache: Option<u64>,
    /// Mean milliseconds between two operations of one client.
    pub think_ms: Option<u64>,
    /// Log directories of the node.
    pub log_dirs: Option<u32>,
    /// Nodes of a cluster that hold partitions.
    pub nodes: Option<u32>,
    /// Nodes of a cluster that decide, apart from those; 0: all do both.
    pub controllers: Option<u32>,
}

impl Fixed {
    /// Refuses what no run can have; the error says what is possible.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, fixed: Option<u32>, least: u32, most: u32| match fixed {
            Some(count) if !(least..=most).contains(&count) => {
                Err(format!("{name} is {count}, and may be {least} to {most}"))
            }
            _ => Ok(()),
        };
        within("log_dirs", self.log_dirs, 1, LOG_DIRS_MAX)?;
        within("nodes", self.nodes, NODES.0, NODES.1)?;
        let most = MACHINES_MAX - self.nodes.unwrap_or(DRAWN_NODES_MAX);
        within("controllers", self.controllers, 0, most)
    }
}

/// What is fixed, or else what was drawn: it is drawn in any case, so that the draws after it are the same.
fn or<T>(fixed: Option<T>, drawn: T) -> T {
    fixed.unwrap_or(drawn)
}

/// A run that is kept: what was fixed, and what was chosen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// What was not drawn.
    pub fixed: Fixed,
    /// What was.
    pub tape: Tape,
}

/// First bytes of a recording.
const MAGIC: &[u8] = b"foretold tape 2\n";

impl Recording {
    /// As bytes: a line that says what it is, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        let values = postcard::to_stdvec(self).expect("a recording holds only plain values");
        [MAGIC, &values].concat()
    }

    /// Reads what [`Recording::encode`] wrote; `None` if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Recording> {
        let read: Recording = postcard::from_bytes(bytes.strip_prefix(MAGIC)?).ok()?;
        read.fixed.check().is_ok().then_some(read)
    }
}

impl Scenario {
    /// What `seed` draws beside what is fixed.
    pub fn draw(decisions: &Decisions, fixed: &Fixed) -> Scenario {
        let dice = decisions.stream(0, Subsystem::Scenario);
        let pick = |n: u64| dice.choose(Kind::Scenario, n);
        let drawn = match pick(5) {
            0 => Name::Directory,
            1 => Name::Cluster,
            _ => Name::Node,
        };
        let name = or(fixed.scenario, drawn);
        let production = or(fixed.production, pick(10) == 9);
        let gentle = pick(20) == 0;
        let mut faults = BTreeSet::new();
        for kind in FaultKind::ALL {
            // The last three need more than one node or version.
            let possible =
                !matches!(kind, FaultKind::Wipe | FaultKind::DuplicateId | FaultKind::VersionMix);
            if pick(2) == 1 && possible && !gentle {
                faults.insert(*kind);
            }
        }
        // One copy of the data: rot and lost writes are beyond the promise, the other faults are within.
        let beyond = pick(20) == 0;
        if !beyond {
            faults.remove(&FaultKind::BitRot);
            faults.remove(&FaultKind::LostWrite);
        }
        if let Some(fixed) = &fixed.faults {
            faults.clone_from(fixed);
        }
        let rate = |kind: FaultKind, max: u64| {
            let drawn = pick(max) as u32 + 1;
            if faults.contains(&kind) { drawn } else { 0 }
        };
        let disk = FaultRates {
            slow: rate(FaultKind::SlowDisk, 20_000),
            hanging_sync: rate(FaultKind::HangingSync, 500),
            hang: Some(Duration::from_secs(2 + pick(20))),
            error_read: rate(FaultKind::ErrorOnce, 2_000),
            error_write: rate(FaultKind::ErrorOnce, 500),
            error_sticky: rate(FaultKind::ErrorSticky, 100),
            failed_sync: rate(FaultKind::FailedSync, 2_000),
            rot_read: rate(FaultKind::BitRot, 1_000),
            lost_write: rate(FaultKind::LostWrite, 200),
            misdirected_write: rate(FaultKind::LostWrite, 100),
        };
        let millis =
            |low: u64, high: u64| Duration::from_millis(dice.between(Kind::Scenario, low, high));
        let micros =
            |low: u64, high: u64| Duration::from_micros(dice.between(Kind::Scenario, low, high));
        let disk_latency = Latency { io: micros(5, 100), sync: micros(200, 8_000) };
        let net = NetRates {
            latency: micros(100, 5_000),
            loss: rate(FaultKind::Loss, 20_000),
            retransmit: millis(50, 400),
            delay: rate(FaultKind::Delay, 10_000),
            delay_max: millis(50, 3_000),
            reset: rate(FaultKind::Reset, 1_000),
            connect_timeout: rate(FaultKind::ConnectTimeout, 100_000),
            bandwidth: (rate(FaultKind::SlowLink, 1) > 0).then(|| 20_000 << pick(8)),
            late: rate(FaultKind::LateBytes, 500_000),
            late_max: millis(100, 10_000),
            segment_bytes: [16 * 1024, 1460, 100][pick(3) as usize],
            window_bytes: [256 * 1024, 64 * 1024, 2 * 1024][pick(3) as usize],
            connect_after: millis(1_000, 10_000),
            give_up_after: millis(3_000, 30_000),
        };
        let tiny = |small: u64, large: u64| if production { large } else { small };
        Scenario {
            name,
            production,
            fault_time: Duration::from_secs(or(
                fixed.fault_seconds,
                dice.between(Kind::Scenario, 25, 50),
            )),
            disk,
            disk_latency,
            net,
            blow_mean: or(fixed.blow_mean_ms.map(Duration::from_millis), millis(1_000, 12_000)),
            power_cuts: or(fixed.power_cuts, pick(1001)),
            segment_bytes: or(fixed.segment_bytes, tiny(1 << (10 + pick(8)), 1 << 30) as u32),
            journal_bytes: (tiny(16_384 << pick(4), 32 << 20), tiny(131_072 << pick(4), 256 << 20)),
            value_bytes_max: or(fixed.value_bytes_max, [40, 400, 4_000, 20_000][pick(4) as usize]),
            page_cache: or(fixed.page_cache, [0, 300, 1000][pick(3) as usize]),
            think: or(fixed.think_ms.map(Duration::from_millis), millis(5, 100)),
            // Drawn last: what comes before is the same for a seed whether this is drawn or not.
            offsets_expire: pick(3) == 0 && !production,
            offsets_check: millis(100, 3_000),
            log_dirs: or(fixed.log_dirs, [1, 1, 2, 3][pick(4) as usize]),
            nodes: or(fixed.nodes, [3, 3, 3, 5][pick(4) as usize]),
            one_rots: pick(2) == 0 && name == Name::Cluster,
            metadata_snapshot_bytes: tiny([1_000, 10_000, 20 << 20][pick(3) as usize], 20 << 20),
            controllers: or(fixed.controllers, [0, 0, 1, 3][pick(4) as usize]),
            beginning: [
                Beginning::Configured,
                Beginning::Configured,
                Beginning::Configured,
                Beginning::Joining,
                Beginning::Standalone,
                Beginning::Together,
            ][pick(6) as usize],
            moves: pick(2) == 0,
            disks_replaced: pick(3) == 0 && name == Name::Cluster,
            balances: pick(2) == 0 && name == Name::Cluster,
            reads_nearby: pick(2) == 0 && name == Name::Cluster,
            paged_topic: [None, None, Some(1), Some(2)][pick(4) as usize]
                .filter(|_| name == Name::Cluster),
            faults,
        }
    }

    /// Whether a kind of fault may strike.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    /// Whether faults go beyond what one copy of the data can promise.
    pub fn is_beyond_promise(&self) -> bool {
        self.has(FaultKind::BitRot) || self.has(FaultKind::LostWrite)
    }

    /// The network once all is quiet.
    pub fn quiet_net(&self) -> NetRates {
        NetRates {
            latency: self.net.latency,
            segment_bytes: self.net.segment_bytes,
            window_bytes: self.net.window_bytes,
            connect_after: self.net.connect_after,
            give_up_after: self.net.give_up_after,
            ..NetRates::default()
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let codes: Vec<_> = self.faults.iter().map(|kind| kind.code()).collect();
        format!(
            "{}{} for {:?}, blows every {:?} ({} in 1000 deaths cut the power), segments of {}, journal {} of {}, \
             values to {}, page-cache {} in 1000, {}{}{}{}{}{}{}{}{}{}faults {}",
            self.name.text(),
            if self.production { " with production settings" } else { "" },
            self.fault_time,
            self.blow_mean,
            self.power_cuts,
            self.segment_bytes,
            self.journal_bytes.1,
            self.journal_bytes.0,
            self.value_bytes_max,
            self.page_cache,
            if self.offsets_expire { "offsets expire, " } else { "" },
            if self.one_rots { "one node rots, " } else { "" },
            match self.log_dirs {
                1 => String::new(),
                count => format!("{count} log directories, "),
            },
            match self.controllers {
                0 => String::new(),
                count => format!("{count} nodes that only decide, "),
            },
            match self.beginning {
                Beginning::Configured => "",
                Beginning::Joining => "voters join one that names itself, ",
                Beginning::Standalone => "voters join the first one, ",
                Beginning::Together => "the first voters are written down, ",
            },
            if self.moves { "partitions move, " } else { "" },
            if self.disks_replaced { "disks are replaced, " } else { "" },
            if self.balances { "brokers are balanced, " } else { "" },
            if self.reads_nearby { "readers are sent nearby, " } else { "" },
            match self.paged_topic {
                None => String::new(),
                Some(min_isr) =>
                    format!("a topic is not synced, with {min_isr} in sync at least, "),
            },
            codes.join(" "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_decodes_as_it_was() {
        let decisions = Decisions::recording(7);
        let fixed = Fixed { page_cache: Some(300), ..Fixed::default() };
        let scenario = Scenario::draw(&decisions, &fixed);
        let bytes = Recording { fixed, tape: decisions.tape() }.encode();
        let read = Recording::decode(&bytes).expect("a recording");
        let again = Scenario::draw(&Decisions::replaying(read.tape), &read.fixed);
        assert_eq!(again.describe(), scenario.describe());
        assert!(Recording::decode(b"something else").is_none());
    }

    #[test]
    fn what_is_fixed_is_not_drawn_and_shifts_nothing() {
        let free = Scenario::draw(&Decisions::new(7), &Fixed::default());
        let text = r#"{"scenario": "directory", "faults": ["K1", "D7"], "page_cache": 1000}"#;
        let fixed: Fixed = serde_json::from_str(text).expect("a configuration");
        let scenario = Scenario::draw(&Decisions::new(7), &fixed);
        assert_eq!(scenario.name, Name::Directory);
        assert_eq!(scenario.faults, BTreeSet::from([FaultKind::Crash, FaultKind::PowerCut]));
        assert_eq!(scenario.disk.error_read, 0, "a kind that is off has no rate");
        assert_eq!(scenario.page_cache, 1000);
        assert_eq!((scenario.blow_mean, scenario.think), (free.blow_mean, free.think));
        assert!(serde_json::from_str::<Fixed>(r#"{"fualts": []}"#).is_err());
        let nodes = |count| Fixed { nodes: Some(count), ..Fixed::default() }.check();
        assert!(nodes(2).is_err() && nodes(8).is_err());
        assert_eq!(nodes(7), Ok(()));
        let directories = |count| Fixed { log_dirs: Some(count), ..Fixed::default() }.check();
        assert!(directories(0).is_err() && directories(4).is_err());
        assert_eq!(directories(3), Ok(()));
        assert!(serde_json::from_str::<Fixed>(r#"{"faults": ["X9"]}"#).is_err());
    }
}
