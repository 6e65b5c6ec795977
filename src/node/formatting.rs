//! What a new data folder is told before its node first starts (`raftsman storage format`): the id of its cluster, in
//! `meta.properties`, and how the node comes by the cluster's metadata, in `bootstrap.json` beside it:
//!
//! ```text
//! {"quorum": "AsConfigured" | "Standalone" | "Joins" | {"InitialControllers": [{"id": 1, "host": "…", "port": 9093,
//!   "directory_id": "…"}, …]}, "features": {"eligible.leader.replicas.version": 1}}
//! ```
//!
//! `bootstrap.json` is made durable first: a folder with `meta.properties` is formatted. It is read at every start, and
//! matters until the folder holds metadata.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::env::{Chance, Disk};
use crate::metadata::{Feature, KAFKA_METADATA_FEATURE, KRAFT_FEATURE};
use crate::raft;
use crate::segment::meta_properties::{META_PROPERTIES, MetaProperties};
use crate::segment::ownership::{self, OwnershipError};
use crate::types::NodeId;

const BOOTSTRAP: &str = "bootstrap.json";

/// How a node comes by its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstQuorum {
    /// As its configuration says.
    #[default]
    AsConfigured,
    /// It is the only voter of a new cluster, and others may be added (`--standalone`).
    Standalone,
    /// One of the voters of a new cluster, which may be formed already (`--initial-controllers`).
    InitialControllers(Vec<InitialController>),
    /// A cluster that is there takes it in (`--no-initial-controllers`).
    Joins,
}

/// One of the first voters of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialController {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub directory_id: Uuid,
}

/// What a folder was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    #[serde(default)]
    pub quorum: FirstQuorum,
    /// Levels of features that a new cluster begins with in place of their first ones.
    #[serde(default)]
    pub features: BTreeMap<String, i16>,
}

/// What to format a folder with.
#[derive(Clone, Debug)]
pub struct Formatting {
    pub cluster_id: String,
    pub bootstrap: Bootstrap,
    /// One that is formatted stays as it is.
    pub ignores_formatted: bool,
}

/// A folder was not formatted; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error(
        "You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If \
         you want to use dynamic quorum, please remove controller.quorum.voters and specify \
         controller.quorum.bootstrap.servers instead."
    )]
    StaticVoters,
    #[error(
        "Because controller.quorum.voters is not set on this controller, you must specify one of the following: \
         --standalone, --initial-controllers, or --no-initial-controllers."
    )]
    NoQuorum,
    #[error("You can only use --standalone on a controller.")]
    NotController,
    #[error("No controller listeners found.")]
    NoControllerListener,
    #[error("You must specify the cluster id.")]
    NoClusterId,
    #[error("the cluster id {0:?} has characters that do not go into a properties file")]
    ClusterId(String),
    #[error(
        "node {node} is a controller, but not among the initial controllers: {named:?}. Name it, or format it with --no-initial-controllers"
    )]
    NotNamed { node: i32, named: Vec<i32> },
    #[error("{0}")]
    Feature(String),
    #[error(
        "Log directory {} is already formatted. Use --ignore-formatted to ignore this directory and format the others.",
        .0.display()
    )]
    Formatted(PathBuf),
    #[error("there is a metadata log in {} already, though {} is not formatted: are log.dirs and metadata.log.dir right?", metadata.display(), dir.display())]
    HasMetadata { dir: PathBuf, metadata: PathBuf },
    #[error(transparent)]
    Folder(#[from] OwnershipError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formatted {
    /// Nothing: all was formatted before.
    Before,
    /// This folder, which is one of a voter that others may be added to, or not.
    Now { dir: PathBuf, is_dynamic: bool },
}

