//! One node, from its configuration to a serving broker, and back to rest.
//!
//! A node is a value of its configuration and its surroundings. It starts in phases, each of which needs the one before:
//!
//! 1. **listen**: a port that is taken is told before anything is written;
//! 2. **open storage**: lock the data folder, open its logs and beside them the metadata quorum, which takes part in
//!    votes from then on ([`controller_side`]); wait until it has a leader;
//! 3. **join the quorum**: run the controller, and register this process with the active one;
//! 4. **take over**: partitions and groups as the image has them, and from then on what changes ([`applier`]);
//! 5. **serve**: accept clients, answer monitors, and do what is done by the clock ([`maintenance`]).
//!
//! It stops against that order, each step waiting for the one before: give away what it leads and others have
//! ([`mod@hand_over`]), accept no more, give waiting members their answer, let
//! what is under way end, close the connections, end what is done by the clock, decide nothing any more, follow the
//! metadata no more, close the logs and leave the marker of a clean shutdown, close the quorum. No task of a node that has
//! stopped is left.

mod applier;
pub mod command;
mod controller_side;
mod controllers;
pub mod formatting;
mod hand_over;
mod maintenance;
mod registration;
#[cfg(test)]
mod replication_tests;
mod retained_memory;
mod storage;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::client::peers::Peers;
use crate::config::BrokerConfig;
use crate::config::rooms::node::NodeConfig;
use crate::controller::{
    Balancing, BrokerIdentity, BrokerRegistration, Controller, ControllerConfig, ControllerError,
    ControllerOptions,
};
use crate::coordinator::group::GroupCoordinator;
use crate::env::{Acceptor, ListenOptions, Network, Surroundings, Tasks};
use crate::metadata::{Feature, Listener as AdvertisedListener, MetadataDelta};
use crate::partition::cleaning::LogCleaner;
use crate::partition::lease::Lease;
use crate::partition::{PartitionManager, Work};
use crate::raft::{MetadataQuorum, OpenError};
use crate::replication::{self, Replication};
use crate::segment::DataDirError;
use crate::segment::ownership::OwnershipError;
use crate::server::dynamic_config::{self, DynamicConfig};
use crate::server::fetch_session::FetchSessions;
use crate::server::listener::{self, Connections};
use crate::server::metrics::Metrics;
use crate::server::request_memory::RequestMemory;
use crate::server::{Broker, handlers};
use crate::types::NodeId;
use crate::zerocopy::Sent;
use applier::Applier;
use controller_side::{ControllerSide, FrontSender};
use controllers::OtherControllers;
use hand_over::hand_over;
use registration::{Registration, Rhythm};
pub use storage::MissingData;
use storage::{Storage, open_storage};

/// How long a stopping node waits for requests that are under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it looks whether they have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen { address: String, error: io::Error, hint: &'static str },
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

/// A running node.
pub struct Node {
    pub broker: Arc<Broker>,
    /// Where clients connect, one for each listener.
    pub addresses: Vec<SocketAddr>,
    /// Where other nodes reach this one's controller, one for each of its listeners.
    pub controller_addresses: Vec<SocketAddr>,
    pub admin_address: Option<SocketAddr>,
    connections: Arc<Connections>,
    controller: Controller,
    tasks: NodeTasks,
    /// As long as the node runs, who comes to a controller's listener is served.
    front: Option<FrontSender>,
    side: ControllerSide,
}

/// The tasks of a node, by when they end.
#[derive(Default)]
struct NodeTasks {
    /// What lets clients and monitors in.
    front: Tasks,
    /// What is done by the clock.
    background: Tasks,
    /// What follows the metadata.
    following: Tasks,
}

/// Sockets that listen, in the order of the configuration.
struct Bound {
    acceptors: Vec<Box<dyn Acceptor>>,
    addresses: Vec<SocketAddr>,
    controller_acceptors: Vec<Box<dyn Acceptor>>,
    controller_addresses: Vec<SocketAddr>,
    /// The one for monitors, with its address.
    admin: Option<(Box<dyn Acceptor>, SocketAddr)>,
}

