//! AlterConfigs (key 33), versions 0 to 2, and IncrementalAlterConfigs (key 44), versions 0 and 1
//! (KIP-339): topics, brokers and groups are changed by the controller, the loggers of this broker
//! (KIP-412, incrementally alone) here.

use std::net::IpAddr;
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
use super::super::loggers::{self, LoggerError};
use super::describe_configs::check_own_id;
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

/// Who asks, for the log.
struct Who {
    client_id: Option<StrBytes>,
    host: IpAddr,
}

impl Who {
    fn of(request: &Request) -> Self {
        Self { client_id: request.client_id.clone(), host: request.client_host }
    }

    /// Keys alone: a value may be a secret.
    fn changed(&self, resource: &ConfigResource, keys: &[String]) {
        let client = self.client_id.as_ref().map_or("", |id| id.as_str());
        // As text, which is logged with its control characters escaped: groups have any name.
        let (resource, keys) = (resource.to_string(), keys.join(", "));
        tracing::info!(client, host = %self.host, resource, keys, "configuration changed");
    }
}

fn handle_whole(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: AlterConfigsRequest| {
        let who = Who::of(&request);
        later(request.version, async move {
            let mut outcomes = Vec::new();
            let mut resources = Vec::new();
            for asked in &message.resources {
                let values =
                    asked.configs.iter().map(|config| (config.name.to_string(), owned(&config.value)));
                let values: Vec<(String, Option<String>)> = values.collect();
                match resource(&broker, asked.resource_type, &asked.resource_name) {
                    Ok(resource) if resource.kind == ConfigResourceType::BrokerLogger => {
                        let reason = "loggers are changed one by one (IncrementalAlterConfigs)";
                        outcomes.push(refused(&resource, ResponseError::InvalidRequest, reason));
                    }
                    Ok(resource) => resources.push((resource, values)),
                    Err(outcome) => outcomes.push(outcome),
                }
            }
            let keys = |(resource, values): &(ConfigResource, Vec<(String, _)>)| {
                (resource.clone(), values.iter().map(|(key, _)| key.clone()).collect())
            };
            let named = resources.iter().map(keys).collect();
            let validate_only = message.validate_only;
            let request = AlterConfigs { resources, validate_only };
            let answers = broker.controller.alter_configs(request).await;
            broker.wait_applied().await;
            outcomes.extend(answered(&who, named, answers, validate_only));
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
        let who = Who::of(&request);
        later(request.version, async move {
            let validate_only = message.validate_only;
            let mut outcomes = Vec::new();
            let mut resources = Vec::new();
            for asked in &message.resources {
                let changes = asked.configs.iter().map(|config| {
                    let operation = ConfigOperation::from_number(config.config_operation)
                        .ok_or(config.config_operation)?;
                    Ok(ConfigChange { key: config.name.to_string(), operation, value: owned(&config.value) })
                });
                let changes: Result<Vec<ConfigChange>, i8> = changes.collect();
                match (resource(&broker, asked.resource_type, &asked.resource_name), changes) {
                    (Ok(resource), Ok(changes)) if resource.kind == ConfigResourceType::BrokerLogger => {
                        outcomes.push(change_loggers(&who, &resource, &changes, validate_only));
                    }
                    (Ok(resource), Ok(changes)) => resources.push((resource, changes)),
                    (Err(outcome), _) => outcomes.push(outcome),
                    (Ok(resource), Err(operation)) => {
                        let reason = format!("Unknown operation type {operation}");
                        outcomes.push(refused(&resource, ResponseError::InvalidRequest, &reason));
                    }
                }
            }
            let keys = |(resource, changes): &(ConfigResource, Vec<ConfigChange>)| {
                (resource.clone(), changes.iter().map(|change| change.key.clone()).collect())
            };
            let named = resources.iter().map(keys).collect();
            let request = IncrementalAlterConfigs { resources, validate_only };
            let answers = broker.controller.incremental_alter_configs(request).await;
            broker.wait_applied().await;
            outcomes.extend(answered(&who, named, answers, validate_only));
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

fn refused(resource: &ConfigResource, code: ResponseError, reason: &str) -> Outcome {
    (resource.kind.number(), text(&resource.name), code.code(), Some(text(reason)))
}

fn resource(broker: &Broker, kind: i8, name: &StrBytes) -> Result<ConfigResource, Outcome> {
    let Some(resource_type) = ConfigResourceType::from_number(kind) else {
        let reason = text(&format!("Unknown resource type {kind}"));
        return Err((kind, name.clone(), ResponseError::InvalidRequest.code(), Some(reason)));
    };
    let resource = ConfigResource { kind: resource_type, name: name.to_string() };
    let is_this_brokers = match resource_type {
        ConfigResourceType::Broker => !name.is_empty(),
        ConfigResourceType::BrokerLogger => true,
        _ => false,
    };
    match check_own_id(broker, name) {
        Err((code, reason)) if is_this_brokers => Err(refused(&resource, code, &reason)),
        _ => Ok(resource),
    }
}

/// All changes of one request are carried out, or none.
fn change_loggers(
    who: &Who,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Outcome {
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
                who.changed(resource, &keys);
            }
            (resource.kind.number(), text(&resource.name), 0, None)
        }
        Err(error) => {
            let code = match error {
                LoggerError::UnknownLogger(_) | LoggerError::UnknownLevel(..) => ResponseError::InvalidConfig,
                _ => ResponseError::InvalidRequest,
            };
            refused(resource, code, &error.to_string())
        }
    }
}

/// The controller's answers for the wire; what was changed is logged.
fn answered(
    who: &Who,
    named: Vec<(ConfigResource, Vec<String>)>,
    answers: Result<Answers<ConfigResource, ()>, ControllerError>,
    validate_only: bool,
) -> Vec<Outcome> {
    let answers = match answers {
        Ok(answers) => answers.into_iter().map(|(_, answer)| answer).collect(),
        Err(error) => vec![Err(error); named.len()],
    };
    let outcomes = named.into_iter().zip(answers).map(|((resource, keys), answer)| {
        let (code, message) = match &answer {
            Ok(()) => (0, None),
            Err(error) => refusal(error),
        };
        if answer.is_ok() && !validate_only {
            who.changed(&resource, &keys);
        }
        (resource.kind.number(), text(&resource.name), code, message)
    });
    outcomes.collect()
}
