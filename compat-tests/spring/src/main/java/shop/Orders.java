package shop;

import java.util.Collection;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.AbstractConsumerSeekAware;
import org.springframework.kafka.support.Acknowledgment;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.support.MessageBuilder;
import org.springframework.stereotype.Component;

/** Writes an invoice for each order, and acknowledges the order when the invoice is stored. */
@Component
class Orders extends AbstractConsumerSeekAware {
    private static final Logger log = LoggerFactory.getLogger(Orders.class);

    private final KafkaTemplate<String, Object> template;
    private final String invoices;
    private final boolean cardService;

    Orders(
            KafkaTemplate<String, Object> template,
            @Value("${shop.prefix}invoices") String invoices,
            @Value("${shop.card-service}") boolean cardService) {
        this.template = template;
        this.invoices = invoices;
        this.cardService = cardService;
    }

    @KafkaListener(
            id = "orders",
            groupId = "${shop.prefix}orders",
            topics = "${shop.prefix}orders",
            properties = "spring.json.value.default.type=shop.Order")
    void on(ConsumerRecord<String, Order> record, Acknowledgment acknowledgment) {
        Order order = record.value();
        log.info("order {} from {}@{}", order.number(), record.partition(), record.offset());
        if (order.paidBy() == Order.Means.CARD && !cardService) {
            log.info("order {} is left unacknowledged", order.number());
            return;
        }
        template.send(MessageBuilder.withPayload(new Invoice(order.number(), order.customer(), order.amount()))
                        .setHeader(KafkaHeaders.TOPIC, invoices)
                        .setHeader(KafkaHeaders.KEY, order.customer())
                        .setHeader("source", record.topic() + "-" + record.partition())
                        .setHeader("source-offset", record.offset())
                        .build())
                .join();
        acknowledgment.acknowledge();
        log.info("order {} is acknowledged", order.number());
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        super.onPartitionsRevoked(partitions);
        log.info("orders gave up {}", partitions);
    }
}
