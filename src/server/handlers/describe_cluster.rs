//! DescribeCluster (key 60, KIP-700): brokers, controller, cluster id.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{CLUSTER_OPERATIONS, leader_id, text};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, ListenerRole, Request,
};
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
        let (own, own_name) = match ListenerRole::of(broker, request.listener) {
            ListenerRole::Broker => (BROKER_ENDPOINTS, "BROKER"),
            ListenerRole::Controller => (CONTROLLER_ENDPOINTS, "CONTROLLER"),
        };
        let wanted_name = match self.endpoint_type {
            BROKER_ENDPOINTS => "BROKER",
            CONTROLLER_ENDPOINTS => "CONTROLLER",
            other => {
                let reason = format!("Unsupported endpoint type {other}");
                let error = WireError::new(ResponseError::UnsupportedEndpointType, reason);
                return self.error_response(request.version, &error);
            }
        };
        if own_name != wanted_name {
            let reason = format!(
                "The request was sent to an endpoint of type {own_name}, but we wanted an endpoint of type {wanted_name}"
            );
            let error = WireError::new(ResponseError::MismatchedEndpointType, reason);
            return self.error_response(request.version, &error);
        }
        let listener = broker.listener_names.get(request.listener).map_or("", String::as_str);
        let (nodes, controller) = match own {
            CONTROLLER_ENDPOINTS => (controllers(broker, listener), broker.quorum.leader()),
            _ => {
                let brokers = brokers(broker, listener, request.version, self.include_fenced_brokers);
                (brokers, broker.shown_controller())
            }
        };
        let response = DescribeClusterResponse::default()
            .with_endpoint_type(own)
            .with_cluster_id(text(&broker.cluster_id))
            .with_controller_id(leader_id(controller))
            .with_brokers(nodes);
        match self.include_cluster_authorized_operations {
            true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
            false => response,
        }
    }
}

/// The brokers, fenced ones too where they are asked for, that listen under this name.
fn brokers(broker: &Broker, listener: &str, version: i16, with_fenced: bool) -> Vec<DescribeClusterBroker> {
    let image = broker.image();
    let shown = image.brokers().values().filter(|known| with_fenced || !known.fenced);
    let brokers = shown.filter_map(|known| {
        let address = known.listener(listener)?;
        let described = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(known.id.0))
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            .with_rack(known.rack.as_deref().map(text));
        Some(if version >= 2 { described.with_is_fenced(known.fenced) } else { described })
    });
    brokers.collect()
}

/// The voters of the quorum, where their controllers listen under this name.
fn controllers(broker: &Broker, listener: &str) -> Vec<DescribeClusterBroker> {
    let voters = broker.quorum.status().voters.into_iter();
    let controllers = voters.filter_map(|voter| {
        let address = voter.endpoints.iter().find(|endpoint| endpoint.name == listener)?;
        let described = DescribeClusterBroker::default().with_broker_id(BrokerId(voter.id.0));
        Some(described.with_host(text(&address.host)).with_port(i32::from(address.port)))
    });
    controllers.collect()
}
