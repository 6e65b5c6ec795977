//! From the log to the socket without a copy: responses as lists of pieces, some of them slices of
//! files, and streams that send them.
//!
//! [`Stream`] has two implementations: a TCP socket, where file slices leave by `sendfile`, and
//! [`Copying`], which reads them into memory, for streams that have no descriptor (TLS, simulation).
//!
//! How a response leaves a TCP socket:
//! * Bytes that have a slice behind them are sent with `MSG_MORE`, so that header and records share
//!   packets; small slices are copied into the bytes around them and leave in the same call.
//! * Before `sendfile` touches a run of a file, the run is looked up in the page cache; when it is
//!   not there, a thread that may block reads it first. A `sendfile` on cold pages would hold up
//!   every other connection of its worker thread. The first run of each slice is had before the
//!   response is begun ([`warm`]): where it cannot be read, an error can be answered.
//! * What cannot be read later, behind the first run or in pages that were taken to be in memory, ends the connection,
//!   as the answer's length is out. The file is suspect from then on: of the next slices of it, all is read before the
//!   response is begun, and no more is promised than could be. So a client that asks again gets on up to
//!   the damage, and is told there.

mod tcp;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::env::{Blocking, File, Socket};

/// Part of a file. It keeps the file open (and so its content alive) when the file is removed.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: Arc<dyn File>,
    /// Bytes from the file's start.
    pub position: u64,
    pub len: u64,
    /// It was just seen to it that so many bytes of it are in memory: see [`warm`].
    pub warm: u64,
}

impl FileSlice {
    /// What is read, and looked for in memory, at once.
    const RUN_BYTES_MAX: u64 = 1024 * 1024;

    /// The bytes at its start that can be had in memory before the response is begun.
    fn first_run(&self) -> Self {
        Self { len: self.len.min(Self::RUN_BYTES_MAX), ..self.clone() }
    }

    /// Whether sending its beginning would not have to wait for a device; it is sent without another look then.
    pub fn look(&mut self) -> bool {
        let run = self.first_run();
        let is_cached = run.file.is_cached(run.position, run.len);
        self.warm = if is_cached { run.len } else { 0 };
        is_cached
    }
}

/// Brings the beginning of a slice into memory, on a thread that may block: what cannot be read is known while
/// something else can still be answered.
pub async fn warm(slice: &mut FileSlice, sent: &Sent) -> io::Result<()> {
    if slice.file.is_suspect() {
        slice.len = tcp::readable(slice, sent).await?;
        slice.warm = slice.len;
        return Ok(());
    }
    let run = slice.first_run();
    tcp::warm(&run, sent).await?;
    slice.warm = run.len;
    Ok(())
}

/// Part of a response.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Bytes),
    Slice(FileSlice),
}

impl Piece {
    /// How many bytes of it are copied when it is sent together with its neighbours.
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Slice(_) => 0,
        }
    }
}

/// How file slices leave the broker; counts them by the way they took, which `/metrics` shows.
#[derive(Debug)]
pub struct Sent {
    /// Where a device is waited for.
    blocking: Arc<dyn Blocking>,
    pub sendfile_bytes: AtomicU64,
    pub copied_bytes: AtomicU64,
    /// Runs of files that were not in memory when they were asked for.
    pub cold_runs: AtomicU64,
    /// Slices that could not be read when the response was on its way already.
    pub failed_reads: AtomicU64,
    /// The places of those that were told of.
    told: Mutex<BTreeSet<(PathBuf, u64)>>,
}

/// Most places of which it is kept that they were told of.
const TOLD_MAX: usize = 1000;

impl Sent {
    pub fn new(blocking: Arc<dyn Blocking>) -> Self {
        Self {
            blocking,
            sendfile_bytes: 0.into(),
            copied_bytes: 0.into(),
            cold_runs: 0.into(),
            failed_reads: 0.into(),
            told: Mutex::default(),
        }
    }

