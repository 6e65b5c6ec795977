package raftsman.compat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** Kafka's own command-line tools, run as their scripts run them, against the broker at BOOTSTRAP. */
public final class ToolsSuite {
    static final String BOOTSTRAP = System.getenv().getOrDefault("BOOTSTRAP", "127.0.0.1:9092");
    private static final String DATA_DIR = System.getenv("DATA_DIR");
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static int count;

    static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String PRODUCE = "org.apache.kafka.tools.ConsoleProducer";
    static final String CONSUME = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";
    private static final String DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand";
    private static final String LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand";
    private static final String DUMP = "org.apache.kafka.tools.DumpLogSegments";
    private static final String PRODUCER_PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance";
    private static final String VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand";
    private static final String FEATURES = "org.apache.kafka.tools.FeatureCommand";
    private static final String QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand";
    private static final String CLUSTER = "org.apache.kafka.tools.ClusterTool";

    interface Body {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Tool.takeOverExit();
        Map<String, Body> checks = new LinkedHashMap<>();
        if (Integer.parseInt(System.getenv().getOrDefault("NODES", "1")) > 1) {
            ClusterTools.addTo(checks);
        } else {
            addTo(checks);
        }

        int failed = 0;
        int run = 0;
        for (Map.Entry<String, Body> check : checks.entrySet()) {
            if (arguments.length > 0 && !check.getKey().contains(arguments[0])) {
                continue;
            }
            run++;
            long started = System.nanoTime();
            try {
                check.getValue().run();
                System.out.println("PASS " + check.getKey());
            } catch (Throwable error) {
                failed++;
                System.out.println("FAIL " + check.getKey() + ": " + error);
            }
            if (System.getenv("TIMES") != null) {
                System.out.printf("# %.1f s %s%n", (System.nanoTime() - started) / 1e9, check.getKey());
            }
        }
        System.out.println((run - failed) + " passed, " + failed + " failed");
        Runtime.getRuntime().halt(failed == 0 && run > 0 ? 0 : 1);
    }

    /** What one node is enough for. */
    private static void addTo(Map<String, Body> checks) {
        checks.put("kafka-topics --create, --list, --describe, --alter, --delete", ToolsSuite::topics);
        checks.put("kafka-topics: errors and --if-exists, --if-not-exists", ToolsSuite::topicErrors);
        checks.put("kafka-console-producer | kafka-console-consumer --partition", ToolsSuite::console);
        checks.put("console tools with keys, headers, timestamps, null values", ToolsSuite::consoleShapes);
        for (String compression : List.of("gzip", "snappy", "lz4", "zstd")) {
            checks.put("kafka-console-producer --compression-codec " + compression, () -> compression(compression));
        }
        checks.put("kafka-get-offsets: latest, earliest, max timestamp, by time, by pattern", ToolsSuite::offsets);
        checks.put("kafka-delete-records", ToolsSuite::deleteRecords);
        checks.put("kafka-log-dirs --describe", ToolsSuite::logDirs);
        checks.put("kafka-dump-log of segments and indexes in the broker's folder", ToolsSuite::dump);
        checks.put("kafka-dump-log shows the codec a topic's compression.type asks for", ToolsSuite::dumpRecompressed);
        checks.put("kafka-producer-perf-test", ToolsSuite::performance);
        checks.put("kafka-broker-api-versions", ToolsSuite::versions);
        ConfigsChecks.addTo(checks);
        checks.put("kafka-metadata-quorum describe --status and --replication", ToolsSuite::quorum);
        checks.put("kafka-features describe", ToolsSuite::features);
        checks.put("kafka-features upgrade and downgrade", ToolsSuite::featureChanges);
        checks.put("kafka-cluster cluster-id, list-endpoints, unregister", ToolsSuite::cluster);
        GroupTools.addTo(checks);
    }

    static String name(String hint) {
        return "tools-" + hint + "-" + RUN + "-" + count++;
    }

