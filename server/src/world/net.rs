//! TCP. File ranges that the page cache holds leave by `sendfile`; a cold range is first read ahead on the blocking
//! pool, so that no runtime thread waits for the device. Short ranges are read and leave with their neighbours in one
//! call: there a system call more costs more than the copy.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use env::{Conn, ConnReader, ConnWriter, File as _, Listener, Net, Part};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::disk::RealFile;

/// File ranges up to this length are copied into memory instead of sent from the file.
const COPY_BYTES_MAX: usize = 32 << 10;
/// How much one read asks for when the caller's buffer is full.
const READ_BYTES: usize = 16 << 10;
/// Connections the kernel may hold until they are accepted.
const BACKLOG: i32 = 1024;

/// Accepted connections at least, however few files the process may open.
const SOCKETS_MIN: usize = 16;
/// How often the log says that connections wait for others to end.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

/// The machine's network.
///
/// Accepted connections take at most half of the descriptors that the process may hold: a flood of them must not leave
/// the disk without any, which would be a failure of the log directory. Those beyond wait in the kernel's backlog.
#[derive(Clone)]
pub struct RealNet {
    sockets: Arc<Semaphore>,
}

/// A listening TCP socket.
pub struct RealListener {
    listener: TcpListener,
    address: SocketAddr,
    sockets: Arc<Semaphore>,
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
        let sockets = (files_max / 2).clamp(SOCKETS_MIN, Semaphore::MAX_PERMITS);
        RealNet { sockets: Arc::new(Semaphore::new(sockets)) }
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
        if self.sockets.available_permits() == 0
            && self.warned.is_none_or(|at| at.elapsed() >= WARNING_PERIOD)
        {
            self.warned = Some(Instant::now());
            tracing::warn!(
                address = %self.address,
                "connections wait: half of the files this process may open are connections; \
                 raise the limit (ulimit -n) or set max.connections.per.ip"
            );
        }
        let permit = self.sockets.clone().acquire_owned().await.map_err(io::Error::other)?;
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
        let mut gathered: Vec<Bytes> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Mem(bytes) => gathered.push(bytes),
                Part::File { file, offset, len } if len <= COPY_BYTES_MAX => {
                    gathered.push(read_exact(&file, offset, len).await?);
                }
                Part::File { file, offset, len } => {
                    self.send_bytes(&gathered, true).await?;
                    gathered.clear();
                    self.send_file(&file, offset, len).await?;
                }
            }
        }
        self.send_bytes(&gathered, false).await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(&mut self.half).await
    }
}

impl RealWriter {
    /// Sends buffers; `more` says that file bytes follow, so that the kernel does not send a short packet first.
    async fn send_bytes(&mut self, buffers: &[Bytes], more: bool) -> io::Result<()> {
        let stream: &TcpStream = self.half.as_ref();
        if more && let [only] = buffers {
            let mut sent = 0;
            while sent < only.len() {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                sent +=
                    write_ready(stream, || rustix::net::send(stream, &only[sent..], flags)).await?;
            }
            return Ok(());
        }
        let mut slices: Vec<IoSlice<'_>> =
            buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let sent = match stream.try_write_vectored(rest) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                    continue;
                }
                result => result?,
            };
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, sent);
        }
        Ok(())
    }

    async fn send_file(&mut self, file: &RealFile, mut offset: u64, len: usize) -> io::Result<()> {
        if !file.is_cached(offset, len) {
            // Brings the range into the page cache on a thread that may wait.
            file.read_at(offset, len).await?;
        }
        let end = offset + len as u64;
        let stream: &TcpStream = self.half.as_ref();
        while offset < end {
            let left = (end - offset) as usize;
            let mut position = offset;
            let sent = write_ready(stream, || {
                rustix::fs::sendfile(stream, file.as_fs(), Some(&mut position), left)
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
    async fn beyond_half_of_the_descriptors_connections_wait() {
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
