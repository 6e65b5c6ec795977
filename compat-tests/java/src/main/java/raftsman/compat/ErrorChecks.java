package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.bytes;
import static raftsman.compat.Broker.producer;
import static raftsman.compat.Broker.record;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;

import java.util.List;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;

/** The broker's refusals, and the topic configurations that change what it does to batches. */
final class ErrorChecks {
    private ErrorChecks() {}

    static void addTo(Checks checks) {
        checks.add("a batch above max.message.bytes is refused (RecordTooLarge), the producer goes on", ErrorChecks::tooLarge);
        checks.add("a batch above max.message.bytes is split when it holds many records", ErrorChecks::split);
        checks.add("an invalid topic name is refused (InvalidTopic)", ErrorChecks::invalidTopic);
        checks.add("a partition that does not exist is not produced to", ErrorChecks::unknownPartition);
        checks.add("min.insync.replicas above the count of replicas asks no more than there are", ErrorChecks::minimumInSync);
        checks.add("message.timestamp.before.max.ms refuses old records (InvalidTimestamp)", ErrorChecks::oldTimestamp);
        checks.add("message.timestamp.after.max.ms refuses records of the future", ErrorChecks::futureTimestamp);
        for (String type : List.of("gzip", "snappy", "lz4", "zstd", "uncompressed")) {
            checks.add("topic with compression.type=" + type + " recompresses", () -> recompress(type));
        }
        checks.add("cleanup.policy=compact: records without a key are refused", ErrorChecks::withoutKey);
    }

    private static void tooLarge() throws Exception {
        String topic = topic("too-large", 1);
        try (KafkaProducer<byte[], byte[]> producer = producer("max.request.size", "5000000")) {
            fails(RecordTooLargeException.class, () -> Broker.wait(producer.send(new ProducerRecord<>(topic, 0, null, Broker.noise(1_100_000, 1)))));
            same(0L, Broker.wait(producer.send(record(topic, 0, "small"))).offset(), "offset");
        }
        same(List.of("small"), Broker.values(Broker.read(topic, 1)), "values");
    }

    private static void split() throws Exception {
        String topic = topic("split", 1, "max.message.bytes", "5000");
        try (KafkaProducer<byte[], byte[]> producer = producer("batch.size", "100000", "linger.ms", "1000")) {
            List<Future<RecordMetadata>> sent = new java.util.ArrayList<>();
            for (int i = 0; i < 60; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, bytes("" + i), Broker.noise(1000, i))));
            }
            producer.flush();
            for (int i = 0; i < 60; i++) {
                same((long) i, Broker.wait(sent.get(i)).offset(), "offset");
            }
        }
        List<String> keys = Broker.read(topic, 60).stream().map(record -> Broker.text(record.key())).toList();
        same(Broker.numbers(0, 60), keys, "keys");
    }

    private static void invalidTopic() throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (String name : List.of("with space", "..", "a".repeat(250))) {
                fails(InvalidTopicException.class, () -> Broker.wait(producer.send(new ProducerRecord<>(name, bytes("x")))));
            }
        }
    }

    private static void unknownPartition() throws Exception {
        String topic = topic("partition", 1);
        try (KafkaProducer<byte[], byte[]> producer = producer("max.block.ms", "500")) {
            fails(TimeoutException.class, () -> Broker.wait(producer.send(record(topic, 3, "x"))));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer("default.api.timeout.ms", "500")) {
            fails(TimeoutException.class, () -> consumer.endOffsets(List.of(new TopicPartition(topic, 3))));
        }
    }

    private static void minimumInSync() throws Exception {
        // Kafka counts at most as many as the partition has replicas, so that one replica takes acks=all
        String topic = topic("insync", 1, "min.insync.replicas", "2");
        try (KafkaProducer<byte[], byte[]> all = producer("retries", "0", "enable.idempotence", "false", "acks", "all");
                KafkaProducer<byte[], byte[]> one = producer("enable.idempotence", "false", "acks", "1")) {
            same(0L, Broker.wait(all.send(record(topic, 0, "x"))).offset(), "offset with acks=all");
            same(1L, Broker.wait(one.send(record(topic, 0, "y"))).offset(), "offset with acks=1");
        }
    }

    private static void oldTimestamp() throws Exception {
        String topic = topic("old", 1, "message.timestamp.before.max.ms", "60000");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            fails(InvalidTimestampException.class, () -> Broker.wait(producer.send(new ProducerRecord<>(topic, 0, System.currentTimeMillis() - 3_600_000, null, bytes("x")))));
            same(0L, Broker.wait(producer.send(record(topic, 0, "now"))).offset(), "offset");
        }
    }

    private static void futureTimestamp() throws Exception {
        String topic = topic("future", 1);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            // one hour ahead is Kafka's default
            fails(InvalidTimestampException.class, () -> Broker.wait(producer.send(new ProducerRecord<>(topic, 0, System.currentTimeMillis() + 2 * 3_600_000, null, bytes("x")))));
            same(0L, Broker.wait(producer.send(new ProducerRecord<>(topic, 0, System.currentTimeMillis() + 600_000, null, bytes("y")))).offset(), "offset");
        }
    }

    private static void recompress(String type) throws Exception {
        String topic = topic("to-" + type, 1, "compression.type", type, "retention.ms", "-1");
        String line = "the same words again and again, and then the same words again; ".repeat(40);
        int count = 0;
        for (String from : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<Future<RecordMetadata>> sent = new java.util.ArrayList<>();
            try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", from, "linger.ms", "1000", "batch.size", "500000")) {
                for (int i = 0; i < 50; i++) {
                    ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, 1_700_000_000_000L + count, bytes("" + count), i % 10 == 0 ? null : bytes(line + count));
                    record.headers().add("h", bytes("" + count)).add("h", null);
                    sent.add(producer.send(record));
                    count++;
                }
                producer.flush();
                for (Future<RecordMetadata> each : sent) {
                    Broker.wait(each);
                }
            }
        }
        var records = Broker.read(topic, count);
        for (int i = 0; i < count; i++) {
            var record = records.get(i);
            same("" + i, Broker.text(record.key()), "key");
            same(i % 10 == 0 ? null : line + i, Broker.text(record.value()), "value");
            same(1_700_000_000_000L + i, record.timestamp(), "timestamp");
            same(2, record.headers().toArray().length, "headers");
            same((long) i, record.offset(), "offset");
        }
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        LogDirDescription dir = Broker.wait(ADMIN.describeLogDirs(List.of(node)).allDescriptions()).get(node).values().iterator().next();
        long size = dir.replicaInfos().get(Broker.partition(topic)).size();
        long plain = (long) line.length() * count * 9 / 10;
        that(type.equals("uncompressed") ? size > plain : size < plain / 5, "size on disk " + size + " for " + plain + " bytes of values");
    }

    private static void withoutKey() throws Exception {
        String topic = topic("compacted", 1, "cleanup.policy", "compact");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            fails(org.apache.kafka.common.InvalidRecordException.class, () -> Broker.wait(producer.send(record(topic, 0, "no key"))));
            same(0L, Broker.wait(producer.send(new ProducerRecord<>(topic, 0, bytes("k"), bytes("v")))).offset(), "offset");
        }
    }
}
