"""Consumer groups with confluent-kafka."""

import time

from confluent_kafka import OFFSET_INVALID, ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from confluent import ADMIN, consumer, fails, poll, produce, topic, values
from harness import Member, name, never_shared, numbers, owned_by_all, restart
from named_checks import LIMIT_S, check, same, until


def join(group, given, **settings):
    return Member("member_confluent.py", group=group, topic=given, **settings)


def seen_by(members):
    return {value for member in members for value in member.values}


def _rebalance(strategy):
    """Members come, go and die while records are produced: each is read, and no partition has two owners."""
    given, group = topic("rebalance", 6), name("group")
    sent = []

    def send(count):
        batch = numbers(len(sent), len(sent) + count)
        for partition in range(6):
            produce(given, batch[partition::6], partition=partition)
        sent.extend(each.decode() for each in batch)

    send(300)
    first = join(group, given, strategy=strategy)
    members = [first]
    try:
        until("the first owns all", lambda: owned_by_all([first], 6))
        send(300)
        second = join(group, given, strategy=strategy)
        members.append(second)
        until("two share", lambda: owned_by_all([first, second], 6))
        send(300)
        third = join(group, given, strategy=strategy)
        members.append(third)
        until("three share", lambda: owned_by_all([first, second, third], 6))
        send(300)
        second.leave()
        until("two share when one has left", lambda: owned_by_all([first, third], 6))
        send(300)
        third.die()
        until("the first owns all when one has died", lambda: owned_by_all([first], 6))
        send(300)
        until("every record was read", lambda: seen_by(members) >= set(sent))
    finally:
        for each in members:
            if each.process.poll() is None:
                each.leave()
    never_shared(members)
    same([None] * 3, [each.trouble for each in members], "trouble")
    reader = consumer(group_id=group)
    positions = reader.committed([TopicPartition(given, partition) for partition in range(6)], LIMIT_S)
    same([300] * 6, [each.offset for each in positions], "committed offsets")
    reader.close()


for _strategy in ("range", "cooperative-sticky"):
    check(f"a group whose members join, leave and die while records come: {_strategy}")(lambda strategy=_strategy: _rebalance(strategy))


@check("cooperative-sticky: who stays keeps what it need not give away")
def cooperative():
    given, group = topic("cooperative", 4), name("group")
    events = []
    reader = consumer(group_id=group, partition_assignment_strategy="cooperative-sticky", heartbeat_interval_ms=200)
    reader.subscribe(
        [given],
        on_assign=lambda _, partitions: events.append(("assigned", len(partitions))),
        on_revoke=lambda _, partitions: events.append(("revoked", len(partitions))),
    )
    until("four are assigned", lambda: reader.poll(0.05) is None and len(reader.assignment()) == 4)
    other = join(group, given, strategy="cooperative-sticky")
    try:
        until("they share", lambda: reader.poll(0.05) is None and len(reader.assignment()) == 2 and len(other.owned) == 2)
        same({("assigned", 4): 1, ("revoked", 2): 1}, {each: events.count(each) for each in events if each[1]}, "events")
    finally:
        other.leave()
        reader.close()


@check("a static member that returns within its session moves nothing; two with one id: the first is fenced")
def static_member():
    given, group = topic("static", 4), name("group")
    first, second = join(group, given, instance="one", session=15000), join(group, given, instance="two", session=15000)
    try:
        until("two share", lambda: owned_by_all([first, second], 4))
        owned, count = sorted(second.owned), first.assignments
        second.die()
        second = join(group, given, instance="two", session=15000)
        until("it has what it had", lambda: sorted(second.owned) == owned)
        same(count, first.assignments, "assignments of the other")
        described = ADMIN.describe_consumer_groups([group])[group].result(LIMIT_S)
        same(["one", "two"], sorted(member.group_instance_id for member in described.members), "instance ids")
    finally:
        first.leave()
        second.leave()
    group = name("group")  # a new one, as the two count as members for another session
    reader = consumer(group_id=group, group_instance_id="three", session_timeout_ms=15000, heartbeat_interval_ms=200)
    reader.subscribe([given])
    until("assigned", lambda: reader.poll(0.1) is None and reader.assignment())
    twin = consumer(group_id=group, group_instance_id="three", session_timeout_ms=15000, heartbeat_interval_ms=200)
    twin.subscribe([given])
    errors = []

    def fenced():
        try:
            message = reader.poll(0.1)
            if message is not None and message.error():
                errors.append(message.error())
        except KafkaException as error:
            errors.append(error.args[0])
        twin.poll(0.05)
        return errors

    until("the first is told that it was replaced", fenced)
    assert errors[0].fatal() or errors[0].code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID), errors
    twin.close()


