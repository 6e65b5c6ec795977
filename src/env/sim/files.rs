//! What a simulated disk holds: names and content, each as they are and as they would be found after
//! a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::random::SimRandom;

/// The unit in which a device writes: a torn write ends in a sector of garbage at worst.
const SECTOR: usize = 512;

/// A change of the names. Each belongs to the folder whose sync makes it durable.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Create(PathBuf, usize),
    CreateDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveTree(PathBuf),
}

impl Change {
    fn dir(&self) -> &Path {
        let path = match self {
            // A rename is durable with the folder that it goes to.
            Change::Create(path, _)
            | Change::CreateDir(path)
            | Change::Rename(_, path)
            | Change::Remove(path)
            | Change::RemoveTree(path) => path,
        };
        path.parent().unwrap_or(path)
    }

    /// A change within a folder that is called `to` now.
    fn follow(&mut self, from: &Path, to: &Path) {
        if !self.dir().starts_with(from) {
            return;
        }
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = join(to, rest);
            }
        };
        match self {
            Change::Rename(old, new) => {
                moved(old);
                moved(new);
            }
            Change::Create(path, _)
            | Change::CreateDir(path)
            | Change::Remove(path)
            | Change::RemoveTree(path) => moved(path),
        }
    }
}

/// One version of the names.
#[derive(Debug, Clone, Default)]
struct Tree {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

impl Tree {
    fn is_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || self.dirs.contains(path)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path, id) => {
                self.files.insert(path.clone(), *id);
            }
            Change::CreateDir(path) => {
                self.dirs.insert(path.clone());
            }
            Change::Remove(path) => {
                self.files.remove(path);
            }
            Change::RemoveTree(path) => {
                self.files.retain(|p, _| !p.starts_with(path));
                self.dirs.retain(|p| !p.starts_with(path));
            }
            Change::Rename(from, to) => {
                if let Some(id) = self.files.remove(from) {
                    self.files.insert(to.clone(), id);
                } else if self.dirs.contains(from) {
                    let moved = |p: &Path| p.strip_prefix(from).map(|rest| join(to, rest)).ok();
                    self.files = self
                        .files
                        .iter()
                        .map(|(p, id)| (moved(p).unwrap_or_else(|| p.clone()), *id))
                        .collect();
                    self.dirs = self.dirs.iter().map(|p| moved(p).unwrap_or_else(|| p.clone())).collect();
                }
            }
        }
    }

    /// Takes away what has no folder (its creation was lost).
    fn drop_orphans(&mut self) {
        let dirs = std::mem::take(&mut self.dirs);
        for dir in dirs {
            // Ascending: parents come first.
            if dir.parent().is_none_or(|parent| self.is_dir(parent)) {
                self.dirs.insert(dir);
            }
        }
        let files = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .filter(|(path, _)| path.parent().is_none_or(|parent| self.is_dir(parent)))
            .collect();
    }
}

fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

/// The names as they are, as they are durably, and the changes that lie between.
#[derive(Debug, Default)]
pub(super) struct Names {
    live: Tree,
    durable: Tree,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        self.live.files.get(path).copied()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.live.is_dir(path)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.live.files.iter().map(|(path, id)| (path.as_path(), *id))
    }

    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.live.dirs.iter().map(PathBuf::as_path)
    }

    pub(super) fn change(&mut self, change: Change) {
        // What is not synced yet belongs to the folder, not to its name, which may soon be another folder's.
        match &change {
            Change::RemoveTree(gone) => self.unsynced.retain(|change| !change.dir().starts_with(gone)),
            Change::Rename(from, to) if self.live.is_dir(from) => {
                self.unsynced.iter_mut().for_each(|change| change.follow(from, to));
            }
            _ => {}
        }
        self.live.apply(&change);
        self.unsynced.push(change);
    }

    /// Makes the changes in one folder durable. Those of its parents are not: a folder whose own
    /// creation was not synced may be gone with all that is in it.
    pub(super) fn sync(&mut self, dir: &Path) {
        let Self { durable, unsynced, .. } = self;
        unsynced.retain(|change| {
            let here = change.dir() == dir;
            if here {
                durable.apply(change);
            }
            !here
        });
    }

    /// Keeps a random prefix of each folder's unsynced changes.
    pub(super) fn power_cut(&mut self, random: &mut SimRandom) {
        let mut kept: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for change in &self.unsynced {
            *kept.entry(change.dir().to_owned()).or_default() += 1;
        }
        for count in kept.values_mut() {
            *count = random.index(*count + 1);
        }
        for change in std::mem::take(&mut self.unsynced) {
            if let Some(count) = kept.get_mut(change.dir())
                && *count > 0
            {
                *count -= 1;
                self.durable.apply(&change);
            }
        }
        self.durable.drop_orphans();
        self.live = self.durable.clone();
    }
}

