//! DescribeCluster (key 60, KIP-700): brokers, controller, cluster id.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{CLUSTER_OPERATIONS, leader_id, text};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use crate::server::Broker;
use crate::server::api::{AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Request};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_CLUSTER,
    versions: 0..=2,
    notes: &[(1, "brokers or controllers (KIP-919)"), (2, "fenced brokers too (KIP-1073)")],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[],
    handler: Handler::now::<DescribeClusterRequest>(),
};

error_codes!(DescribeClusterResponse: []);

/// Endpoint types on the wire.
const BROKER_ENDPOINTS: i8 = 1;
const CONTROLLER_ENDPOINTS: i8 = 2;

impl Answered for DescribeClusterRequest {
    type Response = DescribeClusterResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DescribeClusterResponse {
        DescribeClusterResponse::default()
            .with_error_code(error.number())
            .with_error_message(error.text())
            .with_endpoint_type(BROKER_ENDPOINTS)
    }
}

impl AnswerNow for DescribeClusterRequest {
    fn answer(self, broker: &Arc<Broker>, request: &Request) -> DescribeClusterResponse {
        if self.endpoint_type != BROKER_ENDPOINTS {
            let (error, reason) = match self.endpoint_type {
                CONTROLLER_ENDPOINTS => (
                    ResponseError::MismatchedEndpointType,
                    "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".to_owned(),
                ),
                other => (ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
            };
            return self.error_response(request.version, &WireError::new(error, reason));
        }
        let image = broker.image();
        let listener = broker.listener_names.get(request.listener).map_or("", String::as_str);
        let shown = image.brokers().values().filter(|known| self.include_fenced_brokers || !known.fenced);
        let brokers = shown.filter_map(|known| {
            let address = known.listener(listener)?;
            let described = DescribeClusterBroker::default()
                .with_broker_id(BrokerId(known.id.0))
                .with_host(text(&address.host))
                .with_port(i32::from(address.port))
                .with_rack(known.rack.as_deref().map(text));
            Some(if request.version >= 2 { described.with_is_fenced(known.fenced) } else { described })
        });
        let response = DescribeClusterResponse::default()
            .with_endpoint_type(BROKER_ENDPOINTS)
            .with_cluster_id(text(&broker.cluster_id))
            .with_controller_id(leader_id(broker.shown_controller()))
            .with_brokers(brokers.collect());
        match self.include_cluster_authorized_operations {
            true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
            false => response,
        }
    }
}
