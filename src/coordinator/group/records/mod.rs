//! The records of `__consumer_offsets`, in Kafka's schemas (`OffsetCommitKey` and `-Value`,
//! `GroupMetadataKey` and `-Value`).
//!
//! A key begins with its version, which is also its kind: 0 and 1 are an offset, 2 is a group; higher
//! ones belong to protocols that are not served and are left alone. A value begins with a version of
//! its own. Every version is read; written are those that Kafka 4.3 writes.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::request::GroupId;
use crate::coordinator::{CoordinatorRecord, ReplayError};
use crate::protocol::reader::{ReadError, Reader, put_unsigned_varint};
use crate::types::TopicId;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
/// Of an offset with a time of its own at which it expires; later versions have none.
const OFFSET_VALUE_EXPIRING: i16 = 1;
const OFFSET_VALUE: i16 = FLEXIBLE;
const GROUP_VALUE: i16 = 3;
/// The highest version of either value, and the first with compact lengths and tagged fields.
const FLEXIBLE: i16 = 4;
/// The tagged field of an offset that holds its topic's id.
const TOPIC_ID_TAG: u32 = 0;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// An offset was committed, or without a value is gone. The topic's id is zero when it is not told.
    Offset { key: OffsetKey, topic_id: TopicId, value: Option<OffsetValue> },
    /// A group is in this state, or without a value is gone.
    Group { group_id: GroupId, value: Option<GroupMetadata> },
    /// Of a protocol that is not served here.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    pub group: GroupId,
    pub topic: Arc<str>,
    pub partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1: not known.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
    /// Milliseconds since 1970.
    pub commit_timestamp_ms: i64,
    /// When it expires, of old clients that said so themselves.
    pub expire_timestamp_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// When the group came into its state, in milliseconds since 1970; -1 when not known.
    pub current_state_timestamp_ms: i64,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// Reads a record.
///
/// # Errors
/// The bytes end too early, a text is not UTF-8, or the value's version is not known.
pub fn parse(record: &CoordinatorRecord) -> Result<GroupRecord, ReplayError> {
    let mut key = Fields::new(&record.key);
    let kind = key.i16().map_err(|error| error.of("a key"))?;
    match kind {
        0 | OFFSET_KEY => {
            let offset_key = key.offset_key().map_err(|error| error.of("an offset's key"))?;
            let value = record.value.as_ref().map(|bytes| Fields::new(bytes).offset_value());
            let value = value.transpose().map_err(|error| error.of("an offset's value"))?;
            let (value, topic_id) = value.unzip();
            Ok(GroupRecord::Offset { key: offset_key, topic_id: topic_id.unwrap_or(TopicId::ZERO), value })
        }
        GROUP_KEY => {
            let group_id = key.text().map_err(|error| error.of("a group's key"))?;
            let value = record.value.as_ref().map(|bytes| Fields::new(bytes).group_value());
            let value = value.transpose().map_err(|error| error.of("a group's value"))?;
            Ok(GroupRecord::Group { group_id, value })
        }
        _ => Ok(GroupRecord::Other),
    }
}

/// A committed offset. Offsets are found by their topics' names; the id, unless it is zero, tells whether
/// that is still the topic that they were committed for.
pub fn offset_record(key: &OffsetKey, value: &OffsetValue, topic_id: TopicId) -> CoordinatorRecord {
    let mut out = Vec::with_capacity(48 + value.metadata.len());
    match value.expire_timestamp_ms {
        Some(expire_timestamp_ms) => {
            out.put_i16(OFFSET_VALUE_EXPIRING);
            out.put_i64(value.offset);
            put_text(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp_ms);
            out.put_i64(expire_timestamp_ms);
        }
        None => {
            out.put_i16(OFFSET_VALUE);
            out.put_i64(value.offset);
            out.put_i32(value.leader_epoch);
            put_compact_text(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp_ms);
            put_topic_id(&mut out, topic_id);
        }
    }
    CoordinatorRecord { key: offset_key(key), value: Some(out.into()) }
}

