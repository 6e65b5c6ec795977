//! Where the controllers of the cluster are.

use std::collections::BTreeMap;

use crate::config::declaration::{Value, config};
use crate::config::key::{self, ConfigError, Key};

config! {
    /// The `controller.quorum` keys.
    pub struct QuorumConfig {
        /// Whether a controller that follows the quorum has itself made one of its voters, and a voter of its id removed
        /// whose folder it has no more.
        auto_join: bool = "controller.quorum.auto.join.enable", ReadOnly, Boolean, default "false";
        /// Addresses of controllers, host:port, that a node asks for its cluster when it joins.
        bootstrap_servers: Addresses = "controller.quorum.bootstrap.servers", ReadOnly, List(&[]), default "";
        /// The controllers that form the quorum, as in 1@host-a:9093,2@host-b:9093,3@host-c:9093.
        voters: Voters = "controller.quorum.voters", ReadOnly, List(&[]), default "";
    }
}

/// Addresses (`host:port`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl Value for Addresses {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        let wrong = |address| key.invalid(address, "expected host:port, such as 127.0.0.1:9093");
        let addresses = key::list(text).map(|address| match is_address(address) {
            true => Ok(address.to_owned()),
            false => Err(wrong(address)),
        });
        addresses.collect::<Result<_, _>>().map(Self)
    }
}

/// Nodes with their addresses (`host:port`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters(pub BTreeMap<i32, String>);

impl Value for Voters {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        let mut voters = BTreeMap::new();
        for entry in key::list(text) {
            let read = || {
                let (id, address) = entry.split_once('@')?;
                let id = id.trim().parse().ok().filter(|id: &i32| *id >= 0)?;
                is_address(address).then(|| (id, address.trim().to_owned()))
            };
            let wrong = "expected a node id and its address, such as 1@127.0.0.1:9093";
            let (id, address) = read().ok_or_else(|| key.invalid(entry, wrong))?;
            if voters.insert(id, address).is_some() {
                return Err(key.invalid(entry, "a node is named twice"));
            }
        }
        Ok(Self(voters))
    }
}

/// Whether a text is `host:port`.
fn is_address(text: &str) -> bool {
    let parts = text.trim().rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
