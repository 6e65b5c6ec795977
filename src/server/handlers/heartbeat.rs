//! Heartbeat (key 12): a member of a group is there.

use std::sync::Arc;

use super::groups::{error_code, to_owned_optional, to_owned_text};
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::request::{GroupError, Heartbeat};
use crate::protocol::guard::shapes;
use crate::protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::HEARTBEAT,
    versions: 0..=4,
    notes: &[(3, "static members (KIP-345)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Read, Resource::Group)],
    handler: Handler::later::<HeartbeatRequest>(),
};

error_codes!(HeartbeatResponse: []);

impl Answered for HeartbeatRequest {
    type Response = HeartbeatResponse;

    fn error_response(&self, _: i16, error: &WireError) -> HeartbeatResponse {
        HeartbeatResponse::default().with_error_code(error.number())
    }
}

impl AnswerLater for HeartbeatRequest {
    async fn answer(self, broker: Arc<Broker>, _: Request) -> HeartbeatResponse {
        let heartbeat = Heartbeat {
            group_id: to_owned_text(&self.group_id),
            generation_id: self.generation_id,
            member_id: to_owned_text(&self.member_id),
            group_instance_id: to_owned_optional(&self.group_instance_id),
        };
        let result = match broker.groups.heartbeat(heartbeat).await {
            // A member has nothing to do while its coordinator loads, and is answered so as by Kafka.
            Err(GroupError::Coordinator(CoordinatorError::Loading)) => Ok(()),
            result => result,
        };
        HeartbeatResponse::default().with_error_code(error_code(&result))
    }
}
