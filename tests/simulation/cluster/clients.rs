//! Those who use the cluster, over the wire and by the project's own client: each is a task that does its part until
//! the run is stopping, and tells the [`Checker`] what it was told.
//!
//! Producers go on sending to the leader that they know until it answers otherwise, as Kafka's do: so a leader of before
//! that comes back finds work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProducerId,
};
use raftsman::client::admin::LATEST;
use raftsman::client::committed::{Committed, Offsets};
use raftsman::client::consumer::{Consumer, ConsumerOptions};
use raftsman::client::records::Compression;
use raftsman::client::{Client, ClientError, ClientOptions, Connection, text, topic_name};
use raftsman::env::Surroundings;
use raftsman::protocol::builder::BatchOptions;
use tokio::time::sleep;
use uuid::Uuid;

use super::Promise;
use crate::clients::{Delivered, VERSION, batch, outcome, request, send_all};
use crate::model::{Checker, Place, RecordId, Topic};

/// `min.insync.replicas` is 2 for the first, 1 for the other.
const STRICT: &str = "strict";
pub(super) const RELAXED: &str = "relaxed";
const PARTITIONS: i32 = 2;
const GROUP: &str = "accountants";
const REQUEST_TIMEOUT_MS: u64 = 2500;
/// A topic's partitions have three replicas, whatever the count of nodes.
const REPLICAS: i16 = 3;

#[derive(Clone)]
pub(super) struct Workers {
    pub surroundings: Surroundings,
    pub checker: Checker,
    pub promise: Promise,
    pub nodes: usize,
}

/// A client that remembers who leads.
struct Producer {
    client: Arc<Client>,
    leaders: BTreeMap<Place, i32>,
}

impl Producer {
    async fn leader(&mut self, checker: &Checker, place: Place) -> Result<Connection, ClientError> {
        if let Some(id) = self.leaders.get(&place) {
            return self.client.broker(*id).await;
        }
        let name = checker.with(|model| model.topics.get(&place.topic).map(|topic| topic.name.clone()));
        let none = || ClientError::NoLeader(format!("{place:?}"));
        let name = name.ok_or_else(none)?;
        let topic = self.client.topic_once(&name).await?.ok_or_else(none)?;
        let partition = topic.partitions.iter().find(|found| found.index == place.partition);
        let id = partition.and_then(|partition| partition.leader).ok_or_else(none)?;
        self.leaders.insert(place, id);
        self.client.broker(id).await
    }
}

impl Workers {
    /// A client that begins at a broker of its own choice.
    fn client(&self) -> Arc<Client> {
        let first = self.below(self.nodes);
        let servers = (0..self.nodes).map(|at| format!("10.0.0.{}:9092", 1 + (first + at) % self.nodes));
        let options = ClientOptions {
            bootstrap_servers: servers.collect(),
            client_id: "simulation".to_owned(),
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            api_timeout_ms: 8000,
            retry_backoff_ms: 50,
            retry_backoff_max_ms: 500,
        };
        Arc::new(Client::new(options, &self.surroundings).expect("the options are right"))
    }

    fn producer(&self) -> Producer {
        Producer { client: self.client(), leaders: BTreeMap::new() }
    }

    /// Whoever leads is asked for anew; at times of another broker, as the one that was asked may be cut off from the others.
    fn forget(&self, leaders: &mut Producer, place: Place) {
        leaders.leaders.remove(&place);
        if self.below(3) == 0 {
            *leaders = self.producer();
        }
    }

    fn below(&self, bound: usize) -> usize {
        self.surroundings.chance.below(bound)
    }

    async fn pause(&self, most_ms: usize) {
        sleep(Duration::from_millis(self.below(most_ms) as u64)).await;
    }

