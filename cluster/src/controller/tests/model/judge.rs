//! What must hold after every step of the model, whoever holds what.

use types::BrokerId;

use super::{BROKERS, Known, Model, Record, Step, TOPICS};
use crate::metadata::PartitionInfo;

impl Model {
    /// Nobody of those that held everything, or are there, holds more than who is elected (P11).
    pub(super) fn recover(&mut self, before: &Known) {
        let (records, recovered) = self.teller.recovery.decide(&self.teller.controller);
        self.take(records);
        for one in recovered {
            let of = usize::from(one.topic == self.topic(1));
            let partition = &before.partitions[of];
            assert_eq!(self.now().partitions[of].leader, Some(one.leader));
            let held = |id: &BrokerId| {
                common(self.processes[id].logs[of].counted(of), &self.committed[of])
            };
            let asked = partition.replicas.iter().filter(|id| {
                partition.last_known_elr.contains(id) || self.is_there(**id, partition)
            });
            for id in asked {
                assert!(
                    held(id) <= held(&one.leader),
                    "P11: {id} holds more of what is committed than {}: {partition:?}",
                    one.leader
                );
            }
            let kept = held(&one.leader);
            let (sound, end) = (one.sound_end.0 as usize, one.log_end.0 as usize);
            let is_whole = kept == self.committed[of].len();
            assert!(is_whole || sound <= kept && kept <= end, "P11: lost from {sound}, {end}");
            self.give_up(of, kept);
        }
    }

    pub(super) fn give_up(&mut self, of: usize, kept: usize) {
        self.committed[of].truncate(kept);
        self.given_up[of] = self.now().partitions[of].leader_epoch;
    }

    pub(super) fn is_there(&self, id: BrokerId, partition: &PartitionInfo) -> bool {
        self.teller.controller.judge().is_there(id, partition)
    }

    pub(super) fn check(&self, of: usize, before: &Known, step: &Step) {
        let (before, after) = (&before.partitions[of], &self.now().partitions[of]);
        let (name, image) = (TOPICS[of], self.teller.controller.image());
        let holds_all = |id: &BrokerId| {
            self.processes[id].logs[of].counted(of).starts_with(&self.committed[of])
        };
        for id in after.isr.iter().chain(&after.elr) {
            assert!(
                holds_all(id),
                "I20: {id} is in sync or eligible without everything committed of {name}, after {step:?}: {after:?}"
            );
        }
        for id in &after.isr {
            assert!(
                image.broker(*id).is_some_and(|broker| !broker.is_fenced),
                "I29: {id} is not there, after {step:?}"
            );
        }
        let min_isr = self.min_isr[of].min(after.replicas.len());
        assert!(after.isr.len() < min_isr || after.elr.is_empty(), "I29: {after:?}");
        let is_asked = matches!(step, Step::Unclean(_) | Step::Recover);
        assert!(
            before.is_recovering || !after.is_recovering || is_asked,
            "I30: nobody asked for an unclean election, after {step:?}"
        );
        if after.leader != before.leader || after.replicas != before.replicas {
            assert!(after.leader_epoch > before.leader_epoch, "I27: {after:?}");
        }
        assert!(after == before || after.epoch > before.epoch, "I27: {after:?}");
        if let Step::Return { id, .. } | Step::Replace(id) = step
            && before.leader == Some(BrokerId(*id))
        {
            assert!(after.leader_epoch > before.leader_epoch, "I16: {after:?}");
        }
        self.check_move(of, before, after, step);
        // Who holds everything is not forgotten, as far as it is known; and who could lead does.
        let are_known = [&before.isr[..], &before.elr, &before.last_known_elr].concat();
        let lists = [&after.isr[..], &after.elr, &after.last_known_elr].concat();
        let forgotten = are_known.iter().find(|id| {
            let is_emptied = matches!(step, Step::Replace(emptied) if id.0 == *emptied);
            after.replicas.contains(id) && !lists.contains(id) && !is_emptied
        });
        assert!(after.isr.len() >= min_isr || forgotten.is_none(), "I28: {after:?}, {step:?}");
        let is_held = after.replicas.iter().any(holds_all);
        assert!(
            self.is_lossy[of] || !is_held || lists.iter().any(holds_all),
            "nobody known holds everything of {name}, after {step:?}: {after:?}"
        );
        let in_question = after.isr.iter().chain(&after.elr);
        let electable = in_question.copied().find(|id| self.is_there(*id, after));
        assert!(
            after.leader.is_some() || electable.is_none(),
            "L2: {electable:?} could lead {name}, after {step:?}: {after:?}"
        );
    }

    /// A reassignment ends when all that were added are in sync, and enough are (I34).
    fn check_move(&self, of: usize, before: &PartitionInfo, after: &PartitionInfo, step: &Step) {
        let is_old = |id: &BrokerId| before.replicas.contains(id) && !before.adding.contains(id);
        let mut added = after.replicas.iter().filter(|id| !is_old(id));
        let olds = before.replicas.iter().filter(|id| is_old(id)).count();
        let is_same = |count| after.replicas.len() == count && after.replicas.iter().all(is_old);
        // Taken back, or nothing that was under way.
        let was_moved = before.is_moving() || before.replicas != after.replicas;
        if after.is_moving() || !was_moved || is_same(olds) {
            return;
        }
        let min_isr = self.min_isr[of].min(after.replicas.len());
        assert!(
            added.all(|id| after.isr.contains(id)) && after.isr.len() >= min_isr,
            "I34: {before:?} ends as {after:?}, after {step:?}"
        );
    }

    /// All come back and tell what they have: whatever is known of anybody leads again.
    pub(super) fn heal(&mut self) {
        for id in (0..BROKERS).map(BrokerId) {
            if self.heard_of(id).is_none() {
                self.come_back(id, 0, true, false);
            }
            self.step(&Step::Unfence(id.0));
        }
        for id in (0..BROKERS).map(BrokerId) {
            // Brokers ask again and again for what was refused.
            self.find_homes(id);
        }
        for id in (0..BROKERS).map(BrokerId) {
            self.learn(id, usize::MAX);
            self.step(&Step::Tell(id.0));
        }
        self.step(&Step::Recover);
        for partition in &self.now().partitions {
            let is_hopeless = partition.isr.is_empty()
                && partition.elr.is_empty()
                && partition.last_known_elr.is_empty();
            // The disk of whoever alone holds everything was replaced: it may yet be found again (E8).
            let whole = [&partition.isr[..], &partition.elr[..]].concat();
            let whole = if whole.is_empty() { partition.last_known_elr.clone() } else { whole };
            let has_home = |id: &BrokerId| {
                let home = partition.directory_of(*id);
                let known = self.teller.controller.image.broker(*id);
                known.is_some_and(|known| home.is_none_or(|home| known.directories.contains(&home)))
            };
            let is_awaited = !whole.iter().any(has_home);
            let has_leader = partition.leader.is_some();
            assert!(has_leader || is_hopeless || is_awaited, "L2: {partition:?}");
        }
    }
}

/// How far two logs are the same.
pub(super) fn common(one: &[Record], other: &[Record]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
