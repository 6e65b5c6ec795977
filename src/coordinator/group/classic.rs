//! A group of the classic protocol (KIP-62, -345, -394, -429, -814): its members, its state, and what
//! may become of them.
//!
//! A group is a value. Whoever decides changes a copy, and what follows for others gathers in
//! [`Effects`]; the shard puts the copy in the original's place once the records are written.
//!
//! ```text
//! Empty -> PreparingRebalance -> CompletingRebalance -> Stable
//!   ^            |      ^                |                |
//!   +--nobody----+      +----------------+----------------+  somebody joins, leaves or falls silent
//! ```
//!
//! Every member that waits is waited for: joins by `join_deadline`, syncs by `sync_deadline`, ids that
//! were given out by their own. A member that does not wait has a deadline for its next heartbeat.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::records::{GroupMetadata, MemberMetadata};
use super::request::{
    DescribedGroup, DescribedMember, GroupError, GroupId, JoinedGroup, JoinedMember, RefusedJoin, Response,
    SyncedGroup,
};
use super::subscription;
use crate::coordinator::{Now, Ticket};

/// The protocol type of consumers, whose subscriptions can be read.
pub const CONSUMER: &str = "consumer";

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Member {
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    /// As Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Name and metadata, the preferred first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    pub assignment: Bytes,
    pub awaiting_join: Option<Ticket>,
    pub awaiting_sync: Option<Ticket>,
    /// It has not yet been told the id it has; it cannot send heartbeats.
    pub is_new: bool,
    /// It was told its generation and has not yet asked for its assignment.
    pub owes_sync: bool,
    /// When it is given up, in monotonic milliseconds.
    pub deadline: i64,
}

impl Member {
    /// While it waits for others it need not send heartbeats; unless it never was told its id, as its
    /// client may be gone for good.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| **name == *protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    fn votes_for(&self, candidates: &HashSet<&str>) -> Option<&str> {
        self.protocols.iter().map(|(name, _)| &**name).find(|name| candidates.contains(name))
    }
}

/// What follows from a decision besides the group's next value.
#[derive(Debug, Default)]
pub struct Effects {
    pub answers: Vec<(Ticket, Response)>,
    /// The group's durable part is to be written.
    pub writes: bool,
}

/// A wait of a group for joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinPhase {
    pub deadline: i64,
    /// In the first rebalance of an empty group: how much longer it may be put off, and whether somebody
    /// joined since the wait began. (KIP-134)
    pub initial: Option<Initial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial {
    pub delay_ms: i64,
    pub left_ms: i64,
    pub member_added: bool,
}

#[derive(Clone, Debug)]
pub struct ClassicGroup {
    pub id: GroupId,
    pub state: State,
    /// When it came into this state, in milliseconds since 1970; -1 when not known.
    pub state_since_ms: i64,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    pub members: BTreeMap<Arc<str>, Arc<Member>>,
    /// Member ids by group instance id.
    pub static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Member ids that were given out (KIP-394), with the time at which they are forgotten.
    pub pending: BTreeMap<Arc<str>, i64>,
    pub join_phase: Option<JoinPhase>,
    /// When those that owe a sync are given up.
    pub sync_deadline: Option<i64>,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_delay_ms: i32,
}

