package raftsman.compat;

import static raftsman.compat.Broker.bytes;
import static raftsman.compat.Broker.consumer;
import static raftsman.compat.Broker.numbers;
import static raftsman.compat.Broker.poll;
import static raftsman.compat.Broker.producer;
import static raftsman.compat.Broker.read;
import static raftsman.compat.Broker.record;
import static raftsman.compat.Broker.text;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Broker.values;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** What a producer sends is what a consumer reads. */
final class ProducerChecks {
    private ProducerChecks() {}

    static void addTo(Checks checks) {
        checks.add("producer with defaults (idempotent, acks=all), keyed over three partitions", ProducerChecks::defaults);
        for (String acks : List.of("0", "1", "all")) {
            checks.add("producer acks=" + acks, () -> acks(acks));
        }
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            checks.add("producer compression.type=" + compression, () -> compression(compression));
        }
        checks.add("records: null and empty keys and values, headers, header keys that repeat", ProducerChecks::shapes);
        checks.add("order with five requests in flight, 20000 records in small batches", ProducerChecks::order);
        checks.add("order with five requests in flight, not idempotent, acks=1", ProducerChecks::orderWithoutIdempotence);
        checks.add("three idempotent producers into one partition", ProducerChecks::shared);
        checks.add("timestamps of the producer are kept (CreateTime)", ProducerChecks::createTime);
        checks.add("message.timestamp.type=LogAppendTime stamps whole batches", ProducerChecks::logAppendTime);
        checks.add("a record of almost max.message.bytes", ProducerChecks::almostTooLarge);
        checks.add("max.message.bytes=4 MiB takes a record of 3 MiB", ProducerChecks::large);
        checks.add("producing to a topic that does not exist creates it", ProducerChecks::autoCreation);
        checks.add("partitionsFor", ProducerChecks::partitionsFor);
        checks.add("sticky partitioning without keys uses every partition, loses nothing", ProducerChecks::withoutKeys);
        checks.add("a producer's sequence goes on over idle time of its connection", ProducerChecks::reconnect);
    }

    private static void defaults() throws Exception {
        String topic = topic("defaults", 3);
        int count = 1000;
        Map<Integer, List<Long>> offsets = new HashMap<>();
        Map<String, Integer> partitionOf = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, bytes("key-" + i % 50), bytes("value-" + i))));
            }
            for (int i = 0; i < count; i++) {
                RecordMetadata metadata = Broker.wait(sent.get(i));
                that(metadata.hasOffset() && metadata.hasTimestamp(), "no offset in " + metadata);
                offsets.computeIfAbsent(metadata.partition(), ignored -> new ArrayList<>()).add(metadata.offset());
                Integer before = partitionOf.put("key-" + i % 50, metadata.partition());
                that(before == null || before == metadata.partition(), "one key, two partitions");
            }
        }
        offsets.forEach((partition, list) -> {
            for (int i = 0; i < list.size(); i++) {
                same((long) i, list.get(i), "offset in partition " + partition);
            }
        });
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(0, 1, 2).stream().map(p -> new TopicPartition(topic, p)).toList());
            Map<String, List<Integer>> read = new HashMap<>();
            for (ConsumerRecord<byte[], byte[]> record : poll(consumer, count)) {
                same(partitionOf.get(text(record.key())), record.partition(), "partition");
                read.computeIfAbsent(text(record.key()), ignored -> new ArrayList<>())
                        .add(Integer.parseInt(text(record.value()).substring(6)));
            }
            for (int key = 0; key < 50; key++) {
                List<Integer> wanted = new ArrayList<>();
                for (int i = key; i < count; i += 50) {
                    wanted.add(i);
                }
                same(wanted, read.get("key-" + key), "values of key-" + key);
            }
        }
    }

    private static void acks(String acks) throws Exception {
        String topic = topic("acks", 1);
        try (KafkaProducer<byte[], byte[]> producer = producer("acks", acks, "enable.idempotence", acks.equals("all") ? "true" : "false")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 500; i++) {
                sent.add(producer.send(record(topic, 0, "" + i)));
            }
            for (int i = 0; i < 500; i++) {
                RecordMetadata metadata = Broker.wait(sent.get(i));
                same(acks.equals("0") ? -1L : i, metadata.offset(), "offset");
            }
        }
        same(numbers(0, 500), values(read(topic, 500)), "values");
    }

    private static void compression(String compression) throws Exception {
        String topic = topic(compression, 1);
        List<byte[]> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", compression, "linger.ms", "20", "batch.size", "200000")) {
            for (int i = 0; i < 300; i++) {
                byte[] value = switch (i % 3) {
                    case 0 -> bytes("short " + i);
                    case 1 -> bytes(("a line of a log that says the same again, number " + i + "; ").repeat(100));
                    default -> Broker.noise(3000, i);
                };
                sent.add(value);
                producer.send(new ProducerRecord<>(topic, 0, bytes("k" + i), value));
            }
            producer.flush();
        }
        List<ConsumerRecord<byte[], byte[]>> records = read(topic, 300);
        for (int i = 0; i < 300; i++) {
            ConsumerRecord<byte[], byte[]> record = records.get(i);
            same((long) i, record.offset(), "offset");
            same("k" + i, text(record.key()), "key");
            that(Broker.equal(sent.get(i), record.value()), "value " + i + " differs");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(Broker.partition(topic)));
            consumer.seek(Broker.partition(topic), 137);
            same(137L, poll(consumer, 163).get(0).offset(), "first offset after a seek into a batch");
        }
    }

    private static void shapes() throws Exception {
        String topic = topic("shapes", 1);
        byte[] odd = {(byte) 0xff, 0, (byte) 0xc0, 10};
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.send(new ProducerRecord<>(topic, 0, null, null));
            producer.send(new ProducerRecord<>(topic, 0, new byte[0], new byte[0]));
            producer.send(new ProducerRecord<>(topic, 0, odd, null));
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, bytes("k"), odd);
            record.headers().add("twice", bytes("1")).add("once", null).add("twice", bytes("2")).add("", new byte[0]).add("grün", odd);
            producer.send(record);
            producer.flush();
        }
        List<ConsumerRecord<byte[], byte[]>> records = read(topic, 4);
        that(records.get(0).key() == null && records.get(0).value() == null, "null key and value");
        that(records.get(1).key().length == 0 && records.get(1).value().length == 0, "empty key and value");
        that(Broker.equal(odd, records.get(2).key()) && records.get(2).value() == null, "tombstone");
        List<String> headers = new ArrayList<>();
        for (Header header : records.get(3).headers()) {
            headers.add(header.key() + "=" + (header.value() == null ? "null" : java.util.HexFormat.of().formatHex(header.value())));
        }
        same(List.of("twice=31", "once=null", "twice=32", "=", "grün=ff00c00a"), headers, "headers");
        same(-1, records.get(0).serializedKeySize(), "size of a null key");
    }

    private static void order(String... extra) throws Exception {
        String topic = topic("order", 1);
        int count = 20_000;
        List<String> properties = new ArrayList<>(List.of("batch.size", "700", "linger.ms", "0", "max.in.flight.requests.per.connection", "5"));
        properties.addAll(List.of(extra));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(properties.toArray(new String[0]))) {
            for (int i = 0; i < count; i++) {
                sent.add(producer.send(record(topic, 0, "" + i)));
            }
            for (int i = 0; i < count; i++) {
                same((long) i, Broker.wait(sent.get(i)).offset(), "offset of record " + i);
            }
        }
        same(numbers(0, count), values(read(topic, count)), "values");
    }

    private static void order() throws Exception {
        order(new String[0]);
    }

    private static void orderWithoutIdempotence() throws Exception {
        order("enable.idempotence", "false", "acks", "1");
    }

    private static void shared() throws Exception {
        String topic = topic("shared", 1);
        List<KafkaProducer<byte[], byte[]>> producers = List.of(producer("batch.size", "500"), producer("linger.ms", "3"), producer("compression.type", "lz4"));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            sent.add(producers.get(i % 3).send(record(topic, 0, i % 3 + ":" + i / 3)));
        }
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> each : sent) {
            offsets.add(Broker.wait(each).offset());
        }
        producers.forEach(KafkaProducer::close);
        same(3000L, offsets.stream().distinct().count(), "count of different offsets");
        List<String> read = values(read(topic, 3000));
        for (int i = 0; i < 3000; i++) {
            same(i % 3 + ":" + i / 3, read.get(offsets.get(i).intValue()), "value at its offset");
        }
    }

    private static void createTime() throws Exception {
        String topic = topic("create-time", 1, "retention.ms", "-1");
        List<Long> stamps = List.of(1_700_000_000_000L, 1_600_000_000_123L, 1_700_000_000_001L, 0L);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long stamp : stamps) {
                same(stamp, Broker.wait(producer.send(new ProducerRecord<>(topic, 0, stamp, null, bytes("x")))).timestamp(), "timestamp in the answer");
            }
        }
        List<ConsumerRecord<byte[], byte[]>> records = read(topic, stamps.size());
        same(stamps, records.stream().map(ConsumerRecord::timestamp).toList(), "timestamps");
        same(TimestampType.CREATE_TIME, records.get(0).timestampType(), "type");
    }

    private static void logAppendTime() throws Exception {
        for (String compression : List.of("none", "zstd")) {
            String topic = topic("append-time", 1, "message.timestamp.type", "LogAppendTime");
            long before = System.currentTimeMillis();
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            try (KafkaProducer<byte[], byte[]> producer = producer("linger.ms", "10", "compression.type", compression)) {
                for (int i = 0; i < 20; i++) {
                    sent.add(producer.send(new ProducerRecord<>(topic, 0, 1000L + i, null, bytes("" + i))));
                }
            }
            long after = System.currentTimeMillis();
            List<ConsumerRecord<byte[], byte[]>> records = read(topic, 20);
            for (int i = 0; i < 20; i++) {
                ConsumerRecord<byte[], byte[]> record = records.get(i);
                same(TimestampType.LOG_APPEND_TIME, record.timestampType(), "type");
                that(record.timestamp() >= before && record.timestamp() <= after, "timestamp " + record.timestamp() + " not within the sending");
                same(record.timestamp(), Broker.wait(sent.get(i)).timestamp(), "timestamp in the answer");
            }
            try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
                TopicPartition partition = Broker.partition(topic);
                same(0L, consumer.offsetsForTimes(Map.of(partition, before)).get(partition).offset(), "offset for the time before");
                that(consumer.offsetsForTimes(Map.of(partition, after + 100_000)).get(partition) == null, "an offset for the future");
            }
        }
    }

    private static void almostTooLarge() throws Exception {
        // Kafka's message.max.bytes is 1048588 for the whole batch; 88 bytes are its header and this record's.
        String topic = topic("almost", 1);
        byte[] value = Broker.noise(1048588 - 88, 1);
        try (KafkaProducer<byte[], byte[]> producer = producer("max.request.size", "3000000")) {
            Broker.wait(producer.send(new ProducerRecord<>(topic, 0, null, value)));
        }
        that(Broker.equal(value, read(topic, 1).get(0).value()), "value differs");
    }

    private static void large() throws Exception {
        String topic = topic("large", 1, "max.message.bytes", "4194304");
        byte[] value = Broker.noise(3 << 20, 2);
        try (KafkaProducer<byte[], byte[]> producer = producer("max.request.size", "4194304")) {
            Broker.wait(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            Broker.wait(producer.send(record(topic, 0, "after")));
        }
        List<ConsumerRecord<byte[], byte[]>> records = read(topic, 2);
        that(Broker.equal(value, records.get(0).value()), "value differs");
        same("after", text(records.get(1).value()), "the record after");
    }

    private static void autoCreation() throws Exception {
        String topic = Broker.name("auto");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            same(0L, Broker.wait(producer.send(new ProducerRecord<>(topic, bytes("first")))).offset(), "offset");
        }
        same(List.of("first"), values(read(topic, 1)), "values");
    }

    private static void partitionsFor() throws Exception {
        String topic = topic("partitions", 7);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            var partitions = producer.partitionsFor(topic);
            same(Checks.range(0, 7), partitions.stream().map(p -> p.partition()).sorted().toList(), "partitions");
            partitions.forEach(p -> {
                that(p.leader() != null && !p.leader().isEmpty(), "no leader");
                same(1, p.replicas().length, "replicas");
                same(1, p.inSyncReplicas().length, "in-sync replicas");
                same(0, p.offlineReplicas().length, "offline replicas");
            });
        }
    }

    private static void withoutKeys() throws Exception {
        String topic = topic("sticky", 4);
        try (KafkaProducer<byte[], byte[]> producer = producer("batch.size", "300")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 4000; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, bytes("" + i))));
            }
            for (Future<RecordMetadata> each : sent) {
                Broker.wait(each);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(Checks.range(0, 4).stream().map(p -> new TopicPartition(topic, p)).toList());
            List<ConsumerRecord<byte[], byte[]>> records = poll(consumer, 4000);
            same(4000L, records.stream().map(record -> text(record.value())).distinct().count(), "different values");
            same(4L, records.stream().map(ConsumerRecord::partition).distinct().count(), "partitions used");
        }
    }

    private static void reconnect() throws Exception {
        String topic = topic("reconnect", 1);
        // The client closes its connection after 100 ms without use, and must go on with the same producer id.
        try (KafkaProducer<byte[], byte[]> producer = producer("connections.max.idle.ms", "100")) {
            for (int i = 0; i < 4; i++) {
                same((long) i, Broker.wait(producer.send(record(topic, 0, "" + i))).offset(), "offset");
                Thread.sleep(250); // the idle time that this check is about
            }
        }
        same(numbers(0, 4), values(read(topic, 4)), "values");
    }
}
