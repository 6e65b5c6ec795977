//! Which connections TCP paces.
//!
//! Nothing can be congested between two processes of one machine. A congestion control that measures and paces
//! all the same (BBR, where it is the system's default) costs more there than everything else of a large fetch
//! together. So where that is the default, connections begin with Reno, which just sends and which every
//! kernel has, and get the default back when their peer is on another machine. A connection that was paced once
//! stays so whatever it is given later: hence this order.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use nix::sys::socket::sockopt::TcpCongestion;
use nix::sys::socket::{getsockopt, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// The system's congestion control, where it is one that paces.
static PACES: LazyLock<Option<OsString>> = LazyLock::new(|| {
    let fresh = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).ok()?;
    let name = getsockopt(&fresh, TcpCongestion).ok()?;
    let name = name.to_str()?.trim_end_matches('\0');
    name.starts_with("bbr").then(|| OsString::from(name))
});

/// Lets the connections of a listener begin without pacing.
pub(super) fn leave_out(listener: &impl AsFd) -> io::Result<()> {
    match &*PACES {
        Some(_) => Ok(setsockopt(listener, TcpCongestion, &OsString::from("reno"))?),
        None => Ok(()),
    }
}

/// Gives an accepted connection what the system wants, unless it stays within the machine.
pub(super) fn put_back(stream: &impl AsFd, local: IpAddr, peer: IpAddr) -> io::Result<()> {
    match &*PACES {
        Some(name) if !peer.is_loopback() && peer != local => Ok(setsockopt(stream, TcpCongestion, name)?),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn congestion_control(socket: &impl AsFd) -> String {
        let name = getsockopt(socket, TcpCongestion).unwrap();
        name.to_string_lossy().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn connections_within_the_machine_are_not_paced_and_others_as_the_system_wants() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let system = congestion_control(&listener);
        leave_out(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap().ip();
        put_back(&stream, local, peer.ip()).unwrap();
        assert!(!congestion_control(&stream).starts_with("bbr"));
        put_back(&stream, local, IpAddr::from([192, 0, 2, 1])).unwrap();
        assert_eq!(congestion_control(&stream), system);
    }
}
