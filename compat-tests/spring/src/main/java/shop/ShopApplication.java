package shop;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.scheduling.annotation.EnableScheduling;

/** A shop: orders become invoices, clicks are counted in batches, payments are tried again before they are given up. */
@SpringBootApplication
@EnableKafkaRetryTopic
@EnableScheduling // retry topics pause their partitions until a record is due
public class ShopApplication {
    public static void main(String[] arguments) {
        SpringApplication.run(ShopApplication.class, arguments);
    }
}
