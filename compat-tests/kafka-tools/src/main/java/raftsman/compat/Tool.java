package raftsman.compat;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main method of one of Kafka's tools inside this JVM, as its script would: arguments in, exit code and
 * output out. A JVM per tool would cost a second or two each.
 */
record Tool(int code, String out, String err) {
    private static final long LIMIT_S = 30;

    /** What {@code Exit.exit} does here: it ends the tool and not the suite. */
    private static final class Exited extends RuntimeException {
        Exited(int code) {
            super("exit " + code, null, false, false);
        }
    }

    /** The code of the first exit: some tools catch everything in main, this exception too, and exit once more. */
    private static final AtomicReference<Integer> EXIT_CODE = new AtomicReference<>();

    /** Hooks a tool wants run when its process ends; they run when the tool ends. */
    private static final List<Runnable> HOOKS = new ArrayList<>();

    static void takeOverExit() {
        Exit.setExitProcedure((code, message) -> {
            EXIT_CODE.compareAndSet(null, code);
            throw new Exited(code);
        });
        Exit.setHaltProcedure((code, message) -> {
            EXIT_CODE.compareAndSet(null, code);
            throw new Exited(code);
        });
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
    }

    static Tool run(String main, String... arguments) throws Exception {
        return runWithInput("", main, arguments);
    }

    static Tool runWithInput(String input, String main, String... arguments) throws Exception {
        PrintStream realOut = System.out;
        PrintStream realErr = System.err;
        InputStream realIn = System.in;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        ExecutorService thread = Executors.newSingleThreadExecutor();
        int code = 0;
        try {
            Future<?> done = thread.submit(() -> {
                Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) arguments);
                return null;
            });
            done.get(LIMIT_S, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException error) {
            Throwable cause = error.getCause() instanceof InvocationTargetException inner ? inner.getCause() : error.getCause();
            if (!(cause instanceof Exited)) {
                cause.printStackTrace(System.err);
                code = 1;
            }
        } catch (TimeoutException error) {
            System.err.println("the tool did not end within " + LIMIT_S + " s");
            code = 124;
        } finally {
            thread.shutdownNow();
            HOOKS.forEach(Runnable::run);
            HOOKS.clear();
            System.out.flush();
            System.err.flush();
            System.setOut(realOut);
            System.setErr(realErr);
            System.setIn(realIn);
        }
        Integer exited = EXIT_CODE.getAndSet(null);
        if (exited != null && code != 124) {
            code = exited;
        }
        return new Tool(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    /** The tool must have ended with this code. */
    Tool ended(int wanted) {
        if (code != wanted) {
            throw new AssertionError("ended with " + code + ": " + shorten(out + err));
        }
        return this;
    }

    Tool says(String... texts) {
        for (String text : texts) {
            if (!out.contains(text)) {
                throw new AssertionError("does not print \"" + text + "\" but: " + shorten(out + err));
            }
        }
        return this;
    }

    Tool saysNot(String text) {
        if (out.contains(text)) {
            throw new AssertionError("prints \"" + text + "\": " + shorten(out));
        }
        return this;
    }

    /** In either stream: the tools are of two minds about where errors go. */
    Tool complains(String text) {
        if (!(out + err).contains(text)) {
            throw new AssertionError("does not complain \"" + text + "\" but: " + shorten(out + err));
        }
        return this;
    }

    List<String> lines() {
        return out.isEmpty() ? List.of() : Arrays.asList(out.split("\n"));
    }

    private static String shorten(String text) {
        text = text.strip().replace("\n", " | ");
        return text.length() < 700 ? text : text.substring(0, 700) + "…";
    }
}
