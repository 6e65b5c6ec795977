//! `raftsman dump-log` (kafka-dump-log): what lies in the files of a log, and whether it is sound.
//!
//! Printing follows Kafka's DumpLogSegments; what `--verify` holds the files to is in [`verify`].
//!
//! Indexes of the last segment may be preallocated: zeros at their end are no entries. The broker's own metadata
//! (`.journal`, `.snapshot`) is shown as well, in its own form.

mod arguments;
mod decode;
mod metadata;
mod verify;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use self::decode::Decoding;
use super::output::{CliError, Output};
use super::record_text::json_of;
use crate::client::records::{self, ReadRecord};
use crate::protocol::batch::{Batch, BatchHeader, TimestampType};
use crate::segment::aborted::{self, AbortedTransaction};
use crate::segment::index::{self, Entry};

pub use arguments::DumpLogArguments;

/// One batch as it lies in a file.
struct Found {
    position: u64,
    bytes: Bytes,
}

/// Reads the batches of a `.log`, one at a time.
struct LogFile {
    reader: BufReader<File>,
    position: u64,
    length: u64,
}

impl LogFile {
    fn open(path: &Path, bytes_max: Option<u64>) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(bytes_max.unwrap_or(u64::MAX));
        Ok(Self { reader: BufReader::with_capacity(256 * 1024, file), position: 0, length })
    }

    /// The next batch; `Err` with the reason when what comes is none. None at the end.
    fn next(&mut self) -> io::Result<Option<Result<Found, String>>> {
        let left = self.length - self.position;
        if left == 0 {
            return Ok(None);
        }
        if left < BatchHeader::SIZE as u64 {
            return Ok(Some(Err(format!("{left} bytes at the end are less than a batch's header"))));
        }
        let mut head = [0; BatchHeader::SIZE];
        self.reader.read_exact(&mut head)?;
        let header = match BatchHeader::parse(&head) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Err(error.to_string()))),
        };
        let size = header.size();
        if size as u64 > left {
            return Ok(Some(Err(format!("the batch needs {size} bytes, there are {left}"))));
        }
        let mut bytes = head.to_vec();
        bytes.resize(size, 0);
        self.reader.read_exact(bytes.get_mut(BatchHeader::SIZE..).unwrap_or_default())?;
        let found = Found { position: self.position, bytes: bytes.into() };
        self.position += size as u64;
        Ok(Some(Ok(found)))
    }
}

