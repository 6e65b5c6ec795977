//! What the node is.

use crate::config::declaration::config;
use crate::config::key::ConfigError;
use crate::config::rooms::listeners::ListenersConfig;
use crate::config::rooms::quorum::QuorumConfig;

config! {
    /// Who the node is in its cluster, and how its process runs.
    pub struct NodeConfig {
        /// Id of this node in its cluster.
        id: i32 = "node.id", ReadOnly, Int(0, i32::MAX), default 1;
        /// Old name of node.id.
        broker_id: i32 = "broker.id", ReadOnly, Int(-1, i32::MAX), default -1;
        /// Rack of this broker, for the placement of replicas.
        rack: Option<String> = "broker.rack", ReadOnly, Text, via not_empty;
        /// Roles of this node.
        roles: Vec<String> =
            "process.roles", ReadOnly, List(&["broker", "controller"]), default "broker,controller";
        /// Address of the HTTP listener for /metrics, /healthz and /readyz; empty is none.
        admin_listener: Option<String> =
            "raftsman.admin.listener", ReadOnly, Text, default "127.0.0.1:9190", via not_empty;
        /// Threads that serve connections; 0 is one per core.
        worker_threads: usize = "raftsman.worker.threads", ReadOnly, Int(0, 1024), default 0;
    }
}

fn not_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl NodeConfig {
    /// Whether it holds partitions and serves clients.
    pub fn is_broker(&self) -> bool {
        self.has_role("broker")
    }

    /// Whether it may lead the metadata quorum.
    pub fn is_controller(&self) -> bool {
        self.has_role("controller")
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|set| set == role)
    }

    /// Refuses what does not fit together.
    pub(in crate::config) fn check(
        &self,
        quorum: &QuorumConfig,
        listeners: &ListenersConfig,
    ) -> Result<(), ConfigError> {
        let roles = self.roles.join(",");
        let refused = |reason: String| Err(ConfigError::Refused(format!("process.roles={roles}: {reason}")));
        let (voters, id) = (&quorum.voters.0, self.id);
        let names = listeners.controller_names.join(",");
        let listens = !listeners.of_controllers().is_empty();
        match (self.is_broker(), self.is_controller()) {
            (false, false) => refused("a node is a broker, a controller, or both".to_owned()),
            (true, false) if listens => refused(format!(
                "a node that is only a broker serves no controllers, but listeners has one that \
                 controller.listener.names={names} names"
            )),
            (true, false) if voters.is_empty() && quorum.bootstrap_servers.0.is_empty() => refused(
                "neither controller.quorum.bootstrap.servers nor controller.quorum.voters says where the controllers are"
                    .to_owned(),
            ),
            (true, false) if voters.contains_key(&id) => refused(format!(
                "node.id={id} is only a broker, and must not be one of controller.quorum.voters"
            )),
            (_, true) if !voters.is_empty() && !voters.contains_key(&id) => {
                refused(format!("node.id={id} must be one of controller.quorum.voters"))
            }
            (is_broker, true) if !listens && (!is_broker || !voters.is_empty()) => {
                refused(format!("listeners has none that controller.listener.names={names} names"))
            }
            _ => Ok(()),
        }
    }
}
