//! The requests' shapes, for [`super::check`]: the fields of every request that is served, in
//! the order they have on the wire, with the versions they are in.
//!
//! The versions are those that the decoder of kafka-protocol 0.18 knows; fields, types and where
//! null is allowed are those of Kafka 4.3's own schemas (the message definitions in JSON).

use Kind::{Array, Bool, Bytes, Int8, Int16, Int32, Int64, String, Struct, Uuid};

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uuid,
    String,
    Bytes,
    Array(&'static Kind),
    Struct(&'static [Field]),
}

/// One field of a request, or of a structure inside of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Kafka's name for it, for error messages.
    pub name: &'static str,
    pub kind: Kind,
    /// The first version that has the field.
    since: i16,
    /// The last version that has the field.
    until: i16,
    /// The first version in which it may be null.
    null_since: i16,
    /// Its number, for a field that stands among the tagged ones (KIP-482).
    pub tag: Option<u32>,
}

/// A version that no request reaches.
const NEVER: i16 = i16::MAX;

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: NEVER, null_since: NEVER, tag: None }
}

impl Field {
    const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    const fn null_since(mut self, version: i16) -> Self {
        self.null_since = version;
        self
    }

    const fn tag(mut self, number: u32) -> Self {
        self.tag = Some(number);
        self
    }

    #[inline]
    pub fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    #[inline]
    pub fn may_be_null(&self, version: i16) -> bool {
        self.null_since <= version
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Api {
    pub key: i16,
    /// The first and the last version the decoder knows.
    pub versions: (i16, i16),
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_since: i16,
    pub fields: &'static [Field],
}

/// Finds the request of an API key.
#[inline]
pub(super) fn find(api_key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == api_key)
}

/// The requests in the order of their keys. Produce is not among them: see [`super::check`].
pub(super) static APIS: &[Api] = &[
    Api { key: 1, versions: (4, 18), flexible_since: 12, fields: FETCH },
    Api { key: 2, versions: (1, 10), flexible_since: 6, fields: LIST_OFFSETS },
    Api { key: 3, versions: (0, 13), flexible_since: 9, fields: METADATA },
    Api { key: 8, versions: (2, 9), flexible_since: 8, fields: OFFSET_COMMIT },
    Api { key: 9, versions: (1, 9), flexible_since: 6, fields: OFFSET_FETCH },
    Api { key: 10, versions: (0, 6), flexible_since: 3, fields: FIND_COORDINATOR },
    Api { key: 11, versions: (0, 9), flexible_since: 6, fields: JOIN_GROUP },
    Api { key: 12, versions: (0, 4), flexible_since: 4, fields: HEARTBEAT },
    Api { key: 13, versions: (0, 5), flexible_since: 4, fields: LEAVE_GROUP },
    Api { key: 14, versions: (0, 5), flexible_since: 4, fields: SYNC_GROUP },
    Api { key: 15, versions: (0, 6), flexible_since: 5, fields: DESCRIBE_GROUPS },
    Api { key: 16, versions: (0, 5), flexible_since: 3, fields: LIST_GROUPS },
    Api { key: 18, versions: (0, 4), flexible_since: 3, fields: API_VERSIONS },
    Api { key: 19, versions: (2, 7), flexible_since: 5, fields: CREATE_TOPICS },
    Api { key: 20, versions: (1, 6), flexible_since: 4, fields: DELETE_TOPICS },
    Api { key: 21, versions: (0, 2), flexible_since: 2, fields: DELETE_RECORDS },
    Api { key: 22, versions: (0, 5), flexible_since: 2, fields: INIT_PRODUCER_ID },
    Api { key: 23, versions: (2, 4), flexible_since: 4, fields: OFFSET_FOR_LEADER_EPOCH },
    Api { key: 32, versions: (1, 4), flexible_since: 4, fields: DESCRIBE_CONFIGS },
    Api { key: 33, versions: (0, 2), flexible_since: 2, fields: ALTER_CONFIGS },
    Api { key: 35, versions: (1, 4), flexible_since: 2, fields: DESCRIBE_LOG_DIRS },
    Api { key: 37, versions: (0, 3), flexible_since: 2, fields: CREATE_PARTITIONS },
    Api { key: 42, versions: (0, 2), flexible_since: 2, fields: DELETE_GROUPS },
    Api { key: 44, versions: (0, 1), flexible_since: 1, fields: INCREMENTAL_ALTER_CONFIGS },
    Api { key: 47, versions: (0, 0), flexible_since: NEVER, fields: OFFSET_DELETE },
    Api { key: 55, versions: (0, 2), flexible_since: 0, fields: DESCRIBE_QUORUM },
    Api { key: 60, versions: (0, 2), flexible_since: 0, fields: DESCRIBE_CLUSTER },
    Api { key: 61, versions: (0, 0), flexible_since: 0, fields: DESCRIBE_PRODUCERS },
    Api { key: 68, versions: (0, 1), flexible_since: 0, fields: CONSUMER_GROUP_HEARTBEAT },
    Api { key: 69, versions: (0, 1), flexible_since: 0, fields: CONSUMER_GROUP_DESCRIBE },
    Api { key: 74, versions: (0, 1), flexible_since: 0, fields: LIST_CONFIG_RESOURCES },
    Api { key: 75, versions: (0, 0), flexible_since: 0, fields: DESCRIBE_TOPIC_PARTITIONS },
];

const FETCH_PARTITION: &[Field] = &[
    field("partition", Int32),
    field("current_leader_epoch", Int32).since(9),
    field("fetch_offset", Int64),
    field("last_fetched_epoch", Int32).since(12),
    field("log_start_offset", Int64).since(5),
    field("partition_max_bytes", Int32),
    field("replica_directory_id", Uuid).since(17).tag(0),
    field("high_watermark", Int64).since(18).tag(1),
];

const FETCH_TOPIC: &[Field] = &[
    field("topic", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Struct(FETCH_PARTITION))),
];

