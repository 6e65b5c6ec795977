//! What the broker counts. Names and labels are documented in docs/metrics.md.

use kafka_protocol::ResponseError;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
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

    /// All of them as they are now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
