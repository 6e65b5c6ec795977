//! The classic protocol, told by what its members ask and are answered.

use std::sync::Arc;

use bytes::Bytes;

use super::classic::State;
use super::harness::{Harness, client, config, join, sync};
use super::request::*;
use crate::coordinator::{Shard, Ticket};
use crate::env::Chance;
use crate::env::real::RealChance;
use crate::types::TopicId;

const GROUP: &str = "g";

fn joined(harness: &mut Harness, ticket: Ticket) -> JoinedGroup {
    match harness.take(ticket) {
        Some(Response::Join(Ok(joined))) => joined,
        other => panic!("a join is answered {other:?}"),
    }
}

fn refused(harness: &mut Harness, ticket: Ticket) -> RefusedJoin {
    match harness.take(ticket) {
        Some(Response::Join(Err(refused))) => refused,
        other => panic!("a join is answered {other:?}"),
    }
}

fn synced(harness: &mut Harness, ticket: Ticket) -> Result<Bytes, GroupError> {
    match harness.take(ticket) {
        Some(Response::Sync(synced)) => synced.map(|synced| synced.assignment),
        other => panic!("a sync is answered {other:?}"),
    }
}

fn member_id(harness: &mut Harness) -> Arc<str> {
    let ticket = harness.ask(Request::Join(join(GROUP, "")));
    let refused = refused(harness, ticket);
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    refused.member_id
}

fn static_join(instance: &str, member_id: &str) -> JoinGroup {
    JoinGroup { group_instance_id: Some(instance.into()), ..join(GROUP, member_id) }
}

/// A stable group of static members: their joins' answers, the leader first.
fn stable(harness: &mut Harness, instances: &[&str]) -> Vec<JoinedGroup> {
    let tickets: Vec<_> =
        instances.iter().map(|instance| harness.ask(Request::Join(static_join(instance, "")))).collect();
    harness.pass(6000);
    let mut all: Vec<_> = tickets.into_iter().map(|ticket| joined(harness, ticket)).collect();
    all.sort_by_key(|told| told.members.is_empty());
    let assignments: Vec<_> = all.iter().map(|told| (&told.member_id, "mine")).collect();
    for told in all.iter().rev() {
        let leads = !told.members.is_empty();
        harness.ask(Request::Sync(sync(GROUP, told, if leads { &assignments } else { &[] })));
    }
    assert_eq!(harness.state(GROUP), Some(State::Stable));
    all
}

fn heartbeat(harness: &mut Harness, told: &JoinedGroup) -> Result<(), GroupError> {
    let request = Heartbeat {
        group_id: GROUP.into(),
        generation_id: told.generation_id,
        member_id: told.member_id.clone(),
        group_instance_id: None,
    };
    match harness.answer(Request::Heartbeat(request)) {
        Response::Heartbeat(result) => result,
        other => panic!("a heartbeat is answered {other:?}"),
    }
}

