//! `raftsman server`: from a properties file to a running node, until a signal stops it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Node, StartError, retained_memory};
use crate::config::{BrokerConfig, environment, properties};
use crate::env::{Disk, Surroundings, panics, real};
use crate::raft::OpenError;
use crate::server::loggers;

/// Run a broker.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  raftsman server                                      a broker on 127.0.0.1:9092, data in ./raftsman-data
  raftsman server --override log.dirs=/var/lib/raftsman --override listeners=PLAINTEXT://:9092
  raftsman server server.properties                    with the file of a Kafka installation
  KAFKA_NODE_ID=2 raftsman server --environment        as in a container: KAFKA_LOG_DIRS is log.dirs, and so on

Logs go to standard error; RAFTSMAN_LOG sets what is logged (info, debug, raftsman::raft=debug),
RAFTSMAN_LOG_FORMAT=json makes them JSON.")]
pub struct ServerArguments {
    /// File with Kafka's property names; without it, the defaults run a single node on loopback.
    pub properties: Option<PathBuf>,
    /// Read properties from environment variables too, over the file's, named as for the container image of Apache Kafka:
    /// KAFKA_ and the key in capitals, with _ for a dot, __ for an underscore and ___ for a dash (KAFKA_NODE_ID is
    /// node.id). CLUSTER_ID is the id of a new cluster. Those for a JVM (KAFKA_HEAP_OPTS, KAFKA_OPTS, KAFKA_LOG4J_…, KAFKA_JMX_…) have no meaning.
    #[arg(long)]
    pub environment: bool,
    /// Set a property, over the file's and the environment's: key=value. May be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Start although acknowledged data is missing (the metadata log, the data folder, a partition's files), with what
    /// is there. What is missing is told in the log; nothing is deleted.
    #[arg(long)]
    pub accept_missing_data: bool,
}

/// Runs a broker until SIGTERM or SIGINT.
pub fn run(arguments: &ServerArguments) -> ExitCode {
    let surroundings = real::surroundings();
    let started = surroundings.clock.monotonic();
    start_logging();
    panics::end_process();
    let config = match read_config(arguments, std::env::vars_os(), &*surroundings.disk) {
        Ok(config) => config,
        Err(reason) => {
            eprintln!("raftsman: {reason}");
            return ExitCode::from(2);
        }
    };
    let threads = match config.node.worker_threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("raftsman: the worker threads could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(serve(config, surroundings, started));
    // A waiting fetch or a blocked disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("raftsman: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: BrokerConfig, surroundings: Surroundings, started: Duration) -> Result<(), String> {
    let cannot = |error: io::Error| format!("signals cannot be waited for: {error}");
    // Before anything else: a signal during the start must stop it in order, too.
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    // A node that waits for others can be stopped; what it does by itself is short, and is finished first.
    let cancelled = CancellationToken::new();
    let mut starting = std::pin::pin!(Node::start_unless(config, surroundings.clone(), &cancelled));
    let node = loop {
        tokio::select! {
            biased;
            started = &mut starting => match started {
                Err(StartError::Metadata(OpenError::Cancelled)) => return Ok(()),
                started => break started.map_err(|error| error.to_string())?,
            },
            _ = terminate.recv(), if !cancelled.is_cancelled() => cancelled.cancel(),
            _ = interrupt.recv(), if !cancelled.is_cancelled() => cancelled.cancel(),
        }
    };
    if cancelled.is_cancelled() {
        node.stop().await;
        return Ok(());
    }
    let clock = surroundings.clock;
    eprint!("{}", banner(&node, clock.monotonic().saturating_sub(started)));
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        why = node.failed() => {
            tracing::error!("{why}");
            node.fail().await;
            return Err(why);
        }
        () = retained_memory::watch(&node.broker) => "",
    };
    tracing::info!(signal = name, "stopping");
    let stopping = clock.monotonic();
    node.stop().await;
    let took = clock.monotonic().saturating_sub(stopping);
    tracing::info!(milliseconds = took.as_millis(), "stopped in order");
    Ok(())
}

