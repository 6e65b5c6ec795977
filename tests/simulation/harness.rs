//! Many seeds, each in a process of its own, and what every run is watched for.

use std::cell::RefCell;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use raftsman::env::planted::Planted;
use raftsman::env::sim::seeds::{self, Asked};
use raftsman::env::sim::trace::Trace;
use raftsman::env::sim::world::World;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::entropy;

/// What a run came to.
pub(crate) struct Outcome {
    pub hash: u64,
    pub events: u64,
    pub virtual_ms: u64,
    /// What was done in it, for whoever wants to know whether it was worth it.
    pub summary: String,
}

impl Outcome {
    pub(crate) fn of(world: &World, summary: String) -> Self {
        let trace = world.trace();
        Self { hash: trace.hash(), events: trace.count(), virtual_ms: world.now_ms(), summary }
    }
}

/// A simulation.
pub(crate) struct Suite {
    /// The test that runs its seeds, or the one that `SEED` names.
    pub test: &'static str,
    /// What `cargo test` finds that by.
    pub target: &'static str,
    pub run: fn(u64, Option<Planted>) -> Result<Outcome, String>,
}

fn bug_of(text: &str) -> Planted {
    let named = Planted::ALL.into_iter().find(|bug| format!("{bug:?}") == text);
    named.unwrap_or_else(|| panic!("PLANTED={text} is none of {:?}", Planted::ALL))
}

/// The command that repeats a seed.
fn repeat(suite: &Suite, seed: u64, bug: Option<Planted>) -> String {
    let set = |name: &str| std::env::var(name).map(|value| format!("{name}={value} ")).unwrap_or_default();
    let planted = bug.map(|bug| format!("PLANTED={bug:?} ")).unwrap_or_default();
    format!("{}{planted}{}", set(VIRTUAL_SECONDS), seeds::command(seed, suite.target))
}

/// How long the faults go on, where a simulation takes that from outside.
pub(crate) const VIRTUAL_SECONDS: &str = "VIRTUAL_SECONDS";

impl Suite {
    /// One seed, in a fresh thread of this process.
    fn run_here(&self, seed: u64, bug: Option<Planted>) -> Result<Outcome, String> {
        let thread = std::thread::Builder::new().name("simulation".to_owned()).stack_size(16 << 20);
        let run = self.run;
        let running = thread.spawn(move || {
            entropy::seed(seed);
            note_panics();
            run(seed, bug)
        });
        running.unwrap().join().unwrap_or_else(|_| Err("the run panicked".to_owned()))
    }

