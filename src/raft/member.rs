//! Who is in the quorum, as its log says.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::host_and_port;

/// Where a controller listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the listener.
    pub name: String,
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    pub fn address(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// A node of the quorum, voter or not.
///
/// A voter is a node id and the id of the folder with its metadata: one whose folder was made anew knows nothing of what
/// it promised. The leader notes the folder when it first hears of it; until then any will do (a cluster
/// whose voters were named by `controller.quorum.voters` begins like that).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What versions before 0.2 wrote, who knew one node: where its clients connect. Read, and never used.
    #[serde(default)]
    addr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_id: Option<Uuid>,
    /// Where its controller listens; the first is the one that others use. None for a node that is only a broker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

impl Member {
    pub fn new(directory_id: Option<Uuid>, endpoints: Vec<Endpoint>) -> Self {
        Self { addr: String::new(), directory_id, endpoints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_earlier_folders_are_read() {
        let member: Member = serde_json::from_str(r#"{"addr":"127.0.0.1:9092"}"#).unwrap();
        assert_eq!((member.directory_id, member.endpoints.len()), (None, 0));
        let endpoint = Endpoint { name: "CONTROLLER".into(), host: "::1".into(), port: 9093 };
        assert_eq!(endpoint.address(), "[::1]:9093");
        let member = Member::new(Some(Uuid::from_u128(1)), vec![endpoint]);
        let text = serde_json::to_string(&member).unwrap();
        assert_eq!(serde_json::from_str::<Member>(&text).unwrap(), member);
    }
}
