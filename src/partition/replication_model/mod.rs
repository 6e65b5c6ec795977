//! Replication as a whole, without disk, network, threads or time: the controller's decisions ([`Decider`]), the
//! replicas' state ([`Replica`], [`Acknowledgements`]), and logs with their fence ([`Leadership`]) and epochs
//! ([`LeaderEpochs`]), under schedules drawn from a seed. Messages are lost, repeated, late and out of order; images are
//! followed late, and several at once; controllers change; brokers are fenced without reason, killed and started again,
//! some without what they had not synced. When the faults stop, all must come together again.
//!
//! What it takes for granted: metadata is one log (openraft's work), a controller's proposal is fenced by the
//! leadership and the index that it was decided on, a broker acts once it has followed its own registration, a follower
//! takes the answer of its last fetch only, and once (an earlier one that says where the logs part would cut what has come
//! since), and a message that arrives is whole. A process that lost nothing is one that ended in order; the last one that
//! may lead (in sync, or eligible by KIP-966) loses nothing that was acknowledged.
//!
//! It is believed because it catches each of [`Planted`]. A failure says how to see it again; `SEED=<n>` runs one
//! schedule, `SEEDS=<n>` so many (`SEEDS=170000` are a hundred million steps and take some minutes).

mod invariants;

use std::collections::BTreeMap;

use super::handing_over::HandOverProposal;
use super::replica::{FollowerFetch, IsrProposal, Replica, Turn};
use super::waiting::{Acknowledgements, Committed};
use crate::controller::{
    AlterPartition, BrokerIdentity, BrokerRegistration, BrokerTransition, ConfigSchema, ControllerConfig,
    Decider, ElectLeaders, ElectionKind, HandOver, HandOvers, IsrMember,
};
use crate::env::Chance;
use crate::env::sim::SimRandom;
use crate::metadata::{
    ConfigResource, ELIGIBLE_LEADER_REPLICAS_FEATURE, MetadataImage, MetadataRecord, PartitionChange,
    PartitionImage, PartitionRegistration,
};
use crate::segment::leader_epochs::LeaderEpochs;
use crate::segment::leadership::Leadership;
use crate::types::{LeaderEpoch, NodeId, Offset, TopicId};
use invariants::Invariants;

const NODES: usize = 3;
/// `min.insync.replicas`
const LEAST_IN_SYNC: i32 = 2;
/// `replica.lag.time.max.ms`; a step takes 1 ms.
const LAG_MS_MAX: i64 = 40;
/// Steps of a schedule before the faults stop.
const STEPS: u64 = 600;
/// A million steps, which take some two seconds.
const SCHEDULES: u64 = 1_700;
const MESSAGES_MAX: usize = 20;
const LATE_MAX: usize = 8;

/// Faults of the protocol, each of which some schedule must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    /// What was checked in an epoch is appended after it has ended.
    AppendNotFenced,
    /// Waits for acknowledgements end by offset alone, whoever leads.
    WaiterByOffsetOnly,
    /// A controller decides before it has applied all, and what it decided is proposed in whatever leadership it has
    /// then.
    StaleDecision,
    /// The high watermark does not wait for a follower that may have joined the ISR.
    CommittedIsrOnly,
    /// A follower cuts its log at its high watermark, and not where the logs part (before KIP-101).
    TruncateToHighWatermark,
    /// The high watermark moves with fewer in sync than `min.insync.replicas`, and who left may be elected.
    ElrWithoutLeastInSync,
    /// A fetch counts as progress although the logs part (KAFKA-13141).
    DivergingIsProgress,
    /// A follower takes whatever answer comes, and not that of its last fetch alone.
    StaleFetchAnswer,
    /// A leader that has asked for its heir to lead writes on before it knows what came of it.
    WritesOnAfterAsking,
    /// A fetch counts for the present process of a follower, though an earlier one has sent it (KIP-903).
    FetchOfAnotherProcess,
}

const PLANTED: [Planted; 8] = [
    Planted::AppendNotFenced,
    Planted::WaiterByOffsetOnly,
    Planted::StaleDecision,
    Planted::CommittedIsrOnly,
    Planted::TruncateToHighWatermark,
    Planted::ElrWithoutLeastInSync,
    Planted::DivergingIsProgress,
    Planted::WritesOnAfterAsking,
];

/// They need a message that is late at the right moment.
const PLANTED_LATE: [Planted; 2] = [Planted::StaleFetchAnswer, Planted::FetchOfAnotherProcess];

/// What must hold did not.
type Violation = String;
type Step = Result<(), Violation>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    epoch: i32,
    /// No two are the same.
    value: u64,
}

/// A log as `segment` keeps it: what is written and cut under the fence.
#[derive(Debug, Default)]
struct ModelLog {
    records: Vec<Record>,
    synced: usize,
    epochs: LeaderEpochs,
    leadership: Leadership,
}

impl ModelLog {
    fn end(&self) -> Offset {
        Offset(self.records.len() as i64)
    }

    fn push(&mut self, record: Record) -> Step {
        let end = self.end();
        self.records.push(record);
        self.epochs.assign(record.epoch, end.0).map(|_| ()).map_err(|error| error.to_string())
    }

