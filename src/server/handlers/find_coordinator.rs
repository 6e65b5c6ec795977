//! FindCoordinator (key 10), of consumer groups. The first to ask has `__consumer_offsets` created, and is
//! answered when it is there.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::text;
use crate::protocol::guard::shapes;
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::FIND_COORDINATOR,
    versions: 0..=6,
    notes: &[(1, "coordinators of transactions, which are not served"), (4, "several keys (KIP-699)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    // By the kind of the key; the third for share groups.
    needs: &[
        Need(Operation::Describe, Resource::Group),
        Need(Operation::Describe, Resource::TransactionalId),
        Need(Operation::ClusterAction, Resource::Cluster),
    ],
    handler: Handler::later::<FindCoordinatorRequest>(),
};

error_codes!(FindCoordinatorResponse: [] [coordinators]);

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// Since this version several keys are asked for.
const BATCHED: i16 = 4;

impl Answered for FindCoordinatorRequest {
    type Response = FindCoordinatorResponse;

    fn error_response(&self, version: i16, error: &WireError) -> FindCoordinatorResponse {
        if version < BATCHED {
            return one(error_coordinator(&self.key, error));
        }
        let coordinators = self.coordinator_keys.iter().map(|key| error_coordinator(key, error));
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    }
}

impl AnswerLater for FindCoordinatorRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> FindCoordinatorResponse {
        let (version, listener) = (request.version, request.listener);
        drop(request);
        if version < BATCHED {
            return one(find(&broker, listener, self.key_type, &self.key, version).await);
        }
        let mut coordinators = Vec::with_capacity(self.coordinator_keys.len());
        for key in &self.coordinator_keys {
            coordinators.push(find(&broker, listener, self.key_type, key, version).await);
        }
        FindCoordinatorResponse::default().with_coordinators(coordinators)
    }
}

fn one(found: Coordinator) -> FindCoordinatorResponse {
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn error_coordinator(key: &StrBytes, error: &WireError) -> Coordinator {
    Coordinator::default()
        .with_key(key.clone())
        .with_node_id(BrokerId(-1))
        .with_port(-1)
        .with_error_code(error.number())
        .with_error_message(error.text())
}

async fn find(broker: &Broker, listener: usize, kind: i8, key: &StrBytes, version: i16) -> Coordinator {
    let refused = |code, reason: &str| error_coordinator(key, &WireError::new(code, reason));
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
