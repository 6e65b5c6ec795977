package raftsman.compat;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The broker under test, and short ways to do what every check does. */
final class Broker {
    static final String BOOTSTRAP = System.getenv().getOrDefault("BOOTSTRAP", "127.0.0.1:9092");
    /** Of how many brokers the cluster is. */
    static final int NODES = Integer.parseInt(System.getenv().getOrDefault("NODES", "1"));
    /** How many replicas a topic gets where that is not the point. */
    static final short REPLICAS = Short.parseShort(System.getenv().getOrDefault("REPLICAS", "1"));
    static final Admin ADMIN = Admin.create(properties("request.timeout.ms", "20000"));
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static final AtomicInteger COUNT = new AtomicInteger();

    private Broker() {}

    static String name(String hint) {
        return "java-" + hint + "-" + RUN + "-" + COUNT.incrementAndGet();
    }

    static Properties properties(String... pairs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        return properties;
    }

    /** Describes a topic; a broker may answer a creation a moment before it knows the topic itself. */
    static TopicDescription describe(String topic) throws Exception {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(Checks.LIMIT_MS);
        while (true) {
            try {
                return wait(ADMIN.describeTopics(List.of(topic)).allTopicNames()).get(topic);
            } catch (ExecutionException error) {
                if (!(error.getCause() instanceof UnknownTopicOrPartitionException) || System.nanoTime() > end) {
                    throw error;
                }
            }
        }
    }

    static <T> T wait(Future<T> future) throws Exception {
        return future.get(Checks.LIMIT_MS, TimeUnit.MILLISECONDS);
    }

    /** Creates a topic with the given configurations; returns its name. */
    static String topic(String hint, int partitions, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) {
            map.put(configs[i], configs[i + 1]);
        }
        String name = name(hint);
        wait(ADMIN.createTopics(List.of(new NewTopic(name, partitions, REPLICAS).configs(map))).all());
        if ("kafka".equals(System.getenv("BROKER"))) {
            // Kafka answers before its partitions are there.
            Map<TopicPartition, OffsetSpec> all = new HashMap<>();
            Checks.range(0, partitions).forEach(number -> all.put(new TopicPartition(name, number), OffsetSpec.latest()));
            Checks.until("the partitions of " + name, () -> {
                try {
                    return error(ADMIN.listOffsets(all).all()) == null;
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
        }
        return name;
    }

    static KafkaProducer<byte[], byte[]> producer(String... pairs) {
        Properties properties = properties(pairs);
        properties.putIfAbsent("request.timeout.ms", "15000");
        properties.putIfAbsent("max.block.ms", "15000");
        properties.putIfAbsent("delivery.timeout.ms", "20000");
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String... pairs) {
        Properties properties = properties(pairs);
        properties.putIfAbsent("auto.offset.reset", "earliest");
        properties.putIfAbsent("enable.auto.commit", "false");
        properties.putIfAbsent("allow.auto.create.topics", "false");
        properties.putIfAbsent("default.api.timeout.ms", "20000");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, String value) {
        return new ProducerRecord<>(topic, partition, null, bytes(value));
    }

    /** Sends values "0", "1", … to partition 0 with timestamps first, first + 1, …, and waits for all. */
    static void fill(String topic, int count, long firstTimestamp) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer("linger.ms", "5")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, firstTimestamp + i, null, bytes("" + i))));
            }
            for (Future<RecordMetadata> each : sent) {
                wait(each);
            }
        }
    }

    static void fill(String topic, int count) throws Exception {
        fill(topic, count, System.currentTimeMillis());
    }

    /** Polls until this many records came, and not one more in the same poll. */
    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(Checks.LIMIT_MS);
        while (records.size() < count) {
            Checks.that(System.nanoTime() < end, "only " + records.size() + " of " + count + " records came");
            consumer.poll(Duration.ofMillis(500)).forEach(records::add);
        }
        Checks.same(count, records.size(), "count of records");
        return records;
    }

    /** Reads partition 0 from its start with a new consumer. */
    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int count, String... pairs) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(pairs)) {
            consumer.assign(List.of(partition(topic)));
            return poll(consumer, count);
        }
    }

    static List<String> values(Collection<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(record -> text(record.value())).toList();
    }

    static List<String> numbers(int from, int to) {
        return Checks.range(from, to).stream().map(String::valueOf).toList();
    }

    static TopicPartition partition(String topic) {
        return new TopicPartition(topic, 0);
    }

    static void deleteRecords(String topic, long before) throws Exception {
        wait(ADMIN.deleteRecords(Map.of(partition(topic), RecordsToDelete.beforeOffset(before))).all());
    }

    /** Has the runner kill, stop, start or restart the broker; returns when it has (the restarted broker serves). */
    static void control(String path) throws Exception {
        String url = System.getenv("BROKER_CONTROL");
        Checks.that(url != null, "BROKER_CONTROL is not set: nobody can restart this broker");
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + path)).POST(HttpRequest.BodyPublishers.noBody()).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        Checks.same(200, answer.statusCode(), path + ": " + answer.body());
    }

    static byte[] noise(int size, long seed) {
        byte[] bytes = new byte[size];
        new java.util.Random(seed).nextBytes(bytes);
        return bytes;
    }

    static boolean equal(byte[] one, byte[] other) {
        return Arrays.equals(one, other);
    }

    /** The error of a future, or null when it succeeds. */
    static Throwable error(Future<?> future) throws Exception {
        try {
            wait(future);
            return null;
        } catch (ExecutionException error) {
            return Checks.cause(error);
        }
    }
}
