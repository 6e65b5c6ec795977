"""What the suites of Python clients share: names, restarts of the broker, and watched members of groups."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import named_checks
from named_checks import LIMIT_S, RUN, broker


def name(hint):
    name.count += 1
    return f"python-{hint}-{RUN}-{name.count}"


name.count = 0


def numbers(start, end):
    return [str(number).encode() for number in range(start, end)]


def restart(how):
    """Has the broker ended (`stop` or `kill`) and started again."""
    broker(f"restart?how={how}")


class Member:
    """A member of a group in a process of its own, so that it can die. The program prints a line of JSON per event:
    `assigned` and `revoked` with partitions and the time (CLOCK_MONOTONIC, which all processes share), `value` per
    record. SIGTERM has it leave."""

    def __init__(self, program, **settings):
        command = [sys.executable, str(pathlib.Path(__file__).with_name(program)), json.dumps(settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.values, self.spans, self.owned, self.assignments = [], [], {}, 0
        self.trouble = None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if "value" in event:
                self.values.append(event["value"])
            elif "assigned" in event:
                self.assignments += 1
                owned = dict(self.owned)
                owned.update({partition: event["at"] for partition in event["assigned"]})
                self.owned = owned
            elif "revoked" in event:
                self._ended(event["revoked"], event["at"])
            else:
                self.trouble = event

    def _ended(self, partitions, at):
        owned = dict(self.owned)
        for partition in partitions:
            if partition in owned:
                self.spans.append((partition, owned.pop(partition), at))
        self.owned = owned

    def leave(self):
        self._end(signal.SIGTERM)

    def die(self):
        self._end(signal.SIGKILL)

    def _end(self, how):
        self.process.send_signal(how)
        self.process.wait(LIMIT_S)
        self.reader.join(LIMIT_S)
        self._ended(list(self.owned), time.monotonic())


def owned_by_all(members, partitions):
    """Whether these members own all partitions together, each has some, and nobody waits."""
    owned = [partition for member in members for partition in member.owned]
    return sorted(owned) == list(range(partitions)) and all(member.owned for member in members)


def never_shared(members):
    """No partition may ever have been owned by two members at a time. Give only members that have ended."""
    spans = sorted(span for member in members for span in member.spans)
    for (partition, start, end), (other, next_start, _) in zip(spans, spans[1:]):
        assert partition != other or next_start >= end, f"partition {partition} had two owners for {end - next_start:.3f} s"


def main():
    code = named_checks.run()
    # Exit at once: closing clients of failed checks may wait for long.
    os._exit(code)
