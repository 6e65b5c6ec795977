//! The data folder (`log.dir`): whose it is, the logs in it, and what is noted of all of them.
//!
//! ```text
//! .lock                             held while a broker runs on the folder
//! meta.properties                   cluster, node and folder id
//! .kafka_cleanshutdown              there while no broker runs and all logs were closed
//! recovery-point-offset-checkpoint  below, a log was synced
//! log-start-offset-checkpoint       where logs begin, when not with their first segment
//! replication-offset-checkpoint     high watermarks
//! cleaner-offset-checkpoint         where compaction goes on
//! <topic>-<n>/                      a log
//! metadata-index-checkpoint         up to which entry of the metadata log this folder's logs follow it
//! <topic>-<n>.<32 hex>-delete/      a log on its way out; -stray: one that no topic claimed, which is kept
//! ```
//!
//! What is noted of the logs in the checkpoints, and when, is in [`noting`].

mod noting;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;

use super::LogConfig;
use super::checkpoint;
use super::file_cache::{DiskErrors, FileCache};
use super::log::{Log, LogPlace};
use super::meta_properties::{self, META_PROPERTIES, MetaProperties, PARTITION_METADATA};
use super::ownership;
use crate::env::{Blocking, Chance, Clock, Disk, OpenMode, Space, Surroundings};
use crate::types::{NodeId, Offset, TopicId, TopicPartition};

const LOCK: &str = ".lock";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const FIRST_DIRTY: &str = "cleaner-offset-checkpoint";
const METADATA_INDEX: &str = "metadata-index-checkpoint";

/// Longest name of a folder that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// How a data folder is opened.
#[derive(Clone, Debug)]
pub struct DataDirOptions {
    pub dir: PathBuf,
    pub node_id: NodeId,
    /// The cluster that a new folder is made for.
    pub cluster_id: String,
    /// Threads that open logs.
    pub recovery_threads: usize,
    /// Files kept open, about.
    pub open_files_max: usize,
    /// A log that the checkpoints know, and whose folder is gone, may begin anew; one that lacks records goes on with
    /// what is there.
    pub accepts_missing_data: bool,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("another broker runs on the data folder {}", .0.display())]
    Locked(PathBuf),
    #[error("the data folder {} (log.dirs) cannot be made: {error}", dir.display())]
    Make { dir: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {reason}", path.display())]
    MetaProperties { path: PathBuf, reason: String },
    #[error("the data folder {} belongs to node {found}, this is node {expected}", dir.display())]
    OtherNode { dir: PathBuf, found: NodeId, expected: NodeId },
    #[error("opening the data folder was stopped: {0}")]
    Stopped(String),
}

impl DataDirError {
    /// The thread that was to open it ended without doing so.
    pub fn stopped(error: &dyn fmt::Display) -> Self {
        Self::Stopped(error.to_string())
    }
}

/// A log that cannot be made, moved or removed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} belongs to topic {found}, not to {expected}", path.display())]
    OtherTopic { path: PathBuf, found: TopicId, expected: TopicId },
    #[error(
        "{} is missing, though it held records up to offset {end} (by the checkpoints beside it): bring the folder back, or \
         delete the topic, or start with raftsman server --accept-missing-data, which begins the partition anew",
        path.display()
    )]
    Missing { path: PathBuf, end: Offset },
}

/// A log that was there at the start.
#[derive(Clone, Debug)]
pub struct OpenedLog {
    pub name: TopicPartition,
    /// `TopicId::ZERO` where the folder does not say.
    pub topic_id: TopicId,
    pub log: Arc<Log>,
    /// As last noted.
    pub high_watermark: Offset,
}

/// What the checkpoint files hold, by their names.
type Checkpoints = BTreeMap<&'static str, BTreeMap<TopicPartition, Offset>>;

