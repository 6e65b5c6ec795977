//! `raftsman bench fetch`: reads what is there, or waits for what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::engine::{self, Answers, End, RunArguments, Worker, check};
use super::frame::{
    BatchSize, FETCH_VERSION_MIN, FetchFrame, FetchSession, FetchSettings, Frame, ProduceSettings, batch,
    produce_error, produce_frames, walk_batches, walk_fetch,
};
use super::load::write;
use super::target::{ClusterArguments, Ends, Lane, Target, TopicArguments, next_offsets_sum};
use crate::cli::output::{CliError, Output};
use crate::cli::time::now_ms;
use crate::client::error::io_reason;
use crate::client::records::Compression;

const FETCH_VERSION_MAX: i16 = 17;

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman bench fetch --passes 5 --broker-pid $(pidof raftsman)     all that is there, five times
  raftsman bench fetch --duration 10 --connections 3                 again and again for ten seconds
  raftsman bench fetch --tail --duration 10                          what others write meanwhile
  raftsman bench fetch --feed 100 --connections 8 --requests 80000   each record waited for by all eight

With --feed and --sessions, a consumer of many partitions names in a request only those from which it
has got something since the last, as Kafka's consumers do."
)]
pub struct FetchArguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    #[command(flatten)]
    pub topic: TopicArguments,
    /// Connections; partitions are shared out among them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Bytes that an answer may have
    #[arg(long, default_value_t = 50 << 20, value_parser = clap::value_parser!(i32).range(1..=512 << 20))]
    pub max_bytes: i32,
    /// Bytes of one partition that an answer may have
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(i32).range(1..=512 << 20))]
    pub partition_max_bytes: i32,
    /// Bytes that the broker waits for
    #[arg(long, default_value_t = 1)]
    pub min_bytes: i32,
    /// How long it waits for them
    #[arg(long, default_value_t = 500)]
    pub max_wait_ms: i32,
    /// Begin at the end and wait for new records
    #[arg(long)]
    pub tail: bool,
    /// As --tail, all on all partitions of one broker; another connection writes records of so many
    /// bytes to each of them in turn, one each time that all have got the last
    #[arg(long, value_name = "BYTES", conflicts_with = "tail", value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    pub feed: Option<u32>,
    /// With --tail or --feed: fetch sessions (KIP-227); a request names only what has changed
    #[arg(long)]
    pub sessions: bool,
    /// Read all that is there so many times
    #[arg(long, conflicts_with_all = ["tail", "feed", "duration", "requests"],
        value_parser = clap::value_parser!(u32).range(1..))]
    pub passes: Option<u32>,
    /// Read from the beginning until so many records have come, or all that are there
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["tail", "feed", "duration", "requests", "passes"],
        value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    #[command(flatten)]
    pub run: RunArguments,
}

/// What a connection reads, and for how long.
struct Reading {
    settings: FetchSettings,
    lane: Lane,
    ends: Arc<Ends>,
    /// None: until the run is over.
    passes: Option<u32>,
    is_tail: bool,
    has_session: bool,
    fed: Option<Arc<Fed>>,
    /// How many records all connections together have yet to read; none: no matter how many.
    records_left: Option<Arc<AtomicI64>>,
}

/// The feeder and those that it feeds.
struct Fed {
    records: AtomicU64,
    enough: AtomicU64,
    notify: Notify,
    consumers: u64,
    /// A consumer has what it wanted.
    is_ending: AtomicBool,
}

/// One partition that a connection reads.
struct Place {
    partition: i32,
    offset: i64,
    end: i64,
    /// Something has come from it with the last answer.
    is_moved: bool,
}

impl Reading {
    fn places(&self) -> Vec<Place> {
        let place = |partition: &i32| {
            let (first, end) = self.ends.get(partition).copied().unwrap_or((0, 0));
            let (offset, end) = if self.is_tail { (end, i64::MAX) } else { (first, end) };
            Place { partition: *partition, offset, end, is_moved: false }
        };
        self.lane.partitions.iter().map(place).filter(|place| place.offset < place.end).collect()
    }

    fn frame(&self, places: &[Place]) -> Result<FetchFrame, String> {
        let partitions = places.iter().map(|place| place.partition).collect::<Vec<_>>();
        FetchFrame::new(&self.settings, FetchSession::NONE, &partitions).map_err(|error| error.to_string())
    }

