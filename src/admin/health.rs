//! Whether this node lives and serves, and the metadata quorum's numbers.
//!
//! Ready (`/readyz`) is a node that can do what clients ask of it: somebody decides about the metadata, what has to be
//! written can be, and the partitions that are here have their logs. Alive (`/healthz`) is one that a restart would not
//! make better.

use std::fmt::Write;

use crate::server::Broker;

/// Why this node does not serve as it should; empty when it does.
pub async fn not_ready(broker: &Broker) -> Vec<String> {
    broker.quorum.look_again().await;
    let mut reasons = not_alive(broker);
    let health = broker.quorum.health();
    if reasons.is_empty() && health.leader_id.is_none() {
        reasons.push("the metadata quorum has no leader".to_owned());
    }
    reasons.extend(health.blocked);
    let topics = broker.partitions.topics();
    let failed =
        topics.iter().flat_map(|topic| topic.partitions()).filter(|partition| partition.log.is_failed());
    let offline = broker.partitions.offline().len() + failed.count();
    if offline > 0 {
        reasons.push(format!("{offline} partitions are offline here; the broker's log says why"));
    }
    let dir = broker.config.storage.log_dir().display();
    match broker.partitions.data.space() {
        Ok(space) if space.is_read_only => {
            reasons.push(format!("the file system of the data folder {dir} is read-only"));
        }
        Ok(_) => {}
        Err(error) => {
            reasons.push(format!("the file system of the data folder {dir} does not answer: {error}"))
        }
    }
    reasons
}

/// Why a restart would make this node better; empty when it would not.
pub(super) fn not_alive(broker: &Broker) -> Vec<String> {
    let failure = broker.quorum.failure();
    failure.into_iter().map(|why| format!("the metadata quorum has ended on this node: {why}")).collect()
}

/// The quorum's metrics in Prometheus' text format.
pub(super) fn quorum_metrics(broker: &Broker) -> String {
    let health = broker.quorum.health();
    let flag = i64::from;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut gauges = vec![
        (
            "raftsman_quorum_running",
            "1 while the metadata quorum runs on this node.",
            flag(health.failure.is_none()),
        ),
        ("raftsman_quorum_is_leader", "1 on the active controller.", flag(health.is_leader)),
        (
            "raftsman_quorum_leader_id",
            "Node that leads the metadata quorum; -1 for none.",
            health.leader_id.map_or(-1, |id| i64::from(id.0)),
        ),
        ("raftsman_quorum_term", "Term of the metadata quorum.", number(health.term)),
        (
            "raftsman_quorum_last_index",
            "Index of the last entry in this node's metadata log; -1 for none.",
            health.last_index,
        ),
        (
            "raftsman_quorum_applied_index",
            "Index of the last entry of the metadata log that is in effect on this node; -1 for none.",
            health.applied_index,
        ),
        (
            "raftsman_quorum_journal_bytes",
            "Bytes of this node's metadata log on the disk.",
            number(health.journal_bytes),
        ),
        (
            "raftsman_quorum_waits_for_disk",
            "1 while something of the metadata waits for the disk to take it.",
            flag(health.waits_for_room.is_some()),
        ),
    ];
    if let Some(ms) = health.ms_since_quorum_ack {
        let help = "On the active controller: milliseconds since a majority of the quorum last answered it.";
        gauges.push(("raftsman_quorum_ack_age_ms", help, number(ms)));
    }
    let mut out = String::new();
    for (name, help, value) in gauges {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    out
}
