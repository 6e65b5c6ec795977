//! Changes of in-sync replicas, as leaders want them: gathered, and asked for in one request at a time.
//!
//! A change counts as under way from when it was first asked for until the partition has another epoch, whatever the
//! controller answers: a copy of the request may be on its way still. So it is asked again until then; only when a member is not
//! eligible, the leader asks for what there is already, which settles it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::Context;
use crate::controller::{AlterPartition, ControllerHandle, IsrMember};
use crate::env::Tasks;
use crate::metadata::MetadataImage;
use crate::partition::Partition;
use crate::partition::gathering::Gathering;
use crate::partition::replica::IsrProposal;
use crate::types::NodeId;

/// Pauses between two requests for the same, doubling from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(1_000);

/// Most partitions in one request.
const PARTITIONS_MAX: usize = 1_000;

/// The broker epochs of those that may be in sync.
fn active_epoch(image: &MetadataImage) -> impl Fn(NodeId) -> Option<i64> + Copy + '_ {
    |id| image.broker(id).filter(|known| known.is_active()).map(|known| known.epoch)
}

/// Starts asking, and looking for followers that lag.
pub fn start(context: &Arc<Context>, controller: ControllerHandle, tasks: &Tasks) {
    let changes = context.partitions.isr_changes().clone();
    tasks.spawn_until_stopped(ask(context.clone(), changes, controller));
    tasks.spawn_until_stopped(watch_lag(context.clone()));
}

/// A follower is told of at most half as late again as `replica.lag.time.max.ms` says, as in Kafka.
async fn watch_lag(context: Arc<Context>) {
    let lag_ms_max = context.config.lag_ms_max;
    let interval = Duration::from_millis(u64::try_from(lag_ms_max / 2).unwrap_or(1).max(1));
    loop {
        tokio::time::sleep(interval).await;
        let image = (context.image)();
        let now_ms = context.surroundings.clock.monotonic_ms();
        for partition in context.partitions.partitions() {
            partition.look_for_lag(now_ms, lag_ms_max, active_epoch(&image));
        }
    }
}

async fn ask(context: Arc<Context>, changes: Arc<Gathering>, controller: ControllerHandle) {
    let mut failures: u32 = 0;
    // Those that were asked for and are not settled.
    let mut unsettled: Vec<Arc<Partition>> = Vec::new();
    loop {
        if unsettled.is_empty() {
            failures = 0;
            changes.come().await;
        } else {
            let pause = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
            let jitter = context.surroundings.chance.up_to(pause / 2);
            // New ones need not wait for those that have failed.
            _ = tokio::time::timeout(pause / 2 + jitter, changes.come()).await;
        }
        let mut partitions: BTreeMap<_, _> =
            unsettled.drain(..).map(|each| (each.name.clone(), each)).collect();
        partitions.extend(changes.take().into_iter().map(|each| (each.name.clone(), each)));
        let partitions: Vec<_> = partitions.into_values().collect();
        for partitions in partitions.chunks(PARTITIONS_MAX) {
            unsettled.extend(ask_for(&context, &controller, partitions).await);
        }
        failures = if unsettled.is_empty() { 0 } else { failures.saturating_add(1) };
    }
}

/// Asks once; returns those that have to be asked for again.
async fn ask_for(
    context: &Context,
    controller: &ControllerHandle,
    partitions: &[Arc<Partition>],
) -> Vec<Arc<Partition>> {
    let image = (context.image)();
    let wanted = partitions.iter().filter_map(|partition| {
        let before = partition.replica().in_sync().committed().len();
        Some((partition.clone(), partition.proposal_under_way(active_epoch(&image))?, before))
    });
    let wanted: Vec<(Arc<Partition>, IsrProposal, usize)> = wanted.collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let requests = wanted.iter().map(|(partition, proposal, _)| AlterPartition {
        topic_id: partition.topic.id,
        partition: partition.name.partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal
            .isr
            .iter()
            .map(|(id, broker_epoch)| IsrMember { id: *id, broker_epoch: *broker_epoch })
            .collect(),
        recovering: false,
    });
    let answers = match controller.alter_partitions((context.identity)(), requests.collect()).await {
        Ok(answers) => answers,
        Err(error) => {
            let partitions = wanted.len();
            tracing::debug!(partitions, %error, "in-sync replicas could not be changed; this is tried again");
            context.counters.isr_updates_failed.fetch_add(1, Ordering::Relaxed);
            return wanted.into_iter().map(|(partition, ..)| partition).collect();
        }
    };
    let mut again = Vec::new();
    for ((partition, proposal, before), answer) in wanted.into_iter().zip(answers) {
        match answer {
            // The image tells this partition, if it has not yet.
            Ok(_) => count(context, &partition, &proposal, before),
            Err(error) => {
                tracing::debug!(partition = %partition.name, ?error, isr = ?proposal.isr, "the in-sync replicas are not changed");
                context.counters.isr_updates_failed.fetch_add(1, Ordering::Relaxed);
                // Of every other one the image tells what it came to: another leadership, another partition epoch, no such
                // partition any more.
                if error == ResponseError::IneligibleReplica {
                    partition.proposal_refused(&proposal);
                }
            }
        }
        again.push(partition);
    }
    // What is settled has nothing under way by then.
    again.retain(|partition| partition.proposal_under_way(active_epoch(&image)).is_some());
    again
}

fn count(context: &Context, partition: &Partition, proposal: &IsrProposal, before: usize) {
    let isr: Vec<NodeId> = proposal.isr.iter().map(|(id, _)| *id).collect();
    let (counter, what) = match isr.len().cmp(&before) {
        std::cmp::Ordering::Less => (&context.counters.isr_shrinks, "shrinks"),
        std::cmp::Ordering::Greater => (&context.counters.isr_expands, "expands"),
        std::cmp::Ordering::Equal => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    tracing::info!(partition = %partition.name, ?isr, "the ISR {what}");
}
