//! InitProducerId (key 22; version 6 is not stable in Kafka): an id for an idempotent producer.
//! Transactional ids are refused: transactions are not served.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::protocol::guard::shapes;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::INIT_PRODUCER_ID,
    versions: 0..=5,
    notes: &[(3, "a producer may say which id and epoch it has (KIP-360)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    // The first with a transactional id; without one the second, or the third on any topic.
    needs: &[
        Need(Operation::Write, Resource::TransactionalId),
        Need(Operation::IdempotentWrite, Resource::Cluster),
        Need(Operation::Write, Resource::Topic),
    ],
    handler: Handler::later::<InitProducerIdRequest>(),
};

error_codes!(InitProducerIdResponse: []);

impl Answered for InitProducerIdRequest {
    type Response = InitProducerIdResponse;

    fn error_response(&self, _: i16, error: &WireError) -> InitProducerIdResponse {
        InitProducerIdResponse::default()
            .with_error_code(error.number())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    }
}

impl AnswerLater for InitProducerIdRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> InitProducerIdResponse {
        match next_id(&self, &broker).await {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(id).with_producer_epoch(0),
            Err(error) => self.error_response(request.version, &error.into()),
        }
    }
}

async fn next_id(request: &InitProducerIdRequest, broker: &Broker) -> Result<ProducerId, ResponseError> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => return Err(ResponseError::InvalidRequest),
        Some(_) => return Err(ResponseError::UnsupportedVersion),
        None => {}
    }
    // KIP-360: an id comes with its epoch or not at all.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Err(ResponseError::InvalidRequest);
    }
    let id = broker.producer_ids.next(&broker.controller, broker.identity()).await.map_err(|error| {
        tracing::warn!(%error, "no producer id could be given");
        ResponseError::CoordinatorLoadInProgress
    })?;
    Ok(ProducerId(id.0))
}
