//! LeaveGroup (key 13), versions 0 to 5: one member up to 2, several since 3 (KIP-345), with reasons
//! since 5 (KIP-800).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{ApiKey, LeaveGroupRequest, LeaveGroupResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{client, code, kept, kept_optional, told_optional};
use super::{later, text};
use crate::coordinator::group::request::{LeaveGroup, LeavingMember, LeftMember};
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::LeaveGroup, least: 0, greatest: 5, handle };

/// Since this version several members may leave, and each has an answer.
const BATCHED: i16 = 3;

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: LeaveGroupRequest| {
        let version = request.version;
        later(version, async move {
            let members = if version < BATCHED {
                let member_id = kept(&message.member_id);
                vec![LeavingMember { member_id, group_instance_id: None, reason: None }]
            } else {
                let leaving = message.members.iter().map(|member| LeavingMember {
                    member_id: kept(&member.member_id),
                    group_instance_id: kept_optional(&member.group_instance_id),
                    reason: kept_optional(&member.reason),
                });
                leaving.collect()
            };
            let leave = LeaveGroup { group_id: kept(&message.group_id), client: client(&request), members };
            let left = match broker.groups.ask(&message.group_id, group::Request::Leave(leave)).await {
                Response::Leave(left) => left,
                Response::Failed(error) => Err(error),
                _ => Err(ResponseError::UnknownServerError),
            };
            told(left, version)
        })
    })
}

fn told(left: Result<Vec<LeftMember>, ResponseError>, version: i16) -> LeaveGroupResponse {
    let members = match left {
        Ok(members) => members,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    if version < BATCHED {
        let result = members.first().map_or(Ok(()), |member| member.result);
        return LeaveGroupResponse::default().with_error_code(code(result));
    }
    let members = members.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(told_optional(&member.group_instance_id))
            .with_error_code(code(member.result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
