package raftsman.compat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;

/** A Java application in a process of its own, known by what it logs (a copy lies in TMPDIR for a look with --keep). */
final class Application {
    private static final Set<Application> STARTED = ConcurrentHashMap.newKeySet();

    private final Process process;
    private final List<String> lines = new ArrayList<>();

    /** Starts the class with the classpath that the property {@code application} names. */
    Application(String main, String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                "-cp", System.getProperty("application"), main));
        command.addAll(List.of(arguments));
        process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        STARTED.add(this);
        Thread reader = new Thread(this::read, "output of " + process.pid());
        reader.setDaemon(true);
        reader.start();
    }

    private void read() {
        Path file = Path.of(System.getenv().getOrDefault("TMPDIR", "/tmp"), "application-" + process.pid() + ".log");
        try (BufferedReader output =
                        new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
                PrintWriter copy = new PrintWriter(Files.newBufferedWriter(file))) {
            for (String line = output.readLine(); line != null; line = output.readLine()) {
                copy.println(line);
                synchronized (lines) {
                    lines.add(line);
                }
            }
        } catch (IOException ignored) {
            // the process was killed
        }
    }

    /** What it logged so far that matches, in order. */
    List<MatchResult> logged(String regex) {
        Pattern pattern = Pattern.compile(regex);
        synchronized (lines) {
            return lines.stream().flatMap(line -> pattern.matcher(line).results().limit(1)).toList();
        }
    }

    void awaitLog(String regex) throws Exception {
        Checks.until("the application logs " + regex, () -> !logged(regex).isEmpty() || !process.isAlive());
        Checks.that(!logged(regex).isEmpty(), "the application ended; its last lines:\n" + tail());
    }

    String tail() {
        synchronized (lines) {
            return String.join("\n", lines.subList(Math.max(0, lines.size() - 40), lines.size()));
        }
    }

    /** Ends it with SIGKILL. */
    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
        STARTED.remove(this);
    }

    /** Ends it with SIGTERM; returns its exit code. */
    int stop() throws InterruptedException {
        process.destroy();
        Checks.that(process.waitFor(Checks.LIMIT_MS, TimeUnit.MILLISECONDS), "the application does not end on SIGTERM");
        STARTED.remove(this);
        return process.exitValue();
    }

    static void killAll() {
        STARTED.forEach(application -> application.process.destroyForcibly());
    }
}
