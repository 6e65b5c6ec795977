"""What is measured: how each is driven, and what it must stand.

A measurement is driven against one running broker and gives figures by name. Costs are CPU seconds of the broker's
process (user and system); bytes are those of whole batches. Counts are the same for both brokers.
"""

import dataclasses
import multiprocessing
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import typing

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
    # needs a broker of its own: is given what makes one in place of a running one
    own_broker: bool = False
    raftsman_only: bool = False


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


def partitions_1000_and_3(bench):
    """The same batches into 3 and into 1,000 partitions."""
    reports = {}
    for partitions in (3, 1000):
        drive = produce("--batch-bytes", "16384", "--connections", "4", requests=200_000, partitions=partitions)
        reports[partitions] = drive(bench)
    figures = reports[1000]
    figures["1,000 to 3, CPU"] = reports[1000]["CPU µs/request"] / reports[3]["CPU µs/request"]
    return figures


def real_client(record, records):
    """Kafka's own producer and consumer."""

    def drive(bench):
        topic, count = bench.topic(), bench.count(records)
        bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--requests", "1")
        figures, size = {}, record * int(count)
        for warm in (True, False):
            sent = bench.count(records * 0.25) if warm else count
            text, before, after = bench.java(
                "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", sent, "--record-size", str(record),
                "--throughput", "-1", "--bootstrap-server", bench.broker.bootstrap, "--command-property", "batch.size=1000000",
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


def sendfile_loop(path, passes):
    """Bytes of a file over loopback with nothing but sendfile(2): (CPU s/GB of the sender, MB/s)."""
    listener = socket.create_server(("127.0.0.1", 0))
    size = os.path.getsize(path)
    ours, theirs = multiprocessing.Pipe()

    def send():
        peer, _ = listener.accept()
        with open(path, "rb") as file:
            before = resource.getrusage(resource.RUSAGE_SELF)
            for _ in range(passes):
                offset = 0
                while offset < size:
                    offset += os.sendfile(peer.fileno(), file.fileno(), offset, min(1 << 20, size - offset))
            after = resource.getrusage(resource.RUSAGE_SELF)
        peer.close()
        theirs.send(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    sender = multiprocessing.get_context("fork").Process(target=send)
    sender.start()
    buffer = bytearray(1 << 20)
    received, started = 0, time.monotonic()
    with socket.create_connection(listener.getsockname()) as peer:
        while count := peer.recv_into(buffer):
            received += count
    elapsed = time.monotonic() - started
    cpu = ours.recv()
    sender.join()
    listener.close()
    if received != size * passes:
        raise brokers.Trouble(f"the bare sendfile loop moved {received} of {size * passes} bytes")
    return cpu / received * 1e9, received / 1e6 / elapsed


def catch_up(bench):
    """Everything that was just written, from the page cache, in turn with a bare sendfile loop over as many bytes."""
    topic, passes = bench.topic(), bench.count(20)
    bench.run("produce", "--create-topic", "--topic", topic, "--partitions", "3", "--batch-bytes", "1048576", "--requests",
              bench.count(1_000))
    bench.run("fetch", "--topic", topic, "--duration", bench.scale.warmup)
    segment = max(bench.broker.data_dir.glob(f"{topic}-*/*.log"), key=lambda path: path.stat().st_size)
    sendfile_loop(segment, 1)
    turns = []
    for _ in range(3):
        figures = of_report(bench.run("fetch", "--topic", topic, "--passes", passes))
        # a topic of three partitions, so three times the passes
        figures["bare sendfile, CPU s/GB"], figures["bare sendfile, MB/s"] = sendfile_loop(segment, 3 * int(passes))
        turns.append(figures)
    figures = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    figures["to a bare sendfile, CPU"] = figures["CPU s/GB"] / figures["bare sendfile, CPU s/GB"]
    figures["to a bare sendfile, MB/s"] = figures["MB/s"] / figures["bare sendfile, MB/s"]
    bench.delete(topic)
    return figures


def tail(bench):
    """Eight consumers wait for one record at a time; one request in nine is that which writes it."""
    topic = bench.topic()
    report = bench.run("fetch", "--create-topic", "--topic", topic, "--feed", "100", "--connections", "8", "--warmup", bench.scale.warmup,
                       "--requests", bench.count(80_000))
    bench.delete(topic)
    return of_report(report)


def latency(rate):
    def drive(bench):
        topic = bench.topic()
        report = bench.run("latency", "--create-topic", "--topic", topic, "--rate", str(rate), "--warmup", bench.scale.warmup, "--duration",
                           bench.scale.latency)
        bench.delete(topic)
        return of_report(report)

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


ONE_RECORD = ["--record-size", "100", "--batch-records", "1", "--depth", "1"]
VOLUME = ("MB/s", "peak MiB")
REQUESTS = ("requests/s", "ack p50 ms", "ack p99 ms", "peak MiB")
ONE_RECORD_COST = [ratio_at_most("CPU µs/request", 0.25), at_most("CPU µs/request", 20)]
LATENCY = [ratio_at_most("CPU s/1M records", 0.3), ratio_at_most("end to end p99 ms", 0.5), ratio_at_most("end to end p99.9 ms", 0.3)]
ARRIVALS = ("end to end p50 ms", "end to end max ms")

MEASUREMENTS = [
    Measurement("produce-1mib", "produce, batches of 1 MiB, 1 KiB records",
                produce("--batch-bytes", "1048576", requests=4_000),
                [ratio_at_most("CPU s/GB", 0.5), ratio_at_least("MB/s", 1.5)], VOLUME),
    Measurement("produce-16kib", "produce, batches of 16 KiB, 1 KiB records, 4 connections",
                produce("--batch-bytes", "16384", "--connections", "4", requests=80_000),
                [ratio_at_most("CPU s/GB", 0.2), ratio_at_least("requests/s", 3)], VOLUME),
    Measurement("produce-10b", "produce, 10 B records in batches of 1 MiB",
                produce("--record-size", "10", "--batch-bytes", "1048576", requests=2_000), [ratio_at_most("CPU s/GB", 0.15)], VOLUME),
    Measurement("produce-10b-java", "10 B records by Kafka's own producer, and its consumer", real_client(10, 20_000_000),
                [at_least("records/s", 1_000_000), ratio_at_least("records/s", 1)], ("CPU s/1M records", "consume CPU s/1M records")),
    Measurement("produce-zstd", "produce, batches of 1 MiB before zstd, per compressed byte",
                produce("--batch-bytes", "1048576", "--compression", "zstd", requests=8_000), [ratio_at_most("CPU s/GB", 0.5)], VOLUME),
    Measurement("one-record-1", "one record of 100 B a request, 1 connection",
                produce(*ONE_RECORD, requests=60_000), [*ONE_RECORD_COST, ratio_at_least("requests/s", 2)], REQUESTS),
    Measurement("one-record-16", "one record of 100 B a request, 16 connections",
                produce(*ONE_RECORD, "--connections", "16", requests=150_000), [*ONE_RECORD_COST, ratio_at_least("requests/s", 3)], REQUESTS),
    Measurement("one-record-1000", "one record of 100 B a request, 1,000 connections",
                produce(*ONE_RECORD, "--connections", "1000", requests=150_000), [ratio_at_most("CPU µs/request", 0.25)], REQUESTS),
    Measurement("partitions-1000", "batches of 16 KiB into 1,000 partitions instead of 3", partitions_1000_and_3,
                [at_most("1,000 to 3, CPU", 1.1)], ("CPU µs/request",)),
    Measurement("fetch-catch-up", "fetch, catch-up from page cache", catch_up,
                [ratio_at_most("CPU s/GB", 0.6), at_most("to a bare sendfile, CPU", 1.5), at_least("to a bare sendfile, MB/s", 0.85)],
                ("MB/s", "bare sendfile, CPU s/GB", "bare sendfile, MB/s")),
    Measurement("fetch-tail", "fetch at the tail, one record of 100 B a request", tail, [ratio_at_most("CPU µs/request", 0.25)], ("requests/s",)),
    Measurement("latency-1000", "end to end at 1,000 records a second, acks=all", latency(1_000), LATENCY, ARRIVALS),
    Measurement("latency-10000", "end to end at 10,000 records a second, acks=all", latency(10_000), LATENCY, ARRIVALS),
    Measurement("connections-idle", "10,000 idle connections", idle_connections, [at_most("KiB/connection", 10), at_most("CPU ms/s", 1)]),
    Measurement("commits", "commits by 16 groups, one at a time each", commits, [ratio_at_most("CPU µs/request", 0.25)], ("requests/s",)),
    Measurement("members-10", "10 members until all are assigned", members(10), [ratio_at_most("s until assigned", 1)], ("CPU ms",)),
    Measurement("members-100", "100 members until all are assigned", members(100), [ratio_at_most("s until assigned", 1)], ("CPU ms",)),
    Measurement("start-empty", "start on an empty folder, and idle", start_empty,
                [at_most("start ms", 50), at_most("idle % of a core", 0.1), at_most("idle MiB", 20)], own_broker=True),
    Measurement("start-written", "start on 1,000 written partitions", start_written, [at_most("start ms", 50)], own_broker=True),
    Measurement("binary", "the binary", binary_size, [at_most("MiB, stripped", 25)], raftsman_only=True),
]
