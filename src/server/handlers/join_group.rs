//! JoinGroup (key 11), versions 0 to 9. The answer waits for the other members.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{ApiKey, JoinGroupRequest, JoinGroupResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{client, kept, kept_optional, told_optional};
use super::{later, text};
use crate::coordinator::group::request::{JoinGroup, JoinedGroup};
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::JoinGroup, least: 0, greatest: 9, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: JoinGroupRequest| {
        let version = request.version;
        let join = JoinGroup {
            group_id: kept(&message.group_id),
            member_id: kept(&message.member_id),
            group_instance_id: kept_optional(&message.group_instance_id),
            client: client(&request),
            needs_known_member_id: version >= 4,
            supports_skipping_assignment: version >= 9,
            session_timeout_ms: message.session_timeout_ms,
            // Version 0 knows no timeout of its own for rebalances.
            rebalance_timeout_ms: match version {
                0 => message.session_timeout_ms,
                _ => message.rebalance_timeout_ms,
            },
            protocol_type: kept(&message.protocol_type),
            protocols: message
                .protocols
                .iter()
                .map(|protocol| (kept(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
                .collect(),
            reason: kept_optional(&message.reason),
        };
        // A member may wait for minutes: nothing of its request is held meanwhile.
        drop((message, request));
        later(version, async move {
            let member_id = join.member_id.clone();
            let group_id = join.group_id.clone();
            match broker.groups.ask(&group_id, group::Request::Join(join)).await {
                Response::Join(joined) => told(joined, version),
                Response::Failed(error) => told(failed(error, member_id), version),
                _ => told(failed(ResponseError::UnknownServerError, member_id), version),
            }
        })
    })
}

fn failed(error: ResponseError, member_id: Arc<str>) -> JoinedGroup {
    JoinedGroup {
        error: Some(error),
        generation_id: -1,
        protocol_type: None,
        protocol_name: None,
        leader: "".into(),
        skip_assignment: false,
        member_id,
        members: Vec::new(),
    }
}

fn told(joined: JoinedGroup, version: i16) -> JoinGroupResponse {
    let members = joined.members.iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(told_optional(&member.group_instance_id).filter(|_| version >= 5))
            .with_metadata(member.metadata.clone())
    });
    // No protocol is null since version 7, and an empty name before.
    let protocol_name = told_optional(&joined.protocol_name).filter(|name| !name.is_empty());
    let protocol_name = if version < 7 { Some(protocol_name.unwrap_or_default()) } else { protocol_name };
    let mut response = JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, |error| error.code()))
        .with_generation_id(joined.generation_id)
        .with_protocol_name(protocol_name)
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect());
    if version >= 7 {
        response = response.with_protocol_type(told_optional(&joined.protocol_type));
    }
    if version >= 9 {
        response = response.with_skip_assignment(joined.skip_assignment);
    }
    response
}
