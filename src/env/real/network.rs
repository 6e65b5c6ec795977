//! TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};

use super::pacing;
use crate::env::{Acceptor, ListenOptions, Network, Pending, Socket};

/// Connections that wait to be accepted, unless a listener says otherwise.
const BACKLOG: i32 = 128;

#[derive(Clone, Copy, Debug, Default)]
pub struct RealNetwork;

impl Network for RealNetwork {
    fn bind<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        options: ListenOptions,
    ) -> Pending<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            let listener = bind(host, port, options.backlog.unwrap_or(BACKLOG)).await?;
            Ok(Box::new(Listening { listener, options }) as Box<dyn Acceptor>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str, limit: Duration) -> Pending<'a, io::Result<Socket>> {
        Box::pin(async move {
            let connecting = tokio::time::timeout(limit, TcpStream::connect(address));
            let stream = connecting.await.map_err(|_| {
                let reason = format!("no connection within {} ms", limit.as_millis());
                io::Error::new(io::ErrorKind::TimedOut, reason)
            })??;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        })
    }

    fn host_name(&self) -> String {
        let names = nix::sys::utsname::uname().ok();
        let name = names.as_ref().and_then(|names| names.nodename().to_str());
        name.unwrap_or("localhost").to_owned()
    }
}

async fn bind(host: &str, port: u16, backlog: i32) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = if host.is_empty() {
        vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
    } else {
        tokio::net::lookup_host((host, port)).await?.collect()
    };
    // Names such as localhost give both; IPv4 is what most clients are told.
    addresses.sort_by_key(|address| !address.is_ipv4());
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    if host.is_empty() {
        // Where there is no IPv6.
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    for address in addresses {
        match bind_address(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if let Err(error) = pacing::leave_out(&socket) {
        tracing::debug!(%error, %address, "connections of this listener begin as the system wants");
    }
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

#[derive(Debug)]
struct Listening {
    listener: TcpListener,
    options: ListenOptions,
}

impl Acceptor for Listening {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&self) -> Pending<'_, io::Result<(Socket, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            if let Err(error) = set_options(&stream, peer, self.options) {
                tracing::debug!(%error, %peer, "socket options could not be set");
            }
            Ok((Socket::Tcp(stream), peer))
        })
    }
}

fn set_options(stream: &TcpStream, peer: SocketAddr, options: ListenOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_keepalive(true)?;
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    pacing::put_back(stream, stream.local_addr()?.ip().to_canonical(), peer.ip().to_canonical())
}
