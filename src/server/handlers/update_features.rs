//! UpdateFeatures (key 57, KIP-584): features of the cluster go to other levels, all that are named or none.

use std::sync::Arc;

use crate::controller::{FeatureChange, FeatureUpdate, UpdateFeatures};
use crate::protocol::guard::shapes;
use crate::protocol::messages::update_features_response::UpdatableFeatureResult;
use crate::protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::UPDATE_FEATURES,
    versions: 0..=2,
    notes: &[
        (1, "what kind of change, and whether to try only"),
        (2, "no results for each feature: all change, or none"),
    ],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<UpdateFeaturesRequest>(),
};

error_codes!(UpdateFeaturesResponse: []);

/// The first version that says what kind of change is meant.
const HAS_KIND: i16 = 1;
/// The last version with a result for each feature.
const LAST_WITH_RESULTS: i16 = 1;

impl Answered for UpdateFeaturesRequest {
    type Response = UpdateFeaturesResponse;

    fn error_response(&self, _: i16, error: &WireError) -> UpdateFeaturesResponse {
        UpdateFeaturesResponse::default().with_error_code(error.number()).with_error_message(error.text())
    }
}

impl AnswerLater for UpdateFeaturesRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> UpdateFeaturesResponse {
        let updates = self.feature_updates.iter().map(|update| FeatureUpdate {
            name: update.feature.to_string(),
            level: update.max_version_level,
            change: match (request.version >= HAS_KIND, update.allow_downgrade) {
                (true, _) => FeatureChange::from_number(update.upgrade_type),
                (false, true) => Some(FeatureChange::SafeDowngrade),
                (false, false) => Some(FeatureChange::Upgrade),
            },
        });
        let asked = UpdateFeatures { updates: updates.collect(), validate_only: self.validate_only };
        match broker.controller.within_ms(self.timeout_ms).update_features(asked).await {
            Ok(()) => broker.wait_applied().await,
            Err(error) => {
                let message = format!(
                    "The update failed for all features since the following feature had an error: {}",
                    error.message
                );
                return self.error_response(request.version, &WireError::new(error.code, message));
            }
        }
        let has_results = request.version <= LAST_WITH_RESULTS;
        let named = self.feature_updates.into_iter().filter(|_| has_results);
        let results = named.map(|update| UpdatableFeatureResult::default().with_feature(update.feature));
        UpdateFeaturesResponse::default().with_results(results.collect())
    }
}
