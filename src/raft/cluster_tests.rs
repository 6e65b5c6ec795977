//! What several nodes must hold to: on all of them the same records take effect, and no decision on a state
//! that is no more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::planted::{Bug, plant};
use super::test_cluster::{Cluster, topic};
use super::*;
use crate::env::sim::SimRandom;
use crate::types::{NodeId, ProducerId};

/// Runs a test in virtual time on this thread.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// As [`run`], with a bug planted.
fn run_with<T>(bug: Bug, test: impl Future<Output = T>) -> T {
    plant(Some(bug));
    let outcome = run(test);
    plant(None);
    outcome
}

#[test]
fn three_nodes_agree_and_go_on_without_their_leader() {
    run(async {
        let mut cluster = Cluster::start(3, 1).await;
        let first = cluster.leader().await;
        cluster.running[&first].propose(topic(1)).await.unwrap();
        cluster.kill(first, true).await;
        let second = cluster.leader().await;
        assert_ne!(first, second);
        cluster.running[&second].propose(topic(2)).await.unwrap();
        cluster.start_node(first).await;
        for image in cluster.settle().await {
            assert_eq!(image.topic_count(), 2);
            assert_eq!(image.metadata_version(), METADATA_VERSION);
        }
        cluster.stop().await;
    });
}

/// A leader decides, loses its place, another one decides otherwise, the first leads again, and only then proposes
/// what it had decided. Tells whether that took effect.
async fn a_stale_decision_takes_effect() -> bool {
    let cluster = Cluster::start(3, 2).await;
    cluster.elect(1).await;
    let stale = cluster.running[&1].basis().await.unwrap();
    cluster.cut(&[1]);
    cluster.elect(2).await;
    cluster.running[&2].propose(topic(2)).await.unwrap();
    cluster.cut(&[]);
    cluster.settle().await;
    cluster.elect(1).await;
    let outcome = cluster.running[&1].propose_on(stale.fence, topic(1)).await;
    let images = cluster.settle().await;
    let counts: BTreeSet<_> = images.iter().map(|image| image.topic_count()).collect();
    assert_eq!(counts.len(), 1, "the nodes differ");
    let took_effect = counts != BTreeSet::from([1]);
    assert_eq!(outcome.is_ok(), took_effect, "{outcome:?}");
    assert!(took_effect || outcome == Err(ProposeError::Stale), "{outcome:?}");
    cluster.stop().await;
    took_effect
}

#[test]
fn a_decision_of_an_earlier_leadership_takes_no_effect_anywhere() {
    assert!(!run(a_stale_decision_takes_effect()));
    assert!(run_with(Bug::NoFence, a_stale_decision_takes_effect()), "the planted bug is not noticed");
}

/// A leader loses power after something was acknowledged, and leads again at once, without an election; it is asked at
/// the first moment at which it decides. Tells whether it decides on an image that has what was acknowledged.
async fn a_leader_knows_all_after_a_restart(seed: u64) -> bool {
    let mut cluster = Cluster::start(3, seed).await;
    cluster.elect(1).await;
    cluster.running[&1].propose(topic(1)).await.unwrap();
    cluster.kill(1, true).await;
    cluster.start_node(1).await;
    let knows = loop {
        if let Ok(basis) = cluster.running[&1].basis().await {
            break basis.image.topic_count() == 1;
        }
        if cluster.running[&1].leader().is_some_and(|leader| leader != NodeId(1)) {
            // It was too slow; nothing is learned of this one.
            break true;
        }
        tokio::task::yield_now().await;
    };
    cluster.stop().await;
    knows
}

#[test]
fn a_leader_decides_only_once_it_knows_all_that_was_decided() {
    assert!((0..4).all(|seed| run(a_leader_knows_all_after_a_restart(seed))));
    let found = (0..200).find(|seed| !run_with(Bug::NoBarrier, a_leader_knows_all_after_a_restart(*seed)));
    println!("a leader without a barrier was noticed after {found:?} schedules");
    assert!(found.is_some(), "the planted bug is not noticed");
}

