//! How the active controller looks after leaderships.

use crate::config::declaration::config;

config! {
    /// Which leaders are changed by the clock.
    pub struct BalancingConfig {
        /// Give leaderships back to preferred leaders that are in sync again.
        auto_rebalance: bool = "auto.leader.rebalance.enable", ReadOnly, Boolean, default true;
        /// How often that is looked at.
        check_interval_s: u64 =
            "leader.imbalance.check.interval.seconds", ReadOnly, Int(1, i32::MAX), default 300;
        /// How often partitions without a leader are looked at whose topic allows an unclean one.
        unclean_interval_ms: u64 =
            "unclean.leader.election.interval.ms", ReadOnly, Int(1, i32::MAX), default 300_000;
    }
}
