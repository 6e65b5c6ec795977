//! Printing: Kafka's lines where scripts read them, a table where a person looks.

use std::io::Write;

use serde_json::json;

use super::{ConfigsArguments, Entity};
use crate::cli::output::{CliError, Output, Table};
use crate::client::configs::{ConfigSynonym, DescribedConfig, EntityType};
use crate::client::{Client, ClientError};

pub(super) async fn describe(
    client: &Client,
    arguments: &ConfigsArguments,
    kind: EntityType,
    name: Option<String>,
    out: &mut Output,
) -> Result<(), CliError> {
    for entity in entities(client, kind, name).await? {
        let mut configs = client.describe_configs(entity.kind, &entity.name).await.map_err(|error| {
            let what = format!("describe {} '{}'", entity.type_name(), entity.name);
            CliError::while_doing(what, hint(error, &entity))
        })?;
        configs.retain(|config| arguments.all || is_own(&entity, config));
        if arguments.json {
            out.json(&as_json(&entity, &configs))?;
            continue;
        }
        let which = if arguments.all { "All" } else { "Dynamic" };
        match entity.is_default() {
            true => writeln!(out, "Default configs for brokers in the cluster are:")?,
            false => writeln!(out, "{which} configs for {} {} are:", entity.type_name(), entity.name)?,
        }
        if arguments.table || out.is_terminal() {
            print_table(&configs, out)?;
        } else {
            print_lines(&configs, out)?;
        }
    }
    Ok(())
}

/// The entity of that name, or all of the type.
async fn entities(client: &Client, kind: EntityType, name: Option<String>) -> Result<Vec<Entity>, CliError> {
    let entity = |name: String| Entity { kind, name };
    if let Some(name) = name {
        return Ok(vec![entity(name)]);
    }
    let names: Vec<String> = match kind {
        EntityType::Topic => client.all_topics().await?.into_iter().map(|topic| topic.name).collect(),
        EntityType::Group => client.configurable_groups().await?.into_iter().collect(),
        EntityType::Broker | EntityType::BrokerLogger => {
            client.retry(async || client.fetch_metadata(Some(&[])).await).await?;
            let mut names: Vec<String> = client.broker_ids().iter().map(ToString::to_string).collect();
            if kind == EntityType::Broker {
                names.push(String::new());
            }
            names
        }
    };
    Ok(names.into_iter().map(entity).collect())
}

/// Set on the entity itself.
fn is_own(entity: &Entity, config: &DescribedConfig) -> bool {
    match entity.kind {
        EntityType::Topic => config.source == "DYNAMIC_TOPIC_CONFIG",
        EntityType::Broker if entity.is_default() => config.source == "DYNAMIC_DEFAULT_BROKER_CONFIG",
        EntityType::Broker => config.source == "DYNAMIC_BROKER_CONFIG",
        EntityType::BrokerLogger => true,
        EntityType::Group => config.source == "DYNAMIC_GROUP_CONFIG",
    }
}

fn hint(error: ClientError, entity: &Entity) -> String {
    use kafka_protocol::ResponseError::UnknownTopicOrPartition;
    match error.code() {
        Some(UnknownTopicOrPartition) => {
            format!(
                "topic '{}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); see raftsman topics --list",
                entity.name
            )
        }
        _ => error.to_string(),
    }
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("null", String::as_str)
}

fn print_lines(configs: &[DescribedConfig], out: &mut Output) -> Result<(), CliError> {
    for config in configs {
        let synonym = |synonym: &ConfigSynonym| {
            format!("{}:{}={}", synonym.source, synonym.name, shown(synonym.value.as_ref()))
        };
        writeln!(
            out,
            "  {}={} sensitive={} synonyms={{{}}}",
            config.name,
            shown(config.value.as_ref()),
            config.sensitive,
            config.synonyms.iter().map(synonym).collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}

fn print_table(configs: &[DescribedConfig], out: &mut Output) -> Result<(), CliError> {
    if configs.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["KEY", "VALUE", "SOURCE", "INSTEAD-OF"]);
    for config in configs {
        let hidden = config.synonyms.iter().skip(1);
        let hidden = hidden.map(|synonym| format!("{}={}", synonym.name, shown(synonym.value.as_ref())));
        table.row(vec![
            config.name.clone(),
            if config.sensitive { "(secret)".to_owned() } else { shown(config.value.as_ref()).to_owned() },
            config.source.to_owned(),
            hidden.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.print(out)?;
    Ok(())
}

fn as_json(entity: &Entity, configs: &[DescribedConfig]) -> serde_json::Value {
    let configs = configs.iter().map(|config| {
        let synonyms = config
            .synonyms
            .iter()
            .map(|synonym| json!({"name": synonym.name, "value": synonym.value, "source": synonym.source}));
        json!({
            "name": config.name, "value": config.value, "source": config.source,
            "read_only": config.read_only, "sensitive": config.sensitive,
            "synonyms": synonyms.collect::<Vec<_>>(),
        })
    });
    json!({
        "entity_type": entity.type_name(), "entity_name": entity.name,
        "configs": configs.collect::<Vec<_>>(),
    })
}
