//! ListConfigResources (key 74), versions 0 and 1 (KIP-1142): what can have configurations, by kind.
//! Version 0 was ListClientMetricsResources (KIP-714) and asks for those alone, of which there are none.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource as Listed;
use kafka_protocol::messages::{ApiKey, ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::text;
use crate::metadata::ConfigResourceType;

pub const API: Api = Api { key: ApiKey::ListConfigResources, least: 0, greatest: 1, handle };

/// Every kind, which is what an empty list asks for.
const ALL: &[ConfigResourceType] = &[
    ConfigResourceType::Topic,
    ConfigResourceType::Broker,
    ConfigResourceType::BrokerLogger,
    ConfigResourceType::ClientMetrics,
    ConfigResourceType::Group,
];

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |request, message: ListConfigResourcesRequest| {
        let asked: Option<Vec<ConfigResourceType>> = match message.resource_types.as_slice() {
            _ if request.version == 0 => Some(vec![ConfigResourceType::ClientMetrics]),
            [] => Some(ALL.to_vec()),
            kinds => kinds.iter().map(|kind| ConfigResourceType::from_number(*kind)).collect(),
        };
        let response = ListConfigResourcesResponse::default();
        let Some(mut asked) = asked else {
            return response.with_error_code(ResponseError::UnsupportedVersion.code());
        };
        asked.sort_unstable();
        asked.dedup();
        let listed = asked.into_iter().flat_map(|kind| {
            let listed = move |name: String| {
                Listed::default().with_resource_name(text(&name)).with_resource_type(kind.number())
            };
            names(broker, kind).into_iter().map(listed)
        });
        response.with_config_resources(listed.collect())
    })
}

/// Topics and brokers all; groups when they have configurations.
fn names(broker: &Broker, kind: ConfigResourceType) -> Vec<String> {
    let image = broker.image();
    match kind {
        ConfigResourceType::Topic => image.topics().map(|topic| topic.name.to_string()).collect(),
        ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
            image.brokers().keys().map(ToString::to_string).collect()
        }
        ConfigResourceType::ClientMetrics => Vec::new(),
        ConfigResourceType::Group => {
            let groups = image.configured().filter(|resource| resource.kind == kind);
            groups.map(|resource| resource.name.clone()).collect()
        }
    }
}