/// The offset that a file's name gives.
fn base_offset(path: &Path) -> Option<i64> {
    path.file_stem()?.to_str()?.split('.').next()?.parse().ok()
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// Offset and position.
type IndexEntry = (i64, u64);
/// Timestamp and offset.
type TimeEntry = (i64, i64);

/// Reads an `.index`; with what is wrong with its size.
fn read_index(path: &Path) -> io::Result<(Vec<IndexEntry>, Option<String>)> {
    let (entries, base, odd) = read_entries::<index::OffsetEntry>(path, |entry| entry.relative_offset)?;
    let absolute = |entry: index::OffsetEntry| {
        (base.saturating_add(i64::from(entry.relative_offset)), u64::from(entry.position))
    };
    Ok((entries.into_iter().map(absolute).collect(), odd))
}

/// Reads a `.timeindex`.
fn read_time_index(path: &Path) -> io::Result<(Vec<TimeEntry>, Option<String>)> {
    let (entries, base, odd) = read_entries::<index::TimeEntry>(path, |entry| entry.relative_offset)?;
    let absolute =
        |entry: index::TimeEntry| (entry.timestamp, base.saturating_add(i64::from(entry.relative_offset)));
    Ok((entries.into_iter().map(absolute).collect(), odd))
}

/// The entries of an index, up to the zeros of a preallocated one, and the offset that theirs count from.
fn read_entries<E: Entry>(
    path: &Path,
    relative_offset: impl Fn(&E) -> u32,
) -> io::Result<(Vec<E>, i64, Option<String>)> {
    let bytes = read_bounded(path)?;
    let chunks = bytes.chunks_exact(E::SIZE);
    let is_odd = !chunks.remainder().is_empty();
    let mut found = Vec::new();
    for entry in chunks.filter_map(E::decode) {
        if relative_offset(&entry) == 0 && !found.is_empty() {
            break;
        }
        found.push(entry);
    }
    let odd = is_odd.then(|| format!("{} bytes are no whole number of entries", bytes.len()));
    Ok((found, base_offset(path).unwrap_or(0), odd))
}

/// Indexes are bounded by segment.index.bytes; anything far beyond is no index.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    const INDEX_BYTES_MAX: u64 = 1024 * 1024 * 1024;
    let mut bytes = Vec::new();
    File::open(path)?.take(INDEX_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files to look at: those named, and for a folder its segments' files and those of the folders in it.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        let failed = |error: io::Error| {
            let reason = crate::client::error::io_reason(&error);
            CliError::while_doing(format!("read {}", path.display()), reason)
        };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            found.push(path.clone());
            continue;
        }
        let before = found.len();
        collect(path, 2, &mut found).map_err(failed)?;
        if found.len() == before {
            return Err(CliError::Failed(format!(
                "{} holds no .log, .index, .timeindex, .txnindex, .journal or .snapshot",
                path.display()
            )));
        }
    }
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths = entries.into_iter().map(|entry| entry.path()).collect::<Vec<_>>();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 1 {
                collect(&path, depth - 1, found)?;
            }
        } else if matches!(
            extension(&path),
            "log" | "index" | "timeindex" | "txnindex" | "journal" | "snapshot"
        ) && base_offset(&path).is_some()
        {
            found.push(path);
        }
    }
    Ok(())
}

pub fn run(arguments: &DumpLogArguments, out: &mut Output) -> Result<(), CliError> {
    let decoding = Decoding::of(arguments)?;
    let mut files = files(&arguments.files)?;
    if arguments.verify || arguments.verify_index_only {
        // What the quorum keeps is checked when it is opened.
        files.retain(|path| !matches!(extension(path), "journal" | "snapshot" | "txnindex"));
        return verify::verify(arguments, &files, out);
    }
    for path in &files {
        let result = dump(arguments, decoding, path, out);
        if let Err(CliError::Failed(reason)) = result {
            return Err(CliError::while_doing(format!("dump {}", path.display()), reason));
        }
        result?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CliError + '_ {
    move |error| CliError::while_doing(format!("read {}", path.display()), error)
}

/// What an index can tell by itself: whole entries that rise.
fn sanity_check(path: &Path, arguments: &DumpLogArguments, out: &mut Output) -> Result<(), CliError> {
    let falls =
        |keys: &[(i64, i64)]| keys.windows(2).any(|pair| pair[1].0 < pair[0].0 || pair[1].1 < pair[0].1);
    let (keys, odd) = if extension(path) == "index" {
        let (entries, odd) = read_index(path).map_err(failed(path))?;
        let position = |position: u64| i64::try_from(position).unwrap_or(i64::MAX);
        (entries.into_iter().map(|(offset, at)| (offset, position(at))).collect::<Vec<_>>(), odd)
    } else {
        read_time_index(path).map_err(failed(path))?
    };
    let wrong = odd.or_else(|| falls(&keys).then(|| "its entries do not rise".to_owned()));
    match wrong {
        Some(reason) => Err(CliError::Failed(reason)),
        None if arguments.json => Ok(out.json(&json!({"file": path.display().to_string(), "sane": true}))?),
        None => Ok(writeln!(out, "{} passed sanity check.", path.display())?),
    }
}

fn dump(
    arguments: &DumpLogArguments,
    decoding: Decoding,
    path: &Path,
    out: &mut Output,
) -> Result<(), CliError> {
    if !arguments.json {
        writeln!(out, "Dumping {}", path.display())?;
    }
    match extension(path) {
        "log" => dump_log(arguments, decoding, path, out),
        "journal" => metadata::dump_journal(arguments, path, out),
        "snapshot" => metadata::dump_snapshot(path, out),
        "index" | "timeindex" if arguments.index_sanity_check => sanity_check(path, arguments, out),
        "index" => {
            for (offset, position) in read_index(path).map_err(failed(path))?.0 {
                if arguments.json {
                    out.json(&json!({"offset": offset, "position": position}))?;
                } else {
                    writeln!(out, "offset: {offset} position: {position}")?;
                }
            }
            Ok(())
        }
        "timeindex" => {
            for (timestamp, offset) in read_time_index(path).map_err(failed(path))?.0 {
                if arguments.json {
                    out.json(&json!({"timestamp": timestamp, "offset": offset}))?;
                } else {
                    writeln!(out, "timestamp: {timestamp} offset: {offset}")?;
                }
            }
            Ok(())
        }
        "txnindex" => dump_aborted(arguments, path, out),
        _ => Err(CliError::Failed(
            "only .log, .index, .timeindex, .txnindex, .journal and .snapshot files can be dumped".to_owned(),
        )),
    }
}

/// Prints an index of aborted transactions.
fn dump_aborted(arguments: &DumpLogArguments, path: &Path, out: &mut Output) -> Result<(), CliError> {
    let bytes = read_bounded(path).map_err(failed(path))?;
    let entries = aborted::entries(&bytes);
    for entry in &entries {
        let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } = *entry;
        if arguments.json {
            out.json(&json!({
                "producer_id": producer_id, "first_offset": first_offset, "last_offset": last_offset,
                "last_stable_offset": last_stable_offset,
            }))?;
        } else {
            writeln!(
                out,
                "version: 0 producerId: {producer_id} firstOffset: {first_offset} lastOffset: {last_offset} \
                 lastStableOffset: {last_stable_offset}"
            )?;
        }
    }
    let read = entries.len() as u64 * aborted::ENTRY_BYTES;
    if read == bytes.len() as u64 {
        return Ok(());
    }
    Err(CliError::Failed(format!("from byte {read} of {} on there is no entry", bytes.len())))
}

