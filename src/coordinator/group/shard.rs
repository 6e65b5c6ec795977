//! The groups and offsets of one partition of `__consumer_offsets`: takes each request to its group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::classic::{ClassicGroup, Effects, State, refused_join, refused_sync};
use super::config::GroupShardConfig;
use super::joining::Joining;
use super::offsets::{AgesFrom, CommittedOffsets, TopicIds};
use super::records::{self, GroupRecord, OffsetKey};
use super::request::{
    self, CommitOffsets, DeleteOffsets, GroupError, GroupId, Heartbeat, JoinGroup, LeaveGroup, LeavingMember,
    ListedGroup, Request, Response, SyncGroup,
};
use crate::coordinator::{CoordinatorRecord, Decision, Now, ReplayError, Shard, Ticket};

/// Most groups that are looked at in one turn of the clock.
const GROUPS_PER_TICK: usize = 64;
/// About the most tombstones of one turn: they are one batch, which has to fit into a segment. What is
/// left comes with the next turn, at once.
const TOMBSTONES_PER_TICK: usize = 1000;

/// A change that no record tells of, or that goes beyond what its record tells.
#[derive(Debug)]
pub enum Change {
    Group(Arc<ClassicGroup>),
    Gone(GroupId),
    /// A member spoke, and its session goes on until then (monotonic milliseconds).
    Touched {
        group: GroupId,
        member: Arc<str>,
        deadline: i64,
    },
    /// Nothing was due: the group's next deadline was moved meanwhile.
    LookedAt(GroupId),
    ExpiryLookedAt {
        next: i64,
    },
    /// The last so many outdated offsets have their tombstones.
    OutdatedWritten(usize),
}

/// See the head of this module.
#[derive(Debug)]
pub struct GroupShard {
    config: GroupShardConfig,
    topics: TopicIds,
    groups: BTreeMap<GroupId, Arc<ClassicGroup>>,
    offsets: CommittedOffsets,
    /// When to look at a group again: at its earliest deadline or before.
    timers: BTreeSet<(i64, GroupId)>,
    timer_of: HashMap<GroupId, i64>,
    /// When to look for offsets that expired.
    expiry_due: Option<i64>,
    /// Offsets of topics that were deleted without this being written: they are gone, and are to have
    /// their tombstones.
    outdated: Vec<OffsetKey>,
    /// When the next of them are to be written.
    outdated_due: i64,
}

impl GroupShard {
    pub fn new(config: GroupShardConfig, topics: TopicIds) -> Self {
        Self {
            config,
            topics,
            groups: BTreeMap::new(),
            offsets: CommittedOffsets::default(),
            timers: BTreeSet::new(),
            timer_of: HashMap::new(),
            expiry_due: None,
            outdated: Vec::new(),
            outdated_due: 0,
        }
    }