/// The data folder of a running broker.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    blocking: Arc<dyn Blocking>,
    cache: Arc<FileCache>,
    options: DataDirOptions,
    meta: MetaProperties,
    logs: Mutex<BTreeMap<TopicPartition, Arc<Log>>>,
    /// What the checkpoints say of logs that could not be opened: kept in them until the logs are.
    unopened: Mutex<BTreeMap<TopicPartition, Noted>>,
    removals: Mutex<Vec<Removal>>,
    /// Deleted since the checkpoints were written last.
    gone: Mutex<BTreeSet<TopicPartition>>,
    /// Folders that no topic claimed.
    strays: AtomicUsize,
    /// As last written.
    metadata_index: Mutex<u64>,
    /// One checkpoint at a time; holds what was written last, as unchanged files are not written again.
    checkpoints: Mutex<Checkpoints>,
    /// The broker epoch of the process before, if it closed all logs; -1 otherwise.
    closed_epoch: AtomicI64,
    _lock: Box<dyn Any + Send + Sync>,
}

/// The broker epoch in the marker of a clean shutdown (KIP-966); -1 where it says none, as those of old versions.
fn epoch_in_marker(content: &[u8]) -> i64 {
    #[derive(serde::Deserialize)]
    struct Marker {
        #[serde(rename = "brokerEpoch")]
        broker_epoch: i64,
    }
    serde_json::from_slice(content).map_or(-1, |marker: Marker| marker.broker_epoch)
}

/// What the checkpoints say of a log.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    log_start: Option<Offset>,
    recovery_point: Option<Offset>,
    first_dirty: Option<Offset>,
    high_watermark: Option<Offset>,
    /// Its folder was not there at the start.
    is_missing: bool,
}

impl Noted {
    /// Up to where it surely held records.
    fn end(&self) -> Offset {
        self.recovery_point.max(self.high_watermark).unwrap_or_default()
    }

    /// What the checkpoint of that name says.
    fn of(&self, checkpoint: &str) -> Option<Offset> {
        match checkpoint {
            LOG_STARTS => self.log_start,
            RECOVERY_POINTS => self.recovery_point,
            FIRST_DIRTY => self.first_dirty,
            _ => self.high_watermark,
        }
    }
}

/// A folder on its way out.
#[derive(Debug)]
struct Removal {
    due_ms: i64,
    path: PathBuf,
    log: Option<Arc<Log>>,
}

impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataDir")
            .field("dir", &self.options.dir)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl DataDir {
    /// Opens the folder, made when missing, and all logs in it. Logs that cannot be opened are left
    /// out, and reported; [`Self::create_log`] tries them again.
    pub fn open(
        surroundings: &Surroundings,
        options: DataDirOptions,
    ) -> Result<(DataDir, Vec<OpenedLog>), DataDirError> {
        let data = Self::take(surroundings, options)?;
        let opened = data.open_logs()?;
        Ok((data, opened))
    }

    /// Takes the folder, made when missing, for this process alone. Its logs are opened by [`Self::open_logs`].
    pub fn take(surroundings: &Surroundings, options: DataDirOptions) -> Result<DataDir, DataDirError> {
        let Surroundings { clock, disk, chance, blocking, .. } = surroundings.clone();
        let dir = options.dir.clone();
        let failed = |error| DataDirError::Make { dir: dir.clone(), error };
        if !disk.exists(&dir.join(META_PROPERTIES)) {
            disk.create_dir_durably(&dir).map_err(failed)?;
        }
        let lock_path = dir.join(LOCK);
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked(dir.clone()),
            _ => DataDirError::Io { path: lock_path.clone(), error },
        })?;
        let meta = meta_of(&*disk, &*chance, &options)?;
        Ok(DataDir {
            cache: Arc::new(FileCache::new(options.open_files_max)),
            disk,
            clock,
            chance,
            blocking,
            options,
            meta,
            logs: Mutex::default(),
            unopened: Mutex::default(),
            removals: Mutex::default(),
            gone: Mutex::default(),
            strays: AtomicUsize::new(0),
            metadata_index: Mutex::default(),
            checkpoints: Mutex::default(),
            closed_epoch: AtomicI64::new(-1),
            _lock: lock,
        })
    }

    /// Opens all logs, once. Those that cannot be opened are left out, and reported.
    pub fn open_logs(&self) -> Result<Vec<OpenedLog>, DataDirError> {
        let dir = &self.options.dir;
        let marker = dir.join(CLEAN_SHUTDOWN);
        let failed = |path: &Path, error| DataDirError::Io { path: path.to_owned(), error };
        let was_closed = self.disk.exists(&marker);
        let opened = self.open_each_log(was_closed).map_err(|error| failed(dir, error))?;
        if was_closed {
            let content = self.disk.read(&marker).map_err(|error| failed(&marker, error))?;
            self.closed_epoch.store(epoch_in_marker(&content), Ordering::Relaxed);
        }
        // From now on logs change: should the broker crash, they have to be looked at.
        if was_closed {
            self.disk.remove_file(&marker).map_err(|error| failed(&marker, error))?;
            self.disk.sync_dir(dir).map_err(|error| failed(dir, error))?;
        }
        Ok(opened)
    }

    /// The broker epoch of the process before, if it closed all logs; -1 otherwise. Known once the logs are open.
    pub fn closed_epoch(&self) -> i64 {
        self.closed_epoch.load(Ordering::Relaxed)
    }

    fn open_each_log(&self, was_closed: bool) -> io::Result<Vec<OpenedLog>> {
        let read = |name: &str| {
            let path = self.options.dir.join(name);
            checkpoint::read_offsets(&*self.disk, &path).map(Some).or_else(|error| {
                // All of it can be made again, at the price of a full recovery.
                tracing::warn!(path = %path.display(), %error, "a checkpoint cannot be read");
                if error.kind() == io::ErrorKind::InvalidData { Ok(None) } else { Err(error) }
            })
        };
        let offsets = |name: &str| read(name).map(Option::unwrap_or_default);
        let recovery_points = offsets(RECOVERY_POINTS)?;
        // Where the file is there, those that it does not name begin at 0.
        let noted_starts = match self.disk.exists(&self.options.dir.join(LOG_STARTS)) {
            true => read(LOG_STARTS)?,
            false => None,
        };
        let start_of = |name: &TopicPartition| {
            noted_starts.as_ref().map(|starts| starts.get(name).copied().unwrap_or_default())
        };
        let (high_watermarks, first_dirty) = (offsets(HIGH_WATERMARKS)?, offsets(FIRST_DIRTY)?);
        let mut names = Vec::new();
        for entry in self.disk.list(&self.options.dir)?.into_iter().filter(|entry| entry.is_dir) {
            if is_set_aside(&entry.name, "stray") {
                self.strays.fetch_add(1, Ordering::Relaxed);
            } else if is_set_aside(&entry.name, "delete") {
                let path = self.options.dir.join(&entry.name);
                self.removals.lock().push(Removal { due_ms: i64::MIN, path, log: None });
            } else if let Ok(name) = entry.name.parse::<TopicPartition>()
                && name.to_string() == entry.name
            {
                names.push(name);
            }
        }
        let held: BTreeSet<_> = names.iter().collect();
        for name in recovery_points.keys().chain(high_watermarks.keys()).filter(|name| !held.contains(name)) {
            let noted = Noted {
                log_start: start_of(name),
                recovery_point: recovery_points.get(name).copied(),
                first_dirty: first_dirty.get(name).copied(),
                high_watermark: high_watermarks.get(name).copied(),
                is_missing: true,
            };
            if noted.end() > Offset::ZERO {
                self.unopened.lock().insert(name.clone(), noted);
            }
        }
        let (next, opened) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(names.len())));
        let threads = self.options.recovery_threads.clamp(1, 64).min(names.len());
        let each = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let noted = Noted {
                    log_start: start_of(name),
                    recovery_point: recovery_points.get(name).copied(),
                    first_dirty: first_dirty.get(name).copied(),
                    high_watermark: high_watermarks.get(name).copied(),
                    is_missing: false,
                };
                let place = LogPlace { was_closed, ..self.place(name, noted) };
                let dir = place.dir.clone();
                match self.open_log(place) {
                    Ok((topic_id, log)) => {
                        let high_watermark = noted.high_watermark.unwrap_or_default();
                        let name = name.clone();
                        opened.lock().push(OpenedLog { name, topic_id, log, high_watermark });
                    }
                    Err(error) => {
                        tracing::error!(dir = %dir.display(), %error, "a log cannot be opened");
                        self.unopened.lock().insert(name.clone(), noted);
                    }
                }
            }
        };
        self.blocking.side_by_side((0..threads).map(|_| Box::new(each) as _).collect());
        let mut opened = opened.into_inner();
        opened.sort_by(|a, b| a.name.cmp(&b.name));
        let mut written = self.checkpoints.lock();
        *written = BTreeMap::from([
            (RECOVERY_POINTS, recovery_points),
            (FIRST_DIRTY, first_dirty),
            (HIGH_WATERMARKS, high_watermarks),
        ]);
        written.extend(noted_starts.map(|starts| (LOG_STARTS, starts)));
        for OpenedLog { name, log, .. } in &opened {
            self.lower(&mut written, name, log.log_end_offset())?;
        }
        drop(written);
        *self.logs.lock() = opened.iter().map(|opened| (opened.name.clone(), opened.log.clone())).collect();
        Ok(opened)
    }

    fn open_log(&self, place: LogPlace) -> io::Result<(TopicId, Arc<Log>)> {
        let topic_id = self.topic_of(&place.dir)?.unwrap_or(TopicId::ZERO);
        // Its topic's configuration comes with its topic.
        let log = Log::open(place, LogConfig::default())?;
        log.release_files();
        Ok((topic_id, Arc::new(log)))
    }

    fn place(&self, name: &TopicPartition, noted: Noted) -> LogPlace {
        LogPlace {
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            cache: self.cache.clone(),
            dir: self.options.dir.join(name.to_string()),
            log_start_offset: noted.log_start,
            recovery_point: noted.recovery_point,
            first_dirty_offset: noted.first_dirty,
            was_closed: false,
            accepts_missing_data: self.options.accepts_missing_data,
        }
    }

    /// The topic that a partition's folder belongs to, if it says so.
    fn topic_of(&self, dir: &Path) -> io::Result<Option<TopicId>> {
        match self.disk.read(&dir.join(PARTITION_METADATA)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(content) => Ok(std::str::from_utf8(&content).ok().and_then(meta_properties::decode_partition)),
        }
    }

    pub fn cluster_id(&self) -> &str {
        &self.meta.cluster_id
    }

    /// Makes the folder one of this cluster, when it was another one's.
    pub fn join_cluster(&mut self, id: &str) -> Result<(), DataDirError> {
        if self.meta.cluster_id == id {
            return Ok(());
        }
        let (before, dir) = (&self.meta.cluster_id, self.options.dir.display());
        match before.is_empty() {
            true => tracing::info!(cluster = id, %dir, "the data folder joins its cluster"),
            false => tracing::warn!(from = before, to = id, %dir, "the data folder changes its cluster"),
        }
        self.meta.cluster_id = id.to_owned();
        let path = self.options.dir.join(META_PROPERTIES);
        let written = self.disk.write_atomic(&path, self.meta.encode().as_bytes());
        written.map_err(|error| DataDirError::Io { path, error })
    }

    /// The folder's id (`directory.id`).
    pub fn directory_id(&self) -> Uuid {
        self.meta.directory_id
    }

    /// Space of the folder's file system.
    pub fn space(&self) -> io::Result<Space> {
        self.disk.space(&self.options.dir)
    }

    /// Makes the folders that were created, renamed or removed so for good.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.options.dir)
    }

    /// Makes a log, or opens the one that a crash left or that could not be opened before. Durable after
    /// [`Self::sync`].
    pub fn create_log(
        &self,
        name: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<OpenedLog, LogError> {
        let mut noted = self.unopened.lock().get(name).copied();
        let dir = self.options.dir.join(name.to_string());
        if let Some(gone) = noted.filter(|noted| noted.is_missing && !self.disk.exists(&dir)) {
            let missing = LogError::Missing { path: dir, end: gone.end() };
            if !self.options.accepts_missing_data {
                return Err(missing);
            }
            tracing::warn!("started with --accept-missing-data: {missing}");
            noted = None;
        }
        let place = self.place(name, noted.unwrap_or_default());
        let dir = place.dir.clone();
        let failed = |error| LogError::Io { path: dir.clone(), error };
        // Thousands may be made at once: what was just made is not looked into.
        let is_new = self.disk.create_dir(&dir).map_err(failed)?;
        let found = if is_new { None } else { self.topic_of(&dir).map_err(failed)? };
        match found {
            Some(found) if found != topic_id => {
                return Err(LogError::OtherTopic { path: dir, found, expected: topic_id });
            }
            Some(_) => {}
            None => {
                if noted.is_none() {
                    self.forget_what_is_gone(name).map_err(failed)?;
                }
                self.write_topic(&dir, topic_id, is_new).map_err(failed)?;
            }
        }
        let log = if is_new { Log::create(place, config) } else { Log::open(place, config) };
        let log = Arc::new(log.map_err(failed)?);
        log.release_files();
        if noted.is_some() {
            self.lower(&mut self.checkpoints.lock(), name, log.log_end_offset()).map_err(failed)?;
        }
        self.logs.lock().insert(name.clone(), log.clone());
        self.unopened.lock().remove(name);
        let high_watermark = noted.and_then(|noted| noted.high_watermark).unwrap_or_default();
        Ok(OpenedLog { name: name.clone(), topic_id, log, high_watermark })
    }

    /// Writes the topic that a partition's folder belongs to.
    fn write_topic(&self, dir: &Path, topic_id: TopicId, is_new: bool) -> io::Result<()> {
        let content = meta_properties::encode_partition(topic_id);
        let file = self.disk.open(&dir.join(PARTITION_METADATA), OpenMode::Create)?;
        if !is_new {
            file.set_len(0)?;
        }
        file.write_all_at(&mut [io::IoSlice::new(content.as_bytes())], 0)
    }

    /// Sees to it that no checkpoint says anything of a log of this name, which is about to be made: after a crash what was
    /// noted of an older one would be taken for what is true of the new, and recovery would not look at it. What
    /// else is noted of logs that are no more goes as well, so that many that are made again need it once.
    fn forget_what_is_gone(&self, name: &TopicPartition) -> io::Result<()> {
        let mut written = self.checkpoints.lock();
        for (checkpoint, offsets) in written.iter_mut().filter(|(_, offsets)| offsets.contains_key(name)) {
            let (logs, unopened) = (self.logs.lock(), self.unopened.lock());
            let mut left = offsets.clone();
            left.retain(|other, _| {
                other != name && (logs.contains_key(other) || unopened.contains_key(other))
            });
            drop((logs, unopened));
            checkpoint::write_offsets(&*self.disk, &self.options.dir.join(checkpoint), &left)?;
            *offsets = left;
        }
        Ok(())
    }

    /// Renames a deleted topic's log; the folder goes after `file.delete.delay.ms`. Reads that are under way
    /// go on.
    pub fn delete_log(&self, log: &Arc<Log>) -> Result<(), LogError> {
        let path = self.rename_away(log, "delete")?;
        let due_ms = self.clock.now_ms().saturating_add(log.config().file_delete_delay_ms);
        self.removals.lock().push(Removal { due_ms, path, log: Some(log.clone()) });
        Ok(())
    }

    /// Forgets what the checkpoints say of a log. Those on the disk go on saying it until [`Self::checkpoint_gone`].
    fn forget(&self, name: &TopicPartition) {
        self.unopened.lock().remove(name);
        self.gone.lock().insert(name.clone());
    }

    /// Takes those logs out of the checkpoints that are gone: else a topic that comes under the same name would be
    /// missed if a crash took its folder.
    pub fn checkpoint_gone(&self) -> io::Result<()> {
        let gone = std::mem::take(&mut *self.gone.lock());
        let mut written = self.checkpoints.lock();
        for checkpoint in [RECOVERY_POINTS, HIGH_WATERMARKS] {
            let mut offsets = written.get(checkpoint).cloned().unwrap_or_default();
            let known = offsets.len();
            offsets.retain(|name, offset| *offset == Offset::ZERO || !gone.contains(name));
            if offsets.len() < known {
                self.write_offsets(&mut written, checkpoint, offsets)?;
            }
        }
        Ok(())
    }

    /// Forgets logs whose folders are missing, and which nobody misses: their topics were deleted.
    pub fn forget_missing(&self, is_missed: impl Fn(&TopicPartition) -> bool) {
        self.unopened.lock().retain(|name, noted| !noted.is_missing || is_missed(name));
    }

    /// Renames the folder of a log that could not be opened or made, as [`Self::delete_log`] does.
    pub fn delete_unopened(&self, name: &TopicPartition, delay_ms: i64) -> Result<(), LogError> {
        self.forget(name);
        let path = self.options.dir.join(name.to_string());
        if !self.disk.exists(&path) {
            return Ok(());
        }
        let to = self.away(&path, "delete");
        self.disk.rename(&path, &to).map_err(|error| LogError::Io { path, error })?;
        let due_ms = self.clock.now_ms().saturating_add(delay_ms);
        self.removals.lock().push(Removal { due_ms, path: to, log: None });
        Ok(())
    }

    /// Renames the folder of a log that no topic claims; nothing of it is removed.
    pub fn set_aside(&self, opened: &OpenedLog) -> Result<(), LogError> {
        if let Err(error) = opened.log.close() {
            tracing::warn!(partition = %opened.name, %error, "a log that is set aside could not be closed");
        }
        self.rename_away(&opened.log, "stray")?;
        self.strays.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Number of folders that no topic claimed, those of earlier starts included.
    pub fn strays(&self) -> usize {
        self.strays.load(Ordering::Relaxed)
    }

    /// Gives a log to the topic of its name, where its own file does not say (any more) whose it is.
    pub fn adopt(&self, opened: &OpenedLog, topic_id: TopicId) -> Result<(), LogError> {
        let path = opened.log.dir().join(PARTITION_METADATA);
        let content = meta_properties::encode_partition(topic_id);
        self.disk.write_atomic(&path, content.as_bytes()).map_err(|error| LogError::Io { path, error })
    }

    /// Up to which entry of the metadata log this folder's logs have followed it, as last noted: a metadata log
    /// that ends before is not whole.
    ///
    /// # Errors
    /// Of the disk. A note that cannot be understood is none.
    pub fn noted_metadata_index(&self) -> io::Result<Option<u64>> {
        let text = match self.disk.read(&self.options.dir.join(METADATA_INDEX)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => String::from_utf8(other?).unwrap_or_default(),
        };
        Ok(checkpoint::decode(&text, |line| line.parse().ok()).and_then(|lines| lines.first().copied()))
    }

    /// Notes it, durably.
    pub fn note_metadata_index(&self, index: u64) -> io::Result<()> {
        let mut noted = self.metadata_index.lock();
        if *noted != index {
            let path = self.options.dir.join(METADATA_INDEX);
            self.disk.write_atomic(&path, checkpoint::encode([index.to_string()].into_iter()).as_bytes())?;
            *noted = index;
        }
        Ok(())
    }

    /// What a partition's folder is called on its way out.
    fn away(&self, path: &Path, why: &str) -> PathBuf {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ending = format!(".{}-{why}", self.chance.kafka_uuid().simple());
        // Names of topics are ASCII; should this one not be, its end is cut where a letter starts.
        let mut room = name.len().min(NAME_BYTES_MAX.saturating_sub(ending.len()));
        while !name.is_char_boundary(room) {
            room -= 1;
        }
        self.options.dir.join(format!("{}{ending}", &name[..room]))
    }

    fn rename_away(&self, log: &Arc<Log>, why: &str) -> Result<PathBuf, LogError> {
        let path = log.dir();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let to = self.away(&path, why);
        log.rename_dir(to.clone()).map_err(|error| LogError::Io { path: path.clone(), error })?;
        if let Ok(name) = name.parse::<TopicPartition>() {
            let mut logs = self.logs.lock();
            if logs.get(&name).is_some_and(|known| Arc::ptr_eq(known, log)) {
                logs.remove(&name);
                self.forget(&name);
            }
        }
        Ok(to)
    }

    /// Removes the folders of deleted logs whose time has come.
    pub fn remove_deleted(&self, now_ms: i64) {
        let due: Vec<_> = self.removals.lock().extract_if(.., |removal| removal.due_ms <= now_ms).collect();
        for removal in due {
            let removed = match &removal.log {
                Some(log) => log.delete(),
                None => self.disk.remove_dir_all(&removal.path),
            };
            match removed {
                Ok(()) => {
                    tracing::info!(path = %removal.path.display(), "the folder of a deleted partition is removed")
                }
                Err(error) => {
                    tracing::error!(path = %removal.path.display(), %error, "a deleted log could not be removed");
                }
            }
        }
    }

    /// Closes all logs, so that the next start need not look at them. Nothing can be appended or read after. The marker
    /// says which process of the broker that was (KIP-966); -1: one that was not registered.
    pub fn close(&self, high_watermarks: Vec<(TopicPartition, Offset)>, broker_epoch: i64) -> io::Result<()> {
        let logs: Vec<_> = self.logs.lock().iter().map(|(name, log)| (name.clone(), log.clone())).collect();
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        // Closing waits for syncs, which gather when they come together.
        let threads = self.options.recovery_threads.clamp(8, 64).min(logs.len());
        let each = || {
            while let Some((name, log)) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let closed = log.close();
                if log.is_failed() || closed.is_err() {
                    tracing::error!(partition = %name, ?closed, "the log could not be closed");
                    let error = closed.err().unwrap_or_else(|| io::Error::other("a log is offline"));
                    failure.lock().get_or_insert(error);
                }
            }
        };
        self.blocking.side_by_side((0..threads).map(|_| Box::new(each) as _).collect());
        let points = logs.iter().map(|(name, log)| (name.clone(), log.recovery_point())).collect();
        {
            let mut written = self.checkpoints.lock();
            self.write_starts(&mut written)?;
            self.write_offsets(&mut written, RECOVERY_POINTS, points)?;
            self.write_first_dirty(&mut written)?;
            self.write_offsets(&mut written, HIGH_WATERMARKS, high_watermarks.into_iter().collect())?;
        }
        // What could not be opened was not looked at, and would pass for closed.
        let is_unopened = self.unopened.lock().values().any(|noted| !noted.is_missing);
        match failure.into_inner() {
            Some(error) => Err(error),
            None if is_unopened => {
                tracing::warn!(dir = %self.options.dir.display(), "not all logs were open; the next start looks at all of them");
                Ok(())
            }
            None => {
                let marker = self.options.dir.join(CLEAN_SHUTDOWN);
                let content = format!(r#"{{"version":0,"brokerEpoch":{broker_epoch}}}"#);
                self.disk.write_atomic(&marker, content.as_bytes())
            }
        }
    }

    /// The time by the folder's clock (ms).
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// What went wrong with the logs' files.
    pub fn errors(&self) -> &DiskErrors {
        &self.cache.errors
    }

    /// Bytes of what recovery found behind damage and set aside, in all logs.
    pub fn set_aside_bytes(&self) -> u64 {
        self.logs.lock().values().map(|log| log.set_aside_bytes()).sum()
    }

    /// Number of files that are held open for logs.
    pub fn open_files(&self) -> usize {
        self.cache.open_files()
    }
}

/// Whether a folder of this name is one that a broker renamed away: `<topic>-<n>.<32 hex>-<why>`, the part before the
/// dot cut where names may not be longer. Whatever else ends so is somebody else's.
fn is_set_aside(name: &str, why: &str) -> bool {
    let Some((log, id)) =
        name.strip_suffix(why).and_then(|name| name.strip_suffix('-')).and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    let is_id =
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_id && (ownership::is_partition(log) || name.len() + 3 >= NAME_BYTES_MAX)
}

/// Reads `meta.properties`, or makes it.
fn meta_of(
    disk: &dyn Disk,
    chance: &dyn Chance,
    options: &DataDirOptions,
) -> Result<MetaProperties, DataDirError> {
    let path = options.dir.join(META_PROPERTIES);
    let meta = match disk.read(&path) {
        Ok(content) => String::from_utf8(content)
            .map_err(|_| "it is not text".to_owned())
            .and_then(|text| MetaProperties::decode(&text))
            .map_err(|reason| DataDirError::MetaProperties { path, reason })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let meta = MetaProperties {
                cluster_id: options.cluster_id.clone(),
                node_id: options.node_id,
                directory_id: chance.kafka_uuid(),
            };
            disk.write_atomic(&path, meta.encode().as_bytes())
                .map_err(|error| DataDirError::Io { path, error })?;
            meta
        }
        Err(error) => return Err(DataDirError::Io { path, error }),
    };
    if meta.node_id != options.node_id {
        let (found, expected) = (meta.node_id, options.node_id);
        return Err(DataDirError::OtherNode { dir: options.dir.clone(), found, expected });
    }
    Ok(meta)
}
