//! What can go wrong between a client and a broker, in words that say where.

use std::io;
use std::sync::Arc;

use kafka_protocol::ResponseError;

/// Why a request got no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No bootstrap address could be reached; the last failure is given.
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// Something took the connection that is no broker, or a broker that does not serve yet.
    #[error(
        "{address} does not answer as a Kafka broker does: {reason}; is it the address of a Kafka listener?"
    )]
    NotKafka { address: String, reason: String },
    /// An address does not have the form `host:port`.
    #[error("'{0}' is not an address: expected host:port, as in 127.0.0.1:9092")]
    Address(String),
    /// The connection broke while a request waited. Retriable.
    #[error("connection to {address} lost: {reason}")]
    Lost { address: String, reason: String },
    /// The answer did not come in time. Retriable.
    #[error("no answer from {address} to {api} within {timeout_ms} ms (REQUEST_TIMED_OUT)")]
    TimedOut { address: String, api: String, timeout_ms: u64 },
    /// The broker answered with bytes that are no answer to the request.
    #[error("{address} answered {api} with bytes that cannot be read: {reason}")]
    Malformed { address: String, api: String, reason: String },
    /// The request cannot be put on the wire.
    #[error("cannot encode {api}: {reason}")]
    Encode { api: String, reason: String },
    /// The two sides have no version of this request in common.
    #[error("{address} does not serve {api} in a version that this client speaks (UNSUPPORTED_VERSION)")]
    Unsupported { address: String, api: String },
    /// The broker answered with an error.
    #[error("{}", describe(*.code, .message.as_deref()))]
    Refused { code: ResponseError, message: Option<String> },
    /// A partition has had no leader until the deadline.
    #[error("{0} has no leader (LEADER_NOT_AVAILABLE); are all brokers running?")]
    NoLeader(String),
    /// A partition cannot be read, from this offset on.
    #[error("{topic}-{partition} at offset {offset}: {cause}")]
    Partition { topic: String, partition: i32, offset: i64, cause: Box<ClientError> },
    /// A batch of records could not be built, or not be read.
    #[error("records cannot be built or read: {0}")]
    Batch(String),
}

impl ClientError {
    /// Turns an error code of a response into an error; `Ok` for 0.
    pub fn check(code: i16, message: Option<&str>) -> Result<(), ClientError> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(ClientError::Refused { code, message: message.map(str::to_owned) }),
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Lost { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Unreachable { .. }
            | ClientError::NotKafka { .. }
            | ClientError::NoLeader(_) => true,
            ClientError::Partition { cause, .. } => cause.is_retriable(),
            ClientError::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// The broker's error, where it is one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            ClientError::Partition { cause, .. } => cause.code(),
            _ => None,
        }
    }

    /// The same with the place in a log at which it was met.
    pub fn of_partition(self, (topic, partition): &(String, i32), offset: i64) -> Self {
        match self {
            ClientError::Partition { .. } => self,
            cause => ClientError::Partition {
                topic: topic.clone(),
                partition: *partition,
                offset,
                cause: Box::new(cause),
            },
        }
    }
}

/// `NAME: message`, with the broker's own message where it sent one.
fn describe(code: ResponseError, message: Option<&str>) -> String {
    let name = error_name(code);
    match message {
        Some(message) if !message.is_empty() => format!("{name}: {message}"),
        _ => format!("{name}: {}", explanation(code)),
    }
}

