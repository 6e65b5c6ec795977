//! Groups under random schedules: clients that join, fall silent, come back, leave, lose answers and
//! commit, while the coordinator moves and its appends fail.
//!
//! What must hold:
//! 1. In one generation no partition is given to two members. A static member that comes back is the
//!    same one (KIP-345).
//! 2. Generations only go up, and commits of others than the newest are refused.
//! 3. The log gives the state that is live (for groups that rebalance: one that was before).
//! 4. Nobody waits for ever: once faults stop, the group becomes Stable with exactly the clients that
//!    live, every partition is owned, and no request waits.
//!
//! A failure prints the command that repeats its seed ([`seeds`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::State;
use super::harness::{Harness, client, config, subscription};
use super::request::*;
use crate::coordinator::Ticket;
use crate::env::sim::{SimRandom, seeds};
use crate::types::TopicId;

const GROUP: &str = "g";
const PARTITIONS: u8 = 7;
const STEPS: u64 = 400;
const CLIENTS: usize = 6;
const HEARTBEAT_MS: i64 = 2000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    /// Its process does not run.
    Down,
    /// Ended by an error that clients do not get over.
    Fatal(GroupError),
    WantsToJoin,
    Joins(Ticket, i64),
    WantsToSync,
    Syncs(Ticket, i64),
    /// Heartbeats are due at.
    Member(i64),
}

/// A consumer as Kafka's are.
#[derive(Clone, Debug)]
struct Consumer {
    name: Arc<str>,
    instance: Option<Arc<str>>,
    is_old: bool,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    prefers_range: bool,
    /// Changes when its subscription does.
    topics: Vec<&'static str>,
    doing: Doing,
    member_id: Arc<str>,
    joined: Option<JoinedGroup>,
    owned: Vec<u8>,
    /// The group's incarnation that it asked for its partitions.
    asked_in: u64,
}

struct World {
    random: SimRandom,
    harness: Harness,
    consumers: Vec<Consumer>,
    /// Who owns what in which generation.
    owners: BTreeMap<(u64, i32, u8), Arc<str>>,
    /// How often the group was deleted, as nobody used it.
    incarnation: u64,
    exists: bool,
    /// The newest generation.
    begun: i32,
    /// The newest that a member was told its partitions of.
    written: i32,
    faults: bool,
    is_loud: bool,
}

