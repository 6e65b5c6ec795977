//! A member of a classic consumer group.
//!
//! The caller joins, reads what it was assigned, commits, and joins again when [`GroupMember::disturbed`]
//! says so. Meanwhile a task beats the heart, so the runtime must have a thread besides the one on which
//! the caller may block. The coordinator is spoken to over a connection of its own: a broker answers one
//! request of a connection after the other, and a fetch or a join may wait for long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admin::Partition;
use super::assignor::{Candidate, Strategy};
use super::committed::{self, Committer, Offsets};
use super::consumer_protocol::{Subscription, decode_assignment, encode_assignment};
use super::coordinator::group_id;
use super::groups::CONSUMER;
pub use super::link::Interest;
use super::link::{Link, counts_of};
use super::pulse::{Lookout, Pulse, Standing, leave};
use super::{Client, ClientError, Connection, text};

/// JoinGroup asks for a member id first from this version on (KIP-394), takes `group.instance.id` from
/// the next, and a reason for the log from the last.
const JOIN_INSTANCE_VERSION: i16 = 5;
const JOIN_REASON_VERSION: i16 = 8;
/// SyncGroup names the protocol from this version on.
const SYNC_PROTOCOL_VERSION: i16 = 5;
/// What a join may take beyond the rebalance timeout, for which the broker may hold it.
const JOIN_MARGIN_MS: u64 = 5_000;

/// How a member behaves. Names and defaults are Kafka's, but for the age of metadata: a tool that
/// somebody looks at finds new partitions sooner.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    pub group: String,
    /// `group.instance.id`: a static member keeps its partitions while it is away for less than the
    /// session timeout.
    pub instance_id: Option<String>,
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: u64,
    /// `max.poll.interval.ms`: a member that does not read on for so long leaves the group.
    pub poll_interval_max_ms: i32,
    /// In order of preference; all members must have one in common.
    pub strategies: Vec<Strategy>,
    /// How often to look for new topics and partitions.
    pub metadata_age_max_ms: u64,
}

impl MemberOptions {
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            instance_id: None,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            poll_interval_max_ms: 300_000,
            strategies: vec![Strategy::Range, Strategy::CooperativeSticky],
            metadata_age_max_ms: 30_000,
        }
    }
}

/// See the module's head.
pub struct GroupMember {
    link: Arc<Link>,
    options: MemberOptions,
    interest: Arc<Interest>,
    /// Empty until the coordinator has given one.
    member_id: String,
    /// -1 while not in the group.
    generation: i32,
    strategy: Option<Strategy>,
    /// A join has been sent and not been answered.
    is_joining: bool,
    standing: watch::Sender<Standing>,
    last_poll: Arc<Mutex<Instant>>,
    /// The heart and the lookout; they end when this is dropped.
    tasks: JoinSet<()>,
}

/// What a join came to: what the member has now, and what the leader of the group watches.
struct Joined {
    assignment: BTreeSet<Partition>,
    subscribed: Vec<String>,
    watched: Option<BTreeMap<String, i32>>,
}

impl GroupMember {
    pub fn new(client: Arc<Client>, options: MemberOptions, interest: Interest) -> Self {
        let link = Link { client, group: options.group.clone(), open: tokio::sync::Mutex::default() };
        Self {
            link: Arc::new(link),
            options,
            interest: Arc::new(interest),
            member_id: String::new(),
            generation: -1,
            strategy: None,
            is_joining: false,
            standing: watch::Sender::new(Standing::Stable),
            last_poll: Arc::new(Mutex::new(Instant::now())),
            tasks: JoinSet::new(),
        }
    }

    /// Tells that the caller is alive and reads on.
    pub fn polled(&self) {
        *self.last_poll.lock() = Instant::now();
    }

    /// Waits until the member has to join again. May be cancelled.
    pub async fn disturbed(&self) -> Standing {
        let mut standing = self.standing.subscribe();
        match standing.wait_for(|standing| !matches!(standing, Standing::Stable)).await {
            Ok(standing) => standing.clone(),
            // The sender is ours.
            Err(_) => Standing::Rebalancing,
        }
    }

    /// Whether the member may read on what it has while the group rebalances. Otherwise it has to give
    /// up everything before it joins, which is all that the assignors in use promise to work with.
    pub fn keeps_while_rebalancing(&self) -> bool {
        let all_cooperate =
            self.options.strategies.iter().all(|strategy| *strategy == Strategy::CooperativeSticky);
        let is_member = !matches!(*self.standing.borrow(), Standing::Lost(_));
        all_cooperate && is_member && self.generation >= 0
    }

