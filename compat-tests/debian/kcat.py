"""kcat (C, librdkafka) against the broker at BOOTSTRAP. One argument: run only checks with that in their name."""

import json
import subprocess
import time

from checks import FOLDER, Program, create_topic, main
from named_checks import BOOTSTRAP, LIMIT_S, RUN, broker, check, same, until

# Groups assign soon and members that die are missed soon, also where the broker's defaults are others.
GROUP = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "-X", "auto.offset.reset=earliest"]
COMPRESSIONS = ("gzip", "snappy", "lz4", "zstd")


def command(*arguments):
    return ["kcat", "-b", BOOTSTRAP, *map(str, arguments)]


def run(*arguments, given="", code=0):
    """Runs kcat to its end, which must come with this code; returns its output (or what it said, when it must fail)."""
    done = subprocess.run(command(*arguments), input=given.encode(), capture_output=True, timeout=LIMIT_S)
    assert done.returncode == code, f"kcat {arguments} ended with {done.returncode}: {done.stderr.decode()[-500:]}"
    return (done.stderr if code else done.stdout).decode()


def produce(topic, lines, *arguments):
    run("-P", "-t", topic, *arguments, given="".join(f"{line}\n" for line in lines))


def consume(topic, *arguments):
    """The lines of what is there."""
    return run("-C", "-q", "-e", "-t", topic, "-X", "fetch.wait.max.ms=50", *arguments).splitlines()


def envelopes(topic, *arguments):
    return [json.loads(line) for line in consume(topic, "-J", *arguments)]


def numbers(first, last):
    return [str(number) for number in range(first, last)]


@check("kcat -P, -C: lines, a delimiter, files, tee")
def lines():
    topic = create_topic("kcat-lines")
    produce(topic, numbers(0, 100))
    same(numbers(0, 100), consume(topic), "lines")
    topic = create_topic("kcat-delimiter")
    run("-P", "-t", topic, "-D", ";", given="a;b;c")
    same("a|b|c|", run("-C", "-q", "-e", "-t", topic, "-D", "|"), "delimited")
    topic = create_topic("kcat-files")
    small, large = FOLDER / "small", FOLDER / "large"
    small.write_text("one\ntwo\n")
    large.write_text("x" * 900_000)
    same("onetwo", run("-P", "-t", topic, "-T", "-l", small), "tee")
    run("-P", "-t", topic, small, large)
    same([3, 3, 8, 900_000], [int(line) for line in consume(topic, "-f", "%S\n")], "sizes")


@check("kcat -P -k -K -H -Z, -J: keys, headers, nulls, envelopes")
def keys():
    topic = create_topic("kcat-keys", 3)
    before = int(time.time() * 1000) - 1000
    produce(topic, [f"key-{number % 5}:{number}" for number in range(50)], "-K", ":", "-H", "a=1", "-H", "b=zwei", "-H", "a=3")
    got = envelopes(topic)
    same(sorted(range(50)), sorted(int(each["payload"]) for each in got), "payloads")
    for key in {each["key"] for each in got}:
        mine = [each for each in got if each["key"] == key]
        same(1, len({each["partition"] for each in mine}), f"partitions of {key}")
        same(sorted(int(each["payload"]) for each in mine), [int(each["payload"]) for each in mine], f"order of {key}")
    for each in got:
        same(["a", "1", "b", "zwei", "a", "3"], each["headers"], "headers")
        same("create", each["tstype"], "type of the timestamp")
        assert before < each["ts"] < before + 60_000, f"timestamp {each['ts']}"
        same((topic, 1), (each["topic"], each["broker"]), "topic and broker")
    topic = create_topic("kcat-null")
    produce(topic, ["k1:", ":v2", "v3"], "-K", ":", "-Z")
    same([("k1", None), (None, "v2"), (None, "v3")], [(each.get("key"), each["payload"]) for each in envelopes(topic)], "nulls")
    produce(topic, ["one", "two"], "-k", "fixed")
    same(["fixed=one", "fixed=two"], consume(topic, "-K", "=", "-o", 3), "fixed key")


@check("kcat -z: every compression, with acks 0, 1 and all")
def compressions():
    line = "compress me, " * 50
    for compression, acks in zip(COMPRESSIONS, ("all", 1, 0, "all")):
        topic = create_topic(f"kcat-{compression}")
        produce(topic, [line] * 100, "-z", compression, "-X", f"acks={acks}")
        until("all lines", lambda: consume(topic) == [line] * 100)
    topic = create_topic("kcat-recompressed", compression_type="zstd")
    produce(topic, numbers(0, 500), "-z", "gzip", "-X", "enable.idempotence=true")
    same(numbers(0, 500), consume(topic), "recompressed lines")


