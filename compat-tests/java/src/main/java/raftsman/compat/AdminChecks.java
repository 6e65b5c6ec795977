package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.bytes;
import static raftsman.compat.Broker.fill;
import static raftsman.compat.Broker.partition;
import static raftsman.compat.Broker.producer;
import static raftsman.compat.Broker.record;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ReplicaInfo;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What else the admin client asks a broker: cluster, quorum, folders, producers, offsets, configurations. */
final class AdminChecks {
    private AdminChecks() {}

    static void addTo(Checks checks) {
        checks.add("describeCluster", AdminChecks::cluster);
        checks.add("describeMetadataQuorum", AdminChecks::quorum);
        checks.add("describeLogDirs and describeReplicaLogDirs", AdminChecks::logDirs);
        checks.add("describeProducers", AdminChecks::producers);
        checks.add("deleteRecords: to an offset, to the high watermark, beyond, unknown partition", AdminChecks::deleteRecords);
        checks.add("listOffsets with every spec", AdminChecks::listOffsets);
        checks.add("describeConfigs of a topic: values, sources, synonyms, documentation", AdminChecks::describeConfigs);
        checks.add("describeConfigs of the broker", AdminChecks::describeBrokerConfigs);
        checks.add("incrementalAlterConfigs of a topic: set, delete, append, subtract, validateOnly, bad ones", AdminChecks::alterConfigs);
        checks.add("deleteRecords and retention.bytes remove old segments", AdminChecks::retention);
    }

    private static void cluster() throws Exception {
        DescribeClusterResult result = ADMIN.describeCluster();
        that(!Broker.wait(result.clusterId()).isEmpty(), "no cluster id");
        that(Broker.wait(result.nodes()).contains(Broker.wait(result.controller())), "the controller is none of the nodes");
        same(Set.of(Broker.BOOTSTRAP.split(",")), Broker.wait(result.nodes()).stream().map(node -> node.host() + ":" + node.port()).collect(Collectors.toSet()), "addresses");
    }

    private static void quorum() throws Exception {
        QuorumInfo info = Broker.wait(ADMIN.describeMetadataQuorum().quorumInfo());
        same(1, info.voters().size(), "voters");
        same(info.leaderId(), info.voters().get(0).replicaId(), "leader");
        that(info.leaderEpoch() > 0, "leader epoch " + info.leaderEpoch());
        that(info.highWatermark() > 0, "high watermark " + info.highWatermark());
        that(info.voters().get(0).logEndOffset() >= info.highWatermark(), "log end below the high watermark");
    }

    private static void logDirs() throws Exception {
        String topic = topic("dirs", 2);
        fill(topic, 100);
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        Map<String, LogDirDescription> dirs = Broker.wait(ADMIN.describeLogDirs(List.of(node)).allDescriptions()).get(node);
        same(1, dirs.size(), "folders");
        LogDirDescription dir = dirs.values().iterator().next();
        that(dir.error() == null, "error: " + dir.error());
        that(dir.totalBytes().orElse(-1) > 0 && dir.usableBytes().orElse(-1) > 0, "sizes of the volume: " + dir);
        Map<TopicPartition, ReplicaInfo> replicas = dir.replicaInfos();
        that(replicas.get(partition(topic)).size() > 100, "size of partition 0: " + replicas.get(partition(topic)));
        same(0L, replicas.get(new TopicPartition(topic, 1)).size(), "size of partition 1");
        same(0L, replicas.get(partition(topic)).offsetLag(), "lag");
        that(!replicas.get(partition(topic)).isFuture(), "future");
        var replica = new org.apache.kafka.common.TopicPartitionReplica(topic, 0, node);
        same(dirs.keySet().iterator().next(), Broker.wait(ADMIN.describeReplicaLogDirs(List.of(replica)).all()).get(replica).getCurrentReplicaLogDir(), "folder of a replica");
    }

