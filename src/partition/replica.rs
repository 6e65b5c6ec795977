//! The pure part of a replica: who leads, who is in sync, and how far the high watermark may go.
//!
//! Nothing here asks a disk, a clock or a lock; what it needs comes as arguments. Rules, those of Kafka's
//! `Partition`:
//!
//! * The in-sync replicas (ISR) change only by the controller's log. While a change that this leader asked for is
//!   under way, it may or may not have happened: records are committed when the *maximal* ISR has them, which is the
//!   committed one and whoever is about to join it. Whoever is about to be removed counts until that is committed.
//!   So whomever the controller elects, from whichever ISR, has all that was acknowledged.
//! * The high watermark does not move while fewer replicas are in sync than `min.insync.replicas` asks for (KIP-966):
//!   those that left the ISR below it may be elected, as they have all that was committed.
//! * What is known of a follower belongs to one process of it (its broker epoch, KIP-903) and to one leader epoch.
//! * The high watermark never falls while this node leads. A follower's is the leader's, as far as its own log goes;
//!   it falls with a truncation.

use std::collections::BTreeMap;

use crate::env::planted::{Planted, is_planted};
use crate::metadata::PartitionImage;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// What this node knows of a partition it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    node: NodeId,
    leader: Option<NodeId>,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    replicas: Vec<NodeId>,
    in_sync: InSync,
    /// What their fetches told of the followers; of a leader only.
    followers: BTreeMap<NodeId, Follower>,
    high_watermark: Offset,
    /// Of a leader: where the log ended when its leadership began. Below it, the high watermark may be behind what the
    /// leader before had told consumers.
    epoch_start: Offset,
    /// To whom the leader is to hand over.
    heir: Option<NodeId>,
    /// When the leader epoch began here (ms): in-sync followers that were not heard of since were in sync then.
    epoch_began_ms: i64,
}

/// The in-sync replicas: as the controller's log has them, and what this leader asked it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSync {
    committed: Vec<NodeId>,
    asked: Option<Asked>,
}

/// A change of the ISR that the controller was asked for; what became of it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Add(NodeId),
    Remove(Vec<NodeId>),
    /// The controller has refused to let this one join. Another copy of the request may be on its way still, and be
    /// granted: so it counts until the partition has another epoch, which the leader asks for.
    Withdrawn(NodeId),
}

impl InSync {
    fn of(committed: &[NodeId]) -> Self {
        Self { committed: committed.to_vec(), asked: None }
    }

    /// As the controller's log has them.
    pub fn committed(&self) -> &[NodeId] {
        &self.committed
    }

    /// All that may be in the ISR by now.
    pub fn maximal(&self) -> impl Iterator<Item = NodeId> + '_ {
        let joins = match &self.asked {
            Some(Asked::Add(joins) | Asked::Withdrawn(joins)) => Some(*joins),
            Some(Asked::Remove(_)) | None => None,
        };
        self.committed.iter().copied().chain(joins)
    }

    /// As this leader wants them.
    fn wanted(&self) -> Vec<NodeId> {
        match &self.asked {
            Some(Asked::Add(_)) => self.maximal().collect(),
            Some(Asked::Remove(leave)) => {
                self.committed.iter().copied().filter(|node| !leave.contains(node)).collect()
            }
            Some(Asked::Withdrawn(_)) | None => self.committed.clone(),
        }
    }
}

/// A follower, as its fetches told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// -1: a follower that does not say.
    pub broker_epoch: i64,
    /// It has all below.
    pub log_end: Offset,
    pub log_start: Offset,
    /// When it last had all that this leader had then (ms).
    pub caught_up_ms: i64,
    last_fetch_ms: i64,
    leader_end_at_last_fetch: Offset,
    /// The high watermark that it was told last.
    pub told_high_watermark: Offset,
}

/// A follower's fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    pub follower: NodeId,
    /// -1: not said (before KIP-903).
    pub broker_epoch: i64,
    /// The leader epoch that it follows; negative: not said.
    pub leader_epoch: LeaderEpoch,
    /// It has all below.
    pub offset: Offset,
    pub log_start: Offset,
}

/// Why a follower's fetch does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the node that fetches holds no replica of the partition")]
    NotReplica,
    #[error("the fetch is of an earlier process of its broker")]
    StaleBrokerEpoch,
    #[error(transparent)]
    Epoch(#[from] EpochError),
}

