"""librdkafka, by way of confluent-kafka, against the broker at BOOTSTRAP."""

import os
import threading
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    IsolationLevel,
    KafkaError,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from confluent import ADMIN, Quiet, consumer, fails, poll, produce, read, topic, values
from harness import main, name, numbers
from named_checks import BOOTSTRAP, LIMIT_S, NODES, REPLICAS, check, same, until


@check("idempotent producer, 10000 messages, order and offsets")
def idempotent():
    given = topic("idempotent")
    delivered = produce(given, numbers(0, 10000), **{"enable.idempotence": True, "linger.ms": 1, "batch.num.messages": 50})
    same(list(range(10000)), [message.offset() for message in delivered], "offsets")
    same(numbers(0, 10000), values(read(given, 10000)), "values")


def _acks(acks):
    given = topic("acks")
    produce(given, numbers(0, 500), acks=acks)
    same(numbers(0, 500), values(read(given, 500)), "values")


def _compression(codec):
    given = topic(codec)
    sent = [(b"%d: a line that compresses well; " % i) * 50 if i % 2 else os.urandom(500) for i in range(600)]
    produce(given, sent, **{"compression.codec": codec, "linger.ms": 50})
    same(sent, values(read(given, 600)), "values")
    same(sent[300:], values(read(given, 300, offset=300)), "values from the middle of a batch")


for _each in ("0", "1", "all"):
    check(f"producer acks={_each}")(lambda acks=_each: _acks(acks))
for _each in ("none", "gzip", "snappy", "lz4", "zstd"):
    check(f"compression.codec={_each}")(lambda codec=_each: _compression(codec))


@check("keys, null values, headers that repeat, timestamps")
def shapes():
    given = topic("shapes", retention_ms="-1")
    headers = [("twice", b"1"), ("once", None), ("twice", b"2"), ("bytes", b"\xff\x00")]
    produce(given, [{"key": b"k", "value": None, "headers": headers, "timestamp": 1_700_000_000_123}, {"key": None, "value": b""}, {"key": b"", "value": b"v"}])
    first, second, third = read(given, 3)
    same((b"k", None, headers), (first.key(), first.value(), first.headers()), "first")
    same((TIMESTAMP_CREATE_TIME, 1_700_000_000_123), first.timestamp(), "timestamp")
    same((None, b"", None), (second.key(), second.value(), second.headers()), "second")
    same((b"", b"v"), (third.key(), third.value()), "third")


