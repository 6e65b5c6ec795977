//! The wire: frames, headers, the guard before the decoder, record batches as views, the hot
//! requests and responses without a copy.
//!
//! Nothing in here does I/O, and nothing in here trusts a byte: lengths and counts are checked
//! against the bytes that are there before anything is allocated for them.

pub mod batch;
pub mod builder;
pub mod check;
pub mod compression;
pub mod control;
pub mod fetch;
pub mod guard;
pub mod header;
pub mod internal;
pub mod messages;
pub mod produce;
pub mod reader;
pub mod records;
pub mod walk;

pub use builder::recompress;
pub use check::check_for_produce;
