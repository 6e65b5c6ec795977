//! What a member of a group does besides reading: its heart beats, and it looks out for new topics and
//! partitions. Both tell what they find by the member's standing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{HeartbeatRequest, LeaveGroupRequest};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::committed::Committer;
use super::coordinator::group_id;
use super::link::{Interest, Link, counts_of};
use super::{ClientError, Connection, text};

/// LeaveGroup takes a list of members from this version on, and a reason for the log from the next but one.
const LEAVE_LIST_VERSION: i16 = 3;
const LEAVE_REASON_VERSION: i16 = 5;

/// How a member stands with its group.
#[derive(Debug, Clone)]
pub enum Standing {
    Stable,
    /// It is to join again; until then what it has is its own.
    Rebalancing,
    /// What there is to read has changed, so it is to join again.
    Changed,
    /// It is no member any more; what it had may be another's by now.
    Lost(String),
    /// Nothing can be done.
    Failed(ClientError),
}

impl std::fmt::Display for Standing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Standing::Stable => formatter.write_str("stable"),
            Standing::Rebalancing => formatter.write_str("the group rebalances"),
            Standing::Changed => formatter.write_str("topics or partitions have changed"),
            Standing::Lost(why) => formatter.write_str(why),
            Standing::Failed(error) => error.fmt(formatter),
        }
    }
}

impl Standing {
    /// Takes an answer of the coordinator into account; whether it changes anything.
    pub(super) fn worsen(&mut self, error: &ClientError) -> bool {
        let next = match error.code() {
            Some(ResponseError::RebalanceInProgress) => Standing::Rebalancing,
            Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => {
                Standing::Lost(error.to_string())
            }
            Some(ResponseError::FencedInstanceId) => Standing::Failed(error.clone()),
            _ => return false,
        };
        let is_worse = next.weight() > self.weight();
        if is_worse {
            *self = next;
        }
        is_worse
    }

    fn weight(&self) -> u8 {
        match self {
            Standing::Stable => 0,
            Standing::Rebalancing | Standing::Changed => 1,
            Standing::Lost(_) => 2,
            Standing::Failed(_) => 3,
        }
    }
}

/// The heart of a member in one generation.
pub(super) struct Pulse {
    pub link: Arc<Link>,
    pub committer: Committer,
    pub interval: Duration,
    pub session_timeout: Duration,
    pub poll_interval_max: Duration,
    pub last_poll: Arc<Mutex<Instant>>,
    pub standing: watch::Sender<Standing>,
}

impl Pulse {
    /// Beats until the member is lost.
    pub(super) async fn beat(self) {
        let mut backoff = self.link.client.backoff();
        let mut pause = self.interval;
        let mut last_answer = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            if self.last_poll.lock().elapsed() > self.poll_interval_max {
                return self.give_up().await;
            }
            match self.beat_once().await {
                Ok(()) => {
                    last_answer = Instant::now();
                    backoff.reset();
                    pause = self.interval;
                }
                Err(error) => {
                    self.link.note(&error).await;
                    self.standing.send_if_modified(|standing| standing.worsen(&error));
                    if error.code() == Some(ResponseError::RebalanceInProgress) {
                        // Still a member, until the rebalance timeout has passed.
                        last_answer = Instant::now();
                        pause = self.interval;
                    } else if self.standing.borrow().weight() >= 2 {
                        return;
                    } else if last_answer.elapsed() > self.session_timeout {
                        // The broker has given up this one by now, if it can do anything.
                        let why = format!("no heartbeat within session.timeout.ms: {error}");
                        self.standing.send_replace(Standing::Lost(why));
                        return;
                    } else {
                        pause = backoff.next_pause().min(self.interval);
                    }
                }
            }
        }
    }

    async fn beat_once(&self) -> Result<(), ClientError> {
        let connection = self.link.connection().await?;
        let version = connection.require::<HeartbeatRequest>(i16::MAX)?;
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.committer.group))
            .with_generation_id(self.committer.generation)
            .with_member_id(text(self.committer.member_id.clone()))
            .with_group_instance_id(self.committer.instance_id.clone().map(text));
        let timeout_ms = u64::try_from(self.session_timeout.as_millis()).unwrap_or(u64::MAX);
        let response = connection.start(&request, version).await?.wait(timeout_ms).await?;
        ClientError::check(response.error_code, None)
    }

    /// The reader has not come back for too long, so others are to have its partitions.
    async fn give_up(&self) {
        let why = "nothing was read on for max.poll.interval.ms".to_owned();
        if self.committer.instance_id.is_none()
            && let Ok(connection) = self.link.connection().await
        {
            drop(leave(&connection, &self.committer.group, &self.committer.member_id, &why).await);
        }
        self.standing.send_replace(Standing::Lost(why));
    }
}

/// Takes a member out of its group.
pub(super) async fn leave(
    connection: &Connection,
    group: &str,
    member_id: &str,
    reason: &str,
) -> Result<(), ClientError> {
    let version = connection.require::<LeaveGroupRequest>(i16::MAX)?;
    let mut request = LeaveGroupRequest::default().with_group_id(group_id(group));
    if version >= LEAVE_LIST_VERSION {
        let reason = (version >= LEAVE_REASON_VERSION).then(|| text(reason));
        let member = MemberIdentity::default().with_member_id(text(member_id)).with_reason(reason);
        request.members.push(member);
    } else {
        request.member_id = text(member_id);
    }
    let response = connection.call_version(&request, version).await?;
    ClientError::check(response.error_code, None)
}

/// Looks for changes of topics and partitions.
pub(super) struct Lookout {
    pub link: Arc<Link>,
    pub interest: Arc<Interest>,
    pub interval: Duration,
    /// What the member has subscribed to.
    pub subscribed: Vec<String>,
    /// The numbers of partitions of all that the group has subscribed to, in the hands of its leader.
    pub watched: Option<BTreeMap<String, i32>>,
    pub standing: watch::Sender<Standing>,
}

impl Lookout {
    pub(super) async fn watch(self) {
        if self.watched.is_none() && matches!(*self.interest, Interest::Topics(_)) {
            return;
        }
        loop {
            tokio::time::sleep(self.interval).await;
            // What cannot be asked now is asked the next time.
            if self.has_changed().await.unwrap_or(false) {
                self.standing.send_if_modified(|standing| {
                    let is_news = matches!(standing, Standing::Stable);
                    if is_news {
                        *standing = Standing::Changed;
                    }
                    is_news
                });
                return;
            }
        }
    }

    async fn has_changed(&self) -> Result<bool, ClientError> {
        let client = &self.link.client;
        if self.interest.topics(client).await? != self.subscribed {
            return Ok(true);
        }
        let Some(watched) = &self.watched else { return Ok(false) };
        // Topics that were not there when the group was assigned may be by now.
        let names = watched.keys().chain(&self.subscribed).map(String::as_str);
        let names = names.collect::<std::collections::BTreeSet<_>>();
        Ok(counts_of(client, names.into_iter()).await? != *watched)
    }
}
