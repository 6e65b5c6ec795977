//! `raftsman consume` (kafka-console-consumer): the records of a topic on standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::admin;
use super::client::consumer::{ConsumedRecord, Consumer, ConsumerOptions};
use super::client::{Client, ClientError};
use super::output::{CliError, Output};
use super::pattern::TopicPattern;
use super::properties::{ConnectionArguments, Properties, unescape};
use super::record_text::{Format, hex, json_of};
use super::time;
use crate::protocol::batch::TimestampType;

/// Arguments of `raftsman consume`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman consume --topic logs                                   what comes in from now on
  raftsman consume --topic logs --from-beginning --max-messages 10
  raftsman consume --topic logs --from-time '15 minutes ago' --timeout-ms 1000
  raftsman consume --topic logs --partition 0 --offset 1234
  raftsman consume --topic users --from-beginning --formatter-property print.key=true
  raftsman consume --topic users --from-beginning --exit-at-end --format json"
)]
pub struct ConsumeArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The topic to read
    #[arg(long, required_unless_present = "include")]
    pub topic: Option<String>,
    /// Read all topics that match this regular expression
    #[arg(long, value_name = "REGEX", alias = "whitelist", conflicts_with_all = ["topic", "partition", "offset"])]
    pub include: Option<String>,
    /// Read this partition only; may be repeated or a list, as in 0,2
    #[arg(long, value_delimiter = ',')]
    pub partition: Vec<i32>,
    /// earliest, latest, an offset, or -N for the last N records of each partition [default: latest]
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["from_beginning", "from_time"])]
    pub offset: Option<String>,
    /// Start with the first record
    #[arg(long, conflicts_with = "from_time")]
    pub from_beginning: bool,
    /// Start with the first record at or after a time: ms, ISO as in 2026-03-01T12:30, or '90 minutes ago'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from_time: Option<String>,
    /// Stop after so many records
    #[arg(long, value_name = "COUNT")]
    pub max_messages: Option<u64>,
    /// Stop when no record has come for so long
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64))]
    pub timeout_ms: Option<u64>,
    /// Stop at the end of the partitions
    #[arg(long)]
    pub exit_at_end: bool,
    /// How records are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// One JSON object per record: --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// print.timestamp, print.key, print.offset, print.epoch, print.partition, print.headers,
    /// print.value, key.separator, line.separator, headers.separator, null.literal
    #[arg(long, alias = "property", value_name = "KEY=VALUE")]
    pub formatter_property: Vec<String>,
    /// File of formatter properties
    #[arg(long, value_name = "FILE")]
    pub formatter_config: Option<PathBuf>,
    /// read_uncommitted or read_committed
    #[arg(long, value_parser = ["read_uncommitted", "read_committed"])]
    pub isolation_level: Option<String>,
    /// Consumer group; not served here
    #[arg(long, hide = true)]
    pub group: Option<String>,
    /// Taken for Kafka's sake; only the default, LoggingMessageFormatter and NoOpMessageFormatter
    #[arg(long, hide = true)]
    pub formatter: Option<String>,
    /// Taken for Kafka's sake: keys and values are printed as the bytes they are
    #[arg(long, hide = true)]
    pub key_deserializer: Option<String>,
    /// Taken for Kafka's sake: keys and values are printed as the bytes they are
    #[arg(long, hide = true)]
    pub value_deserializer: Option<String>,
    /// Pass over batches that cannot be read
    #[arg(long, hide = true)]
    pub skip_message_on_error: bool,
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
    pub enable_systest_events: bool,
}

const CONSUMER_KEYS: &[&str] = &[
    "fetch.min.bytes",
    "fetch.max.wait.ms",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "isolation.level",
    "auto.offset.reset",
    "check.crcs",
];

const FORMATTER_KEYS: &[&str] = &[
    "print.timestamp",
    "print.key",
    "print.offset",
    "print.epoch",
    "print.partition",
    "print.headers",
    "print.value",
    "key.separator",
    "line.separator",
    "headers.separator",
    "null.literal",
];

