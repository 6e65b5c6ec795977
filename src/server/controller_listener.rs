//! Listeners for controllers: the quorum is served on them from the start of its node on.
//!
//! That is long before there is a [`Broker`] to serve anything else: other nodes may need this one's vote while it
//! recovers its logs, and it needs theirs. So these listeners have connections of their own kind, with little around
//! them. One that asks for anything but the quorum is Kafka's business, and is handed over to the broker as soon as
//! that is there ([`Front`]), whole.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

use super::Broker;
use super::internal::encode;
use super::listener::{self, Connections};
use crate::env::{Acceptor, Socket, Tasks};
use crate::protocol::header::{RequestHeader, response_header};
use crate::protocol::internal::{self, Head, InternalKey};
use crate::raft::MetadataQuorum;

/// Largest request: records of one proposal beside others.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a frame's buffer grows by while it arrives.
const GROWTH_BYTES: usize = 64 * 1024;
/// Most connections of the quorum at a time; each node has four.
const CONNECTIONS_MAX: usize = 1024;
/// How long one may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Wait after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Whether the quorum answers it, with or without a broker.
fn is_of_quorum(key: InternalKey) -> bool {
    key != InternalKey::Controller
}

/// What serves all that is not the quorum's, once it is there.
pub type Front = watch::Receiver<Option<(Arc<Broker>, Arc<Connections>)>>;

/// Serves a listener for controllers. Never ends; its connections are among `tasks`.
pub async fn accept(
    quorum: MetadataQuorum,
    front: Front,
    acceptor: Box<dyn Acceptor>,
    index: usize,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match acceptor.accept().await {
            Ok((socket, peer)) => {
                let (quorum, front) = (quorum.clone(), front.clone());
                let host = peer.ip().to_canonical();
                tasks.spawn_until_stopped(async move {
                    let ended = serve(quorum, socket).await;
                    drop(place);
                    match ended {
                        Ok(Ended::Closed) => {}
                        Ok(Ended::NotOfQuorum(socket, received)) => {
                            hand_over(front, socket, host, index, received).await;
                        }
                        Err(error) => tracing::debug!(%host, %error, "a connection of the quorum ended"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the controller could not be accepted");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn hand_over(mut front: Front, socket: Socket, host: IpAddr, index: usize, received: BytesMut) {
    let there = front.wait_for(Option::is_some).await;
    let Some((broker, connections)) = there.ok().and_then(|there| there.clone()) else { return };
    listener::take(&broker, &connections, socket, host, index, received).await;
}

/// How a connection of the quorum ends.
enum Ended {
    Closed,
    /// Somebody asks for something else; with what was received of it.
    NotOfQuorum(Socket, BytesMut),
}

async fn serve(quorum: MetadataQuorum, mut socket: Socket) -> io::Result<Ended> {
    let mut buffer = BytesMut::new();
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    loop {
        while buffer.len() < 6 {
            if receive(&mut socket, &mut buffer).await? == 0 {
                return Ok(Ended::Closed);
            }
        }
        let key =
            InternalKey::of(i16::from_be_bytes([buffer[4], buffer[5]])).filter(|key| is_of_quorum(*key));
        let Some(key) = key else { return Ok(Ended::NotOfQuorum(socket, buffer)) };
        let length = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(invalid(format!("a request of {length} bytes is announced")));
        }
        while buffer.len() < 4 + length {
            if receive(&mut socket, &mut buffer).await? == 0 {
                return Ok(Ended::Closed);
            }
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(length);
        let header = RequestHeader::parse(&mut frame).map_err(|error| invalid(error.to_string()))?;
        if header.api_version != internal::VERSION {
            return Err(invalid(format!("version {} of {key} is not served", header.api_version)));
        }
        let body = frame.freeze();
        let (head, at) = internal::split::<Head>(&body).map_err(|error| invalid(error.to_string()))?;
        let answered = match quorum.check(&head) {
            Ok(()) => quorum.receive(key, head, body.slice(at..)).await,
            Err(refusal) => Err(refusal),
        };
        let answer = encode(&quorum, answered);
        let header = response_header(header.correlation_id, internal::RESPONSE_HEADER_VERSION);
        let mut response = BytesMut::with_capacity(4 + header.len() + answer.len());
        response.put_u32(u32::try_from(header.len() + answer.len()).unwrap_or(u32::MAX));
        response.extend_from_slice(&header);
        response.extend_from_slice(&answer);
        socket.write_all(&response).await?;
        if buffer.is_empty() {
            // A large one does not stay for the life of the connection.
            buffer = BytesMut::new();
        }
    }
}

/// Takes what has come, and makes room for no more than comes.
async fn receive(socket: &mut Socket, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.reserve(if buffer.is_empty() { 512 } else { buffer.len().clamp(512, GROWTH_BYTES) });
    let received = tokio::time::timeout(IDLE_MAX, socket.read_buf(buffer)).await;
    received.unwrap_or(Ok(0))
}
