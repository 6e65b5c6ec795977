//! The least that a row of the comparison takes on this machine: the same bytes moved by system calls alone.
//!
//! `benches/versus/run` compiles this file by itself (`rustc -O --edition 2024`) and runs it beside the row.
//!
//! ```text
//! bare echo FILE CONNECTIONS SECONDS          requests of 220 bytes, one under way on each connection: epoll_wait, recv,
//!                                             pwrite of the record to FILE, send of an answer of 60 bytes
//! bare sink FOLDER CONNECTIONS BYTES TOTAL    frames of BYTES, five under way: recv, CRC-32C, pwrite to one of three
//!                                             files, send of an answer; until TOTAL bytes have come
//! bare sendfile FILE TOTAL                    FILE again and again by sendfile of 1 MiB, until TOTAL bytes have gone
//! bare write FOLDER TOTAL                     pwrite of 1 MiB to one of three files
//! bare touch BYTES                            one byte into each page of so much memory, which is then given back
//! ```
//!
//! Each prints one line of JSON: CPU seconds (user and system) of the process that serves, seconds, bytes, requests. What
//! sends and receives at the other end is a process of its own.

use std::env;
use std::ffi::{c_int, c_long, c_void};
use std::fs::{File, OpenOptions};
use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const REQUEST_BYTES: usize = 220;
const RECORD_BYTES: usize = 168;
const ANSWER_BYTES: usize = 60;
const DEPTH: usize = 5;
const MIB: usize = 1 << 20;
const FILES: usize = 3;
const EVENTS_MAX: usize = 64;

#[repr(C)]
struct Rusage {
    user: [c_long; 2],
    system: [c_long; 2],
    rest: [c_long; 14],
}

#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}

const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: c_int = 1;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const PROT_READ_WRITE: c_int = 3;
const MADV_HUGEPAGE: c_int = 14;

unsafe extern "C" {
    fn getrusage(who: c_int, usage: *mut Rusage) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut Event) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut Event, most: c_int, timeout_ms: c_int) -> c_int;
    fn sendfile(into: c_int, from: c_int, offset: *mut i64, count: usize) -> isize;
    fn mmap(
        at: *mut c_void,
        bytes: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn madvise(at: *mut c_void, bytes: usize, advice: c_int) -> c_int;
    fn munmap(at: *mut c_void, bytes: usize) -> c_int;
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// User and system time of this process.
fn cpu_seconds() -> io::Result<f64> {
    let mut usage = Rusage { user: [0; 2], system: [0; 2], rest: [0; 14] };
    // SAFETY: the structure is as large as the kernel's, and lives as long as the call.
    checked(unsafe { getrusage(0, &mut usage) })?;
    let seconds = |time: [c_long; 2]| time[0] as f64 + time[1] as f64 / 1e6;
    Ok(seconds(usage.user) + seconds(usage.system))
}

/// Sockets by number that are waited for together.
struct Poll {
    epoll: OwnedFd,
    found: [Event; EVENTS_MAX],
}

impl Poll {
    fn new(sockets: &[TcpStream]) -> io::Result<Self> {
        // SAFETY: a new descriptor, which nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(checked(epoll_create1(0))?) };
        for (number, socket) in sockets.iter().enumerate() {
            let mut event = Event { events: EPOLLIN, data: number as u64 };
            // SAFETY: both descriptors are open; the event is copied.
            checked(unsafe { epoll_ctl(epoll.as_raw_fd(), EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) })?;
        }
        Ok(Self { epoll, found: [Event { events: 0, data: 0 }; EVENTS_MAX] })
    }

    /// Waits; gives the numbers of those that have something to read.
    fn ready(&mut self) -> io::Result<impl Iterator<Item = usize> + '_> {
        // SAFETY: there is room for as many events as are asked for.
        let count =
            unsafe { epoll_wait(self.epoll.as_raw_fd(), self.found.as_mut_ptr(), EVENTS_MAX as c_int, -1) };
        let count = checked(count)? as usize;
        Ok(self.found[..count].iter().map(|event| event.data as usize))
    }
}

/// What was measured, from the first request on.
struct Meter {
    cpu: f64,
    started: Instant,
    bytes: u64,
    requests: u64,
}

impl Meter {
    fn start() -> io::Result<Self> {
        Ok(Self { cpu: cpu_seconds()?, started: Instant::now(), bytes: 0, requests: 0 })
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.requests += 1;
    }

