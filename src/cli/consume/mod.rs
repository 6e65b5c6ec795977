//! `raftsman consume` (kafka-console-consumer): the records of a topic on standard output.

mod formatter;
mod grouped;
mod start;
mod waiting;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::formatter::{Formatter, PrintError};
use self::start::Start;
use super::output::{CliError, Output};
use super::properties::{ConnectionArguments, Properties};
use super::record_text::Format;
use crate::client::admin;
use crate::client::consumer::{ConsumedRecord, Consumer};
use crate::client::{ClientError, TopicMetadata};

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
  raftsman consume --topic logs --group billing --from-beginning  goes on where the group has left off
  raftsman consume --include 'logs-.*' --group billing            shared with the group's other members
  raftsman consume --topic users --from-beginning --formatter-property print.key=true
  raftsman consume --topic users --from-beginning --exit-at-end --format json"
)]
pub struct ConsumeArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The topic to read; may be repeated or a list
    #[arg(long, required_unless_present = "include", value_delimiter = ',')]
    pub topic: Vec<String>,
    /// Read as a member of this consumer group: its members share the partitions, and what has been
    /// printed is committed, so that the group goes on from there. Where nothing is committed,
    /// --from-beginning and --from-time say where to start
    #[arg(long, conflicts_with_all = ["partition", "offset"])]
    pub group: Option<String>,
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
    /// Stop when no record has come for so long; while a group rebalances does not count
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
    /// print.value, key.separator, line.separator, headers.separator, null.literal, key.deserializer,
    /// value.deserializer, headers.deserializer
    #[arg(long, alias = "property", value_name = "KEY=VALUE")]
    pub formatter_property: Vec<String>,
    /// File of formatter properties
    #[arg(long, value_name = "FILE")]
    pub formatter_config: Option<PathBuf>,
    /// read_uncommitted or read_committed
    #[arg(long, value_parser = ["read_uncommitted", "read_committed"])]
    pub isolation_level: Option<String>,
    /// Kafka's formatters by their classes: DefaultMessageFormatter, NoOpMessageFormatter, and for records of
    /// __consumer_offsets OffsetsMessageFormatter and GroupMetadataMessageFormatter
    #[arg(long, value_name = "CLASS")]
    pub formatter: Option<String>,
    /// How keys become text: String-, Long-, Integer-, Short-, Double-, Float-, Boolean-, UUID-, Bytes- or
    /// ByteArrayDeserializer
    #[arg(long, value_name = "CLASS")]
    pub key_deserializer: Option<String>,
    /// How values become text
    #[arg(long, value_name = "CLASS")]
    pub value_deserializer: Option<String>,
    /// Pass over records and batches that cannot be read, with a warning
    #[arg(long)]
    pub skip_message_on_error: bool,
    /// Refused: it is for Kafka's own system tests
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
    "group.id",
    "group.instance.id",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "metadata.max.age.ms",
    "allow.auto.create.topics",
];

