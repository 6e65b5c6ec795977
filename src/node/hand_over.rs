//! The controlled shutdown: a broker that goes gives its leaderships away before it lets anybody feel it.
//!
//! First it hands over, so that nothing is lost that it alone has acknowledged (`replication::hand_over`). Then it says so to
//! the active controller, which takes it out of every ISR in which somebody stays, and gives what it leads still to the
//! first of those; that done, this broker is a follower of all that others have, and only then stops to serve. The active
//! controller does the same of itself, and leaves the quorum last.

use std::time::Duration;

use crate::controller::BrokerTransition;
use crate::server::Broker;

/// How long the active controller may take; it may be gone itself.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the leaderships may take that go in order.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

/// Gives away what this broker leads. When it returns this node follows what it led, or nobody could be asked.
pub(super) async fn hand_over(broker: &Broker) {
    let image = broker.image();
    let others = image.brokers().values().any(|other| other.id != broker.node && other.is_active());
    if !broker.config.node.is_broker() || !broker.config.registration.controlled_shutdown || !others {
        return;
    }
    let started = broker.monotonic_ms();
    let handing_over = broker.replication.hand_over_all(&broker.controller);
    if tokio::time::timeout(HAND_OVER_TIMEOUT, handing_over).await.is_err() {
        tracing::warn!(
            "what this broker leads could not be handed over in time: what it alone has acknowledged may be lost"
        );
    }
    let controller = broker.controller.within(TIMEOUT);
    if let Err(error) = controller.change_broker(broker.identity(), BrokerTransition::BeginShutdown).await {
        tracing::warn!(%error, "what this broker leads could not be given away: others take it over when they miss it");
        return;
    }
    broker.wait_applied().await;
    let took_ms = broker.monotonic_ms() - started;
    let kept = led(broker);
    tracing::info!(
        took_ms,
        kept,
        "what this broker led is led by others; those kept have no other replica in sync"
    );
}

/// Partitions that this broker leads.
fn led(broker: &Broker) -> usize {
    let image = broker.image();
    let partitions = image.topics().flat_map(|topic| topic.partitions.iter());
    partitions.filter(|partition| partition.leader == Some(broker.node)).count()
}
