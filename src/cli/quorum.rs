//! `raftsman quorum` (kafka-metadata-quorum): who leads the metadata quorum, how far its members are, and who has a vote.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use kafka_protocol::messages::{
    AddRaftVoterRequest, DescribeClusterRequest, DescribeQuorumRequest, DescribeQuorumResponse,
    RemoveRaftVoterRequest,
};
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;
use crate::client::{ClientError, text as text_of, topic_name};
use crate::config::{BrokerConfig, properties};
use crate::env::real;
use crate::node::formatting;
use crate::types::{uuid_from_base64, uuid_to_base64};

/// Arguments of `raftsman quorum`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman quorum describe --status
  raftsman quorum describe --replication --human-readable
  raftsman quorum --command-config controller.properties add-controller
  raftsman quorum remove-controller --controller-id 3 --controller-directory-id JEXY6aqzQY-32P5TStzaFg
  raftsman quorum --bootstrap-server 127.0.0.1:9092 describe --status --json"
)]
pub struct QuorumArguments {
    #[command(flatten)]
    pub reach: GlobalReach,
    #[command(subcommand)]
    pub action: Action,
}

/// Where the cluster is, by the options of Kafka's tools that take them before their action.
#[derive(Debug, Args)]
pub struct GlobalReach {
    /// Brokers to ask first, host:port[,host:port…] [default: 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    pub bootstrap_server: Option<String>,
    /// File of client properties
    #[arg(long, global = true, value_name = "FILE")]
    pub command_config: Option<PathBuf>,
    /// Controllers to ask in their place
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    pub bootstrap_controller: Option<String>,
}

