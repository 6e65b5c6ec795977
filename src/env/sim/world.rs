//! Machines in one process: each has a runtime, a disk, a clock and an address of its own, and one thread drives
//! them all through virtual time in an order that the seed decides.
//!
//! A machine runs at most one process: a future that is given its [`Surroundings`]. Each process has a `current_thread`
//! runtime of tokio whose clock is paused, and [`World::step`] lets one after the other run up to the same moment.
//! What they send to each other arrives between two steps. Hence a run is a function of its seed, as far as
//! everything in it takes time, chance and the order of things from here; the [`Trace`]'s hash proves it.
//!
//! How a process ends:
//! - [`World::kill`]: the disk's handles die first, the network's ends are closed as a kernel closes them, then
//!   the runtime is dropped with all tasks, whose destructors reach nothing any more.
//! - [`World::power_cut`]: likewise, but the disk loses what was not synced and the network falls silent until the
//!   machine is started again.
//! - Its future ends: as an exit of the process.
//! - [`World::pause`]: it is not driven for a while, as after SIGSTOP; then its clock jumps.
//!
//! Blocking work takes some virtual time and then runs inline ([`SimBlocking`]).

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::net::{SimHost, SimListener, SimNet, SimStream};
use super::trace::Trace;
use super::{SimChance, SimDisk, SimRandom};
use crate::env::{
    Acceptor, Blocking, Clock, Duplex, ListenOptions, Network, Pending, Socket, Surroundings, WorkPanicked,
};

/// The longest step: what one machine sends another arrives so much too late at most.
const STEP_MS_MAX: u64 = 5;
/// The wall clock when a run begins: 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// One of a world's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(usize);

/// What a process is given.
pub struct Process {
    pub surroundings: Surroundings,
    /// Completes when the process is asked to end ([`World::ask_to_end`]).
    pub asked_to_end: oneshot::Receiver<()>,
}

struct Running {
    runtime: Runtime,
    /// The process itself; it ends with it.
    main: Option<Main>,
    ask: Option<oneshot::Sender<()>>,
    /// The runtime's clock stood there when the process began.
    anchor: Instant,
    began_ms: u64,
    paused_until_ms: Option<u64>,
}

type Main = Pin<Box<dyn Future<Output = Result<(), String>>>>;

impl Drop for Running {
    fn drop(&mut self) {
        // Before its tasks, and inside of the runtime: timers want it.
        let _inside = self.runtime.enter();
        self.main = None;
    }
}

struct Machine {
    number: u32,
    host: SimHost,
    disk: SimDisk,
    /// How far its wall clock is off; survives restarts.
    skew_ms: Arc<AtomicI64>,
    running: Option<Running>,
    ended: Option<Result<(), String>>,
}

/// See the head of this module.
pub struct World {
    random: SimRandom,
    trace: Trace,
    net: SimNet,
    machines: Vec<Machine>,
}

