//! What a connection promises, and what it does not.

use env::{Conn, ConnReader, ConnWriter, Listener, Net};

use super::*;
use crate::exec::{Limits, run};

fn simulate<F: Future<Output = ()> + Send + 'static>(
    seed: u64,
    story: impl FnOnce(World, Network) -> F,
) {
    let world = World::new(&Decisions::new(seed));
    let network = Network::new(&world);
    for node in 1..=3 {
        world.add_node(node, "node");
        let _ = network.of(node);
    }
    run(&world, Limits::default(), story(world.clone(), network));
    assert_eq!(world.violated(), None, "seed {seed}");
}

fn server() -> SocketAddr {
    SocketAddr::new(ip_of(2), 9092)
}

/// A pair of connected halves: (client reader, client writer), (server reader, server writer).
async fn pair(network: &Network) -> ((SimReader, SimWriter), (SimReader, SimWriter), SimListener) {
    let mut listener = network.of(2).bind(server()).await.unwrap();
    let client = network.of(1).connect(server()).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    assert_eq!(client.peer_addr(), server());
    assert_eq!(accepted.peer_addr().ip(), ip_of(1));
    (client.split(), accepted.split(), listener)
}

fn part(byte: u8, len: usize) -> Vec<Part<SimFile>> {
    vec![Part::Mem(Bytes::from(vec![byte; len]))]
}

#[test]
fn bytes_arrive_in_order_whatever_the_network_does() {
    for seed in 0..50 {
        simulate(seed, |world, network| async move {
            let rates = NetRates {
                loss: 100_000,
                delay: 100_000,
                segment_bytes: 100,
                window_bytes: 1000,
                bandwidth: Some(1_000_000),
                ..NetRates::default()
            };
            network.set_rates(rates);
            let (_client, (mut reader, _writer), _listener) = {
                let (client, server, listener) = pair(&network).await;
                let (client_reader, mut writer) = client;
                world.spawn(1, "sender", async move {
                    for byte in 0..50 {
                        writer.send(part(byte, 300)).await.unwrap();
                    }
                    writer.shutdown().await.unwrap();
                    std::future::pending::<()>().await;
                });
                (client_reader, server, listener)
            };
            let mut all = BytesMut::new();
            while reader.read(&mut all, 70).await.unwrap() > 0 {}
            assert_eq!(all.len(), 50 * 300);
            assert!(all.iter().enumerate().all(|(at, byte)| *byte as usize == at / 300));
        });
    }
}

#[test]
fn a_full_window_holds_the_sender_back() {
    simulate(1, |world, network| async move {
        let (client, (mut reader, _writer), _listener) = pair(&network).await;
        let (_client_reader, mut writer) = client;
        let sent = Arc::new(Mutex::new(0));
        let count = sent.clone();
        world.spawn(1, "sender", async move {
            loop {
                writer.send(part(1, 64 * 1024)).await.unwrap();
                *lock(&count) += 1;
            }
        });
        world.sleep(Duration::from_secs(10)).await;
        assert_eq!(*lock(&sent), 4);
        let mut buffer = BytesMut::new();
        reader.read(&mut buffer, 64 * 1024).await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        assert!(*lock(&sent) <= 5);
    });
}

#[test]
fn refused_timed_out_and_taken_addresses() {
    simulate(1, |world, network| async move {
        let refused = network.of(1).connect(server()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        network.power_off(2);
        let before = world.elapsed();
        let silent = network.of(1).connect(server()).await.err().unwrap();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        assert!(world.elapsed() - before >= Duration::from_secs(9));
        network.power_on(2);
        let _listener = network.of(2).bind(server()).await.unwrap();
        let taken = network.of(2).bind(server()).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        network.of(1).connect(server()).await.unwrap();
        let foreign = network.of(1).bind(server()).await.err().unwrap();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn a_partition_delays_and_then_delivers_or_breaks() {
    simulate(1, |world, network| async move {
        let ((_cr, mut writer), (mut reader, _sw), _listener) = pair(&network).await;
        network.partition(&[1], &[2], false);
        writer.send(part(1, 10)).await.unwrap();
        world.sleep(Duration::from_secs(5)).await;
        network.heal();
        let mut buffer = BytesMut::new();
        assert_eq!(reader.read(&mut buffer, 100).await.unwrap(), 10);
        network.partition(&[1], &[2], false);
        writer.send(part(1, 10)).await.unwrap();
        let mut reader = _cr;
        let broken = reader.read(&mut buffer, 10).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::TimedOut);
        assert!(writer.send(part(1, 10)).await.is_err());
    });
}

#[test]
fn a_peer_without_power_is_silent_until_it_is_back_and_resets() {
    simulate(1, |world, network| async move {
        let ((mut reader, mut writer), server_side, _listener) = pair(&network).await;
        network.power_off(2);
        drop(server_side);
        writer.send(part(1, 10)).await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        network.power_on(2);
        writer.send(part(1, 10)).await.unwrap();
        let mut buffer = BytesMut::new();
        let broken = reader.read(&mut buffer, 10).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(network.counts().of(NetFault::HalfOpen), 1);
    });
}

#[test]
fn a_dropped_connection_ends_and_late_bytes_still_arrive() {
    simulate(1, |_, network| async move {
        network.set_rates(NetRates { late: 1_000_000, ..NetRates::default() });
        let ((reader, mut writer), (mut server_reader, mut server_writer), _listener) =
            pair(&network).await;
        writer.send(part(7, 10)).await.unwrap();
        drop((reader, writer));
        let mut again = network.of(1).connect(server()).await.unwrap().split();
        assert_eq!(network.counts().of(NetFault::LateBytes), 1);
        let mut buffer = BytesMut::new();
        assert_eq!(server_reader.read(&mut buffer, 100).await.unwrap(), 10);
        assert_eq!(server_reader.read(&mut buffer, 100).await.unwrap(), 0);
        server_writer.send(part(1, 1)).await.unwrap();
        assert_eq!(
            server_reader.read(&mut buffer, 100).await.err().map(|e| e.kind()),
            None,
            "the end stays the end until the reset arrives"
        );
        again.1.send(part(1, 1)).await.unwrap();
    });
}
