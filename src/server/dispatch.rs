//! From a frame to the handler of its API.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Broker;
use super::api::{Body, ConnectionInfo, ListenerRole, Reply, Request, framed};
use super::handlers;
use super::request_memory::Held;
use crate::env::panics;
use crate::protocol::guard::{self, shapes};
use crate::protocol::header::{RequestHeader, response_header};
use crate::protocol::internal::{self, InternalKey};
use crate::zerocopy::Piece;

/// What a response needs besides its body.
pub(super) struct Envelope {
    header: Bytes,
    api_key: i16,
    /// By the monotonic clock.
    started: Duration,
}

impl Envelope {
    /// A fetch may be asked again anywhere: who waits in one for records need not be answered.
    pub(super) fn is_fetch(&self) -> bool {
        self.api_key == shapes::FETCH.key
    }

    /// Puts the response behind those that leave next; returns its bytes.
    pub(super) fn finish(self, broker: &Broker, body: Body, out: &mut VecDeque<Piece>) -> u64 {
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
pub(super) fn dispatch(
    broker: &Arc<Broker>,
    info: &ConnectionInfo,
    mut frame: BytesMut,
    held: Held,
) -> (Envelope, Reply) {
    let started = broker.surroundings.clock.monotonic();
    broker.metrics.received_bytes.inc_by(frame.len() as u64);
    let envelope = |header, api_key| Envelope { header, api_key, started };
    let header = match panics::reading(|| RequestHeader::parse(&mut frame)) {
        Ok(header) => header,
        Err(error) => {
            let close = Reply::Close(format!("a request's header cannot be read: {error}"));
            return (envelope(Bytes::new(), -1), close);
        }
    };
    let (key, version) = (header.api_key, header.api_version);
    let role = ListenerRole::of(broker, info.listener);
    if let Some(internal_key) = InternalKey::of(key).filter(|_| role == ListenerRole::Controller) {
        if version != internal::VERSION {
            let close = Reply::Close(format!("version {version} of {internal_key} is not served"));
            return (envelope(Bytes::new(), key), close);
        }
        let header_bytes = response_header(header.correlation_id, internal::RESPONSE_HEADER_VERSION);
        let request = request(info, header, frame, held);
        return (envelope(header_bytes, key), super::internal::answer(broker, internal_key, request));
    }
    let Some(api) = handlers::find(key, role) else {
        let close = Reply::Close(format!("API key {key} is not served"));
        return (envelope(Bytes::new(), key), close);
    };
    if !api.versions.contains(&version) {
        // KIP-511: whoever asks for the versions in one that is not served is told them in version 0.
        if key == shapes::API_VERSIONS.key {
            let body = handlers::api_versions::unsupported_version();
            return (envelope(response_header(header.correlation_id, 0), key), Reply::Now(body));
        }
        let reason = format!("version {version} of {} is not served", api.shape.name);
        return (envelope(Bytes::new(), key), Reply::Close(reason));
    }
    let response_version = api.shape.response_header_version(version);
    let envelope = envelope(response_header(header.correlation_id, response_version), key);
    if let Err(error) = panics::reading(|| guard::check(api.shape, version, &frame)) {
        let reason = format!("a request of {} version {version} cannot be read: {error}", api.shape.name);
        return (envelope, Reply::Close(reason));
    }
    if let Some(metrics) = broker.metrics.api(key) {
        metrics.requests.inc();
    }
    let request = request(info, header, frame, held);
    (envelope, (api.handler.answer)(broker, request))
}

fn request(info: &ConnectionInfo, header: RequestHeader, body: BytesMut, held: Held) -> Request {
    Request {
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        listener: info.listener,
        connection: info.id,
        client_host: info.host,
        unsettled: info.unsettled.clone(),
        body,
        held,
    }
}
