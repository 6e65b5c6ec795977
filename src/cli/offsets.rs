//! `raftsman offsets` (kafka-get-offsets): one line `topic:partition:offset` per partition.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde_json::json;

use super::output::{CliError, Output};
use super::pattern::TopicPattern;
use super::properties::ConnectionArguments;
use super::time;
use crate::client::admin;

/// Arguments of `raftsman offsets`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman offsets --topic orders                       the next offset of each partition
  raftsman offsets --topic orders --time earliest       the first offset
  raftsman offsets --topic orders --time '2 hours ago'  the first record of the last two hours
  raftsman offsets --topic-partitions 'orders:0-3,audit'"
)]
pub struct OffsetsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Topic, or a regular expression
    #[arg(long, conflicts_with = "topic_partitions")]
    pub topic: Option<String>,
    /// Partitions, as in 0,2
    #[arg(long, value_delimiter = ',', conflicts_with = "topic_partitions")]
    pub partitions: Vec<i32>,
    /// Topics with partitions: topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3 (upper bounds exclusive)
    #[arg(long, value_name = "PATTERNS")]
    pub topic_partitions: Option<String>,
    /// earliest (-2), latest (-1), max-timestamp (-3), earliest-local (-4), latest-tiered (-5),
    /// milliseconds since 1970, an ISO time, or 'N minutes ago'
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub time: String,
    /// Leave internal topics out
    #[arg(long)]
    pub exclude_internal_topics: bool,
    /// One JSON object per partition
    #[arg(long)]
    pub json: bool,
}

/// One part of `--topic-partitions`.
struct PartitionPattern {
    topic: TopicPattern,
    from: i32,
    to: i32,
}

impl PartitionPattern {
    fn parse(part: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Usage(format!(
                "'{part}' is not a topic with partitions: expected topic, topic:3, topic:0-3, topic:2- or topic:-3"
            ))
        };
        let (topic, range) = part.split_once(':').map_or((part, None), |(topic, range)| (topic, Some(range)));
        let topic = if topic.is_empty() { TopicPattern::all() } else { TopicPattern::new(topic)? };
        let number = |text: &str, empty: i32| {
            if text.is_empty() { Ok(empty) } else { text.parse::<i32>().map_err(|_| wrong()) }
        };
        let (from, to) = match range {
            None | Some("") => (0, i32::MAX),
            Some(range) => match range.split_once('-') {
                Some((from, to)) => (number(from, 0)?, number(to, i32::MAX)?),
                None => {
                    let only = number(range, 0)?;
                    (only, only.saturating_add(1))
                }
            },
        };
        Ok(Self { topic, from, to })
    }

    fn matches(&self, topic: &str, partition: i32) -> bool {
        (self.from..self.to).contains(&partition) && self.topic.matches(topic)
    }
}

pub async fn run(arguments: OffsetsArguments, out: &mut Output) -> Result<(), CliError> {
    let time = time::parse_offset_time(&arguments.time, time::now_ms()).map_err(CliError::Usage)?;
    let pattern = TopicPattern::from_option(arguments.topic.as_deref())?;
    let ranges = arguments
        .topic_partitions
        .iter()
        .flat_map(|list| list.split(','))
        .map(|part| PartitionPattern::parse(part.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;

    let mut wanted = BTreeMap::new();
    for topic in client.all_topics().await? {
        if arguments.exclude_internal_topics && topic.is_internal {
            continue;
        }
        for partition in &topic.partitions {
            let included = if arguments.topic_partitions.is_some() {
                ranges.iter().any(|range| range.matches(&topic.name, partition.index))
            } else {
                pattern.matches(&topic.name)
                    && (arguments.partitions.is_empty() || arguments.partitions.contains(&partition.index))
            };
            if included {
                wanted.insert((topic.name.clone(), partition.index), time);
            }
        }
    }
    if wanted.is_empty() {
        return Err(CliError::Failed(
            "Could not match any topic-partitions with the specified filters; see raftsman topics --list"
                .to_owned(),
        ));
    }

    let mut failed = false;
    for ((topic, partition), result) in client.list_offsets(&wanted, 0).await? {
        match result {
            // No record at or after that time: Kafka's tool prints nothing for the partition.
            Ok(listed) if listed.offset < 0 && !arguments.json => {}
            Ok(listed) if arguments.json => {
                let known = |value: i64| (value >= 0).then_some(value);
                out.json(&json!({
                    "topic": topic, "partition": partition, "offset": known(listed.offset),
                    "timestamp": known(listed.timestamp), "leader_epoch": listed.leader_epoch,
                }))?;
            }
            Ok(listed) => writeln!(out, "{topic}:{partition}:{}", listed.offset)?,
            Err(error) if time == admin::EARLIEST_PENDING_UPLOAD || time == admin::LATEST_TIERED => {
                return Err(error.into());
            }
            Err(error) => {
                failed = true;
                eprintln!("error: cannot get the offset of {topic}-{partition}: {error}");
            }
        }
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_patterns_are_kafkas() {
        for (pattern, topic, partitions) in [
            ("a:1", "a", vec![1]),
            ("a:0-2", "a", vec![0, 1]),
            ("a:2-", "a", vec![2, 3]),
            ("a:-2", "a", vec![0, 1]),
            ("a", "a", vec![0, 1, 2, 3]),
            (":3", "other", vec![3]),
            ("a", "b", vec![]),
        ] {
            let parsed = PartitionPattern::parse(pattern).unwrap();
            let matched = (0..4).filter(|index| parsed.matches(topic, *index)).collect::<Vec<_>>();
            assert_eq!(matched, partitions, "{pattern}");
        }
        assert!(PartitionPattern::parse("a:x").is_err());
    }
}
