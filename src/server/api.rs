//! What an API is: its declaration, from which all follows that is the same for every one, and what its
//! handler is given and gives back.
//!
//! A file in `handlers/` declares its API as a value of [`Api`] and implements, for the message of the request,
//! [`Answered`] and one of [`AnswerNow`] and [`AnswerLater`]. Dispatch guards, decodes, calls, encodes and counts;
//! ApiVersions, the documentation (`docs/apis.md`) and the tests that walk over all APIs read the declaration.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use super::Broker;
use super::errors::{ErrorCodes, Errors};
use super::request_memory::Held;
use super::unsettled::Unsettled;
use super::wire_errors::WireError;
use crate::env::panics;
use crate::protocol::guard::schema::Shape;
use crate::protocol::messages::{self, Decodable, StrBytes};
use crate::zerocopy::Piece;

/// One API as its file declares it.
pub struct Api {
    /// The request's shape, which the guard checks; with Kafka's key and name of the API.
    pub shape: &'static Shape,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// What is new in a version, where it matters.
    pub notes: &'static [(i16, &'static str)],
    /// Who serves it.
    pub served_on: &'static [ListenerRole],
    /// Who can answer it.
    pub answered_by: AnsweredBy,
    /// What a client must be allowed to do, each on what its request names.
    pub needs: &'static [Need],
    pub handler: Handler,
}

/// Whom a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRole {
    /// Clients of a broker, and other brokers.
    Broker,
    /// Brokers and tools that speak to a controller.
    Controller,
}

impl ListenerRole {
    /// By the listener's index.
    pub fn of(broker: &Broker, index: usize) -> Self {
        if index < broker.broker_listeners { Self::Broker } else { Self::Controller }
    }
}

/// Served by brokers alone.
pub const BROKERS: &[ListenerRole] = &[ListenerRole::Broker];
/// Served by brokers and by controllers.
pub const BROKERS_AND_CONTROLLERS: &[ListenerRole] = &[ListenerRole::Broker, ListenerRole::Controller];

/// Who can answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// Any broker, from the metadata or from the replicas that it holds.
    AnyBroker,
    /// The broker that leads the partitions named; others say that they do not.
    PartitionLeader,
    /// The broker that coordinates the group named; others say that they do not.
    GroupCoordinator,
    /// The active controller.
    ActiveController,
    /// The active controller, but for what is a broker's own: the handler divides the request.
    ControllerInPart,
}

/// What is done to a resource; the numbers are those of Kafka's `AclOperation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

impl Operation {
    /// The operations as the bits of an answer's `authorized_operations`.
    pub const fn bits(operations: &[Self]) -> i32 {
        let (mut bits, mut at) = (0, 0);
        while at < operations.len() {
            bits |= 1 << operations[at] as i32;
            at += 1;
        }
        bits
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
}

/// An operation on a resource that a request needs to be allowed. What several needs mean together, and which
/// part of an answer is left out without, is the handler's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need(pub Operation, pub Resource);

/// How an API is answered, and refused.
#[derive(Clone, Copy)]
pub struct Handler {
    pub answer: fn(&Arc<Broker>, Request) -> Reply,
    /// The answer when nothing of the request is done.
    pub refuse: fn(Request, &WireError) -> Reply,
}

impl Handler {
    /// Answers at once.
    pub const fn now<Q: AnswerNow>() -> Self {
        Self { answer: answer_now::<Q>, refuse: refuse::<Q> }
    }

    /// Answers when a future ends; the connection's next request waits for it.
    pub const fn later<Q: AnswerLater>() -> Self {
        Self { answer: answer_later::<Q>, refuse: refuse::<Q> }
    }
}

/// The message of a request, as its API answers it.
pub trait Answered: Decodable + Send + 'static {
    type Response: ErrorCodes + Send;

    /// The answer when nothing of the request is done: the error stands wherever a client looks for one.
    fn error_response(&self, version: i16, error: &WireError) -> Self::Response;
}

