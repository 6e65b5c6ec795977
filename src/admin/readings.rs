//! The numbers that are read off the broker when somebody asks for them: topics, logs, memory, the log cleaner.

use std::sync::atomic::Ordering;

use crate::server::Broker;

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
    let errors = broker.partitions.data.errors();
    let sending = sent.failed_reads.load(Ordering::Relaxed);
    for (operation, count) in [
        ("read", errors.reads.load(Ordering::Relaxed) + sending),
        ("write", errors.writes.load(Ordering::Relaxed)),
        ("sync", errors.syncs.load(Ordering::Relaxed)),
    ] {
        metrics.disk_errors.with_label_values(&[operation]).set(number(count));
    }
    metrics.set_aside_bytes.set(number(broker.partitions.data.set_aside_bytes()));
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
