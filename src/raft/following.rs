//! Who leads, who follows, and when somebody else stands: the task of a node that has others in its quorum.
//!
//! openraft counts the votes and never stands by itself here (`enable_elect` is off): it would by a timer that its own
//! waiting for the disk holds up. Instead whoever follows asks the leader how it is, a few times a second, over a
//! connection that is open anyway. That does three things at once:
//!
//! * The **follower** sees a process that died at once (its connection closes, and nobody takes a new one), and a machine
//!   that fell silent within [`SILENCE`]. A leader whose disk is slow answers all the same, so
//!   that a loaded disk starts no election.
//! * The **leader** knows who follows. It notes their folders and addresses in the membership, takes in whoever is
//!   new (as one who has no vote), and decides nothing when it has not heard of a majority lately
//!   ([`Links::has_contact`]): another one may lead.
//! * Nobody stands alone: who takes the leader for dead asks the others first, and stands only when a majority hears of
//!   no leader either. So a link that flaps, or a process that was paused for long, deposes nobody.
//!
//! Every voter that takes the leader for dead stands, one a little after the other: openraft lets a voter whose vote belongs
//! to a leader refuse others for a while (its lease), and a voter that stands itself has given that vote up.
//!
//! A node that belongs to no cluster yet looks for one among the controllers that its configuration names. It forms
//! one when it is told to (it is one of the voters named) and none of them knows of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::links::{CallError, Follower, Links, QuorumRequest, QuorumState};
use super::member::Member;
use super::quorum::node_id;
use super::{MetadataQuorum, Metrics};
use crate::client::Connection;
use crate::client::peers::Purpose;
use crate::protocol::internal::{InternalKey, Refusal};
use crate::types::NodeId;

/// How often a follower asks.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long the leader may take to answer that.
const ASK_LIMIT: Duration = Duration::from_millis(400);
/// The least time that it has, be it silent for as long as it may.
const ASK_LEAST: Duration = Duration::from_millis(50);
/// A leader that has been silent for so long is asked for nothing until it is heard again, or another one leads.
const DOUBT: Duration = Duration::from_millis(650);
/// How long the leader may be silent before it is taken for dead.
const SILENCE: Duration = Duration::from_millis(1050);
/// How long a try takes to find out whether somebody listens where the leader did.
const DIAL_LIMIT: Duration = Duration::from_millis(300);
/// One voter stands so much after the one before it.
const STAGGER: Duration = Duration::from_millis(20);
/// The pause after an election that gave no leader; it doubles up to the greatest (its votes go to disks, too).
const STAND_AGAIN_MIN: Duration = Duration::from_millis(100);
const STAND_AGAIN_MAX: Duration = Duration::from_millis(1600);
/// How often a node without a leader looks for one.
const SEEK_EVERY: Duration = Duration::from_millis(200);
/// Who waited so much longer than it meant to was paused, and has heard nobody for that reason.
const PAUSED: Duration = Duration::from_secs(1);
/// How often the leader looks whether the membership is as it should be.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// How long a change of the membership may take.
const TEND_LIMIT: Duration = Duration::from_secs(5);
/// One without a vote that has not been heard of for so long is not sent anything any more.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// How often somebody with a longer log is given way to.
const GIVE_WAY: u32 = 3;

/// What a new folder begins as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// One of the voters of a new cluster, which may be formed already.
    Voters(BTreeMap<u64, Member>),
    /// The only voter of a new cluster.
    Alone(Member),
    /// One that is taken in by a cluster.
    Joins,
}

/// The task. Ends with the quorum.
pub(super) struct Following {
    pub quorum: MetadataQuorum,
    pub links: Arc<Links>,
    /// None: the folder is not new.
    pub formation: Option<Formation>,
}

/// How a look at the leader ended.
enum Look {
    Answers(QuorumState),
    /// Nobody listens there: the process is gone.
    Gone,
    Silent,
}

