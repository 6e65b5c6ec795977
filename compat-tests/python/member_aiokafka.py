"""One member of a group; see harness.Member. Commits after each batch that it has printed."""

import asyncio
import json
import logging
import signal
import sys
import time

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, RebalanceInProgressError

from named_checks import BOOTSTRAP

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor}
logging.disable(logging.CRITICAL)
settings = json.loads(sys.argv[1])


def say(**event):
    print(json.dumps(event), flush=True)


class Listener(ConsumerRebalanceListener):
    def __init__(self, reader):
        self.reader = reader

    async def on_partitions_revoked(self, revoked):
        if revoked:
            await commit(self.reader)
            say(revoked=[each.partition for each in revoked], at=time.monotonic())

    async def on_partitions_assigned(self, assigned):
        # when it was evicted, aiokafka tells of the loss only by the next assignment
        say(assigned=[each.partition for each in assigned], at=time.monotonic())


async def commit(reader):
    try:
        await reader.commit()
    except (CommitFailedError, IllegalStateError, RebalanceInProgressError):
        pass  # another generation has begun: what was not committed is read again


async def main():
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    reader = AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP,
        group_id=settings["group"],
        group_instance_id=settings.get("instance"),
        session_timeout_ms=settings.get("session", 3000),
        heartbeat_interval_ms=200,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=(ASSIGNORS[settings.get("strategy", "range")],),
    )
    await reader.start()
    reader.subscribe([settings["topic"]], listener=Listener(reader))
    while not leave.is_set():
        batches = await reader.getmany(timeout_ms=100)
        for messages in batches.values():
            for message in messages:
                say(value=message.value.decode())
        if batches:
            await commit(reader)
    # aiokafka does not call the listener when it is stopped
    say(revoked=[each.partition for each in reader.assignment()], at=time.monotonic())
    await reader.stop()


asyncio.run(main())
