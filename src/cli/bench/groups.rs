//! `raftsman bench groups`: how soon members are assigned, and how fast they commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use kafka_protocol::messages::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::engine::{self, RunArguments, usages};
use super::frame::{COMMIT_VERSION_MIN, commit_error, plain};
use super::load::{Load, drive};
use super::report::{Counts, Report};
use super::target::{ClusterArguments, Lane, Target, TopicArguments, resolve};
use crate::cli::output::{CliError, Output};
use crate::client::coordinator::group_id;
use crate::client::member::{GroupMember, Interest, MemberOptions};
use crate::client::{ClientError, text, topic_name};

/// How long members have to find their places.
const ASSIGNMENT_LIMIT: Duration = Duration::from_secs(120);
/// How long they have to leave.
const LEAVE_TIMEOUT_MS: u64 = 5_000;

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman bench groups --create-topic --partitions 100 --members 100        time until all are assigned
  raftsman bench groups --groups 16 --members 1 --commit --duration 10       commits as fast as they go

The time until all are assigned holds group.initial.rebalance.delay.ms, which new groups wait for."
)]
pub struct GroupsArguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    #[command(flatten)]
    pub topic: TopicArguments,
    /// Groups
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub groups: u32,
    /// Members of each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub members: u32,
    /// What the names of the groups begin with
    #[arg(long, default_value = "raftsman-bench")]
    pub group_prefix: String,
    /// How often members beat their hearts, which is when they learn that they have to join again
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub heartbeat_interval_ms: u64,
    /// When all are assigned: one member of each group commits, over a connection of its own
    #[arg(long)]
    pub commit: bool,
    /// Commits under way on a connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub depth: u32,
    #[command(flatten)]
    pub run: RunArguments,
}

/// The generation that each member of a group is in; -1 before it is in one.
type Generations = watch::Sender<Vec<i32>>;

/// Whether all are in the same one.
fn are_settled(generations: &[i32]) -> bool {
    let first = generations.first().copied().unwrap_or(-1);
    first >= 0 && generations.iter().all(|generation| *generation == first)
}

/// Joins, again and again while others come, until the whole group is in one generation.
async fn settle(
    mut member: GroupMember,
    place: usize,
    generations: Arc<Generations>,
) -> Result<GroupMember, ClientError> {
    let mut seen = generations.subscribe();
    let mut owned = BTreeSet::new();
    loop {
        owned = member.join(&owned).await?;
        member.polled();
        let generation = member.committer().generation;
        generations.send_modify(|all| {
            if let Some(own) = all.get_mut(place) {
                *own = generation;
            }
        });
        tokio::select! {
            biased;
            settled = seen.wait_for(|all| are_settled(all)) => {
                drop(settled);
                return Ok(member);
            }
            _ = member.disturbed() => {}
        }
    }
}

/// A name of a group by its number.
fn group_name(arguments: &GroupsArguments, number: u32) -> String {
    format!("{}-{number}", arguments.group_prefix)
}

/// Makes the groups; gives the first member of each and the others.
async fn assemble(
    arguments: &GroupsArguments,
    target: &Target,
) -> Result<(Vec<GroupMember>, Vec<GroupMember>), CliError> {
    let mut joining = JoinSet::new();
    for number in 0..arguments.groups {
        let generations = Arc::new(Generations::new(vec![-1; arguments.members as usize]));
        for place in 0..arguments.members as usize {
            let mut options = MemberOptions::new(&group_name(arguments, number));
            options.heartbeat_interval_ms = arguments.heartbeat_interval_ms;
            let interest = Interest::Topics(vec![target.topic.name.clone()]);
            let member = GroupMember::new(target.client.clone(), options, interest);
            let generations = generations.clone();
            joining.spawn(async move { (place, settle(member, place, generations).await) });
        }
    }
    let (mut first, mut others) = (Vec::new(), Vec::new());
    while let Some(joined) = joining.join_next().await {
        let (place, member) = joined.map_err(|error| CliError::while_doing("join a group", error))?;
        if place == 0 { &mut first } else { &mut others }.push(member?);
    }
    Ok((first, others))
}

