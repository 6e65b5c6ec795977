//! `raftsman features` (kafka-features): which features the cluster has, and at which levels; and other levels for them.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, UpdateFeaturesRequest};
use serde_json::json;

use super::output::{CliError, Output};
use super::quorum::GlobalReach;
use crate::client::{Client, ClientError, text};

/// Arguments of `raftsman features`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    arg_required_else_help = true,
    after_help = "Examples:
  raftsman features describe
  raftsman features upgrade --feature eligible.leader.replicas.version=1 --dry-run
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
    /// Bring features to higher levels
    Upgrade(Change),
    /// Bring features to lower levels
    Downgrade(Downgrade),
    /// Bring features to level 0: as if they were not there
    Disable(Disable),
    /// Refused
    #[command(hide = true)]
    VersionMapping(Rest),
    /// Refused
    #[command(hide = true)]
    FeatureDependencies(Rest),
}

/// Which features, and how.
#[derive(Debug, Args)]
pub struct Change {
    /// The level of metadata.version, as a number or a name such as 4.3-IV0
    #[arg(long, value_name = "LEVEL", hide = true)]
    pub metadata: Option<String>,
    /// The levels that features have in a release of Kafka, such as 4.3
    #[arg(long, value_name = "RELEASE")]
    pub release_version: Option<String>,
    /// A feature with its level; may be repeated
    #[arg(long, short, value_name = "FEATURE=LEVEL")]
    pub feature: Vec<String>,
    /// Only say what would become of it
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Downgrade {
    #[command(flatten)]
    pub change: Change,
    /// Even where something is lost
    #[arg(long = "unsafe")]
    pub may_lose: bool,
}

#[derive(Debug, Args)]
pub struct Disable {
    /// A feature; may be repeated
    #[arg(long, short, value_name = "FEATURE", required = true)]
    pub feature: Vec<String>,
    /// Even where something is lost
    #[arg(long = "unsafe")]
    pub may_lose: bool,
    /// Only say what would become of it
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// Kinds of change on the wire.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

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
pub const NEWEST_LEVEL: i16 = 30;

/// A feature's level as Kafka writes it.
pub fn level_text(feature: &str, level: i16) -> String {
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

/// The level of `metadata.version` with Kafka's name, such as `4.3-IV0`, `4.3` or `30`.
pub fn level_named(name: &str) -> Option<i16> {
    if let Ok(level) = name.parse() {
        return Some(level);
    }
    let is_named = |level: &i16| {
        let text = level_text(METADATA_VERSION, *level);
        text == name || RELEASES.iter().any(|(first, release)| first == level && *release == name)
    };
    (RELEASES.first()?.0..=NEWEST_LEVEL).find(is_named)
}

/// The levels of Kafka's features in the release of the newest `metadata.version`.
const NEWEST_RELEASE: &[(&str, i16)] = &[
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("kraft.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
];

fn metadata_level(text: &str) -> Result<i16, CliError> {
    let wrong = || CliError::Usage(format!("{text}: no version of Kafka's metadata, such as 4.3-IV0"));
    level_named(text).ok_or_else(wrong)
}

/// Reads `feature=level`.
pub fn level_of(text: &str) -> Result<(String, i16), CliError> {
    let wrong = |why: &str| CliError::Usage(format!("Can't parse feature=level string {text}: {why}"));
    let (name, level) = text.split_once('=').ok_or_else(|| wrong("equals sign not found."))?;
    let (name, level) = (name.trim(), level.trim());
    let level = match name == METADATA_VERSION {
        true => metadata_level(level)?,
        false => level.parse().map_err(|_| wrong(&format!("unable to parse {level} as a short.")))?,
    };
    Ok((name.to_owned(), level))
}

/// Why there is no mapping from releases to features.
pub const NO_MAPPING: &str = "features do not depend on one another here, and there is one release of them; raftsman features describe has their levels";

impl Change {
    /// What is asked for, by feature.
    fn levels(&self, supported: &BTreeMap<String, i16>) -> Result<BTreeMap<String, i16>, CliError> {
        if let Some(release) = &self.release_version {
            if !self.feature.is_empty() || self.metadata.is_some() {
                let why = "Can not specify `release-version` with other feature flags.";
                return Err(CliError::Usage(why.to_owned()));
            }
            let level = metadata_level(release)?;
            let mut levels = BTreeMap::from([(METADATA_VERSION.to_owned(), level)]);
            if level == NEWEST_LEVEL {
                // As far as the cluster has them.
                let has = |(name, level): &(&str, i16)| {
                    let most = supported.get(*name).copied().unwrap_or_default().min(*level);
                    (most > 0).then(|| ((*name).to_owned(), most))
                };
                levels.extend(NEWEST_RELEASE.iter().filter_map(has));
            }
            return Ok(levels);
        }
        let mut levels = BTreeMap::new();
        if let Some(text) = &self.metadata {
            levels.insert(METADATA_VERSION.to_owned(), metadata_level(text)?);
        }
        for text in &self.feature {
            let (name, level) = level_of(text)?;
            if levels.insert(name.clone(), level).is_some() {
                return Err(CliError::Usage(format!("Feature {name} was specified more than once.")));
            }
        }
        match levels.is_empty() {
            true => {
                let why = "You must specify at least one feature to change: --feature FEATURE=LEVEL, or --release-version";
                Err(CliError::Usage(why.to_owned()))
            }
            false => Ok(levels),
        }
    }
}

/// Has levels changed, and says what became of each.
async fn change(
    client: &Client,
    verb: &str,
    kind: i8,
    levels: BTreeMap<String, i16>,
    dry_run: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    let updates = levels.iter().map(|(name, level)| {
        FeatureUpdateKey::default()
            .with_feature(text(name))
            .with_max_version_level(*level)
            .with_upgrade_type(kind)
    });
    let request = UpdateFeaturesRequest::default()
        .with_timeout_ms(REQUEST_TIMEOUT_MS)
        .with_feature_updates(updates.collect())
        .with_validate_only(dry_run);
    let response = client.call_any(&request).await?;
    let error = ClientError::check(response.error_code, response.error_message.as_deref()).err();
    let message = match &error {
        Some(ClientError::Refused { message: Some(message), .. }) => Some(message.clone()),
        other => other.as_ref().map(ToString::to_string),
    };
    let is_disabled = verb == "disable";
    for (name, level) in &levels {
        match &message {
            Some(why) => {
                let cannot = if dry_run { "Can not" } else { "Could not" };
                let what =
                    if is_disabled { format!("disable {name}") } else { format!("{verb} {name} to {level}") };
                writeln!(out, "{cannot} {what}. {why}")?;
            }
            None => {
                let done = if dry_run { "can be" } else { "was" };
                let what = if is_disabled { "disabled".to_owned() } else { format!("{verb}d to {level}") };
                writeln!(out, "{name} {done} {what}.")?;
            }
        }
    }
    match message {
        Some(_) => {
            let count = levels.len();
            Err(CliError::Failed(format!("{count} out of {count} operation(s) failed.")))
        }
        None => Ok(()),
    }
}

/// The most that each feature can be at.
async fn supported(client: &Client) -> Result<BTreeMap<String, i16>, CliError> {
    let described = describe(client, None).await?;
    let most = described.supported_features.iter();
    Ok(most.map(|feature| (feature.name.to_string(), feature.max_version)).collect())
}

/// How long a change may take.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

async fn describe(client: &Client, node_id: Option<i32>) -> Result<ApiVersionsResponse, ClientError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("raftsman"))
        .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
    let asked = client.retry(async || {
        let connection = match node_id {
            Some(id) => client.broker(id).await?,
            None => client.any().await?,
        };
        let response = connection.call(&request).await?;
        ClientError::check(response.error_code, None)?;
        Ok(response)
    });
    asked.await
}

pub async fn run(arguments: FeaturesArguments, out: &mut Output) -> Result<(), CliError> {
    let client = arguments.reach.client()?;
    let (node_id, as_json) = match arguments.action {
        Action::Describe { node_id, json } => (node_id, json),
        Action::Upgrade(asked) => {
            let levels = asked.levels(&supported(&client).await?)?;
            return change(&client, "upgrade", UPGRADE, levels, asked.dry_run, out).await;
        }
        Action::Downgrade(Downgrade { change: asked, may_lose }) => {
            let levels = asked.levels(&supported(&client).await?)?;
            let kind = if may_lose { UNSAFE_DOWNGRADE } else { SAFE_DOWNGRADE };
            return change(&client, "downgrade", kind, levels, asked.dry_run, out).await;
        }
        Action::Disable(Disable { feature, may_lose, dry_run }) => {
            let levels = feature.into_iter().map(|name| (name, 0)).collect();
            let kind = if may_lose { UNSAFE_DOWNGRADE } else { SAFE_DOWNGRADE };
            return change(&client, "disable", kind, levels, dry_run, out).await;
        }
        Action::VersionMapping(_) | Action::FeatureDependencies(_) => {
            return Err(CliError::Failed(NO_MAPPING.to_owned()));
        }
    };
    let response = describe(&client, node_id).await?;
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
        for (name, level) in [("4.3", 30), ("4.2-IV1", 29), ("3.3-IV3", 7), ("8", 8)] {
            assert_eq!(level_named(name), Some(level), "{name}");
        }
        assert_eq!(level_named("5.0"), None);
    }
}
