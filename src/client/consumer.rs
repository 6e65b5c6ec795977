//! A consumer of given partitions: one fetch in flight per leader, the next one asked for before the
//! records of the last are handed out.
//!
//! Positions move by what the batches say (their last offset), not by the records in them, so that
//! compacted batches, control batches and aborted transactions are passed over rightly.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::admin::{self, Partition};
use super::backoff::Backoff;
use super::records::{self, Record};
use super::{Client, ClientError, text, topic_name};
use crate::protocol::batch::{Batch, BatchError, TimestampType, batches};

/// How much longer than it was told to wait a broker may be silent before that is told.
const SILENCE_MS: u64 = 2_000;

/// How a consumer behaves. Names and meanings are Kafka's.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    pub fetch_max_wait_ms: i32,
    pub fetch_min_bytes: i32,
    pub fetch_max_bytes: i32,
    pub max_partition_fetch_bytes: i32,
    /// 1: only committed transactions.
    pub isolation_level: i8,
    /// Where to go on when the position lies outside the log: `admin::EARLIEST` or `admin::LATEST`;
    /// None: that is an error.
    pub reset_to: Option<i64>,
    /// Hold each batch to its checksum.
    pub check_crcs: bool,
    /// Pass over batches that cannot be read, with a notice.
    pub skips_unreadable: bool,
    /// How long a partition may be unreachable before that is an error.
    pub unreachable_timeout_ms: u64,
    /// Told what whoever runs the consumer should know.
    pub on_notice: fn(Notice<'_>),
}

/// What a consumer did by itself.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A batch cannot be read, and is passed over ([`ConsumerOptions::skips_unreadable`]).
    PassedOver(&'a ClientError),
    /// The position `from` was not in the log; it goes on at `to`, the first offset or the next one
    /// ([`ConsumerOptions::reset_to`]).
    Reset { partition: &'a Partition, from: i64, to: i64, is_first: bool },
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            fetch_max_wait_ms: 500,
            fetch_min_bytes: 1,
            fetch_max_bytes: 52_428_800,
            max_partition_fetch_bytes: 4 * 1024 * 1024,
            isolation_level: 0,
            reset_to: None,
            check_crcs: true,
            skips_unreadable: false,
            unreachable_timeout_ms: 60_000,
            on_notice: |notice| tracing::warn!(?notice, "a consumer goes on"),
        }
    }
}

/// A record with its place.
#[derive(Debug, Clone)]
pub struct ConsumedRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub timestamp_type: TimestampType,
    pub record: Record,
}

struct Position {
    topic: Arc<str>,
    topic_id: Uuid,
    leader: Option<i32>,
    /// In which epoch it leads, as far as is known; -1: not said. One of before answers nothing that counts: the replica that
    /// led then may lack what this consumer has read.
    current_leader_epoch: i32,
    offset: i64,
    /// Of the last batch read; -1: none yet.
    leader_epoch: i32,
    /// When the partition was added, in the count of [`Consumer::additions`].
    added_in: u64,
    /// None until the first answer.
    high_watermark: Option<i64>,
    /// Since when there has been no good answer, and the last that was none.
    failing: Option<(Instant, ClientError)>,
}

struct Fetched {
    broker: i32,
    /// The partitions added after this are not the ones that the answer is about.
    additions: u64,
    asked: Vec<Partition>,
    response: Result<FetchResponse, ClientError>,
}

/// See the module's head.
pub struct Consumer {
    client: Arc<Client>,
    options: ConsumerOptions,
    positions: BTreeMap<Partition, Position>,
    /// How often partitions have been added.
    additions: u64,
    fetches: JoinSet<Fetched>,
    /// Brokers that have been asked, and when.
    busy: BTreeMap<i32, Instant>,
    /// Partitions whose position has fallen out of the log.
    lost: BTreeSet<Partition>,
    /// Records that are read and not handed out.
    ready: Vec<ConsumedRecord>,
    backoff: Backoff,
    /// Not before this moment: the pause after an error.
    fetch_at: Option<Instant>,
    metadata_is_stale: bool,
}

impl Consumer {
    /// Starts at the given offsets, which are real ones (see [`Client::list_offsets`]).
    pub fn new(client: Arc<Client>, options: ConsumerOptions, starts: BTreeMap<Partition, i64>) -> Self {
        let backoff = client.backoff();
        let mut consumer = Self {
            client,
            options,
            positions: BTreeMap::new(),
            additions: 0,
            fetches: JoinSet::new(),
            busy: BTreeMap::new(),
            lost: BTreeSet::new(),
            ready: Vec::new(),
            backoff,
            fetch_at: None,
            metadata_is_stale: true,
        };
        consumer.add(starts);
        consumer
    }

