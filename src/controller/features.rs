//! Decisions about the levels of features (KIP-584): up, down, and off.
//!
//! A level is taken only where the software of every registered broker has it, so that an upgrade of the cluster's nodes one
//! after the other is finished by one of the features.

use kafka_protocol::ResponseError;

use super::partition_change::MIN_INSYNC_REPLICAS;
use super::request::{FeatureChange, FeatureUpdate, UpdateFeatures};
use super::{ControllerError, Decider, Decision};
use crate::metadata::{
    ConfigResource, ConfigResourceType, ELIGIBLE_LEADER_REPLICAS_FEATURE, Feature, Levels, MetadataRecord,
    PartitionChange,
};

/// Kafka's words for what is wrong with an update.
fn invalid(update: &FeatureUpdate, why: &str) -> ControllerError {
    let FeatureUpdate { name, level, .. } = update;
    let message = format!("Invalid update version {level} for feature {name}. {why}");
    ControllerError::new(ResponseError::InvalidUpdateVersion, message)
}

/// Why somebody cannot be at a level, if so.
fn unsupported(who: &str, level: i16, levels: Option<Levels>) -> Option<String> {
    match levels {
        Some(levels) if (levels.min..=levels.max).contains(&level) => None,
        None if level == 0 => None,
        None | Some(Levels { max: 0, .. }) => Some(format!("{who} does not support this feature.")),
        Some(Levels { min, max }) if min == max => Some(format!("{who} only supports versions {min}")),
        Some(Levels { min, max }) => Some(format!("{who} only supports versions {min}-{max}")),
    }
}

