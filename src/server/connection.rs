//! One connection: frames in, responses out, in order.
//!
//! One task reads, dispatches and writes. A request whose answer waits for replicas
//! ([`Reply::Overlapping`]) does not hold up the next one; any other does, as in Kafka, but a follower's fetch that waits
//! for records is answered when the next is there. Responses leave in the order of their requests.
//!
//! A connection that has nothing to say holds no buffer: a worker thread has one for all its connections,
//! and what arrives there is copied into an allocation of its size. The rest of a larger frame is received
//! where it stays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

use super::Broker;
use super::api::{Body, ConnectionInfo, Reply};
use super::dispatch::{self, Envelope};
use super::internal;
use super::request_memory::{Held, PACE_BYTES_MIN, PACE_WINDOW};
use crate::protocol::guard::shapes;
use crate::protocol::internal::InternalKey;
use crate::zerocopy::{Piece, Stream};

/// Read at once where a request begins; several may fit, and then one call is enough for all of them.
const READ_BYTES: usize = 64 * 1024;

/// What a connection may keep of unfinished requests without being charged for it.
const UNCHARGED_BYTES_MAX: usize = 16 * 1024;

/// Greatest step in which the buffer of a large frame grows, and that is read of it at once.
const GROWTH_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// Where the requests of this thread's connections arrive.
    static ARRIVALS: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Most requests of a connection that wait for their replicas at a time.
const OVERLAPPING_MAX: usize = 1024;

/// How long, and for how many bytes, a connection that the broker closes is read from, so that its client gets what it
/// was answered: closed with bytes of it unread, the kernel would not send the rest.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most response bytes that gather before they are written.
const GATHERED_RESPONSE_BYTES_MAX: u64 = 256 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes is announced, and socket.request.max.bytes is {1}")]
    FrameSize(i32, i32),
    #[error(
        "a request arrived at less than {} KiB in {} s while others waited for memory (queued.max.request.bytes)",
        PACE_BYTES_MIN / 1024,
        PACE_WINDOW.as_secs()
    )]
    TooSlow,
    #[error("{0}")]
    Refused(String),
}

/// A response whose body may still be on its way.
struct Waiting {
    envelope: Envelope,
    body: BodyState,
    /// Told when the next request is there.
    interrupted: Option<Arc<Notify>>,
}

enum BodyState {
    Ready(Option<Body>),
    Coming(Pin<Box<dyn Future<Output = Body> + Send>>),
}

