//! The loggers of this process, whose levels can be changed while it runs (KIP-412).
//!
//! A logger is a part of the broker, by the name that its lines carry (`raftsman::segment`); `root` is for
//! all that no other one speaks for. Levels are Kafka's; there is nothing to log at FATAL, so it is silence.
//! What is changed here is forgotten at the end of the process, as in Kafka.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

/// The name of the logger for what has none.
pub const ROOT: &str = "root";
/// Kafka's levels, in the order in which it names them.
pub const LEVELS: &[&str] = &["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// Every logger, with what it speaks of.
pub const LOGGERS: &[(&str, &str)] = &[
    ("openraft", "The consensus library below the metadata quorum."),
    ("raftsman", "All of the broker."),
    ("raftsman::admin", "The HTTP listener."),
    ("raftsman::controller", "Decisions about the cluster's metadata."),
    ("raftsman::coordinator", "Groups and their offsets."),
    ("raftsman::node", "Start and stop, following the metadata, what is done by the clock."),
    ("raftsman::partition", "Replicas: leadership, topics that come and go."),
    ("raftsman::raft", "The metadata quorum: journal, votes, snapshots."),
    ("raftsman::segment", "Logs on disk: opening, recovery, retention."),
    ("raftsman::server", "Connections and requests."),
    (ROOT, "What no other logger speaks for."),
];

type Handle = reload::Handle<Targets, Registry>;

/// What was set at the start, and at run time over it.
struct Loggers {
    base: Targets,
    set: Mutex<BTreeMap<&'static str, &'static str>>,
    handle: Handle,
}

static PROCESS: OnceLock<Loggers> = OnceLock::new();

/// Why a level is not changed. The texts are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggerError {
    #[error("Logger {0} does not exist!")]
    UnknownLogger(String),
    #[error(
        "Cannot set the log level of {0} to {1} as it is not a supported log level. Valid log levels are {levels}",
        levels = LEVELS.join(", ")
    )]
    UnknownLevel(String, String),
    #[error("Removing the log level of the root logger is not allowed")]
    RootNeedsLevel,
    #[error("{0} operation is not allowed for the BROKER_LOGGER resource")]
    Operation(&'static str),
    #[error("the logs of this process are not set up by it")]
    NotOurs,
}

/// The filter of the process's logs, to be put before what writes them.
pub fn layer(base: Targets) -> reload::Layer<Targets, Registry> {
    let (layer, handle) = reload::Layer::new(base.clone());
    // A second call (tests) changes nothing.
    let _ = PROCESS.set(Loggers { base, set: Mutex::default(), handle });
    layer
}

/// The level of a logger.
pub fn level(name: &str) -> &'static str {
    match PROCESS.get() {
        Some(loggers) => level_of(&loggers.base, &loggers.set.lock(), name),
        None => "INFO",
    }
}

/// Checks one change; `None` for the level takes a logger's own away.
pub fn check(name: &str, level: Option<&str>) -> Result<(&'static str, Option<&'static str>), LoggerError> {
    let known = LOGGERS.iter().find(|(known, _)| *known == name);
    let (logger, _) = known.ok_or_else(|| LoggerError::UnknownLogger(name.to_owned()))?;
    match level {
        None if *logger == ROOT => Err(LoggerError::RootNeedsLevel),
        None => Ok((logger, None)),
        Some(text) => {
            let level = LEVELS.iter().find(|known| **known == text.trim());
            let unknown = || LoggerError::UnknownLevel(name.to_owned(), text.to_owned());
            Ok((logger, Some(level.ok_or_else(unknown)?)))
        }
    }
}

/// Carries checked changes out.
pub fn change(changes: &[(&'static str, Option<&'static str>)]) -> Result<(), LoggerError> {
    let loggers = PROCESS.get().ok_or(LoggerError::NotOurs)?;
    let mut set = loggers.set.lock();
    for (name, level) in changes {
        match level {
            Some(level) => _ = set.insert(name, level),
            None => _ = set.remove(name),
        }
    }
    loggers.handle.reload(filter(&loggers.base, &set)).map_err(|_| LoggerError::NotOurs)
}

fn filter(base: &Targets, set: &BTreeMap<&'static str, &'static str>) -> Targets {
    let mut filter = base.clone();
    for (name, level) in set {
        let level = match *level {
            "TRACE" => LevelFilter::TRACE,
            "DEBUG" => LevelFilter::DEBUG,
            "INFO" => LevelFilter::INFO,
            "WARN" => LevelFilter::WARN,
            "ERROR" => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        };
        filter = if *name == ROOT { filter.with_default(level) } else { filter.with_target(*name, level) };
    }
    filter
}

fn level_of(base: &Targets, set: &BTreeMap<&'static str, &'static str>, name: &str) -> &'static str {
    let filter = filter(base, set);
    let of_targets = filter.iter().filter(|(target, _)| name.starts_with(target));
    let nearest = of_targets.max_by_key(|(target, _)| target.len()).map(|(_, level)| level);
    let level = match name {
        ROOT => filter.default_level(),
        _ => nearest.or(filter.default_level()),
    };
    match level.unwrap_or(LevelFilter::OFF) {
        LevelFilter::TRACE => "TRACE",
        LevelFilter::DEBUG => "DEBUG",
        LevelFilter::INFO => "INFO",
        LevelFilter::WARN => "WARN",
        LevelFilter::ERROR => "ERROR",
        _ => "FATAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_has_its_own_level_or_that_of_the_nearest_above() {
        let base: Targets = "info,openraft=warn".parse().unwrap();
        let mut set = BTreeMap::new();
        let level = |set: &_, name| level_of(&base, set, name);
        assert_eq!(
            (level(&set, ROOT), level(&set, "openraft"), level(&set, "raftsman")),
            ("INFO", "WARN", "INFO")
        );
        set.insert("raftsman", "DEBUG");
        set.insert("raftsman::raft", "FATAL");
        assert_eq!((level(&set, "raftsman::server"), level(&set, "raftsman::raft")), ("DEBUG", "FATAL"));
        set.insert(ROOT, "ERROR");
        set.remove("raftsman");
        assert_eq!((level(&set, ROOT), level(&set, "raftsman::server")), ("ERROR", "ERROR"));
    }

    #[test]
    fn refusals_are_kafkas() {
        let refused = |name, level| check(name, level).unwrap_err().to_string();
        assert_eq!(refused("no.such", Some("INFO")), "Logger no.such does not exist!");
        assert_eq!(refused(ROOT, None), "Removing the log level of the root logger is not allowed");
        assert_eq!(
            refused(ROOT, Some("LOUD")),
            "Cannot set the log level of root to LOUD as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
        );
        assert_eq!(check("raftsman", Some("DEBUG")), Ok(("raftsman", Some("DEBUG"))));
        assert!(LOGGERS.is_sorted());
    }
}
