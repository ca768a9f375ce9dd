//! What a dead device leaves standing (E10): the log directories on others take records, and topics that are made meanwhile
//! lie there.

use std::time::Duration;

use client::Admin;
use types::{BrokerId, TopicPartition};

use super::{CLIENTS, Dialect, Play, partition_of};
use crate::checker::require;
use crate::exec::lock;

/// A topic that is made while a device is dead, and its partitions: enough for every directory.
const TOPIC: &str = "born-beside-a-dead-device";
const PARTITIONS: i32 = 6;
/// Within this a write meets the dead device. Should none do so, there is nothing to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

impl Play {
    /// The device of a log directory is dead, and all else is quiet: `served` lie elsewhere.
    pub(super) async fn look_beside_dead_device(&self, path: &str, served: &[TopicPartition]) {
        let stage = &self.stage;
        let client = self.client(CLIENTS - 1, &stage.dice(CLIENTS - 1), Dialect::Newest);
        let admin = Admin::new(&client);
        stage.world.sleep(Duration::from_secs(1)).await;
        if !self.writes_again(&client, served).await {
            return;
        }
        let end = stage.world.elapsed() + PATIENCE;
        loop {
            // Whoever is sent to a dead directory may not hold up who is not.
            let told = admin.describe_log_dirs(BrokerId(0), None).await.unwrap_or_default();
            let (dead, alive): (Vec<_>, Vec<_>) = told.iter().partition(|dir| dir.path == path);
            let is_alone = alive.iter().all(|dir| dir.error.is_none());
            if !stage.judge(require("E10", is_alone, || {
                format!("{path} is dead, and the directories are told to be {told:?}")
            })) {
                return;
            }
            if dead.iter().any(|dir| dir.error.is_some()) {
                break;
            }
            if stage.world.elapsed() > end {
                return;
            }
            stage.world.sleep(Duration::from_millis(500)).await;
        }
        let is_made = self.create_topic(&admin, TOPIC, PARTITIONS).await;
        if !stage
            .judge(require("E10", is_made, || format!("{path} is dead, and no topic can be made")))
        {
            return;
        }
        let made: Vec<_> = (0..PARTITIONS).map(|index| partition_of(TOPIC, index)).collect();
        lock(&self.shared.born).extend(made.iter().cloned());
        if self.writes_again(&client, &made).await {
            stage.world.mark("directory offline alone");
        }
    }
}
