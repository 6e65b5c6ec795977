//! Deleting groups, and what groups have committed for topics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use kafka_protocol::ResponseError;
use serde_json::json;

use super::{GroupsArguments, scope};
use crate::cli::output::{CliError, Output, Table};
use crate::client::admin::Partition;
use crate::client::{Client, ClientError};

pub(super) async fn delete(
    client: &Client,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let groups = super::chosen(client, arguments).await?;
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for (group, result) in client.delete_groups(&groups).await? {
        if arguments.json {
            let error = result.as_ref().err().map(ToString::to_string);
            out.json(&json!({"group": group, "deleted": error.is_none(), "error": error}))?;
        }
        match result {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => failed.push((group, error)),
        }
    }
    if !arguments.json && !deleted.is_empty() {
        let deleted = deleted.join(", ");
        match failed.is_empty() {
            true => writeln!(out, "Deletion of requested consumer groups ({deleted}) was successful.")?,
            false => writeln!(out, "These consumer groups were deleted successfully: {deleted}")?,
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    out.flush()?;
    eprintln!("error: Deletion of some consumer groups failed:");
    for (group, error) in failed {
        eprintln!("* Group '{group}' could not be deleted due to: {}", explained(&error));
    }
    Err(CliError::Reported)
}

pub(super) async fn delete_offsets(
    client: &Client,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let groups = super::chosen(client, arguments).await?;
    let [group] = groups.as_slice() else {
        return Err(CliError::Usage("--delete-offsets takes one --group at a time".to_owned()));
    };
    let scope = scope::parse(&arguments.topic)?;
    let counts = scope::partition_counts(client, scope.keys().map(String::as_str)).await?;
    let mut wanted = BTreeSet::<Partition>::new();
    let mut results = BTreeMap::<(String, Option<i32>), Result<(), ClientError>>::new();
    let unknown =
        || Err(ClientError::Refused { code: ResponseError::UnknownTopicOrPartition, message: None });
    for (topic, indexes) in &scope {
        match (indexes, counts.get(topic)) {
            (Some(indexes), _) => wanted.extend(indexes.iter().map(|index| (topic.clone(), *index))),
            (None, Some(count)) => wanted.extend((0..*count).map(|index| (topic.clone(), index))),
            (None, None) => {
                results.insert((topic.clone(), None), unknown());
            }
        }
    }
    if !wanted.is_empty() {
        match client.delete_offsets(group, &wanted).await {
            Ok(mut answers) => {
                for key in wanted {
                    let answer = answers.remove(&key).unwrap_or_else(unknown);
                    results.insert((key.0, Some(key.1)), answer);
                }
            }
            Err(error) => {
                return Err(CliError::Failed(format!(
                    "cannot delete offsets of group '{group}': {}",
                    explained(&error)
                )));
            }
        }
    }
    let failed = results.values().any(Result::is_err);
    let mut table = Table::new(&["TOPIC", "PARTITION", "STATUS"]);
    for ((topic, index), result) in &results {
        let error = result.as_ref().err().map(explained);
        if arguments.json {
            out.json(&json!({
                "group": group, "topic": topic, "partition": index, "deleted": error.is_none(), "error": error,
            }))?;
            continue;
        }
        let index = index.map_or_else(|| "-".to_owned(), |index| index.to_string());
        let status = error.map_or_else(|| "Successful".to_owned(), |error| format!("Error: {error}"));
        table.row(vec![topic.clone(), index, status]);
    }
    if !arguments.json {
        match failed {
            true => eprintln!("error: Encountered some partition-level error, see the follow-up details."),
            false => writeln!(out, "Request succeeded for deleting offsets from group {group}.")?,
        }
        writeln!(out)?;
        table.print(out)?;
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

/// The error, and what to do about it.
fn explained(error: &ClientError) -> String {
    let hint = match error.code() {
        Some(ResponseError::NonEmptyGroup) => "; stop its members first, see --describe --members",
        Some(ResponseError::GroupIdNotFound) => "; see raftsman groups --list",
        Some(ResponseError::GroupSubscribedToTopic) => "; stop its members first, see --describe --members",
        _ => "",
    };
    format!("{error}{hint}")
}
