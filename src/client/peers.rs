//! The connections from this node to the others of its cluster: one for each node and purpose, opened when it is first
//! needed, dropped when it fails.
//!
//! What is urgent (a vote) has a connection of its own, and does not wait behind what is large (a snapshot). Tasks own
//! the connections, and the attempts to open them: whoever asks may go away at any time. After an attempt that failed the
//! next one waits, a little longer each time, and whoever asks meanwhile is told the last error at once.
//!
//! Where a node listens is told by those who know ([`Peers::set_controllers`], [`Peers::set_brokers`]); a purpose says
//! which of its listeners is meant, and with it what an outbound connection needs to be let in. (All listeners are
//! PLAINTEXT so far, so that is nothing yet.)

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ClientError, Connection};
use crate::env::{Chance, Network, Surroundings, Tasks};
use crate::types::NodeId;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer may take where whoever asks sets no limit.
const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// The pause after a first attempt that failed; it doubles up to the greatest.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Entries of the metadata log, from the leader of the quorum.
    RaftAppend,
    /// Votes.
    RaftVote,
    /// Snapshots of the metadata.
    RaftSnapshot,
    /// What the leader of the quorum has for a node that it does not call.
    RaftTake,
    /// Changes of the quorum's voters.
    QuorumMembers,
    /// How the quorum is, and signs of life to its leader.
    QuorumState,
    /// Requests to the active controller that were asked of another node.
    Controller,
    /// What a broker lives by: its registration and heartbeats, and changes of its partitions' replicas in sync.
    BrokerLifecycle,
    /// Records from a partition's leader; each fetcher has one.
    Fetch(u16),
    /// What one broker asks another beside that.
    Broker,
}

/// Which of a node's listeners a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// The first of `controller.listener.names`.
    Controller,
    /// `inter.broker.listener.name`.
    Broker,
}

impl Purpose {
    fn way(self) -> Way {
        match self {
            Self::RaftAppend
            | Self::RaftVote
            | Self::RaftSnapshot
            | Self::RaftTake
            | Self::QuorumMembers
            | Self::QuorumState
            | Self::Controller
            | Self::BrokerLifecycle => Way::Controller,
            Self::Fetch(_) | Self::Broker => Way::Broker,
        }
    }

    /// Whether Kafka's messages are sent, whose versions both sides have to know.
    fn negotiates(self) -> bool {
        matches!(self, Self::Fetch(_) | Self::Broker)
    }
}

#[derive(Clone)]
enum Link {
    Opening,
    Open(Connection),
    Failed { error: ClientError, until: Instant, pause: Duration },
}

type Links = HashMap<(NodeId, Purpose), watch::Receiver<Link>>;

struct Inner {
    network: Arc<dyn Network>,
    chance: Arc<dyn Chance>,
    /// What the others see in their logs.
    client_id: String,
    tasks: Tasks,
    addresses: Mutex<HashMap<(NodeId, Way), String>>,
    links: Mutex<Links>,
}

/// The other nodes. Clones are the same.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

impl Peers {
    /// Those that the node `own` may have to do with.
    pub fn new(own: NodeId, surroundings: &Surroundings) -> Self {
        let Surroundings { network, chance, .. } = surroundings.clone();
        let (addresses, links) = Default::default();
        let client_id = format!("raftsman-node-{own}");
        Self { inner: Arc::new(Inner { network, chance, client_id, tasks: Tasks::new(), addresses, links }) }
    }

    /// Says where controllers are (`host:port`); those that are not named are where they were.
    pub fn set_controllers(&self, addresses: impl IntoIterator<Item = (NodeId, String)>) {
        self.set(Way::Controller, addresses);
    }

    /// Says where brokers are (`host:port`); those that are not named are where they were.
    pub fn set_brokers(&self, addresses: impl IntoIterator<Item = (NodeId, String)>) {
        self.set(Way::Broker, addresses);
    }

    fn set(&self, way: Way, addresses: impl IntoIterator<Item = (NodeId, String)>) {
        for (node, address) in addresses {
            let before = self.inner.addresses.lock().insert((node, way), address.clone());
            if before.is_some_and(|before| before != address) {
                // What is open leads to where it was.
                self.inner.links.lock().retain(|(of, purpose), _| *of != node || purpose.way() != way);
            }
        }
    }

    /// Where the controller of a node listens, as far as it was told.
    pub fn controller(&self, node: NodeId) -> Option<String> {
        self.inner.addresses.lock().get(&(node, Way::Controller)).cloned()
    }

    /// The nodes whose controllers' addresses were told.
    pub fn controllers(&self) -> BTreeSet<NodeId> {
        let addresses = self.inner.addresses.lock();
        addresses.keys().filter(|(_, way)| *way == Way::Controller).map(|(node, _)| *node).collect()
    }

