//! How records are printed.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::output::CliError;
use crate::cli::properties::{Properties, unescape};
use crate::cli::record_text::{Format, hex, json_of};
use crate::cli::time;
use crate::client::consumer::ConsumedRecord;
use crate::protocol::batch::TimestampType;

const FORMATTER_KEYS: &[&str] = &[
    "print.timestamp",
    "print.key",
    "print.offset",
    "print.epoch",
    "print.partition",
    "print.headers",
    "print.value",
    "key.separator",
    "line.separator",
    "headers.separator",
    "null.literal",
];

/// Kafka's `DefaultMessageFormatter`, and the other formats.
pub(super) struct Formatter {
    format: Format,
    is_silent: bool,
    timestamp: bool,
    key: bool,
    offset: bool,
    epoch: bool,
    partition: bool,
    headers: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
}

impl Formatter {
    pub fn new(format: Format, properties: &Properties, is_silent: bool) -> Result<Self, CliError> {
        for key in properties.keys().filter(|key| !FORMATTER_KEYS.contains(key)) {
            // Deserializers are classes; bytes are printed as they are.
            if !key.contains("deserializer") {
                eprintln!(
                    "warning: formatter property '{key}' is not used; known are {}",
                    FORMATTER_KEYS.join(", ")
                );
            }
        }
        let flag = |key: &str, default| properties.flag(key).map(|value| value.unwrap_or(default));
        let separator = |key: &str, default: &str| unescape(properties.text(key).unwrap_or(default));
        Ok(Self {
            format,
            is_silent,
            timestamp: flag("print.timestamp", false)?,
            key: flag("print.key", false)?,
            offset: flag("print.offset", false)?,
            epoch: flag("print.epoch", false)?,
            partition: flag("print.partition", false)?,
            headers: flag("print.headers", false)?,
            value: flag("print.value", true)?,
            key_separator: separator("key.separator", "\t"),
            line_separator: separator("line.separator", "\n"),
            headers_separator: separator("headers.separator", ","),
            null_literal: separator("null.literal", "null"),
        })
    }

    pub fn print(&self, consumed: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let record = &consumed.record;
        match self.format {
            Format::Text => self.print_text(consumed, out),
            Format::Raw => out.write_all(record.value.as_deref().unwrap_or_default()),
            Format::Hex => {
                let value = record.value.as_deref();
                writeln!(out, "{}", value.map_or_else(|| "null".to_owned(), hex))
            }
            Format::Json => {
                let headers = record
                    .headers
                    .iter()
                    .map(|(name, value)| json!([json_of(Some(name)), json_of(value.as_deref())]));
                let value = json!({
                    "topic": &*consumed.topic, "partition": consumed.partition, "offset": consumed.offset,
                    "timestamp": record.timestamp, "timestamp_iso": time::format_iso(record.timestamp),
                    "key": json_of(record.key.as_deref()), "value": json_of(record.value.as_deref()),
                    "headers": headers.collect::<Vec<Value>>(),
                });
                serde_json::to_writer(&mut *out, &value)?;
                out.write_all(b"\n")
            }
        }
    }

    fn print_text(&self, consumed: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        let record = &consumed.record;
        let mut is_first = true;
        let mut separate = |out: &mut dyn Write| {
            if std::mem::take(&mut is_first) { Ok(()) } else { out.write_all(&self.key_separator) }
        };
        if self.timestamp {
            separate(out)?;
            match (record.timestamp, consumed.timestamp_type) {
                (..0, _) => out.write_all(b"NO_TIMESTAMP")?,
                (time, TimestampType::CreateTime) => write!(out, "CreateTime:{time}")?,
                (time, TimestampType::LogAppendTime) => write!(out, "LogAppendTime:{time}")?,
            }
        }
        if self.partition {
            separate(out)?;
            write!(out, "Partition:{}", consumed.partition)?;
        }
        if self.offset {
            separate(out)?;
            write!(out, "Offset:{}", consumed.offset)?;
        }
        if self.epoch {
            separate(out)?;
            match consumed.leader_epoch {
                ..0 => out.write_all(b"Epoch:NOT_PRESENT")?,
                epoch => write!(out, "Epoch:{epoch}")?,
            }
        }
        let null = self.null_literal.as_slice();
        if self.headers {
            separate(out)?;
            if record.headers.is_empty() {
                out.write_all(b"NO_HEADERS")?;
            }
            for (number, (name, value)) in record.headers.iter().enumerate() {
                if number > 0 {
                    out.write_all(&self.headers_separator)?;
                }
                out.write_all(name)?;
                out.write_all(b":")?;
                out.write_all(value.as_deref().unwrap_or(null))?;
            }
        }
        if self.key {
            separate(out)?;
            out.write_all(record.key.as_deref().unwrap_or(null))?;
        }
        if self.value {
            separate(out)?;
            out.write_all(record.value.as_deref().unwrap_or(null))?;
        }
        out.write_all(&self.line_separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::records::Record;
    use bytes::Bytes;

    fn print(pairs: &[&str], format: Format, record: &ConsumedRecord) -> String {
        let mut properties = Properties::default();
        for pair in pairs {
            properties.set(pair).unwrap();
        }
        let mut printed = Vec::new();
        Formatter::new(format, &properties, false).unwrap().print(record, &mut printed).unwrap();
        String::from_utf8(printed).unwrap()
    }

    /// Lines that Kafka 4.3.0's console consumer prints for the same record.
    #[test]
    fn text_is_kafkas() {
        let mut record = ConsumedRecord {
            topic: "t1".into(),
            partition: 2,
            offset: 1,
            leader_epoch: -1,
            timestamp_type: TimestampType::CreateTime,
            record: Record {
                timestamp: 1795246858285,
                key: Some(Bytes::from_static(b"k1")),
                value: Some(Bytes::from_static(b"val1")),
                headers: vec![
                    (Bytes::from_static(b"h1"), Some(Bytes::from_static(b"v1"))),
                    (Bytes::from_static(b"h2"), Some(Bytes::from_static(b"v2"))),
                ],
            },
        };
        let all = [
            "print.timestamp=true",
            "print.partition=true",
            "print.offset=true",
            "print.epoch=true",
            "print.headers=true",
            "print.key=true",
        ];
        assert_eq!(
            print(&all, Format::Text, &record),
            "CreateTime:1795246858285\tPartition:2\tOffset:1\tEpoch:NOT_PRESENT\th1:v1,h2:v2\tk1\tval1\n"
        );
        assert_eq!(print(&[], Format::Hex, &record), "76616c31\n");
        record.record = Record { timestamp: -1, ..Record::default() };
        assert_eq!(
            print(&all, Format::Text, &record),
            "NO_TIMESTAMP\tPartition:2\tOffset:1\tEpoch:NOT_PRESENT\tNO_HEADERS\tnull\tnull\n"
        );
        assert_eq!(
            print(&["print.value=false", "print.key=true", "null.literal=-"], Format::Text, &record),
            "-\n"
        );
    }
}
