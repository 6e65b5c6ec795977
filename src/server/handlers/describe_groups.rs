//! DescribeGroups (key 15), versions 0 to 6. Since 6 a group that is not there is an error (KIP-1043);
//! before, it is dead.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{ApiKey, DescribeGroupsRequest, DescribeGroupsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{GROUP_OPERATIONS, group_id, kept, told_optional};
use super::{OPERATIONS_NOT_ASKED, later, text};
use crate::coordinator::group::request::DescribedGroup as Described;
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::DescribeGroups, least: 0, greatest: 6, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: DescribeGroupsRequest| {
        let version = request.version;
        later(version, async move {
            let operations =
                if message.include_authorized_operations { GROUP_OPERATIONS } else { OPERATIONS_NOT_ASKED };
            let mut groups = Vec::with_capacity(message.groups.len());
            for id in &message.groups {
                let answer = match broker.groups.ask(id, group::Request::Describe(kept(id))).await {
                    Response::Describe(answer) => answer,
                    Response::Failed(error) => Err(error),
                    _ => Err(ResponseError::UnknownServerError),
                };
                groups.push(told(id, answer, operations, version));
            }
            DescribeGroupsResponse::default().with_groups(groups)
        })
    })
}

fn told(id: &str, answer: Result<Described, ResponseError>, operations: i32, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(group_id(id));
    let group = if version >= 3 { group.with_authorized_operations(operations) } else { group };
    let described = match answer {
        Ok(described) => described,
        Err(ResponseError::GroupIdNotFound) if version >= 6 => {
            return group
                .with_group_state(text("Dead"))
                .with_authorized_operations(OPERATIONS_NOT_ASKED)
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(text(&format!("Group {id} not found."))));
        }
        Err(ResponseError::GroupIdNotFound) => return group.with_group_state(text("Dead")),
        Err(error) => return group.with_error_code(error.code()),
    };
    let members = described.members.iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(told_optional(&member.group_instance_id).filter(|_| version >= 4))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata.clone())
            .with_member_assignment(member.assignment.clone())
    });
    group
        .with_group_state(text(described.state))
        .with_protocol_type(text(&described.protocol_type))
        .with_protocol_data(text(&described.protocol))
        .with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_there_is_dead_and_since_version_6_an_error_on_which_nothing_may_be_done() {
        let missing = || Err(ResponseError::GroupIdNotFound);
        let dead = told("g", missing(), GROUP_OPERATIONS, 5);
        assert_eq!((dead.error_code, dead.authorized_operations), (0, GROUP_OPERATIONS));
        let error = told("g", missing(), GROUP_OPERATIONS, 6);
        assert_eq!(error.error_code, ResponseError::GroupIdNotFound.code());
        assert_eq!(error.authorized_operations, OPERATIONS_NOT_ASKED);
        assert_eq!((&*dead.group_state, &*error.group_state), ("Dead", "Dead"));
    }
}
