// Sarama (IBM/sarama).
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	. "raftsman/compat/checks"
	"raftsman/compat/members"
)

var (
	bootstrap = Seeds()
	run       = strconv.FormatInt(time.Now().UnixMilli(), 36)
	count     atomic.Int32
)

func main() {
	if settings, ok := members.Mine(); ok {
		member(settings)
		return
	}
	var list List
	addRecords(&list)
	addGroups(&list)
	os.Exit(list.Run())
}

func name(hint string) string { return fmt.Sprintf("sarama-%s-%s-%d", hint, run, count.Add(1)) }

func config(changes ...func(*sarama.Config)) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_3_0_0
	c.Producer.Return.Successes = true
	// the default waits for the leader alone, and what is read next may not be committed yet
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Return.Errors = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 5 * time.Second
	// the default waits two seconds before it asks again
	c.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	c.Metadata.Retry.Backoff = 100 * time.Millisecond
	for _, change := range changes {
		change(c)
	}
	return c
}

func admin() sarama.ClusterAdmin { return Must(sarama.NewClusterAdmin(bootstrap, config())) }

func topic(hint string, partitions int32) string {
	a := admin()
	defer a.Close()
	given := name(hint)
	OK(a.CreateTopic(given, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: Replicas()}, false))
	Until("listed", func() bool {
		return len(Must(a.ListTopics())) > 0 && Must(a.ListTopics())[given].NumPartitions == partitions
	})
	return given
}

// spread sends the values to the partitions in turns.
func spread(to string, partitions int32, values []string, changes ...func(*sarama.Config)) []*sarama.ProducerMessage {
	p := Must(sarama.NewSyncProducer(bootstrap, config(changes...)))
	defer p.Close()
	var messages []*sarama.ProducerMessage
	for i, value := range values {
		messages = append(messages, &sarama.ProducerMessage{Topic: to, Partition: int32(i) % partitions, Value: sarama.StringEncoder(value)})
	}
	OK(p.SendMessages(messages))
	return messages
}

// read takes that many messages from partition 0.
func read(from string, offset int64, count int, changes ...func(*sarama.Config)) []*sarama.ConsumerMessage {
	c := Must(sarama.NewConsumer(bootstrap, config(changes...)))
	defer c.Close()
	p := Must(c.ConsumePartition(from, 0, offset))
	defer p.Close()
	return take(p.Messages(), p.Errors(), count)
}

func take(messages <-chan *sarama.ConsumerMessage, errors <-chan *sarama.ConsumerError, count int) []*sarama.ConsumerMessage {
	var all []*sarama.ConsumerMessage
	end := time.After(Limit)
	for len(all) < count {
		select {
		case message := <-messages:
			all = append(all, message)
		case err := <-errors:
			Fail("%v", err)
		case <-end:
			Fail("%d of %d messages came within %v", len(all), count, Limit)
		}
	}
	return all
}

func values(messages []*sarama.ConsumerMessage) []string {
	var all []string
	for _, message := range messages {
		all = append(all, string(message.Value))
	}
	return all
}

