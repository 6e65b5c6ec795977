//! WriteTxnMarkers (key 27): a transaction coordinator has the markers written that end transactions.
//!
//! Answered once they are on all replicas in sync. A marker that is there already may come again.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::find_partition;
use crate::partition::transactions::Ending;
use crate::protocol::control::{Marker, TransactionResult};
use crate::protocol::guard::shapes;
use crate::protocol::messages::write_txn_markers_request::WritableTxnMarker;
use crate::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use crate::protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::transactions::write_marker;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::WRITE_TXN_MARKERS,
    versions: 1..=2,
    notes: &[(2, "says by which transaction version the marker is to be checked (KIP-1228)")],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    needs: &[Need(Operation::ClusterAction, Resource::Cluster)],
    handler: Handler::later::<WriteTxnMarkersRequest>(),
};

error_codes!(WriteTxnMarkersResponse: [markers topics partitions]);

impl Answered for WriteTxnMarkersRequest {
    type Response = WriteTxnMarkersResponse;

    fn error_response(&self, _: i16, error: &WireError) -> WriteTxnMarkersResponse {
        let mut errors = std::iter::repeat(error.number());
        to_response(&self.markers, &mut errors)
    }
}

impl AnswerLater for WriteTxnMarkersRequest {
    async fn answer(self, broker: Arc<Broker>, _: Request) -> WriteTxnMarkersResponse {
        let writing = self.markers.iter().flat_map(|marker| {
            let ending = Ending {
                producer_id: marker.producer_id.0,
                producer_epoch: marker.producer_epoch,
                marker: Marker {
                    result: TransactionResult::of(marker.transaction_result),
                    coordinator_epoch: marker.coordinator_epoch,
                },
                transaction_version: marker.transaction_version,
            };
            let broker = &broker;
            marker.topics.iter().flat_map(move |topic| {
                topic.partition_indexes.iter().map(move |index| {
                    let is_producer = ending.producer_id >= 0 && ending.producer_epoch >= 0;
                    let found = if is_producer {
                        find_partition(broker, &topic.name, *index)
                    } else {
                        Err(ResponseError::InvalidRequest)
                    };
                    let broker = broker.clone();
                    // All at once: each waits for its replicas.
                    broker.tasks.clone().spawn(async move { write_marker(&broker, &found?, ending).await })
                })
            })
        });
        let writing: Vec<_> = writing.collect();
        let mut written = Vec::with_capacity(writing.len());
        for writing in writing {
            written.push(writing.await.unwrap_or(Err(ResponseError::UnknownServerError)));
        }
        let mut errors = written.iter().map(|written| written.map_or_else(|error| error.code(), |()| 0));
        to_response(&self.markers, &mut errors)
    }
}

fn to_response(
    markers: &[WritableTxnMarker],
    errors: &mut dyn Iterator<Item = i16>,
) -> WriteTxnMarkersResponse {
    let markers = markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(errors.next().unwrap_or(-1))
            });
            WritableTxnMarkerTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}
