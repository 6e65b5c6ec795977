//! DeleteGroups (key 42, KIP-229): groups without members, with their offsets.

use std::collections::HashSet;
use std::sync::Arc;

use super::groups::{error_code, to_owned_text};
use crate::protocol::guard::shapes;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::DELETE_GROUPS,
    versions: 0..=2,
    notes: &[],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Delete, Resource::Group)],
    handler: Handler::later::<DeleteGroupsRequest>(),
};

error_codes!(DeleteGroupsResponse: [results]);

impl Answered for DeleteGroupsRequest {
    type Response = DeleteGroupsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DeleteGroupsResponse {
        let results = named_once(self).into_iter().map(|id| {
            DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(error.number())
        });
        DeleteGroupsResponse::default().with_results(results.collect())
    }
}

impl AnswerLater for DeleteGroupsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(self.groups_names.len());
        for id in named_once(&self) {
            let deleted = broker.groups.delete(to_owned_text(id)).await;
            if let Ok(offsets) = deleted {
                tracing::info!(group = %id.as_str(), offsets, client = request.client(), host = %request.client_host, "deleted a group");
            }
            let result = DeletableGroupResult::default().with_group_id(id.clone());
            results.push(result.with_error_code(error_code(&deleted)));
        }
        DeleteGroupsResponse::default().with_results(results)
    }
}

/// What is named twice is deleted once.
fn named_once(request: &DeleteGroupsRequest) -> Vec<&GroupId> {
    let mut seen = HashSet::new();
    request.groups_names.iter().filter(|id| seen.insert(id.as_str())).collect()
}
