//! The threads that make load, and the interval that is measured.
//!
//! A run has a task per connection, on few threads. All connect first; then comes the warm-up, the
//! measured interval, and the time in which what is under way is answered. Counts of the measured
//! interval and of the whole run are kept apart: the first tell speed and cost, the second are what the
//! broker has to hold in the end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::report::{Counts, Interval, Percentiles, Report, histogram};
use super::usage::{Usage, of_process};
use crate::cli::output::CliError;
use crate::client::ClientError;
use crate::client::error::io_reason;

/// Connections being opened at a time, so that the broker's backlog does not run over.
const CONNECTING_MAX: usize = 32;
/// How long nothing may happen before a run is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How often to look whether something happens.
const STALL_TICK: Duration = Duration::from_secs(1);
/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// How long to run.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Seconds that are measured [default: 10, without --requests]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "requests")]
    pub duration: Option<Duration>,
    /// Run until so many requests are answered
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    pub requests: Option<i64>,
    /// Seconds to run before the measured interval
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    pub warmup: Duration,
    /// Threads that make the load; connections are shared out among them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
}

/// Seconds, whole or not, up to a day.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds, up to 86400".to_owned()),
    }
}

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Plan {
    pub warmup: Duration,
    pub end: End,
    pub threads: usize,
    pub broker_pid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    After(Duration),
    /// Requests of the measured interval.
    Requests(i64),
    /// When all tasks have ended by themselves.
    WhenDone,
}

impl RunArguments {
    pub fn plan(&self, broker_pid: Option<u32>) -> Plan {
        let end = match self.requests {
            Some(requests) => End::Requests(requests),
            None => End::After(self.duration.unwrap_or(Duration::from_secs(10))),
        };
        Plan { warmup: self.warmup, end, threads: usize::from(self.threads), broker_pid }
    }
}

const CONNECTING: u8 = 0;
const WARMING: u8 = 1;
const MEASURED: u8 = 2;
const OVER: u8 = 3;

struct Shared {
    phase: AtomicU8,
    started: watch::Sender<Option<Instant>>,
    over: watch::Sender<bool>,
    requests_left: Option<AtomicI64>,
    connecting: Semaphore,
    waiting: AtomicUsize,
    tasks: usize,
    events: Sender<Event>,
}

enum Event {
    AllReady,
    Failed(String),
    ThreadDone,
}

/// What the tasks of one thread have counted.
struct Tally {
    histogram: Histogram<u64>,
    measured: Counts,
    all: Counts,
}

/// A task's view of the run.
#[derive(Clone)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
    /// Counted from 0 over all threads.
    pub number: usize,
}