/// The partitions of these topics that the arguments name.
fn partitions(
    topics: &[TopicMetadata],
    arguments: &ConsumeArguments,
) -> Result<Vec<admin::Partition>, CliError> {
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

/// The first of the partitions that nobody leads.
fn leaderless(topics: &[TopicMetadata], keys: &[admin::Partition]) -> Option<admin::Partition> {
    keys.iter()
        .find(|(name, index)| {
            let topic = topics.iter().find(|topic| topic.name == *name);
            let partition = topic.and_then(|topic| topic.partitions.iter().find(|it| it.index == *index));
            partition.is_some_and(|partition| partition.leader.is_none())
        })
        .cloned()
}

fn does_not_exist(topic: &str) -> CliError {
    CliError::Failed(format!(
        "topic '{topic}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); see raftsman topics --list"
    ))
}

fn reading(topic: &str, error: ClientError) -> CliError {
    match error {
        ClientError::Unreachable { .. } => error.into(),
        error => CliError::while_doing(format!("read topic '{topic}'"), error),
    }
}

pub async fn run(arguments: ConsumeArguments, out: &mut Output) -> Result<(), CliError> {
    if arguments.enable_systest_events {
        return Err(CliError::Usage(
            "--enable-systest-events is for Kafka's own system tests and cannot be used here".to_owned(),
        ));
    }
    let formatter = formatter_of(&arguments)?;
    let properties = arguments.connection.properties(CONSUMER_KEYS)?;
    let options = start::options(&arguments, &properties)?;
    let group = group_of(&arguments, &properties)?;
    let mut start = start::start_of(&arguments, &properties)?;
    let creates = properties.flag("allow.auto.create.topics")?.unwrap_or(true);
    let client = Arc::new(arguments.connection.client(&properties)?);

    let limit = arguments.max_messages.unwrap_or(u64::MAX);
    let skips = arguments.skip_message_on_error;
    let mut printer = Printer { formatter, out, limit, count: 0, skips };
    let mut stop = Stop::new(arguments.timeout_ms)?;
    let result = async {
        // A group reads what comes to match while it runs.
        let is_awaited = group.is_none() || arguments.include.is_none();
        let mut topics = Vec::new();
        if is_awaited {
            let found = waiting::topics(&client, &arguments, creates, &mut stop).await?;
            let Some(found) = found else { return Ok(()) };
            if found.are_new && start == Start::Time(admin::LATEST) {
                start = Start::Time(admin::EARLIEST);
            }
            topics = found.topics;
            stop.put_off();
        }
        match &group {
            Some(group) => {
                let settings = grouped::Settings::new(group, &arguments, &properties, options, start)?;
                grouped::read(client.clone(), settings, &mut printer, &mut stop).await
            }
            None => {
                let keys = partitions(&topics, &arguments)?;
                let waits_for = leaderless(&topics, &keys);
                let starts = start::starts(&client, keys, start, options.isolation_level);
                let Some(starts) = waiting::starts(starts, waits_for, &mut stop).await? else {
                    return Ok(());
                };
                let mut consumer = Consumer::new(client.clone(), options, starts);
                read(&mut consumer, arguments.exit_at_end, &mut printer, &mut stop).await
            }
        }
    }
    .await;
    let result = result.and_then(|()| Ok(printer.out.flush()?));
    let is_cut_off =
        matches!(&result, Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe);
    if !is_cut_off {
        drop(writeln!(io::stderr(), "Processed a total of {} messages", printer.count));
    }
    result
}

/// How records are printed: the options win over the pairs, the pairs over the file.
fn formatter_of(arguments: &ConsumeArguments) -> Result<Formatter, CliError> {
    let mut formatting = match &arguments.formatter_config {
        Some(path) => Properties::read(path)?,
        None => Properties::default(),
    };
    for pair in &arguments.formatter_property {
        formatting.set(pair)?;
    }
    let options = [
        ("key.deserializer", &arguments.key_deserializer),
        ("value.deserializer", &arguments.value_deserializer),
    ];
    for (key, class) in options {
        if let Some(class) = class {
            formatting.set(&format!("{key}={class}"))?;
        }
    }
    let format = if arguments.json { Format::Json } else { arguments.format };
    Formatter::new(format, &formatting, arguments.formatter.as_deref().unwrap_or_default())
}

/// The group, named by the option or by the property; as in Kafka's tool both must agree.
fn group_of(arguments: &ConsumeArguments, properties: &Properties) -> Result<Option<String>, CliError> {
    let group = match (arguments.group.as_deref(), properties.text("group.id")) {
        (Some(option), Some(property)) if option != property => {
            return Err(CliError::Usage(format!(
                "--group {option} and the property group.id={property} do not match; leave one out"
            )));
        }
        (option, property) => option.or(property),
    };
    if group == Some("") {
        return Err(CliError::Usage("the group's id is empty".to_owned()));
    }
    // With --group these options are refused; a property may come from a file that serves others too.
    let is_assigned = !arguments.partition.is_empty() || arguments.offset.is_some();
    if is_assigned && group.is_some() {
        eprintln!("warning: group.id is not used with --partition or --offset: nothing is committed");
    }
    Ok(group.filter(|_| !is_assigned).map(str::to_owned))
}

/// Prints records, as many as are wanted.
struct Printer<'a> {
    formatter: Formatter,
    out: &'a mut Output,
    limit: u64,
    count: u64,
    /// Pass over records that are not what they were said to be.
    skips: bool,
}

impl Printer<'_> {
    fn is_done(&self) -> bool {
        self.count >= self.limit
    }

    /// Prints records, and answers those that are beyond the limit. What is printed has left the process.
    fn print<'r>(&mut self, records: &'r [ConsumedRecord]) -> Result<&'r [ConsumedRecord], CliError> {
        let wanted = usize::try_from(self.limit - self.count).unwrap_or(usize::MAX).min(records.len());
        let (wanted, rest) = records.split_at(wanted);
        for record in wanted {
            self.count += 1;
            match self.formatter.print(record, self.out) {
                Ok(()) => {}
                Err(PrintError::Output(error)) => return Err(error.into()),
                Err(PrintError::Record(reason)) => {
                    let place = format!("{}-{} at offset {}", record.topic, record.partition, record.offset);
                    if !self.skips {
                        return Err(CliError::while_doing(format!("print {place}"), reason));
                    }
                    eprintln!("warning: cannot print {place}: {reason}; passed over");
                }
            }
        }
        if !wanted.is_empty() {
            self.out.flush()?;
        }
        Ok(rest)
    }
}

/// Why the reading ends besides that there are enough records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Signalled,
    /// Nothing has come for `--timeout-ms`.
    Idle,
}

impl Why {
    /// Nothing comes: that is the end of what is there, unless it is that it cannot be read.
    fn check(self, consumer: &Consumer) -> Result<(), CliError> {
        match consumer.trouble() {
            Some(trouble) if self == Self::Idle => Err(CliError::while_doing("read on", trouble)),
            _ => Ok(()),
        }
    }
}

/// What ends the reading besides the number of records: signals, and that nothing comes.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    timeout: Option<Duration>,
    /// When the last record came.
    active_at: Instant,
}

impl Stop {
    fn new(timeout_ms: Option<u64>) -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::while_doing("listen for signals", error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            timeout: timeout_ms.map(Duration::from_millis),
            active_at: Instant::now(),
        })
    }

    fn put_off(&mut self) {
        self.active_at = Instant::now();
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for a signal, or until nothing has come for too long.
    async fn wait(&mut self) -> Why {
        let deadline = self.timeout.map(|timeout| self.active_at + timeout);
        let idle = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.signalled() => Why::Signalled,
            () = idle => Why::Idle,
        }
    }
}

async fn read(
    consumer: &mut Consumer,
    exits_at_end: bool,
    printer: &mut Printer<'_>,
    stop: &mut Stop,
) -> Result<(), CliError> {
    while !printer.is_done() {
        let records = tokio::select! {
            biased;
            why = stop.wait() => return why.check(consumer),
            records = consumer.next() => records?,
        };
        printer.print(&records)?;
        if !records.is_empty() {
            stop.put_off();
        }
        if exits_at_end && consumer.is_at_end() {
            return Ok(());
        }
    }
    Ok(())
}