/// Serves a connection, of which some may have been received, until the client closes it or an error ends it. When a request is the error, those before it
/// are still answered.
pub async fn serve<S: Stream>(
    broker: Arc<Broker>,
    mut stream: S,
    info: Arc<ConnectionInfo>,
    received: BytesMut,
) -> Result<(), ConnectionError> {
    let mut reader = FrameReader { buffer: received, ..FrameReader::default() };
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut out: VecDeque<Piece> = VecDeque::new();
    // Why no more requests are taken.
    let mut closing: Option<ConnectionError> = None;
    let mut has_answered = false;
    loop {
        // Take the requests that are here already.
        let mut out_bytes = 0;
        let mut must_finish = false;
        while closing.is_none()
            && !must_finish
            && waiting.len() < OVERLAPPING_MAX
            && out_bytes < GATHERED_RESPONSE_BYTES_MAX
        {
            // Few may follow others that still wait.
            if !waiting.is_empty() && !reader.next_may_overlap() {
                must_finish = reader.has_whole_frame();
                if must_finish {
                    waiting
                        .iter()
                        .filter_map(|each| each.interrupted.as_ref())
                        .for_each(|told| told.notify_one());
                }
                break;
            }
            let (frame, held) = match reader.next_frame(broker.config.requests.bytes_max) {
                Ok(Some(taken)) => taken,
                Ok(None) => break,
                Err(error) => {
                    closing = Some(error);
                    break;
                }
            };
            let (envelope, reply) = dispatch::dispatch(&broker, &info, frame, held);
            match reply {
                Reply::Nothing => {}
                Reply::Close(reason) => closing = Some(ConnectionError::Refused(reason)),
                Reply::Now(body) if waiting.is_empty() => {
                    out_bytes += envelope.finish(&broker, body, &mut out);
                }
                Reply::Now(body) => {
                    let body = BodyState::Ready(Some(body));
                    waiting.push_back(Waiting { envelope, body, interrupted: None });
                }
                Reply::Overlapping(future) => {
                    let body = BodyState::Coming(future);
                    waiting.push_back(Waiting { envelope, body, interrupted: None });
                }
                Reply::Interruptible(future, interrupted) => {
                    let (body, interrupted) = (BodyState::Coming(future), Some(interrupted));
                    waiting.push_back(Waiting { envelope, body, interrupted });
                }
                Reply::Later(future) => {
                    let body = BodyState::Coming(future);
                    waiting.push_back(Waiting { envelope, body, interrupted: None });
                    must_finish = true;
                }
            }
        }
        if !out.is_empty() {
            noting_activity(&broker, &info, stream.send(&mut out, &broker.sent)).await?;
            has_answered = true;
            continue;
        }
        if waiting.is_empty()
            && let Some(error) = closing.take()
        {
            if has_answered {
                linger(&mut stream).await;
            }
            return Err(error);
        }
        let owes_answer = waiting.iter().any(|each| !each.envelope.is_fetch());
        info.owes_answer.store(owes_answer, Ordering::Release);
        // Nothing more to take: wait for the next answer or for more bytes.
        let may_read = closing.is_none() && !must_finish && waiting.len() < OVERLAPPING_MAX;
        if waiting.is_empty() {
            match noting_activity(&broker, &info, reader.fill(&mut stream, &broker)).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => closing = Some(error),
            }
        } else if may_read {
            tokio::select! {
                biased;
                (envelope, body) = poll_fn(|context| poll_first(&mut waiting, context)) => {
                    envelope.finish(&broker, body, &mut out);
                }
                filled = reader.fill(&mut stream, &broker) => match filled {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error @ ConnectionError::Io(_)) => return Err(error),
                    Err(error) => closing = Some(error),
                },
            }
        } else {
            tokio::select! {
                biased;
                (envelope, body) = poll_fn(|context| poll_first(&mut waiting, context)) => {
                    envelope.finish(&broker, body, &mut out);
                }
                () = reader.closed(&mut stream) => return closing.map_or(Ok(()), Err),
            }
        }
        if !out.is_empty() {
            while let Some((envelope, body)) = ready_first(&mut waiting).await {
                envelope.finish(&broker, body, &mut out);
            }
            noting_activity(&broker, &info, stream.send(&mut out, &broker.sent)).await?;
            has_answered = true;
        }
    }
}

/// Says that nothing more comes, and waits until the client has seen it.
async fn linger<S: Stream>(stream: &mut S) {
    let seen = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES_MAX;
        let mut arrived = BytesMut::new();
        loop {
            let count = poll_fn(|context| poll_arrivals(&mut arrived, stream, context)).await?;
            arrived.clear();
            left = left.saturating_sub(count);
            if count == 0 || left == 0 {
                return io::Result::Ok(());
            }
        }
    };
    // A client that does not read what it was told has been waited for long enough.
    let _ = tokio::time::timeout(LINGER, seen).await;
}

/// Drives a transfer; each of its steps counts as activity, so that a slow client that gets on with a
/// large request or response is not idle.
async fn noting_activity<T>(broker: &Broker, info: &ConnectionInfo, transfer: impl Future<Output = T>) -> T {
    let mut transfer = pin!(transfer);
    poll_fn(|context| {
        info.last_active_ms.store(broker.monotonic_ms(), Ordering::Relaxed);
        transfer.as_mut().poll(context)
    })
    .await
}

/// Polls every waiting answer, so that each makes progress, and gives the first when it is there.
fn poll_first(waiting: &mut VecDeque<Waiting>, context: &mut Context<'_>) -> Poll<(Envelope, Body)> {
    for entry in waiting.iter_mut() {
        if let BodyState::Coming(future) = &mut entry.body
            && let Poll::Ready(body) = future.as_mut().poll(context)
        {
            entry.body = BodyState::Ready(Some(body));
        }
    }
    let first_is_ready = matches!(waiting.front(), Some(Waiting { body: BodyState::Ready(Some(_)), .. }));
    match waiting.pop_front() {
        Some(Waiting { envelope, body: BodyState::Ready(Some(body)), .. }) if first_is_ready => {
            Poll::Ready((envelope, body))
        }
        Some(entry) => {
            waiting.push_front(entry);
            Poll::Pending
        }
        None => Poll::Pending,
    }
}

