//! Accepting connections, within the limits on their number, and closing those that are idle.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::Broker;
use super::api::{ConnectionInfo, ListenerRole};
use super::connection::{self, ConnectionError};
use super::creation_rate::CreationRate;
use crate::config::BrokerConfig;
use crate::env::{Acceptor, Clock, Socket, Tasks};

/// Wait after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// All connections of a broker.
#[derive(Debug)]
pub struct Connections {
    slots: Arc<Slots>,
    per_ip: RwLock<PerIp>,
    creation_rate: Mutex<CreationRate>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    next_id: AtomicU64,
    open: Mutex<Open>,
}

/// Room for connections (`max.connections`), which may grow and shrink.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    sizes: Mutex<SlotSizes>,
}

#[derive(Debug)]
struct SlotSizes {
    max: usize,
    /// Slots that connections hold beyond `max`; they go when the connections do.
    surplus: usize,
}

/// A connection's place among `max.connections`; given back when dropped.
#[derive(Debug)]
struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Slots>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut sizes = self.slots.sizes.lock();
        if sizes.surplus > 0 {
            sizes.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

impl Slots {
    fn new(max: usize) -> Arc<Self> {
        let sizes = Mutex::new(SlotSizes { max, surplus: 0 });
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), sizes })
    }

    async fn take(self: &Arc<Self>) -> Option<Slot> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Slot { permit: Some(permit), slots: self.clone() })
    }

    fn resize(&self, max: usize) {
        let mut sizes = self.sizes.lock();
        if max >= sizes.max {
            let more = max - sizes.max;
            let paid = more.min(sizes.surplus);
            sizes.surplus -= paid;
            self.free.add_permits(more - paid);
        } else {
            let fewer = sizes.max - max;
            sizes.surplus += fewer - self.free.forget_permits(fewer);
        }
        sizes.max = max;
    }
}

/// Most connections from one address.
#[derive(Debug)]
struct PerIp {
    max: usize,
    overrides: HashMap<IpAddr, usize>,
}

impl PerIp {
    fn of(config: &BrokerConfig) -> Self {
        let overrides = &config.connections.max_per_ip_overrides.0;
        Self { max: config.connections.max_per_ip, overrides: overrides.iter().copied().collect() }
    }

    fn limit(&self, host: IpAddr) -> usize {
        self.overrides.get(&host).copied().unwrap_or(self.max)
    }
}

fn slots_max(config: &BrokerConfig) -> usize {
    config.connections.max.min(Semaphore::MAX_PERMITS)
}

#[derive(Debug, Default)]
struct Open {
    /// In the order in which they came, which is the order in which they are closed.
    by_id: BTreeMap<u64, (Arc<ConnectionInfo>, AbortHandle)>,
    by_ip: HashMap<IpAddr, usize>,
}

impl Connections {
    /// With the limits of the configuration.
    pub fn new(config: &BrokerConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        let rate = CreationRate::new(config.connections.max_creation_rate, clock.monotonic_ms());
        Arc::new(Self {
            slots: Slots::new(slots_max(config)),
            per_ip: RwLock::new(PerIp::of(config)),
            creation_rate: Mutex::new(rate),
            clock,
            tasks: Tasks::new(),
            next_id: AtomicU64::new(1),
            open: Mutex::default(),
        })
    }

    /// Takes over new limits. Connections beyond them stay until they end.
    pub fn set_limits(&self, config: &BrokerConfig) {
        self.slots.resize(slots_max(config));
        *self.per_ip.write() = PerIp::of(config);
        self.creation_rate.lock().set(config.connections.max_creation_rate, self.monotonic_ms());
    }

    fn monotonic_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// Waits for room, by number and by rate (`max.connections`, `max.connection.creation.rate`).
    async fn room(&self) -> Option<Slot> {
        let slot = self.slots.take().await;
        loop {
            let wait_ms = self.creation_rate.lock().admit(self.monotonic_ms());
            if wait_ms == 0 {
                return slot;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    pub fn count(&self) -> usize {
        self.open.lock().by_id.len()
    }

    /// Closes connections that have said nothing for longer than `idle_ms_max`.
    pub fn close_idle(&self, broker: &Broker, idle_ms_max: i64) {
        let now_ms = broker.monotonic_ms();
        let idle: Vec<u64> = {
            let open = self.open.lock();
            let is_idle =
                |info: &ConnectionInfo| now_ms - info.last_active_ms.load(Ordering::Relaxed) > idle_ms_max;
            open.by_id.iter().filter(|(_, (info, _))| is_idle(info)).map(|(id, _)| *id).collect()
        };
        for id in idle {
            if let Some((info, task)) = self.remove(id) {
                tracing::debug!(id, host = %info.host, "closed an idle connection (connections.max.idle.ms)");
                broker.metrics.connections_refused.with_label_values(&["idle"]).inc();
                task.abort();
            }
        }
        broker.metrics.connections.set(i64::try_from(self.count()).unwrap_or(i64::MAX));
    }

    /// Whether somebody is still to be answered; fetches that wait for records do not count.
    pub fn owe_answers(&self) -> bool {
        self.open.lock().by_id.values().any(|(info, _)| info.owes_answer.load(Ordering::Acquire))
    }

    /// Closes all connections, and waits until they are closed. No more may be accepted.
    pub async fn close_all(&self) {
        let all: Vec<u64> = self.open.lock().by_id.keys().copied().collect();
        for id in all {
            if let Some((_, task)) = self.remove(id) {
                task.abort();
            }
        }
        self.tasks.stop().await;
    }

    fn remove(&self, id: u64) -> Option<(Arc<ConnectionInfo>, AbortHandle)> {
        let mut open = self.open.lock();
        let removed = open.by_id.remove(&id)?;
        let host = removed.0.host;
        if let Some(count) = open.by_ip.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                open.by_ip.remove(&host);
            }
        }
        Some(removed)
    }
}

/// A connection's place in the counts; given back when its task ends, however it ends.
struct Place {
    broker: Arc<Broker>,
    connections: Arc<Connections>,
    id: u64,
    is_of_controllers: bool,
    _slot: Slot,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.remove(self.id);
        if self.is_of_controllers {
            self.broker.controller.connection_closed(self.id);
        }
        let open = i64::try_from(self.connections.count()).unwrap_or(i64::MAX);
        self.broker.metrics.connections.set(open);
    }
}

