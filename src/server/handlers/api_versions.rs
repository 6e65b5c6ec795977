//! ApiVersions (key 18), versions 0 to 4: what this broker serves.
//!
//! A version that is not served is answered in version 0 with error 35 and the range of this API
//! (KIP-511). Produce is advertised from version 0 though 3 is the lowest served, as some clients
//! take compression support from it (KIP-896).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::super::Broker;
use super::super::api::{Api, Body, Reply, Request, answer, body};

pub const API: Api = Api { key: ApiKey::ApiVersions, least: 0, greatest: 4, handle };

fn handle(_broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |request, message: ApiVersionsRequest| {
        let names_itself = request.version >= 3;
        let is_named = [&message.client_software_name, &message.client_software_version]
            .iter()
            .all(|name| is_software_name(name));
        if names_itself && !is_named {
            return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
        }
        ApiVersionsResponse::default().with_api_keys(super::APIS.iter().map(advertised).collect())
    })
}

/// The answer to a version that is not served, in version 0.
pub fn unsupported_version(error: ResponseError) -> Body {
    body(
        &ApiVersionsResponse::default().with_error_code(error.code()).with_api_keys(vec![advertised(&API)]),
        0,
    )
}

fn advertised(api: &Api) -> ApiVersion {
    let least = if api.key == ApiKey::Produce { 0 } else { api.least };
    ApiVersion::default().with_api_key(api.key as i16).with_min_version(least).with_max_version(api.greatest)
}

/// Letters, digits, dots and dashes, the last two not at the ends (KIP-511).
fn is_software_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| inner(*byte))
}
