//! Describing, in the tab-separated layout of kafka-topics.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, ListPartitionReassignmentsRequest};
use serde_json::{Value, json};

use super::TopicsArguments;
use crate::cli::output::{CliError, Output};
use crate::client::admin::ConfigEntry;
use crate::client::{Client, ClientError, PartitionMetadata, TopicMetadata, topic_name};
use crate::types::uuid_to_base64;

/// Replicas that may lead though they are not in sync (KIP-966). None: the broker does not tell.
#[derive(Debug, Clone, Default)]
pub(super) struct EligibleLeaders {
    eligible: Option<Vec<i32>>,
    last_known: Option<Vec<i32>>,
}

type Key = (String, i32);

/// Replicas that a reassignment adds and removes.
type Reassignments = BTreeMap<Key, (Vec<i32>, Vec<i32>)>;

pub(super) async fn describe(
    client: &Client,
    arguments: &TopicsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let topics = super::matching_some(client, arguments).await?;
    let names = topics.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>();
    let configs = client.topic_configs(&names).await?;
    let leaders = eligible_leaders(client, &names, arguments.partition_size_limit_per_response).await?;
    let reassignments = reassignments(client, &topics).await?;

    let only_some_partitions = arguments.under_replicated_partitions
        || arguments.unavailable_partitions
        || arguments.under_min_isr_partitions
        || arguments.at_min_isr_partitions;
    for topic in &topics {
        let configs = configs.get(&topic.name).map(Vec::as_slice).unwrap_or_default();
        let shown = configs.iter().filter(|config| !config.is_default).collect::<Vec<_>>();
        if arguments.topics_with_overrides && shown.is_empty() {
            continue;
        }
        let partitions = topic
            .partitions
            .iter()
            .filter(|partition| !only_some_partitions || is_wanted(arguments, configs, partition))
            .collect::<Vec<_>>();
        if arguments.json {
            if !only_some_partitions || !partitions.is_empty() {
                out.json(&topic_json(topic, Some(&shown), &partitions, Some(&leaders)))?;
            }
            continue;
        }
        if !only_some_partitions {
            print_topic(topic, &shown, &reassignments, out)?;
        }
        if arguments.topics_with_overrides {
            continue;
        }
        for partition in partitions {
            let key = (topic.name.clone(), partition.index);
            print_partition(&key, partition, leaders.get(&key), reassignments.get(&key), out)?;
        }
    }
    Ok(())
}

fn is_wanted(arguments: &TopicsArguments, configs: &[ConfigEntry], partition: &PartitionMetadata) -> bool {
    let minimum = configs
        .iter()
        .find(|config| config.name == "min.insync.replicas")
        .and_then(|config| config.value.as_deref()?.parse::<usize>().ok())
        .unwrap_or(1);
    let in_sync = partition.isr.len();
    (arguments.under_replicated_partitions && in_sync < partition.replicas.len())
        || (arguments.unavailable_partitions && partition.leader.is_none())
        || (arguments.under_min_isr_partitions && in_sync < minimum)
        || (arguments.at_min_isr_partitions && in_sync == minimum)
}

