//! The command line: `raftsman <command>`, and the same commands under the names of Kafka's scripts.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line makes no sense. Results go to standard output, in
//! Kafka's layout where scripts read it, or as JSON with `--json`; messages go to standard error.

// Tools have a process and a terminal of their own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api_versions;
pub mod bench;
pub mod cluster;
pub mod configs;
pub mod consume;
pub mod delete_records;
pub mod deserializer;
pub mod dev;
pub mod dump_log;
pub mod elect_leaders;
pub mod features;
pub mod group_records;
pub mod groups;
pub mod log_dirs;
pub mod manual;
pub mod offsets;
pub mod output;
pub mod pattern;
pub mod produce;
pub mod properties;
pub mod quorum;
pub mod reassign;
pub mod record_text;
pub mod scripts;
pub mod storage;
pub mod time;
pub mod topics;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use output::{CliError, Output};
use scripts::NotRun;

/// A Kafka-wire-compatible log broker, and its tools.
#[derive(Debug, Parser)]
#[command(
    name = "raftsman",
    version,
    propagate_version = true,
    infer_long_args = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands; each is also the Kafka script of the name given with it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker (kafka-server-start)
    Server(crate::node::command::ServerArguments),
    /// Create, list, describe, change and delete topics (kafka-topics)
    Topics(topics::TopicsArguments),
    /// Describe and change configurations of topics, brokers and groups (kafka-configs)
    Configs(configs::ConfigsArguments),
    /// First, last, or offsets by time of partitions (kafka-get-offsets)
    Offsets(offsets::OffsetsArguments),
    /// Write records from standard input or a file (kafka-console-producer)
    Produce(produce::ProduceArguments),
    /// Print the records of a topic (kafka-console-consumer)
    Consume(consume::ConsumeArguments),
    /// List, describe, reset and delete consumer groups (kafka-consumer-groups, kafka-groups)
    Groups(groups::GroupsArguments),
    /// Delete the oldest records of partitions (kafka-delete-records)
    DeleteRecords(delete_records::DeleteRecordsArguments),
    /// Sizes of partitions on the brokers' disks (kafka-log-dirs)
    LogDirs(log_dirs::LogDirsArguments),
    /// The cluster's id, and where its brokers listen (kafka-cluster)
    Cluster(cluster::ClusterArguments),
    /// What each broker serves, and in which versions (kafka-broker-api-versions)
    ApiVersions(api_versions::ApiVersionsArguments),
    /// Move replicas between brokers (kafka-reassign-partitions)
    Reassign(reassign::ReassignArguments),
    /// Give leaderships back to preferred leaders, or a leader to partitions without one (kafka-leader-election)
    ElectLeaders(elect_leaders::ElectLeadersArguments),
    /// Who leads the metadata quorum, and how far its members are (kafka-metadata-quorum)
    Quorum(quorum::QuorumArguments),
    /// The features of the cluster with their levels (kafka-features)
    Features(features::FeaturesArguments),
    /// Tell a new data folder its cluster, before its node first starts (kafka-storage)
    Storage(storage::StorageArguments),
    /// Print or check the files of a log (kafka-dump-log)
    DumpLog(dump_log::DumpLogArguments),
    /// Measure a cluster: throughput, latency, and what its broker pays (kafka-producer-perf-test and others)
    Bench(bench::BenchArguments),
    /// Try things out: several nodes on this machine
    Dev(dev::DevArguments),
    /// Print what a shell needs to complete this program's command lines
    Completions(manual::CompletionsArguments),
    /// Print this program's manual, or write a page for each command into a folder
    Man(manual::ManArguments),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match read_command_line() {
        Ok(cli) => cli,
        Err(NotRun::Absent(reason)) => {
            // Nowhere to report a failure to report.
            drop(writeln!(io::stderr(), "error: {reason}"));
            return ExitCode::FAILURE;
        }
        Err(NotRun::Usage(error)) => {
            // Help and version are answers (0, standard output), the rest is wrong usage (2).
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ => ExitCode::from(code),
            };
        }
    };
    let mut out = Output::stdout();
    let result = match cli.command {
        Command::Server(arguments) => return crate::node::command::run(&arguments),
        Command::Topics(arguments) => block_on(topics::run(arguments, &mut out)),
        Command::Configs(arguments) => block_on(configs::run(arguments, &mut out)),
        Command::Offsets(arguments) => block_on(offsets::run(arguments, &mut out)),
        Command::Produce(arguments) => block_on(produce::run(arguments, &mut out)),
        Command::Consume(arguments) => block_on_two_threads(consume::run(arguments, &mut out)),
        Command::Groups(arguments) => block_on(groups::run(arguments, &mut out)),
        Command::DeleteRecords(arguments) => block_on(delete_records::run(arguments, &mut out)),
        Command::Reassign(arguments) => block_on(reassign::run(arguments, &mut out)),
        Command::ElectLeaders(arguments) => block_on(elect_leaders::run(arguments, &mut out)),
        Command::Storage(arguments) => storage::run(arguments, &mut out),
        Command::DumpLog(arguments) => dump_log::run(&arguments, &mut out),
        Command::Bench(arguments) => block_on_two_threads(bench::run(arguments, &mut out)),
        Command::Cluster(arguments) => block_on(cluster::run(arguments, &mut out)),
        Command::Quorum(arguments) => block_on(quorum::run(arguments, &mut out)),
        Command::Features(arguments) => block_on(features::run(arguments, &mut out)),
        Command::ApiVersions(arguments) => block_on(api_versions::run(arguments, &mut out)),
        Command::Dev(arguments) => block_on(dev::run(arguments, &mut out)),
        Command::Completions(arguments) => manual::completions(&arguments, Cli::command(), &mut out),
        Command::Man(arguments) => manual::man(&arguments, Cli::command(), &mut out),
        Command::LogDirs(arguments) => block_on(log_dirs::run(arguments, &mut out)),
    };
    finish(result.and_then(|()| Ok(out.flush()?)))
}

/// The arguments of the process, whichever name it was given.
fn read_command_line() -> Result<Cli, NotRun> {
    let mut root = Cli::command();
    root.build();
    let arguments = scripts::command_line(std::env::args_os().collect(), &root)?;
    let matches = root.try_get_matches_from(arguments).map_err(NotRun::Usage)?;
    Cli::from_arg_matches(&matches).map_err(NotRun::Usage)
}

/// Runs a tool on one thread.
fn block_on<F: Future<Output = Result<(), CliError>>>(tool: F) -> Result<(), CliError> {
    block_on_with(&mut tokio::runtime::Builder::new_current_thread(), tool)
}

/// Runs a tool on one thread and its connections on another, so that they go on while the tool waits to
/// write its output.
fn block_on_two_threads<F: Future<Output = Result<(), CliError>>>(tool: F) -> Result<(), CliError> {
    block_on_with(tokio::runtime::Builder::new_multi_thread().worker_threads(1), tool)
}

/// Tasks that still run when the tool ends (readers of standard input) are left behind, so that the
/// process ends at once.
fn block_on_with<F: Future<Output = Result<(), CliError>>>(
    runtime: &mut tokio::runtime::Builder,
    tool: F,
) -> Result<(), CliError> {
    let runtime =
        runtime.enable_all().build().map_err(|error| CliError::while_doing("start the runtime", error))?;
    let result = runtime.block_on(tool);
    runtime.shutdown_background();
    result
}

fn finish(result: Result<(), CliError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CliError::Reported) => ExitCode::FAILURE,
        Err(error) => {
            // Nowhere to report a failure to report.
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::from(if matches!(error, CliError::Usage(_)) { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
