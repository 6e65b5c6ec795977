//! What those who ask the controller are told while the quorum does not answer.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::tests::CONFIG;
use super::*;
use crate::env::real;
use crate::raft::MetadataQuorum;
use crate::raft::test_cluster::Cluster;

pub(super) fn create(name: &str) -> CreateTopics {
    CreateTopics { topics: vec![NewTopic::named(name, 1)], validate_only: false }
}

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// A controller on a quorum, with the machine's surroundings.
pub(super) fn start(quorum: &MetadataQuorum, channel: Option<Arc<dyn ControllerChannel>>) -> Controller {
    let options = ControllerOptions {
        config: CONFIG,
        channel,
        session_timeout: Duration::from_secs(3),
        balancing: NEVER,
        broker_listener: "PLAINTEXT".into(),
    };
    Controller::start(quorum.clone(), options, &real::surroundings())
}

/// Nothing is balanced while a test looks.
pub(super) const NEVER: Balancing = Balancing { preferred: None, unclean: Duration::from_secs(1_000_000) };

pub(super) fn registration(id: i32) -> BrokerRegistration {
    BrokerRegistration {
        id: crate::types::NodeId(id),
        incarnation_id: uuid::Uuid::from_u128(id as u128),
        listeners: Vec::new(),
        rack: None,
        log_directories: Vec::new(),
        features: Default::default(),
        is_first: true,
        previous_epoch: -1,
        accepts_missing_data: false,
        unfence: true,
    }
}

#[test]
fn who_asks_a_controller_without_a_majority_is_answered_in_time_and_what_was_not_decided_never_is() {
    run(async {
        let cluster = Cluster::start(3, 1).await;
        cluster.elect(1).await;
        let controller = start(&cluster.running[&1], None);
        let handle = controller.handle();
        handle.register_broker(registration(1)).await.unwrap();
        cluster.cut(&[1]);

        // One that is proposed and whose outcome nobody knows, and more than the queue holds behind it.
        let asked = tokio::time::Instant::now();
        let within = handle.within_ms(2000);
        let requests: Vec<_> = (0..2000)
            .map(|number| {
                let within = within.clone();
                tokio::spawn(async move { within.create_topics(create(&format!("t{number}"))).await })
            })
            .collect();
        for request in requests {
            let error = request.await.unwrap().err().unwrap();
            assert_eq!(error.code, ResponseError::RequestTimedOut, "{error}");
        }
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());

        // With a majority again it goes on by itself; whoever went away is not decided for any more.
        cluster.cut(&[]);
        let leader = cluster.leader().await;
        cluster.elect(1).await;
        handle.within_ms(20_000).create_topics(create("later")).await.unwrap();
        for image in cluster.settle().await {
            assert!(image.topic("later").is_some(), "leader was {leader}");
            // Those that were decided together with the first one, at most.
            assert!(image.topic_count() <= 257, "{} topics", image.topic_count());
            assert!(image.topic("t1999").is_none());
        }
        controller.stop().await;
        cluster.stop().await;
    });
}

#[test]
fn a_controller_stops_though_its_proposal_has_no_outcome() {
    run(async {
        let cluster = Cluster::start(3, 2).await;
        cluster.elect(1).await;
        let controller = start(&cluster.running[&1], None);
        let handle = controller.handle();
        handle.register_broker(registration(1)).await.unwrap();
        cluster.cut(&[1]);
        let request = tokio::spawn(async move { handle.create_topics(create("a")).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        controller.stop().await;
        // It was proposed: the next leader may have it.
        assert_eq!(request.await.unwrap().err().unwrap().code, ResponseError::RequestTimedOut);
        cluster.stop().await;
    });
}
