//! Creating, altering and deleting.

use std::collections::BTreeSet;
use std::io::Write;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use serde_json::json;

use super::TopicsArguments;
use crate::cli::output::{CliError, Output};
use crate::client::{Client, ClientError, text, topic_name};
use crate::types::uuid_to_base64;

/// So many that a broker may find them too many for one request.
const MANY_PARTITIONS: i32 = 5_000;

pub(super) async fn create(
    client: &Client,
    arguments: &TopicsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let name = arguments.topic.as_deref().unwrap_or_default();
    let topic = new_topic(name, arguments)?;
    if name.contains(['.', '_']) {
        eprintln!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both."
        );
    }
    let created = match create_topic(client, topic).await {
        Ok(created) => created,
        Err(error) if arguments.if_not_exists && error.code() == Some(ResponseError::TopicAlreadyExists) => {
            if arguments.json {
                out.json(&json!({"topic": name, "created": false}))?;
            }
            return Ok(());
        }
        Err(error) => {
            let is_large = error.code() == Some(ResponseError::PolicyViolation)
                && arguments.partitions.is_some_and(|count| count >= MANY_PARTITIONS);
            let more = if is_large {
                " Create it with some of them, and raise their number with raftsman topics --alter."
            } else {
                ""
            };
            return Err(CliError::while_doing(format!("create topic '{name}'"), format!("{error}{more}")));
        }
    };
    if arguments.json {
        let known = created.as_ref().filter(|topic| topic.num_partitions > 0);
        out.json(&json!({
            "topic": name,
            "created": true,
            "topic_id": created.as_ref().map(|topic| uuid_to_base64(topic.topic_id)),
            "partitions": known.map(|topic| topic.num_partitions),
            "replication_factor": known.map(|topic| topic.replication_factor),
        }))?;
    } else {
        writeln!(out, "Created topic {name}.")?;
    }
    Ok(())
}

/// The topic that the arguments ask for.
fn new_topic(name: &str, arguments: &TopicsArguments) -> Result<CreatableTopic, CliError> {
    let mut configs = Vec::new();
    for pair in &arguments.config {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| CliError::Usage(format!("--config '{pair}' is not of the form key=value")))?;
        let config = CreatableTopicConfig::default().with_name(text(key.trim()));
        configs.push(config.with_value(Some(text(value.trim().to_owned()))));
    }
    let topic = CreatableTopic::default().with_name(topic_name(name)).with_configs(configs);
    let Some(assignment) = replica_assignment(arguments)? else {
        return Ok(topic
            .with_num_partitions(arguments.partitions.unwrap_or(-1))
            .with_replication_factor(arguments.replication_factor.unwrap_or(-1)));
    };
    if arguments.partitions.is_some() {
        return Err(CliError::Usage("--partitions and --replica-assignment exclude each other".to_owned()));
    }
    let assignments = (0..).zip(assignment).map(|(index, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.into_iter().map(BrokerId).collect())
    });
    Ok(topic.with_num_partitions(-1).with_replication_factor(-1).with_assignments(assignments.collect()))
}

fn replica_assignment(arguments: &TopicsArguments) -> Result<Option<Vec<Vec<i32>>>, CliError> {
    let assignment = arguments.replica_assignment.as_deref().map(parse_replica_assignment);
    assignment.transpose().map_err(CliError::Usage)
}

/// Creates a topic. None: an answer was lost, and the topic has been found to be there since.
async fn create_topic(
    client: &Client,
    topic: CreatableTopic,
) -> Result<Option<CreatableTopicResult>, ClientError> {
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(client.options().timeout_ms());
    // After a lost answer "exists already" may well be our own doing.
    let mut is_uncertain = false;
    client
        .retry(async || {
            let connection = client.controller().await?;
            let response = connection.call(&request).await.inspect_err(|_| is_uncertain = true)?;
            let Some(result) = response.topics.into_iter().next() else {
                return Err(ClientError::Refused {
                    code: ResponseError::UnknownServerError,
                    message: Some("the answer names no topic".to_owned()),
                });
            };
            match ClientError::check(result.error_code, result.error_message.as_deref()) {
                Ok(()) => Ok(Some(result)),
                Err(error) if is_uncertain && error.code() == Some(ResponseError::TopicAlreadyExists) => {
                    Ok(None)
                }
                Err(error) => {
                    is_uncertain |= error.code() == Some(ResponseError::RequestTimedOut);
                    Err(error)
                }
            }
        })
        .await
}

