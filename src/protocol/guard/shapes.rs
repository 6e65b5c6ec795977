//! The shape of every request that Kafka 4.3.0 has, with Kafka's own names.
//!
//! Generated from the message definitions in Kafka's jar: `compat-tests/message_definitions.py --update`.

use super::schema::Kind::{Array, Bool, Bytes, Int8, Int16, Int32, Int64, String, Struct, Uuid};
use super::schema::{Field, NEVER, Shape, field};

/// In the order of their keys.
pub static ALL: &[&Shape] = &[
    &PRODUCE,
    &FETCH,
    &LIST_OFFSETS,
    &METADATA,
    &OFFSET_COMMIT,
    &OFFSET_FETCH,
    &FIND_COORDINATOR,
    &JOIN_GROUP,
    &HEARTBEAT,
    &LEAVE_GROUP,
    &SYNC_GROUP,
    &DESCRIBE_GROUPS,
    &LIST_GROUPS,
    &SASL_HANDSHAKE,
    &API_VERSIONS,
    &CREATE_TOPICS,
    &DELETE_TOPICS,
    &DELETE_RECORDS,
    &INIT_PRODUCER_ID,
    &OFFSET_FOR_LEADER_EPOCH,
    &ADD_PARTITIONS_TO_TXN,
    &ADD_OFFSETS_TO_TXN,
    &END_TXN,
    &WRITE_TXN_MARKERS,
    &TXN_OFFSET_COMMIT,
    &DESCRIBE_ACLS,
    &CREATE_ACLS,
    &DELETE_ACLS,
    &DESCRIBE_CONFIGS,
    &ALTER_CONFIGS,
    &ALTER_REPLICA_LOG_DIRS,
    &DESCRIBE_LOG_DIRS,
    &SASL_AUTHENTICATE,
    &CREATE_PARTITIONS,
    &CREATE_DELEGATION_TOKEN,
    &RENEW_DELEGATION_TOKEN,
    &EXPIRE_DELEGATION_TOKEN,
    &DESCRIBE_DELEGATION_TOKEN,
    &DELETE_GROUPS,
    &ELECT_LEADERS,
    &INCREMENTAL_ALTER_CONFIGS,
    &ALTER_PARTITION_REASSIGNMENTS,
    &LIST_PARTITION_REASSIGNMENTS,
    &OFFSET_DELETE,
    &DESCRIBE_CLIENT_QUOTAS,
    &ALTER_CLIENT_QUOTAS,
    &DESCRIBE_USER_SCRAM_CREDENTIALS,
    &ALTER_USER_SCRAM_CREDENTIALS,
    &VOTE,
    &BEGIN_QUORUM_EPOCH,
    &END_QUORUM_EPOCH,
    &DESCRIBE_QUORUM,
    &ALTER_PARTITION,
    &UPDATE_FEATURES,
    &ENVELOPE,
    &FETCH_SNAPSHOT,
    &DESCRIBE_CLUSTER,
    &DESCRIBE_PRODUCERS,
    &BROKER_REGISTRATION,
    &BROKER_HEARTBEAT,
    &UNREGISTER_BROKER,
    &DESCRIBE_TRANSACTIONS,
    &LIST_TRANSACTIONS,
    &ALLOCATE_PRODUCER_IDS,
    &CONSUMER_GROUP_HEARTBEAT,
    &CONSUMER_GROUP_DESCRIBE,
    &CONTROLLER_REGISTRATION,
    &GET_TELEMETRY_SUBSCRIPTIONS,
    &PUSH_TELEMETRY,
    &ASSIGN_REPLICAS_TO_DIRS,
    &LIST_CONFIG_RESOURCES,
    &DESCRIBE_TOPIC_PARTITIONS,
    &SHARE_GROUP_HEARTBEAT,
    &SHARE_GROUP_DESCRIBE,
    &SHARE_FETCH,
    &SHARE_ACKNOWLEDGE,
    &ADD_RAFT_VOTER,
    &REMOVE_RAFT_VOTER,
    &UPDATE_RAFT_VOTER,
    &INITIALIZE_SHARE_GROUP_STATE,
    &READ_SHARE_GROUP_STATE,
    &WRITE_SHARE_GROUP_STATE,
    &DELETE_SHARE_GROUP_STATE,
    &READ_SHARE_GROUP_STATE_SUMMARY,
    &STREAMS_GROUP_HEARTBEAT,
    &STREAMS_GROUP_DESCRIBE,
    &DESCRIBE_SHARE_GROUP_OFFSETS,
    &ALTER_SHARE_GROUP_OFFSETS,
    &DELETE_SHARE_GROUP_OFFSETS,
];

/// The request of an API.
pub fn find(api_key: i16) -> Option<&'static Shape> {
    let found = ALL.binary_search_by_key(&api_key, |shape| shape.key).ok()?;
    ALL.get(found).copied()
}

pub static PRODUCE: Shape = Shape {
    key: 0, name: "Produce", versions: (3, 13), last_stable: 13,
    flexible_since: 9, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_id", String).since(3).null_since(3),
        field("acks", Int16),
        field("timeout_ms", Int32),
        field("topic_data", Array(&Struct(PRODUCE_TOPIC_PRODUCE_DATA))),
    ],
};

const PRODUCE_PARTITION_PRODUCE_DATA: &[Field] = &[
    field("index", Int32),
    field("records", Bytes).null_since(0),
];

const PRODUCE_TOPIC_PRODUCE_DATA: &[Field] = &[
    field("name", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partition_data", Array(&Struct(PRODUCE_PARTITION_PRODUCE_DATA))),
];

pub static FETCH: Shape = Shape {
    key: 1, name: "Fetch", versions: (4, 18), last_stable: 18,
    flexible_since: 12, on_brokers: true, on_controllers: true,
    fields: &[
        field("cluster_id", String).since(12).null_since(12).tag(0),
        field("replica_id", Int32).until(14),
        field("replica_state", Struct(FETCH_REPLICA_STATE)).since(15).tag(1),
        field("max_wait_ms", Int32),
        field("min_bytes", Int32),
        field("max_bytes", Int32).since(3),
        field("isolation_level", Int8).since(4),
        field("session_id", Int32).since(7),
        field("session_epoch", Int32).since(7),
        field("topics", Array(&Struct(FETCH_FETCH_TOPIC))),
        field("forgotten_topics_data", Array(&Struct(FETCH_FORGOTTEN_TOPIC))).since(7),
        field("rack_id", String).since(11),
    ],
};

const FETCH_REPLICA_STATE: &[Field] = &[
    field("replica_id", Int32).since(15),
    field("replica_epoch", Int64).since(15),
];

const FETCH_FETCH_PARTITION: &[Field] = &[
    field("partition", Int32),
    field("current_leader_epoch", Int32).since(9),
    field("fetch_offset", Int64),
    field("last_fetched_epoch", Int32).since(12),
    field("log_start_offset", Int64).since(5),
    field("partition_max_bytes", Int32),
    field("replica_directory_id", Uuid).since(17).tag(0),
    field("high_watermark", Int64).since(18).tag(1),
];

const FETCH_FETCH_TOPIC: &[Field] = &[
    field("topic", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Struct(FETCH_FETCH_PARTITION))),
];

