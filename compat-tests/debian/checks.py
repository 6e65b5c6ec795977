"""What the suites of programs from Debian's packages share: named checks, programs that run beside them, the broker."""

import os
import pathlib
import socket
import struct
import subprocess
import sys
import time
import traceback
import urllib.request
import uuid

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
CONTROL = os.environ.get("BROKER_CONTROL")
FOLDER = pathlib.Path(os.environ.get("TMPDIR", "/tmp"))
LIMIT_S = 30
RUN = uuid.uuid4().hex[:8]
CHECKS = []
PROGRAMS = []


def check(name):
    def keep(body):
        CHECKS.append((name, body))
        return body

    return keep


def same(wanted, got, what):
    assert wanted == got, f"{what}: wanted {str(wanted)[:300]}, got {str(got)[:300]}"


def until(what, condition):
    """Asks until the condition holds; returns what it gave."""
    end = time.monotonic() + LIMIT_S
    while not (got := condition()):
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.05)
    return got


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


def broker(what):
    """Has the broker ended with SIGTERM (`stop`) or SIGKILL (`kill`), or started (`start`): returns when that is done."""
    assert CONTROL, "BROKER_CONTROL is not set: this broker can't be restarted"
    with urllib.request.urlopen(f"{CONTROL}/{what}", data=b"", timeout=120) as answer:
        same(200, answer.status, f"{what} of the broker")


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
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    passed = failed = 0
    for title, body in CHECKS:
        if only not in title:
            continue
        started = time.monotonic()
        try:
            body()
            passed += 1
            print(f"PASS {title}")
        except Exception as error:  # whatever it is, it is this check's failure
            failed += 1
            frame = traceback.extract_tb(error.__traceback__)[1]
            print(f"FAIL {title}: {type(error).__name__}: {error} ({os.path.basename(frame.filename)}:{frame.lineno})")
        if "TIMES" in os.environ:
            print(f"# {time.monotonic() - started:.1f} s {title}")
        sys.stdout.flush()
    for program in PROGRAMS:
        if program.process.poll() is None:
            program.kill()
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(0 if passed and not failed else 1)
