"""What is measured: how each is driven, and what it must stand.

A measurement is driven against one running broker and gives figures by name. Costs are CPU seconds of the broker's
process (user and system); bytes are those of whole batches. Counts are the same for both brokers.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import typing

import bare
import brokers


@dataclasses.dataclass
class Limit:
    """What a figure must stand: Raftsman's own, or as a share of Kafka's."""

    figure: str
    at_most: float = None
    at_least: float = None
    ratio: bool = True

    def words(self):
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {bound:g}{' ×' if self.ratio else ''}"

    def stands(self, value):
        return value <= self.at_most if self.at_most is not None else value >= self.at_least


def ratio_at_most(figure, bound):
    return Limit(figure, at_most=bound)


def ratio_at_least(figure, bound):
    return Limit(figure, at_least=bound)


def at_most(figure, bound):
    return Limit(figure, at_most=bound, ratio=False)


def at_least(figure, bound):
    return Limit(figure, at_least=bound, ratio=False)


@dataclasses.dataclass
class Measurement:
    name: str
    what: str
    drive: typing.Callable
    limits: list
    # figures to print besides those with limits
    show: tuple = ()
    # writes so much that the state of the machine's memory counts
    writes: bool = False
    # needs a broker of its own: is given what makes one in place of a running one
    own_broker: bool = False
    raftsman_only: bool = False
    # of how many nodes the cluster is; a broker's CPU is the sum of theirs
    nodes: int = 1
    # is measured before a broker starts and after it has ended, without it
    around: bool = False
    # by a client in compat-tests' virtual environment
    needs_python: bool = False
    # in a full round of four, with both brokers together
    seconds: int = 1
    # one sentence on what bounds it, for the page; shown where a limit is missed
    bound: str = ""

    def rounds(self, kind, rounds):
        """How many of so many rounds. Where no limit is a share of Kafka's, Kafka is measured once: that takes long, and decides nothing."""
        if kind == "kafka" and self.raftsman_only:
            return 0
        return 1 if kind == "kafka" and self.limits and not any(limit.ratio for limit in self.limits) else rounds


