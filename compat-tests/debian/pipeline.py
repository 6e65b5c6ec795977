"""A log-collection pipeline: rsyslog (imfile, omkafka) follows files that grow and are rotated into topics, while the
broker is ended and started again. One argument: run only checks with that in their name.

Two actions ship every line. `resubmit` keeps what failed aside and sends it again: each line at least once, in no
order. `idempotent` leaves repeating to librdkafka: first occurrences come in order; yet the line that omkafka passes on
in the moment in which it learns that the broker is away counts as failed, goes to the end of rsyslog's queue with the
rest of its batch (which is made one line therefore), and comes a second time.
"""

import os
import pathlib
import subprocess
import tempfile
import threading
import time

from checks import FOLDER, Program, create_topic, main
from named_checks import BOOTSTRAP, LIMIT_S, broker, check, same, until

SOURCES = ("web", "worker")
# A file is renamed and begun anew after so many lines.
LINES_PER_FILE = 80
PAUSE_S = 0.01
CONFIGURATION = """
global(workDirectory="{folder}/work")
module(load="imfile")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
template(name="source" type="string" string="%syslogtag%")
{inputs}
ruleset(name="ship") {{
{actions}
}}
"""
INPUT = """
input(type="imfile" file="{folder}/{source}.log" tag="{source}" ruleset="ship"
      persistStateInterval="10" freshStartTail="off" reopenOnTruncate="on")
"""
ACTION = """
    action(type="omkafka" name="{topic}" broker=["{broker}"] topic="{topic}" dynaKey="on" key="source" template="line"
           confParam=[{parameters}]
           {extras} closeTimeout="10000"
           action.resumeRetryCount="-1" action.resumeInterval="1"
           queue.type="LinkedList" queue.size="100000" queue.saveOnShutdown="on" queue.filename="{topic}")
"""
RESUBMIT = 'resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{folder}/{topic}.failed"'
COMMON = '"reconnect.backoff.max.ms=1000", "compression.codec=zstd", "linger.ms=5"'


def read(topic, *arguments):
    """The command that prints partition, key and line of what is in a topic."""
    return ["kcat", "-b", BOOTSTRAP, "-C", "-q", "-t", topic, "-f", "%p %k %s\\n", *arguments]


