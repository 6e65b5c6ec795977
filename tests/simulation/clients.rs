//! Those who use the broker, over the wire and by the project's own client: each is a task that does its part until
//! the run is stopping, and tells the [`Checker`] what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ProduceRequest, ProducerId,
};
use raftsman::client::admin::{EARLIEST, LATEST};
use raftsman::client::committed::{Committed, Offsets};
use raftsman::client::consumer::{Consumer, ConsumerOptions};
use raftsman::client::records::{Compression, Record, encode};
use raftsman::client::{Client, ClientError, ClientOptions, Connection, text, topic_name};
use raftsman::env::Surroundings;
use raftsman::protocol::builder::BatchOptions;
use tokio::time::sleep;
use uuid::Uuid;

use crate::model::{Checker, Place, RecordId, Topic};

/// Where the broker is.
pub(crate) const BOOTSTRAP: &str = "10.0.0.1:9092";
/// The topic whose records are synced, and the one whose are not.
pub(crate) const SYNCED: &str = "synced";
pub(crate) const CACHED: &str = "cached";
const PARTITIONS: i32 = 2;
const GROUP: &str = "accountants";
const REQUEST_TIMEOUT_MS: u64 = 3000;

#[derive(Clone)]
pub(crate) struct Workers {
    pub surroundings: Surroundings,
    pub checker: Checker,
    /// Every topic is synced, whatever it says itself.
    pub is_all_synced: bool,
}

impl Workers {
    fn client(&self) -> Arc<Client> {
        let options = ClientOptions {
            bootstrap_servers: vec![BOOTSTRAP.to_owned()],
            client_id: "simulation".to_owned(),
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            api_timeout_ms: 8000,
            retry_backoff_ms: 50,
            retry_backoff_max_ms: 1_000,
        };
        Arc::new(Client::new(options, &self.surroundings).expect("the options are right"))
    }

    fn below(&self, bound: usize) -> usize {
        self.surroundings.chance.below(bound)
    }

    async fn pause(&self, most_ms: usize) {
        sleep(Duration::from_millis(self.below(most_ms) as u64)).await;
    }

    /// Everybody, until all have ended.
    pub(crate) async fn run(self) -> Result<(), String> {
        let client = self.client();
        for (name, is_synced) in [(SYNCED, true), (CACHED, false)] {
            let created = self.create(&client, name, PARTITIONS, is_synced).await;
            created.ok_or_else(|| format!("{name} cannot be created though there are no faults yet"))?;
        }
        self.checker.with(|model| model.is_set_up = true);
        let (local, mut tasks) = (tokio::task::LocalSet::new(), tokio::task::JoinSet::new());
        for _ in 0..2 {
            tasks.spawn_local_on(self.clone().produce_plainly(), &local);
            tasks.spawn_local_on(self.clone().produce_once(1), &local);
        }
        tasks.spawn_local_on(self.clone().produce_once(4), &local);
        for name in [SYNCED, CACHED] {
            tasks.spawn_local_on(self.clone().consume(name), &local);
        }
        tasks.spawn_local_on(self.clone().watch_ends(), &local);
        tasks.spawn_local_on(self.clone().commit(), &local);
        tasks.spawn_local_on(self.clone().administer(), &local);
        local
            .run_until(async {
                while let Some(ended) = tasks.join_next().await {
                    ended.map_err(|error| error.to_string())?;
                }
                Ok(())
            })
            .await
    }

