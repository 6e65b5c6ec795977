"""Writes records by librdkafka (confluent-kafka): BOOTSTRAP TOPIC RECORD_BYTES RECORDS BATCH_BYTES. Prints records a second.

Runs in the virtual environment of compat-tests.
"""

import sys
import time

import confluent_kafka

LIMIT_S = 120


def main():
    bootstrap, topic = sys.argv[1:3]
    record_bytes, records, batch_bytes = map(int, sys.argv[3:])
    failed = []
    producer = confluent_kafka.Producer({
        "bootstrap.servers": bootstrap, "acks": "all", "batch.size": batch_bytes, "linger.ms": 5,
        "queue.buffering.max.kbytes": 256 * 1024, "delivery.report.only.error": True,
    })
    value = bytes(number % 251 for number in range(record_bytes))
    started = time.monotonic()
    for _ in range(records):
        while True:
            try:
                producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error))
                break
            except BufferError:
                producer.poll(0.01)
    left = producer.flush(LIMIT_S)
    seconds = time.monotonic() - started
    if failed or left:
        sys.exit(f"{len(failed)} records failed ({failed[:1]}), {left} are not acknowledged")
    print(records / seconds)


if __name__ == "__main__":
    main()