impl Worker {
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let failed = |error: std::io::Error| format!("cannot reach {address}: {}", io_reason(&error));
        let permit = self.shared.connecting.acquire().await;
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        drop(permit);
        Ok(stream)
    }

    /// Says that this task could begin, and waits until all can. Gives the moment of the start.
    pub(super) async fn ready(&self) -> Instant {
        let mut started = self.shared.started.subscribe();
        if self.shared.waiting.fetch_add(1, Ordering::Relaxed) + 1 == self.shared.tasks {
            // Nobody listens any more when another task has failed.
            drop(self.shared.events.send(Event::AllReady));
        }
        match started.wait_for(Option::is_some).await {
            Ok(at) => at.unwrap_or_else(Instant::now),
            // The sender is in `shared`.
            Err(_) => Instant::now(),
        }
    }

    /// Whether another request may be sent; counts it.
    #[inline]
    pub(super) fn may_send(&self) -> bool {
        match (self.shared.phase.load(Ordering::Relaxed), &self.shared.requests_left) {
            (OVER, _) => false,
            (MEASURED, Some(left)) => left.fetch_sub(1, Ordering::Relaxed) > 0,
            _ => true,
        }
    }

    /// Waits until the run is over.
    pub(super) async fn over(&self) {
        let mut over = self.shared.over.subscribe();
        // Its sender lives as long as this.
        drop(over.wait_for(|over| *over).await);
    }

    /// Counts an answered request, sent (or due) at `since`. Without a moment it has no latency.
    #[inline]
    pub(super) fn answered(&self, since: Option<Instant>, records: u64, bytes: u64) {
        let latency = since.map(|since| since.elapsed());
        let is_measured = self.shared.phase.load(Ordering::Relaxed) == MEASURED;
        let mut tally = self.tally.lock();
        let Tally { histogram, measured, all } = &mut *tally;
        let add = |counts: &mut Counts| {
            counts.requests += 1;
            counts.records += records;
            counts.bytes += bytes;
        };
        add(all);
        if is_measured {
            add(measured);
            if let Some(latency) = latency {
                histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// A task, made on the thread that runs it.
pub(super) type Task =
    Box<dyn FnOnce(Worker) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send>;

/// Makes a task out of an async function.
pub(super) fn task<F>(work: impl FnOnce(Worker) -> F + Send + 'static) -> Task
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    Box::new(move |worker| Box::pin(work(worker)))
}

/// What a run has come to.
pub(super) struct Outcome {
    pub elapsed: Duration,
    pub measured: Counts,
    pub all: Counts,
    pub latency: Option<Percentiles>,
    client: Interval,
    broker: Option<Interval>,
}

impl Outcome {
    pub(super) fn report(&self, workload: &str) -> Report {
        let mut report = Report::new(workload, self.elapsed, self.measured, self.client, self.broker);
        report.latency = self.latency;
        report
    }
}

/// This process and the broker's at one moment.
pub(super) fn usages(broker_pid: Option<u32>) -> Result<(Usage, Option<Usage>), CliError> {
    let of = |pid| of_process(pid).map_err(CliError::Failed);
    Ok((of(std::process::id())?, broker_pid.map(of).transpose()?))
}

/// Runs the tasks to the plan. Blocks the thread.
pub(super) fn run(plan: &Plan, tasks: Vec<Task>) -> Result<Outcome, CliError> {
    let (events, received) = mpsc::channel();
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(CONNECTING),
        started: watch::Sender::new(None),
        over: watch::Sender::new(false),
        requests_left: match plan.end {
            End::Requests(requests) => Some(AtomicI64::new(requests)),
            _ => None,
        },
        connecting: Semaphore::new(CONNECTING_MAX),
        waiting: AtomicUsize::new(0),
        tasks: tasks.len(),
        events,
    });
    let threads = plan.threads.clamp(1, tasks.len().max(1));
    let mut shares = (0..threads).map(|_| Vec::new()).collect::<Vec<_>>();
    for (number, task) in tasks.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % threads) {
            share.push((number, task));
        }
    }
    let mut tallies = Vec::new();
    for share in shares {
        let empty = Tally { histogram: histogram()?, measured: Counts::default(), all: Counts::default() };
        let tally = Arc::new(Mutex::new(empty));
        tallies.push(tally.clone());
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("bench".to_owned())
            .spawn(move || run_thread(share, &shared, &tally))
            .map_err(|error| CliError::while_doing("start a thread", error))?;
    }
    let mut watch = Watch { received, running: threads, tallies: &tallies };

    watch.until(|event| matches!(event, Event::AllReady))?;
    // A count without a warm-up begins with its first request.
    let mut begun = usages(plan.broker_pid)?;
    let mut from = Instant::now();
    let is_warmed = plan.warmup > Duration::ZERO;
    shared.phase.store(if is_warmed { WARMING } else { MEASURED }, Ordering::Relaxed);
    shared.started.send_replace(Some(from));
    if is_warmed {
        watch.pause(plan.warmup)?;
        begun = usages(plan.broker_pid)?;
        from = Instant::now();
        shared.phase.store(MEASURED, Ordering::Relaxed);
    }
    match plan.end {
        End::After(duration) => watch.pause(duration)?,
        End::Requests(_) | End::WhenDone => watch.until_done()?,
    }
    let elapsed = from.elapsed();
    shared.phase.store(OVER, Ordering::Relaxed);
    let ended = usages(plan.broker_pid)?;
    shared.over.send_replace(true);
    watch.until_done()?;

    let mut latencies = histogram()?;
    let (mut measured, mut all) = (Counts::default(), Counts::default());
    for tally in &tallies {
        let tally = tally.lock();
        latencies.add(&tally.histogram).map_err(|error| CliError::while_doing("add up latencies", error))?;
        for (sum, part) in [(&mut measured, tally.measured), (&mut all, tally.all)] {
            sum.requests += part.requests;
            sum.records += part.records;
            sum.bytes += part.bytes;
        }
    }
    Ok(Outcome {
        elapsed,
        measured,
        all,
        latency: Percentiles::of(&latencies),
        client: (begun.0, ended.0),
        broker: begun.1.zip(ended.1),
    })
}

