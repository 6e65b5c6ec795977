//! What the node is.

use crate::config::declaration::config;
use crate::config::key::ConfigError;

config! {
    /// Who the node is in its cluster, and how its process runs.
    pub struct NodeConfig {
        /// Id of this node in its cluster.
        id: i32 = "node.id", ReadOnly, Int(0, i32::MAX), default 1;
        /// Old name of node.id.
        broker_id: i32 = "broker.id", ReadOnly, Int(-1, i32::MAX), default -1;
        /// Rack of this broker, for the placement of replicas.
        rack: Option<String> = "broker.rack", ReadOnly, Text, via not_empty;
        /// Roles of this node; a single node has both.
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
    /// Refuses what this version does not serve.
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
        if !["broker", "controller"].iter().all(|role| self.roles.iter().any(|set| set == role)) {
            return Err(ConfigError::Refused(format!(
                "process.roles={}: this version runs a single node that has both roles; set process.roles=broker,controller",
                self.roles.join(",")
            )));
        }
        Ok(())
    }
}
