//! The way from openraft to the other nodes: votes, entries and snapshots over the controllers' listeners.
//!
//! openraft drops a call's future when it has waited for a heartbeat's time. The call goes on: a task owns its connection.
//! So that a slow follower is not sent the same entries again and again, the next message waits until the last one
//! was answered. What openraft did not wait for counts for nothing, though: it sends those entries once more. That is over soon where
//! the follower's disk was slow, which has them by then; where the way is slow, the messages get smaller until one is answered in time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, PayloadTooLarge, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot, Vote};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::links::{CallError, Links, NOT_TAKEN};
use super::mailbox::LetterAnswer;
use super::member::Member;
use super::quorum::node_id;
use super::snapshot::Meta;
use super::{RpcError, Types};
use crate::client::connection::InternalAnswer;
use crate::client::peers::Purpose;
use crate::protocol::internal::InternalKey;
use crate::types::NodeId;

/// The pause before a node that was not reached is tried again.
const BACKOFF: Duration = Duration::from_millis(100);
/// How long entries may be on their way to a follower's disk before the connection is given up.
const APPEND_LIMIT: Duration = Duration::from_secs(10);
/// So many messages in a row that are answered too late, and they become smaller: the second one is answered at once by a follower whose
/// disk was slow.
const LATE_MAX: u32 = 2;
/// So many that are answered in time, and they grow again.
const TIMELY_MIN: u32 = 10;
/// How long a vote may take, which is on the disk before it is answered.
const VOTE_LIMIT: Duration = Duration::from_secs(5);
/// How long a part of a snapshot may take.
const CHUNK_LIMIT: Duration = Duration::from_secs(10);
/// How long the last part may take, with which the snapshot is read, checked and made durable.
const INSTALL_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a part of a snapshot.
const CHUNK_BYTES: usize = 512 * 1024;

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("node {target} cannot be reached: node {node} is the only voter and has no way to others")]
pub(super) struct NoWay {
    node: u64,
    target: u64,
}

/// The way of a node that is alone.
#[derive(Debug)]
pub(super) struct OnlyVoter {
    pub node: u64,
}

impl RaftNetworkFactory<Types> for OnlyVoter {
    type Network = NoWay;

    async fn new_client(&mut self, target: u64, _node: &Member) -> NoWay {
        NoWay { node: self.node, target }
    }
}

impl RaftNetwork<Types> for NoWay {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        Err(Unreachable::new(self).into())
    }

    async fn vote(&mut self, _: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        Err(Unreachable::new(self).into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote<u64>,
        _snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        Err(Unreachable::new(self).into())
    }
}

/// Makes the ways to the other nodes.
pub(super) struct ToOthers(pub Arc<Links>);

impl RaftNetworkFactory<Types> for ToOthers {
    type Network = ToOther;

    async fn new_client(&mut self, target: u64, _: &Member) -> ToOther {
        ToOther {
            links: self.0.clone(),
            target: node_id(target),
            unanswered: None,
            fitting: usize::MAX,
            late: 0,
            timely: 0,
        }
    }
}

/// The way to one node.
pub(super) struct ToOther {
    links: Arc<Links>,
    target: NodeId,
    unanswered: Option<Unanswered>,
    /// How many entries a message may have to be answered in time.
    fitting: usize,
    /// So many such messages in a row were answered too late, or in time.
    late: u32,
    timely: u32,
}

/// A message that is under way.
struct Unanswered {
    sent: Sent,
    since: Instant,
    entries: usize,
    is_late: bool,
}

/// How entries were sent.
enum Sent {
    Call(InternalAnswer),
    /// Its node comes and takes them.
    Letter(oneshot::Receiver<LetterAnswer>),
}

/// What a part of a snapshot begins with; its bytes follow behind a newline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChunkHead {
    pub vote: Vote<u64>,
    pub meta: Meta,
    pub offset: u64,
    /// It is the last part.
    pub is_last: bool,
}

impl ToOther {
    fn unreachable(&self, error: &CallError) -> Unreachable {
        self.links.note(self.target, Some(error));
        Unreachable::new(error)
    }

    async fn send_append(
        &mut self,
        request: &AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        let failed = |error: serde_json::Error| CallError::Malformed(error.to_string());
        let payload = serde_json::to_vec(request).map_err(failed)?;
        let sent = match self.links.takes_letters(self.target) {
            Some(mailbox) => Sent::Letter(mailbox.post(InternalKey::RaftAppend as i16, payload.into())),
            None => {
                let body = self.links.request(Some(self.target), &payload)?;
                let connection = self.links.reach.peers.connection(self.target, Purpose::RaftAppend).await?;
                Sent::Call(connection.start_internal(InternalKey::RaftAppend, body).await?)
            }
        };
        let (since, entries) = (Instant::now(), request.entries.len());
        self.unanswered = Some(Unanswered { sent, since, entries, is_late: false });
        let answer = self.answered().await?.unwrap_or_default();
        let response = serde_json::from_slice(&answer).map_err(failed)?;
        self.was_timely(entries);
        self.links.note(self.target, None);
        Ok(response)
    }

