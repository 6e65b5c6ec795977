//! `raftsman reassign` (kafka-reassign-partitions): moves replicas between brokers.
//!
//! The plan is Kafka's JSON: `{"version":1,"partitions":[{"topic":"foo","partition":0,"replicas":[1,2,3]}]}`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::list_partition_reassignments_response::OngoingPartitionReassignment;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ListPartitionReassignmentsRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;
use crate::client::{Client, ClientError, topic_name};

/// Arguments of `raftsman reassign`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    group = ArgGroup::new("action").required(true),
    after_help = "Examples:
  raftsman reassign --generate --topics-to-move-json-file topics.json --broker-list 1,2,3
  raftsman reassign --execute --reassignment-json-file plan.json
  raftsman reassign --verify --reassignment-json-file plan.json
  raftsman reassign --list
  raftsman reassign --cancel --reassignment-json-file plan.json

topics.json: {\"topics\": [{\"topic\": \"foo\"}], \"version\": 1}
plan.json:   {\"version\": 1, \"partitions\": [{\"topic\": \"foo\", \"partition\": 0, \"replicas\": [1, 2, 3]}]}"
)]
pub struct ReassignArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Print a plan that spreads topics over brokers; nothing is moved
    #[arg(long, group = "action", requires = "topics_to_move_json_file", requires = "broker_list")]
    pub generate: bool,
    /// Begin the moves of a plan
    #[arg(long, group = "action", requires = "reassignment_json_file")]
    pub execute: bool,
    /// Say whether the moves of a plan are done; exit code 1 while one is not
    #[arg(long, group = "action", requires = "reassignment_json_file")]
    pub verify: bool,
    /// Take back the moves of a plan that are under way
    #[arg(long, group = "action", requires = "reassignment_json_file")]
    pub cancel: bool,
    /// Print all moves that are under way
    #[arg(long, group = "action")]
    pub list: bool,
    /// The plan
    #[arg(long, value_name = "FILE")]
    pub reassignment_json_file: Option<PathBuf>,
    /// Topics for --generate
    #[arg(long, value_name = "FILE")]
    pub topics_to_move_json_file: Option<PathBuf>,
    /// Brokers for --generate: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub broker_list: Vec<i32>,
    /// With --execute: also while other moves are under way
    #[arg(long)]
    pub additional: bool,
    /// With --generate: do not look at brokers' racks
    #[arg(long)]
    pub disable_rack_aware: bool,
    /// With --execute: refuse plans that change a partition's number of replicas
    #[arg(long)]
    pub disallow_replication_factor_change: bool,
    /// With --execute: how long the moves may take to begin (ms)
    #[arg(long, value_name = "MS")]
    pub timeout: Option<i32>,
    /// JSON for machines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    unserved: Unserved,
}

/// Options of Kafka's tool that have nothing to do here, or are refused.
#[derive(Debug, Args)]
struct Unserved {
    #[arg(long, hide = true)]
    bootstrap_controller: Option<String>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    throttle: Option<i64>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    replica_alter_log_dirs_throttle: Option<i64>,
    /// There are none that --verify or --cancel would take away.
    #[arg(long, hide = true)]
    preserve_throttles: bool,
}

