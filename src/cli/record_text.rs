//! Records as lines of text: what `produce` reads and `consume` prints.
//!
//! The text form is Kafka's (`LineMessageReader`, `DefaultMessageFormatter`). The JSON form is one
//! object per line, the same in both directions, so that `consume --format json | produce --format json`
//! copies records: `{"partition": 0, "timestamp": 1, "key": "k", "value": "v", "headers": [["n", "v"]]}`.
//! Bytes that are no UTF-8 stand as `{"base64": "…"}` in the place of a string.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::output::CliError;
use super::properties::{Properties, unescape};
use crate::client::producer::ProducerRecord;
use crate::client::records::Record;

/// How records look outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Kafka's text form, one line per record
    Text,
    /// One JSON object per record
    Json,
    /// The bytes of the value and nothing else; produce takes all of its input as one record
    Raw,
    /// The value in hexadecimal, one line per record
    Hex,
}

/// Kafka's `LineMessageReader`: where key, headers and value lie in a line.
#[derive(Debug, Clone)]
pub struct LineReader {
    parse_key: bool,
    parse_headers: bool,
    ignore_error: bool,
    key_separator: Vec<u8>,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    headers_key_separator: Vec<u8>,
    null_marker: Option<Vec<u8>>,
}

const READER_KEYS: &[&str] = &[
    "parse.key",
    "parse.headers",
    "ignore.error",
    "key.separator",
    "headers.delimiter",
    "headers.separator",
    "headers.key.separator",
    "null.marker",
];

impl LineReader {
    pub fn new(properties: &Properties) -> Result<Self, CliError> {
        for key in properties.keys().filter(|key| !READER_KEYS.contains(key)) {
            eprintln!("warning: reader property '{key}' is not used; known are {}", READER_KEYS.join(", "));
        }
        let separator = |key: &str, default: &str| {
            let bytes = unescape(properties.text(key).unwrap_or(default));
            if bytes.is_empty() {
                Err(CliError::Usage(format!("{key} must not be empty")))
            } else {
                Ok(bytes)
            }
        };
        let reader = Self {
            parse_key: properties.flag("parse.key")?.unwrap_or(false),
            parse_headers: properties.flag("parse.headers")?.unwrap_or(false),
            ignore_error: properties.flag("ignore.error")?.unwrap_or(false),
            key_separator: separator("key.separator", "\t")?,
            headers_delimiter: separator("headers.delimiter", "\t")?,
            headers_separator: separator("headers.separator", ",")?,
            headers_key_separator: separator("headers.key.separator", ":")?,
            null_marker: properties.text("null.marker").map(unescape),
        };
        if reader.headers_separator == reader.headers_key_separator {
            return Err(CliError::Usage(
                "headers.separator and headers.key.separator may not be equal".to_owned(),
            ));
        }
        Ok(reader)
    }

    /// Reads one line, without its end. An error says what is missing in which line.
    pub fn parse(&self, line: Bytes, number: u64) -> Result<Record, String> {
        let mut rest = line.clone();
        let mut record = Record::default();
        if self.parse_headers
            && let Some(headers) =
                self.take(&mut rest, &self.headers_delimiter, "headers delimiter", &line, number)?
            && !self.is_null(&headers)
        {
            record.headers = self.headers(&headers, number)?;
        }
        if self.parse_key {
            record.key = self.take(&mut rest, &self.key_separator, "key separator", &line, number)?;
            record.key = record.key.filter(|key| !self.is_null(key));
        }
        record.value = (!self.is_null(&rest)).then_some(rest);
        Ok(record)
    }

    fn is_null(&self, bytes: &[u8]) -> bool {
        self.null_marker.as_deref() == Some(bytes)
    }

    fn take(
        &self,
        rest: &mut Bytes,
        separator: &[u8],
        what: &str,
        line: &[u8],
        number: u64,
    ) -> Result<Option<Bytes>, String> {
        match find(rest, separator) {
            Some(at) => {
                let taken = rest.split_to(at);
                drop(rest.split_to(separator.len()));
                Ok(Some(taken))
            }
            None if self.ignore_error => Ok(None),
            None => {
                Err(format!("No {what} found on line number {number}: '{}'", String::from_utf8_lossy(line)))
            }
        }
    }