    static void that(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void same(Object wanted, Object got, String what) {
        that(wanted.equals(got), what + ": wanted " + wanted + ", got " + got);
    }

    /** Runs a tool with --bootstrap-server. */
    static Tool tool(String main, String... arguments) throws Exception {
        return toolWithInput("", main, arguments);
    }

    private static Tool toolWithInput(String input, String main, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", BOOTSTRAP));
        all.addAll(List.of(arguments));
        return Tool.runWithInput(input, main, all.toArray(new String[0]));
    }

    static String topic(String hint, int partitions, String... configs) throws Exception {
        String name = name(hint);
        List<String> arguments = new ArrayList<>(List.of("--create", "--topic", name, "--partitions", "" + partitions, "--replication-factor", "1"));
        for (String config : configs) {
            arguments.addAll(List.of("--config", config));
        }
        tool(TOPICS, arguments.toArray(new String[0])).ended(0).says("Created topic " + name + ".");
        return name;
    }

    /** Runs the tool until it says that, for brokers that answer a change a moment before all of them know it. */
    static Tool until(String says, String main, String... arguments) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (true) {
            Tool tool = tool(main, arguments);
            if (tool.out().contains(says) || System.nanoTime() > end) {
                return tool.ended(0).says(says);
            }
        }
    }

    static String lines(int count, String prefix) {
        StringBuilder text = new StringBuilder();
        IntStream.range(0, count).forEach(i -> text.append(prefix).append(i).append('\n'));
        return text.toString();
    }

    static void produce(String topic, String input, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--topic", topic));
        all.addAll(List.of(arguments));
        toolWithInput(input, PRODUCE, all.toArray(new String[0])).ended(0);
    }

    private static Tool consume(String topic, int count, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--topic", topic, "--partition", "0", "--max-messages", "" + count, "--timeout-ms", "15000"));
        all.addAll(List.of(arguments));
        if (!all.contains("--offset")) {
            all.addAll(List.of("--offset", "earliest"));
        }
        return tool(CONSUME, all.toArray(new String[0])).ended(0);
    }

    private static void topics() throws Exception {
        String name = topic("topics", 3, "retention.ms=3600000", "cleanup.policy=delete");
        until(name + "\n", TOPICS, "--list");
        Tool described = tool(TOPICS, "--describe", "--topic", name).ended(0)
                .says("Topic: " + name, "TopicId: ", "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000", "cleanup.policy=delete");
        for (int partition = 0; partition < 3; partition++) {
            that(Pattern.compile("Partition: " + partition + "\tLeader: (\\d+)\tReplicas: \\1\tIsr: \\1\tElr: \tLastKnownElr: ").matcher(described.out()).find(),
                    "partition " + partition + " is described as " + described.out());
        }
        String id = Pattern.compile("TopicId: (\\S+)").matcher(described.out()).results().findFirst().orElseThrow().group(1);
        tool(TOPICS, "--describe", "--topic-id", id).ended(0).says("Topic: " + name);
        tool(TOPICS, "--alter", "--topic", name, "--partitions", "5").ended(0);
        until("PartitionCount: 5", TOPICS, "--describe", "--topic", name);
        tool(TOPICS, "--describe", "--under-replicated-partitions").ended(0).saysNot(name);
        tool(TOPICS, "--describe", "--unavailable-partitions").ended(0).saysNot(name);
        tool(TOPICS, "--describe", "--topics-with-overrides").ended(0).says(name);
        tool(TOPICS, "--delete", "--topic", name).ended(0);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (tool(TOPICS, "--list").ended(0).out().contains(name + "\n")) {
            that(System.nanoTime() < end, "still listed");
        }
    }

    private static void topicErrors() throws Exception {
        String name = topic("errors", 1);
        tool(TOPICS, "--create", "--topic", name).ended(1).complains("Topic '" + name + "' already exists.");
        tool(TOPICS, "--create", "--if-not-exists", "--topic", name).ended(0);
        tool(TOPICS, "--create", "--topic", name("wide"), "--replication-factor", "3").ended(1).complains("Unable to replicate the partition 3 time(s)");
        tool(TOPICS, "--create", "--topic", "bad name").ended(1).complains("Topic name is invalid");
        tool(TOPICS, "--create", "--topic", name("key"), "--config", "no.such.key=1").ended(1).complains("no.such.key");
        tool(TOPICS, "--alter", "--topic", name, "--partitions", "1").ended(1).complains("already has 1 partition");
        tool(TOPICS, "--describe", "--topic", name("none")).ended(1).complains("does not exist");
        tool(TOPICS, "--delete", "--topic", name("none")).ended(1).complains("does not exist");
        tool(TOPICS, "--delete", "--if-exists", "--topic", name("none")).ended(0);
    }

