//! What of a Produce has to be verified with the coordinator of its transaction before it is appended (KIP-890).
//!
//! Only transactional batches of a producer that has no transaction open in their partition are: one that comes late, after
//! the marker, would open one that nobody ends. Up to version 11 the coordinator is asked whether the client has added
//! the partition; from 12 on it adds it. Everything else passes without a look at anything but its header.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use crate::partition::{ProduceError, Topic};
use crate::protocol::batch::BatchHeader;
use crate::protocol::produce::{ProduceView, TopicReference};
use crate::segment::{Guard, Verification};
use crate::server::Broker;
use crate::server::transactions::{Verified, verify};
use crate::types::{Acks, TopicId, TopicPartition};

/// The first version by which clients have their partitions added.
const ADDS: i16 = 12;
/// The first version whose clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 11;

/// How often, and after how long, a transaction is asked for again whose predecessor is being ended.
const RETRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// The topic that a Produce names.
pub(super) fn find_topic(broker: &Broker, topic: &TopicReference) -> Result<Arc<Topic>, ResponseError> {
    match topic {
        TopicReference::Name(name) => {
            broker.partitions.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)
        }
        TopicReference::Id(id) => {
            broker.partitions.topic_by_id(TopicId(*id)).ok_or(ResponseError::UnknownTopicId)
        }
    }
}

/// A partition's transactional batch.
struct Batch {
    partition: TopicPartition,
    producer: (i64, i16),
    guard: Guard,
    /// What became of it, where that is known.
    verified: Option<Result<(), (ResponseError, String)>>,
}

/// The batches of a request that are verified.
#[derive(Default)]
pub(super) struct Verifying {
    version: i16,
    transactional_id: Option<String>,
    batches: Vec<Batch>,
}

impl Verifying {
    /// Looks through a request. Guards are given out here, before anybody is asked.
    pub(super) fn of(broker: &Broker, view: &ProduceView, version: i16) -> Self {
        let mut verifying = Self { version, ..Self::default() };
        for topic in &view.topics {
            for produced in &topic.partitions {
                let header = produced.records.as_deref().map(BatchHeader::parse);
                let Some(Ok(header)) = header else { continue };
                if !header.is_transactional() || !header.has_producer() {
                    continue;
                }
                let found = find_topic(broker, &topic.topic).ok();
                let found = found.and_then(|topic| topic.partition(produced.index).ok());
                // What is not here is refused for that.
                let Some(found) = found else { continue };
                let producer = (header.producer_id, header.producer_epoch);
                let mut batch =
                    Batch { partition: found.name.clone(), producer, guard: Guard::NONE, verified: None };
                let refused = |error, reason: &str| Some(Err((error, reason.to_owned())));
                if Acks::from_number(view.acks) == Some(Acks::None) {
                    let reason = "a transaction's records cannot be sent with acks=0";
                    batch.verified = refused(ResponseError::InvalidRequiredAcks, reason);
                } else if view.transactional_id.is_none() {
                    let reason = "transactional records came without a transactional id";
                    batch.verified = refused(ResponseError::InvalidTxnState, reason);
                } else if verifying.batches.first().is_some_and(|first| first.producer != producer) {
                    let reason = "Transactional records contained more than one producer ID";
                    batch.verified = refused(ResponseError::InvalidProducerIdMapping, reason);
                } else {
                    match found.verification(&header) {
                        Ok(Verification::Needed(guard)) => batch.guard = guard,
                        // It is refused for that.
                        Ok(Verification::NotNeeded) | Err(ProduceError::NotLeader) => {
                            batch.verified = Some(Ok(()));
                        }
                        Err(error) => {
                            batch.verified = refused(ResponseError::UnknownServerError, &error.to_string())
                        }
                    }
                }
                verifying.batches.push(batch);
            }
        }
        if !verifying.batches.is_empty() {
            verifying.transactional_id = view.transactional_id.as_ref().map(ToString::to_string);
        }
        verifying
    }

    pub(super) fn is_needed(&self) -> bool {
        self.batches.iter().any(|batch| batch.verified.is_none())
    }

