//! The command line: `raftsman <command>`, and the same commands under the names of Kafka's scripts.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line makes no sense. Results go to standard output, in
//! Kafka's layout where scripts read it, or as JSON with `--json`; messages go to standard error.

// Tools have a process and a terminal of their own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bench;
pub mod configs;
pub mod consume;
pub mod delete_records;
pub mod dump_log;
pub mod groups;
pub mod log_dirs;
pub mod offsets;
pub mod output;
pub mod pattern;
pub mod produce;
pub mod properties;
pub mod record_text;
pub mod time;
pub mod topics;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{CliError, Output};

/// A Kafka-wire-compatible log broker, and its tools.
#[derive(Debug, Parser)]
#[command(name = "raftsman", version, infer_long_args = true, arg_required_else_help = true)]
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
    /// Print or check the files of a log (kafka-dump-log)
    DumpLog(dump_log::DumpLogArguments),
    /// Measure a cluster: throughput, latency, and what its broker pays (kafka-producer-perf-test and others)
    Bench(bench::BenchArguments),
}

/// Kafka's scripts and the commands that stand in for them, with what the script takes for granted.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("kafka-topics", &["topics"]),
    ("kafka-configs", &["configs"]),
    ("kafka-get-offsets", &["offsets"]),
    ("kafka-consumer-groups", &["groups"]),
    ("kafka-groups", &["groups", "--all-types"]),
    ("kafka-delete-records", &["delete-records"]),
    ("kafka-log-dirs", &["log-dirs"]),
    ("kafka-console-producer", &["produce"]),
    ("kafka-console-consumer", &["consume"]),
    ("kafka-dump-log", &["dump-log"]),
    ("kafka-server-start", &["server"]),
];

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = under_script_name(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
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
        Command::DumpLog(arguments) => dump_log::run(&arguments, &mut out),
        Command::Bench(arguments) => block_on_two_threads(bench::run(arguments, &mut out)),
        Command::LogDirs(arguments) => block_on(log_dirs::run(arguments, &mut out)),
    };
    finish(result.and_then(|()| Ok(out.flush()?)))
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

/// Inserts the command when the binary runs under a script's name, with or without `.sh`.
fn under_script_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str);
    let name = name.map(|name| name.strip_suffix(".sh").unwrap_or(name));
    let script = SCRIPTS.iter().find(|(script, _)| Some(*script) == name);
    if let Some((_, command)) = script {
        arguments.splice(1..1, command.iter().map(OsString::from));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn script_names_choose_the_command() {
        let run = |name: &str| under_script_name(vec![name.into(), "--list".into()]);
        assert_eq!(run("/usr/bin/kafka-topics.sh"), ["/usr/bin/kafka-topics.sh", "topics", "--list"]);
        assert_eq!(run("kafka-topics"), ["kafka-topics", "topics", "--list"]);
        assert_eq!(run("kafka-groups"), ["kafka-groups", "groups", "--all-types", "--list"]);
        assert_eq!(run("raftsman"), ["raftsman", "--list"]);
    }
}