impl GlobalReach {
    pub fn client(self) -> Result<crate::client::Client, CliError> {
        let (server, controller) = (self.bootstrap_server, self.bootstrap_controller);
        if server.is_some() && controller.is_some() {
            let why = "only one of --bootstrap-server and --bootstrap-controller says whom to ask";
            return Err(CliError::Usage(why.to_owned()));
        }
        let connection = ConnectionArguments {
            bootstrap_server: server.or(controller).unwrap_or_else(|| "127.0.0.1:9092".to_owned()),
            command_config: self.command_config,
            command_property: Vec::new(),
        };
        connection.client(&connection.properties(&[])?)
    }
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the state of the metadata quorum
    Describe {
        /// Who leads, how far what is committed reaches, and who is in the quorum
        #[arg(long, required_unless_present = "replication", conflicts_with = "replication")]
        status: bool,
        /// How far each member is
        #[arg(long)]
        replication: bool,
        /// Times as how long ago they were
        #[arg(long, conflicts_with = "status")]
        human_readable: bool,
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a controller that follows the quorum one of its voters; --command-config is its configuration
    AddController {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the vote of a controller away
    RemoveController {
        /// The id of the controller
        #[arg(long, short = 'i', value_name = "ID")]
        controller_id: i32,
        /// The id of its folder
        #[arg(long, short = 'd', value_name = "ID")]
        controller_directory_id: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// A member of the quorum.
#[derive(Clone, Debug)]
struct Member {
    id: i32,
    directory_id: String,
    /// `NAME://host:port`.
    endpoints: Vec<String>,
    log_end_offset: i64,
    last_fetch_ms: i64,
    last_caught_up_ms: i64,
}

/// What DescribeQuorum tells.
struct Quorum {
    cluster_id: String,
    leader_id: i32,
    leader_epoch: i32,
    high_watermark: i64,
    voters: Vec<Member>,
    observers: Vec<Member>,
}

pub async fn run(arguments: QuorumArguments, out: &mut Output) -> Result<(), CliError> {
    let (status, human_readable, as_json) = match arguments.action {
        Action::Describe { status, human_readable, json, .. } => (status, human_readable, json),
        Action::AddController { dry_run } => return add_controller(arguments.reach, dry_run, out).await,
        Action::RemoveController { controller_id, controller_directory_id, dry_run } => {
            let voter = (controller_id, controller_directory_id);
            return remove_controller(arguments.reach, voter, dry_run, out).await;
        }
    };
    let quorum = ask(arguments.reach).await?;
    match (status, as_json) {
        (true, false) => print_status(&quorum, out)?,
        (true, true) => out.json(&json!({
            "cluster_id": quorum.cluster_id, "leader_id": quorum.leader_id, "leader_epoch": quorum.leader_epoch,
            "high_watermark": quorum.high_watermark, "max_follower_lag": quorum.max_lag().0,
            "max_follower_lag_time_ms": quorum.max_lag().1,
            "current_voters": quorum.voters.iter().map(member_json).collect::<Vec<_>>(),
            "current_observers": quorum.observers.iter().map(member_json).collect::<Vec<_>>(),
        }))?,
        (false, true) => {
            for (member, role) in quorum.members() {
                out.json(&json!({
                    "node_id": member.id, "directory_id": member.directory_id,
                    "log_end_offset": member.log_end_offset, "lag": quorum.lag(member),
                    "last_fetch_timestamp": member.last_fetch_ms,
                    "last_caught_up_timestamp": member.last_caught_up_ms, "status": role,
                }))?;
            }
        }
        (false, false) => print_replication(&quorum, human_readable, out)?,
    }
    Ok(())
}

/// How long a change of the voters may take.
const CHANGE_TIMEOUT_MS: i32 = 30_000;

/// Adds the controller whose configuration `--command-config` names, as Kafka's tool does.
async fn add_controller(reach: GlobalReach, dry_run: bool, out: &mut Output) -> Result<(), CliError> {
    let failed = |why: String| CliError::Failed(why);
    let path = reach.command_config.clone().ok_or_else(|| {
        failed(
            "You must supply the configuration file of the controller you are adding when using add-controller."
                .to_owned(),
        )
    })?;
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| failed(format!("{shown}: {error}")))?;
    let config = BrokerConfig::from_values(properties::parse(&text));
    let config = config.map_err(|error| failed(format!("{shown}: {error}")))?.0;
    if !config.node.is_controller() {
        return Err(failed(format!("process.roles did not contain 'controller' in {shown}")));
    }
    let dir = config.storage.log_dir();
    let meta = formatting::meta_properties(&*real::surroundings().disk, dir);
    let meta = meta.map_err(|why| failed(format!("{}/meta.properties: {why}", dir.display())))?;
    let meta = meta.ok_or_else(|| {
        failed(format!(
            "{} has no meta.properties: start the controller, or format its folder (raftsman storage format)",
            dir.display()
        ))
    })?;
    let listeners: Vec<_> = config
        .listeners
        .advertised_to_controllers()
        .map(|listener| {
            let host = if listener.host.is_empty() { "localhost" } else { &listener.host };
            Listener::default()
                .with_name(text_of(&listener.name))
                .with_host(text_of(host))
                .with_port(listener.port)
        })
        .collect();
    if listeners.is_empty() {
        return Err(failed(format!("listeners in {shown} has none that controller.listener.names names")));
    }
    let endpoints: Vec<_> =
        listeners.iter().map(|it| format!("{}://{}:{}", it.name, it.host, it.port)).collect();
    if !dry_run {
        // The file is the controller's; what a client needs is not in it.
        let client = GlobalReach { command_config: None, ..reach }.client()?;
        let request = AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(CHANGE_TIMEOUT_MS)
            .with_voter_id(config.node.id)
            .with_voter_directory_id(meta.directory_id)
            .with_listeners(listeners);
        let response = client.any().await?.call(&request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref())?;
    }
    let verb = if dry_run { "DRY RUN of adding" } else { "Added" };
    writeln!(
        out,
        "{verb} controller {} with directory id {} and endpoints: {}",
        config.node.id,
        uuid_to_base64(meta.directory_id),
        endpoints.join(", ")
    )?;
    Ok(())
}

async fn remove_controller(
    reach: GlobalReach,
    (id, directory): (i32, String),
    dry_run: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    let wrong = || CliError::Usage(format!("--controller-directory-id {directory}: no id of 22 characters"));
    let directory_id = uuid_from_base64(&directory).ok_or_else(wrong)?;
    if !dry_run {
        let client = reach.client()?;
        let request = RemoveRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_voter_id(id)
            .with_voter_directory_id(directory_id);
        let response = client.any().await?.call(&request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref())?;
    }
    let verb = if dry_run { "DRY RUN of removing" } else { "Removed" };
    // With two spaces, as Kafka's tool.
    writeln!(out, "{verb}  KRaft controller {id} with directory id {directory}")?;
    Ok(())
}

async fn ask(reach: GlobalReach) -> Result<Quorum, CliError> {
    let client = reach.client()?;
    let cluster_id = cluster_id(&client).await?;
    let topic = TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let response = client
        .retry(async || {
            let response = client.call_any(&request).await?;
            ClientError::check(response.error_code, response.error_message.as_deref())?;
            Ok(response)
        })
        .await?;
    let partition = response.topics.first().and_then(|topic| topic.partitions.first());
    let Some(partition) = partition else {
        return Err(CliError::Failed("the broker tells nothing of the metadata quorum".to_owned()));
    };
    ClientError::check(partition.error_code, partition.error_message.as_deref())?;
    let members =
        |states: &[ReplicaState]| states.iter().map(|state| member(state, &response)).collect::<Vec<_>>();
    Ok(Quorum {
        cluster_id,
        leader_id: partition.leader_id.0,
        leader_epoch: partition.leader_epoch,
        high_watermark: partition.high_watermark,
        voters: members(&partition.current_voters),
        observers: members(&partition.observers),
    })
}

/// The id of the cluster, which brokers and controllers tell.
async fn cluster_id(client: &crate::client::Client) -> Result<String, ClientError> {
    let described = client
        .retry(async || {
            let connection = client.any().await?;
            // Either kind is right where it is the one that was asked.
            let mut kinds = [DescribeClusterRequest::default(), DescribeClusterRequest::default()];
            kinds[1].endpoint_type = CONTROLLER_ENDPOINTS;
            let mut answered = connection.call(&kinds[0]).await?;
            if answered.error_code == ResponseError::MismatchedEndpointType.code() {
                answered = connection.call(&kinds[1]).await?;
            }
            ClientError::check(answered.error_code, answered.error_message.as_deref())?;
            Ok(answered)
        })
        .await?;
    Ok(described.cluster_id.to_string())
}

/// What DescribeCluster is asked for on a controller's listener.
const CONTROLLER_ENDPOINTS: i8 = 2;

fn member(state: &ReplicaState, response: &DescribeQuorumResponse) -> Member {
    let node = response.nodes.iter().find(|node| node.node_id == state.replica_id);
    let listeners = node.map_or(&[] as &[_], |node| &node.listeners);
    Member {
        id: state.replica_id.0,
        directory_id: uuid_to_base64(state.replica_directory_id),
        endpoints: listeners
            .iter()
            .map(|listener| format!("{}://{}:{}", listener.name, listener.host, listener.port))
            .collect(),
        log_end_offset: state.log_end_offset,
        last_fetch_ms: state.last_fetch_timestamp,
        last_caught_up_ms: state.last_caught_up_timestamp,
    }
}

fn member_json(member: &Member) -> serde_json::Value {
    json!({"id": member.id, "directory_id": member.directory_id, "endpoints": member.endpoints})
}

impl Quorum {
    fn leader(&self) -> Option<&Member> {
        self.voters.iter().find(|voter| voter.id == self.leader_id)
    }

    fn lag(&self, member: &Member) -> i64 {
        self.leader().map_or(-1, |leader| leader.log_end_offset - member.log_end_offset)
    }

    /// How far the slowest voter is behind: in entries, and in ms (-1 when that is not known).
    fn max_lag(&self) -> (i64, i64) {
        let slowest = self.voters.iter().min_by_key(|voter| voter.log_end_offset);
        let (Some(leader), Some(slowest)) = (self.leader(), slowest) else { return (-1, -1) };
        let lag_ms = match (leader.last_caught_up_ms, slowest.last_caught_up_ms) {
            _ if leader.id == slowest.id => 0,
            (leader_ms, slowest_ms) if leader_ms >= 0 && slowest_ms >= 0 => leader_ms - slowest_ms,
            _ => -1,
        };
        (leader.log_end_offset - slowest.log_end_offset, lag_ms)
    }

    /// In Kafka's order.
    fn members(&self) -> impl Iterator<Item = (&Member, &'static str)> {
        let (leader, followers): (Vec<_>, Vec<_>) =
            self.voters.iter().partition(|voter| voter.id == self.leader_id);
        let leader = leader.into_iter().map(|member| (member, "Leader"));
        let followers = followers.into_iter().map(|member| (member, "Follower"));
        leader.chain(followers).chain(self.observers.iter().map(|member| (member, "Observer")))
    }
}

fn print_status(quorum: &Quorum, out: &mut Output) -> Result<(), CliError> {
    let (lag, lag_ms) = quorum.max_lag();
    let listed = |members: &[Member]| {
        let members: Vec<_> = members.iter().map(member_text).collect();
        format!("[{}]", members.join(", "))
    };
    writeln!(out, "{:<24}{}", "ClusterId:", quorum.cluster_id)?;
    writeln!(out, "{:<24}{}", "LeaderId:", quorum.leader_id)?;
    writeln!(out, "{:<24}{}", "LeaderEpoch:", quorum.leader_epoch)?;
    writeln!(out, "{:<24}{}", "HighWatermark:", quorum.high_watermark)?;
    writeln!(out, "{:<24}{lag}", "MaxFollowerLag:")?;
    writeln!(out, "{:<24}{lag_ms}", "MaxFollowerLagTimeMs:")?;
    writeln!(out, "{:<24}{}", "CurrentVoters:", listed(&quorum.voters))?;
    writeln!(out, "{:<24}{}", "CurrentObservers:", listed(&quorum.observers))?;
    Ok(())
}

/// As Kafka prints it, which is nearly JSON.
fn member_text(member: &Member) -> String {
    let is_known = member.directory_id != uuid_to_base64(uuid::Uuid::nil());
    let directory = if is_known { format!("\"{}\"", member.directory_id) } else { "null".to_owned() };
    let mut text = format!("{{\"id\": {}, \"directoryId\": {directory}", member.id);
    if !member.endpoints.is_empty() {
        let endpoints: Vec<_> = member.endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
        text.push_str(&format!(", \"endpoints\": [{}]", endpoints.join(", ")));
    }
    text.push('}');
    text
}

fn print_replication(quorum: &Quorum, human_readable: bool, out: &mut Output) -> Result<(), CliError> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let time = |ms: i64| match human_readable && ms >= 0 {
        true => format!("{} ms ago", now_ms.saturating_sub(ms).max(0)),
        false => ms.to_string(),
    };
    let header = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for (member, role) in quorum.members() {
        rows.push([
            member.id.to_string(),
            member.directory_id.clone(),
            member.log_end_offset.to_string(),
            quorum.lag(member).to_string(),
            time(member.last_fetch_ms),
            time(member.last_caught_up_ms),
            role.to_owned(),
        ]);
    }
    // Kafka's layout: padded, and a tab behind each.
    let widths: Vec<usize> =
        (0..header.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            write!(out, "{cell:<width$}\t")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