    /// In a session: what has moved, or everything where there is none yet.
    fn session_frame(&self, session: FetchSession, places: &mut [Place]) -> Result<FetchFrame, String> {
        let is_named = |place: &&mut Place| session == FetchSession::FIRST || place.is_moved;
        let mut named = places.iter_mut().filter(is_named).collect::<Vec<_>>();
        let partitions = named.iter().map(|place| place.partition).collect::<Vec<_>>();
        let made = FetchFrame::new(&self.settings, session, &partitions);
        let mut frame = made.map_err(|error| error.to_string())?;
        for (position, place) in named.iter_mut().enumerate() {
            frame.set_offset(position, place.offset);
            place.is_moved = false;
        }
        Ok(frame)
    }
}

async fn read(worker: Worker, reading: Reading) -> Result<(), String> {
    let mut stream = worker.connect(reading.lane.address).await?;
    let first_buffer = usize::try_from(reading.settings.bytes_max).unwrap_or(0).min(4 << 20);
    let mut answers = Answers::new(first_buffer + 64 * 1024);
    let mut places = reading.places();
    let mut frame = reading.frame(&places)?;
    let mut session = FetchSession::FIRST;
    let mut passes_left = reading.passes.unwrap_or(u32::MAX);
    worker.ready().await;
    if places.is_empty() {
        return Ok(());
    }
    while worker.may_send() {
        if reading.has_session {
            frame = reading.session_frame(session, &mut places)?;
        } else {
            for (position, place) in places.iter().enumerate() {
                frame.set_offset(position, place.offset);
            }
        }
        let since = Instant::now();
        stream.write_all(&frame.bytes).await.map_err(|error| io_reason(&error))?;
        let body = loop {
            answers.read(&mut stream).await?;
            if answers.is_whole()? {
                break answers.next()?.unwrap_or_default();
            }
        };
        let (mut records, mut bytes, mut trouble, mut at) = (0, 0, Ok(()), 0);
        let answer = walk_fetch(body, reading.settings.version, |fetched| {
            if let Err(error) = check(fetched.error_code) {
                trouble = Err(error);
            }
            let found = walk_batches(fetched.records, |_| ()).unwrap_or_default();
            records += found.records;
            bytes += found.bytes;
            // Answers are in the order of the request, though nothing says so.
            let is_it = |place: &Place| place.partition == fetched.index;
            if !places.get(at).is_some_and(is_it) {
                at = places.iter().position(is_it).unwrap_or(usize::MAX);
            }
            if let (Some(place), Some(next)) = (places.get_mut(at), found.next_offset) {
                (place.offset, place.is_moved) = (next, true);
            }
            at = at.wrapping_add(1);
        });
        let answer = answer.map_err(|error| error.to_string())?;
        check(answer.error_code)?;
        trouble?;
        session = session.next(answer.session_id);
        worker.answered(Some(since), records, bytes);
        if let Some(left) = &reading.records_left {
            let read = i64::try_from(records).unwrap_or(i64::MAX);
            if left.fetch_sub(read, Ordering::Relaxed) <= read {
                break;
            }
        }
        if let Some(fed) = &reading.fed {
            let seen = fed.records.fetch_add(records, Ordering::Relaxed) + records;
            if seen >= fed.enough.load(Ordering::Relaxed) {
                fed.notify.notify_one();
            }
        }
        let open = places.len();
        places.retain(|place| place.offset < place.end);
        let is_through = places.is_empty();
        if is_through {
            passes_left = passes_left.saturating_sub(1);
            if passes_left == 0 {
                break;
            }
            places = reading.places();
        }
        if is_through || places.len() != open {
            frame = reading.frame(&places)?;
        }
    }
    // The feeder must not wait for one that has gone.
    if let Some(fed) = &reading.fed {
        fed.is_ending.store(true, Ordering::Relaxed);
        fed.notify.notify_one();
    }
    Ok(())
}

