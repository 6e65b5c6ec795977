//! A producer for one topic: batches per partition, up to five requests in flight per broker, and no
//! record lost or doubled while brokers restart.
//!
//! Records gather in an open batch per partition. A batch is sealed when it is full or has lingered long
//! enough; from then on its bytes, and with idempotence its sequence numbers (KIP-98), never change, so
//! that it can be sent as often as it takes: the broker knows a batch that it has already.
//!
//! Order: the batches of a partition wait in one queue until they are acknowledged. When one of them
//! fails in a way that passes, nothing more of that partition leaves until all that is in flight has
//! come back; then the queue is sent again from its first open batch. Without that rule a later batch
//! could overtake, and a broker would refuse it as out of order.

mod options;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::ProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::partitioner::{Sticky, partition_for_key};
use crate::client::records::{self, Record};
use crate::client::{Client, ClientError, TopicMetadata, topic_name};

pub use options::{ProducerError, ProducerOptions, ProducerRecord};
use options::{build, sequence_after};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Ready,
    InFlight,
    Done,
}

struct SealedBatch {
    number: u64,
    bytes: Bytes,
    records: usize,
    /// What it counts against the buffer.
    raw_bytes: usize,
    data_bytes: usize,
    base_sequence: i32,
    attempts: u32,
    sealed: Instant,
    sending: Sending,
}

#[derive(Default)]
struct Queue {
    leader: Option<i32>,
    open: Vec<Record>,
    open_bytes: usize,
    open_since: Option<Instant>,
    batches: VecDeque<SealedBatch>,
    next_sequence: i32,
    in_flight: usize,
    /// Whether the broker has taken a batch yet. Until then one batch is in flight at a time: a broker that
    /// does not know a producer takes any sequence number as its first, so the second batch could get in
    /// before a first one that failed, which would then never be in order.
    is_known_to_broker: bool,
    /// A batch failed: nothing leaves before all in flight is back and the pause is over.
    is_draining: bool,
    retry_at: Option<Instant>,
    last_error: Option<ClientError>,
}

/// What [`Producer::wait`] waited for.
pub enum Event {
    Answered(Answered),
    /// A batch has lingered long enough, or a pause is over.
    Due,
}

/// A partition that takes no records at the moment.
pub struct HeldUp {
    pub partition: String,
    pub error: ClientError,
    /// Until the producer gives up.
    pub left: Duration,
}

/// The answer to one request.
pub struct Answered {
    broker: i32,
    /// Partition and batch number.
    batches: Vec<(usize, u64)>,
    response: Result<Option<ProduceResponse>, ClientError>,
}

/// See the module's head.
pub struct Producer {
    client: Arc<Client>,
    options: ProducerOptions,
    topic: TopicMetadata,
    queues: Vec<Queue>,
    sticky: Sticky,
    producer: Option<(i64, i16)>,
    in_flight: BTreeMap<i32, usize>,
    answers: JoinSet<Answered>,
    next_number: u64,
    buffered_bytes: usize,
    buffered_records: u64,
    acknowledged_records: u64,
    acknowledged_bytes: u64,
    is_flushing: bool,
    metadata_is_stale: bool,
    refresh_at: Instant,
    /// Where the next request starts to look for batches, so that no partition starves.
    turn: usize,
}

impl Producer {
    /// Finds the topic (the broker may create it) and gets a producer id.
    pub async fn open(
        client: Arc<Client>,
        topic: &str,
        options: ProducerOptions,
    ) -> Result<Self, ProducerError> {
        let metadata = client
            .topic(topic, true)
            .await?
            .filter(|metadata| !metadata.partitions.is_empty())
            .ok_or_else(|| ProducerError::UnknownTopic(topic.to_owned()))?;
        let producer = match options.is_idempotent && options.acks == -1 {
            true => Some(init_producer_id(&client).await?),
            false => None,
        };
        let seed = client.chance.next_u64();
        let mut this = Self {
            client,
            options,
            topic: metadata,
            queues: Vec::new(),
            sticky: Sticky::new(seed),
            producer,
            in_flight: BTreeMap::new(),
            answers: JoinSet::new(),
            next_number: 0,
            buffered_bytes: 0,
            buffered_records: 0,
            acknowledged_records: 0,
            acknowledged_bytes: 0,
            is_flushing: false,
            metadata_is_stale: false,
            refresh_at: Instant::now(),
            turn: 0,
        };
        this.metadata_is_stale = this.topic.partitions.iter().any(|partition| partition.leader.is_none());
        this.apply_metadata();
        Ok(this)
    }

