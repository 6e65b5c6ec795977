//! Partitions on disk, in Apache Kafka's own format.
//!
//! A partition is a folder `<topic>-<n>`:
//!
//! ```text
//! <base offset, 20 digits>.log        record batches, one after the other           (segment)
//! <base offset>.index                 offset -> position, sparse                    (index)
//! <base offset>.timeindex             timestamp -> offset, sparse                   (index)
//! <base offset>.txnindex              aborted transactions whose marker is in it    (aborted)
//! <offset>.snapshot                   producers as of that offset                   (producer_state)
//! leader-epoch-checkpoint             where each leader epoch began                 (epoch_file)
//! partition.metadata                  the topic's id                                (data_dir)
//! *.cleaned, *.swap                   a compaction under way                        (cleaner)
//! *.deleted                           on their way out                              (removals)
//! *.log.set-aside                     what recovery found behind damage             (set_aside)
//! <offset>.missing                    records from there on are missing, as accepted (missing)
//! ```
//!
//! Invariants, from the disk up:
//! 1. What lies below the recovery point was synced; recovery trusts it. Everything else is checked,
//!    and cut at the first byte that is not part of a whole, sound batch.
//! 2. Indexes, snapshots and epochs are hints that can be made again from the `.log` files. An index
//!    entry never points beyond the file; a missing one only costs a longer scan.
//! 3. Offsets only grow, within a file and from file to file.
//! 4. A segment's length and the log end offset are published after the bytes are in the file: who
//!    reads below them reads what was written, without waiting for a write that is under way.

pub mod aborted;
mod appending;
pub mod checkpoint;
pub mod cleaner;
#[cfg(test)]
mod closed_tests;
mod compaction;
#[cfg(test)]
mod damage_tests;
pub mod data_dir;
mod epoch_file;
#[cfg(test)]
mod fault_tests;
pub mod file_cache;
pub mod index;
pub mod leader_epochs;
pub mod leadership;
pub mod log;
pub mod meta_properties;
mod missing;
pub mod ownership;
#[cfg(test)]
mod power_cuts;
pub mod producer_state;
mod reading;
mod recovery;
mod removals;
mod retention;
mod room;
pub mod scan;
pub mod segment_file;
mod set_aside;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;
mod transactions;
mod trusted_indexes;

use std::io;
use std::sync::Arc;

use bytes::BytesMut;

use crate::env::File;
use crate::protocol::batch::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerId};

pub use crate::config::topic::log::{CleanupPolicy, LogConfig};
pub use data_dir::{DataDir, DataDirError, DataDirOptions, LogError, OpenedLog};
pub use leadership::{EpochBack, LeadershipEnded};
pub use log::{Log, LogPlace};
pub use retention::TruncateError;
pub use transactions::{Guard, Verification};

/// A producer's records to append: offsets and leader epoch are assigned, sequences checked.
#[derive(Debug)]
pub struct AppendRequest {
    /// One or more whole batches, their structure and checksums checked.
    pub records: BytesMut,
    /// This node's leadership under which they were checked; they are refused when it has ended.
    pub epoch: LeaderEpoch,
    pub origin: Origin,
}

/// Whose records are appended, and so what they are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Sequences are checked, and that a transaction is open or verified.
    Producer {
        /// An earlier batch of the producer may not have got into the log: a sequence above 0 is taken only where the log
        /// knows the producer, and so sees what is missing.
        must_be_known: bool,
        /// What [`Log::verification`] gave before the transaction was verified.
        guard: Guard,
    },
    /// A coordinator's own, maybe on behalf of a producer's transaction.
    Coordinator,
    /// A batch with one marker, of a transaction of this version (`transaction.version`).
    Marker { transaction_version: i8 },
}

impl Origin {
    /// A producer of which nothing special is known.
    pub const PRODUCER: Origin = Origin::Producer { must_be_known: false, guard: Guard::NONE };
}

/// How an append goes on. Its place in the log's order is taken either way.
#[derive(Debug)]
pub enum Append {
    Done(Result<Appended, AppendError>),
    /// Another append is being written; this one goes out with the next write.
    Queued(tokio::sync::oneshot::Receiver<Result<Appended, AppendError>>),
}

/// An append that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub log_start_offset: Offset,
    pub bytes: u64,
    /// It was there already: the offsets are those of then, nothing was written.
    pub duplicate: bool,
    /// The largest timestamp of the batch (ms); of a duplicate, that of then.
    pub max_timestamp: i64,
    /// `flush.messages` is reached: the log wants [`Log::flush`].
    pub flush_due: bool,
}

/// Why records are not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the log is closed")]
    Closed,
    #[error("the log is offline after a failure of its disk")]
    Failed,
    #[error("no space is left on the disk")]
    StorageFull,
    #[error("the records could not be written: {0}")]
    Io(Arc<io::Error>),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the records are of {bytes} bytes, a segment holds {bytes_max}")]
    LargerThanSegment { bytes: usize, bytes_max: u32 },
    #[error(
        "Out of order sequence number for producer {producer_id} at offset {offset}: {found} (incoming seq. number), {last} (current end sequence number)"
    )]
    OutOfOrderSequence { producer_id: ProducerId, offset: Offset, found: i32, last: i32 },
    #[error(
        "Epoch of producer {producer_id} at offset {offset} is {found}, which is smaller than the last seen epoch {last}"
    )]
    InvalidProducerEpoch { producer_id: ProducerId, offset: Offset, found: i16, last: i16 },
    #[error(
        "The marker for producer {producer_id} is of coordinator epoch {found}, which is smaller than the last seen epoch {last}"
    )]
    CoordinatorFenced { producer_id: ProducerId, found: i32, last: i32 },
    #[error("Record of producer {producer_id} was not part of an ongoing transaction")]
    NotInTransaction { producer_id: ProducerId },
    #[error("the records begin at offset {found}, the log ends at {log_end}")]
    OffsetsNotMonotonic { found: Offset, log_end: Offset },
    #[error(transparent)]
    LeadershipEnded(#[from] LeadershipEnded),
    #[error("the records at offset {offset} are of leader epoch {found}, those before them of {last}")]
    EpochNotMonotonic { offset: Offset, found: LeaderEpoch, last: LeaderEpoch },
}

impl AppendError {
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::StorageFull,
            _ => AppendError::Io(Arc::new(error)),
        }
    }
}

/// A run of bytes of a `.log` file: whole batches, but for the last one, which may be cut.
#[derive(Clone, Debug)]
pub struct LogSlice {
    pub file: Arc<dyn File>,
    pub position: u64,
    /// 0 when there is nothing to read yet.
    pub len: usize,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the log holds offsets {start} to {end} (exclusive)")]
    OffsetOutOfRange { start: Offset, end: Offset },
    #[error("the log is closed")]
    Closed,
    #[error("the log is offline after a failure of its disk")]
    Failed,
    #[error("the log is damaged: {0}")]
    Corrupt(io::Error),
    #[error("the log cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => ReadError::Corrupt(error),
            _ => ReadError::Io(error),
        }
    }
}

/// A place in time and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// ms.
    pub timestamp: i64,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}