    /// Reads more partitions, from the given offsets on.
    pub fn add(&mut self, starts: BTreeMap<Partition, i64>) {
        self.additions += 1;
        self.metadata_is_stale = true;
        self.fetch_at = None;
        let mut names = HashMap::<String, Arc<str>>::new();
        for (key, offset) in starts {
            let topic = names.entry(key.0.clone()).or_insert_with(|| Arc::from(key.0.as_str())).clone();
            let position = Position {
                topic,
                topic_id: Uuid::nil(),
                leader: None,
                current_leader_epoch: -1,
                offset,
                leader_epoch: -1,
                added_in: self.additions,
                high_watermark: None,
                failing: None,
            };
            self.positions.insert(key, position);
        }
    }

    /// Reads only the given partitions on. Records of others that have not been handed out are dropped.
    pub fn retain(&mut self, kept: &BTreeSet<Partition>) {
        self.positions.retain(|key, _| kept.contains(key));
        self.lost.retain(|key| kept.contains(key));
        let positions = &self.positions;
        self.ready.retain(|record| positions.contains_key(&(record.topic.to_string(), record.partition)));
    }

    pub fn partitions(&self) -> BTreeSet<Partition> {
        self.positions.keys().cloned().collect()
    }

    /// For each partition the offset behind the last record handed out, and that record's leader epoch
    /// (-1: not known). Right after [`Consumer::next`] has answered, and until it is called again.
    pub fn positions(&self) -> impl Iterator<Item = (&Partition, i64, i32)> {
        self.positions.iter().map(|(key, position)| (key, position.offset, position.leader_epoch))
    }

    /// Whether every partition has been read up to where it ended at the last answer.
    pub fn is_at_end(&self) -> bool {
        self.positions
            .values()
            .all(|position| position.high_watermark.is_some_and(|end| position.offset >= end))
    }

    /// Why a partition cannot be read at the moment, where one cannot: its last answer was an error, or its
    /// broker has been silent for longer than it may take.
    pub fn trouble(&self) -> Option<ClientError> {
        let patience = u64::try_from(self.options.fetch_max_wait_ms).unwrap_or(0) + SILENCE_MS;
        self.positions.iter().find_map(|(key, position)| {
            let error = match &position.failing {
                Some((_, error)) => error.clone(),
                None => {
                    let leader = position.leader?;
                    let silent = self.busy.get(&leader)?.elapsed();
                    if silent < Duration::from_millis(patience) {
                        return None;
                    }
                    ClientError::TimedOut {
                        address: self.client.broker_address(leader)?,
                        api: "Fetch".to_owned(),
                        timeout_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
                    }
                }
            };
            Some(error.of_partition(key, position.offset))
        })
    }

    /// The next records, at least one batch of them when there is one; an empty list when the brokers
    /// had none for the time of a fetch. May be cancelled: what has come in is then in the next answer.
    pub async fn next(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        self.start_fetches().await?;
        if !self.ready.is_empty() {
            return Ok(std::mem::take(&mut self.ready));
        }
        if self.fetches.is_empty() {
            let pause = self.fetch_at.map_or_else(|| self.backoff.next_pause(), |at| at - Instant::now());
            tokio::time::sleep(pause).await;
            return Ok(Vec::new());
        }
        let Some(Ok(fetched)) = self.fetches.join_next().await else { return Ok(Vec::new()) };
        self.busy.remove(&fetched.broker);
        self.take(fetched)?;
        // The broker works on the next answer while the caller works on this one.
        self.start_fetches().await?;
        Ok(std::mem::take(&mut self.ready))
    }

