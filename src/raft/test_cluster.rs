//! Several quorum nodes in one process: each on a simulated disk of its own, with a network between them
//! that a test cuts. With tokio's clock paused, all of it runs on one thread in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{Fatal, RemoteError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot, Vote};
use parking_lot::Mutex;

use super::snapshot::SnapshotFile;
use super::*;
use crate::env::real::RealChance;
use crate::env::sim::{SimClock, SimDisk};
use crate::env::{Blocking, Pending, WorkPanicked};
use crate::metadata::PartitionRegistration;
use crate::types::{NodeId, TopicId};

/// Work that blocks runs at once, on the only thread.
#[derive(Debug)]
pub(crate) struct Inline;

impl Blocking for Inline {
    fn start(&self, work: Box<dyn FnOnce() + Send>) -> Pending<'static, Result<(), WorkPanicked>> {
        work();
        // Others have their turn, as they would while a thread works.
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(())
        })
    }

    fn pause(&self, _: Duration) {}

    fn side_by_side(&self, parts: Vec<Box<dyn FnOnce() + Send + '_>>) {
        parts.into_iter().for_each(|part| part());
    }
}

/// How a node of a test is configured.
pub(crate) fn config(disk: &SimDisk, id: i32, count: i32) -> QuorumConfig {
    QuorumConfig {
        dir: PathBuf::from("/metadata"),
        node_id: NodeId(id),
        cluster_id: Some("the-cluster".into()),
        voters: (1..=count).map(|id| (NodeId(id), Member::default())).collect(),
        first_records: Vec::new(),
        directory_id: uuid::Uuid::from_u128(id as u128),
        disk: Arc::new(disk.clone()),
        clock: SimClock::new(0),
        chance: Arc::new(RealChance),
        blocking: Arc::new(Inline),
    }
}

pub(crate) fn topic(number: u128) -> Vec<MetadataRecord> {
    let id = TopicId(uuid::Uuid::from_u128(number));
    vec![MetadataRecord::Topic { name: format!("topic-{number}"), id }]
}

/// A partition of a [`topic`], led by node 1.
pub(crate) fn partition(topic: u128, partition: i32) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRegistration {
        topic_id: TopicId(uuid::Uuid::from_u128(topic)),
        partition,
        replicas: vec![NodeId(1)],
        isr: vec![NodeId(1)],
        leader: Some(NodeId(1)),
        leader_epoch: Default::default(),
        partition_epoch: 0,
        eligible_leader_replicas: vec![],
        last_known_eligible_leader_replicas: vec![],
        adding_replicas: vec![],
        removing_replicas: vec![],
        recovering: false,
        heir: None,
    })
}

/// Who can reach whom. Clones are the same network.
#[derive(Clone, Default)]
pub(crate) struct TestNetwork {
    nodes: Arc<Mutex<BTreeMap<u64, Raft>>>,
    cut: Arc<Mutex<BTreeSet<u64>>>,
}

pub(crate) struct Wire {
    network: TestNetwork,
    from: u64,
    target: u64,
}

/// A node's end of the network.
pub(crate) struct Plug {
    network: TestNetwork,
    from: u64,
}

pub(crate) fn plug(network: &TestNetwork, from: u64) -> Plug {
    Plug { network: network.clone(), from }
}

impl RaftNetworkFactory<Types> for Plug {
    type Network = Wire;

    async fn new_client(&mut self, target: u64, _: &Member) -> Wire {
        Wire { network: self.network.clone(), from: self.from, target }
    }
}