impl ClassicGroup {
    /// A group that nobody has joined.
    pub fn new(id: GroupId, initial_delay_ms: i32, now: Now) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            join_phase: None,
            sync_deadline: None,
            initial_delay_ms,
        }
    }

    /// The group as it was written. Members have no deadlines yet; see [`Self::loaded`].
    pub fn from_record(id: GroupId, initial_delay_ms: i32, written: GroupMetadata) -> Self {
        let protocol = written.protocol.clone();
        let mut group = Self {
            id,
            state: if written.members.is_empty() { State::Empty } else { State::Stable },
            state_since_ms: written.current_state_timestamp_ms,
            generation: written.generation,
            protocol_type: Some(written.protocol_type).filter(|text| !text.is_empty()),
            protocol: written.protocol,
            leader: written.leader,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            join_phase: None,
            sync_deadline: None,
            initial_delay_ms,
        };
        for member in written.members {
            if let Some(instance_id) = &member.group_instance_id {
                group.static_members.insert(instance_id.clone(), member.member_id.clone());
            }
            let loaded = Member {
                instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![(protocol.clone().unwrap_or_else(|| "".into()), member.subscription)],
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                owes_sync: false,
                deadline: i64::MAX,
            };
            group.members.insert(member.member_id, Arc::new(loaded));
        }
        group
    }

    /// What of the group is written.
    pub fn to_record(&self) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp_ms: self.state_since_ms,
            members: self
                .members
                .iter()
                .map(|(member_id, member)| MemberMetadata {
                    member_id: member_id.clone(),
                    group_instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.metadata(protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    /// All that was written has been read: sessions begin.
    pub fn loaded(&mut self, now: Now) {
        for member in self.members.values_mut() {
            let member = Arc::make_mut(member);
            member.deadline = now.monotonic_ms + i64::from(member.session_timeout_ms);
        }
    }

    /// When something is due, in monotonic milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        let members =
            self.members.values().filter(|member| !member.is_excused()).map(|member| member.deadline);
        let phases = self.join_phase.iter().map(|phase| phase.deadline).chain(self.sync_deadline);
        members.chain(phases).chain(self.pending.values().copied()).min()
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub fn awaiting_join_count(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    pub(super) fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id).map(Arc::make_mut)
    }

    pub(super) fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_since_ms = now.wall_ms;
    }

    /// Longest rebalance timeout of a member.
    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// The member exists, and is who its instance id says.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        match instance_id {
            Some(instance_id) => match self.static_members.get(instance_id) {
                None => Err(GroupError::UnknownMemberId),
                Some(known) if **known != *member_id => Err(GroupError::FencedInstanceId),
                Some(_) => Ok(()),
            },
            None if self.members.contains_key(member_id) => Ok(()),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// Whether a commit is taken, and from whom.
    pub fn check_commit(
        &self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            // An admin client, or a consumer that assigns itself.
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else if self.state != State::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        match self.state {
            State::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether somebody with these protocols can be a member: at least one is known to all members.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let names = protocols.iter().map(|(name, _)| &**name);
        self.protocol_type.as_deref() == Some(protocol_type) && !self.known_to_all(names).is_empty()
    }

    /// Those of the protocols that all members know. Lists may be long, so each is gone through once.
    fn known_to_all<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
        let mut known_by: HashMap<&str, usize> = names.map(|name| (name, 0)).collect();
        for (before, member) in self.members.values().enumerate() {
            for (name, _) in &member.protocols {
                // A member may name one twice.
                if let Some(count) = known_by.get_mut(&**name).filter(|count| **count == before) {
                    *count += 1;
                }
            }
        }
        known_by.into_iter().filter(|(_, count)| *count == self.members.len()).map(|(name, _)| name).collect()
    }

    /// The protocol that most members prefer among those that all know.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let first = self.members.values().next()?;
        let candidates = self.known_to_all(first.protocols.iter().map(|(name, _)| &**name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|member| member.votes_for(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let chosen = votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)?;
        Some(chosen.into())
    }

    /// Whether the consumers of this group subscribe to the topic, as far as can be read.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return false;
        }
        let Some(protocol) = self.protocol.as_deref() else { return false };
        self.members.values().any(|member| subscription::names(&member.metadata(protocol), topic))
    }

    /// The members with their metadata, as a leader is told of them.
    pub(super) fn told_to_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| JoinedMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }

    /// A member's answer to its join, in the generation as it is.
    pub(super) fn joined(
        &self,
        member_id: &Arc<str>,
        leader: &Arc<str>,
        skip_assignment: bool,
    ) -> JoinedGroup {
        let is_told_all = self.is_leader(member_id) && (skip_assignment || leader == member_id);
        JoinedGroup {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: leader.clone(),
            skip_assignment,
            member_id: member_id.clone(),
            members: if is_told_all { self.told_to_leader() } else { Vec::new() },
        }
    }

    pub(super) fn synced(&self, assignment: Bytes) -> SyncedGroup {
        SyncedGroup {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
        }
    }

    pub fn describe(&self) -> DescribedGroup {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable).unwrap_or_else(|| "".into());
        let members = self.members.iter().map(|(member_id, member)| DescribedMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&protocol) } else { Bytes::new() },
            assignment: member.assignment.clone(),
        });
        DescribedGroup {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            members: members.collect(),
            protocol,
        }
    }
}

/// A refused join.
pub fn refused_join(error: GroupError, member_id: &Arc<str>) -> Response {
    Response::Join(Err(RefusedJoin { error, member_id: member_id.clone() }))
}

/// A refused sync.
pub fn refused_sync(error: GroupError) -> Response {
    Response::Sync(Err(error))
}
