//! The records of `__consumer_offsets` as JSON, in the two forms that Kafka's tools have: of the console consumer's
//! formatters, and of the log dump's decoder, which writes versions as text and takes the consumer protocol apart.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::consumer_protocol::{Subscription, decode_assignment};
use crate::coordinator::CoordinatorRecord;
use crate::coordinator::group::records::{GroupRecord, MemberMetadata, OffsetKey, parse};
use crate::types::{TopicId, uuid_to_base64};

/// Which of Kafka's tools it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Formatter,
    Decoder,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Offset,
    Group,
    /// Of a protocol that is not served here.
    Other,
}

/// A record that has been read.
#[derive(Debug)]
pub struct Read {
    pub kind: Kind,
    pub key: Value,
    /// None: a tombstone.
    pub value: Option<Value>,
}

/// Reads a record of the topic; an error says what is wrong with it.
pub fn read(key: Option<&Bytes>, value: Option<&Bytes>, style: Style) -> Result<Read, String> {
    let Some(key) = key else { return Err("a record without a key".to_owned()) };
    let record = CoordinatorRecord { key: key.clone(), value: value.cloned() };
    let read = parse(&record).map_err(|error| error.to_string())?;
    let number = |bytes: Option<&Bytes>| {
        let number =
            bytes.and_then(|bytes| bytes.first_chunk()).map_or(-1, |start| i16::from_be_bytes(*start));
        match style {
            Style::Formatter => json!(number),
            Style::Decoder => json!(number.to_string()),
        }
    };
    let (kind, key_data, data) = match read {
        GroupRecord::Offset { key, topic_id, value } => {
            let OffsetKey { group, topic, partition } = key;
            let data = value.map(|value| {
                let mut data = json!({
                    "offset": value.offset, "leaderEpoch": value.leader_epoch, "metadata": &*value.metadata,
                    "commitTimestamp": value.commit_timestamp_ms,
                });
                if let Some(object) = data.as_object_mut() {
                    if let Some(expires) = value.expire_timestamp_ms {
                        object.insert("expireTimestamp".to_owned(), json!(expires));
                    }
                    if topic_id != TopicId::ZERO {
                        object.insert("topicId".to_owned(), json!(uuid_to_base64(topic_id.0)));
                    }
                }
                data
            });
            (Kind::Offset, json!({"group": &*group, "topic": &*topic, "partition": partition}), data)
        }
        GroupRecord::Group { group_id, value } => {
            let data = value.map(|group| {
                let members =
                    group.members.iter().map(|member| member_json(member, &group.protocol_type, style));
                json!({
                    "protocolType": &*group.protocol_type, "generation": group.generation,
                    "protocol": group.protocol.as_deref(), "leader": group.leader.as_deref(),
                    "currentStateTimestamp": group.current_state_timestamp_ms,
                    "members": members.collect::<Vec<_>>(),
                })
            });
            (Kind::Group, json!({"group": &*group_id}), data)
        }
        // Neither read nor written here; the bytes are all there is to show.
        GroupRecord::Other => {
            let rest = |bytes: &Bytes| json!({"base64": STANDARD.encode(bytes.get(2..).unwrap_or_default())});
            (Kind::Other, rest(key), value.map(rest))
        }
    };
    Ok(Read {
        kind,
        key: json!({"type": number(Some(key)), "data": key_data}),
        value: data.map(|data| json!({"version": number(value), "data": data})),
    })
}

fn member_json(member: &MemberMetadata, protocol_type: &str, style: Style) -> Value {
    let is_decoded = style == Style::Decoder && protocol_type == crate::client::groups::CONSUMER;
    let encoded = |bytes: &Bytes| json!(STANDARD.encode(bytes));
    let (subscription, assignment) = if is_decoded {
        (
            subscription_json(&member.subscription).unwrap_or_else(|| encoded(&member.subscription)),
            given_json(&member.assignment).unwrap_or_else(|| encoded(&member.assignment)),
        )
    } else {
        (encoded(&member.subscription), encoded(&member.assignment))
    };
    json!({
        "memberId": &*member.member_id, "groupInstanceId": member.group_instance_id.as_deref(),
        "clientId": &*member.client_id, "clientHost": &*member.client_host,
        "rebalanceTimeout": member.rebalance_timeout_ms, "sessionTimeout": member.session_timeout_ms,
        "subscription": subscription, "assignment": assignment,
    })
}

fn subscription_json(bytes: &Bytes) -> Option<Value> {
    let (read, extras) = Subscription::decode_whole(bytes.clone()).ok()?;
    Some(json!({
        "topics": read.topics, "userData": extras.user_data.as_deref().map(|data| STANDARD.encode(data)),
        "ownedPartitions": super::groups::assignment_json(&read.owned),
        "generationId": read.generation, "rackId": extras.rack,
    }))
}

fn given_json(bytes: &Bytes) -> Option<Value> {
    let read = decode_assignment(bytes.clone()).ok()?;
    Some(json!({"assignedPartitions": super::groups::assignment_json(&read)}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::records::{
        GroupMetadata, OffsetValue, group_record, offset_record, offset_tombstone,
    };

    /// What Kafka 4.3.0's OffsetsMessageFormatter and its log dump print for the like records.
    #[test]
    fn records_are_told_as_kafkas_tools_tell_them() {
        let key = OffsetKey { group: "g1".into(), topic: "d-int".into(), partition: 0 };
        let value = OffsetValue {
            offset: 1,
            leader_epoch: 0,
            metadata: "".into(),
            commit_timestamp_ms: 1_796_064_413_979,
            expire_timestamp_ms: None,
        };
        let record = offset_record(&key, &value, TopicId::ZERO);
        let told = read(Some(&record.key), record.value.as_ref(), Style::Formatter).unwrap();
        assert_eq!(told.kind, Kind::Offset);
        assert_eq!(told.key, json!({"type": 1, "data": {"group": "g1", "topic": "d-int", "partition": 0}}));
        assert_eq!(
            told.value.unwrap(),
            json!({"version": 4, "data": {"offset": 1, "leaderEpoch": 0, "metadata": "",
                "commitTimestamp": 1_796_064_413_979i64}})
        );
        let gone = offset_tombstone(&key);
        assert!(read(Some(&gone.key), None, Style::Formatter).unwrap().value.is_none());

        let subscription =
            Subscription { topics: vec!["d-int".to_owned()], generation: -1, ..Default::default() };
        let member = MemberMetadata {
            member_id: "m".into(),
            group_instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: subscription.encode(),
            assignment: Bytes::from_static(b"\x7f"),
        };
        let group = GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 1,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            current_state_timestamp_ms: 5,
            members: vec![member],
        };
        let record = group_record(&"g1".into(), &group);
        let told = read(Some(&record.key), record.value.as_ref(), Style::Decoder).unwrap();
        assert_eq!(told.key, json!({"type": "2", "data": {"group": "g1"}}));
        let value = told.value.unwrap();
        assert_eq!(value["version"], "3");
        assert_eq!(value["data"]["members"][0]["subscription"]["topics"], json!(["d-int"]));
        // Bytes that are no assignment are shown as they are.
        assert_eq!(value["data"]["members"][0]["assignment"], "fw==");
        let told = read(Some(&record.key), record.value.as_ref(), Style::Formatter).unwrap();
        assert!(told.value.unwrap()["data"]["members"][0]["subscription"].is_string());
        assert!(read(Some(&Bytes::from_static(b"\0\x01")), None, Style::Decoder).is_err());
        assert!(read(None, None, Style::Decoder).is_err());
    }
}
