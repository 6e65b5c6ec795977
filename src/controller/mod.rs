//! The controller: decides what the cluster's metadata should be.
//!
//! `decide` functions are pure: from an image, a request and some randomness they make the records that
//! carry the request out and the answer to it. They are methods of [`Decider`], one file per kind of
//! request. A runtime around them ([`Controller`]) takes requests from a queue, decides all that have
//! gathered one after the other, each on the image that the ones before it lead to, proposes their records
//! to the quorum as one batch, and answers when this node has applied it. So a client that asks next finds
//! what it made. Whoever asks does so through a [`ControllerHandle`], which finds the active controller, be it on this
//! node or on another one ([`forwarding`]).
//!
//! Errors and their messages are those of Kafka 4.3's KRaft controller.

mod actor;
#[cfg(test)]
mod actor_tests;
mod balancing;
mod brokers;
mod configs;
mod features;
mod forwarding;
#[cfg(test)]
mod forwarding_tests;
mod handing_over;
mod handle;
mod liveness;
mod partition_change;
mod partitions;
mod placement;
mod reassignment;
#[cfg(test)]
mod replica_tests;
mod request;
#[cfg(test)]
mod tests;
mod topics;
mod watching;
#[cfg(test)]
mod watching_tests;

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

use crate::env::Chance;
use crate::metadata::{ConfigResourceType, MetadataImage, MetadataRecord};

pub use actor::{Controller, ControllerOptions};
pub use balancing::Balancing;
pub use forwarding::{ChannelError, ControllerChannel};
pub use handle::ControllerHandle;
pub use partitions::PartitionName;
pub use placement::place;
pub use reassignment::ongoing_reassignments;
pub use request::*;
pub use topics::{RECORDS_PER_REQUEST_MAX, validate_topic_name};

/// What the controller answers instead of doing what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code:?}: {message}")]
pub struct ControllerError {
    #[serde(with = "error_number")]
    pub code: ResponseError,
    /// Empty where Kafka sends no message (null on the wire).
    pub message: String,
}

impl ControllerError {
    pub fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// With Kafka's own text for the code as its message.
    pub fn plain(code: ResponseError) -> Self {
        Self { code, message: code.to_string() }
    }

    /// With no message on the wire.
    pub fn silent(code: ResponseError) -> Self {
        Self { code, message: String::new() }
    }

    /// About what should never happen.
    fn unexpected(error: &dyn std::fmt::Display) -> Self {
        Self::new(ResponseError::UnknownServerError, error.to_string())
    }
}

/// An error between nodes is its number.
mod error_number {
    use kafka_protocol::ResponseError;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(code: &ResponseError, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i16(code.code())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<ResponseError, D::Error> {
        let number = i16::deserialize(from)?;
        // One of a later version of the software.
        Ok(ResponseError::try_from_code(number).unwrap_or(ResponseError::UnknownServerError))
    }
}

/// The answer about one item of a request, with the item.
pub type Answers<K, V> = Vec<(K, Result<V, ControllerError>)>;

/// Checks all configurations that a resource would have; the error is Kafka's message.
pub type ConfigValidator = fn(ConfigResourceType, &BTreeMap<String, String>) -> Result<(), String>;

/// What the controller knows about configurations.
#[derive(Clone, Copy, Debug)]
pub struct ConfigSchema {
    pub validate: ConfigValidator,
    /// True for keys whose values are lists, which APPEND and SUBTRACT need.
    pub is_list: fn(ConfigResourceType, key: &str) -> bool,
    /// The value of a key that nobody set, where there is one.
    pub default: fn(ConfigResourceType, key: &str) -> Option<String>,
}

/// What decisions depend on beside image and request.
#[derive(Clone, Copy, Debug)]
pub struct ControllerConfig {
    /// `num.partitions`
    pub partitions_default: i32,
    /// `default.replication.factor`
    pub replication_factor_default: i16,
    /// `delete.topic.enable`
    pub delete_topic_enable: bool,
    pub schema: ConfigSchema,
}

fn too_many_records() -> ControllerError {
    let message = "Unable to perform excessively large batch operation.";
    ControllerError::new(ResponseError::PolicyViolation, message)
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<R> {
    pub records: Vec<MetadataRecord>,
    pub response: R,
    /// True when the records may take effect only together. Others may be proposed in several batches.
    pub is_atomic: bool,
}

impl<R> Decision<R> {
    fn new(records: Vec<MetadataRecord>, response: R) -> Self {
        Self { records, response, is_atomic: true }
    }
}

/// Decides requests on an image; changes nothing and awaits nothing.
pub struct Decider<'a> {
    pub image: &'a MetadataImage,
    pub config: &'a ControllerConfig,
    pub chance: &'a dyn Chance,
}
