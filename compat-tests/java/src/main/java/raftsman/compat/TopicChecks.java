package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.fill;
import static raftsman.compat.Broker.producer;
import static raftsman.compat.Broker.record;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.TopicListing;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Creating, describing, growing and deleting topics. */
final class TopicChecks {
    private TopicChecks() {}

    static void addTo(Checks checks) {
        checks.add("createTopics answers id, configurations, counts", TopicChecks::create);
        checks.add("createTopics with the broker's defaults for partitions and replicas", TopicChecks::createWithDefaults);
        checks.add("createTopics validateOnly creates nothing", TopicChecks::validateOnly);
        checks.add("createTopics with a manual assignment, good and bad", TopicChecks::assignment);
        checks.add("createTopics refuses bad names", TopicChecks::badNames);
        checks.add("createTopics refuses bad counts and replication factors", TopicChecks::badCounts);
        checks.add("createTopics refuses bad configurations", TopicChecks::badConfigs);
        checks.add("createTopics refuses an existing topic, also one that collides", TopicChecks::existing);
        checks.add("createTopics: good and bad ones in one request", TopicChecks::mixed);
        checks.add("describeTopics by name and by id, unknown ones", TopicChecks::describe);
        checks.add("describeTopics pages through many topics and partitions (DescribeTopicPartitions)", TopicChecks::paging);
        checks.add("listTopics", TopicChecks::list);
        checks.add("createPartitions grows a topic; fewer, same and bad assignments are refused", TopicChecks::grow);
        checks.add("deleteTopics by name and by id; unknown ones", TopicChecks::delete);
        checks.add("a topic created again is empty and has another id", TopicChecks::again);
        checks.add("deletion and creation again under a running producer", TopicChecks::underProducer);
    }

