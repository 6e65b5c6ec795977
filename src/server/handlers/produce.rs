//! Produce (key 0): appends in order, and waits for the acknowledgements that are asked for while the next
//! request is taken.
//!
//! Transactional batches of a producer that has no transaction open in their partition are verified with its coordinator
//! first ([`super::produce_verifying`]).
//!
//! With acks=0 nothing is answered; an error then closes the connection, so that the client learns that
//! something is wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::task::JoinHandle;

use super::produce_verifying::{Verifying, find_topic};
use super::{leader_endpoints, leader_id, text};
use crate::env::{Tasks, panics};
use crate::metadata::is_internal_topic;
use crate::partition::checks::{FAULTS_MAX, RecordFault};
use crate::partition::{Appending, ProduceError, Produced, Topic};
use crate::protocol::batch::BatchHeader;
use crate::protocol::check::check_codec_for_version;
use crate::protocol::guard::shapes;
use crate::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::protocol::messages::{BrokerId, ProduceResponse, StrBytes, TopicName};
use crate::protocol::produce::{ProducePartition, ProduceTopic, ProduceView, TopicReference};
use crate::segment::Guard;
use crate::server::Broker;
use crate::server::api::{
    AnsweredBy, Api, BROKERS, Body, Handler, Need, Operation, Reply, Request, Resource, body,
};
use crate::server::errors::error_codes;
use crate::server::request_memory::Held;
use crate::server::unsettled::{Key, Unsettled};
use crate::server::wire_errors::{WireError, absent_error, batch_error, produce_error};
use crate::types::{Acks, NodeId};

