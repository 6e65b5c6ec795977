//! One connection to a leader, with the partitions that are fetched over it.
//!
//! There is one fetch under way at a time, which waits at the leader for records. When this node begins to follow that leader in
//! more partitions meanwhile, a second fetch tells it so at once: the leader then answers the one that waits. So a failover
//! does not wait for idle partitions.
//!
//! A fetch that fails is tried again after a pause that doubles from [`PAUSE_MIN`] up to `replica.fetch.backoff.ms`, with jitter; the
//! same for a partition that is answered with an error, while the others go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Context;
use super::session::{Key, Session, Told, Wishes};
use crate::client::connection::Connection;
use crate::client::error::ClientError;
use crate::client::peers::Purpose;
use crate::metadata::Listener;
use crate::partition::Partition;
use crate::protocol::messages::fetch_request::ReplicaState;
use crate::protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use crate::types::{LeaderEpoch, NodeId};

/// First pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The lowest version that is spoken: with topic ids, and a follower's broker epoch.
const VERSION_MIN: i16 = 15;

/// One connection's worth of partitions that follow the same leader.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub leader: NodeId,
    /// Among the fetchers of that leader.
    index: u16,
    pub context: Arc<Context>,
    place: Mutex<Place>,
    /// Told when there is something in the place that was not.
    news: Notify,
}

#[derive(Debug, Default)]
struct Place {
    following: BTreeMap<Key, Following>,
    /// Those of which the leader may not know all.
    changed: BTreeSet<Key>,
    /// Those that rest, by when that ends.
    resting: BTreeSet<(Instant, Key)>,
    leader_changed: bool,
}

/// A partition that is fetched.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub partition: Arc<Partition>,
    pub epoch: LeaderEpoch,
    /// Since the last success.
    failures: u32,
    /// Not fetched until then.
    rests_until: Option<Instant>,
    /// Its log has failed: it is not fetched any more.
    is_failed: bool,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it is not registered, or not on listener {0}")]
    NoAddress(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it speaks no version of Fetch in which followers tell their broker epoch")]
    Version,
    #[error("it refused the fetch: {0:?}")]
    Refused(ResponseError),
    #[error("{0}")]
    Failed(String),
    /// The session is to begin anew.
    #[error("the session is not known any more")]
    Session,
    /// Nothing is fetched from there any more.
    #[error("there is nothing left to fetch")]
    Nothing,
}

type Coming = Pin<Box<dyn Future<Output = Result<FetchResponse, Broken>> + Send>>;

impl Fetcher {
    pub(super) fn new(leader: NodeId, index: u16, context: Arc<Context>) -> Self {
        Self { leader, index, context, place: Mutex::default(), news: Notify::new() }
    }

    /// Fetches the partition from now on, in this epoch.
    pub(super) fn follow(&self, key: Key, partition: Arc<Partition>, epoch: LeaderEpoch) {
        {
            let place = &mut *self.place.lock();
            let is_known = place.following.get(&key).is_some_and(|known| {
                known.epoch == epoch && !known.is_failed && Arc::ptr_eq(&known.partition, &partition)
            });
            if is_known {
                return;
            }
            place.following.insert(
                key,
                Following { partition, epoch, failures: 0, rests_until: None, is_failed: false },
            );
            place.changed.insert(key);
        }
        self.news.notify_one();
    }

    /// Does not fetch the partition any more.
    pub(super) fn leave(&self, key: Key) {
        {
            let place = &mut *self.place.lock();
            place.following.remove(&key);
            place.changed.insert(key);
        }
        self.news.notify_one();
    }

    /// The leader has another address, or is back.
    pub(super) fn leader_changed(&self) {
        self.context.peers.retry_now(self.leader);
        self.place.lock().leader_changed = true;
        self.news.notify_one();
    }

    pub(super) fn following(&self, key: Key) -> Option<Following> {
        self.place.lock().following.get(&key).cloned()
    }

