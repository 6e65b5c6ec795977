//! The way to the other nodes of the quorum, and what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::changing::VoterChange;
use super::mailbox::{LetterAnswer, Mailbox};
use super::member::{Endpoint, Member};
use super::receiving::Receiving;
use super::state_machine::Shared;
use crate::client::ClientError;
use crate::client::peers::{Peers, Purpose};
use crate::env::{Blocking, Chance, Network, Tasks};
use crate::protocol::internal::{self, Answer, Head, InternalKey, Refusal};
use crate::types::NodeId;

/// How the other controllers are reached.
#[derive(Clone, Debug)]
pub struct Reach {
    pub peers: Peers,
    pub network: Arc<dyn Network>,
    /// Where this node's controller listens; empty for one that is only a broker.
    pub endpoints: Vec<Endpoint>,
    /// Controllers whose ids are not known (`controller.quorum.bootstrap.servers`).
    pub bootstrap_servers: Vec<String>,
    /// Whether this node has itself made a voter (`controller.quorum.auto.join.enable`).
    pub joins_by_itself: bool,
    /// The role of the controllers' listeners that others use (the first of `controller.listener.names`).
    pub listener_name: String,
}

/// Nothing came of a call.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("its answer cannot be read: {0}")]
    Malformed(String),
}

/// The quorum as one node sees it, for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumState {
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Term, node and index of the last entry in its log; none for an empty one.
    pub last_log: Option<(u64, u64, u64)>,
    /// The leader that it has heard of just now; itself, when it leads and hears of a majority.
    pub hears: Option<NodeId>,
    /// It belongs to a cluster that has been formed.
    pub is_formed: bool,
    /// Where the voters are that it knows of.
    pub controllers: BTreeMap<NodeId, String>,
}

/// What nodes ask each other about the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum QuorumRequest {
    /// How is it?
    State,
    /// The same, of the leader, by one who follows it or wants to.
    Follow(Follower),
    /// What does its leader know of all members?
    Status,
    /// Stand for election, of a voter, by the leader that goes.
    Stand,
    /// Have the voters changed, of the leader. It takes its time, and goes over a connection of its own.
    ChangeVoters { change: VoterChange, within_ms: u64 },
}

/// A sign of life to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Follower {
    pub endpoints: Vec<Endpoint>,
    pub last_index: Option<u64>,
}

/// Who follows this node, and since when that is known.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub at: Instant,
    /// Wall clock.
    pub at_ms: i64,
    pub caught_up_ms: i64,
    pub directory_id: Uuid,
    pub endpoints: Vec<Endpoint>,
}

/// What was heard lately.
#[derive(Debug)]
pub(super) struct Heard {
    /// The last sign of life of the leader.
    pub leader_at: Instant,
    /// The leader that is taken for dead.
    pub suspect: Option<NodeId>,
    /// Since when this node leads.
    pub led_since: Option<Instant>,
    pub followers: BTreeMap<NodeId, Followed>,
    /// A cluster id that another node knows, while this one knows none.
    pub cluster_id: Option<String>,
    /// Why nodes are not heard of.
    pub problems: BTreeMap<NodeId, Problem>,
    /// The leader that knows this node by another folder, which has a vote.
    pub replaced: Option<(NodeId, Uuid)>,
    told: BTreeMap<(NodeId, String), Told>,
}

/// Why a node is not heard of.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub text: String,
    /// It answers, and has something against this node.
    is_refusal: bool,
}

/// A trouble that was told in the log.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    is_refusal: bool,
}

