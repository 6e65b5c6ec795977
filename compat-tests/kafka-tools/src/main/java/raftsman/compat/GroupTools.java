package raftsman.compat;

import static raftsman.compat.ToolsSuite.BOOTSTRAP;
import static raftsman.compat.ToolsSuite.CONSUME;
import static raftsman.compat.ToolsSuite.OFFSETS;
import static raftsman.compat.ToolsSuite.TOPICS;
import static raftsman.compat.ToolsSuite.lines;
import static raftsman.compat.ToolsSuite.name;
import static raftsman.compat.ToolsSuite.produce;
import static raftsman.compat.ToolsSuite.same;
import static raftsman.compat.ToolsSuite.that;
import static raftsman.compat.ToolsSuite.tool;
import static raftsman.compat.ToolsSuite.topic;
import static raftsman.compat.ToolsSuite.until;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Kafka's tools for groups: what they show, reset and delete, and the formatters that read __consumer_offsets. */
final class GroupTools {
    private GroupTools() {}

    private static final String GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    private static final String ALL_GROUPS = "org.apache.kafka.tools.GroupsCommand";
    private static final String CONSUMER_PERFORMANCE = "org.apache.kafka.tools.ConsumerPerformance";
    private static final String VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer";
    private static final String VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer";
    private static final String VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand";

    static void addTo(Map<String, ToolsSuite.Body> checks) {
        checks.put("kafka-console-consumer --group goes on where it stopped", GroupTools::console);
        checks.put("kafka-consumer-groups --list, with states and types", GroupTools::list);
        checks.put("kafka-consumer-groups --describe: offsets and lag, --members, --state, --verbose", GroupTools::describe);
        checks.put("kafka-consumer-groups --reset-offsets: earliest, latest, current, offset, shift, time, duration, file", GroupTools::reset);
        checks.put("kafka-consumer-groups --reset-offsets: dry run, --export, several topics, partitions, all groups", GroupTools::resetScopes);
        checks.put("kafka-consumer-groups --delete and --delete-offsets", GroupTools::delete);
        checks.put("kafka-consumer-groups: errors", GroupTools::errors);
        checks.put("kafka-groups --list with types and protocols", GroupTools::allGroups);
        checks.put("kafka-get-offsets of __consumer_offsets, with and without internal topics", GroupTools::offsets);
        checks.put("OffsetsMessageFormatter reads commits from __consumer_offsets", GroupTools::offsetsFormatter);
        checks.put("GroupMetadataMessageFormatter reads groups from __consumer_offsets", GroupTools::metadataFormatter);
        checks.put("kafka-consumer-perf-test", GroupTools::performance);
        checks.put("kafka-verifiable-producer and kafka-verifiable-consumer", GroupTools::verifiable);
        checks.put("kafka-topics --describe of __consumer_offsets", GroupTools::offsetsTopic);
        checks.put("kafka-broker-api-versions shows the group APIs", GroupTools::versions);
    }

    /** A consumer that polls in a thread of its own as long as it is open. */
    private static final class Member implements AutoCloseable {
        private final Thread thread;
        private volatile boolean ended;

        Member(String group, String topic, String client) {
            Properties properties = new Properties();
            properties.putAll(Map.of("bootstrap.servers", BOOTSTRAP, "group.id", group, "client.id", client, "auto.offset.reset", "earliest", "heartbeat.interval.ms", "200"));
            KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
            thread = new Thread(() -> {
                try (consumer) {
                    consumer.subscribe(List.of(topic));
                    while (!ended) {
                        consumer.poll(Duration.ofMillis(50));
                    }
                }
            });
            thread.start();
        }

        @Override
        public void close() throws InterruptedException {
            ended = true;
            thread.join();
        }
    }

    /** Reads so many records of the topic as the group, and commits. */
    private static Tool consume(String group, String topic, int count) throws Exception {
        return tool(CONSUME, "--topic", topic, "--group", group, "--max-messages", "" + count, "--timeout-ms", "15000",
                "--command-property", "auto.offset.reset=earliest").ended(0);
    }

