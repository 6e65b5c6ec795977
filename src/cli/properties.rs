//! Client properties: the files behind `--command-config` and the pairs behind `--…-property`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::CliError;
use crate::client::{Client, ClientOptions};
use crate::env::real;

/// Where the cluster is, common to all tools that talk to one.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArguments {
    /// Brokers to ask first, host:port[,host:port…]
    #[arg(long, value_name = "HOST:PORT,…", default_value = "127.0.0.1:9092")]
    pub bootstrap_server: String,
    /// File of client properties (request.timeout.ms, default.api.timeout.ms, client.id, …)
    #[arg(
        long,
        value_name = "FILE",
        aliases = ["producer.config", "consumer.config", "admin.config", "producer-config", "consumer-config"]
    )]
    pub command_config: Option<PathBuf>,
    /// One client property; wins over the file
    #[arg(
        long,
        value_name = "KEY=VALUE",
        aliases = ["producer-property", "consumer-property"]
    )]
    pub command_property: Vec<String>,
}

/// Properties of a client, by Kafka's names.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    values: BTreeMap<String, String>,
}

/// What every client understands; the tools add their own.
const CLIENT_KEYS: &[&str] = &[
    "bootstrap.servers",
    "client.id",
    "request.timeout.ms",
    "default.api.timeout.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
];

/// Properties of Kafka's clients that decide what is read, written or seen and have no counterpart here: without
/// them the result would be another. With the values that mean nothing beyond what is done anyway, and the reason.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("transactional.id", &[], "transactions are not served yet"),
    ("interceptor.classes", &[], "Java classes cannot be used here"),
    ("partitioner.class", &[], "Java classes cannot be used here; --partition chooses one"),
    ("partitioner.ignore.keys", &["false"], "records with keys go by their keys"),
    ("group.protocol", &["classic"], "only the classic protocol is spoken"),
    ("group.remote.assignor", &[], "only the classic protocol is spoken"),
    ("sasl.mechanism", &[], "this tool speaks PLAINTEXT only"),
    ("sasl.jaas.config", &[], "this tool speaks PLAINTEXT only"),
    ("security.protocol", &["plaintext"], "this tool speaks PLAINTEXT only"),
];

/// What else is often found in files that serve other clients as well, and why it has no effect.
const UNUSED: &[(&str, &str)] = &[
    ("key.deserializer", "bytes are printed as they are; see --formatter-property key.deserializer=…"),
    ("value.deserializer", "bytes are printed as they are; see --formatter-property value.deserializer=…"),
    ("key.serializer", "keys are written as the bytes that are read"),
    ("value.serializer", "values are written as the bytes that are read"),
];

impl ConnectionArguments {
    /// Reads the file and the pairs; `known` are the properties that this tool takes beyond those of
    /// every client. Others are refused where they would change what comes out; those that only tune a
    /// client are named on standard error and ignored, as Kafka's tools do.
    pub fn properties(&self, known: &[&str]) -> Result<Properties, CliError> {
        let mut properties = match &self.command_config {
            Some(path) => Properties::read(path)?,
            None => Properties::default(),
        };
        for pair in &self.command_property {
            properties.set(pair)?;
        }
        properties.check(known)?;
        Ok(properties)
    }

    /// A client for the cluster. Nothing is connected yet.
    pub fn client(&self, properties: &Properties) -> Result<Client, CliError> {
        let defaults = ClientOptions::default();
        let servers = self.bootstrap_server.split(',').map(|address| address.trim().to_owned());
        let options = ClientOptions {
            bootstrap_servers: servers.filter(|address| !address.is_empty()).collect(),
            client_id: properties.text("client.id").unwrap_or(&defaults.client_id).to_owned(),
            request_timeout_ms: properties
                .number("request.timeout.ms")?
                .unwrap_or(defaults.request_timeout_ms),
            api_timeout_ms: properties.number("default.api.timeout.ms")?.unwrap_or(defaults.api_timeout_ms),
            retry_backoff_ms: properties.number("retry.backoff.ms")?.unwrap_or(defaults.retry_backoff_ms),
            retry_backoff_max_ms: properties
                .number("retry.backoff.max.ms")?
                .unwrap_or(defaults.retry_backoff_max_ms),
        };
        if options.bootstrap_servers.is_empty() {
            return Err(CliError::Usage("--bootstrap-server names no address".to_owned()));
        }
        Client::new(options, &real::surroundings())
            .map_err(|error| CliError::Usage(format!("--bootstrap-server: {error}")))
    }
}

impl Properties {
    /// Reads a Java properties file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::while_doing(format!("read {}", path.display()), crate::client::error::io_reason(&error))
        })?;
        Ok(Self { values: crate::config::properties::parse(&text) })
    }

    /// Refuses what would change the result, and names what is not used.
    fn check(&self, known: &[&str]) -> Result<(), CliError> {
        for (key, value) in &self.values {
            let value = value.trim();
            let refused = REFUSED.iter().find(|(refused, ..)| refused == key);
            if let Some((_, harmless, reason)) = refused
                && !value.is_empty()
                && !harmless.iter().any(|harmless| value.eq_ignore_ascii_case(harmless))
            {
                return Err(CliError::Usage(format!("{key}={value}: {reason}")));
            }
            if refused.is_none() && !CLIENT_KEYS.contains(&key.as_str()) && !known.contains(&key.as_str()) {
                let reason = UNUSED.iter().find(|(unused, _)| unused == key).map(|(_, reason)| *reason);
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                eprintln!("warning: property '{key}' is not used by this tool{reason}");
            }
        }
        Ok(())
    }

    /// Adds a `key=value` pair.
    pub fn set(&mut self, pair: &str) -> Result<(), CliError> {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| CliError::Usage(format!("'{pair}' is not of the form key=value")))?;
        self.values.insert(key.trim().to_owned(), value.to_owned());
        Ok(())
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A number; an error names the key and the value.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, CliError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(CliError::Usage(format!("{key}={value}: not a number that is allowed here"))),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, CliError> {
        match self.text(key).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(CliError::Usage(format!("{key}={other}: expected true or false"))),
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// `\t`, `\n`, `\r`, `\\`, `\0` in separators given on a command line.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    let mut push = |letter: char| bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            push(letter);
            continue;
        }
        match letters.next() {
            Some('t') => push('\t'),
            Some('n') => push('\n'),
            Some('r') => push('\r'),
            Some('0') => push('\0'),
            Some('\\') | None => push('\\'),
            Some(other) => {
                push('\\');
                push(other);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_result_is_refused_and_the_rest_is_named() {
        let with = |pair: &str| {
            let mut properties = Properties::default();
            properties.set(pair).unwrap();
            properties.check(&["isolation.level"])
        };
        for pair in [
            "transactional.id=x",
            "interceptor.classes=a.B",
            "group.protocol=consumer",
            "security.protocol=SSL",
        ] {
            let key = pair.split('=').next().unwrap();
            assert!(with(pair).unwrap_err().to_string().contains(key), "{pair}");
        }
        for pair in
            ["group.protocol=classic", "interceptor.classes=", "isolation.level=x", "metric.reporters=a.B"]
        {
            assert!(with(pair).is_ok(), "{pair}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_named_with_its_key() {
        let mut properties = Properties::default();
        properties.set("a=b=c").unwrap();
        let error = properties.number::<u32>("a").unwrap_err().to_string();
        assert_eq!(error, "a=b=c: not a number that is allowed here");
    }

    #[test]
    fn separators_may_be_escaped() {
        assert_eq!(unescape("\\t|\\\\x\\q"), b"\t|\\x\\q");
    }
}
