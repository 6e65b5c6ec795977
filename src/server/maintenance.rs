//! What a broker does by the clock: retention, compaction, checkpoints, idle connections, and the numbers that are
//! read off when somebody asks for metrics.
//!
//! Each task wakes at its own interval and looks only at what may have changed; between, it costs
//! nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Broker;
use super::listener::Connections;
use crate::metadata::MetadataDelta;

/// Least and greatest time between two looks at idle connections.
const IDLE_LOOK_MS: (i64, i64) = (100, 10_000);

/// How often deleted logs are looked at, whose delay may be over (a full disk waits for it), and partitions that are
/// offline.
const REMOVAL_LOOK_MS: i64 = 1_000;

/// Starts the tasks; they end when `stop` says so. The one that is returned is to be waited for.
pub fn start(
    broker: &Arc<Broker>,
    connections: &Arc<Connections>,
    stop: &watch::Receiver<bool>,
) -> JoinHandle<()> {
    let config = &broker.config;
    every(stop, config.retention_check_interval_ms, {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            blocking(move || retention(&broker))
        }
    });
    every(stop, config.producer_id_expiration_check_interval_ms, {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            blocking(move || {
                for partition in broker.partitions.partitions() {
                    partition.log.expire_producers(broker.now_ms());
                }
            })
        }
    });
    every(stop, REMOVAL_LOOK_MS, {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            blocking(move || {
                broker.partitions.data.remove_deleted(broker.now_ms());
                if broker.partitions.retry_offline(broker.now_ms()) > 0 {
                    // Some may be those of a coordinator.
                    broker.groups.follow(&MetadataDelta::default());
                }
            })
        }
    });
    let checkpoint_ms =
        config.flush_offset_checkpoint_interval_ms.min(config.start_offset_checkpoint_interval_ms);
    every(stop, checkpoint_ms, {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            blocking(move || checkpoint(&broker))
        }
    });
    every(stop, config.high_watermark_checkpoint_interval_ms, {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            blocking(move || checkpoint_high_watermarks(&broker))
        }
    });
    let idle_ms_max = config.connections_max_idle_ms;
    if idle_ms_max > 0 {
        every(stop, (idle_ms_max / 4).clamp(IDLE_LOOK_MS.0, IDLE_LOOK_MS.1), {
            let (broker, connections) = (broker.clone(), connections.clone());
            move || {
                connections.close_idle(&broker, idle_ms_max);
                std::future::ready(())
            }
        });
    }
    tokio::spawn(clean_logs(broker.clone(), stop.clone()))
}

/// Keeps as many tasks compacting as `log.cleaner.threads` says now.
async fn clean_logs(broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    let mut changes = broker.dynamic.changes();
    let mut tasks = JoinSet::new();
    let mut running = BTreeSet::new();
    loop {
        for number in 0..cleaner_threads(&broker) {
            if running.insert(number) {
                tasks.spawn(compact(broker.clone(), number, stop.clone()));
            }
        }
        tokio::select! {
            biased;
            () = super::stopped(&mut stop) => break,
            Some(ended) = tasks.join_next() => match ended {
                Ok(number) => _ = running.remove(&number),
                Err(error) => tracing::error!(%error, "a task of the log cleaner ended"),
            },
            _ = changes.changed() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn cleaner_threads(broker: &Broker) -> usize {
    let current = broker.dynamic.current();
    if current.log_cleaner.enable { current.log_cleaner.threads } else { 0 }
}

/// Compacts one log after the other, and waits when none is worth it. Ends, giving its number, when so
/// many are no longer wanted.
async fn compact(broker: Arc<Broker>, number: usize, mut stop: watch::Receiver<bool>) -> usize {
    let mut changes = broker.dynamic.changes();
    while number < cleaner_threads(&broker) {
        let (cleaning, stopping) = (broker.clone(), stop.clone());
        let cleaned = tokio::task::spawn_blocking(move || {
            let is_stopping = || *stopping.borrow();
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
            () = super::stopped(&mut stop) => break,
            () = tokio::time::sleep(wait) => {}
            _ = changes.changed() => {}
        }
    }
    number
}

fn every<F: Future<Output = ()> + Send>(
    stop: &watch::Receiver<bool>,
    interval_ms: i64,
    mut work: impl FnMut() -> F + Send + 'static,
) {
    let mut stop = stop.clone();
    let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(u64::MAX).max(1));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => work().await,
                () = super::stopped(&mut stop) => return,
            }
        }
    });
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "a maintenance task failed");
    }
}

