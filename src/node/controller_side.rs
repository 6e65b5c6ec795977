//! The side of a node that other controllers see: how it reaches them, and what serves them from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Bound;
use super::formatting::{FirstQuorum, InitialController};
use crate::client::peers::Peers;
use crate::config::BrokerConfig;
use crate::config::rooms::listeners::Listener;
use crate::env::{Acceptor, Network, Surroundings, Tasks};
use crate::raft::{Endpoint, Formation, Member, MetadataQuorum, Reach};
use crate::server::Broker;
use crate::server::controller_listener::{self, Front};
use crate::server::listener::Connections;
use crate::types::NodeId;

/// Tells those who came to a controller's listener that there is a broker.
pub(super) type FrontSender = watch::Sender<Option<(Arc<Broker>, Arc<Connections>)>>;

/// See the head of this module. Clones are the same.
#[derive(Clone)]
pub(super) struct ControllerSide {
    pub peers: Peers,
    front: Front,
    acceptors: Arc<Mutex<Vec<Box<dyn Acceptor>>>>,
    /// How many listeners come before those of controllers.
    first_index: usize,
    tasks: Tasks,
}

impl ControllerSide {
    /// Takes the listeners for controllers.
    pub(super) fn new(
        config: &BrokerConfig,
        surroundings: &Surroundings,
        bound: &mut Bound,
    ) -> (FrontSender, Self) {
        let (sender, front) = watch::channel(None);
        let side = Self {
            peers: Peers::new(NodeId(config.node.id), surroundings),
            front,
            acceptors: Arc::new(Mutex::new(std::mem::take(&mut bound.controller_acceptors))),
            first_index: config.listeners.of_clients().count(),
            tasks: Tasks::new(),
        };
        (sender, side)
    }

    /// Lets others in from now on.
    pub(super) fn serve(&self, quorum: &MetadataQuorum) {
        for (at, acceptor) in self.acceptors.lock().drain(..).enumerate() {
            let (quorum, front) = (quorum.clone(), self.front.clone());
            let index = self.first_index + at;
            let accepting = controller_listener::accept(quorum, front, acceptor, index, self.tasks.clone());
            self.tasks.spawn_until_stopped(accepting);
        }
    }

    /// Lets nobody in any more, and ends the quorum.
    pub(super) async fn stop(&self, quorum: Option<&MetadataQuorum>) {
        self.acceptors.lock().clear();
        self.tasks.stop().await;
        if let Some(quorum) = quorum {
            quorum.shutdown().await;
        }
        self.peers.close().await;
    }
}

/// How this node takes part in the quorum; `None`: it is alone, and nobody can come.
pub(super) fn part_in_quorum(
    config: &BrokerConfig,
    first: &FirstQuorum,
    side: &ControllerSide,
    controller_addresses: &[SocketAddr],
    network: &Arc<dyn Network>,
) -> Option<(Reach, Formation)> {
    let (voters, bootstrap_servers) = (&config.quorum.voters.0, &config.quorum.bootstrap_servers.0);
    if config.listeners.of_controllers().is_empty() && voters.is_empty() && bootstrap_servers.is_empty() {
        return None;
    }
    let own = NodeId(config.node.id);
    side.peers.set_controllers(
        voters.iter().map(|(id, address)| (NodeId(*id), address.clone())).filter(|(id, _)| *id != own),
    );
    let endpoints = endpoints(config, controller_addresses, &**network);
    let listener_name = config.listeners.controller_names.first().cloned().unwrap_or_default();
    let formation = match first {
        _ if !config.node.is_controller() => Formation::Joins,
        _ if voters.contains_key(&config.node.id) => {
            let voters = voters.keys().filter_map(|id| u64::try_from(*id).ok());
            Formation::Voters(voters.map(|id| (id, Member::default())).collect())
        }
        FirstQuorum::Joins => Formation::Joins,
        FirstQuorum::Standalone => Formation::Alone(Member::default()),
        FirstQuorum::InitialControllers(controllers) => {
            let voter = |named: &InitialController| {
                let (host, port) = (named.host.clone(), named.port);
                let endpoint = Endpoint { name: listener_name.clone(), host, port };
                let member = Member::new(Some(named.directory_id), vec![endpoint]);
                Some((u64::try_from(named.id).ok()?, member))
            };
            let others = controllers.iter().filter(|named| named.id != config.node.id);
            let address = |named: &InitialController| {
                let endpoint = Endpoint { name: String::new(), host: named.host.clone(), port: named.port };
                (NodeId(named.id), endpoint.address())
            };
            side.peers.set_controllers(others.map(address));
            Formation::Voters(controllers.iter().filter_map(voter).collect())
        }
        // Nobody else is named who could take it in.
        FirstQuorum::AsConfigured if is_only_bootstrap_server(config, &endpoints, &**network) => {
            Formation::Alone(Member::default())
        }
        FirstQuorum::AsConfigured => Formation::Joins,
    };
    let reach = Reach {
        peers: side.peers.clone(),
        network: network.clone(),
        endpoints,
        bootstrap_servers: bootstrap_servers.clone(),
        joins_by_itself: config.node.is_controller() && config.quorum.auto_join,
        listener_name,
    };
    Some((reach, formation))
}

/// Where others reach this node's controller: where all are told by `controller.quorum.voters`, else as it advertises.
fn endpoints(config: &BrokerConfig, bound: &[SocketAddr], network: &dyn Network) -> Vec<Endpoint> {
    let listeners = config.listeners.advertised_to_controllers().zip(bound);
    let advertised = listeners.map(|(listener, bound)| Endpoint {
        name: listener.name.clone(),
        host: match listener.host.as_str() {
            "" | "0.0.0.0" | "::" => network.host_name(),
            host => host.to_owned(),
        },
        port: if listener.port == 0 { bound.port() } else { listener.port },
    });
    let mut endpoints: Vec<Endpoint> = advertised.collect();
    let told = config.quorum.voters.0.get(&config.node.id).and_then(|address| address.rsplit_once(':'));
    if let (Some(first), Some((host, port))) = (endpoints.first_mut(), told)
        && let Ok(port) = port.parse()
    {
        first.host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        first.port = port;
    }
    endpoints
}

/// Whether nobody but this node is named by `controller.quorum.bootstrap.servers`.
fn is_only_bootstrap_server(config: &BrokerConfig, endpoints: &[Endpoint], network: &dyn Network) -> bool {
    let is_own = |address: &String| {
        let Some((host, port)) = address.rsplit_once(':') else { return false };
        let listens = |listener: &Listener| listener.host == host || listener.host.is_empty();
        let is_host = ["localhost", "127.0.0.1", "[::1]"].contains(&host)
            || host == network.host_name()
            || endpoints.iter().any(|endpoint| endpoint.host == host)
            || config
                .listeners
                .of_controllers()
                .iter()
                .any(|listener| !listener.host.is_empty() && listens(listener));
        is_host && endpoints.iter().any(|endpoint| port.parse() == Ok(endpoint.port))
    };
    config.quorum.bootstrap_servers.0.iter().all(is_own)
}
