//! What the active controller changes by the clock: leaderships go back to preferred leaders, and partitions that have none
//! get an unclean one where their topic allows it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::actor::Queue;
use super::forwarding::Outcome;
use super::request::RebalanceLeaders;
use crate::raft::MetadataQuorum;

/// How long a change may take to be decided.
const DECIDE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often each is looked at; `None`: never.
#[derive(Clone, Copy, Debug)]
pub struct Balancing {
    /// `leader.imbalance.check.interval.seconds`
    pub preferred: Option<Duration>,
    /// `unclean.leader.election.interval.ms`
    pub unclean: Duration,
}

/// Looks after leaderships as long as it is polled; does nothing where another node leads.
pub(super) async fn run(quorum: MetadataQuorum, queue: Queue, balancing: Balancing) {
    let own = quorum.node_id();
    let now = Instant::now();
    let mut preferred_at = balancing.preferred.map(|interval| now + interval);
    let mut unclean_at = now + balancing.unclean;
    loop {
        sleep_until(preferred_at.map_or(unclean_at, |at| at.min(unclean_at))).await;
        let now = Instant::now();
        let moves_to_preferred = preferred_at.is_some_and(|at| at <= now);
        if let (true, Some(interval)) = (moves_to_preferred, balancing.preferred) {
            preferred_at = Some(now + interval);
        }
        if unclean_at <= now {
            unclean_at = now + balancing.unclean;
        }
        if quorum.leader() != Some(own) {
            continue;
        }
        let request = RebalanceLeaders { moves_to_preferred };
        let outcome = queue.decide(request, now + DECIDE_TIMEOUT).await;
        if let Outcome::Unknown { why } | Outcome::Undecided { why, .. } = outcome {
            tracing::debug!(why, "leaderships were not balanced; the next look comes");
        }
    }
}
