//! `dump-log --verify` prints one line per file and holds
//! - a `.log` to: whole batches with right checksums, offsets that rise, leader epochs that do not fall,
//!   records that can be read and number what the header says;
//! - an `.index` (8 bytes an entry: relative offset, position) to: entries that rise, each at the start of
//!   a batch that does not begin after the entry's offset, else a look-up would pass records over;
//! - a `.timeindex` (12 bytes an entry: timestamp, relative offset) to: entries that rise, and no batch up
//!   to the entry's offset that is later than the entry's timestamp, else a look-up would start too late.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    DumpLogArguments, IndexEntry, LogFile, TimeEntry, base_offset, extension, failed, read_index,
    read_time_index,
};
use crate::cli::output::{CliError, Output};
use crate::client::records::{self, ReadRecord};
use crate::protocol::batch::{Batch, BatchHeader};

/// What the checks of indexes need to know of a segment's batches.
#[derive(Default)]
struct Segment {
    /// By position: first and last offset, largest timestamp.
    batches: BTreeMap<u64, (i64, i64, i64)>,
    records: u64,
    next_offset: i64,
    last_epoch: i32,
    damage: Vec<String>,
}

/// Reads a whole segment and notes what is wrong with it.
fn check_log(path: &Path, bytes_max: Option<u64>) -> io::Result<Segment> {
    let mut segment =
        Segment { next_offset: base_offset(path).unwrap_or(0), last_epoch: -1, ..Segment::default() };
    let mut log = LogFile::open(path, bytes_max)?;
    while let Some(found) = log.next()? {
        let found = match found {
            Ok(found) => found,
            // With a limit the end is cut anywhere.
            Err(_) if bytes_max.is_some() => break,
            Err(reason) => {
                segment.damage.push(format!("position {}: {reason}", log.position));
                break;
            }
        };
        let Ok(batch) = Batch::parse(&found.bytes) else { break };
        let header = batch.header;
        let mut wrong = |reason: String| {
            segment.damage.push(format!(
                "position {}, offsets {}..={}: {reason}",
                found.position,
                header.base_offset,
                header.last_offset()
            ));
        };
        let checksum = batch.verify_crc();
        if let Err(error) = &checksum {
            wrong(error.to_string());
        }
        if header.base_offset < segment.next_offset {
            wrong(format!("offset {} was due at the earliest", segment.next_offset));
        }
        if header.last_offset() < header.base_offset {
            wrong("the last offset lies before the first".to_owned());
        }
        if header.partition_leader_epoch < segment.last_epoch {
            wrong(format!("leader epoch {} after {}", header.partition_leader_epoch, segment.last_epoch));
        }
        if checksum.is_ok() {
            match records::decode(&batch) {
                Err(error) => wrong(format!("the records cannot be read: {error}")),
                Ok(records) => {
                    segment.records += records.len() as u64;
                    if let Some(reason) = check_offsets(&header, &records) {
                        wrong(reason);
                    }
                }
            }
        }
        segment.next_offset = segment.next_offset.max(header.next_offset());
        segment.last_epoch = segment.last_epoch.max(header.partition_leader_epoch);
        let entry = (header.base_offset, header.last_offset(), header.max_timestamp);
        segment.batches.insert(found.position, entry);
    }
    Ok(segment)
}

fn check_offsets(header: &BatchHeader, records: &[ReadRecord]) -> Option<String> {
    let mut due = header.base_offset;
    for read in records {
        if read.offset < due || read.offset > header.last_offset() {
            return Some(format!("record with offset {} where {due} was due", read.offset));
        }
        due = read.offset + 1;
    }
    None
}

fn check_index(path: &Path, segment: &Segment) -> io::Result<(usize, Vec<String>)> {
    let (entries, odd) = read_index(path)?;
    let mut damage = odd.into_iter().collect::<Vec<_>>();
    let mut last = None::<IndexEntry>;
    let entries = without_blank(entries, |entry| entry.1 == 0 && Some(entry.0) == base_offset(path));
    for (offset, position) in &entries {
        if last.is_some_and(|(before, at)| *offset <= before || *position <= at) {
            damage.push(format!("entry for offset {offset} at position {position} does not rise"));
        }
        last = Some((*offset, *position));
        match segment.batches.get(position) {
            None => {
                damage.push(format!("entry for offset {offset}: position {position} is no batch's start"))
            }
            Some((first, ..)) if first > offset => {
                damage.push(format!("Index offset: {offset}, log offset: {first} at position {position}"));
            }
            Some(_) if *offset >= segment.next_offset => {
                damage.push(format!("entry for offset {offset} lies beyond the log's end"));
            }
            Some(_) => {}
        }
    }
    Ok((entries.len(), damage))
}