/// This process as a member of its cluster.
struct Member {
    peers: Peers,
    controller: Controller,
    identity: watch::Receiver<BrokerIdentity>,
    lease: Lease,
    /// None for a node that is only a controller.
    registration: Option<Registration>,
}

/// What follows the metadata on this node.
struct Following {
    quorum: MetadataQuorum,
    cluster_id: Arc<str>,
    dynamic: DynamicConfig,
    connections: Arc<Connections>,
    partitions: Arc<PartitionManager>,
    replication: Replication,
    groups: GroupCoordinator,
    applied: watch::Receiver<u64>,
}

impl Node {
    /// Starts a node. When this returns, clients are served.
    pub async fn start(config: BrokerConfig, surroundings: Surroundings) -> Result<Self, StartError> {
        Self::start_unless(config, surroundings, &CancellationToken::new()).await
    }

    /// Starts a node. It waits for the others of its cluster as long as they take, unless it is `cancelled`.
    pub async fn start_unless(
        config: BrokerConfig,
        surroundings: Surroundings,
        cancelled: &CancellationToken,
    ) -> Result<Self, StartError> {
        let mut bound = listen(&config, &*surroundings.network).await?;
        let (front, side) = ControllerSide::new(&config, &surroundings, &mut bound);
        let opened = open_storage(&config, &surroundings, &bound, &side, cancelled).await;
        let (quorum, started) = match opened {
            Ok(storage) => {
                let quorum = storage.quorum.clone();
                (Some(quorum), Self::join(config, surroundings, bound, storage, (front, side.clone())).await)
            }
            Err(error) => (None, Err(error)),
        };
        if started.is_err() {
            side.stop(quorum.as_ref()).await;
        }
        started
    }

    async fn join(
        config: BrokerConfig,
        surroundings: Surroundings,
        bound: Bound,
        storage: Storage,
        (front, side): (FrontSender, ControllerSide),
    ) -> Result<Self, StartError> {
        let member = join_quorum(&config, &surroundings, &bound, &storage, &side.peers).await?;
        let tasks = NodeTasks::default();
        match take_over(&config, &surroundings, storage, &member, &tasks).await {
            Ok(following) => {
                let node = serve(config, surroundings, bound, member, following, (tasks, side));
                front.send_replace(Some((node.broker.clone(), node.connections.clone())));
                Ok(Self { front: Some(front), ..node })
            }
            Err(error) => {
                tasks.background.stop().await;
                member.controller.stop().await;
                Err(error)
            }
        }
    }

    /// Waits until this node cannot go on, and gives why; never ends otherwise. What is left to do then is
    /// [`Node::fail`].
    pub async fn failed(&self) -> String {
        let why = self.broker.quorum.failed().await;
        format!(
            "the metadata quorum has ended on this node: {why}. The node stops, as it neither learns nor decides anything \
             any more; what was acknowledged is kept. Look at the disk of {} (dmesg tells of its errors), then start again",
            self.broker.config.storage.metadata_log_dir().display()
        )
    }

    /// Ends a node that has [failed](Node::failed): nobody is served from now on, and what was written is closed in
    /// order as far as the disk lets it.
    pub async fn fail(self) {
        self.tasks.front.stop().await;
        self.connections.close_all().await;
        self.stop().await;
    }

