//! The arguments of `raftsman produce`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::output::CliError;
use crate::cli::properties::ConnectionArguments;
use crate::cli::record_text::Format;

/// Arguments of `raftsman produce`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  echo 'hello' | raftsman produce --topic greetings
  raftsman produce --topic logs --file access.log --compression-codec zstd
  raftsman produce --topic users --reader-property parse.key=true --reader-property key.separator=:
  raftsman consume --topic a --from-beginning --format json --timeout-ms 1000 | raftsman produce --topic b --format json"
)]
pub struct ProduceArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The topic to write to
    #[arg(long)]
    pub topic: String,
    /// Read this file in place of standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the input is read
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write all records to this partition
    #[arg(long)]
    pub partition: Option<i32>,
    /// Key of all records (text); parse.key reads one per line
    #[arg(long)]
    pub key: Option<String>,
    /// Header of all records; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub headers: Vec<String>,
    /// Timestamp of all records: ms, ISO, or '5 minutes ago'; the moment of reading when absent
    #[arg(long, allow_hyphen_values = true)]
    pub timestamp: Option<String>,
    /// all (-1), 1 or 0 [default: all]
    #[arg(long, aliases = ["request-required-acks"], allow_hyphen_values = true)]
    pub acks: Option<String>,
    /// none, gzip, snappy, lz4 or zstd; gzip when given without a value [default: none]
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    pub compression_codec: Option<String>,
    /// Bytes of records that a batch gathers [default: 262144]
    #[arg(long, alias = "max-partition-memory-bytes")]
    pub batch_size: Option<usize>,
    /// How long a batch waits for more records [default: 5]
    #[arg(long, alias = "timeout")]
    pub linger_ms: Option<u64>,
    /// Write record by record, each acknowledged before the next is read
    #[arg(long)]
    pub sync: bool,
    /// Retries before a batch is given up; until delivery.timeout.ms when absent
    #[arg(long)]
    pub message_send_max_retries: Option<u32>,
    /// How long one request may take
    #[arg(long)]
    pub request_timeout_ms: Option<u64>,
    /// Pause before a retry
    #[arg(long)]
    pub retry_backoff_ms: Option<u64>,
    /// Bytes of records that may wait for their acknowledgement [default: 33554432]
    #[arg(long)]
    pub max_memory_bytes: Option<usize>,
    /// parse.key, parse.headers, key.separator, headers.delimiter, headers.separator,
    /// headers.key.separator, null.marker, ignore.error
    #[arg(long, alias = "property", value_name = "KEY=VALUE")]
    pub reader_property: Vec<String>,
    /// File of reader properties
    #[arg(long, value_name = "FILE")]
    pub reader_config: Option<PathBuf>,
    /// Taken for Kafka's sake; only its LineMessageReader
    #[arg(long, hide = true)]
    pub line_reader: Option<String>,
    /// How long to wait for the topic to be there, at most [default: 60000]
    #[arg(long)]
    pub max_block_ms: Option<u64>,
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
    pub metadata_expiry_ms: Option<u64>,
    /// Taken for Kafka's sake, without effect
    #[arg(long, hide = true)]
    pub socket_buffer_size: Option<u64>,
    /// No progress line
    #[arg(long, short)]
    pub quiet: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

impl ProduceArguments {
    /// Refuses what cannot be done, and names what has no effect.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if let Some(class) = self.line_reader.as_deref().filter(|class| !class.ends_with("LineMessageReader"))
        {
            return Err(CliError::Usage(format!(
                "--line-reader {class}: only LineMessageReader can be used"
            )));
        }
        if self.metadata_expiry_ms.is_some() {
            eprintln!(
                "warning: --metadata-expiry-ms has no effect: metadata is asked for when an answer says so"
            );
        }
        if self.socket_buffer_size.is_some() {
            eprintln!("warning: --socket-buffer-size has no effect: the system chooses it");
        }
        Ok(())
    }
}
