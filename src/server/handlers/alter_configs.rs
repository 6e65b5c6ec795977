//! AlterConfigs (key 33): all configurations of topics, brokers and groups are replaced, by the controller.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::config_changes::{
    ConfigOutcome, find_resource, outcomes_to_response, to_outcomes, to_owned_value,
};
use crate::controller::AlterConfigs;
use crate::metadata::{ConfigResource, ConfigResourceType};
use crate::protocol::guard::shapes;
use crate::protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::ALTER_CONFIGS,
    versions: 0..=2,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ControllerInPart,
    // By the kind of the resource; the last for brokers.
    needs: &[
        Need(Operation::AlterConfigs, Resource::Topic),
        Need(Operation::AlterConfigs, Resource::Group),
        Need(Operation::AlterConfigs, Resource::Cluster),
    ],
    handler: Handler::later::<AlterConfigsRequest>(),
};

error_codes!(AlterConfigsResponse: [responses]);

impl Answered for AlterConfigsRequest {
    type Response = AlterConfigsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> AlterConfigsResponse {
        let outcomes = self
            .resources
            .iter()
            .map(|resource| ConfigOutcome::refused(resource.resource_type, &resource.resource_name, error));
        outcomes_to_response!(outcomes, AlterConfigsResponse, AlterConfigsResourceResponse)
    }
}

impl AnswerLater for AlterConfigsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> AlterConfigsResponse {
        let validate_only = self.validate_only;
        let mut outcomes = Vec::new();
        let mut resources = Vec::new();
        for asked in &self.resources {
            let values =
                asked.configs.iter().map(|config| (config.name.to_string(), to_owned_value(&config.value)));
            match find_resource(&broker, asked.resource_type, &asked.resource_name) {
                Ok(resource) if resource.kind == ConfigResourceType::BrokerLogger => {
                    let reason = "loggers are changed one by one (IncrementalAlterConfigs)";
                    let error = WireError::new(ResponseError::InvalidRequest, reason);
                    outcomes.push(ConfigOutcome::failed(&resource, error));
                }
                Ok(resource) => resources.push((resource, values.collect::<Vec<_>>())),
                Err(outcome) => outcomes.push(outcome),
            }
        }
        let keys = |(resource, values): &(ConfigResource, Vec<(String, _)>)| {
            (resource.clone(), values.iter().map(|(key, _)| key.clone()).collect())
        };
        let named = resources.iter().map(keys).collect();
        let answers = broker.controller.alter_configs(AlterConfigs { resources, validate_only }).await;
        broker.wait_applied().await;
        outcomes.extend(to_outcomes(&request, named, answers, validate_only));
        outcomes_to_response!(outcomes.into_iter(), AlterConfigsResponse, AlterConfigsResourceResponse)
    }
}
