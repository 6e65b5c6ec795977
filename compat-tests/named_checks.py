"""What every suite in Python shares: named checks, waits for conditions, and the broker's ends and starts.

`run` puts this folder on the suites' path (PYTHONPATH).
"""

import os
import pathlib
import sys
import time
import traceback
import urllib.request
import uuid

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
NODES = int(os.environ.get("NODES", "1"))
# how many replicas a topic gets where that is not the point
REPLICAS = int(os.environ.get("REPLICAS", "1"))
LIMIT_S = 30
RUN = uuid.uuid4().hex[:8]
SUITES = pathlib.Path(__file__).resolve().parent
CHECKS = []


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
        time.sleep(0.02)
    return got


def broker(what):
    """Has the broker ended with SIGTERM (`stop`) or SIGKILL (`kill`), or started (`start`), or ended and started
    (`restart?how=kill` or `stop`): returns when that is done."""
    control = os.environ.get("BROKER_CONTROL")
    assert control, "BROKER_CONTROL is not set: this broker can't be restarted"
    with urllib.request.urlopen(f"{control}/{what}", data=b"", timeout=120) as answer:
        same(200, answer.status, f"{what} of the broker")


def place_of(error):
    """The last line of a suite, rather than of a client, that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    of_suites = [frame for frame in frames if pathlib.Path(frame.filename).resolve().parent.parent == SUITES]
    frame = (of_suites or frames)[-1]
    return f"{pathlib.Path(frame.filename).name}:{frame.lineno}"


def run():
    """Runs the checks that have the first argument in their name; returns the exit code."""
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
            print(f"FAIL {title}: {type(error).__name__}: {error} ({place_of(error)})")
        if "TIMES" in os.environ:
            print(f"# {time.monotonic() - started:.1f} s {title}")
        sys.stdout.flush()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1
