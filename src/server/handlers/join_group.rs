//! JoinGroup (key 11). The answer waits for the other members.

use std::sync::Arc;

use bytes::Bytes;

use super::groups::{client, optional_text, to_owned_optional, to_owned_text};
use super::text;
use crate::coordinator::group::request::{JoinGroup, JoinedGroup};
use crate::protocol::guard::shapes;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::messages::{JoinGroupRequest, JoinGroupResponse, StrBytes};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::JOIN_GROUP,
    versions: 0..=9,
    notes: &[
        (1, "a timeout of its own for rebalances"),
        (4, "a member without an id is given one and joins again (KIP-394)"),
        (5, "static members (KIP-345)"),
        (8, "why a member joins (KIP-800)"),
        (9, "a leader may keep the assignment (KIP-814)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Read, Resource::Group)],
    handler: Handler::later::<JoinGroupRequest>(),
};

error_codes!(JoinGroupResponse: []);

/// The first version in which no protocol is null; before it is an empty name.
const PROTOCOL_MAY_BE_NULL: i16 = 7;

impl Answered for JoinGroupRequest {
    type Response = JoinGroupResponse;

    fn error_response(&self, version: i16, error: &WireError) -> JoinGroupResponse {
        error_response(version, error, self.member_id.clone())
    }
}

impl AnswerLater for JoinGroupRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> JoinGroupResponse {
        let version = request.version;
        let join = JoinGroup {
            group_id: to_owned_text(&self.group_id),
            member_id: to_owned_text(&self.member_id),
            group_instance_id: to_owned_optional(&self.group_instance_id),
            client: client(&request),
            needs_known_member_id: version >= 4,
            supports_skipping_assignment: version >= 9,
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: match version {
                0 => self.session_timeout_ms,
                _ => self.rebalance_timeout_ms,
            },
            protocol_type: to_owned_text(&self.protocol_type),
            protocols: self
                .protocols
                .iter()
                .map(|protocol| (to_owned_text(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
                .collect(),
            reason: to_owned_optional(&self.reason),
        };
        // A member may wait for minutes: nothing of its request is held meanwhile.
        drop((self, request));
        match broker.groups.join(join).await {
            Ok(joined) => to_response(joined, version),
            Err(refused) => {
                error_response(version, &group_error(&refused.error).into(), text(&refused.member_id))
            }
        }
    }
}

fn error_response(version: i16, error: &WireError, member_id: StrBytes) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.number())
        .with_generation_id(-1)
        .with_protocol_name((version < PROTOCOL_MAY_BE_NULL).then(StrBytes::default))
        .with_member_id(member_id)
}

fn to_response(joined: JoinedGroup, version: i16) -> JoinGroupResponse {
    let members = joined.members.iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(optional_text(&member.group_instance_id).filter(|_| version >= 5))
            .with_metadata(member.metadata.clone())
    });
    let protocol_name = optional_text(&joined.protocol_name).filter(|name| !name.is_empty());
    let protocol_name =
        if version < PROTOCOL_MAY_BE_NULL { Some(protocol_name.unwrap_or_default()) } else { protocol_name };
    let mut response = JoinGroupResponse::default()
        .with_generation_id(joined.generation_id)
        .with_protocol_name(protocol_name)
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect());
    if version >= PROTOCOL_MAY_BE_NULL {
        response = response.with_protocol_type(optional_text(&joined.protocol_type));
    }
    if version >= 9 {
        response = response.with_skip_assignment(joined.skip_assignment);
    }
    response
}
