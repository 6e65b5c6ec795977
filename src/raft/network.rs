//! The way to the other voters. There are none yet: a cluster is one node, and whoever asks for another
//! one is told so.

use std::future::Future;

use openraft::error::{RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, Snapshot, Vote};

use super::Types;

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("node {target} cannot be reached: node {node} is the only voter and has no way to others")]
pub(super) struct NoWay {
    node: u64,
    target: u64,
}

impl NoWay {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(self)
    }
}

/// Makes "connections" of the only voter.
#[derive(Debug)]
pub(super) struct OnlyVoter {
    pub node: u64,
}

impl RaftNetworkFactory<Types> for OnlyVoter {
    type Network = NoWay;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> NoWay {
        NoWay { node: self.node, target }
    }
}

type RpcError = RPCError<u64, BasicNode, RaftError<u64>>;

impl RaftNetwork<Types> for NoWay {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        Err(self.unreachable().into())
    }

    async fn vote(&mut self, _: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote<u64>,
        _snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, openraft::error::Fatal<u64>>> {
        Err(self.unreachable().into())
    }
}
