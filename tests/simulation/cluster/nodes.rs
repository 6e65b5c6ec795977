//! The nodes' machines and processes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use raftsman::config::BrokerConfig;
use raftsman::env::sim::Faults;
use raftsman::env::sim::world::{MachineId, World};
use raftsman::node::Node as Process;
use raftsman::server::Broker;

use super::Promise;

/// `broker.session.timeout.ms`
pub(super) const SESSION_MS: u64 = 1500;

/// What a node's process has come to, once it serves.
type Serving = Rc<RefCell<Option<Arc<Broker>>>>;

pub(super) struct Node {
    pub machine: MachineId,
    config: BrokerConfig,
    serving: Serving,
    /// It is started again then.
    back_at_ms: Option<u64>,
    /// It was asked to end, and is started again so long after it has.
    ending: Option<u64>,
    /// Its disk may fail: so it may end.
    has_bad_disk: bool,
}

pub(super) struct Nodes {
    nodes: Vec<Node>,
}

fn config(id: usize, count: usize, promise: Promise) -> Result<BrokerConfig, String> {
    let voters = (1..=count).map(|id| format!("{id}@10.0.0.{id}:9093")).collect::<Vec<_>>().join(",");
    let mut values: BTreeMap<String, String> = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("listeners", format!("PLAINTEXT://10.0.0.{id}:9092,CONTROLLER://10.0.0.{id}:9093")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.voters", voters),
        ("log.dirs", "/data".to_owned()),
        ("raftsman.admin.listener", String::new()),
        ("default.replication.factor", "3".to_owned()),
        ("offsets.topic.replication.factor", "3".to_owned()),
        ("offsets.topic.num.partitions", "2".to_owned()),
        ("min.insync.replicas", "2".to_owned()),
        // More happens in a run when silence is noticed early.
        ("broker.session.timeout.ms", SESSION_MS.to_string()),
        ("broker.heartbeat.interval.ms", "300".to_owned()),
        ("replica.lag.time.max.ms", "1500".to_owned()),
        ("replica.fetch.backoff.ms", "100".to_owned()),
        ("log.flush.offset.checkpoint.interval.ms", "700".to_owned()),
        ("log.flush.start.offset.checkpoint.interval.ms", "700".to_owned()),
        ("replica.high.watermark.checkpoint.interval.ms", "700".to_owned()),
        ("log.segment.delete.delay.ms", "300".to_owned()),
        ("auto.leader.rebalance.enable", "true".to_owned()),
        ("leader.imbalance.check.interval.seconds", "3".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if promise == Promise::Synced {
        values.insert("log.flush.interval.messages".to_owned(), "1".to_owned());
    }
    let (config, remarks) = BrokerConfig::from_values(values).map_err(|error| error.to_string())?;
    assert!(remarks.unknown.is_empty(), "{:?}", remarks.unknown);
    Ok(config)
}

impl Nodes {
    pub(super) fn new(world: &mut World, count: usize, promise: Promise) -> Result<Self, String> {
        let nodes = (1..=count).map(|id| {
            let config = config(id, count, promise)?;
            let machine = world.add_machine(&format!("node-{id}"));
            let serving = Serving::default();
            Ok(Node { machine, config, serving, back_at_ms: None, ending: None, has_bad_disk: false })
        });
        Ok(Self { nodes: nodes.collect::<Result<_, String>>()? })
    }

    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn ip(&self, world: &World, at: usize) -> IpAddr {
        world.ip(self.nodes[at].machine)
    }

    pub(super) fn machine(&self, at: usize) -> MachineId {
        self.nodes[at].machine
    }

    /// The brokers that serve now, with their places.
    pub(super) fn serving(&self) -> impl Iterator<Item = (usize, Arc<Broker>)> + '_ {
        self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.serving.borrow().clone()?)))
    }

    pub(super) fn is_serving(&self, at: usize) -> bool {
        self.nodes[at].serving.borrow().is_some()
    }

    /// It runs and nobody has asked it to end.
    pub(super) fn is_up(&self, world: &World, at: usize) -> bool {
        world.is_running(self.nodes[at].machine) && self.nodes[at].ending.is_none()
    }

    pub(super) fn start(&mut self, world: &mut World, at: usize) {
        let node = &mut self.nodes[at];
        (node.back_at_ms, node.ending, node.has_bad_disk) = (None, None, false);
        let (config, serving) = (node.config.clone(), node.serving.clone());
        world.start(node.machine, |started| async move {
            let process =
                Process::start(config, started.surroundings).await.map_err(|error| error.to_string())?;
            *serving.borrow_mut() = Some(process.broker.clone());
            let failed = tokio::select! {
                biased;
                why = process.failed() => Some(why),
                _ = started.asked_to_end => None,
            };
            match failed {
                Some(why) => {
                    serving.take();
                    process.fail().await;
                    Err(why)
                }
                None => {
                    process.stop().await;
                    serving.take();
                    Ok(())
                }
            }
        });
    }

    /// Asks for an orderly end.
    pub(super) fn ask_to_end(&mut self, world: &mut World, at: usize) {
        self.nodes[at].ending = Some(u64::MAX);
        world.ask_to_end(self.nodes[at].machine);
    }

    /// The same, and starts it again so long after it has ended.
    pub(super) fn restart_in_order(&mut self, world: &mut World, at: usize, after_ms: u64) {
        self.ask_to_end(world, at);
        self.nodes[at].ending = Some(after_ms);
    }

    pub(super) fn kill(&mut self, world: &mut World, at: usize) {
        self.nodes[at].serving.take();
        world.kill(self.nodes[at].machine);
    }

    pub(super) fn power_cut(&mut self, world: &mut World, at: usize) {
        self.nodes[at].serving.take();
        world.power_cut(self.nodes[at].machine);
    }

    /// One that does not run is started then.
    pub(super) fn back_at(&mut self, at: usize, ms: u64) {
        self.nodes[at].back_at_ms = Some(ms);
    }

    pub(super) fn arm(&mut self, world: &World, at: usize, faults: Faults) {
        self.nodes[at].has_bad_disk = true;
        world.disk(self.nodes[at].machine).arm(faults);
    }

    /// Its disk takes more again, and the node is started if that is what it lacked.
    pub(super) fn make_room(&mut self, world: &World, at: usize) {
        let node = &mut self.nodes[at];
        world.disk(node.machine).arm(Faults::default());
        if !world.is_running(node.machine) && node.back_at_ms.is_none() {
            node.back_at_ms = Some(world.now_ms());
        }
    }

    pub(super) fn all_ended(&self, world: &World) -> bool {
        self.nodes.iter().all(|node| !world.is_running(node.machine))
    }

    /// Starts those whose time has come. No process may end by itself, unless its disk failed.
    pub(super) fn tend(&mut self, world: &mut World) -> Result<(), String> {
        let now_ms = world.now_ms();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            match world.take_ended(node.machine) {
                None => {}
                Some(Ok(())) => match node.ending.take() {
                    Some(u64::MAX) => {}
                    Some(after_ms) => node.back_at_ms = Some(now_ms + after_ms),
                    None => return Err(format!("node {} ended by itself", at + 1)),
                },
                Some(Err(_)) if node.has_bad_disk => {
                    node.serving.take();
                }
                Some(Err(error)) => return Err(format!("node {} ended: {error}", at + 1)),
            }
            if self.nodes[at].back_at_ms.is_some_and(|ms| ms <= now_ms)
                && !world.is_running(self.nodes[at].machine)
            {
                self.start(world, at);
            }
        }
        Ok(())
    }
}