const FETCH_FORGOTTEN_TOPIC: &[Field] = &[
    field("topic", String).since(7).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Int32)).since(7),
];

pub static LIST_OFFSETS: Shape = Shape {
    key: 2, name: "ListOffsets", versions: (1, 11), last_stable: 11,
    flexible_since: 6, on_brokers: true, on_controllers: false,
    fields: &[
        field("replica_id", Int32),
        field("isolation_level", Int8).since(2),
        field("topics", Array(&Struct(LIST_OFFSETS_LIST_OFFSETS_TOPIC))),
        field("timeout_ms", Int32).since(10),
    ],
};

const LIST_OFFSETS_LIST_OFFSETS_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("current_leader_epoch", Int32).since(4),
    field("timestamp", Int64),
];

const LIST_OFFSETS_LIST_OFFSETS_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(LIST_OFFSETS_LIST_OFFSETS_PARTITION))),
];

pub static METADATA: Shape = Shape {
    key: 3, name: "Metadata", versions: (0, 13), last_stable: 13,
    flexible_since: 9, on_brokers: true, on_controllers: false,
    fields: &[
        field("topics", Array(&Struct(METADATA_METADATA_REQUEST_TOPIC))).null_since(1),
        field("allow_auto_topic_creation", Bool).since(4),
        field("include_cluster_authorized_operations", Bool).since(8).until(10),
        field("include_topic_authorized_operations", Bool).since(8),
    ],
};

const METADATA_METADATA_REQUEST_TOPIC: &[Field] = &[
    field("topic_id", Uuid).since(10),
    field("name", String).null_since(10),
];

pub static OFFSET_COMMIT: Shape = Shape {
    key: 8, name: "OffsetCommit", versions: (2, 10), last_stable: 10,
    flexible_since: 8, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("generation_id_or_member_epoch", Int32).since(1),
        field("member_id", String).since(1),
        field("group_instance_id", String).since(7).null_since(7),
        field("retention_time_ms", Int64).since(2).until(4),
        field("topics", Array(&Struct(OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
};

const OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("committed_offset", Int64),
    field("committed_leader_epoch", Int32).since(6),
    field("committed_metadata", String).null_since(0),
];

const OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", String).until(9),
    field("topic_id", Uuid).since(10),
    field("partitions", Array(&Struct(OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_PARTITION))),
];

pub static OFFSET_FETCH: Shape = Shape {
    key: 9, name: "OffsetFetch", versions: (1, 10), last_stable: 10,
    flexible_since: 6, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String).until(7),
        field("topics", Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPIC))).until(7).null_since(2),
        field("groups", Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_GROUP))).since(8),
        field("require_stable", Bool).since(7),
    ],
};

const OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPIC: &[Field] = &[
    field("name", String).until(7),
    field("partition_indexes", Array(&Int32)).until(7),
];

const OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPICS: &[Field] = &[
    field("name", String).since(8).until(9),
    field("topic_id", Uuid).since(10),
    field("partition_indexes", Array(&Int32)).since(8),
];

const OFFSET_FETCH_OFFSET_FETCH_REQUEST_GROUP: &[Field] = &[
    field("group_id", String).since(8),
    field("member_id", String).since(9).null_since(9),
    field("member_epoch", Int32).since(9),
    field("topics", Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPICS))).since(8).null_since(8),
];

pub static FIND_COORDINATOR: Shape = Shape {
    key: 10, name: "FindCoordinator", versions: (0, 6), last_stable: 6,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("key", String).until(3),
        field("key_type", Int8).since(1),
        field("coordinator_keys", Array(&String)).since(4),
    ],
};

pub static JOIN_GROUP: Shape = Shape {
    key: 11, name: "JoinGroup", versions: (0, 9), last_stable: 9,
    flexible_since: 6, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("session_timeout_ms", Int32),
        field("rebalance_timeout_ms", Int32).since(1),
        field("member_id", String),
        field("group_instance_id", String).since(5).null_since(5),
        field("protocol_type", String),
        field("protocols", Array(&Struct(JOIN_GROUP_JOIN_GROUP_REQUEST_PROTOCOL))),
        field("reason", String).since(8).null_since(8),
    ],
};

const JOIN_GROUP_JOIN_GROUP_REQUEST_PROTOCOL: &[Field] = &[
    field("name", String),
    field("metadata", Bytes),
];

pub static HEARTBEAT: Shape = Shape {
    key: 12, name: "Heartbeat", versions: (0, 4), last_stable: 4,
    flexible_since: 4, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("generation_id", Int32),
        field("member_id", String),
        field("group_instance_id", String).since(3).null_since(3),
    ],
};

pub static LEAVE_GROUP: Shape = Shape {
    key: 13, name: "LeaveGroup", versions: (0, 5), last_stable: 5,
    flexible_since: 4, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("member_id", String).until(2),
        field("members", Array(&Struct(LEAVE_GROUP_MEMBER_IDENTITY))).since(3),
    ],
};

const LEAVE_GROUP_MEMBER_IDENTITY: &[Field] = &[
    field("member_id", String).since(3),
    field("group_instance_id", String).since(3).null_since(3),
    field("reason", String).since(5).null_since(5),
];

pub static SYNC_GROUP: Shape = Shape {
    key: 14, name: "SyncGroup", versions: (0, 5), last_stable: 5,
    flexible_since: 4, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("generation_id", Int32),
        field("member_id", String),
        field("group_instance_id", String).since(3).null_since(3),
        field("protocol_type", String).since(5).null_since(5),
        field("protocol_name", String).since(5).null_since(5),
        field("assignments", Array(&Struct(SYNC_GROUP_SYNC_GROUP_REQUEST_ASSIGNMENT))),
    ],
};

const SYNC_GROUP_SYNC_GROUP_REQUEST_ASSIGNMENT: &[Field] = &[
    field("member_id", String),
    field("assignment", Bytes),
];

pub static DESCRIBE_GROUPS: Shape = Shape {
    key: 15, name: "DescribeGroups", versions: (0, 6), last_stable: 6,
    flexible_since: 5, on_brokers: true, on_controllers: false,
    fields: &[
        field("groups", Array(&String)),
        field("include_authorized_operations", Bool).since(3),
    ],
};

pub static LIST_GROUPS: Shape = Shape {
    key: 16, name: "ListGroups", versions: (0, 5), last_stable: 5,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("states_filter", Array(&String)).since(4),
        field("types_filter", Array(&String)).since(5),
    ],
};