/// Commits, each group over a connection of its own.
async fn commit(
    arguments: &GroupsArguments,
    target: &Target,
    members: &[GroupMember],
) -> Result<Report, CliError> {
    let version = target.version::<OffsetCommitRequest>(COMMIT_VERSION_MIN, 9).await?;
    let names = members.iter().map(|member| member.committer().group).collect::<Vec<_>>();
    let found =
        target.client.find_coordinators(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let (mut frames, mut lanes) = (Vec::new(), Vec::new());
    for member in members {
        let committer = member.committer();
        let coordinator = match found.get(&committer.group) {
            Some(found) => found.as_ref().map_err(Clone::clone)?,
            None => {
                return Err(CliError::Failed(format!("group '{}' has no coordinator", committer.group)));
            }
        };
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&target.topic.name))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&committer.group))
            .with_generation_id_or_member_epoch(committer.generation)
            .with_member_id(text(committer.member_id))
            .with_topics(vec![topic]);
        let place = i32::try_from(frames.len()).unwrap_or(i32::MAX);
        frames.push(plain(&request, version, &target.client.options().client_id)?);
        lanes.push(Lane { address: resolve(&coordinator.address)?, partitions: vec![place] });
    }
    let load = Load {
        frames: Arc::new(frames),
        version,
        check: commit_error,
        records: 0,
        bytes: 0,
        depth: arguments.depth as usize,
        interval: None,
        stagger: Duration::ZERO,
        is_answered: true,
    };
    let tasks = lanes.into_iter().map(|lane| {
        let load = load.clone();
        engine::task(move |worker| drive(worker, lane, load))
    });
    let outcome = engine::run(&arguments.run.plan(arguments.cluster.broker_pid), tasks.collect())?;
    let mut report = outcome.report("groups, commits");
    for (name, offsets) in target.client.committed_offsets(&names).await? {
        let offset = offsets?.get(&(target.topic.name.clone(), 0)).map(|committed| committed.offset);
        if offset != Some(1) {
            return Err(CliError::Failed(format!("group '{name}' has {offset:?} committed in place of 1")));
        }
    }
    report.verified = Some(format!("{} groups have what they committed", names.len()));
    Ok(report)
}

pub(super) async fn run(arguments: GroupsArguments, out: &mut Output) -> Result<(), CliError> {
    engine::raise_open_files((arguments.groups * arguments.members * 2) as usize)?;
    let target = Target::find(&arguments.cluster, &arguments.topic).await?;
    let (begun, from) = (usages(arguments.cluster.broker_pid)?, Instant::now());
    let assembled = tokio::time::timeout(ASSIGNMENT_LIMIT, assemble(&arguments, &target)).await;
    let (first, others) = assembled.unwrap_or_else(|_| {
        let limit = ASSIGNMENT_LIMIT.as_secs();
        Err(CliError::Failed(format!("the groups had not settled after {limit} s")))
    })?;
    let (elapsed, ended) = (from.elapsed(), usages(arguments.cluster.broker_pid)?);
    let report = if arguments.commit {
        commit(&arguments, &target, &first).await
    } else {
        let broker = begun.1.zip(ended.1);
        Ok(Report::new("groups, assignment", elapsed, Counts::default(), (begun.0, ended.0), broker))
    };
    let mut leaving = JoinSet::new();
    for member in first.into_iter().chain(others) {
        leaving.spawn(member.leave(LEAVE_TIMEOUT_MS));
    }
    leaving.join_all().await;
    let report = report?
        .with("groups", json!(arguments.groups))
        .with("members_of_each", json!(arguments.members))
        .with("seconds_until_assigned", json!(elapsed.as_secs_f64()));
    report.print(out, arguments.cluster.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_settled_in_one_generation() {
        assert!(are_settled(&[2, 2, 2]));
        assert!(!are_settled(&[2, 1, 2]));
        assert!(!are_settled(&[-1, -1]));
        assert!(!are_settled(&[]));
    }
}
