//! Produce requests (API key 0, versions 3 to 13) taken apart without copying any record.
//!
//! ```text
//! transactional_id  nullable string
//! acks              i16
//! timeout_ms        i32
//! topics            array of
//!   name            string          up to version 12
//!   topic_id        16 bytes        from version 13 (KIP-516)
//!   partitions      array of
//!     index         i32
//!     records       nullable bytes
//! ```
//!
//! From version 9 on, lengths are varints of length + 1 (0: null), and every structure ends with
//! tagged fields. The records of each partition are split off the frame: they share its memory, and
//! the broker writes its offsets into them in place. Names are copied, so that what waits for
//! replicas does not keep the frame.

use bytes::{Buf, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::header::skip_tagged_fields;
use super::reader::{ReadError, Reader};

/// Most topics and partitions together in one request: far more than a producer sends, and few
/// enough that the list of them stays small.
pub const ENTRIES_MAX: usize = 200_000;

const VERSION_MIN: i16 = 3;
const VERSION_MAX: i16 = 13;
/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 9;
/// The first version that names topics by their ids.
const TOPIC_IDS: i16 = 13;

/// Why bytes are no Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("Produce version {0} is not supported")]
    Version(i16),
    #[error("Produce: {0}")]
    Read(#[from] ReadError),
    #[error("Produce: {0} must not be null")]
    Null(&'static str),
    #[error("Produce: a length of {0}")]
    Length(i32),
    #[error("Produce: {0} is not UTF-8")]
    Text(&'static str),
    #[error("Produce: {count} entries are announced, and {available} bytes are there")]
    Count { count: usize, available: usize },
    #[error("Produce: there are more than {ENTRIES_MAX} topics and partitions")]
    TooMany,
}

/// A Produce request.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceView {
    /// -1: all in-sync replicas, 0: no answer, 1: the leader alone. Others are not refused here.
    pub acks: i16,
    pub timeout_ms: i32,
    pub transactional_id: Option<StrBytes>,
    pub topics: Vec<ProduceTopic>,
}

/// A topic of a Produce request.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    pub topic: TopicReference,
    pub partitions: Vec<ProducePartition>,
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicReference {
    Name(StrBytes),
    Id(Uuid),
}

/// The records for one partition, not looked at: see [`super::check_for_produce`].
#[derive(Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub index: i32,
    pub records: Option<BytesMut>,
}

impl ProduceView {
    /// Takes a request's body apart. Bytes after the last field are ignored, as Kafka does.
    ///
    /// # Errors
    /// When the bytes are not what the version asks for. Nothing is allocated for what a count or a
    /// length promises beyond the bytes that are there.
    pub fn parse(body: BytesMut, version: i16) -> Result<Self, ProduceError> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(ProduceError::Version(version));
        }
        let mut parser = Parser { body, version, entries_left: ENTRIES_MAX };
        let (transactional_id, acks, timeout_ms) = parser.read(|reader, version| {
            let id = read_string(reader, version, "the transactional id")?;
            Ok((id, reader.i16()?, reader.i32()?))
        })?;
        let count = parser.count()?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(parser.topic()?);
        }
        parser.tagged_fields()?;
        Ok(Self { acks, timeout_ms, transactional_id, topics })
    }

    /// How many partitions there are in all topics together.
    pub fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}

struct Parser {
    /// What is not read yet.
    body: BytesMut,
    version: i16,
    entries_left: usize,
}

