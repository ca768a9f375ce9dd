//! Commands for stories about partitions whose brokers come, go and lag.

use types::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::super::{AlterPartition, AssignReplica, ElectLeaders, LogEndAnswer, Reassign};
use super::{Teller, brokers, numbered, option};
use crate::metadata::PartitionInfo;

/// What a story shows of a partition only where there is something to show.
pub(super) fn rest(partition: &PartitionInfo) -> String {
    let mut text = String::new();
    let lists = [
        ("elr", &partition.elr),
        ("last", &partition.last_known_elr),
        ("adding", &partition.adding),
        ("removing", &partition.removing),
    ];
    for (name, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        text += &format!(" {name} {:?}", ids.iter().map(|id| id.0).collect::<Vec<_>>());
    }
    if partition.is_recovering {
        text += " recovering";
    }
    text
}

fn named(word: &str) -> (&str, PartitionIndex) {
    let (topic, index) = word.rsplit_once('-').unwrap();
    (topic, PartitionIndex(index.parse().unwrap()))
}

impl Teller {
    pub(super) fn partition(&mut self, verb: &str, words: &[&str]) {
        let broker = || BrokerId(words[0].parse().unwrap());
        match verb {
            "fence" => {
                let epoch = self.epoch(broker(), words);
                self.take(self.controller.fence_brokers(&[(broker(), epoch)]), false);
            }
            "unfence" => {
                let epoch = self.epoch(broker(), words);
                self.settle("broker", self.controller.unfence_broker(broker(), epoch));
            }
            "stop" => {
                let epoch = self.epoch(broker(), words);
                self.settle("broker", self.controller.stop_broker(broker(), epoch));
                let text = if self.controller.may_stop(broker()) { "may stop" } else { "leads" };
                self.say("broker", Ok(text));
            }
            "place" => {
                let (topic, index) = named(words[1]);
                let topic = self.controller.image().topic(topic);
                let topic = topic.map_or(TopicId(numbered(99)), |topic| topic.id);
                let directory = DirectoryId(numbered(words[2].parse().unwrap()));
                let places = [AssignReplica { topic, index, directory }];
                let epoch = self.epoch(broker(), words);
                let (records, answer) = self.controller.assign_replicas(broker(), epoch, &places);
                let answer = answer.and_then(|answers| answers[0].clone());
                self.say(words[1], answer.map(|()| "placed"));
                self.take(records, false);
            }
            "isr" => self.isr(words),
            "elect" => {
                let (topic, index) = named(words[1]);
                let asked = ElectLeaders { topic: topic.into(), index };
                let is_unclean = words[0] == "unclean";
                let (records, answers) =
                    self.controller.elect_leaders(&[asked], is_unclean, &self.recovery);
                self.say(words[1], answers[0].clone().map(|()| "elected"));
                self.take(records, false);
            }
            "move" | "stay" => {
                let (topic, index) = named(words[0]);
                let replicas = (verb == "move").then(|| brokers(words[1]));
                let asked = Reassign { topic: topic.into(), index, replicas };
                let may_resize = words.contains(&"resize");
                let (records, answers) = self.controller.reassign(&[asked], may_resize);
                self.say(words[0], answers[0].clone().map(|()| "moves"));
                self.take(records, false);
            }
            "ask" => {
                let ids: Vec<_> = self.controller.image().brokers().map(|known| known.id).collect();
                for id in ids {
                    for asked in self.recovery.questions(&self.controller, id) {
                        let topic = self.controller.image().topic_by_id(asked.topic).unwrap();
                        let partition = format!("{}-{}", topic.name, asked.index);
                        let term = asked.leader_epoch;
                        self.say(&partition, Ok(&format!("asks {id} for its end, in term {term}")));
                    }
                }
            }
            "tell" => self.tell(broker(), words),
            "recover" => {
                let (records, recovered) = self.recovery.decide(&self.controller);
                for one in recovered {
                    let topic = self.controller.image().topic_by_id(one.topic).unwrap();
                    let partition = format!("{}-{}", topic.name, one.index);
                    let text = format!(
                        "{} leads in term {}, ends at {}, sound to {}, committed to {} or more",
                        one.leader, one.leader_epoch, one.log_end, one.sound_end, one.committed_end
                    );
                    self.say(&partition, Ok(&text));
                }
                self.take(records, false);
            }
            _ => panic!("no command {verb}"),
        }
    }

    fn tell(&mut self, broker: BrokerId, words: &[&str]) {
        let (name, index) = named(words[1]);
        let topic = self.controller.image().topic(name).unwrap();
        let (last, end) = words[2].split_once(':').unwrap();
        let number = |name| option(words, name).map(|number| number.parse().unwrap());
        let answer = LogEndAnswer {
            topic: topic.id,
            index,
            leader_epoch: LeaderEpoch(
                number("term").unwrap_or(topic.partitions[&index].leader_epoch.0),
            ),
            last_epoch: last.parse().ok().map(LeaderEpoch),
            log_end: Offset(end.parse().unwrap()),
            high_watermark: Offset(number("hw").unwrap_or(0).into()),
        };
        let epoch = self.epoch(broker, words);
        if let Err(refusal) = self.recovery.on_answers(&self.controller, broker, epoch, &[answer]) {
            self.say(words[1], Err(refusal));
        }
    }

    fn isr(&mut self, words: &[&str]) {
        let (name, index) = named(words[0]);
        let image = self.controller.image().clone();
        let topic = image.topic(name).unwrap();
        let partition = &topic.partitions[&index];
        let by = option(words, "by").map(|id| BrokerId(id.parse().unwrap()));
        let by = by.or(partition.leader).unwrap();
        let known = |id: BrokerId| image.broker(id).map_or(BrokerEpoch(0), |broker| broker.epoch);
        let age = if words.contains(&"stale") { 1 } else { 0 };
        let isr = brokers(words[1]).into_iter().map(|id| (id, BrokerEpoch(known(id).0 - age)));
        let mut wish = AlterPartition {
            topic: topic.id,
            index,
            leader_epoch: partition.leader_epoch,
            epoch: partition.epoch,
            isr: isr.collect(),
            is_recovering: words.contains(&"recovering"),
        };
        if let Some(epoch) = option(words, "epoch") {
            wish.leader_epoch.0 = epoch.parse().unwrap();
        }
        if let Some(version) = option(words, "version") {
            wish.epoch.0 = version.parse().unwrap();
        }
        let (records, answer) = self.controller.alter_partitions(by, known(by), &[wish]);
        let answer = answer.and_then(|answers| answers[0].clone());
        let text = answer.map(|partition| format!("{:?}", partition.isr));
        self.say(words[0], text.as_deref().map_err(Clone::clone));
        self.take(records, false);
    }
}