    /// Creates a topic that is not there. What became of it when the answer was lost is not known, and is not asked:
    /// the request may still be under way.
    async fn create(&self, client: &Client, name: &str, partitions: i32, is_synced: bool) -> Option<Uuid> {
        let mut configs = vec![("segment.ms", (500 + self.below(2000)).to_string())];
        if is_synced {
            configs.push(("flush.messages", "1".to_owned()));
        }
        let configs = configs.into_iter().map(|(key, value)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(2000);
        let asked: Result<(), ClientError> = async {
            let response = client.controller().await?.call(&request).await?;
            let result = response.topics.first().expect("one topic was asked for");
            ClientError::check(result.error_code, result.error_message.as_deref())
        }
        .await;
        if let Err(error) = asked {
            if !error.is_retriable() && !self.checker.may_be_refused() {
                self.checker.violated(format!("{name} cannot be created: {error}"));
            }
            return None;
        }
        let Some((id, found)) = self.look_up(client, name).await else {
            self.checker.violated(format!("{name} was created, and is not there"));
            return None;
        };
        if found != partitions {
            self.checker.violated(format!("{name} has {found} partitions, not {partitions}"));
        }
        let outlives_cuts = is_synced || self.is_all_synced;
        self.checker
            .topic_created(id, Topic { name: name.to_owned(), partitions, outlives_cuts, is_dying: false });
        Some(id)
    }

    /// A topic's id and number of partitions, asked until there is an answer.
    async fn look_up(&self, client: &Client, name: &str) -> Option<(Uuid, i32)> {
        loop {
            match client.topic_once(name).await {
                Ok(topic) => return topic.map(|topic| (topic.id, topic.partitions.len() as i32)),
                Err(_) => self.pause(100).await,
            }
        }
    }

    /// Creates and deletes topics, and holds the broker to it.
    async fn administer(self) {
        let client = self.client();
        let mut names = 3;
        let mut topics: Vec<(String, Option<Uuid>)> =
            (0..names).map(|number| (format!("passing-{number}"), None)).collect();
        while !self.checker.is_stopping() {
            self.pause(600).await;
            let at = self.below(topics.len());
            let (name, id) = topics[at].clone();
            self.expect(&client, &name, id).await;
            let became = match id {
                None => {
                    let is_synced = self.below(2) == 0;
                    self.create(&client, &name, 1 + self.below(3) as i32, is_synced).await.map(Some)
                }
                Some(id) if self.below(2) == 0 => self.delete(&client, &name, id).await.then_some(None),
                id => Some(id),
            };
            match became {
                Some(id) => topics[at].1 = id,
                None => {
                    topics[at] = (format!("passing-{names}"), None);
                    names += 1;
                }
            }
        }
        // What was said holds to the end.
        for (name, id) in topics {
            self.expect(&client, &name, id).await;
        }
    }

    async fn expect(&self, client: &Client, name: &str, id: Option<Uuid>) {
        let found = self.look_up(client, name).await.map(|(id, _)| id);
        if found != id {
            self.checker.violated(format!("{name} should be {id:?} and is {found:?}"));
        }
    }

    /// Deletes a topic; whether that was acknowledged.
    async fn delete(&self, client: &Client, name: &str, id: Uuid) -> bool {
        self.checker.topic_is_dying(id);
        let state = DeleteTopicState::default().with_name(None).with_topic_id(id);
        let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(2000);
        let asked: Result<(), ClientError> = async {
            let response = client.controller().await?.call(&request).await?;
            let result = response.responses.first().expect("one topic was asked for");
            ClientError::check(result.error_code, result.error_message.as_deref())
        }
        .await;
        match asked {
            Ok(()) => {
                self.checker.topic_deleted(id);
                self.expect(client, name, None).await;
                true
            }
            Err(error) => {
                if !error.is_retriable() && !self.checker.may_be_refused() {
                    self.checker.violated(format!("{name} cannot be deleted: {error}"));
                }
                false
            }
        }
    }

    fn any_place(&self) -> Option<Place> {
        let places = self.checker.places();
        places.get(self.below(places.len())).copied()
    }

    fn batch(&self, ids: &[RecordId], options: BatchOptions) -> Bytes {
        batch(self.surroundings.clock.now_ms(), ids, options)
    }

    /// Each batch is sent once, whatever becomes of it.
    async fn produce_plainly(self) {
        let client = self.client();
        let producer = self.checker.new_producer(false);
        let mut number = 0;
        while !self.checker.is_stopping() {
            self.pause(60).await;
            let Some(place) = self.any_place() else { continue };
            let count = 1 + self.below(4) as u32;
            let ids: Vec<RecordId> =
                (number..number + count).map(|number| RecordId { producer, number }).collect();
            number += count;
            let compression = Compression::ALL[self.below(Compression::ALL.len())];
            let bytes = self.batch(&ids, BatchOptions { compression, ..BatchOptions::default() });
            let acks = [-1, -1, 1, 0][self.below(4)];
            self.checker.sent(place, &ids);
            let cuts = self.checker.cuts();
            let request = request(place, bytes, acks);
            let sent: Result<Option<i64>, ClientError> = async {
                let connection = client.any().await?;
                if acks == 0 {
                    connection.send_only(&request, VERSION).await?;
                    return Ok(None);
                }
                let answer = connection.start(&request, VERSION).await?.wait(REQUEST_TIMEOUT_MS).await?;
                outcome(&answer).map(Some)
            }
            .await;
            match sent {
                Ok(Some(base_offset)) => self.checker.acknowledged(place, base_offset, &ids, cuts),
                Ok(None) => {}
                Err(error) => {
                    self.checker.with(|model| model.counts.unknown += ids.len() as u64);
                    if !error.is_retriable()
                        && !self.checker.is_dying(place)
                        && !self.checker.may_be_refused()
                    {
                        self.checker.violated(format!("{place:?}: a batch was refused: {error}"));
                    }
                    self.pause(200).await;
                }
            }
        }
    }

    /// Idempotent: what is not acknowledged is sent again until it is, `in_flight` batches at a time.
    async fn produce_once(self, in_flight: usize) {
        let client = self.client();
        'anew: while !self.checker.is_stopping() {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let Ok(response) = client.call_any(&request).await else { continue };
            if response.error_code != 0 {
                self.pause(200).await;
                continue;
            }
            let identity = (response.producer_id.0, response.producer_epoch);
            self.checker.producer_id(identity.0, identity.1);
            let producer = self.checker.new_producer(true);
            let (mut number, mut sequences) = (0, BTreeMap::<Place, i32>::new());
            while !self.checker.is_stopping() {
                self.pause(50).await;
                let Some(place) = self.any_place() else { continue };
                let cuts = self.checker.cuts();
                let mut waiting = Vec::new();
                // A broker that does not know a producer takes any sequence for its first.
                let is_first = !sequences.contains_key(&place);
                for _ in 0..if is_first { 1 } else { 1 + self.below(in_flight) } {
                    let count = 1 + self.below(3) as u32;
                    let ids: Vec<RecordId> =
                        (number..number + count).map(|number| RecordId { producer, number }).collect();
                    number += count;
                    let sequence = sequences.entry(place).or_default();
                    let options = BatchOptions {
                        producer_id: identity.0,
                        producer_epoch: identity.1,
                        base_sequence: *sequence,
                        ..BatchOptions::default()
                    };
                    *sequence += count as i32;
                    self.checker.sent(place, &ids);
                    waiting.push((self.batch(&ids, options), ids));
                }
                match self.deliver(&client, place, waiting, cuts).await {
                    Delivered::Yes => {}
                    Delivered::TopicGone => drop(sequences.remove(&place)),
                    Delivered::No(error) => {
                        self.checker.with(|model| model.counts.restarts += 1);
                        let was_cut = !self.checker.with(|model| {
                            model.topics.get(&place.topic).is_some_and(|topic| topic.outlives_cuts)
                                || model.cuts == 0
                        });
                        // What a power cut took is missing in the sequence. With several batches under way, the broker
                        // knows only the last of them after a restart (as Kafka does, whose snapshots hold no more).
                        if !was_cut && in_flight == 1 && !self.checker.may_be_refused() {
                            self.checker
                                .violated(format!("{place:?}: an idempotent batch was refused: {error}"));
                        }
                        continue 'anew;
                    }
                }
            }
        }
    }

