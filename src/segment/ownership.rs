//! Whose a data folder is, told before a byte of it is written.
//!
//! Partition folders look alike in Apache Kafka and here; what tells them apart is the metadata that names their
//! topics. A broker without it would take every partition for one that no topic claims, so it does not start:
//!
//! | in the data folder | in the metadata folder | |
//! |---|---|---|
//! | anything | | new, or formatted: taken, when there is no partition |
//! | `__cluster_metadata-0`, or `meta.properties` of version 0 | | Kafka's: refused |
//! | partitions | no metadata log | the metadata is missing: refused, unless told otherwise |
//! | partitions | a metadata log | ours; see `raft` for a log that is damaged or cut |

use std::io;
use std::path::{Path, PathBuf};

use super::meta_properties::META_PROPERTIES;
use crate::env::Disk;
use crate::types::TopicPartition;

/// The partition in which Kafka (KRaft) keeps its metadata.
const KAFKA_METADATA: &str = "__cluster_metadata-0";
/// Partitions named in an error.
const NAMES_TOLD: usize = 3;

/// Why a data folder is not this broker's to use. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    #[error(
        "the data folder {} is Apache Kafka's: {evidence}. Nothing was changed. Raftsman reads Kafka's logs, but keeps \
         topics and groups in a metadata log of its own, and would take Kafka's partitions for strays. Give it a \
         folder of its own (log.dirs), and copy the topics while Kafka runs (MirrorMaker, or kafka-console-consumer \
         into raftsman produce)",
        dir.display()
    )]
    Kafka { dir: PathBuf, evidence: String },
    #[error(
        "the data folder {} holds {partitions}, but there is no metadata log in {}, and so nothing that says which \
         topics they belong to. Nothing was changed. Bring the metadata back (is its disk mounted? is \
         metadata.log.dir right?), or move the partitions away; to start without it, use raftsman server \
         --accept-missing-data: it sets them aside under names that end in -stray",
        dir.display(), metadata_dir.display()
    )]
    MetadataMissing { dir: PathBuf, metadata_dir: PathBuf, partitions: String },
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// Holds a data folder, which need not exist, to be this broker's. Reads only. `metadata_dir` is where the
/// metadata log is, or would be, and `has_metadata` whether there is one.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    metadata_dir: &Path,
    has_metadata: bool,
    accepts_missing_data: bool,
) -> Result<(), OwnershipError> {
    let failed = |path: &Path, error| OwnershipError::Io { path: path.to_owned(), error };
    let mut partitions = Vec::new();
    let mut of_kafka = None;
    if disk.exists(dir) {
        for entry in disk.list(dir).map_err(|error| failed(dir, error))? {
            if entry.name == KAFKA_METADATA {
                of_kafka = Some(format!("it holds {KAFKA_METADATA}, Kafka's metadata"));
            } else if entry.is_dir && is_partition(&entry.name) {
                partitions.push(entry.name);
            }
        }
    }
    if let Some(parent) = metadata_dir.parent()
        && disk.exists(&parent.join(KAFKA_METADATA))
    {
        of_kafka = of_kafka.or_else(|| Some(format!("{KAFKA_METADATA} is in {}", parent.display())));
    }
    let meta = dir.join(META_PROPERTIES);
    match disk.read(&meta) {
        Ok(content) => {
            let text = String::from_utf8_lossy(&content).replace(' ', "");
            if text.lines().any(|line| line == "version=0") {
                of_kafka = of_kafka.or_else(|| {
                    Some(format!("{META_PROPERTIES} is of version 0, of a Kafka that ran with ZooKeeper"))
                });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&meta, error)),
    }
    if let Some(evidence) = of_kafka
        && !has_metadata
    {
        return Err(OwnershipError::Kafka { dir: dir.to_owned(), evidence });
    }
    if !partitions.is_empty() && !has_metadata && !accepts_missing_data {
        let (dir, metadata_dir) = (dir.to_owned(), metadata_dir.to_owned());
        return Err(OwnershipError::MetadataMissing { dir, metadata_dir, partitions: listed(partitions) });
    }
    Ok(())
}

/// Whether a folder of this name is a partition's.
pub(super) fn is_partition(name: &str) -> bool {
    name.parse::<TopicPartition>().is_ok_and(|partition| partition.to_string() == name)
}

/// `12 partitions (a-0, a-1, b-0…)`
fn listed(mut names: Vec<String>) -> String {
    names.sort_unstable();
    let (count, more) = (names.len(), if names.len() > NAMES_TOLD { "…" } else { "" });
    names.truncate(NAMES_TOLD);
    let word = if count == 1 { "partition" } else { "partitions" };
    format!("{count} {word} ({}{more})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;
    use std::fs;

    /// A folder with these folders and files in it, and what is told of it.
    fn told(
        folders: &[&str],
        meta: Option<&str>,
        has_metadata: bool,
        accepts: bool,
    ) -> Result<(), OwnershipError> {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        folders.iter().for_each(|name| fs::create_dir(data.join(name)).unwrap());
        if let Some(meta) = meta {
            fs::write(data.join(META_PROPERTIES), meta).unwrap();
        }
        let told = check(&RealDisk, &data, &data.join("__cluster_metadata"), has_metadata, accepts);
        assert_eq!(fs::read_dir(&data).unwrap().count(), folders.len() + usize::from(meta.is_some()));
        told
    }

    #[test]
    fn a_folder_is_taken_only_with_the_metadata_of_its_partitions() {
        let of_kafka = |told| matches!(told, Err(OwnershipError::Kafka { .. }));
        let is_missing = |told| matches!(told, Err(OwnershipError::MetadataMissing { .. }));
        let formatted = Some("version=1\ncluster.id=x\nnode.id=1\ndirectory.id=y\n");
        assert!(told(&[], None, false, false).is_ok());
        assert!(told(&[], formatted, false, false).is_ok());
        assert!(told(&["lost+found", "notes", "a-0.5-stray"], None, false, false).is_ok());
        assert!(told(&["a-0", "b-12"], formatted, true, false).is_ok());
        for accepts in [false, true] {
            assert!(of_kafka(told(&["__cluster_metadata-0"], formatted, false, accepts)));
            assert!(of_kafka(told(&["a-0"], Some("#\nversion=0\nbroker.id=1\n"), false, accepts)));
        }
        assert!(is_missing(told(&["a-0", "b-12"], formatted, false, false)));
        assert!(told(&["a-0", "b-12"], formatted, false, true).is_ok());
        let text = told(&["b-1", "a-0", "a-1", "c-3"], formatted, false, false).unwrap_err().to_string();
        assert!(
            text.contains("4 partitions (a-0, a-1, b-1…)") && text.contains("--accept-missing-data"),
            "{text}"
        );
    }
}
