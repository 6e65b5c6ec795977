//! What goes wrong, and when it is mended: several things at a time.

use std::net::IpAddr;

use raftsman::env::sim;
use raftsman::env::sim::net::Link;
use raftsman::env::sim::world::World;

use super::nodes::Nodes;
use super::{Promise, Run};

/// The longest that a machine stays down, a cut or a pause lasts: longer than a broker's session.
const LONG_MS: u64 = 4500;

/// Makes the link between two nodes slow in both directions, which are returned.
pub(super) fn make_slow(world: &World, nodes: &Nodes, at: usize, other: usize) -> [(IpAddr, IpAddr); 2] {
    let (ip, other_ip) = (nodes.ip(world, at), nodes.ip(world, other));
    let directions = [(ip, other_ip), (other_ip, ip)];
    for (from, to) in directions {
        world.net().set_link(from, to, Link { least_ms: 5, most_ms: 60, bytes_per_ms: 20 });
    }
    directions
}

#[derive(Default)]
pub(super) struct Faults {
    /// Nothing arrives at the second from the first, until then.
    cuts: Vec<(IpAddr, IpAddr, u64)>,
    slow: Vec<(IpAddr, IpAddr, u64)>,
    /// The disk of this node ends the process, by this time at the latest.
    dying: Vec<(usize, u64)>,
    /// The disk of this node takes no more, until then.
    full: Vec<(usize, u64)>,
    /// Who has ended other than in order since every replica was in sync.
    ended: Vec<usize>,
    /// One of these ends was a power cut.
    was_power_cut: bool,
}

impl Faults {
    /// Faults for so long; when it returns, all are mended or will be.
    pub(super) fn strike(&mut self, run: &mut Run, ms: u64) -> Result<(), String> {
        let until_ms = run.world.now_ms() + ms;
        let mut next_ms = 0;
        while run.world.now_ms() < until_ms {
            if run.world.now_ms() >= next_ms {
                let name = self.one(run);
                if let Some(name) = name {
                    *run.counts.entry(name).or_default() += 1;
                }
                next_ms = run.world.now_ms() + 50 + run.world.random().below(1500);
            }
            self.step(run)?;
        }
        for (_, _, until_ms) in self.cuts.iter_mut().chain(&mut self.slow) {
            *until_ms = 0;
        }
        self.dying.iter_mut().chain(&mut self.full).for_each(|(_, until_ms)| *until_ms = 0);
        self.step(run)?;
        // What the last of them made slow.
        run.world.net().heal_all();
        Ok(())
    }

