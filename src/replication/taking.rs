//! What becomes of a leader's answer.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tokio::task::JoinSet;

use super::Context;
use super::fetcher::{Broken, Fetcher};
use super::session::{Key, Session, Told};
use crate::client::connection::Connection;
use crate::partition::Partition;
use crate::partition::following::LeaderState;
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::messages::{BrokerId, FetchResponse, TopicName};
use crate::segment::{AppendError, TruncateError};
use crate::types::{LeaderEpoch, Offset, TopicId};

/// On the wire: the ends of a log, in place of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A partition's part of an answer, with what it answers.
struct Part {
    key: Key,
    partition: Arc<Partition>,
    told: Told,
    data: PartitionData,
}

/// What a part came to.
enum Outcome {
    Taken,
    /// It is in the log, and is to be synced before the leader is told.
    MustSync,
    /// Nothing came of it, as it is not of now.
    Old,
    /// The leader has nothing at that offset.
    OutOfRange,
    /// It is tried again after a pause.
    Failed(String),
    /// The log takes nothing more.
    LogFailed(String),
}

impl Fetcher {
    /// Takes an answer up, partition by partition.
    pub(super) async fn take(
        &self,
        connection: &Connection,
        session: &Session,
        number: u64,
        response: FetchResponse,
    ) -> Result<(), Broken> {
        let mut parts = Vec::new();
        for topic in response.responses {
            let id = TopicId(topic.topic_id);
            for data in topic.partitions {
                let key = (id, data.partition_index);
                let told = session.told_at(number, key);
                let Some((told, following)) = told.zip(self.following(key)) else { continue };
                if following.epoch == told.epoch {
                    parts.push(Part { key, partition: following.partition, told, data });
                }
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let context = self.context.clone();
        let taking = self.context.surroundings.blocking.run(move || {
            let each = parts.into_iter().map(|part| {
                let outcome = take_part(&context, &part.partition, part.told, part.data);
                (part.key, part.partition, part.told, outcome)
            });
            each.collect::<Vec<_>>()
        });
        let taken = taking.await.map_err(|error| Broken::Failed(error.to_string()))?;
        let mut syncing = Vec::new();
        for (key, partition, told, outcome) in taken {
            match outcome {
                Outcome::Taken => self.succeeded(key, told.epoch),
                Outcome::MustSync => syncing.push((key, partition, told)),
                Outcome::Old => self.changed(key),
                Outcome::OutOfRange => match self.reset(connection, &partition, told).await {
                    Ok(()) => self.succeeded(key, told.epoch),
                    Err(error) => self.failed(key, &partition, told.epoch, &error.to_string(), false),
                },
                Outcome::Failed(error) => self.failed(key, &partition, told.epoch, &error, false),
                Outcome::LogFailed(error) => self.failed(key, &partition, told.epoch, &error, true),
            }
        }
        // All at once: each log has a sync of its own.
        let mut syncs = JoinSet::new();
        for (key, partition, told) in syncing {
            syncs.spawn(async move {
                let synced = partition.sync().await;
                (key, partition, told, synced)
            });
        }
        while let Some(done) = syncs.join_next().await {
            match done.map_err(|error| Broken::Failed(error.to_string()))? {
                (key, _, told, Ok(_)) => self.succeeded(key, told.epoch),
                (key, partition, told, Err(error)) => {
                    self.failed(key, &partition, told.epoch, &error.to_string(), true);
                }
            }
        }
        Ok(())
    }

    fn failed(&self, key: Key, partition: &Partition, epoch: LeaderEpoch, error: &str, for_ever: bool) {
        let failures = self.rest(key, epoch, for_ever);
        match (for_ever, failures) {
            (true, _) => {
                tracing::error!(partition = %partition.name, error, "the partition is not replicated any more: its log takes nothing");
            }
            // A leader that does not lead yet is what follows every election.
            (false, 8) => {
                tracing::warn!(partition = %partition.name, leader = %self.leader, error, "the partition cannot be fetched; this is tried again");
            }
            (false, _) => {
                tracing::debug!(partition = %partition.name, leader = %self.leader, error, failures, "the partition cannot be fetched");
            }
        }
    }

    /// The leader has nothing at the end of this log. A leader whose log is shorter was elected without what is missing, and this
    /// log is cut; one whose log begins later has deleted all that this one has, which then begins where the leader's does.
    async fn reset(
        &self,
        connection: &Connection,
        partition: &Arc<Partition>,
        told: Told,
    ) -> Result<(), Broken> {
        let leader_end = self.leader_offset(connection, partition, told.epoch, LATEST).await?;
        let end = partition.log.log_end_offset();
        let (begins_anew, at) = match leader_end < end {
            true => (false, leader_end),
            false => (true, self.leader_offset(connection, partition, told.epoch, EARLIEST).await?),
        };
        if begins_anew && at <= end {
            return Ok(());
        }
        let (context, partition) = (self.context.clone(), partition.clone());
        let changing = self.context.surroundings.blocking.run(move || {
            let data = &context.partitions.data;
            if begins_anew {
                tracing::warn!(partition = %partition.name, %end, leader_start = %at, "the leader has deleted all that is here: the log begins anew");
                partition.start_anew(data, at, told.epoch)
            } else {
                partition.truncate(data, at, told.epoch)
            }
        });
        let changed = changing.await.map_err(|error| Broken::Failed(error.to_string()))?;
        changed.map_err(|error| Broken::Failed(error.to_string()))
    }

    async fn leader_offset(
        &self,
        connection: &Connection,
        partition: &Partition,
        epoch: LeaderEpoch,
        which: i64,
    ) -> Result<Offset, Broken> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition.name.partition)
            .with_current_leader_epoch(epoch.0)
            .with_timestamp(which);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(partition.name.topic.to_string().into()))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId((self.context.identity)().id.0))
            .with_topics(vec![topic]);
        let response = connection.call(&request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or_else(|| Broken::Failed("an answer without the partition".to_owned()))?;
        match ResponseError::try_from_code(answer.error_code) {
            Some(error) => Err(Broken::Refused(error)),
            None if answer.offset < 0 => Err(Broken::Failed(format!("offset {}", answer.offset))),
            None => Ok(Offset(answer.offset)),
        }
    }
}

