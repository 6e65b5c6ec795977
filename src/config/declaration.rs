//! How a key is declared: once, as a row of [`config!`], which is at the same time the field that it is read into.
//!
//! ```text
//! config! {
//!     /// What the struct holds.
//!     pub struct ConnectionsConfig {
//!         /// The sentence for people, of the field as of docs/configuration.md.
//!         max: usize = "max.connections", ClusterWide, Int(0, i32::MAX), default 2_147_483_647;
//!     }
//! }
//! ```
//!
//! A row is: meaning, field, the type that it is read into ([`Value`]), Kafka's name, how it may be changed
//! ([`UpdateMode`]), type and range ([`Kind`](super::key::Kind)), the default (none: the field is an `Option`), and with `via` a function
//! for what is kept otherwise than it is written. A value that does not fit the field is refused where it is set.
//! `ConnectionsConfig::max` is the row itself, for code that has to name a key.

use std::path::PathBuf;

use super::key::{self, ConfigError, Key};

/// How a key may be changed while brokers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateMode {
    /// In `server.properties`, with a restart.
    ReadOnly,
    /// On one broker or for all of them.
    ClusterWide,
}

/// A key of `server.properties`.
#[derive(Clone, Copy, Debug)]
pub struct BrokerKey {
    pub key: Key,
    pub update_mode: UpdateMode,
    pub check: Check,
}

/// Whether a value is one of the key, and fits the field that it is read into.
pub type Check = fn(&Key, &str) -> Result<(), ConfigError>;

/// What a key's value is read into.
pub trait Value: Sized {
    /// Reads what somebody wrote, or the default.
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError>;

    /// Without a value and a default.
    fn unset(key: &Key) -> Result<Self, ConfigError> {
        Err(ConfigError::Refused(format!("{} is not set, and has no default", key.name)))
    }

    /// Reads what is set, or the default.
    fn read_or_default(key: &Key, text: Option<&str>) -> Result<Self, ConfigError> {
        text.or(key.default).map_or_else(|| Self::unset(key), |text| Self::read(key, text.trim()))
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
                key.check(text)?;
                text.parse().map_err(|_| key.invalid(text, "it is out of range"))
            }
        }
    )+};
}

numbers!(i16, i32, i64, u32, u64, usize, f64);

impl Value for bool {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        Ok(text.eq_ignore_ascii_case("true"))
    }
}

impl Value for String {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        String::read(key, text).map(Self::from)
    }
}

/// A list of words.
impl Value for Vec<String> {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        Ok(key::list(text).map(str::to_owned).collect())
    }
}

/// Of a key without a default.
impl<T: Value> Value for Option<T> {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        T::read(key, text).map(Some)
    }

    fn unset(_: &Key) -> Result<Self, ConfigError> {
        Ok(None)
    }
}

/// Declares keys of `server.properties` and the struct that holds their values: see the head of the module.
macro_rules! config {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $key:literal, $update_mode:ident, $kind:expr
                    $(, default $default:literal)? $(, via $via:path)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        /// The rows.
        #[allow(non_upper_case_globals)]
        impl $name {
            $(
                pub const $field: $crate::config::declaration::BrokerKey = $crate::config::declaration::BrokerKey {
                    key: $crate::config::key::Key {
                        name: $key,
                        kind: {
                            #[allow(unused_imports)]
                            use $crate::config::key::Kind::*;
                            $kind
                        },
                        default: $crate::config::declaration::config!(@default $($default)?),
                        doc: concat!($($doc),+).trim_ascii_start(),
                    },
                    update_mode: $crate::config::declaration::UpdateMode::$update_mode,
                    check: |key, text| {
                        let _: $type = $crate::config::declaration::config!(@read key, Some(text) $(, $via)?);
                        Ok(())
                    },
                };
            )+

            pub(in crate::config) const KEYS: &'static [$crate::config::declaration::BrokerKey] =
                &[$(Self::$field),+];

            /// Reads what is set, or the defaults.
            pub(in crate::config) fn read(
                values: &$crate::config::values::BrokerValues,
            ) -> Result<Self, $crate::config::key::ConfigError> {
                Ok(Self {
                    $($field: {
                        let key = &Self::$field.key;
                        let text = values.get(key.name).map(|(text, _)| text);
                        $crate::config::declaration::config!(@read key, text $(, $via)?)
                    },)+
                })
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some(concat!($default)) };
    (@read $key:expr, $text:expr) => {
        $crate::config::declaration::Value::read_or_default($key, $text)?
    };
    (@read $key:expr, $text:expr, $via:path) => {
        $via($crate::config::declaration::config!(@read $key, $text))
    };
}

pub(in crate::config) use config;
