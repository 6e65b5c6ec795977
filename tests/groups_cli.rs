//! `raftsman groups` and `raftsman consume --group`, as processes against a broker process.
//!
//! With `GROUPS_CLI_BOOTSTRAP=host:port` they run against the cluster there, which may be Apache Kafka's
//! (with `group.min.session.timeout.ms=1000`): the command line is worth something only when both do alike.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raftsman::cli::time::format_iso;
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};
use serde_json::Value;
use support::{Broker, Client, PATIENCE, now_ms};

const RAFTSMAN: &str = env!("CARGO_BIN_EXE_raftsman");

/// A broker of this test, or the cluster that the environment names.
struct Cluster {
    address: SocketAddr,
    // Dropped in this order: the process ends before its folder goes.
    _broker: Option<Broker>,
    _folder: tempfile::TempDir,
}

/// What a command came to.
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Cluster {
    fn start() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        if let Ok(address) = std::env::var("GROUPS_CLI_BOOTSTRAP") {
            return Cluster { address: address.parse().unwrap(), _broker: None, _folder: folder };
        }
        let overrides = [
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            "offsets.topic.num.partitions=2",
        ];
        let broker = Broker::start(folder.path(), &overrides);
        Cluster { address: broker.address, _broker: Some(broker), _folder: folder }
    }

    /// A topic of this test alone: other tests may share the cluster.
    fn topic(&self, partitions: i32) -> String {
        let name = format!("groups-cli-{}", uuid::Uuid::new_v4());
        let mut client = Client::connect(self.address).unwrap();
        client.create_topic(&name, partitions, &[("retention.ms", "-1")]);
        let deadline = Instant::now() + PATIENCE;
        // Kafka creates a topic before it is known everywhere.
        while client.metadata(&[&name]).topics[0].partitions.iter().any(|it| it.leader_id.0 < 0)
            || client.metadata(&[&name]).topics[0].partitions.len() != partitions as usize
        {
            assert!(Instant::now() < deadline, "the topic does not come to be");
        }
        name
    }

    /// Writes records with values `prefix0`, `prefix1`… in turn over the partitions, a minute apart in their
    /// timestamps.
    fn write(&self, topic: &str, partitions: i32, prefix: &str, count: i64, first_ms: i64) {
        let mut client = Client::connect(self.address).unwrap();
        for partition in 0..partitions {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            let numbers = (0..count).filter(|number| number % i64::from(partitions) == i64::from(partition));
            for number in numbers {
                let value = format!("{prefix}{number}");
                builder.add(first_ms + number * 60_000, None, Some(value.as_bytes())).unwrap();
            }
            let batch = builder.build().unwrap();
            let deadline = Instant::now() + PATIENCE;
            // Kafka names the leader of a new partition before that one knows (3, 6).
            while let (error @ 1.., _) = client.produce(topic, partition, -1, batch.clone()).unwrap() {
                assert!([3, 6].contains(&error) && Instant::now() < deadline, "error {error}");
            }
        }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(RAFTSMAN);
        command.args([name, "--bootstrap-server", &self.address.to_string()]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Done {
        let output = self.command(name, arguments).output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `raftsman groups`, which must succeed.
    fn groups(&self, arguments: &[&str]) -> Done {
        let done = self.run("groups", arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done
    }

    /// The rows of `--describe`.
    fn describe(&self, group: &str, view: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["--describe", "--json", "--group", group];
        arguments.extend(view);
        let done = self.run("groups", &arguments);
        // While a group comes to be it may not be there.
        assert!(done.code == 0 || done.stderr.contains("GROUP_ID_NOT_FOUND"), "{}", done.stderr);
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Committed offsets by partition.
    fn committed(&self, group: &str) -> BTreeMap<i64, i64> {
        let rows = self.describe(group, &[]);
        let rows =
            rows.iter().filter_map(|row| Some((row["partition"].as_i64()?, row["current_offset"].as_i64()?)));
        rows.collect()
    }

    /// Waits until the members of a group have the given numbers of partitions, fewest first.
    fn wait_for_shares(&self, group: &str, expected: &[u64]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let members = self.describe(group, &["--members"]);
            let mut shares =
                members.iter().map(|row| row["partitions"].as_u64().unwrap()).collect::<Vec<_>>();
            shares.sort_unstable();
            if shares == expected {
                return;
            }
            assert!(Instant::now() < deadline, "the members have {shares:?}, not {expected:?}");
        }
    }
}

/// A running `raftsman consume`; killed when dropped.
struct Consumer {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Consumer {
    fn start(cluster: &Cluster, group: &str, arguments: &[&str]) -> Consumer {
        let common = [
            "--group",
            group,
            "--from-beginning",
            "--consumer-property",
            "session.timeout.ms=1500",
            "--consumer-property",
            "heartbeat.interval.ms=100",
            "--consumer-property",
            "auto.commit.interval.ms=100",
            "--consumer-property",
            "metadata.max.age.ms=200",
        ];
        let mut command = cluster.command("consume", &common);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Consumer { child, lines, seen: Vec::new() }
    }

    /// Takes in what has been printed up to now.
    fn take(&mut self, wait: Duration) {
        let first = self.lines.recv_timeout(wait);
        self.seen.extend(first.into_iter().chain(self.lines.try_iter()));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it by a signal, which must be an ordinary end.
    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let rest = self.lines.iter();
        self.seen.extend(rest);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until all consumers together have printed the values.
fn wait_for_values(consumers: &mut [&mut Consumer], expected: &BTreeSet<String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = consumers.iter().flat_map(|consumer| &consumer.seen).cloned().collect::<BTreeSet<_>>();
        let missing = expected.difference(&seen).count();
        if missing == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{missing} of {} records were not printed", expected.len());
        for consumer in consumers.iter_mut() {
            consumer.take(Duration::from_millis(20));
        }
    }
}

fn values(prefix: &str, count: i64) -> BTreeSet<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[test]
fn a_group_goes_on_where_it_left_off_and_is_described_and_reset_every_way() {
    let cluster = Cluster::start();
    let topic = cluster.topic(1);
    let group = format!("g-{topic}");
    let group = group.as_str();
    let start_ms = now_ms() - 10 * 60_000;
    cluster.write(&topic, 1, "v", 10, start_ms);

    // Only what was printed is committed, and the next one goes on there.
    let consume = ["--topic", &topic, "--group", group, "--from-beginning"];
    let first = cluster.run("consume", &[&consume[..], &["--max-messages", "4"]].concat());
    assert_eq!((first.code, first.stdout.as_str()), (0, "v0\nv1\nv2\nv3\n"), "{}", first.stderr);
    let rows = cluster.describe(group, &[]);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let row = (&row["current_offset"], &row["log_end_offset"], &row["lag"], &row["consumer_id"]);
    assert_eq!(row, (&4.into(), &10.into(), &6.into(), &Value::Null));
    let rest = cluster.run("consume", &[&consume[..], &["--max-messages", "6"]].concat());
    assert_eq!(rest.stdout, "v4\nv5\nv6\nv7\nv8\nv9\n", "{}", rest.stderr);
    assert_eq!(cluster.committed(group), BTreeMap::from([(0, 10)]));

    let listed = cluster.groups(&["--list", "--state", "empty", "--json"]).stdout;
    let listed = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = listed.filter(|row| row["group"] == group).collect::<Vec<_>>();
    assert_eq!((own.len(), &own[0]["state"], &own[0]["type"]), (1, &"Empty".into(), &"Classic".into()));
    let described = cluster.groups(&["--describe", "--group", group]);
    assert!(described.stderr.contains(&format!("Consumer group '{group}' has no active members.")));
    let header = described.stdout.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(header[..6], ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"]);

    let between = format_iso(start_ms + 7 * 60_000 - 1);
    for (target, expected, warns) in [
        (&["--to-earliest"][..], 0, false),
        (&["--to-latest"], 10, false),
        (&["--to-offset", "3"], 3, false),
        (&["--shift-by", "4"], 7, false),
        (&["--shift-by", "-100"], 0, true),
        (&["--to-offset", "11"], 10, true),
        (&["--to-current"], 10, false),
        (&["--to-datetime", &between], 7, false),
        // Half a minute to both sides is enough for a slow machine.
        (&["--by-duration", "PT5M30S"], 5, false),
        (&["--by-duration", "PT0S"], 10, true),
    ] {
        let before = cluster.committed(group);
        let reset = [&["--reset-offsets", "--group", group, "--topic", &topic][..], target].concat();
        let dry = cluster.groups(&[&reset[..], &["--json"]].concat());
        let planned = serde_json::from_str::<Value>(dry.stdout.trim()).unwrap();
        assert_eq!((&planned["new_offset"], &planned["executed"]), (&expected.into(), &false.into()));
        assert_eq!(planned["warning"].is_string(), warns, "{target:?}: {planned}");
        assert_eq!(cluster.committed(group), before, "a dry run of {target:?} changes nothing");
        let done = cluster.groups(&[&reset[..], &["--execute"]].concat());
        let row = done.stdout.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, [group, &topic, "0", &expected.to_string()]);
        assert_eq!(cluster.committed(group), BTreeMap::from([(0, expected)]), "{target:?}");
    }
    let reset = ["--reset-offsets", "--group", group];
    cluster
        .groups(&[&reset[..], &["--topic", &format!("{topic}:0"), "--to-offset", "6", "--execute"]].concat());
    let exported =
        cluster.groups(&[&reset[..], &["--all-topics", "--to-current", "--export", "--dry-run"]].concat());
    assert_eq!(exported.stdout, format!("{topic},0,6\n"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offsets.csv");
    std::fs::write(&file, exported.stdout.replace(",6", ",2")).unwrap();
    cluster.groups(&[&reset[..], &["--from-file", file.to_str().unwrap(), "--execute"]].concat());
    assert_eq!(cluster.committed(group), BTreeMap::from([(0, 2)]));

    // The mistakes, each with its code.
    let unknown = cluster.run("groups", &[&reset[..], &["--topic", "no-such-topic", "--to-latest"]].concat());
    assert!(unknown.code == 1 && unknown.stderr.contains("does not exist"), "{}", unknown.stderr);
    let unscoped = cluster.run("groups", &[&reset[..], &["--to-latest"]].concat());
    assert!(unscoped.code == 2 && unscoped.stderr.contains("--all-topics"), "{}", unscoped.stderr);

    cluster.groups(&["--delete-offsets", "--group", group, "--topic", &topic]);
    assert_eq!(cluster.committed(group), BTreeMap::new());
    // A group with nothing left may be gone by itself; what is committed makes it again.
    cluster.groups(&[&reset[..], &["--topic", &topic, "--to-latest", "--execute"]].concat());
    let deleted = cluster.groups(&["--delete", "--group", group]);
    assert_eq!(
        deleted.stdout,
        format!("Deletion of requested consumer groups ('{group}') was successful.\n")
    );
    for action in [&["--describe"][..], &["--delete"]] {
        let gone = cluster.run("groups", &[action, &["--group", group]].concat());
        assert!(gone.code == 1 && gone.stderr.contains("GROUP_ID_NOT_FOUND"), "{}", gone.stderr);
    }
}

#[test]
fn a_group_with_members_is_not_reset_or_deleted_and_is_left_in_order() {
    let cluster = Cluster::start();
    let topic = cluster.topic(2);
    let group = format!("g-{topic}");
    cluster.write(&topic, 2, "v", 10, now_ms());
    let mut consumer = Consumer::start(&cluster, &group, &["--topic", &topic]);
    cluster.wait_for_shares(&group, &[2]);
    wait_for_values(&mut [&mut consumer], &values("v", 10));

    let reset = ["--reset-offsets", "--group", &group, "--topic", &topic, "--to-earliest", "--execute"];
    let refused = cluster.run("groups", &reset);
    assert!(refused.code == 1 && refused.stderr.contains("current state is Stable"), "{}", refused.stderr);
    let refused = cluster.run("groups", &["--delete", "--group", &group]);
    assert!(refused.code == 1 && refused.stderr.contains("NON_EMPTY_GROUP"), "{}", refused.stderr);
    let refused = cluster.run("groups", &["--delete-offsets", "--group", &group, "--topic", &topic]);
    assert!(refused.code == 1 && refused.stdout.contains("GROUP_SUBSCRIBED_TO_TOPIC"), "{}", refused.stdout);
    let members = cluster.describe(&group, &["--members", "--verbose"]);
    assert_eq!(members[0]["assignment"], serde_json::json!([{"topic": topic, "partitions": [0, 1]}]));
    let state = &cluster.describe(&group, &["--state"])[0];
    assert_eq!((&state["assignment_strategy"], &state["members"]), (&"range".into(), &1.into()));

    // New partitions are found and read.
    let altered = cluster.run("topics", &["--alter", "--topic", &topic, "--partitions", "3"]);
    assert_eq!(altered.code, 0, "{}", altered.stderr);
    cluster.wait_for_shares(&group, &[3]);
    // What has been read of a partition is committed at the end: not before the first record of it.
    cluster.write(&topic, 3, "w", 3, now_ms());
    wait_for_values(&mut [&mut consumer], &values("w", 3));

    consumer.end(Signal::SIGTERM);
    let state = &cluster.describe(&group, &["--state"])[0];
    assert_eq!((&state["state"], &state["members"]), (&"Empty".into(), &0.into()));
    assert_eq!(cluster.committed(&group), BTreeMap::from([(0, 6), (1, 6), (2, 1)]));
    assert_eq!(consumer.seen.len(), 13, "nothing was printed twice");
}

#[test]
fn a_rebalance_under_way_is_told() {
    let cluster = Cluster::start();
    let topic = cluster.topic(2);
    let group = format!("groups-cli-{}", uuid::Uuid::new_v4());
    let patient = ["--topic", &topic, "--consumer-property", "session.timeout.ms=30000"];
    let mut first = Consumer::start(&cluster, &group, &patient);
    cluster.wait_for_shares(&group, &[2]);
    // It does not join again, so that the second has to wait.
    first.signal(Signal::SIGSTOP);
    let mut second = Consumer::start(&cluster, &group, &patient);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = cluster.describe(&group, &["--state"]);
        if rows.first().is_some_and(|row| row["state"] == "PreparingRebalance") {
            break;
        }
        assert!(Instant::now() < deadline, "{rows:?}");
    }
    for view in [&[] as &[&str], &["--members"], &["--state"]] {
        let told = cluster.groups(&[&["--describe", "--group", &group], view].concat());
        let expected = format!("Warning: Consumer group '{group}' is rebalancing.");
        assert!(told.stderr.contains(&expected), "{view:?}: {}{}", told.stdout, told.stderr);
    }
    first.signal(Signal::SIGCONT);
    cluster.wait_for_shares(&group, &[1, 1]);
    let told = cluster.groups(&["--describe", "--group", &group]);
    assert!(!told.stderr.contains("rebalancing"), "{}", told.stderr);
    first.end(Signal::SIGTERM);
    second.end(Signal::SIGTERM);
}

#[test]
fn two_processes_share_the_partitions_and_those_of_a_killed_one_move_over() {
    for strategy in ["range", "cooperative-sticky"] {
        let cluster = Cluster::start();
        let topic = cluster.topic(4);
        let group = format!("g-{topic}");
        let strategy = format!("partition.assignment.strategy={strategy}");
        let arguments = ["--topic", &topic, "--consumer-property", &strategy];
        let mut first = Consumer::start(&cluster, &group, &arguments);
        let mut second = Consumer::start(&cluster, &group, &arguments);
        cluster.wait_for_shares(&group, &[2, 2]);
        cluster.write(&topic, 4, "a", 40, now_ms());
        wait_for_values(&mut [&mut first, &mut second], &values("a", 40));
        assert!(!first.seen.is_empty() && !second.seen.is_empty());
        assert_eq!(first.seen.len() + second.seen.len(), 40, "nothing was printed twice");

        first.signal(Signal::SIGKILL);
        cluster.write(&topic, 4, "b", 40, now_ms());
        cluster.wait_for_shares(&group, &[4]);
        let seen = first.seen.clone();
        drop(first);
        wait_for_values(
            &mut [&mut second],
            &values("b", 40).into_iter().filter(|v| !seen.contains(v)).collect(),
        );
        second.end(Signal::SIGINT);
        assert_eq!(cluster.committed(&group), (0..4).map(|partition| (partition, 20)).collect());
    }
}
