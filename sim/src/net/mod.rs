//! The false network: machines, links between them, connections as two byte pipes.
//!
//! ```text
//!  writer --window--> packets under way (latency, loss, bandwidth, blocked links) --> arrived --> reader
//! ```
//!
//! What TCP promises holds (order and no duplicates within a direction of one connection) and nothing more: a send that
//! returned may never arrive, a peer may vanish without a word (N8), bytes of a connection that its owner has left behind
//! may arrive after those of the next one (N12). Refusal and silence are different: a machine without a listener refuses,
//! a machine that is off or cut off says nothing (N10).

mod faults;
mod pipe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::{File, Part};

pub use faults::{NetCounts, NetFault, NetRates};
use pipe::{Load, Packet, Pipe, error};

use crate::decisions::{Decisions, Kind, Subsystem};
use crate::disk::SimFile;
use crate::exec::{Event, Node, Sleep, World, lock};

/// First port given to connecting sockets.
const EPHEMERAL: u16 = 32_768;
/// Connections that wait to be accepted; more are refused.
const BACKLOG: usize = 128;

type ConnId = u64;

/// The two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Client = 0,
    Server = 1,
}

impl End {
    fn other(self) -> End {
        match self {
            End::Client => End::Server,
            End::Server => End::Client,
        }
    }
}

struct Side {
    node: Node,
    address: SocketAddr,
    /// Bytes on their way to this side.
    incoming: Pipe,
    /// What the process on this side gets from its next call.
    broken: Option<io::ErrorKind>,
    /// Halves the process still holds.
    reading: bool,
    writing: bool,
    /// The machine has forgotten this connection.
    gone: bool,
}

struct Link {
    sides: [Side; 2],
}

struct Waiting {
    backlog: VecDeque<ConnId>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Machine {
    off: bool,
    next_port: u16,
}

struct State {
    decisions: Decisions,
    rates: NetRates,
    counts: NetCounts,
    machines: BTreeMap<Node, Machine>,
    listeners: BTreeMap<SocketAddr, Waiting>,
    links: BTreeMap<ConnId, Link>,
    next: ConnId,
    blocked: BTreeSet<(Node, Node)>,
    clogged: BTreeMap<(Node, Node), u64>,
    last_arrival: BTreeMap<(Node, Node), u64>,
    connects: BTreeMap<Node, u64>,
}

/// The network of the world; clones see the same one.
#[derive(Clone)]
pub struct Network {
    world: World,
    state: Arc<Mutex<State>>,
}

/// The address of a node.
pub fn ip_of(node: Node) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | node))
}

fn node_of(address: SocketAddr) -> Option<Node> {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => Some(u32::from(ip) & 0x00ff_ffff),
        _ => None,
    }
}

