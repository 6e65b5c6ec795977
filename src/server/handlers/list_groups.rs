//! ListGroups (key 16): the groups that this broker coordinates.

use std::sync::Arc;

use super::groups::group_id;
use super::text;
use crate::protocol::guard::shapes;
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::LIST_GROUPS,
    versions: 0..=5,
    notes: &[(4, "filters by state (KIP-518)"), (5, "filters by type (KIP-848)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    // The first for all groups, or the second for those that are listed.
    needs: &[Need(Operation::Describe, Resource::Cluster), Need(Operation::Describe, Resource::Group)],
    handler: Handler::later::<ListGroupsRequest>(),
};

error_codes!(ListGroupsResponse: []);

impl Answered for ListGroupsRequest {
    type Response = ListGroupsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> ListGroupsResponse {
        ListGroupsResponse::default().with_error_code(error.number())
    }
}

impl AnswerLater for ListGroupsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> ListGroupsResponse {
        let version = request.version;
        let states = self.states_filter.iter().map(|state| state.to_string()).collect();
        let types = self.types_filter.iter().map(|kind| kind.to_string()).collect();
        let groups = match broker.groups.list(states, types).await {
            Ok(groups) => groups,
            Err(error) => return self.error_response(version, &group_error(&error).into()),
        };
        let groups = groups.into_iter().map(|group| {
            let mut listed = ListedGroup::default()
                .with_group_id(group_id(&group.group_id))
                .with_protocol_type(text(&group.protocol_type));
            if version >= 4 {
                listed = listed.with_group_state(text(group.state));
            }
            if version >= 5 {
                listed = listed.with_group_type(text(group.group_type));
            }
            listed
        });
        ListGroupsResponse::default().with_groups(groups.collect())
    }
}
