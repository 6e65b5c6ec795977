package raftsman.compat;

import static raftsman.compat.ToolsSuite.BOOTSTRAP;
import static raftsman.compat.ToolsSuite.TOPICS;
import static raftsman.compat.ToolsSuite.lines;
import static raftsman.compat.ToolsSuite.produce;
import static raftsman.compat.ToolsSuite.same;
import static raftsman.compat.ToolsSuite.that;
import static raftsman.compat.ToolsSuite.tool;
import static raftsman.compat.ToolsSuite.until;

import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Kafka's tools for what only several nodes have; the nodes are 1, 2 and 3. */
final class ClusterTools {
    private static final String REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
    private static final String ELECT = "org.apache.kafka.tools.LeaderElectionCommand";
    private static final String VERIFY = "org.apache.kafka.tools.ReplicaVerificationTool";
    private static final String QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand";
    private static final String CLUSTER = "org.apache.kafka.tools.ClusterTool";
    private static final String LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand";

    private ClusterTools() {}

    static void addTo(Map<String, ToolsSuite.Body> checks) {
        checks.put("kafka-topics with three replicas: created, described, none under-replicated", ClusterTools::topics);
        checks.put("kafka-reassign-partitions: generate, execute, list, verify, cancel", ClusterTools::reassign);
        checks.put("kafka-leader-election: a leader that moved comes back", ClusterTools::elect);
        checks.put("kafka-metadata-quorum of three voters", ClusterTools::quorum);
        checks.put("kafka-cluster: id and endpoints of three", ClusterTools::cluster);
        checks.put("kafka-log-dirs of three brokers", ClusterTools::logDirs);
        checks.put("kafka-replica-verification finds no lag", ClusterTools::verify);
    }

    private static String replicated(String hint, String... assignment) throws Exception {
        String name = ToolsSuite.name(hint);
        String[] arguments = assignment.length > 0
                ? new String[] {"--create", "--topic", name, "--replica-assignment", assignment[0]}
                : new String[] {"--create", "--topic", name, "--partitions", "3", "--replication-factor", "3"};
        tool(TOPICS, arguments).ended(0).says("Created topic " + name + ".");
        return name;
    }

    private static Tool described(String topic) throws Exception {
        return tool(TOPICS, "--describe", "--topic", topic).ended(0);
    }

