//! Two partitions with what each replica holds, one of a page-cache topic and one of a synced one, on brokers that come, go
//! and lag. Every broker knows the metadata up to some point of their history and acts on that: one that leads no
//! more and has not heard of it goes on appending, asking and committing. The model knows who holds what, and judges
//! after every step.

mod acts;
mod judge;

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};

use super::super::AlterPartition;
use super::{Teller, numbered};
use crate::metadata::{MetadataRecord, PartitionInfo};

const BROKERS: i32 = 4;
const TOPICS: [&str; 2] = ["paged", "synced"];
const PAGED: usize = 0;
const FIRST: PartitionIndex = PartitionIndex(0);

/// A record: the term in which it was appended, and its number.
type Record = (LeaderEpoch, u32);

/// What the metadata say at one point of their history.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    partitions: [PartitionInfo; 2],
    min_isr: [usize; 2],
    registered: BTreeMap<BrokerId, BrokerEpoch>,
}

/// A broker's replica of a partition.
#[derive(Clone, Default, Debug)]
struct Log {
    records: Vec<Record>,
    durable: usize,
}

impl Log {
    /// What counts of it: of a synced topic what a power cut would leave.
    fn counted(&self, of: usize) -> &[Record] {
        if of == PAGED { &self.records } else { &self.records[..self.durable] }
    }
}

/// What a leader knows in its term.
#[derive(Clone, Default, Debug)]
struct Term {
    epoch: LeaderEpoch,
    start: usize,
    high_watermark: usize,
    /// How far followers are that have fetched, and the registration with which they did.
    followers: BTreeMap<BrokerId, (BrokerEpoch, usize)>,
    /// Whom it has asked to be in sync on top of a registration, and may be for all it knows.
    asked: Vec<(PartitionEpoch, Vec<BrokerId>)>,
}

#[derive(Clone, Debug)]
struct Process {
    is_up: bool,
    epoch: BrokerEpoch,
    /// The registration under which it ended cleanly.
    stopped: Option<BrokerEpoch>,
    directory: u128,
    /// Up to where it knows the history.
    applied: usize,
    logs: [Log; 2],
    terms: [Term; 2],
}

/// A request to change who is in sync, on its way.
#[derive(Clone, Debug)]
struct Asked {
    broker: BrokerId,
    epoch: BrokerEpoch,
    wish: AlterPartition,
}

