//! From a frame to the handler of its API.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

use super::Broker;
use super::api::{Body, ConnectionInfo, Reply, Request, framed};
use super::handlers;
use super::request_memory::Held;
use crate::protocol::guard;
use crate::protocol::header::{RequestHeader, response_header};
use crate::protocol::topic_ids::{self, TOPIC_IDS};
use crate::zerocopy::Piece;

/// What a response needs besides its body.
pub struct Envelope {
    header: Bytes,
    api_key: i16,
    /// By the monotonic clock.
    started: Duration,
}

impl Envelope {
    /// A fetch may be asked again anywhere: who waits in one for records need not be answered.
    pub fn is_fetch(&self) -> bool {
        self.api_key == ApiKey::Fetch as i16
    }

    /// Puts the response behind those that leave next; returns its bytes.
    pub fn finish(self, broker: &Broker, body: Body, out: &mut VecDeque<Piece>) -> u64 {
        if let Some(metrics) = broker.metrics.api(self.api_key) {
            let took = broker.surroundings.clock.monotonic().saturating_sub(self.started);
            metrics.seconds.observe(took.as_secs_f64());
        }
        for (code, count) in body.errors.iter() {
            broker.metrics.failed(self.api_key, code, count);
        }
        let bytes = framed(self.header, body.pieces, out);
        broker.metrics.sent_bytes.inc_by(bytes);
        bytes
    }
}

/// Reads a request's header, guards its body, and calls the handler.
pub fn dispatch(
    broker: &Arc<Broker>,
    info: &ConnectionInfo,
    mut frame: BytesMut,
    held: Held,
) -> (Envelope, Reply) {
    let started = broker.surroundings.clock.monotonic();
    broker.metrics.received_bytes.inc_by(frame.len() as u64);
    let envelope = |header, api_key| Envelope { header, api_key, started };
    let header = match RequestHeader::parse(&mut frame) {
        Ok(header) => header,
        Err(error) => {
            let close = Reply::Close(format!("a request's header cannot be read: {error}"));
            return (envelope(Bytes::new(), -1), close);
        }
    };
    let (key, version) = (header.api_key, header.api_version);
    let Some(api) = handlers::find(key) else {
        let close = Reply::Close(format!("API key {key} is not served"));
        return (envelope(Bytes::new(), key), close);
    };
    if version < api.least || version > api.greatest {
        // KIP-511: whoever asks for the versions in one that is not served is told them in version 0.
        if api.key == ApiKey::ApiVersions {
            let body = handlers::api_versions::unsupported_version(ResponseError::UnsupportedVersion);
            return (envelope(response_header(header.correlation_id, 0), key), Reply::Now(body));
        }
        let reason = format!("version {version} of {:?} is not served", api.key);
        return (envelope(Bytes::new(), key), Reply::Close(reason));
    }
    let response_version = api.key.response_header_version(version);
    let envelope = envelope(response_header(header.correlation_id, response_version), key);
    // What follows knows these as requests of the version before.
    let mut guarded_version = version;
    if version >= TOPIC_IDS
        && let Some(rewritten) = topic_ids::request_by_name(key, &frame)
    {
        match rewritten {
            Ok(body) => frame = BytesMut::from(body.as_slice()),
            Err(error) => {
                let reason = format!("a request of {:?} version {version} cannot be read: {error}", api.key);
                return (envelope, Reply::Close(reason));
            }
        }
        guarded_version = TOPIC_IDS - 1;
    }
    if let Err(error) = guard::check(key, guarded_version, &frame) {
        let reason = format!("a request of {:?} version {version} cannot be read: {error}", api.key);
        return (envelope, Reply::Close(reason));
    }
    if let Some(metrics) = broker.metrics.api(key) {
        metrics.requests.inc();
    }
    let request = Request {
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        listener: info.listener,
        connection: info.id,
        client_host: info.host,
        body: frame,
        held,
    };
    (envelope, (api.handle)(broker, request))
}
