//! How a leader stops in favour of another replica, its *heir*, without losing what it alone has acknowledged.
//!
//! ```text
//! begin    its log writes nothing any more, what producers send queues; followers go on fetching
//! drained  the heir has all of the log, and those in sync have it, too
//! ask      the controller makes the heir the leader; what queued is refused, and its producers go there
//! ```
//!
//! A heir that takes too long is given up before the controller is asked, and what has queued is written. Once it was asked, only
//! the partition's next epoch ends the wait, whatever it brings: the controller may have decided already.
//! (The controller raises the epoch with every such decision.)

use tokio::sync::mpsc;

use super::Partition;
use super::replica::Replica;
use super::replica_partition::State;
use crate::segment::LeadershipEnded;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// A partition on its way to another leader.
#[derive(Debug)]
pub(super) struct HandingOver {
    heir: NodeId,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    /// Where the log ends until then.
    end: Offset,
    is_asked: bool,
    is_told: bool,
    /// Told once when it is drained. Gone when this is over.
    drained: mpsc::UnboundedSender<()>,
}

/// What the controller is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOverProposal {
    pub heir: NodeId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
}

/// Why a partition is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("node {0} is not in sync, or leads already")]
    NotInSync(NodeId),
    #[error("the partition is handed over already")]
    UnderWay,
}

impl From<LeadershipEnded> for HandOverError {
    fn from(_: LeadershipEnded) -> Self {
        Self::NotLeader
    }
}

impl HandingOver {
    fn heir_has_all(&self, replica: &Replica) -> bool {
        replica.followers().get(&self.heir).is_some_and(|heir| heir.log_end >= self.end)
    }
}

impl State {
    /// Tells whoever waits for it that the partition is drained, when it is.
    pub(super) fn look_whether_drained(&mut self) {
        let Some(handing_over) = self.handing_over.as_mut().filter(|it| !it.is_told) else { return };
        // Who waits for acknowledgements of all gets them, rather than do it again elsewhere.
        if handing_over.heir_has_all(&self.replica) && self.replica.high_watermark() >= handing_over.end {
            handing_over.is_told = true;
            // Who does not wait any more asks all the same.
            _ = handing_over.drained.send(());
        }
    }
}

impl Partition {
    /// To whom the controller wants this leader to hand over.
    pub fn heir(&self) -> Option<NodeId> {
        let replica = &self.state.read().replica;
        replica.heir().filter(|_| replica.is_leader())
    }

    /// Stops to write, so that the heir gets all. `drained` is told once it has, and dropped when the partition has another
    /// epoch or this is [abandoned](Self::abandon_hand_over). Waits for the log's writer.
    pub fn begin_hand_over(
        &self,
        heir: NodeId,
        drained: mpsc::UnboundedSender<()>,
    ) -> Result<(), HandOverError> {
        let _one_at_a_time = self.turning.lock();
        let (leader_epoch, partition_epoch) = {
            let State { replica, handing_over, .. } = &*self.state.read();
            if !self.leads(replica) {
                return Err(HandOverError::NotLeader);
            }
            if Some(heir) == replica.leader() || !replica.in_sync().committed().contains(&heir) {
                return Err(HandOverError::NotInSync(heir));
            }
            if handing_over.is_some() {
                return Err(HandOverError::UnderWay);
            }
            (replica.leader_epoch(), replica.partition_epoch())
        };
        let end = self.log.suspend(leader_epoch)?;
        let state = &mut *self.state.write();
        let (is_asked, is_told) = (false, false);
        state.handing_over =
            Some(HandingOver { heir, leader_epoch, partition_epoch, end, is_asked, is_told, drained });
        state.look_whether_drained();
        Ok(())
    }

    /// What the controller is to be asked (again), once the heir has all. From then on this leader waits for what
    /// comes of it.
    pub fn ask_to_hand_over(&self) -> Option<HandOverProposal> {
        let State { replica, handing_over, .. } = &mut *self.state.write();
        let handing_over = handing_over.as_mut()?;
        handing_over.is_asked |= handing_over.heir_has_all(replica);
        let HandingOver { heir, leader_epoch, partition_epoch, .. } = *handing_over;
        handing_over.is_asked.then_some(HandOverProposal { heir, leader_epoch, partition_epoch })
    }

    /// Writes on, unless the controller was asked. May write what has queued.
    pub fn abandon_hand_over(&self) {
        let _one_at_a_time = self.turning.lock();
        let given_up = self.state.write().handing_over.take_if(|it| !it.is_asked);
        if given_up.is_some() {
            self.log.resume();
        }
    }

    /// Whether a hand-over is under way.
    pub fn is_handing_over(&self) -> bool {
        self.state.read().handing_over.is_some()
    }
}
