//! Fetch (key 1): records from a log, as slices of its files.
//!
//! A fetch waits until it has `min_bytes` or `max_wait_ms` is over; an error is answered at once. Limits
//! in bytes: of the request, of each partition, and of the broker (`fetch.max.bytes`); the first
//! batch is sent whole whatever they say, so that a consumer gets on (KIP-74).
//!
//! Consumers read below the high watermark, followers ([`super::fetch_follower`]) to the log's end. What a follower's fetch
//! tells of it is noted once for each request, when it arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::fetch_follower::Follower;
use super::leader_endpoints;
use crate::config::rooms::replication::Selector;
use crate::partition::replica::EpochError;
use crate::partition::waiting::WaitingFetch;
use crate::partition::{FetchError, Partition, ReadBound};
use crate::protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchBody, FetchPartition, FetchRecords, FetchTopic,
    LeaderIdAndEpoch, NodeEndpoint, ResponsePart,
};
use crate::protocol::guard::shapes;
use crate::protocol::messages::{FetchRequest, StrBytes};
use crate::segment::{self, LogSlice};
use crate::server::Broker;
use crate::server::api::{
    AnsweredBy, Api, BROKERS, Body, Handler, Need, Operation, Reply, Request, Resource, with_message,
};
use crate::server::errors::Errors;
use crate::server::fetch_session::{FetchContext, Known, TopicKey, Wanted};
use crate::server::wire_errors::{WireError, absent_error, fetch_error};
use crate::types::{LeaderEpoch, NodeId, Offset, TopicId};
use crate::zerocopy::{self, FileSlice, Piece};

pub(super) const API: Api = Api {
    shape: &shapes::FETCH,
    versions: 4..=18,
    notes: &[
        (7, "sessions (KIP-227)"),
        (9, "leader epochs (KIP-320)"),
        (11, "from the nearest replica (KIP-392)"),
        (12, "where a log has diverged (KIP-595)"),
        (13, "topics by id (KIP-516)"),
        (15, "a follower tells its broker epoch (KIP-903)"),
        (16, "a client that asks the wrong broker is told the leader (KIP-951)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    // The second of other brokers.
    needs: &[Need(Operation::Read, Resource::Topic), Need(Operation::ClusterAction, Resource::Cluster)],
    handler: Handler { answer: fetch, refuse },
};

/// On the wire: the isolation level that sees only committed transactions.
const READ_COMMITTED: i8 = 1;

/// Longest that a fetch may wait, whatever it asks for.
const WAIT_MS_MAX: i32 = 10 * 60 * 1000;

/// What one partition answers.
struct Answer {
    error: Option<ResponseError>,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
    /// Set when the follower's or consumer's log has diverged: the epoch and where it ends here.
    diverging: Option<(LeaderEpoch, Offset)>,
    /// Leader and epoch that a client with an old idea of them should know.
    current_leader: Option<(i32, i32)>,
    slice: Option<FileSlice>,
    /// Of `read_committed`, the transactions whose records are to be passed over.
    aborted: Vec<AbortedTransaction>,
    /// The replica that the consumer is to fetch from (KIP-392).
    nearest: Option<NodeId>,
    /// To be told at once, though there are no records.
    is_news: bool,
    /// The consumer is beyond the high watermark, which may be behind what an earlier leader told (KIP-207).
    is_ahead: bool,
}

impl Answer {
    fn failed(error: ResponseError) -> Self {
        Self {
            error: Some(error),
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            diverging: None,
            current_leader: None,
            slice: None,
            aborted: Vec::new(),
            nearest: None,
            is_news: false,
            is_ahead: false,
        }
    }

    fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, |slice| usize::try_from(slice.len).unwrap_or(usize::MAX))
    }

    fn ends_the_wait(&self) -> bool {
        self.error.is_some() || self.diverging.is_some() || self.nearest.is_some()
    }
}

/// A fetch under way.
struct Fetch {
    broker: Arc<Broker>,
    version: i16,
    context: FetchContext,
    partitions: Vec<Result<Arc<Partition>, ResponseError>>,
    /// Who fetches, if it is no consumer.
    follower: Option<Follower>,
    /// A follower's answer will do: the client knows where else it may fetch.
    may_follow: bool,
    /// The consumer's rack, where it is to fetch from the nearest replica.
    rack: Option<StrBytes>,
    /// Index of the listener that it came in by.
    listener: usize,
    bound: ReadBound,
    bytes_min: i64,
    bytes_max: usize,
    wait: Duration,
}