@check("message.timestamp.type=LogAppendTime")
def append_time():
    given = topic("append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    produce(given, [{"value": b"x", "timestamp": 1000}])
    (kind, stamp), = [message.timestamp() for message in read(given, 1)]
    same(TIMESTAMP_LOG_APPEND_TIME, kind, "type")
    assert before <= stamp <= time.time() * 1000, f"timestamp {stamp}"


@check("a message of 900 kB, and one that is too large")
def large():
    given = topic("large")
    blob = os.urandom(900_000)
    produce(given, [blob], **{"message.max.bytes": 3_000_000})
    same([blob], values(read(given, 1, **{"max.partition.fetch.bytes": 1000})), "value")
    fails(KafkaError.MSG_SIZE_TOO_LARGE, lambda: produce(given, [os.urandom(1_200_000)], **{"message.max.bytes": 3_000_000}))


@check("consumer from beginning, end and an offset; the end of the partition is told")
def positions():
    given = topic("positions")
    produce(given, numbers(0, 100))
    same(numbers(0, 100), values(read(given, 100)), "from the beginning")
    same(numbers(42, 100), values(read(given, 58, offset=42)), "from 42")
    same(numbers(90, 100), values(read(given, 10, isolation_level="read_committed", offset=90)), "read_committed")
    reader = consumer(enable_partition_eof=True)
    reader.assign([TopicPartition(given, 0, OFFSET_END)])
    message = reader.poll(LIMIT_S)
    same(KafkaError._PARTITION_EOF, message.error().code(), "event at the end")
    same(100, message.offset(), "offset of the end")
    produce(given, [b"new"])
    same([b"new"], values(poll(reader, 1)), "value after the end")
    reader.seek(TopicPartition(given, 0, 7))
    same(b"7", reader.poll(LIMIT_S).value(), "value after a seek")
    reader.close()


@check("offsets_for_times")
def times():
    given = topic("times")
    base = int(time.time() * 1000) - 100_000
    produce(given, [{"value": b"x", "timestamp": base + 10 * i} for i in range(50)], **{"compression.codec": "lz4", "linger.ms": 20})
    reader = consumer()
    for time_, wanted in ((0, 0), (base, 0), (base + 1, 1), (base + 250, 25), (base + 490, 49), (base + 491, OFFSET_END)):
        (found,) = reader.offsets_for_times([TopicPartition(given, 0, time_)], LIMIT_S)
        same(wanted, found.offset, f"offset for base + {time_ - base}")
    reader.assign([TopicPartition(given, 0, 25)])
    same((TIMESTAMP_CREATE_TIME, base + 250), poll(reader, 25)[0].timestamp(), "timestamp at that offset")
    reader.close()


@check("watermark offsets, also after delete_records")
def watermarks():
    given = topic("watermarks")
    reader = consumer()
    same((0, 0), reader.get_watermark_offsets(TopicPartition(given, 0), LIMIT_S), "of an empty partition")
    produce(given, numbers(0, 30))
    same((0, 30), reader.get_watermark_offsets(TopicPartition(given, 0), LIMIT_S), "after 30 messages")
    (future,) = ADMIN.delete_records([TopicPartition(given, 0, 12)]).values()
    same(12, future.result(LIMIT_S).low_watermark, "low watermark")
    same((12, 30), reader.get_watermark_offsets(TopicPartition(given, 0), LIMIT_S), "after the deletion")
    reader.close()
    same(numbers(12, 30), values(read(given, 18)), "values")


@check("offset out of range with auto.offset.reset=error")
def out_of_range():
    given = topic("range")
    produce(given, numbers(0, 5))
    fails(KafkaError._AUTO_OFFSET_RESET, lambda: read(given, 1, offset=999, auto_offset_reset="error"))
    same(numbers(0, 5), values(read(given, 5, offset=999)), "values after a reset to the earliest")


@check("twenty partitions at once, pause and resume")
def many_partitions():
    given = topic("many", 20)
    reader = consumer()
    reader.assign([TopicPartition(given, partition, OFFSET_BEGINNING) for partition in range(20)])
    for partition in range(20):
        produce(given, numbers(0, 20), partition=partition)
    messages = poll(reader, 400)
    for partition in range(20):
        same(numbers(0, 20), [m.value() for m in messages if m.partition() == partition], f"values of partition {partition}")
    reader.pause([TopicPartition(given, 0)])
    produce(given, [b"paused"], partition=0)
    produce(given, [b"open"], partition=1)
    same([b"open"], values(poll(reader, 1)), "while paused")
    reader.resume([TopicPartition(given, 0)])
    same([b"paused"], values(poll(reader, 1)), "after resuming")
    reader.close()


@check("producing to a topic that does not exist creates it; a consumer does not")
def auto_creation():
    given = name("auto")
    same(0, produce(given, [b"first"])[0].offset(), "offset")
    same([b"first"], values(read(given, 1)), "value")
    unknown = name("unknown")
    reader = consumer()
    reader.assign([TopicPartition(unknown, 0, OFFSET_BEGINNING)])
    assert reader.poll(0.5) is None, "a message from nowhere"
    reader.close()
    assert unknown not in ADMIN.list_topics(timeout=LIMIT_S).topics


@check("an unknown partition: the error callback of the message tells")
def unknown_partition():
    given = topic("partition")
    fails(KafkaError._UNKNOWN_PARTITION, lambda: produce(given, [b"x"], partition=9))


@check("no broker: the client's error callback tells")
def no_broker():
    seen = threading.Event()
    codes = []

    def error(event):
        codes.append(event.code())
        seen.set()

    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "error_cb": error, "logger": Quiet()})
    until("an error came", lambda: producer.poll(0.1) is not None and seen.is_set())
    assert set(codes) <= {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}, codes


@check("the connection brings no error events while all goes well")
def no_errors():
    given, events = topic("errors"), []
    produce(given, numbers(0, 100), error_cb=lambda event: events.append(event))
    read(given, 100, error_cb=lambda event: events.append(event))
    # group coordination is not part of this; everything else must be silent
    same([], [str(event) for event in events], "events")


