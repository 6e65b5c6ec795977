//! The end of a producer's transaction in a partition, as its coordinator has it written.

use crate::protocol::control::Marker;

/// A transaction that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub producer_id: i64,
    /// With transaction version 2, that which the producer goes on with; before, that of its batches.
    pub producer_epoch: i16,
    pub marker: Marker,
    /// `transaction.version` as the coordinator had it.
    pub transaction_version: i8,
}
