//! Leaders that hand over: planned moves, which lose nothing that the leader alone has acknowledged.
//!
//! A leader that is well and is to lead no more (it shuts down, another replica is preferred, a reassignment takes its replica
//! away) stops to write, waits until its *heir* has all of its log, and asks for it to be the leader. What is decided here
//! counts for the epochs that it was asked under, and every decision raises the partition's: so a leader that has asked
//! writes on as soon as its partition has another epoch, and no copy of what it asked can depose it after that.

use kafka_protocol::ResponseError;

use super::partition_change::{Election, PartitionChanger};
use super::request::{HandOver, HandOvers};
use super::{ControllerError, Decider, Decision};
use crate::metadata::{MetadataRecord, PartitionChange};
use crate::types::NodeId;

type Answers = Result<Vec<Result<(), ControllerError>>, ControllerError>;

impl Decider<'_> {
    /// Makes the heirs leaders, each partition for itself.
    pub fn hand_over(&mut self, request: &HandOvers) -> Decision<Answers> {
        if let Err(error) = self.check_broker_epoch(request.broker) {
            return Decision::new(Vec::new(), Err(error));
        }
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(request.partitions.len());
        for asked in &request.partitions {
            let answer = match self.heir_leads(request.broker.id, asked) {
                Ok((change, answer)) => {
                    records.push(MetadataRecord::PartitionChange(change));
                    answer
                }
                Err(code) => Err(code),
            };
            answers.push(answer.map_err(ControllerError::plain));
        }
        Decision { records, response: Ok(answers), is_atomic: false }
    }

    /// The change, and what is answered with it. The error is of a request that is not of now, and changes nothing.
    fn heir_leads(
        &self,
        leader: NodeId,
        asked: &HandOver,
    ) -> Result<(PartitionChange, Result<(), ResponseError>), ResponseError> {
        let (topic, partition) = self.led_partition(
            leader,
            asked.topic_id,
            asked.partition,
            asked.leader_epoch,
            asked.partition_epoch,
        )?;
        let can_lead = |id: NodeId| self.image.is_active(id);
        let is_able = partition.isr.contains(&asked.heir) && can_lead(asked.heir);
        let mut changer = PartitionChanger::of(partition, self.rules(topic));
        if is_able {
            changer.election = Election::Heir(asked.heir);
        }
        let change = changer.build(can_lead);
        let change = PartitionChange { topic_id: asked.topic_id, partition: asked.partition, ..change };
        Ok((change, if is_able { Ok(()) } else { Err(ResponseError::IneligibleReplica) }))
    }
}