#[derive(Debug, Hash)]
enum WorldEvent {
    Started,
    Ended(Result<(), String>),
    Killed,
    PowerCut,
    Paused(u64),
    WallClockJumped(i64),
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let trace = Trace::default();
        let net = SimNet::new(random.next_u64(), trace.clone());
        Self { random, trace, net, machines: Vec::new() }
    }

    /// A machine with an empty disk. Others find it by its name or as `10.0.0.<number>`, numbers from 1 on.
    pub fn add_machine(&mut self, name: &str) -> MachineId {
        let number = self.machines.len() as u32 + 1;
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
        let disk = SimDisk::new(self.random.next_u64());
        disk.trace_to(self.trace.clone(), number);
        let host = self.net.add(number, name, ip);
        let skew_ms = Arc::new(AtomicI64::new(self.random.below(400) as i64 - 200));
        self.machines.push(Machine { number, host, disk, skew_ms, running: None, ended: None });
        MachineId(self.machines.len() - 1)
    }

    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// What the faults are drawn from.
    pub fn random(&mut self) -> &mut SimRandom {
        &mut self.random
    }

    pub fn now_ms(&self) -> u64 {
        self.trace.now_ms()
    }

    fn machine(&mut self, id: MachineId) -> &mut Machine {
        self.machines.get_mut(id.0).expect("a machine of this world")
    }

    pub fn ip(&self, id: MachineId) -> IpAddr {
        self.machines[id.0].host.ip()
    }

    pub fn disk(&self, id: MachineId) -> &SimDisk {
        &self.machines[id.0].disk
    }

    pub fn is_running(&self, id: MachineId) -> bool {
        self.machines[id.0].running.is_some()
    }

    /// How the last process of a machine ended by itself; taken by asking.
    pub fn take_ended(&mut self, id: MachineId) -> Option<Result<(), String>> {
        self.machine(id).ended.take()
    }

    /// Starts a process on a machine that runs none.
    ///
    /// # Panics
    /// When it runs one.
    pub fn start<F>(&mut self, id: MachineId, process: impl FnOnce(Process) -> F)
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        let (chance_seed, blocking_seed) = (self.random.next_u64(), self.random.next_u64());
        let (trace, net) = (self.trace.clone(), self.net.clone());
        let machine = self.machine(id);
        assert!(machine.running.is_none(), "machine {} runs a process", machine.number);
        net.bring_up(machine.host.ip());
        trace.note(machine.number, &WorldEvent::Started);
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let began_ms = trace.now_ms();
        let anchor = runtime.block_on(async { Instant::now() });
        let clock = Arc::new(VirtualClock {
            trace,
            anchor,
            began_ms,
            skew_ms: machine.skew_ms.clone(),
            least_us: AtomicU64::new(0),
        });
        let surroundings = Surroundings {
            clock: clock.clone(),
            disk: Arc::new(machine.disk.clone()),
            network: Arc::new(machine.host.clone()),
            chance: Arc::new(SimChance::new(chance_seed)),
            blocking: Arc::new(SimBlocking {
                random: Arc::new(Mutex::new(SimRandom::new(blocking_seed))),
                clock,
            }),
        };
        let (ask, asked_to_end) = oneshot::channel();
        // Built inside the runtime: what it makes may want its clock.
        let main: Main = {
            let _inside = runtime.enter();
            Box::pin(process(Process { surroundings, asked_to_end }))
        };
        machine.ended = None;
        machine.running = Some(Running {
            runtime,
            main: Some(main),
            ask: Some(ask),
            anchor,
            began_ms,
            paused_until_ms: None,
        });
    }

    /// Asks a process to end in order (SIGTERM).
    pub fn ask_to_end(&mut self, id: MachineId) {
        if let Some(ask) = self.machine(id).running.as_mut().and_then(|running| running.ask.take()) {
            let _ = ask.send(());
        }
    }

    /// Ends a process at once (SIGKILL).
    pub fn kill(&mut self, id: MachineId) {
        let (trace, net) = (self.trace.clone(), self.net.clone());
        let machine = self.machine(id);
        if let Some(running) = machine.running.take() {
            trace.note(machine.number, &WorldEvent::Killed);
            machine.disk.kill();
            net.kill(machine.host.ip());
            drop(running);
        }
    }

    /// Ends a machine, whether it runs a process or not.
    pub fn power_cut(&mut self, id: MachineId) {
        let (trace, net) = (self.trace.clone(), self.net.clone());
        let machine = self.machine(id);
        trace.note(machine.number, &WorldEvent::PowerCut);
        machine.disk.power_cut();
        net.lose(machine.host.ip());
        drop(machine.running.take());
    }

    /// Does not drive a process for a while (SIGSTOP); what is sent to it waits.
    pub fn pause(&mut self, id: MachineId, ms: u64) {
        let trace = self.trace.clone();
        let machine = self.machine(id);
        if let Some(running) = &mut machine.running {
            trace.note(machine.number, &WorldEvent::Paused(ms));
            running.paused_until_ms = Some(trace.now_ms() + ms);
        }
    }

    /// Puts a machine's wall clock forward or back.
    pub fn jump_wall_clock(&mut self, id: MachineId, ms: i64) {
        let trace = self.trace.clone();
        let machine = self.machine(id);
        trace.note(machine.number, &WorldEvent::WallClockJumped(ms));
        machine.skew_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Lets a little time pass for everybody; returns how much.
    pub fn step(&mut self) -> u64 {
        let now_ms = self.now_ms();
        // While something is under way, up to its arrival.
        let due_ms = self.net.next_due_ms().unwrap_or(u64::MAX);
        let step_ms = due_ms.saturating_sub(now_ms).clamp(1, STEP_MS_MAX);
        let to_ms = now_ms + step_ms;
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.random.index(at + 1));
        }
        for at in order {
            let machine = &mut self.machines[at];
            let Some(running) = &mut machine.running else { continue };
            if running.paused_until_ms.is_some_and(|until_ms| until_ms > now_ms) {
                continue;
            }
            self.trace.set_running(machine.number);
            let until = running.anchor + Duration::from_millis(to_ms - running.began_ms);
            if running.paused_until_ms.take().is_some() {
                // Its clock jumps; all its timers find themselves late at once.
                running.runtime.block_on(async {
                    let behind = until.saturating_duration_since(Instant::now());
                    tokio::time::advance(behind.saturating_sub(Duration::from_millis(step_ms))).await;
                });
            }
            let Running { runtime, main: Some(main), .. } = running else { continue };
            let ended = runtime.block_on(async {
                tokio::select! {
                    biased;
                    ended = main => Some(ended),
                    () = tokio::time::sleep_until(until) => None,
                }
            });
            if let Some(ended) = ended {
                self.trace.note(machine.number, &WorldEvent::Ended(ended.clone()));
                machine.ended = Some(ended);
                machine.disk.kill();
                self.net.kill(machine.host.ip());
                machine.running = None;
            }
        }
        self.trace.set_running(0);
        self.trace.set_now(to_ms);
        self.net.turn();
        step_ms
    }

    pub fn run_for(&mut self, ms: u64) {
        let until_ms = self.now_ms() + ms;
        while self.now_ms() < until_ms {
            self.step();
        }
    }

    /// Steps until something holds, for so long at most; whether it does.
    pub fn run_until(&mut self, limit_ms: u64, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let until_ms = self.now_ms() + limit_ms;
        loop {
            if holds(self) {
                return true;
            }
            if self.now_ms() >= until_ms {
                return false;
            }
            self.step();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for at in 0..self.machines.len() {
            self.kill(MachineId(at));
        }
        self.trace.flush();
    }
}

