//! A small Kafka client: bootstrap, version negotiation, metadata, leaders, retries.
//!
//! Requests go over one pipelined [`Connection`] per broker. Whatever is retriable is tried again with a
//! growing pause, never quite the same (KIP-580), until the deadline (`default.api.timeout.ms`, one minute) has passed; the error that is
//! then reported is the last one met.

pub mod admin;
pub mod assignor;
mod backoff;
pub mod committed;
pub mod configs;
pub mod connection;
pub mod consumer;
pub mod consumer_protocol;
pub mod coordinator;
pub mod error;
pub mod groups;
mod link;
pub mod member;
pub mod partitioner;
pub mod peers;
pub mod producer;
pub mod pulse;
pub mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::env::{Chance, Network, Surroundings};
use crate::types::host_and_port;
use backoff::{Backoff, Retries};
pub use connection::Connection;
pub use error::{ClientError, error_name};

/// Longest wait for a connection.
const CONNECT_MS_MAX: u64 = 10_000;

/// How a client reaches its cluster. Names and defaults are Kafka's.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `host:port`, tried in order.
    pub bootstrap_servers: Vec<String>,
    pub client_id: String,
    /// How long one request may take.
    pub request_timeout_ms: u64,
    /// How long one operation with its retries may take.
    pub api_timeout_ms: u64,
    /// The first pause before a retry, and the longest; it doubles in between.
    pub retry_backoff_ms: u64,
    pub retry_backoff_max_ms: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["127.0.0.1:9092".to_owned()],
            client_id: "raftsman-cli".to_owned(),
            request_timeout_ms: 30_000,
            api_timeout_ms: 60_000,
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 1_000,
        }
    }
}

impl ClientOptions {
    /// How long a broker may take over a request, as requests that change something name it.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.request_timeout_ms).unwrap_or(i32::MAX)
    }
}

/// One partition as Metadata answers it.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    pub index: i32,
    /// None while there is no leader.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
}

/// One topic as Metadata answers it, partitions in order of their index.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    pub name: String,
    /// Nil when the broker is too old to know ids.
    pub id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Default)]
struct State {
    /// `host:port` by broker id.
    brokers: BTreeMap<i32, String>,
    controller: Option<i32>,
    connections: BTreeMap<String, Connection>,
}

/// A client of one cluster.
pub struct Client {
    options: ClientOptions,
    network: Arc<dyn Network>,
    chance: Arc<dyn Chance>,
    state: Mutex<State>,
}

impl Client {
    /// Makes a client; nothing is connected yet.
    pub fn new(options: ClientOptions, surroundings: &Surroundings) -> Result<Self, ClientError> {
        for address in &options.bootstrap_servers {
            check_address(address)?;
        }
        let Surroundings { network, chance, .. } = surroundings.clone();
        Ok(Self { options, network, chance, state: Mutex::default() })
    }

    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// An open connection to any broker: one that is open already, else the first address that answers.
    /// Brokers named by the last metadata are tried after the bootstrap addresses.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let mut addresses = self.options.bootstrap_servers.clone();
        {
            let state = self.state.lock();
            if let Some(open) = state.connections.values().find(|connection| connection.is_open()) {
                return Ok(open.clone());
            }
            addresses.extend(
                state.brokers.values().filter(|b| !self.options.bootstrap_servers.contains(b)).cloned(),
            );
        }
        let mut last = ClientError::Address(String::new());
        for address in &addresses {
            match self.connect(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The connection to a broker, opened when there is none.
    pub async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        let address = self.state.lock().brokers.get(&id).cloned();
        match address {
            Some(address) => self.connect(&address).await,
            None => Err(ClientError::NoLeader(format!("broker {id} is not known, so what it leads"))),
        }
    }

    /// Where a broker listens that the last metadata named: `host:port`.
    pub fn broker_address(&self, id: i32) -> Option<String> {
        self.state.lock().brokers.get(&id).cloned()
    }

    async fn connect(&self, address: &str) -> Result<Connection, ClientError> {
        if let Some(open) = self.state.lock().connections.get(address).filter(|c| c.is_open()) {
            return Ok(open.clone());
        }
        let connection = self.connect_anew(address).await?;
        self.state.lock().connections.insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    /// A connection of its own.
    pub(super) async fn connect_anew(&self, address: &str) -> Result<Connection, ClientError> {
        let limit = Duration::from_millis(self.options.request_timeout_ms.min(CONNECT_MS_MAX));
        Connection::open(
            &*self.network,
            address,
            &self.options.client_id,
            limit,
            self.options.request_timeout_ms,
        )
        .await
    }

    /// The ids of the brokers that the last metadata named.
    pub fn broker_ids(&self) -> Vec<i32> {
        self.state.lock().brokers.keys().copied().collect()
    }

    /// Calls `attempt` until it succeeds, fails for good, or the deadline has passed. A cluster that
    /// cannot be reached at all is reported at once: waiting a minute for a broker that was never
    /// started helps nobody.
    pub async fn retry<T>(
        &self,
        attempt: impl AsyncFnMut() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let passes = |error: &ClientError| {
            error.is_retriable()
                && !matches!(error, ClientError::Unreachable { .. } | ClientError::NotKafka { .. })
        };
        self.retries(self.options.api_timeout_ms).run(passes, attempt).await
    }

    /// Pauses as the client's options have them.
    pub(super) fn backoff(&self) -> Backoff {
        let ClientOptions { retry_backoff_ms, retry_backoff_max_ms, .. } = self.options;
        Backoff::new(retry_backoff_ms, retry_backoff_max_ms, self.chance.clone())
    }

    /// Tries for so long.
    pub(super) fn retries(&self, timeout_ms: u64) -> Retries {
        Retries::new(self.backoff(), Duration::from_millis(timeout_ms))
    }

    /// Sends a request to any broker, with retries while the connection is lost.
    pub async fn call_any<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.retry(async || self.any().await?.call(request).await).await
    }

    /// The connection to the broker that Metadata names as controller, asked anew each time so that a
    /// retry finds the next one. Any other broker forwards as well, when that one cannot be reached.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        self.fetch_metadata(Some(&[])).await?;
        let controller = self.state.lock().controller;
        if let Some(id) = controller
            && let Ok(connection) = self.broker(id).await
        {
            return Ok(connection);
        }
        self.any().await
    }

