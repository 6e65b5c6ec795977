//! Keys of Kafka's topics that this broker knows and does not serve: whoever sets one to anything but its default is told
//! why that would have no effect.

use super::declaration::{BrokerDefault, TopicKey, Unit};
use crate::config::key::{Key, Kind};

const NO_TIERS: &str = "there is no tiered storage";
const NO_LOCAL_TIER: &str = "there is no tiered storage, so that retention.bytes and retention.ms say it all";
const NO_THROTTLE: &str = "replication is not throttled";

macro_rules! unserved {
    ($($(#[doc = $doc:literal])+ $key:literal, $kind:expr, default $default:literal, from [$($broker_key:literal)?], $why:expr;)+) => {
        /// The rows.
        pub(super) const KEYS: &[TopicKey] = &[$(TopicKey {
            key: Key {
                name: $key,
                kind: $kind,
                default: Some(concat!($default)),
                doc: concat!($($doc),+).trim_ascii_start(),
            },
            broker_keys: &[
                $(BrokerDefault { name: $broker_key, unit: Unit::Same, default: Some(concat!($default)) })?
            ],
            check: |key, text| key.check(text),
            unserved: Some($why),
        }),+];
    };
}

unserved! {
    /// Replicas whose following is throttled.
    "follower.replication.throttled.replicas", Kind::List(&[]), default "", from [], NO_THROTTLE;
    /// Replicas whose leading is throttled.
    "leader.replication.throttled.replicas", Kind::List(&[]), default "", from [], NO_THROTTLE;
    /// Bytes kept on this disk with tiered storage.
    "local.retention.bytes", Kind::Long(-2, i64::MAX), default -2, from ["log.local.retention.bytes"], NO_LOCAL_TIER;
    /// Time kept on this disk with tiered storage.
    "local.retention.ms", Kind::Long(-2, i64::MAX), default -2, from ["log.local.retention.ms"], NO_LOCAL_TIER;
    /// Allocate a segment's file at its full size when it is created.
    "preallocate", Kind::Boolean, default false, from ["log.preallocate"], "segments grow as records come";
    /// With tiered storage: stop copying to it.
    "remote.log.copy.disable", Kind::Boolean, default false, from [], NO_TIERS;
    /// With tiered storage: delete what is there once it is disabled.
    "remote.log.delete.on.disable", Kind::Boolean, default false, from [], NO_TIERS;
    /// Tiered storage.
    "remote.storage.enable", Kind::Boolean, default false, from [],
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
}
