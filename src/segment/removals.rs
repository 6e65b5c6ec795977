//! Files of a log on their way out: renamed to `*.deleted`, so that no name is read again, and removed when their time has
//! come (`file.delete.delay.ms`). What a crash leaves of them, recovery removes.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::file_cache::FileKind;
use super::segment_file::{Files, file_name};
use crate::env::Disk;

#[derive(Debug, Default)]
pub(super) struct Removals {
    /// Renamed files with the time (ms) when they are to go.
    renamed: Mutex<Vec<(i64, PathBuf)>>,
}

impl Removals {
    /// Renames the files of a segment that is retired; they are removed when due.
    pub(super) fn rename_away(&self, files: &Files, base_offset: i64, due_ms: i64) -> io::Result<()> {
        // The log last: an index without a log is a leftover, a log without an index is a segment.
        for kind in FileKind::ALL {
            let name = file_name(base_offset, kind.extension());
            let (from, to) = (files.path(&name), files.path(&format!("{name}.deleted")));
            match files.disk.rename(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    self.renamed.lock().push((due_ms, to));
                }
            }
        }
        Ok(())
    }

    /// Removes the renamed files whose time has come.
    pub(super) fn remove_due(&self, disk: &dyn Disk, now_ms: i64) {
        let due: Vec<_> = self.renamed.lock().extract_if(.., |(due_ms, _)| *due_ms <= now_ms).collect();
        for (_, path) in due {
            if let Err(error) = remove(disk, &path) {
                tracing::warn!(path = %path.display(), %error, "a file on its way out could not be removed");
            }
        }
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;

    #[test]
    fn files_lose_their_name_at_once_and_go_when_it_is_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(dir.path());
        let left = || {
            let entries = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        for extension in ["log", "index"] {
            std::fs::write(dir.path().join(file_name(7, extension)), "").unwrap();
        }
        let removals = Removals::default();
        removals.rename_away(&files, 7, 100).unwrap();
        let renamed = ["index", "log"].map(|extension| file_name(7, extension) + ".deleted");
        assert_eq!(left(), renamed);
        removals.remove_due(&RealDisk, 99);
        assert_eq!(left(), renamed);
        std::fs::remove_file(dir.path().join(&renamed[0])).unwrap();
        removals.remove_due(&RealDisk, 100);
        assert_eq!(left(), [""; 0], "and what is gone already is no harm");
    }
}
