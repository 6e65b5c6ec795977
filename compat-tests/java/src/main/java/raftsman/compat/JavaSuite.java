package raftsman.compat;

/** Apache Kafka's own Java client against the broker at BOOTSTRAP. One argument: run only checks with that in their name. */
public final class JavaSuite {
    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        ProducerChecks.addTo(checks);
        ConsumerChecks.addTo(checks);
        TopicChecks.addTo(checks);
        AdminChecks.addTo(checks);
        ErrorChecks.addTo(checks);
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        // Exit at once: a check that timed out may have left a thread behind.
        Runtime.getRuntime().halt(code);
    }
}
