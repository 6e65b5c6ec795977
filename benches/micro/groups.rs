//! A consumer group of 100 members, in the state machine that decides and replays; what is appended in
//! between costs as much as any append.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use raftsman::coordinator::group::GroupShard;
use raftsman::coordinator::group::classic::State;
use raftsman::coordinator::group::config::GroupShardConfig;
use raftsman::coordinator::group::offsets::TopicIds;
use raftsman::coordinator::group::request::{
    Client, CommitOffsets, Heartbeat, JoinGroup, JoinedGroup, OffsetToCommit, Request, Response, SyncGroup,
};
use raftsman::coordinator::{Decision, Now, Shard, Ticket};
use raftsman::env::real::RealChance;
use raftsman::types::TopicId;

use super::cpu_time::CpuTime;

const GROUP: &str = "billing";
const MEMBERS: usize = 100;
const NOW: Now = Now { wall_ms: 1_700_000_000_000, monotonic_ms: 1_000_000 };

/// A shard, and what it answered. Does with decisions what the runtime does, but for the append.
struct World {
    shard: GroupShard,
    next_ticket: u64,
    answers: HashMap<Ticket, Response>,
}

impl World {
    fn new() -> Self {
        let config = GroupShardConfig {
            session_timeout_min_ms: 6000,
            session_timeout_max_ms: 1_800_000,
            initial_delay_ms: 3000,
            size_max: usize::MAX,
            offset_metadata_bytes_max: 4096,
            offsets_retention_ms: 7 * 24 * 3600 * 1000,
            retention_check_interval_ms: 600_000,
            chance: Arc::new(RealChance),
        };
        let mut shard = GroupShard::new(config, TopicIds::new(|_| None));
        shard.loaded(NOW);
        Self { shard, next_ticket: 0, answers: HashMap::new() }
    }

    /// A group with this many members, all assigned.
    fn stable(members: usize) -> (Self, Vec<JoinedGroup>) {
        let mut world = Self::new();
        let ids: Vec<_> = (0..members).map(|_| world.give_out_id()).collect();
        let joined = world.rebalance(&ids);
        (world, joined)
    }

    fn ask(&mut self, request: Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let decision = self.shard.decide(request, ticket, NOW);
        self.carry_out(decision);
        ticket
    }

    fn carry_out(&mut self, decision: Decision<GroupShard>) {
        for record in &decision.records {
            self.shard.replay(record, NOW).expect("replays");
        }
        decision.changes.into_iter().for_each(|change| self.shard.install(change));
        self.answers.extend(decision.answers);
    }

    fn joined(&mut self, ticket: Ticket) -> JoinedGroup {
        match self.answers.remove(&ticket) {
            Some(Response::Join(Ok(joined))) => joined,
            other => panic!("a join is answered {other:?}"),
        }
    }

    /// The id that a member is told before it may join (KIP-394).
    fn give_out_id(&mut self) -> Arc<str> {
        let ticket = self.ask(Request::Join(join("")));
        match self.answers.remove(&ticket) {
            Some(Response::Join(Err(refused))) => refused.member_id,
            other => panic!("a join without an id is answered {other:?}"),
        }
    }

    /// All join, and all get their assignment from the leader.
    fn rebalance(&mut self, ids: &[Arc<str>]) -> Vec<JoinedGroup> {
        // The leader first: its joining again is what begins a rebalance of a group that is stable.
        let tickets: Vec<_> = ids.iter().map(|id| self.ask(Request::Join(join(id)))).collect();
        // A new group waits for more members until none came for a while.
        let mut now = NOW;
        while self.answers.len() < ids.len() {
            now.monotonic_ms = self.shard.deadline().expect("something is due");
            let decision = self.shard.tick(now);
            self.carry_out(decision);
        }
        let joined: Vec<_> = tickets.into_iter().map(|ticket| self.joined(ticket)).collect();
        let leaders_first = joined.iter().filter(|member| member.leader == member.member_id);
        let followers = joined.iter().filter(|member| member.leader != member.member_id);
        for member in leaders_first.chain(followers) {
            self.ask(Request::Sync(sync(member)));
        }
        self.answers.clear();
        joined
    }

