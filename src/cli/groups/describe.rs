//! Describing: offsets with lag, members, states.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::json;

use super::GroupsArguments;
use super::rows::{OffsetRow, assignment_cell, assignment_json, cell, offset_rows, remark};
use crate::cli::output::{CliError, Output, Table};
use crate::client::Client;
use crate::client::admin::{self, Partition};
use crate::client::committed::Offsets;
use crate::client::groups::GroupDescription;

pub(super) async fn describe(
    client: &Client,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    if arguments.state.as_ref().is_some_and(|filter| !filter.is_empty()) {
        return Err(CliError::Usage("--state takes states only with --list".to_owned()));
    }
    let groups = super::chosen(client, arguments).await?;
    let mut failed = false;
    let mut described = Vec::new();
    for (group, result) in client.describe_groups(&groups).await? {
        match result {
            Ok(description) => described.push(description),
            Err(error) => {
                failed = true;
                eprintln!("error: {}", describing(&group, &error));
            }
        }
    }
    if arguments.members {
        members(&described, arguments, out)?;
    } else if arguments.state.is_some() {
        states(&described, arguments, out)?;
    } else {
        offsets(client, &described, arguments, out).await?;
    }
    out.flush()?;
    for remark in described.iter().filter_map(remark) {
        eprintln!("\n{remark}");
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

pub(super) fn describing(group: &str, error: &crate::client::ClientError) -> String {
    use kafka_protocol::ResponseError::GroupIdNotFound;
    match error.code() {
        Some(GroupIdNotFound) => format!(
            "Consumer group '{group}' does not exist (GROUP_ID_NOT_FOUND); see raftsman groups --list"
        ),
        _ => format!("cannot describe group '{group}': {error}"),
    }
}

async fn offsets(
    client: &Client,
    groups: &[GroupDescription],
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let ids = groups.iter().map(|group| group.id.clone()).collect::<Vec<_>>();
    let mut committed = BTreeMap::<String, Offsets>::new();
    for (group, result) in client.committed_offsets(&ids).await? {
        let offsets = result
            .map_err(|error| CliError::while_doing(format!("read the offsets of group '{group}'"), error))?;
        committed.insert(group, offsets);
    }
    let mut wanted = BTreeSet::<Partition>::new();
    for group in groups {
        wanted.extend(committed.get(&group.id).into_iter().flat_map(|offsets| offsets.keys().cloned()));
        wanted.extend(group.members.iter().flat_map(|member| member.assignment.iter().cloned()));
    }
    let wanted = wanted.into_iter().map(|partition| (partition, admin::LATEST)).collect::<BTreeMap<_, _>>();
    // Where the end is not to be had, as of a topic that was deleted, its columns stay empty.
    let mut ends = BTreeMap::new();
    if !wanted.is_empty() {
        let listed = client.list_offsets(&wanted, 0).await?;
        ends.extend(listed.into_iter().filter_map(|(key, result)| Some((key, result.ok()?.offset))));
    }
    let none = Offsets::new();
    for group in groups {
        let rows = offset_rows(&group.members, committed.get(&group.id).unwrap_or(&none), &ends);
        if arguments.json {
            for row in &rows {
                out.json(&offset_json(group, row))?;
            }
            continue;
        }
        let mut header = vec!["GROUP", "TOPIC", "PARTITION"];
        if arguments.verbose {
            header.push("LEADER-EPOCH");
        }
        header.extend(["CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"]);
        let mut table = Table::new(&header);
        for row in &rows {
            let partition = row.partition.as_ref();
            let mut cells = vec![
                group.id.clone(),
                cell(partition.map(|(topic, _)| topic)),
                cell(partition.map(|(_, index)| index)),
            ];
            if arguments.verbose {
                cells.push(cell(row.committed.map(|it| it.leader_epoch).filter(|epoch| *epoch >= 0)));
            }
            cells.extend([
                cell(row.committed.map(|it| it.offset)),
                cell(row.log_end_offset),
                cell(row.lag()),
                cell(row.member),
                cell(row.host),
                cell(row.client_id),
            ]);
            table.row(cells);
        }
        writeln!(out)?;
        table.print(out)?;
    }
    Ok(())
}

fn offset_json(group: &GroupDescription, row: &OffsetRow<'_>) -> serde_json::Value {
    let partition = row.partition.as_ref();
    json!({
        "group": group.id,
        "state": group.state,
        "topic": partition.map(|(topic, _)| topic),
        "partition": partition.map(|(_, index)| index),
        "leader_epoch": row.committed.map(|it| it.leader_epoch).filter(|epoch| *epoch >= 0),
        "current_offset": row.committed.map(|it| it.offset),
        "metadata": row.committed.map(|it| &it.metadata),
        "log_end_offset": row.log_end_offset,
        "lag": row.lag(),
        "consumer_id": row.member,
        "host": row.host,
        "client_id": row.client_id,
    })
}

fn members(
    groups: &[GroupDescription],
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    for group in groups {
        let with_instances = group.members.iter().any(|member| member.instance_id.is_some());
        let mut header = vec!["GROUP", "CONSUMER-ID"];
        if with_instances {
            header.push("GROUP-INSTANCE-ID");
        }
        header.extend(["HOST", "CLIENT-ID", "#PARTITIONS"]);
        if arguments.verbose {
            header.extend(["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"]);
        }
        let mut table = Table::new(&header);
        let target_epoch = group.epochs.map(|(_, assignment)| assignment);
        for member in &group.members {
            if arguments.json {
                out.json(&json!({
                    "group": group.id, "consumer_id": member.id, "instance_id": member.instance_id,
                    "host": member.host, "client_id": member.client_id,
                    "partitions": member.assignment.len(), "epoch": member.epoch,
                    "assignment": assignment_json(&member.assignment), "target_epoch": target_epoch,
                    "target_assignment": member.target.as_ref().map(assignment_json),
                }))?;
                continue;
            }
            let mut cells = vec![group.id.clone(), member.id.clone()];
            if with_instances {
                cells.push(cell(member.instance_id.as_ref()));
            }
            cells.extend([
                member.host.clone(),
                member.client_id.clone(),
                member.assignment.len().to_string(),
            ]);
            if arguments.verbose {
                cells.extend([
                    cell(member.epoch),
                    assignment_cell(&member.assignment),
                    cell(target_epoch),
                    member.target.as_ref().map_or_else(|| "-".to_owned(), assignment_cell),
                ]);
            }
            table.row(cells);
        }
        if !arguments.json {
            writeln!(out)?;
            table.print(out)?;
        }
    }
    Ok(())
}

fn states(
    groups: &[GroupDescription],
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    for group in groups {
        let assignor = Some(&group.assignor).filter(|name| !name.is_empty());
        let (epoch, assignment_epoch) = group.epochs.unzip();
        if arguments.json {
            out.json(&json!({
                "group": group.id, "type": group.kind, "protocol": group.protocol_type,
                "coordinator": group.coordinator.address, "coordinator_id": group.coordinator.id,
                "assignment_strategy": assignor, "state": group.state, "group_epoch": epoch,
                "target_assignment_epoch": assignment_epoch, "members": group.members.len(),
            }))?;
            continue;
        }
        let mut header = vec!["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE"];
        if arguments.verbose {
            header.extend(["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
        }
        header.push("#MEMBERS");
        let mut table = Table::new(&header);
        let mut cells = vec![
            group.id.clone(),
            format!("{}  ({})", group.coordinator.address, group.coordinator.id),
            cell(assignor),
            group.state.clone(),
        ];
        if arguments.verbose {
            cells.extend([cell(epoch), cell(assignment_epoch)]);
        }
        cells.push(group.members.len().to_string());
        table.row(cells);
        writeln!(out)?;
        table.print(out)?;
    }
    Ok(())
}
