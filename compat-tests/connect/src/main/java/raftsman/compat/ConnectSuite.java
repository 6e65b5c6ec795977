package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.GroupState;

/** Kafka Connect, standalone: a file into a topic, the topic into a file, against the broker at BOOTSTRAP. */
public final class ConnectSuite {
    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        checks.addAlone("file source to file sink: through restarts of the worker and the broker, nothing is lost", ConnectSuite::files);
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        Runtime.getRuntime().halt(code);
    }

    /** A folder with the worker's configuration, its two connectors and their files. */
    private static final class Worker implements AutoCloseable {
        final String topic = name("connect");
        final Path folder = Files.createTempDirectory("connect");
        final Path source = folder.resolve("source.txt");
        final Path sink = folder.resolve("sink.txt");
        private final Path log = folder.resolve("worker.out");
        private Process process;
        private int written;

        Worker() throws IOException {
            Files.createFile(source);
            write("worker.properties", "bootstrap.servers=" + Broker.BOOTSTRAP, "key.converter=org.apache.kafka.connect.storage.StringConverter",
                    "value.converter=org.apache.kafka.connect.storage.StringConverter", "offset.storage.file.filename=" + folder.resolve("offsets"),
                    "offset.flush.interval.ms=500", "plugin.discovery=service_load", "listeners=http://127.0.0.1:0", "consumer.heartbeat.interval.ms=300",
                    "consumer.session.timeout.ms=3000", "consumer.metadata.max.age.ms=1000");
            write("source.properties", "name=source", "connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max=1",
                    "file=" + source, "topic=" + topic);
            write("sink.properties", "name=sink-" + topic, "connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max=1",
                    "file=" + sink, "topics=" + topic);
        }

        private void write(String name, String... lines) throws IOException {
            Files.write(folder.resolve(name), List.of(lines));
        }

        String group() {
            return "connect-sink-" + topic;
        }

        void start() throws IOException {
            process = new ProcessBuilder("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", System.getProperty("java.class.path"),
                    "org.apache.kafka.connect.cli.ConnectStandalone", folder.resolve("worker.properties").toString(), folder.resolve("source.properties").toString(),
                    folder.resolve("sink.properties").toString()).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile())).start();
        }

        /** Adds so many lines to the source: "line 0", "line 1", … */
        void add(int count) throws IOException {
            List<String> lines = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                lines.add("line " + written++);
            }
            Files.write(source, lines, StandardOpenOption.APPEND);
        }

        List<String> sunk() throws IOException {
            return Files.exists(sink) ? Files.readAllLines(sink) : List.of();
        }

        /** Waits until each line of the source is in the sink. */
        void arrived() throws Exception {
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
            while (new HashSet<>(sunk()).size() < written) {
                that(System.nanoTime() < end, new HashSet<>(sunk()).size() + " of " + written + " lines arrived");
                that(process.isAlive(), "the worker ended");
                TimeUnit.MILLISECONDS.sleep(50);
            }
            // The first time that each line comes, it comes in its order.
            List<String> firsts = sunk().stream().distinct().toList();
            for (int i = 0; i < written; i++) {
                same("line " + i, firsts.get(i), "line of the sink");
            }
            same(written, firsts.size(), "lines");
        }

        void stop() throws Exception {
            process.destroy();
            that(process.waitFor(20, TimeUnit.SECONDS), "the worker does not stop");
        }

        void kill() throws Exception {
            process.destroyForcibly().waitFor();
        }

        @Override
        public void close() throws Exception {
            if (process != null) {
                kill();
            }
            try (Stream<Path> files = Files.walk(folder)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
    }

    private static void files() throws Exception {
        try (Worker worker = new Worker()) {
            Broker.wait(ADMIN.createTopics(List.of(new NewTopic(worker.topic, 1, (short) 1))).all());
            worker.add(500);
            worker.start();
            worker.arrived();
            same(500, worker.sunk().size(), "lines, none twice");
            Checks.until("the sink's group", () -> Broker.wait(ADMIN.describeConsumerGroups(List.of(worker.group())).all()).get(worker.group()).groupState() == GroupState.STABLE);

            worker.stop();
            worker.add(500);
            worker.start();
            worker.add(500);
            worker.arrived();
            same(1500, worker.sunk().size(), "lines after the worker was stopped and started, none twice");

            Broker.control("/restart?how=kill");
            worker.add(500);
            worker.arrived();
            worker.kill();
            worker.add(500);
            Broker.control("/restart?how=stop");
            worker.start();
            worker.arrived();
        }
    }
}
