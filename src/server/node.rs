//! One node, from its configuration to a serving broker, and back to rest.
//!
//! Start: lock and open the data folder, open the metadata quorum, register with the controller,
//! take over the image, accept connections. Stop: accept no more, let what is under way end, note
//! everything, leave the marker of a clean shutdown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Broker;
use super::dynamic_config::{self, DynamicConfig};
use super::fetch_session::FetchSessions;
use super::handlers;
use super::listener::{self, Connections};
use super::maintenance;
use super::metrics::Metrics;
use super::producer_ids::ProducerIds;
use super::request_memory::RequestMemory;
use crate::admin;
use crate::config::BrokerConfig;
use crate::controller::{
    BrokerIdentity, BrokerRegistration, Controller, ControllerConfig, ControllerError, RealChance,
};
use crate::coordinator::group::GroupCoordinator;
use crate::env::real::{RealDisk, RealNetwork, SystemClock};
use crate::env::{ListenOptions, Network};
use crate::metadata::{Listener as AdvertisedListener, MetadataDelta, MetadataRecord};
use crate::partition::PartitionManager;
use crate::partition::cleaning::LogCleaner;
use crate::raft::{self, MetadataQuorum, OpenError, QuorumConfig};
use crate::segment::ownership::{self, OwnershipError};
use crate::segment::{DataDir, DataDirError, DataDirOptions};
use crate::types::{NodeId, kafka_uuid, uuid_to_base64};

/// How long a stopping node waits for requests that are under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen { address: String, error: std::io::Error, hint: &'static str },
    #[error(transparent)]
    Folder(#[from] OwnershipError),
    #[error(transparent)]
    Missing(#[from] MissingData),
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Metadata(#[from] OpenError),
    #[error("the broker could not be registered with the controller: {0}")]
    Register(#[from] ControllerError),
}

/// What this node had and does not find again. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MissingData {
    #[error(
        "the data folder {} is not the one that node {node} used before (its directory.id is {found}, not {expected}), and \
         {partitions} partitions are said to be in that one. Is its disk mounted? Is log.dirs right? To go on without what \
         was in it, start with raftsman server --accept-missing-data",
        dir.display()
    )]
    Replaced { dir: PathBuf, node: NodeId, found: String, expected: String, partitions: usize },
    #[error(
        "the metadata log in {} ends with entry {last}, but this node had followed it to entry {noted}: its end is \
         missing, and with it topics, configurations or deletions that were acknowledged. Bring the file back, or go on \
         with what is there: raftsman server --accept-missing-data (partitions of topics that it does not know are set \
         aside under names that end in -stray)",
        dir.display()
    )]
    MetadataCut { dir: PathBuf, last: u64, noted: u64 },
}

/// A running node.
pub struct Node {
    pub broker: Arc<Broker>,
    /// Where clients connect, one for each listener.
    pub addresses: Vec<SocketAddr>,
    pub admin_address: Option<SocketAddr>,
    connections: Arc<Connections>,
    controller: Controller,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node. When this returns, clients are served.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let started = Instant::now();
        let clock = Arc::new(SystemClock);
        let disk = Arc::new(RealDisk);

        // Listen first: a port that is taken is told before anything is written.
        let network = RealNetwork;
        let bytes = |bytes: Option<i32>| bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let options = ListenOptions {
            backlog: Some(config.listen_backlog),
            receive_buffer_bytes: bytes(config.receive_buffer_bytes),
            send_buffer_bytes: bytes(config.send_buffer_bytes),
        };
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for wanted in &config.listeners {
            let failed = |error: std::io::Error| StartError::Listen {
                address: format!("{}:{}", wanted.host, wanted.port),
                hint: match error.kind() {
                    std::io::ErrorKind::AddrInUse => {
                        "; another program has this port: stop it, or set listeners to a free one"
                    }
                    _ => "",
                },
                error,
            };
            let socket = network.bind(&wanted.host, wanted.port, options).await.map_err(failed)?;
            addresses.push(socket.local_addr().map_err(failed)?);
            sockets.push(socket);
        }

