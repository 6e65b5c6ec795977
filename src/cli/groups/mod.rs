//! `raftsman groups` (kafka-consumer-groups, kafka-groups): list, describe, reset and delete groups.

mod delete;
mod describe;
mod list;
mod reset;
mod rows;
mod scope;

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::output::{CliError, Output};
use super::pattern::TopicPattern;
use super::properties::ConnectionArguments;
use crate::client::Client;

pub use rows::assignment_json;

/// Arguments of `raftsman groups`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    group = ArgGroup::new("action").required(true)
        .args(["list", "describe", "reset_offsets", "delete", "delete_offsets", "validate_regex"]),
    group = ArgGroup::new("view").args(["offsets", "members", "state"]),
    group = ArgGroup::new("target").args([
        "to_earliest", "to_latest", "to_current", "to_offset", "shift_by", "by_duration", "to_datetime",
        "from_file",
    ]),
    after_help = "Examples:
  raftsman groups --list --state
  raftsman groups --describe --group billing              lag per partition, and who reads it
  raftsman groups --describe --all-groups --members --verbose
  raftsman groups --describe --group billing --state --json
  raftsman groups --reset-offsets --group billing --topic orders --to-earliest             what would be
  raftsman groups --reset-offsets --group billing --topic orders --to-earliest --execute   do it
  raftsman groups --reset-offsets --group billing --topic orders:0,2 --shift-by -100 --execute
  raftsman groups --reset-offsets --group billing --all-topics --by-duration PT1H30M --execute
  raftsman groups --reset-offsets --group billing --all-topics --to-current --export > offsets.csv
  raftsman groups --reset-offsets --group billing --from-file offsets.csv --execute
  raftsman groups --delete-offsets --group billing --topic orders
  raftsman groups --delete --group billing"
)]
pub struct GroupsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// List the consumer groups
    #[arg(long)]
    pub list: bool,
    /// Describe groups: their offsets, or with --members or --state those
    #[arg(long)]
    pub describe: bool,
    /// Move what groups have committed; needs a target (--to-…, --shift-by, --by-duration, --from-file)
    #[arg(long, requires = "target")]
    pub reset_offsets: bool,
    /// Delete groups without members, with all that they have committed
    #[arg(long)]
    pub delete: bool,
    /// Delete what a group has committed for topics that it does not read at the moment
    #[arg(long, requires = "topic")]
    pub delete_offsets: bool,
    /// The group; may be repeated
    #[arg(long, conflicts_with_all = ["list", "all_groups"])]
    pub group: Vec<String>,
    /// All consumer groups
    #[arg(long, conflicts_with_all = ["list", "delete_offsets"])]
    pub all_groups: bool,
    /// Describe offsets and lag, which is the default
    #[arg(long, requires = "describe")]
    pub offsets: bool,
    /// Describe members
    #[arg(long, requires = "describe")]
    pub members: bool,
    /// Describe, or list, states; with --list only groups in these states, as in stable,empty
    #[arg(long, value_name = "STATES", num_args = 0..=1, default_missing_value = "",
        conflicts_with_all = ["reset_offsets", "delete", "delete_offsets"])]
    pub state: Option<String>,
    /// List types; only groups of these types, as in classic,consumer
    #[arg(long = "type", value_name = "TYPES", num_args = 0..=1, default_missing_value = "", requires = "list")]
    pub kind: Option<String>,
    /// More columns: leader epochs, assignments, epochs of the group
    #[arg(long, requires = "describe")]
    pub verbose: bool,
    /// A topic, or some of its partitions as in orders:0,2; may be repeated
    #[arg(long, conflicts_with_all = ["list", "describe", "delete"])]
    pub topic: Vec<String>,
    /// All topics that the group has committed for
    #[arg(long, requires = "reset_offsets", conflicts_with = "topic")]
    pub all_topics: bool,
    /// Only print what would be; the default
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
    /// Do it
    #[arg(long, requires = "reset_offsets")]
    pub execute: bool,
    /// Print the offsets as CSV, which --from-file reads
    #[arg(long, requires = "reset_offsets")]
    pub export: bool,
    /// Reset to the first offset
    #[arg(long, requires = "reset_offsets")]
    pub to_earliest: bool,
    /// Reset to the next offset
    #[arg(long, requires = "reset_offsets")]
    pub to_latest: bool,
    /// Reset to what is committed, and to the next offset where nothing is
    #[arg(long, requires = "reset_offsets")]
    pub to_current: bool,
    /// Reset to an offset
    #[arg(long, value_name = "OFFSET", requires = "reset_offsets", allow_negative_numbers = true)]
    pub to_offset: Option<i64>,
    /// Move forward, or back by a negative number
    #[arg(long, value_name = "COUNT", requires = "reset_offsets", allow_negative_numbers = true)]
    pub shift_by: Option<i64>,
    /// Reset to the first record of the last PnDTnHnMnS, or '90 minutes'
    #[arg(long, value_name = "DURATION", requires = "reset_offsets")]
    pub by_duration: Option<String>,
    /// Reset to the first record at or after a time: 2026-03-01T12:30:00.000, or '90 minutes ago'
    #[arg(long, value_name = "TIME", requires = "reset_offsets")]
    pub to_datetime: Option<String>,
    /// Reset to the offsets of a CSV file: topic,partition,offset or group,topic,partition,offset
    #[arg(long, value_name = "FILE", requires = "reset_offsets", conflicts_with_all = ["topic", "all_topics"])]
    pub from_file: Option<PathBuf>,
    /// How long to try before giving up
    #[arg(long, value_name = "MS")]
    pub timeout: Option<u64>,
    /// With --list: groups of all types with type and protocol, as kafka-groups does
    #[arg(long, requires = "list")]
    pub all_types: bool,
    /// With --all-types: only groups of this type
    #[arg(long, value_name = "TYPE", requires = "all_types")]
    pub group_type: Option<String>,
    /// With --all-types: only groups of this protocol type
    #[arg(long, value_name = "PROTOCOL", requires = "all_types")]
    pub protocol: Option<String>,
    /// With --all-types: only consumer groups, of whatever type
    #[arg(long, requires = "all_types", conflicts_with_all = ["share", "streams", "group_type", "protocol"])]
    pub consumer: bool,
    /// With --all-types: only share groups
    #[arg(long, requires = "all_types", conflicts_with_all = ["streams", "group_type", "protocol"])]
    pub share: bool,
    /// With --all-types: only groups of Kafka Streams
    #[arg(long, requires = "all_types", conflicts_with_all = ["group_type", "protocol"])]
    pub streams: bool,
    /// Only say whether a regular expression is one that topics can be subscribed to with (RE2's syntax)
    #[arg(long, value_name = "REGEX")]
    pub validate_regex: Option<String>,
    /// JSON, one object per row
    #[arg(long, conflicts_with = "export")]
    pub json: bool,
}

