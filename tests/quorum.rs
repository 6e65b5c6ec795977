//! Metadata quorums over real sockets, several in this process, each on a runtime of its own: what is dropped with it is
//! gone as a process is that was killed.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use raftsman::client::peers::Peers;
use raftsman::env::{ListenOptions, Surroundings, Tasks, real};
use raftsman::metadata::MetadataRecord;
use raftsman::raft::{Endpoint, Formation, Member, MetadataQuorum, QuorumConfig, Reach};
use raftsman::server::controller_listener;
use raftsman::types::{NodeId, TopicId};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use support::cluster::free_port;
use support::until;

struct Running {
    quorum: MetadataQuorum,
    runtime: Runtime,
}

struct Place {
    dir: TempDir,
    directory_id: Uuid,
    port: u16,
    running: Option<Running>,
}

struct Cluster {
    places: BTreeMap<i32, Place>,
    voters: Vec<i32>,
    /// Those without a listener for controllers.
    brokers: Vec<i32>,
}

impl Cluster {
    /// Nobody runs yet. Nodes beyond `voters` join as nodes without a vote.
    fn new(voters: i32, others: i32) -> Self {
        let place = |id: i32| Place {
            dir: tempfile::tempdir().unwrap(),
            directory_id: Uuid::from_u128(id as u128),
            port: free_port(),
            running: None,
        };
        let places = (1..=voters + others).map(|id| (id, place(id))).collect();
        Self { places, voters: (1..=voters).collect(), brokers: Vec::new() }
    }

    fn config(&self, id: i32, cluster_id: Option<&str>) -> QuorumConfig {
        let Surroundings { clock, disk, chance, blocking, .. } = real::surroundings();
        let place = &self.places[&id];
        QuorumConfig {
            dir: place.dir.path().join("metadata"),
            node_id: NodeId(id),
            cluster_id: cluster_id.map(str::to_owned),
            directory_id: place.directory_id,
            voters: BTreeMap::new(),
            first_records: Vec::new(),
            disk,
            clock,
            chance,
            blocking,
        }
    }

