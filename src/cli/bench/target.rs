//! What is measured: the cluster, the topic, and which broker leads which of its partitions.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use clap::Args;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::Request;

use crate::cli::output::CliError;
use crate::cli::properties::ConnectionArguments;
use crate::client::admin::{EARLIEST, LATEST};
use crate::client::{Client, ClientError, TopicMetadata, text, topic_name};

/// Which cluster, and how the result is told.
#[derive(Debug, Args)]
pub struct ClusterArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Process of a broker on this machine: tells what it costs in CPU time and memory
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// One JSON object in place of the table
    #[arg(long)]
    pub json: bool,
}

/// Which topic.
#[derive(Debug, Args)]
pub struct TopicArguments {
    /// The topic to write to or read from
    #[arg(long, default_value = "raftsman-bench")]
    pub topic: String,
    /// Create the topic when it does not exist
    #[arg(long)]
    pub create_topic: bool,
    /// Use the first so many partitions; with --create-topic, what the topic gets [default: all; 1]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// With --create-topic: replicas of each partition; the broker's default when absent
    #[arg(long, requires = "create_topic", value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
    /// With --create-topic: a configuration of the topic; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "create_topic")]
    pub topic_config: Vec<String>,
}

/// One connection to open: to this broker, over these of its partitions, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub address: SocketAddr,
    pub partitions: Vec<i32>,
}

/// A topic whose leaders are known.
pub struct Target {
    pub client: Arc<Client>,
    pub topic: TopicMetadata,
    /// The partitions that are used, by the broker that leads them.
    leaders: BTreeMap<SocketAddr, Vec<i32>>,
}

/// First and next offsets by partition.
pub(super) type Ends = BTreeMap<i32, (i64, i64)>;

pub(super) fn client_of(cluster: &ClusterArguments) -> Result<Client, CliError> {
    cluster.connection.client(&cluster.connection.properties(&[])?)
}

/// The address behind a `host:port`.
pub(super) fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    let mut found =
        address.to_socket_addrs().map_err(|error| CliError::while_doing(format!("find {address}"), error))?;
    found.next().ok_or_else(|| CliError::Failed(format!("{address} has no address")))
}

impl Target {
    /// Finds the topic, or creates it where that is asked for.
    pub async fn find(cluster: &ClusterArguments, arguments: &TopicArguments) -> Result<Self, CliError> {
        let client = Arc::new(client_of(cluster)?);
        let name = arguments.topic.as_str();
        let mut found = client.topic(name, false).await?;
        if found.is_none() && arguments.create_topic {
            create(&client, arguments).await?;
            found = client
                .retry(async || {
                    let found = client.topic_once(name).await?;
                    let is_led =
                        |topic: &TopicMetadata| topic.partitions.iter().all(|part| part.leader.is_some());
                    found.filter(is_led).map(Some).ok_or(ClientError::Refused {
                        code: ResponseError::LeaderNotAvailable,
                        message: None,
                    })
                })
                .await?;
        }
        let Some(topic) = found else {
            return Err(CliError::Failed(format!(
                "topic '{name}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); --create-topic creates it"
            )));
        };
        let wanted = arguments.partitions.unwrap_or(i32::MAX);
        if arguments
            .partitions
            .is_some_and(|wanted| usize::try_from(wanted).is_ok_and(|wanted| wanted > topic.partitions.len()))
        {
            return Err(CliError::Failed(format!(
                "topic '{name}' has {} partitions, fewer than the {wanted} of --partitions",
                topic.partitions.len()
            )));
        }
        let mut leaders = BTreeMap::<SocketAddr, Vec<i32>>::new();
        for partition in topic.partitions.iter().filter(|partition| partition.index < wanted) {
            let address = partition.leader.and_then(|leader| client.broker_address(leader));
            let address =
                address.ok_or_else(|| ClientError::NoLeader(format!("{name}-{}", partition.index)))?;
            leaders.entry(resolve(&address)?).or_default().push(partition.index);
        }
        Ok(Self { client, topic, leaders })
    }

    /// Connections in turn to all brokers that lead something; each writes to all that its broker
    /// leads, and each begins at another partition.
    pub fn shared_lanes(&self, connections: usize) -> Vec<Lane> {
        shared_lanes(&self.leaders, connections)
    }

