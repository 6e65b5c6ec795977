//! Reading as a member of a consumer group.
//!
//! What has been printed is committed, and only that: progress is taken over from the consumer's
//! positions once its records have left the process, and commits go by the progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::start::{self, Start};
use super::{ConsumeArguments, Printer, Stop};
use crate::cli::output::CliError;
use crate::cli::pattern::TopicPattern;
use crate::cli::properties::Properties;
use crate::client::Client;
use crate::client::admin::Partition;
use crate::client::assignor::Strategy;
use crate::client::committed::{Committed, Offsets};
use crate::client::consumer::{ConsumedRecord, Consumer, ConsumerOptions};
use crate::client::member::{GroupMember, Interest, MemberOptions};
use crate::client::pulse::Standing;

/// How long a commit, and a leave, may take before the tool goes on without.
const COMMIT_TIMEOUT_MS: u64 = 5_000;

/// How to read as a member.
pub(super) struct Settings {
    member: MemberOptions,
    consumer: ConsumerOptions,
    topics: Vec<String>,
    pattern: Option<TopicPattern>,
    /// Where to start where nothing is committed; None: that is an error.
    start: Option<Start>,
    commits: bool,
    commit_interval: Duration,
    exits_at_end: bool,
}

impl Settings {
    pub(super) fn new(
        group: &str,
        arguments: &ConsumeArguments,
        properties: &Properties,
        consumer: ConsumerOptions,
        start: Start,
    ) -> Result<Self, CliError> {
        let defaults = MemberOptions::new(group);
        let strategies = match properties.text("partition.assignment.strategy") {
            None => defaults.strategies,
            Some(list) => {
                let strategies = list.split(',').map(|name| {
                    Strategy::parse(name).ok_or_else(|| {
                        CliError::Usage(format!(
                            "partition.assignment.strategy={list}: expected some of range, roundrobin, \
                             cooperative-sticky"
                        ))
                    })
                });
                strategies.collect::<Result<Vec<_>, _>>()?
            }
        };
        let member = MemberOptions {
            instance_id: properties.text("group.instance.id").map(str::to_owned),
            session_timeout_ms: properties
                .number("session.timeout.ms")?
                .unwrap_or(defaults.session_timeout_ms),
            heartbeat_interval_ms: properties
                .number("heartbeat.interval.ms")?
                .unwrap_or(defaults.heartbeat_interval_ms),
            poll_interval_max_ms: properties
                .number("max.poll.interval.ms")?
                .unwrap_or(defaults.poll_interval_max_ms),
            metadata_age_max_ms: properties
                .number("metadata.max.age.ms")?
                .unwrap_or(defaults.metadata_age_max_ms),
            strategies,
            group: defaults.group,
        };
        let says_where = arguments.from_beginning || arguments.from_time.is_some();
        let is_none = properties.text("auto.offset.reset") == Some("none") && !says_where;
        Ok(Self {
            member,
            consumer,
            topics: arguments.topic.clone(),
            pattern: arguments.include.as_deref().map(TopicPattern::new).transpose()?,
            start: (!is_none).then_some(start),
            commits: properties.flag("enable.auto.commit")?.unwrap_or(true),
            commit_interval: Duration::from_millis(
                properties.number("auto.commit.interval.ms")?.unwrap_or(5_000),
            ),
            exits_at_end: arguments.exit_at_end,
        })
    }
}

/// Reads until the printer has enough or something says stop; then commits and leaves.
pub(super) async fn read(
    client: Arc<Client>,
    settings: Settings,
    printer: &mut Printer<'_>,
    stop: &mut Stop,
) -> Result<(), CliError> {
    let interest = match settings.pattern {
        None => Interest::Topics(settings.topics),
        Some(pattern) => {
            let topics = client.all_topics().await?;
            if !topics.iter().any(|topic| pattern.matches(&topic.name) && !topic.is_internal) {
                eprintln!("warning: no topic matches --include yet; waiting for one");
            }
            Interest::Matching(Box::new(move |name| pattern.matches(name)))
        }
    };
    let mut session = Session {
        group: settings.member.group.clone(),
        isolation_level: settings.consumer.isolation_level,
        member: GroupMember::new(client.clone(), settings.member, interest),
        consumer: Consumer::new(client.clone(), settings.consumer, BTreeMap::new()),
        client,
        start: settings.start,
        commits: settings.commits,
        commit_interval: settings.commit_interval,
        exits_at_end: settings.exits_at_end,
        progress: Offsets::new(),
        committed: Offsets::new(),
        has_warned: false,
    };
    let result = session.take_part(printer, stop).await;
    session.commit(true).await;
    session.member.leave(COMMIT_TIMEOUT_MS).await;
    result
}

/// How a time as an owner of partitions ended.
enum Ended {
    Stopped,
    Disturbed(Standing),
}

struct Session {
    group: String,
    client: Arc<Client>,
    member: GroupMember,
    consumer: Consumer,
    isolation_level: i8,
    start: Option<Start>,
    commits: bool,
    commit_interval: Duration,
    exits_at_end: bool,
    /// Behind the last record printed, for each partition that is ours.
    progress: Offsets,
    /// What the group is known to have committed of it.
    committed: Offsets,
    /// A commit has failed, which has been said, and none has succeeded since.
    has_warned: bool,
}