/// Kafka's `DefaultMessageFormatter`, and the other formats.
struct Formatter {
    format: Format,
    is_silent: bool,
    timestamp: bool,
    key: bool,
    offset: bool,
    epoch: bool,
    partition: bool,
    headers: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
}

impl Formatter {
    fn new(format: Format, properties: &Properties, is_silent: bool) -> Result<Self, CliError> {
        for key in properties.keys().filter(|key| !FORMATTER_KEYS.contains(key)) {
            // Deserializers are classes; bytes are printed as they are.
            if !key.contains("deserializer") {
                eprintln!(
                    "warning: formatter property '{key}' is not used; known are {}",
                    FORMATTER_KEYS.join(", ")
                );
            }
        }
        let flag = |key: &str, default| properties.flag(key).map(|value| value.unwrap_or(default));
        let separator = |key: &str, default: &str| unescape(properties.text(key).unwrap_or(default));
        Ok(Self {
            format,
            is_silent,
            timestamp: flag("print.timestamp", false)?,
            key: flag("print.key", false)?,
            offset: flag("print.offset", false)?,
            epoch: flag("print.epoch", false)?,
            partition: flag("print.partition", false)?,
            headers: flag("print.headers", false)?,
            value: flag("print.value", true)?,
            key_separator: separator("key.separator", "\t"),
            line_separator: separator("line.separator", "\n"),
            headers_separator: separator("headers.separator", ","),
            null_literal: separator("null.literal", "null"),
        })
    }

    fn print(&self, consumed: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let record = &consumed.record;
        match self.format {
            Format::Text => self.print_text(consumed, out),
            Format::Raw => out.write_all(record.value.as_deref().unwrap_or_default()),
            Format::Hex => {
                let value = record.value.as_deref();
                writeln!(out, "{}", value.map_or_else(|| "null".to_owned(), hex))
            }
            Format::Json => {
                let headers = record
                    .headers
                    .iter()
                    .map(|(name, value)| json!([json_of(Some(name)), json_of(value.as_deref())]));
                let value = json!({
                    "topic": &*consumed.topic, "partition": consumed.partition, "offset": consumed.offset,
                    "timestamp": record.timestamp, "timestamp_iso": time::format_iso(record.timestamp),
                    "key": json_of(record.key.as_deref()), "value": json_of(record.value.as_deref()),
                    "headers": headers.collect::<Vec<Value>>(),
                });
                serde_json::to_writer(&mut *out, &value)?;
                out.write_all(b"\n")
            }
        }
    }

    fn print_text(&self, consumed: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        let record = &consumed.record;
        let mut is_first = true;
        let mut separate = |out: &mut dyn Write| {
            if std::mem::take(&mut is_first) { Ok(()) } else { out.write_all(&self.key_separator) }
        };
        if self.timestamp {
            separate(out)?;
            match (record.timestamp, consumed.timestamp_type) {
                (..0, _) => out.write_all(b"NO_TIMESTAMP")?,
                (time, TimestampType::CreateTime) => write!(out, "CreateTime:{time}")?,
                (time, TimestampType::LogAppendTime) => write!(out, "LogAppendTime:{time}")?,
            }
        }
        if self.partition {
            separate(out)?;
            write!(out, "Partition:{}", consumed.partition)?;
        }
        if self.offset {
            separate(out)?;
            write!(out, "Offset:{}", consumed.offset)?;
        }
        if self.epoch {
            separate(out)?;
            match consumed.leader_epoch {
                ..0 => out.write_all(b"Epoch:NOT_PRESENT")?,
                epoch => write!(out, "Epoch:{epoch}")?,
            }
        }
        let null = self.null_literal.as_slice();
        if self.headers {
            separate(out)?;
            if record.headers.is_empty() {
                out.write_all(b"NO_HEADERS")?;
            }
            for (number, (name, value)) in record.headers.iter().enumerate() {
                if number > 0 {
                    out.write_all(&self.headers_separator)?;
                }
                out.write_all(name)?;
                out.write_all(b":")?;
                out.write_all(value.as_deref().unwrap_or(null))?;
            }
        }
        if self.key {
            separate(out)?;
            out.write_all(record.key.as_deref().unwrap_or(null))?;
        }
        if self.value {
            separate(out)?;
            out.write_all(record.value.as_deref().unwrap_or(null))?;
        }
        out.write_all(&self.line_separator)
    }
}

