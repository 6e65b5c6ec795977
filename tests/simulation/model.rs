//! What must hold, and everything that was said to clients.
//!
//! | what | where it is promised |
//! |---|---|
//! | an acknowledged record is at its offset with its bytes, after a kill and, where every record is synced (`flush.messages=1`), after a power cut | Kafka's documentation of `acks`, `flush.messages`; ARCHITECTURE.md, promise 1 |
//! | what was read at an offset is read there again | the same |
//! | nothing is in a log twice, and a producer's records are in their order | KIP-98; a producer without idempotence sends once |
//! | nothing is in a log that nobody sent, and its offsets have no gap | |
//! | the high watermark that a client was told does not go back | KIP-101, KIP-207 |
//! | a commit that was acknowledged is what a group finds, or a later one | Kafka's documentation of OffsetCommit |
//! | a topic that was created is there under its id, one that was deleted is not | KIP-516 |
//! | no producer id is given out twice | KIP-98 |
//! | who leads on without being heard of is not asked in vain: what it tells is no older than a session | ARCHITECTURE.md, `partition/lease.rs` |
//!
//! What was acknowledged before a power cut without having been synced is promised no more: it is forgotten here, with the
//! count of power cuts telling what belongs to before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use raftsman::env::sim::trace::{Trace, digest};
use uuid::Uuid;

/// A record, by who sent it and its number there. Odd producers are idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub producer: u32,
    pub number: u32,
}

impl RecordId {
    /// What the record holds: its name, then bytes that follow from it.
    pub(crate) fn value(self) -> Vec<u8> {
        let mut value = format!("p{}/{}/", self.producer, self.number).into_bytes();
        let spread =
            (u64::from(self.producer) << 32 | u64::from(self.number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes = match spread >> 60 {
            0 => 4000,
            _ => (spread >> 40) % 200,
        };
        let filler = spread.to_be_bytes().map(|byte| b'a' + byte % 26);
        let whole = value.len() + bytes as usize;
        value.extend_from_slice(&filler.repeat(bytes as usize / filler.len() + 1));
        value.truncate(whole);
        value
    }

    /// The record that holds this, if it is whole.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (producer, rest) = text.strip_prefix('p')?.split_once('/')?;
        let id = Self { producer: producer.parse().ok()?, number: rest.split_once('/')?.0.parse().ok()? };
        (id.value() == value).then_some(id)
    }
}

/// A partition of one life of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub topic: Uuid,
    pub partition: i32,
}

#[derive(Debug, Default)]
struct Partition {
    sent: BTreeSet<RecordId>,
    /// Offset of each acknowledged record, and the other way round.
    acknowledged: BTreeMap<RecordId, i64>,
    /// What is known to be at an offset: acknowledged or read.
    known: BTreeMap<i64, RecordId>,
    high_watermark: i64,
    /// What it was known to be at least, by time.
    high_watermarks: Vec<(u64, i64)>,
}