pub static SASL_HANDSHAKE: Shape = Shape {
    key: 17, name: "SaslHandshake", versions: (0, 1), last_stable: 1,
    flexible_since: NEVER, on_brokers: true, on_controllers: true,
    fields: &[
        field("mechanism", String),
    ],
};

pub static API_VERSIONS: Shape = Shape {
    key: 18, name: "ApiVersions", versions: (0, 4), last_stable: 4,
    flexible_since: 3, on_brokers: true, on_controllers: true,
    fields: &[
        field("client_software_name", String).since(3),
        field("client_software_version", String).since(3),
    ],
};

pub static CREATE_TOPICS: Shape = Shape {
    key: 19, name: "CreateTopics", versions: (2, 7), last_stable: 7,
    flexible_since: 5, on_brokers: true, on_controllers: true,
    fields: &[
        field("topics", Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC))),
        field("timeout_ms", Int32),
        field("validate_only", Bool).since(1),
    ],
};

const CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT: &[Field] = &[
    field("partition_index", Int32),
    field("broker_ids", Array(&Int32)),
];

const CREATE_TOPICS_CREATABLE_TOPIC_CONFIG: &[Field] = &[
    field("name", String),
    field("value", String).null_since(0),
];

const CREATE_TOPICS_CREATABLE_TOPIC: &[Field] = &[
    field("name", String),
    field("num_partitions", Int32),
    field("replication_factor", Int16),
    field("assignments", Array(&Struct(CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT))),
    field("configs", Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC_CONFIG))),
];

pub static DELETE_TOPICS: Shape = Shape {
    key: 20, name: "DeleteTopics", versions: (1, 6), last_stable: 6,
    flexible_since: 4, on_brokers: true, on_controllers: true,
    fields: &[
        field("topics", Array(&Struct(DELETE_TOPICS_DELETE_TOPIC_STATE))).since(6),
        field("topic_names", Array(&String)).until(5),
        field("timeout_ms", Int32),
    ],
};

const DELETE_TOPICS_DELETE_TOPIC_STATE: &[Field] = &[
    field("name", String).since(6).null_since(6),
    field("topic_id", Uuid).since(6),
];

pub static DELETE_RECORDS: Shape = Shape {
    key: 21, name: "DeleteRecords", versions: (0, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: false,
    fields: &[
        field("topics", Array(&Struct(DELETE_RECORDS_DELETE_RECORDS_TOPIC))),
        field("timeout_ms", Int32),
    ],
};

const DELETE_RECORDS_DELETE_RECORDS_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("offset", Int64),
];

const DELETE_RECORDS_DELETE_RECORDS_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(DELETE_RECORDS_DELETE_RECORDS_PARTITION))),
];

pub static INIT_PRODUCER_ID: Shape = Shape {
    key: 22, name: "InitProducerId", versions: (0, 6), last_stable: 5,
    flexible_since: 2, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_id", String).null_since(0),
        field("transaction_timeout_ms", Int32),
        field("producer_id", Int64).since(3),
        field("producer_epoch", Int16).since(3),
        field("enable2_pc", Bool).since(6),
        field("keep_prepared_txn", Bool).since(6),
    ],
};

pub static OFFSET_FOR_LEADER_EPOCH: Shape = Shape {
    key: 23, name: "OffsetForLeaderEpoch", versions: (2, 4), last_stable: 4,
    flexible_since: 4, on_brokers: true, on_controllers: false,
    fields: &[
        field("replica_id", Int32).since(3),
        field("topics", Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC))),
    ],
};

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION: &[Field] = &[
    field("partition", Int32),
    field("current_leader_epoch", Int32).since(2),
    field("leader_epoch", Int32),
];

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC: &[Field] = &[
    field("topic", String),
    field("partitions", Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION))),
];

pub static ADD_PARTITIONS_TO_TXN: Shape = Shape {
    key: 24, name: "AddPartitionsToTxn", versions: (0, 5), last_stable: 5,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactions", Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TRANSACTION))).since(4),
        field("v3_and_below_transactional_id", String).until(3),
        field("v3_and_below_producer_id", Int64).until(3),
        field("v3_and_below_producer_epoch", Int16).until(3),
        field("v3_and_below_topics", Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC))).until(3),
    ],
};

const ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Int32)),
];

const ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TRANSACTION: &[Field] = &[
    field("transactional_id", String).since(4),
    field("producer_id", Int64).since(4),
    field("producer_epoch", Int16).since(4),
    field("verify_only", Bool).since(4),
    field("topics", Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC))).since(4),
];

pub static ADD_OFFSETS_TO_TXN: Shape = Shape {
    key: 25, name: "AddOffsetsToTxn", versions: (0, 4), last_stable: 4,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("group_id", String),
    ],
};

pub static END_TXN: Shape = Shape {
    key: 26, name: "EndTxn", versions: (0, 5), last_stable: 5,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("committed", Bool),
    ],
};

pub static WRITE_TXN_MARKERS: Shape = Shape {
    key: 27, name: "WriteTxnMarkers", versions: (1, 2), last_stable: 2,
    flexible_since: 1, on_brokers: true, on_controllers: false,
    fields: &[
        field("markers", Array(&Struct(WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER))),
    ],
};

const WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER_TOPIC: &[Field] = &[
    field("name", String),
    field("partition_indexes", Array(&Int32)),
];

const WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER: &[Field] = &[
    field("producer_id", Int64),
    field("producer_epoch", Int16),
    field("transaction_result", Bool),
    field("topics", Array(&Struct(WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER_TOPIC))),
    field("coordinator_epoch", Int32),
    field("transaction_version", Int8).since(2),
];

pub static TXN_OFFSET_COMMIT: Shape = Shape {
    key: 28, name: "TxnOffsetCommit", versions: (0, 5), last_stable: 5,
    flexible_since: 3, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_id", String),
        field("group_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("generation_id", Int32).since(3),
        field("member_id", String).since(3),
        field("group_instance_id", String).since(3).null_since(3),
        field("topics", Array(&Struct(TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
};

const TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("committed_offset", Int64),
    field("committed_leader_epoch", Int32).since(2),
    field("committed_metadata", String).null_since(0),
];

const TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_PARTITION))),
];

pub static DESCRIBE_ACLS: Shape = Shape {
    key: 29, name: "DescribeAcls", versions: (1, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("resource_type_filter", Int8),
        field("resource_name_filter", String).null_since(0),
        field("pattern_type_filter", Int8).since(1),
        field("principal_filter", String).null_since(0),
        field("host_filter", String).null_since(0),
        field("operation", Int8),
        field("permission_type", Int8),
    ],
};

pub static CREATE_ACLS: Shape = Shape {
    key: 30, name: "CreateAcls", versions: (1, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("creations", Array(&Struct(CREATE_ACLS_ACL_CREATION))),
    ],
};

