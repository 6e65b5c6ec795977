//! The state machine: an image in memory, rebuilt from the newest snapshot and the log behind it.
//!
//! Every entry with records takes effect on all nodes or on none: whether it does depends on nothing but the
//! entries before it (see [`super::Fence`]).
//!
//! A snapshot that cannot be written is tried again until it can, whatever the reason: nothing is lost while the
//! log has its entries. One that comes from the leader must be on the disk before the log may begin
//! behind it ([`DurableSnapshot`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError, StoredMembership};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::log_store::DurableSnapshot;
use super::member::Member;
use super::planted::{Bug, is_planted};
use super::room::{Room, SNAPSHOT};
use super::snapshot::{self, Content, Meta, SnapshotError, SnapshotFile, SnapshotStore};
use super::{Applied, Entry, LogId, StorageError, Types};
use crate::metadata::{METADATA_VERSION, MetadataImage};

/// The image, and which one it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    pub image: Arc<MetadataImage>,
    /// The entry that the image stands for.
    pub applied: Option<LogId>,
    /// Index of the last entry whose records took effect.
    pub records_index: u64,
}

/// What the state machine shows to the rest of the process.
#[derive(Debug)]
pub(super) struct Shared {
    pub current: ArcSwap<Current>,
    /// Index of the entry that the image stands for, sent after the image is in place.
    pub applied_index: watch::Sender<u64>,
    /// Records applied that are in no snapshot yet; what a restart has to replay.
    pub records_since_snapshot: AtomicU64,
    /// Records that the newest snapshot holds.
    pub records_in_snapshot: AtomicU64,
    pub durable_snapshot: watch::Sender<DurableSnapshot>,
    /// Why the state machine has ended.
    pub failure: Mutex<Option<String>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            applied_index: watch::Sender::new(0),
            records_since_snapshot: AtomicU64::new(0),
            records_in_snapshot: AtomicU64::new(0),
            durable_snapshot: watch::Sender::default(),
            failure: Mutex::default(),
        }
    }
}

impl Shared {
    pub(super) fn image(&self) -> Arc<MetadataImage> {
        self.current.load().image.clone()
    }

    /// A snapshot up to this entry is on the disk.
    fn is_durable(&self, id: Option<LogId>) {
        let Some(id) = id else { return };
        self.durable_snapshot.send_if_modified(|known| match known {
            DurableSnapshot::UpTo(upto) if *upto >= id.index => false,
            _ => {
                *known = DurableSnapshot::UpTo(id.index);
                true
            }
        });
    }
}

/// The newest snapshot, shared with builders, which may be at work when a later one is asked for.
type Newest = Arc<Mutex<Option<(Meta, SnapshotFile)>>>;

fn set_newest(newest: &Newest, meta: Meta, file: SnapshotFile) {
    let mut newest = newest.lock();
    // One that was built while a later one came from the leader is of no use.
    if newest.as_ref().is_none_or(|(known, _)| known.last_log_id <= meta.last_log_id) {
        *newest = Some((meta, file));
    }
}

pub(super) struct StateMachine {
    shared: Arc<Shared>,
    store: SnapshotStore,
    room: Arc<Room>,
    image: MetadataImage,
    applied: Option<LogId>,
    records_index: u64,
    membership: StoredMembership<u64, Member>,
    newest: Newest,
}

impl StateMachine {
    /// Loads the newest snapshot. Blocks.
    pub(super) fn open(
        store: SnapshotStore,
        shared: Arc<Shared>,
        room: Arc<Room>,
    ) -> Result<Self, SnapshotError> {
        store.clean()?;
        let mut machine = Self {
            shared,
            store,
            room,
            image: MetadataImage::default(),
            applied: None,
            records_index: 0,
            membership: StoredMembership::default(),
            newest: Arc::default(),
        };
        if let Some((content, file)) = machine.store.newest()? {
            machine.adopt(content, file);
        }
        Ok(machine)
    }

