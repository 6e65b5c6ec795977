//! What is read off the broker when somebody asks for metrics: sizes, states, and what others count.
//!
//! Nothing of it is kept: an answer shows what there is. So a topic's numbers go with the topic, on every broker, and
//! two who ask at a time see the same. Names are documented in docs/metrics.md.

use std::sync::atomic::{AtomicU64, Ordering};

use super::families::Families;
use crate::env::panics;
use crate::env::real::process;
use crate::metadata::BrokerImage;
use crate::partition::Traffic;
use crate::server::Broker;

/// All that is read off but what belongs to groups.
pub(super) fn read_off(broker: &Broker, families: &mut Families) {
    of_process(families);
    of_requests(broker, families);
    of_brokers(broker, families);
    of_topics(broker, families);
    of_replication(broker, families);
    of_logs(broker, families);
    of_cleaner(broker, families);
}

/// Under the names that Prometheus' own client libraries give them.
fn of_process(families: &mut Families) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let help = "Always 1; the labels say which build this is.";
    families.gauges("raftsman_build_info", help, &["version"], [(vec![version], 1.0)]);
    let Ok(numbers) = process::numbers() else { return };
    let help = "Processor time used, in user and system mode.";
    families.counter_seconds("process_cpu_seconds_total", help, numbers.cpu_seconds);
    families.gauge("process_resident_memory_bytes", "Resident memory.", numbers.resident_bytes as f64);
    families.gauge("process_virtual_memory_bytes", "Address space.", numbers.virtual_bytes as f64);
    families.gauge("process_open_fds", "Open files and sockets.", numbers.open_files as f64);
    families.gauge("process_max_fds", "Most open files and sockets.", numbers.open_files_max as f64);
    families.gauge("process_threads", "Threads.", numbers.threads as f64);
    let help = "When the process started, in seconds since 1970.";
    families.gauge("process_start_time_seconds", help, numbers.started_seconds);
}

fn of_brokers(broker: &Broker, families: &mut Families) {
    let image = broker.image();
    let count = |state: &str, is: fn(&BrokerImage) -> bool| {
        let count = image.brokers().values().filter(|broker| is(broker)).count();
        (vec![state.to_owned()], count as f64)
    };
    let help = "Registered brokers of the cluster by their state, as this node knows it.";
    let states = [
        count("active", BrokerImage::is_active),
        count("fenced", |broker| broker.fenced),
        count("shutting_down", |broker| !broker.fenced && broker.in_controlled_shutdown),
    ];
    families.gauges("raftsman_brokers", help, &["state"], states);
    let help = "This process's broker epoch: rises with every registration in the cluster.";
    families.gauge("raftsman_broker_epoch", help, broker.identity().epoch as f64);
    let help = "Seconds since the active controller last heard this broker; 0 where it is alone.";
    families.gauge("raftsman_broker_heartbeat_age_seconds", help, broker.lease.silent_ms() as f64 / 1000.0);
    let help = "1 while this broker may lead what others hold, too: it has been heard in time.";
    families.gauge("raftsman_broker_may_lead", help, f64::from(u8::from(broker.lease.holds())));
}

fn of_requests(broker: &Broker, families: &mut Families) {
    let memory = &broker.request_memory;
    let help = "Memory charged for requests.";
    families.gauge("raftsman_request_memory_bytes", help, memory.held_bytes() as f64);
    if let Some(bytes_max) = memory.bytes_max() {
        let help = "Most memory charged for requests (queued.max.request.bytes).";
        families.gauge("raftsman_request_memory_max_bytes", help, bytes_max as f64);
    }
    families.gauge(
        "raftsman_requests_waiting_for_memory",
        "Requests that wait for memory.",
        memory.waiting() as f64,
    );
    let max = broker.dynamic.current().connections.max;
    families.gauge("raftsman_connections_max", "Most connections at a time (max.connections).", max as f64);
    let help =
        "Requests whose handling panicked without harm (a fault of the broker: its log has the place).";
    families.counter("raftsman_panics_contained_total", help, panics::contained_total());
}

