//! UnregisterBroker (key 64): a broker that does not come back is forgotten. One that still runs registers again.

use std::sync::Arc;

use crate::protocol::guard::shapes;
use crate::protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::types::NodeId;

pub(super) const API: Api = Api {
    shape: &shapes::UNREGISTER_BROKER,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<UnregisterBrokerRequest>(),
};

error_codes!(UnregisterBrokerResponse: []);

impl Answered for UnregisterBrokerRequest {
    type Response = UnregisterBrokerResponse;

    fn error_response(&self, _: i16, error: &WireError) -> UnregisterBrokerResponse {
        UnregisterBrokerResponse::default().with_error_code(error.number()).with_error_message(error.text())
    }
}

impl AnswerLater for UnregisterBrokerRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> UnregisterBrokerResponse {
        match broker.controller.unregister_broker(NodeId(self.broker_id.0)).await {
            Ok(()) => {
                broker.wait_applied().await;
                UnregisterBrokerResponse::default()
            }
            Err(error) => self.error_response(request.version, &error.into()),
        }
    }
}