    /// As [`Target::shared_lanes`], but each partition belongs to one connection only. Where there are
    /// more connections than partitions, several have the same one.
    pub fn divided_lanes(&self, connections: usize) -> Vec<Lane> {
        divided_lanes(&self.leaders, connections)
    }

    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.leaders.values().flatten().copied()
    }

    /// The highest version of a request that both sides know, between the two given.
    pub async fn version<R: Request>(&self, min: i16, max: i16) -> Result<i16, CliError> {
        version::<R>(&self.client, min, max).await
    }

    /// Where the partitions in use begin and end.
    pub async fn ends(&self) -> Result<Ends, CliError> {
        let ask = async |timestamp| {
            let name = &self.topic.name;
            let wanted = self.partitions().map(|index| ((name.clone(), index), timestamp)).collect();
            let mut offsets = BTreeMap::new();
            for ((_, index), listed) in self.client.list_offsets(&wanted, 0).await? {
                offsets.insert(index, listed?.offset);
            }
            Ok::<_, CliError>(offsets)
        };
        let (first, next) = (ask(EARLIEST).await?, ask(LATEST).await?);
        Ok(next
            .into_iter()
            .map(|(index, next)| (index, (first.get(&index).copied().unwrap_or(0), next)))
            .collect())
    }
}

pub(super) async fn version<R: Request>(client: &Client, min: i16, max: i16) -> Result<i16, CliError> {
    let connection = client.any().await?;
    let version = connection.require::<R>(max)?;
    if version < min {
        return Err(CliError::Failed(format!(
            "{} serves request {} up to version {version} only; {min} is needed",
            connection.address(),
            R::KEY
        )));
    }
    Ok(version)
}

/// Records in all partitions together.
pub(super) fn next_offsets_sum(ends: &Ends) -> i64 {
    ends.values().map(|(_, next)| next).sum()
}

fn shared_lanes(leaders: &BTreeMap<SocketAddr, Vec<i32>>, connections: usize) -> Vec<Lane> {
    let brokers = leaders.len().max(1);
    let lane = |(number, (address, led)): (usize, (&SocketAddr, &Vec<i32>))| {
        let mut partitions = led.clone();
        partitions.rotate_left(number / brokers % led.len().max(1));
        Lane { address: *address, partitions }
    };
    leaders
        .iter()
        .cycle()
        .take(if leaders.is_empty() { 0 } else { connections })
        .enumerate()
        .map(lane)
        .collect()
}

fn divided_lanes(leaders: &BTreeMap<SocketAddr, Vec<i32>>, connections: usize) -> Vec<Lane> {
    let mut lanes = Vec::with_capacity(connections);
    for (number, (address, led)) in leaders.iter().enumerate() {
        // The first brokers get the connections that are left over; each broker has one at least.
        let share = (connections + leaders.len() - 1 - number) / leaders.len();
        for connection in 0..share.max(1) {
            let partitions = if share > led.len() {
                led.iter().copied().skip(connection % led.len()).take(1).collect()
            } else {
                led.iter().copied().skip(connection).step_by(share.max(1)).collect()
            };
            lanes.push(Lane { address: *address, partitions });
        }
    }
    lanes
}

async fn create(client: &Client, arguments: &TopicArguments) -> Result<(), CliError> {
    let mut configs = Vec::new();
    for pair in &arguments.topic_config {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("--topic-config '{pair}' is not of the form key=value"))
        })?;
        let value = Some(text(value.trim()));
        configs.push(CreatableTopicConfig::default().with_name(text(key.trim())).with_value(value));
    }
    let topic = CreatableTopic::default()
        .with_name(topic_name(&arguments.topic))
        .with_num_partitions(arguments.partitions.unwrap_or(1))
        .with_replication_factor(arguments.replication_factor.unwrap_or(-1))
        .with_configs(configs);
    let timeout_ms = client.options().timeout_ms();
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms);
    let created = client.retry(async || {
        let response = client.controller().await?.call(&request).await?;
        let result = response.topics.first();
        let code = result.map_or(ResponseError::UnknownServerError.code(), |result| result.error_code);
        match ClientError::check(code, result.and_then(|result| result.error_message.as_deref())) {
            // After a lost answer it may well be our own doing.
            Err(error) if error.code() == Some(ResponseError::TopicAlreadyExists) => Ok(()),
            outcome => outcome,
        }
    });
    created.await.map_err(|error| CliError::while_doing(format!("create topic '{}'", arguments.topic), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_leaders() {
        let one: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let two: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let leaders = BTreeMap::from([(one, vec![0, 2, 4]), (two, vec![1])]);
        let lane = |address, partitions: &[i32]| Lane { address, partitions: partitions.to_vec() };

        let shared = [lane(one, &[0, 2, 4]), lane(two, &[1]), lane(one, &[2, 4, 0]), lane(two, &[1])];
        assert_eq!(shared_lanes(&leaders, 4), shared);
        assert_eq!(shared_lanes(&BTreeMap::new(), 4), []);

        assert_eq!(divided_lanes(&leaders, 1), [lane(one, &[0, 2, 4]), lane(two, &[1])]);
        assert_eq!(divided_lanes(&leaders, 3), [lane(one, &[0, 4]), lane(one, &[2]), lane(two, &[1])]);
        let many = divided_lanes(&leaders, 8);
        assert_eq!(many.len(), 8);
        assert_eq!(many[3], lane(one, &[0]));
    }
}
