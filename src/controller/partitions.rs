//! Decisions about leaders and in-sync replicas.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::liveness::check_broker_epoch;
use super::partition_change::{Election, PartitionChanger};
use super::request::{
    AlterPartition, AlteredPartition, BrokerIdentity, ElectLeaders, ElectionKind, IsrMember,
};
use super::{Answers, ControllerError, Decider, Decision};
use crate::metadata::{MetadataRecord, PartitionChange, PartitionImage, TopicImage};
use crate::types::{LeaderEpoch, NodeId, TopicId};

/// A partition of a request: topic and index.
pub type PartitionName = (String, i32);

impl Decider<'_> {
    /// What leaders want their partitions to be. Kafka sends no messages with these errors. The outer
    /// error is about the broker that asks.
    #[allow(clippy::type_complexity)]
    pub fn alter_partitions(
        &mut self,
        broker: BrokerIdentity,
        partitions: &[AlterPartition],
    ) -> Decision<Result<Vec<Result<AlteredPartition, ResponseError>>, ControllerError>> {
        if let Err(e) = self.check_broker_epoch(broker) {
            return Decision::new(Vec::new(), Err(e));
        }
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(partitions.len());
        for request in partitions {
            let answer = self.alter_partition(broker.id, request).map(|(change, altered)| {
                // Also when it changes nothing but the partition's epoch: no earlier request of this leader that is
                // still on its way can be granted after that, which is what it asks for then.
                records.push(MetadataRecord::PartitionChange(change));
                altered
            });
            answers.push(answer);
        }
        Decision { records, response: Ok(answers), is_atomic: false }
    }

    pub(super) fn check_broker_epoch(&self, broker: BrokerIdentity) -> Result<(), ControllerError> {
        check_broker_epoch(self.image, broker).map(drop)
    }

    fn alter_partition(
        &self,
        broker: NodeId,
        request: &AlterPartition,
    ) -> Result<(PartitionChange, AlteredPartition), ResponseError> {
        let AlterPartition { topic_id, partition, leader_epoch, partition_epoch, .. } = *request;
        let (topic, partition) =
            self.led_partition(broker, topic_id, partition, leader_epoch, partition_epoch)?;
        let isr: Vec<NodeId> = request.isr.iter().map(|member| member.id).collect();
        let mut sorted = isr.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let is_valid = sorted.len() == isr.len()
            && isr.iter().all(|id| partition.replicas.contains(id))
            && isr.contains(&broker)
            && !(request.recovering && (isr.len() > 1 || !partition.recovering));
        if !is_valid {
            return Err(ResponseError::InvalidRequest);
        }
        if !request.isr.iter().all(|member| self.is_eligible(member)) {
            return Err(ResponseError::IneligibleReplica);
        }
        let mut changer = PartitionChanger::of(partition, self.rules(topic));
        (changer.isr, changer.recovering) = (isr, request.recovering);
        let change = changer.build(|id| self.image.is_active(id));
        let change = PartitionChange { topic_id: request.topic_id, partition: request.partition, ..change };
        let after = partition.changed(&change);
        let altered = AlteredPartition {
            leader: after.leader,
            leader_epoch: after.leader_epoch,
            partition_epoch: after.partition_epoch,
            isr: after.isr,
            recovering: after.recovering,
        };
        Ok((change, altered))
    }

    /// The partition of which its leader asks something, if what it knows of it is how it is.
    pub(super) fn led_partition(
        &self,
        leader: NodeId,
        topic: TopicId,
        index: i32,
        leader_epoch: LeaderEpoch,
        partition_epoch: i32,
    ) -> Result<(&TopicImage, &Arc<PartitionImage>), ResponseError> {
        let topic = self.image.topic_by_id(topic).ok_or(ResponseError::UnknownTopicId)?;
        let partition = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
        // A leader that knows more than this controller has heard of a later one.
        if leader_epoch > partition.leader_epoch || partition_epoch > partition.partition_epoch {
            return Err(ResponseError::NotController);
        }
        if leader_epoch < partition.leader_epoch {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if partition.leader != Some(leader) {
            return Err(ResponseError::InvalidRequest);
        }
        if partition_epoch < partition.partition_epoch {
            return Err(ResponseError::InvalidUpdateVersion);
        }
        Ok((topic, partition))
    }

    fn is_eligible(&self, member: &IsrMember) -> bool {
        self.image.broker(member.id).is_some_and(|broker| {
            broker.is_active() && (member.broker_epoch == -1 || broker.epoch == member.broker_epoch)
        })
    }

    /// Elects leaders on demand (KIP-460).
    pub fn elect_leaders(&mut self, request: &ElectLeaders) -> Decision<Answers<PartitionName, ()>> {
        let mut records = Vec::new();
        let mut answers = Vec::new();
        match &request.partitions {
            Some(partitions) => {
                for (name, index) in partitions {
                    let elected = self.elect_by_name(name, *index, request.kind);
                    let answer =
                        elected.map(|change| records.extend(change.map(MetadataRecord::PartitionChange)));
                    answers.push(((name.clone(), *index), answer));
                }
            }
            None => {
                for topic in self.image.topics() {
                    for (index, partition) in (0..).zip(&topic.partitions) {
                        let answer = match self.elect(topic, index, partition, request.kind) {
                            Err(e) if e.code == ResponseError::ElectionNotNeeded => continue,
                            elected => elected
                                .map(|change| records.extend(change.map(MetadataRecord::PartitionChange))),
                        };
                        answers.push(((topic.name.to_string(), index), answer));
                    }
                }
            }
        }
        Decision { records, response: answers, is_atomic: false }
    }

    fn elect_by_name(
        &self,
        name: &str,
        index: i32,
        kind: ElectionKind,
    ) -> Result<Option<PartitionChange>, ControllerError> {
        let unknown = |message| ControllerError::new(ResponseError::UnknownTopicOrPartition, message);
        let topic = self.image.topic(name).ok_or_else(|| unknown(format!("No such topic as {name}")))?;
        let partition =
            topic.partition(index).ok_or_else(|| unknown(format!("No such partition as {name}-{index}")))?;
        self.elect(topic, index, partition, kind)
    }

    /// `None` where it is under way already: the leader hands over.
    fn elect(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &Arc<PartitionImage>,
        kind: ElectionKind,
    ) -> Result<Option<PartitionChange>, ControllerError> {
        let preferred = partition.replicas.first().copied();
        let not_needed = match kind {
            ElectionKind::Preferred => partition.leader.is_some() && partition.leader == preferred,
            ElectionKind::Unclean => partition.leader.is_some(),
        };
        if not_needed {
            return Err(ControllerError::plain(ResponseError::ElectionNotNeeded));
        }
        let mut rules = self.rules(topic);
        rules.may_be_unclean = kind == ElectionKind::Unclean;
        let mut changer = PartitionChanger::of(partition, rules);
        if kind == ElectionKind::Preferred {
            changer.election = Election::Preferred;
        }
        let change = changer.build(|id| self.image.is_active(id));
        let after = partition.changed(&change);
        let hands_over = kind == ElectionKind::Preferred && after.heir.is_some() && after.heir == preferred;
        if change.leader.is_none() && !hands_over {
            let code = match kind {
                ElectionKind::Preferred => ResponseError::PreferredLeaderNotAvailable,
                ElectionKind::Unclean => ResponseError::EligibleLeadersNotAvailable,
            };
            return Err(ControllerError::plain(code));
        }
        let change = PartitionChange { topic_id: topic.id, partition: index, ..change };
        Ok(Some(change).filter(|change| !change.is_empty()))
    }

    /// Gives leaderships back to preferred leaders that are in sync, and leaders to partitions that have none and may have
    /// an unclean one: what the active controller does by the clock. Changes no more than `count` partitions.
    pub fn rebalance_leaders(&mut self, moves_to_preferred: bool, count: usize) -> Decision<()> {
        let mut records = Vec::new();
        self.change_partitions(&mut records, |rules, partition| {
            let preferred = *partition.replicas.first()?;
            let is_led_by_other = partition.leader.is_some_and(|leader| leader != preferred);
            let is_leaderless = partition.leader.is_none() && rules.may_be_unclean;
            let wants = is_leaderless
                || moves_to_preferred
                    && is_led_by_other
                    && partition.heir != Some(preferred)
                    && partition.isr.contains(&preferred)
                    && self.image.is_active(preferred);
            wants.then(|| {
                let mut changer = PartitionChanger::of(partition, rules);
                changer.election = Election::Preferred;
                changer.build(|id| self.image.is_active(id))
            })
        });
        records.truncate(count);
        Decision { records, response: (), is_atomic: false }
    }
}
