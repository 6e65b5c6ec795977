//! What a broker does by the clock: retention, compaction, checkpoints, idle connections.
//!
//! Each task wakes at its own interval and looks only at what may have changed; between, it costs
//! nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::env::Tasks;
use crate::metadata::MetadataDelta;
use crate::partition::Partition;
use crate::server::Broker;
use crate::server::listener::Connections;

/// Least and greatest time between two looks at idle connections.
const IDLE_LOOK_MS: (i64, i64) = (100, 10_000);

/// How often deleted logs are looked at, whose delay may be over (a full disk waits for it), and partitions that are
/// offline.
const REMOVAL_LOOK_MS: i64 = 1_000;

/// Starts the tasks; they end with `tasks`, and none in the middle of its work.
pub(super) fn start(broker: &Arc<Broker>, connections: &Arc<Connections>, tasks: &Tasks) {
    let config = &broker.config;
    every(broker, tasks, config.storage.retention_check_interval_ms, retention);
    every(broker, tasks, config.storage.producer_id_expiration_check_interval_ms, expire_producers);
    every(broker, tasks, REMOVAL_LOOK_MS, look_at_removed_and_offline);
    let storage = &config.storage;
    let checkpoint_ms =
        storage.flush_offset_checkpoint_interval_ms.min(storage.start_offset_checkpoint_interval_ms);
    every(broker, tasks, checkpoint_ms, checkpoint);
    every(
        broker,
        tasks,
        config.replication.high_watermark_checkpoint_interval_ms,
        checkpoint_high_watermarks,
    );
    let idle_ms_max = config.connections.max_idle_ms;
    if idle_ms_max > 0 {
        let interval_ms = (idle_ms_max / 4).clamp(IDLE_LOOK_MS.0, IDLE_LOOK_MS.1);
        let connections = connections.clone();
        every(broker, tasks, interval_ms, move |broker| connections.close_idle(broker, idle_ms_max));
    }
    tasks.spawn(clean_logs(broker.clone(), tasks.clone()));
}

/// Does work that may block at every interval.
fn every(
    broker: &Arc<Broker>,
    tasks: &Tasks,
    interval_ms: i64,
    work: impl Fn(&Broker) + Clone + Send + 'static,
) {
    let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(u64::MAX).max(1));
    let (broker, stopping) = (broker.clone(), tasks.stopping().clone());
    tasks.spawn(async move {
        while stopping.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let (work, working) = (work.clone(), broker.clone());
            if let Err(error) = broker.surroundings.blocking.run(move || work(&working)).await {
                tracing::error!(%error, "a maintenance task failed");
            }
        }
    });
}

/// Keeps as many tasks compacting as `log.cleaner.threads` says now.
async fn clean_logs(broker: Arc<Broker>, tasks: Tasks) {
    let mut changes = broker.dynamic.changes();
    let mut cleaners = JoinSet::new();
    let mut running = BTreeSet::new();
    loop {
        for number in 0..cleaner_threads(&broker) {
            if running.insert(number) {
                cleaners.spawn(compact(broker.clone(), number, tasks.stopping().clone()));
            }
        }
        tokio::select! {
            biased;
            () = tasks.stopping().cancelled() => break,
            Some(ended) = cleaners.join_next() => match ended {
                Ok(number) => _ = running.remove(&number),
                Err(error) => tracing::error!(%error, "a task of the log cleaner ended"),
            },
            _ = changes.changed() => {}
        }
    }
    while cleaners.join_next().await.is_some() {}
}

fn cleaner_threads(broker: &Broker) -> usize {
    let current = broker.dynamic.current();
    if current.log_cleaner.enable { current.log_cleaner.threads } else { 0 }
}

/// Compacts one log after the other, and waits when none is worth it. Ends, giving its number, when so
/// many are no longer wanted.
async fn compact(broker: Arc<Broker>, number: usize, stopping: CancellationToken) -> usize {
    let mut changes = broker.dynamic.changes();
    while number < cleaner_threads(&broker) {
        let (cleaning, is_stopping) = (broker.clone(), stopping.clone());
        let cleaned = broker.surroundings.blocking.run(move || {
            let is_stopping = || is_stopping.is_cancelled();
            cleaning.log_cleaner.clean_dirtiest(&cleaning.partitions, cleaning.now_ms(), &is_stopping)
        });
        let cleaned = cleaned.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the log cleaner failed");
            false
        });
        let backoff_ms = u64::try_from(broker.dynamic.current().log_cleaner.backoff_ms).unwrap_or_default();
        let wait = if cleaned { Duration::ZERO } else { Duration::from_millis(backoff_ms.max(1)) };
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            _ = changes.changed() => {}
        }
    }
    number
}

fn expire_producers(broker: &Broker) {
    let expiration_ms = broker.dynamic.current().storage.producer_id_expiration_ms;
    for partition in broker.partitions.partitions() {
        partition.log.expire_producers(broker.now_ms(), expiration_ms);
    }
}

fn look_at_removed_and_offline(broker: &Broker) {
    make_room(broker);
    if broker.partitions.retry_offline(broker.now_ms()) > 0 {
        broker.replication.follow_all();
        // Some may be those of a coordinator.
        broker.groups.follow(&MetadataDelta::default());
    }
}

fn retention(broker: &Broker) {
    let (now_ms, data) = (broker.now_ms(), &broker.partitions.data);
    let mut old = Vec::new();
    for partition in broker.partitions.partitions() {
        match partition.log.hide_old_segments(now_ms, partition.high_watermark()) {
            Ok(0) => {}
            Ok(_) => old.push(partition),
            Err(error) => tell_undeleted(&partition, &error),
        }
    }
    if old.is_empty() {
        return;
    }
    // What goes after that is not missed at the next start.
    let noted = data.note_starts();
    for partition in old {
        match partition.log.delete_hidden_segments(now_ms, partition.high_watermark()) {
            Ok(0) => {}
            Ok(segments) => tracing::info!(partition = %partition.name, segments, "deleted old segments"),
            Err(error) => tell_undeleted(&partition, &error),
        }
    }
    // On a full disk there is room for it now.
    if let Err(error) = noted.or_else(|_| data.note_starts()) {
        tracing::error!(%error, "where logs begin could not be noted");
    }
}

fn tell_undeleted(partition: &Partition, error: &io::Error) {
    // It goes on with the next look, as soon as others have made room.
    if is_full(error) {
        tracing::debug!(partition = %partition.name, %error, "old segments could not be deleted");
    } else {
        tracing::error!(partition = %partition.name, %error, "old segments could not be deleted");
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes the files whose time has come. On a full disk whatever may go goes at once.
fn make_room(broker: &Broker) {
    let (data, now_ms) = (&broker.partitions.data, broker.now_ms());
    let is_full = data.errors().is_full(now_ms);
    if is_full {
        retention(broker);
    }
    let due_ms = if is_full { i64::MAX } else { now_ms };
    for partition in broker.partitions.partitions() {
        partition.log.remove_due(due_ms);
    }
    data.remove_deleted(due_ms);
}

fn checkpoint(broker: &Broker) {
    broker.note_metadata_index();
    if let Err(error) = broker.partitions.data.checkpoint_all() {
        tracing::error!(%error, "the recovery points could not be noted");
    }
}

fn checkpoint_high_watermarks(broker: &Broker) {
    if let Err(error) = broker.partitions.data.write_high_watermarks(broker.partitions.high_watermarks()) {
        tracing::error!(%error, "the high watermarks could not be noted");
    }
}
