//! What a measurement found, for people and for machines.

use std::io::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::usage::Usage;
use crate::cli::output::{CliError, Output};

/// Latencies are told apart from this on, and end at the next.
const LATENCY_NANOS_MIN: u64 = 1_000;
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// A histogram of nanoseconds, three digits wide.
pub(super) fn histogram() -> Result<Histogram<u64>, CliError> {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, 3)
        .map_err(|error| CliError::while_doing("make a histogram", error))
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Percentiles {
    /// None when nothing was recorded.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1e6,
        })
    }
}

/// What the broker's process did meanwhile (`--broker-pid`). Bytes are those of whole batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BrokerCost {
    pub cpu_seconds: f64,
    /// Share of one core.
    pub cpu_cores: f64,
    pub cpu_seconds_per_gb: Option<f64>,
    pub cpu_us_per_request: Option<f64>,
    pub cpu_seconds_per_million_records: Option<f64>,
    pub resident_bytes_before: u64,
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

/// Counts of the measured interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Answered requests; with acks=0, sent ones.
    pub requests: u64,
    pub records: u64,
    /// Bytes of whole batches, headers and compression included.
    pub bytes: u64,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    pub workload: String,
    pub seconds: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub mb_per_second: f64,
    pub requests_per_second: f64,
    pub records_per_second: f64,
    /// From the moment at which the request was sent, or ought to have been, to its answer.
    pub latency: Option<Percentiles>,
    /// From the moment at which a record ought to have been sent to its arrival at a consumer.
    pub end_to_end: Option<Percentiles>,
    pub client_cpu_seconds: f64,
    pub broker: Option<BrokerCost>,
    /// What was counted over the whole run against what the broker holds.
    pub verified: Option<String>,
    /// What only some workloads have.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// A process's usage at both ends of the measured interval.
pub(super) type Interval = (Usage, Usage);

impl Report {
    pub(super) fn new(
        workload: &str,
        elapsed: Duration,
        counts: Counts,
        client: Interval,
        broker: Option<Interval>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let per = |cpu: f64, count: f64, scale: f64| (count > 0.0).then(|| cpu / count * scale);
        let broker = broker.map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            BrokerCost {
                cpu_seconds: cpu,
                cpu_cores: cpu / seconds,
                cpu_seconds_per_gb: per(cpu, counts.bytes as f64, 1e9),
                cpu_us_per_request: per(cpu, counts.requests as f64, 1e6),
                cpu_seconds_per_million_records: per(cpu, counts.records as f64, 1e6),
                resident_bytes_before: before.resident_bytes,
                resident_bytes: after.resident_bytes,
                resident_peak_bytes: after.resident_peak_bytes,
            }
        });
        Self {
            workload: workload.to_owned(),
            seconds,
            counts,
            mb_per_second: counts.bytes as f64 / 1e6 / seconds,
            requests_per_second: counts.requests as f64 / seconds,
            records_per_second: counts.records as f64 / seconds,
            latency: None,
            end_to_end: None,
            client_cpu_seconds: client.1.cpu.saturating_sub(client.0.cpu).as_secs_f64(),
            broker,
            verified: None,
            more: serde_json::Map::new(),
        }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// Prints it: a line per figure, or one line of JSON.
    pub(super) fn print(&self, out: &mut Output, json: bool) -> Result<(), CliError> {
        if json {
            let value = serde_json::to_value(self)
                .map_err(|error| CliError::while_doing("write the report", error))?;
            return Ok(out.json(&value)?);
        }
        for (name, value) in self.lines() {
            writeln!(out, "{name:<28}{value}")?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![("workload".to_owned(), self.workload.clone())];
        let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
        line("measured", format!("{:.3} s", self.seconds));
        let Counts { requests, records, bytes } = self.counts;
        if requests > 0 {
            line("requests", format!("{requests}  ({:.0} a second)", self.requests_per_second));
        }
        if records > 0 {
            line("records", format!("{records}  ({:.0} a second)", self.records_per_second));
            line("bytes", format!("{bytes}  ({:.1} MB a second)", self.mb_per_second));
        }
        for (name, percentiles) in [("latency", self.latency), ("end to end", self.end_to_end)] {
            if let Some(Percentiles { p50_ms, p99_ms, p999_ms, max_ms }) = percentiles {
                let value =
                    format!("p50 {p50_ms:.3}  p99 {p99_ms:.3}  p99.9 {p999_ms:.3}  max {max_ms:.3} ms");
                line(name, value);
            }
        }
        for (key, value) in &self.more {
            line(&key.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        line("client CPU", format!("{:.2} s", self.client_cpu_seconds));
        if let Some(broker) = &self.broker {
            line("broker CPU", format!("{:.2} s  ({:.3} cores)", broker.cpu_seconds, broker.cpu_cores));
            if let (Some(per_gb), true) = (broker.cpu_seconds_per_gb, bytes > 0) {
                line("broker CPU per GB", format!("{per_gb:.3} s"));
            }
            if let Some(per_request) = broker.cpu_us_per_request {
                line("broker CPU per request", format!("{per_request:.1} µs"));
            }
            if let Some(per_million) = broker.cpu_seconds_per_million_records {
                line("broker CPU per 1M records", format!("{per_million:.3} s"));
            }
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (now, peak) = (mib(broker.resident_bytes), mib(broker.resident_peak_bytes));
            line("broker memory", format!("{now:.1} MiB resident, {peak:.1} MiB at most"));
        }
        if let Some(verified) = &self.verified {
            line("verified", verified.clone());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_ms: u64, resident_bytes: u64) -> Usage {
        Usage { cpu: Duration::from_millis(cpu_ms), resident_bytes, resident_peak_bytes: resident_bytes + 1 }
    }

    #[test]
    fn costs_are_those_of_the_interval() {
        let counts = Counts { requests: 1_000, records: 500_000, bytes: 2_000_000_000 };
        let client = (usage(10, 1), usage(60, 1));
        let broker = (usage(500, 10), usage(2_500, 20));
        let report = Report::new("produce", Duration::from_secs(4), counts, client, Some(broker));
        let cost = report.broker.clone().unwrap();
        assert_eq!((cost.cpu_seconds, cost.cpu_cores), (2.0, 0.5));
        assert_eq!(cost.cpu_seconds_per_gb, Some(1.0));
        assert_eq!(cost.cpu_us_per_request, Some(2_000.0));
        assert_eq!(cost.cpu_seconds_per_million_records, Some(4.0));
        assert_eq!((cost.resident_bytes_before, cost.resident_peak_bytes), (10, 21));
        assert_eq!((report.mb_per_second, report.client_cpu_seconds), (500.0, 0.05));
        let json = serde_json::to_value(report.with("members", 3)).unwrap();
        assert_eq!((&json["requests"], &json["members"]), (&1_000.into(), &3.into()));
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut histogram = histogram().unwrap();
        assert_eq!(Percentiles::of(&histogram), None);
        for millis in 1..=1_000u64 {
            histogram.saturating_record(millis * 1_000_000);
        }
        let found = Percentiles::of(&histogram).unwrap();
        for (found, wanted) in
            [(found.p50_ms, 500.0), (found.p99_ms, 990.0), (found.p999_ms, 999.0), (found.max_ms, 1_000.0)]
        {
            assert!((found / wanted - 1.0).abs() < 0.002, "{found} {wanted}");
        }
    }
}