    /// A slice could not be read, and nothing is left but to close the connection. Says where, once for each place.
    fn read_failed(&self, slice: &FileSlice, error: &io::Error) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
        slice.file.suspect();
        let path = slice.file.path().unwrap_or_default();
        let mut told = self.told.lock();
        if told.len() < TOLD_MAX && told.insert((path.clone(), slice.position)) {
            let (position, len) = (slice.position, slice.len);
            tracing::error!(path = %path.display(), position, len, %error, "a log cannot be read while it is sent; the connection is closed");
        }
    }

    pub(crate) fn count_copied(&self, bytes: u64) {
        self.copied_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ready when a read would give something (bytes, the end, an error). Lets a connection wait
    /// without a buffer.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends all pieces in order and empties the queue. Cancelling it leaves the stream in the middle
    /// of a response: it must not be used any more.
    fn send(
        &mut self,
        pieces: &mut VecDeque<Piece>,
        sent: &Sent,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// Reads a slice into memory. An end of file inside the slice is an error: the log promised the
/// bytes.
pub(crate) fn read_slice(slice: &FileSlice, into: &mut BytesMut) -> io::Result<()> {
    let start = into.len();
    let len = usize::try_from(slice.len).map_err(io::Error::other)?;
    into.resize(start + len, 0);
    let count = slice.file.read_at(&mut into[start..], slice.position)?;
    if count < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "a log file is shorter than its index says",
        ));
    }
    Ok(())
}

/// Reads a slice into memory, on a thread that may block where a device has to be asked.
pub async fn read_slice_warm(slice: &FileSlice, sent: &Sent) -> io::Result<Bytes> {
    let mut buffer = BytesMut::new();
    if slice.file.is_cached(slice.position, slice.len) {
        read_slice(slice, &mut buffer)?;
        return Ok(buffer.freeze());
    }
    sent.cold_runs.fetch_add(1, Ordering::Relaxed);
    let slice = slice.clone();
    let read = sent.blocking.run(move || read_slice(&slice, &mut buffer).map(|()| buffer.freeze()));
    read.await.map_err(io::Error::other)?
}

/// A stream without a descriptor: file slices are read and written.
#[derive(Debug)]
pub struct Copying<S>(pub S);