/// A change of the ISR for the controller (AlterPartition), with each member's broker epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<(NodeId, i64)>,
}

/// What the image of a partition means for a replica that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is known already, or older.
    Nothing,
    /// This node begins to lead, in a new leader epoch.
    Lead(LeaderEpoch),
    /// This node follows whoever leads in a new leader epoch, or waits for one.
    Follow(LeaderEpoch),
    /// The leadership is the same; something else changed.
    Same,
}

/// Whether a request's idea of the leader epoch fits (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    #[error("the leader epoch of the request is older than the partition's")]
    Fenced,
    #[error("the leader epoch of the request is newer than the partition's")]
    Unknown,
}

impl Replica {
    /// A replica that nobody leads yet. What lies below `high_watermark` was once committed.
    pub fn new(node: NodeId, high_watermark: Offset) -> Self {
        Self {
            node,
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: -1,
            replicas: Vec::new(),
            in_sync: InSync::of(&[]),
            followers: BTreeMap::new(),
            high_watermark,
            epoch_start: Offset::NONE,
            heir: None,
            epoch_began_ms: 0,
        }
    }

    /// What [`Self::apply`] will do.
    pub fn turn(&self, image: &PartitionImage) -> Turn {
        if image.partition_epoch <= self.partition_epoch {
            return Turn::Nothing;
        }
        if image.leader_epoch == self.leader_epoch {
            return Turn::Same;
        }
        if image.leader == Some(self.node) {
            Turn::Lead(image.leader_epoch)
        } else {
            Turn::Follow(image.leader_epoch)
        }
    }

    /// Takes over what the controller decided. Older news than what is known changes nothing. `log_end` is where the
    /// log ends; it is not written to meanwhile when a leadership begins.
    pub fn apply(&mut self, image: &PartitionImage, log_end: Offset, now_ms: i64) -> Turn {
        let turn = self.turn(image);
        match turn {
            Turn::Nothing => return turn,
            Turn::Lead(_) => self.epoch_start = log_end,
            Turn::Follow(_) => self.epoch_start = Offset::NONE,
            Turn::Same => {}
        }
        if turn != Turn::Same {
            self.followers.clear();
            self.epoch_began_ms = now_ms;
        }
        self.leader = image.leader;
        self.leader_epoch = image.leader_epoch;
        self.partition_epoch = image.partition_epoch;
        // A proposal was for the partition epoch before: it has happened by now, or never will.
        self.in_sync = InSync::of(&image.isr);
        self.replicas.clone_from(&image.replicas);
        self.heir = image.heir;
        self.followers.retain(|follower, _| image.replicas.contains(follower));
        turn
    }

