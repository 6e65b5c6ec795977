"""What bare.rs measures: the least that a row takes on this machine. And the memory of a virtual machine.

A virtual machine may give free memory back to its host (free page reporting); the first write into each such page then
costs ten times as much, for whoever comes to do it. So memory is touched before each row that writes.
"""

import contextlib
import json
import pathlib
import shutil
import subprocess

import brokers

SOURCE = brokers.HERE / "bare.rs"
PROGRAM = brokers.ROOT / "target" / "versus" / "bare"
GIB = 2**30
# left alone by `touch`, so that nothing has to make room
TOUCH_NOT = 3 * GIB
# more than any row writes
TOUCH_MOST = 12 * GIB
# how long a page must have been free before it is given back, and the least of a free block; what the kernel takes at most
PAGE_REPORTING = pathlib.Path("/sys/module/page_reporting/parameters")
PAGE_REPORTING_WANTED = {"min_free_ms": 60_000, "page_reporting_order": 10}


def build():
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rustc", "-O", "--edition", "2024", str(SOURCE), "-o", str(PROGRAM)], check=True)


def run(*arguments):
    """Runs it; gives figures under the names that rows have."""
    command = [str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise brokers.Trouble(f"{' '.join(command)}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return {
        "CPU s/GB": found["cpu_seconds"] / found["bytes"] * 1e9,
        "CPU µs/request": found["cpu_seconds"] / found["requests"] * 1e6,
        "MB/s": found["bytes"] / found["seconds"] / 1e6,
        "requests/s": found["requests"] / found["seconds"],
    }


@contextlib.contextmanager
def folder_in(where):
    """A folder that is gone afterwards."""
    folder = where / "bare"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def echo(connections):
    def measure(bench):
        with folder_in(bench.broker.folder) as folder:
            return run("echo", folder / "log", connections, bench.scale.bare)

    return measure


def sink(frame_bytes, connections):
    def measure(bench):
        with folder_in(bench.broker.folder) as folder:
            return run("sink", folder, connections, frame_bytes, bench.count(1_500_000_000))

    return measure


def sendfile(path, count):
    return run("sendfile", path, count)


def write(where, scale):
    """The state of the machine: writes of 1 MiB to three files."""
    touch(scale)
    with folder_in(where) as folder:
        return run("write", folder, round(4_000_000_000 * scale.share))


def touch(scale):
    fields = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    wanted = min(available - TOUCH_NOT, round(TOUCH_MOST * scale.touch))
    if wanted > 0:
        run("touch", wanted)


@contextlib.contextmanager
def memory_kept():
    """Free memory stays with the machine for longer, where the kernel lets us; afterwards all is as it was."""
    changed = {}
    try:
        for name, wanted in PAGE_REPORTING_WANTED.items():
            path = PAGE_REPORTING / name
            with contextlib.suppress(OSError, ValueError):
                found = path.read_text()
                if int(found) < wanted:
                    path.write_text(str(wanted))
                    changed[path] = found
        yield
    finally:
        for path, found in changed.items():
            path.write_text(found)
