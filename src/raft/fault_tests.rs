//! The quorum on disks that are full, read-only or broken, and on those that end at any moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openraft::storage::RaftLogStorage;
use openraft::{RaftLogReader, Snapshot};

use super::log_store::LogStore;
use super::planted::{Bug, plant};
use super::room::Room;
use super::snapshot::{Content, Meta, SnapshotStore, encode};
use super::test_cluster::{Inline, TestNetwork, config, partition, plug, topic};
use super::*;
use crate::env::sim::{Faults, SimDisk};
use crate::env::{Disk, OpenMode};
use crate::metadata::MetadataImage;
use crate::types::TopicId;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn delete(number: u128) -> Vec<MetadataRecord> {
    vec![MetadataRecord::RemoveTopic { id: TopicId(uuid::Uuid::from_u128(number)) }]
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// Leaves `free` bytes on the disk, beside what is set aside.
fn fill(disk: &SimDisk, free: u64) {
    let capacity_bytes = Some(disk.used_bytes() + free);
    disk.arm(Faults { capacity_bytes, ..disk.faults() });
}

fn has_snapshot(disk: &SimDisk) -> bool {
    disk.list(Path::new("/metadata")).unwrap().iter().any(|entry| entry.name.ends_with(".snapshot"))
}

#[test]
fn a_full_disk_refuses_growth_lets_topics_be_deleted_and_heals_by_itself() {
    fills_up_and_heals(false);
}

#[test]
fn a_quota_that_is_used_up_is_as_a_full_disk() {
    fills_up_and_heals(true);
}

fn fills_up_and_heals(is_quota: bool) {
    run(async {
        let disk = SimDisk::new(1);
        disk.arm(Faults { is_quota, ..Faults::default() });
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        for number in 1..=50 {
            quorum.propose(topic(number)).await.unwrap();
        }
        fill(&disk, 0);
        // A snapshot that falls due now waits, and nobody else does.
        quorum.inner.raft.trigger().snapshot().await.unwrap();
        until("the snapshot waits", || quorum.health().waits_for_room.is_some()).await;
        assert_eq!(quorum.health().blocked, None);
        // Topics are created until what is left is for those that matter more.
        let mut count = 50;
        let refused = loop {
            let records = (count + 1..=count + 100).flat_map(topic).collect();
            match quorum.propose(records).await {
                Ok(_) => count += 100,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, ProposeError::NoRoom(_)), "{refused:?}");
        for number in 1..=count {
            quorum.propose(delete(number)).await.unwrap();
        }
        assert_eq!(quorum.failure(), None);
        assert!(quorum.leader().is_some() && !has_snapshot(&disk));

        fill(&disk, 10_000_000);
        until("the snapshot is written", || has_snapshot(&disk)).await;
        assert_eq!(quorum.health().waits_for_room, None);
        quorum.propose(topic(1)).await.unwrap();

        // And started again on the full disk, it leads and deletes.
        fill(&disk, 0);
        quorum.shutdown().await;
        disk.kill();
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.propose(delete(1)).await.unwrap();
        assert_eq!(quorum.image().topic_count(), 0);
        quorum.shutdown().await;
    });
}

#[test]
fn a_read_only_disk_is_waited_out_and_nothing_is_lost() {
    run(async {
        let disk = SimDisk::new(2);
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.propose(topic(1)).await.unwrap();
        // Between the look at the disk and the write.
        let (taken, ()) = tokio::join!(quorum.propose(topic(2)), async {
            disk.arm(Faults { is_read_only: true, ..disk.faults() });
            until("the log waits", || quorum.health().waits_for_room.is_some()).await;
            assert!(quorum.health().blocked.is_some());
            assert_eq!(quorum.failure(), None);
            disk.arm(Faults::default());
        });
        taken.unwrap();
        assert_eq!(quorum.health().waits_for_room, None);
        assert_eq!(quorum.image().topic_count(), 2);
        // Once it is so, nothing begins to wait: it is refused, and has no effect later.
        disk.arm(Faults { is_read_only: true, ..disk.faults() });
        let refused = quorum.propose(topic(3)).await.unwrap_err();
        assert!(matches!(&refused, ProposeError::NoRoom(why) if why.contains("read-only")), "{refused}");
        assert_eq!(quorum.health().waits_for_room, None);
        assert!(quorum.health().blocked.is_some());
        disk.arm(Faults::default());
        quorum.propose(topic(4)).await.unwrap();
        assert_eq!((quorum.health().blocked, quorum.image().topic_count()), (None, 3));
        quorum.shutdown().await;
    });
}

#[test]
fn a_vote_waits_for_room() {
    run(async {
        let disk = SimDisk::new(3);
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.propose(topic(1)).await.unwrap();
        fill(&disk, 0);
        quorum.inner.raft.trigger().elect().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(quorum.failure(), None);
        fill(&disk, 10_000_000);
        until("it leads again", || quorum.health().is_leader && quorum.health().waits_for_room.is_none())
            .await;
        until("it decides", || quorum.inner.raft.metrics().borrow().vote.committed).await;
        quorum.propose(topic(2)).await.unwrap();
        quorum.shutdown().await;
    });
}

#[test]
fn a_failed_sync_ends_the_quorum_and_it_says_so() {
    run(async {
        let disk = SimDisk::new(4);
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        let basis = quorum.basis().await.unwrap();
        disk.arm(Faults { fail_sync_in: Some(1), ..Faults::default() });
        let outcome = quorum.propose_on(basis.fence, topic(1)).await;
        assert!(matches!(outcome, Err(ProposeError::Stopped(_))), "{outcome:?}");
        let why = quorum.failed().await;
        assert!(why.contains(".journal") && why.contains("sync"), "{why}");
        assert_eq!((quorum.leader(), quorum.health().failure), (None, Some(why.clone())));
        assert_eq!(quorum.basis().await.err(), Some(ProposeError::Stopped(why)));
        quorum.shutdown().await;
        // Closed in order from now on.
        assert_eq!(quorum.failure(), None);
    });
}

/// A follower that has a few entries, and a snapshot from its leader that reaches far beyond them.
async fn follower(disk: &SimDisk) -> (MetadataQuorum, Snapshot<Types>) {
    let (quorum, _) =
        MetadataQuorum::start(&config(disk, 1, 3), plug(&TestNetwork::default(), 1)).await.unwrap();
    let raft = &quorum.inner.raft;
    let leader = openraft::LeaderId::new(5, 2);
    let entries = (0..4).map(|index| Entry {
        log_id: LogId::new(leader, index),
        payload: match index {
            0 => openraft::EntryPayload::Membership(openraft::Membership::new(
                vec![[1, 2, 3].into()],
                [1, 2, 3]
                    .map(|id| (id, Member::default()))
                    .into_iter()
                    .collect::<std::collections::BTreeMap<_, _>>(),
            )),
            index => openraft::EntryPayload::Normal(RecordBatch {
                records: Arc::new(topic(u128::from(index))),
                fence: None,
            }),
        },
    });
    let vote = openraft::Vote::new_committed(5, 2);
    let request = openraft::raft::AppendEntriesRequest {
        vote,
        prev_log_id: None,
        entries: entries.collect(),
        leader_commit: Some(LogId::new(leader, 2)),
    };
    raft.append_entries(request).await.unwrap();
    let mut image = MetadataImage::default();
    (1..100).for_each(|number| image = image.with(&topic(number)).unwrap());
    let meta = Meta {
        last_log_id: Some(LogId::new(leader, 99)),
        last_membership: Default::default(),
        snapshot_id: "99".into(),
    };
    let content = Content { meta: meta.clone(), image, records_index: 99 };
    let received = raft.begin_receiving_snapshot().await.unwrap();
    received.file.write_all_at(&mut [std::io::IoSlice::new(&encode(&content).unwrap())], 0).unwrap();
    (quorum, Snapshot { meta, snapshot: received })
}

/// Ends a follower at the `dies_in`-th change of its disk while it installs a snapshot. Tells whether it then starts
/// again (or why not), and whether all was over before it came to that.
fn start_after_death(seed: u64, dies_in: u64) -> (Result<usize, String>, bool) {
    run(async {
        let disk = SimDisk::new(seed);
        let (quorum, snapshot) = follower(&disk).await;
        disk.arm(Faults { dies_in: Some(dies_in), ..Faults::default() });
        let vote = openraft::Vote::new_committed(5, 2);
        let outcome = quorum.inner.raft.install_full_snapshot(vote, snapshot).await;
        if outcome.is_ok() {
            until("the log is purged", || {
                quorum.inner.store.ends().0.is_some_and(|purged| purged.index == 99)
                    || quorum.failure().is_some()
            })
            .await;
            // Files go one after the other.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let survived = disk.faults().dies_in != Some(0);
        if seed.is_multiple_of(2) {
            disk.kill();
        } else {
            disk.power_cut();
        }
        quorum.shutdown().await;
        let started = MetadataQuorum::start(&config(&disk, 1, 3), plug(&TestNetwork::default(), 1)).await;
        let outcome = match started {
            Ok((quorum, _)) => {
                let (count, end) = (quorum.image().topic_count(), quorum.inner.store.ends().1);
                quorum.shutdown().await;
                match end {
                    Some(end) if end.index >= 3 => Ok(count),
                    end => Err(format!("its log ends at {end:?}")),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        (outcome, survived)
    })
}

/// As many seeds, or what the environment asks for.
fn seeds(count: u64) -> u64 {
    std::env::var("RAFTSMAN_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(count)
}

#[test]
fn a_follower_killed_at_any_change_of_its_disk_while_it_installs_a_snapshot_starts_again() {
    let mut moments = 0;
    for seed in 0..seeds(8) {
        for dies_in in 1.. {
            let (outcome, survived) = start_after_death(seed, dies_in);
            moments += 1;
            match outcome {
                // Entries 1 and 2 were committed, which a power cut forgets.
                Ok(count) => {
                    assert!(count <= 2 || count == 99, "seed {seed}, change {dies_in}: {count} topics")
                }
                Err(error) => panic!("seed {seed}, change {dies_in}: {error}"),
            }
            if survived {
                break;
            }
        }
    }
    println!("started again after {moments} deaths");
}

#[test]
fn a_log_that_is_purged_before_its_snapshot_is_there_is_noticed() {
    plant(Some(Bug::EarlyPurge));
    let found = (1..40).find(|dies_in| start_after_death(0, *dies_in).0.is_err());
    plant(None);
    println!("noticed at change {found:?}");
    assert!(found.is_some(), "the planted bug is not noticed");
}

fn entry(index: u64, bytes: usize) -> Entry {
    let name = "t".repeat(bytes);
    let records = vec![MetadataRecord::Topic { name, id: TopicId(uuid::Uuid::from_u128(u128::from(index))) }];
    let batch = RecordBatch { records: Arc::new(records), fence: None };
    Entry { log_id: LogId::new(LeaderId::new(1, 1), index), payload: openraft::EntryPayload::Normal(batch) }
}

#[test]
fn entries_for_followers_are_bounded_in_bytes_and_come_from_memory_or_the_disk() {
    run(async {
        let disk = SimDisk::new(7);
        let dir = PathBuf::from("/metadata");
        disk.create_dir_all(&dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let room = Arc::new(Room::default());
        let open = || LogStore::open(Arc::new(disk.clone()), Arc::new(Inline), &dir, room.clone(), None);
        let mut store = open().unwrap();
        store.save_vote(&openraft::Vote::new_committed(1, 1)).await.unwrap();
        let entries: Vec<Entry> = (0..40).map(|index| entry(index, 100_000)).collect();
        for entry in &entries {
            store.append_now(std::slice::from_ref(entry)).await.unwrap();
        }
        let reads = disk.counts().reads;
        // What was written last is in memory.
        assert_eq!(store.limited_get_log_entries(35, 40).await.unwrap(), entries[35..]);
        assert_eq!(disk.counts().reads, reads);
        // What was before is read, as much as one message takes, and once more from the disk alone.
        for mut store in [store, open().unwrap()] {
            assert_eq!(store.limited_get_log_entries(3, 40).await.unwrap(), entries[3..13]);
            assert_eq!(store.try_get_log_entries(3..40).await.unwrap(), entries[3..]);
            assert_eq!(store.limited_get_log_entries(39, 39).await.unwrap(), []);
        }
        // One that is larger than a message comes alone.
        let mut store = open().unwrap();
        let large = entry(40, 3_000_000);
        store.append_now(&[large.clone(), entry(41, 10)]).await.unwrap();
        assert_eq!(store.limited_get_log_entries(40, 42).await.unwrap(), [large]);
    });
}

/// Cuts the power after the log began another file. Gives what the log ends with then, beside what it ended with before.
fn end_after_power_cut(seed: u64) -> (Result<Option<u64>, String>, u64) {
    run(async {
        let disk = SimDisk::new(seed);
        let dir = PathBuf::from("/metadata");
        disk.create_dir_all(&dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let open = || {
            LogStore::open(Arc::new(disk.clone()), Arc::new(Inline), &dir, Arc::new(Room::default()), None)
        };
        let mut store = open().unwrap();
        store.save_vote(&openraft::Vote::new_committed(1, 1)).await.unwrap();
        let files = || disk.list(&dir).unwrap().iter().filter(|file| file.name.ends_with(".journal")).count();
        let mut index = 0;
        while files() < 2 {
            index += 1;
            store.append_now(&[entry(index - 1, 300_000)]).await.unwrap();
            // Not synced by itself.
            store.save_committed(Some(LogId::new(LeaderId::new(1, 1), index - 1))).await.unwrap();
        }
        disk.power_cut();
        let end = open().map(|store| store.ends().1.map(|id| id.index)).map_err(|error| error.to_string());
        (end, index - 1)
    })
}

#[test]
fn a_power_cut_after_the_log_began_another_file_costs_nothing() {
    for seed in 0..seeds(20) {
        let (end, last) = end_after_power_cut(seed);
        assert_eq!(end, Ok(Some(last)), "seed {seed}");
    }
    plant(Some(Bug::UnsyncedFile));
    let found = (0..200).find(|seed| end_after_power_cut(*seed).0.is_err());
    plant(None);
    println!("a torn file was noticed after {found:?} schedules");
    assert!(found.is_some(), "the planted bug is not noticed");
}

#[test]
#[expect(clippy::await_holding_lock, reason = "stands for a write that is under way on another thread")]
fn a_follower_need_not_wait_while_the_log_is_synced() {
    run(async {
        let disk = SimDisk::new(8);
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.propose(topic(1)).await.unwrap();
        let mut store = quorum.inner.store.clone();
        let _syncing = quorum.inner.store.lock_journal();
        assert!(!store.limited_get_log_entries(0, 2).await.unwrap().is_empty());
        assert!(quorum.health().journal_bytes > 0);
    });
}

#[test]
fn a_snapshot_that_is_being_sent_may_be_replaced_meanwhile() {
    let disk = SimDisk::new(9);
    disk.create_dir_all(Path::new("/metadata")).unwrap();
    let store = SnapshotStore::new(Arc::new(disk.clone()), Arc::new(Inline), "/metadata".into());
    let content = |index| {
        let last_log_id = Some(LogId::new(LeaderId::new(1, 1), index));
        let meta = Meta { last_log_id, last_membership: Default::default(), snapshot_id: index.to_string() };
        Content { meta, image: MetadataImage::default(), records_index: index }
    };
    let save = |content: &Content| store.save(&content.meta, &encode(content).unwrap()).unwrap();
    let first = save(&content(1));
    save(&content(2));
    assert!(!disk.exists(&first.path));
    assert_eq!(first.read().unwrap(), encode(&content(1)).unwrap());
    // Two that are received at a time do not share a file.
    assert_ne!(store.receive().unwrap().path, store.receive().unwrap().path);
    store.clean().unwrap();
    assert_eq!(disk.list(Path::new("/metadata")).unwrap().len(), 1);
}

#[test]
fn a_folder_of_another_cluster_and_one_of_a_newer_version_are_refused() {
    run(async {
        let disk = SimDisk::new(10);
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.shutdown().await;
        let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
        quorum.belongs_to("the-cluster", Path::new("/metadata")).unwrap();
        let error = quorum.belongs_to("another", Path::new("/metadata")).unwrap_err().to_string();
        assert!(
            error.contains("/metadata") && error.contains("the-cluster") && error.contains("another"),
            "{error}"
        );

        let newer = MetadataRecord::FeatureLevel {
            name: crate::metadata::METADATA_VERSION_FEATURE.into(),
            level: METADATA_VERSION + 1,
        };
        assert!(matches!(quorum.propose(vec![newer]).await, Err(ProposeError::Stopped(_))));
        assert!(quorum.failed().await.contains("version"));
        quorum.shutdown().await;
        let error = MetadataQuorum::open(config(&disk, 1, 1)).await.err().unwrap().to_string();
        assert!(error.contains("version 2"), "{error}");
    });
}

/// `tests/fixtures/metadata-0.1.0` was written by version 0.1.0: a snapshot up to entry 9 and a log from entry 0 on.
#[test]
fn a_folder_of_version_0_1_0_opens_and_goes_on() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metadata-0.1.0");
    run(async {
        for without_snapshot in [false, true] {
            let disk = SimDisk::new(11);
            disk.create_dir_all(Path::new("/metadata")).unwrap();
            for entry in std::fs::read_dir(&fixture).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if without_snapshot && name.ends_with(".snapshot") {
                    continue;
                }
                let file = disk.open(&Path::new("/metadata").join(name), OpenMode::Create).unwrap();
                let content = std::fs::read(entry.path()).unwrap();
                file.write_all_at(&mut [std::io::IoSlice::new(&content)], 0).unwrap();
            }
            let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
            let image = quorum.image();
            image.check().unwrap();
            let names: Vec<_> = image.topics().map(|topic| topic.name.to_string()).collect();
            assert_eq!(names, ["topic-1", "topic-3"]);
            let first = image.topic("topic-1").unwrap();
            let epochs: Vec<_> = first.partitions.iter().map(|partition| partition.leader_epoch.0).collect();
            assert_eq!(epochs, [1, 0]);
            assert_eq!(first.configs.get("retention.ms").map(String::as_str), Some("1000"));
            assert!(image.topic("topic-3").unwrap().configs.is_empty());
            assert_eq!((image.next_producer_id().0, image.broker_epoch()), (2000, 2));
            assert_eq!(image.features().get("eligible.leader.replicas.version"), Some(&1));
            assert_eq!(image.metadata_version(), METADATA_VERSION);
            quorum.propose(topic(9)).await.unwrap();
            let image = quorum.image();
            quorum.shutdown().await;
            let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
            assert_eq!(quorum.image(), image);
            quorum.shutdown().await;
        }
    });
}

#[test]
fn a_journal_on_a_full_disk_never_loses_its_place() {
    // Every size of a disk, from one that holds nothing more to one that holds all.
    for free in (0..400_000).step_by(60_000) {
        run(async {
            let disk = SimDisk::new(free);
            let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
            fill(&disk, free);
            let mut taken = Vec::new();
            for number in 1..=60u128 {
                let mut records = topic(number);
                records.extend((0..100).map(|index| partition(number, index)));
                match quorum.propose(records).await {
                    Ok(_) => taken.push(number),
                    Err(ProposeError::NoRoom(_)) => break,
                    Err(error) => panic!("{free}: {error}"),
                }
            }
            for number in &taken {
                quorum.propose(delete(*number)).await.unwrap();
            }
            quorum.shutdown().await;
            disk.kill();
            let quorum = MetadataQuorum::open(config(&disk, 1, 1)).await.unwrap();
            assert_eq!(quorum.image().topic_count(), 0);
            quorum.shutdown().await;
        });
    }
}
