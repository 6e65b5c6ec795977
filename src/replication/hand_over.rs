//! Leaderships that go to other replicas as planned, so that nothing is lost that the leader alone has acknowledged: when
//! this broker shuts down, and where the controller has named an heir (a preferred leader, a reassignment).
//!
//! Partitions go together ([`crate::partition::handing_over`]): all stop to write, and once their heirs have what they have,
//! one request makes those the leaders. Producers wait meanwhile, some milliseconds as a rule. A partition whose heir does not
//! come up within [`DRAIN_MAX`] writes on and is tried again; after [`ATTEMPTS`] the controller is asked without
//! that, as an election has to come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Context;
use crate::controller::{ControllerHandle, HandOver};
use crate::env::Tasks;
use crate::partition::Partition;
use crate::types::NodeId;

/// How long producers wait for an heir to have everything, at most.
const DRAIN_MAX: Duration = Duration::from_millis(50);
/// How often it is tried, and the pause between two times.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(50);
/// How long the controller may take for an answer before it is asked again, and the metadata to tell of it.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const TELL_TIMEOUT: Duration = Duration::from_millis(500);
/// Partitions that go at a time: the first of them wait for the last.
const PARTITIONS_MAX: usize = 1_000;
/// A follower that had everything so lately is as good an heir as any (ms).
const FRESH_MS: i64 = 1_000;

/// A partition and its heir.
type Move = (Arc<Partition>, NodeId);

/// Hands over whatever the metadata names heirs for, as long as `tasks` go on.
pub fn start(context: &Arc<Context>, controller: ControllerHandle, tasks: &Tasks) {
    let context = context.clone();
    tasks.spawn_until_stopped(async move {
        loop {
            context.partitions.to_hand_over().come().await;
            let wanted = context.partitions.to_hand_over().take();
            let moves: Vec<Move> =
                wanted.into_iter().filter_map(|each| Some((each.clone(), each.heir()?))).collect();
            for moves in moves.chunks(PARTITIONS_MAX) {
                let late = hand_over(&context, &controller, moves.to_vec()).await;
                // An election was asked for.
                let late = late.iter().filter(|(partition, heir)| partition.heir() == Some(*heir));
                elect_all_the_same(&context, &controller, late).await;
            }
        }
    });
}

/// Hands over all that this broker leads and others have. Those that are left have no heir, or none that keeps up.
pub async fn hand_over_all(context: &Context, controller: &ControllerHandle) {
    let moves = context.partitions.partitions().into_iter().filter_map(|partition| {
        let heir = heir_of(context, &partition)?;
        Some((partition, heir))
    });
    let moves: Vec<Move> = moves.collect();
    for moves in moves.chunks(PARTITIONS_MAX) {
        let late = hand_over(context, controller, moves.to_vec()).await;
        if !late.is_empty() {
            let partitions = late.len();
            tracing::warn!(
                partitions,
                "no replica came up with what this broker leads: what it alone has acknowledged may be lost"
            );
        }
    }
}

/// Who takes over: the first replica of those that are about as far as the one that is furthest.
fn heir_of(context: &Context, partition: &Partition) -> Option<NodeId> {
    let (replica, image) = (partition.replica(), (context.image)());
    if !replica.is_leader() {
        return None;
    }
    let in_sync = replica.in_sync().committed();
    let caught_up_ms = |id: &NodeId| replica.followers().get(id).map_or(i64::MIN, |known| known.caught_up_ms);
    let able = |id: &&NodeId| {
        Some(**id) != replica.leader()
            && in_sync.contains(id)
            && image.broker(**id).is_some_and(|broker| broker.is_active())
    };
    let latest = replica.replicas().iter().filter(able).map(caught_up_ms).max()?;
    let mut heirs = replica.replicas().iter().filter(able);
    heirs.find(|id| caught_up_ms(id).saturating_add(FRESH_MS) >= latest).copied()
}

/// Hands partitions over; gives back those that could not be, though they have an heir.
async fn hand_over(context: &Context, controller: &ControllerHandle, moves: Vec<Move>) -> Vec<Move> {
    let mut left = moves;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        left = hand_over_once(context, controller, left).await;
        if left.is_empty() {
            break;
        }
    }
    left
}

