package raftsman.compat;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;

/**
 * The life of a Spring Boot application ({@code compat-tests/spring}), told in order: it starts before its topic
 * exists, is killed, started again, joined by a second instance, loses its broker twice and is stopped.
 * One argument: run only checks with that in their name.
 */
public final class SpringSuite {
    private static final String PREFIX = Broker.name("shop") + "-";
    private static final String ORDERS = PREFIX + "orders";
    private static final String INVOICES = PREFIX + "invoices";
    private static final String CLICKS = PREFIX + "clicks";
    private static final String PAYMENTS = PREFIX + "payments";
    private static final long DAY_MS = TimeUnit.DAYS.toMillis(1);

    /** The number of the next order. */
    private int next;
    /** Orders whose producer was told that they are stored, with the numbers as they are in the log of a customer. */
    private final List<Future<RecordMetadata>> sent = new ArrayList<>();
    private final KafkaProducer<byte[], byte[]> producer = Broker.producer("delivery.timeout.ms", "60000", "max.block.ms", "60000");
    private Application first;
    private Application second;

    public static void main(String[] arguments) throws Exception {
        SpringSuite suite = new SpringSuite();
        Checks checks = new Checks();
        checks.addAlone("spring: listeners start before their topic exists", suite::startsBeforeItsTopic);
        checks.addAlone("spring: NewTopic beans are created, with partitions and configurations", suite::createsTopics);
        checks.addAlone("spring: KafkaTemplate sends JSON with headers", suite::sendsHeaders);
        checks.addAlone("spring: concurrency 3 is three members with a partition each", suite::isThreeMembers);
        checks.addAlone("spring: a batch listener gets batches and commits them", suite::getsBatches);
        checks.addAlone("spring: @RetryableTopic tries again, then gives up to the dead-letter topic", suite::triesAgain);
        checks.addAlone("spring: killed, it gets exactly the unacknowledged records again", suite::getsUnacknowledgedAgain);
        checks.addAlone("spring: changed NewTopic beans grow and configure the topic", suite::changesTopics);
        checks.addAlone("spring: a second instance takes a share while records are produced", suite::shares);
        checks.addAlone("spring: both go on after the broker was stopped and started", () -> suite.outlives("stop"));
        checks.addAlone("spring: both go on after the broker was killed and started", () -> suite.outlives("kill"));
        checks.addAlone("spring: stopped, an instance leaves its partitions to the other", suite::leaves);
        checks.addAlone("spring: nothing was lost, and customers' orders kept their order", suite::lostNothing);
        int code = checks.run(arguments.length > 0 ? arguments[0] : null);
        Application.killAll();
        Runtime.getRuntime().halt(code);
    }

    private static Application start(String... properties) throws Exception {
        Application application = new Application(
                "shop.ShopApplication",
                Stream.concat(
                                Stream.of("--spring.kafka.bootstrap-servers=" + Broker.BOOTSTRAP, "--shop.prefix=" + PREFIX),
                                Stream.of(properties).map(property -> "--" + property))
                        .toArray(String[]::new));
        application.awaitLog("Started ShopApplication");
        return application;
    }

    /** The first instance, started (with its topic) when a check runs on its own. */
    private Application first() throws Exception {
        if (first == null) {
            startsBeforeItsTopic();
        }
        return first;
    }

    /** Sends an order to the partition of its customer; returns its number. */
    private int order(String paidBy) {
        int number = next++;
        String value = String.format(
                "{\"number\":%d,\"customer\":\"%s\",\"amount\":%d.25,\"paidBy\":\"%s\"}",
                number, customer(number), number, paidBy);
        sent.add(producer.send(
                new ProducerRecord<>(ORDERS, number % 3, Broker.bytes(customer(number)), Broker.bytes(value))));
        return number;
    }

    private static String customer(int number) {
        return "customer-" + number % 12;
    }

    private List<Integer> orders(int count, String paidBy) {
        List<Integer> numbers = IntStream.range(0, count).map(i -> order(paidBy)).boxed().toList();
        producer.flush();
        return numbers;
    }

    private static List<Integer> numbers(Application application, String regex) {
        return application.logged(regex).stream().map(match -> Integer.parseInt(match.group(1))).toList();
    }

    private static List<Integer> acknowledged(Application application) {
        return numbers(application, "order (\\d+) is acknowledged");
    }

