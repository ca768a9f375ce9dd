//! Directories that are not ours to use, and what is there after a restart.

use broker::{Broker, DirectoryError, StartError};
use env::{Disk, Env};
use server::world::RealEnv;
use types::{ClusterId, PartitionIndex};

use crate::peer::{Node, batch, config, create, fresh_dir, produce};

async fn refusal(config: broker::BrokerConfig) -> StartError {
    match Broker::start(RealEnv::new(), config).await {
        Err(error) => error,
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let node = Node::start(&[]).await;
    let error = refusal(config(&node.dir, &[])).await;
    assert!(matches!(error, StartError::Directory(DirectoryError::Locked { .. })), "{error}");
    let dir = node.dir.clone();
    node.broker.shutdown().await;
    let mut other = config(&dir, &[]);
    other.cluster_id = Some(ClusterId("another".into()));
    let error = refusal(other).await;
    assert!(matches!(error, StartError::Directory(DirectoryError::OtherCluster { .. })), "{error}");
    let disk = RealEnv::new().disk().clone();
    disk.remove_dir_all(&dir).await.unwrap();

    let foreign = fresh_dir();
    disk.create_dir_all(&foreign).await.unwrap();
    disk.replace(&foreign.join("letter.txt"), "dear diary".into()).await.unwrap();
    let error = refusal(config(&foreign, &[])).await;
    assert!(matches!(error, StartError::Directory(DirectoryError::Foreign { .. })), "{error}");
    disk.remove_dir_all(&foreign).await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let node = Node::start(&[]).await;
    let dir = fresh_dir();
    let mut second = config(&dir, &[]);
    second.listeners[0].bind = node.address();
    let error = refusal(second).await;
    assert!(matches!(error, StartError::Address { .. }), "{error}");
    RealEnv::new().disk().remove_dir_all(&dir).await.unwrap();
    node.end().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    let id = create(&mut peer, "topic", 2, &[("retention.ms", "777777")]).await;
    produce(&mut peer, "topic", 1, &batch(&["a", "b"], Some((5, 0, 0)))).await;
    drop(peer);
    let dir = node.dir.clone();
    node.broker.shutdown().await;
    let node = Node::open(dir, &[]).await;
    let mut peer = node.peer().await;
    let view = node.broker.shared().view();
    let topic = view.topic("topic").unwrap();
    assert_eq!((topic.id.0, topic.partitions_count()), (id, 2));
    let ends = topic.partition(PartitionIndex(1)).unwrap().ends();
    assert_eq!(ends.high_watermark.0, 2);
    // The producer's state too: a retry is a duplicate (I49), its next batch follows (I47).
    let again = produce(&mut peer, "topic", 1, &batch(&["a", "b"], Some((5, 0, 0)))).await;
    assert_eq!(again, (0, 0));
    let next = produce(&mut peer, "topic", 1, &batch(&["c"], Some((5, 0, 2)))).await;
    assert_eq!(next, (0, 2));
    node.end().await;
}