    /// Joins, or joins again, with the partitions that the caller still has. Answers those that it has
    /// from now on. Tries again whatever may pass, for as long as `default.api.timeout.ms` where nothing
    /// but errors comes. May be cancelled, if [`GroupMember::leave`] comes next.
    pub async fn join(&mut self, owned: &BTreeSet<Partition>) -> Result<BTreeSet<Partition>, ClientError> {
        let options = self.link.client.options();
        let (client, patience_ms) = (self.link.client.clone(), options.api_timeout_ms);
        // From the first error on.
        let mut retries = None;
        loop {
            let had_id = !self.member_id.is_empty();
            let error = match self.try_join(owned).await {
                Ok(joined) => {
                    self.is_joining = false;
                    self.start_tasks(joined.subscribed, joined.watched);
                    return Ok(joined.assignment);
                }
                Err(error) => error,
            };
            self.is_joining = false;
            self.link.note(&error).await;
            let passes = match error.code() {
                // The answer to the first round, in which the id came.
                Some(ResponseError::MemberIdRequired) if !had_id => continue,
                // The group went on while this one was asked.
                Some(ResponseError::RebalanceInProgress) => continue,
                Some(ResponseError::UnknownMemberId) => {
                    self.member_id = String::new();
                    self.generation = -1;
                    true
                }
                Some(ResponseError::IllegalGeneration) => {
                    self.generation = -1;
                    true
                }
                _ => error.is_retriable(),
            };
            retries.get_or_insert_with(|| client.retries(patience_ms)).after(error, passes).await?;
        }
    }

    async fn try_join(&mut self, owned: &BTreeSet<Partition>) -> Result<Joined, ClientError> {
        let link = self.link.clone();
        let subscribed = self.interest.topics(&link.client).await?;
        let connection = link.connection().await?;
        let version = connection.require::<JoinGroupRequest>(i16::MAX)?;
        if self.options.instance_id.is_some() && version < JOIN_INSTANCE_VERSION {
            return Err(ClientError::Unsupported {
                address: connection.address().to_owned(),
                api: "JoinGroup with group.instance.id".to_owned(),
            });
        }
        let subscription =
            Subscription { topics: subscribed.clone(), owned: owned.clone(), generation: self.generation };
        let metadata = subscription.encode();
        let protocols = self.options.strategies.iter().map(|strategy| {
            JoinGroupRequestProtocol::default()
                .with_name(text(strategy.name()))
                .with_metadata(metadata.clone())
        });
        let reason = match &*self.standing.borrow() {
            Standing::Stable => None,
            standing => Some(text(standing.to_string())),
        };
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(&self.options.group))
            .with_session_timeout_ms(self.options.session_timeout_ms)
            .with_rebalance_timeout_ms(self.options.poll_interval_max_ms)
            .with_member_id(text(self.member_id.clone()))
            .with_group_instance_id(self.options.instance_id.clone().map(text))
            .with_protocol_type(text(CONSUMER))
            .with_protocols(protocols.collect())
            .with_reason(reason.filter(|_| version >= JOIN_REASON_VERSION));
        // The broker counts the join as a sign of life until it has answered.
        self.tasks = JoinSet::new();
        self.is_joining = true;
        let timeout_ms = u64::try_from(self.options.poll_interval_max_ms).unwrap_or(0) + JOIN_MARGIN_MS;
        let response = connection.start(&request, version).await?.wait(timeout_ms).await?;
        self.is_joining = false;
        if response.error_code == ResponseError::MemberIdRequired.code() {
            self.member_id = response.member_id.to_string();
        }
        ClientError::check(response.error_code, None)?;
        self.member_id = response.member_id.to_string();
        self.generation = response.generation_id;
        let name = response.protocol_name.as_deref().unwrap_or_default();
        let strategy = Strategy::parse(name).ok_or(ClientError::Refused {
            code: ResponseError::InconsistentGroupProtocol,
            message: Some(format!("the group has chosen '{name}', which is not known here")),
        })?;
        self.strategy = Some(strategy);
        self.standing.send_replace(Standing::Stable);

