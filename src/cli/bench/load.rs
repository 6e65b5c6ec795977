//! One connection that sends the same requests over and over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::engine::{Answers, Worker, check};
use super::frame::{CORRELATION_ID, Check, Frame};
use super::target::Lane;
use crate::client::error::io_reason;

/// Answers of requests that are repeated are short.
const ANSWERS_BYTES: usize = 16 * 1024;

/// What a connection sends.
#[derive(Clone)]
pub(super) struct Load {
    /// By partition.
    pub frames: Arc<Vec<Frame>>,
    /// The version of the requests.
    pub version: i16,
    pub check: Check,
    /// Per request.
    pub records: u64,
    /// Per request: those of its batch.
    pub bytes: u64,
    /// Requests under way at a time.
    pub depth: usize,
    /// The pause from one request of a connection to the next; none: as fast as it goes.
    pub interval: Option<Duration>,
    /// Where in its interval a connection begins, by its number.
    pub stagger: Duration,
    /// Whether requests are answered (acks=0 is not).
    pub is_answered: bool,
}

/// Sends to the partitions of the lane in turn. `lane.partitions` are places in `load.frames`.
pub(super) async fn drive(worker: Worker, lane: Lane, load: Load) -> Result<(), String> {
    let mut stream = worker.connect(lane.address).await?;
    let mut answers = Answers::new(ANSWERS_BYTES);
    let mut under_way = VecDeque::<Instant>::with_capacity(load.depth);
    let frames = load.frames.clone();
    let chosen = lane.partitions.iter().filter_map(|place| frames.get(usize::try_from(*place).ok()?));
    let mut next_frame = chosen.cycle();
    let started = worker.ready().await;
    let mut due = started + load.stagger * u32::try_from(worker.number).unwrap_or(0);
    let mut is_ending = false;
    loop {
        while !is_ending && under_way.len() < load.depth {
            let now = Instant::now();
            if load.interval.is_some() && due > now {
                break;
            }
            if !worker.may_send() {
                is_ending = true;
                break;
            }
            // With a rate, time counts from when the request was due: a broker that stalls does not get
            // away with the requests that could not be sent meanwhile.
            let since = if load.interval.is_some() { due } else { now };
            let Some(frame) = next_frame.next() else { return Err("no partition to write to".to_owned()) };
            write(&mut stream, frame).await?;
            if load.is_answered {
                under_way.push_back(since);
            } else {
                worker.answered(None, load.records, load.bytes);
            }
            if let Some(interval) = load.interval {
                due += interval;
            }
        }
        let may_send_more = !is_ending && under_way.len() < load.depth;
        if under_way.is_empty() {
            if is_ending {
                break;
            }
            // Only the rate holds the next request back.
            tokio::time::sleep_until(due.into()).await;
            continue;
        }
        if may_send_more {
            tokio::select! {
                read = answers.read(&mut stream) => read?,
                () = tokio::time::sleep_until(due.into()) => {}
            }
        } else {
            answers.read(&mut stream).await?;
        }
        while let Some(body) = answers.next()? {
            let since = under_way.pop_front().ok_or("an answer came without a request")?;
            check((load.check)(body, load.version).map_err(|error| error.to_string())?)?;
            worker.answered(Some(since), load.records, load.bytes);
        }
    }
    if !load.is_answered {
        fence(&mut stream, &mut answers).await?;
    }
    Ok(())
}

pub(super) async fn write(stream: &mut TcpStream, frame: &Frame) -> Result<(), String> {
    let written = if frame.batch.is_empty() {
        stream.write_all(&frame.head).await
    } else {
        stream.write_all_buf(&mut (&frame.head[..]).chain(&frame.batch[..]).chain(&frame.tail[..])).await
    };
    written.map_err(|error| io_reason(&error))
}

/// An ApiVersions request in version 0. Requests of a connection are done in their order, so its answer
/// says that those before it are done.
pub(super) async fn fence(stream: &mut TcpStream, answers: &mut Answers) -> Result<(), String> {
    let mut request = [0; 14];
    request[..4].copy_from_slice(&10i32.to_be_bytes());
    request[4..6].copy_from_slice(&18i16.to_be_bytes());
    request[8..12].copy_from_slice(&CORRELATION_ID.to_be_bytes());
    request[12..].copy_from_slice(&(-1i16).to_be_bytes());
    stream.write_all(&request).await.map_err(|error| io_reason(&error))?;
    loop {
        answers.read(stream).await?;
        if answers.next()?.is_some() {
            return Ok(());
        }
    }
}