pub(super) async fn alter(
    client: &Client,
    arguments: &TopicsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let assignment = replica_assignment(arguments)?;
    let count = arguments.partitions.unwrap_or_default();
    let mut topics = Vec::new();
    for topic in super::matching_some(client, arguments).await? {
        let assignments = match &assignment {
            None => None,
            // The list names all partitions; those that exist stay where they are.
            Some(all) => Some(
                all.iter()
                    .skip(topic.partitions.len())
                    .map(|brokers| {
                        CreatePartitionsAssignment::default()
                            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
                    })
                    .collect(),
            ),
        };
        topics.push(
            CreatePartitionsTopic::default()
                .with_name(topic_name(&topic.name))
                .with_count(count)
                .with_assignments(assignments),
        );
    }
    if topics.is_empty() {
        return Ok(());
    }
    let request =
        CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(client.options().timeout_ms());
    let response = client
        .retry(async || {
            let response = client.controller().await?.call(&request).await?;
            for result in &response.results {
                if let Err(error) = ClientError::check(result.error_code, result.error_message.as_deref())
                    && error.is_retriable()
                    && error.code() != Some(ResponseError::UnknownTopicOrPartition)
                {
                    return Err(error);
                }
            }
            Ok(response)
        })
        .await?;
    let mut failed = false;
    for result in &response.results {
        let name = result.name.to_string();
        match ClientError::check(result.error_code, result.error_message.as_deref()) {
            Ok(()) if arguments.json => out.json(&json!({"topic": name, "partitions": count}))?,
            Ok(()) => {}
            Err(error) => {
                failed = true;
                eprintln!("error: cannot alter topic '{name}': {error}");
            }
        }
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

pub(super) async fn delete(
    client: &Client,
    arguments: &TopicsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let names = super::matching_some(client, arguments)
        .await?
        .into_iter()
        .map(|topic| topic.name)
        .collect::<Vec<_>>();
    if names.is_empty() {
        return Ok(());
    }
    let mut open = names.iter().cloned().collect::<BTreeSet<_>>();
    let mut failures = Vec::new();
    let mut uncertain = false;
    client
        .retry(async || {
            let connection = client.controller().await?;
            let version = connection.require::<DeleteTopicsRequest>(i16::MAX)?;
            let mut request = DeleteTopicsRequest::default().with_timeout_ms(client.options().timeout_ms());
            if version >= 6 {
                request.topics = open
                    .iter()
                    .map(|name| DeleteTopicState::default().with_name(Some(topic_name(name))))
                    .collect();
            } else {
                request.topic_names = open.iter().map(|name| topic_name(name)).collect();
            }
            let response =
                connection.call_version(&request, version).await.inspect_err(|_| uncertain = true)?;
            let mut again = None;
            for result in &response.responses {
                let name = result.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
                match ClientError::check(result.error_code, result.error_message.as_deref()) {
                    Ok(()) => {
                        open.remove(&name);
                    }
                    Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => {
                        open.remove(&name);
                        if !uncertain && !arguments.if_exists {
                            failures.push((name, error));
                        }
                    }
                    Err(error) if error.is_retriable() => {
                        uncertain = true;
                        again = Some(error);
                    }
                    Err(error) => {
                        open.remove(&name);
                        failures.push((name, error));
                    }
                }
            }
            again.map_or(Ok(()), Err)
        })
        .await
        .map_err(|error| CliError::while_doing("delete topics", error))?;
    for (name, error) in &failures {
        eprintln!("error: cannot delete topic '{name}': {error}");
    }
    if arguments.json {
        for name in names.iter().filter(|name| failures.iter().all(|(failed, _)| failed != *name)) {
            out.json(&json!({"topic": name, "deleted": true}))?;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(CliError::Reported) }
}

/// Reads `1:2,2:3`: the brokers of partition 0, then of partition 1, and so on.
pub(super) fn parse_replica_assignment(text: &str) -> Result<Vec<Vec<i32>>, String> {
    let mut partitions = Vec::<Vec<i32>>::new();
    for (index, part) in text.split(',').enumerate() {
        let brokers = part
            .split(':')
            .map(|id| id.trim().parse::<i32>().ok().filter(|id| *id >= 0))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                format!("--replica-assignment: '{part}' is no list of broker ids, as in 1:2 for two replicas")
            })?;
        let distinct = brokers.iter().collect::<BTreeSet<_>>();
        if distinct.len() != brokers.len() {
            return Err(format!("Partition replica lists may not contain duplicate entries: {part}"));
        }
        if partitions.first().is_some_and(|first| first.len() != brokers.len()) {
            return Err(format!("Partition {index} has different replication factor: {part}"));
        }
        partitions.push(brokers);
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_assignments_name_brokers_per_partition() {
        assert_eq!(parse_replica_assignment("1:2, 2:3").unwrap(), [[1, 2], [2, 3]]);
        assert_eq!(parse_replica_assignment("0").unwrap(), [[0]]);
        for wrong in ["", "1:1", "1:2,3", "a", "1:-2", "1,,2"] {
            assert!(parse_replica_assignment(wrong).is_err(), "{wrong}");
        }
    }
}
