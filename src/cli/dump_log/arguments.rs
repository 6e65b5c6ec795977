//! The arguments of `raftsman dump-log`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `raftsman dump-log`.
#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman dump-log --files data/orders-0/00000000000000000000.log --print-data-log
  raftsman dump-log --files data/orders-0                 all files of a partition
  raftsman dump-log --files data/__consumer_offsets-7 --offsets-decoder
  raftsman dump-log --files data/__cluster_metadata --cluster-metadata-decoder
  raftsman dump-log --files data --verify                 check a whole data directory"
)]
pub struct DumpLogArguments {
    /// .log, .index, .timeindex, .txnindex, .journal and .snapshot files, or folders of them: file1,file2
    #[arg(long, value_name = "FILE,…", value_delimiter = ',', required = true)]
    pub files: Vec<PathBuf>,
    /// Print the records of each batch
    #[arg(long)]
    pub deep_iteration: bool,
    /// Print the records with their keys and values
    #[arg(long)]
    pub print_data_log: bool,
    /// With --print-data-log: only keys and values
    #[arg(long)]
    pub skip_record_metadata: bool,
    /// Check checksums, offsets and index entries; exit code 1 on damage
    #[arg(long)]
    pub verify: bool,
    /// Check indexes against their logs, printing nothing else
    #[arg(long)]
    pub verify_index_only: bool,
    /// Check of indexes only that they are sound by themselves, without printing their entries
    #[arg(long)]
    pub index_sanity_check: bool,
    /// Print records of __consumer_offsets by what they mean
    #[arg(long, group = "decoder")]
    pub offsets_decoder: bool,
    /// Print the metadata that the broker keeps in __cluster_metadata
    #[arg(long, group = "decoder")]
    pub cluster_metadata_decoder: bool,
    /// What keys are: StringDecoder, IntegerDecoder, LongDecoder
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "StringDecoder",
        conflicts_with = "decoder")]
    pub key_decoder_class: Option<String>,
    /// What values are
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "StringDecoder",
        conflicts_with = "decoder")]
    pub value_decoder_class: Option<String>,
    #[arg(long, hide = true)]
    pub transaction_log_decoder: bool,
    #[arg(long, hide = true)]
    pub share_group_state_decoder: bool,
    #[arg(long, hide = true)]
    pub remote_log_metadata_decoder: bool,
    /// Read at most so many bytes of each .log
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<u64>,
    /// Taken for Kafka's sake, without effect: batches may be as large as their file
    #[arg(long, hide = true)]
    pub max_message_size: Option<u64>,
    /// One JSON object per batch, entry or checked file
    #[arg(long)]
    pub json: bool,
}

impl DumpLogArguments {
    /// Whether what records hold is printed: as with Kafka's tool, naming a decoder asks for it.
    pub(super) fn shows_data(&self) -> bool {
        self.print_data_log
            || self.offsets_decoder
            || self.cluster_metadata_decoder
            || self.key_decoder_class.is_some()
            || self.value_decoder_class.is_some()
    }
}
