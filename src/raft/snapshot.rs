//! Snapshots in files.
//!
//! A file holds, one after the other: the line `raftsman-metadata-snapshot 1`, a line with openraft's
//! snapshot metadata as JSON, one line of JSON per record, a line `end <count of records>`, and a line
//! with the CRC-32C of all bytes before it, as eight hexadecimal digits. Files are written beside their
//! place, synced, renamed, and the folder synced; so a file with a right name is whole, or the disk lies.
//!
//! The line with the metadata also has `records_index`, the index of the last entry with records that took effect
//! (see [`super::Fence`]). Files of earlier versions lack it; then the last entry of all counts.
//!
//! Who sends a snapshot holds its file open, so that it may lose its name to a newer one meanwhile.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::SnapshotMeta;
use serde::Deserialize;

use super::member::Member;
use super::room::is_lack_of_room;
use crate::env::{Blocking, Disk, File, OpenMode, WorkPanicked};
use crate::metadata::{MetadataImage, MetadataRecord};

pub(super) type Meta = SnapshotMeta<u64, Member>;

const HEAD: &str = "raftsman-metadata-snapshot 1";
const SUFFIX: &str = ".snapshot";
const RECEIVED_SUFFIX: &str = ".snapshot.part";
const TEMPORARY_SUFFIX: &str = ".snapshot.tmp";

/// The index of the last entry whose records are in a snapshot.
#[derive(Deserialize)]
struct RecordsIndex {
    #[serde(default)]
    records_index: Option<u64>,
}

/// An open file with a snapshot, for openraft to carry about.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
    pub file: Arc<dyn File>,
}

impl SnapshotFile {
    /// All of it. Blocks.
    pub(super) fn read(&self) -> Result<Vec<u8>, SnapshotError> {
        let read = || {
            let mut content = vec![0; usize::try_from(self.file.len()?).map_err(io::Error::other)?];
            let count = self.file.read_at(&mut content, 0)?;
            content.truncate(count);
            Ok(content)
        };
        read().map_err(|e| SnapshotError::Io(self.path.clone(), e))
    }
}

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Content {
    pub meta: Meta,
    pub image: MetadataImage,
    pub records_index: u64,
}

/// A snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read or write the metadata snapshot {0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("the metadata snapshot {0} is damaged: {1}")]
    Damaged(PathBuf, String),
    #[error("a metadata snapshot was not made: {0}")]
    NotMade(#[from] serde_json::Error),
    #[error(transparent)]
    Panicked(#[from] WorkPanicked),
}

impl SnapshotError {
    pub(super) fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Io(_, error) if is_lack_of_room(error))
    }
}

/// The folder of the snapshots. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct SnapshotStore {
    disk: Arc<dyn Disk>,
    blocking: Arc<dyn Blocking>,
    dir: PathBuf,
    /// Snapshots received so far, each in a file of its own.
    received: Arc<AtomicU64>,
}

impl SnapshotStore {
    pub(super) fn new(disk: Arc<dyn Disk>, blocking: Arc<dyn Blocking>, dir: PathBuf) -> Self {
        Self { disk, blocking, dir, received: Arc::default() }
    }

