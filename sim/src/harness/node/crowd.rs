//! One machine that opens more connections than its address may have: those beyond are closed, those within are served, and
//! nobody else notices (what all others are promised is judged as ever).

use std::time::Duration;

use bytes::BytesMut;
use env::{Conn, ConnReader, ConnWriter, Env, Net, Part};
use wire::api_versions::ApiVersionsRequest;

use super::{BROKER, PORT, Phase, Play};
use crate::checker::require;
use crate::decisions::{Decisions, Kind};
use crate::disk::SimDisk;
use crate::exec::Node;
use crate::net::ip_of;
use crate::world::SimEnv;

/// What the broker's settings give this machine's address.
pub(super) const CONNECTIONS_MAX: usize = 4;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(3);

type SimConn = <<SimEnv as Env>::Net as Net>::Conn;

/// A connection that is asked and looked at, no more.
struct Member {
    reader: <SimConn as Conn>::Reader,
    writer: <SimConn as Conn>::Writer,
}

impl Play {
    /// One life of the crowd.
    pub(super) async fn crowd(&self, node: Node, dice: &Decisions) {
        let disk = SimDisk::of_node(self.stage.world.decisions(), node);
        let env = SimEnv::new(&self.stage.world, &self.stage.network, &disk, node);
        while self.phase() == Phase::Work {
            self.gather(&env, dice).await;
            let pause = self.stage.scenario.think * 20;
            self.stage.think(dice, pause).await;
        }
    }

    /// Opens many at once, keeps those that are served, and counts how many are still served when all were opened.
    async fn gather(&self, env: &SimEnv, dice: &Decisions) {
        let count = dice.between(Kind::Operation, 1, 3 * CONNECTIONS_MAX as u64);
        let mut served = Vec::new();
        let mut refused = 0;
        for _ in 0..count {
            let address = (ip_of(BROKER), PORT).into();
            let Some(Ok(conn)) = env.timeout(PATIENCE, env.net().connect(address)).await else {
                continue;
            };
            let (reader, writer) = conn.split();
            let mut member = Member { reader, writer };
            match env.timeout(PATIENCE, member.ask()).await {
                Some(true) => served.push(member),
                Some(false) => refused += 1,
                None => {}
            }
        }
        // Who was answered before and is answered now was let in before and has not ended: these are open together.
        let mut together = 0;
        for member in &mut served {
            together += usize::from(env.timeout(PATIENCE, member.ask()).await == Some(true));
        }
        self.stage.done(together > 0, 18);
        if together == CONNECTIONS_MAX && refused > 0 {
            self.stage.world.mark("crowd kept within its limit");
        }
        self.stage.judge(require("max.connections.per.ip", together <= CONNECTIONS_MAX, || {
            format!(
                "{together} connections of one address are served, and {CONNECTIONS_MAX} may be"
            )
        }));
    }
}

impl Member {
    /// Whether a question is answered; otherwise the connection has ended.
    async fn ask(&mut self) -> bool {
        let frame = wire::request_frame(&ApiVersionsRequest::default(), 0, 1, None)
            .expect("an empty request can be encoded");
        if self.writer.send(vec![Part::Mem(frame)]).await.is_err() {
            return false;
        }
        let mut answer = BytesMut::new();
        loop {
            if let Some(length) = answer.first_chunk::<4>()
                && answer.len() - 4 >= u32::from_be_bytes(*length) as usize
            {
                return true;
            }
            if !matches!(self.reader.read(&mut answer, 4096).await, Ok(1..)) {
                return false;
            }
        }
    }
}
