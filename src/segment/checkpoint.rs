//! Kafka's checkpoint files: text, a version, a count, and a line each.
//!
//! ```text
//! 0
//! 2
//! <topic> <partition> <offset>      or, in leader-epoch-checkpoint: <epoch> <start offset>
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::env::Disk;
use crate::types::{Offset, TopicPartition};

/// The lines of a checkpoint file.
pub fn encode(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Reads a checkpoint file; `line` gives `None` for a malformed line.
pub fn decode<T>(text: &str, line: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let entries: Vec<T> = lines.filter(|text| !text.trim().is_empty()).map(line).collect::<Option<_>>()?;
    (entries.len() == count).then_some(entries)
}

/// Writes `<topic> <partition> <offset>` lines, durably.
pub fn write_offsets(
    disk: &dyn Disk,
    path: &Path,
    offsets: &BTreeMap<TopicPartition, Offset>,
) -> io::Result<()> {
    let lines = offsets.iter().map(|(name, offset)| format!("{} {} {offset}", name.topic, name.partition));
    disk.write_atomic(path, encode(lines).as_bytes())
}

/// Reads them; a missing file holds none.
///
/// # Errors
/// `InvalidData` for a malformed file.
pub fn read_offsets(disk: &dyn Disk, path: &Path) -> io::Result<BTreeMap<TopicPartition, Offset>> {
    let content = match disk.read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other?,
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is malformed", path.display()));
    let text = std::str::from_utf8(&content).map_err(|_| malformed())?;
    let entries = decode(text, |line| {
        let mut words = line.split_whitespace();
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        let name = TopicPartition::new(topic, partition.parse().ok()?);
        words.next().is_none().then_some((name, Offset(offset.parse().ok()?)))
    });
    Ok(entries.ok_or_else(malformed)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;

    #[test]
    fn offsets_read_back_and_malformed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery-point-offset-checkpoint");
        assert!(read_offsets(&RealDisk, &path).unwrap().is_empty());
        let offsets = BTreeMap::from([
            (TopicPartition::new("a", 0), Offset(5)),
            (TopicPartition::new("b-1", 12), Offset(1 << 40)),
        ]);
        write_offsets(&RealDisk, &path, &offsets).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n2\na 0 5\nb-1 12 1099511627776\n");
        assert_eq!(read_offsets(&RealDisk, &path).unwrap(), offsets);
        for malformed in ["", "1\n0\n", "0\n2\na 0 5\n", "0\n1\na 0\n", "0\n1\na 0 5 6\n", "0\nx\n"] {
            std::fs::write(&path, malformed).unwrap();
            assert!(read_offsets(&RealDisk, &path).is_err(), "{malformed:?}");
        }
    }
}