fn of_topics(broker: &Broker, families: &mut Families) {
    let topics = broker.partitions.topics();
    let (mut held, mut led, mut failed) = (0, 0, 0);
    let mut sizes = Vec::with_capacity(topics.len());
    for topic in &topics {
        let partitions = topic.partitions();
        held += partitions.len();
        led += partitions.iter().filter(|partition| partition.is_leader()).count();
        failed += partitions.iter().filter(|partition| partition.log.is_failed()).count();
        let bytes: u64 = partitions.iter().map(|partition| partition.log.size_bytes()).sum();
        sizes.push((vec![topic.name.to_string()], bytes as f64));
    }
    families.gauge("raftsman_topics", "Topics.", topics.len() as f64);
    families.gauge("raftsman_partitions", "Partitions that this broker holds.", held as f64);
    families.gauge("raftsman_leader_partitions", "Partitions that this broker leads.", led as f64);
    let help = "Partitions whose log on this broker could not be opened, or failed.";
    let offline = broker.partitions.offline().len() + failed;
    families.gauge("raftsman_offline_partitions", help, offline as f64);
    let help = "Bytes of a topic's logs on this broker.";
    families.gauges("raftsman_topic_log_size_bytes", help, &["topic"], sizes);
    let mut traffic = |name: &str, help: &str, counted: fn(&Traffic) -> &AtomicU64| {
        // Only of topics that were used.
        let counts = topics.iter().filter_map(|topic| {
            let count = counted(&topic.traffic).load(Ordering::Relaxed);
            (count > 0).then(|| (vec![topic.name.to_string()], count))
        });
        families.counters(name, help, &["topic"], counts);
    };
    let help = "Bytes of records taken from producers.";
    traffic("raftsman_topic_produced_bytes_total", help, |traffic| &traffic.produced_bytes);
    let help = "Batches taken from producers.";
    traffic("raftsman_topic_produced_batches_total", help, |traffic| &traffic.produced_batches);
    let help = "Bytes of records given to consumers.";
    traffic("raftsman_topic_fetched_bytes_total", help, |traffic| &traffic.fetched_bytes);
    let help = "Bytes of records given to followers.";
    traffic("raftsman_topic_replicated_out_bytes_total", help, |traffic| &traffic.replicated_out_bytes);
    let help = "Bytes of records taken from leaders.";
    traffic("raftsman_topic_replicated_in_bytes_total", help, |traffic| &traffic.replicated_in_bytes);
}

/// Of the partitions that this broker leads; each partition of a cluster is counted by one broker.
fn of_replication(broker: &Broker, families: &mut Families) {
    let (mut under_replicated, mut under_least, mut at_least, mut lag) = (0, 0, 0, 0);
    for partition in broker.partitions.partitions() {
        let Some(replicated) = partition.replicated() else { continue };
        under_replicated += usize::from(replicated.in_sync < replicated.replicas);
        under_least += usize::from(replicated.in_sync < replicated.least);
        at_least += usize::from(replicated.in_sync == replicated.least);
        lag = lag.max(replicated.lag);
    }
    let help = "Partitions led here with fewer replicas in sync than they have.";
    families.gauge("raftsman_under_replicated_partitions", help, under_replicated as f64);
    let help = "Partitions led here with fewer replicas in sync than min.insync.replicas.";
    families.gauge("raftsman_under_min_isr_partitions", help, under_least as f64);
    let help = "Partitions led here with just as many replicas in sync as min.insync.replicas.";
    families.gauge("raftsman_at_min_isr_partitions", help, at_least as f64);
    let help = "Greatest number of records that a follower lacks, over all partitions led here.";
    families.gauge("raftsman_replica_lag_max_records", help, lag as f64);
    let counters = broker.replication.counters();
    let mut counter = |name: &str, help: &str, count: &AtomicU64| {
        families.counter(name, help, count.load(Ordering::Relaxed))
    };
    counter("raftsman_isr_shrinks_total", "Replicas that left the in-sync replicas.", &counters.isr_shrinks);
    counter(
        "raftsman_isr_expands_total",
        "Replicas that joined the in-sync replicas.",
        &counters.isr_expands,
    );
    let help = "Changes of in-sync replicas that the controller did not grant, or did not answer.";
    counter("raftsman_isr_updates_failed_total", help, &counters.isr_updates_failed);
    let help = "Fetches from leaders that failed as a whole.";
    counter("raftsman_replica_fetches_failed_total", help, &counters.fetches_failed);
    let help = "Partitions in fetches from leaders that came with an error, or could not be taken.";
    counter("raftsman_replica_partitions_failed_total", help, &counters.partitions_failed);
}