const CREATE_ACLS_ACL_CREATION: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("resource_pattern_type", Int8).since(1),
    field("principal", String),
    field("host", String),
    field("operation", Int8),
    field("permission_type", Int8),
];

pub static DELETE_ACLS: Shape = Shape {
    key: 31, name: "DeleteAcls", versions: (1, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("filters", Array(&Struct(DELETE_ACLS_DELETE_ACLS_FILTER))),
    ],
};

const DELETE_ACLS_DELETE_ACLS_FILTER: &[Field] = &[
    field("resource_type_filter", Int8),
    field("resource_name_filter", String).null_since(0),
    field("pattern_type_filter", Int8).since(1),
    field("principal_filter", String).null_since(0),
    field("host_filter", String).null_since(0),
    field("operation", Int8),
    field("permission_type", Int8),
];

pub static DESCRIBE_CONFIGS: Shape = Shape {
    key: 32, name: "DescribeConfigs", versions: (1, 4), last_stable: 4,
    flexible_since: 4, on_brokers: true, on_controllers: true,
    fields: &[
        field("resources", Array(&Struct(DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE))),
        field("include_synonyms", Bool).since(1),
        field("include_documentation", Bool).since(3),
    ],
};

const DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configuration_keys", Array(&String)).null_since(0),
];

pub static ALTER_CONFIGS: Shape = Shape {
    key: 33, name: "AlterConfigs", versions: (0, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("resources", Array(&Struct(ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE))),
        field("validate_only", Bool),
    ],
};

const ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] = &[
    field("name", String),
    field("value", String).null_since(0),
];

const ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configs", Array(&Struct(ALTER_CONFIGS_ALTERABLE_CONFIG))),
];

pub static ALTER_REPLICA_LOG_DIRS: Shape = Shape {
    key: 34, name: "AlterReplicaLogDirs", versions: (1, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: false,
    fields: &[
        field("dirs", Array(&Struct(ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR))),
    ],
};

const ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Int32)),
];

const ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR: &[Field] = &[
    field("path", String),
    field("topics", Array(&Struct(ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR_TOPIC))),
];

pub static DESCRIBE_LOG_DIRS: Shape = Shape {
    key: 35, name: "DescribeLogDirs", versions: (1, 5), last_stable: 5,
    flexible_since: 2, on_brokers: true, on_controllers: false,
    fields: &[
        field("topics", Array(&Struct(DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC))).null_since(0),
    ],
};

const DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC: &[Field] = &[
    field("topic", String),
    field("partitions", Array(&Int32)),
];

pub static SASL_AUTHENTICATE: Shape = Shape {
    key: 36, name: "SaslAuthenticate", versions: (0, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("auth_bytes", Bytes),
    ],
};

pub static CREATE_PARTITIONS: Shape = Shape {
    key: 37, name: "CreatePartitions", versions: (0, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("topics", Array(&Struct(CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC))),
        field("timeout_ms", Int32),
        field("validate_only", Bool),
    ],
};

const CREATE_PARTITIONS_CREATE_PARTITIONS_ASSIGNMENT: &[Field] = &[
    field("broker_ids", Array(&Int32)),
];

const CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC: &[Field] = &[
    field("name", String),
    field("count", Int32),
    field("assignments", Array(&Struct(CREATE_PARTITIONS_CREATE_PARTITIONS_ASSIGNMENT))).null_since(0),
];

pub static CREATE_DELEGATION_TOKEN: Shape = Shape {
    key: 38, name: "CreateDelegationToken", versions: (1, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("owner_principal_type", String).since(3).null_since(3),
        field("owner_principal_name", String).since(3).null_since(3),
        field("renewers", Array(&Struct(CREATE_DELEGATION_TOKEN_CREATABLE_RENEWERS))),
        field("max_lifetime_ms", Int64),
    ],
};

const CREATE_DELEGATION_TOKEN_CREATABLE_RENEWERS: &[Field] = &[
    field("principal_type", String),
    field("principal_name", String),
];

pub static RENEW_DELEGATION_TOKEN: Shape = Shape {
    key: 39, name: "RenewDelegationToken", versions: (1, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("hmac", Bytes),
        field("renew_period_ms", Int64),
    ],
};

pub static EXPIRE_DELEGATION_TOKEN: Shape = Shape {
    key: 40, name: "ExpireDelegationToken", versions: (1, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("hmac", Bytes),
        field("expiry_time_period_ms", Int64),
    ],
};

pub static DESCRIBE_DELEGATION_TOKEN: Shape = Shape {
    key: 41, name: "DescribeDelegationToken", versions: (1, 3), last_stable: 3,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("owners", Array(&Struct(DESCRIBE_DELEGATION_TOKEN_DESCRIBE_DELEGATION_TOKEN_OWNER))).null_since(0),
    ],
};

const DESCRIBE_DELEGATION_TOKEN_DESCRIBE_DELEGATION_TOKEN_OWNER: &[Field] = &[
    field("principal_type", String),
    field("principal_name", String),
];

pub static DELETE_GROUPS: Shape = Shape {
    key: 42, name: "DeleteGroups", versions: (0, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: false,
    fields: &[
        field("groups_names", Array(&String)),
    ],
};

pub static ELECT_LEADERS: Shape = Shape {
    key: 43, name: "ElectLeaders", versions: (0, 2), last_stable: 2,
    flexible_since: 2, on_brokers: true, on_controllers: true,
    fields: &[
        field("election_type", Int8).since(1),
        field("topic_partitions", Array(&Struct(ELECT_LEADERS_TOPIC_PARTITIONS))).null_since(0),
        field("timeout_ms", Int32),
    ],
};

const ELECT_LEADERS_TOPIC_PARTITIONS: &[Field] = &[
    field("topic", String),
    field("partitions", Array(&Int32)),
];

pub static INCREMENTAL_ALTER_CONFIGS: Shape = Shape {
    key: 44, name: "IncrementalAlterConfigs", versions: (0, 1), last_stable: 1,
    flexible_since: 1, on_brokers: true, on_controllers: true,
    fields: &[
        field("resources", Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE))),
        field("validate_only", Bool),
    ],
};

const INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] = &[
    field("name", String),
    field("config_operation", Int8),
    field("value", String).null_since(0),
];

const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configs", Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG))),
];

pub static ALTER_PARTITION_REASSIGNMENTS: Shape = Shape {
    key: 45, name: "AlterPartitionReassignments", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("timeout_ms", Int32),
        field("allow_replication_factor_change", Bool).since(1),
        field("topics", Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_TOPIC))),
    ],
};

const ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("replicas", Array(&Int32)).null_since(0),
];

const ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_PARTITION))),
];

