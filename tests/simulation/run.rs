//! One run: a broker and its clients in a world, faults, and at last peace.

use std::collections::BTreeMap;

use raftsman::config::BrokerConfig;
use raftsman::env::planted::{self, Planted};
use raftsman::env::sim::Faults;
use raftsman::env::sim::net::Link;
use raftsman::env::sim::world::{MachineId, World};
use raftsman::node::Node;

use crate::clients::Workers;
use crate::harness::{self, Outcome};
use crate::model::Checker;

/// Rounds of work with a fault behind each.
const ROUNDS: u64 = 5;
/// The longest that a machine stays down, a cut or a pause lasts.
const FAULT_MS_MAX: u64 = 1500;
/// Answers of a broker that has ended come in within it.
const REFUSALS_MS: u64 = 4000;
/// Within it a broker without faults starts, and clients are done.
const PATIENCE_MS: u64 = 60_000;

struct Run {
    world: World,
    broker: MachineId,
    clients: MachineId,
    checker: Checker,
    config: BrokerConfig,
    has_power_cuts: bool,
    faults: BTreeMap<&'static str, u32>,
}

/// Runs one seed; an error is a violation.
pub(crate) fn run(seed: u64, bug: Option<Planted>) -> Result<Outcome, String> {
    planted::plant(bug);
    let mut world = World::new(seed);
    harness::follow(world.trace())?;
    // Who promises what: every record synced; none, but for a topic; none, and no power cuts either.
    let kind = world.random().below(3);
    let is_all_synced = kind == 0;
    let mut values: BTreeMap<String, String> = [
        ("listeners", "PLAINTEXT://10.0.0.1:9092"),
        ("log.dirs", "/data"),
        ("raftsman.admin.listener", ""),
        ("offsets.topic.num.partitions", "3"),
        ("log.flush.offset.checkpoint.interval.ms", "700"),
        ("log.flush.start.offset.checkpoint.interval.ms", "700"),
        ("log.segment.delete.delay.ms", "300"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    if is_all_synced {
        values.insert("log.flush.interval.messages".to_owned(), "1".to_owned());
    }
    let (config, remarks) = BrokerConfig::from_values(values).map_err(|error| error.to_string())?;
    assert!(remarks.unknown.is_empty(), "{:?}", remarks.unknown);
    let (broker, clients) = (world.add_machine("broker"), world.add_machine("clients"));
    let checker = Checker::new(world.trace().clone(), is_all_synced);
    let mut run =
        Run { world, broker, clients, checker, config, has_power_cuts: kind != 2, faults: BTreeMap::new() };
    run.start_broker();
    run.start_clients(is_all_synced, |workers| workers.run());
    run.until("the topics that stay are created", |run| run.checker.with(|model| model.is_set_up))?;
    for _ in 0..ROUNDS {
        let ms = 50 + run.world.random().below(500);
        run.pass(ms)?;
        run.fault()?;
    }
    // Peace.
    run.world.net().heal_all();
    if !run.world.is_running(run.broker) {
        run.start_broker();
    }
    run.pass(300)?;
    run.checker.with(|model| model.is_stopping = true);
    run.until("the clients are done", |run| !run.world.is_running(run.clients))?;
    run.take_end_of_clients()?;
    for _ in 0..2 {
        run.start_clients(is_all_synced, |workers| workers.heal());
        run.until("everything can be written to and read", |run| !run.world.is_running(run.clients))?;
        run.take_end_of_clients()?;
        // And once more, after an orderly end.
        run.stop_broker()?;
        run.start_broker();
    }
    let counts = run.checker.with(|model| model.counts);
    Ok(Outcome::of(&run.world, format!("{counts:?}, {:?}", run.faults)))
}

impl Run {
    fn start_broker(&mut self) {
        let config = self.config.clone();
        self.world.start(self.broker, |process| async move {
            let node = Node::start(config, process.surroundings).await.map_err(|error| error.to_string())?;
            let _ = process.asked_to_end.await;
            node.stop().await;
            Ok(())
        });
    }

    fn start_clients<F>(&mut self, is_all_synced: bool, work: impl FnOnce(Workers) -> F)
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        let checker = self.checker.clone();
        self.world.start(self.clients, |process| {
            work(Workers { surroundings: process.surroundings, checker, is_all_synced })
        });
    }

    fn take_end_of_clients(&mut self) -> Result<(), String> {
        self.world.take_ended(self.clients).unwrap_or(Ok(()))
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), String> {
        if let Some(violation) = self.checker.violation() {
            return Err(violation);
        }
        if let Some(panicked) = harness::panicked() {
            return Err(panicked);
        }
        match self.world.take_ended(self.broker) {
            Some(Err(error)) if !self.checker.may_be_refused() => Err(format!("the broker ended: {error}")),
            _ => Ok(()),
        }
    }

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until_ms = self.world.now_ms() + ms;
        while self.world.now_ms() < until_ms {
            self.world.step();
            self.look()?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) -> Result<(), String> {
        let until_ms = self.world.now_ms() + PATIENCE_MS;
        while !holds(self) {
            if self.world.now_ms() > until_ms {
                return Err(format!("not within {PATIENCE_MS} ms: {what}"));
            }
            self.world.step();
            self.look()?;
        }
        Ok(())
    }

    fn stop_broker(&mut self) -> Result<(), String> {
        self.world.ask_to_end(self.broker);
        self.until("the broker has ended", |run| !run.world.is_running(run.broker))
    }

    fn end_broker(&mut self) {
        if self.has_power_cuts && self.world.random().one_in(2) {
            *self.faults.entry("power cut").or_default() += 1;
            self.world.power_cut(self.broker);
            self.checker.power_cut();
        } else {
            *self.faults.entry("kill").or_default() += 1;
            self.world.kill(self.broker);
        }
        let until_ms = self.world.now_ms() + REFUSALS_MS;
        self.checker.with(|model| {
            if std::mem::take(&mut model.is_disk_dying) {
                model.refusals_until_ms = until_ms;
            }
        });
    }

    fn down_for_a_while(&mut self) -> Result<(), String> {
        let ms = match self.world.random().below(3) {
            0 => 0,
            _ => self.world.random().below(FAULT_MS_MAX),
        };
        self.pass(ms)?;
        self.start_broker();
        Ok(())
    }

    /// One fault.
    fn fault(&mut self) -> Result<(), String> {
        let (broker, clients) = (self.world.ip(self.broker), self.world.ip(self.clients));
        let ms = 1 + self.world.random().below(FAULT_MS_MAX);
        let name = match self.world.random().below(16) {
            0..4 => {
                self.end_broker();
                return self.down_for_a_while();
            }
            4..8 => {
                // Between two changes of the disk.
                self.checker.with(|model| model.is_disk_dying = true);
                let dies_in = Some(1 + self.world.random().below(60));
                self.world.disk(self.broker).arm(Faults { dies_in, ..Faults::default() });
                let until_ms = self.world.now_ms() + 600;
                while self.world.now_ms() < until_ms
                    && self.world.disk(self.broker).faults().dies_in != Some(0)
                {
                    self.world.step();
                    self.look()?;
                }
                self.end_broker();
                return self.down_for_a_while();
            }
            8 => {
                // Killed while it starts, again and again.
                for _ in 0..1 + self.world.random().below(3) {
                    self.end_broker();
                    self.start_broker();
                    let ms = self.world.random().below(60);
                    self.pass(ms)?;
                }
                "kills at start"
            }
            9..11 => {
                self.stop_broker()?;
                self.down_for_a_while()?;
                "orderly restart"
            }
            11 => {
                self.world.net().cut(broker, clients);
                if self.world.random().one_in(2) {
                    self.world.net().cut(clients, broker);
                }
                self.pass(ms)?;
                self.world.net().heal_all();
                "cut"
            }
            12 => {
                let link = Link { least_ms: 5, most_ms: 40, bytes_per_ms: 20 };
                self.world.net().set_link(clients, broker, link);
                self.pass(ms)?;
                self.world.net().heal_all();
                "slow link"
            }
            13 => {
                self.world.pause(self.broker, ms);
                self.pass(ms)?;
                "pause"
            }
            14 => {
                let ms = self.world.random().below(60_000) as i64 - 30_000;
                self.world.jump_wall_clock(self.broker, ms);
                "wall clock"
            }
            _ => {
                for _ in 0..1 + self.world.random().below(4) {
                    self.world.net().reset_one();
                }
                "reset"
            }
        };
        *self.faults.entry(name).or_default() += 1;
        Ok(())
    }
}
