//! What tests of group shards have in common: a shard with a log in memory, a clock that is told the
//! time, and appends that fail when they are told to. It treats decisions as the runtime does.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::classic::{ClassicGroup, State};
use super::config::GroupShardConfig;
use super::offsets::TopicIds;
use super::records::GroupMetadata;
use super::request::*;
use super::shard::GroupShard;
use crate::coordinator::{CoordinatorError, CoordinatorRecord, Decision, Now, Shard, Ticket};
use crate::env::Chance;
use crate::env::sim::SimRandom;
use crate::types::TopicId;

thread_local! {
    static IDS: Cell<u64> = const { Cell::new(0) };
}

/// Ids that look random and are the same in every run.
#[derive(Debug)]
struct NextId;

impl Chance for NextId {
    fn next_u64(&self) -> u64 {
        let count = IDS.get() + 1;
        IDS.set(count);
        SimRandom::new(count).next_u64()
    }
}

pub(super) fn config() -> GroupShardConfig {
    GroupShardConfig {
        session_timeout_min_ms: 6000,
        session_timeout_max_ms: 1_800_000,
        initial_delay_ms: 3000,
        size_max: usize::MAX,
        offset_metadata_bytes_max: 4096,
        offsets_retention_ms: 7 * 24 * 3600 * 1000,
        retention_check_interval_ms: 600_000,
        chance: Arc::new(NextId),
    }
}

/// The topics that there are, by name.
type Topics = Arc<Mutex<BTreeMap<String, TopicId>>>;

fn ids_of(topics: &Topics) -> TopicIds {
    let topics = topics.clone();
    TopicIds::new(move |name| topics.lock().get(name).copied())
}

pub(super) struct Harness {
    pub config: GroupShardConfig,
    pub topics: Topics,
    pub shard: GroupShard,
    pub log: Vec<CoordinatorRecord>,
    pub now_ms: i64,
    pub appends_fail: bool,
    next_ticket: u64,
    pub waiting: BTreeSet<Ticket>,
    answers: BTreeMap<Ticket, Response>,
}

impl Harness {
    pub(super) fn new(config: GroupShardConfig) -> Self {
        IDS.set(0);
        let topics = Topics::default();
        let mut harness = Self {
            shard: GroupShard::new(config.clone(), ids_of(&topics)),
            config,
            topics,
            log: Vec::new(),
            now_ms: 1_000_000,
            appends_fail: false,
            next_ticket: 0,
            waiting: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        harness.shard.loaded(harness.now());
        harness
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_ms: 1_700_000_000_000 + self.now_ms, monotonic_ms: self.now_ms }
    }

    /// Asks; the answer is there at once or comes later, see [`Self::take`].
    pub(super) fn ask(&mut self, request: Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let mut decision = self.shard.decide(request, ticket, self.now());
        self.waiting.insert(ticket);
        if !self.carry_out(&mut decision) {
            self.waiting.remove(&ticket);
            self.answers.insert(ticket, Response::Failed(CoordinatorError::NotCoordinator));
        }
        ticket
    }

    /// Asks what is answered at once.
    pub(super) fn answer(&mut self, request: Request) -> Response {
        let ticket = self.ask(request);
        self.take(ticket).expect("answered at once")
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Response> {
        self.answers.remove(&ticket)
    }

    fn carry_out(&mut self, decision: &mut Decision<GroupShard>) -> bool {
        if self.appends_fail && !decision.records.is_empty() {
            return false;
        }
        let now = self.now();
        for record in decision.records.drain(..) {
            self.shard.replay(&record, now).expect("readable");
            self.log.push(record);
        }
        for change in decision.changes.drain(..) {
            self.shard.install(change);
        }
        for (ticket, response) in decision.answers.drain(..) {
            assert!(self.waiting.remove(&ticket), "{ticket:?} is answered but does not wait: {response:?}");
            self.answers.insert(ticket, response);
        }
        true
    }

    /// Lets time pass, with every turn of the clock that is due.
    pub(super) fn pass(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        let mut turns = 0;
        while let Some(deadline) = self.shard.deadline().filter(|deadline| *deadline <= end) {
            self.now_ms = self.now_ms.max(deadline);
            let mut decision = self.shard.tick(self.now());
            if !self.carry_out(&mut decision) {
                self.shard.postpone(decision, self.now_ms + 1000);
            }
            turns += 1;
            assert!(turns < 10_000, "the clock's turns do not end");
        }
        self.now_ms = end;
    }

    /// The coordinator moves: all that is left is the log, and who waits is told to look for it.
    pub(super) fn crash(&mut self) {
        self.shard = self.replayed();
        self.shard.loaded(self.now());
        for ticket in std::mem::take(&mut self.waiting) {
            self.answers.insert(ticket, Response::Failed(CoordinatorError::NotCoordinator));
        }
    }

    fn replayed(&self) -> GroupShard {
        let mut shard = GroupShard::new(self.config.clone(), ids_of(&self.topics));
        for record in &self.log {
            shard.replay(record, self.now()).expect("readable");
        }
        shard
    }

    pub(super) fn group(&self, id: &str) -> Option<&ClassicGroup> {
        self.shard.groups().find(|group| *group.id == *id).map(|group| &**group)
    }

    pub(super) fn state(&self, id: &str) -> Option<State> {
        self.group(id).map(|group| group.state)
    }

    /// What the log tells is what is there.
    pub(super) fn check_replay(&self) {
        let replayed = self.replayed();
        let groups = |shard: &GroupShard| -> BTreeMap<GroupId, ClassicGroup> {
            shard.groups().map(|group| (group.id.clone(), ClassicGroup::clone(group))).collect()
        };
        let (live, replayed_groups) = (groups(&self.shard), groups(&replayed));
        assert!(live.keys().eq(replayed_groups.keys()), "other groups are written than there are");
        for (id, group) in &live {
            let durable = |group: &ClassicGroup| GroupMetadata {
                // A group that a commit made has no record that says when.
                current_state_timestamp_ms: match group.protocol_type {
                    Some(_) => group.state_since_ms,
                    None => -1,
                },
                ..group.to_record()
            };
            let (is, written) = (durable(group), durable(&replayed_groups[id]));
            match group.state {
                State::Stable | State::Empty => assert_eq!(is, written, "{id} is {:?}", group.state),
                _ => assert!(written.generation <= is.generation, "{id}: {is:?}, {written:?}"),
            }
        }
        let offsets = |shard: &GroupShard| {
            let all = shard.offsets().all();
            let mut all: Vec<_> = all
                .map(|(group, topic, partition, value)| format!("{group} {topic} {partition} {value:?}"))
                .collect();
            all.sort();
            all
        };
        assert_eq!(offsets(&self.shard), offsets(&replayed));
    }
}

pub(super) fn client(id: &str) -> Client {
    Client { id: id.into(), host: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

/// A consumer's subscription: version 1, topics, no user data.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.put_i32(0);
    out.freeze()
}

/// A join of a modern consumer that subscribes to `t`.
pub(super) fn join(group: &str, member_id: &str) -> JoinGroup {
    JoinGroup {
        group_id: group.into(),
        member_id: member_id.into(),
        group_instance_id: None,
        client: client("c"),
        needs_known_member_id: true,
        supports_skipping_assignment: true,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"]))],
        reason: None,
    }
}

pub(super) fn sync(group: &str, joined: &JoinedGroup, assignments: &[(&Arc<str>, &str)]) -> SyncGroup {
    SyncGroup {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assignments
            .iter()
            .map(|(member_id, text)| ((*member_id).clone(), Bytes::copy_from_slice(text.as_bytes())))
            .collect(),
    }
}