@check("kcat -C -o: from the beginning, the end, an offset, before the end; -c")
def offsets():
    topic = create_topic("kcat-offsets")
    produce(topic, numbers(0, 20))
    for start, wanted in (("beginning", numbers(0, 20)), ("end", []), (15, numbers(15, 20)), (-3, numbers(17, 20))):
        same(wanted, consume(topic, "-p", 0, "-o", start), f"from {start}")
    same(numbers(4, 9), consume(topic, "-p", 0, "-o", 4, "-c", 5), "five from 4")
    same(["19@19 of 0"], consume(topic, "-o", -1, "-f", "%s@%o of %p\\n"), "format")


@check("kcat -C -o s@ -o e@, -Q: offsets by time")
def times():
    topic = create_topic("kcat-times", 2)
    stamps = []
    for round_ in range(3):
        produce(topic, [f"{round_}-{number}" for number in range(10)], "-p", 0, "-z", "lz4")
        stamps.append(int(time.time() * 1000))
        until("the clock went on", lambda: time.time() * 1000 > stamps[-1] + 2)
    same([f"2-{number}" for number in range(10)], consume(topic, "-p", 0, "-o", f"s@{stamps[1] + 1}"), "since")
    middle = consume(topic, "-p", 0, "-o", f"s@{stamps[0] + 1}", "-o", f"e@{stamps[1] + 1}")
    same([f"1-{number}" for number in range(10)], middle, "since and until")
    same([], consume(topic, "-p", 0, "-o", f"s@{stamps[2] + 60_000}"), "in the future")
    for stamp, offset in ((stamps[0] + 1, 10), (stamps[1] + 1, 20), (0, 0), (-1, 30), (-2, 0), (stamps[2] + 60_000, -1)):
        same(f"{topic} [0] offset {offset}", run("-Q", "-t", f"{topic}:0:{stamp}").strip(), f"offset of {stamp}")
    both = run("-Q", "-t", f"{topic}:0:-1", "-t", f"{topic}:1:-1").splitlines()
    same([f"{topic} [0] offset 30", f"{topic} [1] offset 0"], sorted(both), "ends of two partitions")


@check("kcat -L, -J: metadata")
def metadata():
    topic = create_topic("kcat-metadata", 3)
    host, port = BOOTSTRAP.rsplit(":", 1)
    every = json.loads(run("-L", "-J"))
    same([{"id": 1, "name": f"{host}:{port}"}], every["brokers"], "brokers")
    same(1, every["controllerid"], "controller")
    assert topic in [each["topic"] for each in every["topics"]], "topic in all topics"
    one = json.loads(run("-L", "-J", "-t", topic))["topics"]
    partition = {"leader": 1, "replicas": [{"id": 1}], "isrs": [{"id": 1}]}
    wanted = [{"topic": topic, "partitions": [{"partition": number, **partition} for number in range(3)]}]
    same(wanted, one, "topic")
    assert f'topic "{topic}" with 3 partitions:' in run("-L", "-t", topic), "text"


@check("kcat -P: a topic that is missing is created")
def auto_creation():
    topic = f"kcat-created-{RUN}"
    produce(topic, ["first"])
    same(["first"], consume(topic), "lines")


@check("kcat: errors are told, and are Kafka's")
def errors():
    topic = create_topic("kcat-errors")
    produce(topic, numbers(0, 5))
    missing = f"kcat-missing-{RUN}"
    unknown = run("-C", "-e", "-t", missing, "-X", "allow.auto.create.topics=false", code=1)
    assert "Unknown topic or partition" in unknown, unknown
    unknown = run("-P", "-t", topic, "-p", 9, given="x\n", code=1)
    assert "Unknown partition" in unknown, unknown
    reset = ("-X", "topic.auto.offset.reset=error")
    beyond = run("-C", "-e", "-t", topic, "-p", 0, "-o", 100, *reset, code=1)
    assert "Offset out of range" in beyond, beyond
    # unlike what its limits let pass, the topic's refuse
    small = create_topic("kcat-small", max_message_bytes="1000")
    large = run("-P", "-t", small, given="x" * 5000 + "\n", code=1)
    assert "Message size too large" in large, large
    invalid = run("-P", "-t", "in/valid", "-m", 5, given="x\n", code=1)
    assert "Invalid topic" in invalid, invalid
    nobody = subprocess.run(["kcat", "-b", "127.0.0.1:1", "-L", "-m", "1"], capture_output=True, timeout=LIMIT_S)
    same(1, nobody.returncode, "exit code without a broker")


