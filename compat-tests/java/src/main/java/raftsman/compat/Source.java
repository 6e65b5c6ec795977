package raftsman.compat;

import static raftsman.compat.Checks.same;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.function.Supplier;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Produces values "0", "1", … over all partitions until it is closed. */
final class Source implements AutoCloseable {
    private final AtomicBoolean done = new AtomicBoolean();
    private final AtomicInteger failures = new AtomicInteger();
    private final Thread thread;
    private int count;

    <V> Source(String topic, int partitions, int perSecond, Supplier<KafkaProducer<V, V>> open, Function<String, V> value) {
        thread = new Thread(() -> {
            try (KafkaProducer<V, V> producer = open.get()) {
                while (!done.get()) {
                    producer.send(new ProducerRecord<>(topic, count % partitions, null, value.apply("" + count)), (ignored, error) -> {
                        if (error != null) {
                            failures.incrementAndGet();
                        }
                    });
                    count++;
                    TimeUnit.MILLISECONDS.sleep(1000 / perSecond);
                }
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        });
        thread.start();
    }

    /** Ends it; returns how many it produced. */
    int end() throws Exception {
        close();
        same(0, failures.get(), "records that could not be produced");
        return count;
    }

    @Override
    public void close() throws InterruptedException {
        done.set(true);
        thread.join();
    }
}
