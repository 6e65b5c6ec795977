package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.consumer;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.partition;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.until;

import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;
import org.apache.kafka.common.message.OffsetCommitRequestData;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.requests.OffsetCommitRequest;
import org.apache.kafka.common.requests.OffsetCommitResponse;

/** Committed offsets: kept, refused, and where a group starts. */
final class CommitChecks {
    private CommitChecks() {}

    static void addTo(Checks checks) {
        checks.add("commitSync with metadata and leader epoch; committed gives them back", CommitChecks::metadata);
        checks.add("commitAsync: callbacks in order, the last one counts", CommitChecks::async);
        checks.add("metadata above offset.metadata.max.bytes is refused (OffsetMetadataTooLarge)", CommitChecks::tooLarge);
        checks.add("a commit of an old generation is refused", CommitChecks::oldGeneration);
        checks.add("a member that was removed cannot commit (CommitFailed)", CommitChecks::removed);
        checks.add("a consumer that assigns commits to a group without members, not to one with members", CommitChecks::standalone);
        checks.add("auto commit, by interval and at the close; the next consumer goes on there", CommitChecks::automatic);
        checks.add("a group that goes on where it stopped", CommitChecks::resume);
        checks.add("offsets of topics that do not exist", CommitChecks::unknownTopic);
        checks.add("offsetsForTimes and seek in a group", CommitChecks::seekByTime);
        checks.add("auto.offset.reset in a group: earliest, latest, none, by_duration", CommitChecks::reset);
        checks.add("a committed offset beyond the log's end is reset", CommitChecks::outOfRange);
        checks.add("three hundred partitions committed at once", CommitChecks::many);
    }

    private static void metadata() throws Exception {
        String topic = topic("metadata", 2);
        String group = name("metadata");
        TopicPartition zero = partition(topic);
        TopicPartition one = new TopicPartition(topic, 1);
        OffsetAndMetadata first = new OffsetAndMetadata(5, Optional.of(0), "my näme");
        try (Member member = Member.join(group, topic)) {
            Member.share(2, member);
            member.ask(consumer -> {
                consumer.commitSync(Map.of(zero, first));
                return null;
            });
            Map<TopicPartition, OffsetAndMetadata> wanted = new java.util.HashMap<>();
            wanted.put(zero, first);
            wanted.put(one, null);
            same(wanted, member.ask(consumer -> consumer.committed(Set.of(zero, one))), "committed");
            OffsetAndMetadata second = new OffsetAndMetadata(3);
            member.ask(consumer -> {
                consumer.commitSync(Map.of(zero, second, one, new OffsetAndMetadata(7, "")));
                return null;
            });
            same(Map.of(zero, second, one, new OffsetAndMetadata(7)), member.ask(consumer -> consumer.committed(Set.of(zero, one))), "committed again, lower");
        }
        same(3L, Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(zero).offset(), "after the member left");
    }

