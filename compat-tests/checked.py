"""Clients that check what a cluster promises: a producer that knows what was acknowledged, and when; a group that knows what
it was shown and what it committed; and what the topic and the replicas' files must hold in the end.

Records are numbered: number `n` goes to partition `n % partitions`, so in each partition numbers grow.
"""

import array
import bisect
import collections
import logging
import socket
import struct
import threading
import time


def at(numbers, place, fill=-1):
    """Makes the array long enough for `place`."""
    if len(numbers) <= place:
        numbers.extend([fill] * (place + 1 - len(numbers)))
    return numbers


def until(what, limit_s=90):
    """Asks until it holds, and returns what it gave; whatever it raises counts as a no."""
    deadline = time.monotonic() + limit_s
    trouble = None
    while True:
        try:
            found = what()
        except Exception as error:  # noqa: BLE001: asked again
            found, trouble = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_s} s in vain: {what.__doc__ or what}" + (f" ({trouble})" if trouble else ""))
        time.sleep(0.05)


class View:
    """What a cluster of three says of one topic of three replicas, and of itself."""

    def __init__(self, cluster, topic):
        from confluent_kafka.admin import AdminClient

        self.cluster, self.topic = cluster, topic
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def create_topic(self, partitions, config=None):
        """Creates it; returns when all its replicas are in sync."""
        from confluent_kafka.admin import NewTopic

        for future in self.admin.create_topics([NewTopic(self.topic, partitions, 3, config=config or {})]).values():
            future.result(30)
        until(self.all_in_sync)

    def all_in_sync(self):
        """all replicas are in sync, as every node sees it"""
        seen = [described(node.host, node.port, self.topic) for node in self.cluster.nodes.values()]
        first = seen[0]
        return first if first and all(each == first for each in seen) and all(isr == 3 for _, isr in first.values()) else None

    def controller(self):
        from cluster import lines_of_json

        return lines_of_json(self.cluster.tool("quorum", "describe", "--status", "--json"))[0]["leader_id"]

    def rebalance(self):
        """Every partition is led by its preferred leader again."""

        def elected():
            """preferred leaders can be elected"""
            self.cluster.tool("elect-leaders", "--election-type", "preferred", "--all-topic-partitions")
            return True

        until(elected)


def described(host, port, topic):
    """Leader and number of in-sync replicas of each partition, as this node knows it: a client would ask any."""
    name, client = topic.encode(), b"checked"
    request = struct.pack(f">hhih{len(client)}sih{len(name)}s", 3, 0, 1, len(client), client, 1, len(name), name)
    with socket.create_connection((host, port), timeout=2) as connection:
        connection.settimeout(2)
        connection.sendall(struct.pack(">i", len(request)) + request)
        answers = connection.makefile("rb")

        def take(form):
            return struct.unpack(f">{form}", answers.read(struct.calcsize(f">{form}")))[0]

        def array_of(element):
            return [element() for _ in range(take("i"))]

        def partition():
            take("h")
            number, leader, _, isr = take("i"), take("i"), array_of(lambda: take("i")), array_of(lambda: take("i"))
            return number, (leader, len(isr))

        take("q")  # size and correlation id
        array_of(lambda: (take("i"), answers.read(take("h")), take("i")))
        topics = array_of(lambda: (take("h"), answers.read(take("h")), dict(array_of(partition))))
        return topics[0][2]


def logger_to(file):
    logger = logging.Logger("producer")
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    return logger


