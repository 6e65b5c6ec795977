//! DescribeConfigs (key 32), of topics, brokers, groups and a broker's loggers: every key with its value,
//! where it comes from, its type and documentation.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::text;
use crate::config::broker_keys::KnownKey;
use crate::config::declaration::UpdateMode;
use crate::config::key::{Key, Kind};
use crate::config::topic;
use crate::config::values::{Source, Synonym};
use crate::config::{broker_keys, group};
use crate::controller::validate_topic_name;
use crate::metadata::{ConfigResource, ConfigResourceType};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::dynamic_config::of_image;
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::server::{Broker, loggers};

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_CONFIGS,
    versions: 1..=4,
    notes: &[(1, "synonyms (KIP-226)"), (3, "types and documentation (KIP-569)")],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::AnyBroker,
    // By the kind of the resource; the last for brokers and their loggers.
    needs: &[
        Need(Operation::DescribeConfigs, Resource::Topic),
        Need(Operation::DescribeConfigs, Resource::Group),
        Need(Operation::DescribeConfigs, Resource::Cluster),
    ],
    handler: Handler::now::<DescribeConfigsRequest>(),
};

error_codes!(DescribeConfigsResponse: [results]);

/// One key as it is described.
struct Entry {
    key: Key,
    /// `None` is null: nobody set it, and it has no default.
    value: Option<String>,
    read_only: bool,
    synonyms: Vec<Synonym>,
}

impl Entry {
    fn source(&self) -> Source {
        self.synonyms.first().map_or(Source::Default, |synonym| synonym.source)
    }
}

impl Answered for DescribeConfigsRequest {
    type Response = DescribeConfigsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|resource| error_result(resource, error));
        DescribeConfigsResponse::default().with_results(results.collect())
    }
}

impl AnswerNow for DescribeConfigsRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|resource| match describe(broker, resource) {
            Ok(entries) => to_result(resource)
                .with_configs(entries.into_iter().map(|entry| to_config(entry, &self)).collect()),
            Err(error) => error_result(resource, &error),
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }
}

fn to_result(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

fn error_result(resource: &DescribeConfigsResource, error: &WireError) -> DescribeConfigsResult {
    // A message is there always, if only an empty one.
    to_result(resource).with_error_code(error.number()).with_error_message(Some(text(&error.message)))
}

/// The resource's entries that are asked for.
fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, WireError> {
    let name = resource.resource_name.as_str();
    let mut entries = match ConfigResourceType::from_number(resource.resource_type) {
        Some(ConfigResourceType::Topic) => of_topic(broker, name)?,
        Some(ConfigResourceType::Broker) if name.is_empty() => of_all_brokers(broker),
        Some(ConfigResourceType::Broker) => {
            check_own_id(broker, name)?;
            of_broker(broker)
        }
        Some(ConfigResourceType::Group) if name.is_empty() => {
            return Err(WireError::new(ResponseError::InvalidRequest, "Group name must not be empty"));
        }
        Some(ConfigResourceType::Group) => of_group(broker, name),
        Some(ConfigResourceType::BrokerLogger) => {
            check_own_id(broker, name)?;
            of_loggers()
        }
        Some(ConfigResourceType::ClientMetrics) => {
            let reason = "client metrics are not served: this broker takes no telemetry of clients (KIP-714)";
            return Err(WireError::new(ResponseError::InvalidRequest, reason));
        }
        None => {
            let reason = format!("Unsupported resource type: {}", resource.resource_type);
            return Err(WireError::new(ResponseError::InvalidRequest, reason));
        }
    };
    // No keys, or null, is all of them.
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        entries.retain(|entry| keys.iter().any(|key| key.as_str() == entry.key.name));
    }
    Ok(entries)
}

/// A broker answers for itself alone.
pub(super) fn check_own_id(broker: &Broker, name: &str) -> Result<(), WireError> {
    let reason = match name.parse::<i32>() {
        Ok(id) if id == broker.node.0 => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {}, but received {name}", broker.node),
        Err(_) => format!("Node id must be an integer, but it is: {name}"),
    };
    Err(WireError::new(ResponseError::InvalidRequest, reason))
}

