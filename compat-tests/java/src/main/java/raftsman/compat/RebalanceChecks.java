package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.TopicPartition;

/** Who owns which partition as members, topics and partitions come and go; while records are produced. */
final class RebalanceChecks {
    private RebalanceChecks() {}

    private static final String ASSIGNORS = "org.apache.kafka.clients.consumer.";

    static void addTo(Checks checks) {
        checks.add("range: members join, leave and die while records are produced; all are read", () -> comeAndGo("RangeAssignor"));
        checks.add("roundrobin: members join, leave and die while records are produced; all are read", () -> comeAndGo("RoundRobinAssignor"));
        checks.add("sticky: members join, leave and die while records are produced; all are read", () -> comeAndGo("StickyAssignor"));
        checks.add("cooperative-sticky: members join, leave and die while records are produced; all are read",
                () -> comeAndGo("CooperativeStickyAssignor"));
        checks.add("cooperative-sticky: only what moves is revoked", RebalanceChecks::cooperative);
        checks.add("from range to cooperative-sticky by rolling bounces with both", RebalanceChecks::upgrade);
        checks.add("two groups read the same topic, each all of it", RebalanceChecks::twoGroups);
        checks.add("members with different topics get only theirs", RebalanceChecks::differentTopics);
        checks.add("more members than partitions: the idle one takes over", RebalanceChecks::idle);
        checks.add("ten members join at once", RebalanceChecks::ten);
        checks.add("a pattern: topics created and deleted later", RebalanceChecks::pattern);
        checks.add("partitions added while subscribed", RebalanceChecks::grown);
        checks.add("enforceRebalance", RebalanceChecks::enforced);
        checks.add("client.rack goes with the subscription", RebalanceChecks::rack);
        checks.add("a change of the subscription moves the group on", RebalanceChecks::resubscribe);
    }

    /** Produces values "0", "1", … over all partitions until it is closed. */
    static Source source(String topic, int partitions, int perSecond) {
        return new Source(topic, partitions, perSecond,
                () -> Broker.producer("linger.ms", "5", "delivery.timeout.ms", "60000", "max.block.ms", "60000"), Broker::bytes);
    }

    /** The members, past ones too, read 0 to count, each value at least once. */
    static void haveRead(int count, Member... members) throws Exception {
        try {
            until("all is read", () -> distinct(members).size() >= count);
        } catch (AssertionError error) {
            Set<Integer> missing = new TreeSet<>(Checks.range(0, count));
            missing.removeAll(distinct(members));
            throw new AssertionError("of " + count + " these were not read: " + missing);
        }
        same(count, distinct(members).size(), "distinct values");
    }

    private static Set<Integer> distinct(Member... members) {
        Set<Integer> all = new HashSet<>();
        for (Member member : members) {
            synchronized (member.values) {
                member.values.forEach(value -> all.add(Integer.valueOf(value)));
            }
        }
        return all;
    }

    private static void comeAndGo(String assignor) throws Exception {
        String topic = topic(assignor, 6);
        String group = name(assignor);
        String[] config = {"partition.assignment.strategy", ASSIGNORS + assignor, "session.timeout.ms", "2500"};
        try (Source source = source(topic, 6, 200); Member first = Member.join(group, topic, config)) {
            Member.share(6, first);
            Member second = Member.join(group, topic, config);
            Member.share(6, first, second);
            Member third = Member.join(group, topic, config);
            Member.share(6, first, second, third);
            second.close();
            Member.share(6, first, third);
            third.die();
            Member.share(6, first);
            haveRead(source.end(), first, second, third);
            for (Member each : List.of(first, second, third)) {
                same(null, each.error, "error of a member");
            }
        }
    }

    private static void cooperative() throws Exception {
        String topic = topic("cooperative", 4);
        String group = name("cooperative");
        String[] config = {"partition.assignment.strategy", ASSIGNORS + "CooperativeStickyAssignor"};
        try (Member first = Member.join(group, topic, config)) {
            Member.share(4, first);
            try (Member second = Member.join(group, topic, config)) {
                Member.share(4, first, second);
                List<String> revoked = first.events.stream().filter(event -> event.startsWith("revoked")).toList();
                same(1, revoked.size(), "revocations " + first.events);
                same(Set.of(2), Set.of(revoked.get(0).split(",").length), "what was revoked: " + revoked);
            }
            Member.share(4, first);
            same(1L, first.events.stream().filter(event -> event.startsWith("revoked [" + topic)).count(), "revocations after the second left: " + first.events);
        }
    }

    private static void upgrade() throws Exception {
        String topic = topic("upgrade", 4);
        String group = name("upgrade");
        String both = ASSIGNORS + "CooperativeStickyAssignor," + ASSIGNORS + "RangeAssignor";
        Member one = Member.join(group, topic, "partition.assignment.strategy", ASSIGNORS + "RangeAssignor");
        Member two = Member.join(group, topic, "partition.assignment.strategy", both);
        Member.share(4, one, two);
        same("range", describe(group), "assignor while one member knows only range");
        one.close();
        Member.share(4, two);
        same("cooperative-sticky", describe(group), "assignor once all know both");
        try (Member three = Member.join(group, topic, "partition.assignment.strategy", ASSIGNORS + "CooperativeStickyAssignor")) {
            Member.share(4, two, three);
        }
        two.close();
    }

