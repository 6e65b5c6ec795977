//! What becomes of one partition: who is in sync, who may lead it besides (KIP-966), who leads it, and where a
//! reassignment of its replicas stands (KIP-455).
//!
//! One value takes what somebody wants ([`PartitionChanger`]) and makes of it the change that keeps all rules at once:
//!
//! * A reassignment ends as soon as all that were added are in sync and one of those that stay is, too.
//! * A leader that is alive is not deposed: it is told its *heir*, and hands over once that one has all of its log
//!   ([`super::handing_over`]). A reassignment that takes its replica away waits for that.
//! * *Eligible leader replicas* left an ISR that was, or became, smaller than `min.insync.replicas`. The high watermark does
//!   not move then, so they have all that is committed, until they lose it. They are forgotten once the ISR is large enough.
//! * The leader is one of the ISR or of the eligible replicas; it stays as long as it can. Where nobody is left, the last
//!   leader may lead again once it is back, and with `unclean.leader.election.enable` (or when somebody asks for it) anyone:
//!   the partition then is *recovering*.
//! * Without the feature for eligible leaders the last in-sync replica stays in the ISR though it is gone.

use super::Decider;
use crate::env::planted::{Planted, is_planted};
use crate::metadata::{
    ConfigResource, ConfigResourceType, ELIGIBLE_LEADER_REPLICAS_FEATURE, PartitionChange, PartitionImage,
    TopicImage,
};
use crate::types::NodeId;

/// What a topic's partitions are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether the cluster keeps eligible leader replicas.
    keeps_eligible: bool,
    min_insync_replicas: usize,
    /// Whether a replica may lead that may lack what was acknowledged.
    pub may_be_unclean: bool,
}

/// Whom an election prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// The leader that there is, then the first replica that can.
    Steady,
    /// The first replica: a leader that is well hands over to it.
    Preferred,
    /// This replica, which has all that the leader has.
    Heir(NodeId),
}

/// What a replica has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Perhaps what was not synced: its process did not end in order. As the last leader it may still lead where nobody
    /// else is left.
    Unsynced,
    /// Its log.
    Everything,
}

/// Makes one change of a partition.
pub(super) struct PartitionChanger<'a> {
    before: &'a PartitionImage,
    rules: Rules,
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
    pub recovering: bool,
    /// To whom the leader that stays for now is to hand over.
    heir: Option<NodeId>,
    pub election: Election,
    /// A replica that has, or may have, lost records: it is not eligible any more.
    pub lost: Option<(NodeId, Lost)>,
    /// The partition gets a new leader epoch, even when its leader stays.
    pub renews_leadership: bool,
}

impl<'a> PartitionChanger<'a> {
    /// The partition as it is.
    pub(super) fn of(before: &'a PartitionImage, rules: Rules) -> Self {
        Self {
            before,
            rules,
            replicas: before.replicas.clone(),
            isr: before.isr.clone(),
            adding: before.adding_replicas.clone(),
            removing: before.removing_replicas.clone(),
            recovering: before.recovering,
            heir: before.heir,
            election: Election::Steady,
            lost: None,
            renews_leadership: false,
        }
    }

    /// The change, led by one whom `can_lead` finds alive; empty when all stays as it is. The caller puts in whose it is.
    pub(super) fn build(mut self, can_lead: impl Fn(NodeId) -> bool) -> PartitionChange {
        self.complete_reassignment(&can_lead);
        let (mut eligible, mut last_known) = self.eligible();
        if self.isr.is_empty() && !self.rules.keeps_eligible && self.lost.is_none() {
            self.isr.clone_from(&self.before.isr);
        }
        let leader = self.elect(&mut eligible, &last_known, &can_lead);
        if self.rules.keeps_eligible {
            if leader.is_some() {
                last_known.clear();
            } else if self.isr.is_empty()
                && let Some(last) = self.before.leader.filter(|last| !self.has_nothing(last))
            {
                last_known = vec![last];
            }
        }
        let mut change = PartitionChange::default();
        let before = self.before;
        if leader != before.leader || self.renews_leadership && leader.is_some() {
            change.leader = Some(leader.unwrap_or(PartitionChange::NO_LEADER));
        }
        let changed = |new: Vec<NodeId>, old: &Vec<NodeId>| (new != *old).then_some(new);
        let isr = self.isr.clone();
        change.isr = changed(self.isr, &before.isr);
        change.replicas = changed(self.replicas, &before.replicas);
        change.adding_replicas = changed(self.adding, &before.adding_replicas);
        change.removing_replicas = changed(self.removing, &before.removing_replicas);
        change.eligible_leader_replicas = changed(eligible, &before.eligible_leader_replicas);
        change.last_known_eligible_leader_replicas =
            changed(last_known, &before.last_known_eligible_leader_replicas);
        change.recovering = (self.recovering != before.recovering).then_some(self.recovering);
        let stays = leader == before.leader;
        let heir =
            self.heir.filter(|heir| stays && Some(*heir) != leader && isr.contains(heir) && can_lead(*heir));
        let kept = before.heir.filter(|_| change.leader.is_none());
        change.heir = (heir != kept).then(|| heir.unwrap_or(PartitionChange::NO_LEADER));
        change
    }

