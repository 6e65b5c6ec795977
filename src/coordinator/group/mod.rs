//! Consumer groups and their committed offsets: one [`GroupShard`] for each partition of
//! `__consumer_offsets`.
//!
//! * [`request`]: what a shard is asked and answers.

pub mod request;

pub use request::{GroupId, Request, Response};
