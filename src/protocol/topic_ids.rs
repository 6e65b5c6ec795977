//! OffsetCommit and OffsetFetch of version 10, which name topics by id, in terms of version 9.
//!
//! kafka-protocol stops at version 9, and the only difference is that 16 bytes stand in the place of
//! each topic's name. So a request is rewritten with the id as text in the place of the name, goes
//! through the guard and the decoder as one of version 9, and the response is written as one of
//! version 9, again with ids as names, and rewritten back. Whoever handles it takes the names for ids.
//!
//! The walk knows only where names stand. It allocates no more than a little over twice the bytes
//! that are there: an id becomes 32 characters and their length.

use bytes::Bytes;
use uuid::Uuid;

use super::header::skip_tagged_fields;
use super::reader::{ReadError, Reader, put_unsigned_varint};

/// The first version that names topics by their ids, of both APIs.
pub const TOPIC_IDS: i16 = 10;

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;

/// A field, as far as it must be known to find the topics. Each structure ends with tagged fields.
enum Step {
    Fixed(usize),
    /// Compact, perhaps null.
    Text,
    Topic,
    /// Compact, perhaps null.
    Array(&'static [Step]),
    /// An array of elements of that many bytes, that are no structures.
    Numbers(usize),
}

use Step::{Array, Fixed, Numbers, Text, Topic};

const COMMIT_REQUEST: &[Step] =
    &[Text, Fixed(4), Text, Text, Array(&[Topic, Array(&[Fixed(4 + 8 + 4), Text])])];
const COMMIT_RESPONSE: &[Step] = &[Fixed(4), Array(&[Topic, Array(&[Fixed(4 + 2)])])];
const FETCH_REQUEST: &[Step] = &[Array(&[Text, Text, Fixed(4), Array(&[Topic, Numbers(4)])]), Fixed(1)];
const FETCH_RESPONSE: &[Step] =
    &[Fixed(4), Array(&[Text, Array(&[Topic, Array(&[Fixed(4 + 8 + 4), Text, Fixed(2)])]), Fixed(2)])];

/// Rewrites the body of a request of version 10 to one of version 9; `None` when the API has no such
/// difference.
///
/// # Errors
/// When the bytes end before the request does.
pub fn request_by_name(api_key: i16, body: &[u8]) -> Option<Result<Vec<u8>, ReadError>> {
    let steps = match api_key {
        OFFSET_COMMIT => COMMIT_REQUEST,
        OFFSET_FETCH => FETCH_REQUEST,
        _ => return None,
    };
    Some(rewritten(steps, body, |reader, out| {
        let id = Uuid::from_slice(reader.take(16)?).map_err(|_| ReadError::End)?;
        put_text(out, id.simple().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        Ok(())
    }))
}

/// Rewrites a response of version 9 whose topics are called by ids to version 10.
///
/// # Errors
/// When it is not one.
pub fn response_by_id(api_key: i16, body: &[u8]) -> Result<Bytes, ReadError> {
    let steps = if api_key == OFFSET_COMMIT { COMMIT_RESPONSE } else { FETCH_RESPONSE };
    let response = rewritten(steps, body, |reader, out| {
        let length = reader.unsigned_varint()?.saturating_sub(1);
        let name = reader.take(length as usize)?;
        let id = std::str::from_utf8(name).ok().and_then(id_of).ok_or(ReadError::End)?;
        out.extend_from_slice(id.as_bytes());
        Ok(())
    })?;
    Ok(response.into())
}

/// The id that stands in the place of a name.
pub fn id_of(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name).ok()
}

/// What stands in the place of a name for this id.
pub fn name_of(id: Uuid) -> String {
    id.simple().to_string()
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_unsigned_varint(out, text.len() as u32 + 1);
    out.extend_from_slice(text);
}

type Turn = fn(&mut Reader<'_>, &mut Vec<u8>) -> Result<(), ReadError>;

fn rewritten(steps: &[Step], body: &[u8], topic: Turn) -> Result<Vec<u8>, ReadError> {
    let (mut reader, mut out) = (Reader::new(body), Vec::with_capacity(body.len()));
    structure(steps, &mut reader, &mut out, topic)?;
    Ok(out)
}

fn structure(
    steps: &[Step],
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
    topic: Turn,
) -> Result<(), ReadError> {
    for step in steps {
        match step {
            Topic => topic(reader, out)?,
            Array(element) => {
                // No element takes less than a byte, so that the bytes limit the turns.
                let count = reader.unsigned_varint()?;
                put_unsigned_varint(out, count);
                for _ in 1..count {
                    structure(element, reader, out, topic)?;
                }
            }
            Fixed(bytes) => out.extend_from_slice(reader.take(*bytes)?),
            Text | Numbers(_) => {
                let size = if let Numbers(size) = step { *size } else { 1 };
                let count = reader.unsigned_varint()?;
                put_unsigned_varint(out, count);
                let bytes = (count.saturating_sub(1) as usize).checked_mul(size).ok_or(ReadError::End)?;
                out.extend_from_slice(reader.take(bytes)?);
            }
        }
    }
    let tagged = reader.rest();
    skip_tagged_fields(reader)?;
    out.extend_from_slice(&tagged[..tagged.len() - reader.remaining()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };
    use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    const ID: Uuid = Uuid::from_bytes([0xab; 16]);

    fn encoded(message: &impl Encodable) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out, 9).unwrap();
        out.to_vec()
    }

    fn name() -> TopicName {
        TopicName(StrBytes::from_string(name_of(ID)))
    }

    /// The bytes with the id in the place of its text and of the text's length.
    fn by_id(bytes: &[u8]) -> Vec<u8> {
        let text = name_of(ID);
        let at = bytes.windows(32).position(|window| window == text.as_bytes()).unwrap();
        [&bytes[..at - 1], ID.as_bytes(), &bytes[at + 32..]].concat()
    }

    #[test]
    fn requests_of_version_10_become_those_of_version_9_and_cut_ones_are_refused() {
        let text = StrBytes::from_static_str("text");
        let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text.clone()));
        let topic = OffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![partition; 3]);
        let commit = OffsetCommitRequest::default().with_member_id(text.clone()).with_topics(vec![topic]);
        let topic = OffsetFetchRequestTopics::default().with_name(name()).with_partition_indexes(vec![0, 7]);
        let all = OffsetFetchRequestGroup::default().with_topics(None);
        let some =
            OffsetFetchRequestGroup::default().with_member_id(Some(text)).with_topics(Some(vec![topic]));
        let fetch = OffsetFetchRequest::default().with_groups(vec![all, some]).with_require_stable(true);
        for (key, wanted) in [(OFFSET_COMMIT, encoded(&commit)), (OFFSET_FETCH, encoded(&fetch))] {
            let sent = by_id(&wanted);
            assert_eq!(request_by_name(key, &sent), Some(Ok(wanted)));
            for length in 0..sent.len() {
                assert_eq!(request_by_name(key, &sent[..length]), Some(Err(ReadError::End)));
            }
        }
        let endless = [1, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(request_by_name(OFFSET_COMMIT, &endless), Some(Err(ReadError::End)));
        assert_eq!(request_by_name(3, &[]), None);
    }

    #[test]
    fn responses_of_version_9_become_those_of_version_10() {
        let partition =
            OffsetFetchResponsePartitions::default().with_committed_offset(5).with_error_code(100);
        let topic = OffsetFetchResponseTopics::default().with_name(name()).with_partitions(vec![partition]);
        let group = OffsetFetchResponseGroup::default().with_topics(vec![topic]).with_error_code(1);
        let written = encoded(&OffsetFetchResponse::default().with_groups(vec![group]));
        assert_eq!(response_by_id(OFFSET_FETCH, &written).as_deref(), Ok(&*by_id(&written)));
        assert_eq!(response_by_id(OFFSET_FETCH, &written[..9]), Err(ReadError::End));
    }
}
