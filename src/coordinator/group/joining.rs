//! Members that join, and the rebalance that follows: as Kafka's coordinator does it, check for check.

use std::sync::Arc;

use bytes::Bytes;

use super::classic::{ClassicGroup, Effects, Initial, JoinPhase, Member, State, refused_join, refused_sync};
use super::config::GroupShardConfig;
use super::request::{GroupError, JoinGroup, Response};
use crate::coordinator::{Now, Ticket};

/// A member that was never told its id is given up after this, as nobody knows whether its client is
/// still there.
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// Least time between two looks at a group of which nobody is there, whatever its members say.
const ABSENT_LOOK_MS: i64 = 1000;
/// Bytes of the client's or instance's name in a member id.
const NAME_IN_ID_MAX: usize = 32_000;

/// A join with what it was asked through.
pub(super) struct Joining<'a> {
    pub request: &'a JoinGroup,
    pub ticket: Ticket,
    pub now: Now,
    pub config: &'a GroupShardConfig,
}

impl Joining<'_> {
    fn refuse(&self, effects: &mut Effects, error: GroupError, member_id: &Arc<str>) {
        effects.answers.push((self.ticket, refused_join(error, member_id)));
    }
}

impl ClassicGroup {
    /// Somebody joins. The group exists, or was made for it.
    pub(super) fn join(&mut self, joining: &Joining<'_>, effects: &mut Effects) {
        let request = joining.request;
        let nobody: Arc<str> = "".into();
        if !self.has_room_for(&request.member_id, joining.config.size_max) {
            tracing::info!(group = %self.id, member = %request.member_id, "a member is turned away: the group has group.max.size members");
            self.remove_member(&request.member_id, effects);
            return joining.refuse(effects, GroupError::GroupMaxSizeReached, &nobody);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return joining.refuse(effects, GroupError::InconsistentGroupProtocol, &request.member_id);
        }
        if request.member_id.is_empty() {
            self.join_new(joining, effects);
        } else {
            self.join_again(joining, effects);
        }
    }

