//! Which log is compacted next: the dirtiest of those that are worth it, or overdue. Each thread of the cleaner
//! asks here, and compacts what it is given; together they keep to the rate that is set.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Partition, PartitionManager};
use crate::config::BrokerConfig;
use crate::env::Surroundings;
use crate::segment::cleaner::{CleanOptions, CleanStats, Cleanable, Stop};

/// A full disk is told of this often.
const FULL_DISK_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Longest sleep of a throttled thread before it looks whether the broker stops.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// What all compactions did so far.
#[derive(Debug, Default)]
pub struct Counted {
    pub runs: AtomicU64,
    pub read_bytes: AtomicU64,
    pub written_bytes: AtomicU64,
    pub records_kept: AtomicU64,
    pub records_dropped: AtomicU64,
    /// When the last one ended (ms since 1970).
    pub last_run_ms: AtomicU64,
    /// Of the dirtiest log at the last look.
    pub max_dirty_percent: AtomicU64,
}

/// The cleaner of a broker's logs.
#[derive(Debug)]
pub struct LogCleaner {
    /// The broker's configuration as it is now: every compaction looks anew.
    config: Arc<ArcSwap<BrokerConfig>>,
    pub counted: Counted,
    throttle: Throttle,
    full_disk_told: Mutex<Option<Duration>>,
}

impl LogCleaner {
    pub fn new(config: Arc<ArcSwap<BrokerConfig>>, surroundings: Surroundings) -> Self {
        let throttle = Throttle { surroundings, free_at: Mutex::default() };
        Self { config, counted: Counted::default(), throttle, full_disk_told: Mutex::default() }
    }

    /// Compacts the log that needs it most; false when none does, or none can be. Blocks.
    pub fn clean_dirtiest(
        &self,
        partitions: &PartitionManager,
        now_ms: i64,
        is_stopping: &dyn Fn() -> bool,
    ) -> bool {
        let mut due = self.look(partitions, now_ms);
        due.sort_by(|(a, _), (b, _)| b.dirty_ratio().total_cmp(&a.dirty_ratio()));
        for (cleanable, partition) in due {
            if is_stopping() {
                return false;
            }
            match self.clean(partitions, &partition, &cleanable, now_ms, is_stopping) {
                Ok(stats) => {
                    self.count(&partition, &cleanable, &stats, now_ms);
                    return stats.end_offset > cleanable.first_dirty_offset.0;
                }
                Err(Stop::Aborted) => {}
                Err(Stop::Io(error)) if is_full(&error) => self.tell_full_disk(&partition, &error),
                Err(Stop::Io(error)) => {
                    partition.log.set_uncleanable();
                    tracing::error!(partition = %partition.name, %error, "the log cannot be compacted; it is left as it is until the next start");
                }
            }
        }
        false
    }

    /// The logs that are due. Also forgets how far those were compacted that no longer are to be.
    fn look(&self, partitions: &PartitionManager, now_ms: i64) -> Vec<(Cleanable, Arc<Partition>)> {
        let (mut due, mut dirtiest, mut forgot) = (Vec::new(), 0.0f64, false);
        for topic in partitions.topics() {
            if !topic.config().log.cleanup.compact {
                for partition in topic.partitions() {
                    if partition.log.first_dirty_offset().is_some() {
                        partition.log.set_first_dirty_offset(None);
                        forgot = true;
                    }
                }
                continue;
            }
            for partition in topic.partitions() {
                let log = &partition.log;
                log.remove_due(now_ms);
                if log.is_uncleanable() || log.is_being_cleaned() || log.is_failed() || log.is_closed() {
                    continue;
                }
                match log.cleanable(partition.last_stable_offset(), now_ms) {
                    Ok(cleanable) => {
                        dirtiest = dirtiest.max(cleanable.dirty_ratio());
                        if cleanable.is_due()
                            && cleanable.first_dirty_offset < cleanable.first_uncleanable_offset
                        {
                            due.push((cleanable, partition));
                        }
                    }
                    Err(_) if log.is_failed() || log.is_closed() => {}
                    Err(error) => {
                        log.set_uncleanable();
                        tracing::error!(partition = %partition.name, %error, "the log cannot be compacted; it is left as it is until the next start");
                    }
                }
            }
        }
        self.counted.max_dirty_percent.store((dirtiest * 100.0) as u64, Ordering::Relaxed);
        if forgot {
            self.note(partitions);
        }
        due
    }

