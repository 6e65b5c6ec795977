//! Named checks, waits, restarts of the broker, and members of groups in processes of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const LIMIT: Duration = Duration::from_secs(20);

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

pub fn bootstrap() -> String {
    env::var("BOOTSTRAP").unwrap_or_else(|_| "127.0.0.1:9092".into())
}

/// Microseconds since 1970, on one clock for all processes.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

pub fn name(hint: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static RUN: Mutex<u64> = Mutex::new(0);
    let mut run = RUN.lock().expect("no panic");
    if *run == 0 {
        *run = now();
    }
    format!("rust-{hint}-{:x}-{}", *run, COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

pub fn same<T: PartialEq + std::fmt::Debug>(wanted: T, got: T, what: &str) -> Outcome {
    if wanted == got {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
    Err(format!("{what}: wanted {}, got {}", short(&wanted), short(&got)).into())
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    let end = Instant::now() + LIMIT;
    while !condition() {
        if Instant::now() > end {
            return Err(format!("not within {LIMIT:?}: {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Has the broker ended (`stop` or `kill`) and started again, and returns when it serves.
pub fn restart(how: &str) -> Outcome {
    let control = env::var("BROKER_CONTROL")?;
    let address = control.strip_prefix("http://").ok_or("BROKER_CONTROL is no URL")?;
    let mut peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(Duration::from_secs(120)))?;
    write!(peer, "POST /restart?how={how} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer)?;
    match answer.lines().next() {
        Some(status) if status.contains(" 200 ") => Ok(()),
        _ => Err(answer.into()),
    }
}

#[derive(Default)]
struct Seen {
    values: BTreeSet<String>,
    owned: BTreeMap<i32, u64>,
    spans: Vec<(i32, u64, u64)>,
    assignments: usize,
}

impl Seen {
    /// A line is `value V`, `assigned TIME P,P` or `revoked TIME P,P`.
    fn take(&mut self, line: &str) {
        let mut words = line.splitn(2, ' ');
        let (kind, rest) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if kind == "value" {
            self.values.insert(rest.to_owned());
            return;
        }
        let (at, list) = rest.split_once(' ').unwrap_or((rest, ""));
        let at = at.parse().unwrap_or(0);
        let partitions: Vec<i32> = list.split(',').filter_map(|each| each.parse().ok()).collect();
        match kind {
            "assigned" => {
                self.assignments += 1;
                self.owned.extend(partitions.into_iter().map(|partition| (partition, at)));
            }
            "revoked" => self.lose(partitions, at),
            _ => {}
        }
    }

    fn lose(&mut self, partitions: Vec<i32>, at: u64) {
        for partition in partitions {
            if let Some(start) = self.owned.remove(&partition) {
                self.spans.push((partition, start, at));
            }
        }
    }
}

/// A member as its parent sees it. It leaves when its input ends.
pub struct Member {
    process: Child,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

impl Member {
    /// `settings` are librdkafka's, as `key=value`.
    pub fn start(group: &str, topic: &str, settings: &[&str]) -> Self {
        let mut process = Command::new(env::current_exe().expect("own path"))
            .args(["--member", group, topic])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a member starts");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let into = seen.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().expect("no panic").take(&line);
            }
        });
        Self { process, seen, reader: Some(reader) }
    }

    pub fn leave(&mut self) {
        drop(self.process.stdin.take());
        let end = Instant::now() + LIMIT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.die();
    }

    pub fn die(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = reader.join();
        let mut seen = self.seen.lock().expect("no panic");
        let all = seen.owned.keys().copied().collect();
        seen.lose(all, now());
    }

    pub fn owned(&self) -> Vec<i32> {
        self.seen.lock().expect("no panic").owned.keys().copied().collect()
    }

    pub fn assignments(&self) -> usize {
        self.seen.lock().expect("no panic").assignments
    }

    pub fn has(&self, value: &str) -> bool {
        self.seen.lock().expect("no panic").values.contains(value)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.die();
    }
}

/// Whether these members own that many partitions among them, and each some.
pub fn share(partitions: usize, members: &[&Member]) -> bool {
    let owned: Vec<Vec<i32>> = members.iter().map(|member| member.owned()).collect();
    let all: BTreeSet<i32> = owned.iter().flatten().copied().collect();
    all.len() == partitions
        && owned.iter().map(Vec::len).sum::<usize>() == partitions
        && !owned.iter().any(Vec::is_empty)
}

/// No partition may have had two owners at a time. Only for members that have ended.
pub fn never_shared(members: &[&Member]) -> Outcome {
    let mut spans = Vec::new();
    for member in members {
        spans.extend(member.seen.lock().expect("no panic").spans.iter().copied());
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let ((partition, _, end), (other, start, _)) = (pair[0], pair[1]);
        if partition == other && start < end {
            return Err(format!("partition {partition} had two owners for {} µs", end - start).into());
        }
    }
    Ok(())
}

type Check = (&'static str, Box<dyn Fn() -> Outcome>);

#[derive(Default)]
pub struct List(Vec<Check>);

impl List {
    pub fn add(&mut self, title: &'static str, body: impl Fn() -> Outcome + 'static) {
        self.0.push((title, Box::new(body)));
    }

    /// Runs those whose title contains the program's first argument; gives the exit code.
    pub fn run(self) -> i32 {
        let only = env::args().nth(1).unwrap_or_default();
        let (mut passed, mut failed) = (0, 0);
        for (title, body) in self.0.iter().filter(|(title, _)| title.contains(&only)) {
            let started = Instant::now();
            match body() {
                Ok(()) => {
                    passed += 1;
                    println!("PASS {title}");
                }
                Err(error) => {
                    failed += 1;
                    println!("FAIL {title}: {error}");
                }
            }
            if env::var_os("TIMES").is_some() {
                println!("# {:.1} s {title}", started.elapsed().as_secs_f64());
            }
        }
        println!("{passed} passed, {failed} failed");
        i32::from(failed > 0 || passed == 0)
    }
}
