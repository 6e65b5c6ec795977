//! Decisions about where replicas are (KIP-455). A reassignment is a state of its partition: `adding` replicas are
//! followers already and `removing` ones still; it ends by itself as soon as all added ones are in sync
//! ([`super::partition_change`]).

use kafka_protocol::ResponseError;

use super::partition_change::PartitionChanger;
use super::partitions::PartitionName;
use super::request::{AlterPartitionReassignments, OngoingReassignment, Reassignment};
use super::{Answers, ControllerError, Decider, Decision, RECORDS_PER_REQUEST_MAX, too_many_records};
use crate::metadata::{MetadataImage, MetadataRecord, PartitionChange, PartitionImage, TopicImage};
use crate::types::NodeId;

impl Decider<'_> {
    /// Begins, changes or cancels reassignments; each partition for itself succeeds or fails. Answers are in the order of the
    /// request.
    pub fn alter_partition_reassignments(
        &mut self,
        request: &AlterPartitionReassignments,
    ) -> Decision<Result<Answers<PartitionName, ()>, ControllerError>> {
        if request.partitions.len() > RECORDS_PER_REQUEST_MAX {
            return Decision::new(Vec::new(), Err(too_many_records()));
        }
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(request.partitions.len());
        for Reassignment { partition, target } in &request.partitions {
            let answer =
                self.reassign(partition, target.as_deref(), request.allows_other_count).map(|change| {
                    if !change.is_empty() {
                        records.push(MetadataRecord::PartitionChange(change));
                    }
                });
            answers.push((partition.clone(), answer));
        }
        Decision { records, response: Ok(answers), is_atomic: false }
    }

    fn reassign(
        &self,
        (name, index): &PartitionName,
        target: Option<&[NodeId]>,
        allows_other_count: bool,
    ) -> Result<PartitionChange, ControllerError> {
        let unknown = |message| ControllerError::new(ResponseError::UnknownTopicOrPartition, message);
        let topic =
            self.image.topic(name).ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
        let partition = topic
            .partition(*index)
            .ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))?;
        let change = match target {
            Some(target) => self.reassign_to(topic, partition, target, allows_other_count)?,
            None => self.cancel(topic, *index, partition)?,
        };
        Ok(PartitionChange { topic_id: topic.id, partition: *index, ..change })
    }

    fn reassign_to(
        &self,
        topic: &TopicImage,
        partition: &PartitionImage,
        target: &[NodeId],
        allows_other_count: bool,
    ) -> Result<PartitionChange, ControllerError> {
        self.check_assignment(target, None)?;
        if !allows_other_count {
            let count = replicas_before(partition).len();
            if target.len() != count {
                let message = format!("The replication factor is changed from {count} to {}", target.len());
                return Err(ControllerError::new(ResponseError::InvalidReplicationFactor, message));
            }
        }
        let mut changer = PartitionChanger::of(partition, self.rules(topic));
        let current = &partition.replicas;
        changer.adding = sorted(target.iter().filter(|id| !current.contains(id)));
        // Those that an earlier reassignment was adding, and this one adds still, have to get in sync still.
        changer.adding.extend(partition.adding_replicas.iter().filter(|id| target.contains(id)));
        changer.adding.sort_unstable();
        changer.removing = sorted(current.iter().filter(|id| !target.contains(id)));
        changer.replicas = target.to_vec();
        changer.replicas.extend(&changer.removing);
        Ok(changer.build(|id| self.image.is_active(id)))
    }

    fn cancel(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionImage,
    ) -> Result<PartitionChange, ControllerError> {
        if !is_under_way(partition) {
            return Err(ControllerError::plain(ResponseError::NoReassignmentInProgress));
        }
        let mut rules = self.rules(topic);
        let is_added = |id: &NodeId| partition.adding_replicas.contains(id);
        let isr: Vec<NodeId> = partition.isr.iter().copied().filter(|id| !is_added(id)).collect();
        if isr.is_empty() && !rules.may_be_unclean {
            let message = format!(
                "Unable to revert partition assignment for {}:{index} because it would require an unclean leader election.",
                topic.name
            );
            return Err(ControllerError::new(ResponseError::InvalidReplicaAssignment, message));
        }
        rules.may_be_unclean &= isr.is_empty();
        let mut changer = PartitionChanger::of(partition, rules);
        changer.replicas = replicas_before(partition);
        changer.isr = isr;
        changer.adding.clear();
        changer.removing.clear();
        Ok(changer.build(|id| self.image.is_active(id)))
    }
}

/// The replicas as they were before the reassignment that is under way, if one is.
fn replicas_before(partition: &PartitionImage) -> Vec<NodeId> {
    partition.replicas.iter().copied().filter(|id| !partition.adding_replicas.contains(id)).collect()
}

fn is_under_way(partition: &PartitionImage) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

fn sorted<'a>(ids: impl Iterator<Item = &'a NodeId>) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = ids.copied().collect();
    ids.sort_unstable();
    ids
}

/// The reassignments that are under way: of these partitions, or of all.
pub fn ongoing_reassignments(
    image: &MetadataImage,
    partitions: Option<&[PartitionName]>,
) -> Vec<(PartitionName, OngoingReassignment)> {
    let of = |topic: &TopicImage, index: i32, partition: &PartitionImage| {
        is_under_way(partition).then(|| {
            let ongoing = OngoingReassignment {
                replicas: partition.replicas.clone(),
                adding: partition.adding_replicas.clone(),
                removing: partition.removing_replicas.clone(),
            };
            ((topic.name.to_string(), index), ongoing)
        })
    };
    match partitions {
        Some(partitions) => partitions
            .iter()
            .filter_map(|(name, index)| {
                let topic = image.topic(name)?;
                of(topic, *index, topic.partition(*index)?)
            })
            .collect(),
        None => image
            .topics()
            .flat_map(|topic| {
                let partitions = (0..).zip(&topic.partitions);
                partitions.filter_map(move |(index, partition)| of(topic, index, partition))
            })
            .collect(),
    }
}