/// How long a leader that hears of no majority goes on to decide.
pub(super) const CONTACT_LIMIT: Duration = Duration::from_millis(1000);
/// Why a letter is given up.
pub(super) const NOT_TAKEN: &str = "it has not taken what was there for it";
/// How often the same trouble is told in the log.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// See the head of this module.
pub(super) struct Links {
    pub reach: Reach,
    pub node: NodeId,
    pub directory_id: Uuid,
    /// The cluster that this node belongs to, as its folder says.
    cluster_id: Option<String>,
    pub shared: Arc<Shared>,
    pub chance: Arc<dyn Chance>,
    pub blocking: Arc<dyn Blocking>,
    /// The members' folders, as the log says.
    pub directories: Mutex<BTreeMap<NodeId, Uuid>>,
    pub heard: Mutex<Heard>,
    /// Somebody was heard of that the leader may have to note.
    pub news: Notify,
    pub receiving: tokio::sync::Mutex<Option<Receiving>>,
    /// Held by who changes the members, as the leader.
    pub changing: tokio::sync::Mutex<()>,
    /// For members that have no listener for controllers.
    mailboxes: Mutex<BTreeMap<NodeId, Arc<Mailbox>>>,
    /// The leader that this node follows, or wants to.
    pub followed: watch::Sender<Option<NodeId>>,
    pub tasks: Tasks,
}

impl Links {
    pub(super) fn new(
        reach: Reach,
        (node, directory_id, cluster_id): (NodeId, Uuid, Option<String>),
        shared: Arc<Shared>,
        chance: Arc<dyn Chance>,
        blocking: Arc<dyn Blocking>,
    ) -> Self {
        let heard = Heard {
            leader_at: Instant::now(),
            suspect: None,
            led_since: None,
            followers: BTreeMap::new(),
            cluster_id: None,
            problems: BTreeMap::new(),
            replaced: None,
            told: BTreeMap::new(),
        };
        Self {
            reach,
            node,
            directory_id,
            cluster_id,
            shared,
            chance,
            blocking,
            directories: Mutex::default(),
            heard: Mutex::new(heard),
            news: Notify::new(),
            receiving: Default::default(),
            changing: Default::default(),
            mailboxes: Mutex::default(),
            followed: watch::Sender::new(None),
            tasks: Tasks::new(),
        }
    }

    /// The cluster that this node belongs to, once it is known.
    pub(super) fn cluster_id(&self) -> Option<String> {
        let decided = self.shared.image().cluster_id().map(|id| id.to_string());
        decided.or_else(|| self.cluster_id.clone())
    }