    /// Metadata for the named topics, or for all with `None`. Never creates a topic. Topics that do not
    /// exist are in the answer with their error.
    pub async fn fetch_metadata(&self, topics: Option<&[&str]>) -> Result<MetadataResponse, ClientError> {
        self.metadata_with(topics, false).await
    }

    async fn metadata_with(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let connection = self.any().await?;
        let version = connection.require::<MetadataRequest>(i16::MAX)?;
        let named = topics.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
                .collect::<Vec<_>>()
        });
        // Version 0 says "all" with an empty list and cannot ask for none.
        let named = if version == 0 && named.is_none() { Some(Vec::new()) } else { named };
        let request = MetadataRequest::default().with_topics(named).with_allow_auto_topic_creation(create);
        let response = connection.call_version(&request, version).await?;
        ClientError::check(response.error_code, None)?;
        let mut state = self.state.lock();
        state.brokers = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, host_and_port(&broker.host, broker.port)))
            .collect();
        state.controller = (response.controller_id.0 >= 0).then_some(response.controller_id.0);
        Ok(response)
    }

    /// All topics, in order of their names.
    pub async fn all_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        let response = self.retry(async || self.fetch_metadata(None).await).await?;
        let mut topics = response
            .topics
            .iter()
            .filter(|topic| topic.error_code == 0 || !topic.partitions.is_empty())
            .map(topic_metadata)
            .collect::<Vec<_>>();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(topics)
    }

    /// One topic, asked for once: no creation, no retries.
    pub async fn topic_once(&self, name: &str) -> Result<Option<TopicMetadata>, ClientError> {
        let response = self.metadata_with(Some(&[name]), false).await?;
        let found = response.topics.first().filter(|topic| !topic.partitions.is_empty());
        Ok(found.map(topic_metadata))
    }

    /// One topic; `Ok(None)` when it does not exist. With `create` the broker may create it on the way
    /// (`auto.create.topics.enable`), and the call waits until it is there.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Option<TopicMetadata>, ClientError> {
        use kafka_protocol::ResponseError::{LeaderNotAvailable, UnknownTopicOrPartition};
        let mut asked_to_create = false;
        let found = self
            .retry(async || {
                let response = self.metadata_with(Some(&[name]), create).await?;
                let Some(topic) = response.topics.first() else { return Ok(None) };
                match kafka_protocol::ResponseError::try_from_code(topic.error_code) {
                    None => Ok(Some(topic_metadata(topic))),
                    // The answer that starts the creation, then the time until the leader is elected.
                    Some(UnknownTopicOrPartition) if create && !asked_to_create => {
                        asked_to_create = true;
                        Err(ClientError::Refused { code: LeaderNotAvailable, message: None })
                    }
                    Some(UnknownTopicOrPartition) => Ok(None),
                    Some(LeaderNotAvailable) if !topic.partitions.is_empty() => {
                        Ok(Some(topic_metadata(topic)))
                    }
                    Some(code) => Err(ClientError::Refused { code, message: None }),
                }
            })
            .await?;
        Ok(found)
    }
}

fn topic_metadata(
    topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic,
) -> TopicMetadata {
    let ids =
        |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let mut partitions = topic
        .partitions
        .iter()
        .map(|partition| PartitionMetadata {
            index: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            isr: ids(&partition.isr_nodes),
            offline: ids(&partition.offline_replicas),
        })
        .collect::<Vec<_>>();
    partitions.sort_by_key(|partition| partition.index);
    TopicMetadata {
        name: topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    }
}

/// The wire's type for a topic's name.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A string as the wire holds it.
pub fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

fn check_address(address: &str) -> Result<(), ClientError> {
    let wrong = || ClientError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty()
        || (host.contains(':') && !bracketed)
        || port.parse::<u16>().map_or(true, |port| port == 0)
    {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["localhost:9092", "127.0.0.1:1", "[::1]:9092"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for wrong in ["localhost", ":9092", "localhost:", "localhost:0", "localhost:99999", "::1:9092"] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }
}
