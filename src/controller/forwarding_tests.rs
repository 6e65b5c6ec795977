//! Requests that are asked of one node and decided by another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use super::actor_tests::{create, registration, run, start};
use super::forwarding::ControllerRequest;
use super::*;
use crate::env::Pending;
use crate::raft::test_cluster::Cluster;
use crate::types::NodeId;

/// The controllers of the nodes that run, and how their answers fare.
#[derive(Clone, Debug, Default)]
struct Nodes {
    handles: Arc<Mutex<BTreeMap<NodeId, ControllerHandle>>>,
    /// So many of the next answers get lost.
    losing: Arc<AtomicU64>,
    /// So many of the next requests are never answered.
    silent: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<NodeId>>>,
}

impl ControllerChannel for Nodes {
    fn call(
        &self,
        controller: NodeId,
        request: Bytes,
        _: bool,
        within: Duration,
    ) -> Pending<'_, Result<Bytes, ChannelError>> {
        let late = |_| Err(ChannelError::Lost("no answer in time".into()));
        let call = async move {
            self.asked.lock().push(controller);
            let handle = self.handles.lock().get(&controller).cloned();
            let handle = handle.ok_or_else(|| ChannelError::NotSent("connection refused".into()))?;
            let lose = |left: u64| left.checked_sub(1);
            if self.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                std::future::pending::<()>().await;
            }
            let answer = handle.answer_forwarded(0, &request).await.unwrap();
            if self.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                return Err(ChannelError::Lost("the connection was closed".into()));
            }
            Ok(answer.into())
        };
        Box::pin(async move { tokio::time::timeout(within, call).await.unwrap_or_else(late) })
    }
}

/// Three nodes, of which the first leads.
struct Three {
    cluster: Cluster,
    controllers: BTreeMap<i32, Controller>,
    nodes: Nodes,
}

impl Three {
    async fn start(seed: u64) -> Self {
        let cluster = Cluster::start(3, seed).await;
        cluster.elect(1).await;
        let nodes = Nodes::default();
        let mut controllers = BTreeMap::new();
        for (id, quorum) in &cluster.running {
            let channel = Some(Arc::new(nodes.clone()) as Arc<dyn ControllerChannel>);
            let controller = start(quorum, channel);
            nodes.handles.lock().insert(NodeId(*id), controller.handle());
            controllers.insert(*id, controller);
        }
        let three = Self { cluster, controllers, nodes };
        three.handle(1).register_broker(registration(1)).await.unwrap();
        three
    }

    fn handle(&self, id: i32) -> ControllerHandle {
        self.controllers[&id].handle()
    }

    fn knows(&self, id: i32, topic: &str) -> bool {
        self.cluster.running[&id].image().topic(topic).is_some()
    }

    async fn kill(&mut self, id: i32) {
        self.nodes.handles.lock().remove(&NodeId(id));
        self.cluster.kill(id, false).await;
        self.controllers.remove(&id).unwrap().stop().await;
    }

    async fn stop(self) {
        self.nodes.handles.lock().clear();
        for (_, controller) in self.controllers {
            controller.stop().await;
        }
        self.cluster.stop().await;
    }
}

#[test]
fn any_node_takes_a_request_and_sees_what_it_led_to_when_it_is_answered() {
    run(async {
        let three = Three::start(1).await;
        for id in 1..=3 {
            let name = format!("from-{id}");
            let answers = three.handle(id).create_topics(create(&name)).await.unwrap();
            let created = answers[0].1.as_ref().unwrap();
            let known = three.cluster.running[&id].image().topic(&name).map(|topic| topic.id);
            assert_eq!(known, Some(created.id));
            let again = three.handle(id).create_topics(create(&name)).await.unwrap();
            let error = again[0].1.as_ref().unwrap_err();
            assert_eq!(error.code, ResponseError::TopicAlreadyExists);
            assert_eq!(error.message, format!("Topic '{name}' already exists."));
        }
        let unknown = BrokerIdentity { id: NodeId(9), epoch: 4 };
        let refused = three.handle(2).change_broker(unknown, BrokerTransition::Fence).await.unwrap_err();
        assert_eq!(refused.code, ResponseError::StaleBrokerEpoch);
        three.stop().await;
    });
}

#[test]
fn a_request_whose_answer_got_lost_is_repeated_only_where_that_does_no_harm() {
    run(async {
        let three = Three::start(2).await;
        let handle = three.handle(2);
        three.nodes.losing.store(1, Ordering::SeqCst);
        let error = handle.create_topics(create("once")).await.unwrap_err();
        assert_eq!(error.code, ResponseError::RequestTimedOut);
        assert!(error.message.contains("It is not known"), "{error}");
        assert!(three.knows(1, "once"), "it was decided all the same");

        three.nodes.losing.store(2, Ordering::SeqCst);
        let epoch = handle.register_broker(registration(2)).await.unwrap();
        let registered = three.cluster.running[&2].image().broker(NodeId(2)).map(|broker| broker.epoch);
        assert_eq!(registered, Some(epoch), "one registration, one epoch");
        assert_eq!(three.nodes.asked.lock().len(), 4);
        three.stop().await;
    });
}

