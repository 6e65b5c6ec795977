//! Several whole nodes in this process, each on a runtime of its own: what is dropped with it is gone as a process is that
//! was killed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use raftsman::config::BrokerConfig;
use raftsman::env::real;
use raftsman::metadata::MetadataImage;
use raftsman::node::Node;
use raftsman::node::formatting::{self, Bootstrap, FirstQuorum, Formatting, InitialController};
use raftsman::server::Broker;
use raftsman::types::NodeId;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::PATIENCE;

struct Place {
    folder: TempDir,
    ports: [u16; 2],
    /// `process.roles`
    roles: &'static str,
    running: Option<(Node, Runtime)>,
}

impl Place {
    fn new(roles: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), ports: [free_port(), free_port()], roles, running: None }
    }

    fn has(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
}

/// Threads of each node.
const WORKERS: usize = 2;

/// A node that does nothing, as long as this is held.
struct Paused(Vec<std::sync::mpsc::Sender<()>>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Both roles.
pub(crate) const BOTH: &str = "broker,controller";

/// Nodes 1 to n, each broker and controller unless told otherwise.
pub(crate) struct TestCluster {
    places: BTreeMap<i32, Place>,
    overrides: Vec<(String, String)>,
    /// The first node is a cluster by itself, and takes the others in.
    is_dynamic: bool,
}

/// A port that was free just now, of those that the kernel gives to nobody by itself: one that it has given out may be the near
/// end of somebody's connection by the time a node listens.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    let mut free = (0..COUNT).filter_map(|_| {
        // Processes begin apart from each other.
        let at = std::process::id().wrapping_mul(997).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + at % COUNT).unwrap();
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    free.next().expect("a port is free")
}

impl TestCluster {
    /// All run, and none is fenced.
    pub(crate) fn start(count: i32, overrides: &[(&str, &str)]) -> Self {
        Self::start_roles(&vec![BOTH; count as usize], overrides)
    }

