//! Fetch (key 1), versions 4 to 18: records from a log, as slices of its files.
//!
//! A fetch waits until it has `min_bytes` or `max_wait_ms` is over; an error is told at once. Limits
//! in bytes: of the request, of each partition, and of the broker (`fetch.max.bytes`); the first
//! batch is sent whole whatever they say, so that a consumer gets on (KIP-74). Topics go by id from
//! version 13; sessions are KIP-227's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, FetchRequest};
use tokio::time::Instant;

use super::super::Broker;
use super::super::api::{Api, Body, Reply, Request, with_message};
use super::super::fetch_session::{FetchContext, Told, TopicKey, Wanted};
use super::fetch_error;
use crate::partition::waiting::WaitingFetch;
use crate::partition::{FetchError, Partition, ReadBound};
use crate::protocol::fetch as wire;
use crate::segment::{LogSlice, ReadError};
use crate::types::{LeaderEpoch, Offset, TopicId};
use crate::zerocopy::{FileSlice, Piece};

pub const API: Api = Api { key: ApiKey::Fetch, least: 4, greatest: 18, handle };

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
    slice: Option<LogSlice>,
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
        }
    }

    fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, |slice| slice.len as usize)
    }

    fn ends_the_wait(&self) -> bool {
        self.error.is_some() || self.diverging.is_some()
    }
}

/// A fetch under way.
struct Fetch {
    broker: Arc<Broker>,
    version: i16,
    context: FetchContext,
    partitions: Vec<Result<Arc<Partition>, ResponseError>>,
    bound: ReadBound,
    bytes_min: i64,
    bytes_max: usize,
    wait: Duration,
}

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    with_message(request, |request, message: FetchRequest| {
        let version = request.version;
        let uses_topic_ids = version >= 13;
        let context = match broker.fetch_sessions.context(&message, uses_topic_ids, broker.uptime_ms()) {
            Ok(context) => context,
            Err(error) => return Reply::Now(refused(version, error)),
        };
        let partitions = context.wanted.iter().map(|wanted| lookup(broker, wanted)).collect();
        let replica_id = if version >= 15 { message.replica_state.replica_id.0 } else { message.replica_id.0 };
        let bound = match message.isolation_level {
            _ if replica_id >= 0 => ReadBound::LogEnd,
            READ_COMMITTED => ReadBound::LastStableOffset,
            _ => ReadBound::HighWatermark,
        };
        let bytes_max = message.max_bytes.min(broker.config.fetch_max_bytes).max(0);
        let fetch = Fetch {
            broker: broker.clone(),
            version,
            context,
            partitions,
            bound,
            bytes_min: i64::from(message.min_bytes),
            bytes_max: usize::try_from(bytes_max).unwrap_or_default(),
            wait: Duration::from_millis(u64::try_from(message.max_wait_ms.clamp(0, WAIT_MS_MAX)).unwrap_or(0)),
        };
        let (answers, is_enough) = fetch.read();
        if is_enough {
            return Reply::Now(fetch.body(answers));
        }
        Reply::Later(Box::pin(fetch.wait()))
    })
}

fn lookup(broker: &Broker, wanted: &Wanted) -> Result<Arc<Partition>, ResponseError> {
    let (topic, unknown) = match &wanted.topic {
        TopicKey::Name(name) => (broker.partitions.topic(name), ResponseError::UnknownTopicOrPartition),
        TopicKey::Id(id) => (broker.partitions.topic_by_id(TopicId(*id)), ResponseError::UnknownTopicId),
    };
    let topic = topic.ok_or(unknown)?;
    topic.partition(wanted.partition).ok_or(ResponseError::UnknownTopicOrPartition)
}