    /// The connection to a node, made when there is none. Whoever asks goes away when they like: the connection is
    /// there for the next one.
    ///
    /// # Errors
    /// When the node's address is not known, or it could not be reached just now.
    pub async fn connection(&self, node: NodeId, purpose: Purpose) -> Result<Connection, ClientError> {
        let mut link = self.link(node, purpose)?;
        let settled = link.wait_for(|link| !matches!(link, Link::Opening)).await;
        match settled.as_deref() {
            Ok(Link::Open(connection)) => Ok(connection.clone()),
            Ok(Link::Failed { error, .. }) => Err(error.clone()),
            Ok(Link::Opening) | Err(_) => Err(ClientError::Lost {
                address: format!("node {node}"),
                reason: "this node stops".to_owned(),
            }),
        }
    }

    /// The connection that is open already, if any is.
    pub fn open_connection(&self, node: NodeId, purpose: Purpose) -> Option<Connection> {
        match &*self.inner.links.lock().get(&(node, purpose))?.borrow() {
            Link::Open(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Forgets that a node could not be reached: it has just been heard of.
    pub fn retry_now(&self, node: NodeId) {
        let is_failed = |link: &watch::Receiver<Link>| matches!(*link.borrow(), Link::Failed { .. });
        self.inner.links.lock().retain(|(of, _), link| *of != node || !is_failed(link));
    }

    /// Opens no more connections, and closes those that nobody else has.
    pub async fn close(&self) {
        self.inner.tasks.stop().await;
        self.inner.links.lock().clear();
    }

    /// The link as it is, or a new one that is being opened.
    fn link(&self, node: NodeId, purpose: Purpose) -> Result<watch::Receiver<Link>, ClientError> {
        let mut links = self.inner.links.lock();
        let mut pause = None;
        if let Some(link) = links.get(&(node, purpose)) {
            match &*link.borrow() {
                Link::Opening => return Ok(link.clone()),
                Link::Open(connection) if connection.is_open() => return Ok(link.clone()),
                Link::Failed { until, .. } if Instant::now() < *until => return Ok(link.clone()),
                Link::Failed { pause: last, .. } => pause = Some((*last * 2).min(BACKOFF_MAX)),
                Link::Open(_) => {}
            }
        }
        let address = self.inner.addresses.lock().get(&(node, purpose.way())).cloned();
        let address = address.ok_or_else(|| ClientError::Unreachable {
            address: format!("node {node}"),
            reason: "its address is not known".to_owned(),
        })?;
        let (sender, link) = watch::channel(Link::Opening);
        links.insert((node, purpose), link.clone());
        let inner = self.inner.clone();
        // Only its own place may be taken over: when it is forgotten meanwhile, the connection goes with it.
        self.inner.tasks.spawn_until_stopped(async move {
            let opened = inner.open(&address, purpose).await;
            sender.send_replace(match opened {
                Ok(connection) => Link::Open(connection),
                Err(error) => {
                    let pause = pause.unwrap_or(BACKOFF_MIN);
                    let wait = pause / 2 + inner.chance.up_to(pause / 2);
                    tracing::debug!(%node, ?purpose, %error, "a node cannot be reached");
                    Link::Failed { error, until: Instant::now() + wait, pause }
                }
            });
        });
        Ok(link)
    }
}

impl Inner {
    async fn open(&self, address: &str, purpose: Purpose) -> Result<Connection, ClientError> {
        let (network, client_id) = (&*self.network, &*self.client_id);
        match purpose.negotiates() {
            true => Connection::open(network, address, client_id, CONNECT_LIMIT, REQUEST_TIMEOUT_MS).await,
            false => {
                Connection::open_internal(network, address, client_id, CONNECT_LIMIT, REQUEST_TIMEOUT_MS)
                    .await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real;

    const NODE: NodeId = NodeId(2);

    #[tokio::test]
    async fn one_connection_serves_all_who_ask_and_a_failed_one_is_made_anew() {
        let surroundings = real::surroundings();
        let peers = Peers::new(NodeId(1), &surroundings);
        let ask = || peers.connection(NODE, Purpose::RaftVote);
        assert!(matches!(ask().await, Err(ClientError::Unreachable { .. })), "nobody said where it is");

        let bound = surroundings.network.bind("127.0.0.1", 0, Default::default()).await.unwrap();
        let address = bound.local_addr().unwrap();
        peers.set_controllers([(NODE, address.to_string())]);
        let (one, other) = tokio::join!(ask(), ask());
        let (mut first, _) = bound.accept().await.unwrap();
        assert!(one.unwrap().is_open() && other.unwrap().is_open());
        assert!(peers.open_connection(NODE, Purpose::RaftAppend).is_none(), "each purpose has its own");

        // The other side goes away, and does not come back at once.
        let open = peers.open_connection(NODE, Purpose::RaftVote).unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut first).await.unwrap();
        drop(bound);
        open.closed().await;
        assert!(ask().await.is_err());
        let port = address.port();
        let bound = surroundings.network.bind("127.0.0.1", port, Default::default()).await.unwrap();
        peers.retry_now(NODE);
        assert!(ask().await.unwrap().is_open());
        bound.accept().await.unwrap();
        peers.close().await;
    }
}