pub static LIST_PARTITION_REASSIGNMENTS: Shape = Shape {
    key: 46, name: "ListPartitionReassignments", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("timeout_ms", Int32),
        field("topics", Array(&Struct(LIST_PARTITION_REASSIGNMENTS_LIST_PARTITION_REASSIGNMENTS_TOPICS))).null_since(0),
    ],
};

const LIST_PARTITION_REASSIGNMENTS_LIST_PARTITION_REASSIGNMENTS_TOPICS: &[Field] = &[
    field("name", String),
    field("partition_indexes", Array(&Int32)),
];

pub static OFFSET_DELETE: Shape = Shape {
    key: 47, name: "OffsetDelete", versions: (0, 0), last_stable: 0,
    flexible_since: NEVER, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(OFFSET_DELETE_OFFSET_DELETE_REQUEST_TOPIC))),
    ],
};

const OFFSET_DELETE_OFFSET_DELETE_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
];

const OFFSET_DELETE_OFFSET_DELETE_REQUEST_TOPIC: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(OFFSET_DELETE_OFFSET_DELETE_REQUEST_PARTITION))),
];

pub static DESCRIBE_CLIENT_QUOTAS: Shape = Shape {
    key: 48, name: "DescribeClientQuotas", versions: (0, 1), last_stable: 1,
    flexible_since: 1, on_brokers: true, on_controllers: false,
    fields: &[
        field("components", Array(&Struct(DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA))),
        field("strict", Bool),
    ],
};

const DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA: &[Field] = &[
    field("entity_type", String),
    field("match_type", Int8),
    field("match", String).null_since(0),
];

pub static ALTER_CLIENT_QUOTAS: Shape = Shape {
    key: 49, name: "AlterClientQuotas", versions: (0, 1), last_stable: 1,
    flexible_since: 1, on_brokers: true, on_controllers: true,
    fields: &[
        field("entries", Array(&Struct(ALTER_CLIENT_QUOTAS_ENTRY_DATA))),
        field("validate_only", Bool),
    ],
};

const ALTER_CLIENT_QUOTAS_ENTITY_DATA: &[Field] = &[
    field("entity_type", String),
    field("entity_name", String).null_since(0),
];

const ALTER_CLIENT_QUOTAS_OP_DATA: &[Field] = &[
    field("key", String),
    field("value", Int64),
    field("remove", Bool),
];

const ALTER_CLIENT_QUOTAS_ENTRY_DATA: &[Field] = &[
    field("entity", Array(&Struct(ALTER_CLIENT_QUOTAS_ENTITY_DATA))),
    field("ops", Array(&Struct(ALTER_CLIENT_QUOTAS_OP_DATA))),
];

pub static DESCRIBE_USER_SCRAM_CREDENTIALS: Shape = Shape {
    key: 50, name: "DescribeUserScramCredentials", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("users", Array(&Struct(DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME))).null_since(0),
    ],
};

const DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME: &[Field] = &[
    field("name", String),
];

pub static ALTER_USER_SCRAM_CREDENTIALS: Shape = Shape {
    key: 51, name: "AlterUserScramCredentials", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("deletions", Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_DELETION))),
        field("upsertions", Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_UPSERTION))),
    ],
};

const ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_DELETION: &[Field] = &[
    field("name", String),
    field("mechanism", Int8),
];

const ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_UPSERTION: &[Field] = &[
    field("name", String),
    field("mechanism", Int8),
    field("iterations", Int32),
    field("salt", Bytes),
    field("salted_password", Bytes),
];

pub static VOTE: Shape = Shape {
    key: 52, name: "Vote", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("voter_id", Int32).since(1),
        field("topics", Array(&Struct(VOTE_TOPIC_DATA))),
    ],
};

const VOTE_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
    field("replica_epoch", Int32),
    field("replica_id", Int32),
    field("replica_directory_id", Uuid).since(1),
    field("voter_directory_id", Uuid).since(1),
    field("last_offset_epoch", Int32),
    field("last_offset", Int64),
    field("pre_vote", Bool).since(2),
];

const VOTE_TOPIC_DATA: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Struct(VOTE_PARTITION_DATA))),
];

pub static BEGIN_QUORUM_EPOCH: Shape = Shape {
    key: 53, name: "BeginQuorumEpoch", versions: (0, 1), last_stable: 1,
    flexible_since: 1, on_brokers: false, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("voter_id", Int32).since(1),
        field("topics", Array(&Struct(BEGIN_QUORUM_EPOCH_TOPIC_DATA))),
        field("leader_endpoints", Array(&Struct(BEGIN_QUORUM_EPOCH_LEADER_ENDPOINT))).since(1),
    ],
};

const BEGIN_QUORUM_EPOCH_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
    field("voter_directory_id", Uuid).since(1),
    field("leader_id", Int32),
    field("leader_epoch", Int32),
];

const BEGIN_QUORUM_EPOCH_TOPIC_DATA: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Struct(BEGIN_QUORUM_EPOCH_PARTITION_DATA))),
];

const BEGIN_QUORUM_EPOCH_LEADER_ENDPOINT: &[Field] = &[
    field("name", String).since(1),
    field("host", String).since(1),
    field("port", Int16).since(1),
];

pub static END_QUORUM_EPOCH: Shape = Shape {
    key: 54, name: "EndQuorumEpoch", versions: (0, 1), last_stable: 1,
    flexible_since: 1, on_brokers: false, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("topics", Array(&Struct(END_QUORUM_EPOCH_TOPIC_DATA))),
        field("leader_endpoints", Array(&Struct(END_QUORUM_EPOCH_LEADER_ENDPOINT))).since(1),
    ],
};

const END_QUORUM_EPOCH_REPLICA_INFO: &[Field] = &[
    field("candidate_id", Int32).since(1),
    field("candidate_directory_id", Uuid).since(1),
];

const END_QUORUM_EPOCH_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
    field("leader_id", Int32),
    field("leader_epoch", Int32),
    field("preferred_successors", Array(&Int32)).until(0),
    field("preferred_candidates", Array(&Struct(END_QUORUM_EPOCH_REPLICA_INFO))).since(1),
];

const END_QUORUM_EPOCH_TOPIC_DATA: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Struct(END_QUORUM_EPOCH_PARTITION_DATA))),
];

const END_QUORUM_EPOCH_LEADER_ENDPOINT: &[Field] = &[
    field("name", String).since(1),
    field("host", String).since(1),
    field("port", Int16).since(1),
];

pub static DESCRIBE_QUORUM: Shape = Shape {
    key: 55, name: "DescribeQuorum", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("topics", Array(&Struct(DESCRIBE_QUORUM_TOPIC_DATA))),
    ],
};

const DESCRIBE_QUORUM_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
];

const DESCRIBE_QUORUM_TOPIC_DATA: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Struct(DESCRIBE_QUORUM_PARTITION_DATA))),
];

