//! Produce (key 0), versions 3 to 13: appends in order, and waits for the acknowledgements that are
//! asked for while the next request is taken.
//!
//! Topics go by name, from version 13 by id. With acks=0 nothing is answered; an error then closes
//! the connection, so that the client learns that something is wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceResponse, TopicName};
use tokio::task::JoinHandle;

use super::super::Broker;
use super::super::api::{Api, Reply, Request, body};
use super::super::request_memory::Held;
use super::{absent_error, leader_id, text};
use crate::metadata::is_internal_topic;
use crate::partition::checks::CheckError;
use crate::partition::{Appending, ProduceError, Produced, Topic};
use crate::protocol::batch::BatchHeader;
use crate::protocol::check::check_codec_for_version;
use crate::protocol::produce::{ProducePartition, ProduceTopic, ProduceView, TopicReference};
use crate::types::TopicId;

pub const API: Api = Api { key: ApiKey::Produce, least: 3, greatest: 13, handle };

type Outcome = Result<Produced, (ResponseError, String)>;

/// A partition's outcome, there or on its way.
enum Pending {
    Done(Outcome),
    Coming(JoinHandle<Result<Produced, ProduceError>>),
}

struct PendingTopic {
    topic: TopicReference,
    name: Option<Arc<str>>,
    partitions: Vec<(i32, Pending)>,
}

fn handle(broker: &Arc<Broker>, mut request: Request) -> Reply {
    let version = request.version;
    let view = match ProduceView::parse(std::mem::take(&mut request.body), version) {
        Ok(view) => view,
        Err(error) => return Reply::Close(format!("a produce request cannot be read: {error}")),
    };
    let (acks, listener) = (view.acks, request.listener);
    let refusal = if !(-1..=1).contains(&acks) {
        Some((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1 (all)"))
    } else if view.transactional_id.is_some() {
        Some((ResponseError::UnsupportedVersion, "transactions are not served by this broker"))
    } else {
        None
    };
    let now_ms = broker.now_ms();
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms.max(0)).unwrap_or_default());
    // Kafka's own rule: nobody else may write what coordinators keep.
    let may_write_internal = request.client_id.as_deref() == Some("__admin_client");
    let mut topics = Vec::with_capacity(view.topics.len());
    for ProduceTopic { topic, partitions } in view.topics {
        let found = lookup(broker, &topic);
        let name = found.as_ref().ok().map(|topic| topic.name.clone());
        let partitions = partitions.into_iter().map(|partition| {
            let index = partition.index;
            let pending = match (&refusal, &found) {
                (None, Ok(topic)) if is_internal_topic(&topic.name) && !may_write_internal => {
                    let reason = format!("Cannot append to internal topic {}", topic.name);
                    Pending::Done(Err((ResponseError::InvalidTopicException, reason)))
                }
                (Some((error, reason)), _) => Pending::Done(Err((*error, (*reason).to_owned()))),
                (None, Err(error)) => Pending::Done(Err((*error, String::new()))),
                (None, Ok(topic)) => append(topic, partition, version, acks, now_ms, timeout),
            };
            (index, pending)
        });
        topics.push(PendingTopic { partitions: partitions.collect(), topic, name });
    }
    // Records that queue for their log are still in memory: they are charged for until they are written.
    let held = request.held;
    if acks == 0 {
        return without_answer(topics, held);
    }
    let is_done = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .all(|(_, pending)| matches!(pending, Pending::Done(_)));
    if is_done {
        let done = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter();
            let outcomes = partitions.filter_map(|(index, pending)| match pending {
                Pending::Done(outcome) => Some((index, outcome)),
                Pending::Coming(_) => None,
            });
            (topic.topic, topic.name, outcomes.collect())
        });
        return Reply::Now(body(&response(broker, version, listener, done.collect()), version));
    }
    let broker = broker.clone();
    Reply::Overlapping(Box::pin(async move {
        let mut done = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut outcomes = Vec::with_capacity(topic.partitions.len());
            for (index, pending) in topic.partitions {
                let outcome = match pending {
                    Pending::Done(outcome) => outcome,
                    Pending::Coming(coming) => finished(coming.await),
                };
                outcomes.push((index, outcome));
            }
            done.push((topic.topic, topic.name, outcomes));
        }
        drop(held);
        body(&response(&broker, version, listener, done), version)
    }))
}

fn lookup(broker: &Broker, topic: &TopicReference) -> Result<Arc<Topic>, ResponseError> {
    match topic {
        TopicReference::Name(name) => {
            broker.partitions.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)
        }
        TopicReference::Id(id) => {
            broker.partitions.topic_by_id(TopicId(*id)).ok_or(ResponseError::UnknownTopicId)
        }
    }
}

fn append(
    topic: &Topic,
    produced: ProducePartition,
    version: i16,
    acks: i16,
    now_ms: i64,
    timeout: Duration,
) -> Pending {
    let partition = match topic.partition(produced.index) {
        Ok(partition) => partition,
        Err(absent) => return Pending::Done(Err((absent_error(absent), absent.to_string()))),
    };
    let records = produced.records.unwrap_or_default();
    if let Ok(header) = BatchHeader::parse(&records)
        && let Err(error) = check_codec_for_version(&header, version)
    {
        return Pending::Done(Err((error.kafka_error(), error.to_string())));
    }
    let traffic = &topic.traffic;
    traffic.produced_bytes.fetch_add(records.len() as u64, Ordering::Relaxed);
    traffic.produced_batches.fetch_add(1, Ordering::Relaxed);
    match partition.produce(records, acks, now_ms, timeout) {
        Appending::Done(outcome) => Pending::Done(outcome.map_err(told)),
        Appending::Coming(coming) => Pending::Coming(coming),
    }
}

