"""aiokafka against the broker at BOOTSTRAP."""

import asyncio
import logging
import os
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    InvalidGroupIdError,
    KafkaError,
    MessageSizeTooLargeError,
    UnknownMemberIdError,
)
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata

from harness import Member, main, name, never_shared, numbers, owned_by_all, restart
from named_checks import BOOTSTRAP, LIMIT_S, REPLICAS, check, same

logging.disable(logging.CRITICAL)  # what the checks need to know comes as errors


def acheck(title):
    """A check that is a coroutine; it must end in time."""

    def keep(body):
        check(title)(lambda: asyncio.run(asyncio.wait_for(body(), 4 * LIMIT_S)))
        return body

    return keep


async def auntil(what, condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        await asyncio.sleep(0.02)


async def admin(work):
    client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await client.start()
    try:
        return await work(client)
    finally:
        await client.close()


async def topic(hint, partitions=1):
    given = name(f"aio-{hint}")
    answer = await admin(lambda client: client.create_topics([NewTopic(given, partitions, REPLICAS)]))
    same([0], [error for _, error, *_ in answer.topic_errors], "errors of the creation")
    return given


async def produce(given, values, partition=0, stamps=None, **properties):
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **properties)
    await producer.start()
    try:
        sent = [await producer.send(given, value, partition=partition, timestamp_ms=stamps and stamps[i]) for i, value in enumerate(values)]
        return [(await each).offset for each in sent]
    finally:
        await producer.stop()


def consumer(*topics, **properties):
    defaults = {
        "bootstrap_servers": BOOTSTRAP, "auto_offset_reset": "earliest", "enable_auto_commit": False, "session_timeout_ms": 5000,
        "heartbeat_interval_ms": 200,
    }
    return AIOKafkaConsumer(*topics, **{**defaults, **properties})


async def poll(reader, count):
    messages, end = [], time.monotonic() + LIMIT_S
    while len(messages) < count:
        assert time.monotonic() < end, f"only {len(messages)} of {count} messages came"
        for batch in (await reader.getmany(timeout_ms=200)).values():
            messages.extend(batch)
    same(count, len(messages), "count of messages")
    return messages


def values(messages):
    return [message.value for message in messages]


def join(group, given, **settings):
    return Member("member_aiokafka.py", group=group, topic=given, **settings)


for _codec in (None, "gzip", "snappy", "lz4", "zstd"):

    @acheck(f"produce and consume, compression {_codec}")
    async def compression(codec=_codec):
        given = await topic("codec")
        sent = [b"%d: a line that compresses well; " % i * 30 if i % 2 else os.urandom(300) for i in range(400)]
        same(list(range(400)), await produce(given, sent, compression_type=codec, linger_ms=20), "offsets")
        async with consumer(given) as reader:
            same(sent, values(await poll(reader, 400)), "values")


@acheck("idempotent producer, acks, headers, null keys and values")
async def shapes():
    given = await topic("shapes")
    for acks, idempotent in ((0, False), (1, False), ("all", True)):
        async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks=acks, enable_idempotence=idempotent) as producer:
            await producer.send_and_wait(given, None, key=b"k", headers=[("twice", b"1"), ("twice", b"2")])
            await producer.send_and_wait(given, b"", key=None)
    async with consumer(given) as reader:
        messages = await poll(reader, 6)
    same([(b"k", None), (None, b"")] * 3, [(each.key, each.value) for each in messages], "keys and values")
    same((("twice", b"1"), ("twice", b"2")), messages[0].headers, "headers")


@acheck("a group whose members join, leave and die while records come: range")
async def rebalance_range():
    await _rebalance("range")


@acheck("a group whose members join, leave and die while records come: sticky")
async def rebalance_sticky():
    await _rebalance("sticky")


