//! Resetting what groups have committed. Only groups without members can be: the members of others
//! would overwrite it with their next commit.

mod csv;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use kafka_protocol::ResponseError;
use serde_json::json;

use self::csv::Line;
use self::target::{Known, Target};
use super::{GroupsArguments, scope};
use crate::cli::output::{CliError, Output, Table};
use crate::cli::time;
use crate::client::admin::{self, Partition};
use crate::client::committed::{Committed, Offsets};
use crate::client::error::io_reason;
use crate::client::{Client, ClientError};

/// What is to be committed for one partition of a group.
struct Planned {
    offset: i64,
    previous: Option<i64>,
    remark: Option<String>,
    error: Option<String>,
}

type Plan = BTreeMap<Partition, Planned>;

/// What to reset to.
enum Aim {
    /// With the time for [`Target::Time`].
    Target(Target, i64),
    File(Vec<Line>),
}

fn aim(arguments: &GroupsArguments) -> Result<Aim, CliError> {
    if let Some(path) = &arguments.from_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CliError::while_doing(format!("read {}", path.display()), io_reason(&error)))?;
        let lines = csv::parse(&text);
        return lines
            .map(Aim::File)
            .map_err(|error| CliError::Usage(format!("--from-file {}: {error}", path.display())));
    }
    let now_ms = time::now_ms();
    let mut at_ms = 0;
    let target = if arguments.to_earliest {
        Target::Earliest
    } else if arguments.to_latest {
        Target::Latest
    } else if let Some(offset) = arguments.to_offset {
        Target::Offset(offset)
    } else if let Some(count) = arguments.shift_by {
        Target::Shift(count)
    } else if let Some(text) = &arguments.to_datetime {
        at_ms = time::parse_time(text, now_ms)
            .map_err(|error| CliError::Usage(format!("--to-datetime: {error}")))?;
        Target::Time
    } else if let Some(text) = &arguments.by_duration {
        let duration_ms = time::parse_iso_duration(text).or_else(|| time::parse_duration(text));
        let duration_ms = duration_ms.ok_or_else(|| {
            CliError::Usage(format!(
                "--by-duration {text}: expected PnDTnHnMnS, as in P1D or PT1H30M, or '90 minutes'"
            ))
        })?;
        at_ms = now_ms.saturating_sub(duration_ms).max(0);
        Target::Time
    } else {
        Target::Current
    };
    Ok(Aim::Target(target, at_ms))
}

