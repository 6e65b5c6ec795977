//! One pipelined connection to one broker.
//!
//! Two tasks own it, one for each direction; whoever asks hands over a whole frame and waits. So a caller that goes away
//! (a timeout, a dropped future) leaves no half of a request behind: its request has not been handed over and is never sent,
//! or it is sent whole and its answer dropped.
//!
//! Requests leave in the order in which they were sent, and Kafka answers in that order, so the answers
//! need no table: a queue of waiting senders is matched with the frames that arrive, and the correlation
//! id only proves that both sides still count alike. Any error ends the connection for all who wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};

use super::error::{ClientError, LossReason, io_reason};
use crate::env::{Network, SocketReader, SocketWriter};
use crate::protocol::internal::{self, InternalKey};

/// No answer of a broker is larger than this; a length beyond it means that this is no Kafka broker.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long whoever took a connection may take to answer the first request: a broker does it at once.
const GREETING_TIMEOUT_MS: u64 = 5_000;
/// Requests that may queue before senders wait.
const QUEUE_REQUESTS_MAX: usize = 64;

struct Outgoing {
    frame: Bytes,
    correlation_id: i32,
    /// None: the broker does not answer (produce with acks=0).
    reply: Option<oneshot::Sender<Bytes>>,
}

type Waiting = Arc<Mutex<VecDeque<(i32, oneshot::Sender<Bytes>)>>>;

/// A connection after version negotiation. Clones share it.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    client_id: StrBytes,
    next_correlation_id: AtomicI32,
    sender: mpsc::Sender<Outgoing>,
    versions: OnceLock<HashMap<i16, VersionRange>>,
    loss: LossReason,
    closing: Arc<Notify>,
    request_timeout_ms: u64,
}

/// A request that has been queued; its answer can be waited for.
pub struct Answer<R: Request> {
    inner: Arc<Inner>,
    version: i16,
    answer: oneshot::Receiver<Bytes>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Answer<R> {
    /// Waits for the answer. When it does not come in time the connection is closed: answers come in
    /// order, so all behind this one are stuck as well.
    pub async fn wait(self, timeout_ms: u64) -> Result<R::Response, ClientError> {
        match tokio::time::timeout(Duration::from_millis(timeout_ms), self.answer).await {
            Ok(Ok(body)) => self.inner.decode::<R>(body, self.version),
            Ok(Err(_)) => Err(self.inner.lost()),
            Err(_) => Err(self.inner.timed_out(api_name(R::KEY), timeout_ms)),
        }
    }
}

/// A request between nodes that has been queued; its answer can be waited for, and is dropped when nobody does.
pub struct InternalAnswer {
    inner: Arc<Inner>,
    key: InternalKey,
    answer: oneshot::Receiver<Bytes>,
}

impl InternalAnswer {
    /// Waits for the answer, as [`Answer::wait`].
    pub async fn wait(&mut self, limit: Duration) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(Ok(mut body)) => {
                let address = self.inner.address.clone();
                let (api, header_version) = (self.key.to_string(), internal::RESPONSE_HEADER_VERSION);
                let header = ResponseHeader::decode(&mut body, header_version);
                header.map_err(|error| ClientError::Malformed { address, api, reason: error.to_string() })?;
                Ok(body)
            }
            Ok(Err(_)) => Err(self.inner.lost()),
            Err(_) => {
                let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                Err(self.inner.timed_out(self.key.to_string(), timeout_ms))
            }
        }
    }
}

impl Connection {
    /// Connects and negotiates versions with ApiVersions. `address` is `host:port`.
    pub async fn open(
        network: &dyn Network,
        address: &str,
        client_id: &str,
        connect_limit: Duration,
        request_timeout_ms: u64,
    ) -> Result<Self, ClientError> {
        let connection =
            Self::open_internal(network, address, client_id, connect_limit, request_timeout_ms).await?;
        let versions = connection.negotiate().await.map_err(|error| match error {
            ClientError::Lost { address, reason } => ClientError::NotKafka { address, reason },
            ClientError::TimedOut { address, timeout_ms, .. } => ClientError::NotKafka {
                address,
                reason: format!("it took the connection and has said nothing for {timeout_ms} ms"),
            },
            error => error,
        })?;
        connection.inner.versions.get_or_init(|| versions);
        Ok(connection)
    }

