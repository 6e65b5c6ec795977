//! The controlled shutdown: a broker that goes gives its leaderships away before it lets anybody feel it.
//!
//! It says so to the active controller, which takes it out of every ISR in which somebody stays, and gives its partitions to the
//! first of those; that done, this broker is a follower of all that others have, and only then stops to serve. The active
//! controller does the same of itself, and leaves the quorum last.

use std::time::Duration;

use crate::controller::BrokerTransition;
use crate::server::Broker;

/// How long the active controller may take; it may be gone itself.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Gives away what this broker leads. When it returns this node follows what it led, or nobody could be asked.
pub(super) async fn hand_over(broker: &Broker) {
    let image = broker.image();
    let others = image.brokers().values().any(|other| other.id != broker.node && other.is_active());
    if !broker.config.node.is_broker() || !broker.config.registration.controlled_shutdown || !others {
        return;
    }
    let started = broker.monotonic_ms();
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