    /// Everybody, until all have ended.
    pub(super) async fn run(self) -> Result<(), String> {
        let client = self.client();
        for (name, least) in [(STRICT, 2), (RELAXED, 1)] {
            while self.create(&client, name, PARTITIONS, (REPLICAS, least)).await.is_none() {
                self.pause(500).await;
            }
        }
        // What commits are written to is made when it is asked for.
        while !matches!(client.find_coordinators(&[GROUP]).await, Ok(found) if found.values().all(Result::is_ok))
        {
            self.pause(200).await;
        }
        self.checker.with(|model| model.is_set_up = true);
        let (local, mut tasks) = (tokio::task::LocalSet::new(), tokio::task::JoinSet::new());
        tasks.spawn_local_on(self.clone().produce_plainly(), &local);
        for in_flight in [1, 1, 4] {
            tasks.spawn_local_on(self.clone().produce_once(in_flight), &local);
        }
        for name in [STRICT, RELAXED] {
            tasks.spawn_local_on(self.clone().consume(name), &local);
            tasks.spawn_local_on(self.clone().watch_end(name), &local);
        }
        tasks.spawn_local_on(self.clone().ask_around(), &local);
        tasks.spawn_local_on(self.clone().commit(), &local);
        tasks.spawn_local_on(self.clone().administer(), &local);
        tasks.spawn_local_on(self.clone().move_partitions(), &local);
        local
            .run_until(async {
                while let Some(ended) = tasks.join_next().await {
                    ended.map_err(|error| error.to_string())?;
                }
                Ok(())
            })
            .await
    }

    /// Creates a topic that is not there. What became of it when the answer was lost is not known.
    async fn create(
        &self,
        client: &Client,
        name: &str,
        partitions: i32,
        (replicas, min_insync_replicas): (i16, i32),
    ) -> Option<Uuid> {
        let configs = [
            ("segment.ms", (500 + self.below(4000)).to_string()),
            ("min.insync.replicas", min_insync_replicas.to_string()),
        ];
        let configs = configs.into_iter().map(|(key, value)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(2000);
        let asked: Result<Uuid, ClientError> = async {
            let response = client.controller().await?.call(&request).await?;
            let result = response.topics.first().expect("one topic was asked for");
            ClientError::check(result.error_code, result.error_message.as_deref())?;
            Ok(result.topic_id)
        }
        .await;
        match asked {
            Ok(id) => {
                let outlives_cuts = self.promise != Promise::Minority || min_insync_replicas > 1;
                let topic = Topic { name: name.to_owned(), partitions, outlives_cuts, is_dying: false };
                self.checker.topic_created(id, topic);
                Some(id)
            }
            Err(error) => {
                // There are as many brokers as replicas, and some of them are gone.
                let is_short = error.code() == Some(ResponseError::InvalidReplicationFactor);
                if !error.is_retriable() && !is_short {
                    self.checker.violated(format!("{name} cannot be created: {error}"));
                }
                None
            }
        }
    }

    /// Creates so many topics, one after the other.
    pub(super) async fn create_many(self, count: u32) -> Result<(), String> {
        let client = self.client();
        for number in 0..count {
            while self.create(&client, &format!("many-{number}"), 1, (2, 1)).await.is_none() {
                self.pause(100).await;
            }
        }
        Ok(())
    }

    /// Creates and deletes topics.
    async fn administer(self) {
        let client = self.client();
        let mut names = 0;
        let mut topics: Vec<(String, Uuid)> = Vec::new();
        while !self.checker.is_stopping() {
            self.pause(1500).await;
            if topics.len() < 2 {
                let (name, least) = (format!("passing-{names}"), 1 + self.below(2) as i32);
                names += 1;
                let created = self.create(&client, &name, 1, (REPLICAS, least)).await;
                topics.extend(created.map(|id| (name, id)));
            } else {
                let (name, id) = topics.remove(self.below(topics.len()));
                self.delete(&client, &name, id).await;
            }
        }
    }

    async fn delete(&self, client: &Client, name: &str, id: Uuid) {
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
            Ok(()) => self.checker.topic_deleted(id),
            Err(error) if !error.is_retriable() => {
                self.checker.violated(format!("{name} cannot be deleted: {error}"));
            }
            Err(_) => {}
        }
    }

    /// Elects preferred leaders, and gives partitions other replicas, or the same in another order.
    async fn move_partitions(self) {
        let client = self.client();
        while !self.checker.is_stopping() {
            self.pause(2500).await;
            let Some(place) = self.any_place() else { continue };
            let Some(name) = self.name(place) else { continue };
            let Ok(connection) = client.controller().await else { continue };
            // What comes of it shows in what becomes of the records: most errors are in order while nodes are gone.
            if self.below(2) == 0 {
                let partitions = TopicPartitions::default()
                    .with_topic(topic_name(&name))
                    .with_partitions(vec![place.partition]);
                let request = ElectLeadersRequest::default()
                    .with_topic_partitions(Some(vec![partitions]))
                    .with_timeout_ms(2000);
                _ = connection.call(&request).await;
            } else {
                let mut nodes: Vec<i32> = (1..=self.nodes as i32).collect();
                for at in (1..nodes.len()).rev() {
                    nodes.swap(at, self.below(at + 1));
                }
                nodes.truncate(REPLICAS as usize);
                let partition = ReassignablePartition::default()
                    .with_partition_index(place.partition)
                    .with_replicas(Some(nodes.into_iter().map(BrokerId).collect()));
                let topic = ReassignableTopic::default()
                    .with_name(topic_name(&name))
                    .with_partitions(vec![partition]);
                let request = AlterPartitionReassignmentsRequest::default()
                    .with_topics(vec![topic])
                    .with_timeout_ms(2000);
                _ = connection.call(&request).await;
            }
        }
    }

