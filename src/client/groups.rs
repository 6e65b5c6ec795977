//! Groups as an administrator sees them: listed, described, deleted, their offsets read and written.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::Assignment;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    OffsetDeleteRequest,
};

use super::admin::Partition;
use super::coordinator::{Coordinator, PerGroup, group_id};
use super::{Client, ClientError, Connection, consumer_protocol, text, topic_name};

/// ListGroups answers states from version 4 on, types from version 5 on.
const LIST_STATES_VERSION: i16 = 4;
const LIST_TYPES_VERSION: i16 = 5;

/// The protocol type of consumers; Connect's workers and others have their own.
pub const CONSUMER: &str = "consumer";

/// A group as ListGroups names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedGroup {
    pub id: String,
    /// `Classic`, `Consumer`, `Share`, `Streams`; `Unknown` of brokers before Kafka 3.7.
    pub kind: String,
    /// `consumer`, `connect`…; empty of a group that only ever committed.
    pub protocol_type: String,
    /// `Stable`, `Empty`…; `Unknown` of brokers before Kafka 2.6.
    pub state: String,
}

impl ListedGroup {
    /// Whether offsets of topics are what the group keeps: consumers of both protocols, and groups
    /// without members that commit.
    pub fn is_consumers(&self) -> bool {
        match self.kind.as_str() {
            "Consumer" => true,
            "Classic" | "Unknown" => matches!(self.protocol_type.as_str(), CONSUMER | ""),
            _ => false,
        }
    }
}

/// A group with its members.
#[derive(Debug, Clone)]
pub struct GroupDescription {
    pub id: String,
    /// `Classic` or `Consumer`.
    pub kind: &'static str,
    pub protocol_type: String,
    pub state: String,
    /// Name of the assignor; empty while none is chosen.
    pub assignor: String,
    /// Epochs of the group and of its assignment; classic groups have none.
    pub epochs: Option<(i32, i32)>,
    pub coordinator: Coordinator,
    pub members: Vec<MemberDescription>,
}

/// One member of a group.
#[derive(Debug, Clone, Default)]
pub struct MemberDescription {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    /// As the broker writes it: `/127.0.0.1`.
    pub host: String,
    /// None in classic groups.
    pub epoch: Option<i32>,
    pub assignment: BTreeSet<Partition>,
    /// What the member is to have once it has given up what others get; None in classic groups.
    pub target: Option<BTreeSet<Partition>>,
}

impl Client {
    /// All groups of all brokers in order of their ids; only those of the given states and types
    /// when there are any.
    pub async fn list_groups(
        &self,
        states: &[String],
        kinds: &[String],
    ) -> Result<Vec<ListedGroup>, ClientError> {
        self.retry(async || self.fetch_metadata(Some(&[])).await).await?;
        let mut groups = BTreeSet::new();
        for broker in self.broker_ids() {
            let response = self
                .retry(async || {
                    let connection = self.broker(broker).await?;
                    let version = connection.require::<ListGroupsRequest>(i16::MAX)?;
                    let unsupported = |what: &str| ClientError::Unsupported {
                        address: connection.address().to_owned(),
                        api: format!("ListGroups by {what}"),
                    };
                    if !states.is_empty() && version < LIST_STATES_VERSION {
                        return Err(unsupported("state"));
                    }
                    if !kinds.is_empty() && version < LIST_TYPES_VERSION {
                        return Err(unsupported("type"));
                    }
                    let texts = |names: &[String]| names.iter().map(|name| text(name.clone())).collect();
                    let request = ListGroupsRequest::default()
                        .with_states_filter(texts(states))
                        .with_types_filter(texts(kinds));
                    let response = connection.call_version(&request, version).await?;
                    ClientError::check(response.error_code, None)?;
                    Ok((version, response))
                })
                .await?;
            let (version, response) = response;
            groups.extend(response.groups.iter().map(|group| {
                let known = |value: &str, since| {
                    if version >= since { kafka_case(value) } else { "Unknown".to_owned() }
                };
                ListedGroup {
                    id: group.group_id.to_string(),
                    kind: known(&group.group_type, LIST_TYPES_VERSION),
                    protocol_type: group.protocol_type.to_string(),
                    state: known(&group.group_state, LIST_STATES_VERSION),
                }
            }));
        }
        Ok(groups.into_iter().collect())
    }