/// Where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A time or special value for ListOffsets.
    Time(i64),
    Offset(i64),
    /// So many records before the end.
    Last(i64),
}

fn start_of(arguments: &ConsumeArguments, properties: &Properties) -> Result<Start, CliError> {
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

fn options(arguments: &ConsumeArguments, properties: &Properties) -> Result<ConsumerOptions, CliError> {
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
    })
}

/// The partitions that the arguments name.
async fn partitions(
    client: &Client,
    arguments: &ConsumeArguments,
) -> Result<Vec<admin::Partition>, CliError> {
    let topics = match (&arguments.topic, &arguments.include) {
        (Some(name), _) => {
            let topic = client.topic(name, false).await.map_err(|error| reading(name, error))?;
            topic.into_iter().collect::<Vec<_>>()
        }
        (None, pattern) => {
            let pattern = TopicPattern::from_option(pattern.as_deref())?;
            let mut topics = client.all_topics().await?;
            topics.retain(|topic| pattern.matches(&topic.name) && !topic.is_internal);
            topics
        }
    };
    if topics.is_empty() {
        let name = arguments.topic.as_deref().or(arguments.include.as_deref()).unwrap_or_default();
        return Err(CliError::Failed(format!(
            "topic '{name}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); see raftsman topics --list"
        )));
    }
    let mut keys = Vec::new();
    for topic in topics {
        let known = topic.partitions.iter().map(|partition| partition.index).collect::<Vec<_>>();
        if let Some(unknown) = arguments.partition.iter().find(|wanted| !known.contains(wanted)) {
            return Err(CliError::Failed(format!(
                "topic '{}' has no partition {unknown}: it has {}, counted from 0",
                topic.name,
                known.len()
            )));
        }
        let wanted = known
            .into_iter()
            .filter(|index| arguments.partition.is_empty() || arguments.partition.contains(index));
        keys.extend(wanted.map(|index| (topic.name.clone(), index)));
    }
    Ok(keys)
}

fn reading(topic: &str, error: ClientError) -> CliError {
    match error {
        ClientError::Unreachable { .. } => error.into(),
        error => CliError::while_doing(format!("read topic '{topic}'"), error),
    }
}