/// The first version in which consumers fetch from followers, too (KIP-392).
const READ_REPLICAS: i16 = 11;

/// On the wire: the replica id of tools that compare replicas.
const DEBUGGING_CONSUMER: i32 = -2;

/// The first version whose clients know OFFSET_NOT_AVAILABLE (KIP-207, KIP-392).
const OFFSET_NOT_AVAILABLE: i16 = 11;

/// Where the error of the whole answer stands since version 7; before, every partition has it.
const HAS_ERROR: i16 = 7;

fn refuse(request: Request, error: &WireError) -> Reply {
    with_message(request, |request, message: FetchRequest| {
        let version = request.version;
        if version >= HAS_ERROR {
            return Reply::Now(error_body(version, error.code));
        }
        let topics = message.topics.iter().map(|topic| FetchTopic {
            name: topic.topic.0.clone(),
            id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| FetchPartition::error(partition.partition, error.number()))
                .collect(),
        });
        Reply::Now(body(0, 0, topics.collect(), Vec::new(), version))
    })
}

fn fetch(broker: &Arc<Broker>, request: Request) -> Reply {
    with_message(request, |request, message: FetchRequest| {
        let version = request.version;
        let uses_topic_ids = version >= 13;
        let follower = Follower::of(&message, version);
        let is_replica = follower.is_some();
        let now_ms = broker.monotonic_ms();
        let context = match broker.fetch_sessions.context(&message, uses_topic_ids, is_replica, now_ms) {
            Ok(context) => context,
            Err(error) => return Reply::Now(error_body(version, error)),
        };
        let partitions = context.wanted.iter().map(|wanted| find_wanted(broker, wanted, follower)).collect();
        let bound = match message.isolation_level {
            _ if is_replica => ReadBound::LogEnd,
            READ_COMMITTED => ReadBound::LastStableOffset,
            _ => ReadBound::HighWatermark,
        };
        let bytes_max = message.max_bytes.min(broker.config.requests.fetch_bytes_max).max(0);
        let fetch = Fetch {
            broker: broker.clone(),
            version,
            context,
            partitions,
            follower,
            may_follow: !is_replica
                && (version >= READ_REPLICAS || message.replica_id.0 == DEBUGGING_CONSUMER),
            rack: (!is_replica
                && version >= READ_REPLICAS
                && broker.config.replication.selector == Selector::Nearest)
                .then(|| StrBytes::from_string(message.rack_id.to_string()))
                .filter(|rack| !rack.is_empty()),
            listener: request.listener,
            bound,
            // More than may be sent never comes.
            bytes_min: i64::from(message.min_bytes.min(bytes_max)),
            bytes_max: usize::try_from(bytes_max).unwrap_or_default(),
            wait: Duration::from_millis(
                u64::try_from(message.max_wait_ms.clamp(0, WAIT_MS_MAX)).unwrap_or(0),
            ),
        };
        let (mut answers, is_enough) = fetch.read(true);
        if is_enough {
            if are_warm(&mut answers) {
                return Reply::Now(fetch.body(answers));
            }
            return Reply::Later(Box::pin(fetch.warm_body(answers)));
        }
        match fetch.follower {
            None => Reply::Later(Box::pin(fetch.wait(None))),
            Some(_) => {
                let interrupted = Arc::new(Notify::new());
                Reply::Interruptible(Box::pin(fetch.wait(Some(interrupted.clone()))), interrupted)
            }
        }
    })
}

fn aborted_transaction(aborted: segment::aborted::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction { producer_id: aborted.producer_id, first_offset: aborted.first_offset }
}

fn file_slice(slice: LogSlice) -> FileSlice {
    FileSlice { file: slice.file, position: slice.position, len: slice.len as u64, warm: 0 }
}

/// Whether nothing has to be read from a device before the response is begun.
fn are_warm(answers: &mut [Answer]) -> bool {
    let mut are_warm = true;
    for slice in answers.iter_mut().filter_map(|answer| answer.slice.as_mut()) {
        are_warm &= slice.look();
    }
    are_warm
}

/// The partition that is wanted. Only another of its replicas may fetch as a `follower`, which reads
/// what is not replicated yet.
fn find_wanted(
    broker: &Broker,
    wanted: &Wanted,
    follower: Option<Follower>,
) -> Result<Arc<Partition>, ResponseError> {
    let (topic, unknown) = match &wanted.topic {
        TopicKey::Name(name) => (broker.partitions.topic(name), ResponseError::UnknownTopicOrPartition),
        TopicKey::Id(id) => (broker.partitions.topic_by_id(TopicId(*id)), ResponseError::UnknownTopicId),
    };
    let topic = topic.ok_or(unknown)?;
    let partition = topic.partition(wanted.partition).map_err(absent_error)?;
    if let Some(follower) = follower {
        follower.check_replica(broker, &partition)?;
    }
    Ok(partition)
}

