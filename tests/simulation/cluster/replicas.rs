//! What can be seen inside of the nodes, whatever clients were told.
//!
//! | what must hold | where it is promised |
//! |---|---|
//! | no two nodes act as the leader of a partition in one leader epoch | KIP-101, KIP-279: an epoch names one leader; ARCHITECTURE.md, "Nothing old can write" |
//! | in-sync and leading replicas are replicas; the partition epoch names one state on all nodes | KIP-497, KIP-966, `metadata::MetadataImage::check` |
//! | the high watermark of a leader never falls within its epoch, and is within its log | KIP-101; ARCHITECTURE.md, "The high watermark never falls while a leader leads" |
//! | after healing the same bytes are at the same offset in the logs of all replicas | KIP-101, "log divergence" |
//! | after healing each acknowledged record is there once, at its offset ([`crate::model`]) on all of them | Kafka's documentation of `acks` and `min.insync.replicas` |

use std::collections::BTreeMap;
use std::sync::Arc;

use raftsman::metadata::{MetadataImage, PartitionImage};
use raftsman::partition::Partition;
use raftsman::protocol::batch::batches;
use raftsman::server::Broker;
use raftsman::types::{LeaderEpoch, Offset, TopicId};

use super::nodes::Nodes;
use crate::model::{Checker, Place};

/// How often the nodes are looked into.
const LOOK_MS: u64 = 20;
/// What is taken out of a log at a time.
const READ_BYTES: usize = 1 << 20;

type Index = (TopicId, i32);

/// The replicas of each partition, with their nodes' places.
type Replicas = BTreeMap<Index, Vec<(usize, Arc<Partition>)>>;

pub(super) struct Observer {
    checker: Checker,
    next_ms: u64,
    /// Who led, in each epoch, and how far its high watermark was.
    leaders: BTreeMap<(Index, LeaderEpoch), (usize, Offset)>,
    /// Each partition by its epoch, as some node knew it.
    states: BTreeMap<(Index, i32), Arc<PartitionImage>>,
    seen: BTreeMap<usize, u64>,
}

impl Observer {
    pub(super) fn new(checker: Checker) -> Self {
        Self { checker, next_ms: 0, leaders: BTreeMap::new(), states: BTreeMap::new(), seen: BTreeMap::new() }
    }

    pub(super) fn look(&mut self, nodes: &Nodes, now_ms: u64) -> Result<(), String> {
        if now_ms < self.next_ms {
            return Ok(());
        }
        self.next_ms = now_ms + LOOK_MS;
        for (at, broker) in nodes.serving() {
            for partition in broker.partitions.partitions() {
                self.look_at(at, &partition)?;
            }
            let index = broker.quorum.applied_index();
            if self.seen.insert(at, index) != Some(index) {
                self.look_at_image(at, &broker.image())?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, at: usize, partition: &Partition) -> Result<(), String> {
        let replica = partition.replica();
        if !replica.is_leader() {
            return Ok(());
        }
        let (epoch, high_watermark) = (replica.leader_epoch(), replica.high_watermark());
        let (start, end) = (partition.log.log_start_offset(), partition.log.log_end_offset());
        let name = &partition.name;
        if !(start..=end).contains(&high_watermark) {
            return Err(format!(
                "{name}: the high watermark {high_watermark} of node {} is not in its log, {start} to {end}",
                at + 1
            ));
        }
        let key = ((partition.topic.id, name.partition), epoch);
        match self.leaders.insert(key, (at, high_watermark)) {
            Some((other, _)) if other != at => Err(format!(
                "{name}: nodes {} and {} both act as its leader in epoch {epoch}",
                other + 1,
                at + 1
            )),
            Some((_, before)) if high_watermark < before => Err(format!(
                "{name}: the high watermark of node {} falls from {before} to {high_watermark} in epoch {epoch}",
                at + 1
            )),
            _ => Ok(()),
        }
    }

    fn look_at_image(&mut self, at: usize, image: &MetadataImage) -> Result<(), String> {
        for topic in image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let name = format!("{}-{index} as node {} knows it", topic.name, at + 1);
                let is_replica = |node| partition.replicas.contains(node);
                if !partition.isr.iter().all(is_replica) {
                    return Err(format!(
                        "{name}: in sync are {:?} of {:?}",
                        partition.isr, partition.replicas
                    ));
                }
                if !partition.leader.iter().all(|leader| partition.isr.contains(leader)) {
                    return Err(format!(
                        "{name}: it is led by {:?} of {:?}",
                        partition.leader, partition.isr
                    ));
                }
                let key = ((topic.id, index), partition.partition_epoch);
                let first = self.states.entry(key).or_insert_with(|| {
                    let PartitionImage { isr, leader, leader_epoch, partition_epoch, .. } = &**partition;
                    let (replicas, eligible) = (&partition.replicas, &partition.eligible_leader_replicas);
                    tracing::debug!(name, ?leader, %leader_epoch, partition_epoch, ?isr, ?eligible, ?replicas, "seen");
                    partition.clone()
                });
                if **first != **partition {
                    return Err(format!("{name}: {partition:?}, and elsewhere {first:?}, in one epoch"));
                }
            }
        }
        Ok(())
    }

    /// The newest metadata that any node serves by, once all nodes serve.
    fn image(nodes: &Nodes) -> Option<(Arc<MetadataImage>, Vec<Arc<Broker>>)> {
        let brokers: Vec<_> = nodes.serving().map(|(_, broker)| broker).collect();
        if brokers.len() < nodes.count() {
            return None;
        }
        let newest = brokers.iter().max_by_key(|broker| broker.quorum.applied_index())?.image();
        Some((newest, brokers))
    }

