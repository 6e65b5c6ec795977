//! Why the log of the quorum cannot be read or written.

use std::io;
use std::path::PathBuf;

use super::room::is_lack_of_room;
use crate::env::WorkPanicked;

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// What was written is perhaps not on the disk, and a later sync would not tell.
    #[error("{0}: the sync failed: {1}")]
    SyncFailed(PathBuf, io::Error),
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    #[error("{0}")]
    NotDone(String),
    #[error(transparent)]
    Panicked(#[from] WorkPanicked),
}

impl LogStoreError {
    /// The disk takes no more for now; see [`super::room`].
    pub(super) fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Io(_, error) if is_lack_of_room(error))
    }
}