/// Where it listens, where the data is, and how to try it.
fn banner(node: &Node, took: Duration) -> String {
    let broker = &node.broker;
    let log_dir = broker.config.storage.log_dir();
    let folder = std::path::absolute(log_dir).unwrap_or_else(|_| log_dir.to_owned());
    let listed =
        |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let roles = broker.config.node.roles.join(" and ");
    let try_at =
        node.addresses.first().map_or_else(String::new, |address| match address.ip().is_unspecified() {
            true => format!("127.0.0.1:{}", address.port()),
            false => address.to_string(),
        });
    let (topics, partitions) = (broker.image().topic_count(), broker.image().partition_count());
    let mut text = format!(
        "\nRaftsman {version}, node {node_id} ({roles}) of cluster {cluster}, ready after {milliseconds} ms\n",
        version = env!("CARGO_PKG_VERSION"),
        node_id = broker.node,
        cluster = broker.cluster_id,
        milliseconds = took.as_millis(),
    );
    if !node.addresses.is_empty() {
        text += &format!("  clients   {}\n", listed(&node.addresses));
    }
    if !node.controller_addresses.is_empty() {
        text += &format!("  quorum    {}\n", listed(&node.controller_addresses));
    }
    text += &format!("  data      {}  ({topics} topics, {partitions} partitions)\n", folder.display());
    if let Some(admin) = node.admin_address {
        text += &format!("  metrics   http://{admin}/metrics  (also /healthz, /readyz)\n");
    }
    if node.addresses.is_empty() {
        return text + "  stop      Ctrl-C\n\n";
    }
    text += &format!(
        "  try       raftsman topics --bootstrap-server {try_at} --create --topic hello --partitions 3\n\
         \x20           echo world | raftsman produce --bootstrap-server {try_at} --topic hello\n\
         \x20           raftsman consume --bootstrap-server {try_at} --topic hello --from-beginning\n\
         \x20 stop      Ctrl-C\n\n"
    );
    text
}

/// Reads file, environment and overrides, each over what stands before it; says once what has no meaning or is unknown.
fn read_config(
    arguments: &ServerArguments,
    variables: impl Iterator<Item = (OsString, OsString)>,
    disk: &dyn Disk,
) -> Result<BrokerConfig, String> {
    let mut values = BTreeMap::new();
    if let Some(path) = &arguments.properties {
        let text = disk.read(path).and_then(|content| {
            String::from_utf8(content)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        });
        let text =
            text.map_err(|error| format!("the properties file {} cannot be read: {error}", path.display()))?;
        values = properties::parse(&text);
    }
    let mut cluster_id = None;
    if arguments.environment {
        let mut variables = of_kafka(variables)?;
        if let Some(at) = variables.iter().position(|(name, _)| name == CLUSTER_ID) {
            cluster_id = Some(variables.swap_remove(at).1.trim().to_owned()).filter(|id| !id.is_empty());
        }
        let of_the_jvm = environment::lay_over(&mut values, variables);
        if !of_the_jvm.is_empty() {
            let variables = of_the_jvm.join(", ");
            tracing::info!(
                variables,
                "these are for a JVM and have no meaning here; RAFTSMAN_LOG sets what is logged"
            );
        }
    }
    for text in &arguments.overrides {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            format!("--override {text}: expected key=value, such as log.dirs=/var/lib/raftsman")
        })?;
        values.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let (mut config, remarks) = BrokerConfig::from_values(values).map_err(|error| error.to_string())?;
    config.accepts_missing_data = arguments.accept_missing_data;
    if cluster_id.as_ref().is_some_and(|id| !id.chars().all(|c| c.is_ascii_graphic())) {
        return Err(format!("{CLUSTER_ID} has characters that do not go into a properties file"));
    }
    config.cluster_id = cluster_id;
    if !remarks.without_meaning.is_empty() {
        tracing::info!(keys = remarks.without_meaning.join(", "), "these keys of Kafka have no meaning here");
    }
    for (key, meant) in &remarks.unknown {
        match meant {
            Some(meant) => tracing::warn!(key, "unknown configuration key: did you mean {meant}?"),
            None => tracing::warn!(key, "unknown configuration key: neither Kafka nor Raftsman has it"),
        }
    }
    Ok(config)
}

