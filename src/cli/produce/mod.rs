//! `raftsman produce` (kafka-console-producer): lines of standard input or of a file into a topic.

mod input;
mod session;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;

use self::input::{Parser, read_input};
use self::session::{Input, Progress, Session};
use super::output::{CliError, Output};
use super::properties::{ConnectionArguments, Properties};
use super::record_text::Format;
use crate::client::producer::{Producer, ProducerError, ProducerOptions};
use crate::client::records::Compression;

/// Arguments of `raftsman produce`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  echo 'hello' | raftsman produce --topic greetings
  raftsman produce --topic logs --file access.log --compression-codec zstd
  raftsman produce --topic users --reader-property parse.key=true --reader-property key.separator=:
  raftsman consume --topic a --from-beginning --format json --timeout-ms 1000 | raftsman produce --topic b --format json"
)]
pub struct ProduceArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The topic to write to
    #[arg(long)]
    pub topic: String,
    /// Read this file in place of standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the input is read
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write all records to this partition
    #[arg(long)]
    pub partition: Option<i32>,
    /// Key of all records (text); parse.key reads one per line
    #[arg(long)]
    pub key: Option<String>,
    /// Header of all records; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub headers: Vec<String>,
    /// Timestamp of all records: ms, ISO, or '5 minutes ago'; the moment of reading when absent
    #[arg(long, allow_hyphen_values = true)]
    pub timestamp: Option<String>,
    /// all (-1), 1 or 0 [default: all]
    #[arg(long, aliases = ["request-required-acks"], allow_hyphen_values = true)]
    pub acks: Option<String>,
    /// none, gzip, snappy, lz4 or zstd; gzip when given without a value [default: none]
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    pub compression_codec: Option<String>,
    /// Bytes of records that a batch gathers [default: 262144]
    #[arg(long, alias = "max-partition-memory-bytes")]
    pub batch_size: Option<usize>,
    /// How long a batch waits for more records [default: 5]
    #[arg(long, alias = "timeout")]
    pub linger_ms: Option<u64>,
    /// Write record by record, each acknowledged before the next is read
    #[arg(long)]
    pub sync: bool,
    /// Retries before a batch is given up; until delivery.timeout.ms when absent
    #[arg(long)]
    pub message_send_max_retries: Option<u32>,
    /// How long one request may take
    #[arg(long)]
    pub request_timeout_ms: Option<u64>,
    /// Pause before a retry
    #[arg(long)]
    pub retry_backoff_ms: Option<u64>,
    /// Bytes of records that may wait for their acknowledgement [default: 33554432]
    #[arg(long)]
    pub max_memory_bytes: Option<usize>,
    /// parse.key, parse.headers, key.separator, headers.delimiter, headers.separator,
    /// headers.key.separator, null.marker, ignore.error
    #[arg(long, alias = "property", value_name = "KEY=VALUE")]
    pub reader_property: Vec<String>,
    /// File of reader properties
    #[arg(long, value_name = "FILE")]
    pub reader_config: Option<PathBuf>,
    /// Taken for Kafka's sake; only its LineMessageReader
    #[arg(long, hide = true)]
    pub line_reader: Option<String>,
    /// How long to wait for the topic to be there, at most [default: 60000]
    #[arg(long)]
    pub max_block_ms: Option<u64>,
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
    pub metadata_expiry_ms: Option<u64>,
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
    pub socket_buffer_size: Option<u64>,
    /// No progress line
    #[arg(long, short)]
    pub quiet: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

impl ProduceArguments {
    /// Refuses what cannot be done, and names what has no effect.
    fn check(&self) -> Result<(), CliError> {
        if let Some(class) = self.line_reader.as_deref().filter(|class| !class.ends_with("LineMessageReader"))
        {
            return Err(CliError::Usage(format!(
                "--line-reader {class}: only LineMessageReader can be used"
            )));
        }
        if self.metadata_expiry_ms.is_some() {
            eprintln!(
                "warning: --metadata-expiry-ms has no effect: metadata is asked for when an answer says so"
            );
        }
        if self.socket_buffer_size.is_some() {
            eprintln!("warning: --socket-buffer-size has no effect: the system chooses it");
        }
        Ok(())
    }
}

const PRODUCER_KEYS: &[&str] = &[
    "acks",
    "batch.size",
    "linger.ms",
    "compression.type",
    "enable.idempotence",
    "delivery.timeout.ms",
    "max.request.size",
    "buffer.memory",
    "max.in.flight.requests.per.connection",
    "retries",
];

