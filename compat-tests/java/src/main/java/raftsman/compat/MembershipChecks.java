package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.fails;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.InvalidGroupIdException;
import org.apache.kafka.common.errors.InvalidSessionTimeoutException;
import org.apache.kafka.common.message.HeartbeatRequestData;
import org.apache.kafka.common.message.JoinGroupRequestData;
import org.apache.kafka.common.message.LeaveGroupRequestData;
import org.apache.kafka.common.message.SyncGroupRequestData;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.requests.HeartbeatRequest;
import org.apache.kafka.common.requests.HeartbeatResponse;
import org.apache.kafka.common.requests.JoinGroupRequest;
import org.apache.kafka.common.requests.JoinGroupResponse;
import org.apache.kafka.common.requests.LeaveGroupRequest;
import org.apache.kafka.common.requests.LeaveGroupResponse;
import org.apache.kafka.common.requests.SyncGroupRequest;
import org.apache.kafka.common.requests.SyncGroupResponse;

/** How members are known, kept, fenced and lost. */
final class MembershipChecks {
    private MembershipChecks() {}

    static void addTo(Checks checks) {
        checks.add("a static member that restarts within its session keeps its partitions, and nobody rebalances", MembershipChecks::staticRestart);
        checks.add("a static member that stays away is missed after its session", MembershipChecks::staticTimeout);
        checks.add("a second consumer with the same group.instance.id fences the first", MembershipChecks::fenced);
        checks.add("a static member removed by the admin client", MembershipChecks::staticRemoved);
        checks.add("max.poll.interval.ms exceeded: another takes over, the commit fails, the member comes back", MembershipChecks::maxPollInterval);
        checks.add("a member that dies is missed after its session, not before", MembershipChecks::session);
        checks.add("session.timeout.ms out of the broker's bounds (InvalidSessionTimeout)", MembershipChecks::sessionBounds);
        checks.add("no group.id, or an empty one, is refused (InvalidGroupId)", MembershipChecks::emptyGroup);
        checks.add("protocols that do not match the group's (InconsistentGroupProtocol)", MembershipChecks::inconsistent);
        checks.add("refusals of JoinGroup, SyncGroup, Heartbeat and LeaveGroup", MembershipChecks::refusals);
    }

    private static void staticRestart() throws Exception {
        String topic = topic("static", 4);
        String group = name("static");
        try (Member stays = Member.join(group, topic, "group.instance.id", "stays")) {
            Member leaves = Member.join(group, topic, "group.instance.id", "restarts");
            Member.share(4, stays, leaves);
            Set<TopicPartition> owned = leaves.owned();
            int generation = stays.generation();
            List<String> events = List.copyOf(stays.events);
            String id = leaves.id();
            leaves.close();
            try (Member back = Member.join(group, topic, "group.instance.id", "restarts")) {
                until("the partitions are back", () -> back.owned().equals(owned));
                that(!back.id().equals(id), "the member id is the old one: " + id);
                same(generation, back.generation(), "generation");
                same(generation, stays.generation(), "generation of the other");
                same(events, stays.events, "events of the other");
                Broker.fill(topic, 10);
                RebalanceChecks.haveRead(10, stays, back);
            }
        }
    }

    private static void staticTimeout() throws Exception {
        String topic = topic("static-timeout", 2);
        String group = name("static-timeout");
        String[] session = {"session.timeout.ms", "1500"};
        try (Member stays = Member.join(group, topic, "group.instance.id", "stays")) {
            Member leaves = Member.join(group, topic, "group.instance.id", "leaves", session[0], session[1]);
            Member.share(2, stays, leaves);
            leaves.close();
            same(1, stays.owned().size(), "partitions of the other at once");
            Member.share(2, stays);
        }
    }

    private static void fenced() throws Exception {
        String topic = topic("fenced", 2);
        String group = name("fenced");
        Member first = Member.join(group, topic, "group.instance.id", "twin");
        Member.share(2, first);
        try (Member second = Member.join(group, topic, "group.instance.id", "twin")) {
            until("the first is fenced", () -> first.error != null);
            same(FencedInstanceIdException.class, first.error.getClass(), "error of the first");
            Member.share(2, second);
        }
    }