    fn has_room_for(&self, member_id: &str, size_max: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waits = self.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some());
                waits || self.awaiting_join_count() < size_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < size_max
            }
        }
    }

    fn join_new(&mut self, joining: &Joining<'_>, effects: &mut Effects) {
        let request = joining.request;
        let name = request.group_instance_id.as_deref().unwrap_or(&request.client.id);
        let name = &name[..name.floor_char_boundary(NAME_IN_ID_MAX)];
        let member_id: Arc<str> = format!("{name}-{}", joining.config.chance.uuid()).into();
        if let Some(instance_id) = &request.group_instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old) => self.replace_static(joining, instance_id, &old, &member_id, effects),
                None => self.add(joining, member_id, effects),
            }
        } else if request.needs_known_member_id {
            let deadline = joining.now.monotonic_ms + i64::from(request.session_timeout_ms);
            self.pending.insert(member_id.clone(), deadline);
            tracing::debug!(group = %self.id, member = %member_id, "gave out a member id");
            joining.refuse(effects, GroupError::MemberIdRequired, &member_id);
        } else {
            self.add(joining, member_id, effects);
        }
    }

    fn join_again(&mut self, joining: &Joining<'_>, effects: &mut Effects) {
        let request = joining.request;
        let member_id = &request.member_id;
        if self.pending.contains_key(member_id) {
            // An id that was given out belongs to no static member.
            return match request.group_instance_id {
                Some(_) => joining.refuse(effects, GroupError::UnknownMemberId, member_id),
                None => self.add(joining, member_id.clone(), effects),
            };
        }
        if let Err(error) = self.check_member(member_id, request.group_instance_id.as_deref()) {
            return joining.refuse(effects, error, member_id);
        }
        let Some(member) = self.members.get(member_id) else {
            return joining.refuse(effects, GroupError::UnknownMemberId, member_id);
        };
        let is_same = member.protocols == request.protocols;
        let leader = self.leader.clone().unwrap_or_else(|| "".into());
        match self.state {
            State::Empty => joining.refuse(effects, GroupError::UnknownMemberId, member_id),
            State::PreparingRebalance => self.update(joining, "a member joined again", effects),
            State::CompletingRebalance if is_same => {
                // It may not have got the answer to its join.
                effects
                    .answers
                    .push((joining.ticket, Response::Join(Ok(self.joined(member_id, &leader, false)))));
            }
            State::CompletingRebalance => self.update(joining, "a member changed what it wants", effects),
            State::Stable if self.is_leader(member_id) => {
                self.update(joining, "the leader joined again", effects);
            }
            State::Stable if !is_same => self.update(joining, "a member changed what it wants", effects),
            State::Stable => {
                effects
                    .answers
                    .push((joining.ticket, Response::Join(Ok(self.joined(member_id, &leader, false)))));
            }
        }
    }

    fn add(&mut self, joining: &Joining<'_>, member_id: Arc<str>, effects: &mut Effects) {
        let request = joining.request;
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.pending.remove(&member_id);
        if let Some(instance_id) = &request.group_instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        if let Some(initial) = self.join_phase.as_mut().and_then(|phase| phase.initial.as_mut()) {
            initial.member_added = true;
        }
        let member = Member {
            instance_id: request.group_instance_id.clone(),
            client_id: request.client.id.clone(),
            client_host: format!("/{}", request.client.host.to_canonical()).into(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(joining.ticket),
            awaiting_sync: None,
            is_new: true,
            owes_sync: false,
            deadline: joining.now.monotonic_ms + NEW_MEMBER_TIMEOUT_MS,
        };
        let reason = request.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %self.id, member = %member_id, client = %member.client_id, host = %request.client.host, reason, "a member joined");
        self.members.insert(member_id, Arc::new(member));
        self.rebalance_or_complete_join("a member joined", joining.now, effects);
    }

    /// A member that is known joins anew, and the group rebalances.
    fn update(&mut self, joining: &Joining<'_>, why: &str, effects: &mut Effects) {
        let reason = joining.request.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %self.id, member = %joining.request.member_id, reason, "a member joins again");
        self.take_over(&joining.request.member_id, joining, effects);
        self.rebalance_or_complete_join(why, joining.now, effects);
    }

    fn take_over(&mut self, member_id: &str, joining: &Joining<'_>, effects: &mut Effects) {
        let request = joining.request;
        let Some(member) = self.member_mut(member_id) else { return };
        member.protocols.clone_from(&request.protocols);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        if let Some(earlier) = member.awaiting_join.replace(joining.ticket) {
            effects
                .answers
                .push((earlier, refused_join(GroupError::RebalanceInProgress, &request.member_id)));
        }
    }

    /// A static member comes back under a new id (KIP-345); who still waits under the old one is fenced.
    fn replace_static(
        &mut self,
        joining: &Joining<'_>,
        instance_id: &Arc<str>,
        old: &Arc<str>,
        new: &Arc<str>,
        effects: &mut Effects,
    ) {
        let leader_before = self.leader.clone().unwrap_or_else(|| "".into());
        let Some(mut member) = self.members.remove(old) else { return };
        {
            let member = Arc::make_mut(&mut member);
            if let Some(ticket) = member.awaiting_join.take() {
                effects.answers.push((ticket, refused_join(GroupError::FencedInstanceId, old)));
            }
            if let Some(ticket) = member.awaiting_sync.take() {
                effects.answers.push((ticket, refused_sync(GroupError::FencedInstanceId)));
            }
            // It is the place that is taken over: a wait for the others is no silence, also if the one who
            // was replaced had not been told its first generation.
            member.is_new = false;
            member.deadline = joining.now.monotonic_ms + i64::from(joining.request.session_timeout_ms);
        }
        self.members.insert(new.clone(), member);
        self.static_members.insert(instance_id.clone(), new.clone());
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        tracing::info!(group = %self.id, instance = %instance_id, member = %new, replaced = %old, "a static member came back");
        self.take_over(new, joining, effects);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                // Nothing changes for the others: the new id is written, and the member goes on.
                effects.writes = true;
                if let Some(member) = self.member_mut(new) {
                    member.awaiting_join = None;
                }
                let answer = if joining.request.supports_skipping_assignment {
                    let leader = self.leader.clone().unwrap_or_else(|| "".into());
                    self.joined(new, &leader, self.is_leader(new))
                } else {
                    self.joined(new, &leader_before, false)
                };
                effects.answers.push((joining.ticket, Response::Join(Ok(answer))));
            }
            State::Stable | State::CompletingRebalance => {
                self.rebalance_or_complete_join("a static member came back", joining.now, effects);
            }
            State::PreparingRebalance => self.complete_join_if_all(joining.now, effects),
            // A group that has members is not empty.
            State::Empty => joining.refuse(effects, GroupError::UnknownMemberId, new),
        }
    }

    /// Removes a member with its waits answered; the group itself goes on as it was.
    pub(super) fn remove_member(&mut self, member_id: &str, effects: &mut Effects) {
        self.pending.remove(member_id);
        let Some((id, member)) = self.members.remove_entry(member_id) else { return };
        if let Some(ticket) = member.awaiting_join {
            effects.answers.push((ticket, refused_join(GroupError::UnknownMemberId, &"".into())));
        }
        if let Some(ticket) = member.awaiting_sync {
            effects.answers.push((ticket, refused_sync(GroupError::UnknownMemberId)));
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|known| *known == id)
        {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// After somebody joined or left: begins a rebalance, or ends the joining of one when nobody is missing.
    pub(super) fn rebalance_or_complete_join(&mut self, why: &str, now: Now, effects: &mut Effects) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all(now, effects),
            State::Empty | State::CompletingRebalance | State::Stable => self.rebalance(why, now, effects),
        }
    }

    /// Begins a rebalance: everybody has to join again.
    pub(super) fn rebalance(&mut self, why: &str, now: Now, effects: &mut Effects) {
        if self.state == State::CompletingRebalance {
            self.withdraw_assignments(now, effects);
        }
        self.sync_deadline = None;
        let was_empty = self.state == State::Empty;
        tracing::info!(group = %self.id, generation = self.generation, members = self.members.len(), why, "the group prepares to rebalance");
        self.enter(State::PreparingRebalance, now);
        if was_empty {
            let delay_ms = i64::from(self.initial_delay_ms);
            let left_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.join_phase = Some(JoinPhase {
                deadline: now.monotonic_ms + delay_ms,
                initial: Some(Initial { delay_ms, left_ms, member_added: false }),
            });
        } else {
            let deadline = now.monotonic_ms + self.rebalance_timeout_ms();
            self.join_phase = Some(JoinPhase { deadline, initial: None });
            self.complete_join_if_all(now, effects);
        }
    }

    /// Those that wait for their assignment have to join again instead.
    fn withdraw_assignments(&mut self, now: Now, effects: &mut Effects) {
        for member in self.members.values_mut() {
            let member = Arc::make_mut(member);
            member.assignment = Bytes::new();
            member.owes_sync = false;
            if let Some(ticket) = member.awaiting_sync.take() {
                member.deadline = now.monotonic_ms + i64::from(member.session_timeout_ms);
                effects.answers.push((ticket, refused_sync(GroupError::RebalanceInProgress)));
            }
        }
    }

    /// Ends the joining when all members have joined and nobody with a new id is awaited. The first
    /// rebalance of a group waits its delay out.
    pub(super) fn complete_join_if_all(&mut self, now: Now, effects: &mut Effects) {
        let is_initial = self.join_phase.is_some_and(|phase| phase.initial.is_some());
        let are_all_here = self.pending.is_empty() && self.awaiting_join_count() == self.members.len();
        if self.state == State::PreparingRebalance && are_all_here && !is_initial {
            self.complete_join(now, effects);
        }
    }

    /// The wait for joins is over, at its deadline.
    pub(super) fn join_deadline_passed(&mut self, now: Now, effects: &mut Effects) {
        match self.join_phase.and_then(|phase| phase.initial) {
            Some(initial) if initial.member_added && initial.left_ms > 0 => {
                let delay_ms = i64::from(self.initial_delay_ms).min(initial.left_ms);
                let left_ms = (initial.left_ms - initial.delay_ms).max(0);
                self.join_phase = Some(JoinPhase {
                    deadline: now.monotonic_ms + delay_ms,
                    initial: Some(Initial { delay_ms, left_ms, member_added: false }),
                });
            }
            _ => self.complete_join(now, effects),
        }
    }

    fn complete_join(&mut self, now: Now, effects: &mut Effects) {
        let late: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in late {
            tracing::info!(group = %self.id, member = %member_id, "a member did not join again in time");
            self.remove_member(&member_id, effects);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, none of them here: their sessions decide.
            let deadline = now.monotonic_ms + self.rebalance_timeout_ms().max(ABSENT_LOOK_MS);
            self.join_phase = Some(JoinPhase { deadline, initial: None });
            return;
        }
        self.join_phase = None;
        self.generation = self.generation.wrapping_add(1).max(0);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(State::Empty, now);
            effects.writes = true;
            tracing::info!(group = %self.id, generation = self.generation, "the group is empty");
            return;
        }
        self.protocol = self.select_protocol();
        self.enter(State::CompletingRebalance, now);
        self.sync_deadline = Some(now.monotonic_ms + self.rebalance_timeout_ms());
        tracing::info!(group = %self.id, generation = self.generation, members = self.members.len(), protocol = self.protocol.as_deref(), "the group has a new generation");
        let leader = self.leader.clone().unwrap_or_else(|| "".into());
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let Some(member) = self.member_mut(&member_id) else { continue };
            member.is_new = false;
            member.owes_sync = true;
            member.deadline = now.monotonic_ms + i64::from(member.session_timeout_ms);
            if let Some(ticket) = member.awaiting_join.take() {
                effects.answers.push((ticket, Response::Join(Ok(self.joined(&member_id, &leader, false)))));
            }
        }
    }

    /// The leader stays when it has joined; otherwise one that has takes its place. False: nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |member: &Arc<Member>| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let found = self.members.iter().find(|(_, member)| has_joined(member)).map(|(id, _)| id.clone());
        match found {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }
}
