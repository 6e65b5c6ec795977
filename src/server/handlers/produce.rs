//! Produce (key 0), versions 3 to 13: appends in order, and waits for the acknowledgements that are
//! asked for while the next request is taken.
//!
//! Topics go by name, from version 13 by id. With acks=0 nothing is answered; an error then closes
//! the connection, so that the client learns that something is wrong.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceResponse, TopicName};
use tokio::task::JoinHandle;

use super::super::Broker;
use super::super::api::{Api, Reply, Request, body};
use super::{leader_id, text};
use crate::partition::checks::CheckError;
use crate::partition::{Appending, ProduceError, Produced, Topic};
use crate::protocol::check::check_codec_for_version;
use crate::protocol::batch::BatchHeader;
use crate::protocol::produce::{ProducePartition, ProduceTopic, ProduceView, TopicRef};
use crate::segment::AppendError;
use crate::types::TopicId;

pub const API: Api = Api { key: ApiKey::Produce, least: 3, greatest: 13, handle };

type Outcome = Result<Produced, (ResponseError, String)>;

/// A partition's outcome, there or on its way.
enum Pending {
    Done(Outcome),
    Coming(JoinHandle<Result<Produced, ProduceError>>),
}

struct PendingTopic {
    topic: TopicRef,
    name: Option<Arc<str>>,
    partitions: Vec<(i32, Pending)>,
}

fn handle(broker: &Arc<Broker>, mut request: Request) -> Reply {
    let version = request.version;
    let view = match ProduceView::parse(std::mem::take(&mut request.body), version) {
        Ok(view) => view,
        Err(error) => return Reply::Close(format!("a produce request cannot be read: {error}")),
    };
    let acks = view.acks;
    let refusal = if !(-1..=1).contains(&acks) {
        Some((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1 (all)"))
    } else if view.transactional_id.is_some() {
        Some((ResponseError::UnsupportedVersion, "transactions are not served by this broker"))
    } else {
        None
    };
    let now_ms = broker.now_ms();
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms.max(0)).unwrap_or_default());
    let mut topics = Vec::with_capacity(view.topics.len());
    for ProduceTopic { topic, partitions } in view.topics {
        let found = lookup(broker, &topic);
        let name = found.as_ref().ok().map(|topic| topic.name.clone());
        let partitions = partitions.into_iter().map(|partition| {
            let index = partition.index;
            let pending = match (&refusal, &found) {
                (Some((error, reason)), _) => Pending::Done(Err((*error, (*reason).to_owned()))),
                (None, Err(error)) => Pending::Done(Err((*error, String::new()))),
                (None, Ok(topic)) => append(broker, topic, partition, version, acks, now_ms, timeout),
            };
            (index, pending)
        });
        topics.push(PendingTopic { partitions: partitions.collect(), topic, name });
    }
    // The request's bytes belong to the log now, or are gone.
    drop(request);
    let is_done = topics.iter().flat_map(|topic| &topic.partitions).all(|(_, pending)| matches!(pending, Pending::Done(_)));
    if acks == 0 {
        return without_answer(topics);
    }
    if is_done {
        let done = topics.into_iter().map(|topic| {
            let outcomes = topic.partitions.into_iter().filter_map(|(index, pending)| match pending {
                Pending::Done(outcome) => Some((index, outcome)),
                Pending::Coming(_) => None,
            });
            (topic.topic, topic.name, outcomes.collect())
        });
        return Reply::Now(body(&response(broker, version, request_listener(0), done.collect()), version));
    }
    let broker = broker.clone();
    Reply::Overlapping(Box::pin(async move {
        let mut done = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut outcomes = Vec::with_capacity(topic.partitions.len());
            for (index, pending) in topic.partitions {
                let outcome = match pending {
                    Pending::Done(outcome) => outcome,
                    Pending::Coming(coming) => finished(coming.await),
                };
                outcomes.push((index, outcome));
            }
            done.push((topic.topic, topic.name, outcomes));
        }
        body(&response(&broker, version, request_listener(0), done), version)
    }))
}
