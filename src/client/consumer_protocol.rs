//! What members of a consumer group tell each other through the coordinator: what each subscribes to,
//! and what the leader gives to each (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//!
//! The bytes come from other clients, which the coordinator does not read. So lengths are held against
//! the bytes that are there before anything is reserved, and versions above ours are read as ours:
//! newer versions only add fields at the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::admin::Partition;

/// The newest versions of both formats (KIP-881).
const VERSION: i16 = 3;

/// What a member brings to a rebalance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Names of topics.
    pub topics: Vec<String>,
    /// What the member still holds; empty when it gave all up before (the eager protocol).
    pub owned: BTreeSet<Partition>,
    /// The generation in which it came to hold them; -1: none.
    pub generation: i32,
}

/// What else a subscription tells, which decides nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionExtras {
    /// What the member's assignor has added.
    pub user_data: Option<Bytes>,
    pub rack: Option<String>,
}

/// Bytes that are no subscription or assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not of the consumer protocol")]
pub struct NotConsumerProtocol;

impl Subscription {
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        buffer.put_i16(VERSION);
        buffer.put_i32(self.topics.len() as i32);
        for topic in &self.topics {
            put_text(&mut buffer, topic);
        }
        // The cooperative-sticky assignor of old clients looks for the generation here.
        buffer.put_i32(4);
        buffer.put_i32(self.generation);
        put_partitions(&mut buffer, &self.owned);
        buffer.put_i32(self.generation);
        // No rack.
        buffer.put_i16(-1);
        buffer.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Self, NotConsumerProtocol> {
        Ok(Self::decode_whole(bytes)?.0)
    }

    pub fn decode_whole(mut bytes: Bytes) -> Result<(Self, SubscriptionExtras), NotConsumerProtocol> {
        let version = get_i16(&mut bytes)?;
        let count = get_count(&mut bytes, 2)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(get_text(&mut bytes)?);
        }
        let user_data = get_bytes(&mut bytes)?;
        let user_bytes = user_data.as_deref().unwrap_or_default();
        let owned = if version >= 1 { get_partitions(&mut bytes)? } else { BTreeSet::new() };
        let generation = match version {
            2.. => get_i32(&mut bytes)?,
            _ => user_bytes.try_into().map_or(-1, i32::from_be_bytes),
        };
        let rack = if version >= 3 { get_optional_text(&mut bytes).unwrap_or_default() } else { None };
        Ok((Self { topics, owned, generation }, SubscriptionExtras { user_data, rack }))
    }
}

/// The bytes that give partitions to a member.
pub fn encode_assignment(partitions: &BTreeSet<Partition>) -> Bytes {
    let mut buffer = BytesMut::new();
    buffer.put_i16(VERSION);
    put_partitions(&mut buffer, partitions);
    // No user data.
    buffer.put_i32(-1);
    buffer.freeze()
}

/// The partitions that a member was given. No bytes at all give none.
pub fn decode_assignment(mut bytes: Bytes) -> Result<BTreeSet<Partition>, NotConsumerProtocol> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    get_i16(&mut bytes)?;
    get_partitions(&mut bytes)
}

fn put_text(buffer: &mut BytesMut, text: &str) {
    // Names of topics have 249 letters at most.
    buffer.put_i16(text.len() as i16);
    buffer.put_slice(text.as_bytes());
}

fn put_partitions(buffer: &mut BytesMut, partitions: &BTreeSet<Partition>) {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    buffer.put_i32(topics.len() as i32);
    for (topic, indexes) in topics {
        put_text(buffer, topic);
        buffer.put_i32(indexes.len() as i32);
        indexes.iter().for_each(|index| buffer.put_i32(*index));
    }
}

fn get_i16(bytes: &mut Bytes) -> Result<i16, NotConsumerProtocol> {
    bytes.try_get_i16().map_err(|_| NotConsumerProtocol)
}

fn get_i32(bytes: &mut Bytes) -> Result<i32, NotConsumerProtocol> {
    bytes.try_get_i32().map_err(|_| NotConsumerProtocol)
}

