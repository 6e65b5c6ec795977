//! rdkafka's clients as the checks use them, and a member of a group in a process of its own.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{LIMIT, Outcome, bootstrap, name, now};

pub fn config(more: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap()).set_log_level(RDKafkaLogLevel::Emerg);
    for each in more {
        let (key, value) = each.split_once('=').expect("key=value");
        config.set(key, value);
    }
    config
}

pub fn admin() -> Result<AdminClient<DefaultClientContext>, KafkaError> {
    config(&[]).create()
}

pub fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

pub fn topic(hint: &str, partitions: i32) -> Result<String, Box<dyn std::error::Error>> {
    let given = name(hint);
    let new = NewTopic::new(&given, partitions, TopicReplication::Fixed(1));
    for result in pollster::block_on(admin()?.create_topics(&[new], &options()))? {
        result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(given)
}

/// Keeps what became of each record.
#[derive(Default)]
pub struct Delivered(pub Mutex<Vec<Result<(i32, i64), KafkaError>>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let kept = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("no panic").push(kept);
    }
}

/// A record to be: partition, timestamp and value.
pub type Record = (i32, Option<i64>, Vec<u8>);

/// Sends them; gives where they went, in the order of the reports, or the first error.
pub fn send(topic: &str, records: &[Record], more: &[&str]) -> Result<Vec<(i32, i64)>, KafkaError> {
    let producer: ThreadedProducer<Delivered> =
        config(more).set("message.timeout.ms", "15000").create_with_context(Delivered::default())?;
    for (partition, timestamp, value) in records {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(*partition).payload(value);
        record.timestamp = *timestamp;
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(LIMIT)?;
    let mut all = producer.context().0.lock().expect("no panic");
    std::mem::take(&mut *all).into_iter().collect()
}

/// Sends the values to the partitions in turns.
pub fn spread(topic: &str, partitions: i32, values: &[String]) -> Outcome {
    let record = |(i, value): (usize, &String)| (i as i32 % partitions, None, value.clone().into_bytes());
    send(topic, &values.iter().enumerate().map(record).collect::<Vec<_>>(), &["linger.ms=1"])?;
    Ok(())
}

pub fn consumer(group: &str, more: &[&str]) -> Result<BaseConsumer, KafkaError> {
    let mut settings = vec![
        "enable.auto.commit=false",
        "auto.offset.reset=earliest",
        "session.timeout.ms=5000",
        "heartbeat.interval.ms=200",
    ];
    settings.extend(more);
    config(&settings).set("group.id", group).create()
}

pub fn value(message: &BorrowedMessage<'_>) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

pub fn poll(reader: &BaseConsumer, count: usize) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (mut values, end) = (Vec::new(), Instant::now() + LIMIT);
    while values.len() < count {
        if Instant::now() > end {
            return Err(format!("{} of {count} messages came", values.len()).into());
        }
        if let Some(message) = reader.poll(Duration::from_millis(100)) {
            values.push(value(&message?));
        }
    }
    Ok(values)
}

pub fn positions(topic: &str, all: &[(i32, Offset, &str)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in all {
        let mut each = list.add_partition(topic, *partition);
        each.set_offset(*offset)?;
        if !metadata.is_empty() {
            each.set_metadata(*metadata);
        }
    }
    Ok(list)
}

/// Partition, offset and metadata of each.
pub type Told = Vec<(i32, Offset, String)>;

pub fn told(list: &TopicPartitionList) -> Told {
    list.elements().iter().map(|each| (each.partition(), each.offset(), each.metadata().to_owned())).collect()
}

/// The call must fail with this error of Kafka.
pub fn fails<T>(code: RDKafkaErrorCode, result: Result<T, KafkaError>) -> Outcome {
    match result {
        Ok(_) => Err(format!("wanted {code:?}, but it succeeded").into()),
        Err(error) if error.rdkafka_error_code() == Some(code) => Ok(()),
        Err(error) => Err(format!("wanted {code:?}, got {error}").into()),
    }
}

/// Tells of its assignments, and commits before it gives something up.
struct Telling;

impl ClientContext for Telling {}

impl ConsumerContext for Telling {
    fn pre_rebalance(&self, reader: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            if !reader.assignment_lost() {
                let _ = reader.commit_consumer_state(CommitMode::Sync);
            }
            println!("revoked {} {}", now(), joined(list));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            println!("assigned {} {}", now(), joined(list));
        }
    }
}

fn joined(list: &TopicPartitionList) -> String {
    list.elements().iter().map(|each| each.partition().to_string()).collect::<Vec<_>>().join(",")
}

/// What a process of its own does (see `Member`): reads, tells, commits, until its input ends.
pub fn member(group: &str, topic: &str, more: &[&str]) -> Outcome {
    static LEAVES: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        LEAVES.store(true, Ordering::Relaxed);
    });
    let mut settings = vec![
        "enable.auto.commit=false",
        "auto.offset.reset=earliest",
        "session.timeout.ms=3000",
        "heartbeat.interval.ms=200",
    ];
    settings.extend(more);
    let reader: BaseConsumer<Telling> =
        config(&settings).set("group.id", group).create_with_context(Telling)?;
    reader.subscribe(&[topic])?;
    let mut uncommitted = 0;
    while !LEAVES.load(Ordering::Relaxed) {
        match reader.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                println!("value {}", value(&message));
                uncommitted += 1;
            }
            Some(Err(_)) => {} // the broker is away; who watches sees what matters
            None if uncommitted > 0 => {
                // When it fails another generation has begun, and the records are read again.
                let _ = reader.commit_consumer_state(CommitMode::Sync);
                uncommitted = 0;
            }
            None => {}
        }
    }
    let _ = reader.commit_consumer_state(CommitMode::Sync);
    Ok(())
}