    /// Sends batches of a partition in order, as often as it takes.
    async fn deliver(
        &self,
        client: &Client,
        place: Place,
        mut waiting: Vec<(Bytes, Vec<RecordId>)>,
        cuts: u64,
    ) -> Delivered {
        let mut rounds = 0;
        while !waiting.is_empty() {
            rounds += 1;
            if rounds > 1 {
                self.pause(200).await;
            }
            let Ok(connection) = client.any().await else { continue };
            if let Some(end) =
                send_all(&self.checker, &connection, REQUEST_TIMEOUT_MS, place, &mut waiting, cuts).await
            {
                return end;
            }
        }
        Delivered::Yes
    }

    /// Reads a topic from its beginning and on.
    async fn consume(self, name: &'static str) {
        let client = self.client();
        let Some((id, partitions)) = self.look_up(&client, name).await else {
            return self.checker.violated(format!("{name} is not there"));
        };
        let is_synced =
            self.checker.with(|model| model.topics.get(&id).is_some_and(|topic| topic.outlives_cuts));
        while !self.checker.is_stopping() {
            let starts = (0..partitions).map(|partition| ((name.to_owned(), partition), 0)).collect();
            let options = ConsumerOptions {
                fetch_max_wait_ms: 200,
                reset_to: None,
                unreachable_timeout_ms: 60_000,
                ..ConsumerOptions::default()
            };
            let mut consumer = Consumer::new(client.clone(), options, starts);
            let begun = self.checker.cuts();
            while !self.checker.is_stopping() {
                let cuts = self.checker.cuts();
                if cuts != begun && !is_synced {
                    // What it has read may be gone: begin again.
                    break;
                }
                match consumer.next().await {
                    Ok(records) => {
                        for record in records {
                            let place = Place { topic: id, partition: record.partition };
                            let value = record.record.value.unwrap_or_default();
                            self.checker.read(place, record.offset, &value, begun);
                        }
                    }
                    Err(error) => {
                        if self.checker.may_be_refused() {
                            break;
                        }
                        if is_synced || self.checker.cuts() == begun {
                            self.checker.violated(format!("{name} cannot be consumed: {error}"));
                            return;
                        }
                        break;
                    }
                }
                if self.below(8) == 0 {
                    self.pause(300).await;
                }
            }
        }
    }

