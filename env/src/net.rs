//! The network: ordered byte streams that may stall, break or come back late on another connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

/// A piece of an outgoing message: bytes in memory, or a range of a file that the kernel can send without a copy.
#[derive(Clone, Debug)]
pub enum Part<F> {
    /// Bytes in memory.
    Mem(Bytes),
    /// `len` bytes of `file` from `offset`.
    File {
        /// The file to read.
        file: F,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: usize,
    },
}

impl<F> Part<F> {
    /// Number of bytes this part puts on the wire.
    pub fn len(&self) -> usize {
        match self {
            Part::Mem(bytes) => bytes.len(),
            Part::File { len, .. } => *len,
        }
    }

    /// Whether it carries no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The network of one process.
pub trait Net: Clone + Send + Sync + 'static {
    /// The files whose ranges can be sent.
    type File: Send + 'static;
    /// A listening socket.
    type Listener: Listener<Conn = Self::Conn>;
    /// A connection.
    type Conn: Conn<File = Self::File>;

    /// Listens on `address` (port 0: any free port). Errors: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connects to `address`. Errors: `ConnectionRefused`, `TimedOut`, `HostUnreachable`.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Conn>> + Send;

    /// Addresses of `host:port`; a literal address needs no look-up.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// What it accepts.
    type Conn: Conn;

    /// The address really bound.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection. An error concerns that one attempt (or a lack of file handles): keep accepting.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Conn>> + Send;
}

/// A connection: two independent halves.
pub trait Conn: Send + 'static {
    /// The files whose ranges can be sent.
    type File: Send + 'static;
    /// The receiving half.
    type Reader: ConnReader;
    /// The sending half.
    type Writer: ConnWriter<File = Self::File>;

    /// Address of the other side.
    fn peer_addr(&self) -> SocketAddr;

    /// The two halves. The connection closes when both are dropped.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// The receiving half of a connection.
pub trait ConnReader: Send + 'static {
    /// Appends between 1 and `max` bytes to `buffer` (waiting for the first) and returns how many; 0 is the end of the
    /// stream. Cancel-safe: a dropped future has consumed nothing.
    fn read(
        &mut self,
        buffer: &mut BytesMut,
        max: usize,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

/// The sending half of a connection.
pub trait ConnWriter: Send + 'static {
    /// The files whose ranges can be sent.
    type File: Send + 'static;

    /// Sends all parts in order; returns when the last byte was handed to the network. Not cancel-safe: after a dropped
    /// or failed send the connection is unusable.
    fn send(&mut self, parts: Vec<Part<Self::File>>)
    -> impl Future<Output = io::Result<()>> + Send;

    /// Tells the other side that no more bytes follow.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}
