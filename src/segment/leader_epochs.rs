//! Where each leader epoch began (KIP-101), the file `leader-epoch-checkpoint`.
//!
//! Entries grow in epoch and in start offset. An entry may be lost in a crash when no record of its
//! epoch was synced: recovery makes it again from the batches, which carry their epoch.

use super::checkpoint;

/// Name of the file in a partition's folder.
pub const FILE_NAME: &str = "leader-epoch-checkpoint";
/// While it is written; recovery removes it.
pub const TEMPORARY_FILE_NAME: &str = "leader-epoch-checkpoint.tmp";

/// One epoch's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The epochs of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// The newest epoch.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// How many epochs begin below `offset`.
    pub fn count_below(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.start_offset < offset)
    }

    /// Notes that `epoch` begins at `start_offset`; returns whether that changed anything. Entries that
    /// contradict it are dropped.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0
            || self.latest().is_some_and(|last| last.epoch == epoch && start_offset >= last.start_offset)
        {
            return false;
        }
        self.entries.retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// Drops the epochs that begin at `end_offset` or later.
    pub fn truncate_to(&mut self, end_offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < end_offset);
        before != self.entries.len()
    }

    /// The log begins at `start_offset` now: the epoch of that offset begins there, earlier ones go.
    pub fn advance_start(&mut self, start_offset: i64) -> bool {
        let Some(at) = self.entries.iter().rposition(|entry| entry.start_offset <= start_offset) else {
            return false;
        };
        if at == 0 && self.entries[0].start_offset == start_offset {
            return false;
        }
        self.entries.drain(..at);
        self.entries[0].start_offset = start_offset;
        true
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.entries.iter().rev().find(|entry| entry.start_offset <= offset).map(|entry| entry.epoch)
    }

    /// The largest epoch not above `epoch`, and the offset where it ends, as OffsetForLeaderEpoch
    /// answers; `None` where that is not known.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if epoch < 0 {
            return None;
        }
        if epoch == latest.epoch {
            return Some((epoch, log_end_offset));
        }
        let after = self.entries.iter().position(|entry| entry.epoch > epoch)?;
        let end = self.entries[after].start_offset;
        // Older than all that is known: that epoch itself, ending where the first known one begins.
        let floor = after.checked_sub(1).map_or(epoch, |at| self.entries[at].epoch);
        Some((floor, end))
    }

    /// The file's content.
    pub fn encode(&self) -> String {
        checkpoint::encode(self.entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset)))
    }

    /// Reads a file's content; `None` when it is malformed.
    pub fn decode(text: &str) -> Option<Self> {
        // A file that was cut inside its last number would tell of another offset.
        if !text.ends_with('\n') {
            return None;
        }
        let found = checkpoint::decode(text, |line| {
            let (epoch, start_offset) = line.trim().split_once(' ')?;
            Some(EpochStart { epoch: epoch.parse().ok()?, start_offset: start_offset.parse().ok()? })
        })?;
        let mut epochs = Self::default();
        for entry in found {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        Some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_where_the_next_begins() {
        let mut epochs = LeaderEpochs::default();
        assert_eq!(epochs.end_offset_for(0, 10), None);
        for (epoch, start) in [(1, 10), (3, 20), (3, 25), (5, 30)] {
            epochs.assign(epoch, start);
        }
        assert_eq!(epochs.encode(), "0\n3\n1 10\n3 20\n5 30\n");
        assert_eq!(LeaderEpochs::decode(&epochs.encode()), Some(epochs.clone()));
        let ends = |epoch| epochs.end_offset_for(epoch, 40);
        assert_eq!(ends(0), Some((0, 10)));
        assert_eq!(ends(1), Some((1, 20)));
        assert_eq!(ends(2), Some((1, 20)));
        assert_eq!(ends(4), Some((3, 30)));
        assert_eq!(ends(5), Some((5, 40)));
        assert_eq!(ends(6), None);
        assert_eq!((epochs.epoch_of(9), epochs.epoch_of(29)), (None, Some(3)));

        let mut cut = epochs.clone();
        assert!(cut.advance_start(22) && !cut.advance_start(22) && cut.truncate_to(30));
        assert_eq!(cut.entries(), [EpochStart { epoch: 3, start_offset: 22 }]);
        epochs.assign(4, 25);
        assert_eq!(epochs.encode(), "0\n3\n1 10\n3 20\n4 25\n");
    }
}
