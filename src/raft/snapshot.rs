//! Snapshots in files.
//!
//! A file holds, one after the other: the line `raftsman-metadata-snapshot 1`, a line with openraft's
//! snapshot metadata as JSON, one line of JSON per record, a line `end <count of records>`, and a line
//! with the CRC-32C of all bytes before it, as eight hexadecimal digits. Files are written beside their
//! place, synced, renamed, and the folder synced; so a file with a right name is whole, or the disk lies.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{BasicNode, SnapshotMeta};

use crate::env::Disk;
use crate::metadata::{MetadataImage, MetadataRecord};

pub(super) type Meta = SnapshotMeta<u64, BasicNode>;

const HEAD: &str = "raftsman-metadata-snapshot 1";
const SUFFIX: &str = ".snapshot";

/// Where a snapshot lies, for openraft to carry about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
}

/// A snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read the metadata snapshot {0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("the metadata snapshot {0} is damaged: {1}")]
    Damaged(PathBuf, String),
}

/// The folder of the snapshots.
#[derive(Clone, Debug)]
pub(super) struct SnapshotStore {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
}

impl SnapshotStore {
    fn path(&self, meta: &Meta) -> PathBuf {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.dir.join(format!("{index:020}{SUFFIX}"))
    }

    /// A place for a snapshot that is being received.
    pub fn receiving_path(&self) -> PathBuf {
        self.dir.join("receiving.snapshot.part")
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

    /// The newest snapshot, when there is one. One that is damaged is an error and not passed over: the
    /// log before it is gone.
    pub fn newest(&self) -> Result<Option<(Meta, MetadataImage, SnapshotFile)>, SnapshotError> {
        let paths = self.paths().map_err(|e| SnapshotError::Io(self.dir.clone(), e))?;
        let Some(path) = paths.into_iter().next() else { return Ok(None) };
        let content = self.read(&path)?;
        let (meta, image) = decode(&path, &content)?;
        Ok(Some((meta, image, SnapshotFile { path })))
    }

    pub fn read(&self, path: &Path) -> Result<Vec<u8>, SnapshotError> {
        self.disk.read(path).map_err(|e| SnapshotError::Io(path.to_owned(), e))
    }

    /// Makes `content` the newest snapshot, durable, then removes older ones.
    pub fn save(&self, meta: &Meta, content: &[u8]) -> io::Result<SnapshotFile> {
        let path = self.path(meta);
        self.disk.write_atomic(&path, content)?;
        for older in self.paths()? {
            if older < path {
                self.disk.remove_file(&older)?;
            }
        }
        Ok(SnapshotFile { path })
    }
}

/// Whether a file of this name is a snapshot.
pub(super) fn is_snapshot(name: &str) -> bool {
    name.strip_suffix(SUFFIX)
        .is_some_and(|index| index.len() == 20 && index.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn encode(meta: &Meta, image: &MetadataImage) -> serde_json::Result<Vec<u8>> {
    let mut content = format!("{HEAD}\n").into_bytes();
    serde_json::to_writer(&mut content, meta)?;
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

pub(super) fn decode(path: &Path, content: &[u8]) -> Result<(Meta, MetadataImage), SnapshotError> {
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
    let meta: Meta = serde_json::from_str(meta).map_err(|e| damaged(e.to_string()))?;
    let mut image = MetadataImage::default();
    for (count, line) in lines.enumerate() {
        if let Some(expected) = line.strip_prefix("end ") {
            if expected.parse() != Ok(count) {
                return Err(damaged(format!("it holds {count} records instead of {expected}")));
            }
            return Ok((meta, image));
        }
        let record: MetadataRecord = serde_json::from_str(line).map_err(|e| damaged(e.to_string()))?;
        image.replay(&record).map_err(|e| damaged(e.to_string()))?;
    }
    Err(short())
}