/// The real offsets to start at.
async fn starts(
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

pub async fn run(arguments: ConsumeArguments, out: &mut Output) -> Result<(), CliError> {
    if arguments.group.is_some() {
        return Err(CliError::Usage(
            "--group: this tool reads partitions without a group; leave it out".to_owned(),
        ));
    }
    let formatter_class = arguments.formatter.as_deref().unwrap_or_default();
    let format = if arguments.json { Format::Json } else { arguments.format };
    let mut formatting = match &arguments.formatter_config {
        Some(path) => Properties::read(path)?,
        None => Properties::default(),
    };
    for pair in &arguments.formatter_property {
        formatting.set(pair)?;
    }
    let known = ["", "DefaultMessageFormatter", "LoggingMessageFormatter", "NoOpMessageFormatter"];
    if !known.iter().any(|name| formatter_class.rsplit('.').next().unwrap_or_default() == *name) {
        return Err(CliError::Usage(format!(
            "--formatter {formatter_class}: Java classes cannot be used here"
        )));
    }
    let formatter = Formatter::new(format, &formatting, formatter_class.ends_with("NoOpMessageFormatter"))?;
    let properties = arguments.connection.properties(CONSUMER_KEYS)?;
    let options = options(&arguments, &properties)?;
    let start = start_of(&arguments, &properties)?;
    let client = Arc::new(arguments.connection.client(&properties)?);

    let keys = partitions(&client, &arguments).await?;
    let starts = starts(&client, keys, start, options.isolation_level).await?;
    let mut consumer = Consumer::new(client, options, starts);
    let mut count = 0;
    let result = read(&arguments, &mut consumer, &formatter, out, &mut count).await;
    let result = result.and_then(|()| Ok(out.flush()?));
    let is_cut_off =
        matches!(&result, Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe);
    if !is_cut_off {
        drop(writeln!(io::stderr(), "Processed a total of {count} messages"));
    }
    result
}

async fn read(
    arguments: &ConsumeArguments,
    consumer: &mut Consumer,
    formatter: &Formatter,
    out: &mut Output,
    count: &mut u64,
) -> Result<(), CliError> {
    let limit = arguments.max_messages.unwrap_or(u64::MAX);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut last_record = Instant::now();
    while *count < limit {
        let idle = async {
            match arguments.timeout_ms {
                Some(timeout_ms) => {
                    tokio::time::sleep_until(last_record + Duration::from_millis(timeout_ms)).await;
                }
                None => std::future::pending().await,
            }
        };
        let records = tokio::select! {
            biased;
            _ = &mut interrupted => return Ok(()),
            records = consumer.next() => records?,
            () = idle => return Ok(()),
        };
        for record in &records {
            if *count >= limit {
                break;
            }
            formatter.print(record, out)?;
            *count += 1;
        }
        if !records.is_empty() {
            last_record = Instant::now();
            out.flush()?;
        }
        if arguments.exit_at_end && consumer.is_at_end() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::records::Record;
    use bytes::Bytes;

    fn print(pairs: &[&str], format: Format, record: &ConsumedRecord) -> String {
        let mut properties = Properties::default();
        for pair in pairs {
            properties.set(pair).unwrap();
        }
        let mut printed = Vec::new();
        Formatter::new(format, &properties, false).unwrap().print(record, &mut printed).unwrap();
        String::from_utf8(printed).unwrap()
    }

    /// Lines that Kafka 4.3.0's console consumer prints for the same record.
    #[test]
    fn text_is_kafkas() {
        let mut record = ConsumedRecord {
            topic: "t1".into(),
            partition: 2,
            offset: 1,
            leader_epoch: -1,
            timestamp_type: TimestampType::CreateTime,
            record: Record {
                timestamp: 1795246858285,
                key: Some(Bytes::from_static(b"k1")),
                value: Some(Bytes::from_static(b"val1")),
                headers: vec![
                    (Bytes::from_static(b"h1"), Some(Bytes::from_static(b"v1"))),
                    (Bytes::from_static(b"h2"), Some(Bytes::from_static(b"v2"))),
                ],
            },
        };
        let all = [
            "print.timestamp=true",
            "print.partition=true",
            "print.offset=true",
            "print.epoch=true",
            "print.headers=true",
            "print.key=true",
        ];
        assert_eq!(
            print(&all, Format::Text, &record),
            "CreateTime:1795246858285\tPartition:2\tOffset:1\tEpoch:NOT_PRESENT\th1:v1,h2:v2\tk1\tval1\n"
        );
        assert_eq!(print(&[], Format::Hex, &record), "76616c31\n");
        record.record = Record { timestamp: -1, ..Record::default() };
        assert_eq!(
            print(&all, Format::Text, &record),
            "NO_TIMESTAMP\tPartition:2\tOffset:1\tEpoch:NOT_PRESENT\tNO_HEADERS\tnull\tnull\n"
        );
        assert_eq!(
            print(&["print.value=false", "print.key=true", "null.literal=-"], Format::Text, &record),
            "-\n"
        );
    }
}