impl Fetch {
    /// What there is now, and whether it is enough to answer.
    fn read(&self) -> (Vec<Answer>, bool) {
        let mut bytes = 0;
        let mut ends_the_wait = self.partitions.is_empty() || self.wait.is_zero();
        let mut answers = Vec::with_capacity(self.partitions.len());
        for (wanted, partition) in self.context.wanted.iter().zip(&self.partitions) {
            let left = self.bytes_max.saturating_sub(bytes);
            let answer = match partition {
                Ok(partition) => self.read_partition(partition, wanted, left, bytes == 0),
                Err(error) => Answer::failed(*error),
            };
            bytes += answer.bytes();
            ends_the_wait |= answer.ends_the_wait();
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
    ) -> Answer {
        let expected = LeaderEpoch(wanted.current_leader_epoch);
        if let Some(diverging) = diverging(partition, wanted, expected) {
            return diverging;
        }
        let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or_default().min(bytes_left);
        match partition.fetch(Offset(wanted.fetch_offset), bytes_max, self.bound, is_first, expected) {
            Ok(view) => Answer {
                error: None,
                high_watermark: view.high_watermark,
                last_stable_offset: view.last_stable_offset,
                log_start_offset: view.log_start_offset,
                diverging: None,
                current_leader: None,
                slice: view.slice,
            },
            Err(error) => {
                let mut answer = Answer::failed(fetch_error(&error));
                match error {
                    FetchError::Read(ReadError::OffsetOutOfRange { .. }) => {
                        answer.log_start_offset = partition.log.log_start_offset();
                    }
                    FetchError::NotLeader | FetchError::Epoch(_) => {
                        let image = self.broker.image();
                        let known = image.partition(&partition.name.topic, partition.name.partition);
                        answer.current_leader =
                            known.map(|known| (known.leader.map_or(-1, |leader| leader.0), known.leader_epoch.0));
                    }
                    FetchError::Read(_) => {}
                }
                answer
            }
        }
    }

    /// Waits until there is enough, something must be told, or the time is over.
    async fn wait(self) -> Body {
        let deadline = Instant::now() + self.wait;
        loop {
            let waiting = WaitingFetch::new(1);
            let registered = Registered { fetch: &self, waiting: &waiting };
            registered.register();
            // Only now: what came before the registration must not be missed.
            let (answers, is_enough) = self.read();
            if is_enough {
                drop(registered);
                return self.body(answers);
            }
            let bytes: usize = answers.iter().map(Answer::bytes).sum();
            // The fetch was registered as lacking a byte before it was known how many it lacks.
            waiting.lacks(self.bytes_min - i64::try_from(bytes).unwrap_or(0) - 1);
            let is_over = tokio::time::timeout_at(deadline, waiting.woken()).await.is_err();
            drop(registered);
            if is_over {
                let (answers, _) = self.read();
                return self.body(answers);
            }
        }
    }

    /// The response, with holes that slices of files fill.
    fn body(self, answers: Vec<Answer>) -> Body {
        let news: Vec<(Told, bool, bool)> = answers
            .iter()
            .map(|answer| {
                let told = Told {
                    high_watermark: answer.high_watermark.0,
                    log_start_offset: answer.log_start_offset.0,
                };
                (told, answer.bytes() > 0, answer.ends_the_wait())
            })
            .collect();
        let include = self.context.tell(&news);
        let mut topics: Vec<wire::FetchedTopic<FileSlice>> = Vec::new();
        for ((wanted, answer), _) in
            self.context.wanted.iter().zip(answers).zip(include).filter(|(_, include)| *include)
        {
            if let (Some(slice), TopicKey::Name(name)) = (&answer.slice, &wanted.topic) {
                self.broker.metrics.fetched_bytes.with_label_values(&[name.as_str()]).inc_by(slice.len as u64);
            }
            let partition = self.fetched_partition(wanted.partition, answer);
            let is_same = topics.last().is_some_and(|last| same_topic(&last.topic, &wanted.topic));
            match topics.last_mut() {
                Some(last) if is_same => last.partitions.push(partition),
                _ => topics.push(wire::FetchedTopic { topic: named(&wanted.topic), partitions: vec![partition] }),
            }
        }
        let response = wire::FetchedResponse { error_code: 0, session_id: self.context.session_id, topics };
        pieces(response, self.version)
    }
}

fn pieces(response: wire::FetchedResponse<FileSlice>, version: i16) -> Body {
    let _ = (response, version);
    VecDeque::<Piece>::new()
}

/// A fetch registered with all its partitions, until this is dropped.
struct Registered<'a> {
    fetch: &'a Fetch,
    waiting: &'a Arc<WaitingFetch>,
}

impl Registered<'_> {
    fn register(&self) {
        for partition in self.fetch.partitions.iter().flatten() {
            partition.wake_when_more(self.waiting);
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for partition in self.fetch.partitions.iter().flatten() {
            partition.forget(self.waiting);
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
    let parts = epoch < last || end.0 < wanted.fetch_offset;
    parts.then(|| Answer {
        error: None,
        diverging: Some((epoch, end)),
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: partition.log.log_start_offset(),
        current_leader: None,
        slice: None,
    })
}

/// A fetch whose session is not as it says.
fn refused(version: i16, error: ResponseError) -> Body {
    let response = wire::FetchedResponse { error_code: error.code(), session_id: 0, topics: Vec::new() };
    pieces(response, version)
}