    /// The answer to so many entries came when openraft did not wait any more.
    fn was_late(&mut self, entries: usize) {
        if entries < 2 {
            return;
        }
        (self.late, self.timely) = (self.late + 1, 0);
        if self.late >= LATE_MAX {
            (self.fitting, self.late) = (entries / 2, 0);
        }
    }

    /// It came in time. What has fewer entries than may be sent says nothing of how many more could be.
    fn was_timely(&mut self, entries: usize) {
        if entries < self.fitting.min(2) {
            return;
        }
        self.late = 0;
        if entries >= self.fitting {
            self.timely += 1;
        }
        if self.timely >= TIMELY_MIN {
            (self.fitting, self.timely) = (self.fitting.saturating_mul(2), 0);
        }
    }

    /// Waits for the answer that is due, if any is, and gives its payload. Goes on where it was when it is dropped and called
    /// again.
    async fn answered(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(Unanswered { sent, since, .. }) = &mut self.unanswered else { return Ok(None) };
        let left = APPEND_LIMIT.saturating_sub(since.elapsed());
        let answered = match sent {
            Sent::Call(answer) => {
                let body = answer.wait(left).await;
                body.map_err(CallError::from)
                    .and_then(|body| Ok(self.links.payload(Some(self.target), &body)?.1))
            }
            Sent::Letter(answer) => match tokio::time::timeout(left, answer).await {
                Ok(answer) => Links::letter_answer(self.target, answer),
                Err(_) => Links::letter_answer(self.target, Err(NOT_TAKEN)),
            },
        };
        self.unanswered = None;
        Ok(Some(answered?))
    }

    async fn send_snapshot(
        &self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
    ) -> Result<SnapshotResponse<u64>, CallError> {
        let failed = |error: &dyn std::fmt::Display| CallError::Malformed(error.to_string());
        let mut offset = 0;
        loop {
            let file = snapshot.snapshot.file.clone();
            let read = self.links.blocking.run(move || {
                let length = file.len()?;
                let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(CHUNK_BYTES);
                let mut chunk = vec![0; left.min(CHUNK_BYTES)];
                let count = file.read_at(&mut chunk, offset)?;
                chunk.truncate(count);
                let end = offset + count as u64;
                std::io::Result::Ok((chunk, end, end >= length))
            });
            let (chunk, end, is_last) =
                read.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            if chunk.is_empty() && !is_last {
                return Err(failed(&"a snapshot ended before its end"));
            }
            let head = ChunkHead { vote, meta: snapshot.meta.clone(), offset, is_last };
            let mut payload = serde_json::to_vec(&head).map_err(|error| failed(&error))?;
            payload.push(b'\n');
            payload.extend_from_slice(&chunk);
            let way = (Purpose::RaftSnapshot, InternalKey::RaftSnapshot);
            let limit = if is_last { INSTALL_LIMIT } else { CHUNK_LIMIT };
            let answered = self.links.call(self.target, way, &payload, limit).await?;
            let response: Option<SnapshotResponse<u64>> =
                serde_json::from_slice(&answered).map_err(|error| failed(&error))?;
            match response {
                // Also before the last part, when another one leads by now.
                Some(response) => return Ok(response),
                None if is_last => return Err(failed(&"the last part of a snapshot was not answered")),
                None => offset = end,
            }
        }
    }
}

impl RaftNetwork<Types> for ToOther {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        if let Some(unanswered) = self.unanswered.as_mut().filter(|unanswered| !unanswered.is_late) {
            unanswered.is_late = true;
            let entries = unanswered.entries;
            self.was_late(entries);
        }
        // The last message first.
        if let Err(error) = self.answered().await {
            return Err(self.unreachable(&error).into());
        }
        if request.entries.len() > self.fitting {
            return Err(PayloadTooLarge::new_entries_hint(self.fitting as u64).into());
        }
        let sent = self.send_append(&request).await;
        sent.map_err(|error| self.unreachable(&error).into())
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let voted = async {
            let failed = |error: serde_json::Error| CallError::Malformed(error.to_string());
            let payload = serde_json::to_vec(&request).map_err(failed)?;
            let way = (Purpose::RaftVote, InternalKey::RaftVote);
            let answered = self.links.call(self.target, way, &payload, VOTE_LIMIT).await?;
            serde_json::from_slice(&answered).map_err(failed)
        };
        voted.await.map_err(|error| RPCError::from(self.unreachable(&error)))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => {
                sent.map_err(|error| StreamingError::from(self.unreachable(&error)))
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