pub async fn run(arguments: GroupsArguments, out: &mut Output) -> Result<(), CliError> {
    if let Some(text) = &arguments.validate_regex {
        return validate_regex(text, arguments.json, out);
    }
    let mut properties = arguments.connection.properties(&[])?;
    if let Some(timeout_ms) = arguments.timeout {
        properties.set(&format!("default.api.timeout.ms={timeout_ms}"))?;
    }
    let client = arguments.connection.client(&properties)?;
    if arguments.list {
        list::list(&client, &arguments, out).await
    } else if arguments.describe {
        describe::describe(&client, &arguments, out).await
    } else if arguments.reset_offsets {
        reset::reset(&client, &arguments, out).await
    } else if arguments.delete {
        delete::delete(&client, &arguments, out).await
    } else {
        delete::delete_offsets(&client, &arguments, out).await
    }
}

/// Says whether a regular expression is one; exit code 1 when it is none. Asks no broker.
fn validate_regex(text: &str, is_json: bool, out: &mut Output) -> Result<(), CliError> {
    let reason = TopicPattern::check(text).err();
    if is_json {
        out.json(&json!({"regex": text, "valid": reason.is_none(), "reason": reason}))?;
    } else {
        match &reason {
            None => writeln!(out, "The regular expression `{text}` is valid.")?,
            Some(reason) => writeln!(out, "The regular expression `{text}` is invalid: {reason}.")?,
        }
    }
    if reason.is_some() { Err(CliError::Reported) } else { Ok(()) }
}

/// The groups that the arguments name, in order of their ids.
async fn chosen(client: &Client, arguments: &GroupsArguments) -> Result<Vec<String>, CliError> {
    if arguments.all_groups {
        let groups = client.list_groups(&[], &[]).await?;
        return Ok(groups.into_iter().filter(|group| group.is_consumers()).map(|group| group.id).collect());
    }
    if arguments.group.is_empty() {
        return Err(CliError::Usage(
            "name a group with --group, or take --all-groups; raftsman groups --list names them".to_owned(),
        ));
    }
    let mut groups = arguments.group.clone();
    groups.sort();
    groups.dedup();
    Ok(groups)
}
