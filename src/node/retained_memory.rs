//! When to have the allocator give freed memory back to the system.
//!
//! glibc keeps what was freed for what comes next: each thread's arena shrinks only from its end, and every large block that
//! is freed lifts the size (to 32 MiB) from which blocks are mapped on their own. So after a burst of large requests
//! most of it stayed resident (567 MB were seen). A lower limit for mapped blocks would cost every large request
//! its page faults; `malloc_trim` costs only when it is called, and gives back whole pages in the middle of arenas, too.

use std::sync::Arc;
use std::time::Duration;

use crate::env::real::process;
use crate::server::Broker;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Growth that is let be.
const GROWTH_BYTES: u64 = 32 * 1024 * 1024;

/// Most looks that are left out while there is nothing to be had.
const SKIPS_MAX: u32 = 64;

/// Looks at the memory of this process, which is that of the broker. Never ends.
pub(super) async fn watch(broker: &Arc<Broker>) {
    let mut retained = Retained::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(before_bytes) = process::resident_bytes() else { continue };
        if !retained.look(before_bytes, broker.request_memory.held_bytes() as u64) {
            continue;
        }
        if broker.surroundings.blocking.run(process::give_back_memory).await.is_ok() {
            let after_bytes = process::resident_bytes().unwrap_or(before_bytes);
            tracing::debug!(before_bytes, after_bytes, "gave freed memory back to the system");
            retained.given_back(before_bytes, after_bytes);
        }
    }
}

/// What was seen before.
#[derive(Debug, Default)]
struct Retained {
    /// The least that was resident.
    floor_bytes: Option<u64>,
    /// What requests held at the last look.
    held_bytes: u64,
    skips_left: u32,
    skips: u32,
}

impl Retained {
    /// Whether memory should be given back now, with so many bytes resident, and so many of them held by requests.
    fn look(&mut self, resident_bytes: u64, held_bytes: u64) -> bool {
        let floor_bytes = self.floor_bytes.map_or(resident_bytes, |floor| floor.min(resident_bytes));
        self.floor_bytes = Some(floor_bytes);
        // A burst has ended: what was of no use before is worth a try.
        if held_bytes + GROWTH_BYTES / 2 < self.held_bytes {
            (self.skips, self.skips_left) = (0, 0);
        }
        self.held_bytes = held_bytes;
        if resident_bytes <= floor_bytes + GROWTH_BYTES {
            (self.skips, self.skips_left) = (0, 0);
            return false;
        }
        self.skips_left = match self.skips_left.checked_sub(1) {
            Some(left) => {
                self.skips_left = left;
                return false;
            }
            None => 0,
        };
        true
    }

    /// What came of it.
    fn given_back(&mut self, before_bytes: u64, after_bytes: u64) {
        let is_much = before_bytes.saturating_sub(after_bytes) > GROWTH_BYTES / 4;
        self.skips = if is_much { 0 } else { (self.skips * 2).clamp(1, SKIPS_MAX) };
        self.skips_left = self.skips;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn memory_is_given_back_after_a_burst_and_not_asked_for_in_vain_all_the_time() {
        let mut retained = Retained::default();
        assert!(!retained.look(40 * MIB, 0));
        assert!(!retained.look(60 * MIB, 10 * MIB));
        // In the burst, all is in use.
        let mut tried = 0;
        for _ in 0..200 {
            if retained.look(500 * MIB, 250 * MIB) {
                tried += 1;
                retained.given_back(500 * MIB, 499 * MIB);
            }
        }
        assert!((2..10).contains(&tried), "{tried}");
        // It ends.
        assert!(retained.look(500 * MIB, 0));
        retained.given_back(500 * MIB, 45 * MIB);
        assert!(!retained.look(45 * MIB, 0));
    }
}
