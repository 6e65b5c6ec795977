//! Decisions about configurations of topics, brokers, groups and client metrics.
//!
//! A request changes a resource as a whole or not at all; resources of one request stand for themselves.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

use super::partition_change::{MIN_INSYNC_REPLICAS, PartitionChanger};
use super::request::{AlterConfigs, ConfigChange, ConfigOperation, IncrementalAlterConfigs};
use super::{
    Answers, ControllerError, Decider, Decision, RECORDS_PER_REQUEST_MAX, too_many_records,
    validate_topic_name,
};
use crate::metadata::{ConfigResource, ConfigResourceType, MetadataRecord, PartitionChange};
use crate::types::NodeId;

/// Characters that a value may have, as Kafka's records hold no more.
const VALUE_LENGTH_MAX: usize = 32_767;
type Changed = BTreeMap<String, Option<String>>;

fn invalid_request(message: impl Into<String>) -> ControllerError {
    ControllerError::new(ResponseError::InvalidRequest, message)
}

fn invalid_config(message: impl Into<String>) -> ControllerError {
    ControllerError::new(ResponseError::InvalidConfig, message)
}

impl Decider<'_> {
    /// KIP-339: sets, deletes, appends to and subtracts from single configurations.
    pub fn incremental_alter_configs(
        &mut self,
        request: &IncrementalAlterConfigs,
    ) -> Decision<Answers<ConfigResource, ()>> {
        self.alter_resources(&request.resources, request.validate_only, |decider, resource, changes| {
            check_keys(changes.iter().map(|change| change.key.as_str()))?;
            let needs_value = |change: &&ConfigChange| change.operation != ConfigOperation::Delete;
            check_nulls(changes.iter().filter(needs_value).map(|change| (&change.key, &change.value)))?;
            changes
                .iter()
                .map(|change| Ok((change.key.clone(), decider.changed(resource, change)?)))
                .collect()
        })
    }

    /// The older form: what the request does not name goes back to its default.
    pub fn alter_configs(&mut self, request: &AlterConfigs) -> Decision<Answers<ConfigResource, ()>> {
        self.alter_resources(&request.resources, request.validate_only, |decider, resource, configs| {
            check_keys(configs.iter().map(|(key, _)| key.as_str()))?;
            check_nulls(configs.iter().map(|(key, value)| (key, value)))?;
            let current = decider.image.configs(resource);
            let mut changed: Changed =
                current.into_iter().flatten().map(|(key, _)| (key.clone(), None)).collect();
            changed.extend(configs.iter().cloned());
            Ok(changed)
        })
    }

    fn alter_resources<T>(
        &mut self,
        resources: &[(ConfigResource, T)],
        validate_only: bool,
        changed: impl Fn(&Self, &ConfigResource, &T) -> Result<Changed, ControllerError>,
    ) -> Decision<Answers<ConfigResource, ()>> {
        let mut counts: BTreeMap<&ConfigResource, usize> = BTreeMap::new();
        for (resource, _) in resources {
            *counts.entry(resource).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(resources.len());
        for (resource, change) in resources {
            let answer = match counts.get(resource) {
                Some(1) => changed(self, resource, change)
                    .and_then(|changed| self.config_records(resource, changed))
                    .map(|new| {
                        records.extend(self.no_longer_eligible(resource, &new));
                        records.extend(new);
                    }),
                _ => Err(invalid_request("Each resource must appear at most once.")),
            };
            answers.push((resource.clone(), answer));
        }
        if records.len() > RECORDS_PER_REQUEST_MAX {
            records.clear();
            answers.iter_mut().for_each(|(_, answer)| *answer = Err(too_many_records()));
        }
        if validate_only {
            records.clear();
        }
        Decision::new(records, answers)
    }

    /// A smaller `min.insync.replicas` lets the high watermark move without those that were eligible to lead before it
    /// (KIP-966): they are so no more.
    fn no_longer_eligible(
        &self,
        resource: &ConfigResource,
        changes: &[MetadataRecord],
    ) -> Vec<MetadataRecord> {
        let is_of_minimum = |record: &MetadataRecord| matches!(record, MetadataRecord::Config { key, .. } if key == MIN_INSYNC_REPLICAS);
        let mut records = Vec::new();
        if !self.keeps_eligible_leaders() || !changes.iter().any(is_of_minimum) {
            return records;
        }
        let Ok(image) = self.image.with(changes) else { return records };
        let after = Decider { image: &image, config: self.config, chance: self.chance };
        let is_concerned = |topic: &str| match resource.kind {
            ConfigResourceType::Topic => resource.name == topic,
            _ => true,
        };
        for topic in image.topics().filter(|topic| is_concerned(&topic.name)) {
            let rules = after.rules(topic);
            for (index, partition) in (0..).zip(&topic.partitions) {
                if partition.eligible_leader_replicas.is_empty() {
                    continue;
                }
                let change = PartitionChanger::of(partition, rules).build(|id| image.is_active(id));
                if change != PartitionChange::default() {
                    let change = PartitionChange { topic_id: topic.id, partition: index, ..change };
                    records.push(MetadataRecord::PartitionChange(change));
                }
            }
        }
        records
    }

    /// The value after one incremental change.
    fn changed(
        &self,
        resource: &ConfigResource,
        change: &ConfigChange,
    ) -> Result<Option<String>, ControllerError> {
        let (key, kind) = (change.key.as_str(), resource.kind);
        let operation = match change.operation {
            ConfigOperation::Set => return Ok(change.value.clone()),
            ConfigOperation::Delete => return Ok(None),
            ConfigOperation::Append => "APPEND",
            ConfigOperation::Subtract => "SUBTRACT",
        };
        let schema = &self.config.schema;
        if !(schema.is_list)(kind, key) {
            let message = match kind {
                ConfigResourceType::Broker => {
                    format!("Config value {} is not allowed for config key: {key}", operation.to_lowercase())
                }
                _ => format!("Can't {operation} to key {key} because its type is not LIST."),
            };
            return Err(invalid_config(message));
        }
        let current = self.image.configs(resource).and_then(|configs| configs.get(key)).cloned();
        let current = current.or_else(|| (schema.default)(kind, key)).unwrap_or_default();
        let split = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let mut parts = split(&current);
        for part in split(change.value.as_deref().unwrap_or_default()) {
            let at = parts.iter().position(|present| *present == part);
            match (change.operation, at) {
                (ConfigOperation::Append, None) => parts.push(part),
                (ConfigOperation::Subtract, Some(at)) => _ = parts.remove(at),
                _ => {}
            }
        }
        Ok(Some(parts.join(",")))
    }

    fn config_records(
        &self,
        resource: &ConfigResource,
        changed: Changed,
    ) -> Result<Vec<MetadataRecord>, ControllerError> {
        let current = self.image.configs(resource);
        let mut configs: BTreeMap<String, String> =
            current.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut records = Vec::new();
        for (key, value) in changed {
            self.check_eligible_replicas_rules(resource, &key, value.as_deref())?;
            match &value {
                Some(value) => {
                    if value.encode_utf16().count() > VALUE_LENGTH_MAX {
                        let message = "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.";
                        return Err(invalid_config(message));
                    }
                    configs.insert(key.clone(), value.clone())
                }
                None => configs.remove(&key),
            };
            let is_same = current.and_then(|configs| configs.get(&key)) == value.as_ref();
            if !is_same {
                records.push(MetadataRecord::Config { resource: resource.clone(), key, value });
            }
        }
        self.check_resource_name(resource)?;
        self.check_config_values(resource, &configs)?;
        self.check_resource_exists(resource)?;
        Ok(records)
    }

    fn check_eligible_replicas_rules(
        &self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ControllerError> {
        if !self.keeps_eligible_leaders()
            || key != MIN_INSYNC_REPLICAS
            || resource.kind != ConfigResourceType::Broker
        {
            return Ok(());
        }
        if !resource.name.is_empty() {
            let message = "Broker-level min.insync.replicas cannot be altered while ELR is enabled.";
            return Err(invalid_config(message));
        }
        if value.is_none() {
            let message = "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
            return Err(invalid_config(message));
        }
        Ok(())
    }

    fn check_resource_name(&self, resource: &ConfigResource) -> Result<(), ControllerError> {
        let name = resource.name.as_str();
        match resource.kind {
            ConfigResourceType::Topic if name.is_empty() => {
                Err(invalid_request("Default topic resources are not allowed."))
            }
            ConfigResourceType::Topic => validate_topic_name(name)
                .map_err(|why| ControllerError::new(ResponseError::InvalidTopicException, why)),
            ConfigResourceType::Broker if name.is_empty() => Ok(()),
            ConfigResourceType::Broker => match name.parse::<i32>() {
                Ok(id) if id < 0 => Err(invalid_request("Invalid negative broker ID.")),
                Ok(_) => Ok(()),
                Err(_) => Err(invalid_request("Unable to parse broker name as a base 10 number.")),
            },
            ConfigResourceType::Group if name.is_empty() => {
                Err(invalid_request("Default group resources are not allowed."))
            }
            ConfigResourceType::Group | ConfigResourceType::ClientMetrics => Ok(()),
            ConfigResourceType::BrokerLogger => Err(invalid_request("Unknown resource type BROKER_LOGGER")),
        }
    }

    fn check_resource_exists(&self, resource: &ConfigResource) -> Result<(), ControllerError> {
        let name = resource.name.as_str();
        match resource.kind {
            ConfigResourceType::Topic if self.image.topic(name).is_none() => {
                let message = format!("The topic '{name}' does not exist.");
                Err(ControllerError::new(ResponseError::UnknownTopicOrPartition, message))
            }
            ConfigResourceType::Broker if !name.is_empty() => {
                let known = name.parse().is_ok_and(|id| self.image.broker(NodeId(id)).is_some());
                match known {
                    true => Ok(()),
                    false => {
                        let message = format!("No node with id {name} found.");
                        Err(ControllerError::new(ResponseError::BrokerIdNotRegistered, message))
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// All values that a resource would have. A wrong value of a broker is a wrong request in Kafka, for
    /// compatibility (KAFKA-13609).
    pub(super) fn check_config_values(
        &self,
        resource: &ConfigResource,
        configs: &BTreeMap<String, String>,
    ) -> Result<(), ControllerError> {
        (self.config.schema.validate)(resource.kind, configs).map_err(|why| match resource.kind {
            ConfigResourceType::Broker => invalid_request(why),
            _ => invalid_config(why),
        })
    }
}

fn check_keys<'a>(keys: impl Iterator<Item = &'a str>) -> Result<(), ControllerError> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return Err(invalid_request("Error due to duplicate config keys"));
        }
    }
    Ok(())
}

fn check_nulls<'a>(
    values: impl Iterator<Item = (&'a String, &'a Option<String>)>,
) -> Result<(), ControllerError> {
    let nulls: Vec<&str> = values.filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
    match nulls.is_empty() {
        true => Ok(()),
        false => Err(invalid_request(format!("Null value not supported for : {}", nulls.join(", ")))),
    }
}
