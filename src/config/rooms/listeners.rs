//! Where the node listens, and what clients are told of it.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::declaration::{Value, config};
use crate::config::key::{self, ConfigError, Key};

config! {
    /// The listeners of the node.
    pub struct ListenersConfig {
        /// Addresses that clients are told; those of `listeners` unless set.
        advertised: Option<Vec<Listener>> = "advertised.listeners", ReadOnly, List(&[]);
        /// Names of the listeners that serve controllers; others reach a controller by the first of them.
        controller_names: Vec<String> =
            "controller.listener.names", ReadOnly, List(&[]), default "CONTROLLER", via upper_case;
        /// Name of the listener by which brokers reach each other; the first one for clients unless set.
        inter_broker_name: Option<String> = "inter.broker.listener.name", ReadOnly, Text, via name;
        /// Security protocol of each listener name.
        security_protocols: ProtocolsByListener =
            "listener.security.protocol.map", ReadOnly, Text,
            // Without a map, the names of the protocols stand for themselves.
            default "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";
        /// Address to listen on: NAME://host:port; an empty host is every interface, port 0 a free one.
        all: Vec<Listener> = "listeners", ReadOnly, List(&[]), default "PLAINTEXT://127.0.0.1:9092";
    }
}

fn upper_case(names: Vec<String>) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_uppercase()).collect()
}

fn name(text: Option<String>) -> Option<String> {
    text.filter(|name| !name.is_empty()).map(|name| name.to_ascii_uppercase())
}

/// An address to listen on or to be reached at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name of the listener, such as `PLAINTEXT`.
    pub name: String,
    /// Empty: every interface.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// Reads `NAME://host:port`.
    fn parse(text: &str) -> Option<Self> {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self { name: name.trim().to_ascii_uppercase(), host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.name, self.host, self.port)
    }
}

impl Value for Vec<Listener> {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        let wrong = |text| key.invalid(text, "expected NAME://host:port, such as PLAINTEXT://127.0.0.1:9092");
        key::list(text).map(|text| Listener::parse(text).ok_or_else(|| wrong(text))).collect()
    }
}

/// Listener names with the protocols that their listeners speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolsByListener(Vec<(String, String)>);

impl ProtocolsByListener {
    /// The protocol of a listener, if the map says.
    fn of(&self, listener: &str) -> Option<&str> {
        let mapped = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(listener));
        mapped.map(|(_, protocol)| protocol.as_str())
    }

    /// Whether it says what it says when nobody sets it.
    fn is_default(&self) -> bool {
        Self::read_or_default(&ListenersConfig::security_protocols.key, None).as_ref() == Ok(self)
    }
}

impl Value for ProtocolsByListener {
    fn read(_: &Key, text: &str) -> Result<Self, ConfigError> {
        let entries = key::list(text).filter_map(|entry| entry.split_once(':'));
        Ok(Self(entries.map(|(name, protocol)| (name.to_owned(), protocol.to_owned())).collect()))
    }
}

impl ListenersConfig {
    /// Those that serve clients.
    pub fn of_clients(&self) -> impl Iterator<Item = &Listener> {
        self.all.iter().filter(|listener| !self.controller_names.contains(&listener.name))
    }

    /// Those that serve controllers; the first is the one that others use.
    pub fn of_controllers(&self) -> Vec<&Listener> {
        let place =
            |listener: &Listener| self.controller_names.iter().position(|name| *name == listener.name);
        let mut found: Vec<_> = self.all.iter().filter(|listener| place(listener).is_some()).collect();
        found.sort_by_key(|listener| place(listener));
        found
    }

    /// What clients are told of each of [`Self::of_clients`].
    pub fn advertised_to_clients(&self) -> impl Iterator<Item = &Listener> {
        self.of_clients().map(|listener| self.told(listener))
    }

    /// What others are told of each of [`Self::of_controllers`].
    pub fn advertised_to_controllers(&self) -> impl Iterator<Item = &Listener> {
        self.of_controllers().into_iter().map(|listener| self.told(listener))
    }

    fn told<'a>(&'a self, listener: &'a Listener) -> &'a Listener {
        let mut advertised = self.advertised.iter().flatten();
        advertised.find(|told| told.name == listener.name).unwrap_or(listener)
    }

    /// Name of the listener by which brokers reach each other.
    pub fn inter_broker(&self) -> &str {
        // A node that is only a controller reaches the brokers by it.
        let first = || self.of_clients().next().map_or("PLAINTEXT", |first| &first.name);
        self.inter_broker_name.as_deref().unwrap_or_else(first)
    }

    /// Refuses what does not fit together and to the node's roles, and what this version does not serve.
    pub(in crate::config) fn check(&self, is_broker: bool, is_controller: bool) -> Result<(), ConfigError> {
        let refused = |reason: String| {
            let all: Vec<_> = self.all.iter().map(Listener::to_string).collect();
            Err(ConfigError::Refused(format!("listeners={}: {reason}", all.join(","))))
        };
        match self.of_clients().next() {
            None if is_broker => {
                let reason = "no listener for clients; add one such as PLAINTEXT://127.0.0.1:9092";
                return refused(reason.to_owned());
            }
            Some(other) if !is_broker && is_controller => {
                let names = self.controller_names.join(",");
                return refused(format!(
                    "{} is none that controller.listener.names={names} names, and a node that is only a controller \
                     serves no clients",
                    other.name
                ));
            }
            _ => {}
        }
        let mut seen = BTreeSet::new();
        for listener in &self.all {
            self.check_protocol(&listener.name)?;
            if !seen.insert(&listener.name) {
                return refused(format!("two listeners are named {}", listener.name));
            }
        }
        // Those for controllers may be another node's.
        let names = self.advertised.iter().flatten().map(|told| &told.name);
        let mut unknown = names.filter(|name| !seen.contains(name) && !self.controller_names.contains(name));
        if let Some(name) = unknown.next() {
            return refused(format!("advertised.listeners names {name}, which is not one of them"));
        }
        if is_broker && !self.of_clients().any(|listener| listener.name == self.inter_broker()) {
            let name = self.inter_broker();
            return refused(format!("no such listener for clients as inter.broker.listener.name={name}"));
        }
        Ok(())
    }

    /// Whether the security protocol of a listener is known, and served.
    fn check_protocol(&self, name: &String) -> Result<(), ConfigError> {
        // As in Kafka: who sets no map need not name the controllers' listener in it.
        let is_implied = self.controller_names.contains(name) && self.security_protocols.is_default();
        let implied = if is_implied { "PLAINTEXT" } else { name };
        match self.security_protocols.of(name).unwrap_or(implied) {
            "PLAINTEXT" => Ok(()),
            protocol @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL") => Err(ConfigError::Refused(format!(
                "listener {name}: security protocol {protocol} is not served by this version; only PLAINTEXT is"
            ))),
            _ => Err(ConfigError::Refused(format!(
                "listener {name}: no security protocol is known for this name; add it to listener.security.protocol.map, as in {name}:PLAINTEXT"
            ))),
        }
    }
}
