//! `raftsman bench`: what a cluster can do and what its broker pays for it, by a load generator that costs
//! next to nothing itself.

mod connections;
mod engine;
mod fetch;
mod frame;
mod groups;
mod latency;
mod load;
pub mod perf_tests;
mod produce;
mod report;
mod target;
mod usage;

use clap::{Args, Subcommand};

use super::output::{CliError, Output};

/// Arguments of `raftsman bench`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman bench produce --create-topic --partitions 3 --record-size 1024 --batch-bytes 1048576
  raftsman bench fetch --passes 5
  raftsman bench latency --rate 10000
  raftsman bench connections --count 10000
  raftsman bench groups --groups 16 --commit

It talks to any Kafka cluster. With --broker-pid (a broker on this machine) it also tells what the broker's
process has used."
)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub workload: Workload,
}

#[derive(Debug, Subcommand)]
pub enum Workload {
    /// Write batches as fast as they are taken, or at a rate
    Produce(produce::ProduceArguments),
    /// Read what is there, or what comes
    Fetch(fetch::FetchArguments),
    /// Write at a fixed rate and read it, end to end
    Latency(latency::LatencyArguments),
    /// Open many connections that are idle
    Connections(connections::ConnectionsArguments),
    /// Join groups, and commit
    Groups(groups::GroupsArguments),
}

pub async fn run(arguments: BenchArguments, out: &mut Output) -> Result<(), CliError> {
    match arguments.workload {
        Workload::Produce(arguments) => produce::run(arguments, out).await,
        Workload::Fetch(arguments) => fetch::run(arguments, out).await,
        Workload::Latency(arguments) => latency::run(arguments, out).await,
        Workload::Connections(arguments) => connections::run(arguments, out).await,
        Workload::Groups(arguments) => groups::run(arguments, out).await,
    }
}