    /// Asks the coordinator.
    pub(super) async fn verify(mut self, broker: &Arc<Broker>) -> Self {
        let Some(id) = self.transactional_id.clone() else { return self };
        let adds = self.version >= ADDS;
        let mut retries = 0;
        loop {
            let open: Vec<_> = self.batches.iter().filter(|batch| batch.verified.is_none()).collect();
            let Some(first) = open.first() else { return self };
            let (producer_id, epoch) = first.producer;
            let partitions: Vec<_> = open.iter().map(|batch| batch.partition.clone()).collect();
            let answers = verify(broker, &id, producer_id, epoch, &partitions, adds).await;
            let is_busy = answers.iter().any(|(_, it)| *it == Err(ResponseError::ConcurrentTransactions));
            if adds && is_busy && retries < RETRIES {
                retries += 1;
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            for batch in self.batches.iter_mut().filter(|batch| batch.verified.is_none()) {
                let answer = answers.iter().find(|(partition, _)| *partition == batch.partition);
                let answer = answer.map_or(Err(ResponseError::UnknownServerError), |(_, answer)| *answer);
                batch.verified = Some(as_told(answer, self.version));
            }
        }
    }

    /// Under what a batch was verified, if it was.
    ///
    /// # Errors
    /// What its producer is to be told.
    pub(super) fn guard(
        &self,
        topic: &str,
        index: i32,
        header: Option<&BatchHeader>,
    ) -> Result<Guard, (ResponseError, String)> {
        if !header.is_some_and(BatchHeader::is_transactional) {
            return Ok(Guard::NONE);
        }
        let batch = self
            .batches
            .iter()
            .find(|batch| batch.partition.partition == index && *batch.partition.topic == *topic);
        match batch {
            Some(Batch { verified: Some(Err((error, reason))), .. }) => Err((*error, reason.clone())),
            Some(Batch { guard, .. }) => Ok(*guard),
            // It is refused for what is wrong with it.
            None => Ok(Guard::NONE),
        }
    }
}

/// What a producer is told of the coordinator's answer: errors that pass are told as one that every client tries again
/// after.
fn as_told(answer: Verified, version: i16) -> Result<(), (ResponseError, String)> {
    let Err(error) = answer else { return Ok(()) };
    let unable = format!(
        "Unable to verify the partition has been added to the transaction. Underlying error: {error}"
    );
    Err(match error {
        ResponseError::InvalidTxnState => (error, "Partition was not added to the transaction".to_owned()),
        ResponseError::TransactionAbortable if version < KNOWS_ABORTABLE => {
            (ResponseError::InvalidTxnState, "Partition was not added to the transaction".to_owned())
        }
        ResponseError::ConcurrentTransactions if version >= ADDS => (error, error.to_string()),
        ResponseError::ConcurrentTransactions
        | ResponseError::NetworkException
        | ResponseError::RequestTimedOut
        | ResponseError::CoordinatorLoadInProgress
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::NotCoordinator => (ResponseError::NotEnoughReplicas, unable),
        ResponseError::UnknownProducerId => (ResponseError::OutOfOrderSequenceNumber, unable),
        error => (error, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tries_again_where_its_coordinator_could_not_say_and_is_told_no_where_it_said_so() {
        let told = |error, version| as_told(Err(error), version).expect_err("is refused").0;
        let again = ResponseError::NotEnoughReplicas;
        assert_eq!(as_told(Ok(()), 3), Ok(()));
        assert_eq!(told(ResponseError::CoordinatorNotAvailable, 12), again);
        assert_eq!(told(ResponseError::NotCoordinator, 3), again);
        assert_eq!(told(ResponseError::ConcurrentTransactions, 11), again);
        let busy = ResponseError::ConcurrentTransactions;
        assert_eq!(told(busy, 12), busy);
        assert_eq!(told(ResponseError::TransactionAbortable, 10), ResponseError::InvalidTxnState);
        let abortable = ResponseError::TransactionAbortable;
        assert_eq!(told(abortable, 11), abortable);
        let fenced = ResponseError::InvalidProducerEpoch;
        assert_eq!(told(fenced, 9), fenced);
    }
}
