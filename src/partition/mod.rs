//! One replica of a partition: who leads it, what may be read of it, who waits for it.
//!
//! * [`replica`]: the pure part: leadership, in-sync replicas, the high watermark.
//! * [`checks`]: what a leader demands of a batch before it takes it.
//! * [`following`]: what a follower appends and cuts.
//! * [`lease`]: until when this broker may lead what others hold, too.
//! * [`gathering`]: which partitions have something to ask the controller, or are to be handed over.
//! * [`handing_over`]: how a leader stops in favour of another replica that has all that it has.
//! * [`waiting`]: fetches that wait for bytes and produces that wait for replicas.
//! * [`syncing`]: one `fdatasync` for all who wait for one.
//! * [`cleaning`]: which log is compacted next, and how fast.
//! * [`manager`]: all partitions of this node, following the metadata image.
//! * [`offline`]: those whose log cannot be opened.
//!
//! Invariants: the high watermark never falls while a leader leads, and never passes the log end of
//! an in-sync replica. A record is answered with acks=all only below the high watermark; consumers
//! read only below it. Where the topic asks for a sync before each acknowledgement
//! (`flush.messages=1`), the high watermark never passes what is synced.

pub mod checks;
pub mod cleaning;
pub mod following;
pub mod gathering;
pub mod handing_over;
pub mod lease;
pub mod manager;
#[cfg(test)]
mod manager_tests;
pub mod offline;
pub mod replica;
mod replica_partition;
#[cfg(test)]
mod replication_model;
pub mod syncing;
#[cfg(test)]
pub(crate) mod test_setup;
#[cfg(test)]
mod tests;
pub mod transactions;
pub mod waiting;

pub use manager::{PartitionManager, Topic, Traffic};
pub use offline::Absent;
pub use replica_partition::{
    Appending, DeleteRecordsError, FetchError, FetchView, Partition, ProduceError, Produced, ReadBound,
};
pub use syncing::Work;