@check("commits with metadata, of a member and of an assigned consumer")
def commits():
    given, group = topic("commits", 2), name("group")
    produce(given, numbers(0, 20))
    reader = consumer(group_id=group)
    reader.subscribe([given])
    poll(reader, 20)
    position = TopicPartition(given, 0, 7, metadata="seven, ünïcode")
    (committed,) = reader.commit(offsets=[position], asynchronous=False)
    same((None, 7), (committed.error, committed.offset), "commit")
    first, second = reader.committed([TopicPartition(given, 0), TopicPartition(given, 1)], LIMIT_S)
    same((7, "seven, ünïcode", OFFSET_INVALID), (first.offset, first.metadata, second.offset), "committed")
    fails(KafkaError.OFFSET_METADATA_TOO_LARGE, lambda: _each(reader.commit(offsets=[TopicPartition(given, 0, 8, metadata="m" * 5000)], asynchronous=False)))
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: _each(reader.commit(offsets=[TopicPartition(name("unknown"), 0, 8)], asynchronous=False)))
    reader.close()
    alone = consumer(group_id=group)
    alone.assign([TopicPartition(given, 0)])
    same(numbers(7, 20), values(poll(alone, 13)), "values after the committed offset")
    alone.commit(asynchronous=False)
    same(20, alone.committed([TopicPartition(given, 0)], LIMIT_S)[0].offset, "committed by an assigned consumer")
    alone.close()


def _each(partitions):
    for each in partitions:
        if each.error:
            raise KafkaException(each.error)
    return partitions


@check("enable.auto.commit: what was polled is committed when the consumer closes")
def auto_commit():
    given, group = topic("auto-commit"), name("group")
    produce(given, numbers(0, 50))
    for start, count in ((0, 50), (50, 50)):
        reader = consumer(group_id=group, enable_auto_commit=True, auto_commit_interval_ms=500)
        reader.subscribe([given])
        same(numbers(start, start + count), values(poll(reader, count)), "values")
        reader.close()
        produce(given, numbers(start + count, start + count + 50))


@check("a member seeks by time")
def seek_by_time():
    given, group = topic("seek", 2), name("group")
    base = int(time.time() * 1000) - 100_000
    for partition in range(2):
        produce(given, [{"value": b"%d" % i, "timestamp": base + 10 * i} for i in range(50)], partition=partition)
    reader = consumer(group_id=group)
    reader.subscribe([given])
    poll(reader, 100)
    found = reader.offsets_for_times([TopicPartition(given, partition, base + 405) for partition in range(2)], LIMIT_S)
    same([41, 41], [each.offset for each in found], "offsets")
    for each in found:
        reader.seek(each)
    same(sorted(numbers(41, 50) * 2), sorted(values(poll(reader, 18))), "values")
    reader.close()


@check("a pattern takes new topics in")
def pattern():
    prefix, group = name("pattern"), name("group")
    ADMIN.create_topics([NewTopic(f"{prefix}-a", 1, 1)])[f"{prefix}-a"].result(LIMIT_S)
    reader = consumer(group_id=group, topic_metadata_refresh_interval_ms=300)
    reader.subscribe([f"^{prefix}-.*"])
    produce(f"{prefix}-a", [b"a"])
    same([b"a"], values(poll(reader, 1)), "values")
    reader.commit(asynchronous=False)
    ADMIN.create_topics([NewTopic(f"{prefix}-b", 1, 1)])[f"{prefix}-b"].result(LIMIT_S)
    produce(f"{prefix}-b", [b"b"])
    same([b"b"], values(poll(reader, 1)), "values of the new topic")
    reader.close()


