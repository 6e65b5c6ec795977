//! How records are printed.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::deserializer::Deserializer;
use crate::cli::group_records::{self, Kind, Style};
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
    "key.deserializer",
    "value.deserializer",
    "headers.deserializer",
];

/// What `--formatter` names, by the last part of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Default,
    /// Prints nothing.
    NoOp,
    /// Records of `__consumer_offsets`, of one kind.
    Coordinator(Kind),
}

impl Class {
    fn parse(class: &str) -> Result<Self, CliError> {
        match class.trim().rsplit('.').next().unwrap_or_default() {
            // The second also logs each record, on a level that Kafka's tools do not show.
            "" | "DefaultMessageFormatter" | "LoggingMessageFormatter" => Ok(Self::Default),
            "NoOpMessageFormatter" => Ok(Self::NoOp),
            // Before Kafka 4 they were called so, within other classes.
            "OffsetsMessageFormatter" | "GroupMetadataManager$OffsetsMessageFormatter" => {
                Ok(Self::Coordinator(Kind::Offset))
            }
            "GroupMetadataMessageFormatter" | "GroupMetadataManager$GroupMetadataMessageFormatter" => {
                Ok(Self::Coordinator(Kind::Group))
            }
            "TransactionLogMessageFormatter" => Err(CliError::Usage(format!(
                "--formatter {class}: transactions are not served yet, so there is no log of them"
            ))),
            "ShareGroupStateMessageFormatter" => {
                Err(CliError::Usage(format!("--formatter {class}: share groups are not served")))
            }
            _ => Err(CliError::Usage(format!(
                "--formatter {class}: Java classes cannot be used here, only DefaultMessageFormatter, \
                 NoOpMessageFormatter, OffsetsMessageFormatter and GroupMetadataMessageFormatter"
            ))),
        }
    }
}

/// Why a record was not printed.
pub(super) enum PrintError {
    Output(io::Error),
    /// What a record holds is not what it was said to be.
    Record(String),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Kafka's `DefaultMessageFormatter`, and the other formats.
pub(super) struct Formatter {
    format: Format,
    class: Class,
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
    key_deserializer: Deserializer,
    value_deserializer: Deserializer,
    headers_deserializer: Deserializer,
    /// One record's text, kept for its memory.
    line: Vec<u8>,
}

impl Formatter {
    /// `class`: the name of a formatter's class, or nothing.
    pub(super) fn new(format: Format, properties: &Properties, class: &str) -> Result<Self, CliError> {
        for key in properties.keys().filter(|key| !FORMATTER_KEYS.contains(key)) {
            // How its bytes are read decides what is printed; anything else at most leaves something out.
            if key.contains("deserializer") {
                return Err(CliError::Usage(format!(
                    "formatter property '{key}' cannot be used here: deserializers have no settings, and are those \
                     of keys, values and headers (key.deserializer, value.deserializer, headers.deserializer)"
                )));
            }
            eprintln!(
                "warning: formatter property '{key}' is not used; known are {}",
                FORMATTER_KEYS.join(", ")
            );
        }
        let class = Class::parse(class)?;
        if class != Class::Default && format != Format::Text {
            return Err(CliError::Usage("--formatter goes with --format text alone".to_owned()));
        }
        let deserializer = |key: &str| match properties.text(key) {
            None => Ok(Deserializer::ByteArray),
            Some(_) if matches!(format, Format::Raw | Format::Hex) => Err(CliError::Usage(format!(
                "{key} goes with --format text and json; this format shows the bytes"
            ))),
            Some(class) => Deserializer::parse(key, class),
        };
        let flag = |key: &str, default| properties.flag(key).map(|value| value.unwrap_or(default));
        let separator = |key: &str, default: &str| unescape(properties.text(key).unwrap_or(default));
        Ok(Self {
            format,
            class,
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
            key_deserializer: deserializer("key.deserializer")?,
            value_deserializer: deserializer("value.deserializer")?,
            headers_deserializer: deserializer("headers.deserializer")?,
            line: Vec::new(),
        })
    }

    /// Prints a record whole, or nothing of it.
    pub(super) fn print(
        &mut self,
        consumed: &ConsumedRecord,
        out: &mut impl Write,
    ) -> Result<(), PrintError> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let written = self.write(consumed, &mut line);
        if written.is_ok() {
            out.write_all(&line)?;
        }
        self.line = line;
        written
    }

