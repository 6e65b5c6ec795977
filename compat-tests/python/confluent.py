"""confluent-kafka's clients as the checks use them."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import name
from named_checks import BOOTSTRAP, LIMIT_S, REPLICAS, same

class Quiet:
    """A logger that says nothing: what the checks need to know comes as errors."""

    def log(self, *_):
        pass


ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP, "logger": Quiet()})


def fails(code, call):
    """The call must fail with this error; returns it."""
    try:
        got = call()
    except KafkaException as error:
        same(KafkaError(code).name(), error.args[0].name(), "error")
        return error.args[0]
    raise AssertionError(f"wanted {KafkaError(code).name()}, but it succeeded with {got}")


def topic(hint, partitions=1, **configs):
    given = name(hint)
    new = NewTopic(given, partitions, REPLICAS, config={key.replace("_", "."): value for key, value in configs.items()})
    ADMIN.create_topics([new])[given].result(LIMIT_S)
    return given


def produce(given, values, partition=0, **properties):
    """Sends the values; returns the delivered messages in the order of their reports."""
    delivered, errors = [], []

    def report(error, message):
        (errors if error else delivered).append(error or message)

    producer = Producer({"bootstrap.servers": BOOTSTRAP, "message.timeout.ms": 15000, "logger": Quiet(), **properties})
    for value in values:
        record = value if isinstance(value, dict) else {"value": value}
        while True:
            try:
                producer.produce(given, partition=partition, on_delivery=report, **record)
                break
            except BufferError:
                producer.poll(0.1)
    same(0, producer.flush(LIMIT_S), "messages not delivered")
    if errors:
        raise KafkaException(errors[0])
    return delivered


def consumer(**properties):
    defaults = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": "not-used",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "logger": Quiet(),
    }
    given = {key if key == "error_cb" else key.replace("_", "."): value for key, value in properties.items()}
    return Consumer({**defaults, **given})


def poll(reader, count):
    messages, end = [], time.monotonic() + LIMIT_S
    while len(messages) < count:
        assert time.monotonic() < end, f"only {len(messages)} of {count} messages came"
        for message in reader.consume(1000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    same(count, len(messages), "count of messages")
    return messages


def read(given, count, offset=OFFSET_BEGINNING, **properties):
    reader = consumer(**properties)
    try:
        reader.assign([TopicPartition(given, 0, offset)])
        return poll(reader, count)
    finally:
        reader.close()


def values(messages):
    return [message.value() for message in messages]
