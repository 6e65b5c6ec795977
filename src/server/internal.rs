//! What nodes of a cluster ask each other that Kafka has no message for: who may ask, and who answers.
//!
//! Dispatch comes here with the requests of controller listeners whose keys are [`InternalKey`]s; on other listeners
//! these keys are not served. Whoever belongs to another cluster, or means another node, is told so and changes nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::api::{Body, Reply, Request};
use crate::protocol::internal::{self, Answer, Head, InternalKey, Refusal};
use crate::zerocopy::Piece;

/// A payload, when it has been made.
type Pending = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// Answers a request between nodes. The payload of the answer is the handler's; that of the request is `payload`.
type Handler = fn(Arc<Broker>, Asked) -> Pending;

/// A request between nodes.
struct Asked {
    /// Over which connection it came.
    connection: u64,
    payload: Bytes,
}

fn handler(key: InternalKey) -> Option<Handler> {
    match key {
        InternalKey::QuorumState => Some(quorum_state),
        InternalKey::RaftAppend | InternalKey::RaftVote | InternalKey::RaftSnapshot => None,
        InternalKey::Controller => Some(controller),
    }
}

/// Whether the connection's next request may be taken while one of this kind is under way: its answer may take long,
/// and the next one does not depend on it.
pub fn overlaps(key: InternalKey) -> bool {
    key == InternalKey::Controller
}

/// Answers a request whose header has been read.
pub fn answer(broker: &Arc<Broker>, key: InternalKey, mut request: Request) -> Reply {
    let Some(handler) = handler(key) else {
        return Reply::Close(format!("{key} is not served"));
    };
    let body = std::mem::take(&mut request.body).freeze();
    let (head, at) = match internal::split::<Head>(&body) {
        Ok(split) => split,
        Err(malformed) => return Reply::Close(format!("a request of {key} cannot be read: {malformed}")),
    };
    let asked = Asked { connection: request.connection, payload: body.slice(at..) };
    let broker = broker.clone();
    let answering = async move {
        // Charged for until it is answered.
        let _request = request;
        let answered = match check(&broker, &head) {
            Ok(()) => handler(broker.clone(), asked).await,
            Err(refusal) => Err(refusal),
        };
        encode(&broker, answered)
    };
    match overlaps(key) {
        true => Reply::Overlapping(Box::pin(answering)),
        false => Reply::Later(Box::pin(answering)),
    }
}

/// Refuses who belongs to another cluster or means another node.
fn check(broker: &Broker, head: &Head) -> Result<(), Refusal> {
    let cluster_id = broker.known_cluster_id();
    if let (Some(own), Some(theirs)) = (&cluster_id, &head.cluster_id)
        && **own != **theirs
    {
        return Err(Refusal::OtherCluster { node: broker.node, cluster: own.to_string() });
    }
    if head.to.is_some_and(|to| to != broker.node) {
        return Err(Refusal::OtherNode { node: broker.node });
    }
    let directory = broker.quorum_directory_id();
    match head.to_directory_id {
        Some(meant) if meant != directory => Err(Refusal::OtherDirectory { node: broker.node, directory }),
        _ => Ok(()),
    }
}

fn encode(broker: &Broker, answered: Result<Bytes, Refusal>) -> Body {
    let (payload, refusal) = match answered {
        Ok(payload) => (payload, None),
        Err(refusal) => (Bytes::new(), Some(refusal)),
    };
    let answer = Answer {
        cluster_id: broker.known_cluster_id().map(|id| id.to_string()),
        node: broker.node,
        directory_id: broker.quorum_directory_id(),
        refusal,
    };
    let bytes = internal::body(&answer, &payload).unwrap_or_else(|error| {
        // Ids and numbers always can; whoever asked will not be able to read nothing.
        tracing::error!(%error, "an answer to another node could not be encoded");
        Bytes::new()
    });
    Body { pieces: VecDeque::from([Piece::Bytes(bytes)]), ..Body::default() }
}

/// A request to the active controller, of a node that takes this one for it.
fn controller(broker: Arc<Broker>, asked: Asked) -> Pending {
    Box::pin(async move {
        let answered = broker.controller.answer_forwarded(asked.connection, &asked.payload).await;
        answered.map(Bytes::from).map_err(|error| Refusal::Unavailable(format!("it cannot be read: {error}")))
    })
}

fn quorum_state(broker: Arc<Broker>, _: Asked) -> Pending {
    Box::pin(async move {
        let state = broker.quorum.state();
        serde_json::to_vec(&state).map(Bytes::from).map_err(|error| Refusal::Unavailable(error.to_string()))
    })
}
