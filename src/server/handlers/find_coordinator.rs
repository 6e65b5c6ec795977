//! FindCoordinator (key 10), versions 0 to 6 (since 4 of several keys, KIP-699), of consumer groups.
//! The first to ask has `__consumer_offsets` created, and is answered when it is there.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{later, text};

pub const API: Api = Api { key: ApiKey::FindCoordinator, least: 0, greatest: 6, handle };

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// Since this version several keys are asked for.
const BATCHED: i16 = 4;

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: FindCoordinatorRequest| {
        let (version, listener) = (request.version, request.listener);
        drop(request);
        later(version, async move {
            if version < BATCHED {
                let found = find(&broker, listener, message.key_type, &message.key, version).await;
                return FindCoordinatorResponse::default()
                    .with_error_code(found.error_code)
                    .with_error_message(found.error_message)
                    .with_node_id(found.node_id)
                    .with_host(found.host)
                    .with_port(found.port);
            }
            let mut coordinators = Vec::with_capacity(message.coordinator_keys.len());
            for key in &message.coordinator_keys {
                coordinators.push(find(&broker, listener, message.key_type, key, version).await);
            }
            FindCoordinatorResponse::default().with_coordinators(coordinators)
        })
    })
}

async fn find(broker: &Broker, listener: usize, kind: i8, key: &StrBytes, version: i16) -> Coordinator {
    let refused = |error: ResponseError, reason: &str| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(text(reason)))
    };
    match kind {
        GROUP => {}
        TRANSACTION => {
            return refused(ResponseError::InvalidRequest, "transactions are not served by this version");
        }
        SHARE => {
            return refused(ResponseError::InvalidRequest, "share groups are not served by this version");
        }
        _ => {
            let reason = "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.";
            return refused(ResponseError::InvalidRequest, reason);
        }
    }
    let unavailable = || refused(ResponseError::CoordinatorNotAvailable, "The coordinator is not available.");
    let Ok(node) = broker.groups.coordinator_of(key).await else { return unavailable() };
    broker.wait_applied().await;
    let image = broker.image();
    let listener = broker.listener_names.get(listener).map_or("", String::as_str);
    match image.broker(node).and_then(|known| known.listener(listener)) {
        Some(address) => Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(node.0))
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            // Kafka's words for nothing.
            .with_error_message(Some(text(if version < BATCHED { "NONE" } else { "" }))),
        None => unavailable(),
    }
}
