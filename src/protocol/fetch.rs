//! Fetch responses (API key 1, versions 4 to 18) with holes where the records go, so that records
//! travel from the log's file to the socket without passing through memory here.
//!
//! ```text
//! throttle_time_ms          i32
//! error_code                i16             from version 7
//! session_id                i32             from version 7
//! topics                    array of
//!   name | topic_id         string | 16 bytes (from version 13)
//!   partitions              array of
//!     index                 i32
//!     error_code            i16
//!     high_watermark        i64
//!     last_stable_offset    i64
//!     log_start_offset      i64             from version 5
//!     aborted_transactions  nullable array of producer_id i64, first_offset i64
//!     preferred_read_replica i32            from version 11
//!     records               nullable bytes  <- the hole
//!     tagged                0: diverging epoch, 1: current leader, 2: snapshot id
//! tagged                    0: node endpoints, from version 16
//! ```
//!
//! Lengths are compact, and tagged fields there, from version 12 on.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

const VERSION_MIN: i16 = 4;
const VERSION_MAX: i16 = 18;
/// The first version with error code and session id (KIP-227).
const SESSIONS: i16 = 7;
/// The first version with a preferred read replica (KIP-392).
const READ_REPLICAS: i16 = 11;
/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// The first version that names topics by their ids.
const TOPIC_IDS: i16 = 13;
/// The first version that tells where new leaders are (KIP-951).
const NODE_ENDPOINTS: i16 = 16;

/// Why a response cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("Fetch version {0} is not supported")]
    Version(i16),
    #[error("Fetch: {0} is too long")]
    TooLong(&'static str),
}

/// A part of the response's body. `S` is the caller's slice of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponsePart<S> {
    Bytes(Bytes),
    Slice(S),
}

/// The records of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchRecords<S> {
    Null,
    /// In memory; none is an empty one.
    Bytes(Bytes),
    /// Where they are, and how many bytes of them.
    Slice(S, usize),
}

/// The body of a Fetch response.
#[derive(Debug, Clone)]
pub struct FetchBody<S> {
    pub throttle_time_ms: i32,
    /// For the whole request; versions before 7 do not have it.
    pub error_code: i16,
    /// 0: no session.
    pub session_id: i32,
    pub topics: Vec<FetchTopic<S>>,
    /// Where the leaders are that the partitions name; versions before 16 do not have them.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// A topic of a Fetch response: the version decides whether the name or the id is sent.
#[derive(Debug, Clone)]
pub struct FetchTopic<S> {
    pub name: StrBytes,
    pub id: Uuid,
    pub partitions: Vec<FetchPartition<S>>,
}

/// A partition of a Fetch response. What the version does not have is left out.
#[derive(Debug, Clone)]
pub struct FetchPartition<S> {
    pub index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Null when the client reads uncommitted records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// -1: none.
    pub preferred_read_replica: i32,
    pub diverging_epoch: Option<EpochEndOffset>,
    pub current_leader: Option<LeaderIdAndEpoch>,
    pub snapshot_id: Option<EpochEndOffset>,
    pub records: FetchRecords<S>,
}

impl<S> FetchPartition<S> {
    /// As Kafka answers an error: no offsets, and records that are empty.
    pub fn error(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            records: FetchRecords::Bytes(Bytes::new()),
        }
    }
}

/// A transaction whose records the client must pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// An epoch, and the offset after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

/// Who leads a partition; -1 for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// Where a broker listens, on the listener that the request came in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl<S> FetchBody<S> {
    /// The bytes of the response's body, the records in their places between them.
    ///
    /// # Errors
    /// `Version`, and `TooLong` for records of 2 GiB or more, or a name that the version cannot hold.
    pub fn into_pieces(self, version: i16) -> Result<VecDeque<ResponsePart<S>>, EncodeError> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(EncodeError::Version(version));
        }
        let partitions = self.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        let names = self.topics.iter().map(|topic| topic.name.len()).sum::<usize>();
        // A partition takes some 60 bytes; without tagged fields this is all the memory needed.
        let bytes = BytesMut::with_capacity(64 + names + self.topics.len() * 32 + partitions * 64);
        let mut out = Writer { version, bytes, pieces: VecDeque::new() };
        out.bytes.put_i32(self.throttle_time_ms);
        if version >= SESSIONS {
            out.bytes.put_i16(self.error_code);
            out.bytes.put_i32(self.session_id);
        }
        out.length(Some(self.topics.len()), "the list of topics")?;
        for topic in self.topics {
            out.topic(topic)?;
        }
        if version >= NODE_ENDPOINTS && !self.node_endpoints.is_empty() {
            out.node_endpoints(&self.node_endpoints)?;
        } else {
            out.no_tagged_fields();
        }
        out.cut();
        Ok(out.pieces)
    }
}