impl Fetch {
    /// What there is now, and whether it is enough to answer. What the fetch tells of a follower is noted when it
    /// `arrives`.
    fn read(&self, arrives: bool) -> (Vec<Answer>, bool) {
        let mut bytes = 0;
        let mut ends_the_wait = self.partitions.is_empty() || self.wait.is_zero();
        let mut answers = Vec::with_capacity(self.partitions.len());
        for (wanted, partition) in self.context.wanted.iter().zip(&self.partitions) {
            let left = self.bytes_max.saturating_sub(bytes);
            let answer = match partition {
                Ok(partition) => self.read_partition(partition, wanted, left, bytes == 0, arrives),
                Err(error) => Answer::failed(*error),
            };
            bytes += answer.bytes();
            ends_the_wait |= answer.ends_the_wait() || answer.is_news;
            answers.push(answer);
        }
        let is_enough = ends_the_wait || i64::try_from(bytes).unwrap_or(i64::MAX) >= self.bytes_min;
        (answers, is_enough)
    }

    fn read_partition(
        &self,
        partition: &Arc<Partition>,
        wanted: &Wanted,
        bytes_left: usize,
        is_first: bool,
        arrives: bool,
    ) -> Answer {
        let expected = LeaderEpoch(wanted.current_leader_epoch);
        if let Some(diverging) = diverging(partition, wanted, expected) {
            return diverging;
        }
        let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or_default().min(bytes_left);
        let from = Offset(wanted.fetch_offset);
        let view = match partition.fetch(from, bytes_max, self.bound, is_first, expected, self.may_follow) {
            Ok(view) => view,
            Err(error) => return self.refused(partition, &error),
        };
        let nearest = self.nearest(partition, from);
        let mut answer = Answer {
            error: None,
            high_watermark: view.high_watermark,
            last_stable_offset: view.last_stable_offset,
            log_start_offset: view.log_start_offset,
            diverging: None,
            current_leader: None,
            is_news: false,
            nearest,
            is_ahead: view.is_behind_epoch_start && from > view.high_watermark,
            slice: view.slice.filter(|_| nearest.is_none()).map(file_slice),
            aborted: view.aborted.into_iter().map(aborted_transaction).collect(),
        };
        if let Some(follower) = self.follower {
            answer.is_ahead = false;
            // It follows where the log begins; DeleteRecords waits for that.
            answer.is_news = (0..answer.log_start_offset.0).contains(&wanted.log_start_offset);
            if arrives {
                let told = match follower.note(&self.broker, partition, wanted) {
                    Ok(told) => told,
                    Err(error) => return Answer::failed(error),
                };
                // Its own fetch may have moved it.
                answer.high_watermark = partition.high_watermark();
                answer.last_stable_offset = partition.last_stable_offset();
                answer.is_news |= told < answer.high_watermark;
            }
        }
        answer
    }

    /// The replica in the consumer's rack, if this node leads and is in another.
    fn nearest(&self, partition: &Partition, from: Offset) -> Option<NodeId> {
        let rack = self.rack.as_deref()?;
        let image = self.broker.image();
        let is_there = |id: NodeId| {
            image.broker(id).is_some_and(|known| known.is_active() && known.rack.as_deref() == Some(rack))
        };
        if is_there(self.broker.node) {
            return None;
        }
        partition.furthest_follower(from, is_there)
    }

    /// The answer for a partition that cannot be read.
    fn refused(&self, partition: &Partition, error: &FetchError) -> Answer {
        let mut answer = Answer::failed(fetch_error(error));
        match error {
            // From the version on in which clients look at it (KIP-951).
            FetchError::NotLeader | FetchError::Epoch(EpochError::Fenced) if self.version >= 16 => {
                let image = self.broker.image();
                let known = image.partition(&partition.name.topic, partition.name.partition);
                // While this node does not lead yet, there is nobody to go to.
                let leads_here = matches!(error, FetchError::Epoch(_));
                let known = known.filter(|known| leads_here || known.leader != Some(self.broker.node));
                answer.current_leader =
                    known.map(|known| (known.leader.map_or(-1, |leader| leader.0), known.leader_epoch.0));
            }
            FetchError::NotLeader | FetchError::Epoch(_) | FetchError::Read(_) => {}
        }
        answer
    }