/// Accepts connections. Never ends.
pub async fn accept(
    broker: Arc<Broker>,
    connections: Arc<Connections>,
    acceptor: Box<dyn Acceptor>,
    index: usize,
) {
    // With all slots taken, the next connections wait in the kernel's queue, as in Kafka.
    while let Some(slot) = connections.room().await {
        match acceptor.accept().await {
            Ok((socket, peer)) => {
                let host = peer.ip().to_canonical();
                start(&broker, &connections, (socket, BytesMut::new()), host, index, slot);
            }
            Err(error) => {
                tracing::warn!(%error, open = connections.count(), max = connections.slots.sizes.lock().max, "a connection could not be accepted");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Serves a connection that somebody else accepted, with what was received of it, once there is room for it.
pub async fn take(
    broker: &Arc<Broker>,
    connections: &Arc<Connections>,
    socket: Socket,
    host: IpAddr,
    index: usize,
    received: BytesMut,
) {
    if let Some(slot) = connections.room().await {
        start(broker, connections, (socket, received), host, index, slot);
    }
}

fn start(
    broker: &Arc<Broker>,
    connections: &Arc<Connections>,
    (socket, received): (Socket, BytesMut),
    host: IpAddr,
    listener: usize,
    slot: Slot,
) {
    let id = connections.next_id.fetch_add(1, Ordering::Relaxed);
    let info = Arc::new(ConnectionInfo {
        id,
        host,
        listener,
        last_active_ms: AtomicI64::new(broker.monotonic_ms()),
        owes_answer: AtomicBool::new(false),
        unsettled: Arc::default(),
    });
    let per_ip_max = connections.per_ip.read().limit(host);
    let mut open = connections.open.lock();
    let count = open.by_ip.entry(host).or_default();
    if *count >= per_ip_max {
        if *count == 0 {
            open.by_ip.remove(&host);
        }
        broker.metrics.connections_refused.with_label_values(&["max.connections.per.ip"]).inc();
        tracing::warn!(%host, max = per_ip_max, "refused a connection (max.connections.per.ip)");
        return;
    }
    *count += 1;
    let task = connections.tasks.spawn({
        let (broker, connections, info) = (broker.clone(), connections.clone(), info.clone());
        async move {
            let is_of_controllers = ListenerRole::of(&broker, listener) == ListenerRole::Controller;
            let _place = Place { broker: broker.clone(), connections, id, is_of_controllers, _slot: slot };
            let ended = connection::serve(broker.clone(), socket, info.clone(), received).await;
            report(&broker, &info, ended);
        }
    });
    open.by_id.insert(id, (info, task.abort_handle()));
    broker.metrics.connections.set(i64::try_from(open.by_id.len()).unwrap_or(i64::MAX));
    broker.metrics.connections_total.inc();
}

fn report(broker: &Broker, info: &ConnectionInfo, ended: Result<(), ConnectionError>) {
    let (id, host) = (info.id, info.host);
    let Err(error) = ended else { return };
    let reason = match &error {
        // The client went away: its business.
        ConnectionError::Io(error) => {
            tracing::debug!(id, %host, %error, "a connection ended");
            return;
        }
        ConnectionError::FrameSize(..) => "frame size",
        ConnectionError::TooSlow => "too slow",
        ConnectionError::Refused(_) => "bad request",
    };
    broker.metrics.connections_refused.with_label_values(&[reason]).inc();
    tracing::warn!(id, %host, %error, "closed a connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_grow_and_shrink_under_those_that_hold_them() {
        let slots = Slots::new(3);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(slots.take().await.unwrap());
        }
        // One slot for two that are held beyond it: they go first.
        slots.resize(1);
        held.truncate(1);
        assert_eq!(slots.free.available_permits(), 0);
        held.clear();
        assert_eq!(slots.free.available_permits(), 1);
        held.push(slots.take().await.unwrap());
        slots.resize(0);
        slots.resize(2);
        assert_eq!(slots.free.available_permits(), 1);
        drop(held);
        assert_eq!(slots.free.available_permits(), 2);
    }
}