    fn cut(&mut self, to: i64) {
        self.records.truncate(usize::try_from(to).unwrap_or(0));
        self.synced = self.synced.min(self.records.len());
        self.epochs.truncate_to(self.records.len() as i64);
    }

    /// What is there after a start: what the batches say.
    fn reopen(&mut self) {
        let records = std::mem::take(&mut self.records);
        *self = Self { synced: records.len(), ..Self::default() };
        for record in records {
            // A planted fault may have left epochs in disorder, which was told then.
            _ = self.push(record);
        }
    }
}

#[derive(Debug)]
struct Broker {
    id: NodeId,
    is_up: bool,
    /// Counts its processes.
    incarnation: u64,
    /// Once the controller has told it.
    epoch: Option<i64>,
    /// The epoch of the process before, if it ended in order; -1 otherwise.
    closed_epoch: i64,
    /// The fetch whose answer it takes: its last, once.
    awaits: Option<u64>,
    /// Which of the images it follows.
    applied: usize,
    log: ModelLog,
    replica: Replica,
    /// The value that waits, by where it ends.
    acknowledgements: Acknowledgements<(u64, Offset)>,
    /// Produces that were checked and wait for the writer: epoch, value, acks=all.
    checked: Vec<(LeaderEpoch, u64, bool)>,
    /// As its checkpoint says.
    noted_high_watermark: Offset,
    handing_over: Option<HandingOver>,
}

/// A leader that has stopped to write, until its heir has all.
#[derive(Clone, Copy, Debug)]
struct HandingOver {
    proposal: HandOverProposal,
    end: Offset,
    is_asked: bool,
}

#[derive(Clone, Debug)]
enum Ask {
    Register,
    Unfence { epoch: i64 },
    Alter { epoch: i64, proposal: IsrProposal },
    HandOver { epoch: i64, proposal: HandOverProposal },
}

#[derive(Clone, Debug)]
enum Fetched {
    Records { records: Vec<Record>, high_watermark: Offset },
    Diverging { epoch: i32, end: i64 },
}

#[derive(Clone, Debug)]
enum Message {
    Fetch {
        to: usize,
        from: usize,
        id: u64,
        fetch: FollowerFetch,
        leader_epoch: LeaderEpoch,
        last_epoch: i32,
    },
    FetchAnswer {
        to: usize,
        id: u64,
        leader_epoch: LeaderEpoch,
        offset: Offset,
        fetched: Fetched,
    },
    Ask {
        from: usize,
        incarnation: u64,
        ask: Ask,
    },
    Registered {
        to: usize,
        incarnation: u64,
        epoch: i64,
    },
    Refused {
        to: usize,
        incarnation: u64,
        proposal: IsrProposal,
    },
}

/// A decision on its way into the metadata log.
#[derive(Debug)]
struct Proposal {
    term: u64,
    controller: usize,
    /// The image that it was decided on.
    base: usize,
    records: Vec<MetadataRecord>,
    answer: Option<Message>,
}

/// Nothing of what is decided here is left to chance.
#[derive(Debug)]
struct NoChance;

impl Chance for NoChance {
    fn next_u64(&self) -> u64 {
        0
    }
}

const CONFIG: ControllerConfig = ControllerConfig {
    partitions_default: 1,
    replication_factor_default: NODES as i16,
    delete_topic_enable: true,
    schema: ConfigSchema { validate: |_, _| Ok(()), is_list: |_, _| false, default: |_, _| None },
};

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));

struct World {
    random: SimRandom,
    planted: Option<Planted>,
    now_ms: i64,
    /// `flush.messages=1`: only what is synced counts. Otherwise who loses what it had not synced is fenced before it
    /// comes back, and never the last in sync.
    syncs_first: bool,
    /// The metadata log: what it says after each of its entries.
    images: Vec<MetadataImage>,
    /// The term of the quorum, and who leads in it.
    term: u64,
    active: usize,
    /// By controller: the newest image that it has applied, and the term in which it last led.
    controllers: [(usize, u64); NODES],
    proposals: Vec<Proposal>,
    brokers: Vec<Broker>,
    network: Vec<Message>,
    /// Copies that come much later, when who sent them may be another process, and who gets them another leader.
    late: Vec<Message>,
    next_value: u64,
    next_fetch: u64,
    invariants: Invariants,
    steps: u64,
}

fn partition(image: &MetadataImage) -> &PartitionImage {
    image
        .topic_by_id(TOPIC)
        .and_then(|topic| topic.partition(0))
        .expect("the partition is there from the start")
}

/// The broker epochs of those that may be in sync, as this image has it.
fn active_epoch(image: &MetadataImage) -> impl Fn(NodeId) -> Option<i64> + Copy + '_ {
    |id| image.broker(id).filter(|known| known.is_active()).map(|known| known.epoch)
}

fn node(at: usize) -> NodeId {
    NodeId(at as i32)
}