    /// Stops in order: nothing that was acknowledged has to be recovered at the next start, and nothing of this node goes on
    /// when this returns.
    pub async fn stop(self) {
        hand_over(&self.broker).await;
        self.tasks.front.stop().await;
        if let Some(front) = &self.front {
            front.send_replace(None);
        }
        // Members that wait for their group are told to look for another coordinator.
        self.broker.groups.stop().await;
        self.drain().await;
        self.connections.close_all().await;
        // Nobody is left to be told of acknowledgements that have not come.
        self.broker.partitions.close();
        self.tasks.background.stop().await;
        self.controller.stop().await;
        self.tasks.following.stop().await;
        let broker = self.broker.clone();
        let closing = self.broker.surroundings.blocking.run(move || {
            let high_watermarks = broker.partitions.high_watermarks();
            broker.note_metadata_index();
            if let Err(error) = broker.partitions.data.close(high_watermarks, broker.identity().epoch) {
                tracing::error!(%error, "the data folder was not closed in order; the next start recovers it");
            }
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the data folder was not closed in order; the next start recovers it");
        }
        self.side.stop(Some(&self.broker.quorum)).await;
    }

    /// Lets requests that are under way end; waiting fetches of idle consumers need not be waited for.
    async fn drain(&self) {
        let is_busy = || self.connections.owe_answers() || self.broker.request_memory.held_bytes() > 0;
        let drained = async {
            while is_busy() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        // What takes longer is cut off: its client asks again.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    }
}

async fn listen(config: &BrokerConfig, network: &dyn Network) -> Result<Bound, StartError> {
    let options = ListenOptions {
        backlog: Some(config.connections.backlog),
        receive_buffer_bytes: config.connections.receive_buffer_bytes,
        send_buffer_bytes: config.connections.send_buffer_bytes,
    };
    let mut bound = Bound {
        acceptors: vec![],
        addresses: vec![],
        controller_acceptors: vec![],
        controller_addresses: vec![],
        admin: None,
    };
    let controllers = config.listeners.of_controllers().into_iter().map(|wanted| (wanted, true));
    for (wanted, is_controller) in
        config.listeners.of_clients().map(|wanted| (wanted, false)).chain(controllers)
    {
        let failed = |error: io::Error| StartError::Listen {
            address: format!("{}:{}", wanted.host, wanted.port),
            hint: match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another program has this port: stop it, or set listeners to a free one"
                }
                _ => "",
            },
            error,
        };
        let acceptor = network.bind(&wanted.host, wanted.port, options).await.map_err(failed)?;
        let address = acceptor.local_addr().map_err(failed)?;
        let (acceptors, addresses) = match is_controller {
            true => (&mut bound.controller_acceptors, &mut bound.controller_addresses),
            false => (&mut bound.acceptors, &mut bound.addresses),
        };
        acceptors.push(acceptor);
        addresses.push(address);
    }
    // An address that nobody chose may be taken.
    let is_admin_chosen = config.values.get(NodeConfig::admin_listener.key.name).is_some();
    if let Some(address) = &config.node.admin_listener {
        match admin::bind(network, address).await {
            Ok(admin) => bound.admin = Some(admin),
            Err(error) if is_admin_chosen => {
                let hint = "; set raftsman.admin.listener to another, or to nothing";
                return Err(StartError::Listen { address: address.clone(), error, hint });
            }
            Err(error) => {
                tracing::warn!(%error, "no /metrics and /healthz: set raftsman.admin.listener to a free address");
            }
        }
    }
    Ok(bound)
}

async fn join_quorum(
    config: &BrokerConfig,
    surroundings: &Surroundings,
    bound: &Bound,
    storage: &Storage,
    peers: &Peers,
) -> Result<Member, StartError> {
    let id = NodeId(config.node.id);
    let options = ControllerOptions {
        config: ControllerConfig {
            partitions_default: config.topics.num_partitions,
            replication_factor_default: config.topics.default_replication_factor,
            delete_topic_enable: config.topics.delete_enable,
            schema: dynamic_config::SCHEMA,
        },
        channel: Some(Arc::new(OtherControllers {
            peers: peers.clone(),
            cluster_id: storage.cluster_id.clone(),
            node: id,
            directory_id: storage.data.directory_id(),
        })),
        session_timeout: Duration::from_millis(config.registration.session_timeout_ms),
        balancing: Balancing {
            preferred: config
                .balancing
                .auto_rebalance
                .then(|| Duration::from_secs(config.balancing.check_interval_s)),
            unclean: Duration::from_millis(config.balancing.unclean_interval_ms),
        },
        broker_listener: config.listeners.inter_broker().to_owned(),
    };
    let controller = Controller::start(storage.quorum.clone(), options, surroundings);
    let (lease, peers) = (Lease::new(surroundings.clock.clone()), peers.clone());
    if !config.node.is_broker() {
        let (_, identity) = watch::channel(BrokerIdentity { id, epoch: -1 });
        return Ok(Member { peers, controller, identity, lease, registration: None });
    }
    let registration = BrokerRegistration {
        id,
        incarnation_id: surroundings.chance.kafka_uuid(),
        listeners: advertised(config, &bound.addresses, &*surroundings.network),
        rack: config.node.rack.clone(),
        log_directories: vec![storage.data.directory_id()],
        features: Feature::supported(),
        is_first: true,
        previous_epoch: storage.data.closed_epoch(),
        accepts_missing_data: config.accepts_missing_data,
        unfence: false,
    };
    let rhythm = Rhythm {
        heartbeat_interval: Duration::from_millis(config.registration.heartbeat_interval_ms),
        session_timeout: Duration::from_millis(config.registration.session_timeout_ms),
        registration_timeout: Duration::from_millis(config.registration.timeout_ms),
    };
    let quorum = storage.quorum.clone();
    match Registration::new(controller.handle(), quorum, rhythm, registration, lease.clone()).await {
        Ok(registration) => {
            let identity = registration.identity();
            Ok(Member { peers, controller, identity, lease, registration: Some(registration) })
        }
        Err(error) => {
            controller.stop().await;
            Err(error.into())
        }
    }
}

async fn take_over(
    config: &BrokerConfig,
    surroundings: &Surroundings,
    storage: Storage,
    member: &Member,
    tasks: &NodeTasks,
) -> Result<Following, StartError> {
    let node = NodeId(config.node.id);
    let subscription = storage.quorum.subscribe();
    let dynamic = DynamicConfig::new(node, config, subscription.image());
    let connections = Connections::new(&dynamic.current(), surroundings.clock.clone());
    let partitions = Arc::new(PartitionManager::new(
        node,
        storage.data,
        storage.logs,
        dynamic.shared(),
        Work::new(surroundings.blocking.clone(), tasks.background.clone())
            .while_it_holds(member.lease.clone()),
    ));
    let taking_over = {
        let (partitions, image) = (partitions.clone(), subscription.image().clone());
        surroundings.blocking.run(move || partitions.start(&image))
    };
    taking_over.await.map_err(|error| DataDirError::stopped(&error))?;
    let replication = replicate(config, surroundings, &storage.quorum, &partitions, member, tasks);
    let groups = GroupCoordinator::new(
        config.groups.clone(),
        partitions.clone(),
        surroundings,
        &tasks.background,
        member.controller.handle(),
        storage.quorum.clone(),
    );
    groups.follow(&MetadataDelta::default());
    let applier = Applier {
        peers: member.peers.clone(),
        broker_listener: config.listeners.inter_broker().to_owned(),
        blocking: surroundings.blocking.clone(),
        dynamic: dynamic.clone(),
        connections: connections.clone(),
        partitions: partitions.clone(),
        replication: replication.clone(),
        groups: groups.clone(),
    };
    let applied = applier.start(subscription, storage.quorum.applied_index(), &tasks.following);
    let Storage { quorum, cluster_id, .. } = storage;
    Ok(Following { quorum, cluster_id, dynamic, connections, partitions, replication, groups, applied })
}

/// Begins to follow the leaders of this node's replicas, and to ask for changes of the in-sync replicas of those it leads.
fn replicate(
    config: &BrokerConfig,
    surroundings: &Surroundings,
    quorum: &MetadataQuorum,
    partitions: &Arc<PartitionManager>,
    member: &Member,
    tasks: &NodeTasks,
) -> Replication {
    let (quorum, identity) = (quorum.clone(), member.identity.clone());
    let context = Arc::new(replication::Context {
        config: config.replication.clone(),
        listener: config.listeners.inter_broker().to_owned(),
        surroundings: surroundings.clone(),
        peers: member.peers.clone(),
        partitions: partitions.clone(),
        image: Box::new(move || quorum.image()),
        identity: Box::new(move || *identity.borrow()),
        counters: replication::Counters::default(),
    });
    replication::isr::start(&context, member.controller.handle(), &tasks.background);
    replication::hand_over::start(&context, member.controller.handle(), &tasks.background);
    let replication = Replication::new(context, &tasks.background);
    replication.follow_all();
    replication
}

fn serve(
    config: BrokerConfig,
    surroundings: Surroundings,
    bound: Bound,
    member: Member,
    following: Following,
    (tasks, side): (NodeTasks, ControllerSide),
) -> Node {
    let Following { quorum, cluster_id, dynamic, connections, partitions, replication, groups, applied } =
        following;
    let Member { peers, controller, identity: registered, lease, registration } = member;
    let listeners = config.listeners.of_clients().chain(config.listeners.of_controllers());
    let broker = Arc::new(Broker {
        cluster_id,
        node: NodeId(config.node.id),
        registered,
        lease,
        listener_names: listeners.map(|listener| listener.name.clone()).collect(),
        broker_listeners: config.listeners.of_clients().count(),
        peers,
        quorum,
        controller: controller.handle(),
        partitions,
        replication,
        groups,
        applied,
        request_memory: RequestMemory::new(config.requests.queued_bytes_max),
        sent: Sent::new(surroundings.blocking.clone()),
        fetch_sessions: FetchSessions::new(config.requests.fetch_session_slots, surroundings.chance.clone()),
        producer_ids: Default::default(),
        metrics: Metrics::new(handlers::APIS.iter().map(|api| api.shape)),
        log_cleaner: LogCleaner::new(dynamic.shared(), surroundings.clone()),
        config,
        dynamic,
        surroundings,
        tasks: tasks.background.clone(),
    });
    let admin_address = bound.admin.map(|(acceptor, address)| {
        tasks.front.spawn(admin::serve(acceptor, broker.clone(), tasks.front.clone()));
        address
    });
    maintenance::start(&broker, &connections, &tasks.background);
    if let Some(registration) = registration {
        tasks.background.spawn_until_stopped(registration.keep(broker.applied.clone()));
    }
    for (index, acceptor) in bound.acceptors.into_iter().enumerate() {
        let accepting = listener::accept(broker.clone(), connections.clone(), acceptor, index);
        tasks.front.spawn_until_stopped(accepting);
    }
    Node {
        broker,
        addresses: bound.addresses,
        controller_addresses: bound.controller_addresses,
        admin_address,
        connections,
        controller,
        tasks,
        front: None,
        side,
    }
}

/// What clients are told for each listener. A port of 0 becomes the one that the network gave, an empty
/// host the machine's name.
fn advertised(
    config: &BrokerConfig,
    addresses: &[SocketAddr],
    network: &dyn Network,
) -> Vec<AdvertisedListener> {
    let listeners = config.listeners.advertised_to_clients().zip(addresses);
    let listeners = listeners.map(|(listener, bound)| AdvertisedListener {
        name: listener.name.clone(),
        host: match listener.host.as_str() {
            "" | "0.0.0.0" | "::" => network.host_name(),
            host => host.to_owned(),
        },
        port: if listener.port == 0 { bound.port() } else { listener.port },
        security_protocol: 0,
    });
    listeners.collect()
}
