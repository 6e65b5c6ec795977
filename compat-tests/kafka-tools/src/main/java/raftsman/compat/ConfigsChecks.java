package raftsman.compat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** kafka-configs with everything that can be configured. What is changed for brokers is taken back. */
final class ConfigsChecks {
    private static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);

    private ConfigsChecks() {
    }

    static void addTo(Map<String, ToolsSuite.Body> checks) {
        checks.put("kafka-configs --describe and --alter of a topic", ConfigsChecks::topic);
        checks.put("kafka-configs of all topics, from a file, with lists", ConfigsChecks::topics);
        checks.put("kafka-configs tells values as they are parsed, not as they were written", ConfigsChecks::canonical);
        checks.put("kafka-configs of a broker and of all brokers, which topics follow", ConfigsChecks::brokers);
        checks.put("kafka-configs refuses what cannot change at run time, or does not exist", ConfigsChecks::refusals);
        checks.put("kafka-configs of the loggers of a broker", ConfigsChecks::loggers);
        checks.put("kafka-configs of a group", ConfigsChecks::group);
    }

    private static Tool configs(String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", BOOTSTRAP));
        all.addAll(List.of(arguments));
        return Tool.run(CONFIGS, all.toArray(new String[0]));
    }

    /** Describes until it says that: Kafka answers a change a moment before all of it knows. */
    private static Tool until(String says, String... arguments) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (true) {
            Tool tool = configs(arguments);
            if (tool.out().contains(says) || System.nanoTime() > end) {
                return tool.ended(0).says(says);
            }
        }
    }

    private static String create(String hint) throws Exception {
        String name = "tools-" + hint + "-" + RUN;
        Tool.run(TOPICS, "--bootstrap-server", BOOTSTRAP, "--create", "--topic", name, "--partitions", "1", "--replication-factor", "1").ended(0);
        return name;
    }

    private static void topic() throws Exception {
        String topic = create("configs");
        configs("--describe", "--entity-type", "topics", "--entity-name", topic).ended(0).says("Dynamic configs for topic " + topic + " are:").saysNot("=");
        configs("--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=1234567,segment.bytes=2097152").ended(0)
                .says("Completed updating config for topic " + topic);
        until("  retention.ms=1234567 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1234567", "--describe", "--topic", topic)
                .says("  segment.bytes=2097152 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=2097152, DEFAULT_CONFIG:log.segment.bytes=1073741824}");
        configs("--alter", "--topic", topic, "--delete-config", "retention.ms").ended(0);
        configs("--alter", "--topic", topic, "--delete-config", "flush.ms").ended(0);
        until("segment.bytes=2097152", "--describe", "--topic", topic).saysNot("retention.ms");
        configs("--describe", "--topic", topic, "--all").ended(0).says("All configs for topic " + topic + " are:", "max.message.bytes=1048588", "segment.bytes=2097152");
        configs("--alter", "--topic", topic, "--add-config", "retention.ms=never").ended(1).complains("Not a number of type LONG");
    }

    private static void topics() throws Exception {
        String topic = create("configs-file");
        Path file = Files.createTempFile("configs", ".properties");
        Files.writeString(file, "cleanup.policy=compact,delete\nflush.messages=7\n");
        configs("--alter", "--topic", topic, "--add-config-file", file.toString()).ended(0);
        Files.delete(file);
        until("flush.messages=7", "--describe", "--entity-type", "topics").says("Dynamic configs for topic " + topic + " are:", "cleanup.policy=compact,delete");
        configs("--alter", "--topic", topic, "--add-config", "cleanup.policy=[delete,compact],flush.messages=8").ended(0);
        until("flush.messages=8", "--describe", "--topic", topic).says("cleanup.policy=delete,compact");
    }

    private static void canonical() throws Exception {
        String topic = create("configs-canonical");
        configs("--alter", "--topic", topic, "--add-config", "retention.ms=+5,min.insync.replicas=01,preallocate=FALSE,min.cleanable.dirty.ratio=.5,"
                + "segment.bytes=02000000,cleanup.policy=[compact, delete],retention.bytes=0100").ended(0);
        until("retention.ms=5 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5", "--describe", "--topic", topic)
                .says("min.insync.replicas=1 ", "preallocate=false ", "min.cleanable.dirty.ratio=0.5 ", "segment.bytes=2000000 ", "cleanup.policy=compact,delete ", "retention.bytes=100 ");
    }

    private static void brokers() throws Exception {
        String topic = create("configs-broker");
        try {
            configs("--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=2000000").ended(0)
                    .says("Completed updating default config for brokers in the cluster.");
            until("max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=2000000, DEFAULT_CONFIG:message.max.bytes=1048588}",
                    "--describe", "--topic", topic, "--all");
            configs("--alter", "--broker", "1", "--add-config", "message.max.bytes=3000000,max.connections.per.ip=5000").ended(0).says("Completed updating config for broker 1.");
            until("  message.max.bytes=3000000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:message.max.bytes=3000000, DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=2000000, "
                    + "DEFAULT_CONFIG:message.max.bytes=1048588}", "--describe", "--broker", "1").says("max.connections.per.ip=5000");
            until("max.message.bytes=3000000", "--describe", "--topic", topic, "--all");
            until("message.max.bytes=2000000", "--describe", "--broker-defaults").says("Default configs for brokers in the cluster are:").saysNot("max.connections.per.ip");
            configs("--describe", "--entity-type", "brokers").ended(0).says("Dynamic configs for broker 1 are:", "Default configs for brokers in the cluster are:");
            configs("--describe", "--broker", "1", "--all").ended(0).says("All configs for broker 1 are:", "advertised.listeners=null sensitive=false synonyms={}",
                    "log.retention.hours=168 sensitive=false synonyms={DEFAULT_CONFIG:log.retention.hours=168}", "num.partitions=1", "offsets.retention.minutes=10080");
        } finally {
            configs("--alter", "--broker", "1", "--delete-config", "message.max.bytes,max.connections.per.ip").ended(0);
            configs("--alter", "--broker-defaults", "--delete-config", "message.max.bytes").ended(0);
        }
        until("max.message.bytes=1048588", "--describe", "--topic", topic, "--all");
    }

    private static void refusals() throws Exception {
        configs("--alter", "--broker", "1", "--add-config", "num.partitions=4,node.id=2").ended(1).complains("Cannot update these configs dynamically: [node.id, num.partitions]");
        configs("--alter", "--broker-defaults", "--add-config", "log.retention.hours=4").ended(1).complains("Cannot update these configs dynamically: [log.retention.hours]");
        configs("--alter", "--broker", "1", "--add-config", "log.segment.bytes=1").ended(1)
                .complains("Invalid value 1 for configuration log.segment.bytes: Value must be at least 1048576");
        configs("--alter", "--topic", "tools-none-" + RUN, "--add-config", "retention.ms=1").ended(1).complains("does not exist");
        configs("--describe", "--topic", "tools-none-" + RUN).ended(0).complains("doesn't exist and doesn't have dynamic config");
        configs("--describe", "--broker", "77").ended(0).complains("doesn't exist and doesn't have dynamic config");
    }

    private static void loggers() throws Exception {
        configs("--describe", "--broker-logger", "1").ended(0).says("Dynamic configs for broker-logger 1 are:", "  root=");
        configs("--alter", "--entity-type", "broker-loggers", "--entity-name", "1", "--add-config", "root=ERROR").ended(0);
        until("  root=ERROR sensitive=false synonyms={}", "--describe", "--broker-logger", "1");
        configs("--alter", "--broker-logger", "1", "--add-config", "root=LOUD").ended(1).complains("Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN");
        configs("--alter", "--broker-logger", "1", "--add-config", "no.such=INFO").ended(1).complains("Invalid broker logger(s): no.such");
        configs("--alter", "--broker-logger", "1", "--delete-config", "root").ended(1).complains("Removing the log level of the root logger is not allowed");
        configs("--alter", "--broker-logger", "1", "--add-config", "root=INFO").ended(0);
    }

    private static void group() throws Exception {
        String group = "tools-group-" + RUN;
        configs("--alter", "--group", group, "--add-config", "consumer.session.timeout.ms=50000,streams.num.standby.replicas=1").ended(0)
                .says("Completed updating config for group " + group);
        until("consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, "
                + "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}", "--describe", "--group", group).says("streams.num.standby.replicas=1");
        configs("--alter", "--group", group, "--delete-config", "streams.num.standby.replicas").ended(0);
        until("consumer.session.timeout.ms", "--describe", "--entity-type", "groups").saysNot("streams.num.standby.replicas=1");
        configs("--describe", "--group", group, "--all").ended(0).says("share.auto.offset.reset=latest", "consumer.heartbeat.interval.ms=5000");
        configs("--alter", "--group", group, "--add-config", "consumer.session.timeout.ms=5").ended(1)
                .complains("consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms");
        configs("--alter", "--group", group, "--add-config", "no.such=5").ended(1).complains("Unknown group config name: no.such");
    }
}