impl Parser {
    /// Reads at the front of the body, and takes off what was read.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>, i16) -> Result<T, ProduceError>,
    ) -> Result<T, ProduceError> {
        let mut reader = Reader::new(&self.body);
        let value = read(&mut reader, self.version)?;
        let length = self.body.len() - reader.remaining();
        self.body.advance(length);
        Ok(value)
    }

    /// The number of entries of an array: no more than bytes, and than entries are allowed.
    fn count(&mut self) -> Result<usize, ProduceError> {
        let count = self.read(read_length)?.ok_or(ProduceError::Null("an array"))?;
        // Every topic and partition takes 3 bytes or more.
        if count > self.body.len() / 3 {
            return Err(ProduceError::Count { count, available: self.body.len() });
        }
        self.entries_left = self.entries_left.checked_sub(count).ok_or(ProduceError::TooMany)?;
        Ok(count)
    }

    fn topic(&mut self) -> Result<ProduceTopic, ProduceError> {
        let topic = self.read(|reader, version| {
            if version >= TOPIC_IDS {
                let bytes = reader.take(16)?;
                let id = Uuid::from_slice(bytes).map_err(|_| ProduceError::Read(ReadError::End))?;
                return Ok(TopicReference::Id(id));
            }
            let name = read_string(reader, version, "a topic's name")?;
            name.map(TopicReference::Name).ok_or(ProduceError::Null("a topic's name"))
        })?;
        let count = self.count()?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(self.partition()?);
        }
        self.tagged_fields()?;
        Ok(ProduceTopic { topic, partitions })
    }

    fn partition(&mut self) -> Result<ProducePartition, ProduceError> {
        let (index, length) =
            self.read(|reader, version| Ok((reader.i32()?, read_length(reader, version)?)))?;
        let records = match length {
            None => None,
            Some(length) if length > self.body.len() => return Err(ReadError::End.into()),
            Some(length) => Some(self.body.split_to(length)),
        };
        self.tagged_fields()?;
        Ok(ProducePartition { index, records })
    }

    fn tagged_fields(&mut self) -> Result<(), ProduceError> {
        if self.version < FLEXIBLE {
            return Ok(());
        }
        self.read(|reader, _| Ok(skip_tagged_fields(reader)?))
    }
}

/// The length of bytes or of an array; none for null.
fn read_length(reader: &mut Reader<'_>, version: i16) -> Result<Option<usize>, ProduceError> {
    if version >= FLEXIBLE {
        return Ok((reader.unsigned_varint()? as usize).checked_sub(1));
    }
    match reader.i32()? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| ProduceError::Length(length)),
    }
}

