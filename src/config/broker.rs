//! Reads `server.properties` into the typed configuration of a node.

use std::collections::BTreeMap;

use super::key::ConfigError;
use super::rooms::BrokerConfig;
use super::rooms::node::NodeConfig;
use super::values::{BrokerValues, Set};
use super::{broker_keys, kafka_names};

/// What reading a configuration has to say besides its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Kafka's keys that have no meaning here.
    pub without_meaning: Vec<String>,
    /// Keys that neither Kafka nor Raftsman knows, with what may have been meant.
    pub unknown: Vec<(String, Option<&'static str>)>,
}

impl BrokerConfig {
    /// Reads what `server.properties` set. Errors name the key, the value and what is allowed.
    pub fn from_values(mut set: BTreeMap<String, String>) -> Result<(Self, Remarks), ConfigError> {
        let mut remarks = Remarks::default();
        for (name, value) in &set {
            if let Some(key) = broker_keys::find(name) {
                key.check(value)?;
            } else if kafka_names::has(name) {
                remarks.without_meaning.push(name.clone());
            } else {
                remarks.unknown.push((name.clone(), broker_keys::nearest(name)));
            }
        }
        // Two names for one thing, as in Kafka.
        let names = [NodeConfig::id.key.name, NodeConfig::broker_id.key.name];
        for (name, other) in [(names[0], names[1]), (names[1], names[0])] {
            if let Some(id) = set.get(name).filter(|id| id.trim() != "-1").cloned() {
                set.entry(other.to_owned()).or_insert(id);
            }
        }
        Ok((Self::read(BrokerValues::fixed(set))?, remarks))
    }

