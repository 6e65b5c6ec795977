//! The command lines of Kafka's performance tests, as workloads of `raftsman bench`.
//!
//! What is measured is the same (so many records of a size, written or read), the report is this tool's own. An
//! option that would change what is measured, and has no counterpart, is refused by name.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};

use crate::cli::properties::Properties;

/// What Kafka's producer puts into a batch at most, unless `batch.size` says otherwise.
const KAFKA_BATCH_BYTES: u32 = 16_384;
/// A record's bytes beyond its value, about.
const RECORD_OVERHEAD_BYTES: u32 = 10;

/// Writes records and tells how fast that went: `raftsman bench produce` with the options of Kafka's tool.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-producer-perf-test",
    version,
    group = ArgGroup::new("payload").required(true).args(["record_size", "payload_file", "payload_monotonic"]),
    after_help = "raftsman bench produce --help tells what else can be measured, and how.\n\n\
    Examples:
  kafka-producer-perf-test --bootstrap-server 127.0.0.1:9092 --topic t --num-records 100000 --record-size 1000 --throughput -1"
)]
struct ProducerTest {
    /// Brokers to ask first; wins over bootstrap.servers
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// The topic to write to; created when it does not exist
    #[arg(long)]
    topic: String,
    /// Records to write, rounded up to whole batches
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    num_records: u64,
    /// Bytes of a record's value
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    record_size: Option<u32>,
    /// Records a second; -1: as fast as it goes
    #[arg(long, allow_negative_numbers = true)]
    throughput: f64,
    /// Properties of the producer: acks, batch.size, compression.type, max.in.flight.requests.per.connection, …
    #[arg(long, alias = "command-property", num_args = 1.., value_name = "KEY=VALUE")]
    producer_props: Vec<String>,
    /// File of such properties
    #[arg(long = "producer.config", alias = "command-config", value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, hide = true)]
    payload_file: Option<String>,
    #[arg(long, hide = true)]
    payload_delimiter: Option<String>,
    #[arg(long, hide = true)]
    payload_monotonic: bool,
    #[arg(long, hide = true)]
    print_metrics: bool,
    #[arg(long, hide = true)]
    transactional_id: Option<String>,
    #[arg(long, hide = true)]
    transaction_duration_ms: Option<String>,
    #[arg(long, hide = true)]
    warmup_records: Option<String>,
    #[arg(long, hide = true)]
    reporting_interval: Option<String>,
}

/// Reads records and tells how fast that went: `raftsman bench fetch` with the options of Kafka's tool.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-consumer-perf-test",
    version,
    infer_long_args = true,
    after_help = "raftsman bench fetch --help tells what else can be measured, and how.\n\n\
    Examples:
  kafka-consumer-perf-test --bootstrap-server 127.0.0.1:9092 --topic t --num-records 100000"
)]
struct ConsumerTest {
    /// Brokers to ask first
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// The topic to read
    #[arg(long)]
    topic: Option<String>,
    /// Records to read; those that the topic holds when it holds fewer
    #[arg(long, alias = "messages", value_parser = clap::value_parser!(u64).range(1..))]
    num_records: u64,
    /// Bytes of one partition that an answer may have
    #[arg(long, default_value_t = 1 << 20)]
    fetch_size: i32,
    /// Without effect: nothing is waited for, what is there is read
    #[arg(long, num_args = 0..=1)]
    timeout: Option<Option<u64>>,
    /// Properties of the consumer: fetch.min.bytes, fetch.max.bytes, fetch.max.wait.ms, …
    #[arg(long, value_name = "KEY=VALUE")]
    command_property: Vec<String>,
    /// File of such properties
    #[arg(long = "command-config", alias = "consumer.config", value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, hide = true)]
    include: Option<String>,
    #[arg(long, hide = true)]
    group: Option<String>,
    #[arg(long, hide = true)]
    from_latest: bool,
    #[arg(long, hide = true)]
    print_metrics: bool,
    #[arg(long, hide = true)]
    show_detailed_stats: bool,
    #[arg(long, hide = true)]
    hide_header: bool,
    #[arg(long, hide = true)]
    date_format: Option<String>,
    #[arg(long, hide = true)]
    reporting_interval: Option<String>,
    #[arg(long, hide = true)]
    socket_buffer_size: Option<String>,
}

/// Writes records and waits for each at a consumer: `raftsman bench latency` with the options of Kafka's tool.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-e2e-latency",
    version,
    infer_long_args = true,
    after_help = "raftsman bench latency --help tells what else can be measured, and how.\n\n\
    Examples:
  kafka-e2e-latency --bootstrap-server 127.0.0.1:9092 --topic t --num-records 1000 --producer-acks all --record-size 100"
)]
struct LatencyTest {
    /// Brokers to ask first
    #[arg(long)]
    bootstrap_server: String,
    /// The topic to write to; created when it does not exist
    #[arg(long)]
    topic: String,
    /// Records to write, a thousand a second
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    num_records: u64,
    /// all or 1
    #[arg(long, allow_hyphen_values = true)]
    producer_acks: String,
    /// Bytes of a record's value, at least 8
    #[arg(long)]
    record_size: u32,
    /// File of client properties
    #[arg(long, value_name = "FILE")]
    command_config: Option<PathBuf>,
    #[arg(long, hide = true)]
    num_headers: Option<String>,
    #[arg(long, hide = true)]
    record_key_size: Option<String>,
    #[arg(long, hide = true)]
    record_header_key_size: Option<String>,
    #[arg(long, hide = true)]
    record_header_size: Option<String>,
}