    fn step(&mut self, run: &mut Run) -> Result<(), String> {
        let now_ms = run.world.now_ms();
        let net = run.world.net().clone();
        let cuts = std::mem::take(&mut self.cuts);
        for cut in cuts {
            let (from, to, until_ms) = cut;
            if until_ms > now_ms {
                self.cuts.push(cut);
            } else if !self.cuts.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
                net.heal(from, to);
            }
        }
        for (from, to, _) in &self.cuts {
            net.cut(*from, *to);
        }
        self.slow.retain(|(from, to, until_ms)| {
            if *until_ms <= now_ms {
                net.set_link(*from, *to, Link::default());
            }
            *until_ms > now_ms
        });
        let dying = std::mem::take(&mut self.dying);
        for (at, until_ms) in dying {
            let is_dead = run.world.disk(run.nodes.machine(at)).faults().dies_in == Some(0);
            if is_dead || until_ms <= now_ms {
                self.end(run, at);
            } else {
                self.dying.push((at, until_ms));
            }
        }
        self.full.retain(|(at, until_ms)| {
            if *until_ms <= now_ms {
                run.nodes.make_room(&run.world, *at);
            }
            *until_ms > now_ms
        });
        if !self.ended.is_empty() && run.observer.is_healed(&run.nodes) {
            self.ended.clear();
            self.was_power_cut = false;
            run.checker.power_cut_is_over();
            // Just then, whoever has come back last may have to show what it has.
            if let Some(leader) = run.observer.any_leader(&run.nodes)
                && run.nodes.is_up(&run.world, leader)
                && run.world.random().one_in(3)
            {
                self.end(run, leader);
            }
        }
        run.step()
    }

    fn long(&self, run: &mut Run) -> u64 {
        match run.world.random().below(3) {
            0 => run.world.random().below(100),
            _ => run.world.random().below(LONG_MS),
        }
    }

    /// Whether a node may end other than in order, without and with the loss of power.
    fn may_end(&self, run: &Run, at: usize) -> (bool, bool) {
        let is_only = self.ended.iter().all(|other| *other == at);
        match run.promise {
            Promise::Synced => (true, true),
            Promise::Kept => (true, false),
            Promise::Minority => (!self.was_power_cut || is_only, is_only),
        }
    }

    /// Ends a node's process, or its machine, for a while.
    fn end(&mut self, run: &mut Run, at: usize) {
        let (may_be_killed, may_lose_power) = self.may_end(run, at);
        if may_lose_power && (!may_be_killed || run.world.random().one_in(2)) {
            *run.counts.entry("power cut").or_default() += 1;
            self.was_power_cut = true;
            run.nodes.power_cut(&mut run.world, at);
            if run.promise == Promise::Minority {
                run.checker.power_cut();
            }
        } else {
            *run.counts.entry("kill").or_default() += 1;
            run.nodes.kill(&mut run.world, at);
        }
        self.ended.push(at);
        let back_ms = run.world.now_ms() + self.long(run);
        run.nodes.back_at(at, back_ms);
        if run.world.random().one_in(2) {
            // Once it is back, it takes a while to get what it lacks.
            for other in (0..run.nodes.count()).filter(|other| *other != at) {
                self.slow_link(run, at, other, back_ms + 3000);
            }
        }
    }

    fn slow_link(&mut self, run: &Run, at: usize, other: usize, until_ms: u64) {
        for (from, to) in make_slow(&run.world, &run.nodes, at, other) {
            self.slow.push((from, to, until_ms));
        }
    }

    fn one(&mut self, run: &mut Run) -> Option<&'static str> {
        let count = run.nodes.count();
        let at = run.world.random().index(count);
        let other = (at + 1 + run.world.random().index(count - 1)) % count;
        let (ip, other_ip) = (run.nodes.ip(&run.world, at), run.nodes.ip(&run.world, other));
        let clients = run.world.ip(run.clients);
        let now_ms = run.world.now_ms();
        let until_ms = now_ms + self.long(run);
        Some(match run.world.random().below(20) {
            kind @ 0..7 => {
                let is_dying = self.dying.iter().chain(&self.full).any(|(dying, _)| *dying == at);
                if !run.nodes.is_up(&run.world, at) || is_dying || self.may_end(run, at) == (false, false) {
                    return None;
                }
                if kind < 4 {
                    self.end(run, at);
                    return None;
                }
                // Between two changes of the disk.
                let dies_in = Some(1 + run.world.random().below(60));
                run.nodes.arm(&run.world, at, sim::Faults { dies_in, ..sim::Faults::default() });
                self.ended.push(at);
                self.dying.push((at, now_ms + 600));
                "death of a disk"
            }
            7..10 => {
                if !run.nodes.is_up(&run.world, at) || !run.nodes.is_serving(at) {
                    return None;
                }
                let after_ms = self.long(run);
                run.nodes.restart_in_order(&mut run.world, at, after_ms);
                "orderly restart"
            }
            10..12 => {
                // Frozen, with all that is under way; it wakes up as what it was.
                run.world.pause(run.nodes.machine(at), until_ms - now_ms);
                "pause"
            }
            12..14 => {
                self.cuts.push((ip, other_ip, until_ms));
                if run.world.random().one_in(2) {
                    self.cuts.push((other_ip, ip, until_ms));
                }
                "cut between two"
            }
            14..16 => {
                // Clients reach it still, or do not; long enough for a leader to be replaced, and for others to write on.
                let until_ms = until_ms + if run.world.random().one_in(3) { LONG_MS } else { 0 };
                let others: Vec<IpAddr> =
                    (0..count).filter(|o| *o != at).map(|o| run.nodes.ip(&run.world, o)).collect();
                let (hears, speaks) = match run.world.random().below(3) {
                    0 => (true, false),
                    1 => (false, true),
                    _ => (false, false),
                };
                let with_clients = run.world.random().one_in(3).then_some(clients);
                for other_ip in others.into_iter().chain(with_clients) {
                    if !hears {
                        self.cuts.push((other_ip, ip, until_ms));
                    }
                    if !speaks {
                        self.cuts.push((ip, other_ip, until_ms));
                    }
                }
                "a node cut off"
            }
            16 => {
                self.slow_link(run, at, other, until_ms);
                "slow link"
            }
            17 => {
                let ms = run.world.random().below(60_000) as i64 - 30_000;
                run.world.jump_wall_clock(run.nodes.machine(at), ms);
                "wall clock"
            }
            19 => {
                let is_bad = self.dying.iter().chain(&self.full).any(|(bad, _)| *bad == at);
                if !run.nodes.is_up(&run.world, at) || is_bad {
                    return None;
                }
                let room = run.world.random().below(6000);
                let capacity_bytes = Some(run.world.disk(run.nodes.machine(at)).used_bytes() + room);
                run.nodes.arm(&run.world, at, sim::Faults { capacity_bytes, ..sim::Faults::default() });
                self.full.push((at, until_ms));
                "full disk"
            }
            18 => {
                for _ in 0..1 + run.world.random().below(6) {
                    run.world.net().reset_one();
                }
                "reset"
            }
            _ => return None,
        })
    }
}
