use std::path::Path;
use std::time::Instant;

use openraft::testing::{StoreBuilder, Suite};
use uuid::Uuid;

use super::log_store::LogStore;
use super::snapshot::SnapshotStore;
use super::state_machine::{Shared, StateMachine};
use super::*;
use crate::env::real::{RealDisk, WallClock};
use crate::types::{NodeId, TopicId};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let snapshots = SnapshotStore { disk: Arc::new(RealDisk), dir: dir.path().to_owned() };
        let machine = StateMachine::open(snapshots, Arc::new(Shared::default())).unwrap();
        Ok((dir, store, machine))
    }
}

#[test]
fn the_stores_pass_openrafts_suite() {
    Suite::test_all(Builder).unwrap();
}

fn config(dir: &Path) -> QuorumConfig {
    QuorumConfig {
        dir: dir.join("metadata"),
        node_id: NodeId(1),
        voters: [(NodeId(1), "localhost:9093".to_owned())].into(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(WallClock),
        bootstrap: vec![MetadataRecord::ClusterId { cluster_id: "the-cluster".into() }],
    }
}

fn topic(number: u128) -> Vec<MetadataRecord> {
    vec![MetadataRecord::Topic { name: format!("topic-{number}"), id: TopicId(Uuid::from_u128(number)) }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_proposed_is_there_again_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    println!("first open: {:?}", started.elapsed());
    let mut subscription = quorum.subscribe();
    for number in 1..=20 {
        let index = quorum.propose(topic(number)).await.unwrap();
        assert!(quorum.wait_applied(index).await);
    }
    assert_eq!(quorum.image().topic_count(), 20);
    let published = subscription.next().await.unwrap();
    assert_eq!(published.delta.topics_changed.len(), 20);
    let status = quorum.status();
    assert_eq!((status.leader_id, status.voters.len()), (Some(NodeId(1)), 1));
    assert_eq!(status.high_watermark, status.voters[0].log_end_offset);
    let refused = quorum.propose(topic(1)).await;
    assert!(matches!(refused, Err(ProposeError::Refused(_))), "{refused:?}");
    let image = quorum.image();
    quorum.shutdown().await;
    drop(quorum);
    let started = Instant::now();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    println!("second open: {:?}", started.elapsed());
    assert_eq!(quorum.image(), image);
    assert_eq!(image.cluster_id().map(|id| &**id), Some("the-cluster"));
    quorum.propose(topic(21)).await.unwrap();
    quorum.shutdown().await;
}
