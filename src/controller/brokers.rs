//! Decisions about brokers: registration, fencing, shutdown; and blocks of producer ids.
//!
//! What a broker's coming and going means for partitions is KRaft's: a broker that goes leaves every ISR
//! in which someone else stays, and the leader is the first replica that is in sync and active, or none; a
//! broker that comes back is elected where there was no leader. A new process of a broker counts as the
//! old one's going, so leader epochs rise with every restart.

use kafka_protocol::ResponseError;

use super::request::{BrokerIdentity, BrokerRegistration, BrokerTransition, ProducerIdBlock};
use super::{ControllerError, Decider, Decision};
use crate::metadata::{BrokerChange, MetadataRecord, PartitionChange, PartitionImage, RegisterBroker};
use crate::types::{NodeId, ProducerId};

/// Producer ids in a block (KIP-730).
const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

impl Decider<'_> {
    /// Takes a broker's process in and answers with its epoch. A process that registers again (the answer
    /// may have been lost) keeps its epoch.
    pub fn register_broker(
        &mut self,
        request: &BrokerRegistration,
    ) -> Decision<Result<i64, ControllerError>> {
        let known = self.image.broker(request.id);
        let is_same_process = known.is_some_and(|broker| broker.incarnation_id == request.incarnation_id);
        let mut records = Vec::new();
        if let Some(broker) = known.filter(|_| is_same_process) {
            let epoch = broker.epoch;
            if request.unfence && broker.fenced && !broker.in_controlled_shutdown {
                self.unfence(BrokerIdentity { id: request.id, epoch }, &mut records);
            }
            return Decision { records, response: Ok(epoch), is_atomic: false };
        }
        let epoch = self.image.broker_epoch() + 1;
        self.leave(request.id, request.unfence, &mut records);
        if request.unfence {
            // Where others are in sync too, `leave` has taken this one out.
            self.lead_again(request.id, &mut records, |partition| partition.isr.len() == 1);
        }
        // Last, so that a broker is never taken for registered while partitions still hold what its
        // earlier process left, even if the records go out in several batches.
        records.push(MetadataRecord::RegisterBroker(RegisterBroker {
            broker_id: request.id,
            incarnation_id: request.incarnation_id,
            broker_epoch: epoch,
            listeners: request.listeners.clone(),
            rack: request.rack.clone(),
            log_directories: request.log_directories.clone(),
            fenced: !request.unfence,
            in_controlled_shutdown: false,
        }));
        Decision { records, response: Ok(epoch), is_atomic: false }
    }

    /// Changes the state of a registered broker; one that is in that state already stays as it is.
    pub fn change_broker(
        &mut self,
        broker: BrokerIdentity,
        transition: BrokerTransition,
    ) -> Decision<Result<(), ControllerError>> {
        let mut records = Vec::new();
        let response = self.check_broker_epoch(broker);
        if let (Ok(()), Some(known)) = (&response, self.image.broker(broker.id)) {
            let change = |fenced, in_controlled_shutdown| {
                MetadataRecord::BrokerChange(BrokerChange {
                    broker_id: broker.id,
                    broker_epoch: broker.epoch,
                    fenced,
                    in_controlled_shutdown,
                })
            };
            match transition {
                BrokerTransition::Fence if !known.fenced => {
                    self.leave(broker.id, false, &mut records);
                    records.push(change(Some(true), None));
                }
                // A process that has begun to shut down does not come back; its next one registers anew.
                BrokerTransition::Unfence if known.fenced && !known.in_controlled_shutdown => {
                    self.unfence(broker, &mut records);
                }
                BrokerTransition::BeginShutdown if !known.in_controlled_shutdown => {
                    self.leave(broker.id, false, &mut records);
                    records.push(change(None, Some(true)));
                }
                BrokerTransition::Unregister => {
                    self.leave(broker.id, false, &mut records);
                    let (broker_id, broker_epoch) = (broker.id, broker.epoch);
                    records.push(MetadataRecord::UnregisterBroker { broker_id, broker_epoch });
                }
                _ => {}
            }
        }
        Decision { records, response, is_atomic: false }
    }

    fn unfence(&self, broker: BrokerIdentity, records: &mut Vec<MetadataRecord>) {
        records.push(MetadataRecord::BrokerChange(BrokerChange {
            broker_id: broker.id,
            broker_epoch: broker.epoch,
            fenced: Some(false),
            in_controlled_shutdown: None,
        }));
        self.lead_again(broker.id, records, |_| true);
    }

    /// Partitions that have no leader and that this broker can lead, as it is in sync. (Not those that it
    /// leads still: `leave` sees to them.)
    fn lead_again(
        &self,
        id: NodeId,
        records: &mut Vec<MetadataRecord>,
        may: impl Fn(&PartitionImage) -> bool,
    ) {
        self.change_partitions(records, |partition, change| {
            if partition.leader.is_none() && partition.isr.contains(&id) && may(partition) {
                change.leader = Some(id);
            }
        });
    }

    /// What the partitions are without this broker. With `is_back`, it is there again at once, and leads
    /// on, with a new leader epoch, where nobody else is in sync.
    fn leave(&self, id: NodeId, is_back: bool, records: &mut Vec<MetadataRecord>) {
        self.change_partitions(records, |partition, change| {
            if !partition.isr.contains(&id) {
                return;
            }
            let others: Vec<NodeId> = partition.isr.iter().copied().filter(|member| *member != id).collect();
            let heir = || {
                let can_lead =
                    |replica: &&NodeId| others.contains(replica) && self.image.is_active(**replica);
                partition.replicas.iter().find(can_lead).copied()
            };
            if partition.leader == Some(id) {
                change.leader = Some(match heir() {
                    Some(heir) => heir,
                    None if is_back && others.is_empty() => id,
                    None => PartitionChange::NO_LEADER,
                });
            }
            // The last member of an ISR stays: it alone has all that was acknowledged.
            if !others.is_empty() {
                change.isr = Some(others);
            }
        });
    }

    fn change_partitions(
        &self,
        records: &mut Vec<MetadataRecord>,
        decide: impl Fn(&PartitionImage, &mut PartitionChange),
    ) {
        for topic in self.image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let mut change = PartitionChange::of(topic.id, index);
                decide(partition, &mut change);
                if !change.is_empty() {
                    records.push(MetadataRecord::PartitionChange(change));
                }
            }
        }
    }

    /// Gives a broker a block of producer ids that nobody else gets.
    pub fn allocate_producer_ids(
        &mut self,
        broker: BrokerIdentity,
    ) -> Decision<Result<ProducerIdBlock, ControllerError>> {
        let first = self.image.next_producer_id();
        let block = self.check_broker_epoch(broker).and_then(|()| {
            let next = first.0.checked_add(PRODUCER_IDS_PER_BLOCK).ok_or_else(|| {
                let message = "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit";
                ControllerError::new(ResponseError::UnknownServerError, message)
            })?;
            Ok((ProducerIdBlock { first, count: PRODUCER_IDS_PER_BLOCK }, ProducerId(next)))
        });
        match block {
            Ok((block, next_producer_id)) => {
                let (broker_id, broker_epoch) = (broker.id, broker.epoch);
                let record = MetadataRecord::ProducerIds { broker_id, broker_epoch, next_producer_id };
                Decision::new(vec![record], Ok(block))
            }
            Err(e) => Decision::new(Vec::new(), Err(e)),
        }
    }
}
