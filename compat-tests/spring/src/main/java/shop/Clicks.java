package shop;

import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.support.Acknowledgment;
import org.springframework.stereotype.Component;

/** Counts clicks, a batch at a time. */
@Component
class Clicks {
    private static final Logger log = LoggerFactory.getLogger(Clicks.class);

    @KafkaListener(
            id = "clicks",
            groupId = "${shop.prefix}clicks",
            topics = "${shop.prefix}clicks",
            batch = "true",
            properties = {
                "spring.json.value.default.type=shop.Click",
                "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
                "fetch.min.bytes=2000",
                "fetch.max.wait.ms=300",
            })
    void on(List<Click> clicks, Acknowledgment acknowledgment) {
        acknowledgment.acknowledge();
        log.info("clicks {}", clicks.stream().map(Click::number).toList());
    }
}
