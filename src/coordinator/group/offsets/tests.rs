use super::*;
use crate::coordinator::group::records::{self, GroupRecord};
use crate::coordinator::group::request::{GroupError, OffsetToCommit};
use crate::env::Chance;
use crate::env::real::RealChance;
use crate::types::TopicId;

const AT: Now = Now { wall_ms: 1_000_000, monotonic_ms: 5 };
const DAY_MS: i64 = 86_400_000;

fn later(ms: i64) -> Now {
    Now { wall_ms: AT.wall_ms + ms, ..AT }
}

fn follow(offsets: &mut CommittedOffsets, records: &[CoordinatorRecord]) {
    for record in records {
        match records::parse(record).expect("our own") {
            GroupRecord::Offset { key, topic_id, value } => offsets.replay(&key, topic_id, value),
            other => panic!("{other:?}"),
        }
    }
}

/// Topics whose ids nobody asks for.
fn none() -> TopicIds {
    TopicIds::new(|_| None)
}

/// Topic, partition and offset.
type Committed<'a> = [(&'a str, i32, i64)];

fn request(group: &str, offsets: &Committed) -> CommitOffsets {
    let offsets = offsets.iter().map(|(topic, partition, offset)| OffsetToCommit {
        topic: (*topic).into(),
        topic_id: TopicId::ZERO,
        partition: *partition,
        offset: *offset,
        leader_epoch: 3,
        metadata: "note".into(),
    });
    CommitOffsets {
        group_id: group.into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        offsets: offsets.collect(),
    }
}

fn committed(groups: &[(&str, &Committed)]) -> CommittedOffsets {
    let mut offsets = CommittedOffsets::default();
    for (group, committed) in groups {
        let (records, answers) = offsets.commit(&request(group, committed), &none(), 4096, AT).unwrap();
        assert!(answers.iter().all(Result::is_ok));
        follow(&mut offsets, &records);
    }
    offsets
}

/// Topic, partition and offset of what is fetched.
fn fetched(
    offsets: &CommittedOffsets,
    group: &str,
    asked: Option<&[(&str, i32)]>,
) -> Vec<(String, i32, i64)> {
    let partitions = asked.map(|asked| asked.iter().map(|(topic, at)| (Arc::from(*topic), *at)).collect());
    let request = FetchOffsets { group_id: group.into(), partitions };
    let fetched = offsets.fetch(&request).into_iter();
    fetched.map(|each| (each.topic.to_string(), each.partition, each.offset)).collect()
}

#[test]
fn the_last_commit_is_fetched_and_nothing_is_minus_one() {
    let mut offsets = committed(&[("g", &[("b", 1, 10), ("a", 0, 20), ("b", 0, 30)]), ("h", &[("b", 1, 7)])]);
    let (records, _) = offsets.commit(&request("g", &[("b", 1, 11)]), &none(), 4096, AT).unwrap();
    assert_eq!(fetched(&offsets, "g", Some(&[("b", 1)])), [("b".into(), 1, 10)], "not yet replayed");
    follow(&mut offsets, &records);
    let all = [("a".into(), 0, 20), ("b".into(), 0, 30), ("b".into(), 1, 11)];
    assert_eq!(fetched(&offsets, "g", None), all);
    let asked = [("b", 1), ("c", 0), ("b", 9), ("a", 0)];
    let answered = [("b".into(), 1, 11), ("c".into(), 0, -1), ("b".into(), 9, -1), ("a".into(), 0, 20)];
    assert_eq!(fetched(&offsets, "g", Some(&asked)), answered);
    assert_eq!(fetched(&offsets, "nobody", Some(&[("b", 1)])), [("b".into(), 1, -1)]);
    assert_eq!(fetched(&offsets, "nobody", None), []);
    assert_eq!((offsets.count(), offsets.count_of("g"), offsets.count_of("h")), (4, 3, 1));
}

#[test]
fn metadata_that_is_too_large_fails_its_partition_alone() {
    let offsets = CommittedOffsets::default();
    let mut asked = request("g", &[("a", 0, 1), ("a", 1, 2), ("a", 2, 3)]);
    asked.offsets[1].metadata = "12345".into();
    let (records, answers) = offsets.commit(&asked, &none(), 4, AT).unwrap();
    assert_eq!(answers, [Ok(()), Err(GroupError::OffsetMetadataTooLarge), Ok(())]);
    assert_eq!(records.len(), 2);
}

#[test]
fn what_is_gone_is_gone_by_group_by_topic_and_by_partition() {
    let mut offsets = committed(&[("g", &[("a", 0, 1), ("a", 1, 2), ("b", 0, 3)]), ("h", &[("a", 0, 4)])]);
    let asked = |partitions: &[(&str, i32)]| DeleteOffsets {
        group_id: "g".into(),
        partitions: partitions.iter().map(|(topic, at)| (Arc::from(*topic), *at)).collect(),
    };
    let (records, answers) = offsets.delete(&asked(&[("a", 1), ("b", 0), ("a", 7)]), |topic| topic == "b");
    assert_eq!(answers, [Ok(true), Err(GroupError::GroupSubscribedToTopic), Ok(false)]);
    assert_eq!(records.len(), 1, "nothing is written for what is not committed");
    follow(&mut offsets, &records);
    assert_eq!(fetched(&offsets, "g", None), [("a".into(), 0, 1), ("b".into(), 0, 3)]);

    let gone = offsets.tombstones_of_topics(&["a", "never"].map(|name| (name.into(), RealChance.topic_id())));
    follow(&mut offsets, &gone);
    assert_eq!(fetched(&offsets, "g", None), [("b".into(), 0, 3)]);
    assert!(!offsets.has_group("h"));

    let gone = offsets.tombstones_of_group(&"g".into());
    follow(&mut offsets, &gone);
    assert_eq!((offsets.count(), offsets.all().count()), (0, 0));
    follow(&mut offsets, &gone);
    assert_eq!(offsets.count(), 0, "a tombstone again changes nothing");
}