impl Decider<'_> {
    /// Brings features to other levels, all or none.
    pub fn update_features(&mut self, request: &UpdateFeatures) -> Decision<Result<(), ControllerError>> {
        let (mut effects, mut levels) = (Vec::new(), Vec::new());
        for update in &request.updates {
            if let Err(error) = self.check_update(update) {
                return Decision::new(Vec::new(), Err(error));
            }
            if self.image.feature_level(&update.name) == update.level {
                continue;
            }
            if update.name == ELIGIBLE_LEADER_REPLICAS_FEATURE {
                match update.level {
                    0 => match self.forget_eligible(update) {
                        Ok(records) => effects.extend(records),
                        Err(error) => return Decision::new(Vec::new(), Err(error)),
                    },
                    _ => effects.extend(self.min_insync_replicas_of_cluster()),
                }
            }
            let (name, level) = (update.name.clone(), update.level);
            levels.push(MetadataRecord::FeatureLevel { name, level });
        }
        // The levels last: what they need is done then, even if it went out in several batches.
        effects.extend(levels);
        let records = if request.validate_only { Vec::new() } else { effects };
        Decision { records, response: Ok(()), is_atomic: false }
    }

    fn check_update(&self, update: &FeatureUpdate) -> Result<(), ControllerError> {
        let Some(change) = update.change else {
            return Err(invalid(update, "The controller does not support the given upgrade type."));
        };
        if update.level < 0 {
            return Err(invalid(update, "A feature version cannot be less than 0."));
        }
        let own = Feature::supported().get(&update.name).copied();
        if let Some(why) = unsupported("The active controller", update.level, own) {
            return Err(invalid(update, &why));
        }
        let is_new = self.image.feature_level(&update.name) != update.level;
        for broker in self.image.brokers().values().filter(|_| is_new) {
            let who = format!("Broker {}", broker.id);
            if let Some(why) = unsupported(&who, update.level, broker.features.get(&update.name).copied()) {
                return Err(invalid(update, &why));
            }
        }
        let is_up = change == FeatureChange::Upgrade;
        match update.level.cmp(&self.image.feature_level(&update.name)) {
            std::cmp::Ordering::Less if is_up => Err(invalid(
                update,
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                 unsafe downgrade.",
            )),
            std::cmp::Ordering::Greater if !is_up => {
                Err(invalid(update, "Can't downgrade to a newer version."))
            }
            _ => Ok(()),
        }
    }

    /// What eligible leader replicas depend on is set for the whole cluster, as Kafka does it.
    fn min_insync_replicas_of_cluster(&self) -> Option<MetadataRecord> {
        let resource = ConfigResource::all_brokers();
        let is_set =
            self.image.configs(&resource).is_some_and(|configs| configs.contains_key(MIN_INSYNC_REPLICAS));
        let default = (self.config.schema.default)(ConfigResourceType::Topic, MIN_INSYNC_REPLICAS);
        let value = default.unwrap_or_else(|| "1".to_owned());
        let key = MIN_INSYNC_REPLICAS.to_owned();
        (!is_set).then_some(MetadataRecord::Config { resource, key, value: Some(value) })
    }

    /// Nobody is remembered as eligible any more. Where nobody is in sync they are all that a partition has.
    fn forget_eligible(&self, update: &FeatureUpdate) -> Result<Vec<MetadataRecord>, ControllerError> {
        let mut records = Vec::new();
        for topic in self.image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let (eligible, last_known) =
                    (&partition.eligible_leader_replicas, &partition.last_known_eligible_leader_replicas);
                if partition.isr.is_empty() {
                    let why = format!(
                        "Partition {}-{index} has no replica in sync, and only the eligible ones ({eligible:?}) can \
                         lead it: start their brokers first.",
                        topic.name
                    );
                    return Err(invalid(update, &why));
                }
                if eligible.is_empty() && last_known.is_empty() {
                    continue;
                }
                let emptied = |list: &Vec<_>| (!list.is_empty()).then(Vec::new);
                records.push(MetadataRecord::PartitionChange(PartitionChange {
                    eligible_leader_replicas: emptied(eligible),
                    last_known_eligible_leader_replicas: emptied(last_known),
                    ..PartitionChange::of(topic.id, index)
                }));
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{World, registration};
    use super::*;

    fn update(name: &str, level: i16, change: FeatureChange) -> UpdateFeatures {
        let updates = vec![FeatureUpdate { name: name.to_owned(), level, change: Some(change) }];
        UpdateFeatures { updates, validate_only: false }
    }

    #[test]
    fn a_feature_goes_up_and_down_between_the_levels_that_all_brokers_have() {
        use FeatureChange::{SafeDowngrade, Upgrade};
        const ELR: &str = ELIGIBLE_LEADER_REPLICAS_FEATURE;
        let mut world = World::default();
        let known = |features| crate::controller::BrokerRegistration { features, ..registration(1, 1, None) };
        world.decide(|decider| decider.register_broker(&known(Default::default()))).unwrap();
        let mut message = |request: UpdateFeatures| {
            world.decide(|decider| decider.update_features(&request)).map_err(|error| error.message)
        };
        let refused = |level, name: &str, why: &str| {
            Err(format!("Invalid update version {level} for feature {name}. {why}"))
        };
        assert_eq!(
            message(update(ELR, 1, Upgrade)),
            refused(1, ELR, "Broker 1 does not support this feature.")
        );
        assert_eq!(
            message(update(ELR, 2, Upgrade)),
            refused(2, ELR, "The active controller only supports versions 0-1")
        );
        assert_eq!(
            message(update("unheard.of", 1, Upgrade)),
            refused(1, "unheard.of", "The active controller does not support this feature.")
        );
        let newer = crate::controller::BrokerRegistration {
            features: Feature::supported(),
            ..registration(1, 2, None)
        };
        world.decide(|decider| decider.register_broker(&newer)).unwrap();
        let mut decide = |request: UpdateFeatures| {
            world.decide(|decider| decider.update_features(&request)).map_err(|error| error.message)
        };
        assert_eq!(
            decide(update(ELR, 1, SafeDowngrade)),
            refused(1, ELR, "Can't downgrade to a newer version.")
        );
        let dry = UpdateFeatures { validate_only: true, ..update(ELR, 1, Upgrade) };
        assert_eq!(decide(dry), Ok(()));
        assert_eq!(decide(update(ELR, 1, Upgrade)), Ok(()));
        assert_eq!(decide(update(ELR, 1, Upgrade)), Ok(()), "and once more");
        assert!(decide(update(ELR, 0, Upgrade)).unwrap_err().contains("without setting the upgrade type"));
        assert_eq!(world.image.feature_level(ELR), 1);
        let of_cluster = world.image.configs(&ConfigResource::all_brokers()).cloned().unwrap_or_default();
        assert!(of_cluster.contains_key(MIN_INSYNC_REPLICAS), "{of_cluster:?}");
        world.decide(|decider| decider.update_features(&update(ELR, 0, SafeDowngrade))).unwrap();
        assert_eq!(world.image.feature_level(ELR), 0);
    }
}
