//! The façade: what the rest of the broker sees of the quorum.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::{BasicNode, SnapshotPolicy};
use tokio::sync::watch;

use super::log_store::{LogStore, LogStoreError};
use super::network::OnlyVoter;
use super::snapshot::{SnapshotError, SnapshotStore};
use super::state_machine::{Shared, StateMachine};
use super::{LogId, Raft, RecordBatch};
use crate::env::{Clock, Disk};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord};
use crate::types::NodeId;

/// Bytes that the records of one proposal may take in the log.
pub const RECORDS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries after which a snapshot is taken, however small they are.
const SNAPSHOT_ENTRIES: u64 = 1024;
/// A snapshot is taken earlier, when this many records would have to be replayed and the last snapshot
/// held no more.
const SNAPSHOT_RECORDS: u64 = 10_000;
/// Entries that stay in the log though a snapshot holds them, for followers that are a little behind.
const ENTRIES_KEPT: u64 = 128;
/// Heartbeat interval, and least and greatest election timeout.
const INTERVALS_MS: (u64, u64, u64) = (500, 1500, 3000);
/// The only voter of a cluster needs neither, and openraft's ticker sleeps for as long even when disabled.
const INTERVALS_ALONE_MS: (u64, u64, u64) = (600_000, 1_200_000, 1_800_000);
/// How long an opening waits until the quorum has a leader and this node its image.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How to open a quorum.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// The folder of the quorum alone; created when missing.
    pub dir: PathBuf,
    pub node_id: NodeId,
    /// All voters with their controller addresses (`host:port`), when the cluster is formed. Later the
    /// log knows.
    pub voters: BTreeMap<NodeId, String>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// The first records of a new cluster: its id and feature levels.
    pub bootstrap: Vec<MetadataRecord>,
}

/// The quorum cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the metadata folder {0}: {1}")]
    Folder(PathBuf, io::Error),
    #[error(transparent)]
    Log(#[from] LogStoreError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("a node's id must not be negative: {0}")]
    NodeId(NodeId),
    #[error("node {node} is not among the voters {voters:?}")]
    NotAVoter { node: NodeId, voters: Vec<NodeId> },
    #[error("the metadata quorum stopped: {0}")]
    Stopped(String),
    #[error("the metadata quorum has no leader after {READY_TIMEOUT:?}: {0}")]
    NoLeader(String),
    #[error("the first records of the cluster were not accepted: {0}")]
    Bootstrap(#[from] ProposeError),
}

/// Records were not taken. Except after [`ProposeError::Stopped`] none of them has taken effect, and none
/// will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead the metadata quorum; the leader is {0:?}")]
    NotLeader(Option<NodeId>),
    #[error("the records take {bytes} bytes, more than {RECORDS_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("the records do not fit the metadata: {0}")]
    Refused(String),
    /// It is not known whether they took effect.
    #[error("the metadata quorum stopped: {0}")]
    Stopped(String),
}

/// What DescribeQuorum answers. Offsets are indexes of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    pub leader_id: Option<NodeId>,
    /// The term of the quorum.
    pub leader_epoch: i32,
    /// Offset after the last applied entry.
    pub high_watermark: i64,
    pub voters: Vec<ReplicaStatus>,
    pub observers: Vec<ReplicaStatus>,
}

/// How far a node's copy of the metadata log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub id: NodeId,
    /// Offset after the last entry; -1 when not known here.
    pub log_end_offset: i64,
    /// When it was last heard of, in wall clock milliseconds; -1 when not known.
    pub last_fetch_ms: i64,
    /// When it last had all entries; -1 when not known.
    pub last_caught_up_ms: i64,
}

/// The metadata quorum as seen by this node. Clones share it.
#[derive(Clone)]
pub struct MetadataQuorum {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    shared: Arc<Shared>,
    store: LogStore,
    clock: Arc<dyn Clock>,
}