    private static void console() throws Exception {
        String topic = topic("console", 1);
        produce(topic, lines(20_000, "line "));
        same(lines(20_000, "line "), consume(topic, 20_000).out(), "lines");
        same(lines(1, "line 1234"), consume(topic, 1, "--offset", "12340").out(), "line at an offset");
        // --from-beginning with a partition, and an end without --max-messages: by its timeout
        Tool all = tool(CONSUME, "--topic", topic, "--partition", "0", "--offset", "19990", "--timeout-ms", "2000");
        same(10, all.lines().size(), "lines until the timeout");
        // acks of every kind
        for (String acks : List.of("0", "1", "all")) {
            produce(topic, "acks " + acks + "\n", "--request-required-acks", acks);
        }
        same("acks 0\nacks 1\nacks all\n", consume(topic, 3, "--offset", "20000").out(), "lines with acks");
    }

    private static void consoleShapes() throws Exception {
        String topic = topic("shapes", 1);
        produce(topic, "h1:a,h2:b,h1:c\tkey one\tvalue one\nNULL\tNULL\tvalue two\nx:\tkey three\tNULL\n",
                "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NULL");
        Tool read = consume(topic, 3, "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "print.timestamp=true",
                "--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true", "--formatter-property", "null.literal=<null>");
        List<String> lines = read.lines().stream().map(line -> line.replaceAll("CreateTime:\\d{13}", "CreateTime:T")).toList();
        same(List.of(
                "CreateTime:T\tPartition:0\tOffset:0\th1:a,h2:b,h1:c\tkey one\tvalue one",
                "CreateTime:T\tPartition:0\tOffset:1\tNO_HEADERS\t<null>\tvalue two",
                "CreateTime:T\tPartition:0\tOffset:2\tx:\tkey three\t<null>"), lines, "lines");
    }

    private static void compression(String compression) throws Exception {
        String topic = topic(compression, 1);
        produce(topic, lines(2000, "a line that compresses well, well, well "), "--compression-codec", compression);
        same(lines(2000, "a line that compresses well, well, well "), consume(topic, 2000, "--isolation-level", "read_committed").out(), "lines");
    }

    private static void offsets() throws Exception {
        String topic = topic("offsets", 2);
        produce(topic, lines(100, "k\t"), "--reader-property", "parse.key=true");
        Tool latest = tool(OFFSETS, "--topic", topic, "--time", "latest").ended(0);
        int sum = latest.lines().stream().mapToInt(line -> Integer.parseInt(line.substring(line.lastIndexOf(':') + 1))).sum();
        same(100, sum, "sum of the latest offsets");
        same(2, latest.lines().size(), "lines");
        same(topic + ":0:0\n" + topic + ":1:0\n", tool(OFFSETS, "--topic", topic, "--time", "earliest").ended(0).out(), "earliest");
        same(topic + ":0:0\n" + topic + ":1:0\n", tool(OFFSETS, "--topic", topic, "--time", "earliest-local").ended(0).out(), "earliest local");
        tool(OFFSETS, "--topic", topic, "--time", "latest-tiered").ended(0);
        that(tool(OFFSETS, "--topic", topic, "--time", "max-timestamp").ended(0).lines().size() >= 1, "no max timestamp");
        tool(OFFSETS, "--topic", topic, "--time", "1000000000000").ended(0).says(":0\n");
        tool(OFFSETS, "--topic-partitions", topic + ":1").ended(0).says(topic + ":1:").saysNot(topic + ":0:");
        tool(OFFSETS, "--topic", "tools-offs.*" + RUN + ".*").ended(0).says(topic + ":0:");
        tool(OFFSETS, "--topic", name("none")).ended(1).complains("Could not match any topic-partitions");
    }