const FETCH_FORGOTTEN_TOPIC: &[Field] = &[
    field("topic", String).since(7).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Int32)).since(7),
];

const FETCH_REPLICA_STATE: &[Field] =
    &[field("replica_id", Int32).since(15), field("replica_epoch", Int64).since(15)];

const FETCH: &[Field] = &[
    field("replica_id", Int32).until(14),
    field("max_wait_ms", Int32),
    field("min_bytes", Int32),
    field("max_bytes", Int32),
    field("isolation_level", Int8),
    field("session_id", Int32).since(7),
    field("session_epoch", Int32).since(7),
    field("topics", Array(&Struct(FETCH_TOPIC))),
    field("forgotten_topics_data", Array(&Struct(FETCH_FORGOTTEN_TOPIC))).since(7),
    field("rack_id", String).since(11),
    field("cluster_id", String).since(12).null_since(12).tag(0),
    field("replica_state", Struct(FETCH_REPLICA_STATE)).since(15).tag(1),
];

const LIST_OFFSETS_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("current_leader_epoch", Int32).since(4),
    field("timestamp", Int64),
];

const LIST_OFFSETS_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(LIST_OFFSETS_PARTITION)))];

const LIST_OFFSETS: &[Field] = &[
    field("replica_id", Int32),
    field("isolation_level", Int8).since(2),
    field("topics", Array(&Struct(LIST_OFFSETS_TOPIC))),
    field("timeout_ms", Int32).since(10),
];

const METADATA_REQUEST_TOPIC: &[Field] =
    &[field("topic_id", Uuid).since(10), field("name", String).null_since(10)];

const METADATA: &[Field] = &[
    field("topics", Array(&Struct(METADATA_REQUEST_TOPIC))).null_since(1),
    field("allow_auto_topic_creation", Bool).since(4),
    field("include_cluster_authorized_operations", Bool).since(8).until(10),
    field("include_topic_authorized_operations", Bool).since(8),
];

const OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("committed_offset", Int64),
    field("committed_leader_epoch", Int32).since(6),
    field("committed_metadata", String).null_since(2),
];

const OFFSET_COMMIT_REQUEST_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(OFFSET_COMMIT_REQUEST_PARTITION)))];

const OFFSET_COMMIT: &[Field] = &[
    field("group_id", String),
    field("generation_id_or_member_epoch", Int32),
    field("member_id", String),
    field("group_instance_id", String).since(7).null_since(7),
    field("retention_time_ms", Int64).until(4),
    field("topics", Array(&Struct(OFFSET_COMMIT_REQUEST_TOPIC))),
];

const OFFSET_FETCH_REQUEST_TOPIC: &[Field] =
    &[field("name", String).until(7), field("partition_indexes", Array(&Int32)).until(7)];

const OFFSET_FETCH_REQUEST_TOPICS: &[Field] =
    &[field("name", String).since(8), field("partition_indexes", Array(&Int32)).since(8)];

const OFFSET_FETCH_REQUEST_GROUP: &[Field] = &[
    field("group_id", String).since(8),
    field("member_id", String).since(9).null_since(9),
    field("member_epoch", Int32).since(9),
    field("topics", Array(&Struct(OFFSET_FETCH_REQUEST_TOPICS))).since(8).null_since(8),
];

