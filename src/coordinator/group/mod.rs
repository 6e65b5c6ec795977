//! Consumer groups and their committed offsets: one [`GroupShard`] for each partition of
//! `__consumer_offsets`.
//!
//! * [`request`]: what a shard is asked and answers.
//! * [`records`]: what of it is written, in Kafka's schemas.
//! * [`classic`]: a group and its members; `joining` and `membership` are what it does.
//! * [`offsets`]: what groups have committed.
//! * [`shard`]: all groups of one partition, behind the trait that the runtime runs.
//! * [`service`]: which shard a group belongs to, as handlers ask for it.

pub mod classic;
pub mod config;
mod joining;
mod membership;
pub mod offsets;
pub mod records;
pub mod request;
pub mod service;
pub mod shard;
mod subscription;

pub use request::{GroupId, Request, Response};
pub use service::GroupCoordinator;
pub use shard::GroupShard;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