    fn print(&self) -> io::Result<()> {
        let (cpu, seconds) = (cpu_seconds()? - self.cpu, self.started.elapsed().as_secs_f64());
        let Self { bytes, requests, .. } = self;
        println!(
            "{{\"cpu_seconds\": {cpu:.6}, \"seconds\": {seconds:.6}, \"bytes\": {bytes}, \"requests\": {requests}}}"
        );
        Ok(())
    }
}

/// CRC-32C, three streams at a time where the processor has an instruction for it.
mod crc {
    /// Reversed Castagnoli polynomial.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    const STREAM_BYTES: usize = 4096;

    pub struct Crc {
        /// What a byte at each place of a remainder becomes after STREAM_BYTES zeros.
        shift: [[u32; 256]; 4],
        has_instruction: bool,
    }

    fn by_bits(mut crc: u32, bytes: impl Iterator<Item = u8>) -> u32 {
        for byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            }
        }
        crc
    }

    impl Crc {
        pub fn new() -> Self {
            let mut shift = [[0; 256]; 4];
            // It is linear, so that single bits are enough.
            let bits: [u32; 32] =
                std::array::from_fn(|bit| by_bits(1 << bit, std::iter::repeat_n(0, STREAM_BYTES)));
            for (place, table) in shift.iter_mut().enumerate() {
                for (byte, entry) in table.iter_mut().enumerate() {
                    *entry = (0..8)
                        .filter(|bit| byte >> bit & 1 == 1)
                        .fold(0, |sum, bit| sum ^ bits[8 * place + bit]);
                }
            }
            let crc = Self { shift, has_instruction: super::has_crc_instruction() };
            assert_eq!(!crc.update(!0, b"123456789"), 0xe306_9283);
            let long: Vec<u8> = (0..4 * STREAM_BYTES + 77).map(|number| (number * 7 % 251) as u8).collect();
            assert_eq!(crc.update(!0, &long), by_bits(!0, long.iter().copied()));
            crc
        }

        pub fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
            #[cfg(target_arch = "x86_64")]
            if self.has_instruction {
                // SAFETY: the instruction is there.
                return unsafe { self.by_instruction(crc, bytes) };
            }
            by_bits(crc, bytes.iter().copied())
        }

        fn shifted(&self, crc: u32) -> u32 {
            crc.to_le_bytes()
                .iter()
                .zip(&self.shift)
                .fold(0, |sum, (byte, table)| sum ^ table[*byte as usize])
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "sse4.2")]
        fn by_instruction(&self, mut crc: u32, bytes: &[u8]) -> u32 {
            use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let mut blocks = bytes.chunks_exact(3 * STREAM_BYTES);
            for block in &mut blocks {
                let (first, rest) = block.split_at(STREAM_BYTES);
                let (second, third) = rest.split_at(STREAM_BYTES);
                let (mut one, mut two, mut three) = (u64::from(crc), 0, 0);
                for ((a, b), c) in
                    first.chunks_exact(8).zip(second.chunks_exact(8)).zip(third.chunks_exact(8))
                {
                    one = _mm_crc32_u64(one, word(a));
                    two = _mm_crc32_u64(two, word(b));
                    three = _mm_crc32_u64(three, word(c));
                }
                crc = self.shifted(self.shifted(one as u32) ^ two as u32) ^ three as u32;
            }
            let mut words = blocks.remainder().chunks_exact(8);
            for bytes in &mut words {
                crc = _mm_crc32_u64(u64::from(crc), word(bytes)) as u32;
            }
            words.remainder().iter().fold(crc, |crc, byte| _mm_crc32_u8(crc, *byte))
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_crc_instruction() -> bool {
    std::arch::is_x86_feature_detected!("sse4.2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_crc_instruction() -> bool {
    false
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

fn new_files(folder: &str) -> io::Result<Vec<File>> {
    (0..FILES).map(|number| new_file(&Path::new(folder).join(format!("bare-{number}.log")))).collect()
}

/// Starts the other end, with the port to come to as its last argument, and takes its connections.
fn with_client(arguments: &[&str], connections: usize) -> io::Result<(Child, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let child = Command::new(env::current_exe()?).args(arguments).arg(port).spawn()?;
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    Ok((child, sockets))
}

fn connect(port: &str, connections: usize) -> io::Result<Vec<TcpStream>> {
    let one = |_| {
        let socket = TcpStream::connect(("127.0.0.1", port.parse().map_err(|_| ErrorKind::InvalidInput)?))?;
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    (0..connections).map(one).collect()
}

fn ended(mut child: Child) -> io::Result<()> {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("the other end ended with {status}"))) }
}

/// Requests that fit into one packet come whole.
fn echo(path: &str, connections: usize, seconds: &str) -> io::Result<()> {
    let file = new_file(Path::new(path))?;
    let (child, sockets) = with_client(&["echo-client", &connections.to_string(), seconds], connections)?;
    let mut poll = Poll::new(&sockets)?;
    let mut sockets: Vec<_> = sockets.into_iter().map(Some).collect();
    let (mut request, answer) = ([0; 4096], [1; ANSWER_BYTES]);
    let mut position = 0;
    let mut meter = Meter::start()?;
    while sockets.iter().any(Option::is_some) {
        for number in poll.ready()? {
            let Some(socket) = &mut sockets[number] else { continue };
            match socket.read(&mut request)? {
                0 => {
                    // Closed, so that it has no more events.
                    sockets[number] = None;
                }
                REQUEST_BYTES => {
                    file.write_all_at(&request[..RECORD_BYTES], position)?;
                    position += RECORD_BYTES as u64;
                    socket.write_all(&answer)?;
                    meter.add(RECORD_BYTES);
                }
                read => return Err(Error::other(format!("{read} bytes in place of a request"))),
            }
        }
    }
    meter.print()?;
    ended(child)
}

fn echo_client(connections: usize, seconds: f64, port: &str) -> io::Result<()> {
    let mut sockets = connect(port, connections)?;
    let mut poll = Poll::new(&sockets)?;
    let (request, mut answer) = ([2; REQUEST_BYTES], [0; 4096]);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for socket in &mut sockets {
        socket.write_all(&request)?;
    }
    while Instant::now() < end {
        for number in poll.ready()? {
            let socket = &mut sockets[number];
            if socket.read(&mut answer)? != ANSWER_BYTES {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            socket.write_all(&request)?;
        }
    }
    // What is under way is answered, so that nothing is left when the connections are closed.
    for socket in &mut sockets {
        socket.read_exact(&mut answer[..ANSWER_BYTES])?;
    }
    Ok(())
}

fn sink(folder: &str, connections: usize, frame_bytes: usize, total: usize) -> io::Result<()> {
    let files = new_files(folder)?;
    let frames = total / frame_bytes / connections;
    let arguments = [connections, frame_bytes, frames].map(|number| number.to_string());
    let (child, sockets) =
        with_client(&["sink-client", &arguments[0], &arguments[1], &arguments[2]], connections)?;
    let mut poll = Poll::new(&sockets)?;
    let mut sockets: Vec<_> = sockets.into_iter().map(Some).collect();
    let crc = crc::Crc::new();
    let mut buffers = vec![vec![0; frame_bytes]; connections];
    let mut states = vec![(0, !0); connections];
    let (answer, mut positions, mut sums) = ([1; ANSWER_BYTES], [0; FILES], 0);
    let mut meter = Meter::start()?;
    while sockets.iter().any(Option::is_some) {
        for number in poll.ready()? {
            let Some(socket) = &mut sockets[number] else { continue };
            let (buffer, (filled, sum)) = (&mut buffers[number], &mut states[number]);
            let read = socket.read(&mut buffer[*filled..])?;
            if read == 0 {
                // It has all its answers. Closed, it has no more events.
                sockets[number] = None;
                continue;
            }
            *sum = crc.update(*sum, &buffer[*filled..*filled + read]);
            *filled += read;
            if *filled == frame_bytes {
                let file = meter.requests as usize % FILES;
                files[file].write_all_at(buffer, positions[file])?;
                positions[file] += frame_bytes as u64;
                socket.write_all(&answer)?;
                meter.add(frame_bytes);
                sums ^= *sum;
                (*filled, *sum) = (0, !0);
            }
        }
    }
    // Used, so that it is not left out.
    std::hint::black_box(sums);
    meter.print()?;
    ended(child)
}

fn sink_client(connections: usize, frame_bytes: usize, frames: usize, port: &str) -> io::Result<()> {
    let frame = vec![3; frame_bytes];
    let one = |mut socket: TcpStream| {
        let (mut sent, mut answered, mut answers) = (0, 0, [0; DEPTH * ANSWER_BYTES]);
        while answered < frames * ANSWER_BYTES {
            while sent < frames && sent - answered / ANSWER_BYTES < DEPTH {
                socket.write_all(&frame)?;
                sent += 1;
            }
            match socket.read(&mut answers)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => answered += read,
            }
        }
        Ok(())
    };
    let sockets = connect(port, connections)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = sockets.into_iter().map(|socket| scope.spawn(move || one(socket))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Error::other("a thread has panicked")))
        })
    })
}

