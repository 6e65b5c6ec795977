//! What must be in a log and is not there: records that were synced, by what the data folder's checkpoints say, and
//! that no file of the partition holds any more. A log of which some are missing does not open, and nothing of it is
//! changed; `--accept-missing-data` goes on with what is there.
//!
//! | what is seen | missing |
//! |---|---|
//! | the log ends below its recovery point, and nothing was set aside there | from its end on |
//! | its first segment begins above the noted log start | what lies before |
//! | a segment does not reach the next, in a log that was never compacted | what lies between |
//! | the noted log start lies beyond its end | nothing, but offsets would be given out anew, or records be hidden |
//!
//! Nothing above the recovery point is ever missed: a power cut may take it. So the log start is noted before
//! segments go, and never above what is synced ([`super::DataDir`]). Kafka's compaction leaves gaps between segments,
//! this one's does not ([`super::cleaner`]).

use std::io;

use super::scan;
use super::segment_file::{Files, file_name, offset_of};
use crate::env::{DirEntry, File, OpenMode};

/// An empty file `<offset>.missing` says that the gap that begins there was accepted.
const ACCEPTED: &str = "missing";

/// Why a log with files does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It ends before what was synced does.
    End { end: i64, synced: i64 },
    /// It begins after what was noted.
    Start { noted: i64, begins: i64 },
    /// No segment holds these.
    Between { from: i64, to: i64 },
    /// It ends before it begins.
    Beyond { start: i64, end: i64 },
}

impl Missing {
    /// The error that an opening ends with.
    fn error(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, MissingRecords(self))
    }
}

/// Says what is missing, how that is known, and what to do.
#[derive(Clone, Copy, Debug)]
struct MissingRecords(Missing);

impl std::fmt::Display for MissingRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Missing::End { end, synced } => write!(
                f,
                "records are missing, offsets {end} to {}: the log ends at {end}, and was synced up to {synced} \
                 (recovery-point-offset-checkpoint)",
                synced - 1
            ),
            Missing::Start { noted, begins } => write!(
                f,
                "records are missing, offsets {noted} to {}: the first segment begins at {begins}, and the log at \
                 {noted} (log-start-offset-checkpoint)",
                begins - 1
            ),
            Missing::Between { from, to } => {
                write!(f, "records are missing, offsets {from} to {}: no segment holds them", to - 1)
            }
            Missing::Beyond { start, end } => write!(
                f,
                "the log is to begin at {start} (log-start-offset-checkpoint), which lies beyond its end, {end}"
            ),
        }?;
        f.write_str(
            ". Nothing was changed. Bring the segment files back, or delete the topic, or start with raftsman server \
             --accept-missing-data, which goes on with what is there",
        )
    }
}

impl std::error::Error for MissingRecords {}

/// What an opening holds the log to.
#[derive(Debug)]
pub(super) struct Expected {
    /// What lies below was synced, by what was noted; 0 where nothing was.
    pub(super) synced: i64,
    /// Gaps between segments are compaction's.
    pub(super) may_have_gaps: bool,
    /// What is missing is told, and the log goes on without.
    is_accepted: bool,
    /// Where gaps begin that were accepted before.
    accepted: Vec<i64>,
    gaps: Vec<(i64, i64)>,
}

impl Expected {
    pub(super) fn new(synced: i64, may_have_gaps: bool, is_accepted: bool, entries: &[DirEntry]) -> Self {
        let accepted = entries.iter().filter_map(|entry| offset_of(&entry.name, ACCEPTED)).collect();
        Self { synced, may_have_gaps, is_accepted, accepted, gaps: Vec::new() }
    }

    /// Nothing: of a log that is open already.
    pub(super) fn nothing() -> Self {
        Self::new(0, true, false, &[])
    }

    /// Something is missing: an error, unless that was accepted.
    pub(super) fn miss(&self, missing: Missing) -> io::Result<()> {
        if !self.is_accepted {
            return Err(missing.error());
        }
        tracing::warn!("started with --accept-missing-data: {}", MissingRecords(missing));
        Ok(())
    }

    /// A segment ends at `from`, and the next begins at `to`.
    pub(super) fn gap(&mut self, from: i64, to: i64) {
        // Nor could a segment reach over a wider one.
        let is_within_reach = to - from <= i64::from(i32::MAX) / 2;
        if from < to && !self.may_have_gaps && is_within_reach && !self.accepted.contains(&from) {
            self.gaps.push((from, to));
        }
    }

