//! Kafka's error codes for what goes wrong in the rooms below: the one place that chooses them.
//!
//! The controller's decisions are in Kafka's codes already: the code is part of what is decided. A handler names a code
//! itself only where it refuses a request for what stands in it.

use kafka_protocol::ResponseError;

use super::loggers::LoggerError;
use crate::controller::ControllerError;
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::request::GroupError;
use crate::env::WorkPanicked;
use crate::partition::checks::CheckError;
use crate::partition::replica::EpochError;
use crate::partition::{Absent, DeleteRecordsError, FetchError, ProduceError};
use crate::protocol::batch::BatchError;
use crate::protocol::messages::StrBytes;
use crate::raft::VoterError;
use crate::segment::{AppendError, ReadError};

/// An error as a client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    pub code: ResponseError,
    /// What is wrong, for people; empty where the code says it all.
    pub message: String,
}

impl WireError {
    pub fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The code on the wire.
    pub fn number(&self) -> i16 {
        self.code.code()
    }

    /// The message on the wire, null for none.
    pub fn text(&self) -> Option<StrBytes> {
        (!self.message.is_empty()).then(|| StrBytes::from_string(self.message.clone()))
    }
}

impl From<ResponseError> for WireError {
    fn from(code: ResponseError) -> Self {
        Self::new(code, "")
    }
}

