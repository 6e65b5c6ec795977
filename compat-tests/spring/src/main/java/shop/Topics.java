package shop;

import java.time.Duration;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.TopicConfig;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.KafkaAdmin;

/** The topics that belong to the shop; orders belong to somebody else. */
@Configuration
class Topics {
    @Bean
    NewTopic invoices(
            @Value("${shop.prefix}invoices") String name,
            @Value("${shop.invoices.partitions}") int partitions,
            @Value("${shop.invoices.retention}") Duration retention) {
        return TopicBuilder.name(name)
                .partitions(partitions)
                .replicas(1)
                .config(TopicConfig.RETENTION_MS_CONFIG, String.valueOf(retention.toMillis()))
                .build();
    }

    @Bean
    KafkaAdmin.NewTopics others(@Value("${shop.prefix}") String prefix) {
        return new KafkaAdmin.NewTopics(
                TopicBuilder.name(prefix + "clicks").partitions(3).build(),
                TopicBuilder.name(prefix + "customers").partitions(1).compact().build());
    }
}
