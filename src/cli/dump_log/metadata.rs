//! The broker's own metadata: journals and snapshots of the quorum (`__cluster_metadata/`).

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{DumpLogArguments, failed, read_bounded};
use crate::cli::output::{CliError, Output};
use crate::raft::journal_frames;

/// Prints the frames of a journal: one a line, with what it holds where that is asked for.
pub(super) fn dump_journal(
    arguments: &DumpLogArguments,
    path: &Path,
    out: &mut Output,
) -> Result<(), CliError> {
    let bytes = read_bounded(path).map_err(failed(path))?;
    let mut end = 0;
    for frame in journal_frames(&bytes) {
        end = frame.end;
        let payload = || serde_json::from_slice::<Value>(frame.payload).ok();
        if arguments.json {
            out.json(&json!({
                "position": frame.position, "kind": frame.kind, "index": frame.index,
                "size": frame.end - frame.position, "payload": payload(),
            }))?;
            continue;
        }
        write!(
            out,
            "position: {} kind: {} index: {} size: {}",
            frame.position,
            frame.kind,
            frame.index,
            frame.end - frame.position
        )?;
        if arguments.shows_data()
            && let Some(payload) = payload()
        {
            write!(out, " payload: {payload}")?;
        }
        writeln!(out)?;
    }
    // Zeros are room that is set aside.
    let rest = bytes.get(end..).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        writeln!(out, "Found {} invalid bytes at the end of {}", rest.len(), path.display())?;
        out.flush()?;
        return Err(CliError::Failed(format!("position {end}: no whole frame with a right checksum")));
    }
    Ok(())
}

/// Prints the lines of a snapshot, which are text, once its checksum has been found to be right.
pub(super) fn dump_snapshot(path: &Path, out: &mut Output) -> Result<(), CliError> {
    let bytes = read_bounded(path).map_err(failed(path))?;
    let damaged = |what: &str| CliError::Failed(what.to_owned());
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("the snapshot is no text"))?;
    let (content, checksum) = text
        .strip_suffix('\n')
        .unwrap_or(text)
        .rsplit_once('\n')
        .ok_or_else(|| damaged("the snapshot has no checksum"))?;
    let counted = crc32c::crc32c_append(crc32c::crc32c(content.as_bytes()), b"\n");
    if u32::from_str_radix(checksum, 16) != Ok(counted) {
        return Err(damaged("the snapshot's checksum is not that of its content"));
    }
    writeln!(out, "{content}")?;
    Ok(())
}
