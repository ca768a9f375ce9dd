//! TCP. File ranges that the page cache holds leave by `sendfile`; a cold range is first read ahead on the blocking
//! pool, so that no runtime thread waits for the device. Short ranges are read and leave with their neighbours in one
//! call: there a system call more costs more than the copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use env::{Conn, ConnReader, ConnWriter, File as _, Listener, Net, Part};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::disk::{RealFile, files_open};

/// File ranges up to this length are copied into memory instead of sent from the file.
const COPY_BYTES_MAX: usize = 32 << 10;
/// Most bytes of file ranges that are copied for one call.
const GATHERED_BYTES_MAX: usize = 256 << 10;
/// How much one read asks for when the caller's buffer is full.
const READ_BYTES: usize = 16 << 10;
/// Connections the kernel may hold until they are accepted.
const BACKLOG: i32 = 1024;

/// Accepted connections at least, however few files the process may open.
const SOCKETS_MIN: usize = 16;
/// Descriptors left for files to come at least, where the process may hold twice as many.
const FILES_LEFT_MIN: usize = 1024;
/// How often an acceptor looks whether files were closed.
const FILES_POLL: Duration = Duration::from_millis(200);
/// How often the log says that connections wait for others to end.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

/// The machine's network.
///
/// Accepted connections and open files together leave a quarter of the descriptors that the process may hold, and of a few
/// half: a flood of connections must not leave the disk without any, which would be a failure of the log directory.
/// Connections beyond wait in the kernel's backlog.
#[derive(Clone)]
pub struct RealNet {
    sockets: Sockets,
}

/// How many connections may be accepted.
#[derive(Clone)]
struct Sockets {
    permits: Arc<Semaphore>,
    max: usize,
}

/// A listening TCP socket.
pub struct RealListener {
    listener: TcpListener,
    address: SocketAddr,
    sockets: Sockets,
    warned: Option<Instant>,
}

/// A TCP connection.
pub struct RealConn {
    stream: TcpStream,
    peer: SocketAddr,
    permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// The receiving half of a TCP connection.
pub struct RealReader {
    half: OwnedReadHalf,
    /// Held, never read.
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// The sending half of a TCP connection.
pub struct RealWriter {
    half: OwnedWriteHalf,
    /// Held, never read.
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl RealNet {
    /// The network of a process that may hold `files_max` descriptors.
    pub fn new(files_max: usize) -> RealNet {
        let left = (files_max / 4).max(FILES_LEFT_MIN.min(files_max / 2));
        let max = (files_max - left).clamp(SOCKETS_MIN, Semaphore::MAX_PERMITS);
        RealNet { sockets: Sockets { permits: Arc::new(Semaphore::new(max)), max } }
    }
}

impl Sockets {
    /// Takes the place of one connection, if there is one beside the files that are open.
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        let taken = self.max - self.permits.available_permits();
        (taken <= self.max.saturating_sub(files_open()).max(SOCKETS_MIN)).then_some(permit)
    }
}

impl Net for RealNet {
    type File = RealFile;
    type Listener = RealListener;
    type Conn = RealConn;

    async fn bind(&self, address: SocketAddr) -> io::Result<RealListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        let sockets = self.sockets.clone();
        Ok(RealListener { listener, address, sockets, warned: None })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<RealConn> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(RealConn { stream, peer: address, permit: None })
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

impl Listener for RealListener {
    type Conn = RealConn;

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&mut self) -> io::Result<RealConn> {
        let permit = loop {
            if let Some(permit) = self.sockets.take() {
                break permit;
            }
            if self.warned.is_none_or(|at| at.elapsed() >= WARNING_PERIOD) {
                self.warned = Some(Instant::now());
                tracing::warn!(
                    address = %self.address,
                    "connections wait: the rest of the files that this process may open is for the disk; \
                     raise the limit (ulimit -n) or set max.connections.per.ip"
                );
            }
            // A connection that ends tells at once, a file that is closed does not.
            if self.sockets.permits.available_permits() > 0 {
                tokio::time::sleep(FILES_POLL).await;
            } else {
                let _ = tokio::time::timeout(FILES_POLL, self.sockets.permits.acquire()).await;
            }
        };
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(RealConn { stream, peer, permit: Some(Arc::new(permit)) })
    }
}

impl Conn for RealConn {
    type File = RealFile;
    type Reader = RealReader;
    type Writer = RealWriter;

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn split(self) -> (RealReader, RealWriter) {
        let (reader, writer) = self.stream.into_split();
        let reader = RealReader { half: reader, _permit: self.permit.clone() };
        (reader, RealWriter { half: writer, _permit: self.permit })
    }
}

impl ConnReader for RealReader {
    async fn read(&mut self, buffer: &mut BytesMut, max: usize) -> io::Result<usize> {
        // An idle connection holds no buffer: memory is reserved only once there are bytes to read.
        self.half.readable().await?;
        if buffer.capacity() == buffer.len() {
            buffer.reserve(max.min(READ_BYTES));
        }
        // Through `AsyncRead`, which takes a buffer that was not filled as the sign that the socket is empty, and spares
        // the call that would only say so.
        self.half.read_buf(&mut (&mut *buffer).limit(max)).await
    }
}

impl ConnWriter for RealWriter {
    type File = RealFile;