    fn state(&self) -> Option<State> {
        self.shard.groups().next().map(|group| group.state)
    }
}

/// A consumer's subscription to one topic, version 1.
fn subscription() -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(1);
    out.put_i16(6);
    out.put_slice(b"orders");
    out.put_i32(-1);
    out.put_i32(0);
    out.freeze()
}

fn join(member_id: &str) -> JoinGroup {
    JoinGroup {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        group_instance_id: None,
        client: Client { id: "consumer-billing-1".into(), host: IpAddr::V4(Ipv4Addr::LOCALHOST) },
        needs_known_member_id: true,
        supports_skipping_assignment: true,
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription()), ("cooperative-sticky".into(), subscription())],
        reason: None,
    }
}

fn sync(joined: &JoinedGroup) -> SyncGroup {
    let assignment = |id: &Arc<str>| (id.clone(), Bytes::from_static(&[0; 32]));
    SyncGroup {
        group_id: GROUP.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        // Only the leader is told who is there.
        assignments: joined.members.iter().map(|member| assignment(&member.member_id)).collect(),
    }
}

fn commit(member: &JoinedGroup, partitions: i32) -> CommitOffsets {
    let topic: Arc<str> = "orders".into();
    let metadata: Arc<str> = "".into();
    let offset = |partition| OffsetToCommit {
        topic: topic.clone(),
        topic_id: TopicId::ZERO,
        partition,
        offset: 1000,
        leader_epoch: 0,
        metadata: metadata.clone(),
    };
    CommitOffsets {
        group_id: GROUP.into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        group_instance_id: None,
        retention_ms: None,
        offsets: (0..partitions).map(offset).collect(),
    }
}

pub(crate) fn all(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("group of 100");

    let (mut world, joined) = World::stable(MEMBERS);
    assert_eq!(world.state(), Some(State::Stable));
    let member = &joined[MEMBERS / 2];
    group.bench_function("heartbeat", |bencher| {
        bencher.iter(|| {
            let heartbeat = Heartbeat {
                group_id: GROUP.into(),
                generation_id: member.generation_id,
                member_id: member.member_id.clone(),
                group_instance_id: None,
            };
            let ticket = world.ask(Request::Heartbeat(heartbeat));
            assert!(matches!(world.answers.remove(&ticket), Some(Response::Heartbeat(Ok(())))));
        });
    });
    for partitions in [1, 100] {
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(format!("commit of {partitions} partitions"), |bencher| {
            bencher.iter(|| {
                let ticket = world.ask(Request::CommitOffsets(commit(member, partitions)));
                assert!(matches!(world.answers.remove(&ticket), Some(Response::CommitOffsets(Ok(_)))));
            });
        });
    }

    // Decisions change nothing, so the same one can be asked for again and again.
    group.throughput(Throughput::Elements(1));
    let (mut world, joined) = World::stable(MEMBERS - 1);
    let id = world.give_out_id();
    group.bench_function("join of the 100th: begins a rebalance", |bencher| {
        bencher.iter(|| world.shard.decide(Request::Join(join(&id)), Ticket(u64::MAX), NOW));
    });
    world.ask(Request::Join(join(&id)));
    joined[1..].iter().for_each(|member| _ = world.ask(Request::Join(join(&member.member_id))));
    assert_eq!(world.state(), Some(State::PreparingRebalance));
    let last = &joined[0].member_id;
    group.bench_function("join of the last: answers all", |bencher| {
        bencher.iter(|| {
            let decision = world.shard.decide(Request::Join(join(last)), Ticket(u64::MAX), NOW);
            assert_eq!(decision.answers.len(), MEMBERS);
            decision
        });
    });

    let (mut world, joined) = World::stable(MEMBERS);
    let leader = joined.iter().position(|member| member.leader == member.member_id).expect("one leads");
    let mut ids: Vec<_> = joined.iter().map(|member| member.member_id.clone()).collect();
    ids.swap(0, leader);
    group.throughput(Throughput::Elements(MEMBERS as u64));
    group.bench_function("a whole rebalance", |bencher| bencher.iter(|| world.rebalance(&ids)));
    assert_eq!(world.state(), Some(State::Stable));
}