    /// Describes consumer groups of either protocol. A group that does not exist is GROUP_ID_NOT_FOUND.
    pub async fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<PerGroup<GroupDescription>, ClientError> {
        self.per_coordinator(groups, async |connection, coordinator, part| {
            let mut described = PerGroup::new();
            // Only the groups of the newer protocol are known to the newer request.
            if let Some(version) = connection.version_of::<ConsumerGroupDescribeRequest>(i16::MAX) {
                described = describe_consumer_groups(connection, coordinator, part, version).await?;
                described.retain(|_, result| {
                    !matches!(result, Err(error) if matches!(
                        error.code(),
                        Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion)
                    ))
                });
            }
            let rest = part.iter().copied().filter(|group| !described.contains_key(*group));
            let rest = rest.collect::<Vec<_>>();
            if !rest.is_empty() {
                described.extend(describe_classic_groups(connection, coordinator, &rest).await?);
            }
            Ok(described)
        })
        .await
    }

    /// Deletes groups without members.
    pub async fn delete_groups(&self, groups: &[String]) -> Result<PerGroup<()>, ClientError> {
        self.per_coordinator(groups, async |connection, _, part| {
            let names = part.iter().map(|group| group_id(group)).collect();
            let response = connection.call(&DeleteGroupsRequest::default().with_groups_names(names)).await?;
            let results = response
                .results
                .iter()
                .map(|result| (result.group_id.to_string(), ClientError::check(result.error_code, None)));
            Ok(results.collect())
        })
        .await
    }

    /// Deletes what a group has committed for partitions of topics that none of its members subscribes to.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &BTreeSet<Partition>,
    ) -> Result<BTreeMap<Partition, Result<(), ClientError>>, ClientError> {
        self.at_coordinator(group, async |connection| {
            let mut topics = BTreeMap::<&str, Vec<OffsetDeleteRequestPartition>>::new();
            for (topic, index) in partitions {
                let partition = OffsetDeleteRequestPartition::default().with_partition_index(*index);
                topics.entry(topic).or_default().push(partition);
            }
            let topics = topics.into_iter().map(|(name, partitions)| {
                OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
            });
            let request =
                OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
            let response = connection.call(&request).await?;
            ClientError::check(response.error_code, None)?;
            let mut results = BTreeMap::new();
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let key = (topic.name.to_string(), partition.partition_index);
                    results.insert(key, ClientError::check(partition.error_code, None));
                }
            }
            Ok(results)
        })
        .await
    }
}

async fn describe_consumer_groups(
    connection: &Connection,
    coordinator: &Coordinator,
    groups: &[&str],
    version: i16,
) -> Result<PerGroup<GroupDescription>, ClientError> {
    let ids = groups.iter().map(|group| group_id(group)).collect();
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids);
    let response = connection.call_version(&request, version).await?;
    let partitions = |assignment: &Assignment| {
        let topics = assignment.topic_partitions.iter();
        let partitions = topics
            .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_name.to_string(), *index)));
        partitions.collect::<BTreeSet<_>>()
    };
    let mut described = PerGroup::new();
    for group in &response.groups {
        let result = ClientError::check(group.error_code, group.error_message.as_deref());
        let members = group.members.iter().map(|member| MemberDescription {
            id: member.member_id.to_string(),
            instance_id: member.instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            epoch: Some(member.member_epoch),
            assignment: partitions(&member.assignment),
            target: Some(partitions(&member.target_assignment)),
        });
        let description = GroupDescription {
            id: group.group_id.to_string(),
            kind: "Consumer",
            protocol_type: CONSUMER.to_owned(),
            state: kafka_case(&group.group_state),
            assignor: group.assignor_name.to_string(),
            epochs: Some((group.group_epoch, group.assignment_epoch)),
            coordinator: coordinator.clone(),
            members: members.collect(),
        };
        described.insert(group.group_id.to_string(), result.map(|()| description));
    }
    Ok(described)
}

async fn describe_classic_groups(
    connection: &Connection,
    coordinator: &Coordinator,
    groups: &[&str],
) -> Result<PerGroup<GroupDescription>, ClientError> {
    let ids = groups.iter().map(|group| group_id(group)).collect();
    let response = connection.call(&DescribeGroupsRequest::default().with_groups(ids)).await?;
    let mut described = PerGroup::new();
    for group in &response.groups {
        let mut result = ClientError::check(group.error_code, group.error_message.as_deref());
        // Before version 6 a group that is not there is one that is dead.
        if result.is_ok() && group.group_state.eq_ignore_ascii_case("dead") {
            result = Err(ClientError::Refused { code: ResponseError::GroupIdNotFound, message: None });
        }
        let is_consumers = group.protocol_type.as_str() == CONSUMER;
        let members = group.members.iter().map(|member| MemberDescription {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            epoch: None,
            // Other kinds of members have assignments of other forms.
            assignment: match is_consumers {
                true => {
                    consumer_protocol::decode_assignment(member.member_assignment.clone()).unwrap_or_default()
                }
                false => BTreeSet::new(),
            },
            target: None,
        });
        let description = GroupDescription {
            id: group.group_id.to_string(),
            kind: "Classic",
            protocol_type: group.protocol_type.to_string(),
            state: kafka_case(&group.group_state),
            assignor: group.protocol_data.to_string(),
            epochs: None,
            coordinator: coordinator.clone(),
            members: members.collect(),
        };
        described.insert(group.group_id.to_string(), result.map(|()| description));
    }
    Ok(described)
}

/// States and types as Kafka's tools print them: brokers of several versions differ in their case.
pub fn kafka_case(name: &str) -> String {
    const NAMES: &[&str] = &[
        "PreparingRebalance",
        "CompletingRebalance",
        "NotReady",
        "Stable",
        "Dead",
        "Empty",
        "Assigning",
        "Reconciling",
        "Classic",
        "Consumer",
        "Share",
        "Streams",
    ];
    let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_owned(), |known| (*known).to_owned())
}
