package raftsman.compat;

import static raftsman.compat.Broker.ADMIN;
import static raftsman.compat.Broker.error;
import static raftsman.compat.Broker.name;
import static raftsman.compat.Broker.partition;
import static raftsman.compat.Broker.topic;
import static raftsman.compat.Checks.same;
import static raftsman.compat.Checks.that;
import static raftsman.compat.Checks.until;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConsumerGroupOffsetsResult;
import org.apache.kafka.clients.admin.ClassicGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.DescribeClassicGroupsOptions;
import org.apache.kafka.clients.admin.DescribeConsumerGroupsOptions;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupResult;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ClassicGroupState;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The admin client's view of groups, what it may change and what it is refused. */
final class GroupAdminChecks {
    private GroupAdminChecks() {}

    static void addTo(Checks checks) {
        checks.add("listGroups and listConsumerGroups with filters of state, type and protocol", GroupAdminChecks::list);
        checks.add("describeConsumerGroups and describeClassicGroups: members, assignment, coordinator, state, operations", GroupAdminChecks::describe);
        checks.add("describe of groups that do not exist (GroupIdNotFound)", GroupAdminChecks::describeNone);
        checks.add("listConsumerGroupOffsets of several groups, chosen partitions, requireStable", GroupAdminChecks::offsets);
        checks.add("alterConsumerGroupOffsets: of an empty group, not of one with members (UnknownMemberId)", GroupAdminChecks::alter);
        checks.add("deleteConsumerGroupOffsets: not of topics that are subscribed (GroupSubscribedToTopic)", GroupAdminChecks::deleteOffsets);
        checks.add("deleteConsumerGroups: GroupNotEmpty, GroupIdNotFound", GroupAdminChecks::delete);
        checks.add("removeMembersFromConsumerGroup: by instance id, and all", GroupAdminChecks::remove);
        checks.add("a topic that is deleted takes its committed offsets along", GroupAdminChecks::topicDeleted);
        checks.add("__consumer_offsets: 50 partitions, compacted, internal", GroupAdminChecks::offsetsTopic);
    }

