//! How long a round of compaction goes on: until it is told to stop, or the log changed below it.

use std::io;

use crate::segment::log::Log;

/// Called with bytes that were just read or written; says when to stop, and takes its time where they were too many.
pub type Pace<'a> = &'a dyn Fn(u64) -> Result<(), Stop>;

/// Why a round ended early. The log is as it was, or some of its segments are compacted.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The log changed below it, or the broker stops.
    #[error("the compaction was given up")]
    Aborted,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What has to hold on while a round goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Round {
    truncations: u64,
}

impl Round {
    pub(super) fn begin(log: &Log) -> Self {
        Self { truncations: log.compaction.truncations() }
    }

    pub(super) fn is_valid(&self, log: &Log) -> bool {
        log.check_usable().is_ok()
            && log.compaction.truncations() == self.truncations
            && log.config().cleanup.compact
    }
}
