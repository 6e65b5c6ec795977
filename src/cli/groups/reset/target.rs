//! Where a reset takes a partition: pure, out of what the log and the group have.

/// What `--reset-offsets` aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Current,
    Offset(i64),
    Shift(i64),
    /// The first record at or after a time.
    Time,
}

/// What is known about a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The first offset of the log, and the next.
    pub earliest: i64,
    pub latest: i64,
    pub committed: Option<i64>,
    /// For [`Target::Time`]: None when no record is that young.
    pub by_time: Option<i64>,
}

/// Why the new offset is not quite what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remark {
    /// With the offset asked for.
    BelowEarliest(i64),
    AboveLatest(i64),
    NothingSince,
    NothingCommitted,
}

impl Remark {
    pub(super) fn text(self, topic: &str, partition: i32) -> String {
        match self {
            Remark::BelowEarliest(asked) => format!(
                "New offset ({asked}) is lower than earliest offset for topic partition {topic}-{partition}. \
                 Value will be set to earliest offset"
            ),
            Remark::AboveLatest(asked) => format!(
                "New offset ({asked}) is higher than latest offset for topic partition {topic}-{partition}. \
                 Value will be set to latest offset"
            ),
            Remark::NothingSince => format!(
                "Partition {partition} of topic {topic} has no record since then. Falling back to latest \
                 known offset."
            ),
            Remark::NothingCommitted => format!(
                "Nothing is committed for partition {partition} of topic {topic}. Falling back to latest \
                 known offset."
            ),
        }
    }
}

/// There is no committed offset to shift.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NothingToShift;

/// The new offset, which lies in the log unless the committed one is kept as it is.
pub(super) fn new_offset(target: Target, known: Known) -> Result<(i64, Option<Remark>), NothingToShift> {
    Ok(match target {
        Target::Earliest => (known.earliest, None),
        Target::Latest => (known.latest, None),
        Target::Current => match known.committed {
            Some(committed) => (committed, None),
            None => (known.latest, Some(Remark::NothingCommitted)),
        },
        Target::Offset(offset) => clamped(offset, known),
        Target::Shift(count) => clamped(known.committed.ok_or(NothingToShift)?.saturating_add(count), known),
        Target::Time => match known.by_time {
            Some(offset) => (offset, None),
            None => (known.latest, Some(Remark::NothingSince)),
        },
    })
}

fn clamped(offset: i64, known: Known) -> (i64, Option<Remark>) {
    if offset < known.earliest {
        (known.earliest, Some(Remark::BelowEarliest(offset)))
    } else if offset > known.latest {
        (known.latest, Some(Remark::AboveLatest(offset)))
    } else {
        (offset, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_in_the_log_and_say_when_they_were_moved() {
        let known = Known { earliest: 10, latest: 100, committed: Some(40), by_time: Some(55) };
        let bare = Known { committed: None, by_time: None, ..known };
        for (target, known, expected) in [
            (Target::Earliest, known, (10, None)),
            (Target::Latest, known, (100, None)),
            (Target::Current, known, (40, None)),
            // What is committed is kept even when the log has moved on.
            (Target::Current, Known { committed: Some(3), ..known }, (3, None)),
            (Target::Current, bare, (100, Some(Remark::NothingCommitted))),
            (Target::Offset(10), known, (10, None)),
            (Target::Offset(9), known, (10, Some(Remark::BelowEarliest(9)))),
            (Target::Offset(101), known, (100, Some(Remark::AboveLatest(101)))),
            (Target::Shift(-30), known, (10, None)),
            (Target::Shift(-31), known, (10, Some(Remark::BelowEarliest(9)))),
            (Target::Shift(i64::MAX), known, (100, Some(Remark::AboveLatest(i64::MAX)))),
            (Target::Time, known, (55, None)),
            (Target::Time, bare, (100, Some(Remark::NothingSince))),
        ] {
            assert_eq!(new_offset(target, known), Ok(expected), "{target:?} {known:?}");
        }
        assert_eq!(new_offset(Target::Shift(1), bare), Err(NothingToShift));
    }
}
