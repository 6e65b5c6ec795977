//! A network for tests: byte streams between machines, with everything that is under way in one heap that
//! the driver of the simulation turns.
//!
//! What it does to its users, all of it decided by the seed:
//! - **Time**: a piece of a stream arrives after the link's latency and in order; a slow link carries so many
//!   bytes in a millisecond. A write is taken in part, and a frame arrives in pieces.
//! - **A process ends** ([`SimNet::kill`]): its listeners are gone and its streams end, with a FIN, behind all that
//!   it sent, or with a reset, which the last part of that is lost to. Who sends to it or connects to its port is answered by a reset.
//! - **A machine is lost** ([`SimNet::lose`]): silence, and the last part of what it sent is lost. Who sends to it waits, and learns by a reset when the
//!   machine is there again ([`SimNet::bring_up`]) and knows nothing of the stream. Connecting waits as well.
//! - **Cuts** ([`SimNet::cut`]): in one direction; what is sent meanwhile arrives once the cut is healed, as
//!   TCP sends it again.
//! - **Resets** ([`SimNet::reset_one`]): of one stream, in the middle of what is under way.
//!
//! What it never does: change bytes, reorder or double those of one stream. (Streams overtake each other.)

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::random::SimRandom;
use super::trace::{Trace, digest};

/// Bytes that may be under way or unread in one direction of a stream.
const WINDOW_BYTES: usize = 256 * 1024;
/// Most bytes that one write takes.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// What could not be delivered is sent again after it.
const RETRY_MS: u64 = 200;
/// A connection that the listener had no room for is asked for again after it.
const CONNECT_RETRY_MS: u64 = 1000;

/// How a direction between two machines behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Latency: between these, drawn for each piece.
    pub least_ms: u64,
    pub most_ms: u64,
    pub bytes_per_ms: u64,
}

impl Default for Link {
    /// Like machines in one room.
    fn default() -> Self {
        Self { least_ms: 1, most_ms: 2, bytes_per_ms: 100_000 }
    }
}

#[derive(Debug, Hash)]
enum NetEvent {
    Connect { stream: u64, to: SocketAddr },
    Refused { stream: u64 },
    Connected { stream: u64 },
    Arrived { stream: u64, end: usize, len: usize, digest: u64 },
    Finished { stream: u64, end: usize },
    Reset { stream: u64, end: usize },
}

/// What is under way in one direction.
#[derive(Debug)]
enum Segment {
    Connect,
    Connected,
    Data(Bytes),
    Finish,
    Reset,
}

/// One side of a stream, and what is under way to it.
#[derive(Debug)]
struct End {
    address: SocketAddr,
    /// False until the other side's kernel has answered.
    is_connected: bool,
    /// Nobody holds this side any more.
    is_gone: bool,
    received: VecDeque<Bytes>,
    received_bytes: usize,
    has_finish: bool,
    error: Option<io::ErrorKind>,
    /// This side will send no more.
    is_finished: bool,
    flying: VecDeque<Segment>,
    flying_bytes: usize,
    /// The last of `flying` arrives then.
    last_ms: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            is_connected: false,
            is_gone: false,
            received: VecDeque::new(),
            received_bytes: 0,
            has_finish: false,
            error: None,
            is_finished: false,
            flying: VecDeque::new(),
            flying_bytes: 0,
            last_ms: 0,
            reader: None,
            writer: None,
        }
    }
}

#[derive(Debug)]
struct Listener {
    id: u64,
    backlog: usize,
    waiting: VecDeque<u64>,
    acceptor: Option<Waker>,
}

#[derive(Debug, Default)]
struct Machine {
    number: u32,
    is_lost: bool,
    listeners: BTreeMap<u16, Listener>,
    next_port: u16,
}

/// The head of a direction's queue is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ms: u64,
    sequence: u64,
    stream: u64,
    end: usize,
}