class Collector:
    """rsyslogd in the foreground, with its own configuration, state and pid file; never the system's."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rsyslog-", dir=FOLDER))
        (self.folder / "work").mkdir()
        self.topics = {"resubmit": create_topic("resubmit", 3), "idempotent": create_topic("idempotent", 3)}
        parameters = {
            "resubmit": COMMON + ', "acks=all"',
            "idempotent": COMMON + ', "enable.idempotence=true", "message.timeout.ms=0"',
        }
        extras = {"resubmit": RESUBMIT, "idempotent": 'queue.dequeueBatchSize="1"'}
        actions = [
            ACTION.format(
                topic=topic, broker=BOOTSTRAP, parameters=parameters[kind],
                extras=extras[kind].format(folder=self.folder, topic=topic),
            )
            for kind, topic in self.topics.items()
        ]
        inputs = [INPUT.format(folder=self.folder, source=source) for source in SOURCES]
        self.configuration = self.folder / "rsyslog.conf"
        self.configuration.write_text(
            CONFIGURATION.format(folder=self.folder, inputs="".join(inputs), actions="".join(actions))
        )
        self.program = None

    def start(self):
        self.program = Program(["rsyslogd", "-n", "-f", str(self.configuration), "-i", str(self.folder / "pid")])

    def stop(self):
        return self.program.stop()

    def lines(self, kind):
        """(partition, source, line) of all that is in the topic; for when nothing is written any more."""
        done = subprocess.run(read(self.topics[kind], "-e"), capture_output=True, timeout=LIMIT_S, check=True)
        return [tuple(line.split(" ", 2)) for line in done.stdout.decode().splitlines()]


class Writer:
    """A program that logs line after line and rotates its file."""

    def __init__(self, folder, source):
        self.path, self.source = folder / f"{source}.log", source
        self.written, self.rotations = [], 0
        self.file = open(self.path, "a", buffering=1)
        self.going = threading.Event()
        self.rotating, self.next_rotation = True, LINES_PER_FILE
        self.going.set()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def write(self):
        self.written.append(f"{self.source} says {len(self.written)} " + "-" * 80)
        self.file.write(self.written[-1] + "\n")

    def rotate(self):
        self.file.close()
        os.rename(self.path, f"{self.path}.{self.rotations + 1}")
        self.file = open(self.path, "a", buffering=1)
        self.rotations += 1

    def is_followed(self):
        """Whether the collector has the file open: one that is renamed before is lost, in any pipeline with imfile."""
        return any(self.path.parent.glob(f"work/imfile-state:{os.fstat(self.file.fileno()).st_ino}*"))

    def run(self):
        while self.going.is_set():
            self.write()
            if self.rotating and len(self.written) >= self.next_rotation and self.is_followed():
                self.rotate()
                self.next_rotation = len(self.written) + LINES_PER_FILE
            time.sleep(PAUSE_S)

    def end(self):
        self.going.clear()
        self.thread.join()
        self.file.close()


class Pipeline:
    """A collector, its writers and readers, made by the first check that needs them."""

    given = None

    def __init__(self):
        self.collector = Collector()
        self.collector.start()
        self.writers = [Writer(self.collector.folder, source) for source in SOURCES]
        # These follow the topics across the ends of the broker (-E).
        self.readers = {
            kind: Program(read(topic, "-u", "-E", "-X", "reconnect.backoff.max.ms=500"))
            for kind, topic in self.collector.topics.items()
        }

    @classmethod
    def get(cls):
        cls.given = cls.given or cls()
        return cls.given

    def goes_on(self, what):
        """Waits until the files were rotated again, and all lines that are written by then are in both topics."""
        self.rotated()
        self.catches_up(what)

    def rotated(self):
        """Waits until every file was rotated again."""
        rotations = [writer.rotations for writer in self.writers]
        until("a rotation", lambda: all(writer.rotations > before for writer, before in zip(self.writers, rotations)))

    def without_broker(self, how):
        """Ends the broker, and starts it when files were rotated without it."""
        broker(how)
        self.rotated()
        broker("start")

    def catches_up(self, what):
        """Waits until the lines that are written by now are in both topics."""
        wanted = self.written()
        for kind in self.readers:
            try:
                until(what, lambda: wanted <= self.followed(kind))
            except AssertionError:
                missing = sorted(wanted - self.followed(kind))
                raise AssertionError(f"{what}: {kind}: {len(missing)} of {len(wanted)} missing: {missing[:3]}") from None

    def written(self):
        return {line for writer in self.writers for line in list(writer.written)}

    def followed(self, kind):
        return {line.split(" ", 2)[2] for line in self.readers[kind].lines}


@check("rsyslog: lines of files that are rotated are in the topics")
def ships():
    Pipeline.get().goes_on("lines")


@check("rsyslog: the broker is stopped and started while files grow and are rotated")
def stopped():
    pipeline = Pipeline.get()
    pipeline.without_broker("stop")
    pipeline.goes_on("lines after a stop")


@check("rsyslog: the broker is killed and started while files grow and are rotated")
def killed():
    pipeline = Pipeline.get()
    for _ in range(2):
        pipeline.without_broker("kill")
        pipeline.goes_on("lines after a kill")


@check("rsyslog: the collector is stopped and started, and goes on where it stopped")
def collector_stopped():
    pipeline = Pipeline.get()
    # Nor does it find a file again that is renamed while it is away.
    for writer in pipeline.writers:
        writer.rotating = False
    pipeline.catches_up("lines before the collector is stopped")
    same(0, pipeline.collector.stop(), "exit code of rsyslogd")
    pipeline.collector.start()
    pipeline.catches_up("lines after the collector was started")
    for writer in pipeline.writers:
        writer.rotating = True
    pipeline.goes_on("lines of the next files")


@check("rsyslog: no line is lost; with idempotence files keep their order")
def nothing_lost():
    pipeline = Pipeline.get()
    pipeline.goes_on("lines")
    for writer in pipeline.writers:
        writer.end()
    wanted = pipeline.written()
    pipeline.catches_up("the last lines")
    same(0, pipeline.collector.stop(), "exit code of rsyslogd")
    rotations = sum(writer.rotations for writer in pipeline.writers)
    for kind in pipeline.collector.topics:
        lines = pipeline.collector.lines(kind)
        same(wanted, {line for _, _, line in lines}, f"{kind}: lines")
        out_of_order = []
        for writer in pipeline.writers:
            mine = [(partition, int(line.split(" ")[2])) for partition, _, line in lines if line.startswith(writer.source)]
            numbers = [number for _, number in mine]
            out_of_order += [pair for pair in zip(numbers, numbers[1:]) if pair[1] < pair[0]]
            if kind == "idempotent":
                same(1, len({partition for partition, _ in mine}), f"{kind}: partitions of {writer.source}")
                first = list(dict.fromkeys(numbers))
                same([], [pair for pair in zip(first, first[1:]) if pair[1] < pair[0]], f"{writer.source} out of order")
        doubled = len(lines) - len(wanted)
        print(f"# {kind}: {len(wanted)} lines, {rotations} rotations, {doubled} lines doubled, {len(out_of_order)} out of order")


if __name__ == "__main__":
    main()
