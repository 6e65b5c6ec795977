//! What happened in a run, as a hash: two runs of one seed are the same exactly when their hashes are.
//!
//! Every change of a disk, every arrival on the network, every start and end of a process and all that the
//! clients saw goes in, with its time and its node. They can be written down as well
//! ([`Trace::write_to`]), so that two runs that should be the same and are not can be compared line by line.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Clones are the same trace.
#[derive(Clone, Default)]
pub struct Trace {
    now_ms: Arc<AtomicU64>,
    running: Arc<AtomicU32>,
    events: Arc<Mutex<Events>>,
}

#[derive(Default)]
struct Events {
    /// Keyed by zeros: the same in every process.
    hasher: DefaultHasher,
    count: u64,
    out: Option<Box<dyn Write + Send>>,
}

impl Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Trace({:016x})", self.hash())
    }
}

impl Trace {
    /// Writes every event down there as well, a line each.
    pub fn write_to(&self, out: Box<dyn Write + Send>) {
        self.events.lock().out = Some(out);
    }

    /// Virtual time since the run began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_now(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The machine that is driven now; 0 for none.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn set_running(&self, machine: u32) {
        self.running.store(machine, Ordering::Relaxed);
    }

    /// Takes an event down.
    pub fn note(&self, node: u32, event: &(impl Hash + Debug)) {
        let now_ms = self.now_ms();
        let mut events = self.events.lock();
        events.count += 1;
        (now_ms, node).hash(&mut events.hasher);
        event.hash(&mut events.hasher);
        if let Some(out) = &mut events.out {
            // A trace that cannot be written is missed by whoever asked for it, and by nobody else.
            let _ = writeln!(out, "{now_ms} {node} {event:?}");
        }
    }

    pub fn count(&self) -> u64 {
        self.events.lock().count
    }

    pub fn hash(&self) -> u64 {
        self.events.lock().hasher.finish()
    }

    /// Has all be written that was handed to [`Trace::write_to`].
    pub fn flush(&self) {
        if let Some(out) = &mut self.events.lock().out {
            let _ = out.flush();
        }
    }
}

/// Bytes in short, for an event.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
