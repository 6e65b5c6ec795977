//! Replays a partition of an internal topic into a shard.

use crate::coordinator::{CoordinatorRecord, Now, Shard};
use crate::env::planted::{Planted, is_planted};
use crate::partition::Partition;
use crate::protocol::batch::{BatchError, batches};
use crate::types::Offset;

/// Bytes that are read at a time; a batch that is larger is read whole.
const READ_BYTES: usize = 1 << 20;
/// Largest batch that is opened.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// Why a partition could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LoadError(pub String);

/// What was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replayed {
    pub records: u64,
    /// The log end offset.
    pub end: Offset,
}

/// Reads from the log's start to its end. Blocks on the disk. A record that cannot be read is skipped.
///
/// # Errors
/// When the log itself cannot be read: its shard must not answer, as commits may be missing.
pub(super) fn replay<S: Shard>(
    partition: &Partition,
    shard: &mut S,
    now: Now,
) -> Result<Replayed, LoadError> {
    let end = partition.log.log_end_offset();
    let mut offset = partition.log.log_start_offset();
    let mut replayed = Replayed { records: 0, end };
    let at = |offset: Offset, error: &dyn std::fmt::Display| LoadError(format!("offset {offset}: {error}"));
    let mut bytes = Vec::new();
    while offset < end {
        let slice = partition.log.read(offset, READ_BYTES, end, true).map_err(|error| at(offset, &error))?;
        if slice.len == 0 {
            break;
        }
        bytes.resize(slice.len, 0);
        let count = slice.file.read_at(&mut bytes, slice.position).map_err(|error| at(offset, &error))?;
        bytes.truncate(count);
        let before = offset;
        for batch in batches(&bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                // The last batch may be cut.
                Err(BatchError::Truncated { .. }) if offset > before => break,
                Err(error) => return Err(at(offset, &error)),
            };
            batch.verify_crc().map_err(|error| at(offset, &error))?;
            if !batch.header.is_control() {
                for record in batch.records(BATCH_BYTES_MAX).map_err(|error| at(offset, &error))? {
                    let record = record.map_err(|error| at(offset, &error))?;
                    if record.offset < offset.0 || is_planted(Planted::LostCommits) {
                        continue;
                    }
                    let Some(key) = record.key else { continue };
                    let number = record.offset;
                    let record = CoordinatorRecord { key, value: record.value };
                    match shard.replay(&record, now) {
                        Ok(()) => replayed.records += 1,
                        Err(error) => {
                            tracing::warn!(partition = %partition.name, offset = number, %error, "a record cannot be understood; it is skipped");
                        }
                    }
                }
            }
            offset = Offset(batch.header.next_offset());
        }
    }
    Ok(replayed)
}