class Producer(threading.Thread):
    """Sends numbered records to all partitions in turn, and notes when each was acknowledged."""

    def __init__(self, bootstrap, topic, partitions, rate, acks="all", log=None):
        super().__init__(daemon=True)
        from confluent_kafka import Producer as Client

        self.client = Client({
            "bootstrap.servers": bootstrap,
            "enable.idempotence": acks == "all",
            "acks": acks,
            "linger.ms": 0,
            "message.timeout.ms": 120_000,
            "socket.timeout.ms": 10_000,
            "topic.metadata.refresh.interval.ms": 1000,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 200,
            # What it does about sequences and epochs, for whoever looks for the reason of a record that is there twice.
            **({"debug": "eos", "logger": logger_to(log)} if log else {"log_level": 0}),
        })
        self.topic, self.partitions, self.rate = topic, partitions, rate
        self.stopping = threading.Event()
        # By partition: when acknowledgements came; and the offset of record `partition + place * partitions`, or -1.
        self.times = collections.defaultdict(lambda: array.array("d"))
        self.offsets = collections.defaultdict(lambda: array.array("q"))
        self.failures = collections.Counter()

    def run(self):
        number, started = 0, time.monotonic()
        while not self.stopping.is_set():
            due = int((time.monotonic() - started) * self.rate)
            while number < due:
                partition = number % self.partitions
                try:
                    self.client.produce(
                        self.topic, str(number).encode(), partition=partition, on_delivery=self.delivered(number)
                    )
                except BufferError:
                    break
                number += 1
            self.client.poll(0.0005)
        self.client.flush(120)

    def delivered(self, number):
        def note(error, message):
            if error is not None:
                self.failures[error.name()] += 1
                return
            partition, place = message.partition(), number // self.partitions
            self.times[partition].append(time.monotonic())
            at(self.offsets[partition], place)[place] = message.offset()

        return note

    def finish(self):
        """Sends no more, and waits for what is under way."""
        self.stopping.set()
        self.join(150)

    def acknowledged(self, partition):
        """Number and offset of each record of the partition that was acknowledged."""
        for place, offset in enumerate(self.offsets[partition]):
            if offset >= 0:
                yield partition + place * self.partitions, offset

    def longest_gap(self, partition, start, end=None):
        """The longest time without an acknowledgement, in seconds, of those that touch the time from `start` on."""
        times = self.times[partition]
        first = max(0, bisect.bisect_left(times, start) - 1)
        last = len(times) if end is None else min(len(times), bisect.bisect_right(times, end) + 1)
        return max((times[after] - times[after - 1] for after in range(first + 1, last)), default=0.0)

    def acknowledged_since(self, partition, start):
        times = self.times[partition]
        return bool(times) and times[-1] > start


