use bytes::BufMut;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use super::*;
use crate::types::uuid_from_base64;

fn hex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("a hexadecimal byte");
    (0..text.len()).step_by(2).map(digit).collect::<Vec<u8>>().into()
}

fn record(key: &str, value: Option<&str>) -> CoordinatorRecord {
    CoordinatorRecord { key: hex(key), value: value.map(hex) }
}

fn offset_key_of(group: &str, partition: i32) -> OffsetKey {
    OffsetKey { group: group.into(), topic: "orders".into(), partition }
}

/// As Apache Kafka 4.3.0 wrote them for kafka-clients 4.3.0; both are read and written byte for byte.
#[test]
fn offsets_are_those_of_kafka() {
    let topic_id = TopicId(uuid_from_base64("AEynBKpzTOKlKgdf7oIEsA").expect("an id"));
    let cases = [
        (
            "00010006676f6c64656e00066f726465727300000001",
            "0004000000000000002a000000070768c3a4707069000001a1fda8966e010010004ca704aa734ce2a52a075fee8204b0",
            offset_key_of("golden", 1),
            OffsetValue {
                offset: 42,
                leader_epoch: 7,
                metadata: "häppi".into(),
                commit_timestamp_ms: 1_795_257_046_638,
                expire_timestamp_ms: None,
            },
        ),
        (
            "0001000673696d706c6500066f726465727300000000",
            "00040000000000000005ffffffff01000001a1fda89c45010010004ca704aa734ce2a52a075fee8204b0",
            offset_key_of("simple", 0),
            OffsetValue {
                offset: 5,
                leader_epoch: -1,
                metadata: "".into(),
                commit_timestamp_ms: 1_795_257_048_133,
                expire_timestamp_ms: None,
            },
        ),
        // OffsetCommit version 2, with a retention of a day.
        (
            "000100036f6c6400066f726465727300000000",
            "0001000000000000000900016d000001a1fda89c5e000001a202cef85e",
            offset_key_of("old", 0),
            OffsetValue {
                offset: 9,
                leader_epoch: -1,
                metadata: "m".into(),
                commit_timestamp_ms: 1_795_257_048_158,
                expire_timestamp_ms: Some(1_795_257_048_158 + 86_400_000),
            },
        ),
    ];
    for (key_bytes, value_bytes, key, value) in cases {
        let written = record(key_bytes, Some(value_bytes));
        let told = if value.expire_timestamp_ms.is_some() { TopicId::ZERO } else { topic_id };
        let read = GroupRecord::Offset { key: key.clone(), topic_id: told, value: Some(value.clone()) };
        assert_eq!(parse(&written), Ok(read));
        assert_eq!(offset_record(&key, &value, topic_id), written);
        let tombstone = record(key_bytes, None);
        let gone = GroupRecord::Offset { key: key.clone(), topic_id: TopicId::ZERO, value: None };
        assert_eq!(parse(&tombstone), Ok(gone));
        assert_eq!(offset_tombstone(&key), tombstone);
    }
}

/// Likewise: a group at its first join, with a static member, and after its last member left.
#[test]
fn groups_are_those_of_kafka() {
    let member_id = "instance-1-65a5ba5e-f3a9-4251-9525-ad9f6f966359";
    let empty = |generation, protocol_type: &str, current_state_timestamp_ms| GroupMetadata {
        protocol_type: protocol_type.into(),
        generation,
        protocol: None,
        leader: None,
        current_state_timestamp_ms,
        members: Vec::new(),
    };
    let stable = GroupMetadata {
        protocol: Some("range".into()),
        leader: Some(member_id.into()),
        members: vec![MemberMetadata {
            member_id: member_id.into(),
            group_instance_id: Some("instance-1".into()),
            client_id: "the-client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: hex("00030000000100066f7264657273ffffffff00000000ffffffffffff"),
            assignment: hex("00030000000100066f7264657273000000020000000000000001ffffffff"),
        }],
        ..empty(1, "consumer", 1_795_257_046_255)
    };
    let member_id_hex =
        "002f696e7374616e63652d312d36356135626135652d663361392d343235312d393532352d616439663666393636333539";
    let stable_hex = format!(
        "00030008636f6e73756d657200000001000572616e6765{member_id_hex}000001a1fda894ef00000001{member_id_hex}\
         000a696e7374616e63652d31000a7468652d636c69656e74000a2f3132372e302e302e31000493e00000afc8\
         0000001c00030000000100066f7264657273ffffffff00000000ffffffffffff\
         0000001e00030000000100066f7264657273000000020000000000000001ffffffff"
    );
    let cases = [
        (
            "00020006676f6c64656e",
            "0003000000000000ffffffff000001a1fda8941200000000",
            "golden",
            empty(0, "", 1_795_257_046_034),
        ),
        ("00020006676f6c64656e", stable_hex.as_str(), "golden", stable),
        (
            "0002000764796e616d6963",
            "00030008636f6e73756d657200000002ffffffff000001a1fda89a3500000000",
            "dynamic",
            empty(2, "consumer", 1_795_257_047_605),
        ),
    ];
    for (key_bytes, value_bytes, group_id, value) in cases {
        let group_id: GroupId = group_id.into();
        let written = record(key_bytes, Some(value_bytes));
        let read = GroupRecord::Group { group_id: group_id.clone(), value: Some(value.clone()) };
        assert_eq!(parse(&written), Ok(read));
        assert_eq!(group_record(&group_id, &value), written);
        let tombstone = record(key_bytes, None);
        assert_eq!(parse(&tombstone), Ok(GroupRecord::Group { group_id: group_id.clone(), value: None }));
        assert_eq!(group_tombstone(&group_id), tombstone);
    }
}