    pub fn acknowledged_records(&self) -> u64 {
        self.acknowledged_records
    }

    /// Bytes of keys, values and headers of acknowledged records.
    pub fn acknowledged_bytes(&self) -> u64 {
        self.acknowledged_bytes
    }

    /// Whether the caller should wait before it appends more.
    pub fn is_full(&self) -> bool {
        self.buffered_bytes >= self.options.buffer_bytes
    }

    /// The partition that has kept a batch for longest, if it has for so long, and why it does not take it.
    pub fn held_up(&self, for_at_least: Duration) -> Option<HeldUp> {
        let now = Instant::now();
        let kept = self.queues.iter().enumerate().filter_map(|(index, queue)| {
            let first = queue.batches.iter().find(|batch| batch.sending == Sending::Ready)?;
            let reason = match queue.leader {
                None => Some(ClientError::NoLeader(format!("{}-{index}", self.topic.name))),
                Some(_) => queue.last_error.clone(),
            };
            (now >= first.sealed + for_at_least).then_some((first.sealed, index, reason?))
        });
        let (sealed, index, error) = kept.min_by_key(|(sealed, ..)| *sealed)?;
        let deadline = sealed + Duration::from_millis(self.options.delivery_timeout_ms);
        let left = deadline.saturating_duration_since(now);
        Some(HeldUp { partition: format!("{}-{index}", self.topic.name), error, left })
    }

    /// Whether everything appended has been acknowledged.
    pub fn is_idle(&self) -> bool {
        self.buffered_records == 0
    }

    /// From now on batches leave at once, without lingering.
    pub fn set_flushing(&mut self, is_flushing: bool) {
        self.is_flushing = is_flushing;
    }

    /// Puts a record into the open batch of its partition. Nothing is sent before [`Producer::pump`].
    pub fn append(&mut self, record: ProducerRecord) -> Result<(), ProducerError> {
        let index = self.partition_of(&record)?;
        let record = record.record;
        let bytes = record.size_estimate();
        let batch_bytes = self.options.batch_bytes;
        let Some(queue) = self.queues.get(index) else { return Ok(()) };
        if !queue.open.is_empty() && queue.open_bytes + bytes > batch_bytes {
            self.seal(index)?;
        }
        let Some(queue) = self.queues.get_mut(index) else { return Ok(()) };
        if queue.open.is_empty() {
            queue.open_since = Some(Instant::now());
        }
        queue.open_bytes += bytes;
        queue.open.push(record);
        self.buffered_bytes += bytes;
        self.buffered_records += 1;
        if queue.open_bytes >= batch_bytes {
            self.seal(index)?;
        }
        Ok(())
    }

    fn partition_of(&mut self, record: &ProducerRecord) -> Result<usize, ProducerError> {
        let count = self.queues.len();
        if let Some(partition) = record.partition {
            return usize::try_from(partition).ok().filter(|index| *index < count).ok_or_else(|| {
                ProducerError::UnknownPartition {
                    topic: self.topic.name.clone(),
                    partition,
                    partitions: count,
                }
            });
        }
        if let Some(key) = &record.record.key {
            return Ok(partition_for_key(key, count));
        }
        if let Some(current) =
            self.sticky.kept(|index| self.queues.get(index).is_some_and(|queue| queue.leader.is_some()))
        {
            return Ok(current);
        }
        // Those with a leader; when none has one, any will do: one will come back.
        let led =
            (0..count).filter(|index| self.queues.get(*index).is_some_and(|queue| queue.leader.is_some()));
        let mut available = led.collect::<Vec<_>>();
        if available.is_empty() {
            available = (0..count).collect();
        }
        Ok(self.sticky.current(&available).unwrap_or(0))
    }

