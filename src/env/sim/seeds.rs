//! Running a simulation over many seeds, or over the one that failed.
//!
//! `SEED=<n>` runs that one alone and says what it does; `SEEDS=<n>` runs so many, `SEEDS=<from>..<to>` those. Whatever
//! fails prints the whole command that repeats it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What was asked for through the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    One(u64),
    Many(Range<u64>),
}

/// What SEED and SEEDS ask for; `count` seeds from 0 on when they say nothing.
///
/// # Panics
/// When they are no numbers.
pub fn asked(count: u64) -> Asked {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    read(set("SEED").as_deref(), set("SEEDS").as_deref(), count).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn read(seed: Option<&str>, seeds: Option<&str>, count: u64) -> Result<Asked, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number of a seed"));
    match (seed, seeds) {
        (Some(seed), _) => Ok(Asked::One(number(seed)?)),
        (None, Some(seeds)) => Ok(Asked::Many(match seeds.split_once("..") {
            Some((from, to)) => number(from)?..number(to)?,
            None => 0..number(seeds)?,
        })),
        (None, None) => Ok(Asked::Many(0..count)),
    }
}

/// Whether one seed alone is asked for, which is then to say what it does.
pub fn is_one() -> bool {
    matches!(asked(0), Asked::One(_))
}

/// The command that repeats one seed of a test: `target` is what `cargo test` needs to find it.
pub fn command(seed: u64, target: &str) -> String {
    format!("SEED={seed} cargo test --locked {target} -- --nocapture")
}

/// Runs the seeds that are asked for, `count` unless the environment says otherwise.
///
/// # Panics
/// When a run does, after the command that repeats it.
pub fn run(count: u64, target: &str, run: impl Fn(u64)) {
    match asked(count) {
        Asked::One(seed) => {
            // Somebody may have set up another.
            let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().try_init();
            run(seed);
        }
        Asked::Many(seeds) => {
            for seed in seeds {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                    eprintln!("to repeat it: {}", command(seed, target));
                    resume_unwind(panic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_or_many_can_be_asked_for() {
        assert_eq!(read(None, None, 7), Ok(Asked::Many(0..7)));
        assert_eq!(read(None, Some("3"), 7), Ok(Asked::Many(0..3)));
        assert_eq!(read(None, Some("3..9"), 7), Ok(Asked::Many(3..9)));
        assert_eq!(read(Some("5"), Some("3"), 7), Ok(Asked::One(5)));
        assert!(read(Some("x"), None, 7).is_err() && read(None, Some("3-4"), 7).is_err());
    }
}
