//! The `.txnindex` of a segment, Kafka's `TransactionIndex`: the aborted transactions whose marker is in the segment.
//!
//! ```text
//! for each, in the order of the markers:
//!   version i16 = 0, producer_id i64, first_offset i64, last_offset i64 (the marker's),
//!   last_stable_offset i64 (where the first transaction began that was open still then, or the offset after the marker)
//! ```
//!
//! Entries that are not in the file yet wait in memory; they go into it with those of the other indexes. A reader that
//! finds an entry whose last stable offset is not below what it may read needs no more: all transactions that begin
//! below have had their markers by then.

use std::io::{self, IoSlice};

use super::transactions::{Change, Transactions};
use crate::env::File;
use crate::protocol::reader::Reader;

/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 34;
const VERSION: i16 = 0;
/// Entries that wait in memory before they are written.
const TAIL_MAX: usize = 120;
/// Entries that are read at once.
const READ_ENTRIES: u64 = 120;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The marker's.
    pub last_offset: i64,
    /// Where the first transaction began that was still open once the marker was written; the offset after the marker
    /// when none was.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    /// What the index is told of a change that is about to be noted.
    pub(super) fn of(change: Change, transactions: &Transactions) -> Option<Self> {
        match change {
            Change::Ended { producer_id, first_offset, marker_offset, is_abort: true } => Some(Self {
                producer_id,
                first_offset,
                last_offset: marker_offset,
                last_stable_offset: transactions.stable_after(producer_id, marker_offset),
            }),
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for number in [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// The entry that these bytes are; `None` where they cannot be one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16().ok()?;
        let mut next = || reader.i64().ok();
        let entry = Self {
            producer_id: next()?,
            first_offset: next()?,
            last_offset: next()?,
            last_stable_offset: next()?,
        };
        let fits = version == VERSION && (0..=entry.last_offset).contains(&entry.first_offset);
        fits.then_some(entry)
    }
}

/// A segment's entries: so many are in the file, the others wait.
#[derive(Debug, Default)]
pub(super) struct AbortedIndex {
    on_file: u32,
    tail: Vec<AbortedTransaction>,
}

impl AbortedIndex {
    /// An index whose entries are all in the file.
    pub(super) fn on_file(entries: u32) -> Self {
        Self { on_file: entries, tail: Vec::new() }
    }

    /// An index whose entries are made again.
    pub(super) fn unwritten(tail: Vec<AbortedTransaction>) -> Self {
        Self { on_file: 0, tail }
    }

    pub(super) fn push(&mut self, entry: AbortedTransaction) {
        self.tail.push(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_file == 0 && self.tail.is_empty()
    }

    pub(super) fn is_tail_full(&self) -> bool {
        self.tail.len() >= TAIL_MAX
    }

    /// What has to be written, and where.
    pub(super) fn to_write(&self) -> Option<(Vec<u8>, u64)> {
        if self.tail.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.tail.len() * ENTRY_BYTES as usize);
        self.tail.iter().for_each(|entry| entry.encode(&mut bytes));
        Some((bytes, u64::from(self.on_file) * ENTRY_BYTES))
    }

    /// It is in the file.
    pub(super) fn written(&mut self) {
        self.on_file = self.on_file.saturating_add(u32::try_from(self.tail.len()).unwrap_or(u32::MAX));
        self.tail = Vec::new();
    }

    /// How many entries are in the file, and the others.
    pub(super) fn parts(&self) -> (u32, Vec<AbortedTransaction>) {
        (self.on_file, self.tail.clone())
    }
}

/// Writes entries.
pub(super) fn write(file: &dyn File, bytes: &[u8], position: u64) -> io::Result<()> {
    file.write_all_at(&mut [IoSlice::new(bytes)], position)
}

/// Of the first `entries` of a file, the number of the first whose marker is at `offset` or above.
pub(super) fn first_from(file: &dyn File, entries: u32, offset: i64) -> io::Result<u32> {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry_at(file, middle)?.last_offset < offset { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn entry_at(file: &dyn File, number: u32) -> io::Result<AbortedTransaction> {
    let mut bytes = [0; ENTRY_BYTES as usize];
    let count = file.read_at(&mut bytes, u64::from(number) * ENTRY_BYTES)?;
    bytes.get(..count).and_then(AbortedTransaction::decode).ok_or_else(|| damaged(number))
}

fn damaged(number: u32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {number} of a .txnindex is none"))
}

/// Calls `take` with the entries of a file from number `first` to `entries` until it has enough; tells whether it has.
pub(super) fn each_from(
    file: &dyn File,
    first: u32,
    entries: u32,
    mut take: impl FnMut(AbortedTransaction) -> bool,
) -> io::Result<bool> {
    let mut number = first;
    while number < entries {
        let wanted = u64::from(entries - number).min(READ_ENTRIES);
        let mut bytes = vec![0; (wanted * ENTRY_BYTES) as usize];
        let count = file.read_at(&mut bytes, u64::from(number) * ENTRY_BYTES)?;
        bytes.truncate(count);
        let before = number;
        for chunk in bytes.chunks_exact(ENTRY_BYTES as usize) {
            let entry = AbortedTransaction::decode(chunk).ok_or_else(|| damaged(number))?;
            if take(entry) {
                return Ok(true);
            }
            number += 1;
        }
        if number == before {
            return Err(damaged(number));
        }
    }
    Ok(false)
}

/// All entries that bytes hold, up to the first that is none.
pub fn entries(bytes: &[u8]) -> Vec<AbortedTransaction> {
    bytes.chunks_exact(ENTRY_BYTES as usize).map_while(AbortedTransaction::decode).collect()
}
