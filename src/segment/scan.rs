//! Walking over the batches of a `.log` file, without reading more than needed.

use std::io;

use crate::env::File;
use crate::protocol::batch::BatchHeader;

/// Bytes read at once when only headers matter: an index entry comes after about 4 KiB, so one read
/// mostly finds what is looked for.
const HEADER_READ_BYTES: usize = 4096;
/// Bytes read at once when all bytes matter.
const WHOLE_READ_BYTES: usize = 1024 * 1024;
/// Most bytes whose checksums are computed in search of a batch behind damage: about a second.
const CHECKED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// A batch's header with its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    pub header: BatchHeader,
    pub position: u64,
}

impl Located {
    /// Where the next batch starts.
    pub fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// The headers of the batches from a position on. Ends at `limit`, or with an `InvalidData` error where
/// there is no batch or the batch does not end by `limit`.
pub struct Headers<'a> {
    file: &'a dyn File,
    position: u64,
    limit: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    read_bytes: usize,
}

/// The headers between `position`, where a batch must start, and `limit`.
pub fn headers(file: &dyn File, position: u64, limit: u64) -> Headers<'_> {
    Headers { file, position, limit, buffer: Vec::new(), buffer_at: 0, read_bytes: HEADER_READ_BYTES }
}

/// As [`headers`], for many of them: with larger reads.
pub fn many_headers(file: &dyn File, position: u64, limit: u64) -> Headers<'_> {
    Headers { read_bytes: 16 * HEADER_READ_BYTES, ..headers(file, position, limit) }
}

impl Headers<'_> {
    fn read(&mut self) -> io::Result<Located> {
        let position = self.position;
        let bytes = loop {
            let skip = position.checked_sub(self.buffer_at).and_then(|skip| usize::try_from(skip).ok());
            let there = skip.and_then(|skip| self.buffer.get(skip..)).unwrap_or_default();
            if there.len() >= BatchHeader::SIZE || self.buffer_at == position && !self.buffer.is_empty() {
                break there;
            }
            self.buffer.resize(self.read_bytes, 0);
            let count = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(count);
            self.buffer_at = position;
            if count == 0 {
                break &[];
            }
        };
        let header = BatchHeader::parse(bytes).map_err(|error| invalid(position, &error))?;
        let located = Located { header, position };
        if located.end() > self.limit {
            return Err(invalid(position, &"the batch goes on after the end of the file"));
        }
        if header.last_offset_delta < 0 || header.base_offset < 0 {
            return Err(invalid(position, &"the batch's offsets are negative"));
        }
        Ok(located)
    }
}

/// The batch claims offsets that it cannot have: it lies between `from` and `to`.
pub fn misplaced(batch: &Located, from: i64, to: i64) -> io::Error {
    let (first, last) = (batch.header.base_offset, batch.header.last_offset());
    let message = format!("the batch claims offsets {first} to {last}, where {from} to {} belong", to - 1);
    invalid(batch.position, &message)
}

pub fn invalid(position: u64, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("at position {position}: {error}"))
}

impl Iterator for Headers<'_> {
    type Item = io::Result<Located>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.limit {
            return None;
        }
        let located = self.read();
        self.position = located.as_ref().map_or(self.limit, Located::end);
        Some(located)
    }
}

/// The first whole and sound batch from a position on, wherever it starts, that holds an offset from `offset` on.
///
/// Records may look like the headers of batches (a producer may mean them to), each of which wants its checksum looked
/// at: when that was done in vain for [`CHECKED_BYTES_MAX`], the next that looks like one is believed.
pub fn find_sound(file: &dyn File, from: u64, limit: u64, offset: i64) -> io::Result<Option<Located>> {
    find_sound_within(file, from, limit, offset, CHECKED_BYTES_MAX)
}

fn find_sound_within(
    file: &dyn File,
    from: u64,
    limit: u64,
    offset: i64,
    checked_bytes_max: u64,
) -> io::Result<Option<Located>> {
    let mut checked_bytes = 0;
    /// Where a header says that its batch is of magic 2.
    const MAGIC_AT: usize = 16;
    let (mut buffer, mut whole, mut position) = (Vec::new(), Vec::new(), from);
    while position < limit {
        let wanted = (limit - position).min(WHOLE_READ_BYTES as u64) as usize;
        buffer.resize(wanted, 0);
        let count = file.read_at(&mut buffer, position)?;
        buffer.truncate(count);
        for at in 0..count.saturating_sub(BatchHeader::SIZE - 1) {
            // A look at one byte sorts out nearly all places, and all zeros.
            if buffer[at + MAGIC_AT] != 2 {
                continue;
            }
            let Ok(header) = BatchHeader::parse(&buffer[at..]) else { continue };
            let batch = Located { header, position: position + at as u64 };
            let may_be = header.base_offset >= offset
                && header.base_offset - offset <= i64::from(i32::MAX)
                && header.last_offset_delta >= 0
                && batch.end() <= limit;
            if !may_be {
                continue;
            }
            checked_bytes += header.size() as u64;
            if checked_bytes > checked_bytes_max || is_sound(file, &batch, &mut whole)? {
                return Ok(Some(batch));
            }
        }
        if count < wanted || position + count as u64 >= limit {
            break;
        }
        // A header may lie across the border.
        position += (count - (BatchHeader::SIZE - 1)) as u64;
    }
    Ok(None)
}

/// Whether the bytes of a batch fit the checksum in its header. Reads in pieces.
pub fn is_sound(file: &dyn File, batch: &Located, buffer: &mut Vec<u8>) -> io::Result<bool> {
    /// The checksum covers the bytes from `attributes` on.
    const ATTRIBUTES_AT: u64 = 21;
    let mut position = batch.position + ATTRIBUTES_AT;
    let end = batch.end();
    let mut computed = 0;
    while position < end {
        let wanted = (end - position).min(WHOLE_READ_BYTES as u64) as usize;
        buffer.resize(wanted, 0);
        let count = file.read_at(buffer, position)?;
        if count < wanted {
            return Ok(false);
        }
        computed = crc32c::crc32c_append(computed, buffer);
        position += wanted as u64;
    }
    Ok(computed == batch.header.crc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;
    use crate::env::{Disk, OpenMode};

    #[test]
    fn records_that_look_like_batches_do_not_hold_up_the_search_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("x"), OpenMode::Create).unwrap();
        // 100 headers, each of a batch that reaches to the end of the file.
        let len = 100 * 1000u32;
        let mut content = vec![0; len as usize];
        for (at, header) in content.chunks_mut(1000).enumerate() {
            let size = len - 1000 * at as u32;
            header[8..12].copy_from_slice(&(size - 12).to_be_bytes());
            header[16] = 2;
        }
        file.write_all_at(&mut [io::IoSlice::new(&content)], 0).unwrap();
        let find =
            |checked_bytes_max| find_sound_within(&*file, 0, u64::from(len), 0, checked_bytes_max).unwrap();
        assert_eq!(find(u64::MAX), None);
        // The first ten were looked at.
        assert_eq!(find(1_000_000).map(|batch| batch.position), Some(10_000));
    }
}
