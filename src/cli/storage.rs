//! `raftsman storage` (kafka-storage): what a new data folder is told before its node first starts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::features;
use super::output::{CliError, Output};
use crate::config::{BrokerConfig, properties};
use crate::env::{Chance, Disk, real};
use crate::metadata::{FEATURES, KAFKA_METADATA_FEATURE};
use crate::node::formatting::{self, Bootstrap, FirstQuorum, Formatted, Formatting, InitialController};
use crate::types::{uuid_from_base64, uuid_to_base64};

/// Arguments of `raftsman storage`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman storage random-uuid
  raftsman storage format -t 7VdyVqJaR9W0p1pFY4FuxA -c server.properties --standalone
  raftsman storage format -t 7VdyVqJaR9W0p1pFY4FuxA -c server.properties --no-initial-controllers
  raftsman storage info -c server.properties

A node that is alone, or one of controller.quorum.voters, formats itself when it first starts; formatting it
before gives its cluster an id of your choice."
)]
pub struct StorageArguments {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print what the data folder is
    Info {
        /// File of the node's configuration
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Tell a new data folder its cluster, and how its node comes by the metadata
    Format(FormatArguments),
    /// Print an id that nobody has
    RandomUuid,
    /// Refused
    #[command(hide = true)]
    VersionMapping(features::Rest),
    /// Refused
    #[command(hide = true)]
    FeatureDependencies(features::Rest),
}

#[derive(Debug, Args)]
pub struct FormatArguments {
    /// File of the node's configuration
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// The id of the cluster
    #[arg(long, short = 't', value_name = "ID")]
    pub cluster_id: String,
    /// A folder that is formatted stays as it is
    #[arg(long, short = 'g')]
    pub ignore_formatted: bool,
    /// The release of Kafka whose features a new cluster begins with
    #[arg(long, short, value_name = "RELEASE")]
    pub release_version: Option<String>,
    /// A feature with the level that a new cluster begins with; may be repeated
    #[arg(long, short, value_name = "FEATURE=LEVEL")]
    pub feature: Vec<String>,
    /// This controller is a new cluster by itself; others may be added
    #[arg(long, short, conflicts_with_all = ["no_initial_controllers", "initial_controllers"])]
    pub standalone: bool,
    /// A cluster that is there, at controller.quorum.bootstrap.servers, takes this node in
    #[arg(long, short = 'N', conflicts_with = "initial_controllers")]
    pub no_initial_controllers: bool,
    /// The controllers of a new cluster, id@host:port:directory-id,…; the same for all of them
    #[arg(long, short = 'I', value_name = "CONTROLLERS")]
    pub initial_controllers: Option<String>,
    /// Refused: there are no credentials yet
    #[arg(long, short = 'S', value_name = "CREDENTIAL", hide = true)]
    pub add_scram: Vec<String>,
}

pub fn run(arguments: StorageArguments, out: &mut Output) -> Result<(), CliError> {
    let surroundings = real::surroundings();
    match arguments.action {
        Action::RandomUuid => writeln!(out, "{}", uuid_to_base64(surroundings.chance.kafka_uuid()))?,
        Action::Info { config } => info(&*surroundings.disk, &read(&config)?, out)?,
        Action::Format(arguments) => format(&*surroundings.disk, &*surroundings.chance, &arguments, out)?,
        Action::VersionMapping(_) | Action::FeatureDependencies(_) => {
            return Err(CliError::Failed(features::NO_MAPPING.to_owned()));
        }
    }
    Ok(())
}

fn read(path: &std::path::Path) -> Result<BrokerConfig, CliError> {
    let wrong = |why: String| CliError::Failed(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let read = BrokerConfig::from_values(properties::parse(&text));
    Ok(read.map_err(|error| wrong(error.to_string()))?.0)
}

/// In Kafka's layout.
fn info(disk: &dyn Disk, config: &BrokerConfig, out: &mut Output) -> Result<(), CliError> {
    let dir = config.storage.log_dir();
    let shown = dir.display();
    let meta = formatting::meta_properties(disk, dir);
    let mut problems = Vec::new();
    match &meta {
        _ if !disk.exists(dir) => problems.push(format!("{shown} does not exist")),
        Ok(None) => problems.push(format!("{shown} is not formatted.")),
        Err(why) => problems.push(format!("Error loading {shown}/meta.properties: {why}")),
        Ok(Some(_)) => {}
    }
    if disk.exists(dir) {
        writeln!(out, "Found log directory:\n  {shown}\n")?;
    }
    if let Ok(Some(meta)) = &meta {
        writeln!(
            out,
            "Found metadata: {{cluster.id={}, directory.id={}, node.id={}, version=1}}\n",
            meta.cluster_id,
            uuid_to_base64(meta.directory_id),
            meta.node_id
        )?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    let word = if problems.len() == 1 { "problem" } else { "problems" };
    writeln!(out, "Found {word}:")?;
    for problem in problems {
        writeln!(out, "  {problem}")?;
    }
    writeln!(out)?;
    Err(CliError::Reported)
}

fn format(
    disk: &dyn Disk,
    chance: &dyn Chance,
    arguments: &FormatArguments,
    out: &mut Output,
) -> Result<(), CliError> {
    let failed = |why: String| Err(CliError::Failed(why));
    if !arguments.add_scram.is_empty() {
        return failed("--add-scram: SASL is not served yet, so there are no credentials to add".to_owned());
    }
    if let Some(release) = &arguments.release_version
        && features::level_named(release) != Some(features::NEWEST_LEVEL)
    {
        return failed(format!(
            "--release-version {release}: a cluster has the features of Kafka 4.3 (metadata.version 4.3-IV0), and no \
             earlier ones"
        ));
    }
    let config = read(&arguments.config)?;
    let quorum = match &arguments.initial_controllers {
        Some(text) => FirstQuorum::InitialControllers(initial_controllers(text)?),
        None if arguments.standalone => FirstQuorum::Standalone,
        None if arguments.no_initial_controllers => FirstQuorum::Joins,
        None => FirstQuorum::AsConfigured,
    };
    let mut levels = BTreeMap::new();
    for text in &arguments.feature {
        let (name, level) = features::level_of(text)?;
        levels.insert(name, level);
    }
    let bootstrap = Bootstrap { quorum, features: levels };
    let formatting = Formatting {
        cluster_id: arguments.cluster_id.trim().to_owned(),
        bootstrap,
        ignores_formatted: arguments.ignore_formatted,
    };
    let formatted = formatting::format(disk, chance, &config, &formatting)
        .map_err(|error| CliError::Failed(error.to_string()))?;
    match formatted {
        Formatted::Before => writeln!(out, "All of the log directories are already formatted.")?,
        Formatted::Now { dir, is_dynamic } => {
            let chosen = &formatting.bootstrap.features;
            let level = |name: &str, first| chosen.get(name).copied().unwrap_or(first);
            let records: Vec<_> = FEATURES
                .iter()
                .map(|feature| (feature.name, level(feature.name, feature.first)))
                .filter(|(_, level)| *level > 0)
                .map(|(name, level)| format!("{name}={level}"))
                .collect();
            writeln!(out, "Bootstrap metadata: {}", records.join(", "))?;
            let what = if is_dynamic { "dynamic metadata voter directory" } else { "metadata directory" };
            let release = features::level_text(KAFKA_METADATA_FEATURE, features::NEWEST_LEVEL);
            writeln!(out, "Formatting {what} {} with metadata.version {release}.", dir.display())?;
        }
    }
    Ok(())
}

/// Reads `id@host:port:directory-id,…`.
fn initial_controllers(text: &str) -> Result<Vec<InitialController>, CliError> {
    let read = |text: &str| {
        let (id, rest) = text.trim().split_once('@')?;
        let (address, directory) = rest.rsplit_once(':')?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(InitialController {
            id: id.parse().ok().filter(|id: &i32| *id >= 0)?,
            host: Some(host.to_owned()).filter(|host| !host.is_empty())?,
            port: port.parse().ok()?,
            directory_id: uuid_from_base64(directory)?,
        })
    };
    let mut controllers: Vec<InitialController> = Vec::new();
    for text in text.split(',') {
        let wrong = || {
            let why = "expected id@host:port:directory-id, such as 1@localhost:9093:JEXY6aqzQY-32P5TStzaFg";
            CliError::Usage(format!("--initial-controllers {text}: {why}"))
        };
        let controller = read(text).ok_or_else(wrong)?;
        if controllers.iter().any(|known| known.id == controller.id) {
            return Err(CliError::Usage(format!(
                "--initial-controllers: node {} is named twice",
                controller.id
            )));
        }
        controllers.push(controller);
    }
    Ok(controllers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_controllers_are_read_as_kafka_writes_them() {
        let text = "0@example.com:8082:JEXY6aqzQY-32P5TStzaFg,1@[::1]:8083:MvDxzVmcRsaTz33bUuRU6A";
        let read = initial_controllers(text).unwrap();
        assert_eq!((read[0].id, read[0].host.as_str(), read[0].port), (0, "example.com", 8082));
        assert_eq!(
            (read[1].host.as_str(), uuid_to_base64(read[1].directory_id).as_str()),
            ("::1", "MvDxzVmcRsaTz33bUuRU6A")
        );
        for wrong in ["", "1@a:1", "1@a:1:x", "-1@a:1:JEXY6aqzQY-32P5TStzaFg", "a:1:JEXY6aqzQY-32P5TStzaFg"] {
            assert!(initial_controllers(wrong).is_err(), "{wrong}");
        }
        let twice = "1@a:1:JEXY6aqzQY-32P5TStzaFg,1@b:1:JEXY6aqzQY-32P5TStzaFg";
        assert!(initial_controllers(twice).is_err());
    }
}