/// A new image with what changed since the one before.
#[derive(Clone, Debug)]
pub struct Published {
    pub image: Arc<MetadataImage>,
    pub delta: MetadataDelta,
    /// At least the index of the entry that `image` stands for.
    pub applied_index: u64,
}

/// Follows the image. One that is slow misses no change: it gets several at once.
#[derive(Debug)]
pub struct MetadataSubscription {
    shared: Arc<Shared>,
    applied_index: watch::Receiver<u64>,
    last: Arc<MetadataImage>,
}

impl MetadataSubscription {
    /// Waits until more was applied. Entries that change nothing are told of too, with an empty delta:
    /// somebody may wait until this node follows them. `None` when the quorum has been closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Published> {
        self.applied_index.changed().await.ok()?;
        let applied_index = *self.applied_index.borrow_and_update();
        let image = self.shared.image.load_full();
        let delta = MetadataDelta::between(&self.last, &image);
        self.last = image.clone();
        Some(Published { image, delta, applied_index })
    }

    /// The image that the last delta led to; at first that of the subscription.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.last
    }
}

fn raft_id(id: NodeId) -> Result<u64, OpenError> {
    u64::try_from(id.0).map_err(|_| OpenError::NodeId(id))
}

/// All ids in the quorum came from node ids.
fn node_id(id: u64) -> NodeId {
    NodeId(i32::try_from(id).unwrap_or(i32::MAX))
}

/// The offset after an entry, in the numbers of the wire.
fn offset_after(id: Option<LogId>) -> i64 {
    id.map_or(0, |id| i64::try_from(id.index).unwrap_or(i64::MAX - 1) + 1)
}

