//! The cluster's metadata: an immutable image, the records (facts) that make it, and the difference
//! between two images.
//!
//! - [`MetadataRecord`] is what the quorum's log holds. Records are facts, not commands: the active
//!   controller decides, and every node replays the same records to the same image, whatever version
//!   of the software it runs.
//! - [`MetadataImage`] is a value with structural sharing: a clone costs a few pointers, a replayed
//!   record touches the path to what it changes, and readers need no locks.
//!   [`MetadataImage::replay`] is the only thing that changes one.
//! - [`MetadataDelta`] tells what differs between two images; parts that both share are not looked at,
//!   so its cost follows the change and not the cluster.
//!
//! Invariants of an image, kept by the controller and checked by [`MetadataImage::check`]: partitions of
//! a topic are numbered from 0 without holes; every in-sync replica is a replica; a leader is in sync;
//! leader epochs and partition epochs of a partition never go back.

mod delta;
mod features;
mod image;
mod record;

pub use delta::{MetadataDelta, TopicDelta};
pub use features::{FEATURES, Feature, KAFKA_METADATA_FEATURE, KRAFT_FEATURE};
pub use image::{
    BrokerImage, Configs, GROUP_METADATA_TOPIC, MetadataImage, PartitionImage, ReplayError, TopicImage,
    is_internal_topic,
};
pub use record::{
    BrokerChange, ConfigResource, ConfigResourceType, ELIGIBLE_LEADER_REPLICAS_FEATURE, Levels, Listener,
    METADATA_VERSION, METADATA_VERSION_FEATURE, MetadataRecord, PartitionChange, PartitionRegistration,
    RegisterBroker, SupportedFeatures,
};