    /// Has the beginnings of all slices in memory; what cannot be read is answered with an error.
    async fn warm(&self, answers: &mut [Answer]) {
        for ((answer, wanted), partition) in
            answers.iter_mut().zip(&self.context.wanted).zip(&self.partitions)
        {
            if let (Some(slice), Ok(partition)) = (&mut answer.slice, partition)
                && slice.warm == 0
                && let Err(error) = zerocopy::warm(slice, &self.broker.sent).await
            {
                partition.log.read_failed(Offset(wanted.fetch_offset), &error);
                *answer = Answer::failed(ResponseError::KafkaStorageError);
            }
        }
    }

    /// The response, once the beginnings of its slices are in memory.
    async fn warm_body(self, mut answers: Vec<Answer>) -> Body {
        if !are_warm(&mut answers) {
            self.warm(&mut answers).await;
        }
        self.body(answers)
    }

    /// Waits until there is enough, something must be told, the time is over, or it is interrupted.
    async fn wait(self, interrupted: Option<Arc<Notify>>) -> Body {
        let deadline = Instant::now() + self.wait;
        loop {
            let waiting = WaitingFetch::new(1);
            let registered = Registered { fetch: &self, waiting: &waiting };
            registered.register();
            // Only now: what came before the registration must not be missed.
            let (answers, is_enough) = self.read(false);
            if is_enough {
                drop(registered);
                return self.warm_body(answers).await;
            }
            let bytes: usize = answers.iter().map(Answer::bytes).sum();
            // The fetch was registered as lacking a byte before it was known how many it lacks.
            waiting.lacks(self.bytes_min - i64::try_from(bytes).unwrap_or(0) - 1);
            let is_over = match &interrupted {
                None => tokio::time::timeout_at(deadline, waiting.woken()).await.is_err(),
                Some(interrupted) => {
                    let until = tokio::time::timeout_at(deadline, interrupted.notified());
                    tokio::select! {
                        biased;
                        () = waiting.woken() => false,
                        _ = until => true,
                    }
                }
            };
            drop(registered);
            if is_over {
                let (answers, _) = self.read(false);
                return self.warm_body(answers).await;
            }
        }
    }

    /// The response, with holes that slices of files fill.
    fn body(self, mut answers: Vec<Answer>) -> Body {
        if self.version >= OFFSET_NOT_AVAILABLE {
            // Whatever ended the wait: the high watermark that it would be told lies behind what it was told before.
            for answer in answers.iter_mut().filter(|answer| answer.is_ahead && answer.error.is_none()) {
                *answer = Answer::failed(ResponseError::OffsetNotAvailable);
            }
        }
        for (answer, partition) in answers.iter().zip(&self.partitions) {
            if let (Some(slice), Ok(partition)) = (&answer.slice, partition) {
                let traffic = &partition.topic.traffic;
                let counter = if self.follower.is_some() {
                    &traffic.replicated_out_bytes
                } else {
                    &traffic.fetched_bytes
                };
                counter.fetch_add(slice.len, Ordering::Relaxed);
            }
        }
        if let Some(follower) = self.follower {
            for (answer, partition) in answers.iter().zip(&self.partitions) {
                if let (false, Ok(partition)) = (answer.ends_the_wait(), partition) {
                    partition.told(follower.id, answer.high_watermark);
                }
            }
        }
        let endpoints = leader_endpoints(
            &self.broker,
            self.listener,
            answers.iter().filter_map(|answer| answer.current_leader).map(|(leader, _)| NodeId(leader)),
        );
        let news: Vec<(Known, bool, bool)> = answers
            .iter()
            .map(|answer| {
                let known = Known {
                    high_watermark: answer.high_watermark.0,
                    log_start_offset: answer.log_start_offset.0,
                };
                (known, answer.bytes() > 0, answer.ends_the_wait())
            })
            .collect();
        let include = self.context.report(&news);
        let is_committed_only = self.bound == ReadBound::LastStableOffset;
        let mut topics: Vec<FetchTopic<FileSlice>> = Vec::new();
        let mut last: Option<&TopicKey> = None;
        let news = self.context.wanted.iter().zip(answers).zip(include).filter(|(_, include)| *include);
        for ((wanted, answer), _) in news {
            if last != Some(&wanted.topic) {
                let (name, id) = match &wanted.topic {
                    TopicKey::Name(name) => (name.clone(), Uuid::nil()),
                    TopicKey::Id(id) => (StrBytes::default(), *id),
                };
                topics.push(FetchTopic { name, id, partitions: Vec::new() });
                last = Some(&wanted.topic);
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(to_partition(wanted.partition, answer, is_committed_only));
            }
        }
        let endpoints = endpoints.into_iter().map(|known| NodeEndpoint {
            node_id: known.id.0,
            host: StrBytes::from_string(known.host),
            port: i32::from(known.port),
            rack: known.rack.map(StrBytes::from_string),
        });
        body(0, self.context.session_id, topics, endpoints.collect(), self.version)
    }
}