    /// Connects, and asks for no versions: what nodes ask each other ([`Connection::call_internal`]) has but one.
    pub async fn open_internal(
        network: &dyn Network,
        address: &str,
        client_id: &str,
        connect_limit: Duration,
        request_timeout_ms: u64,
    ) -> Result<Self, ClientError> {
        let socket = network.connect(address, connect_limit).await.map_err(|error| {
            ClientError::Unreachable { address: address.to_owned(), reason: io_reason(&error) }
        })?;
        let (reader, writer) = socket.into_split();
        let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let waiting = Waiting::default();
        let loss = LossReason::default();
        let inner = Inner {
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            next_correlation_id: AtomicI32::new(0),
            sender,
            versions: OnceLock::new(),
            loss: loss.clone(),
            closing: Arc::default(),
            request_timeout_ms,
        };
        let (closed_sender, closed) = oneshot::channel();
        let closing = inner.closing.clone();
        let (ended_sender, ended) = oneshot::channel();
        let writing = write_requests(writer, receiver, waiting.clone(), closed, closing, loss.clone());
        tokio::spawn(async move {
            writing.await;
            drop(ended_sender);
        });
        tokio::spawn(read_answers(reader, waiting, closed_sender, ended, loss));

        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Whether new requests can still be sent.
    pub fn is_open(&self) -> bool {
        !self.inner.sender.is_closed()
    }

    /// Waits until no more can be sent: the other side closed the connection, or it broke.
    pub async fn closed(&self) {
        self.inner.sender.closed().await;
    }

    /// Asks another node what Kafka has no message for (see [`internal`]), and waits for the body of its answer.
    pub async fn call_internal(&self, key: InternalKey, body: Bytes) -> Result<Bytes, ClientError> {
        self.start_internal(key, body).await?.wait(self.request_timeout()).await
    }

    /// Queues such a request.
    pub async fn start_internal(&self, key: InternalKey, body: Bytes) -> Result<InternalAnswer, ClientError> {
        let wrong = |reason: String| ClientError::Encode { api: key.to_string(), reason };
        let (header, correlation_id) = self.inner.header(key as i16, internal::VERSION);
        let mut frame = BytesMut::with_capacity(body.len() + 64);
        frame.put_u32(0);
        let encoded = header.encode(&mut frame, internal::REQUEST_HEADER_VERSION);
        encoded.map_err(|error| wrong(error.to_string()))?;
        frame.extend_from_slice(&body);
        let length = u32::try_from(frame.len() - 4).map_err(|error| wrong(error.to_string()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing { frame: frame.freeze(), correlation_id, reply: Some(reply) };
        let sent = self.inner.sender.send_timeout(outgoing, self.request_timeout()).await;
        sent.map_err(|_| self.inner.lost())?;
        Ok(InternalAnswer { inner: self.inner.clone(), key, answer })
    }

    /// The highest version of `R` that both sides know, not above `cap`.
    pub fn version_of<R: Request>(&self, cap: i16) -> Option<i16> {
        let theirs = self.inner.versions.get()?.get(&R::KEY)?;
        let common = theirs.intersect(&R::VERSIONS);
        let version = common.max.min(cap);
        (version >= common.min).then_some(version)
    }

    /// What the broker serves, by the keys of the requests.
    pub fn served(&self) -> BTreeMap<i16, VersionRange> {
        self.inner.versions.get().into_iter().flatten().map(|(key, range)| (*key, *range)).collect()
    }

    /// Sends a request in the highest common version and waits for its answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.require::<R>(i16::MAX)?;
        self.call_version(request, version).await
    }

    /// The version as [`Connection::version_of`] gives it, or the error that names the request.
    pub fn require<R: Request>(&self, cap: i16) -> Result<i16, ClientError> {
        self.version_of::<R>(cap).ok_or_else(|| ClientError::Unsupported {
            address: self.inner.address.clone(),
            api: api_name(R::KEY),
        })
    }

    /// Sends a request in a given version and waits for its answer.
    pub async fn call_version<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        self.start(request, version).await?.wait(self.inner.request_timeout_ms).await
    }

    /// Queues a request. Requests leave in the order in which these calls return.
    pub async fn start<R: Request>(&self, request: &R, version: i16) -> Result<Answer<R>, ClientError> {
        let (frame, correlation_id) = self.inner.frame(request, version)?;
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing { frame, correlation_id, reply: Some(reply) };
        let sent = self.inner.sender.send_timeout(outgoing, self.request_timeout()).await;
        sent.map_err(|_| self.inner.lost())?;
        Ok(Answer { inner: self.inner.clone(), version, answer, request: PhantomData })
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.request_timeout_ms)
    }

