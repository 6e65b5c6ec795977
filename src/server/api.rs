//! What a handler is: the API it serves, in which versions, what it is given and what it gives back.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::Broker;
use super::errors::{Answered, Errors};
use super::request_memory::Held;
use crate::zerocopy::Piece;

/// A request whose header was read and whose body passed the guard.
#[derive(Debug)]
pub struct Request {
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
    /// Index of the listener it came in by, which decides what addresses it is told.
    pub listener: usize,
    /// Id of the connection, for fetch sessions and logs.
    pub connection: u64,
    /// Address of the client.
    pub client_host: IpAddr,
    pub body: BytesMut,
    /// Memory charged for it; given back when the request is dropped.
    pub held: Held,
}

/// A response's body (without length and header), piece by piece.
#[derive(Default)]
pub struct Body {
    pub pieces: VecDeque<Piece>,
    /// The error codes in it, for the metrics.
    pub errors: Errors,
}

/// What the listener and the idle sweeper know of a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    pub id: u64,
    pub host: IpAddr,
    pub listener: usize,
    /// Milliseconds of the sweeper's clock at the last request or response.
    pub last_active_ms: AtomicI64,
    /// A request was taken, other than a fetch, whose answer has not left yet.
    pub owes_answer: AtomicBool,
}

/// What becomes of a request.
pub enum Reply {
    Now(Body),
    /// The answer comes later; what the request changes has been put in order already, so that the
    /// next request may be taken (Produce waiting for its replicas).
    Overlapping(Pin<Box<dyn Future<Output = Body> + Send>>),
    /// The answer comes later, and the connection's next request waits for it.
    Later(Pin<Box<dyn Future<Output = Body> + Send>>),
    /// No answer is expected (acks=0).
    Nothing,
    /// The request cannot be answered: the connection is closed, and the reason logged.
    Close(String),
}

/// One API: who serves it and in which versions.
#[derive(Clone, Copy)]
pub struct Api {
    pub key: ApiKey,
    /// Lowest version served.
    pub least: i16,
    /// Highest version served.
    pub greatest: i16,
    pub handle: fn(&Arc<Broker>, Request) -> Reply,
}

/// Encodes a response message as a body.
pub fn body<M: Answered>(message: &M, version: i16) -> Body {
    let mut errors = Errors::default();
    message.note_errors(&mut errors);
    // Most answers are small: this one allocation holds them.
    let mut bytes = BytesMut::with_capacity(256);
    match message.encode(&mut bytes, version) {
        Ok(()) => Body { pieces: VecDeque::from([Piece::Bytes(bytes.freeze())]), errors },
        Err(error) => {
            // Only a field that the version cannot carry gets here: a defect, and the client will
            // fail to read the empty body rather than believe a wrong one.
            tracing::error!(%error, version, "a response could not be encoded");
            Body { pieces: VecDeque::from([Piece::Bytes(Bytes::new())]), errors }
        }
    }
}

/// Decodes a request's body, then calls `answer` and encodes what it gives.
pub fn answer<Q: Decodable, M: Answered>(request: Request, answer: impl FnOnce(&Request, Q) -> M) -> Reply {
    with_message(request, |request, message| Reply::Now(body(&answer(&request, message), request.version)))
}

/// Decodes a request's body and calls `handle` with it; a body that cannot be read closes the
/// connection, as in Kafka.
pub fn with_message<Q: Decodable>(mut request: Request, handle: impl FnOnce(Request, Q) -> Reply) -> Reply {
    let mut bytes = std::mem::take(&mut request.body).freeze();
    match Q::decode(&mut bytes, request.version) {
        Ok(message) => handle(request, message),
        Err(error) => Reply::Close(format!("a request's body cannot be read: {error}")),
    }
}

/// A response's length and header, put before its body.
pub fn framed(header: Bytes, mut body: VecDeque<Piece>, out: &mut VecDeque<Piece>) -> u64 {
    let body_bytes: u64 = body
        .iter()
        .map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Slice(slice) => slice.len,
        })
        .sum();
    let bytes = header.len() as u64 + body_bytes;
    let mut head = BytesMut::with_capacity(4 + header.len());
    head.put_i32(i32::try_from(bytes).unwrap_or(i32::MAX));
    head.extend_from_slice(&header);
    out.push_back(Piece::Bytes(head.freeze()));
    out.append(&mut body);
    bytes
}