    async fn send(&mut self, parts: Vec<Part<RealFile>>) -> io::Result<()> {
        let mut parts = VecDeque::from(parts);
        while let Some(first) = parts.front() {
            match first {
                Part::File { file, offset, len } if *len > COPY_BYTES_MAX => {
                    self.send_file(file, *offset, *len).await?;
                    parts.pop_front();
                }
                _ => self.send_some(&mut parts).await?,
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(&mut self.half).await
    }
}

impl RealWriter {
    /// Sends of the short parts at the head what the socket takes. What it does not take is let go of and read again later:
    /// a client that does not read holds no copies of file ranges.
    async fn send_some(&mut self, parts: &mut VecDeque<Part<RealFile>>) -> io::Result<()> {
        let mut gathered: Vec<Bytes> = Vec::with_capacity(parts.len());
        let mut copied = 0;
        for part in parts.iter() {
            match part {
                Part::Mem(bytes) => gathered.push(bytes.clone()),
                Part::File { file, offset, len } if copied + len <= GATHERED_BYTES_MAX => {
                    copied += len;
                    gathered.push(read_exact(file, *offset, *len).await?);
                }
                Part::File { .. } => break,
            }
        }
        let has_more = gathered.len() < parts.len();
        let sent = self.try_send(&gathered, has_more)?;
        drop(gathered);
        match sent {
            Some(bytes) => advance(parts, bytes),
            None => self.half.as_ref().writable().await?,
        }
        Ok(())
    }

    /// Sends what the socket takes at once; `None` if that is nothing. `has_more` says that file bytes follow, so that the
    /// kernel does not send a short packet first.
    fn try_send(&self, buffers: &[Bytes], has_more: bool) -> io::Result<Option<usize>> {
        if buffers.iter().all(Bytes::is_empty) {
            return Ok(Some(0));
        }
        let stream: &TcpStream = self.half.as_ref();
        let sent = if has_more && let [only] = buffers {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            stream.try_io(Interest::WRITABLE, || {
                rustix::net::send(stream, only, flags).map_err(io::Error::from)
            })
        } else {
            let slices: Vec<IoSlice<'_>> =
                buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
            stream.try_write_vectored(&slices)
        };
        match sent {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                io::ErrorKind::Interrupted => Ok(Some(0)),
                _ => Err(error),
            },
        }
    }

    async fn send_file(&mut self, file: &RealFile, mut offset: u64, len: usize) -> io::Result<()> {
        if !file.is_cached(offset, len) {
            file.warm(offset, len).await?;
        }
        let end = offset + len as u64;
        let stream: &TcpStream = self.half.as_ref();
        while offset < end {
            let left = (end - offset) as usize;
            let mut position = offset;
            let sent = write_ready(stream, || {
                let sent = rustix::fs::sendfile(stream, file.as_fs(), Some(&mut position), left);
                // The one error that is not the socket's.
                sent.inspect_err(|error| {
                    if *error == Errno::IO {
                        file.note_read_failure()
                    }
                })
            })
            .await?;
            if sent == 0 {
                return Err(short_file());
            }
            offset += sent as u64;
        }
        Ok(())
    }
}

/// Takes the first `bytes` off the parts, and those that are empty then.
fn advance(parts: &mut VecDeque<Part<RealFile>>, mut bytes: usize) {
    while let Some(first) = parts.front_mut() {
        if first.len() > bytes {
            match first {
                Part::Mem(rest) => rest.advance(bytes),
                Part::File { offset, len, .. } => {
                    *offset += bytes as u64;
                    *len -= bytes;
                }
            }
            return;
        }
        bytes -= first.len();
        parts.pop_front();
    }
}

/// Runs a sending system call whenever the socket is writable until it sends something.
async fn write_ready(
    stream: &TcpStream,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match stream.try_io(Interest::WRITABLE, || call().map_err(io::Error::from)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

async fn read_exact(file: &RealFile, offset: u64, len: usize) -> io::Result<Bytes> {
    let bytes = file.read_at(offset, len).await?;
    if bytes.len() < len { Err(short_file()) } else { Ok(bytes) }
}

/// The response's header already promised these bytes: the connection cannot go on.
fn short_file() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a file range ends before its announced length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::RealDisk;
    use env::{Disk, OpenMode};

    #[tokio::test]
    async fn beyond_its_share_of_the_descriptors_connections_wait() {
        let net = RealNet::new(2 * SOCKETS_MIN);
        let mut listener = net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut open = Vec::new();
        let mut ours = Vec::new();
        for _ in 0..SOCKETS_MIN {
            ours.push(net.connect(listener.local_addr()).await.unwrap());
            open.push(listener.accept().await.unwrap().split());
        }
        ours.push(net.connect(listener.local_addr()).await.unwrap());
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, listener.accept()).await.is_err());
        drop(open.pop());
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn parts_arrive_in_order_whatever_carries_them() {
        let path = std::env::temp_dir().join(format!("foretold-net-{}", std::process::id()));
        let file = RealDisk.open(&path, OpenMode::Create).await.unwrap();
        let content: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
        file.write_at(0, vec![Bytes::from(content.clone())]).await.unwrap();
        let net = RealNet::new(1024);
        let mut listener = net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr();
        let sender = tokio::spawn(async move {
            let (_reader, mut writer) = net.connect(address).await.unwrap().split();
            let parts = vec![
                Part::Mem(Bytes::from_static(b"head")),
                Part::File { file: file.clone(), offset: 10, len: 100 },
                Part::Mem(Bytes::from_static(b"middle")),
                Part::File { file, offset: 1000, len: 300_000 },
                Part::Mem(Bytes::from_static(b"tail")),
            ];
            writer.send(parts).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (mut reader, _writer) = listener.accept().await.unwrap().split();
        let mut received = BytesMut::new();
        while reader.read(&mut received, 5000).await.unwrap() > 0 {}
        sender.await.unwrap();
        let expected =
            [&b"head"[..], &content[10..110], b"middle", &content[1000..301_000], b"tail"].concat();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        std::fs::remove_file(path).unwrap();
    }
}
