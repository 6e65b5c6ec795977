//! DescribeCluster (key 60), versions 0 to 2: brokers, controller, cluster id.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiKey, BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::{CLUSTER_OPERATIONS, leader_id, text};

pub const API: Api = Api { key: ApiKey::DescribeCluster, least: 0, greatest: 2, handle };

/// Endpoint types on the wire.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |request, message: DescribeClusterRequest| {
        if message.endpoint_type != BROKERS {
            let (error, reason) = match message.endpoint_type {
                CONTROLLERS => (
                    ResponseError::MismatchedEndpointType,
                    "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".to_owned(),
                ),
                other => (ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
            };
            return DescribeClusterResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&reason)))
                .with_endpoint_type(BROKERS);
        }
        let image = broker.image();
        let listener = broker.listener_names.get(request.listener).map_or("", String::as_str);
        let shown = image.brokers().values().filter(|known| message.include_fenced_brokers || !known.fenced);
        let brokers = shown.filter_map(|known| {
            let address = known.listener(listener)?;
            let told = DescribeClusterBroker::default()
                .with_broker_id(BrokerId(known.id.0))
                .with_host(text(&address.host))
                .with_port(i32::from(address.port))
                .with_rack(known.rack.as_deref().map(text));
            Some(if request.version >= 2 { told.with_is_fenced(known.fenced) } else { told })
        });
        let response = DescribeClusterResponse::default()
            .with_endpoint_type(BROKERS)
            .with_cluster_id(text(&broker.cluster_id))
            .with_controller_id(leader_id(broker.quorum.leader()))
            .with_brokers(brokers.collect());
        match message.include_cluster_authorized_operations {
            true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
            false => response,
        }
    })
}
