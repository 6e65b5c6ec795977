//! Where replicas of new partitions go: stripes over racks and over the brokers in them.
//!
//! Racks are walked in turn, each partition starting one rack further on, and so are the brokers of a
//! rack. Both start at random, so that small topics do not all begin with the same broker. Within a rack,
//! active brokers come before fenced ones, and the first replica, which will lead, is active. When there
//! are as many partitions as active brokers the order is shuffled, so that the same groups of brokers do
//! not repeat.

use std::collections::BTreeMap;

use crate::env::Chance;
use crate::metadata::MetadataImage;
use crate::types::NodeId;

/// Places `partition_count` partitions with `replication_factor` replicas each. The error is Kafka's
/// message, to follow `Unable to replicate the partition N time(s): `.
pub fn place(
    image: &MetadataImage,
    partition_count: usize,
    replication_factor: i16,
    chance: &dyn Chance,
) -> Result<Vec<Vec<NodeId>>, String> {
    let mut racks = Racks::new(image, chance);
    let replicas = match usize::try_from(replication_factor) {
        Ok(replicas) if replicas > 0 => replicas,
        _ => {
            return Err(format!(
                "Invalid replication factor {replication_factor}: the replication factor must be positive."
            ));
        }
    };
    if racks.active_count == 0 {
        return Err("All brokers are currently fenced, or have all their log directories cordoned.".into());
    }
    if replicas > racks.broker_count {
        return Err(format!(
            "The target replication factor of {replicas} cannot be reached because only {} broker(s) are registered or some brokers have all their log directories cordoned.",
            racks.broker_count
        ));
    }
    Ok((0..partition_count).map(|_| racks.place(replicas, chance)).collect())
}

/// Brokers that are taken in turn, from a start that moves on with each round.
#[derive(Default)]
struct Ring {
    brokers: Vec<NodeId>,
    start: usize,
    taken: usize,
    round: usize,
}

impl Ring {
    fn next(&mut self, round: usize) -> Option<NodeId> {
        if self.brokers.is_empty() {
            return None;
        }
        if self.round != round {
            self.round = round;
            self.taken = 0;
            self.start = (self.start + 1) % self.brokers.len();
        }
        if self.taken == self.brokers.len() {
            return None;
        }
        let at = (self.start + self.taken) % self.brokers.len();
        self.taken += 1;
        self.brokers.get(at).copied()
    }
}

#[derive(Default)]
struct Rack {
    active: Ring,
    fenced: Ring,
}

struct Racks {
    racks: Vec<Rack>,
    broker_count: usize,
    active_count: usize,
    /// Partitions placed since the last shuffle.
    round: usize,
    /// The rack to start the next partition with.
    start: usize,
}

impl Racks {
    fn new(image: &MetadataImage, chance: &dyn Chance) -> Self {
        let mut by_name: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        let mut active_count = 0;
        for broker in image.brokers().values().filter(|broker| !broker.in_controlled_shutdown) {
            let rack = by_name.entry(broker.rack.as_deref()).or_default();
            if broker.fenced {
                rack.fenced.brokers.push(broker.id);
            } else {
                active_count += 1;
                rack.active.brokers.push(broker.id);
            }
        }
        let mut racks: Vec<_> = by_name.into_values().collect();
        for ring in racks.iter_mut().flat_map(|rack| [&mut rack.active, &mut rack.fenced]) {
            if !ring.brokers.is_empty() {
                ring.start = chance.below(ring.brokers.len());
            }
        }
        let start = if racks.is_empty() { 0 } else { chance.below(racks.len()) };
        let broker_count =
            racks.iter().map(|rack| rack.active.brokers.len() + rack.fenced.brokers.len()).sum();
        Self { racks, broker_count, active_count, round: 0, start }
    }

    /// One partition. There is an active broker, and there are at least `replicas` brokers.
    fn place(&mut self, replicas: usize, chance: &dyn Chance) -> Vec<NodeId> {
        if self.round == self.active_count && self.active_count > 1 {
            shuffle(&mut self.racks, chance);
            for rack in &mut self.racks {
                shuffle(&mut rack.active.brokers, chance);
                shuffle(&mut rack.fenced.brokers, chance);
            }
            self.round = 0;
        }
        let (round, start, count) = (self.round, self.start % self.racks.len(), self.racks.len());
        let mut placed = Vec::with_capacity(replicas);
        let mut first = start;
        // Ends, as some rack has an active broker that this round has not taken.
        loop {
            if let Some(broker) = self.racks[first].active.next(round) {
                placed.push(broker);
                break;
            }
            first = (first + 1) % count;
        }
        let mut leader_rack = Some(first);
        let mut at = start;
        while placed.len() < replicas {
            if leader_rack == Some(at) {
                // It has had its turn, with the leader.
                leader_rack = None;
            } else {
                let rack = &mut self.racks[at];
                placed.extend(rack.active.next(round).or_else(|| rack.fenced.next(round)));
            }
            at = (at + 1) % count;
        }
        self.round += 1;
        self.start = start + 1;
        placed
    }
}

fn shuffle<T>(items: &mut [T], chance: &dyn Chance) {
    for at in (1..items.len()).rev() {
        items.swap(at, chance.below(at + 1));
    }
}
