//! `raftsman configs` (kafka-configs): describe and change the configurations of topics, brokers, groups
//! and loggers.

mod describe;
mod pairs;

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::json;

use super::output::{CliError, Output};
use super::properties::ConnectionArguments;
use crate::client::Client;
use crate::client::configs::{ConfigChange, EntityType};

/// Arguments of `raftsman configs`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    group = ArgGroup::new("action").required(true).args(["alter", "describe"]),
    group = ArgGroup::new("entity")
        .args(["entity_type", "topic", "broker", "broker_defaults", "broker_logger", "group"]),
    after_help = "Examples:
  raftsman configs --describe --topic orders                       what the topic has of its own
  raftsman configs --describe --topic orders --all                 and what follows from brokers and defaults
  raftsman configs --alter --topic orders --add-config retention.ms=86400000,cleanup.policy=[compact,delete]
  raftsman configs --alter --topic orders --delete-config retention.ms
  raftsman configs --describe --entity-type topics                 every topic
  raftsman configs --alter --broker-defaults --add-config log.retention.ms=3600000
  raftsman configs --describe --broker 1 --all --json
  raftsman configs --alter --broker-logger 1 --add-config raftsman::segment=DEBUG
  raftsman configs --alter --group checkout --add-config consumer.session.timeout.ms=50000"
)]
pub struct ConfigsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Change configurations
    #[arg(long, conflicts_with = "all")]
    pub alter: bool,
    /// Print configurations
    #[arg(long, conflicts_with_all = ["add_config", "add_config_file", "delete_config"])]
    pub describe: bool,
    /// With --describe: what follows from brokers and defaults, too
    #[arg(long)]
    pub all: bool,
    /// What is configured
    #[arg(long, value_name = "TYPE")]
    pub entity_type: Option<EntityKind>,
    /// Which one of the type: a topic, a broker's id, a group
    #[arg(long, value_name = "NAME", requires = "entity_type", conflicts_with = "entity_default")]
    pub entity_name: Option<String>,
    /// With --entity-type brokers: the defaults of all brokers
    #[arg(long, requires = "entity_type")]
    pub entity_default: bool,
    /// A topic (--entity-type topics --entity-name …)
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// A broker (--entity-type brokers --entity-name …)
    #[arg(long, value_name = "ID")]
    pub broker: Option<String>,
    /// The defaults of all brokers (--entity-type brokers --entity-default)
    #[arg(long)]
    pub broker_defaults: bool,
    /// The loggers of a broker (--entity-type broker-loggers --entity-name …)
    #[arg(long, value_name = "ID")]
    pub broker_logger: Option<String>,
    /// A group (--entity-type groups --entity-name …)
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Values to set; brackets around one that has commas: `k1=v1,k2=[v1,v2]`
    #[arg(long, value_name = "KEY=VALUE,…", requires = "alter")]
    pub add_config: Option<String>,
    /// A properties file with values to set
    #[arg(long, value_name = "FILE", requires = "alter", conflicts_with = "add_config")]
    pub add_config_file: Option<PathBuf>,
    /// Keys to take back to their defaults
    #[arg(long, value_name = "KEY,…", requires = "alter")]
    pub delete_config: Option<String>,
    /// Print a table also where nobody looks
    #[arg(long, requires = "describe", conflicts_with = "json")]
    pub table: bool,
    /// One JSON object per entity
    #[arg(long)]
    pub json: bool,
    /// Taken for the sake of scripts; nothing asks back
    #[arg(long, hide = true)]
    pub force: bool,
    #[command(flatten)]
    unserved: Unserved,
}

/// Options of Kafka's tool about things that are not there. They are known, so that they can be refused by name.
#[derive(Debug, Args)]
struct Unserved {
    #[arg(long, hide = true)]
    bootstrap_controller: Option<String>,
    #[arg(long, hide = true)]
    user: Option<String>,
    #[arg(long, hide = true)]
    user_defaults: bool,
    #[arg(long, hide = true)]
    client: Option<String>,
    #[arg(long, hide = true)]
    client_defaults: bool,
    #[arg(long, hide = true)]
    client_metrics: Option<String>,
    #[arg(long, hide = true)]
    ip: Option<String>,
    #[arg(long, hide = true)]
    ip_defaults: bool,
}

impl Unserved {
    fn check(&self) -> Result<(), CliError> {
        let given = [
            (
                self.bootstrap_controller.is_some(),
                "--bootstrap-controller: ask a broker, with --bootstrap-server",
            ),
            (self.user.is_some() || self.user_defaults, "--user: users and quotas are not served yet"),
            (self.client.is_some() || self.client_defaults, "--client: quotas are not served yet"),
            (self.client_metrics.is_some(), "--client-metrics: client metrics (KIP-714) are not served"),
            (self.ip.is_some() || self.ip_defaults, "--ip: quotas are not served yet"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, why)) => Err(CliError::Usage((*why).to_owned())),
            None => Ok(()),
        }
    }
}

/// Kafka's names of what has configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EntityKind {
    Topics,
    Brokers,
    BrokerLoggers,
    Groups,
}