/// A command line of `raftsman bench` in the making.
struct Line(Vec<OsString>);

impl Line {
    fn new(workload: &str) -> Self {
        Self(["raftsman", "bench", workload].map(OsString::from).to_vec())
    }

    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        let mut whole = OsString::from(format!("--{option}="));
        whole.push(value.into());
        self.0.push(whole);
    }

    fn flag(&mut self, option: &str) {
        self.0.push(format!("--{option}").into());
    }
}

fn refused<P: clap::CommandFactory>(what: impl std::fmt::Display) -> clap::Error {
    P::command().error(clap::error::ErrorKind::ArgumentConflict, what)
}

/// The first of these options that is given is refused.
fn refuse<P: clap::CommandFactory>(given: &[(bool, &str, &str)]) -> Result<(), clap::Error> {
    match given.iter().find(|(is_given, ..)| *is_given) {
        Some((_, option, instead)) => {
            Err(refused::<P>(format!("{option} cannot be used with this tool: {instead}")))
        }
        None => Ok(()),
    }
}

/// The properties of file and pairs; the pairs win.
fn properties<P: clap::CommandFactory>(
    file: Option<&PathBuf>,
    pairs: &[String],
) -> Result<Properties, clap::Error> {
    let mut properties = match file {
        Some(path) => Properties::read(path).map_err(refused::<P>)?,
        None => Properties::default(),
    };
    for pair in pairs {
        properties.set(pair).map_err(refused::<P>)?;
    }
    Ok(properties)
}

/// Moves properties that are options of the workload onto its command line. What belongs to every client goes
/// along as a property; the rest is named on standard error.
fn translate(properties: &Properties, options: &[(&str, &str)], line: &mut Line, bootstrap: Option<&str>) {
    match bootstrap.or(properties.text("bootstrap.servers")) {
        Some(servers) => line.add("bootstrap-server", servers),
        None => eprintln!("warning: neither --bootstrap-server nor bootstrap.servers: taking 127.0.0.1:9092"),
    }
    for key in properties.keys().filter(|key| *key != "bootstrap.servers") {
        let value = properties.text(key).unwrap_or_default();
        match options.iter().find(|(known, _)| *known == key) {
            // Read by its workload.
            Some((_, "")) => {}
            Some((_, option)) => line.add(option, value),
            None => line.add("command-property", format!("{key}={value}")),
        }
    }
}

/// `kafka-producer-perf-test` as `raftsman bench produce`.
pub fn producer(arguments: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    let test = ProducerTest::try_parse_from(arguments)?;
    let measured_so = "the same batch is written again and again";
    refuse::<ProducerTest>(&[
        (test.payload_file.is_some(), "--payload-file", "raftsman produce --file writes what a file holds"),
        (test.payload_delimiter.is_some(), "--payload-delimiter", measured_so),
        (test.payload_monotonic, "--payload-monotonic", measured_so),
        (
            test.print_metrics,
            "--print-metrics",
            "the report has what is measured; --broker-pid of raftsman bench adds the broker's",
        ),
        (test.transactional_id.is_some(), "--transactional-id", "transactions are not served yet"),
        (
            test.transaction_duration_ms.is_some(),
            "--transaction-duration-ms",
            "transactions are not served yet",
        ),
        (
            test.warmup_records.is_some(),
            "--warmup-records",
            "raftsman bench produce --warmup SECONDS leaves the start out",
        ),
        (test.reporting_interval.is_some(), "--reporting-interval", "there is one report, at the end"),
    ])?;
    let properties = properties::<ProducerTest>(test.config.as_ref(), &test.producer_props)?;
    let record_bytes = test.record_size.unwrap_or_default();
    let batch_bytes = properties.number::<u32>("batch.size").map_err(refused::<ProducerTest>)?;
    let batch_bytes = batch_bytes.unwrap_or(KAFKA_BATCH_BYTES);
    let per_batch =
        u64::from(batch_bytes / (record_bytes.saturating_add(RECORD_OVERHEAD_BYTES))).clamp(1, 1 << 20);
    // As many batches as are needed, and as few records too many as can be.
    let requests = test.num_records.div_ceil(per_batch);
    let per_batch = test.num_records.div_ceil(requests);
    let mut line = Line::new("produce");
    line.add("topic", &test.topic);
    line.flag("create-topic");
    line.add("record-size", record_bytes.to_string());
    line.add("batch-records", per_batch.to_string());
    line.add("requests", requests.to_string());
    if test.throughput > 0.0 {
        line.add("rate", test.throughput.to_string());
    }
    let options = [
        ("acks", "acks"),
        ("compression.type", "compression"),
        ("max.in.flight.requests.per.connection", "depth"),
        ("batch.size", ""),
    ];
    translate(&properties, &options, &mut line, test.bootstrap_server.as_deref());
    Ok(line.0)
}

