//! Runs the shards of a coordinator on the partitions of its topic.
//!
//! A shard is loaded when this node begins to lead its partition, and dropped when the leadership ends
//! or goes to another epoch. Whoever asks takes the shard's lock, has it decide, appends the records,
//! and lets go; answers leave once everything they were decided on is committed, so that nobody is told
//! of a state that a new leader may not know. One task watches the shards' deadlines, and sleeps until
//! the earliest.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::time::Instant;

use super::loading::{self, LoadError};
use super::{CoordinatorError, CoordinatorRecord, Decision, Now, Shard, Ticket};
use crate::env::{Blocking, Clock, Surroundings, Tasks};
use crate::partition::{Partition, PartitionManager, ProduceError};
use crate::protocol::batch::Compression;
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::segment::AppendError;
use crate::types::{LeaderEpoch, Offset};

/// How long a request waits for a shard that is being loaded, before its client is told to come again.
const LOADING_WAIT: Duration = Duration::from_secs(1);
/// What the clock decided and could not be appended is decided again after this.
const RETRY_MS: i64 = 1000;
const NEVER: i64 = i64::MAX;

/// How a coordinator's topic is written.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Name of the internal topic.
    pub topic: &'static str,
    /// How long an answer waits until what it stands on is committed.
    pub commit_timeout: Duration,
    pub compression: Compression,
}

/// The shards of one coordinator on this node.
pub struct Runtime<S: Shard> {
    config: RuntimeConfig,
    partitions: Arc<PartitionManager>,
    clock: Arc<dyn Clock>,
    blocking: Arc<dyn Blocking>,
    tasks: Tasks,
    started: Instant,
    new_shard: Box<dyn Fn() -> S + Send + Sync>,
    places: RwLock<BTreeMap<i32, Arc<Place<S>>>>,
    /// Told when a deadline comes before the one that is slept for.
    earlier: Notify,
    /// When the clock's task wakes, in monotonic milliseconds.
    wakes_at: AtomicI64,
}

/// Where a shard stands: a partition that this node leads.
struct Place<S: Shard> {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    loaded: watch::Sender<Loaded>,
    /// `None` until it is loaded, and once it is dropped.
    active: Mutex<Option<Active<S>>>,
    /// Of the shard.
    deadline: AtomicI64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    NotYet,
    Yes,
    /// The partition cannot be read, or is not led any more.
    No,
}

struct Active<S: Shard> {
    shard: S,
    waiting: HashMap<Ticket, oneshot::Sender<Result<S::Response, CoordinatorError>>>,
    next_ticket: u64,
    /// What has been appended lies below.
    end: Offset,
}

/// What came of a request.
enum Answer<R> {
    /// It is decided; the answer may leave when all below the offset is committed.
    Now(R, Offset),
    /// It comes with a later decision.
    Later(oneshot::Receiver<Result<R, CoordinatorError>>),
}