    /** The columns of the line of a table in which the column of that name holds the value. */
    private static Map<String, String> row(Tool table, String column, String value) {
        List<String> header = null;
        for (String line : table.lines()) {
            List<String> cells = Arrays.asList(line.strip().split("\\s+"));
            if (cells.contains(column)) {
                header = cells;
            } else if (header != null && cells.size() >= header.size() && cells.get(header.indexOf(column)).equals(value)) {
                Map<String, String> row = new java.util.HashMap<>();
                for (int i = 0; i < header.size(); i++) {
                    row.put(header.get(i), cells.get(i));
                }
                return row;
            }
        }
        throw new AssertionError("no line with " + column + " " + value + " in: " + table.out() + table.err());
    }

    private static void console() throws Exception {
        String topic = topic("console-group", 1);
        String group = name("console");
        produce(topic, lines(100, "line "));
        same(lines(40, "line "), consume(group, topic, 40).out(), "first lines");
        same(lines(100, "line ").substring(lines(40, "line ").length()), consume(group, topic, 60).out(), "the rest");
        tool(CONSUME, "--include", topic + "|nothing", "--group", name("pattern"), "--max-messages", "100", "--timeout-ms", "15000", "--from-beginning").ended(0).says("line 99");
    }

    private static void list() throws Exception {
        String topic = topic("list", 1);
        produce(topic, lines(5, ""));
        String empty = name("empty");
        String stable = name("stable");
        consume(empty, topic, 5);
        try (Member member = new Member(stable, topic, "c")) {
            until(stable, GROUPS, "--list", "--state", "stable");
            tool(GROUPS, "--list").ended(0).says(empty + "\n", stable + "\n");
            Tool states = tool(GROUPS, "--list", "--state").ended(0);
            same("Stable", row(states, "GROUP", stable).get("STATE"), "state");
            same("Empty", row(states, "GROUP", empty).get("STATE"), "state");
            tool(GROUPS, "--list", "--state", "empty").ended(0).says(empty).saysNot(stable);
            same("Classic", row(tool(GROUPS, "--list", "--type").ended(0), "GROUP", stable).get("TYPE"), "type");
            tool(GROUPS, "--list", "--type", "classic").ended(0).says(empty, stable);
            tool(GROUPS, "--list", "--type", "consumer").ended(0).saysNot(empty).saysNot(stable);
            tool(GROUPS, "--list", "--state", "nonsense").complains("Invalid state list");
        }
    }