    private static void deleteRecords() throws Exception {
        String topic = topic("delete-records", 1);
        produce(topic, lines(50, ""));
        Path file = Files.createTempFile("delete-records", ".json");
        Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":20}],\"version\":1}");
        tool(DELETE_RECORDS, "--offset-json-file", file.toString()).ended(0).says("partition: " + topic + "-0\tlow_watermark: 20");
        same(topic + ":0:20\n", tool(OFFSETS, "--topic", topic, "--time", "earliest").ended(0).out(), "earliest");
        same("20", consume(topic, 1).lines().get(0), "first line");
        Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":9999}],\"version\":1}");
        tool(DELETE_RECORDS, "--offset-json-file", file.toString()).complains("error: ");
        Files.delete(file);
    }

    private static void logDirs() throws Exception {
        String topic = topic("dirs", 2);
        produce(topic, lines(10, ""));
        Tool described = tool(LOG_DIRS, "--describe", "--topic-list", topic).ended(0)
                .says("\"partition\":\"" + topic + "-0\"", "\"partition\":\"" + topic + "-1\"", "\"offsetLag\":0", "\"isFuture\":false", "\"error\":null");
        if (DATA_DIR != null) {
            described.says(DATA_DIR);
        }
        tool(LOG_DIRS, "--describe").ended(0).says(topic + "-0");
    }

    private static List<Path> files(String topic, String ending) throws Exception {
        Path folder = Path.of(DATA_DIR, topic + "-0");
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(file -> file.toString().endsWith(ending)).sorted().toList();
        }
    }

    private static String join(List<Path> files) {
        return String.join(",", files.stream().map(Path::toString).toList());
    }

    private static void dump() throws Exception {
        that(DATA_DIR != null, "DATA_DIR is not set");
        String topic = topic("dump", 1, "segment.bytes=1048576", "index.interval.bytes=1000");
        int count = 3000;
        StringBuilder input = new StringBuilder();
        IntStream.range(0, count).forEach(i -> input.append("key ").append(i).append('\t').append("v".repeat(1000)).append(i).append('\n'));
        produce(topic, input.toString(), "--reader-property", "parse.key=true", "--batch-size", "4000");
        List<Path> logs = files(topic, ".log");
        that(logs.size() >= 3, "segments: " + logs);
        for (Path log : logs) {
            that(log.getFileName().toString().matches("\\d{20}\\.log"), "name " + log);
        }
        Tool deep = Tool.run(DUMP, "--deep-iteration", "--print-data-log", "--files", join(logs)).ended(0)
                .says("Log starting offset: 0", "isvalid: true", "magic: 2", "compresscodec: none", "producerEpoch: 0").saysNot("isvalid: false");
        Matcher records = Pattern.compile("\\| offset: (\\d+) .*sequence: (\\d+).* key: key (\\d+) payload: v{1000}(\\d+)").matcher(deep.out());
        int next = 0;
        while (records.find()) {
            for (int group : new int[] {1, 2, 3, 4}) {
                same("" + next, records.group(group), "field " + group + " of record " + next);
            }
            next++;
        }
        same(count, next, "records");
        Tool verified = Tool.run(DUMP, "--verify-index-only", "--files", join(files(topic, ".index"))).ended(0);
        verified.saysNot("Found mismatched").saysNot("non-consecutive").saysNot("corrupt");
        that(!(verified.out() + verified.err()).toLowerCase().contains("mismatch"), verified.out());
        Tool index = Tool.run(DUMP, "--index-sanity-check", "--files", join(files(topic, ".index"))).ended(0).says("passed sanity check");
        same(logs.size(), index.out().split("passed sanity check", -1).length - 1, "indexes that passed");
        Tool times = Tool.run(DUMP, "--files", join(files(topic, ".timeindex"))).ended(0).says("timestamp: ");
        that(!(times.out() + times.err()).contains("Found timestamp mismatch"), times.out());
        that(!(times.out() + times.err()).contains("out of order"), times.out());
        // the parts of a closed segment's index point at batches that exist
        Tool entries = Tool.run(DUMP, "--files", files(topic, ".index").get(0).toString()).ended(0);
        that(entries.out().split("offset: ", -1).length > 100, "entries in an index of 1000 bytes' interval: " + entries.lines().size());
        List<Path> snapshots = files(topic, ".snapshot");
        if (!snapshots.isEmpty()) {
            Tool.run(DUMP, "--files", join(snapshots)).ended(0).says("producerId: ", "lastSequence: ");
        }
        // Kafka writes it with the first epoch, Raftsman with the next checkpoint
        Path checkpoint = Path.of(DATA_DIR, topic + "-0", "leader-epoch-checkpoint");
        if (Files.exists(checkpoint) || "kafka".equals(System.getenv("BROKER"))) {
            same("0\n1\n0 0\n", Files.readString(checkpoint, StandardCharsets.US_ASCII), "leader-epoch-checkpoint");
        }
        String metadata = Files.readString(Path.of(DATA_DIR, topic + "-0", "partition.metadata"), StandardCharsets.US_ASCII);
        that(metadata.matches("version: 0\ntopic_id: [A-Za-z0-9_-]{22}\n?"), "partition.metadata: " + metadata);
    }

    private static void dumpRecompressed() throws Exception {
        that(DATA_DIR != null, "DATA_DIR is not set");
        for (String compression : List.of("zstd", "gzip")) {
            String topic = topic("dump-" + compression, 1, "compression.type=" + compression);
            produce(topic, lines(100, "line "), "--compression-codec", "lz4");
            Tool.run(DUMP, "--deep-iteration", "--files", join(files(topic, ".log"))).ended(0)
                    .says("compresscodec: " + compression, "isvalid: true", "| offset: 99 ").saysNot("lz4").saysNot("isvalid: false");
        }
    }

    private static void performance() throws Exception {
        String topic = topic("performance", 2);
        Tool.run(PRODUCER_PERFORMANCE, "--bootstrap-server", BOOTSTRAP, "--topic", topic, "--num-records", "50000", "--record-size", "200", "--throughput", "-1",
                "--command-property", "acks=all").ended(0).says("50000 records sent");
        same(50000, tool(OFFSETS, "--topic", topic).ended(0).lines().stream().mapToInt(line -> Integer.parseInt(line.substring(line.lastIndexOf(':') + 1))).sum(),
                "sum of the latest offsets");
    }

    private static void versions() throws Exception {
        Tool tool = tool(VERSIONS).ended(0).says(BOOTSTRAP + " (id: ", "Produce(0): 0 to ", "Fetch(1): 4 to ", "ApiVersions(18): 0 to ", "Metadata(3): 0 to ", "ListOffsets(2): 1 to ");
        tool.saysNot("ERROR");
    }

    private static void features() throws Exception {
        Tool features = tool(FEATURES, "describe").ended(0);
        for (String name : List.of("eligible.leader.replicas", "group", "kraft", "metadata", "share", "streams", "transaction")) {
            features.says("Feature: " + name + ".version ");
        }
        String metadata = features.lines().stream().filter(line -> line.contains("metadata.version")).findFirst().orElseThrow();
        that(metadata.contains("SupportedMaxVersion: 4.3-IV0 ") && metadata.contains("FinalizedVersionLevel: 4.3-IV0 "), metadata);
    }

    private static void featureChanges() throws Exception {
        String feature = "eligible.leader.replicas.version";
        tool(FEATURES, "upgrade", "--feature", feature + "=1", "--dry-run").ended(0).says(feature + " can be upgraded to 1.");
        tool(FEATURES, "upgrade", "--feature", feature + "=4711").ended(1).says("Could not upgrade " + feature + " to 4711.", "Invalid update version 4711").complains("1 out of 1 operation(s) failed.");
        tool(FEATURES, "downgrade", "--feature", feature + "=4711").ended(1).says("Could not downgrade " + feature);
        tool(FEATURES, "disable", "--feature", feature, "--dry-run").ended(0).says(feature + " can be disabled.");
    }

    private static void quorum() throws Exception {
        tool(QUORUM, "describe", "--status").ended(0).says("ClusterId:", "LeaderId:", "LeaderEpoch:", "HighWatermark:", "MaxFollowerLag:", "CurrentVoters:", "CurrentObservers:");
        tool(QUORUM, "describe", "--replication").ended(0).says("NodeId", "LogEndOffset", "Leader");
    }

    private static void cluster() throws Exception {
        Tool.run(CLUSTER, "cluster-id", "--bootstrap-server", BOOTSTRAP).ended(0).says("Cluster ID: ");
        Tool.run(CLUSTER, "list-endpoints", "--bootstrap-server", BOOTSTRAP).ended(0).says("ENDPOINT_TYPE", "broker");
        Tool.run(CLUSTER, "list-endpoints", "--bootstrap-server", BOOTSTRAP, "--include-fenced-brokers").ended(0).says("STATE", "unfenced");
        Tool.run(CLUSTER, "unregister", "--bootstrap-server", BOOTSTRAP, "--id", "4711").ended(1).complains("is not currently registered");
    }
}