    /// Takes over what the log says of the members.
    pub(super) fn note_members<'a>(&self, members: impl Iterator<Item = (&'a u64, &'a Member)>) {
        let (mut directories, mut addresses) = (BTreeMap::new(), Vec::new());
        let known: BTreeMap<NodeId, &Member> =
            members.map(|(id, member)| (super::quorum::node_id(*id), member)).collect();
        for (id, member) in &known {
            let id = *id;
            directories.extend(member.directory_id.map(|directory| (id, directory)));
            let named = member.endpoints.iter().find(|endpoint| endpoint.name == self.reach.listener_name);
            addresses.extend(named.or(member.endpoints.first()).map(|endpoint| (id, endpoint.address())));
        }
        *self.directories.lock() = directories;
        let mut mailboxes = self.mailboxes.lock();
        mailboxes.retain(|id, _| known.contains_key(id));
        known.keys().for_each(|id| _ = mailboxes.entry(*id).or_default());
        drop(mailboxes);
        self.reach.peers.set_controllers(addresses);
    }

    fn head(&self, to: Option<NodeId>) -> Head {
        Head {
            cluster_id: self.cluster_id(),
            node: self.node,
            directory_id: self.directory_id,
            broker_epoch: -1,
            to,
            to_directory_id: to.and_then(|to| self.directories.lock().get(&to).copied()),
        }
    }

    /// The body of a request.
    pub(super) fn request(&self, to: Option<NodeId>, payload: &[u8]) -> Result<Bytes, CallError> {
        internal::body(&self.head(to), payload).map_err(|error| CallError::Malformed(error.to_string()))
    }

    /// What this node says of itself where it answers.
    pub(super) fn answer(&self, refusal: Option<Refusal>) -> Answer {
        Answer { cluster_id: self.cluster_id(), node: self.node, directory_id: self.directory_id, refusal }
    }

    /// Refuses who belongs to another cluster, means another node, or has another folder than the node that it says
    /// it is.
    pub(super) fn check(&self, head: &Head) -> Result<(), Refusal> {
        let node = self.node;
        if let Some(cluster) = self.other_cluster(head.cluster_id.as_deref()) {
            return Err(Refusal::OtherCluster { node, cluster });
        }
        if head.to.is_some_and(|to| to != node) {
            return Err(Refusal::OtherNode { node });
        }
        match head.to_directory_id {
            Some(meant) if meant != self.directory_id => {
                Err(Refusal::OtherDirectory { node, directory: self.directory_id })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a node under whose number the quorum knows another folder.
    pub(super) fn check_sender(&self, head: &Head) -> Result<(), Refusal> {
        match self.directories.lock().get(&head.node) {
            Some(known) if *known != head.directory_id => {
                Err(Refusal::UnknownDirectory { node: head.node, known: *known })
            }
            _ => Ok(()),
        }
    }

    /// The cluster of this node, where it is not theirs.
    fn other_cluster(&self, theirs: Option<&str>) -> Option<String> {
        match (self.cluster_id(), theirs) {
            (Some(own), Some(theirs)) if own != theirs => Some(own),
            (None, Some(theirs)) => {
                self.heard.lock().cluster_id = Some(theirs.to_owned());
                None
            }
            _ => None,
        }
    }

    /// The payload of an answer, when it is one of whom was asked.
    pub(super) fn payload(&self, of: Option<NodeId>, body: &Bytes) -> Result<(Answer, Bytes), CallError> {
        let (answer, at) =
            internal::split::<Answer>(body).map_err(|error| CallError::Malformed(error.to_string()))?;
        if let Some(refusal) = answer.refusal {
            return Err(refusal.into());
        }
        let node = answer.node;
        if of.is_some_and(|of| of != node) {
            return Err(Refusal::OtherNode { node }.into());
        }
        if self.other_cluster(answer.cluster_id.as_deref()).is_some() {
            let cluster = answer.cluster_id.unwrap_or_default();
            return Err(Refusal::OtherCluster { node, cluster }.into());
        }
        let known = of.and_then(|of| self.directories.lock().get(&of).copied());
        if known.is_some_and(|known| known != answer.directory_id) {
            return Err(Refusal::OtherDirectory { node, directory: answer.directory_id }.into());
        }
        Ok((answer, body.slice(at..)))
    }

    /// Asks a node, and gives the payload of its answer.
    pub(super) async fn call(
        &self,
        target: NodeId,
        (purpose, key): (Purpose, InternalKey),
        payload: &[u8],
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let called = self.call_unnoted(target, (purpose, key), payload, limit).await;
        self.note(target, called.as_ref().err());
        called
    }

    /// The mailbox of a member.
    pub(super) fn mailbox(&self, node: NodeId) -> Option<Arc<Mailbox>> {
        self.mailboxes.lock().get(&node).cloned()
    }

    /// Where entries and snapshots for a node wait until it takes them: one that has no listener for controllers.
    pub(super) fn takes_letters(&self, node: NodeId) -> Option<Arc<Mailbox>> {
        self.mailbox(node).filter(|mailbox| mailbox.is_asked())
    }

    /// What came of a letter.
    pub(super) fn letter_answer(
        node: NodeId,
        answer: Result<LetterAnswer, impl std::fmt::Display>,
    ) -> Result<Bytes, CallError> {
        let lost = |why: String| ClientError::Lost { address: format!("node {node}"), reason: why };
        Ok(answer.map_err(|why| lost(why.to_string()))??)
    }

    async fn call_unnoted(
        &self,
        target: NodeId,
        (purpose, key): (Purpose, InternalKey),
        payload: &[u8],
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        if key == InternalKey::RaftSnapshot
            && let Some(mailbox) = self.takes_letters(target)
        {
            let answer = mailbox.post(key as i16, Bytes::copy_from_slice(payload));
            let answer = tokio::time::timeout(limit, answer).await;
            let late = ClientError::Lost { address: format!("node {target}"), reason: NOT_TAKEN.to_owned() };
            return Self::letter_answer(target, answer.map_err(|_| late)?);
        }
        let body = self.request(Some(target), payload)?;
        let connection = self.reach.peers.connection(target, purpose).await?;
        let mut answer = connection.start_internal(key, body).await?;
        Ok(self.payload(Some(target), &answer.wait(limit).await?)?.1)
    }

    /// Notes what came of a call, and tells of what somebody has to mend.
    pub(super) fn note(&self, target: NodeId, error: Option<&CallError>) {
        let mut heard = self.heard.lock();
        let Some(error) = error else {
            // What it has against this node is about one kind of request, and others are answered.
            if heard.problems.remove(&target).is_some_and(|known| !known.is_refusal) {
                let before = heard.told.len();
                heard.told.retain(|(node, _), told| *node != target || told.is_refusal);
                if heard.told.len() < before {
                    tracing::info!(node = %target, "a node of the quorum is reached again");
                }
            }
            return;
        };
        if self.reach.peers.controller(target).is_none() {
            // It comes by itself, and its broker's end is told elsewhere.
            return tracing::debug!(node = %target, %error, "a node that takes letters is not there");
        }
        let is_refusal = matches!(error, CallError::Refused(_));
        let text = error.to_string();
        heard.problems.insert(target, Problem { text: text.clone(), is_refusal });
        let now = Instant::now();
        heard.told.retain(|_, told| now - told.at <= TOLD_AGAIN);
        if !heard.told.contains_key(&(target, text.clone())) {
            heard.told.insert((target, text), Told { at: now, is_refusal });
            tracing::warn!(node = %target, %error, "a node of the quorum is not reached");
        }
    }

    /// As [`Links::ask_for`], for what takes long: signs of life must not wait behind it.
    pub(super) async fn ask_apart<T: DeserializeOwned>(
        &self,
        target: NodeId,
        request: &QuorumRequest,
        limit: Duration,
    ) -> Result<T, CallError> {
        self.ask_by(Purpose::QuorumMembers, target, request, limit).await
    }

    /// How another node sees the quorum.
    pub(super) async fn ask(
        &self,
        target: NodeId,
        request: &QuorumRequest,
        limit: Duration,
    ) -> Result<QuorumState, CallError> {
        self.ask_for(target, request, limit).await
    }

    /// The answer of another node to a question about the quorum.
    pub(super) async fn ask_for<T: DeserializeOwned>(
        &self,
        target: NodeId,
        request: &QuorumRequest,
        limit: Duration,
    ) -> Result<T, CallError> {
        self.ask_by(Purpose::QuorumState, target, request, limit).await
    }

    async fn ask_by<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        target: NodeId,
        request: &QuorumRequest,
        limit: Duration,
    ) -> Result<T, CallError> {
        let payload = serde_json::to_vec(request).map_err(|error| CallError::Malformed(error.to_string()))?;
        let way = (purpose, InternalKey::QuorumState);
        let answered = tokio::time::timeout(limit, self.call(target, way, &payload, limit)).await;
        let answered = answered.unwrap_or_else(|_| {
            let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let address = self.reach.peers.controller(target).unwrap_or_default();
            Err(ClientError::TimedOut { address, api: "QuorumState".to_owned(), timeout_ms }.into())
        })?;
        serde_json::from_slice(&answered).map_err(|error| CallError::Malformed(error.to_string()))
    }

    /// Whether a majority of the voters was heard of lately. For the leader.
    pub(super) fn has_contact(&self, voters: impl Iterator<Item = u64>) -> bool {
        let heard = self.heard.lock();
        if heard.led_since.is_none_or(|since| since.elapsed() < CONTACT_LIMIT) {
            return true;
        }
        let (mut count, mut present) = (0, 0);
        for voter in voters {
            count += 1;
            let voter = super::quorum::node_id(voter);
            let followed = heard.followers.get(&voter);
            let is_present = followed.is_some_and(|followed| followed.at.elapsed() < CONTACT_LIMIT);
            present += usize::from(voter == self.node || is_present);
        }
        present > count / 2
    }
}
