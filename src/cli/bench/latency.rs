//! `raftsman bench latency`: records at a fixed rate, from the moment at which each ought to be sent to
//! its arrival at a consumer.
//!
//! The rate does not follow the broker: a record that could not be sent when it was due, as the broker was
//! slow, has waited since then. As producers do, what has become due while requests were under way
//! goes as one batch. Each record carries its moment; so three plain threads are enough: one that sends, one
//! that reads acknowledgements, one that consumes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use hdrhistogram::Histogram;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use parking_lot::{Condvar, Mutex};
use serde_json::json;

use super::engine::{check, seconds, usages};
use super::frame::{
    FETCH_VERSION_MIN, FetchFrame, FetchSession, FetchSettings, ProduceSettings, batch_of, produce_error,
    produce_frames, varint_bytes, walk_batches, walk_fetch,
};
use super::report::{Counts, Percentiles, Report, histogram};
use super::target::{ClusterArguments, Target, TopicArguments};
use crate::cli::output::{CliError, Output};
use crate::cli::time::now_ms;
use crate::client::error::io_reason;
use crate::protocol::batch::crc;
use crate::protocol::reader::{ReadError, Reader};

/// Most records of one request; what is due beyond waits for the next.
const BATCH_RECORDS_MAX: u32 = 512;
/// What stands in a record's value where its moment goes.
const MARK: [u8; 8] = *b"\xfe\xed\xfa\xceMARK";
/// How long to wait for records that were acknowledged and do not arrive, and for any answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman bench latency --create-topic --rate 1000 --warmup 5 --duration 30
  raftsman bench latency --rate 10000 --record-size 100 --acks all --json

`latency` is from when a record was due to its acknowledgement, `end to end` to its arrival at the consumer."
)]
pub struct LatencyArguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    #[command(flatten)]
    pub topic: TopicArguments,
    /// Records a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(8..=1 << 20))]
    pub record_size: u32,
    /// all or 1
    #[arg(long, default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    pub acks: i16,
    /// Requests under way at a time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub depth: u32,
    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub duration: Duration,
    /// Seconds to run before
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub warmup: Duration,
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        _ => Err("expected all (-1) or 1".to_owned()),
    }
}

/// A request of some number of records, and where in it things are written that change.
struct Template {
    frame: BytesMut,
    batch: Range<usize>,
    partition_at: usize,
    marks: Vec<usize>,
}

impl Template {
    fn new(settings: &ProduceSettings<'_>, record_bytes: usize, records: u32) -> Result<Self, CliError> {
        let mut value = super::frame::value(record_bytes, 1);
        if let Some(start) = value.first_chunk_mut() {
            *start = MARK;
        }
        let built = batch_of(&value, records, now_ms())?;
        let mut frame = BytesMut::new();
        for part in produce_frames(settings, &[0], &built)? {
            frame.extend_from_slice(&part.head);
            frame.extend_from_slice(&part.batch);
            frame.extend_from_slice(&part.tail);
        }
        // Behind the batch come the tags of the partition, the topic and the request, in front of it
        // its length and the partition's index.
        let batch = frame.len() - 3 - built.len()..frame.len() - 3;
        let partition_at = batch.start - varint_bytes(built.len() + 1) - 4;
        let marks = frame.windows(MARK.len()).enumerate();
        let marks = marks.filter(|(_, window)| *window == MARK).map(|(at, _)| at).collect();
        Ok(Self { frame, batch, partition_at, marks })
    }

    /// Writes the partition, the moments and the checksum that follows from them.
    fn stamp(&mut self, partition: i32, moments: impl Iterator<Item = u64>) {
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = self.frame.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(self.partition_at, &partition.to_be_bytes());
        for (mark, moment) in self.marks.iter().zip(moments) {
            put(*mark, &moment.to_be_bytes());
        }
        let crc = crc(self.frame.get(self.batch.clone()).unwrap_or_default());
        if let Some(place) = self.frame.get_mut(self.batch.start + 17..self.batch.start + 21) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
    }
}

/// When which record is due, in nanoseconds from the start.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    rate: u64,
    warmup: Duration,
    records: u64,
}