    private static void async() throws Exception {
        String topic = topic("async", 1);
        String group = name("async");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group)) {
            consumer.assign(List.of(partition(topic)));
            List<Long> done = new java.util.ArrayList<>();
            for (long offset = 0; offset < 200; offset++) {
                consumer.commitAsync(Map.of(partition(topic), new OffsetAndMetadata(offset)), (offsets, error) -> {
                    same(null, error, "error");
                    done.add(offsets.get(partition(topic)).offset());
                });
            }
            until("all callbacks", () -> {
                consumer.poll(Duration.ofMillis(10));
                return done.size() == 200;
            });
            same(Checks.range(0, 200).stream().map(Long::valueOf).toList(), done, "callbacks");
            same(199L, consumer.committed(Set.of(partition(topic))).get(partition(topic)).offset(), "committed");
        }
    }

    private static void tooLarge() throws Exception {
        String topic = topic("too-large", 1);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("too-large"))) {
            consumer.assign(List.of(partition(topic)));
            consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(1, "m".repeat(4096))));
            fails(OffsetMetadataTooLarge.class, () -> {
                consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(2, "m".repeat(4097))));
                return null;
            });
            same(1L, consumer.committed(Set.of(partition(topic))).get(partition(topic)).offset(), "committed");
        }
    }

    private static Errors commit(String group, String member, int generation, String instance, String topic, long offset, int... version) throws Exception {
        OffsetCommitRequestData.OffsetCommitRequestPartition partition =
                new OffsetCommitRequestData.OffsetCommitRequestPartition().setPartitionIndex(0).setCommittedOffset(offset);
        OffsetCommitRequestData data = new OffsetCommitRequestData().setGroupId(group).setMemberId(member).setGenerationIdOrMemberEpoch(generation).setGroupInstanceId(instance)
                .setTopics(List.of(new OffsetCommitRequestData.OffsetCommitRequestTopic().setName(topic).setPartitions(List.of(partition))));
        OffsetCommitResponse answer = (OffsetCommitResponse) Wire.ask(OffsetCommitRequest.Builder.forTopicNames(data).build((short) (version.length > 0 ? version[0] : 9)));
        return Errors.forCode(answer.data().topics().get(0).partitions().get(0).errorCode());
    }

    private static void oldGeneration() throws Exception {
        String topic = topic("old", 2);
        String group = name("old");
        try (Member member = Member.join(group, topic, "group.instance.id", "i")) {
            Member.share(2, member);
            int old = member.generation();
            String id = member.id();
            same(Errors.NONE, commit(group, id, old, "i", topic, 1), "commit of the generation");
            same(Errors.NONE, commit(group, id, old, null, topic, 2), "commit without the instance");
            same(Errors.FENCED_INSTANCE_ID, commit(group, "other", old, "i", topic, 3), "commit of a fenced instance");
            same(Errors.UNKNOWN_MEMBER_ID, commit(group, "other", old, null, topic, 3), "commit of a stranger");
            same(Errors.UNKNOWN_MEMBER_ID, commit(group, "", -1, null, topic, 3), "commit of no member");
            try (Member second = Member.join(group, topic)) {
                Member.share(2, member, second);
                same(Errors.ILLEGAL_GENERATION, commit(group, id, old, "i", topic, 4), "commit of the old generation");
                same(Errors.ILLEGAL_GENERATION, commit(group, id, old + 100, "i", topic, 4), "commit of a later generation");
            }
            same(2L, member.ask(consumer -> consumer.committed(Set.of(partition(topic)))).get(partition(topic)).offset(), "committed");
        }
        same(Errors.GROUP_ID_NOT_FOUND, commit(name("none"), "m", 1, null, topic, 1), "commit with a generation in no group");
        same(Errors.ILLEGAL_GENERATION, commit(name("none"), "m", 1, null, topic, 1, 8), "the same with version 8");
        same(Errors.NONE, commit(name("none"), "", -1, null, topic, 1), "commit without a generation in no group");
        same(Errors.UNKNOWN_TOPIC_OR_PARTITION, commit(name("none"), "", -1, null, name("none"), 1), "commit for no topic");
        same(Errors.GROUP_ID_NOT_FOUND, commit("", "m", 1, null, topic, 1), "commit for the empty group");
    }

    private static void removed() throws Exception {
        String topic = topic("removed", 1);
        String group = name("removed");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group, "session.timeout.ms", "30000", "heartbeat.interval.ms", "10000")) {
            consumer.subscribe(List.of(topic));
            until("an assignment", () -> {
                consumer.poll(Duration.ofMillis(50));
                return !consumer.assignment().isEmpty();
            });
            Broker.wait(ADMIN.removeMembersFromConsumerGroup(group, new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions()).all());
            fails(CommitFailedException.class, () -> {
                consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(1)));
                return null;
            });
            CompletableFuture<Exception> answer = new CompletableFuture<>();
            consumer.commitAsync(Map.of(partition(topic), new OffsetAndMetadata(1)), (offsets, error) -> answer.complete(error));
            until("the callback", () -> {
                consumer.poll(Duration.ofMillis(50));
                return answer.isDone();
            });
            same(CommitFailedException.class, answer.get().getClass(), "error of commitAsync");
            until("it joins again and commits", () -> {
                consumer.poll(Duration.ofMillis(50));
                return !consumer.assignment().isEmpty();
            });
            consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(2)));
        }
    }

    private static void standalone() throws Exception {
        String topic = topic("standalone", 1);
        String group = name("standalone");
        try (KafkaConsumer<byte[], byte[]> alone = consumer("group.id", group)) {
            alone.assign(List.of(partition(topic)));
            alone.commitSync(Map.of(partition(topic), new OffsetAndMetadata(4)));
            try (Member member = Member.join(group, topic)) {
                Member.share(1, member);
                same(4L, member.ask(consumer -> consumer.committed(Set.of(partition(topic)))).get(partition(topic)).offset(), "offset the member finds");
                fails(CommitFailedException.class, () -> {
                    alone.commitSync(Map.of(partition(topic), new OffsetAndMetadata(9)));
                    return null;
                });
            }
            alone.commitSync(Map.of(partition(topic), new OffsetAndMetadata(6)));
            same(6L, alone.committed(Set.of(partition(topic))).get(partition(topic)).offset(), "offset after the member left");
        }
    }

    private static void automatic() throws Exception {
        String topic = topic("automatic", 1);
        String group = name("automatic");
        Broker.fill(topic, 50);
        String[] config = {"group.id", group, "enable.auto.commit", "true", "auto.commit.interval.ms", "100", "max.poll.records", "10"};
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(config)) {
            consumer.subscribe(List.of(topic));
            Broker.poll(consumer, 10);
            Broker.poll(consumer, 10);
            until("the interval's commit", () -> {
                consumer.pause(consumer.assignment());
                consumer.poll(Duration.ofMillis(50));
                OffsetAndMetadata committed = consumer.committed(Set.of(partition(topic))).get(partition(topic));
                return committed != null && committed.offset() == 20;
            });
            consumer.resume(consumer.assignment());
            Broker.poll(consumer, 10);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(config)) {
            consumer.subscribe(List.of(topic));
            same(Broker.numbers(30, 40), Broker.values(Broker.poll(consumer, 10)), "values after the close's commit");
        }
    }

    private static void resume() throws Exception {
        String topic = topic("resume", 3);
        String group = name("resume");
        int produced = 0;
        for (int round = 0; round < 3; round++) {
            try (Source source = RebalanceChecks.source(topic, 3, 500); Member one = Member.join(group, topic); Member two = Member.join(group, topic)) {
                until("some records", () -> one.values.size() + two.values.size() > 100);
                produced = source.end();
                int wanted = produced;
                until("all records of this round", () -> one.values.size() + two.values.size() >= wanted);
                same(wanted, one.values.size() + two.values.size(), "records of round " + round + ", none twice");
            }
        }
    }

    private static void unknownTopic() throws Exception {
        String topic = topic("known", 1);
        TopicPartition none = new TopicPartition(name("none"), 0);
        TopicPartition beyond = new TopicPartition(topic, 7);
        String group = name("unknown");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group, "default.api.timeout.ms", "3000")) {
            consumer.assign(List.of(partition(topic)));
            consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(1)));
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.of(none, beyond, partition(topic)));
            same(null, committed.get(none), "of no topic");
            same(null, committed.get(beyond), "of no partition");
            same(1L, committed.get(partition(topic)).offset(), "of a partition");
            // a topic that does not exist is waited for
            for (TopicPartition each : List.of(none, beyond)) {
                fails(org.apache.kafka.common.errors.TimeoutException.class, () -> {
                    consumer.commitSync(Map.of(each, new OffsetAndMetadata(1)), Duration.ofMillis(500));
                    return null;
                });
            }
        }
        same(Set.of(partition(topic)), Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), "partitions with offsets");
        same(Map.of(), Broker.wait(ADMIN.listConsumerGroupOffsets(name("nobody")).partitionsToOffsetAndMetadata()), "offsets of no group");
    }

    private static void seekByTime() throws Exception {
        String topic = topic("by-time", 1);
        long start = System.currentTimeMillis() - 1_000_000;
        Broker.fill(topic, 100, start);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("by-time"), "max.poll.records", "500")) {
            consumer.subscribe(List.of(topic));
            Broker.poll(consumer, 100);
            long offset = consumer.offsetsForTimes(Map.of(partition(topic), start + 60)).get(partition(topic)).offset();
            same(60L, offset, "offset of the time");
            consumer.seek(partition(topic), offset);
            same(Broker.numbers(60, 100), Broker.values(Broker.poll(consumer, 40)), "values from there");
            consumer.commitSync(Map.of(partition(topic), new OffsetAndMetadata(offset)));
            same(60L, consumer.committed(Set.of(partition(topic))).get(partition(topic)).offset(), "committed");
        }
    }

    private static void reset() throws Exception {
        String topic = topic("reset", 1);
        long now = System.currentTimeMillis();
        Broker.fill(topic, 10, now - 7_200_000);
        Broker.fill(topic, 5, now - 60_000);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("earliest"), "auto.offset.reset", "earliest")) {
            consumer.subscribe(List.of(topic));
            Broker.poll(consumer, 15);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("duration"), "auto.offset.reset", "by_duration:PT1H")) {
            consumer.subscribe(List.of(topic));
            same(10L, Broker.poll(consumer, 5).get(0).offset(), "first by duration");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("none"), "auto.offset.reset", "none")) {
            consumer.subscribe(List.of(topic));
            NoOffsetForPartitionException error = fails(NoOffsetForPartitionException.class, () -> pollSome(consumer));
            same(Set.of(partition(topic)), error.partitions(), "partitions");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", name("latest"), "auto.offset.reset", "latest")) {
            consumer.subscribe(List.of(topic));
            until("a position", () -> {
                consumer.poll(Duration.ofMillis(50));
                return !consumer.assignment().isEmpty();
            });
            same(15L, consumer.position(partition(topic)), "position at the end");
            Broker.fill(topic, 1);
            same(15L, Broker.poll(consumer, 1).get(0).offset(), "first");
        }
    }

    private static Object pollSome(KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        until("records", () -> !consumer.poll(Duration.ofMillis(100)).isEmpty());
        return "records";
    }

    private static void outOfRange() throws Exception {
        String topic = topic("out-of-range", 1);
        String group = name("out-of-range");
        Broker.fill(topic, 10);
        Broker.wait(ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(99))).all());
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group)) {
            consumer.subscribe(List.of(topic));
            same(0L, Broker.poll(consumer, 10).get(0).offset(), "first");
        }
    }

    private static void many() throws Exception {
        String topic = topic("many", 300);
        String group = name("many");
        Map<TopicPartition, OffsetAndMetadata> offsets = new java.util.HashMap<>();
        Checks.range(0, 300).forEach(number -> offsets.put(new TopicPartition(topic, number), new OffsetAndMetadata(number, "partition " + number)));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group)) {
            consumer.assign(offsets.keySet());
            consumer.commitSync(offsets);
            same(offsets, consumer.committed(new HashSet<>(offsets.keySet())), "committed");
        }
        same(offsets, Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()), "listed");
    }
}