pub static ALTER_PARTITION: Shape = Shape {
    key: 56, name: "AlterPartition", versions: (2, 3), last_stable: 3,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
        field("broker_epoch", Int64),
        field("topics", Array(&Struct(ALTER_PARTITION_TOPIC_DATA))),
    ],
};

const ALTER_PARTITION_BROKER_STATE: &[Field] = &[
    field("broker_id", Int32).since(3),
    field("broker_epoch", Int64).since(3),
];

const ALTER_PARTITION_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
    field("leader_epoch", Int32),
    field("new_isr", Array(&Int32)).until(2),
    field("new_isr_with_epochs", Array(&Struct(ALTER_PARTITION_BROKER_STATE))).since(3),
    field("leader_recovery_state", Int8).since(1),
    field("partition_epoch", Int32),
];

const ALTER_PARTITION_TOPIC_DATA: &[Field] = &[
    field("topic_id", Uuid).since(2),
    field("partitions", Array(&Struct(ALTER_PARTITION_PARTITION_DATA))),
];

pub static UPDATE_FEATURES: Shape = Shape {
    key: 57, name: "UpdateFeatures", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("timeout_ms", Int32),
        field("feature_updates", Array(&Struct(UPDATE_FEATURES_FEATURE_UPDATE_KEY))),
        field("validate_only", Bool).since(1),
    ],
};

const UPDATE_FEATURES_FEATURE_UPDATE_KEY: &[Field] = &[
    field("feature", String),
    field("max_version_level", Int16),
    field("allow_downgrade", Bool).until(0),
    field("upgrade_type", Int8).since(1),
];

pub static ENVELOPE: Shape = Shape {
    key: 58, name: "Envelope", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("request_data", Bytes),
        field("request_principal", Bytes).null_since(0),
        field("client_host_address", Bytes),
    ],
};

pub static FETCH_SNAPSHOT: Shape = Shape {
    key: 59, name: "FetchSnapshot", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0).tag(0),
        field("replica_id", Int32),
        field("max_bytes", Int32),
        field("topics", Array(&Struct(FETCH_SNAPSHOT_TOPIC_SNAPSHOT))),
    ],
};

const FETCH_SNAPSHOT_SNAPSHOT_ID: &[Field] = &[
    field("end_offset", Int64),
    field("epoch", Int32),
];

const FETCH_SNAPSHOT_PARTITION_SNAPSHOT: &[Field] = &[
    field("partition", Int32),
    field("current_leader_epoch", Int32),
    field("snapshot_id", Struct(FETCH_SNAPSHOT_SNAPSHOT_ID)),
    field("position", Int64),
    field("replica_directory_id", Uuid).since(1).tag(0),
];

const FETCH_SNAPSHOT_TOPIC_SNAPSHOT: &[Field] = &[
    field("name", String),
    field("partitions", Array(&Struct(FETCH_SNAPSHOT_PARTITION_SNAPSHOT))),
];

pub static DESCRIBE_CLUSTER: Shape = Shape {
    key: 60, name: "DescribeCluster", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("include_cluster_authorized_operations", Bool),
        field("endpoint_type", Int8).since(1),
        field("include_fenced_brokers", Bool).since(2),
    ],
};

pub static DESCRIBE_PRODUCERS: Shape = Shape {
    key: 61, name: "DescribeProducers", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("topics", Array(&Struct(DESCRIBE_PRODUCERS_TOPIC_REQUEST))),
    ],
};

const DESCRIBE_PRODUCERS_TOPIC_REQUEST: &[Field] = &[
    field("name", String),
    field("partition_indexes", Array(&Int32)),
];

pub static BROKER_REGISTRATION: Shape = Shape {
    key: 62, name: "BrokerRegistration", versions: (0, 4), last_stable: 4,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
        field("cluster_id", String),
        field("incarnation_id", Uuid),
        field("listeners", Array(&Struct(BROKER_REGISTRATION_LISTENER))),
        field("features", Array(&Struct(BROKER_REGISTRATION_FEATURE))),
        field("rack", String).null_since(0),
        field("is_migrating_zk_broker", Bool).since(1),
        field("log_dirs", Array(&Uuid)).since(2),
        field("previous_broker_epoch", Int64).since(3),
    ],
};

const BROKER_REGISTRATION_LISTENER: &[Field] = &[
    field("name", String),
    field("host", String),
    field("port", Int16),
    field("security_protocol", Int16),
];

const BROKER_REGISTRATION_FEATURE: &[Field] = &[
    field("name", String),
    field("min_supported_version", Int16),
    field("max_supported_version", Int16),
];

pub static BROKER_HEARTBEAT: Shape = Shape {
    key: 63, name: "BrokerHeartbeat", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
        field("broker_epoch", Int64),
        field("current_metadata_offset", Int64),
        field("want_fence", Bool),
        field("want_shut_down", Bool),
        field("offline_log_dirs", Array(&Uuid)).since(1).tag(0),
        field("cordoned_log_dirs", Array(&Uuid)).since(2).null_since(2).tag(1),
    ],
};

pub static UNREGISTER_BROKER: Shape = Shape {
    key: 64, name: "UnregisterBroker", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
    ],
};

pub static DESCRIBE_TRANSACTIONS: Shape = Shape {
    key: 65, name: "DescribeTransactions", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("transactional_ids", Array(&String)),
    ],
};

pub static LIST_TRANSACTIONS: Shape = Shape {
    key: 66, name: "ListTransactions", versions: (0, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("state_filters", Array(&String)),
        field("producer_id_filters", Array(&Int64)),
        field("duration_filter", Int64).since(1),
        field("transactional_id_pattern", String).since(2).null_since(2),
    ],
};

pub static ALLOCATE_PRODUCER_IDS: Shape = Shape {
    key: 67, name: "AllocateProducerIds", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
        field("broker_epoch", Int64),
    ],
};

pub static CONSUMER_GROUP_HEARTBEAT: Shape = Shape {
    key: 68, name: "ConsumerGroupHeartbeat", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
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
    ],
};

const CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Int32)),
];

pub static CONSUMER_GROUP_DESCRIBE: Shape = Shape {
    key: 69, name: "ConsumerGroupDescribe", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_ids", Array(&String)),
        field("include_authorized_operations", Bool),
    ],
};

pub static CONTROLLER_REGISTRATION: Shape = Shape {
    key: 70, name: "ControllerRegistration", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("controller_id", Int32),
        field("incarnation_id", Uuid),
        field("zk_migration_ready", Bool),
        field("listeners", Array(&Struct(CONTROLLER_REGISTRATION_LISTENER))),
        field("features", Array(&Struct(CONTROLLER_REGISTRATION_FEATURE))),
    ],
};

const CONTROLLER_REGISTRATION_LISTENER: &[Field] = &[
    field("name", String),
    field("host", String),
    field("port", Int16),
    field("security_protocol", Int16),
];