    /// Asks where partitions end.
    async fn watch_ends(self) {
        let client = self.client();
        while !self.checker.is_stopping() {
            self.pause(300).await;
            let Some(place) = self.any_place() else { continue };
            let Some(name) =
                self.checker.with(|model| model.topics.get(&place.topic).map(|t| t.name.clone()))
            else {
                continue;
            };
            let (least, cuts) = (self.checker.known_high_watermark(place), self.checker.cuts());
            let key = (name.clone(), place.partition);
            let Ok(mut listed) = client.list_offsets(&BTreeMap::from([(key.clone(), LATEST)]), 0).await
            else {
                continue;
            };
            // By name: it must still be the same topic.
            let found = self.look_up(&client, &name).await;
            if let Some(Ok(listed)) = listed.remove(&key)
                && found.is_some_and(|(id, _)| id == place.topic)
            {
                self.checker.high_watermark(place, listed.offset, least, cuts);
            }
        }
    }

    /// Commits for a group, and looks at what is committed.
    async fn commit(self) {
        let client = self.client();
        let Some((id, partitions)) = self.look_up(&client, SYNCED).await else { return };
        let mut next = vec![1i64; partitions as usize];
        while !self.checker.is_stopping() {
            self.pause(150).await;
            let partition = self.below(partitions as usize);
            let place = Place { topic: id, partition: partition as i32 };
            let key = (SYNCED.to_owned(), partition as i32);
            let (cuts, asked_ms) = (self.checker.cuts(), self.checker.now_ms());
            if self.below(3) > 0 {
                let offset = next[partition];
                next[partition] += 1;
                self.checker.commit_attempted(GROUP, place, offset);
                let offsets = Offsets::from([(key.clone(), Committed::new(offset, -1))]);
                match client.commit_offsets(GROUP, &offsets).await.map(|mut committed| committed.remove(&key))
                {
                    Ok(Some(Ok(()))) => self.checker.committed(GROUP, place, offset, cuts),
                    _ => self.checker.commit_is_doubtful(GROUP, place, offset),
                }
            } else if let Ok(mut found) = client.committed_offsets(&[GROUP.to_owned()]).await
                && let Some(Ok(offsets)) = found.remove(GROUP)
            {
                let offset = offsets.get(&key).map(|committed| committed.offset);
                self.checker.found_committed(GROUP, place, offset, (cuts, asked_ms));
            }
        }
    }

    /// When all faults have stopped: everything can be written to, and all that must be there is.
    pub(crate) async fn heal(self) -> Result<(), String> {
        let client = self.client();
        let producer = self.checker.new_producer(false);
        let mut number = 0;
        for place in self.checker.places() {
            let Some(topic) =
                self.checker.with(|model| model.topics.get(&place.topic).map(|t| t.name.clone()))
            else {
                continue;
            };
            let ids = [RecordId { producer, number }];
            number += 1;
            self.checker.sent(place, &ids);
            let connection = client.any().await.map_err(|error| error.to_string())?;
            let request = request(place, self.batch(&ids, BatchOptions::default()), -1);
            let answer = connection.start(&request, VERSION).await.map_err(|error| error.to_string())?;
            let answer = answer.wait(REQUEST_TIMEOUT_MS).await.and_then(|answer| outcome(&answer));
            let offset =
                answer.map_err(|error| format!("{topic} {place:?} cannot be written to: {error}"))?;
            self.checker.acknowledged(place, offset, &ids, self.checker.cuts());
            // On connections of its own: one that waits for a fetch takes no other request.
            let records = self.read_all(&self.client(), &topic, place, offset + 1).await?;
            self.checker.whole(place, &records);
        }
        let found = client.committed_offsets(&[GROUP.to_owned()]).await.map_err(|error| error.to_string())?;
        if let Some(Ok(offsets)) = found.get(GROUP) {
            for place in self.checker.places() {
                let name = self.checker.with(|model| model.topics.get(&place.topic).map(|t| t.name.clone()));
                if name.as_deref() == Some(SYNCED) {
                    let committed = offsets.get(&(SYNCED.to_owned(), place.partition)).map(|c| c.offset);
                    let now = (self.checker.cuts(), self.checker.now_ms());
                    self.checker.found_committed(GROUP, place, committed, now);
                }
            }
        }
        Ok(())
    }