#[test]
fn keys_of_other_protocols_are_left_alone_and_unknown_versions_refused() {
    for kind in ["0003", "000f", "7fff", "ffff"] {
        assert_eq!(parse(&record(kind, Some("0000"))), Ok(GroupRecord::Other), "{kind}");
    }
    for version in ["0005", "ffff"] {
        let key = "000100036f6c6400066f726465727300000000";
        assert!(parse(&record(key, Some(version))).is_err(), "{version}");
        assert!(parse(&record("0002000161", Some(version))).is_err(), "{version}");
    }
}

/// Writes the fields of a value in any version of its schema, as Kafka's generated classes do.
struct Writer {
    version: i16,
    out: Vec<u8>,
}

impl Writer {
    fn new(version: i16) -> Self {
        let mut out = Vec::new();
        out.put_i16(version);
        Self { version, out }
    }

    fn length(&mut self, length: Option<usize>, is_wide: bool) {
        let length = length.map_or(-1, |length| i32::try_from(length).expect("is small"));
        match (self.version >= 4, is_wide) {
            (true, _) => put_unsigned_varint(&mut self.out, u32::try_from(length + 1).expect("is small")),
            (false, true) => self.out.put_i32(length),
            (false, false) => self.out.put_i16(i16::try_from(length).expect("is small")),
        }
    }