    fn headers(&self, text: &Bytes, number: u64) -> Result<Vec<(Bytes, Option<Bytes>)>, String> {
        let mut headers = Vec::new();
        let mut rest = Some(text.clone());
        while let Some(mut text) = rest.take() {
            let pair = match find(&text, &self.headers_separator) {
                Some(at) => {
                    let pair = text.split_to(at);
                    drop(text.split_to(self.headers_separator.len()));
                    rest = Some(text);
                    pair
                }
                None => text,
            };
            let (name, value) = match find(&pair, &self.headers_key_separator) {
                Some(at) => {
                    let value = pair.slice(at + self.headers_key_separator.len()..);
                    (pair.slice(..at), (!self.is_null(&value)).then_some(value))
                }
                None if self.ignore_error => (pair, None),
                None => {
                    let pair = String::from_utf8_lossy(&pair);
                    return Err(format!(
                        "No header key separator found in pair '{pair}' on line number {number}"
                    ));
                }
            };
            if self.is_null(&name) {
                return Err(format!(
                    "Header keys should not be equal to the null marker, on line number {number}"
                ));
            }
            headers.push((name, value));
        }
        Ok(headers)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    if let [single] = wanted {
        return bytes.iter().position(|byte| byte == single);
    }
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Reads the JSON form.
pub fn parse_json(line: &[u8], number: u64) -> Result<ProducerRecord, String> {
    let wrong = |what: String| format!("line {number}: {what}");
    let value: Value = serde_json::from_slice(line).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let object = value.as_object().ok_or_else(|| wrong("a JSON object is expected".to_owned()))?;
    let field = |name: &str| {
        bytes_of(object.get(name).unwrap_or(&Value::Null)).map_err(|e| wrong(format!("{name}: {e}")))
    };
    let integer = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_i64().map(Some).ok_or_else(|| wrong(format!("{name}: an integer is expected")))
        }
    };
    let mut headers = Vec::new();
    for pair in object.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let [name, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(wrong("headers: pairs [\"name\", \"value\"] are expected".to_owned()));
        };
        let name =
            bytes_of(name).map_err(wrong)?.ok_or_else(|| wrong("a header without a name".to_owned()))?;
        headers.push((name, bytes_of(value).map_err(wrong)?));
    }
    let partition = integer("partition")?.map(i32::try_from).transpose();
    Ok(ProducerRecord {
        record: Record {
            timestamp: integer("timestamp")?.unwrap_or(-1),
            key: field("key")?,
            value: field("value")?,
            headers,
        },
        partition: partition.map_err(|_| wrong("partition: out of range".to_owned()))?,
    })
}

fn bytes_of(value: &Value) -> Result<Option<Bytes>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Bytes::from(text.clone().into_bytes()))),
        Value::Object(object) if object.len() == 1 && object.contains_key("base64") => {
            let text = object.get("base64").and_then(Value::as_str).unwrap_or_default();
            STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|error| format!("base64: {error}"))
        }
        // Any other JSON is taken as the text it is written in.
        other => Ok(Some(Bytes::from(other.to_string().into_bytes()))),
    }
}

/// The JSON form of a string that may be no UTF-8, or null.
pub fn json_of(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => json!({"base64": STANDARD.encode(bytes)}),
        },
    }
}

/// Reads hexadecimal; blanks between bytes are allowed.
pub fn parse_hex(line: &[u8], number: u64) -> Result<Bytes, String> {
    let digits = line.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect::<Vec<_>>();
    let (pairs, rest) = digits.as_chunks::<2>();
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let bytes = pairs.iter().map(|[high, low]| Some((nibble(*high)? << 4) | nibble(*low)?));
    match bytes.collect::<Option<Vec<_>>>() {
        Some(bytes) if rest.is_empty() => Ok(bytes.into()),
        _ => Err(format!("line {number} is no hexadecimal with two digits per byte")),
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[&str]) -> LineReader {
        let mut properties = Properties::default();
        for pair in pairs {
            properties.set(pair).unwrap();
        }
        LineReader::new(&properties).unwrap()
    }

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_cut_as_kafka_cuts_them() {
        let all = reader(&["parse.key=true", "parse.headers=true", "null.marker=NUL"]);
        let record = all.parse(Bytes::from_static(b"h1:v1,h1:NUL\tk\tv\tw"), 1).unwrap();
        assert_eq!(
            record.headers,
            [(Bytes::from_static(b"h1"), bytes("v1")), (Bytes::from_static(b"h1"), None)]
        );
        assert_eq!((record.key, record.value), (bytes("k"), bytes("v\tw")));
        let record = all.parse(Bytes::from_static(b"NUL\tNUL\tNUL"), 1).unwrap();
        assert_eq!(record, Record::default());
        assert_eq!(
            all.parse(Bytes::from_static(b"h:v\tonly"), 7).unwrap_err(),
            "No key separator found on line number 7: 'h:v\tonly'"
        );
        assert!(all.parse(Bytes::from_static(b"NUL:v\tk\tv"), 1).is_err());
        let lenient = reader(&["parse.key=true", "ignore.error=true", "key.separator=::"]);
        assert_eq!(lenient.parse(Bytes::from_static(b"plain"), 1).unwrap().value, bytes("plain"));
        assert_eq!(lenient.parse(Bytes::from_static(b"a::b"), 1).unwrap().key, bytes("a"));
    }

    #[test]
    fn json_reads_back_what_it_prints() {
        let line =
            br#"{"partition":2,"timestamp":5,"key":null,"value":"v","headers":[["a","b"],["a",null]]}"#;
        let parsed = parse_json(line, 1).unwrap();
        assert_eq!((parsed.partition, parsed.record.timestamp), (Some(2), 5));
        assert_eq!((parsed.record.key, parsed.record.value), (None, bytes("v")));
        assert_eq!(parsed.record.headers.len(), 2);
        let binary = json!({"value": json_of(Some(&[0xff, 0]))}).to_string();
        assert_eq!(
            parse_json(binary.as_bytes(), 1).unwrap().record.value,
            Some(Bytes::from_static(&[0xff, 0]))
        );
        assert!(parse_json(b"[1]", 3).unwrap_err().contains("line 3"));
    }

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(parse_hex(b"00 fF 10", 1).unwrap(), Bytes::from_static(&[0, 255, 16]));
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert!(parse_hex(b"0", 1).is_err());
        assert!(parse_hex(b"zz", 1).is_err());
    }
}