    async fn start_fetches(&mut self) -> Result<(), ClientError> {
        if self.fetch_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.fetch_at = None;
        if self.metadata_is_stale
            && let Err(error) = self.refresh_metadata().await
        {
            let all = self.positions.keys().cloned().collect::<Vec<_>>();
            return self.fail(&all, error);
        }
        while let Some(key) = self.lost.first().cloned() {
            match self.reset(&key).await {
                Ok(()) => drop(self.lost.remove(&key)),
                Err(error) => return self.fail(&[key], error),
            }
        }
        let leaders = self.positions.values().filter_map(|position| position.leader).collect::<BTreeSet<_>>();
        for leader in leaders {
            if self.busy.contains_key(&leader) {
                continue;
            }
            let asked = self
                .positions
                .iter()
                .filter(|(_, position)| position.leader == Some(leader))
                .map(|(key, _)| key.clone())
                .collect::<Vec<_>>();
            match self.start(leader, &asked).await {
                Ok(answer) => {
                    let timeout_ms = self.client.options().request_timeout_ms
                        + u64::try_from(self.options.fetch_max_wait_ms).unwrap_or(0);
                    let additions = self.additions;
                    self.busy.insert(leader, Instant::now());
                    self.fetches.spawn(async move {
                        let response = answer.wait(timeout_ms).await;
                        Fetched { broker: leader, additions, asked, response }
                    });
                }
                Err(error) => self.fail(&asked, error)?,
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        leader: i32,
        asked: &[Partition],
    ) -> Result<super::connection::Answer<FetchRequest>, ClientError> {
        let connection = self.client.broker(leader).await?;
        let have_ids = asked.iter().all(|key| self.positions.get(key).is_some_and(|p| !p.topic_id.is_nil()));
        // Topics go by ids from version 13 on; 18 adds only what followers say.
        let version = connection.require::<FetchRequest>(if have_ids { 17 } else { 12 })?;
        let mut topics = BTreeMap::<&str, FetchTopic>::new();
        for key in asked {
            let Some(position) = self.positions.get(key) else { continue };
            let topic = topics.entry(&key.0).or_insert_with(|| {
                let topic = FetchTopic::default();
                if version >= 13 {
                    topic.with_topic_id(position.topic_id)
                } else {
                    topic.with_topic(topic_name(&key.0))
                }
            });
            topic.partitions.push(
                FetchPartition::default()
                    .with_partition(key.1)
                    .with_current_leader_epoch(position.current_leader_epoch)
                    .with_fetch_offset(position.offset)
                    .with_last_fetched_epoch(-1)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(self.options.max_partition_fetch_bytes),
            );
        }
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(self.options.fetch_max_wait_ms)
            .with_min_bytes(self.options.fetch_min_bytes)
            .with_max_bytes(self.options.fetch_max_bytes)
            .with_isolation_level(self.options.isolation_level)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics.into_values().collect())
            .with_rack_id(text(""));
        connection.start(&request, version).await
    }

    async fn refresh_metadata(&mut self) -> Result<(), ClientError> {
        let names = self.positions.keys().map(|(topic, _)| topic.clone()).collect::<BTreeSet<_>>();
        let names = names.iter().map(String::as_str).collect::<Vec<_>>();
        let response = self.client.fetch_metadata(Some(&names)).await?;
        self.metadata_is_stale = false;
        for topic in &response.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            for partition in &topic.partitions {
                let Some(position) = self.positions.get_mut(&(name.clone(), partition.partition_index))
                else {
                    continue;
                };
                // A broker may be behind the one that was asked before it.
                let is_same_topic = position.topic_id == topic.topic_id;
                if is_same_topic && (0..position.current_leader_epoch).contains(&partition.leader_epoch) {
                    continue;
                }
                position.topic_id = topic.topic_id;
                position.leader = (partition.leader_id.0 >= 0).then_some(partition.leader_id.0);
                position.current_leader_epoch = partition.leader_epoch;
            }
        }
        let leaderless = self
            .positions
            .iter()
            .filter(|(_, position)| position.leader.is_none())
            .map(|(key, _)| key.clone());
        let leaderless = leaderless.collect::<Vec<_>>();
        match leaderless.first() {
            Some(first) => {
                let error = ClientError::NoLeader(format!("{}-{}", first.0, first.1));
                self.fail(&leaderless, error)
            }
            None => Ok(()),
        }
    }