fn commit(harness: &mut Harness, generation: i32, member_id: &str) -> Result<(), GroupError> {
    let is_new = harness.group(GROUP).is_none_or(|group| group.protocol_type.is_none());
    let offset = OffsetToCommit {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition: 0,
        offset: 7,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let request = CommitOffsets {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: member_id.into(),
        group_instance_id: None,
        retention_ms: None,
        offsets: vec![offset],
    };
    match harness.answer(Request::CommitOffsets(request)) {
        Response::CommitOffsets(result) => result.map(|committed| {
            assert_eq!(committed.results, [Ok(())]);
            assert_eq!(committed.is_reset, generation < 0 && !is_new);
        }),
        other => panic!("a commit is answered {other:?}"),
    }
}

#[test]
fn members_come_together_share_the_work_and_part() {
    let mut harness = Harness::new(config());
    // Each is told an id first, and all wait for the group's initial delay.
    let (one, two) = (member_id(&mut harness), member_id(&mut harness));
    let first = harness.ask(Request::Join(join(GROUP, &one)));
    harness.pass(2000);
    let second = harness.ask(Request::Join(join(GROUP, &two)));
    harness.pass(3999);
    assert_eq!(harness.waiting.len(), 2, "a newcomer makes the delay longer");
    harness.pass(1);
    let (first, second) = (joined(&mut harness, first), joined(&mut harness, second));
    assert_eq!((first.generation_id, &first.leader, first.members.len()), (1, &one, 2));
    assert_eq!((second.generation_id, &second.leader, second.members.len()), (1, &one, 0));

    // The follower waits for the leader's word; meanwhile nothing may be committed.
    let follower = harness.ask(Request::Sync(sync(GROUP, &second, &[])));
    assert_eq!(commit(&mut harness, 1, &one), Err(GroupError::RebalanceInProgress));
    let leader = harness.ask(Request::Sync(sync(GROUP, &first, &[(&one, "a"), (&two, "b")])));
    assert_eq!(synced(&mut harness, leader), Ok("a".into()));
    assert_eq!(synced(&mut harness, follower), Ok("b".into()));
    assert_eq!(commit(&mut harness, 1, &one), Ok(()));
    assert_eq!(commit(&mut harness, 0, &one), Err(GroupError::IllegalGeneration));
    assert_eq!(commit(&mut harness, 1, "stranger"), Err(GroupError::UnknownMemberId));
    assert_eq!(commit(&mut harness, -1, ""), Err(GroupError::UnknownMemberId));
    harness.check_replay();

    // A follower that joins as it was goes on; the leader calls for a rebalance.
    let again = harness.ask(Request::Join(join(GROUP, &two)));
    assert_eq!(joined(&mut harness, again).generation_id, 1);
    let again = harness.ask(Request::Join(join(GROUP, &one)));
    assert_eq!(heartbeat(&mut harness, &second), Err(GroupError::RebalanceInProgress));

    // The follower's session ends, so the leader goes on alone, and leaves.
    harness.pass(10_000);
    let alone = joined(&mut harness, again);
    assert_eq!((alone.generation_id, alone.members.len()), (2, 1));
    assert_eq!(heartbeat(&mut harness, &second), Err(GroupError::UnknownMemberId));
    let leaving = LeavingMember { member_id: one, group_instance_id: None, reason: None };
    harness.ask(Request::Leave(LeaveGroup {
        group_id: GROUP.into(),
        client: client("c"),
        members: vec![leaving],
    }));
    assert_eq!(harness.state(GROUP), Some(State::Empty));
    assert_eq!(commit(&mut harness, -1, ""), Ok(()));
    harness.check_replay();
}

#[test]
fn ids_that_are_not_used_are_waited_for_no_longer_than_a_session() {
    let mut harness = Harness::new(config());
    let told = stable(&mut harness, &["i"]);
    let _unused = member_id(&mut harness);
    let leader = harness.ask(Request::Join(static_join("i", &told[0].member_id)));
    harness.pass(9999);
    assert!(harness.take(leader).is_none(), "the id may still be used");
    harness.pass(1);
    assert_eq!(joined(&mut harness, leader).generation_id, 2);
}

#[test]
fn a_static_member_comes_back_into_a_stable_group_and_nobody_notices() {
    let mut harness = Harness::new(config());
    let told = stable(&mut harness, &["a", "b"]);
    let leader_instance = if told[0].member_id.starts_with('a') { "a" } else { "b" };
    let back = harness.ask(Request::Join(static_join(leader_instance, "")));
    let back = joined(&mut harness, back);
    assert_eq!((back.generation_id, back.skip_assignment, back.members.len()), (1, true, 2));
    assert_eq!(back.leader, back.member_id);
    harness.check_replay();
    let partitions = harness.ask(Request::Sync(sync(GROUP, &back, &[])));
    assert_eq!(synced(&mut harness, partitions), Ok("mine".into()));
    assert_eq!(heartbeat(&mut harness, &told[1]), Ok(()));

    // Who still uses the old id is fenced.
    let old = harness.ask(Request::Join(static_join(leader_instance, &told[0].member_id)));
    assert_eq!(refused(&mut harness, old).error, GroupError::FencedInstanceId);

    // A client that knows nothing of skipping does not take itself for the leader.
    let older = JoinGroup { supports_skipping_assignment: false, ..static_join(leader_instance, "") };
    let older = harness.ask(Request::Join(older));
    let older = joined(&mut harness, older);
    assert_eq!((older.skip_assignment, &older.leader, older.members.len()), (false, &back.member_id, 0));

    // When the new id cannot be written, it was never given.
    harness.appends_fail = true;
    let failed = harness.answer(Request::Join(static_join(leader_instance, "")));
    assert!(matches!(failed, Response::Failed(_)));
    harness.appends_fail = false;
    assert_eq!(heartbeat(&mut harness, &older), Ok(()));
}

#[test]
fn a_static_member_that_comes_back_while_the_group_joins_is_waited_for() {
    let mut harness = Harness::new(config());
    let told = stable(&mut harness, &["a", "b"]);
    // A new instance joins, its process starts again, and the others take longer than its session.
    let gone = harness.ask(Request::Join(static_join("c", "")));
    let back = harness.ask(Request::Join(static_join("c", "")));
    assert_eq!(refused(&mut harness, gone).error, GroupError::FencedInstanceId);
    for _ in 0..3 {
        harness.pass(6000);
        for told in &told {
            assert_eq!(heartbeat(&mut harness, told), Err(GroupError::RebalanceInProgress));
        }
    }
    assert!(harness.take(back).is_none(), "waiting for the others is no silence");
    for told in &told {
        let instance: String = told.member_id.chars().take(1).collect();
        harness.ask(Request::Join(static_join(&instance, &told.member_id)));
    }
    assert_eq!(joined(&mut harness, back).generation_id, 2);
}

#[test]
fn who_never_asks_for_its_partitions_is_removed_and_the_others_are_asked_again() {
    let mut harness = Harness::new(config());
    let (one, two) = (member_id(&mut harness), member_id(&mut harness));
    let first = harness.ask(Request::Join(join(GROUP, &one)));
    let second = harness.ask(Request::Join(join(GROUP, &two)));
    harness.pass(6000);
    let (leader, follower) = (joined(&mut harness, first), joined(&mut harness, second));
    // The leader sends heartbeats and nothing else.
    let waits = harness.ask(Request::Sync(sync(GROUP, &follower, &[])));
    for _ in 0..10 {
        assert_eq!(heartbeat(&mut harness, &leader), Ok(()));
        harness.pass(6000);
    }
    assert_eq!(synced(&mut harness, waits), Err(GroupError::RebalanceInProgress));
    assert_eq!(heartbeat(&mut harness, &leader), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut harness = Harness::new(super::config::GroupShardConfig { size_max: 2, ..config() });
    stable(&mut harness, &["a", "b"]);
    let third = harness.ask(Request::Join(static_join("c", "")));
    assert_eq!(refused(&mut harness, third).error, GroupError::GroupMaxSizeReached);
    assert_eq!(harness.state(GROUP), Some(State::Stable));
}

#[test]
fn a_coordinator_that_moved_goes_on_where_the_other_was() {
    let mut harness = Harness::new(config());
    let told = stable(&mut harness, &["a", "b"]);
    harness.crash();
    assert_eq!(harness.state(GROUP), Some(State::Stable));
    assert_eq!(heartbeat(&mut harness, &told[0]), Ok(()));
    harness.pass(10_000);
    // Sessions begin with the load; both are silent now.
    assert_eq!(harness.state(GROUP), Some(State::Empty));
    harness.check_replay();
}

#[test]
fn offsets_expire_in_batches_and_the_group_with_the_last() {
    let mut harness = Harness::new(config());
    let offsets = (0..2500).map(|partition| OffsetToCommit {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition,
        offset: 1,
        leader_epoch: -1,
        metadata: "".into(),
    });
    let request = CommitOffsets {
        group_id: GROUP.into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        offsets: offsets.collect(),
    };
    harness.answer(Request::CommitOffsets(request));
    harness.pass(harness.config.offsets_retention_ms - 1000);
    assert_eq!(harness.shard.offsets().count(), 2500);
    harness.pass(harness.config.retention_check_interval_ms);
    assert_eq!(harness.shard.offsets().count(), 0);
    assert!(harness.group(GROUP).is_none());
    assert_eq!(harness.log.len(), 2500 + 2500 + 1);
    harness.check_replay();
}

#[test]
fn the_longest_interval_between_looks_for_expired_offsets_is_no_moment_in_the_past() {
    let never = super::config::GroupShardConfig { retention_check_interval_ms: i64::MAX, ..config() };
    let mut harness = Harness::new(never);
    assert_eq!(commit(&mut harness, -1, ""), Ok(()));
    assert_eq!(harness.shard.deadline(), Some(i64::MAX));
}

#[test]
fn a_group_that_cannot_be_written_holds_up_no_other() {
    let mut harness = Harness::new(config());
    let join_as = |group: &str| JoinGroup { needs_known_member_id: false, ..join(group, "") };
    // Many groups whose only member falls silent, which has to be written, and one that goes on to its next
    // generation, which has not.
    for number in 0..100 {
        harness.ask(Request::Join(join_as(&format!("dies-{number}"))));
    }
    harness.pass(12_000);
    let ticket = harness.ask(Request::Join(join_as("lives")));
    harness.appends_fail = true;
    harness.pass(8000);
    assert_eq!(joined(&mut harness, ticket).generation_id, 1);
    assert_eq!(harness.state("dies-0"), Some(State::CompletingRebalance));
    // With room again, all is written.
    harness.appends_fail = false;
    harness.pass(600_000);
    assert!(harness.shard.groups().all(|group| group.state == State::Empty));
    harness.check_replay();
}

#[test]
fn a_group_of_absent_static_members_is_looked_at_now_and_then() {
    let mut harness = Harness::new(config());
    let patient = harness.ask(Request::Join(static_join("patient", "")));
    let hasty = |instance: &str| JoinGroup {
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: -5,
        ..static_join(instance, "")
    };
    let hasty = ["a", "b"].map(|instance| harness.ask(Request::Join(hasty(instance))));
    harness.pass(6000);
    for ticket in [patient].into_iter().chain(hasty) {
        let told = joined(&mut harness, ticket);
        harness.ask(Request::Sync(sync(GROUP, &told, &[])));
    }
    assert_eq!(harness.state(GROUP), Some(State::Stable));
    let leaving =
        LeavingMember { member_id: "".into(), group_instance_id: Some("patient".into()), reason: None };
    harness.ask(Request::Leave(LeaveGroup {
        group_id: GROUP.into(),
        client: client("c"),
        members: vec![leaving],
    }));
    // The harness counts the clock's turns.
    harness.pass(1_700_000);
    assert_eq!(harness.state(GROUP), Some(State::PreparingRebalance));
    harness.pass(100_000);
    assert_eq!(harness.state(GROUP), Some(State::Empty));
}

#[test]
fn members_with_many_protocols_are_compared_in_reasonable_time() {
    let mut harness = Harness::new(config());
    let named = |prefix: &str| -> Vec<(Arc<str>, Bytes)> {
        let names = (0..50_000).map(|number| (format!("{prefix}{number}").into(), Bytes::new()));
        names.chain([("both".into(), Bytes::new())]).collect()
    };
    let tickets = ["a", "b"].map(|instance| {
        let join = JoinGroup { protocols: named(instance), ..static_join(instance, "") };
        harness.ask(Request::Join(join))
    });
    harness.pass(6000);
    for ticket in tickets {
        assert_eq!(joined(&mut harness, ticket).protocol_name.as_deref(), Some("both"));
    }
}

/// Kafka counts such a member twice, and so takes what it alone knows for known to both, or to nobody.
#[test]
fn a_protocol_that_a_member_names_twice_counts_once_and_by_its_first_metadata() {
    let mut harness = Harness::new(config());
    let naming = |instance, names: &[&'static str]| {
        let metadata = (0_u8..).map(|number| Bytes::from(vec![number]));
        let protocols = names.iter().map(|name| Arc::from(*name)).zip(metadata).collect();
        Request::Join(JoinGroup { protocols, ..static_join(instance, "") })
    };
    let twice = harness.ask(naming("a", &["range", "range", "both", "both"]));
    harness.pass(6000);
    let alone = joined(&mut harness, twice);
    assert_eq!(alone.protocol_name.as_deref(), Some("range"));
    assert_eq!(alone.members[0].metadata, [0][..]);

    let stranger = harness.ask(naming("b", &["other", "other"]));
    assert_eq!(refused(&mut harness, stranger).error, GroupError::InconsistentGroupProtocol);

    let second = harness.ask(naming("b", &["both"]));
    let request = JoinGroup {
        protocols: ["range", "range", "both", "both"].map(|name| (name.into(), Bytes::from(name))).into(),
        ..static_join("a", &alone.member_id)
    };
    let first = harness.ask(Request::Join(request));
    let (first, second) = (joined(&mut harness, first), joined(&mut harness, second));
    assert_eq!(first.protocol_name, second.protocol_name);
    assert_eq!(first.protocol_name.as_deref(), Some("both"), "the other does not know range");
    harness.check_replay();
}

#[test]
fn a_commit_takes_no_more_memory_than_a_batch_may_hold() {
    let mut harness = Harness::new(config());
    // On the wire the group is named once, in the log with every partition.
    let group_id: GroupId = "g".repeat(32_000).into();
    let offset = OffsetToCommit {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition: 0,
        offset: 7,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let request = |count| CommitOffsets {
        group_id: group_id.clone(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        offsets: vec![offset.clone(); count],
    };
    let refused = harness.answer(Request::CommitOffsets(request(1_000_000)));
    assert!(matches!(refused, Response::CommitOffsets(Err(GroupError::InvalidCommitOffsetSize))));
    assert!(harness.log.is_empty() && harness.group(&group_id).is_none());
    let taken = harness.answer(Request::CommitOffsets(request(100)));
    assert!(matches!(taken, Response::CommitOffsets(Ok(taken)) if taken.results == [Ok(()); 100]));
}

/// The node dies between the deletion of a topic and the tombstones of what was committed for it.
#[test]
fn offsets_of_a_topic_that_was_made_anew_meanwhile_are_gone_after_a_crash() {
    let mut harness = Harness::new(config());
    let commit = |harness: &mut Harness, topic_id| {
        let offsets = [0, 1].map(|partition| OffsetToCommit {
            topic: "t".into(),
            topic_id,
            partition,
            offset: 7,
            leader_epoch: -1,
            metadata: "".into(),
        });
        let request = CommitOffsets {
            group_id: GROUP.into(),
            generation_id: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            offsets: offsets.into(),
        };
        match harness.answer(Request::CommitOffsets(request)) {
            Response::CommitOffsets(Ok(committed)) => {
                assert_eq!((committed.results, committed.is_reset), (vec![Ok(()), Ok(())], false));
            }
            other => panic!("a commit is answered {other:?}"),
        }
    };
    let (first, second) = (RealChance.topic_id(), RealChance.topic_id());
    harness.topics.lock().insert("t".into(), first);
    commit(&mut harness, first);
    harness.crash();
    harness.pass(1);
    assert_eq!((harness.shard.offsets().count(), harness.log.len()), (2, 2), "it is the same topic still");

    harness.topics.lock().insert("t".into(), second);
    harness.crash();
    assert_eq!(harness.shard.offsets().count(), 0, "before anybody can ask");
    // A tombstone that comes later leaves alone what is committed before it.
    harness.appends_fail = true;
    harness.pass(1);
    harness.appends_fail = false;
    commit(&mut harness, second);
    harness.pass(1);
    assert_eq!(harness.shard.offsets().count(), 2);
    harness.check_replay();

    harness.topics.lock().clear();
    harness.crash();
    harness.pass(1);
    assert!(harness.log.iter().rev().take(2).all(|record| record.value.is_none()));
    harness.check_replay();
    assert_eq!(harness.shard.deadline().filter(|deadline| *deadline <= harness.now_ms), None);
}
