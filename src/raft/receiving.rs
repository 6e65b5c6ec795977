//! What other nodes of the quorum ask this one: entries, votes, parts of snapshots, and how it is.
//!
//! Bytes are checked before openraft sees them: who sends, and whether entries follow each other. A snapshot is read as a
//! whole before it is installed: one that is damaged is refused, where openraft would take it for a broken disk.

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use openraft::{Snapshot, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::links::{Followed, Links, QuorumRequest, QuorumState};
use super::mailbox;
use super::network::ChunkHead;
use super::quorum::{QuorumStatus, node_id};
use super::snapshot::{self, SnapshotFile};
use super::{MetadataQuorum, Types};
use crate::protocol::internal::{Answer, Head, InternalKey, Refusal};

/// A snapshot of which not all has come.
pub(super) struct Receiving {
    vote: Vote<u64>,
    snapshot_id: String,
    file: SnapshotFile,
    end: u64,
}

/// How long the leader may take to say how all are.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long a change of the voters may take, whatever whoever asks says.
const CHANGE_LIMIT: Duration = Duration::from_secs(600);

fn unavailable(why: impl std::fmt::Display) -> Refusal {
    Refusal::Unavailable(why.to_string())
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload).map_err(|error| unavailable(format!("it cannot be read: {error}")))
}

fn write(answer: &impl Serialize) -> Result<Bytes, Refusal> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(unavailable)
}

impl MetadataQuorum {
    fn links(&self) -> Result<&Links, Refusal> {
        self.inner.links.as_deref().ok_or_else(|| unavailable("this node is alone in its cluster"))
    }

