//! `raftsman topics` (kafka-topics): create, list, describe, alter and delete topics.

mod change;
mod describe;

use std::io::Write;

use clap::{ArgGroup, Args};

use super::output::{CliError, Output};
use super::pattern::TopicPattern;
use super::properties::ConnectionArguments;
use crate::client::{Client, TopicMetadata};

/// Arguments of `raftsman topics`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    group = ArgGroup::new("action").required(true).args(["create", "list", "describe", "alter", "delete"]),
    after_help = "Examples:
  raftsman topics --create --topic orders --partitions 6 --config retention.ms=86400000
  raftsman topics --create --topic orders --replica-assignment 1:2,2:3,3:1
  raftsman topics --list
  raftsman topics --describe --topic 'orders.*'
  raftsman topics --describe --under-replicated-partitions
  raftsman topics --alter --topic orders --partitions 12
  raftsman topics --delete --topic orders --if-exists"
)]
pub struct TopicsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Create a topic
    #[arg(long, requires = "topic")]
    pub create: bool,
    /// List topics
    #[arg(long)]
    pub list: bool,
    /// Describe topics and their partitions
    #[arg(long)]
    pub describe: bool,
    /// Raise the number of partitions
    #[arg(long, requires = "topic", requires = "partitions")]
    pub alter: bool,
    /// Delete topics
    #[arg(long, requires = "topic")]
    pub delete: bool,
    /// The topic; a regular expression too, but for --create
    #[arg(long)]
    pub topic: Option<String>,
    /// The topic to describe, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["topic", "create", "list", "alter", "delete"])]
    pub topic_id: Option<String>,
    /// Partitions of the topic; num.partitions of the broker when absent
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..), conflicts_with_all = ["list", "describe", "delete"])]
    pub partitions: Option<i32>,
    /// Replicas of each partition; default.replication.factor of the broker when absent
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..), conflicts_with_all = ["list", "describe", "delete", "alter"])]
    pub replication_factor: Option<i16>,
    /// Brokers of each partition, the preferred leader first: 1:2,2:3 for two partitions
    #[arg(long, value_name = "BROKER:BROKER,…", conflicts_with_all = ["list", "describe", "delete", "replication_factor"])]
    pub replica_assignment: Option<String>,
    /// A configuration of the new topic; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["list", "describe", "delete", "alter"])]
    pub config: Vec<String>,
    /// Taken for Kafka's sake, where it is without effect as well: raftsman configs --delete-config
    #[arg(long, value_name = "KEY", hide = true)]
    pub delete_config: Vec<String>,
    /// With --create: it is fine when the topic exists
    #[arg(long, requires = "create")]
    pub if_not_exists: bool,
    /// With --alter, --delete, --describe: it is fine when the topic does not exist
    #[arg(long, conflicts_with_all = ["create", "list"])]
    pub if_exists: bool,
    /// Leave internal topics out
    #[arg(long)]
    pub exclude_internal: bool,
    /// Describe only partitions with fewer in-sync replicas than replicas
    #[arg(long, requires = "describe")]
    pub under_replicated_partitions: bool,
    /// Describe only partitions without a leader
    #[arg(long, requires = "describe")]
    pub unavailable_partitions: bool,
    /// Describe only partitions with fewer in-sync replicas than min.insync.replicas
    #[arg(long, requires = "describe")]
    pub under_min_isr_partitions: bool,
    /// Describe only partitions with just min.insync.replicas in-sync replicas
    #[arg(long, requires = "describe")]
    pub at_min_isr_partitions: bool,
    /// Describe only topics with configurations of their own, without their partitions
    #[arg(long, requires = "describe")]
    pub topics_with_overrides: bool,
    /// Partitions per answer of the broker while describing
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(i32).range(1..))]
    pub partition_size_limit_per_response: i32,
    /// One JSON object per topic
    #[arg(long)]
    pub json: bool,
}

pub async fn run(arguments: TopicsArguments, out: &mut Output) -> Result<(), CliError> {
    if !arguments.delete_config.is_empty() {
        eprintln!(
            "warning: --delete-config does nothing here, as in Kafka since 4.0; use raftsman configs --alter \
             --topic {} --delete-config {}",
            arguments.topic.as_deref().unwrap_or("TOPIC"),
            arguments.delete_config.join(",")
        );
    }
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    if arguments.create {
        change::create(&client, &arguments, out).await
    } else if arguments.alter {
        change::alter(&client, &arguments, out).await
    } else if arguments.delete {
        change::delete(&client, &arguments, out).await
    } else if arguments.describe {
        describe::describe(&client, &arguments, out).await
    } else {
        list(&client, &arguments, out).await
    }
}

async fn list(client: &Client, arguments: &TopicsArguments, out: &mut Output) -> Result<(), CliError> {
    for topic in matching(client, arguments).await? {
        if arguments.json {
            out.json(&describe::topic_json(
                &topic,
                None,
                &topic.partitions.iter().collect::<Vec<_>>(),
                None,
            ))?;
        } else {
            writeln!(out, "{}", topic.name)?;
        }
    }
    Ok(())
}

/// The topics that the arguments name, in order of their names.
async fn matching(client: &Client, arguments: &TopicsArguments) -> Result<Vec<TopicMetadata>, CliError> {
    let pattern = TopicPattern::from_option(arguments.topic.as_deref())?;
    let mut topics = client.all_topics().await?;
    topics.retain(|topic| {
        pattern.matches(&topic.name)
            && !(arguments.exclude_internal && topic.is_internal)
            && arguments.topic_id.as_ref().is_none_or(|id| crate::types::uuid_to_base64(topic.id) == *id)
    });
    Ok(topics)
}

/// As [`matching`]; that nothing matches is an error unless `--if-exists` allows it.
async fn matching_some(client: &Client, arguments: &TopicsArguments) -> Result<Vec<TopicMetadata>, CliError> {
    let topics = matching(client, arguments).await?;
    if topics.is_empty() && !arguments.if_exists {
        if let Some(name) = &arguments.topic {
            return Err(CliError::Failed(format!(
                "Topic '{name}' does not exist as expected (UNKNOWN_TOPIC_OR_PARTITION); see raftsman topics --list"
            )));
        }
        if let Some(id) = &arguments.topic_id {
            return Err(CliError::Failed(format!(
                "TopicId '{id}' does not exist as expected (UNKNOWN_TOPIC_ID); see raftsman topics --describe"
            )));
        }
    }
    Ok(topics)
}