const OFFSET_FETCH: &[Field] = &[
    field("group_id", String).until(7),
    field("topics", Array(&Struct(OFFSET_FETCH_REQUEST_TOPIC))).until(7).null_since(2),
    field("groups", Array(&Struct(OFFSET_FETCH_REQUEST_GROUP))).since(8),
    field("require_stable", Bool).since(7),
];

const FIND_COORDINATOR: &[Field] = &[
    field("key", String).until(3),
    field("key_type", Int8).since(1),
    field("coordinator_keys", Array(&String)).since(4),
];

const JOIN_GROUP_REQUEST_PROTOCOL: &[Field] = &[field("name", String), field("metadata", Bytes)];

const JOIN_GROUP: &[Field] = &[
    field("group_id", String),
    field("session_timeout_ms", Int32),
    field("rebalance_timeout_ms", Int32).since(1),
    field("member_id", String),
    field("group_instance_id", String).since(5).null_since(5),
    field("protocol_type", String),
    field("protocols", Array(&Struct(JOIN_GROUP_REQUEST_PROTOCOL))),
    field("reason", String).since(8).null_since(8),
];

const HEARTBEAT: &[Field] = &[
    field("group_id", String),
    field("generation_id", Int32),
    field("member_id", String),
    field("group_instance_id", String).since(3).null_since(3),
];

const LEAVE_GROUP_MEMBER_IDENTITY: &[Field] = &[
    field("member_id", String).since(3),
    field("group_instance_id", String).since(3).null_since(3),
    field("reason", String).since(5).null_since(5),
];

const LEAVE_GROUP: &[Field] = &[
    field("group_id", String),
    field("member_id", String).until(2),
    field("members", Array(&Struct(LEAVE_GROUP_MEMBER_IDENTITY))).since(3),
];

const SYNC_GROUP_REQUEST_ASSIGNMENT: &[Field] = &[field("member_id", String), field("assignment", Bytes)];

const SYNC_GROUP: &[Field] = &[
    field("group_id", String),
    field("generation_id", Int32),
    field("member_id", String),
    field("group_instance_id", String).since(3).null_since(3),
    field("protocol_type", String).since(5).null_since(5),
    field("protocol_name", String).since(5).null_since(5),
    field("assignments", Array(&Struct(SYNC_GROUP_REQUEST_ASSIGNMENT))),
];

const DESCRIBE_GROUPS: &[Field] =
    &[field("groups", Array(&String)), field("include_authorized_operations", Bool).since(3)];

const LIST_GROUPS: &[Field] =
    &[field("states_filter", Array(&String)).since(4), field("types_filter", Array(&String)).since(5)];

const API_VERSIONS: &[Field] =
    &[field("client_software_name", String).since(3), field("client_software_version", String).since(3)];

const CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT: &[Field] =
    &[field("partition_index", Int32), field("broker_ids", Array(&Int32))];

const CREATE_TOPICS_CREATABLE_TOPIC_CONFIG: &[Field] =
    &[field("name", String), field("value", String).null_since(2)];

const CREATE_TOPICS_CREATABLE_TOPIC: &[Field] = &[
    field("name", String),
    field("num_partitions", Int32),
    field("replication_factor", Int16),
    field("assignments", Array(&Struct(CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT))),
    field("configs", Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC_CONFIG))),
];

const CREATE_TOPICS: &[Field] = &[
    field("topics", Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC))),
    field("timeout_ms", Int32),
    field("validate_only", Bool),
];

const DELETE_TOPICS_DELETE_TOPIC_STATE: &[Field] =
    &[field("name", String).since(6).null_since(6), field("topic_id", Uuid).since(6)];

const DELETE_TOPICS: &[Field] = &[
    field("topics", Array(&Struct(DELETE_TOPICS_DELETE_TOPIC_STATE))).since(6),
    field("topic_names", Array(&String)).until(5),
    field("timeout_ms", Int32),
];

const DELETE_RECORDS_PARTITION: &[Field] = &[field("partition_index", Int32), field("offset", Int64)];

const DELETE_RECORDS_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(DELETE_RECORDS_PARTITION)))];

const DELETE_RECORDS: &[Field] =
    &[field("topics", Array(&Struct(DELETE_RECORDS_TOPIC))), field("timeout_ms", Int32)];