#[test]
fn offsets_expire_from_the_time_that_counts() {
    let mut offsets = committed(&[("g", &[("a", 0, 1), ("b", 0, 2)])]);
    let mut own_time = request("g", &[("c", 0, 3)]);
    own_time.retention_ms = Some(1_000);
    let (records, _) = offsets.commit(&own_time, &none(), 4096, AT).unwrap();
    follow(&mut offsets, &records);
    let expired = |ages_from, subscribed: &str, now| {
        let records = offsets.expired(&"g".into(), ages_from, |topic| topic == subscribed, DAY_MS, now);
        let topics = records.iter().map(|record| match records::parse(record).expect("our own") {
            GroupRecord::Offset { key, value: None, .. } => key.topic.to_string(),
            other => panic!("{other:?}"),
        });
        topics.collect::<Vec<_>>().concat()
    };
    assert_eq!(expired(AgesFrom::Commit, "", later(999)), "");
    // An end of its own comes whenever the group may expire anything at all.
    assert_eq!(expired(AgesFrom::Commit, "", later(1_000)), "c");
    assert_eq!(expired(AgesFrom::Empty(AT.wall_ms + 500), "", later(1_000)), "c");
    assert_eq!(expired(AgesFrom::Commit, "c", later(1_000)), "");
    assert_eq!(expired(AgesFrom::Commit, "a", later(DAY_MS)), "bc");
    // The group became empty half a second after the commit.
    assert_eq!(expired(AgesFrom::Empty(AT.wall_ms + 500), "", later(DAY_MS)), "c");
    assert_eq!(expired(AgesFrom::Empty(AT.wall_ms + 500), "", later(DAY_MS + 500)), "abc");
    // A clock set back, or forward to the end of time, makes nothing go wrong.
    assert_eq!(expired(AgesFrom::Commit, "", later(-2 * DAY_MS)), "");
    assert_eq!(expired(AgesFrom::Empty(i64::MIN), "", Now { wall_ms: i64::MAX, ..AT }), "abc");
}

/// Topic `t` with the first id, made anew with the second.
#[test]
fn a_topic_made_anew_has_nothing_committed() {
    let (first, second) = (RealChance.topic_id(), RealChance.topic_id());
    let is = |id| TopicIds::new(move |name| Some(id).filter(|_| name == "t"));
    let with_id = |topic_id, committed: &Committed| {
        let mut request = request("g", committed);
        request.offsets.iter_mut().for_each(|offset| offset.topic_id = topic_id);
        request
    };
    let mut offsets = committed(&[("g", &[("without id", 0, 1)])]);
    let commit = |offsets: &mut CommittedOffsets, topic_id, current, committed: &Committed| {
        let (records, answers) =
            offsets.commit(&with_id(topic_id, committed), &is(current), 4096, AT).unwrap();
        follow(offsets, &records);
        (records, answers)
    };
    let (early, _) = commit(&mut offsets, first, first, &[("t", 0, 10), ("t", 1, 11)]);

    // The deletion is told late: what is committed for the new topic stays, and drops the rest.
    let (records, _) = commit(&mut offsets, second, second, &[("t", 1, 3)]);
    let without_id = ("without id".to_string(), 0, 1);
    assert_eq!(fetched(&offsets, "g", None), [("t".into(), 1, 3), without_id.clone()]);
    assert_eq!((records.len(), offsets.count()), (3, 2), "both of the earlier topic have tombstones");
    assert!(offsets.tombstones_of_topics(&[("t".into(), first)]).is_empty());
    // A commit for the earlier topic is late too.
    let (_, answers) = commit(&mut offsets, first, second, &[("t", 1, 12)]);
    assert_eq!(answers, [Err(GroupError::UnknownTopicOrPartition)]);

    // Loaded when the tombstones were not written: records of the earlier topic alone, or of both.
    for later in [&[][..], &records[2..]] {
        let mut loaded = committed(&[("g", &[("without id", 0, 1)])]);
        follow(&mut loaded, &early);
        follow(&mut loaded, later);
        let outdated = loaded.remove_outdated(&is(second)).len();
        assert_eq!((loaded.count(), outdated), if later.is_empty() { (1, 2) } else { (2, 0) });
        assert_eq!(fetched(&loaded, "g", Some(&[("t", 0)])), [("t".into(), 0, -1)]);
        assert_eq!(fetched(&loaded, "g", Some(&[("without id", 0)])), std::slice::from_ref(&without_id));
    }
}
