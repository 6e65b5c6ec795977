//! Decisions about leaders and in-sync replicas.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::liveness::check_broker_epoch;
use super::request::{
    AlterPartition, AlteredPartition, BrokerIdentity, ElectLeaders, ElectionKind, IsrMember,
};
use super::{Answers, ControllerError, Decider, Decision};
use crate::metadata::{MetadataRecord, PartitionChange, PartitionImage, TopicImage};
use crate::types::NodeId;

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
        let topic = self.image.topic_by_id(request.topic_id).ok_or(ResponseError::UnknownTopicId)?;
        let partition = topic.partition(request.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        // A leader that knows more than this controller has heard of a later one.
        if request.leader_epoch > partition.leader_epoch
            || request.partition_epoch > partition.partition_epoch
        {
            return Err(ResponseError::NotController);
        }
        if request.leader_epoch < partition.leader_epoch {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if partition.leader != Some(broker) {
            return Err(ResponseError::InvalidRequest);
        }
        if request.partition_epoch < partition.partition_epoch {
            return Err(ResponseError::InvalidUpdateVersion);
        }
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
        let mut change = PartitionChange::of(request.topic_id, request.partition);
        if isr != partition.isr {
            change.isr = Some(isr);
        }
        if request.recovering != partition.recovering {
            change.recovering = Some(request.recovering);
        }
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
                    let answer = elected.map(|change| records.push(MetadataRecord::PartitionChange(change)));
                    answers.push(((name.clone(), *index), answer));
                }
            }
            None => {
                for topic in self.image.topics() {
                    for (index, partition) in (0..).zip(&topic.partitions) {
                        let answer = match self.elect(topic, index, partition, request.kind) {
                            Err(e) if e.code == ResponseError::ElectionNotNeeded => continue,
                            elected => {
                                elected.map(|change| records.push(MetadataRecord::PartitionChange(change)))
                            }
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
    ) -> Result<PartitionChange, ControllerError> {
        let unknown = |message| ControllerError::new(ResponseError::UnknownTopicOrPartition, message);
        let topic = self.image.topic(name).ok_or_else(|| unknown(format!("No such topic as {name}")))?;
        let partition =
            topic.partition(index).ok_or_else(|| unknown(format!("No such partition as {name}-{index}")))?;
        self.elect(topic, index, partition, kind)
    }

    fn elect(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &Arc<PartitionImage>,
        kind: ElectionKind,
    ) -> Result<PartitionChange, ControllerError> {
        let preferred = partition.replicas.first().copied();
        let not_needed = match kind {
            ElectionKind::Preferred => partition.leader.is_some() && partition.leader == preferred,
            ElectionKind::Unclean => partition.leader.is_some(),
        };
        if not_needed {
            return Err(ControllerError::plain(ResponseError::ElectionNotNeeded));
        }
        let is_active = |id: &NodeId| self.image.is_active(*id);
        let in_sync = |id: &&NodeId| partition.isr.contains(id) && is_active(id);
        let mut change = PartitionChange::of(topic.id, index);
        match kind {
            ElectionKind::Preferred => {
                let leader = preferred.filter(|id| in_sync(&id)).or_else(|| {
                    // Any leader is better than none; a leader that there is stays.
                    let wanted = partition.leader.is_none();
                    wanted.then(|| partition.replicas.iter().find(in_sync).copied()).flatten()
                });
                let unavailable = || ControllerError::plain(ResponseError::PreferredLeaderNotAvailable);
                change.leader = Some(leader.ok_or_else(unavailable)?);
            }
            ElectionKind::Unclean => match partition.replicas.iter().find(in_sync) {
                Some(leader) => change.leader = Some(*leader),
                None => {
                    let unavailable = || ControllerError::plain(ResponseError::EligibleLeadersNotAvailable);
                    let leader =
                        partition.replicas.iter().find(|id| is_active(id)).ok_or_else(unavailable)?;
                    change.leader = Some(*leader);
                    change.isr = Some(vec![*leader]);
                    change.recovering = Some(true);
                }
            },
        }
        Ok(change)
    }
}
