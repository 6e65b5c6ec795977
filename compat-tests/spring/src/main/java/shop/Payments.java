package shop;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.kafka.annotation.DltHandler;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.support.Acknowledgment;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.retry.annotation.Backoff;
import org.springframework.stereotype.Component;

/** Asks the bank for payments: again after 200 and 400 ms, and then no more. */
@Component
class Payments {
    private static final Logger log = LoggerFactory.getLogger(Payments.class);

    @RetryableTopic(attempts = "3", backoff = @Backoff(delay = 200, multiplier = 2), numPartitions = "2", concurrency = "1")
    @KafkaListener(
            id = "payments",
            groupId = "${shop.prefix}payments",
            topics = "${shop.prefix}payments",
            concurrency = "1",
            properties = "spring.json.value.default.type=shop.Payment")
    void on(
            Payment payment,
            @Header(KafkaHeaders.RECEIVED_TOPIC) String topic,
            @Header(name = "retry_topic-attempts", required = false) Integer attempts,
            Acknowledgment acknowledgment) {
        int attempt = attempts == null ? 1 : attempts;
        log.info("payment {} attempt {} from {}", payment.number(), attempt, topic);
        if (attempt <= payment.refusals()) {
            throw new IllegalStateException("the bank refuses payment " + payment.number());
        }
        acknowledgment.acknowledge();
        log.info("payment {} is done", payment.number());
    }

    @DltHandler
    void giveUp(Payment payment, @Header(KafkaHeaders.RECEIVED_TOPIC) String topic, Acknowledgment acknowledgment) {
        acknowledgment.acknowledge();
        log.info("payment {} is given up from {}", payment.number(), topic);
    }
}