/// Builds the options from flags, then properties, then defaults.
fn options(arguments: &ProduceArguments, properties: &Properties) -> Result<ProducerOptions, CliError> {
    let defaults = ProducerOptions::default();
    let acks_text = arguments.acks.as_deref().or(properties.text("acks")).unwrap_or("all");
    let acks = match acks_text.trim() {
        "all" | "-1" => -1,
        "1" => 1,
        "0" => 0,
        other => return Err(CliError::Usage(format!("--acks {other}: expected all (-1), 1 or 0"))),
    };
    let codec =
        arguments.compression_codec.as_deref().or(properties.text("compression.type")).unwrap_or("none");
    let compression = Compression::ALL
        .into_iter()
        .find(|known| known.name().eq_ignore_ascii_case(codec.trim()))
        .ok_or_else(|| {
            let names = Compression::ALL.map(Compression::name).join(", ");
            CliError::Usage(format!("--compression-codec {codec}: expected one of {names}"))
        })?;
    let in_flight_max = properties
        .number("max.in.flight.requests.per.connection")?
        .unwrap_or(if arguments.sync { 1 } else { defaults.in_flight_max });
    let is_idempotent = match properties.flag("enable.idempotence")? {
        Some(true) if acks != -1 => {
            return Err(CliError::Usage("enable.idempotence=true needs --acks all".to_owned()));
        }
        Some(true) if in_flight_max > defaults.in_flight_max => {
            return Err(CliError::Usage(
                "enable.idempotence=true needs max.in.flight.requests.per.connection of at most 5".to_owned(),
            ));
        }
        wanted => wanted.unwrap_or(acks == -1 && in_flight_max <= defaults.in_flight_max),
    };
    Ok(ProducerOptions {
        acks,
        compression,
        batch_bytes: arguments
            .batch_size
            .or(properties.number("batch.size")?)
            .unwrap_or(defaults.batch_bytes),
        linger_ms: arguments.linger_ms.or(properties.number("linger.ms")?).unwrap_or(defaults.linger_ms),
        is_idempotent,
        delivery_timeout_ms: properties
            .number("delivery.timeout.ms")?
            .unwrap_or(defaults.delivery_timeout_ms),
        request_bytes_max: properties.number("max.request.size")?.unwrap_or(defaults.request_bytes_max),
        buffer_bytes: arguments
            .max_memory_bytes
            .or(properties.number("buffer.memory")?)
            .unwrap_or(defaults.buffer_bytes)
            .max(1),
        in_flight_max: in_flight_max.max(1),
        retries: arguments.message_send_max_retries.or(properties.number("retries")?),
    })
}

pub async fn run(mut arguments: ProduceArguments, out: &mut Output) -> Result<(), CliError> {
    arguments.check()?;
    let connection = &mut arguments.connection;
    let more = [
        ("request.timeout.ms", arguments.request_timeout_ms),
        ("retry.backoff.ms", arguments.retry_backoff_ms),
        ("default.api.timeout.ms", arguments.max_block_ms),
    ];
    let more = more.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    connection.command_property.extend(more);
    let properties = arguments.connection.properties(PRODUCER_KEYS)?;
    let options = options(&arguments, &properties)?;
    let parser = Parser::new(&arguments)?;
    let client = Arc::new(arguments.connection.client(&properties)?);

    let (input, total_bytes) = open(&arguments)?;
    let failed = |error: ProducerError| match error {
        ProducerError::Client(error) => error.into(),
        ProducerError::UnknownTopic(ref topic) => {
            CliError::Failed(format!("{error}; try: raftsman topics --create --topic {topic}"))
        }
        error => CliError::Failed(error.to_string()),
    };
    let producer = Producer::open(client, &arguments.topic, options).await.map_err(failed)?;

    let is_terminal = io::stderr().is_terminal();
    let is_typed = arguments.file.is_none() && io::stdin().is_terminal();
    let is_shown = !arguments.quiet && !is_typed && (arguments.file.is_some() || is_terminal);
    let is_prompting = is_typed && is_terminal && !arguments.quiet;
    let is_whole = arguments.format == Format::Raw;
    let (sender, chunks) = mpsc::channel(4);
    std::thread::spawn(move || read_input(input, is_whole, sender));
    let input = Input { chunks, parser, is_whole, is_typed };
    let progress = Progress::new(total_bytes, is_shown);
    let mut session = Session::new(producer, input, arguments.sync, is_prompting, progress);
    session.run().await.map_err(failed)?;
    let (records, bytes, elapsed, failure) = session.end();
    if arguments.json {
        out.json(&json!({
            "topic": arguments.topic, "records": records, "bytes": bytes, "seconds": elapsed.as_secs_f64(),
        }))?;
    }
    failure.map_or(Ok(()), Err)
}

/// The input, and its length where that is known.
fn open(arguments: &ProduceArguments) -> Result<(Box<dyn Read + Send>, Option<u64>), CliError> {
    let Some(path) = &arguments.file else { return Ok((Box::new(io::stdin()), None)) };
    let failed = |error: io::Error| CliError::while_doing(format!("read {}", path.display()), error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((Box::new(file), Some(length)))
}
