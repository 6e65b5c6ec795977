//! `raftsman bench connections`: many connections that do nothing.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::engine::{self, Answers, End, Plan, Worker, seconds, usages};
use super::load::fence;
use super::target::{ClusterArguments, client_of, resolve};
use crate::cli::output::{CliError, Output};

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman bench connections --count 10000 --duration 10 --broker-pid $(pidof raftsman)
  raftsman bench produce --connections 1000 --depth 1 --batch-records 1    the same, but busy

Each connection asks for ApiVersions once, as clients do, and is then idle."
)]
pub struct ConnectionsArguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Connections
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// Seconds for which they are idle
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub duration: Duration,
}

async fn idle(worker: Worker, address: SocketAddr) -> Result<(), String> {
    let mut stream = worker.connect(address).await?;
    let mut answers = Answers::new(1024);
    fence(&mut stream, &mut answers).await?;
    // The buffers of ten thousand are not what is measured.
    drop(answers);
    worker.ready().await;
    worker.over().await;
    Ok(())
}

pub(super) async fn run(arguments: ConnectionsArguments, out: &mut Output) -> Result<(), CliError> {
    engine::raise_open_files(arguments.count as usize)?;
    let client = client_of(&arguments.cluster)?;
    let connection = client.any().await?;
    let address = resolve(connection.address())?;
    let before = usages(arguments.cluster.broker_pid)?;
    let plan = Plan {
        warmup: Duration::ZERO,
        end: End::After(arguments.duration),
        threads: 1,
        broker_pid: arguments.cluster.broker_pid,
    };
    let tasks = (0..arguments.count).map(|_| engine::task(move |worker| idle(worker, address)));
    let outcome = engine::run(&plan, tasks.collect())?;
    let mut report = outcome.report("connections, idle").with("connections", json!(arguments.count));
    if let (Some(before), Some(broker)) = (before.1, &report.broker) {
        let grown = broker.resident_bytes.saturating_sub(before.resident_bytes);
        let setup = broker.cpu_seconds;
        report = report
            .with("bytes_per_connection", json!(grown as f64 / f64::from(arguments.count)))
            .with("idle_cpu_seconds", json!(setup));
    }
    report.print(out, arguments.cluster.json)
}