    /// One seed in a process of its own; what it printed, and whether it kept its promises.
    fn run_there(&self, seed: u64, bug: Option<Planted>) -> Result<String, String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", self.test, "--nocapture", "--test-threads=1"])
            .env("SEED", seed.to_string())
            .env("QUIET", "1");
        command.env_remove("SEEDS").env_remove("PLANTED");
        if let Some(bug) = bug {
            command.env("PLANTED", format!("{bug:?}"));
        }
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        match line("ran ") {
            Some(line) if output.status.success() => Ok(line),
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr);
                Err(line("violated ").unwrap_or_else(|| format!("{}\n{text}{errors}", output.status)))
            }
        }
    }

    /// Runs seeds side by side until one fails; how many ran and the failure with the lowest seed.
    fn first_failure(
        &self,
        seeds: std::ops::Range<u64>,
        bug: Option<Planted>,
    ) -> (u64, Option<(u64, String)>) {
        let next = Mutex::new(seeds.start);
        let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let seed = {
                            let mut next = next.lock().unwrap();
                            let seed = *next;
                            if seed >= seeds.end || failed.lock().unwrap().is_some() {
                                return;
                            }
                            *next += 1;
                            seed
                        };
                        if let Err(error) = self.run_there(seed, bug) {
                            let mut failed = failed.lock().unwrap();
                            if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                                *failed = Some((seed, error));
                            }
                        }
                    }
                });
            }
        });
        (next.into_inner().unwrap() - seeds.start, failed.into_inner().unwrap())
    }

    /// Runs the seeds that are asked for, or `count`.
    pub(crate) fn keeps_its_promises(&self, count: u64) {
        match seeds::asked(count) {
            Asked::One(seed) => {
                if std::env::var_os("QUIET").is_none() {
                    tell();
                }
                let bug = std::env::var("PLANTED").ok().map(|text| bug_of(&text));
                match self.run_here(seed, bug) {
                    Ok(Outcome { hash, events, virtual_ms, summary }) => {
                        println!("\nran {hash:016x}: {events} events in {virtual_ms} ms, {summary}");
                    }
                    Err(violation) => {
                        println!("\nviolated {violation}");
                        let command = repeat(self, seed, bug);
                        panic!("seed {seed}: {violation}\nto repeat it: {command}");
                    }
                }
            }
            Asked::Many(seeds) => {
                let began = Instant::now();
                let (count, failure) = self.first_failure(seeds, None);
                if let Some((seed, violation)) = failure {
                    panic!("seed {seed}: {violation}\nto repeat it: {}", repeat(self, seed, None));
                }
                println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
            }
        }
    }

    /// Runs some seeds twice.
    pub(crate) fn is_the_same_for_the_same_seed(&self, seeds: std::ops::Range<u64>) {
        if seeds::is_one() {
            return;
        }
        for seed in seeds {
            let (first, second) = (self.run_there(seed, None), self.run_there(seed, None));
            assert_eq!(first, second, "seed {seed}; TRACE=<file> in front of {}", repeat(self, seed, None));
        }
    }

    /// Runs something else in a world of its own, with a bug planted or without; `TELL=1` has it say what it does.
    pub(crate) fn scenario(
        &self,
        run: fn(Option<Planted>) -> Result<(), String>,
        bug: Option<Planted>,
    ) -> Result<(), String> {
        if std::env::var_os("TELL").is_some() {
            tell();
        }
        let running = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
            entropy::seed(1);
            run(bug)
        });
        running.unwrap().join().unwrap()
    }

    /// Each bug is caught by one of 200 seeds.
    pub(crate) fn catches(&self, bugs: &[Planted]) {
        if seeds::is_one() {
            return;
        }
        for bug in bugs {
            let (count, failure) = self.first_failure(0..200, Some(*bug));
            let (seed, violation) =
                failure.unwrap_or_else(|| panic!("{bug:?} was not caught in {count} seeds"));
            println!("{bug:?}: caught by seed {seed}: {violation}");
        }
    }
}

/// Has logs written, with virtual time.
fn tell() {
    let log = tracing_subscriber::fmt().with_env_filter("debug,openraft=warn");
    // Somebody may have set up another.
    let _ = log.with_timer(VirtualTime).with_ansi(false).try_init();
}

/// What became of panics of tasks, which tokio keeps to itself.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

fn note_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Ok(mut panicked) = PANICKED.lock() {
            panicked.get_or_insert_with(|| info.to_string());
        }
        default(info);
    }));
}

/// The first panic of a task, if there was one.
pub(crate) fn panicked() -> Option<String> {
    PANICKED.lock().ok().and_then(|panicked| panicked.clone())
}

thread_local! {
    /// For the time in front of what brokers say.
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Writes down what happens, where `TRACE` says; and gives logs their time.
pub(crate) fn follow(trace: &Trace) -> Result<(), String> {
    TRACE.set(Some(trace.clone()));
    if let Ok(path) = std::env::var("TRACE") {
        let file = std::fs::File::create(&path).map_err(|error| format!("{path}: {error}"))?;
        trace.write_to(Box::new(std::io::BufWriter::new(file)));
    }
    Ok(())
}

/// Virtual time and the machine's number, for logs.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        TRACE.with_borrow(|trace| match trace {
            Some(trace) => write!(out, "{:>6} {}", trace.now_ms(), trace.running()),
            None => Ok(()),
        })
    }
}