    /// Runs work that blocks on a copy of this store.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let store = self.clone();
        self.blocking.run(move || work(store)).await?
    }

    fn path(&self, meta: &Meta) -> PathBuf {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.dir.join(format!("{index:020}{SUFFIX}"))
    }

    /// A place for a snapshot that is being received. Blocks.
    pub(super) fn receive(&self) -> Result<SnapshotFile, SnapshotError> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number}{RECEIVED_SUFFIX}"));
        let opened = self.disk.open(&path, OpenMode::Create).and_then(|file| {
            file.set_len(0)?;
            Ok(file)
        });
        match opened {
            Ok(file) => Ok(SnapshotFile { path, file }),
            Err(e) => Err(SnapshotError::Io(path, e)),
        }
    }

    /// Removes what was received and is not needed any more.
    pub(super) fn forget(&self, received: &SnapshotFile) {
        let is_ours = received.path.parent() == Some(&self.dir)
            && received.path.to_string_lossy().ends_with(RECEIVED_SUFFIX);
        if is_ours && let Err(error) = self.disk.remove_file(&received.path) {
            tracing::warn!(path = %received.path.display(), %error, "a received metadata snapshot was not removed");
        }
    }

    /// Removes what an earlier process left half done.
    pub(super) fn clean(&self) -> Result<(), SnapshotError> {
        let entries = self.disk.list(&self.dir).map_err(|e| SnapshotError::Io(self.dir.clone(), e))?;
        for entry in entries {
            if entry.name.ends_with(RECEIVED_SUFFIX) || entry.name.ends_with(TEMPORARY_SUFFIX) {
                let path = self.dir.join(entry.name);
                // On a disk that takes no change it stays, and does no harm.
                if let Err(error) = self.disk.remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "what is left of a metadata snapshot was not removed");
                }
            }
        }
        Ok(())
    }

    /// Paths of all snapshots, the newest first.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut names: Vec<_> = self
            .disk
            .list(&self.dir)?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| is_snapshot(name))
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names.into_iter().map(|name| self.dir.join(name)).collect())
    }

    fn open(&self, path: PathBuf) -> Result<SnapshotFile, SnapshotError> {
        match self.disk.open(&path, OpenMode::Read) {
            Ok(file) => Ok(SnapshotFile { path, file }),
            Err(e) => Err(SnapshotError::Io(path, e)),
        }
    }

    /// The newest snapshot, when there is one. One that is damaged is an error and not passed over: the
    /// log before it is gone.
    pub(super) fn newest(&self) -> Result<Option<(Content, SnapshotFile)>, SnapshotError> {
        let paths = self.paths().map_err(|e| SnapshotError::Io(self.dir.clone(), e))?;
        let Some(path) = paths.into_iter().next() else { return Ok(None) };
        let file = self.open(path)?;
        let content = decode(&file.path, &file.read()?)?;
        Ok(Some((content, file)))
    }

    /// Makes `content` the newest snapshot, durable, then removes older ones. Blocks.
    pub(super) fn save(&self, meta: &Meta, content: &[u8]) -> Result<SnapshotFile, SnapshotError> {
        let path = self.path(meta);
        if let Err(error) = self.disk.write_atomic(&path, content) {
            // A part of it would take the room that others wait for.
            let mut temporary = path.clone().into_os_string();
            temporary.push(".tmp");
            _ = self.disk.remove_file(Path::new(&temporary));
            return Err(SnapshotError::Io(path, error));
        }
        let saved = self.open(path)?;
        let older = self.paths().map_err(|e| SnapshotError::Io(self.dir.clone(), e))?;
        for older in older.iter().filter(|older| **older < saved.path) {
            if let Err(error) = self.disk.remove_file(older) {
                tracing::warn!(path = %older.display(), %error, "an old metadata snapshot was not removed");
            }
        }
        Ok(saved)
    }
}

/// Whether a file of this name is a snapshot.
pub(super) fn is_snapshot(name: &str) -> bool {
    name.strip_suffix(SUFFIX)
        .is_some_and(|index| index.len() == 20 && index.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn encode(content: &Content) -> serde_json::Result<Vec<u8>> {
    let Content { meta, image, records_index } = content;
    let mut content = format!("{HEAD}\n").into_bytes();
    let mut meta = serde_json::to_value(meta)?;
    if let Some(fields) = meta.as_object_mut() {
        fields.insert("records_index".into(), (*records_index).into());
    }
    serde_json::to_writer(&mut content, &meta)?;
    content.push(b'\n');
    let mut count = 0_u64;
    for record in image.snapshot() {
        serde_json::to_writer(&mut content, &record)?;
        content.push(b'\n');
        count += 1;
    }
    let mut tail = format!("end {count}\n");
    content.extend_from_slice(tail.as_bytes());
    tail.clear();
    // Writing to a string cannot fail.
    _ = writeln!(tail, "{:08x}", crc32c::crc32c(&content));
    content.extend_from_slice(tail.as_bytes());
    Ok(content)
}

pub(super) fn decode(path: &Path, content: &[u8]) -> Result<Content, SnapshotError> {
    let damaged = |why: String| SnapshotError::Damaged(path.to_owned(), why);
    let short = || damaged("it ends too early".into());
    let (body, checksum) = content.len().checked_sub(9).map(|at| content.split_at(at)).ok_or_else(short)?;
    let expected = format!("{:08x}\n", crc32c::crc32c(body));
    if checksum != expected.as_bytes() {
        return Err(damaged("its checksum does not match".into()));
    }
    let text = std::str::from_utf8(body).map_err(|e| damaged(e.to_string()))?;
    let mut lines = text.lines();
    let head = lines.next().ok_or_else(short)?;
    if head != HEAD {
        return Err(damaged(format!("it starts with '{head}' instead of '{HEAD}'")));
    }
    let meta = lines.next().ok_or_else(short)?;
    let wrong = |e: serde_json::Error| damaged(e.to_string());
    let RecordsIndex { records_index } = serde_json::from_str(meta).map_err(wrong)?;
    let meta: Meta = serde_json::from_str(meta).map_err(wrong)?;
    let records_index = records_index.unwrap_or_else(|| meta.last_log_id.map_or(0, |id| id.index));
    let mut image = MetadataImage::default();
    for (count, line) in lines.enumerate() {
        if let Some(expected) = line.strip_prefix("end ") {
            if expected.parse() != Ok(count) {
                return Err(damaged(format!("it holds {count} records instead of {expected}")));
            }
            return Ok(Content { meta, image, records_index });
        }
        let record: MetadataRecord = serde_json::from_str(line).map_err(|e| damaged(e.to_string()))?;
        image.restore(&record).map_err(|e| damaged(e.to_string()))?;
    }
    Err(short())
}