/// The offset is committed no more.
pub fn offset_tombstone(key: &OffsetKey) -> CoordinatorRecord {
    CoordinatorRecord { key: offset_key(key), value: None }
}

/// The state of a group.
pub fn group_record(group_id: &GroupId, group: &GroupMetadata) -> CoordinatorRecord {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_VALUE);
    put_text(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_optional_text(&mut out, group.protocol.as_deref());
    put_optional_text(&mut out, group.leader.as_deref());
    out.put_i64(group.current_state_timestamp_ms);
    put_length(&mut out, group.members.len());
    for member in &group.members {
        put_text(&mut out, &member.member_id);
        put_optional_text(&mut out, member.group_instance_id.as_deref());
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    CoordinatorRecord { key: group_key(group_id), value: Some(out.freeze()) }
}

/// The group is gone.
pub fn group_tombstone(group_id: &GroupId) -> CoordinatorRecord {
    CoordinatorRecord { key: group_key(group_id), value: None }
}

fn offset_key(key: &OffsetKey) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + key.group.len() + key.topic.len());
    out.put_i16(OFFSET_KEY);
    put_text(&mut out, &key.group);
    put_text(&mut out, &key.topic);
    out.put_i32(key.partition);
    out.freeze()
}

fn group_key(group_id: &GroupId) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group_id.len());
    out.put_i16(GROUP_KEY);
    put_text(&mut out, group_id);
    out.freeze()
}

/// Texts come off the wire or out of this format, where they have a length of 16 bits; what is longer
/// all the same, as two of them put together may be, is cut.
fn put_text(out: &mut impl BufMut, text: &str) {
    let length = text.floor_char_boundary(usize::from(i16::MAX.unsigned_abs()));
    out.put_i16(i16::try_from(length).unwrap_or(i16::MAX));
    out.put_slice(&text.as_bytes()[..length]);
}

fn put_compact_text(out: &mut Vec<u8>, text: &str) {
    let length = text.floor_char_boundary(usize::from(i16::MAX.unsigned_abs()));
    put_unsigned_varint(out, u32::try_from(length).unwrap_or(0) + 1);
    out.put_slice(&text.as_bytes()[..length]);
}

/// The tagged fields of an offset: its topic's id, unless that is not known.
fn put_topic_id(out: &mut Vec<u8>, topic_id: TopicId) {
    let id = topic_id.0.as_bytes();
    if topic_id == TopicId::ZERO {
        return put_unsigned_varint(out, 0);
    }
    put_unsigned_varint(out, 1);
    put_unsigned_varint(out, TOPIC_ID_TAG);
    put_unsigned_varint(out, u32::try_from(id.len()).unwrap_or(0));
    out.put_slice(id);
}

fn put_optional_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    // What a frame holds has fewer.
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Why fields cannot be read.
#[derive(Debug)]
enum FieldError {
    Read(ReadError),
    Length,
    Utf8,
    Version(i16),
}

impl From<ReadError> for FieldError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl FieldError {
    fn of(&self, what: &str) -> ReplayError {
        ReplayError(match self {
            Self::Read(error) => format!("{what}: {error}"),
            Self::Length => format!("{what}: a length is negative or missing"),
            Self::Utf8 => format!("{what}: a text is not UTF-8"),
            Self::Version(version) => format!("{what}: version {version} is not known"),
        })
    }
}