/// Kafka's name of an error, as in its protocol guide: `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn error_name(code: ResponseError) -> String {
    if let ResponseError::Unknown(number) = code {
        return format!("UNKNOWN_ERROR_{number}");
    }
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What the commonest errors mean, for answers that carry no message.
fn explanation(code: ResponseError) -> &'static str {
    match code {
        ResponseError::UnknownServerError => "the broker failed while serving the request; see its log",
        ResponseError::OffsetOutOfRange => "the offset lies outside the log",
        ResponseError::CorruptMessage => "the batch failed its checksum or is malformed",
        ResponseError::UnknownTopicOrPartition => "the broker does not host this topic or partition",
        ResponseError::LeaderNotAvailable => "the partition has no leader at the moment",
        ResponseError::NotLeaderOrFollower => "the broker asked is not the leader of the partition",
        ResponseError::RequestTimedOut => "the request timed out on the broker",
        ResponseError::MessageTooLarge => "the batch is larger than max.message.bytes of the topic",
        ResponseError::InvalidTopicException => "the topic's name is not valid",
        ResponseError::RecordListTooLarge => "the batch is larger than a segment (segment.bytes)",
        ResponseError::NotEnoughReplicas => "fewer replicas are in sync than min.insync.replicas demands",
        ResponseError::NotEnoughReplicasAfterAppend => {
            "written, but to fewer replicas than min.insync.replicas demands"
        }
        ResponseError::InvalidTimestamp => "the timestamp is outside the range that the topic accepts",
        ResponseError::UnsupportedVersion => "the broker does not know this version of the request",
        ResponseError::TopicAlreadyExists => "a topic with this name already exists",
        ResponseError::InvalidPartitions => "the number of partitions is not valid",
        ResponseError::InvalidReplicationFactor => {
            "the replication factor is below 1 or above the number of brokers"
        }
        ResponseError::InvalidRecord => "the broker refused a record (a compacted topic needs keys)",
        ResponseError::KafkaStorageError => "the broker's disk failed; see its log",
        ResponseError::OutOfOrderSequenceNumber => "the broker misses records that came before these",
        ResponseError::UnknownProducerId => "the broker no longer knows this producer",
        ResponseError::TopicAuthorizationFailed => "not authorised for this topic",
        ResponseError::ClusterAuthorizationFailed => "not authorised for this cluster",
        ResponseError::UnsupportedCompressionType => "the broker does not support this compression",
        ResponseError::CoordinatorLoadInProgress => "the group's coordinator is still loading",
        ResponseError::CoordinatorNotAvailable => "the group's coordinator is not available yet",
        ResponseError::NotCoordinator => "the broker asked is not the coordinator of the group",
        ResponseError::IllegalGeneration => "the group has rebalanced since",
        ResponseError::UnknownMemberId => "the coordinator does not know this member",
        ResponseError::RebalanceInProgress => "the group is rebalancing",
        ResponseError::InvalidGroupId => "the group's id is not valid",
        ResponseError::InvalidSessionTimeout => {
            "session.timeout.ms is outside what the broker allows (group.min.session.timeout.ms, \
             group.max.session.timeout.ms)"
        }
        ResponseError::InconsistentGroupProtocol => {
            "the group's members have no partition.assignment.strategy in common with this one"
        }
        ResponseError::GroupAuthorizationFailed => "not authorised for this group",
        ResponseError::GroupMaxSizeReached => "the group has group.max.size members already",
        ResponseError::NonEmptyGroup => "the group is not empty",
        ResponseError::GroupIdNotFound => "the group does not exist",
        ResponseError::FencedInstanceId => "another member with the same group.instance.id has come",
        ResponseError::UnstableOffsetCommit => "a transaction is about to commit offsets",
        ResponseError::GroupSubscribedToTopic => "members of the group are subscribed to the topic",
        ResponseError::OffsetMetadataTooLarge => "the metadata of the commit is too large",
        _ => "the broker refused the request",
    }
}

/// An error of the operating system in plain words.
pub fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe => "connection closed".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed by the broker".to_owned(),
        io::ErrorKind::NotFound => "not found".to_owned(),
        _ => error.to_string(),
    }
}

/// The reason a connection ended, shared by all requests that waited on it.
pub type LossReason = Arc<parking_lot::Mutex<Option<String>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_kafkas_names() {
        let name = |code| error_name(ResponseError::try_from_code(code).unwrap());
        assert_eq!(name(3), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(name(17), "INVALID_TOPIC_EXCEPTION");
        assert_eq!(name(20), "NOT_ENOUGH_REPLICAS_AFTER_APPEND");
        assert_eq!(name(999), "UNKNOWN_ERROR_999");
        let error = ClientError::check(36, Some("Topic 'x' already exists.")).unwrap_err();
        assert_eq!(error.to_string(), "TOPIC_ALREADY_EXISTS: Topic 'x' already exists.");
    }
}
