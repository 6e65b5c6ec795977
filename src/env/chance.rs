//! The port to randomness.

use std::fmt::Debug;
use std::time::Duration;

use uuid::Uuid;

use crate::types::{TopicId, uuid_to_base64};

/// Where everything comes from that is left to chance: ids, placements, jitter, seeds of hashes. Real randomness cannot
/// be guessed; a simulation's comes from its seed.
pub trait Chance: Send + Sync + Debug {
    /// Any number, each as likely as the next.
    fn next_u64(&self) -> u64;

    /// A number below `bound`; 0 for a bound of 0.
    fn below(&self, bound: usize) -> usize {
        // The product's upper half is as even as 64 bits allow, and needs no division.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Any duration up to `most`.
    fn up_to(&self, most: Duration) -> Duration {
        let nanoseconds = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(self.next_u64()) * u128::from(nanoseconds)) >> 64) as u64)
    }

    /// A random id (version 4).
    fn uuid(&self) -> Uuid {
        let (high, low) = (self.next_u64().to_be_bytes(), self.next_u64().to_be_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A random id as Kafka makes them: never one whose text starts with a dash (it would look like a
    /// command-line flag), never one of the reserved low values (which a version 4 cannot be).
    fn kafka_uuid(&self) -> Uuid {
        loop {
            let id = self.uuid();
            if !uuid_to_base64(id).starts_with('-') {
                return id;
            }
        }
    }

    /// An id that no topic has had.
    fn topic_id(&self) -> TopicId {
        TopicId(self.kafka_uuid())
    }
}