fn dump_log(
    arguments: &DumpLogArguments,
    decoding: Decoding,
    path: &Path,
    out: &mut Output,
) -> Result<(), CliError> {
    if !arguments.json {
        writeln!(out, "Log starting offset: {}", base_offset(path).unwrap_or(0))?;
    }
    let mut log = LogFile::open(path, arguments.max_bytes).map_err(failed(path))?;
    let is_deep = arguments.deep_iteration || arguments.shows_data();
    while let Some(found) = log.next().map_err(failed(path))? {
        let found = match found {
            Ok(found) => found,
            Err(_) if arguments.max_bytes.is_some() => break,
            Err(reason) => {
                writeln!(
                    out,
                    "Found {} invalid bytes at the end of {}",
                    log.length - log.position,
                    path.display()
                )?;
                out.flush()?;
                return Err(CliError::Failed(format!("position {}: {reason}", log.position)));
            }
        };
        let batch = Batch::parse(&found.bytes).map_err(|error| CliError::Failed(error.to_string()))?;
        let records = match is_deep {
            true => Some(records::decode(&batch)),
            false => None,
        };
        if arguments.json {
            out.json(&batch_json(&batch, found.position, decoding, records.as_ref()))?;
            continue;
        }
        print_batch(&batch, found.position, out)?;
        match records {
            None => {}
            Some(Ok(records)) => {
                for record in &records {
                    print_record(arguments, decoding, &batch.header, record, out)?;
                }
            }
            Some(Err(error)) => writeln!(out, "| records cannot be read: {error}")?,
        }
    }
    Ok(())
}

fn codec(header: &BatchHeader) -> &'static str {
    header.compression().map_or("unknown", |compression| compression.name())
}