struct Writer<S> {
    version: i16,
    /// After the last of the pieces.
    bytes: BytesMut,
    pieces: VecDeque<ResponsePart<S>>,
}

impl<S> Writer<S> {
    /// What was written so far becomes a piece.
    fn cut(&mut self) {
        if !self.bytes.is_empty() {
            self.pieces.push_back(ResponsePart::Bytes(self.bytes.split().freeze()));
        }
    }

    /// The length of an array or of bytes; none for null.
    fn length(&mut self, length: Option<usize>, what: &'static str) -> Result<(), EncodeError> {
        let length = match length {
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(what))?,
            None => -1,
        };
        match self.version >= FLEXIBLE {
            // -1 becomes 0, and i32::MAX still fits.
            true => put_unsigned_varint(&mut self.bytes, length.wrapping_add(1) as u32),
            false => self.bytes.put_i32(length),
        }
        Ok(())
    }

    fn no_tagged_fields(&mut self) {
        if self.version >= FLEXIBLE {
            self.bytes.put_u8(0);
        }
    }

    fn topic(&mut self, topic: FetchTopic<S>) -> Result<(), EncodeError> {
        let name_too_long = EncodeError::TooLong("a topic's name");
        if self.version >= TOPIC_IDS {
            self.bytes.put_slice(topic.id.as_bytes());
        } else if self.version >= FLEXIBLE {
            put_compact_string(&mut self.bytes, &topic.name);
        } else {
            self.bytes.put_i16(i16::try_from(topic.name.len()).map_err(|_| name_too_long)?);
            self.bytes.put_slice(topic.name.as_bytes());
        }
        self.length(Some(topic.partitions.len()), "the list of partitions")?;
        for partition in topic.partitions {
            self.partition(partition)?;
        }
        self.no_tagged_fields();
        Ok(())
    }

    fn partition(&mut self, partition: FetchPartition<S>) -> Result<(), EncodeError> {
        self.bytes.put_i32(partition.index);
        self.bytes.put_i16(partition.error_code);
        self.bytes.put_i64(partition.high_watermark);
        self.bytes.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.bytes.put_i64(partition.log_start_offset);
        }
        let aborted = partition.aborted_transactions.as_deref();
        self.length(aborted.map(<[_]>::len), "the list of aborted transactions")?;
        for transaction in aborted.unwrap_or_default() {
            self.bytes.put_i64(transaction.producer_id);
            self.bytes.put_i64(transaction.first_offset);
            self.no_tagged_fields();
        }
        if self.version >= READ_REPLICAS {
            self.bytes.put_i32(partition.preferred_read_replica);
        }
        let (length, piece) = match partition.records {
            FetchRecords::Null => (None, None),
            FetchRecords::Bytes(bytes) => (Some(bytes.len()), Some(ResponsePart::Bytes(bytes))),
            FetchRecords::Slice(slice, length) => (Some(length), Some(ResponsePart::Slice(slice))),
        };
        self.length(length, "a partition's records")?;
        // No piece for no bytes: all that follows may share a write.
        if let Some(piece) = piece.filter(|_| length != Some(0)) {
            self.cut();
            self.pieces.push_back(piece);
        }
        let tagged = (partition.diverging_epoch, partition.current_leader, partition.snapshot_id);
        self.partition_tagged_fields(tagged);
        Ok(())
    }

    fn partition_tagged_fields(
        &mut self,
        (diverging_epoch, current_leader, snapshot_id): (
            Option<EpochEndOffset>,
            Option<LeaderIdAndEpoch>,
            Option<EpochEndOffset>,
        ),
    ) {
        if self.version < FLEXIBLE {
            return;
        }
        let count = u8::from(diverging_epoch.is_some())
            + u8::from(current_leader.is_some())
            + u8::from(snapshot_id.is_some());
        self.bytes.put_u8(count);
        // Each: its tag, its size, its fields, and the count of its own tagged fields.
        if let Some(diverging) = diverging_epoch {
            self.bytes.put_slice(&[0, 13]);
            self.bytes.put_i32(diverging.epoch);
            self.bytes.put_i64(diverging.end_offset);
            self.bytes.put_u8(0);
        }
        if let Some(leader) = current_leader {
            self.bytes.put_slice(&[1, 9]);
            self.bytes.put_i32(leader.leader_id);
            self.bytes.put_i32(leader.leader_epoch);
            self.bytes.put_u8(0);
        }
        if let Some(snapshot) = snapshot_id {
            // The other way around than in the diverging epoch.
            self.bytes.put_slice(&[2, 13]);
            self.bytes.put_i64(snapshot.end_offset);
            self.bytes.put_i32(snapshot.epoch);
            self.bytes.put_u8(0);
        }
    }

    fn node_endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<(), EncodeError> {
        let too_long = EncodeError::TooLong("the list of node endpoints");
        // Written aside, for their size comes first.
        let mut field = BytesMut::new();
        put_unsigned_varint(&mut field, u32::try_from(endpoints.len() + 1).map_err(|_| too_long)?);
        for endpoint in endpoints {
            field.put_i32(endpoint.node_id);
            put_compact_string(&mut field, &endpoint.host);
            field.put_i32(endpoint.port);
            match &endpoint.rack {
                Some(rack) => put_compact_string(&mut field, rack),
                None => field.put_u8(0),
            }
            field.put_u8(0);
        }
        self.bytes.put_slice(&[1, 0]);
        put_unsigned_varint(&mut self.bytes, u32::try_from(field.len()).map_err(|_| too_long)?);
        self.bytes.put_slice(&field);
        Ok(())
    }
}

