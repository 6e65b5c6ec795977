//! What must hold of replication, one check each, with where it is written down.
//!
//! The names are those of the TLA+ models of Kafka's replication (github.com/hachikuji/kafka-specification), and of
//! KIP-101, KIP-497, KIP-903 and KIP-966 where they speak of it.

use std::collections::BTreeMap;

use super::{Broker, NODES, Record, Step};
use crate::metadata::PartitionImage;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// What is known of the whole cluster, that no node knows.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// Who leads in an epoch.
    leaders: BTreeMap<i32, NodeId>,
    /// The record at an offset in an epoch.
    written: BTreeMap<(i64, i32), u64>,
    /// What some leader's high watermark has passed, with the epoch of that leader.
    committed: Vec<(Record, i32)>,
    /// The high watermark of who leads, with its process and epoch.
    seen: [Option<(u64, LeaderEpoch, Offset)>; NODES],
}

fn record_at(broker: &Broker, offset: usize) -> Option<Record> {
    broker.log.records.get(offset).copied()
}

impl Invariants {
    pub(super) fn committed_records(&self) -> usize {
        self.committed.len()
    }

    pub(super) fn leaderships(&self) -> usize {
        self.leaders.len()
    }

    /// An epoch has one leader, and the ISR is part of the replicas ("ControllerState" of the models); an entry of the
    /// metadata log takes into the ISR only who has all that is committed (KIP-497, KIP-903).
    pub(super) fn decided(
        &mut self,
        before: &PartitionImage,
        after: &PartitionImage,
        brokers: &[Broker],
    ) -> Step {
        if let Some(leader) = after.leader {
            let known = *self.leaders.entry(after.leader_epoch.0).or_insert(leader);
            if known != leader {
                return Err(format!("{known} and {leader} lead in epoch {}", after.leader_epoch));
            }
        }
        if after.isr.iter().any(|member| !after.replicas.contains(member)) {
            return Err(format!("the ISR {:?} is not within {:?}", after.isr, after.replicas));
        }
        if after.leader_epoch < before.leader_epoch {
            return Err(format!(
                "the leader epoch falls from {} to {}",
                before.leader_epoch, after.leader_epoch
            ));
        }
        for member in after.isr.iter().filter(|member| !before.isr.contains(member)) {
            let broker = &brokers[member.0 as usize];
            self.has_committed(broker, i32::MAX)
                .map_err(|violation| format!("{member} comes into the ISR: {violation}"))?;
        }
        Ok(())
    }

    /// What was committed in earlier epochs is in the log of who leads ("LeaderInIsr", "StrongIsr": leader completeness).
    pub(super) fn leads(&mut self, broker: &Broker, epoch: LeaderEpoch) -> Step {
        self.has_committed(broker, epoch.0).map_err(|violation| format!("{} leads: {violation}", broker.id))
    }

    fn has_committed(&self, broker: &Broker, below_epoch: i32) -> Step {
        let lacks = |(offset, (record, by)): (usize, &(Record, i32))| {
            (*by < below_epoch && record_at(broker, offset) != Some(*record)).then_some((offset, *record))
        };
        match self.committed.iter().enumerate().find_map(lacks) {
            Some((offset, record)) => {
                let found = record_at(broker, offset);
                Err(format!("at {offset} it has {found:?}, where {record:?} is committed"))
            }
            None => Ok(()),
        }
    }

    /// A leader writes in its own epoch, and once at an offset ("log matching", KIP-101).
    pub(super) fn written(&mut self, broker: &Broker, offset: Offset, record: Record) -> Step {
        if self.leaders.get(&record.epoch).is_some_and(|leader| *leader != broker.id) {
            return Err(format!("{} writes in epoch {}, in which it does not lead", broker.id, record.epoch));
        }
        match self.written.insert((offset.0, record.epoch), record.value) {
            Some(other) if other != record.value => {
                Err(format!("two records at {offset} in epoch {}: {other}, {}", record.epoch, record.value))
            }
            _ => Ok(()),
        }
    }

    /// The same offset and epoch are the same record in every log ("log matching", KIP-101).
    pub(super) fn copied(&mut self, offset: Offset, record: Record) -> Step {
        match self.written.get(&(offset.0, record.epoch)) {
            Some(value) if *value == record.value => Ok(()),
            other => Err(format!("{record:?} is copied to {offset}, where its leader wrote {other:?}")),
        }
    }

