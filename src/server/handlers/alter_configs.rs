//! AlterConfigs (key 33), versions 0 to 2, and IncrementalAlterConfigs (key 44), versions 0 and 1
//! (KIP-339), of topics. A broker's own configuration comes from its file.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Answer;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalAnswer;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, ApiKey, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{later, refusal, text};
use crate::controller::{
    AlterConfigs, Answers, ConfigChange, ConfigOperation, ControllerError, IncrementalAlterConfigs,
};
use crate::metadata::{ConfigResource, ConfigResourceType};

pub const API: Api = Api { key: ApiKey::AlterConfigs, least: 0, greatest: 2, handle: handle_whole };
pub const INCREMENTAL_API: Api =
    Api { key: ApiKey::IncrementalAlterConfigs, least: 0, greatest: 1, handle: handle_incremental };

/// A resource as the wire names it, with the error code and message of its answer.
type Outcome = (i8, StrBytes, i16, Option<StrBytes>);

fn handle_whole(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: AlterConfigsRequest| {
        later(request.version, async move {
            let mut outcomes = Vec::new();
            let mut resources = Vec::new();
            for asked in &message.resources {
                let values =
                    asked.configs.iter().map(|config| (config.name.to_string(), owned(&config.value)));
                let values = values.collect();
                match resource(asked.resource_type, &asked.resource_name) {
                    Ok(resource) => resources.push((resource, values)),
                    Err(outcome) => outcomes.push(outcome),
                }
            }
            let keys: Vec<ConfigResource> = resources.iter().map(|(resource, _)| resource.clone()).collect();
            let request = AlterConfigs { resources, validate_only: message.validate_only };
            outcomes.extend(answered(keys, broker.controller.alter_configs(request).await));
            broker.wait_applied().await;
            let responses = outcomes.into_iter().map(|(kind, name, code, text)| {
                Answer::default()
                    .with_resource_type(kind)
                    .with_resource_name(name)
                    .with_error_code(code)
                    .with_error_message(text)
            });
            AlterConfigsResponse::default().with_responses(responses.collect())
        })
    })
}

fn handle_incremental(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: IncrementalAlterConfigsRequest| {
        later(request.version, async move {
            let mut outcomes = Vec::new();
            let mut resources = Vec::new();
            for asked in &message.resources {
                let changes = asked.configs.iter().map(|config| {
                    let operation = ConfigOperation::from_number(config.config_operation)
                        .ok_or(config.config_operation)?;
                    Ok(ConfigChange { key: config.name.to_string(), operation, value: owned(&config.value) })
                });
                let changes: Result<Vec<ConfigChange>, i8> = changes.collect();
                match (resource(asked.resource_type, &asked.resource_name), changes) {
                    (Ok(resource), Ok(changes)) => resources.push((resource, changes)),
                    (Err(outcome), _) => outcomes.push(outcome),
                    (Ok(_), Err(operation)) => {
                        let reason = text(&format!("Unknown operation type {operation}"));
                        let code = ResponseError::InvalidRequest.code();
                        outcomes.push((asked.resource_type, asked.resource_name.clone(), code, Some(reason)));
                    }
                }
            }
            let keys: Vec<ConfigResource> = resources.iter().map(|(resource, _)| resource.clone()).collect();
            let request = IncrementalAlterConfigs { resources, validate_only: message.validate_only };
            outcomes.extend(answered(keys, broker.controller.incremental_alter_configs(request).await));
            broker.wait_applied().await;
            let responses = outcomes.into_iter().map(|(kind, name, code, text)| {
                IncrementalAnswer::default()
                    .with_resource_type(kind)
                    .with_resource_name(name)
                    .with_error_code(code)
                    .with_error_message(text)
            });
            IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
        })
    })
}

fn owned(value: &Option<StrBytes>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

fn resource(kind: i8, name: &StrBytes) -> Result<ConfigResource, Outcome> {
    match ConfigResourceType::from_number(kind) {
        Some(resource_type) => Ok(ConfigResource { kind: resource_type, name: name.to_string() }),
        None => {
            let reason = text(&format!("Unknown resource type {kind}"));
            Err((kind, name.clone(), ResponseError::InvalidRequest.code(), Some(reason)))
        }
    }
}

fn answered(
    resources: Vec<ConfigResource>,
    answers: Result<Answers<ConfigResource, ()>, ControllerError>,
) -> Vec<Outcome> {
    let answers = answers.unwrap_or_else(|error| {
        resources.into_iter().map(|resource| (resource, Err(error.clone()))).collect()
    });
    let outcomes = answers.into_iter().map(|(resource, answer)| {
        let (code, message) = match &answer {
            Ok(()) => (0, None),
            Err(error) => refusal(error),
        };
        (resource.kind.number(), text(&resource.name), code, message)
    });
    outcomes.collect()
}
