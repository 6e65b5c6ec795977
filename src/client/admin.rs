//! Requests that go to the leaders of partitions and come back one result per partition: offsets by
//! time, and the deletion of records. Also the configurations of topics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, DescribeConfigsRequest, ListOffsetsRequest};
use tokio::time::Instant;

use super::{Client, ClientError, text, topic_name};

/// A topic's name with a partition's index.
pub type Partition = (String, i32);

/// What ListOffsets answers for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1: there is no record at or after the timestamp asked for.
    pub offset: i64,
    /// -1: not known.
    pub timestamp: i64,
    pub leader_epoch: i32,
}

/// The special timestamps of ListOffsets.
pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;
pub const MAX_TIMESTAMP: i64 = -3;
pub const EARLIEST_LOCAL: i64 = -4;
pub const LATEST_TIERED: i64 = -5;
pub const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// One configuration of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    pub value: Option<String>,
    pub is_default: bool,
    /// Set on the topic itself, not on the broker or cluster.
    pub is_topic_override: bool,
}

type Outcome<T> = BTreeMap<Partition, Result<T, ClientError>>;

impl Client {
    /// Offsets by time: for each partition a timestamp in milliseconds or one of the special values.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<Partition, i64>,
        isolation_level: i8,
    ) -> Result<Outcome<ListedOffset>, ClientError> {
        self.per_leader(wanted, async |leader, part| {
            let connection = self.broker(leader).await?;
            let version = connection.require::<ListOffsetsRequest>(i16::MAX)?;
            let lowest = part.values().copied().min().unwrap_or(0);
            let needed = match lowest {
                EARLIEST_PENDING_UPLOAD => 11,
                LATEST_TIERED => 9,
                EARLIEST_LOCAL => 8,
                MAX_TIMESTAMP => 7,
                _ => 1,
            };
            if version < needed {
                return Err(ClientError::Unsupported {
                    address: connection.address().to_owned(),
                    api: format!("ListOffsets with timestamp {lowest}"),
                });
            }
            let mut topics = BTreeMap::<&str, Vec<ListOffsetsPartition>>::new();
            for ((topic, partition), timestamp) in part {
                topics.entry(topic).or_default().push(
                    ListOffsetsPartition::default()
                        .with_partition_index(*partition)
                        .with_current_leader_epoch(-1)
                        .with_timestamp(*timestamp),
                );
            }
            let topics = topics
                .into_iter()
                .map(|(name, partitions)| {
                    ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
                })
                .collect();
            let timeout_ms = self.options.timeout_ms();
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(isolation_level)
                .with_topics(topics)
                .with_timeout_ms(timeout_ms);
            let response = connection.call_version(&request, version).await?;
            let mut outcome = Outcome::new();
            for topic in &response.topics {
                for answer in &topic.partitions {
                    let listed = ListedOffset {
                        offset: answer.offset,
                        timestamp: answer.timestamp,
                        leader_epoch: answer.leader_epoch,
                    };
                    let result = ClientError::check(answer.error_code, None).map(|()| listed);
                    outcome.insert((topic.name.to_string(), answer.partition_index), result);
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Deletes the records before the given offsets (-1: all up to the high watermark). Answers the new
    /// log start offsets.
    pub async fn delete_records(
        &self,
        wanted: &BTreeMap<Partition, i64>,
    ) -> Result<Outcome<i64>, ClientError> {
        self.per_leader(wanted, async |leader, part| {
            let connection = self.broker(leader).await?;
            let mut topics = BTreeMap::<&str, Vec<DeleteRecordsPartition>>::new();
            for ((topic, partition), offset) in part {
                let entry =
                    DeleteRecordsPartition::default().with_partition_index(*partition).with_offset(*offset);
                topics.entry(topic).or_default().push(entry);
            }
            let topics = topics
                .into_iter()
                .map(|(name, partitions)| {
                    DeleteRecordsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
                })
                .collect();
            let timeout_ms = self.options.timeout_ms();
            let request = DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(timeout_ms);
            let response = connection.call(&request).await?;
            let mut outcome = Outcome::new();
            for topic in &response.topics {
                for answer in &topic.partitions {
                    let result = ClientError::check(answer.error_code, None).map(|()| answer.low_watermark);
                    outcome.insert((topic.name.to_string(), answer.partition_index), result);
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Groups partitions by their leaders, calls `ask` for each group, and asks again for those that
    /// failed in a way that passes, with fresh metadata, until the deadline.
    async fn per_leader<T>(
        &self,
        wanted: &BTreeMap<Partition, i64>,
        ask: impl AsyncFn(i32, &BTreeMap<Partition, i64>) -> Result<Outcome<T>, ClientError>,
    ) -> Result<Outcome<T>, ClientError> {
        let deadline = Instant::now() + Duration::from_millis(self.options.api_timeout_ms);
        let mut backoff = self.backoff();
        let mut done = Outcome::new();
        let mut open = wanted.clone();
        loop {
            let mut failed = Outcome::<T>::new();
            for (leader, part) in self.group_by_leader(&open, &mut failed).await? {
                let mut answers = match ask(leader, &part).await {
                    Ok(answers) => answers,
                    Err(error) => part.keys().map(|key| (key.clone(), Err(error.clone()))).collect(),
                };
                for key in part.keys() {
                    let missing = || ClientError::Refused {
                        code: ResponseError::UnknownTopicOrPartition,
                        message: Some("the broker's answer left the partition out".to_owned()),
                    };
                    match answers.remove(key).unwrap_or_else(|| Err(missing())) {
                        Ok(value) => {
                            done.insert(key.clone(), Ok(value));
                        }
                        Err(error) => {
                            failed.insert(key.clone(), Err(error));
                        }
                    }
                }
            }
            let pause = backoff.next_pause();
            let expired = Instant::now() + pause > deadline;
            open.clear();
            for (key, result) in failed {
                let passing = matches!(&result, Err(error) if error.is_retriable()
                    && error.code() != Some(ResponseError::UnknownTopicOrPartition));
                match wanted.get(&key) {
                    Some(value) if passing && !expired => {
                        open.insert(key, *value);
                    }
                    _ => {
                        done.insert(key, result);
                    }
                }
            }
            if open.is_empty() {
                return Ok(done);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn group_by_leader<T>(
        &self,
        open: &BTreeMap<Partition, i64>,
        failed: &mut Outcome<T>,
    ) -> Result<BTreeMap<i32, BTreeMap<Partition, i64>>, ClientError> {
        let names = open.keys().map(|(topic, _)| topic.as_str()).collect::<BTreeSet<_>>();
        let names = names.into_iter().collect::<Vec<_>>();
        let response = self.retry(async || self.fetch_metadata(Some(&names)).await).await?;
        let mut leaders = BTreeMap::new();
        for topic in &response.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            for partition in &topic.partitions {
                leaders.insert((name.clone(), partition.partition_index), partition.leader_id.0);
            }
        }
        let mut groups = BTreeMap::<i32, BTreeMap<Partition, i64>>::new();
        for (key, value) in open {
            let failure = match leaders.get(key) {
                Some(leader) if *leader >= 0 => {
                    groups.entry(*leader).or_default().insert(key.clone(), *value);
                    continue;
                }
                Some(_) => ClientError::NoLeader(format!("{}-{}", key.0, key.1)),
                None => ClientError::Refused { code: ResponseError::UnknownTopicOrPartition, message: None },
            };
            failed.insert(key.clone(), Err(failure));
        }
        Ok(groups)
    }

    /// The configurations of topics, in the broker's order. Topics that vanished meanwhile are left out.
    pub async fn topic_configs(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, Vec<ConfigEntry>>, ClientError> {
        const TOPIC: i8 = 2;
        const SOURCE_TOPIC: i8 = 1;
        const SOURCE_DEFAULT: i8 = 5;
        let mut configs = BTreeMap::new();
        for chunk in names.chunks(500) {
            let resources = chunk
                .iter()
                .map(|name| {
                    DescribeConfigsResource::default()
                        .with_resource_type(TOPIC)
                        .with_resource_name(text(name.clone()))
                        .with_configuration_keys(None)
                })
                .collect();
            let response =
                self.call_any(&DescribeConfigsRequest::default().with_resources(resources)).await?;
            for result in &response.results {
                match ResponseError::try_from_code(result.error_code) {
                    None => {}
                    Some(ResponseError::UnknownTopicOrPartition) => continue,
                    Some(code) => {
                        let message = result.error_message.as_ref().map(ToString::to_string);
                        return Err(ClientError::Refused { code, message });
                    }
                }
                let entries = result.configs.iter().map(|config| ConfigEntry {
                    name: config.name.to_string(),
                    value: config.value.as_ref().map(ToString::to_string),
                    is_default: config.config_source == SOURCE_DEFAULT,
                    is_topic_override: config.config_source == SOURCE_TOPIC,
                });
                configs.insert(result.resource_name.to_string(), entries.collect());
            }
        }
        Ok(configs)
    }
}
