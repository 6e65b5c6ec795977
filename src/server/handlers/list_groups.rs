//! ListGroups (key 16), versions 0 to 5: filters by state since 4 (KIP-518) and by type since 5 (KIP-848).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ApiKey, ListGroupsRequest, ListGroupsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::group_id;
use super::{later, text};
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::ListGroups, least: 0, greatest: 5, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: ListGroupsRequest| {
        let version = request.version;
        later(version, async move {
            let states: Vec<String> = message.states_filter.iter().map(|state| state.to_string()).collect();
            let types: Vec<String> = message.types_filter.iter().map(|kind| kind.to_string()).collect();
            let list = || group::Request::List { states: states.clone(), types: types.clone() };
            let mut groups = Vec::new();
            for answer in broker.groups.ask_all(list).await {
                match answer {
                    Response::List(listed) => groups.extend(listed),
                    // A shard that moved away meanwhile is listed where it is now.
                    Response::Failed(ResponseError::NotCoordinator) => {}
                    Response::Failed(error) => {
                        return ListGroupsResponse::default().with_error_code(error.code());
                    }
                    _ => {}
                }
            }
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
        })
    })
}