impl Wire {
    fn reach(&self) -> Result<Raft, Unreachable> {
        let gone = || Unreachable::new(&std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let cut = self.network.cut.lock();
        if cut.contains(&self.from) || cut.contains(&self.target) {
            return Err(gone());
        }
        self.network.nodes.lock().get(&self.target).cloned().ok_or_else(gone)
    }

    fn remote<E: std::error::Error>(&self, error: E) -> RemoteError<u64, Member, E> {
        RemoteError::new(self.target, error)
    }
}

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let raft = self.reach()?;
        let answer = raft.append_entries(request).await;
        self.reach()?;
        answer.map_err(|e| self.remote(e).into())
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let raft = self.reach()?;
        let answer = raft.vote(request).await;
        self.reach()?;
        answer.map_err(|e| self.remote(e).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let raft = self.reach()?;
        let failed =
            |e: &(dyn std::error::Error + 'static)| Unreachable::new(&std::io::Error::other(e.to_string()));
        let content = snapshot.snapshot.read().map_err(|e| failed(&e))?;
        let received = raft.begin_receiving_snapshot().await.map_err(|e| failed(&e))?;
        let SnapshotFile { file, .. } = &*received;
        file.write_all_at(&mut [IoSlice::new(&content)], 0).map_err(|e| failed(&e))?;
        let sent = Snapshot { meta: snapshot.meta, snapshot: received };
        let answer = raft.install_full_snapshot(vote, sent).await;
        self.reach()?;
        answer.map_err(|e| self.remote(e).into())
    }
}

/// Nodes 1 to `count`, some of which run.
pub(crate) struct Cluster {
    pub network: TestNetwork,
    pub disks: Vec<SimDisk>,
    pub running: BTreeMap<i32, MetadataQuorum>,
}

impl Cluster {
    /// All nodes are started, and one of them leads.
    pub(crate) async fn start(count: i32, seed: u64) -> Self {
        let disks = (0..count).map(|at| SimDisk::new(seed ^ (at as u64) << 32)).collect();
        let mut cluster = Self { network: TestNetwork::default(), disks, running: BTreeMap::new() };
        for id in 1..=count {
            cluster.start_node(id).await;
        }
        cluster.leader().await;
        for id in 1..=count {
            cluster.join(id).await;
        }
        cluster
    }

    fn count(&self) -> i32 {
        self.disks.len() as i32
    }

    fn disk(&self, id: i32) -> &SimDisk {
        &self.disks[id as usize - 1]
    }

    fn config(&self, id: i32) -> QuorumConfig {
        config(self.disk(id), id, self.count())
    }

    pub(crate) async fn start_node(&mut self, id: i32) {
        let plug = plug(&self.network, id as u64);
        let (quorum, _) = MetadataQuorum::start(&self.config(id), plug).await.unwrap();
        self.network.nodes.lock().insert(id as u64, quorum.inner.raft.clone());
        self.running.insert(id, quorum);
    }

    pub(crate) async fn join(&self, id: i32) {
        self.running[&id].join(&self.config(id), false).await.unwrap();
    }

    /// Ends a node as `kill -9` does, or as a power cut.
    pub(crate) async fn kill(&mut self, id: i32, is_power_cut: bool) {
        self.network.nodes.lock().remove(&(id as u64));
        if is_power_cut {
            self.disk(id).power_cut();
        } else {
            self.disk(id).kill();
        }
        if let Some(quorum) = self.running.remove(&id) {
            quorum.shutdown().await;
        }
    }

    /// Nobody reaches these nodes, nor they anybody.
    pub(crate) fn cut(&self, ids: &[i32]) {
        *self.network.cut.lock() = ids.iter().map(|id| *id as u64).collect();
    }

    /// The node that leads and can decide, once there is one.
    pub(crate) async fn leader(&self) -> i32 {
        for _ in 0..10_000 {
            for (id, quorum) in &self.running {
                let is_cut = self.network.cut.lock().contains(&(*id as u64));
                if !is_cut && quorum.basis().await.is_ok() {
                    return *id;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    /// Has `id` elected.
    pub(crate) async fn elect(&self, id: i32) {
        for _ in 0..1000 {
            if self.running[&id].basis().await.is_ok() {
                return;
            }
            if self.running[&id].leader() != Some(NodeId(id)) {
                self.running[&id].inner.raft.trigger().elect().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{id} is not elected");
    }

    /// Waits until all running nodes have applied the same entry, then gives their images by index.
    pub(crate) async fn settle(&self) -> Vec<Arc<crate::metadata::MetadataImage>> {
        for _ in 0..10_000 {
            let currents: Vec<_> =
                self.running.values().map(|quorum| quorum.inner.shared.current.load_full()).collect();
            let ends: BTreeSet<_> = self.running.values().map(|quorum| quorum.inner.store.ends().1).collect();
            let applied: BTreeSet<_> = currents.iter().map(|current| current.applied).collect();
            if ends.len() == 1 && ends == applied {
                return currents.iter().map(|current| current.image.clone()).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the nodes do not come to agree");
    }

    pub(crate) async fn stop(self) {
        for quorum in self.running.values() {
            quorum.shutdown().await;
        }
    }
}
