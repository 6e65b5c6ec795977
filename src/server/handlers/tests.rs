//! What must hold of every API, by walking over the table.

use bytes::BytesMut;
use kafka_protocol::ResponseError;

use super::*;
use crate::protocol::guard::schema::{Field, Kind, Shape};
use crate::protocol::guard::{self, shapes};
use crate::protocol::reader::put_unsigned_varint;
use crate::server::api::{AnsweredBy, ListenerRole, Reply, Request};
use crate::server::request_memory::Held;
use crate::server::wire_errors::WireError;
use crate::zerocopy::Piece;

fn every_version() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|api| api.versions.clone().map(move |version| (api, version)))
}

/// A small request: every list has one element, every text a letter.
struct Sample {
    version: i16,
    is_flexible: bool,
    out: Vec<u8>,
}

impl Sample {
    fn of(shape: &Shape, version: i16) -> Vec<u8> {
        let mut sample = Self { version, is_flexible: shape.is_flexible(version), out: Vec::new() };
        sample.fields(shape.fields);
        sample.out
    }

    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(field.kind, field.may_be_null(version));
        }
        if self.is_flexible {
            self.out.push(0);
        }
    }

    fn length(&mut self, length: u32, bytes: usize) {
        if self.is_flexible {
            return put_unsigned_varint(&mut self.out, length + 1);
        }
        self.out.extend(&length.to_be_bytes()[4 - bytes..]);
    }

    fn value(&mut self, kind: Kind, nullable: bool) {
        match kind {
            Kind::Bool | Kind::Int8 => self.out.push(1),
            Kind::Int16 => self.out.extend(1_i16.to_be_bytes()),
            Kind::Int32 => self.out.extend(1_i32.to_be_bytes()),
            Kind::Int64 => self.out.extend(1_i64.to_be_bytes()),
            Kind::Uuid => self.out.extend([1; 16]),
            Kind::String => {
                self.length(1, 2);
                self.out.push(b'a');
            }
            Kind::Bytes => {
                self.length(1, 4);
                self.out.push(0);
            }
            Kind::Array(element) => {
                self.length(1, 4);
                self.value(*element, false);
            }
            Kind::Struct(fields) => {
                self.out.extend(nullable.then_some(1));
                self.fields(fields);
            }
        }
    }
}

fn request(version: i16, body: &[u8]) -> Request {
    Request {
        version,
        correlation_id: 0,
        client_id: None,
        listener: 0,
        connection: 0,
        client_host: std::net::Ipv4Addr::LOCALHOST.into(),
        unsettled: Arc::default(),
        body: BytesMut::from(body),
        held: Held::default(),
    }
}

#[test]
fn the_table_is_in_order_and_every_api_is_found() {
    assert!(APIS.is_sorted_by_key(|api| api.shape.key));
    for api in APIS {
        assert_eq!(
            find(api.shape.key, ListenerRole::Broker).map(|found| found.shape.name),
            Some(api.shape.name)
        );
    }
    assert!(find(-1, ListenerRole::Broker).is_none());
}

#[test]
fn what_is_served_is_stable_in_kafka_and_known_to_the_guard() {
    for (api, version) in every_version() {
        let about = format!("{} version {version}", api.shape.name);
        assert!(api.shape.has_version(version) && version <= api.shape.last_stable, "{about}");
        let sample = Sample::of(api.shape, version);
        assert_eq!(
            guard::walk(api.shape, version, &sample).map(|walked| walked.wire_bytes),
            Ok(sample.len())
        );
    }
    for shape in shapes::ALL {
        assert_eq!(shapes::find(shape.key).map(|found| found.name), Some(shape.name));
    }
}

#[test]
fn declarations_agree_with_kafkas_listeners_and_their_own_versions() {
    for api in APIS {
        let (name, on) = (api.shape.name, |role| api.served_on.contains(&role));
        assert!(on(ListenerRole::Broker) && api.shape.on_brokers, "{name}");
        assert!(!on(ListenerRole::Controller) || api.shape.on_controllers, "{name}");
        let has_controller =
            matches!(api.answered_by, AnsweredBy::ActiveController | AnsweredBy::ControllerInPart);
        assert!(!has_controller || on(ListenerRole::Controller), "{name} is forwarded to a controller");
        assert!(api.notes.iter().all(|(version, _)| api.versions.contains(version)), "{name}");
        assert!(api.notes.is_sorted_by_key(|(version, _)| version), "{name}");
    }
}

#[test]
fn every_api_can_be_refused_as_a_whole_in_every_version() {
    let error = WireError::new(ResponseError::ClusterAuthorizationFailed, "no");
    for (api, version) in every_version() {
        let about = format!("{} version {version}", api.shape.name);
        match (api.handler.refuse)(request(version, &Sample::of(api.shape, version)), &error) {
            Reply::Now(body) => {
                let codes: Vec<_> = body.errors.iter().collect();
                assert_eq!(codes, [(error.number(), 1)], "{about}");
                let is_written = |piece: &Piece| matches!(piece, Piece::Bytes(bytes) if !bytes.is_empty());
                assert!(body.pieces.iter().any(is_written), "{about} can be encoded");
            }
            Reply::Close(reason) => panic!("{about}: {reason}"),
            _ => panic!("{about} is not answered at once"),
        }
    }
}