    /// Notes that partitions could not be read; an error once that has lasted too long or cannot pass.
    fn fail(&mut self, keys: &[Partition], error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(match keys.first().and_then(|key| Some((key, self.positions.get(key)?))) {
                Some((key, position)) => error.of_partition(key, position.offset),
                None => error,
            });
        }
        let now = Instant::now();
        let limit = Duration::from_millis(self.options.unreachable_timeout_ms);
        for key in keys {
            if let Some(position) = self.positions.get_mut(key) {
                let since = position.failing.as_ref().map_or(now, |(since, _)| *since);
                if now - since > limit {
                    return Err(error.of_partition(key, position.offset));
                }
                position.failing = Some((since, error.clone()));
            }
        }
        self.metadata_is_stale = true;
        self.fetch_at = Some(now + self.backoff.next_pause());
        Ok(())
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        let response = fetched
            .response
            .and_then(|response| ClientError::check(response.error_code, None).map(|()| response));
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                return self.fail(&fetched.asked, error);
            }
        };
        let mut by_id = HashMap::new();
        for (key, position) in &self.positions {
            by_id.insert(position.topic_id, key.0.clone());
        }
        for topic in response.responses {
            let name = match topic.topic.is_empty() {
                true => by_id.get(&topic.topic_id).cloned().unwrap_or_default(),
                false => topic.topic.to_string(),
            };
            for data in topic.partitions {
                let key = (name.clone(), data.partition_index);
                let position = self.positions.get(&key);
                if position.is_some_and(|position| position.added_in <= fetched.additions) {
                    self.take_partition(key, data)?;
                }
            }
        }
        Ok(())
    }

    fn take_partition(&mut self, key: Partition, data: PartitionData) -> Result<(), ClientError> {
        let named = |what: String| ClientError::Batch(format!("{}-{}: {what}", key.0, key.1));
        match ResponseError::try_from_code(data.error_code) {
            None => {}
            Some(ResponseError::OffsetOutOfRange) => {
                self.lost.insert(key);
                return Ok(());
            }
            // The broker has read it and found it damaged: it will not be better the next time.
            Some(code @ ResponseError::CorruptMessage) => {
                let offset = self.positions.get(&key).map_or(-1, |position| position.offset);
                return Err(ClientError::Refused { code, message: None }.of_partition(&key, offset));
            }
            Some(code) => {
                return self.fail(std::slice::from_ref(&key), ClientError::Refused { code, message: None });
            }
        }
        let Some(position) = self.positions.get_mut(&key) else { return Ok(()) };
        position.failing = None;
        position.high_watermark = Some(match self.options.isolation_level {
            1 => data.last_stable_offset,
            _ => data.high_watermark,
        });
        self.backoff.reset();
        let bytes = data.records.unwrap_or_default();
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id.0));
        let mut filter = AbortFilter::new(self.options.isolation_level == 1, aborted.collect());
        for batch in batches(&bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                // The broker cuts its answer at a number of bytes, wherever that falls.
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return Err(named(format!("a batch cannot be read: {error}"))),
            };
            let header = batch.header;
            if header.next_offset() <= position.offset {
                continue;
            }
            if !filter.skips(&batch) {
                let checked = match self.options.check_crcs {
                    true => batch.verify_crc().map_err(|error| error.to_string()),
                    false => Ok(()),
                };
                let read = match checked.and_then(|()| records::decode(&batch)) {
                    Ok(read) => read,
                    Err(error) => {
                        let error = named(format!("batch at offset {}: {error}", header.base_offset));
                        if !self.options.skips_unreadable {
                            return Err(error);
                        }
                        (self.options.on_notice)(Notice::PassedOver(&error));
                        Vec::new()
                    }
                };
                self.ready.extend(read.into_iter().filter(|read| read.offset >= position.offset).map(
                    |read| ConsumedRecord {
                        topic: position.topic.clone(),
                        partition: key.1,
                        offset: read.offset,
                        leader_epoch: header.partition_leader_epoch,
                        timestamp_type: header.timestamp_type(),
                        record: read.record,
                    },
                ));
            }
            position.offset = header.next_offset();
            position.leader_epoch = header.partition_leader_epoch;
        }
        Ok(())
    }

    /// The position has fallen out of the log: records have been deleted, or the log was cut.
    async fn reset(&mut self, key: &Partition) -> Result<(), ClientError> {
        let out_of_range = || ClientError::Refused {
            code: ResponseError::OffsetOutOfRange,
            message: Some(format!(
                "the position in {}-{} lies outside the log; see raftsman offsets --topic {}",
                key.0, key.1, key.0
            )),
        };
        let to = self.options.reset_to.ok_or_else(out_of_range)?;
        let wanted = BTreeMap::from([(key.clone(), to)]);
        let listed = self.client.list_offsets(&wanted, self.options.isolation_level).await?;
        let listed = listed.into_values().next().ok_or_else(out_of_range)??;
        if let Some(position) = self.positions.get_mut(key) {
            let (from, to, is_first) = (position.offset, listed.offset, to == admin::EARLIEST);
            (self.options.on_notice)(Notice::Reset { partition: key, from, to, is_first });
            position.offset = listed.offset;
        }
        Ok(())
    }
}

/// Leaves out control batches, and for read_committed the batches of aborted transactions: a producer's
/// batches from the first offset of an aborted transaction up to its abort marker.
struct AbortFilter {
    is_active: bool,
    /// By first offset, the earliest last.
    aborted: Vec<(i64, i64)>,
    /// Producers whose transaction at this point has been aborted.
    current: BTreeSet<i64>,
}

impl AbortFilter {
    fn new(is_active: bool, mut aborted: Vec<(i64, i64)>) -> Self {
        aborted.sort_unstable_by(|left, right| right.cmp(left));
        Self { is_active, aborted, current: BTreeSet::new() }
    }

    fn skips(&mut self, batch: &Batch<'_>) -> bool {
        let header = batch.header;
        if self.is_active {
            while self.aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
                if let Some((_, producer)) = self.aborted.pop() {
                    self.current.insert(producer);
                }
            }
        }
        if header.is_control() {
            // The marker's key is a version and a type, 0 for abort.
            let marker = records::decode(batch).ok().and_then(|records| records.into_iter().next());
            let key = marker.and_then(|marker| marker.record.key);
            if key.is_some_and(|key| key.get(2..4) == Some(&[0, 0])) {
                self.current.remove(&header.producer_id);
            }
            return true;
        }
        self.is_active && header.is_transactional() && self.current.contains(&header.producer_id)
    }
}