pub(super) async fn reset(
    client: &Client,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let aim = aim(arguments)?;
    let scope = scope::parse(&arguments.topic)?;
    if scope.is_empty() && !arguments.all_topics && matches!(aim, Aim::Target(..)) {
        return Err(CliError::Usage(
            "--reset-offsets needs a scope: --topic, --all-topics or --from-file".to_owned(),
        ));
    }
    let counts = scope::partition_counts(client, scope.keys().map(String::as_str)).await?;
    let named = scope::partitions(&scope, &counts)?;

    let groups = super::chosen(client, arguments).await?;
    let mut failed = false;
    let mut open = Vec::new();
    for (group, result) in client.describe_groups(&groups).await? {
        match result {
            Ok(description) if matches!(description.state.as_str(), "Empty" | "Dead") => open.push(group),
            // A group comes to be by what is committed for it.
            Err(error) if error.code() == Some(ResponseError::GroupIdNotFound) => open.push(group),
            Ok(description) => {
                failed = true;
                eprintln!(
                    "error: Assignments can only be reset if the group '{group}' is inactive, but the \
                     current state is {}. Stop its members first; see --describe --members",
                    description.state
                );
            }
            Err(error) => {
                failed = true;
                eprintln!("error: {}", super::describe::describing(&group, &error));
            }
        }
    }

    let mut plans = BTreeMap::<String, Plan>::new();
    for (group, result) in client.committed_offsets(&open).await? {
        let committed = result
            .map_err(|error| CliError::while_doing(format!("read the offsets of group '{group}'"), error))?;
        let planned = match &aim {
            Aim::Target(target, at_ms) => {
                let partitions = match arguments.all_topics {
                    true => committed.keys().cloned().collect(),
                    false => named.clone(),
                };
                let targets = partitions.into_iter().map(|partition| (partition, *target)).collect();
                plan(client, &targets, *at_ms, &committed).await
            }
            Aim::File(lines) => {
                let offsets = csv::offsets_for(lines, &group, groups.len() == 1)
                    .map_err(|error| CliError::Usage(format!("--from-file: {error}")))?;
                if offsets.is_empty() {
                    failed = true;
                    eprintln!("error: No reset plan for group {group} found in the file");
                    continue;
                }
                let targets = offsets.into_iter().map(|(key, offset)| (key, Target::Offset(offset)));
                plan(client, &targets.collect(), 0, &committed).await
            }
        };
        plans.insert(group.clone(), planned.map_err(|error| resetting(&group, error))?);
    }
    if arguments.execute {
        for (group, plan) in &mut plans {
            failed |= execute(client, group, plan).await?;
        }
    }
    print(&plans, groups.len() > 1, arguments, out)?;
    if !arguments.execute && !arguments.dry_run {
        out.flush()?;
        eprintln!("warning: nothing has been changed: that needs --execute (--dry-run silences this)");
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

fn resetting(group: &str, error: CliError) -> CliError {
    match error {
        CliError::Failed(why) => CliError::while_doing(format!("reset group '{group}'"), why),
        error => error,
    }
}

/// Works out the new offsets of a group.
async fn plan(
    client: &Client,
    targets: &BTreeMap<Partition, Target>,
    at_ms: i64,
    committed: &Offsets,
) -> Result<Plan, CliError> {
    let list = async |time: i64, keys: BTreeSet<&Partition>| -> Result<BTreeMap<Partition, i64>, CliError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let wanted = keys.into_iter().map(|key| (key.clone(), time)).collect();
        let mut offsets = BTreeMap::new();
        for (key, listed) in client.list_offsets(&wanted, 0).await? {
            let listed = listed.map_err(|error| {
                CliError::Failed(format!("the offsets of {}-{} are not to be had: {error}", key.0, key.1))
            })?;
            offsets.insert(key, listed.offset);
        }
        Ok(offsets)
    };
    // What is committed stays as it is, even for a topic that is gone.
    let is_kept = |key: &Partition, target: Target| target == Target::Current && committed.contains_key(key);
    let asked = targets.iter().filter(|(key, target)| !is_kept(key, **target)).map(|(key, _)| key);
    let asked = asked.collect::<BTreeSet<_>>();
    let timed = targets.iter().filter(|(_, target)| **target == Target::Time).map(|(key, _)| key).collect();
    let earliest = list(admin::EARLIEST, asked.clone()).await?;
    let latest = list(admin::LATEST, asked).await?;
    let by_time = list(at_ms, timed).await?;
    let mut plan = Plan::new();
    for (key, target) in targets {
        let known = Known {
            earliest: earliest.get(key).copied().unwrap_or(0),
            latest: latest.get(key).copied().unwrap_or(0),
            committed: committed.get(key).map(|committed| committed.offset),
            by_time: by_time.get(key).copied().filter(|offset| *offset >= 0),
        };
        let (offset, remark) = target::new_offset(*target, known).map_err(|_| {
            CliError::Failed(format!(
                "Cannot shift offset for partition {}-{} since there is no current committed offset; \
                 take another target, or other partitions with --topic {}:…",
                key.0, key.1, key.0
            ))
        })?;
        let remark = remark.map(|remark| remark.text(&key.0, key.1));
        if let Some(remark) = &remark {
            eprintln!("warning: {remark}");
        }
        plan.insert(key.clone(), Planned { offset, previous: known.committed, remark, error: None });
    }
    Ok(plan)
}

/// Commits a plan. Answers whether something failed, which has been reported.
async fn execute(client: &Client, group: &str, plan: &mut Plan) -> Result<bool, CliError> {
    if plan.is_empty() {
        return Ok(false);
    }
    let offsets = plan.iter().map(|(key, planned)| (key.clone(), Committed::new(planned.offset, -1)));
    let answers = client.commit_offsets(group, &offsets.collect()).await;
    let mut failed = false;
    match answers {
        Ok(mut answers) => {
            for (key, planned) in plan.iter_mut() {
                let missing = || Err(ClientError::Batch("the broker's answer left it out".to_owned()));
                if let Err(error) = answers.remove(key).unwrap_or_else(missing) {
                    failed = true;
                    eprintln!("error: cannot reset {}-{} of group '{group}': {error}", key.0, key.1);
                    planned.error = Some(error.to_string());
                }
            }
        }
        Err(error) => {
            failed = true;
            let hint = match error.code() {
                // Somebody joined since the state was looked at.
                Some(ResponseError::UnknownMemberId | ResponseError::RebalanceInProgress) => {
                    "; the group has members now, stop them first"
                }
                _ => "",
            };
            eprintln!("error: cannot reset group '{group}': {error}{hint}");
            plan.values_mut().for_each(|planned| planned.error = Some(error.to_string()));
        }
    }
    Ok(failed)
}

fn print(
    plans: &BTreeMap<String, Plan>,
    are_several: bool,
    arguments: &GroupsArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut table = Table::new(&["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]);
    for (group, plan) in plans {
        for (key, planned) in plan {
            if arguments.json {
                out.json(&json!({
                    "group": group, "topic": key.0, "partition": key.1, "new_offset": planned.offset,
                    "previous_offset": planned.previous, "warning": planned.remark,
                    "executed": arguments.execute && planned.error.is_none(), "error": planned.error,
                }))?;
            } else if planned.error.is_some() {
                // Reported already; what is printed has been done, or would be.
            } else if arguments.export {
                writeln!(out, "{}", csv::format(are_several.then_some(group.as_str()), key, planned.offset))?;
            } else {
                let (topic, index) = (key.0.clone(), key.1.to_string());
                table.row(vec![group.clone(), topic, index, planned.offset.to_string()]);
            }
        }
    }
    if !arguments.json && !arguments.export {
        writeln!(out)?;
        table.print(out)?;
    }
    Ok(())
}
