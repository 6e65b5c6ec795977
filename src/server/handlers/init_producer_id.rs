//! InitProducerId (key 22), versions 0 to 5 (6 is not stable in Kafka): an id for an idempotent
//! producer. Transactional ids are refused: transactions are not served.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::later;

pub const API: Api = Api { key: ApiKey::InitProducerId, least: 0, greatest: 5, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: InitProducerIdRequest| {
        later(request.version, async move { response(&broker, &message).await })
    })
}

async fn response(broker: &Broker, message: &InitProducerIdRequest) -> InitProducerIdResponse {
    let failed = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if message.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
        return failed(ResponseError::InvalidRequest);
    }
    if message.transactional_id.is_some() {
        return failed(ResponseError::UnsupportedVersion);
    }
    // KIP-360: an id comes with its epoch or not at all.
    if (message.producer_id.0 == -1) != (message.producer_epoch == -1) {
        return failed(ResponseError::InvalidRequest);
    }
    match broker.producer_ids.next(&broker.controller, broker.identity).await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "no producer id could be given");
            failed(ResponseError::CoordinatorLoadInProgress)
        }
    }
}
