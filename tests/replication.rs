//! Three broker processes: what they acknowledged is on all of them, whoever is killed.

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, GroupId, MetadataResponse, OffsetCommitRequest,
    OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Client, batch, topic_name, until};
use tempfile::TempDir;

const TOPIC: &str = "replicated";
const NODES: i32 = 3;

struct Cluster {
    folders: BTreeMap<i32, TempDir>,
    /// Ports for clients and for controllers.
    ports: BTreeMap<i32, (u16, u16)>,
    running: BTreeMap<i32, Broker>,
}

/// Ports that were free just now, each another one.
fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("binds")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}

impl Cluster {
    fn start() -> Self {
        let nodes = 1..=NODES;
        let folders = nodes.clone().map(|id| (id, tempfile::tempdir().expect("a folder"))).collect();
        let free = free_ports(2 * nodes.clone().count());
        let ports = nodes.clone().zip(free.chunks(2).map(|pair| (pair[0], pair[1]))).collect();
        let mut cluster = Self { folders, ports, running: BTreeMap::new() };
        let started: Vec<(i32, Broker)> = std::thread::scope(|scope| {
            let starting: Vec<_> = nodes
                .map(|id| {
                    (
                        id,
                        scope.spawn({
                            let cluster = &cluster;
                            move || cluster.start_node(id)
                        }),
                    )
                })
                .collect();
            starting.into_iter().map(|(id, node)| (id, node.join().expect("it starts"))).collect()
        });
        cluster.running = started.into_iter().collect();
        cluster
    }

    fn start_node(&self, id: i32) -> Broker {
        let voters = self.ports.iter().map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}"));
        let voters = voters.collect::<Vec<_>>().join(",");
        let (port, controller_port) = self.ports[&id];
        let folder: &Path = self.folders[&id].path();
        let values = [
            format!("node.id={id}"),
            format!("log.dirs={}", folder.display()),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            format!("controller.quorum.voters={voters}"),
            "raftsman.admin.listener=127.0.0.1:0".to_owned(),
            "replica.lag.time.max.ms=2000".to_owned(),
            "min.insync.replicas=2".to_owned(),
        ];
        let arguments: Vec<&str> = values.iter().flat_map(|value| ["--override", value.as_str()]).collect();
        Broker::run(folder, &arguments)
    }

    fn client(&self) -> Client {
        self.running.values().find_map(|node| Client::connect(node.address).ok()).expect("somebody runs")
    }

    fn metadata(&self) -> MetadataResponse {
        self.client().metadata(&[TOPIC])
    }

    /// The leader of the only partition, and how many are in sync.
    fn leader(&self) -> Option<(i32, usize)> {
        let metadata = self.metadata();
        let partition = metadata.topics.first()?.partitions.first()?;
        let leader = partition.leader_id.0;
        self.running.contains_key(&leader).then_some((leader, partition.isr_nodes.len()))
    }

    fn kill(&mut self, id: i32) {
        self.running.remove(&id).expect("it runs").kill();
    }
}

/// Produces one record after the other, until each is acknowledged by all; a repetition is none.
struct Producer {
    id: i64,
    client: Option<(i32, Client)>,
    acknowledged: Vec<(i64, Bytes)>,
}

impl Producer {
    fn produce(&mut self, cluster: &Cluster) {
        let sequence = i32::try_from(self.acknowledged.len()).expect("few");
        let value = Bytes::from(format!("record {sequence}"));
        let records = batch(&[&value], Some((self.id, 0, sequence)));
        let offset = until("a record is acknowledged", || {
            if self.client.is_none() {
                let (leader, _) = cluster.leader()?;
                self.client = Some((leader, Client::connect(cluster.running[&leader].address).ok()?));
            }
            let (_, client) = self.client.as_mut()?;
            match client.produce(TOPIC, 0, -1, records.clone()) {
                Ok((0, offset)) => Some(offset),
                Ok(_) | Err(_) => {
                    self.client = None;
                    None
                }
            }
        });
        self.acknowledged.push((offset, value));
    }
}