/// A request that is answered at once. It only looks: a panic costs its connection and no more (ADR 4).
pub trait AnswerNow: Answered {
    fn answer(self, broker: &Arc<Broker>, request: &Request) -> Self::Response;
}

/// A request whose answer may have to wait.
pub trait AnswerLater: Answered {
    /// The answer when there is nothing to wait for.
    fn answer_now(&self, _broker: &Arc<Broker>, _request: &Request) -> Option<Self::Response> {
        None
    }

    /// Who waits long drops `self` and `request` before, and with them the memory that they hold.
    fn answer(
        self,
        broker: Arc<Broker>,
        request: Request,
    ) -> impl Future<Output = Self::Response> + Send + 'static;
}

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
    /// What the connection's producers sent that is not in its log.
    pub(super) unsettled: Arc<Unsettled>,
    /// Empty once the message is decoded.
    pub body: BytesMut,
    /// Memory charged for it; given back when the request is dropped.
    pub held: Held,
}

impl Request {
    /// The client's name for itself, for logs.
    pub fn client(&self) -> &str {
        self.client_id.as_deref().unwrap_or("")
    }
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
    /// What producers sent here that is not in its log.
    pub(super) unsettled: Arc<Unsettled>,
}

/// What becomes of a request.
pub enum Reply {
    Now(Body),
    /// The answer comes later; what the request changes has been put in order already, so that the
    /// next request may be taken (Produce waiting for its replicas).
    Overlapping(Pin<Box<dyn Future<Output = Body> + Send>>),
    /// The answer comes later, and the connection's next request waits for it.
    Later(Pin<Box<dyn Future<Output = Body> + Send>>),
    /// The answer comes later, and at once when it is told that the connection's next request is there: a follower's fetch
    /// that waits for records, and need not wait when the follower has something new to ask for.
    Interruptible(Pin<Box<dyn Future<Output = Body> + Send>>, Arc<Notify>),
    /// No answer is expected (acks=0).
    Nothing,
    /// The request cannot be answered: the connection is closed, and the reason logged.
    Close(String),
}

fn answer_now<Q: AnswerNow>(broker: &Arc<Broker>, request: Request) -> Reply {
    with_message(request, |request, message: Q| {
        // Whoever is answered at once changes nothing.
        match panics::contained(|| body(&message.answer(broker, &request), request.version)) {
            Ok(body) => Reply::Now(body),
            Err(panicked) => Reply::Close(panicked.to_string()),
        }
    })
}

fn answer_later<Q: AnswerLater>(broker: &Arc<Broker>, request: Request) -> Reply {
    with_message(request, |request, message: Q| {
        let version = request.version;
        if let Some(response) = message.answer_now(broker, &request) {
            return Reply::Now(body(&response, version));
        }
        let answer = message.answer(broker.clone(), request);
        Reply::Later(Box::pin(async move { body(&answer.await, version) }))
    })
}

fn refuse<Q: Answered>(request: Request, error: &WireError) -> Reply {
    with_message(request, |request, message: Q| {
        Reply::Now(body(&message.error_response(request.version, error), request.version))
    })
}

/// Encodes a response message as a body.
pub fn body<M: ErrorCodes>(message: &M, version: i16) -> Body {
    let mut errors = Errors::default();
    message.count_errors(&mut errors);
    let bytes = messages::encode(message, version).unwrap_or_else(|error| {
        // Only a field that the version cannot carry gets here: a defect, and the client will
        // fail to read the empty body rather than believe a wrong one.
        tracing::error!(%error, version, "a response could not be encoded");
        Bytes::new()
    });
    Body { pieces: VecDeque::from([Piece::Bytes(bytes)]), errors }
}

/// Decodes a request's body and calls `handle` with it; a body that cannot be read closes the
/// connection, as in Kafka.
pub fn with_message<Q: Decodable>(mut request: Request, handle: impl FnOnce(Request, Q) -> Reply) -> Reply {
    let mut bytes = std::mem::take(&mut request.body).freeze();
    let decoded = panics::reading(|| {
        panics::planted(std::any::type_name::<Q>());
        messages::decode(request.version, &mut bytes)
    });
    match decoded {
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