struct Model {
    teller: Teller,
    history: Vec<Known>,
    processes: BTreeMap<BrokerId, Process>,
    asked: Vec<Asked>,
    committed: [Vec<Record>; 2],
    /// The newest term of an unclean election: what earlier leaders commit is given up.
    given_up: [LeaderEpoch; 2],
    /// Something that was reported was lost.
    is_lossy: [bool; 2],
    min_isr: [usize; 2],
    numbers: u32,
    epochs: i64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Brokers are not heard of, all that the bits name at once.
    Fence(u8),
    /// A broker is heard of and has caught up.
    Unfence(i32),
    /// A broker wants to stop; the next time it ends cleanly.
    Stop(i32),
    /// A process is killed.
    Kill(i32),
    /// A broker comes back: what ended cleanly is whole, the other has lost so many records, or only cannot tell.
    Return {
        id: i32,
        lost: usize,
        can_tell: bool,
    },
    /// It comes back with an empty directory in the place of its own.
    Replace(i32),
    /// An operator forgets a broker.
    Unregister(i32),
    /// One of those appends that lead for all they know; so do those of the others that only leaders do.
    Append(usize, usize),
    Sync(i32),
    /// A follower fetches all there is; its leader may hear of it with the next fetch only.
    Fetch {
        id: i32,
        of: usize,
        is_heard: bool,
    },
    Commit(usize, usize),
    /// A broker learns so much more of the metadata.
    Learn(i32, usize),
    /// A leader asks for an in-sync set: those that the bits name, if they have caught up.
    Ask {
        pick: usize,
        of: usize,
        bits: u8,
    },
    /// The controller hears what was asked; it may hear it again.
    Hear {
        at: usize,
        again: bool,
    },
    /// It hears of it when one of those in question has come back without what it had (I26).
    HearLate(i32),
    /// All lose power. Those that come back in this order have lost more or fewer records, and those that the bits name are ready
    /// and tell how far they reach.
    PowerCut {
        ids: Vec<i32>,
        lost: usize,
        ready: u8,
    },
    /// What an older registration of a broker wants.
    Stale(i32),
    /// A broker tells how far its logs reach.
    Tell(i32),
    Recover,
    Prefer(usize),
    Unclean(usize),
    MinIsr(usize, usize),
    DefaultMinIsr(usize),
    Move(usize, Vec<i32>),
    Stay(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0..BROKERS;
    let of = || 0..TOPICS.len();
    let pick = || prop_oneof![3 => Just(0), 1 => 1..4usize];
    let step = prop_oneof![
        2 => (1..16u8).prop_map(Step::Fence),
        12 => id().prop_map(Step::Unfence),
        2 => id().prop_map(Step::Stop),
        1 => id().prop_map(Step::Kill),
        3 => (id(), 0..4usize, any::<bool>())
            .prop_map(|(id, lost, can_tell)| Step::Return { id, lost, can_tell }),
        1 => id().prop_map(Step::Replace),
        1 => id().prop_map(Step::Unregister),
        10 => (pick(), of()).prop_map(|(pick, of)| Step::Append(pick, of)),
        6 => id().prop_map(Step::Sync),
        20 => (id(), of(), any::<bool>())
            .prop_map(|(id, of, is_heard)| Step::Fetch { id, of, is_heard }),
        14 => (pick(), of()).prop_map(|(pick, of)| Step::Commit(pick, of)),
        20 => (id(), prop_oneof![1..4usize, Just(usize::MAX)])
            .prop_map(|(id, more)| Step::Learn(id, more)),
        16 => (pick(), of(), 0..16u8).prop_map(|(pick, of, bits)| Step::Ask { pick, of, bits }),
        16 => (0..4usize, prop::bool::weighted(0.1))
            .prop_map(|(at, again)| Step::Hear { at, again }),
        2 => id().prop_map(Step::HearLate),
        1 => (prop::sample::subsequence(vec![0, 1, 2, 3], 3..=4).prop_shuffle(), 0..4usize, 0..16u8)
            .prop_map(|(ids, lost, ready)| Step::PowerCut { ids, lost, ready }),
        1 => id().prop_map(Step::Stale),
        4 => id().prop_map(Step::Tell),
        4 => Just(Step::Recover),
        1 => of().prop_map(Step::Prefer),
        1 => of().prop_map(Step::Unclean),
        2 => (of(), 1..4usize).prop_map(|(of, wanted)| Step::MinIsr(of, wanted)),
        1 => (1..4usize).prop_map(Step::DefaultMinIsr),
        2 => (of(), prop::sample::subsequence(vec![0, 1, 2, 3], 2..4).prop_shuffle())
            .prop_map(|(of, ids)| Step::Move(of, ids)),
        1 => of().prop_map(Step::Stay),
    ];
    prop::collection::vec(step, 1..120)
}

impl Model {
    /// The paged topic has a `min.insync.replicas` of its own, the other one the default.
    fn new() -> Model {
        let mut teller = Teller::new();
        for id in 0..BROKERS {
            teller.run(&format!("broker {id} epoch={}", id + 1));
        }
        teller.run("alter broker: min.insync.replicas=2");
        teller.run("create paged assign=0:0,1,2 durability=page-cache min.insync.replicas=2");
        teller.run("create synced assign=0:1,2,3");
        let process = |id| Process {
            is_up: true,
            epoch: BrokerEpoch(i64::from(id) + 1),
            stopped: None,
            directory: 1000 * id as u128 + 100,
            applied: 0,
            logs: Default::default(),
            terms: Default::default(),
        };
        let mut model = Model {
            teller,
            history: Vec::new(),
            processes: (0..BROKERS).map(|id| (BrokerId(id), process(id))).collect(),
            asked: Vec::new(),
            committed: Default::default(),
            given_up: Default::default(),
            is_lossy: Default::default(),
            min_isr: [2, 2],
            numbers: 0,
            epochs: 100,
        };
        model.history.push(model.now());
        model
    }

