package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.TopicConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;

/** Kafka Streams counts words, at least once, with its default store, against the broker at BOOTSTRAP. */
public final class StreamsSuite {
    private static final int PARTITIONS = 3;
    private static final String[] WORDS = {"log", "batch", "epoch", "leader", "offset", "segment", "quorum", "fence", "replica", "term"};

    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        checks.addAlone("word count: the counts are right", StreamsSuite::count);
        checks.addAlone("word count: the app restarts, with its state and without; a second instance comes and goes", StreamsSuite::instances);
        checks.addAlone("word count: the broker is killed, and stopped, in between", StreamsSuite::broker);
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        Runtime.getRuntime().halt(code);
    }

    /** A topic of lines, an application that counts their words, and what the counts must be. */
    private static final class WordCount implements AutoCloseable {
        final String application = name("count");
        final String lines = topic("lines", PARTITIONS);
        final String counts = topic("counts", PARTITIONS, "cleanup.policy", "compact");
        final Map<String, Long> wanted = new HashMap<>();
        private final Random random = new Random(7);
        private final Path folder = Files.createTempDirectory("streams");
        volatile Throwable error;

        WordCount() throws Exception {}

        /** Starts an instance of the application that keeps its state in the folder of that name. */
        KafkaStreams start(String state) {
            StreamsBuilder builder = new StreamsBuilder();
            builder.stream(lines, Consumed.with(Serdes.String(), Serdes.String()))
                    .flatMapValues(line -> List.of(line.split(" ")))
                    .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                    .count(Materialized.as("counts"))
                    .toStream()
                    .to(counts, Produced.with(Serdes.String(), Serdes.Long()));
            Properties properties = Broker.properties("application.id", application, "state.dir", folder.resolve(state).toString(),
                    "commit.interval.ms", "200", "processing.guarantee", "at_least_once", "num.stream.threads", "1",
                    "default.key.serde", Serdes.StringSerde.class.getName(), "default.value.serde", Serdes.StringSerde.class.getName(),
                    "consumer.auto.offset.reset", "earliest", "consumer.heartbeat.interval.ms", "300", "replication.factor", "1",
                    "statestore.cache.max.bytes", "0", "producer.linger.ms", "5");
            KafkaStreams streams = new KafkaStreams(builder.build(), properties);
            streams.setUncaughtExceptionHandler(thrown -> {
                error = thrown;
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            return streams;
        }

        void produce(int count) throws Exception {
            try (KafkaProducer<byte[], byte[]> producer = Broker.producer("linger.ms", "5", "delivery.timeout.ms", "60000")) {
                for (int i = 0; i < count; i++) {
                    String line = random.ints(1 + random.nextInt(8), 0, WORDS.length).mapToObj(word -> WORDS[word]).collect(Collectors.joining(" "));
                    for (String word : line.split(" ")) {
                        wanted.merge(word, 1L, Long::sum);
                    }
                    producer.send(new ProducerRecord<>(lines, i % PARTITIONS, null, Broker.bytes(line)));
                }
            }
        }

        private static long number(byte[] value) {
            return java.nio.ByteBuffer.wrap(value).getLong();
        }

        /** Waits until the last count of each word in the output is the right one; returns how many counts came. */
        int verify() throws Exception {
            Map<String, Long> got = new HashMap<>();
            int records = 0;
            long end = System.nanoTime() + Duration.ofSeconds(40).toNanos();
            try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer()) {
                consumer.assign(Checks.range(0, PARTITIONS).stream().map(number -> new TopicPartition(counts, number)).toList());
                while (!got.equals(wanted)) {
                    same(null, error, "error of the application");
                    that(System.nanoTime() < end, "the counts are " + got + " and not " + wanted);
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        long before = got.getOrDefault(Broker.text(record.key()), 0L);
                        long now = number(record.value());
                        got.put(Broker.text(record.key()), now);
                        that(now <= wanted.getOrDefault(Broker.text(record.key()), 0L), "counted too much: " + Broker.text(record.key()) + " " + before + ", " + now);
                        records++;
                    }
                }
            }
            return records;
        }

        @Override
        public void close() throws Exception {
            try (Stream<Path> files = Files.walk(folder)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
    }

    private static void running(KafkaStreams streams) throws Exception {
        until("the application runs", () -> streams.state() == KafkaStreams.State.RUNNING);
    }

    private static void end(KafkaStreams streams) {
        // An instance that closes stays in its group otherwise, and the next waits for its session to end.
        CloseOptions leave = CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP).withTimeout(Duration.ofSeconds(15));
        that(streams.close(leave), "the application does not close");
    }

    private static void count() throws Exception {
        try (WordCount application = new WordCount()) {
            application.produce(2000);
            KafkaStreams streams = application.start("one");
            application.verify();
            long words = application.wanted.values().stream().mapToLong(Long::longValue).sum();

            String repartition = application.application + "-counts-repartition";
            String changelog = application.application + "-counts-changelog";
            Set<String> topics = Broker.wait(ADMIN.listTopics().names());
            that(topics.contains(repartition) && topics.contains(changelog), "internal topics: " + topics);
            same(PARTITIONS, Broker.describe(repartition).partitions().size(), "partitions of the repartition topic");
            TopicDescription described = Broker.describe(changelog);
            same(PARTITIONS, described.partitions().size(), "partitions of the changelog");
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, changelog);
            same("compact", Broker.wait(ADMIN.describeConfigs(List.of(resource)).all()).get(resource).get(TopicConfig.CLEANUP_POLICY_CONFIG).value(), "policy of the changelog");

            // the store answers what the topic says
            running(streams);
            ReadOnlyKeyValueStore<String, Long> store = streams.store(StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.keyValueStore()));
            Map<String, Long> stored = new HashMap<>();
            try (KeyValueIterator<String, Long> all = store.all()) {
                while (all.hasNext()) {
                    KeyValue<String, Long> each = all.next();
                    stored.put(each.key, each.value);
                }
            }
            same(application.wanted, stored, "the store");
            // what is counted goes from the repartition topic: Streams deletes its records behind itself
            Map<TopicPartition, org.apache.kafka.clients.admin.OffsetSpec> all = new HashMap<>();
            Checks.range(0, PARTITIONS).forEach(number -> all.put(new TopicPartition(repartition, number), org.apache.kafka.clients.admin.OffsetSpec.latest()));
            same(words, Broker.wait(ADMIN.listOffsets(all).all()).values().stream().mapToLong(each -> each.offset()).sum(), "records in the repartition topic");
            end(streams);
        }
    }

    private static void instances() throws Exception {
        try (WordCount application = new WordCount()) {
            application.produce(300);
            KafkaStreams first = application.start("one");
            application.verify();
            end(first);
            application.produce(300);
            // with its state
            first = application.start("one");
            application.verify();
            end(first);
            application.produce(300);
            // without: it is restored from the changelog
            first = application.start("fresh");
            application.verify();
            KafkaStreams second = application.start("two");
            running(second);
            running(first);
            application.produce(300);
            application.verify();
            end(first);
            application.produce(300);
            application.verify();
            end(second);
            same(null, application.error, "error of the application");
        }
    }

    private static void broker() throws Exception {
        try (WordCount application = new WordCount()) {
            application.produce(500);
            KafkaStreams streams = application.start("one");
            application.verify();
            for (String how : List.of("kill", "stop")) {
                Thread producing = new Thread(() -> {
                    try {
                        application.produce(1000);
                    } catch (Exception error) {
                        application.error = error;
                    }
                });
                producing.start();
                Broker.control("/restart?how=" + how);
                producing.join();
                application.verify();
            }
            end(streams);
            application.produce(100);
            streams = application.start("fresh");
            application.verify();
            end(streams);
        }
    }
}