fn send_file(path: &str, total: usize) -> io::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len() as usize;
    if size == 0 {
        return Err(Error::other(format!("{path} is empty")));
    }
    let (child, sockets) = with_client(&["sendfile-client", &total.to_string()], 1)?;
    let (mut offset, mut left) = (0, total);
    let mut meter = Meter::start()?;
    while left > 0 {
        let wanted = MIB.min(size - offset as usize).min(left);
        // SAFETY: both descriptors are open, and the offset lives as long as the call.
        let sent = unsafe { sendfile(sockets[0].as_raw_fd(), file.as_raw_fd(), &mut offset, wanted) };
        match sent {
            ..0 => return Err(Error::last_os_error()),
            0 => return Err(Error::other(format!("{path} has become shorter"))),
            sent => {
                meter.add(sent as usize);
                left -= sent as usize;
            }
        }
        if offset as usize == size {
            offset = 0;
        }
    }
    // Until the other end has it all.
    drop(sockets);
    ended(child)?;
    meter.print()
}

/// Reads as the load generator does: waits, and takes what is there.
fn send_file_client(total: usize, port: &str) -> io::Result<()> {
    let mut sockets = connect(port, 1)?;
    let mut poll = Poll::new(&sockets)?;
    let (mut buffer, mut received) = (vec![0; MIB], 0);
    loop {
        for number in poll.ready()? {
            match sockets[number].read(&mut buffer)? {
                0 if received == total => return Ok(()),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => received += read,
            }
        }
    }
}

