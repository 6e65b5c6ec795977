//! The active controller's watch over the brokers: who is dead is fenced.
//!
//! A process that ends closes its connections, and nobody listens at its address any more: a connection that is refused
//! is proof, and the broker is fenced within milliseconds. One that is not heard of otherwise (its machine, or the way to it, is
//! gone) is fenced when its session is over. Who has just become the active controller looks after everybody at
//! once: the one before it may have died with its broker.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::actor::Queue;
use super::forwarding::Outcome;
use super::liveness::Liveness;
use super::request::{BrokerIdentity, BrokerTransition, ChangeBroker};
use crate::env::Network;
use crate::raft::MetadataQuorum;

/// How long a look at a broker's listener may take.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// The pause after the first look at a broker that may be dead; it doubles. Ends of a process are not seen at once: its
/// connections may be closed before its listener is.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long a fencing may take to be decided before it is tried again.
const FENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Watches while this node is the active controller.
pub(super) struct Watch {
    pub quorum: MetadataQuorum,
    pub queue: Queue,
    pub liveness: Arc<Mutex<Liveness>>,
    pub network: Arc<dyn Network>,
    /// The listener at which brokers reach each other; any where a broker has none of that name.
    pub broker_listener: String,
    pub session_timeout: Duration,
    /// Brokers whose connection has been closed.
    pub closed: mpsc::UnboundedReceiver<BrokerIdentity>,
}

impl Watch {
    pub(super) async fn run(mut self) {
        let own = self.quorum.node_id();
        loop {
            while self.quorum.leader() != Some(own) {
                self.quorum.leader_after(self.quorum.leader()).await;
            }
            match self.quorum.basis().await {
                Ok(basis) => {
                    let quorum = self.quorum.clone();
                    self.liveness.lock().begin(&basis.image, Instant::now());
                    tokio::select! {
                        () = self.watch() => {}
                        () = quorum.leader_after(Some(own)) => {}
                    }
                }
                // It has not heard of a majority yet.
                Err(_) => sleep(LOOK_PAUSE_MAX).await,
            }
        }
    }

    /// Fences the dead, as long as this is not dropped.
    async fn watch(&mut self) {
        let own = self.quorum.node_id();
        // What was closed while another node was the active controller is that one's.
        while self.closed.try_recv().is_ok() {}
        let mut looks = JoinSet::new();
        for broker in self.quorum.image().brokers().values().filter(|broker| broker.id != own) {
            let broker = BrokerIdentity { id: broker.id, epoch: broker.epoch };
            looks.spawn(self.look(broker));
        }
        let mut applied = self.quorum.applied();
        let mut fencing = BTreeSet::new();
        let mut awake = Instant::now();
        loop {
            let now = Instant::now();
            if now > awake + self.session_timeout / 4 {
                // This process has been asleep, and what it was sent meanwhile has not been read yet.
                self.liveness.lock().begin(&self.quorum.image(), now);
            }
            let look = self.liveness.lock().look(&self.quorum.image(), own, now);
            for broker in look.expired {
                if fencing.insert(broker) {
                    tracing::warn!(broker = %broker.id, "it was not heard of for broker.session.timeout.ms: fenced");
                    let queue = self.queue.clone();
                    looks.spawn(async move {
                        if !fence(&queue, broker).await {
                            // Where it still leads, the session's end comes again.
                            sleep(LOOK_PAUSE_MAX).await;
                        }
                        Some(broker)
                    });
                }
            }
            // Where nobody else is there to look after, time does not matter.
            awake = now + self.session_timeout / 8;
            let is_watching = look.next.is_some();
            tokio::select! {
                Some(broker) = self.closed.recv() => {
                    looks.spawn(self.look(broker));
                }
                Some(ended) = looks.join_next() => if let Ok(Some(broker)) = ended {
                    fencing.remove(&broker);
                },
                changed = applied.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_until(awake.min(look.next.unwrap_or(awake))), if is_watching => {}
            }
            if !is_watching {
                awake = Instant::now();
            }
        }
    }

    /// Looks whether the process of a broker is still there, until it is known, and fences one that is not.
    fn look(&self, broker: BrokerIdentity) -> impl Future<Output = Option<BrokerIdentity>> + Send + 'static {
        let Self { quorum, liveness, network, broker_listener, .. } = self;
        let (quorum, liveness, network) = (quorum.clone(), liveness.clone(), network.clone());
        let (queue, listener, session_timeout) =
            (self.queue.clone(), broker_listener.clone(), self.session_timeout);
        async move {
            let start = Instant::now();
            let mut pause = LOOK_PAUSE;
            while start.elapsed() < session_timeout {
                let address = address(&quorum, broker, &listener)?;
                let looked = network.connect(&address, LOOK_LIMIT).await;
                if liveness.lock().heard_after(broker, start) {
                    return None;
                }
                if looked.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                    tracing::warn!(broker = %broker.id, address, "nobody listens at its address, so its process has ended: fenced");
                    _ = fence(&queue, broker).await;
                    return None;
                }
                sleep(pause).await;
                pause = (2 * pause).min(LOOK_PAUSE_MAX);
            }
            None
        }
    }
}

/// False when it is not known whether the broker is fenced.
async fn fence(queue: &Queue, broker: BrokerIdentity) -> bool {
    let request = ChangeBroker { broker, transition: BrokerTransition::Fence };
    match queue.decide(request, Instant::now() + FENCE_TIMEOUT).await {
        Outcome::Unknown { why } | Outcome::Undecided { why, .. } => {
            tracing::warn!(broker = %broker.id, why, "a dead broker could not be fenced");
            false
        }
        Outcome::Answered { .. } | Outcome::Refused(_) => true,
    }
}

/// Where a broker listens, if this process of it is registered and not fenced.
fn address(quorum: &MetadataQuorum, broker: BrokerIdentity, listener: &str) -> Option<String> {
    let image = quorum.image();
    let known = image.broker(broker.id).filter(|known| known.epoch == broker.epoch && !known.fenced)?;
    let listener = known.listener(listener).or_else(|| known.listeners.first())?;
    Some(listener.address())
}
