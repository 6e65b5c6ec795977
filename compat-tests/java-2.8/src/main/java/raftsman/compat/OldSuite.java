package raftsman.compat;

import static raftsman.compat.Checks.cause;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A client of 2021 (kafka-clients 2.8) against the broker at BOOTSTRAP. One argument: run only checks with that in their name. */
public final class OldSuite {
    private static final String BOOTSTRAP = System.getenv().getOrDefault("BOOTSTRAP", "127.0.0.1:9092");
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static final AtomicInteger COUNT = new AtomicInteger();
    private static final Admin ADMIN = Admin.create(properties("request.timeout.ms", "20000"));

    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            checks.add("produce and consume, compression " + compression, () -> compression(compression));
        }
        checks.add("idempotent producer, acks of every kind", OldSuite::idempotent);
        checks.add("a topic that producing creates", OldSuite::created);
        checks.add("range: members join, leave and die while records are produced", () -> rebalance("RangeAssignor"));
        checks.add("cooperative-sticky: members join, leave and die while records are produced", () -> rebalance("CooperativeStickyAssignor"));
        checks.add("static members: kept over a restart, fenced when doubled, removed by the admin client", OldSuite::staticMembers);
        checks.add("commits with metadata; async; refused for who is no member", OldSuite::commits);
        checks.add("auto commit; the next consumer goes on there", OldSuite::automatic);
        checks.add("offsets by time, seek, beginning and end", OldSuite::seek);
        checks.add("admin: topics, partitions, records, offsets", OldSuite::topics);
        checks.add("admin: configurations described and altered", OldSuite::configurations);
        checks.add("admin: groups listed, described, altered, deleted", OldSuite::groups);
        for (String how : List.of("stop", "kill")) {
            checks.addAlone("restart of the broker (" + how + "): producer and group go on, commits are kept", () -> restart(how));
        }
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        Runtime.getRuntime().halt(code);
    }

    private static String name(String hint) {
        return "old-" + hint + "-" + RUN + "-" + COUNT.incrementAndGet();
    }

    private static Properties properties(String... pairs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        return properties;
    }

    private static <T> T wait(Future<T> future) throws Exception {
        return future.get(Checks.LIMIT_MS, TimeUnit.MILLISECONDS);
    }

    private static Throwable error(Future<?> future) throws Exception {
        try {
            wait(future);
            return null;
        } catch (ExecutionException error) {
            return cause(error);
        }
    }

    private static TopicPartition partition(String topic) {
        return new TopicPartition(topic, 0);
    }

    private static String topic(String hint, int partitions) throws Exception {
        String name = name(hint);
        wait(ADMIN.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all());
        Map<TopicPartition, OffsetSpec> all = new HashMap<>();
        Checks.range(0, partitions).forEach(number -> all.put(new TopicPartition(name, number), OffsetSpec.latest()));
        until("the partitions of " + name, () -> error(ADMIN.listOffsets(all).all()) == null);
        return name;
    }

    private static KafkaProducer<String, String> producer(String... pairs) {
        return new KafkaProducer<>(properties(pairs), new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(String... pairs) {
        Properties properties = properties(pairs);
        properties.putIfAbsent("auto.offset.reset", "earliest");
        properties.putIfAbsent("enable.auto.commit", "false");
        properties.putIfAbsent("heartbeat.interval.ms", "200");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private static void fill(String topic, int count, long firstTimestamp, String... pairs) throws Exception {
        try (KafkaProducer<String, String> producer = producer(pairs)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, firstTimestamp + i, "k", "" + i)));
            }
            for (Future<RecordMetadata> each : sent) {
                wait(each);
            }
        }
    }

    private static List<String> poll(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<String> values = new ArrayList<>();
        until(count + " records", () -> {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                values.add(record.value());
            }
            return values.size() >= count;
        });
        same(count, values.size(), "records");
        return values;
    }

    private static List<String> numbers(int from, int to) {
        return Checks.range(from, to).stream().map(String::valueOf).collect(Collectors.toList());
    }

    /** A member that polls in a thread of its own and commits what it read. */
    private static final class Member implements AutoCloseable, ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        private final Thread thread;
        private volatile boolean ended;
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final List<String> values = java.util.Collections.synchronizedList(new ArrayList<>());
        volatile int assignments;
        volatile Throwable error;

        Member(String group, String topic, String... config) {
            List<String> pairs = new ArrayList<>(List.of(config));
            pairs.addAll(List.of("group.id", group));
            consumer = consumer(pairs.toArray(new String[0]));
            consumer.subscribe(List.of(topic), this);
            thread = new Thread(this::live);
            thread.setDaemon(true);
            thread.start();
        }

        private void live() {
            try {
                while (!ended) {
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(50));
                    records.forEach(record -> values.add(record.value()));
                    if (!records.isEmpty()) {
                        try {
                            consumer.commitSync();
                        } catch (CommitFailedException | RebalanceInProgressException lost) {
                            // Somebody else will read these again.
                        }
                    }
                }
            } catch (Throwable thrown) {
                error = thrown;
            } finally {
                consumer.close(Duration.ofSeconds(5));
            }
        }

        @Override
        public void close() throws InterruptedException {
            ended = true;
            thread.join();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            owned.addAll(partitions);
            assignments++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            owned.removeAll(partitions);
        }

        /** Waits until these members share so many partitions, evenly. */
        static void share(int partitions, Member... members) throws Exception {
            until(members.length + " members share " + partitions + " partitions", () -> {
                Set<TopicPartition> all = new HashSet<>();
                int sum = 0;
                boolean even = true;
                for (Member member : members) {
                    Set<TopicPartition> owned = new HashSet<>(member.owned);
                    all.addAll(owned);
                    sum += owned.size();
                    even &= owned.size() >= partitions / members.length;
                }
                return even && sum == partitions && all.size() == partitions;
            });
        }
    }

    private static Source source(String topic, int partitions) {
        return new Source(topic, partitions, 200, () -> producer("enable.idempotence", "true", "acks", "all"), value -> value);
    }

    private static void haveRead(int count, Member... members) throws Exception {
        until("all " + count + " are read", () -> {
            Set<String> all = new HashSet<>();
            for (Member member : members) {
                all.addAll(List.copyOf(member.values));
            }
            return all.size() == count;
        });
    }

    private static void compression(String compression) throws Exception {
        String topic = topic(compression, 1);
        fill(topic, 1000, System.currentTimeMillis(), "compression.type", compression, "linger.ms", "5");
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(partition(topic)));
            same(numbers(0, 1000), poll(consumer, 1000), "values");
        }
    }

    private static void idempotent() throws Exception {
        String topic = topic("producer", 1);
        fill(topic, 100, System.currentTimeMillis(), "enable.idempotence", "true", "acks", "all");
        fill(topic, 100, System.currentTimeMillis(), "acks", "1");
        fill(topic, 100, System.currentTimeMillis(), "acks", "0");
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(partition(topic)));
            List<String> wanted = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                wanted.addAll(numbers(0, 100));
            }
            same(wanted, poll(consumer, 300), "values");
        }
    }

    private static void created() throws Exception {
        String topic = name("created");
        try (KafkaProducer<String, String> producer = producer()) {
            same(0L, wait(producer.send(new ProducerRecord<>(topic, "v"))).offset(), "offset");
        }
    }

    private static void rebalance(String assignor) throws Exception {
        String topic = topic(assignor, 6);
        String group = name(assignor);
        String[] config = {"partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor, "session.timeout.ms", "2500"};
        String[] remain = {config[0], config[1], config[2], config[3], "internal.leave.group.on.close", "false"};
        try (Source source = source(topic, 6); Member one = new Member(group, topic, config)) {
            Member.share(6, one);
            Member two = new Member(group, topic, config);
            Member.share(6, one, two);
            Member three = new Member(group, topic, remain);
            Member.share(6, one, two, three);
            two.close();
            two.owned.clear();
            Member.share(6, one, three);
            three.close();
            Member.share(6, one);
            haveRead(source.end(), one, two, three);
            same(null, one.error, "error of a member");
        }
    }

    private static void staticMembers() throws Exception {
        String topic = topic("static", 4);
        String group = name("static");
        try (Member stays = new Member(group, topic, "group.instance.id", "stays")) {
            Member leaves = new Member(group, topic, "group.instance.id", "leaves");
            Member.share(4, stays, leaves);
            int before = stays.assignments;
            leaves.close();
            Member back = new Member(group, topic, "group.instance.id", "leaves");
            Member.share(4, stays, back);
            same(before, stays.assignments, "assignments of the other");
            try (Member twin = new Member(group, topic, "group.instance.id", "leaves")) {
                until("the first is fenced", () -> back.error != null);
                same(FencedInstanceIdException.class, back.error.getClass(), "error of the first");
                Member.share(4, stays, twin);
            }
            wait(ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("leaves")))).all());
            Member.share(4, stays);
        }
    }

    private static void commits() throws Exception {
        String topic = topic("commits", 1);
        String group = name("commits");
        try (KafkaConsumer<String, String> alone = consumer("group.id", group)) {
            alone.assign(List.of(partition(topic)));
            alone.commitSync(Map.of(partition(topic), new OffsetAndMetadata(4, "metadata")));
            same(new OffsetAndMetadata(4, "metadata"), alone.committed(Set.of(partition(topic))).get(partition(topic)), "committed");
            List<Long> done = new ArrayList<>();
            for (long offset = 5; offset < 55; offset++) {
                alone.commitAsync(Map.of(partition(topic), new OffsetAndMetadata(offset)), (offsets, error) -> done.add(error == null ? offsets.get(partition(topic)).offset() : -1));
            }
            until("all callbacks", () -> {
                alone.poll(Duration.ofMillis(10));
                return done.size() == 50;
            });
            same(Checks.range(5, 55).stream().map(Long::valueOf).collect(Collectors.toList()), done, "callbacks");
            try (Member member = new Member(group, topic)) {
                Member.share(1, member);
                fails(CommitFailedException.class, () -> {
                    alone.commitSync(Map.of(partition(topic), new OffsetAndMetadata(9)));
                    return null;
                });
            }
        }
    }

    private static void automatic() throws Exception {
        String topic = topic("automatic", 1);
        String group = name("automatic");
        fill(topic, 20, System.currentTimeMillis());
        String[] config = {"group.id", group, "enable.auto.commit", "true", "max.poll.records", "10"};
        try (KafkaConsumer<String, String> consumer = consumer(config)) {
            consumer.subscribe(List.of(topic));
            same(numbers(0, 10), poll(consumer, 10), "values");
        }
        try (KafkaConsumer<String, String> consumer = consumer(config)) {
            consumer.subscribe(List.of(topic));
            same(numbers(10, 20), poll(consumer, 10), "values after the close's commit");
        }
    }

    private static void seek() throws Exception {
        String topic = topic("seek", 1);
        long start = System.currentTimeMillis() - 1_000_000;
        fill(topic, 100, start);
        try (KafkaConsumer<String, String> consumer = consumer("group.id", name("seek"))) {
            consumer.subscribe(List.of(topic));
            same(numbers(0, 100), poll(consumer, 100), "values");
            long offset = consumer.offsetsForTimes(Map.of(partition(topic), start + 60)).get(partition(topic)).offset();
            same(60L, offset, "offset of the time");
            consumer.seek(partition(topic), offset);
            same(numbers(60, 100), poll(consumer, 40), "values from there");
            same(Map.of(partition(topic), 0L), consumer.beginningOffsets(List.of(partition(topic))), "beginning");
            same(Map.of(partition(topic), 100L), consumer.endOffsets(List.of(partition(topic))), "end");
        }
    }

    private static void topics() throws Exception {
        String topic = topic("topics", 2);
        fill(topic, 10, System.currentTimeMillis());
        that(wait(ADMIN.listTopics().names()).contains(topic), "not listed");
        same(TopicExistsException.class, error(ADMIN.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all()).getClass(), "created again");
        wait(ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
        until("four partitions", () -> {
            TopicDescription description = wait(ADMIN.describeTopics(List.of(topic)).all()).get(topic);
            return description.partitions().size() == 4;
        });
        same(7L, wait(ADMIN.deleteRecords(Map.of(partition(topic), RecordsToDelete.beforeOffset(7))).lowWatermarks().get(partition(topic))).lowWatermark(), "low watermark");
        same(7L, wait(ADMIN.listOffsets(Map.of(partition(topic), OffsetSpec.earliest())).all()).get(partition(topic)).offset(), "earliest");
        same(10L, wait(ADMIN.listOffsets(Map.of(partition(topic), OffsetSpec.latest())).all()).get(partition(topic)).offset(), "latest");
        wait(ADMIN.deleteTopics(List.of(topic)).all());
        until("it is gone", () -> error(ADMIN.describeTopics(List.of(topic)).all()) instanceof UnknownTopicOrPartitionException);
        same(1, wait(ADMIN.describeCluster().nodes()).size(), "nodes");
    }

    private static void configurations() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic("configurations", 1));
        wait(ADMIN.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "12345"), AlterConfigOp.OpType.SET)))).all());
        until("the change", () -> {
            Config config = wait(ADMIN.describeConfigs(List.of(resource)).all()).get(resource);
            return config.get("retention.ms").value().equals("12345") && config.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG;
        });
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        same("1", wait(ADMIN.describeConfigs(List.of(broker)).all()).get(broker).get("node.id").value(), "node.id");
    }

    private static void groups() throws Exception {
        String topic = topic("groups", 1);
        String other = topic("other", 1);
        String group = name("groups");
        wait(ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(0), partition(other), new OffsetAndMetadata(3, "m"))).all());
        try (Member member = new Member(group, topic, "client.id", "the-client")) {
            Member.share(1, member);
            ConsumerGroupDescription description = wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group);
            same(List.of(ConsumerGroupState.STABLE, "range", 1, false), List.of(description.state(), description.partitionAssignor(), description.members().size(), description.isSimpleConsumerGroup()), "group");
            same(Set.of(partition(topic)), description.members().iterator().next().assignment().topicPartitions(), "assignment");
            same("the-client", description.members().iterator().next().clientId(), "client id");
            Set<String> stable = wait(ADMIN.listConsumerGroups(new ListConsumerGroupsOptions().inStates(Set.of(ConsumerGroupState.STABLE))).all()).stream().map(ConsumerGroupListing::groupId).collect(Collectors.toSet());
            that(stable.contains(group), "stable groups: " + stable);
            same(GroupNotEmptyException.class, error(ADMIN.deleteConsumerGroups(List.of(group)).all()).getClass(), "deleted with members");
            same(UnknownMemberIdException.class, error(ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(1))).all()).getClass(), "altered with members");
            same(GroupSubscribedToTopicException.class, error(ADMIN.deleteConsumerGroupOffsets(group, Set.of(partition(topic))).partitionResult(partition(topic))).getClass(), "offsets deleted with members");
            wait(ADMIN.deleteConsumerGroupOffsets(group, Set.of(partition(other))).all());
            wait(ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
        }
        same(Set.of(partition(topic)), wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), "offsets");
        wait(ADMIN.deleteConsumerGroups(List.of(group)).all());
        same(GroupIdNotFoundException.class, error(ADMIN.deleteConsumerGroups(List.of(group)).all()).getClass(), "deleted again");
        same(ConsumerGroupState.DEAD, wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).state(), "state of a group that is not there");
    }

    private static void restart(String how) throws Exception {
        String url = System.getenv("BROKER_CONTROL");
        that(url != null, "BROKER_CONTROL is not set: nobody can restart this broker");
        String topic = topic("restart", 3);
        String group = name("restart");
        try (Source source = source(topic, 3); Member one = new Member(group, topic, "session.timeout.ms", "45000"); Member two = new Member(group, topic, "session.timeout.ms", "45000")) {
            Member.share(3, one, two);
            until("some are read", () -> one.values.size() + two.values.size() > 30);
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/restart?how=" + how)).POST(HttpRequest.BodyPublishers.noBody()).build();
            HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            same(200, answer.statusCode(), answer.body());
            int before = one.values.size() + two.values.size();
            until("more are read", () -> one.values.size() + two.values.size() > before + 10);
            int count = source.end();
            haveRead(count, one, two);
            until("all is committed", () -> wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).values().stream().mapToLong(OffsetAndMetadata::offset).sum() == count);
            same(null, one.error, "error of a member");
        }
        try (Member next = new Member(group, topic)) {
            Member.share(3, next);
            fill(topic, 5, System.currentTimeMillis());
            until("the new records", () -> next.values.size() >= 5);
            same(numbers(0, 5), List.copyOf(next.values), "values");
        }
    }
}