impl<S: Shard> Runtime<S> {
    /// A runtime without shards; [`Self::follow`] loads them.
    pub fn new(
        config: RuntimeConfig,
        partitions: Arc<PartitionManager>,
        surroundings: &Surroundings,
        tasks: &Tasks,
        new_shard: impl Fn() -> S + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            partitions,
            clock: surroundings.clock.clone(),
            blocking: surroundings.blocking.clone(),
            tasks: tasks.clone(),
            started: Instant::now(),
            new_shard: Box::new(new_shard),
            places: RwLock::default(),
            earlier: Notify::new(),
            wakes_at: AtomicI64::new(NEVER),
        })
    }

    /// The time that shards are given.
    pub fn now(&self) -> Now {
        let monotonic_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { wall_ms: self.clock.now_ms(), monotonic_ms }
    }

    /// Loads the shards of partitions that this node has come to lead, and drops those of which it does
    /// not any more. Called whenever the partitions followed the metadata.
    pub fn follow(self: &Arc<Self>) {
        let topic = self.partitions.topic(self.config.topic);
        let led: BTreeMap<i32, Arc<Partition>> = topic
            .iter()
            .flat_map(|topic| topic.partitions())
            .filter(|partition| partition.is_leader())
            .map(|partition| (partition.name.partition, partition))
            .collect();
        let mut places = self.places.write();
        places.retain(|index, place| {
            let stays = led.get(index).is_some_and(|partition| {
                Arc::ptr_eq(partition, &place.partition) && partition.leader_epoch() == place.epoch
            });
            if !stays {
                place.loaded.send_replace(Loaded::No);
                let place = place.clone();
                self.tasks.spawn(async move { place.drop_shard().await });
            }
            stays
        });
        for (index, partition) in led {
            if places.contains_key(&index) {
                continue;
            }
            let place = Arc::new(Place {
                epoch: partition.leader_epoch(),
                partition,
                loaded: watch::Sender::new(Loaded::NotYet),
                active: Mutex::new(None),
                deadline: AtomicI64::new(NEVER),
            });
            places.insert(index, place.clone());
            let runtime = self.clone();
            self.tasks.spawn(async move { runtime.load(&place).await });
        }
    }

    /// Reads the partition from its start, and lets the shard be asked.
    async fn load(self: &Arc<Self>, place: &Arc<Place<S>>) {
        let reading = {
            let (partition, mut shard, now) = (place.partition.clone(), (self.new_shard)(), self.now());
            self.blocking
                .run(move || loading::replay(&partition, &mut shard, now).map(|replayed| (shard, replayed)))
        };
        let read = reading.await.unwrap_or_else(|error| Err(LoadError(error.to_string())));
        let (mut shard, replayed) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(partition = %place.partition.name, %error, "the coordinator's state cannot be read; its groups are not served");
                place.loaded.send_replace(Loaded::No);
                return;
            }
        };
        if replayed.records > 0 {
            tracing::info!(partition = %place.partition.name, records = replayed.records, "loaded the coordinator's state");
        }
        let mut active = place.active.lock().await;
        // The leadership may have ended meanwhile.
        let goes_on = place.loaded.send_if_modified(|loaded| {
            let goes_on = *loaded == Loaded::NotYet;
            if goes_on {
                *loaded = Loaded::Yes;
            }
            goes_on
        });
        if goes_on {
            shard.loaded(self.now());
            let waiting = HashMap::new();
            let filled = active.insert(Active { shard, waiting, next_ticket: 0, end: replayed.end });
            self.deadline_changed(place, filled.shard.deadline());
        }
    }

    /// Drops all shards: who waits is told that this node coordinates no more.
    pub async fn stop(&self) {
        let places = std::mem::take(&mut *self.places.write()).into_values();
        for place in places {
            place.loaded.send_replace(Loaded::No);
            place.drop_shard().await;
        }
    }

    /// Asks the shard of that partition. The answer may take as long as the shard lets it wait.
    ///
    /// # Errors
    /// `NotCoordinator` when this node does not lead the partition, `Loading` while the
    /// shard is loaded, and what the append or the commit of the decision failed with.
    pub async fn ask(
        self: &Arc<Self>,
        partition: i32,
        request: S::Request,
    ) -> Result<S::Response, CoordinatorError> {
        let place = self.places.read().get(&partition).cloned();
        self.ask_place(&place.ok_or(CoordinatorError::NotCoordinator)?, request).await
    }

    /// Asks every shard of this node, one after the other.
    pub async fn ask_all(
        self: &Arc<Self>,
        request: impl Fn() -> S::Request,
    ) -> Vec<Result<S::Response, CoordinatorError>> {
        let places: Vec<_> = self.places.read().values().cloned().collect();
        let mut answers = Vec::with_capacity(places.len());
        for place in places {
            answers.push(self.ask_place(&place, request()).await);
        }
        answers
    }

    /// Shows every shard that is loaded, one after the other.
    pub async fn inspect(&self, mut inspect: impl FnMut(&S)) {
        let places: Vec<_> = self.places.read().values().cloned().collect();
        for place in places {
            if let Some(active) = &*place.active.lock().await {
                inspect(&active.shard);
            }
        }
    }

    async fn ask_place(
        self: &Arc<Self>,
        place: &Arc<Place<S>>,
        request: S::Request,
    ) -> Result<S::Response, CoordinatorError> {
        place.wait_loaded().await?;
        let (runtime, deciding) = (self.clone(), place.clone());
        // Once begun, a decision is carried out to its end, also when the client goes away meanwhile.
        let decided = self.tasks.spawn(async move { runtime.decide(&deciding, request).await });
        match decided.await.map_err(|_| CoordinatorError::Unwritable)?? {
            Answer::Now(answer, end) => {
                place.committed(end, self.config.commit_timeout).await.map(|()| answer)
            }
            Answer::Later(receiver) => receiver.await.unwrap_or(Err(CoordinatorError::NotCoordinator)),
        }
    }

    async fn decide(
        &self,
        place: &Arc<Place<S>>,
        request: S::Request,
    ) -> Result<Answer<S::Response>, CoordinatorError> {
        let mut guard = place.active.lock().await;
        let active = guard.as_mut().ok_or(CoordinatorError::NotCoordinator)?;
        // Where nobody is heard of any more, somebody else may have decided since what this shard does not know.
        if place.partition.check_leader(place.epoch).is_err() {
            return Err(CoordinatorError::NotCoordinator);
        }
        let ticket = Ticket(active.next_ticket);
        active.next_ticket += 1;
        let now = self.now();
        let mut decision = active.shard.decide(request, ticket, now);
        let own = decision.answers.iter().position(|(whose, _)| *whose == ticket);
        if let Some(at) = own {
            let answer = decision.answers.swap_remove(at).1;
            self.carry_out(place, active, &mut decision, now).await?;
            return Ok(Answer::Now(answer, active.end));
        }
        let (sender, receiver) = oneshot::channel();
        active.waiting.insert(ticket, sender);
        if let Err(error) = self.carry_out(place, active, &mut decision, now).await {
            active.waiting.remove(&ticket);
            return Err(error);
        }
        Ok(Answer::Later(receiver))
    }

    /// Appends what was decided, follows it, and answers those who waited for it. When the append fails,
    /// nothing has happened, and the decision is as it was.
    async fn carry_out(
        &self,
        place: &Arc<Place<S>>,
        active: &mut Active<S>,
        decision: &mut Decision<S>,
        now: Now,
    ) -> Result<(), CoordinatorError> {
        if !decision.records.is_empty() {
            active.end = self.append(place, &decision.records, now).await?;
        }
        for record in &decision.records {
            if let Err(error) = active.shard.replay(record, now) {
                tracing::error!(partition = %place.partition.name, %error, "a record of our own cannot be replayed");
            }
        }
        for change in decision.changes.drain(..) {
            active.shard.install(change);
        }
        self.deadline_changed(place, active.shard.deadline());
        let answers = decision.answers.drain(..);
        let due: Vec<_> =
            answers.filter_map(|(ticket, answer)| Some((active.waiting.remove(&ticket)?, answer))).collect();
        if due.is_empty() {
            return Ok(());
        }
        if place.partition.is_committed(active.end, place.epoch) {
            send(due, Ok(()));
            return Ok(());
        }
        let (place, end, timeout) = (place.clone(), active.end, self.config.commit_timeout);
        self.tasks.spawn(async move { send(due, place.committed(end, timeout).await) });
        Ok(())
    }

    async fn append(
        &self,
        place: &Place<S>,
        records: &[CoordinatorRecord],
        now: Now,
    ) -> Result<Offset, CoordinatorError> {
        let options = BatchOptions { compression: self.config.compression, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        let too_large = |_| CoordinatorError::Unwritable;
        for record in records {
            builder.add(now.wall_ms, Some(&record.key), record.value.as_deref()).map_err(too_large)?;
        }
        let batch = builder.build_mut().map_err(too_large)?;
        let appended = place.partition.append_own(batch, place.epoch, now.wall_ms).await;
        appended.map_err(|error| {
            tracing::warn!(partition = %place.partition.name, %error, "a decision of the coordinator could not be written");
            CoordinatorError::from(&error)
        })
    }

    fn deadline_changed(&self, place: &Place<S>, deadline: Option<i64>) {
        let deadline = deadline.unwrap_or(NEVER);
        // Either this sees that the clock's task looks, or that task sees the deadline: both in one order.
        place.deadline.store(deadline, Ordering::SeqCst);
        if deadline < self.wakes_at.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
    }

    /// Gives shards their turn when their deadlines come. Never ends.
    pub async fn watch_clock(self: Arc<Self>) {
        loop {
            // From here on every change of a deadline is told of.
            self.wakes_at.store(NEVER, Ordering::SeqCst);
            let places: Vec<_> = self.places.read().values().cloned().collect();
            let deadline = |place: &Arc<Place<S>>| place.deadline.load(Ordering::SeqCst);
            let now = self.now().monotonic_ms;
            for place in places.iter().filter(|place| deadline(place) <= now) {
                self.tick(place).await;
            }
            let next = places.iter().map(deadline).min().unwrap_or(NEVER);
            self.wakes_at.store(next, Ordering::SeqCst);
            let left = u64::try_from(next.saturating_sub(self.now().monotonic_ms)).unwrap_or(0);
            tokio::select! {
                biased;
                () = self.earlier.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(left)), if next != NEVER => {}
            }
        }
    }

    /// One turn of a shard whose deadline has come.
    async fn tick(&self, place: &Arc<Place<S>>) {
        let mut guard = place.active.lock().await;
        let Some(active) = guard.as_mut() else {
            place.deadline.store(NEVER, Ordering::SeqCst);
            return;
        };
        let now = self.now();
        let mut decision = active.shard.tick(now);
        if self.carry_out(place, active, &mut decision, now).await.is_err() {
            active.shard.postpone(decision, now.monotonic_ms + RETRY_MS);
            self.deadline_changed(place, active.shard.deadline());
        }
    }
}