    fn now(&self) -> Known {
        let image = self.teller.controller.image();
        Known {
            partitions: TOPICS.map(|name| image.topic(name).unwrap().partitions[&FIRST].clone()),
            min_isr: self.min_isr,
            registered: image.brokers().map(|broker| (broker.id, broker.epoch)).collect(),
        }
    }

    fn take(&mut self, records: Vec<MetadataRecord>) {
        self.teller.take(records, false);
        let now = self.now();
        if self.history.last() != Some(&now) {
            self.history.push(now);
        }
    }

    fn topic(&self, of: usize) -> TopicId {
        self.teller.controller.image().topic(TOPICS[of]).unwrap().id
    }

    /// The registration of the process, if it is the present one.
    fn heard_of(&self, id: BrokerId) -> Option<BrokerEpoch> {
        let process = &self.processes[&id];
        let registered = self.teller.controller.image().broker(id)?.epoch;
        (process.is_up && process.epoch == registered).then_some(registered)
    }

    /// What a broker knows of a partition, and how many it thinks are wanted in sync.
    fn view(&self, id: BrokerId, of: usize) -> (PartitionInfo, usize) {
        let known = &self.history[self.processes[&id].applied];
        (known.partitions[of].clone(), known.min_isr[of])
    }

    /// What a broker knows of a partition that it leads for all it knows.
    fn led(&mut self, id: BrokerId, of: usize) -> Option<(PartitionInfo, usize)> {
        let (view, min_isr) = self.view(id, of);
        let process = self.processes.get_mut(&id).unwrap();
        if !process.is_up || view.leader != Some(id) {
            return None;
        }
        if process.terms[of].epoch != view.leader_epoch {
            let start = process.logs[of].records.len();
            let epoch = view.leader_epoch;
            process.terms[of] = Term { epoch, start, ..Term::default() };
        }
        Some((view, min_isr))
    }

    /// One of those that lead a partition for all they know, the newest first.
    fn leader(&mut self, pick: usize, of: usize) -> Option<(BrokerId, PartitionInfo, usize)> {
        let ids = (0..BROKERS).map(BrokerId);
        let leaders = ids.filter_map(|id| self.led(id, of).map(|(view, min)| (id, view, min)));
        let mut leaders: Vec<_> = leaders.collect();
        leaders.sort_by_key(|(_, view, _)| std::cmp::Reverse(view.leader_epoch));
        let at = pick.checked_rem(leaders.len())?;
        Some(leaders.swap_remove(at))
    }