    private static void describe() throws Exception {
        String topic = topic("describe", 2);
        String group = name("describe");
        produce(topic, lines(30, "k\t"), "--reader-property", "parse.key=true");
        consume(group, topic, 20);
        Tool idle = tool(GROUPS, "--describe", "--group", group).ended(0).complains("Consumer group '" + group + "' has no active members.");
        int lag = 0;
        for (String partition : List.of("0", "1")) {
            Map<String, String> row = row(idle, "PARTITION", partition);
            same(List.of(group, topic, "-", "-", "-"), List.of(row.get("GROUP"), row.get("TOPIC"), row.get("CONSUMER-ID"), row.get("HOST"), row.get("CLIENT-ID")), "row of partition " + partition);
            if (!row.get("LAG").equals("-")) {
                lag += Integer.parseInt(row.get("LAG"));
                same(Integer.parseInt(row.get("LOG-END-OFFSET")), Integer.parseInt(row.get("CURRENT-OFFSET")) + Integer.parseInt(row.get("LAG")), "offset and lag");
            }
        }
        same(10, lag, "lag");
        tool(GROUPS, "--describe", "--group", group, "--members").ended(0).complains("Consumer group '" + group + "' has no active members.");
        try (Member one = new Member(group, topic, "client-one"); Member two = new Member(group, topic, "client-two")) {
            Map<String, String> state = row(until("Stable               2", GROUPS, "--describe", "--group", group, "--state"), "GROUP", group);
            same(List.of("range", "Stable", "2"), List.of(state.get("ASSIGNMENT-STRATEGY"), state.get("STATE"), state.get("#MEMBERS")), "state");
            same(BOOTSTRAP, state.get("COORDINATOR"), "coordinator");
            Tool members = tool(GROUPS, "--describe", "--group", group, "--members").ended(0);
            for (String client : List.of("client-one", "client-two")) {
                Map<String, String> row = row(members, "CLIENT-ID", client);
                that(row.get("CONSUMER-ID").startsWith(client + "-"), "member id " + row);
                same(List.of("/127.0.0.1", "1"), List.of(row.get("HOST"), row.get("#PARTITIONS")), "member");
            }
            tool(GROUPS, "--describe", "--group", group, "--members", "--verbose").ended(0).says(topic + ":0", topic + ":1");
            tool(GROUPS, "--describe", "--group", group, "--state", "--verbose").ended(0).says("Stable");
            Tool offsets = tool(GROUPS, "--describe", "--group", group, "--offsets").ended(0);
            that(row(offsets, "PARTITION", "1").get("CLIENT-ID").startsWith("client-"), "owner in " + offsets.out());
            tool(GROUPS, "--describe", "--group", group, "--verbose").ended(0).says("LEADER-EPOCH");
            tool(GROUPS, "--describe", "--all-groups").ended(0).says(group);
            tool(GROUPS, "--describe", "--all-groups", "--state").ended(0).says(group);
        }
    }

    private static Map<String, String> reset(String group, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--reset-offsets", "--group", group));
        all.addAll(List.of(arguments));
        return row(tool(GROUPS, all.toArray(new String[0])).ended(0), "PARTITION", "0");
    }

    private static String current(String group) throws Exception {
        return row(tool(GROUPS, "--describe", "--group", group).ended(0), "PARTITION", "0").get("CURRENT-OFFSET");
    }

    private static void reset() throws Exception {
        String topic = topic("reset", 1);
        String group = name("reset");
        produce(topic, lines(50, ""));
        long between = System.currentTimeMillis() + 1;
        while (System.currentTimeMillis() <= between) {
            Thread.onSpinWait();
        }
        produce(topic, lines(50, "later "));
        consume(group, topic, 30);
        String time = LocalDateTime.ofInstant(Instant.ofEpochMilli(between), ZoneOffset.UTC).toString();
        Map<List<String>, String> wanted = new java.util.LinkedHashMap<>();
        wanted.put(List.of("--to-earliest"), "0");
        wanted.put(List.of("--shift-by", "20"), "20");
        wanted.put(List.of("--shift-by", "-5"), "15");
        wanted.put(List.of("--shift-by", "-500"), "0");
        wanted.put(List.of("--to-latest"), "100");
        wanted.put(List.of("--to-offset", "33"), "33");
        wanted.put(List.of("--to-current"), "33");
        wanted.put(List.of("--to-offset", "9999"), "100");
        wanted.put(List.of("--by-duration", "PT1H"), "0");
        wanted.put(List.of("--to-datetime", time.substring(0, 23) + "Z"), "50");
        for (Map.Entry<List<String>, String> each : wanted.entrySet()) {
            List<String> arguments = new ArrayList<>(List.of("--topic", topic, "--execute"));
            arguments.addAll(each.getKey());
            same(each.getValue(), reset(group, arguments.toArray(new String[0])).get("NEW-OFFSET"), "new offset of " + each.getKey());
            same(each.getValue(), current(group), "offset after " + each.getKey());
        }
        same("later 0\n", consume(group, topic, 1).out(), "what the group reads next");
        Path file = Files.createTempFile("reset", ".csv");
        Files.writeString(file, topic + ",0,77\n");
        same("77", reset(group, "--from-file", file.toString(), "--execute").get("NEW-OFFSET"), "new offset from a file");
        same("77", current(group), "offset from a file");
        Files.delete(file);
        // a group that never was
        same("0", reset(name("fresh"), "--topic", topic, "--to-earliest", "--execute").get("NEW-OFFSET"), "new offset of a new group");
    }

