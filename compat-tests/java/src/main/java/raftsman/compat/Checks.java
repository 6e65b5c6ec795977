package raftsman.compat;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/** A list of named checks, run some at a time; each prints one PASS or FAIL line. */
final class Checks {
    interface Body {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** How long any wait for a condition may last; reaching it is a failure. */
    static final long LIMIT_MS = 20_000;

    private final Map<String, Body> bodies = new LinkedHashMap<>();
    private final Set<String> alone = new HashSet<>();

    /**
     * A check that no other runs beside, after all those that share the broker: it restarts the broker, say. These run
     * in the order in which they were added.
     */
    void addAlone(String name, Body body) {
        add(name, body);
        alone.add(name);
    }

    void add(String name, Body body) {
        if (bodies.put(name, body) != null) {
            throw new IllegalArgumentException("two checks are called " + name);
        }
    }

    /** Runs those whose name contains {@code only} (null: all); returns the exit code. */
    int run(String only) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(6);
        List<String> names = bodies.keySet().stream().filter(name -> only == null || name.contains(only)).toList();
        Map<String, Future<?>> running = new LinkedHashMap<>();
        for (String name : names) {
            if (!alone.contains(name)) {
                running.put(name, pool.submit(timed(name)));
            }
        }
        int failed = 0;
        for (Map.Entry<String, Future<?>> check : running.entrySet()) {
            failed += ended(check.getKey(), check.getValue());
        }
        for (String name : names) {
            if (alone.contains(name)) {
                failed += ended(name, pool.submit(timed(name)));
            }
        }
        pool.shutdownNow();
        System.out.println((names.size() - failed) + " passed, " + failed + " failed");
        return failed == 0 && !names.isEmpty() ? 0 : 1;
    }

    private Callable<Void> timed(String name) {
        return () -> {
            long started = System.nanoTime();
            bodies.get(name).run();
            if (System.getenv("TIMES") != null) {
                System.out.printf("# %.1f s %s%n", (System.nanoTime() - started) / 1e9, name);
            }
            return null;
        };
    }

    /** Waits for a check and prints its line; 1 when it failed. */
    private static int ended(String name, Future<?> check) {
        try {
            check.get(90, TimeUnit.SECONDS);
            System.out.println("PASS " + name);
            return 0;
        } catch (Exception error) {
            System.out.println("FAIL " + name + ": " + describe(cause(error)));
            return 1;
        }
    }

    private static String describe(Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("raftsman.compat") && !frame.getClassName().endsWith(".Checks")
                    && !frame.getClassName().endsWith(".Broker") && !frame.getClassName().endsWith(".Member")) {
                return error + " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
            }
        }
        return error.toString();
    }

    static Throwable cause(Throwable error) {
        while ((error instanceof ExecutionException || error instanceof CompletionException) && error.getCause() != null) {
            error = error.getCause();
        }
        return error;
    }

    static void that(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void same(Object wanted, Object got, String what) {
        if (!Objects.equals(wanted, got)) {
            throw new AssertionError(what + ": wanted " + shorten(wanted) + ", got " + shorten(got));
        }
    }

    private static String shorten(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 300 ? text : text.substring(0, 300) + "…";
    }

    /** The call must fail with exactly this exception; returns it. */
    static <E extends Throwable> E fails(Class<E> wanted, Callable<?> call) {
        Object got;
        try {
            got = call.call();
        } catch (Throwable error) {
            Throwable cause = cause(error);
            if (cause.getClass() == wanted) {
                return wanted.cast(cause);
            }
            throw new AssertionError("wanted " + wanted.getSimpleName() + ", got " + cause);
        }
        throw new AssertionError("wanted " + wanted.getSimpleName() + ", but it succeeded with " + shorten(got));
    }

    /** Asks again and again until the condition holds. */
    static void until(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(LIMIT_MS);
        while (!condition.holds()) {
            that(System.nanoTime() < end, "not within " + LIMIT_MS + " ms: " + what);
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    static List<Integer> range(int from, int to) {
        List<Integer> numbers = new ArrayList<>();
        for (int number = from; number < to; number++) {
            numbers.add(number);
        }
        return numbers;
    }
}