#[derive(Debug)]
struct Net {
    trace: Trace,
    random: SimRandom,
    machines: BTreeMap<IpAddr, Machine>,
    names: BTreeMap<String, IpAddr>,
    /// End 0 is who connected.
    streams: BTreeMap<u64, [End; 2]>,
    next_id: u64,
    due: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    link: Link,
    /// Who is to be woken once the lock is free.
    woken: Vec<Waker>,
}

/// See the head of this module. Clones are the same network.
#[derive(Clone, Debug)]
pub struct SimNet {
    net: Arc<Mutex<Net>>,
}

fn dead() -> io::Error {
    io::Error::other("the process of this stream has ended")
}

fn other(end: usize) -> usize {
    1 - end
}

impl Net {
    fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or(self.link)
    }

    /// Sends to one end of a stream.
    fn send(&mut self, stream: u64, to: usize, segment: Segment) {
        let Some(ends) = self.streams.get(&stream) else { return };
        let link = self.link(ends[other(to)].address.ip(), ends[to].address.ip());
        let len = match &segment {
            Segment::Data(bytes) => bytes.len(),
            _ => 0,
        };
        let latency = link.least_ms + self.random.below(link.most_ms.saturating_sub(link.least_ms) + 1);
        let now_ms = self.trace.now_ms();
        let Some(ends) = self.streams.get_mut(&stream) else { return };
        let end = &mut ends[to];
        let transfer = len as u64 / link.bytes_per_ms.max(1);
        end.last_ms = (now_ms + latency.max(1)).max(end.last_ms) + transfer;
        end.flying.push_back(segment);
        end.flying_bytes += len;
        let at_ms = end.last_ms;
        self.push(at_ms, stream, to);
    }

    fn push(&mut self, at_ms: u64, stream: u64, end: usize) {
        self.sequence += 1;
        self.due.push(Reverse(Due { at_ms, sequence: self.sequence, stream, end }));
    }

    fn wake_all(&mut self, stream: u64, end: usize) {
        if let Some(ends) = self.streams.get_mut(&stream) {
            self.woken.extend(ends[end].reader.take());
            self.woken.extend(ends[end].writer.take());
        }
    }

    /// Delivers the head of a direction's queue, if it can be.
    fn deliver(&mut self, stream: u64, to: usize) {
        let now_ms = self.trace.now_ms();
        let Some(ends) = self.streams.get(&stream) else { return };
        let (from_ip, address) = (ends[other(to)].address.ip(), ends[to].address);
        let (number, is_lost) = self.machines.get(&address.ip()).map_or((0, true), |m| (m.number, m.is_lost));
        if ends[to].flying.is_empty() {
            return;
        }
        if is_lost || self.cuts.contains(&(from_ip, address.ip())) {
            self.push(now_ms + RETRY_MS, stream, to);
            return;
        }
        if matches!(ends[to].flying.front(), Some(Segment::Connect)) {
            let Some(machine) = self.machines.get_mut(&address.ip()) else { return };
            match machine.listeners.get_mut(&address.port()) {
                Some(listener) if listener.waiting.len() >= listener.backlog => {
                    self.push(now_ms + CONNECT_RETRY_MS, stream, to);
                    return;
                }
                Some(listener) => {
                    listener.waiting.push_back(stream);
                    self.woken.extend(listener.acceptor.take());
                    self.trace.note(number, &NetEvent::Connect { stream, to: address });
                    if let Some(ends) = self.streams.get_mut(&stream) {
                        ends[to].flying.pop_front();
                        ends[to].is_connected = true;
                    }
                    self.send(stream, other(to), Segment::Connected);
                }
                None => {
                    self.trace.note(number, &NetEvent::Refused { stream });
                    if let Some(ends) = self.streams.get_mut(&stream) {
                        ends[to].flying.clear();
                        ends[to].is_gone = true;
                    }
                    self.send(stream, other(to), Segment::Reset);
                }
            }
            return;
        }
        let Some(ends) = self.streams.get_mut(&stream) else { return };
        let end = &mut ends[to];
        let Some(segment) = end.flying.pop_front() else { return };
        if end.is_gone {
            // Nobody is there: who sends data learns it.
            if let Segment::Data(bytes) = &segment {
                end.flying_bytes -= bytes.len();
                self.send(stream, other(to), Segment::Reset);
            }
            self.forget_dead(stream);
            return;
        }
        match segment {
            Segment::Connect => {}
            Segment::Connected => {
                end.is_connected = true;
                self.trace.note(number, &NetEvent::Connected { stream });
            }
            Segment::Data(bytes) => {
                let len = bytes.len();
                end.flying_bytes -= len;
                end.received_bytes += len;
                self.trace.note(number, &NetEvent::Arrived { stream, end: to, len, digest: digest(&bytes) });
                end.received.push_back(bytes);
            }
            Segment::Finish => {
                end.has_finish = true;
                self.trace.note(number, &NetEvent::Finished { stream, end: to });
            }
            Segment::Reset => {
                let kind = match end.is_connected {
                    true => io::ErrorKind::ConnectionReset,
                    false => io::ErrorKind::ConnectionRefused,
                };
                end.error.get_or_insert(kind);
                self.trace.note(number, &NetEvent::Reset { stream, end: to });
            }
        }
        self.wake_all(stream, to);
    }

    /// A side is let go of by who held it.
    fn close(&mut self, stream: u64, end: usize, is_abrupt: bool) {
        let Some(ends) = self.streams.get_mut(&stream) else { return };
        let side = &mut ends[end];
        if side.is_gone {
            return;
        }
        side.is_gone = true;
        side.reader = None;
        side.writer = None;
        let is_reset = is_abrupt || side.received_bytes > 0;
        let was_finished = std::mem::replace(&mut side.is_finished, true);
        let is_over = side.error.is_some();
        if !is_over && is_reset {
            self.send(stream, other(end), Segment::Reset);
        } else if !is_over && !was_finished {
            self.send(stream, other(end), Segment::Finish);
        }
        self.forget_dead(stream);
    }

    /// Forgets a stream that nobody holds and on which nothing is under way.
    fn forget_dead(&mut self, stream: u64) {
        let is_dead = |ends: &[End; 2]| ends.iter().all(|end| end.is_gone && end.flying.is_empty());
        if self.streams.get(&stream).is_some_and(is_dead) {
            self.streams.remove(&stream);
        }
    }

    /// Of what an end has sent and its kernel still held, the last part never leaves.
    fn lose_tail(&mut self, stream: u64, from: usize) {
        let Some(ends) = self.streams.get_mut(&stream) else { return };
        let side = &mut ends[other(from)];
        // Connecting is not taken back: the streams that it is about would never end.
        let first_data =
            side.flying.iter().position(|segment| matches!(segment, Segment::Data(_) | Segment::Finish));
        if let Some(first_data) = first_data {
            side.flying.truncate(first_data + self.random.index(side.flying.len() - first_data + 1));
            let left = side.flying.iter().map(|segment| match segment {
                Segment::Data(bytes) => bytes.len(),
                _ => 0,
            });
            side.flying_bytes = left.sum();
        }
    }

    fn ends_on(&self, ip: IpAddr) -> Vec<(u64, usize)> {
        let both = self.streams.iter().flat_map(|(id, ends)| [(*id, 0, &ends[0]), (*id, 1, &ends[1])]);
        both.filter(|(_, _, end)| end.address.ip() == ip && !end.is_gone)
            .map(|(id, at, _)| (id, at))
            .collect()
    }
}