impl Session {
    async fn take_part(&mut self, printer: &mut Printer<'_>, stop: &mut Stop) -> Result<(), CliError> {
        loop {
            if !self.member.keeps_while_rebalancing() {
                self.keep(&BTreeSet::new());
            }
            let owned = self.consumer.partitions();
            let assigned = tokio::select! {
                biased;
                () = stop.signalled() => return Ok(()),
                assigned = self.member.join(&owned) => {
                    assigned.map_err(|error| CliError::while_doing(format!("join group '{}'", self.group), error))?
                }
            };
            let gives_up = !owned.is_subset(&assigned);
            if gives_up {
                self.commit(true).await;
                self.keep(&assigned);
            }
            let added = assigned.difference(&owned).cloned().collect::<Vec<_>>();
            let started = tokio::select! {
                biased;
                () = stop.signalled() => return Ok(()),
                started = self.add(added) => started,
            };
            started?;
            stop.put_off();
            if gives_up {
                // The others get what was given up in the next round.
                continue;
            }
            match self.consume(printer, stop).await? {
                Ended::Stopped => return Ok(()),
                Ended::Disturbed(Standing::Failed(error)) => return Err(error.into()),
                Ended::Disturbed(Standing::Lost(why)) => {
                    eprintln!("warning: lost the place in group '{}': {why}; joining again", self.group);
                    if self.progress.iter().any(|(key, offset)| self.committed.get(key) != Some(offset)) {
                        eprintln!("warning: what was printed since the last commit may be printed again");
                    }
                    self.keep(&BTreeSet::new());
                }
                Ended::Disturbed(_) => self.commit(true).await,
            }
        }
    }

    async fn consume(&mut self, printer: &mut Printer<'_>, stop: &mut Stop) -> Result<Ended, CliError> {
        let mut commit_at = Instant::now() + self.commit_interval;
        while !printer.is_done() {
            self.member.polled();
            let records = tokio::select! {
                biased;
                why = stop.wait() => {
                    why.check(&self.consumer)?;
                    return Ok(Ended::Stopped);
                }
                standing = self.member.disturbed() => return Ok(Ended::Disturbed(standing)),
                () = tokio::time::sleep_until(commit_at) => {
                    self.commit(false).await;
                    commit_at = Instant::now() + self.commit_interval;
                    continue;
                }
                records = self.consumer.next() => records?,
            };
            let rest = printer.print(&records)?;
            self.advance(rest);
            if !records.is_empty() {
                stop.put_off();
            }
            if self.exits_at_end && self.consumer.is_at_end() {
                break;
            }
        }
        Ok(Ended::Stopped)
    }

    /// Takes the consumer's positions over, but for records that have not been printed.
    fn advance(&mut self, unprinted: &[ConsumedRecord]) {
        for (key, offset, leader_epoch) in self.consumer.positions() {
            // Before the first record the epoch is that of the commit, if there was one.
            if self.progress.get(key).is_none_or(|progress| progress.offset != offset) {
                self.progress.insert(key.clone(), Committed::new(offset, leader_epoch));
            }
        }
        for record in unprinted.iter().rev() {
            let key = (record.topic.to_string(), record.partition);
            self.progress.insert(key, Committed::new(record.offset, record.leader_epoch));
        }
    }

    /// Commits what has moved. That it fails is no reason to stop: what is not committed comes again.
    async fn commit(&mut self, is_last_chance: bool) {
        let moved = self.progress.iter().filter(|(key, offset)| self.committed.get(*key) != Some(*offset));
        let moved = moved.map(|(key, offset)| (key.clone(), offset.clone())).collect::<Offsets>();
        if !self.commits || moved.is_empty() {
            return;
        }
        match self.member.commit(&moved, COMMIT_TIMEOUT_MS).await {
            Ok(()) => {
                self.committed.extend(moved);
                self.has_warned = false;
            }
            // The rebalance comes next, and with it the last chance.
            Err(error) if !is_last_chance && error.code() == Some(ResponseError::RebalanceInProgress) => {}
            Err(_) if self.has_warned && !is_last_chance => {}
            Err(error) => {
                self.has_warned = true;
                eprintln!(
                    "warning: group '{}': cannot commit what was printed, which may be printed again: {error}",
                    self.group
                );
            }
        }
    }

    /// Gives up all but some partitions.
    fn keep(&mut self, kept: &BTreeSet<Partition>) {
        self.consumer.retain(kept);
        self.progress.retain(|key, _| kept.contains(key));
        self.committed.retain(|key, _| kept.contains(key));
    }

    /// Begins to read partitions where the group has left off, or as the arguments say.
    async fn add(&mut self, added: Vec<Partition>) -> Result<(), CliError> {
        let committed = self.member.committed(&added).await.map_err(|error| {
            CliError::while_doing(format!("read the offsets of group '{}'", self.group), error)
        })?;
        let missing = added.into_iter().filter(|key| !committed.contains_key(key)).collect::<Vec<_>>();
        let mut starts = BTreeMap::new();
        if let Some((topic, partition)) = missing.first() {
            let Some(start) = self.start else {
                return Err(CliError::Failed(format!(
                    "group '{}' has committed nothing for {topic}-{partition}, and auto.offset.reset=none",
                    self.group
                )));
            };
            starts = start::starts(&self.client, missing, start, self.isolation_level).await?;
        }
        let fresh = starts.iter().map(|(key, offset)| (key.clone(), Committed::new(*offset, -1)));
        self.progress.extend(fresh);
        starts.extend(committed.iter().map(|(key, committed)| (key.clone(), committed.offset)));
        self.progress.extend(committed.clone());
        self.committed.extend(committed);
        self.consumer.add(starts);
        Ok(())
    }
}
