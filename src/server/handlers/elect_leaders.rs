//! ElectLeaders (key 43, KIP-183 and KIP-460): the preferred leader, or any replica where there is no leader. The answer
//! waits until this node follows the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::{Instant, timeout_at};

use super::topic_name;
use crate::controller::{ElectLeaders, ElectionKind, PartitionName};
use crate::protocol::guard::shapes;
use crate::protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::ErrorCodes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::ELECT_LEADERS,
    versions: 0..=2,
    notes: &[(1, "unclean elections, and an error of the whole (KIP-460)")],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<ElectLeadersRequest>(),
};

impl ErrorCodes for ElectLeadersResponse {
    fn count_errors(&self, errors: &mut crate::server::errors::Errors) {
        if self.error_code != 0 {
            // It stands with each partition, too.
            return errors.count(self.error_code);
        }
        let results = self.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        results.for_each(|result| errors.count(result.error_code));
    }
}

/// The first version with an error of the whole.
const HAS_ERROR: i16 = 1;

impl Answered for ElectLeadersRequest {
    type Response = ElectLeadersResponse;

    fn error_response(&self, version: i16, error: &WireError) -> ElectLeadersResponse {
        let topics = self.topic_partitions.iter().flatten().map(|topic| {
            let results = topic.partitions.iter().map(|index| partition_result(*index, Some(error)));
            ReplicaElectionResult::default()
                .with_topic(topic.topic.clone())
                .with_partition_result(results.collect())
        });
        let response = ElectLeadersResponse::default().with_replica_election_results(topics.collect());
        if version >= HAS_ERROR { response.with_error_code(error.number()) } else { response }
    }
}

impl AnswerLater for ElectLeadersRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> ElectLeadersResponse {
        let kind = match self.election_type {
            0 => ElectionKind::Preferred,
            1 => ElectionKind::Unclean,
            other => {
                let message = format!("Unknown election type {other}");
                return self.error_response(
                    request.version,
                    &WireError::new(ResponseError::InvalidRequest, message),
                );
            }
        };
        let partitions = self.topic_partitions.as_ref().map(|topics| {
            let of = |topic: &crate::protocol::messages::elect_leaders_request::TopicPartitions| {
                let name = topic.topic.to_string();
                topic.partitions.iter().map(move |index| (name.clone(), *index)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(of).collect()
        });
        let timeout = Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or_default());
        let deadline = Instant::now() + timeout;
        let controller = broker.controller.within_ms(self.timeout_ms);
        let answers = match controller.elect_leaders(ElectLeaders { kind, partitions }).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &error.into()),
        };
        let elected =
            answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(name, _)| name.clone()).collect();
        let not_yet = not_elected(&broker, elected, deadline).await;
        broker.wait_applied().await;
        let mut topics: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
        for ((topic, index), answer) in answers {
            let late = not_yet.contains(&(topic.clone(), index)).then(|| {
                let message = "The leader has not handed over yet.".to_owned();
                WireError::new(ResponseError::RequestTimedOut, message)
            });
            let error = answer.err().map(WireError::from).or(late);
            topics.entry(topic).or_default().push(partition_result(index, error.as_ref()));
        }
        let topics = topics.into_iter().map(|(topic, results)| {
            ReplicaElectionResult::default().with_topic(topic_name(&topic)).with_partition_result(results)
        });
        ElectLeadersResponse::default().with_replica_election_results(topics.collect())
    }
}

/// Waits until the leaders of these partitions have handed over to their heirs, and gives those that have not until the
/// deadline.
async fn not_elected(
    broker: &Broker,
    mut partitions: BTreeSet<PartitionName>,
    deadline: Instant,
) -> BTreeSet<PartitionName> {
    let mut applied = broker.quorum.applied();
    loop {
        let image = broker.image();
        partitions.retain(|(topic, index)| {
            image.partition(topic, *index).is_some_and(|partition| partition.heir.is_some())
        });
        if partitions.is_empty() || !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(_))) {
            return partitions;
        }
    }
}

fn partition_result(index: i32, error: Option<&WireError>) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.map_or(0, WireError::number))
        .with_error_message(error.and_then(WireError::text))
}