#[derive(Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

fn apply(content: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(position, bytes) => {
            let end = position + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(*position..end) {
                place.copy_from_slice(bytes);
            }
        }
        Write::Length(len) => content.resize(*len, 0),
    }
}

/// A file's content as it is, as it is durably, and the writes that lie between.
#[derive(Debug, Default)]
pub(super) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// Writes that a failed sync gave up: a later one does not make them durable. They may have
    /// reached the device all the same.
    lost: bool,
    /// How far there is room set aside.
    reserved: usize,
    pub modified_ms: i64,
}

impl Inode {
    pub(super) fn new(modified_ms: i64) -> Self {
        Self { modified_ms, ..Self::default() }
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    fn push(&mut self, write: Write) {
        apply(&mut self.live, &write);
        self.unsynced.push(write);
    }

    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        self.push(Write::Bytes(position, bytes.to_vec()));
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.reserved = 0;
        self.push(Write::Length(len));
    }

    /// What it takes of the disk: its length, or the room that is set aside for more.
    pub(super) fn room(&self) -> usize {
        self.live.len().max(self.reserved)
    }

    pub(super) fn reserve(&mut self, len: usize) {
        self.reserved = self.reserved.max(len);
    }

    pub(super) fn sync(&mut self) {
        // After a failed sync what is there and what is durable have parted; nothing brings them
        // together again but a new file.
        if self.lost {
            return;
        }
        for write in self.unsynced.drain(..) {
            apply(&mut self.durable, &write);
        }
    }

    pub(super) fn lose_sync(&mut self) {
        self.lost = true;
    }

    pub(super) fn flip_bit(&mut self, at: usize) -> bool {
        match self.live.get_mut(at) {
            Some(byte) => *byte ^= 0x10,
            None => return false,
        }
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= 0x10;
        }
        true
    }

    /// Keeps a random prefix of the unsynced writes, and of the one after it a part, or none of its
    /// bytes but its length.
    pub(super) fn power_cut(&mut self, random: &mut SimRandom) {
        self.reserved = 0;
        let writes = std::mem::take(&mut self.unsynced);
        // Most cuts happen soon after a write, when nothing of it has reached the device, or long
        // after, when all has.
        let kept = match random.below(4) {
            0 => 0,
            1 => writes.len(),
            _ => random.index(writes.len() + 1),
        };
        for write in writes.iter().take(kept) {
            apply(&mut self.durable, write);
        }
        if let Some(Write::Bytes(position, bytes)) = writes.get(kept) {
            let part = random.index(bytes.len() + 1);
            let (head, tail) = bytes.split_at(part);
            match random.below(4) {
                0 => {}
                1 => apply(&mut self.durable, &Write::Bytes(*position, head.to_vec())),
                2 => {
                    // The length got there, the bytes from `part` on did not.
                    let end = position + bytes.len();
                    let len = self.durable.len().max(end);
                    apply(&mut self.durable, &Write::Length(len));
                    apply(&mut self.durable, &Write::Bytes(*position, head.to_vec()));
                }
                _ => {
                    let garbage: Vec<u8> =
                        tail.iter().take(SECTOR).map(|_| random.next_u64() as u8).collect();
                    apply(&mut self.durable, &Write::Bytes(*position, head.to_vec()));
                    apply(&mut self.durable, &Write::Bytes(position + part, garbage));
                }
            }
        }
        self.live.clone_from(&self.durable);
        self.lost = false;
    }
}