fn check_time_index(path: &Path, segment: &Segment) -> io::Result<(usize, Vec<String>)> {
    let (entries, odd) = read_time_index(path)?;
    let mut damage = odd.into_iter().collect::<Vec<_>>();
    let entries = without_blank(entries, |entry| entry.0 == 0 && Some(entry.1) == base_offset(path));
    let mut last = None::<TimeEntry>;
    let mut batches = segment.batches.values().peekable();
    let mut latest = i64::MIN;
    for (timestamp, offset) in &entries {
        if last.is_some_and(|(before, at)| *timestamp < before || *offset < at) {
            damage.push(format!("entry {timestamp} for offset {offset} does not rise"));
        }
        last = Some((*timestamp, *offset));
        if *offset >= segment.next_offset {
            damage.push(format!("entry {timestamp} for offset {offset} lies beyond the log's end"));
        }
        while let Some((_, _, max_timestamp)) = batches.next_if(|(_, last_offset, _)| last_offset <= offset) {
            latest = latest.max(*max_timestamp);
        }
        if latest > *timestamp {
            damage.push(format!(
                "Index timestamp: {timestamp}, log timestamp: {latest} at or before offset {offset}"
            ));
        }
    }
    Ok((entries.len(), damage))
}

/// Drops the one blank entry that an empty, preallocated index seems to have.
fn without_blank<T>(mut entries: Vec<T>, is_blank: impl Fn(&T) -> bool) -> Vec<T> {
    if entries.first().is_some_and(is_blank) && entries.len() == 1 {
        entries.clear();
    }
    entries
}

pub(super) fn verify(
    arguments: &DumpLogArguments,
    files: &[PathBuf],
    out: &mut Output,
) -> Result<(), CliError> {
    let mut damaged = 0;
    // The last segment looked at, as indexes are held to their log and segments to those before them.
    let mut current = None::<(PathBuf, Segment)>;
    let mut ends = BTreeMap::<PathBuf, (i64, i32)>::new();
    let mut ordered = files.to_vec();
    // Each log right before its indexes.
    ordered.sort_by_key(|path| (path.with_extension(""), extension(path) != "log", path.clone()));
    for path in &ordered {
        let log_path = path.with_extension("log");
        let is_log = extension(path) == "log";
        if current.as_ref().is_none_or(|(known, _)| *known != log_path) {
            if !is_log && !log_path.exists() {
                damaged += 1;
                report(arguments, path, "", &[format!("{} is missing", log_path.display())], out)?;
                continue;
            }
            current = Some((
                log_path.clone(),
                check_log(&log_path, arguments.max_bytes).map_err(failed(&log_path))?,
            ));
        }
        let Some((_, segment)) = &current else { continue };
        let (what, damage) = match extension(path) {
            "log" => {
                let mut damage = segment.damage.clone();
                let folder = path.parent().unwrap_or(path).to_owned();
                let first = segment.batches.values().next().map(|(first, ..)| *first);
                if let (Some((end, _)), Some(first)) = (ends.get(&folder), first)
                    && first < *end
                {
                    damage.insert(0, format!("begins at offset {first}, the segment before ends at {end}"));
                }
                ends.insert(folder, (segment.next_offset, segment.last_epoch));
                let range = first.map(|first| format!(", offsets {first}..{}", segment.next_offset));
                let batches = segment.batches.len();
                (
                    format!("{batches} batches, {} records{}", segment.records, range.unwrap_or_default()),
                    damage,
                )
            }
            "index" => {
                let (entries, damage) = check_index(path, segment).map_err(failed(path))?;
                (format!("{entries} entries"), damage)
            }
            "timeindex" => {
                let (entries, damage) = check_time_index(path, segment).map_err(failed(path))?;
                (format!("{entries} entries"), damage)
            }
            other => {
                return Err(CliError::Usage(format!(
                    "{}: '.{other}' files cannot be checked, only .log, .index and .timeindex",
                    path.display()
                )));
            }
        };
        if is_log && arguments.verify_index_only {
            continue;
        }
        damaged += usize::from(!damage.is_empty());
        report(arguments, path, &what, &damage, out)?;
    }
    match damaged {
        0 => Ok(()),
        damaged => {
            out.flush()?;
            let files = if ordered.len() == 1 { "file" } else { "files" };
            Err(CliError::Failed(format!("{damaged} of {} {files} damaged", ordered.len())))
        }
    }
}

