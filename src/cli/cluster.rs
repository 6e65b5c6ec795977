//! `raftsman cluster` (kafka-cluster): the cluster's id, and where its brokers listen.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;

/// Arguments of `raftsman cluster`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman cluster cluster-id
  raftsman cluster list-endpoints --bootstrap-server 127.0.0.1:9092 --json"
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
    /// Refused: there is no other broker to forget
    #[command(hide = true)]
    Unregister {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

/// Where the cluster is, by the options of Kafka's tool.
#[derive(Debug, Args)]
pub struct Reach {
    /// Brokers to ask first, host:port[,host:port…]
    #[arg(long, short, value_name = "HOST:PORT,…", default_value = "127.0.0.1:9092")]
    pub bootstrap_server: String,
    /// File of client properties
    #[arg(long, short, alias = "config", value_name = "FILE")]
    pub command_config: Option<PathBuf>,
    /// Without effect with one node: a broker that is fenced is not there
    #[arg(long, hide = true)]
    pub include_fenced_brokers: bool,
    #[arg(long, short = 'C', hide = true)]
    pub bootstrap_controller: Option<String>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(arguments: ClusterArguments, out: &mut Output) -> Result<(), CliError> {
    let (reach, lists) = match arguments.action {
        Action::ClusterId(reach) => (reach, false),
        Action::ListEndpoints(reach) => (reach, true),
        Action::Unregister { .. } => {
            return Err(CliError::Failed(
                "unregister: a cluster has one node yet, which is this one".to_owned(),
            ));
        }
    };
    if reach.bootstrap_controller.is_some() {
        return Err(CliError::Usage(
            "--bootstrap-controller: ask a broker, with --bootstrap-server".to_owned(),
        ));
    }
    let connection = ConnectionArguments {
        bootstrap_server: reach.bootstrap_server,
        command_config: reach.command_config,
        command_property: Vec::new(),
    };
    let client = connection.client(&connection.properties(&[])?)?;
    let metadata = client.retry(async || client.fetch_metadata(Some(&[])).await).await?;
    if !lists {
        let id = metadata.cluster_id.as_ref().map(ToString::to_string);
        match id {
            _ if reach.json => out.json(&json!({"cluster_id": id}))?,
            Some(id) => writeln!(out, "Cluster ID: {id}")?,
            None => writeln!(out, "No cluster ID found. The Kafka version is probably too old.")?,
        }
        return Ok(());
    }
    let mut brokers = metadata.brokers;
    brokers.sort_by_key(|broker| broker.node_id.0);
    let width = brokers.iter().map(|broker| broker.host.chars().count()).max().unwrap_or(0).max(9);
    if !reach.json {
        let (id, host, port, rack) = ("ID", "HOST", "PORT", "RACK");
        let (state, kind) = ("STATE", "ENDPOINT_TYPE");
        writeln!(out, "{id:<10} {host:<width$} {port:<10} {rack:<10} {state:<10} {kind:<15}")?;
    }
    for broker in &brokers {
        let rack = broker.rack.as_ref().map(ToString::to_string);
        if reach.json {
            out.json(&json!({
                "id": broker.node_id.0, "host": broker.host.to_string(), "port": broker.port, "rack": rack,
                "state": "unfenced", "endpoint_type": "broker",
            }))?;
            continue;
        }
        let (id, host, port) = (broker.node_id.0, broker.host.as_str(), broker.port);
        let rack = rack.as_deref().unwrap_or("null");
        // Metadata names those alone that are not fenced.
        let (state, kind) = ("unfenced", "broker");
        writeln!(out, "{id:<10} {host:<width$} {port:<10} {rack:<10} {state:<10} {kind:<15}")?;
    }
    Ok(())
}