impl MetadataQuorum {
    /// Opens the quorum, forms it when the folder is new, and waits until this node has the image: for
    /// the only voter, all that was ever acknowledged.
    pub async fn open(config: QuorumConfig) -> Result<Self, OpenError> {
        let id = raft_id(config.node_id)?;
        let voters = config
            .voters
            .iter()
            .map(|(id, address)| Ok((raft_id(*id)?, BasicNode::new(address))))
            .collect::<Result<BTreeMap<_, _>, OpenError>>()?;
        if !voters.contains_key(&id) {
            let voters = config.voters.into_keys().collect();
            return Err(OpenError::NotAVoter { node: config.node_id, voters });
        }
        let shared = Arc::new(Shared::default());
        let (store, machine) = {
            let shared = shared.clone();
            let (dir, disk) = (config.dir.clone(), config.disk.clone());
            tokio::task::spawn_blocking(move || open_storage(dir, disk, shared))
                .await
                .map_err(|e| OpenError::Stopped(e.to_string()))??
        };
        let vote = store.vote()?;
        let is_new = vote.is_none() && store.ends() == (None, None);
        let led = vote.is_some_and(|vote| vote.committed && vote.leader_id.node_id == id);
        let is_alone = voters.len() == 1;
        let (heartbeat_interval, election_timeout_min, election_timeout_max) =
            if is_alone { INTERVALS_ALONE_MS } else { INTERVALS_MS };
        let settings = openraft::Config {
            cluster_name: "metadata".into(),
            heartbeat_interval,
            election_timeout_min,
            election_timeout_max,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: ENTRIES_KEPT,
            enable_tick: !is_alone,
            ..default_settings()
        };
        let stopped = |e: &dyn std::fmt::Display| OpenError::Stopped(e.to_string());
        let network = OnlyVoter { node: id };
        let raft = Raft::new(id, Arc::new(settings), network, store.clone(), machine)
            .await
            .map_err(|e| stopped(&e))?;
        let quorum = Self { inner: Arc::new(Inner { raft, shared, store, clock: config.clock }) };
        let raft = &quorum.inner.raft;
        if is_new {
            match raft.initialize(voters).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(e) => return Err(stopped(&e)),
            }
        } else if is_alone && !led {
            // Whoever led when the process ended leads again at once. It did not (it ended during an
            // election), and nobody but this node can start another.
            raft.trigger().elect().await.map_err(|e| stopped(&e))?;
        }
        quorum.ready(id, is_alone).await?;
        let is_unnamed = quorum.image().cluster_id().is_none();
        if is_unnamed && !config.bootstrap.is_empty() && quorum.leader() == Some(config.node_id) {
            quorum.propose(config.bootstrap).await?;
        }
        Ok(quorum)
    }

    /// Waits for a leader, and for the only voter until all it has in its log is applied.
    async fn ready(&self, id: u64, is_alone: bool) -> Result<(), OpenError> {
        let ready = |metrics: &openraft::RaftMetrics<u64, BasicNode>| {
            let applied = metrics.last_applied.map(|id| id.index);
            match is_alone {
                true => {
                    // The leader's own first entry tells that all before it is committed.
                    let own = metrics.last_applied.is_some_and(|applied| applied.leader_id.node_id == id);
                    metrics.current_leader == Some(id) && own && applied == metrics.last_log_index
                }
                false => metrics.current_leader.is_some(),
            }
        };
        let mut metrics = self.inner.raft.metrics();
        let waited = tokio::time::timeout(READY_TIMEOUT, async {
            let metrics = metrics
                .wait_for(|metrics| metrics.running_state.is_err() || ready(metrics))
                .await
                .map_err(|e| e.to_string())?;
            metrics.running_state.clone().map_err(|e| e.to_string())
        });
        match waited.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(OpenError::Stopped(e)),
            Err(_) => Err(OpenError::NoLeader(self.inner.raft.metrics().borrow().to_string())),
        }
    }

    /// The metadata as this node knows it now. Takes no lock.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.inner.shared.image.load_full()
    }

    /// Index of the entry that the image stands for, at least.
    pub fn applied_index(&self) -> u64 {
        *self.inner.shared.applied_index.borrow()
    }

    /// Index of the last entry in this node's log, committed or not; 0 when there is none.
    pub fn last_index(&self) -> u64 {
        self.inner.store.ends().1.map_or(0, |id| id.index)
    }

    /// Follows the index alone.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.applied_index.subscribe()
    }

    /// Follows the image from what it is now.
    pub fn subscribe(&self) -> MetadataSubscription {
        let applied_index = self.inner.shared.applied_index.subscribe();
        let last = self.image();
        MetadataSubscription { shared: self.inner.shared.clone(), applied_index, last }
    }

    /// Waits until the image holds the entry with this index. False when the quorum was closed before.
    pub async fn wait_applied(&self, index: u64) -> bool {
        let mut applied_index = self.inner.shared.applied_index.subscribe();
        applied_index.wait_for(|applied| *applied >= index).await.is_ok()
    }

    /// Records to log and image, all or none; answers with the index of their entry when they are on the
    /// disks of a majority and in the image of this node. Only the leader takes any.
    pub async fn propose(&self, records: Vec<MetadataRecord>) -> Result<u64, ProposeError> {
        let bytes = records_bytes(&records);
        if bytes > RECORDS_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let answer = match self.inner.raft.client_write(RecordBatch { records }).await {
            Ok(answer) => answer,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                return Err(ProposeError::NotLeader(forward.leader_id.map(node_id)));
            }
            Err(e) => return Err(ProposeError::Stopped(e.to_string())),
        };
        if let Some(why) = answer.data.refused {
            return Err(ProposeError::Refused(why));
        }
        let shared = &self.inner.shared;
        let pending = shared.records_since_snapshot.load(Ordering::Relaxed);
        if pending >= SNAPSHOT_RECORDS.max(shared.records_in_snapshot.load(Ordering::Relaxed)) {
            // Counted anew from here, so that the next proposal does not ask again.
            shared.records_since_snapshot.store(0, Ordering::Relaxed);
            if let Err(e) = self.inner.raft.trigger().snapshot().await {
                tracing::warn!(error = %e, "no metadata snapshot was taken");
            }
        }
        Ok(answer.log_id.index)
    }

    /// The node that leads the quorum, the active controller, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.raft.metrics().borrow().current_leader.map(node_id)
    }

    /// What DescribeQuorum answers.
    pub fn status(&self) -> QuorumStatus {
        let now_ms = self.inner.clock.now_ms();
        let metrics = self.inner.raft.metrics().borrow().clone();
        let replica = |id: u64| {
            if id == metrics.id {
                let log_end_offset = offset_after(self.inner.store.ends().1);
                return ReplicaStatus {
                    id: node_id(id),
                    log_end_offset,
                    last_fetch_ms: now_ms,
                    last_caught_up_ms: now_ms,
                };
            }
            let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id));
            ReplicaStatus {
                id: node_id(id),
                log_end_offset: matched.map_or(-1, |matched| offset_after(*matched)),
                last_fetch_ms: -1,
                last_caught_up_ms: -1,
            }
        };
        let membership = metrics.membership_config.membership();
        QuorumStatus {
            leader_id: metrics.current_leader.map(node_id),
            leader_epoch: i32::try_from(metrics.current_term).unwrap_or(i32::MAX),
            // Ahead of the metrics, which openraft brings up to date after it has answered.
            high_watermark: i64::try_from(self.applied_index()).unwrap_or(i64::MAX - 1) + 1,
            voters: membership.voter_ids().map(replica).collect(),
            observers: membership.learner_ids().map(replica).collect(),
        }
    }

    /// Stops the quorum. What was acknowledged is on the disk already.
    pub async fn shutdown(&self) {
        self.inner.store.start_closing();
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(error = %e, "the metadata quorum did not stop in order");
        }
        let store = self.inner.store.clone();
        match tokio::task::spawn_blocking(move || store.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "the metadata log was not synced at the end"),
            Err(e) => tracing::warn!(error = %e, "the metadata log was not synced at the end"),
        }
    }
}

