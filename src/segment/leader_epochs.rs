//! Where each leader epoch began (KIP-101), the file `leader-epoch-checkpoint`.
//!
//! Entries grow in epoch and in start offset. An entry may be lost in a crash when no record of its
//! epoch was synced: recovery makes it again from the batches, which carry their epoch.

use super::checkpoint;
use super::leadership::EpochBack;
use crate::types::LeaderEpoch;

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

    /// Notes that `epoch` begins at `start_offset`; returns whether that changed anything. Epochs that have no
    /// record below that offset are dropped.
    ///
    /// # Errors
    /// `EpochBack` below the newest epoch: a record of an ended leadership has no place behind those of a later
    /// one, and forgetting the later one would give followers wrong answers about where logs part.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> Result<bool, EpochBack> {
        let Some(last) = self.latest().filter(|_| epoch >= 0) else {
            if epoch >= 0 {
                self.entries.push(EpochStart { epoch, start_offset });
            }
            return Ok(epoch >= 0);
        };
        if epoch < last.epoch {
            return Err(EpochBack { asked: LeaderEpoch(epoch), known: LeaderEpoch(last.epoch) });
        }
        if epoch == last.epoch && start_offset >= last.start_offset {
            return Ok(false);
        }
        self.entries.retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.entries.push(EpochStart { epoch, start_offset });
        Ok(true)
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

    /// Where a follower's log parts from its leader's, who says that of the epochs that the follower has it knows
    /// `epoch` as the newest, which ends there at `end` (KIP-595): the follower cuts its log there, and asks again.
    pub fn parts_at(&self, log_end_offset: i64, epoch: i32, end: i64) -> i64 {
        let own_end =
            self.end_offset_for(epoch, log_end_offset).map_or(log_end_offset, |(_, own_end)| own_end);
        own_end.min(end).min(log_end_offset)
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
            epochs.assign(entry.epoch, entry.start_offset).ok()?;
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
            epochs.assign(epoch, start).unwrap();
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

        let parts = |epoch, end| epochs.parts_at(40, epoch, end);
        assert_eq!(
            (parts(5, 35), parts(5, 90), parts(3, 28), parts(3, 90), parts(4, 99)),
            (35, 40, 28, 30, 30)
        );

        let mut cut = epochs.clone();
        assert!(cut.advance_start(22) && !cut.advance_start(22) && cut.truncate_to(30));
        assert_eq!(cut.entries(), [EpochStart { epoch: 3, start_offset: 22 }]);
        let back = EpochBack { asked: LeaderEpoch(4), known: LeaderEpoch(5) };
        assert_eq!(epochs.assign(4, 40), Err(back));
        assert_eq!(epochs.assign(6, 30), Ok(true));
        assert_eq!(epochs.encode(), "0\n3\n1 10\n3 20\n6 30\n", "epoch 5 has no record");
        assert_eq!(LeaderEpochs::decode("0\n2\n3 10\n1 20\n"), None);
    }
}