    /// The leader, if it is well: in sync, and able to lead on.
    fn well_leader(&self, can_lead: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        self.before.leader.filter(|leader| self.isr.contains(leader) && can_lead(*leader))
    }

    fn complete_reassignment(&mut self, can_lead: impl Fn(NodeId) -> bool) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let stays = |id: &NodeId| !self.removing.contains(id);
        let isr: Vec<NodeId> = self.isr.iter().copied().filter(stays).collect();
        if isr.is_empty() || !self.adding.iter().all(|id| isr.contains(id)) {
            return;
        }
        let goes = |leader: &NodeId| !stays(leader) && !matches!(self.election, Election::Heir(_));
        if self.well_leader(&can_lead).is_some_and(|leader| goes(&leader))
            && let Some(heir) = self.replicas.iter().find(|id| isr.contains(id) && can_lead(**id))
        {
            self.heir = Some(*heir);
            return;
        }
        self.replicas.retain(|id| !self.removing.contains(id));
        self.isr = isr;
        self.adding.clear();
        self.removing.clear();
    }

    /// The eligible leader replicas beside the ISR, and the last known ones.
    fn eligible(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let enough = self.rules.min_insync_replicas.min(self.replicas.len());
        if !self.rules.keeps_eligible || self.isr.len() >= enough {
            return (Vec::new(), Vec::new());
        }
        let before = self.before;
        let mut eligible: Vec<NodeId> =
            before.eligible_leader_replicas.iter().chain(&before.isr).copied().collect();
        eligible.sort_unstable();
        eligible.dedup();
        let is_lost = |id: &NodeId| self.lost.is_some_and(|(lost, _)| lost == *id);
        eligible.retain(|id| self.replicas.contains(id) && !self.isr.contains(id) && !is_lost(id));
        let mut last_known = before.last_known_eligible_leader_replicas.clone();
        last_known.retain(|id| !self.has_nothing(id));
        (eligible, last_known)
    }

    fn has_nothing(&self, id: &NodeId) -> bool {
        self.lost == Some((*id, Lost::Everything))
    }

    fn elect(
        &mut self,
        eligible: &mut Vec<NodeId>,
        last_known: &[NodeId],
        can_lead: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let is_in_sync = |id: &NodeId| self.isr.contains(id) || eligible.contains(id);
        let may_lead =
            |id: &NodeId| (is_in_sync(id) || is_planted(Planted::ElectionOutsideIsr)) && can_lead(*id);
        let preferred = match self.election {
            Election::Steady => None,
            Election::Preferred => self.replicas.first().copied().filter(may_lead),
            Election::Heir(heir) => Some(heir).filter(may_lead),
        };
        if self.election == Election::Preferred
            && let Some(preferred) = preferred.filter(is_in_sync)
            && let Some(leader) = self.well_leader(&can_lead)
        {
            self.heir = Some(preferred);
            return Some(leader);
        }
        let steady = || self.before.leader.as_ref().filter(|id| may_lead(id));
        let first = || self.replicas.iter().find(|id| may_lead(id));
        if let Some(leader) = preferred.or_else(|| steady().copied()).or_else(|| first().copied()) {
            if !self.isr.contains(&leader) {
                // Those in sync cannot lead now; they have what is committed, as it has.
                eligible.retain(|id| *id != leader);
                eligible.append(&mut self.isr);
                eligible.sort_unstable();
                self.isr = vec![leader];
            }
            return Some(leader);
        }
        let is_forsaken = self.isr.is_empty() && eligible.is_empty();
        let last = match last_known {
            [last] if is_forsaken && self.replicas.contains(last) && can_lead(*last) => Some(*last),
            _ => None,
        };
        let any = || self.replicas.iter().copied().find(|id| self.rules.may_be_unclean && can_lead(*id));
        let leader = last.or_else(any)?;
        self.isr = vec![leader];
        eligible.clear();
        self.recovering = true;
        Some(leader)
    }
}

impl Decider<'_> {
    /// What the partitions of a topic are held to.
    pub(super) fn rules(&self, topic: &TopicImage) -> Rules {
        let of_cluster = self.image.configs(&ConfigResource::all_brokers());
        let value = |key: &str| {
            let set = topic.configs.get(key).or_else(|| of_cluster?.get(key)).cloned();
            set.or_else(|| (self.config.schema.default)(ConfigResourceType::Topic, key))
        };
        let min_insync_replicas = value(MIN_INSYNC_REPLICAS).and_then(|value| value.trim().parse().ok());
        let may_be_unclean = value(UNCLEAN_ELECTION).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Rules {
            keeps_eligible: self.keeps_eligible_leaders(),
            min_insync_replicas: min_insync_replicas.unwrap_or(1).max(1),
            may_be_unclean,
        }
    }

    /// Whether the cluster keeps eligible leader replicas (KIP-966).
    pub(super) fn keeps_eligible_leaders(&self) -> bool {
        self.image.feature_level(ELIGIBLE_LEADER_REPLICAS_FEATURE) > 0
    }
}

pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";