    /// This configuration with what is set at run time, for all brokers and for this one.
    pub fn with_dynamic(&self, dynamic_default: Set, dynamic: Set) -> Result<Self, ConfigError> {
        let config = Self::read(BrokerValues { dynamic, dynamic_default, fixed: self.values.fixed.clone() })?;
        let (accepts_missing_data, cluster_id) = (self.accepts_missing_data, self.cluster_id.clone());
        Ok(Self { accepts_missing_data, cluster_id, ..config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties;
    use crate::config::rooms::listeners::Listener;

    fn read(text: &str) -> Result<(BrokerConfig, Remarks), ConfigError> {
        BrokerConfig::from_values(properties::parse(text))
    }

    #[test]
    fn a_configuration_of_a_kafka_installation_starts_a_broker() {
        let (config, remarks) = read(
            "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://host.example:9092,CONTROLLER://localhost:9093\n\
             controller.listener.names=CONTROLLER\nnum.network.threads=3\nlog.dirs=/tmp/x\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.retention.hours=168\nlog.retentoin.ms=5\n",
        )
        .unwrap();
        assert_eq!(config.node.id, 7);
        let listeners: Vec<_> = config.listeners.of_clients().cloned().collect();
        assert_eq!(listeners, [Listener { name: "PLAINTEXT".into(), host: String::new(), port: 9092 }]);
        let hosts =
            |told: &mut dyn Iterator<Item = &Listener>| told.map(|one| one.host.clone()).collect::<Vec<_>>();
        assert_eq!(hosts(&mut config.listeners.advertised_to_clients()), ["host.example"]);
        let controllers = config.listeners.of_controllers();
        assert_eq!((controllers.len(), controllers[0].port), (1, 9093));
        assert_eq!(hosts(&mut config.listeners.advertised_to_controllers()), ["localhost"]);
        assert_eq!(config.listeners.inter_broker(), "PLAINTEXT");
        assert_eq!(config.quorum.bootstrap_servers.0, ["localhost:9093"]);
        assert_eq!(config.storage.log_dir().to_str(), Some("/tmp/x"));
        assert_eq!(config.storage.metadata_log_dir().to_str(), Some("/tmp/x/__cluster_metadata"));
        assert_eq!(remarks.unknown, [("log.retentoin.ms".to_owned(), Some("log.retention.ms"))]);
        assert!(remarks.without_meaning.contains(&"num.network.threads".to_owned()));
    }

    #[test]
    fn listeners_are_known_by_name_and_by_whom_they_serve() {
        let (config, _) = read(
            "listeners=CTL2://:1,IN://:2,OUT://:3,CTL://:4\ncontroller.listener.names=CTL,CTL2\n\
             advertised.listeners=OUT://far:30,IN://near:20\ninter.broker.listener.name=IN\n\
             listener.security.protocol.map=CTL:PLAINTEXT,CTL2:PLAINTEXT,IN:PLAINTEXT,OUT:PLAINTEXT\n\
             controller.quorum.voters=1@a:9093, 2@[::1]:9093\n",
        )
        .unwrap();
        let listeners = &config.listeners;
        assert_eq!(listeners.of_clients().map(|one| one.port).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(listeners.advertised_to_clients().map(|one| one.port).collect::<Vec<_>>(), [20, 30]);
        assert_eq!(listeners.of_controllers().iter().map(|one| one.port).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(listeners.inter_broker(), "IN");
        assert_eq!(config.quorum.voters.0[&2], "[::1]:9093");
    }

    #[test]
    fn the_old_name_of_the_node_id_is_read_too() {
        let id = |text| read(text).unwrap().0.node.id;
        assert_eq!(
            [id(""), id("broker.id=3"), id("broker.id=-1"), id("node.id=2\nbroker.id=-1")],
            [1, 3, 1, 2]
        );
    }

    #[test]
    fn a_bad_value_is_told_by_key_value_and_what_is_allowed() {
        let text = |properties| read(properties).unwrap_err().to_string();
        assert_eq!(
            text("num.partitions=0"),
            "Invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert_eq!(
            text("log.segment.bytes=1"),
            "Invalid value 1 for configuration log.segment.bytes: Value must be at least 1048576"
        );
        assert_eq!(
            text("listeners=PLAINTEXT://:9092,here"),
            "Invalid value here for configuration listeners: expected NAME://host:port, such as PLAINTEXT://127.0.0.1:9092"
        );
        assert_eq!(
            text("max.connections.per.ip.overrides=::1:5,host:5"),
            "Invalid value host:5 for configuration max.connections.per.ip.overrides: expected an address and a number, such as 10.0.0.1:100"
        );
        assert!(text("listeners=SSL://:9092").contains("only PLAINTEXT"));
        assert!(text("listeners=CONTROLLER://:9092").contains("no listener for clients"));
        assert!(text("listeners=HERE://:9092").contains("as in HERE:PLAINTEXT"));
        assert!(text("process.roles=controller").contains("listeners has none that"));
        assert!(text("process.roles=broker").contains("says where the controllers are"));
        assert!(text("process.roles=").contains("a broker, a controller, or both"));
        let broker = "process.roles=broker\ncontroller.quorum.voters=1@a:1";
        assert!(text(broker).contains("is only a broker, and must not be"));
        let listens =
            "process.roles=broker\ncontroller.quorum.voters=2@a:1\nlisteners=PLAINTEXT://:1,CONTROLLER://:2";
        assert!(text(listens).contains("serves no controllers"));
        let serves = "process.roles=controller\nlisteners=PLAINTEXT://:1,CONTROLLER://:2";
        assert!(text(serves).contains("serves no clients"));
        let broker = read("process.roles=broker\ncontroller.quorum.voters=2@a:1").unwrap().0;
        assert!(broker.node.is_broker() && !broker.node.is_controller());
        let controller = "process.roles=controller\nlisteners=CONTROLLER://:9093\n";
        let controller = read(controller).unwrap().0;
        assert_eq!((controller.node.is_broker(), controller.listeners.inter_broker()), (false, "PLAINTEXT"));
        assert!(text("controller.quorum.voters=2@a:1").contains("node.id=1 must be one of"));
        assert!(text("controller.quorum.voters=1@a:1").contains("listeners has none"));
        assert!(text("log.dirs=/a,/b").contains("one data folder"));
        assert!(text("controller.quorum.voters=1@localhost").contains("such as 1@127.0.0.1:9093"));
        assert!(text("controller.quorum.voters=1@a:1,1@b:1").contains("named twice"));
        assert!(text("inter.broker.listener.name=OTHER").contains("no such listener"));
        assert!(text("listeners=A://:1\nlistener.security.protocol.map=B:PLAINTEXT").contains("A:PLAINTEXT"));
        assert!(
            text("listeners=PLAINTEXT://:1,PLAINTEXT://:2").contains("two listeners are named PLAINTEXT")
        );
        assert!(text("advertised.listeners=OTHER://:1").contains("names OTHER"));
    }
}
