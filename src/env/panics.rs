//! What a panic does: it ends the process, unless it happens where nothing but bytes is looked at (ADR 4).
//!
//! A panic says that the code is wrong, and then whatever it was about to change may be half changed: a lock is let go
//! of as if all were well. The next start recovers what is on disk, and nothing else is to be trusted. But
//! what only reads a request changes nothing: there a panic costs the connection that sent it ([`contained`]), so that
//! nobody can end the broker with one request again and again.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// How many calls of [`contained`] this thread is in.
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
}

static CONTAINED_TOTAL: AtomicU64 = AtomicU64::new(0);

/// Reading something panicked; the log says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker has a fault: it panicked: {0}")]
pub struct Panicked(pub String);

/// From now on a panic is logged, and ends the process (SIGABRT) where it is not [`contained`].
pub fn end_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(hook)));
}

fn hook(info: &PanicHookInfo<'_>) {
    let message = message(info.payload());
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::force_capture();
    if CONTAINED.get() > 0 {
        tracing::error!(message, location, %backtrace, "a request that cannot be handled made the broker panic: this is a fault of the broker, please report it");
        return;
    }
    tracing::error!(message, location, %backtrace, "the broker panicked and ends; the next start recovers its logs. This is a fault of the broker, please report it");
    std::process::abort();
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

/// Does work that changes nothing that outlives it, and gives a panic of it as an error. What it was given must not be used
/// any more then.
///
/// # Errors
/// When it panicked.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    CONTAINED.set(CONTAINED.get() + 1);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(CONTAINED.get() - 1);
    outcome.map_err(|payload| {
        CONTAINED_TOTAL.fetch_add(1, Ordering::Relaxed);
        Panicked(message(&*payload))
    })
}

/// As [`contained`], for work that may fail anyway: a reason for either.
///
/// # Errors
/// The work's, or that it panicked.
pub fn reading<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match contained(work) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}

/// How many panics were contained.
pub fn contained_total() -> u64 {
    CONTAINED_TOTAL.load(Ordering::Relaxed)
}

/// Panics where a test has asked for it: `RAFTSMAN_PLANTED_PANIC` names the place. Not in a release build.
#[inline(always)]
pub fn planted(place: &str) {
    #[cfg(debug_assertions)]
    {
        static PLACE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let planted = PLACE.get_or_init(|| std::env::var("RAFTSMAN_PLANTED_PANIC").ok());
        assert!(planted.as_deref() != Some(place), "planted in {place}");
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_with_its_words() {
        let before = contained_total();
        let number = 7;
        assert_eq!(contained(|| number), Ok(7));
        assert_eq!(contained::<()>(|| panic!("at {number}")), Err(Panicked("at 7".to_owned())));
        assert_eq!(reading(|| "x".parse::<i32>()), Err("invalid digit found in string".to_owned()));
        assert!(contained_total() > before);
        assert_eq!(CONTAINED.get(), 0);
    }
}
