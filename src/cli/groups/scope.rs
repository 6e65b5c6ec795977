//! Topics with partitions as `--topic` takes them: `orders`, or `orders:0,2`.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::output::CliError;
use crate::client::Client;
use crate::client::admin::Partition;

/// Topics by name; None: all partitions.
pub(super) type Scope = BTreeMap<String, Option<BTreeSet<i32>>>;

/// Reads the values of `--topic`. A topic named twice has the partitions of both.
pub(super) fn parse(values: &[String]) -> Result<Scope, CliError> {
    let mut scope = Scope::new();
    for value in values {
        let wrong =
            || CliError::Usage(format!("--topic {value}: expected topic, or topic:0,2 with partitions"));
        let (topic, partitions) = match value.split_once(':') {
            None => (value.as_str(), None),
            Some((topic, list)) => {
                let indexes = list.split(',').map(|index| index.trim().parse::<i32>().map_err(|_| wrong()));
                (topic, Some(indexes.collect::<Result<BTreeSet<_>, _>>()?))
            }
        };
        if topic.is_empty() {
            return Err(wrong());
        }
        match (scope.get_mut(topic), partitions) {
            (Some(Some(known)), Some(more)) => known.extend(more),
            (Some(known), _) => *known = None,
            (None, partitions) => {
                scope.insert(topic.to_owned(), partitions);
            }
        }
    }
    Ok(scope)
}

/// How many partitions each of the topics has; a topic that does not exist is left out.
pub(super) async fn partition_counts<'a>(
    client: &Client,
    topics: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, i32>, CliError> {
    let mut counts = BTreeMap::new();
    for name in topics {
        if let Some(topic) = client.topic(name, false).await? {
            let count = topic.partitions.iter().map(|partition| partition.index + 1).max().unwrap_or(0);
            counts.insert(name.to_owned(), count);
        }
    }
    Ok(counts)
}

/// The partitions of a scope. That one does not exist is an error.
pub(super) fn partitions(
    scope: &Scope,
    counts: &BTreeMap<String, i32>,
) -> Result<BTreeSet<Partition>, CliError> {
    let mut partitions = BTreeSet::new();
    for (topic, indexes) in scope {
        let Some(count) = counts.get(topic).copied() else {
            return Err(CliError::Failed(format!(
                "topic '{topic}' does not exist (UNKNOWN_TOPIC_OR_PARTITION); see raftsman topics --list"
            )));
        };
        let unknown = indexes.iter().flatten().find(|index| !(0..count).contains(*index));
        if let Some(unknown) = unknown {
            return Err(CliError::Failed(format!(
                "topic '{topic}' has no partition {unknown}: it has {count}, counted from 0"
            )));
        }
        match indexes {
            Some(indexes) => partitions.extend(indexes.iter().map(|index| (topic.clone(), *index))),
            None => partitions.extend((0..count).map(|index| (topic.clone(), index))),
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(values: &[&str]) -> Result<Scope, CliError> {
        parse(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn scopes_are_topics_with_or_without_partitions() {
        let scope = scope_of(&["a:0,2", "b", "a:1"]).unwrap();
        let counts = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 2)]);
        let all = partitions(&scope, &counts).unwrap();
        let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)];
        assert_eq!(all, expected.iter().map(|(topic, index)| ((*topic).to_owned(), *index)).collect());
        assert_eq!(scope_of(&["a:1", "a"]).unwrap(), scope_of(&["a"]).unwrap());
        for wrong in ["", ":1", "a:", "a:x"] {
            assert!(scope_of(&[wrong]).is_err(), "{wrong}");
        }
        assert!(
            partitions(&scope_of(&["a:3"]).unwrap(), &counts).unwrap_err().to_string().contains("it has 3")
        );
        assert!(partitions(&scope_of(&["c"]).unwrap(), &counts).is_err());
    }
}
