"""Brokers as they are measured: Apache Kafka 4.3.0 with the JVM flags of its own scripts, and Raftsman.

What fetches Kafka and starts it is shared with compat-tests/run.
"""

import dataclasses
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def compat_tests():
    loader = importlib.machinery.SourceFileLoader("compat_run", str(ROOT / "compat-tests" / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compat_run", loader))
    loader.exec_module(module)
    return module


compat = compat_tests()
sys.modules["compat_run"] = compat  # what cluster.py builds on
sys.path.insert(0, str(ROOT / "compat-tests"))

import cluster as clusters  # noqa: E402

# bin/kafka-run-class.sh and bin/kafka-server-start.sh of Kafka 4.3.0
KAFKA_JVM = [
    "java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
]
QUIET = f"-Dlog4j2.configurationFile={ROOT / 'compat-tests' / 'kafka-tools' / 'log4j2.properties'}"
LIBS = f"{compat.CACHE / 'kafka-tools' / 'libs'}/*"

# the same for both
PROPERTIES = {
    "node.id": "1",
    "offsets.topic.replication.factor": "1",
    "group.initial.rebalance.delay.ms": "0",
    # so that deleted topics make room on the disk before the next measurement
    "log.segment.delete.delay.ms": "100",
    # connections come in bursts here
    "socket.listen.backlog.size": "1000",
}


class Trouble(Exception):
    """Something that ends the run."""


@dataclasses.dataclass
class Usage:
    """A process at one moment: seconds of CPU (user and system), resident bytes, their peak, and the time."""

    cpu: float
    resident: int
    peak: int
    at: float


def usage(pid):
    # in ticks of 10 ms, which is fine enough for whoever uses a second of them
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    kib = {key: int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")}
    return Usage(cpu, kib["VmRSS"], kib["VmHWM"], time.monotonic())


def threads_cpu(pid):
    """Seconds of CPU of the threads that there are, to the nanosecond: for processes that hardly use any."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1e9


def metadata(port, timeout_s=5.0):
    """Asks for all topics with Metadata v4; the answer's bytes, or nothing when there is none."""
    body = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">ib", -1, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as peer:
            peer.sendall(struct.pack(">i", len(body)) + body)
            answer = b""
            while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
                more = peer.recv(1 << 20)
                if not more:
                    return None
                answer += more
            return answer
    except OSError:
        return None


class Broker(compat.Broker):
    """A broker in a folder of its own. `start` may be called again after `stop`, on the same data."""

    def __init__(self, kind, folder, binary):
        self.kind, self.folder = kind, folder
        self.log_path, self.data_dir = folder / "broker.out", folder / "data"
        self.port, self.other_port = self.ports = compat.free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.process = None
        folder.mkdir(parents=True)
        properties = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.data_dir),
        }
        if kind == "kafka":
            self.command = self.kafka_command(properties)
        else:
            self.command = self.raftsman(properties, self.other_port, binary)

    def files_of(self, topic):
        return any(self.data_dir.glob(f"{topic}-*"))

    def kafka_command(self, properties):
        compat.maven("kafka-tools")
        properties.update({
            "process.roles": "broker,controller",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{properties['listeners']},CONTROLLER://127.0.0.1:{self.other_port}",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.other_port}",
        })
        file = self.folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        subprocess.run(
            [*compat.JVM, QUIET, "-cp", LIBS, "kafka.tools.StorageTool", "format", "-t", "cmFmdHNtYW4tdmVyc3VzMQ", "-c", str(file),
             "--standalone"],
            check=True, stdout=subprocess.DEVNULL,
        )
        return [*KAFKA_JVM, QUIET, "-cp", LIBS, "kafka.Kafka", str(file)]

    def start_seconds(self, bytes_min=0, limit_s=120):
        """Starts it; seconds from the start of the process to the first answered Metadata of so many bytes at least."""
        started = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while True:
            answer = metadata(self.port)
            if answer is not None and len(answer) >= bytes_min:
                return time.monotonic() - started
            if self.process.poll() is not None or time.monotonic() - started > limit_s:
                raise Trouble(f"{self.kind} does not start:\n{self.tail()}")
            time.sleep(0.0005)

    def end(self):
        if self.process and self.process.poll() is None:
            trouble = self.stop()
            if trouble:
                print(f"# {self.kind}: {trouble}", flush=True)


class Trio:
    """Three nodes, each broker and controller, on this machine: topics have three replicas, of which two must be in sync."""

    def __init__(self, kind, folder, binary):
        more = {key: value for key, value in PROPERTIES.items() if key not in ("node.id", "offsets.topic.replication.factor")}
        self.kind, self.cluster = kind, clusters.Cluster(kind, folder, binary, more=more)
        self.bootstrap = self.cluster.bootstrap

    @property
    def pids(self):
        return [node.process.pid for node in self.cluster.nodes.values()]

    def start_seconds(self):
        return self.cluster.start()

    def cpu_seconds(self):
        """Of the three together."""
        return sum(usage(pid).cpu for pid in self.pids)

    def threads_cpu_seconds(self):
        """The same of the threads that there are, to the nanosecond."""
        return sum(map(threads_cpu, self.pids))

    def tail(self):
        return "\n".join(node.tail() for node in self.cluster.nodes.values())

    def files_of(self, topic):
        return any(any(node.data_dir.glob(f"{topic}-*")) for node in self.cluster.nodes.values())

    def end(self):
        self.cluster.end()


class Bench:
    """`raftsman bench` against one broker, or against a cluster."""

    def __init__(self, binary, broker, scale):
        self.binary, self.broker, self.scale = binary, broker, scale
        self.topics = 0
        # what this broker's turn has given so far: figures by measurement
        self.done = {}

    def topic(self):
        self.topics += 1
        return f"versus-{self.topics}"

    def count(self, full):
        """How many of something, given how many in a full run."""
        return str(max(1, round(full * self.scale.share)))

    def run(self, *arguments, limit_s=900):
        of_one = [] if isinstance(self.broker, Trio) else ["--broker-pid", str(self.broker.pid)]
        command = [str(self.binary), "bench", *arguments, "--bootstrap-server", self.broker.bootstrap, *of_one, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        if done.returncode:
            raise Trouble(f"{' '.join(command)}: {done.stderr.strip()}\n{self.broker.tail()}")
        return json.loads(done.stdout)

    def delete(self, topic):
        """Deletes a topic and waits until its files are gone, so that they weigh on nothing that follows."""
        subprocess.run([str(self.binary), "topics", "--bootstrap-server", self.broker.bootstrap, "--delete", "--topic", topic], check=True,
                       stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while self.broker.files_of(topic) and time.monotonic() < deadline:
            time.sleep(0.05)

    def java(self, main, *arguments, heap="512m", limit_s=900):
        """One of Kafka's own tools."""
        return self.client(["java", f"-Xmx{heap}", QUIET, "-cp", LIBS, main, *arguments], limit_s)

    def client(self, command, limit_s=900):
        """A client that is a program of its own; its standard output, and the broker's usage before and after."""
        before = usage(self.broker.pid)
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        after = usage(self.broker.pid)
        if done.returncode:
            raise Trouble(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout, before, after
