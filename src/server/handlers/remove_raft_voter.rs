//! RemoveRaftVoter (key 81, KIP-853): a voter of the metadata quorum has no vote any more.

use std::sync::Arc;

use super::add_raft_voter::{TIMEOUT, check_cluster};
use crate::protocol::guard::shapes;
use crate::protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use crate::raft::{VoterChange, VoterKey};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::types::NodeId;

pub(super) const API: Api = Api {
    shape: &shapes::REMOVE_RAFT_VOTER,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<RemoveRaftVoterRequest>(),
};

error_codes!(RemoveRaftVoterResponse: []);

impl Answered for RemoveRaftVoterRequest {
    type Response = RemoveRaftVoterResponse;

    fn error_response(&self, _: i16, error: &WireError) -> RemoveRaftVoterResponse {
        RemoveRaftVoterResponse::default().with_error_code(error.number()).with_error_message(error.text())
    }
}

impl AnswerLater for RemoveRaftVoterRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> RemoveRaftVoterResponse {
        let voter = VoterKey { id: NodeId(self.voter_id), directory_id: self.voter_directory_id };
        let removed = async {
            check_cluster(&broker, self.cluster_id.as_ref())?;
            broker.quorum.change_voters(VoterChange::Remove(voter), TIMEOUT).await.map_err(WireError::from)
        };
        match removed.await {
            Ok(()) => RemoveRaftVoterResponse::default(),
            Err(error) => self.error_response(request.version, &error),
        }
    }
}
