//! The way from this node to the controllers of others, and from theirs to its own: `CONTROLLER` of the messages between nodes.
//!
//! What brokers live by has a connection of its own: answers come in the order of their requests, and a heartbeat must not wait
//! for the topics that somebody creates. That connection's end tells the active controller that the broker may be dead.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::client::ClientError;
use crate::client::peers::{Peers, Purpose};
use crate::controller::{ChannelError, ControllerChannel};
use crate::env::Pending;
use crate::protocol::internal::{self, Answer, Head, InternalKey};
use crate::types::NodeId;

/// The controllers of other nodes, as this one asks them.
#[derive(Debug)]
pub(super) struct OtherControllers {
    pub peers: Peers,
    pub cluster_id: Arc<str>,
    pub node: NodeId,
    pub directory_id: Uuid,
}

impl ControllerChannel for OtherControllers {
    fn call(
        &self,
        controller: NodeId,
        request: Bytes,
        is_urgent: bool,
        within: Duration,
    ) -> Pending<'_, Result<Bytes, ChannelError>> {
        Box::pin(async move {
            let purpose = if is_urgent { Purpose::BrokerLifecycle } else { Purpose::Controller };
            let not_sent = |why: String| ChannelError::NotSent(why);
            let lost = |why: ClientError| ChannelError::Lost(why.to_string());
            let connection = self.peers.connection(controller, purpose).await;
            let connection = connection.map_err(|error| not_sent(error.to_string()))?;
            let head = Head {
                cluster_id: Some(self.cluster_id.to_string()),
                node: self.node,
                directory_id: self.directory_id,
                broker_epoch: -1,
                to: Some(controller),
                to_directory_id: None,
            };
            let body = internal::body(&head, &request).map_err(|error| not_sent(error.to_string()))?;
            let mut asked = connection.start_internal(InternalKey::Controller, body).await.map_err(lost)?;
            let answer = asked.wait(within).await.map_err(lost)?;
            let (head, at) =
                internal::split::<Answer>(&answer).map_err(|error| ChannelError::Lost(error.to_string()))?;
            match head.refusal {
                Some(refusal) => Err(not_sent(refusal.to_string())),
                None => Ok(answer.slice(at..)),
            }
        })
    }
}