impl<S: Shard> Place<S> {
    async fn wait_loaded(&self) -> Result<(), CoordinatorError> {
        let mut loaded = self.loaded.subscribe();
        let waiting = loaded.wait_for(|loaded| *loaded != Loaded::NotYet);
        let outcome = match tokio::time::timeout(LOADING_WAIT, waiting).await {
            Ok(Ok(outcome)) => *outcome,
            Ok(Err(_)) => Loaded::No,
            Err(_) => Loaded::NotYet,
        };
        match outcome {
            Loaded::Yes => Ok(()),
            Loaded::NotYet => Err(CoordinatorError::Loading),
            Loaded::No => Err(CoordinatorError::NotCoordinator),
        }
    }

    /// Those who wait see their senders go.
    async fn drop_shard(&self) {
        *self.active.lock().await = None;
        self.deadline.store(NEVER, Ordering::SeqCst);
    }

    fn committed(
        &self,
        end: Offset,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), CoordinatorError>> {
        let (partition, epoch) = (self.partition.clone(), self.epoch);
        async move {
            partition.committed(end, epoch, timeout).await.map_err(|error| CoordinatorError::from(&error))
        }
    }
}

type Waiting<R> = (oneshot::Sender<Result<R, CoordinatorError>>, R);

fn send<R>(due: Vec<Waiting<R>>, committed: Result<(), CoordinatorError>) {
    for (sender, answer) in due {
        // Who asked may be gone.
        let _ = sender.send(committed.map(|()| answer));
    }
}

/// Each makes a client look for the coordinator again and repeat itself, but for the last.
impl From<&ProduceError> for CoordinatorError {
    fn from(error: &ProduceError) -> Self {
        match error {
            ProduceError::NotEnoughReplicas { .. }
            | ProduceError::NotEnoughReplicasAfterAppend { .. }
            | ProduceError::TimedOut => Self::NotAvailable,
            ProduceError::NotLeader
            | ProduceError::Sync(_)
            | ProduceError::Append(
                AppendError::Closed | AppendError::Failed | AppendError::StorageFull | AppendError::Io(_),
            ) => Self::NotCoordinator,
            ProduceError::Check(_) | ProduceError::Append(_) => Self::Unwritable,
        }
    }
}
