//! The names that Kafka's brokers know, to tell a key that has no meaning here from a mistyped one.

/// All broker keys of Kafka 4.3.
static BROKER_KEYS: &str = include_str!("kafka_names.txt");

/// Keys that Kafka had before 4.0.
const EARLIER_KEYS: &[&str] = &[
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "delegation.token.master.key",
    "inter.broker.protocol.version",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "reserved.broker.max.id",
];

/// Beginnings of keys that Kafka hands on to plugins or listeners (`listener.name.external.ssl.key.password`).
const PREFIXES: &[&str] =
    &["listener.name.", "metrics.context.", "password.encoder.", "rlmm.config.", "rsm.config.", "zookeeper."];

/// Keys of Kafka's authorizer, which the broker hands on to it.
const AUTHORIZER_KEYS: &[&str] = &["allow.everyone.if.no.acl.found", "super.users"];

/// All broker keys of Kafka 4.3.
pub fn broker_keys() -> impl Iterator<Item = &'static str> {
    BROKER_KEYS.lines()
}

/// True for the keys of Kafka's brokers and of what they hand on.
pub fn has(name: &str) -> bool {
    broker_keys().any(|known| known == name)
        || EARLIER_KEYS.contains(&name)
        || AUTHORIZER_KEYS.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