/// A number of elements, each of which takes so many bytes at least.
fn get_count(bytes: &mut Bytes, element_bytes_min: usize) -> Result<usize, NotConsumerProtocol> {
    let count = usize::try_from(get_i32(bytes)?.max(0)).map_err(|_| NotConsumerProtocol)?;
    if count.saturating_mul(element_bytes_min) > bytes.len() {
        return Err(NotConsumerProtocol);
    }
    Ok(count)
}

fn get_slice(bytes: &mut Bytes, length: i64) -> Result<Bytes, NotConsumerProtocol> {
    // A length of -1 is a null, which means the same as nothing here.
    let length = usize::try_from(length.max(0)).map_err(|_| NotConsumerProtocol)?;
    if length > bytes.len() {
        return Err(NotConsumerProtocol);
    }
    Ok(bytes.split_to(length))
}

fn get_bytes(bytes: &mut Bytes) -> Result<Option<Bytes>, NotConsumerProtocol> {
    let length = get_i32(bytes)?;
    let slice = get_slice(bytes, i64::from(length))?;
    Ok((length >= 0).then_some(slice))
}

fn get_optional_text(bytes: &mut Bytes) -> Result<Option<String>, NotConsumerProtocol> {
    let is_null = bytes.get(..2) == Some(&(-1i16).to_be_bytes());
    let text = get_text(bytes)?;
    Ok((!is_null).then_some(text))
}

fn get_text(bytes: &mut Bytes) -> Result<String, NotConsumerProtocol> {
    let length = get_i16(bytes)?;
    let text = get_slice(bytes, i64::from(length))?;
    String::from_utf8(text.to_vec()).map_err(|_| NotConsumerProtocol)
}

fn get_partitions(bytes: &mut Bytes) -> Result<BTreeSet<Partition>, NotConsumerProtocol> {
    let mut partitions = BTreeSet::new();
    for _ in 0..get_count(bytes, 6)? {
        let topic = get_text(bytes)?;
        for _ in 0..get_count(bytes, 4)? {
            partitions.insert((topic.clone(), get_i32(bytes)?));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable};

    fn partitions(list: &[(&str, i32)]) -> BTreeSet<Partition> {
        list.iter().map(|(topic, index)| ((*topic).to_owned(), *index)).collect()
    }

    #[test]
    fn subscriptions_are_kafkas_in_every_version() {
        let subscription = Subscription {
            topics: vec!["a".to_owned(), "b".to_owned()],
            owned: partitions(&[("a", 0), ("a", 2), ("b", 1)]),
            generation: 7,
        };
        let mut bytes = subscription.encode();
        assert_eq!(Subscription::decode(bytes.clone()), Ok(subscription.clone()));
        let version = bytes.get_i16();
        let theirs = ConsumerProtocolSubscription::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty());
        assert_eq!((theirs.generation_id, theirs.topics.len(), theirs.owned_partitions.len()), (7, 2, 2));
        for version in 0..=2 {
            let mut theirs = theirs.clone();
            theirs.rack_id = None;
            let expected = match version {
                0 => Subscription { owned: BTreeSet::new(), ..subscription.clone() },
                _ => subscription.clone(),
            };
            if version < 2 {
                theirs.generation_id = -1;
            }
            if version < 1 {
                theirs.owned_partitions = Vec::new();
            }
            let mut written = BytesMut::new();
            written.put_i16(version);
            theirs.encode(&mut written, version).unwrap();
            assert_eq!(Subscription::decode(written.freeze()), Ok(expected), "version {version}");
        }
    }

    #[test]
    fn assignments_are_kafkas_and_hostile_bytes_are_refused() {
        let given = partitions(&[("a", 0), ("b", 1), ("b", 2)]);
        let whole = encode_assignment(&given);
        assert_eq!(decode_assignment(whole.clone()), Ok(given));
        let mut bytes = whole.clone();
        let version = bytes.get_i16();
        let theirs = ConsumerProtocolAssignment::decode(&mut bytes, version).unwrap();
        assert_eq!(theirs.assigned_partitions[1].partitions, [1, 2]);
        assert_eq!(decode_assignment(Bytes::new()), Ok(BTreeSet::new()));
        for cut in 1..whole.len() - 4 {
            assert!(decode_assignment(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
        let huge = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]);
        assert!(decode_assignment(huge.clone()).is_err());
        assert!(Subscription::decode(huge).is_err());
    }
}