/// Takes up what came for one partition. Blocks on the disk.
fn take_part(context: &Context, partition: &Arc<Partition>, told: Told, data: PartitionData) -> Outcome {
    match ResponseError::try_from_code(data.error_code) {
        None => {}
        Some(ResponseError::OffsetOutOfRange) => return Outcome::OutOfRange,
        Some(error) => return Outcome::Failed(format!("{error:?}")),
    }
    if partition.position().log_end != told.position.log_end {
        return Outcome::Old;
    }
    if data.diverging_epoch.epoch >= 0 {
        let parts = (LeaderEpoch(data.diverging_epoch.epoch), Offset(data.diverging_epoch.end_offset));
        return match partition.truncate_where_parted(&context.partitions.data, told.epoch, parts) {
            Ok(()) => Outcome::Taken,
            Err(TruncateError::LeadershipEnded(_)) => Outcome::Old,
            Err(error) if partition.log.is_failed() => Outcome::LogFailed(error.to_string()),
            Err(error) => Outcome::Failed(error.to_string()),
        };
    }
    let leader = LeaderState {
        epoch: told.epoch,
        high_watermark: Offset(data.high_watermark),
        log_start: Offset(data.log_start_offset),
    };
    match partition.append_replicated(data.records.unwrap_or_default(), leader) {
        Ok(Some(appended)) if appended.flush_due => Outcome::MustSync,
        Ok(_) => Outcome::Taken,
        Err(AppendError::LeadershipEnded(_)) => Outcome::Old,
        Err(error @ (AppendError::Failed | AppendError::Closed)) => Outcome::LogFailed(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