    /// Nodes with these roles, and those that are controllers in `controller.quorum.voters`.
    pub(crate) fn start_roles(roles: &[&'static str], overrides: &[(&str, &str)]) -> Self {
        Self::begin(roles, overrides, false)
    }

    /// One node that others can join (`controller.quorum.bootstrap.servers`); see [`TestCluster::add`].
    pub(crate) fn start_first(overrides: &[(&str, &str)]) -> Self {
        Self::begin(&[BOTH], overrides, true)
    }

    /// The same, with what is in its folder already.
    pub(crate) fn start_first_in(fill: impl FnOnce(&std::path::Path)) -> Self {
        let place = Place::new(BOTH);
        fill(place.folder.path());
        let mut cluster = Self { places: [(1, place)].into(), overrides: Vec::new(), is_dynamic: true };
        cluster.start_nodes(&[1]);
        cluster.wait_for_brokers();
        cluster
    }

    /// Nodes of both roles whose folders were formatted before, as these initial controllers.
    pub(crate) fn start_formatted(cluster_id: &str, directories: &[uuid::Uuid]) -> Self {
        let places = (1..).zip(directories.iter().map(|_| Place::new(BOTH))).collect();
        let mut cluster = Self { places, overrides: Vec::new(), is_dynamic: true };
        let named = cluster.places.iter().zip(directories).map(|((id, place), directory_id)| {
            let (host, port) = ("127.0.0.1".to_owned(), place.ports[1]);
            InitialController { id: *id, host, port, directory_id: *directory_id }
        });
        let formatting = Formatting {
            cluster_id: cluster_id.to_owned(),
            bootstrap: Bootstrap {
                quorum: FirstQuorum::InitialControllers(named.collect()),
                features: BTreeMap::new(),
            },
            ignores_formatted: false,
        };
        let surroundings = real::surroundings();
        let all: Vec<_> = cluster.places.keys().copied().collect();
        for id in &all {
            let config = cluster.config(*id);
            formatting::format(&*surroundings.disk, &*surroundings.chance, &config, &formatting).unwrap();
        }
        cluster.start_nodes(&all);
        cluster.wait_for_brokers();
        cluster
    }

    fn begin(roles: &[&'static str], overrides: &[(&str, &str)], is_dynamic: bool) -> Self {
        let places = (1..).zip(roles.iter().map(|roles| Place::new(roles))).collect();
        let overrides = overrides.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut cluster = Self { places, overrides, is_dynamic };
        let all: Vec<_> = cluster.places.keys().copied().collect();
        cluster.start_nodes(&all);
        cluster.wait_for_brokers();
        cluster
    }

    /// Another node that joins, and waits until it is there.
    pub(crate) fn add(&mut self, id: i32, roles: &'static str) {
        self.places.insert(id, Place::new(roles));
        self.start_nodes(&[id]);
        self.wait_for_brokers();
    }

    /// Waits until all that run and are brokers are known as such.
    pub(crate) fn wait_for_brokers(&self) {
        let brokers: Vec<_> = self.running().filter(|id| self.places[id].has("broker")).collect();
        self.wait_for("all brokers are there", |image| {
            brokers.iter().all(|id| image.broker(NodeId(*id)).is_some_and(|broker| broker.is_active()))
        });
    }

    /// Where the controller of a node listens.
    pub(crate) fn controller_address(&self, id: i32) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.places[&id].ports[1]))
    }

    /// The folder of a node.
    pub(crate) fn folder(&self, id: i32) -> &std::path::Path {
        self.places[&id].folder.path()
    }

    /// Gives a node that does not run an empty folder.
    pub(crate) fn wipe(&mut self, id: i32) {
        self.places.get_mut(&id).unwrap().folder = tempfile::tempdir().unwrap();
    }

    fn config(&self, id: i32) -> BrokerConfig {
        let place = &self.places[&id];
        let controllers = || self.places.iter().filter(|(_, place)| place.has("controller"));
        let [port, controller_port] = place.ports;
        let broker = format!("PLAINTEXT://127.0.0.1:{port}");
        let controller = format!("CONTROLLER://127.0.0.1:{controller_port}");
        let listeners = match (place.has("broker"), place.has("controller")) {
            (true, true) => format!("{broker},{controller}"),
            (true, false) => broker,
            _ => controller,
        };
        let quorum = match self.is_dynamic {
            true => {
                let first = controllers().next().unwrap().1;
                ("controller.quorum.bootstrap.servers", format!("127.0.0.1:{}", first.ports[1]))
            }
            false => {
                let voters = controllers().map(|(id, place)| format!("{id}@127.0.0.1:{}", place.ports[1]));
                ("controller.quorum.voters", voters.collect::<Vec<_>>().join(","))
            }
        };
        let own = [
            ("node.id", id.to_string()),
            ("process.roles", place.roles.to_owned()),
            ("listeners", listeners),
            quorum,
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
                    let runtime = runtime.worker_threads(WORKERS).enable_all().build().unwrap();
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

    /// Lets a node do nothing until what is given is dropped, as SIGSTOP does with a process.
    pub(crate) fn pause(&self, id: i32) -> impl Drop + use<> {
        let runtime = &self.places[&id].running.as_ref().expect("it runs").1;
        let (reached, all_reached) = std::sync::mpsc::channel();
        let releases: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (release, released) = std::sync::mpsc::channel::<()>();
                let reached = reached.clone();
                runtime.spawn(async move {
                    reached.send(()).unwrap();
                    _ = released.recv();
                });
                release
            })
            .collect();
        (0..WORKERS).for_each(|_| all_reached.recv_timeout(PATIENCE).unwrap());
        Paused(releases)
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

    /// Ends all that run at once: in order, the last ones would wait for a majority that is gone.
    pub(crate) fn kill_all(mut self) {
        let running: Vec<i32> = self.running().collect();
        for id in running {
            self.kill(id);
        }
    }

    /// Stops all that run.
    pub(crate) fn stop_all(mut self) {
        // Those that are only controllers come first, and are needed to the end.
        let running: Vec<i32> = self.running().collect();
        for id in running.into_iter().rev() {
            self.stop(id);
        }
    }
}
