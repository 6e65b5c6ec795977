package raftsman.compat;

/** Groups of the classic protocol with Apache Kafka's own Java client. One argument: run only checks with that in their name. */
public final class GroupSuite {
    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        RebalanceChecks.addTo(checks);
        MembershipChecks.addTo(checks);
        CommitChecks.addTo(checks);
        GroupAdminChecks.addTo(checks);
        RestartChecks.addTo(checks);
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        // Exit at once: a check that timed out may have left a thread behind.
        Runtime.getRuntime().halt(code);
    }
}