    private static void producers() throws Exception {
        String topic = topic("producers", 1);
        long before = System.currentTimeMillis();
        try (KafkaProducer<byte[], byte[]> one = producer(); KafkaProducer<byte[], byte[]> other = producer()) {
            for (int i = 0; i < 7; i++) {
                Broker.wait(one.send(record(topic, 0, "one")));
            }
            Broker.wait(other.send(record(topic, 0, "other")));
        }
        Collection<ProducerState> states = Broker.wait(ADMIN.describeProducers(List.of(partition(topic))).partitionResult(partition(topic))).activeProducers();
        same(List.of(0, 6), states.stream().map(ProducerState::lastSequence).sorted().toList(), "last sequences");
        same(2L, states.stream().map(ProducerState::producerId).distinct().count(), "producer ids");
        for (ProducerState state : states) {
            same(0, state.producerEpoch(), "epoch");
            that(state.lastTimestamp() >= before - 1000, "last timestamp " + state.lastTimestamp());
            that(state.currentTransactionStartOffset().isEmpty(), "a transaction");
        }
    }

    private static void deleteRecords() throws Exception {
        String topic = topic("delete-records", 2);
        TopicPartition partition = partition(topic);
        fill(topic, 100);
        var low = ADMIN.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(30))).lowWatermarks();
        same(30L, Broker.wait(low.get(partition)).lowWatermark(), "low watermark");
        same(Broker.numbers(30, 100), Broker.values(Broker.read(topic, 70)), "values");
        same(30L, Broker.wait(ADMIN.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(10))).lowWatermarks().get(partition)).lowWatermark(), "backwards");
        same(100L, Broker.wait(ADMIN.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(partition)).lowWatermark(), "to the high watermark");
        fails(OffsetOutOfRangeException.class, () -> Broker.wait(ADMIN.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(101))).all()));
        fill(topic, 3);
        same(100L, Broker.read(topic, 3).get(0).offset(), "first offset of what came later");
    }

    private static long[] list(TopicPartition partition, OffsetSpec spec) throws Exception {
        var info = Broker.wait(ADMIN.listOffsets(Map.of(partition, spec)).partitionResult(partition));
        return new long[] {info.offset(), info.timestamp()};
    }

    private static void listOffsets() throws Exception {
        String topic = topic("list-offsets", 2);
        TopicPartition partition = partition(topic);
        TopicPartition empty = new TopicPartition(topic, 1);
        long base = System.currentTimeMillis() - 50_000;
        fill(topic, 10, base);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            Broker.wait(producer.send(new ProducerRecord<>(topic, 0, base + 1000, null, bytes("latest in time"))));
            Broker.wait(producer.send(new ProducerRecord<>(topic, 0, base + 500, null, bytes("out of order"))));
        }
        same(0L, list(partition, OffsetSpec.earliest())[0], "earliest");
        same(12L, list(partition, OffsetSpec.latest())[0], "latest");
        same(10L, list(partition, OffsetSpec.maxTimestamp())[0], "max timestamp");
        same(base + 1000, list(partition, OffsetSpec.maxTimestamp())[1], "max timestamp's timestamp");
        same(0L, list(partition, OffsetSpec.earliestLocal())[0], "earliest local");
        same(-1L, list(partition, OffsetSpec.latestTiered())[0], "latest tiered");
        same(5L, list(partition, OffsetSpec.forTimestamp(base + 5))[0], "timestamp");
        same(base + 5, list(partition, OffsetSpec.forTimestamp(base + 5))[1], "timestamp's timestamp");
        same(10L, list(partition, OffsetSpec.forTimestamp(base + 10))[0], "timestamp before a jump");
        same(-1L, list(partition, OffsetSpec.forTimestamp(base + 1001))[0], "timestamp after the last");
        same(-1L, list(empty, OffsetSpec.maxTimestamp())[0], "max timestamp of an empty partition");
        same(-1L, list(empty, OffsetSpec.forTimestamp(base))[0], "timestamp in an empty partition");
        same(0L, list(empty, OffsetSpec.latest())[0], "latest of an empty partition");
        Broker.deleteRecords(topic, 4);
        same(4L, list(partition, OffsetSpec.earliest())[0], "earliest after a deletion");
        same(4L, list(partition, OffsetSpec.earliestLocal())[0], "earliest local after a deletion");
        same(4L, list(partition, OffsetSpec.forTimestamp(base))[0], "timestamp of a deleted record");
        var options = new org.apache.kafka.clients.admin.ListOffsetsOptions(org.apache.kafka.common.IsolationLevel.READ_COMMITTED);
        same(12L, Broker.wait(ADMIN.listOffsets(Map.of(partition, OffsetSpec.latest()), options).partitionResult(partition)).offset(), "latest, read_committed");
    }

    private static ConfigResource resource(String topic) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private static Config configs(String topic) throws Exception {
        return Broker.wait(ADMIN.describeConfigs(List.of(resource(topic))).all()).get(resource(topic));
    }

    private static void describeConfigs() throws Exception {
        String topic = topic("configs", 1, "retention.ms", "5000", "max.message.bytes", "2000000");
        Config config = configs(topic);
        same("5000", config.get("retention.ms").value(), "retention.ms");
        same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.ms").source(), "its source");
        Map<String, String> defaults = Map.ofEntries(
                Map.entry("segment.bytes", "1073741824"), Map.entry("segment.ms", "604800000"), Map.entry("cleanup.policy", "delete"),
                Map.entry("retention.bytes", "-1"), Map.entry("compression.type", "producer"), Map.entry("min.insync.replicas", "1"),
                Map.entry("message.timestamp.type", "CreateTime"), Map.entry("flush.messages", "9223372036854775807"),
                Map.entry("flush.ms", "9223372036854775807"), Map.entry("index.interval.bytes", "4096"),
                Map.entry("segment.index.bytes", "10485760"), Map.entry("delete.retention.ms", "86400000"),
                Map.entry("min.cleanable.dirty.ratio", "0.5"), Map.entry("unclean.leader.election.enable", "false"),
                Map.entry("preallocate", "false"), Map.entry("segment.jitter.ms", "0"));
        defaults.forEach((key, value) -> {
            that(config.get(key) != null, "no " + key);
            same(value, config.get(key).value(), key);
            // Kafka sets min.insync.replicas for the whole cluster (eligible leader replicas, KIP-966)
            that(config.get(key).isDefault() || key.equals("min.insync.replicas"), key + " is no default");
            that(!config.get(key).isReadOnly() && !config.get(key).isSensitive(), key + " is read-only or sensitive");
        });
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        Config full = Broker.wait(ADMIN.describeConfigs(List.of(resource(topic)), options).all()).get(resource(topic));
        ConfigEntry retention = full.get("retention.ms");
        same(ConfigEntry.ConfigType.LONG, retention.type(), "type");
        that(retention.documentation() != null && retention.documentation().length() > 10, "documentation: " + retention.documentation());
        same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, retention.synonyms().get(0).source(), "first synonym");
        same("5000", retention.synonyms().get(0).value(), "its value");
        same(ConfigEntry.ConfigType.LIST, full.get("cleanup.policy").type(), "type of cleanup.policy");
        fails(UnknownTopicOrPartitionException.class, () -> configs(Broker.name("unknown")));
    }

    private static void describeBrokerConfigs() throws Exception {
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, "" + node);
        Config config = Broker.wait(ADMIN.describeConfigs(List.of(resource)).all()).get(resource);
        same("" + node, config.get("node.id").value(), "node.id");
        that(config.get("node.id").isReadOnly(), "node.id can be changed");
        same("1", config.get("num.partitions").value(), "num.partitions");
        that(config.get("listeners").value().contains(Broker.BOOTSTRAP), "listeners: " + config.get("listeners").value());
        same(ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG, config.get("listeners").source(), "source of listeners");
    }

    private static void alter(String topic, boolean validateOnly, AlterConfigOp... operations) throws Exception {
        Broker.wait(ADMIN.incrementalAlterConfigs(Map.of(resource(topic), List.of(operations)), new AlterConfigsOptions().validateOnly(validateOnly)).all());
    }

    private static AlterConfigOp operation(String key, String value, AlterConfigOp.OpType type) {
        return new AlterConfigOp(new ConfigEntry(key, value), type);
    }

    private static void alterConfigs() throws Exception {
        String topic = topic("alter", 1, "retention.bytes", "1000000");
        alter(topic, false, operation("retention.ms", "60000", AlterConfigOp.OpType.SET), operation("max.message.bytes", "2000", AlterConfigOp.OpType.SET));
        until("the new values are seen", () -> {
            try {
                return configs(topic).get("retention.ms").value().equals("60000") && configs(topic).get("max.message.bytes").value().equals("2000");
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        same("1000000", configs(topic).get("retention.bytes").value(), "a value that was not touched");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            fails(org.apache.kafka.common.errors.RecordTooLargeException.class, () -> Broker.wait(producer.send(new ProducerRecord<>(topic, 0, null, new byte[3000]))));
        }
        alter(topic, true, operation("retention.ms", "70000", AlterConfigOp.OpType.SET));
        same("60000", configs(topic).get("retention.ms").value(), "after validateOnly");
        alter(topic, false, operation("retention.ms", null, AlterConfigOp.OpType.DELETE));
        until("the default is back", () -> {
            try {
                return configs(topic).get("retention.ms").value().equals("604800000") && configs(topic).get("retention.ms").isDefault();
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        alter(topic, false, operation("cleanup.policy", "compact", AlterConfigOp.OpType.APPEND));
        until("appended", () -> policy(topic).equals(Set.of("compact", "delete")));
        alter(topic, false, operation("cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT));
        until("subtracted", () -> policy(topic).equals(Set.of("compact")));
        fails(InvalidConfigurationException.class, () -> {
            alter(topic, false, operation("retention.ms", "never", AlterConfigOp.OpType.SET));
            return null;
        });
        fails(InvalidConfigurationException.class, () -> {
            alter(topic, false, operation("no.such.key", "1", AlterConfigOp.OpType.SET));
            return null;
        });
        fails(UnknownTopicOrPartitionException.class, () -> {
            alter(Broker.name("unknown"), false, operation("retention.ms", "1", AlterConfigOp.OpType.SET));
            return null;
        });
    }

    private static Set<String> policy(String topic) {
        try {
            return Set.of(configs(topic).get("cleanup.policy").value().split(","));
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }

    private static void retention() throws Exception {
        // needs a broker that looks at retention every second (log.retention.check.interval.ms)
        String topic = topic("retention", 1, "segment.bytes", "1048576");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (int i = 0; i < 400; i++) {
                producer.send(new ProducerRecord<>(topic, 0, null, Broker.noise(10_000, i)));
            }
            producer.flush();
        }
        int node = Broker.wait(ADMIN.describeCluster().nodes()).iterator().next().id();
        long before = size(topic, node);
        that(before > 4_000_000, "size " + before);
        Broker.deleteRecords(topic, 200);
        until("the segments before the low watermark are gone", () -> size(topic, node) < 3_200_000);
        alter(topic, false, operation("retention.bytes", "1000000", AlterConfigOp.OpType.SET));
        until("the segments above retention.bytes are gone", () -> size(topic, node) < 2_200_000);
        var start = Broker.wait(ADMIN.listOffsets(Map.of(partition(topic), OffsetSpec.earliest())).partitionResult(partition(topic))).offset();
        that(start > 200 && start < 390, "log start offset " + start);
        Broker.deleteRecords(topic, 390);
        same(390L, Broker.read(topic, 10).get(0).offset(), "first offset");
    }

    private static long size(String topic, int node) {
        try {
            return Broker.wait(ADMIN.describeLogDirs(List.of(node)).allDescriptions()).get(node).values().iterator().next()
                    .replicaInfos().get(partition(topic)).size();
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }
}
