//! Gives ids to producers, from blocks that the controller hands out (KIP-730).

use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::Mutex;

use crate::controller::{BrokerIdentity, ControllerError, ControllerHandle};
use crate::types::ProducerId;

/// How long a producer waits for its id, with all who wait before it for a new block.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The block this broker gives ids from.
#[derive(Debug, Default)]
pub struct ProducerIds(Mutex<(i64, i64)>);

impl ProducerIds {
    /// An id that no producer of the cluster has had.
    pub async fn next(
        &self,
        controller: &ControllerHandle,
        identity: BrokerIdentity,
    ) -> Result<ProducerId, ControllerError> {
        tokio::time::timeout(TIMEOUT, self.next_of_block(controller, identity))
            .await
            .unwrap_or_else(|_| Err(ControllerError::plain(ResponseError::CoordinatorLoadInProgress)))
    }

    async fn next_of_block(
        &self,
        controller: &ControllerHandle,
        identity: BrokerIdentity,
    ) -> Result<ProducerId, ControllerError> {
        let mut block = self.0.lock().await;
        if block.0 >= block.1 {
            let fresh = controller.allocate_producer_ids(identity).await?;
            let Some(end) = fresh.first.0.checked_add(fresh.count) else {
                return Err(ControllerError::plain(ResponseError::UnknownServerError));
            };
            *block = (fresh.first.0, end);
        }
        let id = block.0;
        block.0 += 1;
        Ok(ProducerId(id))
    }
}
