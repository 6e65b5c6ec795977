//! Reads whole batches of a file one after the other, each held to its checksum.

use std::io;

use super::round::{Pace, Stop};
use crate::env::File;
use crate::protocol::batch::{Batch, BatchHeader};

/// The batches of a file from a position on.
pub(super) struct BatchReader<'a> {
    file: &'a dyn File,
    /// In the file, of the first byte of `buffer` that is not read yet.
    position: u64,
    limit: u64,
    buffer: Vec<u8>,
    start: usize,
    read_bytes: usize,
}

impl<'a> BatchReader<'a> {
    /// Reads from `position`, where a batch starts, to `limit`, by pieces of `read_bytes`.
    pub(super) fn new(file: &'a dyn File, position: u64, limit: u64, read_bytes: usize) -> Self {
        Self { file, position, limit, buffer: Vec::new(), start: 0, read_bytes: read_bytes.max(4096) }
    }

    /// The next batch; `None` at the limit.
    ///
    /// # Errors
    /// `InvalidData` where there is no whole batch, or its checksum does not fit.
    pub(super) fn next(&mut self, pace: Pace<'_>) -> Result<Option<Batch<'_>>, Stop> {
        if self.position >= self.limit {
            return Ok(None);
        }
        let position = self.position;
        self.fill(BatchHeader::SIZE, pace)?;
        let header = BatchHeader::parse(self.rest()).map_err(|error| invalid(position, &error))?;
        // Counted against the file before anything is allocated for it.
        if header.size() as u64 > self.limit - position {
            return Err(invalid(position, &"the batch goes on after the end of the file").into());
        }
        if header.last_offset_delta < 0 || header.base_offset < 0 || header.records_count < 0 {
            return Err(invalid(position, &"the batch's offsets are negative").into());
        }
        self.fill(header.size(), pace)?;
        let at = self.start;
        self.start += header.size();
        self.position += header.size() as u64;
        let batch = Batch::parse(&self.buffer[at..]).map_err(|error| invalid(position, &error))?;
        batch.verify_crc().map_err(|error| invalid(position, &error))?;
        Ok(Some(batch))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Sees to it that `needed` bytes are in the buffer, if the file has them.
    fn fill(&mut self, needed: usize, pace: Pace<'_>) -> Result<(), Stop> {
        if self.rest().len() >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let there = self.buffer.len();
        let left = usize::try_from(self.limit - self.position).unwrap_or(usize::MAX);
        let wanted = needed.max(self.read_bytes).min(left).max(there);
        if self.buffer.capacity() > wanted.max(self.read_bytes) {
            self.buffer.shrink_to(wanted.max(self.read_bytes));
        }
        self.buffer.resize(wanted, 0);
        let count = self.file.read_at(&mut self.buffer[there..], self.position + there as u64)?;
        self.buffer.truncate(there + count);
        pace(count as u64)
    }
}

pub(super) fn invalid(position: u64, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("at position {position}: {error}"))
}
