//! Decisions about topics: create, delete, add partitions.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::request::{
    CreatePartitions, CreateTopics, CreatedTopic, DeletedTopic, MorePartitions, NewTopic, TopicToDelete,
};
use super::{Answers, ControllerError, Decider, Decision, place, too_many_records};
use crate::metadata::{ConfigResource, MetadataImage, MetadataRecord, PartitionRegistration, TopicImage};
use crate::types::{LeaderEpoch, NodeId, TopicId};

/// Records that one request may lead to, and partitions that one may create.
pub const RECORDS_PER_REQUEST_MAX: usize = 10_000;

const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
const NAME_LENGTH_MAX: usize = 249;

/// Replicas and ISR of a new partition.
type Placed = (Vec<NodeId>, Vec<NodeId>);

/// Kafka's rules for topic names; the error is its message.
pub fn validate_topic_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.encode_utf16().count() > NAME_LENGTH_MAX {
        format!("the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}")
    } else if !name.bytes().all(allowed) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {why}"))
}

/// Items that appear once, and those that appear more often, each once, in the order of the request.
fn split_duplicates<'a, T, K: Ord>(items: &'a [T], key: impl Fn(&'a T) -> K) -> (Vec<&'a T>, Vec<&'a T>) {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(key(item)).or_default() += 1;
    }
    let (mut single, mut repeated) = (Vec::new(), Vec::new());
    for item in items {
        match counts.remove(&key(item)) {
            Some(1) => single.push(item),
            Some(_) => repeated.push(item),
            None => {}
        }
    }
    (single, repeated)
}

fn duplicate_name() -> ControllerError {
    ControllerError::new(ResponseError::InvalidRequest, "Duplicate topic name.")
}