    private static void resetScopes() throws Exception {
        String one = topic("scope-one", 2);
        String two = topic("scope-two", 1);
        String group = name("scope");
        produce(one, lines(20, "k\t"), "--reader-property", "parse.key=true");
        produce(two, lines(10, ""));
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", one, "--topic", two, "--to-latest", "--execute").ended(0).says(one, two);
        tool(GROUPS, "--reset-offsets", "--group", group, "--all-topics", "--to-earliest").ended(0).complains("WARN: No action will be performed as the --execute option is missing.");
        same("10", row(tool(GROUPS, "--describe", "--group", group).ended(0), "TOPIC", two).get("CURRENT-OFFSET"), "offset after a dry run");
        Tool exported = tool(GROUPS, "--reset-offsets", "--group", group, "--all-topics", "--to-earliest", "--dry-run", "--export").ended(0);
        exported.says("\"" + one + "\",0,0", "\"" + one + "\",1,0", "\"" + two + "\",0,0");
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", one + ":1", "--to-earliest", "--execute").ended(0).saysNot(two);
        Tool described = tool(GROUPS, "--describe", "--group", group).ended(0);
        same("0", row(described, "PARTITION", "1").get("CURRENT-OFFSET"), "offset of the partition");
        same("10", row(described, "TOPIC", two).get("CURRENT-OFFSET"), "offset of the other topic");
        tool(GROUPS, "--reset-offsets", "--all-groups", "--topic", two, "--to-earliest", "--dry-run").ended(0).says(group);
        try (Member member = new Member(group, two, "c")) {
            until("Stable", GROUPS, "--describe", "--group", group, "--state");
            Tool refused = tool(GROUPS, "--reset-offsets", "--group", group, "--topic", two, "--to-earliest", "--execute");
            refused.complains("Assignments can only be reset if the group '" + group + "' is inactive, but the current state is Stable.");
        }
        same("10", row(tool(GROUPS, "--describe", "--group", group).ended(0), "TOPIC", two).get("CURRENT-OFFSET"), "offset after the refusal");
    }

    private static void delete() throws Exception {
        String topic = topic("delete", 2);
        String group = name("delete");
        String none = name("none");
        produce(topic, lines(5, ""));
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-latest", "--execute").ended(0);
        Tool one = tool(GROUPS, "--delete-offsets", "--group", group, "--topic", topic + ":1").ended(0);
        same("Successful", row(one, "PARTITION", "1").get("STATUS"), "status");
        Tool described = tool(GROUPS, "--describe", "--group", group).ended(0).saysNot(topic + "  1");
        same("0", row(described, "TOPIC", topic).get("PARTITION"), "the partition left");
        try (Member member = new Member(group, topic, "c")) {
            until("Stable", GROUPS, "--describe", "--group", group, "--state");
            tool(GROUPS, "--delete", "--group", group).complains("GroupNotEmptyException");
            tool(GROUPS, "--delete-offsets", "--group", group, "--topic", topic).complains("is actively subscribed to it");
        }
        tool(GROUPS, "--delete", "--group", group, "--group", none).complains("GroupIdNotFoundException").complains("These consumer groups were deleted successfully: '" + group + "'");
        tool(GROUPS, "--list").ended(0).saysNot(group);
    }

    private static void errors() throws Exception {
        String none = name("none");
        tool(GROUPS, "--describe", "--group", none).complains("Group " + none + " not found");
        tool(GROUPS, "--describe", "--group", none, "--state").complains("Group " + none + " not found");
        tool(GROUPS, "--describe", "--group", none, "--members").complains("Group " + none + " not found");
        tool(GROUPS, "--delete", "--group", none).complains("GroupIdNotFoundException");
        tool(GROUPS, "--delete-offsets", "--group", none, "--topic", topic("errors", 1)).complains("GroupIdNotFoundException");
        tool(GROUPS, "--reset-offsets", "--group", none, "--topic", name("none"), "--to-earliest", "--execute").complains("UnknownTopicOrPartition");
    }