fn of_topic(broker: &Broker, name: &str) -> Result<Vec<Entry>, WireError> {
    if let Err(error) = validate_topic_name(name) {
        return Err(WireError::new(ResponseError::InvalidTopicException, error));
    }
    let image = broker.image();
    if image.topic(name).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition.into());
    }
    let set = of_image(&image, &ConfigResource::topic(name));
    let current = broker.dynamic.current();
    let entries = topic::keys().iter().map(|known| Entry {
        key: known.key,
        value: Some(known.effective(&set, &current.values).0),
        read_only: false,
        synonyms: known.synonyms(&set, &current.values),
    });
    Ok(entries.collect())
}

fn of_broker(broker: &Broker) -> Vec<Entry> {
    let current = broker.dynamic.current();
    let entry = |known: KnownKey| {
        let key = known.key;
        let set = current.values.get(key.name).map(|(value, _)| value);
        Entry {
            key,
            value: set.or(key.default).map(str::to_owned),
            read_only: known.update_mode == UpdateMode::ReadOnly,
            synonyms: broker_keys::synonyms(key.name, &current.values),
        }
    };
    broker_keys::all().into_iter().map(entry).collect()
}

/// What is set at run time for all brokers; not what follows from it.
fn of_all_brokers(broker: &Broker) -> Vec<Entry> {
    let current = broker.dynamic.current();
    let set = current.values.dynamic_default.iter();
    let entries = set.filter_map(|(name, value)| {
        let key = broker_keys::find(name)?.key;
        let value = value.trim().to_owned();
        let source = Source::DynamicDefaultBroker;
        let synonyms = vec![Synonym { name: key.name, value: value.clone(), source }];
        Some(Entry { key, value: Some(value), read_only: false, synonyms })
    });
    entries.collect()
}

fn of_group(broker: &Broker, name: &str) -> Vec<Entry> {
    let resource = ConfigResource { kind: ConfigResourceType::Group, name: name.to_owned() };
    let set = of_image(&broker.image(), &resource);
    let entries = group::KEYS.iter().map(|known| {
        let synonyms = known.synonyms(&set);
        let value = synonyms.first().map(|synonym| synonym.value.clone());
        Entry { key: known.key, value, read_only: false, synonyms }
    });
    entries.collect()
}

fn of_loggers() -> Vec<Entry> {
    let entries = loggers::LOGGERS.iter().map(|logger| {
        let (name, doc) = *logger;
        let value = loggers::level(name).to_string();
        let synonyms = vec![Synonym { name, value: value.clone(), source: Source::BrokerLogger }];
        Entry {
            key: Key { name, kind: Kind::OneOf(loggers::LEVELS), default: None, doc },
            value: Some(value),
            read_only: false,
            synonyms,
        }
    });
    entries.collect()
}

fn to_config(entry: Entry, message: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let source = entry.source();
    // Kafka's loggers have no synonyms.
    let with_synonyms = message.include_synonyms && source != Source::BrokerLogger;
    let mut config = DescribeConfigsResourceResult::default()
        .with_name(text(entry.key.name))
        .with_value(entry.value.as_deref().map(|value| text(&entry.key.canonical(value))))
        .with_read_only(entry.read_only)
        .with_config_source(source as i8)
        .with_config_type(config_type(entry.key.kind));
    if with_synonyms {
        let synonyms = entry.synonyms.iter().map(|synonym| {
            // As in Kafka, a broker's are told as somebody wrote them.
            let value = match synonym.source {
                Source::Topic | Source::Group => &entry.key.canonical(&synonym.value),
                _ => &synonym.value,
            };
            DescribeConfigsSynonym::default()
                .with_name(text(synonym.name))
                .with_value(Some(text(value)))
                .with_source(synonym.source as i8)
        });
        config = config.with_synonyms(synonyms.collect());
    }
    config.with_documentation(message.include_documentation.then(|| text(entry.key.doc)))
}

/// The number of a type on the wire (KIP-569).
fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Int(..) => 3,
        Kind::Short(..) => 4,
        Kind::Long(..) => 5,
        Kind::Double(..) => 6,
        Kind::List(_) => 7,
    }
}
