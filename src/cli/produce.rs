//! `raftsman produce` (kafka-console-producer): lines of standard input or of a file into a topic.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;

use super::output::{CliError, Output};
use super::properties::{ConnectionArguments, Properties};
use super::record_text::{Format, LineReader, parse_hex, parse_json};
use super::time;
use crate::client::producer::{Producer, ProducerError, ProducerOptions, ProducerRecord};
use crate::client::records::{Compression, Record};

/// Bytes of input handed over at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// A line longer than this is refused: no broker takes such a record.
const LINE_BYTES_MAX: usize = 1024 * 1024 * 1024;

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
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
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

/// Turns pieces of input into records.
struct Parser {
    format: Format,
    reader: LineReader,
    template: Record,
    timestamp: Option<i64>,
    partition: Option<i32>,
    line: u64,
}

impl Parser {
    fn new(arguments: &ProduceArguments) -> Result<Self, CliError> {
        let mut properties = match &arguments.reader_config {
            Some(path) => Properties::read(path)?,
            None => Properties::default(),
        };
        for pair in &arguments.reader_property {
            properties.set(pair)?;
        }
        let key = arguments.key.clone().map(|key| Bytes::from(key.into_bytes()));
        let mut template = Record { key, ..Record::default() };
        for header in &arguments.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                CliError::Usage(format!("--header '{header}' is not of the form name:value"))
            })?;
            let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            template.headers.push((bytes(name), Some(bytes(value))));
        }
        let timestamp = arguments.timestamp.as_deref().map(|text| time::parse_time(text, time::now_ms()));
        Ok(Self {
            format: arguments.format,
            reader: LineReader::new(&properties)?,
            template,
            timestamp: timestamp
                .transpose()
                .map_err(|error| CliError::Usage(format!("--timestamp: {error}")))?,
            partition: arguments.partition,
            line: 0,
        })
    }

    /// One line (without its end), or all of the input in the raw form.
    fn parse(&mut self, line: Bytes, now_ms: i64) -> Result<ProducerRecord, String> {
        self.line += 1;
        let mut parsed = match self.format {
            Format::Text => ProducerRecord { record: self.reader.parse(line, self.line)?, partition: None },
            Format::Json => parse_json(&line, self.line)?,
            Format::Hex => {
                let value = Some(parse_hex(&line, self.line)?);
                ProducerRecord { record: Record { value, ..Record::default() }, partition: None }
            }
            Format::Raw => {
                ProducerRecord { record: Record { value: Some(line), ..Record::default() }, partition: None }
            }
        };
        let given = self.format == Format::Json && parsed.record.timestamp >= 0;
        if !given || self.timestamp.is_some() {
            parsed.record.timestamp = self.timestamp.unwrap_or(now_ms);
        }
        if parsed.record.key.is_none() {
            parsed.record.key.clone_from(&self.template.key);
        }
        parsed.record.headers.extend(self.template.headers.iter().cloned());
        parsed.partition = self.partition.or(parsed.partition);
        Ok(parsed)
    }
}

/// A piece of input that ends with a whole line, or why there is no more.
type Chunk = io::Result<Bytes>;

