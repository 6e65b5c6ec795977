package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.bytes;
import static raftsman.compat.Broker.consumer;
import static raftsman.compat.Broker.fill;
import static raftsman.compat.Broker.numbers;
import static raftsman.compat.Broker.partition;
import static raftsman.compat.Broker.poll;
import static raftsman.compat.Broker.producer;
import static raftsman.compat.Broker.record;
import static raftsman.compat.Broker.text;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Broker.values;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** A consumer with assigned partitions: where it starts, how it seeks, and what the limits of a fetch do. */
final class ConsumerChecks {
    private ConsumerChecks() {}

    static void addTo(Checks checks) {
        checks.add("consumer from the earliest offset, isolation read_committed too", ConsumerChecks::earliest);
        checks.add("consumer from the latest offset sees only what comes later", ConsumerChecks::latest);
        checks.add("auto.offset.reset=by_duration", ConsumerChecks::byDuration);
        checks.add("seek, seekToBeginning, seekToEnd, position, currentLag", ConsumerChecks::seek);
        checks.add("beginningOffsets and endOffsets, also after deleteRecords", ConsumerChecks::ends);
        checks.add("offsetsForTimes: before, exact, between, after, out of order", ConsumerChecks::times);
        checks.add("offsetsForTimes inside compressed batches", ConsumerChecks::timesInBatches);
        checks.add("max.partition.fetch.bytes below a record's size still gives the record", () -> tiny("max.partition.fetch.bytes", "100"));
        checks.add("fetch.max.bytes below a record's size still gives the record", () -> tiny("fetch.max.bytes", "100"));
        checks.add("fetch.min.bytes that never come: the wait ends", ConsumerChecks::minimumWait);
        checks.add("a waiting fetch wakes when a record comes", ConsumerChecks::wake);
        checks.add("one consumer over sixty partitions: fetch session grows, pauses, shrinks", ConsumerChecks::session);
        checks.add("fetch.max.bytes shares the room: each of six full partitions advances", ConsumerChecks::fairness);
        checks.add("two consumers read the same partition independently", ConsumerChecks::independent);
        checks.add("position out of range with auto.offset.reset=none", ConsumerChecks::outOfRange);
        checks.add("position out of range with auto.offset.reset=earliest starts at the first record left", ConsumerChecks::outOfRangeReset);
        checks.add("a consumer waits for its topic to appear", ConsumerChecks::appears);
        checks.add("listTopics and partitionsFor of a consumer", ConsumerChecks::metadata);
        checks.add("reading and seeking over several segments (segment.bytes=1 MiB)", ConsumerChecks::segments);
    }

    private static void earliest() throws Exception {
        String topic = topic("earliest", 1);
        fill(topic, 200);
        for (String isolation : List.of("read_uncommitted", "read_committed")) {
            List<ConsumerRecord<byte[], byte[]>> records = Broker.read(topic, 200, "isolation.level", isolation);
            same(numbers(0, 200), values(records), isolation);
            same(0, records.get(0).leaderEpoch().orElse(-1), "leader epoch");
        }
    }

