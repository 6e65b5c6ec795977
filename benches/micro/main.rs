//! What the hot parts of the broker cost, each on its own: `cargo bench --bench micro [-- FILTER]`.
//!
//! docs/micro-benchmarks.md has the numbers and what they mean. Beside the parts stand *floors*: the
//! least that the work takes on this machine, such as the checksum alone beside the check of a batch.
//! What is measured is CPU time of the thread.

mod batches;
mod cpu_time;
mod frames;
mod groups;
mod images;
mod logs;
mod responses;

use std::time::Duration;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

/// Long enough for numbers that repeat within some percent; all of it takes about two minutes.
fn config() -> Criterion<CpuTime> {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .with_measurement(CpuTime)
}

criterion_group! {
    name = benches;
    config = config();
    targets = frames::all, batches::all, logs::appends, logs::look_ups, responses::all, images::all, groups::all
}
criterion_main!(benches);