/// What a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entity {
    kind: EntityType,
    /// Empty: the defaults of all brokers.
    name: String,
}

impl Entity {
    fn type_name(&self) -> &'static str {
        match self.kind {
            EntityType::Topic => "topic",
            EntityType::Broker => "broker",
            EntityType::BrokerLogger => "broker-logger",
            EntityType::Group => "group",
        }
    }

    fn is_default(&self) -> bool {
        self.kind == EntityType::Broker && self.name.is_empty()
    }
}

impl ConfigsArguments {
    /// The type that is meant, and the name where one is given.
    fn entity(&self) -> Result<(EntityType, Option<String>), CliError> {
        let shortcuts = [
            (EntityType::Topic, &self.topic),
            (EntityType::Broker, &self.broker),
            (EntityType::BrokerLogger, &self.broker_logger),
            (EntityType::Group, &self.group),
        ];
        let (kind, name) = match shortcuts.into_iter().find_map(|(kind, name)| Some((kind, name.clone()?))) {
            Some((kind, name)) => (kind, Some(name)),
            None if self.broker_defaults => return Ok((EntityType::Broker, Some(String::new()))),
            None if self.entity_type.is_none() => {
                return Err(CliError::Usage(
                    "name what is configured: --topic, --broker, --broker-defaults, --broker-logger, --group, or \
                     --entity-type with or without --entity-name"
                        .to_owned(),
                ));
            }
            None => {
                let kind = match self.entity_type {
                    Some(EntityKind::Topics) => EntityType::Topic,
                    Some(EntityKind::BrokerLoggers) => EntityType::BrokerLogger,
                    Some(EntityKind::Groups) => EntityType::Group,
                    Some(EntityKind::Brokers) | None => EntityType::Broker,
                };
                (kind, self.entity_name.clone())
            }
        };
        if self.entity_default && kind != EntityType::Broker {
            return Err(CliError::Usage("--entity-default goes with --entity-type brokers alone".to_owned()));
        }
        if name.as_ref().is_some_and(String::is_empty) {
            return Err(CliError::Usage("the entity's name is empty".to_owned()));
        }
        Ok((kind, if self.entity_default { Some(String::new()) } else { name }))
    }

    fn changes(&self) -> Result<Vec<ConfigChange>, CliError> {
        let mut set = match (&self.add_config, &self.add_config_file) {
            (Some(text), _) => pairs::parse(text).map_err(CliError::Usage)?,
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| CliError::while_doing(format!("read {}", path.display()), error))?;
                crate::config::properties::parse(&text)
            }
            (None, None) => Default::default(),
        };
        let deleted = self.delete_config.as_deref().unwrap_or_default().split(',').map(str::trim);
        let mut changes = Vec::new();
        for key in deleted.filter(|key| !key.is_empty()) {
            if set.contains_key(key) {
                return Err(CliError::Usage(format!("{key} is to be set and to be deleted")));
            }
            changes.push((key.to_owned(), None));
        }
        changes.extend(std::mem::take(&mut set).into_iter().map(|(key, value)| (key, Some(value))));
        if changes.is_empty() {
            let wanted =
                "--alter needs --add-config, --add-config-file or --delete-config with at least one key";
            return Err(CliError::Usage(wanted.to_owned()));
        }
        Ok(changes)
    }
}

pub async fn run(arguments: ConfigsArguments, out: &mut Output) -> Result<(), CliError> {
    arguments.unserved.check()?;
    let (kind, name) = arguments.entity()?;
    let client = arguments.connection.client(&arguments.connection.properties(&[])?)?;
    if arguments.describe {
        return describe::describe(&client, &arguments, kind, name, out).await;
    }
    let changes = arguments.changes()?;
    let name = name.ok_or_else(|| {
        let one = "--alter needs one entity: --entity-name, --entity-default, or a shortcut such as --topic";
        CliError::Usage(one.to_owned())
    })?;
    alter(&client, &arguments, Entity { kind, name }, &changes, out).await
}

async fn alter(
    client: &Client,
    arguments: &ConfigsArguments,
    entity: Entity,
    changes: &[ConfigChange],
    out: &mut Output,
) -> Result<(), CliError> {
    let what = match entity.is_default() {
        true => "default config for brokers in the cluster".to_owned(),
        false => format!("config for {} {}", entity.type_name(), entity.name),
    };
    client
        .alter_configs(entity.kind, &entity.name, changes)
        .await
        .map_err(|error| CliError::while_doing(format!("update {what}"), error))?;
    if arguments.json {
        let keys = |is_set: bool| {
            let keys = changes.iter().filter(|(_, value)| value.is_some() == is_set).map(|(key, _)| key);
            keys.collect::<Vec<_>>()
        };
        out.json(&json!({
            "entity_type": entity.type_name(), "entity_name": entity.name,
            "set": keys(true), "deleted": keys(false),
        }))?;
    } else {
        writeln!(out, "Completed updating {what}.")?;
    }
    Ok(())
}