impl Partition {
    fn high_watermark_is(&mut self, offset: i64, now_ms: u64) {
        if offset > self.high_watermark {
            self.high_watermark = offset;
            self.high_watermarks.push((now_ms, offset));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub name: String,
    pub partitions: i32,
    /// What is acknowledged outlives the power cuts of this run: it is synced before, or enough replicas have it.
    pub outlives_cuts: bool,
    /// Somebody has asked for its deletion.
    pub is_dying: bool,
}

#[derive(Debug, Default)]
struct Commit {
    /// What was acknowledged, by time.
    acknowledged: Vec<(u64, i64)>,
    attempted: i64,
    /// The first that was not answered and may still be under way, and when it was sent.
    doubtful: Option<(i64, u64)>,
}

/// What has been done so far, for whoever wants to know whether a run was worth it.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Counts {
    pub acknowledged: u64,
    pub unknown: u64,
    pub read: u64,
    pub commits: u64,
    pub topics_created: u64,
    pub topics_deleted: u64,
    /// Batches that were sent again, and found to be there already.
    pub duplicates: u64,
    /// Producers that had to begin anew.
    pub restarts: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub topics: BTreeMap<Uuid, Topic>,
    partitions: BTreeMap<Place, Partition>,
    commits: BTreeMap<(String, Place), Commit>,
    /// Topics whose deletion was acknowledged.
    pub deleted: BTreeSet<Uuid>,
    producer_ids: BTreeSet<(i64, i16)>,
    /// The same of commits.
    pub do_commits_outlive_cuts: bool,
    /// Power cuts so far.
    pub cuts: u64,
    /// Since the last one not every replica has been in sync: what does not outlive power cuts may yet turn out to be lost.
    pub is_cut_open: bool,
    /// Who asks may be told what was true so long ago.
    pub staleness_ms: u64,
    /// The topics are there that stay; faults may begin.
    pub is_set_up: bool,
    pub is_stopping: bool,
    /// The disk fails, so that the broker dies between two changes of it: until then requests may be refused for any reason.
    pub is_disk_dying: bool,
    /// Answers from before may come in until then.
    pub refusals_until_ms: u64,
    next_producer: u32,
    pub counts: Counts,
    violation: Option<String>,
}

#[derive(Debug, Hash)]
enum Said<'a> {
    Acknowledged(&'a Place, RecordId, i64),
    Read(&'a Place, RecordId, i64),
    HighWatermark(&'a Place, i64),
    Committed(&'a str, &'a Place, i64),
    Found(&'a str, &'a Place, i64),
    Violation(&'a str),
}

/// Clones are the same model.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    model: Arc<Mutex<Model>>,
    trace: Trace,
}

/// Longer than any request can be under way: no cut and no pause is as long.
const UNDER_WAY_MS_MAX: u64 = 15_000;

/// The clients' number in the trace.
const CLIENTS: u32 = 99;

impl Checker {
    pub(crate) fn new(trace: Trace, do_commits_outlive_cuts: bool) -> Self {
        Self { model: Arc::new(Mutex::new(Model { do_commits_outlive_cuts, ..Model::default() })), trace }
    }

    pub(crate) fn with<T>(&self, with: impl FnOnce(&mut Model) -> T) -> T {
        with(&mut self.model.lock())
    }

    /// Something that must not be.
    pub(crate) fn violated(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::error!(what, "violation");
        self.trace.note(CLIENTS, &Said::Violation(&what));
        self.model.lock().violation.get_or_insert(what);
    }

    fn violated_if(&self, violation: Option<String>) {
        if let Some(what) = violation {
            self.violated(what);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.model.lock().violation.clone()
    }

    /// Whether a request may be refused for a reason that only a failing disk is.
    pub(crate) fn may_be_refused(&self) -> bool {
        let now_ms = self.trace.now_ms();
        self.with(|model| model.is_disk_dying || now_ms < model.refusals_until_ms)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.model.lock().is_stopping
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.trace.now_ms()
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.model.lock().cuts
    }

    /// The machine has lost power: what was not synced is promised no more.
    pub(crate) fn power_cut(&self) {
        self.with(|model| {
            model.cuts += 1;
            model.is_cut_open = true;
            for (place, partition) in &mut model.partitions {
                if !model.topics.get(&place.topic).is_some_and(|topic| topic.outlives_cuts) {
                    partition.acknowledged.clear();
                    partition.known.clear();
                    partition.high_watermark = 0;
                    partition.high_watermarks.clear();
                }
            }
            if !model.do_commits_outlive_cuts {
                model.commits.values_mut().for_each(|commit| commit.acknowledged.clear());
            }
        });
    }

    /// Whatever the last power cut took is gone by now.
    pub(crate) fn power_cut_is_over(&self) {
        if self.with(|model| model.is_cut_open) {
            self.power_cut();
            self.with(|model| model.is_cut_open = false);
        }
    }

    pub(crate) fn topic_created(&self, id: Uuid, topic: Topic) {
        self.with(|model| {
            for partition in 0..topic.partitions {
                model.partitions.insert(Place { topic: id, partition }, Partition::default());
            }
            model.topics.insert(id, topic);
            model.counts.topics_created += 1;
        });
    }

    pub(crate) fn topic_is_dying(&self, id: Uuid) {
        self.with(|model| {
            if let Some(topic) = model.topics.get_mut(&id) {
                topic.is_dying = true;
            }
        });
    }

    pub(crate) fn topic_deleted(&self, id: Uuid) {
        self.with(|model| {
            model.deleted.insert(id);
            model.counts.topics_deleted += 1;
        });
    }

    /// Whether a partition's topic is being deleted, or is gone.
    pub(crate) fn is_dying(&self, place: Place) -> bool {
        self.with(|model| model.topics.get(&place.topic).is_none_or(|topic| topic.is_dying))
    }

    /// Partitions that may be written to.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.with(|model| {
            let lives = |place: &&Place| model.topics.get(&place.topic).is_some_and(|topic| !topic.is_dying);
            model.partitions.keys().filter(lives).copied().collect()
        })
    }

    /// A number that no producer has had.
    pub(crate) fn new_producer(&self, is_idempotent: bool) -> u32 {
        self.with(|model| {
            model.next_producer += 2;
            model.next_producer + u32::from(is_idempotent)
        })
    }

    pub(crate) fn sent(&self, place: Place, ids: &[RecordId]) {
        self.with(|model| model.partitions.entry(place).or_default().sent.extend(ids));
    }

    pub(crate) fn producer_id(&self, id: i64, epoch: i16) {
        if !self.with(|model| model.producer_ids.insert((id, epoch))) {
            self.violated(format!("producer id {id} with epoch {epoch} was given out twice"));
        }
    }

    /// Whether what was asked when there had been `cuts` power cuts says anything of now.
    fn still_counts(model: &Model, place: Place, cuts: u64) -> bool {
        let topic = model.topics.get(&place.topic);
        let is_uncut = model.cuts == cuts && !model.is_cut_open;
        topic.is_some_and(|topic| !topic.is_dying && (topic.outlives_cuts || is_uncut))
    }

    /// A batch is acknowledged at an offset; `cuts`: power cuts when it was sent.
    pub(crate) fn acknowledged(&self, place: Place, base_offset: i64, ids: &[RecordId], cuts: u64) {
        let violation = self.with(|model| {
            model.counts.acknowledged += ids.len() as u64;
            if !Self::still_counts(model, place, cuts) {
                return None;
            }
            let partition = model.partitions.entry(place).or_default();
            for (id, offset) in ids.iter().zip(base_offset..) {
                self.trace.note(CLIENTS, &Said::Acknowledged(&place, *id, offset));
                if let Some(other) = partition.known.insert(offset, *id).filter(|other| other != id) {
                    return Some(format!(
                        "{place:?}: {id:?} is acknowledged at {offset}, where {other:?} is"
                    ));
                }
                if let Some(other) =
                    partition.acknowledged.insert(*id, offset).filter(|other| *other != offset)
                {
                    return Some(format!("{place:?}: {id:?} is acknowledged at {other} and at {offset}"));
                }
            }
            // It was acknowledged, so it is below the high watermark.
            partition.high_watermark_is(base_offset + ids.len() as i64, self.trace.now_ms());
            None
        });
        self.violated_if(violation);
    }

    /// A consumer has got a record; `cuts`: power cuts when it began to ask.
    pub(crate) fn read(&self, place: Place, offset: i64, value: &[u8], cuts: u64) {
        let Some(id) = RecordId::of(value) else {
            let digest = digest(value);
            return self.violated(format!("{place:?}: nobody wrote what is at {offset} (digest {digest:x})"));
        };
        let violation = self.with(|model| {
            model.counts.read += 1;
            self.trace.note(CLIENTS, &Said::Read(&place, id, offset));
            let counts = Self::still_counts(model, place, cuts);
            let partition = model.partitions.entry(place).or_default();
            if !partition.sent.contains(&id) {
                return Some(format!("{place:?}: {id:?} at {offset} was never sent there"));
            }
            if !counts {
                return None;
            }
            let other = partition.known.insert(offset, id).filter(|other| *other != id);
            other.map(|other| format!("{place:?}: {id:?} is read at {offset}, where {other:?} is"))
        });
        self.violated_if(violation);
    }

    /// A client was told a high watermark; `least`: what it was when the client began to ask.
    pub(crate) fn high_watermark(&self, place: Place, offset: i64, least: i64, cuts: u64) {
        let violation = self.with(|model| {
            if !Self::still_counts(model, place, cuts) {
                return None;
            }
            self.trace.note(CLIENTS, &Said::HighWatermark(&place, offset));
            let partition = model.partitions.entry(place).or_default();
            partition.high_watermark_is(offset, self.trace.now_ms());
            (offset < least)
                .then(|| format!("{place:?}: the high watermark went back from {least} to {offset}"))
        });
        self.violated_if(violation);
    }

    /// A broker that takes itself for the leader says where a partition ends; it was asked at `asked_ms`.
    pub(crate) fn end_is_told(&self, place: Place, offset: i64, asked_ms: u64) {
        let violation = self.with(|model| {
            if !Self::still_counts(model, place, model.cuts) {
                return None;
            }
            let until_ms = asked_ms.saturating_sub(model.staleness_ms);
            let (known_ms, least) = *last_until(&model.partitions.get(&place)?.high_watermarks, until_ms)?;
            (offset < least).then(|| {
                format!("{place:?}: at {asked_ms} a leader is asked, and says {offset}, but {least} was known at {known_ms}")
            })
        });
        self.violated_if(violation);
    }

    pub(crate) fn known_high_watermark(&self, place: Place) -> i64 {
        self.with(|model| model.partitions.get(&place).map_or(0, |partition| partition.high_watermark))
    }

    pub(crate) fn commit_attempted(&self, group: &str, place: Place, offset: i64) {
        self.with(|model| model.commits.entry((group.to_owned(), place)).or_default().attempted = offset);
    }

    pub(crate) fn committed(&self, group: &str, place: Place, offset: i64, cuts: u64) {
        self.with(|model| {
            model.counts.commits += 1;
            if model.do_commits_outlive_cuts || model.cuts == cuts {
                self.trace.note(CLIENTS, &Said::Committed(group, &place, offset));
                let commit = model.commits.entry((group.to_owned(), place)).or_default();
                commit.acknowledged.push((self.trace.now_ms(), offset));
            }
        });
    }

    /// It may come into effect later, and undo a later one.
    pub(crate) fn commit_is_doubtful(&self, group: &str, place: Place, offset: i64) {
        let now_ms = self.trace.now_ms();
        self.with(|model| {
            let commit = model.commits.entry((group.to_owned(), place)).or_default();
            let first = commit.doubtful.map_or(offset, |(first, _)| first);
            commit.doubtful = Some((first, now_ms));
        });
    }

    /// What a group has committed, if anything, as the broker says when nobody commits.
    /// It was asked at `asked_ms`.
    pub(crate) fn found_committed(
        &self,
        group: &str,
        place: Place,
        offset: Option<i64>,
        (cuts, asked_ms): (u64, u64),
    ) {
        let offset = offset.unwrap_or(0);
        let violation = self.with(|model| {
            if !model.do_commits_outlive_cuts && model.cuts != cuts {
                return None;
            }
            self.trace.note(CLIENTS, &Said::Found(group, &place, offset));
            let commit = model.commits.entry((group.to_owned(), place)).or_default();
            commit.doubtful =
                commit.doubtful.filter(|(_, sent_ms)| sent_ms + UNDER_WAY_MS_MAX > self.trace.now_ms());
            let doubtful = commit.doubtful.map_or(i64::MAX, |(first, _)| first);
            let until_ms = asked_ms.saturating_sub(model.staleness_ms);
            let acknowledged = last_until(&commit.acknowledged, until_ms).map_or(0, |(_, offset)| *offset);
            let (least, most) = (acknowledged.min(doubtful), commit.attempted);
            (!(least..=most).contains(&offset)).then(|| {
                format!(
                    "{place:?}: {group} finds {offset}, but {least} was acknowledged and {most} the last try"
                )
            })
        });
        self.violated_if(violation);
    }

    /// The whole of a partition, read when all is quiet.
    pub(crate) fn whole(&self, place: Place, records: &[(i64, Vec<u8>)]) {
        let violation = self.with(|model| {
            let partition = model.partitions.entry(place).or_default();
            let mut last: BTreeMap<u32, RecordId> = BTreeMap::new();
            let mut there: BTreeMap<i64, RecordId> = BTreeMap::new();
            let mut offsets: BTreeMap<RecordId, i64> = BTreeMap::new();
            for ((offset, value), expected) in records.iter().zip(0..) {
                if *offset != expected {
                    return Some(format!("{place:?}: {offset} comes where {expected} was due"));
                }
                let Some(id) = RecordId::of(value).filter(|id| partition.sent.contains(id)) else {
                    return Some(format!("{place:?}: nobody sent what is at {offset}"));
                };
                if let Some(first) = offsets.insert(id, *offset) {
                    return Some(format!("{place:?}: {id:?} is there twice, at {first} and at {offset}"));
                }
                // Requests of a producer without sequences may overtake each other, on two connections.
                let before =
                    last.insert(id.producer, id).filter(|before| *before > id && id.producer % 2 == 1);
                if let Some(before) = before {
                    return Some(format!("{place:?}: {id:?} at {offset} comes after {before:?}"));
                }
                there.insert(*offset, id);
            }
            let missing = partition.known.iter().find(|(offset, id)| there.get(offset) != Some(id));
            missing.map(|(offset, id)| {
                let now = there.get(offset);
                let is_acknowledged = partition.acknowledged.contains_key(id);
                format!("{place:?}: {id:?} was at {offset} (acknowledged: {is_acknowledged}), now {now:?} is")
            })
        });
        self.violated_if(violation);
    }
}

/// The last of what was noted by then.
fn last_until(noted: &[(u64, i64)], until_ms: u64) -> Option<&(u64, i64)> {
    noted.get(noted.partition_point(|(at_ms, _)| *at_ms <= until_ms).checked_sub(1)?)
}
