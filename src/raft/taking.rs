//! A node without a listener for controllers takes what the leader has for it ([`super::mailbox`]): the task that asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::MetadataQuorum;
use super::links::Links;
use super::mailbox::{self, Envelope, Question};
use crate::client::peers::Purpose;
use crate::protocol::internal::{Head, InternalKey, Refusal};
use crate::types::NodeId;

/// How long the leader may take to answer, who waits for letters for a while.
const LIMIT: Duration = Duration::from_secs(6);
/// The pause before a leader that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes letters from the leader that this node follows, deals with them, and answers. Never ends.
pub(super) async fn take_letters(quorum: MetadataQuorum, links: Arc<Links>) {
    let mut followed = links.followed.subscribe();
    let (mut question, mut answer) = (Question::default(), Bytes::new());
    loop {
        let leader = *followed.borrow_and_update();
        let payload = mailbox::joined(&question, &answer);
        // What another leader has asked is not this one's to hear.
        (question, answer) = Default::default();
        let (Some(leader), Ok(payload)) = (leader, payload) else {
            if followed.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        let way = (Purpose::RaftTake, InternalKey::RaftTake);
        let taken = tokio::select! {
            taken = links.call(leader, way, &payload, LIMIT) => taken,
            _ = followed.changed() => continue,
        };
        match taken {
            Ok(letter) if letter.is_empty() => {}
            Ok(letter) => match mailbox::split::<Envelope>(&letter) {
                Ok((envelope, payload)) => {
                    let dealt = deal(&quorum, &links, leader, envelope, payload).await;
                    question.answers = Some(envelope.number);
                    match dealt {
                        Ok(done) => answer = done,
                        Err(refusal) => question.refusal = Some(refusal),
                    }
                }
                Err(error) => {
                    tracing::warn!(%leader, error, "what the leader of the quorum has for this node cannot be read");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Does what a letter says, as if its sender had called.
async fn deal(
    quorum: &MetadataQuorum,
    links: &Links,
    leader: NodeId,
    envelope: Envelope,
    payload: Bytes,
) -> Result<Bytes, Refusal> {
    let key = InternalKey::of(envelope.key)
        .filter(|key| matches!(key, InternalKey::RaftAppend | InternalKey::RaftSnapshot))
        .ok_or_else(|| Refusal::Unavailable(format!("a letter of key {} is none", envelope.key)))?;
    // It has answered as the node that was meant.
    let directory_id = links.directories.lock().get(&leader).copied().unwrap_or_default();
    let head = Head {
        cluster_id: links.cluster_id(),
        node: leader,
        directory_id,
        broker_epoch: -1,
        to: Some(links.node),
        to_directory_id: Some(links.directory_id),
    };
    quorum.receive(key, head, payload).await
}