fn read_string(
    reader: &mut Reader<'_>,
    version: i16,
    what: &'static str,
) -> Result<Option<StrBytes>, ProduceError> {
    let length = if version >= FLEXIBLE {
        (reader.unsigned_varint()? as usize).checked_sub(1)
    } else {
        match reader.i16()? {
            -1 => None,
            length => Some(usize::try_from(length).map_err(|_| ProduceError::Length(length.into()))?),
        }
    };
    let Some(length) = length else {
        return Ok(None);
    };
    let text = std::str::from_utf8(reader.take(length)?).map_err(|_| ProduceError::Text(what))?;
    Ok(Some(StrBytes::from_string(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
    use kafka_protocol::protocol::Encodable;
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    /// Topics: name, id, partitions of index and records.
    type Sample = Vec<SampleTopic>;
    type SampleTopic = (String, u128, Vec<(i32, Option<Vec<u8>>)>);

    fn sample() -> impl Strategy<Value = Sample> {
        let records = of(vec(any::<u8>(), 0..300));
        vec((".{0,12}", any::<u128>(), vec((any::<i32>(), records), 0..4)), 0..4)
    }

    fn encode(
        sample: &Sample,
        transactional_id: Option<&str>,
        (acks, timeout_ms): (i16, i32),
        version: i16,
    ) -> BytesMut {
        let tag = |at: i32| match version >= FLEXIBLE && at % 2 == 0 {
            true => [(at.rem_euclid(300), Bytes::from_static(b"later"))].into(),
            false => std::collections::BTreeMap::new(),
        };
        let topic = |(name, id, partitions): &SampleTopic| {
            let partitions = partitions.iter().map(|(index, records)| {
                PartitionProduceData::default()
                    .with_index(*index)
                    .with_records(records.clone().map(Bytes::from))
                    .with_unknown_tagged_fields(tag(*index))
            });
            let topic = TopicProduceData::default()
                .with_partition_data(partitions.collect())
                .with_unknown_tagged_fields(tag(name.len() as i32));
            match version >= TOPIC_IDS {
                true => topic.with_topic_id(Uuid::from_u128(*id)),
                false => topic.with_name(StrBytes::from_string(name.clone()).into()),
            }
        };
        let id = transactional_id.map(|id| StrBytes::from_string(id.to_owned()).into());
        let request = ProduceRequest::default()
            .with_transactional_id(id)
            .with_acks(acks)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(sample.iter().map(topic).collect())
            .with_unknown_tagged_fields(tag(timeout_ms));
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).expect("encodes");
        bytes
    }

    proptest! {
        #[test]
        fn every_version_reads_back_without_a_copy_of_the_records(
            sample in sample(), id in of(".{0,9}"), acks in any::<i16>(), timeout_ms in any::<i32>(),
        ) {
            for version in VERSION_MIN..=VERSION_MAX {
                let bytes = encode(&sample, id.as_deref(), (acks, timeout_ms), version);
                let range = bytes.as_ptr_range();
                let view = ProduceView::parse(bytes, version).expect("parses");
                prop_assert_eq!((view.acks, view.timeout_ms), (acks, timeout_ms));
                prop_assert_eq!(view.transactional_id.as_deref(), id.as_deref());
                prop_assert_eq!(view.topics.len(), sample.len());
                for (topic, (name, id, partitions)) in view.topics.iter().zip(&sample) {
                    let expected = match version >= TOPIC_IDS {
                        true => TopicReference::Id(Uuid::from_u128(*id)),
                        false => TopicReference::Name(StrBytes::from_string(name.clone())),
                    };
                    prop_assert_eq!(&topic.topic, &expected);
                    prop_assert_eq!(topic.partitions.len(), partitions.len());
                    for (partition, (index, records)) in topic.partitions.iter().zip(partitions) {
                        prop_assert_eq!(partition.index, *index);
                        prop_assert_eq!(partition.records.as_deref(), records.as_deref());
                        if let Some(records) = partition.records.as_ref().filter(|r| !r.is_empty()) {
                            prop_assert!(range.contains(&records.as_ptr()));
                        }
                    }
                }
            }
        }

        #[test]
        fn cut_or_changed_bytes_never_panic(
            sample in sample(), at in any::<prop::sample::Index>(), value in any::<u8>(),
        ) {
            for version in VERSION_MIN..=VERSION_MAX {
                let mut bytes = encode(&sample, Some("id"), (1, 2), version);
                let at = at.index(bytes.len());
                let mut cut = bytes.clone();
                cut.truncate(at);
                prop_assert!(ProduceView::parse(cut, version).is_err());
                bytes[at] = value;
                let _ = ProduceView::parse(bytes, version);
            }
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_memory_is_taken() {
        let bytes = BytesMut::from(&[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff, 0, 0][..]);
        let error = ProduceError::Count { count: i32::MAX as usize, available: 2 };
        assert_eq!(ProduceView::parse(bytes, 3), Err(error));
        let bytes = BytesMut::from(&[0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0][..]);
        assert!(matches!(ProduceView::parse(bytes, 9), Err(ProduceError::Count { .. })));
        let mut bytes = BytesMut::from(&[0, 0, 1, 0, 0, 0, 9, 0xc2, 0x9a, 0x0c][..]);
        bytes.resize(bytes.len() + 3 * ENTRIES_MAX + 300, 1);
        assert_eq!(ProduceView::parse(bytes, 9), Err(ProduceError::TooMany));
        assert_eq!(ProduceView::parse(BytesMut::new(), 14), Err(ProduceError::Version(14)));
    }
}
