//! DescribeLogDirs (key 35), versions 1 to 4: the data folder, its space, and the size of each log.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{ApiKey, DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::{text, topic_name};
use crate::partition::Partition;

pub const API: Api = Api { key: ApiKey::DescribeLogDirs, least: 1, greatest: 4, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |_, message: DescribeLogDirsRequest| {
        // Null is everything.
        let topics: Vec<(String, Vec<Arc<Partition>>)> = match &message.topics {
            None => broker
                .partitions
                .topics()
                .iter()
                .map(|topic| (topic.name.to_string(), topic.partitions()))
                .collect(),
            Some(asked) => asked
                .iter()
                .filter_map(|asked| {
                    let topic = broker.partitions.topic(&asked.topic)?;
                    let held = asked.partitions.iter().filter_map(|index| topic.partition(*index).ok());
                    Some((topic.name.to_string(), held.collect()))
                })
                .collect(),
        };
        let topics =
            topics.into_iter().filter(|(_, partitions)| !partitions.is_empty()).map(|(name, partitions)| {
                let partitions = partitions.iter().map(|partition| {
                    // How far a replica lags behind the high watermark; a leader does not.
                    let lag = (partition.high_watermark().0 - partition.log.log_end_offset().0).max(0);
                    DescribeLogDirsPartition::default()
                        .with_partition_index(partition.name.partition)
                        .with_partition_size(i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX))
                        .with_offset_lag(lag)
                });
                DescribeLogDirsTopic::default()
                    .with_name(topic_name(&name))
                    .with_partitions(partitions.collect())
            });
        let folder =
            std::path::absolute(&broker.config.log_dir).unwrap_or_else(|_| broker.config.log_dir.clone());
        let result = DescribeLogDirsResult::default()
            .with_log_dir(text(&folder.to_string_lossy()))
            .with_topics(topics.collect());
        let result = match broker.partitions.data.space() {
            Ok(space) => result
                .with_total_bytes(i64::try_from(space.total_bytes).unwrap_or(i64::MAX))
                .with_usable_bytes(i64::try_from(space.free_bytes).unwrap_or(i64::MAX)),
            Err(error) => {
                tracing::error!(%error, "the space of the data folder cannot be read");
                result.with_error_code(ResponseError::KafkaStorageError.code())
            }
        };
        DescribeLogDirsResponse::default().with_results(vec![result])
    })
}
