//! The topics to read, waited for until they are there, as with Kafka's tool a consumer may be started first; and
//! their leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConsumeArguments, Stop, Why, does_not_exist, reading};
use crate::cli::output::CliError;
use crate::cli::pattern::TopicPattern;
use crate::client::{Client, TopicMetadata, admin};

/// From one look for a topic to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a partition may be without a leader before that is told: a new one is for a moment.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Where the partitions begin, which only their leaders tell; None when a signal came before.
///
/// # Errors
/// `--timeout-ms` was over: nothing came because nobody leads the partition, not because there is nothing.
pub(super) async fn starts(
    ask: impl Future<Output = Result<BTreeMap<admin::Partition, i64>, CliError>>,
    leaderless: Option<admin::Partition>,
    stop: &mut Stop,
) -> Result<Option<BTreeMap<admin::Partition, i64>>, CliError> {
    let reason = leaderless.map(|(topic, index)| {
        format!(
            "{topic}-{index} has no leader (is its broker down, or its log offline? the broker's log tells)"
        )
    });
    let tell = async {
        tokio::time::sleep(TOLD_AFTER).await;
        let reason = reason.as_deref().unwrap_or("no leader has said yet where its partitions begin");
        eprintln!("warning: {reason}; waiting for it");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        starts = ask => starts.map(Some),
        why = stop.wait() => match (why, &reason) {
            (Why::Idle, Some(reason)) => Err(CliError::Failed(reason.clone())),
            _ => Ok(None),
        },
        () = tell => Ok(None),
    }
}

/// Topics that are there.
pub(super) struct Found {
    pub topics: Vec<TopicMetadata>,
    /// None of them was there at first: all that is in them has been written since.
    pub are_new: bool,
}

/// The topics that the arguments name; None when something said stop before they were there. As with Kafka's
/// consumers, asking for a topic creates it where the broker does that and `creates` allows it.
pub(super) async fn topics(
    client: &Client,
    arguments: &ConsumeArguments,
    creates: bool,
    stop: &mut Stop,
) -> Result<Option<Found>, CliError> {
    let pattern = arguments.include.as_deref().map(TopicPattern::new).transpose()?;
    // Nothing to wait for when it ends where the topic ends.
    let waits = !arguments.exit_at_end;
    let mut has_waited = false;
    loop {
        let look = async {
            match &pattern {
                Some(pattern) => {
                    let mut topics = client.all_topics().await?;
                    topics.retain(|topic| pattern.matches(&topic.name) && !topic.is_internal);
                    let missing = topics.is_empty().then(|| arguments.include.clone().unwrap_or_default());
                    Ok((topics, missing))
                }
                None => named(client, &arguments.topic, creates && waits).await,
            }
        };
        let (topics, missing) = tokio::select! {
            biased;
            _ = stop.wait() => return Ok(None),
            found = look => found?,
        };
        let Some(missing) = missing else { return Ok(Some(Found { topics, are_new: has_waited })) };
        if !waits {
            return Err(does_not_exist(&missing));
        }
        if !has_waited {
            eprintln!(
                "warning: topic '{missing}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); waiting for it"
            );
            has_waited = true;
        }
        tokio::select! {
            biased;
            _ = stop.wait() => return Ok(None),
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// The topics of these names, or the first that is not there.
async fn named(
    client: &Client,
    names: &[String],
    creates: bool,
) -> Result<(Vec<TopicMetadata>, Option<String>), CliError> {
    let mut topics = Vec::new();
    for name in names {
        // A first look without creation tells what was there before.
        let found = client.topic(name, false).await.map_err(|error| reading(name, error))?;
        match found {
            Some(topic) => topics.push(topic),
            None => {
                if creates {
                    client.topic(name, true).await.map_err(|error| reading(name, error))?;
                }
                return Ok((topics, Some(name.clone())));
            }
        }
    }
    Ok((topics, None))
}
