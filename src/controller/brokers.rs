//! Decisions about brokers: registration, fencing, shutdown; and blocks of producer ids.
//!
//! What a broker's coming and going means for partitions is KRaft's: a broker that goes leaves every ISR, and the
//! leader is the first replica that can be, or none ([`super::partition_change`]); a broker that comes back is elected
//! where there was no leader. A new process of a broker counts as the old one's going, so leader epochs rise with every
//! restart. One that did not end in order may have lost what it had not synced, and is not eligible any more where
//! somebody else may have it; one that comes with another data folder has nothing, and leads nothing, unless its operator
//! said that it goes on so.

use kafka_protocol::ResponseError;

use super::partition_change::{Lost, PartitionChanger, Rules};
use super::request::{BrokerIdentity, BrokerRegistration, BrokerTransition, ProducerIdBlock};
use super::{ControllerError, Decider, Decision};
use crate::metadata::{BrokerChange, MetadataRecord, PartitionChange, PartitionImage, RegisterBroker};
use crate::types::{NodeId, ProducerId};

/// Producer ids in a block (KIP-730).
const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// How a broker's process leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// It ends, or is not heard of.
    Ends,
    /// A new process takes its place, which can lead at once or not yet.
    Restarts { lost: Option<Lost>, is_back: bool },
}

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
        let lost = known.and_then(|known| {
            let had = &known.log_directories;
            let has_none_of = !had.is_empty() && !request.log_directories.iter().any(|id| had.contains(id));
            if has_none_of && !request.accepts_missing_data {
                Some(Lost::Everything)
            } else {
                (request.previous_epoch != known.epoch).then_some(Lost::Unsynced)
            }
        });
        self.leave(request.id, Going::Restarts { lost, is_back: request.unfence }, &mut records);
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
            features: request.features.clone(),
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
                    self.leave(broker.id, Going::Ends, &mut records);
                    records.push(change(Some(true), None));
                }
                // A process that has begun to shut down does not come back; its next one registers anew.
                BrokerTransition::Unfence if known.fenced && !known.in_controlled_shutdown => {
                    self.unfence(broker, &mut records);
                }
                BrokerTransition::BeginShutdown if !known.in_controlled_shutdown => {
                    self.leave(broker.id, Going::Ends, &mut records);
                    records.push(change(None, Some(true)));
                }
                BrokerTransition::Unregister => {
                    self.leave(broker.id, Going::Ends, &mut records);
                    let (broker_id, broker_epoch) = (broker.id, broker.epoch);
                    records.push(MetadataRecord::UnregisterBroker { broker_id, broker_epoch });
                }
                _ => {}
            }
        }
        Decision { records, response, is_atomic: false }
    }

    /// Forgets a broker.
    pub fn unregister_broker(&mut self, id: NodeId) -> Decision<Result<(), ControllerError>> {
        match self.image.broker(id) {
            Some(known) => {
                let broker = BrokerIdentity { id, epoch: known.epoch };
                self.change_broker(broker, BrokerTransition::Unregister)
            }
            None => {
                let message = format!("Broker ID {id} is not currently registered");
                let error = ControllerError::new(ResponseError::BrokerIdNotRegistered, message);
                Decision::new(Vec::new(), Err(error))
            }
        }
    }

    fn unfence(&self, broker: BrokerIdentity, records: &mut Vec<MetadataRecord>) {
        records.push(MetadataRecord::BrokerChange(BrokerChange {
            broker_id: broker.id,
            broker_epoch: broker.epoch,
            fenced: Some(false),
            in_controlled_shutdown: None,
        }));
        self.lead_again(broker.id, records);
    }

    /// Partitions that have no leader and that this broker can lead.
    fn lead_again(&self, id: NodeId, records: &mut Vec<MetadataRecord>) {
        self.change_partitions(records, |rules, partition| {
            let is_concerned = partition.leader.is_none() && partition.replicas.contains(&id);
            is_concerned.then(|| {
                PartitionChanger::of(partition, rules)
                    .build(|other| other == id || self.image.is_active(other))
            })
        });
    }

    /// What the partitions are without this broker, or with a new process of it.
    fn leave(&self, id: NodeId, going: Going, records: &mut Vec<MetadataRecord>) {
        let (lost, is_back) = match going {
            Going::Ends => (None, false),
            Going::Restarts { lost, is_back } => (lost, is_back),
        };
        let can_lead = |other: NodeId| match other == id {
            true => is_back,
            false => self.image.is_active(other),
        };
        let keeps_eligible = self.keeps_eligible_leaders();
        self.change_partitions(records, |rules, partition| {
            let isr = &partition.isr;
            let may_lead = partition.eligible_leader_replicas.contains(&id)
                || partition.last_known_eligible_leader_replicas.contains(&id);
            if !isr.contains(&id) && !may_lead {
                return None;
            }
            // Of a partition's only copy nobody else could have more, and without eligible replicas its last member in
            // sync stays that.
            let is_spared = partition.replicas == [id] || !keeps_eligible && *isr == [id];
            let mut changer = PartitionChanger::of(partition, rules);
            changer.lost = lost.filter(|lost| !is_spared || *lost == Lost::Everything).map(|lost| (id, lost));
            if !is_back || *isr != [id] || changer.lost.is_some() {
                changer.isr.retain(|member| *member != id);
            }
            changer.renews_leadership = partition.leader == Some(id);
            Some(changer.build(can_lead))
        });
    }

    /// Changes partitions, those whose leader changes first: others can wait for them.
    pub(super) fn change_partitions(
        &self,
        records: &mut Vec<MetadataRecord>,
        change: impl Fn(Rules, &PartitionImage) -> Option<PartitionChange>,
    ) {
        let mut later = Vec::new();
        for topic in self.image.topics() {
            let rules = self.rules(topic);
            for (index, partition) in (0..).zip(&topic.partitions) {
                let Some(change) =
                    change(rules, partition).filter(|change| *change != PartitionChange::default())
                else {
                    continue;
                };
                let moves = change.leader.is_some();
                let change = PartitionChange { topic_id: topic.id, partition: index, ..change };
                let goes = if moves { &mut *records } else { &mut later };
                goes.push(MetadataRecord::PartitionChange(change));
            }
        }
        records.append(&mut later);
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