    /// The partition is gone from this node: it leads nothing any more, whatever it is still asked.
    pub fn retire(&mut self) {
        self.leader = None;
        self.followers.clear();
    }

    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.node)
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// To whom the controller wants the leader to hand over.
    pub fn heir(&self) -> Option<NodeId> {
        self.heir
    }

    pub fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    pub fn in_sync(&self) -> &InSync {
        &self.in_sync
    }

    pub fn followers(&self) -> &BTreeMap<NodeId, Follower> {
        &self.followers
    }

    /// What is committed lies below.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether the high watermark may be behind what an earlier leader told consumers (KIP-207): until it has reached
    /// where this leadership began.
    pub fn is_behind_epoch_start(&self) -> bool {
        self.is_leader() && self.high_watermark < self.epoch_start
    }

    /// How many must be in sync, of those that `min.insync.replicas` asks for: no more than there are.
    pub fn needed_in_sync(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas).unwrap_or_default().min(self.replicas.len())
    }

    /// Checks the leader epoch that a request expects; a negative one expects nothing.
    pub fn check_epoch(&self, expected: LeaderEpoch) -> Result<(), EpochError> {
        match expected {
            LeaderEpoch(..0) => Ok(()),
            expected if expected < self.leader_epoch => Err(EpochError::Fenced),
            expected if expected > self.leader_epoch => Err(EpochError::Unknown),
            _ => Ok(()),
        }
    }

    /// Notes what a follower's fetch tells, which this leader answers: once for each fetch, and not when the answer is
    /// that the logs part (KAFKA-13141). `leader_end` is where this log ends. Returns the high watermark that the follower
    /// was told last; [`Offset::NONE`] when this process of it was told none.
    pub fn fetched(
        &mut self,
        fetch: FollowerFetch,
        leader_end: Offset,
        now_ms: i64,
    ) -> Result<Offset, FollowerError> {
        // What a fetch of another leadership tells may have been cut since.
        self.check_epoch(fetch.leader_epoch)?;
        if !self.is_leader() {
            return Err(FollowerError::NotLeader);
        }
        if fetch.follower == self.node || !self.replicas.contains(&fetch.follower) {
            return Err(FollowerError::NotReplica);
        }
        let known = self.followers.get(&fetch.follower).copied();
        if known.is_some_and(|known| fetch.broker_epoch != -1 && fetch.broker_epoch < known.broker_epoch) {
            return Err(FollowerError::StaleBrokerEpoch);
        }
        // A new process may have lost what the one before had.
        let known = known.filter(|known| {
            known.broker_epoch == fetch.broker_epoch || is_planted(Planted::IgnoredBrokerEpoch)
        });
        let caught_up_ms = match known {
            _ if fetch.offset >= leader_end => now_ms,
            Some(known) if fetch.offset >= known.leader_end_at_last_fetch => {
                known.caught_up_ms.max(known.last_fetch_ms)
            }
            Some(known) => known.caught_up_ms,
            None if self.in_sync.committed.contains(&fetch.follower) => self.epoch_began_ms,
            None => i64::MIN,
        };
        let follower = Follower {
            broker_epoch: fetch.broker_epoch,
            log_end: match known {
                Some(known) if is_planted(Planted::IgnoredBrokerEpoch) => known.log_end.max(fetch.offset),
                _ => fetch.offset,
            },
            log_start: fetch.log_start,
            caught_up_ms,
            last_fetch_ms: now_ms,
            leader_end_at_last_fetch: known
                .map_or(leader_end, |known| known.leader_end_at_last_fetch.max(leader_end)),
            told_high_watermark: known.map_or(Offset::NONE, |known| known.told_high_watermark),
        };
        self.followers.insert(fetch.follower, follower);
        Ok(follower.told_high_watermark)
    }

    /// The answer to a follower's fetch tells it of this high watermark.
    pub fn told(&mut self, follower: NodeId, high_watermark: Offset) {
        if let Some(known) = self.followers.get_mut(&follower) {
            known.told_high_watermark = high_watermark;
        }
    }

    /// Where the log begins on all of these replicas, as far as they have told this leader (DeleteRecords answers that);
    /// `own_start` is where it begins here. `None` while one of them has not been heard of.
    pub fn low_watermark(&self, own_start: Offset, is_alive: impl Fn(NodeId) -> bool) -> Option<Offset> {
        let mut least = own_start;
        for member in self.replicas.iter().filter(|member| **member != self.node && is_alive(**member)) {
            least = least.min(self.followers.get(member)?.log_start);
        }
        Some(least)
    }

    /// The offset below which all of these have every record, when the leader has all below `own_end`. `None` while
    /// one of them has not been heard of.
    fn end_of(&self, members: impl Iterator<Item = NodeId>, own_end: Offset) -> Option<Offset> {
        let mut end = own_end;
        for member in members.filter(|member| *member != self.node) {
            end = end.min(self.followers.get(&member)?.log_end);
        }
        Some(end)
    }

    /// Moves the leader's high watermark to where the maximal ISR is, if enough are in sync; tells whether it moved.
    /// `own_end` is what the leader itself counts as there (what is synced, where the topic asks for that).
    pub fn advance(&mut self, own_end: Offset, min_insync_replicas: i32) -> bool {
        if !self.is_leader() || self.in_sync.committed.len() < self.needed_in_sync(min_insync_replicas) {
            return false;
        }
        let end = match is_planted(Planted::AcknowledgementBeforeQuorum) {
            true => Some(own_end),
            false => self.end_of(self.in_sync.maximal(), own_end),
        };
        let moves = end.is_some_and(|end| end > self.high_watermark);
        if let Some(end) = end.filter(|_| moves) {
            self.high_watermark = end;
        }
        moves
    }

    /// A follower's high watermark is its leader's, as far as its own log goes.
    pub fn leader_told(&mut self, high_watermark: Offset, log_end: Offset) {
        if !self.is_leader() {
            self.high_watermark = high_watermark.min(log_end);
        }
    }

    /// The log was cut, or found shorter than it was: nothing beyond its end is committed here.
    pub fn truncated(&mut self, log_end: Offset) {
        self.high_watermark = self.high_watermark.min(log_end);
    }

    /// Asks for a follower to join the ISR, when it has all that is committed and all that was there when this
    /// leadership began. Asked when it has fetched. `active_epoch` gives the broker epoch of a broker that is registered, not fenced and not
    /// shutting down; `None` for others. One proposal is under way at a time.
    pub fn propose_expansion(
        &mut self,
        follower: NodeId,
        active_epoch: impl Fn(NodeId) -> Option<i64>,
    ) -> Option<IsrProposal> {
        let known = self.followers.get(&follower)?;
        let is_there = known.log_end >= self.high_watermark && known.log_end >= self.epoch_start;
        let is_this_process = active_epoch(follower)
            .is_some_and(|epoch| known.broker_epoch == -1 || known.broker_epoch == epoch);
        if !self.is_leader()
            || self.in_sync.asked.is_some()
            || self.in_sync.committed.contains(&follower)
            || !is_there
            || !is_this_process
        {
            return None;
        }
        self.in_sync.asked = Some(Asked::Add(follower));
        Some(self.proposal(active_epoch))
    }

    /// Asks for those to leave the ISR that have not had all of the log for `lag_ms_max` (`replica.lag.time.max.ms`).
    pub fn propose_shrink(
        &mut self,
        leader_end: Offset,
        now_ms: i64,
        lag_ms_max: i64,
        active_epoch: impl Fn(NodeId) -> Option<i64>,
    ) -> Option<IsrProposal> {
        if !self.is_leader() || self.in_sync.asked.is_some() {
            return None;
        }
        let lags = |member: &NodeId| {
            let known = self.followers.get(member);
            let caught_up_ms = known.map_or(self.epoch_began_ms, |known| known.caught_up_ms);
            *member != self.node
                && known.is_none_or(|known| known.log_end != leader_end)
                && now_ms.saturating_sub(caught_up_ms) > lag_ms_max
        };
        let leave: Vec<NodeId> = self.in_sync.committed.iter().copied().filter(lags).collect();
        if leave.is_empty() {
            return None;
        }
        self.in_sync.asked = Some(Asked::Remove(leave));
        Some(self.proposal(active_epoch))
    }

    /// What is under way, to be sent (again); `None` when nothing is.
    pub fn proposal_under_way(&self, active_epoch: impl Fn(NodeId) -> Option<i64>) -> Option<IsrProposal> {
        self.in_sync.asked.is_some().then(|| self.proposal(active_epoch))
    }

    fn proposal(&self, active_epoch: impl Fn(NodeId) -> Option<i64>) -> IsrProposal {
        // A member's epoch is that of the process whose fetches were counted; the controller refuses another's.
        let epoch_of = |member: NodeId| {
            let heard = self.followers.get(&member).map(|known| known.broker_epoch);
            heard.or_else(|| active_epoch(member)).unwrap_or(-1)
        };
        IsrProposal {
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            isr: self.in_sync.wanted().into_iter().map(|member| (member, epoch_of(member))).collect(),
        }
    }

    /// The controller refused a proposal, as a member is not eligible (INELIGIBLE_REPLICA). Every other answer, and
    /// none at all, leaves it under way: that it happened, the image tells.
    pub fn refused(&mut self, proposal: &IsrProposal) {
        let is_of_now =
            (proposal.leader_epoch, proposal.partition_epoch) == (self.leader_epoch, self.partition_epoch);
        let isr = &proposal.isr;
        match self.in_sync.asked {
            Some(Asked::Add(joins)) if is_of_now && isr.iter().any(|(member, _)| *member == joins) => {
                self.in_sync.asked = Some(Asked::Withdrawn(joins));
            }
            _ => {}
        }
    }

    /// A fault for the model: who may have joined does not count.
    #[cfg(test)]
    pub(super) fn advance_over_committed(&mut self, own_end: Offset, min_insync_replicas: i32) -> bool {
        let asked = self.in_sync.asked.take();
        let moves = self.advance(own_end, min_insync_replicas);
        self.in_sync.asked = asked;
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn image(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> PartitionImage {
        PartitionImage {
            replicas: nodes(&[1, 2, 3]),
            isr: nodes(isr),
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch,
            eligible_leader_replicas: Vec::new(),
            last_known_eligible_leader_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            recovering: false,
            heir: None,
        }
    }

    fn leader(isr: &[i32], log_end: i64) -> Replica {
        let mut replica = Replica::new(NodeId(1), Offset(0));
        assert_eq!(replica.apply(&image(1, 4, 0, isr), Offset(log_end), 0), Turn::Lead(LeaderEpoch(4)));
        replica
    }

    fn fetch(follower: i32, offset: i64) -> FollowerFetch {
        let (follower, offset) = (NodeId(follower), Offset(offset));
        FollowerFetch {
            follower,
            broker_epoch: 7,
            leader_epoch: LeaderEpoch::NONE,
            offset,
            log_start: Offset(0),
        }
    }

    fn active(_: NodeId) -> Option<i64> {
        Some(7)
    }

    #[test]
    fn the_high_watermark_is_what_every_in_sync_replica_has() {
        let mut replica = leader(&[1], 3);
        assert!(replica.advance(Offset(9), 1) && replica.high_watermark() == Offset(9));
        assert_eq!(replica.apply(&image(1, 4, 1, &[1, 2, 3]), Offset(9), 0), Turn::Same);
        assert!(!replica.advance(Offset(12), 1), "2 and 3 have not been heard of");
        replica.fetched(fetch(2, 11), Offset(12), 0).unwrap();
        replica.fetched(fetch(3, 20), Offset(20), 0).unwrap();
        assert!(replica.advance(Offset(12), 1) && replica.high_watermark() == Offset(11));
        // It does not fall, whoever joins, and a new leadership knows nothing of its followers.
        replica.fetched(fetch(2, 5), Offset(12), 0).unwrap();
        assert!(!replica.advance(Offset(12), 1));
        assert_eq!(replica.apply(&image(1, 5, 2, &[1, 2]), Offset(12), 0), Turn::Lead(LeaderEpoch(5)));
        assert!(!replica.advance(Offset(13), 1) && replica.high_watermark() == Offset(11));
        assert!(replica.is_behind_epoch_start());
        replica.fetched(fetch(2, 12), Offset(13), 0).unwrap();
        assert!(replica.advance(Offset(13), 1) && !replica.is_behind_epoch_start());
        // Old news.
        assert_eq!(replica.apply(&image(2, 4, 1, &[2]), Offset(13), 0), Turn::Nothing);
        assert!(replica.is_leader());
        assert_eq!(replica.apply(&image(2, 6, 3, &[2]), Offset(13), 0), Turn::Follow(LeaderEpoch(6)));
        assert!(!replica.advance(Offset(13), 1));
    }

    #[test]
    fn who_is_about_to_join_counts_and_who_is_about_to_leave_still_does() {
        let mut replica = leader(&[1, 2], 0);
        replica.fetched(fetch(2, 10), Offset(10), 0).unwrap();
        replica.fetched(fetch(3, 4), Offset(10), 0).unwrap();
        assert!(replica.advance(Offset(6), 1));
        assert_eq!(replica.propose_expansion(NodeId(3), active), None, "it lacks what is committed");
        replica.fetched(fetch(3, 6), Offset(10), 0).unwrap();
        assert_eq!(
            replica.propose_expansion(NodeId(3), |_| Some(8)),
            None,
            "another process of it is registered"
        );
        assert_eq!(replica.propose_expansion(NodeId(3), |_| None), None, "it is fenced");
        let proposal = replica.propose_expansion(NodeId(3), active).unwrap();
        assert_eq!(proposal.isr, [(NodeId(1), 7), (NodeId(2), 7), (NodeId(3), 7)]);
        assert!(!replica.advance(Offset(10), 1), "3 may be in the ISR by now");
        assert_eq!(replica.propose_expansion(NodeId(3), active), None, "one at a time");
        assert_eq!(replica.proposal_under_way(active), Some(proposal.clone()));
        // Refused: an earlier copy may be granted still, so another partition epoch is asked for.
        replica.refused(&proposal);
        assert!(!replica.advance(Offset(10), 1));
        let settling = replica.proposal_under_way(active).unwrap();
        assert_eq!(settling.isr, [(NodeId(1), 7), (NodeId(2), 7)]);
        assert_eq!(replica.apply(&image(1, 4, 1, &[1, 2]), Offset(10), 0), Turn::Same);
        assert!(replica.advance(Offset(10), 1) && replica.high_watermark() == Offset(10));

        // 2 lags, and counts until the controller has let it go.
        replica.fetched(fetch(2, 10), Offset(12), 100).unwrap();
        assert_eq!(replica.propose_shrink(Offset(12), 1000, 1000, active), None);
        let proposal = replica.propose_shrink(Offset(12), 1001, 1000, active).unwrap();
        assert_eq!(proposal.isr, [(NodeId(1), 7)]);
        assert!(!replica.advance(Offset(12), 1));
        assert_eq!(replica.apply(&image(1, 4, 2, &[1]), Offset(12), 0), Turn::Same);
        replica.refused(&proposal);
        assert!(replica.advance(Offset(12), 1) && replica.high_watermark() == Offset(12));
    }

    #[test]
    fn below_the_least_number_in_sync_nothing_is_committed() {
        let mut replica = leader(&[1, 2], 0);
        replica.fetched(fetch(2, 5), Offset(5), 0).unwrap();
        assert!(!replica.advance(Offset(5), 3) && replica.advance(Offset(5), 2));
        replica.apply(&image(1, 4, 1, &[1]), Offset(5), 0);
        assert!(!replica.advance(Offset(9), 2), "2 may be elected: it must have all that is committed");
        assert_eq!(replica.needed_in_sync(5), 3, "no more than there are");
    }

    #[test]
    fn what_is_known_of_a_follower_is_of_one_process() {
        let mut replica = leader(&[1, 2], 0);
        replica.fetched(fetch(2, 9), Offset(9), 5).unwrap();
        let of = |broker_epoch, offset| FollowerFetch { broker_epoch, ..fetch(2, offset) };
        assert_eq!(replica.fetched(of(6, 9), Offset(9), 6), Err(FollowerError::StaleBrokerEpoch));
        replica.fetched(of(8, 2), Offset(9), 7).unwrap();
        let known = replica.followers()[&NodeId(2)];
        assert_eq!(
            (known.log_end, known.caught_up_ms),
            (Offset(2), 0),
            "it was in sync when the epoch began"
        );
        // It had at 9 ms all that there was at 7.
        assert_eq!(replica.propose_shrink(Offset(9), 10, 10, active), None);
        replica.fetched(of(8, 9), Offset(11), 9).unwrap();
        assert_eq!(replica.followers()[&NodeId(2)].caught_up_ms, 7);
        assert_eq!(replica.fetched(fetch(4, 9), Offset(9), 5), Err(FollowerError::NotReplica));
        assert_eq!(replica.fetched(fetch(1, 9), Offset(9), 5), Err(FollowerError::NotReplica));
        replica.retire();
        assert_eq!(replica.fetched(of(8, 9), Offset(9), 9), Err(FollowerError::NotLeader));
    }

    #[test]
    fn a_followers_high_watermark_is_the_leaders_as_far_as_its_log_goes() {
        let mut replica = Replica::new(NodeId(2), Offset(3));
        assert_eq!(replica.apply(&image(1, 4, 0, &[1, 2]), Offset(10), 0), Turn::Follow(LeaderEpoch(4)));
        replica.leader_told(Offset(8), Offset(10));
        assert_eq!(replica.high_watermark(), Offset(8));
        replica.leader_told(Offset(20), Offset(10));
        assert_eq!(replica.high_watermark(), Offset(10));
        replica.truncated(Offset(6));
        assert_eq!(replica.high_watermark(), Offset(6));
        replica.apply(&image(2, 5, 1, &[2]), Offset(6), 0);
        replica.leader_told(Offset(1), Offset(6));
        assert_eq!(replica.high_watermark(), Offset(6), "a leader is told nothing");
    }

    #[test]
    fn epochs_of_requests_are_fenced_or_unknown() {
        let mut replica = Replica::new(NodeId(1), Offset(0));
        replica.apply(&image(1, 3, 0, &[1]), Offset(0), 0);
        assert_eq!(replica.check_epoch(LeaderEpoch::NONE), Ok(()));
        assert_eq!(replica.check_epoch(LeaderEpoch(3)), Ok(()));
        assert_eq!(replica.check_epoch(LeaderEpoch(2)), Err(EpochError::Fenced));
        assert_eq!(replica.check_epoch(LeaderEpoch(4)), Err(EpochError::Unknown));
        replica.retire();
        assert!(!replica.is_leader());
    }
}
