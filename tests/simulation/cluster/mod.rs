//! Three or five whole nodes, controllers and brokers at once, with clients, under faults that overlap.
//!
//! **What is promised** of a topic with three replicas, and what a run may therefore do, is drawn from the seed
//! ([`Promise`]). As in Kafka, `acks=all` means that every in-sync replica, `min.insync.replicas` at least, has the
//! record in its log; on its disk only with `flush.messages=1`. So:
//!
//! - `Synced`: every replica syncs before it acknowledges. Any number of machines may lose power at any time, and
//!   what was acknowledged outlives it whatever `min.insync.replicas` is.
//! - `Minority`: nothing is synced, and `min.insync.replicas` is 2. Of those that have a record one may lose what it has
//!   not synced; it must have caught up before another one does. To the controller a killed process is as good as a
//!   machine that lost power: it may not lead while somebody else can, and where nobody else can, the last leader does. So
//!   between two moments at which every partition has all its replicas in sync, only one node ends other than in
//!   order when one of these ends is a power cut. A topic with `min.insync.replicas=1` is promised nothing over a power cut.
//! - `Kept`: nothing is synced, no machine loses power; processes are killed at any time, all of them too. Then
//!   one copy is enough, as the page cache outlives the process.
//!
//! Everything else may happen to any number of nodes in any of them: cuts of the network, pauses, slow links, clocks that jump,
//! disks that fail or fill up. While it lasts nothing need work; once it has stopped all must, within [`HEAL_MS`].
//!
//! What must hold at any time is in [`super::model`], for what clients were told, and in [`replicas`], for what
//! can be seen inside of the nodes.

mod clients;
mod faults;
mod nodes;
mod replicas;

use std::collections::BTreeMap;

use raftsman::env::planted::{self, Planted};
use raftsman::env::sim::world::{MachineId, World};

use crate::harness::{self, Outcome};
use crate::model::Checker;
use clients::Workers;
use faults::Faults;
use nodes::Nodes;
use replicas::Observer;

/// How long faults go on, unless [`harness::VIRTUAL_SECONDS`] says otherwise.
const FAULTS_MS: u64 = 12_000;
/// Once the faults have stopped, within it every replica is in sync again; clients are done within it, too.
const HEAL_MS: u64 = 60_000;
/// A leader that is cut off stops by itself before its session ends; until then it may tell what it knows, though a
/// partition that was to get another leader has it by then.
const STALENESS_MS: u64 = nodes::SESSION_MS;

/// See the head of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Synced,
    Minority,
    Kept,
}

struct Run {
    world: World,
    nodes: Nodes,
    clients: MachineId,
    checker: Checker,
    observer: Observer,
    promise: Promise,
    counts: BTreeMap<&'static str, u32>,
}

/// Runs one seed; an error is a violation.
pub(crate) fn run(seed: u64, bug: Option<Planted>) -> Result<Outcome, String> {
    planted::plant(bug);
    let mut world = World::new(seed);
    harness::follow(world.trace())?;
    let promise = match world.random().below(3) {
        0 => Promise::Synced,
        1 => Promise::Minority,
        _ => Promise::Kept,
    };
    let count = if world.random().one_in(6) { 5 } else { 3 };
    let mut run = Run::started(world, count, promise)?;
    run.start_clients(|workers| workers.run());
    run.until("the topics that stay are created", HEAL_MS, |run| run.checker.with(|model| model.is_set_up))?;
    let faults_ms = match std::env::var(harness::VIRTUAL_SECONDS) {
        Ok(text) => 1000 * text.parse::<u64>().map_err(|error| format!("{text}: {error}"))?,
        Err(_) => FAULTS_MS,
    };
    Faults::default().strike(&mut run, faults_ms)?;
    run.until("every replica is in sync again", HEAL_MS, |run| run.observer.is_healed(&run.nodes))?;
    run.checker.power_cut_is_over();
    run.pass(300)?;
    run.checker.with(|model| model.is_stopping = true);
    run.until("the clients are done", HEAL_MS, |run| !run.world.is_running(run.clients))?;
    run.take_end_of_clients()?;
    // Nodes that nobody has asked learn a moment later of what was decided last.
    run.pass(500)?;
    run.checker.with(|model| model.staleness_ms = 0);
    run.start_clients(|workers| workers.heal());
    run.until("everything can be written to and read", HEAL_MS, |run| !run.world.is_running(run.clients))?;
    run.take_end_of_clients()?;
    run.until("all replicas end alike", HEAL_MS, |run| run.observer.is_quiet(&run.nodes))?;
    run.observer.compare(&run.nodes)?;
    run.look()?;
    if run.world.random().one_in(4) {
        run.after_an_orderly_end()?;
    }
    let counts = run.checker.with(|model| model.counts);
    Ok(Outcome::of(&run.world, format!("{count} nodes, {promise:?}, {counts:?}, {:?}", run.counts)))
}