impl Unserved {
    fn check(&self) -> Result<(), CliError> {
        let given = [
            (
                self.bootstrap_controller.is_some(),
                "--bootstrap-controller: ask a broker, with --bootstrap-server",
            ),
            (
                self.throttle.is_some_and(|rate| rate >= 0),
                "--throttle: set leader.replication.throttled.rate and follower.replication.throttled.rate with raftsman \
                 configs",
            ),
            (
                self.replica_alter_log_dirs_throttle.is_some_and(|rate| rate >= 0),
                "--replica-alter-log-dirs-throttle: replicas are not moved between log directories",
            ),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, reason)) => Err(CliError::Usage((*reason).to_owned())),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct TopicsFile {
    topics: Vec<TopicEntry>,
}

#[derive(Deserialize)]
struct TopicEntry {
    topic: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Plan {
    version: i32,
    partitions: Vec<Move>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log_dirs: Vec<String>,
}

impl Plan {
    fn new(placed: impl IntoIterator<Item = ((String, i32), Vec<i32>)>) -> Self {
        let moves = placed.into_iter().map(|((topic, partition), replicas)| {
            let log_dirs = vec!["any".to_owned(); replicas.len()];
            Move { topic, partition, replicas, log_dirs }
        });
        Self { version: 1, partitions: moves.collect() }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a plan; one that names a partition twice, or a log directory, is refused.
    fn read(path: &Path) -> Result<Self, CliError> {
        let wrong = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
        let plan: Self = serde_json::from_str(&read(path)?).map_err(|error| wrong(error.to_string()))?;
        if plan.version != 1 {
            return Err(wrong(format!("Not supported version field value {}", plan.version)));
        }
        if plan.partitions.is_empty() {
            return Err(wrong("Partition reassignment list cannot be empty".to_owned()));
        }
        let mut seen = BTreeSet::new();
        for each in &plan.partitions {
            let name = each.name();
            if !seen.insert((&each.topic, each.partition)) {
                return Err(wrong(format!(
                    "Partition reassignment contains duplicate topic partitions: {name}"
                )));
            }
            if each.replicas.is_empty() {
                return Err(wrong(format!("Partition replica list cannot be empty: {name}")));
            }
            if each.replicas.iter().collect::<BTreeSet<_>>().len() != each.replicas.len() {
                return Err(wrong(format!(
                    "Partition replica lists may not contain duplicate entries: {name}"
                )));
            }
            if each.log_dirs.iter().any(|dir| dir != "any") {
                return Err(wrong(format!(
                    "{name} is to go into a certain log directory; leave log_dirs out, or \"any\""
                )));
            }
        }
        Ok(plan)
    }
}

impl Move {
    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    fn key(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::while_doing(format!("read {}", path.display()), error))
}

pub async fn run(arguments: ReassignArguments, out: &mut Output) -> Result<(), CliError> {
    arguments.unserved.check()?;
    let plan = arguments.reassignment_json_file.as_deref().map(Plan::read).transpose()?;
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    match plan {
        _ if arguments.list => list(&client, &arguments, out).await,
        Some(plan) if arguments.execute => execute(&client, &arguments, &plan, out).await,
        Some(plan) if arguments.verify => verify(&client, &arguments, &plan, out).await,
        Some(plan) if arguments.cancel => cancel(&client, &arguments, &plan, out).await,
        _ => generate(&client, &arguments, out).await,
    }
}

/// Replicas of the partitions of these topics.
async fn replicas(
    client: &Client,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<(String, i32), Vec<i32>>, CliError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let metadata = client.fetch_metadata(Some(&names)).await?;
    let mut found = BTreeMap::new();
    for topic in metadata.topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        ClientError::check(topic.error_code, Some(&name))?;
        for partition in topic.partitions {
            let replicas = partition.replica_nodes.iter().map(|broker| broker.0).collect();
            found.insert((name.clone(), partition.partition_index), replicas);
        }
    }
    Ok(found)
}

async fn generate(client: &Client, arguments: &ReassignArguments, out: &mut Output) -> Result<(), CliError> {
    let path = arguments.topics_to_move_json_file.as_deref().unwrap_or(Path::new(""));
    let file: TopicsFile = serde_json::from_str(&read(path)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    let topics: BTreeSet<String> = file.topics.into_iter().map(|entry| entry.topic).collect();
    let brokers: BTreeSet<i32> = arguments.broker_list.iter().copied().collect();
    if brokers.len() != arguments.broker_list.len() {
        return Err(CliError::Usage("Broker list contains duplicate entries".to_owned()));
    }
    let current = replicas(client, &topics).await?;
    let metadata = client.fetch_metadata(Some(&[])).await?;
    let racks: BTreeMap<i32, Option<String>> = metadata
        .brokers
        .iter()
        .map(|broker| (broker.node_id.0, broker.rack.as_ref().map(|rack| rack.to_string())))
        .collect();
    if let Some(unknown) = brokers.iter().find(|id| !racks.contains_key(id)) {
        return Err(CliError::Failed(format!("broker {unknown} is not there")));
    }
    let order = in_turn(&brokers, &racks, arguments.disable_rack_aware);
    let proposed = spread(&current, &order)?;
    if arguments.json {
        out.json(&json!({"current": Plan::new(current), "proposed": Plan::new(proposed)}))?;
        return Ok(());
    }
    writeln!(out, "Current partition replica assignment\n{}\n", Plan::new(current).text())?;
    writeln!(out, "Proposed partition reassignment configuration\n{}", Plan::new(proposed).text())?;
    Ok(())
}

/// The brokers so that neighbours are in different racks as far as can be.
fn in_turn(brokers: &BTreeSet<i32>, racks: &BTreeMap<i32, Option<String>>, ignores_racks: bool) -> Vec<i32> {
    if ignores_racks {
        return brokers.iter().copied().collect();
    }
    let mut by_rack: BTreeMap<Option<&str>, Vec<i32>> = BTreeMap::new();
    for id in brokers.iter().rev() {
        by_rack.entry(racks.get(id).and_then(|rack| rack.as_deref())).or_default().push(*id);
    }
    let mut order = Vec::with_capacity(brokers.len());
    while order.len() < brokers.len() {
        order.extend(by_rack.values_mut().filter_map(Vec::pop));
    }
    order
}

/// Each partition's replicas, the next partition beginning with the next broker; each round over all brokers the
/// followers move one on, so that not always the same ones share partitions.
fn spread(
    current: &BTreeMap<(String, i32), Vec<i32>>,
    order: &[i32],
) -> Result<BTreeMap<(String, i32), Vec<i32>>, CliError> {
    let count = order.len();
    let mut proposed = BTreeMap::new();
    for (number, (partition, replicas)) in current.iter().enumerate() {
        if replicas.len() > count {
            let (topic, index) = partition;
            let message = format!(
                "{topic}-{index} has {} replicas, and --broker-list names {count} brokers",
                replicas.len()
            );
            return Err(CliError::Failed(message));
        }
        let first = number % count;
        let shift = number / count;
        let follower = |at: usize| (first + 1 + (shift + at) % (count - 1).max(1)) % count;
        let mut placed = vec![order[first]];
        placed.extend((0..replicas.len() - 1).map(|at| order[follower(at)]));
        proposed.insert(partition.clone(), placed);
    }
    Ok(proposed)
}

type Ongoing = BTreeMap<(String, i32), OngoingPartitionReassignment>;

async fn ongoing(client: &Client) -> Result<Ongoing, ClientError> {
    let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(client.options().timeout_ms());
    let response = client
        .retry(async || {
            let response = client.controller().await?.call(&request).await?;
            ClientError::check(response.error_code, response.error_message.as_deref())?;
            Ok(response)
        })
        .await?;
    let topics = response.topics.into_iter();
    Ok(topics
        .flat_map(|topic| {
            let name = topic.name.to_string();
            topic
                .partitions
                .into_iter()
                .map(move |partition| ((name.clone(), partition.partition_index), partition))
        })
        .collect())
}

type Altered = Vec<((String, i32), Result<(), ClientError>)>;

/// Asks for these replicas; `None` cancels.
async fn alter(
    client: &Client,
    targets: &BTreeMap<(String, i32), Option<Vec<i32>>>,
    allows_other_count: bool,
    timeout_ms: i32,
) -> Result<Altered, ClientError> {
    let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
    for ((topic, index), target) in targets {
        let replicas = target.as_ref().map(|replicas| replicas.iter().copied().map(BrokerId).collect());
        let partition = ReassignablePartition::default().with_partition_index(*index).with_replicas(replicas);
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    });
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(timeout_ms)
        .with_allow_replication_factor_change(allows_other_count)
        .with_topics(topics.collect());
    let response = client
        .retry(async || {
            let response = client.controller().await?.call(&request).await?;
            ClientError::check(response.error_code, response.error_message.as_deref())?;
            Ok(response)
        })
        .await?;
    let topics = response.responses.into_iter();
    Ok(topics
        .flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |partition| {
                let outcome = ClientError::check(partition.error_code, partition.error_message.as_deref());
                ((name.clone(), partition.partition_index), outcome)
            })
        })
        .collect())
}

