//! Whole brokers, from `Node::start` on, with clients of their own wire in one simulated world: one alone ([`run`]), and
//! several as a cluster ([`cluster`]). Kills, power cuts, cuts of the network and worse against what they promise ([`model`]).
//!
//! Each seed runs in a process of its own: the random numbers of the C library come from the seed there ([`entropy`]), and
//! what is counted per process (tokio's seeds, statics) begins at the beginning. docs/developing.md says how to run and
//! debug one.

#![allow(clippy::unwrap_used)]

mod clients;
mod cluster;
mod entropy;
mod harness;
mod model;
mod run;

use harness::Suite;
use raftsman::env::planted::Planted;

/// Seeds that `cargo test` runs; `./check` runs 200.
const SEEDS: u64 = 60;
/// The same of a cluster; `./check` runs 150.
const CLUSTER_SEEDS: u64 = 12;

const ONE_BROKER: Suite = Suite {
    test: "one_broker_keeps_its_promises",
    target: "--test simulation one_broker_keeps",
    run: run::run,
};

const CLUSTER: Suite = Suite {
    test: "a_cluster_keeps_its_promises",
    target: "--test simulation a_cluster_keeps",
    run: cluster::run,
};

#[test]
fn one_broker_keeps_its_promises() {
    ONE_BROKER.keeps_its_promises(SEEDS);
}

#[test]
fn a_cluster_keeps_its_promises() {
    CLUSTER.keeps_its_promises(CLUSTER_SEEDS);
}

#[test]
fn a_new_active_controller_makes_itself_heard_over_slow_links() {
    CLUSTER.scenario(cluster::slow_links, None).unwrap();
}

#[test]
fn a_leader_that_is_cut_off_tells_nothing_once_another_one_may_lead() {
    CLUSTER.scenario(cluster::cut_off_leader, None).unwrap();
    let caught = CLUSTER.scenario(cluster::cut_off_leader, Some(Planted::ServingOldLeaders)).unwrap_err();
    assert!(caught.contains("was known at"), "{caught}");
}

/// Without this no failure could be repeated.
#[test]
fn the_same_seed_is_the_same_run() {
    ONE_BROKER.is_the_same_for_the_same_seed(0..3);
    CLUSTER.is_the_same_for_the_same_seed(0..2);
}

/// The simulation is believed because it catches these.
#[test]
fn planted_bugs_are_caught() {
    ONE_BROKER.catches(&[
        Planted::SkippedSync,
        Planted::EarlyAcknowledgement,
        Planted::ForgottenProducers,
        Planted::LostCommits,
    ]);
}

/// The same of a cluster. `./check` runs it.
#[test]
#[ignore = "it takes a minute"]
fn bugs_planted_in_a_cluster_are_caught() {
    CLUSTER.catches(&[
        Planted::SkippedSync,
        Planted::AcknowledgementBeforeQuorum,
        Planted::TruncationToHighWatermark,
        Planted::ForgetfulFollowers,
        Planted::ElectionOutsideIsr,
    ]);
}
