//! `raftsman features` (kafka-features): which features the cluster has, and at which levels.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use kafka_protocol::messages::ApiVersionsRequest;
use serde_json::json;

use super::output::{CliError, Output};
use super::quorum::GlobalReach;
use crate::client::{ClientError, text};

/// Arguments of `raftsman features`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman features describe
  raftsman features --bootstrap-server 127.0.0.1:9092 describe --json"
)]
pub struct FeaturesArguments {
    #[command(flatten)]
    pub reach: GlobalReach,
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the features with the levels that are supported, and the one that each is at
    Describe {
        /// The broker to ask
        #[arg(long, value_name = "ID")]
        node_id: Option<i32>,
        /// One JSON object for each feature
        #[arg(long)]
        json: bool,
    },
    /// Refused: there is one level of everything
    #[command(hide = true)]
    Upgrade(Rest),
    /// Refused: there is one level of everything
    #[command(hide = true)]
    Downgrade(Rest),
    /// Refused: there is one level of everything
    #[command(hide = true)]
    Disable(Rest),
    /// Refused
    #[command(hide = true)]
    VersionMapping(Rest),
    /// Refused
    #[command(hide = true)]
    FeatureDependencies(Rest),
}

#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// The feature whose levels have names.
const METADATA_VERSION: &str = "metadata.version";
/// Kafka's releases with the first level of their metadata.version; others of a release are IV1, IV2….
const RELEASES: &[(i16, &str)] = &[
    (7, "3.3"),
    (8, "3.4"),
    (9, "3.5"),
    (12, "3.6"),
    (15, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (22, "4.0"),
    (26, "4.1"),
    (28, "4.2"),
    (30, "4.3"),
];
/// The newest level that has a name here.
const NEWEST_LEVEL: i16 = 30;

/// A feature's level as Kafka writes it.
fn level_text(feature: &str, level: i16) -> String {
    let release = RELEASES.iter().rev().find(|(first, _)| *first <= level);
    match release {
        Some((first, name)) if feature == METADATA_VERSION && level <= NEWEST_LEVEL => {
            // The only one that does not begin with IV0.
            let offset = if *first == 7 { 3 } else { 0 };
            format!("{name}-IV{}", level - first + offset)
        }
        _ => level.to_string(),
    }
}

pub async fn run(arguments: FeaturesArguments, out: &mut Output) -> Result<(), CliError> {
    let (node_id, as_json) = match arguments.action {
        Action::Describe { node_id, json } => (node_id, json),
        Action::Upgrade(_) | Action::Downgrade(_) | Action::Disable(_) => {
            return Err(CliError::Failed(
                "features cannot be changed yet: there is one level of each (raftsman features describe)"
                    .to_owned(),
            ));
        }
        Action::VersionMapping(_) | Action::FeatureDependencies(_) => {
            return Err(CliError::Failed(
                "this broker's features do not depend on one another; raftsman features describe has their levels"
                    .to_owned(),
            ));
        }
    };
    let client = arguments.reach.client()?;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("raftsman"))
        .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
    let response = client
        .retry(async || {
            let connection = match node_id {
                Some(id) => client.broker(id).await?,
                None => client.any().await?,
            };
            let response = connection.call(&request).await?;
            ClientError::check(response.error_code, None)?;
            Ok(response)
        })
        .await?;
    let finalized: BTreeMap<_, _> = response
        .finalized_features
        .iter()
        .map(|feature| (feature.name.to_string(), feature.max_version_level))
        .collect();
    let mut supported: Vec<_> = response.supported_features.iter().collect();
    supported.sort_by(|left, right| left.name.cmp(&right.name));
    let epoch = response.finalized_features_epoch;
    for feature in supported {
        let name = feature.name.as_str();
        let (least, most) = (feature.min_version, feature.max_version);
        let level = finalized.get(name).copied().unwrap_or_default();
        if as_json {
            out.json(&json!({
                "feature": name, "supported_min_version": least, "supported_max_version": most,
                "finalized_version_level": level, "epoch": epoch,
            }))?;
            continue;
        }
        let [least, most, level] = [least, most, level].map(|level| level_text(name, level));
        let epoch = if epoch < 0 { "-".to_owned() } else { epoch.to_string() };
        writeln!(
            out,
            "Feature: {name:<41} SupportedMinVersion: {least:<16} SupportedMaxVersion: {most:<16} \
             FinalizedVersionLevel: {level:<16} Epoch: {epoch}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_metadata_have_kafkas_names() {
        for (level, name) in [
            (7, "3.3-IV3"),
            (8, "3.4-IV0"),
            (11, "3.5-IV2"),
            (14, "3.6-IV2"),
            (19, "3.7-IV4"),
            (21, "3.9-IV0"),
            (25, "4.0-IV3"),
            (27, "4.1-IV1"),
            (29, "4.2-IV1"),
            (30, "4.3-IV0"),
            (31, "31"),
            (0, "0"),
        ] {
            assert_eq!(level_text(METADATA_VERSION, level), name);
        }
        assert_eq!(level_text("group.version", 7), "7");
    }
}
