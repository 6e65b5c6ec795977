//! What is read off consumer groups when somebody asks for metrics: members, commits, and how far each
//! group is behind, in records and in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::families::Families;
use crate::coordinator::group::GroupId;
use crate::partition::Partition;
use crate::server::Broker;
use crate::types::Offset;

/// Most groups, and most committed offsets, that are told of: a scrape must not grow without bounds.
const GROUPS_MAX: usize = 20_000;
const OFFSETS_MAX: usize = 20_000;

/// One committed offset.
struct Committed {
    group: GroupId,
    topic: Arc<str>,
    partition: i32,
    offset: i64,
}

/// The groups' metrics.
pub(super) async fn read_off(broker: &Arc<Broker>, families: &mut Families) {
    let mut states: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut members: Vec<(GroupId, usize)> = Vec::new();
    let (mut committed, mut count) = (Vec::new(), 0_usize);
    let inspected = broker.groups.inspect(|shard| {
        for group in shard.groups() {
            *states.entry(group.state.name()).or_default() += 1;
            // Anybody may make groups, by asking to join them.
            if members.len() < GROUPS_MAX {
                members.push((group.id.clone(), group.members.len()));
            }
        }
        count += shard.offsets().count();
        let room = OFFSETS_MAX.saturating_sub(committed.len());
        committed.extend(shard.offsets().all().take(room).map(|(group, topic, partition, value)| {
            Committed { group: group.clone(), topic: topic.clone(), partition, offset: value.offset }
        }));
    });
    inspected.await;
    let omitted = count - committed.len();
    let lags = {
        let reading = broker.clone();
        // The age of an unread record is read from its log.
        broker.surroundings.blocking.run(move || lags(&reading, committed)).await.unwrap_or_default()
    };
    let states = states.into_iter().map(|(state, count)| (vec![state.to_owned()], count as f64));
    families.gauges("raftsman_groups", "Consumer groups, by state.", &["state"], states);
    let members = members.iter().map(|(group, count)| (vec![group.to_string()], *count as f64));
    families.gauges("raftsman_group_members", "Members of a consumer group.", &["group"], members);
    let mut each = |name: &str, help: &str, value: fn(&Lag) -> Option<i64>| {
        let values = lags.iter().filter_map(|lag| Some((lag.labels.clone(), value(lag)? as f64)));
        families.gauges(name, help, &["group", "topic", "partition"], values);
    };
    let help = "Offset that a group has committed.";
    each("raftsman_group_committed_offset", help, |lag| Some(lag.offset));
    each("raftsman_group_lag_records", "Records that a group has not read yet.", |lag| lag.records);
    let help = "Age of the oldest record that a group has not read yet.";
    each("raftsman_group_lag_seconds", help, |lag| lag.seconds);
    if omitted > 0 {
        let help = "Committed offsets left out of this answer.";
        families.gauge("raftsman_group_offsets_omitted", help, omitted as f64);
    }
}

struct Lag {
    /// Group, topic and partition.
    labels: Vec<String>,
    offset: i64,
    /// `None` for a partition that is not led here.
    records: Option<i64>,
    /// `None` also for records without timestamps.
    seconds: Option<i64>,
}

fn lags(broker: &Broker, committed: Vec<Committed>) -> Vec<Lag> {
    let now_ms = broker.now_ms();
    let lags = committed.into_iter().map(|each| {
        let found =
            broker.partitions.topic(&each.topic).and_then(|topic| topic.partition(each.partition).ok());
        let partition = found.filter(|partition| partition.is_leader());
        Lag {
            labels: vec![each.group.to_string(), each.topic.to_string(), each.partition.to_string()],
            offset: each.offset,
            records: partition.as_ref().map(|partition| unread(partition, each.offset)),
            seconds: partition.as_ref().and_then(|partition| seconds_behind(partition, each.offset, now_ms)),
        }
    });
    lags.collect()
}

fn unread(partition: &Partition, offset: i64) -> i64 {
    let from = offset.max(partition.log.log_start_offset().0);
    (partition.high_watermark().0 - from).max(0)
}

/// By the first timestamp of the batch that holds the oldest unread record; 0 when there is none.
fn seconds_behind(partition: &Partition, offset: i64, now_ms: i64) -> Option<i64> {
    if unread(partition, offset) == 0 {
        return Some(0);
    }
    let from = Offset(offset.max(partition.log.log_start_offset().0));
    age_seconds(partition.log.first_timestamp_from(from).ok()??, now_ms)
}

/// Of a producer's timestamp, which may be anything: one before 1970 is none.
fn age_seconds(timestamp_ms: i64, now_ms: i64) -> Option<i64> {
    (timestamp_ms >= 0).then(|| (now_ms - timestamp_ms).max(0) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_of_timestamps_that_mean_something() {
        assert_eq!(age_seconds(5000, 12_999), Some(7));
        assert_eq!((age_seconds(i64::MAX, 1000), age_seconds(1001, 1000)), (Some(0), Some(0)));
        assert_eq!((age_seconds(-1, 1000), age_seconds(i64::MIN, 1000)), (None, None));
    }
}
