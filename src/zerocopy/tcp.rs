//! Sending over a TCP socket: `send` with `MSG_MORE` for bytes, `sendfile` for slices of files.

// What `Socket::Tcp` holds: only it has a descriptor for `sendfile`.
#![allow(clippy::disallowed_types)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{FileSlice, Piece, Sent, Stream, read_slice};
use crate::protocol::batch::BatchHeader;

/// Slices up to this size are copied into the bytes around them. A `sendfile` costs a call of its
/// own, a probe of the page cache, and often a packet; copying this much costs less than those.
const COPIED_SLICE_BYTES_MAX: u64 = 16 * 1024;

/// Bytes gathered before a call to `send`.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

impl Stream for TcpStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    async fn send(&mut self, pieces: &mut VecDeque<Piece>, sent: &Sent) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(Piece::bytes).sum();
        let mut gathered = BytesMut::with_capacity(bytes.min(GATHERED_BYTES_MAX));
        while let Some(piece) = pieces.pop_front() {
            match piece {
                Piece::Bytes(bytes) if gathered.is_empty() && pieces.is_empty() => {
                    return send_bytes(self, &bytes, false).await;
                }
                Piece::Bytes(bytes) if bytes.len() <= GATHERED_BYTES_MAX => {
                    gathered.extend_from_slice(&bytes)
                }
                Piece::Bytes(bytes) => {
                    send_gathered(self, &mut gathered, true).await?;
                    send_bytes(self, &bytes, !pieces.is_empty()).await?;
                }
                Piece::Slice(slice) if slice.len <= COPIED_SLICE_BYTES_MAX => {
                    let failed = |error: &io::Error| sent.read_failed(&slice, error);
                    if slice.warm >= slice.len || slice.file.is_cached(slice.position, slice.len) {
                        read_slice(&slice, &mut gathered).inspect_err(failed)?;
                    } else {
                        let read = super::read_slice_warm(&slice, sent).await;
                        gathered.extend_from_slice(&read.inspect_err(failed)?);
                    }
                    sent.count_copied(slice.len);
                }
                Piece::Slice(slice) => {
                    send_gathered(self, &mut gathered, true).await?;
                    send_slice(self, slice, sent).await?;
                }
            }
            if gathered.len() > GATHERED_BYTES_MAX {
                send_gathered(self, &mut gathered, !pieces.is_empty()).await?;
            }
        }
        send_gathered(self, &mut gathered, false).await
    }
}

async fn send_gathered(stream: &TcpStream, gathered: &mut BytesMut, more: bool) -> io::Result<()> {
    if !gathered.is_empty() {
        send_bytes(stream, gathered, more).await?;
        gathered.clear();
    }
    Ok(())
}

async fn send_bytes(stream: &TcpStream, mut bytes: &[u8], more: bool) -> io::Result<()> {
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    while !bytes.is_empty() {
        let count = stream
            .async_io(Interest::WRITABLE, || {
                // SAFETY: pointer and length are those of a live slice; the call only reads it.
                let count =
                    unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
                usize::try_from(count).map_err(|_| io::Error::last_os_error())
            })
            .await?;
        bytes.advance(count);
    }
    Ok(())
}

async fn send_slice(stream: &TcpStream, mut slice: FileSlice, sent: &Sent) -> io::Result<()> {
    while slice.len > 0 {
        let run = slice.first_run();
        let failed = |error: &io::Error| sent.read_failed(&run, error);
        let has_descriptor = run.file.as_fd().is_some();
        if !has_descriptor {
            let bytes = super::read_slice_warm(&run, sent).await.inspect_err(failed)?;
            send_bytes(stream, &bytes, false).await?;
            sent.count_copied(run.len);
        } else {
            if run.warm < run.len && !run.file.is_cached(run.position, run.len) {
                warm(&run, sent).await.inspect_err(failed)?;
            }
            send_run(stream, &run).await.inspect_err(|error| {
                if !is_of_socket(error) {
                    failed(error);
                }
            })?;
            sent.sendfile_bytes.fetch_add(run.len, Ordering::Relaxed);
        }
        slice.position += run.len;
        slice.len -= run.len;
        slice.warm = slice.warm.saturating_sub(run.len);
    }
    Ok(())
}

/// Whether `sendfile` failed because of the client, and not of the file.
fn is_of_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        NotConnected, TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
    )
}

/// Brings a run into the page cache on a thread that may block.
pub(super) async fn warm(run: &FileSlice, sent: &Sent) -> io::Result<()> {
    const READ_BYTES: u64 = 128 * 1024;
    sent.cold_runs.fetch_add(1, Ordering::Relaxed);
    let run = run.clone();
    let reading = sent.blocking.run(move || {
        let mut buffer = vec![0; usize::try_from(run.len.min(READ_BYTES)).unwrap_or(0)];
        let mut at = run.position;
        while at < run.position + run.len {
            let wanted =
                buffer.len().min(usize::try_from(run.position + run.len - at).unwrap_or(buffer.len()));
            match run.file.read_at(&mut buffer[..wanted], at)? {
                0 => {
                    let reason = "a log file is shorter than its index says";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                count => at += count as u64,
            }
        }
        Ok(())
    });
    reading.await.map_err(io::Error::other)?
}

/// Reads a slice of a file that failed before; returns how far that goes, which is beyond the first batch.
pub(super) async fn readable(slice: &FileSlice, sent: &Sent) -> io::Result<u64> {
    const READ_BYTES: u64 = 64 * 1024;
    sent.cold_runs.fetch_add(1, Ordering::Relaxed);
    let slice = slice.clone();
    let reading = sent.blocking.run(move || {
        let (mut buffer, mut done, mut first) = (Vec::new(), 0, u64::MAX);
        while done < slice.len {
            buffer.resize(usize::try_from((slice.len - done).min(READ_BYTES)).unwrap_or(0), 0);
            let read = match slice.file.read_at(&mut buffer, slice.position + done) {
                Ok(0) => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a log file is shorter than its index says",
                )),
                read => read,
            };
            match read {
                Ok(count) => {
                    if done == 0 {
                        let header = BatchHeader::parse(buffer.get(..count).unwrap_or_default());
                        first = header.map_or(u64::MAX, |header| header.size() as u64);
                    }
                    done += count as u64;
                }
                Err(_) if done >= first => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    });
    reading.await.map_err(io::Error::other)?
}

async fn send_run(stream: &TcpStream, run: &FileSlice) -> io::Result<()> {
    let mut offset = libc::off64_t::try_from(run.position).map_err(io::Error::other)?;
    let mut left = usize::try_from(run.len).map_err(io::Error::other)?;
    let Some(file) = run.file.as_fd() else { return Err(io::ErrorKind::Unsupported.into()) };
    let file = file.as_raw_fd();
    while left > 0 {
        let count = stream
            .async_io(Interest::WRITABLE, || {
                // SAFETY: both descriptors are open while `run` and `stream` are borrowed, and
                // `offset` is a live integer that the call advances.
                let count = unsafe { libc::sendfile64(stream.as_raw_fd(), file, &raw mut offset, left) };
                usize::try_from(count).map_err(|_| io::Error::last_os_error())
            })
            .await?;
        if count == 0 {
            let reason = "a log file is shorter than its index says";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        left -= count;
    }
    Ok(())
}
