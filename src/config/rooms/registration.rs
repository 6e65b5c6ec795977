//! How a broker registers with the active controller, and is known to live.

use crate::config::declaration::config;

config! {
    /// Registration, heartbeats and sessions of brokers.
    pub struct RegistrationConfig {
        /// How often a broker tells the active controller that it lives. (Kafka's default is 2000.)
        heartbeat_interval_ms: u64 =
            "broker.heartbeat.interval.ms", ReadOnly, Int(10, i32::MAX), default 500;
        /// How long a broker may be silent before it is fenced; one whose process has ended is fenced at once. (Kafka's
        /// default is 9000.)
        session_timeout_ms: u64 = "broker.session.timeout.ms", ReadOnly, Int(100, i32::MAX), default 3000;
        /// Give away what this broker leads before it stops.
        controlled_shutdown: bool = "controlled.shutdown.enable", ReadOnly, Boolean, default true;
        /// How long a broker that starts tries to register with the active controller.
        timeout_ms: u64 = "initial.broker.registration.timeout.ms", ReadOnly, Int(1, i32::MAX), default 60_000;
    }
}
