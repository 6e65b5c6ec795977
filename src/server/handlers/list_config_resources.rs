//! ListConfigResources (key 74, KIP-1142): what can have configurations, by kind.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::text;
use crate::metadata::ConfigResourceType;
use crate::protocol::guard::shapes;
use crate::protocol::messages::list_config_resources_response::ConfigResource as Listed;
use crate::protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::LIST_CONFIG_RESOURCES,
    versions: 0..=1,
    notes: &[
        (0, "client metrics alone (KIP-714), of which there are none"),
        (1, "every kind of resource, or those asked for"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[Need(Operation::DescribeConfigs, Resource::Cluster)],
    handler: Handler::now::<ListConfigResourcesRequest>(),
};

error_codes!(ListConfigResourcesResponse: []);

/// Every kind, which is what an empty list asks for.
const ALL: &[ConfigResourceType] = &[
    ConfigResourceType::Topic,
    ConfigResourceType::Broker,
    ConfigResourceType::BrokerLogger,
    ConfigResourceType::ClientMetrics,
    ConfigResourceType::Group,
];

impl Answered for ListConfigResourcesRequest {
    type Response = ListConfigResourcesResponse;

    fn error_response(&self, _: i16, error: &WireError) -> ListConfigResourcesResponse {
        ListConfigResourcesResponse::default().with_error_code(error.number())
    }
}

impl AnswerNow for ListConfigResourcesRequest {
    fn answer(self, broker: &Arc<Broker>, request: &Request) -> ListConfigResourcesResponse {
        let asked: Option<Vec<ConfigResourceType>> = match self.resource_types.as_slice() {
            _ if request.version == 0 => Some(vec![ConfigResourceType::ClientMetrics]),
            [] => Some(ALL.to_vec()),
            kinds => kinds.iter().map(|kind| ConfigResourceType::from_number(*kind)).collect(),
        };
        let Some(mut asked) = asked else {
            return self.error_response(request.version, &ResponseError::UnsupportedVersion.into());
        };
        asked.sort_unstable();
        asked.dedup();
        let listed = asked.into_iter().flat_map(|kind| {
            let listed = move |name: String| {
                Listed::default().with_resource_name(text(&name)).with_resource_type(kind.number())
            };
            names(broker, kind).into_iter().map(listed)
        });
        ListConfigResourcesResponse::default().with_config_resources(listed.collect())
    }
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