    /// Sends a request that is never answered (produce with acks=0). Returns once it is queued.
    pub async fn send_only<R: Request>(&self, request: &R, version: i16) -> Result<(), ClientError> {
        let (frame, correlation_id) = self.inner.frame(request, version)?;
        let outgoing = Outgoing { frame, correlation_id, reply: None };
        self.inner.sender.send(outgoing).await.map_err(|_| self.inner.lost())
    }

    /// Asks for the versions that the broker serves: in our newest version first, in version 0 when the
    /// broker does not know that one (it then answers in version 0 with UNSUPPORTED_VERSION).
    async fn negotiate(&self) -> Result<HashMap<i16, VersionRange>, ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("raftsman"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let timeout_ms = self.inner.request_timeout_ms.min(GREETING_TIMEOUT_MS);
        let ask = async |version| self.start(&request, version).await?.wait(timeout_ms).await;
        let mut response = ask(3).await;
        let refused = match &response {
            Ok(response) => response.error_code != 0,
            Err(error) => matches!(error, ClientError::Malformed { .. }),
        };
        if refused {
            response = ask(0).await;
        }
        let response = response?;
        ClientError::check(response.error_code, None)?;
        let range = |min, max| VersionRange { min, max };
        Ok(response
            .api_keys
            .iter()
            .map(|api| (api.api_key, range(api.min_version, api.max_version)))
            .collect())
    }
}

impl Inner {
    fn decode<R: Request>(&self, mut body: Bytes, version: i16) -> Result<R::Response, ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            address: self.address.clone(),
            api: api_name(R::KEY),
            reason,
        };
        let header_version = R::Response::header_version(version);
        ResponseHeader::decode(&mut body, header_version).map_err(|error| malformed(error.to_string()))?;
        R::Response::decode(&mut body, version).map_err(|error| malformed(error.to_string()))
    }

    /// The whole frame of a request: length, header, body.
    fn frame<R: Request>(&self, request: &R, version: i16) -> Result<(Bytes, i32), ClientError> {
        let wrong = |reason: String| ClientError::Encode { api: api_name(R::KEY), reason };
        let (header, correlation_id) = self.header(R::KEY, version);
        let size = request.compute_size(version).map_err(|error| wrong(error.to_string()))?;
        let mut frame = BytesMut::with_capacity(size + 64);
        frame.put_u32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(|error| wrong(error.to_string()))?;
        request.encode(&mut frame, version).map_err(|error| wrong(error.to_string()))?;
        let length = u32::try_from(frame.len() - 4).map_err(|error| wrong(error.to_string()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok((frame.freeze(), correlation_id))
    }

    fn header(&self, key: i16, version: i16) -> (RequestHeader, i32) {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        (header, correlation_id)
    }

    /// Closes the connection: answers come in order, so all behind one that does not come are stuck as well.
    fn timed_out(&self, api: String, timeout_ms: u64) -> ClientError {
        self.loss.lock().get_or_insert_with(|| "an answer did not come in time".to_owned());
        self.closing.notify_one();
        ClientError::TimedOut { address: self.address.clone(), api, timeout_ms }
    }

    fn lost(&self) -> ClientError {
        let reason = self.loss.lock().clone().unwrap_or_else(|| "closed".to_owned());
        ClientError::Lost { address: self.address.clone(), reason }
    }
}

/// Kafka's name of a request, for messages.
fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|_| format!("request {key}"), |key| format!("{key:?}"))
}