    private static void allGroups() throws Exception {
        String topic = topic("groups", 1);
        produce(topic, lines(5, ""));
        String consumer = name("consumer");
        String simple = name("simple");
        consume(consumer, topic, 5);
        tool(GROUPS, "--reset-offsets", "--group", simple, "--topic", topic, "--to-latest", "--execute").ended(0);
        Tool all = tool(ALL_GROUPS, "--list").ended(0);
        same(List.of("Classic", "consumer"), List.of(row(all, "GROUP", consumer).get("TYPE"), row(all, "GROUP", consumer).get("PROTOCOL")), "a group of consumers");
        all.says(simple);
        tool(ALL_GROUPS, "--list", "--consumer").ended(0).says(consumer, simple);
        tool(ALL_GROUPS, "--list", "--group-type", "classic").ended(0).says(consumer, simple);
        tool(ALL_GROUPS, "--list", "--group-type", "consumer").ended(0).saysNot(consumer);
        tool(ALL_GROUPS, "--list", "--share").ended(0).saysNot(consumer);
        tool(ALL_GROUPS, "--list", "--streams").ended(0).saysNot(consumer);
        tool(ALL_GROUPS, "--list", "--protocol", "consumer").ended(0).says(consumer).saysNot(simple);
    }

    /** Makes sure that __consumer_offsets is there. */
    private static void someGroup() throws Exception {
        String topic = topic("some", 1);
        produce(topic, lines(1, ""));
        consume(name("some"), topic, 1);
    }

    private static void offsets() throws Exception {
        someGroup();
        Tool all = tool(OFFSETS).ended(0).says("__consumer_offsets:0:", "__consumer_offsets:49:");
        that(all.lines().stream().filter(line -> line.startsWith("__consumer_offsets:")).count() == 50, "partitions: " + all.out());
        tool(OFFSETS, "--exclude-internal-topics").ended(0).saysNot("__consumer_offsets");
        same("__consumer_offsets:3:0\n", tool(OFFSETS, "--topic-partitions", "__consumer_offsets:3", "--time", "-2").ended(0).out(), "earliest of one partition");
        tool(OFFSETS, "--topic", "__consumer_offsets", "--partitions", "1,2,7").ended(0).says("__consumer_offsets:7:").saysNot("__consumer_offsets:3:");
    }

    /** What the formatter makes of the group's records in its partition of __consumer_offsets, one line each. */
    private static List<String> internal(String formatter, String group) throws Exception {
        String partition = "" + Math.abs(group.hashCode()) % 50;
        Tool tool = tool(CONSUME, "--topic", "__consumer_offsets", "--partition", partition, "--offset", "earliest", "--formatter",
                "org.apache.kafka.tools.consumer." + formatter, "--timeout-ms", "2000").ended(0);
        // The formatters end no lines.
        return tool.out().replace("}{\"key\":", "}\n{\"key\":").lines().filter(line -> line.contains("\"group\":\"" + group + "\"")).toList();
    }

    private static void offsetsFormatter() throws Exception {
        String topic = topic("formatter", 1);
        String group = name("formatter");
        produce(topic, lines(9, ""));
        consume(group, topic, 7);
        String key = "{\"key\":{\"type\":1,\"data\":{\"group\":\"" + group + "\",\"topic\":\"" + topic + "\",\"partition\":0}},\"value\":";
        Pattern value = Pattern.compile("\\{\"version\":\\d,\"data\":\\{\"offset\":7,\"leaderEpoch\":(-1|0),\"metadata\":\"\",\"commitTimestamp\":\\d{13}(,\"topicId\":\"[^\"]+\")?\\}\\}\\}");
        List<String> lines = internal("OffsetsMessageFormatter", group);
        that(lines.stream().anyMatch(line -> line.startsWith(key) && value.matcher(line.substring(key.length())).matches()), "no commit of 7 among " + lines);
        tool(GROUPS, "--delete", "--group", group).ended(0);
        lines = internal("OffsetsMessageFormatter", group);
        same(key + "null}", lines.get(lines.size() - 1), "after the group was deleted");
    }

