//! The messages of Kafka's protocol, and their codec: what is encoded or decoded goes through here.
//!
//! Most are kafka-protocol's. What that crate lacks, or has in older versions than Kafka 4.3, comes from
//! [`generated`], which looks the same: a handler takes a message from here and does not know whose it is.
//! To make one of ours, name its API in `OWN_CODECS` of `compat-tests/message_definitions.py`, and below.

#[rustfmt::skip]
mod generated;
mod value;

use bytes::{Bytes, BytesMut};
pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

pub use generated::{
    describe_log_dirs_request, describe_log_dirs_response, list_offsets_request, list_offsets_response,
    offset_commit_request, offset_commit_response, offset_fetch_request, offset_fetch_response,
    write_txn_markers_request, write_txn_markers_response,
};

pub use describe_log_dirs_request::DescribeLogDirsRequest;
pub use describe_log_dirs_response::DescribeLogDirsResponse;
pub use list_offsets_request::ListOffsetsRequest;
pub use list_offsets_response::ListOffsetsResponse;
pub use offset_commit_request::OffsetCommitRequest;
pub use offset_commit_response::OffsetCommitResponse;
pub use offset_fetch_request::OffsetFetchRequest;
pub use offset_fetch_response::OffsetFetchResponse;
pub use write_txn_markers_request::WriteTxnMarkersRequest;
pub use write_txn_markers_response::WriteTxnMarkersResponse;

/// Reads a message, whole.
///
/// # Errors
/// When the bytes are none of this version. A request that passed the [guard](super::guard) never fails.
pub fn decode<M: Decodable>(version: i16, bytes: &mut Bytes) -> anyhow::Result<M> {
    M::decode(bytes, version)
}

/// Writes a message.
///
/// # Errors
/// When something is set that this version cannot carry.
pub fn encode<M: Encodable>(message: &M, version: i16) -> anyhow::Result<Bytes> {
    // Most answers are small: this one allocation holds them.
    let mut bytes = BytesMut::with_capacity(256);
    message.encode(&mut bytes, version)?;
    Ok(bytes.freeze())
}