fn run_thread(share: Vec<(usize, Task)>, shared: &Arc<Shared>, tally: &Arc<Mutex<Tally>>) {
    let fail = |reason: String| drop(shared.events.send(Event::Failed(reason)));
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Err(error) => fail(format!("cannot start a runtime: {error}")),
        Ok(runtime) => runtime.block_on(async {
            let mut running = JoinSet::new();
            for (number, task) in share {
                running.spawn(task(Worker { shared: shared.clone(), tally: tally.clone(), number }));
            }
            while let Some(ended) = running.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(reason)) => fail(reason),
                    Err(error) => fail(error.to_string()),
                }
            }
        }),
    }
    drop(shared.events.send(Event::ThreadDone));
}

/// Waits while the threads run; the first failure ends it.
struct Watch<'a> {
    received: Receiver<Event>,
    running: usize,
    tallies: &'a [Arc<Mutex<Tally>>],
}

impl Watch<'_> {
    fn note(&mut self, event: &Event) -> Result<(), CliError> {
        match event {
            Event::AllReady => {}
            Event::ThreadDone => self.running = self.running.saturating_sub(1),
            Event::Failed(reason) => return Err(CliError::Failed(reason.clone())),
        }
        Ok(())
    }

    /// Waits for an event, as long as something happens.
    fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> Result<(), CliError> {
        let mut answered = 0;
        let mut changed = Instant::now();
        while self.running > 0 {
            match self.received.recv_timeout(STALL_TICK) {
                Ok(event) => {
                    self.note(&event)?;
                    if is_it(&event) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let now: u64 = self.tallies.iter().map(|tally| tally.lock().all.requests).sum();
                    if now != answered {
                        (answered, changed) = (now, Instant::now());
                    } else if changed.elapsed() > STALL_LIMIT {
                        let limit = STALL_LIMIT.as_secs();
                        return Err(CliError::Failed(format!("no answer came for {limit} s")));
                    }
                }
            }
        }
        Ok(())
    }

    fn until_done(&mut self) -> Result<(), CliError> {
        self.until(|_| false)
    }

    /// Lets the threads run for so long.
    fn pause(&mut self, duration: Duration) -> Result<(), CliError> {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(left) {
                Ok(event) => self.note(&event)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(CliError::Failed("the load has ended before its time".to_owned()));
                }
            }
        }
    }
}

/// Answers as they come from a socket, in a buffer that is used again.
pub(super) struct Answers {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Answers {
    pub(super) fn new(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes.max(4)], start: 0, end: 0 }
    }

    /// Reads what has come, once. Can be cancelled.
    pub(super) async fn read(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // Room for the whole of the next frame, as far as its length is known.
        let needed = match self.announced()? {
            Some(length) => 4 + length,
            None => 4,
        };
        if self.start + needed > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if needed > self.buffer.len() {
                self.buffer.resize(needed, 0);
            }
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        match stream.read(space).await {
            Ok(0) => Err("the broker has closed the connection".to_owned()),
            Ok(read) => {
                self.end += read;
                Ok(())
            }
            Err(error) => Err(io_reason(&error)),
        }
    }

    fn announced(&self) -> Result<Option<usize>, String> {
        let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(length) = pending.first_chunk::<4>() else { return Ok(None) };
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) if (4..=ANSWER_BYTES_MAX).contains(&length) => Ok(Some(length)),
            _ => Err("an answer without a sensible length; is this a Kafka listener?".to_owned()),
        }
    }

    /// Whether a whole answer is there.
    pub(super) fn is_whole(&self) -> Result<bool, String> {
        Ok(self.announced()?.is_some_and(|length| self.start + 4 + length <= self.end))
    }

    /// The next whole answer, from behind its correlation id on.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, String> {
        let Some(length) = self.announced()? else { return Ok(None) };
        let start = self.start + 4;
        if start + length > self.end {
            return Ok(None);
        }
        self.start = start + length;
        Ok(self.buffer.get(start + 4..start + length))
    }
}

/// An error code of the broker, in words.
pub(super) fn check(code: i16) -> Result<(), String> {
    ClientError::check(code, None).map_err(|error| error.to_string())
}

/// Lets this process open `connections` sockets and a few files besides.
pub(super) fn raise_open_files(connections: usize) -> Result<(), CliError> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let failed = |error| CliError::while_doing("read the limit of open files", error);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let needed = connections as u64 + 64;
    if needed <= soft {
        return Ok(());
    }
    if needed > hard {
        return Err(CliError::Failed(format!(
            "{connections} connections need {needed} open files, and the limit is {hard} (ulimit -Hn)"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard)
        .map_err(|error| CliError::while_doing("raise the limit of open files", error))
}
