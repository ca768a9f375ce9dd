//! One direction of a connection: packets under way in order, bytes waiting to be read.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

/// What a packet carries.
#[derive(Clone, Debug)]
pub enum Load {
    /// Bytes.
    Data(Bytes),
    /// The end of the stream.
    Fin,
    /// The connection is broken.
    Reset,
}

/// A packet under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// True time of arrival; none while the link is blocked.
    pub at: Option<u64>,
    /// When it was sent.
    pub sent: u64,
    /// What it carries.
    pub load: Load,
}

/// One direction.
#[derive(Default)]
pub struct Pipe {
    /// Under way; arrives in this order.
    pub packets: VecDeque<Packet>,
    /// Arrived, not yet read.
    pub arrived: VecDeque<Bytes>,
    /// Bytes in `packets` and `arrived`.
    pub held: usize,
    /// The reader has seen, or will see after `arrived`, the end.
    pub ended: bool,
    /// The latest arrival given out: later packets do not overtake.
    pub last_at: u64,
    /// The wire is busy until then (bandwidth).
    pub busy_until: u64,
    /// Who waits for bytes.
    pub reader: Option<Waker>,
    /// Who waits for room.
    pub writer: Option<Waker>,
}

impl Pipe {
    /// Takes what has arrived by `now`. Whether the connection turned out to be broken.
    pub fn arrive(&mut self, now: u64) -> bool {
        while self.packets.front().and_then(|packet| packet.at).is_some_and(|at| at <= now) {
            match self.packets.pop_front().map(|packet| packet.load) {
                Some(Load::Data(bytes)) => self.arrived.push_back(bytes),
                Some(Load::Fin) => self.ended = true,
                Some(Load::Reset) => return true,
                None => {}
            }
        }
        false
    }

    /// Moves up to `max` arrived bytes into `buffer`.
    pub fn take(&mut self, buffer: &mut BytesMut, max: usize) -> usize {
        let mut left = max;
        while left > 0 {
            let Some(first) = self.arrived.front_mut() else { break };
            let piece = first.split_to(first.len().min(left));
            if first.is_empty() {
                self.arrived.pop_front();
            }
            left -= piece.len();
            buffer.extend_from_slice(&piece);
        }
        let taken = max - left;
        self.held -= taken;
        taken
    }

    /// Forgets everything; nothing will arrive any more.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.arrived.clear();
        self.held = 0;
    }

    /// Who must look again.
    pub fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}

/// The error of one side of a connection.
pub fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}
