//! Several whole nodes in this process, each on a runtime of its own: what is dropped with it is gone as a process is that
//! was killed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use raftsman::config::BrokerConfig;
use raftsman::env::real;
use raftsman::metadata::MetadataImage;
use raftsman::node::Node;
use raftsman::server::Broker;
use raftsman::types::NodeId;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::PATIENCE;

struct Place {
    folder: TempDir,
    ports: [u16; 2],
    running: Option<(Node, Runtime)>,
}

/// Nodes 1 to n, each broker and controller.
pub(crate) struct TestCluster {
    places: BTreeMap<i32, Place>,
    overrides: Vec<(String, String)>,
}

/// Ports that were free just now.
fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

impl TestCluster {
    /// All run, and none is fenced.
    pub(crate) fn start(count: i32, overrides: &[(&str, &str)]) -> Self {
        let place =
            |id| (id, Place { folder: tempfile::tempdir().unwrap(), ports: free_ports(), running: None });
        let overrides = overrides.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut cluster = Self { places: (1..=count).map(place).collect(), overrides };
        cluster.start_nodes(&(1..=count).collect::<Vec<_>>());
        cluster.wait_for("all brokers are there", |image| {
            image.brokers().len() == count as usize && image.brokers().values().all(|it| it.is_active())
        });
        cluster
    }

    fn config(&self, id: i32) -> BrokerConfig {
        let place = &self.places[&id];
        let voters = self.places.iter().map(|(id, place)| format!("{id}@127.0.0.1:{}", place.ports[1]));
        let [port, controller_port] = place.ports;
        let own = [
            ("node.id", id.to_string()),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}")),
            ("controller.quorum.voters", voters.collect::<Vec<_>>().join(",")),
            ("raftsman.admin.listener", String::new()),
            ("log.dirs", place.folder.path().to_str().unwrap().to_owned()),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
        let values: BTreeMap<_, _> = own.chain(self.overrides.iter().cloned()).collect();
        BrokerConfig::from_values(values).unwrap().0
    }

    /// Starts nodes beside each other, and waits until they serve.
    pub(crate) fn start_nodes(&mut self, ids: &[i32]) {
        let starting: Vec<_> = ids
            .iter()
            .map(|id| {
                let (id, config) = (*id, self.config(*id));
                let start = move || {
                    let mut runtime = tokio::runtime::Builder::new_multi_thread();
                    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
                    let node = runtime.block_on(async {
                        let starting = Node::start(config, real::surroundings());
                        tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap()
                    });
                    (id, node, runtime)
                };
                std::thread::spawn(start)
            })
            .collect();
        for thread in starting {
            let (id, node, runtime) = thread.join().unwrap();
            self.places.get_mut(&id).unwrap().running = Some((node, runtime));
        }
    }

    /// Ends a node as `kill -9` ends a process.
    pub(crate) fn kill(&mut self, id: i32) {
        let (node, runtime) = self.places.get_mut(&id).unwrap().running.take().unwrap();
        // Its sockets go with its tasks.
        drop(node);
        runtime.shutdown_timeout(Duration::from_secs(1));
    }

    /// Ends a node as SIGTERM does.
    pub(crate) fn stop(&mut self, id: i32) {
        let (node, runtime) = self.places.get_mut(&id).unwrap().running.take().unwrap();
        runtime.block_on(node.stop());
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = i32> + '_ {
        self.places.iter().filter(|(_, place)| place.running.is_some()).map(|(id, _)| *id)
    }

    pub(crate) fn node(&self, id: i32) -> &Node {
        &self.places[&id].running.as_ref().expect("it runs").0
    }

    pub(crate) fn broker(&self, id: i32) -> Arc<Broker> {
        self.node(id).broker.clone()
    }

    pub(crate) fn address(&self, id: i32) -> SocketAddr {
        self.node(id).addresses[0]
    }

    /// Runs on the runtime of a node.
    pub(crate) fn on<T>(&self, id: i32, work: impl Future<Output = T>) -> T {
        self.places[&id].running.as_ref().expect("it runs").1.block_on(work)
    }

    /// The node that leads the quorum, in the eyes of all that run.
    pub(crate) fn controller(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut leaders: Vec<_> =
                self.running().map(|id| self.broker(id).quorum.leader()).collect::<Vec<_>>();
            leaders.dedup();
            if let [Some(NodeId(leader))] = leaders[..]
                && self.places[&leader].running.is_some()
            {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads: {leaders:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it is so on every node that runs; gives how long it took.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&MetadataImage) -> bool) -> Duration {
        let start = Instant::now();
        while !self.running().all(|id| is_so(&self.broker(id).image())) {
            if start.elapsed() > PATIENCE {
                let images: Vec<_> = self.running().map(|id| (id, self.broker(id).image())).collect();
                panic!("not in time: {what}: {images:#?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        start.elapsed()
    }

    /// Stops all that run.
    pub(crate) fn stop_all(mut self) {
        let running: Vec<i32> = self.running().collect();
        for id in running {
            self.stop(id);
        }
    }
}
