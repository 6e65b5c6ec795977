//! DeleteGroups (key 42), versions 0 to 2 (KIP-229): groups without members, with their offsets.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{ApiKey, DeleteGroupsRequest, DeleteGroupsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{code, kept};
use super::later;
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::DeleteGroups, least: 0, greatest: 2, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: DeleteGroupsRequest| {
        later(request.version, async move {
            let mut results = Vec::with_capacity(message.groups_names.len());
            // Who is named twice is deleted once.
            let mut seen = HashSet::new();
            for id in message.groups_names.into_iter().filter(|id| seen.insert(id.clone())) {
                let result = match broker.groups.ask(&id, group::Request::Delete(kept(&id))).await {
                    Response::Delete(Ok(offsets)) => {
                        let client = request.client_id.as_deref().unwrap_or("");
                        tracing::info!(group = %id.as_str(), offsets, client, host = %request.client_host, "deleted a group");
                        Ok(())
                    }
                    Response::Delete(Err(error)) => Err(error),
                    Response::Failed(error) => Err(error),
                    _ => Err(ResponseError::UnknownServerError),
                };
                results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code(result)));
            }
            DeleteGroupsResponse::default().with_results(results)
        })
    })
}
