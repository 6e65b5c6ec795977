use std::path::Path;
use std::time::Instant;

use openraft::testing::{StoreBuilder, Suite};
use uuid::Uuid;

use super::log_store::LogStore;
use super::room::Room;
use super::snapshot::SnapshotStore;
use super::state_machine::{Shared, StateMachine};
use super::test_cluster::{partition, topic};
use super::*;
use crate::env::real::{BlockingThreads, RealChance, RealDisk, SystemClock};
use crate::types::{NodeId, TopicId};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let (disk, blocking) = (Arc::new(RealDisk), Arc::new(BlockingThreads));
        let room = Arc::new(Room::default());
        // openraft's suite purges without any snapshot.
        let store = LogStore::open(disk.clone(), blocking.clone(), dir.path(), room.clone(), None).unwrap();
        let snapshots = SnapshotStore::new(disk, blocking, dir.path().to_owned());
        let machine = StateMachine::open(snapshots, Arc::new(Shared::default()), room).unwrap();
        Ok((dir, store, machine))
    }
}

#[test]
fn the_stores_pass_openrafts_suite() {
    Suite::test_all(Builder).unwrap();
}

fn config(dir: &Path) -> QuorumConfig {
    QuorumConfig {
        dir: dir.join("metadata"),
        node_id: NodeId(1),
        cluster_id: Some("the-cluster".into()),
        directory_id: uuid::Uuid::from_u128(1),
        voters: [(NodeId(1), Member::default())].into(),
        first_records: Vec::new(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        chance: Arc::new(RealChance),
        blocking: Arc::new(BlockingThreads),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_proposed_is_there_again_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    println!("first open: {:?}", started.elapsed());
    let mut subscription = quorum.subscribe();
    for number in 1..=20 {
        let index = quorum.propose(topic(number)).await.unwrap();
        assert!(quorum.wait_applied(index).await);
    }
    assert_eq!(quorum.image().topic_count(), 20);
    let published = subscription.next().await.unwrap();
    assert_eq!(published.delta.topics_changed.len(), 20);
    let status = quorum.status();
    assert_eq!((status.leader_id, status.voters.len()), (Some(NodeId(1)), 1));
    assert_eq!(status.high_watermark, status.voters[0].log_end_offset);
    let refused = quorum.propose(topic(1)).await;
    assert!(matches!(refused, Err(ProposeError::Refused(_))), "{refused:?}");
    let image = quorum.image();
    quorum.shutdown().await;
    drop(quorum);
    let started = Instant::now();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    println!("second open: {:?}", started.elapsed());
    assert_eq!(quorum.image(), image);
    assert_eq!(image.cluster_id().map(|id| &**id), Some("the-cluster"));
    quorum.propose(topic(21)).await.unwrap();
    quorum.shutdown().await;
}

/// The only file of a small log.
const LOG_FILE: &str = "metadata/00000000000000000000.journal";

/// Set in the child process of the crash tests: the folder to work in.
const CHILD_DIR: &str = "RAFTSMAN_TEST_QUORUM_DIR";

/// Not a test by itself: what the crash tests kill. It proposes topics from the count there are on, and
/// tells of each after it was acknowledged, with the length that the database file then had.
#[test]
#[ignore = "run by the crash tests as a child process"]
fn child_that_proposes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let quorum = MetadataQuorum::open(config(dir)).await.unwrap();
        for number in quorum.image().topic_count() as u128 + 1.. {
            quorum.propose(topic(number)).await.unwrap();
            let len = std::fs::metadata(dir.join(LOG_FILE)).unwrap().len();
            println!("\nacknowledged {number} {len}");
        }
    });
}

/// Runs the child until it has acknowledged `count` more proposals, then kills it as `kill -9` does.
/// Answers with what it said: numbers of topics and lengths of the file.
fn run_and_kill(dir: &Path, count: usize) -> Vec<(usize, u64)> {
    use std::io::BufRead;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "raft::tests::child_that_proposes_until_it_is_killed"])
        .env(CHILD_DIR, dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line.unwrap();
        let Some(rest) = line.strip_prefix("acknowledged ") else { continue };
        let (number, len) = rest.split_once(' ').unwrap();
        said.push((number.parse().unwrap(), len.parse().unwrap()));
        if said.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said.len() >= count, "the child ended by itself");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let said = run_and_kill(dir.path(), 5 + round * 20);
        let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
        let (count, last) = (quorum.image().topic_count(), said.last().unwrap().0);
        assert!(count == last || count == last + 1, "{count} topics after {last} were acknowledged");
        assert_eq!(quorum.image().cluster_id().map(|id| &**id), Some("the-cluster"));
        quorum.shutdown().await;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a power cut may do to the bytes behind the last sync: they are not there, or zeros, or the file