@check("create_topics: configurations, validate_only, errors")
def create():
    given = name("create")
    ADMIN.create_topics([NewTopic(given, 3, 1)], validate_only=True)[given].result(LIMIT_S)
    assert given not in ADMIN.list_topics(timeout=LIMIT_S).topics, "validate_only created it"
    ADMIN.create_topics([NewTopic(given, 3, 1, config={"retention.ms": "777"})])[given].result(LIMIT_S)
    until("three partitions", lambda: len(ADMIN.list_topics(given, LIMIT_S).topics[given].partitions) == 3)
    wanted = (
        (NewTopic(given, 3, 1), KafkaError.TOPIC_ALREADY_EXISTS),
        (NewTopic("bad name", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic(name("partitions"), 0, 1), KafkaError.INVALID_PARTITIONS),
        (NewTopic(name("replicas"), 1, 5), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic(name("config"), 1, 1, config={"no.such": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic(name("assignment"), 1, replica_assignment=[[4711]]), KafkaError.INVALID_REPLICA_ASSIGNMENT),
    )
    for new, code in wanted:
        error = fails(code, lambda new=new: ADMIN.create_topics([new])[new.topic].result(LIMIT_S))
        assert error.str(), "no message"


@check("list_topics and describe_topics")
def describe():
    given = topic("described", 2)
    until("listed", lambda: given in ADMIN.list_topics(timeout=LIMIT_S).topics)
    metadata = ADMIN.list_topics(timeout=LIMIT_S)
    same(sorted(BOOTSTRAP.split(",")), sorted(f"{node.host}:{node.port}" for node in metadata.brokers.values()), "addresses")
    assert metadata.cluster_id, "no cluster id"
    same([0, 1], sorted(metadata.topics[given].partitions), "partitions")
    same(REPLICAS, len(metadata.topics[given].partitions[0].isrs), "isr")
    described = ADMIN.describe_topics(TopicCollection([given]))[given].result(LIMIT_S)
    same(2, len(described.partitions), "described partitions")
    assert described.partitions[1].leader.id in metadata.brokers, "leader"
    unknown = name("unknown")
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: ADMIN.describe_topics(TopicCollection([unknown]))[unknown].result(LIMIT_S))
    cluster = ADMIN.describe_cluster().result(LIMIT_S)
    same((metadata.cluster_id, NODES), (cluster.cluster_id, len(cluster.nodes)), "cluster")


@check("create_partitions and delete_topics")
def grow_and_delete():
    given = topic("grow", 1)
    ADMIN.create_partitions([NewPartitions(given, 4)])[given].result(LIMIT_S)
    until("four partitions", lambda: len(ADMIN.list_topics(given, LIMIT_S).topics[given].partitions) == 4)
    fails(KafkaError.INVALID_PARTITIONS, lambda: ADMIN.create_partitions([NewPartitions(given, 2)])[given].result(LIMIT_S))
    ADMIN.delete_topics([given])[given].result(LIMIT_S)
    until("gone", lambda: given not in ADMIN.list_topics(timeout=LIMIT_S).topics)
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: ADMIN.delete_topics([given])[given].result(LIMIT_S))


@check("describe_configs and incremental_alter_configs of a topic")
def configs():
    given = topic("configs", retention_ms="4321")
    resource = ConfigResource(ResourceType.TOPIC, given)
    until("listed", lambda: given in ADMIN.list_topics(timeout=LIMIT_S).topics)

    def value(key):
        return ADMIN.describe_configs([resource])[resource].result(LIMIT_S)[key].value

    same(("4321", "1048588", "delete"), (value("retention.ms"), value("max.message.bytes"), value("cleanup.policy")), "values")
    change = ConfigResource(ResourceType.TOPIC, given)
    change.add_incremental_config(ConfigEntry("retention.ms", "8765", incremental_operation=AlterConfigOpType.SET))
    ADMIN.incremental_alter_configs([change])[change].result(LIMIT_S)
    until("changed", lambda: value("retention.ms") == "8765")
    wrong = ConfigResource(ResourceType.TOPIC, given)
    wrong.add_incremental_config(ConfigEntry("retention.ms", "never", incremental_operation=AlterConfigOpType.SET))
    fails(KafkaError.INVALID_CONFIG, lambda: ADMIN.incremental_alter_configs([wrong])[wrong].result(LIMIT_S))


@check("list_offsets")
def list_offsets():
    given = topic("offsets")
    base = int(time.time() * 1000) - 5000
    produce(given, [{"value": b"x", "timestamp": base + stamp} for stamp in (0, 100, 900, 300)], **{"batch.num.messages": 1})
    partition = TopicPartition(given, 0)
    wanted = ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 4), (OffsetSpec.max_timestamp(), 2), (OffsetSpec.for_timestamp(base + 50), 1))
    for spec, offset in wanted:
        result = ADMIN.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED)[partition].result(LIMIT_S)
        same(offset, result.offset, str(spec))


import groups  # noqa: E402, F401 (its checks come last: some restart the broker)

if __name__ == "__main__":
    main()