/// Writes a record each time that all consumers have got the last, to each partition in turn. Its
/// requests are not counted.
async fn feed(
    worker: Worker,
    address: SocketAddr,
    frames: Vec<Frame>,
    version: i16,
    fed: Arc<Fed>,
) -> Result<(), String> {
    let mut stream = worker.connect(address).await?;
    let mut answers = Answers::new(4096);
    worker.ready().await;
    for frame in frames.iter().cycle() {
        // One more is written when a consumer has gone, so that the others need not wait in vain.
        let is_last = fed.is_ending.load(Ordering::Relaxed);
        write(&mut stream, frame).await?;
        loop {
            if let Some(body) = answers.next()? {
                check(produce_error(body, version).map_err(|error| error.to_string())?)?;
                break;
            }
            answers.read(&mut stream).await?;
        }
        if is_last {
            return Ok(());
        }
        let enough = fed.enough.load(Ordering::Relaxed);
        while fed.records.load(Ordering::Relaxed) < enough && !fed.is_ending.load(Ordering::Relaxed) {
            fed.notify.notified().await;
        }
        fed.enough.store(enough + fed.consumers, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) async fn run(arguments: FetchArguments, out: &mut Output) -> Result<(), CliError> {
    let is_tail = arguments.tail || arguments.feed.is_some();
    if arguments.sessions && !is_tail {
        return Err(CliError::Usage("--sessions needs --tail or --feed".to_owned()));
    }
    let connections = arguments.connections as usize;
    engine::raise_open_files(connections)?;
    let target = Target::find(&arguments.cluster, &arguments.topic).await?;
    let newest = if target.topic.id.is_nil() { FETCH_VERSION_MIN } else { FETCH_VERSION_MAX };
    let settings = FetchSettings {
        topic: target.topic.clone(),
        version: target.version::<FetchRequest>(FETCH_VERSION_MIN, newest).await?,
        bytes_max: arguments.max_bytes,
        partition_bytes_max: arguments.partition_max_bytes,
        bytes_min: arguments.min_bytes,
        wait_ms: arguments.max_wait_ms,
        client_id: target.client.options().client_id.clone(),
    };
    let ends = Arc::new(target.ends().await?);
    let held: i64 = ends.values().map(|(first, next)| next - first).sum();
    if held == 0 && !is_tail {
        return Err(CliError::Failed(format!(
            "topic '{}' is empty; `raftsman bench produce` fills it",
            target.topic.name
        )));
    }
    let mut lanes = target.divided_lanes(connections);
    let mut plan = arguments.run.plan(arguments.cluster.broker_pid);
    let mut tasks = Vec::new();
    let mut fed = None;
    if let Some(bytes) = arguments.feed {
        let first = target.shared_lanes(1).into_iter().next();
        let first = first.ok_or_else(|| CliError::Failed("no partition to read".to_owned()))?;
        lanes = vec![first.clone(); connections];
        // They share a notification, which wakes within a thread at the least cost.
        plan.threads = 1;
        let shared = Arc::new(Fed {
            records: AtomicU64::new(0),
            enough: AtomicU64::new(connections as u64),
            notify: Notify::new(),
            consumers: connections as u64,
            is_ending: AtomicBool::new(false),
        });
        let built = batch(bytes as usize, BatchSize::Records(1), Compression::None, now_ms())?;
        let version =
            target.version::<ProduceRequest>(3, if target.topic.id.is_nil() { 12 } else { 13 }).await?;
        let produce = ProduceSettings {
            topic: &target.topic,
            version,
            acks: -1,
            timeout_ms: 30_000,
            client_id: &settings.client_id,
        };
        let frames = produce_frames(&produce, &first.partitions, &built.bytes)?;
        let handle = shared.clone();
        tasks.push(engine::task(move |worker| feed(worker, first.address, frames, version, handle)));
        fed = Some(shared);
    }
    let passes = arguments.passes.or(arguments.records.map(|_| 1));
    if passes.is_some() {
        plan.end = End::WhenDone;
    }
    let mut records_left = None;
    if let Some(records) = arguments.records {
        let wanted = i64::try_from(records).unwrap_or(i64::MAX);
        if held < wanted {
            eprintln!("warning: topic '{}' holds {held} records, fewer than {wanted}", target.topic.name);
        }
        records_left = Some(Arc::new(AtomicI64::new(wanted)));
    }
    let partitions = lanes.iter().map(|lane| lane.partitions.len()).sum::<usize>();
    for lane in lanes {
        let reading = Reading {
            settings: settings.clone(),
            lane,
            ends: ends.clone(),
            passes,
            is_tail,
            has_session: arguments.sessions,
            fed: fed.clone(),
            records_left: records_left.clone(),
        };
        tasks.push(engine::task(move |worker| read(worker, reading)));
    }
    let outcome = engine::run(&plan, tasks)?;
    let mut report = outcome.report(if is_tail { "fetch, tail" } else { "fetch" });
    if let Some(passes) = arguments.passes {
        let wanted = u64::try_from(held).unwrap_or(0) * u64::from(passes);
        // Where there are more connections than partitions, several read the same.
        let is_divided = partitions <= ends.len();
        if is_divided && outcome.all.records != wanted {
            return Err(CliError::Failed(format!(
                "{} records were read where the topic holds {wanted} (in {passes} passes)",
                outcome.all.records
            )));
        }
        report.verified = Some(format!("{} records held and read", outcome.all.records));
    }
    if fed.is_some() {
        let written = next_offsets_sum(&target.ends().await?) - next_offsets_sum(&ends);
        report = report.with("records_fed", written);
    }
    report = report.with("connections", json!(arguments.connections));
    report.print(out, arguments.cluster.json)
}