const CONTROLLER_REGISTRATION_FEATURE: &[Field] = &[
    field("name", String),
    field("min_supported_version", Int16),
    field("max_supported_version", Int16),
];

pub static GET_TELEMETRY_SUBSCRIPTIONS: Shape = Shape {
    key: 71, name: "GetTelemetrySubscriptions", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("client_instance_id", Uuid),
    ],
};

pub static PUSH_TELEMETRY: Shape = Shape {
    key: 72, name: "PushTelemetry", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("client_instance_id", Uuid),
        field("subscription_id", Int32),
        field("terminating", Bool),
        field("compression_type", Int8),
        field("metrics", Bytes),
    ],
};

pub static ASSIGN_REPLICAS_TO_DIRS: Shape = Shape {
    key: 73, name: "AssignReplicasToDirs", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("broker_id", Int32),
        field("broker_epoch", Int64),
        field("directories", Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_DIRECTORY_DATA))),
    ],
};

const ASSIGN_REPLICAS_TO_DIRS_PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
];

const ASSIGN_REPLICAS_TO_DIRS_TOPIC_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_PARTITION_DATA))),
];

const ASSIGN_REPLICAS_TO_DIRS_DIRECTORY_DATA: &[Field] = &[
    field("id", Uuid),
    field("topics", Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_TOPIC_DATA))),
];

pub static LIST_CONFIG_RESOURCES: Shape = Shape {
    key: 74, name: "ListConfigResources", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("resource_types", Array(&Int8)).since(1),
    ],
};

pub static DESCRIBE_TOPIC_PARTITIONS: Shape = Shape {
    key: 75, name: "DescribeTopicPartitions", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("topics", Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST))),
        field("response_partition_limit", Int32),
        field("cursor", Struct(DESCRIBE_TOPIC_PARTITIONS_CURSOR)).null_since(0),
    ],
};

const DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST: &[Field] = &[
    field("name", String),
];

const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] = &[
    field("topic_name", String),
    field("partition_index", Int32),
];

pub static SHARE_GROUP_HEARTBEAT: Shape = Shape {
    key: 76, name: "ShareGroupHeartbeat", versions: (1, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("member_id", String),
        field("member_epoch", Int32),
        field("rack_id", String).null_since(0),
        field("subscribed_topic_names", Array(&String)).null_since(0),
    ],
};

pub static SHARE_GROUP_DESCRIBE: Shape = Shape {
    key: 77, name: "ShareGroupDescribe", versions: (1, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_ids", Array(&String)),
        field("include_authorized_operations", Bool),
    ],
};

pub static SHARE_FETCH: Shape = Shape {
    key: 78, name: "ShareFetch", versions: (1, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String).null_since(0),
        field("member_id", String).null_since(0),
        field("share_session_epoch", Int32),
        field("max_wait_ms", Int32),
        field("min_bytes", Int32),
        field("max_bytes", Int32),
        field("max_records", Int32).since(1),
        field("batch_size", Int32).since(1),
        field("share_acquire_mode", Int8).since(2),
        field("is_renew_ack", Bool).since(2),
        field("topics", Array(&Struct(SHARE_FETCH_FETCH_TOPIC))),
        field("forgotten_topics_data", Array(&Struct(SHARE_FETCH_FORGOTTEN_TOPIC))),
    ],
};

const SHARE_FETCH_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("first_offset", Int64),
    field("last_offset", Int64),
    field("acknowledge_types", Array(&Int8)),
];

const SHARE_FETCH_FETCH_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("partition_max_bytes", Int32).until(0),
    field("acknowledgement_batches", Array(&Struct(SHARE_FETCH_ACKNOWLEDGEMENT_BATCH))),
];

const SHARE_FETCH_FETCH_TOPIC: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(SHARE_FETCH_FETCH_PARTITION))),
];

const SHARE_FETCH_FORGOTTEN_TOPIC: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Int32)),
];

pub static SHARE_ACKNOWLEDGE: Shape = Shape {
    key: 79, name: "ShareAcknowledge", versions: (1, 2), last_stable: 2,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String).null_since(0),
        field("member_id", String).null_since(0),
        field("share_session_epoch", Int32),
        field("is_renew_ack", Bool).since(2),
        field("topics", Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGE_TOPIC))),
    ],
};

const SHARE_ACKNOWLEDGE_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("first_offset", Int64),
    field("last_offset", Int64),
    field("acknowledge_types", Array(&Int8)),
];

const SHARE_ACKNOWLEDGE_ACKNOWLEDGE_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("acknowledgement_batches", Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGEMENT_BATCH))),
];

const SHARE_ACKNOWLEDGE_ACKNOWLEDGE_TOPIC: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGE_PARTITION))),
];

pub static ADD_RAFT_VOTER: Shape = Shape {
    key: 80, name: "AddRaftVoter", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("timeout_ms", Int32),
        field("voter_id", Int32),
        field("voter_directory_id", Uuid),
        field("listeners", Array(&Struct(ADD_RAFT_VOTER_LISTENER))),
        field("ack_when_committed", Bool).since(1),
    ],
};

const ADD_RAFT_VOTER_LISTENER: &[Field] = &[
    field("name", String),
    field("host", String),
    field("port", Int16),
];

pub static REMOVE_RAFT_VOTER: Shape = Shape {
    key: 81, name: "RemoveRaftVoter", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("voter_id", Int32),
        field("voter_directory_id", Uuid),
    ],
};

pub static UPDATE_RAFT_VOTER: Shape = Shape {
    key: 82, name: "UpdateRaftVoter", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: false, on_controllers: true,
    fields: &[
        field("cluster_id", String).null_since(0),
        field("current_leader_epoch", Int32),
        field("voter_id", Int32),
        field("voter_directory_id", Uuid),
        field("listeners", Array(&Struct(UPDATE_RAFT_VOTER_LISTENER))),
        field("k_raft_version_feature", Struct(UPDATE_RAFT_VOTER_K_RAFT_VERSION_FEATURE)),
    ],
};

const UPDATE_RAFT_VOTER_LISTENER: &[Field] = &[
    field("name", String),
    field("host", String),
    field("port", Int16),
];

const UPDATE_RAFT_VOTER_K_RAFT_VERSION_FEATURE: &[Field] = &[
    field("min_supported_version", Int16),
    field("max_supported_version", Int16),
];

pub static INITIALIZE_SHARE_GROUP_STATE: Shape = Shape {
    key: 83, name: "InitializeShareGroupState", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_INITIALIZE_STATE_DATA))),
    ],
};

const INITIALIZE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", Int32),
    field("state_epoch", Int32),
    field("start_offset", Int64),
];

const INITIALIZE_SHARE_GROUP_STATE_INITIALIZE_STATE_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_PARTITION_DATA))),
];

pub static READ_SHARE_GROUP_STATE: Shape = Shape {
    key: 84, name: "ReadShareGroupState", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(READ_SHARE_GROUP_STATE_READ_STATE_DATA))),
    ],
};

