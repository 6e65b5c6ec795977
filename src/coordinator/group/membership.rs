//! What members do between rebalances: they ask for their assignment, send heartbeats, leave, or fall
//! silent.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::{ClassicGroup, Effects, State, refused_sync};
use super::request::{
    Client, GroupError, Heartbeat, LeaveGroup, LeavingMember, LeftMember, Response, SyncGroup,
};
use crate::coordinator::{Now, Ticket};

impl ClassicGroup {
    /// A member asks for its assignment; the leader brings everybody's.
    pub(super) fn sync(&mut self, request: SyncGroup, ticket: Ticket, now: Now, effects: &mut Effects) {
        if let Err(error) = self.check_sync(&request) {
            effects.answers.push((ticket, refused_sync(error)));
            return;
        }
        let stable = self.state == State::Stable;
        let Some(member) = self.member_mut(&request.member_id) else {
            effects.answers.push((ticket, refused_sync(GroupError::UnknownMemberId)));
            return;
        };
        member.owes_sync = false;
        if stable {
            member.deadline = now.monotonic_ms + i64::from(member.session_timeout_ms);
            let assignment = member.assignment.clone();
            effects.answers.push((ticket, Response::Sync(Ok(self.synced(assignment)))));
            return self.forget_sync_deadline_if_paid();
        }
        if let Some(earlier) = member.awaiting_sync.replace(ticket) {
            effects.answers.push((earlier, refused_sync(GroupError::RebalanceInProgress)));
        }
        if self.is_leader(&request.member_id) {
            self.assign(&request, now, effects);
        }
        self.forget_sync_deadline_if_paid();
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<Arc<str>>, own: &Option<Arc<str>>| asked.is_some() && asked != own;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// The leader's assignment: everybody who waits gets theirs, which is nothing where it names none.
    fn assign(&mut self, request: &SyncGroup, now: Now, effects: &mut Effects) {
        let assignments: HashMap<&str, &Bytes> =
            request.assignments.iter().map(|(member_id, assignment)| (&**member_id, assignment)).collect();
        let mut due = Vec::new();
        for (member_id, member) in &mut self.members {
            let member = Arc::make_mut(member);
            member.assignment =
                assignments.get(&**member_id).map(|bytes| (*bytes).clone()).unwrap_or_default();
            member.deadline = now.monotonic_ms + i64::from(member.session_timeout_ms);
            if let Some(ticket) = member.awaiting_sync.take() {
                due.push((ticket, member.assignment.clone()));
            }
        }
        self.enter(State::Stable, now);
        effects.writes = true;
        tracing::info!(group = %self.id, generation = self.generation, members = self.members.len(), leader = %request.member_id, "the group is stable");
        let answers =
            due.into_iter().map(|(ticket, assignment)| (ticket, Response::Sync(Ok(self.synced(assignment)))));
        effects.answers.extend(answers);
    }

    fn forget_sync_deadline_if_paid(&mut self) {
        if self.members.values().all(|member| !member.owes_sync) {
            self.sync_deadline = None;
        }
    }

    /// What a heartbeat is answered; `Some` time: the member's session goes on until then.
    pub(super) fn heartbeat(&self, request: &Heartbeat, now: Now) -> (Result<(), GroupError>, Option<i64>) {
        if let Err(error) = self.check_member(&request.member_id, request.group_instance_id.as_deref()) {
            return (Err(error), None);
        }
        if request.generation_id != self.generation {
            return (Err(GroupError::IllegalGeneration), None);
        }
        let deadline = self.session_deadline(&request.member_id, now);
        match self.state {
            State::Empty => (Err(GroupError::UnknownMemberId), None),
            State::PreparingRebalance => (Err(GroupError::RebalanceInProgress), deadline),
            State::CompletingRebalance | State::Stable => (Ok(()), deadline),
        }
    }

    /// Until when a member that speaks now need not speak again.
    pub(super) fn session_deadline(&self, member_id: &str, now: Now) -> Option<i64> {
        let member = self.members.get(member_id)?;
        Some(now.monotonic_ms + i64::from(member.session_timeout_ms))
    }

    /// Members leave, or are removed by an administrator who names their instances (KIP-345).
    pub(super) fn leave(&mut self, request: &LeaveGroup, now: Now, effects: &mut Effects) -> Vec<LeftMember> {
        let mut has_left = false;
        let left = request.members.iter().map(|leaving| {
            let result = self.leave_one(leaving, &request.client, effects);
            has_left |= result.is_ok();
            LeftMember {
                member_id: leaving.member_id.clone(),
                group_instance_id: leaving.group_instance_id.clone(),
                result,
            }
        });
        let left = left.collect();
        if has_left {
            self.somebody_left("a member left", now, effects);
        }
        left
    }

    fn leave_one(
        &mut self,
        leaving: &LeavingMember,
        client: &Client,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let instance_id = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            let known = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            known.cloned().ok_or(GroupError::UnknownMemberId)?
        } else {
            if !self.pending.contains_key(&leaving.member_id) {
                self.check_member(&leaving.member_id, instance_id)?;
            }
            leaving.member_id.clone()
        };
        let reason = leaving.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %self.id, member = %member_id, instance = instance_id, client = %client.id, host = %client.host, reason, "a member left");
        self.remove_member(&member_id, effects);
        Ok(())
    }

    /// The group goes on without those that were removed.
    pub(super) fn somebody_left(&mut self, why: &str, now: Now, effects: &mut Effects) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(why, now, effects),
            State::PreparingRebalance => self.complete_join_if_all(now, effects),
            State::Empty => {}
        }
    }

    /// All that is due at `now`; true when something was.
    pub(super) fn pass_time(&mut self, now: Now, effects: &mut Effects) -> bool {
        let is_over = |deadline: i64| deadline <= now.monotonic_ms;
        let pending_before = self.pending.len();
        self.pending.retain(|_, deadline| !is_over(*deadline));
        let mut has_changed = self.pending.len() != pending_before;
        let silent: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| is_over(member.deadline) && !member.is_excused())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &silent {
            tracing::info!(group = %self.id, member = %member_id, "a member's session ended without a heartbeat");
            self.remove_member(member_id, effects);
            has_changed = true;
        }
        if has_changed {
            self.somebody_left_or_gave_up(!silent.is_empty(), now, effects);
        }
        if self.sync_deadline.is_some_and(is_over) {
            self.sync_deadline_passed(now, effects);
            has_changed = true;
        }
        if self.join_phase.is_some_and(|phase| is_over(phase.deadline)) {
            self.join_deadline_passed(now, effects);
            has_changed = true;
        }
        has_changed
    }

    /// An id that was given out and not used makes no rebalance; it only is awaited no more.
    fn somebody_left_or_gave_up(&mut self, has_left: bool, now: Now, effects: &mut Effects) {
        if has_left {
            self.somebody_left("a member's session ended", now, effects);
        } else {
            self.complete_join_if_all(now, effects);
        }
    }

    fn sync_deadline_passed(&mut self, now: Now, effects: &mut Effects) {
        self.sync_deadline = None;
        let owing: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| member.owes_sync)
            .map(|(member_id, _)| member_id.clone())
            .collect();
        if owing.is_empty() || !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        for member_id in owing {
            tracing::info!(group = %self.id, member = %member_id, "a member did not ask for its assignment in time");
            self.remove_member(&member_id, effects);
        }
        self.rebalance("members did not ask for their assignment", now, effects);
    }
}
