//! Consumer groups and their committed offsets: one [`GroupShard`] for each partition of
//! `__consumer_offsets`.
//!
//! * [`request`]: what a shard is asked and answers.

mod offsets;
pub mod records;
pub mod request;

pub use request::{GroupId, Request, Response};
