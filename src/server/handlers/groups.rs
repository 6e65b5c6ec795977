//! What the handlers of consumer groups share.

use std::sync::Arc;

use super::text;
use crate::coordinator::group::request::{Client, GroupError};
use crate::protocol::messages::{GroupId, StrBytes};
use crate::server::api::{Operation, Request};
use crate::server::wire_errors::group_error;

/// Every operation on a group.
pub(super) const GROUP_OPERATIONS: i32 = Operation::bits(&[
    Operation::Read,
    Operation::Delete,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);

/// A text of the wire, copied: it lets go of the frame that it came in.
pub(super) fn to_owned_text(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

pub(super) fn to_owned_optional(text: &Option<StrBytes>) -> Option<Arc<str>> {
    text.as_ref().map(to_owned_text)
}

pub(super) fn optional_text(owned: &Option<Arc<str>>) -> Option<StrBytes> {
    owned.as_deref().map(text)
}

pub(super) fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

/// Who sent the request.
pub(super) fn client(request: &Request) -> Client {
    Client { id: request.client().into(), host: request.client_host }
}

/// The error code of what became of something in a group.
pub(super) fn error_code<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(0, |error| group_error(error).code())
}
