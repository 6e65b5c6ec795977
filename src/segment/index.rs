//! The sparse indexes of a segment: sorted entries of one size.
//!
//! ```text
//! .index      relative offset u32, position u32   the batch at `position` ends with that offset
//! .timeindex  timestamp i64, relative offset u32  no record up to that offset is later than that
//! ```
//! All numbers big-endian; offsets count from the segment's base offset. Both files are sorted by both
//! columns. The newest entries are in memory only ([`Index::tail`]), until there are enough of them
//! for a write or the log is rolled, checkpointed or closed: an idle log has no open index.

use std::io::{self, IoSlice};

use crate::env::File;

/// Bytes of entries kept in memory, per index.
pub const TAIL_BYTES_MAX: usize = 2048;

/// One entry of an index.
pub trait Entry: Copy + PartialEq + std::fmt::Debug {
    /// Bytes on disk.
    const SIZE: usize;
    fn encode(&self, out: &mut Vec<u8>);
    /// `bytes` are `SIZE` long; other lengths give `None`.
    fn decode(bytes: &[u8]) -> Option<Self>;
    /// What the index is searched for.
    fn key(&self) -> i64;
}

/// Where a batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch, counted from the segment's base offset.
    pub relative_offset: u32,
    pub position: u32,
}

/// How late the records up to an offset are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Largest timestamp (ms) up to the offset.
    pub timestamp: i64,
    pub relative_offset: u32,
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (offset, position) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            relative_offset: u32::from_be_bytes(*offset),
            position: u32::from_be_bytes(position.try_into().ok()?),
        })
    }

    fn key(&self) -> i64 {
        i64::from(self.relative_offset)
    }
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (timestamp, offset) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            timestamp: i64::from_be_bytes(*timestamp),
            relative_offset: u32::from_be_bytes(offset.try_into().ok()?),
        })
    }

    fn key(&self) -> i64 {
        self.timestamp
    }
}

/// An index: how many entries the file has, and those that are not there yet.
#[derive(Clone, Debug)]
pub struct Index<E> {
    on_file: u32,
    tail: Vec<E>,
    last: Option<E>,
}

impl<E> Default for Index<E> {
    fn default() -> Self {
        Self { on_file: 0, tail: Vec::new(), last: None }
    }
}

/// Where a search has to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search<E> {
    Found(E),
    /// Among that many entries of the file.
    OnFile(u32),
}

impl<E: Entry> Index<E> {
    /// An index of `entries` that are in its file, of which `last` is the last where it is known.
    pub fn on_file(entries: u32, last: Option<E>) -> Self {
        Self { on_file: entries, tail: Vec::new(), last }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.on_file as usize + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of entries that are in the file.
    pub fn len_on_file(&self) -> usize {
        self.on_file as usize
    }

    /// The newest entry, for an index that was opened for appending.
    pub fn last(&self) -> Option<E> {
        self.last
    }

    pub fn push(&mut self, entry: E) {
        self.tail.push(entry);
        self.last = Some(entry);
    }

    /// Whether the entries in memory want to be written.
    pub fn is_tail_full(&self) -> bool {
        (self.tail.len() + 1) * E::SIZE > TAIL_BYTES_MAX
    }

    /// The entries in memory as the file wants them, and where; `None` when there are none.
    pub fn unwritten(&self) -> Option<(Vec<u8>, u64)> {
        if self.tail.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.tail.len() * E::SIZE);
        self.tail.iter().for_each(|entry| entry.encode(&mut bytes));
        Some((bytes, u64::from(self.on_file) * E::SIZE as u64))
    }

    /// The entries that [`Self::unwritten`] gave are in the file.
    pub fn written(&mut self) {
        self.on_file += u32::try_from(self.tail.len()).unwrap_or(0);
        self.tail = Vec::new();
    }

    /// Looks for the last entry whose key is not above `key`.
    pub fn search(&self, key: i64) -> Search<E> {
        match self.tail.partition_point(|entry| entry.key() <= key).checked_sub(1) {
            Some(at) => Search::Found(self.tail[at]),
            None => Search::OnFile(self.on_file),
        }
    }
}

/// The last of the first `entries` entries of `file` whose key is not above `key`.
pub fn search_file<E: Entry>(file: &dyn File, entries: u32, key: i64) -> io::Result<Option<E>> {
    /// Entries read at once, when that few are left.
    const BLOCK: u32 = 128;
    let (mut low, mut high) = (0u32, entries);
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        match entry_at::<E>(file, middle)? {
            Some(entry) if entry.key() <= key => low = middle,
            _ => high = middle,
        }
    }
    let mut block = vec![0; (high - low) as usize * E::SIZE];
    let count = file.read_at(&mut block, u64::from(low) * E::SIZE as u64)?;
    let block = block.get(..count).unwrap_or_default();
    Ok(block.chunks_exact(E::SIZE).filter_map(E::decode).take_while(|entry| entry.key() <= key).last())
}

/// Entry number `at` of a file, if it is there.
pub fn entry_at<E: Entry>(file: &dyn File, at: u32) -> io::Result<Option<E>> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::SIZE];
    let count = file.read_at(bytes, u64::from(at) * E::SIZE as u64)?;
    Ok(if count == E::SIZE { E::decode(bytes) } else { None })
}

/// The last of the first `entries` entries of a file, and the one before it, as far as they are there.
pub fn last_two<E: Entry>(file: &dyn File, entries: u32) -> io::Result<(Option<E>, Option<E>)> {
    let mut bytes = [0; 32];
    let wanted = entries.min(2) as usize;
    let bytes = &mut bytes[..wanted * E::SIZE];
    let position = u64::from(entries.saturating_sub(2)) * E::SIZE as u64;
    let count = file.read_at(bytes, position)?;
    let mut found = bytes.get(..count).unwrap_or_default().chunks_exact(E::SIZE).map(E::decode);
    let (first, second) = (found.next().flatten(), found.next().flatten());
    Ok(if wanted == 2 { (first, second) } else { (None, first) })
}

/// Writes entries at their place in the file.
pub fn write(file: &dyn File, bytes: &[u8], position: u64) -> io::Result<()> {
    file.write_all_at(&mut [IoSlice::new(bytes)], position).inspect_err(|_| {
        // Part of it serves nobody, and takes room where there is none.
        let _ = file.set_len(position);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;
    use crate::env::{Disk, OpenMode};

    #[test]
    fn a_search_finds_the_last_entry_not_above_in_memory_and_on_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("x.index"), OpenMode::Create).unwrap();
        let mut index = Index::default();
        for at in 1..=2000u32 {
            if index.is_tail_full() {
                let (bytes, position) = index.unwritten().unwrap();
                write(&*file, &bytes, position).unwrap();
                index.written();
            }
            index.push(OffsetEntry { relative_offset: at * 10, position: at });
        }
        assert!(index.unwritten().is_some());
        for key in [0, 9, 10, 11, 2559, 2560, 10_005, 19_999, 20_000, 1 << 40] {
            let found = match index.search(key) {
                Search::Found(entry) => Some(entry),
                Search::OnFile(entries) => search_file::<OffsetEntry>(&*file, entries, key).unwrap(),
            };
            let expected = (key / 10).min(2000);
            assert_eq!(found.map_or(0, |entry| i64::from(entry.position)), expected, "{key}");
        }
    }
}
