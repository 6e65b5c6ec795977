package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.partition;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;

/** What groups keep when the broker ends and starts again. */
final class RestartChecks {
    private RestartChecks() {}

    static void addTo(Checks checks) {
        for (String how : List.of("stop", "kill")) {
            checks.addAlone("restart of the broker (" + how + "): commits are kept, members go on, nothing is lost", () -> restart(how));
        }
    }

    private static void restart(String how) throws Exception {
        String topic = topic("restart", 3);
        String group = name("restart");
        String simple = name("simple");
        String deleted = name("deleted");
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        Checks.range(0, 3).forEach(number -> offsets.put(new TopicPartition(topic, number), new OffsetAndMetadata(number + 1, Optional.of(0), "metadata " + number)));
        Broker.wait(ADMIN.alterConsumerGroupOffsets(simple, offsets).all());
        Broker.wait(ADMIN.alterConsumerGroupOffsets(deleted, offsets).all());
        Broker.wait(ADMIN.deleteConsumerGroups(List.of(deleted)).all());
        // By default a client that finds no broker forgets its metadata, and a group's leader that does so has it rebalance.
        String[] config = {"session.timeout.ms", "45000", "metadata.recovery.strategy", "none"};
        String[] fixed = {"session.timeout.ms", "45000", "metadata.recovery.strategy", "none", "group.instance.id", "static"};
        try (Source source = RebalanceChecks.source(topic, 3, 100);
                Member one = Member.join(group, topic, config);
                Member two = Member.join(group, topic, fixed)) {
            Member.share(3, one, two);
            until("some are read", () -> one.values.size() + two.values.size() > 30);
            int generation = one.generation();
            List<String> events = List.copyOf(one.events);
            Broker.control("/restart?how=" + how);
            int before = one.values.size();
            until("more are read", () -> one.values.size() > before + 10);
            same(offsets, Broker.wait(ADMIN.listConsumerGroupOffsets(simple).partitionsToOffsetAndMetadata()), "offsets");
            same(Map.of(), Broker.wait(ADMIN.listConsumerGroupOffsets(deleted).partitionsToOffsetAndMetadata()), "offsets of the deleted group");
            int count = source.end();
            RebalanceChecks.haveRead(count, one, two);
            same(null, one.error, "error of a member");
            same(null, two.error, "error of a member");
            if (!"kafka".equals(System.getenv("BROKER"))) {
                // Kafka serves metadata before it is whole, and the group's leader may then rebalance.
                same(generation, one.generation(), "generation");
                same(events, one.events, "events");
            }
            same(GroupState.STABLE, Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).groupState(), "state");
            until("all is committed", () -> Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).values().stream()
                    .mapToLong(OffsetAndMetadata::offset).sum() == count);
            one.close();
            Member.share(3, two);
        }
        // the next members find all of it read, after one more restart too
        Broker.control("/restart?how=" + how);
        try (Member next = Member.join(group, topic, "group.instance.id", "static")) {
            Member.share(3, next);
            Broker.fill(topic, 5);
            until("the new records", () -> next.values.size() >= 5);
            same(Broker.numbers(0, 5), List.copyOf(next.values), "values");
        }
        that(Broker.wait(ADMIN.listConsumerGroupOffsets(simple).partitionsToOffsetAndMetadata()).containsKey(partition(topic)), "the offset is gone");
    }
}