impl SimNet {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let net = Net {
            trace,
            random: SimRandom::new(seed),
            machines: BTreeMap::new(),
            names: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_id: 1,
            due: BinaryHeap::new(),
            sequence: 0,
            cuts: BTreeSet::new(),
            links: BTreeMap::new(),
            link: Link::default(),
            woken: Vec::new(),
        };
        Self { net: Arc::new(Mutex::new(net)) }
    }

    /// Runs `with`, then wakes those for whom something has changed.
    fn with<T>(&self, with: impl FnOnce(&mut Net) -> T) -> T {
        let mut net = self.net.lock();
        let result = with(&mut net);
        let woken = std::mem::take(&mut net.woken);
        drop(net);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// A machine that others find by its name or its address.
    pub fn add(&self, number: u32, name: &str, ip: IpAddr) -> SimHost {
        self.with(|net| {
            net.machines.insert(ip, Machine { number, next_port: 40_000, ..Machine::default() });
            net.names.insert(name.to_owned(), ip);
        });
        SimHost { net: self.clone(), ip }
    }

    /// Delivers what is due by now.
    pub(super) fn turn(&self) {
        self.with(|net| {
            let now_ms = net.trace.now_ms();
            while net.due.peek().is_some_and(|Reverse(due)| due.at_ms <= now_ms) {
                let Some(Reverse(due)) = net.due.pop() else { return };
                net.deliver(due.stream, due.end);
            }
        });
    }

    /// When the next delivery is due.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.net.lock().due.peek().map(|Reverse(due)| due.at_ms)
    }

    /// The process on a machine ends; its kernel closes what it had.
    pub(super) fn kill(&self, ip: IpAddr) {
        self.with(|net| {
            let listeners = net.machines.get_mut(&ip).map(|m| std::mem::take(&mut m.listeners));
            let waiting: BTreeSet<u64> =
                listeners.unwrap_or_default().into_values().flat_map(|l| l.waiting).collect();
            for (stream, end) in net.ends_on(ip) {
                let is_abrupt = waiting.contains(&stream) || net.random.one_in(2);
                if is_abrupt {
                    net.lose_tail(stream, end);
                }
                net.close(stream, end, is_abrupt);
            }
        });
    }

    /// The machine is lost: nobody closes anything, and nobody answers.
    pub(super) fn lose(&self, ip: IpAddr) {
        self.with(|net| {
            if let Some(machine) = net.machines.get_mut(&ip) {
                machine.listeners.clear();
                machine.is_lost = true;
            }
            for (stream, end) in net.ends_on(ip) {
                net.lose_tail(stream, end);
                if let Some(ends) = net.streams.get_mut(&stream) {
                    ends[end].is_gone = true;
                }
                net.forget_dead(stream);
            }
        });
    }

    /// A lost machine is there again, and remembers nothing.
    pub(super) fn bring_up(&self, ip: IpAddr) {
        if let Some(machine) = self.net.lock().machines.get_mut(&ip) {
            machine.is_lost = false;
        }
    }

    /// Nothing arrives at `to` from `from` any more.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.net.lock().cuts.insert((from, to));
    }

    pub fn heal(&self, from: IpAddr, to: IpAddr) {
        self.net.lock().cuts.remove(&(from, to));
    }

    /// No cuts, and every link as it was at first.
    pub fn heal_all(&self) {
        let mut net = self.net.lock();
        net.cuts.clear();
        net.links.clear();
    }

    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        self.net.lock().links.insert((from, to), link);
    }

    /// Resets one stream in the middle of what is under way; false when there is none.
    pub fn reset_one(&self) -> bool {
        self.with(|net| {
            let open: Vec<u64> = net
                .streams
                .iter()
                .filter(|(_, ends)| ends.iter().all(|e| !e.is_gone))
                .map(|(id, _)| *id)
                .collect();
            let Some(stream) = open.get(net.random.index(open.len())).copied() else { return false };
            for end in [0, 1] {
                let cut = net.random.next_u64();
                let Some(ends) = net.streams.get_mut(&stream) else { continue };
                // A part of the first piece still arrives, then the reset; the rest is lost.
                let side = &mut ends[end];
                let first = side.flying.pop_front();
                side.flying.clear();
                side.flying_bytes = 0;
                match first {
                    Some(Segment::Data(bytes)) => {
                        let part = bytes.slice(..cut as usize % bytes.len().max(1));
                        side.flying_bytes = part.len();
                        side.flying.push_back(Segment::Data(part));
                    }
                    Some(first @ (Segment::Connect | Segment::Connected)) => side.flying.push_back(first),
                    _ => {}
                }
                net.send(stream, end, Segment::Reset);
            }
            true
        })
    }

    /// Streams that at least one side holds.
    pub fn count(&self) -> usize {
        self.net.lock().streams.len()
    }
}

