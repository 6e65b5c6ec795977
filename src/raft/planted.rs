//! Bugs that tests plant, to see that they would be noticed: each takes away one thing that holds the quorum
//! together. Outside of tests there are none.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// Records take effect whatever they were decided on.
    NoFence,
    /// Neither that, nor does the image refuse to give the same producer ids away again.
    SameProducerIds,
    /// A new leader decides at once.
    NoBarrier,
    /// The log is purged before the snapshot is on the disk.
    EarlyPurge,
    /// A file of the log is not synced before the next one follows it.
    UnsyncedFile,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// True when a test has planted this bug.
#[cfg(test)]
pub(super) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(test))]
pub(super) const fn is_planted(_: Bug) -> bool {
    false
}

/// Plants a bug on this thread, or with `None` takes it away.
#[cfg(test)]
pub(super) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