/// Reads on a thread of its own: a terminal or a slow pipe must not hold up what is being sent.
fn read_input(mut input: Box<dyn Read + Send>, whole: bool, sender: mpsc::Sender<Chunk>) {
    let mut buffer = BytesMut::new();
    let mut space = vec![0; CHUNK_BYTES];
    loop {
        let read = match input.read(&mut space) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                drop(sender.blocking_send(Err(error)));
                return;
            }
        };
        let fresh = space.get(..read).unwrap_or_default();
        if read == 0 || buffer.len() > LINE_BYTES_MAX {
            let last = if read == 0 {
                Ok(buffer.freeze())
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 GiB"))
            };
            if !matches!(&last, Ok(rest) if rest.is_empty()) {
                drop(sender.blocking_send(last));
            }
            return;
        }
        let end = if whole { None } else { fresh.iter().rposition(|byte| *byte == b'\n') };
        match end {
            None => buffer.extend_from_slice(fresh),
            Some(end) => {
                let (lines, rest) = fresh.split_at(end + 1);
                buffer.extend_from_slice(lines);
                let chunk = std::mem::replace(&mut buffer, BytesMut::from(rest)).freeze();
                if sender.blocking_send(Ok(chunk)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Cuts the next line off, without its `\n` or `\r\n`.
fn next_line(chunk: &mut Bytes) -> Option<Bytes> {
    if chunk.is_empty() {
        return None;
    }
    let mut line = match chunk.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = chunk.split_to(end);
            drop(chunk.split_to(1));
            line
        }
        None => std::mem::take(chunk),
    };
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Some(line)
}

/// The line on standard error that tells how far it is.
struct Progress {
    started: Instant,
    total_bytes: Option<u64>,
    read_bytes: u64,
    is_shown: bool,
    is_terminal: bool,
}

impl Progress {
    fn show(&self, producer: &Producer, last: bool) {
        if !self.is_shown || !(self.is_terminal || last) {
            return;
        }
        let line = progress_line(
            producer.acknowledged_records(),
            producer.acknowledged_bytes(),
            self.started.elapsed(),
            self.read_bytes,
            self.total_bytes,
            last,
        );
        let (start, end) =
            if self.is_terminal { ("\r\x1b[K", if last { "\n" } else { "" }) } else { ("", "\n") };
        // Progress that nobody can see is no failure.
        drop(write!(io::stderr(), "{start}{line}{end}"));
    }
}

fn progress_line(
    records: u64,
    bytes: u64,
    elapsed: Duration,
    read_bytes: u64,
    total_bytes: Option<u64>,
    last: bool,
) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "{records} records, {:.1} MB, {:.1} MB/s, {:.0} records/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds,
        records as f64 / seconds
    );
    if last {
        line.push_str(&format!(", done in {seconds:.1} s"));
    } else if let Some(total) = total_bytes.filter(|total| *total > 0) {
        let part = (read_bytes as f64 / total as f64).clamp(0.0, 1.0);
        line.push_str(&format!(", {:.0} %", part * 100.0));
        if part > 0.0 {
            line.push_str(&format!(", ETA {:.0} s", seconds * (1.0 - part) / part));
        }
    }
    line
}