async def _rebalance(strategy):
    given, group = await topic("rebalance", 6), name("group")
    sent = []

    async def send(count):
        batch = numbers(len(sent), len(sent) + count)
        for partition in range(6):
            await produce(given, batch[partition::6], partition=partition)
        sent.extend(each.decode() for each in batch)

    await send(300)
    first = join(group, given, strategy=strategy)
    members = [first]
    try:
        await auntil("the first owns all", lambda: owned_by_all([first], 6))
        await send(300)
        second = join(group, given, strategy=strategy)
        members.append(second)
        await auntil("two share", lambda: owned_by_all([first, second], 6))
        await send(300)
        third = join(group, given, strategy=strategy)
        members.append(third)
        await auntil("three share", lambda: owned_by_all([first, second, third], 6))
        await send(300)
        await asyncio.to_thread(second.leave)
        await auntil("two share when one has left", lambda: owned_by_all([first, third], 6))
        await send(300)
        await asyncio.to_thread(third.die)
        await auntil("the first owns all when one has died", lambda: owned_by_all([first], 6))
        await send(300)
        await auntil("every record was read", lambda: {value for each in members for value in each.values} >= set(sent))
    finally:
        for each in members:
            if each.process.poll() is None:
                await asyncio.to_thread(each.leave)
    never_shared(members)
    async with consumer(group_id=group) as reader:
        committed = [await reader.committed(TopicPartition(given, partition)) for partition in range(6)]
    same([300] * 6, committed, "committed offsets")


@acheck("a static member that returns within its session moves nothing")
async def static_member():
    given, group = await topic("static", 4), name("group")
    first, second = join(group, given, instance="one", session=15000), join(group, given, instance="two", session=15000)
    try:
        await auntil("two share", lambda: owned_by_all([first, second], 4))
        owned, count = sorted(second.owned), first.assignments
        await asyncio.to_thread(second.die)
        second = join(group, given, instance="two", session=15000)
        await auntil("it has what it had", lambda: sorted(second.owned) == owned)
        same(count, first.assignments, "assignments of the other")
    finally:
        await asyncio.to_thread(first.leave)
        await asyncio.to_thread(second.leave)


@acheck("commits with metadata, of a member and of an assigned consumer; resumed after them")
async def commits():
    given, group = await topic("commits", 2), name("group")
    await produce(given, numbers(0, 20))
    partition = TopicPartition(given, 0)
    async with consumer(given, group_id=group) as reader:
        await poll(reader, 20)
        await reader.commit({partition: OffsetAndMetadata(7, "seven, ünïcode")})
        same((7, None), (await reader.committed(partition), await reader.committed(TopicPartition(given, 1))), "committed")
        found = await admin(lambda client: client.list_consumer_group_offsets(group))
        same({partition: OffsetAndMetadata(7, "seven, ünïcode")}, found, "offsets by the admin client")
        try:
            await reader.commit({partition: OffsetAndMetadata(8, "m" * 5000)})
            raise AssertionError("metadata of 5000 characters was taken")
        except KafkaError as error:
            same("OffsetMetadataTooLargeError", type(error).__name__, "error")
    async with consumer(group_id=group) as reader:
        reader.assign([partition])
        same(numbers(7, 20), values(await poll(reader, 13)), "values after the committed offset")
        await reader.commit()
        same(20, await reader.committed(partition), "committed by an assigned consumer")


@acheck("enable_auto_commit: what was read is committed when the consumer stops")
async def auto_commit():
    given, group = await topic("auto"), name("group")
    for start in (0, 50):
        await produce(given, numbers(start, start + 50))
        async with consumer(given, group_id=group, enable_auto_commit=True) as reader:
            same(numbers(start, start + 50), values(await poll(reader, 50)), "values")


@acheck("a member seeks by time, to the beginning, to the end and to what is committed")
async def seek():
    given, group = await topic("seek"), name("group")
    base = int(time.time() * 1000) - 100_000
    await produce(given, numbers(0, 50), stamps=[base + 10 * i for i in range(50)])
    partition = TopicPartition(given, 0)
    async with consumer(given, group_id=group) as reader:
        await poll(reader, 50)
        await reader.commit({partition: 30})
        found = await reader.offsets_for_times({partition: base + 405})
        same((41, base + 410), (found[partition].offset, found[partition].timestamp), "offset by time")
        reader.seek(partition, 41)
        same(numbers(41, 50), values(await poll(reader, 9)), "values from that time")
        await reader.seek_to_committed(partition)
        same(numbers(30, 50), values(await poll(reader, 20)), "values after the committed offset")
        await reader.seek_to_beginning(partition)
        same(numbers(0, 50), values(await poll(reader, 50)), "values from the beginning")
        await reader.seek_to_end(partition)
        same(50, await reader.position(partition), "position at the end")
        same(({partition: 0}, {partition: 50}), (await reader.beginning_offsets([partition]), await reader.end_offsets([partition])), "offsets")


