//! What recovery finds behind damage is set aside: `<offset>.log.set-aside`, never loaded, and never removed but
//! with its partition.
//!
//! Recovery cuts a log at its first bad batch. After a power cut nothing that matters lies behind it. After a bad
//! sector or a wrong hand, records lie there that were acknowledged: who wants them back has the file, which is a
//! piece of a log (`raftsman dump-log --files` shows it under a name that ends in `.log`).

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::scan;
use super::segment_file::{Files, file_name};
use crate::env::{DirEntry, File, OpenMode};

/// What the names of such files end in; a number follows where the name was taken.
const ENDING: &str = "log.set-aside";
/// Bytes copied at once.
const COPY_BYTES: u64 = 1024 * 1024;

/// What was set aside of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct SetAside {
    pub bytes: u64,
    /// Where it belongs.
    offsets: BTreeSet<i64>,
}

impl SetAside {
    /// What earlier openings set aside.
    pub(super) fn found(entries: &[DirEntry]) -> Self {
        let mut found = Self::default();
        for entry in entries.iter().filter(|entry| !entry.is_dir && is_set_aside(&entry.name)) {
            found.bytes += entry.len;
            found.offsets.extend(entry.name.get(..20).and_then(|offset| offset.parse::<i64>().ok()));
        }
        found
    }

    /// Whether something was set aside that belongs where the log ends: what it lacks from there on was told.
    pub(super) fn is_at(&self, end: i64) -> bool {
        self.offsets.contains(&end)
    }

    /// Sets a whole segment aside, which lies behind damage.
    pub(super) fn segment(&mut self, files: &Files, base: i64) -> io::Result<()> {
        let (from, to) = (files.path(&file_name(base, "log")), free_name(files, base));
        let file = files.disk.open(&from, OpenMode::Read)?;
        let len = file.len()?;
        let held = Held::of(&*file, 0, len);
        files.disk.rename(&from, &to)?;
        self.bytes += len;
        self.offsets.insert(base);
        held.tell(&to, len);
        Ok(())
    }

    /// Sets the end of a segment aside, from `position` on, where records lie behind the damage, from `first` on. The
    /// offset is the one that belongs there.
    ///
    /// # Errors
    /// The segment is not to be cut then: what is behind the damage is nowhere else.
    pub(super) fn tail(
        &mut self,
        files: &Files,
        file: &dyn File,
        (position, limit): (u64, u64),
        first: u64,
        offset: i64,
    ) -> io::Result<()> {
        let held = Held::of(file, first, limit);
        let (to, len) = (free_name(files, offset), limit - position);
        copy(files, file, (position, limit), &to).map_err(|error| {
            let _ = files.disk.remove_file(&to);
            let message = format!(
                "{} records (offsets {} to {}) lie behind damage at position {position}, and cannot be set aside: {error}",
                held.records, held.first, held.last
            );
            io::Error::new(error.kind(), message)
        })?;
        self.bytes += len;
        self.offsets.insert(offset);
        held.tell(&to, len);
        Ok(())
    }
}

fn copy(
    files: &Files,
    file: &dyn File,
    (position, limit): (u64, u64),
    to: &std::path::Path,
) -> io::Result<()> {
    let copy = files.disk.open(to, OpenMode::Create)?;
    let mut buffer = Vec::new();
    let mut at = position;
    while at < limit {
        buffer.resize(usize::try_from((limit - at).min(COPY_BYTES)).map_err(io::Error::other)?, 0);
        let count = file.read_at(&mut buffer, at)?;
        if count == 0 {
            break;
        }
        copy.write_all_at(&mut [io::IoSlice::new(&buffer[..count])], at - position)?;
        at += count as u64;
    }
    copy.sync_data()?;
    files.disk.sync_dir(&files.dir.read())
}

/// Whether a file of that name was set aside.
pub(super) fn is_set_aside(name: &str) -> bool {
    name.get(20..).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| rest.starts_with(ENDING))
}

fn free_name(files: &Files, offset: i64) -> PathBuf {
    let first = files.path(&file_name(offset, ENDING));
    let others = (2..).map(|number| files.path(&format!("{}-{number}", file_name(offset, ENDING))));
    std::iter::once(first).chain(others).find(|path| !files.disk.exists(path)).unwrap_or_default()
}

/// What batches hold, as far as their headers can be followed.
struct Held {
    first: i64,
    last: i64,
    records: u64,
}

impl Held {
    fn of(file: &dyn File, from: u64, limit: u64) -> Self {
        let mut held = Self { first: -1, last: -1, records: 0 };
        for batch in scan::many_headers(file, from, limit).map_while(Result::ok) {
            if held.first < 0 {
                held.first = batch.header.base_offset;
            }
            held.last = batch.header.last_offset();
            held.records += u64::try_from(batch.header.records_count).unwrap_or_default();
        }
        held
    }

    fn tell(&self, path: &std::path::Path, bytes: u64) {
        let Self { first, last, records } = self;
        tracing::error!(path = %path.display(), first_offset = first, last_offset = last, records, bytes, "what lies behind damage is set aside: the log ends before it");
    }
}