    /// Something about the partition is other than the leader was told.
    pub(super) fn changed(&self, key: Key) {
        self.place.lock().changed.insert(key);
    }

    /// The partition was taken up without an error, in this epoch.
    pub(super) fn succeeded(&self, key: Key, epoch: LeaderEpoch) {
        let place = &mut *self.place.lock();
        if let Some(known) = place.following.get_mut(&key).filter(|known| known.epoch == epoch) {
            known.failures = 0;
        }
        place.changed.insert(key);
    }

    /// The partition is left alone for a while; for ever if its log has failed. Returns how often it has failed in a row.
    pub(super) fn rest(&self, key: Key, epoch: LeaderEpoch, is_failed: bool) -> u32 {
        self.context.counters.partitions_failed.fetch_add(1, Ordering::Relaxed);
        let place = &mut *self.place.lock();
        let Some(known) = place.following.get_mut(&key).filter(|known| known.epoch == epoch) else {
            return 0;
        };
        known.failures = known.failures.saturating_add(1);
        known.is_failed = is_failed;
        if !is_failed {
            let until = Instant::now() + self.pause(known.failures);
            known.rests_until = Some(until);
            place.resting.insert((until, key));
        }
        let failures = known.failures;
        place.changed.insert(key);
        failures
    }

    /// Doubles with every failure, up to `replica.fetch.backoff.ms`; somewhere between the half and all of that.
    fn pause(&self, failures: u32) -> Duration {
        let most = self.context.config.backoff.max(PAUSE_MIN);
        let pause = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most);
        pause / 2 + self.context.surroundings.chance.up_to(pause / 2)
    }

    /// Fetches for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let is_idle = self.place.lock().following.is_empty();
            if is_idle {
                self.news.notified().await;
                continue;
            }
            self.place.lock().leader_changed = false;
            let Err(broken) = self.fetch_over_one_connection(&mut failures).await;
            match broken {
                Broken::Nothing => {
                    failures = 0;
                    continue;
                }
                Broken::Session => failures += 1,
                broken => {
                    failures += 1;
                    self.context.counters.fetches_failed.fetch_add(1, Ordering::Relaxed);
                    // A leader that has died is told of once, and not by everybody who follows it again and again.
                    match failures {
                        1 => {
                            tracing::info!(leader = %self.leader, error = %broken, "followers cannot fetch; this is tried again")
                        }
                        _ => {
                            tracing::debug!(leader = %self.leader, error = %broken, failures, "followers cannot fetch")
                        }
                    }
                }
            }
            let pause = tokio::time::sleep(self.pause(failures));
            let back = async {
                loop {
                    self.news.notified().await;
                    let place = self.place.lock();
                    if place.leader_changed || place.following.is_empty() {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = back => {}
                () = pause => {}
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Broken> {
        let Context { listener, peers, image, .. } = &*self.context;
        let address = {
            let image = image();
            let address = image.broker(self.leader).and_then(|leader| leader.listener(listener));
            address.map(Listener::address)
        };
        let address = address.ok_or_else(|| Broken::NoAddress(listener.clone()))?;
        peers.set_brokers([(self.leader, address)]);
        Ok(peers.connection(self.leader, Purpose::Fetch(self.index)).await?)
    }

    async fn fetch_over_one_connection(
        &self,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, Broken> {
        let connection = self.connect().await?;
        let version = connection.version_of::<FetchRequest>(i16::MAX).unwrap_or(-1);
        if version < VERSION_MIN {
            return Err(Broken::Version);
        }
        let mut session = Session::default();
        let mut under_way: VecDeque<(u64, Coming)> = VecDeque::new();
        loop {
            if let Some(wishes) = self.next_wishes(&mut session, under_way.len())? {
                let number = wishes.number;
                let coming = self.send(&connection, wishes, version).await?;
                under_way.push_back((number, coming));
            }
            let rest_ends = self.place.lock().resting.first().map(|(until, _)| *until);
            let (number, first) = match under_way.front_mut() {
                Some((number, first)) => (Some(*number), Some(first)),
                None => (None, None),
            };
            tokio::select! {
                biased;
                response = async {
                    match first {
                        Some(first) => first.await,
                        None => std::future::pending().await,
                    }
                } => {
                    under_way.pop_front();
                    let response = response?;
                    self.check(&response)?;
                    *failures = 0;
                    session.answered(response.session_id);
                    self.take(&connection, &session, number.unwrap_or_default(), response).await?;
                }
                () = self.news.notified() => {}
                () = async {
                    match rest_ends {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn check(&self, response: &FetchResponse) -> Result<(), Broken> {
        match ResponseError::try_from_code(response.error_code) {
            None => Ok(()),
            Some(
                ResponseError::FetchSessionIdNotFound
                | ResponseError::InvalidFetchSessionEpoch
                | ResponseError::FetchSessionTopicIdError,
            ) => Err(Broken::Session),
            Some(error) => Err(Broken::Refused(error)),
        }
    }

    /// What the next fetch has to say; `None` when none is to be sent now.
    fn next_wishes(&self, session: &mut Session, under_way: usize) -> Result<Option<Wishes>, Broken> {
        let place = &mut *self.place.lock();
        if place.following.is_empty() {
            return Err(Broken::Nothing);
        }
        let now = Instant::now();
        while let Some((until, key)) = place.resting.first().copied().filter(|(until, _)| *until <= now) {
            place.resting.remove(&(until, key));
            if let Some(known) =
                place.following.get_mut(&key).filter(|known| known.rests_until == Some(until))
            {
                known.rests_until = None;
                place.changed.insert(key);
            }
        }
        let told = |following: Option<&Following>| {
            let known = following.filter(|known| known.rests_until.is_none() && !known.is_failed)?;
            Some(Told { epoch: known.epoch, position: known.partition.position() })
        };
        if under_way > 0 {
            if under_way > 1 || !session.is_incremental() {
                return Ok(None);
            }
            let following = &place.following;
            place.changed.retain(|key| session.is_news(*key, told(following.get(key))));
            if place.changed.is_empty() {
                return Ok(None);
            }
        }
        let bytes_max = self.context.config.fetch_bytes_max;
        let wishes = match session.is_incremental() {
            true => {
                let changed = std::mem::take(&mut place.changed).into_iter();
                session.request(changed.map(|key| (key, told(place.following.get(&key)))), bytes_max)
            }
            false => {
                let all = place.following.iter().map(|(key, known)| (*key, told(Some(known))));
                let wishes = session.request(all, bytes_max);
                place.changed.clear();
                if wishes.topics.is_empty() {
                    return Ok(None);
                }
                wishes
            }
        };
        Ok(Some(wishes))
    }

    async fn send(&self, connection: &Connection, wishes: Wishes, version: i16) -> Result<Coming, Broken> {
        let identity = (self.context.identity)();
        let config = &self.context.config;
        let replica = ReplicaState::default()
            .with_replica_id(BrokerId(identity.id.0))
            .with_replica_epoch(identity.epoch);
        let request = FetchRequest::default()
            .with_replica_state(replica)
            .with_max_wait_ms(if wishes.asks_for_session { 0 } else { config.fetch_wait_ms_max })
            .with_min_bytes(config.fetch_bytes_min)
            .with_max_bytes(config.response_bytes_max)
            .with_session_id(wishes.session_id)
            .with_session_epoch(wishes.session_epoch)
            .with_topics(wishes.topics)
            .with_forgotten_topics_data(wishes.forgotten);
        let answer = connection.start(&request, version).await?;
        let wait_ms = u64::try_from(config.fetch_wait_ms_max).unwrap_or_default();
        let timeout_ms = u64::try_from(config.socket_timeout.as_millis()).unwrap_or(u64::MAX);
        Ok(Box::pin(async move { Ok(answer.wait(timeout_ms.saturating_add(wait_ms)).await?) }))
    }
}
