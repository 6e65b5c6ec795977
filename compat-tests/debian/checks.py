"""What the suites of programs from Debian's packages share: programs that run beside the checks, topics without a client."""

import os
import pathlib
import socket
import struct
import subprocess
import sys
import uuid

import named_checks
from named_checks import BOOTSTRAP, LIMIT_S, RUN, same

FOLDER = pathlib.Path(os.environ.get("TMPDIR", "/tmp"))
PROGRAMS = []


class Program:
    """A program that runs beside the checks, with its output in files."""

    def __init__(self, command, **options):
        stem = FOLDER / f"{pathlib.Path(command[0]).name}-{uuid.uuid4().hex[:8]}"
        self.outputs = stem.with_suffix(".out"), stem.with_suffix(".err")
        with open(self.outputs[0], "wb") as out, open(self.outputs[1], "wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, **options)
        PROGRAMS.append(self)

    @property
    def lines(self):
        """The lines that are whole."""
        return self.outputs[0].read_bytes().decode().split("\n")[:-1]

    @property
    def said(self):
        return self.outputs[1].read_text(errors="replace")

    def stop(self):
        """Ends it with SIGTERM; returns its exit code."""
        self.process.terminate()
        return self.process.wait(LIMIT_S)

    def kill(self):
        self.process.kill()
        self.process.wait()


def create_topic(hint, partitions=1, **configs):
    """Creates a topic by CreateTopics v4, that needs no client; returns its name."""
    create_topic.count += 1
    name = f"{hint}-{RUN}-{create_topic.count}"

    def text(value):
        return struct.pack(">h", len(value)) + value.encode()

    body = struct.pack(">hhi", 19, 4, 7) + text("checks")
    body += struct.pack(">i", 1) + text(name) + struct.pack(">ihi", partitions, 1, 0) + struct.pack(">i", len(configs))
    body += b"".join(text(key.replace("_", ".")) + text(value) for key, value in configs.items())
    body += struct.pack(">ib", 20_000, 0)
    host, port = BOOTSTRAP.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as peer:
        peer.sendall(struct.pack(">i", len(body)) + body)
        with peer.makefile("rb") as answers:
            answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    # correlation, throttle time, count, name, error code
    error = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2 + len(name))[0]
    same(0, error, f"error of creating {name}")
    return name


create_topic.count = 0


def main():
    code = named_checks.run()
    for program in PROGRAMS:
        if program.process.poll() is None:
            program.kill()
    sys.exit(code)