pub(super) const API: Api = Api {
    shape: &shapes::PRODUCE,
    versions: 3..=13,
    notes: &[
        (5, "answers with the log start offset"),
        (7, "zstd (KIP-110)"),
        (8, "says which records were refused, and why (KIP-467)"),
        (10, "a client that asks the wrong broker is told the leader (KIP-951)"),
        (12, "adds its partitions to the transaction (KIP-890, part 2)"),
        (13, "topics by id (KIP-516)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    // The second with a transactional id.
    needs: &[Need(Operation::Write, Resource::Topic), Need(Operation::Write, Resource::TransactionalId)],
    handler: Handler { answer: produce, refuse },
};

error_codes!(ProduceResponse: [responses partition_responses]);

type Outcome = Result<Produced, Refused>;

/// What a client is told of records that were not taken.
struct Refused {
    error: ResponseError,
    reason: String,
    /// The records at fault, where it is records (KIP-467).
    records: Vec<RecordFault>,
}

impl Refused {
    fn new(error: ResponseError, reason: impl Into<String>) -> Self {
        Self { error, reason: reason.into(), records: Vec::new() }
    }
}

/// Most records at fault that one answer names: batches are many, and a few bytes each.
const NAMED_RECORDS_MAX: usize = FAULTS_MAX;

/// A partition's outcome, there or on its way.
enum Pending {
    Done(Outcome),
    /// With the producer, where it is not known yet whether the batch gets into the log.
    Coming(JoinHandle<Result<Produced, ProduceError>>, Option<Key>),
}

struct PendingTopic {
    topic: TopicReference,
    name: Option<Arc<str>>,
    partitions: Vec<(i32, Pending)>,
}

fn refuse(mut request: Request, error: &WireError) -> Reply {
    let version = request.version;
    let view = match panics::reading(|| ProduceView::parse(std::mem::take(&mut request.body), version)) {
        Ok(view) => view,
        Err(error) => return Reply::Close(format!("a produce request cannot be read: {error}")),
    };
    if Acks::from_number(view.acks) == Some(Acks::None) {
        return Reply::Close(format!("a produce with acks=0 is refused: {:?} {}", error.code, error.message));
    }
    let topics = view.topics.into_iter().map(|ProduceTopic { topic, partitions }| {
        let partitions = partitions.into_iter().map(|partition| {
            error_partition(version, partition.index, Refused::new(error.code, error.message.clone()))
        });
        to_topic(topic, partitions.collect())
    });
    Reply::Now(body(&ProduceResponse::default().with_responses(topics.collect()), version))
}

fn produce(broker: &Arc<Broker>, mut request: Request) -> Reply {
    let version = request.version;
    let view = match panics::reading(|| ProduceView::parse(std::mem::take(&mut request.body), version)) {
        Ok(view) => view,
        Err(error) => return Reply::Close(format!("a produce request cannot be read: {error}")),
    };
    let verifying = Verifying::of(broker, &view, version);
    if verifying.is_needed() {
        // What comes behind it on this connection belongs behind it in the log: it waits, as in Kafka.
        let broker = broker.clone();
        return Reply::Later(Box::pin(async move {
            let verified = verifying.verify(&broker).await;
            match append_all(&broker, request, view, &verified) {
                Reply::Now(body) => body,
                Reply::Later(body) | Reply::Overlapping(body) | Reply::Interruptible(body, _) => body.await,
                // With acks=0 nothing is verified.
                Reply::Nothing | Reply::Close(_) => Body::default(),
            }
        }));
    }
    append_all(broker, request, view, &verifying)
}

/// Appends what a request brings, partition by partition.
fn append_all(broker: &Arc<Broker>, request: Request, view: ProduceView, verifying: &Verifying) -> Reply {
    let version = request.version;
    let (acks, listener) = (Acks::from_number(view.acks), request.listener);
    let accepted = match acks {
        None => Err((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1 (all)")),
        Some(acks) => Ok(acks),
    };
    let unsettled = request.unsettled;
    let now_ms = broker.now_ms();
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms.max(0)).unwrap_or_default());
    // Kafka's own rule: nobody else may write what coordinators keep.
    let may_write_internal = request.client_id.as_deref() == Some("__admin_client");
    let mut topics = Vec::with_capacity(view.topics.len());
    let mut named_left = NAMED_RECORDS_MAX;
    for ProduceTopic { topic, partitions } in view.topics {
        let found = find_topic(broker, &topic);
        let name = found.as_ref().ok().map(|topic| topic.name.clone());
        let partitions = partitions.into_iter().map(|partition| {
            let index = partition.index;
            let header = partition.records.as_deref().and_then(|records| BatchHeader::parse(records).ok());
            let must_be_known = header.as_ref().is_some_and(|header| {
                header.has_producer() && unsettled.must_be_known(&topic, index, header)
            });
            let mut pending = match (&accepted, &found) {
                (Ok(_), Ok(topic)) if is_internal_topic(&topic.name) && !may_write_internal => {
                    let reason = format!("Cannot append to internal topic {}", topic.name);
                    Pending::Done(Err(Refused::new(ResponseError::InvalidTopicException, reason)))
                }
                (Err((error, reason)), _) => Pending::Done(Err(Refused::new(*error, *reason))),
                (Ok(_), Err(error)) => Pending::Done(Err(Refused::new(*error, ""))),
                (Ok(acks), Ok(topic)) => match verifying.guard(&topic.name, index, header.as_ref()) {
                    Err((error, reason)) => Pending::Done(Err(Refused::new(error, reason))),
                    Ok(guard) => {
                        let asked = Asked { version, acks: *acks, now_ms, timeout, must_be_known, guard };
                        append(topic, partition, header.as_ref(), asked)
                    }
                },
            };
            if let Pending::Done(Err(refused)) = &mut pending {
                refused.records.truncate(named_left);
                refused.records.shrink_to_fit();
                named_left -= refused.records.len();
            }
            let producer = header.filter(BatchHeader::has_producer);
            (index, settled(pending, &unsettled, producer, |header| Key::of(&topic, index, header)))
        });
        topics.push(PendingTopic { partitions: partitions.collect(), topic, name });
    }
    // Records that queue for their log are still in memory: they are charged for until they are written.
    let held = request.held;
    if acks == Some(Acks::None) {
        return without_answer(&broker.tasks, topics, held, unsettled);
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
                Pending::Coming(..) => None,
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
                    Pending::Coming(coming, producer) => finished(coming.await, producer, &unsettled),
                };
                outcomes.push((index, outcome));
            }
            done.push((topic.topic, topic.name, outcomes));
        }
        drop(held);
        body(&response(&broker, version, listener, done), version)
    }))
}

/// What a request asks for all of its batches; and of one, whether its producer must be known, and what its transaction
/// was verified under.
struct Asked {
    version: i16,
    acks: Acks,
    now_ms: i64,
    timeout: Duration,
    must_be_known: bool,
    guard: Guard,
}

/// Keeps in mind what is not in its log, or may not get there.
fn settled(
    pending: Pending,
    unsettled: &Unsettled,
    producer: Option<BatchHeader>,
    key: impl Fn(&BatchHeader) -> Key,
) -> Pending {
    let Some(header) = &producer else { return pending };
    match pending {
        Pending::Done(Ok(produced)) => {
            if unsettled.is_any() {
                unsettled.settle(&key(header));
            }
            Pending::Done(Ok(produced))
        }
        Pending::Done(Err(error)) => {
            unsettled.note(key(header), header);
            Pending::Done(Err(error))
        }
        Pending::Coming(coming, _) => {
            let key = key(header);
            unsettled.note(key.clone(), header);
            Pending::Coming(coming, Some(key))
        }
    }
}

