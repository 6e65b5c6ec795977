//! What a group shard is asked and what it answers, free of the wire's versions.
//!
//! Handlers translate: what a version lacks has its default here, and what it cannot carry is left out.

use std::net::IpAddr;
use std::sync::Arc;

use crate::coordinator::CoordinatorError;
use crate::types::TopicId;
use bytes::Bytes;

/// A group's id.
pub type GroupId = Arc<str>;

#[derive(Debug)]
pub enum Request {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    Describe(GroupId),
    /// Empty filters let everything pass. States as in [`ListedGroup::state`], without regard to case.
    List {
        states: Vec<String>,
        types: Vec<String>,
    },
    Delete(GroupId),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    /// Topics are gone, by name and id: so are the offsets committed for them.
    TopicsDeleted(Vec<(Arc<str>, TopicId)>),
}

#[derive(Debug)]
pub enum Response {
    Join(Result<JoinedGroup, RefusedJoin>),
    Sync(Result<SyncedGroup, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// An error of the whole request, or one answer for each member named.
    Leave(Result<Vec<LeftMember>, GroupError>),
    /// `GroupIdNotFound` when there is no such group.
    Describe(Result<DescribedGroup, GroupError>),
    List(Vec<ListedGroup>),
    /// How many offsets went with the group.
    Delete(Result<usize, GroupError>),
    /// An error of the whole request (every partition is answered with it), or what became of each.
    CommitOffsets(Result<CommittedOffsets, GroupError>),
    FetchOffsets(Result<Vec<FetchedOffset>, GroupError>),
    /// An error of the whole request, or for each partition in the order of the request whether there was
    /// an offset.
    DeleteOffsets(Result<Vec<Result<bool, GroupError>>, GroupError>),
    TopicsDeleted,
    /// In tests, which have no runtime: the decision could not be written, or the coordinator has moved.
    #[cfg(test)]
    Failed(CoordinatorError),
}

/// Why a group does not do what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It was not asked.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error("another member goes by this instance's id now")]
    FencedInstanceId,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    #[error("the group's members are subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the group has no protocol in common with the member")]
    InconsistentGroupProtocol,
    #[error("the offsets of one commit do not fit into a batch")]
    InvalidCommitOffsetSize,
    #[error("a group has no empty id")]
    InvalidGroupId,
    #[error("the session timeout is not within the broker's bounds")]
    InvalidSessionTimeout,
    #[error("a member joins with the id that it is given")]
    MemberIdRequired,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("the metadata of an offset is longer than the broker allows")]
    OffsetMetadataTooLarge,
    #[error("the group rebalances")]
    RebalanceInProgress,
    #[error("the group has no such member")]
    UnknownMemberId,
    #[error("there is no such partition")]
    UnknownTopicOrPartition,
}

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: Arc<str>,
    pub host: IpAddr,
}

#[derive(Clone, Debug)]
pub struct JoinGroup {
    pub group_id: GroupId,
    /// Empty: has none yet.
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client: Client,
    /// Since version 4 a member without an id is told one and has to come again (KIP-394).
    pub needs_known_member_id: bool,
    /// Since version 9 a leader may be told to keep the assignment (KIP-814).
    pub supports_skipping_assignment: bool,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    /// Name and metadata, the preferred first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Why the member joins (KIP-800), for the log.
    pub reason: Option<Arc<str>>,
}

/// A member that is not in the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedJoin {
    pub error: GroupError,
    /// With [`GroupError::MemberIdRequired`] the id to come again with; else as it was asked, or empty.
    pub member_id: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct JoinedGroup {
    pub generation_id: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    pub member_id: Arc<str>,
    /// For the leader: everybody with the metadata of the chosen protocol.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug)]
pub struct SyncGroup {
    pub group_id: GroupId,
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    /// Of the leader: who gets what.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct SyncedGroup {
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub group_id: GroupId,
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
pub struct LeaveGroup {
    pub group_id: GroupId,
    /// Not always a member: administrators remove others.
    pub client: Client,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, Debug)]
pub struct LeavingMember {
    /// Empty when only the instance is known.
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub reason: Option<Arc<str>>,
}

impl LeavingMember {
    /// The answer that there is no such member.
    pub fn unknown(&self) -> LeftMember {
        LeftMember {
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            result: Err(GroupError::UnknownMemberId),
        }
    }
}

#[derive(Clone, Debug)]
pub struct LeftMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub result: Result<(), GroupError>,
}

#[derive(Clone, Debug)]
pub struct DescribedGroup {
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug)]
pub struct DescribedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    /// As Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Debug)]
pub struct ListedGroup {
    pub group_id: GroupId,
    pub protocol_type: Arc<str>,
    /// As in [`DescribedGroup::state`].
    pub state: &'static str,
    /// `classic`.
    pub group_type: &'static str,
}

#[derive(Clone, Debug)]
pub struct CommitOffsets {
    pub group_id: GroupId,
    /// -1 from who is no member.
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    /// Of versions 2 to 4; the broker's own retention otherwise.
    pub retention_ms: Option<i64>,
    /// In the order of the request.
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Clone, Debug)]
pub struct CommittedOffsets {
    /// In the order of the request.
    pub results: Vec<Result<(), GroupError>>,
    /// Nobody's commit in a group that belongs to its members: an administrator resets it.
    pub is_reset: bool,
}

#[derive(Clone, Debug)]
pub struct OffsetToCommit {
    pub topic: Arc<str>,
    /// Zero when it is not known.
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: i64,
    /// -1: not known.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct FetchOffsets {
    pub group_id: GroupId,
    /// `None` asks for all that are committed.
    pub partitions: Option<Vec<(Arc<str>, i32)>>,
}

/// One committed offset; `offset` is -1 and `leader_epoch` -1 where nothing is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    pub group_id: GroupId,
    pub partitions: Vec<(Arc<str>, i32)>,
}
