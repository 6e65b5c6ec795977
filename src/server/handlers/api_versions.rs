//! ApiVersions (key 18): what this broker serves.
//!
//! A version that is not served is answered in version 0 with error 35 and the range of this API
//! (KIP-511). Produce is advertised from version 0 though 3 is the lowest served, as some clients
//! take compression support from it (KIP-896).
//!
//! Features (KIP-584) are told with one level each, as nothing here can be up- or downgraded: what `kafka-features describe`
//! shows is what this broker does. Only eligible leader replicas are kept by a cluster of several nodes from its
//! beginning on, and by no other. Kafka 4.3's others are told with level 0, "not there", from version 4 on; earlier
//! clients take a range from 0 for an error.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::metadata::ELIGIBLE_LEADER_REPLICAS_FEATURE;
use crate::protocol::guard::shapes;
use crate::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, StrBytes};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Body, Handler, Request, body,
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
        let role = broker.listener_role(request.listener);
        let served = super::APIS.iter().filter(|api| api.served_on.contains(&role));
        let response = ApiVersionsResponse::default().with_api_keys(served.map(advertised).collect());
        if request.version < NAMES_SOFTWARE {
            return response;
        }
        let least = if request.version >= LEVEL_MAY_BE_0 { 0 } else { 1 };
        let image = broker.image();
        // What a cluster may have from its beginning on, or not.
        let finalized_level =
            |(name, level): &(&'static str, i16)| match *name == ELIGIBLE_LEADER_REPLICAS_FEATURE {
                true => image.features().get(*name).copied().unwrap_or(0),
                false => *level,
            };
        let may_be_0 = |name: &str| name == ELIGIBLE_LEADER_REPLICAS_FEATURE;
        let told = FEATURES.iter().filter(|(name, level)| *level >= least && (least == 0 || !may_be_0(name)));
        let supported = told.map(|(name, level)| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_static_str(name))
                .with_min_version(if may_be_0(name) { 0 } else { *level })
                .with_max_version(*level)
        });
        // What is at 0 is not finalized, as in Kafka.
        let finalized = FEATURES.iter().filter(|feature| finalized_level(feature) > 0).map(|feature| {
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_static_str(feature.0))
                .with_min_version_level(finalized_level(feature))
                .with_max_version_level(finalized_level(feature))
        });
        response
            .with_supported_features(supported.collect())
            .with_finalized_features(finalized.collect())
            .with_finalized_features_epoch(i64::try_from(broker.quorum.applied_index()).unwrap_or(i64::MAX))
    }
}

/// The first version whose clients know that a feature may be at level 0.
const LEVEL_MAY_BE_0: i16 = 4;

/// Kafka 4.3's features, and how far this broker has them. A cluster of Kafka 4.3.0 is formatted with
/// `metadata.version` 30 (4.3-IV0), which is finalized here too. Kafka supports 7 to 30, as it can be told to keep to an
/// earlier one; this broker cannot.
/// What says which protocols are served (`group.version`, `transaction.version`…) is at 0 until they are, and so is
/// `kraft.version`, whose 1 means that the quorum's members can be changed.
const FEATURES: &[(&str, i16)] = &[
    (ELIGIBLE_LEADER_REPLICAS_FEATURE, 1),
    ("group.version", 0),
    ("kraft.version", 0),
    ("metadata.version", 30),
    ("share.version", 0),
    ("streams.version", 0),
    ("transaction.version", 0),
];

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