impl World {
    fn new(seed: u64, is_loud: bool) -> Self {
        let mut random = SimRandom::new(seed);
        let mut config = config();
        config.initial_delay_ms = [0, 3000][random.index(2)];
        config.offsets_retention_ms = [60_000, 7 * 24 * 3_600_000][random.index(2)];
        config.retention_check_interval_ms = 30_000;
        let consumers = (0..CLIENTS)
            .map(|number| Consumer {
                name: format!("c{number}").into(),
                instance: random.one_in(3).then(|| format!("i{number}").into()),
                is_old: random.one_in(3),
                session_timeout_ms: 6000 + random.below(20_000) as i32,
                rebalance_timeout_ms: 5000 + random.below(60_000) as i32,
                prefers_range: random.one_in(2),
                topics: vec!["t"],
                doing: Doing::Down,
                member_id: "".into(),
                joined: None,
                owned: Vec::new(),
                asked_in: 0,
            })
            .collect();
        let harness = Harness::new(config);
        Self {
            random,
            harness,
            consumers,
            owners: BTreeMap::new(),
            incarnation: 0,
            exists: false,
            begun: 0,
            written: 0,
            faults: true,
            is_loud,
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:>9} {}", self.harness.now_ms, what());
        }
    }

    fn strikes(&mut self, n: u64) -> bool {
        self.faults && self.random.one_in(n)
    }

    /// One request; `None` when the answer is lost or comes later.
    fn ask(&mut self, request: Request) -> Ticket {
        self.harness.appends_fail = self.strikes(12);
        let ticket = self.harness.ask(request);
        self.harness.appends_fail = false;
        self.follow_group(false);
        ticket
    }

    /// Generations go up, but for those that were not written when the coordinator moved.
    fn follow_group(&mut self, has_moved: bool) {
        let Some(generation) = self.harness.group(GROUP).map(|group| group.generation) else {
            // A group that comes again counts from the start.
            self.incarnation += u64::from(self.exists);
            (self.exists, self.begun, self.written) = (false, 0, 0);
            return;
        };
        let least = if has_moved { self.written } else { self.begun };
        assert!(generation >= least, "generation {generation} comes after {least}");
        (self.exists, self.begun) = (true, generation);
    }

    fn step(&mut self) {
        let ms = match self.strikes(10) {
            _ if !self.faults => 1000,
            // Everybody pauses for long enough that some sessions and rebalances end.
            true => 5000 + self.random.below(60_000) as i64,
            false => [0, 10, 300, 1000][self.random.index(4)],
        };
        self.harness.appends_fail = self.strikes(20);
        self.harness.pass(ms);
        self.harness.appends_fail = false;
        self.follow_group(false);
        if self.strikes(60) {
            self.say(|| "the coordinator moves".into());
            self.harness.crash();
            self.follow_group(true);
        }
        for at in 0..self.consumers.len() {
            if self.strikes(40) {
                self.disturb(at);
            }
            self.act(at);
        }
        if self.random.one_in(50) {
            self.harness.check_replay();
        }
    }

    /// Its user, or fate, does something to a consumer.
    fn disturb(&mut self, at: usize) {
        let what = self.random.below(7);
        let is_running = !matches!(self.consumers[at].doing, Doing::Down | Doing::Fatal(_));
        match what {
            0..=2 if !is_running => self.start(at),
            0 => {
                self.say(|| format!("{} dies", self.consumers[at].name));
                self.consumers[at].doing = Doing::Down;
                self.consumers[at].owned.clear();
            }
            1 => {
                self.say(|| format!("{} starts again", self.consumers[at].name));
                self.start(at);
            }
            2 if self.consumers[at].instance.is_none() => self.leave(at),
            3 => {
                let topics = [vec!["t"], vec!["t", "u"]];
                self.consumers[at].topics = topics[self.random.index(2)].clone();
                if is_running {
                    self.consumers[at].doing = Doing::WantsToJoin;
                }
            }
            4 => {
                // An administrator removes a static member, or commits as if the group were its own.
                if let Some(instance) = self.consumers[at].instance.clone() {
                    self.say(|| format!("{instance} is removed"));
                    let leaving = LeavingMember {
                        member_id: "".into(),
                        group_instance_id: Some(instance),
                        reason: None,
                    };
                    self.ask(Request::Leave(LeaveGroup {
                        group_id: GROUP.into(),
                        client: client("c"),
                        members: vec![leaving],
                    }));
                }
            }
            5 => {
                // It waits no longer, and asks again.
                if let Doing::Joins(..) = self.consumers[at].doing {
                    self.consumers[at].doing = Doing::WantsToJoin;
                }
                if let Doing::Syncs(..) = self.consumers[at].doing {
                    self.consumers[at].doing = Doing::WantsToSync;
                }
            }
            _ => {
                let commit = self.commit_of(-1, "".into(), None);
                let ticket = self.ask(Request::CommitOffsets(commit));
                if let Some(Response::CommitOffsets(Ok(_))) = self.harness.take(ticket) {
                    assert_eq!(
                        self.harness.state(GROUP),
                        Some(State::Empty),
                        "anybody may commit to a group with members"
                    );
                }
            }
        }
    }

    fn start(&mut self, at: usize) {
        let consumer = &mut self.consumers[at];
        consumer.doing = Doing::WantsToJoin;
        consumer.member_id = "".into();
        consumer.joined = None;
        consumer.owned.clear();
    }

    fn leave(&mut self, at: usize) {
        self.say(|| format!("{} leaves", self.consumers[at].name));
        let member_id = self.consumers[at].member_id.clone();
        self.consumers[at].doing = Doing::Down;
        self.consumers[at].owned.clear();
        let leaving = LeavingMember { member_id, group_instance_id: None, reason: None };
        self.ask(Request::Leave(LeaveGroup {
            group_id: GROUP.into(),
            client: client("c"),
            members: vec![leaving],
        }));
    }

    fn commit_of(
        &mut self,
        generation_id: i32,
        member_id: Arc<str>,
        instance: Option<Arc<str>>,
    ) -> CommitOffsets {
        CommitOffsets {
            group_id: GROUP.into(),
            generation_id,
            member_id,
            group_instance_id: instance,
            retention_ms: None,
            offsets: vec![OffsetToCommit {
                topic: ["t", "u"][self.random.index(2)].into(),
                topic_id: TopicId::ZERO,
                partition: self.random.below(3) as i32,
                offset: self.random.below(1000) as i64,
                leader_epoch: 0,
                metadata: "".into(),
            }],
        }
    }

    /// Answers are acted upon at once, as members must be heard of in time.
    fn act(&mut self, at: usize) {
        for _ in 0..4 {
            let before = self.consumers[at].doing.clone();
            self.act_once(at);
            if self.consumers[at].doing == before || self.strikes(10) {
                break;
            }
        }
    }

    fn act_once(&mut self, at: usize) {
        let now_ms = self.harness.now_ms;
        match self.consumers[at].doing.clone() {
            Doing::Down | Doing::Fatal(_) => {}
            Doing::WantsToJoin => self.send_join(at),
            Doing::Joins(ticket, gives_up) => match self.harness.take(ticket) {
                // The connection broke before the answer came.
                Some(_) if self.strikes(15) => self.consumers[at].doing = Doing::WantsToJoin,
                Some(response) => self.joined(at, response),
                None if now_ms >= gives_up => self.consumers[at].doing = Doing::WantsToJoin,
                None => {}
            },
            Doing::WantsToSync => self.send_sync(at),
            Doing::Syncs(ticket, gives_up) => match self.harness.take(ticket) {
                Some(_) if self.strikes(15) => self.consumers[at].doing = Doing::WantsToSync,
                Some(response) => self.synced(at, response),
                None if now_ms >= gives_up => self.consumers[at].doing = Doing::WantsToJoin,
                None => {}
            },
            Doing::Member(due) => {
                if now_ms >= due {
                    self.heartbeat(at);
                }
                if matches!(self.consumers[at].doing, Doing::Member(_)) && self.random.one_in(8) {
                    self.commit(at);
                }
            }
        }
    }

    fn send_join(&mut self, at: usize) {
        let consumer = &mut self.consumers[at];
        consumer.owned.clear();
        let metadata = subscription(&consumer.topics);
        let mut protocols = vec![("range".into(), metadata.clone()), ("roundrobin".into(), metadata)];
        if !consumer.prefers_range {
            protocols.reverse();
        }
        let request = JoinGroup {
            group_id: GROUP.into(),
            member_id: consumer.member_id.clone(),
            group_instance_id: consumer.instance.clone(),
            client: client(&consumer.name),
            needs_known_member_id: !consumer.is_old && consumer.instance.is_none(),
            supports_skipping_assignment: !consumer.is_old,
            session_timeout_ms: consumer.session_timeout_ms,
            rebalance_timeout_ms: consumer.rebalance_timeout_ms,
            protocol_type: "consumer".into(),
            protocols,
            reason: None,
        };
        // Clients wait somewhat longer than a rebalance may take, which the slowest member decides.
        let gives_up = self.harness.now_ms + 75_000;
        let ticket = self.ask(Request::Join(request));
        self.consumers[at].doing = Doing::Joins(ticket, gives_up);
    }

    fn joined(&mut self, at: usize, response: Response) {
        let joined = match response {
            Response::Join(joined) => joined,
            Response::Failed(_) => return self.consumers[at].doing = Doing::WantsToJoin,
            other => panic!("a join is answered {other:?}"),
        };
        self.say(|| format!("{} is told {joined:?}", self.consumers[at].name));
        let consumer = &mut self.consumers[at];
        match joined {
            Ok(joined) => {
                consumer.member_id = joined.member_id.clone();
                consumer.joined = Some(joined);
                consumer.doing = Doing::WantsToSync;
            }
            Err(RefusedJoin { error: GroupError::MemberIdRequired, member_id }) => {
                consumer.member_id = member_id;
                consumer.doing = Doing::WantsToJoin;
            }
            Err(refused) => self.fails(at, refused.error),
        }
    }

    /// What clients make of an error.
    fn fails(&mut self, at: usize, error: GroupError) {
        self.say(|| format!("{} fails with {error:?}", self.consumers[at].name));
        let consumer = &mut self.consumers[at];
        consumer.owned.clear();
        consumer.doing = Doing::WantsToJoin;
        match error {
            GroupError::UnknownMemberId => consumer.member_id = "".into(),
            GroupError::IllegalGeneration => consumer.joined = None,
            GroupError::RebalanceInProgress => {}
            error => consumer.doing = Doing::Fatal(error),
        }
    }

    fn send_sync(&mut self, at: usize) {
        let consumer = &self.consumers[at];
        let joined = consumer.joined.clone().expect("joined before it syncs");
        let leads = *joined.leader == *joined.member_id && !joined.skip_assignment;
        let mut assignments: BTreeMap<Arc<str>, Vec<u8>> = BTreeMap::new();
        if leads {
            assert!(!joined.members.is_empty(), "a leader is told nobody");
            for partition in 0..PARTITIONS {
                let member = &joined.members[usize::from(partition) % joined.members.len()];
                assignments.entry(member.member_id.clone()).or_default().push(partition);
            }
        }
        let request = SyncGroup {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: consumer.instance.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: assignments.into_iter().map(|(id, owned)| (id, Bytes::from(owned))).collect(),
        };
        let gives_up = self.harness.now_ms + 75_000;
        let ticket = self.ask(Request::Sync(request));
        self.consumers[at].doing = Doing::Syncs(ticket, gives_up);
        self.consumers[at].asked_in = self.incarnation;
    }

    fn synced(&mut self, at: usize, response: Response) {
        let synced = match response {
            Response::Sync(synced) => synced,
            Response::Failed(_) => return self.consumers[at].doing = Doing::WantsToSync,
            other => panic!("a sync is answered {other:?}"),
        };
        let synced = match synced {
            Ok(synced) => synced,
            Err(error) => return self.fails(at, error),
        };
        let consumer = &mut self.consumers[at];
        let generation = consumer.joined.as_ref().expect("joined").generation_id;
        if consumer.asked_in == self.incarnation {
            self.written = self.written.max(generation);
        }
        consumer.owned = synced.assignment.to_vec();
        consumer.doing = Doing::Member(self.harness.now_ms + HEARTBEAT_MS);
        let owner = consumer.instance.clone().unwrap_or_else(|| consumer.member_id.clone());
        let (owned, incarnation) = (consumer.owned.clone(), consumer.asked_in);
        self.say(|| format!("{} owns {owned:?} in generation {generation}", self.consumers[at].name));
        for partition in owned {
            let known =
                self.owners.entry((incarnation, generation, partition)).or_insert_with(|| owner.clone());
            assert_eq!(*known, owner, "partition {partition} has two owners in generation {generation}");
        }
    }

    fn heartbeat(&mut self, at: usize) {
        let consumer = &self.consumers[at];
        let request = Heartbeat {
            group_id: GROUP.into(),
            generation_id: consumer.joined.as_ref().expect("joined").generation_id,
            member_id: consumer.member_id.clone(),
            group_instance_id: consumer.instance.clone(),
        };
        let ticket = self.ask(Request::Heartbeat(request));
        self.consumers[at].doing = Doing::Member(self.harness.now_ms + HEARTBEAT_MS);
        match self.harness.take(ticket) {
            Some(Response::Heartbeat(Ok(())) | Response::Failed(_)) => {}
            Some(Response::Heartbeat(Err(error))) => self.fails(at, error),
            other => panic!("a heartbeat is answered {other:?}"),
        }
    }

    fn commit(&mut self, at: usize) {
        let consumer = self.consumers[at].clone();
        // At times with what a thread remembers that was overtaken.
        let overtaken = i32::from(self.random.one_in(4));
        let generation = consumer.joined.as_ref().expect("joined").generation_id - overtaken;
        let begun = self.begun;
        let commit = self.commit_of(generation, consumer.member_id.clone(), consumer.instance.clone());
        let ticket = self.ask(Request::CommitOffsets(commit));
        match self.harness.take(ticket) {
            Some(Response::CommitOffsets(Ok(_))) => {
                assert_eq!(generation, begun, "a commit of another generation is taken");
            }
            Some(Response::CommitOffsets(Err(GroupError::FencedInstanceId))) => {
                self.fails(at, GroupError::FencedInstanceId);
            }
            Some(Response::CommitOffsets(Err(_)) | Response::Failed(_)) => {}
            other => panic!("a commit is answered {other:?}"),
        }
    }

    /// No more faults: what must come of it within the time that all timeouts together may take.
    fn heal(&mut self) {
        self.say(|| "faults stop".into());
        self.faults = false;
        if self.consumers.iter().all(|consumer| consumer.doing == Doing::Down) {
            self.start(0);
        }
        for at in 0..self.consumers.len() {
            if let Doing::Fatal(error) = self.consumers[at].doing {
                // Only who was replaced may be told what clients do not get over.
                assert_eq!(error, GroupError::FencedInstanceId);
                self.start(at);
            }
        }
        // New members of old clients that went away are given up after five minutes, and then those
        // that waited for them have their sessions and a rebalance.
        let end = self.harness.now_ms + 12 * 60_000;
        while self.harness.now_ms < end {
            self.step();
        }
        self.check_healed();
    }

    fn check_healed(&self) {
        let group = self.harness.group(GROUP).expect("a group with members");
        let members: BTreeSet<&Arc<str>> = group.members.keys().collect();
        let alive: Vec<_> = self.consumers.iter().filter(|consumer| consumer.doing != Doing::Down).collect();
        let show = |what: &dyn Debug| format!("{what:?}\n{group:#?}");
        assert_eq!(group.state, State::Stable, "{}", show(&alive));
        assert!(alive.iter().all(|consumer| matches!(consumer.doing, Doing::Member(_))), "{}", show(&alive));
        assert_eq!(members, alive.iter().map(|consumer| &consumer.member_id).collect(), "{}", show(&alive));
        let mut owned: Vec<u8> = alive.iter().flat_map(|consumer| consumer.owned.clone()).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>(), "{}", show(&alive));
        assert!(self.harness.waiting.is_empty(), "somebody waits still: {:?}", self.harness.waiting);
        assert!(group.pending.is_empty(), "ids are pending still");
        self.harness.check_replay();
    }
}

fn run(seed: u64, is_loud: bool) {
    let mut world = World::new(seed, is_loud);
    for at in 0..CLIENTS {
        if world.random.one_in(2) {
            world.start(at);
        }
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.heal();
}

#[test]
fn random_schedules_keep_the_promises_of_groups() {
    seeds::run(40, "--lib schedules", |seed| run(seed, seeds::is_one()));
}
