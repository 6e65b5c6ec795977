//! From a folder to a running quorum.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::error::{InitializeError, RaftError};
use openraft::network::RaftNetworkFactory;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::changing::join_by_itself;
use super::following::{Following, Formation};
use super::links::{Links, Reach};
use super::log_store::LogStore;
use super::log_store_error::LogStoreError;
use super::member::Member;
use super::network::{OnlyVoter, ToOthers};
use super::quorum::Inner;
use super::room::Room;
use super::runtime::with_chance;
use super::snapshot::{SnapshotError, SnapshotStore};
use super::state_machine::{Shared, StateMachine};
use super::taking::take_letters;
use super::{LogId, MetadataQuorum, Metrics, NewerVersion, ProposeError, Raft, Types};
use crate::env::{Blocking, Chance, Clock, Disk, WorkPanicked};
use crate::metadata::{METADATA_VERSION, METADATA_VERSION_FEATURE, MetadataRecord};
use crate::types::{NodeId, uuid_to_base64};

/// Entries after which a snapshot is taken, however small they are.
const SNAPSHOT_ENTRIES: u64 = 1024;
/// Entries that stay in the log though a snapshot holds them, for followers that are a little behind.
const ENTRIES_KEPT: u64 = 128;
/// A follower that is further behind gets a snapshot. More than lies between two of them.
const LAG_ENTRIES_MAX: u64 = 2 * SNAPSHOT_ENTRIES;
/// Entries in one message to a follower; their bytes are bounded too (see [`super::log_store`]).
const MESSAGE_ENTRIES_MAX: u64 = 300;
/// Heartbeat interval, and least and greatest election timeout. The first is also how long a message with entries may
/// take before it is made again, the second how long a vote may, and the third how long a voter with a leader refuses
/// others; elections do not start by them (see [`super::following`]).
const INTERVALS_MS: (u64, u64, u64) = (500, 1500, 1501);
/// The same where openraft starts the elections.
#[cfg(test)]
const INTERVALS_BY_TIMER_MS: (u64, u64, u64) = (500, 1500, 3000);
/// The only voter of a cluster needs neither, and openraft's ticker sleeps for as long even when disabled.
const INTERVALS_ALONE_MS: (u64, u64, u64) = (600_000, 1_200_000, 1_800_000);
/// How long a snapshot, or a chunk of it, may be on its way to a follower's disk.
const SNAPSHOT_TIMEOUT_MS: u64 = 30_000;
const SNAPSHOT_CHUNK_BYTES: u64 = 1024 * 1024;
/// How long an opening waits until the only voter has its image.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a node that waits for the others says so.
const WAITING_TOLD_EVERY: Duration = Duration::from_secs(10);
/// How often it looks whether they are there.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How to open a quorum.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// The folder of the quorum alone; created when missing.
    pub dir: PathBuf,
    pub node_id: NodeId,
    /// The id of the cluster, as far as it is known: a new one gets it.
    pub cluster_id: Option<String>,
    /// The id of the folder, by which the others know whose votes these are.
    pub directory_id: Uuid,
    /// All voters when the cluster is formed. Later the log knows.
    pub voters: BTreeMap<NodeId, Member>,
    /// What the metadata of a new cluster begins with, behind its id and version.
    pub first_records: Vec<MetadataRecord>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<dyn Chance>,
    pub blocking: Arc<dyn Blocking>,
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
    #[error(
        "the metadata in {dir} names other controllers ({others}), but neither controller.quorum.voters nor controller.quorum.bootstrap.servers says where they are"
    )]
    OthersUnknown { dir: PathBuf, others: String },
    #[error("the node was stopped while it waited for the metadata quorum")]
    Cancelled,
    #[error("the first records of the cluster were not accepted: {0}")]
    Bootstrap(#[from] ProposeError),
    #[error(
        "the metadata in {dir} is that of the cluster {found}, but the data folder says that this node belongs to the cluster {expected}: one of the two folders is another node's or was made anew. Start with log.dirs and metadata.log.dir that belong together, or go on with that metadata and what is in the data folder: raftsman server --accept-missing-data"
    )]
    OtherCluster { dir: PathBuf, found: String, expected: String },
    #[error("{0}: {1}")]
    Newer(PathBuf, NewerVersion),
    #[error(transparent)]
    Panicked(#[from] WorkPanicked),
}

