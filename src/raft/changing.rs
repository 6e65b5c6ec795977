//! Who has a vote: voters are added and removed while the quorum runs (KIP-853).
//!
//! A node becomes a voter in two steps. It follows first, as one without a vote that the leader has taken in by itself
//! (`following`); then somebody has it added, by its id and the id of its folder, once it has all that the leader has.
//! openraft goes over a joint configuration, in which a majority of the old and of the new voters agree; a leader that
//! finds such a one unfinished finishes it. The leader makes one change at a time (`Links::changing`).
//!
//! A voter whose folder was made anew is removed under its old folder, follows, and is added under its new one.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::MetadataQuorum;
use super::links::{CallError, Links, QuorumRequest};
use super::quorum::node_id;
use crate::client::ClientError;
use crate::types::{NodeId, uuid_to_base64};

/// How often a change looks whether it can be made.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a voter may take to stand, and then to lead.
const STAND_LIMIT: Duration = Duration::from_millis(500);

/// A voter: the node, and the folder with its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterKey {
    pub id: NodeId,
    pub directory_id: Uuid,
}

impl fmt::Display for VoterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with directory id {}", self.id, uuid_to_base64(self.directory_id))
    }
}

/// Who shall have a vote, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoterChange {
    Add(VoterKey),
    Remove(VoterKey),
}

/// The voters stay as they are, except after [`VoterError::NotInTime`], when they may yet change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum VoterError {
    #[error("The voter id for {voter} is already part of the set of voters {voters:?}.")]
    Duplicate { voter: VoterKey, voters: Vec<i32> },
    #[error("Cannot remove voter {voter} from the set of voters {voters:?}")]
    NotFound { voter: VoterKey, voters: Vec<i32> },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotInTime(String),
    /// Another node leads, or none.
    #[error("the node that was asked does not lead the metadata quorum")]
    NotLeader,
}