impl World {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut random = SimRandom::new(seed);
        let nodes: Vec<NodeId> = (0..NODES).map(node).collect();
        let mut image = MetadataImage::default();
        for at in 0..NODES {
            let records = Self::decide(&image, |decider| {
                let registration = registration(at, 0, true);
                decider.register_broker(&registration).records
            });
            image = image.with(&records).expect("brokers register");
        }
        let records = [
            MetadataRecord::FeatureLevel { name: ELIGIBLE_LEADER_REPLICAS_FEATURE.to_owned(), level: 1 },
            MetadataRecord::Topic { name: "t".into(), id: TOPIC },
            MetadataRecord::Config {
                resource: ConfigResource::topic("t"),
                key: "min.insync.replicas".to_owned(),
                value: Some(LEAST_IN_SYNC.to_string()),
            },
            MetadataRecord::Partition(PartitionRegistration {
                topic_id: TOPIC,
                partition: 0,
                replicas: nodes.clone(),
                isr: nodes,
                leader: Some(node(0)),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                eligible_leader_replicas: Vec::new(),
                last_known_eligible_leader_replicas: Vec::new(),
                adding_replicas: Vec::new(),
                removing_replicas: Vec::new(),
                recovering: false,
                heir: None,
            }),
        ];
        let image = image.with(&records).expect("a topic is made");
        let brokers: Vec<Broker> = (0..NODES)
            .map(|at| Broker {
                id: node(at),
                is_up: true,
                incarnation: 0,
                epoch: image.broker(node(at)).map(|broker| broker.epoch),
                closed_epoch: -1,
                awaits: None,
                applied: 0,
                log: ModelLog::default(),
                replica: Replica::new(node(at), Offset(0)),
                acknowledgements: Acknowledgements::default(),
                checked: Vec::new(),
                noted_high_watermark: Offset(0),
                handing_over: None,
            })
            .collect();
        let mut world = Self {
            syncs_first: random.one_in(2),
            random,
            planted,
            now_ms: 0,
            images: vec![image],
            term: 1,
            active: 0,
            controllers: [(0, 1), (0, 0), (0, 0)],
            proposals: Vec::new(),
            brokers,
            network: Vec::new(),
            late: Vec::new(),
            next_value: 0,
            next_fetch: 0,
            invariants: Invariants::default(),
            steps: 0,
        };
        for at in 0..NODES {
            world.take_over(at).expect("nothing has happened yet");
        }
        world
    }

    fn is(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    fn newest(&self) -> &MetadataImage {
        self.images.last().expect("never empty")
    }

    fn decide<T>(image: &MetadataImage, decide: impl FnOnce(&mut Decider<'_>) -> T) -> T {
        decide(&mut Decider { image, config: &CONFIG, chance: &NoChance })
    }

    // ---- A schedule ----

    fn run(&mut self) -> Step {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()
    }

    fn step(&mut self) -> Step {
        self.now_ms += 1;
        self.steps += 1;
        let at = self.random.index(NODES);
        match self.random.below(200) {
            0..28 => self.check_produce(at),
            28..56 => self.write(at)?,
            56..86 => {
                // Who waits for an answer asks again now and then.
                if self.brokers[at].awaits.is_none() || self.random.one_in(6) {
                    self.fetch(at);
                }
            }
            86..136 => self.deliver_any()?,
            136 => drop(self.take_message()),
            137..141 => {
                if !self.network.is_empty() {
                    let message = self.network[self.random.index(self.network.len())].clone();
                    self.send(message);
                }
            }
            141..157 => {
                let newest = self.images.len() - 1;
                let left = newest - self.brokers[at].applied.min(newest);
                if left > 0 {
                    // Who was slow follows several at once.
                    self.brokers[at].applied += 1 + self.random.index(left);
                    self.take_over(at)?;
                }
            }
            157..171 => self.commit_any()?,
            171..173 => self.catch_up_controller(at),
            173..183 => self.keep_house(at),
            183..185 => self.brokers[at].log.synced = self.brokers[at].log.records.len(),
            185 => self.brokers[at].noted_high_watermark = self.brokers[at].replica.high_watermark(),
            186..188 => {
                let leads = partition(self.newest()).leader == Some(node(at));
                if !self.brokers[at].is_up || self.random.one_in(if leads { 2 } else { 6 }) {
                    self.fence(at);
                }
            }
            188..191 => self.elect(),
            191 => {
                self.term += 1;
                self.active = at;
                self.controllers[at].1 = self.term;
            }
            192..194 => self.end_process(at)?,
            _ => self.start_process(at),
        }
        if self.syncs_first {
            self.advance(at)?;
        }
        self.invariants.look_at(&self.brokers)
    }

    /// No more faults: everybody is there again, and has everything.
    fn heal(&mut self) -> Step {
        self.syncs_first = false;
        for round in 0..150 {
            self.now_ms += LAG_MS_MAX / 4;
            for at in 0..NODES {
                self.start_process(at);
                self.brokers[at].applied = self.images.len() - 1;
                self.take_over(at)?;
                self.keep_house(at);
                self.fetch(at);
                // Who hands over writes nothing.
                for _ in 0..self.brokers[at].checked.len() {
                    self.write(at)?;
                }
            }
            // What is asked is answered within the round.
            for _ in 0..3 {
                self.deliver_all()?;
            }
            for at in 0..NODES {
                self.advance(at)?;
            }
            self.invariants.look_at(&self.brokers)?;
            let now = partition(self.newest());
            let Some(leader) = now.leader.filter(|_| now.isr.len() == NODES) else { continue };
            let leader = &self.brokers[leader.0 as usize];
            let is_whole = leader.replica.is_leader()
                && leader.replica.high_watermark() == leader.log.end()
                && self.brokers.iter().all(|broker| broker.log.records == leader.log.records);
            if is_whole && round > 3 {
                return self.invariants.look_at_the_end(&leader.log.records);
            }
        }
        let now = partition(self.newest());
        for broker in &self.brokers {
            println!("{}: {} {:?} {:?}", broker.id, broker.log.end(), broker.log.leadership, broker.replica);
        }
        Err(format!("no faults any more, and still not all in sync: {:?} of {:?}", now.isr, now.leader))
    }

    // ---- Brokers ----

    /// A broker follows the image that it has, once that has its registration.
    fn take_over(&mut self, at: usize) -> Step {
        let image = &self.images[self.brokers[at].applied];
        let broker = &mut self.brokers[at];
        let registered = image.broker(broker.id).map(|known| known.epoch);
        if !broker.is_up || broker.epoch.is_none() || registered != broker.epoch {
            return Ok(());
        }
        let now = partition(image).clone();
        let turn = broker.replica.turn(&now);
        let failed = |error: crate::segment::EpochBack| error.to_string();
        match turn {
            Turn::Lead(epoch) => {
                broker.log.leadership.lead(epoch).map_err(failed)?;
                let end = broker.log.end();
                broker.log.epochs.assign(epoch.0, end.0).map_err(failed)?;
                broker.acknowledgements.lead(epoch);
            }
            Turn::Follow(epoch) => {
                broker.log.leadership.follow(epoch).map_err(failed)?;
                let end = broker.log.end();
                broker.log.epochs.truncate_to(end.0);
                if self.planted == Some(Planted::TruncateToHighWatermark) {
                    broker.log.cut(broker.replica.high_watermark().0);
                }
                if self.planted != Some(Planted::WaiterByOffsetOnly) {
                    drop(broker.acknowledgements.end());
                }
            }
            Turn::Same | Turn::Nothing => {}
        }
        broker.replica.apply(&now, broker.log.end(), self.now_ms);
        if turn != Turn::Nothing {
            if let Some(asked) = broker.handing_over.take().filter(|it| it.is_asked) {
                self.invariants.handed_over(broker, &now, asked.end)?;
            }
            broker.log.leadership.resume();
        }
        tracing::debug!(id = %broker.id, ?turn, isr = ?now.isr, end = %broker.log.end(), "follows the image");
        if let Turn::Lead(epoch) = turn {
            self.invariants.leads(broker, epoch)?;
        }
        self.advance(at)
    }

    fn check_produce(&mut self, at: usize) {
        let acks_all = !self.random.one_in(4);
        let broker = &mut self.brokers[at];
        let replica = &broker.replica;
        let has_enough = replica.in_sync().committed().len() >= replica.needed_in_sync(LEAST_IN_SYNC);
        if broker.is_up && replica.is_leader() && broker.checked.len() < 4 && (has_enough || !acks_all) {
            self.next_value += 1;
            broker.checked.push((replica.leader_epoch(), self.next_value, acks_all));
        }
    }

    fn write(&mut self, at: usize) -> Step {
        let is_unfenced = self.is(Planted::AppendNotFenced);
        let is_by_offset = self.is(Planted::WaiterByOffsetOnly);
        let broker = &mut self.brokers[at];
        if broker.checked.is_empty() || broker.log.leadership.is_suspended() {
            return Ok(());
        }
        let (epoch, value, acks_all) = broker.checked.remove(0);
        if broker.log.leadership.check_leads(epoch).is_err() && !is_unfenced {
            return Ok(());
        }
        let record = Record { epoch: epoch.0, value };
        self.invariants.written(broker, broker.log.end(), record)?;
        broker.log.push(record)?;
        let end = broker.log.end();
        self.advance(at)?;
        let broker = &mut self.brokers[at];
        if acks_all {
            let high_watermark = broker.replica.high_watermark();
            let outcome = match broker.acknowledgements.outcome(epoch, end, high_watermark) {
                Some(Committed::LeadershipLost) if is_by_offset => None,
                outcome => outcome,
            };
            match outcome {
                Some(Committed::Yes) => self.invariants.acknowledged(value, end)?,
                Some(Committed::LeadershipLost) => {}
                None => broker.acknowledgements.wait(end, (value, end)),
            }
        }
        Ok(())
    }

    /// Moves a leader's high watermark, and acknowledges.
    fn advance(&mut self, at: usize) -> Step {
        let broker = &mut self.brokers[at];
        let own_end = if self.syncs_first { Offset(broker.log.synced as i64) } else { broker.log.end() };
        let before = broker.replica.high_watermark();
        let least = if self.planted == Some(Planted::ElrWithoutLeastInSync) { 0 } else { LEAST_IN_SYNC };
        let moved = match self.planted {
            Some(Planted::CommittedIsrOnly) => broker.replica.advance_over_committed(own_end, least),
            _ => broker.replica.advance(own_end, least),
        };
        if !broker.is_up || !moved {
            return Ok(());
        }
        let high_watermark = broker.replica.high_watermark();
        tracing::debug!(id = %broker.id, %before, %high_watermark, in_sync = ?broker.replica.in_sync(), "commits");
        let acknowledged = broker.acknowledgements.advanced(high_watermark);
        let now = partition(self.images.last().expect("never empty"));
        self.invariants.committed(&self.brokers, at, before, now)?;
        acknowledged.into_iter().try_for_each(|(value, end)| self.invariants.acknowledged(value, end))
    }

    fn fetch(&mut self, at: usize) {
        let planted = self.planted;
        let broker = &mut self.brokers[at];
        let leader_epoch = broker.replica.leader_epoch();
        let (Some(leader), Some(epoch)) = (broker.replica.leader(), broker.epoch) else { return };
        if !broker.is_up || broker.log.leadership.check_follows(leader_epoch).is_err() {
            return;
        }
        if self.syncs_first {
            broker.log.synced = broker.log.records.len();
        }
        let fetch = FollowerFetch {
            follower: broker.id,
            broker_epoch: epoch,
            leader_epoch,
            offset: broker.log.end(),
            log_start: Offset(0),
        };
        let last_epoch = match planted {
            Some(Planted::TruncateToHighWatermark) => -1,
            _ => broker.log.records.last().map_or(-1, |record| record.epoch),
        };
        self.next_fetch += 1;
        let (to, from, id) = (leader.0 as usize, at, self.next_fetch);
        broker.awaits = Some(id);
        self.send(Message::Fetch { to, from, id, fetch, leader_epoch, last_epoch });
    }

    /// What a broker does from time to time.
    fn keep_house(&mut self, at: usize) {
        let broker = &self.brokers[at];
        if !broker.is_up {
            return;
        }
        let (from, incarnation) = (at, broker.incarnation);
        let Some(epoch) = broker.epoch else {
            return self.send(Message::Ask { from, incarnation, ask: Ask::Register });
        };
        let image = self.images[broker.applied].clone();
        let Some(known) = image.broker(broker.id).filter(|known| known.epoch == epoch) else { return };
        if known.fenced {
            return self.send(Message::Ask { from, incarnation, ask: Ask::Unfence { epoch } });
        }
        self.hand_over(at, epoch);
        let broker = &self.brokers[at];
        let (end, now_ms) = (broker.log.end(), self.now_ms);
        let replica = &mut self.brokers[at].replica;
        let proposal = replica
            .proposal_under_way(active_epoch(&image))
            .or_else(|| replica.propose_shrink(end, now_ms, LAG_MS_MAX, active_epoch(&image)));
        if let Some(proposal) = proposal {
            self.send(Message::Ask { from, incarnation, ask: Ask::Alter { epoch, proposal } });
        }
    }

    /// A leader with an heir stops to write, asks once the heir has all, and may give up before that.
    fn hand_over(&mut self, at: usize, epoch: i64) {
        let gives_up = self.random.one_in(4);
        let writes_on = self.is(Planted::WritesOnAfterAsking);
        let broker = &mut self.brokers[at];
        let Broker { replica, log, handing_over, .. } = broker;
        let leader_epoch = replica.leader_epoch();
        match handing_over {
            None => {
                let Some(heir) = replica.heir().filter(|_| replica.is_leader()) else { return };
                if log.leadership.suspend(leader_epoch).is_ok() {
                    let partition_epoch = replica.partition_epoch();
                    let proposal = HandOverProposal { heir, leader_epoch, partition_epoch };
                    *handing_over = Some(HandingOver { proposal, end: log.end(), is_asked: false });
                }
            }
            Some(it) => {
                let heir = replica.followers().get(&it.proposal.heir);
                it.is_asked |= heir.is_some_and(|heir| heir.log_end >= it.end);
                if it.is_asked {
                    let (proposal, incarnation) = (it.proposal, broker.incarnation);
                    if writes_on {
                        broker.log.leadership.resume();
                    }
                    let ask = Ask::HandOver { epoch, proposal };
                    self.send(Message::Ask { from: at, incarnation, ask });
                } else if gives_up {
                    *handing_over = None;
                    log.leadership.resume();
                }
            }
        }
    }

    /// A process ends; of what was not synced, some may go with it.
    fn end_process(&mut self, at: usize) -> Step {
        if !self.brokers[at].is_up {
            return Ok(());
        }
        let mut loses = self.random.one_in(2);
        if loses && !self.syncs_first {
            // Who loses records leaves the ISR (and is not eligible any more) before it comes back.
            let image = self.newest().clone();
            let identity = BrokerIdentity {
                id: node(at),
                epoch: image.broker(node(at)).map_or(-1, |known| known.epoch),
            };
            let mut records = Self::decide(&image, |decider| {
                decider.change_broker(identity, BrokerTransition::Fence).records
            });
            let without = image.with(&records).map_err(|error| error.to_string())?;
            let eligible = &partition(&without).eligible_leader_replicas;
            if eligible.contains(&node(at)) {
                let others = eligible.iter().copied().filter(|id| *id != node(at)).collect();
                let mut change = PartitionChange::of(TOPIC, 0);
                change.eligible_leader_replicas = Some(others);
                records.push(MetadataRecord::PartitionChange(change));
            }
            let without = image.with(&records).map_err(|error| error.to_string())?;
            let PartitionImage { isr, eligible_leader_replicas, .. } = partition(&without);
            loses = isr.iter().chain(eligible_leader_replicas).any(|id| *id != node(at));
            if loses {
                // The controller has noticed: what was under way of that process comes too late.
                self.enter(without)?;
                self.network.retain(|message| !matches!(message, Message::Ask { from, .. } if *from == at));
            }
        }
        let broker = &mut self.brokers[at];
        tracing::debug!(id = %broker.id, loses, end = %broker.log.end(), broker.log.synced, "ends");
        if loses {
            let kept =
                broker.log.synced + self.random.index(broker.log.records.len() - broker.log.synced + 1);
            broker.log.records.truncate(kept);
        }
        broker.closed_epoch = if loses { -1 } else { broker.epoch.unwrap_or(broker.closed_epoch) };
        broker.is_up = false;
        broker.log.reopen();
        broker.epoch = None;
        broker.handing_over = None;
        broker.awaits = None;
        broker.checked.clear();
        broker.acknowledgements = Acknowledgements::default();
        broker.noted_high_watermark = broker.noted_high_watermark.min(broker.log.end());
        broker.replica = Replica::new(broker.id, broker.noted_high_watermark);
        Ok(())
    }

    fn start_process(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if !broker.is_up {
            broker.is_up = true;
            broker.incarnation += 1;
        }
    }

    // ---- Messages ----

    fn send(&mut self, message: Message) {
        if self.network.len() >= MESSAGES_MAX {
            drop(self.take_message());
        }
        if self.late.len() < LATE_MAX && self.random.one_in(6) {
            self.late.push(message.clone());
        }
        self.network.push(message);
    }

    fn take_message(&mut self) -> Option<Message> {
        let at = self.random.index(self.network.len());
        (!self.network.is_empty()).then(|| self.network.swap_remove(at))
    }

    fn deliver_any(&mut self) -> Step {
        if !self.late.is_empty() && self.random.one_in(10) {
            let late = self.late.swap_remove(self.random.index(self.late.len()));
            return self.deliver(late);
        }
        match self.take_message() {
            Some(message) => self.deliver(message),
            None => Ok(()),
        }
    }

    fn deliver(&mut self, message: Message) -> Step {
        match message {
            Message::Fetch { to, from, id, fetch, leader_epoch, last_epoch } => {
                self.answer_fetch(to, from, id, fetch, leader_epoch, last_epoch)
            }
            Message::FetchAnswer { to, id, leader_epoch, offset, fetched } => {
                let takes_any = self.is(Planted::StaleFetchAnswer);
                let broker = &mut self.brokers[to];
                if !broker.is_up || broker.awaits != Some(id) && !takes_any {
                    return Ok(());
                }
                broker.awaits = None;
                self.take_fetched(to, leader_epoch, offset, fetched)
            }
            Message::Ask { from, incarnation, ask } => {
                self.asked(self.active, from, incarnation, &ask);
                Ok(())
            }
            Message::Registered { to, incarnation, epoch } => {
                let broker = &mut self.brokers[to];
                if broker.is_up && broker.incarnation == incarnation {
                    broker.epoch = Some(epoch);
                }
                Ok(())
            }
            Message::Refused { to, incarnation, proposal } => {
                let broker = &mut self.brokers[to];
                if broker.is_up && broker.incarnation == incarnation {
                    broker.replica.refused(&proposal);
                }
                self.advance(to)
            }
        }
    }

    /// All that is under way, and what the controller decides on it.
    fn deliver_all(&mut self) -> Step {
        for message in std::mem::take(&mut self.network) {
            self.controllers[self.active] = (self.images.len() - 1, self.term);
            self.deliver(message)?;
            while !self.proposals.is_empty() {
                let proposal = self.proposals.remove(0);
                self.commit(proposal)?;
            }
        }
        Ok(())
    }

    fn answer_fetch(
        &mut self,
        at: usize,
        from: usize,
        id: u64,
        mut fetch: FollowerFetch,
        leader_epoch: LeaderEpoch,
        last_epoch: i32,
    ) -> Step {
        if self.is(Planted::FetchOfAnotherProcess) {
            let known = self.images[self.brokers[at].applied].broker(fetch.follower);
            fetch.broker_epoch = known.map_or(fetch.broker_epoch, |known| known.epoch);
        }
        let is_progress_anyway = self.is(Planted::DivergingIsProgress);
        let broker = &mut self.brokers[at];
        let replica = &mut broker.replica;
        if !broker.is_up || !replica.is_leader() || replica.check_epoch(leader_epoch).is_err() {
            return Ok(());
        }
        let end = broker.log.end();
        let diverging = match last_epoch {
            ..0 => None,
            last => match broker.log.epochs.end_offset_for(last, end.0) {
                // OFFSET_OUT_OF_RANGE: it asks again.
                None => return Ok(()),
                Some((epoch, ends)) => (epoch < last || ends < fetch.offset.0).then_some((epoch, ends)),
            },
        };
        tracing::debug!(leader = %broker.id, ?fetch, ?diverging, "is fetched from");
        let counts = diverging.is_none() && fetch.offset <= end || is_progress_anyway;
        if counts && replica.fetched(fetch, end, self.now_ms).is_err() {
            return Ok(());
        }
        let image = &self.images[broker.applied];
        let proposal = broker.replica.propose_expansion(node(from), active_epoch(image));
        self.advance(at)?;
        let broker = &mut self.brokers[at];
        if let (Some(proposal), Some(epoch)) = (proposal, broker.epoch) {
            let (from, incarnation) = (at, broker.incarnation);
            self.send(Message::Ask { from, incarnation, ask: Ask::Alter { epoch, proposal } });
        }
        let broker = &self.brokers[at];
        let fetched = match diverging {
            Some((epoch, end)) => Fetched::Diverging { epoch, end },
            None => {
                let rest = broker.log.records.iter().skip(fetch.offset.0 as usize);
                let records = rest.take(1 + self.random.index(3)).copied().collect();
                Fetched::Records { records, high_watermark: broker.replica.high_watermark() }
            }
        };
        self.send(Message::FetchAnswer { to: from, id, leader_epoch, offset: fetch.offset, fetched });
        Ok(())
    }

    fn take_fetched(
        &mut self,
        at: usize,
        leader_epoch: LeaderEpoch,
        offset: Offset,
        fetched: Fetched,
    ) -> Step {
        let broker = &mut self.brokers[at];
        if broker.log.leadership.check_follows(leader_epoch).is_err() || offset != broker.log.end() {
            return Ok(());
        }
        tracing::debug!(id = %broker.id, ?fetched, "is answered");
        match fetched {
            Fetched::Records { records, high_watermark } => {
                for record in records {
                    self.invariants.copied(broker.log.end(), record)?;
                    broker.log.push(record)?;
                }
                broker.replica.leader_told(high_watermark, broker.log.end());
                if self.planted == Some(Planted::WaiterByOffsetOnly) {
                    let done = broker.acknowledgements.advanced(broker.replica.high_watermark());
                    done.into_iter().try_for_each(|(value, end)| self.invariants.acknowledged(value, end))?;
                }
            }
            Fetched::Diverging { epoch, end } => {
                let to = broker.log.epochs.parts_at(broker.log.end().0, epoch, end);
                broker.log.cut(to);
                broker.replica.truncated(broker.log.end());
            }
        }
        Ok(())
    }

    // ---- Controllers ----

    fn catch_up_controller(&mut self, at: usize) {
        let applied = self.controllers[at].0;
        self.controllers[at].0 += self.random.index(self.images.len() - applied);
    }

    /// Fences a broker that the controller has not heard of, or so it believes.
    fn fence(&mut self, at: usize) {
        let controller = self.active;
        self.controllers[controller].0 = self.base(controller);
        let image = self.images[self.controllers[controller].0].clone();
        let Some(known) = image.broker(node(at)) else { return };
        let identity = BrokerIdentity { id: node(at), epoch: known.epoch };
        let records =
            Self::decide(&image, |decider| decider.change_broker(identity, BrokerTransition::Fence).records);
        self.propose(controller, records, None);
    }

    /// Somebody asks for the preferred leader, to whom one that is well hands over.
    fn elect(&mut self) {
        let controller = self.active;
        self.controllers[controller].0 = self.base(controller);
        let image = self.images[self.controllers[controller].0].clone();
        let request = ElectLeaders { kind: ElectionKind::Preferred, partitions: None };
        let records = Self::decide(&image, |decider| decider.elect_leaders(&request).records);
        self.propose(controller, records, None);
    }

    /// The image that a controller decides on: it decides nothing before it has applied all that was there when its
    /// leadership began.
    fn base(&self, controller: usize) -> usize {
        match self.is(Planted::StaleDecision) {
            true => self.controllers[controller].0,
            false => self.images.len() - 1,
        }
    }

    fn asked(&mut self, controller: usize, from: usize, incarnation: u64, ask: &Ask) {
        self.controllers[controller].0 = self.base(controller);
        let image = self.images[self.controllers[controller].0].clone();
        let id = node(from);
        let to = from;
        let (records, answer) = match ask {
            Ask::Register => {
                // A request of an earlier process that was late registers nobody.
                if self.brokers[from].incarnation != incarnation {
                    return;
                }
                // One that lost nothing has ended in order, also when it never learned the epoch that it had.
                let had = image.broker(id).map_or(-1, |known| known.epoch);
                let registration = BrokerRegistration {
                    previous_epoch: if self.brokers[from].closed_epoch == -1 { -1 } else { had },
                    ..registration(from, incarnation, false)
                };
                let decision = Self::decide(&image, |decider| decider.register_broker(&registration));
                let answer =
                    decision.response.ok().map(|epoch| Message::Registered { to, incarnation, epoch });
                (decision.records, answer)
            }
            Ask::Unfence { epoch } => {
                let identity = BrokerIdentity { id, epoch: *epoch };
                let decision = Self::decide(&image, |decider| {
                    decider.change_broker(identity, BrokerTransition::Unfence)
                });
                (decision.records, None)
            }
            Ask::Alter { epoch, proposal } => {
                let isr = proposal.isr.iter();
                let request = AlterPartition {
                    topic_id: TOPIC,
                    partition: 0,
                    leader_epoch: proposal.leader_epoch,
                    partition_epoch: proposal.partition_epoch,
                    isr: isr
                        .map(|(id, broker_epoch)| IsrMember { id: *id, broker_epoch: *broker_epoch })
                        .collect(),
                    recovering: false,
                };
                let identity = BrokerIdentity { id, epoch: *epoch };
                let decision = Self::decide(&image, |decider| decider.alter_partitions(identity, &[request]));
                let answers = decision.response.unwrap_or_default();
                let is_refused = answers
                    .first()
                    .is_some_and(|answer| *answer == Err(kafka_protocol::ResponseError::IneligibleReplica));
                let refused = Message::Refused { to, incarnation, proposal: proposal.clone() };
                (decision.records, is_refused.then_some(refused))
            }
            Ask::HandOver { epoch, proposal } => {
                let HandOverProposal { heir, leader_epoch, partition_epoch } = *proposal;
                let broker = BrokerIdentity { id, epoch: *epoch };
                let asked = HandOver { topic_id: TOPIC, partition: 0, leader_epoch, partition_epoch, heir };
                let request = HandOvers { broker, partitions: vec![asked] };
                (Self::decide(&image, |decider| decider.hand_over(&request)).records, None)
            }
        };
        self.propose(controller, records, answer);
    }

    fn propose(&mut self, controller: usize, records: Vec<MetadataRecord>, answer: Option<Message>) {
        if records.is_empty() {
            if let Some(answer) = answer {
                self.send(answer);
            }
            return;
        }
        let (base, term) = self.controllers[controller];
        // One proposal of a controller at a time.
        if self.proposals.iter().all(|other| other.controller != controller) {
            self.proposals.push(Proposal { term, controller, base, records, answer });
        }
    }

    fn commit_any(&mut self) -> Step {
        if self.proposals.is_empty() {
            return Ok(());
        }
        let at = self.random.index(self.proposals.len());
        let proposal = self.proposals.swap_remove(at);
        self.commit(proposal)
    }

    fn commit(&mut self, proposal: Proposal) -> Step {
        let Proposal { term, controller, base, records, answer } = proposal;
        let is_fenced = if self.is(Planted::StaleDecision) {
            controller != self.active
        } else {
            term != self.term || base != self.images.len() - 1
        };
        let Some(image) = self.newest().with(&records).ok().filter(|_| !is_fenced) else { return Ok(()) };
        self.enter(image)?;
        if let Some(answer) = answer {
            self.send(answer);
        }
        Ok(())
    }

    /// The metadata log has one entry more.
    fn enter(&mut self, image: MetadataImage) -> Step {
        let before = partition(self.newest()).clone();
        let now = partition(&image);
        let brokers: Vec<_> =
            image.brokers().values().map(|known| (known.id.0, known.epoch, known.fenced)).collect();
        tracing::debug!(leader = ?now.leader, epoch = %now.leader_epoch, now.partition_epoch, isr = ?now.isr, elr = ?now.eligible_leader_replicas, ?brokers, "decided");
        self.invariants.decided(&before, partition(&image), &self.brokers)?;
        self.images.push(image);
        Ok(())
    }
}

fn registration(at: usize, incarnation: u64, unfence: bool) -> BrokerRegistration {
    BrokerRegistration {
        id: node(at),
        incarnation_id: uuid::Uuid::from_u64_pair(at as u64 + 1, incarnation),
        listeners: Vec::new(),
        rack: None,
        log_directories: Vec::new(),
        features: Default::default(),
        is_first: true,
        previous_epoch: -1,
        accepts_missing_data: false,
        unfence,
    }
}

/// Runs a schedule; the steps that it took.
fn run(seed: u64, planted: Option<Planted>) -> Result<World, Violation> {
    let mut world = World::new(seed, planted);
    match world.run() {
        Ok(()) => Ok(world),
        Err(violation) => Err(format!("{violation} (after {} steps)", world.steps)),
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_comes_between() {
    let of_environment = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, count) = match of_environment("SEED") {
        Some(seed) => {
            tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().init();
            (seed, 1)
        }
        None => (0, of_environment("SEEDS").unwrap_or(SCHEDULES)),
    };
    let (mut steps, mut committed, mut leaderships) = (0, 0, BTreeMap::new());
    for seed in first..first + count {
        let world = run(seed, None).unwrap_or_else(|violation| {
            panic!("{violation}\nsee it again: SEED={seed} cargo test --lib replication_model::nothing -- --nocapture")
        });
        steps += world.steps;
        committed += world.invariants.committed_records();
        *leaderships.entry(world.invariants.leaderships()).or_insert(0) += 1;
    }
    println!(
        "{count} schedules, {steps} steps, {committed} records committed, schedules by leaderships: {leaderships:?}"
    );
    // A model in which nothing happens proves nothing.
    assert!(count < 100 || committed > 5 * count as usize && leaderships.len() > 3);
}

/// Those of the faults that no schedule shows among so many.
fn uncaught(planted: &[Planted], schedules: u64) -> Vec<Planted> {
    let is_uncaught = |planted: &&Planted| {
        let found = (0..schedules)
            .find_map(|seed| run(seed, Some(**planted)).err().map(|violation| (seed, violation)));
        if let Some((seed, violation)) = &found {
            println!("{planted:?}: after {} schedules: {violation}", seed + 1);
        }
        found.is_none()
    };
    planted.iter().filter(is_uncaught).copied().collect()
}

#[test]
fn every_planted_fault_is_caught_within_2000_schedules() {
    assert_eq!(uncaught(&PLANTED, 2_000), []);
}

#[test]
fn faults_that_need_a_late_message_are_caught() {
    assert_eq!(uncaught(&PLANTED_LATE, 40_000), []);
}
