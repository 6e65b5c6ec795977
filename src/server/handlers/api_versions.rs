//! ApiVersions (key 18): what this broker serves.
//!
//! A version that is not served is answered in version 0 with error 35 and the range of this API
//! (KIP-511). Produce is advertised from version 0 though 3 is the lowest served, as some clients
//! take compression support from it (KIP-896).
//!
//! Features (KIP-584) are told as the software has them and as the cluster is at them ([`crate::metadata::Feature`]). Those that can be
//! at level 0 are told from version 4 on.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::metadata::FEATURES;
use crate::protocol::guard::shapes;
use crate::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, StrBytes};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Body, Handler, ListenerRole, Request, body,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub const API: Api = Api {
    shape: &shapes::API_VERSIONS,
    versions: 0..=4,
    notes: &[
        (3, "the client names its software (KIP-511), and is told features (KIP-584)"),
        (4, "features may be at level 0"),
    ],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[],
    handler: Handler::now::<ApiVersionsRequest>(),
};

error_codes!(ApiVersionsResponse: []);

/// The first version in which a client names its software.
const NAMES_SOFTWARE: i16 = 3;

impl Answered for ApiVersionsRequest {
    type Response = ApiVersionsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> ApiVersionsResponse {
        ApiVersionsResponse::default().with_error_code(error.number())
    }
}

impl AnswerNow for ApiVersionsRequest {
    fn answer(self, broker: &Arc<Broker>, request: &Request) -> ApiVersionsResponse {
        let is_named = [&self.client_software_name, &self.client_software_version]
            .iter()
            .all(|name| is_software_name(name));
        if request.version >= NAMES_SOFTWARE && !is_named {
            return self.error_response(request.version, &ResponseError::InvalidRequest.into());
        }
        let role = ListenerRole::of(broker, request.listener);
        let served = super::APIS.iter().filter(|api| api.served_on.contains(&role));
        let response = ApiVersionsResponse::default().with_api_keys(served.map(advertised).collect());
        if request.version < NAMES_SOFTWARE {
            return response;
        }
        let image = broker.image();
        // Earlier clients take a range from 0 for an error.
        let may_be_0 = request.version >= LEVEL_MAY_BE_0;
        let told = FEATURES.iter().filter(|feature| may_be_0 || *feature.levels.start() > 0);
        let supported = told.map(|feature| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_static_str(feature.name))
                .with_min_version(*feature.levels.start())
                .with_max_version(*feature.levels.end())
        });
        // What is at 0 is not finalized, as in Kafka.
        let finalized = FEATURES.iter().filter_map(|feature| {
            let level = Some(image.feature_level(feature.name)).filter(|level| *level > 0)?;
            let key = FinalizedFeatureKey::default().with_name(StrBytes::from_static_str(feature.name));
            Some(key.with_min_version_level(level).with_max_version_level(level))
        });
        response
            .with_supported_features(supported.collect())
            .with_finalized_features(finalized.collect())
            .with_finalized_features_epoch(i64::try_from(broker.quorum.applied_index()).unwrap_or(i64::MAX))
    }
}

/// The first version whose clients know that a feature may be at level 0.
const LEVEL_MAY_BE_0: i16 = 4;

/// The answer to a version that is not served, in version 0.
pub fn unsupported_version() -> Body {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![advertised(&API)]);
    body(&response, 0)
}

fn advertised(api: &Api) -> ApiVersion {
    let is_produce = api.shape.key == shapes::PRODUCE.key;
    let first = if is_produce { 0 } else { *api.versions.start() };
    ApiVersion::default()
        .with_api_key(api.shape.key)
        .with_min_version(first)
        .with_max_version(*api.versions.end())
}

/// Letters, digits, dots and dashes, the last two not at the ends (KIP-511).
fn is_software_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| inner(*byte))
}
