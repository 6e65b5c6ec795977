//! Heartbeat (key 12), versions 0 to 4.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, HeartbeatRequest, HeartbeatResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{code, kept, kept_optional};
use super::later;
use crate::coordinator::group::request::Heartbeat;
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::Heartbeat, least: 0, greatest: 4, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: HeartbeatRequest| {
        later(request.version, async move {
            let heartbeat = Heartbeat {
                group_id: kept(&message.group_id),
                generation_id: message.generation_id,
                member_id: kept(&message.member_id),
                group_instance_id: kept_optional(&message.group_instance_id),
            };
            let answer = broker.groups.ask(&message.group_id, group::Request::Heartbeat(heartbeat)).await;
            let result = match answer {
                Response::Heartbeat(result) => result,
                // A member has nothing to do while its coordinator loads, and is told so as by Kafka.
                Response::Failed(ResponseError::CoordinatorLoadInProgress) => Ok(()),
                Response::Failed(error) => Err(error),
                _ => Err(ResponseError::UnknownServerError),
            };
            HeartbeatResponse::default().with_error_code(code(result))
        })
    })
}
