//! DescribeConfigs (key 32), versions 1 to 4, of topics and brokers: every key with its value, where
//! it comes from (synonyms), its type and documentation.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::text;
use crate::config::broker;
use crate::config::key::{Key, Kind};
use crate::config::topic::{self, Source, Synonym};
use crate::controller::validate_topic_name;
use crate::metadata::ConfigResourceType;

pub const API: Api = Api { key: ApiKey::DescribeConfigs, least: 1, greatest: 4, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |_, message: DescribeConfigsRequest| {
        let results = message.resources.iter().map(|resource| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match described(broker, resource, &message) {
                Ok(configs) => result.with_configs(configs),
                Err((error, message)) => {
                    result.with_error_code(error.code()).with_error_message(Some(text(&message)))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    })
}

fn described(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    message: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, (ResponseError, String)> {
    let name = resource.resource_name.as_str();
    // No keys, or null, is all of them.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let is_asked = |name: &str| keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    let entry = |key: &Key, synonyms: Vec<Synonym>, read_only: bool| told(key, &synonyms, read_only, message);
    match ConfigResourceType::from_number(resource.resource_type) {
        Some(ConfigResourceType::Topic) => {
            if let Err(error) = validate_topic_name(name) {
                return Err((ResponseError::InvalidTopicException, error));
            }
            let image = broker.image();
            let topic = image.topic(name).ok_or_else(|| {
                (
                    ResponseError::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.".to_owned(),
                )
            })?;
            let set: BTreeMap<String, String> =
                topic.configs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let all = topic::KEYS.iter().filter(|known| is_asked(known.key.name));
            Ok(all
                .map(|known| entry(&known.key, topic::synonyms(known, &set, &broker.config.set), false))
                .collect())
        }
        Some(ConfigResourceType::Broker) => {
            if !name.is_empty() && name != broker.node.to_string() {
                let reason = format!(
                    "Unexpected broker id, expected {} or empty string, but received {name}",
                    broker.node
                );
                return Err((ResponseError::InvalidRequest, reason));
            }
            if name.is_empty() {
                // The cluster-wide dynamic defaults: there are none.
                return Ok(Vec::new());
            }
            let set = &broker.config.set;
            let own = broker::KEYS.iter().filter(|key| is_asked(key.name));
            let own = own.map(|key| entry(key, static_values(key, set), true));
            let defaults = topic::KEYS.iter().filter_map(|known| {
                let (name, _) = known.broker_keys.last()?;
                let is_listed_already = broker::KEYS.iter().any(|key| key.name == *name);
                let key = Key { name, ..known.key };
                let wanted = is_asked(name) && !is_listed_already;
                wanted.then(|| entry(&key, topic::synonyms(known, &BTreeMap::new(), set), true))
            });
            Ok(own.chain(defaults).collect())
        }
        Some(other) => {
            Err((ResponseError::InvalidRequest, format!("configurations of a {other:?} are not served")))
        }
        None => Err((
            ResponseError::InvalidRequest,
            format!("Unsupported resource type: {}", resource.resource_type),
        )),
    }
}

/// The values of a broker key: what `server.properties` set, and the default.
fn static_values(key: &Key, set: &BTreeMap<String, String>) -> Vec<Synonym> {
    let value = |value: &str, source| Synonym { name: key.name, value: value.to_owned(), source };
    let of_file = set.get(key.name).map(|text| value(text.trim(), Source::StaticBroker));
    of_file.into_iter().chain(key.default.map(|text| value(text, Source::Default))).collect()
}

fn told(
    key: &Key,
    synonyms: &[Synonym],
    read_only: bool,
    message: &DescribeConfigsRequest,
) -> DescribeConfigsResourceResult {
    let first = synonyms.first();
    let mut told = DescribeConfigsResourceResult::default()
        .with_name(text(key.name))
        .with_value(first.map(|synonym| text(&synonym.value)))
        .with_read_only(read_only)
        .with_config_source(first.map_or(Source::Default, |synonym| synonym.source) as i8)
        .with_config_type(config_type(key.kind));
    if message.include_synonyms {
        let synonyms = synonyms.iter().map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(text(synonym.name))
                .with_value(Some(text(&synonym.value)))
                .with_source(synonym.source as i8)
        });
        told = told.with_synonyms(synonyms.collect());
    }
    told.with_documentation(message.include_documentation.then(|| text(key.doc)))
}

/// The number of a type on the wire (KIP-569).
fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Int(..) => 3,
        Kind::Long(..) => 5,
        Kind::Double(..) => 6,
        Kind::List(_) => 7,
    }
}