        let (mut assignments, mut watched) = (Vec::new(), None);
        if response.leader == response.member_id {
            let candidates = candidates(&response)?;
            let counts = partition_counts(&link.client, &candidates).await?;
            // KIP-814: after the restart of a static leader the group keeps what it had.
            if !response.skip_assignment {
                let shared = strategy.assign(&candidates, &counts);
                assignments.extend(shared.iter().map(|(member, partitions)| {
                    SyncGroupRequestAssignment::default()
                        .with_member_id(text(member.clone()))
                        .with_assignment(encode_assignment(partitions))
                }));
            }
            watched = Some(counts);
        }
        let assignment = self.sync(&connection, strategy, assignments).await?;
        let assignment =
            decode_assignment(assignment).map_err(|error| ClientError::Batch(error.to_string()))?;
        Ok(Joined { assignment, subscribed, watched })
    }

    async fn sync(
        &self,
        connection: &Connection,
        strategy: Strategy,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<Bytes, ClientError> {
        let version = connection.require::<SyncGroupRequest>(i16::MAX)?;
        let named = version >= SYNC_PROTOCOL_VERSION;
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.options.group))
            .with_generation_id(self.generation)
            .with_member_id(text(self.member_id.clone()))
            .with_group_instance_id(self.options.instance_id.clone().map(text))
            .with_protocol_type(named.then(|| text(CONSUMER)))
            .with_protocol_name(named.then(|| text(strategy.name())))
            .with_assignments(assignments);
        // The leader may take as long as it may to join.
        let timeout_ms = u64::try_from(self.options.poll_interval_max_ms).unwrap_or(0) + JOIN_MARGIN_MS;
        let response = connection.start(&request, version).await?.wait(timeout_ms).await?;
        ClientError::check(response.error_code, None)?;
        Ok(response.assignment)
    }

    fn start_tasks(&mut self, subscribed: Vec<String>, watched: Option<BTreeMap<String, i32>>) {
        self.polled();
        let pulse = Pulse {
            link: self.link.clone(),
            committer: self.committer(),
            interval: Duration::from_millis(self.options.heartbeat_interval_ms),
            session_timeout: Duration::from_millis(
                u64::try_from(self.options.session_timeout_ms).unwrap_or(0),
            ),
            poll_interval_max: Duration::from_millis(
                u64::try_from(self.options.poll_interval_max_ms).unwrap_or(0),
            ),
            last_poll: self.last_poll.clone(),
            standing: self.standing.clone(),
        };
        self.tasks.spawn(pulse.beat());
        let lookout = Lookout {
            link: self.link.clone(),
            interest: self.interest.clone(),
            interval: Duration::from_millis(self.options.metadata_age_max_ms),
            subscribed,
            watched,
            standing: self.standing.clone(),
        };
        self.tasks.spawn(lookout.watch());
    }

    /// As whom the member commits; holds until it joins again.
    pub fn committer(&self) -> Committer {
        Committer {
            group: self.options.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: self.options.instance_id.clone(),
            generation: self.generation,
        }
    }

    /// What the group has committed for partitions, where it has.
    pub async fn committed(&self, partitions: &[Partition]) -> Result<Offsets, ClientError> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        self.at_coordinator(self.link.client.options().api_timeout_ms, async |connection| {
            let group = self.options.group.as_str();
            let fetched = committed::fetch_offsets(connection, &[group], Some(partitions), true).await?;
            fetched.into_values().next().unwrap_or_else(|| Ok(Offsets::new()))
        })
        .await
    }

    /// Commits as a member of the generation. Partitions that cannot be committed for, as their topic is
    /// gone, are left out silently.
    pub async fn commit(&self, offsets: &Offsets, timeout_ms: u64) -> Result<(), ClientError> {
        if offsets.is_empty() || self.generation < 0 {
            return Ok(());
        }
        let committer = self.committer();
        let result = self
            .at_coordinator(timeout_ms, async |connection| {
                committed::commit_offsets(connection, &committer, offsets).await
            })
            .await;
        if let Err(error) = &result {
            self.standing.send_if_modified(|standing| standing.worsen(error));
        }
        result.map(drop)
    }

    async fn at_coordinator<T>(
        &self,
        timeout_ms: u64,
        ask: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        // A rebalance passes too, but only by joining.
        let passes = |error: &ClientError| {
            error.is_retriable() && error.code() != Some(ResponseError::RebalanceInProgress)
        };
        let attempt = async || {
            let asked = async {
                let connection = self.link.connection().await?;
                ask(&connection).await
            };
            let asked = asked.await;
            if let Err(error) = &asked {
                self.link.note(error).await;
            }
            asked
        };
        self.link.client.retries(timeout_ms).run(passes, attempt).await
    }

    /// Leaves, so that the others get the partitions at once. A static member does not: it is expected
    /// back.
    pub async fn leave(mut self, timeout_ms: u64) {
        self.tasks.abort_all();
        if self.member_id.is_empty() || self.options.instance_id.is_some() {
            return;
        }
        let leaving = async {
            // A join that waits would let the next request of its connection wait as well.
            let connection = match self.is_joining {
                true => self.link.new_connection().await?,
                false => self.link.connection().await?,
            };
            leave(&connection, &self.options.group, &self.member_id, "the consumer is being closed").await
        };
        // Whoever cannot say so is found out by the session timeout.
        drop(tokio::time::timeout(Duration::from_millis(timeout_ms), leaving).await);
    }
}

fn candidates(response: &JoinGroupResponse) -> Result<Vec<Candidate>, ClientError> {
    let candidate = |member: &JoinGroupResponseMember| {
        let subscription = Subscription::decode(member.metadata.clone()).map_err(|error| {
            ClientError::Batch(format!("the subscription of member {}: {error}", &*member.member_id))
        })?;
        Ok(Candidate {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            subscription,
        })
    };
    response.members.iter().map(candidate).collect()
}

/// The numbers of partitions of all that somebody subscribes to; a topic that does not exist is left out.
async fn partition_counts(
    client: &Client,
    candidates: &[Candidate],
) -> Result<BTreeMap<String, i32>, ClientError> {
    let topics = candidates.iter().flat_map(|candidate| &candidate.subscription.topics);
    let topics = topics.map(String::as_str).collect::<BTreeSet<_>>();
    counts_of(client, topics.into_iter()).await
}
