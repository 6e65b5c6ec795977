//! The state machine: an image in memory, rebuilt from the newest snapshot and the log behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, BasicNode, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError, StoredMembership,
};
use tokio::sync::watch;

use super::snapshot::{self, Meta, SnapshotError, SnapshotFile, SnapshotStore};
use super::{Applied, Entry, LogId, StorageError, Types};
use crate::metadata::MetadataImage;

/// What the state machine shows to the rest of the process.
#[derive(Debug)]
pub(super) struct Shared {
    pub image: ArcSwap<MetadataImage>,
    /// Index of the entry that `image` stands for, sent after the image is in place.
    pub applied_index: watch::Sender<u64>,
    /// Records applied that are in no snapshot yet; what a restart has to replay.
    pub records_since_snapshot: AtomicU64,
    /// Records that the newest snapshot holds.
    pub records_in_snapshot: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            image: ArcSwap::default(),
            applied_index: watch::Sender::new(0),
            records_since_snapshot: AtomicU64::new(0),
            records_in_snapshot: AtomicU64::new(0),
        }
    }
}

pub(super) struct StateMachine {
    shared: Arc<Shared>,
    store: SnapshotStore,
    image: MetadataImage,
    applied: Option<LogId>,
    membership: StoredMembership<u64, BasicNode>,
    /// Shared with builders, which may be at work when a later one is asked for.
    current: Arc<parking_lot::Mutex<Option<(Meta, SnapshotFile)>>>,
}

impl StateMachine {
    /// Loads the newest snapshot. Blocks.
    pub fn open(store: SnapshotStore, shared: Arc<Shared>) -> Result<Self, SnapshotError> {
        let mut machine = Self {
            shared,
            store,
            image: MetadataImage::default(),
            applied: None,
            membership: StoredMembership::default(),
            current: Arc::default(),
        };
        if let Some((meta, image, file)) = machine.store.newest()? {
            machine.adopt(meta, image, file);
        }
        Ok(machine)
    }

    /// The last entry that the newest snapshot holds.
    pub fn snapshot_log_id(&self) -> Option<LogId> {
        self.current.lock().as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    fn adopt(&mut self, meta: Meta, image: MetadataImage, file: SnapshotFile) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.current.lock() = Some((meta, file));
        self.shared.records_since_snapshot.store(0, Ordering::Relaxed);
        self.shared.records_in_snapshot.store(image.record_count(), Ordering::Relaxed);
        self.image = image;
        self.publish();
    }

    fn publish(&self) {
        self.shared.image.store(Arc::new(self.image.clone()));
        self.shared.applied_index.send_replace(self.applied.map_or(0, |id| id.index));
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<u64, BasicNode>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let mut answer = Applied::default();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Normal(batch) => match self.image.with(&batch.records) {
                    Ok(image) => {
                        self.image = image;
                        let count = batch.records.len() as u64;
                        self.shared.records_since_snapshot.fetch_add(count, Ordering::Relaxed);
                    }
                    Err(e) => {
                        // The same on every node, as all have the same image here.
                        tracing::error!(index = entry.log_id.index, error = %e, "metadata records refused");
                        answer.refused = Some(e.to_string());
                    }
                },
            }
            self.applied = Some(entry.log_id);
            answers.push(answer);
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
            image: self.image.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            current: self.current.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        Ok(Box::new(SnapshotFile { path: self.store.receiving_path() }))
    }

    async fn install_snapshot(&mut self, meta: &Meta, file: Box<SnapshotFile>) -> Result<(), StorageError> {
        let store = self.store.clone();
        let meta = meta.clone();
        let signature = meta.signature();
        let failed = |e| StorageError::from(StorageIOError::write_snapshot(Some(signature), e));
        let install = move || -> Result<_, AnyError> {
            let content = store.read(&file.path).map_err(|e| AnyError::new(&e))?;
            let (stored_meta, image) =
                snapshot::decode(&file.path, &content).map_err(|e| AnyError::new(&e))?;
            if stored_meta != meta {
                return Err(AnyError::error(format!("{} is another snapshot", file.path.display())));
            }
            let saved = store.save(&meta, &content).map_err(|e| AnyError::new(&e))?;
            if file.path == store.receiving_path() {
                store.disk.remove_file(&file.path).map_err(|e| AnyError::new(&e))?;
            }
            Ok((meta, image, saved))
        };
        match tokio::task::spawn_blocking(install).await {
            Ok(Ok((meta, image, file))) => {
                self.adopt(meta, image, file);
                Ok(())
            }
            Ok(Err(e)) => Err(failed(e)),
            Err(e) => Err(failed(AnyError::new(&e))),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let current = self.current.lock().clone();
        Ok(current.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) }))
    }
}

/// Writes the image as it was when the builder was made; entries applied meanwhile do not touch it.
pub(super) struct Builder {
    store: SnapshotStore,
    shared: Arc<Shared>,
    image: MetadataImage,
    applied: Option<LogId>,
    membership: StoredMembership<u64, BasicNode>,
    current: Arc<parking_lot::Mutex<Option<(Meta, SnapshotFile)>>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let index = self.applied.map_or(0, |id| id.index);
        let meta = Meta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        let (store, image, stored_meta) = (self.store.clone(), self.image.clone(), meta.clone());
        let build = move || -> Result<SnapshotFile, AnyError> {
            let content = snapshot::encode(&stored_meta, &image).map_err(|e| AnyError::new(&e))?;
            store.save(&stored_meta, &content).map_err(|e| AnyError::new(&e))
        };
        let built = match tokio::task::spawn_blocking(build).await {
            Ok(built) => built,
            Err(e) => Err(AnyError::new(&e)),
        };
        let file = built.map_err(|e| StorageIOError::write_snapshot(Some(meta.signature()), e))?;
        self.shared.records_in_snapshot.store(self.image.record_count(), Ordering::Relaxed);
        *self.current.lock() = Some((meta.clone(), file.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(file) })
    }
}