/// What a folder was told when it was formatted; `None` where it was not.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Bootstrap>> {
    let path = dir.join(BOOTSTRAP);
    match disk.read(&path) {
        Ok(content) => serde_json::from_slice(&content).map(Some).map_err(|error| {
            let why = format!("{} cannot be read: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Levels as they were chosen, by name.
///
/// # Errors
/// When one is not supported.
pub fn check_features(features: &BTreeMap<String, i16>, has_static_voters: bool) -> Result<(), FormatError> {
    let refused = |why: String| Err(FormatError::Feature(why));
    for (name, level) in features {
        let Some(feature) = Feature::named(name) else {
            let names: Vec<_> = crate::metadata::FEATURES.iter().map(|feature| feature.name).collect();
            return refused(format!(
                "Unsupported feature: {name}. Supported features are: {}",
                names.join(", ")
            ));
        };
        if name == KAFKA_METADATA_FEATURE {
            let why = "Use --release-version instead of --feature metadata.version=X to avoid ambiguity.";
            return refused(why.to_owned());
        }
        if name == KRAFT_FEATURE && *level == 0 && !has_static_voters {
            return refused(
                "Cannot set kraft.version to 0 if controller.quorum.voters is empty: the members of a quorum can be \
                 changed while it runs"
                    .to_owned(),
            );
        }
        if !feature.levels.contains(level) {
            let (min, max) = (feature.levels.start(), feature.levels.end());
            return refused(format!("No feature:{name} with feature level {level}: it has {min} to {max}"));
        }
    }
    Ok(())
}

/// Formats the data folder of a configuration.
pub fn format(
    disk: &dyn Disk,
    chance: &dyn Chance,
    config: &BrokerConfig,
    formatting: &Formatting,
) -> Result<Formatted, FormatError> {
    let Formatting { cluster_id, bootstrap, ignores_formatted } = formatting;
    if cluster_id.is_empty() {
        return Err(FormatError::NoClusterId);
    }
    if !cluster_id.chars().all(|c| c.is_ascii_graphic()) {
        return Err(FormatError::ClusterId(cluster_id.clone()));
    }
    let (is_controller, is_static) = (config.node.is_controller(), !config.quorum.voters.0.is_empty());
    let mut directory_id = None;
    match &bootstrap.quorum {
        FirstQuorum::Standalone | FirstQuorum::InitialControllers(_) if is_static => {
            return Err(FormatError::StaticVoters);
        }
        FirstQuorum::Standalone | FirstQuorum::InitialControllers(_) if !is_controller => {
            return Err(FormatError::NotController);
        }
        FirstQuorum::Standalone | FirstQuorum::InitialControllers(_)
            if config.listeners.of_controllers().is_empty() =>
        {
            return Err(FormatError::NoControllerListener);
        }
        FirstQuorum::InitialControllers(controllers) => {
            let own = controllers.iter().find(|controller| controller.id == config.node.id);
            let named = || controllers.iter().map(|controller| controller.id).collect();
            let own = own.ok_or_else(|| FormatError::NotNamed { node: config.node.id, named: named() })?;
            directory_id = Some(own.directory_id);
        }
        // A node that is alone, without a listener for controllers, has nothing to say.
        FirstQuorum::AsConfigured
            if is_controller && !is_static && !config.listeners.of_controllers().is_empty() =>
        {
            return Err(FormatError::NoQuorum);
        }
        _ => {}
    }
    check_features(&bootstrap.features, is_static)?;
    let (dir, metadata) = (config.storage.log_dir().to_owned(), config.storage.metadata_log_dir());
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| FormatError::Io { path, error }
    };
    let meta_path = dir.join(META_PROPERTIES);
    if disk.exists(&meta_path) {
        return match ignores_formatted {
            true => Ok(Formatted::Before),
            false => Err(FormatError::Formatted(dir)),
        };
    }
    let has_metadata = raft::is_there(disk, &metadata).map_err(failed(&metadata))?;
    ownership::check(disk, &dir, &metadata, has_metadata, false)?;
    if has_metadata {
        return Err(FormatError::HasMetadata { dir, metadata });
    }
    disk.create_dir_durably(&dir).map_err(failed(&dir))?;
    let told = dir.join(BOOTSTRAP);
    let content = serde_json::to_vec(bootstrap).map_err(io::Error::from).map_err(failed(&told))?;
    disk.write_atomic(&told, &content).map_err(failed(&told))?;
    let meta = MetaProperties {
        cluster_id: cluster_id.clone(),
        node_id: NodeId(config.node.id),
        directory_id: directory_id.unwrap_or_else(|| chance.kafka_uuid()),
    };
    disk.write_atomic(&meta_path, meta.encode().as_bytes()).map_err(failed(&meta_path))?;
    let is_dynamic = matches!(bootstrap.quorum, FirstQuorum::Standalone | FirstQuorum::InitialControllers(_));
    Ok(Formatted::Now { dir, is_dynamic })
}

/// What `meta.properties` of a folder says; `None` where there is none.
pub fn meta_properties(disk: &dyn Disk, dir: &Path) -> Result<Option<MetaProperties>, String> {
    match disk.read(&dir.join(META_PROPERTIES)) {
        Ok(content) => {
            let text = String::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
            MetaProperties::decode(&text).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties;
    use crate::env::real::{RealChance, RealDisk};

    fn config(dir: &Path, text: &str) -> BrokerConfig {
        let text = format!("log.dirs={}\nnode.id=1\n{text}", dir.display());
        BrokerConfig::from_values(properties::parse(&text)).unwrap().0
    }

    fn formatting(quorum: FirstQuorum) -> Formatting {
        let bootstrap = Bootstrap { quorum, features: BTreeMap::new() };
        Formatting { cluster_id: "the-cluster".to_owned(), bootstrap, ignores_formatted: false }
    }

    const DYNAMIC: &str = "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.quorum.bootstrap.servers=localhost:9093\n";
    const STATIC: &str =
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.quorum.voters=1@localhost:9093\n";

    #[test]
    fn a_folder_is_formatted_once_and_says_how_its_node_begins() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let config = config(&dir, DYNAMIC);
        let run = |formatting: &Formatting| format(&RealDisk, &RealChance, &config, formatting);
        assert!(matches!(run(&formatting(FirstQuorum::AsConfigured)), Err(FormatError::NoQuorum)));
        assert!(!dir.exists(), "nothing is made");
        let wanted = InitialController {
            id: 1,
            host: "localhost".to_owned(),
            port: 9093,
            directory_id: Uuid::from_u128(7),
        };
        let quorum = FirstQuorum::InitialControllers(vec![wanted]);
        let done = run(&formatting(quorum.clone())).unwrap();
        assert_eq!(done, Formatted::Now { dir: dir.clone(), is_dynamic: true });
        let meta = meta_properties(&RealDisk, &dir).unwrap().unwrap();
        assert_eq!((meta.cluster_id.as_str(), meta.directory_id), ("the-cluster", Uuid::from_u128(7)));
        assert_eq!(read(&RealDisk, &dir).unwrap().unwrap().quorum, quorum);
        let again = formatting(FirstQuorum::Joins);
        assert!(matches!(run(&again), Err(FormatError::Formatted(_))));
        assert_eq!(run(&Formatting { ignores_formatted: true, ..again }).unwrap(), Formatted::Before);
        assert_eq!(read(&RealDisk, &dir).unwrap().unwrap().quorum, quorum);
    }

    #[test]
    fn what_does_not_fit_the_configuration_is_refused_in_kafkas_words() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let refused = |text: &str, formatting: Formatting| {
            format(&RealDisk, &RealChance, &config(&dir, text), &formatting).unwrap_err().to_string()
        };
        let standalone = || formatting(FirstQuorum::Standalone);
        assert!(refused(STATIC, standalone()).starts_with("You cannot specify controller.quorum.voters"));
        assert!(refused("", standalone()).starts_with("No controller listeners found"));
        let other = InitialController { id: 2, host: "b".into(), port: 1, directory_id: Uuid::nil() };
        let others = formatting(FirstQuorum::InitialControllers(vec![other]));
        assert!(refused(DYNAMIC, others).starts_with("node 1 is a controller, but not among"));
        let with = |name: &str, level| {
            let mut formatting = standalone();
            formatting.bootstrap.features.insert(name.to_owned(), level);
            formatting
        };
        assert!(refused(DYNAMIC, with("unheard.of", 1)).starts_with("Unsupported feature: unheard.of."));
        assert!(refused(DYNAMIC, with("metadata.version", 30)).starts_with("Use --release-version"));
        assert!(
            refused(DYNAMIC, with("eligible.leader.replicas.version", 7)).contains("with feature level 7")
        );
        let unnamed = Formatting { cluster_id: String::new(), ..standalone() };
        assert_eq!(refused(DYNAMIC, unnamed), "You must specify the cluster id.");
        std::fs::create_dir_all(dir.join("a-0")).unwrap();
        assert!(refused(DYNAMIC, standalone()).contains("there is no metadata log"));
    }

    #[test]
    fn a_file_that_says_nothing_sensible_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, folder.path()).unwrap(), None);
        std::fs::write(folder.path().join(BOOTSTRAP), "{\"quorum\": 7}").unwrap();
        assert!(read(&RealDisk, folder.path()).unwrap_err().to_string().contains("bootstrap.json"));
    }
}
