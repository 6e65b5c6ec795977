//! Room on the disk ahead of the end of a growing segment.
//!
//! A file system that finds blocks set aside has less to do for each page that is written (ext4: a third
//! less for writes of 1 MiB), and lays a segment out in long pieces though many logs grow at once. What is
//! set aside is beyond the end of the file, whose length does not change: nothing but `du` sees it, and a
//! crash leaves it there until the segment has grown and rolls.

use crate::env::File;

/// Shorter segments get nothing: many small partitions must not fill the disk with room for more.
const LEN_MIN: u64 = 8 * 1024 * 1024;

/// Most that is set aside at once; an eighth of the segment's length where that is less.
const STEP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How far the last segment's file has room.
#[derive(Debug, Default)]
pub struct Room {
    reserved: u64,
}

impl Room {
    /// Sees to it that a write which ends at `end` has room, where that is worth it. A disk that cannot is no
    /// error: the write itself will tell.
    pub fn for_write(&mut self, file: &dyn File, end: u64, segment_bytes: u32) {
        if end <= self.reserved || end < LEN_MIN {
            return;
        }
        let most = u64::from(segment_bytes).max(end);
        self.reserved = (end + (end / 8).min(STEP_BYTES_MAX)).min(most);
        if let Err(error) = file.reserve(self.reserved) {
            tracing::debug!(%error, "no room could be set aside for a log");
        }
    }

    /// Gives back what is beyond `len`, the file's length, which stays; and its time, where that is given.
    pub fn give_back(
        &mut self,
        len: u64,
        modified_ms: Option<i64>,
        open: impl FnOnce() -> std::io::Result<std::sync::Arc<dyn File>>,
    ) {
        let reserved = std::mem::take(&mut self.reserved);
        if reserved > len
            && let Err(error) = open().and_then(|file| {
                file.set_len(len)?;
                modified_ms.map_or(Ok(()), |modified_ms| file.set_modified(modified_ms))
            })
        {
            tracing::debug!(%error, "room that was set aside for a log could not be given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::env::real::RealDisk;
    use crate::env::{Disk, OpenMode};

    #[test]
    fn a_large_segment_has_room_ahead_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = RealDisk.open(&path, OpenMode::Create).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;
        let mut room = Room::default();
        room.for_write(&*file, 1000, 1 << 30);
        assert_eq!((room.reserved, blocks()), (0, 0));
        room.for_write(&*file, LEN_MIN, 1 << 30);
        assert_eq!(room.reserved, LEN_MIN + LEN_MIN / 8);
        // Not beyond what the segment may hold.
        room.for_write(&*file, 16 * LEN_MIN, 16 * LEN_MIN as u32 + 10);
        assert_eq!(room.reserved, 16 * LEN_MIN + 10);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        room.give_back(0, None, || Ok(file.clone()));
        assert_eq!((room.reserved, blocks()), (0, 0));
    }
}