    /// Starts a node, and does not wait for what it waits for.
    fn start(&mut self, id: i32, cluster_id: Option<&str>) {
        let config = self.config(id, cluster_id);
        let surroundings = real::surroundings();
        let peers = Peers::new(NodeId(id), &surroundings);
        let address = |id: i32| format!("127.0.0.1:{}", self.places[&id].port);
        let is_voter = self.voters.contains(&id);
        let formation = match is_voter {
            true => Formation::Voters(self.voters.iter().map(|id| (*id as u64, Member::default())).collect()),
            false => Formation::Joins,
        };
        let port = self.places[&id].port;
        let reach = Reach {
            peers: peers.clone(),
            network: surroundings.network.clone(),
            endpoints: match self.brokers.contains(&id) {
                true => vec![],
                false => vec![Endpoint { name: "CONTROLLER".into(), host: "127.0.0.1".into(), port }],
            },
            bootstrap_servers: match is_voter {
                true => vec![],
                false => self.voters.iter().map(|id| address(*id)).collect(),
            },
            joins_by_itself: false,
            listener_name: "CONTROLLER".into(),
        };
        if is_voter {
            let others = self.voters.iter().filter(|other| **other != id);
            peers.set_controllers(others.map(|id| (NodeId(*id), address(*id))));
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let quorum = runtime.block_on(async {
            let quorum = MetadataQuorum::open_with_others(&config, reach, formation).await.unwrap();
            let acceptor =
                surroundings.network.bind("127.0.0.1", port, ListenOptions::default()).await.unwrap();
            let (sender, front) = tokio::sync::watch::channel(None);
            let tasks = Tasks::new();
            let accepting = controller_listener::accept(quorum.clone(), front, acceptor, 0, tasks.clone());
            tokio::spawn(async move {
                let _sender = sender;
                accepting.await;
            });
            quorum
        });
        let joining = quorum.clone();
        runtime.spawn(async move { joining.join_others(&config, &CancellationToken::new()).await });
        self.places.get_mut(&id).unwrap().running = Some(Running { quorum, runtime });
    }

    fn start_all(&mut self) {
        for id in self.places.keys().copied().collect::<Vec<_>>() {
            self.start(id, None);
        }
    }

    fn kill(&mut self, id: i32) {
        let running = self.places.get_mut(&id).unwrap().running.take().unwrap();
        running.runtime.shutdown_background();
    }

    fn quorum(&self, id: i32) -> &MetadataQuorum {
        &self.places[&id].running.as_ref().unwrap().quorum
    }

    fn running(&self) -> impl Iterator<Item = (i32, &Running)> {
        self.places.iter().filter_map(|(id, place)| Some((*id, place.running.as_ref()?)))
    }

    /// The node that can decide, once there is one.
    fn leader(&self) -> i32 {
        until("a leader", || {
            let mut leading = self.running().filter(|(_, running)| {
                running.quorum.image().cluster_id().is_some()
                    && running.runtime.block_on(running.quorum.basis()).is_ok()
            });
            leading.next().map(|(id, _)| id)
        })
    }

    fn propose(&self, id: i32, number: u128) -> Result<u64, raftsman::raft::ProposeError> {
        let name = format!("topic-{number}");
        let topic = MetadataRecord::Topic { name, id: TopicId(Uuid::from_u128(number)) };
        let running = self.places[&id].running.as_ref().unwrap();
        running.runtime.block_on(running.quorum.propose(vec![topic]))
    }

    /// Has a topic made by whoever leads, be it another one meanwhile.
    fn have_decided(&self, number: u128) {
        until(&format!("topic {number} to be made"), || match self.propose(self.leader(), number) {
            // It may have been made by an attempt whose outcome was not known.
            Ok(_) | Err(raftsman::raft::ProposeError::Refused(_)) => Some(()),
            Err(_) => None,
        });
    }

    /// Waits until all that run have this topic.
    fn wait_everywhere(&self, number: u128) {
        let id = TopicId(Uuid::from_u128(number));
        for (node, running) in self.running() {
            until(&format!("topic {number} on node {node}"), || {
                running.quorum.image().topic_by_id(id).is_some().then_some(())
            });
        }
    }
}

#[test]
fn three_voters_form_a_cluster_and_go_on_without_their_leader() {
    let mut cluster = Cluster::new(3, 0);
    cluster.start(2, None);
    cluster.start(3, None);
    let leader = cluster.leader();
    assert_ne!(leader, 1);
    cluster.propose(leader, 1).unwrap();
    // The third one comes late, and a cluster id of its own it gets none.
    cluster.start(1, None);
    cluster.wait_everywhere(1);
    let ids: Vec<_> = cluster.running().map(|(_, one)| one.quorum.image().cluster_id().cloned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_some()), "{ids:?}");
    // The leader notes everybody's folder.
    until("the folders in the membership", || {
        let status = cluster.quorum(cluster.leader()).status();
        status.voters.iter().all(|voter| voter.directory_id.is_some()).then_some(())
    });
    for number in 2..5 {
        let leader = cluster.leader();
        cluster.kill(leader);
        let started = Instant::now();
        let next = cluster.leader();
        println!("a new leader after {:?}", started.elapsed());
        assert_ne!(next, leader);
        cluster.propose(next, number).unwrap();
        cluster.start(leader, None);
        cluster.wait_everywhere(number);
    }
}

#[test]
fn a_voter_whose_folder_was_made_anew_is_neither_heard_nor_counted() {
    let mut cluster = Cluster::new(3, 0);
    cluster.start_all();
    let leader = cluster.leader();
    until("the folders in the membership", || {
        let status = cluster.quorum(cluster.leader()).status();
        status.voters.iter().all(|voter| voter.directory_id.is_some()).then_some(())
    });
    cluster.propose(leader, 1).unwrap();
    let (wiped, other) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    cluster.kill(wiped);
    let place = cluster.places.get_mut(&wiped).unwrap();
    place.dir = tempfile::tempdir().unwrap();
    place.directory_id = Uuid::from_u128(77);
    cluster.start(wiped, None);
    // It has one voter beside it that may not lead without another, and gives it no vote.
    cluster.kill(other);
    until("the leader to notice", || {
        let running = cluster.places[&leader].running.as_ref().unwrap();
        running.runtime.block_on(running.quorum.basis()).is_err().then_some(())
    });
    assert!(cluster.quorum(wiped).image().cluster_id().is_none(), "it was sent nothing");
    cluster.start(other, None);
    let leader = cluster.leader();
    assert_ne!(leader, wiped);
    cluster.propose(leader, 2).unwrap();
}

