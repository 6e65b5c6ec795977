//! Codecs of the messages that kafka-protocol lacks, or lacks versions of.
//!
//! Generated from the message definitions in Kafka's jar: `compat-tests/message_definitions.py --update`.

#![allow(clippy::all)]

/// DescribeLogDirsRequest, versions 1 to 5.
#[allow(unused_imports)]
pub mod describe_log_dirs_request {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribableLogDirTopic {
        pub topic: TopicName,
        pub partitions: Vec<i32>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribableLogDirTopic {
        fn default() -> Self {
            Self {
                topic: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribableLogDirTopic {
        pub fn with_topic(mut self, value: TopicName) -> Self {
            self.topic = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<i32>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for DescribableLogDirTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.topic.put(buf, form)?;
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.topic = Value::take(buf, form)?;
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribeLogDirsRequest {
        pub topics: Option<Vec<DescribableLogDirTopic>>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribeLogDirsRequest {
        fn default() -> Self {
            Self {
                topics: Some(Default::default()),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribeLogDirsRequest {
        pub fn with_topics(mut self, value: Option<Vec<DescribableLogDirTopic>>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for DescribeLogDirsRequest {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.topics.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.topics = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for DescribeLogDirsRequest {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 5, 2)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for DescribeLogDirsRequest {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 5, 2)?)
        }
    }
}

/// DescribeLogDirsResponse, versions 1 to 5.
#[allow(unused_imports)]
pub mod describe_log_dirs_response {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribeLogDirsPartition {
        pub partition_index: i32,
        pub partition_size: i64,
        pub offset_lag: i64,
        pub is_future_key: bool,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribeLogDirsPartition {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                partition_size: Default::default(),
                offset_lag: Default::default(),
                is_future_key: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribeLogDirsPartition {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_partition_size(mut self, value: i64) -> Self {
            self.partition_size = value;
            self
        }
        pub fn with_offset_lag(mut self, value: i64) -> Self {
            self.offset_lag = value;
            self
        }
        pub fn with_is_future_key(mut self, value: bool) -> Self {
            self.is_future_key = value;
            self
        }
    }

    impl Value for DescribeLogDirsPartition {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.partition_index.put(buf, form)?;
            self.partition_size.put(buf, form)?;
            self.offset_lag.put(buf, form)?;
            self.is_future_key.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            message.partition_size = Value::take(buf, form)?;
            message.offset_lag = Value::take(buf, form)?;
            message.is_future_key = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribeLogDirsTopic {
        pub name: TopicName,
        pub partitions: Vec<DescribeLogDirsPartition>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribeLogDirsTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribeLogDirsTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<DescribeLogDirsPartition>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for DescribeLogDirsTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.name.put(buf, form)?;
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.name = Value::take(buf, form)?;
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribeLogDirsResult {
        pub error_code: i16,
        pub log_dir: StrBytes,
        pub topics: Vec<DescribeLogDirsTopic>,
        /// In versions >= 4.
        pub total_bytes: i64,
        /// In versions >= 4.
        pub usable_bytes: i64,
        /// In versions >= 5.
        pub is_cordoned: bool,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribeLogDirsResult {
        fn default() -> Self {
            Self {
                error_code: Default::default(),
                log_dir: Default::default(),
                topics: Default::default(),
                total_bytes: -1,
                usable_bytes: -1,
                is_cordoned: false,
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribeLogDirsResult {
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
        pub fn with_log_dir(mut self, value: StrBytes) -> Self {
            self.log_dir = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<DescribeLogDirsTopic>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_total_bytes(mut self, value: i64) -> Self {
            self.total_bytes = value;
            self
        }
        pub fn with_usable_bytes(mut self, value: i64) -> Self {
            self.usable_bytes = value;
            self
        }
        pub fn with_is_cordoned(mut self, value: bool) -> Self {
            self.is_cordoned = value;
            self
        }
    }

    impl Value for DescribeLogDirsResult {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.error_code.put(buf, form)?;
            self.log_dir.put(buf, form)?;
            self.topics.put(buf, form)?;
            if version >= 4 {
                self.total_bytes.put(buf, form)?;
            }
            if version >= 4 {
                self.usable_bytes.put(buf, form)?;
            }
            if version >= 5 {
                self.is_cordoned.put(buf, form)?;
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.error_code = Value::take(buf, form)?;
            message.log_dir = Value::take(buf, form)?;
            message.topics = Value::take(buf, form)?;
            if version >= 4 {
                message.total_bytes = Value::take(buf, form)?;
            }
            if version >= 4 {
                message.usable_bytes = Value::take(buf, form)?;
            }
            if version >= 5 {
                message.is_cordoned = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct DescribeLogDirsResponse {
        pub throttle_time_ms: i32,
        /// In versions >= 3.
        pub error_code: i16,
        pub results: Vec<DescribeLogDirsResult>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for DescribeLogDirsResponse {
        fn default() -> Self {
            Self {
                throttle_time_ms: Default::default(),
                error_code: Default::default(),
                results: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl DescribeLogDirsResponse {
        pub fn with_throttle_time_ms(mut self, value: i32) -> Self {
            self.throttle_time_ms = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
        pub fn with_results(mut self, value: Vec<DescribeLogDirsResult>) -> Self {
            self.results = value;
            self
        }
    }

    impl Value for DescribeLogDirsResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.throttle_time_ms.put(buf, form)?;
            if version >= 3 {
                self.error_code.put(buf, form)?;
            }
            self.results.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.throttle_time_ms = Value::take(buf, form)?;
            if version >= 3 {
                message.error_code = Value::take(buf, form)?;
            }
            message.results = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for DescribeLogDirsResponse {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 5, 2)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for DescribeLogDirsResponse {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 5, 2)?)
        }
    }
}

/// ListOffsetsRequest, versions 1 to 11.
#[allow(unused_imports)]
pub mod list_offsets_request {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsPartition {
        pub partition_index: i32,
        /// In versions >= 4.
        pub current_leader_epoch: i32,
        pub timestamp: i64,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsPartition {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                current_leader_epoch: -1,
                timestamp: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsPartition {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_current_leader_epoch(mut self, value: i32) -> Self {
            self.current_leader_epoch = value;
            self
        }
        pub fn with_timestamp(mut self, value: i64) -> Self {
            self.timestamp = value;
            self
        }
    }

    impl Value for ListOffsetsPartition {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.partition_index.put(buf, form)?;
            if version >= 4 {
                self.current_leader_epoch.put(buf, form)?;
            }
            self.timestamp.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            if version >= 4 {
                message.current_leader_epoch = Value::take(buf, form)?;
            }
            message.timestamp = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsTopic {
        pub name: TopicName,
        pub partitions: Vec<ListOffsetsPartition>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<ListOffsetsPartition>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for ListOffsetsTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.name.put(buf, form)?;
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.name = Value::take(buf, form)?;
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsRequest {
        pub replica_id: BrokerId,
        /// In versions >= 2.
        pub isolation_level: i8,
        pub topics: Vec<ListOffsetsTopic>,
        /// In versions >= 10.
        pub timeout_ms: i32,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsRequest {
        fn default() -> Self {
            Self {
                replica_id: Default::default(),
                isolation_level: Default::default(),
                topics: Default::default(),
                timeout_ms: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsRequest {
        pub fn with_replica_id(mut self, value: BrokerId) -> Self {
            self.replica_id = value;
            self
        }
        pub fn with_isolation_level(mut self, value: i8) -> Self {
            self.isolation_level = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<ListOffsetsTopic>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_timeout_ms(mut self, value: i32) -> Self {
            self.timeout_ms = value;
            self
        }
    }

    impl Value for ListOffsetsRequest {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.replica_id.put(buf, form)?;
            if version >= 2 {
                self.isolation_level.put(buf, form)?;
            } else if self.isolation_level != <i8>::default() {
                return not_in_version("isolation_level", form);
            }
            self.topics.put(buf, form)?;
            if version >= 10 {
                self.timeout_ms.put(buf, form)?;
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.replica_id = Value::take(buf, form)?;
            if version >= 2 {
                message.isolation_level = Value::take(buf, form)?;
            }
            message.topics = Value::take(buf, form)?;
            if version >= 10 {
                message.timeout_ms = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for ListOffsetsRequest {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 11, 6)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for ListOffsetsRequest {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 11, 6)?)
        }
    }
}

/// ListOffsetsResponse, versions 1 to 11.
#[allow(unused_imports)]
pub mod list_offsets_response {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsPartitionResponse {
        pub partition_index: i32,
        pub error_code: i16,
        pub timestamp: i64,
        pub offset: i64,
        /// In versions >= 4.
        pub leader_epoch: i32,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsPartitionResponse {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                error_code: Default::default(),
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsPartitionResponse {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
        pub fn with_timestamp(mut self, value: i64) -> Self {
            self.timestamp = value;
            self
        }
        pub fn with_offset(mut self, value: i64) -> Self {
            self.offset = value;
            self
        }
        pub fn with_leader_epoch(mut self, value: i32) -> Self {
            self.leader_epoch = value;
            self
        }
    }

    impl Value for ListOffsetsPartitionResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.partition_index.put(buf, form)?;
            self.error_code.put(buf, form)?;
            self.timestamp.put(buf, form)?;
            self.offset.put(buf, form)?;
            if version >= 4 {
                self.leader_epoch.put(buf, form)?;
            } else if self.leader_epoch != -1 {
                return not_in_version("leader_epoch", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            message.error_code = Value::take(buf, form)?;
            message.timestamp = Value::take(buf, form)?;
            message.offset = Value::take(buf, form)?;
            if version >= 4 {
                message.leader_epoch = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsTopicResponse {
        pub name: TopicName,
        pub partitions: Vec<ListOffsetsPartitionResponse>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsTopicResponse {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsTopicResponse {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<ListOffsetsPartitionResponse>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for ListOffsetsTopicResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.name.put(buf, form)?;
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.name = Value::take(buf, form)?;
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct ListOffsetsResponse {
        /// In versions >= 2.
        pub throttle_time_ms: i32,
        pub topics: Vec<ListOffsetsTopicResponse>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for ListOffsetsResponse {
        fn default() -> Self {
            Self {
                throttle_time_ms: Default::default(),
                topics: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl ListOffsetsResponse {
        pub fn with_throttle_time_ms(mut self, value: i32) -> Self {
            self.throttle_time_ms = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<ListOffsetsTopicResponse>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for ListOffsetsResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 2 {
                self.throttle_time_ms.put(buf, form)?;
            }
            self.topics.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 2 {
                message.throttle_time_ms = Value::take(buf, form)?;
            }
            message.topics = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for ListOffsetsResponse {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 11, 6)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for ListOffsetsResponse {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 11, 6)?)
        }
    }
}

/// OffsetCommitRequest, versions 2 to 10.
#[allow(unused_imports)]
pub mod offset_commit_request {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{GroupId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitRequestPartition {
        pub partition_index: i32,
        pub committed_offset: i64,
        /// In versions >= 6.
        pub committed_leader_epoch: i32,
        pub committed_metadata: Option<StrBytes>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitRequestPartition {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                committed_offset: Default::default(),
                committed_leader_epoch: -1,
                committed_metadata: Some(Default::default()),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitRequestPartition {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_committed_offset(mut self, value: i64) -> Self {
            self.committed_offset = value;
            self
        }
        pub fn with_committed_leader_epoch(mut self, value: i32) -> Self {
            self.committed_leader_epoch = value;
            self
        }
        pub fn with_committed_metadata(mut self, value: Option<StrBytes>) -> Self {
            self.committed_metadata = value;
            self
        }
    }

    impl Value for OffsetCommitRequestPartition {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.partition_index.put(buf, form)?;
            self.committed_offset.put(buf, form)?;
            if version >= 6 {
                self.committed_leader_epoch.put(buf, form)?;
            }
            self.committed_metadata.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            message.committed_offset = Value::take(buf, form)?;
            if version >= 6 {
                message.committed_leader_epoch = Value::take(buf, form)?;
            }
            message.committed_metadata = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitRequestTopic {
        /// In versions <= 9.
        pub name: TopicName,
        /// In versions >= 10.
        pub topic_id: Uuid,
        pub partitions: Vec<OffsetCommitRequestPartition>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitRequestTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                topic_id: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitRequestTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_topic_id(mut self, value: Uuid) -> Self {
            self.topic_id = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<OffsetCommitRequestPartition>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for OffsetCommitRequestTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 9 {
                self.name.put(buf, form)?;
            }
            if version >= 10 {
                self.topic_id.put(buf, form)?;
            }
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 9 {
                message.name = Value::take(buf, form)?;
            }
            if version >= 10 {
                message.topic_id = Value::take(buf, form)?;
            }
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitRequest {
        pub group_id: GroupId,
        pub generation_id_or_member_epoch: i32,
        pub member_id: StrBytes,
        /// In versions >= 7.
        pub group_instance_id: Option<StrBytes>,
        /// In versions <= 4.
        pub retention_time_ms: i64,
        pub topics: Vec<OffsetCommitRequestTopic>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitRequest {
        fn default() -> Self {
            Self {
                group_id: Default::default(),
                generation_id_or_member_epoch: -1,
                member_id: Default::default(),
                group_instance_id: None,
                retention_time_ms: -1,
                topics: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitRequest {
        pub fn with_group_id(mut self, value: GroupId) -> Self {
            self.group_id = value;
            self
        }
        pub fn with_generation_id_or_member_epoch(mut self, value: i32) -> Self {
            self.generation_id_or_member_epoch = value;
            self
        }
        pub fn with_member_id(mut self, value: StrBytes) -> Self {
            self.member_id = value;
            self
        }
        pub fn with_group_instance_id(mut self, value: Option<StrBytes>) -> Self {
            self.group_instance_id = value;
            self
        }
        pub fn with_retention_time_ms(mut self, value: i64) -> Self {
            self.retention_time_ms = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<OffsetCommitRequestTopic>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for OffsetCommitRequest {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.group_id.put(buf, form)?;
            self.generation_id_or_member_epoch.put(buf, form)?;
            self.member_id.put(buf, form)?;
            if version >= 7 {
                self.group_instance_id.put(buf, form)?;
            } else if self.group_instance_id != None {
                return not_in_version("group_instance_id", form);
            }
            if version <= 4 {
                self.retention_time_ms.put(buf, form)?;
            }
            self.topics.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.group_id = Value::take(buf, form)?;
            message.generation_id_or_member_epoch = Value::take(buf, form)?;
            message.member_id = Value::take(buf, form)?;
            if version >= 7 {
                message.group_instance_id = Value::take(buf, form)?;
            }
            if version <= 4 {
                message.retention_time_ms = Value::take(buf, form)?;
            }
            message.topics = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for OffsetCommitRequest {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 2, 10, 8)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for OffsetCommitRequest {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 2, 10, 8)?)
        }
    }
}

/// OffsetCommitResponse, versions 2 to 10.
#[allow(unused_imports)]
pub mod offset_commit_response {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use uuid::Uuid;

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitResponsePartition {
        pub partition_index: i32,
        pub error_code: i16,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitResponsePartition {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                error_code: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitResponsePartition {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
    }

    impl Value for OffsetCommitResponsePartition {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.partition_index.put(buf, form)?;
            self.error_code.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            message.error_code = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitResponseTopic {
        /// In versions <= 9.
        pub name: TopicName,
        /// In versions >= 10.
        pub topic_id: Uuid,
        pub partitions: Vec<OffsetCommitResponsePartition>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitResponseTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                topic_id: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitResponseTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_topic_id(mut self, value: Uuid) -> Self {
            self.topic_id = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<OffsetCommitResponsePartition>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for OffsetCommitResponseTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 9 {
                self.name.put(buf, form)?;
            }
            if version >= 10 {
                self.topic_id.put(buf, form)?;
            }
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 9 {
                message.name = Value::take(buf, form)?;
            }
            if version >= 10 {
                message.topic_id = Value::take(buf, form)?;
            }
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetCommitResponse {
        /// In versions >= 3.
        pub throttle_time_ms: i32,
        pub topics: Vec<OffsetCommitResponseTopic>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetCommitResponse {
        fn default() -> Self {
            Self {
                throttle_time_ms: Default::default(),
                topics: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetCommitResponse {
        pub fn with_throttle_time_ms(mut self, value: i32) -> Self {
            self.throttle_time_ms = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<OffsetCommitResponseTopic>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for OffsetCommitResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 3 {
                self.throttle_time_ms.put(buf, form)?;
            }
            self.topics.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 3 {
                message.throttle_time_ms = Value::take(buf, form)?;
            }
            message.topics = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for OffsetCommitResponse {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 2, 10, 8)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for OffsetCommitResponse {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 2, 10, 8)?)
        }
    }
}

/// OffsetFetchRequest, versions 1 to 10.
#[allow(unused_imports)]
pub mod offset_fetch_request {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{GroupId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchRequestTopic {
        /// In versions <= 7.
        pub name: TopicName,
        /// In versions <= 7.
        pub partition_indexes: Vec<i32>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchRequestTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partition_indexes: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchRequestTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partition_indexes(mut self, value: Vec<i32>) -> Self {
            self.partition_indexes = value;
            self
        }
    }

    impl Value for OffsetFetchRequestTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 7 {
                self.name.put(buf, form)?;
            } else if self.name != <TopicName>::default() {
                return not_in_version("name", form);
            }
            if version <= 7 {
                self.partition_indexes.put(buf, form)?;
            } else if self.partition_indexes != <Vec<i32>>::default() {
                return not_in_version("partition_indexes", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 7 {
                message.name = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.partition_indexes = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchRequestTopics {
        /// In versions >= 8, <= 9.
        pub name: TopicName,
        /// In versions >= 10.
        pub topic_id: Uuid,
        /// In versions >= 8.
        pub partition_indexes: Vec<i32>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchRequestTopics {
        fn default() -> Self {
            Self {
                name: Default::default(),
                topic_id: Default::default(),
                partition_indexes: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchRequestTopics {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_topic_id(mut self, value: Uuid) -> Self {
            self.topic_id = value;
            self
        }
        pub fn with_partition_indexes(mut self, value: Vec<i32>) -> Self {
            self.partition_indexes = value;
            self
        }
    }

    impl Value for OffsetFetchRequestTopics {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 8 && version <= 9 {
                self.name.put(buf, form)?;
            }
            if version >= 10 {
                self.topic_id.put(buf, form)?;
            }
            if version >= 8 {
                self.partition_indexes.put(buf, form)?;
            } else if self.partition_indexes != <Vec<i32>>::default() {
                return not_in_version("partition_indexes", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 8 && version <= 9 {
                message.name = Value::take(buf, form)?;
            }
            if version >= 10 {
                message.topic_id = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.partition_indexes = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchRequestGroup {
        /// In versions >= 8.
        pub group_id: GroupId,
        /// In versions >= 9.
        pub member_id: Option<StrBytes>,
        /// In versions >= 9.
        pub member_epoch: i32,
        /// In versions >= 8.
        pub topics: Option<Vec<OffsetFetchRequestTopics>>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchRequestGroup {
        fn default() -> Self {
            Self {
                group_id: Default::default(),
                member_id: None,
                member_epoch: -1,
                topics: Some(Default::default()),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchRequestGroup {
        pub fn with_group_id(mut self, value: GroupId) -> Self {
            self.group_id = value;
            self
        }
        pub fn with_member_id(mut self, value: Option<StrBytes>) -> Self {
            self.member_id = value;
            self
        }
        pub fn with_member_epoch(mut self, value: i32) -> Self {
            self.member_epoch = value;
            self
        }
        pub fn with_topics(mut self, value: Option<Vec<OffsetFetchRequestTopics>>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for OffsetFetchRequestGroup {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 8 {
                self.group_id.put(buf, form)?;
            } else if self.group_id != <GroupId>::default() {
                return not_in_version("group_id", form);
            }
            if version >= 9 {
                self.member_id.put(buf, form)?;
            }
            if version >= 9 {
                self.member_epoch.put(buf, form)?;
            }
            if version >= 8 {
                self.topics.put(buf, form)?;
            } else if self.topics != Some(Default::default()) {
                return not_in_version("topics", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 8 {
                message.group_id = Value::take(buf, form)?;
            }
            if version >= 9 {
                message.member_id = Value::take(buf, form)?;
            }
            if version >= 9 {
                message.member_epoch = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.topics = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchRequest {
        /// In versions <= 7.
        pub group_id: GroupId,
        /// In versions <= 7.
        pub topics: Option<Vec<OffsetFetchRequestTopic>>,
        /// In versions >= 8.
        pub groups: Vec<OffsetFetchRequestGroup>,
        /// In versions >= 7.
        pub require_stable: bool,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchRequest {
        fn default() -> Self {
            Self {
                group_id: Default::default(),
                topics: Some(Default::default()),
                groups: Default::default(),
                require_stable: false,
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchRequest {
        pub fn with_group_id(mut self, value: GroupId) -> Self {
            self.group_id = value;
            self
        }
        pub fn with_topics(mut self, value: Option<Vec<OffsetFetchRequestTopic>>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_groups(mut self, value: Vec<OffsetFetchRequestGroup>) -> Self {
            self.groups = value;
            self
        }
        pub fn with_require_stable(mut self, value: bool) -> Self {
            self.require_stable = value;
            self
        }
    }

    impl Value for OffsetFetchRequest {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 7 {
                self.group_id.put(buf, form)?;
            } else if self.group_id != <GroupId>::default() {
                return not_in_version("group_id", form);
            }
            if version <= 7 {
                self.topics.put(buf, form)?;
            } else if self.topics != Some(Default::default()) {
                return not_in_version("topics", form);
            }
            if version >= 8 {
                self.groups.put(buf, form)?;
            } else if self.groups != <Vec<OffsetFetchRequestGroup>>::default() {
                return not_in_version("groups", form);
            }
            if version >= 7 {
                self.require_stable.put(buf, form)?;
            } else if self.require_stable != false {
                return not_in_version("require_stable", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 7 {
                message.group_id = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.topics = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.groups = Value::take(buf, form)?;
            }
            if version >= 7 {
                message.require_stable = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for OffsetFetchRequest {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 10, 6)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for OffsetFetchRequest {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 10, 6)?)
        }
    }
}

/// OffsetFetchResponse, versions 1 to 10.
#[allow(unused_imports)]
pub mod offset_fetch_response {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{GroupId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponsePartition {
        /// In versions <= 7.
        pub partition_index: i32,
        /// In versions <= 7.
        pub committed_offset: i64,
        /// In versions >= 5, <= 7.
        pub committed_leader_epoch: i32,
        /// In versions <= 7.
        pub metadata: Option<StrBytes>,
        /// In versions <= 7.
        pub error_code: i16,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponsePartition {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                committed_offset: Default::default(),
                committed_leader_epoch: -1,
                metadata: Some(Default::default()),
                error_code: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponsePartition {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_committed_offset(mut self, value: i64) -> Self {
            self.committed_offset = value;
            self
        }
        pub fn with_committed_leader_epoch(mut self, value: i32) -> Self {
            self.committed_leader_epoch = value;
            self
        }
        pub fn with_metadata(mut self, value: Option<StrBytes>) -> Self {
            self.metadata = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
    }

    impl Value for OffsetFetchResponsePartition {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 7 {
                self.partition_index.put(buf, form)?;
            } else if self.partition_index != <i32>::default() {
                return not_in_version("partition_index", form);
            }
            if version <= 7 {
                self.committed_offset.put(buf, form)?;
            } else if self.committed_offset != <i64>::default() {
                return not_in_version("committed_offset", form);
            }
            if version >= 5 && version <= 7 {
                self.committed_leader_epoch.put(buf, form)?;
            }
            if version <= 7 {
                self.metadata.put(buf, form)?;
            } else if self.metadata != Some(Default::default()) {
                return not_in_version("metadata", form);
            }
            if version <= 7 {
                self.error_code.put(buf, form)?;
            } else if self.error_code != <i16>::default() {
                return not_in_version("error_code", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 7 {
                message.partition_index = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.committed_offset = Value::take(buf, form)?;
            }
            if version >= 5 && version <= 7 {
                message.committed_leader_epoch = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.metadata = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.error_code = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponseTopic {
        /// In versions <= 7.
        pub name: TopicName,
        /// In versions <= 7.
        pub partitions: Vec<OffsetFetchResponsePartition>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponseTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponseTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<OffsetFetchResponsePartition>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for OffsetFetchResponseTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version <= 7 {
                self.name.put(buf, form)?;
            } else if self.name != <TopicName>::default() {
                return not_in_version("name", form);
            }
            if version <= 7 {
                self.partitions.put(buf, form)?;
            } else if self.partitions != <Vec<OffsetFetchResponsePartition>>::default() {
                return not_in_version("partitions", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version <= 7 {
                message.name = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.partitions = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponsePartitions {
        /// In versions >= 8.
        pub partition_index: i32,
        /// In versions >= 8.
        pub committed_offset: i64,
        /// In versions >= 8.
        pub committed_leader_epoch: i32,
        /// In versions >= 8.
        pub metadata: Option<StrBytes>,
        /// In versions >= 8.
        pub error_code: i16,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponsePartitions {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                committed_offset: Default::default(),
                committed_leader_epoch: -1,
                metadata: Some(Default::default()),
                error_code: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponsePartitions {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_committed_offset(mut self, value: i64) -> Self {
            self.committed_offset = value;
            self
        }
        pub fn with_committed_leader_epoch(mut self, value: i32) -> Self {
            self.committed_leader_epoch = value;
            self
        }
        pub fn with_metadata(mut self, value: Option<StrBytes>) -> Self {
            self.metadata = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
    }

    impl Value for OffsetFetchResponsePartitions {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 8 {
                self.partition_index.put(buf, form)?;
            } else if self.partition_index != <i32>::default() {
                return not_in_version("partition_index", form);
            }
            if version >= 8 {
                self.committed_offset.put(buf, form)?;
            } else if self.committed_offset != <i64>::default() {
                return not_in_version("committed_offset", form);
            }
            if version >= 8 {
                self.committed_leader_epoch.put(buf, form)?;
            }
            if version >= 8 {
                self.metadata.put(buf, form)?;
            } else if self.metadata != Some(Default::default()) {
                return not_in_version("metadata", form);
            }
            if version >= 8 {
                self.error_code.put(buf, form)?;
            } else if self.error_code != <i16>::default() {
                return not_in_version("error_code", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 8 {
                message.partition_index = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.committed_offset = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.committed_leader_epoch = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.metadata = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.error_code = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponseTopics {
        /// In versions >= 8, <= 9.
        pub name: TopicName,
        /// In versions >= 10.
        pub topic_id: Uuid,
        /// In versions >= 8.
        pub partitions: Vec<OffsetFetchResponsePartitions>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponseTopics {
        fn default() -> Self {
            Self {
                name: Default::default(),
                topic_id: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponseTopics {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_topic_id(mut self, value: Uuid) -> Self {
            self.topic_id = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<OffsetFetchResponsePartitions>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for OffsetFetchResponseTopics {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 8 && version <= 9 {
                self.name.put(buf, form)?;
            }
            if version >= 10 {
                self.topic_id.put(buf, form)?;
            }
            if version >= 8 {
                self.partitions.put(buf, form)?;
            } else if self.partitions != <Vec<OffsetFetchResponsePartitions>>::default() {
                return not_in_version("partitions", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 8 && version <= 9 {
                message.name = Value::take(buf, form)?;
            }
            if version >= 10 {
                message.topic_id = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.partitions = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponseGroup {
        /// In versions >= 8.
        pub group_id: GroupId,
        /// In versions >= 8.
        pub topics: Vec<OffsetFetchResponseTopics>,
        /// In versions >= 8.
        pub error_code: i16,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponseGroup {
        fn default() -> Self {
            Self {
                group_id: Default::default(),
                topics: Default::default(),
                error_code: 0,
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponseGroup {
        pub fn with_group_id(mut self, value: GroupId) -> Self {
            self.group_id = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<OffsetFetchResponseTopics>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
    }

    impl Value for OffsetFetchResponseGroup {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 8 {
                self.group_id.put(buf, form)?;
            } else if self.group_id != <GroupId>::default() {
                return not_in_version("group_id", form);
            }
            if version >= 8 {
                self.topics.put(buf, form)?;
            } else if self.topics != <Vec<OffsetFetchResponseTopics>>::default() {
                return not_in_version("topics", form);
            }
            if version >= 8 {
                self.error_code.put(buf, form)?;
            } else if self.error_code != 0 {
                return not_in_version("error_code", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 8 {
                message.group_id = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.topics = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.error_code = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct OffsetFetchResponse {
        /// In versions >= 3.
        pub throttle_time_ms: i32,
        /// In versions <= 7.
        pub topics: Vec<OffsetFetchResponseTopic>,
        /// In versions >= 2, <= 7.
        pub error_code: i16,
        /// In versions >= 8.
        pub groups: Vec<OffsetFetchResponseGroup>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for OffsetFetchResponse {
        fn default() -> Self {
            Self {
                throttle_time_ms: Default::default(),
                topics: Default::default(),
                error_code: 0,
                groups: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl OffsetFetchResponse {
        pub fn with_throttle_time_ms(mut self, value: i32) -> Self {
            self.throttle_time_ms = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<OffsetFetchResponseTopic>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
        pub fn with_groups(mut self, value: Vec<OffsetFetchResponseGroup>) -> Self {
            self.groups = value;
            self
        }
    }

    impl Value for OffsetFetchResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            if version >= 3 {
                self.throttle_time_ms.put(buf, form)?;
            }
            if version <= 7 {
                self.topics.put(buf, form)?;
            } else if self.topics != <Vec<OffsetFetchResponseTopic>>::default() {
                return not_in_version("topics", form);
            }
            if version >= 2 && version <= 7 {
                self.error_code.put(buf, form)?;
            }
            if version >= 8 {
                self.groups.put(buf, form)?;
            } else if self.groups != <Vec<OffsetFetchResponseGroup>>::default() {
                return not_in_version("groups", form);
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            if version >= 3 {
                message.throttle_time_ms = Value::take(buf, form)?;
            }
            if version <= 7 {
                message.topics = Value::take(buf, form)?;
            }
            if version >= 2 && version <= 7 {
                message.error_code = Value::take(buf, form)?;
            }
            if version >= 8 {
                message.groups = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for OffsetFetchResponse {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 10, 6)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for OffsetFetchResponse {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 10, 6)?)
        }
    }
}

/// WriteTxnMarkersRequest, versions 1 to 2.
#[allow(unused_imports)]
pub mod write_txn_markers_request {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{ProducerId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WritableTxnMarkerTopic {
        pub name: TopicName,
        pub partition_indexes: Vec<i32>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WritableTxnMarkerTopic {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partition_indexes: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WritableTxnMarkerTopic {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partition_indexes(mut self, value: Vec<i32>) -> Self {
            self.partition_indexes = value;
            self
        }
    }

    impl Value for WritableTxnMarkerTopic {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.name.put(buf, form)?;
            self.partition_indexes.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.name = Value::take(buf, form)?;
            message.partition_indexes = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WritableTxnMarker {
        pub producer_id: ProducerId,
        pub producer_epoch: i16,
        pub transaction_result: bool,
        pub topics: Vec<WritableTxnMarkerTopic>,
        pub coordinator_epoch: i32,
        /// In versions >= 2.
        pub transaction_version: i8,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WritableTxnMarker {
        fn default() -> Self {
            Self {
                producer_id: Default::default(),
                producer_epoch: Default::default(),
                transaction_result: Default::default(),
                topics: Default::default(),
                coordinator_epoch: Default::default(),
                transaction_version: 0,
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WritableTxnMarker {
        pub fn with_producer_id(mut self, value: ProducerId) -> Self {
            self.producer_id = value;
            self
        }
        pub fn with_producer_epoch(mut self, value: i16) -> Self {
            self.producer_epoch = value;
            self
        }
        pub fn with_transaction_result(mut self, value: bool) -> Self {
            self.transaction_result = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<WritableTxnMarkerTopic>) -> Self {
            self.topics = value;
            self
        }
        pub fn with_coordinator_epoch(mut self, value: i32) -> Self {
            self.coordinator_epoch = value;
            self
        }
        pub fn with_transaction_version(mut self, value: i8) -> Self {
            self.transaction_version = value;
            self
        }
    }

    impl Value for WritableTxnMarker {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            let version = form.version;
            self.producer_id.put(buf, form)?;
            self.producer_epoch.put(buf, form)?;
            self.transaction_result.put(buf, form)?;
            self.topics.put(buf, form)?;
            self.coordinator_epoch.put(buf, form)?;
            if version >= 2 {
                self.transaction_version.put(buf, form)?;
            }
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let version = form.version;
            let mut message = Self::default();
            message.producer_id = Value::take(buf, form)?;
            message.producer_epoch = Value::take(buf, form)?;
            message.transaction_result = Value::take(buf, form)?;
            message.topics = Value::take(buf, form)?;
            message.coordinator_epoch = Value::take(buf, form)?;
            if version >= 2 {
                message.transaction_version = Value::take(buf, form)?;
            }
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WriteTxnMarkersRequest {
        pub markers: Vec<WritableTxnMarker>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WriteTxnMarkersRequest {
        fn default() -> Self {
            Self {
                markers: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WriteTxnMarkersRequest {
        pub fn with_markers(mut self, value: Vec<WritableTxnMarker>) -> Self {
            self.markers = value;
            self
        }
    }

    impl Value for WriteTxnMarkersRequest {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.markers.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.markers = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for WriteTxnMarkersRequest {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 2, 1)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for WriteTxnMarkersRequest {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 2, 1)?)
        }
    }
}

/// WriteTxnMarkersResponse, versions 1 to 2.
#[allow(unused_imports)]
pub mod write_txn_markers_response {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use kafka_protocol::messages::{ProducerId, TopicName};
    use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::super::value::{
        Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,
    };

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WritableTxnMarkerPartitionResult {
        pub partition_index: i32,
        pub error_code: i16,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WritableTxnMarkerPartitionResult {
        fn default() -> Self {
            Self {
                partition_index: Default::default(),
                error_code: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WritableTxnMarkerPartitionResult {
        pub fn with_partition_index(mut self, value: i32) -> Self {
            self.partition_index = value;
            self
        }
        pub fn with_error_code(mut self, value: i16) -> Self {
            self.error_code = value;
            self
        }
    }

    impl Value for WritableTxnMarkerPartitionResult {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.partition_index.put(buf, form)?;
            self.error_code.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.partition_index = Value::take(buf, form)?;
            message.error_code = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WritableTxnMarkerTopicResult {
        pub name: TopicName,
        pub partitions: Vec<WritableTxnMarkerPartitionResult>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WritableTxnMarkerTopicResult {
        fn default() -> Self {
            Self {
                name: Default::default(),
                partitions: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WritableTxnMarkerTopicResult {
        pub fn with_name(mut self, value: TopicName) -> Self {
            self.name = value;
            self
        }
        pub fn with_partitions(mut self, value: Vec<WritableTxnMarkerPartitionResult>) -> Self {
            self.partitions = value;
            self
        }
    }

    impl Value for WritableTxnMarkerTopicResult {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.name.put(buf, form)?;
            self.partitions.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.name = Value::take(buf, form)?;
            message.partitions = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WritableTxnMarkerResult {
        pub producer_id: ProducerId,
        pub topics: Vec<WritableTxnMarkerTopicResult>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WritableTxnMarkerResult {
        fn default() -> Self {
            Self {
                producer_id: Default::default(),
                topics: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WritableTxnMarkerResult {
        pub fn with_producer_id(mut self, value: ProducerId) -> Self {
            self.producer_id = value;
            self
        }
        pub fn with_topics(mut self, value: Vec<WritableTxnMarkerTopicResult>) -> Self {
            self.topics = value;
            self
        }
    }

    impl Value for WritableTxnMarkerResult {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.producer_id.put(buf, form)?;
            self.topics.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.producer_id = Value::take(buf, form)?;
            message.topics = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub struct WriteTxnMarkersResponse {
        pub markers: Vec<WritableTxnMarkerResult>,
        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
    }

    impl Default for WriteTxnMarkersResponse {
        fn default() -> Self {
            Self {
                markers: Default::default(),
                unknown_tagged_fields: BTreeMap::new(),
            }
        }
    }

    impl WriteTxnMarkersResponse {
        pub fn with_markers(mut self, value: Vec<WritableTxnMarkerResult>) -> Self {
            self.markers = value;
            self
        }
    }

    impl Value for WriteTxnMarkersResponse {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {
            self.markers.put(buf, form)?;
            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {
            let mut message = Self::default();
            message.markers = Value::take(buf, form)?;
            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;
            Ok(message)
        }
    }

    impl Encodable for WriteTxnMarkersResponse {
        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
            self.put(buf, form(version, 1, 2, 1)?)
        }

        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
            encoded_size(self, version)
        }
    }

    impl Decodable for WriteTxnMarkersResponse {
        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
            Self::take(buf, form(version, 1, 2, 1)?)
        }
    }
}
