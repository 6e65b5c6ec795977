//! LeaveGroup (key 13): members leave, or an administrator removes them.

use std::sync::Arc;

use super::groups::{client, error_code, optional_text, to_owned_optional, to_owned_text};
use super::text;
use crate::coordinator::group::request::{LeaveGroup, LeavingMember, LeftMember};
use crate::protocol::guard::shapes;
use crate::protocol::messages::leave_group_response::MemberResponse;
use crate::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::LEAVE_GROUP,
    versions: 0..=5,
    notes: &[(3, "several members, and static ones (KIP-345)"), (5, "why a member leaves (KIP-800)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Read, Resource::Group)],
    handler: Handler::later::<LeaveGroupRequest>(),
};

error_codes!(LeaveGroupResponse: [] [members]);

/// Since this version several members may leave, and each has an answer.
const BATCHED: i16 = 3;

impl Answered for LeaveGroupRequest {
    type Response = LeaveGroupResponse;

    fn error_response(&self, _: i16, error: &WireError) -> LeaveGroupResponse {
        LeaveGroupResponse::default().with_error_code(error.number())
    }
}

impl AnswerLater for LeaveGroupRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> LeaveGroupResponse {
        let members = if request.version < BATCHED {
            let member_id = to_owned_text(&self.member_id);
            vec![LeavingMember { member_id, group_instance_id: None, reason: None }]
        } else {
            let leaving = self.members.iter().map(|member| LeavingMember {
                member_id: to_owned_text(&member.member_id),
                group_instance_id: to_owned_optional(&member.group_instance_id),
                reason: to_owned_optional(&member.reason),
            });
            leaving.collect()
        };
        let leave = LeaveGroup { group_id: to_owned_text(&self.group_id), client: client(&request), members };
        match broker.groups.leave(leave).await {
            Ok(members) => to_response(members, request.version),
            Err(error) => self.error_response(request.version, &group_error(&error).into()),
        }
    }
}

fn to_response(members: Vec<LeftMember>, version: i16) -> LeaveGroupResponse {
    if version < BATCHED {
        let code = members.first().map_or(0, |member| error_code(&member.result));
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = members.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(optional_text(&member.group_instance_id))
            .with_error_code(error_code(&member.result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