impl Schedule {
    fn due_nanos(self, record: u64) -> u64 {
        u64::try_from(u128::from(record) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    /// How many records are due at a moment, the first of which is due at 0.
    fn due_records(self, nanos: u64) -> u64 {
        let due = u128::from(nanos) * u128::from(self.rate) / 1_000_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.records)
    }

    fn is_measured(self, due_nanos: u64) -> bool {
        u128::from(due_nanos) >= self.warmup.as_nanos()
    }
}

/// What the threads share.
struct Shared {
    schedule: Schedule,
    started: Instant,
    depth: usize,
    /// First record and number of records of the requests under way.
    under_way: Mutex<VecDeque<(u64, u64)>>,
    has_room: Condvar,
    /// Requests sent in the measured time.
    requests: AtomicU64,
    has_failed: AtomicBool,
}

impl Shared {
    fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn record(&self, histogram: &mut Histogram<u64>, due_nanos: u64) {
        if self.schedule.is_measured(due_nanos) {
            histogram.saturating_record(self.nanos().saturating_sub(due_nanos));
        }
    }
}

/// A socket that is read through a buffer.
struct Peer {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Peer {
    fn open(address: SocketAddr) -> Result<Self, String> {
        let open = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let reader = BufReader::with_capacity(256 * 1024, stream.try_clone()?);
            Ok(Self { stream, reader, answer: Vec::new() })
        };
        open().map_err(|error: std::io::Error| format!("cannot reach {address}: {}", io_reason(&error)))
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        self.stream.write_all(frame).map_err(|error| io_reason(&error))
    }

