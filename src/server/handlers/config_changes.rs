//! What AlterConfigs and IncrementalAlterConfigs share.

use kafka_protocol::ResponseError;

use super::describe_configs::check_own_id;
use super::text;
use crate::controller::{Answers, ControllerError};
use crate::metadata::{ConfigResource, ConfigResourceType};
use crate::protocol::messages::StrBytes;
use crate::server::Broker;
use crate::server::api::Request;
use crate::server::wire_errors::WireError;

/// What became of a resource, which is named as on the wire.
pub(super) struct ConfigOutcome {
    pub resource_type: i8,
    pub resource_name: StrBytes,
    pub error: Option<WireError>,
}

impl ConfigOutcome {
    pub(super) fn done(resource: &ConfigResource) -> Self {
        Self { resource_type: resource.kind.number(), resource_name: text(&resource.name), error: None }
    }

    pub(super) fn failed(resource: &ConfigResource, error: WireError) -> Self {
        Self { error: Some(error), ..Self::done(resource) }
    }

    /// Of a request that is refused as a whole.
    pub(super) fn refused(resource_type: i8, resource_name: &StrBytes, error: &WireError) -> Self {
        Self { resource_type, resource_name: resource_name.clone(), error: Some(error.clone()) }
    }

    pub(super) fn error_code(&self) -> i16 {
        self.error.as_ref().map_or(0, WireError::number)
    }

    pub(super) fn error_message(&self) -> Option<StrBytes> {
        self.error.as_ref().and_then(WireError::text)
    }
}

/// The resource that is to be changed.
pub(super) fn find_resource(
    broker: &Broker,
    kind: i8,
    name: &StrBytes,
) -> Result<ConfigResource, ConfigOutcome> {
    let Some(resource_type) = ConfigResourceType::from_number(kind) else {
        let error = WireError::new(ResponseError::InvalidRequest, format!("Unknown resource type {kind}"));
        let resource_name = name.clone();
        return Err(ConfigOutcome { resource_type: kind, resource_name, error: Some(error) });
    };
    let resource = ConfigResource { kind: resource_type, name: name.to_string() };
    let is_this_brokers = match resource_type {
        ConfigResourceType::Broker => !name.is_empty(),
        ConfigResourceType::BrokerLogger => true,
        _ => false,
    };
    match check_own_id(broker, name) {
        Err(error) if is_this_brokers => Err(ConfigOutcome::failed(&resource, error)),
        _ => Ok(resource),
    }
}

/// A value on the wire, copied.
pub(super) fn to_owned_value(value: &Option<StrBytes>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

/// The log has who changed what. Keys alone: a value may be a secret.
pub(super) fn log_change(request: &Request, resource: &ConfigResource, keys: &[String]) {
    // As text, which is logged with its control characters escaped: groups have any name.
    let (resource, keys) = (resource.to_string(), keys.join(", "));
    tracing::info!(client = request.client(), host = %request.client_host, resource, keys, "configuration changed");
}

/// The controller's answers on `named` resources, with the keys that were asked for; what was changed is logged.
pub(super) fn to_outcomes(
    request: &Request,
    named: Vec<(ConfigResource, Vec<String>)>,
    answers: Result<Answers<ConfigResource, ()>, ControllerError>,
    validate_only: bool,
) -> Vec<ConfigOutcome> {
    let answers = match answers {
        Ok(answers) => answers.into_iter().map(|(_, answer)| answer).collect(),
        Err(error) => vec![Err(error); named.len()],
    };
    let outcomes = named.into_iter().zip(answers).map(|((resource, keys), answer)| match answer {
        Ok(()) => {
            if !validate_only {
                log_change(request, &resource, &keys);
            }
            ConfigOutcome::done(&resource)
        }
        Err(error) => ConfigOutcome::failed(&resource, error.into()),
    });
    outcomes.collect()
}

/// The response of an API that changes configurations, of whose types only the names differ.
macro_rules! outcomes_to_response {
    ($outcomes:expr, $response:ty, $row:ty) => {{
        let rows = $outcomes.map(|outcome: ConfigOutcome| {
            <$row>::default()
                .with_error_code(outcome.error_code())
                .with_error_message(outcome.error_message())
                .with_resource_type(outcome.resource_type)
                .with_resource_name(outcome.resource_name)
        });
        <$response>::default().with_responses(rows.collect())
    }};
}
pub(super) use outcomes_to_response;
