//! Which brokers hold a new partition.

use std::collections::{BTreeMap, BTreeSet};

use types::encoding::Str;
use types::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, PartitionEpoch, Uuid};

use super::{Controller, Refusal};
use crate::metadata::{BrokerInfo, PartitionInfo};

impl Controller {
    /// Replicas for `count` new partitions, the first of which is number `first` of its topic: brokers in turn, racks in
    /// turn before a rack repeats, leaders spread evenly. Fenced brokers hold replicas but come last.
    pub(super) fn place(
        &self,
        first: i32,
        count: i32,
        replication_factor: i16,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let invalid = |why: String| {
            let message =
                format!("Unable to replicate the partition {replication_factor} time(s): {why}");
            Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message))
        };
        let takes_new = |broker: &&BrokerInfo| !broker.is_stopping && !self.is_cordoned(broker);
        let brokers: Vec<_> = self.image.brokers().filter(takes_new).collect();
        if brokers.is_empty() || brokers.iter().all(|broker| broker.is_fenced) {
            return invalid("All brokers are currently fenced.".to_owned());
        }
        let factor = replication_factor.max(0) as usize;
        if factor > brokers.len() {
            return invalid(format!(
                "The target replication factor of {factor} cannot be reached because only {} \
                 broker(s) are registered or some brokers have all their log directories cordoned.",
                brokers.len()
            ));
        }
        let mut racks: BTreeMap<Option<&Str>, Vec<BrokerId>> = BTreeMap::new();
        for broker in brokers.iter().filter(|broker| !broker.is_fenced) {
            racks.entry(broker.rack.as_ref()).or_default().push(broker.id);
        }
        let fenced = brokers.iter().filter(|broker| broker.is_fenced).map(|broker| broker.id);
        let ring = interleave(racks.into_values().collect());
        let fenced: Vec<BrokerId> = fenced.collect();
        // Topics begin at different brokers, so that small topics do not all lead on the first.
        let start = self.image.partitions_count() + first.max(0) as usize;
        Ok((0..count.max(0) as usize)
            .map(|index| {
                let turned = (0..ring.len()).map(|step| ring[(start + index + step) % ring.len()]);
                turned.chain(fenced.iter().copied()).take(factor).collect()
            })
            .collect())
    }

    /// Refuses an assignment by hand that cannot be. `factor` is the number of replicas of the partitions before it.
    pub(super) fn check_assignment(
        &self,
        replicas: &[BrokerId],
        factor: Option<usize>,
    ) -> Result<(), Refusal> {
        let invalid =
            |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        if replicas.is_empty() {
            return invalid(
                "The manual partition assignment includes an empty replica list.".to_owned(),
            );
        }
        let mut sorted = replicas.to_vec();
        sorted.sort();
        if let Some(id) = sorted.iter().find(|id| self.image.broker(**id).is_none()) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is \
                 registered."
            ));
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return invalid(format!(
                "The manual partition assignment includes the broker {} more than once.",
                pair[0]
            ));
        }
        match factor {
            Some(factor) if factor != replicas.len() => invalid(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this \
                 is not consistent with previous partitions, which have {factor} replica(s).",
                replicas.len()
            )),
            _ => Ok(()),
        }
    }

    /// The registration of a new partition. Replicas on fenced brokers are not in sync.
    pub(super) fn new_partition(
        &self,
        replicas: Vec<BrokerId>,
        index: i32,
    ) -> Result<PartitionInfo, Refusal> {
        let is_ready = |id: &&BrokerId| {
            self.image.broker(**id).is_some_and(|broker| !broker.is_fenced && !broker.is_stopping)
        };
        let isr: Vec<BrokerId> = replicas.iter().filter(is_ready).copied().collect();
        if isr.is_empty() {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "All brokers specified in the manual partition assignment for partition {index} \
                     are fenced or in controlled shutdown."
                ),
            ));
        }
        Ok(PartitionInfo {
            directories: replicas.iter().map(|id| self.directory_of(*id, index)).collect(),
            leader: isr.first().copied(),
            replicas,
            isr,
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            is_recovering: false,
            leader_epoch: LeaderEpoch(0),
            epoch: PartitionEpoch(0),
        })
    }

    /// The directory of a broker with the fewest replicas, one more from now on. `held` is how many each has, counted when it is
    /// empty.
    pub(super) fn emptiest_directory(
        &self,
        id: BrokerId,
        held: &mut BTreeMap<DirectoryId, usize>,
    ) -> DirectoryId {
        if held.is_empty() {
            for (_, _, partition) in self.image.partitions() {
                for directory in &partition.directories {
                    *held.entry(*directory).or_default() += 1;
                }
            }
        }
        let broker = self.image.broker(id);
        let open = broker.map(|broker| self.open_directories(broker).collect::<Vec<_>>());
        let all = || broker.map(|broker| broker.directories.clone());
        let known = open.filter(|open| !open.is_empty()).or_else(all).unwrap_or_default();
        let count = |id: &DirectoryId| held.get(id).copied().unwrap_or_default();
        let chosen = known.into_iter().min_by_key(count).unwrap_or(DirectoryId(Uuid::ZERO));
        *held.entry(chosen).or_default() += 1;
        chosen
    }

    /// The directory of a broker that is to hold partition `index` anew: one after the other. It is part of the
    /// registration so that a directory that is missing later is not taken for one that never held anything.
    pub(super) fn directory_of(&self, id: BrokerId, index: i32) -> DirectoryId {
        let broker = self.image.broker(id);
        let open = || broker.map(|broker| self.open_directories(broker).collect::<Vec<_>>());
        // An operator's word counts for more than a cordon.
        let all = || broker.map(|broker| broker.directories.clone());
        let directories = open().filter(|open| !open.is_empty()).or_else(all).unwrap_or_default();
        let turn = self.image.topics_count() + index.max(0) as usize;
        let chosen = turn.checked_rem(directories.len()).map(|at| directories[at]);
        chosen.unwrap_or(DirectoryId(Uuid::ZERO))
    }
}

/// One broker of each rack in turn.
fn interleave(racks: Vec<Vec<BrokerId>>) -> Vec<BrokerId> {
    let longest = racks.iter().map(Vec::len).max().unwrap_or(0);
    let mut ring = Vec::new();
    for round in 0..longest {
        ring.extend(racks.iter().filter_map(|rack| rack.get(round)));
    }
    debug_assert!(ring.iter().collect::<BTreeSet<_>>().len() == ring.len());
    ring
}