    private static void metadataFormatter() throws Exception {
        String topic = topic("metadata", 1);
        String group = name("metadata");
        try (Member member = new Member(group, topic, "the-client")) {
            until("Stable", GROUPS, "--describe", "--group", group, "--state");
        }
        List<String> lines = internal("GroupMetadataMessageFormatter", group);
        that(lines.size() >= 2, "lines about " + group + ": " + lines);
        that(lines.stream().anyMatch(each -> each.startsWith("{\"key\":{\"type\":2,") && each.contains("\"protocolType\":\"consumer\",\"generation\":1,\"protocol\":\"range\",\"leader\":\"the-client-")
                && each.contains("\"clientId\":\"the-client\",\"clientHost\":\"/127.0.0.1\",\"rebalanceTimeout\":300000,\"sessionTimeout\":45000")), "the generation: " + lines);
        String last = lines.get(lines.size() - 1);
        that(last.contains("\"generation\":2,\"protocol\":null,\"leader\":null") && last.contains("\"members\":[]"), "the end: " + lines);
    }

    private static void performance() throws Exception {
        String topic = topic("consumer-performance", 2);
        Tool.run("org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", BOOTSTRAP, "--topic", topic, "--num-records", "50000", "--record-size", "200", "--throughput", "-1").ended(0);
        Tool tool = tool(CONSUMER_PERFORMANCE, "--topic", topic, "--num-records", "50000").ended(0);
        List<String> last = Arrays.asList(tool.lines().get(tool.lines().size() - 1).split(", "));
        that(Integer.parseInt(last.get(4)) >= 50000, "records consumed: " + tool.out());
    }

    private static void verifiable() throws Exception {
        String topic = topic("verifiable", 1);
        String group = name("verifiable");
        // It goes on sending after its main method ended, and says the rest when its process ends.
        Process process = new ProcessBuilder("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"), VERIFIABLE_PRODUCER,
                "--bootstrap-server", BOOTSTRAP, "--topic", topic, "--max-messages", "500").redirectErrorStream(true).start();
        String produced = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        same(0, process.waitFor(), "exit code of the producer, which said: " + produced);
        that(produced.contains("\"sent\":500,\"acked\":500"), produced);
        Tool consumer = tool(VERIFIABLE_CONSUMER, "--topic", topic, "--group-id", group, "--max-messages", "500").ended(0)
                .says("\"name\":\"partitions_assigned\"", "\"name\":\"records_consumed\"", "\"name\":\"offsets_committed\"");
        consumer.saysNot("\"success\":false");
        same("500", current(group), "committed");
    }

    private static void offsetsTopic() throws Exception {
        someGroup();
        tool(TOPICS, "--describe", "--topic", "__consumer_offsets").ended(0).says("PartitionCount: 50", "ReplicationFactor: 1", "cleanup.policy=compact");
        tool(TOPICS, "--list", "--exclude-internal").ended(0).saysNot("__consumer_offsets");
        tool(TOPICS, "--list").ended(0).says("__consumer_offsets\n");
    }

    private static void versions() throws Exception {
        tool(VERSIONS).ended(0).says("OffsetCommit(8): 2 to ", "OffsetFetch(9): 1 to ", "FindCoordinator(10): 0 to 6", "JoinGroup(11): 0 to 9", "Heartbeat(12): 0 to 4",
                "LeaveGroup(13): 0 to 5", "SyncGroup(14): 0 to 5", "DescribeGroups(15): 0 to 6", "ListGroups(16): 0 to 5", "DeleteGroups(42): 0 to 2", "OffsetDelete(47): 0");
    }
}