    /// A leader's high watermark has moved: what it passed is committed for ever, is in the logs of all that lead in later
    /// epochs already, and of the whole ISR as the controller has it ("ValidHighWatermark", "WeakIsr").
    pub(super) fn committed(
        &mut self,
        brokers: &[Broker],
        at: usize,
        before: Offset,
        now: &PartitionImage,
    ) -> Step {
        let leader = &brokers[at];
        let (epoch, after) = (leader.replica.leader_epoch(), leader.replica.high_watermark());
        for offset in before.0 as usize..after.0 as usize {
            let Some(record) = record_at(leader, offset) else {
                return Err(format!("the high watermark of {} is {after}, beyond its log", leader.id));
            };
            match self.committed.get(offset) {
                Some((known, _)) if *known != record => {
                    return Err(format!("{known:?} was committed at {offset}, and now {record:?} is"));
                }
                Some(_) => {}
                None => self.committed.push((record, epoch.0)),
            }
            for other in brokers.iter().filter(|other| other.is_up && other.replica.is_leader()) {
                if other.replica.leader_epoch() > epoch && record_at(other, offset) != Some(record) {
                    return Err(format!(
                        "{record:?} is committed at {offset} in epoch {epoch}, {} leads without it",
                        other.id
                    ));
                }
            }
            let members = now.isr.iter().filter(|_| now.leader_epoch == epoch);
            for member in members.map(|member| &brokers[member.0 as usize]) {
                if record_at(member, offset) != Some(record) {
                    let (id, isr) = (member.id, &now.isr);
                    return Err(format!(
                        "{record:?} is committed at {offset}, {id} of the ISR {isr:?} lacks it"
                    ));
                }
            }
        }
        Ok(())
    }

    /// A leader that handed over wrote nothing after its heir had everything: what it alone acknowledged is not lost.
    pub(super) fn handed_over(&mut self, leader: &Broker, after: &PartitionImage, end: Offset) -> Step {
        match after.leader {
            Some(heir) if heir != leader.id && leader.log.end() != end => {
                Err(format!("{} handed over to {heir} at {end}, and wrote on", leader.id))
            }
            _ => Ok(()),
        }
    }

    /// What is acknowledged with acks=all is committed, at its offset.
    pub(super) fn acknowledged(&mut self, value: u64, end: Offset) -> Step {
        match self.committed.get(end.0 as usize - 1) {
            Some((record, _)) if record.value == value => Ok(()),
            other => {
                Err(format!("{value} at {} is acknowledged, and {other:?} is committed there", end.0 - 1))
            }
        }
    }

    /// After every step: in a log epochs do not fall (KIP-101); a high watermark is within the log, and does not fall
    /// while its node leads.
    pub(super) fn look_at(&mut self, brokers: &[Broker]) -> Step {
        for (broker, seen) in brokers.iter().zip(&mut self.seen) {
            let last_two = broker.log.records.len().saturating_sub(2);
            if !broker.log.records[last_two..].is_sorted_by_key(|record| record.epoch) {
                return Err(format!("epochs fall in the log of {}: {:?}", broker.id, broker.log.records));
            }
            let (epoch, high_watermark) = (broker.replica.leader_epoch(), broker.replica.high_watermark());
            if high_watermark > broker.log.end() {
                return Err(format!("the high watermark of {} is beyond its log", broker.id));
            }
            let leads = broker.is_up && broker.replica.is_leader();
            if let Some((incarnation, led, was)) = *seen
                && leads
                && (incarnation, led) == (broker.incarnation, epoch)
                && high_watermark < was
            {
                return Err(format!(
                    "the high watermark of {} falls from {was} to {high_watermark}",
                    broker.id
                ));
            }
            *seen = leads.then_some((broker.incarnation, epoch, high_watermark));
        }
        Ok(())
    }

    /// When all have come together, what was committed is there.
    pub(super) fn look_at_the_end(&self, records: &[Record]) -> Step {
        match self.committed.iter().map(|(record, _)| record).zip(records).position(|(a, b)| a != b) {
            None if self.committed.len() <= records.len() => Ok(()),
            at => Err(format!("at {at:?} there is something else than what was committed")),
        }
    }
}