    fn any_place(&self) -> Option<Place> {
        let places = self.checker.places();
        places.get(self.below(places.len())).copied()
    }

    fn name(&self, place: Place) -> Option<String> {
        self.checker.with(|model| model.topics.get(&place.topic).map(|topic| topic.name.clone()))
    }

    fn batch(&self, ids: &[RecordId], options: BatchOptions) -> Bytes {
        batch(self.surroundings.clock.now_ms(), ids, options)
    }

    /// Each batch is sent once, whatever becomes of it.
    async fn produce_plainly(self) {
        let mut leaders = self.producer();
        let producer = self.checker.new_producer(false);
        let mut number = 0;
        while !self.checker.is_stopping() {
            self.pause(120).await;
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
                let connection = leaders.leader(&self.checker, place).await?;
                if acks == 0 {
                    connection.send_only(&request, VERSION).await?;
                    return Ok(None);
                }
                let answer = connection.start(&request, VERSION).await?.wait(REQUEST_TIMEOUT_MS).await?;
                outcome(&answer).map(Some)
            }
            .await;
            match sent {
                // Only what all in-sync replicas have is promised.
                Ok(Some(base_offset)) if acks == -1 => {
                    self.checker.acknowledged(place, base_offset, &ids, cuts);
                }
                Ok(_) => {}
                Err(error) => {
                    self.forget(&mut leaders, place);
                    self.checker.with(|model| model.counts.unknown += ids.len() as u64);
                    if !error.is_retriable() && !self.checker.is_dying(place) {
                        self.checker.violated(format!("{place:?}: a batch was refused: {error}"));
                    }
                    self.pause(200).await;
                }
            }
        }
    }

    /// Idempotent: what is not acknowledged is sent again until it is, `in_flight` batches at a time.
    async fn produce_once(self, in_flight: usize) {
        let mut leaders = self.producer();
        'anew: while !self.checker.is_stopping() {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let response = match leaders.client.call_any(&request).await {
                Ok(response) if response.error_code == 0 => response,
                _ => {
                    self.pause(200).await;
                    continue;
                }
            };
            let identity = (response.producer_id.0, response.producer_epoch);
            self.checker.producer_id(identity.0, identity.1);
            let producer = self.checker.new_producer(true);
            let (mut number, mut sequences) = (0, BTreeMap::<Place, i32>::new());
            while !self.checker.is_stopping() {
                self.pause(100).await;
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
                match self.deliver(&mut leaders, place, waiting, cuts).await {
                    Delivered::Yes => {}
                    Delivered::TopicGone => drop(sequences.remove(&place)),
                    Delivered::No(error) => {
                        self.checker.with(|model| model.counts.restarts += 1);
                        let was_cut = !self.checker.with(|model| {
                            model.topics.get(&place.topic).is_some_and(|topic| topic.outlives_cuts)
                                || model.cuts == 0
                        });
                        // What a power cut took is missing in the sequence. With several batches under way, a broker
                        // knows only the last of them after a restart (as Kafka does, whose snapshots hold no more).
                        if !was_cut && in_flight == 1 {
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
        leaders: &mut Producer,
        place: Place,
        mut waiting: Vec<(Bytes, Vec<RecordId>)>,
        cuts: u64,
    ) -> Delivered {
        let mut rounds = 0;
        while !waiting.is_empty() {
            rounds += 1;
            if rounds > 1 {
                self.forget(leaders, place);
                self.pause(200).await;
            }
            let connection = match leaders.leader(&self.checker, place).await {
                Ok(connection) => connection,
                Err(_) if self.checker.is_dying(place) => return Delivered::TopicGone,
                Err(_) => continue,
            };
            if let Some(end) =
                send_all(&self.checker, &connection, REQUEST_TIMEOUT_MS, place, &mut waiting, cuts).await
            {
                return end;
            }
        }
        Delivered::Yes
    }

    fn place(&self, name: &str, partition: i32) -> Place {
        self.checker.with(|model| {
            let found = model.topics.iter().find(|(_, topic)| topic.name == name);
            Place { topic: *found.expect("it was created").0, partition }
        })
    }

    fn outlives_cuts(&self, place: Place) -> bool {
        self.checker.with(|model| model.topics.get(&place.topic).is_some_and(|topic| topic.outlives_cuts))
    }

    fn is_cut_open(&self) -> bool {
        self.checker.with(|model| model.is_cut_open)
    }

    /// Reads a topic from its beginning and on; begins anew now and then.
    async fn consume(self, name: &'static str) {
        let client = self.client();
        let topic = self.place(name, 0);
        let outlives_cuts = self.outlives_cuts(topic);
        while !self.checker.is_stopping() {
            let starts = (0..PARTITIONS).map(|partition| ((name.to_owned(), partition), 0)).collect();
            let options = ConsumerOptions {
                fetch_max_wait_ms: 200,
                reset_to: None,
                unreachable_timeout_ms: 120_000,
                ..ConsumerOptions::default()
            };
            let mut consumer = Consumer::new(client.clone(), options, starts);
            let begun = self.checker.cuts();
            while !self.checker.is_stopping() {
                if (self.checker.cuts() != begun || self.is_cut_open()) && !outlives_cuts {
                    self.pause(200).await;
                    // What it has read may be gone: begin again.
                    break;
                }
                match consumer.next().await {
                    Ok(records) => {
                        for record in records {
                            let place = Place { partition: record.partition, ..topic };
                            let value = record.record.value.unwrap_or_default();
                            self.checker.read(place, record.offset, &value, begun);
                        }
                    }
                    Err(error) => {
                        if outlives_cuts || self.checker.cuts() == begun && !self.is_cut_open() {
                            self.checker.violated(format!("{name} cannot be consumed: {error}"));
                            return;
                        }
                        break;
                    }
                }
                if self.below(8) == 0 {
                    self.pause(300).await;
                }
                if self.below(60) == 0 {
                    break;
                }
            }
        }
    }

    /// Asks leaders where a partition ends, as one consumer does that never goes back to an earlier leader epoch.
    async fn watch_end(self, name: &'static str) {
        let client = self.client();
        let place = self.place(name, 0);
        let (mut known, mut epoch, mut cuts) = (0, 0, self.checker.cuts());
        while !self.checker.is_stopping() {
            self.pause(200).await;
            let asked: Result<Option<(i64, i32)>, ClientError> = async {
                let Some(topic) = client.topic_once(name).await? else { return Ok(None) };
                let Some(partition) = topic.partitions.first() else { return Ok(None) };
                let Some(leader) = partition.leader.filter(|_| partition.leader_epoch >= epoch) else {
                    return Ok(None);
                };
                let epoch = partition.leader_epoch;
                let connection = client.broker(leader).await?;
                let wanted = FetchPartition::default()
                    .with_partition(place.partition)
                    .with_current_leader_epoch(epoch)
                    .with_fetch_offset(known)
                    .with_partition_max_bytes(1);
                let topic = FetchTopic::default().with_topic_id(place.topic).with_partitions(vec![wanted]);
                let request = FetchRequest::default()
                    .with_session_epoch(-1)
                    .with_max_bytes(1)
                    .with_max_wait_ms(0)
                    .with_topics(vec![topic]);
                let response = connection.call(&request).await?;
                ClientError::check(response.error_code, None)?;
                let answer = response.responses.first().and_then(|topic| topic.partitions.first());
                let answer = answer.expect("one partition was asked for");
                ClientError::check(answer.error_code, None)?;
                Ok(Some((answer.high_watermark, epoch)))
            }
            .await;
            let now = self.checker.cuts();
            let is_cut = std::mem::replace(&mut cuts, now) != now || self.is_cut_open();
            if is_cut && !self.outlives_cuts(place) {
                known = 0;
                continue;
            }
            match asked {
                Ok(Some((high_watermark, of_epoch))) => {
                    self.checker.high_watermark(place, high_watermark, known, cuts);
                    (known, epoch) = (high_watermark, of_epoch);
                }
                Ok(None) => {}
                Err(error) if error.code() == Some(ResponseError::OffsetOutOfRange) => {
                    self.checker.violated(format!("{place:?}: {known} was its end, and is out of range now"));
                }
                Err(_) => {}
            }
        }
    }

    /// Asks any broker, whoever leads by anybody's metadata, where partitions end: who does not lead any more does not say.
    async fn ask_around(self) {
        let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
        while !self.checker.is_stopping() {
            self.pause(150).await;
            let node = 1 + self.below(self.nodes);
            let place = self.place(if self.below(2) == 0 { STRICT } else { RELAXED }, self.below(2) as i32);
            let Some(name) = self.name(place) else { continue };
            if !connections.get(&node).is_some_and(Connection::is_open) {
                let (network, address) = (&*self.surroundings.network, format!("10.0.0.{node}:9092"));
                let limit = Duration::from_millis(500);
                match Connection::open(network, &address, "around", limit, REQUEST_TIMEOUT_MS).await {
                    Ok(connection) => drop(connections.insert(node, connection)),
                    Err(_) => continue,
                }
            }
            let Some(connection) = connections.get(&node) else { continue };
            let wanted = ListOffsetsPartition::default()
                .with_partition_index(place.partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(LATEST);
            let topic =
                ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(vec![wanted]);
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let asked_ms = self.checker.now_ms();
            let Ok(response) = connection.call(&request).await else { continue };
            let answer = response.topics.first().and_then(|topic| topic.partitions.first());
            if let Some(answer) = answer.filter(|answer| answer.error_code == 0) {
                self.checker.end_is_told(place, answer.offset, asked_ms);
            }
        }
    }

    /// Commits for a group, and looks at what is committed.
    async fn commit(self) {
        let client = self.client();
        let mut next = vec![1i64; PARTITIONS as usize];
        while !self.checker.is_stopping() {
            self.pause(250).await;
            let partition = self.below(PARTITIONS as usize);
            let place = self.place(STRICT, partition as i32);
            let key = (STRICT.to_owned(), partition as i32);
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

    /// When all faults have stopped: topics are there or gone as was said, all can be written to, and all that must be
    /// there is.
    pub(super) async fn heal(self) -> Result<(), String> {
        let client = self.client();
        let mut leaders = self.producer();
        let producer = self.checker.new_producer(false);
        let found = client.all_topics().await.map_err(|error| error.to_string())?;
        self.checker.with(|model| {
            let is_there = |id: &Uuid| found.iter().any(|topic| topic.id == *id);
            for (id, topic) in &model.topics {
                if !topic.is_dying && !is_there(id) {
                    return Err(format!("{} was created, and is not there", topic.name));
                }
                if model.deleted.contains(id) && is_there(id) {
                    return Err(format!("{} was deleted, and is there", topic.name));
                }
            }
            Ok(())
        })?;
        let mut number = 0;
        for place in self.checker.places() {
            let Some(topic) = self.name(place) else { continue };
            // A preferred leader may just take over.
            for attempt in 0.. {
                let ids = [RecordId { producer, number }];
                number += 1;
                self.checker.sent(place, &ids);
                let written = async {
                    let connection = leaders.leader(&self.checker, place).await?;
                    let request = request(place, self.batch(&ids, BatchOptions::default()), -1);
                    let answer = connection.start(&request, VERSION).await?.wait(REQUEST_TIMEOUT_MS).await?;
                    outcome(&answer)
                };
                match written.await {
                    Ok(offset) => {
                        self.checker.acknowledged(place, offset, &ids, self.checker.cuts());
                        break;
                    }
                    Err(error) if attempt < 10 && error.is_retriable() => {
                        leaders.leaders.remove(&place);
                        self.pause(500).await;
                    }
                    Err(error) => return Err(format!("{topic} {place:?} cannot be written to: {error}")),
                }
            }
        }
        let found = client.committed_offsets(&[GROUP.to_owned()]).await.map_err(|error| error.to_string())?;
        if let Some(Ok(offsets)) = found.get(GROUP) {
            for partition in 0..PARTITIONS {
                let committed = offsets.get(&(STRICT.to_owned(), partition)).map(|c| c.offset);
                let place = self.place(STRICT, partition);
                let now = (self.checker.cuts(), self.checker.now_ms());
                self.checker.found_committed(GROUP, place, committed, now);
            }
        }
        Ok(())
    }
}
