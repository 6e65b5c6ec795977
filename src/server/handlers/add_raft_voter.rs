//! AddRaftVoter (key 80, KIP-853): a controller that follows the metadata quorum becomes one of its voters.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use crate::protocol::guard::shapes;
use crate::protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse, StrBytes};
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
    shape: &shapes::ADD_RAFT_VOTER,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<AddRaftVoterRequest>(),
};

error_codes!(AddRaftVoterResponse: []);

/// How long a change may take where the request does not say.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Refuses what is meant for another cluster.
pub(super) fn check_cluster(broker: &Broker, wanted: Option<&StrBytes>) -> Result<(), WireError> {
    match wanted {
        Some(wanted) if wanted.as_str() != &*broker.cluster_id => {
            let reason = format!("this is the cluster {}, not {wanted}", broker.cluster_id);
            Err(WireError::new(ResponseError::InconsistentClusterId, reason))
        }
        _ => Ok(()),
    }
}

impl Answered for AddRaftVoterRequest {
    type Response = AddRaftVoterResponse;

    fn error_response(&self, _: i16, error: &WireError) -> AddRaftVoterResponse {
        AddRaftVoterResponse::default().with_error_code(error.number()).with_error_message(error.text())
    }
}

impl AnswerLater for AddRaftVoterRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> AddRaftVoterResponse {
        let voter = VoterKey { id: NodeId(self.voter_id), directory_id: self.voter_directory_id };
        // Where it listens it says itself, as it follows: what is named here must only name the listener that is used.
        let wanted = broker.config.listeners.controller_names.first().map_or("", String::as_str);
        let has_listener = self.listeners.iter().any(|one| one.name.eq_ignore_ascii_case(wanted));
        let added = async {
            check_cluster(&broker, self.cluster_id.as_ref())?;
            if !has_listener {
                let names: Vec<_> = self.listeners.iter().map(|one| one.name.as_str()).collect();
                let reason = format!("Provided listeners {names:?} do not contain a listener for {wanted}");
                return Err(WireError::new(ResponseError::InvalidRequest, reason));
            }
            let within = u64::try_from(self.timeout_ms).ok().filter(|ms| *ms > 0);
            let within = within.map_or(TIMEOUT, Duration::from_millis);
            broker.quorum.change_voters(VoterChange::Add(voter), within).await.map_err(WireError::from)
        };
        match added.await {
            Ok(()) => AddRaftVoterResponse::default(),
            Err(error) => self.error_response(request.version, &error),
        }
    }
}