func addRecords(list *List) {
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		list.Add("produce and consume, compression "+codec, func() error {
			to := topic(codec, 1)
			sent := spread(to, 1, Numbers(0, 500), func(c *sarama.Config) { c.Producer.Compression = codecs[codec] })
			for i, message := range sent {
				Same(int64(i), message.Offset, "offset")
			}
			Same(Numbers(0, 500), values(read(to, sarama.OffsetOldest, 500)), "values")
			Same(Numbers(123, 500), values(read(to, 123, 377)), "values from 123")
			return nil
		})
	}
	list.Add("idempotent producer, acks, headers, null keys and values", func() error {
		to := topic("shapes", 1)
		spread(to, 1, Numbers(0, 1000), func(c *sarama.Config) {
			c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests, c.Producer.Retry.Max = true, sarama.WaitForAll, 1, 5
		})
		for _, acks := range []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll} {
			spread(to, 1, []string{"x"}, func(c *sarama.Config) { c.Producer.RequiredAcks = acks })
		}
		p := Must(sarama.NewSyncProducer(bootstrap, config()))
		defer p.Close()
		headers := []sarama.RecordHeader{{Key: []byte("twice"), Value: []byte("1")}, {Key: []byte("twice"), Value: []byte("2")}}
		_, offset, err := p.SendMessage(&sarama.ProducerMessage{Topic: to, Key: sarama.StringEncoder("k"), Headers: headers})
		OK(err)
		Same(int64(1003), offset, "offset")
		messages := read(to, sarama.OffsetOldest, 1004)
		last := messages[1003]
		Same("k", string(last.Key), "key")
		That(last.Value == nil, "value %q", last.Value)
		Same(2, len(last.Headers), "headers")
		Same("2", string(last.Headers[1].Value), "second header")
		Same(Numbers(0, 1000), values(messages[:1000]), "values")
		return nil
	})
	list.Add("seek by time", func() error {
		to := topic("times", 1)
		base := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		p := Must(sarama.NewSyncProducer(bootstrap, config()))
		defer p.Close()
		for i := range 50 {
			_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: to, Value: sarama.StringEncoder(strconv.Itoa(i)), Timestamp: base.Add(time.Duration(i) * 10 * time.Millisecond)})
			OK(err)
		}
		c := Must(sarama.NewClient(bootstrap, config()))
		defer c.Close()
		Same(int64(41), Must(c.GetOffset(to, 0, base.UnixMilli()+405)), "offset")
		Same(int64(0), Must(c.GetOffset(to, 0, sarama.OffsetOldest)), "oldest")
		Same(int64(50), Must(c.GetOffset(to, 0, sarama.OffsetNewest)), "newest")
		Same(Numbers(41, 50), values(read(to, 41, 9)), "values")
		return nil
	})
	list.Add("admin: topics created, described, grown, deleted; configurations; records deleted", func() error {
		a := admin()
		defer a.Close()
		to := topic("admin", 2)
		err := a.CreateTopic(to, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
		That(errors.Is(err, sarama.ErrTopicAlreadyExists), "creating it again: %v", err)
		described := Must(a.DescribeTopics([]string{to, name("unknown")}))
		Same(2, len(described[0].Partitions), "partitions")
		Same(sarama.ErrUnknownTopicOrPartition, described[1].Err, "error of an unknown topic")
		OK(a.CreatePartitions(to, 3, nil, false))
		value := "4321"
		OK(a.IncrementalAlterConfig(sarama.TopicResource, to, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}, false))
		Until("the configuration is seen", func() bool {
			found := Must(a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: to, ConfigNames: []string{"retention.ms"}}))
			return len(found) == 1 && found[0].Value == "4321"
		})
		spread(to, 1, Numbers(0, 10))
		OK(a.DeleteRecords(to, map[int32]int64{0: 4}))
		Same(Numbers(4, 10), values(read(to, sarama.OffsetOldest, 6)), "values")
		brokers, _, err := a.DescribeCluster()
		OK(err)
		var addresses []string
		for _, each := range brokers {
			addresses = append(addresses, each.Addr())
		}
		slices.Sort(addresses)
		Same(slices.Sorted(slices.Values(bootstrap)), addresses, "addresses")
		OK(a.DeleteTopic(to))
		Until("gone", func() bool { _, ok := Must(a.ListTopics())[to]; return !ok })
		return nil
	})
	list.Add("refusals: too large, an unknown topic, an offset out of range", func() error {
		to := topic("refused", 1)
		p := Must(sarama.NewSyncProducer(bootstrap, config(func(c *sarama.Config) { c.Producer.MaxMessageBytes = 5_000_000 })))
		defer p.Close()
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: to, Value: sarama.ByteEncoder(make([]byte, 2_000_000))})
		That(errors.Is(err, sarama.ErrMessageSizeTooLarge), "two megabytes: %v", err)
		c := Must(sarama.NewConsumer(bootstrap, config(func(c *sarama.Config) { c.Metadata.AllowAutoTopicCreation = false })))
		defer c.Close()
		_, err = c.ConsumePartition(name("unknown"), 0, 0)
		That(errors.Is(err, sarama.ErrUnknownTopicOrPartition), "an unknown topic: %v", err)
		_, err = c.ConsumePartition(to, 0, 77)
		That(errors.Is(err, sarama.ErrOffsetOutOfRange), "an offset out of range: %v", err)
		return nil
	})
}