    /// Every node serves, is known as the process that it is, and every partition has all its replicas in sync and a leader.
    pub(super) fn is_healed(&self, nodes: &Nodes) -> bool {
        let Some((image, brokers)) = Self::image(nodes) else { return false };
        let is_known = |broker: &Arc<Broker>| {
            image
                .broker(broker.node)
                .is_some_and(|known| known.is_active() && known.epoch == broker.identity().epoch)
        };
        brokers.iter().all(is_known)
            && image.topics().flat_map(|topic| &topic.partitions).all(|partition| {
                partition.leader.is_some()
                    && partition.isr.len() == partition.replicas.len()
                    && partition.adding_replicas.is_empty()
                    && partition.removing_replicas.is_empty()
            })
    }

    /// A node that leads something that clients write to.
    pub(super) fn any_leader(&self, nodes: &Nodes) -> Option<usize> {
        let (image, _) = Self::image(nodes)?;
        let mut partitions =
            image.topics().filter(|topic| !topic.is_internal()).flat_map(|topic| &topic.partitions);
        let leader = partitions.find_map(|partition| partition.leader)?;
        usize::try_from(leader.0 - 1).ok()
    }

    pub(super) fn leader_of(&self, nodes: &Nodes, topic: &str) -> Option<usize> {
        let (image, _) = Self::image(nodes)?;
        let leader = image.partition(topic, 0)?.leader?;
        usize::try_from(leader.0 - 1).ok()
    }

    /// What keeps the cluster from being healed.
    pub(super) fn trouble(&self, nodes: &Nodes) -> String {
        let Some((image, _)) = Self::image(nodes) else {
            let serving: Vec<_> = nodes.serving().map(|(at, _)| at + 1).collect();
            return format!("only nodes {serving:?} serve");
        };
        let brokers = image.brokers().values().filter(|broker| !broker.is_active()).map(|broker| broker.id);
        let partitions = image.topics().flat_map(|topic| {
            let name = topic.name.clone();
            (0..).zip(&topic.partitions).filter_map(move |(index, partition)| {
                let is_whole = partition.leader.is_some() && partition.isr.len() == partition.replicas.len();
                (!is_whole).then(|| format!("{name}-{index}: {partition:?}"))
            })
        });
        format!(
            "not active: {:?}, not in sync: {:?}",
            brokers.collect::<Vec<_>>(),
            partitions.collect::<Vec<_>>()
        )
    }

    /// All replicas of each partition.
    fn replicas(nodes: &Nodes) -> Option<Replicas> {
        let (image, brokers) = Self::image(nodes)?;
        let mut all = Replicas::new();
        for topic in image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let mut replicas = Vec::new();
                for node in &partition.replicas {
                    let broker = brokers.iter().find(|broker| broker.node == *node)?;
                    let held = broker.partitions.topic_by_id(topic.id)?.partition(index).ok()?;
                    replicas.push((usize::try_from(node.0).ok()? - 1, held));
                }
                all.insert((topic.id, index), replicas);
            }
        }
        Some(all)
    }

    /// Everything that was written is on every replica, and known to be committed.
    pub(super) fn is_quiet(&self, nodes: &Nodes) -> bool {
        let Some(all) = Self::replicas(nodes) else { return false };
        all.values().all(|replicas| {
            let ends = |partition: &Partition| (partition.log.log_end_offset(), partition.high_watermark());
            let (end, _) = ends(&replicas[0].1);
            replicas.iter().all(|(_, partition)| ends(partition) == (end, end))
        })
    }

    /// Holds the logs of all replicas to each other, and to what clients were told.
    pub(super) fn compare(&self, nodes: &Nodes) -> Result<(), String> {
        for ((topic, index), replicas) in Self::replicas(nodes).ok_or("not all nodes serve")? {
            let mut first: Option<(usize, Log)> = None;
            for (at, partition) in replicas {
                let log = read(&partition).map_err(|error| {
                    format!("{}: the log of node {} cannot be read: {error}", partition.name, at + 1)
                })?;
                if partition.topic.name.starts_with("__") {
                    // What it holds is not of this model; that it is the same is looked at all the same.
                } else {
                    self.checker.whole(Place { topic: topic.0, partition: index }, &log.records);
                }
                match &first {
                    None => first = Some((at, log)),
                    Some((other, held)) if held.bytes != log.bytes => {
                        let parts = held.bytes.iter().zip(&log.bytes).position(|(left, right)| left != right);
                        return Err(format!(
                            "{}: the logs of nodes {} and {} part at byte {parts:?}: {:?} and {:?}",
                            partition.name,
                            other + 1,
                            at + 1,
                            held.batches,
                            log.batches
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// All that a log holds.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    records: Vec<(i64, Vec<u8>)>,
    /// Base offset and leader epoch of each batch.
    batches: Vec<(i64, i32)>,
}

fn read(partition: &Partition) -> Result<Log, String> {
    let (mut from, end) = (partition.log.log_start_offset(), partition.log.log_end_offset());
    let mut log = Log::default();
    while from < end {
        let slice = partition.log.read(from, READ_BYTES, end, true).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).map_err(|error| error.to_string())?;
        let before = from;
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify_crc().map_err(|error| error.to_string())?;
            log.batches.push((batch.header.base_offset, batch.header.partition_leader_epoch));
            for record in batch.records(READ_BYTES).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                log.records.push((record.offset, record.value.unwrap_or_default().to_vec()));
            }
            from = Offset(batch.header.next_offset());
        }
        if from == before {
            return Err(format!("nothing is at {from}, before {end}"));
        }
        log.bytes.extend(bytes);
    }
    Ok(log)
}