fn joined(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn print_topic(
    topic: &TopicMetadata,
    configs: &[&ConfigEntry],
    reassignments: &Reassignments,
    out: &mut impl Write,
) -> io::Result<()> {
    let configs = configs
        .iter()
        .map(|config| format!("{}={}", config.name, config.value.as_deref().unwrap_or("null")))
        .collect::<Vec<_>>();
    // While replicas are being added the factor is the one aimed at.
    let factor = topic.partitions.first().map_or(0, |partition| {
        let adding =
            reassignments.get(&(topic.name.clone(), partition.index)).map_or(0, |(adding, _)| adding.len());
        partition.replicas.len() - adding.min(partition.replicas.len())
    });
    write!(out, "Topic: {}", topic.name)?;
    if !topic.id.is_nil() {
        write!(out, "\tTopicId: {}", uuid_to_base64(topic.id))?;
    }
    writeln!(
        out,
        "\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}",
        topic.partitions.len(),
        configs.join(",")
    )
}

fn print_partition(
    (topic, index): &Key,
    partition: &PartitionMetadata,
    leaders: Option<&EligibleLeaders>,
    reassignment: Option<&(Vec<i32>, Vec<i32>)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let leader = partition.leader.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let known = |ids: Option<&Vec<i32>>| ids.map_or_else(|| "N/A".to_owned(), |ids| joined(ids));
    write!(
        out,
        "\tTopic: {topic}\tPartition: {index}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: {}\tLastKnownElr: {}",
        joined(&partition.replicas),
        joined(&partition.isr),
        known(leaders.and_then(|leaders| leaders.eligible.as_ref())),
        known(leaders.and_then(|leaders| leaders.last_known.as_ref())),
    )?;
    if let Some((adding, removing)) = reassignment {
        write!(out, "\tAdding Replicas: {}\tRemoving Replicas: {}", joined(adding), joined(removing))?;
    }
    writeln!(out)
}

/// A topic as one JSON object; `configs` and `leaders` only where they have been asked for.
pub(super) fn topic_json(
    topic: &TopicMetadata,
    configs: Option<&[&ConfigEntry]>,
    partitions: &[&PartitionMetadata],
    leaders: Option<&BTreeMap<Key, EligibleLeaders>>,
) -> Value {
    let partitions = partitions.iter().map(|partition| {
        let mut value = json!({
            "partition": partition.index, "leader": partition.leader, "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas, "isr": partition.isr, "offline": partition.offline,
        });
        if let Some(leaders) = leaders {
            let known = leaders.get(&(topic.name.clone(), partition.index));
            value["elr"] = json!(known.and_then(|known| known.eligible.as_ref()));
            value["last_known_elr"] = json!(known.and_then(|known| known.last_known.as_ref()));
        }
        value
    });
    let mut value = json!({
        "topic": topic.name,
        "topic_id": uuid_to_base64(topic.id),
        "internal": topic.is_internal,
        "replication_factor": topic.partitions.first().map(|partition| partition.replicas.len()),
        "partitions": partitions.collect::<Vec<_>>(),
    });
    if let Some(configs) = configs {
        let map = configs.iter().map(|config| (config.name.clone(), json!(config.value)));
        value["configs"] = Value::Object(map.collect());
    }
    value
}

/// Asks page by page with DescribeTopicPartitions; brokers that do not serve it tell nothing.
async fn eligible_leaders(
    client: &Client,
    names: &[String],
    page_partitions: i32,
) -> Result<BTreeMap<Key, EligibleLeaders>, ClientError> {
    let mut leaders = BTreeMap::new();
    let ids = |nodes: &Vec<BrokerId>| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let mut cursor = None::<Cursor>;
    loop {
        // Topics before the cursor are done; the broker wants the rest in order of their names.
        let rest = names
            .iter()
            .filter(|name| cursor.as_ref().is_none_or(|cursor| name.as_str() >= cursor.topic_name.as_str()))
            .map(|name| TopicRequest::default().with_name(topic_name(name)))
            .collect::<Vec<_>>();
        if rest.is_empty() {
            return Ok(leaders);
        }
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(rest)
            .with_response_partition_limit(page_partitions)
            .with_cursor(cursor.clone());
        let response = match client.call_any(&request).await {
            Ok(response) => response,
            Err(ClientError::Unsupported { .. }) => return Ok(leaders),
            Err(error) => return Err(error),
        };
        for topic in &response.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            for partition in &topic.partitions {
                let entry = EligibleLeaders {
                    eligible: partition.eligible_leader_replicas.as_ref().map(ids),
                    last_known: partition.last_known_elr.as_ref().map(ids),
                };
                leaders.insert((name.clone(), partition.partition_index), entry);
            }
        }
        let next = response.next_cursor.map(|next| {
            Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index)
        });
        match next {
            // A cursor that does not move would never end.
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => return Ok(leaders),
        }
    }
}

/// Reassignments under way; none where the broker does not serve the question.
async fn reassignments(client: &Client, topics: &[TopicMetadata]) -> Result<Reassignments, ClientError> {
    let named = topics
        .iter()
        .map(|topic| {
            ListPartitionReassignmentsTopics::default()
                .with_name(topic_name(&topic.name))
                .with_partition_indexes(topic.partitions.iter().map(|partition| partition.index).collect())
        })
        .collect();
    let timeout_ms = client.options().timeout_ms();
    let request =
        ListPartitionReassignmentsRequest::default().with_timeout_ms(timeout_ms).with_topics(Some(named));
    let response = match client.call_any(&request).await {
        Ok(response) => response,
        Err(ClientError::Unsupported { .. }) => return Ok(Reassignments::new()),
        Err(error) => return Err(error),
    };
    ClientError::check(response.error_code, response.error_message.as_deref())?;
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let mut found = Reassignments::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            found.insert(
                (topic.name.to_string(), partition.partition_index),
                (ids(&partition.adding_replicas), ids(&partition.removing_replicas)),
            );
        }
    }
    Ok(found)
}
