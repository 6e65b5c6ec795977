//! `raftsman elect-leaders` (kafka-leader-election): the preferred leader of partitions, or any where there is none.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ElectLeadersRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use serde::Deserialize;
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;
use crate::client::{Client, ClientError, topic_name};

/// Arguments of `raftsman elect-leaders`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman elect-leaders --election-type preferred --all-topic-partitions     leaderships back where they belong
  raftsman elect-leaders --election-type preferred --topic orders --partition 0
  raftsman elect-leaders --election-type unclean --topic orders --partition 0   any replica: records may be lost

The file: {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1}]}"
)]
pub struct ElectLeadersArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// preferred: the first replica, where it is in sync; unclean: any replica, where nobody leads
    #[arg(long, value_name = "TYPE", ignore_case = true)]
    pub election_type: ElectionType,
    /// Every partition that needs an election
    #[arg(long, conflicts_with_all = ["topic", "partition", "path_to_json_file"])]
    pub all_topic_partitions: bool,
    /// Topic, with --partition
    #[arg(long, requires = "partition")]
    pub topic: Option<String>,
    /// Partition of the topic
    #[arg(long, requires = "topic")]
    pub partition: Option<i32>,
    /// JSON file with partitions
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "partition"])]
    pub path_to_json_file: Option<PathBuf>,
    /// One JSON object per partition
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ElectionType {
    Preferred,
    Unclean,
}

impl ElectionType {
    fn name(self) -> &'static str {
        match self {
            Self::Preferred => "PREFERRED",
            Self::Unclean => "UNCLEAN",
        }
    }
}

#[derive(Deserialize)]
struct PartitionsFile {
    partitions: Vec<PartitionEntry>,
}

#[derive(Deserialize)]
struct PartitionEntry {
    topic: String,
    partition: i32,
}

pub async fn run(arguments: ElectLeadersArguments, out: &mut Output) -> Result<(), CliError> {
    let wanted = wanted(&arguments)?;
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    let kind = arguments.election_type;
    let elected = elect(&client, kind, wanted).await?;
    let (mut done, mut needless, mut failed) = (Vec::new(), Vec::new(), false);
    for (partition, result) in elected {
        let is_needless =
            result.as_ref().is_err_and(|error| error.code() == Some(ResponseError::ElectionNotNeeded));
        if arguments.json {
            let (topic, index) = &partition;
            let outcome = match &result {
                Ok(()) => "elected",
                Err(_) if is_needless => "not needed",
                Err(_) => "failed",
            };
            let error = result.as_ref().err().filter(|_| !is_needless).map(ToString::to_string);
            out.json(&json!({"topic": topic, "partition": index, "outcome": outcome, "error": error}))?;
        }
        let (topic, index) = partition;
        let name = format!("{topic}-{index}");
        match result {
            Ok(()) => done.push(name),
            Err(_) if is_needless => needless.push(name),
            Err(error) => {
                failed = true;
                if !arguments.json {
                    eprintln!(
                        "Error completing leader election ({}) for partition: {name}: {error}",
                        kind.name()
                    );
                }
            }
        }
    }
    if !arguments.json {
        if !done.is_empty() {
            let names = done.join(", ");
            writeln!(out, "Successfully completed leader election ({}) for partitions {names}", kind.name())?;
        }
        if !needless.is_empty() {
            writeln!(out, "Valid replica already elected for partitions {}", needless.join(", "))?;
        }
        if arguments.all_topic_partitions && done.is_empty() && !failed {
            writeln!(out, "No partition needs an election")?;
        }
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

/// The partitions of the command line; `None` for all.
fn wanted(arguments: &ElectLeadersArguments) -> Result<Option<Vec<(String, i32)>>, CliError> {
    if arguments.all_topic_partitions {
        return Ok(None);
    }
    if let (Some(topic), Some(partition)) = (&arguments.topic, arguments.partition) {
        return Ok(Some(vec![(topic.clone(), partition)]));
    }
    let Some(path) = &arguments.path_to_json_file else {
        let message = "one of --all-topic-partitions, --topic with --partition, and --path-to-json-file";
        return Err(CliError::Usage(message.to_owned()));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::while_doing(format!("read {}", path.display()), error))?;
    let file: PartitionsFile = serde_json::from_str(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    let partitions: Vec<_> =
        file.partitions.into_iter().map(|entry| (entry.topic, entry.partition)).collect();
    for (at, (topic, partition)) in partitions.iter().enumerate() {
        if partitions[..at].contains(&(topic.clone(), *partition)) {
            let message = format!("{}: {topic}-{partition} stands there twice", path.display());
            return Err(CliError::Usage(message));
        }
    }
    if partitions.is_empty() {
        return Err(CliError::Usage(format!("{}: it names no partition", path.display())));
    }
    Ok(Some(partitions))
}

type Elected = Vec<((String, i32), Result<(), ClientError>)>;

async fn elect(
    client: &Client,
    kind: ElectionType,
    partitions: Option<Vec<(String, i32)>>,
) -> Result<Elected, ClientError> {
    let topics = partitions.map(|partitions| {
        let one = |(topic, index): (String, i32)| {
            TopicPartitions::default().with_topic(topic_name(&topic)).with_partitions(vec![index])
        };
        partitions.into_iter().map(one).collect()
    });
    let request = ElectLeadersRequest::default()
        .with_election_type(kind as i8)
        .with_topic_partitions(topics)
        .with_timeout_ms(client.options().timeout_ms());
    let response = client
        .retry(async || {
            let response = client.controller().await?.call(&request).await?;
            ClientError::check(response.error_code, None)?;
            Ok(response)
        })
        .await?;
    let mut elected: Elected = response
        .replica_election_results
        .into_iter()
        .flat_map(|topic| {
            let name = topic.topic.to_string();
            topic.partition_result.into_iter().map(move |result| {
                let outcome = ClientError::check(result.error_code, result.error_message.as_deref());
                ((name.clone(), result.partition_id), outcome)
            })
        })
        .collect();
    elected.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(elected)
}
