//! Requests that go to the coordinators of groups.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId};
use tokio::time::Instant;

use super::{Client, ClientError, Connection, text};
use crate::types::host_and_port;

/// The broker that looks after a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coordinator {
    pub id: i32,
    /// `host:port`.
    pub address: String,
}

/// One result per group, by its id.
pub type PerGroup<T> = BTreeMap<String, Result<T, ClientError>>;

/// FindCoordinator takes several keys from this version on (KIP-699).
const FIND_BATCHED_VERSION: i16 = 4;

/// The wire's type for a group's id.
pub fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

impl Client {
    /// The coordinators of groups, as one broker knows them now. Asked for the first time, this makes the
    /// broker create `__consumer_offsets`; COORDINATOR_NOT_AVAILABLE until that is done.
    pub async fn find_coordinators(&self, groups: &[&str]) -> Result<PerGroup<Coordinator>, ClientError> {
        let connection = self.any().await?;
        let version = connection.require::<FindCoordinatorRequest>(i16::MAX)?;
        let mut found = PerGroup::new();
        if version >= FIND_BATCHED_VERSION {
            let keys = groups.iter().map(|group| text(*group)).collect();
            let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
            let response = connection.call_version(&request, version).await?;
            for answer in &response.coordinators {
                let message = answer.error_message.as_deref();
                let result = ClientError::check(answer.error_code, message).map(|()| Coordinator {
                    id: answer.node_id.0,
                    address: host_and_port(&answer.host, answer.port),
                });
                found.insert(answer.key.to_string(), result);
            }
        } else {
            for group in groups {
                let request = FindCoordinatorRequest::default().with_key(text(*group));
                let answer = connection.call_version(&request, version).await?;
                let message = answer.error_message.as_deref();
                let result = ClientError::check(answer.error_code, message).map(|()| Coordinator {
                    id: answer.node_id.0,
                    address: host_and_port(&answer.host, answer.port),
                });
                found.insert((*group).to_owned(), result);
            }
        }
        Ok(found)
    }

    /// Sorts groups by their coordinators and calls `ask` once for each; groups whose answer is an error
    /// that passes (the coordinator moved, loads, is gone) are asked for again until the deadline.
    pub async fn per_coordinator<T>(
        &self,
        groups: &[String],
        ask: impl AsyncFn(&Connection, &Coordinator, &[&str]) -> Result<PerGroup<T>, ClientError>,
    ) -> Result<PerGroup<T>, ClientError> {
        let deadline = Instant::now() + Duration::from_millis(self.options.api_timeout_ms);
        let mut backoff = self.backoff();
        let mut done = PerGroup::new();
        let mut open = groups.iter().map(String::as_str).collect::<Vec<_>>();
        open.sort_unstable();
        open.dedup();
        while !open.is_empty() {
            let mut answers = PerGroup::new();
            let mut by_coordinator = BTreeMap::<Coordinator, Vec<&str>>::new();
            let mut found = self.retry(async || self.find_coordinators(&open).await).await?;
            for group in &open {
                match found.remove(*group).unwrap_or_else(|| Err(left_out())) {
                    Ok(coordinator) => by_coordinator.entry(coordinator).or_default().push(group),
                    Err(error) => {
                        answers.insert((*group).to_owned(), Err(error));
                    }
                }
            }
            for (coordinator, part) in by_coordinator {
                let asked = match self.connect(&coordinator.address).await {
                    Ok(connection) => ask(&connection, &coordinator, &part).await,
                    Err(error) => Err(error),
                };
                match asked {
                    Ok(asked) => answers.extend(asked),
                    Err(error) => {
                        answers.extend(part.iter().map(|group| ((*group).to_owned(), Err(error.clone()))));
                    }
                }
            }
            let pause = backoff.next_pause();
            let expired = Instant::now() + pause > deadline;
            let mut again = Vec::new();
            for group in open {
                let answer = answers.remove(group).unwrap_or_else(|| Err(left_out()));
                match answer {
                    Err(error) if error.is_retriable() && !expired => again.push(group),
                    answer => {
                        done.insert(group.to_owned(), answer);
                    }
                }
            }
            open = again;
            if !open.is_empty() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(done)
    }

    /// [`Client::per_coordinator`] for one group.
    pub async fn at_coordinator<T>(
        &self,
        group: &str,
        ask: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let groups = [group.to_owned()];
        let ask = async |connection: &Connection, _: &Coordinator, _: &[&str]| {
            Ok(PerGroup::from([(group.to_owned(), ask(connection).await)]))
        };
        let mut answers = self.per_coordinator(&groups, ask).await?;
        answers.remove(group).unwrap_or_else(|| Err(left_out()))
    }
}

fn left_out() -> ClientError {
    ClientError::Refused {
        code: ResponseError::UnknownServerError,
        message: Some("the broker's answer left the group out".to_owned()),
    }
}