fn retention(broker: &Broker) {
    let now_ms = broker.now_ms();
    for partition in broker.partitions.partitions() {
        match partition.log.delete_old_segments(now_ms, partition.high_watermark()) {
            Ok(0) => {}
            Ok(segments) => tracing::info!(partition = %partition.name, segments, "deleted old segments"),
            Err(error) => {
                tracing::error!(partition = %partition.name, %error, "old segments could not be deleted");
            }
        }
    }
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

/// Brings the numbers that are read off up to date.
pub fn read_off(broker: &Broker) {
    let metrics = &broker.metrics;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let topics = broker.partitions.topics();
    metrics.topics.set(number(topics.len() as u64));
    let (mut held, mut led, mut failed) = (0, 0, 0);
    for topic in &topics {
        let partitions = topic.partitions();
        held += partitions.len() as u64;
        led += partitions.iter().filter(|partition| partition.is_leader()).count() as u64;
        failed += partitions.iter().filter(|partition| partition.log.is_failed()).count();
        let size_bytes: u64 = partitions.iter().map(|partition| partition.log.size_bytes()).sum();
        metrics.log_size_bytes.with_label_values(&[&topic.name]).set(number(size_bytes));
        let pairs = [
            (&metrics.produced_bytes, &topic.traffic.produced_bytes),
            (&metrics.produced_batches, &topic.traffic.produced_batches),
            (&metrics.fetched_bytes, &topic.traffic.fetched_bytes),
        ];
        for (counters, counted) in pairs {
            let counter = counters.with_label_values(&[&topic.name]);
            counter.inc_by(counted.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
    }
    metrics.partitions.set(number(held));
    metrics.offline_partitions.set(number((broker.partitions.offline().len() + failed) as u64));
    metrics.leaders.set(number(led));
    let sent = &broker.sent;
    for (path, bytes) in [("sendfile", &sent.sendfile_bytes), ("copy", &sent.copied_bytes)] {
        metrics.log_bytes_sent.with_label_values(&[path]).set(number(bytes.load(Ordering::Relaxed)));
    }
    metrics.cold_runs.set(number(sent.cold_runs.load(Ordering::Relaxed)));
    metrics.request_memory_bytes.set(number(broker.request_memory.held_bytes() as u64));
    let (cleaner, counted) = (&broker.log_cleaner, &broker.log_cleaner.counted);
    for (gauge, count) in [
        (&metrics.cleaner_runs, &counted.runs),
        (&metrics.cleaner_read_bytes, &counted.read_bytes),
        (&metrics.cleaner_written_bytes, &counted.written_bytes),
        (&metrics.cleaner_records_kept, &counted.records_kept),
        (&metrics.cleaner_records_dropped, &counted.records_dropped),
        (&metrics.cleaner_last_run_ms, &counted.last_run_ms),
        (&metrics.cleaner_max_dirty_percent, &counted.max_dirty_percent),
    ] {
        gauge.set(number(count.load(Ordering::Relaxed)));
    }
    metrics.cleaner_uncleanable.set(number(cleaner.uncleanable(&broker.partitions) as u64));
    if let Ok(space) = broker.partitions.data.space() {
        metrics.disk_free_bytes.set(number(space.free_bytes));
    }
}
