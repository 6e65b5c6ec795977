//! What the listener and the sockets of clients are told.

use std::net::IpAddr;

use crate::config::declaration::{Value, config};
use crate::config::key::{self, ConfigError, Key};

config! {
    /// Limits of connections, and the options of their sockets.
    pub struct ConnectionsConfig {
        /// Most connections at a time.
        max: usize = "max.connections", ClusterWide, Int(0, i32::MAX), default 2147483647;
        /// Most connections at a time from one address.
        max_per_ip: usize = "max.connections.per.ip", ClusterWide, Int(0, i32::MAX), default 2147483647;
        /// Other limits for some addresses, as in `10.0.0.1:100,::1:5`. (Kafka takes host names, too.)
        max_per_ip_overrides: AddressLimits = "max.connections.per.ip.overrides", ClusterWide, Text, default "";
        /// Most new connections in a second, over ten seconds; those beyond wait.
        max_creation_rate: i32 =
            "max.connection.creation.rate", ClusterWide, Int(0, i32::MAX), default 2147483647;
        /// Idle time after which a connection is closed.
        max_idle_ms: i64 = "connections.max.idle.ms", ReadOnly, Long(-1, i64::MAX), default 600_000;
        /// Connections that wait to be accepted. (Kafka's default is 50, which drops some when thousands come at once.)
        backlog: i32 = "socket.listen.backlog.size", ReadOnly, Int(1, i32::MAX), default 1024;
        /// Receive buffer of a connection; -1 lets the kernel tune it. (Kafka's default is 102400.)
        receive_buffer_bytes: Option<usize> =
            "socket.receive.buffer.bytes", ReadOnly, Int(-1, i32::MAX), default -1, via above_zero;
        /// Send buffer of a connection; -1 lets the kernel tune it. (Kafka's default is 102400.)
        send_buffer_bytes: Option<usize> =
            "socket.send.buffer.bytes", ReadOnly, Int(-1, i32::MAX), default -1, via above_zero;
    }
}

fn above_zero(bytes: i32) -> Option<usize> {
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

/// Numbers of connections by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLimits(pub Vec<(IpAddr, usize)>);

impl Value for AddressLimits {
    /// Reads `10.0.0.1:100,::1:5`.
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        let read = |entry: &str| {
            let (address, count) = entry.rsplit_once(':')?;
            let address = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()?;
            let count = count.trim().parse::<i32>().ok()?;
            Some((address.to_canonical(), usize::try_from(count).ok()?))
        };
        let wrong = |entry| key.invalid(entry, "expected an address and a number, such as 10.0.0.1:100");
        let limits = key::list(text).map(|entry| read(entry).ok_or_else(|| wrong(entry)));
        limits.collect::<Result<_, _>>().map(Self)
    }
}
