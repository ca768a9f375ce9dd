//! The controller, and what is asked of it.

use types::{BrokerEpoch, BrokerId, ErrorCode, PartitionIndex};

use super::{Packet, World};
use crate::controller::{
    AlterConfigs, AlterPartition, ConfigChange, ConfigOp, ElectLeaders, Recovery,
};
use crate::metadata::{MetadataRecord, Resource};
use crate::replica::ProposalAnswer;

impl World {
    pub(super) fn commit(&mut self, records: Vec<MetadataRecord>) {
        if records.is_empty() {
            return;
        }
        let before = self.controller.image().partition(self.topic, PartitionIndex(0)).cloned();
        self.controller.apply(&records).expect("the controller's own records make sense");
        self.metadata.push(records);
        let after = self.controller.image().partition(self.topic, PartitionIndex(0)).cloned();
        if let (Some(before), Some(after)) = (before, after)
            && before.leader_epoch != after.leader_epoch
            && after.is_recovering
            && let Some(leader) = after.leader
        {
            let disk = &self.nodes[leader.0 as usize].disk;
            self.judge.on_unclean_election(after.leader_epoch, disk);
        }
    }

    pub(in super::super) fn fence(&mut self, number: usize) {
        let registered = self.registered(number);
        self.commit(self.controller.fence_brokers(registered.as_slice()));
    }

    pub(in super::super) fn unfence(&mut self, number: usize) {
        if let Some((id, epoch)) = self.registered(number).filter(|_| self.nodes[number].is_up) {
            let records = self.controller.unfence_broker(id, epoch);
            self.commit(records.expect("that is its registration"));
        }
    }

    fn registered(&self, number: usize) -> Option<(BrokerId, BrokerEpoch)> {
        let id = BrokerId(number as i32);
        self.controller.image().broker(id).map(|known| (id, known.epoch))
    }

    pub(in super::super) fn set_min_isr(&mut self, wanted: usize) {
        let change = ConfigChange {
            name: "min.insync.replicas".into(),
            op: ConfigOp::Set,
            value: Some(wanted.to_string().into()),
        };
        let asked = AlterConfigs { resource: Resource::topic("t"), changes: vec![change] };
        self.commit(self.controller.incremental_alter_configs(&[asked], false).0);
    }

    pub(in super::super) fn elect(&mut self, is_unclean: bool) {
        let asked = ElectLeaders { topic: "t".into(), index: PartitionIndex(0) };
        self.commit(self.controller.elect_leaders(&[asked], is_unclean, &Recovery::default()).0);
    }

    /// Another controller leads: what is on its way to the one before is lost.
    pub(in super::super) fn move_controller(&mut self) {
        self.wire.retain(|packet| !matches!(packet, Packet::Alter { .. }));
        self.sends.clear();
    }

    pub(super) fn on_alter(
        &mut self,
        from: usize,
        epoch: BrokerEpoch,
        send: u64,
        wish: AlterPartition,
    ) {
        let last = self.sends.entry((BrokerId(from as i32), epoch)).or_default();
        if send <= *last {
            return;
        }
        *last = send;
        let joiners: Vec<BrokerId> = {
            let isr = &self.partition().isr;
            wish.isr.iter().map(|(id, _)| *id).filter(|id| !isr.contains(id)).collect()
        };
        let leader = BrokerId(from as i32);
        let (records, answer) = self.controller.alter_partitions(leader, epoch, &[wish]);
        let answer = answer.and_then(|answers| answers[0].clone());
        let answer = match answer {
            Ok(partition) => ProposalAnswer::Accepted(partition.epoch),
            Err(refusal) if refusal.code == ErrorCode::NotController => ProposalAnswer::Unknown,
            Err(refusal) => ProposalAnswer::Refused(refusal.code),
        };
        self.commit(records);
        if let ProposalAnswer::Accepted(_) = answer {
            self.judge.on_joined(&joiners, &self.nodes, self.rule, &self.nodes[from]);
        }
        let life = self.nodes[from].life;
        self.wire.push(Packet::Altered { to: from, life, send, answer });
    }
}
