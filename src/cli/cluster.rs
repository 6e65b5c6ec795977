//! `raftsman cluster` (kafka-cluster): the cluster's id, where its brokers and controllers listen, and brokers to forget.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, UnregisterBrokerRequest,
};
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;
use crate::client::{Client, ClientError};

/// Arguments of `raftsman cluster`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman cluster cluster-id
  raftsman cluster list-endpoints --bootstrap-server 127.0.0.1:9092 --json
  raftsman cluster unregister --id 3"
)]
pub struct ClusterArguments {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the id of the cluster
    ClusterId(Reach),
    /// Print the brokers with their addresses
    ListEndpoints(Reach),
    /// Forget a broker that does not come back
    Unregister {
        #[command(flatten)]
        reach: Reach,
        /// The id of the broker
        #[arg(long, short, value_name = "ID")]
        id: i32,
    },
}

/// Where the cluster is, by the options of Kafka's tool.
#[derive(Debug, Args)]
pub struct Reach {
    /// Brokers to ask first, host:port[,host:port…] [default: 127.0.0.1:9092]
    #[arg(long, short, value_name = "HOST:PORT,…")]
    pub bootstrap_server: Option<String>,
    /// File of client properties
    #[arg(long, short, alias = "config", value_name = "FILE")]
    pub command_config: Option<PathBuf>,
    /// Brokers that are fenced, too
    #[arg(long)]
    pub include_fenced_brokers: bool,
    /// Controllers to ask in place of brokers, and to print
    #[arg(long, short = 'C', value_name = "HOST:PORT,…")]
    pub bootstrap_controller: Option<String>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

impl Reach {
    fn client(&self) -> Result<Client, CliError> {
        let (server, controller) = (&self.bootstrap_server, &self.bootstrap_controller);
        if server.is_some() && controller.is_some() {
            let why = "only one of --bootstrap-server and --bootstrap-controller says whom to ask";
            return Err(CliError::Usage(why.to_owned()));
        }
        let address = server.as_ref().or(controller.as_ref());
        let connection = ConnectionArguments {
            bootstrap_server: address.map_or_else(|| "127.0.0.1:9092".to_owned(), Clone::clone),
            command_config: self.command_config.clone(),
            command_property: Vec::new(),
        };
        connection.client(&connection.properties(&[])?)
    }

    async fn describe(&self) -> Result<DescribeClusterResponse, CliError> {
        let client = self.client()?;
        let kind = if self.bootstrap_controller.is_some() { CONTROLLER_ENDPOINTS } else { BROKER_ENDPOINTS };
        let request = DescribeClusterRequest::default()
            .with_endpoint_type(kind)
            .with_include_fenced_brokers(self.include_fenced_brokers);
        let asked = client.retry(async || {
            let response = client.any().await?.call(&request).await?;
            ClientError::check(response.error_code, response.error_message.as_deref())?;
            Ok(response)
        });
        Ok(asked.await?)
    }
}

/// Kinds of endpoints on the wire (KIP-919).
const BROKER_ENDPOINTS: i8 = 1;
const CONTROLLER_ENDPOINTS: i8 = 2;

pub async fn run(arguments: ClusterArguments, out: &mut Output) -> Result<(), CliError> {
    match arguments.action {
        Action::ClusterId(reach) => {
            let id = reach.describe().await?.cluster_id.to_string();
            match reach.json {
                true => out.json(&json!({"cluster_id": id}))?,
                false => writeln!(out, "Cluster ID: {id}")?,
            }
        }
        Action::ListEndpoints(reach) => list_endpoints(&reach, out).await?,
        Action::Unregister { reach, id } => {
            let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(id));
            let response = reach.client()?.any().await?.call(&request).await?;
            ClientError::check(response.error_code, response.error_message.as_deref())?;
            match reach.json {
                true => out.json(&json!({"unregistered": id}))?,
                false => writeln!(out, "Broker {id} is no longer registered.")?,
            }
        }
    }
    Ok(())
}

async fn list_endpoints(reach: &Reach, out: &mut Output) -> Result<(), CliError> {
    let mut nodes = reach.describe().await?.brokers;
    nodes.sort_by_key(|node| node.broker_id.0);
    let is_controller = reach.bootstrap_controller.is_some();
    let kind = if is_controller { "controller" } else { "broker" };
    let width = nodes.iter().map(|node| node.host.chars().count()).max().unwrap_or(0).max(9);
    // Kafka's layout: controllers have no state.
    let has_state = !is_controller;
    if !reach.json {
        let (id, host, port, rack) = ("ID", "HOST", "PORT", "RACK");
        let state = if has_state { format!("{:<10} ", "STATE") } else { String::new() };
        writeln!(out, "{id:<10} {host:<width$} {port:<10} {rack:<10} {state}{:<15}", "ENDPOINT_TYPE")?;
    }
    for node in &nodes {
        let rack = node.rack.as_ref().map(ToString::to_string);
        let state = if node.is_fenced { "fenced" } else { "unfenced" };
        let (id, host, port) = (node.broker_id.0, node.host.as_str(), node.port);
        if reach.json {
            out.json(&json!({
                "id": id, "host": host, "port": port, "rack": rack, "endpoint_type": kind,
                "state": has_state.then_some(state),
            }))?;
            continue;
        }
        let rack = rack.as_deref().unwrap_or("null");
        let state = if has_state { format!("{state:<10} ") } else { String::new() };
        writeln!(out, "{id:<10} {host:<width$} {port:<10} {rack:<10} {state}{kind:<15}")?;
    }
    Ok(())
}