fn to_partition(index: i32, answer: Answer, is_committed_only: bool) -> FetchPartition<FileSlice> {
    let records = match answer.slice {
        Some(slice) => {
            let len = usize::try_from(slice.len).unwrap_or(usize::MAX);
            FetchRecords::Slice(slice, len)
        }
        None => FetchRecords::Bytes(Bytes::new()),
    };
    FetchPartition {
        high_watermark: answer.high_watermark.0,
        last_stable_offset: answer.last_stable_offset.0,
        log_start_offset: answer.log_start_offset.0,
        // Null where nobody asked: an empty list says that all was committed.
        aborted_transactions: (is_committed_only && answer.error.is_none()).then_some(answer.aborted),
        preferred_read_replica: answer.nearest.map_or(-1, |id| id.0),
        diverging_epoch: answer
            .diverging
            .map(|(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 }),
        current_leader: answer
            .current_leader
            .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch }),
        records,
        ..FetchPartition::error(index, answer.error.map_or(0, |error| error.code()))
    }
}

/// Encodes the response; slices of logs become pieces that leave by `sendfile`.
fn body(
    error_code: i16,
    session_id: i32,
    topics: Vec<FetchTopic<FileSlice>>,
    node_endpoints: Vec<NodeEndpoint>,
    version: i16,
) -> Body {
    let mut errors = Errors::default();
    errors.count(error_code);
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        errors.count(partition.error_code);
    }
    let response = FetchBody { throttle_time_ms: 0, error_code, session_id, topics, node_endpoints };
    match response.into_pieces(version) {
        Ok(pieces) => {
            let pieces = pieces.into_iter().map(|piece| match piece {
                ResponsePart::Bytes(bytes) => Piece::Bytes(bytes),
                ResponsePart::Slice(slice) => Piece::Slice(slice),
            });
            Body { pieces: pieces.collect(), errors }
        }
        Err(error) => {
            tracing::error!(%error, version, "a fetch response could not be encoded");
            Body::default()
        }
    }
}

/// A fetch registered with all its partitions, until this is dropped.
struct Registered<'a> {
    fetch: &'a Fetch,
    waiting: &'a Arc<WaitingFetch>,
}

impl Registered<'_> {
    fn register(&self) {
        for partition in self.fetch.partitions.iter().flatten() {
            partition.wake_when_more(self.waiting, self.fetch.bound);
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for partition in self.fetch.partitions.iter().flatten() {
            partition.forget(self.waiting, self.fetch.bound);
        }
    }
}

/// Tells a client whose last fetched epoch ends elsewhere here where its log parts from this one
/// (KIP-595).
fn diverging(partition: &Partition, wanted: &Wanted, expected: LeaderEpoch) -> Option<Answer> {
    if wanted.last_fetched_epoch < 0 || partition.check_leader(expected).is_err() {
        return None;
    }
    let last = LeaderEpoch(wanted.last_fetched_epoch);
    let (epoch, end) = partition.log.end_offset_for_epoch(last);
    // Kafka's `Partition.readRecords`: with an epoch that this log does not know, or before its start, there is no
    // place where the logs part.
    if end == Offset::NONE || Offset(wanted.fetch_offset) < partition.log.log_start_offset() {
        return Some(Answer::failed(ResponseError::OffsetOutOfRange));
    }
    let parts = epoch < last || end.0 < wanted.fetch_offset;
    parts.then(|| Answer {
        error: None,
        diverging: Some((epoch, end)),
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: partition.log.log_start_offset(),
        current_leader: None,
        slice: None,
        aborted: Vec::new(),
        nearest: None,
        is_news: false,
        is_ahead: false,
    })
}

/// A fetch whose session is not as it says.
fn error_body(version: i16, error: ResponseError) -> Body {
    body(error.code(), 0, Vec::new(), Vec::new(), version)
}
