//! What each room of the house is told by `server.properties`: a struct for each, with its keys declared in it, and
//! [`BrokerConfig`], which holds them.

pub mod balancing;
pub mod cleaner;
pub mod connections;
pub mod group_coordinator;
pub mod listeners;
pub mod node;
pub mod quorum;
pub mod registration;
pub mod replication;
pub mod requests;
pub mod storage;
pub mod topics;

use super::declaration::BrokerKey;
use super::key::ConfigError;
use super::values::BrokerValues;

macro_rules! rooms {
    ($($(#[doc = $doc:literal])+ $field:ident: $room:ty;)+) => {
        /// The typed configuration of this node.
        #[derive(Clone, Debug)]
        pub struct BrokerConfig {
            $($(#[doc = $doc])+ pub $field: $room,)+
            /// Start although acknowledged data is missing, with what is there. Of one start (`--accept-missing-data`):
            /// no key sets it, so that nobody forgets it in a file.
            pub accepts_missing_data: bool,
            /// The id that a new cluster gets, or the one that a new folder belongs to (`CLUSTER_ID` in the environment).
            pub cluster_id: Option<String>,
            /// Every value that somebody set, and where; topic defaults are resolved from it.
            pub values: BrokerValues,
        }

        /// The keys of all rooms.
        pub(super) const TABLES: &[&[BrokerKey]] = &[$(<$room>::KEYS),+];

        impl BrokerConfig {
            /// Reads what is set, or the defaults.
            pub(super) fn read(values: BrokerValues) -> Result<Self, ConfigError> {
                let config = Self {
                    $($field: <$room>::read(&values)?,)+
                    accepts_missing_data: false,
                    cluster_id: None,
                    values,
                };
                config.node.check(&config.quorum, &config.listeners)?;
                config.listeners.check(config.node.is_broker(), config.node.is_controller())?;
                config.storage.check()?;
                Ok(config)
            }
        }
    };
}

rooms! {
    /// Who the node is.
    node: node::NodeConfig;
    /// Where it listens.
    listeners: listeners::ListenersConfig;
    /// Where the controllers are.
    quorum: quorum::QuorumConfig;
    /// How it registers and is known to live.
    registration: registration::RegistrationConfig;
    /// How many connections it takes.
    connections: connections::ConnectionsConfig;
    /// What clients may ask for at once.
    requests: requests::RequestsConfig;
    /// Where its data is.
    storage: storage::StorageConfig;
    /// The cleaner of its logs.
    log_cleaner: cleaner::LogCleanerConfig;
    /// How topics come and go.
    topics: topics::TopicsConfig;
    /// How leaderships are looked after.
    balancing: balancing::BalancingConfig;
    /// Its replicas.
    replication: replication::ReplicationConfig;
    /// Its coordinator of groups.
    groups: group_coordinator::GroupCoordinatorConfig;
}