const READ_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", Int32),
    field("leader_epoch", Int32),
];

const READ_SHARE_GROUP_STATE_READ_STATE_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(READ_SHARE_GROUP_STATE_PARTITION_DATA))),
];

pub static WRITE_SHARE_GROUP_STATE: Shape = Shape {
    key: 85, name: "WriteShareGroupState", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(WRITE_SHARE_GROUP_STATE_WRITE_STATE_DATA))),
    ],
};

const WRITE_SHARE_GROUP_STATE_STATE_BATCH: &[Field] = &[
    field("first_offset", Int64),
    field("last_offset", Int64),
    field("delivery_state", Int8),
    field("delivery_count", Int16),
];

const WRITE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", Int32),
    field("state_epoch", Int32),
    field("leader_epoch", Int32),
    field("start_offset", Int64),
    field("delivery_complete_count", Int32).since(1),
    field("state_batches", Array(&Struct(WRITE_SHARE_GROUP_STATE_STATE_BATCH))),
];

const WRITE_SHARE_GROUP_STATE_WRITE_STATE_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(WRITE_SHARE_GROUP_STATE_PARTITION_DATA))),
];

pub static DELETE_SHARE_GROUP_STATE: Shape = Shape {
    key: 86, name: "DeleteShareGroupState", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(DELETE_SHARE_GROUP_STATE_DELETE_STATE_DATA))),
    ],
};

const DELETE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", Int32),
];

const DELETE_SHARE_GROUP_STATE_DELETE_STATE_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(DELETE_SHARE_GROUP_STATE_PARTITION_DATA))),
];

pub static READ_SHARE_GROUP_STATE_SUMMARY: Shape = Shape {
    key: 87, name: "ReadShareGroupStateSummary", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_READ_STATE_SUMMARY_DATA))),
    ],
};

const READ_SHARE_GROUP_STATE_SUMMARY_PARTITION_DATA: &[Field] = &[
    field("partition", Int32),
    field("leader_epoch", Int32),
];

const READ_SHARE_GROUP_STATE_SUMMARY_READ_STATE_SUMMARY_DATA: &[Field] = &[
    field("topic_id", Uuid),
    field("partitions", Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_PARTITION_DATA))),
];

pub static STREAMS_GROUP_HEARTBEAT: Shape = Shape {
    key: 88, name: "StreamsGroupHeartbeat", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("member_id", String),
        field("member_epoch", Int32),
        field("endpoint_information_epoch", Int32),
        field("instance_id", String).null_since(0),
        field("rack_id", String).null_since(0),
        field("rebalance_timeout_ms", Int32),
        field("topology", Struct(STREAMS_GROUP_HEARTBEAT_TOPOLOGY)).null_since(0),
        field("active_tasks", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS))).null_since(0),
        field("standby_tasks", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS))).null_since(0),
        field("warmup_tasks", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS))).null_since(0),
        field("process_id", String).null_since(0),
        field("user_endpoint", Struct(STREAMS_GROUP_HEARTBEAT_ENDPOINT)).null_since(0),
        field("client_tags", Array(&Struct(STREAMS_GROUP_HEARTBEAT_KEY_VALUE))).null_since(0),
        field("task_offsets", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_OFFSET))).null_since(0),
        field("task_end_offsets", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_OFFSET))).null_since(0),
        field("shutdown_application", Bool),
    ],
};

const STREAMS_GROUP_HEARTBEAT_KEY_VALUE: &[Field] = &[
    field("key", String),
    field("value", String),
];

const STREAMS_GROUP_HEARTBEAT_TOPIC_INFO: &[Field] = &[
    field("name", String),
    field("partitions", Int32),
    field("replication_factor", Int16),
    field("topic_configs", Array(&Struct(STREAMS_GROUP_HEARTBEAT_KEY_VALUE))),
];

const STREAMS_GROUP_HEARTBEAT_COPARTITION_GROUP: &[Field] = &[
    field("source_topics", Array(&Int16)),
    field("source_topic_regex", Array(&Int16)),
    field("repartition_source_topics", Array(&Int16)),
];

const STREAMS_GROUP_HEARTBEAT_SUBTOPOLOGY: &[Field] = &[
    field("subtopology_id", String),
    field("source_topics", Array(&String)),
    field("source_topic_regex", Array(&String)),
    field("state_changelog_topics", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TOPIC_INFO))),
    field("repartition_sink_topics", Array(&String)),
    field("repartition_source_topics", Array(&Struct(STREAMS_GROUP_HEARTBEAT_TOPIC_INFO))),
    field("copartition_groups", Array(&Struct(STREAMS_GROUP_HEARTBEAT_COPARTITION_GROUP))),
];

const STREAMS_GROUP_HEARTBEAT_TOPOLOGY: &[Field] = &[
    field("epoch", Int32),
    field("subtopologies", Array(&Struct(STREAMS_GROUP_HEARTBEAT_SUBTOPOLOGY))),
];

const STREAMS_GROUP_HEARTBEAT_TASK_IDS: &[Field] = &[
    field("subtopology_id", String),
    field("partitions", Array(&Int32)),
];

const STREAMS_GROUP_HEARTBEAT_ENDPOINT: &[Field] = &[
    field("host", String),
    field("port", Int16),
];

const STREAMS_GROUP_HEARTBEAT_TASK_OFFSET: &[Field] = &[
    field("subtopology_id", String),
    field("partition", Int32),
    field("offset", Int64),
];

pub static STREAMS_GROUP_DESCRIBE: Shape = Shape {
    key: 89, name: "StreamsGroupDescribe", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_ids", Array(&String)),
        field("include_authorized_operations", Bool),
    ],
};

pub static DESCRIBE_SHARE_GROUP_OFFSETS: Shape = Shape {
    key: 90, name: "DescribeShareGroupOffsets", versions: (0, 1), last_stable: 1,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("groups", Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP))),
    ],
};

const DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Int32)),
];

const DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP: &[Field] = &[
    field("group_id", String),
    field("topics", Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC))).null_since(0),
];

pub static ALTER_SHARE_GROUP_OFFSETS: Shape = Shape {
    key: 91, name: "AlterShareGroupOffsets", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC))),
    ],
};

const ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("start_offset", Int64),
];

const ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", String),
    field("partitions", Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION))),
];

pub static DELETE_SHARE_GROUP_OFFSETS: Shape = Shape {
    key: 92, name: "DeleteShareGroupOffsets", versions: (0, 0), last_stable: 0,
    flexible_since: 0, on_brokers: true, on_controllers: false,
    fields: &[
        field("group_id", String),
        field("topics", Array(&Struct(DELETE_SHARE_GROUP_OFFSETS_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC))),
    ],
};

const DELETE_SHARE_GROUP_OFFSETS_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", String),
];