    fn write(&self, consumed: &ConsumedRecord, out: &mut Vec<u8>) -> Result<(), PrintError> {
        let record = &consumed.record;
        match (self.class, self.format) {
            (Class::NoOp, _) => {}
            (Class::Coordinator(kind), _) => {
                let read = group_records::read(record.key.as_ref(), record.value.as_ref(), Style::Formatter);
                let read = read.map_err(PrintError::Record)?;
                if read.kind == kind {
                    let whole = json!({"key": read.key, "value": read.value});
                    serde_json::to_writer(&mut *out, &whole).map_err(io::Error::from)?;
                    out.push(b'\n');
                }
            }
            (Class::Default, Format::Text) => self.print_text(consumed, out)?,
            (Class::Default, Format::Raw) => out.extend(record.value.as_deref().unwrap_or_default()),
            (Class::Default, Format::Hex) => {
                let value = record.value.as_deref();
                writeln!(out, "{}", value.map_or_else(|| "null".to_owned(), hex))?;
            }
            (Class::Default, Format::Json) => {
                let told = |deserializer: Deserializer, bytes: Option<&[u8]>| match bytes {
                    None => Ok(Value::Null),
                    Some(bytes) => deserializer.json(bytes).map_err(PrintError::Record),
                };
                let mut headers = Vec::with_capacity(record.headers.len());
                for (name, value) in &record.headers {
                    headers.push(json!([
                        json_of(Some(name)),
                        told(self.headers_deserializer, value.as_deref())?
                    ]));
                }
                let value = json!({
                    "topic": &*consumed.topic, "partition": consumed.partition, "offset": consumed.offset,
                    "timestamp": record.timestamp, "timestamp_iso": time::format_iso(record.timestamp),
                    "key": told(self.key_deserializer, record.key.as_deref())?,
                    "value": told(self.value_deserializer, record.value.as_deref())?,
                    "headers": headers,
                });
                serde_json::to_writer(&mut *out, &value).map_err(io::Error::from)?;
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// The text of some bytes; Kafka's literal where there are none.
    fn put(
        &self,
        deserializer: Deserializer,
        bytes: Option<&[u8]>,
        what: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), PrintError> {
        match bytes {
            None => out.extend(&self.null_literal),
            Some(bytes) => {
                let text = deserializer.text(bytes);
                out.extend(&*text.map_err(|reason| PrintError::Record(format!("the {what}: {reason}")))?);
            }
        }
        Ok(())
    }

    fn print_text(&self, consumed: &ConsumedRecord, out: &mut Vec<u8>) -> Result<(), PrintError> {
        let record = &consumed.record;
        let mut is_first = true;
        let mut separate = |out: &mut Vec<u8>| {
            if !std::mem::take(&mut is_first) {
                out.extend(&self.key_separator);
            }
        };
        if self.timestamp {
            separate(out);
            match (record.timestamp, consumed.timestamp_type) {
                (..0, _) => out.write_all(b"NO_TIMESTAMP")?,
                (time, TimestampType::CreateTime) => write!(out, "CreateTime:{time}")?,
                (time, TimestampType::LogAppendTime) => write!(out, "LogAppendTime:{time}")?,
            }
        }
        if self.partition {
            separate(out);
            write!(out, "Partition:{}", consumed.partition)?;
        }
        if self.offset {
            separate(out);
            write!(out, "Offset:{}", consumed.offset)?;
        }
        if self.epoch {
            separate(out);
            match consumed.leader_epoch {
                ..0 => out.write_all(b"Epoch:NOT_PRESENT")?,
                epoch => write!(out, "Epoch:{epoch}")?,
            }
        }
        if self.headers {
            separate(out);
            if record.headers.is_empty() {
                out.write_all(b"NO_HEADERS")?;
            }
            for (number, (name, value)) in record.headers.iter().enumerate() {
                if number > 0 {
                    out.write_all(&self.headers_separator)?;
                }
                out.write_all(name)?;
                out.write_all(b":")?;
                self.put(self.headers_deserializer, value.as_deref(), "value of a header", out)?;
            }
        }
        if self.key {
            separate(out);
            self.put(self.key_deserializer, record.key.as_deref(), "key", out)?;
        }
        if self.value {
            separate(out);
            self.put(self.value_deserializer, record.value.as_deref(), "value", out)?;
        }
        out.extend(&self.line_separator);
        Ok(())
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
        let printing = Formatter::new(format, &properties, "").unwrap().print(record, &mut printed);
        assert!(printing.is_ok());
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
