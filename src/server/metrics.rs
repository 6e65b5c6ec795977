//! What the broker counts. Names and labels are documented in docs/metrics.md.

use kafka_protocol::ResponseError;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::protocol::guard::schema::Shape;

/// Latency buckets, in seconds: from a request served from memory to one that waited its time out.
const SECONDS: &[f64] = &[0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// One API's numbers.
#[derive(Clone)]
pub struct ApiMetrics {
    name: String,
    pub requests: IntCounter,
    pub seconds: Histogram,
}

/// All numbers that are counted as things happen; those that are read off (log sizes, partitions) are
/// filled in by the room `admin` when somebody asks.
pub struct Metrics {
    registry: Registry,
    /// By API key.
    apis: Vec<Option<ApiMetrics>>,
    request_errors: IntCounterVec,
    pub connections: IntGauge,
    pub connections_total: IntCounter,
    pub connections_refused: IntCounterVec,
    pub received_bytes: IntCounter,
    pub sent_bytes: IntCounter,
    pub produced_bytes: IntCounterVec,
    pub produced_batches: IntCounterVec,
    pub fetched_bytes: IntCounterVec,
    pub log_bytes_sent: IntGaugeVec,
    pub topics: IntGauge,
    pub partitions: IntGauge,
    pub leaders: IntGauge,
    pub offline_partitions: IntGauge,
    pub disk_errors: IntGaugeVec,
    pub set_aside_bytes: IntGauge,
    pub log_size_bytes: IntGaugeVec,
    pub request_memory_bytes: IntGauge,
    pub cold_runs: IntGauge,
    pub disk_free_bytes: IntGauge,
    pub cleaner_runs: IntGauge,
    pub cleaner_read_bytes: IntGauge,
    pub cleaner_written_bytes: IntGauge,
    pub cleaner_records_kept: IntGauge,
    pub cleaner_records_dropped: IntGauge,
    pub cleaner_last_run_ms: IntGauge,
    pub cleaner_max_dirty_percent: IntGauge,
    pub cleaner_uncleanable: IntGauge,
}

/// A metric's name is a literal of this file, so registering it cannot fail but by a typing error
/// that the first test finds.
const FITS: &str = "metric names are unique and well-formed";

impl Metrics {
    pub fn new(apis: impl Iterator<Item = &'static Shape>) -> Self {
        let registry = Registry::new();
        let requests =
            IntCounterVec::new(Opts::new("raftsman_requests_total", "Requests, by API."), &["api"]);
        let requests = requests.expect(FITS);
        let options =
            HistogramOpts::new("raftsman_request_seconds", "Time from a request to its response, by API.");
        let seconds = HistogramVec::new(options.buckets(SECONDS.to_vec()), &["api"]).expect(FITS);
        registry.register(Box::new(requests.clone())).expect(FITS);
        registry.register(Box::new(seconds.clone())).expect(FITS);
        let mut by_key = Vec::new();
        for api in apis {
            let at = usize::try_from(api.key).unwrap_or_default();
            if by_key.len() <= at {
                by_key.resize(at + 1, None);
            }
            let name = api.name.to_owned();
            let numbers = ApiMetrics {
                requests: requests.with_label_values(&[&name]),
                seconds: seconds.with_label_values(&[&name]),
                name,
            };
            by_key[at] = Some(numbers);
        }
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect(FITS);
            registry.register(Box::new(counter.clone())).expect(FITS);
            counter
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(FITS);
            registry.register(Box::new(counters.clone())).expect(FITS);
            counters
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect(FITS);
            registry.register(Box::new(gauge.clone())).expect(FITS);
            gauge
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect(FITS);
            registry.register(Box::new(gauges.clone())).expect(FITS);
            gauges
        };
        Self {
            apis: by_key,
            request_errors: counters(
                "raftsman_request_errors_total",
                "Errors in responses, by API and Kafka's name of the error; each partition, topic or group of a response counts.",
                &["api", "error"],
            ),
            connections: gauge("raftsman_connections", "Open connections."),
            connections_total: counter("raftsman_connections_total", "Connections accepted."),
            connections_refused: counters(
                "raftsman_connections_refused_total",
                "Connections closed by the broker, by reason.",
                &["reason"],
            ),
            received_bytes: counter("raftsman_received_bytes_total", "Bytes of requests."),
            sent_bytes: counter("raftsman_sent_bytes_total", "Bytes of responses."),
            produced_bytes: counters(
                "raftsman_topic_produced_bytes_total",
                "Bytes of records taken from producers.",
                &["topic"],
            ),
            produced_batches: counters(
                "raftsman_topic_produced_batches_total",
                "Batches taken from producers.",
                &["topic"],
            ),
            fetched_bytes: counters(
                "raftsman_topic_fetched_bytes_total",
                "Bytes of records given to consumers.",
                &["topic"],
            ),
            log_bytes_sent: gauges(
                "raftsman_log_sent_bytes_total",
                "Bytes of logs sent to clients, by path: sendfile or copy.",
                &["path"],
            ),
            topics: gauge("raftsman_topics", "Topics."),
            partitions: gauge("raftsman_partitions", "Partitions that this broker holds."),
            leaders: gauge("raftsman_leader_partitions", "Partitions that this broker leads."),
            offline_partitions: gauge(
                "raftsman_offline_partitions",
                "Partitions whose log on this broker could not be opened, or failed.",
            ),
            disk_errors: gauges(
                "raftsman_log_errors_total",
                "Reads, writes and syncs of logs that failed, by operation.",
                &["operation"],
            ),
            set_aside_bytes: gauge(
                "raftsman_log_set_aside_bytes",
                "Bytes that recovery found behind damage and set aside (*.log.set-aside).",
            ),
            log_size_bytes: gauges(
                "raftsman_topic_log_size_bytes",
                "Bytes of a topic's logs on this broker.",
                &["topic"],
            ),
            request_memory_bytes: gauge(
                "raftsman_request_memory_bytes",
                "Memory charged for requests (queued.max.request.bytes).",
            ),
            cold_runs: gauge(
                "raftsman_log_cold_runs_total",
                "Runs of log files that were not in memory when they were asked for.",
            ),
            disk_free_bytes: gauge(
                "raftsman_disk_free_bytes",
                "Free bytes on the file system of the data folder.",
            ),
            cleaner_runs: gauge("raftsman_log_cleaner_runs_total", "Compactions of a log."),
            cleaner_read_bytes: gauge("raftsman_log_cleaner_read_bytes_total", "Bytes read by compaction."),
            cleaner_written_bytes: gauge(
                "raftsman_log_cleaner_written_bytes_total",
                "Bytes written by compaction.",
            ),
            cleaner_records_kept: gauge(
                "raftsman_log_cleaner_records_kept_total",
                "Records that compaction looked at and kept.",
            ),
            cleaner_records_dropped: gauge(
                "raftsman_log_cleaner_records_dropped_total",
                "Records that compaction dropped.",
            ),
            cleaner_last_run_ms: gauge(
                "raftsman_log_cleaner_last_run_timestamp_ms",
                "When the last compaction ended, in ms since 1970; 0 for never.",
            ),
            cleaner_max_dirty_percent: gauge(
                "raftsman_log_cleaner_max_dirty_percent",
                "Dirty share of the dirtiest compacted log, in percent.",
            ),
            cleaner_uncleanable: gauge(
                "raftsman_log_cleaner_uncleanable_partitions",
                "Partitions that are no longer compacted because that failed.",
            ),
            registry,
        }
    }

    /// The numbers of an API that is served.
    pub fn api(&self, key: i16) -> Option<&ApiMetrics> {
        self.apis.get(usize::try_from(key).ok()?)?.as_ref()
    }

    /// Counts errors that a response of this API carries.
    pub fn failed(&self, key: i16, code: i16, count: u64) {
        let Some(api) = self.api(key) else { return };
        let error = ResponseError::try_from_code(code).map_or(code.to_string(), |error| format!("{error:?}"));
        self.request_errors.with_label_values(&[&api.name, &error]).inc_by(count);
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Forgets a topic that is gone.
    pub fn forget_topic(&self, topic: &str) {
        for counters in [&self.produced_bytes, &self.produced_batches, &self.fetched_bytes] {
            let _ = counters.remove_label_values(&[topic]);
        }
        let _ = self.log_size_bytes.remove_label_values(&[topic]);
    }
}