    private static void latest() throws Exception {
        String topic = topic("latest", 1);
        fill(topic, 10);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("auto.offset.reset", "latest")) {
            consumer.assign(List.of(partition(topic)));
            same(10L, consumer.position(partition(topic)), "position");
            fill(topic, 5);
            List<ConsumerRecord<byte[], byte[]>> records = poll(consumer, 5);
            same(numbers(0, 5), values(records), "values");
            same(10L, records.get(0).offset(), "first offset");
        }
    }

    private static void byDuration() throws Exception {
        String topic = topic("by-duration", 1);
        fill(topic, 10, System.currentTimeMillis() - 7_200_000);
        fill(topic, 10);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("auto.offset.reset", "by_duration:PT1H")) {
            consumer.assign(List.of(partition(topic)));
            same(10L, poll(consumer, 10).get(0).offset(), "first offset");
        }
    }

    private static void seek() throws Exception {
        String topic = topic("seek", 1);
        TopicPartition partition = partition(topic);
        fill(topic, 100);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("max.poll.records", "1000")) {
            consumer.assign(List.of(partition));
            for (int from : new int[] {0, 99, 37, 1, 98}) {
                consumer.seek(partition, from);
                same((long) from, consumer.position(partition), "position");
                same(numbers(from, 100), values(poll(consumer, 100 - from)), "values from " + from);
            }
            same(100L, consumer.position(partition), "position");
            same(0L, consumer.currentLag(partition).orElse(-1), "lag");
            consumer.seekToBeginning(List.of(partition));
            same(0L, consumer.position(partition), "position at the beginning");
            consumer.seekToEnd(List.of(partition));
            same(100L, consumer.position(partition), "position at the end");
            that(consumer.poll(Duration.ofMillis(50)).isEmpty(), "records behind the end");
        }
    }

    private static void ends() throws Exception {
        String topic = topic("ends", 2);
        TopicPartition first = partition(topic);
        TopicPartition second = new TopicPartition(topic, 1);
        fill(topic, 50);
        for (String isolation : List.of("read_uncommitted", "read_committed")) {
            try (KafkaConsumer<byte[], byte[]> consumer = consumer("isolation.level", isolation)) {
                same(Map.of(first, 50L, second, 0L), consumer.endOffsets(List.of(first, second)), "end offsets");
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            same(Map.of(first, 0L, second, 0L), consumer.beginningOffsets(List.of(first, second)), "beginning offsets");
            Broker.deleteRecords(topic, 20);
            same(Map.of(first, 20L, second, 0L), consumer.beginningOffsets(List.of(first, second)), "beginning offsets after the deletion");
            consumer.assign(List.of(first));
            same(numbers(20, 50), values(poll(consumer, 30)), "values");
        }
    }

    private static Long offset(KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition, long time) {
        OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, time)).get(partition);
        return found == null ? null : found.offset();
    }

    private static void times() throws Exception {
        String topic = topic("times", 1);
        TopicPartition partition = partition(topic);
        long base = System.currentTimeMillis() - 100_000;
        List<Long> stamps = List.of(base, base + 10, base + 10, base + 30, base + 20, base + 40);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long stamp : stamps) {
                Broker.wait(producer.send(new ProducerRecord<>(topic, 0, stamp, null, bytes("x"))));
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            same(0L, offset(consumer, partition, 0), "time 0");
            same(0L, offset(consumer, partition, base), "exact first");
            same(1L, offset(consumer, partition, base + 1), "between");
            same(1L, offset(consumer, partition, base + 10), "exact, twice");
            same(3L, offset(consumer, partition, base + 11), "the first that is later");
            same(3L, offset(consumer, partition, base + 25), "before one out of order");
            same(5L, offset(consumer, partition, base + 31), "last");
            same(null, offset(consumer, partition, base + 41), "after the last");
            same(base + 30, consumer.offsetsForTimes(Map.of(partition, base + 11)).get(partition).timestamp(), "its timestamp");
        }
    }

    private static void timesInBatches() throws Exception {
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = topic("times-" + compression, 1);
            TopicPartition partition = partition(topic);
            long base = System.currentTimeMillis() - 1_000_000;
            try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", compression, "linger.ms", "1000")) {
                for (int i = 0; i < 100; i++) {
                    producer.send(new ProducerRecord<>(topic, 0, base + 10 * i, null, bytes("" + i)));
                    if (i % 25 == 24) {
                        producer.flush();
                    }
                }
            }
            try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
                for (int wanted : new int[] {0, 1, 24, 25, 63, 99}) {
                    same((long) wanted, offset(consumer, partition, base + 10 * wanted - 3), compression + ", time of " + wanted);
                }
                same(null, offset(consumer, partition, base + 991), compression + ", after the last");
            }
        }
    }

    private static void tiny(String key, String value) throws Exception {
        String topic = topic("tiny", 2);
        byte[] large = Broker.noise(300_000, 3);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (int i = 0; i < 3; i++) {
                Broker.wait(producer.send(new ProducerRecord<>(topic, 0, null, large)));
                Broker.wait(producer.send(new ProducerRecord<>(topic, 1, null, large)));
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(key, value)) {
            consumer.assign(List.of(partition(topic), new TopicPartition(topic, 1)));
            for (ConsumerRecord<byte[], byte[]> record : poll(consumer, 6)) {
                that(Broker.equal(large, record.value()), "value differs");
            }
        }
    }

    private static void minimumWait() throws Exception {
        String topic = topic("minimum", 1);
        fill(topic, 3);
        same(numbers(0, 3), values(Broker.read(topic, 3, "fetch.min.bytes", "10000000", "fetch.max.wait.ms", "300")), "values");
    }

    private static void wake() throws Exception {
        String topic = topic("wake", 1);
        KafkaConsumer<byte[], byte[]> consumer = consumer("fetch.max.wait.ms", "60000", "request.timeout.ms", "90000");
        try {
            consumer.assign(List.of(partition(topic)));
            consumer.position(partition(topic));
            that(consumer.poll(Duration.ofMillis(100)).isEmpty(), "records from nowhere"); // the fetch now waits at the broker
            for (int i = 0; i < 5; i++) {
                fill(topic, 1);
                same(1, poll(consumer, 1).size(), "records");
            }
        } finally {
            consumer.close(CloseOptions.timeout(Duration.ZERO)); // else it waits for the fetch that waits
        }
    }

    private static void session() throws Exception {
        int partitions = 60;
        String topic = topic("session", partitions);
        List<TopicPartition> all = Checks.range(0, partitions).stream().map(p -> new TopicPartition(topic, p)).toList();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("fetch.max.wait.ms", "50");
                KafkaProducer<byte[], byte[]> producer = producer()) {
            consumer.assign(all);
            for (int round = 0; round < 4; round++) {
                Set<TopicPartition> paused = new HashSet<>();
                if (round == 2) {
                    paused.addAll(all.subList(0, 20));
                    consumer.pause(paused);
                }
                for (TopicPartition partition : all) {
                    producer.send(record(topic, partition.partition(), "round " + round));
                }
                producer.flush();
                Map<TopicPartition, String> got = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : poll(consumer, partitions - paused.size())) {
                    got.put(new TopicPartition(topic, record.partition()), text(record.value()));
                }
                same(partitions - paused.size(), got.size(), "partitions with a record in round " + round);
                same(Set.of("round " + round), new HashSet<>(got.values()), "values");
                that(got.keySet().stream().noneMatch(paused::contains), "a record from a paused partition");
                consumer.resume(paused);
                if (!paused.isEmpty()) {
                    same(paused.size(), poll(consumer, paused.size()).size(), "records after resuming");
                }
            }
            consumer.assign(all.subList(0, 3));
            consumer.seekToEnd(all.subList(0, 3));
            all.subList(0, 3).forEach(consumer::position);
            for (TopicPartition partition : all) {
                producer.send(record(topic, partition.partition(), "last"));
            }
            producer.flush();
            same(3, poll(consumer, 3).size(), "records of the three that are left");
        }
    }

    private static void fairness() throws Exception {
        String topic = topic("fair", 6);
        byte[] value = Broker.noise(10_000, 4);
        try (KafkaProducer<byte[], byte[]> producer = producer("batch.size", "1")) {
            for (int i = 0; i < 600; i++) {
                producer.send(new ProducerRecord<>(topic, i % 6, null, value));
            }
            producer.flush();
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("fetch.max.bytes", "50000", "max.poll.records", "5")) {
            consumer.assign(Checks.range(0, 6).stream().map(p -> new TopicPartition(topic, p)).toList());
            Map<Integer, Integer> counts = new HashMap<>();
            int read = 0;
            while (counts.size() < 6) {
                that(read < 500, "after " + read + " records only these partitions gave some: " + counts);
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(2))) {
                    counts.merge(record.partition(), 1, Integer::sum);
                    read++;
                }
            }
            poll(consumer, 600 - read);
        }
    }

    private static void independent() throws Exception {
        String topic = topic("independent", 1);
        fill(topic, 500);
        try (KafkaConsumer<byte[], byte[]> one = consumer("max.poll.records", "50");
                KafkaConsumer<byte[], byte[]> other = consumer("max.poll.records", "500")) {
            one.assign(List.of(partition(topic)));
            other.assign(List.of(partition(topic)));
            List<String> slow = new ArrayList<>(values(poll(one, 50)));
            same(numbers(0, 500), values(poll(other, 500)), "the fast one");
            while (slow.size() < 500) {
                slow.addAll(values(poll(one, 50)));
            }
            same(numbers(0, 500), slow, "the slow one");
        }
    }

    private static void outOfRange() throws Exception {
        String topic = topic("range", 1);
        TopicPartition partition = partition(topic);
        fill(topic, 10);
        Broker.deleteRecords(topic, 5);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("auto.offset.reset", "none")) {
            consumer.assign(List.of(partition));
            for (long offset : new long[] {2, 11, 1_000_000}) {
                consumer.seek(partition, offset);
                OffsetOutOfRangeException error = fails(OffsetOutOfRangeException.class, () -> {
                    for (int i = 0; i < 100; i++) {
                        consumer.poll(Duration.ofMillis(200));
                    }
                    return "nothing";
                });
                same(Map.of(partition, offset), error.offsetOutOfRangePartitions(), "offset in the error");
            }
            consumer.seek(partition, 5);
            same(numbers(5, 10), values(poll(consumer, 5)), "values");
        }
    }

    private static void outOfRangeReset() throws Exception {
        String topic = topic("range-reset", 1);
        fill(topic, 10);
        Broker.deleteRecords(topic, 7);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(partition(topic)));
            consumer.seek(partition(topic), 3);
            same(numbers(7, 10), values(poll(consumer, 3)), "values");
        }
    }

    private static void appears() throws Exception {
        String topic = Broker.name("appears");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("metadata.max.age.ms", "200", "auto.offset.reset", "earliest")) {
            consumer.assign(List.of(partition(topic)));
            that(consumer.poll(Duration.ofMillis(100)).isEmpty(), "records from nowhere");
            Broker.wait(ADMIN.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(topic, 1, (short) 1))).all());
            fill(topic, 3);
            same(numbers(0, 3), values(poll(consumer, 3)), "values");
        }
    }

    private static void metadata() throws Exception {
        String topic = topic("listed", 3);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            same(3, consumer.listTopics().get(topic).size(), "partitions in listTopics");
            same(3, consumer.partitionsFor(topic).size(), "partitions in partitionsFor");
            // allow.auto.create.topics=false: asking must not create
            String unknown = Broker.name("unknown");
            that(consumer.partitionsFor(unknown) == null || consumer.partitionsFor(unknown).isEmpty(), "partitions of an unknown topic");
            that(!consumer.listTopics().containsKey(unknown), "the question created the topic");
        }
    }

    private static void segments() throws Exception {
        String topic = topic("segments", 1, "segment.bytes", "1048576", "index.interval.bytes", "512");
        int count = 5000;
        try (KafkaProducer<byte[], byte[]> producer = producer("batch.size", "4000")) {
            for (int i = 0; i < count; i++) {
                producer.send(record(topic, 0, i + ":" + "x".repeat(i % 1500)));
            }
            producer.flush();
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("max.partition.fetch.bytes", "30000")) {
            consumer.assign(List.of(partition(topic)));
            List<ConsumerRecord<byte[], byte[]>> records = poll(consumer, count);
            for (int i = 0; i < count; i++) {
                same(i + ":" + "x".repeat(i % 1500), text(records.get(i).value()), "value");
            }
            for (int from = 4999; from > 0; from -= 617) {
                consumer.seek(partition(topic), from);
                that(text(poll(consumer, count - from).get(0).value()).startsWith(from + ":"), "seek to " + from);
            }
        }
    }
}
