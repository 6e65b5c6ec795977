//! What a member and its pulse share: the way to the coordinator, and what the member wants to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Client, ClientError, Connection};
/// What a member wants to read.
pub enum Interest {
    Topics(Vec<String>),
    /// All topics whose names it says yes to.
    Matching(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

impl Interest {
    /// The names of the topics, in order.
    pub(super) async fn topics(&self, client: &Client) -> Result<Vec<String>, ClientError> {
        match self {
            Interest::Topics(names) => Ok(names.clone()),
            Interest::Matching(matches) => {
                let response = client.fetch_metadata(None).await?;
                let topics = response.topics.iter().filter(|topic| !topic.is_internal);
                let names = topics.filter_map(|topic| topic.name.as_ref());
                let mut names = names.map(|name| name.to_string()).collect::<Vec<_>>();
                names.retain(|name| matches(name));
                names.sort();
                Ok(names)
            }
        }
    }
}

/// The connection to the coordinator of a group.
pub(super) struct Link {
    pub client: Arc<Client>,
    pub group: String,
    pub open: tokio::sync::Mutex<Option<Connection>>,
}

impl Link {
    /// The connection in use, or a new one to the coordinator of now.
    pub(super) async fn connection(&self) -> Result<Connection, ClientError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = self.new_connection().await?;
        *open = Some(connection.clone());
        Ok(connection)
    }

    pub(super) async fn new_connection(&self) -> Result<Connection, ClientError> {
        let found = self.client.find_coordinators(&[self.group.as_str()]).await?;
        let coordinator = found.into_values().next().unwrap_or(Err(ClientError::Refused {
            code: ResponseError::CoordinatorNotAvailable,
            message: None,
        }))?;
        self.client.connect_anew(&coordinator.address).await
    }

    /// Looks for the coordinator anew the next time, when an error says that it is elsewhere or that the
    /// connection is no good.
    pub(super) async fn note(&self, error: &ClientError) {
        let is_elsewhere = match error {
            ClientError::Lost { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Unreachable { .. }
            | ClientError::NotKafka { .. } => true,
            error => matches!(
                error.code(),
                Some(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)
            ),
        };
        if is_elsewhere {
            *self.open.lock().await = None;
        }
    }
}

/// The numbers of partitions of topics; one that does not exist is left out.
pub(super) async fn counts_of(
    client: &Client,
    topics: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, i32>, ClientError> {
    let names = topics.collect::<Vec<_>>();
    let response = client.fetch_metadata(Some(&names)).await?;
    let topics = response.topics.iter().filter(|topic| !topic.partitions.is_empty());
    let counts = topics.filter_map(|topic| {
        Some((topic.name.as_ref()?.to_string(), i32::try_from(topic.partitions.len()).ok()?))
    });
    Ok(counts.collect())
}