fn of_logs(broker: &Broker, families: &mut Families) {
    let sent = &broker.sent;
    let by_path = [("sendfile", &sent.sendfile_bytes), ("copy", &sent.copied_bytes)]
        .map(|(path, bytes)| (vec![path.to_owned()], bytes.load(Ordering::Relaxed)));
    let help = "Bytes of logs sent to clients, by path: sendfile or copy.";
    families.counters("raftsman_log_sent_bytes_total", help, &["path"], by_path);
    let help = "Runs of log files that were not in memory when they were asked for.";
    families.counter("raftsman_log_cold_runs_total", help, sent.cold_runs.load(Ordering::Relaxed));
    let errors = broker.partitions.data.errors();
    let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let sending = number(&sent.failed_reads);
    let by_operation = [
        ("read", number(&errors.reads) + sending),
        ("write", number(&errors.writes)),
        ("sync", number(&errors.syncs)),
    ]
    .map(|(operation, count)| (vec![operation.to_owned()], count));
    let help = "Reads, writes and syncs of logs that failed, by operation.";
    families.counters("raftsman_log_errors_total", help, &["operation"], by_operation);
    let help = "Bytes that recovery found behind damage and set aside (*.log.set-aside).";
    families.gauge("raftsman_log_set_aside_bytes", help, broker.partitions.data.set_aside_bytes() as f64);
    let help = "Partition folders that no topic claimed and that were set aside (-stray).";
    families.gauge("raftsman_stray_folders", help, broker.partitions.data.strays() as f64);
    if let Ok(space) = broker.partitions.data.space() {
        let help = "Free bytes on the file system of the data folder.";
        families.gauge("raftsman_disk_free_bytes", help, space.free_bytes as f64);
        let help = "Bytes of the file system of the data folder.";
        families.gauge("raftsman_disk_bytes", help, space.total_bytes as f64);
    }
}

fn of_cleaner(broker: &Broker, families: &mut Families) {
    let (cleaner, counted) = (&broker.log_cleaner, &broker.log_cleaner.counted);
    let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut counter = |name: &str, help: &str, count: &AtomicU64| families.counter(name, help, number(count));
    counter("raftsman_log_cleaner_runs_total", "Compactions of a log.", &counted.runs);
    counter("raftsman_log_cleaner_read_bytes_total", "Bytes read by compaction.", &counted.read_bytes);
    counter(
        "raftsman_log_cleaner_written_bytes_total",
        "Bytes written by compaction.",
        &counted.written_bytes,
    );
    let help = "Records that compaction looked at and kept.";
    counter("raftsman_log_cleaner_records_kept_total", help, &counted.records_kept);
    let help = "Records that compaction dropped.";
    counter("raftsman_log_cleaner_records_dropped_total", help, &counted.records_dropped);
    let help = "When the last compaction ended, in seconds since 1970; 0 for never.";
    let seconds = number(&counted.last_run_ms) as f64 / 1000.0;
    families.gauge("raftsman_log_cleaner_last_run_timestamp_seconds", help, seconds);
    let help = "Dirty share of the dirtiest compacted log, from 0 to 1.";
    let ratio = number(&counted.max_dirty_percent) as f64 / 100.0;
    families.gauge("raftsman_log_cleaner_max_dirty_ratio", help, ratio);
    let help = "Partitions that are no longer compacted because that failed.";
    let uncleanable = cleaner.uncleanable(&broker.partitions);
    families.gauge("raftsman_log_cleaner_uncleanable_partitions", help, uncleanable as f64);
}
