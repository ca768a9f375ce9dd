//! What a full disk leaves standing (E11): group offsets are committed and topics come and go, within bounded time and
//! without a block of free space, because the broker holds space for them.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Admin, GroupOffset};
use types::{GroupId, Offset, TopicName};

use super::{BROKER, CLIENTS, Dialect, Play};
use crate::checker::require;
use crate::world::SimEnv;

/// A group without members, for whoever looks at the disk.
const GROUP: &str = "on-a-full-disk";
/// What a node without space for records takes at most for what it has space for; connections may be reset meanwhile.
const PATIENCE: Duration = Duration::from_secs(45);

impl Play {
    /// The disk is full now, and stays so until this ends: asks for what must go on.
    pub(super) async fn look_at_full_disk(&self, round: u64) {
        let stage = &self.stage;
        let client = self.client(CLIENTS - 1, &stage.dice(CLIENTS - 1), Dialect::Newest);
        let admin = Admin::new(&client);
        let mut done = Done::default();
        let (mut attempts, mut name) = (0, String::new());
        let asking = async {
            loop {
                done.is_committed = done.is_committed || self.commits(&admin, round).await;
                // An attempt may have been carried out unheard: each has a name of its own.
                if !done.is_created {
                    attempts += 1;
                    name = format!("born-on-a-full-disk-{round}-{attempts}");
                    done.is_created = self.create_topic(&admin, &name, 2).await;
                }
                done.has_leaders =
                    done.has_leaders || done.is_created && self.has_leaders(&admin, &name).await;
                if done == Done::ALL {
                    return;
                }
                stage.world.sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            biased;
            () = asking => {}
            // What was ordered before may strike now.
            () = stage.world.death(BROKER) => return,
            () = stage.world.sleep(PATIENCE) => {}
        }
        // Other faults of the disk, or of the network, excuse much.
        let others = ["D1", "D2", "D3", "D4", "D6", "D9", "D10", "N8", "N10", "N11"];
        let is_excused = stage.scenario.faults.iter().any(|kind| others.contains(&kind.code()));
        let verdict = require("E11", is_excused || done == Done::ALL, || {
            format!("on a full disk, within {PATIENCE:?}: {done:?}")
        });
        if stage.judge(verdict) && done == Done::ALL {
            stage.world.mark("served on a full disk");
        }
    }

    /// Whether all of the topic is served.
    async fn has_leaders(&self, admin: &Admin<SimEnv>, name: &str) -> bool {
        let name = TopicName::from(name);
        let told = admin.describe_topics(std::slice::from_ref(&name)).await;
        let topic = told.ok().and_then(|mut all| all.remove(&name)?.ok());
        topic.is_some_and(|topic| topic.partitions.values().all(|p| p.leader.is_some()))
    }

    async fn commits(&self, admin: &Admin<SimEnv>, round: u64) -> bool {
        let place = self.partitions().swap_remove(0);
        let offset = GroupOffset::at(Offset(round as i64));
        let offsets = BTreeMap::from([(place.clone(), offset)]);
        let moved = admin.alter_group_offsets(&GroupId::from(GROUP), &offsets).await;
        moved.is_ok_and(|all| all.get(&place).is_some_and(Result::is_ok))
    }
}

/// What has been seen to work.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Done {
    is_committed: bool,
    is_created: bool,
    has_leaders: bool,
}

impl Done {
    const ALL: Done = Done { is_committed: true, is_created: true, has_leaders: true };
}