fn print_batch(batch: &Batch<'_>, position: u64, out: &mut impl Write) -> io::Result<()> {
    let header = &batch.header;
    let last_sequence = if header.base_sequence < 0 { -1 } else { header.last_sequence() };
    let horizon = header
        .delete_horizon_ms()
        .map_or_else(|| "OptionalLong.empty".to_owned(), |horizon| format!("OptionalLong[{horizon}]"));
    writeln!(
        out,
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {last_sequence} producerId: {} \
         producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} \
         position: {position} {}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {}",
        header.base_offset,
        header.last_offset(),
        header.records_count,
        header.base_sequence,
        header.producer_id,
        header.producer_epoch,
        header.partition_leader_epoch,
        header.is_transactional(),
        header.is_control(),
        time_name(header),
        header.max_timestamp,
        header.size(),
        header.magic,
        codec(header),
        header.crc,
        batch.verify_crc().is_ok(),
    )
}

fn time_name(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn print_record(
    arguments: &DumpLogArguments,
    decoding: Decoding,
    header: &BatchHeader,
    read: &ReadRecord,
    out: &mut impl Write,
) -> io::Result<()> {
    let record = &read.record;
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
    write!(out, "|")?;
    if !arguments.skip_record_metadata {
        let sequence = match header.base_sequence {
            ..0 => -1,
            base => base.wrapping_add((read.offset - header.base_offset) as i32),
        };
        let names = record.headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        write!(
            out,
            " offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
            read.offset,
            time_name(header),
            record.timestamp,
            size(&record.key),
            size(&record.value),
            names.collect::<Vec<_>>().join(",")
        )?;
    }
    if header.is_control() {
        let kind = record.key.as_ref().and_then(|key| key.get(2..4)).map(|kind| (kind.first(), kind.get(1)));
        let name = match kind {
            Some((Some(0), Some(0))) => "ABORT",
            Some((Some(0), Some(1))) => "COMMIT",
            _ => "UNKNOWN",
        };
        // The marker's value: version i16, coordinator epoch i32.
        let epoch = record.value.as_ref().and_then(|value| value.get(2..6)?.try_into().ok());
        write!(out, " endTxnMarker: {name} coordinatorEpoch: {}", epoch.map_or(-1, i32::from_be_bytes))?;
    } else if arguments.shows_data() {
        let shown = decoding.text(record);
        if let Some(key) = shown.key {
            out.write_all(b" key: ")?;
            out.write_all(&key)?;
        }
        if let Some(value) = shown.value {
            out.write_all(b" payload: ")?;
            out.write_all(&value)?;
        }
    }
    writeln!(out)
}

fn batch_json(
    batch: &Batch<'_>,
    position: u64,
    decoding: Decoding,
    records: Option<&Result<Vec<ReadRecord>, String>>,
) -> Value {
    let header = &batch.header;
    let mut value = json!({
        "base_offset": header.base_offset, "last_offset": header.last_offset(), "count": header.records_count,
        "base_sequence": header.base_sequence, "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch, "partition_leader_epoch": header.partition_leader_epoch,
        "transactional": header.is_transactional(), "control": header.is_control(),
        "delete_horizon_ms": header.delete_horizon_ms(), "position": position,
        "timestamp_type": time_name(header), "max_timestamp": header.max_timestamp, "size": header.size(),
        "magic": header.magic, "compression": codec(header), "crc": header.crc,
        "valid": batch.verify_crc().is_ok(),
    });
    match records {
        None => {}
        Some(Err(error)) => value["error"] = json!(error),
        Some(Ok(records)) => {
            let records = records.iter().map(|read| {
                let headers = read.record.headers.iter();
                let headers =
                    headers.map(|(name, value)| json!([json_of(Some(name)), json_of(value.as_deref())]));
                let (key, value) = decoding.json(&read.record);
                json!({
                    "offset": read.offset, "timestamp": read.record.timestamp,
                    "key": key, "value": value,
                    "headers": headers.collect::<Vec<_>>(),
                })
            });
            value["records"] = records.collect();
        }
    }
    value
}