class Group:
    """Members of one group, in threads, and what they were shown and what they committed.

    What must hold: an offset shows one record whenever it is read; within an assignment offsets grow; and what is
    committed never goes back, whoever is asked.
    """

    def __init__(self, bootstrap, topic, partitions, members=2):
        self.bootstrap, self.topic, self.partitions, self.id = bootstrap, topic, partitions, "checking"
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.violations = []
        self.numbers = collections.defaultdict(lambda: array.array("q"))
        self.committed = collections.defaultdict(int)
        self.shown_at = 0.0
        self.commits = self.refused = self.asked = 0
        self.threads = [threading.Thread(target=self.member, daemon=True) for _ in range(members)]
        self.threads.append(threading.Thread(target=self.watch, daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def client(self):
        from confluent_kafka import Consumer

        return Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": self.id,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "socket.timeout.ms": 5000,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        })

    def violated(self, what):
        with self.lock:
            if len(self.violations) < 100:
                self.violations.append(what)

    def places(self):
        from confluent_kafka import TopicPartition

        return [TopicPartition(self.topic, partition) for partition in range(self.partitions)]

    def member(self):
        from confluent_kafka import KafkaException, TopicPartition

        client, last, position = self.client(), {}, {}

        def assigned(client, places):
            last.clear()
            position.clear()

        client.subscribe([self.topic], on_assign=assigned, on_revoke=assigned)
        commit_at = time.monotonic()
        while not self.stopping.is_set():
            for message in client.consume(500, 0.1):
                if message.error():
                    continue
                self.shown(message, last)
                position[message.partition()] = message.offset() + 1
            if position and time.monotonic() > commit_at:
                commit_at = time.monotonic() + 0.3
                offsets = [TopicPartition(self.topic, partition, offset) for partition, offset in position.items()]
                try:
                    done = client.commit(offsets=offsets, asynchronous=False)
                except KafkaException:
                    self.refused += 1
                    continue
                with self.lock:
                    self.commits += 1
                    for each in done:
                        if each.error is None:
                            self.committed[each.partition] = max(self.committed[each.partition], each.offset)
        client.close()

    def shown(self, message, last):
        partition, offset, number = message.partition(), message.offset(), int(message.value())
        with self.lock:
            before = at(self.numbers[partition], offset)[offset]
            self.numbers[partition][offset] = number
            self.shown_at = time.monotonic()
        if before not in (-1, number):
            self.violated(f"partition {partition}, offset {offset}: shown as record {before}, and later as {number}")
        if offset <= last.get(partition, -1):
            self.violated(f"partition {partition}: offset {offset} shown after {last[partition]} in one assignment")
        last[partition] = offset

    def watch(self):
        """Asks over and over what is committed."""
        from confluent_kafka import KafkaException

        client = self.client()
        while not self.stopping.wait(0.5):
            with self.lock:
                before = dict(self.committed)
            try:
                answered = client.committed(self.places(), timeout=5)
            except KafkaException:
                continue
            self.asked += 1
            for each in answered:
                floor = before.get(each.partition, 0)
                if each.error is None and max(each.offset, 0) < floor:  # nothing committed is -1001
                    self.violated(f"partition {each.partition}: {floor} was committed, and later {each.offset}")
        client.close()

    def has_read(self, ends):
        """Whether the members were shown all up to these ends."""
        with self.lock:
            return all(
                len(self.numbers[partition]) >= end and -1 not in self.numbers[partition] for partition, end in ends.items()
            )

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


def read_all(bootstrap, topic, partitions, limit_s=120):
    """The records of each partition from its beginning to its end: pairs of offset and number."""
    from confluent_kafka import Consumer, TopicPartition

    client = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-all", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "log_level": 0,
    })
    found = {}
    for partition in range(partitions):
        low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        client.assign([TopicPartition(topic, partition, low)])
        records, position, deadline = [], low, time.monotonic() + limit_s
        while position < high and time.monotonic() < deadline:
            for message in client.consume(10_000, 1.0):
                if not message.error():
                    records.append((message.offset(), int(message.value())))
                    position = message.offset() + 1
        found[partition] = records
    client.close()
    return found


def compare(producer, found):
    """What of the acknowledged is lost, twice, at another offset, or out of order in what `read_all` found."""
    outcome = {"acknowledged": 0, "failed": producer.failures.total(), "lost": 0, "twice": 0, "moved": 0, "disordered": 0}
    for partition, records in found.items():
        offsets = collections.defaultdict(list)
        for offset, number in records:
            offsets[number].append(offset)
        for number, offset in producer.acknowledged(partition):
            outcome["acknowledged"] += 1
            if number not in offsets:
                outcome["lost"] += 1
            elif offset not in offsets[number]:
                outcome["moved"] += 1
        outcome["twice"] += sum(1 for places in offsets.values() if len(places) > 1)
        numbers = [number for _, number in records]
        outcome["disordered"] += sum(1 for before, after in zip(numbers, numbers[1:]) if after < before)
    return outcome


def differing_replicas(nodes, topic):
    """The partitions whose logs are not byte for byte the same on all nodes, which have stopped."""
    differing = []
    first, *rest = nodes
    for folder in sorted(first.data_dir.glob(f"{topic}-*")):
        content = log_of(folder)
        for other in rest:
            copy = log_of(other.data_dir / folder.name)
            if copy != content:
                common = next((at for at, (a, b) in enumerate(zip(content, copy)) if a != b), min(len(content), len(copy)))
                differing.append(
                    f"{folder.name}: node {first.id} has {len(content)} bytes, node {other.id} has {len(copy)};"
                    f" they part at byte {common}"
                )
    return differing


def log_of(folder):
    """The segments one behind the other: where they are cut may differ."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("*.log")))