fn report(
    arguments: &DumpLogArguments,
    path: &Path,
    what: &str,
    damage: &[String],
    out: &mut Output,
) -> io::Result<()> {
    if arguments.json {
        let file = path.display().to_string();
        return out.json(&json!({"file": file, "ok": damage.is_empty(), "found": what, "damage": damage}));
    }
    if damage.is_empty() {
        return writeln!(out, "{}: ok, {what}", path.display());
    }
    for reason in damage {
        writeln!(out, "{}: DAMAGED, {reason}", path.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::records::Record;
    use crate::protocol::builder::BatchOptions;
    use bytes::Bytes;
    use std::fs;

    /// A segment of `batches` batches with ten records each, with an index entry for every second one.
    fn write_segment(folder: &Path, batches: i64) -> PathBuf {
        let path = folder.join("00000000000000000000.log");
        let (mut log, mut index, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..batches {
            let records = (0..10)
                .map(|record| Record {
                    timestamp: 1_000 + number * 10 + record,
                    value: Some(Bytes::from(vec![b'x'; 20])),
                    ..Record::default()
                })
                .collect::<Vec<_>>();
            let options = BatchOptions {
                base_offset: number * 10,
                partition_leader_epoch: 3,
                ..BatchOptions::default()
            };
            if number % 2 == 1 {
                let last = i32::try_from(number * 10 + 9).unwrap();
                index.extend_from_slice(&last.to_be_bytes());
                index.extend_from_slice(&u32::try_from(log.len()).unwrap().to_be_bytes());
                times.extend_from_slice(&(1_000 + number * 10 + 9).to_be_bytes());
                times.extend_from_slice(&last.to_be_bytes());
            }
            log.extend_from_slice(&records::encode(&records, options).unwrap());
        }
        // Preallocated, as the indexes of an active segment are.
        index.extend_from_slice(&[0; 64]);
        times.extend_from_slice(&[0; 96]);
        fs::write(&path, log).unwrap();
        fs::write(path.with_extension("index"), index).unwrap();
        fs::write(path.with_extension("timeindex"), times).unwrap();
        path
    }

    fn damage(path: &Path) -> [usize; 3] {
        let segment = check_log(path, None).unwrap();
        let index = check_index(&path.with_extension("index"), &segment).unwrap().1;
        let times = check_time_index(&path.with_extension("timeindex"), &segment).unwrap().1;
        [segment.damage.len(), index.len(), times.len()]
    }

    #[test]
    fn damage_is_found_wherever_it_is_and_sound_files_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_segment(folder.path(), 6);
        assert_eq!(damage(&path), [0, 0, 0]);
        let sound = fs::read(&path).unwrap();

        // Any flipped bit of a record is found, and nothing else is blamed.
        for position in [61, 100, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[position] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            assert_eq!(damage(&path), [1, 0, 0], "position {position}");
        }
        // A batch twice: its offsets do not rise, and what the index says of later ones is wrong.
        let first = Batch::parse(&sound).unwrap().bytes.len();
        fs::write(&path, [&sound[..first], &sound].concat()).unwrap();
        assert_eq!(check_log(&path, None).unwrap().damage.len(), 1);
        // A torn end.
        fs::write(&path, &sound[..sound.len() - 5]).unwrap();
        assert_eq!(damage(&path), [1, 1, 1]);
        fs::write(&path, &sound).unwrap();

        // An index that points into the middle of a batch, and one that goes backwards.
        let index_path = path.with_extension("index");
        let index = fs::read(&index_path).unwrap();
        for at in [7, 15] {
            let mut bytes = index.clone();
            bytes[at] ^= 0x01;
            fs::write(&index_path, bytes).unwrap();
            assert_eq!(damage(&path), [0, 1, 0], "byte {at}");
        }
        fs::write(&index_path, &index).unwrap();
        // A time index whose entry is earlier than a record before it.
        let times_path = path.with_extension("timeindex");
        let mut times = fs::read(&times_path).unwrap();
        times[7] -= 5;
        fs::write(&times_path, times).unwrap();
        assert_eq!(damage(&path), [0, 0, 1]);
    }
}