fn finished(joined: Result<Result<Produced, ProduceError>, tokio::task::JoinError>) -> Outcome {
    match joined {
        Ok(outcome) => outcome.map_err(told),
        Err(error) => Err((ResponseError::UnknownServerError, error.to_string())),
    }
}

/// What a client is told of an error: Kafka's code, and the reason.
fn told(error: ProduceError) -> (ResponseError, String) {
    let code = match &error {
        ProduceError::NotLeader => ResponseError::NotLeaderOrFollower,
        ProduceError::NotEnoughReplicas { .. } => ResponseError::NotEnoughReplicas,
        ProduceError::NotEnoughReplicasAfterAppend { .. } => ResponseError::NotEnoughReplicasAfterAppend,
        ProduceError::TimedOut => ResponseError::RequestTimedOut,
        ProduceError::Check(CheckError::Batch(error)) => error.kafka_error(),
        ProduceError::Check(CheckError::TooLarge { .. }) => ResponseError::MessageTooLarge,
        ProduceError::Check(CheckError::Timestamp { .. }) => ResponseError::InvalidTimestamp,
        ProduceError::Check(CheckError::Transactional) => ResponseError::InvalidTxnState,
        ProduceError::Append(error) => error.kafka_error(),
        ProduceError::Sync(_) => ResponseError::KafkaStorageError,
    };
    (code, error.to_string())
}

/// With acks=0 nobody is answered. An error closes the connection, which is all a client can notice.
fn without_answer(topics: Vec<PendingTopic>, held: Held) -> Reply {
    for topic in &topics {
        for (index, pending) in &topic.partitions {
            if let Pending::Done(Err((error, reason))) = pending {
                let name = topic.name.as_deref().unwrap_or("?");
                return Reply::Close(format!(
                    "a produce with acks=0 to {name}-{index} failed: {error:?} {reason}"
                ));
            }
        }
    }
    let coming =
        topics.into_iter().flat_map(|topic| topic.partitions).filter_map(|(_, pending)| match pending {
            Pending::Done(_) => None,
            Pending::Coming(coming) => Some(coming),
        });
    let coming: Vec<_> = coming.collect();
    if !coming.is_empty() {
        tokio::spawn(async move {
            for append in coming {
                if let Err((error, reason)) = finished(append.await) {
                    tracing::warn!(?error, reason, "a produce with acks=0 failed after it had queued");
                }
            }
            drop(held);
        });
    }
    Reply::Nothing
}

type Done = (TopicReference, Option<Arc<str>>, Vec<(i32, Outcome)>);

fn response(broker: &Broker, version: i16, listener: usize, done: Vec<Done>) -> ProduceResponse {
    let mut leaders: Vec<i32> = Vec::new();
    let mut responses = Vec::with_capacity(done.len());
    for (topic, name, outcomes) in done {
        let partitions = outcomes.into_iter().map(|(index, outcome)| match outcome {
            Ok(produced) => PartitionProduceResponse::default()
                .with_index(index)
                .with_base_offset(produced.base_offset.0)
                .with_log_append_time_ms(produced.log_append_time_ms)
                .with_log_start_offset(produced.log_start_offset.0),
            Err((error, reason)) => {
                let mut failed = PartitionProduceResponse::default()
                    .with_index(index)
                    .with_error_code(error.code())
                    .with_base_offset(-1)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(-1);
                if version >= 8 {
                    failed = failed.with_error_message(
                        Some(reason).filter(|text| !text.is_empty()).map(|reason| text(&reason)),
                    );
                    if error == ResponseError::InvalidRecord {
                        let first = BatchIndexAndErrorMessage::default().with_batch_index(0);
                        failed = failed.with_record_errors(vec![first]);
                    }
                }
                if version >= 10 && error == ResponseError::NotLeaderOrFollower {
                    let image = broker.image();
                    let known = name.as_deref().and_then(|name| image.partition(name, index));
                    if let Some(known) = known {
                        leaders.extend(known.leader.map(|leader| leader.0));
                        let leader = LeaderIdAndEpoch::default()
                            .with_leader_id(leader_id(known.leader))
                            .with_leader_epoch(known.leader_epoch.0);
                        failed = failed.with_current_leader(leader);
                    }
                }
                failed
            }
        });
        let partitions = partitions.collect();
        let response = match topic {
            TopicReference::Name(name) => TopicProduceResponse::default().with_name(TopicName(name)),
            TopicReference::Id(id) => TopicProduceResponse::default().with_topic_id(id),
        };
        responses.push(response.with_partition_responses(partitions));
    }
    let response = ProduceResponse::default().with_responses(responses);
    if leaders.is_empty() {
        return response;
    }
    leaders.sort_unstable();
    leaders.dedup();
    let image = broker.image();
    let listener = broker.listener_names.get(listener).map_or("", String::as_str);
    let endpoints =
        image.brokers().values().filter(|known| leaders.contains(&known.id.0)).filter_map(|known| {
            let address = known.listener(listener)?;
            let endpoint = NodeEndpoint::default()
                .with_node_id(BrokerId(known.id.0))
                .with_host(text(&address.host))
                .with_port(i32::from(address.port))
                .with_rack(known.rack.as_deref().map(text));
            Some(endpoint)
        });
    response.with_node_endpoints(endpoints.collect())
}
