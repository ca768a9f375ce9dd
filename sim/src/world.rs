//! One simulated process' view of the outside: its clocks, its disk, its network, its luck.

use crate::disk::SimDisk;
use crate::exec::{Node, SimClock, SimSpawn, World};
use crate::net::{Network, SimNet};
use crate::plain::SeededRng;

/// The false world as [`env::Env`].
#[derive(Clone)]
pub struct SimEnv {
    clock: SimClock,
    disk: SimDisk,
    net: SimNet,
    rng: SeededRng,
    spawner: SimSpawn,
}

impl SimEnv {
    /// The world as a process on `node` sees it.
    pub fn new(world: &World, network: &Network, disk: &SimDisk, node: Node) -> SimEnv {
        SimEnv {
            clock: world.clock(node),
            disk: disk.clone(),
            net: network.of(node),
            rng: SeededRng::new(world.decisions(), node),
            spawner: SimSpawn::new(world, node),
        }
    }
}

impl env::Env for SimEnv {
    type Clock = SimClock;
    type Disk = SimDisk;
    type Net = SimNet;
    type Rng = SeededRng;
    type Spawn = SimSpawn;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn net(&self) -> &SimNet {
        &self.net
    }

    fn rng(&self) -> &SeededRng {
        &self.rng
    }

    fn spawner(&self) -> &SimSpawn {
        &self.spawner
    }
}