impl Following {
    pub(super) async fn run(mut self) {
        match self.formation.take() {
            Some(Formation::Voters(voters)) => self.form(voters).await,
            Some(Formation::Alone(member)) => {
                self.initialize(BTreeMap::from([(self.own(), member)])).await;
            }
            Some(Formation::Joins) | None => {}
        }
        loop {
            let metrics = self.metrics();
            if metrics.running_state.is_err() {
                return;
            }
            self.note(&metrics);
            match metrics.current_leader.map(node_id) {
                Some(leader) if leader == self.links.node => self.lead().await,
                Some(leader) => self.follow(leader).await,
                None => self.seek(&metrics).await,
            }
        }
    }

    fn own(&self) -> u64 {
        self.metrics().id
    }

    fn metrics(&self) -> Metrics {
        self.quorum.inner.raft.metrics().borrow().clone()
    }

    fn note(&self, metrics: &Metrics) {
        self.links.note_members(metrics.membership_config.membership().nodes());
    }

    /// Who leads; nobody, once the quorum has ended on this node, whatever it knew last.
    fn leader(&self) -> Option<NodeId> {
        let raft = &self.quorum.inner.raft;
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        metrics.current_leader.filter(|_| metrics.running_state.is_ok()).map(node_id)
    }

    /// Waits until somebody else leads than now, the members change, or the time is over.
    async fn changed(&self, limit: Duration) {
        let mut metrics = self.quorum.inner.raft.metrics();
        let before = self.metrics();
        let differs = metrics.wait_for(|now| {
            now.current_leader != before.current_leader
                || now.membership_config != before.membership_config
                || now.running_state.is_err()
        });
        _ = tokio::time::timeout(limit, differs).await;
    }

    async fn form(&self, voters: BTreeMap<u64, Member>) {
        let others: Vec<_> =
            voters.keys().map(|id| node_id(*id)).filter(|id| *id != self.links.node).collect();
        if self.states(others).await.values().any(|state| state.is_formed) {
            tracing::info!(
                "the cluster is formed already: waiting until its leader sends what has been decided"
            );
            return;
        }
        self.initialize(voters).await;
    }

    async fn initialize(&self, voters: BTreeMap<u64, Member>) {
        if let Err(error) = self.quorum.inner.raft.initialize(voters).await {
            tracing::warn!(%error, "the metadata quorum was not formed by this node");
        }
    }

    /// How others see the quorum, of those that answer.
    async fn states(&self, nodes: Vec<NodeId>) -> BTreeMap<NodeId, QuorumState> {
        let mut asking = JoinSet::new();
        for node in nodes {
            let links = self.links.clone();
            asking.spawn(async move { (node, links.ask(node, &QuorumRequest::State, ASK_LIMIT).await) });
        }
        let answered = asking.join_all().await.into_iter();
        answered.filter_map(|(node, state)| Some((node, state.ok()?))).collect()
    }