/// Tells what failed; gives the names of the rest.
fn report(altered: Altered, what: &str) -> (Vec<String>, bool) {
    let mut failed = false;
    let mut done = Vec::new();
    for ((topic, index), outcome) in altered {
        match outcome {
            Ok(()) => done.push(format!("{topic}-{index}")),
            Err(error) => {
                eprintln!("{topic}-{index}: cannot {what}: {error}");
                failed = true;
            }
        }
    }
    (done, failed)
}

async fn execute(
    client: &Client,
    arguments: &ReassignArguments,
    plan: &Plan,
    out: &mut Output,
) -> Result<(), CliError> {
    if !arguments.additional && !ongoing(client).await?.is_empty() {
        let message = "Cannot execute because there is an existing partition assignment.  Use --additional to override \
                       this and create a new partition assignment in addition to the existing one.";
        return Err(CliError::Failed(message.to_owned()));
    }
    let topics = plan.partitions.iter().map(|each| each.topic.clone()).collect();
    let wanted: BTreeSet<_> = plan.partitions.iter().map(Move::key).collect();
    let current: BTreeMap<_, _> = replicas(client, &topics)
        .await?
        .into_iter()
        .filter(|(partition, _)| wanted.contains(partition))
        .collect();
    let current = Plan::new(current);
    let targets = plan.partitions.iter().map(|each| (each.key(), Some(each.replicas.clone()))).collect();
    if !arguments.json {
        writeln!(out, "Current partition replica assignment\n\n{}\n", current.text())?;
        writeln!(out, "Save this to use as the --reassignment-json-file option during rollback")?;
        out.flush()?;
    }
    let allows_other_count = !arguments.disallow_replication_factor_change;
    let timeout_ms = arguments.timeout.unwrap_or_else(|| client.options().timeout_ms());
    let altered = alter(client, &targets, allows_other_count, timeout_ms).await?;
    let (started, failed) = report(altered, "be moved");
    if arguments.json {
        out.json(&json!({"before": current, "started": started}))?;
    } else if !started.is_empty() {
        let plural = if started.len() == 1 { "" } else { "s" };
        writeln!(out, "Successfully started partition reassignment{plural} for {}", started.join(","))?;
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

async fn verify(
    client: &Client,
    arguments: &ReassignArguments,
    plan: &Plan,
    out: &mut Output,
) -> Result<(), CliError> {
    let ongoing = ongoing(client).await?;
    let topics = plan.partitions.iter().map(|each| each.topic.clone()).collect();
    let current = replicas(client, &topics).await?;
    if !arguments.json {
        writeln!(out, "Status of partition reassignment:")?;
    }
    let mut is_whole = true;
    for each in &plan.partitions {
        let name = each.name();
        let (state, text) = match (ongoing.get(&each.key()), current.get(&each.key())) {
            (Some(_), _) => {
                ("in progress", format!("Reassignment of partition {name} is still in progress."))
            }
            (None, None) => {
                ("unknown", format!("Reassignment of partition {name} cannot be seen: it is not there."))
            }
            (None, Some(now)) if *now == each.replicas => {
                ("completed", format!("Reassignment of partition {name} is completed."))
            }
            (None, Some(now)) => {
                let list = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
                let text = format!(
                    "There is no active reassignment of partition {name}, but replica set is {} rather than {}.",
                    list(now),
                    list(&each.replicas)
                );
                ("other", text)
            }
        };
        is_whole &= state == "completed";
        match arguments.json {
            true => out.json(&json!({"topic": each.topic, "partition": each.partition, "state": state}))?,
            false => writeln!(out, "{text}")?,
        }
    }
    if is_whole { Ok(()) } else { Err(CliError::Reported) }
}

async fn cancel(
    client: &Client,
    arguments: &ReassignArguments,
    plan: &Plan,
    out: &mut Output,
) -> Result<(), CliError> {
    let ongoing = ongoing(client).await?;
    let targets: BTreeMap<_, _> = plan
        .partitions
        .iter()
        .map(Move::key)
        .filter(|partition| ongoing.contains_key(partition))
        .map(|partition| (partition, None))
        .collect();
    let altered = if targets.is_empty() {
        Vec::new()
    } else {
        alter(client, &targets, true, client.options().timeout_ms()).await?
    };
    let (cancelled, failed) = report(altered, "be taken back");
    if arguments.json {
        out.json(&json!({"cancelled": cancelled}))?;
    } else if cancelled.is_empty() {
        writeln!(out, "None of the specified partition reassignments are active.")?;
    } else {
        let plural = if cancelled.len() == 1 { "" } else { "s" };
        writeln!(out, "Successfully cancelled partition reassignment{plural} for: {}", cancelled.join(","))?;
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

async fn list(client: &Client, arguments: &ReassignArguments, out: &mut Output) -> Result<(), CliError> {
    let ids = |brokers: &[BrokerId]| {
        brokers.iter().map(|broker| broker.0.to_string()).collect::<Vec<_>>().join(",")
    };
    let ongoing = ongoing(client).await?;
    if ongoing.is_empty() && !arguments.json {
        writeln!(out, "No partition reassignments found.")?;
    } else if !arguments.json {
        writeln!(out, "Current partition reassignments:")?;
    }
    for ((topic, index), moving) in ongoing {
        let OngoingPartitionReassignment { replicas, adding_replicas, removing_replicas, .. } = moving;
        if arguments.json {
            let numbers = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect::<Vec<_>>();
            out.json(&json!({
                "topic": topic,
                "partition": index,
                "replicas": numbers(&replicas),
                "adding": numbers(&adding_replicas),
                "removing": numbers(&removing_replicas),
            }))?;
            continue;
        }
        let mut line = format!("{topic}-{index}: replicas: {}.", ids(&replicas));
        if !adding_replicas.is_empty() {
            line += &format!(" adding: {}.", ids(&adding_replicas));
        }
        if !removing_replicas.is_empty() {
            line += &format!(" removing: {}.", ids(&removing_replicas));
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(racks: &[(i32, Option<&str>)]) -> (BTreeSet<i32>, BTreeMap<i32, Option<String>>) {
        let racks: BTreeMap<_, _> = racks.iter().map(|(id, rack)| (*id, rack.map(str::to_owned))).collect();
        (racks.keys().copied().collect(), racks)
    }

    #[test]
    fn a_plan_spreads_leaders_and_takes_neighbours_from_other_racks() {
        let (ids, racks) = brokers(&[(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, Some("b"))]);
        let order = in_turn(&ids, &racks, false);
        assert_eq!(order, [1, 3, 2, 4]);
        assert_eq!(in_turn(&ids, &racks, true), [1, 2, 3, 4]);
        let current = (0..8).map(|index| (("t".to_owned(), index), vec![9, 8])).collect();
        let proposed = spread(&current, &order).unwrap();
        let mut leaders: BTreeMap<i32, usize> = BTreeMap::new();
        for replicas in proposed.values() {
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 2, "{proposed:?}");
            *leaders.entry(replicas[0]).or_default() += 1;
        }
        assert!(leaders.values().all(|count| *count == 2), "{leaders:?}");
        let wide = [(("t".to_owned(), 0), vec![1, 2, 3, 4, 5])].into();
        assert!(spread(&wide, &order).is_err());
        let alone = [(("t".to_owned(), 0), vec![5])].into();
        assert_eq!(spread(&alone, &[7]).unwrap()[&("t".to_owned(), 0)], [7]);
    }

    #[test]
    fn plans_that_cannot_be_meant_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Plan::read(&path).map_err(|error| error.to_string())
        };
        let plan = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,2],"log_dirs":["any","any"]}]}"#;
        assert_eq!(read(plan).unwrap().text(), plan);
        for (text, why) in [
            (r#"{"version":2,"partitions":[]}"#, "version"),
            (r#"{"version":1,"partitions":[]}"#, "empty"),
            (r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[]}]}"#, "empty"),
            (r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,1]}]}"#, "duplicate"),
            (
                r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1],"log_dirs":["/d"]}]}"#,
                "log directory",
            ),
            ("[]", "plan.json"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
