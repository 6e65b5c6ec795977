//! The input: read on a thread of its own, cut into lines, and made into records.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::ProduceArguments;
use crate::cli::output::CliError;
use crate::cli::properties::Properties;
use crate::cli::record_text::{Format, LineReader, parse_hex, parse_json};
use crate::cli::time;
use crate::client::producer::ProducerRecord;
use crate::client::records::Record;

/// Bytes of input handed over at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// A line longer than this is refused: no broker takes such a record.
const LINE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Turns pieces of input into records.
pub(super) struct Parser {
    format: Format,
    reader: LineReader,
    template: Record,
    timestamp: Option<i64>,
    partition: Option<i32>,
    line: u64,
}

impl Parser {
    pub(super) fn new(arguments: &ProduceArguments) -> Result<Self, CliError> {
        let mut properties = match &arguments.reader_config {
            Some(path) => Properties::read(path)?,
            None => Properties::default(),
        };
        for pair in &arguments.reader_property {
            properties.set(pair)?;
        }
        let key = arguments.key.clone().map(|key| Bytes::from(key.into_bytes()));
        let mut template = Record { key, ..Record::default() };
        for header in &arguments.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                CliError::Usage(format!("--header '{header}' is not of the form name:value"))
            })?;
            let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            template.headers.push((bytes(name), Some(bytes(value))));
        }
        let timestamp = arguments.timestamp.as_deref().map(|text| time::parse_time(text, time::now_ms()));
        Ok(Self {
            format: arguments.format,
            reader: LineReader::new(&properties)?,
            template,
            timestamp: timestamp
                .transpose()
                .map_err(|error| CliError::Usage(format!("--timestamp: {error}")))?,
            partition: arguments.partition,
            line: 0,
        })
    }

    /// One line (without its end), or all of the input in the raw form.
    pub(super) fn parse(&mut self, line: Bytes, now_ms: i64) -> Result<ProducerRecord, String> {
        self.line += 1;
        let mut parsed = match self.format {
            Format::Text => ProducerRecord { record: self.reader.parse(line, self.line)?, partition: None },
            Format::Json => parse_json(&line, self.line)?,
            Format::Hex => {
                let value = Some(parse_hex(&line, self.line)?);
                ProducerRecord { record: Record { value, ..Record::default() }, partition: None }
            }
            Format::Raw => {
                ProducerRecord { record: Record { value: Some(line), ..Record::default() }, partition: None }
            }
        };
        let given = self.format == Format::Json && parsed.record.timestamp >= 0;
        if !given || self.timestamp.is_some() {
            parsed.record.timestamp = self.timestamp.unwrap_or(now_ms);
        }
        if parsed.record.key.is_none() {
            parsed.record.key.clone_from(&self.template.key);
        }
        parsed.record.headers.extend(self.template.headers.iter().cloned());
        parsed.partition = self.partition.or(parsed.partition);
        Ok(parsed)
    }
}

/// A piece of input that ends with a whole line, or why there is no more.
pub(super) type Chunk = io::Result<Bytes>;

/// Reads on a thread of its own: a terminal or a slow pipe must not hold up what is being sent.
pub(super) fn read_input(mut input: Box<dyn Read + Send>, whole: bool, sender: mpsc::Sender<Chunk>) {
    let mut buffer = BytesMut::new();
    let mut space = vec![0; CHUNK_BYTES];
    loop {
        let read = match input.read(&mut space) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                drop(sender.blocking_send(Err(error)));
                return;
            }
        };
        let fresh = space.get(..read).unwrap_or_default();
        if read == 0 || buffer.len() > LINE_BYTES_MAX {
            let last = if read == 0 {
                Ok(buffer.freeze())
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 GiB"))
            };
            if !matches!(&last, Ok(rest) if rest.is_empty()) {
                drop(sender.blocking_send(last));
            }
            return;
        }
        let end = if whole { None } else { fresh.iter().rposition(|byte| *byte == b'\n') };
        match end {
            None => buffer.extend_from_slice(fresh),
            Some(end) => {
                let (lines, rest) = fresh.split_at(end + 1);
                buffer.extend_from_slice(lines);
                let chunk = std::mem::replace(&mut buffer, BytesMut::from(rest)).freeze();
                if sender.blocking_send(Ok(chunk)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Cuts the next line off, without its `\n` or `\r\n`.
pub(super) fn next_line(chunk: &mut Bytes) -> Option<Bytes> {
    if chunk.is_empty() {
        return None;
    }
    let mut line = match chunk.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = chunk.split_to(end);
            drop(chunk.split_to(1));
            line
        }
        None => std::mem::take(chunk),
    };
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_cut_into_whole_lines_whatever_the_pieces() {
        struct Pieces(Vec<Vec<u8>>);
        impl Read for Pieces {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Ok(0);
                }
                let piece = self.0.remove(0);
                out[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
        }
        let text = b"one\n\ntwo\r\nthree and more\nlast";
        for size in 1..=text.len() {
            let pieces = text.chunks(size).map(<[u8]>::to_vec).collect();
            let (sender, mut chunks) = mpsc::channel(100);
            read_input(Box::new(Pieces(pieces)), false, sender);
            let mut lines = Vec::new();
            while let Some(chunk) = chunks.blocking_recv() {
                let mut chunk = chunk.unwrap();
                while let Some(line) = next_line(&mut chunk) {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(lines, ["one", "", "two", "three and more", "last"], "{size}");
        }
    }
}
