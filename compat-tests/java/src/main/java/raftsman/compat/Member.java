package raftsman.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/**
 * A member of a group: a consumer that polls in a thread of its own, commits what it read, and remembers
 * what it was assigned and what it read. What else is asked of its consumer runs between two polls.
 */
final class Member implements AutoCloseable, ConsumerRebalanceListener {
    interface Work<T> {
        T with(KafkaConsumer<byte[], byte[]> consumer) throws Exception;
    }

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread thread;
    private final Queue<Runnable> asked = new ConcurrentLinkedQueue<>();
    private volatile CloseOptions ending;

    /** What it owns now. */
    final Set<TopicPartition> owned = Collections.synchronizedSet(new HashSet<>());
    final List<String> values = Collections.synchronizedList(new ArrayList<>());
    /** Calls of the listener, as "assigned [t-0]", "revoked [t-0]", "lost [t-0]". */
    final List<String> events = Collections.synchronizedList(new ArrayList<>());
    final AtomicInteger assignments = new AtomicInteger();
    /** What ended its polling, if anything did. */
    volatile Throwable error;

    private Member(String group, List<String> topics, Pattern pattern, String... configs) {
        List<String> pairs = new ArrayList<>(Arrays.asList(configs));
        pairs.addAll(List.of("group.id", group));
        for (String each : List.of("session.timeout.ms=10000", "heartbeat.interval.ms=200")) {
            if (!pairs.contains(each.split("=")[0])) {
                pairs.addAll(List.of(each.split("=")));
            }
        }
        consumer = Broker.consumer(pairs.toArray(new String[0]));
        if (pattern != null) {
            consumer.subscribe(pattern, this);
        } else {
            consumer.subscribe(topics, this);
        }
        thread = new Thread(this::live, "member of " + group);
        thread.setDaemon(true);
        thread.start();
    }

    static Member join(String group, String topic, String... configs) {
        return new Member(group, List.of(topic), null, configs);
    }

    static Member join(String group, List<String> topics, String... configs) {
        return new Member(group, topics, null, configs);
    }

    static Member join(String group, Pattern pattern, String... configs) {
        return new Member(group, null, pattern, configs);
    }

    private void live() {
        try {
            while (ending == null) {
                for (Runnable work = asked.poll(); work != null; work = asked.poll()) {
                    work.run();
                }
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(50));
                records.forEach(record -> values.add(Broker.text(record.value())));
                if (!records.isEmpty()) {
                    try {
                        consumer.commitSync();
                    } catch (CommitFailedException | RebalanceInProgressException lost) {
                        // Somebody else will read these again.
                    }
                }
            }
        } catch (Throwable thrown) {
            error = thrown;
        } finally {
            consumer.close(ending == null ? CloseOptions.timeout(Duration.ofSeconds(5)) : ending);
        }
    }

    /** Runs the work in the member's own thread, between two polls. */
    <T> T ask(Work<T> work) throws Exception {
        return Broker.wait(submit(work));
    }

    /** Like ask, and does not wait for the answer. */
    <T> CompletableFuture<T> submit(Work<T> work) {
        CompletableFuture<T> answer = new CompletableFuture<>();
        asked.add(() -> {
            try {
                answer.complete(work.with(consumer));
            } catch (Throwable thrown) {
                answer.completeExceptionally(thrown);
            }
        });
        return answer;
    }

    /** Does not poll until the latch that this returns is counted down. */
    CountDownLatch pause() throws Exception {
        CountDownLatch go = new CountDownLatch(1);
        CountDownLatch paused = new CountDownLatch(1);
        submit(consumer -> {
            paused.countDown();
            go.await();
            return null;
        });
        paused.await();
        return go;
    }

    int generation() throws Exception {
        return ask(consumer -> consumer.groupMetadata().generationId());
    }

    String id() throws Exception {
        return ask(consumer -> consumer.groupMetadata().memberId());
    }

    /** Ends as a consumer that is closed. */
    @Override
    public void close() throws Exception {
        end(CloseOptions.timeout(Duration.ofSeconds(5)));
    }

    /** Ends and does not tell the coordinator, as a process does that is killed. */
    void die() throws Exception {
        end(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP).withTimeout(Duration.ofSeconds(5)));
    }

    private void end(CloseOptions how) throws Exception {
        ending = how;
        thread.join(Checks.LIMIT_MS);
        Checks.that(!thread.isAlive(), "the consumer does not close");
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        owned.addAll(partitions);
        events.add("assigned " + sorted(partitions));
        assignments.incrementAndGet();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        partitions.forEach(owned::remove);
        events.add("revoked " + sorted(partitions));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        partitions.forEach(owned::remove);
        events.add("lost " + sorted(partitions));
    }

    private static List<String> sorted(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::toString).sorted().toList();
    }

    Set<TopicPartition> owned() {
        synchronized (owned) {
            return new HashSet<>(owned);
        }
    }

    /** Waits until these members share so many partitions, evenly. */
    static void share(int partitions, Member... members) throws Exception {
        try {
            Checks.until("share", () -> {
                Set<TopicPartition> all = new HashSet<>();
                int sum = 0;
                boolean even = true;
                for (Member member : members) {
                    Set<TopicPartition> owned = member.owned();
                    all.addAll(owned);
                    sum += owned.size();
                    even &= owned.size() >= partitions / members.length && owned.size() <= (partitions + members.length - 1) / members.length;
                }
                return even && sum == partitions && all.size() == partitions;
            });
        } catch (AssertionError error) {
            StringBuilder seen = new StringBuilder();
            for (Member member : members) {
                seen.append(member.owned()).append(member.error == null ? " " : " (" + member.error + ") ");
            }
            throw new AssertionError(members.length + " members do not share " + partitions + " partitions, but have " + seen);
        }
    }
}
