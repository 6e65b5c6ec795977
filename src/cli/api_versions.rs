//! `raftsman api-versions` (kafka-broker-api-versions): what each broker serves, and in which version this program
//! would ask for it.

use std::io::Write;

use clap::Args;
use kafka_protocol::messages::ApiKey;
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;

/// Arguments of `raftsman api-versions`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman api-versions --bootstrap-server 127.0.0.1:9092
  raftsman api-versions --json"
)]
pub struct ApiVersionsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// One JSON object per broker and request
    #[arg(long)]
    pub json: bool,
}

pub async fn run(arguments: ApiVersionsArguments, out: &mut Output) -> Result<(), CliError> {
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    let metadata = client.retry(async || client.fetch_metadata(Some(&[])).await).await?;
    let mut brokers = metadata.brokers;
    brokers.sort_by_key(|broker| broker.node_id.0);
    for broker in &brokers {
        let id = broker.node_id.0;
        let served = client.retry(async || client.broker(id).await).await?.served();
        let mut lines = Vec::new();
        for (key, theirs) in served {
            let known = ApiKey::try_from(key).ok();
            let name = known.map_or_else(|| "UNKNOWN".to_owned(), |key| format!("{key:?}"));
            let common = known.map(|key| theirs.intersect(&key.valid_versions()));
            let usable = common.filter(|common| common.min <= common.max).map(|common| common.max);
            if arguments.json {
                out.json(&json!({
                    "broker": id, "api_key": key, "name": name, "min_version": theirs.min,
                    "max_version": theirs.max, "usable_version": usable,
                }))?;
                continue;
            }
            let range = match theirs.min == theirs.max {
                true => theirs.max.to_string(),
                false => format!("{} to {}", theirs.min, theirs.max),
            };
            let usable =
                usable.map_or_else(|| "usable: none".to_owned(), |version| format!("usable: {version}"));
            lines.push(format!("\t{name}({key}): {range} [{usable}]"));
        }
        if !arguments.json {
            let rack = broker.rack.as_ref().map_or("null", |rack| rack.as_str());
            writeln!(out, "{}:{} (id: {id} rack: {rack} isFenced: false) -> (", broker.host, broker.port)?;
            writeln!(out, "{}\n)", lines.join(",\n"))?;
        }
    }
    Ok(())
}
