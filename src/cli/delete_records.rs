//! `raftsman delete-records` (kafka-delete-records): moves the log start offset of partitions forward.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;

/// Arguments of `raftsman delete-records`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman delete-records --topic orders --partition 0 --offset 500   all before offset 500
  raftsman delete-records --topic orders --partition 0 --offset -1    all that is committed
  raftsman delete-records --offset-json-file offsets.json

The file: {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1, \"offset\": 1}], \"version\": 1}"
)]
pub struct DeleteRecordsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// JSON file with an offset per partition
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "partition", "offset"], required_unless_present = "topic")]
    pub offset_json_file: Option<PathBuf>,
    /// Topic, with --partition and --offset instead of a file
    #[arg(long, requires = "partition", requires = "offset")]
    pub topic: Option<String>,
    /// Partition of the topic
    #[arg(long, requires = "topic")]
    pub partition: Option<i32>,
    /// Records before this offset go; -1 stands for the high watermark
    #[arg(long, requires = "topic", allow_negative_numbers = true)]
    pub offset: Option<i64>,
    /// One JSON object per partition
    #[arg(long)]
    pub json: bool,
}

#[derive(Deserialize)]
struct OffsetFile {
    partitions: Vec<OffsetEntry>,
    #[serde(default = "version_one")]
    version: i32,
}

#[derive(Deserialize)]
struct OffsetEntry {
    topic: String,
    partition: i32,
    offset: i64,
}

fn version_one() -> i32 {
    1
}

/// Reads the offset file's text. A partition named twice is an error, as in Kafka's tool.
fn parse_offsets(text: &str) -> Result<BTreeMap<(String, i32), i64>, String> {
    let file: OffsetFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.version != 1 {
        return Err(format!("Not supported version field value {}", file.version));
    }
    let mut wanted = BTreeMap::new();
    for entry in file.partitions {
        let name = format!("{}-{}", entry.topic, entry.partition);
        if wanted.insert((entry.topic, entry.partition), entry.offset).is_some() {
            return Err(format!("Offset json file contains duplicate topic partitions: {name}"));
        }
    }
    Ok(wanted)
}

pub async fn run(arguments: DeleteRecordsArguments, out: &mut Output) -> Result<(), CliError> {
    let wanted = match (&arguments.offset_json_file, &arguments.topic, arguments.partition, arguments.offset)
    {
        (Some(path), ..) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| CliError::while_doing(format!("read {}", path.display()), error))?;
            parse_offsets(&text).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?
        }
        (None, Some(topic), Some(partition), Some(offset)) => {
            BTreeMap::from([((topic.clone(), partition), offset)])
        }
        _ => {
            return Err(CliError::Usage(
                "--offset-json-file, or --topic, --partition and --offset".to_owned(),
            ));
        }
    };
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    if !arguments.json {
        writeln!(out, "Executing records delete operation")?;
        out.flush()?;
    }
    let outcome = client.delete_records(&wanted).await?;
    if !arguments.json {
        writeln!(out, "Records delete operation completed:")?;
    }
    let mut failed = false;
    for ((topic, partition), result) in outcome {
        failed |= result.is_err();
        match result {
            Ok(low_watermark) if arguments.json => {
                out.json(&json!({"topic": topic, "partition": partition, "low_watermark": low_watermark}))?
            }
            Err(error) if arguments.json => {
                out.json(&json!({"topic": topic, "partition": partition, "error": error.to_string()}))?
            }
            Ok(low_watermark) => {
                writeln!(out, "partition: {topic}-{partition}\tlow_watermark: {low_watermark}")?;
            }
            Err(error) => writeln!(out, "partition: {topic}-{partition}\terror: {error}")?,
        }
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_files_are_read_and_checked() {
        let good = r#"{"partitions":[{"topic":"a","partition":1,"offset":5}],"version":1}"#;
        assert_eq!(parse_offsets(good).unwrap(), BTreeMap::from([(("a".to_owned(), 1), 5)]));
        let twice = r#"{"partitions":[{"topic":"a","partition":1,"offset":5},{"topic":"a","partition":1,"offset":6}]}"#;
        assert!(parse_offsets(twice).unwrap_err().contains("a-1"));
        assert!(parse_offsets(r#"{"partitions":[],"version":2}"#).is_err());
        assert!(parse_offsets("[").is_err());
    }
}
