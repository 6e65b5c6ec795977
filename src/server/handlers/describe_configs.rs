//! DescribeConfigs (key 32), versions 1 to 4, of topics, brokers, groups and a broker's loggers: every key
//! with its value, where it comes from (synonyms, KIP-226), its type and documentation (KIP-569).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::super::dynamic_config::of_image;
use super::super::loggers;
use super::text;
use crate::config::key::{Key, Kind};
use crate::config::topic;
use crate::config::values::{Source, Synonym, UpdateMode, update_mode};
use crate::config::{broker as broker_keys, group};
use crate::controller::validate_topic_name;
use crate::metadata::{ConfigResource, ConfigResourceType};

pub const API: Api = Api { key: ApiKey::DescribeConfigs, least: 1, greatest: 4, handle };

/// Why a resource is not described.
type Refusal = (ResponseError, String);

/// One key as it is told.
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

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |_, message: DescribeConfigsRequest| {
        let results = message.resources.iter().map(|resource| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match described(broker, resource) {
                Ok(entries) => {
                    result.with_configs(entries.into_iter().map(|entry| told(entry, &message)).collect())
                }
                Err((error, message)) => {
                    result.with_error_code(error.code()).with_error_message(Some(text(&message)))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    })
}

/// The resource's entries that are asked for.
fn described(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let name = resource.resource_name.as_str();
    let mut entries = match ConfigResourceType::from_number(resource.resource_type) {
        Some(ConfigResourceType::Topic) => of_topic(broker, name)?,
        Some(ConfigResourceType::Broker) if name.is_empty() => of_all_brokers(broker),
        Some(ConfigResourceType::Broker) => {
            check_own_id(broker, name)?;
            of_broker(broker)
        }
        Some(ConfigResourceType::Group) if name.is_empty() => {
            return Err((ResponseError::InvalidRequest, "Group name must not be empty".to_owned()));
        }
        Some(ConfigResourceType::Group) => of_group(broker, name),
        Some(ConfigResourceType::BrokerLogger) => {
            check_own_id(broker, name)?;
            of_loggers()
        }
        Some(ConfigResourceType::ClientMetrics) => {
            let reason = "client metrics are not served: this broker takes no telemetry of clients (KIP-714)";
            return Err((ResponseError::InvalidRequest, reason.to_owned()));
        }
        None => {
            let reason = format!("Unsupported resource type: {}", resource.resource_type);
            return Err((ResponseError::InvalidRequest, reason));
        }
    };
    // No keys, or null, is all of them.
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        entries.retain(|entry| keys.iter().any(|key| key.as_str() == entry.key.name));
    }
    Ok(entries)
}

/// A broker answers for itself alone.
pub(super) fn check_own_id(broker: &Broker, name: &str) -> Result<(), Refusal> {
    let reason = match name.parse::<i32>() {
        Ok(id) if id == broker.node.0 => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {}, but received {name}", broker.node),
        Err(_) => format!("Node id must be an integer, but it is: {name}"),
    };
    Err((ResponseError::InvalidRequest, reason))
}

fn of_topic(broker: &Broker, name: &str) -> Result<Vec<Entry>, Refusal> {
    if let Err(error) = validate_topic_name(name) {
        return Err((ResponseError::InvalidTopicException, error));
    }
    let image = broker.image();
    if image.topic(name).is_none() {
        return Err((ResponseError::UnknownTopicOrPartition, String::new()));
    }
    let set = of_image(&image, &ConfigResource::topic(name));
    let current = broker.dynamic.current();
    let entries = topic::KEYS.iter().map(|known| Entry {
        key: known.key,
        value: Some(topic::effective(known, &set, &current.values).0),
        read_only: false,
        synonyms: topic::synonyms(known, &set, &current.values),
    });
    Ok(entries.collect())
}

fn of_broker(broker: &Broker) -> Vec<Entry> {
    let current = broker.dynamic.current();
    let entry = |key: Key| {
        let set = current.values.get(key.name).map(|(value, _)| value);
        Entry {
            key,
            value: set.or(key.default).map(str::to_owned),
            read_only: update_mode(key.name) == UpdateMode::ReadOnly,
            synonyms: current.values.synonyms(key.name),
        }
    };
    broker_keys::all_keys().into_iter().map(entry).collect()
}

/// What is set at run time for all brokers; not what follows from it.
fn of_all_brokers(broker: &Broker) -> Vec<Entry> {
    let current = broker.dynamic.current();
    let set = current.values.dynamic_default.iter();
    let entries = set.filter_map(|(name, value)| {
        let key = broker_keys::find(name)?;
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

fn told(entry: Entry, message: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let source = entry.source();
    // Kafka's loggers have no synonyms.
    let with_synonyms = message.include_synonyms && source != Source::BrokerLogger;
    let mut told = DescribeConfigsResourceResult::default()
        .with_name(text(entry.key.name))
        .with_value(entry.value.as_deref().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(source as i8)
        .with_config_type(config_type(entry.key.kind));
    if with_synonyms {
        let synonyms = entry.synonyms.iter().map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(text(synonym.name))
                .with_value(Some(text(&synonym.value)))
                .with_source(synonym.source as i8)
        });
        told = told.with_synonyms(synonyms.collect());
    }
    told.with_documentation(message.include_documentation.then(|| text(entry.key.doc)))
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