/// Writes frames until the handle is dropped or the connection fails. The waiting sender is queued
/// before its bytes leave, so that no answer can overtake it.
async fn write_requests(
    mut writer: SocketWriter,
    mut requests: mpsc::Receiver<Outgoing>,
    waiting: Waiting,
    mut closed: oneshot::Receiver<()>,
    closing: Arc<Notify>,
    loss: LossReason,
) {
    loop {
        let outgoing = tokio::select! {
            biased;
            _ = &mut closed => break,
            () = closing.notified() => break,
            outgoing = requests.recv() => outgoing,
        };
        let Some(outgoing) = outgoing else { break };
        if let Some(reply) = outgoing.reply {
            waiting.lock().push_back((outgoing.correlation_id, reply));
        }
        let written = tokio::select! {
            biased;
            _ = &mut closed => break,
            () = closing.notified() => break,
            written = writer.write_all(&outgoing.frame) => written,
        };
        if let Err(error) = written {
            loss.lock().get_or_insert_with(|| io_reason(&error));
            break;
        }
    }
    requests.close();
    while requests.try_recv().is_ok() {}
    waiting.lock().clear();
    // Dropping the write half shuts the stream down.
    drop(writer);
}

/// Reads answers and hands each to the first who waits. Ends the writer when it ends.
async fn read_answers(
    mut reader: SocketReader,
    waiting: Waiting,
    closed: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    loss: LossReason,
) {
    let read = tokio::select! {
        biased;
        read = read_frames(&mut reader, &waiting) => read,
        // Nobody asks any more, whatever the other side does with its end.
        _ = ended => Err("closed".to_owned()),
    };
    let reason = match read {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    loss.lock().get_or_insert(reason);
    drop(closed);
    waiting.lock().clear();
}

async fn read_frames(
    reader: &mut SocketReader,
    waiting: &Waiting,
) -> Result<std::convert::Infallible, String> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        while buffer.len() < 4 {
            read_some(reader, &mut buffer).await?;
        }
        let length = buffer.get_u32() as usize;
        if !(4..=FRAME_BYTES_MAX).contains(&length) {
            return Err(not_an_answer(u32::try_from(length).unwrap_or(u32::MAX)));
        }
        buffer.reserve(length.saturating_sub(buffer.len()).min(1024 * 1024));
        while buffer.len() < length {
            read_some(reader, &mut buffer).await?;
        }
        let frame = buffer.split_to(length).freeze();
        let correlation_id = frame.as_ref().get_i32();
        let next = waiting.lock().pop_front();
        match next {
            // The receiver may have given up; its answer is then dropped, the count stays right.
            Some((expected, reply)) if expected == correlation_id => drop(reply.send(frame)),
            Some((expected, _)) => {
                return Err(format!("answer {correlation_id} came where {expected} was due"));
            }
            None => return Err(format!("answer {correlation_id} came without a request")),
        }
    }
}

/// What begins with these four bytes in place of an answer's length.
fn not_an_answer(length: u32) -> String {
    match length.to_be_bytes() {
        [b'H', b'T', b'T', b'P'] => "it answers in HTTP".to_owned(),
        // An alert or a handshake, of TLS 1.x.
        [0x15 | 0x16, 3, 0..=4, _] => "it answers in TLS, which this client does not speak".to_owned(),
        [b'S', b'S', b'H', _] => "it answers in SSH".to_owned(),
        _ => format!("it announces an answer of {length} bytes"),
    }
}