/// Names come from requests and from the metadata, where a frame or a record bounds them far below
/// 4 GiB.
fn put_compact_string(out: &mut BytesMut, text: &str) {
    put_unsigned_varint(out, text.len() as u32 + 1);
    out.put_slice(text.as_bytes());
}

fn put_unsigned_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response as wire;
    use kafka_protocol::protocol::Encodable;
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    /// Whether `records` is handed over as a slice; the tests' slices are bytes themselves.
    fn records() -> impl Strategy<Value = FetchRecords<Bytes>> {
        of((vec(any::<u8>(), 0..200), any::<bool>())).prop_map(|records| match records {
            None => FetchRecords::Null,
            Some((bytes, false)) => FetchRecords::Bytes(bytes.into()),
            Some((bytes, true)) => FetchRecords::Slice(Bytes::from(bytes.clone()), bytes.len()),
        })
    }

    fn partition() -> impl Strategy<Value = FetchPartition<Bytes>> {
        let epoch = || {
            of((0..i32::MAX, 0..i64::MAX))
                .prop_map(|epoch| epoch.map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }))
        };
        let leader = of((0..i32::MAX, 0..i32::MAX)).prop_map(|leader| {
            leader.map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch })
        });
        let aborted = of(vec((any::<i64>(), any::<i64>()), 0..3)).prop_map(|list| {
            let each = |(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset };
            list.map(|list| list.into_iter().map(each).collect())
        });
        let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i32>());
        (numbers, aborted, epoch(), leader, epoch(), records()).prop_map(
            |(numbers, aborted_transactions, diverging_epoch, current_leader, snapshot_id, records)| {
                FetchPartition {
                    index: numbers.0,
                    error_code: numbers.1,
                    high_watermark: numbers.2,
                    last_stable_offset: numbers.3,
                    log_start_offset: numbers.4,
                    aborted_transactions,
                    preferred_read_replica: numbers.5,
                    diverging_epoch,
                    current_leader,
                    snapshot_id,
                    records,
                }
            },
        )
    }

    fn body() -> impl Strategy<Value = FetchBody<Bytes>> {
        let text = |text: String| StrBytes::from_string(text);
        let topic =
            (".{0,140}", any::<u128>(), vec(partition(), 0..4)).prop_map(move |(name, id, partitions)| {
                FetchTopic { name: text(name), id: Uuid::from_u128(id), partitions }
            });
        let endpoint = (any::<i32>(), ".{0,60}", any::<i32>(), of(".{0,9}")).prop_map(
            move |(node_id, host, port, rack)| NodeEndpoint {
                node_id,
                host: text(host),
                port,
                rack: rack.map(text),
            },
        );
        let numbers = (any::<i32>(), any::<i16>(), any::<i32>());
        (numbers, vec(topic, 0..4), vec(endpoint, 0..4)).prop_map(
            |((throttle_time_ms, error_code, session_id), topics, node_endpoints)| FetchBody {
                throttle_time_ms,
                error_code,
                session_id,
                topics,
                node_endpoints,
            },
        )
    }

    /// The same response for the reference encoder, without what the version does not have.
    fn reference(body: &FetchBody<Bytes>, version: i16) -> BytesMut {
        let partition = |partition: &FetchPartition<Bytes>| {
            let mut out = wire::PartitionData::default()
                .with_partition_index(partition.index)
                .with_error_code(partition.error_code)
                .with_high_watermark(partition.high_watermark)
                .with_last_stable_offset(partition.last_stable_offset)
                .with_log_start_offset(partition.log_start_offset)
                .with_aborted_transactions(partition.aborted_transactions.as_ref().map(|list| {
                    let each = |aborted: &AbortedTransaction| {
                        wire::AbortedTransaction::default()
                            .with_producer_id(aborted.producer_id.into())
                            .with_first_offset(aborted.first_offset)
                    };
                    list.iter().map(each).collect()
                }))
                .with_records(match &partition.records {
                    FetchRecords::Null => None,
                    FetchRecords::Bytes(bytes) | FetchRecords::Slice(bytes, _) => Some(bytes.clone()),
                });
            if version >= READ_REPLICAS {
                out.preferred_read_replica = partition.preferred_read_replica.into();
            }
            if version >= FLEXIBLE {
                if let Some(epoch) = partition.diverging_epoch {
                    out.diverging_epoch.epoch = epoch.epoch;
                    out.diverging_epoch.end_offset = epoch.end_offset;
                }
                if let Some(leader) = partition.current_leader {
                    out.current_leader.leader_id = leader.leader_id.into();
                    out.current_leader.leader_epoch = leader.leader_epoch;
                }
                if let Some(snapshot) = partition.snapshot_id {
                    out.snapshot_id.epoch = snapshot.epoch;
                    out.snapshot_id.end_offset = snapshot.end_offset;
                }
            }
            out
        };
        let topics = body.topics.iter().map(|topic| {
            wire::FetchableTopicResponse::default()
                .with_topic(topic.name.clone().into())
                .with_topic_id(topic.id)
                .with_partitions(topic.partitions.iter().map(partition).collect())
        });
        let endpoints = body.node_endpoints.iter().map(|endpoint| {
            wire::NodeEndpoint::default()
                .with_node_id(endpoint.node_id.into())
                .with_host(endpoint.host.clone())
                .with_port(endpoint.port)
                .with_rack(endpoint.rack.clone())
        });
        let mut out = wire::FetchResponse::default()
            .with_throttle_time_ms(body.throttle_time_ms)
            .with_error_code(body.error_code)
            .with_responses(topics.collect());
        if version >= SESSIONS {
            out.session_id = body.session_id;
        }
        if version >= NODE_ENDPOINTS {
            out.node_endpoints = endpoints.collect();
        }
        let mut bytes = BytesMut::new();
        out.encode(&mut bytes, version).expect("encodes");
        bytes
    }

    proptest! {
        #[test]
        fn every_version_is_byte_for_byte_what_the_reference_encoder_writes(body in body()) {
            let slices = body.topics.iter().flat_map(|topic| &topic.partitions).filter(|partition| {
                matches!(&partition.records, FetchRecords::Slice(_, length) if *length > 0)
            });
            let slices = slices.count();
            for version in VERSION_MIN..=VERSION_MAX {
                let pieces = body.clone().into_pieces(version).expect("writes");
                let is_slice = |piece: &&ResponsePart<Bytes>| matches!(piece, ResponsePart::Slice(_));
                prop_assert_eq!(pieces.iter().filter(is_slice).count(), slices);
                let mut bytes = BytesMut::new();
                for piece in &pieces {
                    let (ResponsePart::Bytes(piece) | ResponsePart::Slice(piece)) = piece;
                    prop_assert!(!piece.is_empty());
                    bytes.extend_from_slice(piece);
                }
                prop_assert_eq!(bytes, reference(&body, version), "version {}", version);
            }
        }
    }

    #[test]
    fn what_a_version_cannot_hold_is_refused() {
        let body = |records| FetchBody {
            throttle_time_ms: 0,
            error_code: 0,
            session_id: 0,
            topics: vec![FetchTopic {
                name: StrBytes::from_string("n".repeat(40_000)),
                id: Uuid::nil(),
                partitions: vec![FetchPartition { records, ..FetchPartition::error(0, 3) }],
            }],
            node_endpoints: Vec::new(),
        };
        let short = FetchRecords::Slice((), 1);
        assert_eq!(body(short.clone()).into_pieces(3), Err(EncodeError::Version(3)));
        let error = EncodeError::TooLong("a topic's name");
        assert_eq!(body(short.clone()).into_pieces(11), Err(error));
        assert_eq!(body(short).into_pieces(12).map(|pieces| pieces.len()), Ok(3));
        let long = FetchRecords::Slice((), 1 << 31);
        assert_eq!(body(long).into_pieces(13), Err(EncodeError::TooLong("a partition's records")));
    }
}
