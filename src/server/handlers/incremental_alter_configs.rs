//! IncrementalAlterConfigs (key 44, KIP-339): topics, brokers and groups are changed by the controller, the loggers
//! of this broker (KIP-412) here.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::config_changes::{
    ConfigOutcome, find_resource, log_change, outcomes_to_response, to_outcomes, to_owned_value,
};
use crate::controller::{ConfigChange, ConfigOperation, IncrementalAlterConfigs};
use crate::metadata::{ConfigResource, ConfigResourceType};
use crate::protocol::guard::shapes;
use crate::protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::loggers::LoggerError;
use crate::server::wire_errors::{WireError, logger_error};
use crate::server::{Broker, loggers};

pub(super) const API: Api = Api {
    shape: &shapes::INCREMENTAL_ALTER_CONFIGS,
    versions: 0..=1,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ControllerInPart,
    // By the kind of the resource; the last for brokers and their loggers.
    needs: &[
        Need(Operation::AlterConfigs, Resource::Topic),
        Need(Operation::AlterConfigs, Resource::Group),
        Need(Operation::AlterConfigs, Resource::Cluster),
    ],
    handler: Handler::later::<IncrementalAlterConfigsRequest>(),
};

error_codes!(IncrementalAlterConfigsResponse: [responses]);

impl Answered for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> IncrementalAlterConfigsResponse {
        let outcomes = self
            .resources
            .iter()
            .map(|resource| ConfigOutcome::refused(resource.resource_type, &resource.resource_name, error));
        outcomes_to_response!(outcomes, IncrementalAlterConfigsResponse, AlterConfigsResourceResponse)
    }
}

impl AnswerLater for IncrementalAlterConfigsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> IncrementalAlterConfigsResponse {
        let validate_only = self.validate_only;
        let mut outcomes = Vec::new();
        let mut resources = Vec::new();
        for asked in &self.resources {
            let resource = match find_resource(&broker, asked.resource_type, &asked.resource_name) {
                Ok(resource) => resource,
                Err(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
            };
            match to_changes(asked) {
                Ok(changes) if resource.kind == ConfigResourceType::BrokerLogger => {
                    outcomes.push(change_loggers(&request, &resource, &changes, validate_only));
                }
                Ok(changes) => resources.push((resource, changes)),
                Err(error) => outcomes.push(ConfigOutcome::failed(&resource, error)),
            }
        }
        let keys = |(resource, changes): &(ConfigResource, Vec<ConfigChange>)| {
            (resource.clone(), changes.iter().map(|change| change.key.clone()).collect())
        };
        let named = resources.iter().map(keys).collect();
        let alter = IncrementalAlterConfigs { resources, validate_only };
        let answers = broker.controller.incremental_alter_configs(alter).await;
        broker.wait_applied().await;
        outcomes.extend(to_outcomes(&request, named, answers, validate_only));
        outcomes_to_response!(
            outcomes.into_iter(),
            IncrementalAlterConfigsResponse,
            AlterConfigsResourceResponse
        )
    }
}

fn to_changes(asked: &AlterConfigsResource) -> Result<Vec<ConfigChange>, WireError> {
    let changes = asked.configs.iter().map(|config| {
        let number = config.config_operation;
        let Some(operation) = ConfigOperation::from_number(number) else {
            let reason = format!("Unknown operation type {number}");
            return Err(WireError::new(ResponseError::InvalidRequest, reason));
        };
        Ok(ConfigChange { key: config.name.to_string(), operation, value: to_owned_value(&config.value) })
    });
    changes.collect()
}

/// All changes of one request are carried out, or none.
fn change_loggers(
    request: &Request,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    validate_only: bool,
) -> ConfigOutcome {
    let checked = changes.iter().map(|change| match change.operation {
        ConfigOperation::Set => {
            loggers::check(&change.key, Some(change.value.as_deref().unwrap_or_default()))
        }
        ConfigOperation::Delete => loggers::check(&change.key, None),
        ConfigOperation::Append => Err(LoggerError::Operation("APPEND")),
        ConfigOperation::Subtract => Err(LoggerError::Operation("SUBTRACT")),
    });
    let checked: Result<Vec<_>, LoggerError> = checked.collect();
    let changed = checked.and_then(|changes| if validate_only { Ok(()) } else { loggers::change(&changes) });
    match changed {
        Ok(()) => {
            if !validate_only {
                let keys: Vec<String> = changes.iter().map(|change| change.key.clone()).collect();
                log_change(request, resource, &keys);
            }
            ConfigOutcome::done(resource)
        }
        Err(error) => {
            ConfigOutcome::failed(resource, WireError::new(logger_error(&error), error.to_string()))
        }
    }
}