async fn hand_over_once(context: &Context, controller: &ControllerHandle, moves: Vec<Move>) -> Vec<Move> {
    let started = Instant::now();
    let (sender, mut drained) = mpsc::unbounded_channel();
    let beginning = context.surroundings.blocking.run(move || {
        let begun = moves.into_iter().filter(|(partition, heir)| {
            let begun = partition.begin_hand_over(*heir, sender.clone());
            if let Err(error) = &begun {
                tracing::debug!(partition = %partition.name, %error, "the partition is not handed over");
            }
            begun.is_ok()
        });
        begun.collect::<Vec<Move>>()
    });
    let Ok(begun) = beginning.await else { return Vec::new() };
    let mut missing = begun.len();
    while missing > 0 && matches!(timeout_at(started + DRAIN_MAX, drained.recv()).await, Ok(Some(()))) {
        missing -= 1;
    }
    let (asked, late): (Vec<Move>, Vec<Move>) =
        begun.into_iter().partition(|(partition, _)| partition.ask_to_hand_over().is_some());
    let drained_ms = started.elapsed().as_millis();
    let late = {
        let abandoning = context.surroundings.blocking.run(move || {
            late.iter().for_each(|(partition, _)| partition.abandon_hand_over());
            late
        });
        abandoning.await.unwrap_or_default()
    };
    // Those that are another's by now, or have gone, are nobody's to hand over.
    let late = late.into_iter().filter(|(partition, _)| partition.is_leader()).collect();
    let partitions = asked.len();
    ask_until_told(context, controller, &asked, &mut drained).await;
    if partitions > 0 {
        let took_ms = started.elapsed().as_millis();
        tracing::debug!(partitions, drained_ms, took_ms, "leaderships were handed over");
    }
    late
}

/// Asks for the heirs to lead, until the metadata has told of every partition what became of it.
async fn ask_until_told(
    context: &Context,
    controller: &ControllerHandle,
    asked: &[Move],
    ended: &mut mpsc::UnboundedReceiver<()>,
) {
    loop {
        let requests = asked.iter().filter_map(|(partition, _)| {
            let proposal = partition.ask_to_hand_over()?;
            Some(HandOver {
                topic_id: partition.topic.id,
                partition: partition.name.partition,
                leader_epoch: proposal.leader_epoch,
                partition_epoch: proposal.partition_epoch,
                heir: proposal.heir,
            })
        });
        let requests: Vec<HandOver> = requests.collect();
        if requests.is_empty() {
            return;
        }
        _ = ask(context, controller, requests).await;
        // Each partition holds a sender as long as it is handed over.
        _ = timeout(TELL_TIMEOUT, async { while ended.recv().await.is_some() {} }).await;
    }
}

/// Whether there was an answer.
async fn ask(context: &Context, controller: &ControllerHandle, requests: Vec<HandOver>) -> bool {
    let partitions = requests.len();
    match controller.within(ASK_TIMEOUT).hand_over((context.identity)(), requests).await {
        Ok(answers) => {
            let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
            if !refused.is_empty() {
                tracing::debug!(?refused, "partitions are not handed over");
            }
            true
        }
        Err(error) => {
            tracing::warn!(partitions, %error, "partitions could not be handed over; this is tried again");
            false
        }
    }
}

/// Has the heirs elected though they may lack what only this leader has acknowledged.
async fn elect_all_the_same<'a>(
    context: &Context,
    controller: &ControllerHandle,
    moves: impl Iterator<Item = &'a Move> + Clone,
) {
    let late = moves.clone();
    let requests = moves.map(|(partition, heir)| {
        let replica = partition.replica();
        tracing::warn!(partition = %partition.name, %heir, "the heir has not come up with the leader in time: it is elected all the same, and what only this leader has acknowledged may be lost");
        HandOver {
            topic_id: partition.topic.id,
            partition: partition.name.partition,
            leader_epoch: replica.leader_epoch(),
            partition_epoch: replica.partition_epoch(),
            heir: *heir,
        }
    });
    let requests: Vec<HandOver> = requests.collect();
    if !requests.is_empty() && !ask(context, controller, requests).await {
        late.for_each(|(partition, _)| context.partitions.to_hand_over().push(partition));
    }
}
