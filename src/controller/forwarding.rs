//! Requests on their way to the active controller: what goes over the wire, and what is known of one afterwards.
//!
//! A node that does not lead the quorum sends its requests to the one that does, as JSON in a frame of the private API
//! `CONTROLLER` ([`ControllerChannel`]):
//!
//! ```text
//! request   {"within_ms": 5000, "request": {"CreateTopics": {…}}}
//! answer    {"Answered": {"answer": …, "index": 17}}
//!           | {"Undecided": {"leader": 2, "why": "…"}} | {"Unknown": {"why": "…"}} | {"Refused": {…}}
//! ```
//!
//! A request is never forwarded twice: a node that does not lead answers `Undecided` at once, with the leader that it
//! knows of. What surely was not decided is asked again. What may have been decided is asked again only where a
//! second decision does no harm ([`ControllerRequest::MAY_REPEAT`]); whoever asked for anything else is told that the outcome is
//! not known.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::liveness::Liveness;
use super::request::*;
use super::{Answers, ControllerError, Decider, Decision};
use crate::env::Pending;
use crate::metadata::{ConfigResource, MetadataImage};
use crate::types::NodeId;

/// Longest time that the controller takes for a request of another node, whatever that one says.
const WITHIN_MAX: Duration = Duration::from_secs(600);

/// One kind of request, and how it is decided.
pub(super) trait ControllerRequest:
    Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// It may be asked again though it may have been decided already: its second decision does no harm, and answers
    /// as the first did.
    const MAY_REPEAT: bool;

    /// Goes before what waits already: a broker's coming and going must not wait for large creations.
    const IS_URGENT: bool;

    /// Whether [`ControllerRequest::before`] has something to say.
    const LOOKS_FIRST: bool = false;

    /// What the active controller answers without deciding anything, from what it knows of the brokers' sessions, and when
    /// it last heard of a majority.
    fn before(&self, _: &MetadataImage, _: &mut Liveness, _majority_ms: u64) -> Option<Self::Answer> {
        None
    }

    fn decide(&self, decider: &mut Decider<'_>) -> Decision<Self::Answer>;

    fn to_any(&self) -> AnyRequest;
}

/// Declares every kind of request: its answer, whether it may be repeated, whether it is urgent, how it is decided; and
/// what goes before that, if anything.
macro_rules! requests {
    ($($name:ident -> $answer:ty, repeat: $repeat:literal, urgent: $urgent:literal,
        $decide:expr $(, before: $before:expr)?;)*) => {
        /// A request of any kind, as it goes over the wire.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(super) enum AnyRequest {
            $($name($name),)*
        }

        $(impl ControllerRequest for $name {
            type Answer = $answer;
            const MAY_REPEAT: bool = $repeat;
            const IS_URGENT: bool = $urgent;

            $(
                const LOOKS_FIRST: bool = true;

                fn before(
                    &self,
                    image: &MetadataImage,
                    liveness: &mut Liveness,
                    majority_ms: u64,
                ) -> Option<$answer> {
                    let before: fn(&Self, &MetadataImage, &mut Liveness, u64) -> Option<$answer> = $before;
                    before(self, image, liveness, majority_ms)
                }
            )?

            fn decide(&self, decider: &mut Decider<'_>) -> Decision<Self::Answer> {
                let decide: fn(&Self, &mut Decider<'_>) -> Decision<Self::Answer> = $decide;
                decide(self, decider)
            }

            fn to_any(&self) -> AnyRequest {
                AnyRequest::$name(self.clone())
            }
        })*

        impl AnyRequest {
            /// Has the request decided by this node, and gives what became of it as it goes over the wire.
            pub(super) async fn answer(self, decides: &impl Decides) -> serde_json::Result<Vec<u8>> {
                match self {
                    $(Self::$name(request) => serde_json::to_vec(&decides.decide(request).await),)*
                }
            }
        }
    };
}

/// Leaderships that one look moves: others shall have their turn.
const REBALANCED_MAX: usize = 1000;

