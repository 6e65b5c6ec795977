//! What is configured while the broker runs: values that the metadata holds for this broker or for all of
//! them, and what they change. Also the controller's view of the configuration keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::values::Set;
use crate::config::{BrokerConfig, ConfigError, broker_keys, group, topic};
use crate::controller::ConfigSchema;
use crate::metadata::{ConfigResource, ConfigResourceType, MetadataDelta, MetadataImage};
use crate::types::NodeId;

/// What the controller checks configurations with.
pub const SCHEMA: ConfigSchema = ConfigSchema { validate, is_list, default };

fn validate(kind: ConfigResourceType, set: &BTreeMap<String, String>) -> Result<(), String> {
    match kind {
        ConfigResourceType::Topic => topic::validate_all(set),
        ConfigResourceType::Broker => broker_keys::check_dynamic(set),
        ConfigResourceType::Group => group::validate_all(set),
        ConfigResourceType::ClientMetrics => {
            Err("client metrics are not served: this broker takes no telemetry of clients (KIP-714)"
                .to_owned())
        }
        ConfigResourceType::BrokerLogger => Err("loggers are a broker's own".to_owned()),
    }
}

fn is_list(kind: ConfigResourceType, name: &str) -> bool {
    match kind {
        ConfigResourceType::Topic => {
            topic::find(name).is_some_and(|entry| matches!(entry.key.kind, crate::config::Kind::List(_)))
        }
        ConfigResourceType::Broker => broker_keys::is_list(name),
        _ => false,
    }
}

fn default(kind: ConfigResourceType, name: &str) -> Option<String> {
    let key = match kind {
        ConfigResourceType::Topic => topic::find(name)?.key,
        ConfigResourceType::Broker => broker_keys::find(name)?.key,
        _ => return None,
    };
    key.default.map(str::to_owned)
}

/// The configurations that the image holds for a resource.
pub fn of_image(image: &MetadataImage, resource: &ConfigResource) -> Set {
    let configs = image.configs(resource).into_iter().flatten();
    configs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The broker's configuration as it is now.
#[derive(Clone, Debug)]
pub struct DynamicConfig {
    node: NodeId,
    current: Arc<ArcSwap<BrokerConfig>>,
    changed: Arc<watch::Sender<()>>,
}

impl DynamicConfig {
    /// The file's values, with what the image holds beside them.
    pub fn new(node: NodeId, config: &BrokerConfig, image: &MetadataImage) -> Self {
        let current = Arc::new(ArcSwap::from_pointee(config.clone()));
        let dynamic = Self { node, current, changed: Arc::new(watch::Sender::new(())) };
        dynamic.load(image);
        dynamic
    }

    /// What counts now.
    pub fn current(&self) -> arc_swap::Guard<Arc<BrokerConfig>> {
        self.current.load()
    }

    /// The same for those who look at it themselves.
    pub fn shared(&self) -> Arc<ArcSwap<BrokerConfig>> {
        self.current.clone()
    }

    /// For those who wait for it to change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows a change of the metadata; true when it concerns this broker. Once all who do not look for themselves
    /// have followed it too, [`Self::tell_changed`] tells those who wait.
    pub fn apply(&self, image: &MetadataImage, delta: &MetadataDelta) -> bool {
        let own = [ConfigResource::all_brokers(), ConfigResource::broker(self.node)];
        let is_concerned = own.iter().any(|resource| delta.configs_changed.contains(resource));
        if is_concerned {
            self.load(image);
        }
        is_concerned
    }

    /// Wakes those who wait in [`Self::changes`].
    pub fn tell_changed(&self) {
        self.changed.send_replace(());
    }

    fn load(&self, image: &MetadataImage) {
        match self.read(image) {
            Ok(config) => self.current.store(Arc::new(config)),
            // The controller checked it, perhaps that of another version.
            Err(error) => {
                tracing::error!(%error, "the configuration of the metadata does not fit; the earlier one stays")
            }
        }
    }

    fn read(&self, image: &MetadataImage) -> Result<BrokerConfig, ConfigError> {
        let mut of_all = of_image(image, &ConfigResource::all_brokers());
        let mut own = of_image(image, &ConfigResource::broker(self.node));
        for set in [&mut of_all, &mut own] {
            // A version that knew more may have left values that this one cannot use.
            set.retain(|name, value| {
                let checked = broker_keys::check_dynamic(&Set::from([(name.clone(), value.clone())]));
                if let Err(reason) = &checked {
                    tracing::warn!(key = %name, %reason, "a configuration of the metadata is left out");
                }
                checked.is_ok()
            });
        }
        self.current().with_dynamic(of_all, own)
    }
}