impl Decider<'_> {
    /// Creates topics; each for itself succeeds or fails.
    pub fn create_topics(&mut self, request: &CreateTopics) -> Decision<Answers<String, CreatedTopic>> {
        let (single, repeated) = split_duplicates(&request.topics, |topic| topic.name.as_str());
        let mut answers = Vec::with_capacity(request.topics.len());
        let mut records = Vec::new();
        let refusal = self.too_many_partitions(&single);
        let mut image = self.image.clone();
        for topic in single {
            let created = match &refusal {
                Some(error) => Err(error.clone()),
                None => self.create_topic(&image, topic),
            };
            let answer = created.map(|(created, new)| {
                // The image only serves to find collisions with the topics that follow.
                if let Some(record) = new.first() {
                    image.replay(record).expect("a new name and a new id fit the image");
                }
                records.extend(new);
                created
            });
            answers.push((topic.name.clone(), answer));
        }
        answers.extend(repeated.into_iter().map(|topic| (topic.name.clone(), Err(duplicate_name()))));
        if records.len() > RECORDS_PER_REQUEST_MAX {
            records.clear();
            answers.iter_mut().for_each(|(_, answer)| *answer = Err(too_many_records()));
        }
        if request.validate_only {
            records.clear();
        }
        Decision::new(records, answers)
    }

    fn too_many_partitions(&self, topics: &[&NewTopic]) -> Option<ControllerError> {
        let count = |topic: &&NewTopic| match (topic.assignments.len(), topic.partition_count) {
            (0, -1) => i64::from(self.config.partitions_default),
            (0, count) => i64::from(count.max(0)),
            (assignments, _) => assignments as i64,
        };
        let total: i64 = topics.iter().map(count).sum();
        (total > RECORDS_PER_REQUEST_MAX as i64).then(|| {
            let message = "Excessively large number of partitions per request.";
            ControllerError::new(ResponseError::PolicyViolation, message)
        })
    }

    fn create_topic(
        &mut self,
        image: &MetadataImage,
        topic: &NewTopic,
    ) -> Result<(CreatedTopic, Vec<MetadataRecord>), ControllerError> {
        let error = |code, message: String| Err(ControllerError { code, message });
        let name = topic.name.as_str();
        if name == CLUSTER_METADATA_TOPIC {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return error(ResponseError::InvalidRequest, message);
        }
        if let Err(why) = validate_topic_name(name) {
            return error(ResponseError::InvalidTopicException, why);
        }
        if image.topic(name).is_some() {
            return error(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists."));
        }
        if let Some(existing) = image.colliding_topic(name) {
            let message = format!("Topic '{name}' collides with existing topic: {existing}");
            return error(ResponseError::InvalidTopicException, message);
        }
        let configs = self.creation_configs(topic)?;
        let partitions = self.first_partitions(topic)?;
        let id = self.chance.topic_id();
        let created = CreatedTopic {
            id,
            partition_count: partitions.len() as i32,
            replication_factor: partitions.first().map_or(0, |(replicas, _)| replicas.len()) as i16,
            configs: configs.clone(),
        };
        let mut records = vec![MetadataRecord::Topic { name: name.to_owned(), id }];
        records.extend(configs.into_iter().map(|(key, value)| MetadataRecord::Config {
            resource: ConfigResource::topic(name),
            key,
            value: Some(value),
        }));
        records.extend((0..).zip(partitions).map(|(index, partition)| new_partition(id, index, partition)));
        Ok((created, records))
    }

    fn creation_configs(&self, topic: &NewTopic) -> Result<BTreeMap<String, String>, ControllerError> {
        let nulls: Vec<_> =
            topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
        if !nulls.is_empty() {
            let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
            return Err(ControllerError::new(ResponseError::InvalidConfig, message));
        }
        let configs: BTreeMap<_, _> =
            topic.configs.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
        self.check_config_values(&ConfigResource::topic(&topic.name), &configs)?;
        Ok(configs)
    }

    /// Replicas and ISR of each partition of a new topic.
    fn first_partitions(&mut self, topic: &NewTopic) -> Result<Vec<Placed>, ControllerError> {
        let error = |code, message: &str| Err(ControllerError::new(code, message));
        if !topic.assignments.is_empty() {
            if topic.replication_factor != -1 {
                return error(
                    ResponseError::InvalidRequest,
                    "A manual partition assignment was specified, but replication factor was not set to -1.",
                );
            }
            if topic.partition_count != -1 {
                return error(
                    ResponseError::InvalidRequest,
                    "A manual partition assignment was specified, but numPartitions was not set to -1.",
                );
            }
            return self.assigned_partitions(topic);
        }
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            return error(
                ResponseError::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            );
        }
        let partition_count = match topic.partition_count {
            -1 => self.config.partitions_default,
            count => count,
        };
        let Some(partition_count) = usize::try_from(partition_count).ok().filter(|count| *count > 0) else {
            return error(
                ResponseError::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            );
        };
        let replication_factor = match topic.replication_factor {
            -1 => self.config.replication_factor_default,
            factor => factor,
        };
        self.placed_partitions(partition_count, replication_factor)
    }

    fn placed_partitions(
        &mut self,
        partition_count: usize,
        replication_factor: i16,
    ) -> Result<Vec<Placed>, ControllerError> {
        let unable = |why: &str| {
            let message = format!("Unable to replicate the partition {replication_factor} time(s): {why}");
            ControllerError::new(ResponseError::InvalidReplicationFactor, message)
        };
        let placed = place(self.image, partition_count, replication_factor, self.chance)
            .map_err(|why| unable(&why))?;
        let with_isr = |replicas: Vec<NodeId>| {
            let isr = self.active(&replicas);
            match isr.is_empty() {
                true => Err(unable("All brokers are currently fenced or in controlled shutdown.")),
                false => Ok((replicas, isr)),
            }
        };
        placed.into_iter().map(with_isr).collect()
    }

    fn active(&self, replicas: &[NodeId]) -> Vec<NodeId> {
        replicas.iter().copied().filter(|id| self.image.is_active(*id)).collect()
    }

    fn assigned_partitions(&self, topic: &NewTopic) -> Result<Vec<Placed>, ControllerError> {
        let error = |message: String| ControllerError::new(ResponseError::InvalidReplicaAssignment, message);
        let mut partitions = BTreeMap::new();
        let mut replication_factor = None;
        for (index, replicas) in &topic.assignments {
            if partitions.contains_key(index) {
                return Err(error(format!(
                    "Found multiple manual partition assignments for partition {index}"
                )));
            }
            self.check_assignment(replicas, replication_factor)?;
            replication_factor = Some(replicas.len());
            partitions.insert(*index, (replicas.clone(), self.assigned_isr(*index, replicas)?));
        }
        if !(0..).zip(partitions.keys()).all(|(expected, index)| expected == *index) {
            return Err(error("partitions should be a consecutive 0-based integer sequence".into()));
        }
        Ok(partitions.into_values().collect())
    }

    fn assigned_isr(&self, index: i32, replicas: &[NodeId]) -> Result<Vec<NodeId>, ControllerError> {
        let isr = self.active(replicas);
        if isr.is_empty() {
            let message = format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled shutdown."
            );
            return Err(ControllerError::new(ResponseError::InvalidReplicaAssignment, message));
        }
        Ok(isr)
    }

    pub(super) fn check_assignment(
        &self,
        replicas: &[NodeId],
        replication_factor: Option<usize>,
    ) -> Result<(), ControllerError> {
        let error = |why: String| {
            let message = format!("The manual partition assignment includes {why}");
            Err(ControllerError::new(ResponseError::InvalidReplicaAssignment, message))
        };
        if replicas.is_empty() {
            return error("an empty replica list.".into());
        }
        let mut sorted = replicas.to_vec();
        sorted.sort_unstable();
        let mut previous = None;
        for id in sorted {
            if self.image.broker(id).is_none() {
                return error(format!("broker {id}, but no such broker is registered."));
            }
            if previous == Some(id) {
                return error(format!("the broker {id} more than once."));
            }
            previous = Some(id);
        }
        match replication_factor {
            Some(expected) if expected != replicas.len() => error(format!(
                "a partition with {} replica(s), but this is not consistent with previous partitions, which have {expected} replica(s).",
                replicas.len()
            )),
            _ => Ok(()),
        }
    }

    /// Deletes topics named by name or by id. Each answer carries what the request named.
    pub fn delete_topics(
        &mut self,
        topics: &[TopicToDelete],
    ) -> Decision<Answers<TopicToDelete, DeletedTopic>> {
        let refuse = |message: &str| ControllerError::new(ResponseError::InvalidRequest, message);
        let (single, repeated) = split_duplicates(topics, |topic| (topic.name.as_deref(), topic.id));
        let mut answers: Answers<TopicToDelete, DeletedTopic> = Vec::with_capacity(topics.len());
        for topic in repeated {
            let what = if topic.name.is_some() { "Duplicate topic name." } else { "Duplicate topic id." };
            answers.push((topic.clone(), Err(refuse(what))));
        }
        let mut found: Vec<(&TopicToDelete, &TopicImage)> = Vec::new();
        for topic in single {
            let answer = match (&topic.name, topic.id) {
                (None, TopicId::ZERO) => Err(refuse("Neither topic name nor id were specified.")),
                (Some(name), TopicId::ZERO) => {
                    let known = self.image.topic(name);
                    known.ok_or_else(|| ControllerError::plain(ResponseError::UnknownTopicOrPartition))
                }
                (None, id) => {
                    let known = self.image.topic_by_id(id);
                    known.ok_or_else(|| ControllerError::plain(ResponseError::UnknownTopicId))
                }
                (Some(_), _) => Err(refuse("You may not specify both topic name and topic id.")),
            };
            match answer {
                Ok(image) => found.push((topic, image)),
                Err(e) => answers.push((topic.clone(), Err(e))),
            }
        }
        let mut ids = BTreeMap::new();
        for (_, image) in &found {
            *ids.entry(image.id).or_insert(0) += 1;
        }
        let mut records = Vec::new();
        for (topic, image) in found {
            let answer = if !self.config.delete_topic_enable {
                Err(ControllerError::plain(ResponseError::TopicDeletionDisabled))
            } else if ids.get(&image.id) != Some(&1) {
                Err(refuse("The provided topic name maps to an ID that was already supplied."))
            } else {
                records.push(MetadataRecord::RemoveTopic { id: image.id });
                Ok(DeletedTopic { name: image.name.to_string(), id: image.id })
            };
            answers.push((topic.clone(), answer));
        }
        if records.len() > RECORDS_PER_REQUEST_MAX {
            records.clear();
            answers.iter_mut().for_each(|(_, answer)| *answer = Err(too_many_records()));
        }
        Decision::new(records, answers)
    }

    /// Adds partitions to topics; each topic for itself succeeds or fails.
    pub fn create_partitions(&mut self, request: &CreatePartitions) -> Decision<Answers<String, ()>> {
        let (single, repeated) = split_duplicates(&request.topics, |topic| topic.topic.as_str());
        let mut answers = Vec::with_capacity(request.topics.len());
        answers.extend(repeated.into_iter().map(|topic| (topic.topic.clone(), Err(duplicate_name()))));
        let mut records = Vec::new();
        for topic in single {
            let added = self.more_partitions(topic, RECORDS_PER_REQUEST_MAX - records.len());
            answers.push((topic.topic.clone(), added.map(|new| records.extend(new))));
        }
        if request.validate_only {
            records.clear();
        }
        Decision::new(records, answers)
    }

    fn more_partitions(
        &mut self,
        topic: &MorePartitions,
        records_max: usize,
    ) -> Result<Vec<MetadataRecord>, ControllerError> {
        let image = self
            .image
            .topic(&topic.topic)
            .ok_or_else(|| ControllerError::silent(ResponseError::UnknownTopicOrPartition))?;
        let has = image.partitions.len();
        let wanted = usize::try_from(topic.partition_count).unwrap_or(0);
        if wanted == has {
            let message = format!("Topic already has {has} partition(s).");
            return Err(ControllerError::new(ResponseError::InvalidPartitions, message));
        }
        if wanted < has {
            let message = format!(
                "The topic {} currently has {has} partition(s); {} would not be an increase.",
                topic.topic, topic.partition_count
            );
            return Err(ControllerError::new(ResponseError::InvalidPartitions, message));
        }
        let additional = wanted - has;
        if let Some(assignments) = topic.assignments.as_ref().filter(|given| given.len() != additional) {
            let message = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(ControllerError::new(ResponseError::InvalidReplicaAssignment, message));
        }
        if additional > records_max {
            return Err(too_many_records());
        }
        let replication_factor = image.partitions.front().map_or(0, |partition| partition.replicas.len());
        let partitions = match &topic.assignments {
            Some(assignments) => {
                let mut partitions = Vec::with_capacity(additional);
                for (index, replicas) in (has as i32..).zip(assignments) {
                    self.check_assignment(replicas, Some(replication_factor))?;
                    partitions.push((replicas.clone(), self.assigned_isr(index, replicas)?));
                }
                partitions
            }
            None => {
                // Here Kafka sends the placer's reason without the text before it.
                let prefix = format!("Unable to replicate the partition {replication_factor} time(s): ");
                self.placed_partitions(additional, replication_factor as i16).map_err(|mut error| {
                    let fenced = error.message.ends_with("or in controlled shutdown.");
                    if let (false, Some(why)) = (fenced, error.message.strip_prefix(&prefix)) {
                        error.message = why.to_owned();
                    }
                    error
                })?
            }
        };
        let new = |(index, partition)| new_partition(image.id, index, partition);
        Ok((has as i32..).zip(partitions).map(new).collect())
    }
}

fn new_partition(topic_id: TopicId, partition: i32, placed: Placed) -> MetadataRecord {
    let (replicas, isr) = placed;
    MetadataRecord::Partition(PartitionRegistration {
        topic_id,
        partition,
        leader: isr.first().copied(),
        replicas,
        isr,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        eligible_leader_replicas: Vec::new(),
        last_known_eligible_leader_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        removing_replicas: Vec::new(),
        recovering: false,
        heir: None,
    })
}