    /// Refuses who may not ask this node anything: who belongs to another cluster, or means another node.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        self.links()?.check(head)
    }

    /// What this node says of itself where it answers.
    pub fn answer(&self, refusal: Option<Refusal>) -> Option<Answer> {
        Some(self.inner.links.as_deref()?.answer(refusal))
    }

    /// Answers another node of the quorum, who has passed [`MetadataQuorum::check`].
    pub async fn receive(&self, key: InternalKey, head: Head, payload: Bytes) -> Result<Bytes, Refusal> {
        let links = self.links()?;
        match key {
            InternalKey::QuorumState => {
                match read(&payload)? {
                    QuorumRequest::State => {}
                    QuorumRequest::Status => {
                        return match self.leader() == Some(self.node_id()) {
                            true => write(&self.status()),
                            false => Err(unavailable("it does not lead the quorum")),
                        };
                    }
                    QuorumRequest::Stand => {
                        if self.leader() != Some(head.node) {
                            return Err(unavailable("who asks does not lead the quorum"));
                        }
                        self.inner.raft.trigger().elect().await.map_err(unavailable)?;
                    }
                    QuorumRequest::ChangeVoters { change, within_ms } => {
                        let within = Duration::from_millis(within_ms).min(CHANGE_LIMIT);
                        return write(&self.change_voters_here(change, within).await);
                    }
                    QuorumRequest::Follow(follower) => {
                        self.note_follower(&head, follower.endpoints, follower.last_index)?;
                    }
                }
                write(&self.state())
            }
            InternalKey::RaftAppend => {
                links.check_sender(&head)?;
                self.receive_append(&head, read(&payload)?).await
            }
            InternalKey::RaftVote => {
                links.check_sender(&head)?;
                let request: VoteRequest<u64> = read(&payload)?;
                sent_by(&head, &request.vote)?;
                write(&self.inner.raft.vote(request).await.map_err(unavailable)?)
            }
            InternalKey::RaftSnapshot => {
                links.check_sender(&head)?;
                self.receive_chunk(links, &head, payload).await
            }
            InternalKey::RaftTake => {
                links.check_sender(&head)?;
                if self.leader() != Some(self.node_id()) {
                    return Err(unavailable("it does not lead the quorum"));
                }
                let (question, answer) = mailbox::split(&payload).map_err(unavailable)?;
                let not_yet = || unavailable("the leader has not taken it in yet");
                let letters = links.mailbox(head.node).ok_or_else(not_yet)?;
                match letters.take(question, answer).await {
                    Some((envelope, payload)) => mailbox::joined(&envelope, &payload).map_err(unavailable),
                    None => Ok(Bytes::new()),
                }
            }
            InternalKey::Controller => Err(unavailable("it is not the quorum's to answer")),
        }
    }

    fn note_follower(
        &self,
        head: &Head,
        endpoints: Vec<super::Endpoint>,
        last_index: Option<u64>,
    ) -> Result<(), Refusal> {
        if self.leader() != Some(self.node_id()) {
            return Ok(());
        }
        let links = self.links()?;
        let is_voter = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().voter_ids().any(|id| node_id(id) == head.node)
        };
        if is_voter {
            links.check_sender(head)?;
        }
        links.reach.peers.retry_now(head.node);
        let now_ms = self.inner.clock.now_ms();
        let has_all = last_index >= self.inner.store.ends().1.map(|id| id.index);
        let mut heard = links.heard.lock();
        let before = heard.followers.get(&head.node);
        let is_known = before
            .is_some_and(|known| known.directory_id == head.directory_id && known.endpoints == endpoints);
        let caught_up_ms = match has_all {
            true => now_ms,
            false => before.map_or(-1, |known| known.caught_up_ms),
        };
        let (at, directory_id) = (Instant::now(), head.directory_id);
        let followed = Followed { at, at_ms: now_ms, caught_up_ms, directory_id, endpoints };
        heard.followers.insert(head.node, followed);
        if !is_known {
            links.news.notify_one();
        }
        Ok(())
    }

    async fn receive_append(
        &self,
        head: &Head,
        request: AppendEntriesRequest<Types>,
    ) -> Result<Bytes, Refusal> {
        sent_by(head, &request.vote)?;
        let first = request.prev_log_id.map_or(0, |id| id.index.saturating_add(1));
        for (due, entry) in (first..).zip(&request.entries) {
            if entry.log_id.index != due {
                return Err(unavailable(format!("entry {} follows where {due} is due", entry.log_id.index)));
            }
        }
        self.links()?.heard.lock().leader_at = Instant::now();
        write(&self.inner.raft.append_entries(request).await.map_err(unavailable)?)
    }

    async fn receive_chunk(&self, links: &Links, head: &Head, payload: Bytes) -> Result<Bytes, Refusal> {
        let at = payload.iter().position(|byte| *byte == b'\n');
        let at = at.ok_or_else(|| unavailable("a part of a snapshot has no head"))?;
        let chunk: ChunkHead = read(&payload[..at])?;
        let bytes = payload.slice(at + 1..);
        sent_by(head, &chunk.vote)?;
        links.heard.lock().leader_at = Instant::now();
        let mut place = links.receiving.lock().await;
        let is_next = place.as_ref().is_some_and(|receiving| {
            (receiving.vote, receiving.end) == (chunk.vote, chunk.offset)
                && receiving.snapshot_id == chunk.meta.snapshot_id
        });
        let mut receiving = match (chunk.offset, place.take()) {
            (_, Some(receiving)) if is_next => receiving,
            (0, _) => {
                let file = *self.inner.raft.begin_receiving_snapshot().await.map_err(unavailable)?;
                let (vote, snapshot_id) = (chunk.vote, chunk.meta.snapshot_id.clone());
                Receiving { vote, snapshot_id, file, end: 0 }
            }
            _ => return Err(unavailable("parts of a snapshot before this one are missing")),
        };
        let file = receiving.file.clone();
        let (offset, length) = (chunk.offset, bytes.len() as u64);
        let (is_last, meta) = (chunk.is_last, chunk.meta.clone());
        let written = links.blocking.run(move || {
            file.file.write_all_at(&mut [IoSlice::new(&bytes)], offset).map_err(|error| error.to_string())?;
            if !is_last {
                return Ok(());
            }
            let content = file.read().and_then(|bytes| snapshot::decode(&file.path, &bytes));
            match content {
                Ok(content) if content.meta == meta => Ok(()),
                Ok(_) => Err("it is another snapshot".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        written.await.map_err(unavailable)?.map_err(unavailable)?;
        receiving.end = offset + length;
        if !is_last {
            *place = Some(receiving);
            return write(&None::<()>);
        }
        drop(place);
        let received = Snapshot { meta: chunk.meta, snapshot: Box::new(receiving.file) };
        let installed = self.inner.raft.install_full_snapshot(chunk.vote, received).await;
        write(&Some(installed.map_err(unavailable)?))
    }

    /// What the leader of the quorum knows of its members, where this node does not lead: only the leader
    /// knows how far each is. `None`: nobody leads, or the leader does not answer.
    pub async fn leaders_status(&self) -> Option<QuorumStatus> {
        let links = self.inner.links.as_deref()?;
        let asked = links.ask_for(self.leader()?, &QuorumRequest::Status, STATUS_LIMIT).await;
        asked.inspect_err(|error| tracing::debug!(%error, "the leader does not say how the quorum is")).ok()
    }

    /// The quorum as this node sees it.
    pub fn state(&self) -> QuorumState {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let leader = self.leader();
        let mut controllers = std::collections::BTreeMap::new();
        if let Some(links) = self.inner.links.as_deref() {
            let voters = metrics.membership_config.membership().voter_ids().map(node_id);
            controllers.extend(voters.filter_map(|id| Some((id, links.reach.peers.controller(id)?))));
        }
        QuorumState {
            leader,
            term: metrics.current_term,
            last_log: self.inner.store.ends().1.map(|id| (id.leader_id.term, id.leader_id.node_id, id.index)),
            hears: leader.filter(|leader| self.hears(*leader)),
            is_formed: self.image().cluster_id().is_some(),
            controllers,
        }
    }
}

/// A message of a leader or candidate comes from itself.
fn sent_by(head: &Head, vote: &Vote<u64>) -> Result<(), Refusal> {
    match node_id(vote.leader_id.node_id) == head.node {
        true => Ok(()),
        false => Err(unavailable(format!("node {} speaks for another one", head.node))),
    }
}