/// The first answer, when it is there already.
async fn ready_first(waiting: &mut VecDeque<Waiting>) -> Option<(Envelope, Body)> {
    if waiting.is_empty() {
        return None;
    }
    poll_fn(|context| match poll_first(waiting, context) {
        Poll::Ready(first) => Poll::Ready(Some(first)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// How fast a request arrives that memory is charged for.
#[derive(Default)]
struct Pace {
    /// Milliseconds of the monotonic clock at the start of the window; none before the first byte.
    since_ms: Option<i64>,
    /// Bytes since then.
    bytes: usize,
}

impl Pace {
    /// Counts what arrived; an error when it is too little in the time and others wait for memory.
    fn note(&mut self, bytes: usize, broker: &Broker) -> Result<(), ConnectionError> {
        let now_ms = broker.monotonic_ms();
        self.bytes += bytes;
        let window_ms = i64::try_from(PACE_WINDOW.as_millis()).unwrap_or(i64::MAX);
        if now_ms - *self.since_ms.get_or_insert(now_ms) < window_ms {
            return Ok(());
        }
        let is_slow = self.bytes < PACE_BYTES_MIN;
        *self = Self { since_ms: Some(now_ms), bytes: 0 };
        match is_slow && broker.request_memory.waiting() > 0 {
            true => Err(ConnectionError::TooSlow),
            false => Ok(()),
        }
    }

    /// A read, watched while memory is charged for its request.
    async fn watch(
        &mut self,
        is_charged: bool,
        broker: &Broker,
        read: impl Future<Output = io::Result<usize>>,
    ) -> Result<usize, ConnectionError> {
        if !is_charged {
            return Ok(read.await?);
        }
        let mut read = pin!(read);
        self.note(0, broker)?;
        loop {
            match tokio::time::timeout(PACE_WINDOW, &mut read).await {
                Ok(count) => {
                    let count = count?;
                    self.note(count, broker)?;
                    return Ok(count);
                }
                Err(_) => self.note(0, broker)?,
            }
        }
    }
}

/// Cuts the stream into frames: a length (32 bits) and as many bytes.
#[derive(Default)]
struct FrameReader {
    buffer: BytesMut,
    /// The buffer is what was left of a larger one, whose memory it keeps.
    is_rest: bool,
    /// Up to this length the buffer is charged for.
    charged: usize,
    held: Held,
    pace: Pace,
}

/// Takes what is here, up to [`READ_BYTES`].
fn poll_arrivals<S: Stream>(
    buffer: &mut BytesMut,
    stream: &mut S,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    ARRIVALS.with_borrow_mut(|arrivals| {
        let mut arrived = ReadBuf::new(arrivals);
        ready!(Pin::new(stream).poll_read(context, &mut arrived))?;
        buffer.extend_from_slice(arrived.filled());
        Poll::Ready(Ok(arrived.filled().len()))
    })
}

impl FrameReader {
    /// The announced size of the frame at the front, when its four bytes are here.
    fn announced(&self) -> Option<i32> {
        let size = self.buffer.get(..4)?;
        Some(i32::from_be_bytes(size.try_into().ok()?))
    }

    fn has_whole_frame(&self) -> bool {
        let size = self.announced().and_then(|size| usize::try_from(size).ok());
        size.is_some_and(|size| self.buffer.len() >= 4 + size)
    }

    /// True when no whole frame is here, or the one that is holds a request that may be taken before others are
    /// answered: a produce, or what another node asks of the controller.
    fn next_may_overlap(&self) -> bool {
        let Some(&[high, low]) = self.buffer.get(4..6) else { return true };
        let key = i16::from_be_bytes([high, low]);
        key == shapes::PRODUCE.key
            || InternalKey::of(key).is_some_and(internal::overlaps)
            || !self.has_whole_frame()
    }

    /// Takes the next whole frame, without its length.
    fn next_frame(&mut self, bytes_max: i32) -> Result<Option<(BytesMut, Held)>, ConnectionError> {
        let Some(announced) = self.announced() else { return Ok(None) };
        if announced < 0 || announced > bytes_max {
            return Err(ConnectionError::FrameSize(announced, bytes_max));
        }
        if !self.has_whole_frame() {
            return Ok(None);
        }
        let size = usize::try_from(announced).unwrap_or_default();
        let mut frame = self.buffer.split_to(4 + size);
        let _ = frame.split_to(4);
        self.is_rest = !self.buffer.is_empty();
        if self.buffer.is_empty() {
            // The frame's handles free the allocation; an idle connection keeps none.
            self.buffer = BytesMut::new();
        }
        self.charged = 0;
        self.pace = Pace::default();
        Ok(Some((frame, std::mem::take(&mut self.held))))
    }

    /// Reads more. `false`: the client closed the connection between two frames.
    async fn fill<S: Stream>(&mut self, stream: &mut S, broker: &Broker) -> Result<bool, ConnectionError> {
        let frame = self.announced().and_then(|size| usize::try_from(size).ok()).map(|size| 4 + size);
        if std::mem::take(&mut self.is_rest) {
            // The beginning of a request whose end may never come must not keep all that came before it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        let frame_bytes_max = 4 + usize::try_from(broker.config.requests.bytes_max).unwrap_or_default();
        let count = match frame {
            // Checked when the frame is taken; here it only must not become a size.
            Some(bytes) if bytes > frame_bytes_max => return Ok(true),
            Some(bytes) if bytes > READ_BYTES => {
                self.receive(stream, broker, bytes.saturating_sub(self.buffer.len())).await?
            }
            _ => {
                let Self { buffer, pace, held, .. } = self;
                let read = poll_fn(|context| poll_arrivals(buffer, stream, context));
                let count = pace.watch(held.is_charged(), broker, read).await?;
                let len = self.buffer.len();
                if len > UNCHARGED_BYTES_MAX {
                    self.charge(broker, len, frame.unwrap_or(len)).await;
                }
                count
            }
        };
        if count > 0 {
            return Ok(true);
        }
        if self.buffer.is_empty() {
            return Ok(false);
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a request").into())
    }

    /// Receives into the buffer itself, where its frame lacks that many bytes.
    async fn receive<S: Stream>(
        &mut self,
        stream: &mut S,
        broker: &Broker,
        missing: usize,
    ) -> Result<usize, ConnectionError> {
        let readable = async { poll_fn(|context| stream.poll_readable(context)).await.map(|()| 0) };
        self.pace.watch(self.held.is_charged(), broker, readable).await?;
        let len = self.buffer.len();
        if self.charged <= len {
            // For as much again as is here: who announces much and sends little is charged little.
            let step = missing.min(len.clamp(READ_BYTES, GROWTH_BYTES_MAX));
            self.charge(broker, len + step, len + missing).await;
        }
        let room = (self.charged - len).min(missing);
        if self.buffer.capacity() < len + room {
            // Memory that is not touched costs nothing, and growing step by step copies again and again.
            self.buffer.reserve(missing.min(GROWTH_BYTES_MAX));
        }
        let mut room = (&mut self.buffer).limit(room);
        self.pace.watch(self.held.is_charged(), broker, stream.read_buf(&mut room)).await
    }

    async fn charge(&mut self, broker: &Broker, bytes: usize, announced: usize) {
        let before_ms = broker.monotonic_ms();
        broker.request_memory.hold(&mut self.held, bytes, announced).await;
        self.charged = bytes;
        // Nothing was read while it waited: that is not its sender's doing.
        if let Some(since_ms) = &mut self.pace.since_ms {
            *since_ms += broker.monotonic_ms() - before_ms;
        }
    }

    /// Ends when the client has closed the connection. What it sends meanwhile is kept, up to a
    /// buffer's worth; with that much here, the end is noticed when the answers are written.
    async fn closed<S: Stream>(&mut self, stream: &mut S) {
        while self.buffer.len() < UNCHARGED_BYTES_MAX {
            if poll_fn(|context| stream.poll_readable(context)).await.is_err() {
                return;
            }
            let room = UNCHARGED_BYTES_MAX - self.buffer.len();
            self.buffer.reserve(room);
            match stream.read_buf(&mut (&mut self.buffer).limit(room)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }
}