/// The clock of one process: its runtime's while that is driven, the world's otherwise.
#[derive(Debug)]
struct VirtualClock {
    trace: Trace,
    anchor: Instant,
    began_ms: u64,
    skew_ms: Arc<AtomicI64>,
    /// Blocking work has put the clock forward to here; in microseconds, as [`Clock::monotonic`].
    least_us: AtomicU64,
}

impl VirtualClock {
    fn us(&self) -> u64 {
        let us = match Handle::try_current() {
            Ok(_) => {
                let passed = Instant::now().saturating_duration_since(self.anchor);
                self.began_ms * 1000 + u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
            }
            // The runtime is being dropped.
            Err(_) => self.trace.now_ms() * 1000,
        };
        us.max(self.least_us.load(Ordering::Relaxed))
    }

    fn put_forward(&self, duration: Duration) {
        let us = self.us() + u64::try_from(duration.as_micros()).unwrap_or_default();
        self.least_us.fetch_max(us, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + (self.us() / 1000) as i64 + self.skew_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.us())
    }
}

/// Blocking work, done inline after a drawn latency: mostly that of a page cache, at times that of a busy disk.
#[derive(Debug)]
struct SimBlocking {
    random: Arc<Mutex<SimRandom>>,
    clock: Arc<VirtualClock>,
}

impl Blocking for SimBlocking {
    fn start(&self, work: Box<dyn FnOnce() + Send>) -> Pending<'static, Result<(), WorkPanicked>> {
        let latency_ms = {
            let mut random = self.random.lock();
            match random.below(64) {
                0 => random.below(60),
                1..16 => random.below(5),
                _ => 0,
            }
        };
        let clock = self.clock.clone();
        let running = tokio::spawn(async move {
            match latency_ms {
                0 => tokio::task::yield_now().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
            work();
            // What the work paused for.
            let ahead_us = clock.least_us.load(Ordering::Relaxed);
            let here_us = clock.began_ms * 1000 + clock.anchor.elapsed().as_micros() as u64;
            if ahead_us > here_us {
                tokio::time::sleep(Duration::from_micros(ahead_us - here_us)).await;
            }
        });
        Box::pin(async move { running.await.map_err(|_| WorkPanicked) })
    }

    fn pause(&self, duration: Duration) {
        self.clock.put_forward(duration);
    }

    fn side_by_side(&self, mut parts: Vec<Box<dyn FnOnce() + Send + '_>>) {
        while !parts.is_empty() {
            let at = self.random.lock().index(parts.len());
            parts.swap_remove(at)();
        }
    }
}

impl Network for SimHost {
    fn bind<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        options: ListenOptions,
    ) -> Pending<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            if self.resolve(host)? != self.ip() {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let backlog = options.backlog.and_then(|backlog| usize::try_from(backlog).ok()).unwrap_or(128);
            Ok(Box::new(self.listen(port, backlog)?) as Box<dyn Acceptor>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str, limit: Duration) -> Pending<'a, io::Result<Socket>> {
        Box::pin(async move {
            let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no address"));
            let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
            let to = SocketAddr::new(self.resolve(host)?, port.parse().map_err(|_| wrong())?);
            let stream = tokio::time::timeout(limit, self.connect_to(to)).await.map_err(|_| {
                let reason = format!("no connection within {} ms", limit.as_millis());
                io::Error::new(io::ErrorKind::TimedOut, reason)
            })??;
            Ok(Socket::Other(Box::new(stream)))
        })
    }

    fn host_name(&self) -> String {
        self.ip().to_string()
    }
}

impl Acceptor for SimListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address())
    }

    fn accept(&self) -> Pending<'_, io::Result<(Socket, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = std::future::poll_fn(|context| self.poll_accept(context)).await?;
            Ok((Socket::Other(Box::new(stream)), peer))
        })
    }
}

impl Duplex for SimStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrived(context)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer()
    }
}
