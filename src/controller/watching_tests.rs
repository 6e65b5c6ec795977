//! Who is fenced, and when.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::actor_tests::{registration, run};
use super::tests::CONFIG;
use super::*;
use crate::env::{Acceptor, ListenOptions, Network, Pending, Socket, Surroundings, real};
use crate::metadata::Listener;
use crate::raft::test_cluster::Cluster;
use crate::types::NodeId;

const SESSION: Duration = Duration::from_secs(3);

/// A network on which nobody answers, or where nobody listens.
#[derive(Debug, Default)]
struct Doors {
    are_gone: AtomicBool,
    looks: AtomicU64,
}

impl Network for Doors {
    fn bind<'a>(
        &'a self,
        _: &'a str,
        _: u16,
        _: ListenOptions,
    ) -> Pending<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, io::Result<Socket>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let kind = match self.are_gone.load(Ordering::SeqCst) {
            true => io::ErrorKind::ConnectionRefused,
            false => io::ErrorKind::TimedOut,
        };
        Box::pin(async move { Err(kind.into()) })
    }

    fn host_name(&self) -> String {
        "localhost".into()
    }
}

/// Three controllers, of which the first leads, and the brokers 1 to 3.
struct Three {
    cluster: Cluster,
    controllers: BTreeMap<i32, Controller>,
    doors: Arc<Doors>,
    brokers: Vec<BrokerIdentity>,
}

impl Three {
    async fn start(seed: u64) -> Self {
        let cluster = Cluster::start(3, seed).await;
        cluster.elect(1).await;
        let doors = Arc::new(Doors::default());
        let surroundings = Surroundings { network: doors.clone(), ..real::surroundings() };
        let start = |quorum: &crate::raft::MetadataQuorum| {
            let options = ControllerOptions {
                config: CONFIG,
                channel: None,
                session_timeout: SESSION,
                balancing: super::actor_tests::NEVER,
                broker_listener: "INSIDE".into(),
            };
            Controller::start(quorum.clone(), options, &surroundings)
        };
        let controllers: BTreeMap<_, _> =
            cluster.running.iter().map(|(id, quorum)| (*id, start(quorum))).collect();
        let mut brokers = Vec::new();
        for id in 1..=3 {
            let listener =
                Listener { name: "INSIDE".into(), host: "h".into(), port: 9000, security_protocol: 0 };
            let request = BrokerRegistration { listeners: vec![listener], ..registration(id) };
            let epoch = controllers[&1].handle().register_broker(request).await.unwrap();
            brokers.push(BrokerIdentity { id: NodeId(id), epoch });
        }
        Self { cluster, controllers, doors, brokers }
    }

    /// Of a broker other than that of the active controller, over its connection, whose number is its own.
    async fn beat(&self, controller: i32, id: i32) -> Result<HeartbeatAnswer, ControllerError> {
        let beat = Heartbeat { broker: self.brokers[id as usize - 1], may_serve: true };
        let request = forwarding::encode(SESSION, forwarding::AnyRequest::Heartbeat(beat)).unwrap();
        let handle = self.controllers[&controller].handle();
        let answer = handle.answer_forwarded(id as u64, &request).await.unwrap();
        type Answer = forwarding::Outcome<Result<HeartbeatAnswer, ControllerError>>;
        match serde_json::from_slice::<Answer>(&answer).unwrap() {
            forwarding::Outcome::Answered { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    fn fenced(&self, seen_by: i32) -> Vec<i32> {
        let image = self.cluster.running[&seen_by].image();
        image.brokers().values().filter(|broker| broker.fenced).map(|broker| broker.id.0).collect()
    }

    async fn stop(self) {
        for (_, controller) in self.controllers {
            controller.stop().await;
        }
        self.cluster.stop().await;
    }
}

#[test]
fn a_silent_broker_is_fenced_when_its_session_is_over_and_unfenced_when_it_is_heard_again() {
    run(async {
        let three = Three::start(1).await;
        for _ in 0..20 {
            three.beat(1, 2).await.unwrap();
            three.beat(1, 3).await.unwrap();
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(three.fenced(1), [] as [i32; 0]);
        let silent = Instant::now();
        while three.fenced(1).is_empty() {
            three.beat(1, 2).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(three.fenced(1), [3], "not the controller's own, which does not beat here");
        let waited = silent.elapsed();
        assert!(
            waited > SESSION - Duration::from_millis(600) && waited < SESSION + SESSION / 4,
            "{waited:?}"
        );
        let answer = three.beat(1, 3).await.unwrap();
        assert!(!answer.is_fenced);
        assert_eq!(three.fenced(1), [] as [i32; 0]);
        three.stop().await;
    });
}

#[test]
fn a_broker_whose_connection_closes_and_whose_address_refuses_is_fenced_at_once() {
    run(async {
        let three = Three::start(2).await;
        // Those of the new active controller's first look.
        sleep(SESSION).await;
        three.beat(1, 2).await.unwrap();
        three.beat(1, 3).await.unwrap();
        // It is silent, but nothing proves that it is gone: only its session's end does.
        let closed = Instant::now();
        three.controllers[&1].handle().connection_closed(3);
        let looks = three.doors.looks.load(Ordering::SeqCst);
        while three.doors.looks.load(Ordering::SeqCst) < looks + 5 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(three.fenced(1), [] as [i32; 0]);
        // Its process ends only now.
        three.doors.are_gone.store(true, Ordering::SeqCst);
        while three.fenced(1).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(three.fenced(1), [3]);
        assert!(closed.elapsed() < Duration::from_secs(1), "{:?}", closed.elapsed());

        // Connections of others mean nothing, nor does a closed one of a broker that is heard over a new one.
        three.controllers[&1].handle().connection_closed(17);
        three.doors.are_gone.store(false, Ordering::SeqCst);
        three.beat(1, 2).await.unwrap();
        three.controllers[&1].handle().connection_closed(2);
        sleep(Duration::from_millis(1)).await;
        three.beat(1, 2).await.unwrap();
        sleep(Duration::from_millis(250)).await;
        three.doors.are_gone.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(500)).await;
        assert_eq!(three.fenced(1), [3]);
        three.stop().await;
    });
}

#[test]
fn a_new_active_controller_looks_after_everybody_at_once() {
    run(async {
        let mut three = Three::start(3).await;
        three.doors.are_gone.store(true, Ordering::SeqCst);
        // The process that was the active controller takes its broker along.
        three.cluster.kill(1, false).await;
        three.controllers.remove(&1).unwrap().stop().await;
        let leader = three.cluster.leader().await;
        let elected = Instant::now();
        while three.fenced(leader).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(three.fenced(leader).contains(&1));
        assert!(elected.elapsed() < Duration::from_secs(1), "{:?}", elected.elapsed());
        let stale = three.beat(leader, 1).await.unwrap();
        assert!(!stale.is_fenced, "it lives after all, and follows");
        three.stop().await;
    });
}