pub async fn run(arguments: ProduceArguments, out: &mut Output) -> Result<(), CliError> {
    if let Some(class) =
        arguments.line_reader.as_deref().filter(|class| !class.ends_with("LineMessageReader"))
    {
        return Err(CliError::Usage(format!("--line-reader {class}: only LineMessageReader can be used")));
    }
    let mut connection = arguments.connection.clone();
    let more = [
        arguments.request_timeout_ms.map(|value| format!("request.timeout.ms={value}")),
        arguments.retry_backoff_ms.map(|value| format!("retry.backoff.ms={value}")),
    ];
    connection.command_property.extend(more.into_iter().flatten());
    let properties = connection.properties(PRODUCER_KEYS)?;
    let options = options(&arguments, &properties)?;
    let mut parser = Parser::new(&arguments)?;
    let client = Arc::new(connection.client(&properties)?);

    let (input, total_bytes): (Box<dyn Read + Send>, Option<u64>) = match &arguments.file {
        Some(path) => {
            let failed = |error: io::Error| CliError::while_doing(format!("read {}", path.display()), error);
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            (Box::new(file), Some(length))
        }
        None => (Box::new(io::stdin()), None),
    };
    let mut producer = Producer::open(client, &arguments.topic, options)
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;

    let is_terminal = io::stderr().is_terminal();
    let typed = arguments.file.is_none() && io::stdin().is_terminal();
    let is_prompting = typed && is_terminal && !arguments.quiet;
    let mut progress = Progress {
        started: Instant::now(),
        total_bytes,
        read_bytes: 0,
        is_shown: !arguments.quiet && !typed && (arguments.file.is_some() || is_terminal),
        is_terminal,
    };
    let (sender, mut chunks) = mpsc::channel(4);
    let whole = arguments.format == Format::Raw;
    std::thread::spawn(move || read_input(input, whole, sender));
    let prompt = || {
        if is_prompting {
            drop(write!(io::stderr(), ">"));
        }
    };
    prompt();

    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut pending = Bytes::new();
    let mut is_ended = false;
    let mut failure = None;
    loop {
        if is_ended && pending.is_empty() && producer.is_idle() {
            break;
        }
        if is_ended && pending.is_empty() {
            producer.set_flushing(true);
            producer.pump().await.map_err(failed)?;
        }
        if !pending.is_empty() && !producer.is_full() && (!arguments.sync || producer.is_idle()) {
            let now_ms = time::now_ms();
            while !producer.is_full() {
                let line = if whole {
                    Some(std::mem::take(&mut pending)).filter(|all| !all.is_empty())
                } else {
                    next_line(&mut pending)
                };
                let Some(line) = line else { break };
                match parser.parse(line, now_ms) {
                    Ok(record) => producer.append(record).map_err(failed)?,
                    // What was read before is still delivered.
                    Err(error) => {
                        failure = Some(CliError::Failed(error));
                        pending.clear();
                        is_ended = true;
                    }
                }
                if arguments.sync {
                    producer.set_flushing(true);
                    break;
                }
            }
            producer.pump().await.map_err(failed)?;
            if pending.is_empty() {
                prompt();
            }
            // Answers that have come in meanwhile are taken before the next piece is read.
            tokio::task::yield_now().await;
            continue;
        }
        let wants_input = pending.is_empty() && !is_ended && !producer.is_full();
        tokio::select! {
            event = producer.wait() => producer.handle(event).await.map_err(failed)?,
            chunk = chunks.recv(), if wants_input => match chunk {
                Some(Ok(chunk)) => {
                    progress.read_bytes += chunk.len() as u64;
                    pending = chunk;
                }
                Some(Err(error)) => {
                    failure = Some(CliError::while_doing("read the input", error));
                    is_ended = true;
                }
                None => is_ended = true,
            },
            _ = tick.tick() => progress.show(&producer, false),
            _ = tokio::signal::ctrl_c(), if !is_ended => {
                is_ended = true;
                pending.clear();
                if !typed {
                    failure = Some(CliError::Failed("interrupted; what was read so far has been sent".to_owned()));
                }
            }
        }
    }
    progress.show(&producer, true);
    if arguments.json {
        out.json(&json!({
            "topic": arguments.topic, "records": producer.acknowledged_records(),
            "bytes": producer.acknowledged_bytes(), "seconds": progress.started.elapsed().as_secs_f64(),
        }))?;
    }
    failure.map_or(Ok(()), Err)
}

fn failed(error: ProducerError) -> CliError {
    match error {
        ProducerError::Client(error) => error.into(),
        ProducerError::UnknownTopic(topic) => {
            let error = ProducerError::UnknownTopic(topic.clone());
            CliError::Failed(format!("{error}; try: raftsman topics --create --topic {topic}"))
        }
        error => CliError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_cut_into_whole_lines_whatever_the_pieces() {
        struct Pieces(Vec<Vec<u8>>);
        impl Read for Pieces {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Ok(0);
                }
                let piece = self.0.remove(0);
                out[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
        }
        let text = b"one\n\ntwo\r\nthree and more\nlast";
        for size in 1..=text.len() {
            let pieces = text.chunks(size).map(<[u8]>::to_vec).collect();
            let (sender, mut chunks) = mpsc::channel(100);
            read_input(Box::new(Pieces(pieces)), false, sender);
            let mut lines = Vec::new();
            while let Some(chunk) = chunks.blocking_recv() {
                let mut chunk = chunk.unwrap();
                while let Some(line) = next_line(&mut chunk) {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(lines, ["one", "", "two", "three and more", "last"], "{size}");
        }
    }

    #[test]
    fn progress_tells_rate_and_rest() {
        let line = progress_line(1000, 2_000_000, Duration::from_secs(2), 25, Some(100), false);
        assert_eq!(line, "1000 records, 2.0 MB, 1.0 MB/s, 500 records/s, 25 %, ETA 6 s");
    }
}