requests! {
    // Repeated, it would find its own topics there, and say that they exist already.
    CreateTopics -> Answers<String, CreatedTopic>, repeat: false, urgent: false,
        |request, decider| decider.create_topics(request);
    // Somebody may have made the topic again meanwhile.
    DeleteTopics -> Answers<TopicToDelete, DeletedTopic>, repeat: false, urgent: false,
        |request, decider| decider.delete_topics(&request.topics);
    CreatePartitions -> Answers<String, ()>, repeat: false, urgent: false,
        |request, decider| decider.create_partitions(request);
    // Would undo what somebody else changed meanwhile.
    IncrementalAlterConfigs -> Answers<ConfigResource, ()>, repeat: false, urgent: false,
        |request, decider| decider.incremental_alter_configs(request);
    AlterConfigs -> Answers<ConfigResource, ()>, repeat: false, urgent: false,
        |request, decider| decider.alter_configs(request);
    // The answer of an election that has been held already is another.
    ElectLeaders -> Answers<(String, i32), ()>, repeat: false, urgent: false,
        |request, decider| decider.elect_leaders(request);
    // Would undo what somebody else changed meanwhile.
    AlterPartitionReassignments -> Result<Answers<(String, i32), ()>, ControllerError>,
        repeat: false, urgent: false,
        |request, decider| decider.alter_partition_reassignments(request);
    // A level that is reached stays as it is.
    UpdateFeatures -> Result<(), ControllerError>, repeat: true, urgent: false,
        |request, decider| decider.update_features(request);
    // Once more there is nothing left to do.
    RebalanceLeaders -> (), repeat: true, urgent: false,
        |request, decider| decider.rebalance_leaders(request.moves_to_preferred, REBALANCED_MAX);
    // A process that is registered keeps its epoch.
    BrokerRegistration -> Result<i64, ControllerError>, repeat: true, urgent: true,
        |request, decider| decider.register_broker(request),
        before: |request, image, liveness, _| liveness.admit(image, request, Instant::now()).err().map(Err);
    // It changes nothing but what it says, and says that it is so.
    Heartbeat -> Result<HeartbeatAnswer, ControllerError>, repeat: true, urgent: true,
        |request, decider| {
            let Decision { records, response, is_atomic } =
                decider.change_broker(request.broker, BrokerTransition::Unfence);
            // When this is answered, a majority has taken it.
            let answer = HeartbeatAnswer { is_fenced: false, majority_ms: 0 };
            Decision { records, response: response.map(|()| answer), is_atomic }
        },
        before: |request, image, liveness, majority_ms| {
            liveness.beat(image, request, majority_ms, Instant::now())
        };
    // Fenced by the broker's epoch; one that is as it shall be stays so.
    ChangeBroker -> Result<(), ControllerError>, repeat: true, urgent: true,
        |request, decider| decider.change_broker(request.broker, request.transition);
    // A broker that has registered again would be forgotten, too.
    UnregisterBroker -> Result<(), ControllerError>, repeat: false, urgent: true,
        |request, decider| decider.unregister_broker(request.id);
    // A block that nobody got is lost, and nothing else.
    AllocateProducerIds -> Result<ProducerIdBlock, ControllerError>, repeat: true, urgent: false,
        |request, decider| decider.allocate_producer_ids(request.broker);
    // Fenced by the partition's epoch: whoever asks twice is told that it has risen, and looks.
    AlterPartitions -> Result<Vec<Result<AlteredPartition, ControllerError>>, ControllerError>,
        repeat: true, urgent: true,
        |request, decider| {
            let Decision { records, response, is_atomic } =
                decider.alter_partitions(request.broker, &request.partitions);
            let silent = |answer: Result<_, _>| answer.map_err(ControllerError::silent);
            let response = response.map(|answers| answers.into_iter().map(silent).collect());
            Decision { records, response, is_atomic }
        };
    // As AlterPartitions; and as urgent, since producers wait.
    HandOvers -> Result<Vec<Result<(), ControllerError>>, ControllerError>, repeat: true, urgent: true,
        |request, decider| decider.hand_over(request);
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome<A> {
    /// It was decided, and who has this index of the metadata log sees what it led to.
    Answered { answer: A, index: u64 },
    /// It has had no effect, and will not have any: this node is not the active controller, or has not come to it in
    /// time. It may be asked of another node, if one is named.
    Undecided { leader: Option<NodeId>, why: String },
    /// It may have taken effect, or may yet.
    Unknown { why: String },
    /// It was not taken, and would not be a second time.
    Refused(ControllerError),
}

/// What can have a request decided here.
pub(super) trait Decides {
    fn decide<R: ControllerRequest>(&self, request: R) -> impl Future<Output = Outcome<R::Answer>> + Send;
}

#[derive(Serialize, Deserialize)]
struct Forwarded<R> {
    /// How long whoever asked waits.
    within_ms: u64,
    request: R,
}

/// A request as it goes over the wire.
pub(super) fn encode(within: Duration, request: AnyRequest) -> Result<Bytes, ControllerError> {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let encoded = serde_json::to_vec(&Forwarded { within_ms, request });
    encoded.map(Bytes::from).map_err(|error| ControllerError::unexpected(&error))
}

/// A request from the wire, and how long it may take.
pub(super) fn decode(payload: &[u8]) -> serde_json::Result<(Duration, AnyRequest)> {
    let Forwarded { within_ms, request } = serde_json::from_slice(payload)?;
    Ok((Duration::from_millis(within_ms).min(WITHIN_MAX), request))
}

/// The way to the controllers of other nodes.
pub trait ControllerChannel: Send + Sync + Debug {
    /// Sends a request to a node, and gives its answer or an error `within` this time. What is urgent does not wait for the
    /// answer of what is not. Whoever does not wait any longer drops this.
    fn call(
        &self,
        controller: NodeId,
        request: Bytes,
        is_urgent: bool,
        within: Duration,
    ) -> Pending<'_, Result<Bytes, ChannelError>>;
}

/// There is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The node has surely not got the request.
    #[error("{0}")]
    NotSent(String),
    /// The node may have got it.
    #[error("{0}")]
    Lost(String),
}