async fn read_some(reader: &mut SocketReader, buffer: &mut BytesMut) -> Result<(), String> {
    match reader.read_buf(buffer).await {
        Ok(0) => Err("closed by the broker".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(io_reason(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use kafka_protocol::ResponseError;
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::{ApiVersionsResponse, MetadataRequest, MetadataResponse, TopicName};
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

    use super::*;
    use crate::env::{Acceptor, Duplex, ListenOptions, Pending, Socket};

    /// A pipe that holds a few bytes: whatever is larger is sent in pieces.
    #[derive(Debug)]
    struct Narrow(DuplexStream);

    impl Duplex for Narrow {
        fn poll_readable(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn peer_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl AsyncRead for Narrow {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    /// A network of one connection.
    #[derive(Debug)]
    struct OnePipe(Mutex<Option<DuplexStream>>);

    impl Network for OnePipe {
        fn bind<'a>(
            &'a self,
            _: &'a str,
            _: u16,
            _: ListenOptions,
        ) -> Pending<'a, io::Result<Box<dyn Acceptor>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn connect<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, io::Result<Socket>> {
            Box::pin(async {
                let pipe = self.0.lock().take().ok_or(io::ErrorKind::ConnectionRefused)?;
                Ok(Socket::Other(Box::new(Narrow(pipe))))
            })
        }

        fn host_name(&self) -> String {
            "here".to_owned()
        }
    }

    async fn frame(pipe: &mut DuplexStream) -> Bytes {
        let length = pipe.read_u32().await.unwrap();
        let mut frame = vec![0; length as usize];
        pipe.read_exact(&mut frame).await.unwrap();
        frame.into()
    }

    /// Answers with the request's correlation id and that body, in version 0.
    async fn answer(pipe: &mut DuplexStream, request: &Bytes, body: &impl Encodable) {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&request[4..8]);
        body.encode(&mut bytes, 0).unwrap();
        pipe.write_u32(u32::try_from(bytes.len()).unwrap()).await.unwrap();
        pipe.write_all(&bytes).await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_half_of_a_request_behind() {
        let (near, mut broker) = tokio::io::duplex(16);
        let network = OnePipe(Mutex::new(Some(near)));
        let serving = async {
            let served = |key: ApiKey| {
                ApiVersion::default().with_api_key(key as i16).with_min_version(0).with_max_version(0)
            };
            let versions = vec![served(ApiKey::ApiVersions), served(ApiKey::Metadata)];
            let answered = ApiVersionsResponse::default().with_api_keys(versions);
            // It speaks version 0 only, and says so first.
            for code in [ResponseError::UnsupportedVersion.code(), 0] {
                let asked = frame(&mut broker).await;
                answer(&mut broker, &asked, &answered.clone().with_error_code(code)).await;
            }
            broker
        };
        let opening = Connection::open(&network, "broker:9092", "client", Duration::from_secs(60), 60_000);
        let (connection, mut broker) = tokio::join!(opening, serving);
        let connection = connection.unwrap();
        let asking = |name: &str| {
            let topic = TopicName(StrBytes::from_string(name.repeat(1000)));
            MetadataRequest::default()
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic))]))
        };
        // The first caller goes away while the pipe holds the beginning of its request.
        let (first, second) = (asking("a"), asking("b"));
        let mut going = Box::pin(connection.call(&first));
        assert!(poll_once(&mut going).await.is_none());
        let length = broker.read_u32().await.unwrap();
        drop(going);
        let staying = connection.call(&second);
        let serving = async {
            let mut whole = vec![0; length as usize];
            broker.read_exact(&mut whole).await.unwrap();
            assert!(whole.ends_with(&[b'a'; 1000]));
            answer(&mut broker, &whole.into(), &MetadataResponse::default()).await;
            let next = frame(&mut broker).await;
            assert!(next.ends_with(&[b'b'; 1000]));
            answer(&mut broker, &next, &MetadataResponse::default()).await;
        };
        let (answered, ()) = tokio::join!(staying, serving);
        answered.unwrap();
    }

    /// Polls once.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