fn raft_id(id: NodeId) -> Result<u64, OpenError> {
    u64::try_from(id.0).map_err(|_| OpenError::NodeId(id))
}

/// Who starts elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// There is nobody else.
    Alone,
    /// [`Following`].
    WithOthers,
    /// openraft, in tests of the storage.
    #[cfg(test)]
    ByTimer,
}

/// All of openraft's settings.
#[expect(deprecated, reason = "a field without a default has to be given")]
fn settings(mode: Mode) -> openraft::Config {
    let (heartbeat_interval, election_timeout_min, election_timeout_max) = match mode {
        Mode::Alone => INTERVALS_ALONE_MS,
        Mode::WithOthers => INTERVALS_MS,
        #[cfg(test)]
        Mode::ByTimer => INTERVALS_BY_TIMER_MS,
    };
    openraft::Config {
        cluster_name: "metadata".into(),
        election_timeout_min,
        election_timeout_max,
        // Also how long a message with entries may take to be answered.
        heartbeat_interval,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        send_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        replication_lag_threshold: LAG_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        purge_batch_size: 1,
        enable_tick: mode != Mode::Alone,
        enable_heartbeat: true,
        enable_elect: mode != Mode::WithOthers,
    }
}

/// A quorum that runs, and how it came to be.
struct Started {
    quorum: MetadataQuorum,
    /// The folder held nothing.
    is_new: bool,
    /// This node led when its process ended.
    led: bool,
}

impl MetadataQuorum {
    /// Opens the quorum of a node that is alone, forms it when the folder is new, and waits until this node has the
    /// image: all that was ever acknowledged.
    pub async fn open(config: QuorumConfig) -> Result<Self, OpenError> {
        let network = OnlyVoter { node: raft_id(config.node_id)? };
        let (quorum, is_alone) = Self::start(&config, network).await?;
        let opened = match quorum.other_voters() {
            Some(others) => Err(OpenError::OthersUnknown { dir: config.dir.clone(), others }),
            None => quorum.join(&config, is_alone).await,
        };
        match opened {
            Ok(()) => Ok(quorum),
            Err(error) => {
                quorum.shutdown().await;
                Err(error)
            }
        }
    }