    private static String describe(String group) throws Exception {
        return Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).partitionAssignor();
    }

    private static void twoGroups() throws Exception {
        String topic = topic("two-groups", 2);
        Broker.fill(topic, 100);
        try (Member one = Member.join(name("one"), topic); Member other = Member.join(name("other"), topic)) {
            haveRead(100, one);
            haveRead(100, other);
        }
    }

    private static void differentTopics() throws Exception {
        String left = topic("left", 2);
        String right = topic("right", 2);
        String group = name("different");
        try (Member one = Member.join(group, left); Member both = Member.join(group, List.of(left, right))) {
            until("each has its own", () -> one.owned().size() == 1 && both.owned().size() == 3);
            that(one.owned().iterator().next().topic().equals(left), "one has " + one.owned());
        }
    }

    private static void idle() throws Exception {
        String topic = topic("idle", 1);
        String group = name("idle");
        try (Member one = Member.join(group, topic)) {
            Member.share(1, one);
            try (Member other = Member.join(group, topic)) {
                until("both are assigned", () -> other.assignments.get() > 0);
                Member.share(1, one, other);
                Member busy = one.owned().isEmpty() ? other : one;
                Member free = busy == one ? other : one;
                Broker.fill(topic, 10);
                until("the records", () -> busy.values.size() == 10);
                busy.close();
                Member.share(1, free);
                same(0, free.values.size(), "records read again");
            }
        }
    }

    private static void ten() throws Exception {
        String topic = topic("ten", 20);
        String group = name("ten");
        List<Member> members = new ArrayList<>();
        try {
            for (int i = 0; i < 10; i++) {
                members.add(Member.join(group, topic));
            }
            Member.share(20, members.toArray(new Member[0]));
            same(10, Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).members().size(), "members");
        } finally {
            for (Member member : members) {
                member.close();
            }
        }
    }

    private static void pattern() throws Exception {
        String prefix = name("pattern");
        Broker.wait(ADMIN.createTopics(List.of(new NewTopic(prefix + "-one", 1, (short) 1), new NewTopic("not-" + prefix, 1, (short) 1))).all());
        try (Member member = Member.join(prefix, Pattern.compile(prefix + "-.*"), "metadata.max.age.ms", "300")) {
            Member.share(1, member);
            Broker.wait(ADMIN.createTopics(List.of(new NewTopic(prefix + "-two", 2, (short) 1))).all());
            Member.share(3, member);
            Broker.wait(ADMIN.deleteTopics(List.of(prefix + "-one")).all());
            Member.share(2, member);
            same(Set.of(new TopicPartition(prefix + "-two", 0), new TopicPartition(prefix + "-two", 1)), member.owned(), "what is left");
        }
    }

    private static void grown() throws Exception {
        String topic = topic("grown", 1);
        try (Member member = Member.join(name("grown"), topic, "metadata.max.age.ms", "300")) {
            Member.share(1, member);
            Broker.wait(ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
            Member.share(3, member);
        }
    }

    private static void enforced() throws Exception {
        String topic = topic("enforced", 2);
        String group = name("enforced");
        try (Member one = Member.join(group, topic); Member other = Member.join(group, topic)) {
            Member.share(2, one, other);
            int before = one.generation();
            one.ask(consumer -> {
                consumer.enforceRebalance("for a check");
                return null;
            });
            until("a new generation", () -> one.generation() > before && other.generation() == one.generation());
            Member.share(2, one, other);
        }
    }

    private static void rack() throws Exception {
        String topic = topic("rack", 2);
        String group = name("rack");
        try (Member one = Member.join(group, topic, "client.rack", "a"); Member other = Member.join(group, topic, "client.rack", "b")) {
            Member.share(2, one, other);
            Broker.fill(topic, 10);
            haveRead(10, one, other);
        }
    }

    private static void resubscribe() throws Exception {
        String first = topic("first", 2);
        String second = topic("second", 2);
        String group = name("resubscribe");
        try (Member one = Member.join(group, first); Member other = Member.join(group, first)) {
            Member.share(2, one, other);
            one.ask(consumer -> {
                consumer.subscribe(List.of(second), one);
                return null;
            });
            until("the other has all of the first", () -> other.owned().size() == 2);
            until("the one has all of the second", () -> one.owned().equals(Set.of(new TopicPartition(second, 0), new TopicPartition(second, 1))));
            one.ask(consumer -> {
                consumer.unsubscribe();
                consumer.subscribe(List.of(first), one);
                return null;
            });
            Member.share(2, one, other);
        }
    }
}
