//! DescribeLogDirs (key 35): the data folder, its space, and the size of each log.

use std::sync::Arc;

use super::{text, topic_name};
use crate::partition::Partition;
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, storage_error};

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_LOG_DIRS,
    versions: 1..=5,
    notes: &[
        (3, "an error of the whole answer"),
        (4, "the space of a folder (KIP-827)"),
        (5, "whether a folder takes no new replicas (KIP-1066); none is so yet"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[Need(Operation::Describe, Resource::Cluster)],
    handler: Handler::now::<DescribeLogDirsRequest>(),
};

error_codes!(DescribeLogDirsResponse: [] [results]);

/// The first version whose whole answer has an error.
const HAS_ERROR: i16 = 3;

impl Answered for DescribeLogDirsRequest {
    type Response = DescribeLogDirsResponse;

    fn error_response(&self, version: i16, error: &WireError) -> DescribeLogDirsResponse {
        if version >= HAS_ERROR {
            return DescribeLogDirsResponse::default().with_error_code(error.number());
        }
        let result = DescribeLogDirsResult::default().with_error_code(error.number());
        DescribeLogDirsResponse::default().with_results(vec![result])
    }
}

impl AnswerNow for DescribeLogDirsRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> DescribeLogDirsResponse {
        let topics = find_partitions(&self, broker)
            .into_iter()
            .filter(|(_, partitions)| !partitions.is_empty())
            .map(|(name, partitions)| {
                DescribeLogDirsTopic::default()
                    .with_name(topic_name(&name))
                    .with_partitions(partitions.iter().map(|partition| describe(partition)).collect())
            });
        let log_dir = broker.config.storage.log_dir();
        let folder = std::path::absolute(log_dir).unwrap_or_else(|_| log_dir.to_owned());
        let result = DescribeLogDirsResult::default()
            .with_log_dir(text(&folder.to_string_lossy()))
            .with_topics(topics.collect());
        let result = match broker.partitions.data.space() {
            Ok(space) => result
                .with_total_bytes(i64::try_from(space.total_bytes).unwrap_or(i64::MAX))
                .with_usable_bytes(i64::try_from(space.free_bytes).unwrap_or(i64::MAX)),
            Err(error) => {
                let error = storage_error("the space of the data folder cannot be read", &error);
                result.with_error_code(error.code())
            }
        };
        DescribeLogDirsResponse::default().with_results(vec![result])
    }
}

/// What is asked for of what this broker holds; null is everything.
fn find_partitions(request: &DescribeLogDirsRequest, broker: &Broker) -> Vec<(String, Vec<Arc<Partition>>)> {
    let Some(asked) = &request.topics else {
        let topics = broker.partitions.topics();
        return topics.iter().map(|topic| (topic.name.to_string(), topic.partitions())).collect();
    };
    let found = asked.iter().filter_map(|asked| {
        let topic = broker.partitions.topic(&asked.topic)?;
        let held = asked.partitions.iter().filter_map(|index| topic.partition(*index).ok());
        Some((topic.name.to_string(), held.collect()))
    });
    found.collect()
}

fn describe(partition: &Partition) -> DescribeLogDirsPartition {
    // How far a replica lags behind the high watermark; a leader does not.
    let lag = (partition.high_watermark().0 - partition.log.log_end_offset().0).max(0);
    DescribeLogDirsPartition::default()
        .with_partition_index(partition.name.partition)
        .with_partition_size(i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX))
        .with_offset_lag(lag)
}
