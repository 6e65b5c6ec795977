use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::controller::{CreateTopics, NewTopic};
use crate::env::real;
use crate::env::sim::{Bad, SimDisk};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_metadata_cannot_be_synced_says_why_and_ends() {
    let values = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("log.dirs", "/data"),
        ("raftsman.admin.listener", ""),
        ("auto.create.topics.enable", "false"),
    ];
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (config, _) = BrokerConfig::from_values(values.into()).unwrap();
    let disk = SimDisk::new(1);
    let surroundings = Surroundings { disk: Arc::new(disk.clone()), ..real::surroundings() };
    let node = Node::start(config, surroundings).await.unwrap();
    let broker = node.broker.clone();
    assert_eq!(admin::not_ready(&broker).await, Vec::<String>::new());

    disk.break_path(".journal", Bad { syncs: true, ..Bad::default() });
    let topics = vec![NewTopic::named("a", 1)];
    let created = broker.controller.create_topics(CreateTopics { topics, validate_only: false }).await;
    assert!(created.is_err(), "{created:?}");
    let why = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(why.contains("/data") && why.contains(".journal: the sync failed"), "{why}");
    assert!(admin::not_ready(&broker).await[0].contains("has ended on this node"));
    tokio::time::timeout(PATIENCE, node.fail()).await.unwrap();
}
