//! What nodes of a cluster ask each other that Kafka has no message for, as a broker answers it: who may ask, and who
//! answers.
//!
//! Whoever belongs to another cluster, or means another node, is told so and changes nothing. On listeners for clients
//! these keys are not served. What serves the quorum before there is a broker is `controller_listener`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::api::{Body, Reply, Request};
use crate::protocol::internal::{self, Head, InternalKey, Refusal};
use crate::raft::MetadataQuorum;
use crate::zerocopy::Piece;

/// Whether the connection's next request may be taken while one of this kind is under way: its answer may take long,
/// and the next one does not depend on it.
pub fn overlaps(key: InternalKey) -> bool {
    key == InternalKey::Controller
}

/// What becomes of a request whose sender has passed the checks.
async fn handle(
    broker: Arc<Broker>,
    key: InternalKey,
    head: Head,
    (connection, payload): (u64, Bytes),
) -> Result<Bytes, Refusal> {
    match key {
        // Of a node that takes this one for the active controller.
        InternalKey::Controller => {
            let answered = broker.controller.answer_forwarded(connection, &payload).await;
            let unreadable = |error| Refusal::Unavailable(format!("it cannot be read: {error}"));
            answered.map(Bytes::from).map_err(unreadable)
        }
        _ => broker.quorum.receive(key, head, payload).await,
    }
}

/// Answers a request that came to a broker, and whose header has been read.
pub fn answer(broker: &Arc<Broker>, key: InternalKey, mut request: Request) -> Reply {
    let body = std::mem::take(&mut request.body).freeze();
    let (head, at) = match internal::split::<Head>(&body) {
        Ok(split) => split,
        Err(malformed) => return Reply::Close(format!("a request of {key} cannot be read: {malformed}")),
    };
    let broker = broker.clone();
    let answering = async move {
        let asked = (request.connection, body.slice(at..));
        // Charged for until it is answered.
        let _request = request;
        let quorum = broker.quorum.clone();
        let answered = match quorum.check(&head) {
            Ok(()) => handle(broker, key, head, asked).await,
            Err(refusal) => Err(refusal),
        };
        let bytes = encode(&quorum, answered);
        Body { pieces: VecDeque::from([Piece::Bytes(bytes)]), ..Body::default() }
    };
    match overlaps(key) {
        true => Reply::Overlapping(Box::pin(answering)),
        false => Reply::Later(Box::pin(answering)),
    }
}

/// An answer to another node.
pub(super) fn encode(quorum: &MetadataQuorum, answered: Result<Bytes, Refusal>) -> Bytes {
    let (payload, refusal) = match answered {
        Ok(payload) => (payload, None),
        Err(refusal) => (Bytes::new(), Some(refusal)),
    };
    internal::body(&quorum.answer(refusal), &payload).unwrap_or_else(|error| {
        // Ids and numbers always can; whoever asked will not be able to read nothing.
        tracing::error!(%error, "an answer to another node could not be encoded");
        Bytes::new()
    })
}