/// The active controller goes while links carry 20 KB in a second, and much has been decided: what the next one sends first
/// is under way for longer than openraft waits for the answer.
pub(crate) fn slow_links(bug: Option<Planted>) -> Result<(), String> {
    let mut run = Run::healed(bug)?;
    run.start_clients(|workers| workers.create_many(100));
    run.until("topics are created", HEAL_MS, |run| !run.world.is_running(run.clients))?;
    run.take_end_of_clients()?;
    let leader = run.nodes.serving().find_map(|(_, broker)| broker.quorum.leader()).ok_or("nobody leads")?;
    let count = run.nodes.count();
    for at in 0..count {
        faults::make_slow(&run.world, &run.nodes, at, (at + 1) % count);
    }
    let leader = usize::try_from(leader.0 - 1).map_err(|error| error.to_string())?;
    run.nodes.kill(&mut run.world, leader);
    run.start_node(leader);
    // It is registered by whoever is the active controller then.
    run.until("all nodes serve", HEAL_MS, |run| run.nodes.serving().count() == count)
}

/// The leader of a partition is cut off from the other nodes, and not from clients, for several sessions.
pub(crate) fn cut_off_leader(bug: Option<Planted>) -> Result<(), String> {
    let mut run = Run::healed(bug)?;
    run.start_clients(|workers| workers.run());
    run.until("the topics are created", HEAL_MS, |run| run.checker.with(|model| model.is_set_up))?;
    run.pass(1000)?;
    let leader = run.observer.leader_of(&run.nodes, clients::RELAXED).ok_or("nobody leads")?;
    let ip = run.nodes.ip(&run.world, leader);
    for other in (0..run.nodes.count()).filter(|other| *other != leader) {
        let other = run.nodes.ip(&run.world, other);
        run.world.net().cut(ip, other);
        run.world.net().cut(other, ip);
    }
    run.pass(8 * nodes::SESSION_MS)
}

impl Run {
    /// Three nodes that serve.
    fn healed(bug: Option<Planted>) -> Result<Self, String> {
        planted::plant(bug);
        let world = World::new(7);
        harness::follow(world.trace())?;
        let mut run = Self::started(world, 3, Promise::Kept)?;
        run.until("all nodes serve", HEAL_MS, |run| run.observer.is_healed(&run.nodes))?;
        Ok(run)
    }

    /// So many nodes that start.
    fn started(mut world: World, count: usize, promise: Promise) -> Result<Self, String> {
        let nodes = Nodes::new(&mut world, count, promise)?;
        let clients = world.add_machine("clients");
        // Commits are in a topic with min.insync.replicas=2.
        let checker = Checker::new(world.trace().clone(), true);
        checker.with(|model| model.staleness_ms = STALENESS_MS);
        let observer = Observer::new(checker.clone());
        let mut run = Self { world, nodes, clients, checker, observer, promise, counts: BTreeMap::new() };
        for at in 0..count {
            run.start_node(at);
        }
        Ok(run)
    }

    fn start_node(&mut self, at: usize) {
        self.nodes.start(&mut self.world, at);
    }

    fn start_clients<F>(&mut self, work: impl FnOnce(Workers) -> F)
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        let (checker, promise, nodes) = (self.checker.clone(), self.promise, self.nodes.count());
        self.world.start(self.clients, |process| {
            work(Workers { surroundings: process.surroundings, checker, promise, nodes })
        });
    }

    fn take_end_of_clients(&mut self) -> Result<(), String> {
        self.world.take_ended(self.clients).unwrap_or(Ok(()))
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), String> {
        if let Some(panicked) = harness::panicked() {
            return Err(panicked);
        }
        self.nodes.tend(&mut self.world)?;
        self.observer.look(&self.nodes, self.world.now_ms())?;
        match self.checker.violation() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.step();
        self.look()
    }

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until_ms = self.world.now_ms() + ms;
        while self.world.now_ms() < until_ms {
            self.step()?;
        }
        Ok(())
    }

    fn until(
        &mut self,
        what: &str,
        limit_ms: u64,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        let until_ms = self.world.now_ms() + limit_ms;
        while !holds(self) {
            if self.world.now_ms() > until_ms {
                return Err(format!(
                    "not within {limit_ms} ms: {what}; {}",
                    self.observer.trouble(&self.nodes)
                ));
            }
            self.step()?;
        }
        Ok(())
    }

    /// What was closed in order is on the disks: all machines lose their power, and nothing is gone.
    fn after_an_orderly_end(&mut self) -> Result<(), String> {
        *self.counts.entry("orderly end of all").or_default() += 1;
        for at in 0..self.nodes.count() {
            self.nodes.ask_to_end(&mut self.world, at);
        }
        self.until("all nodes have ended in order", HEAL_MS, |run| run.nodes.all_ended(&run.world))?;
        for at in 0..self.nodes.count() {
            self.nodes.power_cut(&mut self.world, at);
        }
        for at in 0..self.nodes.count() {
            self.start_node(at);
        }
        self.until("every replica is in sync again", HEAL_MS, |run| run.observer.is_healed(&run.nodes))?;
        self.start_clients(|workers| workers.heal());
        self.until("everything can be written to and read", HEAL_MS, |run| {
            !run.world.is_running(run.clients)
        })?;
        self.take_end_of_clients()?;
        self.until("all replicas end alike", HEAL_MS, |run| run.observer.is_quiet(&run.nodes))?;
        self.observer.compare(&self.nodes)?;
        self.look()
    }
}