/// The id of the cluster that a new folder belongs to, as the container image of Apache Kafka takes it.
const CLUSTER_ID: &str = "CLUSTER_ID";

/// The variables that begin with `KAFKA_`, and that of the cluster, as text.
fn of_kafka(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, String> {
    let own = variables
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"KAFKA_") || name.as_os_str() == CLUSTER_ID);
    let own = own.map(|(name, value)| {
        let wrong = || format!("the environment variable {} is not UTF-8", Path::new(&name).display());
        match (name.to_str(), value.to_str()) {
            (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            _ => Err(wrong()),
        }
    });
    own.collect()
}

fn start_logging() {
    let wanted = std::env::var("RAFTSMAN_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let info = || Targets::new().with_default(LevelFilter::INFO).with_target("openraft", LevelFilter::OFF);
    let filter = loggers::layer(wanted.unwrap_or_else(info));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let logs = tracing_subscriber::registry().with(filter);
    // A second call (tests) finds the first one's subscriber in place.
    let _ = match std::env::var("RAFTSMAN_LOG_FORMAT").as_deref() {
        Ok("json") => logs.with(lines.json()).try_init(),
        _ => logs.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(
        file: &str,
        variables: &[(&str, &str)],
        arguments: ServerArguments,
    ) -> Result<BrokerConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let disk = real::surroundings().disk;
        let path = folder.path().join("server.properties");
        disk.write_atomic(&path, file.as_bytes()).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        read_config(&ServerArguments { properties: Some(path), ..arguments }, variables, &*disk)
    }

    #[test]
    fn an_override_goes_over_the_environment_and_that_over_the_file() {
        let file = "node.id=1\nnum.partitions=1\nbroker.rack=of the file\n";
        let variables = [
            ("KAFKA_NODE_ID", "2"),
            ("KAFKA_NUM_PARTITIONS", "2"),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("PATH", "/"),
        ];
        let arguments = |environment| ServerArguments {
            environment,
            overrides: vec!["node.id=3".to_owned()],
            ..ServerArguments::default()
        };
        let config = read(file, &variables, arguments(true)).unwrap();
        assert_eq!(
            (config.node.id, config.topics.num_partitions, config.node.rack.as_deref()),
            (3, 2, Some("of the file"))
        );
        assert_eq!(config.cluster_id, None);
        let with_id = [&variables[..], &[("CLUSTER_ID", "mine")]].concat();
        assert_eq!(read(file, &with_id, arguments(true)).unwrap().cluster_id.as_deref(), Some("mine"));
        assert_eq!(read(file, &with_id, arguments(false)).unwrap().cluster_id, None);
        let config = read(file, &variables, arguments(false)).unwrap();
        assert_eq!((config.node.id, config.topics.num_partitions), (3, 1));
    }

    #[test]
    fn a_variable_that_is_no_text_is_named() {
        let bytes = || OsString::from_vec(b"\xff".to_vec());
        let (own, of_others) = (("KAFKA_NODE_ID".into(), bytes()), ("LANG".into(), bytes()));
        assert_eq!(of_kafka([of_others.clone()].into_iter()), Ok(vec![]));
        let refused = of_kafka([of_others, own].into_iter()).unwrap_err();
        assert_eq!(refused, "the environment variable KAFKA_NODE_ID is not UTF-8");
    }
}
