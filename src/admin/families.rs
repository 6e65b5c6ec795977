//! Metrics as they are written: names, types and values of one moment.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Metrics by their names, as they are written.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// Goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, &[], [(vec![], value)]);
    }

    /// Only goes up, from 0 at the start.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, &[], [(vec![], value)]);
    }

    /// A gauge for each set of labels' values.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) {
        let metrics = values.into_iter().map(|(of_labels, value)| {
            let (mut metric, mut gauge) = (labelled(labels, of_labels), Gauge::default());
            gauge.set_value(value);
            metric.set_gauge(gauge);
            metric
        });
        self.add(MetricType::GAUGE, name, help, metrics.collect());
    }

    /// A counter for each set of labels' values.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<String>, u64)>,
    ) {
        let metrics = values.into_iter().map(|(of_labels, value)| {
            let (mut metric, mut counter) = (labelled(labels, of_labels), Counter::default());
            counter.set_value(value as f64);
            metric.set_counter(counter);
            metric
        });
        self.add(MetricType::COUNTER, name, help, metrics.collect());
    }

    /// A counter of seconds.
    pub(super) fn counter_seconds(&mut self, name: &str, help: &str, seconds: f64) {
        let (mut metric, mut counter) = (Metric::default(), Counter::default());
        counter.set_value(seconds);
        metric.set_counter(counter);
        self.add(MetricType::COUNTER, name, help, vec![metric]);
    }

    fn add(&mut self, kind: MetricType, name: &str, help: &str, metrics: Vec<Metric>) {
        // A name without a value is nothing to tell.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_field_type(kind);
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// Everything in Prometheus' text format, with what was counted as it happened before it.
    pub(super) fn text(self, mut counted: Vec<MetricFamily>) -> String {
        counted.extend(self.0);
        TextEncoder::new().encode_to_string(&counted).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics could not be written");
            String::new()
        })
    }
}

fn labelled(labels: &[&str], values: Vec<String>) -> Metric {
    let pairs = labels.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}