const INIT_PRODUCER_ID: &[Field] = &[
    field("transactional_id", String).null_since(0),
    field("transaction_timeout_ms", Int32),
    field("producer_id", Int64).since(3),
    field("producer_epoch", Int16).since(3),
];

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION: &[Field] =
    &[field("partition", Int32), field("current_leader_epoch", Int32), field("leader_epoch", Int32)];

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC: &[Field] = &[
    field("topic", String),
    field("partitions", Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION))),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    field("replica_id", Int32).since(3),
    field("topics", Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC))),
];

const LIST_CONFIG_RESOURCES: &[Field] = &[field("resource_types", Array(&Int8)).since(1)];

const DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configuration_keys", Array(&String)).null_since(1),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    field("resources", Array(&Struct(DESCRIBE_CONFIGS_RESOURCE))),
    field("include_synonyms", Bool),
    field("include_documentation", Bool).since(3),
];

const ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] =
    &[field("name", String), field("value", String).null_since(0)];

const ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configs", Array(&Struct(ALTER_CONFIGS_ALTERABLE_CONFIG))),
];

const ALTER_CONFIGS: &[Field] =
    &[field("resources", Array(&Struct(ALTER_CONFIGS_RESOURCE))), field("validate_only", Bool)];

const DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC: &[Field] =
    &[field("topic", String), field("partitions", Array(&Int32))];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[field("topics", Array(&Struct(DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC))).null_since(1)];

const CREATE_PARTITIONS_ASSIGNMENT: &[Field] = &[field("broker_ids", Array(&Int32))];

const CREATE_PARTITIONS_TOPIC: &[Field] = &[
    field("name", String),
    field("count", Int32),
    field("assignments", Array(&Struct(CREATE_PARTITIONS_ASSIGNMENT))).null_since(0),
];

const CREATE_PARTITIONS: &[Field] = &[
    field("topics", Array(&Struct(CREATE_PARTITIONS_TOPIC))),
    field("timeout_ms", Int32),
    field("validate_only", Bool),
];

const DELETE_GROUPS: &[Field] = &[field("groups_names", Array(&String))];

const INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] =
    &[field("name", String), field("config_operation", Int8), field("value", String).null_since(0)];

const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configs", Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG))),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    field("resources", Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE))),
    field("validate_only", Bool),
];

const OFFSET_DELETE_REQUEST_PARTITION: &[Field] = &[field("partition_index", Int32)];

const OFFSET_DELETE_REQUEST_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(OFFSET_DELETE_REQUEST_PARTITION)))];

const OFFSET_DELETE: &[Field] =
    &[field("group_id", String), field("topics", Array(&Struct(OFFSET_DELETE_REQUEST_TOPIC)))];

const DESCRIBE_QUORUM_PARTITION_DATA: &[Field] = &[field("partition_index", Int32)];

const DESCRIBE_QUORUM_TOPIC_DATA: &[Field] =
    &[field("topic_name", String), field("partitions", Array(&Struct(DESCRIBE_QUORUM_PARTITION_DATA)))];

const DESCRIBE_QUORUM: &[Field] = &[field("topics", Array(&Struct(DESCRIBE_QUORUM_TOPIC_DATA)))];

const DESCRIBE_CLUSTER: &[Field] = &[
    field("include_cluster_authorized_operations", Bool),
    field("endpoint_type", Int8).since(1),
    field("include_fenced_brokers", Bool).since(2),
];

const DESCRIBE_PRODUCERS_TOPIC_REQUEST: &[Field] =
    &[field("name", String), field("partition_indexes", Array(&Int32))];

const DESCRIBE_PRODUCERS: &[Field] = &[field("topics", Array(&Struct(DESCRIBE_PRODUCERS_TOPIC_REQUEST)))];

const CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS: &[Field] =
    &[field("topic_id", Uuid), field("partitions", Array(&Int32))];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    field("group_id", String),
    field("member_id", String),
    field("member_epoch", Int32),
    field("instance_id", String).null_since(0),
    field("rack_id", String).null_since(0),
    field("rebalance_timeout_ms", Int32),
    field("subscribed_topic_names", Array(&String)).null_since(0),
    field("subscribed_topic_regex", String).since(1).null_since(1),
    field("server_assignor", String).null_since(0),
    field("topic_partitions", Array(&Struct(CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS))).null_since(0),
];

const CONSUMER_GROUP_DESCRIBE: &[Field] =
    &[field("group_ids", Array(&String)), field("include_authorized_operations", Bool)];

const DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST: &[Field] = &[field("name", String)];

const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] =
    &[field("topic_name", String), field("partition_index", Int32)];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("topics", Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST))),
    field("response_partition_limit", Int32),
    field("cursor", Struct(DESCRIBE_TOPIC_PARTITIONS_CURSOR)).null_since(0),
];