/// The network as one machine has it.
#[derive(Clone, Debug)]
pub struct SimHost {
    net: SimNet,
    ip: IpAddr,
}

impl SimHost {
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Finds a machine by its name or its address; `localhost` and loopback are this one.
    pub fn resolve(&self, host: &str) -> io::Result<IpAddr> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(if ip.is_loopback() || ip.is_unspecified() { self.ip } else { ip });
        }
        if host == "localhost" || host.is_empty() {
            return Ok(self.ip);
        }
        let found = self.net.net.lock().names.get(host).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no machine is called {host}")))
    }

    /// Listens; port 0 is a free one.
    pub fn listen(&self, port: u16, backlog: usize) -> io::Result<SimListener> {
        self.net.with(|net| {
            let id = net.next_id;
            net.next_id += 1;
            let machine = net.machines.get_mut(&self.ip).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let port = match port {
                0 => {
                    machine.next_port += 1;
                    machine.next_port
                }
                port => port,
            };
            if machine.listeners.contains_key(&port) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listener = Listener { id, backlog: backlog.max(1), waiting: VecDeque::new(), acceptor: None };
            machine.listeners.insert(port, listener);
            Ok(SimListener { net: self.net.clone(), address: SocketAddr::new(self.ip, port), id })
        })
    }

    /// Connects; waits as long as nobody answers.
    pub async fn connect_to(&self, to: SocketAddr) -> io::Result<SimStream> {
        let id = self.net.with(|net| {
            let id = net.next_id;
            net.next_id += 1;
            let machine = net.machines.get_mut(&self.ip).ok_or(io::ErrorKind::AddrNotAvailable)?;
            machine.next_port = machine.next_port.checked_add(1).unwrap_or(40_000);
            let from = SocketAddr::new(self.ip, machine.next_port);
            net.streams.insert(id, [End::new(from), End::new(to)]);
            net.send(id, 1, Segment::Connect);
            Ok::<u64, io::Error>(id)
        })?;
        // Dropped before it is connected, it is closed.
        let stream = SimStream { net: self.net.clone(), id, end: 0 };
        std::future::poll_fn(|context| {
            stream.with_end(|end| {
                if let Some(kind) = end.error {
                    return Poll::Ready(Err(kind.into()));
                }
                if end.is_connected {
                    return Poll::Ready(Ok(()));
                }
                end.reader = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await?;
        Ok(stream)
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct SimListener {
    net: SimNet,
    address: SocketAddr,
    id: u64,
}

impl SimListener {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(SimStream, SocketAddr)>> {
        let mut net = self.net.net.lock();
        let Some(listener) = net
            .machines
            .get_mut(&self.address.ip())
            .and_then(|machine| machine.listeners.get_mut(&self.address.port()))
            .filter(|listener| listener.id == self.id)
        else {
            return Poll::Ready(Err(io::Error::other("the process of this listener has ended")));
        };
        let Some(id) = listener.waiting.pop_front() else {
            listener.acceptor = Some(context.waker().clone());
            return Poll::Pending;
        };
        let Some(peer) = net.streams.get(&id).map(|ends| ends[0].address) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        Poll::Ready(Ok((SimStream { net: self.net.clone(), id, end: 1 }, peer)))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.with(|net| {
            let Some(machine) = net.machines.get_mut(&self.address.ip()) else { return };
            let port = self.address.port();
            if machine.listeners.get(&port).is_none_or(|listener| listener.id != self.id) {
                return;
            }
            let waiting =
                machine.listeners.remove(&port).map(|listener| listener.waiting).unwrap_or_default();
            for stream in waiting {
                net.close(stream, 1, true);
            }
        });
    }
}

/// One side of a stream.
#[derive(Debug)]
pub struct SimStream {
    net: SimNet,
    id: u64,
    end: usize,
}

impl SimStream {
    fn with_end<T>(&self, with: impl FnOnce(&mut End) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.net.net.lock().streams.get_mut(&self.id).map(|ends| &mut ends[self.end]) {
            Some(end) if !end.is_gone => with(end),
            Some(_) => Poll::Ready(Err(dead())),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn address_of(&self, end: usize) -> io::Result<SocketAddr> {
        let net = self.net.net.lock();
        net.streams.get(&self.id).map(|ends| ends[end].address).ok_or(io::ErrorKind::NotConnected.into())
    }

    pub fn local(&self) -> io::Result<SocketAddr> {
        self.address_of(self.end)
    }

    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.address_of(other(self.end))
    }

    /// Ready when a read would give something: bytes, the end, an error.
    pub fn poll_arrived(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_end(|end| {
            if end.received_bytes > 0 || end.has_finish || end.error.is_some() {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let was_full = std::cell::Cell::new(false);
        let result = self.with_end(|end| {
            if end.received_bytes == 0 {
                if let Some(kind) = end.error {
                    return Poll::Ready(Err(kind.into()));
                }
                if end.has_finish {
                    return Poll::Ready(Ok(()));
                }
                end.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            was_full.set(end.received_bytes + end.flying_bytes >= WINDOW_BYTES);
            while let Some(first) = end.received.front_mut()
                && buffer.remaining() > 0
            {
                let count = first.len().min(buffer.remaining());
                buffer.put_slice(&first[..count]);
                first.advance(count);
                end.received_bytes -= count;
                if first.is_empty() {
                    end.received.pop_front();
                }
            }
            Poll::Ready(Ok(()))
        });
        if was_full.get() {
            let from = other(self.end);
            self.net.with(|net| {
                if let Some(ends) = net.streams.get_mut(&self.id) {
                    net.woken.extend(ends[from].writer.take());
                }
            });
        }
        result
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (id, to) = (self.id, other(self.end));
        self.net.with(|net| {
            let Some(ends) = net.streams.get_mut(&id) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let end = &mut ends[self.end];
            if end.is_gone {
                return Poll::Ready(Err(dead()));
            }
            if let Some(kind) = end.error {
                return Poll::Ready(Err(kind.into()));
            }
            if end.is_finished {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let peer = &ends[to];
            let room = WINDOW_BYTES.saturating_sub(peer.received_bytes + peer.flying_bytes);
            if room == 0 && !bytes.is_empty() {
                ends[self.end].writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut count = bytes.len().min(room).min(WRITE_BYTES_MAX);
            // Now and then a part only, as kernels do under pressure.
            if count > 1 && net.random.one_in(16) {
                count = 1 + net.random.index(count - 1);
            }
            if count > 0 {
                net.send(id, to, Segment::Data(Bytes::copy_from_slice(&bytes[..count])));
            }
            Poll::Ready(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (id, to) = (self.id, other(self.end));
        self.net.with(|net| {
            if let Some(ends) = net.streams.get_mut(&id) {
                let end = &mut ends[self.end];
                if !end.is_gone && end.error.is_none() && !std::mem::replace(&mut end.is_finished, true) {
                    net.send(id, to, Segment::Finish);
                }
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.with(|net| net.close(self.id, self.end, false));
    }
}
