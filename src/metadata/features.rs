//! The features of the cluster (KIP-584): which there are, at which levels each can be, and at which it is.
//!
//! One row is all that a feature needs: ApiVersions tells it, UpdateFeatures changes its level between those that all nodes
//! support, a new cluster begins with its first level, and whoever depends on it asks [`MetadataImage::feature_level`](super::MetadataImage::feature_level).
//! The image holds the levels that were recorded; a feature without a record is as it was before it had one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::record::{ELIGIBLE_LEADER_REPLICAS_FEATURE, Levels, MetadataRecord, SupportedFeatures};

/// The features whose levels Kafka's metadata records have: a client takes it for the version of Kafka.
pub const KAFKA_METADATA_FEATURE: &str = "metadata.version";
/// Whether the quorum's members can be changed while it runs (KIP-853).
pub const KRAFT_FEATURE: &str = "kraft.version";

/// A feature as this version of the software has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The levels at which it can be. Only 0: it is not there.
    pub levels: RangeInclusive<i16>,
    /// The level where the metadata has no record of it.
    pub unrecorded: i16,
    /// The level with which a new cluster begins.
    pub first: i16,
}

/// Kafka 4.3's features, in the order of their names. A cluster of Kafka 4.3.0 is formatted with `metadata.version` 30
/// (4.3-IV0), which all clusters have here. (Kafka can be told to keep to an earlier one; this software cannot.)
pub static FEATURES: &[Feature] = &[
    feature(ELIGIBLE_LEADER_REPLICAS_FEATURE, 0..=1, 0, 1),
    feature("group.version", 0..=0, 0, 0),
    feature(KRAFT_FEATURE, 1..=1, 1, 1),
    feature(KAFKA_METADATA_FEATURE, 30..=30, 30, 30),
    feature("share.version", 0..=0, 0, 0),
    feature("streams.version", 0..=0, 0, 0),
    feature("transaction.version", 0..=0, 0, 0),
];

const fn feature(name: &'static str, levels: RangeInclusive<i16>, unrecorded: i16, first: i16) -> Feature {
    Feature { name, levels, unrecorded, first }
}

impl Feature {
    /// The feature with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|feature| feature.name == name)
    }

    /// What this version of the software supports.
    pub fn supported() -> SupportedFeatures {
        let levels = |feature: &Self| Levels { min: *feature.levels.start(), max: *feature.levels.end() };
        FEATURES.iter().map(|feature| (feature.name.to_owned(), levels(feature))).collect()
    }

    /// What the metadata of a new cluster begins with, where somebody has chosen some levels. One that is alone has no replicas
    /// that might be eligible to lead.
    pub fn first_records(chosen: &BTreeMap<String, i16>, is_alone: bool) -> Vec<MetadataRecord> {
        let level = |feature: &Self| match chosen.get(feature.name) {
            Some(level) => *level,
            None if is_alone && feature.name == ELIGIBLE_LEADER_REPLICAS_FEATURE => 0,
            None => feature.first,
        };
        let recorded = FEATURES.iter().filter(|feature| level(feature) != feature.unrecorded);
        let record = |feature: &Self| MetadataRecord::FeatureLevel {
            name: feature.name.to_owned(),
            level: level(feature),
        };
        recorded.map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::MetadataImage;

    #[test]
    fn a_feature_is_at_its_recorded_level_or_at_what_it_was_before_it_had_one() {
        let level = |records: &[MetadataRecord], name: &str| {
            MetadataImage::default().with(records).unwrap().feature_level(name)
        };
        assert_eq!(level(&[], KAFKA_METADATA_FEATURE), 30);
        assert_eq!(level(&[], ELIGIBLE_LEADER_REPLICAS_FEATURE), 0);
        assert_eq!(level(&[], "unheard.of"), 0);
        let first = |is_alone, chosen: &[(&str, i16)]| {
            let chosen = chosen.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
            level(&Feature::first_records(&chosen, is_alone), ELIGIBLE_LEADER_REPLICAS_FEATURE)
        };
        assert_eq!((first(false, &[]), first(true, &[])), (1, 0));
        let chosen = |level| [(ELIGIBLE_LEADER_REPLICAS_FEATURE, level)];
        assert_eq!((first(false, &chosen(0)), first(true, &chosen(1))), (0, 1));
    }

    #[test]
    fn every_level_that_a_cluster_may_begin_with_is_supported() {
        for feature in FEATURES {
            assert!(feature.levels.contains(&feature.first), "{feature:?}");
            assert!(feature.levels.contains(&feature.unrecorded), "{feature:?}");
            // A record of level 0 is no record.
            assert!(feature.unrecorded == 0 || *feature.levels.start() > 0, "{feature:?}");
        }
        assert!(FEATURES.is_sorted_by_key(|feature| feature.name));
    }
}