/// openraft's settings, without reading any command line.
fn default_settings() -> openraft::Config {
    openraft::Config::default()
}

fn open_storage(
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
) -> Result<(LogStore, StateMachine), OpenError> {
    if !disk.exists(&dir) {
        let made = disk.create_dir_all(&dir).and_then(|()| match dir.parent() {
            // A relative path of one component has the empty path for its parent.
            Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")),
            Some(parent) => disk.sync_dir(parent),
            None => Ok(()),
        });
        made.map_err(|e| OpenError::Folder(dir.clone(), e))?;
    }
    let store = LogStore::open(disk.clone(), &dir)?;
    let folder = dir.clone();
    let machine = StateMachine::open(SnapshotStore { disk, dir }, shared)?;
    // The pieces must fit each other, else something acknowledged is gone.
    let gone = |why: String| OpenError::Log(LogStoreError::Damaged(folder.clone(), why));
    let ((purged, last), snapshot) = (store.ends(), machine.snapshot_log_id());
    let index = |id: Option<LogId>| id.map_or_else(|| "none".to_owned(), |id| id.index.to_string());
    let known = last.max(snapshot).map(|id| id.index);
    if store.committed() > known {
        let committed = store.committed().unwrap_or_default();
        let known = known.map_or_else(|| "none".to_owned(), |index| index.to_string());
        return Err(gone(format!("its last entry is {known}, though {committed} was committed")));
    }
    if purged > snapshot {
        let (purged, snapshot) = (index(purged), index(snapshot));
        let why = format!(
            "its entries up to {purged} went into a snapshot, but the newest snapshot beside it ends at {snapshot}"
        );
        return Err(gone(why));
    }
    if snapshot.is_some() && store.vote()?.is_none() {
        return Err(store.damaged("there is a snapshot beside it, but it knows of no election").into());
    }
    Ok((store, machine))
}

/// What records take in the log, in bytes.
pub(crate) fn records_bytes(records: &[MetadataRecord]) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, records) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}