    async fn read_all(
        &self,
        client: &Arc<Client>,
        topic: &str,
        place: Place,
        end: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, String> {
        let key = (topic.to_owned(), place.partition);
        let listed = client.list_offsets(&BTreeMap::from([(key.clone(), EARLIEST)]), 0).await;
        let mut listed = listed.map_err(|error| error.to_string())?;
        let start = listed.remove(&key).ok_or("no answer")?.map_err(|error| error.to_string())?.offset;
        let mut consumer =
            Consumer::new(client.clone(), ConsumerOptions::default(), BTreeMap::from([(key, start)]));
        let mut records = Vec::new();
        for _ in 0..1000 {
            for record in consumer.next().await.map_err(|error| format!("{topic} {place:?}: {error}"))? {
                records.push((record.offset, record.record.value.unwrap_or_default().to_vec()));
            }
            if records.last().is_some_and(|(offset, _)| offset + 1 >= end) {
                return Ok(records);
            }
        }
        Err(format!("{topic} {place:?} ends after {} records, before {end}", records.len()))
    }
}

pub(crate) enum Delivered {
    Yes,
    TopicGone,
    /// It cannot be, under this producer id.
    No(String),
}

/// Topics go by their ids.
pub(crate) const VERSION: i16 = 13;

/// Records as one batch.
pub(crate) fn batch(now_ms: i64, ids: &[RecordId], options: BatchOptions) -> Bytes {
    let records: Vec<Record> = ids
        .iter()
        .map(|id| Record {
            timestamp: now_ms,
            key: Some(format!("k{}", id.number % 7).into()),
            value: Some(id.value().into()),
            headers: Vec::new(),
        })
        .collect();
    encode(&records, options).expect("small records")
}

pub(crate) fn request(place: Place, bytes: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(place.partition).with_records(Some(bytes));
    let topic = TopicProduceData::default().with_topic_id(place.topic).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(2000).with_topic_data(vec![topic])
}

/// Sends batches of a partition in order, all at once, and takes away those that are acknowledged, or known to be there.
/// Gives an end that sending them again would not change.
pub(crate) async fn send_all(
    checker: &Checker,
    connection: &Connection,
    timeout_ms: u64,
    place: Place,
    waiting: &mut Vec<(Bytes, Vec<RecordId>)>,
    cuts: u64,
) -> Option<Delivered> {
    let mut answers = Vec::new();
    for (bytes, _) in waiting.iter() {
        match connection.start(&request(place, bytes.clone(), -1), VERSION).await {
            Ok(answer) => answers.push(answer),
            Err(_) => break,
        }
    }
    let (mut done, mut has_failed) = (0, false);
    for answer in answers {
        // All are waited for: none may be under way, and overtake the first that failed, when that is sent again.
        let outcome = answer.wait(timeout_ms).await.and_then(|answer| outcome(&answer));
        let Some((_, ids)) = waiting.get(done) else { break };
        match outcome {
            Ok(base_offset) if !has_failed => {
                if base_offset >= 0 {
                    checker.acknowledged(place, base_offset, ids, cuts);
                }
                done += 1;
            }
            // The earlier one may have got in and only its answer be late: all are sent again.
            Ok(_) => {}
            Err(error) => match error.code() {
                // It is there; where, the broker does not know any more.
                Some(ResponseError::DuplicateSequenceNumber) if !has_failed => {
                    checker.with(|model| model.counts.duplicates += 1);
                    done += 1;
                }
                Some(ResponseError::UnknownTopicId | ResponseError::UnknownTopicOrPartition)
                    if checker.is_dying(place) =>
                {
                    return Some(Delivered::TopicGone);
                }
                // Behind one that failed, all are.
                _ if error.is_retriable() || has_failed => has_failed = true,
                _ => return Some(Delivered::No(error.to_string())),
            },
        }
    }
    waiting.drain(..done);
    None
}

/// The offset that a batch got.
pub(crate) fn outcome(answer: &kafka_protocol::messages::ProduceResponse) -> Result<i64, ClientError> {
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let partition = partition.expect("one partition was asked for");
    ClientError::check(partition.error_code, partition.error_message.as_ref().map(|text| text.as_str()))?;
    Ok(partition.base_offset)
}