    private static void create() throws Exception {
        String name = Broker.name("create");
        CreateTopicsResult result = ADMIN.createTopics(List.of(
                new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "123456", "cleanup.policy", "delete"))));
        Broker.wait(result.all());
        same(3, Broker.wait(result.numPartitions(name)), "partitions");
        same(1, Broker.wait(result.replicationFactor(name)), "replication factor");
        that(!Broker.wait(result.topicId(name)).equals(Uuid.ZERO_UUID), "zero id");
        Config config = Broker.wait(result.config(name));
        same("123456", config.get("retention.ms").value(), "retention.ms");
        same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.ms").source(), "its source");
        that(config.get("segment.bytes").isDefault(), "segment.bytes is no default");
        TopicDescription description = Broker.describe(name);
        same(Broker.wait(result.topicId(name)), description.topicId(), "id");
        same(Checks.range(0, 3), description.partitions().stream().map(p -> p.partition()).toList(), "partitions");
        that(!description.isInternal(), "internal");
        description.partitions().forEach(p -> {
            same(1, p.replicas().size(), "replicas");
            same(p.replicas(), p.isr(), "isr");
            same(p.replicas().get(0), p.leader(), "leader");
        });
    }

    private static void createWithDefaults() throws Exception {
        String name = Broker.name("defaults");
        CreateTopicsResult result = ADMIN.createTopics(List.of(new NewTopic(name, Optional.empty(), Optional.empty())));
        same(1, Broker.wait(result.numPartitions(name)), "partitions");
        same(1, Broker.wait(result.replicationFactor(name)), "replication factor");
    }

    private static void validateOnly() throws Exception {
        String name = Broker.name("validate");
        CreateTopicsOptions options = new CreateTopicsOptions().validateOnly(true);
        CreateTopicsResult result = ADMIN.createTopics(List.of(new NewTopic(name, 5, (short) 1)), options);
        Broker.wait(result.all());
        same(5, Broker.wait(result.numPartitions(name)), "partitions");
        fails(InvalidReplicationFactorException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(name, 5, (short) 3)), options).all()));
        fails(UnknownTopicOrPartitionException.class, () -> Broker.wait(ADMIN.describeTopics(List.of(name)).allTopicNames()));
        String there = topic("validate", 1);
        fails(TopicExistsException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(there, 1, (short) 1)), options).all()));
    }

    private static void assign(String hint, Map<Integer, List<Integer>> assignment) throws Exception {
        Broker.wait(ADMIN.createTopics(List.of(new NewTopic(Broker.name(hint), assignment))).all());
    }

    private static void assignment() throws Exception {
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        String name = Broker.name("manual");
        Broker.wait(ADMIN.createTopics(List.of(new NewTopic(name, Map.of(0, List.of(node), 1, List.of(node))))).all());
        same(2, Broker.describe(name).partitions().size(), "partitions");
        fails(InvalidReplicaAssignmentException.class, () -> {
            assign("unknown-broker", Map.of(0, List.of(node + 77)));
            return null;
        });
        fails(InvalidReplicaAssignmentException.class, () -> {
            assign("twice", Map.of(0, List.of(node, node)));
            return null;
        });
        fails(InvalidReplicaAssignmentException.class, () -> {
            assign("gap", Map.of(0, List.of(node), 2, List.of(node)));
            return null;
        });
        fails(InvalidReplicaAssignmentException.class, () -> {
            assign("none", Map.of(0, List.of()));
            return null;
        });
    }

    private static void badNames() throws Exception {
        for (String name : List.of("", ".", "..", "with space", "with/slash", "ünicode", "x".repeat(250), "new\nline", "nul\0")) {
            InvalidTopicException error = fails(InvalidTopicException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all()));
            that(error.getMessage() != null && !error.getMessage().isEmpty(), "no message");
        }
        String longest = (Broker.name("long") + "_.-").concat("y".repeat(249)).substring(0, 249);
        Broker.wait(ADMIN.createTopics(List.of(new NewTopic(longest, 1, (short) 1))).all());
        fill(longest, 3);
        same(Broker.numbers(0, 3), Broker.values(Broker.read(longest, 3)), "values of the topic with the longest name");
        Broker.wait(ADMIN.deleteTopics(List.of(longest)).all());
    }

    private static void badCounts() throws Exception {
        for (int count : new int[] {0, -2}) {
            fails(InvalidPartitionsException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(Broker.name("count"), count, (short) 1))).all()));
        }
        for (short factor : new short[] {0, -2, 2, 100}) {
            fails(InvalidReplicationFactorException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(Broker.name("factor"), 1, factor))).all()));
        }
    }

    private static void badConfigs() throws Exception {
        Map<String, String> bad = Map.of(
                "no.such.key", "1", "retention.ms", "soon", "segment.bytes", "-5", "cleanup.policy", "shred",
                "compression.type", "rar", "message.timestamp.type", "Yesterday", "min.insync.replicas", "0", "max.message.bytes", "-1");
        bad.forEach((key, value) -> {
            InvalidConfigurationException error = fails(InvalidConfigurationException.class, () -> Broker.wait(
                    ADMIN.createTopics(List.of(new NewTopic(Broker.name("config"), 1, (short) 1).configs(Map.of(key, value)))).all()));
            that(error.getMessage().contains(key), "the message does not name " + key + ": " + error.getMessage());
        });
    }

    private static void existing() throws Exception {
        String name = topic("there.is_", 1);
        TopicExistsException error = fails(TopicExistsException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all()));
        that(error.getMessage().contains(name), "message: " + error.getMessage());
        // '.' and '_' are the same in the name of a metric
        String collides = name.replace("there.is_", "there_is.");
        fails(InvalidTopicException.class, () -> Broker.wait(ADMIN.createTopics(List.of(new NewTopic(collides, 1, (short) 1))).all()));
    }

    private static void mixed() throws Exception {
        String good = Broker.name("good");
        String bad = Broker.name("bad");
        CreateTopicsResult result = ADMIN.createTopics(List.of(
                new NewTopic(good, 1, (short) 1), new NewTopic(bad, 1, (short) 9), new NewTopic("in valid", 1, (short) 1)));
        Broker.wait(result.values().get(good));
        fails(InvalidReplicationFactorException.class, () -> Broker.wait(result.values().get(bad)));
        fails(InvalidTopicException.class, () -> Broker.wait(result.values().get("in valid")));
    }

    private static void describe() throws Exception {
        String name = topic("described", 2);
        Uuid id = Broker.describe(name).topicId();
        TopicDescription byId = Broker.wait(ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id);
        same(name, byId.name(), "name by id");
        same(2, byId.partitions().size(), "partitions by id");
        Set<AclOperation> operations = Broker.wait(ADMIN.describeTopics(List.of(name), new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames())
                .get(name).authorizedOperations();
        that(operations != null && operations.contains(AclOperation.READ) && operations.contains(AclOperation.DELETE), "operations: " + operations);
        fails(UnknownTopicOrPartitionException.class, () -> Broker.wait(ADMIN.describeTopics(List.of(Broker.name("unknown"))).allTopicNames()));
        fails(UnknownTopicIdException.class, () -> Broker.wait(ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds()));
        fails(InvalidTopicException.class, () -> Broker.wait(ADMIN.describeTopics(List.of("")).allTopicNames()));
    }

    private static void paging() throws Exception {
        String prefix = Broker.name("page");
        List<NewTopic> topics = new ArrayList<>();
        for (int i = 0; i < 60; i++) {
            topics.add(new NewTopic(prefix + "-" + i, i == 30 ? 40 : 1, (short) 1));
        }
        Broker.wait(ADMIN.createTopics(topics).all());
        List<String> names = topics.stream().map(NewTopic::name).toList();
        for (int limit : new int[] {7, 1, 2000}) {
            Map<String, TopicDescription> got = Broker.wait(ADMIN.describeTopics(names, new DescribeTopicsOptions().partitionSizeLimitPerResponse(limit)).allTopicNames());
            same(60, got.size(), "topics with a limit of " + limit);
            got.forEach((name, description) -> {
                int wanted = name.equals(prefix + "-30") ? 40 : 1;
                same(Checks.range(0, wanted), description.partitions().stream().map(p -> p.partition()).toList(), "partitions of " + name);
            });
        }
        Broker.wait(ADMIN.deleteTopics(names).all());
    }

    private static void list() throws Exception {
        String name = topic("listed", 1);
        Broker.describe(name);
        until("the topic is listed", () -> {
            try {
                return Broker.wait(ADMIN.listTopics().names()).contains(name);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        Map<String, TopicListing> listing = Broker.wait(ADMIN.listTopics().namesToListings());
        that(!listing.get(name).isInternal(), "internal");
        that(Broker.wait(ADMIN.listTopics(new ListTopicsOptions().listInternal(true)).names()).contains(name), "not listed with internal ones");
    }

    private static void grow() throws Exception {
        String name = topic("grow", 2);
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        fill(name, 5);
        Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(4)), new CreatePartitionsOptions().validateOnly(true)).all());
        same(2, Broker.describe(name).partitions().size(), "partitions after validateOnly");
        Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all());
        Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(5, List.of(List.of(node))))).all());
        until("five partitions", () -> {
            try {
                return Broker.describe(name).partitions().size() == 5;
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        same(Broker.numbers(0, 5), Broker.values(Broker.read(name, 5)), "values of partition 0");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            same(0L, Broker.wait(producer.send(record(name, 4, "new"))).offset(), "offset in the new partition");
        }
        for (int count : new int[] {5, 3, 0, -1}) {
            fails(InvalidPartitionsException.class, () -> Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(count))).all()));
        }
        fails(InvalidReplicaAssignmentException.class, () -> Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(7, List.of(List.of(node))))).all()));
        fails(InvalidReplicaAssignmentException.class, () -> Broker.wait(ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(6, List.of(List.of(node + 5))))).all()));
        fails(UnknownTopicOrPartitionException.class, () -> Broker.wait(ADMIN.createPartitions(Map.of(Broker.name("unknown"), NewPartitions.increaseTo(4))).all()));
    }

    private static void delete() throws Exception {
        String byName = topic("delete", 2);
        String byId = topic("delete-id", 2);
        fill(byName, 10);
        Uuid id = Broker.describe(byId).topicId();
        Broker.wait(ADMIN.deleteTopics(List.of(byName)).all());
        Broker.wait(ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
        until("both are gone", () -> {
            try {
                Set<String> names = Broker.wait(ADMIN.listTopics().names());
                return !names.contains(byName) && !names.contains(byId);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        fails(UnknownTopicOrPartitionException.class, () -> Broker.wait(ADMIN.deleteTopics(List.of(byName)).all()));
        fails(UnknownTopicIdException.class, () -> Broker.wait(ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
        // one good and one bad in one request
        String good = topic("delete-good", 1);
        var values = ADMIN.deleteTopics(List.of(good, byName)).topicNameValues();
        Broker.wait(values.get(good));
        fails(UnknownTopicOrPartitionException.class, () -> Broker.wait(values.get(byName)));
    }

    private static void again() throws Exception {
        String name = topic("again", 1);
        fill(name, 10);
        Uuid before = Broker.describe(name).topicId();
        for (int round = 0; round < 3; round++) {
            Broker.wait(ADMIN.deleteTopics(List.of(name)).all());
            Broker.wait(ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
            Uuid old = before;
            until("the new topic is known", () -> {
                try {
                    return !Broker.describe(name).topicId().equals(old);
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            Uuid now = Broker.describe(name).topicId();
            before = now;
            fill(name, 2 + round);
            same(Broker.numbers(0, 2 + round), Broker.values(Broker.read(name, 2 + round)), "values of the new one");
        }
    }

    private static void underProducer() throws Exception {
        String name = topic("under", 1);
        Set<String> acknowledged = new HashSet<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("metadata.max.age.ms", "500", "max.block.ms", "5000", "delivery.timeout.ms", "6000", "request.timeout.ms", "3000")) {
            for (int i = 0; i < 100; i++) {
                Broker.wait(producer.send(record(name, 0, "old " + i)));
            }
            Broker.wait(ADMIN.deleteTopics(List.of(name)).all());
            // The producer's own refresh of metadata may create the topic first; either way it must come back.
            Throwable error = Broker.error(ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
            that(error == null || error instanceof TopicExistsException, "creation: " + error);
            int sent = 0;
            long end = System.nanoTime() + Checks.LIMIT_MS * 1_000_000;
            while (acknowledged.size() < 100) {
                that(System.nanoTime() < end, acknowledged.size() + " of " + sent + " sends were acknowledged");
                String value = "new " + sent++;
                Future<RecordMetadata> result = producer.send(record(name, 0, value));
                // An offset of 100 or more is the old topic's, whose deletion is answered before it is carried out.
                if (Broker.error(result) == null && result.get().offset() < 100) {
                    acknowledged.add(value);
                }
            }
        }
        List<String> read = Broker.values(Broker.read(name, acknowledged.size()));
        same(acknowledged, new HashSet<>(read), "values in the new topic");
    }
}
