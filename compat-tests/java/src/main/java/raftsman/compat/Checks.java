package raftsman.compat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/** A list of named checks, run some at a time; each prints one PASS or FAIL line. */
final class Checks {
    interface Body {
        void run() throws Exception;
    }

    /** How long any wait for a condition may last; reaching it is a failure. */
    static final long LIMIT_MS = 20_000;

    private final Map<String, Body> bodies = new LinkedHashMap<>();

    void add(String name, Body body) {
        if (bodies.put(name, body) != null) {
            throw new IllegalArgumentException("two checks are called " + name);
        }
    }

    /** Runs those whose name contains {@code only} (null: all); returns the exit code. */
    int run(String only) throws Exception {
        return run(only, 6);
    }

    /** The same with {@code threads} checks at a time; with one they run in the order in which they were added. */
    int run(String only, int threads) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        Map<String, Future<?>> running = new LinkedHashMap<>();
        bodies.forEach((name, body) -> {
            if (only == null || name.contains(only)) {
                running.put(name, pool.submit((Callable<Void>) () -> {
                    long started = System.nanoTime();
                    body.run();
                    if (System.getenv("TIMES") != null) {
                        System.out.printf("# %.1f s %s%n", (System.nanoTime() - started) / 1e9, name);
                    }
                    return null;
                }));
            }
        });
        int failed = 0;
        for (Map.Entry<String, Future<?>> check : running.entrySet()) {
            try {
                check.getValue().get(90, TimeUnit.SECONDS);
                System.out.println("PASS " + check.getKey());
            } catch (Exception error) {
                failed++;
                System.out.println("FAIL " + check.getKey() + ": " + describe(cause(error)));
            }
        }
        pool.shutdownNow();
        System.out.println((running.size() - failed) + " passed, " + failed + " failed");
        return failed == 0 && !running.isEmpty() ? 0 : 1;
    }

    private static String describe(Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("raftsman.compat") && !frame.getClassName().endsWith(".Checks")
                    && !frame.getClassName().endsWith(".Broker")) {
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
    static void until(String what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(LIMIT_MS);
        while (!condition.getAsBoolean()) {
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
