"""One member of a group; see harness.Member. Commits after each batch that it has printed."""

import json
import signal
import sys
import time

from confluent_kafka import KafkaError, KafkaException

from confluent import consumer

settings = json.loads(sys.argv[1])
running = True


def leave(*_):
    global running
    running = False


def say(**event):
    print(json.dumps(event), flush=True)


def commit(reader):
    try:
        reader.commit(asynchronous=False)
    except KafkaException as error:
        # Another generation has begun, or nothing was read: what was not committed is read again.
        harmless = (KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID)
        if error.args[0].code() not in harmless:
            raise


def assigned(reader, partitions):
    say(assigned=[each.partition for each in partitions], at=time.monotonic())


def revoked(reader, partitions):
    commit(reader)
    say(revoked=[each.partition for each in partitions], at=time.monotonic())


def lost(reader, partitions):
    say(revoked=[each.partition for each in partitions], at=time.monotonic())


signal.signal(signal.SIGTERM, leave)
reader = consumer(
    group_id=settings["group"],
    session_timeout_ms=settings.get("session", 3000),
    heartbeat_interval_ms=200,
    partition_assignment_strategy=settings.get("strategy", "range"),
    **({"group_instance_id": settings["instance"]} if "instance" in settings else {}),
)
reader.subscribe([settings["topic"]], on_assign=assigned, on_revoke=revoked, on_lost=lost)
while running:
    messages = reader.consume(100, 0.1)
    for message in messages:
        if message.error():
            say(error=str(message.error()))
        else:
            say(value=message.value().decode())
    if messages:
        commit(reader)
reader.close()