impl Network {
    /// A sound network.
    pub fn new(world: &World) -> Network {
        let state = State {
            decisions: world.decisions().stream(0, Subsystem::Net),
            rates: NetRates::default(),
            counts: NetCounts::default(),
            machines: BTreeMap::new(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            next: 0,
            blocked: BTreeSet::new(),
            clogged: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            connects: BTreeMap::new(),
        };
        Network { world: world.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// The network as one node sees it.
    pub fn of(&self, node: Node) -> SimNet {
        self.state().machines.entry(node).or_default();
        SimNet { network: self.clone(), node }
    }

    /// How the network behaves from now on.
    pub fn set_rates(&self, rates: NetRates) {
        self.state().rates = rates;
    }

    /// How it behaves now.
    pub fn rates(&self) -> NetRates {
        self.state().rates.clone()
    }

    /// How often each kind of fault has struck.
    pub fn counts(&self) -> NetCounts {
        self.state().counts
    }

    /// Cuts the way from `from` to `to`. What is under way waits until [`Network::heal`].
    pub fn block(&self, from: Node, to: Node) {
        let now = self.world.now_nanos();
        let mut state = self.state();
        if !state.blocked.insert((from, to)) {
            return;
        }
        for (pipe, sender, receiver) in state.pipes() {
            if (sender, receiver) == (from, to) {
                for packet in &mut pipe.packets {
                    if packet.at.is_some_and(|at| at > now) {
                        packet.at = None;
                    }
                }
            }
        }
    }

    /// Separates `left` from `right` (N5, or N7 when one side is a single node), or only the way from left to right
    /// (N6).
    pub fn partition(&self, left: &[Node], right: &[Node], one_way: bool) {
        for a in left {
            for b in right.iter().filter(|b| *b != a) {
                self.block(*a, *b);
                if !one_way {
                    self.block(*b, *a);
                }
            }
        }
        let fault = match (one_way, left.len().min(right.len())) {
            (true, _) => NetFault::OneWay,
            (false, 1) => NetFault::Isolate,
            (false, _) => NetFault::Partition,
        };
        self.state().counts.add(fault);
        self.world.trace(0, Event::Net, 0x100 + fault as u64);
    }

    /// Ends every cut and clog. What waited is retransmitted.
    pub fn heal(&self) {
        let now = self.world.now_nanos();
        let mut wakers = Vec::new();
        {
            let mut state = self.state();
            state.blocked.clear();
            state.clogged.clear();
            let (retransmit, decisions) = (state.rates.retransmit, state.decisions.clone());
            for (pipe, ..) in state.pipes() {
                let mut at = now;
                let mut held = false;
                for packet in &mut pipe.packets {
                    if packet.at.is_none() {
                        if !held {
                            at += decisions.choose(Kind::Delay, nanos(retransmit).max(1));
                            held = true;
                        }
                        packet.at = Some(at.max(pipe.last_at));
                    }
                    pipe.last_at = pipe.last_at.max(packet.at.unwrap_or(0));
                }
                if held {
                    pipe.wake(&mut wakers);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets the link from `from` to `to` deliver nothing for `duration` (N4).
    pub fn clog(&self, from: Node, to: Node, duration: Duration) {
        let until = self.world.now_nanos() + nanos(duration);
        let mut state = self.state();
        state.clogged.insert((from, to), until);
        for (pipe, sender, receiver) in state.pipes() {
            if (sender, receiver) == (from, to) {
                for packet in &mut pipe.packets {
                    packet.at = packet.at.map(|at| at.max(until));
                }
                pipe.last_at = pipe.last_at.max(until);
            }
        }
        state.counts.add(NetFault::Clog);
    }

    /// Resets one open connection that touches `node`, if there is one (N9).
    pub fn reset_one(&self, node: Node) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state();
            let touching = state.links.iter().filter(|(_, link)| {
                link.sides.iter().any(|side| side.node == node)
                    && link.sides.iter().all(|side| !side.gone && side.broken.is_none())
            });
            let touching: Vec<ConnId> = touching.map(|(id, _)| *id).collect();
            let choice = state.decisions.choose(Kind::Fault, touching.len() as u64) as usize;
            let Some(id) = touching.get(choice) else { return };
            state.reset(*id, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The machine loses power: it says nothing any more, and its peers do not know (N8).
    pub fn power_off(&self, node: Node) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state();
            state.machines.entry(node).or_default().off = true;
            state.listeners.retain(|address, _| node_of(*address) != Some(node));
            let mut half_open = 0;
            for link in state.links.values_mut() {
                for end in [End::Client, End::Server] {
                    let other_alive = !link.sides[end.other() as usize].gone;
                    let side = &mut link.sides[end as usize];
                    if side.node == node && !side.gone {
                        side.gone = true;
                        side.incoming.clear();
                        side.incoming.wake(&mut wakers);
                        half_open += u64::from(other_alive);
                    }
                }
            }
            if half_open > 0 {
                state.counts.add(NetFault::HalfOpen);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The machine is on again. It knows nothing of its old connections and resets those that still send.
    pub fn power_on(&self, node: Node) {
        self.with(|state, now, wakers| {
            state.machines.entry(node).or_default().off = false;
            let retransmit = nanos(state.rates.retransmit);
            let decisions = state.decisions.clone();
            for link in state.links.values_mut() {
                for end in [End::Client, End::Server] {
                    let side = &mut link.sides[end as usize];
                    let asked = side.node == node && side.gone && !side.incoming.packets.is_empty();
                    let back = &mut link.sides[end.other() as usize];
                    if asked && !back.gone {
                        let at = Some(now + decisions.choose(Kind::Delay, retransmit.max(1)));
                        back.incoming.packets.push_back(Packet {
                            at,
                            sent: now,
                            load: Load::Reset,
                        });
                        back.incoming.wake(wakers);
                    }
                }
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs `act` under the lock, then wakes whom it concerns.
    fn with<T>(&self, act: impl FnOnce(&mut State, u64, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let now = self.world.now_nanos();
        let result = act(&mut self.state(), now, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl State {
    /// Every direction: the pipe, who sends, who receives.
    fn pipes(&mut self) -> impl Iterator<Item = (&mut Pipe, Node, Node)> {
        self.links.values_mut().flat_map(|link| {
            let nodes = [link.sides[0].node, link.sides[1].node];
            let mut sides = link.sides.iter_mut();
            let first = sides.next().map(|side| (&mut side.incoming, nodes[1], nodes[0]));
            let second = sides.next().map(|side| (&mut side.incoming, nodes[0], nodes[1]));
            first.into_iter().chain(second)
        })
    }

    fn is_off(&self, node: Node) -> bool {
        self.machines.get(&node).is_none_or(|machine| machine.off)
    }

    /// One-way time of a packet, with the faults that strike it.
    fn latency(&mut self) -> u64 {
        let mean = nanos(self.rates.latency);
        let mut delay = mean / 2 + self.decisions.choose(Kind::Delay, mean);
        if self.decisions.chance(Kind::Fault, self.rates.loss) {
            delay += nanos(self.rates.retransmit);
            self.counts.add(NetFault::Loss);
        }
        if self.decisions.chance(Kind::Fault, self.rates.delay) {
            delay += self.decisions.choose(Kind::Delay, nanos(self.rates.delay_max));
            self.counts.add(NetFault::Delay);
        }
        delay
    }

    /// Puts a packet on the way to `end` of a connection.
    fn send(&mut self, id: ConnId, end: End, load: Load, now: u64, wakers: &mut Vec<Waker>) {
        let delay = self.latency();
        let Some(link) = self.links.get_mut(&id) else { return };
        let (sender, receiver) =
            (link.sides[end.other() as usize].node, link.sides[end as usize].node);
        let size = if let Load::Data(bytes) = &load { bytes.len() } else { 0 };
        let side = &mut link.sides[end as usize];
        if side.gone {
            // The machine off: silence. The machine on again, or the socket closed: a reset comes back.
            if self.machines.get(&receiver).is_none_or(|machine| machine.off) {
                side.incoming.packets.push_back(Packet { at: None, sent: now, load });
                return;
            }
            let back = &mut link.sides[end.other() as usize];
            if !back.gone {
                let at = now + 2 * delay;
                back.incoming.packets.push_back(Packet {
                    at: Some(at),
                    sent: now,
                    load: Load::Reset,
                });
                back.incoming.wake(wakers);
            }
            return;
        }
        let pipe = &mut side.incoming;
        let mut begin = now.max(pipe.busy_until);
        if let Some(bandwidth) = self.rates.bandwidth.filter(|_| size > 0) {
            begin += size as u64 * 1_000_000_000 / bandwidth.max(1);
            pipe.busy_until = begin;
            self.counts.add(NetFault::SlowLink);
        }
        let mut at = (begin + delay).max(pipe.last_at);
        if let Some(until) = self.clogged.get(&(sender, receiver)) {
            at = at.max(*until);
        }
        pipe.last_at = at;
        let blocked = self.blocked.contains(&(sender, receiver))
            || pipe.packets.back().is_some_and(|packet| packet.at.is_none());
        let at = (!blocked).then_some(at);
        pipe.held += size;
        pipe.packets.push_back(Packet { at, sent: now, load });
        if pipe.packets.len() == 1 {
            wakers.extend(pipe.reader.take());
        }
        if let Some(at) = at {
            let last = self.last_arrival.entry((sender, receiver)).or_default();
            if at < *last {
                self.counts.add(NetFault::Reorder);
            }
            *last = at.max(*last);
        }
        if size > 0 && self.decisions.chance(Kind::Fault, self.rates.reset) {
            self.reset(id, wakers);
        }
    }

    fn reset(&mut self, id: ConnId, wakers: &mut Vec<Waker>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for side in &mut link.sides {
            if !side.gone {
                side.broken = Some(io::ErrorKind::ConnectionReset);
                side.incoming.clear();
                side.incoming.wake(wakers);
            }
        }
        self.counts.add(NetFault::Reset);
    }

    /// A process lets go of halves of a connection.
    fn release(&mut self, id: ConnId, end: End, half: Half, now: u64, wakers: &mut Vec<Waker>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let side = &mut link.sides[end as usize];
        match half {
            Half::Reader => side.reading = false,
            Half::Writer => side.writing = false,
        }
        if side.reading || side.writing || side.gone {
            self.forget(id);
            return;
        }
        let unread = !side.incoming.arrived.is_empty();
        let broken = side.broken.is_some();
        side.gone = true;
        side.incoming.clear();
        side.incoming.wake(wakers);
        let other = end.other();
        let peer = &mut link.sides[other as usize];
        if broken || peer.gone {
            self.forget(id);
            return;
        }
        // What is under way to the peer may be late: the owner will have connected again by then (N12).
        let under_way = peer.incoming.packets.iter().any(|p| matches!(p.load, Load::Data(_)));
        if under_way && self.decisions.chance(Kind::Fault, self.rates.late) {
            let late = self.decisions.choose(Kind::Delay, nanos(self.rates.late_max));
            for packet in &mut peer.incoming.packets {
                packet.at = packet.at.map(|at| at + late);
            }
            peer.incoming.last_at += late;
            self.counts.add(NetFault::LateBytes);
        }
        let load = if unread { Load::Reset } else { Load::Fin };
        self.send(id, other, load, now, wakers);
    }

    /// Drops a connection that neither side holds any more.
    fn forget(&mut self, id: ConnId) {
        let held = |side: &Side| (side.reading || side.writing) && !side.gone;
        if self.links.get(&id).is_some_and(|link| !link.sides.iter().any(held)) {
            self.links.remove(&id);
        }
    }

    fn free_port(&mut self, node: Node) -> u16 {
        let machine = self.machines.entry(node).or_default();
        loop {
            machine.next_port = machine.next_port.wrapping_add(1);
            let port = EPHEMERAL + machine.next_port % (u16::MAX - EPHEMERAL);
            if !self.listeners.contains_key(&SocketAddr::new(ip_of(node), port)) {
                return port;
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// The network as one node sees it.
#[derive(Clone)]
pub struct SimNet {
    network: Network,
    node: Node,
}

impl env::Net for SimNet {
    type File = SimFile;
    type Listener = SimListener;
    type Conn = SimConn;

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        let mut state = self.network.state();
        let unspecified = address.ip().is_unspecified();
        if !unspecified && address.ip() != ip_of(self.node) {
            return Err(error(io::ErrorKind::AddrNotAvailable));
        }
        let port = if address.port() == 0 { state.free_port(self.node) } else { address.port() };
        let address = SocketAddr::new(ip_of(self.node), port);
        if state.listeners.contains_key(&address) {
            return Err(error(io::ErrorKind::AddrInUse));
        }
        state.listeners.insert(address, Waiting { backlog: VecDeque::new(), waker: None });
        Ok(SimListener { network: self.network.clone(), address })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimConn> {
        let world = &self.network.world;
        let target = node_of(address).ok_or(io::ErrorKind::HostUnreachable)?;
        let (delay, lost, deadline) = {
            let mut state = self.network.state();
            let lost = state.decisions.chance(Kind::Fault, state.rates.connect_timeout);
            let deadline = world.now_nanos() + nanos(state.rates.connect_after);
            if lost {
                state.counts.add(NetFault::ConnectTimeout);
            }
            (2 * state.latency(), lost, deadline)
        };
        world.sleep(Duration::from_nanos(delay)).await;
        // The first packet is sent again until someone answers or patience ends.
        let mut patience = Duration::from_millis(200);
        loop {
            let silent = {
                let state = self.network.state();
                lost || state.is_off(target)
                    || state.blocked.contains(&(self.node, target))
                    || state.blocked.contains(&(target, self.node))
                    || [(self.node, target), (target, self.node)].iter().any(|way| {
                        state.clogged.get(way).is_some_and(|until| *until > world.now_nanos())
                    })
            };
            if !silent {
                return self.establish(address, target);
            }
            if world.now_nanos() >= deadline {
                return Err(error(io::ErrorKind::TimedOut));
            }
            let next = (world.now_nanos() + nanos(patience)).min(deadline);
            world.sleep_until_nanos(next).await;
            patience *= 2;
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let ip: IpAddr = match host.strip_prefix("node-") {
            Some(number) => ip_of(number.parse().map_err(|_| io::ErrorKind::NotFound)?),
            None => host.parse().map_err(|_| io::ErrorKind::NotFound)?,
        };
        Ok(vec![SocketAddr::new(ip, port)])
    }
}

impl SimNet {
    fn establish(&self, address: SocketAddr, target: Node) -> io::Result<SimConn> {
        self.network.with(|state, _, wakers| {
            let full = |waiting: &Waiting| waiting.backlog.len() >= BACKLOG;
            if state.listeners.get(&address).is_none_or(full) {
                return Err(error(io::ErrorKind::ConnectionRefused));
            }
            let local = SocketAddr::new(ip_of(self.node), state.free_port(self.node));
            let side = |node, address| Side {
                node,
                address,
                incoming: Pipe::default(),
                broken: None,
                reading: true,
                writing: true,
                gone: false,
            };
            state.next += 1;
            let id = state.next;
            state.links.insert(id, Link { sides: [side(self.node, local), side(target, address)] });
            *state.connects.entry(self.node).or_default() += 1;
            if let Some(waiting) = state.listeners.get_mut(&address) {
                waiting.backlog.push_back(id);
                wakers.extend(waiting.waker.take());
            }
            Ok(SimConn::new(&self.network, id, End::Client, address))
        })
    }
}

/// A listening socket.
pub struct SimListener {
    network: Network,
    address: SocketAddr,
}

impl env::Listener for SimListener {
    type Conn = SimConn;

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&mut self) -> io::Result<SimConn> {
        poll_fn(|context| {
            let mut state = self.network.state();
            let Some(waiting) = state.listeners.get_mut(&self.address) else {
                return Poll::Ready(Err(error(io::ErrorKind::NotConnected)));
            };
            let Some(id) = waiting.backlog.pop_front() else {
                waiting.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            let peer = state.links.get(&id).map(|link| link.sides[End::Client as usize].address);
            match peer {
                Some(peer) => {
                    let conn = SimConn::new(&self.network, id, End::Server, peer);
                    Poll::Ready(Ok(conn))
                }
                None => Poll::Ready(Err(error(io::ErrorKind::ConnectionAborted))),
            }
        })
        .await
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.with(|state, now, wakers| {
            let Some(waiting) = state.listeners.remove(&self.address) else { return };
            for id in waiting.backlog {
                state.release(id, End::Server, Half::Reader, now, wakers);
                state.release(id, End::Server, Half::Writer, now, wakers);
            }
        });
    }
}

/// A connection.
pub struct SimConn {
    peer: SocketAddr,
    reader: SimReader,
    writer: SimWriter,
}

impl SimConn {
    fn new(network: &Network, id: ConnId, end: End, peer: SocketAddr) -> SimConn {
        let reader = SimReader { network: network.clone(), id, end, timer: None };
        let writer = SimWriter { network: network.clone(), id, end };
        SimConn { peer, reader, writer }
    }
}

impl env::Conn for SimConn {
    type File = SimFile;
    type Reader = SimReader;
    type Writer = SimWriter;

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn split(self) -> (SimReader, SimWriter) {
        (self.reader, self.writer)
    }
}

#[derive(Clone, Copy)]
enum Half {
    Reader,
    Writer,
}

/// The receiving half.
pub struct SimReader {
    network: Network,
    id: ConnId,
    end: End,
    timer: Option<Sleep>,
}

impl SimReader {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        max: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (id, end) = (self.id, self.end);
        let outcome = self.network.with(|state, now, wakers| {
            let give_up = nanos(state.rates.give_up_after);
            let Some(link) = state.links.get_mut(&id) else {
                return Outcome::Done(Err(error(io::ErrorKind::NotConnected)));
            };
            // Bytes that were never confirmed break the connection in the end.
            let unconfirmed = link.sides[end.other() as usize].incoming.packets.front();
            let unconfirmed =
                unconfirmed.filter(|packet| packet.at.is_none()).map(|packet| packet.sent);
            let side = &mut link.sides[end as usize];
            if let Some(kind) = side.broken {
                return Outcome::Done(Err(error(kind)));
            }
            if side.incoming.arrive(now) {
                side.broken = Some(io::ErrorKind::ConnectionReset);
                return Outcome::Done(Err(error(io::ErrorKind::ConnectionReset)));
            }
            let taken = side.incoming.take(buffer, max);
            if taken > 0 {
                wakers.extend(side.incoming.writer.take());
                return Outcome::Done(Ok(taken));
            }
            if side.incoming.ended {
                return Outcome::Done(Ok(0));
            }
            if unconfirmed.is_some_and(|sent| sent + give_up <= now) {
                side.broken = Some(io::ErrorKind::TimedOut);
                return Outcome::Done(Err(error(io::ErrorKind::TimedOut)));
            }
            side.incoming.reader = Some(context.waker().clone());
            let arrival = side.incoming.packets.front().and_then(|packet| packet.at);
            let patience = unconfirmed.map(|sent| sent + give_up);
            Outcome::Wait(arrival.into_iter().chain(patience).min())
        });
        match outcome {
            Outcome::Done(result) => {
                self.timer = None;
                if let Ok(taken) = &result {
                    let node = u32::from(self.end as u8);
                    self.network.world.trace(node, Event::Net, self.id << 32 | *taken as u64);
                }
                Poll::Ready(result)
            }
            Outcome::Wait(None) => {
                self.timer = None;
                Poll::Pending
            }
            Outcome::Wait(Some(at)) => {
                let mut sleep = self.network.world.sleep_until_nanos(at);
                if Pin::new(&mut sleep).poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                self.timer = Some(sleep);
                Poll::Pending
            }
        }
    }
}

enum Outcome {
    Done(io::Result<usize>),
    Wait(Option<u64>),
}

impl env::ConnReader for SimReader {
    async fn read(&mut self, buffer: &mut BytesMut, max: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(buffer, max, context)).await
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        let (id, end) = (self.id, self.end);
        self.network.with(|state, now, wakers| state.release(id, end, Half::Reader, now, wakers));
    }
}

/// The sending half.
pub struct SimWriter {
    network: Network,
    id: ConnId,
    end: End,
}

impl SimWriter {
    async fn send_bytes(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|context| self.poll_send(&mut bytes, context)).await?;
        }
        Ok(())
    }

    fn poll_send(&self, bytes: &mut Bytes, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (id, end) = (self.id, self.end);
        self.network.with(|state, now, wakers| {
            let (window, segment) = (state.rates.window_bytes, state.rates.segment_bytes);
            let Some(link) = state.links.get_mut(&id) else {
                return Poll::Ready(Err(error(io::ErrorKind::NotConnected)));
            };
            let own = &mut link.sides[end as usize];
            if own
                .incoming
                .packets
                .iter()
                .any(|p| matches!(p.load, Load::Reset) && p.at.is_some_and(|at| at <= now))
            {
                own.broken.get_or_insert(io::ErrorKind::BrokenPipe);
            }
            if let Some(kind) = own.broken {
                return Poll::Ready(Err(error(kind)));
            }
            let pipe = &mut link.sides[end.other() as usize].incoming;
            let room = window.saturating_sub(pipe.held);
            if room == 0 {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut room = room;
            while room > 0 && !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(segment.max(1)).min(room));
                room -= piece.len();
                state.send(id, end.other(), Load::Data(piece), now, wakers);
            }
            // The reader of this side watches for bytes that nobody confirms.
            if let Some(link) = state.links.get_mut(&id) {
                wakers.extend(link.sides[end as usize].incoming.reader.take());
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl env::ConnWriter for SimWriter {
    type File = SimFile;

    async fn send(&mut self, parts: Vec<Part<SimFile>>) -> io::Result<()> {
        // Small neighbours travel together, as they would from one system call.
        let mut pending = BytesMut::new();
        for part in parts {
            let bytes = match part {
                Part::Mem(bytes) => bytes,
                Part::File { file, offset, len } => {
                    let bytes = file.read_at(offset, len).await?;
                    if bytes.len() < len {
                        return Err(error(io::ErrorKind::UnexpectedEof));
                    }
                    bytes
                }
            };
            if bytes.len() < 4096 {
                pending.extend_from_slice(&bytes);
                continue;
            }
            self.send_bytes(pending.split().freeze()).await?;
            self.send_bytes(bytes).await?;
        }
        self.send_bytes(pending.freeze()).await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        let (id, end) = (self.id, self.end);
        self.network.with(|state, now, wakers| {
            let gone = state.links.get(&id).is_none_or(|link| link.sides[end as usize].gone);
            if !gone {
                state.send(id, end.other(), Load::Fin, now, wakers);
            }
        });
        Ok(())
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        let (id, end) = (self.id, self.end);
        self.network.with(|state, now, wakers| state.release(id, end, Half::Writer, now, wakers));
    }
}

#[cfg(test)]
mod tests;
