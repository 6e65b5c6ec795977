//! What the keys and values of dumped records mean, by Kafka's decoders.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Value, json};

use super::DumpLogArguments;
use crate::cli::group_records::{self, Style};
use crate::cli::output::CliError;
use crate::cli::record_text::json_of;
use crate::client::records::Record;

/// How the keys, or the values, of records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// As they are.
    Bytes,
    /// The first four bytes.
    Integer,
    /// The first eight bytes.
    Long,
}

impl Decoder {
    /// By the name of Kafka's class.
    fn parse(option: &str, class: &str) -> Result<Self, CliError> {
        match class.trim().rsplit('.').next().unwrap_or_default() {
            "StringDecoder" | "DefaultDecoder" => Ok(Self::Bytes),
            "IntegerDecoder" => Ok(Self::Integer),
            "LongDecoder" => Ok(Self::Long),
            _ => Err(CliError::Usage(format!(
                "{option} {class}: Java classes cannot be used here, only StringDecoder, DefaultDecoder, \
                 IntegerDecoder and LongDecoder"
            ))),
        }
    }

    fn text(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let number = match self {
            Self::Bytes => return Cow::Borrowed(bytes),
            Self::Integer => bytes.first_chunk().map(|start| i64::from(i32::from_be_bytes(*start))),
            Self::Long => bytes.first_chunk().map(|start| i64::from_be_bytes(*start)),
        };
        let text = number.map_or_else(|| format!("<{} bytes are too few>", bytes.len()), |it| it.to_string());
        Cow::Owned(text.into_bytes())
    }
}

/// How records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoding {
    Plain {
        key: Decoder,
        value: Decoder,
    },
    /// Records of `__consumer_offsets`.
    Offsets,
}

/// What is shown of a record; None: nothing is.
pub(super) struct Shown<'r> {
    pub key: Option<Cow<'r, [u8]>>,
    pub value: Option<Cow<'r, [u8]>>,
}

impl Decoding {
    pub(super) fn of(arguments: &DumpLogArguments) -> Result<Self, CliError> {
        let unserved = [
            (arguments.transaction_log_decoder, "--transaction-log-decoder: transactions are not served yet"),
            (arguments.share_group_state_decoder, "--share-group-state-decoder: share groups are not served"),
            (
                arguments.remote_log_metadata_decoder,
                "--remote-log-metadata-decoder: there is no tiered storage",
            ),
        ];
        if let Some((_, why)) = unserved.iter().find(|(is_given, _)| *is_given) {
            return Err(CliError::Usage((*why).to_owned()));
        }
        if arguments.offsets_decoder {
            return Ok(Self::Offsets);
        }
        let decoder = |option: &str, class: &Option<String>| {
            class.as_deref().map_or(Ok(Decoder::Bytes), |class| Decoder::parse(option, class))
        };
        Ok(Self::Plain {
            key: decoder("--key-decoder-class", &arguments.key_decoder_class)?,
            value: decoder("--value-decoder-class", &arguments.value_decoder_class)?,
        })
    }

    pub(super) fn text(self, record: &Record) -> Shown<'_> {
        match self {
            Self::Plain { key, value } => Shown {
                key: record.key.as_deref().map(|bytes| key.text(bytes)),
                value: record.value.as_deref().map(|bytes| value.text(bytes)),
            },
            Self::Offsets => {
                let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
                match group_records::read(record.key.as_ref(), record.value.as_ref(), Style::Decoder) {
                    Ok(read) => Shown {
                        key: owned(read.key.to_string()),
                        value: owned(read.value.map_or_else(|| "<DELETE>".to_owned(), |it| it.to_string())),
                    },
                    Err(reason) => {
                        Shown { key: None, value: owned(format!("<cannot be decoded: {reason}>")) }
                    }
                }
            }
        }
    }

    /// Key and value for the JSON form.
    pub(super) fn json(self, record: &Record) -> (Value, Value) {
        match self {
            Self::Plain { .. } => {
                let shown = self.text(record);
                let json = |bytes: Option<Cow<'_, [u8]>>| json_of(bytes.as_deref());
                (json(shown.key), json(shown.value))
            }
            Self::Offsets => {
                let raw = |bytes: &Option<Bytes>| json_of(bytes.as_deref());
                match group_records::read(record.key.as_ref(), record.value.as_ref(), Style::Decoder) {
                    Ok(read) => (read.key, json!(read.value)),
                    Err(_) => (raw(&record.key), raw(&record.value)),
                }
            }
        }
    }
}