/// The fields of a key or value, in the order of its schema.
struct Fields<'a> {
    reader: Reader<'a>,
    is_flexible: bool,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), is_flexible: false }
    }

    fn i16(&mut self) -> Result<i16, FieldError> {
        Ok(self.reader.i16()?)
    }

    fn version(&mut self) -> Result<i16, FieldError> {
        let version = self.i16()?;
        if !(0..=FLEXIBLE).contains(&version) {
            return Err(FieldError::Version(version));
        }
        self.is_flexible = version >= FLEXIBLE;
        Ok(version)
    }

    /// A length, `None` for null. `wide`: of 32 bits where it is not compact.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, FieldError> {
        let length = match (self.is_flexible, wide) {
            (true, _) => i64::from(self.reader.unsigned_varint()?) - 1,
            (false, true) => i64::from(self.reader.i32()?),
            (false, false) => i64::from(self.reader.i16()?),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| FieldError::Length),
        }
    }

    fn optional_text(&mut self) -> Result<Option<Arc<str>>, FieldError> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        let bytes = self.reader.take(length)?;
        match std::str::from_utf8(bytes) {
            // Most offsets are committed without metadata: the empty text is shared.
            Ok("") => Ok(Some(Arc::default())),
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(FieldError::Utf8),
        }
    }

    fn text(&mut self) -> Result<Arc<str>, FieldError> {
        self.optional_text()?.ok_or(FieldError::Length)
    }

    /// A copy, so that what is kept does not hold the batch that it was read from.
    fn bytes(&mut self) -> Result<Bytes, FieldError> {
        let length = self.length(true)?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(self.reader.take(length)?))
    }

    /// Gives each tagged field to `take`.
    fn tagged(
        &mut self,
        mut take: impl FnMut(u32, &'a [u8]) -> Result<(), FieldError>,
    ) -> Result<(), FieldError> {
        if self.is_flexible {
            for _ in 0..self.reader.unsigned_varint()? {
                let tag = self.reader.unsigned_varint()?;
                let length = self.reader.unsigned_varint()?;
                let bytes = self.reader.take(usize::try_from(length).map_err(|_| FieldError::Length)?)?;
                take(tag, bytes)?;
            }
        }
        Ok(())
    }

    fn skip_tagged(&mut self) -> Result<(), FieldError> {
        self.tagged(|_, _| Ok(()))
    }

    fn offset_key(&mut self) -> Result<OffsetKey, FieldError> {
        Ok(OffsetKey { group: self.text()?, topic: self.text()?, partition: self.reader.i32()? })
    }

    fn offset_value(&mut self) -> Result<(OffsetValue, TopicId), FieldError> {
        let version = self.version()?;
        let offset = self.reader.i64()?;
        let leader_epoch = if version >= 3 { self.reader.i32()? } else { -1 };
        let metadata = self.text()?;
        let commit_timestamp_ms = self.reader.i64()?;
        let expire_timestamp_ms = if version == OFFSET_VALUE_EXPIRING { self.reader.i64()? } else { -1 };
        let mut topic_id = TopicId::ZERO;
        self.tagged(|tag, bytes| {
            if tag == TOPIC_ID_TAG {
                topic_id = TopicId(Uuid::from_slice(bytes).map_err(|_| FieldError::Length)?);
            }
            Ok(())
        })?;
        let value = OffsetValue {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: Some(expire_timestamp_ms).filter(|time| *time >= 0),
        };
        Ok((value, topic_id))
    }

    fn group_value(&mut self) -> Result<GroupMetadata, FieldError> {
        let version = self.version()?;
        let protocol_type = self.text()?;
        let generation = self.reader.i32()?;
        let protocol = self.optional_text()?;
        let leader = self.optional_text()?;
        let current_state_timestamp_ms = if version >= 2 { self.reader.i64()? } else { -1 };
        let count = self.length(true)?.unwrap_or(0);
        // Grown member by member: the count alone must not allocate.
        let mut members = Vec::new();
        for _ in 0..count {
            let member_id = self.text()?;
            let group_instance_id = if version >= 3 { self.optional_text()? } else { None };
            let client_id = self.text()?;
            let client_host = self.text()?;
            let rebalance_timeout_ms = if version >= 1 { self.reader.i32()? } else { -1 };
            let session_timeout_ms = self.reader.i32()?;
            members.push(MemberMetadata {
                member_id,
                group_instance_id,
                client_id,
                client_host,
                rebalance_timeout_ms: match rebalance_timeout_ms {
                    -1 => session_timeout_ms,
                    timeout_ms => timeout_ms,
                },
                session_timeout_ms,
                subscription: self.bytes()?,
                assignment: self.bytes()?,
            });
            self.skip_tagged()?;
        }
        self.skip_tagged()?;
        Ok(GroupMetadata { protocol_type, generation, protocol, leader, current_state_timestamp_ms, members })
    }
}

#[cfg(test)]
mod tests;
