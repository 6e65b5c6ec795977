//! The rows of `--describe`, worked out of what the brokers have answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::client::admin::Partition;
use crate::client::committed::{Committed, Offsets};
use crate::client::groups::{GroupDescription, MemberDescription};

/// One line of `--describe`: a partition, or a member without one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OffsetRow<'a> {
    pub partition: Option<Partition>,
    pub committed: Option<&'a Committed>,
    /// None: the end of the log is not known.
    pub log_end_offset: Option<i64>,
    pub member: Option<&'a str>,
    pub host: Option<&'a str>,
    pub client_id: Option<&'a str>,
}

impl OffsetRow<'_> {
    /// Records that are in the log and not committed as read. Not below zero: a log that was deleted and
    /// made anew may be shorter than what is committed.
    pub(super) fn lag(&self) -> Option<i64> {
        Some((self.log_end_offset? - self.committed?.offset).max(0))
    }
}

/// The partitions that are committed or assigned in order, then the members without any.
pub(super) fn offset_rows<'a>(
    members: &'a [MemberDescription],
    offsets: &'a Offsets,
    ends: &BTreeMap<Partition, i64>,
) -> Vec<OffsetRow<'a>> {
    let mut owners = BTreeMap::<&Partition, &MemberDescription>::new();
    for member in members {
        owners.extend(member.assignment.iter().map(|partition| (partition, member)));
    }
    let partitions = offsets.keys().chain(owners.keys().copied()).collect::<BTreeSet<_>>();
    let mut rows = partitions
        .into_iter()
        .map(|partition| {
            let owner = owners.get(partition).copied();
            OffsetRow {
                partition: Some(partition.clone()),
                committed: offsets.get(partition),
                log_end_offset: ends.get(partition).copied(),
                member: owner.map(|member| member.id.as_str()),
                host: owner.map(|member| member.host.as_str()),
                client_id: owner.map(|member| member.client_id.as_str()),
            }
        })
        .collect::<Vec<_>>();
    rows.extend(members.iter().filter(|member| member.assignment.is_empty()).map(|member| OffsetRow {
        partition: None,
        committed: None,
        log_end_offset: None,
        member: Some(&member.id),
        host: Some(&member.host),
        client_id: Some(&member.client_id),
    }));
    rows
}

/// A value, or Kafka's dash.
pub(super) fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `orders:0,1;audit:3`, or a dash.
pub(super) fn assignment_cell(partitions: &BTreeSet<Partition>) -> String {
    if partitions.is_empty() {
        return "-".to_owned();
    }
    let topics = by_topic(partitions);
    let topics = topics.into_iter().map(|(topic, indexes)| {
        let indexes = indexes.iter().map(ToString::to_string).collect::<Vec<_>>();
        format!("{topic}:{}", indexes.join(","))
    });
    topics.collect::<Vec<_>>().join(";")
}

/// Topics with their partitions, as Kafka's JSON forms have them.
pub fn assignment_json(partitions: &BTreeSet<Partition>) -> Value {
    let topics = by_topic(partitions);
    topics.into_iter().map(|(topic, indexes)| json!({"topic": topic, "partitions": indexes})).collect()
}

fn by_topic(partitions: &BTreeSet<Partition>) -> BTreeMap<&str, Vec<i32>> {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    topics
}

/// What to say about a group besides its rows.
pub(super) fn remark(group: &GroupDescription) -> Option<String> {
    match group.state.as_str() {
        "Empty" => Some(format!("Consumer group '{}' has no active members.", group.id)),
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            Some(format!("Warning: Consumer group '{}' is rebalancing.", group.id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, index: i32) -> Partition {
        (topic.to_owned(), index)
    }

    #[test]
    fn rows_join_commits_owners_and_ends() {
        let member = |id: &str, assignment: &[Partition]| MemberDescription {
            id: id.to_owned(),
            client_id: "c".to_owned(),
            host: "/h".to_owned(),
            assignment: assignment.iter().cloned().collect(),
            ..MemberDescription::default()
        };
        let members = [member("m1", &[key("a", 0), key("b", 0)]), member("idle", &[])];
        let offsets = Offsets::from([
            (key("a", 0), Committed::new(5, 2)),
            (key("a", 1), Committed::new(9, -1)),
            (key("gone", 0), Committed::new(1, -1)),
        ]);
        let ends = BTreeMap::from([(key("a", 0), 12), (key("a", 1), 4), (key("b", 0), 3)]);
        let rows = offset_rows(&members, &offsets, &ends);
        let seen = rows.iter().map(|row| {
            let partition = row.partition.as_ref().map(|(topic, index)| format!("{topic}-{index}"));
            (cell(partition), cell(row.committed.map(|it| it.offset)), cell(row.lag()), cell(row.member))
        });
        let seen = seen.map(|(a, b, c, d)| format!("{a} {b} {c} {d}")).collect::<Vec<_>>();
        assert_eq!(seen, ["a-0 5 7 m1", "a-1 9 0 -", "b-0 - - m1", "gone-0 1 - -", "- - - idle"]);
    }

    #[test]
    fn assignments_print_as_kafkas() {
        let partitions = [key("t1", 0), key("t1", 2), key("t2", 1)].into_iter().collect();
        assert_eq!(assignment_cell(&partitions), "t1:0,2;t2:1");
        assert_eq!(assignment_cell(&BTreeSet::new()), "-");
    }
}
