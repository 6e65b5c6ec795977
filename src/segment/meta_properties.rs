//! The two small files that say whose a folder is.
//!
//! `meta.properties`, in the data folder: `version=1`, `cluster.id`, `node.id`, `directory.id`.
//! `partition.metadata`, in a partition's folder: `version: 0`, `topic_id: <22 characters of base64>`.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::types::{NodeId, TopicId, uuid_from_base64, uuid_to_base64};

/// Name of the data folder's file.
pub const META_PROPERTIES: &str = "meta.properties";
/// Name of a partition's file.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Whose a data folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: NodeId,
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// The file's content.
    pub fn encode(&self) -> String {
        format!(
            "#\nversion=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id,
            self.node_id,
            uuid_to_base64(self.directory_id)
        )
    }

    /// Reads the file's content; the error says what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let values: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let value = |key: &str| values.get(key).copied().ok_or_else(|| format!("{key} is missing"));
        if value("version")? != "1" {
            return Err(format!("version {} is unknown", value("version")?));
        }
        let node_id = value("node.id")?;
        let directory_id = value("directory.id")?;
        Ok(Self {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: NodeId(node_id.parse().map_err(|_| format!("node.id {node_id} is no number"))?),
            directory_id: uuid_from_base64(directory_id)
                .ok_or_else(|| format!("directory.id {directory_id} is no id"))?,
        })
    }
}

/// The content of `partition.metadata`.
pub fn encode_partition(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}\n")
}

/// Reads it; `None` when it is malformed.
pub fn decode_partition(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let topic_id = lines.next()?.strip_prefix("topic_id:")?.trim();
    if version == "0" { topic_id.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Chance;
    use crate::env::real::RealChance;

    #[test]
    fn both_files_read_back() {
        let meta = MetaProperties {
            cluster_id: "the-cluster".into(),
            node_id: NodeId(7),
            directory_id: RealChance.kafka_uuid(),
        };
        assert_eq!(MetaProperties::decode(&meta.encode()), Ok(meta.clone()));
        let other_order = format!(
            "#\n#Sat Nov 21 07:45:23 UTC 2026\nnode.id=7\ndirectory.id={}\nversion=1\ncluster.id=the-cluster\n",
            uuid_to_base64(meta.directory_id)
        );
        assert_eq!(MetaProperties::decode(&other_order), Ok(meta));
        assert!(MetaProperties::decode("version=1\n").is_err());
        let id = RealChance.topic_id();
        assert_eq!(decode_partition(&encode_partition(id)), Some(id));
        assert_eq!(decode_partition("version: 0\n"), None);
    }
}