    /** Describes the topic until partition 0 has this leader, these replicas and as many in sync. */
    private static void untilPartition(String topic, int leader, String replicas) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        Pattern wanted = Pattern.compile("Partition: 0\tLeader: " + leader + "\tReplicas: " + replicas + "\tIsr: (\\S+)");
        while (true) {
            String shown = described(topic).out();
            Matcher found = wanted.matcher(shown);
            if (found.find() && found.group(1).split(",").length == replicas.split(",").length) {
                return;
            }
            that(System.nanoTime() < end, "not led by " + leader + " with the replicas " + replicas + ": " + shown);
        }
    }

    private static void topics() throws Exception {
        String name = replicated("three");
        described(name).says("PartitionCount: 3", "ReplicationFactor: 3");
        for (int partition = 0; partition < 3; partition++) {
            Pattern whole = Pattern.compile("Partition: " + partition + "\tLeader: [123]\tReplicas: [123],[123],[123]\tIsr: [123],[123],[123]\t");
            that(whole.matcher(described(name).out()).find(), "partition " + partition + ": " + described(name).out());
        }
        tool(TOPICS, "--describe", "--under-replicated-partitions").ended(0).saysNot(name);
        tool(TOPICS, "--describe", "--at-min-isr-partitions").ended(0).saysNot(name);
        tool(TOPICS, "--create", "--topic", ToolsSuite.name("four"), "--replication-factor", "4").ended(1).complains("Unable to replicate the partition 4 time(s)");
    }

    private static Path plan(String topic, String replicas) throws Exception {
        return file("{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"replicas\":[" + replicas + "]}]}");
    }

    private static Path file(String content) throws Exception {
        return Files.writeString(Files.createTempFile("plan", ".json"), content);
    }

    private static void reassign() throws Exception {
        String name = replicated("moved", "1:2");
        produce(name, lines(1000, "line "));
        Path topics = file("{\"version\":1,\"topics\":[{\"topic\":\"" + name + "\"}]}");
        tool(REASSIGN, "--generate", "--topics-to-move-json-file", topics.toString(), "--broker-list", "1,2,3").ended(0)
                .says("Current partition replica assignment", "\"replicas\":[1,2]", "Proposed partition reassignment configuration");
        Path plan = plan(name, "3,2,1");
        tool(REASSIGN, "--execute", "--reassignment-json-file", plan.toString()).ended(0).says("Successfully started partition reassignment for " + name + "-0");
        until("Reassignment of partition " + name + "-0 is completed.", REASSIGN, "--verify", "--reassignment-json-file", plan.toString());
        untilPartition(name, 1, "3,2,1");
        tool(REASSIGN, "--list").ended(0).saysNot(name);
        // with the old leader gone another one takes over
        plan = plan(name, "3,2");
        tool(REASSIGN, "--execute", "--reassignment-json-file", plan.toString()).ended(0);
        until("Reassignment of partition " + name + "-0 is completed.", REASSIGN, "--verify", "--reassignment-json-file", plan.toString());
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!described(name).out().contains("Replicas: 3,2\t")) {
            that(System.nanoTime() < end, "still " + described(name).out());
        }
        tool(REASSIGN, "--cancel", "--reassignment-json-file", plan.toString()).ended(0).says("None of the specified partition reassignments are active.");
        same(1000, tool(ToolsSuite.CONSUME, "--topic", name, "--partition", "0", "--offset", "earliest", "--max-messages", "1000", "--timeout-ms", "15000").ended(0).lines().size(), "lines");
    }

    private static void elect() throws Exception {
        String name = replicated("elected", "1:2:3");
        untilPartition(name, 1, "1,2,3");
        tool(ELECT, "--election-type", "preferred", "--topic", name, "--partition", "0").ended(0).says("Valid replica already elected for partitions " + name + "-0");
        // an order in which another one comes first moves nobody by itself
        tool(REASSIGN, "--execute", "--reassignment-json-file", plan(name, "2,3,1").toString()).ended(0);
        untilPartition(name, 1, "2,3,1");
        tool(ELECT, "--election-type", "preferred", "--topic", name, "--partition", "0").ended(0).says("Successfully completed leader election (PREFERRED) for partitions " + name + "-0");
        untilPartition(name, 2, "2,3,1");
        tool(ELECT, "--election-type", "unclean", "--topic", name, "--partition", "0").ended(0).says("Valid replica already elected for partitions " + name + "-0");
    }

    private static void quorum() throws Exception {
        Tool status = tool(QUORUM, "describe", "--status").ended(0).says("ClusterId:", "CurrentVoters:", "CurrentObservers:");
        for (int node = 1; node <= 3; node++) {
            that(Pattern.compile("CurrentVoters:.*\\b" + node + "\\b").matcher(status.out()).find(), "voter " + node + ": " + status.out());
        }
        Tool replication = tool(QUORUM, "describe", "--replication").ended(0);
        same(1L, replication.lines().stream().filter(line -> line.contains("Leader") && !line.contains("NodeId")).count(), "leaders");
        same(2L, replication.lines().stream().filter(line -> line.contains("Follower")).count(), "followers");
    }

    private static void cluster() throws Exception {
        Tool.run(CLUSTER, "cluster-id", "--bootstrap-server", BOOTSTRAP).ended(0).says("Cluster ID: ");
        Tool endpoints = Tool.run(CLUSTER, "list-endpoints", "--bootstrap-server", BOOTSTRAP).ended(0);
        for (String address : BOOTSTRAP.split(",")) {
            that(endpoints.lines().stream().anyMatch(line -> line.contains(address.split(":")[1]) && line.contains("broker")), address + ": " + endpoints.out());
        }
    }

    private static void logDirs() throws Exception {
        String name = replicated("dirs");
        Pattern replica = Pattern.compile("\"partition\":\"" + name + "-\\d\"");
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (true) {
            Tool all = tool(LOG_DIRS, "--describe", "--broker-list", "1,2,3", "--topic-list", name).ended(0)
                    .says("\"broker\":1", "\"broker\":2", "\"broker\":3");
            if (replica.matcher(all.out()).results().count() == 9) {
                break;
            }
            that(System.nanoTime() < end, "not nine replicas: " + all.out());
        }
        tool(LOG_DIRS, "--describe", "--broker-list", "1,7").ended(1).complains("7");
    }

    /** It ends only when it is ended, so it is a process of its own. */
    private static void verify() throws Exception {
        String name = replicated("verified");
        produce(name, lines(1000, "line "));
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
                        VERIFY, "--broker-list", BOOTSTRAP, "--topics-include", name, "--report-interval-ms", "500")
                .redirectErrorStream(true)
                .start();
        StringBuilder said = new StringBuilder();
        try (BufferedReader out = process.inputReader()) {
            Thread watchdog = new Thread(() -> {
                try {
                    if (!process.waitFor(30, TimeUnit.SECONDS)) {
                        process.destroyForcibly();
                    }
                } catch (InterruptedException error) {
                    process.destroyForcibly();
                }
            });
            watchdog.setDaemon(true);
            watchdog.start();
            for (String line = out.readLine(); line != null; line = out.readLine()) {
                said.append(line).append('\n');
                if (line.contains("max lag is 0 for partition " + name + "-")) {
                    return;
                }
            }
            throw new AssertionError("no report without lag: " + said);
        } finally {
            process.destroyForcibly();
        }
    }
}