#[test]
fn a_registration_that_a_machine_took_along_when_it_lost_its_power_is_sent_again() {
    run(async {
        let three = Three::start(6).await;
        three.nodes.silent.store(1, Ordering::SeqCst);
        let asked = tokio::time::Instant::now();
        three.handle(2).within(Duration::from_secs(60)).register_broker(registration(2)).await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert_eq!(three.nodes.asked.lock().len(), 2);
        three.stop().await;
    });
}

#[test]
fn who_knows_of_an_earlier_leader_is_told_of_the_later_one() {
    run(async {
        let three = Three::start(3).await;
        three.cluster.cut(&[3]);
        three.cluster.elect(2).await;
        assert_eq!(three.cluster.running[&3].leader(), Some(NodeId(1)));
        three.nodes.asked.lock().clear();
        let handle = three.handle(3).within(Duration::from_secs(1));
        let answers = handle.create_topics(create("a")).await.unwrap();
        assert!(answers[0].1.is_ok() && three.knows(2, "a"));
        assert_eq!(*three.nodes.asked.lock(), [NodeId(1), NodeId(2)]);
        three.stop().await;
    });
}

#[test]
fn a_request_waits_for_the_next_leader_and_not_beyond_its_time() {
    run(async {
        let mut three = Three::start(4).await;
        three.kill(1).await;
        let answers = three.handle(3).create_topics(create("a")).await.unwrap();
        assert!(answers[0].1.is_ok() && three.knows(3, "a"));

        let leader = three.cluster.leader().await;
        three.kill(leader).await;
        let left = 5 - leader;
        let asked = tokio::time::Instant::now();
        let within = three.handle(left).within_ms(2_000);
        let error = within.create_topics(create("b")).await.unwrap_err();
        assert_eq!(error.code, ResponseError::RequestTimedOut);
        assert!(asked.elapsed() <= Duration::from_millis(2_100), "{:?}", asked.elapsed());
        three.stop().await;
    });
}

#[test]
fn what_a_broker_needs_goes_before_the_topics_that_wait() {
    run(async {
        let three = Three::start(5).await;
        let handle = three.handle(1);
        let topics = |number: i32| CreateTopics {
            topics: vec![NewTopic::named(format!("large-{number}"), 6_000)],
            validate_only: false,
        };
        let creating: Vec<_> = (0..4)
            .map(|number| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.create_topics(topics(number)).await.unwrap() })
            })
            .collect();
        tokio::task::yield_now().await;
        let epoch = three.handle(2).register_broker(registration(2)).await.unwrap();
        let broker = BrokerIdentity { id: NodeId(2), epoch };
        three.handle(2).change_broker(broker, BrokerTransition::Fence).await.unwrap();
        let waiting = creating.iter().filter(|task| !task.is_finished()).count();
        assert!(waiting >= 1, "fenced behind all of them");
        for task in creating {
            assert!(task.await.unwrap()[0].1.is_ok());
        }
        three.stop().await;
    });
}

#[test]
fn requests_and_answers_are_the_same_after_the_wire() {
    let change = ConfigChange {
        key: "retention.ms".into(),
        operation: ConfigOperation::Append,
        value: Some("1".into()),
    };
    let requests = [
        create("a").to_any(),
        IncrementalAlterConfigs {
            resources: vec![(crate::metadata::ConfigResource::topic("a"), vec![change])],
            validate_only: true,
        }
        .to_any(),
        registration(3).to_any(),
        AlterPartitions { broker: BrokerIdentity { id: NodeId(1), epoch: 2 }, partitions: vec![] }.to_any(),
    ];
    for request in requests {
        let payload = forwarding::encode(Duration::from_secs(3), request.clone()).unwrap();
        let (within, decoded) = forwarding::decode(&payload).unwrap();
        assert_eq!((within, decoded), (Duration::from_secs(3), request));
    }
    let answer: Answers<String, ()> =
        vec![("a".into(), Err(ControllerError::silent(ResponseError::Unknown(4321))))];
    let text = serde_json::to_vec(&answer).unwrap();
    assert_eq!(serde_json::from_slice::<Answers<String, ()>>(&text).unwrap(), answer);
    assert!(forwarding::decode(b"{\"within_ms\":1,\"request\":{\"Explode\":{}}}").is_err());
}