    /// The groups as they are.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<ClassicGroup>> {
        self.groups.values()
    }

    pub fn offsets(&self) -> &CommittedOffsets {
        &self.offsets
    }

    fn put(&mut self, group: Arc<ClassicGroup>) {
        self.set_timer(&group.id, group.deadline());
        self.groups.insert(group.id.clone(), group);
    }

    fn remove(&mut self, group_id: &GroupId) {
        self.set_timer(group_id, None);
        self.groups.remove(group_id);
    }

    fn set_timer(&mut self, group_id: &GroupId, deadline: Option<i64>) {
        if let Some(earlier) = self.timer_of.remove(group_id) {
            self.timers.remove(&(earlier, group_id.clone()));
        }
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, group_id.clone()));
            self.timer_of.insert(group_id.clone(), deadline);
        }
    }

    /// A changed copy of a group, as a decision.
    fn changed(&self, group: ClassicGroup, effects: Effects) -> Decision<Self> {
        let mut decision = Decision { answers: effects.answers, ..Decision::default() };
        if effects.writes {
            decision.records.push(records::group_record(&group.id, &group.to_record()));
        }
        decision.changes.push(Change::Group(Arc::new(group)));
        decision
    }

    fn join(&self, request: &JoinGroup, ticket: Ticket, now: Now) -> Decision<Self> {
        let refuse = |error| answered(ticket, refused_join(error, &request.member_id));
        if request.group_id.is_empty() {
            return refuse(GroupError::InvalidGroupId);
        }
        let sessions = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(GroupError::InvalidSessionTimeout);
        }
        let found = self.groups.get(&request.group_id);
        let mut group = match found {
            Some(group) => ClassicGroup::clone(group),
            None if request.member_id.is_empty() => {
                ClassicGroup::new(request.group_id.clone(), self.config.initial_delay_ms, now)
            }
            None => return refuse(GroupError::UnknownMemberId),
        };
        let mut effects = Effects::default();
        // A group is there from its first join on, whatever becomes of the rebalance.
        let created = found.is_none().then(|| records::group_record(&group.id, &group.to_record()));
        group.join(&Joining { request, ticket, now, config: &self.config }, &mut effects);
        let mut decision = self.changed(group, effects);
        decision.records.splice(0..0, created);
        decision
    }

    fn sync(&self, request: SyncGroup, ticket: Ticket, now: Now) -> Decision<Self> {
        if request.group_id.is_empty() {
            return answered(ticket, refused_sync(GroupError::InvalidGroupId));
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return answered(ticket, refused_sync(GroupError::UnknownMemberId));
        };
        let (mut group, mut effects) = (ClassicGroup::clone(group), Effects::default());
        group.sync(request, ticket, now, &mut effects);
        self.changed(group, effects)
    }

    fn heartbeat(&self, request: &Heartbeat, ticket: Ticket, now: Now) -> Decision<Self> {
        if request.group_id.is_empty() {
            return answered(ticket, Response::Heartbeat(Err(GroupError::InvalidGroupId)));
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return answered(ticket, Response::Heartbeat(Err(GroupError::UnknownMemberId)));
        };
        let (answer, deadline) = group.heartbeat(request, now);
        let mut decision = answered(ticket, Response::Heartbeat(answer));
        decision.changes.extend(touched(&request.group_id, &request.member_id, deadline));
        decision
    }

    fn leave(&self, request: &LeaveGroup, ticket: Ticket, now: Now) -> Decision<Self> {
        if request.group_id.is_empty() {
            return answered(ticket, Response::Leave(Err(GroupError::InvalidGroupId)));
        }
        let (mut group, mut effects) = match self.groups.get(&request.group_id) {
            Some(group) => (ClassicGroup::clone(group), Effects::default()),
            None => {
                let nobody = request.members.iter().map(LeavingMember::unknown).collect();
                return answered(ticket, Response::Leave(Ok(nobody)));
            }
        };
        let left = group.leave(request, now, &mut effects);
        effects.answers.push((ticket, Response::Leave(Ok(left))));
        self.changed(group, effects)
    }

    fn list(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        if !passes(types, "classic") {
            return Vec::new();
        }
        let listed = self.groups.values().filter(|group| passes(states, group.state.name())).map(|group| {
            ListedGroup {
                group_id: group.id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_else(|| "".into()),
                state: group.state.name(),
                group_type: "classic",
            }
        });
        listed.collect()
    }

    fn delete(&self, group_id: &GroupId, ticket: Ticket) -> Decision<Self> {
        let refuse = |error| answered(ticket, Response::Delete(Err(error)));
        match self.groups.get(group_id) {
            None => refuse(GroupError::GroupIdNotFound),
            Some(group) if group.state != State::Empty => refuse(GroupError::NonEmptyGroup),
            Some(_) => {
                let records = self.offsets.tombstones_of_group(group_id);
                let mut decision = answered(ticket, Response::Delete(Ok(records.len())));
                decision.records = records;
                decision.records.push(records::group_tombstone(group_id));
                decision.changes.push(Change::Gone(group_id.clone()));
                decision
            }
        }
    }

    fn commit(&self, request: &CommitOffsets, ticket: Ticket, now: Now) -> Decision<Self> {
        let refuse = |error| answered(ticket, Response::CommitOffsets(Err(error)));
        let checked = match self.groups.get(&request.group_id) {
            Some(group) => {
                let instance_id = request.group_instance_id.as_deref();
                group.check_commit(request.generation_id, &request.member_id, instance_id)
            }
            // Who assigns itself needs no group before it commits.
            None if request.generation_id < 0 => Ok(()),
            None => Err(GroupError::GroupIdNotFound),
        };
        if let Err(error) = checked {
            return refuse(error);
        }
        let metadata_max = self.config.offset_metadata_bytes_max;
        let (records, results) = match self.offsets.commit(request, &self.topics, metadata_max, now) {
            Ok(committed) => committed,
            Err(error) => return refuse(error),
        };
        let group = self.groups.get(&request.group_id);
        let is_reset = request.generation_id < 0 && group.is_some_and(|group| group.protocol_type.is_some());
        let committed = request::CommittedOffsets { results, is_reset };
        let mut decision = answered(ticket, Response::CommitOffsets(Ok(committed)));
        decision.records = records;
        // A commit is as good as a heartbeat.
        if request.generation_id >= 0 {
            let deadline = group.and_then(|group| group.session_deadline(&request.member_id, now));
            decision.changes.extend(touched(&request.group_id, &request.member_id, deadline));
        }
        decision
    }

    fn delete_offsets(&self, request: &DeleteOffsets, ticket: Ticket) -> Decision<Self> {
        let refuse = |error| answered(ticket, Response::DeleteOffsets(Err(error)));
        let Some(group) = self.groups.get(&request.group_id) else {
            return refuse(GroupError::GroupIdNotFound);
        };
        let is_readable = group.protocol_type.as_deref() == Some(super::classic::CONSUMER);
        if group.state != State::Empty && !is_readable {
            return refuse(GroupError::NonEmptyGroup);
        }
        let (records, answers) = self.offsets.delete(request, |topic| group.is_subscribed(topic));
        let mut decision = answered(ticket, Response::DeleteOffsets(Ok(answers)));
        decision.records = records;
        decision
    }

    /// Tombstones of outdated offsets, but for what has been committed anew.
    fn write_outdated(&self) -> Decision<Self> {
        let from = self.outdated.len().saturating_sub(TOMBSTONES_PER_TICK);
        let turn = &self.outdated[from..];
        let outdated = turn.iter().filter(|key| !self.offsets.has(key));
        let records = outdated.map(records::offset_tombstone).collect();
        let changes = vec![Change::OutdatedWritten(turn.len())];
        Decision { records, changes, ..Decision::default() }
    }

    /// Offsets that expired, and groups that have neither members nor offsets any more.
    fn expire(&self, now: Now) -> Decision<Self> {
        let mut decision = Decision::default();
        for group in self.groups.values() {
            let ages_from = match (&group.protocol_type, group.state) {
                (None, _) => Some(AgesFrom::Commit),
                (Some(_), State::Empty) if group.state_since_ms >= 0 => {
                    Some(AgesFrom::Empty(group.state_since_ms))
                }
                (Some(_), State::Empty) => Some(AgesFrom::Commit),
                (Some(protocol_type), State::Stable) if **protocol_type == *super::classic::CONSUMER => {
                    Some(AgesFrom::Commit)
                }
                (Some(_), _) => None,
            };
            let Some(ages_from) = ages_from else { continue };
            let retention_ms = self.config.offsets_retention_ms;
            let is_subscribed = |topic: &str| group.is_subscribed(topic);
            let mut expired = self.offsets.expired(&group.id, ages_from, is_subscribed, retention_ms, now);
            let are_all_gone = expired.len() == self.offsets.count_of(&group.id);
            if !expired.is_empty() {
                tracing::info!(group = %group.id, offsets = expired.len(), "offsets expired");
            }
            let room = TOMBSTONES_PER_TICK.saturating_sub(decision.records.len());
            if expired.len() >= room {
                expired.truncate(room);
                decision.records.extend(expired);
                decision.changes.push(Change::ExpiryLookedAt { next: now.monotonic_ms });
                return decision;
            }
            decision.records.extend(expired);
            if are_all_gone && group.state == State::Empty && group.pending.is_empty() {
                tracing::info!(group = %group.id, "a group without members and offsets is gone");
                decision.records.push(records::group_tombstone(&group.id));
                decision.changes.push(Change::Gone(group.id.clone()));
            }
        }
        let next = now.monotonic_ms.saturating_add(self.config.retention_check_interval_ms);
        decision.changes.push(Change::ExpiryLookedAt { next });
        decision
    }
}