/// Most bytes of a slice that [`Copying`] holds in memory at a time.
const COPY_BYTES_MAX: u64 = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for Copying<S> {
    fn poll_readable(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    async fn send(&mut self, pieces: &mut VecDeque<Piece>, sent: &Sent) -> io::Result<()> {
        send_copies(&mut self.0, pieces, sent).await
    }
}

/// Sends what is to be sent over a stream without a descriptor.
async fn send_copies<S: AsyncWrite + Unpin>(
    stream: &mut S,
    pieces: &mut VecDeque<Piece>,
    sent: &Sent,
) -> io::Result<()> {
    while let Some(piece) = pieces.pop_front() {
        match piece {
            Piece::Bytes(bytes) => stream.write_all(&bytes).await?,
            Piece::Slice(mut slice) => {
                while slice.len > 0 {
                    let run = FileSlice { len: slice.len.min(COPY_BYTES_MAX), ..slice.clone() };
                    let bytes = read_slice_warm(&run, sent).await;
                    stream.write_all(&bytes.inspect_err(|error| sent.read_failed(&run, error))?).await?;
                    sent.count_copied(run.len);
                    slice.position += run.len;
                    slice.len -= run.len;
                }
            }
        }
    }
    stream.flush().await
}

impl Stream for Socket {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_readable(self, context)
    }

    async fn send(&mut self, pieces: &mut VecDeque<Piece>, sent: &Sent) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.send(pieces, sent).await,
            Self::Other(stream) => send_copies(stream, pieces, sent).await,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Copying<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Copying<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::env::real::{self, RealDisk};
    use crate::env::{Disk, OpenMode};

    /// Sizes around every threshold: empty, small (copied), large (sendfile), several in a row.
    fn pieces(file: &Arc<dyn File>) -> (VecDeque<Piece>, Vec<u8>) {
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all_at(&mut [IoSlice::new(&content)], 0).unwrap();
        let mut pieces = VecDeque::new();
        let mut expected = Vec::new();
        for (position, len) in [(0, 10), (5, 0), (100, 70_000), (70_100, 2_500_000), (7, 4096), (9, 9)] {
            let header = format!("<{len}>");
            expected.extend_from_slice(header.as_bytes());
            expected.extend_from_slice(&content[position..position + len]);
            pieces.push_back(Piece::Bytes(Bytes::from(header)));
            let slice = FileSlice { file: file.clone(), position: position as u64, len: len as u64, warm: 0 };
            pieces.push_back(Piece::Slice(slice));
        }
        (pieces, expected)
    }

    #[tokio::test]
    async fn both_twins_send_the_same_bytes_and_the_socket_takes_sendfile() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("x"), OpenMode::Create).unwrap();
        let (to_send, expected) = pieces(&file);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Sent::new(real::surroundings().blocking);
        let receive = async {
            let mut received = Vec::new();
            TcpStream::connect(address).await.unwrap().read_to_end(&mut received).await.unwrap();
            received
        };
        let send = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.send(&mut to_send.clone(), &sent).await.unwrap();
        };
        let (received, ()) = tokio::join!(receive, send);
        assert!(received == expected);
        assert_eq!(sent.sendfile_bytes.load(Ordering::Relaxed), 2_570_000);
        assert_eq!(sent.copied_bytes.load(Ordering::Relaxed), 10 + 4096 + 9);

        let sent = Sent::new(real::surroundings().blocking);
        let (near, mut far) = tokio::io::duplex(1000);
        let send = async {
            Copying(near).send(&mut to_send.clone(), &sent).await.unwrap();
        };
        let mut received = Vec::new();
        let (_, ()) = tokio::join!(far.read_to_end(&mut received), send);
        assert!(received == expected);
        assert_eq!(sent.sendfile_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_failed_while_it_was_sent_is_read_before_the_next_answer_and_promised_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("x"), OpenMode::Create).unwrap();
        file.set_len(4_000_000).unwrap();
        // Two batches; the second of 3,000,000 bytes.
        for (position, size) in [(0, 1_000_000u32), (1_000_000, 3_000_000)] {
            file.write_all_at(&mut [IoSlice::new(&(size - 12).to_be_bytes())], position + 8).unwrap();
            file.write_all_at(&mut [IoSlice::new(&[2])], position + 16).unwrap();
        }
        file.set_len(2_500_000).unwrap();
        let sent = Sent::new(real::surroundings().blocking);
        let mut slice = FileSlice { file: file.clone(), position: 0, len: 4_000_000, warm: 0 };
        let (near, mut far) = tokio::io::duplex(1000);
        let send = async {
            let mut to_send = VecDeque::from([Piece::Slice(slice.clone())]);
            Copying(near).send(&mut to_send, &sent).await.unwrap_err();
        };
        let mut received = Vec::new();
        let (_, ()) = tokio::join!(far.read_to_end(&mut received), send);
        assert!(file.is_suspect() && !slice.look());
        // What is there is promised, with the first batch whole.
        warm(&mut slice, &sent).await.unwrap();
        assert!(slice.len >= 1_000_000 && slice.len <= 2_500_000 && slice.warm == slice.len);
        let mut behind = FileSlice { file, position: 1_000_000, len: 3_000_000, warm: 0 };
        assert!(!behind.look());
        assert_eq!(warm(&mut behind, &sent).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_file_shorter_than_promised_is_an_error_on_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("x"), OpenMode::Create).unwrap();
        file.set_len(50_000).unwrap();
        let slice = Piece::Slice(FileSlice { file, position: 0, len: 100_000, warm: 0 });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, mut stream) = (client.unwrap(), accepted.unwrap().0);
        let error = stream
            .send(&mut VecDeque::from([slice.clone()]), &Sent::new(real::surroundings().blocking))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (near, _far) = tokio::io::duplex(1_000_000);
        let error = Copying(near)
            .send(&mut VecDeque::from([slice]), &Sent::new(real::surroundings().blocking))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