/// `kafka-consumer-perf-test` as `raftsman bench fetch`.
pub fn consumer(arguments: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    let test = ConsumerTest::try_parse_from(arguments)?;
    let one_report = "there is one report, at the end";
    refuse::<ConsumerTest>(&[
        (test.include.is_some(), "--include", "one topic is read: --topic"),
        (test.from_latest, "--from-latest", "raftsman bench fetch --tail reads what comes"),
        (test.group.is_some(), "--group", "no group is joined; raftsman bench groups measures groups"),
        (test.print_metrics, "--print-metrics", "the report has what is measured"),
        (test.show_detailed_stats, "--show-detailed-stats", one_report),
        (test.reporting_interval.is_some(), "--reporting-interval", one_report),
        (test.hide_header, "--hide-header", "raftsman bench fetch --json is for machines"),
        (test.date_format.is_some(), "--date-format", "the report has no dates"),
        (test.socket_buffer_size.is_some(), "--socket-buffer-size", "the system chooses it"),
    ])?;
    let Some(topic) = &test.topic else { return Err(refused::<ConsumerTest>("--topic is missing")) };
    let properties = properties::<ConsumerTest>(test.config.as_ref(), &test.command_property)?;
    let mut line = Line::new("fetch");
    line.add("topic", topic);
    line.add("records", test.num_records.to_string());
    line.add("partition-max-bytes", test.fetch_size.to_string());
    let options = [
        ("fetch.min.bytes", "min-bytes"),
        ("fetch.max.bytes", "max-bytes"),
        ("fetch.max.wait.ms", "max-wait-ms"),
    ];
    translate(&properties, &options, &mut line, test.bootstrap_server.as_deref());
    Ok(line.0)
}

/// `kafka-e2e-latency` as `raftsman bench latency`.
pub fn end_to_end(arguments: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    const RATE: u64 = 1_000;
    /// What may stand without names, as before Kafka 4.2, in this order.
    const POSITIONS: [&str; 6] =
        ["bootstrap-server", "topic", "num-records", "producer-acks", "record-size", "command-config"];
    let is_option = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with("--"));
    let mut arguments = arguments;
    if arguments.len() > POSITIONS.len() - 1 && !arguments.iter().any(is_option) {
        let named = arguments.split_off(1).into_iter().zip(POSITIONS);
        for (value, name) in named {
            arguments.extend([OsString::from(format!("--{name}")), value]);
        }
    }
    let test = LatencyTest::try_parse_from(arguments)?;
    let plain = "records have a value and nothing else";
    refuse::<LatencyTest>(&[
        (test.num_headers.is_some(), "--num-headers", plain),
        (test.record_key_size.is_some(), "--record-key-size", plain),
        (test.record_header_key_size.is_some(), "--record-header-key-size", plain),
        (test.record_header_size.is_some(), "--record-header-size", plain),
    ])?;
    let mut line = Line::new("latency");
    line.add("bootstrap-server", &test.bootstrap_server);
    line.add("topic", &test.topic);
    line.flag("create-topic");
    line.add("record-size", test.record_size.to_string());
    line.add("acks", &test.producer_acks);
    line.add("rate", RATE.to_string());
    line.add("warmup", "0");
    line.add("duration", (test.num_records as f64 / RATE as f64).to_string());
    if let Some(file) = &test.command_config {
        line.add("command-config", file);
    }
    Ok(line.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(made: Result<Vec<OsString>, clap::Error>) -> String {
        let words = made.unwrap().into_iter().map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_lines_of_tutorials_become_workloads() {
        let made = producer(words(
            "x --topic t --num-records 1000 --record-size 1014 --throughput -1 \
             --producer-props bootstrap.servers=h:1 acks=1 batch.size=102400 compression.type=lz4 linger.ms=5",
        ));
        assert_eq!(
            line(made),
            "raftsman bench produce --topic=t --create-topic --record-size=1014 --batch-records=100 --requests=10 \
             --bootstrap-server=h:1 --acks=1 --compression=lz4 --command-property=linger.ms=5"
        );
        let made = consumer(words("x --bootstrap-server h:1 --topic t --messages 100 --timeout 10000"));
        assert_eq!(
            line(made),
            "raftsman bench fetch --topic=t --records=100 --partition-max-bytes=1048576 --bootstrap-server=h:1"
        );
        let error =
            producer(words("x --topic t --num-records 9 --payload-file f --throughput 1")).unwrap_err();
        assert!(error.to_string().contains("--payload-file cannot be used with this tool"), "{error}");
    }
}
