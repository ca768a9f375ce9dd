//! What a dead device leaves standing (E10): the log directories on others take records, topics that are made meanwhile lie
//! there, and so do groups. What lies on it is refused, and told to be offline.

use std::time::Duration;

use client::{Admin, Client, GroupOffset, Producer, ProducerConfig};
use types::{BrokerId, GroupId, Offset, TopicPartition};

use super::{CLIENTS, Dialect, Play, name_of, partition_of};
use crate::checker::require;
use crate::exec::lock;
use crate::history::{Outcome, Sent};
use crate::world::SimEnv;

/// A topic that is made while a device is dead, and its partitions: enough for every directory.
const TOPIC: &str = "born-beside-a-dead-device";
const PARTITIONS: i32 = 6;
/// Within this the node notices, once a write has met the dead device.
const PATIENCE: Duration = Duration::from_secs(10);
/// Groups without members, one for each of three shards and more.
const GROUPS: [&str; 6] = ["beside-a", "beside-b", "beside-c", "beside-d", "beside-e", "beside-f"];

impl Play {
    /// The device of a log directory is dead, and all else is quiet: `lost` lie there, `served` lie elsewhere. Whether all was
    /// as it should be.
    pub(super) async fn look_beside_dead_device(
        &self,
        path: &str,
        lost: &[TopicPartition],
        served: &[TopicPartition],
    ) -> bool {
        let client = self.judge_client();
        let admin = Admin::new(&client);
        self.stage.world.sleep(Duration::from_secs(1)).await;
        // Whoever is sent to a dead directory may not hold up who is not.
        if !self.writes_again(&client, served).await || !self.is_refused(&client, path, lost).await
        {
            return false;
        }
        if !self.is_told_offline(&admin, path, !lost.is_empty()).await {
            return false;
        }
        let is_made = self.create_topic(&admin, TOPIC, PARTITIONS).await;
        if !self.judge_beside(is_made, path, "no topic can be made") {
            return false;
        }
        let made: Vec<_> = (0..PARTITIONS).map(|index| partition_of(TOPIC, index)).collect();
        lock(&self.shared.born).extend(made.iter().cloned());
        let is_whole =
            self.writes_again(&client, &made).await && self.groups_serve(&admin, path).await;
        if is_whole {
            self.stage.world.mark("directory offline alone");
        }
        is_whole
    }

    /// Whether these take records now.
    pub(super) async fn looks_served(&self, served: &[TopicPartition]) -> bool {
        let client = self.judge_client();
        self.stage.world.sleep(Duration::from_secs(1)).await;
        self.writes_again(&client, served).await
    }

    fn judge_client(&self) -> Client<SimEnv> {
        self.client(CLIENTS - 1, &self.stage.dice(CLIENTS - 1), Dialect::Newest)
    }

    fn judge_beside(&self, is_so: bool, path: &str, what: &str) -> bool {
        self.stage.judge(require("E10", is_so, || format!("{path} is dead, and {what}")))
    }

    /// A record for a partition on the dead device is not acknowledged.
    async fn is_refused(
        &self,
        client: &Client<SimEnv>,
        path: &str,
        lost: &[TopicPartition],
    ) -> bool {
        let Some(partition) = lost.first() else { return true };
        let Ok(producer) = Producer::new(client, ProducerConfig::default()) else { return false };
        let (value, from, instance) = (self.next_value(0), self.now(), self.next_instance());
        let taken = self.deliver(&producer, partition, value).await;
        self.history(|history| {
            history.sends.push(Sent {
                producer: instance,
                idempotent: true,
                promised: false,
                partition: name_of(partition),
                value,
                span: self.span(from),
                outcome: Outcome::Unknown,
            });
        });
        let what = format!("a record for {partition}, which lies there, was acknowledged");
        self.judge_beside(taken.is_err(), path, &what)
    }

    /// Waits until the directory is told to be offline, and it alone. Nothing has been written there if nothing lies there: then
    /// nobody need have noticed.
    async fn is_told_offline(&self, admin: &Admin<SimEnv>, path: &str, is_met: bool) -> bool {
        let end = self.stage.world.elapsed() + PATIENCE;
        loop {
            let told = admin.describe_log_dirs(BrokerId(0), None).await;
            let is_told = told.as_ref().is_ok_and(|told| {
                let offline = told.iter().filter(|dir| dir.error.is_some());
                offline.map(|dir| dir.path.as_str()).eq([path])
            });
            if is_told {
                return true;
            }
            if self.stage.world.elapsed() > end {
                let what = format!("the directories are told to be {told:?}");
                return is_met && self.judge_beside(false, path, &what);
            }
            self.stage.world.sleep(Duration::from_millis(500)).await;
        }
    }

    /// Groups are listed, and those whose shard is elsewhere take offsets.
    async fn groups_serve(&self, admin: &Admin<SimEnv>, path: &str) -> bool {
        let place = partition_of(TOPIC, 0);
        let mut taken = 0;
        for group in GROUPS {
            let offsets = [(place.clone(), GroupOffset::at(Offset(0)))].into();
            let moved = admin.alter_group_offsets(&GroupId::from(group), &offsets).await;
            taken += usize::from(moved.is_ok_and(|all| all.values().all(Result::is_ok)));
        }
        let listed = admin.list_groups().await;
        let what = format!(
            "of {} groups {taken} take offsets, and they are listed as {listed:?}",
            GROUPS.len()
        );
        self.judge_beside(taken > 0 && listed.is_ok(), path, &what)
    }
}
