//! What can go wrong with a network (N1 to N12), how often, and how often it did.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One kind of network fault, numbered as in the fault table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum NetFault {
    /// N1: a packet is lost and comes later as a retransmission.
    Loss,
    /// N2: a packet takes long.
    Delay,
    /// N3: of two connections, what was sent later arrives earlier.
    Reorder,
    /// N4: a link delivers nothing for a while, then everything.
    Clog,
    /// N5: two groups of nodes do not hear each other.
    Partition,
    /// N6: one direction of a link is cut.
    OneWay,
    /// N7: one node hears nobody.
    Isolate,
    /// N8: a machine lost power; its peers have not heard.
    HalfOpen,
    /// N9: a connection is reset.
    Reset,
    /// N10: a connection attempt is never answered (against: refused).
    ConnectTimeout,
    /// N11: a link has little bandwidth.
    SlowLink,
    /// N12: bytes arrive on an old connection after its client has connected again.
    LateBytes,
}

impl NetFault {
    /// Every kind, in the order of the table.
    pub const ALL: [NetFault; 12] = [
        NetFault::Loss,
        NetFault::Delay,
        NetFault::Reorder,
        NetFault::Clog,
        NetFault::Partition,
        NetFault::OneWay,
        NetFault::Isolate,
        NetFault::HalfOpen,
        NetFault::Reset,
        NetFault::ConnectTimeout,
        NetFault::SlowLink,
        NetFault::LateBytes,
    ];
}

/// How the network behaves. Rates are per million packets, or connections where said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetRates {
    /// Mean one-way latency; each packet draws between half and one and a half.
    pub latency: Duration,
    /// N1.
    pub loss: u32,
    /// Delay of a retransmission.
    pub retransmit: Duration,
    /// N2.
    pub delay: u32,
    /// A long delay is up to this.
    pub delay_max: Duration,
    /// N9, per packet.
    pub reset: u32,
    /// N10, per connection attempt.
    pub connect_timeout: u32,
    /// N11: bytes per second of each direction of a connection; absent: no limit.
    pub bandwidth: Option<u64>,
    /// N12, per connection that its owner drops: what is under way arrives late.
    pub late: u32,
    /// How late.
    pub late_max: Duration,
    /// Bytes of one packet.
    pub segment_bytes: usize,
    /// Bytes that may be under way and unread in one direction.
    pub window_bytes: usize,
    /// A connection attempt without an answer fails after this.
    pub connect_after: Duration,
    /// A connection with bytes that nobody confirms fails after this.
    pub give_up_after: Duration,
}

impl Default for NetRates {
    fn default() -> NetRates {
        NetRates {
            latency: Duration::from_micros(200),
            loss: 0,
            retransmit: Duration::from_millis(200),
            delay: 0,
            delay_max: Duration::from_secs(1),
            reset: 0,
            connect_timeout: 0,
            bandwidth: None,
            late: 0,
            late_max: Duration::from_secs(5),
            segment_bytes: 16 * 1024,
            window_bytes: 256 * 1024,
            connect_after: Duration::from_secs(10),
            give_up_after: Duration::from_secs(30),
        }
    }
}

/// How often each kind of fault has struck.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct NetCounts([u64; 12]);

impl NetCounts {
    /// Strikes of one kind.
    pub fn of(&self, fault: NetFault) -> u64 {
        self.0[fault as usize]
    }

    /// Counts a strike.
    pub fn add(&mut self, fault: NetFault) {
        self.0[fault as usize] += 1;
    }
}