/// ends in the middle of a write. Bytes before the sync are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_costs_nothing_that_was_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let said = run_and_kill(dir.path(), 30);
    let whole = std::fs::read(dir.path().join(LOG_FILE)).unwrap();
    for (at, (number, len)) in said.iter().enumerate().step_by(5) {
        let next = said.get(at + 1).map_or(whole.len() as u64, |(_, len)| *len);
        // The frame that tells of the commit is not synced.
        for cut in [*len - 17, *len - 5, *len, *len + 1, (*len + next) / 2, next - 18] {
            for zeros in [false, true] {
                let torn = tempfile::tempdir().unwrap();
                copy_dir(dir.path(), torn.path());
                let mut content = whole[..cut as usize].to_vec();
                if zeros {
                    content.resize(whole.len(), 0);
                }
                std::fs::write(torn.path().join(LOG_FILE), content).unwrap();
                let quorum = MetadataQuorum::open(config(torn.path())).await.unwrap();
                let count = quorum.image().topic_count();
                assert!(
                    count == *number || count == *number + 1,
                    "{count} topics, cut at {cut} after {number}"
                );
                quorum.propose(topic(1000)).await.unwrap();
                quorum.shutdown().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_replace_the_log_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    // As many records as one snapshot is worth, then some more.
    let id = |number| TopicId(Uuid::from_u128(number));
    for first in [0, 6000, 12_000] {
        let records = (first + 1..=first + 6000u128)
            .map(|number| MetadataRecord::Topic { name: format!("t{number}"), id: id(number) })
            .collect();
        quorum.propose(records).await.unwrap();
    }
    let folder = dir.path().join("metadata");
    let snapshots = || {
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
            .collect();
        names.sort();
        names
    };
    // It is taken behind the back of who proposes.
    while snapshots().is_empty() {
        tokio::task::yield_now().await;
    }
    quorum.propose(vec![MetadataRecord::RemoveTopic { id: id(1) }]).await.unwrap();
    let image = quorum.image();
    quorum.shutdown().await;
    drop(quorum);
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    assert_eq!(quorum.image(), image);
    quorum.shutdown().await;
    drop(quorum);

    let path = snapshots().pop().unwrap();
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&path, content).unwrap();
    let error = MetadataQuorum::open(config(dir.path())).await.err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("checksum"), "{error}");
}

/// A damaged byte, of log or vote, leads to an error that names the file, or does no harm; it never leads
/// to other metadata.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_byte_never_changes_the_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    for number in 1..=8 {
        quorum.propose(topic(number)).await.unwrap();
    }
    let image = quorum.image();
    quorum.shutdown().await;
    drop(quorum);
    for (name, errors_min) in [(LOG_FILE, 30), ("metadata/vote", 40)] {
        let whole = std::fs::read(dir.path().join(name)).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let mut errors = 0;
        for at in (0..=used).step_by((used / 40).max(1)) {
            let damaged = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), damaged.path());
            let mut content = whole.clone();
            content[at] ^= 0x55;
            std::fs::write(damaged.path().join(name), content).unwrap();
            match MetadataQuorum::open(config(damaged.path())).await {
                Ok(quorum) => {
                    assert_eq!(quorum.image(), image, "byte {at} of {used} of {name}");
                    quorum.shutdown().await;
                }
                Err(e) => {
                    assert!(e.to_string().contains(name), "{e}");
                    errors += 1;
                }
            }
        }
        assert!(errors >= errors_min, "{errors} errors for {name}");
    }
}

/// Prints what opening, proposing and idling cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn measures() {
    let dir = tempfile::tempdir().unwrap();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    println!("before: {}", resident());
    let started = Instant::now();
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    println!("first open: {:?}; {}", started.elapsed(), resident());
    let started = Instant::now();
    for number in 1..=500 {
        let mut records = topic(number);
        records.extend((0..3).map(|index| partition(number, index)));
        quorum.propose(records).await.unwrap();
    }
    println!("500 proposals: {:?} each; {}", started.elapsed() / 500, resident());
    quorum.shutdown().await;
    drop(quorum);
    for _ in 0..3 {
        let started = Instant::now();
        let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
        println!("open with 500 topics: {:?}; {}", started.elapsed(), resident());
        quorum.shutdown().await;
    }
    let quorum = MetadataQuorum::open(config(dir.path())).await.unwrap();
    // By thread, as some end meanwhile.
    let cpu = || -> std::collections::HashMap<_, u64> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let nanoseconds = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name(), stat.split(' ').next()?.parse().ok()?))
        };
        tasks.filter_map(nanoseconds).collect()
    };
    let before = cpu();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let spent: u64 = cpu().iter().filter_map(|(thread, now)| Some(now - before.get(thread)?)).sum();
    println!("idle for 10 s: {} µs of CPU in {} threads", spent / 1000, before.len());
    quorum.shutdown().await;
}
