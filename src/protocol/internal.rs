//! What nodes of a cluster ask each other that Kafka has no message for.
//!
//! ```text
//! request   as Kafka frames it (header version 2, a key from 20001 on, version 0), then
//!           length of the head  u32
//!           head                JSON: who asks, in which cluster, and whom ([`Head`])
//!           payload             the rest; each API has its own
//! response  header version 1, then
//!           length of the head  u32
//!           head                JSON: who answers, or why not ([`Answer`])
//!           payload             the rest
//! ```
//!
//! Served on controller listeners alone, and told to nobody by ApiVersions. Why not Kafka's own Vote and Fetch of
//! KIP-595: see `docs/adr/0005-the-wire-between-controllers.md`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::reader::{ReadError, Reader};
use crate::types::{NodeId, uuid_to_base64};

/// A message between nodes, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum InternalKey {
    /// Entries of the metadata log, from its leader.
    RaftAppend = 20_001,
    /// A voter wants to lead the quorum.
    RaftVote = 20_002,
    /// A part of a snapshot of the metadata.
    RaftSnapshot = 20_003,
    /// A request to the active controller.
    Controller = 20_004,
    /// How is the quorum, as you see it? Asked by all who follow its leader, as a sign of life.
    QuorumState = 20_005,
    /// What has the leader for me? Asked by those who have no listener for controllers.
    RaftTake = 20_006,
}

impl InternalKey {
    pub const ALL: &[Self] = &[
        Self::RaftAppend,
        Self::RaftVote,
        Self::RaftSnapshot,
        Self::Controller,
        Self::QuorumState,
        Self::RaftTake,
    ];

    pub fn of(key: i16) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| *known as i16 == key)
    }
}

impl fmt::Display for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The version of requests and of both headers.
pub const VERSION: i16 = 0;
pub const REQUEST_HEADER_VERSION: i16 = 2;
pub const RESPONSE_HEADER_VERSION: i16 = 1;

/// Longest head. It holds a few ids.
const HEAD_BYTES_MAX: usize = 4096;

/// Who asks, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// None: the node does not know yet which cluster it belongs to.
    pub cluster_id: Option<String>,
    pub node: NodeId,
    /// The folder with the sender's metadata: a node that lost it is another one under the same number.
    pub directory_id: Uuid,
    /// As the controller gave it to the broker that runs there; -1 for none.
    pub broker_epoch: i64,
    /// Who is meant, where the sender cares.
    pub to: Option<NodeId>,
    /// The receiver's folder, where the sender knows it.
    pub to_directory_id: Option<Uuid>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub cluster_id: Option<String>,
    pub node: NodeId,
    pub directory_id: Uuid,
    /// Why nothing was done; no payload follows then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why a node does nothing of what another one asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("node {node} belongs to the cluster {cluster}")]
    OtherCluster { node: NodeId, cluster: String },
    #[error("it is node {node}: is the address in controller.quorum.voters right?")]
    OtherNode { node: NodeId },
    #[error(
        "node {node} has the folder {}: its folder was made anew, so it knows nothing of what it once voted for; remove the old voter, then add the new one",
        uuid_to_base64(*directory)
    )]
    OtherDirectory { node: NodeId, directory: Uuid },
    #[error(
        "the quorum knows node {node} by its folder {}: a folder that was made anew may not vote under its old name; remove the old voter, then add the new one",
        uuid_to_base64(*known)
    )]
    UnknownDirectory { node: NodeId, known: Uuid },
    /// This node does not do such a thing now, and why.
    #[error("{0}")]
    Unavailable(String),
}

/// The bytes of a message between nodes are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("its head announces {0} bytes, more than {HEAD_BYTES_MAX}")]
    HeadLength(usize),
    #[error("its head cannot be read: {0}")]
    Head(String),
}

/// A head and what follows it, as the body of a request or response.
pub fn body(head: &impl Serialize, payload: &[u8]) -> Result<Bytes, serde_json::Error> {
    let head = serde_json::to_vec(head)?;
    let mut body = BytesMut::with_capacity(4 + head.len() + payload.len());
    body.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    body.extend_from_slice(&head);
    body.extend_from_slice(payload);
    Ok(body.freeze())
}

/// Takes the head off a body.
///
/// # Errors
/// When it is too long, ends too early, or is no such head.
pub fn split<'a, H: Deserialize<'a>>(body: &'a [u8]) -> Result<(H, usize), Malformed> {
    let mut reader = Reader::new(body);
    let length = reader.i32()?.cast_unsigned() as usize;
    if length > HEAD_BYTES_MAX {
        return Err(Malformed::HeadLength(length));
    }
    let head = reader.take(length)?;
    let head = serde_json::from_slice(head).map_err(|error| Malformed::Head(error.to_string()))?;
    Ok((head, body.len() - reader.remaining()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            cluster_id: Some("cluster".into()),
            node: NodeId(1),
            directory_id: Uuid::from_u128(1),
            broker_epoch: -1,
            to: Some(NodeId(2)),
            to_directory_id: None,
        }
    }

    #[test]
    fn a_head_comes_back_with_its_payload_and_hostile_ones_are_errors() {
        let whole = body(&head(), b"payload").unwrap();
        let (read, at) = split::<Head>(&whole).unwrap();
        assert_eq!((read, &whole[at..]), (head(), &b"payload"[..]));
        for length in 0..at {
            assert!(split::<Head>(&whole[..length]).is_err(), "cut at {length}");
        }
        let mut long = whole.to_vec();
        long[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(split::<Head>(&long), Err(Malformed::HeadLength(u32::MAX as usize)));
        let deep = "[".repeat(HEAD_BYTES_MAX);
        let mut nested = (HEAD_BYTES_MAX as u32).to_be_bytes().to_vec();
        nested.extend_from_slice(deep.as_bytes());
        assert!(matches!(split::<Head>(&nested), Err(Malformed::Head(_))));
    }
}