fn answered(ticket: Ticket, response: Response) -> Decision<GroupShard> {
    Decision { answers: vec![(ticket, response)], ..Decision::default() }
}

fn touched(group: &GroupId, member: &Arc<str>, deadline: Option<i64>) -> Option<Change> {
    deadline.map(|deadline| Change::Touched { group: group.clone(), member: member.clone(), deadline })
}

impl Shard for GroupShard {
    type Request = Request;
    type Response = Response;
    type Change = Change;

    fn replay(&mut self, record: &CoordinatorRecord, now: Now) -> Result<(), ReplayError> {
        match records::parse(record)? {
            GroupRecord::Offset { key, topic_id, value } => {
                // Who commits without having joined has a group all the same.
                if value.is_some() && !self.groups.contains_key(&key.group) {
                    let group = ClassicGroup::new(key.group.clone(), self.config.initial_delay_ms, now);
                    self.put(Arc::new(group));
                }
                self.offsets.replay(&key, topic_id, value);
            }
            GroupRecord::Group { group_id, value: Some(written) } => {
                let group = ClassicGroup::from_record(group_id, self.config.initial_delay_ms, written);
                self.put(Arc::new(group));
            }
            GroupRecord::Group { group_id, value: None } => self.remove(&group_id),
            GroupRecord::Other => {}
        }
        if self.expiry_due.is_none() && !self.groups.is_empty() {
            self.expiry_due = Some(now.monotonic_ms.saturating_add(self.config.retention_check_interval_ms));
        }
        Ok(())
    }

