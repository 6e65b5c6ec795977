//! Where the partitions of this broker and the coordinators of transactions meet: what is verified before it is appended
//! (KIP-890), and the markers that end transactions.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::Broker;
use super::wire_errors::produce_error;
use crate::metadata::GROUP_METADATA_TOPIC;
use crate::partition::transactions::Ending;
use crate::partition::{Partition, ProduceError};
use crate::types::TopicPartition;

/// How long a marker may take until it is on all replicas in sync.
const MARKER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the coordinator says of a partition: that it belongs to the transaction, or an error of AddPartitionsToTxn.
pub type Verified = Result<(), ResponseError>;

/// Asks the coordinator of a transactional id whether partitions belong to its open transaction; with `add`, has it add
/// them (transaction version 2). Gives every partition its answer.
pub async fn verify(
    _broker: &Arc<Broker>,
    _transactional_id: &str,
    _producer_id: i64,
    _producer_epoch: i16,
    partitions: &[TopicPartition],
    _add: bool,
) -> Vec<(TopicPartition, Verified)> {
    // No coordinator is reachable yet: a client tries again.
    let unavailable = Err(ResponseError::CoordinatorNotAvailable);
    partitions.iter().map(|partition| (partition.clone(), unavailable)).collect()
}

/// Writes the marker that ends a transaction in a partition of this broker; done when it is on all replicas in sync.
pub async fn write_marker(
    broker: &Broker,
    partition: &Arc<Partition>,
    ending: Ending,
) -> Result<(), ResponseError> {
    let written = async {
        if &*partition.name.topic == GROUP_METADATA_TOPIC {
            // Offsets become visible, or are dropped, with it.
            return broker.groups.end_transaction(partition, ending, MARKER_TIMEOUT).await;
        }
        let (end, epoch) = partition.append_marker(ending, None, broker.now_ms()).await?;
        partition.committed(end, epoch, MARKER_TIMEOUT).await
    };
    written.await.map_err(|error: ProduceError| {
        tracing::debug!(partition = %partition.name, %error, ?ending, "a marker is not written");
        produce_error(&error)
    })
}