    private static void staticRemoved() throws Exception {
        String topic = topic("removed", 2);
        String group = name("removed");
        try (Member stays = Member.join(group, topic, "group.instance.id", "stays")) {
            Member leaves = Member.join(group, topic, "group.instance.id", "leaves");
            Member.share(2, stays, leaves);
            leaves.close();
            Broker.wait(ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("leaves")))).all());
            Member.share(2, stays);
        }
    }

    private static void maxPollInterval() throws Exception {
        String topic = topic("max-poll", 2);
        String group = name("max-poll");
        Broker.fill(topic, 5);
        try (Member slow = Member.join(group, topic, "max.poll.interval.ms", "1500"); Member other = Member.join(group, topic)) {
            Member.share(2, slow, other);
            CountDownLatch go = slow.pause();
            Member.share(2, other);
            // Runs before the consumer polls again.
            CompletableFuture<?> commit = slow.submit(consumer -> {
                consumer.commitSync();
                return null;
            });
            go.countDown();
            fails(CommitFailedException.class, () -> Broker.wait(commit));
            until("the slow one lost its partition", () -> slow.events.stream().anyMatch(event -> event.startsWith("lost")));
            Member.share(2, slow, other);
            same(null, slow.error, "error of the slow one");
        }
    }

    private static void session() throws Exception {
        String topic = topic("session", 2);
        String group = name("session");
        try (Member stays = Member.join(group, topic)) {
            Member dies = Member.join(group, topic, "session.timeout.ms", "3000");
            Member.share(2, stays, dies);
            long died = System.nanoTime();
            dies.die();
            Member.share(2, stays);
            // The last heartbeat may be as old as the interval of 200 ms (and the scheduler's mood).
            that(System.nanoTime() - died > 2_000_000_000L, "missed after " + (System.nanoTime() - died) / 1_000_000 + " ms");
        }
    }

    private static void sessionBounds() throws Exception {
        String topic = topic("bounds", 1);
        for (String session : List.of("999", "1800001")) {
            try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer("group.id", name("bounds"), "session.timeout.ms", session, "heartbeat.interval.ms", "100")) {
                consumer.subscribe(List.of(topic));
                fails(InvalidSessionTimeoutException.class, () -> pollOn(consumer));
            }
        }
    }

    private static Object pollOn(KafkaConsumer<byte[], byte[]> consumer) {
        long end = System.nanoTime() + Duration.ofMillis(Checks.LIMIT_MS).toNanos();
        while (System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(100));
        }
        return "polled " + Checks.LIMIT_MS + " ms";
    }

    private static void emptyGroup() throws Exception {
        String topic = topic("empty", 1);
        try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer()) {
            fails(InvalidGroupIdException.class, () -> {
                consumer.subscribe(List.of(topic));
                return null;
            });
        }
        same(Errors.INVALID_GROUP_ID, joined("", "", "range", "consumer").error(), "JoinGroup");
    }

    private static void inconsistent() throws Exception {
        String topic = topic("inconsistent", 1);
        String group = name("inconsistent");
        try (Member range = Member.join(group, topic, "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor")) {
            Member.share(1, range);
            try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer("group.id", group, "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RoundRobinAssignor")) {
                consumer.subscribe(List.of(topic));
                fails(InconsistentGroupProtocolException.class, () -> pollOn(consumer));
            }
            // not a consumer at all
            same(Errors.INCONSISTENT_GROUP_PROTOCOL, joined(group, "", "range", "connect").error(), "JoinGroup of another type");
            same(null, range.error, "error of the member");
        }
    }

    private static JoinGroupResponse joined(String group, String member, String protocol, String type) throws Exception {
        JoinGroupRequestData.JoinGroupRequestProtocolCollection protocols = new JoinGroupRequestData.JoinGroupRequestProtocolCollection();
        if (protocol != null) {
            protocols.add(new JoinGroupRequestData.JoinGroupRequestProtocol().setName(protocol).setMetadata(new byte[] {0, 1}));
        }
        return (JoinGroupResponse) Wire.ask(new JoinGroupRequest.Builder(new JoinGroupRequestData().setGroupId(group).setMemberId(member).setProtocolType(type)
                .setProtocols(protocols).setSessionTimeoutMs(10_000).setRebalanceTimeoutMs(10_000)).build((short) 9));
    }

    private static Errors heartbeat(String group, String member, int generation) throws Exception {
        return ((HeartbeatResponse) Wire.ask(new HeartbeatRequest.Builder(new HeartbeatRequestData().setGroupId(group).setMemberId(member).setGenerationId(generation))
                .build((short) 4))).error();
    }

    private static Errors sync(String group, String member, int generation, String type, String protocol) throws Exception {
        return ((SyncGroupResponse) Wire.ask(new SyncGroupRequest.Builder(new SyncGroupRequestData().setGroupId(group).setMemberId(member).setGenerationId(generation)
                .setProtocolType(type).setProtocolName(protocol)).build((short) 5))).error();
    }

    private static void refusals() throws Exception {
        String group = name("refusals");
        same(Errors.INCONSISTENT_GROUP_PROTOCOL, joined(group, "", null, "consumer").error(), "JoinGroup without protocols");
        same(Errors.INCONSISTENT_GROUP_PROTOCOL, joined(group, "", "range", "").error(), "JoinGroup without a type");
        same(Errors.UNKNOWN_MEMBER_ID, joined(group, "nobody", "range", "consumer").error(), "JoinGroup of an unknown member");
        same(Errors.UNKNOWN_MEMBER_ID, heartbeat(group, "nobody", 1), "Heartbeat in no group");
        same(Errors.UNKNOWN_MEMBER_ID, sync(group, "nobody", 1, "consumer", "range"), "SyncGroup in no group");

        JoinGroupResponse asked = joined(group, "", "range", "consumer");
        same(Errors.MEMBER_ID_REQUIRED, asked.error(), "JoinGroup without an id");
        String id = asked.data().memberId();
        that(id.startsWith("wire-") && id.length() == 41, "member id: " + id);
        JoinGroupResponse joined = joined(group, id, "range", "consumer");
        same(Errors.NONE, joined.error(), "JoinGroup");
        same(List.of(1, id, id, "range", "consumer", 1), List.of(joined.data().generationId(), joined.data().leader(), joined.data().memberId(),
                joined.data().protocolName(), joined.data().protocolType(), joined.data().members().size()), "JoinGroup");
        same(Errors.NONE, heartbeat(group, id, 1), "Heartbeat before SyncGroup");
        same(Errors.INCONSISTENT_GROUP_PROTOCOL, sync(group, id, 1, "connect", "range"), "SyncGroup of another type");
        same(Errors.INCONSISTENT_GROUP_PROTOCOL, sync(group, id, 1, "consumer", "sticky"), "SyncGroup of another protocol");
        same(Errors.ILLEGAL_GENERATION, sync(group, id, 2, "consumer", "range"), "SyncGroup of another generation");
        same(Errors.UNKNOWN_MEMBER_ID, sync(group, "nobody", 1, "consumer", "range"), "SyncGroup of an unknown member");
        same(Errors.NONE, sync(group, id, 1, "consumer", "range"), "SyncGroup");
        same(Errors.NONE, heartbeat(group, id, 1), "Heartbeat");
        same(Errors.ILLEGAL_GENERATION, heartbeat(group, id, 0), "Heartbeat of an old generation");
        same(Errors.ILLEGAL_GENERATION, heartbeat(group, id, 2), "Heartbeat of a later generation");
        same(Errors.UNKNOWN_MEMBER_ID, heartbeat(group, "nobody", 1), "Heartbeat of an unknown member");

        LeaveGroupRequestData.MemberIdentity nobody = new LeaveGroupRequestData.MemberIdentity().setMemberId("nobody");
        LeaveGroupRequestData.MemberIdentity member = new LeaveGroupRequestData.MemberIdentity().setMemberId(id);
        LeaveGroupResponse left = (LeaveGroupResponse) Wire.ask(new LeaveGroupRequest.Builder(group, List.of(nobody, member)).build((short) 5));
        same(Errors.NONE, left.topLevelError(), "LeaveGroup");
        same(List.of(Errors.UNKNOWN_MEMBER_ID.code(), Errors.NONE.code()), left.memberResponses().stream().map(each -> each.errorCode()).toList(), "LeaveGroup by member");
        same(Errors.UNKNOWN_MEMBER_ID, heartbeat(group, id, 1), "Heartbeat after leaving");
    }
}