    /// Judges the gaps that were found. Those that are accepted are noted in the partition's folder, so that the next
    /// start need not be told again.
    pub(super) fn settle_gaps(&mut self, files: &Files, start: i64) -> io::Result<()> {
        self.gaps.retain(|(_, to)| *to > start);
        for (from, to) in std::mem::take(&mut self.gaps) {
            self.miss(Missing::Between { from, to })?;
            files.disk.open(&files.path(&file_name(from, ACCEPTED)), OpenMode::Create)?.sync_data()?;
            files.disk.sync_dir(&files.dir.read())?;
        }
        Ok(())
    }
}

/// The offset after a segment's last one, looked for from `position` on; `None` where the batches cannot be
/// followed to the file's end, which who reads them is told.
pub(super) fn end_of(file: &dyn File, base: i64, position: u64, limit: u64) -> io::Result<Option<i64>> {
    let mut end = base;
    for batch in scan::headers(file, position, limit) {
        match batch {
            Ok(batch) => end = batch.header.next_offset(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::super::tests::{append, batch_of, place, read_all};
    use super::super::{CleanupPolicy, Log, LogConfig, LogPlace};
    use crate::protocol::batch::batches;
    use crate::protocol::builder::BatchOptions;
    use crate::types::Offset;

    const RECORDS: i64 = 60;

    fn small() -> LogConfig {
        LogConfig { segment_bytes: 1000, index_interval_bytes: 200, ..LogConfig::default() }
    }

    /// 30 batches of 2 records in several segments, synced; returns where the segments begin.
    fn filled(dir: &Path) -> Vec<i64> {
        let log = Log::open(place(dir), small()).unwrap();
        for at in 0..RECORDS / 2 {
            append(&log, batch_of(2, 50, 1000 * at, BatchOptions::default())).unwrap();
        }
        log.close().unwrap();
        let bases: Vec<i64> = log.segments.read().iter().map(|segment| segment.base_offset).collect();
        assert!(bases.len() > 4);
        bases
    }

    fn open(dir: &Path, was_closed: bool, accepts_missing_data: bool) -> std::io::Result<Log> {
        let (start, synced) = (Some(Offset(0)), Some(Offset(RECORDS)));
        let place = LogPlace {
            log_start_offset: start,
            recovery_point: synced,
            was_closed,
            accepts_missing_data,
            ..place(dir)
        };
        Log::open(place, small())
    }

    /// What the folder holds of records, set aside or not.
    fn logs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let logs = entries.filter(|name| name.contains(".log"));
        logs.map(|name| (name.clone(), fs::read(dir.join(&name)).unwrap())).collect()
    }

    fn count(log: &Log) -> usize {
        batches(&read_all(log, log.log_start_offset().0, 1 << 20)).count()
    }

    /// The log does not open, and nothing of its records changes, until what is missing is back. Accepted, it opens
    /// with what is there, then and later; returns it.
    fn is_missed(damage: impl Fn(&Path, &[i64]), says: impl Fn(&[i64]) -> String) -> Vec<(i64, i64, usize)> {
        let mut opened = Vec::new();
        for was_closed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let bases = filled(dir.path());
            let whole = logs(dir.path());
            damage(dir.path(), &bases);
            let left = logs(dir.path());
            for _ in 0..2 {
                let error = open(dir.path(), was_closed, false).unwrap_err().to_string();
                assert!(error.contains(&says(&bases)), "{error}");
                assert!(error.contains("--accept-missing-data"), "{error}");
                assert_eq!(logs(dir.path()), left);
            }
            for (name, content) in &whole {
                fs::write(dir.path().join(name), content).unwrap();
            }
            assert_eq!(count(&open(dir.path(), was_closed, false).unwrap()), 30);

            damage(dir.path(), &bases);
            let log = open(dir.path(), was_closed, true).unwrap();
            let (start, end) = (log.log_start_offset(), log.log_end_offset());
            opened.push((start.0, end.0, count(&log)));
            let bytes = |logs: &BTreeMap<_, Vec<u8>>| logs.values().map(Vec::len).sum::<usize>();
            assert_eq!(bytes(&logs(dir.path())), bytes(&left));
            drop(log);
            let place =
                LogPlace { log_start_offset: Some(start), recovery_point: Some(end), ..place(dir.path()) };
            let log = Log::open(LogPlace { was_closed, ..place }, small()).unwrap();
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
        }
        opened
    }

    fn file(dir: &Path, base: i64) -> std::path::PathBuf {
        dir.join(super::file_name(base, "log"))
    }

    /// Cuts the file of a segment to its first batch and some bytes of the second.
    fn cut(dir: &Path, base: i64, more: usize) {
        let content = fs::read(file(dir, base)).unwrap();
        let first = batches(&content).next().unwrap().unwrap().bytes.len();
        fs::write(file(dir, base), &content[..first + more]).unwrap();
    }

    #[test]
    fn a_log_that_lost_its_end_does_not_open() {
        let remove_last =
            |dir: &Path, bases: &[i64]| fs::remove_file(file(dir, *bases.last().unwrap())).unwrap();
        let offsets = |from: i64| format!("offsets {from} to 59: ");
        for (start, end, batches) in is_missed(remove_last, |bases| offsets(bases[bases.len() - 1])) {
            assert!(start == 0 && end < 60 && batches as i64 == end / 2);
        }
        for more in [0, 1, 40, 90] {
            let cut_last = |dir: &Path, bases: &[i64]| cut(dir, bases[bases.len() - 1], more);
            for (start, end, batches) in is_missed(cut_last, |bases| offsets(bases[bases.len() - 1] + 2)) {
                assert!(start == 0 && end < 60 && batches as i64 == end / 2);
            }
        }
        let remove_all = |dir: &Path, bases: &[i64]| {
            bases.iter().for_each(|base| fs::remove_file(file(dir, *base)).unwrap());
        };
        assert_eq!(is_missed(remove_all, |_| offsets(0)), [(0, 0, 0); 2]);
    }

    #[test]
    fn a_log_without_a_sealed_segment_does_not_open() {
        let remove =
            |at: usize| move |dir: &Path, bases: &[i64]| fs::remove_file(file(dir, bases[at])).unwrap();
        let says =
            |at: usize| move |bases: &[i64]| format!("offsets {} to {}: ", bases[at], bases[at + 1] - 1);
        for (start, end, batches) in is_missed(remove(0), says(0)) {
            assert!(start > 0 && end == 60 && batches as i64 == (60 - start) / 2);
        }
        for at in [1, 2] {
            for (start, end, batches) in is_missed(remove(at), says(at)) {
                assert!(start == 0 && end == 60 && batches < 30 && batches > 20);
            }
        }
        // Cut where a batch ends.
        let says = |bases: &[i64]| format!("offsets {} to {}: ", bases[1] + 2, bases[2] - 1);
        for (start, end, batches) in is_missed(|dir, bases| cut(dir, bases[1], 0), says) {
            assert!(start == 0 && end == 60 && batches < 30 && batches > 20);
        }
    }

    #[test]
    fn what_a_power_cut_or_retention_may_have_taken_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let bases = filled(dir.path());
        fs::remove_file(file(dir.path(), bases[bases.len() - 1])).unwrap();
        fs::remove_file(file(dir.path(), bases[0])).unwrap();
        let place = LogPlace {
            log_start_offset: Some(Offset(bases[1])),
            recovery_point: Some(Offset(bases[bases.len() - 1])),
            ..place(dir.path())
        };
        let log = Log::open(place, small()).unwrap();
        assert_eq!((log.log_start_offset().0, log.log_end_offset().0), (bases[1], bases[bases.len() - 1]));
    }

    #[test]
    fn gaps_of_apache_kafkas_compaction_are_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let bases = filled(dir.path());
        fs::remove_file(file(dir.path(), bases[2])).unwrap();
        let compacted = LogPlace {
            first_dirty_offset: Some(Offset(bases[3])),
            recovery_point: Some(Offset(RECORDS)),
            ..place(dir.path())
        };
        assert_eq!(Log::open(compacted, small()).unwrap().log_end_offset(), Offset(RECORDS));
        let error = open(dir.path(), true, false).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        // Nothing was noted, but it is known to be a compacted topic's.
        let synced = LogPlace { recovery_point: Some(Offset(RECORDS)), ..place(dir.path()) };
        Log::open(synced, LogConfig { cleanup: CleanupPolicy { delete: true, compact: true }, ..small() })
            .unwrap();
    }

    #[test]
    fn a_log_start_beyond_the_end_hides_nothing_unless_that_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let whole = logs(dir.path());
        let beyond = |accepts_missing_data| LogPlace {
            log_start_offset: Some(Offset(1000)),
            recovery_point: Some(Offset(RECORDS)),
            accepts_missing_data,
            ..place(dir.path())
        };
        let error = Log::open(beyond(false), small()).unwrap_err().to_string();
        assert!(error.contains("1000") && error.contains("log-start-offset-checkpoint"), "{error}");
        assert_eq!(logs(dir.path()), whole);
        let log = Log::open(beyond(true), small()).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(1000), Offset(1000)));
        let aside = whole.into_iter().map(|(name, content)| (format!("{name}.set-aside"), content));
        let mut expected: BTreeMap<_, _> = aside.collect();
        expected.insert(super::file_name(1000, "log"), Vec::new());
        assert_eq!(logs(dir.path()), expected);
    }
}