    fn text(&mut self, text: Option<&str>) {
        self.length(text.map(str::len), false);
        self.out.put_slice(text.unwrap_or_default().as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(Some(bytes.len()), true);
        self.out.put_slice(bytes);
    }

    /// Tagged fields that a later version may bring.
    fn tagged(&mut self) {
        if self.version >= 4 {
            self.out.put_slice(&[2, 5, 3, 1, 2, 3, 9, 0]);
        }
    }

    fn offset(mut self, value: &OffsetValue) -> Bytes {
        self.out.put_i64(value.offset);
        if self.version >= 3 {
            self.out.put_i32(value.leader_epoch);
        }
        self.text(Some(&value.metadata));
        self.out.put_i64(value.commit_timestamp_ms);
        if self.version == 1 {
            self.out.put_i64(value.expire_timestamp_ms.unwrap_or(-1));
        }
        self.tagged();
        self.out.into()
    }

    fn group(mut self, group: &GroupMetadata) -> Bytes {
        self.text(Some(&group.protocol_type));
        self.out.put_i32(group.generation);
        self.text(group.protocol.as_deref());
        self.text(group.leader.as_deref());
        if self.version >= 2 {
            self.out.put_i64(group.current_state_timestamp_ms);
        }
        self.length(Some(group.members.len()), true);
        for member in &group.members {
            self.text(Some(&member.member_id));
            if self.version >= 3 {
                self.text(member.group_instance_id.as_deref());
            }
            self.text(Some(&member.client_id));
            self.text(Some(&member.client_host));
            if self.version >= 1 {
                self.out.put_i32(member.rebalance_timeout_ms);
            }
            self.out.put_i32(member.session_timeout_ms);
            self.bytes(&member.subscription);
            self.bytes(&member.assignment);
            self.tagged();
        }
        self.tagged();
        self.out.into()
    }
}

fn text() -> impl Strategy<Value = Arc<str>> {
    // Long enough that compact lengths take one byte and two.
    "\\PC{0,90}".prop_map(Arc::from)
}

fn key() -> impl Strategy<Value = OffsetKey> {
    (text(), text(), any::<i32>()).prop_map(|(group, topic, partition)| OffsetKey { group, topic, partition })
}

fn offset() -> impl Strategy<Value = OffsetValue> {
    (any::<i64>(), any::<i32>(), text(), any::<i64>(), of(0..i64::MAX)).prop_map(
        |(offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms)| OffsetValue {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms,
        },
    )
}

fn member() -> impl Strategy<Value = MemberMetadata> {
    let bytes = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let texts = (text(), of(text()), text(), text());
    (texts, 0..i32::MAX, 0..i32::MAX, bytes(), bytes()).prop_map(
        |(texts, rebalance_timeout_ms, session_timeout_ms, subscription, assignment)| MemberMetadata {
            member_id: texts.0,
            group_instance_id: texts.1,
            client_id: texts.2,
            client_host: texts.3,
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription,
            assignment,
        },
    )
}

fn group() -> impl Strategy<Value = GroupMetadata> {
    (text(), any::<i32>(), of(text()), of(text()), any::<i64>(), vec(member(), 0..4)).prop_map(
        |(protocol_type, generation, protocol, leader, current_state_timestamp_ms, members)| GroupMetadata {
            protocol_type,
            generation,
            protocol,
            leader,
            current_state_timestamp_ms,
            members,
        },
    )
}

proptest! {
    #[test]
    fn offsets_read_back_in_every_version(
        key in key(), value in offset(), topic_id in any::<u128>(), end in any::<Index>(),
    ) {
        let mut topic_id = TopicId(Uuid::from_u128(topic_id));
        let written = offset_record(&key, &value, topic_id);
        let mut read = value.clone();
        if value.expire_timestamp_ms.is_some() {
            read.leader_epoch = -1;
            topic_id = TopicId::ZERO;
        }
        let expected = GroupRecord::Offset { key: key.clone(), topic_id, value: Some(read) };
        prop_assert_eq!(parse(&written), Ok(expected));
        for version in 0..=FLEXIBLE {
            let bytes = Writer::new(version).offset(&value);
            let mut read = value.clone();
            if version < 3 {
                read.leader_epoch = -1;
            }
            if version != 1 {
                read.expire_timestamp_ms = None;
            }
            let record = CoordinatorRecord { key: written.key.clone(), value: Some(bytes.clone()) };
            let expected = GroupRecord::Offset { key: key.clone(), topic_id: TopicId::ZERO, value: Some(read) };
            prop_assert_eq!(parse(&record), Ok(expected), "version {}", version);
            let end = end.index(bytes.len());
            let cut = CoordinatorRecord { key: written.key.clone(), value: Some(bytes.slice(..end)) };
            prop_assert!(parse(&cut).is_err(), "version {} cut at {}", version, end);
        }
    }

    #[test]
    fn groups_read_back_in_every_version(group_id in text(), value in group(), end in any::<Index>()) {
        let written = group_record(&group_id, &value);
        let expected = GroupRecord::Group { group_id: group_id.clone(), value: Some(value.clone()) };
        prop_assert_eq!(parse(&written), Ok(expected));
        for version in 0..=FLEXIBLE {
            let bytes = Writer::new(version).group(&value);
            let mut read = value.clone();
            if version < 2 {
                read.current_state_timestamp_ms = -1;
            }
            for member in &mut read.members {
                if version < 3 {
                    member.group_instance_id = None;
                }
                if version < 1 {
                    member.rebalance_timeout_ms = member.session_timeout_ms;
                }
            }
            let record = CoordinatorRecord { key: written.key.clone(), value: Some(bytes.clone()) };
            let expected = GroupRecord::Group { group_id: group_id.clone(), value: Some(read) };
            prop_assert_eq!(parse(&record), Ok(expected), "version {}", version);
            let end = end.index(bytes.len());
            let cut = CoordinatorRecord { key: written.key.clone(), value: Some(bytes.slice(..end)) };
            prop_assert!(parse(&cut).is_err(), "version {} cut at {}", version, end);
        }
    }

    #[test]
    fn nonsense_is_read_as_something_or_refused(
        kind in 0..4_i16, rest in vec(any::<u8>(), 0..60), version in 0..5_i16, value in vec(any::<u8>(), 0..120),
    ) {
        let keys = [rest, b"\0\x01a\0\x01b\0\0\0\x01".to_vec()];
        for key in keys {
            let key = [&kind.to_be_bytes()[..], &key].concat().into();
            let value = [&version.to_be_bytes()[..], &value].concat().into();
            let _ = parse(&CoordinatorRecord { key, value: Some(value) });
        }
    }
}

/// Counts and lengths that the bytes cannot hold allocate nothing.
#[test]
fn announced_counts_are_not_believed() {
    let group = |value: &str| parse(&record("0002000161", Some(value)));
    // 2,147,483,647 members, in 32 bits and as a varint.
    assert!(group("0003000000000001ffffffffffffffffffffffff7fffffff").is_err());
    assert!(group("00040100000001000000000000000000000affffffff0f").is_err());
    // As many tagged fields.
    let key = "000100036f6c6400066f726465727300000000";
    let value = "00040000000000000005ffffffff01000001a1fda89c45ffffffff07";
    assert!(parse(&record(key, Some(value))).is_err());
}