impl MetadataQuorum {
    /// Adds a voter or removes one, wherever the leader is.
    pub async fn change_voters(&self, change: VoterChange, within: Duration) -> Result<(), VoterError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let changed = match (self.leader(), self.inner.links.as_deref()) {
                (Some(leader), _) if leader == self.node_id() => self.change_voters_here(change, left).await,
                (Some(leader), Some(links)) => links.change_voters(leader, change, left).await,
                _ => Err(VoterError::NotLeader),
            };
            if changed != Err(VoterError::NotLeader) {
                return changed;
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                return Err(VoterError::NotInTime("The metadata quorum has no leader".to_owned()));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The same, as the leader.
    pub(super) async fn change_voters_here(
        &self,
        change: VoterChange,
        within: Duration,
    ) -> Result<(), VoterError> {
        if self.leader() != Some(self.node_id()) {
            return Err(VoterError::NotLeader);
        }
        let Some(links) = self.inner.links.as_deref() else {
            return Err(VoterError::Invalid(
                "this node is alone, and others have no way to it: give it a listener that controller.listener.names \
                 names, and its address in controller.quorum.bootstrap.servers, and start it again"
                    .to_owned(),
            ));
        };
        let deadline = Instant::now() + within;
        // Of one that is removed nothing is kept: it may come with another folder.
        let (members, keeps_node) = match change {
            VoterChange::Add(voter) => {
                self.wait_ready(voter, links, deadline).await?;
                let id = self.raft_id(voter)?;
                (ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            }
            VoterChange::Remove(voter) => {
                let id = self.check_removal(voter)?;
                if voter.id == self.node_id() {
                    // openraft's leader would go on to lead, without a vote.
                    self.give_lead_away(links, deadline).await;
                    return Err(VoterError::NotLeader);
                }
                (ChangeMembers::RemoveVoters(BTreeSet::from([id])), false)
            }
        };
        let late = |why: &str| VoterError::NotInTime(why.to_owned());
        let turn = timeout_at(deadline, links.changing.lock()).await;
        let _turn = turn.map_err(|_| {
            late("Request timed out waiting for leader to handle previous voter change request")
        })?;
        // Somebody else may have been faster.
        if let VoterChange::Remove(voter) = change {
            self.check_removal(voter)?;
        }
        let changing = self.inner.raft.change_membership(members, keeps_node);
        let changed = timeout_at(deadline, changing).await;
        let changed = changed
            .map_err(|_| late("Request timed out waiting for voters to commit the latest voter change"))?;
        match changed {
            Ok(_) => {
                if let VoterChange::Remove(voter) = change {
                    // One that is still there says so again, and follows without a vote.
                    links.heard.lock().followers.remove(&voter.id);
                }
                tracing::info!(?change, voters = ?self.voter_ids(), "the voters of the metadata quorum changed");
                Ok(())
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(VoterError::NotLeader),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => Err(late("Request timed out waiting for leader to handle previous voter change request")),
            Err(error) => Err(VoterError::NotInTime(format!("The voters were not changed: {error}"))),
        }
    }

    /// Has another voter lead. All stand, those with the longest logs last: one that stands has given up its vote for the
    /// leader, and may vote for another.
    async fn give_lead_away(&self, links: &Links, deadline: Instant) {
        let leads = || self.leader() == Some(self.node_id());
        while leads() && Instant::now() < deadline {
            let metrics = self.inner.raft.metrics().borrow().clone();
            let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
            let mut others: Vec<_> = others
                .map(|id| {
                    let matched = metrics.replication.as_ref().and_then(|all| *all.get(&id)?);
                    (matched.map(|matched| matched.index), id)
                })
                .collect();
            others.sort_unstable();
            for (_, id) in others {
                let asked = links.ask(node_id(id), &QuorumRequest::Stand, STAND_LIMIT).await;
                if let Err(error) = asked {
                    tracing::debug!(node = id, %error, "a voter does not stand");
                }
            }
            let mut metrics = self.inner.raft.metrics();
            let changed = metrics.wait_for(|now| now.current_leader.is_some_and(|leader| leader != now.id));
            _ = timeout_at(deadline.min(Instant::now() + STAND_LIMIT), changed).await;
        }
    }

    fn raft_id(&self, voter: VoterKey) -> Result<u64, VoterError> {
        let wrong = |_| VoterError::Invalid(format!("a node's id must not be negative: {}", voter.id));
        u64::try_from(voter.id.0).map_err(wrong)
    }

    fn voter_ids(&self) -> Vec<i32> {
        let metrics = self.inner.raft.metrics().borrow().clone();
        metrics.membership_config.membership().voter_ids().map(|id| node_id(id).0).collect()
    }

    /// The id of a voter that may be removed.
    fn check_removal(&self, voter: VoterKey) -> Result<u64, VoterError> {
        let id = self.raft_id(voter)?;
        let metrics = self.inner.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let noted = membership.get_node(&id).and_then(|member| member.directory_id);
        let heard = || {
            let heard = self.inner.links.as_deref()?.heard.lock();
            heard.followers.get(&voter.id).map(|followed| followed.directory_id)
        };
        // One that was never heard of has no folder yet, and any is right.
        let known = noted.or_else(heard);
        let is_it = voters.contains(&id) && known.is_none_or(|known| known == voter.directory_id);
        // Without the last one there is no quorum.
        match is_it && voters.len() > 1 {
            true => Ok(id),
            false => Err(VoterError::NotFound { voter, voters: self.voter_ids() }),
        }
    }

    /// Waits until a node that shall be a voter follows, and has all that this one has.
    async fn wait_ready(&self, voter: VoterKey, links: &Links, deadline: Instant) -> Result<(), VoterError> {
        let id = self.raft_id(voter)?;
        loop {
            let metrics = self.inner.raft.metrics().borrow().clone();
            let membership = metrics.membership_config.membership();
            if membership.voter_ids().any(|known| known == id) {
                return Err(VoterError::Duplicate { voter, voters: self.voter_ids() });
            }
            let heard = links.heard.lock().followers.get(&voter.id).map(|followed| followed.directory_id);
            if let Some(other) = heard.filter(|heard| *heard != voter.directory_id) {
                let (id, other) = (voter.id, uuid_to_base64(other));
                let why = format!("node {id} follows with the directory id {other}, not with that one");
                return Err(VoterError::Invalid(why));
            }
            let member = membership.get_node(&id).filter(|it| it.directory_id == Some(voter.directory_id));
            if member.is_some_and(|member| member.endpoints.is_empty()) {
                let why = format!("node {} has no listener for controllers: it is only a broker", voter.id);
                return Err(VoterError::Invalid(why));
            }
            let matched = metrics.replication.as_ref().and_then(|replication| *replication.get(&id)?);
            let has_all = matched.map(|matched| matched.index) >= metrics.last_log_index;
            if member.is_some() && has_all {
                return Ok(());
            }
            if metrics.current_leader != Some(metrics.id) {
                return Err(VoterError::NotLeader);
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                return Err(VoterError::NotInTime(match (heard.is_some(), member.is_some()) {
                    (false, _) => format!(
                        "New voter {voter} is not ready to receive requests: it has not been heard of. Start it with \
                         this cluster's controllers in controller.quorum.bootstrap.servers, then add it"
                    ),
                    (_, false) => format!("New voter {voter} is not ready to receive requests"),
                    _ => format!("Aborted add voter operation for {voter} since it is lagging behind"),
                }));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Links {
    /// Has the leader, which is another node, change the voters.
    pub(super) async fn change_voters(
        &self,
        leader: NodeId,
        change: VoterChange,
        within: Duration,
    ) -> Result<(), VoterError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let request = QuorumRequest::ChangeVoters { change, within_ms };
        let answered: Result<Result<(), VoterError>, _> =
            self.ask_apart(leader, &request, within + Duration::from_millis(500)).await;
        match answered {
            Ok(changed) => changed,
            // It has surely not been asked.
            Err(CallError::Client(ClientError::Unreachable { .. }) | CallError::Refused(_)) => {
                Err(VoterError::NotLeader)
            }
            Err(error) => {
                let why = format!("It is not known whether the voters changed: {error}");
                Err(VoterError::NotInTime(why))
            }
        }
    }
}

/// How long a node that joins by itself waits before it asks again.
const JOIN_AGAIN: Duration = Duration::from_secs(1);
/// How long that may take.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Has this node made a voter once it follows (`controller.quorum.auto.join.enable`, KIP-1186), and one of its id removed before
/// whose folder it has no more. Never ends.
pub(super) async fn join_by_itself(quorum: MetadataQuorum, links: std::sync::Arc<Links>) {
    let own = VoterKey { id: links.node, directory_id: links.directory_id };
    loop {
        sleep(JOIN_AGAIN).await;
        let replaced = links.heard.lock().replaced.take();
        if let Some((leader, directory_id)) = replaced {
            let old = VoterChange::Remove(VoterKey { directory_id, ..own });
            match links.change_voters(leader, old, JOIN_LIMIT).await {
                Ok(()) => tracing::info!(
                    "this node's folder is another one than it had as a voter: that one has no vote any more"
                ),
                Err(error) => tracing::warn!(%error, "this node's earlier folder keeps its vote"),
            }
            continue;
        }
        let metrics = quorum.inner.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let is_learner = membership.learner_ids().any(|id| node_id(id) == own.id);
        if !is_learner || metrics.current_leader.is_none() {
            continue;
        }
        match quorum.change_voters(VoterChange::Add(own), JOIN_LIMIT).await {
            Ok(()) => tracing::info!("this node is a voter of the metadata quorum"),
            Err(error) => tracing::warn!(%error, "this node is no voter of the metadata quorum yet"),
        }
    }
}
