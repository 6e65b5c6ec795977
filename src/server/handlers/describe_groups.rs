//! DescribeGroups (key 15): state, protocol and members of groups.

use std::sync::Arc;

use super::groups::{GROUP_OPERATIONS, optional_text, to_owned_text};
use super::{OPERATIONS_NOT_ASKED, text};
use crate::coordinator::group::request::{DescribedGroup as Described, GroupError};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_GROUPS,
    versions: 0..=6,
    notes: &[
        (3, "what the client may do"),
        (4, "static members (KIP-345)"),
        (6, "a group that is not there is an error (KIP-1043); before, it is dead"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Describe, Resource::Group)],
    handler: Handler::later::<DescribeGroupsRequest>(),
};

error_codes!(DescribeGroupsResponse: [groups]);

/// The first version that says what a client may do.
const TELLS_OPERATIONS: i16 = 3;
/// The first version in which a group that is not there is an error.
const TELLS_MISSING: i16 = 6;

impl Answered for DescribeGroupsRequest {
    type Response = DescribeGroupsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DescribeGroupsResponse {
        let groups = self
            .groups
            .iter()
            .map(|id| DescribedGroup::default().with_group_id(id.clone()).with_error_code(error.number()));
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }
}

impl AnswerLater for DescribeGroupsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> DescribeGroupsResponse {
        let operations =
            if self.include_authorized_operations { GROUP_OPERATIONS } else { OPERATIONS_NOT_ASKED };
        let mut groups = Vec::with_capacity(self.groups.len());
        for id in &self.groups {
            let described = broker.groups.describe(to_owned_text(id)).await;
            groups.push(to_group(id, described, operations, request.version));
        }
        DescribeGroupsResponse::default().with_groups(groups)
    }
}

fn to_group(
    id: &GroupId,
    described: Result<Described, GroupError>,
    operations: i32,
    version: i16,
) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id.clone());
    let group =
        if version >= TELLS_OPERATIONS { group.with_authorized_operations(operations) } else { group };
    let described = match described {
        Ok(described) => described,
        Err(GroupError::GroupIdNotFound) if version < TELLS_MISSING => {
            return group.with_group_state(text("Dead"));
        }
        Err(error) => {
            let group = group.with_error_code(group_error(&error).code());
            if error != GroupError::GroupIdNotFound {
                return group;
            }
            return group
                .with_group_state(text("Dead"))
                .with_authorized_operations(OPERATIONS_NOT_ASKED)
                .with_error_message(Some(text(&format!("Group {} not found.", id.as_str()))));
        }
    };
    let members = described.members.iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(optional_text(&member.group_instance_id).filter(|_| version >= 4))
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
    use kafka_protocol::ResponseError;

    use super::*;
    use crate::server::handlers::groups::group_id;

    #[test]
    fn a_group_that_is_not_there_is_dead_and_since_version_6_an_error_on_which_nothing_may_be_done() {
        let missing = || Err(GroupError::GroupIdNotFound);
        let dead = to_group(&group_id("g"), missing(), GROUP_OPERATIONS, 5);
        assert_eq!((dead.error_code, dead.authorized_operations), (0, GROUP_OPERATIONS));
        let error = to_group(&group_id("g"), missing(), GROUP_OPERATIONS, 6);
        assert_eq!(error.error_code, ResponseError::GroupIdNotFound.code());
        assert_eq!(error.authorized_operations, OPERATIONS_NOT_ASKED);
        assert_eq!((&*dead.group_state, &*error.group_state), ("Dead", "Dead"));
    }
}