def member(group, topic, *arguments):
    return Program(command("-G", group, *GROUP, "-u", "-f", "%p:%s\\n", *arguments, topic))


@check("kcat -G: commits, and resumes where it stopped")
def resumes():
    topic, group = create_topic("kcat-resume"), f"kcat-resume-{RUN}"
    produce(topic, numbers(0, 30))
    group_arguments = ("-G", group, *GROUP, "-q")
    same(numbers(0, 10), run(*group_arguments, "-c", 10, topic).splitlines(), "first ten")
    same(numbers(10, 30), run(*group_arguments, "-e", topic).splitlines(), "the rest")
    produce(topic, numbers(30, 35))
    stored = ("-p", 0, "-o", "stored", "-X", f"group.id={group}")
    same(numbers(30, 35), consume(topic, *stored), "from the stored offset")
    same([], consume(topic, *stored), "from the offset that this stored")
    produce(topic, numbers(35, 40))
    same(numbers(35, 40), run(*group_arguments, "-e", topic).splitlines(), "new ones")
    other = ("-G", f"{group}-other", *GROUP, "-q")
    same(numbers(0, 40), run(*other, "-e", topic).splitlines(), "another group")
    latest = run("-G", f"{group}-latest", *GROUP, "-X", "auto.offset.reset=latest", "-q", "-e", topic)
    same("", latest, "a group that starts at the end")


def partitions(program):
    """Partitions of the lines that it printed."""
    return {line.split(":")[0] for line in program.lines}


@check("kcat -G: two share four partitions while lines are produced; one leaves, one is killed")
def balances():
    for strategy in ("range,roundrobin", "cooperative-sticky"):
        topic, group = create_topic("kcat-balance", 4), f"kcat-{strategy.split(',')[0]}-{RUN}"
        sent, members = [], []

        def send():
            line = len(sent)
            produce(topic, [f"{line}-{number}" for number in range(20)], "-p", line % 4)
            sent.extend([line])

        def got():
            return [line.split(":")[1] for each in members for line in each.lines]

        def all_came():
            return {f"{line}-{number}" for line in sent for number in range(20)} <= set(got())

        def share(live):
            """Whether the living members get lines of all partitions between them, each of its own."""
            before = [len(each.lines) for each in live]
            for _ in range(4):
                send()
            until("all lines", all_came)
            shares = [{line.split(":")[0] for line in each.lines[count:]} for each, count in zip(live, before)]
            return all(shares) and sum(map(len, shares)) == 4

        def join():
            members.append(member(group, topic, "-X", f"partition.assignment.strategy={strategy}"))

        join()
        until("one gets all", lambda: share(members[:1]))
        join()
        until("two share", lambda: share(members[:2]))
        same(0, members[0].stop(), "exit code")
        until("the second gets all", lambda: share(members[1:2]))
        join()
        until("two share again", lambda: share(members[1:3]))
        members[2].kill()
        until("the second gets all once the third is missed", lambda: share(members[1:2]))
        print(f"# {strategy}: {len(got())} lines of {len(sent) * 20} sent")
        members[1].stop()


@check("kcat -G, -P: both go on after the broker was stopped and killed; committed offsets stay")
def outlives():
    topic, group = create_topic("kcat-restart", 2), f"kcat-restart-{RUN}"
    reader = member(group, topic, "-X", "auto.commit.interval.ms=100", "-X", "reconnect.backoff.max.ms=500", "-E")
    sent = []

    def write():
        """Starts a producer of a hundred lines more, that is not put off by a broker that is away."""
        new = numbers(len(sent), len(sent) + 100)
        sent.extend(new)
        file = FOLDER / f"{topic}-{len(sent)}"
        file.write_text("".join(f"{line}\n" for line in new))
        return Program(command("-P", "-t", topic, "-l", "-E", "-X", "reconnect.backoff.max.ms=500", file))

    def all_came(what):
        until(what, lambda: set(sent) <= {line.split(":")[1] for line in reader.lines})

    for how in ("stop", "kill"):
        write()
        all_came("lines before")
        broker(how)
        writer = write()
        broker("start")
        all_came(f"lines after the broker was ended by {how}")
        same(0, writer.process.wait(LIMIT_S), "exit code of the producer")
    same(0, reader.stop(), "exit code of the member")
    broker("kill")
    broker("start")
    same([], run("-G", group, *GROUP, "-q", "-e", topic).splitlines(), "lines that the group has not read")


if __name__ == "__main__":
    main()