fn write(folder: &str, total: usize) -> io::Result<()> {
    let (files, bytes) = (new_files(folder)?, vec![4; MIB]);
    let mut meter = Meter::start()?;
    for number in 0..total / MIB {
        files[number % FILES].write_all_at(&bytes, (number / FILES * MIB) as u64)?;
        meter.add(MIB);
    }
    meter.print()
}

/// In huge pages where there are any: what a host takes back are large free blocks.
fn touch(bytes: usize) -> io::Result<()> {
    let mut meter = Meter::start()?;
    // SAFETY: a new mapping, which is written within its bounds only, and ended.
    unsafe {
        let start = mmap(std::ptr::null_mut(), bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
        if start as isize == -1 {
            return Err(Error::last_os_error());
        }
        // Without huge pages it only takes longer.
        madvise(start, bytes, MADV_HUGEPAGE);
        for page in (0..bytes).step_by(4096) {
            start.cast::<u8>().add(page).write_volatile(1);
        }
        checked(munmap(start, bytes))?;
    }
    meter.add(bytes);
    meter.print()
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let count = |word: &str| word.parse::<usize>().map_err(|error| Error::other(format!("{word}: {error}")));
    match words[..] {
        ["echo", file, connections, seconds] => echo(file, count(connections)?, seconds),
        ["echo-client", connections, seconds, port] => {
            let seconds = seconds.parse().map_err(|error| Error::other(format!("{seconds}: {error}")))?;
            echo_client(count(connections)?, seconds, port)
        }
        ["sink", folder, connections, bytes, total] => {
            sink(folder, count(connections)?, count(bytes)?, count(total)?)
        }
        ["sink-client", connections, bytes, frames, port] => {
            sink_client(count(connections)?, count(bytes)?, count(frames)?, port)
        }
        ["sendfile", file, total] => send_file(file, count(total)?),
        ["sendfile-client", total, port] => send_file_client(count(total)?, port),
        ["write", folder, total] => write(folder, count(total)?),
        ["touch", bytes] => touch(count(bytes)?),
        _ => Err(Error::other("usage: bare echo|sink|sendfile|write|touch …; the head of bare.rs tells")),
    }
}