impl From<ControllerError> for WireError {
    fn from(error: ControllerError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<VoterError> for WireError {
    fn from(error: VoterError) -> Self {
        let code = match &error {
            VoterError::Duplicate { .. } => ResponseError::DuplicateVoter,
            VoterError::NotFound { .. } => ResponseError::VoterNotFound,
            VoterError::Invalid(_) => ResponseError::InvalidRequest,
            VoterError::NotInTime(_) => ResponseError::RequestTimedOut,
            VoterError::NotLeader => ResponseError::NotLeaderOrFollower,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProduceError> for WireError {
    fn from(error: ProduceError) -> Self {
        Self::new(produce_error(&error), error.to_string())
    }
}

impl From<BatchError> for WireError {
    fn from(error: BatchError) -> Self {
        Self::new(batch_error(&error), error.to_string())
    }
}

/// Work of ours ended without its result.
impl From<WorkPanicked> for WireError {
    fn from(error: WorkPanicked) -> Self {
        Self::new(ResponseError::UnknownServerError, error.to_string())
    }
}

pub(super) fn produce_error(error: &ProduceError) -> ResponseError {
    match error {
        ProduceError::NotLeader => ResponseError::NotLeaderOrFollower,
        ProduceError::NotEnoughReplicas { .. } => ResponseError::NotEnoughReplicas,
        ProduceError::NotEnoughReplicasAfterAppend { .. } => ResponseError::NotEnoughReplicasAfterAppend,
        ProduceError::TimedOut => ResponseError::RequestTimedOut,
        ProduceError::Check(CheckError::Batch(error)) => batch_error(error),
        ProduceError::Check(CheckError::TooLarge { .. }) => ResponseError::MessageTooLarge,
        ProduceError::Check(CheckError::Records(refused)) if refused.is_for_timestamps => {
            ResponseError::InvalidTimestamp
        }
        ProduceError::Check(CheckError::Records(_)) => ResponseError::InvalidRecord,
        ProduceError::Check(CheckError::Panicked(_)) => ResponseError::UnknownServerError,
        ProduceError::Append(error) => append_error(error),
        ProduceError::Sync(_) => ResponseError::KafkaStorageError,
    }
}

/// What Kafka 4.3 answers a producer, as asked of a running one. Clients send again after `CORRUPT_MESSAGE`, so it
/// is only for what the way may have damaged: what was wrong when it was sent stays wrong. (A block that its codec
/// cannot read, or an unknown codec, Kafka answers with `UNKNOWN_SERVER_ERROR`, a failure of its own; here that is
/// an invalid record.)
pub(super) fn batch_error(error: &BatchError) -> ResponseError {
    match error {
        BatchError::Length(_) | BatchError::Checksum { .. } => ResponseError::CorruptMessage,
        BatchError::Magic(0 | 1) => ResponseError::InvalidRecord,
        BatchError::Magic(_) => ResponseError::CorruptMessage,
        BatchError::UnknownCompression(_)
        | BatchError::NoBatch
        | BatchError::Truncated { .. }
        | BatchError::Decompress { .. }
        | BatchError::SeveralBatches
        | BatchError::BaseOffset(_)
        | BatchError::RecordsCount(_)
        | BatchError::OffsetRange { .. }
        | BatchError::Control
        | BatchError::Producer { .. }
        | BatchError::Record { .. }
        | BatchError::LeftOver(_) => ResponseError::InvalidRecord,
        BatchError::ZstdTooEarly(_) => ResponseError::UnsupportedCompressionType,
        BatchError::TimestampType => ResponseError::InvalidTimestamp,
        BatchError::TooLarge { .. } | BatchError::DecompressedTooLarge { .. } => {
            ResponseError::MessageTooLarge
        }
    }
}

/// What a producer is answered whose records are not in the log.
pub(super) fn append_error(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Closed | AppendError::LeadershipEnded(_) => ResponseError::NotLeaderOrFollower,
        AppendError::Failed | AppendError::StorageFull | AppendError::Io(_) => {
            ResponseError::KafkaStorageError
        }
        AppendError::Batch(error) => batch_error(error),
        AppendError::LargerThanSegment { .. } => ResponseError::RecordListTooLarge,
        AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        AppendError::CoordinatorFenced { .. } => ResponseError::TransactionCoordinatorFenced,
        AppendError::NotInTransaction { .. } => ResponseError::InvalidTxnState,
        AppendError::OffsetsNotMonotonic { .. } | AppendError::EpochNotMonotonic { .. } => {
            ResponseError::UnknownServerError
        }
    }
}

/// For a partition that cannot be asked here.
pub(super) fn absent_error(absent: Absent) -> ResponseError {
    match absent {
        Absent::Unknown => ResponseError::UnknownTopicOrPartition,
        Absent::Offline => ResponseError::KafkaStorageError,
    }
}

/// For a partition that cannot be read.
pub(super) fn fetch_error(error: &FetchError) -> ResponseError {
    match error {
        FetchError::NotLeader => ResponseError::NotLeaderOrFollower,
        FetchError::Epoch(EpochError::Fenced) => ResponseError::FencedLeaderEpoch,
        FetchError::Epoch(EpochError::Unknown) => ResponseError::UnknownLeaderEpoch,
        FetchError::Read(ReadError::OffsetOutOfRange { .. }) => ResponseError::OffsetOutOfRange,
        FetchError::Read(ReadError::Corrupt(_)) => ResponseError::CorruptMessage,
        // Where the log cannot be read, it says itself, and not for every fetch.
        FetchError::Read(_) => ResponseError::KafkaStorageError,
    }
}

/// For records that are not deleted.
pub(super) fn delete_records_error(error: &DeleteRecordsError) -> ResponseError {
    match error {
        DeleteRecordsError::NotLeader => ResponseError::NotLeaderOrFollower,
        DeleteRecordsError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        DeleteRecordsError::Storage(error) => {
            tracing::error!(%error, "records could not be deleted");
            ResponseError::KafkaStorageError
        }
    }
}

/// For what was read beside the records and could not be.
pub(super) fn storage_error(doing: &str, error: &std::io::Error) -> ResponseError {
    tracing::error!(%error, "{doing}");
    ResponseError::KafkaStorageError
}

/// For a request to a coordinator that was not carried out.
pub(super) fn coordinator_error(error: &CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::NotCoordinator => ResponseError::NotCoordinator,
        CoordinatorError::Loading => ResponseError::CoordinatorLoadInProgress,
        CoordinatorError::NotAvailable => ResponseError::CoordinatorNotAvailable,
        CoordinatorError::Unwritable => ResponseError::UnknownServerError,
    }
}

/// For what a group does not do.
pub(super) fn group_error(error: &GroupError) -> ResponseError {
    match error {
        GroupError::Coordinator(error) => coordinator_error(error),
        GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
        GroupError::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
        GroupError::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidCommitOffsetSize => ResponseError::InvalidCommitOffsetSize,
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
        GroupError::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::UnknownMemberId => ResponseError::UnknownMemberId,
        GroupError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
    }
}

/// For the loggers of this broker.
pub(super) fn logger_error(error: &LoggerError) -> ResponseError {
    match error {
        LoggerError::UnknownLogger(_) | LoggerError::UnknownLevel(..) => ResponseError::InvalidConfig,
        LoggerError::RootNeedsLevel | LoggerError::Operation(_) | LoggerError::NotOurs => {
            ResponseError::InvalidRequest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch;
    use crate::protocol::builder::{BatchBuilder, BatchOptions};
    use crate::protocol::check_for_produce;

    /// The codes that a running Kafka 4.3 answered. What it stores as is, or with the header put right
    /// (other offset deltas, a wrong timestamp type), is refused here and not in this list.
    #[test]
    fn a_producer_is_told_what_kafka_would_tell_it() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.add(1, Some(b"k"), Some(b"v")).expect("is small");
        let good = builder.build_mut().expect("builds").to_vec();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            if at > 20 {
                batch::seal(&mut changed);
            }
            changed
        };
        let invalid = ResponseError::InvalidRecord;
        let corrupt = ResponseError::CorruptMessage;
        let cases: [(&str, Vec<u8>, ResponseError); 16] = [
            ("nothing", Vec::new(), invalid),
            ("two batches", [&good[..], &good].concat(), invalid),
            ("cut", good[..good.len() - 1].to_vec(), invalid),
            ("cut header", good[..40].to_vec(), invalid),
            ("magic 0", with(16, &[0]), invalid),
            ("magic 1", with(16, &[1]), invalid),
            ("magic 3", with(16, &[3]), corrupt),
            ("length 0", with(8, &[0, 0, 0, 0]), corrupt),
            ("length -1", with(8, &[0xff; 4]), corrupt),
            ("length 20", with(8, &[0, 0, 0, 20]), corrupt),
            ("checksum", with(17, &[1, 2, 3, 4]), corrupt),
            ("base offset", with(0, &[0, 0, 0, 0, 0, 0, 0, 7]), invalid),
            ("control", with(22, &[0x20]), invalid),
            ("no records", with(57, &[0, 0, 0, 0]), invalid),
            ("two records announced", with(60, &[2]), invalid),
            ("last offset delta", with(26, &[5]), invalid),
        ];
        for (what, records, code) in cases {
            let error = check_for_produce(&records).expect_err(what);
            assert_eq!(batch_error(&error), code, "{what}: {error}");
        }
    }
}
