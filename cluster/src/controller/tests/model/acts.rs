//! What brokers, controller and operators do in the model. A broker acts on what it knows.

use types::{BrokerEpoch, BrokerId, DirectoryId, Offset};

use super::judge::common;
use super::{Asked, FIRST, Log, Model, PAGED, TOPICS, numbered};
use crate::controller::tests::Teller;
use crate::controller::{
    AlterPartition, AssignReplica, ElectLeaders, LogEndAnswer, Reassign, RegisterBroker, supported,
};

impl Model {
    /// The first time a broker says that it wants to stop; then it does.
    pub(super) fn stop(&mut self, id: BrokerId) {
        let Some(epoch) = self.heard_of(id) else { return };
        if !self.teller.controller.image().broker(id).unwrap().is_stopping {
            return self.take(self.teller.controller.stop_broker(id, epoch).unwrap());
        }
        let process = self.processes.get_mut(&id).unwrap();
        process.is_up = false;
        process.stopped = Some(epoch);
        process.logs.iter_mut().for_each(|log| log.durable = log.records.len());
        self.take(self.teller.controller.fence_brokers(&[(id, epoch)]));
    }

    /// An older registration changes nothing (I35).
    pub(super) fn speak_late(&mut self, id: BrokerId) {
        let controller = &self.teller.controller;
        let Some(broker) = controller.image().broker(id) else { return };
        let older = BrokerEpoch(broker.epoch.0 - 1);
        assert!(controller.fence_brokers(&[(id, older)]).is_empty(), "I35");
        assert!(controller.unfence_broker(id, older).is_err(), "I35");
        assert!(controller.stop_broker(id, older).is_err(), "I35");
        assert!(controller.give_up_directories(id, older, &broker.directories).is_err(), "I35");
        assert!(controller.assign_replicas(id, older, &[]).1.is_err(), "I35");
        assert!(controller.alter_partitions(id, older, &[]).1.is_err(), "I35");
        let Teller { controller, recovery, .. } = &mut self.teller;
        assert!(recovery.on_answers(controller, id, older, &[]).is_err(), "I35");
    }

    /// A broker registers again: as a new process, which knows all of the metadata before it does anything.
    pub(super) fn come_back(
        &mut self,
        id: BrokerId,
        lost: usize,
        can_tell: bool,
        is_replaced: bool,
    ) {
        self.epochs += 1;
        let epoch = BrokerEpoch(self.epochs);
        let process = self.processes.get_mut(&id).unwrap();
        let was_clean = !process.is_up && process.stopped == Some(process.epoch) && !is_replaced;
        let may_have_lost = !was_clean && (lost > 0 || !can_tell);
        for (of, log) in process.logs.iter_mut().enumerate() {
            let kept = match (is_replaced, of == PAGED) {
                (true, _) => 0,
                (false, true) => log.records.len().saturating_sub(lost),
                (false, false) => log.durable.max(log.records.len().saturating_sub(lost)),
            };
            if !was_clean {
                self.is_lossy[of] |= is_replaced || may_have_lost && of == PAGED;
                log.records.truncate(kept);
                log.durable = kept;
            }
        }
        process.directory += u128::from(is_replaced);
        let directory = DirectoryId(numbered(process.directory));
        let stopped_epoch = process.stopped.take().filter(|_| was_clean);
        (process.is_up, process.epoch, process.terms) = (true, epoch, Default::default());
        let request = RegisterBroker {
            id,
            incarnation: numbered(self.epochs as u128),
            listeners: Vec::new(),
            rack: None,
            features: supported(),
            directories: vec![directory],
            stopped_epoch,
            may_have_lost_unsynced: may_have_lost,
            is_fenced: true,
        };
        let (records, answer) = self.teller.controller.register_broker(&request, epoch);
        answer.unwrap();
        self.take(records);
        if is_replaced {
            self.find_homes(id);
        }
        self.learn(id, usize::MAX);
    }

    /// A broker says where replicas lie from now on that lie where it has nothing.
    pub(super) fn find_homes(&mut self, id: BrokerId) {
        let (epoch, directory) = (self.processes[&id].epoch, self.processes[&id].directory);
        let directory = DirectoryId(numbered(directory));
        let lies_elsewhere = |of: &usize| {
            let known = self.teller.controller.image().partition(self.topic(*of), FIRST);
            known.and_then(|known| known.directory_of(id)).is_some_and(|home| home != directory)
        };
        let places = [0, 1].into_iter().filter(lies_elsewhere).map(|of| AssignReplica {
            topic: self.topic(of),
            index: FIRST,
            directory,
        });
        let places: Vec<AssignReplica> = places.collect();
        let (records, answer) = self.teller.controller.assign_replicas(id, epoch, &places);
        answer.unwrap();
        self.take(records);
    }

    pub(super) fn fetch(&mut self, id: BrokerId, of: usize, is_heard: bool) {
        let (view, _) = self.view(id, of);
        let Some(leader) = view.leader.filter(|leader| *leader != id) else { return };
        let Some((led, _)) = self.led(leader, of) else { return };
        let is_replica = led.replicas.contains(&id) && view.replicas.contains(&id);
        if !self.processes[&id].is_up || led.leader_epoch != view.leader_epoch || !is_replica {
            return;
        }
        let source = self.processes[&leader].logs[of].records.clone();
        let process = self.processes.get_mut(&id).unwrap();
        let log = &mut process.logs[of];
        let common = common(&log.records, &source);
        log.records = source;
        log.durable = log.durable.min(common);
        let end = match of == PAGED {
            true if is_heard => log.records.len(),
            true => common,
            false => log.durable,
        };
        let epoch = process.epoch;
        self.processes.get_mut(&leader).unwrap().terms[of].followers.insert(id, (epoch, end));
    }

