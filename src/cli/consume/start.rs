//! Where to start, and how to fetch: out of the arguments and the properties.

use std::collections::BTreeMap;

use super::ConsumeArguments;
use crate::cli::output::CliError;
use crate::cli::properties::Properties;
use crate::cli::time;
use crate::client::Client;
use crate::client::admin;
use crate::client::consumer::{ConsumerOptions, Notice};

/// Where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A time or special value for ListOffsets.
    Time(i64),
    Offset(i64),
    /// So many records before the end.
    Last(i64),
}

pub(super) fn start_of(arguments: &ConsumeArguments, properties: &Properties) -> Result<Start, CliError> {
    if arguments.from_beginning {
        return Ok(Start::Time(admin::EARLIEST));
    }
    if let Some(text) = &arguments.from_time {
        let time = time::parse_time(text, time::now_ms());
        return time.map(Start::Time).map_err(|error| CliError::Usage(format!("--from-time: {error}")));
    }
    let Some(text) = &arguments.offset else {
        return Ok(Start::Time(match properties.text("auto.offset.reset") {
            Some("earliest") => admin::EARLIEST,
            _ => admin::LATEST,
        }));
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "earliest" => Ok(Start::Time(admin::EARLIEST)),
        "latest" => Ok(Start::Time(admin::LATEST)),
        number => match number.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            Ok(before) => Ok(Start::Last(before.saturating_neg())),
            Err(_) => Err(CliError::Usage(format!(
                "--offset {text}: expected earliest, latest, an offset, or -N for the last N records"
            ))),
        },
    }
}

pub(super) fn options(
    arguments: &ConsumeArguments,
    properties: &Properties,
) -> Result<ConsumerOptions, CliError> {
    let defaults = ConsumerOptions::default();
    let isolation = arguments.isolation_level.as_deref().or(properties.text("isolation.level"));
    let isolation_level = match isolation {
        None | Some("read_uncommitted") => 0,
        Some("read_committed") => 1,
        Some(other) => {
            return Err(CliError::Usage(format!(
                "isolation.level={other}: expected read_uncommitted or read_committed"
            )));
        }
    };
    let reset_to = match properties.text("auto.offset.reset") {
        Some("none") => None,
        Some("earliest") => Some(admin::EARLIEST),
        Some("latest") => Some(admin::LATEST),
        None if arguments.from_beginning || arguments.from_time.is_some() => Some(admin::EARLIEST),
        None => Some(admin::LATEST),
        Some(other) => {
            return Err(CliError::Usage(format!(
                "auto.offset.reset={other}: expected earliest, latest or none"
            )));
        }
    };
    Ok(ConsumerOptions {
        fetch_max_wait_ms: properties.number("fetch.max.wait.ms")?.unwrap_or(defaults.fetch_max_wait_ms),
        fetch_min_bytes: properties.number("fetch.min.bytes")?.unwrap_or(defaults.fetch_min_bytes),
        fetch_max_bytes: properties.number("fetch.max.bytes")?.unwrap_or(defaults.fetch_max_bytes),
        max_partition_fetch_bytes: properties
            .number("max.partition.fetch.bytes")?
            .unwrap_or(defaults.max_partition_fetch_bytes),
        isolation_level,
        reset_to,
        check_crcs: properties.flag("check.crcs")?.unwrap_or(true),
        skips_unreadable: arguments.skip_message_on_error,
        unreachable_timeout_ms: defaults.unreachable_timeout_ms,
        on_notice: tell,
    })
}

/// Warns of what the consumer did by itself.
fn tell(notice: Notice<'_>) {
    match notice {
        Notice::PassedOver(error) => eprintln!("warning: {error}; passed over"),
        Notice::Reset { partition: (topic, partition), from, to, is_first } => {
            let place = if is_first { "first" } else { "next" };
            let how = if from > to { "lies beyond the log's end" } else { "is no more in the log" };
            eprintln!(
                "warning: {topic}-{partition}: offset {from} {how}; going on at the {place} offset, {to}"
            );
        }
    }
}

/// The real offsets to start at.
pub(super) async fn starts(
    client: &Client,
    keys: Vec<admin::Partition>,
    start: Start,
    isolation_level: i8,
) -> Result<BTreeMap<admin::Partition, i64>, CliError> {
    let list = async |time: i64| -> Result<BTreeMap<admin::Partition, i64>, CliError> {
        let wanted = keys.iter().map(|key| (key.clone(), time)).collect();
        let mut offsets = BTreeMap::new();
        for (key, listed) in client.list_offsets(&wanted, isolation_level).await? {
            let listed =
                listed.map_err(|error| CliError::while_doing(format!("read {}-{}", key.0, key.1), error))?;
            offsets.insert(key, listed.offset);
        }
        Ok(offsets)
    };
    match start {
        Start::Offset(offset) => Ok(keys.iter().map(|key| (key.clone(), offset)).collect()),
        Start::Last(count) => {
            let first = list(admin::EARLIEST).await?;
            let mut starts = list(admin::LATEST).await?;
            for (key, offset) in &mut starts {
                *offset = offset.saturating_sub(count).max(first.get(key).copied().unwrap_or(0));
            }
            Ok(starts)
        }
        Start::Time(time) => {
            let mut starts = list(time).await?;
            // Nothing at or after that time yet: what comes next is.
            if starts.values().any(|offset| *offset < 0) {
                let ends = list(admin::LATEST).await?;
                for (key, offset) in starts.iter_mut().filter(|(_, offset)| **offset < 0) {
                    *offset = ends.get(key).copied().unwrap_or(0);
                }
            }
            Ok(starts)
        }
    }
}