def of_report(report):
    """The figures that most reports have."""
    broker = report["broker"]
    figures = {
        "CPU s/GB": broker["cpu_seconds_per_gb"],
        "CPU µs/request": broker["cpu_us_per_request"],
        "CPU s/1M records": broker["cpu_seconds_per_million_records"],
        "MB/s": report["mb_per_second"],
        "requests/s": report["requests_per_second"],
        "records/s": report["records_per_second"],
        "peak MiB": broker["resident_peak_bytes"] / 2**20,
        "client CPU s": report["client_cpu_seconds"],
    }
    for key, words in (("latency", "ack"), ("end_to_end", "end to end")):
        if report[key]:
            for quantile, name in (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9"), ("max_ms", "max")):
                figures[f"{words} {name} ms"] = report[key][quantile]
    return {name: value for name, value in figures.items() if value is not None}


def produce(*arguments, requests, partitions=3):
    def drive(bench):
        topic = bench.topic()
        report = bench.run("produce", "--create-topic", "--topic", topic, "--partitions", str(partitions), *arguments,
                           "--warmup", bench.scale.warmup, "--requests", bench.count(requests))
        bench.delete(topic)
        return of_report(report)

    return drive


def beside_bare(drive, name, measure, cost, *more):
    """A row, and right behind it the least that it takes on this machine."""

    def both(bench):
        figures, least = drive(bench), measure(bench)
        figures.update({f"bare {name}, {figure}": least[figure] for figure in (cost, *more)})
        figures["to bare, CPU"] = figures[cost] / least[cost]
        return figures

    return both


def compressed(codec, requests):
    """Per compressed byte. As no byte needs to be decompressed, it is to cost what uncompressed ones cost in the same round."""

    def drive(bench):
        if UNCOMPRESSED not in bench.done:
            bench.done[UNCOMPRESSED] = produce("--batch-bytes", "1048576", requests=2_000)(bench)
        figures = produce("--batch-bytes", "1048576", "--compression", codec, requests=requests)(bench)
        figures["to uncompressed, CPU"] = figures["CPU s/GB"] / bench.done[UNCOMPRESSED]["CPU s/GB"]
        return figures

    return drive


def partitions_1000_and_3(bench):
    """The same batches into 3 and into 1,000 partitions."""
    reports = {}
    for partitions in (3, 1000):
        drive = produce("--batch-bytes", "16384", "--connections", "4", requests=50_000, partitions=partitions)
        reports[partitions] = drive(bench)
    figures = reports[1000]
    figures["1,000 to 3, CPU"] = reports[1000]["CPU µs/request"] / reports[3]["CPU µs/request"]
    return figures


def real_client(record, records, batch):
    """Kafka's own producer and consumer."""

    def drive(bench):
        topic, count = bench.topic(), bench.count(records)
        bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--requests", "1")
        figures, size = {}, record * int(count)
        for warm in (True, False):
            sent = bench.count(records * 0.25) if warm else count
            text, before, after = bench.java(
                "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", sent, "--record-size", str(record),
                "--throughput", "-1", "--bootstrap-server", bench.broker.bootstrap, "--command-property", f"batch.size={batch}",
                "--command-property", "linger.ms=5", "--command-property", "acks=all", "--command-property", "max.request.size=1048576",
            )
        found = re.search(rf"^{sent} records sent, ([\d.]+) records/sec", text, re.M)
        if not found:
            raise brokers.Trouble(f"ProducerPerformance said:\n{text}")
        figures["records/s"] = float(found[1])
        figures["CPU s/1M records"] = (after.cpu - before.cpu) / int(count) * 1e6
        figures["CPU s/GB of values"] = (after.cpu - before.cpu) / size * 1e9
        text, before, after = bench.java(
            "org.apache.kafka.tools.ConsumerPerformance", "--topic", topic, "--num-records", count, "--bootstrap-server",
            bench.broker.bootstrap, "--hide-header",
        )
        figures["consume CPU s/1M records"] = (after.cpu - before.cpu) / int(count) * 1e6
        bench.delete(topic)
        return figures

    return drive


def catch_up(connections, partitions, turns):
    """Everything that was just written, from the page cache, in turn with a bare sendfile loop over as many bytes."""

    def drive(bench):
        topic = bench.topic()
        bench.run("produce", "--create-topic", "--topic", topic, "--partitions", str(partitions), "--batch-bytes", "1048576", "--requests",
                  bench.count(1_000))
        fetch = ("fetch", "--topic", topic, "--connections", str(connections))
        bench.run(*fetch, "--duration", bench.scale.warmup)
        segment = max(bench.broker.data_dir.glob(f"{topic}-*/*.log"), key=lambda path: path.stat().st_size)
        bare.sendfile(segment, segment.stat().st_size)
        found = []
        for _ in range(turns):
            report = bench.run(*fetch, "--passes", bench.count(5))
            least = bare.sendfile(segment, report["bytes"])
            found.append({**of_report(report), **{f"bare sendfile, {name}": least[name] for name in ("CPU s/GB", "MB/s")}})
        figures = {name: statistics.median(turn[name] for turn in found) for name in found[0]}
        figures["to a bare sendfile, CPU"] = figures["CPU s/GB"] / figures["bare sendfile, CPU s/GB"]
        figures["to a bare sendfile, MB/s"] = figures["MB/s"] / figures["bare sendfile, MB/s"]
        bench.delete(topic)
        return figures

    return drive


def drop_from_memory(files):
    """Has the page cache forget them."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_beside_producer(bench):
    """One record a request at a fixed rate, while a consumer reads 4 GB from the disk, again and again."""
    cold, live = bench.topic(), bench.topic()
    bench.run("produce", "--create-topic", "--topic", cold, "--partitions", "3", "--batch-bytes", "1048576", "--requests",
              bench.count(4_000))
    files = list(bench.broker.data_dir.glob(f"{cold}-*/*.log"))
    drop_from_memory(files)

    def disk_bytes():
        return int(re.search(r"^read_bytes: (\d+)", pathlib.Path(f"/proc/{bench.broker.pid}/io").read_text(), re.M)[1])

    before, reads = disk_bytes(), []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        producer = pool.submit(bench.run, "produce", "--create-topic", "--topic", live, "--partitions", "3", "--record-size", "100",
                               "--batch-records", "1", "--rate", "2000", "--warmup", bench.scale.warmup, "--duration", bench.scale.cold)
        while not producer.done():
            drop_from_memory(files)
            reads.append(bench.run("fetch", "--topic", cold, "--passes", "1"))
    figures = of_report(producer.result())
    fetched = sum(report["bytes"] for report in reads)
    figures["consumer's MB/s"] = fetched / sum(report["seconds"] for report in reads) / 1e6
    figures["of it from disk"] = (disk_bytes() - before) / fetched
    if figures["of it from disk"] < 0.8:
        raise brokers.Trouble(f"{figures['of it from disk']:.0%} of what was fetched came from the disk")
    bench.delete(cold)
    bench.delete(live)
    return figures


def librdkafka(record, records, batch):
    def drive(bench):
        topic, count = bench.topic(), bench.count(records)
        bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--requests", "1")
        script = [str(brokers.compat.CACHE / "venv" / "bin" / "python"), str(brokers.HERE / "librdkafka.py")]
        for sent in (bench.count(records * 0.25), count):
            said, before, after = bench.client([*script, bench.broker.bootstrap, topic, str(record), sent, str(batch)])
        bench.delete(topic)
        cpu = after.cpu - before.cpu
        return {"records/s": float(said), "CPU s/GB of values": cpu / int(count) / record * 1e9, "CPU s/1M records": cpu / int(count) * 1e6}

    return drive


def tail(requests, partitions=1, sessions=()):
    """Eight consumers wait for one record at a time, each in another partition; one request in nine is that which writes it."""

    def drive(bench):
        topic, where = bench.topic(), ("--partitions", str(partitions))
        bench.run("produce", "--create-topic", "--topic", topic, *where, "--record-size", "100", "--batch-records", "3", "--requests",
                  str(partitions))
        report = bench.run("fetch", "--topic", topic, *sessions, "--feed", "100", "--connections", "8", "--warmup", bench.scale.warmup,
                           "--requests", bench.count(requests))
        bench.delete(topic)
        return of_report(report)

    return drive


def latency(rate):
    def drive(bench):
        topic = bench.topic()
        report = bench.run("latency", "--create-topic", "--topic", topic, "--rate", str(rate), "--warmup", bench.scale.warmup, "--duration",
                           bench.scale.latency)
        bench.delete(topic)
        return of_report(report)

    return drive


def of_three(*arguments, config=(), requests=None, duration=None):
    """Produces to three replicas of three partitions; what the three brokers together used is counted from the first request on."""

    def drive(bench):
        topic = bench.topic()
        how_long = ["--requests", bench.count(requests)] if requests else ["--duration", str(max(1, duration * bench.scale.time))]
        # Topic, connections and leaders are there before anything is counted.
        bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--replication-factor", "3", *config, *arguments, "--requests", "30")
        before = bench.broker.cpu_seconds()
        report = bench.run("produce", "--topic", topic, *arguments, *how_long)
        cpu = bench.broker.cpu_seconds() - before
        bench.delete(topic)
        done = report["requests_per_second"] * report["seconds"]
        return {
            "CPU µs/request": cpu / done * 1e6,
            "CPU s/GB": cpu / (report["mb_per_second"] * report["seconds"] / 1e3),
            "MB/s": report["mb_per_second"],
            "requests/s": report["requests_per_second"],
            "records/s": report["records_per_second"],
            "ack p50 ms": report["latency"]["p50_ms"],
            "ack p99 ms": report["latency"]["p99_ms"],
        }

    return drive


def latency_of_three(rate, *more):
    def drive(bench):
        topic = bench.topic()
        before = bench.broker.cpu_seconds()
        report = bench.run("latency", "--create-topic", "--topic", topic, "--replication-factor", "3", "--rate", str(rate), *more, "--warmup",
                           bench.scale.warmup, "--duration", bench.scale.latency)
        cpu = bench.broker.cpu_seconds() - before
        bench.delete(topic)
        sent = rate * (float(bench.scale.warmup) + float(bench.scale.latency))
        figures = {f"end to end {name}": report["end_to_end"][quantile]
                   for quantile, name in (("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"), ("p999_ms", "p99.9 ms"), ("max_ms", "max ms"))}
        return {**figures, "CPU s/1M records": cpu / sent * 1e6}

    return drive


def create_replicated(bench, topic, partitions):
    """Creates a topic of three replicas by Raftsman's tool; it is asked again while there is no controller."""
    command = [str(bench.binary), "topics", "--bootstrap-server", bench.broker.bootstrap, "--create", "--if-not-exists", "--topic", topic,
               "--partitions", str(partitions), "--replication-factor", "3"]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise brokers.Trouble(f"{' '.join(command)}: {done.stderr.strip()}")


def idle(broker, scale):
    """What the three use together when nobody asks them for anything, in hundredths of a core."""
    time.sleep(3)
    before, at = broker.threads_cpu_seconds(), time.monotonic()
    time.sleep(float(scale.idle))
    return (broker.threads_cpu_seconds() - before) / (time.monotonic() - at) * 100


def start_three(make, scale):
    broker, bench = make()
    try:
        started = time.monotonic()
        broker.start_seconds()
        create_replicated(bench, "first", 3)
        seconds = time.monotonic() - started
        return {"s to the first topic": seconds, "idle % of a core": idle(broker, scale)}
    finally:
        broker.end()


def replicated_idle(partitions):
    def drive(make, scale):
        broker, bench = make()
        try:
            broker.start_seconds()
            started = time.monotonic()
            # Kafka, and Raftsman as well, takes no more than 10,000 records of metadata at once.
            for topic in ("many", "more"):
                create_replicated(bench, topic, partitions // 2)
            seconds = time.monotonic() - started
            # until the last is in sync
            deadline = time.monotonic() + 120
            while broker.cluster.tool("topics", "--describe", "--under-replicated-partitions") and time.monotonic() < deadline:
                time.sleep(0.2)
            return {"s to create": seconds, "idle % of a core": idle(broker, scale)}
        finally:
            broker.end()

    return drive


def idle_connections(bench):
    report = bench.run("connections", "--count", "10000", "--duration", bench.scale.idle)
    return {
        "KiB/connection": report["bytes_per_connection"] / 1024,
        "CPU ms/s": report["broker"]["cpu_seconds"] / report["seconds"] * 1e3,
    }


def commits(bench):
    topic = bench.topic()
    report = bench.run("groups", "--create-topic", "--topic", topic, "--groups", "16", "--commit", "--warmup", bench.scale.warmup,
                       "--requests", bench.count(80_000))
    bench.delete(topic)
    return {**of_report(report), "s until assigned": report["seconds_until_assigned"]}


def members(count):
    def drive(bench):
        topic = bench.topic()
        report = bench.run("groups", "--create-topic", "--topic", topic, "--partitions", str(count), "--members", str(count),
                           "--group-prefix", f"members-{count}", "--heartbeat-interval-ms", "100")
        bench.delete(topic)
        return {"s until assigned": report["seconds_until_assigned"], "CPU ms": report["broker"]["cpu_seconds"] * 1e3}

    return drive


def warm_up(bench):
    """Before the first row: a JVM compiles what it runs often."""
    topic = bench.topic()
    bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--connections", "4", "--duration", bench.scale.first)
    bench.run("fetch", "--topic", topic, "--duration", bench.scale.warmup)
    bench.delete(topic)


def bare_write(folder, scale):
    """The state of the machine: gives what takes the second figure and gives both."""
    before = bare.write(folder, scale)["CPU s/GB"]
    return lambda: {"bare write before, CPU s/GB": before, "bare write after, CPU s/GB": bare.write(folder, scale)["CPU s/GB"]}


def start_empty(make, scale):
    broker, _ = make()
    try:
        seconds = broker.start_seconds()
        time.sleep(2)
        before, at = brokers.threads_cpu(broker.pid), time.monotonic()
        time.sleep(float(scale.idle))
        cpu = (brokers.threads_cpu(broker.pid) - before) / (time.monotonic() - at)
        used = brokers.usage(broker.pid)
    finally:
        broker.end()
    return {"start ms": seconds * 1e3, "idle % of a core": cpu * 100, "idle MiB": used.resident / 2**20}


def start_written(make, scale):
    broker, bench = make()
    try:
        broker.start_seconds()
        bench.run("produce", "--create-topic", "--topic", "written", "--partitions", "1000", "--batch-records", "10", "--requests", "5000")
        broker.end()
        seconds = broker.start_seconds(bytes_min=20_000)
    finally:
        broker.end()
    return {"start ms": seconds * 1e3}


def binary_size(bench):
    strip = shutil.which("strip")
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(bench.binary, folder)
        if strip:
            subprocess.run([strip, copy], check=True)
        return {"MiB, stripped": os.path.getsize(copy) / 2**20}


MIB_BATCHES = ["--batch-bytes", "1048576"]
SMALL_BATCHES = ["--batch-bytes", "16384"]
ONE_RECORD = ["--record-size", "100", "--batch-records", "1", "--depth", "1"]
# the row that compressed ones are compared with
UNCOMPRESSED = "produce-1mib"
VOLUME = ("MB/s", "peak MiB")
REQUESTS = ("requests/s", "ack p50 ms", "ack p99 ms", "peak MiB")
BARE_SINK = ("bare sink, CPU s/GB", "to bare, CPU")
BARE_ECHO = ("bare echo and write, CPU µs/request", "bare echo and write, requests/s", "to bare, CPU")
SMALL_BATCHES_COST = [ratio_at_most("CPU s/GB", 0.2), ratio_at_least("requests/s", 3)]
COMPRESSED = [ratio_at_most("CPU s/GB", 0.5), at_most("to uncompressed, CPU", 1.15)]
ONE_RECORD_COST = [ratio_at_most("CPU µs/request", 0.25), at_most("CPU µs/request", 20)]
LATENCY = [ratio_at_most("CPU s/1M records", 0.3), ratio_at_most("end to end p99 ms", 0.5), ratio_at_most("end to end p99.9 ms", 0.3)]
ARRIVALS = ("end to end p50 ms", "end to end max ms")
CLIENT = ("CPU s/1M records", "consume CPU s/1M records")


def small_batches(*arguments, connections=4):
    return produce(*SMALL_BATCHES, *arguments, "--connections", str(connections), requests=60_000)


def one_record(connections, requests):
    drive = produce(*ONE_RECORD, "--connections", str(connections), requests=requests)
    if connections > 16:
        return drive
    return beside_bare(drive, "echo and write", bare.echo(connections), "CPU µs/request", "requests/s")


# in the order in which they run
MEASUREMENTS = [
    Measurement("bare-write", "bare writes of 1 MiB without a broker, before and after its turn", bare_write, [],
                ("bare write before, CPU s/GB", "bare write after, CPU s/GB"), around=True, seconds=40),
    Measurement(UNCOMPRESSED, "produce, batches of 1 MiB, 1 KiB records",
                beside_bare(produce(*MIB_BATCHES, requests=4_000), "sink", bare.sink(1 << 20, 1), "CPU s/GB", "MB/s"),
                [ratio_at_most("CPU s/GB", 0.5), ratio_at_least("MB/s", 1.5)], (*VOLUME, "bare sink, MB/s", *BARE_SINK),
                writes=True, seconds=18),
    Measurement("produce-16kib", "produce, batches of 16 KiB, 1 KiB records, 4 connections",
                beside_bare(small_batches(), "sink", bare.sink(16384, 4), "CPU s/GB", "requests/s"),
                SMALL_BATCHES_COST, (*VOLUME, "bare sink, requests/s", *BARE_SINK), writes=True, seconds=16,
                bound="the bare program, which receives, checksums and writes the same batches with system calls alone, is above the limit, too: half of the CPU is `pwritev`, most of it ext4's work for each page of a write that begins and ends inside of one."),
    Measurement("produce-16kib-16", "produce, batches of 16 KiB, 1 KiB records, 16 connections",
                small_batches(connections=16), SMALL_BATCHES_COST, VOLUME, writes=True, seconds=11,
                bound='as with 4 connections; Kafka gains more from sixteen, as its threads find several requests at a time.'),
    Measurement("produce-16kib-acks1", "produce, batches of 16 KiB, 1 KiB records, acks=1",
                small_batches("--acks", "1"), SMALL_BATCHES_COST, VOLUME, writes=True, seconds=12,
                bound='as with acks=all, which costs the same here: one node is all in-sync replicas there are.'),
    Measurement("produce-16kib-100b", "produce, batches of 16 KiB, 100 B records",
                small_batches("--record-size", "100"), SMALL_BATCHES_COST, VOLUME, writes=True, seconds=12,
                bound='as with 1 KiB records; the walk over ten times as many adds some 0.04 CPU s/GB.'),
    Measurement("produce-10b", "produce, 10 B records in batches of 1 MiB",
                produce("--record-size", "10", *MIB_BATCHES, requests=2_000),
                [ratio_at_most("CPU s/GB", 0.15)], VOLUME, writes=True, seconds=11,
                bound='receiving and writing take 0.3 to 0.5 CPU s/GB (the bare sink above), checksum and walk over the records 0.25; Kafka, warm, needs a third of what the limit was set by.'),
    *[Measurement(f"produce-{codec}", f"produce, batches of 1 MiB before {codec}, per compressed byte",
                  compressed(codec, requests), COMPRESSED, VOLUME, writes=True, seconds=12)
      for codec, requests in (("gzip", 2_000), ("snappy", 4_000), ("lz4", 4_000), ("zstd", 4_000))],
    Measurement("produce-10b-java", "10 B records by Kafka's own clients", real_client(10, 5_000_000, 1_000_000),
                [at_least("records/s", 1_000_000), ratio_at_least("records/s", 1)], CLIENT, writes=True, seconds=28),
    Measurement("produce-16kib-java", "1 KiB records in 16 KiB batches by Kafka's own clients",
                real_client(1024, 500_000, 16_384),
                [ratio_at_least("records/s", 1)], ("CPU s/GB of values", *CLIENT), writes=True, seconds=26),
    Measurement("produce-librdkafka", "1 KiB records in 64 KiB batches by librdkafka", librdkafka(1024, 600_000, 65_536),
                [ratio_at_most("CPU s/GB of values", 0.5)], ("records/s",), writes=True, needs_python=True, seconds=16),
    Measurement("one-record-1", "one record of 100 B a request, 1 connection", one_record(1, 60_000),
                [*ONE_RECORD_COST, ratio_at_least("requests/s", 2)], (*REQUESTS, *BARE_ECHO), seconds=15,
                bound="broker and client sleep between requests: a bare echo that writes the record takes nearly as much. Two fifths are the waking of the client's core and of the broker's own (`perf`: `_raw_spin_unlock_irqrestore` below `sock_def_readable`, `finish_task_switch` below `epoll_wait`)."),
    Measurement("one-record-16", "one record of 100 B a request, 16 connections", one_record(16, 100_000),
                [*ONE_RECORD_COST, ratio_at_least("requests/s", 3)], (*REQUESTS, *BARE_ECHO), seconds=13,
                bound="four system calls a request, of which `send` alone, which does the client's receiving over loopback as well, takes 4.5 µs; the client on the other core is busy all the time."),
    Measurement("one-record-1000", "one record of 100 B a request, 1,000 connections", one_record(1000, 100_000),
                [ratio_at_most("CPU µs/request", 0.25)], REQUESTS, seconds=12,
                bound='as with 16 connections.'),
    Measurement("partitions-1000", "batches of 16 KiB into 1,000 partitions instead of 3", partitions_1000_and_3,
                [at_most("1,000 to 3, CPU", 1.1)], ("CPU µs/request",), writes=True, seconds=23,
                bound="a bare loop of writes of 16 KiB costs 1.25 times as much over 1,000 files as over 3 on this machine; Kafka's own factor stands beside it."),
    Measurement("fetch-catch-up", "fetch, catch-up from page cache", catch_up(1, 3, turns=3),
                [ratio_at_most("CPU s/GB", 0.6), at_most("to a bare sendfile, CPU", 1.5), at_least("to a bare sendfile, MB/s", 0.85)],
                ("MB/s", "bare sendfile, CPU s/GB", "bare sendfile, MB/s"), writes=True, seconds=32),
    Measurement("fetch-catch-up-16", "fetch, catch-up from page cache, 16 consumers", catch_up(16, 16, turns=1),
                [ratio_at_most("CPU s/GB", 0.6)], ("MB/s", "bare sendfile, CPU s/GB"), writes=True, seconds=18),
    Measurement("fetch-cold", "2,000 records a second beside a cold read of 4 GB", cold_beside_producer,
                [ratio_at_most("ack p99 ms", 0.5)], ("ack p50 ms", "ack p99.9 ms", "ack max ms", "consumer's MB/s"),
                writes=True, seconds=62),
    Measurement("fetch-tail", "fetch at the tail, one record of 100 B a request", tail(80_000), [ratio_at_most("CPU µs/request", 0.25)],
                ("requests/s",), seconds=12),
    Measurement("fetch-tail-1000", "fetch at the tail of 1,000 partitions, in fetch sessions",
                tail(2_000, 1000, ["--sessions"]), [ratio_at_most("CPU µs/request", 0.25)], ("requests/s",), seconds=40),
    Measurement("latency-1000", "end to end at 1,000 records a second, acks=all", latency(1_000), LATENCY, ARRIVALS, seconds=36),
    Measurement("latency-10000", "end to end at 10,000 records a second, acks=all", latency(10_000), LATENCY, ARRIVALS, seconds=36,
                bound='each record is a produce and a fetch of its own, and wakes both sides for each: 28 CPU µs a request.'),
    Measurement("connections-idle", "10,000 idle connections", idle_connections,
                [at_most("KiB/connection", 10), at_most("CPU ms/s", 1)], seconds=17),
    Measurement("commits", "commits by 16 groups, one at a time each", commits,
                [ratio_at_most("CPU µs/request", 0.25)], ("requests/s",), seconds=10),
    Measurement("members-10", "10 members until all are assigned", members(10),
                [ratio_at_most("s until assigned", 1)], ("CPU ms",), seconds=6),
    Measurement("members-100", "100 members until all are assigned", members(100),
                [ratio_at_most("s until assigned", 1)], ("CPU ms",), seconds=16),
    Measurement("start-empty", "start on an empty folder, and idle", start_empty,
                [at_most("start ms", 50), at_most("idle % of a core", 0.1), at_most("idle MiB", 20)], own_broker=True, seconds=18),
    Measurement("start-written", "start on 1,000 written partitions", start_written,
                [at_most("start ms", 50)], own_broker=True, seconds=16),
    Measurement("binary", "the binary", binary_size, [at_most("MiB, stripped", 25)], raftsman_only=True, seconds=1),
    Measurement("three-16kib", "three replicas, acks=all: batches of 16 KiB, 1 KiB records, 4 connections",
                of_three(*SMALL_BATCHES, "--connections", "4", requests=20_000),
                [ratio_at_most("CPU µs/request", 0.15)], ("requests/s", "ack p99 ms"), writes=True, nodes=3, seconds=30),
    Measurement("three-1mib", "three replicas, acks=all: batches of 1 MiB, 1 KiB records", of_three(*MIB_BATCHES, requests=800),
                [ratio_at_most("CPU s/GB", 0.3)], ("MB/s",), writes=True, nodes=3, seconds=40),
    Measurement("three-latency-1000", "three replicas: end to end at 1,000 records a second", latency_of_three(1_000),
                [ratio_at_most("end to end p99 ms", 0.1)], (*ARRIVALS, "CPU s/1M records"), nodes=3, seconds=38),
    Measurement("three-latency-10000", "three replicas: end to end at 10,000 records a second", latency_of_three(10_000),
                [ratio_at_most("end to end p99 ms", 0.1)], (*ARRIVALS, "CPU s/1M records"), nodes=3, seconds=38),
    Measurement("three-synced", "three replicas, each record synced on each (flush.messages=1), 16 connections",
                of_three("--batch-records", "1", "--record-size", "1024", "--connections", "16", config=["--topic-config", "flush.messages=1"], duration=10),
                [ratio_at_least("records/s", 5)], ("ack p50 ms", "ack p99 ms"), writes=True, nodes=3, seconds=28),
    Measurement("three-start", "three nodes: from nothing to the first replicated topic, and idle", start_three,
                [at_most("s to the first topic", 2), at_most("idle % of a core", 0.5)], own_broker=True, nodes=3, seconds=45),
    Measurement("three-idle-10000", "10,000 partitions of three replicas, idle", replicated_idle(10_000),
                [at_most("idle % of a core", 2)], ("s to create",), own_broker=True, raftsman_only=True, nodes=3, seconds=50),
]