/// Nodes that lose their leadership at random ask for blocks of producer ids; each decides on what it holds for
/// true and proposes late. Gives the first block that two of them got.
async fn a_block_is_given_twice(seed: u64) -> Option<ProducerId> {
    let mut random = SimRandom::new(seed);
    let mut cluster = Cluster::start(3, seed).await;
    let mut given = BTreeSet::new();
    let mut decided: Vec<(i32, Basis)> = Vec::new();
    let mut twice = None;
    for _ in 0..30 {
        let id = 1 + random.below(3) as i32;
        match random.below(8) {
            0 => cluster.cut(&[id]),
            1 => cluster.cut(&[]),
            2 if cluster.running.len() == 3 => {
                cluster.kill(id, random.one_in(2)).await;
                cluster.start_node(id).await;
                decided.retain(|(decider, _)| *decider != id);
            }
            3 => _ = cluster.running[&id].inner.raft.trigger().elect().await,
            4 | 5 => decided.extend(cluster.running[&id].basis().await.ok().map(|basis| (id, basis))),
            _ if !decided.is_empty() => {
                let (id, basis) = decided.swap_remove(random.index(decided.len()));
                let first = basis.image.next_producer_id();
                let next_producer_id = ProducerId(first.0 + 1000);
                let record =
                    MetadataRecord::ProducerIds { broker_id: NodeId(id), broker_epoch: 1, next_producer_id };
                let proposal = cluster.running[&id].propose_on(basis.fence, vec![record]);
                let is_given = tokio::time::timeout(Duration::from_secs(5), proposal).await;
                if matches!(is_given, Ok(Ok(_))) && !given.insert(first) {
                    twice = Some(first);
                    break;
                }
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.below(2000))).await;
    }
    cluster.cut(&[]);
    let images = cluster.settle().await;
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: the nodes differ");
    let last = images[0].next_producer_id();
    assert!(given.iter().all(|first| *first < last), "seed {seed}: a block was given and forgotten");
    cluster.stop().await;
    twice
}

#[test]
fn a_block_of_producer_ids_is_never_given_twice() {
    for seed in 0..10 {
        assert_eq!(run(a_block_is_given_twice(seed)), None, "seed {seed}");
    }
}

/// Metadata version 0 has no fence; the image itself refuses what would give ids away twice. With neither it happens.
#[test]
fn the_schedules_find_blocks_that_are_given_twice() {
    let found = (0..200).find(|seed| run_with(Bug::SameProducerIds, a_block_is_given_twice(*seed)).is_some());
    println!("a block was given twice after {found:?} schedules");
    assert!(found.is_some(), "the planted bug is not noticed");
}

#[test]
fn without_a_majority_a_proposal_does_not_end_and_its_outcome_is_told_later() {
    run(async {
        let cluster = Cluster::start(3, 5).await;
        cluster.elect(1).await;
        let basis = cluster.running[&1].basis().await.unwrap();
        cluster.cut(&[1]);
        let quorum = cluster.running[&1].clone();
        let proposal = tokio::spawn(async move { quorum.propose_on(basis.fence, topic(1)).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!proposal.is_finished());
        // A leader that hears of no majority decides nothing.
        assert_eq!(cluster.running[&1].basis().await.err(), Some(ProposeError::NotLeader(None)));
        cluster.elect(2).await;
        cluster.running[&2].propose(topic(2)).await.unwrap();
        cluster.cut(&[]);
        // Its entry was taken back: it is known that it took no effect.
        assert_eq!(proposal.await.unwrap().err(), Some(ProposeError::NotLeader(Some(NodeId(2)))));
        for image in cluster.settle().await {
            assert_eq!(image.topic_count(), 1);
        }
        cluster.stop().await;
    });
}

/// openraft forgets those who wait for an entry that a snapshot replaces.
#[test]
fn a_proposal_of_a_leader_that_was_overtaken_by_a_snapshot_ends() {
    run(async {
        let cluster = Cluster::start(3, 6).await;
        cluster.elect(1).await;
        let basis = cluster.running[&1].basis().await.unwrap();
        cluster.cut(&[1]);
        let quorum = cluster.running[&1].clone();
        let proposal = tokio::spawn(async move { quorum.propose_on(basis.fence, topic(1)).await });
        cluster.elect(2).await;
        for number in 2..300 {
            cluster.running[&2].propose(topic(number)).await.unwrap();
        }
        cluster.running[&2].snapshot().await.unwrap();
        let purged = || cluster.running[&2].inner.store.ends().0.map_or(0, |id| id.index);
        while purged() < cluster.running[&1].last_index() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.cut(&[]);
        let outcome = proposal.await.unwrap().unwrap_err();
        assert!(matches!(outcome, ProposeError::OutcomeUnknown | ProposeError::NotLeader(_)), "{outcome}");
        for image in cluster.settle().await {
            assert_eq!(image.topic_count(), 298);
            assert!(image.topic("topic-1").is_none());
        }
        cluster.stop().await;
    });
}