    /// Closes the open batch of a partition and queues it.
    fn seal(&mut self, index: usize) -> Result<(), ProducerError> {
        let count = self.queues.len();
        let Some(queue) = self.queues.get_mut(index) else { return Ok(()) };
        if queue.open.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut queue.open);
        let raw_bytes = std::mem::take(&mut queue.open_bytes);
        queue.open_since = None;
        let base_sequence = if self.producer.is_some() { queue.next_sequence } else { -1 };
        queue.next_sequence = sequence_after(queue.next_sequence, records.len());
        let bytes = build(&records, self.options.compression, self.producer, base_sequence)?;
        queue.batches.push_back(SealedBatch {
            number: self.next_number,
            bytes,
            records: records.len(),
            raw_bytes,
            data_bytes: records.iter().map(Record::data_bytes).sum(),
            base_sequence,
            attempts: 0,
            sealed: Instant::now(),
            sending: Sending::Ready,
        });
        self.next_number += 1;
        if count > 1 && self.sticky.is_current(index) {
            let available = (0..count)
                .filter(|index| self.queues.get(*index).is_some_and(|queue| queue.leader.is_some()))
                .collect::<Vec<_>>();
            self.sticky.advance(&available);
        }
        Ok(())
    }

    /// Seals what has lingered long enough and sends what may be sent. Not to be cancelled.
    pub async fn pump(&mut self) -> Result<(), ProducerError> {
        let now = Instant::now();
        let linger = Duration::from_millis(self.options.linger_ms);
        for index in 0..self.queues.len() {
            let due = self.queues.get(index).is_some_and(|queue| {
                queue.open_since.is_some_and(|since| self.is_flushing || now >= since + linger)
            });
            if due {
                self.seal(index)?;
            }
        }
        self.check_delivery(now)?;
        if self.metadata_is_stale && now >= self.refresh_at {
            self.refresh_metadata().await;
        }
        let leaders =
            self.queues.iter().filter_map(|queue| queue.leader).collect::<std::collections::BTreeSet<_>>();
        for leader in leaders {
            while self.in_flight.get(&leader).copied().unwrap_or(0) < self.options.in_flight_max {
                if !self.send_one(leader, now).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Fails when a batch has waited longer than the delivery timeout, or has been tried too often.
    fn check_delivery(&self, now: Instant) -> Result<(), ProducerError> {
        let timeout = Duration::from_millis(self.options.delivery_timeout_ms);
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(first) = queue.batches.iter().find(|batch| batch.sending == Sending::Ready) else {
                continue;
            };
            let exhausted = self.options.retries.is_some_and(|retries| first.attempts > retries);
            if exhausted || now >= first.sealed + timeout {
                let error = queue.last_error.clone().unwrap_or(ClientError::TimedOut {
                    address: "the cluster".to_owned(),
                    api: "Produce".to_owned(),
                    timeout_ms: self.options.delivery_timeout_ms,
                });
                return Err(self.delivery_error(index, error));
            }
        }
        Ok(())
    }

    fn delivery_error(&self, index: usize, error: ClientError) -> ProducerError {
        ProducerError::Delivery {
            partition: format!("{}-{index}", self.topic.name),
            unacknowledged: self.buffered_records,
            error,
        }
    }

    /// Sends one request to a broker: at most one batch per partition. False: there was nothing.
    async fn send_one(&mut self, leader: i32, now: Instant) -> Result<bool, ProducerError> {
        let mut chosen = Vec::new();
        let mut data = Vec::new();
        let mut request_bytes = 0;
        let count = self.queues.len();
        let mut last = self.turn;
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            if queue.leader != Some(leader)
                || queue.in_flight >= if queue.is_known_to_broker { self.options.in_flight_max } else { 1 }
                || (queue.is_draining && queue.in_flight > 0)
                || queue.retry_at.is_some_and(|at| now < at)
            {
                continue;
            }
            queue.is_draining = false;
            queue.retry_at = None;
            let Some(batch) = queue.batches.iter_mut().find(|batch| batch.sending == Sending::Ready) else {
                continue;
            };
            if !chosen.is_empty() && request_bytes + batch.bytes.len() > self.options.request_bytes_max {
                break;
            }
            request_bytes += batch.bytes.len();
            batch.sending = Sending::InFlight;
            batch.attempts += 1;
            queue.in_flight += 1;
            chosen.push((index, batch.number));
            data.push(
                PartitionProduceData::default()
                    .with_index(i32::try_from(index).unwrap_or(i32::MAX))
                    .with_records(Some(batch.bytes.clone())),
            );
            last = index;
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        self.turn = (last + 1) % count;
        *self.in_flight.entry(leader).or_default() += 1;
        let answered = |response| Answered { broker: leader, batches: chosen.clone(), response };
        match self.start(leader, data).await {
            // With acks=0 the broker never answers: sent is done.
            Ok(None) => {
                self.handle_answer(answered(Ok(None)))?;
            }
            Ok(Some(answer)) => {
                let timeout_ms = self.client.options().request_timeout_ms;
                let batches = chosen;
                self.answers.spawn(async move {
                    let response = answer.wait(timeout_ms).await.map(Some);
                    Answered { broker: leader, batches, response }
                });
            }
            Err(error) => {
                self.handle_answer(answered(Err(error)))?;
            }
        }
        Ok(true)
    }

    async fn start(
        &self,
        leader: i32,
        data: Vec<PartitionProduceData>,
    ) -> Result<Option<crate::client::connection::Answer<ProduceRequest>>, ClientError> {
        let connection = self.client.broker(leader).await?;
        // From version 13 on topics are named by their ids.
        let cap = if self.topic.id.is_nil() { 12 } else { i16::MAX };
        let version = connection.require::<ProduceRequest>(cap)?;
        let mut topic = TopicProduceData::default().with_partition_data(data);
        if version >= 13 {
            topic = topic.with_topic_id(self.topic.id);
        } else {
            topic = topic.with_name(topic_name(&self.topic.name));
        }
        let request = ProduceRequest::default()
            .with_acks(self.options.acks)
            .with_timeout_ms(self.client.options().timeout_ms())
            .with_topic_data(vec![topic]);
        if self.options.acks == 0 {
            connection.send_only(&request, version).await?;
            return Ok(None);
        }
        connection.start(&request, version).await.map(Some)
    }

    /// Waits until there is something to do. May be cancelled.
    pub async fn wait(&mut self) -> Event {
        let due = self.next_due();
        let pause = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(Ok(answered)) = self.answers.join_next() => Event::Answered(answered),
            () = pause => Event::Due,
        }
    }

    /// The next moment at which a batch has lingered, a pause ends or a delivery is overdue.
    fn next_due(&self) -> Option<Instant> {
        let linger = Duration::from_millis(self.options.linger_ms);
        let delivery = Duration::from_millis(self.options.delivery_timeout_ms);
        let lingering = self.queues.iter().filter_map(|queue| Some(queue.open_since? + linger));
        let pausing = self.queues.iter().filter_map(|queue| queue.retry_at);
        let overdue = self.queues.iter().filter_map(|queue| {
            queue
                .batches
                .iter()
                .find(|batch| batch.sending == Sending::Ready)
                .map(|batch| batch.sealed + delivery)
        });
        let refresh = self.metadata_is_stale.then_some(self.refresh_at);
        lingering.chain(pausing).chain(overdue).chain(refresh).min()
    }

    /// Takes an answer in and sends what it makes room for. Not to be cancelled.
    pub async fn handle(&mut self, event: Event) -> Result<(), ProducerError> {
        if let Event::Answered(answered) = event {
            self.handle_answer(answered)?;
            // Take all that has come in meanwhile, so that the next requests carry more.
            while let Some(Ok(answered)) = self.answers.try_join_next() {
                self.handle_answer(answered)?;
            }
        }
        self.pump().await
    }

    fn handle_answer(&mut self, answered: Answered) -> Result<(), ProducerError> {
        if let Some(in_flight) = self.in_flight.get_mut(&answered.broker) {
            *in_flight = in_flight.saturating_sub(1);
        }
        let mut results = BTreeMap::new();
        if let Ok(Some(response)) = &answered.response {
            for topic in &response.responses {
                for partition in &topic.partition_responses {
                    let message = partition.error_message.as_ref().map(|message| message.as_str());
                    results.insert(partition.index, ClientError::check(partition.error_code, message));
                }
            }
        }
        for (index, number) in answered.batches {
            let result = match &answered.response {
                Err(error) => Err(error.clone()),
                Ok(None) => Ok(()),
                Ok(Some(_)) => {
                    let key = i32::try_from(index).unwrap_or(i32::MAX);
                    results.remove(&key).unwrap_or_else(|| {
                        let code = ResponseError::UnknownServerError;
                        let message = Some("the broker's answer left the partition out".to_owned());
                        Err(ClientError::Refused { code, message })
                    })
                }
            };
            self.settle(index, number, result)?;
        }
        Ok(())
    }

    /// The fate of one batch.
    fn settle(
        &mut self,
        index: usize,
        number: u64,
        result: Result<(), ClientError>,
    ) -> Result<(), ProducerError> {
        let is_idempotent = self.producer.is_some();
        let Some(queue) = self.queues.get_mut(index) else { return Ok(()) };
        queue.in_flight = queue.in_flight.saturating_sub(1);
        let Some(position) = queue.batches.iter().position(|batch| batch.number == number) else {
            return Ok(());
        };
        let is_first = queue.batches.iter().take(position).all(|batch| batch.sending == Sending::Done);
        let Some(batch) = queue.batches.get_mut(position) else { return Ok(()) };
        let error = match result {
            Ok(()) => None,
            // The broker has it already: an earlier attempt got through and its answer was lost.
            Err(error) if error.code() == Some(ResponseError::DuplicateSequenceNumber) => None,
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            batch.sending = Sending::Done;
            queue.is_known_to_broker = true;
            while queue.batches.front().is_some_and(|batch| batch.sending == Sending::Done) {
                if let Some(done) = queue.batches.pop_front() {
                    self.buffered_bytes = self.buffered_bytes.saturating_sub(done.raw_bytes);
                    self.buffered_records = self.buffered_records.saturating_sub(done.records as u64);
                    self.acknowledged_records += done.records as u64;
                    self.acknowledged_bytes += done.data_bytes as u64;
                }
            }
            return Ok(());
        };
        batch.sending = Sending::Ready;
        let out_of_order = error.code() == Some(ResponseError::OutOfOrderSequenceNumber);
        let passes = error.is_retriable() || (is_idempotent && out_of_order && !is_first);
        if error.code() == Some(ResponseError::MessageTooLarge) && batch.records > 1 {
            return self.split(index, position);
        }
        if !passes {
            return Err(self.delivery_error(index, error));
        }
        queue.is_draining = true;
        queue.retry_at = Some(Instant::now() + self.client.backoff().next_pause());
        queue.last_error = Some(error);
        if !self.metadata_is_stale {
            self.metadata_is_stale = true;
            self.refresh_at = Instant::now();
        }
        Ok(())
    }

    /// Cuts a batch that the broker finds too large in two. The halves share its sequence numbers, so
    /// idempotence holds.
    fn split(&mut self, index: usize, position: usize) -> Result<(), ProducerError> {
        let compression = self.options.compression;
        let producer = self.producer;
        let Some(queue) = self.queues.get_mut(index) else { return Ok(()) };
        let Some(batch) = queue.batches.remove(position) else { return Ok(()) };
        let decoded = records::decode_own(&batch.bytes).map_err(ClientError::Batch)?;
        let middle = decoded.len().div_ceil(2);
        let mut base_sequence = batch.base_sequence;
        for (step, half) in decoded.chunks(middle.max(1)).enumerate() {
            let bytes = build(half, compression, producer, base_sequence)?;
            let part = SealedBatch {
                number: self.next_number,
                bytes,
                records: half.len(),
                raw_bytes: if step == 0 { batch.raw_bytes.div_ceil(2) } else { batch.raw_bytes / 2 },
                data_bytes: half.iter().map(Record::data_bytes).sum(),
                base_sequence,
                attempts: 0,
                sealed: batch.sealed,
                sending: Sending::Ready,
            };
            self.next_number += 1;
            if base_sequence >= 0 {
                base_sequence = sequence_after(base_sequence, half.len());
            }
            queue.batches.insert(position + step, part);
        }
        queue.is_draining = true;
        // The next batches would be refused just the same.
        self.options.batch_bytes = (self.options.batch_bytes / 2).max(1024);
        Ok(())
    }

    async fn refresh_metadata(&mut self) {
        let pause = self.client.backoff().next_pause().max(Duration::from_millis(10));
        let name = self.topic.name.clone();
        let fresh = match self.client.topic_once(&name).await {
            Ok(Some(topic)) => Some(topic),
            Ok(None) | Err(_) => None,
        };
        self.refresh_at = Instant::now() + pause;
        let Some(fresh) = fresh else { return };
        // A topic that was deleted and made again has another id; what was meant for the old one must
        // not be written to the new one with sequences that it does not know.
        if fresh.id == self.topic.id && fresh.partitions.len() >= self.queues.len() {
            self.metadata_is_stale = fresh.partitions.iter().any(|partition| partition.leader.is_none());
            self.topic = fresh;
            self.apply_metadata();
        }
    }

    fn apply_metadata(&mut self) {
        self.queues.resize_with(self.topic.partitions.len().max(self.queues.len()), Queue::default);
        for partition in &self.topic.partitions {
            let index = usize::try_from(partition.index).unwrap_or(usize::MAX);
            if let Some(queue) = self.queues.get_mut(index) {
                queue.leader = partition.leader;
            }
        }
    }
}

async fn init_producer_id(client: &Client) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    client
        .retry(async || {
            let response = client.any().await?.call(&request).await?;
            ClientError::check(response.error_code, None)?;
            Ok((response.producer_id.0, response.producer_epoch))
        })
        .await
}