    /// A leader commits what all hold that are in sync, or may be for all it knows, if they are enough (I21).
    pub(super) fn commit(&mut self, pick: usize, of: usize) {
        let Some((id, view, min_isr)) = self.leader(pick, of) else { return };
        if view.isr.len() < min_isr.min(view.replicas.len()) {
            return;
        }
        let process = self.processes.get_mut(&id).unwrap();
        let (log, term) = (&process.logs[of], &mut process.terms[of]);
        let own = log.counted(of).len();
        let pending = term.asked.iter().filter(|(epoch, _)| *epoch == view.epoch);
        let members = view.isr.iter().chain(pending.flat_map(|(_, isr)| isr));
        let ends = members.map(|member| match *member == id {
            true => own,
            false => term.followers.get(member).map_or(0, |(_, end)| *end),
        });
        term.high_watermark = term.high_watermark.max(ends.min().unwrap());
        let told = &log.records[..term.high_watermark];
        if view.leader_epoch < self.given_up[of] {
            return;
        }
        let known = common(told, &self.committed[of]);
        assert!(
            known == told.len() || known == self.committed[of].len(),
            "I18: {id} commits {told:?} of {} in term {}, after {:?}",
            TOPICS[of],
            view.leader_epoch,
            self.committed[of]
        );
        if told.len() > known {
            self.committed[of] = told.to_vec();
        }
    }

    pub(super) fn learn(&mut self, id: BrokerId, more: usize) {
        let newest = self.history.len() - 1;
        let process = self.processes.get_mut(&id).unwrap();
        if !process.is_up {
            return;
        }
        process.applied = process.applied.saturating_add(more).min(newest);
        for of in 0..TOPICS.len() {
            if !self.history[process.applied].partitions[of].replicas.contains(&id) {
                process.logs[of] = Log::default();
            }
        }
    }

    /// A leader takes in who has all that is committed (I26), and lets go of whom it likes.
    pub(super) fn ask(&mut self, pick: usize, of: usize, named: &[BrokerId]) {
        let Some((id, view, _)) = self.leader(pick, of) else { return };
        let topic = self.topic(of);
        let process = &self.processes[&id];
        let known = &self.history[process.applied];
        let term = &process.terms[of];
        let member = |member: &BrokerId| {
            if *member == id {
                return Some((id, process.epoch));
            }
            let fetched = term.followers.get(member).copied();
            let has_all =
                |(_, end): &(BrokerEpoch, usize)| *end >= term.high_watermark.max(term.start);
            let stays = view.isr.contains(member).then(|| known.registered.get(member)).flatten();
            let epoch = fetched.filter(has_all).map(|(epoch, _)| epoch).or(stays.copied())?;
            named.contains(member).then_some((*member, epoch))
        };
        let isr: Vec<_> = view.replicas.iter().filter_map(member).collect();
        let ids = isr.iter().map(|(id, _)| *id).collect();
        let wish = AlterPartition {
            topic,
            index: FIRST,
            leader_epoch: view.leader_epoch,
            epoch: view.epoch,
            isr,
            is_recovering: false,
        };
        self.asked.push(Asked { broker: id, epoch: process.epoch, wish });
        let process = self.processes.get_mut(&id).unwrap();
        process.terms[of].asked.push((view.epoch, ids));
    }

    pub(super) fn hear(&mut self, at: usize, again: bool) {
        if self.asked.is_empty() {
            return;
        }
        let at = at % self.asked.len();
        let Asked { broker, epoch, wish } =
            if again { self.asked[at].clone() } else { self.asked.remove(at) };
        let (records, _) = self.teller.controller.alter_partitions(broker, epoch, &[wish]);
        self.take(records);
    }

    pub(super) fn tell(&mut self, id: BrokerId) {
        let Some(epoch) = self.heard_of(id) else { return };
        let mut answers = Vec::new();
        for question in self.teller.recovery.questions(&self.teller.controller, id) {
            let of = usize::from(question.topic == self.topic(1));
            // Who has not heard of the term has nothing to say yet.
            if self.view(id, of).0.leader_epoch != question.leader_epoch {
                continue;
            }
            let records = &self.processes[&id].logs[of].records;
            answers.push(LogEndAnswer {
                topic: question.topic,
                index: question.index,
                leader_epoch: question.leader_epoch,
                last_epoch: records.last().map(|(epoch, _)| *epoch),
                log_end: Offset(records.len() as i64),
                high_watermark: Offset::ZERO,
            });
        }
        let Teller { controller, recovery, .. } = &mut self.teller;
        recovery.on_answers(controller, id, epoch, &answers).unwrap();
    }

    pub(super) fn elect(&mut self, of: usize, is_unclean: bool) {
        let before = self.now().partitions[of].clone();
        let asked = [ElectLeaders { topic: TOPICS[of].into(), index: FIRST }];
        let Teller { controller, recovery, .. } = &self.teller;
        let (records, _) = controller.elect_leaders(&asked, is_unclean, recovery);
        self.take(records);
        let after = &self.now().partitions[of];
        if let Some(leader) = after.leader.filter(|_| is_unclean && before.leader.is_none())
            && !before.elr.contains(&leader)
        {
            // What nobody has any more is given up, as the operator wanted.
            let log = self.processes[&leader].logs[of].counted(of);
            self.give_up(of, common(log, &self.committed[of]));
        }
    }

    pub(super) fn reassign(&mut self, of: usize, replicas: Option<Vec<BrokerId>>) {
        let asked = [Reassign { topic: TOPICS[of].into(), index: FIRST, replicas }];
        let (records, _) = self.teller.controller.reassign(&asked, true);
        self.take(records);
    }
}
