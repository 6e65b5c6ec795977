//! What the data folder is told.

use std::path::{Path, PathBuf};

use crate::config::declaration::config;
use crate::config::key::ConfigError;

config! {
    /// Where the data is, and how often its state is noted.
    pub struct StorageConfig {
        /// Folder for the data, when log.dirs does not say.
        dir: Vec<String> = "log.dir", ReadOnly, List(&[]), default "raftsman-data";
        /// Folder for the data.
        dirs: Option<Vec<String>> = "log.dirs", ReadOnly, List(&[]);
        /// Folder for the metadata; inside the data folder unless set.
        metadata_dir: Option<PathBuf> = "metadata.log.dir", ReadOnly, Text;
        /// How often what was written is synced and the recovery point noted.
        flush_offset_checkpoint_interval_ms: i64 =
            "log.flush.offset.checkpoint.interval.ms", ReadOnly, Int(1, i32::MAX), default 60_000;
        /// How often log start offsets are noted.
        start_offset_checkpoint_interval_ms: i64 =
            "log.flush.start.offset.checkpoint.interval.ms", ReadOnly, Int(1, i32::MAX), default 60_000;
        /// How often retention is looked at.
        retention_check_interval_ms: i64 =
            "log.retention.check.interval.ms", ReadOnly, Long(1, i64::MAX), default 300_000;
        /// Threads that open logs at start.
        recovery_threads: usize =
            "num.recovery.threads.per.data.dir", ReadOnly, Int(1, i32::MAX), default 2;
        /// How often idle producer ids are looked for.
        producer_id_expiration_check_interval_ms: i64 =
            "producer.id.expiration.check.interval.ms", ReadOnly, Int(1, i32::MAX), default 600_000;
        /// Idle time after which a partition forgets a producer id.
        producer_id_expiration_ms: i64 =
            "producer.id.expiration.ms", ClusterWide, Int(1, i32::MAX), default 86_400_000;
    }
}

impl StorageConfig {
    /// The folder of the data.
    pub fn log_dir(&self) -> &Path {
        let mut folders = self.dirs.as_ref().unwrap_or(&self.dir).iter();
        Path::new(folders.next().map_or("raftsman-data", String::as_str))
    }

    /// The folder of the metadata log.
    pub fn metadata_log_dir(&self) -> PathBuf {
        let set = self.metadata_dir.as_deref().filter(|dir| !dir.as_os_str().is_empty());
        set.unwrap_or(self.log_dir()).join("__cluster_metadata")
    }

    /// Refuses what this version does not serve.
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
        let folders = self.dirs.as_ref().unwrap_or(&self.dir);
        if folders.len() > 1 {
            return Err(ConfigError::Refused(format!(
                "log.dirs={}: one data folder is served; name a single one (join disks below it, with LVM or RAID)",
                folders.join(",")
            )));
        }
        Ok(())
    }
}