    private static void commit(String group, String topic, long offset) throws Exception {
        Broker.wait(ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(offset))).all());
    }

    private static Set<String> listed(ListGroupsOptions options) throws Exception {
        return Broker.wait(ADMIN.listGroups(options).all()).stream().map(GroupListing::groupId).collect(Collectors.toSet());
    }

    @SuppressWarnings("removal")
    private static void list() throws Exception {
        String topic = topic("list", 1);
        String stable = name("stable");
        String empty = name("empty");
        String simple = name("simple");
        Set<String> mine = Set.of(stable, empty, simple);
        commit(simple, topic, 1);
        Member gone = Member.join(empty, topic);
        Member.share(1, gone);
        gone.close();
        try (Member member = Member.join(stable, topic)) {
            Member.share(1, member);
            until("the groups are listed", () -> listed(new ListGroupsOptions()).containsAll(mine));
            Map<String, GroupListing> all = new HashMap<>();
            Broker.wait(ADMIN.listGroups().all()).forEach(each -> all.put(each.groupId(), each));
            for (String group : mine) {
                GroupListing each = all.get(group);
                same(Optional.of(GroupType.CLASSIC), each.type(), "type of " + group);
                same(group.equals(simple) ? "" : "consumer", each.protocol(), "protocol of " + group);
                same(Optional.of(group.equals(stable) ? GroupState.STABLE : GroupState.EMPTY), each.groupState(), "state of " + group);
            }
            filtered(mine, Set.of(stable), new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE)));
            filtered(mine, Set.of(empty, simple), new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY)));
            filtered(mine, mine, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY, GroupState.STABLE)).withTypes(Set.of(GroupType.CLASSIC)));
            filtered(mine, Set.of(), new ListGroupsOptions().inGroupStates(Set.of(GroupState.DEAD)));
            filtered(mine, Set.of(), new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE)));
            filtered(mine, Set.of(), new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER)));
            filtered(mine, Set.of(stable, empty), new ListGroupsOptions().withProtocolTypes(Set.of("consumer")));
            filtered(mine, Set.of(simple), new ListGroupsOptions().withProtocolTypes(Set.of("")));
            filtered(mine, mine, ListGroupsOptions.forConsumerGroups());
            Collection<ConsumerGroupListing> consumers = Broker.wait(ADMIN.listConsumerGroups().all());
            that(consumers.stream().map(ConsumerGroupListing::groupId).collect(Collectors.toSet()).containsAll(mine), "listConsumerGroups: " + consumers);
            that(consumers.stream().allMatch(each -> each.isSimpleConsumerGroup() || !each.groupId().equals(simple)), "simple: " + consumers);
        }
    }

    private static void filtered(Set<String> mine, Set<String> wanted, ListGroupsOptions options) throws Exception {
        Set<String> got = listed(options).stream().filter(mine::contains).collect(Collectors.toSet());
        same(wanted, got, "groups with states " + options.groupStates() + ", types " + options.types() + ", protocols " + options.protocolTypes());
    }

    private static void describe() throws Exception {
        String topic = topic("describe", 3);
        String group = name("describe");
        try (Member one = Member.join(group, topic, "client.id", "first", "group.instance.id", "instance-one"); Member two = Member.join(group, topic, "client.id", "second")) {
            Member.share(3, one, two);
            until("Stable", () -> Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).groupState() == GroupState.STABLE);
            ConsumerGroupDescription described = Broker.wait(ADMIN.describeConsumerGroups(List.of(group), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all()).get(group);
            same(List.of(group, false, "range", GroupType.CLASSIC), List.of(described.groupId(), described.isSimpleConsumerGroup(), described.partitionAssignor(), described.type()), "group");
            same(Set.of(AclOperation.READ, AclOperation.DESCRIBE, AclOperation.DELETE, AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS), described.authorizedOperations(), "operations");
            that(List.of(Broker.BOOTSTRAP.split(",")).contains(described.coordinator().host() + ":" + described.coordinator().port()), "coordinator: " + described.coordinator());
            members(described.members(), one, two);
            same(null, Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group).authorizedOperations(), "operations when not asked for");

            ClassicGroupDescription classic = Broker.wait(ADMIN.describeClassicGroups(List.of(group), new DescribeClassicGroupsOptions().includeAuthorizedOperations(true)).all()).get(group);
            same(List.of("consumer", "range", ClassicGroupState.STABLE, false), List.of(classic.protocol(), classic.protocolData(), classic.state(), classic.isSimpleConsumerGroup()), "classic group");
            same(described.authorizedOperations(), classic.authorizedOperations(), "operations of the classic group");
            members(classic.members(), one, two);
        }
        ConsumerGroupDescription described = Broker.wait(ADMIN.describeConsumerGroups(List.of(group)).all()).get(group);
        // The static member is still in.
        same(1, described.members().size(), "members left");
    }

    private static void members(Collection<MemberDescription> members, Member one, Member two) throws Exception {
        same(2, members.size(), "members");
        for (MemberDescription member : members) {
            boolean first = member.clientId().equals("first");
            that(first || member.clientId().equals("second"), "client id " + member.clientId());
            same(first ? Optional.of("instance-one") : Optional.empty(), member.groupInstanceId(), "instance id");
            same((first ? one : two).id(), member.consumerId(), "member id");
            that(member.consumerId().matches((first ? "instance-one" : "second") + "-[0-9a-f-]{36}"), "member id " + member.consumerId());
            same("/127.0.0.1", member.host(), "host");
            same((first ? one : two).owned(), member.assignment().topicPartitions(), "assignment");
        }
    }

    private static void describeNone() throws Exception {
        String none = name("none");
        same(GroupIdNotFoundException.class, error(ADMIN.describeConsumerGroups(List.of(none)).all()).getClass(), "describeConsumerGroups");
        same(GroupIdNotFoundException.class, error(ADMIN.describeClassicGroups(List.of(none)).all()).getClass(), "describeClassicGroups");
        String topic = topic("simple", 1);
        String simple = name("simple");
        commit(simple, topic, 1);
        ConsumerGroupDescription described = Broker.wait(ADMIN.describeConsumerGroups(List.of(simple)).all()).get(simple);
        same(List.of(GroupState.EMPTY, true, List.of(), ""), List.of(described.groupState(), described.isSimpleConsumerGroup(), List.copyOf(described.members()), described.partitionAssignor()), "a group of offsets alone");
    }

    private static void offsets() throws Exception {
        String topic = topic("offsets", 3);
        String one = name("one");
        String two = name("two");
        TopicPartition last = new TopicPartition(topic, 2);
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(partition(topic), new OffsetAndMetadata(5, Optional.of(0), "m"), last, new OffsetAndMetadata(6));
        Broker.wait(ADMIN.alterConsumerGroupOffsets(one, offsets).all());
        commit(two, topic, 9);
        for (boolean stable : List.of(false, true)) {
            ListConsumerGroupOffsetsOptions options = new ListConsumerGroupOffsetsOptions().requireStable(stable);
            Map<String, Map<TopicPartition, OffsetAndMetadata>> all = Broker.wait(ADMIN.listConsumerGroupOffsets(
                    Map.of(one, new ListConsumerGroupOffsetsSpec(), two, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(partition(topic), last)),
                            "none-" + one, new ListConsumerGroupOffsetsSpec()), options).all());
            same(offsets, all.get(one), "all of one");
            Map<TopicPartition, OffsetAndMetadata> chosen = new HashMap<>();
            chosen.put(partition(topic), new OffsetAndMetadata(9));
            chosen.put(last, null);
            same(chosen, all.get(two), "chosen of the other");
            same(Map.of(), all.get("none-" + one), "of no group");
        }
    }

    private static void alter() throws Exception {
        String topic = topic("alter", 1);
        String group = name("alter");
        TopicPartition none = new TopicPartition(name("none"), 0);
        AlterConsumerGroupOffsetsResult result = ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(3), none, new OffsetAndMetadata(3)));
        same(null, error(result.partitionResult(partition(topic))), "of a partition");
        same(UnknownTopicOrPartitionException.class, error(result.partitionResult(none)).getClass(), "of no partition");
        Broker.fill(topic, 10);
        try (Member member = Member.join(group, topic)) {
            until("the rest is read", () -> member.values.size() == 7);
            same(UnknownMemberIdException.class, error(ADMIN.alterConsumerGroupOffsets(group, Map.of(partition(topic), new OffsetAndMetadata(0))).all()).getClass(), "with members");
        }
        same(10L, Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition(topic)).offset(), "offset");
        commit(group, topic, 8);
        try (Member member = Member.join(group, topic)) {
            until("the rest is read", () -> member.values.size() == 2);
        }
    }

    private static void deleteOffsets() throws Exception {
        String subscribed = topic("subscribed", 1);
        String other = topic("other", 1);
        String group = name("delete-offsets");
        commit(group, other, 1);
        commit(group, subscribed, 1);
        try (Member member = Member.join(group, subscribed)) {
            Member.share(1, member);
            same(GroupSubscribedToTopicException.class, error(ADMIN.deleteConsumerGroupOffsets(group, Set.of(partition(subscribed))).partitionResult(partition(subscribed))).getClass(), "subscribed");
            same(null, error(ADMIN.deleteConsumerGroupOffsets(group, Set.of(partition(other))).all()), "not subscribed");
            same(Set.of(partition(subscribed)), Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), "offsets left");
        }
        TopicPartition none = new TopicPartition(name("none"), 0);
        same(UnknownTopicOrPartitionException.class, error(ADMIN.deleteConsumerGroupOffsets(group, Set.of(none)).partitionResult(none)).getClass(), "of no topic");
        same(null, error(ADMIN.deleteConsumerGroupOffsets(group, Set.of(partition(subscribed))).all()), "of the empty group");
        same(GroupIdNotFoundException.class, error(ADMIN.deleteConsumerGroupOffsets(name("none"), Set.of(partition(subscribed))).all()).getClass(), "of no group");
    }

    private static void delete() throws Exception {
        String topic = topic("delete", 1);
        String busy = name("busy");
        String empty = name("empty");
        String none = name("none");
        commit(empty, topic, 1);
        try (Member member = Member.join(busy, topic)) {
            Member.share(1, member);
            Map<String, KafkaFuture<Void>> results = ADMIN.deleteConsumerGroups(List.of(busy, empty, none)).deletedGroups();
            same(GroupNotEmptyException.class, error(results.get(busy)).getClass(), "with members");
            same(null, error(results.get(empty)), "empty");
            same(GroupIdNotFoundException.class, error(results.get(none)).getClass(), "that does not exist");
        }
        same(GroupIdNotFoundException.class, error(ADMIN.deleteConsumerGroups(List.of("")).all()).getClass(), "without a name");
        same(Map.of(), Broker.wait(ADMIN.listConsumerGroupOffsets(empty).partitionsToOffsetAndMetadata()), "offsets of the deleted");
        Set<String> listed = listed(new ListGroupsOptions());
        that(!listed.contains(empty) && listed.contains(busy), "listed: " + listed);
        same(null, error(ADMIN.deleteConsumerGroups(List.of(busy)).all()), "once its member left");
        // the name can be used again, from the start
        Broker.fill(topic, 3);
        try (Member member = Member.join(empty, topic)) {
            until("all from the start", () -> member.values.size() == 3);
        }
    }

    private static void remove() throws Exception {
        String topic = topic("remove", 3);
        String group = name("remove");
        String slow = "30000";
        Member one = Member.join(group, topic, "group.instance.id", "one");
        Member two = Member.join(group, topic, "group.instance.id", "two", "heartbeat.interval.ms", "200");
        Member three = Member.join(group, topic, "session.timeout.ms", slow);
        try {
            Member.share(3, one, two, three);
            RemoveMembersFromConsumerGroupResult result = ADMIN.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("one"), new MemberToRemove("nobody"))));
            same(null, error(result.memberResult(new MemberToRemove("one"))), "one");
            same(UnknownMemberIdException.class, error(result.memberResult(new MemberToRemove("nobody"))).getClass(), "nobody");
            // Its instance id is free again, and as it lives it comes back at its next heartbeat.
            until("one is back or fenced", () -> one.error != null || one.events.stream().anyMatch(event -> event.startsWith("lost")));
            same(null, one.error, "error of one");
            Member.share(3, one, two, three);
            RemoveMembersFromConsumerGroupOptions all = new RemoveMembersFromConsumerGroupOptions();
            all.reason("for a check");
            Broker.wait(ADMIN.removeMembersFromConsumerGroup(group, all).all());
            until("all lost theirs", () -> List.of(two, three).stream().allMatch(member -> member.events.stream().anyMatch(event -> event.startsWith("lost"))));
            Member.share(3, one, two, three);
        } finally {
            for (Member member : List.of(one, two, three)) {
                member.close();
            }
        }
        same(GroupIdNotFoundException.class, error(ADMIN.removeMembersFromConsumerGroup(name("none"), new RemoveMembersFromConsumerGroupOptions()).all()).getCause().getClass(), "of no group");
    }

    private static void topicDeleted() throws Exception {
        String kept = topic("kept", 1);
        String deleted = topic("deleted", 1);
        String group = name("topic-deleted");
        commit(group, kept, 1);
        commit(group, deleted, 2);
        Broker.wait(ADMIN.deleteTopics(List.of(deleted)).all());
        until("its offset is gone", () -> Broker.wait(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet().equals(Set.of(partition(kept))));
    }

    private static void offsetsTopic() throws Exception {
        commit(name("any"), topic("any", 1), 1);
        TopicDescription topic = Broker.describe("__consumer_offsets");
        same(List.of(50, true), List.of(topic.partitions().size(), topic.isInternal()), "partitions, internal");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "__consumer_offsets");
        var config = Broker.wait(ADMIN.describeConfigs(List.of(resource)).all()).get(resource);
        same(List.of("compact", "producer", "104857600"), List.of(config.get("cleanup.policy").value(), config.get("compression.type").value(), config.get("segment.bytes").value()), "configuration");
        that(!Broker.wait(ADMIN.listTopics().names()).contains("__consumer_offsets"), "listed among the topics that are not internal");
    }
}
