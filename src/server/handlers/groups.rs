//! What the handlers of consumer groups share.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId as WireGroupId;
use kafka_protocol::protocol::StrBytes;

use super::super::api::Request;
use super::text;
use crate::coordinator::group::request::Client;

/// Every operation on a group, as bits by `AclOperation`: read, delete, describe, and its configurations.
pub const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// A text of the wire, to be kept: it lets go of the frame that it came in.
pub fn kept(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

pub fn kept_optional(text: &Option<StrBytes>) -> Option<Arc<str>> {
    text.as_ref().map(kept)
}

pub fn told_optional(kept: &Option<Arc<str>>) -> Option<StrBytes> {
    kept.as_deref().map(text)
}

pub fn group_id(id: &str) -> WireGroupId {
    WireGroupId(text(id))
}

/// Who sent the request.
pub fn client(request: &Request) -> Client {
    let id = request.client_id.as_ref().map_or_else(|| "".into(), kept);
    Client { id, host: request.client_host }
}

pub fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}
