//! This process as a broker of its cluster: registered, heard of, and registered anew where its registration is gone.
//!
//! A broker registers fenced, takes over the metadata as it is then, and is unfenced by a heartbeat once it follows its own
//! registration: what it leads from then on it knows of. A node that is alone has nobody to wait for, and registers
//! as one that leads at once; nor does it beat, as only itself could listen.

use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::controller::{
    BrokerIdentity, BrokerRegistration, ControllerError, ControllerHandle, Heartbeat, HeartbeatAnswer,
};
use crate::partition::lease::Lease;
use crate::raft::MetadataQuorum;

/// The pause before a broker registers again whose id another one has, or that was not heard.
const PAUSE: Duration = Duration::from_millis(500);

/// How a broker is heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// `broker.heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`
    pub session_timeout: Duration,
    /// `initial.broker.registration.timeout.ms`
    pub registration_timeout: Duration,
}

impl Rhythm {
    /// How long this broker leads without being heard. Its session ends later, by as much as clocks and wires need.
    fn lease(&self) -> Duration {
        self.session_timeout - self.heartbeat_interval.min(self.session_timeout / 4)
    }
}

/// A registered broker.
#[derive(Debug)]
pub(super) struct Registration {
    controller: ControllerHandle,
    quorum: MetadataQuorum,
    rhythm: Rhythm,
    request: BrokerRegistration,
    identity: watch::Sender<BrokerIdentity>,
    lease: Lease,
    /// This node knows of its registration once it has applied this index.
    known_at: u64,
}

impl Registration {
    /// Registers this process. Answers when this node's image holds the registration.
    pub(super) async fn new(
        controller: ControllerHandle,
        quorum: MetadataQuorum,
        rhythm: Rhythm,
        mut request: BrokerRegistration,
        lease: Lease,
    ) -> Result<Self, ControllerError> {
        let deadline = Instant::now() + rhythm.registration_timeout;
        request.unfence = is_alone(&quorum, &request);
        let epoch = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match controller.within(left).register_broker(request.clone()).await {
                Ok(epoch) => break epoch,
                // The other one may be this node's earlier process, whose session has not ended yet.
                Err(error)
                    if error.code == ResponseError::DuplicateBrokerRegistration
                        && Instant::now() + PAUSE < deadline =>
                {
                    tracing::info!(%error, "this broker waits for its registration");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        let identity = watch::Sender::new(BrokerIdentity { id: request.id, epoch });
        let known_at = quorum.applied_index();
        Ok(Self { controller, quorum, rhythm, request, identity, lease, known_at })
    }

    /// This process as the controller knows it. It changes when it is registered anew.
    pub(super) fn identity(&self) -> watch::Receiver<BrokerIdentity> {
        self.identity.subscribe()
    }

    /// Keeps this broker registered and heard of; `applied` is how far it follows the metadata. Never ends.
    pub(super) async fn keep(mut self, mut applied: watch::Receiver<u64>) {
        loop {
            if self.is_settled() {
                // Nobody else is there, and nothing is to be told.
                self.lease.renew_for_ever();
                if self.quorum.applied().changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let leader = self.quorum.leader();
            let may_serve = *applied.borrow_and_update() >= self.known_at;
            let beat = Heartbeat { broker: *self.identity.borrow(), may_serve };
            let asked_ms = self.lease.now_ms();
            match self.controller.within(self.rhythm.session_timeout).heartbeat(beat).await {
                Ok((HeartbeatAnswer { is_fenced, majority_ms }, known)) => {
                    let known_ms = asked_ms.saturating_sub_unsigned(majority_ms);
                    // A broker that was fenced meanwhile leads again what it leads by the metadata of now.
                    let may_lead =
                        !is_fenced && (self.lease.holds() || self.has_applied(&mut applied, known).await);
                    let lease = if may_lead { self.rhythm.lease() } else { Duration::ZERO };
                    self.lease.renew(known_ms, lease);
                }
                Err(error) if error.code == ResponseError::StaleBrokerEpoch => {
                    tracing::warn!(%error, "this broker's registration is gone; it registers again");
                    self.register_again().await;
                    continue;
                }
                Err(error) => tracing::warn!(%error, "no active controller has heard this broker"),
            }
            let known_at = self.known_at;
            tokio::select! {
                () = sleep(self.rhythm.heartbeat_interval) => {}
                // A new active controller is to know at once.
                () = self.quorum.leader_after(leader) => {}
                () = async { _ = applied.wait_for(|applied| *applied >= known_at).await }, if !may_serve => {}
            }
        }
    }

    /// Waits until this broker has taken over the metadata up to an index; not longer than until it is to be heard again.
    async fn has_applied(&self, applied: &mut watch::Receiver<u64>, index: u64) -> bool {
        let waiting = applied.wait_for(|applied| *applied >= index);
        matches!(timeout(self.rhythm.heartbeat_interval, waiting).await, Ok(Ok(_)))
    }

    /// True when this broker is alone, and registered as it shall be.
    fn is_settled(&self) -> bool {
        let identity = *self.identity.borrow();
        let image = self.quorum.image();
        let own = image.broker(identity.id);
        own.is_some_and(|own| own.epoch == identity.epoch && !own.fenced)
            && is_alone(&self.quorum, &self.request)
    }

    /// What this process was is not known any more: it begins anew, fenced.
    async fn register_again(&mut self) {
        self.request.is_first = false;
        // It has all that it had.
        self.request.previous_epoch = self.identity.borrow().epoch;
        self.request.unfence = is_alone(&self.quorum, &self.request);
        loop {
            match self.controller.register_broker(self.request.clone()).await {
                Ok(epoch) => {
                    self.known_at = self.quorum.applied_index();
                    self.identity.send_replace(BrokerIdentity { id: self.request.id, epoch });
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "this broker is not registered any more");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether this node is its whole cluster.
fn is_alone(quorum: &MetadataQuorum, request: &BrokerRegistration) -> bool {
    quorum.is_only_voter() && quorum.image().brokers().keys().all(|id| *id == request.id)
}
