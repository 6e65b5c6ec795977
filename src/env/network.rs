//! The port to the network: listening, connecting, and the two directions of a connection.

// The real variant of a port's enum.
#![allow(clippy::disallowed_types)]

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Pending;

/// What a listening socket gives its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; `None` is the system's choice.
    pub backlog: Option<i32>,
    /// Size of the system's buffers, where it is not to choose.
    pub receive_buffer_bytes: Option<usize>,
    pub send_buffer_bytes: Option<usize>,
}

/// The network as one node sees it. Errors are those of the operating system (`AddrInUse`, `ConnectionRefused`…).
pub trait Network: Send + Sync + Debug {
    /// Listens. An empty host is every interface; a port of 0 is one that is free.
    fn bind<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        options: ListenOptions,
    ) -> Pending<'a, io::Result<Box<dyn Acceptor>>>;

    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `TimedOut` when there is no connection within `limit`.
    fn connect<'a>(&'a self, address: &'a str, limit: Duration) -> Pending<'a, io::Result<Socket>>;

    /// This machine's name, as others reach it.
    fn host_name(&self) -> String;
}

/// A listening socket; closed when dropped.
pub trait Acceptor: Send + Sync + Debug {
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection and its peer. Cancel-safe: what was not returned is accepted by the next call.
    fn accept(&self) -> Pending<'_, io::Result<(Socket, SocketAddr)>>;
}

/// Both directions of a connection that is no TCP socket of this machine: simulated, or (later) encrypted.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Debug {
    /// Ready when a read would give something (bytes, the end, an error). Always ready is right, too, but then a
    /// connection that waits holds a buffer.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection; closed when dropped. Slices of files leave by `sendfile` where it is `Tcp`, and are copied otherwise
/// (`zerocopy`). The choice is an enum, so that the real one costs a branch and no virtual call.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

impl Socket {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Other(stream) => stream.local_addr(),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Other(stream) => stream.peer_addr(),
        }
    }

    /// Ready when a read would give something (bytes, the end, an error).
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Other(stream) => stream.poll_readable(context),
        }
    }

    /// The two directions, for two tasks.
    pub fn into_split(self) -> (SocketReader, SocketWriter) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (SocketReader::Tcp(reader), SocketWriter::Tcp(writer))
            }
            Self::Other(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (SocketReader::Other(reader), SocketWriter::Other(writer))
            }
        }
    }
}

/// What a [`Socket`] receives.
#[derive(Debug)]
pub enum SocketReader {
    Tcp(OwnedReadHalf),
    Other(tokio::io::ReadHalf<Box<dyn Duplex>>),
}

/// What a [`Socket`] sends.
#[derive(Debug)]
pub enum SocketWriter {
    Tcp(OwnedWriteHalf),
    Other(tokio::io::WriteHalf<Box<dyn Duplex>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for SocketReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

macro_rules! writes {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
                    Self::Other(stream) => Pin::new(stream).poll_write(context, bytes),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
                    Self::Other(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
                    Self::Other(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffers: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
                    Self::Other(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Tcp(stream) => stream.is_write_vectored(),
                    Self::Other(stream) => stream.is_write_vectored(),
                }
            }
        }
    };
}

writes!(Socket);
writes!(SocketWriter);