        let node = NodeId(config.node_id);
        {
            let (disk, config) = (disk.clone(), config.clone());
            let checking = move || {
                let metadata_dir = &config.metadata_log_dir;
                let has_metadata = raft::is_there(&*disk, metadata_dir)
                    .map_err(|error| OwnershipError::Io { path: metadata_dir.clone(), error })?;
                ownership::check(
                    &*disk,
                    &config.log_dir,
                    metadata_dir,
                    has_metadata,
                    config.accepts_missing_data,
                )
            };
            tokio::task::spawn_blocking(checking).await.map_err(|error| DataDirError::stopped(&error))??;
        }
        let options = DataDirOptions {
            dir: config.log_dir.clone(),
            node_id: node,
            cluster_id: uuid_to_base64(kafka_uuid()),
            recovery_threads: usize::try_from(config.recovery_threads).unwrap_or(1),
            open_files_max: open_files_max(),
            producer_id_expiration_ms: config.producer_id_expiration_ms,
        };
        let taking = {
            let (disk, clock) = (disk.clone(), clock.clone());
            tokio::task::spawn_blocking(move || DataDir::take(disk, clock, options))
        };
        let data = taking.await.map_err(|error| DataDirError::stopped(&error))??;
        let cluster_id: Arc<str> = data.cluster_id().into();
        let opening = tokio::task::spawn_blocking(move || data.open_logs().map(|found| (data, found)));

        // Beside the logs: neither needs the other.
        let quorum = MetadataQuorum::open(QuorumConfig {
            dir: config.metadata_log_dir.clone(),
            node_id: node,
            voters: BTreeMap::from([(
                node,
                format!("127.0.0.1:{}", addresses.first().map_or(0, SocketAddr::port)),
            )]),
            disk,
            clock: clock.clone(),
            bootstrap: vec![MetadataRecord::ClusterId { cluster_id: cluster_id.to_string() }],
        });
        let (opened, quorum) = tokio::join!(opening, quorum);
        let (data, found) = opened.map_err(|error| DataDirError::stopped(&error))??;
        let quorum = quorum?;
        check_nothing_missing(&config, &data, &quorum)?;
        let controller = Controller::start(
            quorum.clone(),
            ControllerConfig {
                partitions_default: config.num_partitions,
                replication_factor_default: config.default_replication_factor,
                delete_topic_enable: config.delete_topic,
                schema: dynamic_config::SCHEMA,
            },
            Box::new(RealChance),
        );
        let registration = BrokerRegistration {
            id: node,
            incarnation_id: kafka_uuid(),
            listeners: advertised(&config, &addresses),
            rack: config.rack.clone(),
            log_directories: vec![data.directory_id()],
            unfence: true,
        };
        let epoch = controller.handle().register_broker(registration).await?;

        let mut subscription = quorum.subscribe();
        let dynamic = DynamicConfig::new(node, &config, subscription.image());
        let connections = Connections::new(&dynamic.current());
        let partitions = Arc::new(PartitionManager::new(node, data, found, dynamic.shared()));
        {
            let (partitions, image) = (partitions.clone(), subscription.image().clone());
            let taking_over = tokio::task::spawn_blocking(move || partitions.start(&image));
            taking_over.await.map_err(|error| DataDirError::stopped(&error))?;
        }
        let groups = GroupCoordinator::new(
            config.groups.clone(),
            partitions.clone(),
            clock.clone(),
            controller.handle(),
            quorum.clone(),
        );
        groups.follow(&MetadataDelta::default());
        let (applied_sender, applied) = watch::channel(quorum.applied_index());
        let mut tasks = Vec::new();
        let (stop, stopped) = watch::channel(false);
        tasks.push(tokio::spawn({
            let (partitions, groups, mut stopped) = (partitions.clone(), groups.clone(), stopped.clone());
            let (dynamic, connections) = (dynamic.clone(), connections.clone());
            async move {
                loop {
                    let published = tokio::select! {
                        published = subscription.next() => published,
                        () = super::stopped(&mut stopped) => return,
                    };
                    let Some(published) = published else { return };
                    let (partitions, delta) = (partitions.clone(), published.delta);
                    let (dynamic, connections) = (dynamic.clone(), connections.clone());
                    let applying = tokio::task::spawn_blocking(move || {
                        dynamic.apply(&published.image, &delta, &partitions, &connections);
                        partitions.apply(&delta);
                        delta
                    });
                    match applying.await {
                        Ok(delta) => groups.follow(&delta),
                        Err(error) => {
                            tracing::error!(%error, "a change of the metadata could not be followed");
                        }
                    }
                    applied_sender.send_replace(published.applied_index);
                }
            }
        }));

