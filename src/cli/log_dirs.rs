//! `raftsman log-dirs` (kafka-log-dirs): what lies in the brokers' log directories, and how large it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args;
use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use serde_json::{Value, json};

use super::output::{CliError, Output, Table};
use super::properties::ConnectionArguments;
use crate::client::{ClientError, topic_name};

/// Arguments of `raftsman log-dirs`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman log-dirs --describe                              Kafka's one line of JSON
  raftsman log-dirs --describe --topic-list orders --table  sizes as a table"
)]
pub struct LogDirsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Describe the log directories (required, as in Kafka)
    #[arg(long, required = true)]
    pub describe: bool,
    /// Topics, as in a,b; all when absent
    #[arg(long, value_delimiter = ',')]
    pub topic_list: Vec<String>,
    /// Broker ids, as in 0,1,2; all when absent
    #[arg(long, value_delimiter = ',')]
    pub broker_list: Vec<i32>,
    /// Print a table in place of Kafka's JSON
    #[arg(long, conflicts_with = "json")]
    pub table: bool,
    /// Only the JSON, without the lines before it
    #[arg(long)]
    pub json: bool,
}

pub async fn run(arguments: LogDirsArguments, out: &mut Output) -> Result<(), CliError> {
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    let topics = arguments.topic_list.iter().filter(|name| !name.is_empty()).collect::<BTreeSet<_>>();
    // Naming a topic takes naming its partitions.
    let mut named = Vec::new();
    let metadata = client.retry(async || client.fetch_metadata(None).await).await?;
    for topic in &metadata.topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        if topics.contains(&name) {
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            named.push(
                DescribableLogDirTopic::default().with_topic(topic_name(&name)).with_partitions(partitions),
            );
        }
    }
    let known = client.broker_ids();
    let joined = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let unknown = arguments.broker_list.iter().copied().filter(|id| !known.contains(id)).collect::<Vec<_>>();
    if !unknown.is_empty() {
        return Err(CliError::Failed(format!(
            "The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            joined(&unknown),
            joined(&known)
        )));
    }
    let asked = if arguments.broker_list.is_empty() { known } else { arguments.broker_list.clone() };
    if !arguments.json && !arguments.table {
        writeln!(out, "Querying brokers for log directories information")?;
        out.flush()?;
    }

    let request = DescribeLogDirsRequest::default().with_topics((!topics.is_empty()).then_some(named));
    let mut brokers = Vec::new();
    let mut table = Table::new(&["BROKER", "PARTITION", "SIZE", "OFFSET-LAG", "FUTURE", "LOG-DIR"]);
    for id in &asked {
        let response = client.retry(async || client.broker(*id).await?.call(&request).await).await?;
        ClientError::check(response.error_code, None)?;
        let mut directories = Vec::new();
        for result in &response.results {
            let error = ClientError::check(result.error_code, None).err().map(|error| error.to_string());
            let mut partitions = BTreeMap::new();
            for topic in &result.topics {
                for partition in &topic.partitions {
                    partitions.insert((topic.name.to_string(), partition.partition_index), partition.clone());
                }
            }
            let entries = partitions.iter().map(|((topic, index), partition)| {
                json!({
                    "partition": format!("{topic}-{index}"), "size": partition.partition_size,
                    "offsetLag": partition.offset_lag, "isFuture": partition.is_future_key,
                })
            });
            let entries = entries.collect::<Vec<Value>>();
            directories
                .push(json!({"partitions": entries, "error": error, "logDir": result.log_dir.to_string()}));
            for ((topic, index), partition) in &partitions {
                table.row(vec![
                    id.to_string(),
                    format!("{topic}-{index}"),
                    partition.partition_size.to_string(),
                    partition.offset_lag.to_string(),
                    partition.is_future_key.to_string(),
                    result.log_dir.to_string(),
                ]);
            }
            if let Some(error) = error {
                eprintln!("error: log directory {} of broker {id}: {error}", result.log_dir);
            }
        }
        brokers.push(json!({"broker": id, "logDirs": directories}));
    }
    if arguments.table {
        table.print(out)?;
        return Ok(());
    }
    if !arguments.json {
        writeln!(out, "Received log directory information from brokers {}", joined(&asked))?;
    }
    out.json(&json!({"brokers": brokers, "version": 1}))?;
    Ok(())
}