const GROUP: &str = "a-group";

fn group_id() -> GroupId {
    GroupId(StrBytes::from_static_str(GROUP))
}

/// Asks the coordinator of the group, once there is one that answers.
fn coordinator<T>(
    cluster: &Cluster,
    what: &str,
    ask: impl Fn(&mut Client) -> std::io::Result<Option<T>>,
) -> T {
    until(what, || {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str(GROUP));
        let found = cluster.client().call(&request, 3).ok().filter(|found| found.error_code == 0)?;
        let node = cluster.running.get(&found.node_id.0)?;
        ask(&mut Client::connect(node.address).ok()?).ok()?
    })
}

fn commit(cluster: &Cluster, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    coordinator(cluster, "an offset is committed", |client| {
        let response = client.call(&request, 8)?;
        Ok((response.topics[0].partitions[0].error_code == 0).then_some(()))
    });
}

fn committed(cluster: &Cluster) -> i64 {
    let topic =
        OffsetFetchRequestTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id()).with_topics(Some(vec![topic]));
    coordinator(cluster, "what is committed is told", |client| {
        let response = client.call(&request, 7)?;
        // Nothing is told while the coordinator loads.
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let partition = partition.filter(|partition| response.error_code == 0 && partition.error_code == 0);
        Ok(partition.map(|partition| partition.committed_offset))
    })
}

/// All segments of the partition, one behind the other.
fn log_bytes(folder: &Path) -> Vec<u8> {
    let folder = folder.join(format!("{TOPIC}-0"));
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the partition's folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files.iter().flat_map(|path| std::fs::read(path).expect("readable")).collect()
}

#[test]
fn what_three_brokers_acknowledged_is_on_all_of_them_though_leaders_are_killed() {
    let mut cluster = Cluster::start();
    until("all brokers are there", || (cluster.metadata().brokers.len() == 3).then_some(()));
    let small = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("segment.bytes"))
        .with_value(Some(StrBytes::from_static_str("1048576")));
    let topic = CreatableTopic::default()
        .with_name(topic_name(TOPIC))
        .with_num_partitions(1)
        .with_replication_factor(3)
        .with_configs(vec![small]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    until("the topic is created", || {
        let response = cluster.client().call(&request, 7).ok()?;
        // TOPIC_ALREADY_EXISTS: the answer was lost.
        matches!(response.topics[0].error_code, 0 | 36).then_some(())
    });
    let id = until("a producer id", || std::panic::catch_unwind(|| cluster.client().producer_id()).ok());
    let mut producer = Producer { id, client: None, acknowledged: Vec::new() };
    for round in 0..3 {
        for _ in 0..30 {
            producer.produce(&cluster);
        }
        commit(&cluster, 30 + round);
        let (leader, _) = until("there is a leader", || cluster.leader());
        cluster.kill(leader);
        assert_eq!(committed(&cluster), 30 + round, "a group goes on with what it has committed");
        for _ in 0..30 {
            producer.produce(&cluster);
        }
        let node = cluster.start_node(leader);
        cluster.running.insert(leader, node);
        until("all are in sync again", || cluster.leader().filter(|(_, in_sync)| *in_sync == 3));
    }
    // What was acknowledged is there, once, where it was said to be.
    let (leader, _) = until("there is a leader", || cluster.leader());
    let read = Client::connect(cluster.running[&leader].address).expect("it runs").read_all(TOPIC, 0);
    assert_eq!(read, producer.acknowledged);
    for (_, node) in std::mem::take(&mut cluster.running) {
        node.stop();
    }
    let logs: Vec<Vec<u8>> = cluster.folders.values().map(|folder| log_bytes(folder.path())).collect();
    assert!(!logs[0].is_empty() && logs.iter().all(|log| *log == logs[0]), "the replicas differ");
}
