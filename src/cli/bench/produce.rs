//! `raftsman bench produce`: the same batches, again and again.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kafka_protocol::messages::ProduceRequest;
use serde_json::json;

use super::engine::{self, RunArguments};
use super::frame::{BatchSize, BuiltBatch, Frame, ProduceSettings, batch, produce_error, produce_frames};
use super::load::{Load, drive};
use super::report::Report;
use super::target::{ClusterArguments, Target, TopicArguments, next_offsets_sum};
use crate::cli::output::{CliError, Output};
use crate::cli::time::now_ms;
use crate::client::records::Compression;

/// The versions of Produce whose answers are read here.
const PRODUCE_VERSIONS: (i16, i16) = (3, 13);

/// How a batch looks.
#[derive(Debug, Clone, Args)]
pub struct BatchArguments {
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    pub record_size: u32,
    /// Bytes of a batch before compression
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=256 << 20))]
    pub batch_bytes: u32,
    /// Records of a batch, in place of --batch-bytes
    #[arg(long, conflicts_with = "batch_bytes", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub batch_records: Option<u32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = compression)]
    pub compression: Compression,
    /// all (-1), 1 or 0
    #[arg(long, default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    pub acks: i16,
}

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman bench produce --create-topic --partitions 3 --batch-bytes 1048576 --warmup 2 --duration 10
  raftsman bench produce --record-size 100 --batch-records 1 --connections 16 --depth 1
  raftsman bench produce --rate 50000 --acks 1 --compression zstd --json
  raftsman bench produce --requests 1000 --broker-pid $(pidof raftsman)

Batches are built once and sent again and again, without idempotence. Where other producers are quiet, what
the broker holds in the end is checked against what it acknowledged."
)]
pub struct ProduceArguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    #[command(flatten)]
    pub topic: TopicArguments,
    #[command(flatten)]
    pub batch: BatchArguments,
    /// Connections; each writes to all partitions in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Requests under way on a connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub depth: u32,
    /// Records a second over all connections; as fast as it goes when absent
    #[arg(long)]
    pub rate: Option<f64>,
    #[command(flatten)]
    pub run: RunArguments,
}

fn compression(text: &str) -> Result<Compression, String> {
    Compression::ALL
        .into_iter()
        .find(|known| known.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("expected one of {}", Compression::ALL.map(Compression::name).join(", ")))
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("expected all (-1), 1 or 0".to_owned()),
    }
}

impl BatchArguments {
    pub fn build(&self) -> Result<BuiltBatch, CliError> {
        let size = match self.batch_records {
            Some(records) => BatchSize::Records(records),
            None => BatchSize::Bytes(self.batch_bytes as usize),
        };
        Ok(batch(self.record_size as usize, size, self.compression, now_ms())?)
    }

    /// Requests by partition, from 0 to the last one in use; with their version.
    pub async fn frames(
        &self,
        target: &Target,
        built: &BuiltBatch,
    ) -> Result<(Arc<Vec<Frame>>, i16), CliError> {
        let newest = if target.topic.id.is_nil() { PRODUCE_VERSIONS.1 - 1 } else { PRODUCE_VERSIONS.1 };
        let version = target.version::<ProduceRequest>(PRODUCE_VERSIONS.0, newest).await?;
        let options = target.client.options();
        let settings = ProduceSettings {
            topic: &target.topic,
            version,
            acks: self.acks,
            timeout_ms: options.timeout_ms(),
            client_id: &options.client_id,
        };
        let last = target.partitions().max().unwrap_or(0);
        let partitions = (0..=last).collect::<Vec<_>>();
        Ok((Arc::new(produce_frames(&settings, &partitions, &built.bytes)?), version))
    }
}

pub(super) async fn run(arguments: ProduceArguments, out: &mut Output) -> Result<(), CliError> {
    let report = measure(&arguments, "produce").await?;
    report.print(out, arguments.cluster.json)
}

pub(super) async fn measure(arguments: &ProduceArguments, workload: &str) -> Result<Report, CliError> {
    let connections = arguments.connections as usize;
    engine::raise_open_files(connections)?;
    let target = Target::find(&arguments.cluster, &arguments.topic).await?;
    let built = arguments.batch.build()?;
    let (frames, version) = arguments.batch.frames(&target, &built).await?;
    let interval = match arguments.rate {
        None => None,
        Some(rate) if rate.is_finite() && rate > 0.0 => {
            let seconds = built.records as f64 * f64::from(arguments.connections) / rate;
            let interval = Duration::try_from_secs_f64(seconds);
            Some(interval.map_err(|error| CliError::Usage(format!("--rate {rate}: {error}")))?)
        }
        Some(rate) => return Err(CliError::Usage(format!("--rate {rate}: expected more than 0"))),
    };
    let load = Load {
        frames,
        version,
        check: produce_error,
        records: built.records,
        bytes: built.bytes.len() as u64,
        depth: arguments.depth as usize,
        interval,
        stagger: interval.unwrap_or_default() / arguments.connections,
        is_answered: arguments.batch.acks != 0,
    };
    let before = target.ends().await?;
    let tasks = target.shared_lanes(connections).into_iter().map(|lane| {
        let load = load.clone();
        engine::task(move |worker| drive(worker, lane, load))
    });
    let outcome = engine::run(&arguments.run.plan(arguments.cluster.broker_pid), tasks.collect())?;
    let held = next_offsets_sum(&target.ends().await?) - next_offsets_sum(&before);
    let mut report = outcome.report(workload);
    let written = i64::try_from(outcome.all.records).unwrap_or(i64::MAX);
    if held < written {
        return Err(CliError::Failed(format!(
            "the broker has acknowledged {written} records, and holds {held} more than before"
        )));
    }
    report.verified = Some(if held == written {
        format!("{held} records written and held")
    } else {
        format!("{written} records written; others have written {} meanwhile", held - written)
    });
    report.more.extend([
        ("connections".to_owned(), json!(arguments.connections)),
        ("partitions".to_owned(), json!(target.partitions().count())),
        ("batch_bytes".to_owned(), json!(built.bytes.len())),
        ("batch_records".to_owned(), json!(built.records)),
    ]);
    Ok(report)
}
