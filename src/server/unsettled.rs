//! Which producers' batches a connection has brought that did not get into their logs (or have not yet).
//!
//! A producer sends several batches without waiting. Is the first refused (the partition is not there yet, is led by
//! somebody else, has too few replicas in sync), the producer sends it again, but those behind it are on their way
//! already. Where the log knows the producer, its sequences show that something is missing. Where it does not, Kafka
//! takes any sequence for the first (KIP-360: its state may have expired), and so the second batch would be taken as the
//! producer's first: the retry of the real first is then out of order for ever, and its records are lost.
//!
//! The rule: while a connection has brought a batch of a producer (in one of its epochs) for a partition that is not known
//! to be in the log, other batches of that producer from this connection are taken only where the log knows the
//! producer, as those of a sequence above 0 cannot be its first. The batch itself may come again. That is sound,
//! since requests of one connection are taken in order, and costs nobody anything: a producer whose state has
//! expired has nothing unsettled, and one that gives a batch up begins a new epoch. Who connects anew sends what was
//! not acknowledged from the first on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::protocol::batch::BatchHeader;
use crate::protocol::produce::TopicReference;

/// Most partitions and producers that are kept in mind of a connection; beyond them it is as in Kafka.
const ENTRIES_MAX: usize = 1024;

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    is_any: AtomicBool,
    batches: Mutex<BTreeMap<Key, Batch>>,
}

/// A partition and a producer. (A topic is called by its name or by its id, never by both on one connection.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    topic: String,
    index: i32,
    producer_id: i64,
}

/// The first batch that is not known to be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    epoch: i16,
    base_sequence: i32,
}

impl Key {
    pub(super) fn of(topic: &TopicReference, index: i32, header: &BatchHeader) -> Self {
        let topic = match topic {
            TopicReference::Name(name) => name.to_string(),
            TopicReference::Id(id) => id.to_string(),
        };
        Self { topic, index, producer_id: header.producer_id }
    }
}

impl Unsettled {
    /// Whether a batch may be taken only where the log knows its producer.
    pub(super) fn must_be_known(&self, topic: &TopicReference, index: i32, header: &BatchHeader) -> bool {
        self.is_any.load(Ordering::Acquire)
            && self.batches.lock().get(&Key::of(topic, index, header)).is_some_and(|first| {
                first.epoch == header.producer_epoch && first.base_sequence != header.base_sequence
            })
    }

    /// A batch is not in the log, or it is not known yet.
    pub(super) fn note(&self, key: Key, header: &BatchHeader) {
        let batch = Batch { epoch: header.producer_epoch, base_sequence: header.base_sequence };
        let mut batches = self.batches.lock();
        let first = batches.entry(key).or_insert(batch);
        if first.epoch != batch.epoch {
            *first = batch;
        }
        if batches.len() > ENTRIES_MAX {
            batches.pop_first();
        }
        self.is_any.store(true, Ordering::Release);
    }

    /// A batch is in the log, which knows the producer from now on.
    pub(super) fn settle(&self, key: &Key) {
        let mut batches = self.batches.lock();
        batches.remove(key);
        self.is_any.store(!batches.is_empty(), Ordering::Release);
    }

    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::protocol::builder::{BatchBuilder, BatchOptions};

    fn header(producer_epoch: i16, base_sequence: i32) -> BatchHeader {
        let options =
            BatchOptions { producer_id: 7, producer_epoch, base_sequence, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        builder.add(1, None, Some(b"v")).unwrap();
        BatchHeader::parse(&builder.build_mut().unwrap()).unwrap()
    }

    #[test]
    fn behind_a_batch_that_was_refused_only_itself_is_taken_of_a_producer_that_the_log_does_not_know() {
        let topic = TopicReference::Name(StrBytes::from_static_str("t"));
        let unsettled = Unsettled::default();
        let must = |index, header: &BatchHeader| unsettled.must_be_known(&topic, index, header);
        let first = header(0, 8);
        assert!(!must(0, &header(0, 12)));
        unsettled.note(Key::of(&topic, 0, &first), &first);
        unsettled.note(Key::of(&topic, 0, &header(0, 12)), &header(0, 12));
        assert!(must(0, &header(0, 12)) && !must(0, &first), "it comes again");
        assert!(!must(1, &header(0, 12)) && !must(0, &header(1, 0)), "another partition, another epoch");
        // The producer has begun a new epoch.
        unsettled.note(Key::of(&topic, 0, &header(1, 0)), &header(1, 0));
        assert!(must(0, &header(1, 3)) && !must(0, &header(0, 12)));
        unsettled.settle(&Key::of(&topic, 0, &first));
        assert!(!must(0, &header(1, 3)) && !unsettled.is_any());
        for index in 0..2000 {
            unsettled.note(Key::of(&topic, index, &first), &first);
        }
        assert_eq!(unsettled.batches.lock().len(), ENTRIES_MAX);
    }
}