    fn clean(
        &self,
        partitions: &PartitionManager,
        partition: &Partition,
        cleanable: &Cleanable,
        now_ms: i64,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<CleanStats, Stop> {
        let log = &partition.log;
        let noted = partitions.data.note_synced(&partition.name, log, cleanable.synced_below);
        let recovery_point = match noted {
            Err(_) if log.is_failed() || log.is_closed() => return Err(Stop::Aborted),
            noted => noted?,
        };
        let broker = self.config.load();
        let config = &broker.log_cleaner;
        let threads = config.threads.max(1);
        let options = CleanOptions {
            now_ms,
            dedupe_buffer_bytes: config.dedupe_buffer_bytes / threads,
            load_factor: config.load_factor,
            io_bytes: config.io_buffer_bytes / threads / 2,
            seeds: [0; 2].map(|_| self.throttle.surroundings.chance.next_u64()),
        };
        let pace = |bytes: u64| {
            let rate = self.config.load().log_cleaner.io_bytes_per_second_max;
            self.throttle.wait(bytes, rate, is_stopping);
            if is_stopping() { Err(Stop::Aborted) } else { Ok(()) }
        };
        let stats = log.clean(cleanable, recovery_point, &options, &pace)?;
        self.note(partitions);
        Ok(stats)
    }

    fn note(&self, partitions: &PartitionManager) {
        if let Err(error) = partitions.data.write_first_dirty_offsets() {
            // What it does not know is compacted once more.
            tracing::warn!(%error, "how far logs are compacted could not be noted");
        }
    }

    fn count(&self, partition: &Partition, cleanable: &Cleanable, stats: &CleanStats, now_ms: i64) {
        let counted = &self.counted;
        let pairs = [
            (&counted.runs, 1),
            (&counted.read_bytes, stats.bytes_read),
            (&counted.written_bytes, stats.bytes_written),
            (&counted.records_kept, stats.records_kept),
            (&counted.records_dropped, stats.records_dropped),
        ];
        for (counter, by) in pairs {
            counter.fetch_add(by, Ordering::Relaxed);
        }
        counted.last_run_ms.store(u64::try_from(now_ms).unwrap_or_default(), Ordering::Relaxed);
        let (from, to) = (cleanable.first_dirty_offset, stats.end_offset);
        let (bytes_before, bytes_after) = (stats.bytes_before, stats.bytes_after);
        let (kept, dropped) = (stats.records_kept, stats.records_dropped);
        tracing::info!(partition = %partition.name, %from, to, bytes_before, bytes_after, kept, dropped, "compacted");
    }

    fn tell_full_disk(&self, partition: &Partition, error: &io::Error) {
        let now = self.throttle.surroundings.clock.monotonic();
        let mut told = self.full_disk_told.lock();
        if told.is_none_or(|told| now.saturating_sub(told) >= FULL_DISK_TOLD_EVERY) {
            *told = Some(now);
            tracing::warn!(partition = %partition.name, %error, "there is no room to compact; it is tried again later");
        }
    }

    /// Number of logs that are no longer compacted because that failed.
    pub fn uncleanable(&self, partitions: &PartitionManager) -> usize {
        let topics = partitions.topics();
        let compacted = topics.iter().filter(|topic| topic.config().log.cleanup.compact);
        compacted
            .map(|t| t.partitions().iter().filter(|partition| partition.log.is_uncleanable()).count())
            .sum()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Keeps several threads to a rate together.
#[derive(Debug)]
struct Throttle {
    surroundings: Surroundings,
    /// When what was read and written so far will have been allowed.
    free_at: Mutex<Duration>,
}

impl Throttle {
    /// Counts `bytes`, and waits until they are due.
    fn wait(&self, bytes: u64, bytes_per_second: f64, is_stopping: &dyn Fn() -> bool) {
        // More than any disk gives: no limit.
        if bytes_per_second > 1e15 {
            return;
        }
        let Surroundings { clock, blocking, .. } = &self.surroundings;
        let due = {
            let mut free_at = self.free_at.lock();
            let from = (*free_at).max(clock.monotonic());
            let took = Duration::try_from_secs_f64(bytes as f64 / bytes_per_second.max(1.0))
                .unwrap_or(Duration::MAX);
            let due = from.checked_add(took).unwrap_or(from);
            *free_at = due;
            due
        };
        while let Some(left) = due.checked_sub(clock.monotonic()).filter(|left| !left.is_zero()) {
            if is_stopping() {
                return;
            }
            blocking.pause(left.min(SLEEP_MAX));
        }
    }
}