@check("admin: groups listed and described")
def list_groups():
    given, group = topic("listed", 3), name("group")
    member = join(group, given, strategy="roundrobin")
    try:
        until("assigned", lambda: owned_by_all([member], 3))
        listed = {each.group_id: each for each in ADMIN.list_consumer_groups().result(LIMIT_S).valid}
        same(("STABLE", False), (listed[group].state.name, listed[group].is_simple_consumer_group), "listed")
        empty = ADMIN.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(LIMIT_S)
        assert group not in [each.group_id for each in empty.valid], "listed among the empty ones"
        described = ADMIN.describe_consumer_groups([group], include_authorized_operations=True)[group].result(LIMIT_S)
        same((ConsumerGroupState.STABLE, "roundrobin", 1), (described.state, described.partition_assignor, len(described.members)), "described")
        (only,) = described.members
        same([0, 1, 2], sorted(each.partition for each in only.assignment.topic_partitions), "assignment")
        same(("rdkafka", "/127.0.0.1"), (only.client_id, only.host), "client")
        same({"READ", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"}, {each.name for each in described.authorized_operations}, "operations")
        same(1, described.coordinator.id, "coordinator")
        fails(KafkaError.NON_EMPTY_GROUP, lambda: ADMIN.delete_consumer_groups([group])[group].result(LIMIT_S))
    finally:
        member.leave()


@check("admin: offsets listed and altered, groups deleted")
def group_offsets():
    given, group = topic("altered", 2), name("group")
    produce(given, numbers(0, 10))

    def alter(*positions):
        return ADMIN.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, list(positions))])[group].result(LIMIT_S)

    def listed(partitions=None):
        found = ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)])[group].result(LIMIT_S)
        return {each.partition: each.offset for each in found.topic_partitions}

    same([None], [each.error for each in alter(TopicPartition(given, 0, 4)).topic_partitions], "errors")
    same(({0: 4}, {0: 4, 1: OFFSET_INVALID}), (listed(), listed([TopicPartition(given, 0), TopicPartition(given, 1)])), "offsets")
    reader = consumer(group_id=group)
    reader.subscribe([given])
    same(numbers(4, 10), values(poll(reader, 6)), "values after the altered offset")
    fails(KafkaError.UNKNOWN_MEMBER_ID, lambda: _each(alter(TopicPartition(given, 0, 2)).topic_partitions))
    reader.close()
    same(None, ADMIN.delete_consumer_groups([group])[group].result(LIMIT_S), "deletion")
    same({}, listed(), "offsets of the deleted group")
    fails(KafkaError.GROUP_ID_NOT_FOUND, lambda: ADMIN.delete_consumer_groups([group])[group].result(LIMIT_S))


@check("refusals: an evicted member's commit, an unknown topic, an empty group id")
def refusals():
    given, group = topic("refused"), name("group")
    produce(given, numbers(0, 5))
    reader = consumer(group_id=group, max_poll_interval_ms=1500, session_timeout_ms=1000, heartbeat_interval_ms=200)
    reader.subscribe([given])
    poll(reader, 5)
    other = join(group, given)
    try:
        until("another owns it when the first does not poll", lambda: owned_by_all([other], 1))
        codes = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError._STATE, KafkaError._NO_OFFSET)
        try:
            reader.commit(offsets=[TopicPartition(given, 0, 3)], asynchronous=False)
            raise AssertionError("who was evicted could commit")
        except KafkaException as error:
            assert error.args[0].code() in codes, error
    finally:
        other.leave()
    reader.close()
    lost = consumer(group_id=group)
    lost.subscribe([name("unknown")])
    same(KafkaError.UNKNOWN_TOPIC_OR_PART, lost.poll(LIMIT_S).error().code(), "error of an unknown topic")
    lost.close()


def _restart(how):
    given, group = topic("restart", 2), name("group")
    for partition in range(2):
        produce(given, numbers(0, 60), partition=partition)
    reader = consumer(group_id=group)
    reader.subscribe([given])
    poll(reader, 120)
    reader.commit(offsets=[TopicPartition(given, 0, 40, metadata="forty"), TopicPartition(given, 1, 50)], asynchronous=False)
    reader.close()
    running, other = join(name("group"), given), None
    try:
        until("it runs", lambda: owned_by_all([running], 2) and len(running.values) == 120)
        restart(how)
        produce(given, numbers(60, 70))
        until("who ran goes on", lambda: set(range(60, 70)) <= set(map(int, running.values)))
        resumed = consumer(group_id=group)
        first, second = resumed.committed([TopicPartition(given, 0), TopicPartition(given, 1)], LIMIT_S)
        same((40, "forty", 50), (first.offset, first.metadata, second.offset), "committed before the restart")
        resumed.subscribe([given])
        same(sorted(numbers(40, 70) + numbers(50, 60)), sorted(values(poll(resumed, 40))), "values after what was committed")
        resumed.close()
    finally:
        running.leave()
    same(None, running.trouble, "trouble")


for _how in ("stop", "kill"):
    check(f"commits and members outlive a restart of the broker ({_how})")(lambda how=_how: _restart(how))
