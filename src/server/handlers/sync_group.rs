//! SyncGroup (key 14). The answer waits for the leader's assignment.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::groups::{optional_text, to_owned_optional, to_owned_text};
use crate::coordinator::group::request::{SyncGroup, SyncedGroup};
use crate::protocol::guard::shapes;
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::SYNC_GROUP,
    versions: 0..=5,
    notes: &[(3, "static members (KIP-345)"), (5, "a member says what it thinks the group is (KIP-559)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Read, Resource::Group)],
    handler: Handler::later::<SyncGroupRequest>(),
};

error_codes!(SyncGroupResponse: []);

/// The first version in which both sides name the group's protocol (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

impl Answered for SyncGroupRequest {
    type Response = SyncGroupResponse;

    fn error_response(&self, _: i16, error: &WireError) -> SyncGroupResponse {
        error_response(error)
    }
}

impl AnswerLater for SyncGroupRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> SyncGroupResponse {
        let version = request.version;
        let sync = SyncGroup {
            group_id: to_owned_text(&self.group_id),
            generation_id: self.generation_id,
            member_id: to_owned_text(&self.member_id),
            group_instance_id: to_owned_optional(&self.group_instance_id),
            protocol_type: to_owned_optional(&self.protocol_type),
            protocol_name: to_owned_optional(&self.protocol_name),
            assignments: self
                .assignments
                .iter()
                .map(|each| (to_owned_text(&each.member_id), Bytes::copy_from_slice(&each.assignment)))
                .collect(),
        };
        // A member may wait for minutes: nothing of its request is held meanwhile.
        drop((self, request));
        if version >= NAMES_PROTOCOL && (sync.protocol_type.is_none() || sync.protocol_name.is_none()) {
            return error_response(&ResponseError::InconsistentGroupProtocol.into());
        }
        match broker.groups.sync(sync).await {
            Ok(synced) => to_response(synced, version),
            Err(error) => error_response(&group_error(&error).into()),
        }
    }
}

fn error_response(error: &WireError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.number())
}

fn to_response(synced: SyncedGroup, version: i16) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_assignment(synced.assignment);
    if version < NAMES_PROTOCOL {
        return response;
    }
    response
        .with_protocol_type(optional_text(&synced.protocol_type))
        .with_protocol_name(optional_text(&synced.protocol_name))
}
