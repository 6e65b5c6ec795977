//! Configurations of topics, brokers, groups and loggers: described and changed.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest, ListGroupsRequest,
};

use super::{Client, ClientError, text};

/// What can have configurations, with the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    Group = 32,
}

/// A value that a configuration has somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: &'static str,
}

/// A configuration as the broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConfig {
    pub name: String,
    pub value: Option<String>,
    /// Kafka's name of where the value comes from.
    pub source: &'static str,
    pub read_only: bool,
    pub sensitive: bool,
    /// All values, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// One change: a value, or `None` to take it away.
pub type ConfigChange = (String, Option<String>);

/// Kafka's names of the sources, by their numbers.
fn source_name(number: i8) -> &'static str {
    match number {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

impl Client {
    /// Everything that one entity has, in the order of the names. A broker, and its loggers, answer for
    /// themselves.
    pub async fn describe_configs(
        &self,
        kind: EntityType,
        name: &str,
    ) -> Result<Vec<DescribedConfig>, ClientError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind as i8)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request =
            DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        let response = match self.own_broker(kind, name).await? {
            Some(id) => self.retry(async || self.broker(id).await?.call(&request).await).await?,
            None => self.call_any(&request).await?,
        };
        let result = response.results.first().ok_or_else(no_answer)?;
        ClientError::check(result.error_code, result.error_message.as_deref())?;
        let mut entries: Vec<DescribedConfig> = result
            .configs
            .iter()
            .map(|config| DescribedConfig {
                name: config.name.to_string(),
                value: config.value.as_ref().map(ToString::to_string),
                source: source_name(config.config_source),
                read_only: config.read_only,
                sensitive: config.is_sensitive,
                synonyms: config
                    .synonyms
                    .iter()
                    .map(|synonym| ConfigSynonym {
                        name: synonym.name.to_string(),
                        value: synonym.value.as_ref().map(ToString::to_string),
                        source: source_name(synonym.source),
                    })
                    .collect(),
            })
            .collect();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// Changes single configurations of an entity, all or none.
    pub async fn alter_configs(
        &self,
        kind: EntityType,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let configs = changes.iter().map(|(key, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind as i8)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let broker = self.own_broker(kind, name).await?;
        self.retry(async || {
            let connection = match broker {
                Some(id) => self.broker(id).await?,
                None => self.any().await?,
            };
            let response = connection.call(&request).await?;
            let result = response.responses.first().ok_or_else(no_answer)?;
            match ClientError::check(result.error_code, result.error_message.as_deref()) {
                // A topic that is not there does not come by waiting.
                Err(ClientError::Refused { code: ResponseError::UnknownTopicOrPartition, message }) => {
                    Ok(Err(ClientError::Refused { code: ResponseError::UnknownTopicOrPartition, message }))
                }
                Err(error) => Err(error),
                Ok(()) => Ok(Ok(())),
            }
        })
        .await?
    }

    /// Names of the groups that have configurations, members or offsets.
    pub async fn configurable_groups(&self) -> Result<BTreeSet<String>, ClientError> {
        let kind = EntityType::Group as i8;
        let request = ListConfigResourcesRequest::default().with_resource_types(vec![kind]);
        let response = self.call_any(&request).await?;
        ClientError::check(response.error_code, None)?;
        let listed = response.config_resources.iter().filter(|resource| resource.resource_type == kind);
        let mut names: BTreeSet<String> = listed.map(|resource| resource.resource_name.to_string()).collect();
        // Each broker lists the groups that it coordinates.
        self.retry(async || self.fetch_metadata(Some(&[])).await).await?;
        for id in self.broker_ids() {
            let request = ListGroupsRequest::default();
            let response = self.retry(async || self.broker(id).await?.call(&request).await).await?;
            ClientError::check(response.error_code, None)?;
            names.extend(response.groups.iter().map(|group| group.group_id.to_string()));
        }
        Ok(names)
    }

    /// The broker that must be asked, where it must be a certain one.
    async fn own_broker(&self, kind: EntityType, name: &str) -> Result<Option<i32>, ClientError> {
        if name.is_empty() || !matches!(kind, EntityType::Broker | EntityType::BrokerLogger) {
            return Ok(None);
        }
        self.retry(async || self.fetch_metadata(Some(&[])).await).await?;
        let id = name.parse::<i32>().ok().filter(|id| self.broker_ids().contains(id));
        id.map(Some).ok_or_else(|| ClientError::Refused {
            code: ResponseError::BrokerIdNotRegistered,
            message: Some(format!("no broker has the id {name}; there are {:?}", self.broker_ids())),
        })
    }
}

fn no_answer() -> ClientError {
    ClientError::Refused {
        code: ResponseError::UnknownServerError,
        message: Some("the answer names no resource".to_owned()),
    }
}
