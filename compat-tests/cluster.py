"""Three nodes on this machine, of Raftsman or of Apache Kafka, from the same three server.properties.

The files are those of a three-node Kafka (KRaft, combined roles): the same text starts either. They listen on loopback, or
each in a network namespace of its own (`namespaces.py`).
"""

import importlib.machinery
import importlib.util
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def harness():
    """The program `run` beside this file, as a module."""
    if "compat_run" in sys.modules:  # it is what runs
        return sys.modules["compat_run"]
    loader = importlib.machinery.SourceFileLoader("compat_run", str(HERE / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compat_run", loader))
    loader.exec_module(module)
    return module


compat = harness()

CLUSTER_ID = "cmFmdHNtYW4tdHJpYWRlMQ"
QUIET = f"-Dlog4j2.configurationFile={HERE / 'kafka-tools' / 'log4j2.properties'}"
LIBS = f"{compat.CACHE / 'kafka-tools' / 'libs'}/*"
# Three of them run on one machine.
KAFKA_JVM = ["java", "-Xmx768m", "-Xms256m", "-server", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]


class Node:
    """One process of the cluster."""

    def __init__(self, cluster, node_id, ports):
        self.cluster, self.id = cluster, node_id
        self.host = cluster.network.host(node_id) if cluster.network else "127.0.0.1"
        self.port, self.controller_port, self.admin_port = ports
        self.folder = cluster.folder / f"node-{node_id}"
        self.data_dir = self.folder / "data"
        self.log_path = self.folder / "broker.out"
        self.process = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def prepare(self, properties):
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        if self.cluster.kind == "kafka":
            self.command = [*KAFKA_JVM, QUIET, "-cp", LIBS, "kafka.Kafka", str(file)]
            subprocess.run(
                [*compat.JVM, QUIET, "-cp", LIBS, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(file)],
                check=True, stdout=subprocess.DEVNULL,
            )
        else:
            binary = str(self.cluster.binary.resolve())
            admin = f"raftsman.admin.listener={self.host}:{self.admin_port}"
            self.command = [binary, "server", str(file), "--override", admin]
        if self.cluster.network:
            self.command = self.cluster.network.inside(self.id, self.command)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def is_ready(self):
        if self.cluster.kind == "raftsman" and not compat.ready(f"http://{self.host}:{self.admin_port}/readyz"):
            return False
        return compat.answers_api_versions(self.port, self.host)

    def wait_ready(self, limit_s=compat.START_LIMIT_S):
        deadline = time.monotonic() + limit_s
        while not self.is_ready():
            if self.process.poll() is not None:
                raise compat.Failed(f"node {self.id} ended at once with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise compat.Failed(f"node {self.id} was not ready within {limit_s} s:\n{self.tail()}")
            time.sleep(0.02)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, limit_s=compat.STOP_LIMIT_S):
        """SIGTERM; the seconds until it had ended."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise compat.Failed(f"node {self.id} did not stop within {limit_s} s of SIGTERM:\n{self.tail()}") from None
        return time.monotonic() - started

    def tail(self):
        lines = self.log_path.read_bytes().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-40:])

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


class Cluster:
    """Nodes 1 to `count`, each broker and controller; `with` ends them. `network` has a place for each, or they share loopback."""

    def __init__(self, kind, folder, binary, count=3, more=None, network=None):
        self.network = network
        self.kind, self.folder, self.binary = kind, pathlib.Path(folder), binary
        if kind == "kafka":
            compat.maven("kafka-tools")
        ports = compat.free_ports(3 * count)
        self.nodes = {}
        for at in range(count):
            self.nodes[at + 1] = Node(self, at + 1, ports[3 * at : 3 * at + 3])
        voters = ",".join(f"{node.id}@{node.host}:{node.controller_port}" for node in self.nodes.values())
        for node in self.nodes.values():
            node.prepare({
                "process.roles": "broker,controller",
                "node.id": node.id,
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{node.host}:{node.controller_port}",
                "advertised.listeners": f"PLAINTEXT://{node.address}",
                "inter.broker.listener.name": "PLAINTEXT",
                "controller.listener.names": "CONTROLLER",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "log.dirs": node.data_dir,
                "default.replication.factor": min(3, count),
                "min.insync.replicas": min(2, count),
                "offsets.topic.replication.factor": min(3, count),
                "group.initial.rebalance.delay.ms": 200,
                "group.min.session.timeout.ms": 1000,
                "socket.listen.backlog.size": 1000,
                **(more or {}),
            })

    @property
    def bootstrap(self):
        return ",".join(node.address for node in self.nodes.values())

    def start(self):
        """Starts all; the seconds until all were ready."""
        started = time.monotonic()
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_ready()
        return time.monotonic() - started

    def running(self):
        return [node for node in self.nodes.values() if node.is_running()]

    def end(self):
        for node in self.running():
            node.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + compat.STOP_LIMIT_S
        for node in self.nodes.values():
            if node.process is None:
                continue
            try:
                node.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def tool(self, *arguments):
        """Runs one of Raftsman's tools against the cluster, whoever's it is; its standard output."""
        command = [str(self.binary.resolve()), arguments[0], "--bootstrap-server", self.bootstrap, *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise compat.Failed(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def lines_of_json(text):
    return [json.loads(line) for line in text.splitlines()]