    /// The last entry that the newest snapshot holds.
    pub(super) fn snapshot_log_id(&self) -> Option<LogId> {
        self.newest.lock().as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    fn adopt(&mut self, content: Content, file: SnapshotFile) {
        let Content { meta, image, records_index } = content;
        self.applied = meta.last_log_id;
        self.records_index = records_index;
        self.membership = meta.last_membership.clone();
        set_newest(&self.newest, meta, file);
        self.shared.records_since_snapshot.store(0, Ordering::Relaxed);
        self.shared.records_in_snapshot.store(image.record_count(), Ordering::Relaxed);
        self.image = image;
        self.publish();
        self.shared.is_durable(self.applied);
    }

    fn publish(&self) {
        let image = Arc::new(self.image.clone());
        let (applied, records_index) = (self.applied, self.records_index);
        self.shared.current.store(Arc::new(Current { image, applied, records_index }));
        self.shared.applied_index.send_replace(self.applied.map_or(0, |id| id.index));
    }

    /// What becomes of the records of an entry.
    fn take(&mut self, id: LogId, batch: &super::RecordBatch) -> Applied {
        if let Some(fence) = batch.fence
            && !fence.holds(id.leader_id, self.records_index)
        {
            // A decision on what is no longer so. The leader that made it is told.
            tracing::warn!(index = id.index, ?fence, "metadata records refused: decided on an earlier state");
            return Applied::Stale;
        }
        match self.image.with(&*batch.records) {
            Ok(image) => {
                self.image = image;
                self.records_index = id.index;
                let count = batch.records.len() as u64;
                self.shared.records_since_snapshot.fetch_add(count, Ordering::Relaxed);
                Applied::Taken
            }
            Err(_) if is_planted(Bug::SameProducerIds) => Applied::Taken,
            Err(e) => {
                // The same on every node, as all have the same image here.
                tracing::error!(index = id.index, error = %e, "metadata records refused");
                Applied::Refused(e.to_string())
            }
        }
    }

    fn failed(&self, error: impl std::fmt::Display) {
        if !self.room.is_closing() {
            self.shared.failure.lock().get_or_insert_with(|| error.to_string());
        }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<u64, Member>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let answer = match entry.payload {
                EntryPayload::Blank => Applied::Taken,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::Taken
                }
                EntryPayload::Normal(batch) => self.take(entry.log_id, &batch),
            };
            self.applied = Some(entry.log_id);
            answers.push(answer);
            let version = self.image.metadata_version();
            if version > METADATA_VERSION {
                let error = super::NewerVersion { found: version };
                self.failed(error);
                return Err(StorageIOError::apply(entry.log_id, AnyError::new(&error)).into());
            }
        }
        self.publish();
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // What is applied from now on is not in the snapshot that is about to be built.
        self.shared.records_since_snapshot.store(0, Ordering::Relaxed);
        Builder {
            store: self.store.clone(),
            shared: self.shared.clone(),
            room: self.room.clone(),
            image: self.image.clone(),
            applied: self.applied,
            records_index: self.records_index,
            membership: self.membership.clone(),
            newest: self.newest.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let file = self.room.write("a received snapshot", SnapshotError::is_lack_of_room, || {
            self.store.blocking(move |store| store.receive())
        });
        match file.await {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => {
                self.failed(&error);
                Err(StorageIOError::write_snapshot(None, AnyError::new(&error)).into())
            }
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, file: Box<SnapshotFile>) -> Result<(), StorageError> {
        let installed = self.room.write("a received snapshot", SnapshotError::is_lack_of_room, || {
            let (meta, file) = (meta.clone(), file.clone());
            self.store.blocking(move |store| {
                let bytes = file.read()?;
                let content = snapshot::decode(&file.path, &bytes)?;
                if content.meta != meta {
                    return Err(SnapshotError::Damaged(file.path.clone(), "it is another snapshot".into()));
                }
                let saved = store.save(&meta, &bytes)?;
                store.forget(&file);
                Ok((content, saved))
            })
        });
        match installed.await {
            Ok((content, saved)) => {
                self.adopt(content, saved);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                self.shared.durable_snapshot.send_replace(DurableSnapshot::Failed);
                Err(StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)).into())
            }
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let newest = self.newest.lock().clone();
        Ok(newest.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) }))
    }
}

/// Writes the image as it was when the builder was made; entries applied meanwhile do not touch it.
pub(super) struct Builder {
    store: SnapshotStore,
    shared: Arc<Shared>,
    room: Arc<Room>,
    image: MetadataImage,
    applied: Option<LogId>,
    records_index: u64,
    membership: StoredMembership<u64, Member>,
    newest: Newest,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let index = self.applied.map_or(0, |id| id.index);
        let meta = Meta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        let content =
            Content { meta: meta.clone(), image: self.image.clone(), records_index: self.records_index };
        let failed =
            |e: AnyError| StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), e));
        let bytes = self.store.blocking(move |_| Ok(snapshot::encode(&content)?)).await;
        let bytes = Arc::new(bytes.map_err(|e| failed(AnyError::new(&e)))?);
        // Nothing is lost while it is not there, so any error is waited out.
        let saved = self.room.write(
            SNAPSHOT,
            |_: &SnapshotError| true,
            || {
                let (meta, bytes) = (meta.clone(), bytes.clone());
                self.store.blocking(move |store| store.save(&meta, &bytes))
            },
        );
        let file = match saved.await {
            Ok(file) => file,
            Err(error) => {
                // The quorum is being closed; openraft must not take this for a broken disk.
                self.room.closed().await;
                return Err(failed(AnyError::new(&error)));
            }
        };
        self.shared.records_in_snapshot.store(self.image.record_count(), Ordering::Relaxed);
        set_newest(&self.newest, meta.clone(), file.clone());
        self.shared.is_durable(meta.last_log_id);
        Ok(Snapshot { meta, snapshot: Box::new(file) })
    }
}