    /// Opens the quorum of a node that has, or may get, others beside it. It takes part from now on; what
    /// it is good for has to be waited for ([`MetadataQuorum::join_others`]). What `config` says of voters does
    /// not count.
    pub async fn open_with_others(
        config: &QuorumConfig,
        reach: Reach,
        formation: Formation,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::default());
        let identity = (config.node_id, config.directory_id, config.cluster_id.clone());
        let (chance, blocking) = (config.chance.clone(), config.blocking.clone());
        let links = Arc::new(Links::new(reach, identity, shared.clone(), chance, blocking));
        let network = ToOthers(links.clone());
        let started =
            Self::start_raft(config, Mode::WithOthers, network, shared, Some(links.clone())).await?;
        let Started { quorum, is_new, .. } = started;
        let following = Following {
            quorum: quorum.clone(),
            links: links.clone(),
            formation: is_new.then_some(formation),
        };
        links.tasks.spawn_until_stopped(following.run());
        if links.reach.joins_by_itself {
            links.tasks.spawn_until_stopped(join_by_itself(quorum.clone(), links.clone()));
        }
        if links.reach.endpoints.is_empty() {
            links.tasks.spawn_until_stopped(take_letters(quorum.clone(), links.clone()));
        }
        Ok(quorum)
    }

    /// The other voters that the log names, if any.
    fn other_voters(&self) -> Option<String> {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
        let others = others.map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
        (!others.is_empty()).then_some(others)
    }

    /// Opens the folder and starts openraft on it. The second answer is whether this is the only voter.
    pub(super) async fn start(
        config: &QuorumConfig,
        network: impl RaftNetworkFactory<Types>,
    ) -> Result<(Self, bool), OpenError> {
        let id = raft_id(config.node_id)?;
        let voters = config.voters.iter();
        let voters = voters
            .map(|(id, member)| Ok((raft_id(*id)?, member.clone())))
            .collect::<Result<BTreeMap<_, _>, OpenError>>()?;
        if !voters.contains_key(&id) {
            let voters = config.voters.keys().copied().collect();
            return Err(OpenError::NotAVoter { node: config.node_id, voters });
        }
        let is_alone = voters.len() == 1;
        #[cfg(test)]
        let mode = if is_alone { Mode::Alone } else { Mode::ByTimer };
        #[cfg(not(test))]
        let mode = Mode::Alone;
        let shared = Arc::new(Shared::default());
        let Started { quorum, is_new, led } = Self::start_raft(config, mode, network, shared, None).await?;
        let stopped = |e: &dyn std::fmt::Display| OpenError::Stopped(e.to_string());
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
        Ok((quorum, is_alone))
    }

    async fn start_raft(
        config: &QuorumConfig,
        mode: Mode,
        network: impl RaftNetworkFactory<Types>,
        shared: Arc<Shared>,
        links: Option<Arc<Links>>,
    ) -> Result<Started, OpenError> {
        let id = raft_id(config.node_id)?;
        let room = Arc::new(Room::default());
        let (store, machine) = {
            let (config, shared, room) = (config.clone(), shared.clone(), room.clone());
            let opening = config.blocking.clone().run(move || open_storage(config, shared, room));
            opening.await??
        };
        let vote = store.vote()?;
        let is_new = vote.is_none() && store.ends() == (None, None);
        let led = vote.is_some_and(|vote| vote.committed && vote.leader_id.node_id == id);
        let opening = Raft::new(id, Arc::new(settings(mode)), network, store.clone(), machine);
        let raft = with_chance(config.chance.clone(), opening).await;
        let raft = raft.map_err(|e| OpenError::Stopped(e.to_string()))?;
        let (clock, blocking) = (config.clock.clone(), config.blocking.clone());
        let inner = Inner { raft, shared, store, room, clock, blocking, links, active: Default::default() };
        Ok(Started { quorum: Self { inner: Arc::new(inner) }, is_new, led })
    }

    /// Waits until this node belongs to a cluster that has a leader, and gives a new one its first records. That may
    /// take as long as the others do; `cancelled` ends it.
    pub async fn join_others(
        &self,
        config: &QuorumConfig,
        cancelled: &CancellationToken,
    ) -> Result<(), OpenError> {
        let mut told = tokio::time::Instant::now();
        loop {
            if let Some(why) = self.failure() {
                return Err(OpenError::Stopped(why));
            }
            let image = self.image();
            let found = image.metadata_version();
            if found > METADATA_VERSION {
                return Err(OpenError::Newer(config.dir.clone(), NewerVersion { found }));
            }
            match (image.cluster_id().is_some(), self.leader()) {
                (false, Some(leader)) if leader == config.node_id => {
                    let known = config.cluster_id.clone().or_else(|| self.told_cluster_id());
                    let cluster_id = known.unwrap_or_else(|| uuid_to_base64(config.chance.kafka_uuid()));
                    let mut records = vec![MetadataRecord::ClusterId { cluster_id }, version_record()];
                    records.extend_from_slice(&config.first_records);
                    if let Err(error) = self.propose(records).await {
                        tracing::debug!(%error, "the first records of the cluster were not accepted yet");
                    }
                }
                // There is nobody who could not read what this version writes.
                (true, Some(leader))
                    if leader == config.node_id && found < METADATA_VERSION && self.is_only_voter() =>
                {
                    match self.propose(vec![version_record()]).await {
                        Ok(_) => {}
                        Err(ProposeError::NoRoom(why)) => {
                            tracing::warn!(%why, "the metadata keeps version {found} until the next start");
                            return Ok(());
                        }
                        Err(error) => {
                            tracing::debug!(%error, "the version of the metadata was not raised yet");
                        }
                    }
                }
                (true, Some(_)) => return Ok(()),
                _ => {}
            }
            if told.elapsed() > WAITING_TOLD_EVERY {
                told = tokio::time::Instant::now();
                tracing::info!("waiting for the metadata quorum: {}", self.what_lacks());
            }
            let mut applied = self.applied();
            applied.mark_unchanged();
            tokio::select! {
                () = cancelled.cancelled() => return Err(OpenError::Cancelled),
                _ = tokio::time::timeout(LOOK_AGAIN, applied.changed()) => {}
            }
        }
    }

    fn told_cluster_id(&self) -> Option<String> {
        self.inner.links.as_deref()?.heard.lock().cluster_id.clone()
    }

    /// For people who wait: who leads, and whom this node does not reach.
    fn what_lacks(&self) -> String {
        let leader = self.leader().map_or("there is no leader".to_owned(), |id| format!("node {id} leads"));
        let metrics = self.inner.raft.metrics().borrow().clone();
        let voters: Vec<_> =
            metrics.membership_config.membership().voter_ids().map(|id| id.to_string()).collect();
        let problems = self.inner.links.as_deref().map(|links| links.heard.lock().problems.clone());
        let problems = problems.unwrap_or_default().into_iter();
        let problems: Vec<_> =
            problems.map(|(node, problem)| format!("node {node}: {}", problem.text)).collect();
        let voters = if voters.is_empty() { "not known yet".to_owned() } else { voters.join(", ") };
        format!("{leader}; voters: {voters}; {}", problems.join("; "))
    }

    /// Waits until this node has its image, and gives a new cluster its first records.
    pub(super) async fn join(&self, config: &QuorumConfig, is_alone: bool) -> Result<(), OpenError> {
        self.ready(raft_id(config.node_id)?, is_alone).await?;
        let image = self.image();
        let found = image.metadata_version();
        if found > METADATA_VERSION {
            return Err(OpenError::Newer(config.dir.clone(), NewerVersion { found }));
        }
        if self.leader() != Some(config.node_id) {
            return Ok(());
        }
        let version = version_record();
        if image.cluster_id().is_none() {
            let cluster_id = config.cluster_id.clone();
            let cluster_id = cluster_id.unwrap_or_else(|| uuid_to_base64(config.chance.kafka_uuid()));
            let mut records = vec![MetadataRecord::ClusterId { cluster_id }, version];
            records.extend_from_slice(&config.first_records);
            self.propose(records).await?;
        } else if is_alone && found < METADATA_VERSION {
            // There is nobody who could not read what this version writes.
            match self.propose(vec![version]).await {
                Ok(_) => {}
                Err(ProposeError::NoRoom(why)) => {
                    tracing::warn!(%why, "the metadata keeps version {found} until the next start");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the metadata is this cluster's; `dir` is for the error.
    ///
    /// An empty id is that of a folder that belongs to none yet.
    pub fn belongs_to(&self, cluster_id: &str, dir: &Path) -> Result<(), OpenError> {
        match self.image().cluster_id() {
            Some(found) if **found != *cluster_id && !cluster_id.is_empty() => Err(OpenError::OtherCluster {
                dir: dir.to_owned(),
                found: found.to_string(),
                expected: cluster_id.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Waits for a leader, and for the only voter until all it has in its log is applied.
    async fn ready(&self, id: u64, is_alone: bool) -> Result<(), OpenError> {
        let ready = |metrics: &Metrics| {
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
            Ok(Err(e)) => Err(OpenError::Stopped(self.failure().unwrap_or(e))),
            Err(_) => {
                let why = self.inner.room.waiting();
                let why = why.unwrap_or_else(|| self.inner.raft.metrics().borrow().to_string());
                Err(OpenError::NoLeader(why))
            }
        }
    }
}

fn version_record() -> MetadataRecord {
    MetadataRecord::FeatureLevel { name: METADATA_VERSION_FEATURE.to_owned(), level: METADATA_VERSION }
}

fn open_storage(
    config: QuorumConfig,
    shared: Arc<Shared>,
    room: Arc<Room>,
) -> Result<(LogStore, StateMachine), OpenError> {
    let QuorumConfig { dir, disk, blocking, .. } = config;
    if !disk.exists(&dir) || disk.list(&dir).is_ok_and(|files| files.is_empty()) {
        disk.create_dir_durably(&dir).map_err(|e| OpenError::Folder(dir.clone(), e))?;
    }
    let snapshots = Some(shared.durable_snapshot.subscribe());
    let store = LogStore::open(disk.clone(), blocking.clone(), &dir, room.clone(), snapshots)?;
    let folder = dir.clone();
    let machine = StateMachine::open(SnapshotStore::new(disk, blocking, dir), shared, room)?;
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