    private void startsBeforeItsTopic() throws Exception {
        first = start("shop.card-service=false");
        first.awaitLog("orders-0-C-1\\].*" + ORDERS + "=UNKNOWN_TOPIC_OR_PARTITION");
        Checks.that(!Broker.wait(Broker.ADMIN.listTopics().names()).contains(ORDERS), "the topic exists already");
        Broker.wait(Broker.ADMIN.createTopics(List.of(new NewTopic(ORDERS, 3, (short) 1))).all());
        List<Integer> numbers = orders(30, "CASH");
        Checks.until("all orders are acknowledged", () -> acknowledged(first).size() >= numbers.size());
        Checks.same(new TreeSet<>(numbers), new TreeSet<>(acknowledged(first)), "acknowledged orders");
        Checks.same(numbers.size(), acknowledged(first).size(), "count of acknowledged orders");
    }

    private void createsTopics() throws Exception {
        first();
        Checks.same(3, Broker.describe(INVOICES).partitions().size(), "partitions of invoices");
        Checks.same(3, Broker.describe(CLICKS).partitions().size(), "partitions of clicks");
        Checks.same(String.valueOf(7 * DAY_MS), config(INVOICES, "retention.ms").value(), "retention of invoices");
        ConfigEntry policy = config(PREFIX + "customers", "cleanup.policy");
        Checks.same("compact", policy.value(), "policy of customers");
        Checks.same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, policy.source(), "source of the policy");
    }

    private static ConfigEntry config(String topic, String key) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return Broker.wait(Broker.ADMIN.describeConfigs(List.of(resource)).all()).get(resource).get(key);
    }

    private void sendsHeaders() throws Exception {
        first();
        Map<Integer, ConsumerRecord<byte[], byte[]>> invoices = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> invoice : records(INVOICES)) {
            invoices.put(number(invoice), invoice);
        }
        ConsumerRecord<byte[], byte[]> invoice = invoices.get(7);
        Checks.same("{\"order\":7,\"customer\":\"customer-7\",\"amount\":7.25}", Broker.text(invoice.value()), "value");
        Checks.same("customer-7", Broker.text(invoice.key()), "key");
        Map<String, String> headers = headers(invoice);
        Checks.same(ORDERS + "-1", headers.get("source"), "header source");
        Checks.same("2", headers.get("source-offset"), "header source-offset");
        Checks.same("shop.Invoice", headers.get("__TypeId__"), "header of the type");
    }

    private static Map<String, String> headers(ConsumerRecord<byte[], byte[]> record) {
        Map<String, String> headers = new TreeMap<>();
        for (Header header : record.headers()) {
            headers.put(header.key(), Broker.text(header.value()));
        }
        return headers;
    }

    private static int number(ConsumerRecord<byte[], byte[]> invoice) {
        return Integer.parseInt(Broker.text(invoice.value()).replaceAll(".*\"order\":(\\d+).*", "$1"));
    }

    /** All records of a topic, from the start to the end as it is now. */
    private static List<ConsumerRecord<byte[], byte[]>> records(String topic) throws Exception {
        Map<TopicPartition, Long> ends = ends(topic);
        try (KafkaConsumer<byte[], byte[]> consumer = Broker.consumer()) {
            consumer.assign(ends.keySet());
            consumer.seekToBeginning(ends.keySet());
            return Broker.poll(consumer, (int) ends.values().stream().mapToLong(end -> end).sum());
        }
    }

    private static Map<TopicPartition, Long> ends(String topic) throws Exception {
        Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
        Broker.describe(topic).partitions().forEach(partition ->
                latest.put(new TopicPartition(topic, partition.partition()), OffsetSpec.latest()));
        Map<TopicPartition, Long> ends = new HashMap<>();
        Broker.wait(Broker.ADMIN.listOffsets(latest).all()).forEach((partition, end) -> ends.put(partition, end.offset()));
        return ends;
    }

    private static ConsumerGroupDescription group(String name) throws Exception {
        return Broker.wait(Broker.ADMIN.describeConsumerGroups(List.of(name)).all()).get(name);
    }

    private static List<TopicPartition> assigned(ConsumerGroupDescription group) {
        return group.members().stream()
                .map(MemberDescription::assignment)
                .flatMap(assignment -> assignment.topicPartitions().stream())
                .sorted((one, other) -> one.partition() - other.partition())
                .toList();
    }

    private void isThreeMembers() throws Exception {
        first();
        ConsumerGroupDescription group = group(ORDERS);
        Checks.same(GroupState.STABLE, group.groupState(), "state of the group");
        Checks.same("range", group.partitionAssignor(), "assignor");
        Checks.same(3, group.members().size(), "members");
        Checks.that(
                group.members().stream().allMatch(member -> member.assignment().topicPartitions().size() == 1),
                "not one partition each: " + group.members());
        Checks.same(partitions(3), assigned(group), "assigned partitions");
        Checks.same("cooperative-sticky", group(CLICKS).partitionAssignor(), "assignor of the batch listener");
    }

    private static List<TopicPartition> partitions(int count) {
        return Checks.range(0, count).stream().map(partition -> new TopicPartition(ORDERS, partition)).toList();
    }

    private void getsBatches() throws Exception {
        Application application = first();
        for (int number = 0; number < 300; number++) {
            producer.send(new ProducerRecord<>(CLICKS, number % 3, null,
                    Broker.bytes("{\"number\":" + number + ",\"page\":\"/offers\"}")));
        }
        producer.flush();
        Checks.until("all clicks were seen", () -> clicks(application).stream().mapToInt(List::size).sum() >= 300);
        List<List<Integer>> batches = clicks(application);
        Checks.same(Checks.range(0, 300), batches.stream().flatMap(List::stream).sorted().toList(), "clicks");
        int largest = batches.stream().mapToInt(List::size).max().orElse(0);
        Checks.that(largest > 1 && largest <= 50, "the largest batch has " + largest + " clicks");
        Checks.same(ends(CLICKS), committed(CLICKS), "committed offsets");
    }

    private static List<List<Integer>> clicks(Application application) {
        return application.logged("clicks \\[(.*)]").stream()
                .map(match -> Stream.of(match.group(1).split(", ")).map(Integer::valueOf).toList())
                .toList();
    }

    private static Map<TopicPartition, Long> committed(String group) throws Exception {
        Map<TopicPartition, Long> committed = new HashMap<>();
        Map<TopicPartition, OffsetAndMetadata> offsets =
                Broker.wait(Broker.ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        offsets.forEach((partition, offset) -> committed.put(partition, offset.offset()));
        return committed;
    }

    private void triesAgain() throws Exception {
        Application application = first();
        for (String payment : List.of("{\"number\":1,\"refusals\":0}", "{\"number\":2,\"refusals\":1}",
                "{\"number\":3,\"refusals\":2}", "{\"number\":4,\"refusals\":9}")) {
            producer.send(new ProducerRecord<>(PAYMENTS, 0, null, Broker.bytes(payment)));
        }
        application.awaitLog("payment 4 is given up");
        Checks.until("payment 3 is done", () -> numbers(application, "payment (\\d+) is done").size() >= 3);
        Checks.same(List.of(1, 2, 3), numbers(application, "payment (\\d+) is done"), "payments that are done");
        String[] topics = {PAYMENTS, PAYMENTS + "-retry-200", PAYMENTS + "-retry-400", PAYMENTS + "-dlt"};
        for (int payment = 1; payment <= 4; payment++) {
            List<String> wanted = new ArrayList<>();
            for (int attempt = 1; attempt <= Math.min(payment, 3); attempt++) {
                wanted.add(attempt + " from " + topics[attempt - 1]);
            }
            List<String> got = application.logged("payment " + payment + " attempt (.*)").stream()
                    .map(match -> match.group(1))
                    .toList();
            Checks.same(wanted, got, "attempts of payment " + payment);
        }
        for (int i = 1; i < topics.length; i++) {
            Checks.same(2, Broker.describe(topics[i]).partitions().size(), "partitions of " + topics[i]);
        }
        List<ConsumerRecord<byte[], byte[]>> dead = records(topics[3]);
        Checks.same(1, dead.size(), "dead letters");
        Checks.same("{\"number\":4,\"refusals\":9}", Broker.text(dead.get(0).value()), "value of the dead letter");
        Map<String, String> headers = headers(dead.get(0));
        Checks.same(PAYMENTS, headers.get("kafka_original-topic"), "header of the original topic");
        Checks.that(headers.get("kafka_exception-stacktrace").contains("the bank refuses payment 4"), "headers: " + headers);
    }

    private void getsUnacknowledgedAgain() throws Exception {
        Application before = first();
        List<Integer> unacknowledged = orders(15, "CARD");
        Checks.until("the orders are left", () -> numbers(before, "order (\\d+) is left").size() >= unacknowledged.size());
        before.kill();
        // One more for each partition: what comes up to them is all that was delivered again.
        List<Integer> last = orders(3, "CASH");
        first = start("shop.invoices.partitions=5", "shop.invoices.retention=8d");
        Checks.until("the orders that came last are acknowledged", () -> acknowledged(first).containsAll(last));
        List<Integer> wanted = Stream.of(unacknowledged, last).flatMap(Collection::stream).toList();
        List<Integer> got = numbers(first, "order (\\d+) from").stream().sorted().toList();
        Checks.same(wanted, got, "orders after the restart");
        Checks.same(ends(ORDERS), committed(ORDERS), "committed offsets");
    }

    private void changesTopics() throws Exception {
        if (first == null) {
            getsUnacknowledgedAgain();
        }
        Checks.same(5, Broker.describe(INVOICES).partitions().size(), "partitions of invoices");
        Checks.same(String.valueOf(8 * DAY_MS), config(INVOICES, "retention.ms").value(), "retention of invoices");
    }

    /** Sends orders until {@code body} is through. */
    private void whileProducing(Checks.Body body) throws Exception {
        AtomicInteger stop = new AtomicInteger();
        Thread thread = new Thread(() -> {
            while (stop.get() == 0) {
                order("CASH");
                try {
                    TimeUnit.MILLISECONDS.sleep(10);
                } catch (InterruptedException error) {
                    return;
                }
            }
        });
        thread.start();
        try {
            body.run();
        } finally {
            stop.set(1);
            thread.join();
        }
    }

    /** Waits until the instance acknowledges orders that it has not acknowledged yet. */
    private static void goesOn(Application application) throws Exception {
        int before = acknowledged(application).size();
        Checks.until("more orders are acknowledged", () -> acknowledged(application).size() >= before + 10);
    }

    private void shares() throws Exception {
        Application one = first();
        whileProducing(() -> {
            Application other = second();
            goesOn(other);
            goesOn(one);
            ConsumerGroupDescription group = group(ORDERS);
            Checks.same(6, group.members().size(), "members");
            Checks.same(partitions(3), assigned(group), "assigned partitions");
        });
    }

    private Application second() throws Exception {
        first();
        if (second == null) {
            second = start("shop.invoices.partitions=5", "shop.invoices.retention=8d");
        }
        return second;
    }

    private void outlives(String how) throws Exception {
        Application other = second();
        whileProducing(() -> {
            goesOn(other);
            String noticed = "orders-.-C-1.*Connection to node .* could not be established";
            int before = other.logged(noticed).size();
            Broker.control("/" + how);
            Checks.until("the instance misses its broker", () -> other.logged(noticed).size() > before);
            Broker.control("/start");
            goesOn(first);
            goesOn(other);
        });
    }

    private void leaves() throws Exception {
        Application other = second();
        whileProducing(() -> {
            Checks.same(143, first.stop(), "exit code of the application");
            Checks.until("the other has all partitions", () -> {
                ConsumerGroupDescription group = group(ORDERS);
                return group.members().size() == 3 && assigned(group).equals(partitions(3));
            });
            goesOn(other);
        });
    }

    private void lostNothing() throws Exception {
        second();
        producer.flush();
        for (Future<RecordMetadata> each : sent) {
            Broker.wait(each);
        }
        Checks.until("all orders are committed", () -> ends(ORDERS).equals(committed(ORDERS)));
        Map<String, List<Integer>> wanted = new TreeMap<>();
        for (int number = 0; number < next; number++) {
            wanted.computeIfAbsent(customer(number), any -> new ArrayList<>()).add(number);
        }
        // An order that was delivered again gave a second invoice; the first one counts.
        List<ConsumerRecord<byte[], byte[]>> invoices = records(INVOICES);
        Map<String, List<Integer>> got = new TreeMap<>();
        TreeSet<Integer> seen = new TreeSet<>();
        invoices.stream()
                .sorted((one, other) -> Long.compare(one.timestamp(), other.timestamp()))
                .filter(invoice -> seen.add(number(invoice)))
                .forEach(invoice ->
                        got.computeIfAbsent(Broker.text(invoice.key()), any -> new ArrayList<>()).add(number(invoice)));
        System.out.printf("# %d orders, %d of them delivered twice%n", next, invoices.size() - seen.size());
        Checks.same(next, seen.size(), "orders with an invoice");
        Checks.same(wanted, got, "invoices by customer");
    }
}