    /// As the leader: sees to the members.
    async fn lead(&self) {
        {
            let mut heard = self.links.heard.lock();
            heard.led_since = Some(Instant::now());
            heard.suspect = None;
            heard.followers.clear();
        }
        while self.leader() == Some(self.links.node) {
            let metrics = self.metrics();
            self.note(&metrics);
            if let Some(change) = self.wanted_change(&metrics) {
                let changing = async {
                    let _turn = self.links.changing.lock().await;
                    // Somebody else may have made a change meanwhile, with which this one is another.
                    match self.wanted_change(&self.metrics()) {
                        Some(wanted) if wanted == change => {
                            self.quorum.inner.raft.change_membership(change, true).await.map(drop)
                        }
                        _ => Ok(()),
                    }
                };
                match tokio::time::timeout(TEND_LIMIT, changing).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "the members of the quorum are not brought up to date yet")
                    }
                    Err(_) => {}
                }
            }
            tokio::select! {
                () = self.changed(TEND_EVERY) => {}
                () = self.links.news.notified() => {}
            }
        }
        self.links.heard.lock().led_since = None;
    }

    /// What the membership lacks of what was heard; one thing at a time.
    fn wanted_change(&self, metrics: &Metrics) -> Option<ChangeMembers<u64, Member>> {
        let membership = metrics.membership_config.membership();
        // A change of the voters that another leader has begun.
        if membership.get_joint_config().len() > 1 {
            return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
        }
        let own = Member::new(Some(self.links.directory_id), self.links.reach.endpoints.clone());
        if membership.get_node(&metrics.id) != Some(&own) {
            return Some(ChangeMembers::SetNodes(BTreeMap::from([(metrics.id, own)])));
        }
        let heard = self.links.heard.lock();
        for (node, followed) in &heard.followers {
            let id = u64::try_from(node.0).ok()?;
            let wanted = Member::new(Some(followed.directory_id), followed.endpoints.clone());
            let known = membership.get_node(&id);
            let is_voter = membership.voter_ids().any(|voter| voter == id);
            match known {
                None => return Some(ChangeMembers::AddNodes(BTreeMap::from([(id, wanted)]))),
                Some(known) if *known == wanted => {}
                Some(known)
                    if known.directory_id.is_none_or(|directory| directory == followed.directory_id) =>
                {
                    return Some(ChangeMembers::SetNodes(BTreeMap::from([(id, wanted)])));
                }
                // Another folder: what was known of its log is wrong.
                Some(_) if !is_voter => return Some(ChangeMembers::RemoveNodes(BTreeSet::from([id]))),
                Some(_) => {}
            }
        }
        if heard.led_since.is_none_or(|since| since.elapsed() < FORGET_AFTER) {
            return None;
        }
        let is_silent = |id: &u64| {
            let followed = heard.followers.get(&node_id(*id));
            followed.is_none_or(|followed| followed.at.elapsed() > FORGET_AFTER)
        };
        let silent = membership.learner_ids().find(is_silent)?;
        Some(ChangeMembers::RemoveNodes(BTreeSet::from([silent])))
    }

    /// As a follower: asks the leader how it is, until it is another one or taken for dead.
    async fn follow(&self, leader: NodeId) {
        self.links.heard.lock().leader_at = Instant::now();
        while self.leader() == Some(leader) {
            let asked = Instant::now();
            let look = self.look(leader).await;
            if asked.elapsed() > ASK_LIMIT + DIAL_LIMIT + PAUSED {
                self.links.heard.lock().leader_at = Instant::now();
            }
            let is_silent = || self.links.heard.lock().leader_at.elapsed() >= SILENCE;
            let is_dead = match look {
                Look::Answers(state) if state.leader == Some(leader) => {
                    self.links.heard.lock().leader_at = Instant::now();
                    false
                }
                // It says itself that it leads no more.
                Look::Answers(_) | Look::Gone => true,
                Look::Silent => is_silent(),
            };
            if is_dead && self.leader() == Some(leader) {
                self.stand(Some(leader)).await;
                return;
            }
            let waiting = Instant::now();
            let open = self.links.reach.peers.open_connection(leader, Purpose::QuorumState);
            let closed = async {
                match open {
                    Some(connection) => connection.closed().await,
                    // It was not reached: again, and soon.
                    None => tokio::time::sleep(STAGGER).await,
                }
            };
            // No longer than the leader may be silent.
            let silence = self.links.heard.lock().leader_at.elapsed();
            let pause = ASK_EVERY.min(SILENCE.saturating_sub(silence + ASK_LEAST)).max(STAGGER);
            tokio::select! {
                () = self.changed(pause) => {}
                () = closed => {}
            }
            if waiting.elapsed() > ASK_EVERY + PAUSED {
                self.links.heard.lock().leader_at = Instant::now();
            }
            self.note(&self.metrics());
        }
    }

    async fn look(&self, leader: NodeId) -> Look {
        let last_index = self.quorum.inner.store.ends().1.map(|id| id.index);
        let follower = Follower { endpoints: self.links.reach.endpoints.clone(), last_index };
        // Whoever is silent for long enough is not waited for any longer.
        let silence = self.links.heard.lock().leader_at.elapsed();
        let limit = ASK_LIMIT.min(SILENCE.saturating_sub(silence)).max(ASK_LEAST);
        match self.links.ask(leader, &QuorumRequest::Follow(follower), limit).await {
            Ok(state) => {
                if state.leader == Some(leader) {
                    let is_other = |followed: &mut Option<NodeId>| followed.replace(leader) != Some(leader);
                    self.links.followed.send_if_modified(is_other);
                }
                Look::Answers(state)
            }
            // It is there, and has something against this node.
            Err(CallError::Refused(refusal)) => {
                let mut heard = self.links.heard.lock();
                heard.leader_at = Instant::now();
                if let Refusal::UnknownDirectory { node, known } = refusal
                    && node == self.links.node
                {
                    heard.replaced = Some((leader, known));
                }
                Look::Silent
            }
            Err(CallError::Client(crate::client::ClientError::TimedOut { .. })) => Look::Silent,
            Err(_) if self.is_refused(leader).await => Look::Gone,
            Err(_) => Look::Silent,
        }
    }

    /// Whether nobody listens any more where a node did.
    async fn is_refused(&self, node: NodeId) -> bool {
        let Some(address) = self.links.reach.peers.controller(node) else { return false };
        let dialled = self.links.reach.network.connect(&address, DIAL_LIMIT).await;
        self.links.reach.peers.retry_now(node);
        dialled.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// Stands for election once a majority hears of no leader either, until there is one.
    async fn stand(&self, suspect: Option<NodeId>) {
        if let Some(suspect) = suspect {
            tracing::info!(leader = %suspect, "the leader of the metadata quorum is taken for dead");
        }
        self.links.heard.lock().suspect = suspect;
        self.stand_until_led(suspect).await;
        self.links.heard.lock().suspect = None;
    }

    async fn stand_until_led(&self, suspect: Option<NodeId>) {
        let mut pause = STAND_AGAIN_MIN;
        for attempt in 0_u32.. {
            let metrics = self.metrics();
            let own = metrics.id;
            let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
            if !voters.contains(&own) || metrics.running_state.is_err() {
                // One without a vote looks for the new leader.
                self.find_leader().await;
                return self.changed(SEEK_EVERY).await;
            }
            let is_led = |leader: Option<u64>| leader.is_some() && leader.map(node_id) != suspect;
            if is_led(metrics.current_leader) {
                return;
            }
            if attempt == 0 {
                let before = voters.iter().filter(|id| **id < own && Some(node_id(**id)) != suspect).count();
                let wait = STAGGER * u32::try_from(before).unwrap_or(u32::MAX);
                self.changed(wait + self.links.chance.up_to(STAGGER / 4)).await;
                if is_led(self.metrics().current_leader) {
                    return;
                }
            }
            // The one that is taken for dead was asked just now; whether it is back is worth waiting for later.
            let others = voters.iter().filter(|id| **id != own).map(|id| node_id(*id));
            let others = others.filter(|id| attempt > 0 || Some(*id) != suspect);
            let states = self.states(others.collect()).await;
            // It is back, or was never away.
            if suspect.is_some_and(|suspect| {
                states.get(&suspect).is_some_and(|state| state.leader == Some(suspect))
            }) {
                self.links.heard.lock().leader_at = Instant::now();
                return;
            }
            // One that others hear of may not know of this node any more: it says that it is there.
            let others_hear =
                states.values().filter_map(|state| state.hears).find(|led| Some(*led) != suspect);
            if let Some(leader) = others_hear {
                self.look(leader).await;
            }
            let last = self.quorum.state().last_log;
            let free = states.values().filter(|state| state.hears.is_none());
            let has_better = free.clone().any(|state| state.last_log > last);
            let agree = 1 + free.count();
            if agree > voters.len() / 2 && !(has_better && attempt < GIVE_WAY) {
                tracing::info!(of = voters.len(), agree, "standing for the lead of the metadata quorum");
                if self.quorum.inner.raft.trigger().elect().await.is_err() {
                    return;
                }
            }
            let mut led = self.quorum.inner.raft.metrics();
            let wait = pause + self.links.chance.up_to(pause);
            let until = led.wait_for(|now| is_led(now.current_leader) || now.running_state.is_err());
            if tokio::time::timeout(wait, until).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(STAND_AGAIN_MAX);
        }
    }

    /// Without a leader: looks for one, and stands where that is this node's to do.
    async fn seek(&self, metrics: &Metrics) {
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().any(|id| id == metrics.id) {
            return self.stand(None).await;
        }
        for address in &self.links.reach.bootstrap_servers {
            match self.introduce(address).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(address, %error, "a controller does not answer"),
            }
        }
        self.find_leader().await;
        self.changed(SEEK_EVERY + self.links.chance.up_to(SEEK_EVERY / 2)).await;
    }

    /// Asks those whose addresses are known who leads, and tells that one that this node follows.
    async fn find_leader(&self) {
        let known = self.links.reach.peers.controllers().into_iter().filter(|id| *id != self.links.node);
        let states = self.states(known.collect()).await;
        let newest = states.values().filter(|state| state.hears.is_some()).max_by_key(|state| state.term);
        for state in states.values() {
            self.links.reach.peers.set_controllers(state.controllers.clone());
        }
        if let Some(leader) = newest.and_then(|state| state.hears) {
            // It will send entries, and with them this node knows that it leads.
            self.look(leader).await;
        }
    }

    /// Asks a controller of which but the address is known where the others are.
    async fn introduce(&self, address: &str) -> Result<(), CallError> {
        let limit_ms = u64::try_from(ASK_LIMIT.as_millis()).unwrap_or(u64::MAX);
        let name = "raftsman-joining";
        let network = &*self.links.reach.network;
        let connection = Connection::open_internal(network, address, name, DIAL_LIMIT, limit_ms).await?;
        let failed = |error: serde_json::Error| CallError::Malformed(error.to_string());
        let payload = serde_json::to_vec(&QuorumRequest::State).map_err(failed)?;
        let body = self.links.request(None, &payload)?;
        let answered = connection.call_internal(InternalKey::QuorumState, body).await?;
        let (answer, payload) = self.links.payload(None, &answered)?;
        let state: QuorumState = serde_json::from_slice(&payload).map_err(failed)?;
        let peers = &self.links.reach.peers;
        if answer.node != self.links.node && peers.controller(answer.node).is_none() {
            peers.set_controllers([(answer.node, address.to_owned())]);
        }
        peers.set_controllers(state.controllers);
        Ok(())
    }
}

impl MetadataQuorum {
    /// Whether the leader was heard of so lately that it is worth asking: one that is paused, or cut off, would hold up
    /// whoever asks until another one leads.
    pub fn hears_leader(&self) -> bool {
        let (Some(links), Some(leader)) = (&self.inner.links, self.leader()) else { return true };
        leader == links.node || links.heard.lock().leader_at.elapsed() < DOUBT
    }

    /// Whether a leader was heard of just now; of this node itself, whether it hears of a majority.
    pub(super) fn hears(&self, leader: NodeId) -> bool {
        let Some(links) = &self.inner.links else { return true };
        if leader == links.node {
            let metrics = self.inner.raft.metrics().borrow().clone();
            return links.has_contact(metrics.membership_config.membership().voter_ids());
        }
        let heard = links.heard.lock();
        heard.suspect != Some(leader) && heard.leader_at.elapsed() < SILENCE
    }
}
