//! Runs one seed: draws the scenario, builds the world, lets it happen, gathers what the report says.

mod cluster;
mod directory;
mod node;
mod values;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::checker::Verdict;
use crate::decisions::{Decisions, Kind, Subsystem};
use crate::disk::{DiskFault, FaultCounts};
use crate::exec::{self, Event, Limits, Node, World, lock};
use crate::fault::FaultKind;
use crate::net::{NetFault, Network};
use crate::report::RunReport;
use crate::scenario::{Fixed, Name, Scenario};

/// What the clients of a run have done.
#[derive(Default)]
struct Tally {
    operations: u64,
    failed: u64,
    busy: BTreeSet<u64>,
    faults: BTreeMap<FaultKind, u64>,
    disk: FaultCounts,
}

/// Everything that the parts of a run share.
#[derive(Clone)]
pub struct Stage {
    /// The world.
    pub world: World,
    /// Its network.
    pub network: Network,
    /// What the seed has drawn.
    pub scenario: Arc<Scenario>,
    tally: Arc<Mutex<Tally>>,
}

impl Stage {
    /// Choices of one workload client.
    pub fn dice(&self, client: u32) -> Decisions {
        self.world.decisions().stream(client, Subsystem::Workload)
    }

    /// Choices of the nemesis.
    pub fn nemesis(&self) -> Decisions {
        self.world.decisions().stream(0, Subsystem::Nemesis)
    }

    /// A client operation has ended.
    pub fn done(&self, well: bool, what: u64) {
        let mut tally = lock(&self.tally);
        if well {
            tally.operations += 1;
            tally.busy.insert(self.world.elapsed().as_secs());
        } else {
            tally.failed += 1;
        }
        self.world.trace(0, Event::Operation, what << 1 | u64::from(well));
    }

    /// A fault has struck.
    pub fn struck(&self, kind: FaultKind) {
        *lock(&self.tally).faults.entry(kind).or_default() += 1;
    }

    /// Strikes of a disk that is about to go, or at the end.
    pub fn count_disk(&self, counts: FaultCounts) {
        let mut tally = lock(&self.tally);
        for fault in DiskFault::ALL {
            tally.disk.add(fault, counts.of(fault));
        }
    }

    /// Turns a broken rule into the end of the run. Whether all is well.
    pub fn judge(&self, verdict: Verdict) -> bool {
        match verdict {
            Ok(()) => true,
            Err(broken) => {
                self.world.violation(broken.rule, broken.text);
                false
            }
        }
    }

    /// Completes after about `mean`: between nothing and twice that.
    pub async fn think(&self, dice: &Decisions, mean: Duration) {
        let nanos = dice.choose(Kind::Delay, 2 * mean.as_nanos() as u64 + 1);
        self.world.sleep(Duration::from_nanos(nanos)).await;
    }

    /// Sleeps on a node's own terms.
    pub fn spawn(
        &self,
        node: Node,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.world.spawn(node, name, future);
    }
}

/// Lets happen what `decisions` say, beside what is fixed.
pub fn run(decisions: &Decisions, fixed: &Fixed, keep_trace: bool) -> RunReport {
    let scenario = Arc::new(Scenario::draw(decisions, fixed));
    let world = World::new(decisions);
    let network = Network::new(&world);
    let stage =
        Stage { world: world.clone(), network, scenario: scenario.clone(), tally: Arc::default() };
    let limits =
        Limits { time: scenario.fault_time + Duration::from_secs(600), ..Limits::default() };
    let started = cpu_seconds();
    match scenario.name {
        Name::Directory => exec::run(&world, limits, directory::play(stage.clone())),
        Name::Cluster => exec::run(&world, limits, cluster::play(stage.clone())),
        Name::Node => exec::run(&world, limits, node::play(stage.clone())),
    }
    report(&stage, decisions.seed(), cpu_seconds() - started, keep_trace)
}

fn report(stage: &Stage, seed: u64, cpu: f64, keep_trace: bool) -> RunReport {
    let tally = lock(&stage.tally);
    let trace = stage.world.trace_so_far();
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |kind: FaultKind, times: u64| {
        if times > 0 {
            *faults.entry(kind.code().to_owned()).or_default() += times;
        }
    };
    for (kind, times) in &tally.faults {
        count(*kind, *times);
    }
    for fault in DiskFault::ALL {
        count(fault.into(), tally.disk.of(fault));
    }
    let net = stage.network.counts();
    for fault in NetFault::ALL {
        count(fault.into(), net.of(fault));
    }
    let marks = stage.world.marks().into_iter().map(|(name, times)| (name.to_owned(), times));
    RunReport {
        seed,
        scenario: stage.scenario.name.text().to_owned(),
        violation: stage.world.violated().map(|violation| (violation.rule, violation.text)),
        hash: format!("{:032x}", trace.hash),
        events: trace.events,
        marks_of_trace: if keep_trace {
            trace.marks.iter().map(|hash| format!("{hash:032x}")).collect()
        } else {
            Vec::new()
        },
        simulated_seconds: stage.world.elapsed().as_secs_f64(),
        busy_seconds: tally.busy.len() as u64,
        cpu_seconds: cpu,
        operations: tally.operations,
        operations_failed: tally.failed,
        polls: stage.world.polls(),
        faults,
        marks: marks.collect(),
        drawn: stage.scenario.describe(),
    }
}

/// CPU time of this process so far, from the kernel's accounting.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