@acheck("admin: topics created, described, grown, deleted; configurations; records deleted")
async def topics():
    given = await topic("admin", 2)

    async def work(client):
        await asyncio.sleep(0.1)
        assert given in await client.list_topics(), "not listed"
        (described,) = await client.describe_topics([given])
        same(2, len(described["partitions"]), "partitions")
        await client.create_partitions({given: NewPartitions(3)})
        resource = ConfigResource(ConfigResourceType.TOPIC, given, {"retention.ms": "4321"})
        await client.alter_configs([resource])
        (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, given)])
        (found,) = answer.resources
        same("4321", {each[0]: each[1] for each in found[4]}["retention.ms"], "retention.ms")
        same(1, len((await client.describe_cluster())["brokers"]), "brokers")
        await produce(given, numbers(0, 10))
        same({TopicPartition(given, 0): 4}, await client.delete_records({TopicPartition(given, 0): RecordsToDelete(before_offset=4)}), "low watermark")
        await client.delete_topics([given])
        assert given not in await client.list_topics(), "listed after its deletion"

    await admin(work)


@acheck("admin: groups listed and described, their coordinator and offsets")
async def groups():
    given, group = await topic("groups", 3), name("group")
    member = join(group, given, strategy="roundrobin")
    try:
        await auntil("assigned", lambda: owned_by_all([member], 3))

        async def work(client):
            assert (group, "consumer") in await client.list_consumer_groups(), "not listed"
            (answer,) = await client.describe_consumer_groups([group])
            (described,) = answer.groups
            same((0, group, "Stable", "consumer", "roundrobin"), tuple(described[:5]), "described")
            same(1, len(described[5]), "members")
            same(1, await client.find_coordinator(group), "coordinator")
            same({}, await client.list_consumer_group_offsets(name("unknown")), "offsets of an unknown group")

        await admin(work)
    finally:
        await asyncio.to_thread(member.leave)


@acheck("refusals: a record too large, an evicted member's commit, an empty group id")
async def refusals():
    given, group = await topic("refused"), name("group")
    try:
        await produce(given, [b"x" * 2_000_000], max_request_size=4_000_000)
        raise AssertionError("two megabytes were taken")
    except MessageSizeTooLargeError:
        pass
    await produce(given, numbers(0, 5))
    reader = consumer(given, group_id=group)
    await reader.start()
    await poll(reader, 5)
    # what an administrator does to a member that hangs
    coordinator = reader._coordinator
    await coordinator._send_req(LeaveGroupRequest(group, coordinator.member_id))
    try:
        await reader.commit({TopicPartition(given, 0): 3})
        raise AssertionError("who was evicted could commit")
    except (CommitFailedError, UnknownMemberIdError, IllegalGenerationError):
        pass
    await auntil("it joins again", lambda: reader.assignment() and coordinator.generation == 3)
    await reader.commit({TopicPartition(given, 0): 3})
    await reader.stop()
    try:
        async with consumer(given, group_id="") as nobody:
            await asyncio.wait_for(nobody.getone(), 5)
        raise AssertionError("a group without name")
    except InvalidGroupIdError:
        pass


for _how in ("stop", "kill"):

    @acheck(f"commits and members outlive a restart of the broker ({_how})")
    async def outlive(how=_how):
        given, group = await topic("restart", 2), name("group")
        for partition in range(2):
            await produce(given, numbers(0, 60), partition=partition)
        first, second = TopicPartition(given, 0), TopicPartition(given, 1)
        async with consumer(given, group_id=group) as reader:
            await poll(reader, 120)
            await reader.commit({first: OffsetAndMetadata(40, "forty"), second: 50})
        running = join(name("group"), given)
        try:
            await auntil("it runs", lambda: owned_by_all([running], 2) and len(running.values) == 120)
            await asyncio.to_thread(restart, how)
            await produce(given, numbers(60, 70))
            await auntil("who ran goes on", lambda: set(range(60, 70)) <= set(map(int, running.values)))
            found, end = {}, time.monotonic() + LIMIT_S
            while not found and time.monotonic() < end:  # the admin client takes a coordinator that still loads for one without offsets
                found = await admin(lambda client: client.list_consumer_group_offsets(group))
            same({first: OffsetAndMetadata(40, "forty"), second: OffsetAndMetadata(50, "")}, found, "committed before the restart")
            async with consumer(given, group_id=group) as resumed:
                wanted = sorted(numbers(40, 70) + numbers(50, 60))
                same(wanted, sorted(values(await poll(resumed, 40))), "values after what was committed")
        finally:
            await asyncio.to_thread(running.leave)


if __name__ == "__main__":
    main()
