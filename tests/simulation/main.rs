//! A whole broker, from `Node::start` on, with clients of its own wire in one simulated world: kills, power cuts and cuts
//! of the network against what it promises ([`model`]).
//!
//! Each seed runs in a process of its own: the random numbers of the C library come from the seed there ([`entropy`]), and
//! what is counted per process (tokio's seeds, statics) begins at the beginning. docs/developing.md says how to run and
//! debug one.

#![allow(clippy::unwrap_used)]

mod clients;
mod entropy;
mod model;
mod run;

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use raftsman::env::planted::Planted;
use raftsman::env::sim::seeds::{self, Asked};

/// Seeds that `cargo test` runs; `./check` runs 200.
const SEEDS: u64 = 60;
/// Seeds that are run twice.
const TWICE: u64 = 3;
const TARGET: &str = "--test simulation one_broker";
const NAME: &str = "one_broker_keeps_its_promises";

/// One seed, in a fresh thread of this process: its hash.
fn run_here(seed: u64, bug: Option<Planted>) -> Result<run::Outcome, String> {
    let thread = std::thread::Builder::new().name("simulation".to_owned()).stack_size(16 << 20);
    let running = thread.spawn(move || {
        entropy::seed(seed);
        run::run(seed, bug)
    });
    running.unwrap().join().unwrap_or_else(|_| Err("the run panicked".to_owned()))
}

fn bug_of(text: &str) -> Planted {
    let all = [
        Planted::SkippedSync,
        Planted::EarlyAcknowledgement,
        Planted::ForgottenProducers,
        Planted::LostCommits,
    ];
    all.into_iter()
        .find(|bug| format!("{bug:?}") == text)
        .unwrap_or_else(|| panic!("PLANTED={text} is none of {all:?}"))
}

/// One seed in a process of its own; what it printed, and whether it kept its promises.
fn run_there(seed: u64, bug: Option<Planted>) -> Result<String, String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
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
fn first_failure(seeds: std::ops::Range<u64>, bug: Option<Planted>) -> (u64, Option<(u64, String)>) {
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
                    if let Err(error) = run_there(seed, bug) {
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

#[test]
fn one_broker_keeps_its_promises() {
    match seeds::asked(SEEDS) {
        Asked::One(seed) => {
            if std::env::var_os("QUIET").is_none() {
                tracing_subscriber::fmt()
                    .with_env_filter("debug,openraft=warn")
                    .with_timer(run::VirtualTime)
                    .with_ansi(false)
                    .init();
            }
            let bug = std::env::var("PLANTED").ok().map(|text| bug_of(&text));
            match run_here(seed, bug) {
                Ok(run::Outcome { hash, events, virtual_ms, counts, faults }) => {
                    println!("\nran {hash:016x}: {events} events in {virtual_ms} ms, {counts:?}, {faults:?}");
                }
                Err(violation) => {
                    println!("\nviolated {violation}");
                    panic!("seed {seed}: {violation}\nto repeat it: {}", seeds::command(seed, TARGET));
                }
            }
        }
        Asked::Many(seeds) => {
            let began = Instant::now();
            let (count, failure) = first_failure(seeds, None);
            if let Some((seed, violation)) = failure {
                panic!("seed {seed}: {violation}\nto repeat it: {}", seeds::command(seed, TARGET));
            }
            println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
        }
    }
}

/// Without this no failure could be repeated.
#[test]
fn the_same_seed_is_the_same_run() {
    if seeds::is_one() {
        return;
    }
    for seed in 0..TWICE {
        let (first, second) = (run_there(seed, None), run_there(seed, None));
        assert_eq!(first, second, "seed {seed}; TRACE=<file> in front of {}", seeds::command(seed, TARGET));
    }
}

/// The simulation is believed because it catches these.
#[test]
fn planted_bugs_are_caught() {
    if seeds::is_one() {
        return;
    }
    for bug in ["SkippedSync", "EarlyAcknowledgement", "ForgottenProducers", "LostCommits"] {
        let (count, failure) = first_failure(0..200, Some(bug_of(bug)));
        let (seed, violation) = failure.unwrap_or_else(|| panic!("{bug} was not caught in {count} seeds"));
        println!("{bug}: caught by seed {seed}: {violation}");
    }
}