        let broker = Arc::new(Broker {
            clock,
            started,
            cluster_id,
            node,
            identity: BrokerIdentity { id: node, epoch },
            listener_names: config.listeners.iter().map(|listener| listener.name.clone()).collect(),
            quorum,
            controller: controller.handle(),
            partitions,
            groups,
            applied,
            request_memory: RequestMemory::new(config.queued_request_bytes_max),
            sent: Default::default(),
            fetch_sessions: FetchSessions::new(config.fetch_session_slots),
            producer_ids: ProducerIds::default(),
            metrics: Metrics::new(handlers::APIS.iter().map(|api| api.key)),
            log_cleaner: LogCleaner::new(dynamic.shared()),
            config,
            dynamic,
        });
        let admin_address = match admin::start(&broker, &stopped).await {
            Ok(address) => address,
            Err(error) if broker.config.admin_listener_is_set => {
                let address = broker.config.admin_listener.clone().unwrap_or_default();
                return Err(StartError::Listen {
                    address,
                    error,
                    hint: "; set raftsman.admin.listener to another, or to nothing",
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no /metrics and /healthz: set raftsman.admin.listener to a free address");
                None
            }
        };
        tasks.push(maintenance::start(&broker, &connections, &stopped));
        for (index, socket) in sockets.into_iter().enumerate() {
            let accepting =
                listener::accept(broker.clone(), connections.clone(), socket, index, stopped.clone());
            tasks.push(tokio::spawn(accepting));
        }
        Ok(Self { broker, addresses, admin_address, connections, controller, stop, tasks })
    }

    /// Stops in order: nothing that was acknowledged has to be recovered at the next start.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
        // Members that wait for their group are told to look for another coordinator.
        self.broker.groups.stop().await;
        // Requests under way may end; waiting fetches of idle consumers need not be waited for.
        let drained = Instant::now();
        let is_busy = || self.connections.owe_answers() || self.broker.request_memory.held_bytes() > 0;
        while is_busy() && drained.elapsed() < DRAIN_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.connections.close_all();
        let broker = self.broker.clone();
        let closing = tokio::task::spawn_blocking(move || {
            let high_watermarks = broker.partitions.high_watermarks();
            broker.note_metadata_index();
            if let Err(error) = broker.partitions.data.close(high_watermarks) {
                tracing::error!(%error, "the data folder was not closed in order; the next start recovers it");
            }
        });
        let _ = closing.await;
        self.broker.quorum.shutdown().await;
        drop(self.controller);
    }
}

/// Holds data folder and metadata log to what each tells of the other.
fn check_nothing_missing(
    config: &BrokerConfig,
    data: &DataDir,
    quorum: &MetadataQuorum,
) -> Result<(), StartError> {
    let (node, image) = (NodeId(config.node_id), quorum.image());
    let missing = |what: MissingData| match config.accepts_missing_data {
        true => {
            tracing::warn!("started with --accept-missing-data: {what}");
            Ok(())
        }
        false => Err(what),
    };
    let failed = |error| DataDirError::Io { path: config.log_dir.clone(), error };
    let noted = data.noted_metadata_index().map_err(failed)?;
    let last = quorum.last_index();
    if let Some(noted) = noted.filter(|noted| *noted > last) {
        missing(MissingData::MetadataCut { dir: config.metadata_log_dir.clone(), last, noted })?;
        data.note_metadata_index(last).map_err(failed)?;
    }
    let before = image.broker(node).map_or(&[] as &[_], |broker| &broker.log_directories);
    if let Some(expected) = before.first()
        && !before.contains(&data.directory_id())
    {
        let held = image
            .topics()
            .flat_map(|topic| topic.partitions.iter())
            .filter(|partition| partition.replicas.contains(&node));
        let partitions = held.count();
        if partitions > 0 {
            missing(MissingData::Replaced {
                dir: config.log_dir.clone(),
                node,
                found: uuid_to_base64(data.directory_id()),
                expected: uuid_to_base64(*expected),
                partitions,
            })?;
        }
    }
    Ok(())
}

/// What clients are told for each listener. A port of 0 becomes the one that the kernel gave, an empty
/// host the machine's name.
fn advertised(config: &BrokerConfig, addresses: &[SocketAddr]) -> Vec<AdvertisedListener> {
    let told = config.advertised_listeners.iter().zip(addresses).map(|(told, bound)| AdvertisedListener {
        name: told.name.clone(),
        host: match told.host.as_str() {
            "" | "0.0.0.0" | "::" => nix::sys::utsname::uname()
                .ok()
                .and_then(|names| names.nodename().to_str().map(str::to_owned))
                .unwrap_or_else(|| "localhost".to_owned()),
            host => host.to_owned(),
        },
        port: if told.port == 0 { bound.port() } else { told.port },
        security_protocol: 0,
    });
    told.collect()
}

/// Raises the limit on open files as far as it goes, and gives logs the half of it; the rest is for
/// connections.
fn open_files_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard)
        }
        Ok((soft, _)) => soft,
        Err(_) => 1024,
    };
    usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(64, 100_000)
}