    fn step(&mut self, step: &Step) {
        let before = self.now();
        let named = |bits: u8| (0..BROKERS).filter(move |id| bits >> id & 1 == 1).map(BrokerId);
        match step {
            Step::Fence(bits) => {
                let known = |id| Some((id, *before.registered.get(&id)?));
                let brokers: Vec<_> = named(*bits).filter_map(known).collect();
                self.take(self.teller.controller.fence_brokers(&brokers));
            }
            Step::Unfence(id) => {
                let id = BrokerId(*id);
                if let Some(epoch) = self.heard_of(id) {
                    self.take(self.teller.controller.unfence_broker(id, epoch).unwrap());
                }
            }
            Step::Stop(id) => self.stop(BrokerId(*id)),
            Step::Kill(id) => self.processes.get_mut(&BrokerId(*id)).unwrap().is_up = false,
            Step::Return { id, lost, can_tell } => {
                self.come_back(BrokerId(*id), *lost, *can_tell, false);
            }
            Step::Replace(id) => self.come_back(BrokerId(*id), 0, false, true),
            Step::Unregister(id) => {
                let (records, _) = self.teller.controller.unregister_broker(BrokerId(*id));
                self.take(records);
            }
            Step::Append(pick, of) => {
                if let Some((id, view, _)) = self.leader(*pick, *of) {
                    self.numbers += 1;
                    let record = (view.leader_epoch, self.numbers);
                    self.processes.get_mut(&id).unwrap().logs[*of].records.push(record);
                }
            }
            Step::Sync(id) => {
                let process = self.processes.get_mut(&BrokerId(*id)).unwrap();
                process.logs.iter_mut().for_each(|log| log.durable = log.records.len());
            }
            Step::Fetch { id, of, is_heard } => self.fetch(BrokerId(*id), *of, *is_heard),
            Step::Commit(pick, of) => self.commit(*pick, *of),
            Step::Learn(id, more) => self.learn(BrokerId(*id), *more),
            Step::Ask { pick, of, bits } => {
                self.ask(*pick, *of, &named(*bits).collect::<Vec<_>>());
            }
            Step::Hear { at, again } => self.hear(*at, *again),
            Step::Stale(id) => self.speak_late(BrokerId(*id)),
            Step::Tell(id) => self.tell(BrokerId(*id)),
            Step::Recover => self.recover(&before),
            Step::HearLate(_) | Step::PowerCut { .. } => return self.steps(step),
            Step::Prefer(of) => self.elect(*of, false),
            Step::Unclean(of) => self.elect(*of, true),
            Step::MinIsr(of, wanted) if *of == PAGED => {
                self.min_isr[PAGED] = *wanted;
                self.teller.run(&format!("alter topic:paged min.insync.replicas={wanted}"));
                self.take(Vec::new());
            }
            Step::MinIsr(_, wanted) | Step::DefaultMinIsr(wanted) => {
                self.min_isr[1 - PAGED] = *wanted;
                self.teller.run(&format!("alter broker: min.insync.replicas={wanted}"));
                self.take(Vec::new());
            }
            Step::Move(of, ids) => {
                self.reassign(*of, Some(ids.iter().copied().map(BrokerId).collect()));
            }
            Step::Stay(of) => self.reassign(*of, None),
        }
        for of in 0..TOPICS.len() {
            self.check(of, &before, step);
        }
    }

    /// What is several steps, each judged for itself.
    fn steps(&mut self, step: &Step) {
        match step {
            Step::HearLate(id) => {
                for of in 0..TOPICS.len() {
                    self.step(&Step::Fetch { id: *id, of, is_heard: true });
                    self.step(&Step::Ask { pick: 0, of, bits: u8::MAX });
                }
                self.step(&Step::Return { id: *id, lost: usize::MAX, can_tell: false });
                self.step(&Step::Unfence(*id));
                while !self.asked.is_empty() {
                    self.step(&Step::Hear { at: 0, again: false });
                }
            }
            Step::PowerCut { ids, lost, ready } => {
                (0..BROKERS).for_each(|id| self.step(&Step::Kill(id)));
                for (at, id) in ids.iter().enumerate() {
                    self.step(&Step::Return { id: *id, lost: lost * at % 4, can_tell: false });
                }
                for id in ids.iter().filter(|id| ready >> *id & 1 == 1) {
                    self.step(&Step::Unfence(*id));
                }
                for id in ids {
                    self.step(&Step::Learn(*id, usize::MAX));
                    self.step(&Step::Tell(*id));
                }
                self.step(&Step::Recover);
            }
            _ => unreachable!("{step:?} is one step"),
        }
    }
}

fn config() -> ProptestConfig {
    let sound = ProptestConfig { cases: 1000, ..ProptestConfig::default() };
    match cfg!(feature = "mutants") {
        // What a planted bug breaks is nothing to remember.
        true => ProptestConfig { failure_persistence: None, ..sound },
        false => sound,
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever brokers and operators do, who may be elected holds everything that is committed.
    #[test]
    fn who_may_be_elected_holds_what_is_committed(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.heal();
    }
}