#[test]
fn nodes_of_another_cluster_are_refused() {
    let mut cluster = Cluster::new(3, 0);
    cluster.start(1, Some("one"));
    cluster.start(2, Some("one"));
    cluster.start(3, Some("other"));
    let leader = cluster.leader();
    cluster.propose(leader, 1).unwrap();
    assert!(leader != 3 && cluster.quorum(3).image().cluster_id().is_none());
    assert_eq!(cluster.quorum(leader).image().cluster_id().map(|id| id.to_string()), Some("one".into()));
}

#[test]
fn a_node_without_a_vote_is_taken_in_follows_and_may_lose_its_folder() {
    let mut cluster = Cluster::new(1, 1);
    cluster.start(2, None);
    cluster.start(1, None);
    let leader = cluster.leader();
    assert_eq!(leader, 1);
    for number in 0..40 {
        cluster.propose(1, number).unwrap();
    }
    cluster.wait_everywhere(39);
    let running = cluster.places[&1].running.as_ref().unwrap();
    running.runtime.block_on(running.quorum.snapshot()).unwrap();
    let status = cluster.quorum(1).status();
    assert_eq!((status.voters.len(), status.observers.len()), (1, 1));
    cluster.kill(2);
    let place = cluster.places.get_mut(&2).unwrap();
    place.dir = tempfile::tempdir().unwrap();
    place.directory_id = Uuid::from_u128(78);
    cluster.start(2, None);
    cluster.propose(1, 40).unwrap();
    cluster.wait_everywhere(40);
    assert_eq!(cluster.quorum(1).status().observers[0].directory_id, Some(Uuid::from_u128(78)));
}

#[test]
fn a_leader_that_hears_of_nobody_decides_nothing() {
    let mut cluster = Cluster::new(3, 0);
    cluster.start_all();
    let leader = cluster.leader();
    for other in (1..=3).filter(|id| *id != leader) {
        cluster.kill(other);
    }
    let started = Instant::now();
    until("the leader to notice", || {
        let running = cluster.places[&leader].running.as_ref().unwrap();
        running.runtime.block_on(running.quorum.basis()).is_err().then_some(())
    });
    println!("noticed after {:?}", started.elapsed());
}

#[test]
fn a_node_without_a_listener_takes_snapshots_and_entries_from_whoever_leads() {
    let mut cluster = Cluster::new(3, 1);
    cluster.brokers = vec![4];
    (1..=3).for_each(|id| cluster.start(id, None));
    let proposed: u128 = 200;
    for number in 0..proposed {
        cluster.have_decided(number);
    }
    let leader = cluster.leader();
    // What it lacks is in a snapshot only.
    for (_, running) in cluster.running() {
        running.runtime.block_on(running.quorum.snapshot()).unwrap();
    }
    let has_snapshot = |cluster: &Cluster, id: i32| {
        let files = std::fs::read_dir(cluster.places[&id].dir.path().join("metadata")).unwrap();
        files.flatten().any(|file| file.path().extension().is_some_and(|end| end == "snapshot"))
    };
    until("the snapshots", || (1..=3).all(|id| has_snapshot(&cluster, id)).then_some(()));
    cluster.start(4, None);
    cluster.wait_everywhere(proposed - 1);
    assert!(has_snapshot(&cluster, 4), "entries alone would not do");
    let status = cluster.quorum(leader).status();
    assert_eq!(status.observers.iter().map(|it| it.id).collect::<Vec<_>>(), [NodeId(4)]);
    assert!(status.observers[0].endpoints.is_empty());
    cluster.have_decided(proposed);
    cluster.wait_everywhere(proposed);
    cluster.kill(leader);
    cluster.have_decided(proposed + 1);
    cluster.wait_everywhere(proposed + 1);
    // It was away for a while, as a process that was killed.
    cluster.kill(4);
    cluster.have_decided(proposed + 2);
    cluster.start(4, None);
    cluster.start(leader, None);
    cluster.wait_everywhere(proposed + 2);
}
