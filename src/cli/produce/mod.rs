//! `raftsman produce` (kafka-console-producer): lines of standard input or of a file into a topic.

mod arguments;
mod input;
mod session;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;

use self::input::{Parser, read_input};
use self::session::{Input, Progress, Session};
use super::output::{CliError, Output};
use super::properties::Properties;
use super::record_text::Format;
use crate::client::producer::{Producer, ProducerError, ProducerOptions};
use crate::client::records::Compression;

pub use arguments::ProduceArguments;

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