    fn loaded(&mut self, now: Now) {
        self.outdated = self.offsets.remove_outdated(&self.topics);
        if !self.outdated.is_empty() {
            tracing::info!(offsets = self.outdated.len(), "offsets of topics that are gone are dropped");
        }
        let groups: Vec<_> = self.groups.values().cloned().collect();
        for mut group in groups {
            let size = group.members.len();
            let changed = Arc::make_mut(&mut group);
            changed.loaded(now);
            if size > self.config.size_max {
                let mut effects = Effects::default();
                changed.rebalance("the group has more members than group.max.size", now, &mut effects);
            }
            self.put(group);
        }
    }

    fn decide(&self, request: Request, ticket: Ticket, now: Now) -> Decision<Self> {
        match request {
            Request::Join(request) => self.join(&request, ticket, now),
            Request::Sync(request) => self.sync(request, ticket, now),
            Request::Heartbeat(request) => self.heartbeat(&request, ticket, now),
            Request::Leave(request) => self.leave(&request, ticket, now),
            Request::Describe(group_id) => {
                let found = self.groups.get(&group_id).ok_or(GroupError::GroupIdNotFound);
                answered(ticket, Response::Describe(found.map(|group| group.describe())))
            }
            Request::List { states, types } => answered(ticket, Response::List(self.list(&states, &types))),
            Request::Delete(group_id) => self.delete(&group_id, ticket),
            Request::CommitOffsets(request) => self.commit(&request, ticket, now),
            Request::FetchOffsets(request) => {
                answered(ticket, Response::FetchOffsets(Ok(self.offsets.fetch(&request))))
            }
            Request::DeleteOffsets(request) => self.delete_offsets(&request, ticket),
            Request::TopicsDeleted(topics) => {
                let mut decision = answered(ticket, Response::TopicsDeleted);
                decision.records = self.offsets.tombstones_of_topics(&topics);
                decision
            }
        }
    }

    fn tick(&self, now: Now) -> Decision<Self> {
        if !self.outdated.is_empty() && self.outdated_due <= now.monotonic_ms {
            return self.write_outdated();
        }
        let mut decision = Decision::default();
        let due = self.timers.iter().take_while(|(deadline, _)| *deadline <= now.monotonic_ms);
        for (_, group_id) in due.take(GROUPS_PER_TICK) {
            let Some(group) = self.groups.get(group_id) else { continue };
            let (mut group, mut effects) = (ClassicGroup::clone(group), Effects::default());
            let has_changed = group.pass_time(now, &mut effects);
            // What is written may fail (a full disk): it comes apart, and takes nothing else with it.
            if !decision.changes.is_empty() && decision.records.is_empty() == effects.writes {
                return decision;
            }
            if !has_changed {
                decision.changes.push(Change::LookedAt(group_id.clone()));
                continue;
            }
            let changed = self.changed(group, effects);
            decision.records.extend(changed.records);
            decision.changes.extend(changed.changes);
            decision.answers.extend(changed.answers);
        }
        if self.expiry_due.is_some_and(|due| due <= now.monotonic_ms) && decision.changes.is_empty() {
            return self.expire(now);
        }
        decision
    }

    fn postpone(&mut self, undone: Decision<Self>, until: i64) {
        for change in undone.changes {
            match change {
                Change::Group(group) => self.set_timer(&group.id, Some(until)),
                Change::ExpiryLookedAt { .. } => self.expiry_due = Some(until),
                Change::OutdatedWritten(_) => self.outdated_due = until,
                Change::Gone(_) | Change::Touched { .. } | Change::LookedAt(_) => {}
            }
        }
    }

    fn deadline(&self) -> Option<i64> {
        let first = self.timers.first().map(|(deadline, _)| *deadline);
        let outdated = (!self.outdated.is_empty()).then_some(self.outdated_due);
        first.into_iter().chain(self.expiry_due).chain(outdated).min()
    }

    fn install(&mut self, change: Change) {
        match change {
            Change::Group(group) => self.put(group),
            Change::Gone(group_id) => self.remove(&group_id),
            Change::Touched { group, member, deadline } => {
                // The timer stays: looked at too early, the group is looked at again.
                if let Some(group) = self.groups.get_mut(&group)
                    && let Some(member) = Arc::make_mut(group).member_mut(&member)
                {
                    member.deadline = deadline;
                }
            }
            Change::LookedAt(group_id) => {
                let deadline = self.groups.get(&group_id).and_then(|group| group.deadline());
                self.set_timer(&group_id, deadline);
            }
            Change::OutdatedWritten(count) => {
                self.outdated.truncate(self.outdated.len().saturating_sub(count));
            }
            Change::ExpiryLookedAt { next } => {
                self.expiry_due = Some(next).filter(|_| !self.groups.is_empty());
            }
        }
    }
}