fn append(topic: &Topic, produced: ProducePartition, header: Option<&BatchHeader>, asked: Asked) -> Pending {
    let Asked { version, acks, now_ms, timeout, must_be_known, guard } = asked;
    let partition = match topic.partition(produced.index) {
        Ok(partition) => partition,
        Err(absent) => return Pending::Done(Err(Refused::new(absent_error(absent), absent.to_string()))),
    };
    let records = produced.records.unwrap_or_default();
    if let Some(header) = header
        && let Err(error) = check_codec_for_version(header, version)
    {
        return Pending::Done(Err(Refused::new(batch_error(&error), error.to_string())));
    }
    let traffic = &topic.traffic;
    traffic.produced_bytes.fetch_add(records.len() as u64, Ordering::Relaxed);
    traffic.produced_batches.fetch_add(1, Ordering::Relaxed);
    match partition.produce(records, acks, now_ms, timeout, (must_be_known, guard)) {
        Appending::Done(outcome) => Pending::Done(outcome.map_err(to_error)),
        Appending::Coming(coming) => Pending::Coming(coming, None),
    }
}

fn finished(
    joined: Result<Result<Produced, ProduceError>, tokio::task::JoinError>,
    producer: Option<Key>,
    unsettled: &Unsettled,
) -> Outcome {
    if let (Some(producer), Ok(Ok(_))) = (&producer, &joined) {
        unsettled.settle(producer);
    }
    match joined {
        Ok(outcome) => outcome.map_err(to_error),
        Err(error) => Err(Refused::new(ResponseError::UnknownServerError, error.to_string())),
    }
}

fn to_error(error: ProduceError) -> Refused {
    let (code, reason) = (produce_error(&error), error.to_string());
    let records = match error {
        ProduceError::Check(error) => error.into_faults(),
        _ => Vec::new(),
    };
    Refused { error: code, reason, records }
}

/// With acks=0 nobody is answered. An error closes the connection, which is all a client can notice.
fn without_answer(tasks: &Tasks, topics: Vec<PendingTopic>, held: Held, unsettled: Arc<Unsettled>) -> Reply {
    for topic in &topics {
        for (index, pending) in &topic.partitions {
            if let Pending::Done(Err(Refused { error, reason, .. })) = pending {
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
            Pending::Coming(coming, producer) => Some((coming, producer)),
        });
    let coming: Vec<_> = coming.collect();
    if !coming.is_empty() {
        tasks.spawn(async move {
            for (append, producer) in coming {
                if let Err(Refused { error, reason, .. }) = finished(append.await, producer, &unsettled) {
                    tracing::warn!(?error, reason, "a produce with acks=0 failed after it had queued");
                }
            }
            drop(held);
        });
    }
    Reply::Nothing
}

fn to_topic(topic: TopicReference, partitions: Vec<PartitionProduceResponse>) -> TopicProduceResponse {
    let response = match topic {
        TopicReference::Name(name) => TopicProduceResponse::default().with_name(TopicName(name)),
        TopicReference::Id(id) => TopicProduceResponse::default().with_topic_id(id),
    };
    response.with_partition_responses(partitions)
}

fn error_partition(
    version: i16,
    index: i32,
    Refused { error, reason, records }: Refused,
) -> PartitionProduceResponse {
    let failed = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    if version < 8 {
        return failed;
    }
    let failed =
        failed.with_error_message(Some(reason).filter(|text| !text.is_empty()).map(|reason| text(&reason)));
    let at_fault = records.into_iter().map(|fault| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(fault.index)
            .with_batch_index_error_message(Some(StrBytes::from_string(fault.reason)))
    });
    failed.with_record_errors(at_fault.collect())
}

type Done = (TopicReference, Option<Arc<str>>, Vec<(i32, Outcome)>);

fn response(broker: &Broker, version: i16, listener: usize, done: Vec<Done>) -> ProduceResponse {
    let mut leaders: Vec<NodeId> = Vec::new();
    let mut responses = Vec::with_capacity(done.len());
    for (topic, name, outcomes) in done {
        let partitions = outcomes.into_iter().map(|(index, outcome)| match outcome {
            Ok(produced) => PartitionProduceResponse::default()
                .with_index(index)
                .with_base_offset(produced.base_offset.0)
                .with_log_append_time_ms(produced.log_append_time_ms)
                .with_log_start_offset(produced.log_start_offset.0),
            Err(refused) => {
                let error = refused.error;
                let mut failed = error_partition(version, index, refused);
                if version >= 10 && error == ResponseError::NotLeaderOrFollower {
                    let image = broker.image();
                    let known = name.as_deref().and_then(|name| image.partition(name, index));
                    // While this node does not take records yet, there is nobody to go to.
                    let is_here = known.is_some_and(|known| known.leader == Some(broker.node));
                    if let Some(known) = known.filter(|_| !is_here) {
                        leaders.extend(known.leader);
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
        responses.push(to_topic(topic, partitions));
    }
    let response = ProduceResponse::default().with_responses(responses);
    let endpoints = leader_endpoints(broker, listener, leaders.into_iter()).into_iter().map(|known| {
        NodeEndpoint::default()
            .with_node_id(BrokerId(known.id.0))
            .with_host(StrBytes::from_string(known.host))
            .with_port(i32::from(known.port))
            .with_rack(known.rack.map(StrBytes::from_string))
    });
    response.with_node_endpoints(endpoints.collect())
}