    /// The next answer, from behind its correlation id on.
    fn receive(&mut self) -> Result<&[u8], String> {
        let mut length = [0; 4];
        self.reader.read_exact(&mut length).map_err(|error| io_reason(&error))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
        if !(4..=256 << 20).contains(&length) {
            return Err("an answer without a sensible length; is this a Kafka listener?".to_owned());
        }
        self.answer.resize(length, 0);
        self.reader.read_exact(&mut self.answer).map_err(|error| io_reason(&error))?;
        Ok(self.answer.get(4..).unwrap_or_default())
    }
}

/// Sends what is due. `templates` has one per number of records, from 1 on.
fn send(
    shared: &Shared,
    mut stream: TcpStream,
    mut templates: Vec<Template>,
    partitions: &[i32],
) -> Result<(), String> {
    // Sleeps otherwise end up to 50 µs late. Where that cannot be had, it is in the latency.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_timerslack(1);
    let schedule = shared.schedule;
    let mut turn = partitions.iter().cycle();
    let mut next = 0;
    while next < schedule.records {
        {
            let mut under_way = shared.under_way.lock();
            while under_way.len() >= shared.depth {
                let waited = shared.has_room.wait_for(&mut under_way, PATIENCE);
                if waited.timed_out() || shared.has_failed.load(Ordering::Relaxed) {
                    return Err(format!("no answer came for {} s", PATIENCE.as_secs()));
                }
            }
        }
        if shared.has_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (now, due) = (shared.nanos(), schedule.due_nanos(next));
        if now < due {
            std::thread::sleep(Duration::from_nanos(due - now));
            continue;
        }
        let wanted = schedule.due_records(now).saturating_sub(next).clamp(1, templates.len() as u64);
        let place = usize::try_from(wanted - 1).unwrap_or(0);
        let (Some(template), Some(partition)) = (templates.get_mut(place), turn.next()) else {
            return Err("no partition to write to".to_owned());
        };
        template.stamp(*partition, (next..next + wanted).map(|record| schedule.due_nanos(record)));
        shared.under_way.lock().push_back((next, wanted));
        if schedule.is_measured(due) {
            shared.requests.fetch_add(1, Ordering::Relaxed);
        }
        stream.write_all(&template.frame).map_err(|error| io_reason(&error))?;
        next += wanted;
    }
    Ok(())
}

/// Reads acknowledgements until all records have theirs.
fn acknowledge(shared: &Shared, mut peer: Peer, version: i16) -> Result<Histogram<u64>, String> {
    let mut latencies = histogram().map_err(|error| error.to_string())?;
    let mut acknowledged = 0;
    while acknowledged < shared.schedule.records {
        let body = peer.receive()?;
        check(produce_error(body, version).map_err(|error| error.to_string())?)?;
        let answered = shared.under_way.lock().pop_front();
        shared.has_room.notify_one();
        let (first, records) = answered.ok_or("an answer came without a request")?;
        for record in first..first + records {
            shared.record(&mut latencies, shared.schedule.due_nanos(record));
        }
        acknowledged += records;
    }
    Ok(latencies)
}

/// Fetches until all records have come. Gives their latencies, and the bytes of their batches.
fn consume(
    shared: &Shared,
    mut peer: Peer,
    settings: &FetchSettings,
    mut offsets: BTreeMap<i32, i64>,
) -> Result<(Histogram<u64>, u64), String> {
    let mut latencies = histogram().map_err(|error| error.to_string())?;
    let partitions = offsets.keys().copied().collect::<Vec<_>>();
    let mut frame =
        FetchFrame::new(settings, FetchSession::NONE, &partitions).map_err(|error| error.to_string())?;
    let (mut seen, mut bytes) = (0, 0);
    let mut moved = Instant::now();
    while seen < shared.schedule.records {
        if shared.has_failed.load(Ordering::Relaxed) {
            break;
        }
        if moved.elapsed() > PATIENCE {
            return Err(format!(
                "{} records were acknowledged and did not arrive",
                shared.schedule.records - seen
            ));
        }
        for (position, offset) in offsets.values().enumerate() {
            frame.set_offset(position, *offset);
        }
        peer.send(&frame.bytes)?;
        let body = peer.receive()?;
        let mut trouble = Ok(());
        let answer = walk_fetch(body, settings.version, |fetched| {
            let mut read = || {
                check(fetched.error_code)?;
                let mut inside = Ok(());
                let found = walk_batches(fetched.records, |batch| {
                    let walked = walk_moments(batch, |moment| shared.record(&mut latencies, moment));
                    if let Err(error) = walked {
                        inside = Err(format!("a batch that this has not written: {error}"));
                    }
                });
                let found = found.map_err(|error| error.to_string())?;
                seen += found.records;
                bytes += found.bytes;
                if let (Some(offset), Some(next)) = (offsets.get_mut(&fetched.index), found.next_offset) {
                    *offset = next;
                    moved = Instant::now();
                }
                inside
            };
            if let Err(error) = read() {
                trouble = Err(error);
            }
        });
        check(answer.map_err(|error| error.to_string())?.error_code)?;
        trouble?;
    }
    Ok((latencies, bytes))
}

/// The moments in the records of a batch.
fn walk_moments(batch: &[u8], mut each: impl FnMut(u64)) -> Result<(), ReadError> {
    let mut header = Reader::new(batch);
    header.skip(57)?;
    let records = header.i32()?;
    let mut reader = header;
    for _ in 0..records {
        let length = usize::try_from(reader.varint()?).map_err(|_| ReadError::Varint)?;
        let mut record = Reader::new(reader.take(length)?);
        record.u8()?;
        record.varlong()?;
        record.varint()?;
        // No key, and then the value with its length.
        record.varint()?;
        record.varint()?;
        each(u64::try_from(record.i64()?).unwrap_or(0));
    }
    Ok(())
}

pub(super) async fn run(arguments: LatencyArguments, out: &mut Output) -> Result<(), CliError> {
    let target = Target::find(&arguments.cluster, &arguments.topic).await?;
    let has_ids = !target.topic.id.is_nil();
    let produce_version = target.version::<ProduceRequest>(9, if has_ids { 13 } else { 12 }).await?;
    let fetch_version =
        target.version::<FetchRequest>(FETCH_VERSION_MIN, if has_ids { 17 } else { 12 }).await?;
    let lanes = target.shared_lanes(2);
    let address = match &lanes[..] {
        [one, other] if one.address == other.address => one.address,
        _ => {
            return Err(CliError::Usage(
                "the partitions have several leaders; this writes to one: use --partitions 1".to_owned(),
            ));
        }
    };
    let partitions = target.partitions().collect::<Vec<_>>();
    let client_id = target.client.options().client_id.clone();
    let produce = ProduceSettings {
        topic: &target.topic,
        version: produce_version,
        acks: arguments.acks,
        timeout_ms: 30_000,
        client_id: &client_id,
    };
    // As many as become due in 50 ms, so that a pause does not lead to a storm of small requests.
    let most = (arguments.rate / 20).clamp(1, BATCH_RECORDS_MAX);
    let templates =
        (1..=most).map(|records| Template::new(&produce, arguments.record_size as usize, records));
    let templates = templates.collect::<Result<Vec<_>, _>>()?;
    let fetch = FetchSettings {
        topic: target.topic.clone(),
        version: fetch_version,
        bytes_max: 50 << 20,
        partition_bytes_max: 1 << 20,
        bytes_min: 1,
        wait_ms: 500,
        client_id: client_id.clone(),
    };
    let offsets = target.ends().await?.into_iter().map(|(index, (_, next))| (index, next)).collect();

    let rate = u64::from(arguments.rate);
    let whole = arguments.warmup + arguments.duration;
    let records = (whole.as_nanos() * u128::from(rate) / 1_000_000_000).max(1);
    let schedule =
        Schedule { rate, warmup: arguments.warmup, records: u64::try_from(records).unwrap_or(u64::MAX) };
    let open = || Peer::open(address).map_err(CliError::Failed);
    let (acknowledged, consumed) = (open()?, open()?);
    let stream =
        acknowledged.stream.try_clone().map_err(|error| CliError::while_doing("share a socket", error))?;
    let shared = Arc::new(Shared {
        schedule,
        started: Instant::now(),
        depth: arguments.depth as usize,
        under_way: Mutex::default(),
        has_room: Condvar::new(),
        requests: AtomicU64::new(0),
        has_failed: AtomicBool::new(false),
    });
    let consumer = spawn(&shared, move |shared| consume(shared, consumed, &fetch, offsets))?;
    let acks = spawn(&shared, move |shared| acknowledge(shared, acknowledged, produce_version))?;
    let sender = spawn(&shared, move |shared| send(shared, stream, templates, &partitions))?;

    std::thread::sleep(arguments.warmup.saturating_sub(shared.started.elapsed()));
    let (begun, from) = (usages(arguments.cluster.broker_pid)?, Instant::now());
    // A failure ends it early.
    while shared.started.elapsed() < whole && !shared.has_failed.load(Ordering::Relaxed) {
        let left = whole.saturating_sub(shared.started.elapsed());
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    let (elapsed, ended) = (from.elapsed(), usages(arguments.cluster.broker_pid)?);
    join(sender)?;
    let latencies = join(acks)?;
    let (arrivals, bytes) = join(consumer)?;

    let measured = arrivals.len();
    let bytes = (bytes as f64 * measured as f64 / schedule.records.max(1) as f64) as u64;
    let counts = Counts { requests: shared.requests.load(Ordering::Relaxed), records: measured, bytes };
    let broker = begun.1.zip(ended.1);
    let mut report = Report::new("latency", elapsed, counts, (begun.0, ended.0), broker);
    report.latency = Percentiles::of(&latencies);
    report.end_to_end = Percentiles::of(&arrivals);
    report.verified = Some(format!("{} records written and read", schedule.records));
    report = report.with("rate", json!(arguments.rate));
    report.print(out, arguments.cluster.json)
}

type Running<T> = JoinHandle<Result<T, String>>;

/// Starts a thread; the others end when it fails.
fn spawn<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, String> + Send + 'static,
) -> Result<Running<T>, CliError> {
    let shared = shared.clone();
    let body = move || {
        let outcome = work(&shared);
        if outcome.is_err() {
            shared.has_failed.store(true, Ordering::Relaxed);
            shared.has_room.notify_all();
        }
        outcome
    };
    std::thread::Builder::new()
        .name("bench".to_owned())
        .spawn(body)
        .map_err(|error| CliError::while_doing("start a thread", error))
}

fn join<T>(thread: Running<T>) -> Result<T, CliError> {
    match thread.join() {
        Ok(outcome) => outcome.map_err(CliError::Failed),
        Err(_) => Err(CliError::Failed("a thread has panicked".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::TopicMetadata;
    use crate::protocol::batch::Batch;

    #[test]
    fn records_carry_their_moments() {
        let topic = TopicMetadata {
            name: "t".to_owned(),
            id: uuid::Uuid::nil(),
            is_internal: false,
            partitions: vec![],
        };
        // Small enough to be in one piece, and large enough not to be.
        for (bytes, records) in [(100, 1), (8, 3), (1_000, 300)] {
            let produce =
                ProduceSettings { topic: &topic, version: 12, acks: -1, timeout_ms: 1, client_id: "c" };
            let mut template = Template::new(&produce, bytes, records).unwrap();
            for round in 1..3 {
                let moments = (0..u64::from(records)).map(|record| record * round).collect::<Vec<_>>();
                template.stamp(5, moments.iter().copied());
                let batch = &template.frame[template.batch.clone()];
                Batch::parse(batch).unwrap().verify_crc().unwrap();
                let mut found = Vec::new();
                walk_moments(batch, |moment| found.push(moment)).unwrap();
                assert_eq!(found, moments);
                let at = template.partition_at;
                assert_eq!(template.frame[at..at + 4], [0, 0, 0, 5]);
            }
        }
    }

    #[test]
    fn the_schedule_knows_no_broker() {
        let schedule = Schedule { rate: 1_000, warmup: Duration::from_secs(1), records: 3_000 };
        assert_eq!((schedule.due_nanos(0), schedule.due_nanos(1_500)), (0, 1_500_000_000));
        assert_eq!((schedule.due_records(0), schedule.due_records(999_999)), (1, 1));
        assert_eq!(schedule.due_records(1_000_000), 2);
        assert_eq!(schedule.due_records(u64::MAX), 3_000);
        assert!(!schedule.is_measured(999_999_999) && schedule.is_measured(1_000_000_000));
    }
}
