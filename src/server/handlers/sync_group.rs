//! SyncGroup (key 14), versions 0 to 5. The answer waits for the leader's assignment.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, SyncGroupRequest, SyncGroupResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{kept, kept_optional, told_optional};
use super::later;
use crate::coordinator::group::request::{SyncGroup, SyncedGroup};
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::SyncGroup, least: 0, greatest: 5, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: SyncGroupRequest| {
        let version = request.version;
        let sync = SyncGroup {
            group_id: kept(&message.group_id),
            generation_id: message.generation_id,
            member_id: kept(&message.member_id),
            group_instance_id: kept_optional(&message.group_instance_id),
            protocol_type: kept_optional(&message.protocol_type),
            protocol_name: kept_optional(&message.protocol_name),
            assignments: message
                .assignments
                .iter()
                .map(|each| (kept(&each.member_id), Bytes::copy_from_slice(&each.assignment)))
                .collect(),
        };
        // A member may wait for minutes: nothing of its request is held meanwhile.
        drop((message, request));
        later(version, async move {
            // KIP-559: both name what they think the group is.
            if version >= 5 && (sync.protocol_type.is_none() || sync.protocol_name.is_none()) {
                return refused(ResponseError::InconsistentGroupProtocol);
            }
            let group_id = sync.group_id.clone();
            match broker.groups.ask(&group_id, group::Request::Sync(sync)).await {
                Response::Sync(synced) => told(synced, version),
                Response::Failed(error) => refused(error),
                _ => refused(ResponseError::UnknownServerError),
            }
        })
    })
}

fn refused(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}

fn told(synced: SyncedGroup, version: i16) -> SyncGroupResponse {
    let mut response = SyncGroupResponse::default()
        .with_error_code(synced.error.map_or(0, |error| error.code()))
        .with_assignment(synced.assignment);
    if version >= 5 {
        response = response
            .with_protocol_type(told_optional(&synced.protocol_type))
            .with_protocol_name(told_optional(&synced.protocol_name));
    }
    response
}
