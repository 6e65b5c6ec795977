//! Listing, with states and types where they are asked for.

use std::io::Write;

use serde_json::json;

use super::GroupsArguments;
use crate::cli::output::{CliError, Output, Table};
use crate::client::Client;
use crate::client::groups::{ListedGroup, kafka_case};

/// States of consumer groups; those of both protocols.
const STATES: &[&str] =
    &["Assigning", "CompletingRebalance", "Dead", "Empty", "PreparingRebalance", "Reconciling", "Stable"];
const CONSUMER_TYPES: &[&str] = &["Classic", "Consumer"];
const TYPES: &[&str] = &["Classic", "Consumer", "Share", "Streams"];

/// Names out of a list with commas, in Kafka's spelling.
fn names(option: &str, list: &str, known: &[&str]) -> Result<Vec<String>, CliError> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = kafka_case(name);
            match known.contains(&name.as_str()) {
                true => Ok(name),
                false => {
                    Err(CliError::Usage(format!("{option} {name}: expected some of {}", known.join(", "))))
                }
            }
        })
        .collect()
}

pub(super) async fn list(
    client: &Client,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let states = names("--state", arguments.state.as_deref().unwrap_or_default(), STATES)?;
    let groups = if arguments.all_types {
        let kind = arguments.group_type.as_deref().unwrap_or_default();
        let kind = names("--group-type", kind, TYPES)?;
        let mut groups = client.list_groups(&states, &[]).await?;
        groups.retain(|group| is_wanted(arguments, &kind, group));
        groups
    } else {
        let kinds = names("--type", arguments.kind.as_deref().unwrap_or_default(), CONSUMER_TYPES)?;
        let mut groups = client.list_groups(&states, &kinds).await?;
        groups.retain(ListedGroup::is_consumers);
        groups
    };
    if arguments.json {
        for group in groups {
            out.json(&json!({
                "group": group.id, "type": group.kind, "protocol": group.protocol_type, "state": group.state,
            }))?;
        }
        return Ok(());
    }
    let with_type = arguments.kind.is_some() || arguments.all_types;
    let with_state = arguments.state.is_some();
    if !with_type && !with_state {
        for group in groups {
            writeln!(out, "{}", group.id)?;
        }
        return Ok(());
    }
    let columns = [("TYPE", with_type), ("PROTOCOL", arguments.all_types), ("STATE", with_state)];
    let mut header = vec!["GROUP"];
    header.extend(columns.iter().filter(|(_, shown)| *shown).map(|(name, _)| *name));
    let mut table = Table::new(&header);
    for group in groups {
        let mut row = vec![group.id];
        for ((_, shown), value) in columns.iter().zip([group.kind, group.protocol_type, group.state]) {
            if *shown {
                row.push(value);
            }
        }
        table.row(row);
    }
    table.print(out)?;
    Ok(())
}

fn is_wanted(arguments: &GroupsArguments, kinds: &[String], group: &ListedGroup) -> bool {
    if arguments.consumer {
        return group.is_consumers();
    }
    let kind = match (arguments.share, arguments.streams) {
        (true, _) => Some("Share"),
        (_, true) => Some("Streams"),
        _ => None,
    };
    kind.is_none_or(|kind| group.kind == kind)
        && (kinds.is_empty() || kinds.contains(&group.kind))
        && arguments.protocol.as_ref().is_none_or(|protocol| group.protocol_type == *protocol)
}
